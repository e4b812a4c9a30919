package mongostore_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// TestSmallPrint: what the documentation mentions in passing.
func TestSmallPrint(t *testing.T) {
	t.Parallel()
	for what, check := range map[string]func(*testing.T){
		"a negative MaxAge of the store removes each session as it is saved": func(t *testing.T) {
			f := setup(t)
			b := f.browser().login()
			f.store.MaxAge(-1)
			if _, err := b.save(b.load()); err != nil {
				t.Error(err)
			}
			f.wantDocuments(0)
		},
		"Options that are nil are the defaults": func(t *testing.T) {
			f := setup(t)
			f.store.Options = nil
			c := f.browser().do(func(*sessions.Session) {})
			if c.Path != "/" || c.MaxAge != 30*24*3600 || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode {
				t.Errorf("cookie: %v", c)
			}
		},
		"Options that are set are set as a whole": func(t *testing.T) {
			f := setup(t, func(c *mongostore.Config) { c.Options = &sessions.Options{Path: "/"} })
			if c := f.browser().do(func(*sessions.Session) {}); c.HttpOnly || c.Secure || c.MaxAge != 0 {
				t.Errorf("cookie: %v", c)
			}
		},
		"Persist stores what is empty, and describes nothing": func(t *testing.T) {
			f := setup(t, func(c *mongostore.Config) {
				c.SkipEmpty, c.OwnerKey = true, "user"
				c.Describe = func(*http.Request) map[string]string {
					t.Error("Describe was called")
					return nil
				}
			})
			if err := f.store.Persist(t.Context(), sessions.NewSession(f.store, name)); err != nil {
				t.Error(err)
			}
			f.wantDocuments(1)
		},
		"a renewed session is fetched by its new ID only": func(t *testing.T) {
			f := setup(t)
			b := f.browser().login()
			session := b.load()
			old := session.ID
			if _, err := b.renew(session); err != nil {
				t.Fatal(err)
			}
			if _, err := f.store.Fetch(t.Context(), name, old); !errors.Is(err, mongostore.ErrNotFound) {
				t.Errorf("by the old ID: %v", err)
			}
			if s, err := f.store.Fetch(t.Context(), name, session.ID); err != nil || s.Values["user"] != "ada" {
				t.Errorf("by the new ID: %v", err)
			}
		},
		"Remove leaves the browser's cookie, which is worth nothing": func(t *testing.T) {
			f := setup(t)
			b := f.browser().login()
			if err := f.store.Remove(t.Context(), b.load()); err != nil {
				t.Fatal(err)
			}
			if b.cookies[name] == "" || !b.load().IsNew {
				t.Error("no cookie, or one that works")
			}
		},
		"a request that the visitor has left is an outage": func(t *testing.T) {
			f := setup(t)
			b := f.browser().login()
			session := b.load()
			session.Values["n"] = 1
			ctx, leave := context.WithCancel(t.Context())
			leave()
			r, w := b.request().WithContext(ctx), httptest.NewRecorder()
			if err := f.store.Save(r, w, session); !errors.Is(err, mongostore.ErrUnavailable) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("%v, %v", err, w.Header())
			}
		},
		"RevokeAll takes no nil, and needs an OwnerKey": func(t *testing.T) {
			f := setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
			f.browser().login()
			if _, err := f.store.RevokeAll(t.Context(), nil); err == nil {
				t.Error("nil: no error")
			}
			f.cfg.OwnerKey = ""
			if _, err := f.open().RevokeAll(t.Context(), "ada"); err == nil {
				t.Error("without OwnerKey: no error")
			}
			f.wantDocuments(1)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			check(t)
		})
	}
}
