// Command mongotest runs a server to test against, for as long as the process
// that started it lives:
//
//	go -C internal/mongotest run ./cmd/mongotest
//
// It writes two lines to its standard output once the server answers:
//
//	mongodb://127.0.0.1:40413/
//	FerretDB v1.24.0 (embedded), compatible with MongoDB 7.0.42, standalone
//
// the connection string (to be kept out of logs, it may hold a password) and a
// description for people, which begins with "MongoDB " or "FerretDB ". Anything
// else that it has to say goes to the standard error. Which server it is, is
// decided by environment variables: see package mongotest.
//
// It ends, and removes the server with all its data, when its standard input
// ends, or on SIGINT, SIGTERM or SIGHUP. A process that gives it one end of a
// pipe as its input need not do anything: if it is killed, the pipe closes.
// The exit code is 0, or 1 if the server could not be started or removed.
//
// Flags:
//
//	-addr host:port  run the embedded server at this address, whatever the environment says
//	-dir folder      run the embedded server with its data in this folder, and keep them
//	-detach          ignore the standard input, end on signals only
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mongostore/mongostore/internal/mongotest"
	"github.com/mongostore/mongostore/internal/mongotest/embedded"
)

// stopTime is how long the server may take to finish what it is doing.
const stopTime = 5 * time.Second

func main() {
	var cfg embedded.Config
	flag.StringVar(&cfg.Addr, "addr", "", "run the embedded server at this `host:port`")
	flag.StringVar(&cfg.Dir, "dir", "", "run the embedded server with its data in this `folder`, and keep them")
	detach := flag.Bool("detach", false, "ignore the standard input, end on signals only")
	flag.Parse()

	var parent io.Reader
	if !*detach {
		parent = os.Stdin
	}
	if err := run(context.Background(), cfg, parent, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run runs the server until the parent's input ends or a signal comes.
func run(ctx context.Context, cfg embedded.Config, parent io.Reader, stdout io.Writer) (err error) {
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

	start := mongotest.Start
	if cfg != (embedded.Config{}) {
		start = func(ctx context.Context) (*mongotest.Server, error) { return mongotest.StartEmbedded(ctx, cfg) }
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
