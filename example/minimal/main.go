package main

import (
	"context"
	"errors"
	"html/template"
	"log"
	"net/http"
	"os"

	"github.com/gorilla/mux"
	"github.com/mongostore/mongostore"
)

var store *mongostore.Store

func main() {
	var err error
	store, err = mongostore.Open(context.Background(), mongostore.Config{Database: "app", OnError: onError}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	store.Options.Secure = false // for http://localhost only: delete this line for HTTPS

	r := mux.NewRouter()
	r.Use(store.Middleware("session")) // loads the session that Get returns, saves it, calls onError if that fails
	r.HandleFunc("/", home).Methods("GET")
	r.HandleFunc("/login", login).Methods("POST")
	r.HandleFunc("/logout", logout).Methods("POST")
	log.Fatal(http.ListenAndServe("localhost:8080", r))
}

func home(w http.ResponseWriter, r *http.Request) {
	session, _ := store.Get(r, "session") // the middleware has handled its error
	visits, _ := mongostore.Value[int](session, "visits")
	session.Values["visits"] = visits + 1 // a map; the middleware saves it before the page is sent
	page.Execute(w, session.Values)
}

func login(w http.ResponseWriter, r *http.Request) {
	session, _ := store.Get(r, "session")
	session.Values["user"] = r.PostFormValue("name")   // after you have checked the password
	if err := store.Renew(r, w, session); err != nil { // saves the session under a new ID
		onError(w, r, err)
		return
	}
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func logout(w http.ResponseWriter, r *http.Request) {
	session, _ := store.Get(r, "session")
	session.Options.MaxAge = -1 // ends the session
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func onError(w http.ResponseWriter, r *http.Request, err error) {
	log.Print(err)
	if errors.Is(err, mongostore.ErrCorrupt) { // end the session: the next request gets a new one
		session, _ := store.Get(r, "session")
		session.Options.MaxAge = -1
		session.Save(r, w)
	}
	http.Error(w, "Please try again.", mongostore.StatusCode(err))
}

var page = template.Must(template.New("").Parse(`<!doctype html>
<p>{{with .user}}Hello, {{.}}. {{end}}Visit {{.visits}}.
<form method="post"><input name="name"> <button formaction="/login">Log in</button> <button formaction="/logout">Log out</button></form>`))
