package storetest_test

import (
	"testing"

	"github.com/mongostore/mongostore/internal/storetest"
)

// TestScripted: the driver detects the scripted server as the configured kind of server.
func TestScripted(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"", "rs"} {
		f, s := storetest.SetupScripted(t, set)
		b := f.Browser().Login()
		_, commands := f.Log.Take()
		for _, c := range commands {
			if _, err := c.LookupErr("txnNumber"); (err == nil) != (set != "") {
				t.Errorf("set %q: the driver would repeat %v: %t", set, c.Index(0).Key(), err == nil)
			}
			if _, err := c.LookupErr("lsid"); err != nil {
				t.Errorf("set %q: the driver knows of no sessions", set)
			}
		}
		f.WantDocuments(1)
		s.On("find", storetest.Line{Skip: 1, Once: true, Reply: storetest.Refusal(13, "Unauthorized")})
		for i, want := range []bool{true, false, true} {
			if _, err := f.Store.New(b.Request(), storetest.Name); (err == nil) != want {
				t.Errorf("set %q: find %d: %v", set, i, err)
			}
		}
		if n := s.Count(); n != 1 {
			t.Errorf("set %q: %d commands were answered by the script, want 1", set, n)
		}
	}
}
