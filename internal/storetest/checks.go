package storetest

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http/httptest"
	runtimemetrics "runtime/metrics"
	"slices"
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

// WantNoCookie checks that a response sets no cookie.
func WantNoCookie(t testing.TB, what string, w *httptest.ResponseRecorder) {
	t.Helper()
	if lines := w.Header()["Set-Cookie"]; lines != nil {
		t.Errorf("%s: cookies set: %q, want none", what, lines)
	}
}

// WantGone checks that a call failed with ErrGone, and that its response sets no cookie.
func WantGone(t testing.TB, what string, w *httptest.ResponseRecorder, err error) {
	t.Helper()
	if !errors.Is(err, mongostore.ErrGone) {
		t.Errorf("%s: error %v, want ErrGone", what, err)
	}
	WantNoCookie(t, what, w)
}

// Within returns the error of a call, which must return before the limit.
func Within(t testing.TB, limit time.Duration, what string, call func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		t.Fatalf("%s hangs", what)
		return nil
	}
}

// Operators returns the operators of a command's only update, with the names of the fields
// of each.
func Operators(t testing.TB, command bson.Raw) map[string][]string {
	t.Helper()
	update, ok := command.Lookup("updates", "0", "u").DocumentOK()
	if !ok {
		t.Fatalf("no update: %v", command)
	}
	elements, err := update.Elements()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, operator := range elements {
		fields, err := operator.Value().Document().Elements()
		if err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for _, field := range fields {
			names = append(names, field.Key())
		}
		slices.Sort(names)
		found[operator.Key()] = names
	}
	return found
}
