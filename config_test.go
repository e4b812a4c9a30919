package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestRefusedAtConstruction: what cannot work is found before it is used.
func TestRefusedAtConstruction(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	good := [][]byte{storetest.SigningKey}
	for what, keys := range map[string][][]byte{
		"no keys":                   {},
		"nil key":                   {nil},
		"empty key":                 {{}},
		"empty key in a later pair": {storetest.SigningKey, storetest.BlockKey, {}},
		"block key of 15 bytes":     {storetest.SigningKey, storetest.BlockKey[:15]},
		"empty block key":           {storetest.SigningKey, {}},
		"bad block key, good older": {storetest.SigningKey, storetest.BlockKey[:15], storetest.SigningKey, storetest.BlockKey},
	} {
		if s, err := mongostore.New(f.Coll, keys...); err == nil || s != nil {
			t.Errorf("New with %s: %v, %v", what, s, err)
		}
		if s, err := mongostore.Open(t.Context(), f.Cfg, keys...); err == nil || s != nil {
			t.Errorf("Open with %s: %v, %v", what, s, err)
		}
	}
	if s, err := mongostore.New(nil, good...); err == nil || s != nil {
		t.Errorf("New without a collection: %v, %v", s, err)
	}
	for what, change := range map[string]func(*mongostore.Config){
		"no database":              func(c *mongostore.Config) { c.Database = "" },
		"Client and URI":           func(c *mongostore.Config) { c.URI = "mongodb://localhost" },
		"Client and Host":          func(c *mongostore.Config) { c.Host = "localhost" },
		"Client and Port":          func(c *mongostore.Config) { c.Port = 27017 },
		"URI and Host":             func(c *mongostore.Config) { c.Client, c.URI, c.Host = nil, "mongodb://localhost", "localhost" },
		"URI without a database":   func(c *mongostore.Config) { c.Client, c.Database, c.URI = nil, "", "mongodb://localhost/?w=1" },
		"invalid URI":              func(c *mongostore.Config) { c.Client, c.URI = nil, "https://me:secret@localhost" },
		"unacknowledged":           func(c *mongostore.Config) { c.Client, c.URI = nil, "mongodb://localhost/?w=0" },
		"port out of range":        func(c *mongostore.Config) { c.Client, c.Port = nil, 65536 },
		"negative port":            func(c *mongostore.Config) { c.Client, c.Port = nil, -1 },
		"negative BrowserTTL":      func(c *mongostore.Config) { c.BrowserTTL = -1 },
		"negative TouchInterval":   func(c *mongostore.Config) { c.TouchInterval = -1 },
		"negative Timeout":         func(c *mongostore.Config) { c.Timeout = -1 },
		"negative MaxSize":         func(c *mongostore.Config) { c.MaxSize = -1 },
		"MaxSize over 16 MiB":      func(c *mongostore.Config) { c.MaxSize = 16 << 20 },
		"negative AbsoluteTimeout": func(c *mongostore.Config) { c.AbsoluteTimeout = -1 },
		"unknown OnConflict":       func(c *mongostore.Config) { c.OnConflict = 17 },
		"Describe without OwnerKey": func(c *mongostore.Config) {
			c.Describe = func(*http.Request) map[string]string { return nil }
		},
		"seal key of 31 bytes": func(c *mongostore.Config) { c.SealKeys = [][]byte{make([]byte, 32), make([]byte, 31)} },
		"empty seal key":       func(c *mongostore.Config) { c.SealKeys = [][]byte{nil} },
		"seal key twice":       func(c *mongostore.Config) { c.SealKeys = [][]byte{make([]byte, 32), make([]byte, 32)} },
		"unknown Cleanup":      func(c *mongostore.Config) { c.Cleanup = 17 },
		"Options of MaxAge -1": func(c *mongostore.Config) { c.Options = &sessions.Options{MaxAge: -1} },
	} {
		cfg := f.Cfg
		change(&cfg)
		s, err := mongostore.Open(t.Context(), cfg, good...)
		if err == nil || s != nil || !strings.HasPrefix(err.Error(), "mongostore: ") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, %v", what, s, err)
		}
		if errors.Is(err, mongostore.ErrUnavailable) {
			t.Errorf("%s: found out by connecting: %v", what, err)
		}
	}
	f.WantCommands()
}

// TestShortKey: a warning, not an error.
func TestShortKey(t *testing.T) {
	t.Parallel()
	var log storetest.LogBuffer
	f := storetest.Setup(t, func(c *mongostore.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	if _, err := mongostore.Open(t.Context(), f.Cfg, []byte("short"), storetest.BlockKey); err != nil {
		t.Error(err)
	}
	if s := log.String(); strings.Count(s, "level=WARN") != 1 || strings.Contains(s, "short\"") {
		t.Errorf("log: %s", s)
	}
}

// TestOpenURI: with a URI, the store connects and disconnects.
func TestOpenURI(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	cfg := mongostore.Config{URI: storetest.Server(t).URI, Database: f.Coll.Database().Name(), Collection: f.Coll.Name(), Cleanup: mongostore.CleanupOff}
	store, err := mongostore.Open(t.Context(), cfg, storetest.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	b := f.Browser()
	b.Store = store
	b.Login()
	f.WantDocuments(1)
	for range 2 {
		if err := store.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := store.Get(b.Request(), storetest.Name); !errors.Is(err, mongostore.ErrUnavailable) {
		t.Errorf("after Close: %v", err)
	}
}

// TestOpenAddress: Host and Port, and the database and the collection by default. Any member of
// a replica set is such an address.
func TestOpenAddress(t *testing.T) {
	t.Parallel()
	t.Run("test server", func(t *testing.T) {
		t.Parallel()
		openAddress(t, storetest.Setup(t), storetest.Server(t).URI)
	})
	t.Run("scripted", func(t *testing.T) {
		t.Parallel()
		f, s := storetest.SetupScripted(t, "rs")
		if _, _, ok := plainAddress(storetest.Server(t).URI); !ok {
			t.Skip("needs a server that a plain address reaches")
		}
		openAddress(t, f, s.URI())
	})
}

func openAddress(t *testing.T, f *storetest.Fixture, uri string) {
	t.Helper()
	host, port, ok := plainAddress(uri)
	if !ok {
		t.Skip("needs a server that a plain address reaches")
	}
	database := f.Coll.Database().Name() + "_" + f.Coll.Name()
	t.Cleanup(func() { _ = f.Coll.Database().Client().Database(database).Drop(context.WithoutCancel(t.Context())) })
	for _, cfg := range []mongostore.Config{
		{Host: host, Port: port, Database: database},
		{URI: "mongodb://" + net.JoinHostPort(host, strconv.Itoa(port)) + "/" + database + "?appName=test"},
	} {
		cfg.Cleanup = mongostore.CleanupOff
		store, err := mongostore.Open(t.Context(), cfg, storetest.SigningKey)
		if err != nil {
			t.Fatal(err)
		}
		b := f.Browser()
		b.Store = store
		b.Login()
		if err := store.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	n, err := f.Coll.Database().Client().Database(database).Collection("sessions").CountDocuments(t.Context(), bson.D{})
	if err != nil || n != 2 {
		t.Errorf("%d sessions in the collection by default, %v", n, err)
	}
}

// plainAddress returns the first host of a connection string, if nothing else of the string is
// needed to connect to it.
func plainAddress(uri string) (host string, port int, ok bool) {
	opts := options.Client().ApplyURI(uri)
	if opts.Validate() != nil || len(opts.Hosts) == 0 || opts.Auth != nil || opts.TLSConfig != nil || opts.Direct != nil {
		return "", 0, false
	}
	host, digits, err := net.SplitHostPort(opts.Hosts[0])
	if err != nil { // no port
		return opts.Hosts[0], 27017, true
	}
	port, err = strconv.Atoi(digits)
	return host, port, err == nil
}

// TestPlainAddress checks the reading of connection strings that TestOpenAddress depends on.
func TestPlainAddress(t *testing.T) {
	t.Parallel()
	for uri, want := range map[string]string{
		"mongodb://one:1":                              "one 1 true",
		"mongodb://one:1/?appName=x":                   "one 1 true",
		"mongodb://one:1,two:2,three:3/?replicaSet=rs": "one 1 true",
		"mongodb://one":                                "one 27017 true",
		"mongodb://[::1]:3":                            "::1 3 true",
		"mongodb://ada:secret@one:1":                   " 0 false",
		"mongodb://one:1/?tls=true":                    " 0 false",
		"mongodb://one:1/?directConnection=true":       " 0 false",
		"mongodb://one:1,two:2/?directConnection=true": " 0 false",
		"http://one:1":                                 " 0 false",
	} {
		host, port, ok := plainAddress(uri)
		if got := fmt.Sprintf("%s %d %t", host, port, ok); got != want {
			t.Errorf("%s: %s, want %s", uri, got, want)
		}
	}
}

// TestConfigIsCopied: what the caller does with its options and keys later is no matter.
func TestConfigIsCopied(t *testing.T) {
	t.Parallel()
	own := &sessions.Options{Path: "/", MaxAge: 60}
	f := storetest.Setup(t, func(c *mongostore.Config) { c.Options = own })
	key := []byte("a key that will be overwritten soon")
	store, err := mongostore.Open(t.Context(), f.Cfg, key)
	if err != nil {
		t.Fatal(err)
	}
	b := f.Browser()
	b.Store = store
	b.Login()
	clear(key)
	own.MaxAge = -1
	if s := b.Load(); s.IsNew || s.Options.MaxAge != 60 {
		t.Errorf("new %t, MaxAge %d", s.IsNew, s.Options.MaxAge)
	}
}

// TestDefaultOptions: a copy for each caller, to change one of them.
func TestDefaultOptions(t *testing.T) {
	t.Parallel()
	want := sessions.Options{Path: "/", MaxAge: 30 * 24 * 3600, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode}
	own := mongostore.DefaultOptions()
	if *own != want {
		t.Errorf("%+v", *own)
	}
	own.MaxAge = 3600
	if *mongostore.DefaultOptions() != want {
		t.Error("one caller's change is seen by another")
	}
	f := storetest.Setup(t, func(c *mongostore.Config) { c.Options = own })
	b := f.Browser()
	w := b.Visit(storetest.SetValue("user", "ada"))
	if c := w.Result().Cookies()[0]; c.MaxAge != 3600 || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" {
		t.Errorf("cookie: %v", c)
	}
	own.MaxAge = 60 // is not seen by the store
	if got := f.Browser().Load().Options.MaxAge; got != 3600 {
		t.Errorf("MaxAge: %d", got)
	}
}

// TestIdleTimeout sets the MaxAge of the default options, and nothing else of them.
func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.IdleTimeout = time.Hour })
	b := f.Browser()
	w := b.Visit(storetest.SetValue("user", "ada"))
	if c := w.Result().Cookies()[0]; c.MaxAge != 3600 || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" {
		t.Errorf("cookie: %v", c)
	}
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(time.Hour))
	if v := f.Document().Lookup("maxAge"); v.Type != 0 {
		t.Errorf("maxAge: %v", v)
	}
	f.Older(61 * time.Minute)
	b.WantOut("after the idle timeout")
	for what, change := range map[string]func(*mongostore.Config){
		"with Options": func(c *mongostore.Config) { c.IdleTimeout, c.Options = time.Hour, mongostore.DefaultOptions() },
		"negative":     func(c *mongostore.Config) { c.IdleTimeout = -1 },
	} {
		cfg := f.Cfg
		change(&cfg)
		if store, err := mongostore.Open(t.Context(), cfg, signingKey); err == nil || !strings.Contains(err.Error(), "IdleTimeout") {
			t.Errorf("%s: %v", what, err)
			if store != nil {
				_ = store.Close(t.Context())
			}
		}
	}
}

// Names that MongoDB cannot have:
// https://www.mongodb.com/docs/manual/reference/limits/#naming-restrictions
var (
	badDatabases = []string{
		"my.app", "a/b", `a\b`, "a b", `a"b`, "$x", "x$", "a$b", "nul\x00", "\x00", ".", strings.Repeat("d", 64), strings.Repeat("d", 70), strings.Repeat("ü", 32),
	}
	badCollections = []string{"se$sions", "$sessions", "sessions$", "nul\x00", "system.sessions", strings.Repeat("c", 256), strings.Repeat("ü", 128)}
	goodDatabases  = []string{"app", "my-app", "my_app", "App2", strings.Repeat("d", 63), "ünïcode"}
	goodCollection = []string{"sessions", "my.sessions", "_sessions", "my-sessions", "systems", "ünïcode"}
)

// TestNamesThatMongoDBCannotHave: Open fails, and names the setting.
func TestNamesThatMongoDBCannotHave(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	open := func(change func(*mongostore.Config)) error {
		cfg := f.Cfg
		cfg.Timeout = time.Second
		change(&cfg)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		store, err := mongostore.Open(ctx, cfg, signingKey)
		if err == nil {
			_ = store.Close(ctx)
		}
		return err
	}
	for _, bad := range badDatabases {
		if err := open(func(c *mongostore.Config) { c.Database = bad }); err == nil || !strings.Contains(err.Error(), "Database") {
			t.Errorf("Database %.70q: %v", bad, err)
		}
		if _, err := mongostore.New(f.Cfg.Client.Database(bad).Collection("sessions"), signingKey); err == nil {
			t.Errorf("New with database %.70q: no error", bad)
		}
	}
	for _, bad := range []string{"my.app", "a%20b", "$x", "a%22b", strings.Repeat("d", 64)} {
		err := open(func(c *mongostore.Config) {
			c.Client, c.Database, c.URI, c.Timeout = nil, "", "mongodb://127.0.0.1:1/"+bad, 300*time.Millisecond
		})
		if err == nil || errors.Is(err, mongostore.ErrUnavailable) {
			t.Errorf("URI with database %.70q: %v", bad, err)
		}
	}
	for _, bad := range badCollections {
		if err := open(func(c *mongostore.Config) { c.Collection = bad }); err == nil || !strings.Contains(err.Error(), "Collection") {
			t.Errorf("Collection %.70q: %v", bad, err)
		}
		if _, err := mongostore.New(f.Cfg.Client.Database("app").Collection(bad), signingKey); err == nil {
			t.Errorf("New with collection %.70q: no error", bad)
		}
	}
	for _, good := range goodDatabases {
		if _, err := mongostore.New(f.Cfg.Client.Database(good).Collection("sessions"), signingKey); err != nil {
			t.Errorf("New with database %.70q: %v", good, err)
		}
	}
	for _, good := range goodCollection {
		if _, err := mongostore.New(f.Cfg.Client.Database("app").Collection(good), signingKey); err != nil {
			t.Errorf("New with collection %.70q: %v", good, err)
		}
	}
}

// TestHostWithAPort: the port has a setting of its own.
func TestHostWithAPort(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"db:27018", "localhost:27017", "127.0.0.1:27017", "[::1]:27017", "a:1,b:2"} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := mongostore.Open(ctx, mongostore.Config{Host: host, Database: "app", Timeout: 300 * time.Millisecond}, signingKey)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "Host") || strings.Contains(err.Error(), "deadline") {
			t.Errorf("Host %q: %v", host, err)
		}
	}
	// An address of IPv6 is no host with a port.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := mongostore.Open(ctx, mongostore.Config{Host: "::1", Port: 1, Database: "app", Timeout: 300 * time.Millisecond}, signingKey)
	if err == nil || strings.Contains(err.Error(), "Host") {
		t.Errorf("Host ::1: %v", err)
	}
}

// TestOptionsWithoutAPath: they replace all defaults, so they are probably meant to
// change one.
func TestOptionsWithoutAPath(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	for what, options := range map[string]*sessions.Options{
		"MaxAge alone": {MaxAge: 3600},
		"nothing":      {},
		"all but Path": {MaxAge: 3600, HttpOnly: true, Secure: true, Domain: "example.com"},
	} {
		cfg := f.Cfg
		cfg.Options = options
		store, err := mongostore.Open(t.Context(), cfg, signingKey)
		if err == nil {
			_ = store.Close(t.Context())
		}
		if err == nil || !strings.Contains(err.Error(), "DefaultOptions") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
