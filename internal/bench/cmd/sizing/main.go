// Command sizing estimates what sessions need of a database, from the sizes of documents that
// the stores make on a server, and writes a page:
//
//	go -C internal/bench run ./cmd/sizing -out ../../docs/sizing.md
//	go -C internal/bench run ./cmd/sizing -fill 1000000 -out ../../docs/sizing.md
//
// With -fill it also fills a collection and measures what its size does to requests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mongostore/mongostore/internal/bench"
)

type settings struct {
	usage    bench.Usage
	capacity bench.Capacity
	fill     int
	plan     bench.Plan
	command  string
}

func main() {
	var s settings
	flag.Float64Var(&s.usage.Active, "active", 0.05, "`share` of the sessions in use at the busiest hour")
	flag.Float64Var(&s.usage.Pages, "pages", 2, "`requests` per active session and minute")
	flag.Float64Var(&s.usage.Changed, "changed", 0.1, "`share` of the requests that change a value")
	flag.DurationVar(&s.usage.Life, "life", 30*24*time.Hour, "`time` from a session's beginning to its expiry, on average")
	cache := flag.Float64("cache", 15.5, "a shard's memory for the storage engine, in `GiB`: half of what it has, less 1 GiB")
	disk := flag.Float64("disk", 1000, "a shard's disk, in `GB`")
	flag.Float64Var(&s.capacity.Reads, "reads", 20000, "`reads` per second that a shard is taken to carry")
	flag.Float64Var(&s.capacity.Writes, "writes", 5000, "`writes` per second that a shard is taken to carry")
	flag.IntVar(&s.fill, "fill", 0, "fill a collection with `n` sessions and measure there")
	flag.DurationVar(&s.plan.Time, "time", 20*time.Second, "how `long` each measurement there takes, about")
	out := flag.String("out", "", "the `file` to write; by default the standard output")
	flag.Parse()
	s.capacity.Cache, s.capacity.Disk = *cache*(1<<30), *disk*1e9
	s.plan.Rounds, s.plan.Turn = 2000, 10*time.Millisecond
	s.command = "go -C internal/bench run ./cmd/sizing"
	flag.Visit(func(f *flag.Flag) {
		if f.Name != "out" {
			s.command += " -" + f.Name + " " + f.Value.String()
		}
	})
	if err := run(context.Background(), s, *out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings, out string) (err error) {
	server, err := bench.Start()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop(ctx)) }()
	page, err := s.page(ctx, server)
	if err != nil {
		return err
	}
	if out == "" {
		_, err = fmt.Print(page)
		return err
	}
	return os.WriteFile(out, []byte(page), 0o644)
}

func (s settings) page(ctx context.Context, server *bench.Server) (string, error) {
	parts := []struct {
		size   bench.Size
		title  string
		n      int
		prints []bench.Footprint
	}{{size: bench.Small, title: "8 values", n: 1000}, {size: bench.Large, title: "64 KiB", n: 50}}
	for i := range parts {
		part := &parts[i]
		for _, store := range bench.Sized {
			f, err := bench.Measure(ctx, server.Env, store, part.size, part.n)
			if err != nil {
				return "", fmt.Errorf("%s: %w", store, err)
			}
			part.prints = append(part.prints, f)
		}
	}
	var b strings.Builder
	report := bench.NewReport(server.Description, s.command)
	fmt.Fprintf(&b, `# How much database do sessions need?

%s

This is arithmetic on measured documents, under the assumptions below. Each assumption is a flag of the command: replace them
by your own. The tables compare with stores that keep a session as one blob.

Made on %s on %s, Go %s, with documents written to %s, by

    %s

## The sessions

- %.0f %% of the stored sessions are in use at the busiest hour, each with %g requests a minute at random times;
  %.0f %% of the requests change a value. Each request loads its session and saves it.
- A session lives for %.0f days from its beginning to its expiry, on average. The TTL index deletes it then.
- This store writes the keys that have changed. It moves the expiry at most once a minute (`+"`TouchInterval`"+`), whether the session
  has changed or not. laziness-coders/mongostore writes at every save, and scs with an idle timeout at every request.
  scs with a fixed lifetime writes changes only, and its sessions end while they are used.

## The database

- Documents are measured: their BSON, and their size after Snappy in pages of 32 KiB, WiredTiger's default.
- Index entries are estimated: the key's bytes and 10 more, in pages that are 70 %% full. A store has the index on `+"`_id`"+` and the one
  on the expiry. An owner's index (`+"`OwnerKey`"+`) would be a third, of about the size of the first.
- The working set is what the sessions in use touch within the hour, uncompressed, in whole pages. The worst case is assumed:
  they lie scattered over the collection.
- One shard has %.1f GiB of cache (half of the memory less 1 GiB is the server's default) and %s of disk, and carries %.0f reads
  and %.0f writes a second. These are assumptions, not measurements. Each shard is a replica set: three such machines.
- "Written" is what the commands carry, in bytes per second. A replica set writes it once more to its log.

`, bench.SizingAnswer(parts[0].prints[0], s.usage, s.capacity), report.Date, report.Machine, report.Go, server.Description, s.command,
		100*s.usage.Active, s.usage.Pages, 100*s.usage.Changed, s.usage.Life.Hours()/24,
		s.capacity.Cache/(1<<30), fmt.Sprintf("%.0f GB", s.capacity.Disk/1e9), s.capacity.Reads, s.capacity.Writes)
	for _, part := range parts {
		fmt.Fprintf(&b, "## Sessions of %s\n\n%s\n%s\n", part.title,
			bench.FootprintMarkdown(part.prints, s.usage), bench.SizingMarkdown(part.prints, s.usage, s.capacity))
	}
	if s.fill > 0 {
		fill, err := bench.FillUp(ctx, server.Env, s.fill, s.plan, func(line string) { fmt.Fprintln(os.Stderr, line) })
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, `## A full collection

Requests were measured in turns on two collections of this store's sessions, on the same server. Up to 500 sessions of each,
scattered over the whole, get the requests. The larger collection was filled in %.0f s. Measured on %s.

%s`, fill.Took.Seconds(), report.Date, fill.Markdown())
		if fill.Stats != "" {
			fmt.Fprintf(&b, "\nThe server reports for a session: %s. The tables above do not use that.\n", fill.Stats)
		}
		if server.Embedded() {
			b.WriteString("\n" + bench.EmbeddedNote)
		}
	}
	return b.String(), nil
}
