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

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestFailedLogoutIsRetried: when the database fails at a logout, the visitor is logged out in
// this process, and the deletion is retried until it succeeds.
func TestFailedLogoutIsRetried(t *testing.T) {
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

// TestLogoutOutlivesItsRequest: who closes the browser while logging out is logged out.
func TestLogoutOutlivesItsRequest(t *testing.T) {
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

// TestCancelledRequestChangesNothing: a load or a save of a cancelled request fails immediately and
// leaves everything as it was.
func TestCancelledRequestChangesNothing(t *testing.T) {
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

// TestCloseDoesNotWaitForTheDatabase: Close does not wait for a database that is unavailable.
func TestCloseDoesNotWaitForTheDatabase(t *testing.T) {
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

// TestOutageLogsNobodyOut: nobody is logged out by it, whatever handlers do, and no request hangs.
func TestOutageLogsNobodyOut(t *testing.T) {
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

// TestRetriesEndWithTheClient: an application that disconnects its client, and closes no
// store, finds in the log what is left, and no work goes on.
func TestRetriesEndWithTheClient(t *testing.T) {
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

// Ways in which a logout, or a shorter life, was once undone.

func impatient(c *mongostore.Config) { c.Timeout = 5 * time.Second }

// TestLogoutDeletesAnExpiredSession: ErrGone may mean that the session has expired by this
// process's clock. A logout deletes it then too.
func TestLogoutDeletesAnExpiredSession(t *testing.T) {
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
	for server, setup := range map[string]func(t *testing.T) *storetest.Fixture{
		"test server": func(t *testing.T) *storetest.Fixture { return storetest.Setup(t, impatient) },
		"standalone": func(t *testing.T) *storetest.Fixture {
			f, _ := storetest.SetupScripted(t, "", impatient)
			return f
		},
		"replica set": func(t *testing.T) *storetest.Fixture { // where the driver repeats deletes
			f, _ := storetest.SetupScripted(t, "rs", impatient)
			return f
		},
	} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
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
			f.Wire.On("delete", storetest.Rule{Kind: storetest.Refuse})
			c.Logout()
			if log := f.Text.String(); !strings.Contains(log, "store is closed") {
				t.Errorf("log: %s", log)
			}
			f.WantDocuments(1)
		})
	}
}

// TestLogoutEndsTheSessionsOfTwoCookies ends the sessions of all cookies of the name: one may have been
// planted.
func TestLogoutEndsTheSessionsOfTwoCookies(t *testing.T) {
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

// TestLogoutWithTwoCookiesIsRetriedForBoth: in an outage it takes no longer than with one cookie.
func TestLogoutWithTwoCookiesIsRetriedForBoth(t *testing.T) {
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

// TestGoneWithdrawsCookie: a request saves its session twice, and between the two the visitor logs out
// and in again, in another window. The response, which arrives last, must not put the old cookie in
// the place of the new one. Cookies of others stay in it.
func TestGoneWithdrawsCookie(t *testing.T) {
	t.Parallel()
	for name, save := range map[string]func(*mongostore.Store, *storetest.Browser, *sessions.Session, *httptest.ResponseRecorder) error{
		"save": func(s *mongostore.Store, b *storetest.Browser, session *sessions.Session, w *httptest.ResponseRecorder) error {
			return s.Save(b.Request(), w, session)
		},
		"renew": func(s *mongostore.Store, b *storetest.Browser, session *sessions.Session, w *httptest.ResponseRecorder) error {
			return s.Renew(b.Request(), w, session)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			b := f.Browser().Login()
			f.Age(time.Hour) // so that the first save is a touch, with a cookie
			session, w := b.Load(), httptest.NewRecorder()
			w.Header().Add("Set-Cookie", "other=1")
			if err := f.Store.Save(b.Request(), w, session); err != nil {
				t.Fatal(err)
			}
			if lines := w.Header()["Set-Cookie"]; len(lines) != 2 {
				t.Fatalf("the first save leaves %q", lines)
			}
			b.Clone().Logout()

			session.Values["late"] = true
			if err := save(f.Store, b, session, w); !errors.Is(err, mongostore.ErrGone) {
				t.Fatalf("error %v, want ErrGone", err)
			}
			if lines := w.Header()["Set-Cookie"]; len(lines) != 1 || lines[0] != "other=1" {
				t.Errorf("the response sets %q", lines)
			}
			f.WantDocuments(0)

			// The application can still log the visitor out.
			session.Options.MaxAge = -1
			if err := f.Store.Save(b.Request(), w, session); err != nil {
				t.Fatal(err)
			}
			if cookies := w.Result().Cookies(); len(cookies) != 2 || cookies[1].MaxAge >= 0 {
				t.Errorf("the response sets %v", cookies)
			}
		})
	}
}

// TestGoneByPersistOrRemoveWithdrawsCookie: also if Persist found the session gone, or Remove has
// removed it, since the save.
func TestGoneByPersistOrRemoveWithdrawsCookie(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]func(*storetest.Fixture, *storetest.Browser, *sessions.Session){
		"persist": func(f *storetest.Fixture, b *storetest.Browser, session *sessions.Session) {
			b.Clone().Logout()
			session.Values["late"] = true
			if err := f.Store.Persist(t.Context(), session); !errors.Is(err, mongostore.ErrGone) {
				t.Errorf("Persist: %v", err)
			}
		},
		"remove": func(f *storetest.Fixture, _ *storetest.Browser, session *sessions.Session) {
			if err := f.Store.Remove(t.Context(), session); err != nil {
				t.Error(err)
			}
		},
	} {
		f := storetest.Setup(t)
		b := f.Browser().Login()
		f.Age(time.Hour) // so that the first save is a touch, with a cookie
		session, w := b.Load(), httptest.NewRecorder()
		if err := f.Store.Save(b.Request(), w, session); err != nil {
			t.Fatal(err)
		}
		if len(w.Header()["Set-Cookie"]) != 1 {
			t.Fatalf("%s: the first save leaves %q", what, w.Header()["Set-Cookie"])
		}
		end(f, b, session)
		if err := f.Store.Save(b.Request(), w, session); !errors.Is(err, mongostore.ErrGone) {
			t.Errorf("%s: Save: %v", what, err)
		}
		if lines := w.Header()["Set-Cookie"]; len(lines) != 0 {
			t.Errorf("%s: %d cookies are left in the response", what, len(lines))
		}
		// The cookie of a logout stays there.
		session.Options.MaxAge = -1
		if err := f.Store.Save(b.Request(), w, session); err != nil {
			t.Fatal(err)
		}
		session.Options.MaxAge = 60
		if err := f.Store.Save(b.Request(), w, session); !errors.Is(err, mongostore.ErrGone) {
			t.Errorf("%s: Save after the logout: %v", what, err)
		}
		if cookies := w.Result().Cookies(); len(cookies) != 1 || cookies[0].MaxAge >= 0 {
			t.Errorf("%s: after a logout the response sets %v", what, cookies)
		}
	}
}

// TestExpiringCookieIsNotWithdrawn: in a response, a session that was never stored was logged out, and
// then stored after all. Only a cookie that was set since is withdrawn when the session is gone.
func TestExpiringCookieIsNotWithdrawn(t *testing.T) {
	t.Parallel()
	for _, saved := range []bool{true, false} {
		f := storetest.Setup(t)
		session, w := f.Browser().Load(), httptest.NewRecorder()
		session.Options.MaxAge = -1
		if err := f.Store.Save(f.Browser().Request(), w, session); err != nil {
			t.Fatal(err)
		}
		session.Options.MaxAge = 60
		if err := f.Store.Persist(t.Context(), session); err != nil {
			t.Fatal(err)
		}
		if saved {
			if err := f.Store.Save(f.Browser().Request(), w, session); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Store.Revoke(t.Context(), storetest.HashOf(session.ID)); err != nil {
			t.Fatal(err)
		}
		for range 2 { // once the database says so, then the session knows
			session.Values["late"] = true
			if err := f.Store.Save(f.Browser().Request(), w, session); !errors.Is(err, mongostore.ErrGone) {
				t.Errorf("error %v, want ErrGone", err)
			}
			if kept := len(w.Header()["Set-Cookie"]) > 0; kept == saved {
				t.Errorf("saved with a cookie after the logout: %t; the response sets %q", saved, w.Header()["Set-Cookie"])
			}
		}
	}
}

// TestRepeatedLogoutKeepsALaterLogin: a middleware that saves the request's sessions once more
// does not put a logout behind the login that followed it.
func TestRepeatedLogoutKeepsALaterLogin(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	r, w := b.Request(), httptest.NewRecorder()
	session, err := f.Store.Get(r, storetest.Name)
	if err != nil {
		t.Fatal(err)
	}
	session.Options.MaxAge = -1
	if err := f.Store.Save(r, w, session); err != nil {
		t.Fatal(err)
	}
	next, err := f.Store.New(f.Browser().Request(), storetest.Name) // of a visitor without a cookie
	if err != nil {
		t.Fatal(err)
	}
	next.Values["user"] = "grace"
	if err := f.Store.Save(r, w, next); err != nil {
		t.Fatal(err)
	}
	if err := sessions.Save(r, w); err != nil {
		t.Fatal(err)
	}
	b.Receive(w)
	if s := b.Load(); s.Values["user"] != "grace" {
		t.Errorf("the browser has a session of %v", s.Values["user"])
	}
	f.WantDocuments(1)
}

// TestLogoutExpiresTheCookiesOfTwoDomains: an application that once set its cookie for a domain
// expires both.
func TestLogoutExpiresTheCookiesOfTwoDomains(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	f.Age(time.Hour) // so that the first save is a touch, with a cookie
	session, w := b.Load(), httptest.NewRecorder()
	if err := f.Store.Save(b.Request(), w, session); err != nil {
		t.Fatal(err)
	}
	session.Options.MaxAge = -1
	for _, domain := range []string{"example.com", "", "example.com", ""} {
		session.Options.Domain = domain
		if err := f.Store.Save(b.Request(), w, session); err != nil {
			t.Fatal(err)
		}
	}
	cookies := w.Result().Cookies()
	if len(cookies) != 2 || cookies[0].Domain != "example.com" || cookies[1].Domain != "" || cookies[0].MaxAge >= 0 || cookies[1].MaxAge >= 0 {
		t.Errorf("the response sets %v", cookies)
	}
	f.WantDocuments(0)
}

// TestLogoutWithAnInvalidCookieSetsNone: where the cookie cannot be expired, that of the
// removed session is not sent either.
func TestLogoutWithAnInvalidCookieSetsNone(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	f.Age(time.Hour) // so that the first save is a touch, with a cookie
	session, w := b.Load(), httptest.NewRecorder()
	if err := f.Store.Save(b.Request(), w, session); err != nil {
		t.Fatal(err)
	}
	session.Options.MaxAge, session.Options.Domain = -1, "no domain;"
	if err := f.Store.Save(b.Request(), w, session); err == nil {
		t.Error("no error")
	}
	if lines := w.Header()["Set-Cookie"]; len(lines) != 0 {
		t.Errorf("the response sets %q", lines)
	}
	f.WantDocuments(0)
}

// TestEndedSessionIsEndedEverywhere: of a session that has ended, however that was, a copy of
// the cookie is worth nothing in any process, and no request that was under way brings it back.
func TestEndedSessionIsEndedEverywhere(t *testing.T) {
	t.Parallel()
	for how, end := range map[string]func(*testing.T, *storetest.Fixture, *storetest.Browser){
		"logout": func(_ *testing.T, _ *storetest.Fixture, b *storetest.Browser) { b.Logout() },
		"Remove": func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			if err := f.Store.Remove(t.Context(), b.Load()); err != nil {
				t.Fatal(err)
			}
		},
		"Persist with a negative MaxAge": func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			session := b.Load()
			session.Options.MaxAge = -1
			if err := f.Store.Persist(t.Context(), session); err != nil {
				t.Fatal(err)
			}
		},
		"Revoke": func(t *testing.T, f *storetest.Fixture, _ *storetest.Browser) {
			for _, info := range storetest.SessionsOf(t, f.Store, "ada") {
				if err := f.Store.Revoke(t.Context(), info.Key); err != nil {
					t.Fatal(err)
				}
			}
		},
		"RevokeAll": func(t *testing.T, f *storetest.Fixture, _ *storetest.Browser) {
			if n, err := f.Store.RevokeAll(t.Context(), "ada"); n != 1 || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
		},
		"Renew, of the old ID": func(t *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			if _, err := b.Renew(b.Load()); err != nil {
				t.Fatal(err)
			}
		},
		"expiry": func(t *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			b.Clone().Do(func(s *sessions.Session) { s.Options.MaxAge = 1 })
			storetest.Eventually(t, "the session has expired", func() bool { return b.Load().IsNew })
		},
		// All sessions of all users: an administrator empties the collection.
		"deletion in the database": func(t *testing.T, f *storetest.Fixture, _ *storetest.Browser) {
			if _, err := f.Coll.DeleteMany(t.Context(), bson.D{}); err != nil {
				t.Fatal(err)
			}
		},
		"the collection dropped": func(t *testing.T, f *storetest.Fixture, _ *storetest.Browser) {
			if err := f.Coll.Drop(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
			b := f.Browser().LoginAs("ada")
			stolen, id := b.Clone(), b.Load().ID
			f.Cfg.Client = f.Connect()
			another := f.Open() // process, over connections of its own
			processes := map[string]*mongostore.Store{"here": f.Store, "elsewhere": another}

			underWay := map[string]*sessions.Session{}
			for where, store := range processes {
				stolen.Store = store
				if underWay[where] = stolen.Load(); underWay[where].Values["user"] != "ada" {
					t.Fatalf("%s: not logged in", where)
				}
			}
			end(t, f, b)

			restarted := f.Open()
			for where, store := range map[string]*mongostore.Store{"here": f.Store, "elsewhere": another, "after a restart": restarted} {
				stolen.Store = store
				if s := stolen.Load(); !s.IsNew || s.ID != "" || len(s.Values) > 0 {
					t.Errorf("%s: the copy works: %v", where, s.Values)
				}
				if _, err := store.Fetch(t.Context(), storetest.Name, id); !errors.Is(err, mongostore.ErrNotFound) {
					t.Errorf("%s: Fetch: %v", where, err)
				}
				for _, info := range storetest.SessionsOf(t, store, "ada") {
					if info.Key == storetest.HashOf(id) {
						t.Errorf("%s: it is listed", where)
					}
				}
			}
			for where, session := range underWay {
				for _, save := range []func(*sessions.Session) (*httptest.ResponseRecorder, error){stolen.Save, stolen.Renew} {
					stolen.Store = processes[where]
					session.Values["late"] = true
					w, err := save(session)
					if !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
						t.Errorf("%s: a late request: %v, cookies %q", where, err, w.Header()["Set-Cookie"])
					}
				}
				if err := processes[where].Persist(t.Context(), session); !errors.Is(err, mongostore.ErrGone) {
					t.Errorf("%s: a late job: %v", where, err)
				}
			}
			stolen.Store = restarted
			if s := stolen.Load(); !s.IsNew {
				t.Error("it is back")
			}
		})
	}
}

// TestReauthenticationStartsANewSession: a session that is removed and started again, with what
// is to be kept, has a new ID and its full lifetime. The old ID does not work. (Renew keeps the
// time of creation.)
func TestReauthenticationStartsANewSession(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.AbsoluteTimeout = 12 * time.Hour })
	b := f.Browser().Login()
	f.Age(11 * time.Hour)
	f.Edit(storetest.SetDate("expiresAt", time.Now().Add(time.Hour)))
	old, r, w := b.Clone(), b.Request(), httptest.NewRecorder()

	session, err := f.Store.Get(r, storetest.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Store.Remove(r.Context(), session); err != nil {
		t.Fatal(err)
	}
	fresh, err := f.Store.New(r, storetest.Name)
	if err != nil || !fresh.IsNew {
		t.Fatalf("the session after Remove: %+v, %v", fresh, err)
	}
	fresh.Values["user"] = session.Values["user"]
	if err := f.Store.Save(r, w, fresh); err != nil {
		t.Fatal(err)
	}
	if n := len(w.Header()["Set-Cookie"]); n != 1 {
		t.Errorf("%d cookies", n)
	}
	b.Receive(w)
	if s := b.Load(); s.Values["user"] != "ada" || s.ID == session.ID {
		t.Errorf("session: %+v", s)
	}
	storetest.WantTime(t, f.Document(), "createdAt", time.Now())
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(12*time.Hour))
	if !old.Load().IsNew {
		t.Error("the old ID works")
	}
}

// TestRemoveReturnsTheErrorAndCanBeRepeated: the error is the caller's, who can try again.
func TestRemoveReturnsTheErrorAndCanBeRepeated(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session := b.Load()
	f.Wire.On("delete", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized"), Once: true})
	if err := f.Store.Remove(t.Context(), session); !errors.Is(err, mongostore.ErrUnavailable) {
		t.Errorf("error: %v", err)
	}
	f.WantDocuments(1)
	if err := f.Store.Remove(t.Context(), session); err != nil {
		t.Error(err)
	}
	f.WantDocuments(0)
}

// TestNegativeMaxAgeOfTheStoreEndsSessions: each session is removed when it is saved.
func TestNegativeMaxAgeOfTheStoreEndsSessions(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	f.Store.MaxAge(-1)
	if _, err := b.Save(b.Load()); err != nil {
		t.Error(err)
	}
	f.WantDocuments(0)
}

// TestRemoveLeavesTheCookie: Remove leaves the browser's cookie, which is of no further use.
func TestRemoveLeavesTheCookie(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	if err := f.Store.Remove(t.Context(), b.Load()); err != nil {
		t.Fatal(err)
	}
	if b.Cookies[storetest.Name] == "" || !b.Load().IsNew {
		t.Error("no cookie, or one that works")
	}
}

// ends are the ways to end a session, by an ID that the browser had at some time.
var ends = map[string]func(b *storetest.Browser, loaded *sessions.Session) error{
	"logout of a loaded session": func(b *storetest.Browser, loaded *sessions.Session) error {
		loaded.Options.MaxAge = -1
		_, err := b.Save(loaded)
		return err
	},
	"logout of a later request": func(b *storetest.Browser, _ *sessions.Session) error {
		late, err := b.Store.New(b.Request(), storetest.Name)
		if err != nil {
			return err
		}
		late.Options.MaxAge = -1
		_, err = b.Save(late)
		return err
	},
	"logout of a session made by hand": func(b *storetest.Browser, _ *sessions.Session) error {
		own := sessions.NewSession(b.Store, storetest.Name)
		own.Options = &sessions.Options{Path: "/", MaxAge: -1}
		return own.Save(b.Request(), httptest.NewRecorder())
	},
	"Remove": func(b *storetest.Browser, loaded *sessions.Session) error {
		return b.Store.Remove(b.F.T.Context(), loaded)
	},
	"Revoke": func(b *storetest.Browser, loaded *sessions.Session) error {
		return b.Store.Revoke(b.F.T.Context(), storetest.HashOf(loaded.ID))
	},
}

// TestLogoutIsOneCommand: a delete.
func TestLogoutIsOneCommand(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Visit(storetest.SetValue("user", "ada"))
	session := b.Load()
	session.Options.MaxAge = -1
	f.Log.Reset()
	b.MustSave(session)
	f.WantCommands("delete")
	f.WantDocuments(0)
}

// TestLogoutEndsTheRenewedSession: ending a session by an ID that it had before a
// renewal ends it.
func TestLogoutEndsTheRenewedSession(t *testing.T) {
	t.Parallel()
	for what, end := range ends {
		for _, times := range []int{1, 2} {
			for _, process := range []string{"same process", "another process"} {
				t.Run(what+", "+process+", renewals: "+string(rune('0'+times)), func(t *testing.T) {
					t.Parallel()
					f := storetest.Setup(t)
					b := f.Browser()
					b.Visit(storetest.SetValue("user", "ada"))
					old := b.Clone()
					if process == "another process" {
						old.Store = f.Another()
					}
					loaded := old.Load()
					for range times {
						b.MustRenew(b.Load())
					}
					if err := end(old, loaded); err != nil {
						t.Error(err)
					}
					b.WantOut("the renewed session")
					f.WantLive(0)
				})
			}
		}
	}
}

// TestLogoutEndsTheSessionOfAConcurrentRenewal: at whichever command of the renewal it comes.
func TestLogoutEndsTheSessionOfAConcurrentRenewal(t *testing.T) {
	t.Parallel()
	for what, end := range ends {
		for _, command := range []string{"insert", "update"} {
			t.Run(what+", before the "+command, func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t)
				b := f.Browser()
				b.Visit(storetest.SetValue("user", "ada"))
				old := b.At(f.Another())
				loaded := old.Load()
				session := b.Load()
				seen, gate := make(chan struct{}, 1), make(chan struct{})
				f.Wire.On(command, storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: gate})
				done := make(chan error, 1)
				go func() {
					_, err := b.Renew(session)
					done <- err
				}()
				<-seen
				err := end(old, loaded)
				close(gate)
				if err != nil {
					t.Error(err)
				}
				if err := <-done; !errors.Is(err, mongostore.ErrGone) {
					t.Errorf("the renewal: %v", err)
				}
				storetest.Eventually(t, "no session is left", func() bool { return len(f.Live()) == 0 })
				b.WantOut("the renewed session")
			})
			t.Run(what+", after the "+command, func(t *testing.T) {
				t.Parallel()
				f, s := storetest.SetupScripted(t, "")
				b := f.Browser()
				b.Visit(storetest.SetValue("user", "ada"))
				old := b.At(f.Another())
				loaded := old.Load()
				session := b.Load()
				seen, gate := make(chan struct{}, 1), make(chan struct{})
				s.On(command, storetest.Line{Apply: true, Once: true, Seen: seen, Gate: gate})
				done := make(chan error, 1)
				go func() {
					_, err := b.Renew(session)
					done <- err
				}()
				<-seen
				err := end(old, loaded)
				close(gate)
				if err != nil {
					t.Error(err)
				}
				if err := <-done; err != nil && !errors.Is(err, mongostore.ErrGone) {
					t.Errorf("the renewal: %v", err)
				}
				storetest.Eventually(t, "no session is left", func() bool { return len(f.Live()) == 0 })
				b.WantOut("the renewed session")
			})
		}
	}
}

// TestRepeatedDeletionEndsTheRenewedSession: a logout whose deletion failed ends the
// session that another process has renewed meanwhile.
func TestRepeatedDeletionEndsTheRenewedSession(t *testing.T) {
	t.Parallel()
	for what, fault := range map[string]storetest.Rule{
		"refused": {Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")},
		"cut":     {Kind: storetest.Refuse},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			f.Store = f.OpenWith(storetest.Soon)
			b := f.Browser()
			b.Visit(storetest.SetValue("user", "ada"))
			renewing := b.At(f.Another())
			session := renewing.Load()
			f.Wire.On("delete", fault)
			b.Visit(func(s *sessions.Session) { s.Options.MaxAge = -1 })
			renewing.MustRenew(session)
			renewing.WantIn("renewed")
			f.Wire.Heal()
			storetest.Eventually(t, "the renewed session has ended", func() bool { return renewing.Load().IsNew })
			f.WantLive(0)
		})
	}
}

// TestLogoutByHand: a handler logs out by creating a session of the name and removing it,
// without loading it.
func TestLogoutByHand(t *testing.T) {
	t.Parallel()
	for what, options := range map[string]func(*sessions.Options) *sessions.Options{
		"own options": func(*sessions.Options) *sessions.Options { return &sessions.Options{Path: "/", MaxAge: -1} },
		"the store's": func(o *sessions.Options) *sessions.Options {
			own := *o
			own.MaxAge = -1
			return &own
		},
	} {
		for _, cut := range []bool{false, true} {
			f := storetest.Setup(t)
			b := f.Browser()
			b.Visit(storetest.SetValue("user", "ada"))
			stolen := b.Clone()
			if cut {
				f.Wire.On("delete", storetest.Rule{Kind: storetest.Refuse, Once: true})
			}
			session := sessions.NewSession(f.Store, storetest.Name)
			session.Options = options(f.Store.Options)
			w := httptest.NewRecorder()
			if err := session.Save(b.Request(), w); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if cookies := w.Result().Cookies(); len(cookies) != 1 || cookies[0].MaxAge >= 0 {
				t.Errorf("%s: cookies %v", what, cookies)
			}
			stolen.WantOut(what)
			storetest.Eventually(t, "nothing is stored", func() bool { return len(f.Documents()) == 0 })
		}
	}
}

// TestLogoutRemovesTheSessionsOfAllCookies: of the name, that verify.
func TestLogoutRemovesTheSessionsOfAllCookies(t *testing.T) {
	t.Parallel()
	for what, load := range map[string]func(*storetest.Fixture, *http.Request) *sessions.Session{
		"loaded": func(f *storetest.Fixture, r *http.Request) *sessions.Session {
			session, err := f.Store.Get(r, storetest.Name)
			if err != nil {
				f.T.Fatal(err)
			}
			return session
		},
		"made by hand": func(f *storetest.Fixture, _ *http.Request) *sessions.Session {
			session := sessions.NewSession(f.Store, storetest.Name)
			session.Options = &sessions.Options{Path: "/"}
			return session
		},
	} {
		for _, forged := range []bool{false, true} {
			f := storetest.Setup(t)
			r := httptest.NewRequest(http.MethodGet, "https://example.com/", nil)
			if forged {
				for range 10 { // planted, and no reason to look no further
					r.AddCookie(&http.Cookie{Name: storetest.Name, Value: "forged"})
				}
			}
			const n = 10
			for range n {
				b := f.Browser()
				b.Visit(storetest.SetValue("user", "ada"))
				r.AddCookie(&http.Cookie{Name: storetest.Name, Value: b.Cookies[storetest.Name]})
			}
			bystander := f.Browser()
			bystander.Visit(storetest.SetValue("user", "ada"))
			session := load(f, r)
			session.Options.MaxAge = -1
			if err := f.Store.Save(r, httptest.NewRecorder(), session); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			f.WantDocuments(1)
			bystander.WantIn(what)
		}
	}
}

// TestLogoutRemovesADamagedSession: whatever is wrong with its document.
func TestLogoutRemovesADamagedSession(t *testing.T) {
	t.Parallel()
	for _, field := range []string{"name", "values", "rev", "createdAt", "expiresAt"} {
		for _, cookies := range []int{1, 2} {
			f := storetest.Setup(t)
			r := httptest.NewRequest(http.MethodGet, "https://example.com/", nil)
			for range cookies {
				b := f.Browser().Login()
				r.AddCookie(&http.Cookie{Name: storetest.Name, Value: b.Cookies[storetest.Name]})
			}
			f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: true}}}})
			session, err := f.Store.New(r, storetest.Name)
			if !errors.Is(err, mongostore.ErrCorrupt) {
				t.Errorf("%s, load: %v", field, err)
			}
			session.Options.MaxAge = -1
			if err := f.Store.Save(r, httptest.NewRecorder(), session); err != nil {
				t.Errorf("%s, logout: %v", field, err)
			}
			if left := f.Documents(); len(left) > 0 {
				t.Errorf("%s: %d of %d sessions are left", field, len(left), cookies)
			}
		}
	}
}

// TestLogoutOfACopy: of a session copied by value, and by a second Store.
func TestLogoutOfACopy(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	for what, store := range map[string]*mongostore.Store{"copy by value": f.Store, "second store": f.Open()} {
		b := f.Browser()
		b.Visit(storetest.SetValue("user", "ada"))
		copied := *b.Load()
		own := *copied.Options
		own.MaxAge = -1
		copied.Options = &own
		if _, err := b.At(store).Save(&copied); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		b.WantOut(what)
		f.WantDocuments(0)
	}
}

// TestLogoutsOfAClosedStoreSayThatTheyAreNotRepeated, the second one too.
func TestLogoutsOfAClosedStoreSayThatTheyAreNotRepeated(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	f.Store = f.OpenWith(time.Second)
	one, two := f.Browser().Login(), f.Browser().Login()
	first, second := one.Load(), two.Load()
	if err := f.Store.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.Wire.RefuseAll()
	for _, s := range []*sessions.Session{first, second} {
		s.Options.MaxAge = -1
		if err := f.Store.Save(one.Request(), httptest.NewRecorder(), s); err != nil {
			t.Error(err)
		}
	}
	if log := f.Text.String(); strings.Contains(log, "will be retried") {
		t.Error(log)
	}
}
