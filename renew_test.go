package mongostore_test

import (
	"errors"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestRenew: a fresh ID, the same session.
func TestRenew(t *testing.T) {
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
	f.WantCommands("find", "insert", "update", "delete")
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
}

// TestRenewNew: a login of a visitor without a session is a Save.
func TestRenewNew(t *testing.T) {
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

// TestRenewRefused: what cannot be saved cannot be renewed.
func TestRenewRefused(t *testing.T) {
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

// TestRenewUnderFire: while requests change the session, it is renewed again and again; no
// change is lost, and there is never more than one winner.
func TestRenewUnderFire(t *testing.T) {
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

// TestRenewForAnotherOwner: what the former user's requests change meanwhile does not reach
// the next one.
func TestRenewForAnotherOwner(t *testing.T) {
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

// TestFrozenWhileRenewed: once a renewal has decided, the old document takes no writes, so
// none can be lost in it, whatever becomes of its deletion.
func TestFrozenWhileRenewed(t *testing.T) {
	t.Parallel()
	for what, then := range map[string]storetest.Rule{
		"deleted":         {},
		"deletion fails":  {Kind: storetest.Answer, Reply: storetest.Refusal(11600, "InterruptedAtShutdown"), Once: true},
		"its answer lost": {Kind: storetest.LoseAnswer, Once: true},
	} {
		f := storetest.Setup(t, impatient)
		b := f.Browser().Login()
		late := []*sessions.Session{b.Load(), b.Load()}
		old, renewer, session := b.Clone(), b.Clone(), b.Load()
		seen, gate := make(chan struct{}, 1), make(chan struct{})
		f.Wire.On("delete", storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: gate})
		done := make(chan error)
		go func() {
			_, err := renewer.Renew(session)
			done <- err
		}()
		<-seen
		late[0].Values["n"] = 1
		late[1].Options.MaxAge = 60
		for _, s := range late {
			if w, err := b.Clone().Save(s); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("%s: a save in between: %v", what, err)
			}
		}
		if !old.Load().IsNew {
			t.Errorf("%s: the old ID works", what)
		}
		f.Wire.On("find", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(11600, "InterruptedAtShutdown")})
		if then.Kind != storetest.Pass {
			f.Wire.On("delete", then)
		}
		close(gate)
		if err := <-done; err != nil {
			t.Errorf("%s: the renewal: %v", what, err)
		}
		f.Wire.Heal()
		if s := renewer.Load(); s.Values["user"] != "ada" {
			t.Errorf("%s: the session is lost: %v", what, s.Values)
		}
		if !old.Load().IsNew {
			t.Errorf("%s: the old ID works", what)
		}
		storetest.Eventually(t, "one document is left", func() bool { return len(f.Documents()) == 1 })
	}
}

// TestTouchOfRenewed: also a touch of what has moved is refused.
func TestTouchOfRenewed(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	f.Edit(storetest.SetDate("seenAt", time.Now().Add(-time.Hour)))
	touch, session := b.Load(), b.Load()
	seen, gate := make(chan struct{}, 1), make(chan struct{})
	f.Wire.On("delete", storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: gate})
	done := make(chan error)
	go func() {
		_, err := b.Clone().Renew(session)
		done <- err
	}()
	<-seen
	if w, err := b.Clone().Save(touch); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
		t.Errorf("the touch: %v", err)
	}
	close(gate)
	if err := <-done; err != nil {
		t.Error(err)
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
	storetest.Eventually(t, "the removal has been repeated", func() bool { return len(f.Documents()) == 2 })
	if _, err := other.Renew(otherSession); err != nil { // hangs, if it waits for the slow one
		t.Error(err)
	}
	close(gate)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestRenewOfForeignSession: a store that does not know where a session is stored cannot promise
// that the old ID is dead.
func TestRenewOfForeignSession(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	second := b.Clone()
	second.Store = f.Open()
	loaded := b.Load()
	copied := &sessions.Session{ID: loaded.ID, Values: loaded.Values}
	for _, err := range []error{
		f.Store.Renew(b.Request(), httptest.NewRecorder(), copied),
		second.Store.Renew(b.Request(), httptest.NewRecorder(), loaded),
	} {
		if err == nil {
			t.Error("no error")
		}
	}
	f.WantDocuments(1)
}

// TestRenewCarriesMaxAge: another request's MaxAge comes along, and is not taken back by the
// next save of the session.
func TestRenewCarriesMaxAge(t *testing.T) {
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

// TestLateOwner: an owner that is made of values from before is not made of stale ones.
func TestLateOwner(t *testing.T) {
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

// TestRenewalKeepsItsChange: what a renewal itself changes, it still does if another request
// changes the key in the same way, and then a third in another, all before the renewal
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

		// Both come from another process, before the renewal marks the old document,
		// and before it has brought the first of them into the new one.
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

// TestRenewalKeepsItsOwner: a login by renewal stays that user's session, whoever else
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

// Histories that the model taught: each is what one of its failures shrank to, over the store as
// it was, or with a mistake made on purpose.

// TestRenewalLearnsMaxAge: another request has chosen "remember me"; the cookie of a renewal says
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

// TestRenewalLearnsOwner: another request has taken the user out of the session, or put one in; the
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

// TestRenewalCarriesDeletion: what another request has deleted does not come back under the new ID.
func TestRenewalCarriesDeletion(t *testing.T) {
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

// TestMoves: of moves at once one wins, a logout is not undone by one, and a change made
// meanwhile is carried over.
func TestMoves(t *testing.T) {
	t.Parallel()
	t.Run("two at once", func(t *testing.T) {
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
	for _, command := range []string{"insert", "delete"} {
		for what, r := range map[string]storetest.Rule{
			"refused":     {Kind: storetest.Answer, Reply: storetest.Refusal(10107, "NotWritablePrimary"), Once: true},
			"cut":         {Kind: storetest.Refuse, Once: true},
			"answer lost": {Kind: storetest.LoseAnswer, Once: true},
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
				if command == "delete" {
					storetest.Eventually(t, "the old document is removed", func() bool { return len(f.Documents()) == 1 })
				}
			})
		}
	}
}

// TestFetchRenewed: a renewed session is found by its new ID only.
func TestFetchRenewed(t *testing.T) {
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
