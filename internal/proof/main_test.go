package proof

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.uber.org/goleak"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

const name = "session"

var signingKey = []byte("a signing key of thirty-two bytes")

// testServer is the server under the tests.
type testServer struct {
	uri         string
	description string
	database    string
}

func server(t testing.TB) testServer {
	t.Helper()
	s := storetest.Server(t)
	return testServer{uri: s.URI, description: s.Description, database: s.Database}
}

func TestMain(m *testing.M) { storetest.Main(m) }

// connect returns a client that uses the dialer; nil for the usual one. It notes
// the commands in the remarks on their requests.
func connect(t testing.TB, dialer options.ContextDialer) *mongo.Client {
	t.Helper()
	opts := options.Client().ApplyURI(server(t).uri)
	opts.SetMonitor(&event.CommandMonitor{Started: func(ctx context.Context, e *event.CommandStartedEvent) {
		if said, ok := ctx.Value(remarksKey{}).(*remarks); ok {
			said.updating.Store(e.CommandName == "update")
		}
	}})
	if dialer != nil {
		opts.SetDialer(dialer)
	}
	client, err := mongo.Connect(opts)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func disconnect(t testing.TB, client *mongo.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	defer cancel()
	if err := client.Disconnect(ctx); err != nil {
		t.Error("disconnect:", err)
	}
}

// collection returns one that no other test uses.
func collection(t testing.TB, client *mongo.Client) *mongo.Collection {
	t.Helper()
	return client.Database(server(t).database).Collection(storetest.Collection("c"))
}

// stored is a session's document, as far as the tests look at it.
type stored struct {
	ID      string   `bson:"_id"`
	Values  bson.Raw `bson:"values"`
	Rev     *int64   `bson:"rev"` // nil in a tombstone
	MovedTo string   `bson:"movedTo"`
}

// documents returns what is in a collection.
func documents(t testing.TB, coll *mongo.Collection) []stored {
	t.Helper()
	var docs []stored
	cursor, err := coll.Find(t.Context(), bson.D{})
	if err == nil {
		err = cursor.All(t.Context(), &docs)
	}
	if err != nil {
		t.Error(err)
	}
	return docs
}

// noLeaks checks that nothing of what the test starts is running at its end. It is to be
// called first, by tests that are not parallel.
func noLeaks(t *testing.T) {
	t.Helper()
	server(t) // has goroutines of its own
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		t.Helper()
		var err error
		for range 20 { // each tries for half a second
			if err = goleak.Find(before); err == nil {
				return
			}
		}
		t.Error(err)
	})
}

func stacks() string {
	buf := make([]byte, 4<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// working reports whether any store has work in the background, or in the foreground, or is
// about to begin it.
func working() bool {
	now := stacks()
	return strings.Contains(now, "mongostore/mongostore.(*") || strings.Contains(now, "sync.(*WaitGroup).Go.func1")
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	storetest.Eventually(t, what, condition)
}

// keyOf returns the _id of a session's document.
func keyOf(id string) string {
	return storetest.HashOf(id)
}

// remarks are what is known of one request from outside.
type remarks struct {
	warned   atomic.Bool // by the store: it has yet to carry out a logout
	updating atomic.Bool // the last command is an update
}

type remarksKey struct{}

// newRequest returns a request with a session's cookie, or none.
func newRequest(ctx context.Context, cookie string) (*http.Request, *remarks) {
	said := &remarks{}
	r := httptest.NewRequestWithContext(context.WithValue(ctx, remarksKey{}, said), http.MethodGet, "https://example.com/", nil)
	if cookie != "" {
		r.AddCookie(&http.Cookie{Name: name, Value: cookie})
	}
	return r, said
}

// warnings is a handler of log records that notes in a request what is said about it.
type warnings struct{ unfinished atomic.Int64 }

func (*warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (w *warnings) WithAttrs([]slog.Attr) slog.Handler             { return w }
func (w *warnings) WithGroup(string) slog.Handler                  { return w }

func (w *warnings) Handle(ctx context.Context, record slog.Record) error {
	if strings.Contains(record.Message, "closed") {
		w.unfinished.Add(1)
	}
	if said, ok := ctx.Value(remarksKey{}).(*remarks); ok {
		said.warned.Store(true)
	}
	return nil
}

// respond saves a session, or renews it, and returns the value of the cookie that is set, if
// any. More than one is a failure, and so is one along with an error, except that of a renewal
// that is undecided.
func respond(t testing.TB, save func(*http.Request, http.ResponseWriter, *sessions.Session) error, r *http.Request, session *sessions.Session) (string, error) {
	t.Helper()
	w := httptest.NewRecorder()
	err := save(r, w, session)
	cookies := w.Result().Cookies()
	if len(cookies) == 0 {
		return "", err
	}
	if len(cookies) > 1 {
		t.Errorf("%d cookies were set", len(cookies))
	}
	cookie := cookies[0].Value
	if err != nil && (!errors.Is(err, mongostore.ErrUnavailable) || !isUndecided(t, cookie)) {
		t.Errorf("a cookie was set with the error %v", err)
	}
	return cookie, err
}

// isUndecided reports whether a cookie is that of a renewal of which the database has not said
// whether it has ended the old ID.
func isUndecided(t testing.TB, cookie string) bool {
	t.Helper()
	codecs := securecookie.CodecsFromPairs(signingKey)
	text := ""
	codecs[0].(*securecookie.SecureCookie).SetSerializer(plainText{})
	if err := securecookie.DecodeMulti(name, cookie, &text, codecs...); err != nil {
		t.Error(err)
	}
	return strings.Contains(text, ".")
}

// plainText is how the store has the content of a cookie signed.
type plainText struct{}

func (plainText) Serialize(src any) ([]byte, error) { return []byte(src.(string)), nil }

func (plainText) Deserialize(src []byte, dst any) error {
	*dst.(*string) = string(src)
	return nil
}

// closeStore ends a store's background work. Its wire must be sound.
func closeStore(t testing.TB, store *mongostore.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	if err := store.Close(ctx); err != nil {
		t.Error("close store:", err)
	}
}
