// Package storetest holds what the tests of this repository share: the test server, a store
// on a collection of its own, a browser, faults on the wire, and a server that follows a
// script.
package storetest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore/internal/testserver"
)

// TestServer is the server under the tests of a package. The first test that needs it starts
// it, and [Main] stops it. If the tests are killed, the server stops by itself.
type TestServer struct {
	URI         string
	Description string        // such as "MongoDB 8.0.0 (MONGODB_URI), standalone"
	Client      *mongo.Client // its commands are not logged, and faults do not reach it
	Database    string        // is dropped at the end

	process *testserver.Server
}

// Server returns the server under the tests. It skips the test if there can be none because
// this is the root module without the rest of the repository.
func Server(t testing.TB) *TestServer {
	t.Helper()
	s, err := StartServer()
	if errors.Is(err, testserver.ErrAbsent) {
		t.Skip("needs a test server:", err)
	}
	if err != nil {
		t.Fatal("start test server:", err)
	}
	return s
}

// StartServer is [Server] for an Example, which has no testing.TB.
func StartServer() (*TestServer, error) { return startServer() }

var startServer = sync.OnceValues(func() (*TestServer, error) {
	process, err := testserver.Start()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client, err := mongo.Connect(options.Client().ApplyURI(process.URI))
	if err == nil {
		err = client.Ping(ctx, nil)
	}
	if err != nil {
		process.Stop()
		return nil, err
	}
	s := &TestServer{
		URI:         process.URI,
		Description: process.Description,
		Client:      client,
		Database:    fmt.Sprintf("mongostore_test_%d_%d", os.Getpid(), time.Now().UnixMilli()),
		process:     process,
	}
	started.Store(s)
	fmt.Fprintln(os.Stderr, "mongostore: tests run against", s.Description) // an Example owns the standard output
	return s, nil
})

var started atomic.Pointer[TestServer]

func (s *TestServer) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := errors.Join(s.Client.Database(s.Database).Drop(ctx), s.Client.Disconnect(ctx))
	s.process.Stop()
	return err
}

// NeedsMongoDB skips a test of what only MongoDB itself has.
func NeedsMongoDB(t testing.TB, what string) {
	t.Helper()
	if s := Server(t); !strings.HasPrefix(s.Description, "MongoDB ") {
		t.Skipf("needs %s, which %s has not: set MONGODB_URI to a MongoDB", what, s.Description)
	}
}

// NeedsRepository skips a test that looks at more of the repository than the root module, if
// the rest is absent.
func NeedsRepository(t testing.TB) {
	t.Helper()
	if err := testserver.Check(); err != nil {
		t.Skip("needs the whole repository:", err)
	}
}

// collections counts the collections that tests have asked for.
var collections atomic.Int64

// Collection returns the name of a collection that no other test uses.
func Collection(prefix string) string {
	return fmt.Sprint(prefix, collections.Add(1))
}

// Main runs the tests of a package, stops the test server, and exits. TestMain calls it. The
// exit code is 1 also if the server could not be cleaned up, or if goroutines are left. Where
// there can be no test server, the Examples are skipped: they have no other way to say so.
func Main(m *testing.M) {
	flag.Parse()
	if err := testserver.Check(); err != nil {
		fmt.Fprintln(os.Stderr, "mongostore: the Examples are skipped:", err)
		skip := flag.Lookup("test.skip")
		if err := skip.Value.Set(strings.TrimPrefix(skip.Value.String()+"|^Example", "|")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if s := started.Load(); s != nil {
		if err := s.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "mongostore: stop test server:", err)
			code = max(code, 1)
		}
	}
	if left := leftBehind(); left != "" {
		fmt.Fprintf(os.Stderr, "mongostore: goroutines are left after the tests:\n%s\n", left)
		code = max(code, 1)
	}
	os.Exit(code)
}

// leftBehind returns the stacks of the goroutines that are running although all tests have
// ended, all stores and clients are closed, and the server has stopped. It waits a little for
// those that are about to end.
func leftBehind() string {
	var left []string
	for range 100 {
		buf := make([]byte, 4<<20)
		left = nil
		// The first is this one.
		for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")[1:] {
			if !strings.Contains(stack, "os/signal.") && !strings.Contains(stack, "runtime.ensureSigM") {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	return strings.Join(left, "\n\n")
}
