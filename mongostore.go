package mongostore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
)

// Store is a [sessions.Store] that keeps sessions in a MongoDB collection. Make one
// with [New] or [Open]. It is safe for concurrent use; a session is not, as
// everywhere in gorilla, since its Values are a map.
type Store struct {
	// Codecs sign, and optionally encrypt, the ID in the cookie: the first one
	// that can encodes, all decode. New and Open make them of the key pairs,
	// without a limit on the cookie's age, because the document decides how long a
	// session lives. Codecs put in their place receive the ID as a string. To
	// be changed before the store is used.
	Codecs []securecookie.Codec

	// Options are the defaults of every new session; each gets a copy. If nil, they
	// are those of [Config.Options]'s default. To be changed before the store is used.
	Options *sessions.Options

	newest securecookie.Codec // the first of those that newStore made
	coll   *mongo.Collection
	client *mongo.Client // to be disconnected by Close; nil if not ours
	cfg    Config        // with the defaults filled in; Client, URI and the like are spent
	seals  sealer

	states   states
	removals removals
	cleaner  cleaner
	tasks    tasks
}

var _ sessions.Store = (*Store)(nil)

// New returns a store on a collection, with the defaults of [Config]. It does no
// network I/O: nothing has to exist, and the index that deletes expired sessions is made
// in the background of the first Save.
//
// The key pairs are those of [sessions.NewCookieStore]: of each pair the first key
// signs (32 or 64 bytes are recommended; less is a warning) and the second, which
// can be nil, or omitted in the last pair, encrypts (16, 24 or 32 bytes). The first
// pair is used for new cookies, all are accepted. To replace a pair and log nobody out,
// put the new one behind the old one in all processes, then in front, and remove the old one
// when its cookies have expired.
//
// The collection's write concern is respected, so it should be the majority's, as it is by
// default since MongoDB 5.0; an unacknowledged one (w=0) makes saves fail, though the server
// may carry them out. Reads go to the primary, whatever the collection prefers. The client
// stays the application's.
//
// It fails on a nil collection, no keys, an empty key, and an encryption key of a
// length that AES does not have.
func New(coll *mongo.Collection, keyPairs ...[]byte) (*Store, error) {
	if coll == nil {
		return nil, errors.New("mongostore: new store: collection is nil")
	}
	store, err := newStore(coll, Config{}, keyPairs)
	if err != nil {
		return nil, fmt.Errorf("mongostore: new store: %w", err)
	}
	return store, nil
}

// Open returns a store as [Config] says. It connects, unless Config.Client is set, asks the
// server for a sign of life and makes the indexes. What the server refuses to
// make, or the user lacks the right for, is a warning. The keys are those of [New].
//
// Beyond the errors of [New], it fails on an absent database name, contradictory or
// negative settings, an unacknowledged write concern (w=0) in the URI, and with
// [ErrUnavailable] if the server does not answer in time.
func Open(ctx context.Context, cfg Config, keyPairs ...[]byte) (*Store, error) {
	store, err := open(ctx, cfg, keyPairs)
	if err != nil {
		return nil, fmt.Errorf("mongostore: open store: %w", err)
	}
	return store, nil
}

func open(ctx context.Context, cfg Config, keyPairs [][]byte) (*Store, error) {
	connection, database, err := cfg.connection()
	if err != nil {
		return nil, err
	}
	client := cfg.Client
	if client == nil {
		if client, err = mongo.Connect(connection); err != nil {
			return nil, err
		}
	}
	store, err := newStore(client.Database(database).Collection(or(cfg.Collection, defaultCollection)), cfg, keyPairs)
	if err == nil {
		if cfg.Client == nil {
			store.client = client
		}
		err = store.start(ctx)
	}
	if err != nil {
		if cfg.Client == nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // to say goodbye
			defer cancel()
			_ = client.Disconnect(ctx)
		}
		return nil, err
	}
	return store, nil
}

// start is the part of Open that needs the server.
func (s *Store) start(ctx context.Context) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.coll.Database().Client().Ping(ctx, readpref.Primary()); err != nil {
		return unavailable(err)
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
	seals, err := newSealer(cfg.SealKeys)
	if err != nil {
		return nil, err
	}
	cfg.SealKeys = nil // the sealer has its own copies
	cfg.BrowserTTL = or(cfg.BrowserTTL, defaultBrowserTTL)
	cfg.TouchInterval = or(cfg.TouchInterval, defaultTouchInterval)
	cfg.MaxSize = or(cfg.MaxSize, defaultMaxSize)
	cfg.Timeout = or(cfg.Timeout, defaultTimeout)
	s := &Store{
		Codecs:  codecs,
		newest:  codecs[0],
		Options: defaultOptions(),
		// Another member of a replica set may not yet know of a logout.
		coll:  coll.Clone(options.Collection().SetReadPreference(readpref.Primary())),
		cfg:   cfg,
		seals: seals,
	}
	if cfg.Options != nil {
		own := *cfg.Options
		s.Options = &own
	}
	if cfg.Cleanup != TTLIndex && cfg.OwnerKey == "" {
		s.cleaner.indexes.Store(never)
	}
	if weak {
		s.logger().Warn("mongostore: a signing key has less than 32 bytes")
	}
	return s, nil
}

func (s *Store) logger() *slog.Logger {
	if s.cfg.Logger != nil {
		return s.cfg.Logger
	}
	return slog.Default()
}

// MaxAge sets how long sessions live that have no MaxAge of their own, in seconds: 0 is
// a browser session, and a negative age would remove each session as it is saved. It is
// [sessions.Options.MaxAge] of s.Options, which can as well be set there. To be called
// before the store is used.
func (s *Store) MaxAge(age int) {
	own := *s.options()
	own.MaxAge = age
	s.Options = &own
}

// options returns s.Options, or the defaults if an application set them to nil.
func (s *Store) options() *sessions.Options {
	if s.Options == nil {
		return defaultOptions()
	}
	return s.Options
}

// Close ends the store's background work, if there is any, tries once more to delete what
// a logout could not, and disconnects the client if [Open] made it. It waits as long as
// ctx allows; a second call returns nil. Call it after the last request. A store that
// is not closed leaks nothing but a client that Open made.
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
