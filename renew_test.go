package mongostore_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/samples"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestRenewalGivesTheSessionAFreshID: the rest of it stays, and the old ID leaves a tombstone.
func TestRenewalGivesTheSessionAFreshID(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Do(func(s *sessions.Session) { s.Values["cart"], s.Options.MaxAge = []string{"tea"}, 3600 })
	f.Edit(storetest.SetDate("createdAt", time.Now().Add(-time.Hour)))
	created := f.Document().Lookup("createdAt").Time()
	before := b.Clone()

	f.Log.Reset()
	session := b.Load()
	oldID := session.ID
	session.Values["user"] = "ada"
	if _, err := b.Renew(session); err != nil {
		t.Fatal(err)
	}
	f.WantCommands("find", "insert", "update")
	if session.ID == oldID || session.ID == "" {
		t.Error("the ID is not fresh")
	}
	doc := f.Document()
	if doc.Lookup("_id").StringValue() != storetest.HashOf(session.ID) || !doc.Lookup("createdAt").Time().Equal(created) {
		t.Errorf("document: %v", doc)
	}
	if s := b.Load(); s.Values["user"] != "ada" || s.Values["cart"] == nil || s.Options.MaxAge != 3600 {
		t.Errorf("renewed session: %v, MaxAge %d", s.Values, s.Options.MaxAge)
	}
	if !before.Load().IsNew {
		t.Error("the old ID still works")
	}
	// The session goes on under the new ID.
	session.Values["n"] = 1
	if _, err := b.Save(session); err != nil {
		t.Fatal(err)
	}
	f.WantDocuments(1)
	f.WantTombstones(1)
}

// TestRenewalOfANewSessionIsASave: at the login of a visitor without a session.
func TestRenewalOfANewSessionIsASave(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	session := b.Load()
	session.Values["user"] = "ada"
	if _, err := b.Renew(session); err != nil {
		t.Fatal(err)
	}
	f.WantCommands("insert")
	if s := b.Load(); s.Values["user"] != "ada" {
		t.Errorf("values: %v", s.Values)
	}
}

// TestWhatCannotBeSavedCannotBeRenewed: nothing is stored then, and no cookie is set.
func TestWhatCannotBeSavedCannotBeRenewed(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session := b.Load()
	f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: 2}}}})
	damaged, err := f.Store.New(b.Request(), storetest.Name)
	if !errors.Is(err, mongostore.ErrCorrupt) {
		t.Fatal(err)
	}
	if _, err := b.Renew(damaged); !errors.Is(err, mongostore.ErrCorrupt) {
		t.Errorf("damaged: %v", err)
	}
	if err := f.Store.Renew(b.Request(), httptest.NewRecorder(), nil); err == nil {
		t.Error("nil session: no error")
	}
	session.Values["f"] = func() {}
	if w, err := b.Renew(session); err == nil || w.Header()["Set-Cookie"] != nil {
		t.Errorf("value that cannot be stored: %v", err)
	}
	f.WantDocuments(1)
	session.Options.MaxAge = -1
	if _, err := b.Renew(session); err != nil {
		t.Errorf("negative MaxAge: %v", err)
	}
	f.WantDocuments(0)
}

// TestOneOfConcurrentRenewalsWins: requests change the session meanwhile, and no change whose save
// succeeded is lost.
func TestOneOfConcurrentRenewalsWins(t *testing.T) {
	t.Parallel()
	const rounds, writers, renewers = 10, 6, 3
	f := storetest.Setup(t)
	for range rounds {
		b := f.Browser().Login()
		var writing, renewing []*sessions.Session
		for range writers {
			writing = append(writing, b.Load())
		}
		for range renewers {
			renewing = append(renewing, b.Load())
		}
		var mu sync.Mutex
		saved := map[string]bool{}
		var winners []*storetest.Browser
		var wg sync.WaitGroup
		for i, session := range writing {
			wg.Go(func() {
				key := string(rune('a' + i))
				session.Values[key] = i
				_, err := b.Clone().Save(session)
				if err != nil && !errors.Is(err, mongostore.ErrGone) {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				saved[key] = err == nil
			})
		}
		for _, session := range renewing {
			mine := b.Clone()
			wg.Go(func() {
				_, err := mine.Renew(session)
				if err != nil {
					if !errors.Is(err, mongostore.ErrGone) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				defer mu.Unlock()
				winners = append(winners, mine)
			})
		}
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("%d renewals won, want 1", len(winners))
		}
		got := winners[0].Load()
		for key, ok := range saved {
			if _, there := got.Values[key]; there != ok {
				t.Errorf("key %s: its save succeeded: %t; it is there: %t", key, ok, there)
			}
		}
		if !b.Load().IsNew {
			t.Error("the old ID still works")
		}
		f.WantDocuments(1)
		winners[0].Logout()
	}
}

// TestRenewalForAnotherOwnerMergesNothing: what the former user's requests change meanwhile does
// not reach the next one.
func TestRenewalForAnotherOwnerMergesNothing(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
	b := f.Browser()
	b.Do(func(s *sessions.Session) { s.Values["user"] = "eve" })
	session := b.Load()
	clear(session.Values)
	session.Values["user"] = "ada"
	b.Clone().Do(func(s *sessions.Session) { s.Values["cart"] = "of eve" })
	if _, err := b.Renew(session); err != nil {
		t.Fatal(err)
	}
	if s := b.Load(); len(s.Values) != 1 || s.Values["user"] != "ada" {
		t.Errorf("values: %v", s.Values)
	}
}

// TestTombstoneTakesNoWrites: once a renewal has decided, requests that loaded the session before
// change nothing of it, whether they change a value, MaxAge, or are a touch, and set no cookie.
func TestTombstoneTakesNoWrites(t *testing.T) {
	t.Parallel()
	for what, rule := range map[string]storetest.Rule{
		"acknowledged":  {},
		"response lost": {Kind: storetest.LoseAnswer, Once: true},
	} {
		f := storetest.Setup(t, impatient)
		b := f.Browser().Login()
		late := map[string]*sessions.Session{"a value": b.Load(), "MaxAge": b.Load(), "nothing": b.Load()}
		late["a value"].Values["n"] = 1
		late["MaxAge"].Options.MaxAge = 60
		f.Age(time.Hour)
		late["the expiry"] = b.Load()
		old, renewer, session := b.Clone(), b.Clone(), b.Load()
		f.Wire.On("update", rule)
		if _, err := renewer.Renew(session); err != nil {
			t.Errorf("%s: the renewal: %v", what, err)
		}
		f.Wire.Heal()
		before := f.Documents()
		for change, s := range late {
			w, err := b.Clone().Save(s)
			if w.Header()["Set-Cookie"] != nil {
				t.Errorf("%s: a late save of %s sets a cookie", what, change)
			}
			if silent := change == "nothing"; silent != (err == nil) || err != nil && !errors.Is(err, mongostore.ErrGone) {
				t.Errorf("%s: a late save of %s: %v", what, change, err)
			}
		}
		after := f.Documents()
		byID := func(a, b bson.Raw) int {
			return strings.Compare(a.Lookup("_id").StringValue(), b.Lookup("_id").StringValue())
		}
		slices.SortFunc(before, byID)
		slices.SortFunc(after, byID)
		if !slices.EqualFunc(before, after, func(a, b bson.Raw) bool { return bytes.Equal(a, b) }) {
			t.Errorf("%s: documents %v, want %v", what, after, before)
		}
		if !old.Load().IsNew {
			t.Errorf("%s: the old ID works", what)
		}
		if s := renewer.Load(); s.Values["user"] != "ada" || len(s.Values) != 1 {
			t.Errorf("%s: the renewed session holds %v", what, s.Values)
		}
		f.WantDocuments(1)
		f.WantTombstones(1)
	}
}

// TestSlowRenewalHoldsUpNobody: neither other renewals nor the removals of the process.
func TestSlowRenewalHoldsUpNobody(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	slow, out, other := f.Browser().Login(), f.Browser().Login(), f.Browser().Login()
	slowSession, otherSession := slow.Load(), other.Load()
	seen, gate := make(chan struct{}, 1), make(chan struct{})
	f.Wire.On("insert", storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: gate})
	done := make(chan error)
	go func() {
		_, err := slow.Renew(slowSession)
		done <- err
	}()
	<-seen
	f.Wire.On("delete", storetest.Rule{Kind: storetest.Answer, Once: true, Reply: storetest.Refusal(11600, "InterruptedAtShutdown")})
	out.Logout()
	storetest.Eventually(t, "the removal has been repeated", func() bool { return len(f.Live()) == 2 })
	if _, err := other.Renew(otherSession); err != nil { // hangs, if it waits for the slow one
		t.Error(err)
	}
	close(gate)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestRenewalLooksUpAnUnknownSession: a session by its ID alone, and one that another Store of the
// collection has loaded, are renewed like any other, and the old ID ends.
func TestRenewalLooksUpAnUnknownSession(t *testing.T) {
	t.Parallel()
	for what, unknown := range map[string]func(f *storetest.Fixture, b *storetest.Browser) *sessions.Session{
		"by ID": func(f *storetest.Fixture, b *storetest.Browser) *sessions.Session {
			session := sessions.NewSession(f.Store, storetest.Name)
			session.ID, session.Values["user"], session.Options = b.CookieID(), "ada", nil
			return session
		},
		"a copy": func(_ *storetest.Fixture, b *storetest.Browser) *sessions.Session {
			copied := *b.Load()
			return &copied
		},
		"of a second store": func(f *storetest.Fixture, b *storetest.Browser) *sessions.Session {
			second := b.Clone()
			second.Store = f.Open()
			return second.Load()
		},
	} {
		f := storetest.Setup(t)
		b := f.Browser().Login()
		old, session := b.Clone(), unknown(f, b)
		session.Values["n"] = 1
		f.Log.Reset()
		if _, err := b.Renew(session); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if what == "of a second store" { // which knows it
			f.WantCommands("insert", "update")
		} else {
			f.WantCommands("find", "insert", "update")
		}
		if !old.Load().IsNew {
			t.Errorf("%s: the old ID works", what)
		}
		if s := b.Load(); s.ID != session.ID || s.ID == old.CookieID() || s.Values["user"] != "ada" || s.Values["n"] != 1 {
			t.Errorf("%s: renewed: %v", what, s.Values)
		}
		f.WantDocuments(1)
		f.WantTombstones(1)
	}
	// Without a name, there is no cookie for it, and nothing changes.
	f := storetest.Setup(t)
	b := f.Browser().Login()
	nameless := &sessions.Session{ID: b.CookieID(), Values: map[any]any{}}
	if w, err := b.Renew(nameless); err == nil || w.Header()["Set-Cookie"] != nil {
		t.Errorf("without a name: %v", err)
	}
	if b.Load().Values["user"] != "ada" {
		t.Error("without a name: the session has ended")
	}
}

// TestRenewalMergesMaxAge: another request's MaxAge is merged, and the next save of the session
// leaves it.
func TestRenewalMergesMaxAge(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session := b.Load()
	b.Clone().Do(func(s *sessions.Session) { s.Options.MaxAge = 1800 })
	if _, err := b.Renew(session); err != nil {
		t.Fatal(err)
	}
	session.Values["n"] = 1
	if _, err := b.Save(session); err != nil {
		t.Fatal(err)
	}
	if age, err := f.Document().LookupErr("maxAge"); err != nil || age.AsInt64() != 1800 {
		t.Errorf("maxAge: %v, %v", age, err)
	}
}

// TestOwnerOfStaleValuesIsNotStored: a session from before there was an OwnerKey gets its owner from
// what the database holds, also if another request has changed that meanwhile.
func TestOwnerOfStaleValuesIsNotStored(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"save", "renew"} {
		f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
		b := f.Browser().Login()
		f.Edit(bson.D{{Key: "$unset", Value: bson.D{{Key: "owner", Value: ""}}}})
		slow := b.Load()
		b.Do(func(s *sessions.Session) { s.Values["user"] = "bob" })
		slow.Values["n"] = 1
		var err error
		if how == "save" {
			_, err = b.Save(slow)
		} else {
			_, err = b.Renew(slow)
		}
		if err != nil {
			t.Fatal(err)
		}
		if s := b.Load(); s.Values["user"] != "bob" || s.Values["n"] != 1 || f.Document().Lookup("owner").StringValue() != "bob" {
			t.Errorf("%s: %v", how, f.Document())
		}
	}
}

// TestRenewalKeepsItsChange: a renewal's own change of a key wins over that of other requests, also
// if one changes the key in the same way, and then another one in another way, all before the renewal
// is done.
func TestRenewalKeepsItsChange(t *testing.T) {
	t.Parallel()
	for _, deletes := range []bool{true, false} {
		f := storetest.Setup(t)
		b := f.Browser().Login()
		b.Clone().Do(func(s *sessions.Session) { s.Values["a"], s.Values["b"] = 1, 1 })
		session := b.Load()
		second := bson.D{{Key: "$unset", Value: bson.D{{Key: "values.a", Value: ""}}}}
		if deletes {
			delete(session.Values, "a")
		} else {
			session.Values["a"] = 5
			second = bson.D{{Key: "$set", Value: bson.D{{Key: "values.a", Value: 5}}}}
		}
		third := bson.D{{Key: "$set", Value: bson.D{{Key: "values.a", Value: 9}, {Key: "values.b", Value: 9}}}}

		// Both come from another process: before the renewal decides, and before it has
		// merged the first of them into the new document.
		seen, marks, brings := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
		f.Wire.On("update", storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: marks})
		done := make(chan error, 1)
		go func() {
			_, err := b.Renew(session)
			done <- err
		}()
		<-seen
		raise := bson.E{Key: "$inc", Value: bson.D{{Key: "rev", Value: 1}}}
		old := bson.D{{Key: "_id", Value: storetest.HashOf(session.ID)}}
		if _, err := f.Coll.UpdateOne(t.Context(), old, append(second, raise)); err != nil {
			t.Fatal(err)
		}
		f.Wire.On("update", storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: brings})
		close(marks)
		<-seen
		if _, err := f.Coll.UpdateOne(t.Context(), old, append(third, raise)); err != nil {
			t.Fatal(err)
		}
		close(brings)
		if err := <-done; err != nil {
			t.Fatal(err)
		}

		for what, s := range map[string]*sessions.Session{"afterwards": session, "stored": b.Load()} {
			a, found := s.Values["a"]
			if deletes && found || !deletes && a != 5 {
				t.Errorf("%s: a is %v, %t", what, a, found)
			}
			if s.Values["b"] != 9 {
				t.Errorf("%s: b is %v", what, s.Values["b"])
			}
		}
		f.WantDocuments(1)
	}
}

// TestRenewalKeepsItsOwner: a renewal that logs a user in stays that user's session, even if somebody else
// logs in meanwhile.
func TestRenewalKeepsItsOwner(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "uid" })
	b := f.Browser()
	b.Do(func(s *sessions.Session) { s.Values["cart"] = 1 })
	other, session := b.Clone(), b.Load()
	session.Values["uid"] = 42
	seen, marks, brings := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	f.Wire.On("update", storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: marks})
	done := make(chan error, 1)
	go func() {
		_, err := b.Renew(session)
		done <- err
	}()
	<-seen
	other.Do(func(s *sessions.Session) { s.Values["uid"] = 42 })
	f.Wire.On("update", storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: brings})
	close(marks)
	<-seen
	other.Do(func(s *sessions.Session) { s.Values["uid"] = 43 })
	close(brings)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := b.Load().Values["uid"]; got != 42 || session.Values["uid"] != 42 {
		t.Errorf("uid is %v in the database, %v in the session", got, session.Values["uid"])
	}
	if owner := f.Document().Lookup("owner").AsInt64(); owner != 42 {
		t.Errorf("the owner is %d", owner)
	}
}

// Histories that the model has found: each is what a failure shrank to.

// TestRenewalLearnsMaxAge: another request has chosen "remember me". The cookie of a renewal says
// so too, or the visitor would be forgotten with the browser's end.
func TestRenewalLearnsMaxAge(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.Options = &sessions.Options{Path: "/"} })
	b := f.Browser().Login()
	held := b.Load()
	b.Clone().Do(func(s *sessions.Session) { s.Options.MaxAge = 7200 })
	w, err := b.Renew(held)
	if err != nil {
		t.Fatal(err)
	}
	cookies := w.Result().Cookies()
	if len(cookies) != 1 || cookies[0].MaxAge != 7200 || held.Options.MaxAge != 7200 {
		t.Errorf("cookies %v, of a session with MaxAge %d", cookies, held.Options.MaxAge)
	}
	if s := b.Load(); s.IsNew || s.Options.MaxAge != 7200 {
		t.Errorf("new: %t, MaxAge %d", s.IsNew, s.Options.MaxAge)
	}
}

// TestRenewalLearnsOwner: another request has removed the user from the session, or set one. The
// renewed session is nobody else's.
func TestRenewalLearnsOwner(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ before, then any }{{1, nil}, {1, 2}, {nil, 2}, {1, ""}} {
		f := storetest.SetupOwners(t)
		put := func(user any) func(*sessions.Session) {
			return func(s *sessions.Session) {
				delete(s.Values, "user")
				if user != nil {
					s.Values["user"] = user
				}
			}
		}
		b := f.Browser()
		b.Do(put(row.before))
		held := b.Load()
		b.Clone().Do(put(row.then))
		if _, err := b.Renew(held); err != nil {
			t.Fatal(err)
		}
		owner, ok := f.Document().Lookup("owner").AsInt64OK()
		if want, owned := row.then.(int); ok != owned || int(owner) != want || held.Values["user"] != row.then {
			t.Errorf("%v, then %v: the owner is %d (%t), of a session of %v", row.before, row.then, owner, ok, held.Values["user"])
		}
	}
}

// TestRenewalMergesDeletions: what another request has deleted does not come back under the new ID.
func TestRenewalMergesDeletions(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	b.Do(func(s *sessions.Session) { s.Values["voucher"] = "once" })
	held := b.Load()
	b.Clone().Do(func(s *sessions.Session) { delete(s.Values, "voucher") })
	if _, err := b.Renew(held); err != nil {
		t.Fatal(err)
	}
	if _, kept := held.Values["voucher"]; kept || b.Load().Values["voucher"] != nil {
		t.Errorf("the session holds %v, and %v once loaded", held.Values, b.Load().Values)
	}
}

// TestFailingRenewalDoesNotUndoALogout: not even one that does not learn whether the session still
// exists.
func TestFailingRenewalDoesNotUndoALogout(t *testing.T) {
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

// TestRenewalDoesNotUndoAPendingLogout: one whose deletion has yet to succeed.
func TestRenewalDoesNotUndoAPendingLogout(t *testing.T) {
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
	storetest.Eventually(t, "no session is left", func() bool { return len(f.Live()) == 0 })
	if !renewer.Load().IsNew {
		t.Error("the session is back")
	}
}

// TestRenewalDoesNotReviveAnExpiredSession: one whose expiry another request has brought forward.
func TestRenewalDoesNotReviveAnExpiredSession(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session := b.Load()
	f.Expire()
	w, err := b.Renew(session)
	storetest.WantGone(t, "Renew", w, err)
	if !b.Load().IsNew {
		t.Error("the session is back")
	}
	f.WantDocuments(1) // the expired one
}

// TestRenewalOutlivesItsRequest: a user who closes the browser while logging in leaves one session,
// and that under the new ID.
func TestRenewalOutlivesItsRequest(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"insert", "update"} {
		f := storetest.Setup(t)
		b := f.Browser().Login()
		old := b.Clone()
		session := b.Load()
		seen, gate := make(chan struct{}, 1), make(chan struct{})
		f.Wire.On(command, storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: gate})
		ctx, cancel := context.WithCancel(t.Context())
		w, done := httptest.NewRecorder(), make(chan error)
		go func() { done <- f.Store.Renew(b.Request().WithContext(ctx), w, session) }()
		<-seen
		cancel()
		close(gate)
		if err := <-done; err != nil {
			t.Errorf("cancelled during the %s: %v", command, err)
		}
		b.Receive(w)
		b.WantIn("the new ID")
		old.WantOut("the old ID")
		f.WantLive(1)
	}
}

// TestRenewalReportsTheTruthWithoutAResponse: of each of its commands the response may be lost. What
// the renewal reports is true, and one session is left.
func TestRenewalReportsTheTruthWithoutAResponse(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"insert", "update"} {
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
		storetest.Eventually(t, "one session is left", func() bool { return len(f.Live()) == 1 })
		if s := b.Load(); s.Values["user"] != "ada" {
			t.Errorf("%s: the session is lost: %v", command, s.Values)
		}
	}
}

// TestTakingTheIDAwayRenews: a session whose ID the application has removed is saved as by Renew. Of
// several such saves one wins, none undoes a logout, and a concurrent change is merged.
func TestTakingTheIDAwayRenews(t *testing.T) {
	t.Parallel()
	t.Run("concurrently", func(t *testing.T) {
		t.Parallel()
		for range 10 {
			f := storetest.Setup(t)
			b := f.Browser().Login()
			const movers = 4
			var wg sync.WaitGroup
			var mu sync.Mutex
			won := 0
			var loaded []*sessions.Session // all before the first moves
			for range movers {
				loaded = append(loaded, b.Load())
			}
			for _, session := range loaded {
				session.ID = ""
				wg.Go(func() {
					_, err := b.Clone().Save(session)
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						won++
					case !errors.Is(err, mongostore.ErrGone):
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if won != 1 {
				t.Errorf("%d moves won, want 1", won)
			}
			f.WantDocuments(1)
			if !b.Load().IsNew {
				t.Error("the old ID still works")
			}
		}
	})
	t.Run("after a logout", func(t *testing.T) {
		t.Parallel()
		f := storetest.Setup(t)
		b := f.Browser().Login()
		session := b.Load()
		b.Clone().Logout()
		session.ID = ""
		if w, err := b.Save(session); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
			t.Errorf("error: %v", err)
		}
		f.WantDocuments(0)
	})
	t.Run("with a change meanwhile", func(t *testing.T) {
		t.Parallel()
		f := storetest.Setup(t)
		b := f.Browser()
		b.Do(func(s *sessions.Session) {
			s.Values["user"], s.Values["dropped"], s.Values["ours"], s.Values["both"] = "ada", 1, 1, 1
		})
		session := b.Load()
		b.Clone().Do(func(s *sessions.Session) {
			s.Values["theirs"], s.Values["both"] = 2, 2
			delete(s.Values, "dropped")
		})
		session.ID, session.Values["ours"], session.Values["both"] = "", 3, 3
		if _, err := b.Save(session); err != nil {
			t.Fatal(err)
		}
		f.WantDocuments(1)
		for _, s := range []*sessions.Session{session, b.Load()} {
			if v := s.Values; len(v) != 4 || v["user"] != "ada" || v["theirs"] != 2 || v["ours"] != 3 || v["both"] != 3 {
				t.Errorf("values: %v", v)
			}
		}
		// The session in hand is up to date, too.
		f.Log.Reset()
		if _, err := b.Save(session); err != nil {
			t.Fatal(err)
		}
		f.WantCommands()
	})
	for _, command := range []string{"insert", "update"} {
		for what, r := range map[string]storetest.Rule{
			"refused":       {Kind: storetest.Answer, Reply: storetest.Refusal(10107, "NotWritablePrimary"), Once: true},
			"cut":           {Kind: storetest.Refuse, Once: true},
			"response lost": {Kind: storetest.LoseAnswer, Once: true},
		} {
			t.Run(command+" "+what, func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t, func(c *mongostore.Config) { c.Timeout = 2 * time.Second })
				b := f.Browser().Login()
				old := b.Clone()
				session := b.Load()
				session.ID = ""
				f.Wire.On(command, r)
				_, err := b.Save(session)
				if err == nil && !old.Load().IsNew {
					t.Error("success was reported, and the old ID works")
				}
				if err != nil && errors.Is(err, mongostore.ErrGone) {
					t.Errorf("error: %v", err)
				}
				// Whichever cookie the visitor has, the session is not lost.
				if s := b.Load(); s.Values["user"] != "ada" {
					t.Errorf("after %v the session is %v", err, s.Values)
				}
				storetest.Eventually(t, "one session is left", func() bool { return len(f.Live()) == 1 })
			})
		}
	}
}

// TestRenewedSessionIsFetchedByItsNewIDOnly is about Fetch, which has no cookie to go by.
func TestRenewedSessionIsFetchedByItsNewIDOnly(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session := b.Load()
	old := session.ID
	if _, err := b.Renew(session); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Store.Fetch(t.Context(), storetest.Name, old); !errors.Is(err, mongostore.ErrNotFound) {
		t.Errorf("by the old ID: %v", err)
	}
	if s, err := f.Store.Fetch(t.Context(), storetest.Name, session.ID); err != nil || s.Values["user"] != "ada" {
		t.Errorf("by the new ID: %v", err)
	}
}

// TestRenewalIsTwoCommands: the insert, and the update that decides.
func TestRenewalIsTwoCommands(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Visit(storetest.SetValue("user", "ada"))
	session := b.Load()
	f.Log.Reset()
	b.MustRenew(session)
	f.WantCommands("insert", "update")
	b.WantIn("renewed")
}

// TestRenewedSessionLeavesATombstone: for an hour, without values, and it counts as no session.
func TestRenewedSessionLeavesATombstone(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) {
		c.OwnerKey = "user"
		c.Describe = func(*http.Request) map[string]string { return map[string]string{"device": "phone"} }
	})
	b := f.Browser()
	b.Visit(func(s *sessions.Session) {
		s.Values["user"], s.Values["card"] = "ada", storetest.CardNumber
		s.Options.MaxAge = 7200
	})
	session := b.Load()
	oldID := session.ID
	b.MustRenew(session)
	var tombstone bson.Raw
	for _, doc := range f.Documents() {
		if doc.Lookup("_id").StringValue() == storetest.HashOf(oldID) {
			tombstone = doc
		}
	}
	if tombstone == nil {
		t.Fatal("nothing under the old ID")
	}
	want := map[string]func(bson.RawValue) bool{
		"_id":       func(v bson.RawValue) bool { return true },
		"v":         func(v bson.RawValue) bool { return v.AsInt64() == 1 },
		"name":      func(v bson.RawValue) bool { return v.StringValue() == storetest.Name },
		"movedTo":   func(v bson.RawValue) bool { return v.StringValue() == storetest.HashOf(session.ID) },
		"rev":       func(v bson.RawValue) bool { return v.Type == bson.TypeNull },
		"values":    func(v bson.RawValue) bool { return len(v.Value) == 5 },
		"createdAt": func(v bson.RawValue) bool { return v.Type == bson.TypeDateTime },
		"seenAt":    func(v bson.RawValue) bool { return time.Since(v.Time()).Abs() < time.Minute },
		"expiresAt": func(v bson.RawValue) bool { return (time.Until(v.Time()) - time.Hour).Abs() < time.Minute },
	}
	fields, err := tombstone.Elements()
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range fields {
		check := want[field.Key()]
		delete(want, field.Key())
		if check == nil || !check(field.Value()) {
			t.Errorf("field %v", field)
		}
	}
	if len(want) > 0 {
		t.Errorf("fields missing: %v", want)
	}
	if n, err := f.Store.Count(t.Context()); n != 1 || err != nil {
		t.Errorf("Count: %d, %v", n, err)
	}
	if infos := storetest.SessionsOf(t, f.Store, "ada"); len(infos) != 1 || infos[0].Key != storetest.HashOf(session.ID) {
		t.Errorf("listed: %v", infos)
	}
	if _, err := f.Store.Fetch(t.Context(), storetest.Name, oldID); !errors.Is(err, mongostore.ErrNotFound) {
		t.Errorf("Fetch of the old ID: %v", err)
	}
}

// TestRequestOfTheOldIDDoesNotReplaceTheRenewedCookie: a page that logs in sends other
// requests with the old cookie, and a middleware saves the session of each.
func TestRequestOfTheOldIDDoesNotReplaceTheRenewedCookie(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*sessions.Session){
		"unchanged": storetest.Unchanged,
		"changed":   storetest.SetValue("n", 1),
		"flash":     func(s *sessions.Session) { s.AddFlash("hello") },
		"MaxAge":    func(s *sessions.Session) { s.Options.MaxAge = 60 },
	} {
		for store, other := range map[string]bool{"same process": false, "another process": true} {
			t.Run(what+", "+store, func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t)
				b := f.Browser()
				b.Visit(storetest.SetValue("user", "ada"))
				old := b.Clone()
				if other {
					old.Store = f.Another()
				}
				b.MustRenew(b.Load())
				late := old.Load()
				if !late.IsNew || len(late.Values) > 0 {
					t.Fatalf("the old ID works: %v", late.Values)
				}
				change(late)
				w, err := old.Save(late)
				storetest.WantGone(t, "the late request", w, err)
				f.WantLive(1)
				b.WantIn("afterwards")
				// A deliberate login is stored.
				late = old.Load()
				late.Values["user"] = "ada"
				old.MustRenew(late)
				old.WantIn("a login with the old cookie")
				b.WantIn("after a login with the old cookie")
			})
		}
	}
}

// TestOldTombstoneIsANewSession: later than 30 seconds after the renewal, a visitor
// with the old cookie begins a new session, as one without a cookie does.
func TestOldTombstoneIsANewSession(t *testing.T) {
	t.Parallel()
	for what, age := range map[string]time.Duration{"in time": 20 * time.Second, "late": 40 * time.Second} {
		f := storetest.Setup(t)
		b := f.Browser()
		b.Visit(storetest.SetValue("user", "ada"))
		old := b.Clone()
		b.MustRenew(b.Load())
		res, err := f.Coll.UpdateOne(t.Context(),
			bson.D{{Key: "movedTo", Value: bson.D{{Key: "$exists", Value: true}}}}, storetest.SetDate("seenAt", time.Now().Add(-age)))
		if err != nil || res.MatchedCount != 1 {
			t.Fatalf("no tombstone: %v", err)
		}
		late := old.Load()
		late.Values["n"] = 1
		w, err := old.Save(late)
		if what == "in time" {
			storetest.WantGone(t, what, w, err)
			continue
		}
		if err != nil || w.Header()["Set-Cookie"] == nil {
			t.Errorf("%s: %v", what, err)
		}
		if s := old.Load(); s.Values["n"] != 1 {
			t.Errorf("%s: values %v", what, s.Values)
		}
		b.WantIn(what)
	}
}

// TestLoginFormSentTwice: both responses log in, whichever the browser keeps, and no value of
// the earlier session is lost.
func TestLoginFormSentTwice(t *testing.T) {
	t.Parallel()
	owners := func(c *mongostore.Config) { c.OwnerKey = "user" }
	setupCart := func(t *testing.T) (f *storetest.Fixture, one, two *storetest.Browser) {
		f = storetest.Setup(t, owners)
		one = f.Browser()
		one.Visit(storetest.SetValue("cart", "tea"))
		return f, one, one.Clone()
	}
	check := func(t *testing.T, f *storetest.Fixture, browsers ...*storetest.Browser) {
		t.Helper()
		ids := map[string]bool{}
		for i, b := range browsers {
			s := b.Load()
			if s.Values["user"] != "ada" || s.Values["cart"] != "tea" {
				t.Errorf("login %d: %v", i+1, s.Values)
			}
			ids[s.ID] = true
		}
		if len(ids) != len(browsers) {
			t.Errorf("%d sessions of %d logins", len(ids), len(browsers))
		}
		if n, err := f.Store.RevokeAll(t.Context(), "ada"); n != int64(len(browsers)) || err != nil {
			t.Errorf("RevokeAll: %d, %v", n, err)
		}
	}
	t.Run("both loaded before", func(t *testing.T) {
		t.Parallel()
		f, one, two := setupCart(t)
		three := one.Clone()
		old := one.Clone()
		first, second, third := one.Load(), two.Load(), three.Load()
		for _, s := range []*sessions.Session{first, second, third} {
			s.Values["user"] = "ada"
		}
		one.MustRenew(first)
		two.MustRenew(second)
		three.MustRenew(third)
		if !old.Load().IsNew {
			t.Error("the old ID works")
		}
		check(t, f, one, two, three)
	})
	t.Run("the second loaded after the first", func(t *testing.T) {
		t.Parallel()
		f, one, two := setupCart(t)
		first := one.Load()
		first.Values["user"] = "ada"
		one.MustRenew(first)
		second := two.Load()
		second.Values["user"] = "ada"
		two.MustRenew(second)
		if second.Values["cart"] != "tea" {
			t.Errorf("in hand: %v", second.Values)
		}
		check(t, f, one, two)
	})
	t.Run("concurrently", func(t *testing.T) {
		t.Parallel()
		f, one, two := setupCart(t)
		first, second := one.Load(), two.Load()
		var wg sync.WaitGroup
		for b, s := range map[*storetest.Browser]*sessions.Session{one: first, two: second} {
			s.Values["user"] = "ada"
			wg.Go(func() {
				if _, err := b.Renew(s); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		check(t, f, one, two)
	})
	t.Run("already logged in", func(t *testing.T) {
		t.Parallel()
		f, one, _ := setupCart(t)
		one.Visit(storetest.SetValue("user", "ada"))
		two := one.Clone()
		first, second := one.Load(), two.Load()
		first.Values["user"], second.Values["user"] = "ada", "ada"
		one.MustRenew(first)
		two.MustRenew(second)
		check(t, f, one, two)
	})
	t.Run("another owner", func(t *testing.T) {
		t.Parallel()
		_, one, two := setupCart(t)
		first, second := one.Load(), two.Load()
		first.Values["user"], second.Values["user"] = "ada", "bob"
		one.MustRenew(first)
		w, err := two.Renew(second)
		storetest.WantGone(t, "bob", w, err)
		one.WantIn("ada")
	})
	t.Run("no owner", func(t *testing.T) {
		t.Parallel()
		_, one, two := setupCart(t)
		first, second := one.Load(), two.Load()
		one.MustRenew(first)
		w, err := two.Renew(second)
		storetest.WantGone(t, "nobody", w, err)
	})
	t.Run("no OwnerKey", func(t *testing.T) {
		t.Parallel()
		f := storetest.Setup(t)
		one := f.Browser()
		one.Visit(storetest.SetValue("cart", "tea"))
		two := one.Clone()
		first, second := one.Load(), two.Load()
		first.Values["user"], second.Values["user"] = "ada", "ada"
		one.MustRenew(first)
		w, err := two.Renew(second)
		storetest.WantGone(t, "no OwnerKey", w, err)
	})
	t.Run("after a logout", func(t *testing.T) {
		t.Parallel()
		f, one, two := setupCart(t)
		first, second := one.Load(), two.Load()
		first.Values["user"], second.Values["user"] = "ada", "ada"
		one.MustRenew(first)
		one.Visit(func(s *sessions.Session) { s.Options.MaxAge = -1 })
		w, err := two.Renew(second)
		storetest.WantGone(t, "logged out", w, err)
		f.WantLive(0)
	})
}

// TestUndecidedRenewalKeepsTheUserLoggedIn: when the update that decides has no response,
// and the database then cannot be asked, the new cookie is sent with the error.
func TestUndecidedRenewalKeepsTheUserLoggedIn(t *testing.T) {
	t.Parallel()
	for what, fault := range map[string]storetest.Rule{
		"carried out":     {Kind: storetest.LoseAnswer, Once: true, Away: true},
		"not carried out": {Kind: storetest.Refuse, Once: true, Away: true},
	} {
		for _, process := range []string{"same process", "another process"} {
			t.Run(what+", "+process, func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t)
				f.Store = f.OpenWith(time.Second)
				b := f.Browser()
				b.Visit(storetest.SetValue("cart", "tea"))
				old := b.Clone()
				session := b.Load()
				session.Values["user"] = "ada"
				f.Wire.On("update", fault)
				w, err := b.Renew(session)
				if !errors.Is(err, mongostore.ErrUnavailable) {
					t.Errorf("error: %v", err)
				}
				if cookies := w.Result().Cookies(); len(cookies) != 1 || cookies[0].Value == "" || b.Cookies[storetest.Name] == old.Cookies[storetest.Name] {
					t.Errorf("cookies: %v", cookies)
				}
				f.Wire.Heal()
				eventuallyReachable(f)
				old.Store, b.Store = f.Another(), f.Store
				if process == "another process" {
					b.Store = f.Another()
				}
				if s := b.Load(); s.IsNew || s.Values["user"] != "ada" || s.Values["cart"] != "tea" {
					t.Errorf("the new ID: new %t, %v", s.IsNew, s.Values)
				}
				old.WantOut("the old ID, once the new one was presented")
				b.Visit(storetest.SetValue("n", 1))
				if s := b.Load(); s.Values["n"] != 1 || s.Values["user"] != "ada" {
					t.Errorf("later: %v", s.Values)
				}
				f.WantLive(1)
				if id := b.CookieID(); strings.Contains(id, ".") {
					t.Error("the cookie is still that of an undecided renewal")
				}
				b = b.At(f.Store)
				f.Log.Reset()
				b.WantIn("with the cookie of the decided renewal")
				f.WantCommands("find")
			})
		}
		t.Run(what+", the response is lost as well", func(t *testing.T) {
			t.Parallel()
			if what == "carried out" {
				t.Skip("the tombstone is there: the old ID has ended")
			}
			f := storetest.Setup(t)
			f.Store = f.OpenWith(time.Second)
			b := f.Browser()
			b.Visit(storetest.SetValue("user", "ada"))
			old := b.Clone()
			session := b.Load()
			f.Wire.On("update", fault)
			if err := f.Store.Renew(b.Request(), httptest.NewRecorder(), session); !errors.Is(err, mongostore.ErrUnavailable) {
				t.Errorf("error: %v", err)
			}
			f.Wire.Heal()
			eventuallyReachable(f)
			old.WantIn("the old ID, as long as nobody presents the new one")
		})
	}
}

// TestUndecidedRenewalKeepsTheChangesOfOthers: what other requests store under the old ID before
// the renewal is completed is in the session afterwards. A key that the renewal itself changes is
// the renewal's.
func TestUndecidedRenewalKeepsTheChangesOfOthers(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*mongostore.Config){
		"plain":  func(*mongostore.Config) {},
		"sealed": func(c *mongostore.Config) { c.SealKeys = [][]byte{storetest.SealKey(t)} },
		"owner":  func(c *mongostore.Config) { c.OwnerKey = "user" },
	} {
		for _, when := range []string{"before", "after"} {
			t.Run(what+", "+when, func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t, change)
				f.Store = f.OpenWith(time.Second)
				b := f.Browser()
				b.Visit(func(s *sessions.Session) {
					s.Values["kept"], s.Values["changed"], s.Values["removed"], s.Values["both"] = 1, 1, 1, 1
					s.AddFlash("seen")
				})
				session := b.Load()
				other := b.Clone().At(f.Another())
				byOthers := func() {
					other.Visit(func(s *sessions.Session) {
						s.Values["changed"], s.Values["added"], s.Values["both"] = 2, 2, 2
						delete(s.Values, "removed")
						s.Flashes()
						s.Options.MaxAge = 7200
					})
				}
				if when == "before" {
					byOthers()
				}
				session.Values["user"], session.Values["both"] = "ada", 3
				leaveUndecided(f, b, session, "update", func() {
					if when == "after" {
						byOthers()
					}
				})
				want := map[any]any{"user": "ada", "kept": 1, "changed": 2, "added": 2, "both": 3}
				for range 2 {
					loaded := b.Load()
					if !samples.Same(loaded.Values, want) || loaded.Options.MaxAge != 7200 {
						t.Errorf("values %v, MaxAge %d", loaded.Values, loaded.Options.MaxAge)
					}
				}
				other.WantOut("under the old ID")
				f.WantLive(1)
				b.Visit(storetest.SetValue("n", 1))
				if got := b.Load().Values; got["n"] != 1 || got["added"] != 2 {
					t.Errorf("after a save: %v", got)
				}
			})
		}
	}
}

// TestUndecidedRenewalToAnotherUserMergesNothing: one user's changes are not merged into another's
// session.
func TestUndecidedRenewalToAnotherUserMergesNothing(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
	f.Store = f.OpenWith(time.Second)
	b := f.Browser()
	b.Visit(storetest.SetValue("user", "ada"))
	session := b.Load()
	other := b.Clone().At(f.Another())
	session.Values["user"] = "bob"
	leaveUndecided(f, b, session, "update", func() { other.Visit(storetest.SetValue("secret", "ada's")) })
	if got := b.Load().Values; !samples.Same(got, map[any]any{"user": "bob"}) {
		t.Errorf("values: %v", got)
	}
	other.WantOut("under the old ID")
}

// TestLogoutAfterAnUndecidedRenewalEndsBothIDs: nobody knows which of them lives.
func TestLogoutAfterAnUndecidedRenewalEndsBothIDs(t *testing.T) {
	t.Parallel()
	for what, fault := range map[string]storetest.Rule{
		"carried out":     {Kind: storetest.LoseAnswer, Once: true, Away: true},
		"not carried out": {Kind: storetest.Refuse, Once: true, Away: true},
	} {
		for how, row := range map[string]struct{ outage, again bool }{
			"the same session":               {},
			"the same session, in an outage": {outage: true},
			"loaded again":                   {again: true},
			"loaded again, in an outage":     {outage: true, again: true},
		} {
			t.Run(what+", "+how, func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t)
				f.Store = f.OpenWith(time.Second)
				b := f.Browser().Login()
				old := b.Clone()
				session := b.Load()
				f.Wire.On("update", fault)
				if _, err := b.Renew(session); !errors.Is(err, mongostore.ErrUnavailable) {
					t.Errorf("renewal: %v", err)
				}
				if !row.outage {
					f.Wire.Heal()
					eventuallyReachable(f)
				}
				if row.again {
					session, _ = f.Store.New(b.Request(), storetest.Name) // which fails in an outage
				}
				session.Options.MaxAge = -1
				b.MustSave(session)
				f.Wire.Heal()
				storetest.Eventually(t, "no session is left", func() bool { return len(f.Live()) == 0 })
				old.At(f.Another()).WantOut("the old ID")
			})
		}
	}
}

// eventuallyReachable waits until the store reaches the server again.
func eventuallyReachable(f *storetest.Fixture) {
	f.T.Helper()
	storetest.Eventually(f.T, "the server is reached", func() bool {
		_, err := f.Store.Count(f.T.Context())
		return err == nil
	})
}

// TestUndecidedRenewalOnAReplicaSet: the same where the member that takes writes is
// gone after it has carried the update out, or has not.
func TestUndecidedRenewalOnAReplicaSet(t *testing.T) {
	t.Parallel()
	shutdown := bson.E{Key: "writeConcernError", Value: bson.D{
		{Key: "code", Value: 91}, {Key: "codeName", Value: "ShutdownInProgress"}, {Key: "errmsg", Value: "shutting down"},
	}}
	for what, l := range map[string]storetest.Line{
		"write concern error 91": {Apply: true, Reply: bson.D{shutdown, storetest.Retryable}, Steps: true},
		"write concern error 10107": {Apply: true, Steps: true, Reply: bson.D{{Key: "writeConcernError", Value: bson.D{
			{Key: "code", Value: 10107}, {Key: "codeName", Value: "NotWritablePrimary"}, {Key: "errmsg", Value: "stepping down"},
		}}, storetest.Retryable}},
		"10107":                  {Reply: storetest.NotPrimary, Steps: true},
		"10107 after the update": {Apply: true, Cut: true, Steps: true, Then: &storetest.Line{Reply: storetest.NotPrimary}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f, s := storetest.SetupScripted(t, "rs")
			f.Store = f.OpenWith(2 * time.Second)
			b := f.Browser()
			b.Visit(storetest.SetValue("user", "ada"))
			old := b.Clone()
			session := b.Load()
			s.On("update", l)
			w, err := b.Renew(session)
			if err == nil {
				t.Fatal("the renewal was decided")
			}
			if !errors.Is(err, mongostore.ErrUnavailable) {
				t.Errorf("error: %v", err)
			}
			if len(w.Result().Cookies()) != 1 {
				t.Errorf("cookies: %q", w.Header()["Set-Cookie"])
			}
			s.Heal()
			eventuallyReachable(f)
			b.WantIn("afterwards")
			old.WantOut("the old ID")
		})
	}
}

// TestRenewalThatFailedLeavesTheOldID: where nothing of the renewal has been carried
// out and the database says so, the session goes on as before.
func TestRenewalThatFailedLeavesTheOldID(t *testing.T) {
	t.Parallel()
	for what, command := range map[string]string{"insert": "insert", "update": "update"} {
		f := storetest.Setup(t)
		f.Store = f.OpenWith(5 * time.Second)
		b := f.Browser()
		b.Visit(storetest.SetValue("user", "ada"))
		session := b.Load()
		f.Wire.On(command, storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")})
		w, err := b.Renew(session)
		if !errors.Is(err, mongostore.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
		storetest.WantNoCookie(t, what, w)
		f.Wire.Heal()
		b.WantIn(what)
		storetest.Eventually(t, "one session is left", func() bool { return len(f.Live()) == 1 })
	}
}

// TestFetchWithAForgedSuffixEndsNoOtherSession: an ID that is passed to Fetch is not signed, and
// may name the key of another visitor's session as the one that it was renewed from.
func TestFetchWithAForgedSuffixEndsNoOtherSession(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	victim := f.Browser().Login()
	key, err := f.Store.Key(victim.Load())
	if err != nil {
		t.Fatal(err)
	}
	attacker := f.Browser()
	attacker.Do(storetest.SetValue("user", "eve"))
	names, mac := base64.RawURLEncoding.EncodeToString([]byte("\x00n\x00")), storetest.HashOf("a MAC")
	for _, suffix := range []string{
		key, key + ".", key + ".0.", key + ".1.", key + ".9." + names, key + ".0." + names,
		key + ".0." + names + ".", key + ".0." + names + "." + mac, key + ".1." + names + "." + mac,
		storetest.HashOf("another") + ".0." + names + "." + mac, key + ".-1.?." + mac, key + ".0..." + mac,
	} {
		session, err := f.Store.Fetch(t.Context(), storetest.Name, attacker.CookieID()+"."+suffix)
		if err != nil && !errors.Is(err, mongostore.ErrNotFound) {
			t.Error(err)
		}
		if session != nil && session.Values["user"] != "eve" {
			t.Errorf("%s: values %v", suffix, session.Values)
		}
		victim.WantIn("after a forged ID was fetched")
	}
	if got := attacker.Load().Values; got["user"] != "eve" {
		t.Errorf("values of the attacker: %v", got)
	}
	f.WantDocuments(2)
}

// leaveUndecided renews a session so that neither the caller nor the store knows whether that was carried
// out, and has others do something before the server can be reached again.
func leaveUndecided(f *storetest.Fixture, b *storetest.Browser, session *sessions.Session, command string, meanwhile func()) {
	f.T.Helper()
	rule := storetest.Rule{Kind: storetest.Refuse, Once: true, Away: true}
	if command == "insert" { // of the tombstone
		rule.Skip = 1
	}
	f.Wire.On(command, rule)
	if w, err := b.Renew(session); !errors.Is(err, mongostore.ErrUnavailable) || len(w.Result().Cookies()) != 1 {
		f.T.Fatalf("Renew: %v, %v", err, w.Result().Cookies())
	}
	if meanwhile != nil {
		meanwhile()
	}
	f.Wire.Heal()
	eventuallyReachable(f)
}

// deleteTombstones does what the TTL index does an hour after a renewal, unless they live longer.
func deleteTombstones(f *storetest.Fixture) {
	f.T.Helper()
	inAnHour := bson.D{{Key: "rev", Value: nil}, {Key: "expiresAt", Value: bson.D{{Key: "$lt", Value: time.Now().Add(2 * time.Hour)}}}}
	if _, err := f.Coll.DeleteMany(f.T.Context(), inAnHour); err != nil {
		f.T.Fatal(err)
	}
}

// TestUndecidedRenewalOutlivesItsTombstone: pages that only read never save, so the browser keeps the
// cookie of the undecided renewal.
func TestUndecidedRenewalOutlivesItsTombstone(t *testing.T) {
	t.Parallel()
	for what, rule := range map[string]int{"not carried out": storetest.Refuse, "carried out": storetest.LoseAnswer} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			f.Store = f.OpenWith(time.Second)
			b := f.Browser()
			b.Visit(storetest.SetValue("cart", "tea"))
			session := b.Load()
			session.Values["user"] = "ada"
			f.Wire.On("update", storetest.Rule{Kind: rule, Once: true, Away: true})
			if _, err := b.Renew(session); !errors.Is(err, mongostore.ErrUnavailable) {
				t.Fatal(err)
			}
			f.Wire.Heal()
			eventuallyReachable(f)
			b.Store = f.Another()
			b.WantIn("the next request")
			deleteTombstones(f)
			b.WantIn("some hours later")
		})
	}
}

// TestUndecidedRenewalIsCompletedByAnyStore: one without an OwnerKey leaves the owner, and merges nothing of
// one user into the session of another.
func TestUndecidedRenewalIsCompletedByAnyStore(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"", "ada", "bob"} {
		t.Run("of "+before, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
			f.Store = f.OpenWith(time.Second)
			b := f.Browser()
			b.Visit(func(s *sessions.Session) {
				if s.Values["cart"] = "tea"; before != "" {
					s.Values["user"] = before
				}
			})
			other := b.Clone().At(f.Another())
			session := b.Load()
			session.Values["user"] = "bob"
			leaveUndecided(f, b, session, "update", func() { other.Visit(storetest.SetValue("n", 1)) })
			b.Store = f.Another(func(c *mongostore.Config) { c.OwnerKey = "" })
			values := b.Load().Values
			if merged := values["n"] == 1; merged == (before == "ada") || values["user"] != "bob" {
				t.Errorf("values %v", values)
			}
			if owner, _ := f.Document().Lookup("owner").StringValueOK(); owner != "bob" {
				t.Errorf("the owner is %q", owner)
			}
			if n, err := f.Another().RevokeAll(t.Context(), "bob"); n != 1 || err != nil {
				t.Errorf("%d sessions of bob ended, %v", n, err)
			}
			b.WantOut("after the revocation")
		})
	}
}

// TestUndecidedRenewalSetsItsOwnMaxAge, also if others have changed the old session since.
func TestUndecidedRenewalSetsItsOwnMaxAge(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, storetest.StoreOptions(3600))
	f.Store = f.OpenWith(time.Second)
	b := f.Browser()
	b.Visit(storetest.SetValue("cart", "tea"))
	other := b.Clone().At(f.Another())
	session := b.Load()
	session.Values["user"], session.Options.MaxAge = "ada", 86400
	leaveUndecided(f, b, session, "update", func() {
		other.Visit(func(s *sessions.Session) { s.Values["n"], s.Options.MaxAge = 1, 7200 })
	})
	loaded := b.Load()
	if loaded.Options.MaxAge != 86400 || loaded.Values["n"] != 1 {
		t.Errorf("MaxAge %d, values %v", loaded.Options.MaxAge, loaded.Values)
	}
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(24*time.Hour))
}

// TestUndecidedRenewalOfAMigratedSession ends the old store's cookie when it is completed.
func TestUndecidedRenewalOfAMigratedSession(t *testing.T) {
	t.Parallel()
	old := sessions.NewCookieStore(signingKey)
	f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
	f.Store = f.OpenWith(time.Second)
	b := f.Browser()
	b.LoginAt(old)
	copied := b.Clone().At(f.Another())
	leaveUndecided(f, b, b.Load(), "insert", nil)
	b.Store = f.Another()
	b.WantIn("the next request")
	copied.WantOut("under the old store's cookie")
	f.WantLive(1)
}

// TestUndecidedRenewalLosesToALoginOfTheSameUser: a login form sent twice. What the other login and those
// before it have stored is in both sessions, and is merged only once.
func TestUndecidedRenewalLosesToALoginOfTheSameUser(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
	f.Store = f.OpenWith(time.Second)
	one := f.Browser()
	one.Visit(func(s *sessions.Session) { s.Values["cart"] = "tea"; s.AddFlash("seen") })
	two := one.Clone().At(f.Another())
	session := one.Load()
	session.Values["user"], session.Values["first"] = "ada", 1
	leaveUndecided(f, one, session, "update", func() {
		two.Visit(func(s *sessions.Session) { s.Values["cart"] = "coffee"; s.Flashes() })
		login := two.Load()
		login.Values["user"], login.Values["second"] = "ada", 2
		two.MustRenew(login)
	})
	one.Store = f.Another()
	want := map[any]any{"user": "ada", "cart": "coffee", "first": 1, "second": 2}
	if got := one.Load().Values; !samples.Same(got, want) {
		t.Errorf("values %v, want %v", got, want)
	}
	deleteTombstones(f) // after one request only
	held := one.Clone() // with the cookie of the undecided renewal
	one.Visit(func(s *sessions.Session) { s.Values["cart"] = "milk" })
	if got := held.Load().Values["cart"]; got != "milk" {
		t.Errorf("after a save the cart has %v", got)
	}
	two.WantIn("the other login")
	deleteTombstones(f)
	held.WantIn("some hours later")
}

// TestLogoutDuringACompletionIsFinal: a request has merged what others had stored, and then could not end
// the old ID. A logout under that one ends both, also if it leaves a tombstone.
func TestLogoutDuringACompletionIsFinal(t *testing.T) {
	t.Parallel()
	for _, migrated := range []bool{false, true} {
		t.Run(fmt.Sprint("migrated ", migrated), func(t *testing.T) {
			t.Parallel()
			store := sessions.NewCookieStore(signingKey)
			f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = store })
			f.Store = f.OpenWith(time.Second)
			b := f.Browser()
			if migrated {
				b.LoginAt(store)
			}
			b.Visit(storetest.SetValue("n", 1))
			old := b.Clone().At(f.Another())
			session := b.Load()
			session.Values["user"] = "ada"
			leaveUndecided(f, b, session, "update", func() { old.Visit(storetest.SetValue("n", 2)) })
			refusal := storetest.Refusal(13, "Unauthorized")
			f.Wire.On("update", storetest.Rule{Kind: storetest.Answer, Skip: 1, Once: true, Reply: refusal})
			if _, err := f.Store.New(b.Request(), storetest.Name); !errors.Is(err, mongostore.ErrUnavailable) {
				t.Fatalf("the completion: %v", err)
			}
			f.Wire.Heal()
			old.Logout()
			b.At(f.Another()).WantOut("under the new ID")
			f.WantLive(0)
		})
	}
}

// TestRemovalEndsBothIDsOfAnUndecidedRenewal, also by a store that has not loaded the session.
func TestRemovalEndsBothIDsOfAnUndecidedRenewal(t *testing.T) {
	t.Parallel()
	for _, unknown := range []bool{false, true} {
		f := storetest.Setup(t)
		f.Store = f.OpenWith(time.Second)
		b := f.Browser().Login()
		old := b.Clone().At(f.Another())
		session := b.Load()
		leaveUndecided(f, b, session, "update", nil)
		store := f.Store
		if unknown {
			store = f.Another()
		}
		if err := store.Remove(t.Context(), session); err != nil {
			t.Error(err)
		}
		old.WantOut("under the old ID")
		b.At(f.Another()).WantOut("under the new one")
	}
}

// TestRevocationFollowsManyRenewals: each leaves a tombstone for an hour, and some applications
// renew at every request.
func TestRevocationFollowsManyRenewals(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	key, err := f.Store.Key(b.Load())
	if err != nil {
		t.Fatal(err)
	}
	for range 17 {
		b.MustRenew(b.Load())
	}
	if err := f.Store.Revoke(t.Context(), key); err != nil {
		t.Error(err)
	}
	b.WantOut("after the revocation")
}

// TestRepeatedRenewalEndsTheOldID: a renewal that is repeated after ErrUnavailable returns nil
// only when the ID before the first attempt has ended too.
func TestRepeatedRenewalEndsTheOldID(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	f.Store = f.OpenWith(time.Second)
	b := f.Browser()
	b.Visit(storetest.SetValue("user", "ada"))
	old := b.Clone()
	session := b.Load()
	leaveUndecided(f, b, session, "update", nil)
	b.MustRenew(session)
	old.WantOut("the old ID after a renewal that returned nil")
}

// TestPersistReportsAnUndecidedRenewal: the old ID may still work.
func TestPersistReportsAnUndecidedRenewal(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	f.Store = f.OpenWith(time.Second)
	b := f.Browser()
	b.Visit(storetest.SetValue("user", "ada"))
	old := b.Clone()
	session := b.Load()
	session.ID = ""
	f.Wire.On("update", storetest.Rule{Kind: storetest.Refuse, Once: true, Away: true})
	err := f.Store.Persist(t.Context(), session)
	f.Wire.Heal()
	eventuallyReachable(f)
	if s := old.Load(); err == nil && !s.IsNew {
		t.Error("Persist returned nil while the old ID works")
	}
	if !errors.Is(err, mongostore.ErrUnavailable) {
		t.Errorf("error: %v", err)
	}
}

// TestLogoutBeforeAnUndecidedRenewalLeavesNoValues: the new cookie of a renewal that was not
// carried out, and whose session a logout has ended, leads to a new session without values.
func TestLogoutBeforeAnUndecidedRenewalLeavesNoValues(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	f.Store = f.OpenWith(time.Second)
	b := f.Browser().Login()
	old := b.Clone()
	session := b.Load()
	leaveUndecided(f, b, session, "update", nil)
	old.Logout()
	b.WantOut("the new cookie")
	f.WantDocuments(0)
}

// TestSecondLoginKeepsTheCreationTime: a login with the old cookie, right after another login of
// the same user, makes a session of the renewed one, which is as old as that.
func TestSecondLoginKeepsTheCreationTime(t *testing.T) {
	t.Parallel()
	f := storetest.SetupOwners(t)
	b := f.Browser()
	b.Visit(storetest.SetValue("cart", "tea"))
	f.Older(time.Hour)
	second := b.Clone()
	session := b.Load()
	session.Values["user"] = "ada"
	b.MustRenew(session)
	want := f.Document().Lookup("createdAt").Time()
	late := second.Load()
	late.Values["user"] = "ada"
	second.MustRenew(late)
	for _, doc := range f.Live() {
		if got := doc.Lookup("createdAt").Time(); !got.Equal(want) {
			t.Errorf("created at %s, want %s", got, want)
		}
	}
	if s := second.Load(); s.Values["cart"] != "tea" {
		t.Errorf("values: %v", s.Values)
	}
}

// TestUndecidedRenewalIsCompletedByASecondStore that renews or saves the same session.
func TestUndecidedRenewalIsCompletedByASecondStore(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	f.Store = f.OpenWith(time.Second)
	b := f.Browser()
	b.Visit(storetest.SetValue("cart", "tea"))
	stolen := b.Clone().At(f.Another())
	session := b.Load()
	session.Values["user"] = "ada"
	leaveUndecided(f, b, session, "update", nil)
	second := f.Open()
	session.Values["n"] = 1
	if err := second.Renew(b.Request(), httptest.NewRecorder(), session); err != nil {
		t.Fatal(err)
	}
	stolen.WantOut("the old ID after Renew returned nil")
}

// TestUndecidedRenewalOutlivesTheLoginThatWon, which expires.
func TestUndecidedRenewalOutlivesTheLoginThatWon(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
	f.Store = f.OpenWith(time.Second)
	one := f.Browser()
	one.Visit(storetest.SetValue("cart", "tea"))
	two := one.Clone().At(f.Another())
	session := one.Load()
	session.Values["user"] = "ada"
	leaveUndecided(f, one, session, "update", func() {
		login := two.Load()
		login.Values["user"] = "ada"
		two.MustRenew(login)
	})
	one.Store = f.Another()
	one.WantIn("the next request")
	if _, err := f.Coll.UpdateOne(t.Context(), bson.D{{Key: "_id", Value: storetest.HashOf(two.CookieID())}}, storetest.SetDate("expiresAt", time.Now().Add(-time.Second))); err != nil {
		t.Fatal(err)
	}
	one.WantIn("after the other login has expired")
}

// TestUndecidedRenewalOutlivesItsTombstoneWithALongerMaxAge that another request has set.
func TestUndecidedRenewalOutlivesItsTombstoneWithALongerMaxAge(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, storetest.StoreOptions(3600))
	f.Store = f.OpenWith(time.Second)
	b := f.Browser()
	b.Visit(storetest.SetValue("cart", "tea"))
	other := b.Clone().At(f.Another())
	session := b.Load()
	session.Values["user"] = "ada"
	leaveUndecided(f, b, session, "update", func() {
		other.Visit(func(s *sessions.Session) { s.Options.MaxAge = 30 * 86400 })
	})
	b.Store = f.Another()
	b.WantIn("the next request")
	deleteTombstones(f)
	b.WantIn("some hours later")
}
