package ginstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/gin-gonic/gin"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore/internal/testserver"
)

// TestMain sets MONGODB_URI to the server of the tests, where the example looks for it.
func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode) // or it prints every route
	os.Exit(run(m))
}

func run(m *testing.M) int {
	server, err := testserver.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer server.Stop()
	fmt.Fprintln(os.Stderr, "ginstore: tests run against", server.Description)
	if err := os.Setenv("MONGODB_URI", server.URI); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := dropExample(context.Background(), server.URI); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// dropExample drops the database of the example.
func dropExample(ctx context.Context, uri string) error {
	client, err := mongo.Connect(options.Client().ApplyURI(uri))
	if err != nil {
		return err
	}
	return errors.Join(client.Database("ginstore_example").Drop(ctx), client.Disconnect(ctx))
}
