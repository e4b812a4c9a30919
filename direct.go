package mongostore

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/gorilla/sessions"
)

// Sessions without HTTP: for web sockets, jobs and tools, with the guarantees of Get and
// Save.

// Fetch returns the session of an ID, as [sessions.Session.ID] holds it. The session is
// for [Store.Persist] and [Store.Remove], and can also be saved in a request.
//
// If there is none that is alive under this name, it returns [ErrNotFound]; so it does after
// [Store.Renew], which gives the session another ID. Other errors
// are [ErrUnavailable] and [ErrCorrupt]. The session is nil on an error.
func (s *Store) Fetch(ctx context.Context, name, id string) (*sessions.Session, error) {
	if !validName(name) {
		return nil, fmt.Errorf("mongostore: fetch session: %q cannot be the name of a cookie", name)
	}
	if !validID(id) {
		return nil, fmt.Errorf("mongostore: fetch session: %w", ErrNotFound)
	}
	rec, values, err := s.load(ctx, name, id)
	if err != nil {
		return nil, fmt.Errorf("mongostore: fetch session: %w", err)
	}
	session := s.blank(name)
	s.states.add(session).adopt(session, id, rec, values)
	return session, nil
}

// Persist stores a session as [Store.Save] does, without a cookie: a new
// session gets its ID, a stored one keeps it. A negative Options.MaxAge removes
// it, as [Store.Remove] does. [Config.SkipEmpty] and [Config.Describe], which are about
// requests, do not apply. The errors are those of Save.
func (s *Store) Persist(ctx context.Context, session *sessions.Session) error {
	if session == nil {
		return errors.New("mongostore: save session: session is nil")
	}
	own := s.optionsOf(session)
	if own.MaxAge < 0 {
		return s.Remove(ctx, session)
	}
	st := s.states.of(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case st.err != nil:
		return st.err
	case !validName(session.Name()):
		return fmt.Errorf("mongostore: save session: %q cannot be the name of a cookie", session.Name())
	}
	q := saving{session: session, st: st, own: own}
	err := s.plan(&q)
	if err == nil {
		err = s.write(ctx, &q)
	}
	return s.saved(ctx, &q, err)
}

// Remove deletes a session. It returns nil if the session is already gone, or was
// never stored, and [ErrUnavailable] if the database fails; then the session may still
// be there, and Remove can be called again. The browser keeps its cookie, which is worth
// nothing.
func (s *Store) Remove(ctx context.Context, session *sessions.Session) error {
	if session == nil {
		return errors.New("mongostore: remove session: session is nil")
	}
	st := s.states.of(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	ids := st.knownIDs(session)
	for _, id := range ids {
		if _, err := s.deleteDocument(ctx, byKey(keyOf(id))); err != nil {
			return fmt.Errorf("mongostore: remove session: %w", err)
		}
	}
	if len(ids) > 0 {
		st.end()
	}
	if err := s.removeOld(ctx, st); err != nil {
		return fmt.Errorf("mongostore: remove session: %w: %w", ErrUnavailable, err)
	}
	return nil
}

func validName(name string) bool {
	return (&http.Cookie{Name: name}).Valid() == nil //nolint:gosec // only its name is looked at
}
