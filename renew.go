package mongostore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// maxMoves is how many changes by other requests a move carries over before it gives up.
const maxMoves = 16

var errContended = errors.New("other requests changed the session all the while")

// move saves a stored session under another ID. MongoDB cannot change an _id, and a
// standalone server has no transactions; so the new document is made first, and the
// old one is removed only as it was read. Of two moves at once, or of a move and a
// logout, one finds nothing to remove, and takes its own document back. A
// change that another request made to the old document in between is carried over.
//
// If it is not known whether the old document was removed, the session goes on
// under the new ID, which is stored, and the removal is repeated; the error tells
// the caller that the old ID may work until then.
func (s *Store) move(ctx context.Context, session *sessions.Session, st *state, id string, next record) error {
	oldKey, newKey := keyOf(st.id), keyOf(id)
	if s.removals.pending(oldKey) {
		return ErrGone
	}
	if err := s.insertDocument(ctx, next.document(newKey)); err != nil {
		return err
	}
	// From here on there are two documents, whether the visitor waits or not.
	ctx = context.WithoutCancel(ctx)
	base, values := st.record, map[any]any{}
	for range maxMoves {
		removed, err := s.deleteDocument(ctx, byRev(oldKey, base.rev, next.seenAt))
		if err != nil {
			s.repeatRemoval(ctx, oldKey)
		}
		if err != nil || removed {
			session.Values = next.merge(&st.record, session.Values, values)
			st.id, st.record, st.readAt = id, next, next.seenAt
			return err
		}
		theirs, theirValues, err := s.load(ctx, next.name, st.id)
		if err == nil {
			next.carryOver(&base, &theirs, theirValues, values)
			base = theirs
			err = s.replaceDocument(ctx, newKey, next.document(newKey))
		}
		if err != nil {
			s.abandon(ctx, newKey)
			if errors.Is(err, errNone) {
				return ErrGone
			}
			return err
		}
	}
	s.abandon(ctx, newKey)
	return fmt.Errorf("%w: %w", ErrUnavailable, errContended)
}

// abandon removes a document whose ID nobody has been told.
func (s *Store) abandon(ctx context.Context, key string) {
	if _, err := s.deleteDocument(ctx, byKey(key, time.Time{})); err != nil {
		s.repeatRemoval(ctx, key)
	}
}

// carryOver brings into rec what changed from base to theirs, save for the keys that
// rec itself changed. The values that came in are put into values.
func (rec *record) carryOver(base, theirs *record, theirValues, values map[any]any) {
	fields := maps.Clone(rec.fields)
	for key, f := range theirs.fields {
		if was, known := base.fields[key]; known && sameValue(was.value, f.value) {
			continue // they did not change it
		}
		if rec.changed(base, key) {
			continue // ours is the later change
		}
		fields[key] = f
		values[key] = theirValues[key]
	}
	for key := range base.fields {
		if _, kept := theirs.fields[key]; !kept && !rec.changed(base, key) {
			delete(fields, key)
			delete(values, key)
		}
	}
	rec.fields = fields
	rec.rev = max(rec.rev, theirs.rev)
}

// merge gives a session's values what [record.carryOver] brought into rec since base.
func (rec *record) merge(base *record, values, carried map[any]any) map[any]any {
	if values == nil {
		values = map[any]any{}
	}
	maps.Copy(values, carried)
	for key := range base.fields {
		if _, kept := rec.fields[key]; !kept {
			delete(values, key)
		}
	}
	return values
}

// changed reports whether rec has another value for a key than base, or only one
// of them has one.
func (rec *record) changed(base *record, key any) bool {
	ours, have := rec.fields[key]
	was, had := base.fields[key]
	return have != had || have && !sameValue(ours.value, was.value)
}

// byRev is the filter for a document that is alive and was not changed since it was
// read at the given rev.
func byRev(key string, rev int64, now time.Time) bson.Raw {
	doc, start := openDocument(nil)
	doc = appendStringElement(doc, fieldID, key)
	doc = appendNumber(doc, fieldRev, rev)
	doc = appendAfter(doc, now)
	return closeDocument(doc, start)
}
