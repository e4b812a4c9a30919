// Package ginstore keeps the sessions of gin applications in MongoDB: it adapts a
// [mongostore.Store] to github.com/gin-contrib/sessions.
//
//	mongo, err := mongostore.Open(ctx, mongostore.Config{Database: "app"}, key)
//	// ...
//	store := ginstore.New(mongo)
//	router.Use(sessions.Sessions("session", store), store.Middleware("session"))
//
// [Store.Middleware] loads the session before the handlers run, and saves it before the response
// leaves. Without it, handlers call the session's Save.
package ginstore

import (
	"cmp"
	"net/http"

	"github.com/gin-contrib/sessions"
	gorilla "github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// Store is a [mongostore.Store] that implements gin-contrib's [sessions.Store]. All
// methods of the mongostore.Store can be called on it, among them Renew, which a login
// calls in place of Save.
type Store struct {
	*mongostore.Store
}

var _ sessions.Store = Store{}

// New returns the store in the form that [sessions.Sessions] accepts.
func New(store *mongostore.Store) Store { return Store{store} }

// Options sets the cookie options of new sessions. Call it before the store is used.
//
// Gin's options have no Partitioned, and do not distinguish an omitted field from a zero value.
// So the store's options change as follows:
//
//   - Path, Domain, MaxAge and Secure are replaced, also by their zero values. An empty
//     Path limits the cookie to the directory of the page that set it. MaxAge 0 means
//     that the session ends with the browser.
//   - SameSite is replaced unless it is zero.
//   - HttpOnly can be turned on, not off.
//   - Partitioned is kept.
//
// To set each field to any value, set the Options of the mongostore.Store.
func (s Store) Options(options sessions.Options) {
	o := options.ToGorillaOptions()
	old := s.Store.Options
	if old == nil {
		old = &gorilla.Options{HttpOnly: true, SameSite: http.SameSiteLaxMode}
	}
	o.SameSite = cmp.Or(o.SameSite, old.SameSite)
	o.HttpOnly = o.HttpOnly || old.HttpOnly
	o.Partitioned = old.Partitioned
	s.Store.Options = o
}

// Get returns what [mongostore.Store.Get] returns. The session's Save is that of this
// store.
func (s Store) Get(r *http.Request, name string) (*gorilla.Session, error) {
	session, err := s.Store.Get(r, name)
	if r == nil {
		return session, err
	}
	// The registry now has the session, and sets the session's store to this one.
	if same, err := gorilla.GetRegistry(r).Get(s, name); same == session {
		return same, err
	}
	return session, err // the registry does not keep a session with an invalid name
}

// Save is [mongostore.Store.Save] for sessions whose options a handler may have set by
// gin-contrib's Session.Options, which replaces all of them:
//
//   - A Secure session stays Partitioned if the store's options are.
//   - A logout needs only Options{MaxAge: -1}. A browser removes a cookie only if the response
//     has its Path, Domain and Partitioned. So these, and the other unset options, are copied
//     from the store's options.
//
// All other options are sent as the handler has set them.
func (s Store) Save(r *http.Request, w http.ResponseWriter, session *gorilla.Session) error {
	s.complete(session)
	return s.Store.Save(r, w, session)
}

// Renew is [mongostore.Store.Renew], with the session's options completed as in
// [Store.Save].
func (s Store) Renew(r *http.Request, w http.ResponseWriter, session *gorilla.Session) error {
	s.complete(session)
	return s.Store.Renew(r, w, session)
}

// complete completes the session's options as Save documents.
func (s Store) complete(session *gorilla.Session) {
	if session == nil || session.Options == nil || s.Store.Options == nil {
		return
	}
	o, standard := *session.Options, s.Store.Options
	if o.MaxAge < 0 {
		o.Path = cmp.Or(o.Path, standard.Path)
		o.Domain = cmp.Or(o.Domain, standard.Domain)
		o.Secure = o.Secure || standard.Secure
		o.HttpOnly = o.HttpOnly || standard.HttpOnly
		o.SameSite = cmp.Or(o.SameSite, standard.SameSite)
	}
	o.Partitioned = o.Partitioned || standard.Partitioned && o.Secure
	if o != *session.Options {
		completed := o
		session.Options = &completed
	}
}
