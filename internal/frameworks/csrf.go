package frameworks

import (
	"fmt"
	"net/http"

	"github.com/gorilla/csrf"
)

// withCSRF goes in front of the router. The key is another one than the store's, of 32 bytes.
// Without the Path, a browser would send the token's cookie to a part of the site only.
func withCSRF(router http.Handler, key []byte) http.Handler {
	return csrf.Protect(key, csrf.Path("/"))(router)
}

// loginForm has the token. Scripts send it in the header X-CSRF-Token.
func loginForm(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, `<form method="post" action="/login">%s<input name="name"><button>Sign in</button></form>`,
		csrf.TemplateField(r))
}
