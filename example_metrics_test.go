package mongostore_test

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// metrics is a store that counts what becomes of sessions. It serves wherever gorilla takes
// a store, and has all the other methods of the one inside.
type metrics struct {
	*mongostore.Store
	counts *expvar.Map // or the counters of any other system
}

// Get names the wrapper, so that session.Save, too, goes through it.
func (m metrics) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(m, name)
}

func (m metrics) New(r *http.Request, name string) (*sessions.Session, error) {
	session, err := m.Store.New(r, name)
	switch {
	case errors.Is(err, mongostore.ErrUnavailable):
		m.counts.Add("unavailable", 1)
	case err == nil && !session.IsNew:
		m.counts.Add("loaded", 1)
	}
	return session, err
}

func (m metrics) Save(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	return m.count(session, func() error { return m.Store.Save(r, w, session) })
}

func (m metrics) Renew(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	return m.count(session, func() error { return m.Store.Renew(r, w, session) })
}

func (m metrics) count(session *sessions.Session, save func() error) error {
	isFirst, isLast := session.ID == "", session.Options.MaxAge < 0
	err := save()
	switch {
	case errors.Is(err, mongostore.ErrGone):
		m.counts.Add("gone", 1)
	case errors.Is(err, mongostore.ErrUnavailable):
		m.counts.Add("unavailable", 1)
	case err != nil:
		m.counts.Add("failed", 1)
	case isLast:
		m.counts.Add("removed", 1)
	case isFirst && session.ID != "":
		m.counts.Add("created", 1)
	default:
		m.counts.Add("saved", 1)
	}
	return err
}

// A store around the store counts sessions.
func Example_metrics() {
	ctx := context.Background()
	inner, err := mongostore.Open(ctx, mongostore.Config{
		URI: os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer inner.Close(ctx)
	store := metrics{inner, new(expvar.Map)} // expvar.Publish("sessions", store.counts) shows it

	site := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
			return
		}
		save := store.Save
		switch r.URL.Path {
		case "/login":
			session.Values["user"], save = "ada", store.Renew
		case "/logout":
			session.Options.MaxAge = -1
		default:
			session.Values["page"] = r.URL.Path
		}
		if err := save(r, w, session); err != nil {
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
		}
	})

	var cookies []*http.Cookie // of the visitor
	for _, path := range []string{"/tea", "/login", "/cups", "/cups", "/logout"} {
		r, w := httptest.NewRequest(http.MethodGet, path, nil), httptest.NewRecorder()
		for _, c := range cookies {
			r.AddCookie(c)
		}
		site.ServeHTTP(w, r)
		if c := w.Result().Cookies(); len(c) > 0 {
			cookies = c
		}
	}
	fmt.Println(store.counts)
	// Output:
	// {"created": 1, "loaded": 4, "removed": 1, "saved": 3}
}
