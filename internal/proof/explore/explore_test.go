package explore

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	explore = flag.String("explore", "quick", "quick, or all: how many schedules to try")
	runs    = flag.Int("runs", 0, "how many schedules of each campaign to try at random, instead of the quick search's number")
	seed    = flag.Uint64("seed", 1, "for what is tried at random")
	world   = flag.String("world", "", "a `regexp` of the scripts to try")
	replay  = flag.String("replay", "", "a `schedule` to repeat, as a failure prints it")
)

// chooser returns the index of what happens next, or -1.
type chooser func([]option) int

// runOnce runs a script in a bubble of its own.
func runOnce(t *testing.T, s script, faults int, choose chooser) *bubble {
	b := &bubble{script: s}
	synctest.Test(t, func(*testing.T) { b.run(choose, faults) })
	return b
}

// TestReplay repeats a schedule that failed.
func TestReplay(t *testing.T) {
	if *replay == "" {
		t.Skip("-replay is not given")
	}
	text, schedule, _ := strings.Cut(*replay, "|")
	s, err := parseScript(text)
	if err != nil {
		t.Fatal(err)
	}
	var b *bubble
	for range 20 { // what happens at the same time may come in another order
		if b = runOnce(t, s, 9, follow(strings.Fields(schedule))); !b.astray {
			break
		}
	}
	for _, v := range b.visits {
		t.Log(v)
	}
	for _, p := range b.problems {
		t.Error(p)
	}
	for _, doc := range b.server.Documents("sessions") {
		t.Log(doc)
	}
}

// follow chooses as is written, and then whatever comes first.
func follow(schedule []string) chooser {
	return func(all []option) int {
		if len(schedule) == 0 {
			return 0
		}
		want := schedule[0]
		schedule = schedule[1:]
		return slices.IndexFunc(all, func(o option) bool { return o.text == want })
	}
}

// finding is a kind of problem: for each combination of requests, whatever the settings, the
// shortest schedule that leads to it.
type finding struct {
	problem string
	times   int
	by      map[string]example
}

type example struct{ line, summary string }

type search struct {
	t        *testing.T
	limit    int // of schedules of a script and a number of faults
	rnd      *rand.Rand
	runs     int
	faulty   int
	scripts  int
	astray   int // schedules that went another way when they were repeated
	cut      int // scripts that were not searched to the end
	findings map[string]*finding
	began    time.Time
}

// script tries the schedules of a script with at most so many faults: all of them, or if
// there are many more than the limit, as many at random.
func (s *search) script(sc script, faults int) {
	s.scripts++
	if s.estimate(sc, faults) > 3*float64(s.limit) {
		s.cut++
		for range s.limit {
			s.note(runOnce(s.t, sc, faults, s.atRandom))
		}
		return
	}
	type point struct{ chosen, of int }
	var path []point
	tried := 0
	for tried < 9*s.limit {
		depth := 0
		b := runOnce(s.t, sc, faults, func(all []option) int {
			if depth == len(path) {
				path = append(path, point{0, len(all)})
			}
			p := path[depth]
			depth++
			if p.of != len(all) {
				return -1
			}
			return p.chosen
		})
		tried++
		path = path[:depth]
		if b.astray {
			s.astray++
		} else {
			s.note(b)
		}
		for len(path) > 0 && path[len(path)-1].chosen+1 >= path[len(path)-1].of {
			path = path[:len(path)-1]
		}
		if len(path) == 0 {
			return
		}
		path[len(path)-1].chosen++
	}
	s.cut++
}

// estimate returns about how many schedules there are: the mean, over some runs at random, of
// the product of the numbers of choices (Knuth, 1975).
func (s *search) estimate(sc script, faults int) float64 {
	const probes = 16
	sum := 0.0
	for range probes {
		product := 1.0
		s.note(runOnce(s.t, sc, faults, func(all []option) int {
			product *= float64(len(all))
			return s.rnd.IntN(len(all))
		}))
		sum += product
	}
	return sum / probes
}

func (s *search) atRandom(all []option) int {
	sum := 0
	for _, o := range all {
		sum += o.weight
	}
	n := s.rnd.IntN(sum)
	for i, o := range all {
		if n -= o.weight; n < 0 {
			return i
		}
	}
	return -1
}

// note keeps what a run has shown.
func (s *search) note(b *bubble) {
	s.runs++
	if b.faultsSoFar() > 0 {
		s.faulty++
	}
	for _, p := range b.problems {
		f := s.findings[p.what]
		if f == nil {
			f = &finding{problem: p.what, by: map[string]example{}}
			s.findings[p.what] = f
		}
		f.times++
		e, known := f.by[b.script.requests()]
		if line := b.line(); !known || cost(line) < cost(e.line) {
			f.by[b.script.requests()] = example{line, b.summary()}
		}
	}
}

// cost orders schedules: without faults first, then the shorter ones.
func cost(line string) int { return 10000*strings.Count(line, "!") + len(line) }

// report fails the test with what was found.
func (s *search) report() {
	if s.runs == 0 {
		s.t.Error("nothing was tried")
	}
	s.t.Logf("%d schedules of %d scripts, %d of them with a fault, in %v; %d scripts were tried in part, %d schedules went another way than before",
		s.runs, s.scripts, s.faulty, time.Since(s.began).Round(100*time.Millisecond), s.cut, s.astray)
	const shown = 4
	for _, f := range s.findings {
		requests := slices.SortedFunc(maps.Keys(f.by), func(a, b string) int {
			return cmp.Or(cost(f.by[a].line)-cost(f.by[b].line), strings.Compare(a, b))
		})
		var text strings.Builder
		fmt.Fprintf(&text, "%s (%d schedules of %d combinations of requests)", f.problem, f.times, len(requests))
		for i, r := range requests {
			switch e := f.by[r]; {
			case i < shown:
				fmt.Fprintf(&text, "\n  go test -run Replay -replay '%s'\n    %s", e.line, e.summary)
			case i == shown:
				fmt.Fprintf(&text, "\n  also %s", r)
			default:
				fmt.Fprintf(&text, "; %s", r)
			}
		}
		s.t.Error(text.String())
	}
}

func newSearch(t *testing.T, limit int) *search {
	return &search{t: t, limit: limit, rnd: rand.New(rand.NewPCG(*seed, 2)), findings: map[string]*finding{}, began: time.Now()}
}

// campaign is scripts of one sort.
type campaign struct {
	name   string
	faults int // of a schedule, at most
	quick  int // schedules in the quick search, at random; 0 for all
	limit  int // schedules of each script in the long one
	all    []script
}

// The requests that scripts are made of. "revoke" needs an owner.
var (
	everything = []string{"set", "same", "twice", "poll", "login", "logout", "remove", "revoke", "flash", "take", "persist", "undo"}
	central    = []string{"set", "same", "poll", "login", "logout", "revoke", "flash", "take"}
)

//nolint:dupword // the words are requests
func campaigns() []campaign {
	var pairs, faulty, triples, faultyTriples, browsers []script
	for _, world := range []string{"", "reject", "sealed", "aged", "owner", "owner,aged,mixed", "migrate"} {
		for _, sites := range [][]int{{1, 2}, {2, 1}, {1, 1}} {
			if sites[0] == 2 && world != "owner,aged,mixed" {
				continue
			}
			pairs = append(pairs, scripts(world, 2, sites, everything)...)
			for _, servers := range []string{"", "rs,"} {
				faulty = append(faulty, scripts(servers+world, 2, sites, everything)...)
			}
		}
		for _, sites := range [][]int{{1, 2, 3}, {1, 2, 1}, {1, 1, 1}} {
			triples = append(triples, scripts(world, 3, sites, central)...)
			for _, servers := range []string{"", "rs,"} {
				faultyTriples = append(faultyTriples, scripts(servers+world, 3, sites, central)...)
			}
		}
	}
	for _, world := range []string{"", "aged,", "owner,", "owner,aged,"} {
		for _, chains := range []string{
			"login poll", "login set", "login flash", "login take", "login login", "login poll poll", "login set poll",
			"login login poll", "logout poll", "logout set", "logout poll set",
			"login+logout poll", "login+logout set", "login+logout poll set", "login+login poll",
			"logout+login poll", "logout+login set", "logout+login poll set",
		} {
			for _, processes := range []bool{false, true} {
				sc := mustParse("browser," + world + ": " + chains)
				for i := range sc.actors {
					if processes {
						sc.actors[i].site = i + 1
					}
				}
				sc.flashed = sc.has("take")
				browsers = append(browsers, sc)
			}
		}
	}
	return []campaign{
		{"two requests", 0, 3_600, 5_000, pairs},
		{"two requests and a fault", 1, 4_000, 20_000, faulty},
		{"two requests and two faults", 2, 2_000, 2_000, faulty},
		{"three requests", 0, 2_400, 5_000, triples},
		{"three requests and two faults", 2, 2_400, 500, faultyTriples},
		{"a browser", 0, 2_400, 20_000, browsers},
		{"a browser and a fault", 1, 1_200, 20_000, browsers},
	}
}

// scripts returns one for each combination of so many requests that makes sense.
func scripts(world string, n int, sites []int, kinds []string) (all []script) {
	base := mustParse(world + ": poll@1")
	var add func(from int, chosen []chain)
	add = func(from int, chosen []chain) {
		if len(chosen) == n {
			s := script{base.settings, slices.Clone(chosen)}
			if s.has("revoke") && !s.owner || s.mixed && s.revokesAt(2) || s.migrate && s.has("persist") {
				return
			}
			s.flashed = s.has("take")
			all = append(all, s)
			return
		}
		for i := from; i < len(kinds); i++ {
			add(i, append(chosen, chain{[]string{kinds[i]}, sites[len(chosen)]}))
		}
	}
	add(0, nil)
	return all
}

// TestExplore tries how requests can meet.
func TestExplore(t *testing.T) {
	if raceEnabled {
		// One goroutine runs at a time anyway. Go 1.26's race detector reads memory that is no longer there
		// when a bubble ends, once in some thousands of them.
		t.Skip("the race detector does not survive so many bubbles")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	wanted := regexp.MustCompile(*world)
	for _, c := range campaigns() {
		c.all = slices.DeleteFunc(slices.Clone(c.all), func(s script) bool { return !wanted.MatchString(s.String()) })
		if *runs > 0 {
			c.quick = *runs
		}
		if len(c.all) == 0 {
			continue
		}
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			s := newSearch(t, c.limit)
			switch {
			case *explore == "all" || c.quick == 0:
				for _, sc := range c.all {
					s.script(sc, c.faults)
				}
			default:
				s.sample(c)
			}
			s.report()
		})
	}
}

// sample tries so many schedules of a campaign at random.
func (s *search) sample(c campaign) {
	order := s.rnd.Perm(len(c.all))
	s.scripts = min(len(order), c.quick)
	s.cut = s.scripts
	for i := range c.quick {
		s.note(runOnce(s.t, c.all[order[i%len(order)]], c.faults, s.atRandom))
	}
}
