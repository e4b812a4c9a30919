package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// Footprint is what one session of a store takes, as measured.
type Footprint struct {
	Store      string
	Document   float64 // bytes of BSON
	Compressed float64 // bytes of it on disk
	KeyBytes   float64 // of the _id, as text
	WriteBytes float64 // of the command that saves one changed key
	TouchBytes float64 // of the one that moves the expiry of an unchanged session
	ReadBytes  float64 // of the answer to a find
	Policy     Policy
}

// Policy says which requests of a session write. A request that changes a value always does.
type Policy struct {
	Unchanged bool          // a save of an unchanged session writes, to move the expiry ...
	Throttle  time.Duration // ... if that was last moved this long ago
}

// policies of the stores. All but one of them follow from how the stores are made.
var policies = map[string]Policy{
	OwnName:  {Unchanged: true, Throttle: time.Minute}, // Config.TouchInterval's default
	LazyName: {Unchanged: true},
	SCSName:  {},
	SCSIdle:  {Unchanged: true},
}

// Usage is how an application's sessions are used.
type Usage struct {
	Sessions float64       // in the database
	Active   float64       // share of them in use at the busiest hour, each throughout
	Pages    float64       // requests per active session and minute, at random times
	Changed  float64       // share of the requests that change a value
	Life     time.Duration // from a session's first request to its expiry, on average
}

// Capacity is what one shard is taken to carry.
type Capacity struct {
	Cache  float64 // bytes of memory for the storage engine
	Disk   float64 // bytes
	Reads  float64 // per second
	Writes float64 // per second, with deletions
}

// Demand is what the sessions of a usage ask of the database.
type Demand struct {
	Storage    float64 // bytes on disk: documents and indexes
	WorkingSet float64 // bytes in memory
	Reads      float64 // per second
	Writes     float64 // per second
	Deletes    float64 // per second, by the TTL monitor
	WriteBytes float64 // per second, of the commands
	ReadBytes  float64 // per second, of the answers
	Shards     int
	Bound      string // what decides the number of shards
}

// How WiredTiger keeps things, in bytes. Pages are those of MongoDB's defaults
// (leaf_page_max: 32 KiB for collections, 16 KiB for indexes); the rest are estimates
// from its formats: an index entry is the key's bytes, the record's number and the
// cells' headers, in pages that are not full.
const (
	documentPage = 32 << 10
	indexPage    = 16 << 10

	recordOverhead = 8  // number and headers of a document
	entryOverhead  = 10 // type, end, record's number and headers of an index entry
	dateKey        = 9
	randomFill     = 0.70 // of index pages that are filled in random order
	orderedFill    = 0.90 // of those filled from one end, and of documents' pages
)

// Estimate returns the demand of a usage.
func Estimate(f Footprint, u Usage, c Capacity) Demand {
	idEntry := (f.KeyBytes + entryOverhead) / randomFill
	// A write that moves the expiry moves the entry to another place, so these pages are not
	// as full as those of an index that only grows at its end.
	ttlEntry := (dateKey + entryOverhead) / randomFill
	active := u.Sessions * u.Active
	rate := u.Pages / 60 // of a session

	l := Demand{
		Storage: u.Sessions * ((f.Compressed+recordOverhead)/orderedFill + idEntry + ttlEntry),
		Reads:   active * rate,
		Writes:  active * WriteRate(f.Policy, rate, u.Changed),
		Deletes: u.Sessions / u.Life.Seconds(),
	}
	changes, touches := f.Policy.rates(rate, u.Changed)
	l.WriteBytes = active * (changes*f.WriteBytes + touches*f.TouchBytes)
	l.ReadBytes = l.Reads * f.ReadBytes
	document := (f.Document + recordOverhead) / orderedFill
	l.WorkingSet = touched(u.Sessions*document, math.Max(documentPage, document), active) +
		touched(u.Sessions*idEntry, indexPage, active) +
		touched(u.Sessions*ttlEntry, indexPage, math.Min(active, l.Writes*3600))

	l.Shards, l.Bound = 1, "–"
	for _, need := range []struct {
		what string
		n    float64
	}{
		{"memory", l.WorkingSet / c.Cache},
		{"disk", l.Storage / c.Disk},
		{"reads", l.Reads / c.Reads},
		{"writes", (l.Writes + l.Deletes) / c.Writes},
	} {
		if n := int(math.Ceil(need.n)); n > l.Shards {
			l.Shards, l.Bound = n, need.what
		}
	}
	return l
}

// touched is how much of size bytes in pages is in memory when n sessions in use are spread
// over them at random, the worst case: of so many pages each is missed with a
// probability of (1-1/pages)^n.
func touched(size, page, n float64) float64 {
	pages := math.Max(1, size/page)
	return pages * page * -math.Expm1(n*math.Log1p(-1/math.Max(pages, 1+1e-9)))
}

// WriteRate is how often per second a session is written that gets requests at random, rate
// per second, of which a share changes a value.
func WriteRate(p Policy, rate, changed float64) float64 {
	changes, touches := p.rates(rate, changed)
	return changes + touches
}

// rates returns how often per second a session is written because a value has changed, and how
// often only to move the expiry.
//
// The expiry moves with the first request after the throttle has passed, changed or not. The
// mean time until that is the throttle and the mean time between two requests.
func (p Policy) rates(rate, changed float64) (changes, touches float64) {
	if p.Unchanged {
		touches = (1 - changed) / (p.Throttle.Seconds() + 1/rate)
	}
	return rate * changed, touches
}

// Simulate is WriteRate by playing requests through.
func Simulate(p Policy, rate, changed float64, requests int, seed uint64) float64 {
	random := rand.New(rand.NewPCG(seed, seed))
	var now, moved float64
	writes := 0
	for range requests {
		now += random.ExpFloat64() / rate
		due := p.Unchanged && now-moved >= p.Throttle.Seconds()
		if due {
			moved = now
		}
		if due || random.Float64() < changed {
			writes++
		}
	}
	return float64(writes) / now
}

// SizingAnswer says in two sentences what ten million sessions need.
func SizingAnswer(f Footprint, u Usage, c Capacity) string {
	u.Sessions = 10e6
	l := Estimate(f, u, c)
	return fmt.Sprintf("Ten million sessions of 8 values, of which %s are in use, need %s of disk, %s of memory, and %s reads and %s writes\n"+
		"a second. Under the assumptions below that is %s, each a replica set.",
		thousands(u.Sessions*u.Active), size(l.Storage), size(l.WorkingSet), thousands(l.Reads), thousands(l.Writes), plural(l.Shards, "shard"))
}

// SizingMarkdown is a table of demands.
func SizingMarkdown(footprints []Footprint, u Usage, c Capacity) string {
	var b strings.Builder
	b.WriteString("| sessions | | storage | working set | reads/s | writes/s | written/s | TTL deletions/s | shards | for their |\n")
	b.WriteString("|--:|---|--:|--:|--:|--:|--:|--:|--:|---|\n")
	for _, n := range []float64{1e6, 10e6, 100e6} {
		u.Sessions = n
		for _, f := range footprints {
			l := Estimate(f, u, c)
			fmt.Fprintf(&b, "| %.0f M | %s | %s | %s | %s | %s | %s | %.1f | %d | %s |\n", n/1e6, titles[f.Store],
				size(l.Storage), size(l.WorkingSet), thousands(l.Reads), thousands(l.Writes), size(l.WriteBytes), l.Deletes, l.Shards, l.Bound)
		}
	}
	return b.String()
}

// size writes bytes with three digits or so.
func size(bytes float64) string {
	units := []string{"B", "KB", "MB", "GB", "TB", "PB"}
	i := 0
	for bytes >= 1000 && i < len(units)-1 {
		bytes, i = bytes/1000, i+1
	}
	if bytes < 10 {
		return fmt.Sprintf("%.1f %s", bytes, units[i])
	}
	return fmt.Sprintf("%.0f %s", bytes, units[i])
}

// thousands writes a whole number in groups.
func thousands(x float64) string {
	digits := fmt.Sprintf("%.0f", x)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// FootprintMarkdown is a table of what one session takes.
func FootprintMarkdown(footprints []Footprint, u Usage) string {
	var b strings.Builder
	b.WriteString("| one session | document | compressed | command that saves a change | that moves the expiry | answer to a load | writes per hour in use |\n|---|--:|--:|--:|--:|--:|--:|\n")
	for _, f := range footprints {
		touch := "–"
		if f.TouchBytes > 0 {
			touch = fmt.Sprintf("%.0f B", f.TouchBytes)
		}
		fmt.Fprintf(&b, "| %s | %.0f B | %.0f B | %.0f B | %s | %.0f B | %.1f |\n", titles[f.Store], f.Document, f.Compressed, f.WriteBytes, touch, f.ReadBytes,
			3600*WriteRate(f.Policy, u.Pages/60, u.Changed))
	}
	return b.String()
}
