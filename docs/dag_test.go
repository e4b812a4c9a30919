package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCallsBetweenFilesRunOneWay: the calls between the root's files form a directed graph without
// cycles, so that a reader can begin with the files that call no other. Save and renew count
// as one step, since a renewal is a save, and a save of a session whose ID was changed is a renewal.
func TestCallsBetweenFilesRunOneWay(t *testing.T) {
	t.Parallel()
	calls := callsBetweenFiles(t)
	for from, tos := range calls {
		t.Logf("%-12s calls %s", from, strings.Join(slices.Sorted(maps.Keys(tos)), " "))
	}
	if len(calls) < 10 {
		t.Fatalf("only %d files call others, so the calls were not found", len(calls))
	}
	done := map[string]bool{}
	var visit func(path []string)
	visit = func(path []string) {
		file := path[len(path)-1]
		if i := slices.Index(path[:len(path)-1], file); i >= 0 {
			cycle := path[i:]
			var why []string
			for j := range len(cycle) - 1 {
				why = append(why, cycle[j]+" -> "+cycle[j+1]+" by "+calls[cycle[j]][cycle[j+1]])
			}
			t.Errorf("a cycle: %s", strings.Join(why, ", "))
			return
		}
		if done[file] {
			return
		}
		for _, to := range slices.Sorted(maps.Keys(calls[file])) {
			visit(append(slices.Clone(path), to))
		}
		done[file] = true
	}
	for _, from := range slices.Sorted(maps.Keys(calls)) {
		visit([]string{from})
	}
}

// callsBetweenFiles returns which file calls which other one, and a function for each.
func callsBetweenFiles(t *testing.T) map[string]map[string]string {
	t.Helper()
	files := token.NewFileSet()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var sources []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := parser.ParseFile(files, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, source)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{}}
	// What is imported is not read: the package's own functions are found without it.
	config := types.Config{Error: func(error) {}, Importer: noPackages{}}
	pkg, _ := config.Check("mongostore", files, sources, info)

	step := func(at token.Pos) string {
		name := strings.TrimSuffix(filepath.Base(files.Position(at).Filename), ".go")
		if name == "renew" {
			return "save"
		}
		return name
	}
	calls := map[string]map[string]string{}
	for ident, object := range info.Uses {
		function, ok := object.(*types.Func)
		if !ok || function.Pkg() != pkg {
			continue
		}
		from, to := step(ident.Pos()), step(function.Pos())
		if from == to {
			continue
		}
		if calls[from] == nil {
			calls[from] = map[string]string{}
		}
		if known, ok := calls[from][to]; !ok || function.Name() < known {
			calls[from][to] = function.Name()
		}
	}
	return calls
}

// noPackages is an importer of packages without content.
type noPackages struct{}

func (noPackages) Import(path string) (*types.Package, error) {
	pkg := types.NewPackage(path, path[strings.LastIndex(path, "/")+1:])
	pkg.MarkComplete()
	return pkg, nil
}
