package ginstore

import (
	"bufio"
	"io"
	"net"
	"net/http"

	"github.com/gin-gonic/gin"
	gorilla "github.com/gorilla/sessions"
)

// Middleware returns a middleware that loads the session of the name before the handlers run,
// and saves it before the response leaves:
//
//	router.Use(sessions.Sessions("session", store), store.Middleware("session"))
//
// It does for gin what [mongostore.Store.Middleware] does for net/http. Handlers need not call
// Save. [sessions.Default] returns the session that the middleware saves. At a login, handlers
// call [Store.Renew]. At a logout, they set Options{MaxAge: -1}.
//
//   - If the session cannot be loaded, the response reports the error, and the chain is aborted.
//   - If the save fails, the response reports the error in place of what the handlers wrote.
//     Their writes return the error. After that, c.Writer.Status returns the status of the
//     error, also in a logger outside of the middleware.
//   - c.Status alone sends nothing. The session is saved before the first byte of the body, at
//     a flush, at c.Writer.WriteHeaderNow, before a hijack, or when the handlers return.
//   - If a handler panics, nothing is saved. [gin.Recovery] belongs outside of the middleware.
//     Inside, it responds with status 500, and what the handler changed before is saved.
//   - The middleware can follow [sessions.Sessions] or precede it. A middleware between the
//     two must not replace c.Request if Sessions is the first: Default would then return
//     another session, which is not saved.
func (s Store) Middleware(name string) gin.HandlerFunc {
	middleware := s.Store.Middleware(name)
	return func(c *gin.Context) {
		original, loaded := c.Writer, false
		defer func() { c.Writer = original }()
		middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			loaded = true
			session, _ := s.Get(r, name) // the middleware has handled the error
			response := &writer{ResponseWriter: original, saver: w, store: s, session: session}
			c.Request, c.Writer = r, response
			c.Next()
			response.begin()
		})).ServeHTTP(original, c.Request)
		if !loaded {
			c.Abort()
		}
	}
}

// writer is gin's response writer. What sends a part of the response goes through another
// writer, which saves the session first. WriteHeader is gin's, which only records the status.
type writer struct {
	gin.ResponseWriter
	saver   http.ResponseWriter // saves the session, then writes to the ResponseWriter
	store   Store
	session *gorilla.Session
}

// begin completes the session's options, and returns the writer that saves the session. That
// writer saves now, and learns the status, unless it has before.
func (w *writer) begin() http.ResponseWriter {
	w.store.complete(w.session)
	if !w.Written() {
		w.saver.WriteHeader(w.Status())
	}
	return w.saver
}

// Unwrap is for [http.ResponseController].
func (w *writer) Unwrap() http.ResponseWriter { return w.saver }

// WriteHeaderNow is the method of [gin.ResponseWriter].
func (w *writer) WriteHeaderNow() {
	if !w.Written() {
		w.begin()
		w.ResponseWriter.WriteHeaderNow() // no effect if the save failed: its response is written
	}
}

// Write is the method of [http.ResponseWriter].
func (w *writer) Write(p []byte) (int, error) { return w.begin().Write(p) }

// WriteString is the method of [gin.ResponseWriter].
func (w *writer) WriteString(text string) (int, error) { return io.WriteString(w.begin(), text) }

// Flush is the method of [http.Flusher].
func (w *writer) Flush() { _ = w.FlushError() }

// FlushError is for [http.ResponseController].
func (w *writer) FlushError() error { return http.NewResponseController(w.begin()).Flush() }

// Hijack is the method of [http.Hijacker].
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return http.NewResponseController(w.begin()).Hijack()
}
