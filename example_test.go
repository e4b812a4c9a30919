package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// exampleConfig is the configuration of the examples' stores. An application would
// write mongostore.Config{Database: "app"}, and run MongoDB on localhost.
func exampleConfig(collection string) mongostore.Config {
	s, err := startServer()
	if err != nil {
		log.Fatal(err)
	}
	return mongostore.Config{Client: s.client, Database: s.database, Collection: collection, Cleanup: mongostore.Sweep}
}

// visit is a browser's request to a handler, with the cookies of the response before.
func visit(h http.Handler, cookies []*http.Cookie) (body string, _ []*http.Cookie) {
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	for _, c := range cookies {
		r.AddCookie(c)
	}
	h.ServeHTTP(w, r)
	return w.Body.String(), w.Result().Cookies()
}

func Example() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, exampleConfig("example"), signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if errors.Is(err, mongostore.ErrUnavailable) || errors.Is(err, mongostore.ErrCorrupt) {
			http.Error(w, "try again in a moment", http.StatusServiceUnavailable)
			return // the visitor stays logged in
		}
		visits, _ := session.Values["visits"].(int)
		session.Values["visits"] = visits + 1
		if err := session.Save(r, w); err != nil {
			http.Error(w, "try again in a moment", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintf(w, "visit %d", visits+1)
	})

	var body string
	var cookies []*http.Cookie
	for range 3 {
		body, cookies = visit(handler, cookies)
		fmt.Println(body)
	}
	// Output:
	// visit 1
	// visit 2
	// visit 3
}

func ExampleNew() {
	// A collection that the application has already.
	cfg := exampleConfig("example_new")
	collection := cfg.Client.Database(cfg.Database).Collection(cfg.Collection)

	store, err := mongostore.New(collection, signingKey)
	if err != nil {
		log.Fatal(err)
	}
	store.Options.SameSite = http.SameSiteStrictMode
	store.MaxAge(24 * 60 * 60)

	_, cookies := visit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			log.Fatal(err)
		}
		if err := session.Save(r, w); err != nil {
			log.Fatal(err)
		}
	}), nil)
	fmt.Println(cookies[0].Name, cookies[0].MaxAge, cookies[0].SameSite == http.SameSiteStrictMode)
	// Output:
	// session 86400 true
}

func ExampleStore_Save_logout() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, exampleConfig("example_logout"), signingKey)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	request := func(use func(*sessions.Session)) http.Handler {
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
	_, cookies := visit(request(func(s *sessions.Session) { s.Values["user"] = "ada" }), nil)
	visit(request(func(s *sessions.Session) { s.Options.MaxAge = -1 }), cookies)

	// The old cookie, wherever it was copied to, is worth nothing now.
	visit(request(func(s *sessions.Session) { fmt.Println(s.IsNew, s.Values["user"]) }), cookies)
	// Output:
	// true <nil>
}
