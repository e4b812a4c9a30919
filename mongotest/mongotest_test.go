package mongotest_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore/mongotest"
	"github.com/mongostore/mongostore/mongotest/embedded"
)

const (
	shared = "Shared"

	// patience is how long a test waits for something that should come soon.
	patience = time.Minute

	// childVariable makes this test binary the parent of a server, to be killed: of
	// the command named, or of the server of Shared. See TestMain.
	childVariable = "MONGOTEST_CHILD"

	embeddedDescription = "FerretDB v1.24.0 (embedded), compatible with MongoDB 7.0.42, standalone"

	// nowhere is a Docker daemon that does not exist.
	nowhere = "DOCKER_HOST=tcp://127.0.0.1:1"
)

// command is the path of the command under test.
var command string

func TestMain(m *testing.M) {
	if child := os.Getenv(childVariable); child != "" {
		be := beParent
		if child == shared {
			be = beShared
		}
		if err := be(strings.Fields(child)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "mongotest-command-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	command = filepath.Join(dir, "mongotest.exe") // Windows wants the suffix, others do not mind
	build := exec.CommandContext(context.Background(), "go", "build", "-o", command, "./cmd/mongotest")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
		return 1
	}
	return m.Run()
}

// beShared does what a program with tests does: it asks for the server, and ends by
// itself without a word when its input ends.
func beShared([]string) error {
	server, err := mongotest.Shared()
	if err != nil {
		return err
	}
	fmt.Printf("%s\n%s\n", server.URI, server.Description)
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// beParent does what a process with tests does: it starts the command with one
// end of a pipe as its input, and forgets about it.
func beParent(child []string) error {
	cmd := exec.CommandContext(context.Background(), child[0], child[1:]...)
	if _, err := cmd.StdinPipe(); err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

func TestCommandEndsWithInput(t *testing.T) {
	t.Parallel()
	p := start(t, "MONGOSTORE_TEST=embedded")
	checkServes(t, p.uri)
	if p.description != embeddedDescription {
		t.Errorf("description %q, want %q", p.description, embeddedDescription)
	}
	p.closeInput(t)
	p.checkEnds(t)
}

func TestCommandEndsOnSignal(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no signals to send")
	}
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			p := start(t, "MONGOSTORE_TEST=embedded")
			for range 2 { // impatient people press Ctrl-C twice
				if err := p.cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
			}
			p.checkEnds(t)
		})
	}
}

func TestCommandEndsWithKilledParent(t *testing.T) {
	t.Parallel()
	for name, child := range map[string]string{"command": command, "go run": "go run ./cmd/mongotest"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startWith(t, os.Args[0], nil, childVariable+"="+child, "MONGOSTORE_TEST=embedded")
			checkServes(t, p.uri)
			p.killParent(t)
		})
	}
}

// TestCommandEndsEarly checks what happens when the parent dies before the
// server is ready.
func TestCommandEndsEarly(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		inputEnds  bool
		outputEnds bool
	}{
		{"input ends", true, false},
		{"nobody reads the output", false, true},
		{"both", true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			temp := t.TempDir()
			cmd := exec.CommandContext(t.Context(), command)
			cmd.Env = environ(temp, "MONGOSTORE_TEST=embedded")
			input, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			output, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if tt.inputEnds {
				_ = input.Close()
			}
			if tt.outputEnds {
				_ = output.Close()
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// Whether it still started is a matter of luck, but a signal must
			// not end it.
			if err := cmd.Wait(); cmd.ProcessState.ExitCode() < 0 || cmd.ProcessState.ExitCode() > 1 {
				t.Errorf("ended with %v", err)
			}
			checkEmpty(t, temp)
		})
	}
}

func TestCommandFlags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// The flags go before anything that the environment says.
	p := startWith(t, command, []string{"-dir", dir, "-addr", ":0", "-ignore-stdin"}, "MONGOSTORE_TEST=nonsense")
	checkPrefix(t, p.uri, "mongodb://localhost:")
	checkServes(t, p.uri)
	p.closeInput(t)
	checkServes(t, p.uri) // -ignore-stdin
	if runtime.GOOS == "windows" {
		return // no signal to end it with
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	p.checkEnds(t)
	if files, err := filepath.Glob(filepath.Join(dir, "*.sqlite")); err != nil || len(files) == 0 {
		t.Errorf("no data in the folder: %q (error %v)", files, err)
	}
}

func TestRunningServer(t *testing.T) {
	t.Parallel()
	server, err := embedded.Start(t.Context(), embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	p := start(t, "MONGODB_URI="+server.URI(), "MONGOSTORE_TEST=embedded")
	if p.uri != server.URI() {
		t.Errorf("URI %q, want %q", p.uri, server.URI())
	}
	checkPrefix(t, p.description, "FerretDB v1.24.0 (MONGODB_URI)")
	p.closeInput(t)
	if err := p.cmd.Wait(); err != nil {
		t.Error(err)
	}
	checkServes(t, server.URI()) // it is not ours to stop
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		env  []string
		want []string // in the message
	}{
		{
			"MONGODB_URI unreachable",
			[]string{"MONGODB_URI=mongodb://user:secret@127.0.0.1:1/?serverSelectionTimeoutMS=200"},
			[]string{"MONGODB_URI", "does not answer", "connection refused"},
		},
		{"MONGODB_URI invalid", []string{"MONGODB_URI=mongodb://user:secret%zz@host"}, []string{"MONGODB_URI", "not a valid"}},
		{"unknown mode", []string{"MONGOSTORE_TEST=secrets"}, []string{"MONGOSTORE_TEST", `"docker"`, `"embedded"`}},
		{"docker demanded", []string{"MONGOSTORE_TEST=docker", nowhere}, []string{"docker"}},
		{"image demanded", []string{"MONGOSTORE_TEST_IMAGE=mongo:8", nowhere}, []string{"docker"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			messages := []string{
				checkFails(t, tt.env, tt.want...),
				checkProgramFails(t, exec.CommandContext(t.Context(), os.Args[0]), append(tt.env, childVariable+"="+shared), tt.want...),
			}
			for _, message := range messages {
				if strings.Contains(message, "secret%") || strings.Contains(message, "secret@") || strings.Contains(message, "%zz") {
					t.Errorf("message %q holds the password", message)
				}
			}
		})
	}
}

func TestFallback(t *testing.T) {
	t.Parallel()
	// A daemon that takes connections and says nothing.
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })

	for name, host := range map[string]string{
		"no daemon":     nowhere,
		"silent daemon": "DOCKER_HOST=tcp://" + silent.Addr().String(),
		"bad address":   "DOCKER_HOST=nonsense://",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, host)
			checkPrefix(t, p.description, "FerretDB v1.24.0 (embedded)")
			p.closeInput(t)
			p.checkEnds(t)
			notice := p.stderr.String()
			checkPrefix(t, notice, "mongotest: docker: ")
			if strings.Count(notice, "\n") != 1 || !strings.HasSuffix(notice, ": falling back to the embedded server\n") {
				t.Errorf("notice %q, want one line about the embedded server", notice)
			}
		})
	}
}

// process is a running command.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
	stderr *bytes.Buffer
	temp   string // its folder for temporary files

	uri, description string
}

// start starts the command with the variables in its environment.
func start(t *testing.T, env ...string) *process {
	t.Helper()
	return startWith(t, command, nil, env...)
}

func startWith(t *testing.T, name string, args []string, env ...string) *process {
	t.Helper()
	p := &process{cmd: exec.CommandContext(t.Context(), name, args...), stderr: new(bytes.Buffer), temp: t.TempDir()}
	p.cmd.Env = environ(p.temp, env...)
	p.cmd.Stderr = p.stderr
	// When the parent of a command is killed, the command still holds stderr.
	p.cmd.WaitDelay = patience
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.stdin.Close() })
	p.stdout = bufio.NewReader(stdout)
	p.uri, p.description = p.line(t), p.line(t)
	return p
}

func (p *process) line(t *testing.T) string {
	t.Helper()
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		_ = p.cmd.Wait()
		t.Fatalf("no line of output: %v\n%s", err, p.stderr)
	}
	return strings.TrimSuffix(line, "\n")
}

// checkEnds checks that the command ends well, and leaves nothing.
func (p *process) checkEnds(t *testing.T) {
	t.Helper()
	rest, err := io.ReadAll(p.stdout)
	if err != nil || len(rest) > 0 {
		t.Errorf("output after the first two lines: %q (error %v)", rest, err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, p.stderr)
	}
	checkStops(t, p.uri)
	checkEmpty(t, p.temp)
}

func (p *process) closeInput(t *testing.T) {
	t.Helper()
	if err := p.stdin.Close(); err != nil {
		t.Error(err)
	}
}

// killParent kills the process, which is not the command but its parent, and
// checks that the command ends.
func (p *process) killParent(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err == nil {
		t.Error("the parent was not killed")
	}
	checkStops(t, p.uri)
	checkEmpty(t, p.temp)
}

// checkFails checks that the command does not start, that it leaves nothing, and
// that its message, which is returned, holds all that is wanted.
func checkFails(t *testing.T, env []string, want ...string) string {
	t.Helper()
	return checkProgramFails(t, exec.CommandContext(t.Context(), command, "-ignore-stdin"), env, want...)
}

func checkProgramFails(t *testing.T, cmd *exec.Cmd, env []string, want ...string) string {
	t.Helper()
	temp := t.TempDir()
	cmd.Env = environ(temp, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("ended with %v, want exit code 1", err)
	}
	message := stderr.String()
	checkPrefix(t, message, "mongotest: ")
	for _, want := range want {
		if !strings.Contains(message, want) {
			t.Errorf("message %q has no %q", message, want)
		}
	}
	if stdout.Len() > 0 {
		t.Errorf("output %q", stdout.String())
	}
	checkEmpty(t, temp)
	return message
}

// environ returns the environment for a process, with nothing in it that
// decides about the server other than env.
func environ(temp string, env ...string) []string {
	var clean []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		switch name {
		case "MONGODB_URI", "MONGOSTORE_TEST", "MONGOSTORE_TEST_IMAGE", "TMPDIR", "TMP":
		default:
			clean = append(clean, variable)
		}
	}
	return append(append(clean, "TMPDIR="+temp, "TMP="+temp), env...)
}

// checkServes checks that the server can be written to and read from.
func checkServes(t *testing.T, uri string) {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetTimeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) }()
	coll := client.Database("test").Collection("serves")
	document := bson.D{{Key: "_id", Value: bson.NewObjectID()}}
	if _, err := coll.InsertOne(t.Context(), document); err != nil {
		t.Fatal(err)
	}
	if err := coll.FindOne(t.Context(), document).Err(); err != nil {
		t.Fatal(err)
	}
}

// checkStops waits until nothing answers at the address any more.
func checkStops(t *testing.T, uri string) {
	t.Helper()
	u, err := url.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", u.Host)
		if err != nil {
			return nil
		}
		return errors.Join(fmt.Errorf("%s still takes connections", u.Host), conn.Close())
	})
}

// checkEmpty waits until the folder is empty.
func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	eventually(t, func() error {
		entries, err := os.ReadDir(dir)
		if err == nil && len(entries) > 0 {
			err = fmt.Errorf("left behind: %v", entries)
		}
		return err
	})
}

func checkPrefix(t *testing.T, text, prefix string) {
	t.Helper()
	if !strings.HasPrefix(text, prefix) {
		t.Errorf("%q does not begin with %q", text, prefix)
	}
}

// eventually waits until f returns nil.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	deadline := time.After(patience)
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for err := f(); err != nil; err = f() {
		select {
		case <-deadline:
			t.Fatal(err)
		case <-poll.C:
		}
	}
}
