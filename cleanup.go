package mongostore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
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
	// (https://www.mongodb.com/docs/manual/core/index-ttl/), within a minute or two.
	// Where the server has no such index, or refuses to make it, there is one
	// warning, and the store sweeps.
	TTLIndex Cleanup = iota

	// Sweep deletes expired sessions in the background of a Save, a tenth of a
	// session's lifetime after the last time, but at least a second and at most 10 minutes.
	Sweep

	// Off leaves expired sessions to the application: see [Store.DeleteExpired].
	Off
)

const (
	sweepBatch    = 1000 // documents; so that no deletion is long
	shortestSweep = time.Second
	longestSweep  = 10 * time.Minute
	indexRetry    = time.Minute
	indexTimeout  = 10 * time.Minute
)

// cleaner knows when a save has to care for indexes and cleanup.
type cleaner struct {
	sweeping atomic.Bool // the server has no TTL index
	indexes  due         // to be made
	sweep    due
}

// due is when work is to be done: Unix milliseconds; at first the epoch, so at once.
type due struct{ atomic.Int64 }

const never = math.MaxInt64

// claim reports whether the caller is the one to do the work now. Nobody else is
// until the pause has passed, or the work sets another time.
func (d *due) claim(now time.Time, pause time.Duration) bool {
	at := d.Load()
	return at <= now.UnixMilli() && d.CompareAndSwap(at, now.Add(pause).UnixMilli())
}

// cleanUp is called after each save.
func (s *Store) cleanUp(ctx context.Context, lifetime time.Duration) {
	c, now := &s.cleaner, time.Now()
	if c.indexes.claim(now, indexRetry) {
		s.tasks.start(ctx, func(ctx context.Context) {
			// Not Timeout, which would end the building of an index on a
			// collection that has grown large without it.
			ctx, cancel := context.WithTimeout(ctx, indexTimeout)
			defer cancel()
			s.prepareIndexes(ctx)
		})
	}
	if s.cfg.Cleanup != Sweep && !c.sweeping.Load() {
		return
	}
	if c.sweep.claim(now, min(max(lifetime/10, shortestSweep), longestSweep)) {
		s.tasks.start(ctx, func(ctx context.Context) {
			if _, err := s.DeleteExpired(ctx); err != nil && ctx.Err() == nil {
				s.logger().WarnContext(ctx, "mongostore: expired sessions not deleted", "error", err, "collection", s.coll.Name())
			}
		})
	}
}

// prepareIndexes makes the indexes, or has the store do without.
func (s *Store) prepareIndexes(ctx context.Context) {
	c := &s.cleaner
	c.indexes.Store(never)
	warn := func(err error, refusal string) {
		switch {
		case err == nil || errors.Is(ctx.Err(), context.Canceled): // by Close
		case refused(err):
			s.logger().WarnContext(ctx, refusal, "error", err, "collection", s.coll.Name())
		default:
			c.indexes.Store(time.Now().Add(indexRetry).UnixMilli())
			s.logger().WarnContext(ctx, "mongostore: index not made yet, it will be tried again",
				"error", err, "collection", s.coll.Name())
		}
	}
	err := s.ensureTTLIndex(ctx)
	c.sweeping.Store(refused(err))
	warn(err, "mongostore: no TTL index, so expired sessions are swept by this process")
	warn(s.ensureOwnerIndex(ctx), "mongostore: no index for the owners of sessions, so listing them is slow")
}

// EnsureIndexes makes the indexes that do not exist yet: under [TTLIndex] the
// one that deletes expired sessions, and with [Config.OwnerKey] the one that
// finds an owner's. [Open] does so, and a store from [New] at its first save;
// an application that runs without the right to create indexes can have it done
// by a tool with that right. Of indexes that exist it changes nothing, so it also serves
// as a health check, unless there are none to be had: then it asks the server nothing.
//
// It returns the server's answer where an index does not exist and cannot be had, and
// if there is one with another expireAfterSeconds, the command that mends it; and
// [ErrUnavailable] if the server does not answer.
func (s *Store) EnsureIndexes(ctx context.Context) error {
	if err := errors.Join(s.ensureTTLIndex(ctx), s.ensureOwnerIndex(ctx)); err != nil {
		return fmt.Errorf("mongostore: make indexes: %w", err)
	}
	return nil
}

// The two indexes are made by a command each: a server that refuses the one may
// have the other.

func (s *Store) ensureTTLIndex(ctx context.Context) error {
	if s.cfg.Cleanup != TTLIndex {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	_, err := s.coll.Indexes().CreateOne(ctx, mongo.IndexModel{
		Keys:    bson.D{{Key: fieldExpiresAt, Value: 1}},
		Options: options.Index().SetExpireAfterSeconds(0),
	})
	if refused(err) {
		return s.explainRefusal(ctx, err)
	}
	return indexError(err)
}

func (s *Store) ensureOwnerIndex(ctx context.Context) error {
	if s.cfg.OwnerKey == "" {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	_, err := s.coll.Indexes().CreateOne(ctx, mongo.IndexModel{
		Keys: bson.D{{Key: fieldOwner, Value: 1}, {Key: fieldSeenAt, Value: -1}},
	})
	if refused(err) && s.hasOwnerIndex(ctx) {
		return nil // somebody with the right to has made it
	}
	return indexError(err)
}

func (s *Store) hasOwnerIndex(ctx context.Context) bool {
	indexes, err := s.coll.Indexes().ListSpecifications(ctx)
	return err == nil && slices.ContainsFunc(indexes, func(index mongo.IndexSpecification) bool {
		return keysOf(index.KeysDocument) == fieldOwner+":1 "+fieldSeenAt+":-1 "
	})
}

// indexError leaves the server's words as they are: a command that makes an index
// holds no values.
func indexError(err error) error {
	if err == nil || answered(err) {
		return err
	}
	return unavailable(err)
}

// explainRefusal adds to the server's error what is wrong with an index that exists.
// It returns nil if nothing is: somebody with the right to may have made it.
func (s *Store) explainRefusal(ctx context.Context, conflict error) error {
	indexes, err := s.coll.Indexes().ListSpecifications(ctx)
	if err != nil {
		return conflict
	}
	for _, index := range indexes {
		if keysOf(index.KeysDocument) != fieldExpiresAt+":1 " {
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

// keysOf writes down the keys of an index in their order; what is no direction is 0.
func keysOf(keys bson.Raw) string {
	var text strings.Builder
	err := elements(keys, func(name []byte, v value) error {
		direction, _ := v.integer()
		fmt.Fprintf(&text, "%s:%d ", name, direction)
		return nil
	})
	if err != nil {
		return ""
	}
	return text.String()
}

// DeleteExpired deletes the documents of expired sessions, and returns how many. It
// works in batches of 1000; if ctx has no deadline, [Config.Timeout] bounds each. On an
// error, [ErrUnavailable], it returns how many had been deleted by then.
func (s *Store) DeleteExpired(ctx context.Context) (int64, error) {
	var total int64
	now := time.Now()
	until := func(field string, t time.Time) bson.D {
		return bson.D{{Key: field, Value: bson.D{{Key: "$lte", Value: bson.NewDateTimeFromTime(t)}}}}
	}
	expired := until(fieldExpiresAt, now)
	if timeout := s.cfg.AbsoluteTimeout; timeout > 0 {
		expired = bson.D{{Key: "$or", Value: bson.A{expired, until(fieldCreatedAt, now.Add(-timeout))}}}
	}
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
	ctx, cancel := s.bound(ctx)
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
	n, err = s.deleteDocuments(ctx, append(bson.D{{Key: fieldID, Value: bson.D{{Key: "$in", Value: ids}}}}, expired...))
	return n, err == nil && len(found) == sweepBatch, err
}
