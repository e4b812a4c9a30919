package frameworks

import (
	"fmt"
	"net/http"

	"github.com/mongostore/mongostore"
)

// sessions is the middleware that mux, chi and net/http itself take.
func sessions(store *mongostore.Store) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := visit(store, w, r, sessionName); err != nil {
				http.Error(w, "please try again", status(err))
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// login gives the session a fresh ID, so that one that was planted is worth nothing.
func login(store *mongostore.Store) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, sessionName)          // its error: see visit
		session.Values["user"] = r.PostFormValue("name") // once the password is checked
		if err := store.Renew(r, w, session); err != nil {
			http.Error(w, "please try again", status(err))
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}

func home(store *mongostore.Store) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, sessionName)
		if user, ok := session.Values["user"].(string); ok {
			fmt.Fprintf(w, "Hello, %q", user)
		} else {
			fmt.Fprint(w, "Please sign in")
		}
	}
}

// logout works behind no middleware: also while the database is down.
func logout(store *mongostore.Store) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, sessionName)
		session.Options.MaxAge = -1
		if err := session.Save(r, w); err != nil {
			http.Error(w, "please try again", status(err))
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	}
}
