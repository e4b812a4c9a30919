// Package testserver starts the server that tests and benchmarks run against: the command of
// mongotest, in a separate process. So that command's dependencies do not become requirements
// of the modules that use it. The working directory must be in the repository.
package testserver

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// Server is a server under tests. It ends with this process, or with Stop.
type Server struct {
	URI         string
	Description string // such as "MongoDB 8.0.0 (MONGODB_URI), standalone"

	cmd   *exec.Cmd
	stdin io.Closer // closing it ends the command
}

// Start finds or starts a server as mongotest documents, and passes the arguments to the
// command.
func Start(args ...string) (*Server, error) {
	dir, err := findModule()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", append([]string{"-C", dir, "run", "./cmd/mongotest"}, args...)...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &Server{cmd: cmd, stdin: stdin}
	lines := bufio.NewScanner(stdout)
	for _, told := range []*string{&s.URI, &s.Description} {
		if !lines.Scan() {
			s.Stop()
			return nil, errors.New("mongotest gave no server")
		}
		*told = lines.Text()
	}
	return s, nil
}

// ErrAbsent is returned if the nested module of the test server does not exist: a module
// that the go command has downloaded has no nested modules.
var ErrAbsent = errors.New("no mongotest in this folder or above: a test server needs the repository, not the module alone")

// Check returns [ErrAbsent] if there is no test server to start, and nil otherwise.
func Check() error {
	_, err := findModule()
	return err
}

// findModule searches for the folder of mongotest in the working directory, which is that of the
// tested package, and in its parents.
func findModule() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		module := filepath.Join(dir, "mongotest")
		if _, err := os.Stat(filepath.Join(module, "go.mod")); err == nil {
			return module, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", ErrAbsent
		}
		dir = parent
	}
}

// Stop ends the server, unless it was already running before Start.
func (s *Server) Stop() {
	_ = s.stdin.Close()
	_ = s.cmd.Wait()
}
