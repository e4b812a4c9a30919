package mongostore_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
)

// logIn starts a session of a user on a device, as a login handler does, and returns its
// cookies.
func logIn(store *mongostore.Store, user any, device string) []*http.Cookie {
	r, w := httptest.NewRequest(http.MethodPost, "/login", nil), httptest.NewRecorder()
	r.Header.Set("User-Agent", device)
	session, err := store.Get(r, "session")
	if err != nil {
		log.Fatal(err)
	}
	session.Values["user"] = user
	if err := store.Renew(r, w, session); err != nil {
		log.Fatal(err)
	}
	return w.Result().Cookies()
}

// send sends a request with cookies and prints the response.
func send(site http.HandlerFunc, path string, cookies []*http.Cookie) {
	r, w := httptest.NewRequest(http.MethodPost, path, nil), httptest.NewRecorder()
	for _, c := range cookies {
		r.AddCookie(c)
	}
	site(w, r)
	fmt.Print(w.Body)
}

// A page lists the user's devices and marks the one that the user is looking at.
func ExampleStore_Sessions() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI:      os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
		OwnerKey: "user",                   // Values["user"] is the session's owner
		Describe: func(r *http.Request) map[string]string {
			return map[string]string{"device": r.UserAgent()}
		},
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	devices := func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
			return
		}
		var list []string
		for info, err := range store.Sessions(r.Context(), session.Values["user"]) {
			if err != nil {
				http.Error(w, "Please try again.", mongostore.StatusCode(err))
				return
			}
			device := info.Details["device"]
			if info.Is(session) {
				device += " (this one)"
			}
			list = append(list, device)
		}
		slices.Sort(list) // for this example, whose logins are only a moment apart
		fmt.Fprintln(w, list)
	}

	ada := bson.NewObjectID()
	logIn(store, ada, "phone")
	laptop := logIn(store, ada, "laptop")
	send(devices, "/devices", laptop)
	// Output:
	// [laptop (this one) phone]
}

// A form ends one session of the list. Its key comes from outside, so it is looked up among the
// user's own.
func ExampleStore_Revoke() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI:      os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
		OwnerKey: "user",
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	revoke := func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
			return
		}
		for info, err := range store.Sessions(r.Context(), session.Values["user"]) {
			if err == nil && info.Key == r.FormValue("key") {
				if err = store.Revoke(r.Context(), info.Key); err == nil {
					fmt.Fprintln(w, "The device is logged out.")
					return
				}
			}
			if err != nil {
				http.Error(w, "Please try again.", mongostore.StatusCode(err))
				return
			}
		}
		fmt.Fprintln(w, "You have no such device.")
	}

	ada, bob := bson.NewObjectID(), bson.NewObjectID()
	laptop, other := logIn(store, ada, "laptop"), logIn(store, bob, "laptop")
	var key string // of the laptop of ada
	for info, err := range store.Sessions(ctx, ada) {
		if err != nil {
			log.Fatal(err)
		}
		key = info.Key
	}
	send(revoke, "/revoke?key="+key, other)
	send(revoke, "/revoke?key="+key, laptop)
	// Output:
	// You have no such device.
	// The device is logged out.
}

// "Log out everywhere else", as after a change of the password. Without the exception,
// RevokeAll logs a user out everywhere.
func ExampleStore_RevokeAll() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI:      os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
		OwnerKey: "user",
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	password := func(w http.ResponseWriter, r *http.Request) {
		session, err := store.Get(r, "session")
		if err != nil {
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
			return
		}
		if session.IsNew {
			fmt.Fprintln(w, "Please log in.")
			return
		}
		n, err := store.RevokeAll(r.Context(), session.Values["user"], session)
		if err != nil {
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
			return
		}
		fmt.Fprintln(w, n, "other devices are logged out.")
	}

	ada := bson.NewObjectID()
	phone, laptop := logIn(store, ada, "phone"), logIn(store, ada, "laptop")
	logIn(store, ada, "library")
	send(password, "/password", laptop)
	send(password, "/password", laptop)
	send(password, "/password", phone)
	// Output:
	// 2 other devices are logged out.
	// 0 other devices are logged out.
	// Please log in.
}

// A user may have two sessions. A login ends the ones that were used least recently.
//
// There is a race: of two concurrent logins, each may count before it sees the other's session,
// and then the user has three. The next login ends what is too many. A limit that has to hold at
// every moment needs a lock of the application's own around the login, such as a document per
// user.
func ExampleStore_Sessions_limit() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI:      os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
		OwnerKey: "user",
		Describe: func(r *http.Request) map[string]string {
			return map[string]string{"device": r.UserAgent()}
		},
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	// limit is called after the login, which this session is never ended by.
	const most = 2
	limit := func(ctx context.Context, session *sessions.Session) error {
		others := 0
		for info, err := range store.Sessions(ctx, session.Values["user"]) { // the last used first
			if err != nil {
				return err
			}
			if info.Is(session) {
				continue
			}
			if others++; others >= most {
				if err := store.Revoke(ctx, info.Key); err != nil {
					return err
				}
			}
		}
		return nil
	}

	ada := bson.NewObjectID()
	for _, device := range []string{"phone", "tablet", "laptop", "library"} {
		r := httptest.NewRequest(http.MethodPost, "/login", nil)
		for _, c := range logIn(store, ada, device) {
			r.AddCookie(c)
		}
		session, err := store.Get(r, "session")
		if err != nil {
			log.Fatal(err)
		}
		if err := limit(ctx, session); err != nil {
			log.Fatal(err)
		}
		n := 0
		for _, err := range store.Sessions(ctx, ada) {
			if err != nil {
				log.Fatal(err)
			}
			n++
		}
		fmt.Println(device, n)
	}
	// Output:
	// phone 1
	// tablet 2
	// laptop 2
	// library 2
}
