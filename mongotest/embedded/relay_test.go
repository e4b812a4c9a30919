package embedded_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/mongostore/mongostore/mongotest/embedded"
)

func TestUpdatesAreAtomic(t *testing.T) {
	t.Parallel()
	const rounds, fields = 5, 50
	server := start(t, embedded.Config{})
	coll := connect(t, server).Database("test").Collection("atomic")
	for round := range rounds {
		filter := bson.D{{Key: "_id", Value: round}}
		if _, err := coll.InsertOne(t.Context(), filter); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range fields {
			wg.Go(func() {
				set := bson.D{{Key: "$set", Value: bson.D{{Key: fmt.Sprint("f", i), Value: i}}}}
				if _, err := coll.UpdateOne(t.Context(), filter, set); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		var document bson.D
		if err := coll.FindOne(t.Context(), filter).Decode(&document); err != nil {
			t.Fatal(err)
		}
		if got := len(document) - 1; got != fields {
			t.Errorf("round %d: %d of %d concurrent updates are left", round, got, fields)
		}
	}
}

func TestUnacknowledgedWrites(t *testing.T) {
	t.Parallel()
	const writes = 100
	server := start(t, embedded.Config{})
	// One connection: an answer that nobody asked for would be taken for that
	// to the next command.
	client := connect(t, server, options.Client().SetMaxPoolSize(1))
	coll := client.Database("test").Collection("unacknowledged")
	silent := client.Database("test").Collection(coll.Name(),
		options.Collection().SetWriteConcern(writeconcern.Unacknowledged()))
	for i := range writes {
		if _, err := silent.InsertOne(t.Context(), bson.D{{Key: "_id", Value: i}}); err != nil {
			t.Fatal(err)
		}
		count, err := coll.CountDocuments(t.Context(), bson.D{})
		if err != nil {
			t.Fatal(err)
		}
		if count != int64(i+1) {
			t.Fatalf("%d documents after %d writes", count, i+1)
		}
	}
}

// TestBadClients checks that no client can hold up another.
func TestBadClients(t *testing.T) {
	t.Parallel()
	insert := func(id string, payload int) []byte {
		return request(t, bson.D{
			{Key: "insert", Value: "bad"},
			{Key: "documents", Value: bson.A{bson.D{{Key: "_id", Value: id}, {Key: "x", Value: make([]byte, payload)}}}},
			{Key: "$db", Value: "test"},
		})
	}
	find := request(t, bson.D{{Key: "find", Value: "bad"}, {Key: "$db", Value: "test"}})

	tests := []struct {
		name  string
		after string // the ID of a document that must turn up
		play  func(t *testing.T, conn net.Conn)
	}{
		{"says nothing", "", func(*testing.T, net.Conn) {}},
		{"stalls in the header", "", func(t *testing.T, conn net.Conn) { send(t, conn, find[:7]) }},
		{"stalls in the body", "", func(t *testing.T, conn net.Conn) { send(t, conn, find[:len(find)-1]) }},
		{"dies in the header", "", func(t *testing.T, conn net.Conn) { send(t, conn, find[:7]); hangUp(t, conn) }},
		{"dies in the body", "", func(t *testing.T, conn net.Conn) { send(t, conn, find[:len(find)-1]); hangUp(t, conn) }},
		{"dies before the reply", "dead", func(t *testing.T, conn net.Conn) { send(t, conn, insert("dead", 0)); hangUp(t, conn) }},
		{"does not read", "large", func(t *testing.T, conn net.Conn) {
			send(t, conn, insert("large", 4<<20))
			for range 10 { // 40 MiB of replies are more than sockets buffer
				send(t, conn, find)
			}
		}},
		{"sends garbage", "", func(t *testing.T, conn net.Conn) {
			send(t, conn, append([]byte{64, 0, 0, 0}, strings.Repeat("\xff", 60)...))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := start(t, embedded.Config{})
			conn := dial(t, server)
			tt.play(t, conn)

			coll := connect(t, server).Database("test").Collection("bad")
			for i := range 10 {
				if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: i}}); err != nil {
					t.Fatal(err)
				}
			}
			if tt.after != "" {
				eventually(t, func() error {
					return coll.FindOne(t.Context(), bson.D{{Key: "_id", Value: tt.after}}).Err()
				})
			}
		})
	}
}

func TestBadLength(t *testing.T) {
	t.Parallel()
	server := start(t, embedded.Config{})
	for _, length := range []uint32{0, 1, 15, 48_000_001, math.MaxInt32, math.MaxInt32 + 1, math.MaxUint32} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			t.Parallel()
			conn := dial(t, server)
			send(t, conn, binary.LittleEndian.AppendUint32(nil, length), make([]byte, 12))
			if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, conn); n > 0 || isTimeout(err) {
				t.Errorf("connection is open after a message of %d bytes (read %d, error %v)", length, n, err)
			}
			if err := connect(t, server).Ping(t.Context(), nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAwaitDoesNotHoldUp checks that a getMore that waits for a new document
// lets through the insert that it waits for.
func TestAwaitDoesNotHoldUp(t *testing.T) {
	t.Parallel()
	server := start(t, embedded.Config{})
	_, result := await(t, server, "tailed")
	coll := connect(t, server).Database("test").Collection("tailed")
	if _, err := coll.InsertOne(t.Context(), bson.D{{Key: "_id", Value: "second"}}); err != nil {
		t.Fatal(err)
	}
	select {
	case id := <-result:
		if id != "second" {
			t.Errorf("the cursor ended with %q", id)
		}
	case <-time.After(patience):
		t.Error("the cursor does not see the document")
	}
}

// await creates a capped collection of one document, and waits for another with a
// getMore that takes up to an hour. The
// channel returned gets the other's ID, or an error.
func await(t *testing.T, server *embedded.Server, name string) (*mongo.Client, <-chan string) {
	t.Helper()
	// The client has no timeout, which the driver would turn into a maxTimeMS.
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	db := client.Database("test")
	create := options.CreateCollection().SetCapped(true).SetSizeInBytes(1 << 20)
	if err := db.CreateCollection(t.Context(), name, create); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Collection(name).InsertOne(t.Context(), bson.D{{Key: "_id", Value: "first"}}); err != nil {
		t.Fatal(err)
	}
	// By hand, since the driver's cursor would bound the wait by its own timeouts.
	var first struct {
		Cursor struct {
			ID int64 `bson:"id"`
		} `bson:"cursor"`
	}
	err = db.RunCommand(t.Context(), bson.D{
		{Key: "find", Value: name},
		{Key: "batchSize", Value: 1},
		{Key: "tailable", Value: true},
		{Key: "awaitData", Value: true},
	}).Decode(&first)
	if err != nil {
		t.Fatal(err)
	}

	result := make(chan string, 1)
	go func() {
		var next struct {
			Cursor struct {
				Batch []struct {
					ID string `bson:"_id"`
				} `bson:"nextBatch"`
			} `bson:"cursor"`
		}
		err := db.RunCommand(t.Context(), bson.D{
			{Key: "getMore", Value: first.Cursor.ID},
			{Key: "collection", Value: name},
			{Key: "maxTimeMS", Value: time.Hour.Milliseconds()},
		}).Decode(&next)
		switch {
		case err != nil:
			result <- err.Error()
		case len(next.Cursor.Batch) != 1:
			result <- fmt.Sprint(next.Cursor.Batch)
		default:
			result <- next.Cursor.Batch[0].ID
		}
	}()
	return client, result
}

// request returns an OP_MSG with the command.
func request(t *testing.T, command bson.D) []byte {
	t.Helper()
	body, err := bson.Marshal(command)
	if err != nil {
		t.Fatal(err)
	}
	var m []byte
	for _, n := range []uint32{uint32(len(body)) + 21, 1, 0, 2013, 0} { // header and flags
		m = binary.LittleEndian.AppendUint32(m, n)
	}
	return append(append(m, 0), body...) // one section of kind 0
}

// dial returns a bare connection to the server.
func dial(t *testing.T, server *embedded.Server) net.Conn {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", address(server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func address(server *embedded.Server) string {
	u, err := url.Parse(server.URI())
	if err != nil {
		return err.Error()
	}
	return u.Host
}

func send(t *testing.T, conn net.Conn, parts ...[]byte) {
	t.Helper()
	for _, part := range parts {
		if _, err := conn.Write(part); err != nil {
			t.Fatal(err)
		}
	}
}

func hangUp(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
