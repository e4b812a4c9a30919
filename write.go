package mongostore

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// The writes of a save. Each leaves the state as the database acknowledged it, or as
// it was.

var errUnacknowledged = errors.New("the write concern is unacknowledged (w: 0)")

// insert makes the document of a new session. It is never an upsert: that would
// bring a removed session back.
func (s *Store) insert(ctx context.Context, st *state, id string, next record) error {
	key := keyOf(id)
	doc := next.document(key)
	err := s.insertDocument(ctx, doc)
	if st.attempt == id && mongo.IsDuplicateKeyError(err) {
		// The earlier insert had been applied; only its answer was lost. Nobody
		// else can know this ID, so nothing is overwritten.
		err = s.replaceDocument(ctx, key, doc)
	}
	if errors.Is(err, ErrUnavailable) {
		st.attempt = id
	}
	if err != nil {
		return err
	}
	st.id, st.stored, st.record, st.readAt, st.attempt = id, true, next, next.seenAt, ""
	return nil
}

// update brings the document of a stored session up to date, if there is anything to send.
func (s *Store) update(ctx context.Context, st *state, next record, change diff) error {
	now := next.seenAt
	if s.removals.pending(keyOf(st.id)) {
		return ErrGone
	}
	lifetime := next.expiresAt.Sub(now)
	due := now.Sub(st.record.seenAt) >= min(s.touchInterval, lifetime/10)
	sameAge := equalAge(next.maxAge, st.record.maxAge)
	alive := st.record.aliveAt(now)
	if change.empty() && sameAge && !due && alive {
		return nil
	}
	// Expiry only moves forward, so a session that was loaded a moment ago and
	// had not expired needs no condition beside its _id, which is the server's
	// shortest path. One that was held for longer may have been given a shorter
	// life by another request.
	var condition time.Time
	if !alive || now.Sub(st.readAt) >= s.touchInterval {
		condition = now
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	res, err := s.coll.UpdateOne(ctx, byKey(keyOf(st.id), condition), next.update(&st.record, &change))
	switch {
	case err != nil:
		return writeError(err)
	case !res.Acknowledged:
		return errUnacknowledged
	case res.MatchedCount == 0:
		return ErrGone
	}
	if sameAge && st.record.expiresAt.After(next.expiresAt) {
		next.expiresAt = st.record.expiresAt
	}
	st.record, st.readAt = next, now
	return nil
}

func (s *Store) insertDocument(ctx context.Context, doc bson.Raw) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	res, err := s.coll.InsertOne(ctx, doc)
	if err == nil && !res.Acknowledged {
		return errUnacknowledged
	}
	return writeError(err)
}

// replaceDocument fails with [ErrGone] if there is nothing to replace.
func (s *Store) replaceDocument(ctx context.Context, key string, doc bson.Raw) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	res, err := s.coll.ReplaceOne(ctx, byKey(key, time.Time{}), doc)
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
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
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
		return errors.Join(ErrTooLarge, err)
	default:
		return unavailable(err)
	}
}
