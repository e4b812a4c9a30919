// Package frameworks holds the code of docs/frameworks.md: how the store is used with web
// frameworks, compiled, and executed by the package's tests.
package frameworks

import (
	"fmt"
	"net/http"

	"github.com/mongostore/mongostore"
)

const sessionName = "session" // also the cookie's name

// login changes the session's ID, so an ID that was planted before does not work.
func login(store *mongostore.Store) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, sessionName)
		session.Values["user"] = r.PostFormValue("name") // after you have checked the password
		if err := store.Renew(r, w, session); err != nil {
			http.Error(w, "please try again", mongostore.StatusCode(err))
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

func home(store *mongostore.Store) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, sessionName)
		if user, ok := mongostore.Value[string](session, "user"); ok {
			fmt.Fprintf(w, "Hello, %q", user)
		} else {
			fmt.Fprint(w, "Please sign in")
		}
	}
}

// logout is outside of the middleware, so it works while MongoDB is unavailable.
func logout(store *mongostore.Store) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, sessionName)
		session.Options.MaxAge = -1
		if err := session.Save(r, w); err != nil {
			http.Error(w, "please try again", mongostore.StatusCode(err))
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}
