package mongostore_test

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

func TestMain(m *testing.M) {
	gob.Register(cart{})
	slog.SetLogLoggerLevel(slog.LevelError) // the examples' stores warn where the server has no TTL indexes
	storetest.MainWithExamples(m)
}

var signingKey = storetest.SigningKey

// TestServer says which server the other tests run against.
func TestServer(t *testing.T) {
	t.Log(storetest.Server(t).Description)
}

type item struct {
	Name  string
	Count int
}

type cart struct {
	Items []item
	Notes map[string]string
}

// cookieStoreCookie is what gorilla's CookieStore puts into a cookie.
func cookieStoreCookie(t *testing.T) string {
	t.Helper()
	old := sessions.NewCookieStore(storetest.SigningKey)
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	session, err := old.Get(r, storetest.Name)
	if err != nil {
		t.Fatal(err)
	}
	session.Values["user"] = "ada"
	if err := session.Save(r, w); err != nil {
		t.Fatal(err)
	}
	return w.Result().Cookies()[0].Value
}

// TestConcurrentChangesOfKeysAreMerged: concurrent requests that each set another key lose none.
func TestConcurrentChangesOfKeysAreMerged(t *testing.T) {
	t.Parallel()
	const requests = 50
	f := storetest.Setup(t)
	b := f.Browser().Login()

	// All have loaded before the first saves.
	loaded := make([]*sessions.Session, requests)
	for i := range loaded {
		loaded[i] = b.Load()
	}
	var wg sync.WaitGroup
	for i, session := range loaded {
		wg.Go(func() {
			session.Values[fmt.Sprintf("key%d", i)] = i
			if _, err := b.Clone().Save(session); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	session := b.Load()
	if session.Values["user"] != "ada" {
		t.Error("the value of the login is lost")
	}
	for i := range requests {
		if got := session.Values[fmt.Sprintf("key%d", i)]; got != i {
			t.Errorf("key%d is %v", i, got)
		}
	}
	f.WantDocuments(1)
}

// TestLogoutIsFinalAmongLateSaves: sessions that are logged out while late requests save them
// stay logged out.
func TestLogoutIsFinalAmongLateSaves(t *testing.T) {
	t.Parallel()
	const visitors, late = 200, 3
	f := storetest.Setup(t)
	var wg sync.WaitGroup
	gate := make(chan struct{}, 8) // that many visitors at once
	for range visitors {
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			b := f.Browser().Login()
			var requests sync.WaitGroup
			for i := range late {
				session := b.Load()
				requests.Go(func() {
					session.Values["late"] = i
					if _, err := b.Clone().Save(session); err != nil && !errors.Is(err, mongostore.ErrGone) {
						t.Error(err)
					}
				})
			}
			after := b.Load()
			b.Clone().Logout()
			requests.Wait()
			after.Values["later"] = true
			if w, err := b.Clone().Save(after); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("a save after the logout: %v, cookie %q", err, w.Header()["Set-Cookie"])
			}
			if session := b.Load(); !session.IsNew {
				t.Error("a session has survived its logout")
			}
		})
	}
	wg.Wait()
	f.WantDocuments(0)
}

// TestNewDoesNoIO: New does no I/O, and nothing has to exist.
func TestNewDoesNoIO(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	client := f.Connect()
	f.Wire.RefuseAll()
	store, err := mongostore.New(client.Database(f.Coll.Database().Name()).Collection(f.Coll.Name()), storetest.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	f.WantCommands()
	f.Wire.Heal()
	b := f.Browser()
	b.Store = store
	if s := b.Login().Load(); s.Values["user"] != "ada" {
		t.Errorf("values: %v", s.Values)
	}
	// The client is the application's.
	if err := store.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if err := client.Ping(t.Context(), nil); err != nil {
		t.Errorf("after Close the application's client: %v", err)
	}
}

// TestOpenFailsInTime fails in time.
func TestOpenFailsInTime(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := listener.Addr().String() // accepts, by the kernel, and says nothing
	t.Cleanup(func() { _ = listener.Close() })
	for _, address := range []string{silent, "127.0.0.1:1"} {
		start := time.Now()
		cfg := mongostore.Config{URI: "mongodb://me:secret@" + address, Database: "d", Timeout: 300 * time.Millisecond}
		s, err := mongostore.Open(t.Context(), cfg, storetest.SigningKey)
		if !errors.Is(err, mongostore.ErrUnavailable) || s != nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, %v", address, s, err)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%s: took %v", address, d)
		}
	}
	// The caller's own deadline counts instead of the store's.
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := mongostore.Open(ctx, mongostore.Config{URI: "mongodb://" + silent, Database: "d", Timeout: time.Hour}, storetest.SigningKey); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error: %v", err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

// TestReadsGoToThePrimary, whatever the application's collection prefers.
func TestReadsGoToThePrimary(t *testing.T) {
	t.Parallel()
	if s := storetest.Server(t); strings.HasSuffix(s.Description, ", standalone") {
		t.Skipf("needs a replica set, where reads can go elsewhere; this is %s", s.Description)
	}
	f := storetest.Setup(t)
	b := f.Browser().Login()
	coll := f.Cfg.Client.Database(f.Cfg.Database).
		Collection(f.Cfg.Collection, options.Collection().SetReadPreference(readpref.Secondary()))
	store, err := mongostore.New(coll, storetest.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	b.Store = store
	f.Log.Reset()
	if s := b.Load(); s.Values["user"] != "ada" {
		t.Errorf("values: %v", s.Values)
	}
	_, commands := f.Log.Take()
	for _, c := range commands {
		// A direct connection asks for primaryPreferred in the place of primary.
		if v, err := c.LookupErr("$readPreference", "mode"); err == nil && !strings.HasPrefix(v.StringValue(), "primary") {
			t.Errorf("read preference %v", v)
		}
	}
}

// TestNewSessionOfTwoStoresIsStoredByTheLater: gorilla's registry knows sessions by name alone,
// so the later store gets the session of the earlier one; it stores it as its own.
func TestNewSessionOfTwoStoresIsStoredByTheLater(t *testing.T) {
	t.Parallel()
	one, two := storetest.Setup(t), storetest.Setup(t)
	r, w := one.Browser().Request(), httptest.NewRecorder()
	first, err := one.Store.Get(r, storetest.Name)
	if err != nil {
		t.Fatal(err)
	}
	first.Values["a"] = 1
	second, err := two.Store.Get(r, storetest.Name)
	if err != nil || second != first {
		t.Fatalf("the registry has given another session: %v", err)
	}
	if err := sessions.Save(r, w); err != nil {
		t.Fatal(err)
	}
	one.WantDocuments(0)
	two.WantDocuments(1)
}

// TestNamesAndStoresDoNotMix: names and stores do not mix.
func TestNamesAndStoresDoNotMix(t *testing.T) {
	t.Parallel()
	one, two := storetest.Setup(t), storetest.Setup(t)
	b := one.Browser()
	r, w := b.Request(), httptest.NewRecorder()
	for store, names := range map[*mongostore.Store][]string{one.Store: {"a", "b"}, two.Store: {"c"}} {
		for _, n := range names {
			s, err := store.Get(r, n)
			if err != nil {
				t.Fatal(err)
			}
			s.Values["name"] = n
		}
	}
	if err := sessions.Save(r, w); err != nil {
		t.Fatal(err)
	}
	b.Receive(w)
	one.WantDocuments(2)
	two.WantDocuments(1)
	r = b.Request()
	for store, names := range map[*mongostore.Store][]string{one.Store: {"a", "b"}, two.Store: {"c"}} {
		for _, n := range names {
			if s, err := store.Get(r, n); err != nil || s.Values["name"] != n {
				t.Errorf("%s: %v, %v", n, s.Values, err)
			}
		}
	}
}

// TestUnusedStoreNeedsNoClose: nothing runs on in a store that is not used, so none has to be closed.
func TestUnusedStoreNeedsNoClose(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	store, err := mongostore.New(f.Cfg.Client.Database(f.Cfg.Database).Collection(f.Cfg.Collection), storetest.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	b := f.Browser()
	b.Store = store
	b.Login()
	ended := make(chan error)
	go func() { ended <- store.Close(t.Context()) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Close does not end")
	}
	// A closed store on the application's client goes on, without background work.
	if err := store.Save(b.Request(), httptest.NewRecorder(), sessions.NewSession(store, storetest.Name)); err != nil {
		t.Error(err)
	}
}
