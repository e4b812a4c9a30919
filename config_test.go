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
	cfg := mongostore.Config{URI: storetest.Server(t).URI, Database: f.Coll.Database().Name(), Collection: f.Coll.Name(), Cleanup: mongostore.Off}
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
		cfg.Cleanup = mongostore.Off
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
