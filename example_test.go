package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"

	"github.com/mongostore/mongostore"
)

// A handler that uses a session, with what can go wrong.
func Example() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, exampleConfig("handler"), signingKey) // Config{Database: "app"}, say
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	site := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if errors.Is(err, mongostore.ErrUnavailable) || errors.Is(err, mongostore.ErrCorrupt) {
			http.Error(w, "try again in a moment", http.StatusServiceUnavailable)
			return // the visitor stays logged in
		}
		// With any other error the cookie was not one of ours, and the session is new.
		visits, _ := session.Values["visits"].(int)
		session.Values["visits"] = visits + 1
		switch err := session.Save(r, w); { // before the page is written
		case errors.Is(err, mongostore.ErrGone):
			http.Redirect(w, r, "/login", http.StatusSeeOther) // logged out meanwhile
			return
		case err != nil:
			http.Error(w, "try again in a moment", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, "visit %d\n", visits+1)
	})

	ada := newVisitor(site)
	ada.get("/")
	ada.get("/")
	newVisitor(site).get("/")
	// Output:
	// visit 1
	// visit 2
	// visit 1
}
