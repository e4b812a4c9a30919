package mongostore_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
)

// Open connects, and says at once if the server does not answer.
func ExampleOpen() {
	server := exampleServer()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	store, err := mongostore.Open(ctx, mongostore.Config{
		URI:        server.URI,      // such as "mongodb://db1,db2,db3/?replicaSet=rs0"
		Database:   server.Database, // such as "app"
		Collection: "example_open",  // "sessions" by default
		OwnerKey:   "user_id",       // Values["user_id"] is whose session it is
		Cleanup:    mongostore.Sweep,
	}, signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(context.Background())

	n, err := store.Count(ctx)
	fmt.Println(n, "sessions", err)
	// Output:
	// 0 sessions <nil>
}

// New makes a store of a collection that the application has already. It does no
// network I/O, and the client stays the application's to disconnect.
func ExampleNew() {
	server := exampleServer()
	collection := server.Client.Database(server.Database).Collection("example_new")

	store, err := mongostore.New(collection, signingKey)
	if err != nil {
		log.Fatal(err)
	}
	store.Options.SameSite = http.SameSiteStrictMode
	store.MaxAge(24 * 60 * 60) // seconds

	session, err := store.New(httptest.NewRequest(http.MethodGet, "/", nil), "session")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(session.Options.MaxAge, session.Options.HttpOnly, session.IsNew)
	// Output:
	// 86400 true true
}

// Signing keys are replaced in three steps, each on all processes before the next, and
// nobody is logged out. An encryption key would stand in the place of nil.
func ExampleNew_keyRotation() {
	server := exampleServer()
	collection := server.Client.Database(server.Database).Collection("example_keys")
	oldKey, newKey := securecookie.GenerateRandomKey(32), securecookie.GenerateRandomKey(32)

	ada := newVisitor(nil)
	for _, keys := range [][][]byte{
		{oldKey},              // how it was
		{oldKey, nil, newKey}, // 1. the new key is accepted
		{newKey, nil, oldKey}, // 2. and signs: each Save sends a cookie of its own
		{newKey},              // 3. when the old cookies have expired
	} {
		store, err := mongostore.New(collection, keys...)
		if err != nil {
			log.Fatal(err)
		}
		ada.site = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			session, err := store.Get(r, "session")
			if err != nil {
				unavailable(w)
				return
			}
			visits, _ := session.Values["visits"].(int)
			session.Values["visits"] = visits + 1
			if err := session.Save(r, w); err != nil {
				unavailable(w)
				return
			}
			fmt.Fprintln(w, "visit", visits+1)
		})
		ada.get("/")
	}
	// Output:
	// visit 1
	// visit 2
	// visit 3
	// visit 4
}

// A session lives a week after its last use, but a month at most.
func ExampleConfig_timeouts() {
	cfg := exampleConfig("timeouts") // Database and Collection
	cfg.Options = &sessions.Options{Path: "/", MaxAge: 7 * 24 * 60 * 60, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode}
	cfg.AbsoluteTimeout = 30 * 24 * time.Hour
	cfg.OwnerKey = "user"
	ctx := context.Background()
	store, err := mongostore.Open(ctx, cfg, signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	session, err := store.New(httptest.NewRequest(http.MethodGet, "/", nil), "session")
	if err != nil {
		log.Fatal(err)
	}
	session.Values["user"] = "ada"
	if err := store.Persist(ctx, session); err != nil {
		log.Fatal(err)
	}
	for info, err := range store.Sessions(ctx, "ada") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(info.ExpiresAt.Sub(info.CreatedAt))
	}
	// Output:
	// 168h0m0s
}

// Middleware that saves every session makes no documents of visitors who have none,
// bots above all.
func ExampleConfig_skipEmpty() {
	cfg := exampleConfig("skip_empty") // Database and Collection
	cfg.SkipEmpty = true
	ctx := context.Background()
	store, err := mongostore.Open(ctx, cfg, signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	site := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			unavailable(w)
			return
		}
		if r.URL.Path == "/subscribe" {
			session.AddFlash("Welcome")
		}
		if err := session.Save(r, w); err != nil {
			unavailable(w)
			return
		}
		n, err := store.Count(ctx)
		fmt.Fprintln(w, n, "sessions", err)
	})
	newVisitor(site).get("/")
	newVisitor(site).get("/subscribe")
	// Output:
	// 0 sessions <nil>
	// 1 sessions <nil>
}

// An application leaves CookieStore, and nobody is logged out.
func ExampleConfig_migrating() {
	old := sessions.NewCookieStore(signingKey) // with the keys that it had

	cfg := exampleConfig("migrating") // Database and Collection
	cfg.MigrateFrom = old
	ctx := context.Background()
	store, err := mongostore.Open(ctx, cfg, signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	// The same handler, before and after.
	site := func(store sessions.Store) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			session, err := store.Get(r, "session")
			if err != nil {
				unavailable(w)
				return
			}
			visits, _ := session.Values["visits"].(int)
			session.Values["visits"] = visits + 1
			if err := session.Save(r, w); err != nil {
				unavailable(w)
				return
			}
			fmt.Fprintln(w, "visit", visits+1)
		})
	}
	ada := newVisitor(site(old))
	ada.get("/")
	ada.site = site(store)
	ada.get("/")
	ada.get("/")
	n, err := store.Count(ctx)
	fmt.Println(n, "session", err)
	// Output:
	// visit 1
	// visit 2
	// visit 3
	// 1 session <nil>
}

// A health check. Open and Save only warn of an index that cannot be made, because
// sessions work without; EnsureIndexes returns what the server said.
func ExampleStore_EnsureIndexes() {
	cfg := exampleConfig("indexes") // Database and Collection
	cfg.OwnerKey = "user"           // an index that finds a user's sessions
	ctx := context.Background()
	store, err := mongostore.Open(ctx, cfg, signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	site := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := store.EnsureIndexes(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "healthy")
	})
	newVisitor(site).get("/health")
	// Output:
	// healthy
}

// With Cleanup Off, expired sessions are deleted when the application says so.
func ExampleStore_DeleteExpired() {
	cfg := exampleConfig("delete_expired") // Database and Collection
	cfg.Cleanup = mongostore.Off
	ctx := context.Background()
	store, err := mongostore.Open(ctx, cfg, signingKey)
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

// With SealKeys, who reads the database, or a backup, does not read the values.
func ExampleConfig_sealing() {
	cfg := exampleConfig("sealing")                             // Database and Collection
	cfg.SealKeys = [][]byte{securecookie.GenerateRandomKey(32)} // from where the application keeps its secrets
	ctx := context.Background()
	store, err := mongostore.Open(ctx, cfg, signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	session := sessions.NewSession(store, "session") // by a request, usually
	session.Values["diagnosis"] = "measles"
	if err := store.Persist(ctx, session); err != nil {
		log.Fatal(err)
	}
	stored, err := cfg.Client.Database(cfg.Database).Collection(cfg.Collection).FindOne(ctx, bson.D{}).Raw()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("in the database:", strings.Contains(string(stored), "measles"))
	session, err = store.Fetch(ctx, "session", session.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("in the session:", session.Values["diagnosis"])
	// Output:
	// in the database: false
	// in the session: measles
}

// Keys that seal are replaced in three steps, each on all processes before the next.
func ExampleConfig_sealingRotation() {
	oldKey, newKey := securecookie.GenerateRandomKey(32), securecookie.GenerateRandomKey(32)
	ctx := context.Background()
	cfg := exampleConfig("sealing_rotation") // Database and Collection

	var id string
	for _, keys := range [][][]byte{
		{oldKey},         // how it was
		{oldKey, newKey}, // 1. what the new key seals can be opened
		{newKey, oldKey}, // 2. and it seals what is written from now on
		{newKey},         // 3. when the sessions from before have ended
	} {
		cfg.SealKeys = keys
		store, err := mongostore.Open(ctx, cfg, signingKey)
		if err != nil {
			log.Fatal(err)
		}
		session := sessions.NewSession(store, "session")
		if id != "" {
			if session, err = store.Fetch(ctx, "session", id); err != nil {
				log.Fatal(err)
			}
		}
		n, _ := session.Values["n"].(int)
		session.Values["n"] = n + 1
		if err := store.Persist(ctx, session); err != nil {
			log.Fatal(err)
		}
		id = session.ID
		fmt.Println(session.Values["n"])
		if err := store.Close(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 1
	// 2
	// 3
	// 4
}
