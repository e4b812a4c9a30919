package ginstore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"
	gorilla "github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/ginstore"
)

// site is an application on a server, and a visitor with cookies.
type site struct {
	t      *testing.T
	server *httptest.Server
	client *http.Client
}

func serve(t *testing.T, router http.Handler) *site {
	t.Helper()
	server := httptest.NewUnstartedServer(router)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of panics
	server.StartTLS()
	t.Cleanup(server.Close)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := *server.Client()
	client.Jar, client.Timeout = jar, time.Minute
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &site{t, server, &client}
}

// received is a response.
type received struct {
	t      *testing.T
	status int
	header http.Header
	body   string
}

func (s *site) get(path string) received { s.t.Helper(); return s.send(http.MethodGet, path) }

func (s *site) send(method, path string) received {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.do(r)
}

func (s *site) do(r *http.Request) received {
	s.t.Helper()
	response, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Error(err)
	}
	return received{s.t, response.StatusCode, response.Header, string(body)}
}

// moveTo returns the same visitor at another site.
func (s *site) moveTo(other *site) *site {
	s.t.Helper()
	address, err := url.Parse(s.server.URL) // cookies do not depend on the port
	if err != nil {
		s.t.Fatal(err)
	}
	for _, cookie := range s.client.Jar.Cookies(address) {
		cookie.Secure, cookie.Path = true, "/"
		other.client.Jar.SetCookies(address, []*http.Cookie{cookie})
	}
	return other
}

// wants checks a response, and how many cookies it sets.
func (r received) wants(status int, body string, cookies int) {
	r.t.Helper()
	if r.status != status || r.body != body || len(r.header["Set-Cookie"]) != cookies {
		r.t.Errorf("status %d, body %q, cookies %v; want %d, %q and %d cookies",
			r.status, r.body, r.header["Set-Cookie"], status, body, cookies)
	}
}

// openStore returns a store that has an OnError, or nil, and does not log.
func openStore(t *testing.T, coll *mongo.Collection, onError func(http.ResponseWriter, *http.Request, error)) ginstore.Store {
	t.Helper()
	store, err := mongostore.Open(t.Context(), mongostore.Config{
		Client: coll.Database().Client(), Database: coll.Database().Name(), Collection: coll.Name(),
		Cleanup: mongostore.CleanupOff, OnError: onError, Logger: slog.New(slog.DiscardHandler),
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close(context.WithoutCancel(t.Context())) })
	return ginstore.New(store)
}

// unavailable returns such a store, whose client then loses its server.
func unavailable(t *testing.T, coll *mongo.Collection, onError func(http.ResponseWriter, *http.Request, error)) ginstore.Store {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(os.Getenv("MONGODB_URI")))
	if err != nil {
		t.Fatal(err)
	}
	store := openStore(t, client.Database(coll.Database().Name()).Collection(coll.Name()), onError)
	if err := client.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	return store
}

func wantStored(t *testing.T, coll *mongo.Collection, want int64) {
	t.Helper()
	live := bson.D{{Key: "rev", Value: bson.D{{Key: "$exists", Value: true}}}} // no tombstones
	if n, err := coll.CountDocuments(t.Context(), live); err != nil || n != want {
		t.Errorf("%d sessions are stored (error %v), want %d", n, err, want)
	}
}

// orders are the orders of the two middlewares.
var orders = []struct {
	name string
	use  func(gin.IRoutes, ginstore.Store)
}{
	{"Sessions first", func(r gin.IRoutes, store ginstore.Store) {
		r.Use(sessions.Sessions("session", store), store.Middleware("session"))
	}},
	{"Sessions last", func(r gin.IRoutes, store ginstore.Store) {
		r.Use(store.Middleware("session"), sessions.Sessions("session", store))
	}},
}

// ways are the ways of a gin handler to respond.
var ways = []struct {
	name    string
	respond func(*gin.Context)
	status  int
	body    string
}{
	{"nothing", func(*gin.Context) {}, 200, ""},
	{"Status", func(c *gin.Context) { c.Status(http.StatusNoContent) }, 204, ""},
	{"AbortWithStatus", func(c *gin.Context) { c.AbortWithStatus(http.StatusTeapot) }, 418, ""},
	{"AbortWithError", func(c *gin.Context) { _ = c.AbortWithError(http.StatusTeapot, errors.New("a test")) }, 418, ""},
	{"AbortWithStatusJSON", func(c *gin.Context) { c.AbortWithStatusJSON(http.StatusTeapot, 1) }, 418, "1"},
	{"String", func(c *gin.Context) { c.String(http.StatusCreated, "text") }, 201, "text"},
	{"JSON", func(c *gin.Context) { c.JSON(http.StatusCreated, gin.H{"a": 1}) }, 201, `{"a":1}`},
	{"Data without a body", func(c *gin.Context) { c.Data(http.StatusNotModified, "text/plain", nil) }, 304, ""},
	{"DataFromReader", func(c *gin.Context) {
		c.DataFromReader(http.StatusCreated, 4, "text/plain", strings.NewReader("text"), nil)
	}, 201, "text"},
	{"Redirect", func(c *gin.Context) { c.Redirect(http.StatusSeeOther, "/elsewhere") }, 303, "<a href=\"/elsewhere\">See Other</a>.\n\n"},
	{"File", func(c *gin.Context) { c.File(filepath.Join("testdata", "page.txt")) }, 200, "a page\n"},
	{"SSEvent", func(c *gin.Context) { c.SSEvent("news", "text") }, 200, "event:news\ndata:text\n\n"},
	{"Stream", func(c *gin.Context) {
		n := 0
		c.Stream(func(w io.Writer) bool {
			n++
			_, _ = io.WriteString(w, "text")
			return n < 3
		})
	}, 200, "texttexttext"},
	{"Write", func(c *gin.Context) { _, _ = c.Writer.Write([]byte("text")) }, 200, "text"},
	{"WriteString", func(c *gin.Context) { _, _ = c.Writer.WriteString("text") }, 200, "text"},
	{"WriteHeaderNow", func(c *gin.Context) {
		c.Status(http.StatusCreated)
		c.Writer.WriteHeaderNow()
		c.Writer.WriteHeaderNow()
	}, 201, ""},
	{"Flush", func(c *gin.Context) {
		c.Writer.Flush()
		_, _ = c.Writer.WriteString("text")
	}, 200, "text"},
	{"Flush of a ResponseController", func(c *gin.Context) {
		_ = http.NewResponseController(c.Writer).Flush()
		_, _ = c.Writer.WriteString("text")
	}, 200, "text"},
	{"Hijack", func(c *gin.Context) {
		conn, _, err := c.Writer.Hijack()
		if err != nil {
			c.String(http.StatusTeapot, "hijack failed")
			return
		}
		defer func() { _ = conn.Close() }()
		var header bytes.Buffer
		_ = c.Writer.Header().Write(&header)
		_, _ = io.WriteString(conn, "HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\n"+header.String()+"\r\ntext")
	}, 202, "text"},
	{"two handlers", func(c *gin.Context) {
		c.String(http.StatusCreated, "one ")
		c.String(http.StatusTeapot, "two")
	}, 201, "one two"},
	{"HandleContext", func(c *gin.Context) {
		c.Request.URL.Path = "/other"
		c.MustGet("engine").(*gin.Engine).HandleContext(c)
	}, 200, "the other page"},
}

// application serves a handler at "/" behind the middlewares, and what the session has at
// "/value".
func application(store ginstore.Store, use func(gin.IRoutes, ginstore.Store), outside []gin.HandlerFunc, handlers ...gin.HandlerFunc) *gin.Engine {
	router := gin.New()
	router.Use(func(c *gin.Context) { c.Set("engine", router) })
	router.Use(outside...)
	use(router, store)
	router.GET("/", handlers...)
	router.HEAD("/", handlers...)
	router.GET("/other", func(c *gin.Context) { c.String(http.StatusOK, "the other page") })
	router.GET("/value", func(c *gin.Context) { c.String(http.StatusOK, "%v", sessions.Default(c).Get("n")) })
	return router
}

func TestMiddlewareSavesBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	for _, order := range orders {
		for _, way := range ways {
			t.Run(order.name+" "+way.name, func(t *testing.T) {
				t.Parallel()
				coll := collection(t)
				store := newStore(t, coll)
				outer := make(chan int, 9)
				s := serve(t, application(store, order.use, []gin.HandlerFunc{func(c *gin.Context) {
					before := c.Writer
					c.Next()
					if c.Writer != before {
						t.Error("the response writer is not restored")
					}
					outer <- c.Writer.Status()
				}}, func(c *gin.Context) {
					session, err := store.Get(c.Request, "session")
					if err != nil {
						t.Error(err)
					}
					sessions.Default(c).Set("n", 1)
					if session.Values["n"] != 1 {
						t.Error("Default returns another session")
					}
					way.respond(c)
				}))
				s.get("/").wants(way.status, way.body, 1)
				if status := <-outer; status != way.status && way.name != "Hijack" {
					t.Errorf("the status outside is %d, want %d", status, way.status)
				}
				wantStored(t, coll, 1)
				s.get("/value").wants(200, "1", 0)
			})
		}
	}
}

func TestMiddlewareReplacesTheResponseWhenTheSaveFails(t *testing.T) {
	t.Parallel()
	for _, order := range orders {
		for _, way := range ways {
			t.Run(order.name+" "+way.name, func(t *testing.T) {
				t.Parallel()
				coll := collection(t)
				outer := make(chan int, 1)
				s := serve(t, application(openStore(t, coll, nil), order.use, []gin.HandlerFunc{func(c *gin.Context) {
					c.Next()
					c.Status(http.StatusTeapot) // too late
					outer <- c.Writer.Status()
				}}, func(c *gin.Context) {
					sessions.Default(c).Set("n", make(chan int)) // cannot be stored
					c.Header("X-Handler", "yes")
					way.respond(c)
				}))
				response := s.get("/")
				response.wants(http.StatusInternalServerError, "Internal Server Error\n", 0)
				kept := response.header.Get("X-Handler") + response.header.Get("Location")
				if kept != "" && way.name != "HandleContext" || // whose middleware starts with the header
					response.header.Get("Cache-Control") != "no-store" {
					t.Errorf("the header is %v", response.header)
				}
				if status := <-outer; status != http.StatusInternalServerError {
					t.Errorf("the status outside is %d", status)
				}
				wantStored(t, coll, 0)
			})
		}
	}
}

func TestMiddlewareReportsAnOutageOfTheSave(t *testing.T) {
	t.Parallel()
	coll := collection(t)
	s := serve(t, application(unavailable(t, coll, nil), orders[0].use, nil, func(c *gin.Context) {
		sessions.Default(c).Set("n", 1)
		c.String(http.StatusOK, "saved")
		if err := c.Errors.Last(); !errors.Is(err, mongostore.ErrUnavailable) {
			t.Errorf("String: %v", err)
		}
		if n, err := c.Writer.Write([]byte("saved")); n != 0 || !errors.Is(err, mongostore.ErrUnavailable) {
			t.Errorf("Write: %d bytes, %v", n, err)
		}
		if err := http.NewResponseController(c.Writer).Flush(); !errors.Is(err, mongostore.ErrUnavailable) {
			t.Errorf("Flush: %v", err)
		}
		if _, _, err := c.Writer.Hijack(); !errors.Is(err, mongostore.ErrUnavailable) {
			t.Errorf("Hijack: %v", err)
		}
	}))
	response := s.get("/")
	response.wants(http.StatusServiceUnavailable, "Service Unavailable\n", 0)
	if response.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestMiddlewareRespondsToHead(t *testing.T) {
	t.Parallel()
	var value any = 1
	s := serve(t, application(openStore(t, collection(t), nil), orders[0].use, nil, func(c *gin.Context) {
		sessions.Default(c).Set("n", value)
		c.String(http.StatusCreated, "text")
	}))
	s.send(http.MethodHead, "/").wants(http.StatusCreated, "", 1)
	s.get("/value").wants(200, "1", 0)
	value = make(chan int)
	s.send(http.MethodHead, "/").wants(http.StatusInternalServerError, "", 0)
}

// TestMiddlewareAbortsWhenTheSessionCannotBeLoaded: no handler runs, and the session is still
// there after the outage.
func TestMiddlewareAbortsWhenTheSessionCannotBeLoaded(t *testing.T) {
	t.Parallel()
	coll := collection(t)
	visitor := serve(t, application(newStore(t, coll), orders[0].use, nil, func(c *gin.Context) { sessions.Default(c).Set("n", 1) }))
	visitor.get("/").wants(200, "", 1)
	for _, tt := range []struct {
		name    string
		onError func(http.ResponseWriter, *http.Request, error)
		status  int
		body    string
	}{
		{"default", nil, http.StatusServiceUnavailable, "Service Unavailable\n"},
		{"OnError", func(w http.ResponseWriter, _ *http.Request, err error) {
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, http.StatusText(mongostore.StatusCode(err)))
		}, http.StatusTeapot, "Service Unavailable"},
		{"OnError without a body", func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusTeapot)
		}, http.StatusTeapot, ""},
		{"OnError that writes nothing", func(http.ResponseWriter, *http.Request, error) {}, http.StatusServiceUnavailable, "Service Unavailable\n"},
	} {
		for _, order := range orders {
			t.Run(tt.name+" "+order.name, func(t *testing.T) {
				t.Parallel()
				store := unavailable(t, coll, tt.onError)
				s := visitor.moveTo(serve(t, application(store, order.use, []gin.HandlerFunc{func(c *gin.Context) {
					c.Next()
					if !c.IsAborted() || c.Writer.Status() != tt.status {
						t.Errorf("aborted %t, status %d", c.IsAborted(), c.Writer.Status())
					}
				}}, func(*gin.Context) { t.Error("the handler runs") })))
				s.get("/").wants(tt.status, tt.body, 0)
				s.get("/elsewhere").wants(tt.status, tt.body, 0) // a path without a route
				wantStored(t, coll, 1)
			})
		}
	}
}

func TestMiddlewareLetsOnErrorReplaceTheResponse(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"please try again", ""} {
		store := openStore(t, collection(t), func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusTeapot)
			if body != "" {
				_, _ = io.WriteString(w, body)
			}
		})
		for _, way := range ways {
			s := serve(t, application(store, orders[0].use, nil, func(c *gin.Context) {
				sessions.Default(c).Set("n", make(chan int))
				way.respond(c)
			}))
			s.get("/").wants(http.StatusTeapot, body, 0)
		}
	}
}

func TestMiddlewareServesPathsWithoutARoute(t *testing.T) {
	t.Parallel()
	coll := collection(t)
	router := gin.New()
	router.Use(newStore(t, coll).Middleware("session"))
	s := serve(t, router)
	s.get("/elsewhere").wants(http.StatusNotFound, "404 page not found", 0)
	store := newStore(t, coll)
	router.NoRoute(func(c *gin.Context) {
		session, _ := store.Get(c.Request, "session")
		session.Values["n"] = 1
	})
	s.get("/elsewhere").wants(http.StatusNotFound, "404 page not found", 1)
	wantStored(t, coll, 1)
}

// TestMiddlewareOfAGroup: the routes outside of the group do not load the session.
func TestMiddlewareOfAGroup(t *testing.T) {
	t.Parallel()
	coll := collection(t)
	open := func(store ginstore.Store) *site {
		router := gin.New()
		router.Use(sessions.Sessions("session", store))
		router.GET("/logout", func(c *gin.Context) {
			session := sessions.Default(c)
			session.Options(sessions.Options{MaxAge: -1})
			if err := session.Save(); err != nil {
				c.AbortWithStatus(mongostore.StatusCode(err))
			}
		})
		router.Group("/pages", store.Middleware("session")).GET("/set", func(c *gin.Context) { sessions.Default(c).Set("n", 1) })
		return serve(t, router)
	}
	up := open(newStore(t, coll))
	up.get("/pages/set").wants(200, "", 1)
	down := up.moveTo(open(unavailable(t, coll, nil)))
	down.get("/pages/set").wants(http.StatusServiceUnavailable, "Service Unavailable\n", 0)
	down.get("/logout").wants(200, "", 1)
}

func TestMiddlewarePassesPanics(t *testing.T) {
	t.Parallel()
	recovery := gin.RecoveryWithWriter(io.Discard)
	for _, tt := range []struct {
		name            string
		outside, inside []gin.HandlerFunc
		respond         func(*gin.Context)
		status          int
		body            string
		stored          int
	}{
		{"Recovery outside", []gin.HandlerFunc{recovery}, nil, func(*gin.Context) {}, 500, "", 0},
		{"Recovery inside", nil, []gin.HandlerFunc{recovery}, func(*gin.Context) {}, 500, "", 1},
		{"after the first byte", []gin.HandlerFunc{recovery}, nil, func(c *gin.Context) { c.String(201, "text") }, 201, "text", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			coll := collection(t)
			check := func(c *gin.Context) {
				before := c.Writer
				defer func() {
					if c.Writer != before {
						t.Error("the response writer is not restored")
					}
				}()
				c.Next()
			}
			s := serve(t, application(newStore(t, coll), orders[0].use, append(tt.outside, check), append(tt.inside, func(c *gin.Context) {
				sessions.Default(c).Set("n", 1)
				tt.respond(c)
				panic("a test")
			})...))
			s.get("/").wants(tt.status, tt.body, tt.stored)
			wantStored(t, coll, int64(tt.stored))
		})
	}
}

// TestMiddlewareBesideTheHandlersSave: gin-contrib's Save stores the session, and the middleware
// stores what is changed after it.
func TestMiddlewareBesideTheHandlersSave(t *testing.T) {
	t.Parallel()
	for _, order := range orders {
		t.Run(order.name, func(t *testing.T) {
			t.Parallel()
			coll := collection(t)
			change := false
			s := serve(t, application(newStore(t, coll), order.use, nil, func(c *gin.Context) {
				session := sessions.Default(c)
				session.Set("n", 1)
				if err := session.Save(); err != nil {
					t.Error(err)
				}
				if change {
					session.Set("n", 2)
				}
				c.String(http.StatusOK, "saved")
			}))
			s.get("/").wants(200, "saved", 1)
			wantStored(t, coll, 1)
			change = true
			s.get("/").wants(200, "saved", 0)
			s.get("/value").wants(200, "2", 0)
			wantStored(t, coll, 1)
		})
	}
}

// TestMiddlewareLeavesAFailedSaveToTheHandler: the handler has the error, and its response is sent.
func TestMiddlewareLeavesAFailedSaveToTheHandler(t *testing.T) {
	t.Parallel()
	coll := collection(t)
	s := serve(t, application(newStore(t, coll), orders[0].use, nil, func(c *gin.Context) {
		session := sessions.Default(c)
		session.Set("n", make(chan int))
		if err := session.Save(); err == nil {
			t.Error("Save returns no error")
		}
		c.String(http.StatusTeapot, "of the handler")
	}))
	s.get("/").wants(http.StatusTeapot, "of the handler", 0)
	wantStored(t, coll, 0)
}

// TestMiddlewareWithReplacedRequests: Default returns the session of the middleware if c.Request is
// replaced before both, after both, or after the middleware.
func TestMiddlewareWithReplacedRequests(t *testing.T) {
	t.Parallel()
	type contextKey struct{}
	replace := func(c *gin.Context) {
		c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), contextKey{}, true))
	}
	for name, use := range map[string]func(gin.IRoutes, ginstore.Store){
		"before both": func(r gin.IRoutes, store ginstore.Store) {
			r.Use(replace, sessions.Sessions("session", store), store.Middleware("session"))
		},
		"after both": func(r gin.IRoutes, store ginstore.Store) {
			r.Use(sessions.Sessions("session", store), store.Middleware("session"), replace)
		},
		"between": func(r gin.IRoutes, store ginstore.Store) {
			r.Use(store.Middleware("session"), replace, sessions.Sessions("session", store))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			coll := collection(t)
			s := serve(t, application(newStore(t, coll), use, nil, func(c *gin.Context) { sessions.Default(c).Set("n", 1) }))
			s.get("/").wants(200, "", 1)
			wantStored(t, coll, 1)
			s.get("/value").wants(200, "1", 0)
		})
	}
}

// TestMiddlewareCompletesTheLogoutCookie: Options{MaxAge: -1} is enough without Save, whichever
// store got the session last.
func TestMiddlewareCompletesTheLogoutCookie(t *testing.T) {
	t.Parallel()
	standard := gorilla.Options{
		Path: "/", Domain: "example.com", MaxAge: 60,
		Secure: true, HttpOnly: true, Partitioned: true, SameSite: http.SameSiteNoneMode,
	}
	for _, way := range ways {
		if way.name == "Hijack" {
			continue // needs a server
		}
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			store := newStore(t, collection(t))
			store.Store.Options = &standard
			router := application(store, orders[0].use, nil, func(c *gin.Context) {
				sessions.Default(c).Options(sessions.Options{MaxAge: -1})
				if _, err := store.Store.Get(c.Request, "session"); err != nil {
					t.Error(err)
				}
				way.respond(c)
			})
			w := &notifier{ResponseRecorder: httptest.NewRecorder()}
			router.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
			cookies := w.Result().Cookies()
			if len(cookies) != 1 {
				t.Fatalf("cookies %v, want one", cookies)
			}
			checkCookie(t, cookies[0], http.Cookie{
				Path: "/", Domain: "example.com", MaxAge: -1,
				Secure: true, HttpOnly: true, Partitioned: true, SameSite: http.SameSiteNoneMode,
			})
		})
	}
}

// notifier is a recorder for gin's Stream, which requires CloseNotify.
type notifier struct{ *httptest.ResponseRecorder }

func (*notifier) CloseNotify() <-chan bool { return nil }

// TestMiddlewareMovesTheExpiry: also for a handler that does not use the session.
func TestMiddlewareMovesTheExpiry(t *testing.T) {
	t.Parallel()
	coll := collection(t)
	s := serve(t, application(newStore(t, coll), orders[0].use, nil, func(c *gin.Context) { sessions.Default(c).Set("n", 1) }))
	s.get("/").wants(200, "", 1)
	soon := time.Now().Add(time.Hour)
	if _, err := coll.UpdateMany(t.Context(), bson.D{}, bson.D{{Key: "$set", Value: bson.D{
		{Key: "seenAt", Value: soon.Add(-30 * 24 * time.Hour)}, {Key: "expiresAt", Value: soon},
	}}}); err != nil {
		t.Fatal(err)
	}
	s.get("/other").wants(200, "the other page", 1)
	doc, err := coll.FindOne(t.Context(), bson.D{}).Raw()
	if err != nil {
		t.Fatal(err)
	}
	if expires := doc.Lookup("expiresAt").Time(); time.Until(expires) < 29*24*time.Hour {
		t.Errorf("the session expires at %s", expires)
	}
}

// TestMiddlewaresOfSeveralNames: each saves its session. If one save fails, the response reports
// that error, once.
func TestMiddlewaresOfSeveralNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		bad  []string
		stored,
		cookies int
	}{
		{"all saved", nil, 2, 2},
		{"outer fails", []string{"a"}, 1, 1},
		{"inner fails", []string{"b"}, 1, 1},
		{"both fail", []string{"a", "b"}, 0, 0},
	} {
		for _, way := range ways {
			if way.name == "HandleContext" {
				continue // which replaces the session of gin-contrib
			}
			t.Run(tt.name+" "+way.name, func(t *testing.T) {
				t.Parallel()
				coll := collection(t)
				store := openStore(t, coll, nil)
				router := gin.New()
				router.Use(sessions.SessionsMany([]string{"a", "b"}, store), store.Middleware("a"), store.Middleware("b"))
				router.GET("/", func(c *gin.Context) {
					for _, name := range []string{"a", "b"} {
						sessions.DefaultMany(c, name).Set("n", 1)
					}
					for _, name := range tt.bad {
						sessions.DefaultMany(c, name).Set("n", make(chan int))
					}
					way.respond(c)
				})
				if response := serve(t, router).get("/"); tt.bad == nil {
					response.wants(way.status, way.body, tt.cookies)
				} else {
					response.wants(http.StatusInternalServerError, "Internal Server Error\n", tt.cookies)
				}
				wantStored(t, coll, int64(tt.stored))
			})
		}
	}
}

// TestMiddlewareStreams: events arrive one by one, after the cookie.
func TestMiddlewareStreams(t *testing.T) {
	t.Parallel()
	coll := collection(t)
	next := make(chan string)
	s := serve(t, application(newStore(t, coll), orders[0].use, nil, func(c *gin.Context) {
		sessions.Default(c).Set("n", 1)
		c.Stream(func(io.Writer) bool {
			event, ok := <-next
			if ok {
				c.SSEvent("news", event)
			}
			return ok
		})
	}))
	go func() { next <- "first" }()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if len(response.Cookies()) != 1 || !strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream") {
		t.Errorf("the header is %v", response.Header)
	}
	wantStored(t, coll, 1)
	lines := bufio.NewScanner(response.Body)
	for i, want := range []string{"first", "second", "third"} {
		if i > 0 {
			next <- want
		}
		lines.Scan() // the event's name
		if lines.Scan(); lines.Text() != "data:"+want {
			t.Errorf("line %q, error %v; want %s", lines.Text(), lines.Err(), want)
		}
		lines.Scan() // the end of the event
	}
	close(next)
}

// TestMiddlewarePassesInformationalResponses: they are sent without a save.
func TestMiddlewarePassesInformationalResponses(t *testing.T) {
	t.Parallel()
	s := serve(t, application(newStore(t, collection(t)), orders[0].use, nil, func(c *gin.Context) {
		c.Header("Link", "</style.css>; rel=preload")
		c.Status(http.StatusEarlyHints)
		c.Writer.WriteHeaderNow()
		sessions.Default(c).Set("n", 1)
		c.String(http.StatusOK, "text")
	}))
	var hints []int
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		if hints = append(hints, code); header.Get("Set-Cookie") != "" {
			t.Error("the informational response has the cookie")
		}
		return nil
	}}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), http.MethodGet, s.server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.do(r).wants(200, "text", 1)
	if len(hints) != 1 || hints[0] != http.StatusEarlyHints {
		t.Errorf("informational responses %v", hints)
	}
}

// TestMiddlewareKeepsTheAbilitiesOfTheResponseWriter: those of gin, and those that a
// ResponseController finds in the server's.
func TestMiddlewareKeepsTheAbilitiesOfTheResponseWriter(t *testing.T) {
	t.Parallel()
	s := serve(t, application(newStore(t, collection(t)), orders[0].use, nil, func(c *gin.Context) {
		w := c.Writer
		if w.Written() || w.Size() >= 0 || w.Status() != http.StatusOK || w.CloseNotify() == nil || w.Pusher() != nil {
			t.Errorf("before: written %t, size %d, status %d", w.Written(), w.Size(), w.Status())
		}
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Error(err)
		}
		c.String(http.StatusCreated, "text")
		if !w.Written() || w.Size() != 4 || w.Status() != http.StatusCreated {
			t.Errorf("after: written %t, size %d, status %d", w.Written(), w.Size(), w.Status())
		}
	}))
	s.get("/").wants(http.StatusCreated, "text", 0)
}

func TestMiddlewareRefusesBadNames(t *testing.T) {
	t.Parallel()
	store := openStore(t, collection(t), nil)
	router := gin.New()
	router.Use(store.Middleware("a b"))
	router.GET("/", func(*gin.Context) { t.Error("the handler runs") })
	serve(t, router).get("/").wants(http.StatusInternalServerError, "Internal Server Error\n", 0)
}

// TestMiddlewareKnowsTheStatus: a handler that reports the error of its own Save is not warned of.
func TestMiddlewareKnowsTheStatus(t *testing.T) {
	t.Parallel()
	coll := collection(t)
	var log bytes.Buffer
	store, err := mongostore.Open(t.Context(), mongostore.Config{
		Client: coll.Database().Client(), Database: coll.Database().Name(), Collection: coll.Name(),
		Cleanup: mongostore.CleanupOff, MaxSize: 100, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close(context.WithoutCancel(t.Context())) })
	s := serve(t, application(ginstore.New(store), orders[0].use, nil, func(c *gin.Context) {
		session := sessions.Default(c)
		session.Set("n", strings.Repeat("x", 200))
		if err := session.Save(); err != nil {
			c.JSON(http.StatusRequestEntityTooLarge, "too large")
		}
	}))
	s.get("/").wants(http.StatusRequestEntityTooLarge, `"too large"`, 0)
	if log.Len() > 0 {
		t.Errorf("the log has %s", log.String())
	}
}
