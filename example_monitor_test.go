package mongostore_test

import (
	"context"
	"expvar"
	"fmt"
	"log"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
)

// What the store asks of the server, and how long it takes, is seen through the driver.
func Example_commandMonitor() {
	commands, failures, microseconds := new(expvar.Map), new(expvar.Map), new(expvar.Map)
	monitor := &event.CommandMonitor{ // e.Command and e.Reply would hold values
		Succeeded: func(_ context.Context, e *event.CommandSucceededEvent) {
			commands.Add(e.CommandName, 1)
			microseconds.Add(e.CommandName, e.Duration.Microseconds())
		},
		Failed: func(_ context.Context, e *event.CommandFailedEvent) {
			failures.Add(e.CommandName, 1)
		},
	}

	ctx := context.Background()
	server := exampleServer()
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI).SetMonitor(monitor))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Disconnect(ctx) }()
	store, err := mongostore.Open(ctx, mongostore.Config{
		Client:     client,
		Database:   server.Database,
		Collection: "example_monitor",
		Cleanup:    mongostore.Off,
	}, signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	session := sessions.NewSession(store, "session") // by a request, usually
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
