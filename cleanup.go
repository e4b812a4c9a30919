package mongostore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore/internal/bsonval"
	"github.com/mongostore/mongostore/internal/mongoerr"
)

// Cleanup is how the documents of expired sessions are deleted. It affects disk usage only: an
// expired session is not read, whether deleted or not.
type Cleanup int

const (
	// CleanupTTLIndex lets the server delete expired sessions, by an index on expiresAt
	// (https://www.mongodb.com/docs/manual/core/index-ttl/), within a minute or two. If the
	// server refuses the index, the store logs one warning and sweeps.
	CleanupTTLIndex Cleanup = iota

	// CleanupSweep deletes expired sessions in the background. A Save starts a sweep if enough
	// time has passed since the last sweep: a tenth of the session's lifetime, but at least one
	// second and at most 10 minutes.
	CleanupSweep

	// CleanupOff leaves expired sessions to the application: see [Store.DeleteExpired].
	CleanupOff
)

// indexRetry is how long after a failed attempt to create the indexes the next one follows.
const indexRetry = time.Minute

// cleaner decides when a save starts the creation of indexes or a sweep. Without sweeps, a
// collection on a server that refuses the TTL index would grow without limit.
type cleaner struct {
	sweeping atomic.Bool // the server has no TTL index
	indexes  due         // to be created
	sweep    due
}

// due is when work is to be done, in Unix milliseconds. The zero value is due.
type due struct{ atomic.Int64 }

const never = math.MaxInt64

// claim reports whether the caller has to do the work now. All other calls return false until
// the pause has passed, or the work sets another time.
func (d *due) claim(now time.Time, pause time.Duration) bool {
	at := d.Load()
	return at <= now.UnixMilli() && d.CompareAndSwap(at, now.Add(pause).UnixMilli())
}

// cleanUp is called after each save.
func (s *Store) cleanUp(ctx context.Context, lifetime time.Duration) {
	c, now := &s.cleaner, time.Now()
	if c.indexes.claim(now, indexRetry) {
		s.tasks.start(ctx, func(ctx context.Context) {
			// Config.Timeout would abort the build of an index on a collection that
			// has grown large without it.
			ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
			defer cancel()
			s.prepareIndexes(ctx)
		})
	}
	if s.cfg.Cleanup != CleanupSweep && !c.sweeping.Load() {
		return
	}
	const shortest, longest = time.Second, 10 * time.Minute
	if c.sweep.claim(now, min(max(lifetime/10, shortest), longest)) {
		s.tasks.start(ctx, func(ctx context.Context) {
			if _, err := s.DeleteExpired(ctx); err != nil && ctx.Err() == nil {
				s.logger().WarnContext(ctx, "mongostore: expired sessions not deleted", "error", err, "collection", s.coll.Name())
			}
		})
	}
}

// prepareIndexes creates the indexes. If the server refuses the TTL index, it turns on sweeps.
func (s *Store) prepareIndexes(ctx context.Context) {
	c := &s.cleaner
	c.indexes.Store(never)
	warn := func(err error, refusal string) {
		switch {
		case err == nil || errors.Is(ctx.Err(), context.Canceled): // by Close
		case mongoerr.Permanent(err):
			s.logger().WarnContext(ctx, refusal, "error", err, "collection", s.coll.Name())
		default:
			c.indexes.Store(time.Now().Add(indexRetry).UnixMilli())
			s.logger().WarnContext(ctx, "mongostore: index not created yet, it will be tried again",
				"error", err, "collection", s.coll.Name())
		}
	}
	err := s.ensureTTLIndex(ctx)
	c.sweeping.Store(mongoerr.Permanent(err))
	warn(err, "mongostore: no TTL index, so expired sessions are swept by this process")
	warn(s.ensureOwnerIndex(ctx), "mongostore: no index for the owners of sessions, so listing them is slow")
}

// EnsureIndexes creates the indexes that do not exist yet: under [CleanupTTLIndex] the one
// that deletes expired sessions, and with [Config.OwnerKey] the one that finds the sessions of an
// owner. [Open] does so too, and a store from [New] at its first save. An application without the
// permission to create indexes can leave that to a separate tool. EnsureIndexes changes no
// existing index, so it also serves as a health check of the indexes.
//
// It returns the server's error if an index does not exist and cannot be created, an error that
// names the index on expiresAt if its expireAfterSeconds is not 0, and [ErrUnavailable] if the
// server does not respond.
func (s *Store) EnsureIndexes(ctx context.Context) error {
	if err := errors.Join(s.ensureTTLIndex(ctx), s.ensureOwnerIndex(ctx)); err != nil {
		return fmt.Errorf("mongostore: create indexes: %w", err)
	}
	return nil
}

// Each index is created by a separate command: a server that refuses one may support the other.

func (s *Store) ensureTTLIndex(ctx context.Context) error {
	if s.cfg.Cleanup != CleanupTTLIndex {
		return nil
	}
	err := s.createIndex(ctx, mongo.IndexModel{
		Keys: bson.D{{Key: fieldExpiresAt, Value: 1}},
		Options: options.Index().SetExpireAfterSeconds(0).
			SetPartialFilterExpression(bson.D{{Key: fieldVersion, Value: bson.D{{Key: "$exists", Value: true}}}}),
	})
	if !mongoerr.Permanent(err) {
		return indexError(err)
	}
	index, ok := s.indexOn(ctx, bson.D{{Key: fieldExpiresAt, Value: 1}})
	switch {
	case !ok:
		return err
	case index.ExpireAfterSeconds == nil:
		return fmt.Errorf("the index %q deletes nothing, drop it: %w", index.Name, err)
	case *index.ExpireAfterSeconds != 0:
		return fmt.Errorf("the index %q deletes sessions %d seconds late, set its expireAfterSeconds to 0: %w",
			index.Name, *index.ExpireAfterSeconds, err)
	}
	return nil // somebody with the permission has created it
}

func (s *Store) ensureOwnerIndex(ctx context.Context) error {
	if s.cfg.OwnerKey == "" {
		return nil
	}
	keys := bson.D{{Key: fieldOwner, Value: 1}, {Key: fieldSeenAt, Value: -1}}
	err := s.createIndex(ctx, mongo.IndexModel{Keys: keys})
	if mongoerr.Permanent(err) {
		if _, ok := s.indexOn(ctx, keys); ok {
			return nil
		}
	}
	return indexError(err)
}

// indexOn returns an index with the keys, which may have been created under another name.
func (s *Store) indexOn(ctx context.Context, keys bson.D) (mongo.IndexSpecification, bool) {
	indexes, err := s.listIndexes(ctx)
	if err != nil {
		return mongo.IndexSpecification{}, false
	}
	i := slices.IndexFunc(indexes, func(index mongo.IndexSpecification) bool {
		return hasKeys(index.KeysDocument, keys)
	})
	if i < 0 {
		return mongo.IndexSpecification{}, false
	}
	return indexes[i], true
}

// hasKeys reports whether an index is on the keys, regardless of the number type of its directions.
func hasKeys(index bson.Raw, keys bson.D) bool {
	n, same := 0, true
	err := bsonval.Each(index, func(name []byte, v bsonval.Value) error {
		direction, ok := v.Integer()
		same = same && ok && n < len(keys) && keys[n].Key == string(name) && keys[n].Value == any(int(direction))
		n++
		return nil
	})
	return err == nil && same && n == len(keys)
}

// indexError keeps the server's message: a command that creates an index contains no session
// values.
func indexError(err error) error {
	if err == nil || mongoerr.Answered(err) {
		return err
	}
	return unavailable(err)
}

// DeleteExpired deletes the documents of expired sessions and returns their number. It works in
// batches of 1000. If ctx has no deadline, [Config.Timeout] bounds each command. If it fails
// with [ErrUnavailable], it also returns the number deleted so far.
func (s *Store) DeleteExpired(ctx context.Context) (int64, error) {
	var total int64
	now := now()
	for {
		n, more, err := s.deleteBatch(ctx, now)
		total += n
		if err != nil {
			return total, fmt.Errorf("mongostore: delete expired sessions: %w", err)
		}
		if !more {
			return total, nil
		}
	}
}

// deleteBatch deletes some of the expired sessions, and reports whether there may be more.
func (s *Store) deleteBatch(ctx context.Context, now time.Time) (n int64, more bool, err error) {
	const batch = 1000 // documents; keeps each deletion short
	var hashes []bsonval.Value
	err = s.eachDocument(ctx, expiredSessions(now), func(doc bson.Raw) bool {
		id := doc.Lookup(fieldID)
		hashes = append(hashes, bsonval.Value{Kind: id.Type, Data: slices.Clone(id.Value)})
		return true
	}, options.Find().SetProjection(bson.D{{Key: fieldID, Value: 1}}).SetLimit(batch))
	if err != nil || len(hashes) == 0 {
		return 0, false, err
	}
	// Another request may just have touched one of them.
	n, err = s.deleteDocuments(ctx, expiredSessions(now, hashes...))
	return n, err == nil && len(hashes) == batch, err
}
