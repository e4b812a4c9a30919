package mongostore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

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

// Get returns the session of the name for the request: the one that an earlier
// call returned with this request or one that it was derived from, or one from
// [Store.New]. The registry that remembers it is gorilla's and knows names only:
// two stores need two names, or the one that saves makes a session of its own of
// what the other has loaded.
//
// It is for one goroutine of a request at a time, since gorilla's registry is a
// plain map, and Get writes to the request and to the session, also to one that it
// has returned before. A handler calls it before it starts goroutines, or
// [Store.New] in each of them. Several may call [Store.Save] with one session at
// once, while none uses it otherwise; different sessions saved at once need a
// response each, whose header is a plain map as well.
//
// The errors are those of [Store.New]. The session is never nil, whatever the error.
func (s *Store) Get(r *http.Request, name string) (*sessions.Session, error) {
	if err := checkName(r, name); err != nil {
		return s.refused(name, fmt.Errorf("mongostore: load session: %w", err))
	}
	return sessions.GetRegistry(r).Get(s, name)
}

// New returns the session that a cookie of the request carries the ID of, or a new
// session, without adding it to gorilla's registry.
//
// Without a cookie, or with the ID of a session that is gone or has expired,
// the session is new, without an ID, and the error nil; reading creates nothing
// in the database, and an ID from outside is never adopted. If there are
// several cookies of the name, the first counts that verifies and belongs to a
// live session; up to 8 are looked up.
//
// With a cookie that does not verify, the session is new and the error is that
// of securecookie, as with CookieStore. When the session may exist but cannot
// be had, the error is [ErrUnavailable] or [ErrCorrupt]; the session that comes
// with it refuses to be saved, so that what is stored, and the visitor's
// cookie, outlast the trouble.
//
// The session is never nil, whatever the error.
func (s *Store) New(r *http.Request, name string) (*sessions.Session, error) {
	if err := checkName(r, name); err != nil {
		return s.refused(name, fmt.Errorf("mongostore: load session: %w", err))
	}
	session := s.blank(name)
	ids, errCookie := s.cookieIDs(r, name)
	if errCookie == nil && len(ids) == 0 {
		return session, nil
	}
	st := s.states.add(session)
	for i, c := range ids {
		rec, values, err := s.load(r.Context(), name, c.id)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			if st.err == nil {
				st.err = fmt.Errorf("mongostore: load session: %w", err)
				st.others = idsOf(ids)
			}
			if errors.Is(err, ErrUnavailable) {
				return session, st.err
			}
		default:
			st.adopt(session, c.id, rec, values)
			st.signed = c.signed
			st.others = idsOf(slices.Delete(ids, i, i+1))
			return session, nil
		}
	}
	if st.err != nil {
		return session, st.err
	}
	return session, s.takeOver(r, session, st, errCookie)
}

// blank returns a session that no document exists for.
func (s *Store) blank(name string) *sessions.Session {
	session := sessions.NewSession(s, name)
	own := *s.options()
	session.Options = &own
	session.IsNew = true
	return session
}

// refused returns a session that cannot be saved, and why.
func (s *Store) refused(name string, err error) (*sessions.Session, error) {
	session := s.blank(name)
	s.states.add(session).err = err
	return session, err
}

func checkName(r *http.Request, name string) error {
	if r == nil {
		return errors.New("request is nil")
	}
	if !validName(name) {
		return fmt.Errorf("%q cannot be the name of a cookie", name)
	}
	return nil
}

// load reads the document of an ID, and its values. It fails with [ErrNotFound],
// [ErrUnavailable] or [ErrCorrupt].
func (s *Store) load(ctx context.Context, name, id string) (record, map[any]any, error) {
	key := keyOf(id)
	if s.removals.pending(key) {
		return record{}, nil, ErrNotFound
	}
	rec, values, err := s.findRecord(ctx, key)
	if err != nil {
		return record{}, nil, err
	}
	// The signature binds the ID to the name. A document of another name was not
	// written for this cookie.
	if !s.aliveAt(&rec, time.Now()) || rec.name != name || rec.movedTo != "" {
		return record{}, nil, ErrNotFound
	}
	goValues, err := rec.readValues(values, &s.seals)
	if err != nil {
		return record{}, nil, corrupt(err)
	}
	return rec, goValues, nil
}
