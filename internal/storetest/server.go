// Package storetest contains the helpers that the tests of this repository share: the test
// server, a store on its own collection, a browser, faults on the wire, and a server that
// follows a script.
package storetest

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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

// Server returns the server under the tests. It skips the test if no server is possible because
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
	fmt.Fprintln(os.Stderr, "mongostore: tests run against", s.Description) // standard output belongs to the Examples
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

// NeedsMongoDB skips a test of a feature that only MongoDB itself has.
func NeedsMongoDB(t testing.TB, what string) {
	t.Helper()
	if s := Server(t); !strings.HasPrefix(s.Description, "MongoDB ") {
		t.Skipf("needs %s, which %s has not: set MONGODB_URI to a MongoDB", what, s.Description)
	}
}

// NeedsRepository skips a test that reads files outside the root module, if they are absent.
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
// exit code is also 1 if the server could not be cleaned up, or if goroutines are left. If no
// test server is possible, the Examples are skipped, since an Example cannot skip itself.
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

// MainWithExamples is [Main] for a package whose Examples connect as an application does: to
// MONGODB_URI, which names a database, or to MONGODB_DATABASE, with the key SESSION_KEY. It sets
// these variables if an Example is about to run.
func MainWithExamples(m *testing.M) {
	flag.Parse()
	if testserver.Check() == nil && runsExamples() {
		s, err := StartServer()
		if err == nil {
			err = errors.Join(
				os.Setenv("MONGODB_URI", withDatabase(s.URI, s.Database)),
				os.Setenv("MONGODB_DATABASE", s.Database),
				os.Setenv("SESSION_KEY", string(SigningKey)))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "mongostore: start test server:", err)
			os.Exit(1)
		}
	}
	Main(m)
}

var exampleFunc = regexp.MustCompile(`(?m)^func (Example\w*)\(`)

// runsExamples reports whether an Example of the package in the working directory is among the
// tests that the flags select.
func runsExamples() bool {
	value := func(name string) string { return flag.Lookup(name).Value.String() }
	if value("test.list") != "" || value("test.fuzzworker") == "true" {
		return false
	}
	pattern, _, _ := strings.Cut(value("test.run"), "/")
	run, err := regexp.Compile(pattern)
	if err != nil {
		return false // go test reports it
	}
	files, _ := filepath.Glob("example*_test.go")
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		for _, match := range exampleFunc.FindAllSubmatch(source, -1) {
			if run.Match(match[1]) {
				return true
			}
		}
	}
	return false
}

// withDatabase returns the connection string with another database. The database that
// authenticates the user stays the same.
func withDatabase(uri, database string) string {
	uri, query, _ := strings.Cut(uri, "?")
	scheme, address, _ := strings.Cut(uri, "://")
	hosts, before, _ := strings.Cut(address, "/")
	if strings.Contains(hosts, "@") && !strings.Contains(strings.ToLower("&"+query), "&authsource=") {
		query = strings.TrimPrefix(query+"&authSource="+cmp.Or(before, "admin"), "&")
	}
	if query != "" {
		query = "?" + query
	}
	return scheme + "://" + hosts + "/" + database + query
}

// leftBehind returns the stacks of the goroutines that are running although all tests have
// ended, all stores and clients are closed, and the server has stopped. It waits briefly for
// goroutines that are about to end.
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
