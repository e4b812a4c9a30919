// Package frameworks holds the code of docs/frameworks.md: how the store is used with web
// frameworks, compiled, and executed by the package's tests.
package frameworks

import (
	"errors"
	"net/http"

	"github.com/gorilla/securecookie"

	"github.com/mongostore/mongostore"
)

// visit loads the session before the handlers run, so they can ignore Get's error. It saves
// the session, which moves the expiry: at most one write a minute.
func visit(store *mongostore.Store, w http.ResponseWriter, r *http.Request, name string) error {
	session, err := store.Get(r, name)
	var invalid securecookie.Error
	switch {
	case errors.As(err, &invalid): // the cookie fails verification: a new visitor
		return nil
	case err != nil || session.IsNew:
		return err
	default:
		return session.Save(r, w)
	}
}
