package mongostore_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestCookieDefaults: OWASP ASVS 3.3 asks for each of them.
func TestCookieDefaults(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	c := f.Browser().Do(func(*sessions.Session) {})
	if c.Path != "/" || c.MaxAge != 30*24*3600 || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Domain != "" {
		t.Errorf("cookie: %v", c)
	}
}

// TestCookieOptions: the options of the store, and of a session, reach the cookie whole, and no other
// visitor's.
func TestCookieOptions(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) {
		c.Options = &sessions.Options{Path: "/app", Domain: "example.com", MaxAge: 60, SameSite: http.SameSiteStrictMode, Secure: true, Partitioned: true}
	})
	c := f.Browser().Do(func(*sessions.Session) {})
	if c.Path != "/app" || c.MaxAge != 60 || c.HttpOnly || !c.Secure || !c.Partitioned || c.SameSite != http.SameSiteStrictMode || c.Domain != "example.com" {
		t.Errorf("cookie: %v", c)
	}
	// One visitor's options are no other's.
	f.Browser().Do(func(s *sessions.Session) { s.Options.MaxAge, s.Options.Path = -1, "/elsewhere" })
	if c := f.Browser().Do(func(*sessions.Session) {}); c.MaxAge != 60 || c.Path != "/app" {
		t.Errorf("cookie of the next visitor: %v", c)
	}
	f.Store.MaxAge(120)
	if c := f.Browser().Do(func(*sessions.Session) {}); c.MaxAge != 120 {
		t.Errorf("cookie after MaxAge(120): %v", c)
	}
	f.Store.Options = nil
	if c := f.Browser().Do(func(*sessions.Session) {}); c.Path != "/" || !c.HttpOnly {
		t.Errorf("cookie without Options: %v", c)
	}
}

// TestCookieRefused: a cookie that browsers drop is an error, and nothing is stored.
func TestCookieRefused(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	for _, row := range []struct {
		cookie string
		change func(*sessions.Options)
		good   bool
	}{
		{"__Host-session", func(*sessions.Options) {}, true},
		{"__Host-session", func(o *sessions.Options) { o.Secure = false }, false},
		{"__Host-session", func(o *sessions.Options) { o.Path = "/app" }, false},
		{"__Host-session", func(o *sessions.Options) { o.Domain = "example.com" }, false},
		{"__host-session", func(o *sessions.Options) { o.Domain = "example.com" }, false},
		{"__Secure-session", func(o *sessions.Options) { o.Domain, o.Path = "example.com", "/app" }, true},
		{"__Secure-session", func(o *sessions.Options) { o.Secure = false }, false},
		{"__Hostsession", func(o *sessions.Options) { o.Secure = false }, true},
		{"session", func(o *sessions.Options) { o.Partitioned, o.Secure = true, false }, false},
		{"session", func(o *sessions.Options) { o.Domain = "exa mple" }, false},
		{"session", func(o *sessions.Options) { o.Path = "/;/" }, false},
		{strings.Repeat("n", 4000), func(*sessions.Options) {}, false},
	} {
		r, w := f.Browser().Request(), httptest.NewRecorder()
		session, err := f.Store.Get(r, row.cookie)
		if err != nil {
			t.Fatal(err)
		}
		row.change(session.Options)
		before := len(f.Documents())
		err = session.Save(r, w)
		if (err == nil) != row.good {
			t.Errorf("%.20s with %+v: %v", row.cookie, *session.Options, err)
		}
		stored := len(f.Documents()) > before
		if set := w.Header()["Set-Cookie"] != nil; set != row.good || stored != row.good {
			t.Errorf("%.20s with %+v: cookie set %t, stored %t", row.cookie, *session.Options, set, stored)
		}
	}
}

// TestKeyRotation: cookies of an old key pair are accepted as long as the pair is
// given, and replaced by ones of the new pair.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	oldKey, newKey := []byte("the old key, at least 32 bytes long"), []byte("the new key, at least 32 bytes long")
	open := func(keys ...[]byte) *mongostore.Store {
		store, err := mongostore.Open(t.Context(), f.Cfg, keys...)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	b := f.Browser()
	b.Store = open(oldKey, storetest.BlockKey)
	b.Login()

	b.Store = open(newKey, nil, oldKey, storetest.BlockKey)
	if s := b.Load(); s.Values["user"] != "ada" {
		t.Errorf("with the old cookie: %v", s.Values)
	}
	b.Do(func(*sessions.Session) {})

	b.Store = open(newKey)
	if s := b.Load(); s.Values["user"] != "ada" {
		t.Errorf("with the new cookie: %v", s.Values)
	}
	f.WantDocuments(1)
}

// TestOwnCodecs: an application may put securecookie's own codecs in place.
func TestOwnCodecs(t *testing.T) {
	t.Parallel()
	for what, serializer := range map[string]securecookie.Serializer{
		"gob": securecookie.GobEncoder{}, "JSON": securecookie.JSONEncoder{},
	} {
		f := storetest.Setup(t)
		codecs := securecookie.CodecsFromPairs(storetest.SigningKey, storetest.BlockKey)
		codecs[0].(*securecookie.SecureCookie).SetSerializer(serializer)
		f.Store.Codecs = codecs
		if s := f.Browser().Login().Load(); s.Values["user"] != "ada" {
			t.Errorf("%s: %v", what, s.Values)
		}
	}
}

// TestCookieIsEncrypted: with a block key the cookie does not show the ID.
func TestCookieIsEncrypted(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	for _, keys := range [][][]byte{{storetest.SigningKey}, {storetest.SigningKey, storetest.BlockKey}} {
		store, err := mongostore.New(f.Coll, keys...)
		if err != nil {
			t.Fatal(err)
		}
		b := f.Browser()
		b.Store = store
		b.Login()
		layers := b.Cookies[storetest.Name]
		raw, err := base64.URLEncoding.DecodeString(layers)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := base64.URLEncoding.DecodeString(strings.Split(string(raw), "|")[1])
		if err != nil {
			t.Fatal(err)
		}
		if shown := string(payload) == b.Load().ID; shown != (len(keys) == 1) {
			t.Errorf("with %d keys the ID is shown: %t", len(keys), shown)
		}
		if err := store.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TestIDs are long, and new for each session.
func TestIDs(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	seen := map[string]bool{}
	for range 20 {
		id := f.Browser().Login().Load().ID
		raw, err := base64.RawURLEncoding.DecodeString(id)
		if err != nil || len(raw) != 32 {
			t.Errorf("ID of %d bytes, %v", len(raw), err)
		}
		if seen[id] {
			t.Error("an ID came twice")
		}
		seen[id] = true
	}
}

// TestCookieIsSignedAnew: a cookie that was signed a moment ago goes out again as it came; one
// that was signed a while ago is signed anew, for codecs that the application has given an
// age.
func TestCookieIsSignedAnew(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	fresh := b.Cookies[storetest.Name]
	if c := b.Do(func(*sessions.Session) {}); c.Value != fresh {
		t.Error("a fresh cookie was signed again")
	}
	id := b.Load().ID
	for age, again := range map[time.Duration]bool{50 * time.Second: true, 70 * time.Second: false, 400 * 24 * time.Hour: false, -time.Hour: true} {
		// base64(date|base64(ID)|HMAC(name|date|base64(ID)))
		content := fmt.Sprintf("%d|%s|", time.Now().Add(-age).Unix(), base64.URLEncoding.EncodeToString([]byte(id)))
		mac := hmac.New(sha256.New, storetest.SigningKey)
		mac.Write([]byte(storetest.Name + "|" + content[:len(content)-1]))
		b.Cookies[storetest.Name] = base64.URLEncoding.EncodeToString(mac.Sum([]byte(content)))
		came := b.Cookies[storetest.Name]
		if c := b.Do(func(*sessions.Session) {}); (c.Value == came) != again {
			t.Errorf("a cookie signed %v ago went out again: %t, want %t", age, c.Value == came, again)
		}
	}
}
