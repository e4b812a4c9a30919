// Package mongostore keeps the sessions of [github.com/gorilla/sessions] in MongoDB.
//
// Most applications need [Open] at their start,
//
//	store, err := mongostore.Open(ctx, mongostore.Config{Database: "app"}, signingKey)
//
// and then, in their handlers, what they know from gorilla:
//
//	session, err := store.Get(r, "session")
//	if errors.Is(err, mongostore.ErrUnavailable) || errors.Is(err, mongostore.ErrCorrupt) {
//		http.Error(w, "try again in a moment", http.StatusServiceUnavailable)
//		return
//	}
//	session.Values["user"] = 42
//	if err := session.Save(r, w); err != nil { // before the body is written
//		...
//	}
//
// [New] makes a store of a collection that the application has already. Nothing has to be
// created in the database.
//
// # What is stored
//
// One session is one document. The cookie holds its ID, signed, and encrypted if there is
// an encryption key; the document's _id is the ID's SHA-256, so who reads the
// database cannot take a session over. Values are ordinary BSON where that
// returns the same Go type and value: nil, bool, string, int, int64, float64, []byte,
// time.Time, bson.ObjectID, []any and map[string]any. Other basic types are stored as
// {_type: T, _value: V}, and what remains by [encoding/gob], for which its type has
// to be registered, as with gorilla's own stores. Every key is encoded by itself.
//
// # Requests at once
//
// [Store.Save] sends the keys that have changed since the session was loaded, and an
// unchanged session not at all. So requests that change different keys do not
// undo each other; of two that change one key the later one wins. A
// session that was removed, or has expired, cannot be brought back by a request that
// loaded it before: its Save returns [ErrGone].
//
// # When MongoDB is away
//
// [Store.Get] returns [ErrUnavailable], with a session that refuses to be
// saved; the cookie and the document stay, and the visitor is logged in again
// when MongoDB is. Each operation is bounded by [Config.Timeout]. A logout
// succeeds all the same: this process forgets the session at once and repeats
// the deletion until it succeeds.
//
// # Expiry
//
// A session expires when it has not been saved for its MaxAge, or for
// [Config.BrowserTTL] if that is 0. The time stands in the document and is checked on every
// load; the date in the cookie decides nothing. Expired documents are deleted by a TTL
// index, or where there is none by the store: see [Cleanup]. [Config.AbsoluteTimeout]
// ends a session however often it is used.
//
// # Security
//
// An ID has 256 bits from [crypto/rand]; one that comes from outside is never adopted.
// [Store.Renew] gives a fresh one at a login. Cookies are by default HttpOnly, Secure and
// SameSite=Lax. [Config.SealKeys] encrypt the values in the database. No error and no
// warning holds an ID, a cookie or a value.
//
// # Users and their devices
//
// With [Config.OwnerKey], [Store.Sessions] lists the sessions of a user, [Store.Revoke]
// ends one of them and [Store.RevokeAll] all, wherever they are.
//
// # In production
//
// Reads go to the primary; the write concern is the collection's. [Store.Close] belongs
// after the end of the last request. The rights that the database user needs, all
// warnings with what to do about them, and how to replace keys, to shard, to monitor and to
// end all sessions are in
// https://github.com/mongostore/mongostore/blob/main/docs/operations.md.
package mongostore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
)

// Defaults of [Config].
const (
	defaultHost          = "localhost"
	defaultPort          = 27017
	defaultCollection    = "sessions"
	defaultMaxAge        = 30 * 24 * 60 * 60 // seconds, as gorilla's stores
	defaultBrowserTTL    = 24 * time.Hour
	defaultTouchInterval = time.Minute
	defaultMaxSize       = 1 << 20
	defaultTimeout       = 5 * time.Second
)

// maxDocumentSize is MongoDB's limit for a document.
const maxDocumentSize = 16 << 20

// Config configures the store that [Open] returns. Only Database is required; the
// zero value of every other field is its default.
type Config struct {
	// Client is an existing connection. The store does not disconnect it.
	// By default, Open connects to URI.
	Client *mongo.Client

	// URI is a connection string. By default, it is made of Host and Port.
	// URI, Client, and the pair of Host and Port exclude each other.
	URI string

	// Host is the server's name or address. By default, it is "localhost".
	Host string

	// Port is the server's port. By default, it is 27017.
	Port int

	// Database is the name of the database. It is required, unless the URI
	// names one.
	Database string

	// Collection is the name of the collection. By default, it is "sessions".
	Collection string

	// Options are the defaults of every new session, copied. MaxAge is in seconds;
	// 0 is a session that ends with the browser. By default, they are Path "/",
	// MaxAge 30 days, HttpOnly, Secure, SameSite Lax, no Domain. Where they are set,
	// all of them are: an HttpOnly that is not mentioned is false.
	Options *sessions.Options

	// AbsoluteTimeout is how long a session lives at most, from its creation or that of
	// the session that it was renewed from, however often it is used. By default,
	// there is no limit.
	AbsoluteTimeout time.Duration

	// BrowserTTL is how long a session with MaxAge 0, whose cookie ends with
	// the browser, lives in the database after it was last saved. By default,
	// it is 24 hours.
	BrowserTTL time.Duration

	// TouchInterval is how often at most the expiry of a session that is saved
	// unchanged is moved. It is never above a tenth of the session's
	// lifetime. By default, it is one minute.
	TouchInterval time.Duration

	// MaxSize is how many bytes a session's encoded keys and values may have,
	// at most 15 MiB. By default, it is 1 MiB. See [ErrTooLarge].
	MaxSize int

	// SkipEmpty has Save pass over a new session without values: no document, no
	// cookie. It is for applications whose middleware saves every session, where bots
	// would fill the database. By default, such a session is stored, as in gorilla's
	// own stores.
	SkipEmpty bool

	// OwnerKey is the key in Values under which the application keeps whose
	// session it is, such as "user_id"; see [Store.Sessions] for the types. It makes
	// [Store.Sessions] and [Store.RevokeAll] work, and an index for them. By default,
	// sessions have no owner.
	OwnerKey string

	// Describe tells what to show a user of a session in a list: the device, the
	// place. It is called when a session is written, and its result is stored,
	// readable, beside the values. It needs OwnerKey. By default, there is nothing.
	Describe func(*http.Request) map[string]string

	// OnConflict is what becomes of a save that changes a key which another
	// request has changed since this one loaded the session. By default, it is [Merge].
	OnConflict ConflictPolicy

	// SealKeys encrypt the values in the database, with AES-256-GCM; 32 bytes each.
	// The first one seals, all open. To replace one, put the new key behind the old
	// one in all processes, then in front; remove the old one when the sessions from
	// before have ended. Values of earlier times stay as they are until they are written
	// again. What cannot be opened is [ErrCorrupt]. What is not sealed: the names of
	// keys, the owner, Describe's result, and the times. By default, nothing is sealed.
	SealKeys [][]byte

	// MigrateFrom is the store that this one replaces, with the keys that it
	// had. A request with a cookie of that store gets the values of its
	// session, which is stored here at its first Save, and removed there where
	// that store can; a failure at that is a warning. Of a visitor's first
	// requests at once, each stores a session of its own, and the last cookie
	// stays. An error of that store that is not securecookie's, [fs.ErrNotExist]
	// or [mongo.ErrNoDocuments] counts as its outage, and is [ErrUnavailable]. A
	// store that reports its outage as an absent session, as
	// github.com/laziness-coders/mongostore does, makes its visitors new ones meanwhile.
	//
	// A CookieStore cannot remove: its cookie is the session, so a copy of it is
	// taken over again, also after a logout, as long as its codecs accept its
	// age (30 days, or what its MaxAge was called with) and MigrateFrom is set.
	// To end that, remove MigrateFrom. By default, there is none.
	MigrateFrom sessions.Store

	// Cleanup is how expired sessions are deleted. By default, it is
	// [TTLIndex]. No choice makes an expired session readable.
	Cleanup Cleanup

	// Timeout bounds each operation of the database, in which the driver may repeat a
	// command that failed; [Store.Renew] takes three and more of them. In [Open], [Store.Count],
	// [Store.DeleteExpired], [Store.EnsureIndexes], [Store.Sessions],
	// [Store.Revoke] and [Store.RevokeAll] a deadline of the context applies
	// instead, if it has one. By default, it is 5 seconds.
	Timeout time.Duration

	// Logger receives warnings. By default, it is [slog.Default].
	Logger *slog.Logger
}

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

// connection gives what to connect to, unless there is a client, and the database's name.
func (cfg *Config) connection() (*options.ClientOptions, string, error) {
	hasAddress := cfg.Host != "" || cfg.Port != 0
	switch {
	case cfg.Client != nil && cfg.URI != "":
		return nil, "", errors.New("both Client and URI are set")
	case cfg.Client != nil && hasAddress:
		return nil, "", errors.New("both Client and Host or Port are set")
	case cfg.URI != "" && hasAddress:
		return nil, "", errors.New("both URI and Host or Port are set")
	case cfg.Port < 0 || cfg.Port > 65535:
		return nil, "", fmt.Errorf("port %d is out of range", cfg.Port)
	}
	uri := cfg.URI
	if uri == "" {
		address := net.JoinHostPort(or(cfg.Host, defaultHost), strconv.Itoa(or(cfg.Port, defaultPort)))
		uri = "mongodb://" + address
	}
	database := cfg.Database
	if database == "" {
		database = databaseOf(cfg.URI)
	}
	if database == "" {
		return nil, "", errors.New("no database name")
	}
	if cfg.Client != nil {
		return nil, database, nil
	}
	connection := options.Client().ApplyURI(uri)
	if err := connection.Validate(); err != nil {
		// The driver's error may quote the URI, and with it a password; that of a
		// name server does not.
		var lookup *net.DNSError
		if errors.As(err, &lookup) {
			return nil, "", unavailable(lookup)
		}
		return nil, "", errors.New("invalid URI, or Host")
	}
	if !connection.WriteConcern.Acknowledged() {
		return nil, "", errUnacknowledged
	}
	return connection, database, nil
}

// databaseOf returns the database that a connection string names.
func databaseOf(uri string) string {
	_, rest, _ := strings.Cut(uri, "://")
	_, path, _ := strings.Cut(rest, "/")
	path, _, _ = strings.Cut(path, "?")
	name, err := url.PathUnescape(path)
	if err != nil {
		return ""
	}
	return name
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

// check finds what is negative, unknown or contradictory.
func (cfg *Config) check() error {
	switch {
	case cfg.AbsoluteTimeout < 0:
		return errors.New("AbsoluteTimeout is negative")
	case cfg.BrowserTTL < 0:
		return errors.New("BrowserTTL is negative")
	case cfg.TouchInterval < 0:
		return errors.New("TouchInterval is negative")
	case cfg.Timeout < 0:
		return errors.New("Timeout is negative") //nolint:staticcheck // the field's name
	case cfg.MaxSize < 0:
		return errors.New("MaxSize is negative")
	case cfg.MaxSize > maxDocumentSize-1<<20:
		return errors.New("MaxSize is more than a MongoDB document can hold beside its other fields")
	case cfg.Cleanup < TTLIndex || cfg.Cleanup > Off:
		return fmt.Errorf("unknown Cleanup %d", cfg.Cleanup)
	case cfg.OnConflict < Merge || cfg.OnConflict > Reject:
		return fmt.Errorf("unknown OnConflict %d", cfg.OnConflict)
	case cfg.Describe != nil && cfg.OwnerKey == "":
		return errors.New("Describe is set but OwnerKey is not, so nobody could list what it tells") //nolint:staticcheck // the field's name
	case cfg.Options != nil && cfg.Options.MaxAge < 0:
		return errors.New("MaxAge of Options is negative: no session could be kept")
	}
	return nil
}

// or returns v, or if that is the zero value, standard.
func or[T comparable](v, standard T) T {
	var zero T
	if v == zero {
		return standard
	}
	return v
}

func (s *Store) logger() *slog.Logger {
	if s.cfg.Logger != nil {
		return s.cfg.Logger
	}
	return slog.Default()
}

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

func defaultOptions() *sessions.Options {
	return &sessions.Options{
		Path:     "/",
		MaxAge:   defaultMaxAge,
		HttpOnly: true,
		Secure:   true,
		SameSite: http.SameSiteLaxMode,
	}
}

// Get returns the session of the name for the request: the one that an earlier
// call returned with this request or one that it was derived from, or one from
// [Store.New]. The registry that remembers it is gorilla's and knows names only:
// two stores need two names, or the one that saves makes a session of its own of
// what the other has loaded.
//
// It is for one goroutine of a request at a time, since gorilla's registry is a
// plain map, and Get writes to the request and to the session, also to one that it
// has returned before. A handler calls it before it starts goroutines, or
// [Store.New] in each of them. Several may call [Store.Save] with one session at
// once, while none uses it otherwise; different sessions saved at once need a
// response each, whose header is a plain map as well.
//
// The errors are those of [Store.New]. The session is never nil, whatever the error.
func (s *Store) Get(r *http.Request, name string) (*sessions.Session, error) {
	if err := checkName(r, name); err != nil {
		return s.refused(name, fmt.Errorf("mongostore: load session: %w", err))
	}
	return sessions.GetRegistry(r).Get(s, name)
}

// New returns the session that a cookie of the request carries the ID of, or a new
// session, without adding it to gorilla's registry.
//
// Without a cookie, or with the ID of a session that is gone or has expired,
// the session is new, without an ID, and the error nil; reading creates nothing
// in the database, and an ID from outside is never adopted. If there are
// several cookies of the name, the first counts that verifies and belongs to a
// live session; up to 8 are looked up.
//
// With a cookie that does not verify, the session is new and the error is that
// of securecookie, as with CookieStore. When the session may exist but cannot
// be had, the error is [ErrUnavailable] or [ErrCorrupt]; the session that comes
// with it refuses to be saved, so that what is stored, and the visitor's
// cookie, outlast the trouble.
//
// The session is never nil, whatever the error.
func (s *Store) New(r *http.Request, name string) (*sessions.Session, error) {
	if err := checkName(r, name); err != nil {
		return s.refused(name, fmt.Errorf("mongostore: load session: %w", err))
	}
	session := s.blank(name)
	ids, errCookie := s.cookieIDs(r, name)
	if errCookie == nil && len(ids) == 0 {
		return session, nil
	}
	st := s.states.add(session)
	for i, c := range ids {
		rec, values, err := s.load(r.Context(), name, c.id)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			if st.err == nil {
				st.err = fmt.Errorf("mongostore: load session: %w", err)
				st.others = idsOf(ids)
			}
			if errors.Is(err, ErrUnavailable) {
				return session, st.err
			}
		default:
			st.adopt(session, c.id, rec, values)
			st.signed = c.signed
			st.others = idsOf(slices.Delete(ids, i, i+1))
			return session, nil
		}
	}
	if st.err != nil {
		return session, st.err
	}
	return session, s.takeOver(r, session, st, errCookie)
}

// blank returns a session that no document exists for.
func (s *Store) blank(name string) *sessions.Session {
	session := sessions.NewSession(s, name)
	own := *s.options()
	session.Options = &own
	session.IsNew = true
	return session
}

// refused returns a session that cannot be saved, and why.
func (s *Store) refused(name string, err error) (*sessions.Session, error) {
	session := s.blank(name)
	s.states.add(session).err = err
	return session, err
}

func checkName(r *http.Request, name string) error {
	if r == nil {
		return errors.New("request is nil")
	}
	if !validName(name) {
		return fmt.Errorf("%q cannot be the name of a cookie", name)
	}
	return nil
}

// load reads the document of an ID, and its values. It fails with [ErrNotFound],
// [ErrUnavailable] or [ErrCorrupt].
func (s *Store) load(ctx context.Context, name, id string) (record, map[any]any, error) {
	key := keyOf(id)
	if s.removals.pending(key) {
		return record{}, nil, ErrNotFound
	}
	rec, values, err := s.findRecord(ctx, key)
	if err != nil {
		return record{}, nil, err
	}
	// The signature binds the ID to the name. A document of another name was not
	// written for this cookie.
	if !s.aliveAt(&rec, time.Now()) || rec.name != name || rec.movedTo != "" {
		return record{}, nil, ErrNotFound
	}
	goValues, err := rec.readValues(values, &s.seals)
	if err != nil {
		return record{}, nil, corrupt(err)
	}
	return rec, goValues, nil
}

// read is load for a document that may have expired, or be marked as moved.
func (s *Store) read(ctx context.Context, key string) (record, map[any]any, error) {
	rec, values, err := s.findRecord(ctx, key)
	if err != nil {
		return record{}, nil, err
	}
	goValues, err := rec.readValues(values, &s.seals)
	if err != nil {
		return record{}, nil, corrupt(err)
	}
	return rec, goValues, nil
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

func corrupt(err error) error {
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// Save stores the session and then sets its cookie. It is to be called before the
// response's body is written.
//
// A new session is inserted; of a stored one, what changed is sent: the keys
// whose values are not those that were loaded, or only the expiry, if
// [Config.TouchInterval] has passed, or nothing. Changes that other requests
// made to other keys meanwhile stay; of two changes to one key the later one
// does, unless [Config.OnConflict] says otherwise. Values may be changed in
// place, and Save be called again. An ID that the application put into the
// session, or took from it, is replaced by a fresh one, as by [Store.Renew].
//
// With a negative Options.MaxAge the document is deleted and the cookie
// expires, also when the request was cancelled. If the database fails at it,
// Save warns and returns nil, the session is gone for this store from then on,
// and the deletion is repeated until it succeeds, or the store is closed or its
// client disconnected, which is another warning.
//
// The errors: [ErrGone] if the session was removed or has expired meanwhile,
// [ErrConflict], [ErrTooLarge], [ErrUnavailable], also when the visitor has left and
// the request's context ended, the error of the load if that had failed, and
// others for what cannot be stored (a value that gob refuses, which the error
// names) or made a cookie of, and for every write, a removal included, under the
// write concern w: 0. On every error the cookie stays as it is.
func (s *Store) Save(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	return s.respond(r, w, session, false)
}

// respond saves the session, under a fresh ID if renew is set, and sets the cookie.
func (s *Store) respond(r *http.Request, w http.ResponseWriter, session *sessions.Session, renew bool) error {
	if r == nil || w == nil || session == nil {
		return errors.New("mongostore: save session: request, response or session is nil")
	}
	st := s.states.of(session)
	st.mu.Lock()
	defer st.mu.Unlock()

	own := s.optionsOf(session)
	if own.MaxAge < 0 {
		if err := s.destroy(r.Context(), w, session, st, own); err != nil {
			return fmt.Errorf("mongostore: remove session: %w", err)
		}
		return nil
	}
	if st.err != nil {
		if errors.Is(st.err, ErrGone) {
			st.withdraw(w)
		}
		return st.err
	}
	if s.cfg.SkipEmpty && len(session.Values) == 0 && !st.stored && st.origin == nil {
		return nil
	}
	q := saving{session: session, st: st, own: own, request: r, renew: renew}
	err := s.saveWithCookie(r.Context(), w, &q)
	if errors.Is(err, ErrGone) {
		st.withdraw(w)
	}
	return s.saved(r.Context(), &q, err)
}

func (s *Store) saveWithCookie(ctx context.Context, w http.ResponseWriter, q *saving) error {
	if err := s.plan(q); err != nil {
		return err
	}
	// Before the database is touched, so that nothing is stored without a cookie.
	cookie, err := s.signedCookie(q)
	if err != nil {
		return err
	}
	if err := s.write(ctx, q); err != nil {
		return err
	}
	if q.own.MaxAge != cookie.MaxAge { // it came in from another request
		cookie = sessions.NewCookie(cookie.Name, cookie.Value, q.own)
	}
	q.st.cookie, q.st.left = setCookie(w, cookie, q.st.cookie), false
	return nil
}

// saved is the end of every save.
func (s *Store) saved(ctx context.Context, q *saving, err error) error {
	if err != nil {
		err = fmt.Errorf("mongostore: save session: %w", err)
		if errors.Is(err, ErrGone) {
			q.st.err = err
		}
		return err
	}
	_ = s.removeOld(ctx, q.st)
	s.cleanUp(ctx, s.lifetime(q.own.MaxAge))
	return nil
}

// optionsOf returns the session's options, or the store's if it has none.
func (s *Store) optionsOf(session *sessions.Session) *sessions.Options {
	if session.Options == nil {
		return s.options()
	}
	return session.Options
}

// lifetime is how long a session lives that is not saved again.
func (s *Store) lifetime(maxAge int) time.Duration {
	const longest = 100 * 365 * 24 * time.Hour // a time.Duration has not much more
	lifetime := s.cfg.BrowserTTL
	if int64(maxAge) > int64(longest/time.Second) {
		lifetime = longest
	} else if maxAge > 0 {
		lifetime = time.Duration(maxAge) * time.Second
	}
	if s.cfg.AbsoluteTimeout > 0 {
		lifetime = min(lifetime, s.cfg.AbsoluteTimeout)
	}
	return lifetime
}

// touchInterval is how often at most the expiry of an unchanged session is moved.
func (s *Store) touchInterval(maxAge int) time.Duration {
	return min(s.cfg.TouchInterval, s.lifetime(maxAge)/10)
}

// expiry is when a session ends that is not saved again after now.
func (s *Store) expiry(createdAt, now time.Time, maxAge int) time.Time {
	idle := now.Add(s.lifetime(maxAge))
	if s.cfg.AbsoluteTimeout > 0 {
		if absolute := createdAt.Add(s.cfg.AbsoluteTimeout); absolute.Before(idle) {
			return absolute
		}
	}
	return idle
}

// aliveAt reports whether the record has not expired. The absolute timeout may
// have been set after the record was written.
func (s *Store) aliveAt(rec *record, now time.Time) bool {
	return rec.expiresAt.After(now) &&
		(rec.maxAge == nil || rec.seenAt.Add(s.lifetime(*rec.maxAge)).After(now)) &&
		(s.cfg.AbsoluteTimeout == 0 || rec.createdAt.Add(s.cfg.AbsoluteTimeout).After(now))
}

// aliveIf is aliveAt as the server can tell it of the document that was read as rec. Of one
// that has another MaxAge by now it cannot: that has to be read again.
func (s *Store) aliveIf(rec *record, now time.Time) condition {
	c := condition{aliveAt: now, maxAge: rec.maxAge}
	if rec.maxAge != nil {
		c.seenAfter = now.Add(-s.lifetime(*rec.maxAge))
	}
	return c
}

// live is the filter for sessions that have not expired.
func (s *Store) live(now time.Time) bson.D {
	filter := bson.D{{Key: fieldExpiresAt, Value: bson.D{{Key: "$gt", Value: bson.NewDateTimeFromTime(now)}}}}
	if s.cfg.AbsoluteTimeout > 0 {
		filter = append(filter, bson.E{Key: fieldCreatedAt, Value: bson.D{{Key: "$gt", Value: bson.NewDateTimeFromTime(now.Add(-s.cfg.AbsoluteTimeout))}}})
	}
	return filter
}
