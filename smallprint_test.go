package mongostore_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestSmallPrint: what the documentation mentions in passing.
func TestSmallPrint(t *testing.T) {
	t.Parallel()
	for what, check := range map[string]func(*testing.T){
		"a negative MaxAge of the store removes each session as it is saved": func(t *testing.T) {
			f := storetest.Setup(t)
			b := f.Browser().Login()
			f.Store.MaxAge(-1)
			if _, err := b.Save(b.Load()); err != nil {
				t.Error(err)
			}
			f.WantDocuments(0)
		},
		"Options that are nil are the defaults": func(t *testing.T) {
			f := storetest.Setup(t)
			f.Store.Options = nil
			c := f.Browser().Do(func(*sessions.Session) {})
			if c.Path != "/" || c.MaxAge != 30*24*3600 || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode {
				t.Errorf("cookie: %v", c)
			}
		},
		"Options that are set are set as a whole": func(t *testing.T) {
			f := storetest.Setup(t, func(c *mongostore.Config) { c.Options = &sessions.Options{Path: "/"} })
			if c := f.Browser().Do(func(*sessions.Session) {}); c.HttpOnly || c.Secure || c.MaxAge != 0 {
				t.Errorf("cookie: %v", c)
			}
		},
		"Persist stores what is empty, and describes nothing": func(t *testing.T) {
			f := storetest.Setup(t, func(c *mongostore.Config) {
				c.SkipEmpty, c.OwnerKey = true, "user"
				c.Describe = func(*http.Request) map[string]string {
					t.Error("Describe was called")
					return nil
				}
			})
			if err := f.Store.Persist(t.Context(), sessions.NewSession(f.Store, storetest.Name)); err != nil {
				t.Error(err)
			}
			f.WantDocuments(1)
		},
		"a renewed session is fetched by its new ID only": func(t *testing.T) {
			f := storetest.Setup(t)
			b := f.Browser().Login()
			session := b.Load()
			old := session.ID
			if _, err := b.Renew(session); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Store.Fetch(t.Context(), storetest.Name, old); !errors.Is(err, mongostore.ErrNotFound) {
				t.Errorf("by the old ID: %v", err)
			}
			if s, err := f.Store.Fetch(t.Context(), storetest.Name, session.ID); err != nil || s.Values["user"] != "ada" {
				t.Errorf("by the new ID: %v", err)
			}
		},
		"Remove leaves the browser's cookie, which is worth nothing": func(t *testing.T) {
			f := storetest.Setup(t)
			b := f.Browser().Login()
			if err := f.Store.Remove(t.Context(), b.Load()); err != nil {
				t.Fatal(err)
			}
			if b.Cookies[storetest.Name] == "" || !b.Load().IsNew {
				t.Error("no cookie, or one that works")
			}
		},
		"a request that the visitor has left is an outage": func(t *testing.T) {
			f := storetest.Setup(t)
			b := f.Browser().Login()
			session := b.Load()
			session.Values["n"] = 1
			ctx, leave := context.WithCancel(t.Context())
			leave()
			r, w := b.Request().WithContext(ctx), httptest.NewRecorder()
			if err := f.Store.Save(r, w, session); !errors.Is(err, mongostore.ErrUnavailable) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("%v, %v", err, w.Header())
			}
		},
		"RevokeAll takes no nil, and needs an OwnerKey": func(t *testing.T) {
			f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
			f.Browser().Login()
			if _, err := f.Store.RevokeAll(t.Context(), nil); err == nil {
				t.Error("nil: no error")
			}
			f.Cfg.OwnerKey = ""
			if _, err := f.Open().RevokeAll(t.Context(), "ada"); err == nil {
				t.Error("without OwnerKey: no error")
			}
			f.WantDocuments(1)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			check(t)
		})
	}
}
