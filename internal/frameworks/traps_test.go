package frameworks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	ginsessions "github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	session4 "github.com/labstack/echo-contrib/session"
	"github.com/labstack/echo-contrib/v5/session"
	echo4 "github.com/labstack/echo/v4"
	"github.com/labstack/echo/v5"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/ginstore"
)

// What goes wrong in the frameworks with any store, and what to do instead.

// A cookie is a header: once the body has begun it is too late to save. Each application
// has one address where that is done the wrong way round, and one where it is done right.
func TestSaveAfterBody(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		open func(*mongostore.Store) http.Handler
	}{
		{"net/http", func(store *mongostore.Store) http.Handler {
			save := func(w http.ResponseWriter, r *http.Request) {
				s, _ := store.Get(r, sessionName)
				s.Values["user"] = "Ada"
				_ = s.Save(r, w)
			}
			body := func(w http.ResponseWriter) { _, _ = io.WriteString(w, "body") }
			m := http.NewServeMux()
			m.HandleFunc("/late", func(w http.ResponseWriter, r *http.Request) { body(w); save(w, r) })
			m.HandleFunc("/right", func(w http.ResponseWriter, r *http.Request) { save(w, r); body(w) })
			return m
		}},
		{"chi, in a middleware", func(store *mongostore.Store) http.Handler {
			// The handlers put the user into the session, and the middleware saves it.
			middleware := func(before bool) func(http.Handler) http.Handler {
				return func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						s, _ := store.Get(r, sessionName)
						s.Values["user"] = "Ada"
						if before {
							_ = s.Save(r, w)
						}
						next.ServeHTTP(w, r)
						if !before {
							_ = s.Save(r, w)
						}
					})
				}
			}
			page := func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "body") }
			r := chi.NewRouter()
			r.With(middleware(false)).Post("/late", page)
			r.With(middleware(true)).Post("/right", page)
			return r
		}},
		{"gin", func(store *mongostore.Store) http.Handler {
			r := gin.New()
			r.Use(ginsessions.Sessions(sessionName, ginstore.New(store)))
			save := func(c *gin.Context) {
				s := ginsessions.Default(c)
				s.Set("user", "Ada")
				_ = s.Save()
			}
			r.POST("/late", func(c *gin.Context) { c.String(200, "body"); save(c) })
			r.POST("/right", func(c *gin.Context) { save(c); c.String(200, "body") })
			return r
		}},
		{"echo", func(store *mongostore.Store) http.Handler {
			e := echo.New()
			e.Use(session.Middleware(store))
			save := func(c *echo.Context) error {
				s, err := session.Get(sessionName, c)
				s.Values["user"] = "Ada"
				return errors.Join(err, s.Save(c.Request(), c.Response()))
			}
			e.POST("/late", func(c *echo.Context) error { return errors.Join(c.String(200, "body"), save(c)) })
			e.POST("/right", func(c *echo.Context) error { return errors.Join(save(c), c.String(200, "body")) })
			return e
		}},
		{"echo v4, by its hook", func(store *mongostore.Store) http.Handler {
			e := echo4.New()
			e.Use(session4.Middleware(store))
			save := func(c echo4.Context) {
				s, _ := session4.Get(sessionName, c)
				s.Values["user"] = "Ada"
				_ = s.Save(c.Request(), c.Response())
			}
			e.POST("/late", func(c echo4.Context) error {
				c.Response().After(func() { save(c) })
				return c.String(200, "body")
			})
			e.POST("/right", func(c echo4.Context) error {
				c.Response().Before(func() { save(c) })
				return c.String(200, "body")
			})
			return e
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			b := newBrowser(t, serve(t, tt.open(f.store)))
			if late := b.post("/late").wants(200, "body"); late.cookie(sessionName) != nil {
				t.Error("a cookie that was set after the body arrives")
			}
			f.wantDocuments(1) // nobody has the cookie of
			if right := b.post("/right").wants(200, "body"); right.cookie(sessionName) == nil {
				t.Error("a cookie that was set before the body does not arrive")
			}
			f.wantDocuments(2)
		})
	}
}

// ginAt serves one handler, behind gin-contrib's middleware alone.
func ginAt(t *testing.T, store *mongostore.Store, path string, handler func(*gin.Context, ginsessions.Session)) *browser {
	t.Helper()
	r := ginEngine(store)
	r.POST(path, func(c *gin.Context) { handler(c, ginsessions.Default(c)) })
	return newBrowser(t, serve(t, r))
}

func ginSave(c *gin.Context, s ginsessions.Session) {
	if err := s.Save(); err != nil {
		c.AbortWithStatus(mongostore.StatusCode(err))
	}
}

// Clear empties a session. It does not end it.
func TestGinClearIsNoLogout(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := ginAt(t, f.store, "/clear", func(c *gin.Context, s ginsessions.Session) {
		s.Clear()
		ginSave(c, s)
	})
	b.login("Ada")
	before := b.cookie(sessionName)
	b.post("/clear").wants(200)
	b.signedOut()
	if keys := f.keys(); len(keys) > 0 {
		t.Errorf("the session keeps the values %q", keys)
	}
	// What the visitor does next is done under the ID that others may know.
	b.post("/logout").wants(http.StatusSeeOther)
	f.wantDocuments(0)
	b.setCookie(sessionName, before)
	b.signedOut()
}

// Options replaces all options, also those that are not named: without HttpOnly scripts may read the
// next cookie. For a logout ginstore adds what is missing, so that the browser removes the cookie.
func TestGinOptionsReplacesAll(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := ginAt(t, f.store, "/account/logout", func(c *gin.Context, s ginsessions.Session) {
		s.Options(ginsessions.Options{MaxAge: -1})
		ginSave(c, s)
	})
	b.login("Ada")
	b.post("/account/logout").wants(200)
	if b.cookie(sessionName) != "" {
		t.Error("the browser keeps the cookie")
	}
	f.wantDocuments(0)
	b.signedOut()

	for _, tt := range []struct {
		options  ginsessions.Options
		httpOnly bool
	}{
		{ginsessions.Options{MaxAge: 3600}, false},
		{ginsessions.Options{Path: "/", MaxAge: 3600, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode}, true},
	} {
		f := setup(t)
		b := ginAt(t, f.store, "/remember", func(c *gin.Context, s ginsessions.Session) {
			s.Set("user", "Ada")
			s.Options(tt.options)
			ginSave(c, s)
		})
		c := b.post("/remember").wants(200).cookie(sessionName)
		if c == nil || c.MaxAge != 3600 || c.HttpOnly != tt.httpOnly || c.Secure != tt.httpOnly {
			t.Errorf("%+v sets the cookie %v", tt.options, c)
		}
		// Of these options the session itself keeps MaxAge. The others are the store's again in
		// the next cookie, which is sent when the session is touched.
		f.age(10 * time.Minute)
		c = b.get("/").wants(200, "Ada").cookie(sessionName)
		if c == nil || c.MaxAge != 3600 || !c.HttpOnly || !c.Secure {
			t.Errorf("after %+v the next page sets the cookie %v", tt.options, c)
		}
	}
}

// New sessions have the options that were set by the store's own method.
func TestGinStoreOptions(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ginstore.New(f.store).Options(ginsessions.Options{Path: "/", MaxAge: 600, HttpOnly: true, Secure: true})
	b := newBrowser(t, serve(t, ginEngine(f.store)))
	if c := b.post("/login", "name", "Ada").cookie(sessionName); c == nil || c.MaxAge != 600 {
		t.Errorf("the login sets the cookie %v", c)
	}
}

// Save of a session that was read only does nothing: neither cookie nor expiry move on. The
// store's middleware moves them: see TestReadingKeepsAlive.
func TestGinSavesOnlyWhatWasSet(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := ginAt(t, f.store, "/read", func(c *gin.Context, s ginsessions.Session) {
		_ = s.Get("user")
		ginSave(c, s)
	})
	b.login("Ada")
	if read := b.post("/read").wants(200); read.cookie(sessionName) != nil {
		t.Error("Save of a session that was read only sets a cookie")
	}
}

// Default panics where the middleware is missing.
func TestGinDefaultWithoutMiddleware(t *testing.T) {
	t.Parallel()
	r := gin.New()
	r.Use(gin.CustomRecoveryWithWriter(io.Discard, func(c *gin.Context, problem any) {
		c.String(http.StatusInternalServerError, "%v", problem)
	}))
	r.GET("/", ginHome)
	newBrowser(t, serve(t, r)).get("/").wants(http.StatusInternalServerError, ginsessions.DefaultKey, "does not exist")
}

// What gin-contrib does of itself when the database is down: the visitor is taken for a new
// one. The store sees to it that nothing is saved then.
func TestGinOutageWithoutMiddleware(t *testing.T) {
	t.Parallel()
	f := setup(t)
	open := func(store *mongostore.Store) *browser {
		return ginAt(t, store, "/set", func(c *gin.Context, s ginsessions.Session) {
			if s.Get("user") == nil {
				s.Set("user", "a new visitor")
			}
			ginSave(c, s)
		})
	}
	b := open(f.store)
	b.login("Ada")
	down := open(f.outage())
	down.client = b.client
	if answer := down.post("/set").wants(http.StatusServiceUnavailable); len(answer.cookies) > 0 {
		t.Errorf("the answer sets %v", answer.cookies)
	}
	b.signedIn("Ada")
}

// gin-contrib's Sessions keeps the request that it sees. If that is replaced before the store's
// middleware loads the session, Default has another one, which is not saved.
func TestGinReplacedRequest(t *testing.T) {
	t.Parallel()
	type key struct{}
	replace := func(c *gin.Context) {
		c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), key{}, true))
	}
	f := setup(t)
	store := ginstore.New(f.store)
	sessions, middleware := ginsessions.Sessions(sessionName, store), store.Middleware(sessionName)
	r := gin.New()
	set := func(c *gin.Context) { ginsessions.Default(c).Set("key", true) }
	r.POST("/wrong", sessions, replace, middleware, set)
	r.POST("/right", replace, sessions, middleware, set)
	b := newBrowser(t, serve(t, r))
	b.post("/wrong").wants(200)
	f.wantDocuments(0)
	b.post("/right").wants(200)
	f.wantDocuments(1)
}

// SessionsMany keeps several sessions apart.
func TestGinSessionsMany(t *testing.T) {
	t.Parallel()
	f := setup(t)
	r := gin.New()
	r.Use(ginsessions.SessionsMany([]string{"a", "b"}, ginstore.New(f.store)))
	r.POST("/set", func(c *gin.Context) {
		for _, name := range []string{"a", "b"} {
			s := ginsessions.DefaultMany(c, name)
			s.Set("name", name)
			ginSave(c, s)
		}
	})
	r.GET("/", func(c *gin.Context) {
		c.String(200, "%v %v", ginsessions.DefaultMany(c, "a").Get("name"), ginsessions.DefaultMany(c, "b").Get("name"))
	})
	r.POST("/end", func(c *gin.Context) {
		s := ginsessions.DefaultMany(c, "a")
		s.Options(ginsessions.Options{Path: "/", MaxAge: -1, HttpOnly: true, Secure: true})
		ginSave(c, s)
	})
	b := newBrowser(t, serve(t, r))
	b.post("/set").wants(200)
	b.get("/").wants(200, "a b")
	f.wantDocuments(2)
	b.post("/end").wants(200)
	b.get("/").wants(200, "<nil> b")
	f.wantDocuments(1)
}

// echo-contrib's Get gives no session at all where the middleware is missing, so there its
// error has to be looked at.
func TestEchoWithoutMiddleware(t *testing.T) {
	t.Parallel()
	page := func(s any, missing bool, err error) (int, string) {
		return 200, fmt.Sprintf("%v %t %v", s, missing, err)
	}
	e, e4 := echo.New(), echo4.New()
	e.GET("/", func(c *echo.Context) error {
		s, err := session.Get(sessionName, c)
		return c.String(page(s, s == nil, err))
	})
	e4.GET("/", func(c echo4.Context) error {
		s, err := session4.Get(sessionName, c)
		return c.String(page(s, s == nil, err))
	})
	for _, app := range []http.Handler{e, e4} {
		newBrowser(t, serve(t, app)).get("/").wants(200, "true", "session store not found")
	}
}

// A handler's error becomes a response after the middleware. What the handler changed before is
// saved, and a save that fails comes before the handler's error.
func TestEchoErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		open func(*mongostore.Store, func(*mongostore.Store, *http.Request)) http.Handler
	}{
		{"echo", func(store *mongostore.Store, change func(*mongostore.Store, *http.Request)) http.Handler {
			e := echoServer(store)
			e.POST("/fail", func(c *echo.Context) error {
				change(store, c.Request())
				return echo.NewHTTPError(http.StatusUnprocessableEntity, "wrong")
			}, echo.WrapMiddleware(store.Middleware(sessionName)))
			return e
		}},
		{"echo v4", func(store *mongostore.Store, change func(*mongostore.Store, *http.Request)) http.Handler {
			e := echo4Server(store)
			e.POST("/fail", func(c echo4.Context) error {
				change(store, c.Request())
				return echo4.NewHTTPError(http.StatusUnprocessableEntity, "wrong")
			}, echo4.WrapMiddleware(store.Middleware(sessionName)))
			return e
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			var value any = 1
			b := newBrowser(t, serve(t, tt.open(f.store, func(store *mongostore.Store, r *http.Request) {
				s, _ := store.Get(r, sessionName)
				s.Values["attempts"] = value
			})))
			if answer := b.post("/fail").wants(http.StatusUnprocessableEntity, "wrong"); answer.cookie(sessionName) == nil {
				t.Error("the response has no cookie")
			}
			if keys := f.keys(); !slices.Equal(keys, []string{"attempts"}) {
				t.Errorf("the session has the values %q", keys)
			}
			value = make(chan int) // which cannot be stored
			if answer := b.post("/fail").wants(http.StatusInternalServerError); answer.body != "Internal Server Error\n" {
				t.Errorf("the response is %q", answer.body)
			}
		})
	}
}

// A middleware that gives the handlers a derived request does not part them from their
// session: it is loaded once, and can be saved by either request.
func TestDerivedRequest(t *testing.T) {
	t.Parallel()
	f := setup(t)
	type key struct{}
	r := chi.NewRouter()
	r.Use(f.store.Middleware(sessionName), func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), key{}, true)))
		})
	})
	r.Get("/", home(f.store))
	r.Post("/login", login(f.store))
	r.Post("/set", set(f.store, noPause))
	b := newBrowser(t, serve(t, r))
	b.login("Ada")
	f.commands.take()
	b.post("/set", "key", "k").wants(200)
	if sent := f.commands.take(); !slices.Equal(sent, []string{"find", "update"}) {
		t.Errorf("the request sent %q", sent)
	}
	b.signedIn("Ada")
}
