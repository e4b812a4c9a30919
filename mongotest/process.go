package mongotest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/mongostore/mongostore/mongotest/embedded"
	"github.com/mongostore/mongostore/mongotest/internal/server"
)

// processVariable is set in the process that runs the server.
const processVariable = "MONGOTEST_SERVER_PROCESS"

// In the process that runs the server, the program begins and ends here, before main and
// the tests.
func init() { //nolint:gochecknoinits // nothing that runs later is certain to run
	if os.Getenv(processVariable) == "" {
		return
	}
	if err := server.Run(context.Background(), embedded.Config{}, os.Stdin, os.Stdout); err != nil {
		fmt.Println(err) // to the parent, which reads all that is written before the URI
		os.Exit(1)
	}
	os.Exit(0)
}

// input is the standard input of the server's process, which ends when this process
// ends and with it the pipe. It is held here so that it is not garbage before.
var input io.Closer

var shared = sync.OnceValues(func() (Server, error) {
	server, err := startProcess()
	if err != nil {
		return Server{}, fmt.Errorf("mongotest: %w", err)
	}
	return server, nil
})

func startProcess() (Server, error) {
	program, err := os.Executable()
	if err != nil {
		return Server{}, err
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), processVariable+"=1")
	cmd.Stderr = os.Stderr
	if input, err = cmd.StdinPipe(); err != nil {
		return Server{}, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return Server{}, err
	}
	if err := cmd.Start(); err != nil {
		return Server{}, err
	}
	var said []string
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if uri := lines.Text(); !strings.HasPrefix(uri, "mongodb") {
			said = append(said, strings.TrimPrefix(uri, "mongotest: "))
		} else if lines.Scan() {
			return Server{URI: uri, Description: lines.Text()}, nil
		}
	}
	_ = input.Close()
	said = append(said, fmt.Sprint("the process of the server ended: ", cmd.Wait()))
	return Server{}, errors.New(strings.Join(said, "; "))
}
