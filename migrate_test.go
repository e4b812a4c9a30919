package mongostore_test

import (
	"errors"
	"io/fs"
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
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestMigrate: an application that changes its store logs nobody out.
func TestMigrate(t *testing.T) {
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
				f.WantCommands("find")
			} else {
				f.WantCommands()
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
			// Where the old store can remove, the old session is removed.
			again, err := f.Store.Get(copied.Request(), storetest.Name)
			if taken := !again.IsNew; taken != strings.HasPrefix(what, "CookieStore") {
				t.Errorf("the old cookie is taken once more: %t, %v", taken, err)
			}
			if strings.HasPrefix(what, "Filesystem") {
				if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
					t.Errorf("files left: %v, %v", left, err)
				}
			}
			b.Logout()
			f.WantDocuments(0)
			if !b.Load().IsNew {
				t.Error("the session is alive after its logout")
			}
		})
	}
}

// TestMigrateLogout: a session that is logged out before it was stored here is removed there.
func TestMigrateLogout(t *testing.T) {
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

// TestMigrateNothing: what neither store knows is a new session, with the error that there
// would be without migration.
func TestMigrateNothing(t *testing.T) {
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

// TestMigrateOutage: also the old store's outage logs nobody out.
func TestMigrateOutage(t *testing.T) {
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

// TestMigrateAndSkipEmpty: what was taken over is stored, be it emptied, so that the old session
// does not come back.
func TestMigrateAndSkipEmpty(t *testing.T) {
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

// TestMigrateRemoveFails: Remove does not report what has not happened in the old store, and a
// logout by cookie warns of it.
func TestMigrateRemoveFails(t *testing.T) {
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

// TestMigrateTellsNoID: the old store's files are named after its sessions, whose cookies still work.
func TestMigrateTellsNoID(t *testing.T) {
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

// TestMigrateForgets: a session that was taken over and never saved is not kept.
func TestMigrateForgets(t *testing.T) {
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
