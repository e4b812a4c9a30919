package storetest

import (
	"crypto/sha256"
	"encoding/base64"
	runtimemetrics "runtime/metrics"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
)

// seed puts sessions into the collection.
func Seed(t *testing.T, f *Fixture, n int, expiresAt time.Time) {
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

// hashOf is what the database is to hold of an ID.
func HashOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// heapUsed is how many bytes were taken from the heap so far, to within some hundred KiB. It costs less
// than what allocated does, which stops the world.
func HeapUsed() uint64 {
	sample := []runtimemetrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	runtimemetrics.Read(sample)
	return sample[0].Value.Uint64()
}

// eventually waits for a condition.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("in vain waited until", what)
		}
	}
}

// sessionsOf returns an owner's sessions.
func SessionsOf(t *testing.T, store *mongostore.Store, owner any) []mongostore.Info {
	t.Helper()
	var infos []mongostore.Info
	for info, err := range store.Sessions(t.Context(), owner) {
		if err != nil {
			t.Fatal(err)
		}
		infos = append(infos, info)
	}
	return infos
}

// wantTime checks a date of the document, roughly.
func WantTime(t *testing.T, doc bson.Raw, field string, want time.Time) {
	t.Helper()
	got, ok := doc.Lookup(field).TimeOK()
	if d := got.Sub(want); !ok || d < -time.Minute || d > time.Minute {
		t.Errorf("%s is %v, want about %v", field, got, want)
	}
}
