// Command mongotest runs a server to test against, for as long as the process
// that started it lives:
//
//	go run github.com/mongostore/mongostore/mongotest/cmd/mongotest@latest -addr 127.0.0.1:27017
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
//	-ignore-stdin    end on signals only, not when the standard input ends; for a service
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/mongostore/mongostore/mongotest/embedded"
	"github.com/mongostore/mongostore/mongotest/internal/server"
)

func main() {
	var cfg embedded.Config
	flag.StringVar(&cfg.Addr, "addr", "", "run the embedded server at this `host:port`")
	flag.StringVar(&cfg.Dir, "dir", "", "run the embedded server with its data in this `folder`, and keep them")
	ignoreStdin := flag.Bool("ignore-stdin", false, "end on signals only, not when the standard input ends")
	flag.Parse()

	var parent io.Reader
	if !*ignoreStdin {
		parent = os.Stdin
	}
	if err := server.Run(context.Background(), cfg, parent, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
