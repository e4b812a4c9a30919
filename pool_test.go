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
)

// onOneConnection gives the store a pool of one connection, and the background work that a
// store can have.
func onOneConnection(t *testing.T) func(*mongostore.Config) {
	client, err := mongo.Connect(options.Client().ApplyURI(server(t).uri).SetMaxPoolSize(1))
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
	f := setup(t, onOneConnection(t))
	shared := f.browser().login()
	began := time.Now()
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			b := f.browser()
			b.store = f.store
			session, err := b.store.New(shared.request(), name)
			if err == nil {
				session.Values[fmt.Sprint("key", i)] = i
				err = b.store.Save(shared.request(), httptest.NewRecorder(), session)
			}
			if err != nil {
				t.Errorf("request %d, save: %v", i, err)
			}
			b.login()
			switch i % 5 {
			case 0:
				_, err = b.renew(b.load())
			case 1:
				b.logout()
			case 2:
				session := b.load()
				err = f.store.Remove(t.Context(), session)
			case 3:
				_, err = f.store.DeleteExpired(t.Context())
			case 4:
				// Others end theirs meanwhile.
				for _, e := range f.store.Sessions(t.Context(), "ada") {
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
	session := shared.load()
	for i := range requests {
		if session.Values[fmt.Sprint("key", i)] != i {
			t.Errorf("key%d is %v", i, session.Values[fmt.Sprint("key", i)])
		}
	}
	f.wantDocuments(1 + requests*3/5)
}

// TestOneConnectionInLoop: the loop over a user's sessions may use the store.
func TestOneConnectionInLoop(t *testing.T) {
	t.Parallel()
	const logins = 150 // more than the server returns at once
	f := setup(t, onOneConnection(t))
	for range logins {
		f.browser().login()
	}
	seen := 0
	for info, err := range f.store.Sessions(t.Context(), "ada") {
		if err != nil {
			t.Fatal(err)
		}
		if err := f.store.Revoke(t.Context(), info.Key); err != nil {
			t.Fatal(err)
		}
		seen++
	}
	if seen != logins {
		t.Errorf("%d sessions seen, want %d", seen, logins)
	}
	f.wantDocuments(0)
}
