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
)

// renew is a request that renews the session, after a change to it.
func (b *browser) renew(session *sessions.Session) (*httptest.ResponseRecorder, error) {
	w := httptest.NewRecorder()
	err := b.store.Renew(b.request(), w, session)
	b.receive(w)
	return w, err
}

// TestRenew: a fresh ID, the same session.
func TestRenew(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser()
	b.do(func(s *sessions.Session) { s.Values["cart"], s.Options.MaxAge = []string{"tea"}, 3600 })
	f.edit(setDate("createdAt", time.Now().Add(-time.Hour)))
	created := f.document().Lookup("createdAt").Time()
	before := b.clone()

	f.log.reset()
	session := b.load()
	oldID := session.ID
	session.Values["user"] = "ada"
	if _, err := b.renew(session); err != nil {
		t.Fatal(err)
	}
	f.wantCommands("find", "insert", "update", "delete")
	if session.ID == oldID || session.ID == "" {
		t.Error("the ID is not fresh")
	}
	doc := f.document()
	if doc.Lookup("_id").StringValue() != hashOf(session.ID) || !doc.Lookup("createdAt").Time().Equal(created) {
		t.Errorf("document: %v", doc)
	}
	if s := b.load(); s.Values["user"] != "ada" || s.Values["cart"] == nil || s.Options.MaxAge != 3600 {
		t.Errorf("renewed session: %v, MaxAge %d", s.Values, s.Options.MaxAge)
	}
	if !before.load().IsNew {
		t.Error("the old ID still works")
	}
	// The session goes on under the new ID.
	session.Values["n"] = 1
	if _, err := b.save(session); err != nil {
		t.Fatal(err)
	}
	f.wantDocuments(1)
}

// TestRenewNew: a login of a visitor without a session is a Save.
func TestRenewNew(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser()
	session := b.load()
	session.Values["user"] = "ada"
	if _, err := b.renew(session); err != nil {
		t.Fatal(err)
	}
	f.wantCommands("insert")
	if s := b.load(); s.Values["user"] != "ada" {
		t.Errorf("values: %v", s.Values)
	}
}

// TestRenewRefused: what cannot be saved cannot be renewed.
func TestRenewRefused(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser().login()
	session := b.load()
	f.edit(bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: 2}}}})
	damaged, err := f.store.New(b.request(), name)
	if !errors.Is(err, mongostore.ErrCorrupt) {
		t.Fatal(err)
	}
	if _, err := b.renew(damaged); !errors.Is(err, mongostore.ErrCorrupt) {
		t.Errorf("damaged: %v", err)
	}
	if err := f.store.Renew(b.request(), httptest.NewRecorder(), nil); err == nil {
		t.Error("nil session: no error")
	}
	session.Values["f"] = func() {}
	if w, err := b.renew(session); err == nil || w.Header()["Set-Cookie"] != nil {
		t.Errorf("value that cannot be stored: %v", err)
	}
	f.wantDocuments(1)
	session.Options.MaxAge = -1
	if _, err := b.renew(session); err != nil {
		t.Errorf("negative MaxAge: %v", err)
	}
	f.wantDocuments(0)
}

// TestRenewUnderFire: while requests change the session, it is renewed again and again; no
// change is lost, and there is never more than one winner.
func TestRenewUnderFire(t *testing.T) {
	t.Parallel()
	const rounds, writers, renewers = 10, 6, 3
	f := setup(t)
	for range rounds {
		b := f.browser().login()
		var writing, renewing []*sessions.Session
		for range writers {
			writing = append(writing, b.load())
		}
		for range renewers {
			renewing = append(renewing, b.load())
		}
		var mu sync.Mutex
		saved := map[string]bool{}
		var winners []*browser
		var wg sync.WaitGroup
		for i, session := range writing {
			wg.Go(func() {
				key := string(rune('a' + i))
				session.Values[key] = i
				_, err := b.clone().save(session)
				if err != nil && !errors.Is(err, mongostore.ErrGone) {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				saved[key] = err == nil
			})
		}
		for _, session := range renewing {
			mine := b.clone()
			wg.Go(func() {
				_, err := mine.renew(session)
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
		got := winners[0].load()
		for key, ok := range saved {
			if _, there := got.Values[key]; there != ok {
				t.Errorf("key %s: its save succeeded: %t; it is there: %t", key, ok, there)
			}
		}
		if !b.load().IsNew {
			t.Error("the old ID still works")
		}
		f.wantDocuments(1)
		winners[0].logout()
	}
}

// TestAbsoluteTimeout ends a session however often it is used, renewed or touched.
func TestAbsoluteTimeout(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *mongostore.Config) {
		c.AbsoluteTimeout = 2 * time.Hour
		c.Options = &sessions.Options{Path: "/", MaxAge: 3600}
	})
	b := f.browser().login()
	wantTime(t, f.document(), "expiresAt", time.Now().Add(time.Hour))

	age := func(d time.Duration) {
		f.edit(bson.D{{Key: "$set", Value: bson.D{
			{Key: "createdAt", Value: time.Now().Add(-d)}, {Key: "seenAt", Value: time.Now().Add(-30 * time.Minute)},
		}}})
	}
	age(90 * time.Minute)
	b.do(func(*sessions.Session) {}) // a touch
	wantTime(t, f.document(), "expiresAt", time.Now().Add(30*time.Minute))
	f.edit(setDate("expiresAt", time.Now().Add(time.Minute)))
	b.do(func(s *sessions.Session) { s.Values["n"] = 1 })
	wantTime(t, f.document(), "expiresAt", time.Now().Add(30*time.Minute))
	if _, err := b.renew(b.load()); err != nil {
		t.Fatal(err)
	}
	wantTime(t, f.document(), "expiresAt", time.Now().Add(30*time.Minute))
	b.do(func(s *sessions.Session) { s.Options.MaxAge = 30 * 24 * 3600 }) // "remember me" does not help
	wantTime(t, f.document(), "expiresAt", time.Now().Add(30*time.Minute))

	// Also when the timeout was set after the session was stored.
	age(121 * time.Minute)
	f.edit(setDate("expiresAt", time.Now().Add(time.Hour)))
	if !b.load().IsNew {
		t.Error("a session has outlived the absolute timeout")
	}
	if n, err := f.store.Count(t.Context()); n != 0 || err != nil {
		t.Errorf("Count: %d, %v", n, err)
	}
}

// TestConflict: with Reject the second of two changes to a key fails, and nothing of it is
// written; different keys still merge.
func TestConflict(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *mongostore.Config) { c.OnConflict = mongostore.Reject })
	b := f.browser()
	b.do(func(s *sessions.Session) { s.Values["a"], s.Values["b"], s.Values["list"] = 1, 1, []any{1} })

	for what, changes := range map[string][2]func(*sessions.Session){
		"same key":          {func(s *sessions.Session) { s.Values["a"] = 2 }, func(s *sessions.Session) { s.Values["a"] = 3 }},
		"same new key":      {func(s *sessions.Session) { s.Values["n"] = 2 }, func(s *sessions.Session) { s.Values["n"] = 3 }},
		"same value":        {func(s *sessions.Session) { s.Values["a"] = 4 }, func(s *sessions.Session) { s.Values["a"] = 4 }},
		"change, deletion":  {func(s *sessions.Session) { s.Values["b"] = 5 }, func(s *sessions.Session) { delete(s.Values, "b") }},
		"list of the value": {func(s *sessions.Session) { s.Values["list"] = []any{[]byte("x")} }, func(s *sessions.Session) { s.Values["list"] = 1 }},
	} {
		first, second := b.load(), b.load()
		changes[0](first)
		changes[1](second)
		second.Values["other"] = what
		if _, err := b.save(first); err != nil {
			t.Fatalf("%s: first save: %v", what, err)
		}
		before := f.document()
		w, err := b.clone().save(second)
		if !errors.Is(err, mongostore.ErrConflict) || w.Header()["Set-Cookie"] != nil {
			t.Errorf("%s: second save: %v", what, err)
		}
		if after := f.document(); string(after) != string(before) {
			t.Errorf("%s: a rejected save was written", what)
		}
	}

	// Different keys, in any number of requests at once.
	var loaded []*sessions.Session
	for range 20 {
		loaded = append(loaded, b.load())
	}
	var wg sync.WaitGroup
	for i, session := range loaded {
		wg.Go(func() {
			session.Values[i] = i
			if _, err := b.clone().save(session); err != nil {
				t.Errorf("another key: %v", err)
			}
		})
	}
	wg.Wait()
	got := b.load()
	for i := range loaded {
		if got.Values[i] != i {
			t.Errorf("key %d is lost", i)
		}
	}

	// What a session has not seen it cannot overwrite, also after a merge.
	one, two := b.load(), b.load()
	one.Values["x"] = 1
	two.Values["y"] = 1
	for _, s := range []*sessions.Session{one, two} {
		if _, err := b.save(s); err != nil {
			t.Fatal(err)
		}
	}
	two.Values["x"] = 2
	if _, err := b.save(two); !errors.Is(err, mongostore.ErrConflict) {
		t.Errorf("a key that was merged unseen: %v", err)
	}
	// Its own keys it can.
	three := b.load()
	for i := range 3 {
		three.Values["mine"] = i
		if _, err := b.save(three); err != nil {
			t.Errorf("save %d of one session: %v", i, err)
		}
	}

	// A counter that handlers raise with the retry that is documented loses nothing.
	b.do(func(s *sessions.Session) { s.Values["counter"] = 0 })
	for range 5 {
		wg.Go(func() {
			mine := b.clone()
			for {
				session := mine.load()
				n, _ := session.Values["counter"].(int)
				session.Values["counter"] = n + 1
				_, err := mine.save(session)
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
	if n := b.load().Values["counter"]; n != 5 {
		t.Errorf("counter: %v, want 5", n)
	}

	// And a logout is a logout.
	late := b.load()
	b.clone().logout()
	late.Values["a"] = 1
	if _, err := b.save(late); !errors.Is(err, mongostore.ErrGone) {
		t.Errorf("after the logout: %v", err)
	}
}

// TestRenewForAnotherOwner: what the former user's requests change meanwhile does not reach
// the next one.
func TestRenewForAnotherOwner(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
	b := f.browser()
	b.do(func(s *sessions.Session) { s.Values["user"] = "eve" })
	session := b.load()
	clear(session.Values)
	session.Values["user"] = "ada"
	b.clone().do(func(s *sessions.Session) { s.Values["cart"] = "of eve" })
	if _, err := b.renew(session); err != nil {
		t.Fatal(err)
	}
	if s := b.load(); len(s.Values) != 1 || s.Values["user"] != "ada" {
		t.Errorf("values: %v", s.Values)
	}
}

// TestFrozenWhileRenewed: once a renewal has decided, the old document takes no writes, so
// none can be lost in it, whatever becomes of its deletion.
func TestFrozenWhileRenewed(t *testing.T) {
	t.Parallel()
	for what, then := range map[string]rule{
		"deleted":         {},
		"deletion fails":  {kind: answer, reply: refusal(11600, "InterruptedAtShutdown"), once: true},
		"its answer lost": {kind: loseAnswer, once: true},
	} {
		f := setup(t, impatient)
		b := f.browser().login()
		late := []*sessions.Session{b.load(), b.load()}
		old, renewer, session := b.clone(), b.clone(), b.load()
		seen, gate := make(chan struct{}, 1), make(chan struct{})
		f.wire.on("delete", rule{kind: hold, once: true, seen: seen, gate: gate})
		done := make(chan error)
		go func() {
			_, err := renewer.renew(session)
			done <- err
		}()
		<-seen
		late[0].Values["n"] = 1
		late[1].Options.MaxAge = 60
		for _, s := range late {
			if w, err := b.clone().save(s); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("%s: a save in between: %v", what, err)
			}
		}
		if !old.load().IsNew {
			t.Errorf("%s: the old ID works", what)
		}
		f.wire.on("find", rule{kind: answer, reply: refusal(11600, "InterruptedAtShutdown")})
		if then.kind != pass {
			f.wire.on("delete", then)
		}
		close(gate)
		if err := <-done; err != nil {
			t.Errorf("%s: the renewal: %v", what, err)
		}
		f.wire.heal()
		if s := renewer.load(); s.Values["user"] != "ada" {
			t.Errorf("%s: the session is lost: %v", what, s.Values)
		}
		if !old.load().IsNew {
			t.Errorf("%s: the old ID works", what)
		}
		eventually(t, "one document is left", func() bool { return len(f.documents()) == 1 })
	}
}

// TestTouchOfRenewed: also a touch of what has moved is refused.
func TestTouchOfRenewed(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser().login()
	f.edit(setDate("seenAt", time.Now().Add(-time.Hour)))
	touch, session := b.load(), b.load()
	seen, gate := make(chan struct{}, 1), make(chan struct{})
	f.wire.on("delete", rule{kind: hold, once: true, seen: seen, gate: gate})
	done := make(chan error)
	go func() {
		_, err := b.clone().renew(session)
		done <- err
	}()
	<-seen
	if w, err := b.clone().save(touch); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
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
	f := setup(t)
	slow, out, other := f.browser().login(), f.browser().login(), f.browser().login()
	slowSession, otherSession := slow.load(), other.load()
	seen, gate := make(chan struct{}, 1), make(chan struct{})
	f.wire.on("insert", rule{kind: hold, once: true, seen: seen, gate: gate})
	done := make(chan error)
	go func() {
		_, err := slow.renew(slowSession)
		done <- err
	}()
	<-seen
	f.wire.on("delete", rule{kind: answer, once: true, reply: refusal(11600, "InterruptedAtShutdown")})
	out.logout()
	eventually(t, "the removal has been repeated", func() bool { return len(f.documents()) == 2 })
	if _, err := other.renew(otherSession); err != nil { // hangs, if it waits for the slow one
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
	f := setup(t)
	b := f.browser().login()
	second := b.clone()
	second.store = f.open()
	loaded := b.load()
	copied := &sessions.Session{ID: loaded.ID, Values: loaded.Values}
	for _, err := range []error{
		f.store.Renew(b.request(), httptest.NewRecorder(), copied),
		second.store.Renew(b.request(), httptest.NewRecorder(), loaded),
	} {
		if err == nil {
			t.Error("no error")
		}
	}
	f.wantDocuments(1)
}

// TestRenewCarriesMaxAge: another request's MaxAge comes along, and is not taken back by the
// next save of the session.
func TestRenewCarriesMaxAge(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser().login()
	session := b.load()
	b.clone().do(func(s *sessions.Session) { s.Options.MaxAge = 1800 })
	if _, err := b.renew(session); err != nil {
		t.Fatal(err)
	}
	session.Values["n"] = 1
	if _, err := b.save(session); err != nil {
		t.Fatal(err)
	}
	if age, err := f.document().LookupErr("maxAge"); err != nil || age.AsInt64() != 1800 {
		t.Errorf("maxAge: %v, %v", age, err)
	}
}

// TestLateOwner: an owner that is made of values from before is not made of stale ones.
func TestLateOwner(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"save", "renew"} {
		f := setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
		b := f.browser().login()
		f.edit(bson.D{{Key: "$unset", Value: bson.D{{Key: "owner", Value: ""}}}})
		slow := b.load()
		b.do(func(s *sessions.Session) { s.Values["user"] = "bob" })
		slow.Values["n"] = 1
		var err error
		if how == "save" {
			_, err = b.save(slow)
		} else {
			_, err = b.renew(slow)
		}
		if err != nil {
			t.Fatal(err)
		}
		if s := b.load(); s.Values["user"] != "bob" || s.Values["n"] != 1 || f.document().Lookup("owner").StringValue() != "bob" {
			t.Errorf("%s: %v", how, f.document())
		}
	}
}
