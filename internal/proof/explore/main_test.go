package explore

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
)

const name = "session"

var signingKey = []byte("a signing key of thirty-two bytes")

// keyOf returns the _id of a session's document.
func keyOf(id string) string {
	id, _, _ = strings.Cut(id, ".") // what follows the ID of an undecided renewal
	sum := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func newRequest(cookies []*http.Cookie) *http.Request {
	r := httptest.NewRequest(http.MethodGet, site.String(), nil)
	for _, c := range cookies {
		r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
	}
	return r
}
