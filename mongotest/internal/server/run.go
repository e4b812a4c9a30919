package server

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mongostore/mongostore/mongotest/embedded"
)

// stopTime is how long the server may take to finish what it is doing.
const stopTime = 5 * time.Second

// Run runs a server until the parent's input ends, if there is a parent, or until
// SIGINT, SIGTERM or SIGHUP. Once the server answers, Run writes its connection string
// and its description to stdout, a line each. The embedded server is used, whatever
// the environment says, if cfg is not zero.
func Run(ctx context.Context, cfg embedded.Config, parent io.Reader, stdout io.Writer) (err error) {
	// If the readers of our output die, writing to it must not kill us before
	// the server is removed.
	signal.Ignore(syscall.SIGPIPE)
	// The signals stay caught to the end: Ctrl-C reaches all processes of the
	// terminal, often twice, and the second must not interrupt the removal.
	ctx, release := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer release()
	if parent != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() {
			defer cancel()
			_, _ = io.Copy(io.Discard, parent) // an error is an end too
		}()
	}

	start := Start
	if cfg != (embedded.Config{}) {
		start = func(ctx context.Context) (*Server, error) { return StartEmbedded(ctx, cfg) }
	}
	server, err := start(ctx)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "%s\n%s\n", server.URI(), server.Description()); err == nil {
		<-ctx.Done()
	}

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	return server.Stop(ctx)
}
