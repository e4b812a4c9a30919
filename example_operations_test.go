package mongostore_test

import (
	"context"
	"expvar"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
)

// A health check. It fails while the primary does not respond.
func ExampleStore_Ping() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI: os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	site := http.NewServeMux()
	site.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := store.Ping(ctx); err != nil {
			http.Error(w, err.Error(), mongostore.StatusCode(err)) // 503
			return
		}
		fmt.Fprintln(w, "healthy")
	})

	w := httptest.NewRecorder()
	site.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/health", nil))
	fmt.Print(w.Code, " ", w.Body)
	// Output:
	// 200 healthy
}

// A deployment creates the indexes, with a database user who is permitted to. Open and Save only
// log a warning for an index that cannot be created, because sessions work without it.
func ExampleStore_EnsureIndexes() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI:        os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
		Collection: "indexed",
		OwnerKey:   "user",                  // an index that finds a user's sessions
		Cleanup:    mongostore.CleanupSweep, // and no TTL index
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	fmt.Println(store.EnsureIndexes(ctx))
	// Output:
	// <nil>
}

// With CleanupOff, a job of the application deletes expired sessions.
func ExampleStore_DeleteExpired() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI:        os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
		Collection: "swept",
		Cleanup:    mongostore.CleanupOff,
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	nightly, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	n, err := store.DeleteExpired(nightly)
	fmt.Println(n, "deleted", err)
	// Output:
	// 0 deleted <nil>
}

// The driver's monitor sees which commands the store sends, and how long they take.
func Example_commandMonitor() {
	commands, failures, microseconds := new(expvar.Map), new(expvar.Map), new(expvar.Map)
	monitor := &event.CommandMonitor{ // e.Command and e.Reply hold values: do not log them
		Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
			commands.Add(e.CommandName, 1)
			microseconds.Add(e.CommandName, e.Duration.Microseconds())
		},
		Failed: func(_ context.Context, e *event.CommandFailedEvent) {
			failures.Add(e.CommandName, 1)
		},
	}

	ctx := context.Background()
	client, err := mongo.Connect(options.Client().ApplyURI(os.Getenv("MONGODB_URI")).SetMonitor(monitor))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Disconnect(ctx) }()
	store, err := mongostore.Open(ctx, mongostore.Config{
		Client:   client,
		Database: os.Getenv("MONGODB_DATABASE"), // such as "app"
		Cleanup:  mongostore.CleanupOff,
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	session := sessions.NewSession(store, "session") // in a handler: store.Get(r, "session")
	session.Options = mongostore.DefaultOptions()
	for n := range 3 {
		session.Values["n"] = n
		if err := store.Persist(ctx, session); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("inserts:", commands.Get("insert"), "updates:", commands.Get("update"), "failures:", failures)
	fmt.Println("timed:", microseconds.Get("insert") != nil)
	// Output:
	// inserts: 1 updates: 2 failures: {}
	// timed: true
}
