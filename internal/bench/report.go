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
	Note    string   `json:"note,omitempty"` // what else readers of the figures have to know
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
	{FloorName, "`FindOne` by `_id`, and for a change `UpdateOne` of one field by `_id`, on documents that this store has made, " +
		"each call with a deadline of 5 s. It decodes nothing, checks no cookie and sets none."},
	{OwnName, "With the defaults of `mongostore.Open`. Idle timeout: the expiry moves, and the cookie is sent, at most once a minute. " +
		"So the saves measured here set no cookie, except the first."},
	{LazyName, "v0.0.14, behind gin-contrib/sessions; on the driver's first version. Small, and easy to read through. Reads one " +
		"document and writes it whole at each save, with a cookie; no deadlines. Its limit of 4096 bytes was lifted for the large case."},
	{SCSName, "`github.com/alexedwards/scs/v2` with its own middleware and gob codec, and a store of one document per token, written " +
		"for this comparison on the driver's second version (scs has one on the first). Its default: an unchanged session " +
		"is neither encoded nor written, and no cookie is sent; in return the session ends a fixed time after its beginning, however " +
		"much it is used."},
	{SCSIdle, "The same with `IdleTimeout`, so that a session lives as long as it is used, as in the other stores: every request writes and " +
		"sets the cookie."},
	{CookieName, "gorilla's. No database, no second process, nothing to run: the cookie is the session, and is sent with each save. It cannot " +
		"be ended on the server, and 64 KiB do not fit into a cookie, so it is absent there."},
	{FilesName, "gorilla's. No database: a file per session on this machine, whose page cache answers. One process only. " +
		"Its limit of 4096 bytes was lifted for the large case."},
}

// embedded reports whether the server is the embedded one.
func (r *Report) embedded() bool { return strings.Contains(r.Server, "(embedded)") }

// result returns a store's result in a case.
func (r *Report) result(c Case, store string) (Result, bool) {
	for _, res := range r.of(c) {
		if res.Store == store {
			return res, true
		}
	}
	return Result{}, false
}

// over returns the microseconds of CPU that the store takes beyond the floor.
func (r *Report) over(c Case) float64 {
	own, _ := r.result(c, OwnName)
	return own.Over / 1e3
}

// wait says what part of a case's time the floor waits for the server, where that is the
// embedded one: ratios depend on it. It is empty with several browsers, of which some
// compute while others wait.
func (r *Report) wait(c Case) string {
	floor, ok := r.result(c, FloorName)
	if !ok || !r.embedded() || c.Browsers > 1 || floor.Nanos <= floor.CPU {
		return ""
	}
	return fmt.Sprintf("In about %s of its %s µs the driver alone waits for the embedded server. Without that, CPU beside CPU, this store's ratio is %s.",
		micros(floor.Nanos-floor.CPU), micros(floor.Nanos), r.ratioOfCPU(c))
}

// ratioOfCPU is the ratio of the store's CPU to the floor's.
func (r *Report) ratioOfCPU(c Case) string {
	floor, _ := r.result(c, FloorName)
	own, ok := r.result(c, OwnName)
	if !ok || floor.CPU == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", own.CPU/floor.CPU)
}

// caption says how the figures came about.
func (r *Report) caption() string {
	return fmt.Sprintf("Measured on %s on %s, Go %s, with %s:\n\n    %s\n", r.Date, r.Machine, r.Go, r.Server, r.Command)
}

// Markdown is the report as a page.
func (r *Report) Markdown() string {
	var b strings.Builder
	keep, change := Case{Small, Keep, 1}, Case{Small, Change, 1}
	fmt.Fprintf(&b, `# What does a session cost?

Loading a session of 8 values and saving it unchanged is one command. It costs %.0f µs of CPU more than the driver's
`+"`FindOne`"+` alone. With one key changed it is two commands, and %.0f µs more than `+"`FindOne` and `UpdateOne`"+`.

`, r.over(keep), r.over(change))
	b.WriteString(r.short())
	b.WriteString("\n")
	if r.embedded() {
		b.WriteString(`The ratios depend on the server: the slower it answers, the nearer they are to 1. The embedded server is slow, so MongoDB's
ratios are higher. The microseconds of CPU above the driver are the same with any server. Below, each table says how
long the driver waits for the server.

`)
	}
	b.WriteString("![Time of a request, as a multiple of the driver's](benchmarks.svg)\n\n")
	b.WriteString(r.caption())
	if r.Note != "" {
		b.WriteString("\n" + r.Note + "\n")
	}
	b.WriteString(`
## How it is measured

The driver alone is the floor: the same request, with only the calls to the driver. All stores are measured in one process, on
one server, in turns of some milliseconds. Over the rounds each store follows each other equally often, so a busy machine
shows in all of them.

- **Time** is the median over the turns. With 64 browsers it is the time per request while 64 are under way.
- **Ratio** is the time as a multiple of the floor's in the same round, then the median; ± is half of its 95 % confidence interval.
- **CPU** is that of the process with the store, user and system, the mean. The server is another process. What is *above* the
  driver's is the median over the rounds.
- **Commands** and bytes are counted in a separate pass.

`)
	if r.embedded() {
		b.WriteString(EmbeddedNote + "\n")
	}
	b.WriteString("| | |\n|---|---|\n")
	for _, remark := range remarks {
		fmt.Fprintf(&b, "| **%s** | %s |\n", titles[remark.store], remark.text)
	}
	for _, browsers := range []int{1, 64} {
		for _, size := range Sizes {
			for _, op := range Ops {
				r.section(&b, Case{size, op, browsers})
			}
		}
	}
	return b.String()
}

// section writes the table of a case.
func (r *Report) section(b *strings.Builder, c Case) {
	results := r.of(c)
	if len(results) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s, %s\n\n", name(c), plural(c.Browsers, "browser"))
	if wait := r.wait(c); wait != "" {
		b.WriteString(wait + "\n\n")
	}
	b.WriteString("| | time, µs | ratio | ± | CPU, µs | allocations | KiB allocated | commands | bytes sent | bytes received |\n")
	b.WriteString("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, res := range results {
		fmt.Fprintf(b, "| %s | %s | %.2f | %.2f | %s | %.0f | %.1f | %s | %.0f | %.0f |\n",
			titles[res.Store], micros(res.Nanos), res.Ratio, (res.High-res.Low)/2, micros(res.CPU),
			res.Allocs, res.Bytes/1024, number(res.Commands), res.Sent, res.Received)
	}
}

// short is the table that the page opens with: this store with one browser, beside the floor.
func (r *Report) short() string {
	var b strings.Builder
	b.WriteString("| one browser | commands | time, µs | the driver's | ratio | CPU, µs | the driver's | above |\n|---|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, size := range Sizes {
		for _, op := range Ops {
			c := Case{size, op, 1}
			floor, _ := r.result(c, FloorName)
			own, ok := r.result(c, OwnName)
			if !ok {
				continue
			}
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %.2f | %s | %s | %.0f |\n", name(c), number(own.Commands),
				micros(own.Nanos), micros(floor.Nanos), own.Ratio, micros(own.CPU), micros(floor.CPU), r.over(c))
		}
	}
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
