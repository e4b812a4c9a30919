package mongotest_test

import (
	"context"
	"os"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore/mongotest"
)

func TestSharedServerIsOneForAllTests(t *testing.T) {
	t.Parallel()
	server, err := mongotest.Shared()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if uri := mongotest.Start(t); uri != server.URI {
				t.Errorf("URI %q, want %q", uri, server.URI)
			}
			checkServes(t, server.URI)
		})
	}
}

func TestSharedServerEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	t.Run("exit", func(t *testing.T) {
		t.Parallel()
		p := startWith(t, os.Args[0], nil, childVariable+"="+shared, "MONGOSTORE_TEST=embedded")
		checkServes(t, p.uri)
		if p.description != embeddedDescription {
			t.Errorf("description %q, want %q", p.description, embeddedDescription)
		}
		p.closeInput(t)
		p.checkEnds(t)
	})
	t.Run("kill", func(t *testing.T) {
		t.Parallel()
		p := startWith(t, os.Args[0], nil, childVariable+"="+shared, "MONGOSTORE_TEST=embedded")
		checkServes(t, p.uri)
		p.killParent(t)
	})
}

func TestDatabaseIsEmptyAndDroppedAtTheEnd(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for range 2 {
		t.Run("test", func(t *testing.T) {
			db := mongotest.Database(t)
			names[db.Name()] = true
			coll := db.Collection("users")
			if n, err := coll.CountDocuments(t.Context(), bson.D{}); err != nil || n != 0 {
				t.Errorf("%d documents (error %v)", n, err)
			}
			if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "name", Value: "Ada"}}); err != nil {
				t.Error(err)
			}
		})
	}
	if len(names) != 2 {
		t.Errorf("databases %v, want one for each test", names)
	}
	client, err := mongo.Connect(options.Client().ApplyURI(mongotest.Start(t)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	left, err := client.ListDatabaseNames(t.Context(), bson.D{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range left {
		if names[name] {
			t.Errorf("database %s is left", name)
		}
	}
}
