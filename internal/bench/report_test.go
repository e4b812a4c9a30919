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
	r := &Report{Machine: "a machine", Go: "1.2", Server: "MongoDB 8, standalone", Date: "2026-11-22", Command: "the command"}
	for i, c := range Cases() {
		for j, store := range AllNames {
			ratio := 1 + float64(i)/100 + float64(j)
			if c.Size == Large && store == CookieName {
				continue
			}
			r.Results = append(r.Results, Result{Case: c, Store: store, Requests: 1, Nanos: 5e5 * ratio, Ratio: ratio, Low: ratio - 0.25, High: ratio + 0.25, CPU: 1e5, Allocs: 90, Bytes: 2048, Commands: 2})
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
		"a machine", "Go 1.2", "MongoDB 8", "2026-11-22", "    the command",
		"## 64 KiB, load and one changed key, 64 browsers",
		"| this store | 1005 | 2.01 | 0.25 | 100 | 90 | 2.0 | 2 |", // of the second case
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if n := strings.Count(page, "\n## "); n != len(Cases()) {
		t.Errorf("%d tables, want %d", n, len(Cases()))
	}
	short := r.Short()
	if !strings.Contains(short, "| CookieStore | 6.00 | 6.01 | 6.02 | – | – |") {
		t.Errorf("no line for CookieStore in:\n%s", short)
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
		"this store": 4, "laziness-coders/mongostore": 4, "does not fit": 2, "2.01": 1, "2.02": 1, "2.06": 1, "2.07": 1,
		"64 KiB, load and one changed key": 1,
	} {
		if texts[text] != want {
			t.Errorf("%q is there %d times, want %d", text, texts[text], want)
		}
	}
}
