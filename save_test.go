package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestSaving: for each state of a session, what Save returns, what it sends, what cookie it sets
// and what the database holds then.
func TestSaving(t *testing.T) {
	t.Parallel()
	const (
		noCookie = iota
		sameCookie
		newCookie
		expiredCookie
	)
	anyCommands := []string{"an insert, and what removes its document"} // the latter in the background
	type request struct {
		f       *storetest.Fixture
		b       *storetest.Browser
		session *sessions.Session
	}
	for _, row := range []struct {
		name     string
		config   func(*mongostore.Config)
		prepare  func(*testing.T, *request) // up to the Save that is looked at
		err      error
		commands []string
		cookie   int
		docs     int
		check    func(*testing.T, *request)
	}{
		{
			name:     "new",
			prepare:  func(_ *testing.T, q *request) { q.session = q.b.Load(); q.session.Values["a"] = 1 },
			commands: []string{"insert"}, cookie: newCookie, docs: 1,
		},
		{
			name: "new, saved a second time in the same request",
			prepare: func(t *testing.T, q *request) {
				q.session = q.b.Load()
				q.session.Values["a"] = 1
				if _, err := q.b.Save(q.session); err != nil {
					t.Fatal(err)
				}
				q.session.Values["b"] = 2
			},
			commands: []string{"update"}, cookie: sameCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				if s := q.b.Load(); s.Values["a"] != 1 || s.Values["b"] != 2 {
					t.Errorf("values: %v", s.Values)
				}
			},
		},
		{
			name:     "unchanged, not due for a touch",
			prepare:  func(_ *testing.T, q *request) { q.session = q.b.Login().Load() },
			commands: nil, cookie: sameCookie, docs: 1,
		},
		{
			name:   "unchanged, due",
			config: func(c *mongostore.Config) { c.TouchInterval = time.Nanosecond },
			prepare: func(_ *testing.T, q *request) {
				q.b.Login()
				q.f.Edit(bson.D{{Key: "$set", Value: bson.D{
					{Key: "seenAt", Value: time.Now().Add(-time.Hour)}, {Key: "expiresAt", Value: time.Now().Add(time.Hour)},
				}}})
				q.session = q.b.Load()
			},
			commands: []string{"update"}, cookie: sameCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				doc := q.f.Document()
				storetest.WantTime(t, doc, "seenAt", time.Now())
				storetest.WantTime(t, doc, "expiresAt", time.Now().Add(30*24*time.Hour))
				if rev := doc.Lookup("rev").AsInt64(); rev != 1 {
					t.Errorf("rev is %d after a touch, want 1", rev)
				}
			},
		},
		{
			name: "changed",
			prepare: func(_ *testing.T, q *request) {
				q.b.Do(func(s *sessions.Session) { s.Values["gone"], s.Values["kept"], s.Values["new"] = 1, 2, 3 })
				q.session = q.b.Load()
				delete(q.session.Values, "gone")
				q.session.Values["new"] = "other"
			},
			commands: []string{"update"}, cookie: sameCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				doc := q.f.Document()
				want := bson.D{{Key: "kept", Value: int32(2)}, {Key: "new", Value: "other"}}
				if got := fmt.Sprint(decoded(t, doc.Lookup("values"))); got != fmt.Sprint(want) {
					t.Errorf("values: %s, want %v", got, want)
				}
				if rev := doc.Lookup("rev").AsInt64(); rev != 2 {
					t.Errorf("rev is %d, want 2", rev)
				}
				storetest.WantTime(t, doc, "expiresAt", time.Now().Add(30*24*time.Hour))
			},
		},
		{
			name: "removed meanwhile",
			prepare: func(_ *testing.T, q *request) {
				q.session = q.b.Login().Load()
				q.b.Clone().Logout()
				q.session.Values["late"] = true
			},
			err: mongostore.ErrGone, commands: []string{"update"}, cookie: noCookie, docs: 0,
		},
		{
			name: "removed meanwhile, saved once more",
			prepare: func(t *testing.T, q *request) {
				q.session = q.b.Login().Load()
				q.b.Clone().Logout()
				q.session.Values["late"] = true
				if _, err := q.b.Save(q.session); !errors.Is(err, mongostore.ErrGone) {
					t.Errorf("first save: %v", err)
				}
				q.session.ID = ""
			},
			err: mongostore.ErrGone, commands: nil, cookie: noCookie, docs: 0,
		},
		{
			name: "expired meanwhile, the document still there",
			prepare: func(_ *testing.T, q *request) {
				q.b.Do(func(s *sessions.Session) { s.Options.MaxAge = 1 })
				q.session = q.b.Load()
				expiry := q.f.Document().Lookup("expiresAt").Time()
				storetest.Eventually(q.f.T, "the session has expired", func() bool { return time.Now().After(expiry) })
				q.session.Values["late"] = true
			},
			err: mongostore.ErrGone, commands: []string{"update", "find"}, cookie: noCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				if s := q.b.Load(); !s.IsNew {
					t.Error("the session has come back")
				}
			},
		},
		{
			name: "expired meanwhile, unchanged",
			prepare: func(_ *testing.T, q *request) {
				q.b.Do(func(s *sessions.Session) { s.Options.MaxAge = 1 })
				q.session = q.b.Load()
				expiry := q.f.Document().Lookup("expiresAt").Time()
				storetest.Eventually(q.f.T, "the session has expired", func() bool { return time.Now().After(expiry) })
			},
			err: mongostore.ErrGone, commands: []string{"update", "find"}, cookie: noCookie, docs: 1,
		},
		{
			name: "expired as loaded, but prolonged by another request",
			prepare: func(t *testing.T, q *request) {
				q.b.Do(func(s *sessions.Session) { s.Options.MaxAge = 1 })
				q.session = q.b.Load()
				expiry := q.f.Document().Lookup("expiresAt").Time()
				other := q.b.Load()
				other.Options.MaxAge = 3600
				if _, err := q.b.Clone().Save(other); err != nil {
					t.Fatal(err)
				}
				storetest.Eventually(t, "the first expiry has passed", func() bool { return time.Now().After(expiry) })
				q.session.Values["late"] = true
			},
			commands: []string{"update", "find", "update"}, cookie: sameCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				storetest.WantTime(t, q.f.Document(), "expiresAt", time.Now().Add(time.Hour))
			},
		},
		{
			name:   "loaded during an outage",
			config: func(c *mongostore.Config) { c.Timeout = 2 * time.Second },
			prepare: func(t *testing.T, q *request) {
				q.b.Login()
				q.f.Wire.On("find", storetest.Rule{Kind: storetest.Refuse})
				var err error
				if q.session, err = q.b.Store.Get(q.b.Request(), storetest.Name); !errors.Is(err, mongostore.ErrUnavailable) {
					t.Fatalf("load: %v", err)
				}
				q.f.Wire.Heal()
				q.session.Values["user"] = "nobody"
			},
			err: mongostore.ErrUnavailable, commands: nil, cookie: noCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				if s := q.b.Load(); s.Values["user"] != "ada" {
					t.Errorf("after the outage the session is %v", s.Values)
				}
			},
		},
		{
			name:   "loaded during an outage, MaxAge < 0",
			config: func(c *mongostore.Config) { c.Timeout = 2 * time.Second },
			prepare: func(t *testing.T, q *request) {
				q.b.Login()
				q.f.Wire.On("find", storetest.Rule{Kind: storetest.Refuse})
				var err error
				if q.session, err = q.b.Store.Get(q.b.Request(), storetest.Name); !errors.Is(err, mongostore.ErrUnavailable) {
					t.Fatalf("load: %v", err)
				}
				q.f.Wire.Heal()
				q.session.Options.MaxAge = -1
			},
			commands: []string{"delete"}, cookie: expiredCookie, docs: 0,
		},
		{
			name: "damaged, MaxAge < 0",
			prepare: func(t *testing.T, q *request) {
				q.b.Login()
				q.f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: 2}}}})
				var err error
				if q.session, err = q.b.Store.Get(q.b.Request(), storetest.Name); !errors.Is(err, mongostore.ErrCorrupt) {
					t.Fatalf("load: %v", err)
				}
				q.session.Options.MaxAge = -1
			},
			commands: []string{"delete"}, cookie: expiredCookie, docs: 0,
		},
		{
			name: "MaxAge < 0",
			prepare: func(_ *testing.T, q *request) {
				q.session = q.b.Login().Load()
				q.session.Options.MaxAge = -1
			},
			commands: []string{"delete"}, cookie: expiredCookie, docs: 0,
		},
		{
			name: "MaxAge < 0, a second time in the same request",
			prepare: func(t *testing.T, q *request) {
				q.session = q.b.Login().Load()
				q.session.Options.MaxAge = -1
				if _, err := q.b.Save(q.session); err != nil {
					t.Fatal(err)
				}
			},
			commands: nil, cookie: expiredCookie, docs: 0,
		},
		{
			name: "MaxAge < 0, then positive again",
			prepare: func(t *testing.T, q *request) {
				q.session = q.b.Login().Load()
				q.session.Options.MaxAge = -1
				if _, err := q.b.Save(q.session); err != nil {
					t.Fatal(err)
				}
				q.session.Options.MaxAge = 3600
			},
			err: mongostore.ErrGone, commands: nil, cookie: noCookie, docs: 0,
		},
		{
			name: "MaxAge < 0, new",
			prepare: func(_ *testing.T, q *request) {
				q.session = q.b.Load()
				q.session.Options.MaxAge = -1
			},
			commands: nil, cookie: expiredCookie, docs: 0,
		},
		{
			name: "MaxAge == 0",
			prepare: func(_ *testing.T, q *request) {
				q.session = q.b.Load()
				q.session.Options.MaxAge = 0
			},
			commands: []string{"insert"}, cookie: newCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				storetest.WantTime(t, q.f.Document(), "expiresAt", time.Now().Add(24*time.Hour))
				if s := q.b.Load(); s.Options.MaxAge != 0 {
					t.Errorf("MaxAge comes back as %d", s.Options.MaxAge)
				}
			},
		},
		{
			name: "MaxAge of its own, kept on later requests",
			prepare: func(_ *testing.T, q *request) {
				q.b.Do(func(s *sessions.Session) { s.Options.MaxAge = 7 * 24 * 3600 })
				q.session = q.b.Load()
				q.session.Values["a"] = 1
			},
			commands: []string{"update"}, cookie: sameCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				doc := q.f.Document()
				storetest.WantTime(t, doc, "expiresAt", time.Now().Add(7*24*time.Hour))
				if age := doc.Lookup("maxAge").AsInt64(); age != 7*24*3600 {
					t.Errorf("maxAge is %d", age)
				}
				if s := q.b.Load(); s.Options.MaxAge != 7*24*3600 {
					t.Errorf("MaxAge comes back as %d", s.Options.MaxAge)
				}
			},
		},
		{
			name: "MaxAge of its own given up, which shortens its life",
			prepare: func(_ *testing.T, q *request) {
				q.b.Do(func(s *sessions.Session) { s.Options.MaxAge = 90 * 24 * 3600 })
				q.session = q.b.Load()
				q.session.Options.MaxAge = 30 * 24 * 3600 // the store's
			},
			commands: []string{"update"}, cookie: sameCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				doc := q.f.Document()
				storetest.WantTime(t, doc, "expiresAt", time.Now().Add(30*24*time.Hour))
				if _, err := doc.LookupErr("maxAge"); err == nil {
					t.Error("maxAge is still there")
				}
			},
		},
		{
			name: "MaxAge beyond all measure",
			prepare: func(_ *testing.T, q *request) {
				q.session = q.b.Load()
				q.session.Options.MaxAge = math.MaxInt
			},
			commands: []string{"insert"}, cookie: newCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				if s := q.b.Load(); s.IsNew || s.Options.MaxAge != math.MaxInt {
					t.Errorf("MaxAge comes back as %d, new %t", s.Options.MaxAge, s.IsNew)
				}
			},
		},
		{
			name: "given no ID by the application",
			prepare: func(_ *testing.T, q *request) {
				q.session = q.b.Login().Load()
				q.session.ID = ""
			},
			commands: []string{"insert", "update", "delete"}, cookie: newCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				if s := q.b.Load(); s.Values["user"] != "ada" || s.ID != q.session.ID {
					t.Errorf("values under the new ID: %v", s.Values)
				}
			},
		},
		{
			name: "given another ID by the application",
			prepare: func(_ *testing.T, q *request) {
				q.session = q.b.Login().Load()
				q.session.ID = "chosen"
			},
			commands: []string{"insert", "update", "delete"}, cookie: newCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				if q.session.ID == "chosen" {
					t.Error("the store has adopted an ID")
				}
				if s := q.b.Load(); s.Values["user"] != "ada" || s.ID != q.session.ID {
					t.Errorf("values under the new ID: %v", s.Values)
				}
			},
		},
		{
			name: "new, and given an ID by the application",
			prepare: func(_ *testing.T, q *request) {
				q.session = q.b.Load()
				q.session.ID = "chosen"
			},
			commands: []string{"insert"}, cookie: newCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				if q.session.ID == "chosen" {
					t.Error("the store has adopted an ID")
				}
			},
		},
		{
			name:   "too large",
			config: func(c *mongostore.Config) { c.MaxSize = 1000 },
			prepare: func(_ *testing.T, q *request) {
				q.session = q.b.Login().Load()
				q.session.Values["a"] = strings.Repeat("x", 1000)
			},
			err: mongostore.ErrTooLarge, commands: nil, cookie: noCookie, docs: 1,
		},
		{
			name: "larger than the 4096 bytes of a cookie",
			prepare: func(_ *testing.T, q *request) {
				q.session = q.b.Login().Load()
				q.session.Values["a"] = strings.Repeat("x", 100_000)
			},
			commands: []string{"update"}, cookie: sameCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				if s, _ := q.b.Load().Values["a"].(string); len(s) != 100_000 {
					t.Errorf("%d bytes come back", len(s))
				}
			},
		},
		{
			name: "database refuses the insert",
			prepare: func(_ *testing.T, q *request) {
				q.session = q.b.Load()
				q.f.Wire.On("insert", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized"), Once: true})
			},
			err: mongostore.ErrUnavailable, commands: []string{"insert"}, cookie: noCookie, docs: 0,
			check: func(t *testing.T, q *request) {
				if q.session.ID != "" {
					t.Error("a session that is not stored has an ID")
				}
				if _, err := q.b.Save(q.session); err != nil {
					t.Errorf("the next save: %v", err)
				}
				q.f.WantDocuments(1)
			},
		},
		{
			name: "database refuses the update",
			prepare: func(_ *testing.T, q *request) {
				q.session = q.b.Login().Load()
				q.session.Values["a"] = 1
				q.f.Wire.On("update", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized"), Once: true})
			},
			err: mongostore.ErrUnavailable, commands: []string{"update"}, cookie: noCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				if _, err := q.b.Save(q.session); err != nil {
					t.Errorf("the next save: %v", err)
				}
				if s := q.b.Load(); s.Values["a"] != 1 {
					t.Errorf("values: %v", s.Values)
				}
			},
		},
		{
			name: "write concern not met",
			prepare: func(_ *testing.T, q *request) {
				q.session = q.b.Load()
				q.f.Wire.On("insert", storetest.Rule{Kind: storetest.AnswerAfter, Once: true, Reply: bson.D{
					{Key: "ok", Value: 1},
					{Key: "n", Value: 1},
					{Key: "writeConcernError", Value: bson.D{{Key: "code", Value: 64}, {Key: "errmsg", Value: "waiting for replication timed out"}}},
				}})
			},
			err: mongostore.ErrUnavailable, commands: anyCommands, cookie: noCookie, docs: -1,
			check: func(t *testing.T, q *request) {
				// What was not confirmed is taken back, and the next save makes it anew.
				if _, err := q.b.Save(q.session); err != nil {
					t.Errorf("the next save: %v", err)
				}
				storetest.Eventually(t, "one document is left", func() bool { return len(q.f.Documents()) == 1 })
				if q.b.Load().IsNew {
					t.Error("the session is gone")
				}
			},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var config []func(*mongostore.Config)
			if row.config != nil {
				config = append(config, row.config)
			}
			f := storetest.Setup(t, config...)
			q := &request{f: f, b: f.Browser()}
			row.prepare(t, q)
			cookieBefore, idBefore := q.b.Cookies[storetest.Name], q.session.ID
			f.Log.Reset()

			w, err := q.b.Save(q.session)
			if !errors.Is(err, row.err) || (err == nil) != (row.err == nil) {
				t.Errorf("error: %v, want %v", err, row.err)
			}
			if !slices.Equal(row.commands, anyCommands) {
				f.WantCommands(row.commands...)
			}
			if row.docs >= 0 {
				f.WantDocuments(row.docs)
			}
			set := w.Result().Cookies()
			switch {
			case row.cookie == noCookie:
				if len(set) > 0 {
					t.Errorf("a cookie is set: %v", set)
				}
			case len(set) != 1:
				t.Errorf("%d cookies are set: %v", len(set), set)
			case row.cookie == expiredCookie:
				if set[0].MaxAge >= 0 || set[0].Value != "" || set[0].Expires.After(time.Now()) {
					t.Errorf("the cookie has not expired: %v", set[0])
				}
			case row.cookie == sameCookie:
				if s := q.b.Load(); s.ID != idBefore || s.IsNew {
					t.Error("the cookie is not that of the session")
				}
			default:
				if s := q.b.Load(); s.ID != q.session.ID || s.IsNew || s.ID == idBefore {
					t.Error("the cookie is not that of a new session")
				}
				if cookieBefore != "" {
					b := f.Browser()
					b.Cookies[storetest.Name] = cookieBefore
					if s := b.Load(); !s.IsNew {
						t.Error("the old ID still works")
					}
				}
			}
			if row.check != nil {
				row.check(t, q)
			}
		})
	}
}

// decoded gives a document as the driver decodes it.
func decoded(t *testing.T, v bson.RawValue) bson.D {
	t.Helper()
	var d bson.D
	if err := v.Unmarshal(&d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDocument looks at a session's document from outside.
func TestDocument(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Do(func(s *sessions.Session) {
		s.Values["user_id"] = 42
		s.Values["theme"] = "dark"
		s.Values["expiresAt"] = "never"
		s.Values["$set"] = 1
		s.Values["a.b"] = true
		s.Values[7] = "seven"
		s.AddFlash("Welcome back")
	})
	doc := f.Document()
	var fields []string
	elements, err := doc.Elements()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range elements {
		fields = append(fields, e.Key())
	}
	if want := []string{"_id", "v", "name", "values", "rev", "createdAt", "seenAt", "expiresAt"}; !slices.Equal(fields, want) {
		t.Errorf("fields: %q, want %q", fields, want)
	}
	if id := doc.Lookup("_id").StringValue(); len(id) != 43 || id != storetest.HashOf(b.Load().ID) {
		t.Errorf("_id is not the hash of the ID: %q", id)
	}
	if v := doc.Lookup("v").AsInt64(); v != 1 {
		t.Errorf("v is %d", v)
	}
	if n := doc.Lookup("name").StringValue(); n != storetest.Name {
		t.Errorf("name is %q", n)
	}
	if rev := doc.Lookup("rev").AsInt64(); rev != 1 {
		t.Errorf("rev is %d", rev)
	}
	storetest.WantTime(t, doc, "createdAt", time.Now())
	storetest.WantTime(t, doc, "seenAt", time.Now())
	storetest.WantTime(t, doc, "expiresAt", time.Now().Add(30*24*time.Hour))
	want := bson.D{
		{Key: "%24set", Value: int32(1)},
		{Key: "%int:7", Value: "seven"},
		{Key: "_flash", Value: bson.A{"Welcome back"}},
		{Key: "a%2Eb", Value: true},
		{Key: "expiresAt", Value: "never"},
		{Key: "theme", Value: "dark"},
		{Key: "user_id", Value: int32(42)},
	}
	if got := fmt.Sprint(decoded(t, doc.Lookup("values"))); got != fmt.Sprint(want) {
		t.Errorf("values:\n%s, want\n%v", got, want)
	}
	if strings.Contains(string(doc), b.Load().ID) {
		t.Error("the document holds the ID")
	}
	// Support staff can ask for them.
	n, err := f.Coll.CountDocuments(t.Context(), bson.D{{Key: "values.user_id", Value: 42}})
	if err != nil || n != 1 {
		t.Errorf("a query for a value finds %d, %v", n, err)
	}
	if flashes := b.Load().Flashes(); len(flashes) != 1 || flashes[0] != "Welcome back" {
		t.Errorf("flashes: %v", flashes)
	}
}

// TestCookieTwice: of several saves in one request the last cookie remains, and
// cookies of others stay.
func TestCookieTwice(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	r, w := f.Browser().Request(), httptest.NewRecorder()
	http.SetCookie(w, &http.Cookie{Name: "other", Value: "1"})
	session, err := f.Store.Get(r, storetest.Name)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		session.Values["i"] = i
		session.Options.MaxAge = 1000 + i
		if err := session.Save(r, w); err != nil {
			t.Fatal(err)
		}
	}
	cookies := w.Result().Cookies()
	if len(cookies) != 2 || cookies[0].Name != "other" || cookies[1].Name != storetest.Name || cookies[1].MaxAge != 1002 {
		t.Errorf("cookies: %v", cookies)
	}
}

// derived is the key of a value that middleware puts into a request.
type derived struct{}

// TestSessionOutlivesRequest: the store knows a session again whatever request it is
// saved with, and when gorilla's registry has changed its store.
func TestSessionOutlivesRequest(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session := b.Load()
	for i := range 3 {
		session.Values["i"] = i
		r := b.Request()
		r = r.WithContext(context.WithValue(r.Context(), derived{}, i))
		if err := f.Store.Save(r, httptest.NewRecorder(), session); err != nil {
			t.Fatal(err)
		}
	}
	session.Values, session.Options = nil, nil
	if _, err := b.Save(session); err != nil {
		t.Fatal(err)
	}
	if doc := f.Document(); len(decoded(t, doc.Lookup("values"))) != 0 {
		t.Error("values are left, though the map was replaced by nil")
	}
}

// TestBadInput: nothing is written, no cookie is set and nothing panics.
func TestBadInput(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	session := f.Browser().Load()
	r, w := f.Browser().Request(), httptest.NewRecorder()
	for what, err := range map[string]error{
		"nil session":  f.Store.Save(r, w, nil),
		"nil request":  f.Store.Save(nil, w, session),
		"nil response": f.Store.Save(r, nil, session),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	for _, get := range []func(*http.Request, string) (*sessions.Session, error){f.Store.Get, f.Store.New} {
		for _, bad := range []string{"", "a b", "a=b", "a;b", "ä", "a\x00"} {
			s, err := get(r, bad)
			if s == nil || err == nil {
				t.Errorf("name %q: session %v, error %v", bad, s, err)
				continue
			}
			if f.Store.Save(r, w, s) == nil {
				t.Errorf("a session of the name %q could be saved", bad)
			}
		}
		if s, err := get(nil, storetest.Name); s == nil || err == nil {
			t.Errorf("nil request: session %v, error %v", s, err)
		}
	}
	if w.Header()["Set-Cookie"] != nil {
		t.Errorf("cookies set: %q", w.Header()["Set-Cookie"])
	}
	f.WantDocuments(0)
}
