package mongostore_test

import (
	"encoding/gob"
	"testing"

	"github.com/mongostore/mongostore/internal/storetest"
)

func TestMain(m *testing.M) {
	gob.Register(cart{})
	storetest.Main(m)
}

// TestServer says which server the other tests run against.
func TestServer(t *testing.T) {
	t.Log(storetest.Server(t).Description)
}
