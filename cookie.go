package mongostore

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
)

// This file creates session IDs, and the cookies that carry them.

const (
	// hashLength is the length of a SHA-256 in base64.
	hashLength = 43

	// maxIDLength bounds the input of the hash. The store's own IDs have 43 characters.
	maxIDLength = 128

	// maxLookups is how many cookies of one name are looked up in the database. Browsers
	// send several when one was set for a parent domain or path.
	maxLookups = 8
)

var errID = errors.New("not a session ID")

// newID returns a random session ID. Read never returns an error; it crashes the program
// instead.
func newID() string {
	id := make([]byte, 32) // 256 bits; OWASP ASVS 7.2.3 asks for 128
	_, _ = rand.Read(id)
	return base64.RawURLEncoding.EncodeToString(id)
}

// derivedID returns the session ID for the cookie of another store.
func derivedID(secret []byte, name, content string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(name + "\x00" + content))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// deriveSecrets returns the secrets for derived IDs and undecided renewals, one for each signing
// key.
func deriveSecrets(keyPairs [][]byte) (secrets [][]byte) {
	for i := 0; i < len(keyPairs); i += 2 {
		mac := hmac.New(sha256.New, keyPairs[i])
		mac.Write([]byte("mongostore: IDs of migrated sessions"))
		secrets = append(secrets, mac.Sum(nil))
	}
	return secrets
}

// hashID returns the _id of a session's document. The ID cannot be computed from it. The ID may
// have the suffix that [Store.undecided] adds.
func hashID(id string) string {
	id, _, _ = strings.Cut(id, ".")
	var text [maxIDLength]byte // on the stack
	sum := sha256.Sum256(append(text[:0], id...))
	var hash [hashLength]byte
	base64.RawURLEncoding.Encode(hash[:], sum[:])
	return string(hash[:])
}

// validHash reports whether s has the form of a hash.
func validHash(s string) bool { return len(s) == hashLength && validID(s) }

// validID reports whether id has the form of a session ID.
func validID(id string) bool {
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return len(id) > 0 && len(id) <= maxIDLength
}

// cookieID is what a cookie carries: the session's ID and, after an undecided renewal, what the
// next request needs to complete it.
type cookieID struct {
	text string // all of it
	id   string
	from string // the hash of the session that this one was renewed from, if that may still be live
	rev  int64  // of that session, as the renewal knew it; 0 if it was in the old store
	keys string // the names of the keys that the renewal has changed, each with a NUL before and after
	old  bool   // the cookie is not signed by the newest key
}

// undecided returns the ID of the session after an undecided renewal.
func (s *Store) undecided(c cookieID) string {
	const longest = 1 << 10 // leaves room in the cookie; without the names, no other changes are merged
	keys := ""
	if len(c.keys) <= longest {
		keys = base64.RawURLEncoding.EncodeToString([]byte(c.keys))
	}
	text := fmt.Sprintf("%s.%s.%d.%s", c.id, c.from, c.rev, keys)
	return text + "." + s.macOf(s.secrets[0], text)
}

// macOf returns the last part of an undecided ID. A cookie is signed as a whole, but an ID that is
// passed to Fetch may be anybody's.
func (*Store) macOf(secret []byte, text string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("undecided renewal\x00" + text))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// parseID is the inverse of [Store.undecided]. A text without a dot is only an ID. If the rest is not
// authentic, only the ID counts.
func (s *Store) parseID(text string) (c cookieID, ok bool) {
	var undecided bool
	c.text = text
	if c.id, _, undecided = strings.Cut(text, "."); !undecided {
		return c, validID(text)
	}
	if !(idSerializer{}).valid(text) {
		return cookieID{}, false
	}
	parts := strings.Split(text, ".")
	signed, mac := strings.Join(parts[:4], "."), []byte(parts[4])
	authentic := func(secret []byte) bool { return hmac.Equal(mac, []byte(s.macOf(secret, signed))) }
	rev, errRev := strconv.ParseInt(parts[2], 10, 64)
	keys, errKeys := base64.RawURLEncoding.DecodeString(parts[3])
	if slices.ContainsFunc(s.secrets, authentic) && errRev == nil && errKeys == nil {
		c.from, c.rev, c.keys = parts[1], rev, string(keys)
	}
	return c, true
}

// valid reports whether a text has the form of an ID, or of one after an undecided renewal. It
// rejects other content signed with the same keys, such as a CookieStore's values.
func (idSerializer) valid(text string) bool {
	if !strings.Contains(text, ".") {
		return validID(text)
	}
	parts := strings.Split(text, ".")
	return len(parts) == 5 && validID(parts[0]) && validHash(parts[1])
}

// textsExcept returns the texts of the cookies but one.
func textsExcept(cookies []cookieID, except int) (texts []string) {
	for i, c := range cookies {
		if i != except {
			texts = append(texts, c.text)
		}
	}
	return texts
}

// idSerializer writes the ID into the cookie unchanged, which keeps the cookie short.
type idSerializer struct{}

func (idSerializer) Serialize(src any) ([]byte, error) {
	text, ok := src.(string)
	if !ok {
		return nil, errID
	}
	return []byte(text), nil
}

func (s idSerializer) Deserialize(src []byte, dst any) error {
	dstText, ok := dst.(*string)
	text := string(src)
	if !ok || !s.valid(text) {
		return errID
	}
	*dstText = text
	return nil
}

// newCodecs returns the cookie's codecs for the key pairs. It refuses keys with which
// securecookie would fail later, or silently use another pair.
func newCodecs(keyPairs [][]byte) (codecs []securecookie.Codec, weak bool, err error) {
	if len(keyPairs) == 0 {
		return nil, false, errors.New("no keys")
	}
	for i := 0; i < len(keyPairs); i += 2 {
		signing := slices.Clone(keyPairs[i])
		if len(signing) == 0 {
			return nil, false, fmt.Errorf("key %d, for signing, is empty", i)
		}
		weak = weak || len(signing) < 32 // bytes, for HMAC-SHA-256
		var block []byte
		if i+1 < len(keyPairs) {
			block = slices.Clone(keyPairs[i+1])
		}
		if n := len(block); block != nil && n != 16 && n != 24 && n != 32 {
			return nil, false, fmt.Errorf("key %d, for encryption, has %d bytes: want 16, 24 or 32, or nil for no encryption", i+1, n)
		}
		// The document decides how long a session lives, not the signature's age.
		codecs = append(codecs, securecookie.New(signing, block).SetSerializer(idSerializer{}).MaxAge(0))
	}
	return codecs, weak, nil
}

// cookiesOf appends the session IDs in the request's cookies of the name, in their order. If
// there are none, it returns the error of the first cookie that does not verify.
func (s *Store) cookiesOf(cookies []cookieID, r *http.Request, name string) (_ []cookieID, err error) {
	for _, cookie := range r.CookiesNamed(name) {
		c, errCookie := s.verify(name, cookie.Value)
		if errCookie != nil {
			if err == nil {
				err = errCookie
			}
			continue
		}
		if c.id != "" && !slices.ContainsFunc(cookies, func(known cookieID) bool { return known.id == c.id }) {
			cookies = append(cookies, c)
		}
	}
	if len(cookies) > 0 {
		return cookies, nil
	}
	return nil, err
}

// verify returns the content of a cookie. The ID is empty if the signature is valid but the
// content is not an ID.
func (s *Store) verify(name, content string) (cookieID, error) {
	var text string
	var errs securecookie.MultiError
	for i, codec := range s.Codecs {
		err := codec.Decode(name, content, &text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c, ok := s.parseID(text)
		if !ok {
			return cookieID{}, nil
		}
		c.old = i > 0
		return c, nil
	}
	if len(errs) == 0 {
		return cookieID{}, securecookie.DecodeMulti(name, content, &text) // reports that there are no codecs
	}
	return cookieID{}, errs
}

// signedCookie returns the cookie for an ID. It reports every error that the cookie can have, so
// that nothing is stored without a cookie.
func (s *Store) signedCookie(name, id string, o *sessions.Options) (*http.Cookie, error) {
	signed, err := securecookie.EncodeMulti(name, id, s.Codecs...)
	if err != nil {
		return nil, fmt.Errorf("sign cookie: %w", err)
	}
	return newCookie(name, signed, o)
}

// newCookie returns a cookie. It refuses a cookie that net/http would alter or browsers would
// drop: see RFC 6265bis, and for the prefixes __Http- and __Host-Http- its successor,
// https://datatracker.ietf.org/doc/draft-ietf-httpbis-layered-cookies/.
func newCookie(name, content string, o *sessions.Options) (*http.Cookie, error) {
	bounded := *o
	bounded.MaxAge = min(o.MaxAge, longestMaxAge)
	cookie := sessions.NewCookie(name, content, &bounded)
	if err := cookie.Valid(); err != nil {
		return nil, fmt.Errorf("invalid cookie: %w", err)
	}
	const kept = 4096 // bytes of name and value, by browsers (RFC 6265, section 6.1)
	if len(name)+len(content) > kept {
		return nil, fmt.Errorf("invalid cookie: name and value exceed %d bytes", kept)
	}
	prefixed := func(prefix string) bool { // in any case: section 5.7
		return len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix)
	}
	isHost := prefixed("__Host-")
	isHTTP := prefixed("__Http-") || prefixed("__Host-Http-")
	switch {
	case o.Secure:
	case o.SameSite == http.SameSiteNoneMode:
		return nil, errors.New("invalid cookie: SameSite=None requires Secure")
	case o.Partitioned:
		return nil, errors.New("invalid cookie: Partitioned requires Secure")
	case isHost || isHTTP || prefixed("__Secure-"):
		return nil, fmt.Errorf("invalid cookie: the name %q requires Secure", name)
	}
	if isHTTP && !o.HttpOnly {
		return nil, fmt.Errorf("invalid cookie: the name %q requires HttpOnly", name)
	}
	if isHost && (o.Path != "/" || o.Domain != "") {
		return nil, fmt.Errorf("invalid cookie: the name %q requires Path / and no Domain", name)
	}
	return cookie, nil
}

// checkCookieName checks the name of a session, which is its cookie's.
func checkCookieName(name string) error {
	if (&http.Cookie{Name: name}).Valid() != nil { //nolint:gosec // only its name is checked
		return fmt.Errorf("%q cannot be the name of a cookie", name)
	}
	return nil
}

// setCookie adds the cookie to the response. It replaces an earlier line, and returns the new
// line.
func setCookie(w http.ResponseWriter, cookie *http.Cookie, earlier string) string {
	line := cookie.String()
	withdrawCookie(w, earlier)
	w.Header().Add("Set-Cookie", line)
	return line
}

// withdrawCookie removes a line from the response.
func withdrawCookie(w http.ResponseWriter, line string) {
	header := w.Header()
	lines := header["Set-Cookie"]
	if line == "" || len(lines) == 0 {
		return
	}
	header["Set-Cookie"] = slices.DeleteFunc(lines, func(l string) bool { return l == line })
	if len(header["Set-Cookie"]) == 0 {
		delete(header, "Set-Cookie")
	}
}
