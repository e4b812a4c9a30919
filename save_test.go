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
	"sync"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

func unacknowledged(t *testing.T, f *storetest.Fixture) *mongo.Collection {
	t.Helper()
	return f.Connect().Database(f.Coll.Database().Name()).
		Collection(f.Coll.Name(), options.Collection().SetWriteConcern(writeconcern.Unacknowledged()))
}

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

// TestPersistNew makes a session that a cookie can be given to later.
func TestPersistNew(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	session := sessions.NewSession(f.Store, storetest.Name)
	session.Options = nil
	session.Values["user"] = "ada"
	if err := f.Store.Persist(t.Context(), session); err != nil || session.ID == "" {
		t.Fatalf("ID %q, %v", session.ID, err)
	}
	b := f.Browser()
	if _, err := b.Save(session); err != nil {
		t.Fatal(err)
	}
	if s := b.Load(); s.Values["user"] != "ada" || s.ID != session.ID {
		t.Errorf("session: %+v", s)
	}
	session.Options = &sessions.Options{MaxAge: -1}
	if err := f.Store.Persist(t.Context(), session); err != nil {
		t.Error(err)
	}
	f.WantDocuments(0)

	if err := f.Store.Persist(t.Context(), nil); err == nil {
		t.Error("nil: no error")
	}
	if err := f.Store.Remove(t.Context(), nil); err == nil {
		t.Error("nil: no error")
	}
	if err := f.Store.Remove(t.Context(), f.Browser().Load()); err != nil {
		t.Errorf("Remove of a new session: %v", err)
	}
	// What was removed by ID alone does not come back.
	c := f.Browser().Login()
	foreign := sessions.NewSession(f.Store, storetest.Name)
	foreign.ID, foreign.Options = c.Load().ID, nil
	if err := f.Store.Remove(t.Context(), foreign); err != nil || !c.Load().IsNew {
		t.Errorf("Remove by ID: %v", err)
	}
	if err := f.Store.Persist(t.Context(), foreign); !errors.Is(err, mongostore.ErrGone) {
		t.Errorf("Persist of what was removed: %v", err)
	}
	if err := f.Store.Persist(t.Context(), sessions.NewSession(f.Store, "a b")); err == nil {
		t.Error("unusable name: no error")
	}
	f.WantDocuments(0)
}

// TestConflictAfterMerge: a save under Reject that others' changes did not stand in the way of has
// not shown them to its session; a change of the same key is a conflict still.
func TestConflictAfterMerge(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OnConflict = mongostore.Reject })
	b := f.Browser().Login()
	held := b.Load()
	b.Do(func(s *sessions.Session) { s.Values["theirs"] = 1 })
	held.Values["ours"] = 1
	if _, err := b.Save(held); err != nil {
		t.Fatal(err)
	}
	held.Values["theirs"] = 2
	if _, err := b.Save(held); !errors.Is(err, mongostore.ErrConflict) {
		t.Errorf("error: %v", err)
	}
	if s := b.Load(); s.Values["theirs"] != 1 || s.Values["ours"] != 1 {
		t.Errorf("stored: %v", s.Values)
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

// TestConflictWithItself: under Reject, a save whose answer was lost and that is repeated by
// the application either succeeds or is a conflict; what it saved is there.
func TestConflictWithItself(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"", "rs"} {
		f, s := storetest.SetupScripted(t, set, func(c *mongostore.Config) { c.OnConflict = mongostore.Reject })
		b := f.Browser().Login()
		b.Store = f.OpenWith(storetest.Soon)
		var session *sessions.Session
		storetest.Eventually(t, "the session can be loaded", func() (ok bool) {
			var err error
			session, err = b.Store.New(b.Request(), storetest.Name)
			return err == nil
		})
		session.Values["n"] = 2
		gate := make(chan struct{})
		s.On("update", storetest.Line{Apply: true, Once: true, Gate: gate})
		if _, err := b.Save(session); !errors.Is(err, mongostore.ErrUnavailable) {
			t.Fatalf("first save: %v", err)
		}
		close(gate)
		var err error
		storetest.Eventually(t, "it can be saved again", func() bool {
			_, err = b.Save(session)
			return !errors.Is(err, mongostore.ErrUnavailable)
		})
		if !errors.Is(err, mongostore.ErrConflict) {
			t.Errorf("second save: %v", err)
		}
		b.Store = f.Store
		if s := b.Load(); s.Values["n"] != 2 {
			t.Errorf("values: %v", s.Values)
		}
	}
}

// TestApplicationsTransaction: the store's work is no part of a transaction, or of a driver's
// session, that the application has in its context.
func TestApplicationsTransaction(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, impatient)
	b := f.Browser().Login()
	session := b.Load()
	driverSession, err := f.Cfg.Client.StartSession()
	if err != nil {
		t.Skip("needs a server with sessions:", err)
	}
	r := b.Request()
	r = r.WithContext(mongo.NewSessionContext(r.Context(), driverSession))
	session.Options.MaxAge = -1
	f.Wire.On("delete", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(11600, "InterruptedAtShutdown")})
	if err := f.Store.Save(r, httptest.NewRecorder(), session); err != nil {
		t.Fatal(err)
	}
	driverSession.EndSession(context.WithoutCancel(t.Context()))
	f.Wire.Heal()
	storetest.Eventually(t, "the session is removed", func() bool { return len(f.Documents()) == 0 })
}

// TestMaxSizeLowered: sessions from before are no larger for being left alone.
func TestMaxSizeLowered(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Do(func(s *sessions.Session) { s.Values["a"] = strings.Repeat("x", 5000) })
	f.Cfg.MaxSize = 1000
	b.Store = f.Open()
	if _, err := b.Save(b.Load()); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	session := b.Load()
	session.Values["b"] = 1
	if _, err := b.Save(session); !errors.Is(err, mongostore.ErrTooLarge) {
		t.Errorf("changed: %v", err)
	}
	session = b.Load()
	delete(session.Values, "a")
	if _, err := b.Save(session); err != nil {
		t.Errorf("made smaller: %v", err)
	}
}

// TestSkipEmpty: bots make no documents, if the application wants so.
func TestSkipEmpty(t *testing.T) {
	t.Parallel()
	for _, skip := range []bool{false, true} {
		f := storetest.Setup(t, func(c *mongostore.Config) { c.SkipEmpty = skip })
		b := f.Browser()
		w, err := b.Save(b.Load())
		if err != nil {
			t.Error(err)
		}
		if stored := len(f.Documents()) == 1; stored == skip || (w.Header()["Set-Cookie"] == nil) != skip {
			t.Errorf("SkipEmpty %t: stored %t, cookie %q", skip, stored, w.Header()["Set-Cookie"])
		}
		b = f.Browser().Login()
		b.Do(func(s *sessions.Session) { clear(s.Values) }) // stored once, it is kept
		if b.Load().IsNew {
			t.Errorf("SkipEmpty %t: a stored session is lost when it is emptied", skip)
		}
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

// TestRepetitionRefused: when an insert was carried out, its answer lost, and the
// driver's repetition of it refused, the document that nobody knows of is removed.
func TestRepetitionRefused(t *testing.T) {
	t.Parallel()
	f, s := storetest.SetupScripted(t, "rs")
	f.Store = f.OpenWith(storetest.Soon)
	b := f.Browser()
	session := b.Load()
	s.On("insert", storetest.Line{Apply: true, Cut: true, Then: &storetest.Line{Reply: storetest.NotPrimary}})
	if w, err := b.Save(session); !errors.Is(err, mongostore.ErrUnavailable) || w.Header()["Set-Cookie"] != nil {
		t.Fatalf("first save: %v", err)
	}
	s.Heal()
	storetest.Eventually(t, "nothing is left of it", func() bool { return len(f.Documents()) == 0 })
	storetest.Eventually(t, "it can be saved", func() bool {
		_, err := b.Save(session)
		return err == nil
	})
	storetest.Eventually(t, "there is one document", func() bool { return len(f.Documents()) == 1 })
}

// TestPersistEmpty: Persist stores an empty session, also under SkipEmpty, and does not describe it.
func TestPersistEmpty(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) {
		c.SkipEmpty, c.OwnerKey = true, "user"
		c.Describe = func(*http.Request) map[string]string {
			t.Error("Describe was called")
			return nil
		}
	})
	if err := f.Store.Persist(t.Context(), sessions.NewSession(f.Store, storetest.Name)); err != nil {
		t.Error(err)
	}
	f.WantDocuments(1)
}

// TestSaveOfAnAbandonedRequest: when the visitor has left, a save fails as in an outage.
func TestSaveOfAnAbandonedRequest(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session := b.Load()
	session.Values["n"] = 1
	ctx, leave := context.WithCancel(t.Context())
	leave()
	r, w := b.Request().WithContext(ctx), httptest.NewRecorder()
	if err := f.Store.Save(r, w, session); !errors.Is(err, mongostore.ErrUnavailable) || w.Header()["Set-Cookie"] != nil {
		t.Errorf("%v, %v", err, w.Header())
	}
}
