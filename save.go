package mongostore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore/internal/bsonval"
	"github.com/mongostore/mongostore/internal/mongoerr"
)

// Save stores the session and then sets its cookie. It must be called before the response's
// body is written.
//
// A new session is inserted. For a stored one, Save sends the keys whose values have changed
// since they were loaded. Other requests' changes of other keys stay. Of two changes of one key
// the later one wins (see [Config.OnConflict]), except that edits of lists are merged. Values
// may be changed in place, and Save may be called again.
//
// Save moves the expiry if [Config.TouchInterval] has passed since it last did, or if MaxAge or
// another cookie attribute in session.Options has changed. It sends the cookie when it moves the
// expiry, and for new and renewed sessions. For an unchanged session whose expiry need not
// move, it sends neither a command nor a cookie.
//
// A negative Options.MaxAge ends the session: the document is deleted and the cookie
// expires, even if the request was cancelled. If the database fails, Save logs a warning
// and returns nil, this store treats the session as ended, and the deletion is retried
// until it succeeds, the store is closed, or its client is disconnected.
//
// If the application has set or cleared session.ID, Save stores the session under a fresh ID, as
// [Store.Renew] does.
//
// On an error no cookie is set, except by a renewal as Renew describes. The errors are:
//
//   - [ErrGone] if the session has ended since it was loaded
//   - [ErrConflict] and [ErrTooLarge]
//   - [ErrUnavailable], also if the request's context has ended
//   - the error of the load, if that failed
//   - an error for a value or a cookie that cannot be encoded, or for the write concern w: 0
func (s *Store) Save(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	return s.respond(r, w, session, intentSave)
}

// Persist stores a session as [Store.Save] does, without HTTP. It does not count as user
// activity, so it moves no expiry and does not change the session's MaxAge, unless the application has
// set or cleared session.ID. A new session is stored and gets its ID. A negative Options.MaxAge ends the session, as [Store.Remove] does.
// [Config.SkipEmpty] and [Config.Describe] do not apply. The errors are those of Save.
func (s *Store) Persist(ctx context.Context, session *sessions.Session) error {
	return s.store(ctx, session, intentPersist)
}

// Touch moves the expiry of a stored session if [Config.TouchInterval] has passed. It is for
// user activity without HTTP, such as a message on a web socket. It writes no values. The cookie
// keeps its own expiry until the next Save with HTTP, which sends it again if the interval has
// passed. A negative Options.MaxAge ends the session, as [Store.Remove] does. The errors are those of
// [Store.Save].
func (s *Store) Touch(ctx context.Context, session *sessions.Session) error {
	return s.store(ctx, session, intentTouch)
}

// op is what a save does in the database.
type op int

const (
	opNone op = iota
	opInsert
	opUpdate
	opRenew
)

// plan is everything that a save will do. It is immutable.
type plan struct {
	op       op
	now      time.Time
	id       string           // of the session after the save
	base     record           // the document, as far as this session knows it
	next     record           // the document after the save
	change   change           // of the values, from base to next
	merged   []field          // of next, if they differ from the session: lists that others have edited
	newAge   bool             // the session's own MaxAge is written
	newOwner bool             // the owner is written
	touch    bool             // the expiry moves, and the cookie is sent
	correct  bool             // the times are set, not raised
	guards   guards           // of an update
	options  sessions.Options // of the session after the save
	doubts   doubts           // of earlier saves, which this one settles
	left     doubts           // of earlier saves, which this one leaves
	origin   *origin          // of a session that is to be migrated

	renewedTo string // the hash of the renewed session, if another request has just renewed it
}

// empty reports whether there is nothing to write.
func (p *plan) empty() bool { return p.change.empty() && !p.touch && !p.newOwner }

// respond saves the session for a request and sets the cookie.
func (s *Store) respond(r *http.Request, w http.ResponseWriter, session *sessions.Session, in intent) (err error) {
	if r == nil || w == nil || session == nil {
		return errors.New("mongostore: save session: request, response or session is nil")
	}
	if w.Header() == nil {
		return errors.New("mongostore: save session: the response's header is nil")
	}
	st := s.states.of(session)
	details := s.describe(r, session, st, in)
	st.mu.Lock()
	defer st.mu.Unlock()
	defer func() {
		if st.failed, st.failedIn = err, in; err != nil {
			st.failedAs = s.optionsOf(session, st)
			st.unsaved, st.invalid = s.fieldsOf(session, st)
		}
	}()

	ctx := r.Context()
	if o := s.optionsOf(session, st); o.MaxAge < 0 {
		if err := s.adoptCookies(r, session, st); err != nil {
			return err
		}
		return s.logout(r, w, session, st, &o)
	}
	if err := s.adopt(ctx, session, st); err != nil {
		return err
	}
	if st.err != nil && !(st.renewable && in == intentRenew) {
		if errors.Is(st.err, ErrGone) {
			st.withdrawCookie(w)
		}
		return st.err
	}
	if s.cfg.SkipEmpty && len(session.Values) == 0 && !st.stored && st.origin == nil {
		return nil
	}
	res, cookie, err := s.saveWithCookie(ctx, session, st, in, details)
	if err != nil {
		if errors.Is(err, ErrGone) {
			st.withdrawCookie(w)
		}
		return err
	}
	if res == nil { // there was nothing to write
		return nil
	}
	if cookie != nil {
		st.setCookie(w, cookie)
		st.resend = false
	}
	return s.finish(ctx, w, st, res)
}

// saveWithCookie saves the session and returns the cookie to send, if any.
func (s *Store) saveWithCookie(ctx context.Context, session *sessions.Session, st *state, in intent, details *bsonval.Value) (*result, *http.Cookie, error) {
	planned, err := s.plan(session, st, in, details)
	if err != nil {
		return nil, nil, s.failed(st, err)
	}
	if planned.op == opNone { // in most requests; this keeps the plan off the heap
		return nil, nil, nil
	}
	p := new(plan)
	*p = planned
	var cookie *http.Cookie
	if p.touch { // before the write, so that nothing is stored without a cookie
		if cookie, err = s.signedCookie(session.Name(), p.id, &p.options); err != nil {
			return nil, nil, s.failed(st, err)
		}
	}
	res, err := s.write(ctx, p)
	if err != nil {
		return nil, nil, s.failed(st, err)
	}
	st.commit(session, res)
	switch {
	case cookie == nil:
	case res.id != p.id:
		cookie, err = s.signedCookie(session.Name(), res.id, &res.plan.options)
	case res.plan.options != p.options:
		cookie, err = newCookie(cookie.Name, cookie.Value, &res.plan.options)
	}
	return res, cookie, err
}

// store is respond without HTTP.
func (s *Store) store(ctx context.Context, session *sessions.Session, in intent) error {
	if session == nil {
		return errors.New("mongostore: save session: session is nil")
	}
	st := s.states.of(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	if o := s.optionsOf(session, st); o.MaxAge < 0 {
		return s.remove(ctx, session, st)
	}
	if err := s.adopt(ctx, session, st); err != nil {
		return err
	}
	if st.err != nil {
		return st.err
	}
	p, err := s.plan(session, st, in, nil)
	if err != nil {
		return s.failed(st, err)
	}
	if p.op == opNone {
		return nil
	}
	res, err := s.write(ctx, &p)
	if err != nil {
		return s.failed(st, err)
	}
	st.commit(session, res)
	st.resend = st.resend || p.op == opInsert || p.op == opRenew // the browser does not have the cookie yet
	return s.finish(ctx, nil, st, res)
}

// finish does what follows a write. w is nil without HTTP.
func (s *Store) finish(ctx context.Context, w http.ResponseWriter, st *state, res *result) error {
	_ = s.removeOld(ctx, w, st, res.plan.options)
	s.cleanUp(ctx, s.lifetimes.idle(res.plan.options.MaxAge))
	if res.undecided != nil {
		return fmt.Errorf("mongostore: renew session: %w", res.undecided)
	}
	return nil
}

// failed records an error's effect on later saves, and returns the error wrapped.
func (s *Store) failed(st *state, err error) error {
	var doubtful *doubtfulError
	switch {
	case errors.Is(err, ErrGone):
		return st.gone()
	case errors.As(err, &doubtful):
		st.doubts = st.doubts.add(doubtful.made, doubtful.sent)
	}
	return fmt.Errorf("mongostore: save session: %w", err)
}

// plan validates the session and computes the write. The details are nil if they do not change.
func (s *Store) plan(session *sessions.Session, st *state, in intent, details *bsonval.Value) (p plan, err error) {
	p = plan{now: now(), id: st.id, base: st.record, doubts: st.doubts, options: s.optionsOf(session, st), renewedTo: st.renewedTo}
	if !st.stored && st.origin != nil {
		p.origin, p.base = st.origin, st.origin.record
	}
	if in == intentTouch && !st.stored {
		return plan{}, errors.New("session is not stored")
	}
	p.next.meta, p.next.fields = p.base.meta, p.base.fields
	if in == intentTouch { // which sends no values
		p.doubts = doubts{age: st.doubts.age}
		p.left = doubts{keys: st.doubts.keys, owner: st.doubts.owner}
	} else {
		if p.change, p.next.fields, err = s.codec.diff(&p.base, session.Values, st.doubts, s.cfg.MaxSize); err != nil {
			return plan{}, err
		}
		if p.next.owner, err = s.ownerOf(session.Values, p.base.owner); err != nil {
			return plan{}, err
		}
		p.newOwner = st.doubts.owner || !p.next.owner.Equal(p.base.owner)
	}
	fresh := in == intentRenew || in == intentSave && s.mustRenew(&p)
	switch {
	case (st.stored || p.origin != nil) && fresh, st.stored && in != intentTouch && session.ID != st.id:
		p.op, p.id = opRenew, newID()
	case p.origin != nil:
		p.op, p.id = opInsert, p.origin.id
	case !st.stored:
		p.op, p.id = opInsert, newID()
	default:
		p.op = opUpdate
	}
	switch {
	case in == intentPersist && st.stored:
		p.options.MaxAge = st.given.MaxAge
	case in == intentTouch: // a cookie attribute that has changed waits for Save
		age := p.options.MaxAge
		p.options = st.given
		p.options.MaxAge = age
	}
	p.touch = p.op != opUpdate || s.touchDue(st, &p.options, in, p.now)
	switch {
	case p.touch && in == intentTouch:
		p.next.cookieAt = p.base.cookieSent()
	case p.touch:
		p.next.cookieAt = time.Time{}
	}
	p.left.age = st.doubts.age && !p.touch
	if p.op != opUpdate {
		p.next.hash, p.next.name = hashID(p.id), bsonval.String(session.Name())
	}
	if p.op == opRenew {
		p.next.migratedUntil = time.Time{} // the fresh ID is not that of the old cookie
	}
	if details != nil {
		p.next.details = *details
	}
	s.planTimes(&p, st)
	if p.op == opUpdate {
		if p.empty() {
			p.op = opNone
		}
		p.guards = s.guardsOf(&p, st)
	}
	if p.op != opUpdate || !p.change.empty() || p.newAge || p.newOwner {
		p.next.rev = p.base.rev + 1
	}
	if p.touch && !p.next.expiresAt.After(p.now) {
		return plan{}, ErrGone
	}
	return p, nil
}

// planTimes completes the plan's times and MaxAge.
func (s *Store) planTimes(p *plan, st *state) {
	if p.op == opInsert && p.origin == nil || p.next.createdAt.IsZero() {
		p.next.createdAt = p.now
	}
	newAge := st.stored && p.options.MaxAge != st.given.MaxAge
	if newAge || p.base.maxAge != nil || !st.stored && p.options.MaxAge != s.options().MaxAge {
		own := min(p.options.MaxAge, longestMaxAge)
		p.next.maxAge = &own
	}
	p.newAge = p.touch && (p.doubts.age || !equalAge(p.base.maxAge, p.next.maxAge))
	if p.touch {
		p.next.seenAt = p.now
		p.next.expiresAt = s.lifetimes.expiry(p.next.createdAt, p.now, p.options.MaxAge)
	}
	p.correct = st.correct || p.newAge
}

// guardsOf returns the conditions of the plan's update. A session that was just loaded and has
// not expired needs only its _id: only another request that shortened its lifetime can have
// expired it.
func (s *Store) guardsOf(p *plan, st *state) guards {
	var g guards
	if !p.base.alive(p.now) || p.now.Sub(st.readAt) >= min(s.cfg.TouchInterval, time.Second) {
		g.aliveAt = p.now
	}
	if p.touch {
		g.stored = true
		if !p.newAge { // which the expiry was computed from
			g.sameAge, g.maxAge = true, p.base.maxAge
		}
	}
	if s.merger.policy == ConflictReject && !p.change.empty() || s.lateOwner(p) || s.merger.editsLists(p) {
		g.rev = p.base.rev
	}
	return g
}

// write executes the plan.
func (s *Store) write(ctx context.Context, p *plan) (*result, error) {
	switch p.op {
	case opInsert:
		return s.insert(ctx, p)
	case opRenew:
		return s.renew(ctx, p)
	default:
		return s.update(ctx, p, nil)
	}
}

// insert stores a new session. It is never an upsert, which would bring an ended session
// back.
func (s *Store) insert(ctx context.Context, p *plan) (*result, error) {
	if s.removals.pending(p.next.hash) {
		return nil, ErrGone
	}
	if p.renewedTo != "" {
		renewed, err := s.renewedSession(ctx, p.renewedTo, p.now)
		if err == nil && p.next.sameOwner(&renewed) {
			p = s.mergeRenewal(p, &renewed.record, renewed.createdAt)
		}
	}
	err := s.insertDocument(ctx, s.codec.document(&p.next))
	switch {
	case err == nil:
		return s.resultOf(p)
	case p.origin != nil && mongoerr.HasCode(err, mongoerr.DuplicateKey):
		return s.joinMigrated(ctx, p, err)
	case p.origin != nil && !mongoerr.RefusedWrite(err):
		return nil, &doubtfulError{err, p, p}
	case errors.Is(err, ErrUnavailable) && !mongoerr.RefusedWrite(err):
		// It may have been carried out. The next attempt uses another ID: this insert
		// may still arrive, and must not bring back a session that has ended by then.
		s.discard(ctx, p.next.hash)
	}
	return nil, err
}

// update changes the document of a stored session. theirs is the current document, if it is
// already known.
func (s *Store) update(ctx context.Context, p *plan, theirs *found) (*result, error) {
	hash := p.next.hash
	if s.removals.pending(hash) {
		return nil, ErrGone
	}
	current := p
	for attempt := range maxAttempts {
		var err error
		if theirs == nil && (attempt > 0 || !p.base.alive(p.now)) {
			var f found
			if f, err = s.read(ctx, hash); errors.Is(err, ErrNotFound) || err == nil && !f.alive(p.now) {
				err = ErrGone
			}
			theirs = &f
		}
		if err == nil && theirs != nil {
			current, err = s.rebase(p, theirs)
			theirs = nil
		}
		if err != nil {
			return nil, err
		}
		if current.empty() {
			return s.resultOf(current)
		}
		matched, err := s.updateDocument(ctx, current.guards.filter(hash), s.codec.operators(current))
		switch {
		case err != nil && !mongoerr.RefusedWrite(err):
			return nil, &doubtfulError{err, p, current}
		case err != nil:
			return nil, err
		case matched:
			return s.resultOf(current)
		case current.guards.none():
			return nil, ErrGone
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, errContended)
}

// rebase returns the plan for a document that others have changed meanwhile.
func (s *Store) rebase(p *plan, theirs *found) (*plan, error) {
	rebased := *p
	if err := s.merger.conflict(p, &theirs.record); err != nil {
		return nil, err
	}
	rebased.change, rebased.next.fields, rebased.merged = s.merger.mergeChanged(p, &theirs.record)
	if p.touch && !p.newAge {
		rebased.base.maxAge, rebased.next.maxAge, rebased.guards.maxAge = theirs.maxAge, theirs.maxAge, theirs.maxAge
		rebased.options.MaxAge = s.maxAgeOf(&theirs.meta)
		rebased.next.expiresAt = s.lifetimes.expiry(theirs.createdAt, p.now, rebased.options.MaxAge)
		if !rebased.next.expiresAt.After(p.now) {
			return nil, ErrGone
		}
	}
	if s.lateOwner(p) {
		var err error
		if rebased.next.owner, err = s.ownerOf(theirs.values, theirs.owner); err != nil {
			return nil, err
		}
		rebased.newOwner = !rebased.next.owner.Equal(theirs.owner)
	}
	if p.guards.rev != 0 {
		rebased.guards.rev = theirs.rev
	}
	return &rebased, nil
}

// joinMigrated applies the save to the session that a concurrent request has migrated from
// the old store.
func (s *Store) joinMigrated(ctx context.Context, p *plan, duplicate error) (*result, error) {
	theirs, err := s.read(ctx, p.next.hash)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, duplicate // of another unique index
	case err != nil:
		return nil, err
	case !theirs.alive(p.now):
		return nil, ErrGone
	}
	joined := *p
	joined.op = opUpdate
	joined.base.meta = theirs.meta
	joined.next.createdAt, joined.next.migratedUntil = theirs.createdAt, theirs.migratedUntil
	// The rev is not updated: this session has not loaded the stored fields, and a renewal must
	// not treat its own fields as complete.
	if equalAge(p.base.maxAge, p.next.maxAge) {
		joined.next.maxAge = theirs.maxAge
	}
	joined.newAge = !equalAge(joined.base.maxAge, joined.next.maxAge)
	if s.cfg.OwnerKey == "" {
		joined.next.owner = theirs.owner
	}
	if s.cfg.Describe == nil {
		joined.next.details = theirs.details
	}
	joined.newOwner = !joined.base.owner.Equal(joined.next.owner)
	joined.correct = joined.newAge
	joined.guards = guards{stored: true, rev: theirs.rev}
	return s.update(ctx, &joined, &theirs)
}
