package mongostore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"

	"github.com/mongostore/mongostore/internal/bsonval"
	"github.com/mongostore/mongostore/internal/seal"
)

// Store is a [sessions.Store] that keeps sessions in a MongoDB collection. It is created by
// [New] or [Open]. It is safe for concurrent use. A session is not, as its Values are a map.
type Store struct {
	// Codecs sign, and optionally encrypt, the ID in the cookie. New cookies are encoded by the
	// first codec that can; cookies of all codecs are accepted. New and Open create them from
	// the key pairs, without a limit on the cookie's age, because the document decides how long
	// a session lives. Custom codecs receive the ID as a string. Codecs must not be changed while
	// the store is in use.
	Codecs []securecookie.Codec

	// Options are the defaults of every new session; each gets a copy. nil means
	// [DefaultOptions]. They must not be changed while the store is in use.
	Options *sessions.Options

	coll      *mongo.Collection
	client    *mongo.Client // disconnected by Close; nil if it is the application's
	cfg       Config        // with defaults; Client, URI and the like are no longer used
	codec     *valueCodec
	merger    merger
	lifetimes lifetimes
	secrets   [][]byte // derived from the signing keys, the newest first

	states   states
	removals removals
	cleaner  cleaner
	tasks    tasks
}

var _ sessions.Store = (*Store)(nil)

// New returns a store on a collection, with the defaults of [Config]. It does no network
// I/O. The database needs no preparation. The first Save creates the index that deletes expired
// sessions, in the background.
//
// The key pairs are those of [sessions.NewCookieStore]. The first key of a pair signs; 32 or
// 64 bytes are recommended, and less is a warning. The second one encrypts, with 16, 24 or 32
// bytes; it may be nil, and omitted in the last pair. The first pair is used for new cookies,
// all are accepted. To replace a pair without logging users out, add the new one after the old
// one in all processes, then move it to the front. Remove the old one when its cookies have expired.
//
// The collection's write concern is respected. It should be "majority", the default since
// MongoDB 5.0; with an unacknowledged one (w: 0) every save fails. Reads go to the primary,
// whatever the collection prefers. The client remains the application's.
//
// New fails on a nil collection, a name that MongoDB does not allow, no keys, an empty key, and
// an encryption key whose length is invalid for AES.
func New(coll *mongo.Collection, keyPairs ...[]byte) (*Store, error) {
	var store *Store
	err := errors.New("collection is nil")
	if coll != nil {
		err = checkNames(coll.Database().Name(), coll.Name())
	}
	if err == nil {
		store, err = newStore(coll, Config{}, keyPairs)
	}
	if err != nil {
		return nil, fmt.Errorf("mongostore: new store: %w", err)
	}
	return store, nil
}

// Open returns a store configured by [Config]. It connects, unless Config.Client is set, pings the
// server and creates the indexes. An index that cannot be created is logged as a warning. The
// keys are those of [New].
//
// Open fails as New does, on contradictory, negative or impossible settings, on an
// unacknowledged write concern (w: 0) in the URI, and with [ErrUnavailable] if the server does
// not respond within the deadline of ctx or, if it has none, [Config.Timeout].
func Open(ctx context.Context, cfg Config, keyPairs ...[]byte) (*Store, error) {
	store, err := cfg.open(ctx, keyPairs)
	if err != nil {
		return nil, fmt.Errorf("mongostore: open store: %w", err)
	}
	return store, nil
}

func (cfg *Config) open(ctx context.Context, keyPairs [][]byte) (*Store, error) {
	at, err := cfg.address()
	if err != nil {
		return nil, err
	}
	client := cfg.Client
	if client == nil {
		if client, err = mongo.Connect(at.connection); err != nil {
			return nil, err
		}
	}
	store, err := newStore(client.Database(at.database).Collection(at.collection), *cfg, keyPairs)
	if err == nil {
		err = store.start(ctx)
	}
	if err != nil {
		if cfg.Client == nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = client.Disconnect(ctx)
		}
		return nil, err
	}
	if cfg.Client == nil {
		store.client = client
	}
	return store, nil
}

// start is the part of Open that needs the server.
func (s *Store) start(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.ping(ctx); err != nil {
		return err
	}
	s.prepareIndexes(ctx)
	return nil
}

func newStore(coll *mongo.Collection, cfg Config, keyPairs [][]byte) (*Store, error) {
	codecs, weak, err := newCodecs(keyPairs)
	if err != nil {
		return nil, err
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	seals, err := seal.New(cfg.SealKeys)
	if err != nil {
		return nil, err
	}
	values, err := bsonval.NewCodec(cfg.Types)
	if err != nil {
		return nil, err
	}
	// These override the client's options: a secondary may not have a logout yet, and the
	// client's encoders may change an owner.
	coll = coll.Clone(options.Collection().
		SetReadPreference(readpref.Primary()).
		SetRegistry(bson.NewRegistry()).
		SetBSONOptions(&options.BSONOptions{}))
	cfg = cfg.withDefaults()
	s := &Store{
		Codecs:    codecs,
		Options:   cfg.options(),
		coll:      coll,
		cfg:       cfg,
		codec:     &valueCodec{Codec: values, seals: seals},
		lifetimes: lifetimes{browser: cfg.BrowserTTL, absolute: cfg.AbsoluteTimeout, touch: cfg.TouchInterval},
		secrets:   deriveSecrets(keyPairs),
	}
	s.merger = merger{codec: s.codec, policy: cfg.OnConflict}
	if cfg.Cleanup != CleanupTTLIndex && cfg.OwnerKey == "" {
		s.cleaner.indexes.Store(never)
	}
	if weak {
		s.logger().Warn("mongostore: a signing key has less than 32 bytes")
	}
	return s, nil
}

// MaxAge sets MaxAge of s.Options: the lifetime of sessions without a MaxAge of their own, in
// seconds. 0 is a session that ends with the browser. A negative age ends each session that
// is saved. It must not be called while the store is in use.
func (s *Store) MaxAge(age int) {
	o := *s.options()
	o.MaxAge = age
	s.Options = &o
}

// Ping returns nil if the primary server responds, and [ErrUnavailable] otherwise. It is for
// health checks.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.ping(ctx); err != nil {
		return fmt.Errorf("mongostore: ping: %w", err)
	}
	return nil
}

// Close ends the store's background work, retries failed deletions once, and disconnects the
// client if [Open] created it. It waits as long as ctx allows. A second call returns nil. Call it
// after the last request. A store that is not closed leaks only a client that Open created.
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
