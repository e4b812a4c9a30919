package mongostore_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestTTLIndexIsCreated: opening the store creates the index.
func TestTTLIndexIsCreated(t *testing.T) {
	t.Parallel()
	onTTLServers(t, mongostore.CleanupTTLIndex, func(t *testing.T, f *storetest.Fixture, coll *mongo.Collection) {
		wantTTLIndex(t, coll)
		if log := f.Text.String(); log != "" {
			t.Errorf("log: %s", log)
		}
		if err := f.Store.EnsureIndexes(t.Context()); err != nil {
			t.Errorf("once more: %v", err)
		}
	})
}

// TestTTLIndexOfNew: the first save creates the index in the background.
func TestTTLIndexOfNew(t *testing.T) {
	t.Parallel()
	onTTLServers(t, mongostore.CleanupOff, func(t *testing.T, f *storetest.Fixture, coll *mongo.Collection) {
		store, err := mongostore.New(f.Cfg.Client.Database(f.Cfg.Database).Collection(f.Cfg.Collection), storetest.SigningKey)
		if err != nil {
			t.Fatal(err)
		}
		b := f.Browser()
		b.Store = store
		b.Login()
		storetest.Eventually(t, "there is an index", func() bool {
			indexes, err := coll.Indexes().ListSpecifications(t.Context())
			return err == nil && len(indexes) == 2
		})
		wantTTLIndex(t, coll)
		if err := store.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// onTTLServers runs a test on the test server, if that has TTL indexes, and on a scripted
// server that responds as MongoDB does: its index exists once a command has created it. The
// test looks at indexes through the collection.
func onTTLServers(t *testing.T, cleanup mongostore.Cleanup, test func(*testing.T, *storetest.Fixture, *mongo.Collection)) {
	t.Helper()
	change := func(c *mongostore.Config) { c.Cleanup = cleanup }
	t.Run("test server", func(t *testing.T) {
		t.Parallel()
		storetest.NeedsMongoDB(t, "TTL indexes")
		f := storetest.Setup(t, change)
		test(t, f, f.Coll)
	})
	t.Run("scripted", func(t *testing.T) {
		t.Parallel()
		f, s := storetest.SetupScripted(t, "rs")
		batch := bson.A{bson.D{{Key: "v", Value: 2}, {Key: "key", Value: bson.D{{Key: "_id", Value: 1}}}, {Key: "name", Value: "_id_"}}}
		list := func() bson.D {
			return bson.D{
				{Key: "cursor", Value: bson.D{
					{Key: "id", Value: int64(0)},
					{Key: "ns", Value: f.Coll.Database().Name() + "." + f.Coll.Name()},
					{Key: "firstBatch", Value: batch},
				}},
				{Key: "ok", Value: 1},
			}
		}
		s.On("listIndexes", storetest.Line{Reply: list()})
		s.On("createIndexes", storetest.Line{
			Reply: bson.D{{Key: "numIndexesBefore", Value: 1}, {Key: "numIndexesAfter", Value: 2}, {Key: "ok", Value: 1}},
			Do: func(command bson.Raw) {
				made, _ := command.Lookup("indexes").Array().Values()
				for _, index := range made {
					batch = append(batch, index.Document())
				}
				s.On("listIndexes", storetest.Line{Reply: list()})
			},
		})
		change(&f.Cfg)
		f.Store = f.Open()
		test(t, f, f.Cfg.Client.Database(f.Cfg.Database).Collection(f.Cfg.Collection))
	})
}

func wantTTLIndex(t *testing.T, coll *mongo.Collection) {
	t.Helper()
	indexes, err := coll.Indexes().ListSpecifications(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(indexes, func(i mongo.IndexSpecification) bool {
		order, ok := i.KeysDocument.Lookup("expiresAt").AsInt64OK()
		return ok && order == 1 && i.ExpireAfterSeconds != nil && *i.ExpireAfterSeconds == 0
	}) {
		t.Errorf("no TTL index: %+v", indexes)
	}
}

// TestOtherExpiryIndex: an existing index with other options is reported with the command that
// corrects it, and that command works.
func TestOtherExpiryIndex(t *testing.T) {
	t.Parallel()
	storetest.NeedsMongoDB(t, "TTL indexes")
	f := storetest.Setup(t, func(c *mongostore.Config) { c.Cleanup = mongostore.CleanupTTLIndex })
	if err := f.Coll.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Coll.Indexes().CreateOne(t.Context(), mongo.IndexModel{
		Keys: bson.D{{Key: "expiresAt", Value: 1}}, Options: options.Index().SetExpireAfterSeconds(3600),
	}); err != nil {
		t.Fatal(err)
	}
	f.Open()
	if log := f.Text.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "set its expireAfterSeconds to 0") {
		t.Errorf("log: %s", log)
	}
	if err := f.Coll.Database().RunCommand(t.Context(), bson.D{
		{Key: "collMod", Value: f.Coll.Name()},
		{Key: "index", Value: bson.D{{Key: "name", Value: "expiresAt_1"}, {Key: "expireAfterSeconds", Value: 0}}},
	}).Err(); err != nil {
		t.Fatal(err)
	}
	if err := f.Store.EnsureIndexes(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestTTLIndexRefused: one warning, and the store sweeps instead.
func TestTTLIndexRefused(t *testing.T) {
	t.Parallel()
	indexes := func(spec ...bson.E) bson.D {
		index := append(bson.D{{Key: "v", Value: 2}, {Key: "key", Value: bson.D{{Key: "expiresAt", Value: 1}}}, {Key: "name", Value: "theirs"}}, spec...)
		return bson.D{{Key: "ok", Value: 1}, {Key: "cursor", Value: bson.D{
			{Key: "id", Value: int64(0)}, {Key: "ns", Value: "a.b"}, {Key: "firstBatch", Value: bson.A{index}},
		}}}
	}
	for _, row := range []struct {
		name    string
		refusal bson.D
		indexes bson.D
		says    string // of the warning; there is none if empty
	}{
		{"not implemented", storetest.Refusal(238, "NotImplemented"), nil, "NotImplemented"},
		{"no permission", storetest.Refusal(13, "Unauthorized"), nil, "Unauthorized"},
		{"no such command", storetest.Refusal(59, "CommandNotFound"), nil, "CommandNotFound"},
		{
			"other time", storetest.Refusal(85, "IndexOptionsConflict"), indexes(bson.E{Key: "expireAfterSeconds", Value: 3600}),
			`the index \"theirs\" deletes sessions 3600 seconds late, set its expireAfterSeconds to 0`,
		},
		{"no TTL", storetest.Refusal(85, "IndexOptionsConflict"), indexes(), `the index \"theirs\" deletes nothing, drop it`},
		{"other name", storetest.Refusal(85, "IndexOptionsConflict"), indexes(bson.E{Key: "expireAfterSeconds", Value: 0}), ""},
		{"other keys", storetest.Refusal(86, "IndexKeySpecsConflict"), indexes(), "theirs"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			f.Wire.On("createIndexes", storetest.Rule{Kind: storetest.Answer, Reply: row.refusal})
			f.Wire.On("listIndexes", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")})
			if row.indexes != nil {
				f.Wire.On("listIndexes", storetest.Rule{Kind: storetest.Answer, Reply: row.indexes})
			}
			f.Cfg.Cleanup = mongostore.CleanupTTLIndex
			f.Store = f.Open()
			warnings := 1
			if row.says == "" {
				warnings = 0
			}
			wantLog := func() {
				t.Helper()
				log := f.Text.String()
				if strings.Count(log, "level=WARN") != warnings || !strings.Contains(log, row.says) {
					t.Errorf("log: %s\nwant: %s", log, row.says)
				}
			}
			wantLog()
			if err := f.Store.EnsureIndexes(t.Context()); (err == nil) != (row.says == "") {
				t.Errorf("EnsureIndexes: %v", err)
			}
			storetest.Seed(t, f, 3, time.Now().Add(-time.Minute))
			f.Browser().Login()
			if row.says != "" {
				storetest.Eventually(t, "the expired sessions are swept", func() bool { return len(f.Documents()) == 1 })
			}
			wantLog()
		})
	}
}

// TestIndexesOfATool: a store without the permission to create indexes finds those that
// another tool has created, and logs no warning.
func TestIndexesOfATool(t *testing.T) {
	t.Parallel()
	index := func(name string, keys bson.D, rest ...bson.E) bson.D {
		return append(bson.D{{Key: "v", Value: 2}, {Key: "key", Value: keys}, {Key: "name", Value: name}}, rest...)
	}
	expiry := index("one", bson.D{{Key: "expiresAt", Value: 1}}, bson.E{Key: "expireAfterSeconds", Value: 0})
	owner := index("two", bson.D{{Key: "owner", Value: 1}, {Key: "seenAt", Value: -1}})
	ascending := index("two", bson.D{{Key: "owner", Value: 1}, {Key: "seenAt", Value: 1}})
	for _, row := range []struct {
		name    string
		indexes bson.A
		says    string // of the warning; there is none if empty
	}{
		{"both", bson.A{expiry, owner}, ""},
		{"no index for owners", bson.A{expiry}, "no index for the owners"},
		{"another for owners", bson.A{expiry, ascending}, "no index for the owners"},
		{"no TTL index", bson.A{owner}, "no TTL index"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			f.Wire.On("createIndexes", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")})
			f.Wire.On("listIndexes", storetest.Rule{Kind: storetest.Answer, Reply: bson.D{{Key: "ok", Value: 1}, {Key: "cursor", Value: bson.D{
				{Key: "id", Value: int64(0)}, {Key: "ns", Value: "a.b"}, {Key: "firstBatch", Value: row.indexes},
			}}}})
			f.Cfg.Cleanup, f.Cfg.OwnerKey = mongostore.CleanupTTLIndex, "user"
			store := f.Open()
			log := f.Text.String()
			if warnings := strings.Count(log, "level=WARN"); (warnings > 0) != (row.says != "") || warnings > 1 || !strings.Contains(log, row.says) {
				t.Errorf("log: %s\nwant: %s", log, row.says)
			}
			if err := store.EnsureIndexes(t.Context()); (err == nil) != (row.says == "") {
				t.Errorf("EnsureIndexes: %v", err)
			}
		})
	}
}

// TestIndexTriedAgain: a server that is just handing over has not refused.
func TestIndexTriedAgain(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	f.Wire.On("createIndexes", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(10107, "NotWritablePrimary")})
	f.Cfg.Cleanup = mongostore.CleanupTTLIndex
	f.Open()
	if log := f.Text.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "tried again") {
		t.Errorf("log: %s", log)
	}
}

// TestSweep: the first save deletes what has expired, and no more than that.
func TestSweep(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.Cleanup = mongostore.CleanupSweep })
	storetest.Seed(t, f, 2500, time.Now().Add(-time.Minute))
	storetest.Seed(t, f, 7, time.Now().Add(time.Hour))
	f.Browser().Login()
	storetest.Eventually(t, "the expired sessions are deleted", func() bool { return len(f.Documents()) == 8 })
	// Not with each save.
	f.Log.Reset()
	for range 5 {
		f.Browser().Login()
	}
	f.WantCommands("insert", "insert", "insert", "insert", "insert")
	if log := f.Text.String(); log != "" {
		t.Errorf("log: %s", log)
	}
}

// TestSweepFails: a warning, and the save succeeds.
func TestSweepFails(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.Cleanup = mongostore.CleanupSweep })
	f.Wire.On("find", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")})
	f.Browser().Login()
	storetest.Eventually(t, "there is a warning", func() bool { return strings.Contains(f.Text.String(), "expired sessions not deleted") })
}

// TestCleanupOff: nothing is deleted unless the application says so.
func TestCleanupOff(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	storetest.Seed(t, f, 3, time.Now().Add(-time.Minute))
	f.Browser().Login()
	if err := f.Store.Close(t.Context()); err != nil { // waits for what there may be
		t.Fatal(err)
	}
	f.WantDocuments(4)
	if n, err := f.Store.Count(t.Context()); n != 1 || err != nil {
		t.Errorf("Count: %d, %v", n, err)
	}
	if n, err := f.Store.DeleteExpired(t.Context()); n != 3 || err != nil {
		t.Errorf("DeleteExpired: %d, %v", n, err)
	}
	f.WantDocuments(1)
	if n, err := f.Store.DeleteExpired(t.Context()); n != 0 || err != nil {
		t.Errorf("DeleteExpired, again: %d, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Store.DeleteExpired(ctx); err == nil {
		t.Error("DeleteExpired with a cancelled context: no error")
	}
	if _, err := f.Store.Count(ctx); err == nil {
		t.Error("Count with a cancelled context: no error")
	}
	if err := f.Store.EnsureIndexes(t.Context()); err != nil {
		t.Errorf("EnsureIndexes, with none to make: %v", err)
	}
}

// TestOpenWithoutIndexes: what goes wrong with an index is a warning, and the store works.
func TestOpenWithoutIndexes(t *testing.T) {
	t.Parallel()
	for what, r := range map[string]func(*storetest.Fixture, *storetest.Scripted){
		"conflict": func(_ *storetest.Fixture, s *storetest.Scripted) {
			s.On("createIndexes", storetest.Line{Reply: storetest.Quoting(85, "IndexOptionsConflict")})
		},
		"unauthorized": func(_ *storetest.Fixture, s *storetest.Scripted) {
			s.On("createIndexes", storetest.Line{Reply: storetest.Quoting(13, "Unauthorized")})
		},
		"not implemented": func(_ *storetest.Fixture, s *storetest.Scripted) {
			s.On("createIndexes", storetest.Line{Reply: storetest.Quoting(238, "NotImplemented")})
		},
		"no code": func(_ *storetest.Fixture, s *storetest.Scripted) {
			s.On("createIndexes", storetest.Line{Reply: bson.D{{Key: "ok", Value: 0}}})
		},
		"no primary": func(_ *storetest.Fixture, s *storetest.Scripted) {
			s.On("createIndexes", storetest.Line{Reply: storetest.SteppedNow, Steps: true, Elect: true, Once: true})
		},
		"write concern": func(_ *storetest.Fixture, s *storetest.Scripted) {
			s.On("createIndexes", storetest.Line{Apply: true, Reply: bson.D{storetest.WTimeout}})
		},
		"cut": func(f *storetest.Fixture, _ *storetest.Scripted) {
			f.Wire.On("createIndexes", storetest.Rule{Kind: storetest.Refuse})
		},
		"answer lost": func(f *storetest.Fixture, _ *storetest.Scripted) {
			f.Wire.On("createIndexes", storetest.Rule{Kind: storetest.LoseAnswer})
		},
		"garbage": func(f *storetest.Fixture, _ *storetest.Scripted) {
			f.Wire.On("createIndexes", storetest.Rule{Kind: storetest.Garble})
		},
		"torn document": func(f *storetest.Fixture, _ *storetest.Scripted) {
			f.Wire.On("createIndexes", storetest.Rule{Kind: storetest.Damage})
		},
		"nothing answered": func(f *storetest.Fixture, _ *storetest.Scripted) {
			f.Wire.On("createIndexes", storetest.Rule{Kind: storetest.Hang})
		},
	} {
		for _, set := range []string{"", "rs"} {
			t.Run(what+" "+set, func(t *testing.T) {
				t.Parallel()
				f, s := storetest.SetupScripted(t, set, func(c *mongostore.Config) { c.Timeout = 2 * time.Second })
				f.Cfg.Cleanup, f.Cfg.OwnerKey = mongostore.CleanupTTLIndex, "user"
				r(f, s)
				start := time.Now()
				f.Store = f.Open() // fails the test on an error
				if d := time.Since(start); d > storetest.Patience {
					t.Errorf("Open took %v", d)
				}
				if n := f.Wire.Count() + s.Count(); n == 0 {
					t.Error("no fault was injected")
				}
				log := f.Text.String()
				if n := strings.Count(log, "level=WARN"); n < 1 || n > 2 || n != strings.Count(log, "index") {
					t.Errorf("log: %s", log)
				}
				f.Wire.Heal()
				s.Heal()
				b := f.Browser()
				b.Store = f.Store
				storetest.Eventually(t, "a visitor can log in", func() bool {
					session, err := f.Store.New(b.Request(), storetest.Name)
					if err != nil {
						return false
					}
					session.Values["user"] = "ada"
					_, err = b.Save(session)
					return err == nil
				})
				if s := b.Load(); s.Values["user"] != "ada" {
					t.Errorf("values: %v", s.Values)
				}
			})
		}
	}
}
