package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestMigrationLogsNobodyOut: an application changes its store, and its visitors notice nothing.
func TestMigrationLogsNobodyOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	otherKey := []byte("another key of at least 32 bytes")
	for what, old := range map[string]sessions.Store{
		"CookieStore":                    sessions.NewCookieStore(storetest.SigningKey),
		"CookieStore with another key":   sessions.NewCookieStore(otherKey),
		"CookieStore with encryption":    sessions.NewCookieStore(storetest.SigningKey, storetest.BlockKey),
		"FilesystemStore":                sessions.NewFilesystemStore(dir, storetest.SigningKey),
		"FilesystemStore of another key": sessions.NewFilesystemStore(dir, otherKey),
		"mongostore":                     storetest.Setup(t).Store,
	} {
		t.Run(what, func(t *testing.T) {
			f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
			b := f.Browser()
			r, w := b.Request(), httptest.NewRecorder()
			before, err := old.Get(r, storetest.Name)
			if err != nil {
				t.Fatal(err)
			}
			before.Values["user"], before.Values[7] = "ada", []string{"x"}
			if err := before.Save(r, w); err != nil {
				t.Fatal(err)
			}
			b.Receive(w)
			copied := b.Clone()

			// The values are there, and nothing is stored before Save.
			session := b.Load()
			if session.IsNew || session.Values["user"] != "ada" || !reflect.DeepEqual(session.Values[7], []string{"x"}) {
				t.Fatalf("session: %+v", session)
			}
			if what == "mongostore" { // whose cookies look like ours
				f.WantCommands("find", "find")
			} else {
				f.WantCommands("find") // was it taken over before?
			}
			f.WantDocuments(0)
			session.Values["n"] = 1
			if _, err := b.Save(session); err != nil {
				t.Fatal(err)
			}
			if doc := f.Document(); doc.Lookup("_id").StringValue() != storetest.HashOf(session.ID) {
				t.Errorf("document: %v", doc)
			}
			if s := b.Load(); s.Values["user"] != "ada" || s.Values["n"] != 1 || s.IsNew {
				t.Errorf("afterwards: %+v", s)
			}
			// A copy of the old cookie leads to the same session. Where the old store can
			// remove, the old session is removed.
			if s := copied.Load(); s.IsNew || s.ID != session.ID || s.Values["n"] != 1 {
				t.Errorf("by the old cookie: %+v", s)
			}
			if strings.HasPrefix(what, "Filesystem") {
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("files left: %v, %v", left, err)
				}
			}
			b.Logout()
			f.WantDocuments(0)
			for who, v := range map[string]*storetest.Browser{"its cookie": b, "the old cookie": copied} {
				if s, err := v.Store.New(v.Request(), storetest.Name); !s.IsNew || len(s.Values) > 0 {
					t.Errorf("the session is alive after its logout, by %s: %v, %v", who, s.Values, err)
				}
			}
		})
	}
}

// TestLogoutRemovesTheOldStoresSession: a session that is logged out before it was stored here
// is removed there.
func TestLogoutRemovesTheOldStoresSession(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := sessions.NewFilesystemStore(dir, storetest.SigningKey)
	f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
	b := f.Browser()
	b.LoginAt(old)
	b.Logout()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
	f.WantDocuments(0)
}

// TestLogoutByHandRemovesTheOldStoresSession: also if the request was cancelled.
func TestLogoutByHandRemovesTheOldStoresSession(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := sessions.NewFilesystemStore(dir, storetest.SigningKey)
	f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
	b := f.Browser()
	b.LoginAt(old)
	session := sessions.NewSession(f.Store, storetest.Name)
	session.Options = &sessions.Options{Path: "/", MaxAge: -1}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Store.Save(b.Request().WithContext(ctx), httptest.NewRecorder(), session); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
	b.WantOut("afterwards")
}

// TestUnknownToBothStoresIsANewSession: what neither store knows is a new session, with the
// error that there would be without migration.
func TestUnknownToBothStoresIsANewSession(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) {
		c.MigrateFrom = sessions.NewFilesystemStore(t.TempDir(), storetest.SigningKey)
	})
	b := f.Browser()
	b.Cookies[storetest.Name] = "forged"
	if s, err := f.Store.Get(b.Request(), storetest.Name); err == nil || !s.IsNew {
		t.Errorf("forged: %v", err)
	}
	b = f.Browser().Login()
	b.Clone().Logout()
	if s, err := f.Store.Get(b.Request(), storetest.Name); err != nil || !s.IsNew {
		t.Errorf("logged out: %v", err)
	}
	b = f.Browser().Login()
	if s := b.Load(); s.Values["user"] != "ada" {
		t.Errorf("own session: %v", s.Values)
	}
}

// TestOutageOfTheOldStoreLogsNobodyOut: an outage of the old store logs nobody out.
func TestOutageOfTheOldStoreLogsNobodyOut(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = storetest.BrokenStore{} })
	b := f.Browser()
	b.Cookies[storetest.Name] = "of-the-old-store"
	session, err := f.Store.Get(b.Request(), storetest.Name)
	if !errors.Is(err, mongostore.ErrUnavailable) || !errors.Is(err, storetest.ErrBroken) {
		t.Fatalf("error: %v", err)
	}
	if w, err := b.Save(session); !errors.Is(err, storetest.ErrBroken) || w.Header()["Set-Cookie"] != nil {
		t.Errorf("save: %v", err)
	}
	f.WantDocuments(0)
	// Without a cookie the old store is not asked.
	if _, err := f.Store.Get(f.Browser().Request(), storetest.Name); err != nil {
		t.Errorf("without a cookie: %v", err)
	}
}

// TestEmptiedMigratedSessionIsStored: what was taken over is stored, also if it was emptied, so
// that the old session does not come back.
func TestEmptiedMigratedSessionIsStored(t *testing.T) {
	t.Parallel()
	old := sessions.NewCookieStore(storetest.SigningKey)
	f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom, c.SkipEmpty = old, true })
	b := f.Browser()
	b.Cookies[storetest.Name] = cookieStoreCookie(t)
	b.Do(func(s *sessions.Session) { delete(s.Values, "user") })
	if s := b.Load(); s.Values["user"] != nil || s.IsNew {
		t.Errorf("session: %+v", s)
	}
}

// TestFailedRemovalFromTheOldStoreIsReported: Remove does not report what has not happened in
// the old store, and a logout by cookie warns of it.
func TestFailedRemovalFromTheOldStoreIsReported(t *testing.T) {
	t.Parallel()
	old := sessions.NewFilesystemStore(t.TempDir(), storetest.SigningKey)
	f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = storetest.FullDisk{FilesystemStore: old} })
	b := f.Browser()
	b.LoginAt(old)
	session := b.Load()
	for range 2 {
		if err := f.Store.Remove(t.Context(), session); !errors.Is(err, storetest.ErrFull) {
			t.Errorf("Remove: %v", err)
		}
	}
	b.Logout()
	if log := f.Text.String(); !strings.Contains(log, "not removed from the store it came from") {
		t.Errorf("log: %s", log)
	}
}

// TestErrorsOfTheOldStoreHoldNoID: the old store's files are named after its sessions, whose
// cookies still work.
func TestErrorsOfTheOldStoreHoldNoID(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := sessions.NewFilesystemStore(dir, storetest.SigningKey)
	f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
	b := f.Browser()
	before := b.LoginAt(old)
	session := b.Load()

	// From now on the file can be neither read nor removed.
	file := filepath.Join(dir, "session_"+before.ID)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(file, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, errLoad := f.Store.New(b.Request(), storetest.Name)
	errRemove := f.Store.Remove(t.Context(), session)
	for _, err := range []error{errLoad, errRemove} {
		var cause *fs.PathError
		if !errors.Is(err, mongostore.ErrUnavailable) || !errors.As(err, &cause) {
			t.Fatalf("error: %v", err)
		}
		if strings.Contains(err.Error(), before.ID) || !strings.Contains(err.Error(), cause.Err.Error()) {
			t.Errorf("error: %v", err)
		}
	}
	if log := f.Text.String(); strings.Contains(log, before.ID) || !strings.Contains(log, "not removed from the store it came from") {
		t.Errorf("log: %s", log)
	}
}

// quotingStore is an old store whose errors quote a session when it is unavailable.
type quotingStore struct {
	sessions.Store
	away atomic.Bool
}

var errQuoting = errors.New("no answer for the session with the card " + storetest.CardNumber)

func (q *quotingStore) New(r *http.Request, name string) (*sessions.Session, error) {
	if q.away.Load() {
		return sessions.NewSession(q, name), fmt.Errorf("load: %w", errQuoting)
	}
	return q.Store.New(r, name)
}

func (q *quotingStore) Save(r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
	if q.away.Load() {
		return fmt.Errorf("save: %w", errQuoting)
	}
	return q.Store.Save(r, w, s)
}

// TestErrorsOfTheOldStoreQuoteNothing: whatever they say, the cause alone is there, for errors.Is.
func TestErrorsOfTheOldStoreQuoteNothing(t *testing.T) {
	t.Parallel()
	old := &quotingStore{Store: sessions.NewFilesystemStore(t.TempDir(), storetest.SigningKey)}
	f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
	b := f.Browser()
	b.LoginAt(old)
	session := b.Load()
	old.away.Store(true)
	_, errLoad := f.Store.New(b.Request(), storetest.Name)
	errRemove := f.Store.Remove(t.Context(), session)
	for _, err := range []error{errLoad, errRemove} {
		if !errors.Is(err, mongostore.ErrUnavailable) || !errors.Is(err, errQuoting) {
			t.Fatalf("error: %v", err)
		}
		if strings.Contains(err.Error(), storetest.CardNumber) {
			t.Errorf("error: %v", err)
		}
	}
	if log := f.Text.String(); strings.Contains(log, storetest.CardNumber) || !strings.Contains(log, "not removed from the store it came from") {
		t.Errorf("log: %s", log)
	}
}

// TestUnsavedMigratedSessionIsNotKept: a session that was taken over and never saved is not kept.
func TestUnsavedMigratedSessionIsNotKept(t *testing.T) {
	t.Parallel()
	old := sessions.NewCookieStore(storetest.SigningKey)
	f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
	b := f.Browser()
	b.LoginAt(old)
	var kept atomic.Int64
	for range 100 {
		session := b.Load()
		if session.IsNew {
			t.Fatal("not taken over")
		}
		kept.Add(1)
		runtime.AddCleanup(session, func(kept *atomic.Int64) { kept.Add(-1) }, &kept)
	}
	storetest.Eventually(t, "the sessions are forgotten", func() bool {
		runtime.GC()
		return kept.Load() <= 1
	})
}

// jarBrowser keeps cookies as browsers do, with their Path and Domain.
type jarBrowser struct {
	f   *storetest.Fixture
	jar *cookiejar.Jar
	url *url.URL
}

func newJarBrowser(f *storetest.Fixture) *jarBrowser {
	f.T.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		f.T.Fatal(err)
	}
	u, err := url.Parse("https://www.example.com/app/page")
	if err != nil {
		f.T.Fatal(err)
	}
	return &jarBrowser{f, jar, u}
}

func (j *jarBrowser) request() *http.Request {
	r := httptest.NewRequest(http.MethodGet, j.url.String(), nil)
	for _, c := range j.jar.Cookies(j.url) {
		r.AddCookie(c)
	}
	return r
}

// visit is a request to a store.
func (j *jarBrowser) visit(store sessions.Store, change func(*sessions.Session)) *sessions.Session {
	j.f.T.Helper()
	r, w := j.request(), httptest.NewRecorder()
	session, err := store.New(r, storetest.Name)
	if err != nil {
		j.f.T.Fatal("load:", err)
	}
	change(session)
	if err := store.Save(r, w, session); err != nil {
		j.f.T.Fatal("save:", err)
	}
	j.jar.SetCookies(j.url, w.Result().Cookies())
	return session
}

// load loads the session, and saves nothing.
func (j *jarBrowser) load() *sessions.Session {
	j.f.T.Helper()
	session, err := j.f.Store.New(j.request(), storetest.Name)
	var notCookie securecookie.Error // as where nothing is migrated
	if err != nil && !errors.As(err, &notCookie) {
		j.f.T.Fatal("load:", err)
	}
	return session
}

func (j *jarBrowser) values() (values []string) {
	for _, c := range j.jar.Cookies(j.url) {
		values = append(values, c.Value)
	}
	return values
}

// oldStores are what applications migrate from.
var oldStores = map[string]func(*testing.T) sessions.Store{
	"CookieStore": func(*testing.T) sessions.Store { return sessions.NewCookieStore(signingKey) },
	"CookieStore with another key": func(*testing.T) sessions.Store {
		return sessions.NewCookieStore([]byte("another key of at least 32 bytes"))
	},
	"CookieStore with a Path": func(*testing.T) sessions.Store {
		old := sessions.NewCookieStore(signingKey)
		old.Options.Path = "/app"
		return old
	},
	"CookieStore with a Domain": func(*testing.T) sessions.Store {
		old := sessions.NewCookieStore(signingKey)
		old.Options.Domain = "example.com"
		return old
	},
	"FilesystemStore": func(t *testing.T) sessions.Store { return sessions.NewFilesystemStore(t.TempDir(), signingKey) },
	"FilesystemStore with a Path": func(t *testing.T) sessions.Store {
		old := sessions.NewFilesystemStore(t.TempDir(), signingKey)
		old.Options.Path = "/app"
		return old
	},
	"mongostore": func(t *testing.T) sessions.Store { return storetest.Setup(t).Store },
	"mongostore with a Path": func(t *testing.T) sessions.Store {
		return storetest.Setup(t, func(c *mongostore.Config) {
			c.Options = &sessions.Options{Path: "/app", MaxAge: 3600, HttpOnly: true, Secure: true}
		}).Store
	},
}

// setupMigration returns a browser that is logged in at the old store, and a copy of it.
func setupMigration(t *testing.T, old sessions.Store, change ...func(*mongostore.Config)) (f *storetest.Fixture, b, copied *jarBrowser) {
	t.Helper()
	f = storetest.Setup(t, append(change, func(c *mongostore.Config) { c.MigrateFrom = old })...)
	b, copied = newJarBrowser(f), newJarBrowser(f)
	r, w := b.request(), httptest.NewRecorder()
	session, err := old.New(r, storetest.Name)
	if err != nil {
		t.Fatal(err)
	}
	session.Values["user"] = "ada"
	if err := old.Save(r, w, session); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*jarBrowser{b, copied} {
		c.jar.SetCookies(c.url, w.Result().Cookies())
	}
	return f, b, copied
}

// TestRequestOfTheOldStoresCookieDoesNotReplaceTheRenewedCookie: a request that was sent with the
// old store's cookie before the login arrives after it.
func TestRequestOfTheOldStoresCookieDoesNotReplaceTheRenewedCookie(t *testing.T) {
	t.Parallel()
	f, b, late := setupMigration(t, oldStores["CookieStore"](t))
	r, w := b.request(), httptest.NewRecorder()
	session, err := f.Store.New(r, storetest.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Store.Renew(r, w, session); err != nil {
		t.Fatal(err)
	}
	b.jar.SetCookies(b.url, w.Result().Cookies())
	other := late.load()
	if !other.IsNew || len(other.Values) > 0 {
		t.Fatalf("the old cookie works: %v", other.Values)
	}
	other.Values["n"] = 1
	w = httptest.NewRecorder()
	storetest.WantGone(t, "the late request", w, f.Store.Save(late.request(), w, other))
	f.WantLive(1)
	if s := b.load(); s.Values["user"] != "ada" {
		t.Errorf("afterwards: %v", s.Values)
	}
}

// TestLogoutOfAMigratedSessionIsOneCommand: its tombstone replaces the document.
func TestLogoutOfAMigratedSessionIsOneCommand(t *testing.T) {
	t.Parallel()
	f, b, _ := setupMigration(t, oldStores["CookieStore"](t))
	b.visit(f.Store, storetest.SetValue("n", 1))
	session := b.load()
	session.Options.MaxAge = -1
	f.Log.Reset()
	if err := f.Store.Save(b.request(), httptest.NewRecorder(), session); err != nil {
		t.Fatal(err)
	}
	f.WantCommands("update")
	f.WantTombstones(1)
}

// TestLogoutOfAMigratedSessionIsFinal: the old store's cookie logs nobody in any more,
// whether the browser has kept it or somebody has a copy.
func TestLogoutOfAMigratedSessionIsFinal(t *testing.T) {
	t.Parallel()
	logout := func(s *sessions.Session) { s.Options.MaxAge = -1 }
	for what, open := range oldStores {
		for how, end := range map[string]func(*storetest.Fixture, *jarBrowser){
			"saved, then logged out": func(f *storetest.Fixture, b *jarBrowser) {
				b.visit(f.Store, storetest.SetValue("n", 1))
				if s := b.load(); s.Values["user"] != "ada" || s.Values["n"] != 1 {
					f.T.Errorf("saved: %v", s.Values)
				}
				b.visit(f.Store, logout)
			},
			"logged out at once": func(f *storetest.Fixture, b *jarBrowser) { b.visit(f.Store, logout) },
			"removed": func(f *storetest.Fixture, b *jarBrowser) {
				b.visit(f.Store, storetest.SetValue("n", 1))
				if err := f.Store.Remove(f.T.Context(), b.load()); err != nil {
					f.T.Error(err)
				}
			},
			"removed at once": func(f *storetest.Fixture, b *jarBrowser) {
				if err := f.Store.Remove(f.T.Context(), b.load()); err != nil {
					f.T.Error(err)
				}
			},
			"renewed, then logged out": func(f *storetest.Fixture, b *jarBrowser) {
				r, w := b.request(), httptest.NewRecorder()
				session, err := f.Store.New(r, storetest.Name)
				if err != nil {
					f.T.Fatal(err)
				}
				if err := f.Store.Renew(r, w, session); err != nil {
					f.T.Fatal(err)
				}
				b.jar.SetCookies(b.url, w.Result().Cookies())
				if s := b.load(); s.Values["user"] != "ada" {
					f.T.Errorf("renewed: %v", s.Values)
				}
				b.visit(f.Store, logout)
			},
		} {
			t.Run(what+", "+how, func(t *testing.T) {
				t.Parallel()
				f, b, copied := setupMigration(t, open(t))
				end(f, b)
				for who, j := range map[string]*jarBrowser{"the browser": b, "a copy": copied} {
					if s := j.load(); !s.IsNew || len(s.Values) > 0 {
						t.Errorf("%s is logged in: %v", who, s.Values)
					}
				}
				f.WantLive(0)
			})
		}
	}
}

// TestRevocationOfAMigratedSessionIsFinal: the old store's cookie begins no other one.
func TestRevocationOfAMigratedSessionIsFinal(t *testing.T) {
	t.Parallel()
	for how, end := range map[string]func(*mongostore.Store, *sessions.Session) error{
		"Revoke": func(s *mongostore.Store, session *sessions.Session) error {
			key, err := s.Key(session)
			if err != nil {
				return err
			}
			return s.Revoke(t.Context(), key)
		},
		"RevokeAll": func(s *mongostore.Store, _ *sessions.Session) error {
			n, err := s.RevokeAll(t.Context(), "ada")
			if err == nil && n != 1 {
				err = fmt.Errorf("%d sessions ended", n)
			}
			return err
		},
	} {
		f, b, copied := setupMigration(t, sessions.NewCookieStore(signingKey), func(c *mongostore.Config) { c.OwnerKey = "user" })
		session := b.visit(f.Store, storetest.SetValue("n", 1))
		if err := end(f.Store, session); err != nil {
			t.Errorf("%s: %v", how, err)
		}
		f.WantLive(0)
		f.WantTombstones(1)
		for who, j := range map[string]*jarBrowser{"the browser": b, "a copy": copied} {
			if s := j.load(); !s.IsNew || len(s.Values) > 0 {
				t.Errorf("%s: %s is logged in: %v", how, who, s.Values)
			}
		}
	}
}

// TestMigrationExpiresTheOldCookie: where it has another Path or Domain than the new one,
// the browser would keep it beside.
func TestMigrationExpiresTheOldCookie(t *testing.T) {
	t.Parallel()
	for what, open := range oldStores {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f, b, _ := setupMigration(t, open(t))
			before := b.values()
			b.visit(f.Store, storetest.SetValue("n", 1))
			after := b.values()
			if len(after) != 1 || after[0] == before[0] {
				t.Errorf("%d cookies are left: %q", len(after), after)
			}
			if s := b.load(); s.IsNew || s.Values["n"] != 1 {
				t.Errorf("afterwards: %v", s.Values)
			}
			b.visit(f.Store, func(s *sessions.Session) { s.Options.MaxAge = -1 })
			if left := b.values(); len(left) > 0 {
				t.Errorf("after the logout %d cookies are left: %q", len(left), left)
			}
		})
	}
}

// TestLateSaveOfAMigratedSession: a request that took the session over before a logout, or
// a renewal, does not bring it back.
func TestLateSaveOfAMigratedSession(t *testing.T) {
	t.Parallel()
	for what, open := range oldStores {
		for how, end := range map[string]func(*storetest.Fixture, *jarBrowser){
			"logout": func(f *storetest.Fixture, b *jarBrowser) {
				b.visit(f.Store, func(s *sessions.Session) { s.Options.MaxAge = -1 })
			},
			"save and logout": func(f *storetest.Fixture, b *jarBrowser) {
				b.visit(f.Store, storetest.SetValue("n", 1))
				b.visit(f.Store, func(s *sessions.Session) { s.Options.MaxAge = -1 })
			},
		} {
			for late, save := range map[string]func(*storetest.Fixture, *http.Request, http.ResponseWriter, *sessions.Session) error{
				"Save": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
					return f.Store.Save(r, w, s)
				},
				"Renew": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
					return f.Store.Renew(r, w, s)
				},
				"Persist": func(f *storetest.Fixture, r *http.Request, _ http.ResponseWriter, s *sessions.Session) error {
					return f.Store.Persist(r.Context(), s)
				},
			} {
				t.Run(what+", "+how+", "+late, func(t *testing.T) {
					t.Parallel()
					f, b, copied := setupMigration(t, open(t))
					slow := copied.load()
					if slow.Values["user"] != "ada" {
						t.Fatalf("taken over: %v", slow.Values)
					}
					end(f, b)
					slow.Values["late"] = true
					w := httptest.NewRecorder()
					err := save(f, copied.request(), w, slow)
					storetest.WantGone(t, late, w, err)
					if s := copied.load(); !s.IsNew {
						t.Errorf("logged in again: %v", s.Values)
					}
					f.WantLive(0)
				})
			}
		}
	}
}

// TestLateSaveDoesNotUndoThePendingLogoutOfAMigratedSession: one whose tombstone has yet to be
// stored.
func TestLateSaveDoesNotUndoThePendingLogoutOfAMigratedSession(t *testing.T) {
	t.Parallel()
	for late, save := range map[string]func(*mongostore.Store, *http.Request, http.ResponseWriter, *sessions.Session) error{
		"Save":  (*mongostore.Store).Save,
		"Renew": (*mongostore.Store).Renew,
		"Persist": func(s *mongostore.Store, r *http.Request, _ http.ResponseWriter, session *sessions.Session) error {
			return s.Persist(r.Context(), session)
		},
	} {
		t.Run(late, func(t *testing.T) {
			t.Parallel()
			f, b, copied := setupMigration(t, sessions.NewCookieStore(signingKey))
			slow := copied.load()
			f.Wire.On("update", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(11600, "InterruptedAtShutdown")})
			b.visit(f.Store, func(s *sessions.Session) { s.Options.MaxAge = -1 })
			f.WantTombstones(0)
			slow.Values["late"] = true
			w := httptest.NewRecorder()
			err := save(f.Store, copied.request(), w, slow)
			storetest.WantGone(t, late, w, err)
			f.WantLive(0)
			f.Wire.Heal()
			storetest.Eventually(t, "the tombstone is stored", func() bool { return len(f.Documents()) == 1 })
			f.WantTombstones(1)
			if s := copied.load(); !s.IsNew {
				t.Errorf("logged in again: %v", s.Values)
			}
		})
	}
}

// TestFirstRequestsOfAMigratedVisitorMakeOneSession: those that run concurrently merge.
func TestFirstRequestsOfAMigratedVisitorMakeOneSession(t *testing.T) {
	t.Parallel()
	for what, open := range oldStores {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f, b, copied := setupMigration(t, open(t))
			first, second := b.load(), copied.load()
			first.Values["a"], second.Values["b"] = 1, 2
			for j, s := range map[*jarBrowser]*sessions.Session{b: first, copied: second} {
				w := httptest.NewRecorder()
				if err := f.Store.Save(j.request(), w, s); err != nil {
					t.Fatal(err)
				}
				j.jar.SetCookies(j.url, w.Result().Cookies())
			}
			f.WantLive(1)
			for who, j := range map[string]*jarBrowser{"first": b, "second": copied} {
				if s := j.load(); s.Values["user"] != "ada" || s.Values["a"] != 1 || s.Values["b"] != 2 {
					t.Errorf("%s: %v", who, s.Values)
				}
			}
			if x, y := b.load().ID, copied.load().ID; x != y {
				t.Error("two IDs")
			}
		})
		t.Run(what+", in parallel", func(t *testing.T) {
			t.Parallel()
			f, b, _ := setupMigration(t, open(t))
			const n = 5
			var loaded []*sessions.Session
			for range n {
				loaded = append(loaded, b.load())
			}
			r := b.request()
			var wg sync.WaitGroup
			for i, s := range loaded {
				wg.Go(func() {
					s.Values[string(rune('a'+i))] = i
					if err := f.Store.Save(r.Clone(context.WithoutCancel(t.Context())), httptest.NewRecorder(), s); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			f.WantLive(1)
			if s := b.load(); len(s.Values) != n+1 {
				t.Errorf("values: %v", s.Values)
			}
		})
	}
}

// TestJoiningAMigratedSessionKeepsLaterFlashes: what others add to a list while the join is under
// way stays.
func TestJoiningAMigratedSessionKeepsLaterFlashes(t *testing.T) {
	t.Parallel()
	f, b, copied := setupMigration(t, sessions.NewCookieStore(signingKey))
	joins := copied.load()
	b.visit(f.Store, func(s *sessions.Session) { s.AddFlash("first") })
	joins.AddFlash("joined")
	seen, gate := make(chan struct{}, 1), make(chan struct{})
	f.Wire.On("update", storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: gate})
	done := make(chan error)
	go func() { done <- f.Store.Save(copied.request(), httptest.NewRecorder(), joins) }()
	<-seen
	b.visit(f.Another(), func(s *sessions.Session) { s.AddFlash("later") })
	close(gate)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got, want := b.load().Values["_flash"], []any{"first", "later", "joined"}; !reflect.DeepEqual(got, want) {
		t.Errorf("stored: %v, want %v", got, want)
	}
}

// TestLateFirstSaveEndsWithTheAbsoluteTimeout: a session that was taken over is not stored once its
// age has passed.
func TestLateFirstSaveEndsWithTheAbsoluteTimeout(t *testing.T) {
	t.Parallel()
	f, b, _ := setupMigration(t, storetest.Setup(t).Store, func(c *mongostore.Config) { c.AbsoluteTimeout = 4 * time.Second })
	slow := b.load()
	if slow.IsNew {
		t.Fatal("not taken over")
	}
	storetest.Eventually(t, "the session has expired", func() bool { return b.load().IsNew })
	w := httptest.NewRecorder()
	err := f.Store.Save(b.request(), w, slow)
	storetest.WantGone(t, "the late save", w, err)
	if docs := f.Documents(); len(docs) > 0 {
		t.Errorf("stored: %v", docs)
	}
}

// TestOldCookieFindsTheMigratedSession: as long as that lives, a request with the old
// cookie gets it, and not once more what the old store had.
func TestOldCookieFindsTheMigratedSession(t *testing.T) {
	t.Parallel()
	for what, open := range oldStores {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f, b, copied := setupMigration(t, open(t))
			b.visit(f.Store, storetest.SetValue("n", 1))
			f.Log.Reset()
			if s := copied.load(); s.Values["user"] != "ada" || s.Values["n"] != 1 {
				t.Errorf("values: %v", s.Values)
			}
			f.WantLive(1)
		})
	}
}

// TestMigratedSessionLeavesATombstone: for as long as the old store's cookie can be valid.
func TestMigratedSessionLeavesATombstone(t *testing.T) {
	t.Parallel()
	for how, end := range map[string]func(*storetest.Fixture, *jarBrowser){
		"logout": func(f *storetest.Fixture, b *jarBrowser) {
			b.visit(f.Store, func(s *sessions.Session) { s.Options.MaxAge = -1 })
		},
		"save, logout": func(f *storetest.Fixture, b *jarBrowser) {
			b.visit(f.Store, storetest.SetValue("n", 1))
			b.visit(f.Store, func(s *sessions.Session) { s.Options.MaxAge = -1 })
		},
	} {
		old := sessions.NewCookieStore(signingKey)
		f, b, _ := setupMigration(t, old)
		end(f, b)
		docs := f.Documents()
		if len(docs) != 1 {
			t.Errorf("%s: %d documents", how, len(docs))
			continue
		}
		doc := docs[0]
		if rev := doc.Lookup("rev"); rev.Type != bson.TypeNull || doc.Lookup("movedTo").Type != 0 || len(doc.Lookup("values").Value) != 5 {
			t.Errorf("%s: %v", how, doc)
		}
		storetest.WantTime(t, doc, "expiresAt", time.Now().Add(30*24*time.Hour))
		if n, err := f.Store.Count(t.Context()); n != 0 || err != nil {
			t.Errorf("%s: Count: %d, %v", how, n, err)
		}
	}
}

// moodyStore is a store whose database goes away, or hangs.
type moodyStore struct {
	sessions.Store
	newFails, saveFails atomic.Bool
	newHangs, saveHangs atomic.Bool
	gate                chan struct{}
	release             func() // what hangs
}

func moody(t *testing.T) *moodyStore {
	m := &moodyStore{Store: sessions.NewFilesystemStore(t.TempDir(), signingKey), gate: make(chan struct{})}
	m.release = sync.OnceFunc(func() { close(m.gate) })
	t.Cleanup(m.release)
	return m
}

func (m *moodyStore) New(r *http.Request, name string) (*sessions.Session, error) {
	if m.newHangs.Load() {
		<-m.gate
	}
	if m.newFails.Load() {
		return sessions.NewSession(m, name), storetest.ErrBroken
	}
	return m.Store.New(r, name)
}

func (m *moodyStore) Save(r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
	if m.saveHangs.Load() {
		<-m.gate
	}
	if m.saveFails.Load() {
		return storetest.ErrBroken
	}
	return m.Store.Save(r, w, s)
}

// TestLogoutDuringAnOutageOfTheOldStoreIsFinal: it cannot be removed there, and is not
// taken over once more.
func TestLogoutDuringAnOutageOfTheOldStoreIsFinal(t *testing.T) {
	t.Parallel()
	for what, outage := range map[string]struct{ before, after func(*moodyStore) }{ // the load
		"before the load": {func(m *moodyStore) { m.newFails.Store(true); m.saveFails.Store(true) }, func(*moodyStore) {}},
		"after the load":  {func(*moodyStore) {}, func(m *moodyStore) { m.newFails.Store(true); m.saveFails.Store(true) }},
	} {
		for _, saved := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, saved %t", what, saved), func(t *testing.T) {
				t.Parallel()
				old := moody(t)
				f, b, copied := setupMigration(t, old)
				if saved {
					old.saveFails.Store(true) // so that it is not removed there
					b.visit(f.Store, storetest.SetValue("n", 1))
					b = copied
				}
				outage.before(old)
				r, w := b.request(), httptest.NewRecorder()
				session, _ := f.Store.New(r, storetest.Name)
				outage.after(old)
				session.Options.MaxAge = -1
				if err := f.Store.Save(r, w, session); err != nil {
					t.Errorf("logout: %v", err)
				}
				if cookies := w.Result().Cookies(); len(cookies) == 0 || cookies[len(cookies)-1].MaxAge >= 0 {
					t.Errorf("logout: cookies %v", cookies)
				}
				old.newFails.Store(false)
				old.saveFails.Store(false)
				if s := copied.load(); !s.IsNew || len(s.Values) > 0 {
					t.Errorf("logged in again: %v", s.Values)
				}
			})
		}
	}
}

// TestOldStoreThatHangs is bounded by Timeout, at the load and at the removal.
func TestOldStoreThatHangs(t *testing.T) {
	t.Parallel()
	setupHanging := func(t *testing.T) (*moodyStore, *storetest.Fixture, *jarBrowser) {
		t.Helper()
		old := moody(t)
		f, b, _ := setupMigration(t, old)
		f.Cfg.MigrateFrom = old
		f.Store = f.OpenWith(storetest.Soon)
		t.Cleanup(old.release) // before the store is closed
		return old, f, b
	}
	t.Run("load", func(t *testing.T) {
		t.Parallel()
		old, f, b := setupHanging(t)
		old.newHangs.Store(true)
		var session *sessions.Session
		err := storetest.Within(t, storetest.Patience, "New", func() (err error) {
			session, err = f.Store.New(b.request(), storetest.Name)
			return err
		})
		if !errors.Is(err, mongostore.ErrUnavailable) || session == nil {
			t.Errorf("New: %v", err)
		}
		w := httptest.NewRecorder()
		if err := f.Store.Save(b.request(), w, session); !errors.Is(err, mongostore.ErrUnavailable) {
			t.Errorf("Save: %v", err)
		}
		storetest.WantNoCookie(t, "Save", w)
	})
	t.Run("load of a cancelled request", func(t *testing.T) {
		t.Parallel()
		old, f, b := setupHanging(t)
		old.newHangs.Store(true)
		f.Store = f.OpenWith(time.Hour)
		t.Cleanup(old.release)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		err := storetest.Within(t, storetest.Patience, "New", func() error {
			_, err := f.Store.New(b.request().WithContext(ctx), storetest.Name)
			return err
		})
		if !errors.Is(err, mongostore.ErrUnavailable) {
			t.Errorf("New: %v", err)
		}
	})
	for what, change := range map[string]func(*sessions.Session){
		"save":   storetest.SetValue("n", 1),
		"logout": func(s *sessions.Session) { s.Options.MaxAge = -1 },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			old, f, b := setupHanging(t)
			session := b.load()
			change(session)
			old.saveHangs.Store(true)
			w := httptest.NewRecorder()
			if err := storetest.Within(t, storetest.Patience, "Save", func() error { return f.Store.Save(b.request(), w, session) }); err != nil {
				t.Errorf("Save: %v", err)
			}
			if w.Header()["Set-Cookie"] == nil {
				t.Error("no cookie")
			}
			// The session is not locked.
			_ = storetest.Within(t, storetest.Patience, "a second Save", func() error {
				return f.Store.Save(b.request(), httptest.NewRecorder(), session)
			})
			storetest.Eventually(t, "there is a warning", func() bool { return strings.Contains(f.Text.String(), "level=WARN") })
		})
	}
}

// nilValues is a store whose sessions have no map.
type nilValues struct{ sessions.Store }

func (s nilValues) New(r *http.Request, name string) (*sessions.Session, error) {
	session := sessions.NewSession(s, name)
	session.Options = &sessions.Options{Path: "/"}
	session.Values = nil
	session.IsNew = false
	return session, nil
}

func (nilValues) Save(*http.Request, http.ResponseWriter, *sessions.Session) error { return nil }

// TestMigratedValuesAreNeverNil: a handler assigns to them.
func TestMigratedValuesAreNeverNil(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = nilValues{} })
	b := f.Browser()
	b.Cookies[storetest.Name] = "of-the-old-store"
	session := b.Load()
	if session.Values == nil {
		t.Fatal("Values are nil")
	}
	session.Values["n"] = 1
	b.MustSave(session)
	if s := b.Load(); s.Values["n"] != 1 {
		t.Errorf("values: %v", s.Values)
	}
}

// TestMigratedSessionKeepsItsAge: and its own MaxAge, where the old store is a mongostore.
func TestMigratedSessionKeepsItsAge(t *testing.T) {
	t.Parallel()
	const month = 30 * 24 * 3600
	for how, save := range map[string]func(*storetest.Browser, *sessions.Session) (*httptest.ResponseRecorder, error){
		"Save": (*storetest.Browser).Save, "Renew": (*storetest.Browser).Renew,
	} {
		for what, row := range map[string]struct {
			own      int
			absolute time.Duration
			lives    time.Duration
		}{
			"own MaxAge":                     {month, 0, month * time.Second},
			"own MaxAge, absolute timeout":   {month, 12 * time.Hour, 2 * time.Hour},
			"store's MaxAge":                 {0, 0, 7200 * time.Second},
			"store's MaxAge, shortly before": {0, 11 * time.Hour, time.Hour},
		} {
			t.Run(how+", "+what, func(t *testing.T) {
				t.Parallel()
				old := storetest.Setup(t, storetest.StoreOptions(3600))
				f := storetest.Setup(t, storetest.StoreOptions(7200), func(c *mongostore.Config) { c.MigrateFrom, c.AbsoluteTimeout = old.Store, row.absolute })
				b := old.Browser()
				b.Visit(func(s *sessions.Session) {
					s.Values["user"] = "ada"
					if row.own > 0 {
						s.Options.MaxAge = row.own
					}
				})
				created := time.Now().Add(-10 * time.Hour).Truncate(time.Millisecond)
				old.Edit(storetest.SetDate("createdAt", created))
				b.F, b.Store = f, f.Store
				session := b.Load()
				if row.own > 0 && session.Options.MaxAge != row.own {
					t.Errorf("MaxAge is %d, want %d", session.Options.MaxAge, row.own)
				}
				session.Values["n"] = 1
				w, err := save(b, session)
				if err != nil {
					t.Fatal(err)
				}
				doc := f.Document()
				if at := doc.Lookup("createdAt").Time(); !at.Equal(created) {
					t.Errorf("createdAt is %v, want %v", at, created)
				}
				storetest.WantTime(t, doc, "expiresAt", time.Now().Add(row.lives))
				cookies := w.Result().Cookies()
				if c := cookies[len(cookies)-1]; row.own > 0 && c.MaxAge != row.own {
					t.Errorf("cookie: %v", c)
				}
				if s := b.Load(); row.own > 0 && s.Options.MaxAge != row.own || s.Values["user"] != "ada" {
					t.Errorf("later: MaxAge %d, %v", s.Options.MaxAge, s.Values)
				}
			})
		}
	}
	t.Run("beyond the absolute timeout", func(t *testing.T) {
		t.Parallel()
		old := storetest.Setup(t)
		f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom, c.AbsoluteTimeout = old.Store, time.Hour })
		b := old.Browser()
		b.Visit(storetest.SetValue("user", "ada"))
		old.Edit(storetest.SetDate("createdAt", time.Now().Add(-2*time.Hour)))
		b.F, b.Store = f, f.Store
		b.WantOut("it has ended")
	})
}

// TestLoginOfAMigratedVisitorSurvivesAnOutageOfTheOldStore: the login's cookie stays when the
// middleware saves once more.
func TestLoginOfAMigratedVisitorSurvivesAnOutageOfTheOldStore(t *testing.T) {
	t.Parallel()
	old := moody(t)
	f, b, _ := setupMigration(t, old)
	old.saveFails.Store(true)
	r, w := b.request(), httptest.NewRecorder()
	f.Store.Middleware(storetest.Name)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := f.Store.Get(r, storetest.Name)
		if err != nil {
			t.Error(err)
		}
		session.Values["role"] = "admin"
		if err := f.Store.Renew(r, w, session); err != nil {
			t.Error("renew:", err)
		}
	})).ServeHTTP(w, r)
	if cookies := w.Result().Cookies(); len(cookies) == 0 {
		t.Error("no cookie after a login that returned nil")
	}
}

// TestSecondSaveOfAMigratedSessionDuringAnOutageOfTheOldStore is a save of the stored session.
func TestSecondSaveOfAMigratedSessionDuringAnOutageOfTheOldStore(t *testing.T) {
	t.Parallel()
	for what, policy := range map[string]mongostore.ConflictPolicy{"merge": mongostore.ConflictMerge, "reject": mongostore.ConflictReject} {
		t.Run(what, func(t *testing.T) {
			old := moody(t)
			f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old; c.OnConflict = policy })
			b := f.Browser()
			b.LoginAt(old)
			old.saveFails.Store(true)
			r, w := b.Request(), httptest.NewRecorder()
			session, err := f.Store.Get(r, storetest.Name)
			if err != nil {
				t.Fatal(err)
			}
			session.AddFlash("one")
			session.Values["n"] = 1
			if err := f.Store.Save(r, w, session); err != nil {
				t.Fatal(err)
			}
			session.AddFlash("two")
			session.Values["n"] = 2
			if err := f.Store.Save(r, w, session); err != nil {
				t.Error(err)
			}
			b.Receive(w)
			if s := b.Load(); len(s.Flashes()) != 2 {
				t.Errorf("flashes: %v", session.Values["_flash"])
			}
		})
	}
}

// TestMigrationKeepsTheNewCookieWhereTheOldOneIsExpired: it is not expired with the old one, be
// that removed by a later save or written with another form of the domain.
func TestMigrationKeepsTheNewCookieWhereTheOldOneIsExpired(t *testing.T) {
	t.Parallel()
	t.Run("removed by a later save", func(t *testing.T) {
		t.Parallel()
		old := moody(t)
		f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
		b := f.Browser()
		b.LoginAt(old)
		old.saveFails.Store(true)
		r, w := b.Request(), httptest.NewRecorder()
		session, err := f.Store.Get(r, storetest.Name)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := f.Store.Save(r, w, session); err != nil {
				t.Fatal(err)
			}
			old.saveFails.Store(false)
		}
		b.Receive(w)
		b.WantIn("after both saves")
	})
	t.Run("domain with a dot", func(t *testing.T) {
		t.Parallel()
		old := sessions.NewCookieStore(storetest.SigningKey)
		old.Options.Domain = ".example.com"
		f := storetest.Setup(t, func(c *mongostore.Config) {
			c.MigrateFrom = old
			c.Options = mongostore.DefaultOptions()
			c.Options.Domain = ".example.com"
		})
		b := f.Browser()
		b.LoginAt(old)
		b.Visit(storetest.SetValue("n", 1))
		b.WantIn("after the migration")
	})
}

// TestRenewalAfterJoiningAMigratedSessionKeepsOthersKeys: a session that was saved onto that of
// a concurrent first request does not hold all its keys.
func TestRenewalAfterJoiningAMigratedSessionKeepsOthersKeys(t *testing.T) {
	t.Parallel()
	old := sessions.NewCookieStore([]byte("another key of at least 32 bytes"))
	f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
	b := f.Browser()
	b.LoginAt(old)
	two := b.Clone()
	first, second := b.Load(), two.Load()
	first.Values["a"], second.Values["b"] = 1, 1
	b.MustSave(first)
	two.MustSave(second)
	second.Values["role"] = "admin"
	two.MustRenew(second)
	if s := two.Load(); s.Values["a"] != 1 || s.Values["b"] != 1 || s.Values["role"] != "admin" {
		t.Errorf("values: %v", s.Values)
	}
}

// TestLogoutOfAMigratedSessionIsFinalAfterANewKey: the tombstone was left under the key before.
func TestLogoutOfAMigratedSessionIsFinalAfterANewKey(t *testing.T) {
	t.Parallel()
	old := sessions.NewCookieStore([]byte("another key of at least 32 bytes"))
	f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
	b := f.Browser()
	b.LoginAt(old)
	copied := b.Clone()
	b.Do(storetest.SetValue("n", 1))
	b.Logout()
	copied.WantOut("the old cookie after the logout")
	later, err := mongostore.Open(t.Context(), f.Cfg, []byte("a new key of more than thirty-two bytes"), nil, storetest.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	copied.At(later).WantOut("the old cookie after the logout, with a new signing key")
}

// TestLoginOfAMigratedVisitorWhoseTombstoneFails is reported as what it is: nobody has ended the
// session.
func TestLoginOfAMigratedVisitorWhoseTombstoneFails(t *testing.T) {
	t.Parallel()
	old := sessions.NewCookieStore([]byte("another key of at least 32 bytes"))
	f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
	b := f.Browser()
	b.LoginAt(old)
	session := b.Load()
	session.Values["role"] = "admin"
	f.Wire.On("insert", storetest.Rule{Kind: storetest.Refuse, Skip: 1})
	if _, err := b.Renew(session); !errors.Is(err, mongostore.ErrUnavailable) {
		t.Errorf("error: %v", err)
	}
	f.Wire.Heal()
	b.WantIn("with the old cookie")
}

// TestVisitorsWithOneOldCookieDoNotShareALogin: a CookieStore without an encryption key sets
// the same cookie for all visitors that get the same values in the same second. When one of
// them logs in, by Save alone, the others are not logged in.
func TestVisitorsWithOneOldCookieDoNotShareALogin(t *testing.T) {
	t.Parallel()
	for what, visited := range map[string]bool{"before the session is stored here": false, "in a session stored here": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			old := sessions.NewCookieStore(storetest.SigningKey)
			f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom, c.OwnerKey = old, "user" })
			ada := f.Browser()
			w := httptest.NewRecorder()
			session, err := old.New(ada.Request(), storetest.Name)
			if err != nil {
				t.Fatal(err)
			}
			session.Values["visits"] = 1
			if err := old.Save(ada.Request(), w, session); err != nil {
				t.Fatal(err)
			}
			ada.Receive(w)
			bob := ada.Clone()
			if visited {
				ada.Visit(storetest.SetValue("visits", 2))
				bob.Visit(storetest.SetValue("visits", 3))
			}
			ada.Visit(storetest.SetValue("user", "ada"))
			ada.WantIn("the visitor who logged in")
			for range 2 {
				if s := bob.Load(); s.Values["user"] != nil {
					t.Errorf("the other visitor is %v", s.Values["user"])
				}
			}
		})
	}
}

// TestJoiningAMigratedSessionLeavesTheOwner: a store without an OwnerKey, whose first save meets
// the session that another process has migrated, leaves its owner and details as they are.
func TestJoiningAMigratedSessionLeavesTheOwner(t *testing.T) {
	t.Parallel()
	old := sessions.NewCookieStore(storetest.SigningKey)
	f := storetest.Setup(t, func(c *mongostore.Config) {
		c.MigrateFrom, c.OwnerKey = old, "user"
		c.Describe = func(*http.Request) map[string]string { return map[string]string{"device": "phone"} }
	})
	b := f.Browser()
	b.LoginAt(old)
	cfg := f.Cfg
	cfg.OwnerKey, cfg.Describe = "", nil
	plain, err := mongostore.Open(t.Context(), cfg, storetest.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plain.Close(context.WithoutCancel(t.Context())) })
	r := b.Request()
	late, err := plain.New(r, storetest.Name)
	if err != nil {
		t.Fatal(err)
	}
	b.Visit(storetest.SetValue("n", 1))
	late.Values["late"] = true
	if err := plain.Save(r, httptest.NewRecorder(), late); err != nil {
		t.Fatal(err)
	}
	doc := f.Document()
	if _, err := doc.LookupErr("owner"); err != nil {
		t.Error("the owner is gone")
	}
	if _, err := doc.LookupErr("details", "device"); err != nil {
		t.Error("the details are gone")
	}
	if s := b.Load(); s.Values["n"] != 1 || s.Values["late"] != true {
		t.Errorf("values: %v", s.Values)
	}
}

// TestDamagedMigratedSession: the old cookie leads to an error or a new session, as
// [mongostore.Config.OnCorrupt] says, and does not lead back to the old store's session after a
// logout.
func TestDamagedMigratedSession(t *testing.T) {
	t.Parallel()
	for policy, p := range map[string]mongostore.CorruptPolicy{"refuse": mongostore.CorruptRefuse, "restart": mongostore.CorruptRestart} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			old := sessions.NewCookieStore(storetest.SigningKey)
			f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom, c.OnCorrupt = old, p })
			b := f.Browser()
			b.LoginAt(old)
			copied := b.Clone()
			b.Visit(storetest.SetValue("n", 1))
			f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "rev", Value: "x"}}}})
			late := copied.Clone()
			session, err := f.Store.New(copied.Request(), storetest.Name)
			if !session.IsNew || len(session.Values) > 0 {
				t.Errorf("session: %+v", session)
			}
			if p == mongostore.CorruptRestart {
				if err != nil {
					t.Fatalf("New: %v", err)
				}
				if log := f.Text.String(); strings.Count(log, "level=WARN") != 1 {
					t.Errorf("log: %s", log)
				}
				session.Values["n"] = 2
				copied.MustSave(session)
				if s := copied.Load(); s.Values["n"] != 2 {
					t.Errorf("values: %v", s.Values)
				}
				copied.Logout()
			} else {
				if !errors.Is(err, mongostore.ErrCorrupt) {
					t.Fatalf("New: %v", err)
				}
				session.Options.MaxAge = -1
				if _, err := copied.Save(session); err != nil {
					t.Errorf("logout: %v", err)
				}
			}
			late.WantOut("the old cookie")
		})
	}
}

// requestWith returns a request with cookies of one name, in their order.
func requestWith(path string, cookies ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://example.com"+path, nil)
	for _, c := range cookies {
		r.AddCookie(&http.Cookie{Name: storetest.Name, Value: c})
	}
	return r
}

// TestLogoutEndsAllCookiesOfTheOldStore: a browser sends one of another path beside that of this store, or
// two of the old store.
func TestLogoutEndsAllCookiesOfTheOldStore(t *testing.T) {
	t.Parallel()
	logout := func(t *testing.T, f *storetest.Fixture, byHand bool, cookies ...string) *httptest.ResponseRecorder {
		t.Helper()
		r, w := requestWith("/app/logout", cookies...), httptest.NewRecorder()
		session, err := f.Store.New(r, storetest.Name)
		if err != nil || session.IsNew {
			t.Fatal(err, session.IsNew)
		}
		if byHand {
			session = sessions.NewSession(f.Store, storetest.Name)
			session.Options = mongostore.DefaultOptions()
		}
		session.Options.MaxAge = -1
		if err := f.Store.Save(r, w, session); err != nil {
			t.Fatal(err)
		}
		for i, c := range cookies {
			session, err := f.Another().New(requestWith("/app", c), storetest.Name)
			if err != nil || !session.IsNew || len(session.Values) > 0 {
				t.Errorf("cookie %d after the logout: %v %v", i, session.Values, err)
			}
		}
		return w
	}
	for _, byHand := range []bool{false, true} {
		t.Run(fmt.Sprint("another path, by hand ", byHand), func(t *testing.T) {
			t.Parallel()
			old := sessions.NewCookieStore(signingKey)
			old.Options.Path = "/app"
			f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
			before, now := f.Browser(), f.Browser()
			before.LoginAt(old)
			now.Visit(storetest.SetValue("user", "bob")) // at a path where the old cookie is not sent
			w := logout(t, f, byHand, before.Cookies[storetest.Name], now.Cookies[storetest.Name])
			paths := map[string]bool{}
			for _, c := range w.Result().Cookies() {
				paths[c.Path] = c.MaxAge < 0
			}
			if !paths["/"] || !paths["/app"] {
				t.Errorf("the cookies are %q", w.Header()["Set-Cookie"])
			}
			f.WantLive(0)
		})
		t.Run(fmt.Sprint("two of the old store, by hand ", byHand), func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			old := sessions.NewFilesystemStore(folder, signingKey)
			f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
			one, two := f.Browser(), f.Browser()
			one.LoginAt(old)
			two.LoginAt(old)
			logout(t, f, byHand, one.Cookies[storetest.Name], two.Cookies[storetest.Name])
			if files, err := os.ReadDir(folder); len(files) > 0 || err != nil {
				t.Errorf("the old store has %d sessions, %v", len(files), err)
			}
		})
	}
}

// TestTombstoneOutlivesTheOldCookie: gorilla's codecs accept a cookie for 30 days, even if Options.MaxAge
// is less.
func TestTombstoneOutlivesTheOldCookie(t *testing.T) {
	t.Parallel()
	for maxAge, life := range map[int]time.Duration{3600: 30 * 24 * time.Hour, 90 * 86400: 90 * 24 * time.Hour} {
		old := sessions.NewCookieStore(signingKey)
		old.Options.MaxAge = maxAge
		f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
		b := f.Browser()
		b.LoginAt(old)
		b.Visit(storetest.SetValue("n", 1))
		b.Logout()
		storetest.WantTime(t, f.Documents()[0], "expiresAt", time.Now().Add(life))
	}
}

// logoutWith logs out by a request with the cookies, and wantOutWith finds no session with one.
func logoutWith(t *testing.T, s *mongostore.Store, cookies ...string) {
	t.Helper()
	r := requestWith("/", cookies...)
	session, _ := s.New(r, storetest.Name)
	session.Options.MaxAge = -1
	if err := s.Save(r, httptest.NewRecorder(), session); err != nil {
		t.Fatal(err)
	}
}

func wantOutWith(t *testing.T, f *storetest.Fixture, cookie string) {
	t.Helper()
	session, err := f.Another().New(requestWith("/", cookie), storetest.Name)
	if err != nil || !session.IsNew {
		t.Errorf("after the logout: %v %v", session.Values, err)
	}
}

// TestRepeatedLogoutLeavesATombstone: a second logout during an outage must not take from the first one the
// tombstone that it is to leave.
func TestRepeatedLogoutLeavesATombstone(t *testing.T) {
	t.Parallel()
	old := sessions.NewCookieStore(signingKey)
	f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
	b := f.Browser()
	b.LoginAt(old)
	for _, command := range []string{"update", "insert", "delete"} {
		f.Wire.On(command, storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")})
	}
	for range 3 {
		logoutWith(t, f.Store, b.Cookies[storetest.Name])
	}
	f.Wire.Heal()
	storetest.Eventually(t, "there is a tombstone", func() bool { return len(f.Documents()) == 1 })
	f.WantTombstones(1)
	wantOutWith(t, f, b.Cookies[storetest.Name])
}

// TestLogoutDuringAnOutageEndsAllCookiesOfTheOldStore, not only that of the session that was loaded.
func TestLogoutDuringAnOutageEndsAllCookiesOfTheOldStore(t *testing.T) {
	t.Parallel()
	for what, old := range map[string]sessions.Store{
		"CookieStore": sessions.NewCookieStore(signingKey), "FilesystemStore": sessions.NewFilesystemStore(t.TempDir(), signingKey),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
			f.Store = f.OpenWith(time.Second)
			before, own := f.Browser(), f.Browser()
			before.LoginAt(old)
			own.Visit(storetest.SetValue("user", "bob"))
			r := requestWith("/", own.Cookies[storetest.Name], before.Cookies[storetest.Name])
			session, err := f.Store.New(r, storetest.Name)
			if err != nil || session.IsNew {
				t.Fatal(err)
			}
			f.Wire.RefuseAll()
			session.Options.MaxAge = -1
			if err := f.Store.Save(r, httptest.NewRecorder(), session); err != nil {
				t.Fatal(err)
			}
			f.Wire.Heal()
			eventuallyReachable(f)
			storetest.Eventually(t, "both sessions have ended", func() bool { return len(f.Live()) == 0 && len(f.Documents()) == 1 })
			own.At(f.Another()).WantOut("by the cookie of this store")
			wantOutWith(t, f, before.Cookies[storetest.Name])
		})
	}
}

// TestLogoutOfADamagedMigratedSession leaves a tombstone, so the old cookie does not begin it again.
func TestLogoutOfADamagedMigratedSession(t *testing.T) {
	t.Parallel()
	for _, policy := range []mongostore.CorruptPolicy{mongostore.CorruptRefuse, mongostore.CorruptRestart} {
		for _, two := range []bool{false, true} {
			t.Run(fmt.Sprint(policy, two), func(t *testing.T) {
				t.Parallel()
				old := sessions.NewCookieStore(signingKey)
				f := storetest.Setup(t, func(c *mongostore.Config) { c.MigrateFrom, c.OnCorrupt = old, policy })
				b := f.Browser()
				b.LoginAt(old)
				cookies := []string{b.Cookies[storetest.Name]}
				b.Visit(storetest.SetValue("n", 1))
				f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "rev", Value: "x"}}}})
				if two {
					own := f.Browser()
					own.Visit(storetest.SetValue("user", "bob"))
					cookies = append([]string{own.Cookies[storetest.Name]}, cookies...)
				}
				logoutWith(t, f.Store, cookies...)
				wantOutWith(t, f, cookies[len(cookies)-1])
			})
		}
	}
}
