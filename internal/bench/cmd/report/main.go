// Command report writes a page and a chart of what the benchmark has measured:
//
//	go -C internal/bench test -run '^$' -bench . -timeout 2h -results results.json
//	go -C internal/bench run ./cmd/report -results results.json -docs ../../docs
//
// The README's section on cost quotes the first sentences of the page.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/mongostore/mongostore/internal/bench"
)

func main() {
	results := flag.String("results", "", "the `file` that the benchmark wrote")
	docs := flag.String("docs", "", "write benchmarks.md and benchmarks.svg to this `folder`")
	chart := flag.String("chart", "", "write the chart alone to this `file`")
	note := flag.String("note", "", "a `sentence` about the measurement, for the page")
	flag.Parse()
	if err := run(*results, *docs, *chart, *note); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(results, docs, chart, note string) error {
	report, err := bench.ReadReport(results)
	if err != nil {
		return err
	}
	report.Note = note
	if docs != "" {
		if err := os.MkdirAll(docs, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(docs, "benchmarks.md"), []byte(report.Markdown()), 0o644); err != nil {
			return err
		}
		if chart == "" {
			chart = filepath.Join(docs, "benchmarks.svg")
		}
	}
	if chart == "" {
		return nil
	}
	svg, err := report.Chart()
	if err != nil {
		return err
	}
	return os.WriteFile(chart, svg, 0o644)
}
