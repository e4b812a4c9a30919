package mongostore

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/gorilla/sessions"
)

// maxMoves is how many changes by other requests a move carries over before it gives up.
const maxMoves = 16

var errContended = errors.New("other requests changed the session all the while")

// Renew saves the session under a fresh ID and removes the old one, as should be done
// whenever the visitor gains rights: at a login, above all (OWASP ASVS 7.2.4). An ID that
// somebody planted or learned before is worth nothing then. The time of creation,
// and with it the absolute timeout, stay. A new session is saved as by [Store.Save].
//
// Of renewals at once one wins, and the others get [ErrGone]; so does a renewal
// after a logout. What another request changes meanwhile is carried over, and
// appears in Values; but not what it does for a former owner. (To change the user
// altogether, remove the session and begin a new one: this one keeps its age.)
//
// The other errors are those of Save. When Renew returns nil, the old ID works
// no more, in any process. When it returns another error, the session goes on under
// the old ID. That is so unless the database had carried out a command whose
// answer was lost, and could not be asked within [Config.Timeout]; then the
// session has ended.
//
// A logout that begins while a renewal is being carried out may find the old
// document only, and leave the new one.
func (s *Store) Renew(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	return s.respond(r, w, session, true)
}

// move saves a stored session under another ID. MongoDB cannot change an _id,
// and a standalone server has no transactions; so there are three steps. The
// new document is made. The old one, if it is still as it was read, is marked
// as moved; that decides: of two moves at once, or of a logout and a move after
// it, one finds nothing to mark, and takes its own document back. A document so
// marked is dead for every process, takes no further writes, and is deleted.
// What other requests changed in the old document before that is carried over.
func (s *Store) move(ctx context.Context, q *saving) (err error) {
	s.describe(q)
	st, next := q.st, &q.next
	oldKey, newKey := st.record.key, next.key
	next.strays = nil // which only the old document has

	// Until the move has ended, a logout of this process whose deletion is repeated
	// stays in the list.
	s.removals.enter(oldKey)
	defer s.removals.leave(oldKey)
	if s.removals.pending(oldKey) || !next.expiresAt.After(next.seenAt) {
		return ErrGone
	}
	// From here on there are two documents, whether the visitor waits or not.
	ctx = context.WithoutCancel(ctx)
	refusedInsert := false
	defer func() {
		if err != nil && !refusedInsert {
			s.abandon(ctx, newKey)
		}
	}()
	if err := s.insertDocument(ctx, next.document(&s.seals)); err != nil {
		refusedInsert = refusedWrite(err)
		return err
	}
	m := moving{saving: *q, s: s, oldKey: oldKey, planned: *next, base: st.record, carried: map[any]any{}}
	if err := m.mark(ctx); err != nil {
		return err
	}
	if err := m.remove(ctx); err != nil {
		return err
	}
	next = &m.next
	q.session.Values = next.merge(&st.record, q.session.Values, m.carried)
	if m.otherAge {
		// Or the next save would take it for a change of this request's.
		own := *q.own
		own.MaxAge = s.options().MaxAge
		if next.maxAge != nil {
			own.MaxAge = *next.maxAge
		}
		q.session.Options, q.own = &own, &own
	}
	st.settle(q.id, *next)
	return nil
}

// moving is a move under way. What is carried over goes into its own next; the save's stays
// as it was planned.
type moving struct {
	saving
	s        *Store
	oldKey   string
	planned  record      // the new document, with nothing carried over
	base     record      // the old document, as it was last read
	carried  map[any]any // values that came in from the old document
	otherAge bool        // a MaxAge came in from it
}

// mark marks the old document as moved.
func (m *moving) mark(ctx context.Context) error {
	marking := markMoved(m.planned.key)
	unanswered := 0
	for range maxMoves {
		c := m.s.aliveIf(&m.base, m.next.seenAt)
		c.rev = m.base.rev
		matched, err := m.s.updateDocument(ctx, c.filter(m.oldKey), marking)
		if err == nil && matched {
			return nil
		}
		theirs, values, errRead := m.s.read(ctx, m.oldKey)
		switch {
		case errRead == nil && theirs.movedTo == m.planned.key:
			return nil // done, though the answer was lost
		case errors.Is(errRead, ErrNotFound), errRead == nil && (theirs.movedTo != "" || !m.s.aliveAt(&theirs, m.next.seenAt)):
			return ErrGone
		case errRead != nil:
			return errors.Join(err, errRead)
		case err != nil && (answered(err) || unanswered > 0):
			return err
		case err != nil:
			// It may still be on its way, and would end a session that lives on
			// under the old ID. What is sent again decides before it, or after.
			unanswered++
			continue
		}
		if err := m.carryOver(ctx, theirs, values); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, errContended)
}

// remove deletes the marked document. What is left of it, if that fails, is dead, and
// takes no writes.
func (m *moving) remove(ctx context.Context) error {
	removed, err := m.s.deleteDocument(ctx, byKey(m.oldKey))
	if m.s.removals.pending(m.oldKey) {
		return ErrGone // a logout, whose own deletion had failed
	}
	if err != nil {
		m.s.repeatRemoval(ctx, m.oldKey, false)
		return nil //nolint:nilerr // dead it is already
	}
	if !removed {
		return ErrGone // a logout was quicker
	}
	return nil
}

// carryOver brings what others changed in the old document into the new one.
func (m *moving) carryOver(ctx context.Context, theirs record, values map[any]any) error {
	next, loaded := &m.next, &m.st.record
	if m.s.cfg.OnConflict == Reject && m.planned.clashes(loaded, &theirs) {
		return ErrConflict
	}
	// Afresh each time: what this request and another have changed alike would
	// otherwise count as the other's the next time.
	*next = m.planned
	clear(m.carried)
	next.carryOver(loaded, &theirs, m.s.cfg.OwnerKey, values, m.carried)
	m.otherAge = !equalAge(m.planned.maxAge, next.maxAge)
	m.base = theirs
	return m.s.replaceDocument(ctx, m.planned.key, next.document(&m.s.seals))
}

// abandon removes a document whose ID nobody has been told, if it was made.
func (s *Store) abandon(ctx context.Context, key string) {
	if _, err := s.deleteDocument(ctx, byKey(key)); err != nil {
		s.repeatRemoval(ctx, key, false)
	}
}

// read is load for a document that may have expired, or be marked as moved.
func (s *Store) read(ctx context.Context, key string) (record, map[any]any, error) {
	rec, values, err := s.findRecord(ctx, key)
	if err != nil {
		return record{}, nil, err
	}
	goValues, err := rec.readValues(values, &s.seals)
	if err != nil {
		return record{}, nil, corrupt(err)
	}
	return rec, goValues, nil
}
