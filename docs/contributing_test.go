package docs_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestStepsAreListed: the page for contributors names each step of the gate.
func TestStepsAreListed(t *testing.T) {
	t.Parallel()
	m := regexp.MustCompile(`all_steps=\(([a-z ]+)\)`).FindStringSubmatch(page(t, ".ci/run"))
	if m == nil {
		t.Fatal("no steps in .ci/run")
	}
	contributing := page(t, ".github/CONTRIBUTING.md")
	var listed []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+)` \\|").FindAllStringSubmatch(contributing, -1) {
		listed = append(listed, row[1])
	}
	if steps := strings.Fields(m[1]); !slices.Equal(steps, listed) {
		t.Errorf("steps: %q, listed: %q", steps, listed)
	}
}

// TestWorkflowRunsTheGate: all of it, and the tests on the oldest Go that go.mod allows.
func TestWorkflowRunsTheGate(t *testing.T) {
	t.Parallel()
	workflow := page(t, ".github/workflows/ci.yml")
	if !strings.Contains(workflow, "- run: bash .ci/run\n") {
		t.Error("the workflow does not run the gate")
	}
	m := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(page(t, "go.mod"))
	if m == nil || !strings.Contains(workflow, fmt.Sprintf("go: [%q,", m[1])) {
		t.Errorf("the workflow does not run the oldest Go, %q", m)
	}
	for _, server := range regexp.MustCompile(`mongodb: \[(.*)\]`).FindAllStringSubmatch(workflow, -1) {
		for version := range strings.SplitSeq(server[1], ", ") {
			if listed := regexp.MustCompile(`(?m)^\| MongoDB .*\b` + strings.Trim(version, `"`) + `\b.* \| in CI\b`); !listed.MatchString(page(t, readme)) {
				t.Errorf("MongoDB %s is tested, and not in the README", version)
			}
		}
	}
}
