// Command report makes a page, a chart and the README's table of what the
// benchmark has measured:
//
//	go -C internal/bench test -run '^$' -bench . -timeout 2h -results results.json
//	go -C internal/bench run ./cmd/report -results results.json -docs ../../docs -readme ../../README.md
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mongostore/mongostore/internal/bench"
)

func main() {
	results := flag.String("results", "", "the `file` that the benchmark wrote")
	docs := flag.String("docs", "", "write benchmarks.md and benchmarks.svg to this `folder`")
	readme := flag.String("readme", "", "put the short table between the markers in this `file`")
	chart := flag.String("chart", "", "write the chart alone to this `file`")
	flag.Parse()
	if err := run(*results, *docs, *readme, *chart); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(results, docs, readme, chart string) error {
	report, err := bench.ReadReport(results)
	if err != nil {
		return err
	}
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
	if chart != "" {
		svg, err := report.Chart()
		if err != nil {
			return err
		}
		if err := os.WriteFile(chart, svg, 0o644); err != nil {
			return err
		}
	}
	if readme == "" {
		return nil
	}
	text, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	text, err = insert(text, report.Short())
	if err != nil {
		return fmt.Errorf("%s: %w", readme, err)
	}
	return os.WriteFile(readme, text, 0o644)
}

// The markers between which the README's table stands.
const (
	begin = "<!-- benchmarks: made by internal/bench/cmd/report -->\n"
	end   = "<!-- end of benchmarks -->\n"
)

func insert(page []byte, table string) ([]byte, error) {
	before, rest, ok := strings.Cut(string(page), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return nil, fmt.Errorf("the markers %q and %q are missing", begin, end)
	}
	return []byte(before + begin + "\n" + table + "\n" + end + after), nil
}
