package bench

import (
	"math"
	"strings"
	"testing"
	"time"
)

// TestWriteRate: the formula says what playing requests through says.
func TestWriteRate(t *testing.T) {
	for _, p := range []Policy{{}, {Unchanged: true}, {Unchanged: true, Throttle: time.Minute}, {Unchanged: true, Throttle: 10 * time.Minute}} {
		for _, rate := range []float64{0.5 / 60, 2.0 / 60, 30.0 / 60} {
			for _, changed := range []float64{0, 0.01, 0.2, 1} {
				want := Simulate(p, rate, changed, 400_000, 1)
				if got := WriteRate(p, rate, changed); math.Abs(got-want) > 0.03*want {
					t.Errorf("%+v, %.4f requests/s, %.2f changed: %.6f writes/s, simulated %.6f", p, rate, changed, got, want)
				}
			}
		}
	}
}

// TestThrottleIsTheStores: the store's default is what the estimate reckons with, and a change
// moves the expiry no sooner.
func TestThrottleIsTheStores(t *testing.T) {
	content := contents(t)[Small]
	throttle := policies[OwnName].Throttle
	sent := func(op Op, ago time.Duration) Traffic {
		t.Helper()
		traffic, err := seenBefore(t.Context(), newMemory().env(), content, op, ago)
		if err != nil {
			t.Fatal(err)
		}
		return traffic
	}
	early, late := throttle-2*time.Second, throttle+time.Second
	for ago, commands := range map[time.Duration]int64{early: 1, late: 2} {
		if n := sent(Keep, ago).Commands; n != commands {
			t.Errorf("seen %v ago: %d commands, want %d", ago, n, commands)
		}
	}
	// Two names and dates more, and the operator for them if $set is not used already.
	const dates = len("seenAt") + len("expiresAt") + 2*(1+1+8)
	if a, b := sent(Change, early), sent(Change, late); a.Commands != 2 || b.Commands != 2 || b.Written-a.Written < int64(dates) {
		t.Errorf("a change sends %+v, and %+v when the expiry moves", a, b)
	}
}

// TestEstimate, by hand: a million sessions of 400 bytes, 100,000 of them at 2 pages
// per minute.
func TestEstimate(t *testing.T) {
	f := Footprint{Store: OwnName, Document: 400, Compressed: 244, KeyBytes: 43, WriteBytes: 500, TouchBytes: 600, ReadBytes: 450, Policy: policies[LazyName]}
	u := Usage{Sessions: 1e6, Active: 0.1, Pages: 2, Changed: 0.5, Life: 10 * 24 * time.Hour}
	c := Capacity{Cache: 1e9, Disk: 1e12, Reads: 1000, Writes: 2000}
	got := Estimate(f, u, c)
	want := Demand{
		Storage:    1e6 * (252/0.9 + 53/0.7 + 19/0.7),
		Reads:      1e5 * 2 / 60,
		Writes:     1e5 * 2 / 60,
		Deletes:    1e6 / 864000.0,
		WriteBytes: 1e5 * 2 / 60.0 * 550, // half of them are changes
		ReadBytes:  1e5 * 2 / 60.0 * 450,
		// 408/0.9·1e6/32768 = 13835 pages, of which e^-7.2 are missed; 53/0.7·1e6/16384 =
		// 4621 and 1657 pages, of which none are.
		WorkingSet: 13835*(1-math.Exp(-1e5/13835.0))*32768 + 53/0.7*1e6 + 19/0.7*1e6,
		Shards:     4, // 3333 reads
		Bound:      "reads",
	}
	for name, pair := range map[string][2]float64{
		"storage": {got.Storage, want.Storage}, "working set": {got.WorkingSet, want.WorkingSet},
		"reads": {got.Reads, want.Reads}, "writes": {got.Writes, want.Writes}, "deletes": {got.Deletes, want.Deletes},
		"bytes written": {got.WriteBytes, want.WriteBytes}, "bytes read": {got.ReadBytes, want.ReadBytes},
	} {
		if math.Abs(pair[0]-pair[1]) > 0.001*pair[1] {
			t.Errorf("%s: %v, want %v", name, pair[0], pair[1])
		}
	}
	if got.Shards != want.Shards || got.Bound != want.Bound {
		t.Errorf("%d shards for their %s", got.Shards, got.Bound)
	}
	const answer = "Ten million sessions of 8 values, of which 1,000,000 are in use, need 3.8 GB of disk, "
	if got := SizingAnswer(f, u, c); !strings.HasPrefix(got, answer) || !strings.Contains(got, "33,333 writes\na second") || !strings.Contains(got, " 34 shards") {
		t.Errorf("answer: %s", got)
	}
	// With few sessions in use, few pages are in memory; never more than there are.
	u.Active = 1e-5
	if l := Estimate(f, u, c); l.WorkingSet > 10*(documentPage+2*indexPage) {
		t.Errorf("10 sessions keep %v bytes in memory", l.WorkingSet)
	}
	// A document of more than a page is read whole.
	u.Sessions, u.Active, f.Document = 1e6, 0.01, 70_000
	if l := Estimate(f, u, c); l.WorkingSet < 1e4*70_000*0.99 || l.WorkingSet > 1e4*70_000*1.3 {
		t.Errorf("10,000 large sessions keep %v bytes in memory", l.WorkingSet)
	}
	u.Sessions, u.Active, f.Document = 1, 1, 400
	if l := Estimate(f, u, c); l.WorkingSet > documentPage+2*indexPage || l.Shards != 1 {
		t.Errorf("one session: %+v", l)
	}
}

func TestNumbers(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(x); got != want {
			t.Errorf("%v: %s", x, got)
		}
	}
	for x, want := range map[float64]string{0: "0.0 B", 999: "999 B", 1500: "1.5 KB", 23e9: "23 GB"} {
		if got := size(x); got != want {
			t.Errorf("%v: %s", x, got)
		}
	}
}
