// Package server finds or starts the server that package mongotest documents, in this
// process.
package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore/mongotest/embedded"
)

const (
	uriVariable   = "MONGODB_URI"
	modeVariable  = "MONGOSTORE_TEST"
	imageVariable = "MONGOSTORE_TEST_IMAGE"

	defaultImage = "mongo:8"

	// answerTime is how long a server that is said to be running may take to
	// answer.
	answerTime = 10 * time.Second
)

// Server is a server to test against.
type Server struct {
	uri         string
	description string
	stop        func(context.Context) error
}

// Start finds or starts a server, as the documentation of mongotest says, and
// returns it when it answers. The context bounds the start alone; the server
// runs until [Server.Stop].
func Start(ctx context.Context) (*Server, error) {
	if uri := os.Getenv(uriVariable); uri != "" {
		return useRunning(ctx, uri)
	}
	image := os.Getenv(imageVariable)
	switch mode := os.Getenv(modeVariable); mode {
	case "docker":
		return startContainer(ctx, image)
	case "embedded":
		return StartEmbedded(ctx, embedded.Config{})
	case "":
		server, err := startContainer(ctx, image)
		if err == nil || image != "" || ctx.Err() != nil {
			return server, err
		}
		fmt.Fprintf(os.Stderr, "%v: falling back to the embedded server\n", err)
		return StartEmbedded(ctx, embedded.Config{})
	default:
		return nil, fmt.Errorf(`mongotest: %s=%q: want "docker", "embedded" or nothing`, modeVariable, mode)
	}
}

// StartEmbedded starts the embedded server, whatever the environment says.
func StartEmbedded(ctx context.Context, cfg embedded.Config) (*Server, error) {
	server, err := embedded.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{uri: server.URI(), stop: server.Close}
	return s.whenReady(ctx, "embedded", answerTime)
}

// useRunning uses a server that somebody else has started, and will stop.
func useRunning(ctx context.Context, uri string) (*Server, error) {
	// The driver's error is left out: it may quote a part of the password.
	if options.Client().ApplyURI(uri).Validate() != nil {
		return nil, fmt.Errorf("mongotest: %s is not a valid connection string", uriVariable)
	}
	s := &Server{uri: uri, stop: func(context.Context) error { return nil }}
	return s.whenReady(ctx, uriVariable, answerTime)
}

// URI returns the connection string. It may hold a password.
func (s *Server) URI() string { return s.uri }

// Description says in one line which server this is, by its own account, and
// where it comes from: "MongoDB 8.0.4 (docker image mongo:8), replica set rs0".
// It begins with "MongoDB " or "FerretDB " and holds no secrets.
func (s *Server) Description() string { return s.description }

// Stop ends the server and removes what it left, unless it is that of
// MONGODB_URI. An embedded server finishes what it is doing as long as the
// context lasts.
func (s *Server) Stop(ctx context.Context) error { return s.stop(ctx) }

// whenReady waits until the server answers, and completes s with its
// description. If the server does not answer in time, it is stopped.
func (s *Server) whenReady(ctx context.Context, origin string, limit time.Duration) (_ *Server, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop(context.WithoutCancel(ctx)))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = s.connected(ctx, func(client *mongo.Client) (err error) {
		s.description, err = describe(ctx, client.Database("admin"), origin)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("mongotest: the server (%s) does not answer: %w", origin, withCause(ctx, err))
	}
	return s, nil
}

// withCause adds why the context is done, if it is, and if err does not say so.
func withCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// connected calls f with a client of the server.
func (s *Server) connected(ctx context.Context, f func(*mongo.Client) error) (err error) {
	client, err := mongo.Connect(options.Client().ApplyURI(s.uri))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Disconnect(context.WithoutCancel(ctx))) }()
	return f(client)
}

// describe asks the server what it is. FerretDB also passes for a MongoDB, with
// that one's version; that is said, since clients go by it.
func describe(ctx context.Context, admin *mongo.Database, origin string) (string, error) {
	var build struct {
		Version   string `bson:"version"`
		FerretDB1 string `bson:"ferretdbVersion"`
		FerretDB2 struct {
			Version string `bson:"version"`
		} `bson:"ferretdb"`
	}
	if err := admin.RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&build); err != nil {
		return "", err
	}
	var hello struct {
		SetName string `bson:"setName"`
		Message string `bson:"msg"`
	}
	if err := admin.RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
		return "", err
	}

	text := fmt.Sprintf("MongoDB %s (%s)", build.Version, origin)
	for _, version := range []string{build.FerretDB1, build.FerretDB2.Version} {
		if version != "" {
			text = fmt.Sprintf("FerretDB %s (%s), compatible with MongoDB %s", version, origin, build.Version)
		}
	}
	switch {
	case hello.SetName != "":
		text += ", replica set " + hello.SetName
	case hello.Message == "isdbgrid": // how mongos says that it is one
		text += ", sharded"
	default:
		text += ", standalone"
	}
	return text, nil
}
