package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// onOneConnection gives the store a pool of one connection, and the background work that a
// store can have.
func onOneConnection(t *testing.T) func(*mongostore.Config) {
	client, err := mongo.Connect(options.Client().ApplyURI(storetest.Server(t).URI).SetMaxPoolSize(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	return func(c *mongostore.Config) {
		c.Client = client
		c.OwnerKey = "user"
		c.Cleanup = mongostore.Sweep
		c.Timeout = time.Minute // a deadlock would last that long
	}
}

// TestOneConnection: fifty requests at once share one connection and all succeed, whatever
// they do, for none holds on to it while it waits for it.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	const requests = 50
	f := storetest.Setup(t, onOneConnection(t))
	shared := f.Browser().Login()
	began := time.Now()
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			b := f.Browser()
			b.Store = f.Store
			session, err := b.Store.New(shared.Request(), storetest.Name)
			if err == nil {
				session.Values[fmt.Sprint("key", i)] = i
				err = b.Store.Save(shared.Request(), httptest.NewRecorder(), session)
			}
			if err != nil {
				t.Errorf("request %d, save: %v", i, err)
			}
			b.Login()
			switch i % 5 {
			case 0:
				_, err = b.Renew(b.Load())
			case 1:
				b.Logout()
			case 2:
				session := b.Load()
				err = f.Store.Remove(t.Context(), session)
			case 3:
				_, err = f.Store.DeleteExpired(t.Context())
			case 4:
				// Others end theirs meanwhile.
				for _, e := range f.Store.Sessions(t.Context(), "ada") {
					err = errors.Join(err, e)
				}
			}
			if err != nil {
				t.Errorf("request %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if took := time.Since(began); took > 50*time.Second {
		t.Errorf("that took %v: somebody has waited for the timeout", took)
	}
	session := shared.Load()
	for i := range requests {
		if session.Values[fmt.Sprint("key", i)] != i {
			t.Errorf("key%d is %v", i, session.Values[fmt.Sprint("key", i)])
		}
	}
	f.WantDocuments(1 + requests*3/5)
}

// TestOneConnectionInLoop: the loop over a user's sessions may use the store.
func TestOneConnectionInLoop(t *testing.T) {
	t.Parallel()
	const logins = 150 // more than the server returns at once
	f := storetest.Setup(t, onOneConnection(t))
	for range logins {
		f.Browser().Login()
	}
	seen := 0
	for info, err := range f.Store.Sessions(t.Context(), "ada") {
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Store.Revoke(t.Context(), info.Key); err != nil {
			t.Fatal(err)
		}
		seen++
	}
	if seen != logins {
		t.Errorf("%d sessions seen, want %d", seen, logins)
	}
	f.WantDocuments(0)
}
