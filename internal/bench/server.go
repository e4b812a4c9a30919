package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/mongostore/mongostore/internal/testserver"
)

// Server is the process that contenders talk to.
type Server struct {
	Env         *Env
	Description string

	end func()
}

// Start starts mongotest's command, which finds or starts a server as its
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
	process, err := testserver.Start(args...)
	if err != nil {
		return nil, err
	}
	return &Server{
		Env: &Env{
			URI:      process.URI,
			Database: fmt.Sprintf("mongostore_bench_%d_%d", os.Getpid(), time.Now().UnixMilli()),
			TTL:      strings.HasPrefix(process.Description, "MongoDB "),
		},
		Description: process.Description,
		end:         process.Stop,
	}, nil
}

// Embedded reports whether it is the embedded server, with the index added.
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
