package docs_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

const errorsPage = "docs/errors.md"

// store is that of an application, as in the README's program.
var store *mongostore.Store

func onError(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, mongostore.ErrGone):
		http.Redirect(w, r, "/login?note=ended", http.StatusSeeOther)
	case errors.Is(err, mongostore.ErrCorrupt):
		slog.Error("session ended", "error", err)
		session, _ := store.Get(r, "session")
		session.Options.MaxAge = -1
		if err := session.Save(r, w); err != nil {
			slog.Error("session not ended", "error", err)
		}
		http.Redirect(w, r, "/login?note=ended", http.StatusSeeOther)
	default: // a page that says: please try again in a moment
		slog.Error("session", "error", err)
		http.Error(w, "Please try again in a moment.", mongostore.StatusCode(err))
	}
}

func addPoint(r *http.Request, w http.ResponseWriter) error {
	for range 5 {
		session, err := store.New(r, "session")
		if err != nil {
			return err
		}
		points, _ := mongostore.Value[int](session, "points")
		session.Values["points"] = points + 1
		if err := store.Save(r, w, session); !errors.Is(err, mongostore.ErrConflict) {
			return err
		}
	}
	return mongostore.ErrConflict
}

// TestErrorsPageShowsTheCode: the code on the page is that above.
func TestErrorsPageShowsTheCode(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("docs/errors_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := blocksOf(t, errorsPage, "go")
	for _, block := range blocks {
		if !strings.Contains(string(source), "\n"+block) {
			t.Errorf("not in errors_test.go:\n%s", block)
		}
	}
	if len(blocks) != 2 {
		t.Errorf("%d blocks of Go", len(blocks))
	}
}

// TestErrorsAreListed: each error has a row on the page, with the status that StatusCode returns.
func TestErrorsAreListed(t *testing.T) {
	t.Parallel()
	listed := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(Err\\w+)`, (\\d+) \\|").FindAllStringSubmatch(page(t, errorsPage), -1) {
		listed[row[1]] = row[2]
	}
	var exported []string
	for name := range documented(t) {
		if strings.HasPrefix(name, "Err") {
			exported = append(exported, name)
		}
	}
	slices.Sort(exported)
	if names := slices.Sorted(maps.Keys(listed)); !slices.Equal(names, exported) {
		t.Errorf("listed %v, exported %v", names, exported)
	}
	for name, status := range listed {
		if want := mongostore.StatusCode(sentinels[name]); status != fmt.Sprint(want) {
			t.Errorf("%s has the status %d, listed %s", name, want, status)
		}
	}
}

// TestErrorsPageRecipes: a user whose session cannot be decoded, or has ended, gets to the login
// and is served from there; in an outage the page says so; and of ten concurrent points none is
// lost under ConflictReject.
func TestErrorsPageRecipes(t *testing.T) {
	f := storetest.Setup(t, func(c *mongostore.Config) {
		c.OnError, c.OnConflict = onError, mongostore.ConflictReject
	})
	store = f.Store
	site := store.Middleware("session")(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session, _ := store.Get(r, "session")
		if r.URL.Path == "/login" {
			session.Values["user"] = "ada"
			return
		}
		_, _ = w.Write([]byte("page"))
	}))
	jar := f.Browser()
	visit := func(path string) *httptest.ResponseRecorder {
		r, w := httptest.NewRequest(http.MethodGet, "https://example.com"+path, nil), httptest.NewRecorder()
		for name, value := range jar.Cookies {
			r.AddCookie(&http.Cookie{Name: name, Value: value})
		}
		site.ServeHTTP(w, r)
		jar.Receive(w)
		return w
	}
	visit("/login")
	f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "values", Value: "damaged"}}}})
	if w := visit("/"); w.Code != http.StatusSeeOther || len(jar.Cookies) != 0 {
		t.Errorf("with a damaged session: %d, cookies %v", w.Code, jar.Cookies)
	}
	f.WantDocuments(0)
	visit("/login")
	if w := visit("/"); w.Code != http.StatusOK {
		t.Errorf("after the login: %d", w.Code)
	}

	jar.Do(func(s *sessions.Session) { s.Values["points"] = 0 })
	var all sync.WaitGroup
	failures := make(chan error, 4)
	for range 4 {
		all.Go(func() { failures <- addPoint(jar.Request(), httptest.NewRecorder()) })
	}
	all.Wait()
	close(failures)
	stored := 0
	for err := range failures {
		switch {
		case err == nil:
			stored++
		case !errors.Is(err, mongostore.ErrConflict):
			t.Error(err)
		}
	}
	if points := jar.Load().Values["points"]; points != stored || stored == 0 {
		t.Errorf("%v points, stored %d", points, stored)
	}

	store = f.OpenWith(storetest.Soon)
	site = store.Middleware("session")(http.NotFoundHandler())
	f.Wire.RefuseAll()
	if w := visit("/"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("in an outage: %d", w.Code)
	}
	f.Wire.Heal()
	storetest.Eventually(t, "the site responds again", func() bool { return visit("/").Code == http.StatusNotFound })
}
