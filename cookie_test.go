package mongostore_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

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

// TestOptionsReachTheCookieWhole: the options of the store, and of a session, reach the cookie
// whole, and no other visitor's.
func TestOptionsReachTheCookieWhole(t *testing.T) {
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

// TestInvalidCookieStoresNothing: a cookie that browsers drop is an error, and nothing is stored.
func TestInvalidCookieStoresNothing(t *testing.T) {
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
		before := len(f.Live())
		err = session.Save(r, w)
		if (err == nil) != row.good {
			t.Errorf("%.20s with %+v: %v", row.cookie, *session.Options, err)
		}
		stored := len(f.Live()) > before
		if set := w.Header()["Set-Cookie"] != nil; set != row.good || stored != row.good {
			t.Errorf("%.20s with %+v: cookie set %t, stored %t", row.cookie, *session.Options, set, stored)
		}
	}
}

// TestOldKeysCookieIsReplaced: cookies of an old key pair are accepted as long as the pair is
// given, and replaced by ones of the new pair.
func TestOldKeysCookieIsReplaced(t *testing.T) {
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
	if b.Do(func(*sessions.Session) {}) == nil {
		t.Error("the old pair's cookie is not replaced")
	}
	if c := b.Do(func(*sessions.Session) {}); c != nil {
		t.Errorf("the new pair's cookie is replaced: %v", c)
	}

	b.Store = open(newKey)
	if s := b.Load(); s.Values["user"] != "ada" {
		t.Errorf("with the new cookie: %v", s.Values)
	}
	f.WantDocuments(1)
}

// TestCodecsOfTheApplicationWork: an application may put securecookie's own codecs in place.
func TestCodecsOfTheApplicationWork(t *testing.T) {
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

// TestIDsAreLongAndNew are long, and new for each session.
func TestIDsAreLongAndNew(t *testing.T) {
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

// TestOnlyATouchSignsTheCookieAgain: the cookie that comes with a touch has a fresh signature, for
// codecs to which the application has given a maximum age. Other saves of a stored session send
// none, however old the signature is.
func TestOnlyATouchSignsTheCookieAgain(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	id := b.Load().ID
	for _, age := range []time.Duration{0, 70 * time.Second, 400 * 24 * time.Hour, -time.Hour} {
		// base64(date|base64(ID)|HMAC(name|date|base64(ID)))
		content := fmt.Sprintf("%d|%s|", time.Now().Add(-age).Unix(), base64.URLEncoding.EncodeToString([]byte(id)))
		mac := hmac.New(sha256.New, storetest.SigningKey)
		mac.Write([]byte(storetest.Name + "|" + content[:len(content)-1]))
		b.Cookies[storetest.Name] = base64.URLEncoding.EncodeToString(mac.Sum([]byte(content)))
		if c := b.Do(func(s *sessions.Session) { s.Values["age"] = int64(age) }); c != nil {
			t.Errorf("signed %v ago: a cookie without a touch: %v", age, c)
		}
		f.Age(2 * time.Minute)
		c := b.Do(func(*sessions.Session) {})
		if c == nil {
			t.Errorf("signed %v ago: no cookie with a touch", age)
			continue
		}
		raw, err := base64.URLEncoding.DecodeString(c.Value)
		if err != nil {
			t.Fatal(err)
		}
		date, _, _ := strings.Cut(string(raw), "|")
		if signed, err := strconv.ParseInt(date, 10, 64); err != nil || time.Since(time.Unix(signed, 0)) > 30*time.Second {
			t.Errorf("signed %v ago: the new cookie is from %s, %v", age, date, err)
		}
		if b.CookieID() != id {
			t.Errorf("signed %v ago: the new cookie has another ID", age)
		}
	}
}

// Hostile cookies: whatever a client sends, the database hears of what was signed here and of
// nothing else, at most maxLookups times in a request, and nothing that came from outside is stored.

const maxLookups = 8 // as the documentation of New says

// signedLongAgo is a cookie with the ID deadID, signed with signingKey in 2020. Signatures do not
// age: it is the document that does. The corpus of FuzzCookie has it too, so a change of the key
// must not pass unnoticed.
const (
	deadID        = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	signedLongAgo = "MTU3NzgzNjgwMHxRVUZCUVVGQlFVRkJRVUZCUVVGQlFVRkJRVUZCUVVGQlFVRkJRVUZCUVVGQlFVRkJRVUZCUVVGQlFRPT18fps21mUlbNWr8atbLi2pNO5bIrwrGNDDEKwaAuzkFqs="
)

// cookieKeys is what the tests know of a store's codec.
type cookieKeys struct {
	signing, block []byte
	gob            bool // the ID is in securecookie's own serialization, as under an application's codecs
}

func (k cookieKeys) codec() *securecookie.SecureCookie {
	codec := securecookie.New(k.signing, k.block).MaxAge(0)
	if !k.gob {
		codec.SetSerializer(securecookie.NopEncoder{})
	}
	return codec
}

// sign returns a cookie's value, or "" if it is too long for a cookie.
func (k cookieKeys) sign(name, id string) string {
	var value any = id
	if !k.gob {
		value = []byte(id)
	}
	signed, err := k.codec().Encode(name, value)
	if err != nil {
		return ""
	}
	return signed
}

// open verifies a cookie by itself: base64(date|base64(payload)|HMAC(name|date|payload)).
func (k cookieKeys) open(name, value string) (payload string, ok bool) {
	raw, err := base64.URLEncoding.DecodeString(value)
	if err != nil || len(value) > 4096 {
		return "", false
	}
	date, rest, _ := strings.Cut(string(raw), "|")
	body, mac, parted := strings.Cut(rest, "|")
	h := hmac.New(sha256.New, k.signing)
	h.Write([]byte(name + "|" + date + "|" + body))
	if !parted || !hmac.Equal(h.Sum(nil), []byte(mac)) {
		return "", false
	}
	if _, err := strconv.ParseInt(date, 10, 64); err != nil {
		return "", false
	}
	content, err := base64.URLEncoding.DecodeString(body)
	if err != nil {
		return "", false
	}
	if k.block != nil {
		block, err := aes.NewCipher(k.block)
		if err != nil || len(content) <= aes.BlockSize {
			return "", false
		}
		iv := content[:aes.BlockSize]
		content = content[aes.BlockSize:]
		cipher.NewCTR(block, iv).XORKeyStream(content, content)
	}
	if k.gob {
		var id string
		err := securecookie.GobEncoder{}.Deserialize(content, &id)
		return id, err == nil
	}
	return string(content), true
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

// verified returns the session IDs in a request's cookies, in their order, each once, those among
// them that an older key has signed, and how many cookies are not signed.
func verified(r *http.Request, name string, keys []cookieKeys) (ids, old []string, unsigned int) {
	for _, c := range r.CookiesNamed(name) {
		signed := false
		for i, k := range keys {
			id, ok := k.open(name, c.Value)
			if !ok || !k.gob && !idForm.MatchString(id) {
				continue
			}
			if signed = true; idForm.MatchString(id) && !slices.Contains(ids, id) {
				if ids = append(ids, id); i > 0 {
					old = append(old, id)
				}
			}
			break
		}
		if !signed {
			unsigned++
		}
	}
	return ids, old, unsigned
}

// target is a store, what signs its cookies, and a session that is alive in it.
type target struct {
	store *mongostore.Store
	keys  []cookieKeys
}

// hostile is the stores that the cookies are thrown at, over one collection.
type hostile struct {
	*storetest.Fixture
	alive   string // the ID of a session
	targets []target
}

func setupHostile(t testing.TB) *hostile {
	t.Helper()
	h := &hostile{Fixture: storetest.Setup(t, func(c *mongostore.Config) { c.TouchInterval = 1000 * time.Hour })}
	h.alive = h.Browser().Login().Load().ID
	newKey := []byte("a newer signing key of 32 bytes!")
	for _, keys := range [][]cookieKeys{
		{{signing: storetest.SigningKey}},
		{{signing: storetest.SigningKey, block: storetest.BlockKey}},
		{{signing: newKey}, {signing: storetest.SigningKey, block: storetest.BlockKey}, {signing: storetest.SigningKey}},
		{{signing: storetest.SigningKey, gob: true}},
	} {
		var pairs [][]byte
		for _, k := range keys {
			pairs = append(pairs, k.signing, k.block)
		}
		store, err := mongostore.Open(t.Context(), h.Cfg, pairs...)
		if err != nil {
			t.Fatal(err)
		}
		if keys[0].gob {
			store.Codecs = []securecookie.Codec{keys[0].codec()}
		}
		h.targets = append(h.targets, target{store, keys})
	}
	h.Log.Reset()
	return h
}

// throw sends cookies at a store, and checks everything that must hold for any. It returns how many
// finds they caused, and the session.
func (h *hostile) throw(t testing.TB, v target, headers ...string) (finds int, session *sessions.Session) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "https://example.com/", nil)
	for _, line := range headers {
		r.Header.Add("Cookie", line)
	}
	ids, old, unsigned := verified(r, storetest.Name, v.keys)
	var want []string
	isAlive := false
	for _, id := range ids[:min(len(ids), maxLookups)] {
		want = append(want, storetest.HashOf(id))
		if isAlive = id == h.alive; isAlive {
			break
		}
	}

	h.Log.Reset()
	session, err := v.store.Get(r, storetest.Name)
	names, commands := h.Log.Take()
	if session == nil {
		t.Fatal("no session")
	}
	var got []string
	for i, command := range commands {
		if names[i] != "find" {
			t.Fatalf("the load sent %q", names)
		}
		got = append(got, command.Lookup("filter", "_id").StringValue())
	}
	if !slices.Equal(got, want) {
		t.Fatalf("looked up %q, want %q", got, want)
	}
	var failed securecookie.Error
	switch {
	case len(ids) > 0 || unsigned == 0:
		if err != nil {
			t.Fatalf("error: %v", err)
		}
	case err == nil || (!errors.As(err, &failed) || !failed.IsDecode()) && !strings.Contains(err.Error(), "too long"):
		t.Fatalf("%d cookies that are not signed, and the error %v", unsigned, err)
	default:
		for _, c := range r.CookiesNamed(storetest.Name) {
			if len(c.Value) > 7 && strings.Contains(err.Error(), c.Value) {
				t.Fatalf("the error tells the cookie: %v", err)
			}
		}
	}
	if isAlive {
		if session.IsNew || session.ID != h.alive || session.Values["user"] != "ada" {
			t.Fatalf("not the session that is alive: %+v", session)
		}
	} else if !session.IsNew || session.ID != "" || len(session.Values) > 0 {
		t.Fatalf("not a new session: %+v", session)
	}

	w := httptest.NewRecorder()
	h.Wire.On("insert", storetest.Rule{Kind: storetest.Answer, Reply: bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 1}}})
	defer h.Wire.Heal()
	if err := session.Save(r, w); err != nil {
		t.Fatalf("Save: %v", err)
	}
	names, commands = h.Log.Take()
	set := w.Result().Cookies()
	if isAlive && !slices.Contains(old, h.alive) {
		if session.ID != h.alive || len(names) > 0 || len(set) > 0 {
			t.Fatalf("the session of before was saved as %+v by %q, with the cookies %v", session, names, set)
		}
		return len(want), session
	}
	if len(set) != 1 {
		t.Fatalf("cookies: %v", set)
	}
	if id, ok := v.keys[0].open(storetest.Name, set[0].Value); !ok || id != session.ID {
		t.Fatalf("the cookie %v is not the session's", set)
	}
	if isAlive { // with a cookie of the newest key from now on
		if session.ID != h.alive || !slices.Equal(names, []string{"update"}) {
			t.Fatalf("the session of before was saved as %+v by %q", session, names)
		}
		return len(want), session
	}
	if !slices.Equal(names, []string{"insert"}) {
		t.Fatalf("Save sent %q", names)
	}
	doc := commands[0].Lookup("documents", "0").Document()
	if len(session.ID) != 43 || doc.Lookup("_id").StringValue() != storetest.HashOf(session.ID) || strings.Contains(strings.Join(headers, ";"), session.ID) {
		t.Fatalf("the new session has the ID %q and the document %s", session.ID, doc)
	}
	for _, id := range ids {
		if bytes.Contains(doc, []byte(storetest.HashOf(id))) || len(id) > 12 && bytes.Contains(doc, []byte(id)) {
			t.Fatalf("an ID from outside was adopted: %s", doc)
		}
	}
	return len(want), session
}

// cookies returns one Cookie header with the values for the name.
func cookies(values ...string) string {
	return storetest.Name + "=" + strings.Join(values, "; "+storetest.Name+"=")
}

// fill puts cookies in the place of their names in a header.
func (h *hostile) fill(v target, header, id string) string {
	k := v.keys[0]
	stranger := cookieKeys{[]byte("a stranger's key, of 32 bytes too"), k.block, k.gob}
	return strings.NewReplacer(
		"{alive}", k.sign(storetest.Name, h.alive),
		"{dead}", k.sign(storetest.Name, deadID),
		"{id}", k.sign(storetest.Name, id),
		"{other}", k.sign("other", h.alive),
		"{stranger}", stranger.sign(storetest.Name, h.alive),
		"{raw}", h.alive,
	).Replace(header)
}

// FuzzCookie: no command is sent for an unsigned cookie, whatever the Cookie headers are. The
// input has one header per line, in which {alive}, {dead}, {id} and so on stand for cookies that
// fuzzing alone would not find.
func FuzzCookie(f *testing.F) {
	h := setupHostile(f)
	f.Add(byte(0), "", "")
	f.Fuzz(func(t *testing.T, store byte, id, headers string) {
		v := h.targets[int(store)%len(h.targets)]
		headers = h.fill(v, headers, id)
		if len(headers) > 1<<18 {
			t.Skip("larger than the headers that a server takes")
		}
		h.throw(t, v, strings.Split(headers, "\n")...)
	})
}

// TestOversizeCookies: what is too long for a cookie is refused before it is decoded, and does not
// stand in the way of a good one.
func TestOversizeCookies(t *testing.T) {
	t.Parallel()
	h := setupHostile(t)
	for _, size := range []int{4096, 4097, 64 << 10, 1 << 20} {
		for what, header := range map[string]string{
			"a value":           cookies(strings.Repeat("A", size)),
			"a value of pipes":  cookies(base64.URLEncoding.EncodeToString(bytes.Repeat([]byte("|"), size*3/4))),
			"a quoted value":    cookies(`"` + strings.Repeat("A", size) + `"`),
			"no value":          strings.Repeat("A", size),
			"a name":            strings.Repeat("n", size) + "=" + signedLongAgo,
			"many equals signs": storetest.Name + strings.Repeat("=", size),
			"many semicolons":   strings.Repeat(";", 2000) + strings.Repeat(" ", size),
		} {
			for i, v := range h.targets {
				if finds, _ := h.throw(t, v, header); finds != 0 {
					t.Errorf("%s of %d bytes: %d finds", what, size, finds)
				}
				if i == 0 {
					// The good one behind it still counts.
					if finds, session := h.throw(t, v, header, h.fill(v, cookies("{alive}"), "")); finds != 1 || session.IsNew {
						t.Errorf("behind %s of %d bytes: %d finds", what, size, finds)
					}
				}
			}
		}
	}
	// The largest cookie that is accepted, and signed.
	k := h.targets[0].keys[0]
	for length, want := range map[int]int{43: 1, 128: 1, 129: 0, 2000: 0} {
		if finds, _ := h.throw(t, h.targets[0], cookies(k.sign(storetest.Name, strings.Repeat("x", length)))); finds != want {
			t.Errorf("an ID of %d characters: %d finds, want %d", length, finds, want)
		}
	}
}

// TestPlantedCookiesCostEightLookups: a neighbour on the same domain can plant cookies, in
// front of the good one, also such that are signed, from sessions of its own.
func TestPlantedCookiesCostEightLookups(t *testing.T) {
	t.Parallel()
	h := setupHostile(t)
	v := h.targets[0]
	k := v.keys[0]
	good := k.sign(storetest.Name, h.alive)
	var forged, dead []string
	for i := range 1000 {
		forged = append(forged, k.sign("other", fmt.Sprintf("forged%d", i)))
		dead = append(dead, k.sign(storetest.Name, fmt.Sprintf("dead%d", i)))
	}
	for what, row := range map[string]struct {
		values []string
		finds  int
		found  bool
	}{
		"a thousand forged":                         {forged, 0, false},
		"a thousand forged, and the good one":       {append(slices.Clone(forged), good), 1, true},
		"a thousand dead":                           {dead, maxLookups, false},
		"a thousand dead, and the good one":         {append(slices.Clone(dead), good), maxLookups, false},
		"seven dead, and the good one":              {append(dead[:7:7], good), 8, true},
		"eight dead, and the good one":              {append(dead[:8:8], good), 8, false},
		"seven dead, forged ones, and the good one": {slices.Concat(dead[:7], forged, []string{good}), 8, true},
		"one dead a thousand times, and the good one": {
			append(strings.Split(strings.Repeat(dead[0]+" ", 999)+dead[0], " "), good), 2, true,
		},
		"the good one, and a thousand dead": {append([]string{good}, dead...), 1, true},
		"the good one a thousand times":     {strings.Split(strings.Repeat(good+" ", 999)+good, " "), 1, true},
	} {
		// In one header, and in one for each.
		lines := make([]string, len(row.values))
		for i, value := range row.values {
			lines[i] = cookies(value)
		}
		for _, headers := range [][]string{{cookies(row.values...)}, lines} {
			if finds, session := h.throw(t, v, headers...); finds != row.finds || session.IsNew == row.found {
				t.Errorf("%s in %d headers: %d finds, found %t", what, len(headers), finds, !session.IsNew)
			}
		}
	}

	// A logout ends the session of each cookie that verifies, also behind those that are looked up,
	// and of no other. All behind the first are deleted by one command. Where there is nothing to
	// delete, it looks once whether that was renewed.
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	r.Header.Set("Cookie", cookies(slices.Concat(dead[:12], forged, []string{good})...))
	session, err := v.store.Get(r, storetest.Name)
	if err != nil {
		t.Fatal(err)
	}
	session.Options.MaxAge = -1
	h.Log.Reset()
	if err := session.Save(r, w); err != nil {
		t.Fatal(err)
	}
	h.WantCommands("delete", "find", "delete", "find")
	h.WantDocuments(0)
}

// TestForeignCookiesAreNoSessions: cookies of other names, other keys, other stores, other
// encryption; and of the right keys that hold something else.
func TestForeignCookiesAreNoSessions(t *testing.T) {
	t.Parallel()
	h := setupHostile(t)
	plain, encrypted, rotated, gobbed := h.targets[0], h.targets[1], h.targets[2], h.targets[3]
	of := func(v target, id string) string { return v.keys[0].sign(storetest.Name, id) }
	tamper := func(at int) string {
		raw, err := base64.URLEncoding.DecodeString(of(plain, h.alive))
		if err != nil {
			t.Fatal(err)
		}
		if at < 0 {
			at += len(raw)
		}
		raw[at] ^= 1
		return base64.URLEncoding.EncodeToString(raw)
	}
	good := of(plain, h.alive)
	for what, row := range map[string]struct {
		to    target
		value string
		finds int
	}{
		"its own":                               {plain, good, 1},
		"its own, encrypted":                    {encrypted, of(encrypted, h.alive), 1},
		"its own, of an older key":              {rotated, good, 1},
		"its own, of an older key, encrypted":   {rotated, of(encrypted, h.alive), 1},
		"its own, in gob":                       {gobbed, of(gobbed, h.alive), 1},
		"signed long ago":                       {plain, signedLongAgo, 1},
		"quoted":                                {plain, `"` + good + `"`, 1},
		"of a newer key":                        {plain, of(rotated, h.alive), 0},
		"encrypted, for one that does not":      {plain, of(encrypted, h.alive), 0},
		"not encrypted, for one that does":      {encrypted, good, 0},
		"gob, for one that has none":            {plain, of(gobbed, h.alive), 0},
		"none, for one that has gob":            {gobbed, good, 0},
		"signed for another name":               {plain, plain.keys[0].sign("other", h.alive), 0},
		"signed for a longer name":              {plain, plain.keys[0].sign(storetest.Name+"s", h.alive), 0},
		"with another time":                     {plain, tamper(0), 0},
		"with another ID":                       {plain, tamper(12), 0},
		"with another signature":                {plain, tamper(-1), 0},
		"cut off":                               {plain, good[:len(good)-4], 0},
		"with something behind it":              {plain, good + "AAAA", 0},
		"with something in front of it":         {plain, "AAAA" + good, 0},
		"in standard base64":                    {plain, strings.NewReplacer("-", "+", "_", "/").Replace(good) + "+", 0},
		"without a signature":                   {plain, base64.URLEncoding.EncodeToString([]byte("1577836800|" + h.alive + "|")), 0},
		"the ID itself":                         {plain, h.alive, 0},
		"the hash of the ID":                    {plain, storetest.HashOf(h.alive), 0},
		"the hash of the ID, signed":            {plain, of(plain, storetest.HashOf(h.alive)), 1},
		"a query, signed":                       {plain, of(plain, `{"$gt":""}`), 0},
		"an ID with a NUL, signed":              {plain, of(plain, h.alive+"\x00"), 0},
		"an ID with a space, signed":            {plain, of(plain, h.alive+" "), 0},
		"an ID in another alphabet, signed":     {plain, of(plain, "ＡＢＣ"), 0},
		"an empty ID, signed":                   {plain, of(plain, ""), 0},
		"an empty ID, signed in gob":            {gobbed, of(gobbed, ""), 0},
		"a path, signed in gob":                 {gobbed, of(gobbed, "../../etc"), 0},
		"an ID of 129 characters in gob":        {gobbed, of(gobbed, strings.Repeat("x", 129)), 0},
		"another session, with the right key":   {plain, of(plain, "x"), 1},
		"the values of a CookieStore":           {plain, cookieStoreCookie(t), 0},
		"the values of a CookieStore, with gob": {gobbed, cookieStoreCookie(t), 0},
	} {
		finds, session := h.throw(t, row.to, cookies(row.value))
		if finds != row.finds {
			t.Errorf("%s: %d finds, want %d", what, finds, row.finds)
		}
		if own := strings.HasPrefix(what, "its own") || what == "quoted"; session.IsNew == own {
			t.Errorf("%s: new %t", what, session.IsNew)
		}
	}

	// Nothing is signed alike by two stores, and a store on another collection, with the same
	// keys, has no such session.
	elsewhere := storetest.Setup(t)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Cookie", cookies(good))
	if session, err := elsewhere.Store.Get(r, storetest.Name); err != nil || !session.IsNew || session.ID != "" {
		t.Errorf("on another collection: %+v, %v", session, err)
	}
}

// TestOddCookieHeaders: where a cookie may stand.
func TestOddCookieHeaders(t *testing.T) {
	t.Parallel()
	h := setupHostile(t)
	v := h.targets[0]
	good := h.fill(v, "{alive}", "")
	for _, row := range []struct {
		headers []string
		found   bool
	}{
		{[]string{"session=" + good}, true},
		{[]string{"a=b", "session=" + good}, true},
		{[]string{"session=", "session=" + good}, true},
		{[]string{"a=b;session=" + good}, true},
		{[]string{"a=b; ;; session=" + good + ";"}, true},
		{[]string{"$Version=1; session=" + good + "; $Path=/"}, true},
		{[]string{"\tsession=" + good}, true},
		{[]string{"session ; session=" + good}, true},
		{[]string{"séssion=x; session=" + good}, true},
		{[]string{"session=\x00; session=" + good}, true},
		{[]string{"session=\"; session=" + good}, true},
		{[]string{"session=x\\; session=" + good}, true},
		{[]string{"session=" + good + ", a=b"}, false},
		{[]string{"session=" + good + " a"}, false},
		{[]string{"session==" + good}, false},
		{[]string{"SESSION=" + good}, false},
		{[]string{"session" + good}, false},
		{[]string{"sessions=" + good}, false},
		{[]string{"__Host-session=" + good}, false},
		{[]string{"session='" + good + "'"}, false},
		{[]string{"session=%4D" + good[1:]}, false},
		{[]string{"Cookie: session=" + good}, false},
		{[]string{`a="; session=` + good + `"`}, false},
		{nil, false},
		{[]string{""}, false},
	} {
		finds, session := h.throw(t, v, row.headers...)
		if session.IsNew == row.found || (finds == 1) != row.found {
			t.Errorf("%q: found %t", row.headers, !session.IsNew)
		}
	}
	// Only the header of that name counts.
	r := httptest.NewRequest(http.MethodGet, "/?session="+good, strings.NewReader("session="+good))
	r.Header["cookie"] = []string{"session=" + good}
	r.Header["Set-Cookie"] = []string{"session=" + good}
	r.Header["Cookie2"] = []string{"session=" + good}
	h.Log.Reset()
	if session, err := v.store.Get(r, storetest.Name); err != nil || !session.IsNew {
		t.Errorf("in another place: %+v, %v", session, err)
	}
	h.WantCommands()
}

// countingCodec counts the signatures that are checked.
type countingCodec struct {
	securecookie.Codec
	checked *int
}

func (c countingCodec) Decode(name, value string, dst any) error {
	*c.checked++
	return c.Codec.Decode(name, value, dst)
}

// TestCostOfForgedCookies: each cookie of the name costs one check of a signature per key pair, and
// nothing else bounds them than how many cookies net/http reads of a request, and how large a server
// lets its headers be. It takes no find and no memory that stays.
func TestCostOfForgedCookies(t *testing.T) {
	f := storetest.Setup(t)
	checked := 0
	f.Store.Codecs = []securecookie.Codec{countingCodec{f.Store.Codecs[0], &checked}}
	for _, size := range []int{4 << 10, 64 << 10, http.DefaultMaxHeaderBytes} {
		// The shortest that reaches the signature, and one of the usual length.
		for _, value := range []string{"MXwxfDE=", signedLongAgo[:len(signedLongAgo)-4] + "AAAA"} {
			each := "session=" + value + ";"
			for _, header := range []string{strings.Repeat(each, size/len(each)), strings.Repeat(each, min(size/len(each), 2999))} {
				checked = 0
				f.Log.Reset()
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				r.Header.Set("Cookie", header)
				began, before := time.Now(), storetest.HeapUsed()
				session, err := f.Store.New(r, storetest.Name)
				took, used := time.Since(began), storetest.HeapUsed()-before
				if !session.IsNew || err == nil && checked > 0 {
					t.Errorf("%+v, %v", session, err)
				}
				if most := strings.Count(header, ";") + 1; checked > most {
					t.Errorf("%d cookies had %d signatures checked", most, checked)
				}
				if limit := uint64(64*len(header) + 16<<20); used > limit || took > 10*time.Second {
					t.Errorf("a header of %d bytes took %v and %d bytes", len(header), took, used)
				}
				f.WantCommands()
				t.Logf("%d cookies in %d KiB: %d signatures checked in %v, %d KiB allocated", len(header)/len(each), len(header)>>10, checked, took, used>>10)
			}
		}
	}
}

// TestRandomIDs: ten thousand IDs of 256 bits have no bit, byte or place that is not random, as far
// as statistics can tell; and their source is the system's CSPRNG.
func TestRandomIDs(t *testing.T) {
	t.Parallel()
	const n, size = 10_000, 32
	f := storetest.Setup(t)
	f.Wire.On("insert", storetest.Rule{Kind: storetest.Answer, Reply: bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 1}}})
	var (
		set, same [8 * size]int // of each bit: how often it is set, and as in the ID before
		counts    [256]int      // of each byte
		parts     [size / 8]map[string]bool
		last      []byte
	)
	for i := range parts {
		parts[i] = map[string]bool{}
	}
	for range n {
		session := sessions.NewSession(f.Store, storetest.Name)
		if err := f.Store.Persist(t.Context(), session); err != nil {
			t.Fatal(err)
		}
		id, err := base64.RawURLEncoding.Strict().DecodeString(session.ID)
		if err != nil || len(id) != size || len(session.ID) != 43 {
			t.Fatalf("an ID of %d bytes, %d characters: %v", len(id), len(session.ID), err)
		}
		for i := range set {
			set[i] += int(id[i/8] >> (i % 8) & 1)
			if last != nil && bits.OnesCount8((id[i/8]^last[i/8])>>(i%8)&1) == 0 {
				same[i]++
			}
		}
		for _, c := range id {
			counts[c]++
		}
		for i := range parts { // of 64 bits, none comes twice, but once in 10^11 runs
			parts[i][string(id[8*i:8*i+8])] = true
		}
		last = id
	}
	for i, p := range parts {
		if len(p) != n {
			t.Errorf("%d different values in bytes %d to %d of %d IDs", len(p), 8*i, 8*i+7, n)
		}
	}
	// A fair coin gives n/2 with a standard deviation of 50. Seven of them, among 512
	// coins, are seen once in a thousand million runs.
	for i := range set {
		for what, got := range map[string]int{"set": set[i], "as before": same[i]} {
			if d := got - n/2; d < -350 || d > 350 {
				t.Errorf("bit %d is %s in %d of %d IDs", i, what, got, n)
			}
		}
	}
	// Chi-squared with 255 degrees of freedom: 255 on average, with a standard
	// deviation of 23.
	chi, expected := 0.0, float64(n*size)/256
	for _, got := range counts {
		d := float64(got) - expected
		chi += d * d / expected
	}
	if chi > 450 || chi < 110 {
		t.Errorf("the bytes' chi-squared is %.0f, want about 255", chi)
	}

	for path, file := range storetest.SourceFiles(t, ".", false) {
		for _, spec := range file.Imports {
			if strings.HasPrefix(spec.Path.Value, `"math/rand`) {
				t.Errorf("%s imports %s", path, spec.Path.Value)
			}
		}
	}
}

// TestIDIsTakenFromTheCookieAlone, whatever else of a request carries it.
func TestIDIsTakenFromTheCookieAlone(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	cookie, id := b.Cookies[storetest.Name], b.Load().ID
	f.Log.Reset()
	for _, v := range []string{cookie, id} {
		form := strings.NewReader("session=" + v)
		r := httptest.NewRequest(http.MethodPost, "https://example.com/"+v+";session="+v+"?session="+v+"#"+v, form)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for _, header := range []string{"Session", "X-Session", "X-Session-Id", "Cookie2", "Set-Cookie"} {
			r.Header.Set(header, "session="+v)
		}
		r.Header.Set("Authorization", "Bearer "+v)
		r.SetBasicAuth("session", v)
		r.AddCookie(&http.Cookie{Name: "Session", Value: v}) // names are compared exactly
		if s, err := f.Store.Get(r, storetest.Name); err != nil || !s.IsNew {
			t.Errorf("session %v, %v", s.Values, err)
		}
	}
	f.WantCommands()
	// An ID in the right place counts only with its signature.
	b.Cookies[storetest.Name] = id
	if s, err := f.Store.New(b.Request(), storetest.Name); err == nil || !s.IsNew {
		t.Errorf("an unsigned ID: %v, %v", s.Values, err)
	}
	f.WantCommands()
}

// TestEveryCookieHasAllItsAttributes: whatever the occasion, also a removal's. A response that has
// nothing to say to the browser has no cookie, and none has the ID anywhere else.
func TestEveryCookieHasAllItsAttributes(t *testing.T) {
	t.Parallel()
	const host = "__Host-id"
	// In the second round the browser has the cookie, and its life does not change.
	silent := []string{"unchanged", "change", "browser session", "remember me", "options nil"}
	for occasion, request := range map[string]func(*storetest.Fixture, *http.Request, http.ResponseWriter, *sessions.Session) error{
		"unchanged": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			return f.Store.Save(r, w, s)
		},
		"change": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			s.Values["n"] = 1
			return f.Store.Save(r, w, s)
		},
		"renewal": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			return f.Store.Renew(r, w, s)
		},
		"ID taken away": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			s.ID = ""
			return f.Store.Save(r, w, s)
		},
		"browser session": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			s.Options.MaxAge = 0
			return f.Store.Save(r, w, s)
		},
		"remember me": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			s.Options.MaxAge = 365 * 24 * 3600
			return f.Store.Save(r, w, s)
		},
		"options nil": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			s.Options = nil
			return f.Store.Save(r, w, s)
		},
		"twice": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			s.Values["n"] = 1
			return errors.Join(f.Store.Save(r, w, s), f.Store.Renew(r, w, s))
		},
		"logout": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			s.Options.MaxAge = -1
			return f.Store.Save(r, w, s)
		},
		"logout in an outage": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			f.Wire.On("delete", storetest.Rule{Kind: storetest.Answer, Once: true, Reply: storetest.Refusal(11600, "InterruptedAtShutdown")})
			s.Options.MaxAge = -1
			return f.Store.Save(r, w, s)
		},
		"touch": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			return f.Store.Save(r, w, s)
		},
	} {
		t.Run(occasion, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			b := f.Browser()
			for round := range 2 { // a new session, and one that is stored
				if round == 1 && occasion == "touch" {
					f.Age(time.Hour)
				}
				r, w := b.Request(), httptest.NewRecorder()
				session, err := f.Store.Get(r, host)
				if err != nil {
					t.Fatal(err)
				}
				if err := request(f, r, w, session); err != nil {
					t.Fatal(err)
				}
				lines := w.Result().Cookies()
				if round == 1 && slices.Contains(silent, occasion) {
					if len(w.Header()) > 0 || w.Body.Len() > 0 {
						t.Errorf("the response has %v, and the body %q", w.Header(), w.Body)
					}
					break
				}
				if len(lines) != 1 {
					t.Fatalf("round %d: %d cookies: %q", round, len(lines), w.Header())
				}
				c := lines[0]
				if c.Name != host || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
					t.Errorf("round %d: %v", round, c)
				}
				if len(c.Name)+len(c.Value) > 4096 {
					t.Errorf("round %d: %d bytes", round, len(c.Name)+len(c.Value))
				}
				if ended := strings.HasPrefix(occasion, "logout"); ended != (c.MaxAge < 0) || ended != (c.Value == "") {
					t.Errorf("round %d: %v", round, c)
				}
				if c.Value != "" {
					var id string
					if err := securecookie.DecodeMulti(host, c.Value, &id, f.Store.Codecs...); err != nil || id != session.ID {
						t.Errorf("round %d: the cookie holds something else than the ID: %v", round, err)
					}
				}
				w.Header().Del("Set-Cookie")
				if rest := fmt.Sprint(w.Header(), w.Body); len(w.Header()) > 0 || w.Body.Len() > 0 {
					t.Errorf("round %d: also in the response: %s", round, rest)
				}
				b.Cookies = map[string]string{host: c.Value}
				if c.Value == "" { // so that the second logout has something to end
					other := httptest.NewRecorder()
					r := f.Browser().Request()
					s, err := f.Store.Get(r, host)
					if err != nil {
						t.Fatal(err)
					}
					if err := s.Save(r, other); err != nil {
						t.Fatal(err)
					}
					b.Receive(other)
				}
			}
		})
	}
}

// TestNilOptionsAreTheDefaults: Options that are nil are the defaults.
func TestNilOptionsAreTheDefaults(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	f.Store.Options = nil
	c := f.Browser().Do(func(*sessions.Session) {})
	if c.Path != "/" || c.MaxAge != 30*24*3600 || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("cookie: %v", c)
	}
}

// TestOptionsReplaceTheDefaults: Config.Options replaces all of them, also those it leaves out.
func TestOptionsReplaceTheDefaults(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.Options = &sessions.Options{Path: "/"} })
	if c := f.Browser().Do(func(*sessions.Session) {}); c.HttpOnly || c.Secure || c.MaxAge != 0 {
		t.Errorf("cookie: %v", c)
	}
}

// TestCookieThatBrowsersDrop is an error, and nothing is stored.
func TestCookieThatBrowsersDrop(t *testing.T) {
	t.Parallel()
	type options = sessions.Options
	var (
		whole    = options{Path: "/", MaxAge: 3600, HttpOnly: true, Secure: true}
		insecure = options{Path: "/", MaxAge: 3600, HttpOnly: true}
		script   = options{Path: "/", MaxAge: 3600, Secure: true}
		app      = options{Path: "/app", MaxAge: 3600, HttpOnly: true, Secure: true}
		domain   = options{Path: "/", MaxAge: 3600, HttpOnly: true, Secure: true, Domain: "example.com"}
	)
	with := func(o options, change func(*options)) options {
		change(&o)
		return o
	}
	none := func(o *options) { o.SameSite = http.SameSiteNoneMode }
	partitioned := func(o *options) { o.Partitioned = true }
	rows := []struct {
		name    string
		options options
		ok      bool
	}{
		{storetest.Name, with(insecure, none), false},
		{storetest.Name, with(whole, none), true},
		{storetest.Name, with(insecure, partitioned), false},
		{storetest.Name, with(whole, partitioned), true},
		{storetest.Name, with(with(insecure, partitioned), none), false},
		{storetest.Name, with(insecure, func(o *options) { o.SameSite = http.SameSiteLaxMode }), true},
		{storetest.Name, insecure, true},
		{storetest.Name, script, true},
	}
	for prefix, row := range map[string]struct{ insecure, script, app, domain bool }{
		"__Secure-":    {false, true, true, true},
		"__Host-":      {false, true, false, false},
		"__Http-":      {false, false, true, true},
		"__Host-Http-": {false, false, false, false},
	} {
		for _, spelled := range []string{prefix, strings.ToLower(prefix), strings.ToUpper(prefix), "__" + strings.ToUpper(prefix[2:3]) + strings.ToLower(prefix[3:5]) + strings.ToUpper(prefix[5:])} {
			for _, o := range []struct {
				options options
				ok      bool
			}{{whole, true}, {insecure, row.insecure}, {script, row.script}, {app, row.app}, {domain, row.domain}} {
				rows = append(rows, struct {
					name    string
					options options
					ok      bool
				}{spelled + "x", o.options, o.ok})
			}
		}
	}
	f := storetest.Setup(t)
	stored := 0
	for _, row := range rows {
		what := fmt.Sprintf("%s with %+v", row.name, row.options)
		for how, change := range map[string]func(*sessions.Session){
			"new":  func(*sessions.Session) {},
			"flag": func(s *sessions.Session) { s.Values["n"] = 1 },
		} {
			r := f.Browser().Request()
			session, err := f.Store.New(r, row.name)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			own := row.options
			session.Options = &own
			change(session)
			w := httptest.NewRecorder()
			if err = f.Store.Save(r, w, session); (err == nil) != row.ok {
				t.Errorf("%s, %s: error %v", what, how, err)
			}
			if (w.Header()["Set-Cookie"] != nil) != row.ok {
				t.Errorf("%s, %s: cookies %q", what, how, w.Header()["Set-Cookie"])
			}
			if row.ok {
				stored++
			}
		}
	}
	f.WantDocuments(stored)
}

// TestCookieThatBrowsersDropOfAStoredSession is an error as well, and the document stays.
func TestCookieThatBrowsersDropOfAStoredSession(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Visit(storetest.SetValue("user", "ada"))
	before := f.Document()
	for what, change := range map[string]func(*sessions.Options){
		"SameSite":    func(o *sessions.Options) { o.Secure, o.SameSite = false, http.SameSiteNoneMode },
		"Partitioned": func(o *sessions.Options) { o.Secure, o.Partitioned = false, true },
	} {
		for how, value := range map[string]func(*sessions.Session){"unchanged": storetest.Unchanged, "changed": storetest.SetValue("n", 1)} {
			session := b.Load()
			change(session.Options)
			value(session)
			w, err := b.Save(session)
			if err == nil {
				t.Errorf("%s, %s: no error", what, how)
			}
			storetest.WantNoCookie(t, what+", "+how, w)
			if w, err = b.Renew(session); err == nil {
				t.Errorf("%s, %s: no error of Renew", what, how)
			}
			storetest.WantNoCookie(t, what+", "+how, w)
		}
	}
	if docs := f.Documents(); len(docs) != 1 || string(docs[0]) != string(before) {
		t.Error("the database has changed")
	}
}

// TestMaxAgeBeyondACentury counts as 100 years, in the cookie and in the document.
func TestMaxAgeBeyondACentury(t *testing.T) {
	t.Parallel()
	const year = 365 * 24 * time.Hour
	if math.MaxInt < 1<<40 {
		t.Skip("an int of 32 bits holds no century")
	}
	about := func(d time.Duration) bool { return d > 99*year && d < 101*year }
	years := func(n int64) int { return int(n * 365 * 24 * 3600) }
	for _, age := range []int{math.MaxInt, math.MaxInt / 2, years(100_000), years(293), years(101)} {
		for _, how := range []string{"own", "store's"} {
			t.Run(fmt.Sprintf("%d, %s", age, how), func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t)
				if how == "store's" {
					f.Store.MaxAge(age)
				}
				b := f.Browser()
				w := b.Visit(func(s *sessions.Session) {
					s.Values["user"] = "ada"
					if how == "own" {
						s.Options.MaxAge = age
					}
				})
				cookies := w.Result().Cookies()
				if len(cookies) != 1 {
					t.Fatalf("cookies: %v", cookies)
				}
				if c := cookies[0]; c.MaxAge <= 0 || int64(c.MaxAge) > 101*int64(year/time.Second) || !about(time.Duration(c.MaxAge)*time.Second) {
					t.Errorf("Max-Age: %d", c.MaxAge)
				}
				if c := cookies[0]; !about(time.Until(c.Expires)) {
					t.Errorf("Expires: %v", c.Expires)
				}
				if left := time.Until(f.Document().Lookup("expiresAt").Time()); !about(left) {
					t.Errorf("expiresAt is in %v", left)
				}
				b.WantIn("afterwards")
				f.Log.Reset()
				storetest.WantNoCookie(t, "unchanged", b.Visit(storetest.Unchanged))
				f.WantCommands("find")
			})
		}
	}
}
