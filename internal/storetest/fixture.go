package storetest

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
)

// Name is the name of the session, and of its cookie, that a [Browser] uses.
const Name = "session"

// Keys of the cookies.
var (
	SigningKey = []byte("a signing key of thirty-two bytes")
	BlockKey   = []byte("sixteen-byte-key")
)

// Fixture is a store on its own collection. The commands of its connections are logged,
// and faults can be injected into them.
type Fixture struct {
	T     testing.TB
	Store *mongostore.Store
	Coll  *mongo.Collection // over another connection, which is not logged and has no faults
	Log   *CommandLog
	Wire  *Faults
	Text  *LogBuffer // what the store logged
	Cfg   mongostore.Config
}

// Setup opens a store with a generous Timeout. Cleanup is off, unless change says otherwise,
// so that its commands are not among those of the test.
func Setup(t testing.TB, change ...func(*mongostore.Config)) *Fixture {
	t.Helper()
	f := newFixture(t)
	f.start(f.Connect(), change)
	return f
}

// SetupOwners is [Setup] of a store with an OwnerKey and details of devices.
func SetupOwners(t testing.TB) *Fixture {
	t.Helper()
	return Setup(t, func(c *mongostore.Config) {
		c.OwnerKey = "user"
		c.Describe = func(r *http.Request) map[string]string {
			return map[string]string{"device": r.UserAgent(), "a.b": "\xff"}
		}
	})
}

// newFixture returns a fixture that has a collection, and no store yet.
func newFixture(t testing.TB) *Fixture {
	t.Helper()
	s := Server(t)
	f := &Fixture{T: t, Log: &CommandLog{}, Wire: NewFaults(), Text: &LogBuffer{}}
	f.Coll = s.Client.Database(s.Database).Collection(Collection("c"))
	t.Cleanup(func() { _ = f.Coll.Drop(context.WithoutCancel(t.Context())) })
	return f
}

// start opens the fixture's store over the client.
func (f *Fixture) start(client *mongo.Client, change []func(*mongostore.Config)) {
	f.T.Helper()
	f.Cfg = mongostore.Config{
		Client:     client,
		Database:   f.Coll.Database().Name(),
		Collection: f.Coll.Name(),
		Cleanup:    mongostore.CleanupOff,
		Logger:     slog.New(slog.NewTextHandler(f.Text, nil)),
		Timeout:    20 * time.Second, // so that a busy machine causes no timeout
	}
	for _, c := range change {
		c(&f.Cfg)
	}
	f.Store = f.Open()
	f.Log.Reset()
}

// Connect returns a client of the test server whose commands are logged, and which the
// fixture's faults reach.
func (f *Fixture) Connect() *mongo.Client {
	f.T.Helper()
	return f.connect(options.Client().ApplyURI(Server(f.T).URI))
}

func (f *Fixture) connect(opts *options.ClientOptions, change ...func(*options.ClientOptions)) *mongo.Client {
	f.T.Helper()
	opts.SetMonitor(f.Log.Monitor()).
		SetDialer(f.Wire).
		SetHeartbeatInterval(500 * time.Millisecond) // the minimum that the driver accepts
	for _, c := range change {
		c(opts)
	}
	client, err := mongo.Connect(opts)
	if err != nil {
		f.T.Fatal(err)
	}
	f.T.Cleanup(func() {
		f.Wire.Heal()
		_ = client.Disconnect(context.WithoutCancel(f.T.Context()))
	})
	return client
}

// Open opens another store with the fixture's configuration, as another process would.
func (f *Fixture) Open() *mongostore.Store {
	f.T.Helper()
	store, err := mongostore.Open(f.T.Context(), f.Cfg, SigningKey)
	if err != nil {
		f.T.Fatal(err)
	}
	f.T.Cleanup(func() {
		f.Wire.Heal()
		if err := store.Close(context.WithoutCancel(f.T.Context())); err != nil {
			f.T.Error(err)
		}
	})
	return store
}

// OpenWith opens another store, with another Timeout, which does not apply to Open itself.
func (f *Fixture) OpenWith(timeout time.Duration) *mongostore.Store {
	f.T.Helper()
	cfg := f.Cfg
	cfg.Timeout = timeout
	ctx, cancel := context.WithTimeout(f.T.Context(), 20*time.Second)
	defer cancel()
	store, err := mongostore.Open(ctx, cfg, SigningKey)
	if err != nil {
		f.T.Fatal(err)
	}
	f.T.Cleanup(func() { _ = store.Close(context.WithoutCancel(f.T.Context())) })
	return store
}

// Documents returns the collection's documents, tombstones included.
func (f *Fixture) Documents() []bson.Raw {
	f.T.Helper()
	cursor, err := f.Coll.Find(f.T.Context(), bson.D{})
	if err != nil {
		f.T.Fatal(err)
	}
	var docs []bson.Raw
	if err := cursor.All(f.T.Context(), &docs); err != nil {
		f.T.Fatal(err)
	}
	return docs
}

// Live returns the documents that are not tombstones, including damaged ones.
func (f *Fixture) Live() []bson.Raw {
	f.T.Helper()
	return slices.DeleteFunc(f.Documents(), isTombstone)
}

func isTombstone(doc bson.Raw) bool {
	rev, err := doc.LookupErr("rev")
	return err == nil && rev.Type == bson.TypeNull
}

// Document returns the only document that is not a tombstone.
func (f *Fixture) Document() bson.Raw {
	f.T.Helper()
	docs := f.Live()
	if len(docs) != 1 {
		f.T.Fatalf("%d sessions in the collection, want 1", len(docs))
	}
	return docs[0]
}

// WantDocuments checks how many documents the collection has, without tombstones.
func (f *Fixture) WantDocuments(n int) {
	f.T.Helper()
	if docs := f.Live(); len(docs) != n {
		f.T.Errorf("%d sessions in the collection, want %d", len(docs), n)
	}
}

// WantTombstones checks how many tombstones the collection has.
func (f *Fixture) WantTombstones(n int) {
	f.T.Helper()
	if got := len(f.Documents()) - len(f.Live()); got != n {
		f.T.Errorf("%d tombstones in the collection, want %d", got, n)
	}
}

// WantCommands checks which commands were sent since the log was last read.
func (f *Fixture) WantCommands(want ...string) {
	f.T.Helper()
	if got := f.Log.Reset(); !slices.Equal(got, want) {
		f.T.Errorf("commands sent: %q, want %q", got, want)
	}
}

// Edit updates all documents except tombstones, without the store.
func (f *Fixture) Edit(update any) {
	f.T.Helper()
	noTombstone := bson.D{{Key: "rev", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$type", Value: "null"}}}}}}
	res, err := f.Coll.UpdateMany(f.T.Context(), noTombstone, update)
	if err != nil {
		f.T.Fatal(err)
	}
	if res.MatchedCount == 0 {
		f.T.Fatal("no document to edit")
	}
}

// SetDate returns an update that sets a date.
func SetDate(field string, at time.Time) bson.D {
	return bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: at}}}}
}

// Expire sets the expiry of every session to a moment ago.
func (f *Fixture) Expire() {
	f.T.Helper()
	f.Edit(SetDate("expiresAt", time.Now().Add(-time.Second)))
}

var dates = []string{"createdAt", "seenAt", "expiresAt", "cookieAt"}

// Age sets the dates of the only session back, as if it had been stored d earlier.
func (f *Fixture) Age(d time.Duration) {
	f.T.Helper()
	doc, set := f.Document(), bson.D{}
	for _, field := range dates {
		if date, ok := doc.Lookup(field).TimeOK(); ok {
			set = append(set, bson.E{Key: field, Value: date.Add(-d)})
		}
	}
	f.Edit(bson.D{{Key: "$set", Value: set}})
}

// Seed inserts sessions that expire at a time, without the store.
func Seed(t testing.TB, f *Fixture, n int, expiresAt time.Time) {
	t.Helper()
	docs := make([]any, n)
	for i := range docs {
		docs[i] = bson.D{
			{Key: "_id", Value: bson.NewObjectID().Hex()},
			{Key: "v", Value: 1},
			{Key: "name", Value: Name},
			{Key: "values", Value: bson.D{}},
			{Key: "rev", Value: 1},
			{Key: "createdAt", Value: expiresAt},
			{Key: "seenAt", Value: expiresAt},
			{Key: "expiresAt", Value: expiresAt},
		}
	}
	if _, err := f.Coll.InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
}

// WantLive checks how many sessions the database holds, without tombstones.
func (f *Fixture) WantLive(n int) {
	f.T.Helper()
	if docs := f.Live(); len(docs) != n {
		f.T.Errorf("%d sessions in the collection, want %d", len(docs), n)
	}
}

// Older sets the dates of all sessions except tombstones back, as if they had been stored d
// earlier.
func (f *Fixture) Older(d time.Duration) {
	f.T.Helper()
	docs := f.Live()
	if len(docs) == 0 {
		f.T.Fatal("no session")
	}
	for _, doc := range docs {
		set := bson.D{}
		for _, field := range dates {
			if date, ok := doc.Lookup(field).TimeOK(); ok {
				set = append(set, bson.E{Key: field, Value: date.Add(-d)})
			}
		}
		if _, err := f.Coll.UpdateOne(f.T.Context(), bson.D{{Key: "_id", Value: doc.Lookup("_id")}}, bson.D{{Key: "$set", Value: set}}); err != nil {
			f.T.Fatal(err)
		}
	}
}

// Another opens a store on the same collection with other settings. The fixture's faults do
// not affect its connections.
func (f *Fixture) Another(change ...func(*mongostore.Config)) *mongostore.Store {
	f.T.Helper()
	cfg := f.Cfg
	cfg.Client = Server(f.T).Client
	for _, c := range change {
		c(&cfg)
	}
	store, err := mongostore.Open(f.T.Context(), cfg, SigningKey)
	if err != nil {
		f.T.Fatal(err)
	}
	f.T.Cleanup(func() { _ = store.Close(context.WithoutCancel(f.T.Context())) })
	return store
}

// StoreOptions sets the MaxAge of the store's sessions.
func StoreOptions(maxAge int) func(*mongostore.Config) {
	return func(c *mongostore.Config) {
		c.Options = &sessions.Options{Path: "/", MaxAge: maxAge, HttpOnly: true, Secure: true}
	}
}
