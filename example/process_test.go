package main

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Tests of the whole program, in a process of its own.

// program is a running example.
type program struct {
	cmd    *exec.Cmd
	lines  *bufio.Scanner // of the standard output
	errors *lockedBuffer
	url    string
}

// start runs the program: this test binary, which TestMain turns into it, so that
// the race detector watches main too. The first lines are checked by opened.
func start(t *testing.T, uri string, args ...string) *program {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("an interrupt cannot be sent on Windows")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	p := &program{cmd: exec.CommandContext(ctx, os.Args[0], args...), errors: &lockedBuffer{}}
	p.cmd.Dir = t.TempDir()
	p.cmd.Env = append(os.Environ(), mainVariable+"=1", "MONGODB_URI="+uri)
	p.cmd.Stderr = p.errors
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewScanner(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("standard error:\n%s", p.errors)
		}
	})
	return p
}

// opened waits until the program is ready and returns what it says of its database.
func (p *program) opened(t *testing.T) string {
	t.Helper()
	var lines []string
	for range 3 {
		if !p.lines.Scan() {
			t.Fatalf("the program ended after %q", lines)
		}
		lines = append(lines, p.lines.Text())
	}
	url, ok := strings.CutPrefix(lines[0], "The tea house is open: http://localhost:")
	database, ok2 := strings.CutPrefix(lines[1], "Sessions are kept in ")
	if !ok || !ok2 || lines[2] != "Ctrl-C closes it." {
		t.Fatalf("the first lines are %q", lines)
	}
	p.url = "http://localhost:" + url
	return database
}

// ends waits for the program's end and returns the exit code and the rest of the output.
func (p *program) ends(t *testing.T) (code int, out string) {
	t.Helper()
	var rest []string
	for p.lines.Scan() {
		rest = append(rest, p.lines.Text())
	}
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode(), strings.Join(rest, "\n")
}

func (p *program) signal(t *testing.T, signal os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	args := []string{"-data", data, "-addr", "localhost:0"}

	first := start(t, "", args...)
	database := first.opened(t)
	if !strings.HasPrefix(database, "mongodb://127.0.0.1:") || !strings.Contains(database, "/teahouse (embedded FerretDB v") ||
		!strings.Contains(database, filepath.Join(data, "db")) {
		t.Errorf("the database is said to be %s", database)
	}
	b := newBrowser(t, first.url)
	b.post("/login", "name", "Ada", "remember", "yes").redirectsTo(t, "/")
	b.post("/cart/oolong/add")
	first.signal(t, os.Interrupt)
	if code, out := first.ends(t); code != 0 || out != "Closing. The sessions stay." {
		t.Fatalf("exit code %d, output %q", code, out)
	}
	if log := first.errors.String(); log != "" {
		t.Errorf("standard error:\n%s", log)
	}

	second := start(t, "", args...)
	second.opened(t)
	// Another port. A cookie jar does not care, but the browser of the test does.
	b.base = second.url
	b.get("/").shows(t, 200, helloAda, packs("oolong", 1), "Yes, for 30 days")
	second.signal(t, os.Interrupt)
	if code, out := second.ends(t); code != 0 {
		t.Errorf("exit code %d, output %q", code, out)
	}
}

// The files of the database hold no value of a sealed session, and sealing goes on
// without the flag.
func TestSeal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		flags    []string
		readable bool
	}{
		{"no", nil, true},
		{"yes", []string{"-seal"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			args := []string{"-data", data, "-addr", "localhost:0"}
			first := start(t, "", append(args, tt.flags...)...)
			if database := first.opened(t); strings.HasSuffix(database, ", sealed") == tt.readable {
				t.Errorf("the database is said to be %s", database)
			}
			b := newBrowser(t, first.url)
			b.login("Ada")
			b.post("/cart/oolong/add") // leaves a message in the session
			first.signal(t, os.Interrupt)
			if code, out := first.ends(t); code != 0 {
				t.Fatalf("exit code %d, output %q", code, out)
			}
			var found bool
			err := filepath.WalkDir(filepath.Join(data, "db"), func(path string, entry os.DirEntry, err error) error {
				if err != nil || entry.IsDir() {
					return err
				}
				content, err := os.ReadFile(path)
				found = found || bytes.Contains(content, []byte("Oolong is in your cart."))
				return err
			})
			if err != nil || found != tt.readable {
				t.Errorf("the files show the values: %t (error %v)", found, err)
			}

			second := start(t, "", args...)
			if database := second.opened(t); strings.HasSuffix(database, ", sealed") == tt.readable {
				t.Errorf("the database is then said to be %s", database)
			}
			b.base = second.url
			b.get("/").shows(t, 200, helloAda, packs("oolong", 1))
		})
	}
}

func TestServerOfEnvironment(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "elsewhere"} {
		p := start(t, testURI+name+"?appName=secret", "-addr", "localhost:0")
		want := testURI + "teahouse"
		if name != "" {
			want = testURI + name
		}
		if got := p.opened(t); got != want {
			t.Errorf("the database is said to be %q, want %q", got, want)
		}
		b := newBrowser(t, p.url)
		b.login("Ada")
		b.get("/").shows(t, 200, helloAda, want, "!secret")
		p.signal(t, os.Interrupt)
		if code, _ := p.ends(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
}

func TestStartFails(t *testing.T) {
	t.Parallel()
	taken := listen(t)
	noFolder := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(noFolder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, uri string
		args      []string
		want      []string
	}{
		{"port in use", "", []string{"-addr", taken.Addr().String()}, []string{taken.Addr().String(), "address already in use", "-addr"}},
		{"no folder", "", []string{"-data", noFolder}, []string{noFolder}},
		{"bad URI", "mongodb://ada:secret@/?x=y", nil, []string{"invalid URI"}},
		{"no server", "mongodb://ada:secret@127.0.0.1:1/", nil, []string{"database is unavailable", "127.0.0.1:1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args := tt.args
			if !slices.Contains(args, "-addr") {
				args = append(args, "-addr", "localhost:0")
			}
			p := start(t, tt.uri, args...)
			code, out := p.ends(t)
			log := p.errors.String()
			if code != 1 || out != "" || !strings.HasPrefix(log, "example: ") || strings.Contains(log, "secret") {
				t.Errorf("exit code %d, output %q, standard error:\n%s", code, out, log)
			}
			for _, want := range tt.want {
				if !strings.Contains(log, want) {
					t.Errorf("standard error is without %q:\n%s", want, log)
				}
			}
		})
	}
}

// A database that accepts connections and says nothing keeps the program starting.
func TestInterruptedStart(t *testing.T) {
	t.Parallel()
	silent := listen(t)
	p := start(t, "mongodb://"+silent.Addr().String()+"/", "-addr", "localhost:0")
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p.signal(t, os.Interrupt)
	if code, out := p.ends(t); code != 0 || out != "" || p.errors.String() != "" {
		t.Errorf("exit code %d, output %q, standard error:\n%s", code, out, p.errors)
	}
}

// listen reserves a port.
func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}
