package storetest

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
)

// age lets a time pass since the session was last seen, and since it was made.
func (f *Fixture) Age(d time.Duration) {
	f.T.Helper()
	doc, set := f.Document(), bson.D{}
	for _, field := range []string{"createdAt", "seenAt", "expiresAt"} {
		set = append(set, bson.E{Key: field, Value: doc.Lookup(field).Time().Add(-d)})
	}
	f.Edit(bson.D{{Key: "$set", Value: set}})
}

// fixture is a store on a collection of its own, over a connection on which commands
// are counted and faults can be made.
type Fixture struct {
	T     testing.TB
	Store *mongostore.Store
	Coll  *mongo.Collection // from outside, over another connection
	Log   *CommandLog
	Wire  *Faults
	Text  *LogBuffer // what the store logged
	Cfg   mongostore.Config
}

var (
	SigningKey = []byte("a signing key of thirty-two bytes")
	BlockKey   = []byte("sixteen-byte-key")
)

// setup opens a store. Cleanup is off, unless change says otherwise, so that it does
// not mix its commands in.
func Setup(t testing.TB, change ...func(*mongostore.Config)) *Fixture {
	t.Helper()
	s := Server(t)
	f := &Fixture{T: t, Log: &CommandLog{}, Wire: NewFaults(), Text: &LogBuffer{}}
	client := f.Connect()
	f.Coll = s.Client.Database(s.Database).Collection("c" + strconv.FormatInt(Collections.Add(1), 10))
	t.Cleanup(func() { _ = f.Coll.Drop(context.WithoutCancel(t.Context())) })

	f.Cfg = mongostore.Config{
		Client:     client,
		Database:   s.Database,
		Collection: f.Coll.Name(),
		Cleanup:    mongostore.Off,
		Logger:     slog.New(slog.NewTextHandler(f.Text, nil)),
		Timeout:    20 * time.Second, // a busy machine is no outage
	}
	for _, c := range change {
		c(&f.Cfg)
	}
	f.Store = f.Open()
	f.Log.Reset()
	return f
}

var Collections atomic.Int64

// connect makes a client whose commands are logged and whose wire can be cut.
func (f *Fixture) Connect() *mongo.Client {
	f.T.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(Server(f.T).URI).
		SetMonitor(f.Log.Monitor()).
		SetDialer(f.Wire).
		SetHeartbeatInterval(500 * time.Millisecond)) // the least that the driver takes
	if err != nil {
		f.T.Fatal(err)
	}
	f.T.Cleanup(func() {
		f.Wire.Heal()
		_ = client.Disconnect(context.WithoutCancel(f.T.Context()))
	})
	return client
}

// open makes another store of the fixture's configuration, as another process would.
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

// documents returns the collection's documents, as they are.
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

// document returns the only document of the collection.
func (f *Fixture) Document() bson.Raw {
	f.T.Helper()
	docs := f.Documents()
	if len(docs) != 1 {
		f.T.Fatalf("%d documents in the collection, want 1", len(docs))
	}
	return docs[0]
}

// wantDocuments checks how many sessions the database holds.
func (f *Fixture) WantDocuments(n int) {
	f.T.Helper()
	if docs := f.Documents(); len(docs) != n {
		f.T.Errorf("%d documents in the collection, want %d", len(docs), n)
	}
}

// edit changes the only document behind the store's back.
func (f *Fixture) Edit(update any) {
	f.T.Helper()
	res, err := f.Coll.UpdateMany(f.T.Context(), bson.D{}, update)
	if err != nil {
		f.T.Fatal(err)
	}
	if res.MatchedCount == 0 {
		f.T.Fatal("no document to edit")
	}
}

// expire puts the expiry of every session into the past.
func (f *Fixture) Expire() {
	f.T.Helper()
	f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "expiresAt", Value: time.Now().Add(-time.Second)}}}})
}

// wantCommands checks what was sent since the last call.
func (f *Fixture) WantCommands(want ...string) {
	f.T.Helper()
	if got := f.Log.Reset(); !slices.Equal(got, want) {
		f.T.Errorf("commands sent: %q, want %q", got, want)
	}
}

const Name = "session"

// setDate is an update that sets a date.
func SetDate(field string, at time.Time) bson.D {
	return bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: at}}}}
}

// openWith opens a store with a short Timeout, but takes the time that it needs for that.
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
