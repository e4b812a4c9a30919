package mongostore

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
)

// The session's ID and the cookie that carries it.

const (
	idBytes = 32 // 256 bits from the system's CSPRNG; OWASP ASVS 7.2.3 asks for 128

	keyLength = 43 // of a SHA-256 in base64

	// maxIDLength bounds what is hashed; IDs of our own making have 43 characters.
	maxIDLength = 128

	// maxCookies is how many cookies of one name a request can have looked up.
	// Browsers send several when one was set for a parent domain or path.
	maxCookies = 8

	// maxCookieSize is what browsers keep of a cookie's name and value (RFC 6265,
	// section 6.1).
	maxCookieSize = 4096

	minKeyLength = 32 // of a signing key, for HMAC-SHA-256
)

var errID = errors.New("not a session ID")

// newID makes a session ID. Package rand does not fail: it ends the process rather
// than to return bytes that can be guessed.
func newID() string {
	id := make([]byte, idBytes)
	_, _ = rand.Read(id)
	return base64.RawURLEncoding.EncodeToString(id)
}

// keyOf gives the _id of a session's document. Who reads the database cannot make
// a session ID from it.
func keyOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	var key [keyLength]byte
	base64.RawURLEncoding.Encode(key[:], sum[:])
	return string(key[:])
}

// validID holds for every ID of our making. What else is signed by the same keys,
// such as the values of a CookieStore, is no ID.
func validID[T string | []byte](id T) bool {
	for i := range len(id) {
		if c := id[i]; (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return len(id) > 0 && len(id) <= maxIDLength
}

// idSerializer puts the ID as it is into the cookie, which keeps the cookie short
// and spares every request gob.
type idSerializer struct{}

func (idSerializer) Serialize(src any) ([]byte, error) {
	switch id := src.(type) {
	case string:
		return []byte(id), nil
	case []byte:
		return id, nil
	default:
		return nil, errID
	}
}

func (idSerializer) Deserialize(src []byte, dst any) error {
	if !validID(src) {
		return errID
	}
	switch id := dst.(type) {
	case *string:
		*id = string(src)
	case *[]byte:
		*id = src
	default:
		return errID
	}
	return nil
}

// newCodecs makes the cookie's codecs of key pairs. It refuses what securecookie
// would pass over in silence.
func newCodecs(keyPairs [][]byte) (codecs []securecookie.Codec, weak bool, err error) {
	if len(keyPairs) == 0 {
		return nil, false, errors.New("no keys")
	}
	for i := 0; i < len(keyPairs); i += 2 {
		signing := slices.Clone(keyPairs[i])
		if len(signing) == 0 {
			return nil, false, fmt.Errorf("key %d, for signing, is empty", i)
		}
		weak = weak || len(signing) < minKeyLength
		var block []byte
		if i+1 < len(keyPairs) {
			block = slices.Clone(keyPairs[i+1])
		}
		if n := len(block); block != nil && n != 16 && n != 24 && n != 32 {
			return nil, false, fmt.Errorf("key %d, for encryption, has %d bytes; AES takes 16, 24 or 32, and nil is no encryption", i+1, n)
		}
		// The document decides how long a session lives, not the age of the
		// signature: hence no limit.
		codecs = append(codecs, securecookie.New(signing, block).SetSerializer(idSerializer{}).MaxAge(0))
	}
	return codecs, weak, nil
}

// carried is a session ID that a request carries.
type carried struct {
	id     string
	signed string // the cookie's content, if a new one would differ in its age alone; or empty
}

func idsOf(cookies []carried) (ids []string) {
	for _, c := range cookies {
		ids = append(ids, c.id)
	}
	return ids
}

// cookieIDs returns the session IDs in the request's cookies of the name, in the order of
// the cookies, and if there is none the error of the first cookie that failed.
func (s *Store) cookieIDs(r *http.Request, name string) (ids []carried, err error) {
	for _, cookie := range r.CookiesNamed(name) {
		id, newest, errCookie := s.verify(name, cookie.Value)
		if errCookie != nil {
			if err == nil {
				err = errCookie
			}
			continue
		}
		if validID(id) && !slices.ContainsFunc(ids, func(c carried) bool { return c.id == id }) {
			c := carried{id: id}
			if newest {
				c.signed = cookie.Value
			}
			ids = append(ids, c)
		}
		if len(ids) == maxCookies {
			break
		}
	}
	if len(ids) > 0 {
		return ids, nil
	}
	return nil, err
}

// signedAt returns when securecookie signed a cookie's content, which begins with that time,
// or zero. It serves to spare work, and is not to be relied on.
func signedAt(content string) time.Time {
	var start [12]byte
	if len(content) < 16 {
		return time.Time{}
	}
	if _, err := base64.URLEncoding.Decode(start[:], []byte(content[:16])); err != nil {
		return time.Time{}
	}
	date, _, _ := strings.Cut(string(start[:]), "|")
	seconds, err := strconv.ParseInt(date, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

// verify returns the ID in a cookie, and whether the newest of the store's own codecs
// accepted it.
func (s *Store) verify(name, content string) (id string, newest bool, err error) {
	var errs securecookie.MultiError
	for i, codec := range s.Codecs {
		err := codec.Decode(name, content, &id)
		if err == nil {
			return id, i == 0 && codec == s.newest, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return "", false, securecookie.DecodeMulti(name, content, &id) // says that there are no codecs
	}
	return "", false, errs
}

// signedCookie makes the cookie for an ID. Everything that can be wrong with it is
// found here, before the database is touched. A cookie that came in and is as good as
// a new one goes out again, which spares half of the cryptography of a request. It is not
// when it is older than a touch: the application may have given the codecs an age.
func (s *Store) signedCookie(q *saving) (*http.Cookie, error) {
	name, signed := q.session.Name(), q.st.signed
	if q.id != q.st.id || q.next.seenAt.Sub(signedAt(signed)) > s.touchInterval(q.own.MaxAge) {
		var err error
		if signed, err = securecookie.EncodeMulti(name, q.id, s.Codecs...); err != nil {
			return nil, fmt.Errorf("sign cookie: %w", err)
		}
	}
	return newCookie(name, signed, q.own)
}

// newCookie makes a cookie. It refuses one that net/http would mutilate, and names
// and sizes that browsers refuse.
func newCookie(name, content string, options *sessions.Options) (*http.Cookie, error) {
	cookie := sessions.NewCookie(name, content, options)
	if err := cookie.Valid(); err != nil {
		return nil, fmt.Errorf("invalid cookie: %w", err)
	}
	if len(name)+len(content) > maxCookieSize {
		return nil, fmt.Errorf("invalid cookie: name and value exceed %d bytes", maxCookieSize)
	}
	// RFC 6265bis, section 4.1.3: browsers compare the prefixes in any case.
	isHost, isSecure := hasPrefixFold(name, "__Host-"), hasPrefixFold(name, "__Secure-")
	if (isHost || isSecure) && !options.Secure {
		return nil, fmt.Errorf("invalid cookie: the name %q demands Secure", name)
	}
	if isHost && (options.Path != "/" || options.Domain != "") {
		return nil, fmt.Errorf("invalid cookie: the name %q demands Path / and no Domain", name)
	}
	return cookie, nil
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// setCookie adds the cookie to the response, in the place of the one that an
// earlier Save of the same session added. It returns the header's line.
func setCookie(w http.ResponseWriter, cookie *http.Cookie, earlier string) string {
	line := cookie.String()
	withdrawCookie(w, earlier)
	w.Header().Add("Set-Cookie", line)
	return line
}

// withdrawCookie takes a line that an earlier Save added out of the response again.
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

func validName(name string) bool {
	return (&http.Cookie{Name: name}).Valid() == nil //nolint:gosec // only its name is looked at
}
