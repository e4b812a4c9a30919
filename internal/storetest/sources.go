package storetest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// SourceFiles parses the Go files of a folder and returns them by their paths: the tests among
// them, or the others.
func SourceFiles(t testing.TB, dir string, tests bool) map[string]*ast.File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]*ast.File{}
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") != tests {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.ToSlash(path)] = file
	}
	if len(files) == 0 {
		t.Fatal("no sources in ", dir)
	}
	return files
}
