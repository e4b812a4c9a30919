package mongostore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/mongostore/mongostore/internal/mongoerr"
)

// Event is the end of a session, as [Store.Watch] reports it.
type Event struct {
	// Key identifies the session that ended, as [Info.Key] does. It is not a
	// secret, and not a session ID.
	Key string

	// RenewedTo is the key of the session that replaces it, if it ended by
	// [Store.Renew]. It is empty after a logout, a revocation and an expiry.
	RenewedTo string
}

// Watch iterates over the sessions of all names and owners that end, in this or any other
// process:
//
//   - by a logout, [Store.Remove], [Store.Revoke] or [Store.RevokeAll];
//   - by [Store.Renew]. The event then also holds the key of the new session;
//   - by the deletion of an expired session, which can come minutes after the expiry (see
//     [Cleanup]).
//
// The loop waits for the next one:
//
//	for event, err := range store.Watch(ctx) {
//		if err != nil {
//			return err // the loop has ended
//		}
//		hub.end(event.Key) // close its web sockets
//	}
//
// The loop ends without an error when ctx ends, and no event is reported after that.
// Every other end is an error, which comes last, with a zero Event:
//
//   - [errors.ErrUnsupported] if the server has no change streams. They need a replica
//     set or a sharded cluster; a replica set of one member is enough. Calling Watch
//     again cannot help.
//   - [ErrUnavailable] if MongoDB failed, or refused the command. The database user needs
//     the actions find and changeStream.
//   - Another error if the collection was dropped or renamed, or the store was closed.
//
// If the connection is lost or the replica set elects a primary, and the server responds again
// within [Config.Timeout], the loop continues where it was, and no event is lost. After an
// error, events are lost until the stream of another call is open.
//
// A session that ends before the stream is open is not reported, and the caller cannot see when
// the stream opens. Therefore also check each session regularly with [Store.Fetch].
//
// An event is reported when a majority of the replica set has the change. It can be reported
// twice: the tombstone that a renewal leaves under the old key is deleted an hour later, which
// reports the old key again, without RenewedTo. Other documents of the collection are
// skipped, unless their _id has the form of a key: 43 characters of base64url.
//
// Each call occupies one connection of the client's pool and one cursor of the server,
// so a process should call Watch once, for all its sessions. The body of the loop should
// be quick: the stream waits for it. If the oplog no longer holds the next event, the loop ends
// with an error.
func (s *Store) Watch(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		w := watch{store: s, yield: func(event Event) bool { return ctx.Err() == nil && yield(event, nil) }}
		if err := w.run(ctx); err != nil {
			yield(Event{}, fmt.Errorf("mongostore: watch sessions: %w", err))
		}
	}
}

var (
	errInvalidated = errors.New("collection was dropped or renamed")
	errClosed      = errors.New("store is closed")
)

// watch is one call of [Store.Watch].
type watch struct {
	store *Store
	yield func(Event) bool
	busy  sync.Mutex // held except while the loop's body runs
}

// run returns nil when the loop was left, or ctx has ended. The stream is closed then.
func (w *watch) run(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	w.busy.Lock()
	defer w.busy.Unlock()

	// The stream's context has no deadline: the driver would fail shortly before it, with an
	// error that the loop would have to report.
	stream, cancel := context.WithCancelCause(context.WithoutCancel(withoutTransaction(ctx)))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { cancel(ctx.Err()) })()

	ended := make(chan struct{})
	defer close(ended)
	if !w.store.tasks.start(ctx, func(closing context.Context) {
		select {
		case <-ended:
		case <-closing.Done():
			cancel(errClosed)
			// Close disconnects the client next; the cursor is to be killed before that.
			w.busy.Lock()
			defer w.busy.Unlock()
		}
	}) {
		return errClosed
	}

	err := w.follow(stream)
	switch {
	case err == nil || ctx.Err() != nil:
		return nil
	case errors.Is(context.Cause(stream), errClosed):
		return errClosed
	}
	return err
}

// follow opens a stream, and reopens it when it falls silent. After other faults of the
// connection the driver resumes by itself. It returns nil when the loop was left.
func (w *watch) follow(ctx context.Context) error {
	var token bson.Raw
	for {
		changes, err := w.store.openChanges(ctx, token)
		if err != nil {
			return watchError(err)
		}
		answered, err := w.receive(ctx, changes)
		token = changes.ResumeToken()
		if !answered || token == nil || ctx.Err() != nil || !mongo.IsTimeout(err) {
			return err
		}
	}
}

// openChanges opens a stream, after a resume token if there is one.
func (s *Store) openChanges(ctx context.Context, after bson.Raw) (*mongo.ChangeStream, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	opts := options.ChangeStream().SetMaxAwaitTime(s.await())
	if after != nil {
		opts.SetResumeAfter(after)
	}
	// A client's read concern and registry may be unsuitable for a change stream.
	coll := s.coll.Clone(options.Collection().SetReadConcern(readconcern.Majority()).SetRegistry(bson.NewRegistry()))
	return coll.Watch(ctx, pipeline(), opts)
}

// await is how long the server delays a response when there is no event. A connection that is
// silent for that time plus [Config.Timeout] is considered broken.
func (s *Store) await() time.Duration { return min(s.cfg.Timeout, 10*time.Second) }

// pipeline selects the changes that end a session, with the fields that an
// [Event] needs. The _id is the resume token, and must be kept. The server decides whether it
// reports an update as a replacement.
// https://github.com/mongodb/specifications/blob/master/source/change-streams/change-streams.md
func pipeline() []bson.D {
	const updated, replaced = "updateDescription.updatedFields.", "fullDocument."
	null := bson.D{{Key: "$type", Value: "null"}}
	return []bson.D{
		{{Key: "$match", Value: bson.D{{Key: "$or", Value: bson.A{
			bson.D{{Key: "operationType", Value: bson.D{{Key: "$in", Value: bson.A{"delete", "invalidate"}}}}},
			bson.D{{Key: "operationType", Value: "update"}, {Key: updated + fieldRev, Value: null}},
			bson.D{{Key: "operationType", Value: "replace"}, {Key: replaced + fieldRev, Value: null}},
		}}}}},
		{{Key: "$project", Value: bson.D{
			{Key: "operationType", Value: 1},
			{Key: "documentKey." + fieldID, Value: 1},
			{Key: updated + fieldMovedTo, Value: 1},
			{Key: replaced + fieldMovedTo, Value: 1},
		}}},
	}
}

// receive reports the events of a stream and closes it. It returns nil when the loop was left,
// and whether the server responded on the stream after it was opened.
func (w *watch) receive(ctx context.Context, changes *mongo.ChangeStream) (answered bool, err error) {
	s := w.store
	var cursor int64
	defer func() {
		bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Timeout)
		defer cancel()
		if changes.ID() == 0 && ctx.Err() != nil {
			// The driver has tried to kill it with a context that had ended.
			s.killCursor(bound, cursor)
		}
		_ = changes.Close(bound)
	}()
	for opened := true; ctx.Err() == nil; opened = false {
		cursor = changes.ID()
		more := s.nextChange(ctx, changes)
		if err := changes.Err(); err != nil {
			return answered, watchError(err)
		}
		answered = answered || !opened // the first batch is part of the opening
		if !more {
			if changes.ID() == 0 {
				return answered, errInvalidated
			}
			continue
		}
		if op, _ := changes.Current.Lookup("operationType").StringValueOK(); op == "invalidate" {
			return answered, errInvalidated
		}
		if event, ok := parseEvent(changes.Current); ok && ctx.Err() == nil && !w.report(event) {
			return answered, nil
		}
	}
	return answered, context.Cause(ctx)
}

// nextChange requests the next change once, and reports whether there is one. The server
// responds within [Store.await].
func (s *Store) nextChange(ctx context.Context, changes *mongo.ChangeStream) bool {
	ctx, cancel := context.WithTimeout(ctx, s.await()+s.cfg.Timeout)
	defer cancel()
	return changes.TryNext(ctx)
}

// killCursor ends a cursor that the driver no longer knows. If that fails, the server ends it
// ten minutes after its last use.
func (s *Store) killCursor(ctx context.Context, cursor int64) {
	if cursor == 0 {
		return
	}
	db := s.coll.Database()
	_ = db.Client().Database(db.Name(), options.Database().SetRegistry(bson.NewRegistry())).RunCommand(ctx, bson.D{
		{Key: "killCursors", Value: s.coll.Name()},
		{Key: "cursors", Value: bson.A{cursor}},
	}).Err()
}

// report runs the loop's body, which may call [Store.Close].
func (w *watch) report(event Event) bool {
	w.busy.Unlock()
	defer w.busy.Lock()
	return w.yield(event)
}

// parseEvent returns the event of a change, and false if the change is not of a session.
func parseEvent(change bson.Raw) (Event, bool) {
	var event Event
	event.Key, _ = change.Lookup("documentKey", fieldID).StringValueOK()
	for _, from := range [][]string{
		{"updateDescription", "updatedFields", fieldMovedTo},
		{"fullDocument", fieldMovedTo},
	} {
		if to, _ := change.Lookup(from...).StringValueOK(); validHash(to) {
			event.RenewedTo = to
		}
	}
	return event, validHash(event.Key)
}

// watchError wraps an error of the driver. A server without change streams is not
// [ErrUnavailable], which is for temporary errors.
func watchError(err error) error {
	if mongoerr.HasCode(err, mongoerr.NoReplicaSet, mongoerr.UnknownStage, mongoerr.NotImplemented, mongoerr.CommandNotSupported) {
		return fmt.Errorf("server has no change streams, which need a replica set or a sharded cluster: %w: %w",
			errors.ErrUnsupported, mongoerr.Redacted(err))
	}
	return unavailable(err)
}
