package frameworks

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	ginsessions "github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"
	session4 "github.com/labstack/echo-contrib/session"
	"github.com/labstack/echo-contrib/v5/session"
	echo4 "github.com/labstack/echo/v4"
	"github.com/labstack/echo/v5"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/ginstore"
)

// The applications of docs/frameworks.md. To each is added, behind its middleware, a POST /set,
// which loads the session in the framework's way, pauses, and sets a key.
var applications = []struct {
	name string
	open func(*mongostore.Store, pause) http.Handler
}{
	{"mux", func(store *mongostore.Store, p pause) http.Handler {
		r := muxRouter(store)
		r.Handle("/set", store.Middleware(sessionName)(set(store, p))).Methods(http.MethodPost)
		return r
	}},
	{"chi", func(store *mongostore.Store, p pause) http.Handler {
		r := chiRouter(store)
		r.With(store.Middleware(sessionName)).Post("/set", set(store, p))
		return r
	}},
	{"gin", func(store *mongostore.Store, p pause) http.Handler {
		r := ginEngine(store)
		r.POST("/set", ginstore.New(store).Middleware(sessionName), func(c *gin.Context) {
			s := ginsessions.Default(c)
			_ = s.Get("user")
			p()
			s.Set(c.PostForm("key"), true)
		})
		return r
	}},
	{"echo", func(store *mongostore.Store, p pause) http.Handler {
		e := echoServer(store)
		e.POST("/set", func(c *echo.Context) error {
			s, err := session.Get(sessionName, c)
			if err != nil {
				return err
			}
			p()
			s.Values[c.FormValue("key")] = true
			return c.NoContent(http.StatusOK)
		}, echo.WrapMiddleware(store.Middleware(sessionName)))
		return e
	}},
	{"echo v4", func(store *mongostore.Store, p pause) http.Handler {
		e := echo4Server(store)
		e.POST("/set", func(c echo4.Context) error {
			s, err := session4.Get(sessionName, c)
			if err != nil {
				return err
			}
			p()
			s.Values[c.FormValue("key")] = true
			return c.NoContent(http.StatusOK)
		}, echo4.WrapMiddleware(store.Middleware(sessionName)))
		return e
	}},
}

// set leaves the save to the middleware.
func set(store *mongostore.Store, p pause) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, _ := store.Get(r, sessionName)
		p()
		s.Values[r.PostFormValue("key")] = true
	}
}

// inEach runs a test in each framework.
func inEach(t *testing.T, f func(*testing.T, func(*mongostore.Store, pause) http.Handler)) {
	t.Helper()
	t.Parallel()
	for _, app := range applications {
		t.Run(app.name, func(t *testing.T) {
			t.Parallel()
			f(t, app.open)
		})
	}
}

func noPause() {}

// Somebody looks around, signs in, comes back, and signs out.
func TestVisit(t *testing.T) {
	inEach(t, func(t *testing.T, open func(*mongostore.Store, pause) http.Handler) {
		f := setup(t)
		b := newBrowser(t, serve(t, open(f.store, noPause)))
		if looking := b.get("/").wants(200, "Please sign in"); looking.cookie(sessionName) != nil {
			t.Error("looking around sets a cookie")
		}
		f.wantDocuments(0)

		login := b.post("/login", "name", "Ada").wants(http.StatusSeeOther)
		c := login.cookie(sessionName)
		if c == nil {
			t.Fatal("the login sets no cookie")
		}
		if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.MaxAge != 30*24*60*60 {
			t.Errorf("the login sets the cookie %s", c.Raw)
		}
		if user := f.wantDocuments(1)[0].Lookup("values", "user").StringValue(); user != "Ada" {
			t.Errorf("the database has the user %q", user)
		}

		f.commands.take()
		b.signedIn("Ada")
		b.signedIn("Ada")
		if sent := f.commands.take(); !slices.Equal(sent, []string{"find", "find"}) {
			t.Errorf("two pages sent %q", sent)
		}
		b.post("/set", "key", "theme").wants(200)
		if sent := f.commands.take(); !slices.Equal(sent, []string{"find", "update"}) {
			t.Errorf("a change sent %q", sent)
		}
		b.signedIn("Ada")

		thief := b.copied()
		thief.signedIn("Ada")
		out := b.post("/logout").wants(http.StatusSeeOther)
		if c := out.cookie(sessionName); c == nil || c.MaxAge >= 0 {
			t.Errorf("the cookie does not expire: %v", c)
		}
		if left := b.cookie(sessionName); left != "" {
			t.Error("the browser keeps the cookie")
		}
		f.wantDocuments(0)
		b.signedOut()
		thief.signedOut()
		thief.post("/set", "key", "again")
		if user, err := f.wantDocuments(1)[0].LookupErr("values", "user"); err == nil {
			t.Errorf("the copied cookie makes a session of the user %s", user)
		}
		// That one is new: the ID that came from outside was not adopted.
		b.setCookie(sessionName, thief.cookie(sessionName))
		b.signedOut()
	})
}

// What was begun before the login goes on after it, under another ID.
func TestLoginRenews(t *testing.T) {
	inEach(t, func(t *testing.T, open func(*mongostore.Store, pause) http.Handler) {
		f := setup(t)
		b := newBrowser(t, serve(t, open(f.store, noPause)))
		b.post("/set", "key", "cart").wants(200)
		planted := b.copied()
		b.login("Ada")
		b.signedIn("Ada")
		planted.signedOut()
		if keys := f.keys(); !slices.Equal(keys, []string{"cart", "user"}) {
			t.Errorf("the session has the values %q", keys)
		}
	})
}

// Requests that all loaded the session before the first of them saved it lose nothing.
func TestParallelRequests(t *testing.T) {
	inEach(t, func(t *testing.T, open func(*mongostore.Store, pause) http.Handler) {
		const n = 12
		f := setup(t)
		b := newBrowser(t, serve(t, open(f.store, barrier(n))))
		b.login("Ada")
		var want []string
		var requests sync.WaitGroup
		for i := range n {
			key := fmt.Sprintf("key%02d", i)
			want = append(want, key)
			requests.Go(func() { b.post("/set", "key", key).wants(200) })
		}
		requests.Wait()
		if keys := f.keys(); !slices.Equal(keys, append(want, "user")) {
			t.Errorf("the session has the values %q", keys)
		}
		b.signedIn("Ada")
	})
}

// A request that was under way during the logout does not bring the session back.
func TestLateRequest(t *testing.T) {
	inEach(t, func(t *testing.T, open func(*mongostore.Store, pause) http.Handler) {
		f := setup(t)
		g := newGate()
		b := newBrowser(t, serve(t, open(f.store, g.pause)))
		b.login("Ada")
		thief := b.copied()
		late := make(chan response, 1)
		go func() { late <- b.post("/set", "key", "late") }()
		<-g.come
		b.post("/logout").wants(http.StatusSeeOther)
		close(g.open)
		if answer := (<-late).wants(http.StatusUnauthorized); answer.cookie(sessionName) != nil {
			t.Errorf("the late request sets the cookie %s", answer.cookie(sessionName).Raw)
		}
		f.wantDocuments(0)
		b.signedOut()
		thief.signedOut()
	})
}

// An outage signs nobody out, except those who sign out.
func TestOutage(t *testing.T) {
	inEach(t, func(t *testing.T, open func(*mongostore.Store, pause) http.Handler) {
		f := setup(t)
		up, down := serve(t, open(f.store, noPause)), serve(t, open(f.outage(), noPause))
		b := newBrowser(t, up)
		b.login("Ada")
		thief := b.copied()

		at := b.at(down)
		for _, answer := range []response{at.get("/"), at.post("/set", "key", "k"), at.post("/login", "name", "Eve")} {
			if answer.wants(http.StatusServiceUnavailable); len(answer.cookies) > 0 {
				t.Errorf("an answer during the outage sets %v", answer.cookies)
			}
		}
		b.signedIn("Ada")

		newBrowser(t, down).signedOut() // nothing is asked of the database
		out := at.post("/logout").wants(http.StatusSeeOther)
		if c := out.cookie(sessionName); c == nil || c.MaxAge >= 0 {
			t.Errorf("the logout during the outage sets %v", c)
		}
		thief.at(down).signedOut() // this process knows already
		b.signedOut()
	})
}

// A cookie that is not the store's is no obstacle.
func TestForeignCookie(t *testing.T) {
	inEach(t, func(t *testing.T, open func(*mongostore.Store, pause) http.Handler) {
		f := setup(t)
		b := newBrowser(t, serve(t, open(f.store, noPause)))
		b.setCookie(sessionName, "forged")
		b.signedOut()
		b.post("/logout").wants(http.StatusSeeOther)
		b.setCookie(sessionName, "forged")
		b.login("Ada")
		b.signedIn("Ada")
	})
}

// A session that is read only lives on.
func TestReadingKeepsAlive(t *testing.T) {
	inEach(t, func(t *testing.T, open func(*mongostore.Store, pause) http.Handler) {
		f := setup(t)
		b := newBrowser(t, serve(t, open(f.store, noPause)))
		b.login("Ada")
		soon := time.Now().Add(time.Hour)
		_, err := f.coll.UpdateMany(t.Context(), bson.D{}, bson.D{{Key: "$set", Value: bson.D{
			{Key: "seenAt", Value: soon.Add(-30 * 24 * time.Hour)},
			{Key: "expiresAt", Value: soon},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		read := b.get("/").wants(200, "Ada")
		if expires := f.wantDocuments(1)[0].Lookup("expiresAt").Time(); time.Until(expires) < 29*24*time.Hour {
			t.Errorf("after a visit the session expires at %s", expires)
		}
		if c := read.cookie(sessionName); c == nil || c.MaxAge < 29*24*60*60 {
			t.Errorf("the visit sets the cookie %v", c)
		}
	})
}
