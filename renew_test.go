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

// TestAbsoluteTimeout ends a session however often it is used, renewed or touched.
func TestAbsoluteTimeout(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) {
		c.AbsoluteTimeout = 2 * time.Hour
		c.Options = &sessions.Options{Path: "/", MaxAge: 3600}
	})
	b := f.Browser().Login()
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(time.Hour))

	age := func(d time.Duration) {
		f.Edit(bson.D{{Key: "$set", Value: bson.D{
			{Key: "createdAt", Value: time.Now().Add(-d)}, {Key: "seenAt", Value: time.Now().Add(-30 * time.Minute)},
		}}})
	}
	age(90 * time.Minute)
	b.Do(func(*sessions.Session) {}) // a touch
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(30*time.Minute))
	f.Edit(storetest.SetDate("expiresAt", time.Now().Add(time.Minute)))
	b.Do(func(s *sessions.Session) { s.Values["n"] = 1 })
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(30*time.Minute))
	if _, err := b.Renew(b.Load()); err != nil {
		t.Fatal(err)
	}
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(30*time.Minute))
	b.Do(func(s *sessions.Session) { s.Options.MaxAge = 30 * 24 * 3600 }) // "remember me" does not help
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(30*time.Minute))

	// Also when the timeout was set after the session was stored.
	age(121 * time.Minute)
	f.Edit(storetest.SetDate("expiresAt", time.Now().Add(time.Hour)))
	if !b.Load().IsNew {
		t.Error("a session has outlived the absolute timeout")
	}
	if n, err := f.Store.Count(t.Context()); n != 0 || err != nil {
		t.Errorf("Count: %d, %v", n, err)
	}
}

// TestConflict: with Reject the second of two changes to a key fails, and nothing of it is
// written; different keys still merge.
func TestConflict(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OnConflict = mongostore.Reject })
	b := f.Browser()
	b.Do(func(s *sessions.Session) { s.Values["a"], s.Values["b"], s.Values["list"] = 1, 1, []any{1} })

	for what, changes := range map[string][2]func(*sessions.Session){
		"same key":          {func(s *sessions.Session) { s.Values["a"] = 2 }, func(s *sessions.Session) { s.Values["a"] = 3 }},
		"same new key":      {func(s *sessions.Session) { s.Values["n"] = 2 }, func(s *sessions.Session) { s.Values["n"] = 3 }},
		"same value":        {func(s *sessions.Session) { s.Values["a"] = 4 }, func(s *sessions.Session) { s.Values["a"] = 4 }},
		"change, deletion":  {func(s *sessions.Session) { s.Values["b"] = 5 }, func(s *sessions.Session) { delete(s.Values, "b") }},
		"list of the value": {func(s *sessions.Session) { s.Values["list"] = []any{[]byte("x")} }, func(s *sessions.Session) { s.Values["list"] = 1 }},
	} {
		first, second := b.Load(), b.Load()
		changes[0](first)
		changes[1](second)
		second.Values["other"] = what
		if _, err := b.Save(first); err != nil {
			t.Fatalf("%s: first save: %v", what, err)
		}
		before := f.Document()
		w, err := b.Clone().Save(second)
		if !errors.Is(err, mongostore.ErrConflict) || w.Header()["Set-Cookie"] != nil {
			t.Errorf("%s: second save: %v", what, err)
		}
		if after := f.Document(); string(after) != string(before) {
			t.Errorf("%s: a rejected save was written", what)
		}
	}

	// Different keys, in any number of requests at once.
	var loaded []*sessions.Session
	for range 20 {
		loaded = append(loaded, b.Load())
	}
	var wg sync.WaitGroup
	for i, session := range loaded {
		wg.Go(func() {
			session.Values[i] = i
			if _, err := b.Clone().Save(session); err != nil {
				t.Errorf("another key: %v", err)
			}
		})
	}
	wg.Wait()
	got := b.Load()
	for i := range loaded {
		if got.Values[i] != i {
			t.Errorf("key %d is lost", i)
		}
	}

	// What a session has not seen it cannot overwrite, also after a merge.
	one, two := b.Load(), b.Load()
	one.Values["x"] = 1
	two.Values["y"] = 1
	for _, s := range []*sessions.Session{one, two} {
		if _, err := b.Save(s); err != nil {
			t.Fatal(err)
		}
	}
	two.Values["x"] = 2
	if _, err := b.Save(two); !errors.Is(err, mongostore.ErrConflict) {
		t.Errorf("a key that was merged unseen: %v", err)
	}
	// Its own keys it can.
	three := b.Load()
	for i := range 3 {
		three.Values["mine"] = i
		if _, err := b.Save(three); err != nil {
			t.Errorf("save %d of one session: %v", i, err)
		}
	}

	// A counter that handlers raise with the retry that is documented loses nothing.
	b.Do(func(s *sessions.Session) { s.Values["counter"] = 0 })
	for range 5 {
		wg.Go(func() {
			mine := b.Clone()
			for {
				session := mine.Load()
				n, _ := session.Values["counter"].(int)
				session.Values["counter"] = n + 1
				_, err := mine.Save(session)
				if errors.Is(err, mongostore.ErrConflict) {
					continue
				}
				if err != nil {
					t.Error(err)
				}
				return
			}
		})
	}
	wg.Wait()
	if n := b.Load().Values["counter"]; n != 5 {
		t.Errorf("counter: %v, want 5", n)
	}

	// And a logout is a logout.
	late := b.Load()
	b.Clone().Logout()
	late.Values["a"] = 1
	if _, err := b.Save(late); !errors.Is(err, mongostore.ErrGone) {
		t.Errorf("after the logout: %v", err)
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
