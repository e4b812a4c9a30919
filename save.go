package mongostore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/sessions"
)

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

// Save stores the session and then sets its cookie. It is to be called before the
// response's body is written.
//
// A new session is inserted; of a stored one, what changed is sent: the keys
// whose values are not those that were loaded, or only the expiry, if
// [Config.TouchInterval] has passed, or nothing. Changes that other requests
// made to other keys meanwhile stay; of two changes to one key the later one
// does, unless [Config.OnConflict] says otherwise. Values may be changed in
// place, and Save be called again. An ID that the application put into the
// session, or took from it, is replaced by a fresh one, as by [Store.Renew].
//
// With a negative Options.MaxAge the document is deleted and the cookie
// expires, also when the request was cancelled. If the database fails at it,
// Save warns and returns nil, the session is gone for this store from then on,
// and the deletion is repeated until it succeeds, or the store is closed or its
// client disconnected, which is another warning.
//
// The errors: [ErrGone] if the session was removed or has expired meanwhile,
// [ErrConflict], [ErrTooLarge], [ErrUnavailable], also when the visitor has left and
// the request's context ended, the error of the load if that had failed, and
// others for what cannot be stored (a value that gob refuses, which the error
// names) or made a cookie of, and for every write, a removal included, under the
// write concern w: 0. On every error the cookie stays as it is.
func (s *Store) Save(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	return s.respond(r, w, session, false)
}

// respond saves the session, under a fresh ID if renew is set, and sets the cookie.
func (s *Store) respond(r *http.Request, w http.ResponseWriter, session *sessions.Session, renew bool) error {
	if r == nil || w == nil || session == nil {
		return errors.New("mongostore: save session: request, response or session is nil")
	}
	st := s.states.of(session)
	st.mu.Lock()
	defer st.mu.Unlock()

	own := s.optionsOf(session)
	if own.MaxAge < 0 {
		if err := s.destroy(r.Context(), w, session, st, own); err != nil {
			return fmt.Errorf("mongostore: remove session: %w", err)
		}
		return nil
	}
	if st.err != nil {
		if errors.Is(st.err, ErrGone) {
			st.withdraw(w)
		}
		return st.err
	}
	if s.cfg.SkipEmpty && len(session.Values) == 0 && !st.stored && st.origin == nil {
		return nil
	}
	q := saving{session: session, st: st, own: own, request: r, renew: renew}
	err := s.saveWithCookie(r.Context(), w, &q)
	if errors.Is(err, ErrGone) {
		st.withdraw(w)
	}
	return s.saved(r.Context(), &q, err)
}

func (s *Store) saveWithCookie(ctx context.Context, w http.ResponseWriter, q *saving) error {
	if err := s.plan(q); err != nil {
		return err
	}
	// Before the database is touched, so that nothing is stored without a cookie.
	cookie, err := s.signedCookie(q)
	if err != nil {
		return err
	}
	if err := s.write(ctx, q); err != nil {
		return err
	}
	if q.own.MaxAge != cookie.MaxAge { // it came in from another request
		cookie = sessions.NewCookie(cookie.Name, cookie.Value, q.own)
	}
	q.st.cookie, q.st.left = setCookie(w, cookie, q.st.cookie), false
	return nil
}

// saved is the end of every save.
func (s *Store) saved(ctx context.Context, q *saving, err error) error {
	if err != nil {
		err = fmt.Errorf("mongostore: save session: %w", err)
		if errors.Is(err, ErrGone) {
			q.st.err = err
		}
		return err
	}
	_ = s.removeOld(ctx, q.st)
	s.cleanUp(ctx, s.lifetime(q.own.MaxAge))
	return nil
}

// optionsOf returns the session's options, or the store's if it has none.
func (s *Store) optionsOf(session *sessions.Session) *sessions.Options {
	if session.Options == nil {
		return s.options()
	}
	return session.Options
}

// saving is a save under way.
type saving struct {
	session *sessions.Session
	st      *state
	own     *sessions.Options
	request *http.Request // nil if there is none
	renew   bool

	// By plan:
	id     string // to be saved under
	moves  bool   // away from another ID
	change diff
	next   record // what the document is to hold
}

// plan finds out what there is to do, and everything that is wrong with the session.
func (s *Store) plan(q *saving) (err error) {
	st := q.st
	if !st.stored && q.session.ID != "" && q.renew {
		return errors.New("the session is not one that this store has loaded")
	}
	if q.change, err = st.record.diff(q.session.Values, s.cfg.MaxSize); err != nil {
		return err
	}
	q.id = st.id
	key := st.record.key
	q.moves = st.stored && (q.renew || q.session.ID != st.id)
	if !st.stored || q.moves {
		q.id = newID()
		key = keyOf(q.id)
	}
	now := time.Now().UTC().Truncate(time.Millisecond) // as exact as a BSON date
	q.next = record{
		key:       key,
		name:      q.session.Name(),
		fields:    q.change.fields,
		strays:    q.change.strays,
		details:   st.record.details,
		rev:       st.record.rev,
		createdAt: st.record.createdAt,
		seenAt:    now,
	}
	if !st.stored {
		q.next.createdAt = now
	}
	q.next.expiresAt = s.expiry(q.next.createdAt, now, q.own.MaxAge)
	if q.own.MaxAge != s.options().MaxAge {
		own := q.own.MaxAge
		q.next.maxAge = &own
	}
	if !st.stored || !q.change.empty() || !equalAge(q.next.maxAge, st.record.maxAge) {
		q.next.rev++
	}
	q.next.owner, err = s.ownerOf(q.session.Values)
	return err
}

// write brings the database up to date, and the session to the ID that it is stored under.
func (s *Store) write(ctx context.Context, q *saving) (err error) {
	switch {
	case !q.st.stored:
		err = s.insert(ctx, q)
	case q.moves:
		err = s.move(ctx, q)
	default:
		err = s.update(ctx, q)
	}
	if err == nil {
		q.session.ID = q.st.id
	}
	return err
}

// describe puts into the record what Config.Describe tells of the request.
func (s *Store) describe(q *saving) {
	if s.cfg.Describe != nil && q.request != nil {
		q.next.details = encodeDetails(s.cfg.Describe(q.request))
	}
}

// insert makes the document of a new session. It is never an upsert: that would
// bring a removed session back.
func (s *Store) insert(ctx context.Context, q *saving) error {
	s.describe(q)
	err := s.insertDocument(ctx, q.next.document(&s.seals))
	if errors.Is(err, ErrUnavailable) && !refusedWrite(err) {
		// Perhaps it was carried out, and only the answer lost. The next attempt
		// takes another ID: this insert may still be on its way, and must not
		// bring back what a logout has removed by then.
		s.repeatRemoval(ctx, q.next.key, false)
	}
	if err != nil {
		return err
	}
	q.st.settle(q.id, q.next)
	return nil
}

// update brings the document of a stored session up to date, if there is anything to send.
func (s *Store) update(ctx context.Context, q *saving) error {
	st, next, now := q.st, &q.next, q.next.seenAt
	if s.removals.pending(next.key) || !next.expiresAt.After(now) {
		return ErrGone
	}
	due := now.Sub(st.record.seenAt) >= s.touchInterval(q.own.MaxAge)
	alive := s.aliveAt(&st.record, now)
	if q.change.empty() && next.sameMeta(&st.record) && !due && alive {
		return nil
	}
	s.describe(q)
	// Expiry moves forward, so a session that was loaded a moment ago and had not
	// expired needs no condition beside its _id, which is the server's shortest
	// path. Only another request that has given it a shorter life can have ended
	// it; a session that was held for longer is checked for that.
	var c condition
	checked := !alive || now.Sub(st.readAt) >= min(s.cfg.TouchInterval, time.Second)
	if checked {
		c = s.aliveIf(&st.record, now)
	}
	rejects := s.cfg.OnConflict == Reject && !q.change.empty()
	// The owner of a session from before there was an OwnerKey is made of its values,
	// which another request may have changed since.
	late := !next.owner.equal(st.record.owner) && !changed(next.index(), st.record.index(), s.cfg.OwnerKey)
	if rejects || late {
		c.rev = st.record.rev
	}
	ctx, cancel := s.limit(ctx)
	defer cancel()
	update := next.update(&st.record, &q.change, &s.seals)
	for {
		matched, err := s.updateDocument(ctx, c.filter(next.key), update)
		if err != nil {
			return err
		}
		if matched {
			break
		}
		if c.rev == 0 && !checked {
			return ErrGone
		}
		theirs, _, err := s.load(ctx, next.name, st.id)
		if errors.Is(err, ErrNotFound) {
			return ErrGone
		}
		if err != nil {
			return err
		}
		if rejects && next.clashes(&st.record, &theirs) {
			return ErrConflict
		}
		if late {
			next.owner = theirs.owner
			update = next.update(&st.record, &q.change, &s.seals)
		}
		if checked {
			c = s.aliveIf(&theirs, now)
		}
		// The state keeps the rev of what this session has seen, so that a key
		// which only they changed is a conflict if this session changes it next.
		c.rev, next.rev = theirs.rev, st.record.rev
	}
	if !next.newLifetime(&st.record) && st.record.expiresAt.After(next.expiresAt) {
		next.expiresAt = st.record.expiresAt
	}
	st.settle(st.id, *next)
	return nil
}
