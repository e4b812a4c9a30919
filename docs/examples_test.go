package docs_test

import (
	"bytes"
	"go/ast"
	"go/doc"
	"go/format"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mongostore/mongostore/internal/storetest"
)

// TestExamplesCanBePasted: pkg.go.dev shows each example as a whole program, which compiles.
func TestExamplesCanBePasted(t *testing.T) {
	storetest.NeedsRepository(t)
	var files []*ast.File
	for _, file := range storetest.SourceFiles(t, ".", true) {
		files = append(files, file)
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command("go", append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %q: %v\n%s", args, err, out)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const module = "github.com/mongostore/mongostore"
	run("mod", "edit", "-module=example.com/pasted", "-require="+module+"@v0.0.0", "-replace="+module+"="+root)

	examples := doc.Examples(files...)
	for _, e := range examples {
		if e.Play == nil {
			t.Errorf("Example%s needs something that a reader does not see", e.Name)
			continue
		}
		var program bytes.Buffer
		if err := format.Node(&program, token.NewFileSet(), e.Play); err != nil {
			t.Fatal(err)
		}
		folder := filepath.Join(dir, "example"+e.Name)
		err := os.Mkdir(folder, 0o700)
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, "main.go"), program.Bytes(), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	run("vet", "./...")
	t.Logf("%d examples", len(examples))
	if len(examples) < 20 {
		t.Error("the test has missed most examples")
	}
}
