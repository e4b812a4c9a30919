package mongostore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// Moving in: see [Config.MigrateFrom].

// origin is where a session was taken over from.
type origin struct {
	session *sessions.Session
	request *http.Request
}

// takeOver gives the session the values of the one that the old store has for
// the request, if it has. errCookie is what this store thinks of the cookie,
// and what is returned if the old one does not know it either.
func (s *Store) takeOver(r *http.Request, session *sessions.Session, st *state, errCookie error) error {
	if s.cfg.MigrateFrom == nil {
		return errCookie
	}
	old, err := s.cfg.MigrateFrom.New(r, session.Name())
	var notCookie securecookie.Error
	switch {
	case err == nil && old != nil && !old.IsNew:
		session.Values, session.IsNew = maps.Clone(old.Values), false
		// Without its context, in which gorilla's registry holds the session: what
		// refers to its session is never forgotten, see states.
		bare := &http.Request{Method: r.Method, URL: r.URL, Proto: r.Proto, Header: r.Header, Host: r.Host, RemoteAddr: r.RemoteAddr}
		st.origin = &origin{old, bare}
		return nil
	case err == nil, errors.As(err, &notCookie), errors.Is(err, fs.ErrNotExist), errors.Is(err, mongo.ErrNoDocuments):
		return errCookie
	default:
		// The session may be there: an outage of the old store logs nobody out.
		st.err = fmt.Errorf("mongostore: load session to migrate: %w: %w", ErrUnavailable, foreign{err})
		return st.err
	}
}

// removeOld removes a session that was taken over from the store that it came from. A
// CookieStore has nothing to remove, and its cookie has been replaced.
func (s *Store) removeOld(ctx context.Context, st *state) (err error) {
	from := st.origin
	if from == nil {
		return nil
	}
	defer func() {
		if err == nil {
			st.origin = nil
		}
	}()
	var own sessions.Options
	if from.session.Options != nil {
		own = *from.session.Options
	}
	own.MaxAge = -1
	from.session.Options = &own
	r := from.request.WithContext(context.WithoutCancel(ctx))
	if err = s.cfg.MigrateFrom.Save(r, nowhere{}, from.session); err != nil {
		s.logger().WarnContext(ctx, "mongostore: migrated session not removed from the store it came from",
			"error", foreign{err}, "collection", s.coll.Name())
		return foreign{err}
	}
	return nil
}

// nowhere is a response that nobody gets.
type nowhere struct{}

func (nowhere) Header() http.Header { return http.Header{} }

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }

func (nowhere) WriteHeader(int) {}
