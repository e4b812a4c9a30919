package storetest

import (
	"crypto/rand"
	"errors"
	"net/http"
	"testing"

	"github.com/gorilla/sessions"
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

// BrokenStore is a store to migrate from that fails to load.
type BrokenStore struct{ sessions.Store }

// ErrBroken is the error of a [BrokenStore].
var ErrBroken = errors.New("database of the old store is unavailable")

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
