package main

import (
	"context"
	"encoding/gob"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// What an application needs for its sessions. This is the file to copy from.

const (
	sessionName = "teahouse" // also of the cookie
	keyUser     = "user"     // string: who is signed in, the owner of the session

	rememberMe     = 30 * 24 * 60 * 60   // seconds
	browserSession = 0                   // the cookie ends with the browser
	longestSession = 90 * 24 * time.Hour // then users sign in again, however often they come

	databaseTimeout = 3 * time.Second // no user waits longer for a session
	maxAttempts     = 12              // of a change that other requests interfere with
)

// openStores returns two stores of the same sessions. store lets the later request win where
// two change the same key. strict refuses the later one, for changes that depend on what was
// there before: see change.
func openStores(ctx context.Context, cfg config, db *database, logger *slog.Logger, key []byte,
	onError func(http.ResponseWriter, *http.Request, error),
) (store, strict *mongostore.Store, err error) {
	options := mongostore.DefaultOptions() // Path "/", HttpOnly, SameSite=Lax, Secure
	options.MaxAge = browserSession        // unless the user wants to be remembered: see login
	// Only because the example is visited as http://localhost. Do not set it from
	// X-Forwarded-Proto, which any client can send.
	options.Secure = cfg.secure

	c := mongostore.Config{
		Client:          db.client,
		Database:        db.name,
		Options:         options,
		AbsoluteTimeout: longestSession,
		SealKeys:        db.sealKeys,
		// Own types are stored as documents, which can be read and queried in mongosh.
		Types: []mongostore.Type{
			mongostore.TypeOf[Line]("line"),
			mongostore.TypeOf[Order]("order"),
		},
		// For the page "Your devices".
		OwnerKey: keyUser,
		Describe: describe,

		OnError: onError,
		Timeout: databaseTimeout,
		Logger:  logger,
	}
	if db.sweep {
		c.Cleanup = mongostore.CleanupSweep
	}
	if cfg.migrate {
		// The sessions that used to be in the cookies, signed with the same key. Remove this
		// when the last of those cookies has expired.
		gob.Register(Line{})
		gob.Register(Order{})
		c.MigrateFrom = sessions.NewCookieStore(key)
	}
	if store, err = mongostore.Open(ctx, c, key); err != nil {
		return nil, nil, err
	}
	c.OnConflict = mongostore.ConflictReject
	c.Cleanup = mongostore.CleanupOff // store does that
	strict, err = mongostore.Open(ctx, c, key)
	return store, strict, err
}

// fail responds to an error of the store, or of a handler. The store's middleware calls it too.
func (s *shop) fail(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, errNotSignedIn):
		redirect(w, r, "/login?note=first")

	case errors.Is(err, mongostore.ErrGone):
		// The user has signed out in another window or on another device while this request
		// was running. Its changes must not bring the session back.
		redirect(w, r, "/login?note=ended")

	case r.Context().Err() != nil:
		// The user has left.

	case errors.Is(err, mongostore.ErrCorrupt):
		// A type was renamed, a seal key removed, or the document is damaged. An error page
		// would shut the user out until the session expires.
		s.log.ErrorContext(r.Context(), "session cannot be read and was ended", "path", r.URL.Path, "error", err)
		if err := s.end(w, r); err != nil {
			s.message(w, http.StatusInternalServerError, wrong)
			return
		}
		redirect(w, r, "/login?note=unreadable")

	case errors.Is(err, mongostore.ErrConflict):
		w.Header().Set("Retry-After", "1")
		s.message(w, http.StatusServiceUnavailable, busy)

	case errors.Is(err, mongostore.ErrUnavailable):
		// This is no logout: cookie and session stay. Do not continue as if the user were new.
		s.log.ErrorContext(r.Context(), "sessions unavailable", "method", r.Method, "path", r.URL.Path, "error", err)
		w.Header().Set("Retry-After", "5")
		s.message(w, http.StatusServiceUnavailable, unavailable)

	default:
		s.log.ErrorContext(r.Context(), "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		s.message(w, mongostore.StatusCode(err), wrong)
	}
}

var errNotSignedIn = errors.New("not signed in")

// userOf returns the name of the user, or "" if nobody is signed in.
func userOf(session *sessions.Session) string {
	user, _ := mongostore.Value[string](session, keyUser)
	return user
}

// hasEnded reports whether the session of the request's cookie has ended: it has expired, or
// was signed out on another device.
func hasEnded(r *http.Request, session *sessions.Session) bool {
	_, err := r.Cookie(sessionName)
	return session.IsNew && err == nil && userOf(session) == ""
}

// checkUser returns an error for fail if nobody is signed in.
func checkUser(r *http.Request, session *sessions.Session) error {
	switch {
	case userOf(session) != "":
		return nil
	case hasEnded(r, session):
		return mongostore.ErrGone
	default:
		return errNotSignedIn
	}
}

// requireLogin sends those who are not signed in to the login page. It belongs behind the
// store's middleware, like everything that ignores the error of Get.
func (s *shop) requireLogin(next http.Handler) http.Handler {
	return s.handle(func(w http.ResponseWriter, r *http.Request) error {
		session, _ := s.store.Get(r, sessionName)
		if err := checkUser(r, session); err != nil {
			return err
		}
		next.ServeHTTP(w, r)
		return nil
	})
}

// login signs a user in. It accepts any name; your application asks for a password.
func (s *shop) login(w http.ResponseWriter, r *http.Request) error {
	name, remember := nameOf(r), r.PostFormValue("remember") != ""
	if problem := nameProblem(name); problem != "" {
		s.render(w, http.StatusUnprocessableEntity, "login.html", page{
			Title: "Sign in", Name: name, Remember: remember, Problem: problem,
		})
		return nil
	}
	session, _ := s.store.Get(r, sessionName)
	if userOf(session) != "" {
		// Another user's values, and the age of that session, are not this user's.
		if err := s.store.Remove(r.Context(), session); err != nil {
			return err
		}
		session, _ = s.store.New(r, sessionName)
	}
	session.Values[keyUser] = name
	session.AddFlash("Welcome, " + name + ".")
	session.Options.MaxAge = browserSession
	if remember {
		session.Options.MaxAge = rememberMe // the session keeps it
	}
	// A login changes the ID: one that somebody else has planted or learned before must not
	// become a signed-in one.
	if err := s.store.Renew(r, w, session); err != nil {
		return err
	}
	redirect(w, r, "/")
	return nil
}

// logout ends the session. Its route is not behind the middleware, so it works whatever state
// the session is in. While the database is unavailable, the store repeats the deletion until
// it succeeds.
func (s *shop) logout(w http.ResponseWriter, r *http.Request) error {
	if err := s.end(w, r); err != nil {
		return err
	}
	redirect(w, r, "/?note=out")
	return nil
}

func (s *shop) end(w http.ResponseWriter, r *http.Request) error {
	session, _ := s.store.Get(r, sessionName) // never nil, and a logout succeeds also after an error
	session.Options.MaxAge = -1
	return session.Save(r, w)
}

// change calls f to change the user's session by what is in it, such as one pack more, and
// saves it. If another request has changed the same keys meanwhile, nothing is written, and f
// is called again with the session as it is now. Each conflict means that some other request has
// succeeded. The routes that call change are not behind the middleware.
func (s *shop) change(w http.ResponseWriter, r *http.Request, f func(*sessions.Session)) (*sessions.Session, error) {
	for attempt := 1; ; attempt++ {
		session, err := s.strict.New(r, sessionName) // not Get, which returns the same session again
		if err != nil && !isInvalidCookie(err) {
			return nil, err
		}
		if err := checkUser(r, session); err != nil {
			return nil, err
		}
		f(session)
		err = s.strict.Save(r, w, session)
		if !errors.Is(err, mongostore.ErrConflict) || attempt == maxAttempts {
			return session, err
		}
	}
}

// isInvalidCookie reports whether an error of the store says only that the cookie is not signed
// with one of its keys. The session is then a new one.
func isInvalidCookie(err error) bool {
	var invalid securecookie.Error
	return errors.As(err, &invalid)
}
