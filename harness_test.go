package mongostore_test

import (
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/testserver"
)

// The server under the tests: started by the first test that needs one, stopped by
// TestMain, or by its own attention to its standard input if the tests are killed.

type testServer struct {
	uri         string
	description string
	client      *mongo.Client // for looking at the database from outside
	database    string
	stop        func()
}

var startServer = sync.OnceValues(func() (*testServer, error) {
	process, err := testserver.Start()
	if err != nil {
		return nil, err
	}
	client, err := mongo.Connect(options.Client().ApplyURI(process.URI))
	if err != nil {
		process.Stop()
		return nil, err
	}
	s := &testServer{uri: process.URI, description: process.Description, client: client}
	s.database = fmt.Sprintf("mongostore_test_%d_%d", os.Getpid(), time.Now().UnixMilli())
	s.stop = func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = client.Database(s.database).Drop(ctx)
		_ = client.Disconnect(ctx)
		process.Stop()
	}
	serverInUse.Store(s)
	fmt.Fprintln(os.Stderr, "mongostore: tests run against", s.description) // an Example owns the standard output
	return s, nil
})

var serverInUse atomic.Pointer[testServer]

func TestMain(m *testing.M) {
	gob.Register(cart{})
	runMain(m)
}

// runMain runs the tests of a package, stops the test server, and exits. It is for TestMain.
// The exit code is 1 if goroutines are left behind.
func runMain(m *testing.M) {
	code := m.Run()
	if s := serverInUse.Load(); s != nil {
		s.stop()
	}
	if left := leftBehind(); left != "" && code == 0 {
		fmt.Fprintf(os.Stderr, "mongostore: goroutines are left after the tests:\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

func server(t testing.TB) *testServer {
	t.Helper()
	s, err := startServer()
	if err != nil {
		t.Fatal("start test server:", err)
	}
	return s
}

// needsMongoDB skips a test of what only MongoDB itself has.
func needsMongoDB(t testing.TB, what string) {
	t.Helper()
	if s := server(t); !strings.HasPrefix(s.description, "MongoDB ") {
		t.Skipf("needs %s, which %s has not: set MONGODB_URI to a MongoDB", what, s.description)
	}
}

// TestServer says which server the other tests run against.
func TestServer(t *testing.T) {
	t.Log(server(t).description)
}

// fixture is a store on a collection of its own, over a connection on which commands
// are counted and faults can be made.
type fixture struct {
	t     testing.TB
	store *mongostore.Store
	coll  *mongo.Collection // from outside, over another connection
	log   *commandLog
	wire  *faults
	text  *logBuffer // what the store logged
	cfg   mongostore.Config
}

var (
	signingKey = []byte("a signing key of thirty-two bytes")
	blockKey   = []byte("sixteen-byte-key")
)

// setup opens a store. Cleanup is off, unless change says otherwise, so that it does
// not mix its commands in.
func setup(t testing.TB, change ...func(*mongostore.Config)) *fixture {
	t.Helper()
	s := server(t)
	f := &fixture{t: t, log: &commandLog{}, wire: newFaults(), text: &logBuffer{}}
	client := f.connect()
	f.coll = s.client.Database(s.database).Collection("c" + strconv.FormatInt(collections.Add(1), 10))
	t.Cleanup(func() { _ = f.coll.Drop(context.WithoutCancel(t.Context())) })

	f.cfg = mongostore.Config{
		Client:     client,
		Database:   s.database,
		Collection: f.coll.Name(),
		Cleanup:    mongostore.Off,
		Logger:     slog.New(slog.NewTextHandler(f.text, nil)),
		Timeout:    20 * time.Second, // a busy machine is no outage
	}
	for _, c := range change {
		c(&f.cfg)
	}
	f.store = f.open()
	f.log.reset()
	return f
}

var collections atomic.Int64

// connect makes a client whose commands are logged and whose wire can be cut.
func (f *fixture) connect() *mongo.Client {
	f.t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(server(f.t).uri).
		SetMonitor(f.log.monitor()).
		SetDialer(f.wire).
		SetHeartbeatInterval(500 * time.Millisecond)) // the least that the driver takes
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		f.wire.heal()
		_ = client.Disconnect(context.WithoutCancel(f.t.Context()))
	})
	return client
}

// open makes another store of the fixture's configuration, as another process would.
func (f *fixture) open() *mongostore.Store {
	f.t.Helper()
	store, err := mongostore.Open(f.t.Context(), f.cfg, signingKey)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		f.wire.heal()
		if err := store.Close(context.WithoutCancel(f.t.Context())); err != nil {
			f.t.Error(err)
		}
	})
	return store
}

// documents returns the collection's documents, as they are.
func (f *fixture) documents() []bson.Raw {
	f.t.Helper()
	cursor, err := f.coll.Find(f.t.Context(), bson.D{})
	if err != nil {
		f.t.Fatal(err)
	}
	var docs []bson.Raw
	if err := cursor.All(f.t.Context(), &docs); err != nil {
		f.t.Fatal(err)
	}
	return docs
}

// document returns the only document of the collection.
func (f *fixture) document() bson.Raw {
	f.t.Helper()
	docs := f.documents()
	if len(docs) != 1 {
		f.t.Fatalf("%d documents in the collection, want 1", len(docs))
	}
	return docs[0]
}

// wantDocuments checks how many sessions the database holds.
func (f *fixture) wantDocuments(n int) {
	f.t.Helper()
	if docs := f.documents(); len(docs) != n {
		f.t.Errorf("%d documents in the collection, want %d", len(docs), n)
	}
}

// edit changes the only document behind the store's back.
func (f *fixture) edit(update any) {
	f.t.Helper()
	res, err := f.coll.UpdateMany(f.t.Context(), bson.D{}, update)
	if err != nil {
		f.t.Fatal(err)
	}
	if res.MatchedCount == 0 {
		f.t.Fatal("no document to edit")
	}
}

// expire puts the expiry of every session into the past.
func (f *fixture) expire() {
	f.t.Helper()
	f.edit(bson.D{{Key: "$set", Value: bson.D{{Key: "expiresAt", Value: time.Now().Add(-time.Second)}}}})
}

// wantCommands checks what was sent since the last call.
func (f *fixture) wantCommands(want ...string) {
	f.t.Helper()
	if got := f.log.reset(); !slices.Equal(got, want) {
		f.t.Errorf("commands sent: %q, want %q", got, want)
	}
}

// browser keeps cookies as a browser does, save for their Path and Domain.
type browser struct {
	f       *fixture
	store   *mongostore.Store
	cookies map[string]string
}

func (f *fixture) browser() *browser {
	return &browser{f: f, store: f.store, cookies: map[string]string{}}
}

// clone is a second window: it has the same cookies.
func (b *browser) clone() *browser {
	c := b.f.browser()
	c.store = b.store
	maps.Copy(c.cookies, b.cookies)
	return c
}

func (b *browser) request() *http.Request {
	r := httptest.NewRequest(http.MethodGet, "https://example.com/", nil)
	for name, v := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: v})
	}
	return r
}

// receive takes the cookies of a response.
func (b *browser) receive(w *httptest.ResponseRecorder) {
	for _, c := range w.Result().Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
}

const name = "session"

// load gets the session in a request of its own.
func (b *browser) load() *sessions.Session {
	b.f.t.Helper()
	session, err := b.store.Get(b.request(), name)
	if err != nil {
		b.f.t.Fatal("load:", err)
	}
	return session
}

// save saves a session in a request of its own, and returns the response.
func (b *browser) save(session *sessions.Session) (*httptest.ResponseRecorder, error) {
	w := httptest.NewRecorder()
	err := b.store.Save(b.request(), w, session)
	b.receive(w)
	return w, err
}

// do is a request that changes the session.
func (b *browser) do(change func(*sessions.Session)) *http.Cookie {
	b.f.t.Helper()
	r, w := b.request(), httptest.NewRecorder()
	session, err := b.store.Get(r, name)
	if err != nil {
		b.f.t.Fatal("load:", err)
	}
	change(session)
	if err := session.Save(r, w); err != nil {
		b.f.t.Fatal("save:", err)
	}
	b.receive(w)
	cookies := w.Result().Cookies()
	if len(cookies) != 1 {
		b.f.t.Fatalf("%d cookies set, want 1", len(cookies))
	}
	return cookies[0]
}

// login is a first request that makes a session.
func (b *browser) login() *browser {
	b.f.t.Helper()
	b.do(func(s *sessions.Session) { s.Values["user"] = "ada" })
	return b
}

// logout is a request that ends the session.
func (b *browser) logout() {
	b.f.t.Helper()
	b.do(func(s *sessions.Session) { s.Options.MaxAge = -1 })
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("in vain waited until", what)
		}
	}
}

// commandLog collects the commands that a client sends, but for those of its
// connection's own.
type commandLog struct {
	mu       sync.Mutex
	names    []string
	commands []bson.Raw
	bytes    int
}

func (l *commandLog) monitor() *event.CommandMonitor {
	return &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		switch e.CommandName {
		case "ping", "endSessions", "killCursors":
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.names = append(l.names, e.CommandName)
		l.commands = append(l.commands, slices.Clone(e.Command))
		l.bytes += len(e.Command)
	}}
}

// reset returns the names of the commands since the last reset.
func (l *commandLog) reset() []string {
	names, _ := l.take()
	return names
}

// take returns the names, and the documents, of the commands since the last reset.
func (l *commandLog) take() ([]string, []bson.Raw) {
	l.mu.Lock()
	defer l.mu.Unlock()
	names, commands := l.names, l.commands
	l.names, l.commands, l.bytes = nil, nil, 0
	return names, commands
}

func (l *commandLog) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// logBuffer is what a logger writes to.
type logBuffer struct {
	mu  sync.Mutex
	buf strings.Builder
}

var _ io.Writer = (*logBuffer)(nil)

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// setDate is an update that sets a date.
func setDate(field string, at time.Time) bson.D {
	return bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: at}}}}
}
