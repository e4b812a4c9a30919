// Package mongotest provides tests with a server that speaks MongoDB's protocol. It
// needs nothing but Go: no Docker, no installed MongoDB.
//
//	func TestUsers(t *testing.T) {
//		users := mongotest.Database(t).Collection("users")
//		// ...
//	}
//
// [Database] returns an empty database for one test. [Start] returns the connection
// string, for code that connects by itself. [Shared] is for TestMain.
//
// # Which server
//
// The first of these that applies:
//
//  1. The server of the environment variable MONGODB_URI. The tests fail if it cannot
//     be reached.
//  2. A Docker container of the image MONGOSTORE_TEST_IMAGE, by default "mongo:8",
//     as a one-node replica set if the image runs mongod. The tests fail without
//     Docker if MONGOSTORE_TEST=docker or an image is set. If neither is set, Docker
//     is tried.
//  3. The embedded server of package [embedded], which MONGOSTORE_TEST=embedded
//     selects without trying Docker. It is a test double: FerretDB 1.24 on SQLite. It
//     lacks TTL indexes, findAndModify with fields, update pipelines, transactions,
//     change streams, and arrays in arrays.
//
// # How long it runs
//
// The tests of one package, which are one process, share one server. It starts at the
// first call, in a process of its own, and is removed when the process of the tests
// ends, in whatever way: also after a panic, a timeout or a kill. There is nothing to
// stop, and no goroutine of the server runs among those of the tests.
//
// That process is the test binary started once more. It runs the server while its
// packages are initialized, and so never reaches main or TestMain.
//
// The command cmd/mongotest does the same for programs that are not to import this
// module.
package mongotest

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// dropTime is how long it may take to drop a test's database.
const dropTime = 30 * time.Second

// Server is a server to test against.
type Server struct {
	// URI is the connection string. Under MONGODB_URI it may hold a password.
	URI string

	// Description says in one line which server it is, by its own account, and where
	// it comes from: "MongoDB 8.0.4 (docker image mongo:8), replica set rs0". It
	// begins with "MongoDB " or "FerretDB " and holds no secrets.
	Description string
}

// Start returns the connection string of the server that all tests of this process
// share, and starts the server if it does not run yet. Without a server the test fails.
func Start(t testing.TB) string {
	t.Helper()
	server, err := Shared()
	if err != nil {
		t.Fatal(err)
	}
	t.Log("mongotest:", server.Description)
	return server.URI
}

// Database returns an empty database on the server of [Start], with a client of its own.
// When the test ends, the database is dropped and the client disconnected.
func Database(t testing.TB) *mongo.Database {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(Start(t)))
	if err != nil {
		t.Fatal("mongotest:", err)
	}
	db := client.Database("mongotest_" + strings.ToLower(rand.Text()))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), dropTime)
		defer cancel()
		if err := errors.Join(db.Drop(ctx), client.Disconnect(ctx)); err != nil {
			t.Errorf("mongotest: drop %s: %v", db.Name(), err)
		}
	})
	return db
}

// Shared returns the server of [Start] where there is no test to fail: in TestMain, in
// examples, in programs.
func Shared() (Server, error) { return shared() }
