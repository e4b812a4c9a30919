package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"

	"github.com/mongostore/mongostore"
)

// A session ends with a negative MaxAge, wherever its cookie has been copied to.
func ExampleStore_Save_logout() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, exampleConfig("logout"), signingKey)
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
		switch r.URL.Path {
		case "/login":
			session.Values["user"] = "ada"
		case "/logout":
			session.Options.MaxAge = -1
		}
		if err := session.Save(r, w); err != nil {
			unavailable(w)
			return
		}
		fmt.Fprintln(w, r.URL.Path, session.Values["user"])
	})

	ada := newVisitor(site)
	ada.get("/login")
	thief := copyOf(ada)
	thief.get("/secret")
	ada.get("/logout")
	thief.get("/secret")
	// Output:
	// /login ada
	// /secret ada
	// /logout ada
	// /secret <nil>
}

// "Remember me": a session with a MaxAge of its own keeps it on later requests.
func ExampleStore_Save_rememberMe() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, exampleConfig("remember_me"), signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)
	store.MaxAge(0) // by default, the cookie ends with the browser

	site := http.NewServeMux()
	site.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			unavailable(w)
			return
		}
		if r.FormValue("remember") == "on" {
			session.Options.MaxAge = 30 * 24 * 60 * 60 // seconds
		}
		if err := session.Save(r, w); err != nil {
			unavailable(w)
			return
		}
		fmt.Fprintln(w, session.Options.MaxAge)
	})

	ada, bob := newVisitor(site), newVisitor(site)
	ada.get("/login?remember=on")
	ada.get("/")
	bob.get("/login")
	bob.get("/")
	// Output:
	// 2592000
	// 2592000
	// 0
	// 0
}

// A flash message is shown once, by whichever page comes next.
func ExampleStore_Get_flash() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, exampleConfig("flash"), signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	site := http.NewServeMux()
	site.HandleFunc("/send", func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			unavailable(w)
			return
		}
		session.AddFlash("Message sent")
		if err := session.Save(r, w); err != nil {
			unavailable(w)
			return
		}
		w.Header().Set("Location", "/")
		w.WriteHeader(http.StatusSeeOther)
	})
	site.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			unavailable(w)
			return
		}
		flashes := session.Flashes()
		if err := session.Save(r, w); err != nil { // or they would be shown again
			unavailable(w)
			return
		}
		fmt.Fprintln(w, len(flashes), flashes)
	})

	ada := newVisitor(site)
	ada.get("/send")
	ada.get("/")
	ada.get("/")
	// Output:
	// 1 [Message sent]
	// 0 []
}

// At a login the session gets a fresh ID, so that one which somebody planted or saw
// before is worth nothing.
func ExampleStore_Renew() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, exampleConfig("renew"), signingKey)
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
		session.Values["user"] = "ada"
		if err := store.Renew(r, w, session); err != nil { // in the place of Save
			unavailable(w)
			return
		}
		fmt.Fprintln(w, "welcome")
	})
	site.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			unavailable(w)
			return
		}
		if session.IsNew {
			session.Values["cart"] = "tea"
		}
		if err := session.Save(r, w); err != nil {
			unavailable(w)
			return
		}
		fmt.Fprintln(w, session.Values["user"], session.Values["cart"])
	})

	ada := newVisitor(site)
	ada.get("/")
	thief := copyOf(ada)
	ada.get("/login")
	ada.get("/")
	thief.get("/") // begins anew
	// Output:
	// <nil> tea
	// welcome
	// ada tea
	// <nil> tea
}

// With Reject, a change that would overwrite another request's is made again, on what
// that one has left.
func ExampleConflictPolicy() {
	cfg := exampleConfig("conflict") // Database and Collection
	cfg.OnConflict = mongostore.Reject
	ctx := context.Background()
	store, err := mongostore.Open(ctx, cfg, signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	var atOnce func() // what happens while a payment is under way
	site := http.NewServeMux()
	site.HandleFunc("/pay", func(w http.ResponseWriter, r *http.Request) {
		for range 3 {
			session, err := store.New(r, "session") // not Get, which remembers
			if err != nil {
				break
			}
			credit, ok := session.Values["credit"].(int)
			if !ok {
				credit = 10
			}
			if atOnce != nil {
				atOnce()
			}
			session.Values["credit"] = credit - 1
			err = store.Save(r, w, session)
			if errors.Is(err, mongostore.ErrConflict) {
				fmt.Fprintln(w, "once more")
				continue
			}
			if err != nil {
				break
			}
			fmt.Fprintln(w, "credit", credit-1)
			return
		}
		unavailable(w)
	})

	ada := newVisitor(site)
	ada.get("/pay")
	otherTab := copyOf(ada)
	atOnce = func() {
		atOnce = nil
		otherTab.get("/pay")
	}
	ada.get("/pay")
	// Output:
	// credit 9
	// credit 8
	// once more
	// credit 7
}

// A web socket has a request, and with it a cookie, at its handshake only. For each
// message it fetches the session by its ID, and learns that way of a logout.
func ExampleStore_Fetch() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, exampleConfig("fetch"), signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	var id string // kept by the connection
	site := http.NewServeMux()
	site.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			unavailable(w)
			return
		}
		switch r.URL.Path {
		case "/login":
			session.Values["user"] = "ada"
		case "/logout":
			session.Options.MaxAge = -1
		case "/socket":
			id = session.ID
		}
		if err := session.Save(r, w); err != nil {
			unavailable(w)
			return
		}
		fmt.Fprintln(w, r.URL.Path, session.Values["moves"])
	})
	receive := func(message string) error {
		session, err := store.Fetch(ctx, "session", id)
		if err != nil {
			return err
		}
		moves, _ := session.Values["moves"].([]string)
		session.Values["moves"] = append(moves, message)
		return store.Persist(ctx, session)
	}

	ada := newVisitor(site)
	ada.get("/login")
	ada.get("/socket")
	for _, message := range []string{"e4", "Nf3"} {
		if err := receive(message); err != nil {
			log.Fatal(err)
		}
	}
	ada.get("/")
	ada.get("/logout")
	if err := receive("Bb5"); errors.Is(err, mongostore.ErrNotFound) {
		fmt.Println("logged out: close the socket")
	}
	// Output:
	// /login <nil>
	// /socket <nil>
	// / [e4 Nf3]
	// /logout [e4 Nf3]
	// logged out: close the socket
}
