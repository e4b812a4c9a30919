package storetest

import (
	"context"
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

// The server under the tests: started by the first test that needs one, stopped by
// TestMain, or by its own attention to its standard input if the tests are killed.

type TestServer struct {
	URI         string
	Description string
	Client      *mongo.Client // for looking at the database from outside
	Database    string
	stop        func()
}

var StartServer = sync.OnceValues(func() (*TestServer, error) {
	process, err := testserver.Start()
	if err != nil {
		return nil, err
	}
	client, err := mongo.Connect(options.Client().ApplyURI(process.URI))
	if err != nil {
		process.Stop()
		return nil, err
	}
	s := &TestServer{URI: process.URI, Description: process.Description, Client: client}
	s.Database = fmt.Sprintf("mongostore_test_%d_%d", os.Getpid(), time.Now().UnixMilli())
	s.stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = client.Database(s.Database).Drop(ctx)
		_ = client.Disconnect(ctx)
		process.Stop()
	}
	ServerInUse.Store(s)
	fmt.Fprintln(os.Stderr, "mongostore: tests run against", s.Description) // an Example owns the standard output
	return s, nil
})

var ServerInUse atomic.Pointer[TestServer]

func Server(t testing.TB) *TestServer {
	t.Helper()
	s, err := StartServer()
	if err != nil {
		t.Fatal("start test server:", err)
	}
	return s
}

// needsMongoDB skips a test of what only MongoDB itself has.
func NeedsMongoDB(t testing.TB, what string) {
	t.Helper()
	if s := Server(t); !strings.HasPrefix(s.Description, "MongoDB ") {
		t.Skipf("needs %s, which %s has not: set MONGODB_URI to a MongoDB", what, s.Description)
	}
}

// leftBehind returns the stacks of the goroutines that are running although all tests are
// over, all stores and clients closed, and the server stopped. It waits a little for those
// that are about to end.
func LeftBehind() string {
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

// runMain runs the tests of a package, stops the test server, and exits. It is for TestMain.
// The exit code is 1 if goroutines are left behind.
func Main(m *testing.M) {
	code := m.Run()
	if s := ServerInUse.Load(); s != nil {
		s.stop()
	}
	if left := LeftBehind(); left != "" && code == 0 {
		fmt.Fprintf(os.Stderr, "mongostore: goroutines are left after the tests:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}
