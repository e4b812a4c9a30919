package docs_test

import (
	"fmt"
	"go/ast"
	"go/doc"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mongostore/mongostore/internal/storetest"
)

const standardsPage = "docs/standards.md"

// testFolders are where the tests are that the page names.
var testFolders = []string{".", "docs", "internal/bsonval", "internal/firstbyte", "internal/mongoerr", "internal/safegob", "internal/seal", "internal/proof"}

// testFunc is what the source of a test says of it.
type testFunc struct {
	file     string
	told     bool            // a comment says what it shows
	texts    map[string]bool // the strings in it, the names of subtests among them
	subtests bool
	fails    bool // it has a way to
	skips    bool
}

// testFuncs finds the tests of the folders.
func testFuncs(t *testing.T) map[string]*testFunc {
	t.Helper()
	tests := map[string]*testFunc{}
	for _, folder := range testFolders {
		if _, err := os.Stat(folder); err != nil {
			continue
		}
		for file, syntax := range storetest.SourceFiles(t, folder, true) {
			for _, decl := range syntax.Decls {
				fn, ok := decl.(*ast.FuncDecl)
				if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Test") {
					continue
				}
				tests[fn.Name.Name] = inspectTest(file, fn)
			}
		}
	}
	return tests
}

func inspectTest(file string, fn *ast.FuncDecl) *testFunc {
	comment := new(doc.Package).Synopsis(fn.Doc.Text())
	found := &testFunc{file: file, texts: map[string]bool{}}
	found.told = strings.TrimLeft(strings.TrimPrefix(comment, fn.Name.Name), ":, ") != ""
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if text, err := strconv.Unquote(n.Value); err == nil {
				found.texts[text] = true
			}
		case *ast.SelectorExpr:
			found.subtests = found.subtests || n.Sel.Name == "Run"
			found.fails = found.fails || slices.Contains([]string{"Error", "Errorf", "Fatal", "Fatalf"}, n.Sel.Name)
			found.skips = found.skips || strings.HasPrefix(n.Sel.Name, "Skip")
		case *ast.Ident: // selectors' names as well
			found.fails = found.fails || strings.HasPrefix(n.Name, "Want") || strings.HasPrefix(n.Name, "want") // helpers that check
			found.skips = found.skips || n.Name == "NeedsMongoDB"
		}
		return true
	})
	return found
}

// exported returns the package's exported names, of methods and fields with their type's.
func exported(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, file := range storetest.SourceFiles(t, ".", false) {
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				names[methodName(n)] = true
				return false
			case *ast.TypeSpec:
				if fields, ok := n.Type.(*ast.StructType); ok {
					for _, field := range fields.Fields.List {
						for _, id := range field.Names {
							names[n.Name.Name+"."+id.Name] = true
						}
					}
				}
			case *ast.ValueSpec:
				for _, id := range n.Names {
					names[id.Name] = true
				}
			}
			return true
		})
	}
	return names
}

var (
	standardRow = regexp.MustCompile(`^\| (.*) \|$`)
	cellBorder  = regexp.MustCompile(` +\| +`)
	testLink    = regexp.MustCompile(`^\[(Test\w+)\]\(([^)]*)\)(?:: (.*))?$`)
	ourName     = regexp.MustCompile("`((?:Store|Config|Info)\\.\\w+|Err\\w+)`")
)

// TestStandards checks that the page's items are complete, that the tests and names in them
// exist, and that each item that the store has a part in has a test that runs on every server.
// The links to the tests' files are written by: go test ./docs -run TestStandards -update.
func TestStandards(t *testing.T) {
	t.Parallel()
	storetest.NeedsRepository(t)
	tests, names := testFuncs(t), exported(t)
	text := page(t, standardsPage)
	if *update {
		text = regexp.MustCompile(`\[(Test\w+)\]\([^)]*\)`).ReplaceAllStringFunc(text, func(link string) string {
			name := testLink.FindStringSubmatch(link)[1]
			if tests[name] == nil {
				return link
			}
			return fmt.Sprintf("[%s](%s)", name, linkTo(tests[name].file))
		})
		if err := os.WriteFile(standardsPage, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	title, count := "", map[string]int{}
	seen, numbers := map[string]bool{}, map[string]int{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			title = heading
		}
		row := standardRow.FindStringSubmatch(line)
		if row == nil || strings.HasPrefix(line, "| Item |") {
			continue
		}
		cells := cellBorder.Split(row[1]+" ", -1)
		if len(cells) != 5 {
			t.Errorf("%d cells, want 5: %s", len(cells), line)
			continue
		}
		item, asks, who, how, shown := cells[0], cells[1], cells[2], cells[3], strings.TrimSpace(cells[4])
		if key := title + item; seen[key] || item == "" || asks == "" || how == "" {
			t.Errorf("%s: a duplicate, or something is missing", item)
		} else {
			seen[key] = true
		}
		count[who]++
		if strings.Contains(title, "ASVS") {
			number, _, _ := strings.Cut(item, " ")
			section := number[:strings.LastIndex(number, ".")]
			numbers[section]++
			if want := fmt.Sprintf("%s.%d", section, numbers[section]); number != want && section[0] != '1' {
				t.Errorf("%s is in the place of %s", number, want)
			}
		}
		for _, m := range ourName.FindAllStringSubmatch(asks+how, -1) {
			if !names[m[1]] {
				t.Errorf("%s: there is no %s", item, m[1])
			}
		}
		ours := who == "Store" || who == "Both"
		if ours != (shown != "") {
			t.Errorf("%s is met by %q, and its tests are %q", item, who, shown)
		}
		if shown != "" {
			checkTests(t, item, shown, tests)
		}
	}
	if want := map[string]int{"7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5, "7.5": 3, "3.3": 5, "11.5": 1, "16.2": 1}; !maps.Equal(numbers, want) {
		t.Errorf("items of the ASVS: %v, want %v", numbers, want)
	}
	sum := fmt.Sprintf("Of %d items the store meets %d, the application and the store together %d, and the application alone %d; %d do not apply.",
		len(seen), count["Store"], count["Both"], count["Application"], count["Not applicable"])
	if !strings.Contains(strings.Join(strings.Fields(text), " "), sum) || len(count) != 4 {
		t.Errorf("the page does not say: %s (%v)", sum, count)
	}
}

// checkTests checks an item's tests.
func checkTests(t *testing.T, item, shown string, tests map[string]*testFunc) {
	t.Helper()
	everywhere := false
	for entry := range strings.SplitSeq(shown, "<br>") {
		m := testLink.FindStringSubmatch(entry)
		if m == nil {
			t.Errorf("%s: no link to a test: %s", item, entry)
			continue
		}
		found := tests[m[1]]
		if found == nil {
			t.Errorf("%s: there is no %s", item, m[1])
			continue
		}
		if want := linkTo(found.file); m[2] != want {
			t.Errorf("%s: %s is in %s, linked to %s", item, m[1], want, m[2])
		}
		if m[3] != "" {
			for sub := range strings.SplitSeq(m[3], "; ") {
				if !found.subtests || !found.texts[sub] {
					t.Errorf("%s: %s has no subtest %q", item, m[1], sub)
				}
			}
		}
		if !found.fails {
			t.Errorf("%s: %s cannot fail", item, m[1])
		}
		if !found.told {
			t.Errorf("%s: %s has no comment that says what it shows", item, m[1])
		}
		everywhere = everywhere || !found.skips
	}
	if !everywhere {
		t.Errorf("%s: every test of it is skipped on some server", item)
	}
}

// linkTo returns the page's link to a file.
func linkTo(file string) string {
	if name, ok := strings.CutPrefix(file, "docs/"); ok {
		return name
	}
	return path.Join("..", file)
}
