package mongostore_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
)

// TestFailedRemoval: when the database fails at a logout the visitor is logged out all the
// same, and the document goes as soon as the database allows.
func TestFailedRemoval(t *testing.T) {
	t.Parallel()
	for what, fail := range map[string]func(*fixture){
		"refused":     func(f *fixture) { f.wire.on("delete", rule{kind: answer, reply: refusal(13, "Unauthorized")}) },
		"cut":         func(f *fixture) { f.wire.on("delete", rule{kind: refuse}) },
		"answer lost": func(f *fixture) { f.wire.on("delete", rule{kind: loseAnswer}) },
		"hanging":     func(f *fixture) { f.wire.on("delete", rule{kind: hang}) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			const timeout = 2 * time.Second
			f := setup(t, func(c *mongostore.Config) { c.Timeout = timeout })
			b := f.browser().login()
			stolen, late := b.clone(), b.load()
			fail(f)
			start := time.Now()
			b.logout() // fails the test on an error, or without a cookie
			// One command, whatever becomes of it. A Timeout doubled twice is longer.
			if d := time.Since(start); d > timeout+2*slack {
				t.Errorf("the logout took %v", d)
			}
			if len(b.cookies) > 0 {
				t.Error("the cookie has not expired")
			}
			if log := f.text.String(); !strings.Contains(log, "level=WARN") || strings.Contains(log, late.ID) {
				t.Errorf("log: %s", log)
			}
			// The document may still be there, but for this process the session is gone.
			f.log.reset()
			if s := stolen.load(); !s.IsNew {
				t.Error("the session is alive")
			}
			late.Values["late"] = true
			if w, err := stolen.clone().save(late); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("a late save: %v", err)
			}
			for _, command := range f.log.reset() {
				if command != "delete" {
					t.Errorf("command sent for a session that is gone: %s", command)
				}
			}
			f.wire.heal()
			eventually(t, "the document is deleted", func() bool { return len(f.documents()) == 0 })
		})
	}
}

// TestRemovalOutlivesRequest: who closes the browser while logging out is logged out.
func TestRemovalOutlivesRequest(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser().login()
	session := b.load()
	session.Options.MaxAge = -1
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	if err := f.store.Save(b.request().WithContext(ctx), w, session); err != nil {
		t.Error(err)
	}
	if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("cookies: %v", c)
	}
	f.wantDocuments(0)
}

// TestCancelledRequest: a load or a save of a request that was cancelled fails at once and
// leaves everything as it was.
func TestCancelledRequest(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser().login()
	session := b.load()
	before := f.document()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, w := b.request().WithContext(ctx), httptest.NewRecorder()
	if s, err := f.store.New(r, name); !errors.Is(err, context.Canceled) || !errors.Is(err, mongostore.ErrUnavailable) || s == nil {
		t.Errorf("load: %v", err)
	}
	session.Values["a"] = 1
	if err := f.store.Save(r, w, session); !errors.Is(err, context.Canceled) {
		t.Errorf("save: %v", err)
	}
	if w.Header()["Set-Cookie"] != nil {
		t.Error("a cookie is set")
	}
	if after := f.document(); string(after) != string(before) {
		t.Error("the document has changed")
	}
}

// TestClosedWithRemovalsLeft: Close does not wait for a database that is away.
func TestClosedWithRemovalsLeft(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *mongostore.Config) { c.Timeout = time.Second })
	b := f.browser().login()
	f.wire.on("delete", rule{kind: answer, reply: refusal(13, "Unauthorized")})
	b.logout()
	if err := f.store.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if log := f.text.String(); !strings.Contains(log, "closed before") {
		t.Errorf("log: %s", log)
	}
}

// TestOutage: nobody is logged out by it, whatever handlers do, and no request hangs.
func TestOutage(t *testing.T) {
	t.Parallel()
	for what, fail := range map[string]func(*fixture){
		"refused": func(f *fixture) { f.wire.refuseAll() },
		"black hole": func(f *fixture) {
			f.wire.on("find", rule{kind: hang})
			f.wire.on("insert", rule{kind: hang})
			f.wire.on("update", rule{kind: hang})
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := setup(t, func(c *mongostore.Config) { c.Timeout = 500 * time.Millisecond })
			b := f.browser().login()
			loaded := b.load()
			before := f.document()
			cookie := b.cookies[name]
			fail(f)

			start := time.Now()
			const operations = 3
			session, err := f.store.Get(b.request(), name)
			if !errors.Is(err, mongostore.ErrUnavailable) || session == nil {
				t.Fatalf("load: %v", err)
			}
			session.Values["user"] = "a visitor without a session"
			if w, err := b.save(session); !errors.Is(err, mongostore.ErrUnavailable) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("save of what failed to load: %v", err)
			}
			loaded.Values["a"] = 1
			if w, err := b.save(loaded); !errors.Is(err, mongostore.ErrUnavailable) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("save of what was loaded before: %v", err)
			}
			if w, err := f.browser().save(f.browser().load()); !errors.Is(err, mongostore.ErrUnavailable) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("save of a new session: %v", err)
			}
			if d := time.Since(start); d > operations*5*time.Second {
				t.Errorf("the outage held the requests for %v", d)
			}
			if b.cookies[name] != cookie {
				t.Error("the cookie has changed")
			}
			f.wire.heal()
			if after := f.document(); string(after) != string(before) {
				t.Error("the document has changed")
			}
			eventually(t, "the session can be loaded again", func() bool {
				session, err := f.store.Get(b.request(), name)
				return err == nil && session.Values["user"] == "ada"
			})
			// What could not be saved then can be now, by a handler that held it.
			if _, err := b.save(loaded); err != nil {
				t.Errorf("after the outage: %v", err)
			}
			if s := b.load(); s.Values["a"] != 1 {
				t.Errorf("after the outage: %v", s.Values)
			}
		})
	}
}

// TestInsertAnswerLost: a save that is repeated, since the first one's answer did not come,
// makes no second document.
func TestInsertAnswerLost(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser()
	session := b.load()
	session.Values["n"] = 1
	f.wire.on("insert", rule{kind: loseAnswer, once: true})
	w, err := b.save(session)
	// With retryable writes the driver has already repeated it.
	if err != nil {
		if w.Header()["Set-Cookie"] != nil {
			t.Error("a cookie for what may not be stored")
		}
		session.Values["n"] = 2
		if _, err := b.save(session); err != nil {
			t.Fatal(err)
		}
		if s := b.load(); s.Values["n"] != 2 {
			t.Errorf("values: %v", s.Values)
		}
	}
	eventually(t, "one document is left", func() bool { return len(f.documents()) == 1 })
	b.logout()
	f.wantDocuments(0)
}

// TestLateInsert: an insert that was given up, and arrives after all, does not bring back the
// session that was stored and logged out in the meantime.
func TestLateInsert(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *mongostore.Config) { c.Timeout = time.Second })
	b := f.browser()
	session := b.load()
	seen, gate := make(chan struct{}, 1), make(chan struct{})
	f.wire.on("insert", rule{kind: late, once: true, seen: seen, gate: gate})
	if _, err := b.save(session); !errors.Is(err, mongostore.ErrUnavailable) {
		t.Fatalf("first save: %v", err)
	}
	if _, err := b.save(session); err != nil {
		t.Fatalf("second save: %v", err)
	}
	stolen := b.clone()
	b.logout()
	close(gate)
	<-seen // delivered
	if !stolen.load().IsNew {
		t.Error("the session is alive")
	}
}

// TestMoves: of moves at once one wins, a logout is not undone by one, and a change made
// meanwhile is carried over.
func TestMoves(t *testing.T) {
	t.Parallel()
	t.Run("two at once", func(t *testing.T) {
		t.Parallel()
		for range 10 {
			f := setup(t)
			b := f.browser().login()
			const movers = 4
			var wg sync.WaitGroup
			var mu sync.Mutex
			won := 0
			var loaded []*sessions.Session // all before the first moves
			for range movers {
				loaded = append(loaded, b.load())
			}
			for _, session := range loaded {
				session.ID = ""
				wg.Go(func() {
					_, err := b.clone().save(session)
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
			f.wantDocuments(1)
			if !b.load().IsNew {
				t.Error("the old ID still works")
			}
		}
	})
	t.Run("after a logout", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		b := f.browser().login()
		session := b.load()
		b.clone().logout()
		session.ID = ""
		if w, err := b.save(session); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
			t.Errorf("error: %v", err)
		}
		f.wantDocuments(0)
	})
	t.Run("with a change meanwhile", func(t *testing.T) {
		t.Parallel()
		f := setup(t)
		b := f.browser()
		b.do(func(s *sessions.Session) {
			s.Values["user"], s.Values["dropped"], s.Values["ours"], s.Values["both"] = "ada", 1, 1, 1
		})
		session := b.load()
		b.clone().do(func(s *sessions.Session) {
			s.Values["theirs"], s.Values["both"] = 2, 2
			delete(s.Values, "dropped")
		})
		session.ID, session.Values["ours"], session.Values["both"] = "", 3, 3
		if _, err := b.save(session); err != nil {
			t.Fatal(err)
		}
		f.wantDocuments(1)
		for _, s := range []*sessions.Session{session, b.load()} {
			if v := s.Values; len(v) != 4 || v["user"] != "ada" || v["theirs"] != 2 || v["ours"] != 3 || v["both"] != 3 {
				t.Errorf("values: %v", v)
			}
		}
		// The session in hand is up to date, too.
		f.log.reset()
		if _, err := b.save(session); err != nil {
			t.Fatal(err)
		}
		f.wantCommands()
	})
	for _, command := range []string{"insert", "delete"} {
		for what, r := range map[string]rule{
			"refused":     {kind: answer, reply: refusal(10107, "NotWritablePrimary"), once: true},
			"cut":         {kind: refuse, once: true},
			"answer lost": {kind: loseAnswer, once: true},
		} {
			t.Run(command+" "+what, func(t *testing.T) {
				t.Parallel()
				f := setup(t, func(c *mongostore.Config) { c.Timeout = 2 * time.Second })
				b := f.browser().login()
				old := b.clone()
				session := b.load()
				session.ID = ""
				f.wire.on(command, r)
				_, err := b.save(session)
				if err == nil && !old.load().IsNew {
					t.Error("success was reported, and the old ID works")
				}
				if err != nil && errors.Is(err, mongostore.ErrGone) {
					t.Errorf("error: %v", err)
				}
				// Whichever cookie the visitor has, the session is not lost.
				if s := b.load(); s.Values["user"] != "ada" {
					t.Errorf("after %v the session is %v", err, s.Values)
				}
				if command == "delete" {
					eventually(t, "the old document is removed", func() bool { return len(f.documents()) == 1 })
				}
			})
		}
	}
}

// TestUnacknowledged: a collection whose writes are not acknowledged cannot hold a promise.
func TestUnacknowledged(t *testing.T) {
	t.Parallel()
	f := setup(t)
	store, err := mongostore.New(unacknowledged(t, f), signingKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close(context.WithoutCancel(t.Context())) })
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	session, err := store.Get(r, name)
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Save(r, w); err == nil || !strings.Contains(err.Error(), "unacknowledged") {
		t.Errorf("error: %v", err)
	}
	if w.Header()["Set-Cookie"] != nil {
		t.Error("a cookie is set")
	}
}

// TestMergeOfDeletions: a key that one request deletes and another leaves alone is gone.
func TestMergeOfDeletions(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser()
	b.do(func(s *sessions.Session) { s.Values["a"], s.Values["b"] = 1, 1 })
	first, second := b.load(), b.load()
	delete(first.Values, "a")
	second.Values["b"] = 2
	for _, s := range []*sessions.Session{first, second} {
		if _, err := b.save(s); err != nil {
			t.Fatal(err)
		}
	}
	want := bson.D{{Key: "b", Value: int32(2)}}
	if got := decoded(t, f.document().Lookup("values")); len(got) != 1 || got[0] != want[0] {
		t.Errorf("values: %v, want %v", got, want)
	}
}

// TestRemovalEndsWithItsClient: an application that disconnects its client, and closes no
// store, is told what is left, and no work goes on.
func TestRemovalEndsWithItsClient(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.cfg.Client = f.connect()
	store, err := mongostore.Open(t.Context(), f.cfg, signingKey)
	if err != nil {
		t.Fatal(err)
	}
	b := f.browser().login()
	b.store = store
	session := b.load()
	f.wire.on("delete", rule{kind: refuse})
	session.Options.MaxAge = -1
	if _, err := b.save(session); err != nil {
		t.Fatal(err)
	}
	if err := f.cfg.Client.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log tells that a session was not removed", func() bool {
		return strings.Contains(f.text.String(), "closed before all sessions were removed")
	})
	if err := store.Close(t.Context()); err != nil { // which waits for the work
		t.Error(err)
	}
}
