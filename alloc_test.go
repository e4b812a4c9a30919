package mongostore_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore/internal/storetest"
)

// What a request costs in memory, above the driver's own calls: the floor. These figures
// depend on nothing but the code, so a change that makes them worse fails here. (Times are
// the benchmarks' matter.)

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
		{"8 values, unchanged", small, false, 65, 5 << 10},
		{"8 values, one changed", small, true, 80, 7 << 10},
		// Each key and each value are copied once, at load.
		{"64 KiB, unchanged", large, false, 250, 64<<10 + 24<<10},
		{"64 KiB, one changed", large, true, 270, 64<<10 + 32<<10},
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

// allocations returns how many objects, and bytes, a run of f allocates.
func allocations(f func()) (allocs, bytes int) {
	const runs = 100
	f()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return int(after.Mallocs-before.Mallocs) / runs, int(after.TotalAlloc-before.TotalAlloc) / runs
}
