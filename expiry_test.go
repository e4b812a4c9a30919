package mongostore_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestTheDocumentEndsASessionInTime: a session that is not used ends, use prolongs its life, and
// nothing prolongs it beyond the absolute timeout. The document alone decides, whatever the cookie
// says or another process is set to.
func TestTheDocumentEndsASessionInTime(t *testing.T) {
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

// TestTouchIsThrottled: saves move the expiry, and send the cookie, once per interval. The interval is
// never above a tenth of the lifetime.
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
		f.Age(row.age)
		f.Log.Reset()
		c := b.Do(func(*sessions.Session) {})
		want := []string{"find"}
		if row.writes {
			want = append(want, "update")
		}
		f.WantCommands(want...)
		if (c != nil) != row.writes {
			t.Errorf("%+v: cookie %v", row, c)
		}
		// A second request right after it has nothing to do.
		if c := b.Do(func(*sessions.Session) {}); row.writes && c != nil {
			t.Errorf("%+v: cookie %v, right after the touch", row, c)
		}
		f.WantCommands("find")
	}
}

// TestSaveUnawareOfAShorterMaxAgeKeepsIt: a touch by a request that has loaded the session before it
// got its MaxAge moves the expiry by that MaxAge, and its cookie says so. A request that has held the
// session since before then does not bring it back after its end, nor is it listed.
func TestSaveUnawareOfAShorterMaxAgeKeepsIt(t *testing.T) {
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
		w, err := b.Clone().Save(unaware)
		if err != nil {
			t.Fatal(err)
		}
		if cookies := w.Result().Cookies(); len(cookies) != 1 || cookies[0].MaxAge != 7200 || unaware.Options.MaxAge != 7200 {
			t.Errorf("%s: cookies %v, of a session with MaxAge %d", how, cookies, unaware.Options.MaxAge)
		}
		storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(2*time.Hour))
		if infos := storetest.SessionsOf(t, f.Store, "ada"); len(infos) != 1 || infos[0].ExpiresAt.After(time.Now().Add(2*time.Hour)) {
			t.Errorf("%s: listed: %v", how, infos)
		}

		f.Age(3 * time.Hour)
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

// TestLoweredMaxAgeShortensLives: a store whose MaxAge was lowered shortens the lives of the
// sessions that are used, and one request's shorter MaxAge is not lost for good in another's
// save.
func TestLoweredMaxAgeShortensLives(t *testing.T) {
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

// TestLateSaveDoesNotReviveAnExpiredSession: an expiry that another request has brought forward
// is not undone by a slow one.
func TestLateSaveDoesNotReviveAnExpiredSession(t *testing.T) {
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

// TestRaisedMaxAgeCountsFromTheNextTouch: until then, sessions from before keep their expiry.
func TestRaisedMaxAgeCountsFromTheNextTouch(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.Options = &sessions.Options{Path: "/", MaxAge: 3600} })
	b := f.Browser().Login()
	lenient := f.Open()
	lenient.MaxAge(7200)
	b.Store = lenient
	b.Do(func(*sessions.Session) {})
	b.Do(func(s *sessions.Session) { s.Values["n"] = 1 })
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(time.Hour))
	f.Age(2 * time.Minute)
	b.Do(func(*sessions.Session) {})
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(2*time.Hour))
}

// TestAbsoluteTimeoutEndsASessionInUse ends a session however often it is used, renewed or touched.
func TestAbsoluteTimeoutEndsASessionInUse(t *testing.T) {
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
	age(90 * time.Minute)
	f.Edit(storetest.SetDate("expiresAt", time.Now().Add(time.Minute)))
	b.Do(func(s *sessions.Session) { s.Values["n"] = 1 }) // with a touch
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
	for info, err := range f.Store.All(t.Context()) {
		t.Errorf("it is listed: %+v, %v", info, err)
	}
}

// TestExpiryIsDecidedByTheMaxAgeOfTheDocument: a request that does not know of another's
// MaxAge moves the expiry by the new one, and its cookie agrees with it.
func TestExpiryIsDecidedByTheMaxAgeOfTheDocument(t *testing.T) {
	t.Parallel()
	const day = 24 * 3600
	for what, row := range map[string]struct {
		store, was, is int // MaxAge of the store, of the session at first, and as another request sets it
		lives          int // seconds
	}{
		"ends with the browser":   {0, 365 * day, 0, 3600},
		"shortened":               {30 * day, 30 * day, 60, 60},
		"own shortened":           {day, 30 * day, 7200, 7200},
		"own back to the store's": {day, 30 * day, day, day},
		"remember me":             {3600, 3600, 30 * day, 30 * day},
		"own prolonged":           {day, 3600, 30 * day, 30 * day},
	} {
		for how, save := range map[string]func(*storetest.Browser, *sessions.Session) (*httptest.ResponseRecorder, error){
			"changed": func(b *storetest.Browser, s *sessions.Session) (*httptest.ResponseRecorder, error) {
				s.Values["n"] = 1
				return b.Save(s)
			},
			"unchanged": (*storetest.Browser).Save,
			"renewed":   (*storetest.Browser).Renew,
			"list": func(b *storetest.Browser, s *sessions.Session) (*httptest.ResponseRecorder, error) {
				s.AddFlash("hello")
				return b.Save(s)
			},
		} {
			for _, due := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, touch due %t", what, how, due), func(t *testing.T) {
					t.Parallel()
					f := storetest.Setup(t, storetest.StoreOptions(row.store), func(c *mongostore.Config) { c.BrowserTTL = time.Hour })
					b := f.Browser()
					b.Visit(func(s *sessions.Session) { s.Values["user"], s.Options.MaxAge = "ada", row.was })
					if due {
						f.Older(10 * time.Minute)
					}
					slow := b.Load()
					other := b.Clone()
					other.Visit(func(s *sessions.Session) { s.Options.MaxAge = row.is })
					w, err := save(b, slow)
					if err != nil {
						t.Fatal(err)
					}
					doc := f.Document()
					want := time.Duration(row.lives) * time.Second
					if left := time.Until(doc.Lookup("expiresAt").Time()); left > want+time.Second || left < want-30*time.Second {
						t.Errorf("expires in %v, want %v", left, want)
					}
					for _, c := range w.Result().Cookies() {
						if c.MaxAge != row.is {
							t.Errorf("cookie with Max-Age %d, want %d", c.MaxAge, row.is)
						}
					}
					if s := b.Load(); s.Options.MaxAge != row.is {
						t.Errorf("the session's MaxAge is %d, want %d", s.Options.MaxAge, row.is)
					}
					if n, err := f.Store.Count(t.Context()); n != 1 || err != nil {
						t.Errorf("Count: %d, %v", n, err)
					}
					// Time passes.
					shift := want + 30*time.Second
					set := bson.D{}
					for _, field := range []string{"createdAt", "seenAt", "expiresAt"} {
						set = append(set, bson.E{Key: field, Value: doc.Lookup(field).Time().Add(-shift)})
					}
					if _, err := f.Coll.UpdateOne(t.Context(), bson.D{{Key: "_id", Value: doc.Lookup("_id")}}, bson.D{{Key: "$set", Value: set}}); err != nil {
						t.Fatal(err)
					}
					b.WantOut("after its lifetime")
					if n, err := f.Store.Count(t.Context()); n != 0 || err != nil {
						t.Errorf("Count, after its lifetime: %d, %v", n, err)
					}
					if _, err := f.Store.DeleteExpired(t.Context()); err != nil {
						t.Error(err)
					}
					f.WantLive(0)
				})
			}
		}
	}
}

// TestOwnMaxAgeStaysItsOwn: also where it equals the default of another process.
func TestOwnMaxAgeStaysItsOwn(t *testing.T) {
	t.Parallel()
	for what, use := range map[string]func(*storetest.Browser) error{
		"changed": func(b *storetest.Browser) error {
			s := b.Load()
			s.Values["n"] = 1
			_, err := b.Save(s)
			return err
		},
		"touch": func(b *storetest.Browser) error {
			b.F.Older(10 * time.Minute)
			_, err := b.Save(b.Load())
			return err
		},
		"unchanged": func(b *storetest.Browser) error {
			_, err := b.Save(b.Load())
			return err
		},
		"renewed": func(b *storetest.Browser) error {
			_, err := b.Renew(b.Load())
			return err
		},
		"job": func(b *storetest.Browser) error {
			s, err := b.Store.Fetch(b.F.T.Context(), storetest.Name, b.Load().ID)
			if err == nil {
				s.Values["n"] = 1
				err = b.Store.Persist(b.F.T.Context(), s)
			}
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			b := f.Browser()
			b.Visit(func(s *sessions.Session) { s.Values["user"], s.Options.MaxAge = "ada", 3600 })
			other := b.At(f.Another(storetest.StoreOptions(3600)))
			if err := use(other); err != nil {
				t.Fatal(err)
			}
			doc := f.Document()
			if age, ok := doc.Lookup("maxAge").AsInt64OK(); !ok || age != 3600 {
				t.Errorf("maxAge: %v", doc.Lookup("maxAge"))
			}
			other.Store = f.Store
			if s := other.Load(); s.Options.MaxAge != 3600 {
				t.Errorf("MaxAge is %d", s.Options.MaxAge)
			}
			f.Older(10 * time.Minute)
			if w, err := other.Save(other.Load()); err != nil || len(w.Result().Cookies()) != 1 || w.Result().Cookies()[0].MaxAge != 3600 {
				t.Errorf("a touch: %v, cookies %q", err, w.Header()["Set-Cookie"])
			}
			if left := time.Until(f.Document().Lookup("expiresAt").Time()); left > time.Hour+time.Second {
				t.Errorf("expires in %v", left)
			}
		})
	}
}

// TestOtherStoresSettingsDeleteNothing: what one store enforces on its loads does not
// delete another's sessions.
func TestOtherStoresSettingsDeleteNothing(t *testing.T) {
	t.Parallel()
	strict := func(c *mongostore.Config) {
		c.AbsoluteTimeout = time.Minute
		c.Options = &sessions.Options{Path: "/", MaxAge: 60}
	}
	t.Run("DeleteExpired", func(t *testing.T) {
		t.Parallel()
		f := storetest.Setup(t)
		b := f.Browser()
		b.Visit(storetest.SetValue("user", "ada"))
		f.Older(time.Hour)
		if n, err := f.Another(strict).DeleteExpired(t.Context()); n != 0 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		b.WantIn("afterwards")
	})
	t.Run("sweep", func(t *testing.T) {
		t.Parallel()
		f := storetest.Setup(t)
		expired := f.Browser()
		expired.Visit(storetest.SetValue("user", "bob"))
		f.Expire()
		b := f.Browser()
		b.Visit(storetest.SetValue("user", "ada"))
		if _, err := f.Coll.UpdateOne(t.Context(), bson.D{{Key: "_id", Value: storetest.HashOf(b.Load().ID)}}, storetest.SetDate("createdAt", time.Now().Add(-time.Hour))); err != nil {
			t.Fatal(err)
		}
		other := f.Browser()
		other.Store = f.Another(strict, func(c *mongostore.Config) { c.Cleanup = mongostore.CleanupSweep })
		other.Visit(storetest.SetValue("user", "eve"))
		storetest.Eventually(t, "the expired session is swept", func() bool { return len(f.Live()) < 3 })
		storetest.Eventually(t, "the sweep has ended", func() bool { return len(f.Live()) == 2 })
		b.WantIn("afterwards")
	})
}

// TestTimesThatCannotBe: a process whose clock was wrong may have written them. They
// neither void a timeout nor end a session, and the next save writes them right.
func TestTimesThatCannotBe(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	const lifetime = time.Hour
	for what, ahead := range map[string][]string{
		"createdAt": {"createdAt"},
		"seenAt":    {"seenAt"},
		"expiresAt": {"expiresAt"},
		"all":       {"createdAt", "seenAt", "expiresAt"},
		"touched":   {"seenAt", "expiresAt"},
	} {
		for how, save := range map[string]func(*storetest.Browser, *sessions.Session) (*httptest.ResponseRecorder, error){
			"unchanged": (*storetest.Browser).Save,
			"changed": func(b *storetest.Browser, s *sessions.Session) (*httptest.ResponseRecorder, error) {
				s.Values["n"] = 1
				return b.Save(s)
			},
			"list": func(b *storetest.Browser, s *sessions.Session) (*httptest.ResponseRecorder, error) {
				s.AddFlash("hello")
				return b.Save(s)
			},
			"renewed": (*storetest.Browser).Renew,
		} {
			for _, absolute := range []time.Duration{0, 2 * time.Hour} {
				for _, own := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s, %s, absolute timeout %v, own MaxAge %t", what, how, absolute, own), func(t *testing.T) {
						t.Parallel()
						f := storetest.Setup(t, func(c *mongostore.Config) { c.AbsoluteTimeout = absolute }, storetest.StoreOptions(int(lifetime.Seconds())))
						if own {
							f.Store = f.Another(storetest.StoreOptions(2 * int(lifetime.Seconds())))
						}
						b := f.Browser()
						b.Visit(func(s *sessions.Session) { s.Values["user"], s.Options.MaxAge = "ada", int(lifetime.Seconds()) })
						doc, set := f.Document(), bson.D{}
						for _, field := range ahead {
							set = append(set, bson.E{Key: field, Value: doc.Lookup(field).Time().Add(year)})
						}
						f.Edit(bson.D{{Key: "$set", Value: set}})
						b.WantIn("before the save")
						w, err := save(b, b.Load())
						if err != nil {
							t.Fatal(err)
						}
						if len(w.Result().Cookies()) != 1 {
							t.Errorf("cookies: %q", w.Header()["Set-Cookie"])
						}
						after := f.Document()
						storetest.WantTime(t, after, "createdAt", time.Now())
						storetest.WantTime(t, after, "seenAt", time.Now())
						storetest.WantTime(t, after, "expiresAt", time.Now().Add(lifetime))
						b.WantIn("after the save")
						f.Log.Reset()
						storetest.WantNoCookie(t, "the next request", b.Visit(storetest.Unchanged))
					})
				}
			}
		}
	}
}

// TestTimesThatCannotBeVoidNoTimeout: where the time of the last touch is known, an expiry
// beyond what the settings allow does not count.
func TestTimesThatCannotBeVoidNoTimeout(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	for what, row := range map[string]struct {
		own      bool
		absolute time.Duration
		created  time.Duration // ago
		seen     time.Duration
	}{
		"idle":               {false, 0, 3 * time.Hour, 2 * time.Hour},
		"idle of its own":    {true, 0, 3 * time.Hour, 2 * time.Hour},
		"absolute":           {false, 2 * time.Hour, 3 * time.Hour, 0},
		"absolute, own idle": {true, 2 * time.Hour, 3 * time.Hour, 0},
	} {
		f := storetest.Setup(t, func(c *mongostore.Config) { c.AbsoluteTimeout = row.absolute }, storetest.StoreOptions(3600))
		if row.own {
			f.Store = f.Another(storetest.StoreOptions(7200))
		}
		b := f.Browser()
		b.Visit(func(s *sessions.Session) { s.Values["user"], s.Options.MaxAge = "ada", 3600 })
		f.Edit(bson.D{{Key: "$set", Value: bson.D{
			{Key: "createdAt", Value: time.Now().Add(-row.created)},
			{Key: "seenAt", Value: time.Now().Add(-row.seen)},
			{Key: "expiresAt", Value: time.Now().Add(year)},
		}}})
		b.WantOut(what)
	}
}

// TestTimesAreCorrectedOnce: a second save of the session sends nothing.
func TestTimesAreCorrectedOnce(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	f.Edit(storetest.SetDate("seenAt", time.Now().Add(time.Hour)))
	session := b.Load()
	f.Log.Reset()
	b.MustSave(session)
	f.WantCommands("update")
	storetest.WantNoCookie(t, "the second save", b.MustSave(session))
	f.WantCommands()
}

// TestClocksMayDifferByAMinute: what a process whose clock is a little ahead has written
// is not written again.
func TestClocksMayDifferByAMinute(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, storetest.StoreOptions(3600))
	b := f.Browser()
	b.Visit(storetest.SetValue("user", "ada"))
	f.Older(-30 * time.Second)
	before := f.Document()
	f.Log.Reset()
	storetest.WantNoCookie(t, "unchanged", b.Visit(storetest.Unchanged))
	f.WantCommands("find")
	if after := f.Document(); string(after) != string(before) {
		t.Error("the document has changed")
	}
	b.WantIn("afterwards")
}

// TestVisitorStaysAfterAWrongClock: an active visitor of a session that a wrong clock has
// touched is not logged out once the right clocks have corrected it.
func TestVisitorStaysAfterAWrongClock(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, storetest.StoreOptions(3600))
	b := f.Browser()
	b.Visit(storetest.SetValue("user", "ada"))
	doc := f.Document()
	f.Edit(bson.D{{Key: "$set", Value: bson.D{
		{Key: "seenAt", Value: doc.Lookup("seenAt").Time().AddDate(1, 0, 0)},
		{Key: "expiresAt", Value: doc.Lookup("expiresAt").Time().AddDate(1, 0, 0)},
	}}})
	b.Visit(storetest.SetValue("n", 0))
	for i := range 4 { // an hour and 20 minutes
		f.Older(20 * time.Minute)
		b.Visit(storetest.SetValue("n", i+1))
		storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(time.Hour))
		storetest.WantTime(t, f.Document(), "seenAt", time.Now())
	}
	b.WantIn("after an hour and 20 minutes of activity")
	f.Older(61 * time.Minute)
	b.WantOut("after 61 minutes without")
}
