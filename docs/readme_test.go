package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// What a newcomer copies from the README works. Its diffs are compiled in internal/frameworks, which
// has the stores to come from.

const readme = "README.md"

var fencedBlock = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// readmeBlocks returns the README's blocks in a language.
func readmeBlocks(t *testing.T, language string) (blocks []string) {
	t.Helper()
	for _, m := range fencedBlock.FindAllStringSubmatch(page(t, readme), -1) {
		if m[1] == language {
			blocks = append(blocks, m[2])
		}
	}
	return blocks
}

// TestReadmeProgram: the whole program is the quick start with what it needs; built as it stands,
// but for addresses, it counts visits over plain http, and goes on counting after a restart.
func TestReadmeProgram(t *testing.T) {
	t.Parallel()
	blocks := readmeBlocks(t, "go")
	if len(blocks) != 2 {
		t.Fatalf("%d blocks of Go, want the quick start and the whole program", len(blocks))
	}
	quick, program := blocks[0], blocks[1]
	if n := strings.Count(quick, "\n"); n >= 20 {
		t.Errorf("the quick start has %d lines", n)
	}
	if indented := regexp.MustCompile("(?m)^(.)").ReplaceAllString(quick, "\t$1"); !strings.Contains(program, "\n"+indented) {
		t.Error("the quick start is not a part of the whole program")
	}
	for _, change := range [][2]string{
		{`mongostore.Config{Database: "app"}`, `mongostore.Config{URI: os.Getenv("TEST_URI"), Database: os.Getenv("TEST_DATABASE"), Collection: "readme"}`},
		{`"localhost:8080"`, `os.Getenv("TEST_ADDRESS")`},
	} {
		if strings.Count(program, change[0]) != 1 {
			t.Fatalf("the whole program has not one %s", change[0])
		}
		program = strings.Replace(program, change[0], change[1], 1)
	}
	binary := buildOutside(t, program)

	keyless := exec.CommandContext(t.Context(), binary)
	keyless.Env = append(os.Environ(), "TEST_URI="+storetest.Server(t).URI, "TEST_DATABASE="+storetest.Server(t).Database, "SIGNING_KEY=")
	if out, err := keyless.CombinedOutput(); err == nil || !strings.Contains(string(out), "key") {
		t.Errorf("without a key: %v\n%s", err, out)
	}

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	visit := 0
	for range 2 {
		address, stop := runProgram(t, binary)
		for range 2 {
			visit++
			res, err := client.Get("http://" + address)
			if err != nil {
				t.Fatal(err)
			}
			body := make([]byte, 100)
			n, _ := res.Body.Read(body)
			_ = res.Body.Close()
			if want := fmt.Sprint("visit ", visit); string(body[:n]) != want {
				t.Errorf("%s %q, want %q", res.Status, body[:n], want)
			}
		}
		stop()
	}
}

// buildOutside builds a program in a module of its own, which knows this one by a replace. It asks
// nothing of the network.
func buildOutside(t *testing.T, program string) (binary string) {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	const path = "github.com/mongostore/mongostore"
	mod := strings.Replace(page(t, "go.mod"), "module "+path, "module example.com/visits", 1) +
		fmt.Sprintf("\nrequire %s v0.0.0\n\nreplace %s => %q\n", path, path, root)
	dir := t.TempDir()
	for name, text := range map[string]string{"main.go": program, "go.mod": mod, "go.sum": page(t, "go.sum")} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	binary = filepath.Join(dir, "visits.exe") // Windows wants its name
	build := exec.CommandContext(t.Context(), "go", "build", "-mod=readonly", "-o", binary, ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOFLAGS=", "GOPROXY=off", "GOWORK=off", "PWD="+dir)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// runProgram starts the README's program and waits until it listens.
func runProgram(t *testing.T, binary string) (address string, stop func()) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	_ = listener.Close()
	s := storetest.Server(t)
	var log storetest.LogBuffer
	run := exec.CommandContext(t.Context(), binary)
	run.Stdout, run.Stderr = &log, &log
	run.Env = append(os.Environ(), "TEST_URI="+s.URI, "TEST_DATABASE="+s.Database, "TEST_ADDRESS="+address,
		"SIGNING_KEY="+strings.Repeat("2a", 32))
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = run.Wait()
	}()
	stop = func() {
		_ = run.Process.Kill()
		<-ended
	}
	t.Cleanup(stop)
	for {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return address, stop
		}
		select {
		case <-ended:
			t.Fatalf("the program ended:\n%s", log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestReadmeNames: every name of the package, of a store, and of Config's fields exists; in a diff's
// new code, too.
func TestReadmeNames(t *testing.T) {
	t.Parallel()
	symbols := documented(t)
	storeType, configType := reflect.TypeFor[*mongostore.Store](), reflect.TypeFor[mongostore.Config]()
	isOfStore := func(name string) bool {
		_, method := storeType.MethodByName(name)
		_, field := storeType.Elem().FieldByName(name)
		return method || field
	}
	text := regexp.MustCompile("(?m)^-.*$").ReplaceAllString(page(t, readme), "")
	names := regexp.MustCompile(`\b(mongostore|store)\.([A-Z]\w*)`).FindAllStringSubmatch(text, -1)
	for _, m := range names {
		if m[1] == "mongostore" && !symbols[m[2]] || m[1] == "store" && !isOfStore(m[2]) {
			t.Errorf("there is no %s", m[0])
		}
	}
	if len(names) < 20 {
		t.Error("the test has missed most names")
	}
	for name := range symbols {
		if strings.HasPrefix(name, "Err") && !strings.Contains(text, "`"+name+"`") {
			t.Errorf("%s is in no table", name)
		}
	}

	fields, listed := map[string]bool{}, map[string]bool{}
	for i := range configType.NumField() {
		fields[configType.Field(i).Name] = true
	}
	_, table, _ := strings.Cut(text, "\n## Configuration\n")
	table, _, _ = strings.Cut(table, "\n## ")
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]+`) \\|").FindAllStringSubmatch(table, -1) {
		for _, span := range codeSpan.FindAllString(row[1], -1) {
			listed[strings.Trim(span, "`")] = true
		}
	}
	if !maps.Equal(fields, listed) {
		t.Errorf("Config has %v, listed %v", fields, listed)
	}

	blocks := readmeBlocks(t, "go")
	for _, block := range readmeBlocks(t, "diff") {
		blocks = append(blocks, regexp.MustCompile("(?m)^(?:-.*\n|[ +])").ReplaceAllString(block, ""))
	}
	if len(blocks) < 6 {
		t.Errorf("%d blocks of Go", len(blocks))
	}
	for _, block := range blocks {
		ast.Inspect(parseBlock(t, block), func(n ast.Node) bool {
			literal, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			kind, ok := literal.Type.(*ast.SelectorExpr)
			if !ok || fmt.Sprint(kind.X, ".", kind.Sel) != "mongostore.Config" {
				return true
			}
			for _, element := range literal.Elts {
				if pair, ok := element.(*ast.KeyValueExpr); !ok || !fields[fmt.Sprint(pair.Key)] {
					t.Errorf("Config has no field for %v", element)
				}
			}
			return true
		})
	}
}

// parseBlock parses a block: a whole file, or imports and statements.
func parseBlock(t *testing.T, block string) *ast.File {
	t.Helper()
	if !strings.HasPrefix(block, "package ") {
		imports := regexp.MustCompile("(?m)^import .*\n").FindAllString(block, -1)
		for _, line := range imports {
			block = strings.Replace(block, line, "", 1)
		}
		block = "package p\n" + strings.Join(imports, "") + "func _() error {\n" + block + "}\n"
	}
	file, err := parser.ParseFile(token.NewFileSet(), readme, block, 0)
	if err != nil {
		t.Fatalf("%v\n%s", err, block)
	}
	return file
}
