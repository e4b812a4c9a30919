package storetest

import (
	"crypto/rand"
	"errors"
	"net/http"
	"testing"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
)

func DeepDocument(depth int) any {
	var doc any = bson.D{}
	for range depth {
		doc = bson.D{{Key: "a", Value: doc}}
	}
	return doc
}

// gobValue is the value that a gob is stored as.
func GobValue(t testing.TB, encoded []byte) bson.RawValue {
	t.Helper()
	kind, data, err := bson.MarshalValue(bson.D{{Key: "_type", Value: "gob"}, {Key: "_value", Value: encoded}})
	if err != nil {
		t.Fatal(err)
	}
	return bson.RawValue{Type: kind, Value: data}
}

// brokenStore is a store whose database is away.
type BrokenStore struct{ sessions.Store }

var ErrBroken = errors.New("database of the old store is away")

func (s BrokenStore) New(*http.Request, string) (*sessions.Session, error) {
	return sessions.NewSession(s, Name), ErrBroken
}

// fullDisk is a store that has its sessions, and cannot remove them.
type FullDisk struct{ *sessions.FilesystemStore }

var ErrFull = errors.New("disk is full")

func (FullDisk) Save(*http.Request, http.ResponseWriter, *sessions.Session) error { return ErrFull }

func SealKey(t *testing.T) []byte {
	t.Helper()
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	return key
}
