package frameworks

import (
	"net/http"

	"github.com/gorilla/mux"

	"github.com/mongostore/mongostore"
)

func muxRouter(store *mongostore.Store) *mux.Router {
	r := mux.NewRouter()
	r.Handle("/logout", logout(store)).Methods(http.MethodPost)

	pages := r.NewRoute().Subrouter()
	pages.Use(store.Middleware(sessionName))
	pages.Handle("/", home(store)).Methods(http.MethodGet)
	pages.Handle("/login", login(store)).Methods(http.MethodPost)
	return r
}
