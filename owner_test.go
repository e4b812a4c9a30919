package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// userID is a type such as applications have for the IDs of their users.
type userID string

// TestSessionsListsAnOwnersLiveSessions lists the live sessions of an owner and nobody else's,
// the one seen last first.
func TestSessionsListsAnOwnersLiveSessions(t *testing.T) {
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

// TestSessionsBeyondOneBatchAreListed: more than fit into the server's first batch.
func TestSessionsBeyondOneBatchAreListed(t *testing.T) {
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

// TestPendingLogoutIsInNoList: the session whose deletion has yet to succeed.
func TestPendingLogoutIsInNoList(t *testing.T) {
	t.Parallel()
	f := storetest.SetupOwners(t)
	b := f.Browser().LoginAs("ada")
	f.Wire.On("delete", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(11600, "InterruptedAtShutdown")})
	b.Logout()
	f.WantLive(1)
	if infos := storetest.SessionsOf(t, f.Store, "ada"); len(infos) > 0 {
		t.Errorf("listed: %v", infos)
	}
}

// TestRevokeEndsOneSession ends one session, also for a request that is under way, and no other.
func TestRevokeEndsOneSession(t *testing.T) {
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

// TestRevokeAllEndsAnOwnersSessions ends all sessions of an owner but those excepted, and none
// of another's.
func TestRevokeAllEndsAnOwnersSessions(t *testing.T) {
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

// TestInvalidOwnerStoresNothing: a value that can be no owner is an error at Save, and nothing
// is stored.
func TestInvalidOwnerStoresNothing(t *testing.T) {
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

// TestListWithoutOwnerKeyIsAnError: an error, not an empty list.
func TestListWithoutOwnerKeyIsAnError(t *testing.T) {
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

// TestLaterOwnerKeyCountsFromTheNextSave: sessions from before get their owner when they are
// next saved.
func TestLaterOwnerKeyCountsFromTheNextSave(t *testing.T) {
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

// TestOwnerIndexIsCreatedAndUsed: the index is created, also without a TTL index, and used.
func TestOwnerIndexIsCreatedAndUsed(t *testing.T) {
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

// TestEndOfAListIsBounded: the end of a list is as bounded as its beginning.
func TestEndOfAListIsBounded(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey, c.Timeout = "user", timeout })
	docs := make([]any, 300) // more than a batch
	for i := range docs {
		now := time.Now()
		docs[i] = bson.D{
			{Key: "_id", Value: fmt.Sprint(i)},
			{Key: "v", Value: 1},
			{Key: "name", Value: storetest.Name},
			{Key: "values", Value: bson.D{}},
			{Key: "owner", Value: "ada"},
			{Key: "rev", Value: 1},
			{Key: "createdAt", Value: now},
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
		// The others get an immediate response. A Timeout doubled twice is longer.
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

// TestDamagedSessionIsLeftOutOfLists is left out, with a warning, and ends nothing.
func TestDamagedSessionIsLeftOutOfLists(t *testing.T) {
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

// TestAll lists the live sessions of all names and owners: no tombstone, no expired one,
// and no document of others. It needs no OwnerKey.
func TestAll(t *testing.T) {
	t.Parallel()
	for _, owners := range []bool{false, true} {
		f := storetest.Setup(t, func(c *mongostore.Config) {
			if owners {
				c.OwnerKey = "user"
			}
		})
		var want []string
		for i, user := range []any{"ada", "bob", nil} {
			b := f.Browser()
			b.Visit(func(s *sessions.Session) {
				if user != nil {
					s.Values["user"] = user
				}
			})
			session := b.Load()
			if i == 0 {
				b.MustRenew(session)
			}
			key, err := f.Store.Key(session)
			if err != nil || key != storetest.HashOf(session.ID) {
				t.Errorf("Key: %q, %v", key, err)
			}
			want = append(want, key)
		}
		expired := f.Browser()
		expired.Visit(storetest.SetValue("user", "eve"))
		filter := bson.D{{Key: "_id", Value: storetest.HashOf(expired.Load().ID)}}
		if _, err := f.Coll.UpdateOne(t.Context(), filter, storetest.SetDate("expiresAt", time.Now().Add(-time.Hour))); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Coll.InsertOne(t.Context(), bson.D{{Key: "owner", Value: "ada"}, {Key: "expiresAt", Value: time.Now().Add(time.Hour)}}); err != nil {
			t.Fatal(err)
		}
		var got []string
		for info, err := range f.Store.All(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, info.Key)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("OwnerKey %t: listed %q, want %q", owners, got, want)
		}
		for _, err := range f.Store.All(t.Context()) {
			if err != nil {
				t.Error(err)
			}
			break // leaks nothing
		}
	}
}

// TestKey is an error for a session that is not stored.
func TestKey(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	if key, err := f.Store.Key(f.Browser().Load()); err == nil || key != "" {
		t.Errorf("new session: %q, %v", key, err)
	}
	if key, err := f.Store.Key(nil); err == nil || key != "" {
		t.Errorf("nil: %q, %v", key, err)
	}
	b := f.Browser()
	b.Visit(storetest.SetValue("user", "ada"))
	session := b.Load()
	before, _ := f.Store.Key(session)
	b.MustRenew(session)
	after, err := f.Store.Key(session)
	if err != nil || after == before || after != storetest.HashOf(session.ID) {
		t.Errorf("renewed: %q, %v", after, err)
	}
	if err := f.Store.Revoke(t.Context(), after); err != nil {
		t.Error(err)
	}
	b.WantOut("revoked")
}

// TestPing: Ping reports whether the database responds.
func TestPing(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	f.Store = f.OpenWith(storetest.Soon)
	if err := f.Store.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	f.Wire.RefuseAll()
	if err := f.Store.Ping(t.Context()); !errors.Is(err, mongostore.ErrUnavailable) {
		t.Errorf("refused: %v", err)
	}
	f.Wire.Heal()
	storetest.Eventually(t, "the server answers", func() bool { return f.Store.Ping(t.Context()) == nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Store.Ping(ctx); !errors.Is(err, context.Canceled) || !errors.Is(err, mongostore.ErrUnavailable) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestStoreWithoutOwnerKeyLeavesTheOwner: a job, or an older process, that knows of no
// owners does not take a session out of the reach of RevokeAll.
func TestStoreWithoutOwnerKeyLeavesTheOwner(t *testing.T) {
	t.Parallel()
	for what, use := range map[string]func(*storetest.Browser) error{
		"Persist": func(job *storetest.Browser) error {
			s, err := job.Store.Fetch(job.F.T.Context(), storetest.Name, job.Load().ID)
			if err == nil {
				s.Values["n"] = 1
				err = job.Store.Persist(job.F.T.Context(), s)
			}
			return err
		},
		"Save": func(job *storetest.Browser) error {
			s := job.Load()
			s.Values["n"] = 1
			_, err := job.Save(s)
			return err
		},
		"Save of another user": func(job *storetest.Browser) error {
			s := job.Load()
			s.Values["user"] = "ada"
			s.Values["owner"] = "bob"
			_, err := job.Save(s)
			return err
		},
		"unchanged Save": func(job *storetest.Browser) error {
			_, err := job.Save(job.Load())
			return err
		},
		"touch": func(job *storetest.Browser) error {
			job.F.Older(2 * time.Minute)
			_, err := job.Save(job.Load())
			return err
		},
		"MaxAge": func(job *storetest.Browser) error {
			s := job.Load()
			s.Options.MaxAge = 60
			_, err := job.Save(s)
			return err
		},
		"Renew": func(job *storetest.Browser) error {
			s := job.Load()
			s.Values["n"] = 1
			_, err := job.Renew(s)
			return err
		},
		"Renew with a change by another request": func(job *storetest.Browser) error {
			s := job.Load()
			job.Clone().Visit(storetest.SetValue("n", 1))
			_, err := job.Renew(s)
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) {
				c.OwnerKey = "user"
				c.Describe = func(*http.Request) map[string]string { return map[string]string{"device": "phone"} }
			})
			b := f.Browser()
			b.Visit(storetest.SetValue("user", "ada"))
			before := f.Document()
			job, err := mongostore.New(f.Cfg.Client.Database(f.Cfg.Database).Collection(f.Cfg.Collection), signingKey)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = job.Close(context.WithoutCancel(t.Context())) })
			f.Log.Reset()
			if err := use(b.At(job)); err != nil {
				t.Fatal(err)
			}
			if what == "unchanged Save" {
				f.WantCommands("find") // of the load
			}
			after := f.Document()
			for _, field := range []string{"owner", "details"} {
				if was, is := before.Lookup(field), after.Lookup(field); !was.Equal(is) {
					t.Errorf("%s was %v, is %v", field, was, is)
				}
			}
			if infos := storetest.SessionsOf(t, f.Store, "ada"); len(infos) != 1 || infos[0].Details["device"] != "phone" {
				t.Errorf("listed: %v", infos)
			}
			if n, err := f.Store.RevokeAll(t.Context(), "ada"); n != 1 || err != nil {
				t.Errorf("RevokeAll: %d, %v", n, err)
			}
			f.WantLive(0)
		})
	}
}

// TestForeignDocumentsAreLeftAlone: what has no v is none of the store's, however much
// it looks like a session.
func TestForeignDocumentsAreLeftAlone(t *testing.T) {
	t.Parallel()
	yesterday, tomorrow := time.Now().Add(-24*time.Hour), time.Now().Add(24*time.Hour)
	foreign := []any{
		bson.D{{Key: "_id", Value: 1}, {Key: "owner", Value: "ada"}, {Key: "score", Value: 97}},
		bson.D{{Key: "_id", Value: 2}, {Key: "expiresAt", Value: yesterday}},
		bson.D{{Key: "_id", Value: 3}, {Key: "expiresAt", Value: tomorrow}},
		bson.D{{Key: "_id", Value: 4}, {Key: "owner", Value: "ada"}, {Key: "expiresAt", Value: tomorrow}, {Key: "seenAt", Value: yesterday}},
		bson.D{
			{Key: "_id", Value: storetest.HashOf("5")},
			{Key: "name", Value: storetest.Name},
			{Key: "values", Value: bson.D{}},
			{Key: "owner", Value: "ada"},
			{Key: "rev", Value: 1},
			{Key: "createdAt", Value: yesterday},
			{Key: "seenAt", Value: yesterday},
			{Key: "expiresAt", Value: tomorrow},
		},
		bson.D{
			{Key: "_id", Value: storetest.HashOf("6")},
			{Key: "name", Value: storetest.Name},
			{Key: "values", Value: bson.D{}},
			{Key: "owner", Value: "ada"},
			{Key: "rev", Value: 1},
			{Key: "createdAt", Value: yesterday},
			{Key: "seenAt", Value: yesterday},
			{Key: "expiresAt", Value: yesterday},
		},
		bson.D{{Key: "_id", Value: bson.NewObjectID()}, {Key: "session", Value: "{}"}, {Key: "expires", Value: yesterday}},
	}
	for what, run := range map[string]func(*testing.T, *storetest.Fixture) int{ // and how many sessions of ours are left
		"Count": func(t *testing.T, f *storetest.Fixture) int {
			if n, err := f.Store.Count(t.Context()); n != 1 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			return 1
		},
		"Sessions": func(t *testing.T, f *storetest.Fixture) int {
			if infos := storetest.SessionsOf(t, f.Store, "ada"); len(infos) != 1 {
				t.Errorf("%d listed: %v", len(infos), infos)
			}
			if log := f.Text.String(); strings.Contains(log, "WARN") {
				t.Errorf("log: %s", log)
			}
			return 1
		},
		"RevokeAll": func(t *testing.T, f *storetest.Fixture) int {
			if n, err := f.Store.RevokeAll(t.Context(), "ada"); n != 1 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			return 0
		},
		"Revoke": func(t *testing.T, f *storetest.Fixture) int {
			for _, key := range []string{storetest.HashOf("5"), storetest.HashOf("6")} {
				if err := f.Store.Revoke(t.Context(), key); err != nil {
					t.Errorf("key %s: %v", key, err)
				}
			}
			return 1
		},
		"DeleteExpired": func(t *testing.T, f *storetest.Fixture) int {
			f.Browser().Visit(storetest.SetValue("user", "bob"))
			if _, err := f.Coll.UpdateOne(t.Context(), bson.D{{Key: "owner", Value: "bob"}}, storetest.SetDate("expiresAt", yesterday)); err != nil {
				t.Fatal(err)
			}
			if n, err := f.Store.DeleteExpired(t.Context()); n != 1 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			return 1
		},
		"sweep": func(t *testing.T, f *storetest.Fixture) int {
			f.Browser().Visit(storetest.SetValue("user", "bob"))
			if _, err := f.Coll.UpdateOne(t.Context(), bson.D{{Key: "owner", Value: "bob"}}, storetest.SetDate("expiresAt", yesterday)); err != nil {
				t.Fatal(err)
			}
			b := f.Browser()
			b.Store = f.Another(func(c *mongostore.Config) { c.Cleanup = mongostore.CleanupSweep })
			b.Visit(storetest.SetValue("user", "eve"))
			storetest.Eventually(t, "the expired session is swept", func() bool {
				n, err := f.Coll.CountDocuments(t.Context(), bson.D{{Key: "owner", Value: "bob"}})
				return err == nil && n == 0
			})
			return 2
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
			f.Browser().Visit(storetest.SetValue("user", "ada"))
			if _, err := f.Coll.InsertMany(t.Context(), foreign); err != nil {
				t.Fatal(err)
			}
			left := run(t, f)
			f.WantDocuments(len(foreign) + left)
		})
	}
}

// TestTTLIndexExpiresOnlySessions: the index is partial, so it deletes no document that
// is not the store's.
func TestTTLIndexExpiresOnlySessions(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	f.Cfg.Cleanup = mongostore.CleanupTTLIndex
	f.Log.Reset()
	f.Open()
	names, commands := f.Log.Take()
	for i, command := range commands {
		if names[i] != "createIndexes" {
			continue
		}
		index := command.Lookup("indexes", "0").Document()
		if after, ok := index.Lookup("expireAfterSeconds").AsInt64OK(); !ok || after != 0 {
			t.Errorf("index: %v", index)
		}
		partial := index.Lookup("partialFilterExpression")
		if got := decoded(t, partial); !reflect.DeepEqual(got, bson.D{{Key: "v", Value: bson.D{{Key: "$exists", Value: true}}}}) {
			t.Errorf("partialFilterExpression: %v", got)
		}
		return
	}
	t.Errorf("no index was asked for: %q", names)
}

// TestClientRegistryChangesNothing: whatever encoders a client has for the types in
// filters and documents.
func TestClientRegistryChangesNothing(t *testing.T) {
	t.Parallel()
	lower := func(r *bson.Registry) {
		r.RegisterTypeEncoder(reflect.TypeFor[string](), bson.ValueEncoderFunc(
			func(_ bson.EncodeContext, w bson.ValueWriter, v reflect.Value) error {
				return w.WriteString(strings.ToLower(v.String()))
			}))
	}
	dates := func(r *bson.Registry) {
		r.RegisterTypeEncoder(reflect.TypeFor[bson.DateTime](), bson.ValueEncoderFunc(
			func(_ bson.EncodeContext, w bson.ValueWriter, _ reflect.Value) error { return w.WriteDateTime(0) }))
	}
	numbers := func(r *bson.Registry) {
		r.RegisterTypeEncoder(reflect.TypeFor[int](), bson.ValueEncoderFunc(
			func(_ bson.EncodeContext, w bson.ValueWriter, v reflect.Value) error {
				return w.WriteString(fmt.Sprint(v.Int()))
			}))
	}
	for what, change := range map[string][]func(*bson.Registry){
		"strings": {lower}, "dates": {dates}, "numbers": {numbers}, "all": {lower, dates, numbers}, "none": nil,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			registry := bson.NewRegistry()
			for _, c := range change {
				c(registry)
			}
			f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
			client, err := mongo.Connect(options.Client().ApplyURI(storetest.Server(t).URI).SetRegistry(registry).
				SetBSONOptions(&options.BSONOptions{StringifyMapKeysWithFmt: true, NilSliceAsEmpty: true, OmitEmpty: true}))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
			store := f.Another(func(c *mongostore.Config) { c.Client = client })
			var browsers []*storetest.Browser
			for _, user := range []any{"Ada", "Ada", "Ada", 7} {
				b := f.Browser()
				b.Store = store
				b.Visit(storetest.SetValue("user", user))
				browsers = append(browsers, b)
			}
			this := browsers[0].Load()
			for owner, want := range map[any]int{"Ada": 3, 7: 1} {
				n := 0
				for _, err := range store.Sessions(t.Context(), owner) {
					if n++; err != nil {
						t.Errorf("Sessions of %v: %v", owner, err)
					}
				}
				if n != want {
					t.Errorf("%d sessions of %v, want %d", n, owner, want)
				}
			}
			if n, err := store.Count(t.Context()); n != 4 || err != nil {
				t.Errorf("Count: %d, %v", n, err)
			}
			expired := bson.D{{Key: "_id", Value: storetest.HashOf(browsers[1].Load().ID)}}
			if _, err := f.Coll.UpdateOne(t.Context(), expired, storetest.SetDate("expiresAt", time.Now().Add(-time.Hour))); err != nil {
				t.Fatal(err)
			}
			if n, err := store.Count(t.Context()); n != 3 || err != nil {
				t.Errorf("Count, one expired: %d, %v", n, err)
			}
			if n, err := store.DeleteExpired(t.Context()); n != 1 || err != nil {
				t.Errorf("DeleteExpired: %d, %v", n, err)
			}
			if n, err := store.RevokeAll(t.Context(), "Ada", this); n != 1 || err != nil {
				t.Errorf("RevokeAll: %d, %v", n, err)
			}
			if s := browsers[0].Load(); s.Values["user"] != "Ada" {
				t.Errorf("the exception has ended: %v", s.Values)
			}
			if err := store.Revoke(t.Context(), storetest.HashOf(this.ID)); err != nil {
				t.Error(err)
			}
			if !browsers[0].Load().IsNew {
				t.Error("Revoke has ended nothing")
			}
			f.WantLive(1)
		})
	}
}

// TestRevokeAllKeepsTheExceptionWhoseRenewalIsUndecided: its old ID ends, and not the session.
func TestRevokeAllKeepsTheExceptionWhoseRenewalIsUndecided(t *testing.T) {
	t.Parallel()
	f := storetest.SetupOwners(t)
	f.Store = f.OpenWith(time.Second)
	b := f.Browser()
	b.Visit(storetest.SetValue("user", "ada"))
	session := b.Load()
	f.Wire.On("update", storetest.Rule{Kind: storetest.Refuse, Once: true, Away: true})
	if _, err := b.Renew(session); !errors.Is(err, mongostore.ErrUnavailable) {
		t.Fatal(err)
	}
	f.Wire.Heal()
	eventuallyReachable(f)
	if _, err := f.Store.RevokeAll(t.Context(), "ada", session); err != nil {
		t.Error(err)
	}
	b.WantIn("the exception")
	f.WantLive(1)
}
