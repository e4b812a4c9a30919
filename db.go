package mongostore

import (
	"context"
	"errors"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// limit gives the context of one operation of the database.
func (s *Store) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(apart(ctx), s.cfg.Timeout)
}

// bound gives the context of an operation that is not a part of a request: its own
// deadline applies, and the store's timeout if it has none.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return apart(ctx), func() {}
	}
	return s.limit(ctx)
}

// apart takes an operation out of a transaction that the application may have put
// into the context: what Save has reported must not be rolled back.
func apart(ctx context.Context) context.Context {
	if mongo.SessionFromContext(ctx) == nil {
		return ctx
	}
	return mongo.NewSessionContext(ctx, nil)
}

// findRecord gets a document, and its values as they are.
func (s *Store) findRecord(ctx context.Context, key string) (rec record, values []byte, err error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	doc, err := s.coll.FindOne(ctx, byKey(key)).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return record{}, nil, ErrNotFound
	}
	if err != nil {
		return record{}, nil, unavailable(err)
	}
	rec, values, err = parseRecord(doc, key)
	if errors.Is(err, errMisdelivered) {
		return record{}, nil, unavailable(err)
	}
	if err != nil {
		return record{}, nil, corrupt(err)
	}
	return rec, values, nil
}

// find and advance bound each exchange with the server, but not what the caller
// does between them.
func (s *Store) find(ctx context.Context, filter any, opts ...options.Lister[options.FindOptions]) (*mongo.Cursor, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.coll.Find(ctx, filter, opts...)
}

func (s *Store) advance(ctx context.Context, cursor *mongo.Cursor) bool {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return cursor.Next(ctx)
}

func (s *Store) deleteDocuments(ctx context.Context, filter any) (int64, error) {
	res, err := s.coll.DeleteMany(ctx, filter)
	if err != nil {
		return 0, writeError(err)
	}
	if !res.Acknowledged {
		return 0, errUnacknowledged
	}
	return res.DeletedCount, nil
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
