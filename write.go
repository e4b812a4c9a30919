package mongostore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// The writes of a save. Each leaves the state as the database acknowledged it, or as
// it was.

var errUnacknowledged = errors.New("the write concern is unacknowledged (w: 0)")

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

func (s *Store) insertDocument(ctx context.Context, doc bson.Raw) error {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	res, err := s.coll.InsertOne(ctx, doc)
	if err == nil && !res.Acknowledged {
		return errUnacknowledged
	}
	return writeError(err)
}

// updateDocument reports whether there is a document that the filter matches.
func (s *Store) updateDocument(ctx context.Context, filter, update bson.Raw) (bool, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	res, err := s.coll.UpdateOne(ctx, filter, update)
	if hasCode(err, codeTypeMismatch) {
		return false, nil // its rev is null, so that no $inc passes: it has moved
	}
	if err != nil {
		return false, writeError(err)
	}
	if !res.Acknowledged {
		return false, errUnacknowledged
	}
	return res.MatchedCount > 0, nil
}

// replaceDocument fails with [ErrGone] if there is nothing to replace.
func (s *Store) replaceDocument(ctx context.Context, key string, doc bson.Raw) error {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	res, err := s.coll.ReplaceOne(ctx, byKey(key), doc)
	if err == nil && !res.Acknowledged {
		return errUnacknowledged
	}
	if err == nil && res.MatchedCount == 0 {
		return ErrGone
	}
	return writeError(err)
}

// deleteDocument reports whether it deleted a document that the filter matches.
func (s *Store) deleteDocument(ctx context.Context, filter bson.Raw) (bool, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	res, err := s.coll.DeleteOne(ctx, filter)
	if err != nil {
		return false, writeError(err)
	}
	if !res.Acknowledged {
		return false, errUnacknowledged
	}
	return res.DeletedCount > 0, nil
}

// writeError says what a driver's error means for the caller of a save.
func writeError(err error) error {
	switch {
	case err == nil:
		return nil
	case hasCode(err, codeObjectTooLarge, codeUpdateTooLarge):
		return fmt.Errorf("%w: %w", ErrTooLarge, discreet{err})
	default:
		return unavailable(err)
	}
}
