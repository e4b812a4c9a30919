package bench

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	lazy "github.com/laziness-coders/mongostore"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/mongostore/mongostore"
)

// Moving from the stores that people have: see mongostore.Config.MigrateFrom.

// old is a store to move away from.
type old struct {
	*subject
	store sessions.Store
}

// moving is an application that has changed its store.
type moving struct {
	*subject
	log *lines
}

// lines is what was logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

var otherKey = []byte("another key, also of 32 bytes...")

// oldLazy is laziness-coders' store on the collection.
func (x *trial) oldLazy(w *wire, coll *mongo.Collection, keyPairs ...[]byte) *old {
	x.Helper()
	env, _ := x.place(setting{wire: w})
	client, err := env.connectV1(x.Context())
	x.must(err)
	x.cleanup(func() { _ = client.Disconnect(context.WithoutCancel(x.Context())) })
	store := lazy.NewMongoStore(client.Database(coll.Database().Name()).Collection(coll.Name()), 3600, env.TTL, keyPairs...)
	s := throughGorilla(store)
	s.lazy, s.coll, s.ping = store, coll, func(ctx context.Context) error { return client.Ping(ctx, nil) }
	return &old{s, store}
}

// moveTo opens this store on the collection, with the old one to take sessions over from.
func (x *trial) moveTo(coll *mongo.Collection, from *old) *moving {
	x.Helper()
	env, _ := x.place(setting{})
	client, err := env.connect()
	x.must(err)
	log := &lines{}
	store, err := mongostore.Open(x.Context(), mongostore.Config{
		Client:      client,
		Database:    coll.Database().Name(),
		Collection:  coll.Name(),
		OwnerKey:    "user",
		Timeout:     time.Minute,
		Cleanup:     mongostore.CleanupOff,
		MigrateFrom: from.store,
		Logger:      slog.New(slog.NewTextHandler(log, nil)),
	}, signingKey)
	x.must(err)
	x.cleanup(func() {
		ctx := context.WithoutCancel(x.Context())
		_ = store.Close(ctx)
		_ = client.Disconnect(ctx)
	})
	s := throughGorilla(store)
	s.own, s.coll = store, coll
	return &moving{s, log}
}

// collection is one for a trial alone.
func (x *trial) collection() *mongo.Collection {
	_, coll := x.place(setting{})
	return coll
}

// holds checks how many documents of each store a collection has: the old one's have data.
func (x *trial) holds(coll *mongo.Collection, ours, theirs int) {
	x.Helper()
	for _, doc := range x.documents(&subject{coll: coll}) {
		if _, err := doc.LookupErr("data"); err == nil {
			theirs--
		} else {
			ours--
			// The old store's TTL index must not see our documents.
			if _, err := doc.LookupErr("modified"); err == nil || doc.Lookup("values", "user").StringValue() != "ada" {
				x.fatal("document:", doc)
			}
		}
	}
	if ours != 0 || theirs != 0 {
		x.fatal("documents missing: ours", ours, "theirs", theirs)
	}
}

// try runs f as a trial of this store.
func try(t *testing.T, f func(*trial)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		x := &trial{T: t, what: "migrate", peer: peers[0]}
		defer x.finish()
		f(x)
	}()
	<-done
}

// TestMigrateFromPeers: visitors who logged in before the store was changed stay logged in.
func TestMigrateFromPeers(t *testing.T) {
	environment(t)
	apart := func(key []byte) func(*trial) (*old, *mongo.Collection) {
		return func(x *trial) (*old, *mongo.Collection) { return x.oldLazy(nil, x.collection(), key), x.collection() }
	}
	together := func(keys ...[]byte) func(*trial) (*old, *mongo.Collection) {
		return func(x *trial) (*old, *mongo.Collection) {
			coll := x.collection()
			return x.oldLazy(nil, coll, keys...), coll
		}
	}
	for what, open := range map[string]func(*trial) (*old, *mongo.Collection){
		"laziness-coders, another collection":           apart(signingKey),
		"laziness-coders, another collection and key":   apart(otherKey),
		"laziness-coders, the same collection":          together(signingKey),
		"laziness-coders, the same collection, new key": together(otherKey),
		"laziness-coders, the same collection, sealed":  together(signingKey, []byte("sixteen-byte-key")),
		"CookieStore": func(x *trial) (*old, *mongo.Collection) {
			store := sessions.NewCookieStore(signingKey)
			return &old{subject: throughGorilla(store), store: store}, x.collection()
		},
		"FilesystemStore": func(x *trial) (*old, *mongo.Collection) {
			dir := t.TempDir()
			store := sessions.NewFilesystemStore(dir, signingKey)
			s := throughGorilla(store)
			s.dir = dir
			return &old{subject: s, store: store}, x.collection()
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			try(t, func(x *trial) { x.migrates(open(x)) })
		})
	}
}

func (x *trial) migrates(from *old, coll *mongo.Collection) {
	forgets := from.coll != nil || from.dir != "" // it can remove a session
	same := from.coll != nil && from.coll.Name() == coll.Name()
	// left checks what both stores hold.
	left := func(ours, theirs int) {
		x.Helper()
		if same {
			x.holds(coll, ours, theirs)
			return
		}
		x.holds(coll, ours, 0)
		if forgets && x.stored(from.subject) != theirs {
			x.fatal("the old store has", x.stored(from.subject), "sessions, want", theirs)
		}
	}

	// Before the change: two visitors.
	present, absent := x.login(from.subject), x.login(from.subject)
	a := from.request(present, func(in visit) {
		in.set("n", 42)
		in.set("basket", []string{"pen", "ink"})
	})
	x.must(errors.Join(a.load, a.save))
	before := present.clone()
	to := x.moveTo(coll, from)
	left(0, 2)

	// A request that does not save.
	look := func(v *visitor, n int) {
		x.Helper()
		a := to.request(v, func(in visit) {
			user, _ := in.get("user")
			number, _ := in.get("n")
			list, _ := in.get("basket")
			if !in.known() || user != "ada" || number != n || !reflect.DeepEqual(list, []string{"pen", "ink"}) {
				x.fatal("session:", in.known(), user, number, list)
			}
			in.skip()
		})
		x.must(a.load)
	}
	look(present, 42)
	left(0, 2)
	x.counts(to, 0)

	// The first save moves it.
	a = to.request(present, func(in visit) { in.set("n", 43) })
	x.must(errors.Join(a.load, a.save))
	if present.cookie == before.cookie {
		x.fatal("the cookie has not changed")
	}
	left(1, 1)
	look(present, 43)
	x.counts(to, 1)
	left(1, 1)

	// The old cookie opens nothing, here or there.
	if x.loggedIn(to.subject, before) == forgets || x.loggedIn(from.subject, before) == forgets {
		x.fatal("the old cookie opens a session:", x.loggedIn(to.subject, before), x.loggedIn(from.subject, before))
	}
	if x.loggedIn(from.subject, present) {
		x.fatal("the new cookie opens a session of the old store")
	}

	// What ends the user's sessions leaves those that have not moved.
	n, err := to.own.RevokeAll(x.Context(), "ada")
	if x.must(err); n != 1 {
		x.fatal(n, "sessions ended")
	}
	left(0, 1)
	if x.loggedIn(to.subject, present) {
		x.fatal("logged in after the end")
	}

	// The other visitor comes back only to log out.
	copied := absent.clone()
	if !x.loggedIn(to.subject, absent) {
		x.fatal("the second visitor is not logged in")
	}
	a = to.request(absent, func(in visit) { in.end() })
	x.must(errors.Join(a.load, a.save))
	left(0, 0)
	if absent.cookie != "" || x.loggedIn(to.subject, copied) == forgets {
		x.fatal("after the logout:", absent.cookie != "", x.loggedIn(to.subject, copied))
	}
	if log := to.log.String(); log != "" {
		x.fatal("log:", log)
	}
}

// counts checks that documents of the old store count for nothing.
func (x *trial) counts(to *moving, want int) {
	x.Helper()
	live, err := to.own.Count(x.Context())
	x.must(err)
	deleted, err := to.own.DeleteExpired(x.Context())
	x.must(err)
	listed := 0
	for _, err := range to.own.Sessions(x.Context(), "ada") {
		x.must(err)
		listed++
	}
	if live != int64(want) || deleted != 0 || listed != want {
		x.fatal("counted", live, "listed", listed, "deleted", deleted, "want", want)
	}
}

// TestMigrateHiddenOutage: laziness-coders' store does not report that its database is
// away, so its visitor is a new one then; but his session there is not touched.
func TestMigrateHiddenOutage(t *testing.T) {
	t.Parallel()
	environment(t)
	try(t, func(x *trial) {
		w := &wire{}
		from := x.oldLazy(w, x.collection(), otherKey)
		v := x.login(from.subject)
		copied := v.clone()
		to := x.moveTo(x.collection(), from)
		w.cut()
		known := true
		a := to.request(v, func(in visit) {
			known = in.known()
			in.set("user", "ada")
		})
		w.heal()
		if known || a.save != nil {
			x.fatal("in the outage:", known, a.load, a.save)
		}
		x.holds(from.coll, 0, 1)
		if !within(20*time.Second, func() bool { return x.loggedIn(to.subject, copied) }) {
			x.fatal("the session is not there after the outage")
		}
	})
}

// TestMigrateErrors: what the old stores answer to a cookie of theirs whose session is gone
// makes a new session here, and no outage.
func TestMigrateErrors(t *testing.T) {
	t.Parallel()
	environment(t)
	try(t, func(x *trial) {
		s := openFiles(x, setting{})
		store := sessions.NewFilesystemStore(s.dir, otherKey)
		from := &old{subject: throughGorilla(store), store: store}
		from.dir = s.dir
		v := x.login(from.subject)
		x.lost(from.subject)
		a := from.request(v, func(in visit) { in.skip() })
		if !errors.Is(a.load, fs.ErrNotExist) {
			x.fatal("the old store:", a.load)
		}
		to := x.moveTo(x.collection(), from)
		a = to.request(v, func(in visit) {
			if in.known() {
				x.fatal("known")
			}
			in.set("user", "ada")
		})
		if a.save != nil || errors.Is(a.load, mongostore.ErrUnavailable) {
			x.fatal("here:", a.load, a.save)
		}
		if n, err := to.coll.CountDocuments(x.Context(), bson.D{}); err != nil || n != 1 {
			x.fatal(n, "documents", err)
		}
	})
}
