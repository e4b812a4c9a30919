package frameworks

import (
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/markbates/goth/gothic"

	"github.com/mongostore/mongostore"
)

// withGoth adds a sign-in by way of a provider. Until its callback goth needs a session of
// its own, "_gothic_session"; it is kept in attempts, a store whose MaxAge is a few minutes,
// so that those who never come back are soon forgotten.
func withGoth(r chi.Router, store, attempts *mongostore.Store) {
	gothic.Store = attempts
	r.Get("/auth/{provider}", func(w http.ResponseWriter, r *http.Request) {
		url, err := gothic.GetAuthURL(w, r)
		if err != nil {
			http.Error(w, "please try again", status(err))
			return
		}
		http.Redirect(w, r, url, http.StatusTemporaryRedirect)
	})
	r.Get("/auth/{provider}/callback", func(w http.ResponseWriter, r *http.Request) {
		// goth takes a session that could not be loaded for one that is not there.
		if err := visit(attempts, w, r, gothic.SessionName); err != nil {
			http.Error(w, "please try again", status(err))
			return
		}
		user, err := gothic.CompleteUserAuth(w, r) // which ends goth's own session
		if err != nil {
			http.Error(w, "not signed in", http.StatusForbidden)
			return
		}
		session, _ := store.Get(r, sessionName) // its error: see visit
		session.Values["user"] = user.UserID
		if err := store.Renew(r, w, session); err != nil {
			http.Error(w, "please try again", status(err))
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
}
