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
)

// Ways in which a logout, or a shorter life, was once undone.

func impatient(c *mongostore.Config) { c.Timeout = 5 * time.Second }

// TestLogoutThenFailingRenewal: a renewal that cannot tell whether the session is still there
// does not bring it back.
func TestLogoutThenFailingRenewal(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"update", "delete"} {
		for _, kind := range []int{refuse, loseAnswer} {
			f := setup(t, impatient)
			b := f.browser().login()
			session := b.load()
			b.clone().logout()
			f.wire.on(command, rule{kind: kind, once: true})
			w, err := b.renew(session)
			if err == nil || w.Header()["Set-Cookie"] != nil {
				t.Errorf("%s: error %v, cookie %q", command, err, w.Header()["Set-Cookie"])
			}
			if !b.load().IsNew {
				t.Errorf("%s: the session is back", command)
			}
			f.wire.heal()
			eventually(t, "nothing is left", func() bool { return len(f.documents()) == 0 })
		}
	}
}

// TestPendingLogoutAndRenewal: a logout whose deletion has yet to succeed is not undone by
// a renewal that was under way.
func TestPendingLogoutAndRenewal(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *mongostore.Config) { c.Timeout = 10 * time.Second })
	b := f.browser().login()
	session := b.load()
	seen, gate := make(chan struct{}, 1), make(chan struct{})
	f.wire.on("insert", rule{kind: hold, once: true, seen: seen, gate: gate})
	f.wire.on("delete", rule{kind: answer, reply: refusal(11600, "InterruptedAtShutdown")})
	renewer := b.clone()
	done := make(chan error)
	go func() {
		_, err := renewer.renew(session)
		done <- err
	}()
	<-seen
	b.logout()
	f.wire.heal()
	close(gate)
	if err := <-done; !errors.Is(err, mongostore.ErrGone) {
		t.Errorf("the renewal: %v", err)
	}
	eventually(t, "nothing is left", func() bool { return len(f.documents()) == 0 })
	if !renewer.load().IsNew {
		t.Error("the session is back")
	}
}

// TestRenewalAnswersLost: of the steps of a renewal any one's answer may be lost; what
// is reported is true, and one document is left.
func TestRenewalAnswersLost(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"insert", "update", "delete"} {
		f := setup(t, impatient)
		b := f.browser().login()
		old := b.clone()
		session := b.load()
		f.wire.on(command, rule{kind: loseAnswer, once: true})
		_, err := b.renew(session)
		if s := b.load(); s.Values["user"] != "ada" {
			t.Errorf("%s: the session is lost: %v", command, s.Values)
		}
		if works := !old.load().IsNew; works == (err == nil) {
			t.Errorf("%s: error %v, the old ID works: %t", command, err, works)
		}
		eventually(t, "one document is left", func() bool { return len(f.documents()) == 1 })
		if s := b.load(); s.Values["user"] != "ada" {
			t.Errorf("%s: the session is lost: %v", command, s.Values)
		}
	}
}

// TestGoneByClockIsStillDeleted: ErrGone may mean that the session has expired by this
// process's clock; a logout deletes it all the same.
func TestGoneByClockIsStillDeleted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser()
	b.do(func(s *sessions.Session) { s.Options.MaxAge = 1 })
	session := b.load()
	expiry := f.document().Lookup("expiresAt").Time()
	eventually(t, "the session has expired", func() bool { return time.Now().After(expiry) })
	session.Values["n"] = 1
	if _, err := b.clone().save(session); !errors.Is(err, mongostore.ErrGone) {
		t.Fatalf("save: %v", err)
	}
	session.Options.MaxAge = -1
	f.log.reset()
	if _, err := b.save(session); err != nil {
		t.Fatal(err)
	}
	f.wantCommands("delete")
	f.wantDocuments(0)
}

// TestCloseFinishesRemovals: a logout that waits for its next attempt gets it from Close.
func TestCloseFinishesRemovals(t *testing.T) {
	t.Parallel()
	f := setup(t, impatient)
	b := f.browser().login()
	b.store = f.open()
	attempts := make(chan struct{}, 100)
	f.wire.on("delete", rule{kind: answer, reply: refusal(11600, "InterruptedAtShutdown"), seen: attempts})
	b.logout()
	for range 4 { // by now the wait has grown
		<-attempts
	}
	f.wire.heal()
	if err := b.store.Close(t.Context()); err != nil {
		t.Error(err)
	}
	f.wantDocuments(0)

	// After Close there is no further attempt, and the log does not promise one.
	c := f.browser().login()
	c.store = b.store
	f.wire.on("delete", rule{kind: refuse, once: true})
	c.logout()
	if log := f.text.String(); !strings.Contains(log, "store is closed") {
		t.Errorf("log: %s", log)
	}
}

// TestLogoutWithTwoCookies ends the sessions of all cookies of the name: one may have been
// planted.
func TestLogoutWithTwoCookies(t *testing.T) {
	t.Parallel()
	f := setup(t)
	planted, mine := f.browser().login(), f.browser().login()
	r := planted.request()
	r.AddCookie(&http.Cookie{Name: name, Value: mine.cookies[name]})
	session, err := f.store.Get(r, name)
	if err != nil {
		t.Fatal(err)
	}
	session.Options.MaxAge = -1
	if err := session.Save(r, httptest.NewRecorder()); err != nil {
		t.Fatal(err)
	}
	f.wantDocuments(0)
}

// TestLogoutWithTwoCookiesInAnOutage takes no longer than with one.
func TestLogoutWithTwoCookiesInAnOutage(t *testing.T) {
	t.Parallel()
	f := setup(t, impatient)
	planted, mine := f.browser().login(), f.browser().login()
	r := planted.request()
	r.AddCookie(&http.Cookie{Name: name, Value: mine.cookies[name]})
	session, err := f.store.Get(r, name)
	if err != nil {
		t.Fatal(err)
	}
	session.Options.MaxAge = -1
	f.wire.on("delete", rule{kind: answer, reply: refusal(13, "Unauthorized")})
	f.log.reset()
	if err := session.Save(r, httptest.NewRecorder()); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*browser{planted, mine} {
		if !b.load().IsNew {
			t.Error("a session is alive")
		}
	}
	f.wire.heal()
	eventually(t, "both are removed", func() bool { return len(f.documents()) == 0 })
}

// TestApplicationsTransaction: the store's work is no part of a transaction, or of a driver's
// session, that the application has in its context.
func TestApplicationsTransaction(t *testing.T) {
	t.Parallel()
	f := setup(t, impatient)
	b := f.browser().login()
	session := b.load()
	driverSession, err := f.cfg.Client.StartSession()
	if err != nil {
		t.Skip("needs a server with sessions:", err)
	}
	r := b.request()
	r = r.WithContext(mongo.NewSessionContext(r.Context(), driverSession))
	session.Options.MaxAge = -1
	f.wire.on("delete", rule{kind: answer, reply: refusal(11600, "InterruptedAtShutdown")})
	if err := f.store.Save(r, httptest.NewRecorder(), session); err != nil {
		t.Fatal(err)
	}
	driverSession.EndSession(context.WithoutCancel(t.Context()))
	f.wire.heal()
	eventually(t, "the session is removed", func() bool { return len(f.documents()) == 0 })
}

// TestShorterLife: a store whose MaxAge was lowered shortens the lives of the sessions that
// are used, and one request's shorter MaxAge is not lost for good in another's save.
func TestShorterLife(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser().login()
	strict := f.open()
	strict.MaxAge(3600)
	b.store = strict
	b.do(func(s *sessions.Session) { s.Values["n"] = 1 })
	wantTime(t, f.document(), "expiresAt", time.Now().Add(time.Hour))

	b = f.browser()
	b.cookies = map[string]string{}
	if _, err := f.coll.DeleteMany(t.Context(), bson.D{}); err != nil {
		t.Fatal(err)
	}
	b.login()
	slow := b.load()
	b.do(func(s *sessions.Session) { s.Options.MaxAge = 3600 })
	slow.Values["n"] = 1
	if _, err := b.clone().save(slow); err != nil {
		t.Fatal(err)
	}
	b.do(func(s *sessions.Session) { s.Values["n"] = 2 })
	wantTime(t, f.document(), "expiresAt", time.Now().Add(time.Hour))

	// Nor is it lost in a renewal.
	held := b.load()
	b.clone().do(func(s *sessions.Session) { s.Options.MaxAge = 1800 })
	if _, err := b.renew(held); err != nil {
		t.Fatal(err)
	}
	if age, err := f.document().LookupErr("maxAge"); err != nil || age.AsInt64() != 1800 {
		t.Errorf("maxAge after a renewal: %v, %v", age, err)
	}
	wantTime(t, f.document(), "expiresAt", time.Now().Add(30*time.Minute))
}

// TestMaxSizeLowered: sessions from before are no larger for being left alone.
func TestMaxSizeLowered(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser()
	b.do(func(s *sessions.Session) { s.Values["a"] = strings.Repeat("x", 5000) })
	f.cfg.MaxSize = 1000
	b.store = f.open()
	if _, err := b.save(b.load()); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	session := b.load()
	session.Values["b"] = 1
	if _, err := b.save(session); !errors.Is(err, mongostore.ErrTooLarge) {
		t.Errorf("changed: %v", err)
	}
	session = b.load()
	delete(session.Values, "a")
	if _, err := b.save(session); err != nil {
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
			f := setup(t)
			b := f.browser()
			if command != "insert" {
				b.login()
			}
			session := b.load()
			session.Values["card"] = secret
			f.wire.on(command, rule{kind: answer, reply: reply})
			var err error
			switch command {
			case "delete":
				b.logout()
			case "find":
				_, err = f.store.New(b.request(), name)
			default:
				_, err = b.save(session)
			}
			if command != "delete" && !errors.Is(err, mongostore.ErrUnavailable) {
				t.Errorf("%s: %v", command, err)
			}
			if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), hashOf(session.ID))) {
				t.Errorf("%s: the error tells: %v", command, err)
			}
			var server mongo.ServerError
			if err != nil && !errors.As(err, &server) {
				t.Errorf("%s: the server's error cannot be had: %v", command, err)
			}
			if log := f.text.String(); strings.Contains(log, secret) || session.ID != "" && strings.Contains(log, session.ID) {
				t.Errorf("%s: the log tells: %s", command, log)
			}
		}
	}
}

// TestLateSaveAfterShorterLife: an expiry that another request has brought forward is not undone
// by a slow one.
func TestLateSaveAfterShorterLife(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser().login()
	slow := b.load()
	b.do(func(s *sessions.Session) { s.Options.MaxAge = 1 })
	eventually(t, "the session has expired", func() bool { return b.load().IsNew })
	slow.Values["n"] = 1
	if w, err := b.clone().save(slow); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
		t.Errorf("error: %v", err)
	}
	if !b.load().IsNew {
		t.Error("the session is back")
	}
}
