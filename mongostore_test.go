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
	"github.com/mongostore/mongostore/internal/storetest"
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
	damage := func(update bson.D) func(*testing.T, *storetest.Fixture, *storetest.Browser) {
		return func(_ *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			f.Edit(update)
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
		prepare    func(*testing.T, *storetest.Fixture, *storetest.Browser)
		err        func(error) bool
		old        bool // the session of the login, rather than a new one
		unsaveable bool
		finds      int
	}{
		{name: "no cookie", prepare: func(*testing.T, *storetest.Fixture, *storetest.Browser) {}, err: none},
		{name: "cookie of another name", prepare: func(_ *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			b.Cookies = map[string]string{"other": b.Cookies[storetest.Name]}
		}, err: none},
		{name: "cookie that another name was signed for", prepare: func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			signed, err := securecookie.EncodeMulti("other", "0123456789", f.Store.Codecs...)
			if err != nil {
				t.Fatal(err)
			}
			b.Cookies[storetest.Name] = signed
		}, err: securecookieError},
		{name: "cookie that fails the signature", prepare: func(_ *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			b.Cookies[storetest.Name] = b.Cookies[storetest.Name][:40] + "AAAA" + b.Cookies[storetest.Name][44:]
		}, err: securecookieError},
		{name: "cookie of another key", prepare: func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			other, err := mongostore.New(f.Coll, []byte("another key of at least 32 bytes"))
			if err != nil {
				t.Fatal(err)
			}
			b.Login()
			signed, err := securecookie.EncodeMulti(storetest.Name, b.Load().ID, other.Codecs...)
			if err != nil {
				t.Fatal(err)
			}
			b.Cookies[storetest.Name] = signed
		}, err: securecookieError},
		{name: "cookie of a CookieStore with the same key", prepare: func(t *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			b.Cookies[storetest.Name] = cookieStoreCookie(t)
		}, err: securecookieError},
		{name: "empty cookie", prepare: func(_ *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			b.Cookies[storetest.Name] = ""
		}, err: securecookieError},
		{name: "overlong cookie", prepare: func(_ *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			b.Cookies[storetest.Name] = strings.Repeat("A", 10_000)
		}, err: func(err error) bool { return err != nil }},
		{name: "unknown ID, properly signed", prepare: func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			signed, err := securecookie.EncodeMulti(storetest.Name, "chosen-by-an-attacker", f.Store.Codecs...)
			if err != nil {
				t.Fatal(err)
			}
			b.Cookies[storetest.Name] = signed
		}, err: none, finds: 1},
		{name: "document missing", prepare: func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			if _, err := f.Coll.DeleteMany(t.Context(), bson.D{}); err != nil {
				t.Fatal(err)
			}
		}, err: none, finds: 1},
		{name: "document expired", prepare: func(_ *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			f.Expire()
		}, err: none, finds: 1},
		{name: "document alive", prepare: func(_ *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			b.Login()
		}, err: none, old: true, finds: 1},
		{name: "MongoDB not answering", prepare: func(_ *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			f.Wire.RefuseAll()
		}, err: is(mongostore.ErrUnavailable), unsaveable: true, finds: 1},
		{name: "MongoDB refusing", prepare: func(_ *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			f.Wire.On("find", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")})
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
		{name: "good cookie behind bad ones", prepare: func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			b.Cookies["a"] = ""
			signed, err := securecookie.EncodeMulti(storetest.Name, "planted-on-a-parent-domain", f.Store.Codecs...)
			if err != nil {
				t.Fatal(err)
			}
			b.Cookies[storetest.Name] = "forged; " + storetest.Name + "=" + signed + "; " + storetest.Name + "=" + b.Cookies[storetest.Name]
		}, err: none, old: true, finds: 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) { c.Timeout = 2 * time.Second })
			b := f.Browser()
			row.prepare(t, f, b)
			before := f.Documents()
			f.Log.Reset()

			r := httptest.NewRequest(http.MethodGet, "/", nil)
			for n, v := range b.Cookies {
				r.Header.Add("Cookie", n+"="+v) // as it is, several included
			}
			session, err := f.Store.Get(r, storetest.Name)
			if !row.err(err) {
				t.Errorf("error: %v", err)
			}
			if session == nil {
				t.Fatal("the session is nil")
			}
			if again, errAgain := f.Store.Get(r, storetest.Name); again != session || fmt.Sprint(errAgain) != fmt.Sprint(err) {
				t.Error("a second Get of the request returns something else")
			}
			names, _ := f.Log.Take()
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
			f.Wire.Heal()
			// Nothing that was there has changed, and nothing came but by Save.
			after := f.Documents()
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
	old := sessions.NewCookieStore(storetest.SigningKey)
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	session, err := old.Get(r, storetest.Name)
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
	f := storetest.Setup(t)
	b := f.Browser().Login()

	// All have loaded before the first saves.
	loaded := make([]*sessions.Session, requests)
	for i := range loaded {
		loaded[i] = b.Load()
	}
	var wg sync.WaitGroup
	for i, session := range loaded {
		wg.Go(func() {
			session.Values[fmt.Sprintf("key%d", i)] = i
			if _, err := b.Clone().Save(session); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	session := b.Load()
	if session.Values["user"] != "ada" {
		t.Error("the value of the login is lost")
	}
	for i := range requests {
		if got := session.Values[fmt.Sprintf("key%d", i)]; got != i {
			t.Errorf("key%d is %v", i, got)
		}
	}
	f.WantDocuments(1)
}

// TestLogoutUnderFire: sessions that are logged out while late requests save them
// stay logged out.
func TestLogoutUnderFire(t *testing.T) {
	t.Parallel()
	const visitors, late = 200, 3
	f := storetest.Setup(t)
	var wg sync.WaitGroup
	gate := make(chan struct{}, 8) // that many visitors at once
	for range visitors {
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			b := f.Browser().Login()
			var requests sync.WaitGroup
			for i := range late {
				session := b.Load()
				requests.Go(func() {
					session.Values["late"] = i
					if _, err := b.Clone().Save(session); err != nil && !errors.Is(err, mongostore.ErrGone) {
						t.Error(err)
					}
				})
			}
			after := b.Load()
			b.Clone().Logout()
			requests.Wait()
			after.Values["later"] = true
			if w, err := b.Clone().Save(after); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("a save after the logout: %v, cookie %q", err, w.Header()["Set-Cookie"])
			}
			if session := b.Load(); !session.IsNew {
				t.Error("a session has survived its logout")
			}
		})
	}
	wg.Wait()
	f.WantDocuments(0)
}
