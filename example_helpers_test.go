package mongostore_test

import (
	"fmt"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// What the examples share: where the database is, and who visits.

// signingKey is what an application would read from its configuration.
var signingKey = storetest.SigningKey

// exampleConfig says where an example's sessions are kept. An application would write
// mongostore.Config{Database: "app"}, with the URI of its server.
func exampleConfig(collection string) mongostore.Config {
	s := exampleServer()
	return mongostore.Config{
		Client:     s.Client,
		Database:   s.Database,
		Collection: storetest.Collection("example_" + collection + "_"), // also if it runs twice
		Cleanup:    mongostore.Sweep,                                    // which every server can
	}
}

func exampleServer() *storetest.TestServer {
	s, err := storetest.StartServer()
	if err != nil {
		log.Fatal(err)
	}
	return s
}

// visitor is a person with a browser, which keeps cookies.
type visitor struct {
	site    http.Handler
	device  string
	cookies map[string]string
}

func newVisitor(site http.Handler) *visitor {
	return &visitor{site: site, cookies: map[string]string{}}
}

// get asks for a page and prints it.
func (v *visitor) get(path string) {
	r, w := httptest.NewRequest(http.MethodGet, path, nil), httptest.NewRecorder()
	r.Header.Set("User-Agent", v.device)
	for name, value := range v.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	v.site.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if v.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(v.cookies, c.Name)
		}
	}
	fmt.Print(w.Body)
}

// copyOf is somebody else with the same cookies.
func copyOf(v *visitor) *visitor {
	w := newVisitor(v.site)
	maps.Copy(w.cookies, v.cookies)
	return w
}

// unavailable is how the examples answer when the database does not: the visitor
// keeps the session, and sees the page again in a moment.
func unavailable(w http.ResponseWriter) {
	http.Error(w, "try again in a moment", http.StatusServiceUnavailable)
}
