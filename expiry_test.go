package mongostore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestTimeouts: a session that is not used ends, use prolongs its life, and nothing prolongs it
// beyond the absolute timeout; the document alone decides, whatever the cookie says or another
// process is set to.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	const minute = time.Minute
	for _, row := range []struct {
		name   string
		config func(*mongostore.Config)
		own    int             // the session's own MaxAge, if not 0
		uses   []time.Duration // pauses, each followed by a request that saves
		alive  time.Duration   // a pause after these that it outlives
		dead   time.Duration   // and one that it does not
	}{
		{name: "idle", alive: 59 * minute, dead: 61 * minute},
		{name: "idle, used", uses: []time.Duration{50 * minute, 50 * minute, 50 * minute}, alive: 59 * minute, dead: 61 * minute},
		{
			name: "browser session", alive: 9 * minute, dead: 11 * minute,
			config: func(c *mongostore.Config) { c.Options.MaxAge, c.BrowserTTL = 0, 10*minute },
		},
		{name: "remembered", own: 3 * 3600, alive: 179 * minute, dead: 181 * minute},
		{name: "shorter than the store's", own: 600, alive: 9 * minute, dead: 11 * minute},
		{
			name: "absolute", uses: []time.Duration{50 * minute, 50 * minute}, alive: 19 * minute, dead: 21 * minute,
			config: func(c *mongostore.Config) { c.AbsoluteTimeout = 120 * minute },
		},
		{
			name: "absolute, remembered", own: 30 * 24 * 3600, alive: 119 * minute, dead: 121 * minute,
			config: func(c *mongostore.Config) { c.AbsoluteTimeout = 120 * minute },
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) {
				c.Options = &sessions.Options{Path: "/", MaxAge: 3600}
				if row.config != nil {
					row.config(c)
				}
			})
			b := f.Browser()
			b.Do(func(s *sessions.Session) {
				if s.Values["user"] = "ada"; row.own != 0 {
					s.Options.MaxAge = row.own
				}
			})
			for _, pause := range row.uses {
				f.Age(pause)
				b.Do(func(s *sessions.Session) {
					if s.IsNew {
						t.Fatal("ended while it was used")
					}
				})
			}
			// A process that is set to more, and has the same signed cookie.
			f.Cfg.Options = &sessions.Options{Path: "/", MaxAge: 365 * 24 * 3600}
			f.Cfg.BrowserTTL, f.Cfg.AbsoluteTimeout = 365*24*time.Hour, 0
			generous := b.Clone()
			generous.Store = f.Open()
			loaded := b.Load()

			f.Age(row.alive)
			for _, v := range []*storetest.Browser{b, generous} {
				if s := v.Load(); s.IsNew || s.Values["user"] != "ada" {
					t.Error("ended too soon")
				}
			}
			f.Age(row.dead - row.alive)
			before := f.Document()
			for _, v := range []*storetest.Browser{b, generous} {
				if s := v.Load(); !s.IsNew || len(s.Values) > 0 {
					t.Error("alive after its time")
				}
				if _, err := v.Store.Fetch(t.Context(), storetest.Name, loaded.ID); !errors.Is(err, mongostore.ErrNotFound) {
					t.Errorf("Fetch: %v", err)
				}
				if n, err := v.Store.Count(t.Context()); n != 0 || err != nil {
					t.Errorf("Count: %d, %v", n, err)
				}
			}
			if after := f.Document(); string(after) != string(before) {
				t.Error("a load has changed the document")
			}
		})
	}
}

// TestTouchIsThrottled: saves of an unchanged session write once per interval, and
// the interval is never above a tenth of the lifetime.
func TestTouchIsThrottled(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		interval time.Duration
		maxAge   int
		age      time.Duration // of the last touch
		writes   bool
	}{
		{0, 3600, 59 * time.Second, false},
		{0, 3600, 61 * time.Second, true},
		{0, 100, 9 * time.Second, false},
		{0, 100, 11 * time.Second, true},
		{time.Hour, 7200, 11 * time.Minute, false},
		{time.Hour, 7200, 13 * time.Minute, true},
		{10 * time.Second, 7200, 11 * time.Second, true},
	} {
		f := storetest.Setup(t, func(c *mongostore.Config) {
			c.TouchInterval = row.interval
			c.Options = &sessions.Options{Path: "/", MaxAge: row.maxAge}
		})
		b := f.Browser().Login()
		f.Edit(storetest.SetDate("seenAt", time.Now().Add(-row.age)))
		f.Log.Reset()
		b.Do(func(*sessions.Session) {})
		want := []string{"find"}
		if row.writes {
			want = append(want, "update")
		}
		f.WantCommands(want...)
		// A second request at once has nothing to do.
		b.Do(func(*sessions.Session) {})
		f.WantCommands("find")
	}
}

// TestShorterLifeAndUnawareSave: a request that does not know of the session's new, shorter MaxAge
// grants it a longer life; the session ends by its MaxAge all the same. A request that has held it
// since before then does not bring it back, nor is it listed.
func TestShorterLifeAndUnawareSave(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"change", "touch", "renew"} {
		f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey, c.TouchInterval = "user", 1 })
		b := f.Browser().Login()
		unaware, held := b.Load(), b.Load()
		b.Do(func(s *sessions.Session) { s.Options.MaxAge = 7200 })
		aware := b.Load()
		if how != "touch" {
			unaware.Values["n"] = 1
		}
		seen := f.Document().Lookup("seenAt").Time()
		storetest.Eventually(t, "a touch is due", func() bool { return time.Since(seen) > 2*time.Millisecond })
		if _, err := b.Clone().Save(unaware); err != nil {
			t.Fatal(err)
		}
		doc := f.Document()
		storetest.WantTime(t, doc, "expiresAt", time.Now().Add(30*24*time.Hour))
		if infos := storetest.SessionsOf(t, f.Store, "ada"); len(infos) != 1 || infos[0].ExpiresAt.After(time.Now().Add(2*time.Hour)) {
			t.Errorf("%s: listed: %v", how, infos)
		}

		passed := bson.D{} // three hours
		for _, date := range []string{"createdAt", "seenAt", "expiresAt"} {
			passed = append(passed, bson.E{Key: date, Value: doc.Lookup(date).Time().Add(-3 * time.Hour)})
		}
		f.Edit(bson.D{{Key: "$set", Value: passed}})
		for _, session := range []*sessions.Session{held, aware} {
			session.Values["n"] = 2
			save := b.Clone().Save
			if how == "renew" {
				save = b.Clone().Renew
			}
			if w, err := save(session); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("%s: error %v", how, err)
			}
		}
		if !b.Load().IsNew || len(storetest.SessionsOf(t, f.Store, "ada")) != 0 {
			t.Errorf("%s: the session is back, or listed", how)
		}
	}
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

// TestLongerLife: sessions from before get a MaxAge that was raised when they are next
// written, and until then keep the expiry that they have.
func TestLongerLife(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.Options = &sessions.Options{Path: "/", MaxAge: 3600} })
	b := f.Browser().Login()
	lenient := f.Open()
	lenient.MaxAge(7200)
	b.Store = lenient
	b.Do(func(*sessions.Session) {})
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(time.Hour))
	b.Do(func(s *sessions.Session) { s.Values["n"] = 1 })
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(2*time.Hour))
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
