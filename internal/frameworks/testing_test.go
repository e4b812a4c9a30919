package frameworks

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"github.com/ory/dockertest/v3"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/mongotest"
)

// The code of docs/testing.md, as an application has it.

func counter(store sessions.Store) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		visits, _ := mongostore.Value[int](session, "visits")
		session.Values["visits"] = visits + 1
		if err := session.Save(r, w); err != nil {
			http.Error(w, "Please try again.", mongostore.StatusCode(err))
			return
		}
		fmt.Fprintf(w, "visit %d", visits+1)
	}
}

func TestCounter(t *testing.T) {
	store := sessions.NewCookieStore([]byte("a signing key of thirty-two bytes"))
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()

	session, _ := store.Get(r, "session") // the handler gets this session, because the request is the same
	session.Values["visits"] = 6
	counter(store)(w, r)

	if got := w.Body.String(); got != "visit 7" {
		t.Errorf("got %q", got)
	}
}

type sessionStore interface {
	Get(r *http.Request, name string) (*sessions.Session, error)
	Renew(r *http.Request, w http.ResponseWriter, session *sessions.Session) error
	RevokeAll(ctx context.Context, owner any, except ...*sessions.Session) (int64, error)
}

var _ sessionStore = (*mongostore.Store)(nil)

// passwordChanged changes the session's ID and ends all other sessions of the user.
func passwordChanged(store sessionStore) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		err := store.Renew(r, w, session)
		if err == nil {
			_, err = store.RevokeAll(r.Context(), session.Values["user"], session)
		}
		w.WriteHeader(mongostore.StatusCode(err))
	}
}

// fakeStore keeps sessions in cookies, and remembers whose sessions were ended.
type fakeStore struct {
	*sessions.CookieStore
	revoked []any
	err     error // of Renew
}

func (f *fakeStore) Renew(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	if f.err != nil {
		return f.err
	}
	return f.Save(r, w, session)
}

func (f *fakeStore) RevokeAll(_ context.Context, owner any, _ ...*sessions.Session) (int64, error) {
	f.revoked = append(f.revoked, owner)
	return 1, nil
}

func TestPasswordChanged(t *testing.T) {
	for _, c := range []struct {
		err     error
		status  int
		revoked []any
	}{
		{nil, http.StatusOK, []any{"ada"}},
		{mongostore.ErrUnavailable, http.StatusServiceUnavailable, nil},
		{mongostore.ErrGone, http.StatusUnauthorized, nil},
	} {
		store := &fakeStore{CookieStore: sessions.NewCookieStore([]byte("a signing key of thirty-two bytes")), err: c.err}
		r, w := httptest.NewRequest(http.MethodPost, "/password", nil), httptest.NewRecorder()
		session, _ := store.Get(r, "session")
		session.Values["user"] = "ada"
		passwordChanged(store)(w, r)
		if w.Code != c.status || !slices.Equal(store.revoked, c.revoked) {
			t.Errorf("%v: status %d, sessions ended: %v", c.err, w.Code, store.revoked)
		}
	}
}

// startSite serves an application over HTTP, on a database of its own.
func startSite(t *testing.T) (site string, coll *mongo.Collection) {
	coll = mongotest.Database(t).Collection("sessions")
	store, err := mongostore.New(coll, []byte("a signing key of thirty-two bytes"))
	if err != nil {
		t.Fatal(err)
	}
	store.Options.Secure = false // the test server has no HTTPS
	server := httptest.NewServer(muxRouter(store))
	t.Cleanup(server.Close)
	return server.URL, coll
}

func TestExpiry(t *testing.T) {
	site, coll := startSite(t)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	if _, err := browser.PostForm(site+"/login", url.Values{"name": {"Ada"}}); err != nil {
		t.Fatal(err)
	}
	if page := pageOf(t, browser, site); !strings.Contains(page, "Ada") {
		t.Errorf("after the login: %q", page)
	}
	aMinuteAgo := bson.D{{Key: "$set", Value: bson.D{{Key: "expiresAt", Value: time.Now().Add(-time.Minute)}}}}
	if _, err := coll.UpdateMany(t.Context(), bson.D{}, aMinuteAgo); err != nil {
		t.Fatal(err)
	}
	if page := pageOf(t, browser, site); strings.Contains(page, "Ada") {
		t.Errorf("after the expiry: %q", page)
	}
}

func TestUnavailable(t *testing.T) {
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://127.0.0.1:1")) // nobody listens there
	if err != nil {
		t.Fatal(err)
	}
	store, err := mongostore.New(client.Database("app").Collection("sessions"), []byte("a signing key of thirty-two bytes"))
	if err != nil {
		t.Fatal(err)
	}
	id, err := store.Codecs[0].Encode("session", strings.Repeat("A", 43)) // a signed ID, as a user's cookie has
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // instead of Config.Timeout
	defer cancel()
	r, w := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil), httptest.NewRecorder()
	r.AddCookie(&http.Cookie{Name: "session", Value: id})
	muxRouter(store).ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d", w.Code)
	}
}

func startMongoDB(t *testing.T) (uri string) {
	pool, err := dockertest.NewPool("")
	if err != nil {
		t.Fatal(err)
	}
	container, err := pool.Run("mongo", "8", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pool.Purge(container) })
	return "mongodb://" + container.GetHostPort("27017/tcp")
}

// The rest is not on the page.

func pageOf(t *testing.T, browser *http.Client, site string) string {
	t.Helper()
	res, err := browser.Get(site)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestMongoDBInDocker: the container of the page serves a store.
func TestMongoDBInDocker(t *testing.T) {
	t.Parallel()
	pool, err := dockertest.NewPool("")
	if err != nil || pool.Client.Ping() != nil {
		t.Skip("needs Docker")
	}
	if _, err := pool.Client.InspectImage("mongo:8"); err != nil {
		t.Skip("needs the image: ", err)
	}
	uri := startMongoDB(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	store, err := mongostore.Open(ctx, mongostore.Config{URI: uri, Database: "app"}, signingKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(ctx); err != nil {
		t.Error(err)
	}
}

func TestTestingPageShowsTheCode(t *testing.T) {
	t.Parallel()
	sources, shown := map[string]string{"": read(t, "testing_test.go")}, 0
	for _, block := range codeBlock.FindAllStringSubmatch(read(t, "../../docs/testing.md"), -1) {
		if block[1] != "go" {
			continue
		}
		shown++
		if first, _, _ := strings.Cut(block[2], "\n"); !within(sources, block[2]) {
			t.Errorf("the block that begins with %q is not in this file", first)
		}
	}
	if shown < 5 {
		t.Errorf("%d blocks of Go", shown)
	}
}
