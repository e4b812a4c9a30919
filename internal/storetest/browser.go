package storetest

import (
	"maps"
	"net/http"
	"net/http/httptest"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// Browser keeps cookies by name, like a browser that visits one site. It ignores their
// Path and Domain.
type Browser struct {
	F       *Fixture
	Store   *mongostore.Store // of the process that serves the next request
	Cookies map[string]string
}

// Browser returns a browser without cookies.
func (f *Fixture) Browser() *Browser {
	return &Browser{F: f, Store: f.Store, Cookies: map[string]string{}}
}

// Clone returns a second browser with the same cookies, such as another window or a thief's.
func (b *Browser) Clone() *Browser {
	c := b.F.Browser()
	c.Store = b.Store
	maps.Copy(c.Cookies, b.Cookies)
	return c
}

// Request returns a request with the browser's cookies.
func (b *Browser) Request() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://example.com/", nil)
	for name, v := range b.Cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: v})
	}
	return r
}

// Receive keeps the cookies of a response.
func (b *Browser) Receive(w *httptest.ResponseRecorder) {
	for _, c := range w.Result().Cookies() {
		if c.MaxAge < 0 {
			delete(b.Cookies, c.Name)
		} else {
			b.Cookies[c.Name] = c.Value
		}
	}
}

// Load returns the session, in a separate request.
func (b *Browser) Load() *sessions.Session {
	b.F.T.Helper()
	session, err := b.Store.Get(b.Request(), Name)
	if err != nil {
		b.F.T.Fatal("load:", err)
	}
	return session
}

// Save saves a session in a separate request, and returns the response.
func (b *Browser) Save(session *sessions.Session) (*httptest.ResponseRecorder, error) {
	w := httptest.NewRecorder()
	err := b.Store.Save(b.Request(), w, session)
	b.Receive(w)
	return w, err
}

// Renew renews a session in a separate request, and returns the response.
func (b *Browser) Renew(session *sessions.Session) (*httptest.ResponseRecorder, error) {
	w := httptest.NewRecorder()
	err := b.Store.Renew(b.Request(), w, session)
	b.Receive(w)
	return w, err
}

// Do loads the session, changes it and saves it in one request. It returns the cookie that was
// set. If there was none, it returns nil: the session continues under the same ID. A new ID and a
// logout set a cookie.
func (b *Browser) Do(change func(*sessions.Session)) *http.Cookie {
	b.F.T.Helper()
	r, w := b.Request(), httptest.NewRecorder()
	session, err := b.Store.Get(r, Name)
	if err != nil {
		b.F.T.Fatal("load:", err)
	}
	id := session.ID
	change(session)
	if err := session.Save(r, w); err != nil {
		b.F.T.Fatal("save:", err)
	}
	b.Receive(w)
	cookies := w.Result().Cookies()
	ends := session.Options != nil && session.Options.MaxAge < 0
	switch {
	case len(cookies) > 1:
		b.F.T.Fatalf("cookies set: %v, want one at most", cookies)
	case len(cookies) == 1 && ends != (cookies[0].MaxAge < 0):
		b.F.T.Fatalf("cookie set: %v, of a session with MaxAge %d", cookies[0], session.Options.MaxAge)
	case len(cookies) == 1:
		return cookies[0]
	case ends, session.ID != id:
		b.F.T.Fatalf("no cookie set, though the session has ended (%t) or has another ID (%t)", ends, session.ID != id)
	}
	return nil
}

// Login logs the user "ada" in, and returns the browser.
func (b *Browser) Login() *Browser {
	b.F.T.Helper()
	return b.LoginAs("ada")
}

// LoginAs logs a user in, and returns the browser.
func (b *Browser) LoginAs(user any) *Browser {
	b.F.T.Helper()
	b.Do(func(s *sessions.Session) { s.Values["user"] = user })
	return b
}

// LoginAt logs the user "ada" in at a store that sessions are to be migrated from.
func (b *Browser) LoginAt(old sessions.Store) *sessions.Session {
	b.F.T.Helper()
	w := httptest.NewRecorder()
	session, err := old.New(b.Request(), Name)
	if err != nil {
		b.F.T.Fatal(err)
	}
	session.Values["user"] = "ada"
	if err := old.Save(b.Request(), w, session); err != nil {
		b.F.T.Fatal(err)
	}
	b.Receive(w)
	return session
}

// Logout ends the session.
func (b *Browser) Logout() {
	b.F.T.Helper()
	b.Do(func(s *sessions.Session) { s.Options.MaxAge = -1 })
}

// CookieID returns the ID in the session's cookie.
func (b *Browser) CookieID() string {
	b.F.T.Helper()
	var id string
	if err := securecookie.DecodeMulti(Name, b.Cookies[Name], &id, b.F.Store.Codecs...); err != nil {
		b.F.T.Fatal(err)
	}
	return id
}

// Visit loads the session, changes it and saves it in one request. Unlike [Browser.Do] it
// allows a response without a cookie.
func (b *Browser) Visit(change func(*sessions.Session)) *httptest.ResponseRecorder {
	b.F.T.Helper()
	r, w := b.Request(), httptest.NewRecorder()
	session, err := b.Store.Get(r, Name)
	if err != nil {
		b.F.T.Fatal("load:", err)
	}
	change(session)
	if err := b.Store.Save(r, w, session); err != nil {
		b.F.T.Fatal("save:", err)
	}
	b.Receive(w)
	return w
}

// MustSave saves a loaded session.
func (b *Browser) MustSave(session *sessions.Session) *httptest.ResponseRecorder {
	b.F.T.Helper()
	w, err := b.Save(session)
	if err != nil {
		b.F.T.Fatal("save:", err)
	}
	return w
}

// MustRenew renews a loaded session.
func (b *Browser) MustRenew(session *sessions.Session) *httptest.ResponseRecorder {
	b.F.T.Helper()
	w, err := b.Renew(session)
	if err != nil {
		b.F.T.Fatal("renew:", err)
	}
	return w
}

// WantIn checks that the browser is logged in.
func (b *Browser) WantIn(what string) {
	b.F.T.Helper()
	if s := b.Load(); s.IsNew || s.Values["user"] != "ada" {
		b.F.T.Errorf("%s: logged out: new %t, values %v", what, s.IsNew, s.Values)
	}
}

// WantOut checks that the browser has no session.
func (b *Browser) WantOut(what string) {
	b.F.T.Helper()
	if s := b.Load(); !s.IsNew || len(s.Values) > 0 {
		b.F.T.Errorf("%s: logged in: new %t, values %v", what, s.IsNew, s.Values)
	}
}

// Unchanged leaves the session as it was loaded.
func Unchanged(*sessions.Session) {}

// SetValue returns a change that sets one value.
func SetValue(key string, value any) func(*sessions.Session) {
	return func(s *sessions.Session) { s.Values[key] = value }
}

// At returns a clone of the browser whose requests another store serves.
func (b *Browser) At(store *mongostore.Store) *Browser {
	c := b.Clone()
	c.Store = store
	return c
}
