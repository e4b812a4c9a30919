package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// sample is a report with a figure of its own in each place.
func sample() *Report {
	r := &Report{Machine: "a machine", Go: "1.2", Server: "MongoDB 8, standalone", Date: "2026-11-22", Command: "the command", Note: "A note."}
	for i, c := range Cases() {
		for j, store := range AllNames {
			ratio := 1 + float64(i)/100 + float64(j)
			if c.Size == Large && store == CookieName {
				continue
			}
			r.Results = append(r.Results, Result{Case: c, Store: store, Requests: 1, Nanos: 5e5 * ratio, Ratio: ratio, Low: ratio - 0.25, High: ratio + 0.25, CPU: 1e5 + 4e4*float64(j), Over: 3.8e4 * float64(j), Allocs: 90, Bytes: 2048, Commands: 2})
		}
	}
	return r
}

func TestReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.json")
	if err := sample().Write(file); err != nil {
		t.Fatal(err)
	}
	r, err := ReadReport(file)
	if err != nil {
		t.Fatal(err)
	}
	page := r.Markdown()
	for _, want := range []string{
		"a machine", "Go 1.2", "MongoDB 8", "2026-11-22", "    the command\n\nA note.\n",
		"## 64 KiB, load and one changed key, 64 browsers",
		"| this store | 1005 | 2.01 | 0.25 | 140 | 90 | 2.0 | 2 |", // of the second case
		"| 8 values, load and unchanged save | 2 | 1005 | 505 | 2.01 | 140 | 100 | 38 |",
		"It costs 38 µs of CPU more than the driver's",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if n := strings.Count(page, " browser\n\n") + strings.Count(page, " browsers\n\n"); n != len(Cases()) {
		t.Errorf("%d tables, want %d", n, len(Cases()))
	}
}

// TestReportOfTheEmbeddedServer: what a ratio owes to it is said beside the ratio.
func TestReportOfTheEmbeddedServer(t *testing.T) {
	const wait = "In about 400 of its 500 µs the driver alone waits for the embedded server. Without that, CPU beside CPU, this store's ratio is 1.40."
	r := sample()
	if page := r.Markdown(); strings.Contains(page, "embedded") {
		t.Error("MongoDB is said to be embedded")
	}
	r.Server = "FerretDB v1.24.0 (embedded), compatible with MongoDB 7"
	page := r.Markdown()
	_, section, ok := strings.Cut(page, "\n## 8 values, load, 1 browser\n\n")
	if !ok || !strings.HasPrefix(section, wait) {
		t.Errorf("%q is missing in\n%s", wait, page)
	}
	if got, want := strings.Count(page, "waits for the embedded server"), len(Cases())/2; got != want {
		t.Errorf("it is said of %d tables, want %d", got, want)
	}
	svg, err := r.Chart()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(svg), "MongoDB is faster") {
		t.Error("the chart does not say what server it was")
	}
}

// TestChart: it is SVG, and has every ratio as a text.
func TestChart(t *testing.T) {
	svg, err := sample().Chart()
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]int{}
	for d := xml.NewDecoder(strings.NewReader(string(svg))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			texts[strings.TrimSpace(string(text))]++
		}
	}
	for text, want := range map[string]int{
		"this store": 4, "laziness-coders/mongostore": 4, "does not fit": 2, "2.01, 1005 µs": 1, "2.02, 1010 µs": 1, "2.06, 1030 µs": 1, "2.07, 1035 µs": 1,
		"64 KiB, load and one changed key": 1,
	} {
		if texts[text] != want {
			t.Errorf("%q is there %d times, want %d", text, texts[text], want)
		}
	}
}
