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

// Eventually waits for a condition.
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("never happened:", what)
		}
	}
}

// HashOf returns the _id that the document of a session with the ID has to have.
func HashOf(id string) string {
	sum := sha256.Sum256([]byte(id))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// SessionsOf returns an owner's sessions.
func SessionsOf(t testing.TB, store *mongostore.Store, owner any) []mongostore.Info {
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

// WantTime checks a date of a document, to within a minute.
func WantTime(t testing.TB, doc bson.Raw, field string, want time.Time) {
	t.Helper()
	got, ok := doc.Lookup(field).TimeOK()
	if d := got.Sub(want); !ok || d < -time.Minute || d > time.Minute {
		t.Errorf("%s is %v, want about %v", field, got, want)
	}
}

// HeapUsed returns how many bytes the process has allocated so far, to within some hundred
// KiB. Unlike runtime.ReadMemStats it does not stop the world.
func HeapUsed() uint64 {
	sample := []runtimemetrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	runtimemetrics.Read(sample)
	return sample[0].Value.Uint64()
}
