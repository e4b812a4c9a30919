package mongostore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Cleanup is how the documents of expired sessions are deleted. That is a matter of
// disk space alone: an expired session is not read, whether deleted or not.
type Cleanup int

const (
	// TTLIndex has the server delete expired sessions, by an index on expiresAt
	// (https://www.mongodb.com/docs/manual/core/index-ttl/). Where the server
	// has no such index, or refuses to make it, there is one warning, and the store
	// sweeps.
	TTLIndex Cleanup = iota

	// Sweep deletes expired sessions now and then in the background of a Save.
	Sweep

	// Off leaves expired sessions to the application: see [Store.DeleteExpired].
	Off
)

const (
	sweepBatch    = 1000 // documents; so that no deletion is long
	shortestSweep = time.Second
	longestSweep  = 10 * time.Minute
	indexRetry    = time.Minute
)

// cleaner knows when a save has to care for the cleanup.
type cleaner struct {
	mode     Cleanup
	sweeping atomic.Bool  // the server has no TTL index
	due      atomic.Int64 // Unix milliseconds; at first the epoch, so at once
}

const never = math.MaxInt64

// claim reports whether the caller is the one to care for the cleanup now. Nobody
// else is until the given time has passed, or the work sets another.
func (c *cleaner) claim(now time.Time, pause time.Duration) bool {
	due := c.due.Load()
	return due <= now.UnixMilli() && c.due.CompareAndSwap(due, now.Add(pause).UnixMilli())
}

// cleanUp is called after each save.
func (s *Store) cleanUp(ctx context.Context, lifetime time.Duration) {
	c := &s.cleaner
	pause := indexRetry
	sweeps := c.mode == Sweep || c.sweeping.Load()
	if sweeps {
		pause = min(max(lifetime/10, shortestSweep), longestSweep)
	}
	if c.mode == Off || !c.claim(time.Now(), pause) {
		return
	}
	s.tasks.start(ctx, func(ctx context.Context) {
		if !sweeps {
			ctx, cancel := s.bound(ctx)
			defer cancel()
			s.prepareCleanup(ctx)
		}
		if c.mode == Sweep || c.sweeping.Load() {
			if _, err := s.DeleteExpired(ctx); err != nil && ctx.Err() == nil {
				s.logger().WarnContext(ctx, "mongostore: expired sessions not deleted", "error", err, "collection", s.coll.Name())
			}
		}
	})
}

// prepareCleanup makes the TTL index, or has the store sweep where there can be none.
func (s *Store) prepareCleanup(ctx context.Context) {
	c := &s.cleaner
	if c.mode != TTLIndex {
		return
	}
	err := s.EnsureIndexes(ctx)
	switch {
	case err == nil:
		c.due.Store(never)
	case errors.Is(ctx.Err(), context.Canceled): // by Close
	case refused(err):
		c.sweeping.Store(true)
		s.logger().WarnContext(ctx, "mongostore: no TTL index, so expired sessions are swept by this process",
			"error", err, "collection", s.coll.Name())
	default:
		c.due.Store(time.Now().Add(indexRetry).UnixMilli())
		s.logger().WarnContext(ctx, "mongostore: TTL index not made yet, it will be tried again",
			"error", err, "collection", s.coll.Name())
	}
}

// refused reports whether the server will answer the same the next time.
func refused(err error) bool {
	var server mongo.ServerError
	return errors.As(err, &server) && !mongo.IsNetworkError(err) && !mongo.IsTimeout(err) && !hasCode(err, transientCodes...)
}

// transientCodes are what a server answers that is about to stop, to start or to
// hand over, or has the index in the making.
var transientCodes = []int{
	6, 7, 24, 50, 89, 91, 112, 117, 133, 189, 262, 276, 9001, 10058, 10107, 11600, 11602, 13388, 13435, 13436,
}

// EnsureIndexes makes the index that deletes expired sessions, if it does not exist.
// [Open] does so, and a store from [New] at its first save; an application that runs
// without the right to create indexes can have it done by a tool with that right.
//
// It returns the server's answer where the index cannot be had, and if there is one with another
// expireAfterSeconds, the command that mends it.
func (s *Store) EnsureIndexes(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	_, err := s.coll.Indexes().CreateOne(ctx, mongo.IndexModel{
		Keys:    bson.D{{Key: fieldExpiresAt, Value: 1}},
		Options: options.Index().SetExpireAfterSeconds(0),
	})
	if hasCode(err, codeIndexOptionsConflict, codeIndexSpecsConflict) {
		err = s.explainConflict(ctx, err)
	}
	if err != nil {
		return fmt.Errorf("mongostore: make indexes: %w", err)
	}
	return nil
}

// explainConflict adds to the server's error what is wrong with the index that exists.
// It returns nil if nothing is.
func (s *Store) explainConflict(ctx context.Context, conflict error) error {
	indexes, err := s.coll.Indexes().ListSpecifications(ctx)
	if err != nil {
		return conflict
	}
	for _, index := range indexes {
		if !isExpiryIndex(index.KeysDocument) {
			continue
		}
		switch after := index.ExpireAfterSeconds; {
		case after == nil:
			return fmt.Errorf("the index %q deletes nothing; drop it with db.getCollection(%q).dropIndex(%q) to have it made anew: %w",
				index.Name, s.coll.Name(), index.Name, conflict)
		case *after != 0:
			return fmt.Errorf("the index %q deletes sessions %d seconds late; mend it with db.runCommand({collMod: %q, index: {name: %q, expireAfterSeconds: 0}}): %w",
				index.Name, *after, s.coll.Name(), index.Name, conflict)
		default:
			return nil // under another name
		}
	}
	return conflict
}

func isExpiryIndex(keys bson.Raw) bool {
	fields := 0
	ascending := false
	err := elements(keys, func(name []byte, v value) error {
		fields++
		direction, ok := v.integer()
		ascending = string(name) == fieldExpiresAt && ok && direction == 1
		return nil
	})
	return err == nil && fields == 1 && ascending
}

// DeleteExpired deletes the documents of expired sessions, and returns how many. It
// works in batches; [Config.Timeout] bounds each, and ctx the whole. On an error it
// returns how many had been deleted by then.
func (s *Store) DeleteExpired(ctx context.Context) (int64, error) {
	var total int64
	expired := bson.D{{Key: fieldExpiresAt, Value: bson.D{{Key: "$lte", Value: time.Now()}}}}
	for {
		n, more, err := s.deleteBatch(ctx, expired)
		total += n
		if err != nil {
			return total, fmt.Errorf("mongostore: delete expired sessions: %w", err)
		}
		if !more {
			return total, nil
		}
	}
}

// deleteBatch deletes some of the documents that match, and reports whether there
// may be more.
func (s *Store) deleteBatch(ctx context.Context, expired bson.D) (n int64, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	cursor, err := s.coll.Find(ctx, expired,
		options.Find().SetProjection(bson.D{{Key: fieldID, Value: 1}}).SetLimit(sweepBatch))
	if err != nil {
		return 0, false, unavailable(err)
	}
	var found []struct {
		ID bson.RawValue `bson:"_id"`
	}
	if err := cursor.All(ctx, &found); err != nil {
		return 0, false, unavailable(err)
	}
	if len(found) == 0 {
		return 0, false, nil
	}
	ids := make(bson.A, len(found))
	for i := range found {
		ids[i] = found[i].ID
	}
	// Another request may just have prolonged one of them.
	res, err := s.coll.DeleteMany(ctx, append(bson.D{{Key: fieldID, Value: bson.D{{Key: "$in", Value: ids}}}}, expired...))
	if err != nil {
		return 0, false, unavailable(err)
	}
	return res.DeletedCount, len(found) == sweepBatch, nil
}

// Count returns how many sessions are alive.
func (s *Store) Count(ctx context.Context) (int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	n, err := s.coll.CountDocuments(ctx, bson.D{{Key: fieldExpiresAt, Value: bson.D{{Key: "$gt", Value: time.Now()}}}})
	if err != nil {
		return 0, fmt.Errorf("mongostore: count sessions: %w", unavailable(err))
	}
	return n, nil
}

// Close ends the store's background work, if there is any, and disconnects the client
// if [Open] made it. It waits as long as ctx allows; a second call returns nil.
func (s *Store) Close(ctx context.Context) error {
	first, err := s.tasks.close(ctx)
	if first && s.client != nil {
		err = errors.Join(err, s.client.Disconnect(ctx))
	}
	if err != nil {
		return fmt.Errorf("mongostore: close store: %w", err)
	}
	return nil
}
