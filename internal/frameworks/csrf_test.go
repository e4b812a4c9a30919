package frameworks

import (
	"html"
	"net/http"
	"regexp"
	"testing"

	"github.com/gorilla/csrf"
)

const csrfCookie = "_gorilla_csrf"

var csrfKey = []byte("another key, of thirty-two bytes")

// openCSRF serves the application of mux behind gorilla/csrf, with a form to sign in.
func openCSRF(t *testing.T, f *fixture, protect func(http.Handler) http.Handler) *browser {
	t.Helper()
	r := muxRouter(f.store)
	r.HandleFunc("/login", loginForm).Methods(http.MethodGet)
	r.HandleFunc("/account/login", loginForm).Methods(http.MethodGet)
	r.Handle("/set", f.store.Middleware(sessionName)(set(f.store, noPause))).Methods(http.MethodPost)
	return newBrowser(t, serve(t, protect(r)))
}

func protect(next http.Handler) http.Handler { return withCSRF(next, csrfKey) }

var tokenField = regexp.MustCompile(`<input type="hidden" name="gorilla.csrf.Token" value="([^"]+)">`)

// token returns the token in a form.
func (b *browser) token(path string) string {
	b.t.Helper()
	found := tokenField.FindStringSubmatch(b.get(path).wants(200).body)
	if found == nil {
		b.t.Fatal("the form has no token")
	}
	return html.UnescapeString(found[1])
}

// Session and token have a cookie each, and do not disturb each other.
func TestCSRF(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := openCSRF(t, f, protect)
	const field = "gorilla.csrf.Token"

	token := b.token("/login")
	tokenCookie := b.cookie(csrfCookie)
	if tokenCookie == "" || b.cookie(sessionName) != "" {
		t.Errorf("looking at the form leaves the cookies %v", b.client.Jar.Cookies(b.origin()))
	}
	b.post("/login", "name", "Ada").wants(http.StatusForbidden)
	f.wantDocuments(0)
	b.post("/login", "name", "Ada", field, token).wants(http.StatusSeeOther)
	b.signedIn("Ada")
	sessionCookie := b.cookie(sessionName)
	if b.cookie(csrfCookie) != tokenCookie || sessionCookie == "" {
		t.Error("the login changes the token's cookie, or sets none of its own")
	}

	// The token is the same after the login, and requests at once share it.
	b.post("/set", "key", "k", field, token).wants(200)
	b.post("/set", "key", "l", field, b.token("/login")).wants(200)
	if b.cookie(csrfCookie) != tokenCookie {
		t.Error("the token's cookie has changed")
	}

	// What is refused costs the database nothing, and changes nothing.
	foreign := b.stranger().token("/login")
	f.commands.take()
	for _, fields := range [][]string{{"key", "x"}, {"key", "x", field, "AAAA"}, {"key", "x", field, foreign}} {
		refused := b.post("/set", fields...).wants(http.StatusForbidden)
		if refused.cookie(sessionName) != nil {
			t.Error("a refusal sets the session's cookie")
		}
	}
	b.post("/logout").wants(http.StatusForbidden)
	if sent := f.commands.take(); len(sent) > 0 {
		t.Errorf("refusals send %q", sent)
	}
	b.signedIn("Ada")

	// Who has copied the session's cookie reads, but does not write without a token of
	// the same browser; and after the logout does neither.
	thief := b.copied()
	thief.signedIn("Ada")
	thief.post("/set", "key", "x", field, token).wants(http.StatusForbidden)
	b.post("/logout", field, token).wants(http.StatusSeeOther)
	f.wantDocuments(0)
	b.signedOut()
	thief.signedOut()
	if b.cookie(csrfCookie) != tokenCookie {
		t.Error("the logout takes the token's cookie")
	}
}

// Without csrf.Path the token's cookie is for the folder of the page that set it.
func TestCSRFNeedsPath(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		protect func(http.Handler) http.Handler
		status  int
	}{
		{"without", csrf.Protect(csrfKey), http.StatusForbidden},
		{"with", protect, http.StatusSeeOther},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := openCSRF(t, setup(t), tt.protect)
			b.post("/login", "name", "Ada", "gorilla.csrf.Token", b.token("/account/login")).wants(tt.status)
		})
	}
}
