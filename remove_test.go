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
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestFailedRemoval: when the database fails at a logout the visitor is logged out all the
// same, and the document goes as soon as the database allows.
func TestFailedRemoval(t *testing.T) {
	t.Parallel()
	for what, fail := range map[string]func(*storetest.Fixture){
		"refused": func(f *storetest.Fixture) {
			f.Wire.On("delete", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")})
		},
		"cut":         func(f *storetest.Fixture) { f.Wire.On("delete", storetest.Rule{Kind: storetest.Refuse}) },
		"answer lost": func(f *storetest.Fixture) { f.Wire.On("delete", storetest.Rule{Kind: storetest.LoseAnswer}) },
		"hanging":     func(f *storetest.Fixture) { f.Wire.On("delete", storetest.Rule{Kind: storetest.Hang}) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			const timeout = 2 * time.Second
			f := storetest.Setup(t, func(c *mongostore.Config) { c.Timeout = timeout })
			b := f.Browser().Login()
			stolen, late := b.Clone(), b.Load()
			fail(f)
			start := time.Now()
			b.Logout() // fails the test on an error, or without a cookie
			// One command, whatever becomes of it. A Timeout doubled twice is longer.
			if d := time.Since(start); d > timeout+2*storetest.Slack {
				t.Errorf("the logout took %v", d)
			}
			if len(b.Cookies) > 0 {
				t.Error("the cookie has not expired")
			}
			if log := f.Text.String(); !strings.Contains(log, "level=WARN") || strings.Contains(log, late.ID) {
				t.Errorf("log: %s", log)
			}
			// The document may still be there, but for this process the session is gone.
			f.Log.Reset()
			if s := stolen.Load(); !s.IsNew {
				t.Error("the session is alive")
			}
			late.Values["late"] = true
			if w, err := stolen.Clone().Save(late); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("a late save: %v", err)
			}
			for _, command := range f.Log.Reset() {
				if command != "delete" {
					t.Errorf("command sent for a session that is gone: %s", command)
				}
			}
			f.Wire.Heal()
			storetest.Eventually(t, "the document is deleted", func() bool { return len(f.Documents()) == 0 })
		})
	}
}

// TestRemovalOutlivesRequest: who closes the browser while logging out is logged out.
func TestRemovalOutlivesRequest(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session := b.Load()
	session.Options.MaxAge = -1
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	if err := f.Store.Save(b.Request().WithContext(ctx), w, session); err != nil {
		t.Error(err)
	}
	if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("cookies: %v", c)
	}
	f.WantDocuments(0)
}

// TestCancelledRequest: a load or a save of a request that was cancelled fails at once and
// leaves everything as it was.
func TestCancelledRequest(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session := b.Load()
	before := f.Document()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, w := b.Request().WithContext(ctx), httptest.NewRecorder()
	if s, err := f.Store.New(r, storetest.Name); !errors.Is(err, context.Canceled) || !errors.Is(err, mongostore.ErrUnavailable) || s == nil {
		t.Errorf("load: %v", err)
	}
	session.Values["a"] = 1
	if err := f.Store.Save(r, w, session); !errors.Is(err, context.Canceled) {
		t.Errorf("save: %v", err)
	}
	if w.Header()["Set-Cookie"] != nil {
		t.Error("a cookie is set")
	}
	if after := f.Document(); string(after) != string(before) {
		t.Error("the document has changed")
	}
}

// TestClosedWithRemovalsLeft: Close does not wait for a database that is away.
func TestClosedWithRemovalsLeft(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.Timeout = time.Second })
	b := f.Browser().Login()
	f.Wire.On("delete", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")})
	b.Logout()
	if err := f.Store.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if log := f.Text.String(); !strings.Contains(log, "closed before") {
		t.Errorf("log: %s", log)
	}
}

// TestOutage: nobody is logged out by it, whatever handlers do, and no request hangs.
func TestOutage(t *testing.T) {
	t.Parallel()
	for what, fail := range map[string]func(*storetest.Fixture){
		"refused": func(f *storetest.Fixture) { f.Wire.RefuseAll() },
		"black hole": func(f *storetest.Fixture) {
			f.Wire.On("find", storetest.Rule{Kind: storetest.Hang})
			f.Wire.On("insert", storetest.Rule{Kind: storetest.Hang})
			f.Wire.On("update", storetest.Rule{Kind: storetest.Hang})
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) { c.Timeout = 500 * time.Millisecond })
			b := f.Browser().Login()
			loaded := b.Load()
			before := f.Document()
			cookie := b.Cookies[storetest.Name]
			fail(f)

			start := time.Now()
			const operations = 3
			session, err := f.Store.Get(b.Request(), storetest.Name)
			if !errors.Is(err, mongostore.ErrUnavailable) || session == nil {
				t.Fatalf("load: %v", err)
			}
			session.Values["user"] = "a visitor without a session"
			if w, err := b.Save(session); !errors.Is(err, mongostore.ErrUnavailable) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("save of what failed to load: %v", err)
			}
			loaded.Values["a"] = 1
			if w, err := b.Save(loaded); !errors.Is(err, mongostore.ErrUnavailable) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("save of what was loaded before: %v", err)
			}
			if w, err := f.Browser().Save(f.Browser().Load()); !errors.Is(err, mongostore.ErrUnavailable) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("save of a new session: %v", err)
			}
			if d := time.Since(start); d > operations*5*time.Second {
				t.Errorf("the outage held the requests for %v", d)
			}
			if b.Cookies[storetest.Name] != cookie {
				t.Error("the cookie has changed")
			}
			f.Wire.Heal()
			if after := f.Document(); string(after) != string(before) {
				t.Error("the document has changed")
			}
			storetest.Eventually(t, "the session can be loaded again", func() bool {
				session, err := f.Store.Get(b.Request(), storetest.Name)
				return err == nil && session.Values["user"] == "ada"
			})
			// What could not be saved then can be now, by a handler that held it.
			if _, err := b.Save(loaded); err != nil {
				t.Errorf("after the outage: %v", err)
			}
			if s := b.Load(); s.Values["a"] != 1 {
				t.Errorf("after the outage: %v", s.Values)
			}
		})
	}
}

// TestInsertAnswerLost: a save that is repeated, since the first one's answer did not come,
// makes no second document.
func TestInsertAnswerLost(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	session := b.Load()
	session.Values["n"] = 1
	f.Wire.On("insert", storetest.Rule{Kind: storetest.LoseAnswer, Once: true})
	w, err := b.Save(session)
	// With retryable writes the driver has already repeated it.
	if err != nil {
		if w.Header()["Set-Cookie"] != nil {
			t.Error("a cookie for what may not be stored")
		}
		session.Values["n"] = 2
		if _, err := b.Save(session); err != nil {
			t.Fatal(err)
		}
		if s := b.Load(); s.Values["n"] != 2 {
			t.Errorf("values: %v", s.Values)
		}
	}
	storetest.Eventually(t, "one document is left", func() bool { return len(f.Documents()) == 1 })
	b.Logout()
	f.WantDocuments(0)
}

// TestLateInsert: an insert that was given up, and arrives after all, does not bring back the
// session that was stored and logged out in the meantime.
func TestLateInsert(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.Timeout = time.Second })
	b := f.Browser()
	session := b.Load()
	seen, gate := make(chan struct{}, 1), make(chan struct{})
	f.Wire.On("insert", storetest.Rule{Kind: storetest.Late, Once: true, Seen: seen, Gate: gate})
	if _, err := b.Save(session); !errors.Is(err, mongostore.ErrUnavailable) {
		t.Fatalf("first save: %v", err)
	}
	if _, err := b.Save(session); err != nil {
		t.Fatalf("second save: %v", err)
	}
	stolen := b.Clone()
	b.Logout()
	close(gate)
	<-seen // delivered
	if !stolen.Load().IsNew {
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

// TestUnacknowledged: a collection whose writes are not acknowledged cannot hold a promise.
func TestUnacknowledged(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	store, err := mongostore.New(unacknowledged(t, f), storetest.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close(context.WithoutCancel(t.Context())) })
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	session, err := store.Get(r, storetest.Name)
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
	f := storetest.Setup(t)
	b := f.Browser()
	b.Do(func(s *sessions.Session) { s.Values["a"], s.Values["b"] = 1, 1 })
	first, second := b.Load(), b.Load()
	delete(first.Values, "a")
	second.Values["b"] = 2
	for _, s := range []*sessions.Session{first, second} {
		if _, err := b.Save(s); err != nil {
			t.Fatal(err)
		}
	}
	want := bson.D{{Key: "b", Value: int32(2)}}
	if got := decoded(t, f.Document().Lookup("values")); len(got) != 1 || got[0] != want[0] {
		t.Errorf("values: %v, want %v", got, want)
	}
}

// TestRemovalEndsWithItsClient: an application that disconnects its client, and closes no
// store, is told what is left, and no work goes on.
func TestRemovalEndsWithItsClient(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	f.Cfg.Client = f.Connect()
	store, err := mongostore.Open(t.Context(), f.Cfg, storetest.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	b := f.Browser().Login()
	b.Store = store
	session := b.Load()
	f.Wire.On("delete", storetest.Rule{Kind: storetest.Refuse})
	session.Options.MaxAge = -1
	if _, err := b.Save(session); err != nil {
		t.Fatal(err)
	}
	if err := f.Cfg.Client.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	storetest.Eventually(t, "the log tells that a session was not removed", func() bool {
		return strings.Contains(f.Text.String(), "closed before all sessions were removed")
	})
	if err := store.Close(t.Context()); err != nil { // which waits for the work
		t.Error(err)
	}
}
