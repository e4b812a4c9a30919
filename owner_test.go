package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// userID is a type such as applications have for the IDs of their users.
type userID string

// TestSessions lists the live sessions of an owner and nobody else's, the one seen last first.
func TestSessions(t *testing.T) {
	t.Parallel()
	f := storetest.SetupOwners(t)
	var browsers []*storetest.Browser
	for range 3 {
		browsers = append(browsers, f.Browser().LoginAs("ada"))
	}
	f.Browser().LoginAs("bob")
	f.Browser().Do(func(*sessions.Session) {}) // nobody
	expired := f.Browser().LoginAs("ada").Load()
	key := func(s *sessions.Session) string { return storetest.HashOf(s.ID) }
	set := func(id, field string, at time.Time) {
		if _, err := f.Coll.UpdateByID(t.Context(), id, storetest.SetDate(field, at)); err != nil {
			t.Fatal(err)
		}
	}
	set(key(expired), "expiresAt", time.Now().Add(-time.Second))
	set(key(browsers[1].Load()), "seenAt", time.Now().Add(time.Minute))
	set(key(browsers[0].Load()), "seenAt", time.Now().Add(-time.Minute))

	f.Log.Reset()
	infos := storetest.SessionsOf(t, f.Store, "ada")
	f.WantCommands("find")
	var keys []string
	for _, info := range infos {
		keys = append(keys, info.Key)
		if !info.Is(browsers[0].Load()) && !info.Is(browsers[1].Load()) && !info.Is(browsers[2].Load()) || info.Is(expired) || info.Is(nil) {
			t.Errorf("info of another session: %+v", info)
		}
		if info.Name != storetest.Name || info.Owner != "ada" || info.Details["device"] != "" || info.Details["a.b"] != "\uFFFD" {
			t.Errorf("info: %+v", info)
		}
		if d := time.Until(info.ExpiresAt); d < 29*24*time.Hour || time.Since(info.CreatedAt) > time.Minute || info.SeenAt.IsZero() {
			t.Errorf("info: %+v", info)
		}
	}
	if want := []string{key(browsers[1].Load()), key(browsers[2].Load()), key(browsers[0].Load())}; !slices.Equal(keys, want) {
		t.Errorf("keys: %q, want %q, the one seen last first", keys, want)
	}

	// Ended early, the loop is over.
	for _, err := range f.Store.Sessions(t.Context(), "ada") {
		if err != nil {
			t.Error(err)
		}
		break
	}

	// The owner of a session changes with the value, also to none.
	browsers[0].LoginAs("bob")
	if n := len(storetest.SessionsOf(t, f.Store, "ada")); n != 2 {
		t.Errorf("%d sessions of ada, want 2", n)
	}
	if n := len(storetest.SessionsOf(t, f.Store, "bob")); n != 2 {
		t.Errorf("%d sessions of bob, want 2", n)
	}
	browsers[0].Do(func(s *sessions.Session) { delete(s.Values, "user") })
	if n := len(storetest.SessionsOf(t, f.Store, "bob")); n != 1 {
		t.Errorf("%d sessions of bob, want 1", n)
	}
	// It stays with a renewal.
	if _, err := browsers[1].Renew(browsers[1].Load()); err != nil {
		t.Fatal(err)
	}
	if n := len(storetest.SessionsOf(t, f.Store, "ada")); n != 2 {
		t.Errorf("%d sessions of ada after a renewal, want 2", n)
	}
}

// TestManySessions: more than fit into the server's first batch.
func TestManySessions(t *testing.T) {
	t.Parallel()
	f := storetest.SetupOwners(t)
	const n = 250
	docs := make([]any, n)
	for i := range docs {
		now := time.Now()
		docs[i] = bson.D{
			{Key: "_id", Value: fmt.Sprintf("key%03d", i)},
			{Key: "v", Value: 1},
			{Key: "name", Value: storetest.Name},
			{Key: "values", Value: bson.D{}},
			{Key: "owner", Value: 7},
			{Key: "rev", Value: 1},
			{Key: "createdAt", Value: now},
			{Key: "seenAt", Value: now.Add(time.Duration(i) * time.Second)},
			{Key: "expiresAt", Value: now.Add(time.Hour)},
		}
	}
	if _, err := f.Coll.InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	infos := storetest.SessionsOf(t, f.Store, 7)
	if len(infos) != n || infos[0].Key != "key249" || infos[n-1].Key != "key000" {
		t.Errorf("%d sessions", len(infos))
	}
}

// TestOwnersThatLookAlike: nothing of another owner is ever listed or ended.
func TestOwnersThatLookAlike(t *testing.T) {
	t.Parallel()
	f := storetest.SetupOwners(t)
	id := bson.NewObjectID()
	owners := []any{1, "1", "01", "1 ", int64(1) << 40, id, id.Hex(), []byte("1"), [4]byte{1, 2, 3, 4}, "ada", "Ada", "ad", "adam", "$ne", "{}", -1}
	browsers := map[any]*storetest.Browser{}
	key := func(owner any) string { return fmt.Sprintf("%T %v", owner, owner) }
	for _, owner := range owners {
		f.Browser().Do(func(s *sessions.Session) {}) // of nobody
		b := f.Browser()
		switch o := owner.(type) {
		case [4]byte: // not a value that a session can hold without gob, but it can be asked for
			b.LoginAs(o[:])
		default:
			b.LoginAs(owner)
		}
		browsers[key(owner)] = b
	}
	for _, owner := range owners {
		infos := storetest.SessionsOf(t, f.Store, owner)
		if len(infos) != 1 || infos[0].Key != storetest.HashOf(browsers[key(owner)].Load().ID) {
			t.Errorf("%s: %d sessions", key(owner), len(infos))
		}
	}
	for i, owner := range owners {
		n, err := f.Store.RevokeAll(t.Context(), owner)
		if n != 1 || err != nil {
			t.Errorf("RevokeAll(%s): %d, %v", key(owner), n, err)
		}
		for j, other := range owners {
			if alive := !browsers[key(other)].Load().IsNew; alive != (j > i) {
				t.Errorf("after RevokeAll(%s), %s is alive: %t", key(owner), key(other), alive)
			}
		}
	}
	f.WantDocuments(len(owners)) // those of nobody
}

// TestOwnersThatAreOne: the server compares numbers by value, and types derived from a
// string are strings.
func TestOwnersThatAreOne(t *testing.T) {
	t.Parallel()
	f := storetest.SetupOwners(t)
	f.Browser().LoginAs(1)
	f.Browser().LoginAs(int64(1))
	f.Browser().LoginAs(uint16(1))
	for _, owner := range []any{1, int64(1), uint8(1)} {
		if n := len(storetest.SessionsOf(t, f.Store, owner)); n != 3 {
			t.Errorf("%T: %d sessions, want 3", owner, n)
		}
	}
	f.Browser().LoginAs("ada")
	if n := len(storetest.SessionsOf(t, f.Store, userID("ada"))); n != 1 {
		t.Errorf("userID: %d sessions, want 1", n)
	}
}

// TestRevoke ends one session, also for a request that is under way, and no other.
func TestRevoke(t *testing.T) {
	t.Parallel()
	f := storetest.SetupOwners(t)
	mine, other := f.Browser().LoginAs("ada"), f.Browser().LoginAs("ada")
	underWay := other.Load()
	if err := f.Store.Revoke(t.Context(), storetest.HashOf(underWay.ID)); err != nil {
		t.Fatal(err)
	}
	underWay.Values["n"] = 1
	if w, err := other.Clone().Save(underWay); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
		t.Errorf("a request that was under way: %v", err)
	}
	if !other.Load().IsNew || mine.Load().IsNew {
		t.Error("the wrong session has ended")
	}
	if err := f.Store.Revoke(t.Context(), storetest.HashOf(underWay.ID)); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := f.Store.Revoke(t.Context(), ""); err == nil {
		t.Error("no key: no error")
	}
	f.Wire.On("delete", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")})
	if err := f.Store.Revoke(t.Context(), storetest.HashOf(mine.Load().ID)); !errors.Is(err, mongostore.ErrUnavailable) {
		t.Errorf("refused: %v", err)
	}
}

// TestRevokeAll ends all sessions of an owner but those excepted, and none of another's.
func TestRevokeAll(t *testing.T) {
	t.Parallel()
	f := storetest.SetupOwners(t)
	mine, bob := f.Browser().LoginAs("ada"), f.Browser().LoginAs("bob")
	var others []*storetest.Browser
	for range 3 {
		others = append(others, f.Browser().LoginAs("ada"))
	}
	underWay := others[0].Load()
	here := mine.Load()

	for what, except := range map[string]*sessions.Session{
		"nil": nil, "new": f.Browser().Load(), "of another store": sessions.NewSession(nil, storetest.Name),
	} {
		if n, err := f.Store.RevokeAll(t.Context(), "ada", here, except); n != 0 || err == nil {
			t.Errorf("except %s: %d, %v", what, n, err)
		}
	}
	for what, owner := range map[string]any{"nil": nil, "empty": "", "float": 1.5, "bool": true, "struct": cart{}, "big": uint64(1 << 63)} {
		if n, err := f.Store.RevokeAll(t.Context(), owner); n != 0 || err == nil {
			t.Errorf("owner %s: %d, %v", what, n, err)
		}
		for info, err := range f.Store.Sessions(t.Context(), owner) {
			if err == nil {
				t.Errorf("owner %s: %+v", what, info)
			}
		}
	}
	f.WantDocuments(5)

	n, err := f.Store.RevokeAll(t.Context(), "ada", here)
	if n != 3 || err != nil {
		t.Errorf("RevokeAll: %d, %v", n, err)
	}
	if mine.Load().IsNew || bob.Load().IsNew {
		t.Error("a session has ended that should not")
	}
	for _, b := range others {
		if !b.Load().IsNew {
			t.Error("a session is alive that should have ended")
		}
	}
	underWay.Values["n"] = 1
	if _, err := others[0].Save(underWay); !errors.Is(err, mongostore.ErrGone) {
		t.Errorf("a request that was under way: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Store.RevokeAll(ctx, "ada"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestOwnerRefused: a value that can be no owner is an error at Save, and nothing is stored.
func TestOwnerRefused(t *testing.T) {
	t.Parallel()
	f := storetest.SetupOwners(t)
	b := f.Browser()
	session := b.Load()
	session.Values["user"] = 1.5
	if w, err := b.Save(session); err == nil || !strings.Contains(err.Error(), "user") || w.Header()["Set-Cookie"] != nil {
		t.Errorf("error: %v", err)
	}
	f.WantDocuments(0)
	for _, none := range []any{nil, ""} {
		f.Browser().LoginAs(none)
	}
	for _, doc := range f.Documents() {
		if _, err := doc.LookupErr("owner"); err == nil {
			t.Errorf("an owner: %v", doc)
		}
	}
}

// TestWithoutOwnerKey: an error, not an empty list.
func TestWithoutOwnerKey(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	for info, err := range f.Store.Sessions(t.Context(), "ada") {
		if err == nil {
			t.Errorf("info: %+v", info)
		}
	}
	if _, err := f.Store.RevokeAll(t.Context(), "ada"); err == nil {
		t.Error("no error")
	}
	f.WantCommands()
}

// TestOwnerKeySetLater: sessions from before get their owner when they are next saved.
func TestOwnerKeySetLater(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	f.Cfg.OwnerKey = "user"
	b.Store = f.Open()
	if n := len(storetest.SessionsOf(t, b.Store, "ada")); n != 0 {
		t.Errorf("%d sessions before", n)
	}
	b.Do(func(*sessions.Session) {})
	if n := len(storetest.SessionsOf(t, b.Store, "ada")); n != 1 {
		t.Errorf("%d sessions after", n)
	}
	f.Log.Reset()
	b.Do(func(*sessions.Session) {})
	f.WantCommands("find")
}

// TestOwnerIndex is made, also where there is no TTL index, and used.
func TestOwnerIndex(t *testing.T) {
	t.Parallel()
	f := storetest.SetupOwners(t)
	indexes, err := f.Coll.Indexes().ListSpecifications(t.Context())
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
	f.Browser().LoginAs("ada")
	storetest.NeedsMongoDB(t, "explain")
	var plan bson.Raw
	if err := f.Coll.Database().RunCommand(t.Context(), bson.D{{Key: "explain", Value: bson.D{
		{Key: "find", Value: f.Coll.Name()},
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
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey, c.Timeout = "user", timeout })
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
	if _, err := f.Coll.InsertMany(t.Context(), docs); err != nil {
		t.Fatal(err)
	}
	f.Wire.On("getMore", storetest.Rule{Kind: storetest.Hang})
	f.Wire.On("killCursors", storetest.Rule{Kind: storetest.Hang})
	for _, all := range []bool{false, true} {
		start, before := time.Now(), f.Wire.Count()
		var last error
		for _, err := range f.Store.Sessions(t.Context(), "ada") {
			if last = err; !all {
				break
			}
		}
		if all != errors.Is(last, mongostore.ErrUnavailable) {
			t.Errorf("to the end %t: %v", all, last)
		}
		// The others are answered at once. A Timeout doubled twice is longer.
		hung := f.Wire.Count() - before
		if d := time.Since(start); hung == 0 || d > time.Duration(hung)*timeout+2*storetest.Slack {
			t.Errorf("to the end %t: took %v, and %d commands hung", all, d, hung)
		}
	}
}

// octet is a byte by another name.
type octet byte

// TestOwnersOfDerivedTypes are compared by what they hold.
func TestOwnersOfDerivedTypes(t *testing.T) {
	t.Parallel()
	f := storetest.SetupOwners(t)
	f.Browser().LoginAs([]byte{1, 2})
	for _, owner := range []any{[]octet{1, 2}, [2]octet{1, 2}, [2]byte{1, 2}} {
		if n := len(storetest.SessionsOf(t, f.Store, owner)); n != 1 {
			t.Errorf("%T: %d sessions, want 1", owner, n)
		}
	}
}

// TestDamagedSessionInAList is left out, with a warning, and ends nothing.
func TestDamagedSessionInAList(t *testing.T) {
	t.Parallel()
	f := storetest.SetupOwners(t)
	f.Browser().LoginAs("ada")
	f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "createdAt", Value: "once"}}}})
	f.Browser().LoginAs("ada")
	if n := len(storetest.SessionsOf(t, f.Store, "ada")); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
	if log := f.Text.String(); !strings.Contains(log, "damaged session") {
		t.Errorf("log: %s", log)
	}
}

// TestRevokeAllNeedsAnOwner: RevokeAll refuses nil, and a store without OwnerKey.
func TestRevokeAllNeedsAnOwner(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
	f.Browser().Login()
	if _, err := f.Store.RevokeAll(t.Context(), nil); err == nil {
		t.Error("nil: no error")
	}
	f.Cfg.OwnerKey = ""
	if _, err := f.Open().RevokeAll(t.Context(), "ada"); err == nil {
		t.Error("without OwnerKey: no error")
	}
	f.WantDocuments(1)
}
