package mongostore_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// What a request costs, in commands and bytes.

// TestVisitCostsOneCommandForEachNeed: a visit without a session, the login, a look, a change,
// the logout.
func TestVisitCostsOneCommandForEachNeed(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Load()
	f.WantCommands()
	b.Login()
	f.WantCommands("insert")
	b.Do(func(*sessions.Session) {})
	f.WantCommands("find")
	b.Do(func(s *sessions.Session) { s.Values["n"] = 1 })
	f.WantCommands("find", "update")
	b.Logout()
	f.WantCommands("find", "delete")
	b.Load()
	f.WantCommands()
}

// TestUnchangedSessionIsNotWritten: also not with what encodes differently each time.
func TestUnchangedSessionIsNotWritten(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Do(func(s *sessions.Session) {
		c := cart{Items: []item{{"tea", 2}, {"cups", 6}}, Notes: map[string]string{}}
		plain := map[string]any{}
		for i := range 30 {
			c.Notes[fmt.Sprintf("note %d", i)] = "text"
			plain[fmt.Sprintf("entry %d", i)] = i
		}
		s.Values["cart"], s.Values["plain"], s.Values["list"] = c, plain, []any{c, "x"}
	})
	before := f.Document()
	f.Log.Reset()
	for range 10 {
		b.Do(func(*sessions.Session) {})
		f.WantCommands("find")
	}
	if after := f.Document(); string(after) != string(before) {
		t.Error("the document has changed")
	}
	// A change within is seen.
	b.Do(func(s *sessions.Session) {
		c, ok := s.Values["cart"].(cart)
		if !ok {
			t.Fatalf("the cart is a %T", s.Values["cart"])
		}
		c.Notes["note 7"] = "another text"
	})
	f.WantCommands("find", "update")
	if c, _ := b.Load().Values["cart"].(cart); c.Notes["note 7"] != "another text" {
		t.Errorf("the change is lost: %v", c)
	}
}

// TestBytesOfAChange: a counter in a session of 64 KiB.
func TestBytesOfAChange(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Do(func(s *sessions.Session) {
		for i := range 64 {
			s.Values[fmt.Sprintf("key%d", i)] = strings.Repeat("x", 1024)
		}
		s.Values["counter"] = 0
	})
	f.Log.Reset()
	b.Do(func(s *sessions.Session) { s.Values["counter"] = 1 })
	if n := f.Log.Size(); n >= 1200 {
		t.Errorf("%d bytes of commands for one counter, want less than 1200", n)
	} else {
		t.Logf("%d bytes of commands", n)
	}
	f.WantCommands("find", "update")
}

// TestUpdateAddressesIDAlone: the server's shortest path.
func TestUpdateAddressesIDAlone(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	f.Log.Reset()
	b.Do(func(s *sessions.Session) { s.Values["n"] = 1 })
	_, commands := f.Log.Take()
	filter, err := commands[1].Lookup("updates", "0", "q").Document().Elements()
	if err != nil || len(filter) != 1 || filter[0].Key() != "_id" {
		t.Errorf("filter: %v, %v", filter, err)
	}
	if v, err := commands[1].LookupErr("updates", "0", "upsert"); err == nil && v.Boolean() {
		t.Error("the update is an upsert")
	}
}

// The memory that a request needs, above the driver's own calls: the floor. These figures
// depend only on the code, so a change that increases them fails here. (The benchmarks measure
// times.)

// TestAllocations is not parallel: it counts what the whole process allocates.
func TestAllocations(t *testing.T) {
	small := func(values map[any]any) {
		values["user"], values["id"], values["admin"], values["theme"] = "ada", 42, true, "dark"
		values["locale"], values["n"], values["score"], values["seen"] = "en-GB", 0, 1.5, time.Now().UTC().Truncate(time.Millisecond)
	}
	large := func(values map[any]any) {
		for i := range 63 {
			values[fmt.Sprintf("key%d", i)] = strings.Repeat("x", 1024)
		}
		values["n"] = 0
	}
	for _, row := range []struct {
		name          string
		fill          func(map[any]any)
		change        bool
		allocs, bytes int // at most
	}{
		{"8 values, unchanged", small, false, 46, 4 << 10},
		{"8 values, one changed", small, true, 48, 13 << 9},
		// Each key and each value are copied once, at load.
		{"64 KiB, unchanged", large, false, 230, 64<<10 + 20<<10},
		{"64 KiB, one changed", large, true, 230, 64<<10 + 24<<10},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := storetest.Setup(t)
			cookie := f.Browser().Do(func(s *sessions.Session) { row.fill(s.Values) })
			_, commands := f.Log.Take()
			id := commands[0].Lookup("documents", "0", "_id").StringValue()
			n := 0
			request := func() (*http.Request, *httptest.ResponseRecorder) {
				n++
				r := httptest.NewRequest(http.MethodGet, "https://example.com/", nil)
				r.AddCookie(&http.Cookie{Name: cookie.Name, Value: cookie.Value})
				return r, httptest.NewRecorder()
			}
			coll := f.Cfg.Client.Database(f.Cfg.Database).Collection(f.Cfg.Collection)
			floor := func() {
				r, w := request()
				ctx, cancel := context.WithTimeout(r.Context(), f.Cfg.Timeout)
				defer cancel()
				if _, err := coll.FindOne(ctx, bson.D{{Key: "_id", Value: id}}).Raw(); err != nil {
					t.Fatal(err)
				}
				if row.change {
					ctx, cancel := context.WithTimeout(r.Context(), f.Cfg.Timeout)
					defer cancel()
					set := bson.D{{Key: "$set", Value: bson.D{{Key: "values.n", Value: n}}}}
					if _, err := coll.UpdateOne(ctx, bson.D{{Key: "_id", Value: id}}, set); err != nil {
						t.Fatal(err)
					}
				}
				http.SetCookie(w, cookie)
			}
			ours := func() {
				r, w := request()
				session, err := f.Store.Get(r, storetest.Name)
				if err != nil || session.IsNew {
					t.Fatal("not loaded:", err)
				}
				if row.change {
					session.Values["n"] = n
				}
				if err := session.Save(r, w); err != nil {
					t.Fatal(err)
				}
			}
			driverAllocs, driverBytes := allocations(floor)
			allocs, bytes := allocations(ours)
			allocs, bytes = allocs-driverAllocs, bytes-driverBytes
			t.Logf("%d allocations and %d bytes above the driver's", allocs, bytes)
			if allocs > row.allocs || bytes > row.bytes {
				t.Errorf("want at most %d and %d", row.allocs, row.bytes)
			}
		})
	}
}

// TestSaveDoesNotCopyValues: what a save allocates does not grow with values that nobody
// has changed.
func TestSaveDoesNotCopyValues(t *testing.T) {
	cost := func(size int, change bool) int {
		f := storetest.Setup(t)
		b := f.Browser()
		b.Do(func(s *sessions.Session) {
			for i := range 64 {
				text := strings.Repeat("x", size)
				s.Values[fmt.Sprintf("text%d", i)] = text
				s.Values[fmt.Sprintf("list%d", i)] = []any{map[string]any{"text": text}}
			}
		})
		session, n := b.Load(), 0
		_, bytes := allocations(func() {
			if n++; change {
				session.Values["n"] = n
			}
			if _, err := b.Save(session); err != nil {
				t.Fatal(err)
			}
		})
		return bytes
	}
	for _, change := range []bool{false, true} {
		short, long := cost(16, change), cost(1024, change)
		t.Logf("changed: %t: %d bytes with values of 16, %d with values of 1024", change, short, long)
		if long > short+16<<10 { // of 126 KiB more; the driver's pools come and go
			t.Errorf("a save allocates %d bytes with long values, %d with short ones; changed: %t", long, short, change)
		}
	}
}

// allocations returns how many objects, and bytes, a run of f allocates. The driver has pools: each
// processor has its own, and a garbage collection empties them. So one processor is used, as by
// [testing.AllocsPerRun], and garbage is collected only between the rounds. Of these the least
// counts, because the driver's monitors allocate in the background.
func allocations(f func()) (allocs, bytes int) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const rounds, runs = 10, 30
	allocs, bytes = math.MaxInt, math.MaxInt
	for range rounds {
		runtime.GC()
		f()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			f()
		}
		runtime.ReadMemStats(&after)
		allocs = min(allocs, int(after.Mallocs-before.Mallocs)/runs)
		bytes = min(bytes, int(after.TotalAlloc-before.TotalAlloc)/runs)
	}
	return allocs, bytes
}

// onOneConnection configures a pool of one connection, and the background work that a store
// can have.
func onOneConnection(t *testing.T) func(*mongostore.Config) {
	client, err := mongo.Connect(options.Client().ApplyURI(storetest.Server(t).URI).SetMaxPoolSize(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	return func(c *mongostore.Config) {
		c.Client = client
		c.OwnerKey = "user"
		c.Cleanup = mongostore.CleanupSweep
		c.Timeout = time.Minute // a deadlock would last that long
	}
}

// TestRequestsShareOneConnection: fifty concurrent requests share one connection and all
// succeed, whatever they do, for none holds on to it while it waits for it.
func TestRequestsShareOneConnection(t *testing.T) {
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

// TestLoopOverSessionsMayUseTheStore: the loop over a user's sessions may use the store.
func TestLoopOverSessionsMayUseTheStore(t *testing.T) {
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

// What a request costs in time, against the test server. benchstat compares two runs:
//
//	go test -run '^$' -bench . -count 10 . >old.txt

// BenchmarkLoad loads a session of eight values.
func BenchmarkLoad(b *testing.B) { benchmarkRequests(b, nil) }

// BenchmarkSaveUnchanged loads it and saves it as it is.
func BenchmarkSaveUnchanged(b *testing.B) {
	benchmarkRequests(b, func(*sessions.Session, int) {})
}

// BenchmarkSaveOneKey loads it, changes one of its values, and saves it.
func BenchmarkSaveOneKey(b *testing.B) {
	benchmarkRequests(b, func(s *sessions.Session, n int) { s.Values["n"] = n })
}

// benchmarkRequests measures requests that load a session and, unless change is nil, save it.
// The metrics of the commands are those of one more request.
func benchmarkRequests(b *testing.B, change func(s *sessions.Session, n int)) {
	f := storetest.Setup(b)
	visitor := f.Browser()
	visitor.Do(func(s *sessions.Session) {
		s.Values["user"], s.Values["id"], s.Values["admin"], s.Values["theme"] = "ada", 42, true, "dark"
		s.Values["locale"], s.Values["n"], s.Values["score"], s.Values["seen"] = "en-GB", 0, 1.5, time.Now().UTC().Truncate(time.Millisecond)
	})
	n := 0
	request := func(store *mongostore.Store) {
		n++
		r := visitor.Request()
		session, err := store.Get(r, storetest.Name)
		if err != nil || session.IsNew {
			b.Fatal("not loaded:", err)
		}
		if change == nil {
			return
		}
		change(session, n)
		if err := session.Save(r, httptest.NewRecorder()); err != nil {
			b.Fatal(err)
		}
	}
	unlogged := f.Another()
	b.ReportAllocs()
	for b.Loop() {
		request(unlogged)
	}
	f.Log.Reset()
	request(f.Store)
	b.ReportMetric(float64(f.Log.Size()), "sent-B/op")
	b.ReportMetric(float64(len(f.Log.Reset())), "commands/op")
}
