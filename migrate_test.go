package mongostore_test

import (
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// TestMigrate: an application that changes its store logs nobody out.
func TestMigrate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	otherKey := []byte("another key of at least 32 bytes")
	for what, old := range map[string]sessions.Store{
		"CookieStore":                    sessions.NewCookieStore(signingKey),
		"CookieStore with another key":   sessions.NewCookieStore(otherKey),
		"CookieStore with encryption":    sessions.NewCookieStore(signingKey, blockKey),
		"FilesystemStore":                sessions.NewFilesystemStore(dir, signingKey),
		"FilesystemStore of another key": sessions.NewFilesystemStore(dir, otherKey),
		"mongostore":                     setup(t).store,
	} {
		t.Run(what, func(t *testing.T) {
			f := setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
			b := f.browser()
			r, w := b.request(), httptest.NewRecorder()
			before, err := old.Get(r, name)
			if err != nil {
				t.Fatal(err)
			}
			before.Values["user"], before.Values[7] = "ada", []string{"x"}
			if err := before.Save(r, w); err != nil {
				t.Fatal(err)
			}
			b.receive(w)
			copied := b.clone()

			// The values are there, and nothing is stored before Save.
			session := b.load()
			if session.IsNew || session.Values["user"] != "ada" || !reflect.DeepEqual(session.Values[7], []string{"x"}) {
				t.Fatalf("session: %+v", session)
			}
			if what == "mongostore" { // whose cookies look like ours
				f.wantCommands("find")
			} else {
				f.wantCommands()
			}
			f.wantDocuments(0)
			session.Values["n"] = 1
			if _, err := b.save(session); err != nil {
				t.Fatal(err)
			}
			if doc := f.document(); doc.Lookup("_id").StringValue() != hashOf(session.ID) {
				t.Errorf("document: %v", doc)
			}
			if s := b.load(); s.Values["user"] != "ada" || s.Values["n"] != 1 || s.IsNew {
				t.Errorf("afterwards: %+v", s)
			}
			// Where the old store can remove, the old session is removed.
			again, err := f.store.Get(copied.request(), name)
			if taken := !again.IsNew; taken != strings.HasPrefix(what, "CookieStore") {
				t.Errorf("the old cookie is taken once more: %t, %v", taken, err)
			}
			if strings.HasPrefix(what, "Filesystem") {
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("files left: %v, %v", left, err)
				}
			}
			b.logout()
			f.wantDocuments(0)
			if !b.load().IsNew {
				t.Error("the session is alive after its logout")
			}
		})
	}
}

// TestMigrateLogout: a session that is logged out before it was stored here is removed there.
func TestMigrateLogout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := sessions.NewFilesystemStore(dir, signingKey)
	f := setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
	b := f.browser()
	b.loginAt(old)
	b.logout()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
	f.wantDocuments(0)
}

// TestMigrateNothing: what neither store knows is a new session, with the error that there
// would be without migration.
func TestMigrateNothing(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *mongostore.Config) { c.MigrateFrom = sessions.NewFilesystemStore(t.TempDir(), signingKey) })
	b := f.browser()
	b.cookies[name] = "forged"
	if s, err := f.store.Get(b.request(), name); err == nil || !s.IsNew {
		t.Errorf("forged: %v", err)
	}
	b = f.browser().login()
	b.clone().logout()
	if s, err := f.store.Get(b.request(), name); err != nil || !s.IsNew {
		t.Errorf("logged out: %v", err)
	}
	b = f.browser().login()
	if s := b.load(); s.Values["user"] != "ada" {
		t.Errorf("own session: %v", s.Values)
	}
}

// loginAt makes a session at a store that is to be migrated from.
func (b *browser) loginAt(old sessions.Store) *sessions.Session {
	b.f.t.Helper()
	w := httptest.NewRecorder()
	session, err := old.New(b.request(), name)
	if err != nil {
		b.f.t.Fatal(err)
	}
	session.Values["user"] = "ada"
	if err := old.Save(b.request(), w, session); err != nil {
		b.f.t.Fatal(err)
	}
	b.receive(w)
	return session
}

// brokenStore is a store whose database is away.
type brokenStore struct{ sessions.Store }

var errBroken = errors.New("database of the old store is away")

func (s brokenStore) New(*http.Request, string) (*sessions.Session, error) {
	return sessions.NewSession(s, name), errBroken
}

// TestMigrateOutage: also the old store's outage logs nobody out.
func TestMigrateOutage(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *mongostore.Config) { c.MigrateFrom = brokenStore{} })
	b := f.browser()
	b.cookies[name] = "of-the-old-store"
	session, err := f.store.Get(b.request(), name)
	if !errors.Is(err, mongostore.ErrUnavailable) || !errors.Is(err, errBroken) {
		t.Fatalf("error: %v", err)
	}
	if w, err := b.save(session); !errors.Is(err, errBroken) || w.Header()["Set-Cookie"] != nil {
		t.Errorf("save: %v", err)
	}
	f.wantDocuments(0)
	// Without a cookie the old store is not asked.
	if _, err := f.store.Get(f.browser().request(), name); err != nil {
		t.Errorf("without a cookie: %v", err)
	}
}

// TestSkipEmpty: bots make no documents, if the application wants so.
func TestSkipEmpty(t *testing.T) {
	t.Parallel()
	for _, skip := range []bool{false, true} {
		f := setup(t, func(c *mongostore.Config) { c.SkipEmpty = skip })
		b := f.browser()
		w, err := b.save(b.load())
		if err != nil {
			t.Error(err)
		}
		if stored := len(f.documents()) == 1; stored == skip || (w.Header()["Set-Cookie"] == nil) != skip {
			t.Errorf("SkipEmpty %t: stored %t, cookie %q", skip, stored, w.Header()["Set-Cookie"])
		}
		b = f.browser().login()
		b.do(func(s *sessions.Session) { clear(s.Values) }) // stored once, it is kept
		if b.load().IsNew {
			t.Errorf("SkipEmpty %t: a stored session is lost when it is emptied", skip)
		}
	}
}

// TestMigrateAndSkipEmpty: what was taken over is stored, be it emptied, so that the old session
// does not come back.
func TestMigrateAndSkipEmpty(t *testing.T) {
	t.Parallel()
	old := sessions.NewCookieStore(signingKey)
	f := setup(t, func(c *mongostore.Config) { c.MigrateFrom, c.SkipEmpty = old, true })
	b := f.browser()
	b.cookies[name] = cookieStoreCookie(t)
	b.do(func(s *sessions.Session) { delete(s.Values, "user") })
	if s := b.load(); s.Values["user"] != nil || s.IsNew {
		t.Errorf("session: %+v", s)
	}
}

// fullDisk is a store that has its sessions, and cannot remove them.
type fullDisk struct{ *sessions.FilesystemStore }

var errFull = errors.New("disk is full")

func (fullDisk) Save(*http.Request, http.ResponseWriter, *sessions.Session) error { return errFull }

// TestMigrateRemoveFails: Remove does not report what has not happened in the old store, and a
// logout by cookie warns of it.
func TestMigrateRemoveFails(t *testing.T) {
	t.Parallel()
	old := sessions.NewFilesystemStore(t.TempDir(), signingKey)
	f := setup(t, func(c *mongostore.Config) { c.MigrateFrom = fullDisk{FilesystemStore: old} })
	b := f.browser()
	b.loginAt(old)
	session := b.load()
	for range 2 {
		if err := f.store.Remove(t.Context(), session); !errors.Is(err, errFull) {
			t.Errorf("Remove: %v", err)
		}
	}
	b.logout()
	if log := f.text.String(); !strings.Contains(log, "not removed from the store it came from") {
		t.Errorf("log: %s", log)
	}
}

// TestMigrateTellsNoID: the old store's files are named after its sessions, whose cookies still work.
func TestMigrateTellsNoID(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := sessions.NewFilesystemStore(dir, signingKey)
	f := setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
	b := f.browser()
	before := b.loginAt(old)
	session := b.load()

	// From now on the file can be neither read nor removed.
	file := filepath.Join(dir, "session_"+before.ID)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(file, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, errLoad := f.store.New(b.request(), name)
	errRemove := f.store.Remove(t.Context(), session)
	for _, err := range []error{errLoad, errRemove} {
		var cause *fs.PathError
		if !errors.Is(err, mongostore.ErrUnavailable) || !errors.As(err, &cause) {
			t.Fatalf("error: %v", err)
		}
		if strings.Contains(err.Error(), before.ID) || !strings.Contains(err.Error(), cause.Err.Error()) {
			t.Errorf("error: %v", err)
		}
	}
	if log := f.text.String(); strings.Contains(log, before.ID) || !strings.Contains(log, "not removed from the store it came from") {
		t.Errorf("log: %s", log)
	}
}

// TestMigrateForgets: a session that was taken over and never saved is not kept.
func TestMigrateForgets(t *testing.T) {
	t.Parallel()
	old := sessions.NewCookieStore(signingKey)
	f := setup(t, func(c *mongostore.Config) { c.MigrateFrom = old })
	b := f.browser()
	b.loginAt(old)
	var kept atomic.Int64
	for range 100 {
		session := b.load()
		if session.IsNew {
			t.Fatal("not taken over")
		}
		kept.Add(1)
		runtime.AddCleanup(session, func(kept *atomic.Int64) { kept.Add(-1) }, &kept)
	}
	eventually(t, "the sessions are forgotten", func() bool {
		runtime.GC()
		return kept.Load() <= 1
	})
}
