package mongostore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Owners: the sessions of one user, listed and ended.

var errNoOwnerKey = errors.New("Config.OwnerKey is not set")

// Info describes a session for its owner.
type Info struct {
	Key       string            // identifies the session for [Store.Revoke]; no secret, and no session ID
	Name      string            // of the session, and its cookie
	Owner     any               // int, int64, string, []byte or bson.ObjectID
	CreatedAt time.Time         // since when the session exists; [Store.Renew] keeps it
	SeenAt    time.Time         // last saved, but for up to [Config.TouchInterval]
	ExpiresAt time.Time         // when it ends, if it is not saved again
	Details   map[string]string // what [Config.Describe] told; nil if nothing
}

// Is reports whether the session that is described is the given one, as to mark "this
// device" in a list.
func (i Info) Is(session *sessions.Session) bool {
	return session != nil && session.ID != "" && i.Key == keyOf(session.ID)
}

// ownerOf gives the owner that a session's values name.
func (s *Store) ownerOf(values map[any]any) (value, error) {
	if s.cfg.OwnerKey == "" {
		return value{}, nil
	}
	owner, err := encodeOwner(values[s.cfg.OwnerKey])
	if err != nil {
		return value{}, fmt.Errorf("value of key %q: %w", s.cfg.OwnerKey, err)
	}
	return owner, nil
}

// ownerFilter is the filter for an owner's sessions.
func (s *Store) ownerFilter(owner any) (bson.D, error) {
	if s.cfg.OwnerKey == "" {
		return nil, errNoOwnerKey
	}
	v, err := encodeOwner(owner)
	if err != nil {
		return nil, err
	}
	if v.kind == 0 {
		return nil, errors.New("no owner given")
	}
	return bson.D{{Key: fieldOwner, Value: bson.RawValue{Type: v.kind, Value: v.data}}}, nil
}

// Sessions iterates over the live sessions of an owner, the one seen last
// first. They are fetched while the loop runs, without their values; a damaged one is
// left out, with a warning. An error ends the iteration, and comes with a zero Info:
// [ErrUnavailable], no [Config.OwnerKey], or an owner of a type that cannot be one.
//
// An owner is what Values hold under [Config.OwnerKey]: a bson.ObjectID, or a
// string, an integer or bytes, also an array of bytes, of any type derived from
// these. MongoDB compares numbers by value, so int 1 and int64 1 are one owner,
// and the string "1" is another.
func (s *Store) Sessions(ctx context.Context, owner any) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := s.eachSession(ctx, owner, func(info Info) bool { return yield(info, nil) }); err != nil {
			yield(Info{}, fmt.Errorf("mongostore: list sessions: %w", err))
		}
	}
}

func (s *Store) eachSession(ctx context.Context, owner any, yield func(Info) bool) error {
	filter, err := s.ownerFilter(owner)
	if err != nil {
		return err
	}
	now := time.Now()
	filter = append(filter, s.live(now)...)
	cursor, err := s.find(ctx, filter, options.Find().
		SetSort(bson.D{{Key: fieldSeenAt, Value: -1}}).
		SetProjection(bson.D{{Key: fieldValues, Value: 0}}))
	if err != nil {
		return unavailable(err)
	}
	defer func() {
		ctx, cancel := s.limit(context.WithoutCancel(ctx))
		defer cancel()
		_ = cursor.Close(ctx)
	}()
	for s.advance(ctx, cursor) {
		info, moved, err := s.parseInfo(cursor.Current)
		if err != nil {
			s.logger().WarnContext(ctx, "mongostore: damaged session left out of a list", "error", err, "collection", s.coll.Name())
			continue
		}
		if moved || !info.ExpiresAt.After(now) || s.removals.pending(info.Key) {
			continue
		}
		if !yield(info) {
			return nil
		}
	}
	if err := cursor.Err(); err != nil {
		return unavailable(err)
	}
	return nil
}

// parseInfo also reports whether the document is marked as moved.
func (s *Store) parseInfo(doc bson.Raw) (info Info, moved bool, err error) {
	own := -1
	err = elements(doc, func(name []byte, v value) (err error) {
		ok := true
		switch string(name) {
		case fieldID:
			info.Key, ok = v.text()
		case fieldName:
			info.Name, ok = v.text()
		case fieldOwner:
			info.Owner, err = decodeValue(v)
		case fieldCreatedAt:
			info.CreatedAt, ok = v.time()
		case fieldSeenAt:
			info.SeenAt, ok = v.time()
		case fieldExpiresAt:
			info.ExpiresAt, ok = v.time()
		case fieldDetails:
			info.Details, err = decodeDetails(v)
		case fieldMaxAge:
			var age int64
			age, ok = v.integer()
			own = int(min(age, math.MaxInt))
		case fieldMovedTo:
			moved = true
		}
		if !ok {
			err = fmt.Errorf("field %s is of the wrong type", name)
		}
		return err
	})
	// As in aliveAt: a request that did not know of the session's own MaxAge may have
	// granted more.
	if own >= 0 {
		if end := info.SeenAt.Add(s.lifetime(own)); end.Before(info.ExpiresAt) {
			info.ExpiresAt = end
		}
	}
	return info, moved, err
}

// Revoke ends the session that [Info.Key] identifies. It returns nil if there is
// none: the session is already gone, or was renewed since it was listed, which
// gave it another key. A request that loaded the session before gets [ErrGone]
// when it saves a change. The error is [ErrUnavailable] if the database fails; the session
// may live on then.
//
// Check that the session is one of the owner's, as [Store.Sessions] lists them,
// before ending it for them.
func (s *Store) Revoke(ctx context.Context, key string) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if key == "" {
		return errors.New("mongostore: revoke session: no key given")
	}
	if _, err := s.deleteDocument(ctx, byKey(key)); err != nil {
		return fmt.Errorf("mongostore: revoke session: %w", err)
	}
	return nil
}

// RevokeAll ends all sessions of an owner, see [Store.Sessions], except those given, and
// returns how many documents it deleted; on an error, how many by then. The exceptions
// are sessions that this store loaded or saved; another one is an error, before anything
// is ended. So are an owner of a type that cannot be one, nil, and no [Config.OwnerKey].
// If the database fails the error is [ErrUnavailable], and RevokeAll can be called again.
func (s *Store) RevokeAll(ctx context.Context, owner any, except ...*sessions.Session) (int64, error) {
	filter, err := s.ownerFilter(owner)
	if err != nil {
		return 0, fmt.Errorf("mongostore: revoke sessions: %w", err)
	}
	keep := bson.A{}
	for _, session := range except {
		key, err := s.keyFor(session)
		if err != nil {
			return 0, fmt.Errorf("mongostore: revoke sessions: exception: %w", err)
		}
		keep = append(keep, key)
	}
	if len(keep) > 0 {
		filter = append(filter, bson.E{Key: fieldID, Value: bson.D{{Key: "$nin", Value: keep}}})
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var total int64
	for {
		n, err := s.deleteDocuments(ctx, filter)
		total += n
		if err != nil {
			return total, fmt.Errorf("mongostore: revoke sessions: %w", err)
		}
		if n == 0 {
			return total, nil
		}
		// A deletion of many is not atomic: a renewal may have put its new
		// document where the server had already looked.
	}
}

// keyFor gives the _id of a session's document.
func (s *Store) keyFor(session *sessions.Session) (string, error) {
	if session == nil {
		return "", errors.New("session is nil")
	}
	st := s.states.of(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.stored {
		return "", errors.New("session is not stored here")
	}
	return st.record.key, nil
}

// Count returns how many sessions are alive, of all names and owners, or
// [ErrUnavailable]. The server goes through all of them.
func (s *Store) Count(ctx context.Context) (int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	n, err := s.coll.CountDocuments(ctx, s.live(time.Now()))
	if err != nil {
		return 0, fmt.Errorf("mongostore: count sessions: %w", unavailable(err))
	}
	return n, nil
}
