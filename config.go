package mongostore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore/internal/bsonval"
)

// maxDocumentSize is MongoDB's limit, in bytes.
const maxDocumentSize = 16 << 20

// Config configures the store that [Open] returns. Only Database is required. The zero value
// of every other field is its default.
type Config struct {
	// Client is an existing connection. The store does not disconnect it. By default, Open
	// connects to URI.
	Client *mongo.Client

	// URI is a connection string. By default, it is built from Host and Port. URI, Client, and
	// the pair of Host and Port are mutually exclusive.
	URI string

	// Host is the server's name or address, without a port. The default is "localhost".
	Host string

	// Port is the server's port. The default is 27017.
	Port int

	// Database is the name of the database. It is required, unless the URI names one.
	Database string

	// Collection is the name of the collection. The default is "sessions".
	Collection string

	// Options are the defaults of every new session. They are copied, and replace all of
	// [DefaultOptions]: start from those to change one. MaxAge is in seconds; 0 is a session
	// that ends with the browser. An empty Path is an error.
	Options *sessions.Options

	// IdleTimeout is how long a session lives after its last touch (see TouchInterval). It is
	// rounded down to whole seconds, and must be at least one. It sets MaxAge of the default
	// options, and cannot be combined with Options. The default is 30 days.
	IdleTimeout time.Duration

	// AbsoluteTimeout is the longest time that a session lives, counted from its creation.
	// [Store.Renew] does not restart it. The default is no limit.
	AbsoluteTimeout time.Duration

	// BrowserTTL is how long a session with MaxAge 0, whose cookie ends with the browser,
	// lives in the database after its last touch. The default is 24 hours.
	BrowserTTL time.Duration

	// TouchInterval is the shortest time between two touches by Save, and between two by
	// [Store.Touch]. A touch is a write that moves the expiry of a session; Save then sends the
	// cookie again. It is capped at a tenth of the session's lifetime. The default is one minute.
	TouchInterval time.Duration

	// MaxSize is the largest size of a session's encoded keys and values, in bytes, at most
	// 15 MiB. The default is 1 MiB. See [ErrTooLarge].
	MaxSize int

	// SkipEmpty makes Save ignore a new session without values: no document, no cookie. It is
	// for applications that save every session, where bots would fill the database. By default,
	// such a session is stored, as in gorilla's own stores. [Store.Middleware] never saves one.
	SkipEmpty bool

	// OwnerKey is the key in Values that identifies the session's user, such as "user_id";
	// see [Store.Sessions] for its types. [Store.Sessions] and [Store.RevokeAll] need it. The
	// store creates an index for them. By default, sessions have no owner. A store without an
	// OwnerKey does not change an owner that another store of the collection has set.
	OwnerKey string

	// Describe returns details of a session, such as device and location, to show in a list
	// of sessions. It is called when a session is inserted, renewed or touched. Its result is
	// stored, unencrypted, beside the values: at most 4 KiB of it, in the order of the keys. A
	// value that does not fit is truncated, and a key that does not fit is omitted. Describe
	// needs OwnerKey. It may call the store.
	Describe func(*http.Request) map[string]string

	// Types are the application's own types that are stored as BSON documents, each made with
	// [TypeOf]. By default, such types are stored by [encoding/gob].
	Types []Type

	// OnConflict decides what happens if two requests have loaded the session and both change
	// the same key. The default is [ConflictMerge].
	OnConflict ConflictPolicy

	// OnCorrupt decides what happens to a request whose session cannot be decoded. The default
	// is [CorruptRefuse].
	OnCorrupt CorruptPolicy

	// OnError writes the response if [Store.Middleware] cannot load or cannot save the session. In
	// the first case the handler is not called. In the second case its response has not been
	// sent yet and is discarded. The response's header already has Cache-Control: no-store
	// and, for [ErrUnavailable], Retry-After. By default, the response has the status of
	// [StatusCode] and the text of [http.StatusText].
	OnError func(http.ResponseWriter, *http.Request, error)

	// Cleanup is how expired sessions are deleted. The default is [CleanupTTLIndex]. An expired
	// session is never loaded, whatever Cleanup is.
	Cleanup Cleanup

	// SealKeys encrypt the values in the database with AES-256-GCM. They have 32 bytes each.
	// The first one encrypts, all decrypt. To replace one, add the new key after the old one
	// in all processes, then move it to the front. Remove the old one when the earlier
	// sessions have ended. A value that cannot be decrypted is reported as [ErrCorrupt]. Key
	// names, the owner, Describe's result and the times are not encrypted. By default, values are
	// not encrypted.
	SealKeys [][]byte

	// MigrateFrom is the store that this one replaces, created with the keys that it has used so
	// far. A request with a cookie of that store gets the values of its session. The first Save
	// stores the session here, and removes it there. Concurrent first requests create one
	// session. After a logout, a copy of that store's cookie no longer works.
	//
	// Each call of that store is bounded by Timeout. A call that never returns leaks its
	// goroutine. If that store fails, the error is [ErrUnavailable]. If it returns
	// [fs.ErrNotExist], [mongo.ErrNoDocuments] or an error of securecookie, there is no
	// session. A failure to remove the session there is logged as a warning. By default, no
	// sessions are migrated.
	MigrateFrom sessions.Store

	// Timeout bounds each database operation, including the driver's retries. [Store.Renew] needs
	// two or more operations. In [Open], [Store.Ping],
	// [Store.Count], [Store.All], [Store.DeleteExpired], [Store.EnsureIndexes],
	// [Store.Sessions], [Store.Revoke] and [Store.RevokeAll] a deadline of the context applies
	// instead, if it has one. The default is 5 seconds.
	Timeout time.Duration

	// Logger receives warnings. The default is [slog.Default].
	Logger *slog.Logger
}

// CorruptPolicy decides what happens to a request whose session cannot be decoded.
type CorruptPolicy int

const (
	// CorruptRefuse returns [ErrCorrupt] and a session whose Save fails. The handler, or
	// [Config.OnError], decides: usually it logs the error, ends the session and asks the user to
	// log in.
	CorruptRefuse CorruptPolicy = iota

	// CorruptRestart returns a new session and logs a warning. The document stays as it is,
	// until it expires. If the new session is not saved, the browser keeps its cookie, and the next
	// request logs the warning again.
	CorruptRestart
)

// Type is one of the application's own types; see [TypeOf].
type Type = bsonval.Type

// TypeOf returns a type for [Config.Types]: values of type T or *T in a session are stored as
// {_type: name, _value: <document>}. The driver's bson package encodes them, with its struct
// tags, so they can be read and queried in the database. The type needs no
// [encoding/gob.Register]. A value that gob has stored before can still be loaded, as long
// as its type is registered. The next change of the value stores it as a document.
//
// T is a struct, a pointer to one, or any other type that the store would encode with gob, such
// as a named slice, map or string. With a pointer type, values come back as pointers. Fields may
// be added and removed between releases; a field that is not in the document has its zero value.
// What the bson package does not keep is lost: unexported fields, embedded structs of an
// unexported type, time zones, fractions of a millisecond, and the types of values in fields of
// an interface type. Keys of maps are sorted, except those of inline maps.
//
// The name is stored with each value, so it must not change. A name or a type that is used
// twice is an error of [Open].
func TypeOf[T any](name string) Type { return bsonval.TypeOf[T](name) }

// DefaultOptions returns the options that sessions have without [Config.Options]: Path "/",
// MaxAge 30 days, HttpOnly, Secure, SameSite=Lax, no Domain.
func DefaultOptions() *sessions.Options {
	return &sessions.Options{
		Path:     "/",
		MaxAge:   30 * 24 * 60 * 60, // 30 days, as in gorilla's stores
		HttpOnly: true,
		Secure:   true,
		SameSite: http.SameSiteLaxMode,
	}
}

// address is the location of the sessions.
type address struct {
	connection           *options.ClientOptions // nil for Config.Client
	database, collection string
}

// address returns the location of the sessions.
func (cfg *Config) address() (address, error) {
	hasHost := cfg.Host != "" || cfg.Port != 0
	switch {
	case cfg.Client != nil && cfg.URI != "":
		return address{}, errors.New("both Client and URI are set")
	case cfg.Client != nil && hasHost:
		return address{}, errors.New("both Client and Host or Port are set")
	case cfg.URI != "" && hasHost:
		return address{}, errors.New("both URI and Host or Port are set")
	case cfg.Port < 0 || cfg.Port > 65535:
		return address{}, fmt.Errorf("the Port %d is out of range", cfg.Port)
	}
	a := address{
		database:   cmp.Or(cfg.Database, databaseOf(cfg.URI)),
		collection: cmp.Or(cfg.Collection, "sessions"),
	}
	if err := checkNames(a.database, a.collection); err != nil {
		return address{}, err
	}
	if cfg.Client != nil {
		return a, nil
	}
	uri := cfg.URI
	if uri == "" {
		if err := checkHost(cfg.Host); err != nil {
			return address{}, err
		}
		host := strings.TrimSuffix(strings.TrimPrefix(cmp.Or(cfg.Host, "localhost"), "["), "]")
		uri = "mongodb://" + net.JoinHostPort(host, strconv.Itoa(cmp.Or(cfg.Port, 27017)))
	}
	a.connection = options.Client().ApplyURI(uri)
	if err := a.connection.Validate(); err != nil {
		// The driver's error may quote the URI, and with it a password. That of a lookup does not.
		var lookup *net.DNSError
		if errors.As(err, &lookup) {
			return address{}, unavailable(lookup)
		}
		return address{}, errors.New("invalid URI or Host")
	}
	if !a.connection.WriteConcern.Acknowledged() {
		return address{}, errUnacknowledged
	}
	return a, nil
}

// checkHost rejects a host with a port. An IPv6 address has several colons.
func checkHost(host string) error {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return fmt.Errorf("the Host %q has a port, which belongs into Port", host)
	}
	return nil
}

// checkNames applies MongoDB's rules for names, which the server applies only to a write:
// https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
func checkNames(database, collection string) error {
	const maxDatabase, maxNamespace = 63, 255 // the latter with a dot between the two names
	switch {
	case database == "":
		return errors.New("no database name")
	case len(database) > maxDatabase:
		return fmt.Errorf("the Database name has %d bytes, at most %d are allowed", len(database), maxDatabase)
	case strings.ContainsAny(database, "/\\. \"$*<>:|?\x00"):
		return fmt.Errorf("the Database name %q has a character that MongoDB does not allow", database)
	case strings.ContainsAny(collection, "$\x00"), strings.HasPrefix(collection, "."), strings.HasSuffix(collection, "."), strings.Contains(collection, ".."):
		return fmt.Errorf("the Collection name %q is not allowed in MongoDB", collection)
	case strings.HasPrefix(collection, "system."):
		return fmt.Errorf("the Collection name %q is reserved by MongoDB", collection)
	case len(database)+1+len(collection) > maxNamespace:
		return fmt.Errorf("the names of Database and Collection have more than %d bytes together", maxNamespace-1)
	}
	return nil
}

// databaseOf returns the name of the database in a connection string.
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

// check reports settings that are negative, unknown or contradictory.
func (cfg *Config) check() error {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"IdleTimeout", cfg.IdleTimeout},
		{"AbsoluteTimeout", cfg.AbsoluteTimeout},
		{"BrowserTTL", cfg.BrowserTTL},
		{"TouchInterval", cfg.TouchInterval},
		{"Timeout", cfg.Timeout},
	} {
		if d.value < 0 {
			return fmt.Errorf("%s is negative", d.name)
		}
	}
	switch o := cfg.Options; {
	case cfg.IdleTimeout > 0 && o != nil:
		return errors.New("both IdleTimeout and Options are set; MaxAge of Options is the idle timeout")
	case cfg.IdleTimeout > 0 && cfg.IdleTimeout < time.Second:
		return errors.New("IdleTimeout is less than a second")
	case o != nil && o.MaxAge < 0:
		return errors.New("MaxAge of Options is negative, so no session could be kept")
	case o != nil && o.Path == "":
		return errors.New("Path of Options is empty; Options replace all defaults, so start from DefaultOptions") //nolint:staticcheck // the field's name
	case cfg.MaxSize < 0:
		return errors.New("MaxSize is negative")
	case cfg.MaxSize > maxDocumentSize-1<<20:
		return errors.New("MaxSize is more than a MongoDB document can hold beside its other fields")
	case cfg.Cleanup < CleanupTTLIndex || cfg.Cleanup > CleanupOff:
		return fmt.Errorf("unknown Cleanup %d", cfg.Cleanup)
	case cfg.OnConflict < ConflictMerge || cfg.OnConflict > ConflictReject:
		return fmt.Errorf("unknown OnConflict %d", cfg.OnConflict)
	case cfg.OnCorrupt < CorruptRefuse || cfg.OnCorrupt > CorruptRestart:
		return fmt.Errorf("unknown OnCorrupt %d", cfg.OnCorrupt)
	case cfg.Describe != nil && cfg.OwnerKey == "":
		return errors.New("Describe is set but OwnerKey is not, so its result could not be listed") //nolint:staticcheck // the field's name
	}
	return nil
}

// withDefaults returns the settings of a store whose address is known.
func (cfg *Config) withDefaults() Config {
	c := *cfg
	c.BrowserTTL = cmp.Or(c.BrowserTTL, 24*time.Hour)
	c.TouchInterval = cmp.Or(c.TouchInterval, time.Minute)
	c.MaxSize = cmp.Or(c.MaxSize, 1<<20)
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	c.SealKeys = nil // the sealer has its own copies
	return c
}

// options returns the defaults of every new session.
func (cfg *Config) options() *sessions.Options {
	if cfg.Options != nil {
		o := *cfg.Options
		return &o
	}
	o := DefaultOptions()
	if cfg.IdleTimeout > 0 {
		o.MaxAge = int(cfg.IdleTimeout / time.Second)
	}
	return o
}

func (s *Store) logger() *slog.Logger {
	if s.cfg.Logger != nil {
		return s.cfg.Logger
	}
	return slog.Default()
}

// replaceDamaged reports whether a new session replaces the one whose load failed with err, and
// logs that.
func (s *Store) replaceDamaged(ctx context.Context, err error) bool {
	if s.cfg.OnCorrupt != CorruptRestart || !errors.Is(err, ErrCorrupt) {
		return false
	}
	s.logger().WarnContext(ctx, "mongostore: damaged session replaced by a new one",
		"error", err, "collection", s.coll.Name())
	return true
}

// options returns s.Options, or the defaults if an application has set them to nil.
func (s *Store) options() *sessions.Options {
	if s.Options == nil {
		return DefaultOptions()
	}
	return s.Options
}

// maxAgeOf returns the MaxAge that a stored session has in this store.
func (s *Store) maxAgeOf(m *meta) int {
	if m.maxAge != nil {
		return *m.maxAge
	}
	return s.options().MaxAge
}
