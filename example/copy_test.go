package main

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestCopyBuilds builds a copy of this folder outside of the repository. It uses the exported
// packages of the other modules only; they are found in the repository, since the version
// that go.mod requires may not have been released yet.
func TestCopyBuilds(t *testing.T) {
	t.Parallel()
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("there is no go tool")
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(here)
	if _, err := os.Stat(filepath.Join(root, "mongotest", "go.mod")); err != nil {
		t.Skip("the example is not in its repository")
	}
	folder := filepath.Join(t.TempDir(), "teahouse")
	copied := 0
	err = fs.WalkDir(os.DirFS(here), ".", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path == "data":
			return fs.SkipDir // the sessions of a local run
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(folder, path), 0o750)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		copied++
		return os.WriteFile(filepath.Join(folder, path), content, 0o600)
	})
	if err != nil || copied < 20 {
		t.Fatalf("%d files copied (error %v)", copied, err)
	}

	run := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), goTool, args...)
		cmd.Dir = folder
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	const module = "github.com/mongostore/mongostore"
	run("mod", "edit",
		"-replace="+module+"="+root,
		"-replace="+module+"/mongotest="+filepath.Join(root, "mongotest"))
	run("build", "./...")
}

// TestMinimal checks that the folder minimal has the program of the README, and that it imports
// nothing that a reader could not.
func TestMinimal(t *testing.T) {
	t.Parallel()
	program, err := os.ReadFile(filepath.Join("minimal", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Skip("the example is not in its repository")
	}
	_, block, _ := strings.Cut(string(readme), "```go\npackage main\n")
	block, _, _ = strings.Cut(block, "```")
	if string(program) != "package main\n"+block {
		t.Errorf("the README has another program:\n%s", block)
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("there is no go tool")
	}
	out, err := exec.CommandContext(t.Context(), goTool, "list", "-f", `{{join .Imports "\n"}}`, "./minimal").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for path := range strings.FieldsSeq(string(out)) {
		first, _, _ := strings.Cut(path, "/")
		if external := strings.Contains(first, "."); external && path != "github.com/gorilla/mux" && path != "github.com/mongostore/mongostore" {
			t.Errorf("the program of the README imports %s", path)
		}
	}
}
