package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Server is the process that contenders talk to.
type Server struct {
	Env         *Env
	Description string

	end func()
}

// Start starts internal/mongotest's command, which finds or starts a server as its
// documentation says. It is a process of its own.
func Start() (*Server, error) {
	if os.Getenv("MONGODB_URI") != "" || os.Getenv("MONGOSTORE_TEST") != "embedded" {
		s, err := start()
		if err != nil || !strings.Contains(s.Description, "(embedded)") {
			return s, err
		}
		s.end()
	}
	// The embedded one, with its files where they can be reached: see indexEmbedded.
	dir, err := os.MkdirTemp("", "mongostore-bench-")
	if err != nil {
		return nil, err
	}
	s, err := start("-dir", dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	s.Env.dir = dir
	return s, nil
}

func start(args ...string) (*Server, error) {
	cmd := exec.Command("go", append([]string{"-C", sibling("mongotest"), "run", "./cmd/mongotest"}, args...)...)
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
	end := func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}
	lines := bufio.NewScanner(stdout)
	var told []string
	for len(told) < 2 && lines.Scan() {
		told = append(told, lines.Text())
	}
	if len(told) < 2 {
		end()
		return nil, errors.New("no server to measure with")
	}
	return &Server{
		Env: &Env{
			URI:      told[0],
			Database: fmt.Sprintf("mongostore_bench_%d_%d", os.Getpid(), time.Now().UnixMilli()),
			TTL:      strings.HasPrefix(told[1], "MongoDB "),
		},
		Description: told[1],
		end:         end,
	}, nil
}

// Embedded reports whether it is the embedded server, with its index mended.
func (s *Server) Embedded() bool { return s.Env.dir != "" }

// Stop drops what was stored and stops the server.
func (s *Server) Stop(ctx context.Context) error {
	err := s.drop(ctx)
	s.end()
	if s.Env.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.Env.dir))
	}
	return err
}

func (s *Server) drop(ctx context.Context) error {
	client, err := s.Env.connect()
	if err != nil {
		return err
	}
	return errors.Join(client.Database(s.Env.Database).Drop(ctx), client.Disconnect(ctx))
}

// sibling is the folder of another module, next to this one.
func sibling(name string) string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", name)
}
