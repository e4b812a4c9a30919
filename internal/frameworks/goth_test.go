package frameworks

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	gorilla "github.com/gorilla/sessions"
	"github.com/markbates/goth"
	"github.com/markbates/goth/gothic"
	"github.com/markbates/goth/providers/faux"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
)

// The store of gothic is a global variable, so this is one test, and none of its parts is
// parallel.
func TestGoth(t *testing.T) {
	goth.UseProviders(&faux.Provider{})
	t.Cleanup(goth.ClearProviders)

	for _, tt := range []struct {
		name string
		run  func(*testing.T, *gothSite)
	}{
		{"sign in and out", gothVisit},
		{"callbacks nobody asked for", gothForgery},
		{"an attempt that is given up", gothAbandoned},
		{"outage", gothOutage},
		{"logout", gothLogout},
		{"long values", gothLongValue},
		{"posts from another site", gothFormPosts},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, openGoth(t)) })
	}
}

// gothSite is the application of chi with a sign-in by goth's provider for tests.
type gothSite struct {
	*fixture
	attempts *mongostore.Store
	server   *httptest.Server
}

func openGoth(t *testing.T) *gothSite {
	t.Helper()
	f := setup(t)
	attempts, err := mongostore.New(f.coll, signingKey)
	if err != nil {
		t.Fatal(err)
	}
	attempts.MaxAge(10 * 60)
	f.closeAtEnd(attempts)
	r := chiRouter(f.store)
	withGoth(r, f.store, attempts)
	return &gothSite{f, attempts, serve(t, r)}
}

// begin sends a browser to the provider, and returns the address of the callback.
func begin(t *testing.T, b *browser) string {
	t.Helper()
	answer := b.get("/auth/faux").wants(http.StatusTemporaryRedirect)
	target, err := url.Parse(answer.header.Get("Location"))
	if err != nil || target.Host != "example.com" || target.Query().Get("state") == "" {
		t.Fatalf("the provider is at %q (error %v)", answer.header.Get("Location"), err)
	}
	if answer.cookie(gothic.SessionName) == nil {
		t.Error("goth's session has no cookie")
	}
	return "/auth/faux/callback?state=" + url.QueryEscape(target.Query().Get("state"))
}

func gothVisit(t *testing.T, site *gothSite) {
	b := newBrowser(t, site.server)
	callback := begin(t, b)
	site.wantDocuments(1)
	attempt := b.cookie(gothic.SessionName)

	b.get(callback).wants(http.StatusSeeOther)
	b.signedIn("id")
	if b.cookie(gothic.SessionName) != "" {
		t.Error("goth's own session keeps its cookie")
	}
	if name := site.wantDocuments(1)[0].Lookup("name").StringValue(); name != sessionName {
		t.Errorf("the session that is left is %q", name)
	}

	// Who has a copy of everything cannot sign in once more.
	thief := newBrowser(t, site.server)
	thief.setCookie(gothic.SessionName, attempt)
	thief.get(callback).wants(http.StatusForbidden)
	thief.signedOut()

	copied := b.copied()
	copied.signedIn("id")
	b.post("/logout").wants(http.StatusSeeOther)
	b.signedOut()
	copied.signedOut()
	site.wantDocuments(0)
}

func gothForgery(t *testing.T, site *gothSite) {
	stranger := newBrowser(t, site.server)
	callback := begin(t, newBrowser(t, site.server))
	stranger.get(callback).wants(http.StatusForbidden) // another browser's
	begin(t, stranger)
	stranger.get(callback).wants(http.StatusForbidden) // another browser's state
	stranger.signedOut()
}

func gothAbandoned(t *testing.T, site *gothSite) {
	begin(t, newBrowser(t, site.server))
	expires := site.wantDocuments(1)[0].Lookup("expiresAt").Time()
	if left := time.Until(expires); left > 10*time.Minute || left < 5*time.Minute {
		t.Errorf("an attempt is kept for %s", left)
	}
}

func gothOutage(t *testing.T, site *gothSite) {
	b := newBrowser(t, site.server)
	callback := begin(t, b)
	down := site.outage()
	r := chiRouter(down)
	withGoth(r, down, down)
	server := serve(t, r)
	for _, path := range []string{"/auth/faux", callback} {
		for _, visitor := range []*browser{b.at(server), newBrowser(t, server)} {
			answer := visitor.get(path)
			want := http.StatusServiceUnavailable
			if path == callback && visitor.client != b.client {
				want = http.StatusForbidden // without a cookie there is nothing to ask for
			}
			if answer.wants(want); answer.cookie(sessionName) != nil {
				t.Errorf("%s sets a cookie", path)
			}
		}
	}
	// As goth's own handler would have it.
	r.Get("/begin/{provider}", gothic.BeginAuthHandler)
	newBrowser(t, server).get("/begin/faux").wants(http.StatusBadRequest, "server selection error")

	gothic.Store = site.attempts // the database is back
	b.get(callback).wants(http.StatusSeeOther)
	b.signedIn("id")
}

// Logout of goth ends goth's session, and that one only.
func gothLogout(t *testing.T, site *gothSite) {
	r := chiRouter(site.store)
	withGoth(r, site.store, site.attempts)
	r.Post("/goth/logout", func(w http.ResponseWriter, r *http.Request) {
		if err := gothic.Logout(w, r); err != nil {
			http.Error(w, "please try again", mongostore.StatusCode(err))
		}
	})
	b := newBrowser(t, serve(t, r))
	b.get(begin(t, b)).wants(http.StatusSeeOther)
	callback := begin(t, b)
	site.wantDocuments(2)
	answer := b.post("/goth/logout").wants(200)
	if c := answer.cookie(gothic.SessionName); c == nil || c.MaxAge >= 0 {
		t.Errorf("the logout sets %v", c)
	}
	site.wantDocuments(1)
	b.get(callback).wants(http.StatusForbidden)
	b.signedIn("id")
}

// goth packs what the provider told it, and keeps it as a string that is none. What would be
// too much for a cookie finds room.
func gothLongValue(t *testing.T, site *gothSite) {
	noise := make([]byte, 32<<10)
	_, _ = rand.Read(noise)
	token := base64.StdEncoding.EncodeToString(noise)
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	if err := gothic.StoreInSession("faux", token, r, w); err != nil {
		t.Fatal(err)
	}
	if size := len(site.wantDocuments(1)[0]); size < len(noise) {
		t.Errorf("the document has %d bytes", size)
	}
	gothic.Store = gorilla.NewCookieStore(signingKey)
	if err := gothic.StoreInSession("faux", token, r, httptest.NewRecorder()); err == nil {
		t.Error("a CookieStore takes as much")
	}
	gothic.Store = site.attempts
	again := httptest.NewRequest(http.MethodGet, "/", nil)
	for _, c := range w.Result().Cookies() {
		again.AddCookie(c)
	}
	if got, err := gothic.GetFromSession("faux", again); err != nil || got != token {
		t.Errorf("%d bytes come back, %d were stored (error %v)", len(got), len(token), err)
	}
	count, err := site.coll.CountDocuments(t.Context(), bson.D{{Key: "values.faux", Value: bson.D{{Key: "$exists", Value: true}}}})
	if err != nil || count != 1 {
		t.Errorf("%d sessions have the provider's name as a key (error %v)", count, err)
	}
}

// gothFormPosts: a browser sends the cookie of goth's session with a POST of the provider's site,
// and no other.
func gothFormPosts(t *testing.T, site *gothSite) {
	acceptFormPosts(site.attempts)
	b := newBrowser(t, site.server)
	response := b.get("/auth/faux").wants(http.StatusTemporaryRedirect)
	if c := response.cookie(gothic.SessionName); c == nil || c.SameSite != http.SameSiteNoneMode || !c.Secure {
		t.Errorf("goth's cookie is %v", c)
	}
	if c := b.post("/login", "name", "Ada").cookie(sessionName); c == nil || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("the session's cookie is %v", c)
	}
}
