package mongostore_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// site is an application behind the middleware, on a server of net/http, and a visitor.
type site struct {
	*storetest.Fixture
	server  *httptest.Server
	visitor *storetest.Browser
}

// serve serves a handler behind the fixture's middleware.
func serve(f *storetest.Fixture, handler http.HandlerFunc) *site {
	f.T.Helper()
	return serveAll(f, f.Store.Middleware(storetest.Name)(handler))
}

// serveAll serves a handler as it is.
func serveAll(f *storetest.Fixture, handler http.Handler) *site {
	f.T.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // of panics
	server.Start()
	f.T.Cleanup(server.Close)
	return &site{Fixture: f, server: server, visitor: f.Browser()}
}

// received is a response.
type received struct {
	t       testing.TB
	status  int
	header  http.Header
	cookies []*http.Cookie
	body    string
}

func (s *site) request(ctx context.Context, method, path string) *http.Request {
	s.T.Helper()
	r, err := http.NewRequestWithContext(ctx, method, s.server.URL+path, nil)
	if err != nil {
		s.T.Fatal(err)
	}
	for name, value := range s.visitor.Cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	return r
}

// send sends a request with the visitor's cookies, and keeps those of the response.
func (s *site) send(r *http.Request) (*http.Response, error) {
	res, err := s.server.Client().Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	for _, c := range res.Cookies() {
		if s.visitor.Cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(s.visitor.Cookies, c.Name)
		}
	}
	return res, nil
}

func (s *site) do(method, path string) *received {
	s.T.Helper()
	res, err := s.send(s.request(s.T.Context(), method, path))
	if err != nil {
		s.T.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		s.T.Errorf("read the response: %v", err)
	}
	return &received{s.T, res.StatusCode, res.Header, res.Cookies(), string(body)}
}

func (s *site) get() *received {
	s.T.Helper()
	return s.do(http.MethodGet, "/")
}

func (s *site) post(path string) *received {
	s.T.Helper()
	return s.do(http.MethodPost, path)
}

// wants checks the status and the body, and how many cookies of the session there are.
func (p *received) wants(status int, body string, cookies int) *received {
	p.t.Helper()
	if p.status != status || p.body != body {
		p.t.Errorf("response %d %q, want %d %q", p.status, p.body, status, body)
	}
	if got := len(p.sessionCookies()); got != cookies {
		p.t.Errorf("%d cookies of the session, want %d: %q", got, cookies, p.header["Set-Cookie"])
	}
	return p
}

func (p *received) sessionCookies() (cookies []*http.Cookie) {
	for _, c := range p.cookies {
		if c.Name == storetest.Name {
			cookies = append(cookies, c)
		}
	}
	return cookies
}

// storedValue returns a value of the only session in the database.
func storedValue(f *storetest.Fixture, key string) bson.RawValue {
	f.T.Helper()
	return f.Document().Lookup("values", key)
}

// loaded returns what the middleware has loaded.
func loaded(f *storetest.Fixture, r *http.Request) *sessions.Session {
	session, err := f.Store.Get(r, storetest.Name)
	if err != nil && !errors.As(err, new(securecookie.Error)) {
		f.T.Errorf("Get fails behind the middleware: %v", err)
	}
	return session
}

var refused = storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")}

// However a handler responds, what it changed is stored and the cookie is in the header.
func TestMiddlewareSavesWhatTheHandlerChanged(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/page.txt"
	if err := os.WriteFile(file, []byte("a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		method string
		write  http.HandlerFunc
		status int
		body   string
	}{
		{"nothing", "GET", func(http.ResponseWriter, *http.Request) {}, 200, ""},
		{"Write", "GET", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }, 200, "hello"},
		{"Write of nothing", "GET", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(nil) }, 200, ""},
		{"WriteString", "GET", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }, 200, "hello"},
		{"ReadFrom", "GET", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, struct{ io.Reader }{strings.NewReader("hello")})
		}, 200, "hello"},
		{"created", "POST", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusCreated)
			fmt.Fprint(w, "hello")
		}, 201, "hello"},
		{"no content", "POST", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, 204, ""},
		{"not modified", "GET", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) }, 304, ""},
		{"redirect", "POST", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/next", http.StatusSeeOther) }, 303, ""},
		{"error", "GET", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusTeapot) }, 418, "no\n"},
		{"HEAD", "HEAD", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }, 200, ""},
		{"flush first", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			fmt.Fprint(w, "hello")
		}, 200, "hello"},
		{"controller's flush first", "GET", func(w http.ResponseWriter, _ *http.Request) {
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			fmt.Fprint(w, "hello")
		}, 200, "hello"},
		{"file", "GET", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) }, 200, "a file"},
		{"content", "GET", func(w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "page.txt", time.Now(), strings.NewReader("content"))
		}, 200, "content"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			s := serve(f, func(w http.ResponseWriter, r *http.Request) {
				session := loaded(f, r)
				n, _ := mongostore.Value[int](session, "n")
				session.Values["n"] = n + 1
				tt.write(w, r)
			})
			s.do(tt.method, "/").wants(tt.status, tt.body, 1)
			if n := storedValue(f, "n"); n.AsInt64() != 1 {
				t.Errorf("after one request n is %s", n)
			}
			f.Log.Reset()
			s.do(tt.method, "/") // the second one sends a cookie or not
			f.WantCommands("find", "update")
			if n := storedValue(f, "n"); n.AsInt64() != 2 {
				t.Errorf("after two requests n is %s", n)
			}
		})
	}
}

// Reading loads the session once, and writes only what moves an expiry that is due.
func TestMiddlewareMovesTheExpiryWhenDue(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	s := serve(f, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
		user, _ := mongostore.Value[string](loaded(f, r), "user")
		fmt.Fprint(w, loaded(f, r).IsNew, user)
	})
	s.visitor.Login()
	f.Log.Reset()
	p := s.get()
	if p.body != "falseada" || p.status != 200 {
		t.Errorf("response %d %q", p.status, p.body)
	}
	if got := p.header["Cache-Control"]; len(got) != 1+len(p.sessionCookies()) {
		t.Errorf("Cache-Control of a response with %d cookies: %q", len(p.sessionCookies()), got)
	}
	f.WantCommands("find")

	f.Age(48 * time.Hour)
	p = s.get().wants(200, "falseada", 1)
	f.WantCommands("find", "update")
	if expires := f.Document().Lookup("expiresAt").Time(); time.Until(expires) < 29*24*time.Hour {
		t.Errorf("the session expires at %s", expires)
	}
	if got := p.header["Cache-Control"]; !slices.Equal(got, []string{"public, max-age=60", `no-cache="Set-Cookie"`}) {
		t.Errorf("Cache-Control of a response with a cookie: %q", got)
	}
}

// TestMiddlewareOfALatePollKeepsTheRenewedCookie: a poll is under way while the login renews the
// session. Its response arrives after that of the login.
func TestMiddlewareOfALatePollKeepsTheRenewedCookie(t *testing.T) {
	t.Parallel()
	for what, older := range map[string]time.Duration{"no touch due": 0, "touch due": 2 * time.Minute} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			polling, renewed := make(chan bool), make(chan bool)
			s := serve(f, func(w http.ResponseWriter, r *http.Request) {
				session := loaded(f, r)
				switch r.URL.Path {
				case "/poll":
					polling <- true
					<-renewed
				case "/login":
					session.Values["user"] = "ada"
					if err := f.Store.Renew(r, w, session); err != nil {
						t.Errorf("Renew: %v", err)
					}
				default:
					session.Values["n"] = 1
				}
			})
			s.get().wants(http.StatusOK, "", 1)
			if older > 0 {
				f.Older(older)
			}
			poll := make(chan *http.Response, 1)
			r := s.request(t.Context(), http.MethodGet, "/poll")
			go func() {
				res, err := s.server.Client().Transport.RoundTrip(r)
				if err != nil {
					t.Errorf("poll: %v", err)
				}
				poll <- res
			}()
			<-polling
			s.post("/login").wants(http.StatusOK, "", 1)
			close(renewed)
			res := <-poll
			if res == nil {
				return
			}
			defer res.Body.Close()
			if cookies := res.Cookies(); len(cookies) > 0 {
				t.Errorf("the poll sets %v", cookies)
			}
			s.visitor.WantIn("after the poll")
		})
	}
}

// Visitors who do nothing, such as bots, have no session, whatever their cookie.
func TestMiddlewareCreatesNoEmptySession(t *testing.T) {
	t.Parallel()
	for _, skip := range []bool{false, true} {
		t.Run(fmt.Sprintf("SkipEmpty %t", skip), func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(cfg *mongostore.Config) { cfg.SkipEmpty = skip })
			s := serve(f, func(w http.ResponseWriter, r *http.Request) {
				session := loaded(f, r)
				session.Values["n"] = 1
				delete(session.Values, "n")
				fmt.Fprint(w, session.IsNew)
			})
			s.get().wants(200, "true", 0)
			s.visitor.Cookies[storetest.Name] = "forged"
			s.get().wants(200, "true", 0)
			f.WantCommands()

			s.visitor = f.Browser().Login()
			f.Expire()
			f.Log.Reset()
			s.get().wants(200, "true", 0)
			f.WantCommands("find")
		})
	}
}

// A new session gets the cookie in place of one that fails verification.
func TestMiddlewarePassesInvalidCookies(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	s := serve(f, func(_ http.ResponseWriter, r *http.Request) { loaded(f, r).Values["user"] = "ada" })
	s.visitor.Cookies[storetest.Name] = "forged"
	s.get().wants(200, "", 1)
	if user := storedValue(f, "user").StringValue(); user != "ada" {
		t.Errorf("user %q", user)
	}
}

// A session ends however the handler ends it, and the response stays the handler's.
func TestMiddlewareEndsSessions(t *testing.T) {
	t.Parallel()
	revokeAll := func(f *storetest.Fixture, _ http.ResponseWriter, r *http.Request) error {
		_, err := f.Store.RevokeAll(r.Context(), "ada")
		return err
	}
	for _, tt := range []struct {
		name    string
		logout  func(*storetest.Fixture, http.ResponseWriter, *http.Request) error
		due     bool // a touch
		expires bool // the cookie
	}{
		{"without Save", func(f *storetest.Fixture, _ http.ResponseWriter, r *http.Request) error {
			loaded(f, r).Options.MaxAge = -1
			return nil
		}, false, true},
		{"with Save", func(f *storetest.Fixture, w http.ResponseWriter, r *http.Request) error {
			session := loaded(f, r)
			session.Options.MaxAge = -1
			return session.Save(r, w)
		}, false, true},
		{"with Save, and a change after it", func(f *storetest.Fixture, w http.ResponseWriter, r *http.Request) error {
			session := loaded(f, r)
			session.Options.MaxAge = -1
			err := session.Save(r, w)
			session.Options.MaxAge = 60
			session.Values["late"] = true
			return err
		}, false, true},
		{"Remove", func(f *storetest.Fixture, _ http.ResponseWriter, r *http.Request) error {
			return f.Store.Remove(r.Context(), loaded(f, r))
		}, false, false},
		{"RevokeAll", revokeAll, false, false},
		{"RevokeAll when a touch is due", revokeAll, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(cfg *mongostore.Config) { cfg.OwnerKey = "user" })
			s := serve(f, func(w http.ResponseWriter, r *http.Request) {
				if err := tt.logout(f, w, r); err != nil {
					t.Error(err)
				}
				http.Redirect(w, r, "/bye", http.StatusSeeOther)
			})
			s.visitor.Login()
			thief := s.visitor.Clone()
			if tt.due {
				f.Age(48 * time.Hour)
			}
			p := s.post("/")
			if p.status != http.StatusSeeOther {
				t.Errorf("status %d", p.status)
			}
			if c := p.sessionCookies(); tt.expires && (len(c) != 1 || c[0].MaxAge >= 0) {
				t.Errorf("the logout sets %q", p.header["Set-Cookie"])
			}
			f.WantDocuments(0)
			if !thief.Load().IsNew {
				t.Error("a copy of the cookie still works")
			}
		})
	}
}

// The cookie of a visitor whose session is gone expires with a logout that does not save.
func TestMiddlewareEndsSessionsThatAreGone(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	s := serve(f, func(_ http.ResponseWriter, r *http.Request) { loaded(f, r).Options.MaxAge = -1 })
	s.visitor.Login()
	f.Expire()
	if c := s.get().wants(200, "", 1).sessionCookies(); len(c) == 1 && c[0].MaxAge >= 0 {
		t.Errorf("the logout sets the cookie %s", c[0].Raw)
	}
}

// A session that cannot be loaded: the handler is not called, cookie and document stay.
func TestMiddlewareRespondsWhenTheSessionCannotBeLoaded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		breakIt    func(*storetest.Fixture)
		status     int
		body       string
		retryAfter bool
		is         error
	}{
		{"outage", func(f *storetest.Fixture) { f.Wire.On("find", refused) }, 503, "Service Unavailable\n", true, mongostore.ErrUnavailable},
		{
			"damage", func(f *storetest.Fixture) { f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "values", Value: 1}}}}) },
			500, "Internal Server Error\n", false, mongostore.ErrCorrupt,
		},
		{"no codecs", func(f *storetest.Fixture) { f.Store.Codecs = nil }, 500, "Internal Server Error\n", false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			s := serve(f, func(http.ResponseWriter, *http.Request) { t.Error("the handler is called") })
			s.visitor.Login()
			tt.breakIt(f)
			before := f.Document()
			p := s.get().wants(tt.status, tt.body, 0)
			if got := p.header.Get("Retry-After"); (got != "") != tt.retryAfter {
				t.Errorf("Retry-After %q", got)
			}
			if cache := p.header.Get("Cache-Control"); cache != "no-store" {
				t.Errorf("Cache-Control %q", cache)
			}
			if !bytes.Equal(f.Document(), before) {
				t.Errorf("the document was %s and is %s", before, f.Document())
			}
			if text := f.Text.String(); !strings.Contains(text, "request failed for its session") || !strings.Contains(text, fmt.Sprint("status=", tt.status)) {
				t.Errorf("the log has %q", text)
			}

			var got error
			f.Cfg.OnError = func(w http.ResponseWriter, _ *http.Request, err error) {
				got = err
				http.Error(w, "own page", http.StatusTeapot)
			}
			own := f.Open()
			own.Codecs = f.Store.Codecs
			visitor := s.visitor
			s = serveAll(f, own.Middleware(storetest.Name)(http.NotFoundHandler()))
			s.visitor = visitor
			s.get().wants(http.StatusTeapot, "own page\n", 0)
			if got == nil || tt.is != nil && !errors.Is(got, tt.is) {
				t.Errorf("OnError gets %v", got)
			}

			f.Cfg.OnError = func(_ http.ResponseWriter, _ *http.Request, err error) { got = err }
			silent := f.Open()
			silent.Codecs = f.Store.Codecs
			s = serveAll(f, silent.Middleware(storetest.Name)(http.NotFoundHandler()))
			s.visitor = visitor
			s.get().wants(tt.status, tt.body, 0)
		})
	}
}

// The default response has a length, unless a middleware outside encodes it.
func TestMiddlewareRespondsThroughEncoders(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	for encoding, length := range map[string]string{"": "20", "br": ""} {
		w := httptest.NewRecorder()
		if encoding != "" {
			w.Header().Set("Content-Encoding", encoding)
		}
		b := f.Browser().Login()
		f.Wire.On("find", refused)
		f.Store.Middleware(storetest.Name)(http.NotFoundHandler()).ServeHTTP(w, b.Request())
		f.Wire.Heal()
		if h := w.Header(); h.Get("Content-Length") != length || h.Get("Content-Encoding") != encoding || w.Code != 503 {
			t.Errorf("Content-Encoding %q: status %d, header %v", encoding, w.Code, h)
		}
	}
}

// A response never says more than the database has: when the save fails, it is replaced,
// whatever the handler has written.
func TestMiddlewareReplacesTheResponseWhenTheSaveFails(t *testing.T) {
	t.Parallel()
	for _, failure := range []struct {
		name    string
		change  func(*mongostore.Config)
		breakIt func(*storetest.Fixture, *site, *sessions.Session)
		status  int
		is      error
	}{
		{"outage", nil, func(f *storetest.Fixture, _ *site, _ *sessions.Session) { f.Wire.On("update", refused) }, 503, mongostore.ErrUnavailable},
		{"logout meanwhile", nil, func(_ *storetest.Fixture, s *site, _ *sessions.Session) { s.visitor.Clone().Logout() }, 401, mongostore.ErrGone},
		{"too large", func(cfg *mongostore.Config) { cfg.MaxSize = 100 }, func(_ *storetest.Fixture, _ *site, session *sessions.Session) {
			session.Values["n"] = strings.Repeat("x", 200)
		}, 413, mongostore.ErrTooLarge},
		{"conflict", func(cfg *mongostore.Config) { cfg.OnConflict = mongostore.ConflictReject }, func(_ *storetest.Fixture, s *site, _ *sessions.Session) {
			s.visitor.Clone().Do(func(session *sessions.Session) { session.Values["n"] = "theirs" })
		}, 409, mongostore.ErrConflict},
		{"a value that cannot be stored", nil, func(_ *storetest.Fixture, _ *site, session *sessions.Session) {
			session.Values["n"] = make(chan int)
		}, 500, nil},
	} {
		for _, write := range []struct {
			name  string
			write func(http.ResponseWriter, *http.Request) error
		}{
			{"nothing", func(http.ResponseWriter, *http.Request) error { return nil }},
			{"Write", func(w http.ResponseWriter, _ *http.Request) error {
				_, err := fmt.Fprint(w, "stored")
				if err == nil {
					return errors.New("the first Write succeeds")
				}
				_, err = fmt.Fprint(w, "stored")
				return err
			}},
			{"WriteString", func(w http.ResponseWriter, _ *http.Request) error {
				_, err := io.WriteString(w, "stored")
				return err
			}},
			{"ReadFrom", func(w http.ResponseWriter, _ *http.Request) error {
				_, err := io.Copy(w, struct{ io.Reader }{strings.NewReader("stored")})
				return err
			}},
			{"Flush", func(w http.ResponseWriter, _ *http.Request) error { return http.NewResponseController(w).Flush() }},
			{"Hijack", func(w http.ResponseWriter, _ *http.Request) error {
				_, _, err := w.(http.Hijacker).Hijack()
				return err
			}},
			{"redirect", func(w http.ResponseWriter, r *http.Request) error {
				http.Redirect(w, r, "/stored", http.StatusSeeOther)
				_, err := fmt.Fprint(w, "stored")
				return err
			}},
			{"abort", func(w http.ResponseWriter, _ *http.Request) error {
				if _, err := fmt.Fprint(w, "stored"); err != nil {
					panic(http.ErrAbortHandler) // as httputil.ReverseProxy
				}
				return nil
			}},
		} {
			t.Run(failure.name+"/"+write.name, func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t, func(cfg *mongostore.Config) {
					if failure.change != nil {
						failure.change(cfg)
					}
				})
				var s *site
				answered := make(chan error, 1)
				inner := f.Store.Middleware(storetest.Name)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					session := loaded(f, r)
					session.Values["n"] = "ours"
					failure.breakIt(f, s, session)
					w.Header().Set("Content-Length", "6")
					w.Header().Set("Content-Encoding", "br")
					w.Header().Set("ETag", `"stored"`)
					w.Header().Set("Outer", "changed")
					w.Header().Set("Hx-Redirect", "/stored")
					http.SetCookie(w, &http.Cookie{Name: "other", Value: "kept"})
					answered <- write.write(w, r)
				}))
				s = serveAll(f, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Outer", "kept")
					inner.ServeHTTP(w, r)
				}))
				s.visitor.Login()
				p := s.get().wants(failure.status, http.StatusText(failure.status)+"\n", 0)
				if write.name != "nothing" && write.name != "abort" {
					if err := <-answered; err == nil || failure.is != nil && !errors.Is(err, failure.is) {
						t.Errorf("the handler gets the error %v", err)
					}
				}
				for header, want := range map[string]string{
					"ETag": "", "Location": "", "Content-Encoding": "", "Hx-Redirect": "", "Outer": "kept",
					"Content-Type": "text/plain; charset=utf-8", "Set-Cookie": "other=kept",
				} {
					if got := p.header.Get(header); got != want {
						t.Errorf("header %s: %q, want %q", header, got, want)
					}
				}
				for _, doc := range f.Documents() {
					if n, err := doc.LookupErr("values", "n"); err == nil && n.StringValue() != "theirs" {
						t.Errorf("the document holds %s", n)
					}
				}
			})
		}
	}
}

// An application can send its own page when the save fails.
func TestMiddlewareWarnsOfLostChanges(t *testing.T) {
	t.Parallel()
	const warning = "session changed after the response had begun"
	for what, row := range map[string]struct {
		late func(*storetest.Fixture, *http.Request, http.ResponseWriter, *sessions.Session) error
		lost bool
	}{
		"value": {func(_ *storetest.Fixture, _ *http.Request, _ http.ResponseWriter, s *sessions.Session) error {
			s.Values["n"] = 2
			return nil
		}, true},
		"flash": {func(_ *storetest.Fixture, _ *http.Request, _ http.ResponseWriter, s *sessions.Session) error {
			s.AddFlash("x")
			return nil
		}, true},
		"logout": {func(_ *storetest.Fixture, _ *http.Request, _ http.ResponseWriter, s *sessions.Session) error {
			s.Options.MaxAge = -1
			return nil
		}, true},
		"nothing": {func(*storetest.Fixture, *http.Request, http.ResponseWriter, *sessions.Session) error { return nil }, false},
		"saved by the handler": {func(f *storetest.Fixture, r *http.Request, _ http.ResponseWriter, s *sessions.Session) error {
			s.Values["n"] = 2
			return f.Store.Persist(r.Context(), s)
		}, false},
		"ended by the handler": {func(f *storetest.Fixture, r *http.Request, _ http.ResponseWriter, s *sessions.Session) error {
			return f.Store.Remove(r.Context(), s)
		}, false},
	} {
		for _, visitor := range []string{"known", "new"} {
			t.Run(what+", "+visitor, func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t)
				s := serve(f, func(w http.ResponseWriter, r *http.Request) {
					session := loaded(f, r)
					if visitor == "known" {
						session.Values["n"] = 1
					}
					fmt.Fprint(w, "page")
					if err := row.late(f, r, w, session); err != nil {
						t.Error(err)
					}
				})
				if visitor == "known" {
					s.visitor.Login()
				}
				s.get()
				if got := strings.Count(f.Text.String(), warning); got > 1 || (got == 1) != row.lost {
					t.Errorf("%d warnings: %s", got, f.Text)
				}
			})
		}
	}
}

func TestMiddlewareLetsOnErrorRespond(t *testing.T) {
	t.Parallel()
	var got error
	f := storetest.Setup(t, func(cfg *mongostore.Config) {
		cfg.OnError = func(w http.ResponseWriter, r *http.Request, err error) {
			got = err
			http.Redirect(w, r, "/login", http.StatusSeeOther)
		}
	})
	var s *site
	s = serve(f, func(w http.ResponseWriter, r *http.Request) {
		loaded(f, r).Values["n"] = 1
		s.visitor.Clone().Logout()
		fmt.Fprint(w, "stored")
	})
	s.visitor.Login()
	p := s.post("/").wants(http.StatusSeeOther, "", 0)
	if p.header.Get("Location") != "/login" || p.header.Get("Cache-Control") != "no-store" || p.header.Get("Retry-After") != "" {
		t.Errorf("header %v", p.header)
	}
	if !errors.Is(got, mongostore.ErrGone) {
		t.Errorf("OnError gets %v", got)
	}
	f.WantDocuments(0)

	s.visitor.Login()
	f.Wire.On("find", refused)
	p = s.get().wants(http.StatusSeeOther, "<a href=\"/login\">See Other</a>.\n\n", 0)
	if p.header.Get("Cache-Control") != "no-store" || p.header.Get("Retry-After") != "5" {
		t.Errorf("header %v", p.header)
	}
	if !errors.Is(got, mongostore.ErrUnavailable) {
		t.Errorf("OnError gets %v", got)
	}
}

// A page that changed nothing is sent although its session's expiry could not be moved.
func TestMiddlewareSendsPagesWhoseTouchFails(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		breakIt func(*site)
		warns   bool
	}{
		{"outage", func(s *site) { s.Wire.On("update", refused) }, true},
		{"logout meanwhile", func(s *site) { s.visitor.Clone().Logout() }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			var s *site
			s = serve(f, func(w http.ResponseWriter, r *http.Request) {
				user := loaded(f, r).Values["user"]
				tt.breakIt(s)
				fmt.Fprint(w, user)
			})
			s.visitor.Login()
			f.Age(48 * time.Hour)
			s.get().wants(200, "ada", 0)
			if warned := strings.Contains(f.Text.String(), "expiry of a session not moved"); warned != tt.warns {
				t.Errorf("the log has %q", f.Text)
			}
		})
	}
}

// A handler whose own save fails has the error. The middleware neither repeats the save nor
// replaces the response. Above all, it does not save under the old ID what Renew could not.
func TestMiddlewareLeavesFailedSavesToTheHandler(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		save func(*mongostore.Store, *http.Request, http.ResponseWriter, *sessions.Session) error
		wire string
	}{
		{"Save", func(s *mongostore.Store, r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
			return s.Save(r, w, session)
		}, "update"},
		{"Renew", func(s *mongostore.Store, r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
			return s.Renew(r, w, session)
		}, "insert"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			s := serve(f, func(w http.ResponseWriter, r *http.Request) {
				session := loaded(f, r)
				session.Values["user"] = "grace"
				if err := tt.save(f.Store, r, w, session); !errors.Is(err, mongostore.ErrUnavailable) {
					t.Errorf("error %v", err)
				}
				http.Redirect(w, r, "/later", http.StatusSeeOther)
			})
			s.visitor.Login()
			f.Wire.On(tt.wire, storetest.Rule{Kind: storetest.Answer, Once: true, Reply: storetest.Refusal(13, "Unauthorized")})
			s.post("/").wants(http.StatusSeeOther, "", 0)
			if user := storedValue(f, "user").StringValue(); user != "ada" {
				t.Errorf("the session that could not be saved is that of %s", user)
			}
		})
	}
}

// TestMiddlewareSavesAChangeAfterAFailedSave: the handler repairs what could not be stored.
func TestMiddlewareSavesAChangeAfterAFailedSave(t *testing.T) {
	t.Parallel()
	for name, repair := range map[string]func(*sessions.Session){
		"another value":   func(s *sessions.Session) { s.Values["n"] = "short" },
		"another key":     func(s *sessions.Session) { delete(s.Values, "big"); s.Values["n"] = "short" },
		"a smaller value": func(s *sessions.Session) { s.Values["big"] = "" },
		"the value again": func(s *sessions.Session) { s.Values["big"] = strings.Repeat("x", 200) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(cfg *mongostore.Config) { cfg.MaxSize = 100 })
			refusedByServer := name == "another value"
			s := serve(f, func(w http.ResponseWriter, r *http.Request) {
				session := loaded(f, r)
				if session.Values["n"] = "first"; !refusedByServer {
					session.Values["big"] = strings.Repeat("x", 200)
				}
				if err := session.Save(r, w); err == nil {
					t.Error("the save succeeded")
				}
				repair(session)
				fmt.Fprint(w, "stored")
			})
			s.visitor.Login()
			if refusedByServer {
				f.Wire.On("update", storetest.Rule{Kind: storetest.Answer, Once: true, Reply: storetest.Refusal(13, "Unauthorized")})
			}
			s.get().wants(http.StatusOK, "stored", 0)
			value, err := f.Document().LookupErr("values", "n")
			switch {
			case name == "the value again":
				if err == nil {
					t.Errorf("%s is stored", value)
				}
				if warning := "session not saved, and the handler responded as if it was"; !strings.Contains(f.Text.String(), warning) {
					t.Errorf("the log has %q", f.Text)
				}
			case err != nil:
				t.Error(err)
			case name != "a smaller value" && value.StringValue() != "short":
				t.Errorf("%s is stored", value)
			}
		})
	}
}

// TestMiddlewareWarnsOfIgnoredErrors: a response that is no error although the handler's own Save has
// returned one.
func TestMiddlewareWarnsOfIgnoredErrors(t *testing.T) {
	t.Parallel()
	const warning = "session not saved, and the handler responded as if it was"
	for name, row := range map[string]struct {
		code   int // of the server's refusal; 0 for a session that has ended
		status int
		warned bool
	}{
		"success":             {13, http.StatusOK, true},
		"redirect":            {13, http.StatusSeeOther, true},
		"error":               {13, http.StatusServiceUnavailable, false},
		"redirect to a login": {0, http.StatusSeeOther, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			var s *site
			s = serve(f, func(w http.ResponseWriter, r *http.Request) {
				session := loaded(f, r)
				if row.code == 0 {
					s.visitor.Clone().Logout()
				}
				session.Values["n"] = 1
				if err := session.Save(r, w); err == nil {
					t.Error("the save succeeded")
				}
				w.WriteHeader(row.status)
			})
			s.visitor.Login()
			if row.code != 0 {
				f.Wire.On("update", storetest.Rule{Kind: storetest.Answer, Once: true, Reply: storetest.Refusal(row.code, "Unauthorized")})
			}
			s.get().wants(row.status, "", 0)
			if warned := strings.Contains(f.Text.String(), warning); warned != row.warned {
				t.Errorf("the log has %q", f.Text)
			}
		})
	}
}

// A handler that gives up after a failed Save can end the session as any other can.
func TestMiddlewareEndsSessionsAfterAFailedSave(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(cfg *mongostore.Config) { cfg.MaxSize = 100 })
	s := serve(f, func(w http.ResponseWriter, r *http.Request) {
		session := loaded(f, r)
		session.Values["n"] = strings.Repeat("x", 200)
		if err := session.Save(r, w); !errors.Is(err, mongostore.ErrTooLarge) {
			t.Errorf("error %v", err)
		}
		session.Options.MaxAge = -1
		http.Redirect(w, r, "/login", http.StatusSeeOther)
	})
	s.visitor.Login()
	s.post("/").wants(http.StatusSeeOther, "", 1)
	f.WantDocuments(0)
	if cookie, kept := s.visitor.Cookies[storetest.Name]; kept {
		t.Errorf("the browser keeps the cookie %s", cookie)
	}
}

// The visitor signed out elsewhere, and the handler knows from its own Save.
func TestMiddlewareLeavesErrGoneToTheHandler(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	var s *site
	s = serve(f, func(w http.ResponseWriter, r *http.Request) {
		session := loaded(f, r)
		session.Values["n"] = 1
		s.visitor.Clone().Logout()
		if err := session.Save(r, w); mongostore.StatusCode(err) != http.StatusUnauthorized {
			t.Errorf("error %v", err)
		}
		http.Redirect(w, r, "/login", http.StatusSeeOther)
	})
	s.visitor.Login()
	s.post("/").wants(http.StatusSeeOther, "", 0)
	f.WantDocuments(0)
}

// What a handler saved itself is not saved again, and has one cookie; what it changed after
// that is saved.
func TestMiddlewareSavesAfterTheHandlersOwnSave(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	var late bool
	s := serve(f, func(w http.ResponseWriter, r *http.Request) {
		session := loaded(f, r)
		session.Values["user"] = "ada"
		if err := f.Store.Renew(r, w, session); err != nil {
			t.Error(err)
		}
		http.SetCookie(w, &http.Cookie{Name: "other", Value: "1"})
		if late {
			session.Values["late"] = true
		}
		fmt.Fprint(w, "hello")
	})
	s.get().wants(200, "hello", 1)
	f.WantCommands("insert")
	late = true
	s.get().wants(200, "hello", 1)
	if commands := f.Log.Reset(); commands[len(commands)-1] != "update" {
		t.Errorf("commands %q", commands)
	}
	session := s.visitor.Load() // by the cookie of the renewal
	if session.IsNew || session.Values["late"] != true {
		t.Errorf("the session has %v", session.Values)
	}
}

// After a panic nothing is saved, and the panic is passed on as it is.
func TestMiddlewarePassesPanics(t *testing.T) {
	t.Parallel()
	for _, value := range []any{http.ErrAbortHandler, "a bug"} {
		t.Run(fmt.Sprint(value), func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			handler := f.Store.Middleware(storetest.Name)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				loaded(f, r).Values["n"] = 1
				panic(value)
			}))
			got := make(chan any, 1)
			s := serveAll(f, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() {
					got <- recover()
					http.Error(w, "recovered", http.StatusInternalServerError)
				}()
				handler.ServeHTTP(w, r)
			}))
			s.get().wants(500, "recovered\n", 0)
			if p := <-got; p != value {
				t.Errorf("the panic is %v", p)
			}
			f.WantDocuments(0)

			s = serveAll(f, handler)
			if res, err := s.send(s.request(t.Context(), http.MethodGet, "/")); err == nil {
				res.Body.Close()
				t.Errorf("net/http answers with %s", res.Status)
			}
			f.WantDocuments(0)
		})
	}
}

// http.TimeoutHandler outside: a request in time is as without it, one that is late changes
// nothing. Inside: a request in time is as without it.
func TestMiddlewareWithTimeoutHandler(t *testing.T) {
	t.Parallel()
	for _, inside := range []bool{false, true} {
		for _, late := range []bool{false, true} {
			if inside && late {
				continue // the documentation advises against it
			}
			t.Run(fmt.Sprintf("inside %t, late %t", inside, late), func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t)
				returned := make(chan error, 1)
				handler := http.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					loaded(f, r).Values["n"] = 1
					if late {
						<-r.Context().Done()
					}
					_, err := fmt.Fprint(w, "hello")
					returned <- err
				}))
				timeout := time.Minute
				if late {
					timeout = time.Millisecond
				}
				if inside {
					handler = f.Store.Middleware(storetest.Name)(http.TimeoutHandler(handler, timeout, "late"))
				} else {
					handler = http.TimeoutHandler(f.Store.Middleware(storetest.Name)(handler), timeout, "late")
				}
				s := serveAll(f, handler)
				if late {
					s.get().wants(503, "late", 0)
					if err := <-returned; err == nil {
						t.Error("the late handler's Write succeeds")
					}
					f.WantDocuments(0)
				} else {
					s.get().wants(200, "hello", 1)
					f.WantDocuments(1)
				}
			})
		}
	}
}

// TestMiddlewareSavesAfterAFlushThatDidNothing: http.TimeoutHandler's writer cannot flush.
func TestMiddlewareSavesAfterAFlushThatDidNothing(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	s := serveAll(f, http.TimeoutHandler(f.Store.Middleware(storetest.Name)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).Flush(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Flush: %v", err)
		}
		loaded(f, r).Values["n"] = 1
		fmt.Fprint(w, "stored")
	})), time.Minute, "late"))
	s.get().wants(http.StatusOK, "stored", 1)
	f.WantDocuments(1)
}

// TestMiddlewareDiscardsTheHeaderAfterAFailedSave: http.TimeoutHandler sends the header when the handler
// has returned.
func TestMiddlewareDiscardsTheHeaderAfterAFailedSave(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	s := serveAll(f, http.TimeoutHandler(f.Store.Middleware(storetest.Name)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		loaded(f, r).Values["n"] = make(chan int) // cannot be stored
		_, _ = w.Write(nil)
		http.SetCookie(w, &http.Cookie{Name: "late", Value: "1"})
		http.Redirect(w, r, "/stored", http.StatusSeeOther)
	})), time.Minute, "late"))
	p := s.get().wants(http.StatusInternalServerError, "Internal Server Error\n", 0)
	if p.header.Get("Location") != "" || p.header.Get("Set-Cookie") != "" {
		t.Errorf("the header of an error: %v", p.header)
	}
}

// TestMiddlewareKeepsCookiesOutOfSharedCaches, whoever has set the session's cookie.
func TestMiddlewareKeepsCookiesOutOfSharedCaches(t *testing.T) {
	t.Parallel()
	for _, own := range []bool{false, true} {
		f := storetest.Setup(t)
		s := serve(f, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "public, max-age=600")
			http.SetCookie(w, &http.Cookie{Name: "sessions", Value: "x"}) // of another name
			session := loaded(f, r)
			if session.Values["n"] = 1; !own {
				return
			}
			if err := session.Save(r, w); err != nil {
				t.Error(err)
			}
		})
		for _, want := range [][]string{{"public, max-age=600", `no-cache="Set-Cookie"`}, {"public, max-age=600"}} {
			if got := s.get().header["Cache-Control"]; !slices.Equal(got, want) {
				t.Errorf("saved by the handler: %t: Cache-Control %q, want %q", own, got, want)
			}
		}
	}
}

// Early hints go out before the session is saved, and do not count as the response.
func TestMiddlewarePassesInformationalResponses(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	hinted := make(chan struct{})
	s := serve(f, func(w http.ResponseWriter, r *http.Request) {
		session := loaded(f, r)
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		<-hinted
		session.Values["n"] = 1 // in time
		fmt.Fprint(w, "hello")
	})
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		if code != http.StatusEarlyHints || header.Get("Set-Cookie") != "" || header.Get("Link") == "" {
			t.Errorf("informational response %d %v", code, header)
		}
		f.WantDocuments(0)
		close(hinted)
		return nil
	}})
	res, err := s.send(s.request(ctx, http.MethodGet, "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if len(res.Cookies()) != 1 || res.StatusCode != http.StatusOK {
		t.Errorf("response %s with the cookies %v", res.Status, res.Cookies())
	}
	if n := storedValue(f, "n").AsInt64(); n != 1 {
		t.Errorf("n is %d", n)
	}
}

// Events reach the client one by one, and the session is stored before the first.
func TestMiddlewareStreams(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	next := make(chan struct{})
	s := serve(f, func(w http.ResponseWriter, r *http.Request) {
		loaded(f, r).Values["n"] = 1
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			<-next
		}
	})
	res, err := s.send(s.request(t.Context(), http.MethodGet, "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if len(res.Cookies()) != 1 {
		t.Errorf("cookies %v", res.Cookies())
	}
	events := bufio.NewReader(res.Body)
	for i := range 3 {
		line, err := events.ReadString('\n')
		if err != nil || line != fmt.Sprintf("data: %d\n", i) {
			t.Errorf("event %q, error %v", line, err)
		}
		_, _ = events.ReadString('\n')
		f.WantDocuments(1)
		next <- struct{}{}
	}
}

// A connection is handed over after the session was saved, and the session is not saved again.
func TestMiddlewareSavesBeforeAHijack(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	done := make(chan struct{})
	s := serve(f, func(w http.ResponseWriter, r *http.Request) {
		defer close(done)
		session := loaded(f, r)
		session.Values["n"] = 1
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		f.WantDocuments(1)
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: test\r\n")
		_ = w.Header().Write(rw)
		fmt.Fprint(rw, "\r\nhello")
		_ = rw.Flush()
		session.Values["n"] = 2
		if _, err := w.Write([]byte("x")); !errors.Is(err, http.ErrHijacked) {
			t.Errorf("Write after Hijack: %v", err)
		}
	})
	r := s.request(t.Context(), http.MethodGet, "/")
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "test")
	res, err := s.send(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusSwitchingProtocols || len(res.Cookies()) != 1 {
		t.Errorf("response %s with the cookies %v", res.Status, res.Cookies())
	}
	if text, err := io.ReadAll(res.Body); err != nil || string(text) != "hello" {
		t.Errorf("read %q, error %v", text, err)
	}
	<-done
	f.WantCommands("insert")
	if n := storedValue(f, "n").AsInt64(); n != 1 {
		t.Errorf("n is %d", n)
	}
}

// A proxy in the handler passes the other server's response on, early hints included. When the
// save fails, its client gets the error, although the proxy aborts the request.
func TestMiddlewareWithReverseProxy(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		fmt.Fprint(w, "from the other server")
	}))
	defer other.Close()
	target, err := url.Parse(other.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	s := serve(f, func(w http.ResponseWriter, r *http.Request) {
		session := loaded(f, r)
		n, _ := mongostore.Value[int](session, "n")
		session.Values["n"] = n + 1
		proxy.ServeHTTP(w, r)
	})
	s.get().wants(200, "from the other server", 1)
	f.Wire.On("update", refused)
	s.get().wants(503, "Service Unavailable\n", 0)
	if n := storedValue(f, "n").AsInt64(); n != 1 {
		t.Errorf("n is %d", n)
	}
}

// Two sessions of a request are saved each, and one of them that fails replaces the response
// without taking the other's cookie.
func TestMiddlewaresOfSeveralNames(t *testing.T) {
	t.Parallel()
	for _, fails := range []string{"", "cart", "account"} {
		t.Run("fails "+fails, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for _, name := range []string{"cart", "account"} {
					session, err := f.Store.Get(r, name)
					if err != nil {
						t.Error(err)
					}
					if session.Values["n"] = 1; name == fails {
						session.Values["n"] = make(chan int)
					}
				}
				fmt.Fprint(w, "hello")
			})
			s := serveAll(f, f.Store.Middleware("cart")(f.Store.Middleware("account")(handler)))
			p := s.get()
			var names []string
			for _, c := range p.cookies {
				names = append(names, c.Name)
			}
			var want []string
			for _, name := range []string{"account", "cart"} {
				if name != fails {
					want = append(want, name)
				}
			}
			if !slices.Equal(names, want) {
				t.Errorf("cookies of %q, want %q", names, want)
			}
			if fails == "" {
				p.wants(200, "hello", 0)
			} else {
				p.wants(500, "Internal Server Error\n", 0)
			}
			f.WantDocuments(len(want))
		})
	}
}

func TestMiddlewareTwiceSavesOnce(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	twice := f.Store.Middleware(storetest.Name)
	s := serveAll(f, twice(twice(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session := loaded(f, r)
		n, _ := mongostore.Value[int](session, "n")
		session.Values["n"] = n + 1
		fmt.Fprint(w, "hello")
	}))))
	s.get().wants(200, "hello", 1)
	f.WantCommands("insert")
	s.get()
	f.WantCommands("find", "update")
	f.Wire.On("update", refused)
	s.get().wants(503, "Service Unavailable\n", 0)
	f.WantCommands("find", "update")
}

// A session of the old store is stored here by the first page that its visitor sees.
func TestMiddlewareMigrates(t *testing.T) {
	t.Parallel()
	old := sessions.NewCookieStore(signingKey)
	f := storetest.Setup(t, func(cfg *mongostore.Config) { cfg.MigrateFrom = old })
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	session, _ := old.New(r, storetest.Name)
	session.Values["user"] = "ada"
	if err := old.Save(r, w, session); err != nil {
		t.Fatal(err)
	}
	s := serve(f, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, loaded(f, r).Values["user"]) })
	s.visitor.Receive(w)
	s.get().wants(200, "ada", 1)
	if user := storedValue(f, "user").StringValue(); user != "ada" {
		t.Errorf("user %q", user)
	}
}

// Handlers find in the response writer what the server's has, and nothing else.
func TestMiddlewareKeepsTheAbilitiesOfTheResponseWriter(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	for _, tt := range []struct {
		name            string
		w               http.ResponseWriter
		flushes, hijack bool
	}{
		{"none", plainWriter{}, false, false},
		{"flush", flushWriter{}, true, false},
		{"hijack", hijackWriter{}, false, true},
		{"both, wrapped", wrapper{wrapper{bothWriter{}}}, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f.Store.Middleware(storetest.Name)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, flushes := w.(http.Flusher)
				_, hijacks := w.(http.Hijacker)
				if flushes != tt.flushes || hijacks != tt.hijack {
					t.Errorf("Flusher %t, Hijacker %t", flushes, hijacks)
				}
				controller := http.NewResponseController(w)
				if err := controller.Flush(); errors.Is(err, http.ErrNotSupported) == tt.flushes {
					t.Errorf("Flush: %v", err)
				}
				if _, _, err := controller.Hijack(); errors.Is(err, http.ErrNotSupported) == tt.hijack {
					t.Errorf("Hijack: %v", err)
				}
			})).ServeHTTP(tt.w, httptest.NewRequest(http.MethodGet, "/", nil))
		})
	}

	t.Run("net/http", func(t *testing.T) {
		t.Parallel()
		s := serve(f, func(w http.ResponseWriter, _ *http.Request) {
			controller := http.NewResponseController(w)
			for what, err := range map[string]error{
				"SetReadDeadline":  controller.SetReadDeadline(time.Now().Add(time.Hour)),
				"SetWriteDeadline": controller.SetWriteDeadline(time.Now().Add(time.Hour)),
				"EnableFullDuplex": controller.EnableFullDuplex(),
			} {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
		s.get().wants(200, "", 0)
	})

	t.Run("ReadFrom", func(t *testing.T) {
		t.Parallel()
		var w readFromWriter
		f.Store.Middleware(storetest.Name)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, struct{ io.Reader }{strings.NewReader("hello")})
		})).ServeHTTP(&w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.n != 5 {
			t.Errorf("the server's ReadFrom has read %d bytes", w.n)
		}
	})
}

type plainWriter struct{}

func (plainWriter) Header() http.Header         { return http.Header{} }
func (plainWriter) Write(p []byte) (int, error) { return len(p), nil }
func (plainWriter) WriteHeader(int)             {}

type flushWriter struct{ plainWriter }

func (flushWriter) Flush() {}

type hijackWriter struct{ plainWriter }

func (hijackWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, nil }

type bothWriter struct{ hijackWriter }

func (bothWriter) Flush() {}

type wrapper struct{ w http.ResponseWriter }

func (w wrapper) Header() http.Header         { return w.w.Header() }
func (w wrapper) Write(p []byte) (int, error) { return w.w.Write(p) }
func (w wrapper) WriteHeader(code int)        { w.w.WriteHeader(code) }
func (w wrapper) Unwrap() http.ResponseWriter { return w.w }

type readFromWriter struct {
	plainWriter
	n int64
}

func (w *readFromWriter) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(io.Discard, r)
	w.n += n
	return n, err
}

// The example's application withstands what it has no code for.
func TestExampleApplication(t *testing.T) {
	t.Parallel()
	const tryAgain = "Please try again.\n"
	signedIn := func(t *testing.T) (*storetest.Fixture, *site) {
		a := &app{}
		f := storetest.Setup(t, func(c *mongostore.Config) { c.OnError = a.onError })
		a.store = f.Store
		s := serveAll(f, a.handler())
		s.post("/login?user=Ada").wants(303, "", 1)
		return f, s
	}
	t.Run("outage", func(t *testing.T) {
		t.Parallel()
		f, s := signedIn(t)
		f.Wire.On("find", refused)
		f.Wire.On("update", refused)
		f.Wire.On("insert", refused)
		s.get().wants(503, tryAgain, 0)
		s.post("/login?user=Eve").wants(503, tryAgain, 0)
		f.Wire.Heal()
		if p := s.get(); p.body != "Hello, Ada. This is visit 1.\n" {
			t.Errorf("after the outage the page is %d %q", p.status, p.body)
		}
		f.Wire.On("find", refused)
		f.Wire.On("delete", refused)
		s.post("/logout").wants(303, "", 1)
		f.Wire.Heal()
		storetest.Eventually(t, "the session is deleted", func() bool { return len(f.Documents()) == 0 })
	})
	t.Run("late logout", func(t *testing.T) {
		t.Parallel()
		f, s := signedIn(t)
		seen, gate := make(chan struct{}, 1), make(chan struct{})
		f.Wire.On("update", storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: gate})
		late := make(chan *received, 1)
		go func() { late <- s.get() }()
		<-seen
		s.visitor.Clone().Logout()
		close(gate)
		(<-late).wants(401, tryAgain, 0)
		f.WantDocuments(0)
		s.get().wants(200, "Please log in.\n", 0)
	})
	t.Run("damaged document", func(t *testing.T) {
		t.Parallel()
		f, s := signedIn(t)
		f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "values", Value: 1}}}})
		s.get().wants(500, tryAgain, 1)
		f.WantDocuments(0)
		s.get().wants(200, "Please log in.\n", 0)
		s.post("/login?user=Ada").wants(303, "", 1)
		f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "values", Value: 1}}}})
		s.post("/login?user=Ada").wants(500, tryAgain, 1)
		s.post("/login?user=Ada").wants(303, "", 1)
		f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "values", Value: 1}}}})
		s.post("/logout").wants(303, "", 1)
		f.WantDocuments(0)
	})
}

func TestStatusCode(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Cookies[storetest.Name] = "forged"
	_, errCookie := f.Store.Get(b.Request(), storetest.Name)
	_, errFetch := f.Store.Fetch(t.Context(), storetest.Name, "unknown")
	for _, tt := range []struct {
		err  error
		want int
	}{
		{nil, 200},
		{mongostore.ErrUnavailable, 503},
		{fmt.Errorf("%w: %w", mongostore.ErrUnavailable, errCookie), 503},
		{fmt.Errorf("save: %w", mongostore.ErrGone), 401},
		{errFetch, 401},
		{errCookie, 401},
		{mongostore.ErrConflict, 409},
		{mongostore.ErrTooLarge, 413},
		{mongostore.ErrCorrupt, 500},
		{securecookie.DecodeMulti(storetest.Name, "", new(string)), 500}, // no codecs
		{io.EOF, 500},
	} {
		if got := mongostore.StatusCode(tt.err); got != tt.want {
			t.Errorf("%v: status %d, want %d", tt.err, got, tt.want)
		}
	}
}

func TestValue(t *testing.T) {
	t.Parallel()
	session := sessions.NewSession(nil, storetest.Name)
	session.Values["user"], session.Values[7], session.Values["nil"] = "ada", 42, nil
	if v, ok := mongostore.Value[string](session, "user"); v != "ada" || !ok {
		t.Errorf("a string: %q %t", v, ok)
	}
	if v, ok := mongostore.Value[int](session, 7); v != 42 || !ok {
		t.Errorf("under a key that is no string: %d %t", v, ok)
	}
	if v, ok := mongostore.Value[fmt.Stringer](session, "user"); v != nil || ok {
		t.Errorf("another type: %v %t", v, ok)
	}
	if v, ok := mongostore.Value[int](session, "absent"); v != 0 || ok {
		t.Errorf("an absent key: %d %t", v, ok)
	}
	if v, ok := mongostore.Value[any](session, "nil"); v != nil || ok {
		t.Errorf("nil: %v %t", v, ok)
	}
	session.Values = nil
	if _, ok := mongostore.Value[string](session, "user"); ok {
		t.Error("Values are nil")
	}
}

// TestMiddlewareTouchThatFailedIsNoIgnoredError: the handler has called no Save.
func TestMiddlewareTouchThatFailedIsNoIgnoredError(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	var s *site
	s = serve(f, func(w http.ResponseWriter, r *http.Request) {
		user := loaded(f, r).Values["user"]
		s.Wire.On("update", refused)
		fmt.Fprint(w, user)
	})
	s.visitor.Login()
	f.Age(48 * time.Hour)
	s.get().wants(200, "ada", 0)
	if strings.Contains(f.Text.String(), "the handler responded as if it was") {
		t.Errorf("the log has %s", f.Text)
	}
}

// TestMiddlewareSavesWithRepairedOptions after a failed Save.
func TestMiddlewareSavesWithRepairedOptions(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	s := serve(f, func(w http.ResponseWriter, r *http.Request) {
		session := loaded(f, r)
		session.Values["n"] = 1
		session.Options.SameSite, session.Options.Secure = http.SameSiteNoneMode, false
		if err := session.Save(r, w); err == nil {
			t.Error("saved")
		}
		session.Options.Secure = true
	})
	s.get().wants(200, "", 1)
	f.WantDocuments(1)
}

// TestMiddlewareReportsAChangeThatCannotBeStored after a Save that failed for another reason.
func TestMiddlewareReportsAChangeThatCannotBeStored(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OnConflict = mongostore.ConflictReject })
	var s *site
	s = serve(f, func(w http.ResponseWriter, r *http.Request) {
		session := loaded(f, r)
		s.visitor.Clone().Visit(storetest.SetValue("n", 2))
		session.Values["n"] = 1
		if err := session.Save(r, w); err == nil {
			t.Error("saved")
		}
		session.Values["n"] = 2
		session.Values["x"] = make(chan int)
		fmt.Fprint(w, "stored")
	})
	s.visitor.Login()
	s.get().wants(500, "Internal Server Error\n", 0)
}

// TestMiddlewareIsSilentAboutARemovedSession whose Save failed before.
func TestMiddlewareIsSilentAboutARemovedSession(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	s := serve(f, func(w http.ResponseWriter, r *http.Request) {
		session := loaded(f, r)
		session.Values["n"] = 1
		if err := session.Save(r, w); err == nil {
			t.Error("saved")
		}
		if err := f.Store.Remove(r.Context(), session); err != nil {
			t.Error(err)
		}
	})
	s.visitor.Login()
	f.Wire.On("update", storetest.Rule{Kind: storetest.Answer, Once: true, Reply: storetest.Refusal(13, "Unauthorized")})
	s.get()
	if f.Text.String() != "" {
		t.Errorf("the log has %s", f.Text)
	}
}
