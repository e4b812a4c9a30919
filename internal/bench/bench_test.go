package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	storesFlag  = flag.String("stores", strings.Join(AllNames, ","), "the `names` of what is compared; the first is the yardstick")
	roundsFlag  = flag.Int("rounds", 1000, "at most how many `times` each store has its turn in each case")
	timeFlag    = flag.Duration("time", 30*time.Second, "how `long` a case takes at most, about")
	turnFlag    = flag.Duration("turn", 10*time.Millisecond, "how `long` a turn lasts, about")
	memoryFlag  = flag.Bool("memory", false, "measure over a wire in memory, for the client's share alone")
	resultsFlag = flag.String("results", "", "write what was measured to this `file`")
)

func TestMain(m *testing.M) {
	flag.Parse()
	// A benchmark's function is called once; the turns within are ours to count.
	if err := flag.Set("test.benchtime", "1x"); err != nil {
		panic(err)
	}
	code := m.Run()
	if serverInUse != nil {
		if err := serverInUse.Stop(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// BenchmarkSessions compares the stores. Its lines tell, beside what every benchmark does:
//
//	x/floor    the time, as a ratio to the floor's in the same round
//	±x         half the width of that ratio's 95 per cent confidence interval
//	cpu-ns/op  what this process computed
//	cmds/op    commands sent; tx-B/op and rx-B/op: bytes to and from the server;
//	cmd-B/op   those of the commands' documents
func BenchmarkSessions(b *testing.B) {
	ctx := b.Context()
	env, description := environment(b)
	fmt.Println("server:", description)
	names := strings.Split(*storesFlag, ",")
	all, err := Open(ctx, env, names...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := CloseAll(context.WithoutCancel(b.Context()), all); err != nil {
			b.Error(err)
		}
	})
	contents := contents(b)
	var results []Result
	for _, c := range Cases() {
		b.Run(c.String(), func(b *testing.B) {
			if err := env.empty(ctx); err != nil {
				b.Fatal(err)
			}
			measured, err := Compare(all, c, contents[c.Size], plan())
			if err != nil {
				b.Fatal(err)
			}
			if err := Count(ctx, env, c, contents[c.Size], measured); err != nil {
				b.Fatal(err)
			}
			for _, res := range measured {
				b.Run("store="+res.Store, func(b *testing.B) { report(b, res) })
			}
			results = append(results, measured...)
		})
	}
	if *resultsFlag != "" {
		r := NewReport(description, command())
		r.Results = results
		if err := r.Write(*resultsFlag); err != nil {
			b.Fatal(err)
		}
	}
}

// command is the command line of this benchmark, without the file that it writes and its time limit.
func command() string {
	text := "go -C internal/bench test -run '^$' -bench ."
	flag.Visit(func(f *flag.Flag) {
		if !strings.HasPrefix(f.Name, "test.") && f.Name != "results" {
			text += " -" + f.Name + " " + f.Value.String()
		}
	})
	return text
}

// report prints a result the way a benchmark does.
func report(b *testing.B, res Result) {
	b.ReportAllocs()
	b.ReportMetric(float64(res.Requests), "requests")
	b.ReportMetric(res.Nanos, "ns/op")
	b.ReportMetric(res.Ratio, "x/floor")
	b.ReportMetric((res.High-res.Low)/2, "±x")
	b.ReportMetric(res.CPU, "cpu-ns/op")
	b.ReportMetric(res.Allocs, "allocs/op")
	b.ReportMetric(res.Bytes, "B/op")
	b.ReportMetric(res.Commands, "cmds/op")
	b.ReportMetric(res.Sent, "tx-B/op")
	b.ReportMetric(res.Received, "rx-B/op")
	b.ReportMetric(res.Payload, "cmd-B/op")
}

func plan() Plan { return Plan{Rounds: *roundsFlag, Turn: *turnFlag, Time: *timeFlag} }

// environment is where to measure, and its description.
func environment(tb testing.TB) (*Env, string) {
	tb.Helper()
	if *memoryFlag {
		return newMemory().env(), "in memory"
	}
	s, err := server()
	if err != nil {
		tb.Fatal(err)
	}
	return s.Env, s.Description
}

// server is started by the first test that needs it, and stopped by TestMain.
var server = sync.OnceValues(func() (*Server, error) {
	s, err := Start()
	serverInUse = s
	return s, err
})

var serverInUse *Server

func contents(tb testing.TB) map[Size]*Content {
	tb.Helper()
	contents := map[Size]*Content{}
	for _, size := range Sizes {
		c, err := NewContent(tb.Context(), Values(size))
		if err != nil {
			tb.Fatal(err)
		}
		contents[size] = c
	}
	return contents
}
