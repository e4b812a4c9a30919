// Package frameworks holds the code of docs/frameworks.md: how the store is used with web
// frameworks, compiled, and executed by the package's tests.
package frameworks

import (
	"errors"
	"net/http"

	"github.com/gorilla/securecookie"

	"github.com/mongostore/mongostore"
)

const sessionName = "session" // and the cookie's

// visit loads the session before the handlers do, who need not look at Get's error
// any more. It saves a session as it is, which moves its expiry: a write once a minute
// at most.
func visit(store *mongostore.Store, w http.ResponseWriter, r *http.Request, name string) error {
	session, err := store.Get(r, name)
	var invalid securecookie.Error
	switch {
	case errors.As(err, &invalid): // not a cookie of ours: a new visitor
		return nil
	case err != nil || session.IsNew:
		return err
	default:
		return session.Save(r, w)
	}
}

// status is what to answer to an error of the store.
func status(err error) int {
	switch {
	case errors.Is(err, mongostore.ErrGone): // signed out while the request was under way
		return http.StatusUnauthorized
	case errors.Is(err, mongostore.ErrUnavailable): // the visitor stays signed in
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
