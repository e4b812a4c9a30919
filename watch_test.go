package mongostore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// changeServer is a replica set of one member, or a standalone server, to the driver. The
// test responds to each aggregate and getMore itself. The server has no database.
type changeServer struct {
	t        testing.TB
	address  string
	set      string // empty on a standalone server
	commands chan asked
	done     chan struct{}

	mu     sync.Mutex
	conns  []net.Conn
	killed []int64
}

// asked is a command that waits for its response.
type asked struct {
	bson.Raw
	answer chan bson.D // nil cuts the connection
}

func startChangeServer(t testing.TB, set string) *changeServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &changeServer{t: t, address: listener.Addr().String(), set: set, commands: make(chan asked), done: make(chan struct{})}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			serving.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		close(s.done)
		_ = listener.Close()
		s.mu.Lock()
		for _, conn := range s.conns {
			_ = conn.Close()
		}
		s.mu.Unlock()
		serving.Wait()
	})
	return s
}

func (s *changeServer) serve(conn net.Conn) {
	defer conn.Close()
	for {
		request, err := storetest.ReadMessage(conn)
		if err != nil {
			return
		}
		reply := s.answer(request)
		if reply == nil {
			return
		}
		if _, err := conn.Write(reply); err != nil {
			return
		}
	}
}

func (s *changeServer) answer(request []byte) []byte {
	id := binary.LittleEndian.Uint32(request[4:])
	ok := bson.D{{Key: "ok", Value: 1}}
	switch storetest.CommandOf(request) {
	case "": // the first message of a connection, in the protocol's old form
		return legacyReply(id, s.hello())
	case "hello":
		return storetest.ReplyTo(id, s.hello())
	case "ping", "endSessions":
		return storetest.ReplyTo(id, ok)
	case "killCursors":
		cursors, err := storetest.FirstDocument(request).Lookup("cursors").Array().Values()
		if err != nil {
			return nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, cursor := range cursors {
			s.killed = append(s.killed, cursor.Int64())
		}
		return storetest.ReplyTo(id, ok)
	}
	command := asked{slices.Clone(storetest.FirstDocument(request)), make(chan bson.D, 1)}
	select {
	case s.commands <- command:
	case <-s.done:
		return nil
	}
	select {
	case reply := <-command.answer:
		if reply == nil {
			return nil
		}
		return storetest.ReplyTo(id, reply)
	case <-s.done:
		return nil
	}
}

func (s *changeServer) hello() bson.D {
	hello := bson.D{
		{Key: "ok", Value: 1},
		{Key: "helloOk", Value: true},
		{Key: "ismaster", Value: true},
		{Key: "isWritablePrimary", Value: true},
		{Key: "maxBsonObjectSize", Value: 16 << 20},
		{Key: "maxMessageSizeBytes", Value: 48_000_000},
		{Key: "maxWriteBatchSize", Value: 100_000},
		{Key: "minWireVersion", Value: 0},
		{Key: "maxWireVersion", Value: 21},
		{Key: "logicalSessionTimeoutMinutes", Value: 30},
	}
	if s.set != "" {
		hello = append(hello, bson.D{
			{Key: "setName", Value: s.set},
			{Key: "setVersion", Value: 1},
			{Key: "hosts", Value: bson.A{s.address}},
			{Key: "me", Value: s.address},
			{Key: "primary", Value: s.address},
			{Key: "secondary", Value: false},
		}...)
	}
	return hello
}

// legacyReply is an OP_REPLY.
// https://www.mongodb.com/docs/manual/legacy-opcodes/
func legacyReply(request uint32, doc any) []byte {
	const opReply, header = 1, 16 + 4 + 8 + 4 + 4
	body, err := bson.Marshal(doc)
	if err != nil {
		return nil
	}
	m := make([]byte, header, header+len(body))
	binary.LittleEndian.PutUint32(m, uint32(header+len(body)))
	binary.LittleEndian.PutUint32(m[8:], request)
	binary.LittleEndian.PutUint32(m[12:], opReply)
	binary.LittleEndian.PutUint32(m[32:], 1) // document
	return append(m, body...)
}

// wait returns the next command, which must have the name.
func (s *changeServer) wait(name string) asked {
	s.t.Helper()
	select {
	case command := <-s.commands:
		if got := command.Index(0).Key(); got != name {
			s.t.Fatalf("the server was sent %v, want %s", command, name)
		}
		return command
	case <-time.After(30 * time.Second):
		s.t.Fatalf("the server was not sent %s", name)
	}
	return asked{}
}

// wantKilled checks that the cursor was killed.
func (s *changeServer) wantKilled(cursor int64) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.killed, cursor) {
		s.t.Errorf("cursors killed: %v, want %d among them", s.killed, cursor)
	}
}

// batchOf returns the response to an aggregate or getMore.
func batchOf(kind string, cursor int64, token string, changes ...bson.D) bson.D {
	return bson.D{{Key: "ok", Value: 1}, {Key: "cursor", Value: bson.D{
		{Key: "id", Value: cursor},
		{Key: "ns", Value: "app.sessions"},
		{Key: kind, Value: append([]bson.D{}, changes...)},
		{Key: "postBatchResumeToken", Value: bson.D{{Key: "_data", Value: token}}},
	}}}
}

func firstBatch(cursor int64, token string, changes ...bson.D) bson.D {
	return batchOf("firstBatch", cursor, token, changes...)
}

func nextBatch(cursor int64, token string, changes ...bson.D) bson.D {
	return batchOf("nextBatch", cursor, token, changes...)
}

// changeOf returns one of the operation type, as the pipeline projects it.
func changeOf(op string, key any, more ...bson.E) bson.D {
	return append(bson.D{
		{Key: "_id", Value: bson.D{{Key: "_data", Value: fmt.Sprint(op, key)}}},
		{Key: "operationType", Value: op},
		{Key: "documentKey", Value: bson.D{{Key: "_id", Value: key}}},
	}, more...)
}

func deletion(key any) bson.D { return changeOf("delete", key) }

func tombstone(key string, fields ...bson.E) bson.D {
	return changeOf("update", key, bson.E{Key: "updateDescription", Value: bson.D{
		{Key: "updatedFields", Value: append(bson.D{}, fields...)},
	}})
}

func movedTo(key string) bson.E { return bson.E{Key: "movedTo", Value: key} }

// keyNamed returns a key of a session that begins with the text.
func keyNamed(text string) string { return text + strings.Repeat("_", 43-len(text)) }

// watchFixture is a store on a change server.
type watchFixture struct {
	*changeServer
	store *mongostore.Store
}

func setupWatch(t testing.TB, set string, change ...func(*mongostore.Config)) watchFixture {
	t.Helper()
	s := startChangeServer(t, set)
	cfg := mongostore.Config{
		URI:      "mongodb://" + s.address + "/?directConnection=" + fmt.Sprint(set == "") + "&readConcernLevel=local",
		Database: "app",
		Cleanup:  mongostore.CleanupOff,
		Timeout:  20 * time.Second,
	}
	for _, c := range change {
		c(&cfg)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	store, err := mongostore.Open(ctx, cfg, signingKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		if err := store.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return watchFixture{s, store}
}

// watching is a loop over [mongostore.Store.Watch] in a goroutine of its own.
type watching struct {
	t      testing.TB
	events chan mongostore.Event
	errs   chan error // the one that ended the loop, or nil
}

func startWatching(t testing.TB, changes iter.Seq2[mongostore.Event, error]) *watching {
	w := &watching{t: t, events: make(chan mongostore.Event, 100), errs: make(chan error, 1)}
	go func() {
		var last error
		for event, err := range changes {
			if last != nil {
				t.Errorf("event %v, %v after the error %v", event, err, last)
			}
			if last = err; err == nil {
				w.events <- event
			} else if event != (mongostore.Event{}) {
				t.Errorf("event %v with the error %v", event, err)
			}
		}
		w.errs <- last
	}()
	return w
}

func (w *watching) want(events ...mongostore.Event) {
	w.t.Helper()
	for _, want := range events {
		select {
		case got := <-w.events:
			if got != want {
				w.t.Errorf("event %v, want %v", got, want)
			}
		case err := <-w.errs:
			w.t.Fatalf("the loop ended with %v, want event %v", err, want)
		case <-time.After(30 * time.Second):
			w.t.Fatalf("no event, want %v", want)
		}
	}
}

// end returns the error that ended the loop. There are no further events.
func (w *watching) end() error {
	w.t.Helper()
	select {
	case err := <-w.errs:
		if len(w.events) > 0 {
			w.t.Errorf("event %v", <-w.events)
		}
		return err
	case <-time.After(30 * time.Second):
		w.t.Fatal("the loop does not end")
	}
	return nil
}

// wantUnavailable checks the error of a loop that MongoDB ended.
func (w *watching) wantUnavailable() {
	w.t.Helper()
	err := w.end()
	if !errors.Is(err, mongostore.ErrUnavailable) || !strings.HasPrefix(err.Error(), "mongostore: watch sessions: ") ||
		errors.Is(err, errors.ErrUnsupported) || strings.Contains(err.Error(), storetest.CardNumber) {
		w.t.Errorf("error: %v", err)
	}
}

func TestWatchReportsSessionsThatEnd(t *testing.T) {
	t.Parallel()
	s := setupWatch(t, "rs")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := startWatching(t, s.store.Watch(ctx))

	open := s.wait("aggregate")
	var sent struct {
		Coll     string     `bson:"aggregate"`
		Pipeline []bson.Raw `bson:"pipeline"`
		Concern  bson.Raw   `bson:"readConcern"`
	}
	if err := bson.Unmarshal(open.Raw, &sent); err != nil {
		t.Fatal(err)
	}
	if sent.Coll != "sessions" || sent.Concern.Lookup("level").StringValue() != "majority" {
		t.Errorf("opened with %v", open)
	}
	for i, want := range []string{
		`{"$changeStream": {}}`,
		`{"$match": {"$or": [{"operationType": {"$in": ["delete","invalidate"]}},` +
			`{"operationType": "update","updateDescription.updatedFields.rev": {"$type": "null"}},` +
			`{"operationType": "replace","fullDocument.rev": {"$type": "null"}}]}}`,
		`{"$project": {"operationType": {"$numberInt":"1"},"documentKey._id": {"$numberInt":"1"},` +
			`"updateDescription.updatedFields.movedTo": {"$numberInt":"1"},"fullDocument.movedTo": {"$numberInt":"1"}}}`,
	} {
		if got := sent.Pipeline[i].String(); got != want {
			t.Errorf("stage %d is\n%s, want\n%s", i, got, want)
		}
	}
	if len(sent.Pipeline) != 3 {
		t.Errorf("%d stages", len(sent.Pipeline))
	}

	open.answer <- firstBatch(7, "t1", deletion(keyNamed("a")), tombstone(keyNamed("b"), movedTo(keyNamed("c"))))
	w.want(mongostore.Event{Key: keyNamed("a")}, mongostore.Event{Key: keyNamed("b"), RenewedTo: keyNamed("c")})

	more := s.wait("getMore")
	if wait := more.Lookup("maxTimeMS").AsInt64(); more.Lookup("getMore").Int64() != 7 || wait < 1 || wait > 10_000 {
		t.Errorf("asked for more with %v", more)
	}
	more.answer <- nextBatch(7, "t2")
	s.wait("getMore").answer <- nextBatch(7, "t3",
		deletion(bson.NewObjectID()), // not the store's
		deletion("abc"),
		deletion(strings.Repeat("€", 43)),
		deletion(keyNamed("d")[1:]+"="),
		changeOf("delete", nil)[:2],
		tombstone(keyNamed("e")), // of a session that came from another store
		tombstone(keyNamed("f"), movedTo("elsewhere")),
		changeOf("replace", keyNamed("g"), bson.E{Key: "fullDocument", Value: bson.D{movedTo(keyNamed("h"))}}),
	)
	w.want(
		mongostore.Event{Key: keyNamed("e")},
		mongostore.Event{Key: keyNamed("f")},
		mongostore.Event{Key: keyNamed("g"), RenewedTo: keyNamed("h")},
	)
	s.wait("getMore") // is under way
	cancel()
	if err := w.end(); err != nil {
		t.Errorf("error: %v", err)
	}
	s.wantKilled(7)
}

func TestWatchIsIndependentOfTheClientsSettings(t *testing.T) {
	t.Parallel()
	s := startChangeServer(t, "rs")
	client, err := mongo.Connect(options.Client().SetHosts([]string{s.address}).
		SetTimeout(time.Millisecond). // not of the loop
		SetRegistry(&bson.Registry{}).
		SetReadConcern(readconcern.Linearizable()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	store, err := mongostore.New(client.Database("app").Collection("sessions"), signingKey)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := startWatching(t, store.Watch(ctx))
	open := s.wait("aggregate")
	if level := open.Lookup("readConcern", "level").StringValue(); level != "majority" {
		t.Errorf("read concern %s", level)
	}
	open.answer <- firstBatch(7, "t1", deletion(keyNamed("a")))
	w.want(mongostore.Event{Key: keyNamed("a")})
	s.wait("getMore").answer <- nextBatch(7, "t2", deletion(keyNamed("b")))
	w.want(mongostore.Event{Key: keyNamed("b")})
	cancel()
	if err := w.end(); err != nil {
		t.Errorf("error: %v", err)
	}
	s.wantKilled(7)
}

// resumable is the response of a server that steps down.
var resumable = append(storetest.Refusal(189, "PrimarySteppedDown"), bson.E{Key: "errorLabels", Value: bson.A{"ResumableChangeStreamError"}})

func TestWatchResumes(t *testing.T) {
	t.Parallel()
	for what, answer := range map[string]bson.D{
		"resumable error":  resumable,
		"cursor timed out": storetest.Refusal(43, "CursorNotFound"),
		"connection cut":   nil,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := setupWatch(t, "rs")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w := startWatching(t, s.store.Watch(ctx))
			s.wait("aggregate").answer <- firstBatch(7, "t1", deletion(keyNamed("a")))
			w.want(mongostore.Event{Key: keyNamed("a")})
			s.wait("getMore").answer <- nextBatch(7, "t2")
			s.wait("getMore").answer <- answer
			for round, token := range []string{"t2", "t3"} {
				cursor := int64(8 + round)
				again := s.wait("aggregate")
				if got := again.Lookup("pipeline", "0", "$changeStream", "resumeAfter", "_data").StringValue(); got != token {
					t.Errorf("resumed after %s, want %s", got, token)
				}
				again.answer <- firstBatch(cursor, token)
				s.wait("getMore").answer <- nextBatch(cursor, "t3", deletion(keyNamed(fmt.Sprint(round))))
				w.want(mongostore.Event{Key: keyNamed(fmt.Sprint(round))})
				s.wait("getMore").answer <- answer
			}
			s.wait("aggregate").answer <- firstBatch(10, "t4")
			s.wait("getMore")
			cancel()
			if err := w.end(); err != nil {
				t.Errorf("error: %v", err)
			}
			s.wantKilled(10)
		})
	}
}

func TestWatchEndsWithTheServersError(t *testing.T) {
	t.Parallel()
	for what, play := range map[string]func(watchFixture, *watching){
		"not permitted": func(s watchFixture, _ *watching) {
			s.wait("aggregate").answer <- storetest.Quoting(13, "Unauthorized")
		},
		"history lost": func(s watchFixture, _ *watching) {
			s.wait("aggregate").answer <- firstBatch(7, "t1")
			s.wait("getMore").answer <- storetest.Quoting(286, "ChangeStreamHistoryLost")
		},
		"history lost before it resumes": func(s watchFixture, w *watching) {
			s.wait("aggregate").answer <- firstBatch(7, "t1", deletion(keyNamed("a")))
			w.want(mongostore.Event{Key: keyNamed("a")})
			s.wait("getMore").answer <- resumable
			s.wait("aggregate").answer <- storetest.Quoting(286, "ChangeStreamHistoryLost")
		},
		"killed": func(s watchFixture, _ *watching) {
			s.wait("aggregate").answer <- firstBatch(7, "t1")
			s.wait("getMore").answer <- storetest.Quoting(237, "CursorKilled")
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := setupWatch(t, "rs")
			w := startWatching(t, s.store.Watch(t.Context()))
			play(s, w)
			w.wantUnavailable()
		})
	}
}

func TestWatchEndsWithTheCollection(t *testing.T) {
	t.Parallel()
	for what, answer := range map[string]bson.D{
		"with an event": nextBatch(0, "t2", deletion(keyNamed("a")), changeOf("invalidate", nil)[:2]),
		"without":       nextBatch(0, "t2", deletion(keyNamed("a"))),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := setupWatch(t, "rs")
			w := startWatching(t, s.store.Watch(t.Context()))
			s.wait("aggregate").answer <- firstBatch(7, "t1")
			s.wait("getMore").answer <- answer
			w.want(mongostore.Event{Key: keyNamed("a")})
			if err := w.end(); err == nil || errors.Is(err, mongostore.ErrUnavailable) ||
				err.Error() != "mongostore: watch sessions: collection was dropped or renamed" {
				t.Errorf("error: %v", err)
			}
		})
	}
}

func wantUnsupported(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, errors.ErrUnsupported) || errors.Is(err, mongostore.ErrUnavailable) ||
		!strings.Contains(err.Error(), "need a replica set") {
		t.Errorf("error: %v", err)
	}
}

func TestWatchNeedsAReplicaSet(t *testing.T) {
	t.Parallel()
	s := setupWatch(t, "")
	w := startWatching(t, s.store.Watch(t.Context()))
	s.wait("aggregate").answer <- storetest.Quoting(40573, "Location40573")
	err := w.end()
	wantUnsupported(t, err)
	if strings.Contains(err.Error(), storetest.CardNumber) {
		t.Errorf("error: %v", err)
	}
}

func TestWatchOnTheTestServer(t *testing.T) {
	t.Parallel()
	if hasChangeStreams(t) {
		t.Skip("needs a server without change streams: unset MONGODB_URI")
	}
	f := storetest.Setup(t)
	wantUnsupported(t, startWatching(t, f.Store.Watch(t.Context())).end())
}

func TestWatchIsClosedWhenTheLoopIsLeft(t *testing.T) {
	t.Parallel()
	leave := map[string]func(iter.Seq2[mongostore.Event, error]){
		"break": func(changes iter.Seq2[mongostore.Event, error]) {
			for _, err := range changes {
				if err == nil {
					break
				}
			}
		},
		"panic": func(changes iter.Seq2[mongostore.Event, error]) {
			defer func() { _ = recover() }()
			for _, err := range changes {
				panic(fmt.Sprint("in the loop's body: ", err))
			}
		},
	}
	for what, leave := range leave {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := setupWatch(t, "rs")
			left := make(chan struct{})
			go func() {
				defer close(left)
				leave(s.store.Watch(t.Context()))
			}()
			s.wait("aggregate").answer <- firstBatch(7, "t1", deletion(keyNamed("a")), deletion(keyNamed("b")))
			<-left
			s.wantKilled(7)
		})
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	t.Parallel()

	t.Run("before it begins", func(t *testing.T) {
		t.Parallel()
		s := setupWatch(t, "rs")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := startWatching(t, s.store.Watch(ctx)).end(); err != nil {
			t.Errorf("error: %v", err)
		}
	})
	t.Run("while it opens", func(t *testing.T) {
		t.Parallel()
		s := setupWatch(t, "rs")
		ctx, cancel := context.WithCancel(t.Context())
		w := startWatching(t, s.store.Watch(ctx))
		s.wait("aggregate")
		cancel()
		if err := w.end(); err != nil {
			t.Errorf("error: %v", err)
		}
	})
	t.Run("in the body", func(t *testing.T) {
		t.Parallel()
		s := setupWatch(t, "rs")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := startWatching(t, func(yield func(mongostore.Event, error) bool) {
			for event, err := range s.store.Watch(ctx) {
				cancel()
				if !yield(event, err) {
					return
				}
			}
		})
		s.wait("aggregate").answer <- firstBatch(7, "t1", deletion(keyNamed("a")), deletion(keyNamed("b")))
		w.want(mongostore.Event{Key: keyNamed("a")})
		if err := w.end(); err != nil {
			t.Errorf("error: %v", err)
		}
		s.wantKilled(7)
	})
	t.Run("by its deadline", func(t *testing.T) {
		t.Parallel()
		s := setupWatch(t, "rs")
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		w := startWatching(t, s.store.Watch(ctx))
		select {
		case open := <-s.commands:
			open.answer <- firstBatch(7, "t1")
			<-ctx.Done()
		case <-ctx.Done(): // on a busy machine
		}
		if err := w.end(); err != nil {
			t.Errorf("error: %v", err)
		}
	})
}

func TestWatchNoticesSilence(t *testing.T) {
	t.Parallel()
	short := func(c *mongostore.Config) { c.Timeout = 2 * storetest.Soon }

	t.Run("while it opens", func(t *testing.T) {
		t.Parallel()
		s := setupWatch(t, "rs", short)
		w := startWatching(t, s.store.Watch(t.Context()))
		s.wait("aggregate")
		w.wantUnavailable()
	})
	t.Run("after an answer", func(t *testing.T) {
		t.Parallel()
		s := setupWatch(t, "rs", short)
		w := startWatching(t, s.store.Watch(t.Context()))
		s.wait("aggregate").answer <- firstBatch(7, "t1")
		s.wait("getMore").answer <- nextBatch(7, "t2")
		s.wait("getMore")
		again := s.wait("aggregate")
		if got := again.Lookup("pipeline", "0", "$changeStream", "resumeAfter", "_data").StringValue(); got != "t2" {
			t.Errorf("resumed after %s, want t2", got)
		}
		again.answer <- firstBatch(8, "t2", deletion(keyNamed("a")))
		w.want(mongostore.Event{Key: keyNamed("a")})
		s.wait("getMore") // and not a second time
		w.wantUnavailable()
	})
}

func TestCloseEndsWatch(t *testing.T) {
	t.Parallel()
	const closed = "mongostore: watch sessions: store is closed"

	t.Run("while it waits", func(t *testing.T) {
		t.Parallel()
		s := setupWatch(t, "rs")
		w := startWatching(t, s.store.Watch(t.Context()))
		s.wait("aggregate").answer <- firstBatch(7, "t1")
		s.wait("getMore")
		if err := s.store.Close(t.Context()); err != nil {
			t.Error(err)
		}
		s.wantKilled(7)
		if err := w.end(); err == nil || err.Error() != closed {
			t.Errorf("error: %v", err)
		}
		if err := startWatching(t, s.store.Watch(t.Context())).end(); err == nil || err.Error() != closed {
			t.Errorf("error after Close: %v", err)
		}
	})
	t.Run("from the body", func(t *testing.T) {
		t.Parallel()
		s := setupWatch(t, "rs")
		errs := make(chan error, 10)
		go func() {
			defer close(errs)
			for _, err := range s.store.Watch(t.Context()) {
				errs <- err
				if err == nil {
					errs <- s.store.Close(t.Context())
				}
			}
		}()
		s.wait("aggregate").answer <- firstBatch(7, "t1", deletion(keyNamed("a")), deletion(keyNamed("b")))
		for i, want := range []string{"<nil>", "<nil>", closed} {
			if err := <-errs; fmt.Sprint(err) != want {
				t.Errorf("error %d: %v", i, err)
			}
		}
		if err, more := <-errs; more {
			t.Errorf("error: %v", err)
		}
	})
}

// hasChangeStreams reports whether the test server is a replica set or a sharded cluster.
func hasChangeStreams(t testing.TB) bool {
	t.Helper()
	var hello struct {
		Set string `bson:"setName"`
		Msg string `bson:"msg"`
	}
	if err := storetest.Server(t).Client.Database("admin").RunCommand(t.Context(), bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
		t.Fatal(err)
	}
	return hello.Set != "" || hello.Msg == "isdbgrid"
}

// needsReplicaSet skips a test of what a standalone server has not.
func needsReplicaSet(t testing.TB) {
	t.Helper()
	if !hasChangeStreams(t) {
		t.Skipf("needs a replica set, which %s is not: set MONGODB_URI to a MongoDB that is one", storetest.Server(t).Description)
	}
}

func TestWatchOnAReplicaSet(t *testing.T) {
	t.Parallel()
	needsReplicaSet(t)
	f := storetest.Setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := startWatching(t, f.Store.Watch(ctx))

	// The stream is open when a deletion is reported.
	var probe mongostore.Event
	storetest.Eventually(t, "the stream is open", func() bool {
		f.Browser().Login().Logout()
		select {
		case probe = <-w.events:
			return true
		default:
			return false
		}
	})
	if len(probe.Key) != 43 || probe.RenewedTo != "" {
		t.Errorf("event %v", probe)
	}

	b := f.Browser().Login()
	old := f.Document().Lookup("_id").StringValue()
	r, rec := b.Request(), httptest.NewRecorder()
	session := b.Load()
	if err := f.Store.Renew(r, rec, session); err != nil {
		t.Fatal(err)
	}
	b.Receive(rec)
	renewed := waitFor(t, w, old)
	if len(renewed.RenewedTo) != 43 || renewed.RenewedTo == old {
		t.Errorf("event %v, want a renewal", renewed)
	}
	b.Logout()
	if ended := waitFor(t, w, renewed.RenewedTo); ended.RenewedTo != "" {
		t.Errorf("event %v, want a logout", ended)
	}
	cancel()
	if err := <-w.errs; err != nil {
		t.Errorf("error: %v", err)
	}
}

// waitFor returns the first event of a session.
func waitFor(t testing.TB, w *watching, key string) mongostore.Event {
	t.Helper()
	for {
		select {
		case event := <-w.events:
			if event.Key == key {
				return event
			}
		case err := <-w.errs:
			t.Fatal("the loop ended:", err)
		case <-time.After(30 * time.Second):
			t.Fatalf("the end of %s is not reported", key)
		}
	}
}

// closing is a socket that says when it is closed.
type closing chan struct{}

func (c closing) Close() error {
	close(c)
	return nil
}

// TestExampleHub runs the example, which needs a replica set, on the change server.
func TestExampleHub(t *testing.T) {
	t.Parallel()
	s := setupWatch(t, "rs")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sockets := &hub{store: s.store, sockets: map[string]map[io.Closer]bool{}}
	ada, ada2, eve := make(closing), make(closing), make(closing)
	sockets.add(keyNamed("ada"), ada)
	sockets.add(keyNamed("ada"), ada2)
	sockets.add(keyNamed("eve"), eve)
	stopped := make(chan error, 1)
	go func() { stopped <- sockets.run(ctx) }()

	s.wait("aggregate").answer <- storetest.Quoting(286, "ChangeStreamHistoryLost") // and again
	s.wait("aggregate").answer <- firstBatch(7, "t1", deletion(keyNamed("ada")))
	<-ada
	<-ada2
	s.wait("getMore").answer <- nextBatch(7, "t2", tombstone(keyNamed("eve"), movedTo(keyNamed("eve2"))))
	<-eve
	s.wait("getMore")
	if len(sockets.sockets) > 0 {
		t.Errorf("sockets: %v", sockets.sockets)
	}
	cancel()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	s.wantKilled(7)

	standalone := setupWatch(t, "")
	sockets.store = standalone.store
	go func() { stopped <- sockets.run(t.Context()) }()
	standalone.wait("aggregate").answer <- storetest.Refusal(40573, "Location40573")
	wantUnsupported(t, <-stopped)
}

// TestExampleHubChecks: what the stream has missed is found by a look at the session.
func TestExampleHubChecks(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session := b.Load()
	key, err := f.Store.Key(session)
	if want := f.Document().Lookup("_id").StringValue(); err != nil || key != want {
		t.Fatalf("key %s, %v, want %s", key, err, want)
	}
	sockets, socket := &hub{store: f.Store, sockets: map[string]map[io.Closer]bool{}}, make(closing)
	sockets.add(key, socket)
	if !sockets.check(t.Context(), session.ID, key) {
		t.Error("a live session is taken for ended")
	}
	f.Wire.RefuseAll()
	if !sockets.check(t.Context(), session.ID, key) {
		t.Error("an outage ends the sockets")
	}
	f.Wire.Heal()
	b.Logout()
	if sockets.check(t.Context(), session.ID, key) {
		t.Error("an ended session is taken for alive")
	}
	<-socket
}

// TestExampleHubEchoes: a message moves the expiry, and closes the socket once the session has
// ended.
func TestExampleHubEchoes(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	f.Older(time.Hour)
	session, late := b.Load(), b.Load()
	sockets := &hub{store: f.Store}
	say := func(session *sessions.Session) (string, error) {
		client, server := net.Pipe()
		defer client.Close()
		left := make(chan struct{})
		go func() {
			defer close(left)
			defer server.Close()
			sockets.echo(t.Context(), session, server)
		}()
		if _, err := client.Write([]byte("hi")); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 2)
		_, err := io.ReadFull(client, answer)
		_ = client.Close()
		<-left
		return string(answer), err
	}
	if answer, err := say(session); err != nil || answer != "hi" {
		t.Errorf("answer %q, %v", answer, err)
	}
	storetest.WantTime(t, f.Document(), "seenAt", time.Now())
	b.Logout()
	if answer, err := say(late); !errors.Is(err, io.EOF) {
		t.Errorf("answer %q, %v after a logout", answer, err)
	}
}
