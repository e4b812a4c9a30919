package mongostore_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// Ways in which a logout, or a shorter life, was once undone.

func impatient(c *mongostore.Config) { c.Timeout = 5 * time.Second }

// TestLogoutThenFailingRenewal: a renewal that cannot tell whether the session is still there
// does not bring it back.
func TestLogoutThenFailingRenewal(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"update", "delete"} {
		for _, kind := range []int{storetest.Refuse, storetest.LoseAnswer} {
			f := storetest.Setup(t, impatient)
			b := f.Browser().Login()
			session := b.Load()
			b.Clone().Logout()
			f.Wire.On(command, storetest.Rule{Kind: kind, Once: true})
			w, err := b.Renew(session)
			if err == nil || w.Header()["Set-Cookie"] != nil {
				t.Errorf("%s: error %v, cookie %q", command, err, w.Header()["Set-Cookie"])
			}
			if !b.Load().IsNew {
				t.Errorf("%s: the session is back", command)
			}
			f.Wire.Heal()
			storetest.Eventually(t, "nothing is left", func() bool { return len(f.Documents()) == 0 })
		}
	}
}

// TestPendingLogoutAndRenewal: a logout whose deletion has yet to succeed is not undone by
// a renewal that was under way.
func TestPendingLogoutAndRenewal(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.Timeout = 10 * time.Second })
	b := f.Browser().Login()
	session := b.Load()
	seen, gate := make(chan struct{}, 1), make(chan struct{})
	f.Wire.On("insert", storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: gate})
	f.Wire.On("delete", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(11600, "InterruptedAtShutdown")})
	renewer := b.Clone()
	done := make(chan error)
	go func() {
		_, err := renewer.Renew(session)
		done <- err
	}()
	<-seen
	b.Logout()
	f.Wire.Heal()
	close(gate)
	if err := <-done; !errors.Is(err, mongostore.ErrGone) {
		t.Errorf("the renewal: %v", err)
	}
	storetest.Eventually(t, "nothing is left", func() bool { return len(f.Documents()) == 0 })
	if !renewer.Load().IsNew {
		t.Error("the session is back")
	}
}

// TestRenewalAnswersLost: of the steps of a renewal any one's answer may be lost; what
// is reported is true, and one document is left.
func TestRenewalAnswersLost(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"insert", "update", "delete"} {
		f := storetest.Setup(t, impatient)
		b := f.Browser().Login()
		old := b.Clone()
		session := b.Load()
		f.Wire.On(command, storetest.Rule{Kind: storetest.LoseAnswer, Once: true})
		_, err := b.Renew(session)
		if s := b.Load(); s.Values["user"] != "ada" {
			t.Errorf("%s: the session is lost: %v", command, s.Values)
		}
		if works := !old.Load().IsNew; works == (err == nil) {
			t.Errorf("%s: error %v, the old ID works: %t", command, err, works)
		}
		storetest.Eventually(t, "one document is left", func() bool { return len(f.Documents()) == 1 })
		if s := b.Load(); s.Values["user"] != "ada" {
			t.Errorf("%s: the session is lost: %v", command, s.Values)
		}
	}
}

// TestGoneByClockIsStillDeleted: ErrGone may mean that the session has expired by this
// process's clock; a logout deletes it all the same.
func TestGoneByClockIsStillDeleted(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Do(func(s *sessions.Session) { s.Options.MaxAge = 1 })
	session := b.Load()
	expiry := f.Document().Lookup("expiresAt").Time()
	storetest.Eventually(t, "the session has expired", func() bool { return time.Now().After(expiry) })
	session.Values["n"] = 1
	if _, err := b.Clone().Save(session); !errors.Is(err, mongostore.ErrGone) {
		t.Fatalf("save: %v", err)
	}
	session.Options.MaxAge = -1
	f.Log.Reset()
	if _, err := b.Save(session); err != nil {
		t.Fatal(err)
	}
	f.WantCommands("delete")
	f.WantDocuments(0)
}

// TestCloseFinishesRemovals: a logout that waits for its next attempt gets it from Close.
func TestCloseFinishesRemovals(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, impatient)
	b := f.Browser().Login()
	b.Store = f.Open()
	attempts := make(chan struct{}, 100)
	f.Wire.On("delete", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(11600, "InterruptedAtShutdown"), Seen: attempts})
	b.Logout()
	for range 4 { // by now the wait has grown
		<-attempts
	}
	f.Wire.Heal()
	if err := b.Store.Close(t.Context()); err != nil {
		t.Error(err)
	}
	f.WantDocuments(0)

	// After Close there is no further attempt, and the log does not promise one.
	c := f.Browser().Login()
	c.Store = b.Store
	f.Wire.On("delete", storetest.Rule{Kind: storetest.Refuse, Once: true})
	c.Logout()
	if log := f.Text.String(); !strings.Contains(log, "store is closed") {
		t.Errorf("log: %s", log)
	}
}

// TestLogoutWithTwoCookies ends the sessions of all cookies of the name: one may have been
// planted.
func TestLogoutWithTwoCookies(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	planted, mine := f.Browser().Login(), f.Browser().Login()
	r := planted.Request()
	r.AddCookie(&http.Cookie{Name: storetest.Name, Value: mine.Cookies[storetest.Name]})
	session, err := f.Store.Get(r, storetest.Name)
	if err != nil {
		t.Fatal(err)
	}
	session.Options.MaxAge = -1
	if err := session.Save(r, httptest.NewRecorder()); err != nil {
		t.Fatal(err)
	}
	f.WantDocuments(0)
}

// TestLogoutWithTwoCookiesInAnOutage takes no longer than with one.
func TestLogoutWithTwoCookiesInAnOutage(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, impatient)
	planted, mine := f.Browser().Login(), f.Browser().Login()
	r := planted.Request()
	r.AddCookie(&http.Cookie{Name: storetest.Name, Value: mine.Cookies[storetest.Name]})
	session, err := f.Store.Get(r, storetest.Name)
	if err != nil {
		t.Fatal(err)
	}
	session.Options.MaxAge = -1
	f.Wire.On("delete", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")})
	f.Log.Reset()
	if err := session.Save(r, httptest.NewRecorder()); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*storetest.Browser{planted, mine} {
		if !b.Load().IsNew {
			t.Error("a session is alive")
		}
	}
	f.Wire.Heal()
	storetest.Eventually(t, "both are removed", func() bool { return len(f.Documents()) == 0 })
}

// TestApplicationsTransaction: the store's work is no part of a transaction, or of a driver's
// session, that the application has in its context.
func TestApplicationsTransaction(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, impatient)
	b := f.Browser().Login()
	session := b.Load()
	driverSession, err := f.Cfg.Client.StartSession()
	if err != nil {
		t.Skip("needs a server with sessions:", err)
	}
	r := b.Request()
	r = r.WithContext(mongo.NewSessionContext(r.Context(), driverSession))
	session.Options.MaxAge = -1
	f.Wire.On("delete", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(11600, "InterruptedAtShutdown")})
	if err := f.Store.Save(r, httptest.NewRecorder(), session); err != nil {
		t.Fatal(err)
	}
	driverSession.EndSession(context.WithoutCancel(t.Context()))
	f.Wire.Heal()
	storetest.Eventually(t, "the session is removed", func() bool { return len(f.Documents()) == 0 })
}

// TestShorterLife: a store whose MaxAge was lowered shortens the lives of the sessions that
// are used, and one request's shorter MaxAge is not lost for good in another's save.
func TestShorterLife(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	strict := f.Open()
	strict.MaxAge(3600)
	b.Store = strict
	b.Do(func(s *sessions.Session) { s.Values["n"] = 1 })
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(time.Hour))

	b = f.Browser()
	b.Cookies = map[string]string{}
	if _, err := f.Coll.DeleteMany(t.Context(), bson.D{}); err != nil {
		t.Fatal(err)
	}
	b.Login()
	slow := b.Load()
	b.Do(func(s *sessions.Session) { s.Options.MaxAge = 3600 })
	slow.Values["n"] = 1
	if _, err := b.Clone().Save(slow); err != nil {
		t.Fatal(err)
	}
	b.Do(func(s *sessions.Session) { s.Values["n"] = 2 })
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(time.Hour))

	// Nor is it lost in a renewal.
	held := b.Load()
	b.Clone().Do(func(s *sessions.Session) { s.Options.MaxAge = 1800 })
	if _, err := b.Renew(held); err != nil {
		t.Fatal(err)
	}
	if age, err := f.Document().LookupErr("maxAge"); err != nil || age.AsInt64() != 1800 {
		t.Errorf("maxAge after a renewal: %v, %v", age, err)
	}
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(30*time.Minute))
}

// TestMaxSizeLowered: sessions from before are no larger for being left alone.
func TestMaxSizeLowered(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Do(func(s *sessions.Session) { s.Values["a"] = strings.Repeat("x", 5000) })
	f.Cfg.MaxSize = 1000
	b.Store = f.Open()
	if _, err := b.Save(b.Load()); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	session := b.Load()
	session.Values["b"] = 1
	if _, err := b.Save(session); !errors.Is(err, mongostore.ErrTooLarge) {
		t.Errorf("changed: %v", err)
	}
	session = b.Load()
	delete(session.Values, "a")
	if _, err := b.Save(session); err != nil {
		t.Errorf("made smaller: %v", err)
	}
}

// TestErrorsAreDiscreet: MongoDB quotes the command that it refuses, and with it values.
func TestErrorsAreDiscreet(t *testing.T) {
	t.Parallel()
	const secret = "4111111111111111"
	quoting := bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: 13}, {Key: "codeName", Value: "Unauthorized"}, {Key: "errmsg", Value: "not authorized to execute command " + secret}}
	invalid := bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 0}, {Key: "writeErrors", Value: bson.A{bson.D{
		{Key: "index", Value: 0},
		{Key: "code", Value: 121},
		{Key: "errmsg", Value: "Document failed validation " + secret},
		{Key: "errInfo", Value: bson.D{{Key: "consideredValue", Value: secret}}},
	}}}}
	for command, replies := range map[string][]bson.D{"insert": {quoting, invalid}, "update": {quoting, invalid}, "delete": {quoting}, "find": {quoting}} {
		for _, reply := range replies {
			f := storetest.Setup(t)
			b := f.Browser()
			if command != "insert" {
				b.Login()
			}
			session := b.Load()
			session.Values["card"] = secret
			f.Wire.On(command, storetest.Rule{Kind: storetest.Answer, Reply: reply})
			var err error
			switch command {
			case "delete":
				b.Logout()
			case "find":
				_, err = f.Store.New(b.Request(), storetest.Name)
			default:
				_, err = b.Save(session)
			}
			if command != "delete" && !errors.Is(err, mongostore.ErrUnavailable) {
				t.Errorf("%s: %v", command, err)
			}
			if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), storetest.HashOf(session.ID))) {
				t.Errorf("%s: the error tells: %v", command, err)
			}
			var server mongo.ServerError
			if err != nil && !errors.As(err, &server) {
				t.Errorf("%s: the server's error cannot be had: %v", command, err)
			}
			if log := f.Text.String(); strings.Contains(log, secret) || session.ID != "" && strings.Contains(log, session.ID) {
				t.Errorf("%s: the log tells: %s", command, log)
			}
		}
	}
}

// TestLateSaveAfterShorterLife: an expiry that another request has brought forward is not undone
// by a slow one.
func TestLateSaveAfterShorterLife(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	slow := b.Load()
	b.Do(func(s *sessions.Session) { s.Options.MaxAge = 1 })
	storetest.Eventually(t, "the session has expired", func() bool { return b.Load().IsNew })
	slow.Values["n"] = 1
	if w, err := b.Clone().Save(slow); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
		t.Errorf("error: %v", err)
	}
	if !b.Load().IsNew {
		t.Error("the session is back")
	}
}
