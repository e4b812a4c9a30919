package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Plan says how long to measure.
type Plan struct {
	Rounds int           // at most; in each, every contender has one turn
	Turn   time.Duration // how long the floor's turn lasts, about
	Time   time.Duration // no further rounds after this time, but each order is tried once
}

// Result is what a contender cost in a case. Figures are per request.
type Result struct {
	Case
	Store    string  `json:"store"`
	Requests int     `json:"requests"` // that were measured
	Nanos    float64 `json:"nanos"`    // median over the rounds
	Ratio    float64 `json:"ratio"`    // to the floor in the same round, median over the rounds
	Low      float64 `json:"low"`      // the ratio's median lies between these two
	High     float64 `json:"high"`     // with a confidence of 95 per cent
	CPU      float64 `json:"cpu"`      // ns of this process, mean
	Over     float64 `json:"over"`     // ns of CPU beyond the floor's in the same round, median
	Allocs   float64 `json:"allocs"`   // median
	Bytes    float64 `json:"bytes"`    // allocated, median

	// Of the server's traffic, counted apart.
	Sent     float64 `json:"sent"`
	Received float64 `json:"received"`
	Commands float64 `json:"commands"`
	Payload  float64 `json:"payload"`
	Written  float64 `json:"written"`

	rounds []turn
}

// turn is what k requests of one contender cost in one round.
type turn struct {
	nanos, cpu, allocs, bytes float64 // per request
}

// runner has the contenders of one case.
type runner struct {
	c        Case
	content  *Content
	all      []*Contender
	browsers [][]*Browser // by contender
	each     int          // requests per browser and turn
}

// Compare measures a case. In each round every contender has one turn, in an order in
// which, over the rounds, each follows each other equally often. The first contender is
// the one that ratios refer to.
func Compare(all []*Contender, c Case, content *Content, plan Plan) ([]Result, error) {
	r := &runner{c: c, content: content, all: slices.DeleteFunc(slices.Clone(all), func(x *Contender) bool { return !x.Holds(c.Size) })}
	if err := r.warmUp(plan.Turn); err != nil {
		return nil, err
	}
	results := make([]Result, len(r.all))
	for i, x := range r.all {
		results[i] = Result{Case: c, Store: x.Name}
	}
	orders := balanced(len(r.all))
	began := time.Now()
	for round := range plan.Rounds {
		if round%len(orders) == 0 && round > 0 && time.Since(began) > plan.Time {
			break
		}
		for _, i := range orders[round%len(orders)] {
			t, err := r.turn(i)
			if err != nil {
				return nil, err
			}
			results[i].rounds = append(results[i].rounds, t)
		}
	}
	for i := range results {
		results[i].sum(results[0].rounds, r.each*c.Browsers)
	}
	return results, nil
}

// sum returns the figures of the rounds.
func (res *Result) sum(base []turn, perTurn int) {
	res.Requests = len(res.rounds) * perTurn
	column := func(f func(turn) float64) []float64 {
		values := make([]float64, len(res.rounds))
		for i, t := range res.rounds {
			values[i] = f(t)
		}
		return values
	}
	ratios := make([]float64, len(res.rounds))
	over := make([]float64, len(res.rounds))
	for i, t := range res.rounds {
		ratios[i] = t.nanos / base[i].nanos
		over[i] = t.cpu - base[i].cpu
		res.CPU += t.cpu / float64(len(res.rounds))
	}
	res.Ratio, res.Over = median(ratios), median(over)
	res.Low, res.High = interval(ratios)
	res.Nanos = median(column(func(t turn) float64 { return t.nanos }))
	res.Allocs = median(column(func(t turn) float64 { return t.allocs }))
	res.Bytes = median(column(func(t turn) float64 { return t.bytes }))
}

// warmUp opens connections, fills caches and finds out how many requests a turn has.
func (r *runner) warmUp(aim time.Duration) error {
	r.browsers = make([][]*Browser, len(r.all))
	for i := range r.all {
		for range r.c.Browsers {
			r.browsers[i] = append(r.browsers[i], &Browser{})
		}
	}
	if r.c.Op != First && r.c.Op != Logout {
		// These have one session each, for good.
		for i, x := range r.all {
			if err := r.parallel(1, func(j int) error { return x.Do(r.browsers[i][j], First, r.content) }); err != nil {
				return err
			}
		}
	}
	r.each = 1
	for {
		t, err := r.turn(0)
		if err != nil {
			return err
		}
		took := t.nanos * float64(r.each*r.c.Browsers)
		if took >= float64(aim)/2 || r.each >= 1<<12 {
			break
		}
		r.each *= 2
	}
	for i := range r.all {
		if _, err := r.turn(i); err != nil {
			return err
		}
	}
	return nil
}

// turn has a contender handle r.each requests of every browser.
func (r *runner) turn(i int) (turn, error) {
	if r.c.Op == Logout {
		return r.logouts(i)
	}
	x := r.all[i]
	u, err := measure(func() error {
		return r.parallel(r.each, func(j int) error {
			b := r.browsers[i][j]
			if r.c.Op == First {
				b = &Browser{}
			}
			return x.Do(b, r.c.Op, r.content)
		})
	})
	return u.per(float64(r.each * r.c.Browsers)), err
}

// logouts is a turn of requests that end sessions, which have to be begun before.
func (r *runner) logouts(i int) (turn, error) {
	x := r.all[i]
	begun := make([][]*Browser, r.c.Browsers)
	err := r.parallel(r.each, func(j int) error {
		b := &Browser{}
		begun[j] = append(begun[j], b)
		return x.Do(b, First, r.content)
	})
	if err != nil {
		return turn{}, err
	}
	u, err := measure(func() error {
		return r.parallel(r.each, func(j int) error {
			b := begun[j][0]
			begun[j] = begun[j][1:]
			return x.Do(b, Logout, r.content)
		})
	})
	return u.per(float64(r.each * r.c.Browsers)), err
}

// parallel calls do n times for the number of each browser, for all browsers at once.
func (r *runner) parallel(n int, do func(j int) error) error {
	repeat := func(j int) error {
		for range n {
			if err := do(j); err != nil {
				return err
			}
		}
		return nil
	}
	if r.c.Browsers == 1 {
		return repeat(0)
	}
	errs := make([]error, r.c.Browsers)
	var wg sync.WaitGroup
	for j := range errs {
		wg.Go(func() { errs[j] = repeat(j) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// measure runs f and returns what it cost.
func measure(f func() error) (turn, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu := cpuTime()
	began := time.Now()
	err := f()
	took := time.Since(began)
	cpu = cpuTime() - cpu
	runtime.ReadMemStats(&after)
	return turn{
		nanos:  float64(took),
		cpu:    float64(cpu),
		allocs: float64(after.Mallocs - before.Mallocs),
		bytes:  float64(after.TotalAlloc - before.TotalAlloc),
	}, err
}

func (t turn) per(n float64) turn {
	return turn{t.nanos / n, t.cpu / n, t.allocs / n, t.bytes / n}
}

// cpuTime is the time that this process has spent computing.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// Count has each contender handle requests of the case, one after another, and adds
// what they sent and received to the results.
func Count(ctx context.Context, env *Env, c Case, content *Content, results []Result) error {
	const warm, requests = 2, 8
	for i := range results {
		counted := *env
		counted.Meter = &Meter{}
		all, err := Open(ctx, &counted, results[i].Store)
		if err != nil {
			return err
		}
		x := all[0]
		b := &Browser{}
		one := func(op Op) {
			if err == nil {
				err = x.Do(b, op, content)
			}
		}
		var total Traffic
		for n := range warm + requests {
			switch {
			case c.Op == First, c.Op == Logout, n == 0:
				*b = Browser{}
			}
			if c.Op == Logout || c.Op != First && n == 0 {
				one(First)
			}
			before := counted.Meter.Read()
			one(c.Op)
			if n >= warm {
				total = total.add(counted.Meter.Read().sub(before), 1)
			}
		}
		if err = errors.Join(err, x.Close(ctx)); err != nil {
			return fmt.Errorf("count: %w", err)
		}
		res := &results[i]
		res.Sent = float64(total.Sent) / requests
		res.Received = float64(total.Received) / requests
		res.Commands = float64(total.Commands) / requests
		res.Payload = float64(total.Payload) / requests
		res.Written = float64(total.Written) / requests
	}
	return nil
}

// median of values, which it sorts a copy of.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// interval returns the bounds between which the median of the whole lies that values are a
// sample of, with a confidence of 95 per cent. It assumes no distribution.
func interval(values []float64) (low, high float64) {
	n := float64(len(values))
	sorted := slices.Sorted(slices.Values(values))
	half := 0.98 * math.Sqrt(n) // 1.96 standard deviations of a binomial distribution
	first := max(0, int(math.Floor(n/2-half)))
	last := min(len(sorted)-1, int(math.Ceil(n/2+half)))
	return sorted[first], sorted[last]
}

// balanced returns orders of n contenders in which, taken together, each stands at each
// place and follows each other equally often (a Williams design): what one leaves
// behind, for the server or the garbage collector, must not always hit the same next.
func balanced(n int) [][]int {
	first := make([]int, n)
	for i := range first {
		if i%2 == 0 {
			first[i] = i / 2
		} else {
			first[i] = n - 1 - i/2
		}
	}
	var orders [][]int
	for shift := range n {
		order := make([]int, n)
		for i, x := range first {
			order[i] = (x + shift) % n
		}
		orders = append(orders, order)
		if n%2 == 1 {
			mirrored := slices.Clone(order)
			slices.Reverse(mirrored)
			orders = append(orders, mirrored)
		}
	}
	return orders
}
