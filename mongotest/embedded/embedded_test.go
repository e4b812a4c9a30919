package embedded_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore/mongotest/embedded"
)

// patience is how long a test waits for something that should come soon.
const patience = 30 * time.Second

func TestVersion(t *testing.T) {
	t.Parallel()
	server := start(t, embedded.Config{})
	var build struct {
		Version string `bson:"ferretdbVersion"`
	}
	command := bson.D{{Key: "buildInfo", Value: 1}}
	if err := connect(t, server).Database("admin").RunCommand(t.Context(), command).Decode(&build); err != nil {
		t.Fatal(err)
	}
	if build.Version != server.Version() {
		t.Errorf("buildInfo says %q, Version %q", build.Version, server.Version())
	}
	mod, err := os.ReadFile(filepath.Join("..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "github.com/FerretDB/FerretDB " + server.Version() + "\n"; !strings.Contains(string(mod), want) {
		t.Errorf("Version is %q, but go.mod has no %q", server.Version(), want)
	}
}

func TestDataSurviveRestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not made yet", "with a space")
	for round := range 3 {
		server := start(t, embedded.Config{Dir: dir})
		coll := connect(t, server).Database("test").Collection("restart")
		if count, err := coll.CountDocuments(t.Context(), bson.D{}); err != nil || count != int64(round) {
			t.Fatalf("round %d: %d documents (error %v)", round, count, err)
		}
		if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: round}}); err != nil {
			t.Fatal(err)
		}
		if err := server.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTemporaryFolderIsRemoved(t *testing.T) { // not parallel: it sets an environment variable
	temp := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP"} { // Unix, Windows
		t.Setenv(name, temp)
	}
	count := func() int {
		entries, err := os.ReadDir(temp)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	server := start(t, embedded.Config{})
	if count() != 1 {
		t.Errorf("%d temporary folders while the server runs", count())
	}
	for range 2 { // the second Close is harmless
		if err := server.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if count() != 0 {
		t.Errorf("%d temporary folders after Close", count())
	}
	if _, err := embedded.Start(t.Context(), embedded.Config{Addr: "256.0.0.1:0"}); err == nil {
		t.Error("started at an impossible address")
	}
	if count() != 0 {
		t.Errorf("%d temporary folders after a failed Start", count())
	}
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	running := start(t, embedded.Config{})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		cfg  embedded.Config
	}{
		{"address in use", embedded.Config{Addr: address(running)}},
		{"not a folder", embedded.Config{Dir: file}},
		{"folder with a question mark", embedded.Config{Dir: filepath.Join(t.TempDir(), "what?")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server, err := embedded.Start(t.Context(), tt.cfg)
			if err == nil {
				_ = server.Close(t.Context())
				t.Fatal("started")
			}
			if !strings.HasPrefix(err.Error(), "mongotest: ") {
				t.Errorf("error %q does not say where it comes from", err)
			}
		})
	}
}

func TestCloseLeavesNoGoroutines(t *testing.T) { // not parallel: it counts goroutines
	// The first server starts what stays for good, such as the SQL driver's.
	if err := start(t, embedded.Config{}).Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()

	server := start(t, embedded.Config{})
	client, result := await(t, server, "closing")
	idle, stalled := dial(t, server), dial(t, server)
	if _, err := stalled.Write([]byte{200, 0, 0, 0, 1}); err != nil {
		t.Fatal(err)
	}

	// Nothing of this ends by itself: a getMore that waits for a document, a
	// client that says nothing, one that stopped in the middle of a message.
	if err := server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, _ = idle.Close(), stalled.Close()
	<-result
	if err := client.Disconnect(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if n := runtime.NumGoroutine(); n > before {
			stacks := make([]byte, 1<<20)
			return fmt.Errorf("%d goroutines, %d before:\n%s", n, before, stacks[:runtime.Stack(stacks, true)])
		}
		return nil
	})
}

// start starts a server that is closed when the test ends.
func start(t *testing.T, cfg embedded.Config) *embedded.Server {
	t.Helper()
	server, err := embedded.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return server
}

// connect returns a client that gives up in time.
func connect(t *testing.T, server *embedded.Server, opts ...*options.ClientOptions) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(append(opts, options.Client().ApplyURI(server.URI()).SetTimeout(patience))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	return client
}

// eventually waits until f returns nil.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.After(patience)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for err := f(); err != nil; err = f() {
		select {
		case <-deadline:
			t.Fatal(err)
		case <-poll.C:
		}
	}
}
