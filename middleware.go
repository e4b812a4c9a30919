package mongostore

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore/internal/firstbyte"
)

// Middleware returns a middleware that loads the session of the name before the handler runs,
// and saves it before the response leaves:
//
//	r := mux.NewRouter()
//	r.Use(store.Middleware("session"))
//
// Handlers get the session from [Store.Get], whose error they can ignore. They need not call
// Save. At a login they call [Store.Renew].
//
// Loading. If the session cannot be loaded, the handler is not called. The response is a short
// text with the status of [StatusCode], and a Retry-After header if MongoDB is unavailable;
// [Config.OnError] can send another. A cookie that fails verification is not an error: the
// handler gets a new session. The logout route can be excluded from the middleware. It
// then works while MongoDB is unavailable, and for sessions that are [ErrCorrupt].
//
// Saving. The session is saved once, before the first byte of the response is sent, or when the
// handler returns. This stores changes, moves the expiry when that is due, and ends a session
// whose Options.MaxAge is negative. A new session without values is not stored and sets no
// cookie, whatever [Config.SkipEmpty] is. Changes after the first byte are not saved; the store
// logs a warning.
//
//   - If that save fails, the response reports the error in place of what the handler wrote.
//     The handler's changes of the header are undone, except those of Set-Cookie. The handler's
//     calls of Write return the error.
//   - If the handler changed nothing and only the expiry could not be moved, its response is
//     sent. [ErrUnavailable] is logged as a warning.
//   - If the last Save or Renew that the handler called failed, nothing is saved. The handler
//     has the error, and its response is sent. This keeps a login that failed in Renew from being
//     saved under the old ID. But a change after a failed Save is saved, and a negative
//     Options.MaxAge ends the session. If the response is a success although an error of 413 or
//     above was returned, the handler seems to have ignored it: the store logs a warning.
//   - If the handler ended the session, by Save or [Store.Remove], nothing is saved, and nothing
//     that it changes afterwards.
//   - If the handler panics, nothing is saved and the panic is passed on. A middleware that
//     recovers belongs outside of this one.
//   - A response with the session's cookie gets Cache-Control: no-cache="Set-Cookie".
//
// Streaming. Informational responses, except for 101, are passed on without a save.
// The [http.ResponseWriter] implements [http.Flusher] and [http.Hijacker] where the server's
// does, also [http.Pusher] and CloseNotify, and works with [http.ResponseController]. It is not
// the server's own, which [http.MaxBytesReader] needs to close a connection. If the handler
// hijacks the connection, the session is saved before that, and not again. If the save sets a
// cookie, it is in w.Header(). A handler that writes its own 101 response has to send that header,
// as in gorilla's upgrader.Upgrade(w, r, w.Header()).
//
// Middlewares of different names can be chained. If two have the same name, the session is saved
// once.
//
// The save reads the session when the first byte is written or the handler returns. Other
// goroutines must have stopped using the session by then. [http.TimeoutHandler] responds while
// its handler is still running, so it belongs outside of the middleware, not between it and
// the handler.
func (s *Store) Middleware(name string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			session, err := s.Get(r, name)
			if err != nil && !isInvalidCookie(err) {
				s.respondError(w, r, err)
				return
			}
			original := maps.Clone(w.Header())
			response := firstbyte.New(w, func() error {
				err := s.saveOnce(w, r, session)
				setsCookie := func(line string) bool { return strings.HasPrefix(line, name+"=") }
				if err == nil && slices.ContainsFunc(w.Header()["Set-Cookie"], setsCookie) {
					// The handler may have sent headers that let shared caches store the response.
					w.Header().Add("Cache-Control", `no-cache="Set-Cookie"`)
				}
				if err != nil {
					restoreHeader(w.Header(), original)
					s.respondError(w, r, err)
					// The handler may keep running, or panic because of the errors of its writes.
					_ = http.NewResponseController(w).Flush()
				}
				return err
			})
			next.ServeHTTP(response.ForHandler(), r)
			begun := response.Started()
			if err := response.Start(); err == nil { // otherwise the response was replaced
				s.warnOfLoss(r, session, begun, response.Status())
			}
		})
	}
}

// StatusCode returns the HTTP status for an error of this package:
//
//   - 200 for nil
//   - 503 for [ErrUnavailable]
//   - 401 for [ErrGone], [ErrNotFound], and a cookie that fails verification
//   - 409 for [ErrConflict]
//   - 413 for [ErrTooLarge]
//   - 500 for [ErrCorrupt] and all others
func StatusCode(err error) int {
	switch {
	case err == nil:
		return http.StatusOK
	case errors.Is(err, ErrUnavailable):
		return http.StatusServiceUnavailable
	case errors.Is(err, ErrGone), errors.Is(err, ErrNotFound), isInvalidCookie(err):
		return http.StatusUnauthorized
	case errors.Is(err, ErrConflict):
		return http.StatusConflict
	case errors.Is(err, ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	default:
		return http.StatusInternalServerError
	}
}

// Value returns the session's value under the key as a T, and reports whether there is one of
// that type:
//
//	user, ok := mongostore.Value[string](session, "user")
//
// For a key without a value, a value of another type, nil, and a nil session, it returns the zero T
// and false. As with any map, it panics if the key's type is not comparable.
func Value[T any](session *sessions.Session, key any) (value T, ok bool) {
	if session != nil {
		value, ok = session.Values[key].(T)
	}
	return value, ok
}

// isInvalidCookie reports whether an error of Get says only that the request's cookie fails
// verification. A configuration error, such as missing Codecs, is not one.
func isInvalidCookie(err error) bool {
	var cookie securecookie.Error
	return errors.As(err, &cookie) && !cookie.IsUsage() && !cookie.IsInternal()
}

// saveOnce saves the session for the middleware. On an error, the response must not be sent.
func (s *Store) saveOnce(w http.ResponseWriter, r *http.Request, session *sessions.Session) error {
	if s.isSettled(session) {
		return nil
	}
	switch err := s.Save(r, w, session); {
	case err == nil:
		return nil
	case s.isChanged(session):
		return err
	case errors.Is(err, ErrGone):
		s.forgetFailure(session)
		return nil
	case errors.Is(err, ErrUnavailable):
		s.forgetFailure(session)
		if r.Context().Err() == nil {
			s.logger().WarnContext(r.Context(), "mongostore: expiry of a session not moved", "error", err, "collection", s.coll.Name())
		}
		return nil
	default:
		return err
	}
}

// warnOfLoss logs that the response claims more than what is stored: the handler has changed the
// session after it was saved, or ignored that its own save failed.
func (s *Store) warnOfLoss(r *http.Request, session *sessions.Session, begun bool, status int) {
	switch err := s.ignoredError(session); {
	case begun && !s.isSettled(session) && s.isChanged(session):
		s.logger().WarnContext(r.Context(), "mongostore: session changed after the response had begun, the change is not saved",
			"collection", s.coll.Name())
	case err != nil && status < http.StatusBadRequest && StatusCode(err) >= http.StatusRequestEntityTooLarge && r.Context().Err() == nil:
		s.logger().WarnContext(r.Context(), "mongostore: session not saved, and the handler responded as if it was",
			"error", err, "status", status, "collection", s.coll.Name())
	}
}

// ignoredError returns the error of the last Save or Renew that the handler called, if that failed.
func (s *Store) ignoredError(session *sessions.Session) error {
	st := s.states.of(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.ended {
		return nil
	}
	return st.failed
}

// forgetFailure removes the error of a save that the handler did not call.
func (s *Store) forgetFailure(session *sessions.Session) {
	st := s.states.of(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.failed = nil
}

// isSettled reports whether there is nothing to save: the session is new and empty, the application
// has ended it, or the application has the error of a failed last Renew, or of a failed last Save
// without a change since. A logout after such a failure is still carried out.
func (s *Store) isSettled(session *sessions.Session) bool {
	if session.IsNew && session.ID == "" && len(session.Values) == 0 && (session.Options == nil || session.Options.MaxAge >= 0) {
		return true
	}
	st := s.states.of(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.ended:
		return true
	case st.failed == nil || s.optionsOf(session, st).MaxAge < 0:
		return false
	case st.failedIn == intentRenew || st.err != nil:
		return true
	}
	if s.optionsOf(session, st) != st.failedAs {
		return false
	}
	fields, err := s.fieldsOf(session, st)
	if err != nil || st.invalid != nil {
		return err != nil && st.invalid != nil
	}
	return slices.EqualFunc(fields, st.unsaved, func(a, b field) bool {
		return a.name == b.name && s.codec.Same(a.value, b.value)
	})
}

// isChanged reports whether the session differs from its document in more than the expiry.
func (s *Store) isChanged(session *sessions.Session) bool {
	st := s.states.of(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.stored || session.ID != st.id || s.optionsOf(session, st).MaxAge != st.given.MaxAge {
		return true
	}
	change, _, err := s.codec.diff(&st.record, session.Values, st.doubts, s.cfg.MaxSize)
	return err != nil || !change.empty()
}

// restoreHeader removes a handler's changes of the header. Set-Cookie stays: a cookie of
// this session is set only if its ID is stored, and other cookies do not belong to the middleware.
func restoreHeader(header, original http.Header) {
	maps.DeleteFunc(header, func(name string, _ []string) bool { return name != "Set-Cookie" })
	for name, values := range original {
		if name != "Set-Cookie" {
			header[name] = values
		}
	}
}

// respondError sends the response for an error of the store: that of Config.OnError, or the
// default one if that writes nothing.
func (s *Store) respondError(w http.ResponseWriter, r *http.Request, err error) {
	code, header := StatusCode(err), w.Header()
	header.Set("Cache-Control", "no-store")
	if code == http.StatusServiceUnavailable {
		header.Set("Retry-After", "5") // seconds
	}
	if s.cfg.OnError != nil {
		response := firstbyte.New(w, func() error { return nil })
		if s.cfg.OnError(response.ForHandler(), r, err); response.Started() {
			return
		}
	}
	if code >= http.StatusInternalServerError && s.cfg.OnError == nil && r.Context().Err() == nil {
		s.logger().WarnContext(r.Context(), "mongostore: request failed for its session", "error", err, "status", code, "collection", s.coll.Name())
	}
	text := http.StatusText(code) + "\n"
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	if header.Get("Content-Encoding") == "" { // otherwise w compresses
		header.Set("Content-Length", strconv.Itoa(len(text)))
	}
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text)
}
