package mongostore_test

import (
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// A request saves its session twice, and between the two the visitor logs out and in
// again, in another window. The answer, which arrives last, must not put the old cookie in
// the place of the new one; cookies of others stay in it.
func TestGoneWithdrawsCookie(t *testing.T) {
	t.Parallel()
	for name, save := range map[string]func(*mongostore.Store, *storetest.Browser, *sessions.Session, *httptest.ResponseRecorder) error{
		"save": func(s *mongostore.Store, b *storetest.Browser, session *sessions.Session, w *httptest.ResponseRecorder) error {
			return s.Save(b.Request(), w, session)
		},
		"renew": func(s *mongostore.Store, b *storetest.Browser, session *sessions.Session, w *httptest.ResponseRecorder) error {
			return s.Renew(b.Request(), w, session)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			b := f.Browser().Login()
			session, w := b.Load(), httptest.NewRecorder()
			w.Header().Add("Set-Cookie", "other=1")
			if err := f.Store.Save(b.Request(), w, session); err != nil {
				t.Fatal(err)
			}
			if lines := w.Header()["Set-Cookie"]; len(lines) != 2 {
				t.Fatalf("the first save leaves %q", lines)
			}
			b.Clone().Logout()

			session.Values["late"] = true
			if err := save(f.Store, b, session, w); !errors.Is(err, mongostore.ErrGone) {
				t.Fatalf("error %v, want ErrGone", err)
			}
			if lines := w.Header()["Set-Cookie"]; len(lines) != 1 || lines[0] != "other=1" {
				t.Errorf("the response sets %q", lines)
			}
			f.WantDocuments(0)

			// The visitor can still be told to log out.
			session.Options.MaxAge = -1
			if err := f.Store.Save(b.Request(), w, session); err != nil {
				t.Fatal(err)
			}
			if cookies := w.Result().Cookies(); len(cookies) != 2 || cookies[1].MaxAge >= 0 {
				t.Errorf("the response sets %v", cookies)
			}
		})
	}
}

// TestGoneBefore: also if Persist found it gone, or Remove has removed it, since the save.
func TestGoneBefore(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]func(*storetest.Fixture, *storetest.Browser, *sessions.Session){
		"persist": func(f *storetest.Fixture, b *storetest.Browser, session *sessions.Session) {
			b.Clone().Logout()
			session.Values["late"] = true
			if err := f.Store.Persist(t.Context(), session); !errors.Is(err, mongostore.ErrGone) {
				t.Errorf("Persist: %v", err)
			}
		},
		"remove": func(f *storetest.Fixture, _ *storetest.Browser, session *sessions.Session) {
			if err := f.Store.Remove(t.Context(), session); err != nil {
				t.Error(err)
			}
		},
	} {
		f := storetest.Setup(t)
		b := f.Browser().Login()
		session, w := b.Load(), httptest.NewRecorder()
		if err := f.Store.Save(b.Request(), w, session); err != nil {
			t.Fatal(err)
		}
		end(f, b, session)
		if err := f.Store.Save(b.Request(), w, session); !errors.Is(err, mongostore.ErrGone) {
			t.Errorf("%s: Save: %v", what, err)
		}
		if lines := w.Header()["Set-Cookie"]; len(lines) != 0 {
			t.Errorf("%s: %d cookies are left in the response", what, len(lines))
		}
		// The cookie of a logout stays there.
		session.Options.MaxAge = -1
		if err := f.Store.Save(b.Request(), w, session); err != nil {
			t.Fatal(err)
		}
		session.Options.MaxAge = 60
		if err := f.Store.Save(b.Request(), w, session); !errors.Is(err, mongostore.ErrGone) {
			t.Errorf("%s: Save after the logout: %v", what, err)
		}
		if cookies := w.Result().Cookies(); len(cookies) != 1 || cookies[0].MaxAge >= 0 {
			t.Errorf("%s: after a logout the response sets %v", what, cookies)
		}
	}
}

// TestGoneAfterLogoutAndSave: a response in which a session that was never stored was logged out,
// and then stored after all. Whether a cookie is taken back depends on the last one only.
func TestGoneAfterLogoutAndSave(t *testing.T) {
	t.Parallel()
	for _, saved := range []bool{true, false} {
		f := storetest.Setup(t)
		session, w := f.Browser().Load(), httptest.NewRecorder()
		session.Options.MaxAge = -1
		if err := f.Store.Save(f.Browser().Request(), w, session); err != nil {
			t.Fatal(err)
		}
		session.Options.MaxAge = 60
		if err := f.Store.Persist(t.Context(), session); err != nil {
			t.Fatal(err)
		}
		if saved {
			if err := f.Store.Save(f.Browser().Request(), w, session); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Store.Revoke(t.Context(), storetest.HashOf(session.ID)); err != nil {
			t.Fatal(err)
		}
		for range 2 { // once the database says so, then the session knows
			session.Values["late"] = true
			if err := f.Store.Save(f.Browser().Request(), w, session); !errors.Is(err, mongostore.ErrGone) {
				t.Errorf("error %v, want ErrGone", err)
			}
			if kept := len(w.Header()["Set-Cookie"]) > 0; kept == saved {
				t.Errorf("saved with a cookie after the logout: %t; the response sets %q", saved, w.Header()["Set-Cookie"])
			}
		}
	}
}

// TestLogoutOnceMore: a middleware that saves the request's sessions once more does not put a
// logout behind the login that followed it.
func TestLogoutOnceMore(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	r, w := b.Request(), httptest.NewRecorder()
	session, err := f.Store.Get(r, storetest.Name)
	if err != nil {
		t.Fatal(err)
	}
	session.Options.MaxAge = -1
	if err := f.Store.Save(r, w, session); err != nil {
		t.Fatal(err)
	}
	next, err := f.Store.New(f.Browser().Request(), storetest.Name) // of a visitor without a cookie
	if err != nil {
		t.Fatal(err)
	}
	next.Values["user"] = "grace"
	if err := f.Store.Save(r, w, next); err != nil {
		t.Fatal(err)
	}
	if err := sessions.Save(r, w); err != nil {
		t.Fatal(err)
	}
	b.Receive(w)
	if s := b.Load(); s.Values["user"] != "grace" {
		t.Errorf("the browser has a session of %v", s.Values["user"])
	}
	f.WantDocuments(1)
}

// TestLogoutOfTwoDomains: an application that once set its cookie for a domain expires both.
func TestLogoutOfTwoDomains(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session, w := b.Load(), httptest.NewRecorder()
	if err := f.Store.Save(b.Request(), w, session); err != nil {
		t.Fatal(err)
	}
	session.Options.MaxAge = -1
	for _, domain := range []string{"example.com", "", "example.com", ""} {
		session.Options.Domain = domain
		if err := f.Store.Save(b.Request(), w, session); err != nil {
			t.Fatal(err)
		}
	}
	cookies := w.Result().Cookies()
	if len(cookies) != 2 || cookies[0].Domain != "example.com" || cookies[1].Domain != "" || cookies[0].MaxAge >= 0 || cookies[1].MaxAge >= 0 {
		t.Errorf("the response sets %v", cookies)
	}
	f.WantDocuments(0)
}

// TestLogoutWithoutCookie: where the cookie cannot be expired, that of the removed session is not
// sent either.
func TestLogoutWithoutCookie(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session, w := b.Load(), httptest.NewRecorder()
	if err := f.Store.Save(b.Request(), w, session); err != nil {
		t.Fatal(err)
	}
	session.Options.MaxAge, session.Options.Domain = -1, "no domain;"
	if err := f.Store.Save(b.Request(), w, session); err == nil {
		t.Error("no error")
	}
	if lines := w.Header()["Set-Cookie"]; len(lines) != 0 {
		t.Errorf("the response sets %q", lines)
	}
	f.WantDocuments(0)
}
