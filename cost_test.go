package mongostore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// What a request costs, in commands and bytes.

// TestFiveRequests: a visit without a session, the login, a look, a change, the logout.
func TestFiveRequests(t *testing.T) {
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

// TestUnchangedIsNotWritten: also not with what encodes differently each time.
func TestUnchangedIsNotWritten(t *testing.T) {
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

// TestTouchIsThrottled: saves of an unchanged session write once per interval, and
// the interval is never above a tenth of the lifetime.
func TestTouchIsThrottled(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		interval time.Duration
		maxAge   int
		age      time.Duration // of the last touch
		writes   bool
	}{
		{0, 3600, 59 * time.Second, false},
		{0, 3600, 61 * time.Second, true},
		{0, 100, 9 * time.Second, false},
		{0, 100, 11 * time.Second, true},
		{time.Hour, 7200, 11 * time.Minute, false},
		{time.Hour, 7200, 13 * time.Minute, true},
		{10 * time.Second, 7200, 11 * time.Second, true},
	} {
		f := storetest.Setup(t, func(c *mongostore.Config) {
			c.TouchInterval = row.interval
			c.Options = &sessions.Options{Path: "/", MaxAge: row.maxAge}
		})
		b := f.Browser().Login()
		f.Edit(storetest.SetDate("seenAt", time.Now().Add(-row.age)))
		f.Log.Reset()
		b.Do(func(*sessions.Session) {})
		want := []string{"find"}
		if row.writes {
			want = append(want, "update")
		}
		f.WantCommands(want...)
		// A second request at once has nothing to do.
		b.Do(func(*sessions.Session) {})
		f.WantCommands("find")
	}
}
