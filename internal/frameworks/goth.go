package frameworks

import (
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/markbates/goth/gothic"

	"github.com/mongostore/mongostore"
)

// withGoth adds a login through a provider. Until the provider's callback, goth has a session
// of its own, "_gothic_session". It is kept in attempts, a store with a MaxAge of a few minutes,
// so that abandoned logins expire soon.
func withGoth(r chi.Router, store, attempts *mongostore.Store) {
	gothic.Store = attempts
	// goth ignores the errors of a load, so the middleware handles them.
	r = r.With(attempts.Middleware(gothic.SessionName), store.Middleware(sessionName))
	r.Get("/auth/{provider}", func(w http.ResponseWriter, r *http.Request) {
		url, err := gothic.GetAuthURL(w, r)
		if err != nil {
			http.Error(w, "please try again", mongostore.StatusCode(err))
			return
		}
		http.Redirect(w, r, url, http.StatusTemporaryRedirect)
	})
	r.Get("/auth/{provider}/callback", func(w http.ResponseWriter, r *http.Request) {
		user, err := gothic.CompleteUserAuth(w, r) // ends goth's own session
		if err != nil {
			http.Error(w, "not signed in", http.StatusForbidden)
			return
		}
		session, _ := store.Get(r, sessionName)
		session.Values["user"] = user.UserID
		if err := store.Renew(r, w, session); err != nil {
			http.Error(w, "please try again", mongostore.StatusCode(err))
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
}

// acceptFormPosts lets the provider's site post to the callback.
func acceptFormPosts(attempts *mongostore.Store) {
	attempts.Options.SameSite = http.SameSiteNoneMode // with Secure, which is the default
}
