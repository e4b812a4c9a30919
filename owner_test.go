package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
)

// userID is a type such as applications have for the IDs of their users.
type userID string

func setupOwners(t *testing.T) *fixture {
	t.Helper()
	return setup(t, func(c *mongostore.Config) {
		c.OwnerKey = "user"
		c.Describe = func(r *http.Request) map[string]string {
			return map[string]string{"device": r.UserAgent(), "a.b": "\xff"}
		}
	})
}

// loginAs makes a session of the user.
func (b *browser) loginAs(user any) *browser {
	b.f.t.Helper()
	b.do(func(s *sessions.Session) { s.Values["user"] = user })
	return b
}

// sessionsOf returns an owner's sessions.
func sessionsOf(t *testing.T, store *mongostore.Store, owner any) []mongostore.Info {
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

// TestSessions lists the live sessions of an owner and nobody else's, the one seen last first.
func TestSessions(t *testing.T) {
	t.Parallel()
	f := setupOwners(t)
	var browsers []*browser
	for range 3 {
		browsers = append(browsers, f.browser().loginAs("ada"))
	}
	f.browser().loginAs("bob")
	f.browser().do(func(*sessions.Session) {}) // nobody
	expired := f.browser().loginAs("ada").load()
	key := func(s *sessions.Session) string { return hashOf(s.ID) }
	set := func(id, field string, at time.Time) {
		if _, err := f.coll.UpdateByID(t.Context(), id, setDate(field, at)); err != nil {
			t.Fatal(err)
		}
	}
	set(key(expired), "expiresAt", time.Now().Add(-time.Second))
	set(key(browsers[1].load()), "seenAt", time.Now().Add(time.Minute))
	set(key(browsers[0].load()), "seenAt", time.Now().Add(-time.Minute))

	f.log.reset()
	infos := sessionsOf(t, f.store, "ada")
	f.wantCommands("find")
	var keys []string
	for _, info := range infos {
		keys = append(keys, info.Key)
		if !info.Is(browsers[0].load()) && !info.Is(browsers[1].load()) && !info.Is(browsers[2].load()) || info.Is(expired) || info.Is(nil) {
			t.Errorf("info of another session: %+v", info)
		}
		if info.Name != name || info.Owner != "ada" || info.Details["device"] != "" || info.Details["a.b"] != "\uFFFD" {
			t.Errorf("info: %+v", info)
		}
		if d := time.Until(info.ExpiresAt); d < 29*24*time.Hour || time.Since(info.CreatedAt) > time.Minute || info.SeenAt.IsZero() {
			t.Errorf("info: %+v", info)
		}
	}
	if want := []string{key(browsers[1].load()), key(browsers[2].load()), key(browsers[0].load())}; !slices.Equal(keys, want) {
		t.Errorf("keys: %q, want %q, the one seen last first", keys, want)
	}

	// Ended early, the loop is over.
	for _, err := range f.store.Sessions(t.Context(), "ada") {
		if err != nil {
			t.Error(err)
		}
		break
	}

	// The owner of a session changes with the value, also to none.
	browsers[0].loginAs("bob")
	if n := len(sessionsOf(t, f.store, "ada")); n != 2 {
		t.Errorf("%d sessions of ada, want 2", n)
	}
	if n := len(sessionsOf(t, f.store, "bob")); n != 2 {
		t.Errorf("%d sessions of bob, want 2", n)
	}
	browsers[0].do(func(s *sessions.Session) { delete(s.Values, "user") })
	if n := len(sessionsOf(t, f.store, "bob")); n != 1 {
		t.Errorf("%d sessions of bob, want 1", n)
	}
	// It stays with a renewal.
	if _, err := browsers[1].renew(browsers[1].load()); err != nil {
		t.Fatal(err)
	}
	if n := len(sessionsOf(t, f.store, "ada")); n != 2 {
		t.Errorf("%d sessions of ada after a renewal, want 2", n)
	}
}

// TestManySessions: more than fit into the server's first batch.
func TestManySessions(t *testing.T) {
	t.Parallel()
	f := setupOwners(t)
	const n = 250
	docs := make([]any, n)
	for i := range docs {
		now := time.Now()
		docs[i] = bson.D{
			{Key: "_id", Value: fmt.Sprintf("key%03d", i)},
			{Key: "v", Value: 1},
			{Key: "name", Value: name},
			{Key: "values", Value: bson.D{}},
			{Key: "owner", Value: 7},
			{Key: "rev", Value: 1},
			{Key: "createdAt", Value: now},
			{Key: "seenAt", Value: now.Add(time.Duration(i) * time.Second)},
			{Key: "expiresAt", Value: now.Add(time.Hour)},
		}
	}
	if _, err := f.coll.InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	infos := sessionsOf(t, f.store, 7)
	if len(infos) != n || infos[0].Key != "key249" || infos[n-1].Key != "key000" {
		t.Errorf("%d sessions", len(infos))
	}
}

// TestOwnersThatLookAlike: nothing of another owner is ever listed or ended.
func TestOwnersThatLookAlike(t *testing.T) {
	t.Parallel()
	f := setupOwners(t)
	id := bson.NewObjectID()
	owners := []any{1, "1", "01", "1 ", int64(1) << 40, id, id.Hex(), []byte("1"), [4]byte{1, 2, 3, 4}, "ada", "Ada", "ad", "adam", "$ne", "{}", -1}
	browsers := map[any]*browser{}
	key := func(owner any) string { return fmt.Sprintf("%T %v", owner, owner) }
	for _, owner := range owners {
		f.browser().do(func(s *sessions.Session) {}) // of nobody
		b := f.browser()
		switch o := owner.(type) {
		case [4]byte: // not a value that a session can hold without gob, but it can be asked for
			b.loginAs(o[:])
		default:
			b.loginAs(owner)
		}
		browsers[key(owner)] = b
	}
	for _, owner := range owners {
		infos := sessionsOf(t, f.store, owner)
		if len(infos) != 1 || infos[0].Key != hashOf(browsers[key(owner)].load().ID) {
			t.Errorf("%s: %d sessions", key(owner), len(infos))
		}
	}
	for i, owner := range owners {
		n, err := f.store.RevokeAll(t.Context(), owner)
		if n != 1 || err != nil {
			t.Errorf("RevokeAll(%s): %d, %v", key(owner), n, err)
		}
		for j, other := range owners {
			if alive := !browsers[key(other)].load().IsNew; alive != (j > i) {
				t.Errorf("after RevokeAll(%s), %s is alive: %t", key(owner), key(other), alive)
			}
		}
	}
	f.wantDocuments(len(owners)) // those of nobody
}

// TestOwnersThatAreOne: the server compares numbers by value, and types derived from a
// string are strings.
func TestOwnersThatAreOne(t *testing.T) {
	t.Parallel()
	f := setupOwners(t)
	f.browser().loginAs(1)
	f.browser().loginAs(int64(1))
	f.browser().loginAs(uint16(1))
	for _, owner := range []any{1, int64(1), uint8(1)} {
		if n := len(sessionsOf(t, f.store, owner)); n != 3 {
			t.Errorf("%T: %d sessions, want 3", owner, n)
		}
	}
	f.browser().loginAs("ada")
	if n := len(sessionsOf(t, f.store, userID("ada"))); n != 1 {
		t.Errorf("userID: %d sessions, want 1", n)
	}
}

// TestRevoke ends one session, also for a request that is under way, and no other.
func TestRevoke(t *testing.T) {
	t.Parallel()
	f := setupOwners(t)
	mine, other := f.browser().loginAs("ada"), f.browser().loginAs("ada")
	underWay := other.load()
	if err := f.store.Revoke(t.Context(), hashOf(underWay.ID)); err != nil {
		t.Fatal(err)
	}
	underWay.Values["n"] = 1
	if w, err := other.clone().save(underWay); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
		t.Errorf("a request that was under way: %v", err)
	}
	if !other.load().IsNew || mine.load().IsNew {
		t.Error("the wrong session has ended")
	}
	if err := f.store.Revoke(t.Context(), hashOf(underWay.ID)); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := f.store.Revoke(t.Context(), ""); err == nil {
		t.Error("no key: no error")
	}
	f.wire.on("delete", rule{kind: answer, reply: refusal(13, "Unauthorized")})
	if err := f.store.Revoke(t.Context(), hashOf(mine.load().ID)); !errors.Is(err, mongostore.ErrUnavailable) {
		t.Errorf("refused: %v", err)
	}
}

// TestRevokeAll ends all sessions of an owner but those excepted, and none of another's.
func TestRevokeAll(t *testing.T) {
	t.Parallel()
	f := setupOwners(t)
	mine, bob := f.browser().loginAs("ada"), f.browser().loginAs("bob")
	var others []*browser
	for range 3 {
		others = append(others, f.browser().loginAs("ada"))
	}
	underWay := others[0].load()
	here := mine.load()

	for what, except := range map[string]*sessions.Session{
		"nil": nil, "new": f.browser().load(), "of another store": sessions.NewSession(nil, name),
	} {
		if n, err := f.store.RevokeAll(t.Context(), "ada", here, except); n != 0 || err == nil {
			t.Errorf("except %s: %d, %v", what, n, err)
		}
	}
	for what, owner := range map[string]any{"nil": nil, "empty": "", "float": 1.5, "bool": true, "struct": cart{}, "big": uint64(1 << 63)} {
		if n, err := f.store.RevokeAll(t.Context(), owner); n != 0 || err == nil {
			t.Errorf("owner %s: %d, %v", what, n, err)
		}
		for info, err := range f.store.Sessions(t.Context(), owner) {
			if err == nil {
				t.Errorf("owner %s: %+v", what, info)
			}
		}
	}
	f.wantDocuments(5)

	n, err := f.store.RevokeAll(t.Context(), "ada", here)
	if n != 3 || err != nil {
		t.Errorf("RevokeAll: %d, %v", n, err)
	}
	if mine.load().IsNew || bob.load().IsNew {
		t.Error("a session has ended that should not")
	}
	for _, b := range others {
		if !b.load().IsNew {
			t.Error("a session is alive that should have ended")
		}
	}
	underWay.Values["n"] = 1
	if _, err := others[0].save(underWay); !errors.Is(err, mongostore.ErrGone) {
		t.Errorf("a request that was under way: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.store.RevokeAll(ctx, "ada"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestOwnerRefused: a value that can be no owner is an error at Save, and nothing is stored.
func TestOwnerRefused(t *testing.T) {
	t.Parallel()
	f := setupOwners(t)
	b := f.browser()
	session := b.load()
	session.Values["user"] = 1.5
	if w, err := b.save(session); err == nil || !strings.Contains(err.Error(), "user") || w.Header()["Set-Cookie"] != nil {
		t.Errorf("error: %v", err)
	}
	f.wantDocuments(0)
	for _, none := range []any{nil, ""} {
		f.browser().loginAs(none)
	}
	for _, doc := range f.documents() {
		if _, err := doc.LookupErr("owner"); err == nil {
			t.Errorf("an owner: %v", doc)
		}
	}
}

// TestWithoutOwnerKey: an error, not an empty list.
func TestWithoutOwnerKey(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for info, err := range f.store.Sessions(t.Context(), "ada") {
		if err == nil {
			t.Errorf("info: %+v", info)
		}
	}
	if _, err := f.store.RevokeAll(t.Context(), "ada"); err == nil {
		t.Error("no error")
	}
	f.wantCommands()
}

// TestOwnerKeySetLater: sessions from before get their owner when they are next saved.
func TestOwnerKeySetLater(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser().login()
	f.cfg.OwnerKey = "user"
	b.store = f.open()
	if n := len(sessionsOf(t, b.store, "ada")); n != 0 {
		t.Errorf("%d sessions before", n)
	}
	b.do(func(*sessions.Session) {})
	if n := len(sessionsOf(t, b.store, "ada")); n != 1 {
		t.Errorf("%d sessions after", n)
	}
	f.log.reset()
	b.do(func(*sessions.Session) {})
	f.wantCommands("find")
}

// TestOwnerIndex is made, also where there is no TTL index, and used.
func TestOwnerIndex(t *testing.T) {
	t.Parallel()
	f := setupOwners(t)
	indexes, err := f.coll.Indexes().ListSpecifications(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, index := range indexes {
		found = found || index.Name == "owner_1_seenAt_-1"
	}
	if !found {
		t.Errorf("indexes: %+v", indexes)
	}
	f.browser().loginAs("ada")
	needsMongoDB(t, "explain")
	var plan bson.Raw
	if err := f.coll.Database().RunCommand(t.Context(), bson.D{{Key: "explain", Value: bson.D{
		{Key: "find", Value: f.coll.Name()},
		{Key: "filter", Value: bson.D{{Key: "owner", Value: "ada"}, {Key: "expiresAt", Value: bson.D{{Key: "$gt", Value: time.Now()}}}}},
		{Key: "sort", Value: bson.D{{Key: "seenAt", Value: -1}}},
	}}}).Decode(&plan); err != nil {
		t.Fatal(err)
	}
	if s := plan.String(); !strings.Contains(s, "owner_1_seenAt_-1") || strings.Contains(s, "COLLSCAN") {
		t.Errorf("plan: %s", s)
	}
}

// TestSessionsOnABlackHole: the end of a list is as bounded as its beginning.
func TestSessionsOnABlackHole(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	f := setup(t, func(c *mongostore.Config) { c.OwnerKey, c.Timeout = "user", timeout })
	docs := make([]any, 300) // more than a batch
	for i := range docs {
		now := time.Now()
		docs[i] = bson.D{
			{Key: "_id", Value: fmt.Sprint(i)},
			{Key: "owner", Value: "ada"},
			{Key: "seenAt", Value: now},
			{Key: "expiresAt", Value: now.Add(time.Hour)},
		}
	}
	if _, err := f.coll.InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	f.wire.on("getMore", rule{kind: hang})
	f.wire.on("killCursors", rule{kind: hang})
	for _, all := range []bool{false, true} {
		start, before := time.Now(), f.wire.count()
		var last error
		for _, err := range f.store.Sessions(t.Context(), "ada") {
			if last = err; !all {
				break
			}
		}
		if all != errors.Is(last, mongostore.ErrUnavailable) {
			t.Errorf("to the end %t: %v", all, last)
		}
		// The others are answered at once. A Timeout doubled twice is longer.
		hung := f.wire.count() - before
		if d := time.Since(start); hung == 0 || d > time.Duration(hung)*timeout+2*slack {
			t.Errorf("to the end %t: took %v, and %d commands hung", all, d, hung)
		}
	}
}

// octet is a byte by another name.
type octet byte

// TestOwnersOfDerivedTypes are compared by what they hold.
func TestOwnersOfDerivedTypes(t *testing.T) {
	t.Parallel()
	f := setupOwners(t)
	f.browser().loginAs([]byte{1, 2})
	for _, owner := range []any{[]octet{1, 2}, [2]octet{1, 2}, [2]byte{1, 2}} {
		if n := len(sessionsOf(t, f.store, owner)); n != 1 {
			t.Errorf("%T: %d sessions, want 1", owner, n)
		}
	}
}

// TestDamagedSessionInAList is left out, with a warning, and ends nothing.
func TestDamagedSessionInAList(t *testing.T) {
	t.Parallel()
	f := setupOwners(t)
	f.browser().loginAs("ada")
	f.edit(bson.D{{Key: "$set", Value: bson.D{{Key: "createdAt", Value: "once"}}}})
	f.browser().loginAs("ada")
	if n := len(sessionsOf(t, f.store, "ada")); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
	if log := f.text.String(); !strings.Contains(log, "damaged session") {
		t.Errorf("log: %s", log)
	}
}
