package bench

import (
	"context"
	"errors"
	"fmt"
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
	life  time.Duration // of its cookies
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
	const life = time.Hour
	x.Helper()
	env, _ := x.place(setting{wire: w})
	client, err := env.connectV1(x.Context())
	x.must(err)
	x.cleanup(func() { _ = client.Disconnect(context.WithoutCancel(x.Context())) })
	store := lazy.NewMongoStore(client.Database(coll.Database().Name()).Collection(coll.Name()), int(life/time.Second), env.TTL, keyPairs...)
	s := throughGorilla(store)
	s.lazy, s.coll, s.ping = store, coll, func(ctx context.Context) error { return client.Ping(ctx, nil) }
	return &old{s, store, life}
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

// holding is what a collection holds.
type holding struct {
	ours   int // sessions of this store
	graves int // its tombstones
	theirs int // sessions of the old store, which have data
}

// holds checks what the collection holds. Tombstones have to last until the time.
func (x *trial) holds(coll *mongo.Collection, want holding, until time.Time) {
	x.Helper()
	var got holding
	for _, doc := range x.documents(&subject{coll: coll}) {
		if _, err := doc.LookupErr("data"); err == nil {
			got.theirs++
			continue
		}
		// The old store's TTL index must not see our documents.
		if _, err := doc.LookupErr("modified"); err == nil {
			x.fatal("document:", doc)
		}
		if doc.Lookup("rev").Type != bson.TypeNull {
			got.ours++
			if user, ok := doc.Lookup("values", "user").StringValueOK(); !ok || user != "ada" {
				x.fatal("document:", doc)
			}
			continue
		}
		got.graves++
		_, errOwner := doc.LookupErr("owner")
		values, _ := doc.Lookup("values").Document().Elements()
		if len(values) > 0 || errOwner == nil || doc.Lookup("expiresAt").Time().Before(until.Truncate(time.Millisecond)) {
			x.fatal("tombstone:", doc)
		}
	}
	if got != want {
		x.fatal(fmt.Sprintf("documents: %+v, want %+v", got, want))
	}
}

// movedTo returns where the tombstones of renewals in the collection lead to.
func (x *trial) movedTo(coll *mongo.Collection) (hashes []string) {
	x.Helper()
	for _, doc := range x.documents(&subject{coll: coll}) {
		if hash, ok := doc.Lookup("movedTo").StringValueOK(); ok {
			hashes = append(hashes, hash)
		}
	}
	return hashes
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
			return &old{throughGorilla(store), store, lifetime}, x.collection()
		},
		"FilesystemStore": func(x *trial) (*old, *mongo.Collection) {
			dir := t.TempDir()
			store := sessions.NewFilesystemStore(dir, signingKey)
			s := throughGorilla(store)
			s.dir = dir
			return &old{s, store, lifetime}, x.collection()
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

	// Before the change: three visitors.
	present, renewer, absent := x.login(from.subject), x.login(from.subject), x.login(from.subject)
	for i, v := range []*visitor{present, renewer, absent} {
		a := from.request(v, func(in visit) {
			in.set("seat", i) // CookieStore's cookies would be equal, and with them the sessions
			in.set("n", 42)
			in.set("basket", []string{"pen", "ink"})
		})
		x.must(errors.Join(a.load, a.save))
	}
	until := time.Now().Add(from.life) // an old cookie can be valid until then
	copies := map[*visitor]*visitor{present: present.clone(), renewer: renewer.clone(), absent: absent.clone()}
	to := x.moveTo(coll, from)

	// left checks what both stores hold.
	left := func(want holding) {
		x.Helper()
		if same {
			x.holds(coll, want, until)
			return
		}
		theirs := want.theirs
		want.theirs = 0
		x.holds(coll, want, until)
		if forgets && x.stored(from.subject) != theirs {
			x.fatal("the old store has", x.stored(from.subject), "sessions, want", theirs)
		}
	}
	left(holding{theirs: 3})

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
	left(holding{theirs: 3})
	x.counts(to, 0)

	// The first save moves it.
	a := to.request(present, func(in visit) { in.set("n", 43) })
	x.must(errors.Join(a.load, a.save))
	if present.cookie == copies[present].cookie {
		x.fatal("the cookie has not changed")
	}
	left(holding{ours: 1, theirs: 2})
	look(present, 43)
	x.counts(to, 1)

	// The old cookie leads to the session that was made of it, and to no other.
	look(copies[present].clone(), 43)
	left(holding{ours: 1, theirs: 2})
	x.counts(to, 1)
	if x.loggedIn(from.subject, copies[present]) == forgets {
		x.fatal("the old cookie at the old store:", !forgets)
	}
	if x.loggedIn(from.subject, present) {
		x.fatal("the new cookie opens a session of the old store")
	}

	// A renewal leaves a tombstone that leads to the new session; the old cookie opens none.
	a = to.request(renewer, func(in visit) {
		in.set("n", 44)
		x.must(in.renew())
	})
	x.must(a.load)
	left(holding{ours: 2, graves: 1, theirs: 1})
	look(renewer, 44)
	x.counts(to, 2)
	x.opensNothing(to, from, copies[renewer], forgets)
	moved := x.movedTo(coll)
	if n, err := coll.CountDocuments(x.Context(), bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: moved}}}, {Key: "values.n", Value: 44}}); len(moved) != 1 || err != nil || n != 1 {
		x.fatal("tombstones lead to", moved, "where there are", n, err)
	}

	// What ends the user's sessions leaves those that have not moved, and is final for the old cookies of those that have.
	n, err := to.own.RevokeAll(x.Context(), "ada")
	if x.must(err); n != 2 {
		x.fatal(n, "sessions ended")
	}
	left(holding{graves: 2, theirs: 1})
	x.counts(to, 0)
	if x.loggedIn(to.subject, present) || x.loggedIn(to.subject, renewer) {
		x.fatal("logged in after the end")
	}
	x.opensNothing(to, from, copies[present], forgets)
	x.opensNothing(to, from, copies[renewer], forgets)

	// The other visitor comes back only to log out. A request that has loaded his session before
	// cannot bring it back.
	if !x.loggedIn(to.subject, absent) {
		x.fatal("the third visitor is not logged in")
	}
	late := to.request(copies[absent].clone(), func(in visit) {
		if !in.known() {
			x.fatal("the late request finds no session")
		}
		in.set("n", 45)
		a := to.request(absent, func(in visit) { in.end() })
		x.must(errors.Join(a.load, a.save))
	})
	if !errors.Is(late.save, mongostore.ErrGone) || len(late.cookies) > 0 {
		x.fatal("the late request:", late.save, late.cookies)
	}
	left(holding{graves: 3})
	x.counts(to, 0)
	if absent.cookie != "" {
		x.fatal("a cookie after the logout")
	}
	x.opensNothing(to, from, copies[absent], forgets)
	if log := to.log.String(); log != "" {
		x.fatal("log:", log)
	}
}

// opensNothing checks that a copy of the old store's cookie opens no session here, nor there if that store forgets sessions.
func (x *trial) opensNothing(to *moving, from *old, copied *visitor, forgets bool) {
	x.Helper()
	if x.loggedIn(to.subject, copied) {
		x.fatal("the old cookie opens a session")
	}
	if x.loggedIn(from.subject, copied) == forgets {
		x.fatal("the old cookie at the old store:", !forgets)
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
		x.holds(from.coll, holding{theirs: 1}, time.Time{})
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
		from := &old{throughGorilla(store), store, lifetime}
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
