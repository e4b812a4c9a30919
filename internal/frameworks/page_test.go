package frameworks

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const page = "../../docs/frameworks.md"

var (
	codeBlock  = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
	versionRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (v[^ ]+) \\|$")
	function   = regexp.MustCompile(`(?m)^func (?:\([^)]*\) )?(\w+)\(`)
	imports    = regexp.MustCompile(`(?ms)^import \(.*?^\)$`)
)

// The code on the page is that which the tests execute, to the letter.
func TestPageShowsTheCode(t *testing.T) {
	t.Parallel()
	text := read(t, page)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{}
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			sources[file] = read(t, file)
		}
	}
	blocks := codeBlock.FindAllStringSubmatch(text, -1)
	if len(blocks) == 0 || strings.Count(text, "\n```") != 2*len(blocks) {
		t.Fatalf("%d blocks of code among %d fences", len(blocks), strings.Count(text, "\n```"))
	}
	var shown strings.Builder
	for _, block := range blocks {
		first, _, _ := strings.Cut(block[2], "\n")
		if block[1] != "go" || !within(sources, block[2]) {
			t.Errorf("the block that begins with %q is not in the module's source", first)
		}
		shown.WriteString(block[2])
	}
	// And conversely: all code that is executed is on the page. The code
	// of echo v4 differs by an asterisk.
	for file, source := range sources {
		if file != "echo4.go" && !strings.Contains(shown.String(), imports.FindString(source)+"\n") {
			t.Errorf("%s: its imports are not on the page", file)
		}
		for _, found := range function.FindAllStringSubmatch(source, -1) {
			if file != "echo4.go" && !strings.Contains(shown.String(), found[0]) {
				t.Errorf("%s: the function %s is not on the page", file, found[1])
			}
		}
	}
}

// within reports whether a source has the whole lines of a block.
func within(sources map[string]string, block string) bool {
	for _, source := range sources {
		if strings.Contains("\n"+source, "\n"+block) {
			return true
		}
	}
	return false
}

// The page says how the code for echo v4 comes from that for v5.
func TestEcho4IsEcho5(t *testing.T) {
	t.Parallel()
	want := strings.NewReplacer(
		"github.com/labstack/echo-contrib/v5/", "github.com/labstack/echo-contrib/",
		"github.com/labstack/echo/v5", "github.com/labstack/echo/v4",
		"*echo.Context", "echo.Context",
		"func echo", "func echo4", "echoLog", "echo4Log", "echoHome", "echo4Home",
	).Replace(read(t, "echo.go"))
	if got := read(t, "echo4.go"); got != want {
		t.Errorf("echo4.go is\n%s\nwant\n%s", got, want)
	}
}

// The versions on the page are those of go.mod.
func TestPageSaysTheVersions(t *testing.T) {
	t.Parallel()
	text, module := read(t, page), read(t, "go.mod")
	rows := versionRow.FindAllStringSubmatch(text, -1)
	if len(rows) < 10 {
		t.Fatalf("%d versions on the page", len(rows))
	}
	for _, row := range rows {
		if line := "\t" + row[1] + " " + row[2] + "\n"; !strings.Contains(module, line) {
			t.Errorf("go.mod does not require %s %s", row[1], row[2])
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
