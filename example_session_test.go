package mongostore_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
)

// exampleStore opens a store of the configuration, as the examples' applications do.
func exampleStore(cfg mongostore.Config) *mongostore.Store {
	store, err := mongostore.Open(context.Background(), cfg, signingKey)
	if err != nil {
		log.Fatal(err)
	}
	return store
}

// handle is a handler that gets the session, uses it, and saves it.
func handle(store *mongostore.Store, use func(*sessions.Session)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			log.Fatal(err)
		}
		use(session)
		if err := session.Save(r, w); err != nil {
			log.Fatal(err)
		}
	})
}

// At a login the session gets a fresh ID.
func ExampleStore_Renew() {
	store := exampleStore(exampleConfig("example_renew"))
	defer store.Close(context.Background())

	login := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			http.Error(w, "try again in a moment", http.StatusServiceUnavailable)
			return
		}
		session.Values["user"] = "ada"
		if err := store.Renew(r, w, session); err != nil {
			http.Error(w, "try again in a moment", http.StatusServiceUnavailable)
			return
		}
	})

	_, before := visit(handle(store, func(s *sessions.Session) { s.Values["cart"] = "tea" }), nil)
	_, after := visit(login, before)

	show := func(s *sessions.Session) { fmt.Println(s.IsNew, s.Values["user"], s.Values["cart"]) }
	visit(handle(store, show), before)
	visit(handle(store, show), after)
	// Output:
	// true <nil> <nil>
	// false ada tea
}

// A page that lists a user's devices.
func ExampleStore_Sessions() {
	cfg := exampleConfig("example_sessions")
	cfg.OwnerKey = "user"
	cfg.Describe = func(r *http.Request) map[string]string {
		return map[string]string{"device": r.UserAgent()}
	}
	store := exampleStore(cfg)
	defer store.Close(context.Background())

	for _, device := range []string{"phone", "laptop"} {
		r, w := httptest.NewRequest(http.MethodPost, "/login", nil), httptest.NewRecorder()
		r.Header.Set("User-Agent", device)
		handle(store, func(s *sessions.Session) { s.Values["user"] = 42 }).ServeHTTP(w, r)
	}

	var devices []string
	for info, err := range store.Sessions(context.Background(), 42) {
		if err != nil {
			log.Fatal(err)
		}
		devices = append(devices, info.Details["device"])
	}
	slices.Sort(devices) // the one seen last comes first, but these were at once
	fmt.Println(devices)
	// Output:
	// [laptop phone]
}

// "Sign out everywhere else", and the end of one session among a user's own.
func ExampleStore_RevokeAll() {
	cfg := exampleConfig("example_revoke")
	cfg.OwnerKey = "user"
	store := exampleStore(cfg)
	ctx := context.Background()
	defer store.Close(ctx)

	login := handle(store, func(s *sessions.Session) { s.Values["user"] = "ada" })
	_, here := visit(login, nil)
	visit(login, nil)
	visit(login, nil)

	visit(handle(store, func(s *sessions.Session) {
		n, err := store.RevokeAll(ctx, s.Values["user"], s)
		fmt.Println(n, "ended", err)
	}), here)

	for info, err := range store.Sessions(ctx, "ada") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("one is left;", "to end it:", store.Revoke(ctx, info.Key) == nil)
	}
	// Output:
	// 2 ended <nil>
	// one is left; to end it: true
}

// A session lives a week after its last use, but a month at most.
func ExampleConfig_timeouts() {
	cfg := exampleConfig("example_timeouts")
	cfg.Options = &sessions.Options{Path: "/", MaxAge: 7 * 24 * 60 * 60, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode}
	cfg.AbsoluteTimeout = 30 * 24 * time.Hour
	store := exampleStore(cfg)
	defer store.Close(context.Background())

	_, cookies := visit(handle(store, func(*sessions.Session) {}), nil)
	fmt.Println(time.Duration(cookies[0].MaxAge) * time.Second)
	// Output:
	// 168h0m0s
}

// With Reject, a change that would overwrite another request's is done again.
func ExampleConflictPolicy() {
	cfg := exampleConfig("example_conflict")
	cfg.OnConflict = mongostore.Reject
	store := exampleStore(cfg)
	defer store.Close(context.Background())

	_, cookies := visit(handle(store, func(s *sessions.Session) { s.Values["credit"] = 10 }), nil)

	first := true
	pay := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			session, err := store.New(r, "session") // not Get, which remembers
			if err != nil {
				http.Error(w, "try again in a moment", http.StatusServiceUnavailable)
				return
			}
			if first { // another request comes in between
				first = false
				visit(handle(store, func(s *sessions.Session) { s.Values["credit"] = 7 }), cookies)
			}
			credit, _ := session.Values["credit"].(int)
			session.Values["credit"] = credit - 1
			if err := store.Save(r, w, session); !errors.Is(err, mongostore.ErrConflict) {
				return
			}
			fmt.Println("once more")
		}
	})
	visit(pay, cookies)
	visit(handle(store, func(s *sessions.Session) { fmt.Println(s.Values["credit"]) }), cookies)
	// Output:
	// once more
	// 6
}

// A web socket, or a job, changes a session whose ID it was given.
func ExampleStore_Fetch() {
	store := exampleStore(exampleConfig("example_fetch"))
	ctx := context.Background()
	defer store.Close(ctx)

	var id string
	_, cookies := visit(handle(store, func(s *sessions.Session) { s.Values["progress"] = 0 }), nil)
	visit(handle(store, func(s *sessions.Session) { id = s.ID }), cookies)

	session, err := store.Fetch(ctx, "session", id)
	if err != nil {
		log.Fatal(err)
	}
	session.Values["progress"] = 100
	if err := store.Persist(ctx, session); err != nil {
		log.Fatal(err)
	}
	visit(handle(store, func(s *sessions.Session) { fmt.Println(s.Values["progress"]) }), cookies)

	if err := store.Remove(ctx, session); err != nil {
		log.Fatal(err)
	}
	_, err = store.Fetch(ctx, "session", id)
	fmt.Println(errors.Is(err, mongostore.ErrNotFound))
	// Output:
	// 100
	// true
}

// Values are encrypted in the database. To rotate, put a new key in front.
func ExampleConfig_sealing() {
	key := make([]byte, 32) // from where the application keeps its secrets
	if _, err := rand.Read(key); err != nil {
		log.Fatal(err)
	}
	cfg := exampleConfig("example_sealing")
	cfg.SealKeys = [][]byte{key}
	store := exampleStore(cfg)
	ctx := context.Background()
	defer store.Close(ctx)

	_, cookies := visit(handle(store, func(s *sessions.Session) { s.Values["diagnosis"] = "measles" }), nil)

	var doc bson.Raw
	if err := cfg.Client.Database(cfg.Database).Collection(cfg.Collection).FindOne(ctx, bson.D{}).Decode(&doc); err != nil {
		log.Fatal(err)
	}
	fmt.Println("in the database:", strings.Contains(doc.String(), "measles"))
	visit(handle(store, func(s *sessions.Session) { fmt.Println("in the session:", s.Values["diagnosis"]) }), cookies)
	// Output:
	// in the database: false
	// in the session: measles
}

// An application leaves CookieStore and logs nobody out.
func ExampleConfig_migrating() {
	old := sessions.NewCookieStore(signingKey)
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	session, err := old.Get(r, "session")
	if err != nil {
		log.Fatal(err)
	}
	session.Values["user"] = "ada"
	if err := session.Save(r, w); err != nil {
		log.Fatal(err)
	}

	cfg := exampleConfig("example_migrating")
	cfg.MigrateFrom = old
	store := exampleStore(cfg)
	defer store.Close(context.Background())

	_, cookies := visit(handle(store, func(s *sessions.Session) { fmt.Println(s.Values["user"]) }), w.Result().Cookies())
	visit(handle(store, func(s *sessions.Session) { fmt.Println(s.Values["user"], len(s.ID) > 0) }), cookies)
	// Output:
	// ada
	// ada true
}

// Visitors without a session, and bots, make no documents.
func ExampleConfig_skipEmpty() {
	cfg := exampleConfig("example_skip_empty")
	cfg.SkipEmpty = true
	store := exampleStore(cfg)
	defer store.Close(context.Background())

	_, cookies := visit(handle(store, func(*sessions.Session) {}), nil)
	fmt.Println(len(cookies), "cookies")
	_, cookies = visit(handle(store, func(s *sessions.Session) { s.AddFlash("Welcome") }), nil)
	fmt.Println(len(cookies), "cookie")
	// Output:
	// 0 cookies
	// 1 cookie
}
