package frameworks

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/mongotest"
)

// The tests of mongotest's README, as an application has them.

func countVisits(store *mongostore.Store) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, sessionName) // Save returns its error
		visits, _ := session.Values["visits"].(int)
		session.Values["visits"] = visits + 1
		if err := session.Save(r, w); err != nil {
			http.Error(w, "please try again", mongostore.StatusCode(err))
			return
		}
		fmt.Fprint(w, visits+1)
	}
}

func TestVisitsAreCounted(t *testing.T) {
	sessions := mongotest.Database(t).Collection("sessions")
	store, err := mongostore.New(sessions, []byte("a signing key of thirty-two bytes"))
	if err != nil {
		t.Fatal(err)
	}
	var cookies []*http.Cookie
	for want := 1; want <= 3; want++ {
		r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
		for _, cookie := range cookies {
			r.AddCookie(cookie)
		}
		countVisits(store).ServeHTTP(w, r)
		if got := w.Body.String(); got != fmt.Sprint(want) {
			t.Errorf("visit %s, want %d", got, want)
		}
		if set := w.Result().Cookies(); len(set) > 0 { // only if the browser needs another one
			cookies = set
		}
	}
	if n, err := sessions.CountDocuments(t.Context(), bson.D{}); err != nil || n != 1 {
		t.Errorf("%d sessions (error %v), want 1", n, err)
	}
}

func TestConnectionString(t *testing.T) {
	db := mongotest.Database(t)
	store, err := mongostore.Open(t.Context(), mongostore.Config{
		URI:      mongotest.Start(t),
		Database: db.Name(),
	}, []byte("a signing key of thirty-two bytes"))
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTransaction(t *testing.T) {
	server, err := mongotest.Shared()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(server.Description, "replica set") {
		t.Skip("transactions need a replica set:", server.Description)
	}
	db := mongotest.Database(t)
	err = db.Client().UseSession(t.Context(), func(ctx context.Context) error {
		_, err := mongo.SessionFromContext(ctx).WithTransaction(ctx, func(ctx context.Context) (any, error) {
			return db.Collection("users").InsertOne(ctx, bson.D{{Key: "name", Value: "Ada"}})
		})
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestMongotestReadmeShowsTheCode(t *testing.T) {
	t.Parallel()
	sources, shown := map[string]string{"": read(t, "mongotest_test.go")}, 0
	for _, block := range codeBlock.FindAllStringSubmatch(read(t, "../../mongotest/README.md"), -1) {
		if block[1] != "go" {
			continue
		}
		shown++
		if first, _, _ := strings.Cut(block[2], "\n"); !within(sources, block[2]) {
			t.Errorf("the block that begins with %q is not in this file", first)
		}
	}
	if shown != 3 {
		t.Errorf("%d blocks of Go, want 3", shown)
	}
}
