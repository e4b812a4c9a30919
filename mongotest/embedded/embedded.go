// Package embedded serves MongoDB's wire protocol from inside this process:
// FerretDB with its SQLite handler, and in front of it a relay that makes its
// updates atomic, as MongoDB's are. It needs neither Docker nor a download.
//
//	server, err := embedded.Start(ctx, embedded.Config{})
//	if err != nil {
//		return err
//	}
//	defer server.Close(ctx)
//	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
//
// It is made for tests and for trying things out. It has no TTL indexes, no
// transactions, no change streams and no replica set.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/FerretDB/FerretDB/build/version"
	"github.com/FerretDB/FerretDB/ferretdb"
)

// ferretVersion is the version that go.mod requires. FerretDB does not know its
// own when it is part of another program.
const ferretVersion = "v1.24.0"

// newFerretDB returns an instance. One at a time: New writes to global state.
func newFerretDB(cfg *ferretdb.Config) (*ferretdb.FerretDB, error) {
	newMutex.Lock()
	defer newMutex.Unlock()
	reportVersion()
	return ferretdb.New(cfg)
}

var (
	newMutex sync.Mutex

	// reportVersion lets buildInfo answer with the version, instead of "unknown".
	reportVersion = sync.OnceFunc(func() { version.Get().Version = ferretVersion })
)

// loopback is an address on which any free port is taken.
const loopback = "127.0.0.1:0"

// Config says where a [Server] listens and keeps its data. The zero value works.
type Config struct {
	// Dir is the folder of the data, made if it is missing. A server started
	// later with the same Dir finds the data again; two at once must not share
	// it. If empty, a temporary folder is used and removed by [Server.Close].
	Dir string

	// Addr is the TCP address to listen on. If empty, "127.0.0.1:0" is used: a
	// free port, reachable from this machine only. There is no authentication.
	Addr string
}

// Server is a running server. Its methods may be called by many goroutines.
type Server struct {
	relay *relay
	stop  context.CancelFunc
	ended chan struct{} // closed once FerretDB has let go of its files
	temp  string        // folder to remove at Close, if any

	once sync.Once
	err  error // of the one Close
}

// Start starts a server. The context bounds the start alone; the server runs
// until [Server.Close].
func Start(ctx context.Context, cfg Config) (_ *Server, err error) {
	s := &Server{ended: make(chan struct{})}
	dir := cfg.Dir
	if dir == "" {
		if s.temp, err = os.MkdirTemp("", "mongotest-"); err != nil {
			return nil, fmt.Errorf("mongotest: data folder: %w", err)
		}
		dir = s.temp
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.removeTemp())
		}
	}()
	location, err := sqliteURL(dir)
	if err != nil {
		return nil, fmt.Errorf("mongotest: data folder: %w", err)
	}

	addr := cfg.Addr
	if addr == "" {
		addr = loopback
	}
	// The relay's address is the part that can be taken already, so it comes
	// first: FerretDB has no way back between New and Run.
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("mongotest: %w", err)
	}

	db, err := newFerretDB(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: loopback},
		Handler:   "sqlite",
		SQLiteURL: location,
		// Below this level FerretDB tells of every connection, and of every
		// command that fails as it should.
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mongotest: FerretDB: %w", err), listener.Close())
	}
	// FerretDB made this URI of the address it listens on.
	backend := strings.Trim(strings.TrimPrefix(db.MongoDBURI(), "mongodb://"), "/")

	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go func() {
		defer close(s.ended)
		_ = db.Run(running) // always nil
	}()
	s.relay = newRelay(running, listener, backend)
	return s, nil
}

// URI returns the connection string of the server.
func (s *Server) URI() string {
	host, port, err := net.SplitHostPort(s.relay.listener.Addr().String())
	if ip := net.ParseIP(host); err == nil && ip.IsUnspecified() {
		host = "localhost" // listens everywhere, but nobody can dial "everywhere"
	}
	return (&url.URL{Scheme: "mongodb", Host: net.JoinHostPort(host, port), Path: "/"}).String()
}

// Version returns FerretDB's version, such as "v1.24.0".
func (s *Server) Version() string { return ferretVersion }

// Close stops the server, waits until its files are closed, and removes them
// if they are temporary. Commands under way are finished first; once the
// context is done, they are cut off. Only the first call does anything, later
// ones return its result.
func (s *Server) Close(ctx context.Context) error {
	s.once.Do(func() {
		s.relay.close(ctx)
		// With the relay's connections gone nothing keeps FerretDB any longer.
		s.stop()
		<-s.ended
		s.err = s.removeTemp()
	})
	return s.err
}

func (s *Server) removeTemp() error {
	if s.temp == "" {
		return nil
	}
	if err := os.RemoveAll(s.temp); err != nil {
		return fmt.Errorf("mongotest: data folder: %w", err)
	}
	return nil
}

// sqliteURL creates the folder and returns its URL in the form that FerretDB expects.
func sqliteURL(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	dir = filepath.ToSlash(dir)
	// FerretDB hands the path to SQLite as part of a URL, but does not escape it.
	if strings.ContainsAny(dir, "?#%") {
		return "", fmt.Errorf("%q: the path must not contain any of ? # %%", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	// With its write-ahead log, which FerretDB turns on, SQLite needs no sync
	// at every commit to survive a crash of the process.
	return "file:" + strings.TrimSuffix(dir, "/") + "/?_pragma=synchronous(normal)", nil
}
