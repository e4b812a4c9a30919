package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// The contract of gorilla/sessions, as real callers use it.

// guest is a browser over real HTTPS, with a cookie jar.
type guest struct {
	t      *testing.T
	client *http.Client
	site   *url.URL
	got    []*http.Cookie // set by the last response
}

func browse(t *testing.T, handler http.Handler) *guest {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	site, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	v := &guest{t: t, client: server.Client(), site: site}
	v.client.Jar = jar
	return v
}

// get asks for a page and returns its text.
func (v *guest) get(path string) string {
	v.t.Helper()
	resp, err := v.client.Get(v.site.String() + path)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	v.got = resp.Cookies()
	return fmt.Sprintf("%d %s", resp.StatusCode, text)
}

// application is a site that knows nothing of its store but the interface.
func application(store sessions.Store) http.Handler {
	mux := http.NewServeMux()
	page := func(path string, handle func(http.ResponseWriter, *http.Request, *sessions.Session) string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			session, err := store.Get(r, storetest.Name)
			var bad securecookie.Error
			text := handle(w, r, session)
			fmt.Fprintf(w, "%s; new %t, bad cookie %t", text, session.IsNew, errors.As(err, &bad) && bad.IsDecode())
		})
	}
	save := func(w http.ResponseWriter, r *http.Request, session *sessions.Session) string {
		if err := session.Save(r, w); err != nil {
			return "not saved"
		}
		return "saved"
	}
	page("/look", func(_ http.ResponseWriter, _ *http.Request, s *sessions.Session) string {
		var values []string // fmt orders keys of several types as it likes
		for key, v := range s.Values {
			values = append(values, fmt.Sprintf("%v: %T %v", key, v, v))
		}
		slices.Sort(values)
		return fmt.Sprintf("%q", values)
	})
	page("/set/{key}/{value}", func(w http.ResponseWriter, r *http.Request, s *sessions.Session) string {
		s.Values[r.PathValue("key")] = r.PathValue("value")
		return save(w, r, s)
	})
	page("/types", func(w http.ResponseWriter, r *http.Request, s *sessions.Session) string {
		s.Values[7], s.Values["cart"] = int8(-3), cart{Items: []item{{"tea", 2}}}
		return save(w, r, s)
	})
	page("/clear", func(w http.ResponseWriter, r *http.Request, s *sessions.Session) string {
		clear(s.Values)
		return save(w, r, s)
	})
	page("/flash", func(w http.ResponseWriter, r *http.Request, s *sessions.Session) string {
		s.AddFlash("hello")
		s.AddFlash(cart{Items: []item{{"tea", 1}}})
		s.AddFlash("other", "key")
		return save(w, r, s)
	})
	page("/flashes", func(w http.ResponseWriter, r *http.Request, s *sessions.Session) string {
		return fmt.Sprintln(s.Flashes(), s.Flashes("key"), save(w, r, s))
	})
	page("/glance", func(_ http.ResponseWriter, _ *http.Request, s *sessions.Session) string {
		return fmt.Sprint(s.Flashes()) // without a save, they stay
	})
	page("/logout", func(w http.ResponseWriter, r *http.Request, s *sessions.Session) string {
		s.Options.MaxAge = -1
		return save(w, r, s)
	})
	page("/browser", func(w http.ResponseWriter, r *http.Request, s *sessions.Session) string {
		s.Options.MaxAge = 0
		return save(w, r, s)
	})
	page("/chan", func(w http.ResponseWriter, r *http.Request, s *sessions.Session) string {
		s.Values["chan"] = make(chan int)
		return save(w, r, s)
	})
	page("/all", func(w http.ResponseWriter, r *http.Request, s *sessions.Session) string {
		other, _ := store.Get(r, "other")
		s.Values["n"], other.Values["n"] = 1, 2
		return fmt.Sprintln(sessions.Save(r, w), s.Name(), other.Name(), s.Store() == store)
	})
	page("/other", func(_ http.ResponseWriter, r *http.Request, _ *sessions.Session) string {
		other, _ := store.Get(r, "other")
		return fmt.Sprintln(other.Values, other.IsNew)
	})
	return mux
}

// TestDropIn: an application sees no difference between gorilla's CookieStore and this one.
func TestDropIn(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	own := sessions.Options{Path: "/", MaxAge: 3600, HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode}
	before := sessions.NewCookieStore(storetest.SigningKey)
	before.Options = &own
	f.Store.Options = before.Options

	const tamper = "(the cookie is altered)"
	script := []struct{ path, want string }{
		{"/look", `[]; new true, bad cookie false`},
		{"/logout", `saved; new true, bad cookie false`},
		{"/set/user/ada", `saved; new true, bad cookie false`},
		{"/look", `["user: string ada"]; new false, bad cookie false`},
		{"/types", `saved; new false, bad cookie false`},
		{"/look", `["7: int8 -3" "cart: mongostore_test.cart {[{tea 2}] map[]}" "user: string ada"]; new false, bad cookie false`},
		{"/chan", `not saved; new false, bad cookie false`},
		{"/clear", `saved; new false, bad cookie false`},
		{"/look", `[]; new false, bad cookie false`},
		{"/flash", `saved; new false, bad cookie false`},
		{"/glance", `[hello {[{tea 1}] map[]}]; new false, bad cookie false`},
		{"/flashes", "[hello {[{tea 1}] map[]}] [other] saved\n; new false, bad cookie false"},
		{"/flashes", "[] [] saved\n; new false, bad cookie false"},
		{"/all", "<nil> session other true\n; new false, bad cookie false"},
		{"/look", `["n: int 1"]; new false, bad cookie false`},
		{"/other", "map[n:2] false\n; new false, bad cookie false"},
		{tamper, ""},
		{"/look", `[]; new true, bad cookie true`},
		{"/set/user/bob", `saved; new true, bad cookie true`},
		{"/look", `["user: string bob"]; new false, bad cookie false`},
		{"/browser", `saved; new false, bad cookie false`},
		{"/look", `["user: string bob"]; new false, bad cookie false`},
		{"/logout", `saved; new false, bad cookie false`},
		{"/look", `[]; new true, bad cookie false`},
	}
	cookies := map[string]map[string]string{}
	for what, store := range map[string]sessions.Store{"CookieStore": before, "mongostore": f.Store} {
		v := browse(t, application(store))
		cookies[what] = map[string]string{}
		for i, step := range script {
			if step.path == tamper {
				v.client.Jar.SetCookies(v.site, []*http.Cookie{{Name: storetest.Name, Value: "forged", Path: "/", Secure: true}})
				continue
			}
			if got := v.get(step.path); got != "200 "+step.want {
				t.Errorf("%s, step %d, %s: %q, want %q", what, i, step.path, got, step.want)
			}
			slices.SortFunc(v.got, func(a, b *http.Cookie) int { return strings.Compare(a.Name, b.Name) })
			for _, c := range v.got {
				c.Value, c.Expires, c.RawExpires, c.Raw = "", c.Expires.Truncate(24*time.Hour), "", ""
				cookies[what][fmt.Sprint(i, step.path, " ", c.Name)] = c.String()
			}
		}
	}
	// A cookie has the attributes that CookieStore's has, and comes where the ID or MaxAge changes.
	var set []string
	for step, got := range cookies["mongostore"] {
		set = append(set, step)
		if want := cookies["CookieStore"][step]; got != want {
			t.Errorf("step %s: cookie %q, want %q", step, got, want)
		}
	}
	slices.Sort(set)
	want := []string{
		"1/logout session", "13/all other", "18/set/user/bob session", "2/set/user/ada session",
		"20/browser session", "22/logout session",
	}
	if !slices.Equal(set, want) {
		t.Errorf("cookies at %q, want %q", set, want)
	}
}

// TestNestedMiddlewareSharesOneSession: a middleware and the handler within it use one session,
// whatever requests were derived between them.
func TestNestedMiddlewareSharesOneSession(t *testing.T) {
	t.Parallel()
	derive := func(r *http.Request) *http.Request {
		return r.WithContext(context.WithValue(r.Context(), derived{}, true))
	}
	get := func(f *storetest.Fixture, r *http.Request) *sessions.Session {
		t.Helper()
		s, err := f.Store.Get(r, storetest.Name)
		if err != nil {
			t.Error(err)
		}
		return s
	}
	save := func(s *sessions.Session, r *http.Request, w http.ResponseWriter) {
		t.Helper()
		if err := s.Save(r, w); err != nil {
			t.Error(err)
		}
	}
	for _, row := range []struct {
		name     string
		request  func(*storetest.Fixture, *http.Request, http.ResponseWriter)
		returns  bool // the visitor has a session
		cookies  int
		docs     int
		want     string
		commands []string
	}{
		{
			name: "both save", cookies: 1, docs: 1, want: "map[after:3 before:1 inner:2]",
			commands: []string{"insert", "update"},
			request: func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter) {
				outer := get(f, r)
				outer.Values["before"] = 1
				inner := get(f, derive(r))
				if inner != outer {
					t.Error("two sessions")
				}
				inner.Values["inner"] = 2
				save(inner, derive(r), w)
				outer.Values["after"] = 3
				save(outer, r, w)
			},
		},
		{
			name: "both save what is stored", returns: true, cookies: 0, docs: 1, want: "map[after:3 inner:2 user:ada]",
			commands: []string{"find", "update", "update"},
			request: func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter) {
				outer := get(f, r)
				inner := get(f, derive(derive(r)))
				inner.Values["inner"] = 2
				save(inner, derive(derive(r)), w)
				outer.Values["after"] = 3
				save(outer, r, w)
			},
		},
		{
			name: "only the outer one saves", cookies: 1, docs: 1, want: "map[inner:2]",
			commands: []string{"insert"},
			request: func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter) {
				outer := get(f, r)
				get(f, derive(r)).Values["inner"] = 2
				save(outer, r, w)
			},
		},
		{
			name: "the handler renews", returns: true, cookies: 1, docs: 1, want: "map[after:3 inner:2 user:ada]",
			commands: []string{"find", "insert", "update", "update"},
			request: func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter) {
				outer := get(f, r)
				inner := get(f, derive(r))
				inner.Values["inner"] = 2
				if err := f.Store.Renew(derive(r), w, inner); err != nil {
					t.Error(err)
				}
				outer.Values["after"] = 3
				save(outer, r, w)
			},
		},
		{
			// A Save in the outer one must not bring it back.
			name: "the handler logs out", returns: true, cookies: 1, docs: 0, want: "map[]",
			commands: []string{"find", "delete"},
			request: func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter) {
				outer := get(f, r)
				inner := get(f, derive(r))
				inner.Options.MaxAge = -1
				save(inner, derive(r), w)
				outer.Values["after"] = 3
				save(outer, r, w)
			},
		},
		{
			// Then gorilla's registry is in the derived request alone. Of a session
			// that is stored the two are merged.
			name: "derived before the first Get", returns: true, cookies: 0, docs: 1, want: "map[inner:2 outer:1 user:ada]",
			commands: []string{"find", "find", "update", "update"},
			request: func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter) {
				r2 := derive(r)
				outer, inner := get(f, r), get(f, r2)
				if inner == outer {
					t.Error("one session; gorilla's registry has changed")
				}
				inner.Values["inner"] = 2
				save(inner, r2, w)
				outer.Values["outer"] = 1
				save(outer, r, w)
			},
		},
		{
			// For a new visitor each creates a session, and as with CookieStore the last
			// cookie is used.
			name: "derived before the first Get, new", cookies: 2, docs: 2, want: "map[outer:1]",
			commands: []string{"insert", "insert"},
			request: func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter) {
				r2 := derive(r)
				outer, inner := get(f, r), get(f, r2)
				inner.Values["inner"] = 2
				save(inner, r2, w)
				outer.Values["outer"] = 1
				save(outer, r, w)
			},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			b := f.Browser()
			if row.returns {
				b.Login()
			}
			f.Log.Reset()
			r, w := b.Request(), httptest.NewRecorder()
			row.request(f, r, w)
			f.WantCommands(row.commands...)
			if n := len(w.Header()["Set-Cookie"]); n != row.cookies {
				t.Errorf("%d cookies set, want %d: %q", n, row.cookies, w.Header()["Set-Cookie"])
			}
			b.Receive(w)
			f.WantDocuments(row.docs)
			if got := fmt.Sprint(b.Load().Values); got != row.want {
				t.Errorf("values: %s, want %s", got, row.want)
			}
		})
	}
}

// TestSaveOfAllStoresWhatItCan: of the sessions that gorilla saves together, those that can be stored
// are, with their cookies, and each other one is an error and sets no cookie.
func TestSaveOfAllStoresWhatItCan(t *testing.T) {
	t.Parallel()
	one, two := storetest.Setup(t), storetest.Setup(t, impatient)
	b := one.Browser().Login()
	r, w := b.Request(), httptest.NewRecorder()
	for store, names := range map[*mongostore.Store][]string{one.Store: {"a", "b", "bad", storetest.Name}, two.Store: {"down"}} {
		for _, n := range names {
			s, err := store.Get(r, n)
			if err != nil {
				t.Fatal(err)
			}
			s.Values["n"] = n
			if n == "bad" {
				s.Values["n"] = func() {}
			}
		}
	}
	b.Logout() // in another window
	two.Wire.On("insert", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")})

	err := sessions.Save(r, w)
	var several sessions.MultiError
	if !errors.As(err, &several) || len(several) != 3 {
		t.Fatalf("error: %v", err)
	}
	var texts []string
	for _, err := range several {
		texts = append(texts, err.Error())
		// gorilla keeps only the text, so an application that needs to distinguish errors saves
		// each session separately.
		if errors.Is(err, mongostore.ErrGone) || errors.Is(err, mongostore.ErrUnavailable) {
			t.Error("gorilla wraps errors now: say so where it says that it does not")
		}
	}
	all := strings.Join(texts, "\n")
	for session, cause := range map[string]string{
		"bad": `value of key "n", type func()`, storetest.Name: mongostore.ErrGone.Error(), "down": mongostore.ErrUnavailable.Error(),
	} {
		if !strings.Contains(all, fmt.Sprintf("session %q -- ", session)) || !strings.Contains(all, cause) {
			t.Errorf("no error of %s: %s", session, all)
		}
	}
	var set []string
	for _, c := range w.Result().Cookies() {
		set = append(set, c.Name)
	}
	if slices.Sort(set); !slices.Equal(set, []string{"a", "b"}) {
		t.Errorf("cookies set: %q", set)
	}
	one.WantDocuments(2)
	two.WantDocuments(0)
	b.Receive(w)
	for _, n := range set {
		if s, err := one.Store.New(b.Request(), n); err != nil || s.Values["n"] != n {
			t.Errorf("%s: %v, %v", n, s.Values, err)
		}
	}
}

// elsewhere is a store with the same keys on the same collection of another database.
func elsewhere(f *storetest.Fixture) *storetest.Fixture {
	f.T.Helper()
	g := *f
	g.Cfg.Database += "_elsewhere"
	g.Coll = f.Coll.Database().Client().Database(g.Cfg.Database).Collection(f.Coll.Name())
	f.T.Cleanup(func() { _ = g.Coll.Drop(context.WithoutCancel(f.T.Context())) })
	g.Store = g.Open()
	return &g
}

// TestStoreSavesNoSessionOfAnotherCollection: two stores that share a name share a request's session,
// against gorilla's advice and ours. A store that did not load a session looks its ID up. If that is
// not its own, it stores nothing and sets no cookie, and what the other one holds stays.
func TestStoreSavesNoSessionOfAnotherCollection(t *testing.T) {
	t.Parallel()
	for what, second := range map[string]func(*testing.T, *storetest.Fixture) *storetest.Fixture{
		"of another collection": func(t *testing.T, _ *storetest.Fixture) *storetest.Fixture { return storetest.Setup(t) },
		"of another database":   func(_ *testing.T, f *storetest.Fixture) *storetest.Fixture { return elsewhere(f) },
	} {
		// both returns the session of a visitor of the first store, loaded by both.
		both := func(t *testing.T) (one, two *storetest.Fixture, b *storetest.Browser, session *sessions.Session, r *http.Request) {
			t.Helper()
			one = storetest.Setup(t)
			two = second(t, one)
			b = one.Browser().Login()
			r = b.Request()
			session, err := one.Store.Get(r, storetest.Name)
			if err != nil {
				t.Fatal(err)
			}
			if s, err := two.Store.Get(r, storetest.Name); s != session || err != nil || s.Store() != sessions.Store(two.Store) {
				t.Fatalf("the registry has given another session: %v", err)
			}
			return one, two, b, session, r
		}
		t.Run(what+", saved by the second", func(t *testing.T) {
			t.Parallel()
			one, two, b, session, r := both(t)
			before, w := one.Document(), httptest.NewRecorder()
			session.Values["n"] = 1
			if err := sessions.Save(r, w); err == nil || !strings.Contains(err.Error(), mongostore.ErrGone.Error()) {
				t.Errorf("error: %v", err)
			}
			if lines := w.Header()["Set-Cookie"]; lines != nil {
				t.Errorf("cookies set: %q", lines)
			}
			if doc := one.Document(); string(doc) != string(before) {
				t.Errorf("the first store's document has changed: %v", doc)
			}
			two.WantDocuments(0)
			if s := b.Load(); s.Values["user"] != "ada" {
				t.Errorf("the first store's session holds %v", s.Values)
			}
			b.Store = two.Store
			if s := b.Load(); !s.IsNew {
				t.Errorf("the second store has a session: %v", s.Values)
			}
		})
		t.Run(what+", saved by both, twice", func(t *testing.T) {
			t.Parallel()
			one, two, b, session, r := both(t)
			for i := range 2 {
				session.Values["n"] = i
				if err := one.Store.Save(r, httptest.NewRecorder(), session); err != nil {
					t.Errorf("round %d, the first store: %v", i, err)
				}
				w := httptest.NewRecorder()
				if err := two.Store.Save(r, w, session); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
					t.Errorf("round %d, the second store: %v", i, err)
				}
				if s := b.Load(); s.Values["user"] != "ada" || s.Values["n"] != i {
					t.Errorf("round %d: %v", i, s.Values)
				}
			}
			one.WantDocuments(1)
			two.WantDocuments(0)
		})
		t.Run(what+", ended by each", func(t *testing.T) {
			t.Parallel()
			one, two, b, session, r := both(t)
			session.Options.MaxAge = -1
			if err := two.Store.Save(r, httptest.NewRecorder(), session); err != nil {
				t.Fatal(err)
			}
			if b.Load().IsNew {
				t.Error("the second store has reached into the first one's collection")
			}
			if err := one.Store.Save(r, httptest.NewRecorder(), session); err != nil {
				t.Fatal(err)
			}
			if !b.Load().IsNew {
				t.Error("the session is alive")
			}
			one.WantDocuments(0)
			two.WantDocuments(0)
		})
	}
	// Two stores on one collection: the second one merges, and ends the session.
	t.Run("of the same collection, saved by the second", func(t *testing.T) {
		t.Parallel()
		f := storetest.Setup(t)
		b := f.Browser().Login()
		b.Do(func(s *sessions.Session) { s.Values["cart"] = 1 })
		session, id := b.Load(), b.CookieID()
		b.Do(func(s *sessions.Session) { s.Values["theirs"] = 1 })
		session.Values["ours"] = 2
		delete(session.Values, "cart")
		second := f.Open()
		f.Log.Reset()
		if err := second.Save(b.Request(), httptest.NewRecorder(), session); err != nil {
			t.Fatal(err)
		}
		f.WantCommands("update")
		f.WantDocuments(1)
		if s := b.Load(); s.ID != id || fmt.Sprint(s.Values) != "map[ours:2 theirs:1 user:ada]" {
			t.Errorf("values: %v", s.Values)
		}
	})
	t.Run("of the same collection, ended by the second", func(t *testing.T) {
		t.Parallel()
		f := storetest.Setup(t)
		b := f.Browser().Login()
		session := b.Load()
		session.Options.MaxAge = -1
		if err := f.Open().Save(b.Request(), httptest.NewRecorder(), session); err != nil {
			t.Fatal(err)
		}
		f.WantDocuments(0)
		if !b.Load().IsNew {
			t.Error("the session is alive")
		}
	})
	// gorilla's own store beside this one.
	t.Run("from CookieStore", func(t *testing.T) {
		t.Parallel()
		f := storetest.Setup(t)
		b := f.Browser()
		b.Cookies[storetest.Name] = cookieStoreCookie(t)
		old := sessions.NewCookieStore(storetest.SigningKey)
		r, w := b.Request(), httptest.NewRecorder()
		first, err := old.Get(r, storetest.Name)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := f.Store.Get(r, storetest.Name); s != first || err != nil {
			t.Fatalf("the registry has given another session: %v", err)
		}
		if err := sessions.Save(r, w); err != nil {
			t.Fatal(err)
		}
		b.Receive(w)
		if s := b.Load(); s.Values["user"] != "ada" {
			t.Errorf("values: %v", s.Values)
		}
		if s, err := old.New(b.Request(), storetest.Name); err == nil || !s.IsNew || len(s.Values) > 0 {
			t.Errorf("CookieStore reads an ID as a session: %v, %v", s.Values, err)
		}
	})
	t.Run("to CookieStore", func(t *testing.T) {
		t.Parallel()
		f := storetest.Setup(t)
		b := f.Browser().Login()
		before, copied := f.Document(), b.Clone()
		old := sessions.NewCookieStore(storetest.SigningKey)
		r, w := b.Request(), httptest.NewRecorder()
		if _, err := f.Store.Get(r, storetest.Name); err != nil {
			t.Fatal(err)
		}
		first, err := old.Get(r, storetest.Name)
		if err != nil {
			t.Fatal(err)
		}
		first.Values["n"] = 1
		if err := sessions.Save(r, w); err != nil {
			t.Fatal(err)
		}
		b.Receive(w)
		if s, err := old.New(b.Request(), storetest.Name); err != nil || s.Values["user"] != "ada" || s.Values["n"] != 1 {
			t.Errorf("values: %v, %v", s.Values, err)
		}
		if s, err := f.Store.New(b.Request(), storetest.Name); err == nil || !s.IsNew {
			t.Errorf("a CookieStore's values are read as an ID: %v, %v", s.Values, err)
		}
		if doc := f.Document(); string(doc) != string(before) || copied.Load().Values["user"] != "ada" {
			t.Error("the document has changed")
		}
	})
}

// TestKeptSessionStaysKnown: a session that an application holds is known to its store for as
// long as it is held, and is what it was.
func TestKeptSessionStaysKnown(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	kept := b.Load()
	id := kept.ID
	for i := range 3 {
		for range 3 { // weak references to what nobody holds are gone
			runtime.GC()
		}
		b.Do(func(s *sessions.Session) { s.Values["theirs"] = i }) // requests go on meanwhile
		f.Log.Reset()
		kept.Values["kept"] = i
		if _, err := b.Save(kept); err != nil {
			t.Fatal(err)
		}
		f.WantCommands("update")
	}
	if s := b.Load(); kept.ID != id || s.Values["theirs"] != 2 || s.Values["kept"] != 2 {
		t.Errorf("values: %v", s.Values)
	}
	// Saved for another visitor's response, it is not that visitor's: it needs no cookie.
	guest := f.Browser()
	if w, err := guest.Save(kept); err != nil || w.Header()["Set-Cookie"] != nil {
		t.Errorf("for another visitor: %v, %v", err, w.Header())
	}
	f.WantDocuments(1)
	b.Logout()
	if _, err := guest.Save(kept); err != nil && !errors.Is(err, mongostore.ErrGone) {
		t.Error(err)
	}
	kept.Values["kept"] = 4
	if _, err := guest.Save(kept); !errors.Is(err, mongostore.ErrGone) {
		t.Errorf("after the logout: %v", err)
	}
	f.WantDocuments(0)
}

// TestCopyOfASessionIsSavedOntoIt: a copy is looked up by its ID. What it holds is what the document
// holds then, its logout ends the session, and afterwards it does not bring it back.
func TestCopyOfASessionIsSavedOntoIt(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	b.Do(func(s *sessions.Session) { s.Values["cart"] = 1 })
	session := b.Load()
	copied := *session
	copied.Values = maps.Clone(session.Values)
	copied.Values["n"] = 1
	delete(copied.Values, "cart")
	f.Log.Reset()
	if w, err := b.Save(&copied); err != nil || w.Header()["Set-Cookie"] != nil {
		t.Errorf("the copy: %v, %v", err, w.Header())
	}
	f.WantCommands("find", "update")
	f.WantDocuments(1)
	if s := b.Load(); s.ID != session.ID || fmt.Sprint(s.Values) != "map[n:1 user:ada]" {
		t.Errorf("stored: %v", s.Values)
	}
	ending, late := *session, *session
	ending.Options = &sessions.Options{MaxAge: -1}
	if _, err := b.Clone().Save(&ending); err != nil {
		t.Fatal(err)
	}
	if !b.Load().IsNew {
		t.Error("the session is alive")
	}
	late.Values = maps.Clone(session.Values)
	late.Values["late"] = true
	for what, s := range map[string]*sessions.Session{"the original": session, "the copy": &copied, "a late copy": &late} {
		s.Values["late"] = true
		if w, err := b.Clone().Save(s); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
			t.Errorf("%s, after the logout: %v", what, err)
		}
	}
	f.WantDocuments(0)
}

// TestReplacedValuesAreSaved: what counts is what Values hold when the session is saved, whichever map
// that is.
func TestReplacedValuesAreSaved(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Do(func(s *sessions.Session) { s.Values["a"], s.Values["b"] = 1, []any{"x"} })
	f.Log.Reset()
	b.Do(func(s *sessions.Session) { s.Values = maps.Clone(s.Values) })
	b.Do(func(s *sessions.Session) { s.Values = map[any]any{"b": []any{"x"}, "a": 1} })
	f.WantCommands("find", "find")
	b.Do(func(s *sessions.Session) { s.Values = map[any]any{"b": []any{"x"}, "c": 2} })
	f.WantCommands("find", "update")
	if s := b.Load(); fmt.Sprint(s.Values) != "map[b:[x] c:2]" {
		t.Errorf("values: %v", s.Values)
	}
	// A key that another request adds meanwhile stays: this one has never had it.
	slow := b.Load()
	b.Do(func(s *sessions.Session) { s.Values["theirs"] = 3 })
	slow.Values = map[any]any{"mine": 4}
	if _, err := b.Save(slow); err != nil {
		t.Fatal(err)
	}
	if s := b.Load(); fmt.Sprint(s.Values) != "map[mine:4 theirs:3]" {
		t.Errorf("values: %v", s.Values)
	}
	// Two sessions with one map.
	r, w := b.Request(), httptest.NewRecorder()
	one, err := f.Store.Get(r, storetest.Name)
	if err != nil {
		t.Fatal(err)
	}
	two, err := f.Store.Get(r, "two")
	if err != nil {
		t.Fatal(err)
	}
	two.Values = one.Values
	two.Values["shared"] = true
	if err := sessions.Save(r, w); err != nil {
		t.Fatal(err)
	}
	b.Receive(w)
	for _, n := range []string{storetest.Name, "two"} {
		if s, err := f.Store.New(b.Request(), n); err != nil || fmt.Sprint(s.Values) != "map[mine:4 shared:true theirs:3]" {
			t.Errorf("%s: %v, %v", n, s.Values, err)
		}
	}
	// Fewer than none: nil, and the session is there still.
	b.Do(func(s *sessions.Session) { s.Values = nil })
	if s := b.Load(); s.IsNew || s.Values == nil || len(s.Values) != 0 {
		t.Errorf("after nil: %+v", s)
	}
}

// TestReplacedOptionsCount: the pointer may be different, shared, or nil. The store changes only
// options that it created itself.
func TestReplacedOptionsCount(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()

	// Replaced: all of it counts, nothing is taken from the store's.
	c := b.Do(func(s *sessions.Session) { s.Options = &sessions.Options{Path: "/app", MaxAge: 1800} })
	if c.Path != "/app" || c.MaxAge != 1800 || c.HttpOnly || c.Secure || c.SameSite != 0 {
		t.Errorf("cookie: %v", c)
	}
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(30*time.Minute))

	// nil: those with which it was loaded, the store's and its own MaxAge.
	if c = b.Do(func(s *sessions.Session) { s.Options = nil }); c != nil {
		t.Errorf("cookie: %v", c)
	}
	f.Age(10 * time.Minute)
	c = b.Do(func(s *sessions.Session) { s.Options = nil })
	if c == nil || c.Path != "/" || c.MaxAge != 1800 || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("cookie: %v", c)
	}
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(30*time.Minute))

	// Shared: by two visitors, through saves, a renewal that merges another request's
	// MaxAge, and a load.
	shared := &sessions.Options{Path: "/shared", MaxAge: 7200, Secure: true}
	want := *shared
	other := f.Browser().Login()
	mine, theirs := b.Load(), other.Load()
	b.Clone().Do(func(s *sessions.Session) { s.Options.MaxAge = 600 })
	mine.Options, theirs.Options = shared, shared
	shared.MaxAge = 1800 // as before, so that the renewal merges the 600
	want.MaxAge = shared.MaxAge
	if _, err := b.Renew(mine); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Save(theirs); err != nil {
		t.Fatal(err)
	}
	if *shared != want || theirs.Options != shared {
		t.Errorf("shared options were changed: %+v, want %+v", *shared, want)
	}
	if mine.Options.MaxAge != 600 || mine.Options.Path != "/shared" {
		t.Errorf("after the renewal: %+v", *mine.Options)
	}
	if s := other.Load(); s.Options.MaxAge != 1800 {
		t.Errorf("the other visitor's MaxAge: %d", s.Options.MaxAge)
	}

	// The store's own, put into a session: a logout sets them, and that is the
	// application's doing; the store itself never does.
	before := *f.Store.Options
	session := b.Load()
	session.Options = f.Store.Options
	if _, err := b.Save(session); err != nil {
		t.Fatal(err)
	}
	b.Load().Options.MaxAge = -1 // of a session that is not even saved
	if *f.Store.Options != before {
		t.Errorf("the store's options were changed: %+v", *f.Store.Options)
	}
}

// everybody is a session that is not on the heap, where a weak reference is another matter.
var everybody sessions.Session

// TestSessionMadeByHandIsSaved: a session that the application created itself, by gorilla's
// constructor or as part of another value, can be saved, saved again, loaded and ended.
func TestSessionMadeByHandIsSaved(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	everybody = *sessions.NewSession(f.Store, storetest.Name)
	type account struct {
		number  int
		session sessions.Session
	}
	wrapped := &account{number: 7, session: *sessions.NewSession(f.Store, storetest.Name)}
	for what, session := range map[string]*sessions.Session{
		"NewSession":         sessions.NewSession(f.Store, storetest.Name),
		"of no store":        sessions.NewSession(nil, storetest.Name),
		"of another store":   sessions.NewSession(sessions.NewCookieStore(storetest.SigningKey), storetest.Name),
		"part of a struct":   &wrapped.session,
		"a package variable": &everybody,
	} {
		b := f.Browser()
		session.Values["user"] = what
		f.Log.Reset()
		w, err := b.Save(session)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		// Its options are gorilla's zero ones, unlike those of Get and New.
		if c := w.Result().Cookies()[0]; c.MaxAge != 0 || c.Secure || c.HttpOnly || c.Path != "" {
			t.Errorf("%s: cookie %v", what, c)
		}
		for range 2 {
			runtime.GC()
		}
		session.Values["again"] = true
		if _, err := b.Save(session); err != nil {
			t.Errorf("%s, again: %v", what, err)
		}
		f.WantCommands("insert", "update")
		if s := b.Load(); s.Values["user"] != what || s.Values["again"] != true || s.ID != session.ID {
			t.Errorf("%s: %+v", what, s)
		}
		session.Options.MaxAge = -1
		if _, err := b.Save(session); err != nil {
			t.Errorf("%s, ended: %v", what, err)
		}
	}
	f.WantDocuments(0)

	// Without a name there is no cookie for it.
	w := httptest.NewRecorder()
	if err := f.Store.Save(f.Browser().Request(), w, &sessions.Session{}); err == nil || w.Header()["Set-Cookie"] != nil {
		t.Errorf("no name: %v", err)
	}
	f.WantDocuments(0)
}

// TestCookieIsGorillas: the cookie has every attribute of sessions.NewCookie with the session's
// options.
func TestCookieIsGorillas(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	for _, own := range []sessions.Options{
		{},
		{Path: "/"},
		{Path: "/a", Domain: "example.com", MaxAge: 60, HttpOnly: true, SameSite: http.SameSiteStrictMode},
		{Path: "/", MaxAge: 1 << 30, Secure: true, Partitioned: true, SameSite: http.SameSiteNoneMode},
		{Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, Domain: "example.com"},
		{Path: "/", MaxAge: -5, SameSite: http.SameSiteDefaultMode},
	} {
		session, b := f.Browser().Load(), f.Browser()
		options := own
		session.Options = &options
		w, err := b.Save(session)
		if err != nil {
			t.Fatal(err)
		}
		got := w.Result().Cookies()[0]
		recorder := httptest.NewRecorder()
		http.SetCookie(recorder, sessions.NewCookie(storetest.Name, got.Value, &own))
		want := recorder.Result().Cookies()[0]
		if d := got.Expires.Sub(want.Expires).Abs(); d > time.Minute {
			t.Errorf("%+v: expires %v, want %v", own, got.Expires, want.Expires)
		}
		got.Expires, want.Expires = time.Time{}, time.Time{}
		if got.String() != want.String() {
			t.Errorf("%+v: cookie %v, want %v", own, got, want)
		}
		if *session.Options != own {
			t.Errorf("the options were changed: %+v", *session.Options)
		}
	}
}

// TestFlashesOfTwoRequestsAreMerged under every policy: each is shown once, in the order of the saves.
func TestFlashesOfTwoRequestsAreMerged(t *testing.T) {
	t.Parallel()
	for _, policy := range []mongostore.ConflictPolicy{mongostore.ConflictMerge, mongostore.ConflictReject} {
		f := storetest.Setup(t, func(c *mongostore.Config) { c.OnConflict = policy })
		b := f.Browser().Login()
		one, two, elsewhere := b.Load(), b.Load(), b.Load()
		one.AddFlash("one")
		two.AddFlash("two")
		elsewhere.AddFlash("three", "other")
		for _, session := range []*sessions.Session{one, two, elsewhere} {
			if _, err := b.Save(session); err != nil {
				t.Fatalf("policy %d: %v", policy, err)
			}
		}
		reader, late := b.Load(), b.Load()
		if got, other := fmt.Sprint(reader.Flashes()), fmt.Sprint(reader.Flashes("other")); got != "[one two]" || other != "[three]" {
			t.Errorf("policy %d: flashes %s, %s", policy, got, other)
		}
		// A message that comes in between is not shown yet, and those shown do not return.
		late.AddFlash("four")
		for _, session := range []*sessions.Session{reader, late} {
			if _, err := b.Save(session); err != nil {
				t.Fatalf("policy %d: %v", policy, err)
			}
		}
		if got := fmt.Sprint(b.Load().Flashes()); got != "[four]" {
			t.Errorf("policy %d: then flashes %s", policy, got)
		}
	}
}

// TestIsNewSaysWhetherTheRequestHadASession says whether the request came with a session, up to
// its end, as in gorilla's stores.
func TestIsNewSaysWhetherTheRequestHadASession(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	for range 2 { // the second time after a logout
		session := b.Load()
		for range 2 {
			if !session.IsNew {
				t.Error("a first request's session is not new")
			}
			if _, err := b.Save(session); err != nil {
				t.Fatal(err)
			}
		}
		session = b.Load()
		if session.IsNew {
			t.Error("the next request's session is new")
		}
		if _, err := b.Renew(session); err != nil {
			t.Fatal(err)
		}
		if session.IsNew || b.Load().IsNew {
			t.Error("a renewed session is new")
		}
		session.Options.MaxAge = -1
		if _, err := b.Save(session); err != nil {
			t.Fatal(err)
		}
		if session.IsNew {
			t.Error("a session that was ended is new")
		}
	}
}

// TestSaveAfterTheBodyStoresWithoutACookie: the headers are on their way, so no cookie reaches
// the browser any more. What it holds already goes on, and a logout is one on the server.
func TestSaveAfterTheBodyStoresWithoutACookie(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	mux := http.NewServeMux()
	for path, change := range map[string]func(*sessions.Session){
		"/change": func(s *sessions.Session) { s.Values["late"] = true },
		"/logout": func(s *sessions.Session) { s.Options.MaxAge = -1 },
	} {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			session, err := f.Store.Get(r, storetest.Name)
			if err != nil {
				t.Error(err)
			}
			change(session)
			fmt.Fprint(w, "the body")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			if err := session.Save(r, w); err != nil {
				t.Error(err)
			}
		})
	}
	mux.Handle("/", application(f.Store))

	v := browse(t, mux)
	v.get("/change")
	if len(v.got) > 0 || !strings.HasPrefix(v.get("/look"), "200 [];") {
		t.Error("a cookie has come after the headers")
	}
	f.WantDocuments(1) // which nobody can use
	if _, err := f.Coll.DeleteMany(t.Context(), map[string]any{}); err != nil {
		t.Fatal(err)
	}

	v.get("/set/user/ada")
	v.get("/change")
	if got := v.get("/look"); got != `200 ["late: bool true" "user: string ada"]; new false, bad cookie false` {
		t.Errorf("after a late change: %s", got)
	}
	v.get("/logout")
	if len(v.got) > 0 {
		t.Error("a cookie has come after the headers")
	}
	if got := v.get("/look"); got != "200 []; new true, bad cookie false" {
		t.Errorf("after a late logout: %s", got)
	}
	f.WantDocuments(0)
}

// TestEachNewIsASessionOfItsOwn: each call of New returns a separate session, and none is that of
// Get.
func TestEachNewIsASessionOfItsOwn(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	r := b.Request()
	var all []*sessions.Session
	for i, get := range []func(*http.Request, string) (*sessions.Session, error){f.Store.New, f.Store.Get, f.Store.New} {
		s, err := get(r, storetest.Name)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(all, s) {
			t.Fatal("the same session")
		}
		all = append(all, s)
		s.Values[fmt.Sprint("key", i)] = i
		s.Options.Path = fmt.Sprint("/", i)
	}
	f.WantCommands("insert", "find", "find", "find")
	if s, err := f.Store.Get(r, storetest.Name); s != all[1] || err != nil {
		t.Errorf("Get has forgotten its session: %v", err)
	}
	for i, s := range all {
		if len(s.Values) != 2 || s.Options.Path != fmt.Sprint("/", i) || s.ID != all[0].ID {
			t.Errorf("session %d: %+v", i, s)
		}
		if _, err := b.Save(s); err != nil {
			t.Fatal(err)
		}
	}
	if s := b.Load(); fmt.Sprint(s.Values) != "map[key0:0 key1:1 key2:2 user:ada]" {
		t.Errorf("values: %v", s.Values)
	}
	f.WantDocuments(1)
}

// TestGoroutinesOfARequestMayShareASession is what Get's documentation calls safe; the race
// detector looks on. Not safe is Get itself: gorilla's registry is a plain map, and writes to
// the request and to the session.
func TestGoroutinesOfARequestMayShareASession(t *testing.T) {
	t.Parallel()
	const goroutines = 8
	for _, returns := range []bool{false, true} {
		f := storetest.Setup(t)
		b := f.Browser()
		if returns {
			b.Login()
		}
		r, w := b.Request(), httptest.NewRecorder()
		session, err := f.Store.Get(r, storetest.Name)
		if err != nil {
			t.Fatal(err)
		}
		session.Values["n"] = 1
		f.Log.Reset()
		var wg sync.WaitGroup
		loaded := make([]*sessions.Session, goroutines)
		for i := range goroutines {
			wg.Go(func() {
				s, err := f.Store.New(r, storetest.Name) // its own
				if err != nil {
					t.Error(err)
				}
				s.Values[fmt.Sprint("key", i)] = i
				loaded[i] = s
			})
			wg.Go(func() { // the one that all share, which nobody changes any more
				if err := f.Store.Save(r, w, session); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		var writes []string
		for _, command := range f.Log.Reset() {
			if command != "find" {
				writes = append(writes, command)
			}
		}
		want := map[bool][]string{false: {"insert"}, true: {"update"}}[returns]
		if !slices.Equal(writes, want) {
			t.Errorf("writes: %q, want %q", writes, want)
		}
		if set := w.Header()["Set-Cookie"]; (len(set) == 1) == returns || len(set) > 1 {
			t.Errorf("the visitor returns: %t; cookies: %q", returns, set)
		}
		f.WantDocuments(1)
		b.Receive(w)
		// Saved concurrently, each to a response of its own, they are merged: a
		// response's header is a plain map as well.
		for _, s := range loaded {
			wg.Go(func() {
				if err := f.Store.Save(r, httptest.NewRecorder(), s); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if !returns {
			f.WantDocuments(1 + goroutines) // each was new
			continue
		}
		if s := b.Load(); len(s.Values) != goroutines+2 {
			t.Errorf("values: %v", s.Values)
		}
	}
}
