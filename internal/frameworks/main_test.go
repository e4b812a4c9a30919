package frameworks

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/mongotest"
)

// patience is how long a test waits for something that should come soon.
const patience = time.Minute

var signingKey = []byte("a signing key of thirty-two bytes")

// The database of the tests, on the server that package mongotest has found.
var (
	testURI  string
	testData *mongo.Database
)

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)                   // or it prints every route
	slog.SetDefault(slog.New(slog.DiscardHandler)) // outages are a part of the tests
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	server, err := mongotest.Shared()
	if err != nil {
		return 0, err
	}
	fmt.Fprintln(os.Stderr, "frameworks: tests run against", server.Description)
	client, err := mongo.Connect(options.Client().ApplyURI(server.URI))
	if err != nil {
		return 0, err
	}
	defer func() { _ = client.Disconnect(context.Background()) }()
	testURI = server.URI
	testData = client.Database(fmt.Sprintf("frameworks_%d_%d", os.Getpid(), time.Now().UnixMilli()))
	defer func() { _ = testData.Drop(context.Background()) }()
	return m.Run(), nil
}

// fixture is a store on a collection of its own.
type fixture struct {
	t        *testing.T
	store    *mongostore.Store
	coll     *mongo.Collection // from outside
	commands *commandLog       // what the store sends
}

var collections atomic.Int64

func setup(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, commands: &commandLog{}}
	f.coll = testData.Collection(fmt.Sprint("c", collections.Add(1)))
	client, err := mongo.Connect(options.Client().ApplyURI(testURI).SetMonitor(f.commands.monitor()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	f.store = f.open(client)
	f.commands.take()
	return f
}

func (f *fixture) open(client *mongo.Client) *mongostore.Store {
	f.t.Helper()
	store, err := mongostore.Open(f.t.Context(), mongostore.Config{
		Client:     client,
		Database:   testData.Name(),
		Collection: f.coll.Name(),
		Cleanup:    mongostore.CleanupOff,
		Timeout:    20 * time.Second, // a busy machine is no outage
	}, signingKey)
	if err != nil {
		f.t.Fatal(err)
	}
	f.closeAtEnd(store)
	return store
}

// outage returns a store of the fixture's keys and collection, on a server that does not
// answer.
func (f *fixture) outage() *mongostore.Store {
	f.t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://127.0.0.1:1").
		SetServerSelectionTimeout(200 * time.Millisecond))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(f.t.Context())) })
	store, err := mongostore.New(client.Database(testData.Name()).Collection(f.coll.Name()), signingKey)
	if err != nil {
		f.t.Fatal(err)
	}
	f.closeAtEnd(store)
	return store
}

func (f *fixture) closeAtEnd(store *mongostore.Store) {
	f.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(f.t.Context()), patience)
		defer cancel()
		if err := store.Close(ctx); err != nil {
			f.t.Error(err)
		}
	})
}

// documents returns the sessions as the database has them.
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

// wantDocuments checks how many sessions there are, and returns them.
func (f *fixture) wantDocuments(n int) []bson.Raw {
	f.t.Helper()
	docs := slices.DeleteFunc(f.documents(), func(doc bson.Raw) bool {
		return doc.Lookup("rev").Type == bson.TypeNull // the tombstone of a session that has ended
	})
	if len(docs) != n {
		f.t.Fatalf("%d sessions in the database, want %d", len(docs), n)
	}
	return docs
}

// age moves the dates of all sessions back.
func (f *fixture) age(by time.Duration) {
	f.t.Helper()
	for _, doc := range f.wantDocuments(1) {
		dates := bson.D{}
		for _, field := range []string{"createdAt", "seenAt", "expiresAt"} {
			dates = append(dates, bson.E{Key: field, Value: doc.Lookup(field).Time().Add(-by)})
		}
		if _, err := f.coll.UpdateOne(f.t.Context(), bson.D{{Key: "_id", Value: doc.Lookup("_id")}}, bson.D{{Key: "$set", Value: dates}}); err != nil {
			f.t.Fatal(err)
		}
	}
}

// keys returns the names of the values of the only session, sorted.
func (f *fixture) keys() []string {
	f.t.Helper()
	elements, err := f.wantDocuments(1)[0].Lookup("values").Document().Elements()
	if err != nil {
		f.t.Fatal(err)
	}
	keys := []string{}
	for _, element := range elements {
		keys = append(keys, element.Key())
	}
	slices.Sort(keys)
	return keys
}

// commandLog collects the names of the commands that a client sends, but for those of its
// connection's own.
type commandLog struct {
	mu    sync.Mutex
	names []string
}

func (l *commandLog) monitor() *event.CommandMonitor {
	return &event.CommandMonitor{Started: func(_ context.Context, e *event.CommandStartedEvent) {
		if e.CommandName == "endSessions" {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.names = append(l.names, e.CommandName)
	}}
}

// take returns the names since its last call.
func (l *commandLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	names := l.names
	l.names = nil
	return names
}

// serve serves an application over TLS, as the store's default, a Secure cookie, demands.
func serve(t *testing.T, handler http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// browser is one visitor's, with a cookie jar.
type browser struct {
	t      *testing.T
	base   string
	client *http.Client
}

func newBrowser(t *testing.T, server *httptest.Server) *browser {
	t.Helper()
	client := *server.Client()
	client.Timeout = patience
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	b := &browser{t: t, base: server.URL, client: &client}
	return b.stranger()
}

// at is the same browser on another server, as after a restart of the application. Go's
// cookie jar pays no heed to ports, as browsers' do not.
func (b *browser) at(server *httptest.Server) *browser {
	return &browser{t: b.t, base: server.URL, client: b.client}
}

// stranger is another browser, which has no cookies yet.
func (b *browser) stranger() *browser {
	b.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	client := *b.client
	client.Jar = jar
	return &browser{t: b.t, base: b.base, client: &client}
}

// copied is another browser, with the session's cookie and no other.
func (b *browser) copied() *browser {
	b.t.Helper()
	c := b.stranger()
	c.setCookie(sessionName, b.cookie(sessionName))
	return c
}

func (b *browser) origin() *url.URL {
	b.t.Helper()
	origin, err := url.Parse(b.base)
	if err != nil {
		b.t.Fatal(err)
	}
	return origin
}

// cookie returns the value of a cookie that the browser would send to "/", or "".
func (b *browser) cookie(name string) string {
	b.t.Helper()
	for _, cookie := range b.client.Jar.Cookies(b.origin()) {
		if cookie.Name == name {
			return cookie.Value
		}
	}
	return ""
}

func (b *browser) setCookie(name, value string) {
	b.t.Helper()
	b.client.Jar.SetCookies(b.origin(), []*http.Cookie{{Name: name, Value: value, Path: "/", Secure: true}})
}

// response is what has come back, redirects not followed.
type response struct {
	t       *testing.T
	status  int
	header  http.Header
	body    string
	cookies []*http.Cookie
}

func (b *browser) get(path string) response {
	b.t.Helper()
	return b.do(http.MethodGet, path)
}

// post sends a form. The fields are names and values in turn. It may be called by other
// goroutines than the test's.
func (b *browser) post(path string, fields ...string) response {
	b.t.Helper()
	return b.do(http.MethodPost, path, fields...)
}

func (b *browser) do(method, path string, fields ...string) response {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.t.Error(err)
		return response{t: b.t}
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", b.base) // as browsers do
	}
	answer, err := b.client.Do(r)
	if err != nil {
		b.t.Error(err)
		return response{t: b.t}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Error(err)
	}
	return response{b.t, answer.StatusCode, answer.Header, string(body), answer.Cookies()}
}

func (b *browser) login(name string) {
	b.t.Helper()
	b.post("/login", "name", name).wants(http.StatusSeeOther)
}

// wants checks the status and what the body contains.
func (r response) wants(status int, texts ...string) response {
	r.t.Helper()
	if r.status != status {
		r.t.Errorf("status %d, want %d: %s", r.status, status, r.body)
	}
	for _, text := range texts {
		if !strings.Contains(r.body, text) {
			r.t.Errorf("the page does not contain %q: %s", text, r.body)
		}
	}
	return r
}

// signedIn and signedOut check what the home page says.
func (b *browser) signedIn(name string) {
	b.t.Helper()
	b.get("/").wants(http.StatusOK, fmt.Sprintf("Hello, %q", name))
}

func (b *browser) signedOut() {
	b.t.Helper()
	b.get("/").wants(http.StatusOK, "Please sign in")
}

// cookie returns the only cookie of the name that the response sets, or nil.
func (r response) cookie(name string) *http.Cookie {
	r.t.Helper()
	var found *http.Cookie
	for _, cookie := range r.cookies {
		if cookie.Name != name {
			continue
		}
		if found != nil {
			r.t.Errorf("the response sets the cookie %s more than once", name)
		}
		found = cookie
	}
	return found
}

// pause is what a handler does between loading its session and changing it.
type pause func()

// barrier holds everybody back until n have come.
func barrier(n int) pause {
	var waiting atomic.Int64
	all := make(chan struct{})
	return func() {
		if waiting.Add(1) == int64(n) {
			close(all)
		}
		select {
		case <-all:
		case <-time.After(patience): // somebody has failed before
		}
	}
}

// gate holds one request back: until it is opened, from when it has come.
type gate struct{ come, open chan struct{} }

func newGate() *gate { return &gate{make(chan struct{}), make(chan struct{})} }

func (g *gate) pause() {
	close(g.come)
	<-g.open
}
