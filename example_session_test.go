package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
)

// visitor is somebody with a browser, which keeps cookies.
type visitor struct {
	site http.Handler
	jar  http.CookieJar
}

func newVisitor(site http.Handler) *visitor {
	jar, err := cookiejar.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	return &visitor{site, jar}
}

// get requests a page and prints it.
func (v *visitor) get(path string) {
	r, w := httptest.NewRequest(http.MethodGet, "https://example.com"+path, nil), httptest.NewRecorder()
	for _, c := range v.jar.Cookies(r.URL) {
		r.AddCookie(c)
	}
	v.site.ServeHTTP(w, r)
	v.jar.SetCookies(r.URL, w.Result().Cookies())
	fmt.Print(path, ": ", w.Body)
}

// thief returns a visitor with a copy of the cookies.
func (v *visitor) thief() *visitor {
	other, home := newVisitor(v.site), httptest.NewRequest(http.MethodGet, "https://example.com/", nil).URL
	other.jar.SetCookies(home, v.jar.Cookies(home))
	return other
}

// At a login the session gets a fresh ID. An ID that somebody planted or learned before is
// worth nothing then.
func ExampleStore_Renew() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI: os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	pages := http.NewServeMux()
	pages.HandleFunc("/cart", func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		if session.IsNew {
			session.Values["cart"] = "tea"
		}
		fmt.Fprintln(w, session.Values["user"], session.Values["cart"])
	})
	pages.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		session.Values["user"] = "Ada"
		if err := store.Renew(r, w, session); err != nil { // in the place of Save
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
			return
		}
		fmt.Fprintln(w, "Welcome.")
	})

	ada := newVisitor(store.Middleware("session")(pages))
	ada.get("/cart")
	thief := ada.thief()
	ada.get("/login")
	ada.get("/cart")
	thief.get("/cart") // the old ID cannot be used, nor the session be continued
	// Output:
	// /cart: <nil> tea
	// /login: Welcome.
	// /cart: Ada tea
	// /cart: Unauthorized
}

// A negative MaxAge ends the session, wherever its cookie has been copied to. Without the
// middleware, the handler looks at the errors itself.
func ExampleStore_Save_logout() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI: os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	site := http.NewServeMux()
	site.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session") // if it fails, Renew returns the error
		session.Values["user"] = "Ada"
		if err := store.Renew(r, w, session); err != nil {
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
			return
		}
		fmt.Fprintln(w, "Welcome.")
	})
	site.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session") // on an error, the logout still succeeds
		session.Options.MaxAge = -1
		if err := session.Save(r, w); err != nil {
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
			return
		}
		fmt.Fprintln(w, "Goodbye.")
	})
	site.HandleFunc("/mail", func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if errors.Is(err, mongostore.ErrUnavailable) {
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
			return // the user stays logged in
		}
		if session.IsNew { // also if the cookie is not valid
			fmt.Fprintln(w, "Please log in.")
			return
		}
		fmt.Fprintln(w, "for", session.Values["user"])
	})

	ada := newVisitor(site)
	ada.get("/login")
	thief := ada.thief()
	thief.get("/mail")
	ada.get("/logout")
	thief.get("/mail")
	// Output:
	// /login: Welcome.
	// /mail: for Ada
	// /logout: Goodbye.
	// /mail: Please log in.
}

// "Remember me": a session with a MaxAge of its own keeps it on later requests.
func ExampleStore_Save_rememberMe() {
	ctx := context.Background()
	options := mongostore.DefaultOptions()
	options.MaxAge = 0 // by default, the cookie ends with the browser
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI:     os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
		Options: options,
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	pages := http.NewServeMux()
	pages.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		session.Values["user"] = "Ada"
		if r.FormValue("remember") == "on" {
			session.Options.MaxAge = 30 * 24 * 60 * 60 // seconds
		}
		if err := store.Renew(r, w, session); err != nil {
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
			return
		}
		fmt.Fprintln(w, "Welcome.")
	})
	pages.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		fmt.Fprintln(w, session.Options.MaxAge)
	})
	site := store.Middleware("session")(pages)

	laptop, library := newVisitor(site), newVisitor(site)
	laptop.get("/login?remember=on")
	laptop.get("/")
	library.get("/login")
	library.get("/")
	// Output:
	// /login?remember=on: Welcome.
	// /: 2592000
	// /login: Welcome.
	// /: 0
}

// A flash message is shown once, by whichever page comes next.
func ExampleStore_Get_flash() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI: os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	pages := http.NewServeMux()
	pages.HandleFunc("/send", func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		session.AddFlash("Message sent.")
		fmt.Fprintln(w, "See /inbox.") // usually a redirect
	})
	pages.HandleFunc("/inbox", func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		flashes := session.Flashes() // the middleware saves that they are gone
		fmt.Fprintln(w, flashes)
	})

	ada := newVisitor(store.Middleware("session")(pages))
	ada.get("/send")
	ada.get("/inbox")
	ada.get("/inbox")
	// Output:
	// /send: See /inbox.
	// /inbox: [Message sent.]
	// /inbox: []
}

// OnError replaces the middleware's response to an error. Here, a session that cannot be
// decoded is logged and ended, and its user is sent to the login.
func ExampleStore_Middleware_onError() {
	ctx := context.Background()
	var store *mongostore.Store
	onError := func(w http.ResponseWriter, r *http.Request, err error) {
		if !errors.Is(err, mongostore.ErrCorrupt) {
			http.Error(w, "Please try again in a moment.", mongostore.StatusCode(err))
			return
		}
		log.Print(err) // it names the key, and no value
		session, _ := store.Get(r, "session")
		session.Options.MaxAge = -1
		if err := session.Save(r, w); err != nil {
			http.Error(w, "Please try again in a moment.", mongostore.StatusCode(err))
			return
		}
		http.Redirect(w, r, "/login", http.StatusSeeOther)
	}
	open := func(sealKey string) *mongostore.Store {
		s, err := mongostore.Open(ctx, mongostore.Config{
			URI:      os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
			SealKeys: [][]byte{[]byte(sealKey)},
			OnError:  onError,
		}, []byte(os.Getenv("SESSION_KEY")))
		if err != nil {
			log.Fatal(err)
		}
		return s
	}
	site := func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		session.Values["user"] = "Ada"
		fmt.Fprintln(w, "Welcome.")
	}

	var cookies []*http.Cookie // of the visitor
	for _, sealKey := range []string{
		"a key of 32 bytes, in production",
		"another one: its old one is lost", // so the session cannot be decoded
	} {
		store = open(sealKey)
		r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
		for _, c := range cookies {
			r.AddCookie(c)
		}
		store.Middleware("session")(http.HandlerFunc(site)).ServeHTTP(w, r)
		cookies = w.Result().Cookies()
		fmt.Println(w.Code, w.Header().Get("Location"), cookies[0].MaxAge)
		if err := store.Close(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 200  2592000
	// 303 /login -1
}

// Under ConflictReject, a change that would overwrite another request's change fails. The
// handler loads the session again and applies its change to the current values.
func ExampleConflictPolicy() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI:        os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
		OnConflict: mongostore.ConflictReject,
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	var meanwhile func() // what happens during a payment
	site := http.NewServeMux()
	site.HandleFunc("/pay", func(w http.ResponseWriter, r *http.Request) {
		var err error
		for range 3 {
			var session *sessions.Session
			session, err = store.New(r, "session") // not Get, which returns the same again
			if err != nil {
				break
			}
			credit, ok := mongostore.Value[int](session, "credit")
			if !ok {
				credit = 10
			}
			if meanwhile != nil {
				meanwhile()
			}
			session.Values["credit"] = credit - 1
			if err = store.Save(r, w, session); !errors.Is(err, mongostore.ErrConflict) {
				break
			}
			fmt.Fprint(w, "once more; ")
		}
		if err != nil {
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
			return
		}
		fmt.Fprintln(w, "paid")
	})
	site.HandleFunc("/credit", func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		fmt.Fprintln(w, session.Values["credit"])
	})

	ada := newVisitor(site)
	ada.get("/pay")
	meanwhile = func() {
		meanwhile = nil
		ada.get("/pay") // in another tab
	}
	ada.get("/pay")
	ada.get("/credit")
	// Output:
	// /pay: paid
	// /pay: paid
	// /pay: once more; paid
	// /credit: 7
}

// API clients send the session's ID in a header, signed as it would be in a cookie.
func ExampleStore_Fetch() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI: os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	// issue logs a client in and returns its token.
	issue := func(ctx context.Context, user string) (string, error) {
		session := sessions.NewSession(store, "token")
		session.Options = mongostore.DefaultOptions()
		session.Values["user"] = user
		if err := store.Persist(ctx, session); err != nil {
			return "", err
		}
		return securecookie.EncodeMulti(session.Name(), session.ID, store.Codecs...)
	}
	// authenticate returns the session of a request.
	authenticate := func(r *http.Request) (*sessions.Session, error) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			return nil, mongostore.ErrNotFound
		}
		var id string
		if err := securecookie.DecodeMulti("token", token, &id, store.Codecs...); err != nil {
			return nil, err
		}
		return store.Fetch(r.Context(), "token", id)
	}
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := authenticate(r)
		if err == nil && r.Method == http.MethodDelete {
			err = store.Remove(r.Context(), session)
		} else if err == nil {
			err = store.Touch(r.Context(), session) // moves the expiry, when due
		}
		if err != nil {
			status := mongostore.StatusCode(err) // 401, or 503 if MongoDB is unavailable
			http.Error(w, http.StatusText(status), status)
			return
		}
		fmt.Fprintln(w, "OK,", session.Values["user"])
	})

	token, err := issue(ctx, "Ada")
	if err != nil {
		log.Fatal(err)
	}
	call := func(method, token string) {
		r, w := httptest.NewRequest(method, "/", nil), httptest.NewRecorder()
		r.Header.Set("Authorization", "Bearer "+token)
		api.ServeHTTP(w, r)
		fmt.Print(method, ": ", w.Body)
	}
	call(http.MethodGet, token)
	call(http.MethodGet, "forged")
	call(http.MethodDelete, token)
	call(http.MethodGet, token)
	// Output:
	// GET: OK, Ada
	// GET: Unauthorized
	// DELETE: OK, Ada
	// GET: Unauthorized
}

// A job works for a session after the response was sent. It fetches the session again, and
// stores its result without HTTP, which moves no expiry.
func ExampleStore_Persist() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI: os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	jobs := make(chan string, 1) // IDs of sessions
	report := func(ctx context.Context, id string) error {
		session, err := store.Fetch(ctx, "session", id)
		if errors.Is(err, mongostore.ErrNotFound) {
			return nil // logged out, or logged in again under a fresh ID
		}
		if err != nil {
			return err
		}
		session.Values["report"] = "12 pages" // the only key that is written
		if err := store.Persist(ctx, session); !errors.Is(err, mongostore.ErrGone) {
			return err
		}
		return nil // logged out meanwhile
	}

	site := http.NewServeMux()
	site.HandleFunc("/order", func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		session.Values["report"] = "ordered"
		if err := session.Save(r, w); err != nil { // a new session has an ID from now on
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
			return
		}
		jobs <- session.ID
		fmt.Fprintln(w, session.Values["report"])
	})
	site.HandleFunc("/report", func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		fmt.Fprintln(w, session.Values["report"])
	})

	ada := newVisitor(site)
	ada.get("/order")
	if err := report(ctx, <-jobs); err != nil { // usually in a goroutine
		log.Fatal(err)
	}
	ada.get("/report")
	// Output:
	// /order: ordered
	// /report: 12 pages
}

// counter is a handler that works with any of gorilla's stores.
func counter(store sessions.Store) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if errors.Is(err, mongostore.ErrUnavailable) || errors.Is(err, mongostore.ErrCorrupt) {
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
			return
		}
		n, _ := mongostore.Value[int](session, "n")
		session.Values["n"] = n + 1
		if err := session.Save(r, w); err != nil {
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
			return
		}
		fmt.Fprintln(w, n+1)
	})
}

// A handler that takes a sessions.Store can be tested without a database, with a CookieStore.
// What needs the store's own methods is tested against a server, which package mongotest starts:
//
//	store, err := mongostore.New(mongotest.Database(t).Collection("sessions"), key)
func Example_testingHandlers() {
	handler := counter(sessions.NewCookieStore([]byte("a key for tests, of 32 bytes ...")))
	first := httptest.NewRecorder()
	handler.ServeHTTP(first, httptest.NewRequest(http.MethodGet, "/", nil))

	r, second := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	for _, cookie := range first.Result().Cookies() {
		r.AddCookie(cookie)
	}
	handler.ServeHTTP(second, r)
	fmt.Print(first.Body)
	fmt.Print(second.Body)
	// Output:
	// 1
	// 2
}
