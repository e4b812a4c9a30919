package mongostore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore/internal/bsonval"
)

// Info describes a session, for lists.
type Info struct {
	Key       string            // identifies the session, for [Store.Revoke]; neither a secret nor the session's ID
	Name      string            // of the session and its cookie
	Owner     any               // int, int64, string, []byte or bson.ObjectID; nil if there is none
	CreatedAt time.Time         // kept by [Store.Renew]
	SeenAt    time.Time         // of the last touch; see [Config.TouchInterval]
	ExpiresAt time.Time         // if there is no further touch
	Details   map[string]string // from [Config.Describe]; nil if there are none
}

// Is reports whether i describes the session, for example to mark "this device" in a list.
func (i Info) Is(session *sessions.Session) bool {
	return session != nil && session.ID != "" && i.Key == hashID(session.ID)
}

// Key returns the [Info].Key and [Event].Key of a session that this store has loaded or saved.
// It fails for a session that was never stored, and works for one that has ended.
func (s *Store) Key(session *sessions.Session) (string, error) {
	key, err := s.keyOf(session)
	if err != nil {
		return "", fmt.Errorf("mongostore: key of session: %w", err)
	}
	return key, nil
}

func (s *Store) keyOf(session *sessions.Session) (string, error) {
	if session == nil {
		return "", errors.New("session is nil")
	}
	st := s.states.of(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.stored {
		return "", errors.New("session is not stored by this store")
	}
	return st.record.hash, nil
}

// ownerOf returns the owner that a session's values name. A store without an OwnerKey does not
// change it.
func (s *Store) ownerOf(values map[any]any, before bsonval.Value) (bsonval.Value, error) {
	if s.cfg.OwnerKey == "" {
		return before, nil
	}
	owner, err := encodeOwner(values[s.cfg.OwnerKey])
	if err != nil {
		return bsonval.Value{}, fmt.Errorf("value of key %q: %w", s.cfg.OwnerKey, err)
	}
	return owner, nil
}

// ownersSessions returns the filter for the sessions of an owner, without the exceptions.
func (s *Store) ownersSessions(owner any, except ...string) (bson.Raw, error) {
	if s.cfg.OwnerKey == "" {
		return nil, errors.New("Config.OwnerKey is not set")
	}
	v, err := encodeOwner(owner)
	if err != nil {
		return nil, err
	}
	if v.IsZero() {
		return nil, errors.New("no owner given")
	}
	b := bsonval.NewBuilder(256)
	b.Value(fieldOwner, v)
	b.Begin(fieldVersion)
	b.Bool("$exists", true)
	b.End()
	if len(except) > 0 {
		b.Begin(fieldID)
		b.Value("$nin", textList(except))
		b.End()
	}
	return b.Document(), nil
}

// Sessions iterates over the live sessions of an owner, most recently seen first. They are
// fetched while the loop runs, without their values. A damaged one is skipped and logged as a
// warning. An error comes with a zero Info and ends the iteration: [ErrUnavailable], no
// [Config.OwnerKey], or an owner of an unsupported type.
//
// An owner is the value in Values under [Config.OwnerKey]: a bson.ObjectID, or a value whose
// underlying type is a string, an integer, a []byte or an array of bytes. MongoDB compares
// numbers by value, so int 1 and int64 1 are one owner. The string "1" is another.
func (s *Store) Sessions(ctx context.Context, owner any) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		filter, err := s.ownersSessions(owner)
		if err == nil {
			err = s.eachSession(ctx, filter, func(info Info) bool { return yield(info, nil) },
				options.Find().SetSort(bson.D{{Key: fieldSeenAt, Value: -1}}))
		}
		if err != nil {
			yield(Info{}, fmt.Errorf("mongostore: list sessions: %w", err))
		}
	}
}

// All iterates over all live sessions of the collection, of every name and owner, in no
// particular order. Otherwise it is like [Store.Sessions]. The server reads the whole collection.
func (s *Store) All(ctx context.Context) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		err := s.eachSession(ctx, liveSessions(now()), func(info Info) bool { return yield(info, nil) })
		if err != nil {
			yield(Info{}, fmt.Errorf("mongostore: list sessions: %w", err))
		}
	}
}

// eachSession calls visit for the live sessions that match, until it returns false.
func (s *Store) eachSession(ctx context.Context, filter bson.Raw, visit func(Info) bool, opts ...options.Lister[options.FindOptions]) error {
	opts = append(opts, withoutValues())
	now := now()
	return s.eachDocument(ctx, filter, func(doc bson.Raw) bool {
		m, _, err := parseMeta(doc, "")
		var info Info
		if err == nil {
			m, _ = s.lifetimes.corrected(m, s.maxAgeOf(&m), now)
			info, err = m.info()
		}
		switch {
		case err != nil:
			s.logger().WarnContext(ctx, "mongostore: damaged session left out of a list", "error", err, "collection", s.coll.Name())
			return true
		case !m.alive(now), s.removals.pending(m.hash):
			return true
		}
		return visit(info)
	}, opts...)
}

// info returns the session as a list shows it.
func (m *meta) info() (info Info, err error) {
	name, _ := m.name.Text()
	info = Info{Key: m.hash, Name: name, CreatedAt: m.createdAt, SeenAt: m.seenAt, ExpiresAt: m.expiresAt}
	if !m.owner.IsZero() {
		if info.Owner, err = new(bsonval.Codec).Decode(m.owner); err != nil {
			return Info{}, fmt.Errorf("field %s: %w", fieldOwner, err)
		}
	}
	info.Details, err = decodeDetails(m.details)
	return info, err
}

// Revoke ends the session that an [Info].Key identifies, and those that it was renewed to. Revoke
// returns nil if the session has already ended. A request that loaded the session before gets
// [ErrGone] when it saves a change. If the database fails, the error is [ErrUnavailable] and
// the session may live on.
//
// Before ending a session for a user, check that it is one of the user's, as
// [Store.Sessions] lists them.
func (s *Store) Revoke(ctx context.Context, key string) error {
	if !validHash(key) {
		return errors.New("mongostore: revoke session: not the key of a session")
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.end(ctx, ending{hash: key}); err != nil {
		return fmt.Errorf("mongostore: revoke session: %w", err)
	}
	return nil
}

// RevokeAll ends all sessions of an owner (see [Store.Sessions]) except those given. It returns
// how many it has ended, even if it fails. If the database fails, the error is [ErrUnavailable],
// and RevokeAll can be called again.
//
// It is an error if a session to keep is nil or was not loaded or saved by this store, if the
// owner is nil, empty or of an unsupported type, or if [Config.OwnerKey] is not set. Then no
// session is ended.
func (s *Store) RevokeAll(ctx context.Context, owner any, except ...*sessions.Session) (int64, error) {
	n, err := s.revokeAll(ctx, owner, except)
	if err != nil {
		return n, fmt.Errorf("mongostore: revoke sessions: %w", err)
	}
	return n, nil
}

func (s *Store) revokeAll(ctx context.Context, owner any, except []*sessions.Session) (total int64, err error) {
	var keep []string
	for _, session := range except {
		key, err := s.keyOf(session)
		if err == nil {
			err = s.settleException(ctx, session)
		}
		if err != nil {
			return 0, fmt.Errorf("exception: %w", err)
		}
		keep = append(keep, key)
	}
	filter, err := s.ownersSessions(owner, keep...)
	if err != nil {
		return 0, err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	for range maxAttempts {
		n, err := s.deleteDocuments(ctx, deletable(filter))
		total += n
		if err != nil {
			return total, err
		}
		// The remaining sessions were migrated, or a renewal has stored them during the
		// deletion, which is not atomic.
		var left []string
		err = s.eachDocument(ctx, filter, func(doc bson.Raw) bool {
			if m, _, err := parseMeta(doc, ""); err == nil {
				left = append(left, m.hash)
			}
			return true
		}, withoutValues())
		if err != nil || len(left) == 0 {
			return total, err
		}
		for _, hash := range left {
			if err := s.end(ctx, ending{hash: hash}); err != nil {
				return total, err
			}
			total++
		}
	}
	return total, fmt.Errorf("%w: %w", ErrUnavailable, errContended)
}

// settleException completes an undecided renewal of the session. Otherwise the session would end
// with the old one.
func (s *Store) settleException(ctx context.Context, session *sessions.Session) error {
	st := s.states.of(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	return s.settle(ctx, session, st)
}

// deletable returns the filter for those documents that can be deleted because they need no
// tombstone.
func deletable(filter bson.Raw) bson.Raw {
	b := bsonval.NewBuilder(len(filter) + 32)
	_ = bsonval.Each(filter, func(name []byte, v bsonval.Value) error {
		b.Value(string(name), v)
		return nil
	})
	b.Null(fieldMigratedUntil) // or absent
	return b.Document()
}

// Count returns the number of live sessions of all names and owners, or [ErrUnavailable].
// The server reads all of them.
func (s *Store) Count(ctx context.Context) (int64, error) {
	n, err := s.countDocuments(ctx, liveSessions(now()))
	if err != nil {
		return 0, fmt.Errorf("mongostore: count sessions: %w", err)
	}
	return n, nil
}

// encodeDetails returns the BSON value of the details, or zero if they are empty. It truncates
// them to 4 KiB, key by key.
func encodeDetails(details map[string]string) bsonval.Value {
	if len(details) == 0 {
		return bsonval.Value{}
	}
	const overhead = 1 + 1 + 4 + 1 // type, two ends and a length for each key
	left := 4<<10 - 5
	cut := make(map[string]any, len(details))
	for _, key := range slices.Sorted(maps.Keys(details)) {
		// They come from the request and may not be valid UTF-8.
		name, text := strings.ToValidUTF8(key, "\uFFFD"), strings.ToValidUTF8(details[key], "\uFFFD")
		room := left - overhead - 3*len(name) // a key's name is escaped
		if room < 0 {
			continue
		}
		if len(text) > room {
			text = strings.ToValidUTF8(text[:room], "")
		}
		cut[name] = text
		left = room - len(text) + 2*len(name)
	}
	v, err := new(bsonval.Codec).Encode(cut)
	if err != nil {
		return bsonval.Value{}
	}
	return v
}

func decodeDetails(v bsonval.Value) (map[string]string, error) {
	if v.IsZero() {
		return nil, nil
	}
	decoded, err := new(bsonval.Codec).Decode(v)
	if err != nil {
		return nil, err
	}
	values, ok := decoded.(map[string]any)
	details := make(map[string]string, len(values))
	for key, value := range values {
		text, isText := value.(string)
		ok = ok && isText
		details[key] = text
	}
	if !ok {
		return nil, fmt.Errorf("field %s has an invalid value", fieldDetails)
	}
	return details, nil
}

// encodeOwner returns the BSON value of an owner: a string, an integer, an ObjectID or
// binary, whatever Go type it has. It returns a zero value for nil, the empty string and empty
// bytes, which mean no owner.
func encodeOwner(owner any) (bsonval.Value, error) {
	if id, ok := owner.(bson.ObjectID); ok {
		return bsonval.ObjectID(id), nil
	}
	v := reflect.ValueOf(owner)
	switch {
	case !v.IsValid():
		return bsonval.Value{}, nil
	case v.Kind() == reflect.String:
		switch s := v.String(); {
		case s == "":
			return bsonval.Value{}, nil
		case utf8.ValidString(s):
			return bsonval.String(s), nil
		default:
			return bsonval.Value{}, errors.New("a string that is not valid UTF-8 cannot be an owner")
		}
	case v.CanInt():
		return bsonval.Int(v.Int()), nil
	case v.CanUint():
		if u := v.Uint(); u <= math.MaxInt64 {
			return bsonval.Int(int64(u)), nil
		}
		return bsonval.Value{}, errors.New("an integer above 63 bits cannot be an owner")
	case (v.Kind() == reflect.Array || v.Kind() == reflect.Slice) && v.Type().Elem().Kind() == reflect.Uint8: // for example a UUID
		if v.Len() == 0 {
			return bsonval.Value{}, nil
		}
		b := make([]byte, v.Len())
		for i := range b {
			b[i] = byte(v.Index(i).Uint())
		}
		return bsonval.Binary(b), nil
	}
	return bsonval.Value{}, fmt.Errorf("a %T cannot be an owner: want a string, an integer, an ObjectID or bytes", owner)
}

// describe returns the encoded result of Config.Describe, or nil if it is not needed. It holds
// no lock during the call.
func (s *Store) describe(r *http.Request, session *sessions.Session, st *state, in intent) *bsonval.Value {
	if s.cfg.Describe == nil {
		return nil
	}
	st.mu.Lock()
	o := s.optionsOf(session, st)
	needed := o.MaxAge >= 0 && (!st.stored || in == intentRenew || s.touchDue(st, &o, in, now()))
	st.mu.Unlock()
	if !needed {
		return nil
	}
	details := encodeDetails(s.cfg.Describe(r))
	return &details
}

// lateOwner reports whether the plan sets the owner from a value that this request has not
// changed, as in a session that was stored before OwnerKey was set. Another request may have
// changed the value since.
func (s *Store) lateOwner(p *plan) bool {
	isOwner := func(f field) bool { return f.key == any(s.cfg.OwnerKey) }
	return p.newOwner && !slices.ContainsFunc(p.change.set, isOwner) &&
		slices.ContainsFunc(p.base.fields, isOwner) == slices.ContainsFunc(p.next.fields, isOwner)
}
