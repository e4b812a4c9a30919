// Command example is a small tea shop: a gorilla/mux application that keeps its
// sessions in MongoDB.
//
//	go run .                                                # with a database inside the program
//	MONGODB_URI=mongodb://localhost:27017/teahouse go run . # with your MongoDB
//
// Users, carts and messages are in the sessions; there is no other storage. The file to copy
// from is session.go. A much smaller program is in the folder minimal.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const shutdownTimeout = 10 * time.Second // for requests in progress

func main() {
	var cfg config
	flag.StringVar(&cfg.addr, "addr", "localhost:8080", "`address` to listen on")
	flag.StringVar(&cfg.dir, "data", "data", "`folder` of the keys and the embedded database; for one program at a time")
	flag.BoolVar(&cfg.migrate, "migrate", false, "accept the cookies of a CookieStore with the same key, and move their sessions to the database")
	flag.BoolVar(&cfg.seal, "seal", false, "encrypt the values of the sessions in the database; stays on in later runs")
	flag.DurationVar(&cfg.packing, "packing", 10*time.Second, "how long it takes to pack an order")
	flag.BoolVar(&cfg.secure, "secure", false, "send the cookie over HTTPS only; set this wherever there is TLS")
	flag.Parse()
	cfg.uri = os.Getenv("MONGODB_URI")

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program immediately
	err := run(ctx, cfg, os.Stdout)
	if interrupted := ctx.Err() != nil && errors.Is(err, context.Canceled); err != nil && !interrupted {
		fmt.Fprintln(os.Stderr, "example:", err)
		os.Exit(1)
	}
}

type config struct {
	addr    string
	dir     string
	uri     string
	migrate bool
	packing time.Duration
	seal    bool
	secure  bool
}

// run serves the shop until ctx is done.
func run(ctx context.Context, cfg config, out io.Writer) (err error) {
	// First, because a port that is in use is the likeliest error.
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", cfg.addr)
	if err != nil {
		return fmt.Errorf("%w (choose another address with -addr)", err)
	}
	defer func() { _ = listener.Close() }() // if nothing is served

	key, err := secretKey(cfg.dir, "cookie.key")
	if err != nil {
		return fmt.Errorf("cookie key: %w", err)
	}
	sealKeys, err := sealKeys(cfg)
	if err != nil {
		return fmt.Errorf("seal key: %w", err)
	}
	db, err := openDatabase(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closing(ctx, db.close)) }()
	db.sealKeys = sealKeys

	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	shop, err := openShop(ctx, cfg, db, logger, key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closing(ctx, shop.close)) }()

	fmt.Fprintf(out, "The tea house is open: http://%s\n", browserAddress(cfg.addr, listener.Addr()))
	sealed := ""
	if len(sealKeys) > 0 {
		sealed = ", sealed"
	}
	fmt.Fprintf(out, "Sessions are kept in %s%s\n", db.description, sealed)
	fmt.Fprintln(out, "Ctrl-C closes it.")

	// Without time limits a few slow clients can occupy every connection.
	server := &http.Server{
		Handler:           shop.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      20 * time.Second, // more than the database may take
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    1 << 16,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	server.RegisterOnShutdown(shop.live.close) // or Shutdown would wait for the event streams
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	fmt.Fprintln(out, "Closing. The sessions stay.")
	return closing(ctx, server.Shutdown)
}

// closing calls a function that shuts something down, after ctx has ended.
func closing(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	return f(ctx)
}

// browserAddress returns what to type into the browser: the host of the flag, and the port
// that the system has chosen.
func browserAddress(flag string, listening net.Addr) string {
	_, port, _ := net.SplitHostPort(listening.String())
	host, _, _ := net.SplitHostPort(flag)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
