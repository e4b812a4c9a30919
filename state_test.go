package mongostore_test

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// What a store keeps of requests that are over: nothing. These tests look at the whole
// heap, so they are not parallel to any others.

// heap is what is in use after a collection.
func heap() runtime.MemStats {
	runtime.GC()
	runtime.GC() // what pools have kept through the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m
}

// TestNothingIsRetained of sessions that were loaded, changed, saved and removed.
func TestNothingIsRetained(t *testing.T) {
	f := storetest.Setup(t)
	b := f.Browser()
	text := strings.Repeat("x", 64<<10)
	b.Do(func(s *sessions.Session) { s.Values["text"] = text })
	requests := func(n int) {
		for i := range n {
			b.Load()
			b.Do(func(s *sessions.Session) { s.Values["n"] = i })
			other := f.Browser()
			other.Do(func(s *sessions.Session) { s.Values["text"] = text })
			other.Logout()
			f.Log.Reset()
		}
	}
	requests(10) // fill the pools and buffers
	before := heap()
	const n = 100
	requests(n)
	limit := before.HeapAlloc + n*uint64(len(text))/4 // of the 4 times that much which went through
	storetest.Eventually(t, "the sessions of finished requests are gone from memory", func() bool {
		return heap().HeapAlloc < limit
	})
}

// TestNoReferenceIsRetained: the store retains no reference, not even a weak one, to sessions
// that left nothing else.
func TestNoReferenceIsRetained(t *testing.T) {
	f := storetest.Setup(t, func(c *mongostore.Config) { c.SkipEmpty = true })
	requests := func(n int) {
		for range n {
			r, w := httptest.NewRequest(http.MethodGet, "https://example.com/", nil), httptest.NewRecorder()
			session, err := f.Store.Get(r, storetest.Name)
			if err != nil {
				t.Fatal(err)
			}
			if err := session.Save(r, w); err != nil || len(w.Header()) > 0 {
				t.Fatal(err, w.Header())
			}
			if session, err := f.Store.New(r, "no name, for a cookie"); session == nil || err == nil {
				t.Fatal("a session of any name")
			}
		}
	}
	requests(1000)
	before := heap().HeapObjects
	const n = 10_000
	requests(n)
	f.WantCommands()
	began := time.Now()
	storetest.Eventually(t, "the references to finished requests' sessions are gone", func() bool {
		return heap().HeapObjects < before+n/5
	})
	t.Logf("%d objects before, %d after, gone in %v", before, heap().HeapObjects, time.Since(began))
}
