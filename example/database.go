package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore/mongotest/embedded"
)

// database is where the sessions are.
type database struct {
	client      *mongo.Client
	name        string
	address     string // the connection string without its secrets
	description string
	sweep       bool     // the server has no TTL index
	sealKeys    [][]byte // encrypt the values in it; none if they are readable
	close       func(context.Context) error
}

// openDatabase connects to the MongoDB of the environment. If there is none, it starts a
// MongoDB-compatible server inside this program. An application of yours needs only connect.
func openDatabase(ctx context.Context, cfg config) (*database, error) {
	const defaultName = "teahouse"
	if cfg.uri != "" {
		client, err := connect(cfg.uri)
		if err != nil {
			return nil, err
		}
		address, name := publicAddress(cfg.uri)
		db := &database{client: client, name: cmp.Or(name, defaultName), close: client.Disconnect}
		db.address = address + "/" + db.name
		db.description = db.address
		return db, nil
	}

	dir, err := filepath.Abs(filepath.Join(cfg.dir, "db"))
	if err != nil {
		return nil, fmt.Errorf("embedded database: %w", err)
	}
	server, err := embedded.Start(ctx, embedded.Config{Dir: dir})
	if err != nil {
		return nil, fmt.Errorf("embedded database: %w", err)
	}
	client, err := connect(server.URI())
	if err != nil {
		return nil, errors.Join(err, closing(ctx, server.Close))
	}
	db := &database{client: client, name: defaultName, sweep: true}
	db.close = func(ctx context.Context) error {
		return errors.Join(client.Disconnect(ctx), server.Close(ctx))
	}
	db.address = strings.TrimSuffix(server.URI(), "/") + "/" + db.name
	db.description = fmt.Sprintf("%s (embedded FerretDB %s, files in %s)", db.address, server.Version(), dir)
	return db, nil
}

// connect returns a client. It does no network I/O. The driver's error can hold the password.
func connect(uri string) (*mongo.Client, error) {
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		return nil, errors.New("MONGODB_URI is an invalid URI")
	}
	return client, nil
}

// publicAddress returns what may be shown of a connection string: the servers and the name of
// the database, without user, password and options.
func publicAddress(uri string) (address, database string) {
	scheme, rest, _ := strings.Cut(uri, "://")
	if _, servers, ok := strings.Cut(rest, "@"); ok {
		rest = servers
	}
	servers, rest, _ := strings.Cut(rest, "/")
	database, _, _ = strings.Cut(rest, "?")
	return scheme + "://" + servers, database
}
