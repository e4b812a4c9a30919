package mongostore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore/internal/mongoerr"
)

// Renew saves the session under a fresh ID and ends the old ID. Call it whenever the
// user's privileges change, above all at a login (OWASP ASVS 7.2.4): an ID that was planted or
// stolen before becomes invalid. The creation time, and with it the absolute timeout, stay. A
// new session is saved as by [Store.Save].
//
// When Renew returns nil, the old ID no longer works in any process. Requests that
// were sent with it before can neither bring the session back nor replace its cookie (see
// [Store.New]). Changes that they saved before the old ID ended are merged and appear in Values,
// unless the renewal replaces an owner by another one. (To switch to another user, end the
// session and create a new one: Renew keeps the creation time.)
//
// If the session has ended meanwhile, the error is [ErrGone]. If two requests renew a session
// concurrently, the later gets ErrGone. There is one exception: if [Config.OwnerKey] is set and both
// set the same owner, as when a login form is sent twice, both requests get a session.
//
// The other errors are those of Save, and the session continues under the old ID. The
// exception is an [ErrUnavailable] if the database did not report whether it has ended the
// old ID. Then Renew sets the new cookie although it returns the error: the user is logged
// in, and the next request with the new cookie ends the old ID.
func (s *Store) Renew(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	return s.respond(r, w, session, intentRenew)
}

// renewal is a renewal in progress: the document under the new hash is stored, and the one
// under the old hash is to become a tombstone.
type renewal struct {
	s       *Store
	plan    *plan // the original
	current *plan // with the changes of others
	old     string
	rev     int64 // of the document under the old hash
	grave   meta
	missing bool // there is no document under the old hash: the session is in the old store
}

// renew saves a session under another ID. MongoDB cannot change an _id, and a standalone
// server has no transactions, so there are two commands. The first inserts the new
// document. The second turns the old one into a tombstone if it has not changed since it was
// read. This command decides: of two renewals, or of a logout and a renewal, only one succeeds.
// If others have changed the old document, their changes are merged into the new one, and the
// second command is repeated.
func (s *Store) renew(ctx context.Context, p *plan) (*result, error) {
	rn := &renewal{s: s, plan: p, current: p, old: p.base.hash, rev: p.base.rev, missing: p.origin != nil}
	old := p.base.meta
	if p.origin != nil {
		rn.old = hashID(p.origin.id)
		old = p.origin.meta(p.now)
	}
	rn.grave = old.toTombstone(p.next.hash, p.now)
	if s.removals.pending(rn.old) {
		return nil, ErrGone
	}
	// From here on there are two documents, even if the client disconnects.
	ctx = context.WithoutCancel(ctx)
	if err := s.insertDocument(ctx, s.codec.document(&p.next)); err != nil {
		if !mongoerr.RefusedWrite(err) {
			s.discard(ctx, p.next.hash)
		}
		return nil, err
	}
	undecided, err := rn.decide(ctx)
	if err == nil && s.removals.pending(rn.old) {
		err = ErrGone // a concurrent logout, whose deletion has failed so far
	}
	if err != nil {
		s.abandon(ctx, p.next.hash)
		return nil, err
	}
	res, err := s.resultOf(rn.current)
	if err != nil || undecided == nil {
		return res, err
	}
	c := cookieID{id: p.id, from: rn.old, rev: rn.rev, keys: p.changedNames()}
	return &result{plan: res.plan, id: s.undecided(c), merged: res.merged, undecided: undecided}, nil
}

// decide ends the old ID. undecided is the error if the database does not report whether it
// has done so.
func (rn *renewal) decide(ctx context.Context) (undecided, err error) {
	s, p := rn.s, rn.plan
	var doubt error
	for range maxAttempts {
		var done bool
		if rn.missing {
			done, err = s.insertTombstone(ctx, &rn.grave)
		} else {
			done, err = s.updateDocument(ctx, guards{stored: true, rev: rn.rev, aliveAt: p.now}.filter(rn.old), rn.grave.burial())
		}
		if done {
			return nil, nil
		}
		if err != nil && mongoerr.RefusedWrite(err) && doubt == nil {
			return nil, err
		}
		theirs, errRead := s.read(ctx, rn.old)
		switch {
		case errRead == nil && theirs.movedTo == p.next.hash:
			return nil, nil // the response was lost
		case errors.Is(errRead, ErrNotFound) && rn.missing && err != nil && doubt == nil:
			doubt = err
			continue
		case errors.Is(errRead, ErrNotFound) && rn.missing && err != nil:
			return nil, err // the session of the old store continues
		case errors.Is(errRead, ErrNotFound), errRead == nil && !theirs.alive(p.now):
			if errRead == nil && theirs.movedTo != "" {
				return nil, rn.join(ctx, theirs.movedTo)
			}
			return nil, ErrGone
		case errRead != nil && err == nil && doubt == nil:
			return nil, errRead // nothing was decided
		case errRead != nil:
			return errors.Join(err, doubt), nil
		case rn.missing || theirs.rev != rn.rev:
			doubt = nil // what was sent before no longer matches the document
			if err := rn.merge(ctx, &theirs.record); err != nil {
				return nil, err
			}
			rn.rev, rn.missing = theirs.rev, false
			rn.grave = theirs.toTombstone(p.next.hash, p.now)
		case err != nil && doubt != nil:
			return errors.Join(err, doubt), nil
		case err != nil:
			// The update may still arrive. It is sent again; whichever arrives first
			// decides.
			doubt = err
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrUnavailable, errContended)
}

// merge merges others' changes of the old document into the new one.
func (rn *renewal) merge(ctx context.Context, theirs *record) error {
	if err := rn.s.merger.conflict(rn.plan, theirs); err != nil {
		return err
	}
	return rn.replace(ctx, theirs)
}

func (rn *renewal) replace(ctx context.Context, theirs *record) error {
	rn.current = rn.s.mergeRenewal(rn.plan, theirs, rn.plan.next.createdAt)
	next := &rn.current.next
	done, err := rn.s.replaceDocument(ctx, byHash(next.hash), rn.s.codec.document(next))
	if err == nil && !done {
		err = ErrGone
	}
	return err
}

// join lets the later of two renewals for one owner succeed: its session becomes a separate
// one, based on the session that was renewed first.
func (rn *renewal) join(ctx context.Context, hash string) error {
	renewed, err := rn.s.renewedSession(ctx, hash, rn.plan.now)
	switch {
	case errors.Is(err, ErrNotFound):
		return ErrGone
	case err != nil:
		return err
	case !rn.plan.next.sameOwner(&renewed):
		return ErrGone
	}
	return rn.replace(ctx, &renewed.record)
}

// mergeRenewal returns the plan with all changes of others to the old document, for a session that
// was created at a time.
func (s *Store) mergeRenewal(p *plan, theirs *record, createdAt time.Time) *plan {
	rebased := *p
	rebased.next.rev = max(p.next.rev, theirs.rev+1)
	before, ours := p.base.index(), p.next.index()
	newOwner := s.cfg.OwnerKey != "" && !s.merger.same(before[s.cfg.OwnerKey].value, ours[s.cfg.OwnerKey].value)
	if newOwner && !p.base.owner.IsZero() {
		return &rebased // one user's changes are not merged into another's session
	}
	rebased.next.createdAt = createdAt
	rebased.next.fields, rebased.merged = s.merger.mergeAll(p, theirs)
	if !newOwner && p.doubts.of(s.cfg.OwnerKey) == nil && !theirs.owner.Equal(p.base.owner) {
		rebased.next.owner = theirs.owner
	}
	if !p.newAge && !equalAge(theirs.maxAge, p.base.maxAge) {
		rebased.next.maxAge = theirs.maxAge
		rebased.options.MaxAge = s.maxAgeOf(&theirs.meta)
	}
	rebased.next.expiresAt = s.lifetimes.expiry(rebased.next.createdAt, p.now, rebased.options.MaxAge)
	return &rebased
}
