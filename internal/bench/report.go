package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// Report is a comparison with what there is to know about it.
type Report struct {
	Machine string   `json:"machine"`
	Go      string   `json:"go"`
	Server  string   `json:"server"`
	Date    string   `json:"date"`
	Command string   `json:"command"`
	Results []Result `json:"results"`
}

// NewReport is a report of this machine, today.
func NewReport(server, command string) *Report {
	return &Report{
		Machine: machine(),
		Go:      fmt.Sprintf("%s %s/%s", strings.TrimPrefix(runtime.Version(), "go"), runtime.GOOS, runtime.GOARCH),
		Server:  server,
		Date:    time.Now().UTC().Format(time.DateOnly),
		Command: command,
	}
}

// ReadReport reads what [Report.Write] wrote.
func ReadReport(file string) (*Report, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var r Report
	return &r, json.Unmarshal(data, &r)
}

// Write keeps the report in a file.
func (r *Report) Write(file string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

// machine names the processor and the memory, as far as the system tells.
func machine() string {
	text := fmt.Sprintf("%d × %s", runtime.NumCPU(), or(property("/proc/cpuinfo", "model name"), runtime.GOARCH))
	var kib int64
	if _, err := fmt.Sscanf(property("/proc/meminfo", "MemTotal"), "%d kB", &kib); err == nil {
		text += fmt.Sprintf(", %.0f GiB", float64(kib)/(1<<20))
	}
	return text
}

func property(file, name string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, v, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

func or(s, standard string) string {
	if s == "" {
		return standard
	}
	return s
}

// of returns the results of a case, in the order of the contenders.
func (r *Report) of(c Case) []Result {
	var results []Result
	for _, res := range r.Results {
		if res.Case == c {
			results = append(results, res)
		}
	}
	return results
}

// titles are what the contenders are called.
var titles = map[string]string{
	FloorName:  "the driver alone",
	OwnName:    "this store",
	LazyName:   "laziness-coders/mongostore",
	SCSName:    "scs, fixed lifetime",
	SCSIdle:    "scs, idle timeout",
	CookieName: "CookieStore",
	FilesName:  "FilesystemStore",
}

// remarks are what else there is to know of them, beginning with what is good.
var remarks = []struct{ store, text string }{
	{FloorName, "`FindOne` by `_id`, and for a change `UpdateOne` of one field by `_id`, on documents as this store makes " +
		"them, each call with a deadline of 5 s. It decodes nothing and sets no cookie."},
	{OwnName, "As `mongostore.Open` makes it. Idle timeout, extended at most once a minute."},
	{LazyName, "v0.0.14, behind gin-contrib/sessions; on the driver's first version. Small, and easy to read through. Reads one " +
		"document and writes it whole at each save; no deadlines. Its limit of 4096 bytes was lifted for the large case."},
	{SCSName, "`github.com/alexedwards/scs/v2` with its own middleware and gob codec, and a store of one document per token, written " +
		"for this comparison on the driver's second version (scs has one on the first). Its default: an unchanged session " +
		"is neither encoded nor written, and gets no new cookie; in return the session ends a fixed time after its beginning, however " +
		"much it is used."},
	{SCSIdle, "The same with `IdleTimeout`, so that a session lives as long as it is used, as in the other stores: every request writes."},
	{CookieName, "gorilla's. No database, no second process, nothing to run: the cookie is the session. It cannot be ended on the server, and " +
		"64 KiB do not fit into a cookie, so it is absent there."},
	{FilesName, "gorilla's. No database: a file per session on this machine, whose page cache answers. One process only. " +
		"Its limit of 4096 bytes was lifted for the large case."},
}

// caption says how the figures came about.
func (r *Report) caption() string {
	return fmt.Sprintf("Measured on %s on %s, Go %s, against %s:\n\n    %s\n", r.Date, r.Machine, r.Go, r.Server, r.Command)
}

// Markdown is the report as a page.
func (r *Report) Markdown() string {
	var b strings.Builder
	b.WriteString(`# What a session costs

A request pays for its session: it is loaded, looked at, and saved. Here are the times and the means that takes,
with this store and with others. The yardstick is the floor: the same request, and the calls to the driver alone.

![Time of a request, as a multiple of the driver's](benchmarks.svg)

`)
	b.WriteString(r.caption())
	b.WriteString(`
All stores are measured in one process, on one server, in turns of some milliseconds, in an order in which each follows
each other equally often; so a busy machine shows in all alike. *Time* is the median over the turns. The *ratio* to the
floor is taken in each round, and then the median; ± is half of its 95 % confidence interval. *CPU* is that of the
process with the store, not the server's. Traffic is counted in a pass of its own. With 64 browsers, *time* is the
time that passes per request, while 64 are under way.

`)
	if strings.Contains(r.Server, "(embedded)") {
		b.WriteString(EmbeddedNote + "\n")
	}
	b.WriteString("| | |\n|---|---|\n")
	for _, remark := range remarks {
		fmt.Fprintf(&b, "| **%s** | %s |\n", titles[remark.store], remark.text)
	}
	for _, browsers := range []int{1, 64} {
		for _, size := range Sizes {
			for _, op := range Ops {
				c := Case{size, op, browsers}
				results := r.of(c)
				if len(results) == 0 {
					continue
				}
				fmt.Fprintf(&b, "\n## %s, %s\n\n", name(c), plural(browsers, "browser"))
				b.WriteString("| | time, µs | ratio | ± | CPU, µs | allocations | KiB allocated | commands | bytes sent | bytes received |\n")
				b.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
				for _, res := range results {
					fmt.Fprintf(&b, "| %s | %s | %.2f | %.2f | %s | %.0f | %.1f | %s | %.0f | %.0f |\n",
						titles[res.Store], micros(res.Nanos), res.Ratio, (res.High-res.Low)/2, micros(res.CPU),
						res.Allocs, res.Bytes/1024, number(res.Commands), res.Sent, res.Received)
				}
			}
		}
	}
	return b.String()
}

// Short is the table for the README: one browser, ratios only.
func (r *Report) Short() string {
	columns := []Case{{Small, Load, 1}, {Small, Keep, 1}, {Small, Change, 1}, {Large, Keep, 1}, {Large, Change, 1}}
	var b strings.Builder
	b.WriteString("| time, as a multiple of the driver's |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", name(c))
	}
	b.WriteString("\n|---|" + strings.Repeat("--:|", len(columns)) + "\n")
	for _, store := range AllNames[1:] {
		fmt.Fprintf(&b, "| %s |", titles[store])
		for _, c := range columns {
			cell := "–"
			for _, res := range r.of(c) {
				if res.Store == store {
					cell = fmt.Sprintf("%.2f", res.Ratio)
				}
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	b.WriteString("\n" + r.caption())
	return b.String()
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// micros writes nanoseconds as microseconds, with three digits or so.
func micros(nanos float64) string {
	us := nanos / 1e3
	switch {
	case us < 10:
		return fmt.Sprintf("%.2f", us)
	case us < 100:
		return fmt.Sprintf("%.1f", us)
	default:
		return fmt.Sprintf("%.0f", us)
	}
}

// number writes a count, which is whole unless something came between.
func number(x float64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", x), ".0")
}
