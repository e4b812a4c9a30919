package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"reflect"
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
			commands: []string{"update"}, cookie: noCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				if s := q.b.Load(); s.Values["a"] != 1 || s.Values["b"] != 2 {
					t.Errorf("values: %v", s.Values)
				}
			},
		},
		{
			name:     "unchanged, not due for a touch",
			prepare:  func(_ *testing.T, q *request) { q.session = q.b.Login().Load() },
			commands: nil, cookie: noCookie, docs: 1,
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
			name: "changed, not due for a touch",
			prepare: func(_ *testing.T, q *request) {
				q.b.Do(func(s *sessions.Session) { s.Values["gone"], s.Values["kept"], s.Values["new"] = 1, 2, 3 })
				q.f.Edit(storetest.SetDate("expiresAt", time.Now().Add(time.Hour)))
				q.session = q.b.Load()
				delete(q.session.Values, "gone")
				q.session.Values["new"] = "other"
			},
			commands: []string{"update"}, cookie: noCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				doc := q.f.Document()
				want := bson.D{{Key: "kept", Value: int32(2)}, {Key: "new", Value: "other"}}
				if got := fmt.Sprint(decoded(t, doc.Lookup("values"))); got != fmt.Sprint(want) {
					t.Errorf("values: %s, want %v", got, want)
				}
				if rev := doc.Lookup("rev").AsInt64(); rev != 2 {
					t.Errorf("rev is %d, want 2", rev)
				}
				storetest.WantTime(t, doc, "expiresAt", time.Now().Add(time.Hour)) // as it was
			},
		},
		{
			name: "changed, due",
			prepare: func(_ *testing.T, q *request) {
				q.b.Login()
				q.f.Age(time.Hour)
				q.session = q.b.Load()
				q.session.Values["a"] = 1
			},
			commands: []string{"update"}, cookie: sameCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				doc := q.f.Document()
				if v, rev := doc.Lookup("values", "a").AsInt64(), doc.Lookup("rev").AsInt64(); v != 1 || rev != 2 {
					t.Errorf("a is %d, rev is %d", v, rev)
				}
				storetest.WantTime(t, doc, "createdAt", time.Now().Add(-time.Hour))
				storetest.WantTime(t, doc, "seenAt", time.Now())
				storetest.WantTime(t, doc, "expiresAt", time.Now().Add(30*24*time.Hour))
			},
		},
		{
			name: "given a cookie attribute, not due for a touch",
			prepare: func(_ *testing.T, q *request) {
				q.session = q.b.Login().Load()
				q.session.Options.SameSite = http.SameSiteStrictMode
			},
			commands: []string{"update"}, cookie: sameCookie, docs: 1,
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
			err: mongostore.ErrGone, commands: []string{"find"}, cookie: noCookie, docs: 1,
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
			err: mongostore.ErrGone, commands: []string{"find"}, cookie: noCookie, docs: 1,
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
			commands: []string{"find", "update"}, cookie: sameCookie, docs: 1,
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
				q.f.Age(time.Hour)
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
			name: "MaxAge of its own set to the store's, which shortens its life and stays its own",
			prepare: func(_ *testing.T, q *request) {
				q.b.Do(func(s *sessions.Session) { s.Options.MaxAge = 90 * 24 * 3600 })
				q.session = q.b.Load()
				q.session.Options.MaxAge = 30 * 24 * 3600 // the store's
			},
			commands: []string{"update"}, cookie: sameCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				doc := q.f.Document()
				storetest.WantTime(t, doc, "expiresAt", time.Now().Add(30*24*time.Hour))
				if age, err := doc.LookupErr("maxAge"); err != nil || age.AsInt64() != 30*24*3600 {
					t.Errorf("maxAge is %v, %v", age, err)
				}
				q.b.Store = q.f.Open()
				q.b.Store.MaxAge(60)
				if s := q.b.Load(); s.Options.MaxAge != 30*24*3600 {
					t.Errorf("MaxAge in another process is %d", s.Options.MaxAge)
				}
			},
		},
		{
			name: "MaxAge beyond 100 years",
			prepare: func(_ *testing.T, q *request) {
				q.session = q.b.Load()
				q.session.Options.MaxAge = math.MaxInt
			},
			commands: []string{"insert"}, cookie: newCookie, docs: 1,
			check: func(t *testing.T, q *request) {
				if s := q.b.Load(); s.IsNew || s.Options.MaxAge != 100*365*24*3600 {
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
			commands: []string{"insert", "update"}, cookie: newCookie, docs: 1,
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
			commands: []string{"insert", "update"}, cookie: newCookie, docs: 1,
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
			commands: []string{"update"}, cookie: noCookie, docs: 1,
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
				// What was not acknowledged is removed, and the next save stores it again.
				if _, err := q.b.Save(q.session); err != nil {
					t.Errorf("the next save: %v", err)
				}
				storetest.Eventually(t, "one document is left", func() bool { return len(q.f.Live()) == 1 })
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

// decoded returns a document as the driver decodes it.
func decoded(t *testing.T, v bson.RawValue) bson.D {
	t.Helper()
	var d bson.D
	if err := v.Unmarshal(&d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDocumentHasTheDesignedFields looks at a session's document from outside.
func TestDocumentHasTheDesignedFields(t *testing.T) {
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

// TestLastCookieOfAResponseRemains: of several saves in one request the last cookie remains, and
// cookies of others stay.
func TestLastCookieOfAResponseRemains(t *testing.T) {
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

// TestSessionIsKnownInDerivedRequests: the store knows a session again whatever request it is
// saved with, and when gorilla's registry has changed its store.
func TestSessionIsKnownInDerivedRequests(t *testing.T) {
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

// TestBadInputStoresNothing: nothing is written, no cookie is set and nothing panics.
func TestBadInputStoresNothing(t *testing.T) {
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

// TestPersistStoresANewSession: Persist stores a new session that can get a cookie later.
func TestPersistStoresANewSession(t *testing.T) {
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

// TestMergedSaveKeepsLaterConflicts: a save under ConflictReject that merged with others' changes of
// other keys has not shown them to its session. A later change of such a key is still a conflict.
func TestMergedSaveKeepsLaterConflicts(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OnConflict = mongostore.ConflictReject })
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

// TestRejectFailsTheSecondChangeOfAKey: nothing of it is written. Different keys are still merged.
func TestRejectFailsTheSecondChangeOfAKey(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OnConflict = mongostore.ConflictReject })
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

	// Different keys, in any number of concurrent requests.
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

// TestRepeatedSaveIsNoConflictWithItself: under ConflictReject, a save whose response was lost, and
// that the application repeats, finds its own value stored and succeeds.
func TestRepeatedSaveIsNoConflictWithItself(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"", "rs"} {
		f, s := storetest.SetupScripted(t, set, func(c *mongostore.Config) { c.OnConflict = mongostore.ConflictReject })
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
		if err != nil {
			t.Errorf("second save: %v", err)
		}
		b.Store = f.Store
		if s := b.Load(); s.Values["n"] != 2 {
			t.Errorf("values: %v", s.Values)
		}
	}
}

// TestSaveIsNoPartOfATransaction: the store's work is no part of a transaction, or of a driver's
// session, that the application has in its context.
func TestSaveIsNoPartOfATransaction(t *testing.T) {
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

// TestLoweredMaxSizeConcernsChangesOnly: sessions from before are no larger for being left alone.
func TestLoweredMaxSizeConcernsChangesOnly(t *testing.T) {
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

// TestSkipEmptyStoresNoNewEmptySession: with SkipEmpty, requests of bots create no documents.
func TestSkipEmptyStoresNoNewEmptySession(t *testing.T) {
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

// TestRepeatedInsertLeavesOneDocument: a save that is repeated, because the first one's response
// was lost, creates no second document.
func TestRepeatedInsertLeavesOneDocument(t *testing.T) {
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

// TestLateInsertRevivesNothing: an insert that was given up, and arrives later, does not bring back the
// session that was stored and logged out in the meantime.
func TestLateInsertRevivesNothing(t *testing.T) {
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

// TestUnacknowledgedWritesAreRefused: a collection whose writes are not acknowledged cannot
// hold a promise.
func TestUnacknowledgedWritesAreRefused(t *testing.T) {
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

// TestDeletionsAreMerged: a key that one request deletes and another leaves alone is gone.
func TestDeletionsAreMerged(t *testing.T) {
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

// TestInsertWhoseRepetitionIsRefusedIsRemoved: when an insert was carried out, its response
// lost, and the driver's repetition of it refused, the document that nobody knows of is
// removed.
func TestInsertWhoseRepetitionIsRefusedIsRemoved(t *testing.T) {
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

// TestPersistStoresAnEmptySession: Persist stores an empty session, also under SkipEmpty, and
// does not describe it.
func TestPersistStoresAnEmptySession(t *testing.T) {
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

// TestSaveOfACancelledRequestFails: when the visitor has left, a save fails as in an outage.
func TestSaveOfACancelledRequestFails(t *testing.T) {
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

// TestTouchMovesTheExpiry: when it is due, and with the session's own MaxAge.
func TestTouchMovesTheExpiry(t *testing.T) {
	t.Parallel()
	for what, own := range map[string]int{"store's MaxAge": 0, "own MaxAge": 7200} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, storetest.StoreOptions(3600))
			lifetime := time.Hour
			b := f.Browser()
			b.Visit(func(s *sessions.Session) {
				if s.Values["user"] = "ada"; own > 0 {
					s.Options.MaxAge = own
					lifetime = time.Duration(own) * time.Second
				}
			})
			fetch := func() *sessions.Session {
				t.Helper()
				s, err := f.Store.Fetch(t.Context(), storetest.Name, b.Load().ID)
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			session := fetch()
			f.Log.Reset()
			if err := f.Store.Touch(t.Context(), session); err != nil {
				t.Error(err)
			}
			f.WantCommands()
			f.Older(10 * time.Minute)
			session = fetch()
			session.Values["n"] = 1
			f.Log.Reset()
			if err := f.Store.Touch(t.Context(), session); err != nil {
				t.Error(err)
			}
			f.WantCommands("update")
			storetest.WantTime(t, f.Document(), "seenAt", time.Now())
			storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(lifetime))
			if err := f.Store.Touch(t.Context(), session); err != nil {
				t.Error(err)
			}
			f.WantCommands()
			f.Older(2 * time.Minute)
			session = fetch()
			b.Visit(func(s *sessions.Session) { s.Options.MaxAge = -1 })
			if err := f.Store.Touch(t.Context(), session); !errors.Is(err, mongostore.ErrGone) {
				t.Errorf("after a logout: %v", err)
			}
			f.WantDocuments(0)
		})
	}
}

// TestTouchLeavesTheCookieToSave: Touch sends no cookie, so the browser's keeps its date. However often
// Touch moves the expiry, the next Save sends the cookie when a touch is due since the last one.
func TestTouchLeavesTheCookieToSave(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, storetest.StoreOptions(3600))
	b := f.Browser()
	b.Visit(storetest.SetValue("user", "ada"))
	sent := f.Document().Lookup("seenAt").Time()
	for range 3 {
		const pause = 2 * time.Minute
		f.Older(pause)
		sent = sent.Add(-pause)
		if err := f.Store.Touch(t.Context(), b.Load()); err != nil {
			t.Fatal(err)
		}
		doc := f.Document()
		storetest.WantTime(t, doc, "expiresAt", time.Now().Add(time.Hour))
		if at := doc.Lookup("cookieAt").Time(); !at.Equal(sent) {
			t.Errorf("cookieAt is %v, and the cookie was sent at %v", at, sent)
		}
	}
	f.Log.Reset()
	cookie := b.Do(storetest.Unchanged)
	f.WantCommands("find", "update")
	if cookie == nil || cookie.MaxAge != 3600 {
		t.Errorf("the cookie is %v", cookie)
	}
	if at, err := f.Document().LookupErr("cookieAt"); err == nil {
		t.Errorf("cookieAt is %v", at)
	}
	b.Do(storetest.Unchanged)
	f.WantCommands("find")

	b.Store = f.Another() // another process, which loads the session before a Touch and saves it afterwards
	held := b.Load()
	f.Older(2 * time.Minute)
	if err := f.Store.Touch(t.Context(), b.Load()); err != nil {
		t.Fatal(err)
	}
	held.Values["n"] = 1
	b.MustSave(held)
	if cookie := b.Do(storetest.Unchanged); cookie == nil {
		t.Error("a save that knows nothing of the Touch has taken its cookie back")
	}
}

// TestUnchangedSaveSendsNothing: no command and no cookie.
func TestUnchangedSaveSendsNothing(t *testing.T) {
	t.Parallel()
	for what, row := range map[string]struct {
		config func(*mongostore.Config)
		fill   func(*sessions.Session)
	}{
		"plain":      {func(*mongostore.Config) {}, storetest.Unchanged},
		"own MaxAge": {func(*mongostore.Config) {}, func(s *sessions.Session) { s.Options.MaxAge = 7200 }},
		"browser":    {func(*mongostore.Config) {}, func(s *sessions.Session) { s.Options.MaxAge = 0 }},
		"flashes":    {func(*mongostore.Config) {}, func(s *sessions.Session) { s.AddFlash("hello") }},
		"gob":        {func(*mongostore.Config) {}, storetest.SetValue("cart", cart{Notes: map[string]string{"a": "b", "c": "d"}})},
		"sealed":     {func(c *mongostore.Config) { c.SealKeys = [][]byte{signingKey[:32]} }, storetest.SetValue("n", 1)},
		"reject":     {func(c *mongostore.Config) { c.OnConflict = mongostore.ConflictReject }, storetest.SetValue("n", 1)},
		"owner": {func(c *mongostore.Config) {
			c.OwnerKey = "user"
			c.Describe = func(*http.Request) map[string]string { return map[string]string{"device": "phone"} }
		}, storetest.Unchanged},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, row.config)
			b := f.Browser()
			b.Visit(func(s *sessions.Session) {
				s.Values["user"] = "ada"
				row.fill(s)
			})
			before := f.Document()
			f.Log.Reset()
			for range 3 {
				w := b.Visit(storetest.Unchanged)
				f.WantCommands("find")
				storetest.WantNoCookie(t, "unchanged", w)
			}
			session := b.Load()
			f.Log.Reset()
			for range 2 { // in one request
				storetest.WantNoCookie(t, "unchanged", b.MustSave(session))
			}
			f.WantCommands()
			if after := f.Document(); string(after) != string(before) {
				t.Error("the document has changed")
			}
		})
	}
}

// TestUnchangedSaveDoesNotReplaceACookie: a slow request that changes nothing does not
// put its old cookie over the one of a login.
func TestUnchangedSaveDoesNotReplaceACookie(t *testing.T) {
	t.Parallel()
	for what, between := range map[string]func(*storetest.Browser){
		"renewal": func(b *storetest.Browser) { b.MustRenew(b.Load()) },
		"logout and login": func(b *storetest.Browser) {
			b.Visit(func(s *sessions.Session) { s.Options.MaxAge = -1 })
			b.Visit(storetest.SetValue("user", "ada"))
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			b := f.Browser()
			b.Visit(storetest.SetValue("user", "ada"))
			slow := b.Load()
			between(b)
			w := httptest.NewRecorder()
			if err := f.Store.Save(b.Request(), w, slow); err != nil && !errors.Is(err, mongostore.ErrGone) {
				t.Error(err)
			}
			storetest.WantNoCookie(t, "the slow request", w)
			b.Receive(w)
			b.WantIn("afterwards")
		})
		t.Run(what+", touch due", func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			b := f.Browser()
			b.Visit(storetest.SetValue("user", "ada"))
			f.Older(2 * time.Minute)
			slow := b.Load()
			between(b)
			w, err := b.Save(slow)
			storetest.WantGone(t, "the slow request", w, err)
			b.WantIn("afterwards")
		})
	}
}

// TestChangedSaveSendsTheChangeAlone: as long as no touch is due, the change of the
// keys and of rev is all that is sent, by _id alone, and there is no cookie.
func TestChangedSaveSendsTheChangeAlone(t *testing.T) {
	t.Parallel()
	for what, row := range map[string]struct {
		change func(*sessions.Session)
		want   map[string][]string
	}{
		"changed": {storetest.SetValue("a", 2), map[string][]string{"$set": {"values.a"}, "$inc": {"rev"}}},
		"added":   {storetest.SetValue("c", 2), map[string][]string{"$set": {"values.c"}, "$inc": {"rev"}}},
		"deleted": {func(s *sessions.Session) { delete(s.Values, "a") }, map[string][]string{"$unset": {"values.a"}, "$inc": {"rev"}}},
		"all": {func(s *sessions.Session) {
			delete(s.Values, "a")
			s.Values["b"], s.Values["c"] = 2, 2
		}, map[string][]string{"$set": {"values.b", "values.c"}, "$unset": {"values.a"}, "$inc": {"rev"}}},
	} {
		for _, own := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, own MaxAge %t", what, own), func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t)
				b := f.Browser()
				b.Visit(func(s *sessions.Session) {
					s.Values["a"], s.Values["b"] = 1, 1
					if own {
						s.Options.MaxAge = 7200
					}
				})
				f.Older(10 * time.Second)
				before := f.Document()
				f.Log.Reset()
				w := b.Visit(row.change)
				names, commands := f.Log.Take()
				if !reflect.DeepEqual(names, []string{"find", "update"}) {
					t.Fatalf("commands: %q", names)
				}
				if got := storetest.Operators(t, commands[1]); !reflect.DeepEqual(got, row.want) {
					t.Errorf("update: %v, want %v", got, row.want)
				}
				if filter, err := commands[1].Lookup("updates", "0", "q").Document().Elements(); err != nil || len(filter) != 1 {
					t.Errorf("filter: %v, %v", filter, err)
				}
				storetest.WantNoCookie(t, "a change", w)
				after := f.Document()
				for _, field := range []string{"createdAt", "seenAt", "expiresAt"} {
					if !after.Lookup(field).Equal(before.Lookup(field)) {
						t.Errorf("%s has moved", field)
					}
				}
			})
		}
	}
}

// TestTouchSendsTheCookieOnce: after the save that carries a touch, no touch is due.
func TestTouchSendsTheCookieOnce(t *testing.T) {
	t.Parallel()
	oldKey := []byte("an older key of thirty-two bytes")
	for what, row := range map[string]struct {
		due    func(*storetest.Fixture, *storetest.Browser)
		change func(*sessions.Session)
		check  func(*http.Cookie) bool
		moves  bool // the expiry
	}{
		"TouchInterval": {func(f *storetest.Fixture, _ *storetest.Browser) { f.Older(2 * time.Minute) }, storetest.Unchanged, nil, true},
		"TouchInterval, with a change": {
			func(f *storetest.Fixture, _ *storetest.Browser) { f.Older(2 * time.Minute) }, storetest.SetValue("n", 1), nil, true,
		},
		"key rotation": {func(_ *storetest.Fixture, b *storetest.Browser) {
			session := b.Load()
			b.Cookies[storetest.Name] = cookieKeys{signing: oldKey}.sign(storetest.Name, session.ID)
		}, storetest.Unchanged, nil, false},
		"attributes": {
			func(*storetest.Fixture, *storetest.Browser) {},
			func(s *sessions.Session) { s.Options.SameSite = http.SameSiteStrictMode },
			func(c *http.Cookie) bool { return c.SameSite == http.SameSiteStrictMode }, false,
		},
		"MaxAge": {
			func(*storetest.Fixture, *storetest.Browser) {},
			func(s *sessions.Session) { s.Options.MaxAge = 7200 },
			func(c *http.Cookie) bool { return c.MaxAge == 7200 }, false,
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			store, err := mongostore.Open(t.Context(), f.Cfg, signingKey, nil, oldKey, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = store.Close(context.WithoutCancel(t.Context())) })
			f.Store = store
			b := f.Browser()
			b.Visit(storetest.SetValue("user", "ada"))
			row.due(f, b)
			w := b.Visit(row.change)
			cookies := w.Result().Cookies()
			if len(cookies) != 1 || cookies[0].Value == "" || row.check != nil && !row.check(cookies[0]) {
				t.Fatalf("cookies: %v", cookies)
			}
			if row.moves {
				doc := f.Document()
				if age := time.Since(doc.Lookup("seenAt").Time()); age > 30*time.Second {
					t.Errorf("seenAt is %v ago", age)
				}
				if left := time.Until(doc.Lookup("expiresAt").Time()); left < 30*24*time.Hour-30*time.Second {
					t.Errorf("expiresAt is in %v", left)
				}
			}
			f.Log.Reset()
			w = b.Visit(storetest.Unchanged)
			f.WantCommands("find")
			storetest.WantNoCookie(t, "the next request", w)
			b.WantIn("afterwards")
		})
	}
}

// TestChangeOfALargeSessionIsSmall: one changed key of a session of 64 KiB.
func TestChangeOfALargeSessionIsSmall(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Visit(func(s *sessions.Session) {
		for i := range 64 {
			s.Values[fmt.Sprintf("key%d", i)] = strings.Repeat("x", 1024)
		}
		s.Values["counter"] = 0
	})
	session := b.Load()
	session.Values["counter"] = 1
	f.Log.Reset()
	b.MustSave(session)
	if n := f.Log.Size(); n > 400 {
		t.Errorf("%d bytes of command for one changed key, want at most 400", n)
	}
	f.WantCommands("update")
}

// TestFlashIsOneUpdateEach: to add one, and to take it.
func TestFlashIsOneUpdateEach(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Visit(storetest.SetValue("user", "ada"))
	f.Log.Reset()
	storetest.WantNoCookie(t, "added", b.Visit(func(s *sessions.Session) { s.AddFlash("saved") }))
	f.WantCommands("find", "update")
	storetest.WantNoCookie(t, "taken", b.Visit(func(s *sessions.Session) {
		if got := s.Flashes(); !reflect.DeepEqual(got, []any{"saved"}) {
			t.Errorf("flashes: %v", got)
		}
	}))
	f.WantCommands("find", "update")
}

// TestListsMerge: of what concurrent requests append to a list and take out of it
// nothing is lost, and nothing comes back.
func TestListsMerge(t *testing.T) {
	t.Parallel()
	add := func(messages ...any) func(*sessions.Session) {
		return func(s *sessions.Session) {
			for _, m := range messages {
				s.AddFlash(m)
			}
		}
	}
	take := func(s *sessions.Session) { s.Flashes() }
	tea, cups, pot := cart{Items: []item{{"tea", 1}}}, cart{Items: []item{{"cup", 6}}}, cart{Items: []item{{"pot", 1}}}
	list := func(values ...any) func(*sessions.Session) { return storetest.SetValue("_flash", values) }
	for what, row := range map[string]struct {
		stored        []any
		first, second func(*sessions.Session)
		want          []any
	}{
		"append, append":       {[]any{"0"}, add("a"), add("b"), []any{"0", "a", "b"}},
		"the same message":     {[]any{"0"}, add("a"), add("a"), []any{"0", "a", "a"}},
		"several each":         {[]any{"0"}, add("a", "b"), add("c", "d"), []any{"0", "a", "b", "c", "d"}},
		"first flash of both":  {nil, add("a"), add("b"), []any{"a", "b"}},
		"take, append":         {[]any{"0"}, take, add("b"), []any{"b"}},
		"append, take":         {[]any{"0"}, add("a"), take, []any{"a"}},
		"take and add, append": {[]any{"0"}, func(s *sessions.Session) { take(s); s.AddFlash("a") }, add("b"), []any{"a", "b"}},
		"append, take and add": {[]any{"0"}, add("a"), func(s *sessions.Session) { take(s); s.AddFlash("b") }, []any{"a", "b"}},
		"one of the middle":    {[]any{"0", "1", "2"}, list("0", "2"), add("b"), []any{"0", "2", "b"}},
		"append, one of it":    {[]any{"0", "1", "2"}, add("a"), list("0", "2"), []any{"0", "2", "a"}},
		"documents":            {[]any{map[string]any{"n": 0}}, add(map[string]any{"n": 1}), add(map[string]any{"n": 2}), []any{map[string]any{"n": 0}, map[string]any{"n": 1}, map[string]any{"n": 2}}},
		"own types":            {[]any{tea}, add(cups), add(pot), []any{tea, cups, pot}},
	} {
		for how, config := range listConfigs {
			t.Run(what+", "+how, func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t, config)
				b := f.Browser()
				b.Visit(func(s *sessions.Session) {
					s.Values["user"] = "ada"
					add(row.stored...)(s)
				})
				first, second := b.Load(), b.Load()
				row.first(first)
				row.second(second)
				for i, s := range []*sessions.Session{first, second} {
					if _, err := b.Clone().Save(s); err != nil {
						t.Fatalf("save %d: %v", i+1, err)
					}
				}
				if got := b.Load().Values["_flash"]; !reflect.DeepEqual(got, row.want) {
					t.Errorf("stored: %v, want %v", got, row.want)
				}
				b.WantIn("afterwards")
			})
		}
	}
}

var listConfigs = map[string]func(*mongostore.Config){
	"merge":  func(*mongostore.Config) {},
	"reject": func(c *mongostore.Config) { c.OnConflict = mongostore.ConflictReject },
	"sealed": func(c *mongostore.Config) { c.SealKeys = [][]byte{signingKey[:32]} },
	"sealed, reject": func(c *mongostore.Config) {
		c.SealKeys, c.OnConflict = [][]byte{signingKey[:32]}, mongostore.ConflictReject
	},
}

// TestListsMergeUnderContention: each of many concurrent requests adds a message and takes
// one, and afterwards all of the added ones are there and none of the others.
func TestListsMergeUnderContention(t *testing.T) {
	t.Parallel()
	for how, config := range listConfigs {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			const requests = 8
			f := storetest.Setup(t, config)
			b := f.Browser()
			b.Visit(func(s *sessions.Session) {
				for i := range requests {
					s.AddFlash(i)
				}
			})
			var loaded []*sessions.Session
			for range requests {
				loaded = append(loaded, b.Load())
			}
			var wg sync.WaitGroup
			for i, s := range loaded {
				list, ok := s.Values["_flash"].([]any)
				if !ok {
					t.Fatalf("values: %v", s.Values)
				}
				s.Values["_flash"] = append(slices.Delete(slices.Clone(list), i, i+1), requests+i)
				mine := b.Clone()
				wg.Go(func() {
					if _, err := mine.Save(s); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			got, _ := b.Load().Values["_flash"].([]any)
			slices.SortFunc(got, func(x, y any) int { return x.(int) - y.(int) })
			var want []any
			for i := range requests {
				want = append(want, requests+i)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("stored: %v, want %v", got, want)
			}
		})
	}
}

// TestListTakenByBoth: what two requests take out stays out.
func TestListTakenByBoth(t *testing.T) {
	t.Parallel()
	for how, config := range listConfigs {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, config)
			b := f.Browser()
			b.Visit(func(s *sessions.Session) { s.AddFlash("0") })
			first, second := b.Load(), b.Load()
			other := b.Load()
			first.Flashes()
			second.Flashes()
			b.MustSave(first)
			b.Visit(func(s *sessions.Session) { s.AddFlash("1") })
			if _, err := b.Save(second); err != nil {
				t.Errorf("second: %v", err)
			}
			other.AddFlash("2")
			if _, err := b.Save(other); err != nil {
				t.Errorf("third: %v", err)
			}
			if got, want := b.Load().Values["_flash"], []any{"1", "2"}; !reflect.DeepEqual(got, want) {
				t.Errorf("stored: %v, want %v", got, want)
			}
		})
	}
}

// TestReorderedListIsNotMerged: it is a change of the key as any other.
func TestReorderedListIsNotMerged(t *testing.T) {
	t.Parallel()
	for how, config := range listConfigs {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, config)
			b := f.Browser()
			b.Visit(storetest.SetValue("list", []any{"0", "1"}))
			first, second := b.Load(), b.Load()
			first.Values["list"] = []any{"0", "1", "2"}
			second.Values["list"] = []any{"1", "0"}
			b.MustSave(first)
			_, err := b.Save(second)
			want := []any{"1", "0"}
			if f.Cfg.OnConflict == mongostore.ConflictReject {
				want = []any{"0", "1", "2"}
				if !errors.Is(err, mongostore.ErrConflict) {
					t.Errorf("second: %v", err)
				}
			} else if err != nil {
				t.Errorf("second: %v", err)
			}
			if got := b.Load().Values["list"]; !reflect.DeepEqual(got, want) {
				t.Errorf("stored: %v, want %v", got, want)
			}
		})
	}
}

// TestListsMergeInARenewal: a login adds its greeting to what others have added, and
// does not bring back what others have taken.
func TestListsMergeInARenewal(t *testing.T) {
	t.Parallel()
	for how, config := range listConfigs {
		for what, row := range map[string]struct {
			change func(*sessions.Session)
			want   []any
		}{
			"appended": {func(s *sessions.Session) { s.AddFlash("theirs") }, []any{"0", "theirs", "ours"}},
			"taken":    {func(s *sessions.Session) { s.Flashes() }, []any{"ours"}},
		} {
			t.Run(what+", "+how, func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t, config)
				b := f.Browser()
				b.Visit(func(s *sessions.Session) { s.AddFlash("0") })
				session := b.Load()
				b.Visit(row.change)
				session.AddFlash("ours")
				b.MustRenew(session)
				if got := b.Load().Values["_flash"]; !reflect.DeepEqual(got, row.want) {
					t.Errorf("stored: %v, want %v", got, row.want)
				}
				if got := session.Values["_flash"]; !reflect.DeepEqual(got, row.want) {
					t.Errorf("in hand: %v, want %v", got, row.want)
				}
			})
		}
	}
}

// TestListOfARemovedSession: a save of an appended list does not bring a session back.
func TestListOfARemovedSession(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]func(*storetest.Browser){
		"logout":  func(b *storetest.Browser) { b.Visit(func(s *sessions.Session) { s.Options.MaxAge = -1 }) },
		"renewal": func(b *storetest.Browser) { b.MustRenew(b.Load()) },
	} {
		for how, config := range listConfigs {
			f := storetest.Setup(t, config)
			b := f.Browser()
			b.Visit(func(s *sessions.Session) { s.AddFlash("0") })
			slow := b.Load()
			end(b.Clone())
			slow.AddFlash("late")
			w, err := b.Save(slow)
			storetest.WantGone(t, what+", "+how, w, err)
		}
	}
}

// TestDoubtfulWriteIsSettledByTheNextSave: after a save whose response was lost, the
// next one that returns nil has stored what the session holds.
func TestDoubtfulWriteIsSettledByTheNextSave(t *testing.T) {
	t.Parallel()
	const week = 7 * 24 * 3600
	for what, row := range map[string]struct{ change, back func(*sessions.Session) }{
		"changed": {storetest.SetValue("plan", "gold"), storetest.SetValue("plan", "free")},
		"deleted": {func(s *sessions.Session) { delete(s.Values, "plan") }, storetest.SetValue("plan", "free")},
		"added":   {storetest.SetValue("extra", 1), func(s *sessions.Session) { delete(s.Values, "extra") }},
		"flash added": {
			func(s *sessions.Session) { s.AddFlash("new") },
			func(s *sessions.Session) { s.Values["_flash"] = []any{"old"} },
		},
		"flashes taken": {
			func(s *sessions.Session) { s.Flashes() },
			func(s *sessions.Session) { s.Values["_flash"] = []any{"old"} },
		},
		"MaxAge": {
			func(s *sessions.Session) { s.Options.MaxAge = 60 },
			func(s *sessions.Session) { s.Options.MaxAge = week },
		},
		"owner": {storetest.SetValue("user", "bob"), storetest.SetValue("user", "ada")},
		"all": {
			func(s *sessions.Session) {
				clear(s.Values)
				s.Values["user"], s.Values["extra"] = "bob", 1
				s.Options.MaxAge = 60
			},
			func(s *sessions.Session) {
				clear(s.Values)
				s.Values["user"], s.Values["plan"], s.Values["_flash"] = "ada", "free", []any{"old"}
				s.Options.MaxAge = week
			},
		},
	} {
		for how, next := range map[string]func(*storetest.Browser, *sessions.Session) (*httptest.ResponseRecorder, error){
			"save":  (*storetest.Browser).Save,
			"renew": (*storetest.Browser).Renew,
			"persist": func(b *storetest.Browser, s *sessions.Session) (*httptest.ResponseRecorder, error) {
				return httptest.NewRecorder(), b.Store.Persist(b.F.T.Context(), s)
			},
		} {
			for policy, p := range map[string]mongostore.ConflictPolicy{"merge": mongostore.ConflictMerge, "reject": mongostore.ConflictReject} {
				if how == "persist" && (what == "MaxAge" || what == "all") {
					continue // a job leaves the MaxAge
				}
				t.Run(what+", "+how+", "+policy, func(t *testing.T) {
					t.Parallel()
					f := storetest.Setup(t, storetest.StoreOptions(week), func(c *mongostore.Config) { c.OwnerKey, c.OnConflict = "user", p })
					b := f.Browser()
					b.Visit(func(s *sessions.Session) {
						s.Values["user"], s.Values["plan"] = "ada", "free"
						s.AddFlash("old")
					})
					session := b.Load()
					want := maps.Clone(session.Values)
					row.change(session)
					f.Wire.On("update", storetest.Rule{Kind: storetest.LoseAnswer, Once: true})
					// With retryable writes the driver has already repeated it.
					if _, err := b.Save(session); err != nil && !errors.Is(err, mongostore.ErrUnavailable) {
						t.Fatalf("first save: %v", err)
					}
					row.back(session)
					if _, err := next(b, session); err != nil {
						t.Fatalf("second save: %v", err)
					}
					if got := b.Load().Values; !reflect.DeepEqual(got, want) {
						t.Errorf("stored: %v, want %v", got, want)
					}
					doc := f.Document()
					if owner, _ := doc.Lookup("owner").StringValueOK(); owner != "ada" {
						t.Errorf("owner: %q", owner)
					}
					storetest.WantTime(t, doc, "expiresAt", time.Now().Add(week*time.Second))
					if age, ok := doc.Lookup("maxAge").AsInt64OK(); ok && age != week {
						t.Errorf("maxAge: %d", age)
					}
					// What is settled is not sent again.
					f.Log.Reset()
					b.MustSave(session)
					f.WantCommands()
				})
			}
		}
	}
}

// TestErrorOfTheWriteConcernLeavesTheWriteInDoubt: whatever its code, the server has made the
// change before.
func TestErrorOfTheWriteConcernLeavesTheWriteInDoubt(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session := b.Load()
	session.Values["plan"] = "gold"
	f.Wire.On("update", storetest.Rule{Kind: storetest.AnswerAfter, Once: true, Reply: bson.D{
		{Key: "ok", Value: 1},
		{Key: "n", Value: 1},
		{Key: "nModified", Value: 1},
		{Key: "writeConcernError", Value: bson.D{{Key: "code", Value: 79}, {Key: "errmsg", Value: "no write concern mode of that name"}}},
	}})
	if _, err := b.Save(session); !errors.Is(err, mongostore.ErrUnavailable) {
		t.Errorf("first save: %v", err)
	}
	delete(session.Values, "plan")
	b.MustSave(session)
	if got, stored := b.Load().Values["plan"]; stored {
		t.Errorf("stored: %v", got)
	}
	b.WantIn("afterwards")
}

// TestDoubtfulWriteCanBeRepeated: under Reject, a save that is repeated because its
// response was lost is no conflict with itself.
func TestDoubtfulWriteCanBeRepeated(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(*sessions.Session){
		"changed": storetest.SetValue("plan", "gold"),
		"added":   storetest.SetValue("extra", 1),
		"deleted": func(s *sessions.Session) { delete(s.Values, "plan") },
		"list":    func(s *sessions.Session) { s.AddFlash("new") },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) { c.OnConflict = mongostore.ConflictReject })
			b := f.Browser()
			b.Visit(func(s *sessions.Session) {
				s.Values["plan"] = "free"
				s.AddFlash("old")
			})
			session := b.Load()
			change(session)
			want := maps.Clone(session.Values)
			f.Wire.On("update", storetest.Rule{Kind: storetest.LoseAnswer, Once: true})
			if _, err := b.Save(session); err != nil && !errors.Is(err, mongostore.ErrUnavailable) {
				t.Fatalf("first save: %v", err)
			}
			if _, err := b.Save(session); err != nil {
				t.Errorf("second save: %v", err)
			}
			if got := b.Load().Values; !reflect.DeepEqual(got, want) {
				t.Errorf("stored: %v, want %v", got, want)
			}
		})
	}
}

// TestDoubtfulEditOfAListKeepsTheElementsOfOthers: a save without a response had merged the
// elements that another request appended. The next save does not treat them as its own.
func TestDoubtfulEditOfAListKeepsTheElementsOfOthers(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Visit(func(s *sessions.Session) { s.AddFlash("old") })
	session, other := b.Load(), b.Load()
	other.AddFlash("theirs")
	if _, err := b.Save(other); err != nil {
		t.Fatal(err)
	}
	session.Flashes()
	f.Wire.On("update", storetest.Rule{Kind: storetest.LoseAnswer, Skip: 1, Once: true}) // the one that merges
	if _, err := b.Save(session); err != nil && !errors.Is(err, mongostore.ErrUnavailable) {
		t.Fatalf("first save: %v", err)
	}
	session.AddFlash("ours")
	if _, err := b.Save(session); err != nil {
		t.Fatalf("second save: %v", err)
	}
	if got, want := b.Load().Values["_flash"], []any{"theirs", "ours"}; !reflect.DeepEqual(got, want) {
		t.Errorf("stored: %v, want %v", got, want)
	}
}

// TestDoubtfulEditsOfAListAreMadeOnce: of several saves without a response, some were carried
// out. The next save detects which, also if others have changed the list since.
func TestDoubtfulEditsOfAListAreMadeOnce(t *testing.T) {
	t.Parallel()
	add := func(message string) func(*sessions.Session) {
		return func(s *sessions.Session) { s.AddFlash(message) }
	}
	take := func(n int) func(*sessions.Session) {
		return func(s *sessions.Session) {
			list := s.Values["_flash"].([]any)
			s.Values["_flash"] = slices.Delete(slices.Clone(list), n, n+1)
		}
	}
	lost, refused := storetest.Rule{Kind: storetest.LoseAnswer, Once: true}, storetest.Rule{Kind: storetest.Refuse, Once: true}
	for what, row := range map[string]struct {
		stored []any
		edits  []func(*sessions.Session)
		rules  []storetest.Rule
		want   []any
	}{
		"two appended, the first stored":        {[]any{"0"}, []func(*sessions.Session){add("a"), add("b")}, []storetest.Rule{lost, refused}, []any{"0", "a", "x", "b"}},
		"two appended, none stored":             {[]any{"0"}, []func(*sessions.Session){add("a"), add("b")}, []storetest.Rule{refused, refused}, []any{"0", "x", "a", "b"}},
		"the only one taken, not stored":        {[]any{"0"}, []func(*sessions.Session){take(0)}, []storetest.Rule{refused}, []any{"x"}},
		"the only one taken, stored":            {[]any{"0"}, []func(*sessions.Session){take(0)}, []storetest.Rule{lost}, []any{"x"}},
		"the last one taken, not stored":        {[]any{"0", "1"}, []func(*sessions.Session){take(1)}, []storetest.Rule{refused}, []any{"0", "x"}},
		"one taken, one appended, first stored": {[]any{"0", "1"}, []func(*sessions.Session){take(0), add("a")}, []storetest.Rule{lost, refused}, []any{"1", "x", "a"}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			b := f.Browser()
			b.Visit(storetest.SetValue("_flash", row.stored))
			session := b.Load()
			for i, edit := range row.edits {
				edit(session)
				f.Wire.On("update", row.rules[i])
				if _, err := b.Save(session); err != nil && !errors.Is(err, mongostore.ErrUnavailable) {
					t.Fatalf("save %d: %v", i+1, err)
				}
			}
			other := b.Load()
			other.AddFlash("x")
			if _, err := b.Save(other); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Save(session); err != nil {
				t.Fatalf("last save: %v", err)
			}
			if got := b.Load().Values["_flash"]; !reflect.DeepEqual(got, row.want) {
				t.Errorf("stored: %v, want %v", got, row.want)
			}
		})
	}
}

// TestSessionsThatTheStoreDoesNotKnow: a copy by value, and a session of another Store
// on the collection, are saved onto the document that they are of.
func TestSessionsThatTheStoreDoesNotKnow(t *testing.T) {
	t.Parallel()
	for what, other := range map[string]func(*storetest.Fixture, *sessions.Session) (*mongostore.Store, *sessions.Session){
		"copy by value": func(f *storetest.Fixture, s *sessions.Session) (*mongostore.Store, *sessions.Session) {
			copied := *s
			return f.Store, &copied
		},
		"second store": func(f *storetest.Fixture, s *sessions.Session) (*mongostore.Store, *sessions.Session) {
			return f.Open(), s
		},
		"made by hand": func(f *storetest.Fixture, s *sessions.Session) (*mongostore.Store, *sessions.Session) {
			own := sessions.NewSession(f.Store, storetest.Name)
			options := *s.Options
			own.ID, own.Values, own.IsNew, own.Options = s.ID, maps.Clone(s.Values), false, &options
			return f.Store, own
		},
	} {
		for how, save := range map[string]func(*storetest.Browser, *sessions.Session) (*httptest.ResponseRecorder, error){
			"save": (*storetest.Browser).Save,
			"persist": func(b *storetest.Browser, s *sessions.Session) (*httptest.ResponseRecorder, error) {
				return httptest.NewRecorder(), b.Store.Persist(b.F.T.Context(), s)
			},
		} {
			t.Run(what+", "+how, func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t)
				b := f.Browser()
				b.Visit(storetest.SetValue("user", "ada"))
				loaded := b.Load()
				id := loaded.ID
				store, session := other(f, loaded)
				mine := b.At(store)
				session.Values["n"] = 1
				if _, err := save(mine, session); err != nil {
					t.Fatalf("alive: %v", err)
				}
				doc := f.Document()
				if session.ID != id || doc.Lookup("_id").StringValue() != storetest.HashOf(id) {
					t.Errorf("alive: saved under another ID")
				}
				if s := b.Load(); s.Values["n"] != 1 || s.Values["user"] != "ada" {
					t.Errorf("alive: values %v", s.Values)
				}
				store, session = other(f, b.Load())
				mine = b.At(store)
				b.Visit(func(s *sessions.Session) { s.Options.MaxAge = -1 })
				session.Values["n"] = 2
				w, err := save(mine, session)
				storetest.WantGone(t, "after a logout", w, err)
				f.WantDocuments(0)
			})
		}
	}
}

// TestResponseWithoutAHeader is an error that is found before anything is stored.
func TestResponseWithoutAHeader(t *testing.T) {
	t.Parallel()
	call := func(f func() error) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = nil
				t.Errorf("panic: %v", p)
			}
		}()
		return f()
	}
	f := storetest.Setup(t)
	b := f.Browser()
	if err := call(func() error { return f.Store.Save(b.Request(), headless{}, b.Load()) }); err == nil {
		t.Error("new session: no error")
	}
	f.WantDocuments(0)
	b.Visit(storetest.SetValue("user", "ada"))
	for what, save := range map[string]func(*sessions.Session) error{
		"touch": func(s *sessions.Session) error {
			return f.Store.Save(b.Request(), headless{}, s)
		},
		"MaxAge": func(s *sessions.Session) error {
			s.Options.MaxAge = 60
			return f.Store.Save(b.Request(), headless{}, s)
		},
		"renewal": func(s *sessions.Session) error {
			return f.Store.Renew(b.Request(), headless{}, s)
		},
	} {
		f.Older(2 * time.Minute)
		before := f.Document()
		session := b.Load()
		if err := call(func() error { return save(session) }); err == nil {
			t.Errorf("%s: no error", what)
		}
		if after := f.Documents(); len(after) != 1 || string(after[0]) != string(before) {
			t.Errorf("%s: the database has changed", what)
		}
	}
	session := b.Load()
	session.Options.MaxAge = -1
	if err := call(func() error { return f.Store.Save(b.Request(), headless{}, session) }); err == nil {
		t.Error("logout: no error")
	}
	b.WantIn("after a logout that failed")
}

// headless is a response without a header.
type headless struct{}

func (headless) Header() http.Header         { return nil }
func (headless) Write(p []byte) (int, error) { return len(p), nil }
func (headless) WriteHeader(int)             {}

// TestPersistMovesNoExpiry: a job is no user activity.
func TestPersistMovesNoExpiry(t *testing.T) {
	t.Parallel()
	for what, job := range map[string]func(*storetest.Fixture) *mongostore.Store{
		"same store": func(f *storetest.Fixture) *mongostore.Store { return f.Store },
		"longer MaxAge": func(f *storetest.Fixture) *mongostore.Store {
			return f.Another(func(c *mongostore.Config) { c.Options = nil })
		},
	} {
		for _, own := range []int{0, 7200} {
			t.Run(fmt.Sprintf("%s, own MaxAge %d", what, own), func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t, storetest.StoreOptions(3600))
				b := f.Browser()
				b.Visit(func(s *sessions.Session) {
					s.Values["user"] = "ada"
					if own > 0 {
						s.Options.MaxAge = own
					}
				})
				f.Older(20 * time.Minute)
				store := job(f)
				before := f.Document()
				session, err := store.Fetch(t.Context(), storetest.Name, b.Load().ID)
				if err != nil {
					t.Fatal(err)
				}
				for _, change := range []func(*sessions.Session){storetest.Unchanged, storetest.SetValue("n", 1), func(s *sessions.Session) { s.AddFlash("done") }} {
					change(session)
					if err := store.Persist(t.Context(), session); err != nil {
						t.Fatal(err)
					}
				}
				after := f.Document()
				for _, field := range []string{"createdAt", "seenAt", "expiresAt", "maxAge"} {
					if was, is := before.Lookup(field), after.Lookup(field); !was.Equal(is) {
						t.Errorf("%s was %v, is %v", field, was, is)
					}
				}
				if s := b.Load(); s.Values["n"] != 1 || s.Values["user"] != "ada" {
					t.Errorf("values: %v", s.Values)
				}
			})
		}
	}
}

// TestPersistLeavesAChangedMaxAgeToSave: also what it keeps in mind of the document.
func TestPersistLeavesAChangedMaxAgeToSave(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, storetest.StoreOptions(3600))
	b := f.Browser().Login()
	session := b.Load()
	session.Options.MaxAge = 7200
	session.Values["n"] = 1
	if err := f.Store.Persist(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	if own := f.Document().Lookup("maxAge"); own.Type != 0 {
		t.Errorf("Persist has stored the MaxAge %v", own)
	}
	if w := b.MustSave(session); len(w.Result().Cookies()) != 1 || w.Result().Cookies()[0].MaxAge != 7200 {
		t.Errorf("Save: cookies %v", w.Result().Cookies())
	}
	if got := b.Load(); got.Options.MaxAge != 7200 || got.Values["n"] != 1 {
		t.Errorf("loaded: MaxAge %d, values %v", got.Options.MaxAge, got.Values)
	}
}

// TestPersistSendsTheChangeAlone: and nothing, of an unchanged session.
func TestPersistSendsTheChangeAlone(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Visit(storetest.SetValue("user", "ada"))
	f.Older(2 * time.Minute)
	session, err := f.Store.Fetch(t.Context(), storetest.Name, b.Load().ID)
	if err != nil {
		t.Fatal(err)
	}
	f.Log.Reset()
	if err := f.Store.Persist(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	f.WantCommands()
	session.Values["n"] = 1
	if err := f.Store.Persist(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	names, commands := f.Log.Take()
	if len(names) != 1 || names[0] != "update" {
		t.Fatalf("commands: %q", names)
	}
	want := map[string][]string{"$set": {"values.n"}, "$inc": {"rev"}}
	if got := storetest.Operators(t, commands[0]); !reflect.DeepEqual(got, want) {
		t.Errorf("update: %v, want %v", got, want)
	}
}

// TestDescribeIsBounded: what it returns is cut at 4 KiB.
func TestDescribeIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 4 << 10
	for what, describe := range map[string]func(r *http.Request) map[string]string{
		"one long": func(r *http.Request) map[string]string {
			return map[string]string{"device": r.UserAgent(), "at": "home"}
		},
		"two long": func(r *http.Request) map[string]string {
			return map[string]string{"at": "home", "b": r.UserAgent(), "c": r.UserAgent()}
		},
		"long name": func(r *http.Request) map[string]string { return map[string]string{r.UserAgent(): "x", "at": "home"} },
		"many": func(*http.Request) map[string]string {
			details := map[string]string{}
			for i := range 10_000 {
				details[fmt.Sprintf("key%d", i)] = "value"
			}
			details["at"] = "home"
			return details
		},
		"umlauts": func(*http.Request) map[string]string {
			return map[string]string{"device": strings.Repeat("ü", 10_000), "device2": "a" + strings.Repeat("ü", 10_000), "at": "home"}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey, c.Describe = "user", describe })
			r, w := f.Browser().Request(), httptest.NewRecorder()
			r.Header.Set("User-Agent", strings.Repeat("agent ", 30_000))
			session, err := f.Store.Get(r, storetest.Name)
			if err != nil {
				t.Fatal(err)
			}
			session.Values["user"] = "ada"
			if err := f.Store.Save(r, w, session); err != nil {
				t.Fatal(err)
			}
			if n := len(f.Document()); n > limit+1024 {
				t.Errorf("a document of %d bytes", n)
			}
			details := f.Document().Lookup("details")
			if n := len(details.Value); n > limit {
				t.Errorf("details of %d bytes", n)
			}
			infos := storetest.SessionsOf(t, f.Store, "ada")
			if len(infos) != 1 {
				t.Fatalf("%d sessions listed", len(infos))
			}
			full := describe(r)
			for key, got := range infos[0].Details {
				if whole, ok := full[key]; ok && !strings.HasPrefix(whole, got) {
					t.Errorf("%s is %.40q, not a part of what Describe returned", key, got)
				}
			}
			if what != "long name" && infos[0].Details["at"] != "home" {
				t.Errorf("details: a short one is lost")
			}
			if _, long := full["device"]; long && len(infos[0].Details["device"]) < 1024 {
				t.Errorf("of a long one %d bytes are kept", len(infos[0].Details["device"]))
			}
		})
	}
}

// TestDescribeMayCallTheStore: no lock is held while it runs.
func TestDescribeMayCallTheStore(t *testing.T) {
	t.Parallel()
	for what, call := range map[string]func(*storetest.Fixture, *sessions.Session) error{
		"RevokeAll": func(f *storetest.Fixture, s *sessions.Session) error {
			_, err := f.Store.RevokeAll(f.T.Context(), "ada", s)
			return err
		},
		"Sessions": func(f *storetest.Fixture, _ *sessions.Session) error {
			for _, err := range f.Store.Sessions(f.T.Context(), "ada") {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"Persist": func(f *storetest.Fixture, _ *sessions.Session) error {
			other := sessions.NewSession(f.Store, storetest.Name)
			options := *f.Store.Options
			other.Options, other.IsNew = &options, true
			return f.Store.Persist(f.T.Context(), other)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var f *storetest.Fixture
			var session *sessions.Session
			calls := 0
			f = storetest.Setup(t, func(c *mongostore.Config) {
				c.OwnerKey = "user"
				c.Describe = func(*http.Request) map[string]string {
					if calls++; session != nil {
						if err := call(f, session); err != nil {
							t.Error(err)
						}
					}
					return map[string]string{"calls": fmt.Sprint(calls)}
				}
			})
			b := f.Browser()
			b.Visit(storetest.SetValue("user", "ada"))
			session = b.Load()
			session.Values["n"] = 1
			f.Older(2 * time.Minute)
			session = b.Load()
			session.Values["n"] = 1
			if err := storetest.Within(t, storetest.Patience, "Save", func() error {
				_, err := b.Save(session)
				return err
			}); err != nil {
				t.Error(err)
			}
			if calls < 2 {
				t.Errorf("Describe was called %d times", calls)
			}
			if s := b.Load(); s.Values["n"] != 1 {
				t.Errorf("values: %v", s.Values)
			}
		})
	}
}

// TestTouchSettlesNoDoubts: a touch writes no values, so a write of them without a response
// stays in doubt until the next save.
func TestTouchSettlesNoDoubts(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Visit(storetest.SetValue("plan", "free"))
	f.Older(time.Hour)
	session := b.Load()
	session.Values["plan"] = "gold"
	f.Wire.On("update", storetest.Rule{Kind: storetest.LoseAnswer, Once: true})
	if err := f.Store.Persist(t.Context(), session); !errors.Is(err, mongostore.ErrUnavailable) {
		t.Fatalf("persist: %v", err)
	}
	session.Values["plan"] = "free"
	if err := f.Store.Touch(t.Context(), session); err != nil {
		t.Fatalf("touch: %v", err)
	}
	if _, err := b.Save(session); err != nil {
		t.Fatalf("save: %v", err)
	}
	if got := b.Load().Values["plan"]; got != "free" {
		t.Errorf("stored: %v, want free", got)
	}
}

// TestDoubtsAreThoseOfTheSession: a second store on the collection sends a value again that the first one
// does not know to be stored.
func TestDoubtsAreThoseOfTheSession(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	second, err := mongostore.Open(t.Context(), f.Cfg, signingKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Close(context.WithoutCancel(t.Context())) })
	b := f.Browser()
	b.Visit(storetest.SetValue("plan", "free"))
	session := b.Load()
	session.Values["plan"] = "gold"
	f.Wire.On("update", storetest.Rule{Kind: storetest.LoseAnswer, Once: true})
	if err := f.Store.Persist(t.Context(), session); !errors.Is(err, mongostore.ErrUnavailable) {
		t.Fatalf("persist: %v", err)
	}
	session.Values["plan"] = "free"
	if err := second.Persist(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	if got := b.Load().Values["plan"]; got != "free" {
		t.Errorf("stored: %v, want free", got)
	}
}

// TestSaveWithACookieForgetsTheTouch that came after its load.
func TestSaveWithACookieForgetsTheTouch(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	f.Age(48 * time.Hour)
	a, socket := b.Load(), b.Load()
	if err := f.Store.Touch(t.Context(), socket); err != nil {
		t.Fatal(err)
	}
	b.MustSave(a)
	f.Log.Reset()
	w := b.Visit(storetest.Unchanged)
	if n := len(w.Result().Cookies()); n != 0 {
		t.Errorf("%d cookies", n)
	}
	f.WantCommands("find")
}
