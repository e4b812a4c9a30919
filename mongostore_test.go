package mongostore_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
)

type item struct {
	Name  string
	Count int
}

type cart struct {
	Items []item
	Notes map[string]string
}

// TestLoading: for each kind of cookie, document and trouble, what Get and New return, what the
// session is, what is sent, and that nothing is written.
func TestLoading(t *testing.T) {
	t.Parallel()
	damage := func(update bson.D) func(*testing.T, *fixture, *browser) {
		return func(_ *testing.T, f *fixture, b *browser) {
			b.login()
			f.edit(update)
		}
	}
	set := func(field string, v any) bson.D {
		return bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: v}}}}
	}
	unset := func(field string) bson.D {
		return bson.D{{Key: "$unset", Value: bson.D{{Key: field, Value: ""}}}}
	}
	securecookieError := func(err error) bool {
		var e securecookie.Error
		return errors.As(err, &e) && e.IsDecode()
	}
	is := func(target error) func(error) bool {
		return func(err error) bool { return errors.Is(err, target) }
	}
	none := func(err error) bool { return err == nil }

	for _, row := range []struct {
		name       string
		prepare    func(*testing.T, *fixture, *browser)
		err        func(error) bool
		old        bool // the session of the login, rather than a new one
		unsaveable bool
		finds      int
	}{
		{name: "no cookie", prepare: func(*testing.T, *fixture, *browser) {}, err: none},
		{name: "cookie of another name", prepare: func(_ *testing.T, _ *fixture, b *browser) {
			b.login()
			b.cookies = map[string]string{"other": b.cookies[name]}
		}, err: none},
		{name: "cookie that another name was signed for", prepare: func(t *testing.T, f *fixture, b *browser) {
			signed, err := securecookie.EncodeMulti("other", "0123456789", f.store.Codecs...)
			if err != nil {
				t.Fatal(err)
			}
			b.cookies[name] = signed
		}, err: securecookieError},
		{name: "cookie that fails the signature", prepare: func(_ *testing.T, _ *fixture, b *browser) {
			b.login()
			b.cookies[name] = b.cookies[name][:40] + "AAAA" + b.cookies[name][44:]
		}, err: securecookieError},
		{name: "cookie of another key", prepare: func(t *testing.T, f *fixture, b *browser) {
			other, err := mongostore.New(f.coll, []byte("another key of at least 32 bytes"))
			if err != nil {
				t.Fatal(err)
			}
			b.login()
			signed, err := securecookie.EncodeMulti(name, b.load().ID, other.Codecs...)
			if err != nil {
				t.Fatal(err)
			}
			b.cookies[name] = signed
		}, err: securecookieError},
		{name: "cookie of a CookieStore with the same key", prepare: func(t *testing.T, _ *fixture, b *browser) {
			b.cookies[name] = cookieStoreCookie(t)
		}, err: securecookieError},
		{name: "empty cookie", prepare: func(_ *testing.T, _ *fixture, b *browser) {
			b.cookies[name] = ""
		}, err: securecookieError},
		{name: "overlong cookie", prepare: func(_ *testing.T, _ *fixture, b *browser) {
			b.cookies[name] = strings.Repeat("A", 10_000)
		}, err: func(err error) bool { return err != nil }},
		{name: "unknown ID, properly signed", prepare: func(t *testing.T, f *fixture, b *browser) {
			signed, err := securecookie.EncodeMulti(name, "chosen-by-an-attacker", f.store.Codecs...)
			if err != nil {
				t.Fatal(err)
			}
			b.cookies[name] = signed
		}, err: none, finds: 1},
		{name: "document missing", prepare: func(t *testing.T, f *fixture, b *browser) {
			b.login()
			if _, err := f.coll.DeleteMany(t.Context(), bson.D{}); err != nil {
				t.Fatal(err)
			}
		}, err: none, finds: 1},
		{name: "document expired", prepare: func(_ *testing.T, f *fixture, b *browser) {
			b.login()
			f.expire()
		}, err: none, finds: 1},
		{name: "document alive", prepare: func(_ *testing.T, _ *fixture, b *browser) {
			b.login()
		}, err: none, old: true, finds: 1},
		{name: "MongoDB not answering", prepare: func(_ *testing.T, f *fixture, b *browser) {
			b.login()
			f.wire.refuseAll()
		}, err: is(mongostore.ErrUnavailable), unsaveable: true, finds: 1},
		{name: "MongoDB refusing", prepare: func(_ *testing.T, f *fixture, b *browser) {
			b.login()
			f.wire.on("find", rule{kind: answer, reply: refusal(13, "Unauthorized")})
		}, err: is(mongostore.ErrUnavailable), unsaveable: true, finds: 1},
		{
			name: "newer format", prepare: damage(set("v", 2)),
			err: is(mongostore.ErrCorrupt), unsaveable: true, finds: 1,
		},
		{
			name: "no format", prepare: damage(unset("v")),
			err: is(mongostore.ErrCorrupt), unsaveable: true, finds: 1,
		},
		{
			name: "values of the wrong type", prepare: damage(set("values", "none")),
			err: is(mongostore.ErrCorrupt), unsaveable: true, finds: 1,
		},
		{
			name: "expiry of the wrong type", prepare: damage(set("expiresAt", "tomorrow")),
			err: is(mongostore.ErrCorrupt), unsaveable: true, finds: 1,
		},
		{
			name: "field missing", prepare: damage(unset("createdAt")),
			err: is(mongostore.ErrCorrupt), unsaveable: true, finds: 1,
		},
		{
			name: "type that is not registered", prepare: damage(set("values.cart", bson.D{
				{Key: "_type", Value: "gob"}, {Key: "_value", Value: []byte("\x10\x10\x00\x0bmain.Absent")},
			})),
			err: is(mongostore.ErrCorrupt), unsaveable: true, finds: 1,
		},
		{
			name: "value of a type that is not stored", prepare: damage(set("values.when", bson.Timestamp{T: 1})),
			err: is(mongostore.ErrCorrupt), unsaveable: true, finds: 1,
		},
		{name: "good cookie behind bad ones", prepare: func(t *testing.T, f *fixture, b *browser) {
			b.login()
			b.cookies["a"] = ""
			signed, err := securecookie.EncodeMulti(name, "planted-on-a-parent-domain", f.store.Codecs...)
			if err != nil {
				t.Fatal(err)
			}
			b.cookies[name] = "forged; " + name + "=" + signed + "; " + name + "=" + b.cookies[name]
		}, err: none, old: true, finds: 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := setup(t, func(c *mongostore.Config) { c.Timeout = 2 * time.Second })
			b := f.browser()
			row.prepare(t, f, b)
			before := f.documents()
			f.log.reset()

			r := httptest.NewRequest(http.MethodGet, "/", nil)
			for n, v := range b.cookies {
				r.Header.Add("Cookie", n+"="+v) // as it is, several included
			}
			session, err := f.store.Get(r, name)
			if !row.err(err) {
				t.Errorf("error: %v", err)
			}
			if session == nil {
				t.Fatal("the session is nil")
			}
			if again, errAgain := f.store.Get(r, name); again != session || fmt.Sprint(errAgain) != fmt.Sprint(err) {
				t.Error("a second Get of the request returns something else")
			}
			names, _ := f.log.take()
			// The driver may find out before it sends that there is no server.
			if len(names) != row.finds && row.name != "MongoDB not answering" {
				t.Errorf("commands sent: %q, want %d finds", names, row.finds)
			}
			if row.old {
				if session.IsNew || session.ID == "" || session.Values["user"] != "ada" {
					t.Errorf("not the stored session: %+v", session)
				}
			} else if !session.IsNew || session.ID != "" || len(session.Values) > 0 {
				t.Errorf("not a new session: %+v", session)
			}

			w := httptest.NewRecorder()
			errSave := session.Save(r, w)
			if row.unsaveable {
				if errSave == nil || errSave.Error() != err.Error() {
					t.Errorf("Save returned %v, want the error of the load", errSave)
				}
				if got := w.Header()["Set-Cookie"]; got != nil {
					t.Errorf("Save set a cookie: %q", got)
				}
			} else if errSave != nil {
				t.Errorf("Save: %v", errSave)
			}
			f.wire.heal()
			// Nothing that was there has changed, and nothing came but by Save.
			after := f.documents()
			for _, doc := range before {
				found := false
				for _, d := range after {
					found = found || string(d) == string(doc)
				}
				if !found {
					t.Error("a document has changed")
				}
			}
			want := len(before) + 1
			if row.old || row.unsaveable {
				want = len(before)
			}
			if len(after) != want {
				t.Errorf("%d documents, want %d", len(after), want)
			}
		})
	}
}

// cookieStoreCookie is what gorilla's CookieStore puts into a cookie.
func cookieStoreCookie(t *testing.T) string {
	t.Helper()
	old := sessions.NewCookieStore(signingKey)
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	session, err := old.Get(r, name)
	if err != nil {
		t.Fatal(err)
	}
	session.Values["user"] = "ada"
	if err := session.Save(r, w); err != nil {
		t.Fatal(err)
	}
	return w.Result().Cookies()[0].Value
}

// TestConcurrentKeys: requests at once that each set another key lose none.
func TestConcurrentKeys(t *testing.T) {
	t.Parallel()
	const requests = 50
	f := setup(t)
	b := f.browser().login()

	// All have loaded before the first saves.
	loaded := make([]*sessions.Session, requests)
	for i := range loaded {
		loaded[i] = b.load()
	}
	var wg sync.WaitGroup
	for i, session := range loaded {
		wg.Go(func() {
			session.Values[fmt.Sprintf("key%d", i)] = i
			if _, err := b.clone().save(session); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	session := b.load()
	if session.Values["user"] != "ada" {
		t.Error("the value of the login is lost")
	}
	for i := range requests {
		if got := session.Values[fmt.Sprintf("key%d", i)]; got != i {
			t.Errorf("key%d is %v", i, got)
		}
	}
	f.wantDocuments(1)
}

// TestLogoutUnderFire: sessions that are logged out while late requests save them
// stay logged out.
func TestLogoutUnderFire(t *testing.T) {
	t.Parallel()
	const visitors, late = 200, 3
	f := setup(t)
	var wg sync.WaitGroup
	gate := make(chan struct{}, 8) // that many visitors at once
	for range visitors {
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			b := f.browser().login()
			var requests sync.WaitGroup
			for i := range late {
				session := b.load()
				requests.Go(func() {
					session.Values["late"] = i
					if _, err := b.clone().save(session); err != nil && !errors.Is(err, mongostore.ErrGone) {
						t.Error(err)
					}
				})
			}
			after := b.load()
			b.clone().logout()
			requests.Wait()
			after.Values["later"] = true
			if w, err := b.clone().save(after); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("a save after the logout: %v, cookie %q", err, w.Header()["Set-Cookie"])
			}
			if session := b.load(); !session.IsNew {
				t.Error("a session has survived its logout")
			}
		})
	}
	wg.Wait()
	f.wantDocuments(0)
}
