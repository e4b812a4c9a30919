package mongostore

import (
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

func defaultOptions() *sessions.Options {
	return &sessions.Options{
		Path:     "/",
		MaxAge:   defaultMaxAge,
		HttpOnly: true,
		Secure:   true,
		SameSite: http.SameSiteLaxMode,
	}
}
