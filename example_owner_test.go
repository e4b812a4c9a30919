package mongostore_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"slices"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// A page that lists a user's devices, and tells which one the user is looking at.
func ExampleStore_Sessions() {
	cfg := exampleConfig("sessions") // Database and Collection
	cfg.OwnerKey = "user"
	cfg.Describe = func(r *http.Request) map[string]string {
		return map[string]string{"device": r.UserAgent()}
	}
	ctx := context.Background()
	store, err := mongostore.Open(ctx, cfg, signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	site := http.NewServeMux()
	site.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			unavailable(w)
			return
		}
		session.Values["user"] = 42
		if err := store.Renew(r, w, session); err != nil {
			unavailable(w)
		}
	})
	site.HandleFunc("/devices", func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			unavailable(w)
			return
		}
		var devices []string
		for info, err := range store.Sessions(r.Context(), session.Values["user"]) {
			if err != nil {
				unavailable(w)
				return
			}
			device := info.Details["device"]
			if info.Is(session) {
				device += " (this one)"
			}
			devices = append(devices, device)
		}
		slices.Sort(devices) // the one seen last comes first, but these came at once
		fmt.Fprintln(w, devices)
	})

	phone, laptop := newVisitor(site), newVisitor(site)
	phone.device, laptop.device = "phone", "laptop"
	phone.get("/login")
	laptop.get("/login")
	laptop.get("/devices")
	// Output:
	// [laptop (this one) phone]
}

// One session is ended from a list. The key comes from a form, so it is looked for among
// the user's own.
func ExampleStore_Revoke() {
	cfg := exampleConfig("revoke") // Database and Collection
	cfg.OwnerKey = "user"
	ctx := context.Background()
	store, err := mongostore.Open(ctx, cfg, signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	signOut := func(user any, key string) error {
		for info, err := range store.Sessions(ctx, user) {
			if err != nil {
				return err
			}
			if info.Key == key {
				return store.Revoke(ctx, key)
			}
		}
		return nil // gone already, or somebody else's
	}

	session := sessions.NewSession(store, "session") // by a request, usually
	session.Values["user"] = "ada"
	if err := store.Persist(ctx, session); err != nil {
		log.Fatal(err)
	}
	for info, err := range store.Sessions(ctx, "ada") {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("by bob:", signOut("bob", info.Key), count(store))
		fmt.Println("by ada:", signOut("ada", info.Key), count(store))
	}
	// Output:
	// by bob: <nil> 1
	// by ada: <nil> 0
}

func count(store *mongostore.Store) int64 {
	n, err := store.Count(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	return n
}

// "Sign out everywhere else", as after a change of the password. Without the exception it
// is also how a user is forgotten, or locked out.
func ExampleStore_RevokeAll() {
	cfg := exampleConfig("revoke_all") // Database and Collection
	cfg.OwnerKey = "user"
	ctx := context.Background()
	store, err := mongostore.Open(ctx, cfg, signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	site := http.NewServeMux()
	site.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			unavailable(w)
			return
		}
		if r.URL.Path == "/login" {
			session.Values["user"] = "ada"
			if err := store.Renew(r, w, session); err != nil {
				unavailable(w)
			}
			return
		}
		fmt.Fprintln(w, r.URL.Path, session.Values["user"])
	})
	site.HandleFunc("/password", func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			unavailable(w)
			return
		}
		n, err := store.RevokeAll(r.Context(), session.Values["user"], session)
		if err != nil {
			unavailable(w)
			return
		}
		fmt.Fprintln(w, n, "other sessions ended")
	})

	phone, laptop, library := newVisitor(site), newVisitor(site), newVisitor(site)
	for _, v := range []*visitor{phone, laptop, library} {
		v.get("/login")
	}
	laptop.get("/password")
	laptop.get("/mail")
	library.get("/mail")
	// Output:
	// 2 other sessions ended
	// /mail ada
	// /mail <nil>
}
