package ginstore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/gin-contrib/sessions"
	"github.com/gin-contrib/sessions/tester"
	"github.com/gin-gonic/gin"
	gorilla "github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/ginstore"
)

var key = []byte("a signing key of thirty-two bytes")

// collection returns a collection for one test.
func collection(t *testing.T) *mongo.Collection {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(os.Getenv("MONGODB_URI")))
	if err != nil {
		t.Fatal(err)
	}
	db := client.Database("ginstore_" + strings.ToLower(rand.Text()))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := errors.Join(db.Drop(ctx), client.Disconnect(ctx)); err != nil {
			t.Error(err)
		}
	})
	return db.Collection("sessions")
}

func newStore(t *testing.T, coll *mongo.Collection) ginstore.Store {
	t.Helper()
	store, err := mongostore.New(coll, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return ginstore.New(store)
}

// TestConformance runs the tests that gin-contrib's own stores pass.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		run    func(*testing.T, func(*testing.T) sessions.Store)
		stored int64 // sessions at the end
	}{
		"GetSet":    {func(t *testing.T, f func(*testing.T) sessions.Store) { tester.GetSet(t, f) }, 1},
		"DeleteKey": {func(t *testing.T, f func(*testing.T) sessions.Store) { tester.DeleteKey(t, f) }, 1},
		// Its last request has the cookies of the response before, which sets none.
		"Flashes":    {func(t *testing.T, f func(*testing.T) sessions.Store) { tester.Flashes(t, f) }, 2},
		"Clear":      {func(t *testing.T, f func(*testing.T) sessions.Store) { tester.Clear(t, f) }, 1},
		"Options":    {func(t *testing.T, f func(*testing.T) sessions.Store) { tester.Options(t, f) }, 4},
		"Many":       {func(t *testing.T, f func(*testing.T) sessions.Store) { tester.Many(t, f) }, 2},
		"ManyStores": {func(t *testing.T, f func(*testing.T) sessions.Store) { tester.ManyStores(t, f) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			coll := collection(t)
			test.run(t, func(t *testing.T) sessions.Store { return newStore(t, coll) })
			// The tester ignores the errors of Save.
			if n, err := coll.CountDocuments(t.Context(), bson.D{}); err != nil || n != test.stored {
				t.Errorf("%d sessions are stored (error %v), want %d", n, err, test.stored)
			}
		})
	}
}

// cookie serves one request with a handler, and returns the cookie that it sets.
func cookie(t *testing.T, store sessions.Store, handle func(*gin.Context, sessions.Session)) *http.Cookie {
	t.Helper()
	router := gin.New()
	router.Use(sessions.Sessions("session", store))
	router.GET("/deep/page", func(c *gin.Context) {
		session := sessions.Default(c)
		handle(c, session)
		if err := session.Save(); err != nil {
			t.Error(err)
		}
	})
	w := httptest.NewRecorder()
	router.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/deep/page", nil))
	cookies := w.Result().Cookies()
	if len(cookies) != 1 {
		t.Fatalf("cookies %v, want one", cookies)
	}
	return cookies[0]
}

func TestOptions(t *testing.T) {
	t.Parallel()
	partitioned := gorilla.Options{
		Path: "/", Domain: "example.com", MaxAge: 60,
		Secure: true, HttpOnly: true, Partitioned: true, SameSite: http.SameSiteNoneMode,
	}
	set := func(_ *gin.Context, session sessions.Session) { session.Set("n", 1) }
	setWith := func(o sessions.Options) func(*gin.Context, sessions.Session) {
		return func(_ *gin.Context, session sessions.Session) {
			session.Set("n", 1)
			session.Options(o)
		}
	}
	tests := []struct {
		name    string
		before  *gorilla.Options  // the mongostore.Store's; or its defaults
		options *sessions.Options // passed to Store.Options
		handle  func(*gin.Context, sessions.Session)
		want    http.Cookie
	}{
		{
			"defaults", nil, nil, set,
			http.Cookie{Path: "/", MaxAge: 2592000, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode},
		},
		{
			"replaced", nil,
			&sessions.Options{Path: "/app", Domain: "example.com", MaxAge: 60, SameSite: http.SameSiteStrictMode},
			set,
			http.Cookie{Path: "/app", Domain: "example.com", MaxAge: 60, HttpOnly: true, SameSite: http.SameSiteStrictMode},
		},
		{
			"kept", &partitioned, &sessions.Options{Path: "/", MaxAge: 3600, Secure: true}, set,
			http.Cookie{Path: "/", MaxAge: 3600, Secure: true, HttpOnly: true, Partitioned: true, SameSite: http.SameSiteNoneMode},
		},
		{
			"HttpOnly that the store has off",
			&gorilla.Options{Path: "/", MaxAge: 60},
			&sessions.Options{Path: "/", MaxAge: 60}, set,
			http.Cookie{Path: "/", MaxAge: 60},
		},
		{
			"of a session", &partitioned, nil,
			setWith(sessions.Options{Path: "/deep", MaxAge: 5, Secure: true, SameSite: http.SameSiteNoneMode}),
			http.Cookie{Path: "/deep", MaxAge: 5, Secure: true, Partitioned: true, SameSite: http.SameSiteNoneMode},
		},
		{
			"of a session without Secure", &partitioned, nil,
			setWith(sessions.Options{Path: "/deep", MaxAge: 5}),
			http.Cookie{Path: "/deep", MaxAge: 5},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t, collection(t))
			if tt.before != nil {
				before := *tt.before
				store.Store.Options = &before
			}
			if tt.options != nil {
				store.Options(*tt.options)
			}
			checkCookie(t, cookie(t, store, tt.handle), tt.want)
			if tt.before != nil && tt.options == nil && *store.Store.Options != *tt.before {
				t.Errorf("the store's options are now %+v", *store.Store.Options)
			}
		})
	}
}

func TestOptionsOfAStoreWithout(t *testing.T) {
	t.Parallel()
	store := newStore(t, collection(t))
	store.Store.Options = nil
	store.Options(sessions.Options{Path: "/", MaxAge: 60})
	got := cookie(t, store, func(_ *gin.Context, session sessions.Session) { session.Set("n", 1) })
	checkCookie(t, got, http.Cookie{Path: "/", MaxAge: 60, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

func checkCookie(t *testing.T, got *http.Cookie, want http.Cookie) {
	t.Helper()
	have := http.Cookie{
		Path: got.Path, Domain: got.Domain, MaxAge: got.MaxAge, Secure: got.Secure,
		HttpOnly: got.HttpOnly, Partitioned: got.Partitioned, SameSite: got.SameSite,
	}
	if have.String() != want.String() || have.MaxAge != want.MaxAge || flags(have) != flags(want) {
		t.Errorf("cookie %+v\nwant   %+v", have, want)
	}
}

// flags returns the attributes; a cookie without a name has no string.
func flags(c http.Cookie) string {
	c.Name = "session"
	return c.String()
}

// TestLogout: the shortest logout of gin's documentation ends the session, and removes
// the cookie of another path, whichever got the session last.
func TestLogout(t *testing.T) {
	t.Parallel()
	coll := collection(t)
	store := newStore(t, coll)
	router := gin.New()
	router.Use(sessions.Sessions("session", store))
	router.GET("/account/login", func(c *gin.Context) {
		session, err := store.Get(c.Request, "session")
		if err != nil {
			t.Error(err)
		}
		sessions.Default(c).Set("user", "Ada")
		if err := store.Renew(c.Request, c.Writer, session); err != nil {
			t.Error(err)
		}
	})
	router.GET("/account/logout", func(c *gin.Context) {
		session := sessions.Default(c)
		session.Options(sessions.Options{MaxAge: -1})
		if err := session.Save(); err != nil {
			t.Error(err)
		}
	})
	router.GET("/", func(c *gin.Context) {
		user, _ := sessions.Default(c).Get("user").(string)
		c.String(http.StatusOK, user)
	})
	server := httptest.NewTLSServer(router)
	t.Cleanup(server.Close)
	client := server.Client()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client.Jar = jar
	get := func(path string) string {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d (error %v)", path, response.StatusCode, err)
		}
		return string(body)
	}
	root := httptest.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/", nil).URL

	get("/account/login")
	if user := get("/"); user != "Ada" || len(jar.Cookies(root)) != 1 {
		t.Fatalf("user %q, cookies %v", user, jar.Cookies(root))
	}
	get("/account/logout")
	if user := get("/"); user != "" || len(jar.Cookies(root)) != 0 {
		t.Errorf("after the logout: user %q, cookies %v", user, jar.Cookies(root))
	}
	if n, err := newStore(t, coll).Count(t.Context()); err != nil || n != 0 {
		t.Errorf("%d sessions are left (error %v)", n, err)
	}
}

// TestLogoutOfPartitionedCookie: the cookie is removed with all its attributes.
func TestLogoutOfPartitionedCookie(t *testing.T) {
	t.Parallel()
	store := newStore(t, collection(t))
	store.Store.Options = &gorilla.Options{
		Path: "/", Domain: "example.com", MaxAge: 60,
		Secure: true, HttpOnly: true, Partitioned: true, SameSite: http.SameSiteNoneMode,
	}
	got := cookie(t, store, func(_ *gin.Context, session sessions.Session) {
		session.Options(sessions.Options{MaxAge: -1})
	})
	checkCookie(t, got, http.Cookie{
		Path: "/", Domain: "example.com", MaxAge: -1,
		Secure: true, HttpOnly: true, Partitioned: true, SameSite: http.SameSiteNoneMode,
	})
}

// TestOutage: gin-contrib's Save returns the errors of mongostore.
func TestOutage(t *testing.T) {
	coll := collection(t)
	login := cookie(t, newStore(t, coll), func(_ *gin.Context, session sessions.Session) { session.Set("user", "Ada") })

	// gin-contrib logs the error of the load.
	logger := slog.Default()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	t.Cleanup(func() { slog.SetDefault(logger) })
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	store := newStore(t, client.Database(coll.Database().Name()).Collection(coll.Name()))
	router := gin.New()
	router.Use(sessions.Sessions("session", store))
	router.GET("/", func(c *gin.Context) {
		session := sessions.Default(c)
		session.Set("n", 1)
		if err := session.Save(); !errors.Is(err, mongostore.ErrUnavailable) {
			t.Errorf("Save: %v, want ErrUnavailable", err)
		}
	})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.AddCookie(login)
	w := httptest.NewRecorder()
	router.ServeHTTP(w, r)
	if cookies := w.Result().Cookies(); len(cookies) != 0 {
		t.Errorf("cookies %v, want none", cookies)
	}
}

func TestGetRefusesBadNames(t *testing.T) {
	t.Parallel()
	store := newStore(t, collection(t))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	for _, name := range []string{"", "a b", "a;b"} {
		if session, err := store.Get(r, name); session == nil || err == nil {
			t.Errorf("%q: session %v, error %v", name, session, err)
		}
	}
	if session, err := store.Get(nil, "session"); session == nil || err == nil {
		t.Errorf("no request: session %v, error %v", session, err)
	}
}
