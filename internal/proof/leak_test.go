package proof

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/mongostore/mongostore"
)

// owner is a store's life: what it has, and its client, of which nothing may be left.
type owner struct {
	t      *testing.T
	wires  *wires
	client *mongo.Client
	coll   *mongo.Collection
	said   *warnings
}

// TestLeaks puts stores through their lives, one after the other. What a store does in the
// background has to end, closed or not, while its client is still there; and
// when that is gone too, no goroutine is left.
func TestLeaks(t *testing.T) {
	for _, tt := range []struct {
		name string
		live func(*owner)
	}{
		{"opened and closed", func(o *owner) {
			store := o.own(mongostore.Config{URI: server(o.t).uri})
			o.login(store)
			o.close(store)
			o.close(store) // the second does nothing
		}},
		{"opened in vain", func(o *owner) {
			_, err := mongostore.Open(o.t.Context(), mongostore.Config{
				URI: "mongodb://127.0.0.1:1/", Database: "none", Timeout: 200 * time.Millisecond,
			}, signingKey)
			if !errors.Is(err, mongostore.ErrUnavailable) {
				o.t.Error("open:", err)
			}
		}},
		{"unclosed, with indexes made in the background", func(o *owner) {
			store, err := mongostore.New(o.coll, signingKey)
			if err != nil {
				o.t.Fatal(err)
			}
			o.login(store)
		}},
		{"unclosed, with a sweep", func(o *owner) {
			store := o.open(mongostore.Config{Cleanup: mongostore.CleanupSweep})
			o.login(store)
		}},
		{"unclosed, with requests of every kind", func(o *owner) {
			store := o.open(mongostore.Config{OwnerKey: "user"})
			for range 20 {
				r, session := o.login(store)
				if _, err := respond(o.t, store.Renew, r, session); err != nil {
					o.t.Error("renew:", err)
				}
			}
			for info, err := range store.Sessions(o.t.Context(), "ada") {
				if err != nil {
					o.t.Error("list:", err)
				} else if err := store.Revoke(o.t.Context(), info.Key); err != nil {
					o.t.Error("revoke:", err)
				}
				break // with the others unread
			}
			if n, err := store.RevokeAll(o.t.Context(), "ada"); n == 0 || err != nil {
				o.t.Errorf("%d revoked, %v", n, err)
			}
		}},
		{"unclosed, with a logout in an outage that passes", func(o *owner) {
			store := o.open(mongostore.Config{})
			r, session := o.login(store)
			o.wires.refuseAll(true)
			o.logout(store, r, session)
			eventually(o.t, "the deletion is repeated", working)
			o.wires.heal()
		}},
		{"closed, with a logout in an outage that passes", func(o *owner) {
			store := o.open(mongostore.Config{})
			r, session := o.login(store)
			o.wires.fail(func(string) fault { return deny })
			o.logout(store, r, session)
			o.wires.heal()
			o.close(store)
			if n, err := o.coll.EstimatedDocumentCount(o.t.Context()); n != 0 || err != nil {
				o.t.Errorf("%d sessions are left, %v", n, err)
			}
		}},
		{"closed, with a logout in an outage that lasts", func(o *owner) {
			store := o.open(impatient)
			r, session := o.login(store)
			o.wires.refuseAll(true)
			o.logout(store, r, session)
			o.close(store)
			if o.said.unfinished.Load() == 0 {
				o.t.Error("there is no warning of what was left undone")
			}
		}},
		{"closed with no time to wait", func(o *owner) {
			store := o.open(impatient)
			r, session := o.login(store)
			o.wires.fail(func(string) fault { return swallow })
			o.logout(store, r, session)
			ctx, cancel := context.WithCancel(o.t.Context())
			cancel()
			if err := store.Close(ctx); !errors.Is(err, context.Canceled) {
				o.t.Error("close:", err)
			}
		}},
		{"with requests that are cancelled, or not answered in time", func(o *owner) {
			store := o.open(impatient)
			_, session := o.login(store)
			o.wires.fail(func(string) fault { return swallow })
			for _, patience := range []time.Duration{50 * time.Millisecond, time.Minute} {
				ctx, cancel := context.WithTimeout(o.t.Context(), patience)
				if _, err := store.Fetch(ctx, name, session.ID); !errors.Is(err, mongostore.ErrUnavailable) {
					o.t.Error("fetch:", err)
				}
				r, _ := newRequest(ctx, "")
				session.Values["n"] = patience
				if _, err := respond(o.t, store.Save, r, session); !errors.Is(err, mongostore.ErrUnavailable) {
					o.t.Error("save:", err)
				}
				cancel()
			}
			o.wires.heal()
		}},
		{"with renewals whose answers are lost", func(o *owner) {
			store := o.open(mongostore.Config{})
			for _, command := range []string{"insert", "update", "find"} {
				r, session := o.login(store)
				lost := map[string]bool{}
				o.wires.fail(func(c string) fault {
					if c != command && (command != "find" || c != "update") || lost[c] { // no find without a lost update
						return sound
					}
					lost[c] = true
					return lose
				})
				if _, err := respond(o.t, store.Renew, r, session); err != nil && !errors.Is(err, mongostore.ErrUnavailable) {
					o.t.Errorf("renew, %s: %v", command, err)
				}
				o.wires.heal()
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			o := &owner{t: t, wires: newWires(), said: &warnings{}}
			o.client = connect(t, o.wires)
			defer disconnect(t, o.client)
			o.coll = collection(t, o.client)
			tt.live(o)
			eventually(t, "the store's work is done", func() bool { return !working() })
		})
	}
}

// impatient is for stores that are to find out that nobody answers.
var impatient = mongostore.Config{Timeout: time.Second}

// open returns a store on the client.
func (o *owner) open(cfg mongostore.Config) *mongostore.Store {
	cfg.Client = o.client
	return o.own(cfg)
}

// own returns a store that may have a client of its own.
func (o *owner) own(cfg mongostore.Config) *mongostore.Store {
	o.t.Helper()
	cfg.Database, cfg.Collection = o.coll.Database().Name(), o.coll.Name()
	cfg.Logger = slog.New(o.said)
	if cfg.Timeout == 0 {
		cfg.Timeout = 20 * time.Second // a busy machine is no fault
	}
	store, err := mongostore.Open(o.t.Context(), cfg, signingKey)
	if err != nil {
		o.t.Fatal(err)
	}
	return store
}

// login creates a session, and returns it with the request that it is used in.
func (o *owner) login(store *mongostore.Store) (*http.Request, *sessions.Session) {
	o.t.Helper()
	r, _ := newRequest(o.t.Context(), "")
	session, err := store.New(r, name)
	if err != nil {
		o.t.Fatal("load:", err)
	}
	session.Values["user"] = "ada"
	if _, err := respond(o.t, store.Save, r, session); err != nil {
		o.t.Fatal("save:", err)
	}
	return r, session
}

func (o *owner) logout(store *mongostore.Store, r *http.Request, session *sessions.Session) {
	o.t.Helper()
	session.Options.MaxAge = -1
	if _, err := respond(o.t, store.Save, r, session); err != nil {
		o.t.Error("logout:", err)
	}
}

func (o *owner) close(store *mongostore.Store) {
	o.t.Helper()
	closeStore(o.t, store)
}
