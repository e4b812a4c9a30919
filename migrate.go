package mongostore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// This file migrates sessions from Config.MigrateFrom. The ID of such a session is derived
// from the old store's cookie. So a visitor's concurrent first requests create one session, and
// a tombstone under that ID keeps the cookie from being used again after a logout.

// oldCookieLife is how long the old store's cookie can be valid if its MaxAge is not known.
const oldCookieLife = 30 * 24 * time.Hour

// migrate loads the old store's session for the request into session, or the session that was
// migrated from it before. It returns errCookie if there is none.
func (s *Store) migrate(r *http.Request, session *sessions.Session, st *state, errCookie error) error {
	contents := contentsOf(r, session.Name())
	ended := 0
	for _, content := range contents {
		id, f, err := s.findMigrated(r.Context(), session.Name(), content)
		switch {
		case errors.Is(err, ErrGone):
			ended++
		case err == nil && f.alive(f.readAt):
			st.resend = true // the browser has the old cookie
			st.loaded(session, id, &f)
			return nil
		case err == nil:
			ended++
			st.others = append(st.others, id) // a logout follows the tombstone
			if f.justRenewed(f.readAt) {
				st.renewable, st.renewedTo = true, f.movedTo
			}
		case errors.Is(err, ErrNotFound):
			others := slices.DeleteFunc(slices.Clone(contents), func(c string) bool { return c == content })
			o := &origin{name: session.Name(), id: id, until: oldCookieLife, request: withoutCookies(r, session.Name(), others)}
			if known, err := s.takeOver(r, session, st, o); known {
				return err
			}
		case s.replaceDamaged(r.Context(), err):
			ended++ // the document stays: without it, the old cookie would be migrated again
		default:
			// A logout still ends the session.
			st.origin = &origin{name: session.Name(), id: id, until: oldCookieLife}
			st.err = fmt.Errorf("mongostore: load session to migrate: %w", err)
			return st.err
		}
	}
	if st.renewable {
		st.err = fmt.Errorf("mongostore: save session: %w", ErrGone)
		return nil
	}
	if ended > 0 {
		return nil
	}
	return errCookie
}

// findMigrated returns the ID that is derived from a cookie's content, and its document. A
// session may have been stored, or ended, under the ID derived from an older signing key,
// before the newest key was added. The error is that of read, or ErrGone if a logout is pending.
func (s *Store) findMigrated(ctx context.Context, name, content string) (id string, f found, err error) {
	for _, secret := range s.secrets {
		id = derivedID(secret, name, content)
		hash := hashID(id)
		if s.removals.pending(hash) {
			return id, found{}, ErrGone
		}
		if f, err = s.read(ctx, hash); !errors.Is(err, ErrNotFound) {
			return id, f, err
		}
	}
	return derivedID(s.secrets[0], name, content), found{}, err
}

// contentsOf returns the contents of the request's cookies of the name. None of them belongs
// to a live session here. One that this store's keys verify may still be the old store's.
func contentsOf(r *http.Request, name string) (contents []string) {
	for _, cookie := range r.CookiesNamed(name) {
		if !slices.Contains(contents, cookie.Value) && len(contents) < maxLookups {
			contents = append(contents, cookie.Value)
		}
	}
	return contents
}

// withoutCookies returns a request for the old store, without some cookies of the name. It has
// no context: gorilla's registry in the context holds the session, and a state that refers to
// its session is never dropped.
func withoutCookies(r *http.Request, name string, contents []string) *http.Request {
	bare := &http.Request{Method: r.Method, URL: r.URL, Proto: r.Proto, Header: r.Header.Clone(), Host: r.Host, RemoteAddr: r.RemoteAddr}
	bare.Header.Del("Cookie")
	for _, cookie := range r.Cookies() {
		if cookie.Name != name || !slices.Contains(contents, cookie.Value) {
			bare.AddCookie(cookie)
		}
	}
	return bare
}

// takeOver copies the values of the old store's session to session. It reports whether that
// session exists or may exist.
func (s *Store) takeOver(r *http.Request, session *sessions.Session, st *state, o *origin) (known bool, _ error) {
	exists, err := s.loadOld(r.Context(), o)
	switch {
	case err != nil:
		// The session may exist: an outage of the old store must not log the user out, and a
		// logout still ends the session.
		st.origin = o
		st.err = fmt.Errorf("mongostore: load session to migrate: %w: %w", ErrUnavailable, redactedOld(err))
		return true, st.err
	case !exists:
		return false, nil
	}
	old := o.session
	if before, ok := s.cfg.MigrateFrom.(*Store); ok {
		rec := before.states.of(old).record
		o.record.createdAt, o.record.maxAge = rec.createdAt, rec.maxAge
	}
	now := now()
	o.record.meta = o.meta(now)
	if !s.lifetimes.expiry(o.record.createdAt, now, s.maxAgeOf(&o.record.meta)).After(now) {
		return false, nil // beyond the absolute timeout
	}
	if o.record.maxAge != nil {
		session.Options.MaxAge = *o.record.maxAge
	}
	session.Values, session.IsNew = maps.Clone(old.Values), false
	if session.Values == nil {
		session.Values = map[any]any{}
	}
	// A value that cannot be stored is an error of Save.
	_, o.record.fields, _ = s.codec.diff(&record{}, session.Values, doubts{}, maxDocumentSize)
	st.origin = o
	return true, nil
}

// loadOld loads the old store's session into the origin, and reports whether there is one.
func (s *Store) loadOld(ctx context.Context, o *origin) (exists bool, _ error) {
	var old *sessions.Session
	err := s.askOld(ctx, o.request, func(r *http.Request) (err error) {
		old, err = s.cfg.MigrateFrom.New(r, o.name)
		return err
	})
	var notCookie securecookie.Error
	switch {
	case err == nil && old != nil && !old.IsNew:
	case err == nil, errors.As(err, &notCookie), errors.Is(err, fs.ErrNotExist), errors.Is(err, mongo.ErrNoDocuments):
		return false, nil
	default:
		return false, err
	}
	o.session = old
	if old.Options != nil { // gorilla's codecs accept 30 days unless MaxAge was set by the method
		age := time.Duration(min(int64(old.Options.MaxAge), longestMaxAge)) * time.Second
		o.until = max(o.until, age)
	}
	return true, nil
}

// otherOldSessions returns the endings for a logout's other cookies of the old store, such as
// one for another path, and those of their sessions that may still be in the old store. It takes
// at most Timeout.
func (s *Store) otherOldSessions(ctx context.Context, r *http.Request, name string, st *state) (endings []ending, old []*origin) {
	if s.cfg.MigrateFrom == nil {
		return nil, nil
	}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	contents := contentsOf(r, name)
	for _, content := range contents {
		if c, err := s.verify(name, content); err == nil && c.id != "" && hashID(c.id) == hashID(st.id) {
			continue
		}
		id, _, err := s.findMigrated(ctx, name, content)
		switch {
		case errors.Is(err, ErrGone), id == st.id, st.origin != nil && id == st.origin.id:
			continue
		case err == nil:
			endings = append(endings, ending{hash: hashID(id)})
			continue
		}
		others := slices.DeleteFunc(slices.Clone(contents), func(c string) bool { return c == content })
		o := &origin{name: name, id: id, until: oldCookieLife, request: withoutCookies(r, name, others)}
		exists, errOld := s.loadOld(ctx, o)
		if exists || errOld != nil || !errors.Is(err, ErrNotFound) { // it exists, or it may
			endings = append(endings, o.ending())
			old = append(old, o)
		}
	}
	return endings, old
}

// ending returns the ending of a session that is still in the old store.
func (o *origin) ending() ending {
	m := o.meta(now())
	grave := m.toTombstone("", m.createdAt)
	return ending{m.hash, &grave}
}

// askOld calls the old store, within Timeout. A store that hangs keeps its goroutine.
func (s *Store) askOld(ctx context.Context, r *http.Request, call func(*http.Request) error) error {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer func() {
			if recover() != nil { // its text may hold a value
				done <- errors.New("the store to migrate from panicked")
			}
		}()
		done <- call(r.WithContext(ctx))
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mustRenew reports whether a save has to renew a session that was migrated, because it changes
// the session's user. The cookies of a CookieStore without an encryption key are the
// same for two visitors who were given the same values in the same second. Such visitors share
// a session until one of them logs in.
func (s *Store) mustRenew(p *plan) bool {
	if s.cfg.OwnerKey == "" || p.origin == nil && p.base.migratedUntil.IsZero() {
		return false
	}
	return !s.merger.same(valueOf(p.base.fields, s.cfg.OwnerKey), valueOf(p.next.fields, s.cfg.OwnerKey))
}

// removeOld removes the session's origin from the old store, as removeFromOld does.
func (s *Store) removeOld(ctx context.Context, w http.ResponseWriter, st *state, ours sessions.Options) error {
	if o := st.origin; o != nil {
		if err := s.removeFromOld(ctx, w, o, ours); err != nil {
			return err
		}
	}
	st.origin = nil
	return nil
}

// removeFromOld removes a migrated session from the old store. It copies the old store's expiring
// cookie to the response, unless that would expire this store's cookie, which has the options ours.
func (s *Store) removeFromOld(ctx context.Context, w http.ResponseWriter, o *origin, ours sessions.Options) error {
	if o.session == nil {
		return nil
	}
	var own sessions.Options
	if o.session.Options != nil {
		own = *o.session.Options
	}
	own.MaxAge = -1
	o.session.Options = &own
	header := http.Header{}
	err := s.askOld(context.WithoutCancel(ctx), o.request, func(r *http.Request) error {
		return s.cfg.MigrateFrom.Save(r, headerOnly{header}, o.session)
	})
	if err != nil {
		err = redactedOld(err)
		s.logger().WarnContext(ctx, "mongostore: migrated session not removed from the store it came from",
			"error", err, "collection", s.coll.Name())
		return err
	}
	if w == nil {
		return nil
	}
	for _, line := range header["Set-Cookie"] {
		theirs, err := http.ParseSetCookie(line)
		if err == nil && (theirs.Path != ours.Path || !sameDomain(theirs.Domain, ours.Domain)) {
			w.Header().Add("Set-Cookie", line)
		}
	}
	return nil
}

// sameDomain reports whether two Domain attributes are the same for a browser (RFC 6265,
// section 5.2.3).
func sameDomain(a, b string) bool {
	return strings.EqualFold(strings.TrimPrefix(a, "."), strings.TrimPrefix(b, "."))
}

// headerOnly is a response that keeps only the header.
type headerOnly struct{ header http.Header }

func (h headerOnly) Header() http.Header { return h.header }

func (headerOnly) Write(p []byte) (int, error) { return len(p), nil }

func (headerOnly) WriteHeader(int) {}
