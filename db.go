package mongostore

import (
	"context"
	"errors"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/mongostore/mongostore/internal/mongoerr"
)

// This file contains the calls to the driver, except those of Watch. Each is bounded in time.
// Filters and updates are raw BSON, so the client's registry and BSON options do not apply to
// them.

// limit returns the context of one operation of a request.
func (s *Store) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(withoutTransaction(ctx), s.cfg.Timeout)
}

// bound returns the context of an operation that is not part of a request: its own deadline
// applies, or else the store's timeout.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return withoutTransaction(ctx), func() {}
	}
	return s.limit(ctx)
}

// withoutTransaction detaches ctx from the application's transaction, if any: what Save has
// reported must not be rolled back.
func withoutTransaction(ctx context.Context) context.Context {
	if mongo.SessionFromContext(ctx) == nil {
		return ctx
	}
	return mongo.NewSessionContext(ctx, nil)
}

func (s *Store) ping(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.coll.Database().Client().Ping(ctx, readpref.Primary()); err != nil {
		return unavailable(err)
	}
	return nil
}

// findDocument returns the document with a hash. It fails with [ErrNotFound] or
// [ErrUnavailable].
func (s *Store) findDocument(ctx context.Context, hash string) (bson.Raw, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	doc, err := s.coll.FindOne(ctx, byHash(hash)).Raw()
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		return nil, ErrNotFound
	case err != nil:
		return nil, unavailable(err)
	}
	return doc, nil
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

// updateDocument reports whether there is a document that the filter matches. A tombstone
// matches none.
func (s *Store) updateDocument(ctx context.Context, filter, update bson.Raw) (bool, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	res, err := s.coll.UpdateOne(ctx, filter, update)
	switch {
	case mongoerr.HasCode(err, mongoerr.TypeMismatch): // $inc of a null rev
		return false, nil
	case err != nil:
		return false, writeError(err)
	case !res.Acknowledged:
		return false, errUnacknowledged
	}
	return res.MatchedCount > 0, nil
}

// replaceDocument reports whether there is a document that the filter matches.
func (s *Store) replaceDocument(ctx context.Context, filter, doc bson.Raw) (bool, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	res, err := s.coll.ReplaceOne(ctx, filter, doc)
	switch {
	case err != nil:
		return false, writeError(err)
	case !res.Acknowledged:
		return false, errUnacknowledged
	}
	return res.MatchedCount > 0, nil
}

// deleteDocument reports whether it deleted a document that the filter matches.
func (s *Store) deleteDocument(ctx context.Context, filter bson.Raw) (bool, error) {
	ctx, cancel := s.limit(ctx)
	defer cancel()
	res, err := s.coll.DeleteOne(ctx, filter)
	switch {
	case err != nil:
		return false, writeError(err)
	case !res.Acknowledged:
		return false, errUnacknowledged
	}
	return res.DeletedCount > 0, nil
}

// deleteDocuments returns how many documents it deleted.
func (s *Store) deleteDocuments(ctx context.Context, filter bson.Raw) (int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	res, err := s.coll.DeleteMany(ctx, filter)
	switch {
	case err != nil:
		return 0, writeError(err)
	case !res.Acknowledged:
		return 0, errUnacknowledged
	}
	return res.DeletedCount, nil
}

func (s *Store) countDocuments(ctx context.Context, filter bson.Raw) (int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	n, err := s.coll.CountDocuments(ctx, filter)
	if err != nil {
		return 0, unavailable(err)
	}
	return n, nil
}

// eachDocument calls visit for the documents that match, until it returns false. Each
// exchange with the server is bounded; the calls of visit are not.
func (s *Store) eachDocument(ctx context.Context, filter bson.Raw, visit func(bson.Raw) bool, opts ...options.Lister[options.FindOptions]) error {
	cursor, err := s.find(ctx, filter, opts...)
	if err != nil {
		return unavailable(err)
	}
	defer func() {
		ctx, cancel := s.limit(context.WithoutCancel(ctx))
		defer cancel()
		_ = cursor.Close(ctx)
	}()
	for s.advance(ctx, cursor) {
		if !visit(cursor.Current) {
			return nil
		}
	}
	if err := cursor.Err(); err != nil {
		return unavailable(err)
	}
	return nil
}

// withoutValues returns the option of a find that omits the values.
func withoutValues() options.Lister[options.FindOptions] {
	return options.Find().SetProjection(bson.D{{Key: fieldValues, Value: 0}})
}

func (s *Store) find(ctx context.Context, filter bson.Raw, opts ...options.Lister[options.FindOptions]) (*mongo.Cursor, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.coll.Find(ctx, filter, opts...)
}

func (s *Store) advance(ctx context.Context, cursor *mongo.Cursor) bool {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return cursor.Next(ctx)
}

func (s *Store) createIndex(ctx context.Context, index mongo.IndexModel) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	_, err := s.coll.Indexes().CreateOne(ctx, index)
	return err
}

func (s *Store) listIndexes(ctx context.Context) ([]mongo.IndexSpecification, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.coll.Indexes().ListSpecifications(ctx)
}

// maxRenewals is how many renewals of one session are followed from tombstone to tombstone. It
// ends a search among damaged documents; some applications renew at every request.
const maxRenewals = 10_000

// found is a document in the database, with its times corrected.
type found struct {
	record
	values  map[any]any
	readAt  time.Time // before the command was sent
	correct bool      // the times are wrong
}

// read returns the document with a hash, whether the session is live or not. The values of a
// session that is not live are not decoded.
func (s *Store) read(ctx context.Context, hash string) (found, error) {
	return s.readInto(ctx, hash, nil)
}

func (s *Store) readInto(ctx context.Context, hash string, into map[any]any) (f found, err error) {
	f.readAt = now()
	doc, err := s.findDocument(ctx, hash)
	if err != nil {
		return found{}, err
	}
	m, values, err := parseMeta(doc, hash)
	if errors.Is(err, errMisdelivered) {
		return found{}, unavailable(err)
	}
	if err != nil {
		return found{}, corrupt(err)
	}
	f.meta, f.correct = s.lifetimes.corrected(m, s.maxAgeOf(&m), f.readAt)
	if !f.alive(f.readAt) {
		return f, nil
	}
	if f.fields, f.values, err = s.codec.decodeFields(hash, values, into); err != nil {
		return found{}, corrupt(err)
	}
	return f, nil
}

// maxAttempts is how often a save or a renewal is tried if other requests change the session
// concurrently.
const maxAttempts = 64
