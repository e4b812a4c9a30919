package mongostore_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
)

// Open connects, and fails if the server does not respond in time.
func ExampleOpen() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI:        os.Getenv("MONGODB_URI"), // such as "mongodb://db1,db2,db3/app?replicaSet=rs0"
		Collection: "visits",                 // "sessions" by default
		OwnerKey:   "user_id",                // Values["user_id"] is the session's owner
		Cleanup:    mongostore.CleanupSweep,  // needs no TTL index
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	n, err := store.Count(ctx)
	fmt.Println(n, "sessions", err)
	// Output:
	// 0 sessions <nil>
}

// New returns a store on a collection that the application has already. It does no network
// I/O. The application disconnects the client.
func ExampleNew() {
	client, err := mongo.Connect(options.Client().ApplyURI(os.Getenv("MONGODB_URI")))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Disconnect(context.Background()) }()

	store, err := mongostore.New(client.Database("app").Collection("sessions"), []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	store.Options.SameSite = http.SameSiteStrictMode
	store.MaxAge(24 * 60 * 60) // seconds

	session, err := store.New(httptest.NewRequest(http.MethodGet, "/", nil), "session")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(session.Options.MaxAge, session.Options.HttpOnly, session.IsNew)
	// Output:
	// 86400 true true
}

// Signing keys are replaced in three steps, each in all processes before the next, and nobody
// is logged out. An encryption key would stand in the place of nil.
func ExampleNew_keyRotation() {
	ctx := context.Background()
	oldKey, newKey := securecookie.GenerateRandomKey(32), securecookie.GenerateRandomKey(32)

	var cookies []*http.Cookie // of a visitor
	for _, keys := range [][][]byte{
		{oldKey},              // before
		{oldKey, nil, newKey}, // 1. the new key is accepted
		{newKey, nil, oldKey}, // 2. and signs: each visitor's next save sends a new cookie
		{newKey},              // 3. when the old cookies have expired
	} {
		store, err := mongostore.Open(ctx, mongostore.Config{
			URI: os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
		}, keys...)
		if err != nil {
			log.Fatal(err)
		}
		r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
		for _, c := range cookies {
			r.AddCookie(c)
		}
		session, err := store.Get(r, "session")
		if err != nil {
			log.Fatal(err)
		}
		visits, _ := mongostore.Value[int](session, "visits")
		session.Values["visits"] = visits + 1
		if err := session.Save(r, w); err != nil {
			log.Fatal(err)
		}
		sent := w.Result().Cookies()
		if len(sent) > 0 {
			cookies = sent
		}
		fmt.Println("visit", visits+1, "cookies sent:", len(sent))
		if err := store.Close(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// visit 1 cookies sent: 1
	// visit 2 cookies sent: 0
	// visit 3 cookies sent: 1
	// visit 4 cookies sent: 0
}

// A session lives a week after its last use, but at most a month.
func ExampleConfig_timeouts() {
	ctx := context.Background()
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI:             os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
		IdleTimeout:     7 * 24 * time.Hour,
		AbsoluteTimeout: 30 * 24 * time.Hour,
		OwnerKey:        "user",
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	r, w := httptest.NewRequest(http.MethodPost, "/login", nil), httptest.NewRecorder()
	session, err := store.Get(r, "session")
	if err != nil {
		log.Fatal(err)
	}
	user := bson.NewObjectID()
	session.Values["user"] = user
	if err := store.Renew(r, w, session); err != nil {
		log.Fatal(err)
	}
	for info, err := range store.Sessions(ctx, user) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(info.ExpiresAt.Sub(info.CreatedAt))
	}
	// Output:
	// 168h0m0s
}

// Cookies of a page that other sites embed in a frame. A partitioned cookie belongs to one
// embedding site, and browsers that block third-party cookies keep it. It has to be Secure.
func ExampleDefaultOptions_partitioned() {
	ctx := context.Background()
	options := mongostore.DefaultOptions() // Path "/", 30 days, HttpOnly, Secure, SameSite=Lax
	options.SameSite = http.SameSiteNoneMode
	options.Partitioned = true
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI:     os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
		Options: options,
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	session, err := store.Get(r, "__Host-widget")
	if err != nil {
		log.Fatal(err)
	}
	session.Values["language"] = "en"
	if err := session.Save(r, w); err != nil {
		log.Fatal(err)
	}
	for part := range strings.SplitSeq(w.Header().Get("Set-Cookie"), "; ") {
		if name, _, _ := strings.Cut(part, "="); name == "__Host-widget" || name == "Expires" {
			part = name
		}
		fmt.Println(part)
	}
	// Output:
	// __Host-widget
	// Path=/
	// Expires
	// Max-Age=2592000
	// HttpOnly
	// Secure
	// SameSite=None
	// Partitioned
}

// Session leaves CookieStore for this store, and nobody is logged out.
func ExampleConfig_migrating() {
	ctx := context.Background()
	key := []byte(os.Getenv("SESSION_KEY")) // the key that CookieStore had
	old := sessions.NewCookieStore(key)
	store, err := mongostore.Open(ctx, mongostore.Config{
		URI:         os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
		MigrateFrom: old,
	}, key)
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	var cookies []*http.Cookie                                   // of a visitor
	for _, s := range []sessions.Store{old, old, store, store} { // the handler stays as it is
		r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
		for _, c := range cookies {
			r.AddCookie(c)
		}
		session, err := s.Get(r, "session")
		if err != nil {
			log.Fatal(err)
		}
		visits, _ := session.Values["visits"].(int)
		session.Values["visits"] = visits + 1
		if err := session.Save(r, w); err != nil {
			log.Fatal(err)
		}
		if sent := w.Result().Cookies(); len(sent) > 0 {
			cookies = sent
		}
		fmt.Printf("%T: visit %d\n", s, visits+1)
	}
	// Output:
	// *sessions.CookieStore: visit 1
	// *sessions.CookieStore: visit 2
	// *mongostore.Store: visit 3
	// *mongostore.Store: visit 4
}

// User is a type of the application's own.
type User struct {
	Name  string         `bson:"name"`
	Roles []string       `bson:"roles"`
	Seen  map[string]int `bson:"seen,omitempty"`
}

// Own types are stored as documents, without gob.Register.
func ExampleTypeOf() {
	ctx := context.Background()
	client, err := mongo.Connect(options.Client().ApplyURI(os.Getenv("MONGODB_URI")))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Disconnect(ctx) }()
	store, err := mongostore.Open(ctx, mongostore.Config{
		Client:     client,
		Database:   os.Getenv("MONGODB_DATABASE"), // such as "app"
		Collection: "typed",
		Types:      []mongostore.Type{mongostore.TypeOf[User]("user")},
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	session := sessions.NewSession(store, "session") // in a handler: store.Get(r, "session")
	session.Options = mongostore.DefaultOptions()
	session.Values["user"] = User{Name: "Ada", Roles: []string{"editor"}}
	if err := store.Persist(ctx, session); err != nil {
		log.Fatal(err)
	}
	session, err = store.Fetch(ctx, "session", session.ID)
	if err != nil {
		log.Fatal(err)
	}
	user, ok := mongostore.Value[User](session, "user")
	fmt.Println(user.Name, user.Roles, ok)

	// As in mongosh: db.typed.find({"values.user._value.name": "Ada"}, {values: 1, _id: 0})
	var stored bson.D
	err = client.Database(os.Getenv("MONGODB_DATABASE")).Collection("typed").FindOne(ctx,
		bson.D{{Key: "values.user._value.name", Value: "Ada"}},
		options.FindOne().SetProjection(bson.D{{Key: "values", Value: 1}, {Key: "_id", Value: 0}}),
	).Decode(&stored)
	if err != nil {
		log.Fatal(err)
	}
	json, err := bson.MarshalExtJSONIndent(stored, false, false, "", "  ")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(json))
	// Output:
	// Ada [editor] true
	// {
	//   "values": {
	//     "user": {
	//       "_type": "user",
	//       "_value": {
	//         "name": "Ada",
	//         "roles": [
	//           "editor"
	//         ]
	//       }
	//     }
	//   }
	// }
}

// With SealKeys, read access to the database, or to a backup, is not enough to read the values.
func ExampleConfig_sealing() {
	ctx := context.Background()
	client, err := mongo.Connect(options.Client().ApplyURI(os.Getenv("MONGODB_URI")))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Disconnect(ctx) }()
	store, err := mongostore.Open(ctx, mongostore.Config{
		Client:     client,
		Database:   os.Getenv("MONGODB_DATABASE"), // such as "app"
		Collection: "sealed",
		SealKeys:   [][]byte{securecookie.GenerateRandomKey(32)}, // kept where the application keeps its secrets
	}, []byte(os.Getenv("SESSION_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close(ctx)

	session := sessions.NewSession(store, "session") // in a handler: store.Get(r, "session")
	session.Options = mongostore.DefaultOptions()
	session.Values["diagnosis"] = "measles"
	if err := store.Persist(ctx, session); err != nil {
		log.Fatal(err)
	}
	stored, err := client.Database(os.Getenv("MONGODB_DATABASE")).Collection("sealed").FindOne(ctx, bson.D{}).Raw()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("in the database:", strings.Contains(string(stored), "measles"))
	session, err = store.Fetch(ctx, "session", session.ID)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("in the session:", session.Values["diagnosis"])
	// Output:
	// in the database: false
	// in the session: measles
}

// Keys that encrypt are replaced in three steps, each in all processes before the next.
func ExampleConfig_sealingRotation() {
	ctx := context.Background()
	oldKey, newKey := securecookie.GenerateRandomKey(32), securecookie.GenerateRandomKey(32)

	var id string // of a session
	for _, keys := range [][][]byte{
		{oldKey},         // before
		{oldKey, newKey}, // 1. the new key decrypts
		{newKey, oldKey}, // 2. and encrypts what is written from now on
		{newKey},         // 3. when the sessions from before have ended
	} {
		store, err := mongostore.Open(ctx, mongostore.Config{
			URI:      os.Getenv("MONGODB_URI"), // such as "mongodb://localhost/app"
			SealKeys: keys,
		}, []byte(os.Getenv("SESSION_KEY")))
		if err != nil {
			log.Fatal(err)
		}
		session := sessions.NewSession(store, "session") // in a handler: store.Get(r, "session")
		session.Options = mongostore.DefaultOptions()
		if id != "" {
			if session, err = store.Fetch(ctx, "session", id); err != nil {
				log.Fatal(err)
			}
		}
		n, _ := mongostore.Value[int](session, "n")
		session.Values["n"] = n + 1
		if err := store.Persist(ctx, session); err != nil {
			log.Fatal(err)
		}
		id = session.ID
		fmt.Println(session.Values["n"])
		if err := store.Close(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 1
	// 2
	// 3
	// 4
}
