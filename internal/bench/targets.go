package bench

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

// Target is a promise about cost, and how it stands.
type Target struct {
	What  string
	Unit  string
	Limit float64
	Got   float64

	// Exact says that the figure is the same on every machine at every hour, so that
	// a test may fail by it. The others are times.
	Exact bool
}

// Met reports whether the promise is kept.
func (t Target) Met() bool { return t.Got <= t.Limit }

func (t Target) String() string {
	verdict := "ok"
	if !t.Met() {
		verdict = "MISSED"
	}
	return fmt.Sprintf("%-62s %9.2f  at most %8.2f %-11s %s", t.What, t.Got, t.Limit, t.Unit, verdict)
}

// ExactTargets measures what can be counted. It is done over a wire in memory.
func ExactTargets(ctx context.Context) ([]Target, error) {
	var targets []Target
	for _, t := range []struct {
		size   Size
		op     Op
		allocs float64
		kib    float64
		cmds   float64
		update float64 // bytes of the document of the command that writes
		both   float64 // and of that with the one that reads
	}{
		{Small, Keep, 50, 6, 1, 0, 0},
		{Small, Change, 60, 0, 2, 0, 0},
		{Large, Keep, 0, 0, 1, 0, 0},
		{Large, Change, 0, 0, 2, 400, 431},
	} {
		c := Case{t.size, t.op, 1}
		content, err := NewContent(ctx, Values(t.size))
		if err != nil {
			return nil, err
		}
		over, err := overFloor(ctx, c, content)
		if err != nil {
			return nil, err
		}
		own := []Result{{Case: c, Store: OwnName}}
		if err := Count(ctx, newMemory().env(), c, content, own); err != nil {
			return nil, err
		}
		add := func(what, unit string, limit, got float64) {
			if limit > 0 {
				targets = append(targets, Target{name(c) + ": " + what, unit, limit, got, true})
			}
		}
		add("allocations above the floor", "", t.allocs, over.allocs)
		add("allocated above the floor", "KiB", t.kib, over.bytes/1024)
		add("commands", "", t.cmds, own[0].Commands)
		add("size of the update", "B", t.update, own[0].Written)
		add("size of find and update", "B", t.both, own[0].Payload)
		if t.op == Keep {
			targets = append(targets, Target{name(c) + ": size of commands that write", "B", 0, own[0].Written, true})
		}
	}
	for _, op := range []Op{Load, Keep, Change} {
		slope, err := growth(ctx, op)
		if err != nil {
			return nil, err
		}
		targets = append(targets, Target{
			fmt.Sprintf("64 values, %s: bytes allocated per byte of value, above floor", words[op]),
			"B", 1.05, slope, true,
		})
	}
	return targets, nil
}

// TimedTargets measures what takes time, on a server.
func TimedTargets(ctx context.Context, env *Env, description string, plan Plan) ([]Target, error) {
	embedded := !strings.HasPrefix(description, "MongoDB ")
	all, err := Open(ctx, env, FloorName, OwnName)
	if err != nil {
		return nil, err
	}
	defer func() { _ = CloseAll(context.WithoutCancel(ctx), all) }()
	var targets []Target
	for _, t := range []struct {
		size              Size
		op                Op
		embedded, mongodb float64
	}{
		{Small, Keep, 1.08, 1.10},
		{Small, Change, 1.04, 1.05},
		{Large, Keep, 1.05, 1.25},
		{Large, Change, 1.03, 1.05},
	} {
		c := Case{t.size, t.op, 1}
		content, err := NewContent(ctx, Values(t.size))
		if err != nil {
			return nil, err
		}
		results, err := Compare(all, c, content, plan)
		if err != nil {
			return nil, err
		}
		limit := t.mongodb
		if embedded {
			limit = t.embedded
		}
		own := results[1]
		targets = append(targets, Target{
			fmt.Sprintf("%s: time (%.0f µs, %.3f to %.3f)", name(c), own.Nanos/1e3, own.Low, own.High),
			"of floor", limit, own.Ratio, false,
		})
	}
	share, err := Share(ctx, plan)
	if err != nil {
		return nil, err
	}
	return append(targets, share), nil
}

// Share is the CPU that the store itself takes for a load and a save of eight
// values, everything but the driver's calls, as a part of CookieStore's whole request.
//
// It is measured on one processor. The driver starts a goroutine for every command, and
// what it costs to wake an idle processor for it depends on how long that had nothing to
// do: the store would be charged for being slower than the floor, in the driver's own call.
func Share(ctx context.Context, plan Plan) (Target, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	t := Target{What: name(Case{Small, Keep, 1}) + ": own CPU", Unit: "of CookieStore", Limit: 0.25}
	all, err := Open(ctx, newMemory().env(), FloorName, OwnName, CookieName)
	if err != nil {
		return t, err
	}
	defer func() { _ = CloseAll(context.WithoutCancel(ctx), all) }()
	content, err := NewContent(ctx, Values(Small))
	if err != nil {
		return t, err
	}
	results, err := Compare(all, Case{Small, Keep, 1}, content, plan)
	if err != nil {
		return t, err
	}
	floor, own, cookie := results[0].rounds, results[1].rounds, results[2].rounds
	shares := make([]float64, len(own))
	for i := range own {
		shares[i] = (own[i].cpu - floor[i].cpu) / cookie[i].cpu
	}
	t.Got = median(shares)
	low, high := interval(shares)
	t.What += fmt.Sprintf(" (%.1f of %.1f µs, %.3f to %.3f)",
		(results[1].CPU-results[0].CPU)/1e3, results[2].CPU/1e3, low, high)
	return t, nil
}

// words for operations and sizes, in tables.
var words = map[Op]string{
	Load:   "load",
	Keep:   "load and unchanged save",
	Change: "load and one changed key",
	First:  "first save",
	Logout: "load and logout",
}

var sizeWords = map[Size]string{Small: "8 values", Large: "64 KiB"}

func name(c Case) string { return sizeWords[c.Size] + ", " + words[c.Op] }

// overFloor is what the store allocates for a request beyond the floor.
func overFloor(ctx context.Context, c Case, content *Content) (turn, error) {
	all, err := Open(ctx, newMemory().env(), FloorName, OwnName)
	if err != nil {
		return turn{}, err
	}
	defer func() { _ = CloseAll(context.WithoutCancel(ctx), all) }()
	// The collector empties pools, and what is allocated would depend on when it runs.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	r := &runner{c: c, content: content, all: all}
	if err := r.warmUp(0); err != nil {
		return turn{}, err
	}
	r.each = 200
	// The first turn still fills pools and maps.
	const rounds = 5
	var allocs, bytes []float64
	for range rounds {
		floor, err := r.turn(0)
		if err != nil {
			return turn{}, err
		}
		own, err := r.turn(1)
		if err != nil {
			return turn{}, err
		}
		allocs, bytes = append(allocs, own.allocs-floor.allocs), append(bytes, own.bytes-floor.bytes)
	}
	return turn{allocs: median(allocs), bytes: median(bytes)}, nil
}

// growth is how many bytes the store allocates, beyond the floor, for a further byte
// of a value that a request does not change.
func growth(ctx context.Context, op Op) (float64, error) {
	var over [2]float64
	sizes := [2]int{1 << 10, 4 << 10} // as they are allocated, with nothing to round up
	for i, size := range sizes {
		content, err := NewContent(ctx, blocks(size))
		if err != nil {
			return 0, err
		}
		t, err := overFloor(ctx, Case{Large, op, 1}, content)
		if err != nil {
			return 0, err
		}
		over[i] = t.bytes
	}
	return (over[1] - over[0]) / float64(64*(sizes[1]-sizes[0])), nil
}
