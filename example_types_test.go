package mongostore_test

import (
	"context"
	"encoding/gob"
	"fmt"
	"log"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// basket is a type of the application's own.
type basket struct {
	Items map[string]int
}

// Types of one's own are made known to encoding/gob, as for CookieStore, before the store is
// used. Numbers, strings, times, lists and maps need nothing.
func Example_ownTypes() {
	gob.Register(basket{})

	ctx := context.Background()
	store, err := mongostore.Open(ctx, exampleConfig("own_types"), signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	session := sessions.NewSession(store, "session") // by a request, usually
	session.Values["basket"] = basket{Items: map[string]int{"tea": 2}}
	if err := store.Persist(ctx, session); err != nil {
		log.Fatal(err)
	}
	session, err = store.Fetch(ctx, "session", session.ID)
	if err != nil {
		log.Fatal(err)
	}
	b, ok := session.Values["basket"].(basket)
	fmt.Println(b.Items["tea"], ok)
	// Output:
	// 2 true
}
