package storetest

import (
	"maps"
	"net/http"
	"net/http/httptest"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// cookiesID is the ID in the browser's cookie.
func (b *Browser) CookieID() string {
	b.F.T.Helper()
	var id string
	if err := securecookie.DecodeMulti(Name, b.Cookies[Name], &id, b.F.Store.Codecs...); err != nil {
		b.F.T.Fatal(err)
	}
	return id
}

// browser keeps cookies as a browser does, save for their Path and Domain.
type Browser struct {
	F       *Fixture
	Store   *mongostore.Store
	Cookies map[string]string
}

func (f *Fixture) Browser() *Browser {
	return &Browser{F: f, Store: f.Store, Cookies: map[string]string{}}
}

// clone is a second window: it has the same cookies.
func (b *Browser) Clone() *Browser {
	c := b.F.Browser()
	c.Store = b.Store
	maps.Copy(c.Cookies, b.Cookies)
	return c
}

func (b *Browser) Request() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://example.com/", nil)
	for name, v := range b.Cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: v})
	}
	return r
}

// receive takes the cookies of a response.
func (b *Browser) Receive(w *httptest.ResponseRecorder) {
	for _, c := range w.Result().Cookies() {
		if c.MaxAge < 0 {
			delete(b.Cookies, c.Name)
		} else {
			b.Cookies[c.Name] = c.Value
		}
	}
}

// load gets the session in a request of its own.
func (b *Browser) Load() *sessions.Session {
	b.F.T.Helper()
	session, err := b.Store.Get(b.Request(), Name)
	if err != nil {
		b.F.T.Fatal("load:", err)
	}
	return session
}

// save saves a session in a request of its own, and returns the response.
func (b *Browser) Save(session *sessions.Session) (*httptest.ResponseRecorder, error) {
	w := httptest.NewRecorder()
	err := b.Store.Save(b.Request(), w, session)
	b.Receive(w)
	return w, err
}

// do is a request that changes the session.
func (b *Browser) Do(change func(*sessions.Session)) *http.Cookie {
	b.F.T.Helper()
	r, w := b.Request(), httptest.NewRecorder()
	session, err := b.Store.Get(r, Name)
	if err != nil {
		b.F.T.Fatal("load:", err)
	}
	change(session)
	if err := session.Save(r, w); err != nil {
		b.F.T.Fatal("save:", err)
	}
	b.Receive(w)
	cookies := w.Result().Cookies()
	if len(cookies) != 1 {
		b.F.T.Fatalf("%d cookies set, want 1", len(cookies))
	}
	return cookies[0]
}

// login is a first request that makes a session.
func (b *Browser) Login() *Browser {
	b.F.T.Helper()
	b.Do(func(s *sessions.Session) { s.Values["user"] = "ada" })
	return b
}

// logout is a request that ends the session.
func (b *Browser) Logout() {
	b.F.T.Helper()
	b.Do(func(s *sessions.Session) { s.Options.MaxAge = -1 })
}

// loginAt makes a session at a store that is to be migrated from.
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

// loginAs makes a session of the user.
func (b *Browser) LoginAs(user any) *Browser {
	b.F.T.Helper()
	b.Do(func(s *sessions.Session) { s.Values["user"] = user })
	return b
}

// renew is a request that renews the session, after a change to it.
func (b *Browser) Renew(session *sessions.Session) (*httptest.ResponseRecorder, error) {
	w := httptest.NewRecorder()
	err := b.Store.Renew(b.Request(), w, session)
	b.Receive(w)
	return w, err
}
