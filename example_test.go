package mongostore_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"

	"github.com/mongostore/mongostore"
)

// app greets its users and counts their visits.
type app struct {
	store *mongostore.Store
}

// handler returns the site. With gorilla/mux it is:
//
//	r := mux.NewRouter()
//	r.HandleFunc("/logout", a.logout).Methods("POST")
//	pages := r.NewRoute().Subrouter()
//	pages.Use(a.store.Middleware("session"))
//	pages.HandleFunc("/", a.home).Methods("GET")
//	pages.HandleFunc("/login", a.login).Methods("POST")
//	return r
func (a *app) handler() http.Handler {
	pages := http.NewServeMux()
	pages.HandleFunc("GET /{$}", a.home)
	pages.HandleFunc("POST /login", a.login)

	site := http.NewServeMux()
	site.HandleFunc("POST /logout", a.logout)
	site.Handle("/", a.store.Middleware("session")(pages))
	return site
}

func (a *app) home(w http.ResponseWriter, r *http.Request) {
	session, _ := a.store.Get(r, "session") // the middleware has handled its error
	user, ok := mongostore.Value[string](session, "user")
	if !ok {
		fmt.Fprintln(w, "Please log in.")
		return
	}
	visits, _ := mongostore.Value[int](session, "visits")
	session.Values["visits"] = visits + 1 // the middleware saves it
	fmt.Fprintf(w, "Hello, %s. This is visit %d.\n", user, visits+1)
}

func (a *app) login(w http.ResponseWriter, r *http.Request) {
	// Here the application checks the password.
	session, _ := a.store.Get(r, "session")
	session.Values["user"] = r.FormValue("user")
	if err := a.store.Renew(r, w, session); err != nil { // saves it under a fresh ID
		a.onError(w, r, err)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// logout is outside of the middleware, so it works while MongoDB is unavailable.
func (a *app) logout(w http.ResponseWriter, r *http.Request) {
	session, _ := a.store.Get(r, "session")
	session.Options.MaxAge = -1
	if err := session.Save(r, w); err != nil {
		a.onError(w, r, err)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// onError responds to an error of the store. A session that cannot be decoded ends, so the next
// request gets a new one.
func (a *app) onError(w http.ResponseWriter, r *http.Request, err error) {
	log.Print(err)
	if errors.Is(err, mongostore.ErrCorrupt) {
		session, _ := a.store.Get(r, "session")
		session.Options.MaxAge = -1
		if err := session.Save(r, w); err != nil {
			log.Print(err)
		}
	}
	http.Error(w, "Please try again.", mongostore.StatusCode(err))
}

// show prints what a browser shows.
func show(res *http.Response, err error) {
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(page))
}

// A whole application, with a login, a logout and a counter. The middleware loads the
// sessions, saves what the handlers change, and responds to the errors of the store.
func Example() {
	ctx := context.Background()
	a := &app{}
	var err error
	a.store, err = mongostore.Open(ctx, mongostore.Config{
		URI:      os.Getenv("MONGODB_URI"), // by default "mongodb://localhost:27017"
		Database: cmp.Or(os.Getenv("MONGODB_DATABASE"), "app"),
		OnError:  a.onError,
	}, []byte(os.Getenv("SESSION_KEY"))) // 32 random bytes, which sign the cookies
	if err != nil {
		log.Fatal(err)
	}
	defer a.store.Close(ctx)

	// A program would now call http.ListenAndServe(":8080", a.handler()). Cookies are sent over
	// https only: for plain http on the developer's machine, set a.store.Options.Secure = false.
	server := httptest.NewTLSServer(a.handler())
	defer server.Close()
	browser := server.Client()
	browser.Jar, _ = cookiejar.New(nil)

	show(browser.Get(server.URL))
	show(browser.PostForm(server.URL+"/login", url.Values{"user": {"Ada"}}))
	show(browser.Get(server.URL))
	show(browser.PostForm(server.URL+"/logout", nil))
	// Output:
	// Please log in.
	// Hello, Ada. This is visit 1.
	// Hello, Ada. This is visit 2.
	// Please log in.
}
