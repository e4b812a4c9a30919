package frameworks

import (
	"github.com/go-chi/chi/v5"

	"github.com/mongostore/mongostore"
)

func chiRouter(store *mongostore.Store) *chi.Mux {
	r := chi.NewRouter()
	r.Post("/logout", logout(store))

	r.Group(func(r chi.Router) {
		r.Use(store.Middleware(sessionName))
		r.Get("/", home(store))
		r.Post("/login", login(store))
	})
	return r
}
