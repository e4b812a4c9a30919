package mongostore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore/internal/bsonval"
)

// Get returns the session of the name for the request. The first call for a request calls
// [Store.New]. Later calls return the same session, also for requests that were derived from that
// one. The session is never nil. The errors are those of New.
//
// Gorilla's registry stores the session by its name only, so the sessions of two stores must
// have different names.
//
// Get writes to the request and to the session, so only one goroutine of a request may call
// it at a time. A handler calls it before it starts goroutines, or calls New in each of
// them. Several goroutines may save the same session concurrently if no goroutine reads or changes
// it meanwhile. Each concurrent save needs its own response.
func (s *Store) Get(r *http.Request, name string) (*sessions.Session, error) {
	if err := checkName(r, name); err != nil {
		return s.refuse(name, err)
	}
	return sessions.GetRegistry(r).Get(s, name)
}

// New returns the session whose ID a cookie of the request carries, or a new session. It
// does not add the session to gorilla's registry. The session is never nil.
//
// Without a cookie, or if the session has ended or expired, the session is new, without an
// ID, and the error is nil. Reading creates nothing in the database, and an ID from outside
// is never adopted. If there are several cookies of the name, New uses the first one that
// verifies and belongs to a live session. At most 8 sessions are looked up.
//
// If no cookie verifies, the session is new and the error is that of securecookie, as with
// CookieStore.
//
// If the stored session may exist but cannot be loaded, the error is [ErrUnavailable] or
// [ErrCorrupt] (but see [CorruptRestart]). New then returns a new session whose Save fails with
// the same error, so neither the document nor the cookie is overwritten. With a negative MaxAge,
// its Save ends the stored session.
//
// If the cookie holds an ID that [Store.Renew] replaced in the last 30 seconds, New assumes that
// the request was sent before the browser had the new cookie. It returns a new session and a nil
// error. Save returns [ErrGone] for that session, so the response cannot replace the new cookie.
// Only Renew stores it.
func (s *Store) New(r *http.Request, name string) (*sessions.Session, error) {
	if err := checkName(r, name); err != nil {
		return s.refuse(name, err)
	}
	session := s.blank(name)
	var space [2]cookieID // on the stack
	cookies, errCookie := s.cookiesOf(space[:0], r, name)
	if len(cookies) == 0 && (errCookie == nil || s.cfg.MigrateFrom == nil) {
		return session, errCookie
	}
	st := &state{known: true}
	s.states.add(session, st)
	for i, c := range cookies[:min(len(cookies), maxLookups)] {
		f, err := s.load(r.Context(), name, c, session.Values)
		switch {
		case err == nil:
			st.others = textsExcept(cookies, i)
			st.resend = c.old || c.from != ""
			st.loaded(session, c.id, &f)
			return session, nil
		case justRenewedTo(err) != "":
			st.renewable, st.renewedTo = true, justRenewedTo(err)
		case errors.Is(err, ErrNotFound):
		case errors.Is(err, ErrUnavailable):
			st.others = textsExcept(cookies, -1)
			st.err = fmt.Errorf("mongostore: load session: %w", err)
			return session, st.err
		case s.replaceDamaged(r.Context(), err):
		case st.err == nil:
			st.err = fmt.Errorf("mongostore: load session: %w", err)
		}
	}
	st.others = textsExcept(cookies, -1)
	switch {
	case st.err != nil:
		return session, st.err
	case st.renewable:
		st.err = fmt.Errorf("mongostore: save session: %w", ErrGone)
		return session, nil
	}
	if s.cfg.MigrateFrom == nil {
		return session, errCookie
	}
	return session, s.migrate(r, session, st, errCookie)
}

// blank returns a session without a document.
func (s *Store) blank(name string) *sessions.Session {
	session := sessions.NewSession(s, name)
	*session.Options = *s.options()
	session.IsNew = true
	return session
}

// refuse returns a session that cannot be saved, and the reason.
func (s *Store) refuse(name string, err error) (*sessions.Session, error) {
	session := s.blank(name)
	err = fmt.Errorf("mongostore: load session: %w", err)
	s.states.add(session, &state{known: true, err: err})
	return session, err
}

func checkName(r *http.Request, name string) error {
	if r == nil {
		return errors.New("request is nil")
	}
	return checkCookieName(name)
}

// renewedError is an ErrNotFound: the session was renewed a moment ago.
type renewedError struct{ to string }

func (*renewedError) Error() string { return "session was renewed" }

func (*renewedError) Unwrap() error { return ErrNotFound }

// justRenewedTo returns the hash in a renewedError, or "".
func justRenewedTo(err error) string {
	var renewed *renewedError
	if errors.As(err, &renewed) {
		return renewed.to
	}
	return ""
}

// load returns the live session of a cookie's ID. If into is not nil, it must be empty; the
// values may be stored in it. load fails with [ErrNotFound], [ErrUnavailable] or [ErrCorrupt].
func (s *Store) load(ctx context.Context, name string, c cookieID, into map[any]any) (found, error) {
	hash := hashID(c.id)
	if s.removals.pending(hash) {
		return found{}, ErrNotFound
	}
	if c.from != "" {
		if err := s.completeRenewal(ctx, c); err != nil {
			return found{}, err
		}
	}
	f, err := s.readInto(ctx, hash, into)
	switch {
	case err != nil:
	case !f.name.IsText(name):
		// The signature binds the ID to the name. A document of another name belongs to
		// another cookie.
		err = ErrNotFound
	case f.justRenewed(f.readAt):
		err = &renewedError{f.movedTo}
	case !f.alive(f.readAt):
		err = ErrNotFound
	}
	if err != nil {
		clear(into) // the values of a session that is not returned
		return found{}, err
	}
	return f, nil
}

// Fetch returns the session with an ID, as [sessions.Session.ID] holds it, without HTTP: for
// web sockets, jobs and tools. The session can be passed to [Store.Persist], [Store.Touch]
// and [Store.Remove], and saved in a request.
//
// If no live session of the name has the ID, the error is [ErrNotFound]. This includes an ID that
// [Store.Renew] has replaced. Other errors are [ErrUnavailable] and [ErrCorrupt]. On an error, the
// session is nil.
func (s *Store) Fetch(ctx context.Context, name, id string) (*sessions.Session, error) {
	err := checkCookieName(name)
	c, valid := s.parseID(id)
	if err == nil && !valid {
		err = ErrNotFound
	}
	var f found
	if err == nil {
		f, err = s.load(ctx, name, c, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("mongostore: fetch session: %w", err)
	}
	session := s.blank(name)
	st := &state{known: true, resend: true}
	s.states.add(session, st)
	st.loaded(session, c.id, &f)
	return session, nil
}

// sameOwner reports whether a session that was renewed concurrently has the owner of rec.
func (rec *record) sameOwner(renewed *found) bool {
	return !rec.owner.IsZero() && rec.owner.Equal(renewed.owner)
}

// renewedSession returns the live session that the document with the hash was renewed to.
func (s *Store) renewedSession(ctx context.Context, hash string, now time.Time) (found, error) {
	for range maxRenewals {
		f, err := s.read(ctx, hash)
		if err != nil || f.alive(now) {
			return f, err
		}
		if f.movedTo == "" {
			break
		}
		hash = f.movedTo
	}
	return found{}, ErrNotFound
}

// completeRenewal ends the old ID of a renewal that was left undecided. It merges what others have
// stored under the old ID since. If the old session has ended before, it ends the new one, and the
// error is [ErrNotFound].
func (s *Store) completeRenewal(ctx context.Context, c cookieID) error {
	for range maxAttempts {
		f, err := s.read(ctx, hashID(c.id))
		if err != nil {
			return err
		}
		if !f.alive(f.readAt) {
			return nil // the load says what has happened to it
		}
		was, err := s.read(ctx, c.from)
		switch {
		case errors.Is(err, ErrNotFound) && c.rev == 0:
			grave := f.toTombstone(f.hash, f.readAt)
			grave.hash, grave.expiresAt = c.from, f.readAt.Add(oldCookieLife)
			if done, err := s.insertTombstone(ctx, &grave); done || err != nil {
				return err
			}
			continue
		case errors.Is(err, ErrNotFound):
			// A logout has ended the old session before it was renewed. Or the old session or its
			// tombstone has expired. A logout is final, so the first is assumed.
			return s.endRenewed(ctx, &f)
		case errors.Is(err, ErrCorrupt): // it cannot be loaded
			return nil
		case err != nil:
			return err
		case was.tombstone && was.movedTo == "": // a logout has ended it
			return s.endRenewed(ctx, &f)
		case was.movedTo == f.hash, was.tombstone && f.rev > c.rev+1: // completed before
			return s.keepTombstone(ctx, &was.meta, f.expiresAt)
		case was.tombstone:
			// Another renewal has won. The browser may have the cookie of this one, so both live.
			done, err := s.separate(ctx, c, &f, was.movedTo)
			if err != nil {
				return err
			} else if !done {
				continue
			}
			return s.keepTombstone(ctx, &was.meta, f.expiresAt)
		}
		if merged, ok := s.withOldChanges(c, &f.record, &was.record); ok {
			if done, err := s.replaceRenewed(ctx, &f, merged); err != nil {
				return err
			} else if !done {
				continue
			}
		}
		grave := was.toTombstone(f.hash, f.readAt)
		if f.expiresAt.After(grave.expiresAt) { // until then the browser may send this cookie
			grave.expiresAt = f.expiresAt
		}
		done, err := s.updateDocument(ctx, guards{stored: true, rev: was.rev}.filter(c.from), grave.burial())
		if done || err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, errContended)
}

// separate makes f, whose undecided renewal has lost to another one, a session of its own. It
// reports whether it has. If the winner has ended, it ends f, and the error is [ErrNotFound].
func (s *Store) separate(ctx context.Context, c cookieID, f *found, winnerHash string) (done bool, _ error) {
	winner, err := s.renewedSession(ctx, winnerHash, f.readAt)
	switch {
	case errors.Is(err, ErrNotFound):
		return false, s.endRenewed(ctx, f)
	case errors.Is(err, ErrCorrupt): // it cannot be merged
	case err != nil:
		return false, err
	}
	next, merges := record{}, false
	if f.sameOwner(&winner) { // see [renewal.join]
		next, merges = s.withOldChanges(c, &f.record, &winner.record)
	}
	if !merges {
		next = f.record
		next.rev++
	}
	return s.replaceRenewed(ctx, f, next)
}

// replaceRenewed replaces f and its document by next, and reports whether the document was still f.
func (s *Store) replaceRenewed(ctx context.Context, f *found, next record) (done bool, err error) {
	done, err = s.replaceDocument(ctx, guards{rev: f.rev}.filter(f.hash), s.codec.document(&next))
	if done {
		f.record = next
	}
	return done, err
}

// keepTombstone keeps the tombstone of a renewal for as long as the browser may send the cookie
// that needs it.
func (s *Store) keepTombstone(ctx context.Context, grave *meta, until time.Time) error {
	if !grave.expiresAt.Before(until) {
		return nil
	}
	filter, update := bsonval.NewBuilder(160), bsonval.NewBuilder(64)
	filter.String(fieldID, grave.hash)
	filter.String(fieldMovedTo, grave.movedTo)
	update.Begin("$max")
	update.Time(fieldExpiresAt, until)
	update.End()
	_, err := s.updateDocument(ctx, filter.Document(), update.Document())
	return err
}

// withOldChanges returns the new session of an undecided renewal with what others have stored in
// the old one since, and whether that is anything. A key that the renewal has changed itself keeps
// its value.
func (s *Store) withOldChanges(c cookieID, f, was *record) (record, bool) {
	ours := func(name string) bool { return strings.Contains(c.keys, "\x00"+name+"\x00") }
	newOwner := ours(changedOwner)
	if c.keys == "" || was.rev == c.rev || newOwner && !was.owner.IsZero() && !was.owner.Equal(f.owner) {
		return record{}, false // the last: one user's changes are not merged into another's session
	}
	merged := *f
	merged.rev = max(f.rev, was.rev) + 1
	merged.fields = slices.DeleteFunc(slices.Clone(was.fields), func(v field) bool { return ours(v.name) })
	for _, v := range f.fields {
		if ours(v.name) {
			merged.fields = append(merged.fields, v)
		}
	}
	if !newOwner {
		merged.owner = was.owner
	}
	if !ours(changedAge) {
		merged.maxAge = was.maxAge
		merged.expiresAt = s.lifetimes.expiry(f.createdAt, f.seenAt, s.maxAgeOf(&merged.meta))
	}
	return merged, true
}

// These are among the names of changed keys if MaxAge and the owner were changed. No key has
// such a name.
const (
	changedAge   = ""
	changedOwner = "."
)

// settle completes the session's renewal if it was left undecided.
func (s *Store) settle(ctx context.Context, session *sessions.Session, st *state) error {
	c, _ := s.parseID(st.id)
	if undecided := c.from != "" && st.err == nil; !undecided {
		return nil
	}
	switch err := s.completeRenewal(ctx, c); {
	case errors.Is(err, ErrNotFound):
		return st.gone()
	case err != nil:
		return fmt.Errorf("mongostore: save session: %w", err)
	}
	if session.ID == st.id {
		session.ID = c.id
	}
	st.id, st.resend = c.id, true
	return nil
}

// endRenewed ends the new session of an undecided renewal, because a logout has ended the old
// one. The error is [ErrNotFound] if it succeeds.
func (s *Store) endRenewed(ctx context.Context, f *found) error {
	if err := s.end(ctx, ending{hash: f.hash}); err != nil {
		return err
	}
	return ErrNotFound
}

// adopt looks up a session that this store has neither loaded nor saved, such as a copy or
// one from another Store of the collection. It completes a renewal that was left undecided.
func (s *Store) adopt(ctx context.Context, session *sessions.Session, st *state) error {
	if st.known {
		return s.settle(ctx, session, st)
	}
	if err := checkCookieName(session.Name()); err != nil {
		return fmt.Errorf("mongostore: save session: %w", err)
	}
	if s.adoptFrom(session, st) {
		return s.settle(ctx, session, st)
	}
	if c, valid := s.parseID(session.ID); valid && !session.IsNew {
		f, err := s.load(ctx, session.Name(), c, nil)
		switch {
		case errors.Is(err, ErrNotFound):
			_ = st.gone()
		case err != nil:
			return fmt.Errorf("mongostore: save session: %w", err)
		default:
			st.id, st.stored, st.record, st.readAt, st.correct = c.id, true, f.record, f.readAt, f.correct
			session.ID, st.resend = c.id, c.from != ""
			st.given = *s.options()
			st.given.MaxAge = s.maxAgeOf(&f.meta)
		}
	}
	st.known = true
	return nil
}

// adoptFrom takes over the state of a session that another Store of the collection has loaded.
// It reports whether there is one.
func (s *Store) adoptFrom(session *sessions.Session, st *state) bool {
	other, ok := session.Store().(*Store)
	if !ok || other == s || other.coll.Database().Client() != s.coll.Database().Client() ||
		other.coll.Database().Name() != s.coll.Database().Name() || other.coll.Name() != s.coll.Name() {
		return false
	}
	theirs := other.states.of(session)
	if !theirs.mu.TryLock() { // it may be waiting for this one
		return false
	}
	defer theirs.mu.Unlock()
	if !theirs.stored || theirs.id != session.ID {
		return false
	}
	st.known, st.id, st.stored, st.err = true, theirs.id, true, theirs.err
	st.doubts = theirs.doubts
	st.doubts.keys = slices.Clone(theirs.doubts.keys)
	st.record, st.readAt, st.correct, st.given = theirs.record, theirs.readAt, theirs.correct, theirs.given
	return true
}

// adoptCookies looks up the sessions of the request's cookies, for the logout of a session that
// this store does not know, such as one that a handler has created for the logout.
func (s *Store) adoptCookies(r *http.Request, session *sessions.Session, st *state) error {
	if st.known {
		return nil
	}
	if err := checkCookieName(session.Name()); err != nil {
		return fmt.Errorf("mongostore: remove session: %w", err)
	}
	loaded, _ := s.New(r.WithContext(context.WithoutCancel(r.Context())), session.Name())
	other := s.states.of(loaded)
	st.known, st.origin = true, other.origin
	for _, id := range append([]string{session.ID, other.id}, other.others...) {
		if id != "" && !slices.Contains(st.others, id) {
			st.others = append(st.others, id)
		}
	}
	return nil
}
