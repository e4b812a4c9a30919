package storetest

import (
	"crypto/rand"
	"errors"
	"net/http"
	"testing"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
)

// SealKey returns a random key for Config.SealKeys.
func SealKey(t testing.TB) []byte {
	t.Helper()
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	return key
}

// GobValue returns the value that a gob is stored as.
func GobValue(t testing.TB, encoded []byte) bson.RawValue {
	t.Helper()
	kind, data, err := bson.MarshalValue(bson.D{{Key: "_type", Value: "gob"}, {Key: "_value", Value: encoded}})
	if err != nil {
		t.Fatal(err)
	}
	return bson.RawValue{Type: kind, Value: data}
}

// DeepDocument returns a document in a document, and so on to the depth.
func DeepDocument(depth int) any {
	var doc any = bson.D{}
	for range depth {
		doc = bson.D{{Key: "a", Value: doc}}
	}
	return doc
}

// BrokenStore is a store to migrate from that fails to load.
type BrokenStore struct{ sessions.Store }

// ErrBroken is the error of a [BrokenStore].
var ErrBroken = errors.New("database of the old store is away")

// New returns a new session and [ErrBroken].
func (s BrokenStore) New(*http.Request, string) (*sessions.Session, error) {
	return sessions.NewSession(s, Name), ErrBroken
}

// FullDisk is a store to migrate from that loads its sessions, and fails to remove them.
type FullDisk struct{ *sessions.FilesystemStore }

// ErrFull is the error of a [FullDisk].
var ErrFull = errors.New("disk is full")

// Save returns [ErrFull].
func (FullDisk) Save(*http.Request, http.ResponseWriter, *sessions.Session) error { return ErrFull }
