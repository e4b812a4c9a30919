package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/mongotest/embedded"
)

// patience is how long a test waits for something that should come soon.
const patience = time.Minute

// testURI leads to the embedded server of the tests that do not stop theirs.
var testURI string

// mainVariable makes of this test binary the program itself: see start.
const mainVariable = "EXAMPLE_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
		return
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	server, err := embedded.Start(context.Background(), embedded.Config{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	testURI = server.URI()
	code := m.Run()
	if err := server.Close(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// site is a running shop with a database of its own.
type site struct {
	url    string
	store  *mongostore.Store
	db     *database
	packer *packer
	shop   *shop
	log    *lockedBuffer
}

var databases atomic.Int64

var cookieKey = bytes.Repeat([]byte("k"), 32)

// newSite opens a shop on the server of the URI, which seals its sessions if there are
// keys to do so.
func newSite(t *testing.T, uri string, sealKeys ...[]byte) *site {
	t.Helper()
	db := newDatabase(t, uri)
	db.sealKeys = sealKeys
	return openSite(t, db, config{})
}

func newDatabase(t *testing.T, uri string) *database {
	t.Helper()
	client, err := connect(uri)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = closing(context.Background(), client.Disconnect) })
	name := fmt.Sprintf("test%d", databases.Add(1))
	return &database{client: client, name: name, address: "mongodb://db.example/test", sweep: true}
}

// openSite opens a shop on a database that others may be open on.
func openSite(t *testing.T, db *database, cfg config) *site {
	t.Helper()
	log := &lockedBuffer{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	shop, err := openShop(t.Context(), cfg, db, logger, cookieKey)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := closing(context.Background(), shop.close); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the shop's log:\n%s", log)
		}
	})
	server := httptest.NewServer(shop.handler())
	t.Cleanup(server.Close)
	return &site{url: server.URL, store: shop.store, db: db, packer: shop.packer, shop: shop, log: log}
}

// documents returns the collection of the sessions.
func (s *site) documents(t *testing.T) *mongo.Collection {
	t.Helper()
	return s.db.client.Database(s.db.name).Collection("sessions")
}

// browser is one visitor's.
type browser struct {
	t      *testing.T
	base   string
	agent  string // what it says it is
	client *http.Client
}

func newBrowser(t *testing.T, base string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t: t, base: base, agent: "Go-http-client/1.1", client: &http.Client{
		Jar:           jar,
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// response is what has come back, redirects not followed.
type response struct {
	status    int
	header    http.Header
	body      string
	setCookie *http.Cookie // nil if there is none
}

func (b *browser) get(path string) response {
	b.t.Helper()
	return b.do(http.MethodGet, path, nil, nil)
}

// post sends a form. The fields are names and values in turn.
func (b *browser) post(path string, fields ...string) response {
	b.t.Helper()
	return b.do(http.MethodPost, path, http.Header{"Content-Type": {formType}}, form(fields...))
}

const formType = "application/x-www-form-urlencoded"

func form(fields ...string) io.Reader {
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return strings.NewReader(form.Encode())
}

// do may be called by other goroutines than the test's.
func (b *browser) do(method, path string, header http.Header, body io.Reader) response {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.base+path, body)
	if err != nil {
		b.t.Error(err)
		return response{}
	}
	r.Header.Set("User-Agent", b.agent)
	maps.Copy(r.Header, header)
	answer, err := b.client.Do(r)
	if err != nil {
		b.t.Error(err)
		return response{}
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		b.t.Error(err)
	}
	got := response{status: answer.StatusCode, header: answer.Header, body: string(text)}
	for _, cookie := range answer.Cookies() {
		if got.setCookie != nil {
			b.t.Errorf("%s %s sets more than one cookie: %q", method, path, answer.Header["Set-Cookie"])
		}
		got.setCookie = cookie
	}
	return got
}

// cookie returns the header by which another browser can pass for this one.
func (b *browser) cookie() string {
	b.t.Helper()
	base, err := url.Parse(b.base)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, cookie := range b.client.Jar.Cookies(base) {
		if cookie.Name == sessionName {
			return cookie.Name + "=" + cookie.Value
		}
	}
	return ""
}

// replay asks for the home page with a cookie that somebody has kept.
func (b *browser) replay(cookie string) response {
	b.t.Helper()
	return newBrowser(b.t, b.base).do(http.MethodGet, "/", http.Header{"Cookie": {cookie}}, nil)
}

func (b *browser) login(name string) {
	b.t.Helper()
	b.post("/login", "name", name).redirectsTo(b.t, "/")
}

func (r response) redirectsTo(t *testing.T, target string) {
	t.Helper()
	if location := r.header.Get("Location"); r.status != http.StatusSeeOther || location != target {
		t.Errorf("status %d and location %q, want 303 and %q\n%s", r.status, location, target, r.body)
	}
}

func (r response) takesCookie(t *testing.T) {
	t.Helper()
	if r.setCookie == nil || r.setCookie.MaxAge >= 0 {
		t.Errorf("the cookie does not expire: %v", r.setCookie)
	}
}

// shows checks the status and what is, or after a "!" is not, on the page.
func (r response) shows(t *testing.T, status int, texts ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, want %d", r.status, status)
	}
	for _, text := range texts {
		text, unwanted := strings.CutPrefix(text, "!")
		if strings.Contains(r.body, text) == unwanted {
			t.Errorf("page with %q: %t\n%s", text, unwanted, r.body)
		}
	}
}

const (
	helloAda = "<span>Hello, </span><strong>Ada</strong>"
	noHello  = "!Hello, "
)

func packs(tea string, n int) string {
	return fmt.Sprintf(`<input id="quantity-%s" name="quantity" type="number" inputmode="numeric" min="0" max="99" value="%d"`, tea, n)
}

func TestLookingAroundLeavesNothing(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	b := newBrowser(t, site.url)
	for _, path := range []string{"/", "/login", "/nowhere", "/static/style.css"} {
		if got := b.get(path); got.setCookie != nil {
			t.Errorf("%s sets a cookie", path)
		}
	}
	site.wantSessions(t, 0)
}

func TestLogin(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, newSite(t, testURI).url)
	b.get("/").shows(t, 200, noHello, `href="/login"`)
	b.post("/login", "name", "  Ada ").redirectsTo(t, "/")
	b.get("/").shows(t, 200, helloAda, `<p class="flash" role="status">Welcome, Ada.</p>`)
	b.get("/").shows(t, 200, helloAda, "!Welcome, Ada.")
	b.get("/login").redirectsTo(t, "/")
}

func TestLoginRefusesNames(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, newSite(t, testURI).url)
	for _, name := range []string{"", "  ", strings.Repeat("x", maxName+1), "a\x00b", "\xff"} {
		got := b.post("/login", "name", name, "remember", "yes")
		got.shows(t, http.StatusUnprocessableEntity, `role="alert"`, `aria-invalid="true"`, " checked")
		if got.setCookie != nil {
			t.Errorf("name %q sets a cookie", name)
		}
	}
	name := strings.Repeat("ä", maxName)
	b.login(name)
	b.get("/").shows(t, 200, name)
}

func TestNameIsEscaped(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, newSite(t, testURI).url)
	b.login(`<b>"Bob"</b>`)
	b.get("/").shows(t, 200, "Hello, </span><strong>&lt;b&gt;", "!<b>", `{owner: &#34;&lt;b&gt;\&#34;Bob`)
}

func TestLoginStartsAfresh(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, newSite(t, testURI).url)
	b.login("Eve")
	b.post("/cart/assam/add")
	before := b.cookie()
	b.login("Ada")
	if after := b.cookie(); after == before || after == "" {
		t.Errorf("cookie %q after the login, %q before", after, before)
	}
	b.get("/").shows(t, 200, helloAda, "!Eve", "Your cart is empty")
	b.replay(before).redirectsTo(t, "/login?note=ended")
}

// A session that somebody has planted in the visitor's browser.
func TestLoginRenewsSession(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	w := httptest.NewRecorder()
	session, err := site.store.New(r, sessionName)
	if err != nil {
		t.Fatal(err)
	}
	session.Values["planted"] = true
	if err := site.store.Save(r, w, session); err != nil {
		t.Fatal(err)
	}
	planted, _, _ := strings.Cut(w.Header().Get("Set-Cookie"), ";")

	b := newBrowser(t, site.url)
	b.replay(planted).shows(t, 200, noHello)
	header := http.Header{"Cookie": {planted}, "Content-Type": {formType}}
	b.do(http.MethodPost, "/login", header, form("name", "Ada")).redirectsTo(t, "/")
	b.get("/").shows(t, 200, helloAda)
	if b.cookie() == planted {
		t.Error("the login keeps the session's ID")
	}
	b.replay(planted).redirectsTo(t, "/login?note=ended")
	site.wantSessions(t, 1)
}

func TestRememberMe(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	for _, tt := range []struct {
		name     string
		remember bool
		maxAge   int
		text     string
	}{
		{"yes", true, 2592000, "Yes, for 30 days"},
		{"no", false, 0, "No, it ends with the browser"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBrowser(t, site.url)
			fields := []string{"name", "Ada"}
			if tt.remember {
				fields = append(fields, "remember", "yes")
			}
			login := b.post("/login", fields...)
			site.set(t, bson.D{{Key: "$set", Value: bson.D{{Key: "seenAt", Value: time.Now().Add(-time.Hour)}}}})
			page := b.get("/") // the session keeps what the login has said
			page.shows(t, 200, helloAda, tt.text)
			for i, cookie := range []*http.Cookie{login.setCookie, page.setCookie} {
				switch {
				case cookie == nil:
					t.Fatalf("response %d sets no cookie", i)
				case cookie.MaxAge != tt.maxAge || cookie.Expires.IsZero() == tt.remember:
					t.Errorf("response %d: %s", i, cookie.Raw)
				case !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Secure:
					t.Errorf("response %d: %s", i, cookie.Raw)
				}
			}
		})
	}
}

func TestSecureFlag(t *testing.T) {
	t.Parallel()
	site := openSite(t, newDatabase(t, testURI), config{secure: true})
	login := newBrowser(t, site.url).post("/login", "name", "Ada")
	if cookie := login.setCookie; cookie == nil || !cookie.Secure {
		t.Errorf("the cookie is not Secure: %v", cookie)
	}
}

// Visitors who come with a cookie from the time when it held the whole session.
func TestMigration(t *testing.T) {
	t.Parallel()
	db := newDatabase(t, testURI)
	site := openSite(t, db, config{migrate: true})
	oldCookie := func(user string) http.Header {
		t.Helper()
		r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
		old := sessions.NewSession(sessions.NewCookieStore(cookieKey), sessionName)
		old.Options = &sessions.Options{Path: "/", MaxAge: rememberMe}
		old.Values[keyUser] = user
		old.Values[cartPrefix+"assam"] = Line{Quantity: 2, Added: time.Now()}
		if err := old.Save(r, w); err != nil {
			t.Fatal(err)
		}
		cookie, _, _ := strings.Cut(w.Header().Get("Set-Cookie"), ";")
		return http.Header{"Cookie": {cookie}}
	}

	header := oldCookie("Ada")
	b := newBrowser(t, site.url)
	b.do(http.MethodGet, "/", header, nil).shows(t, 200, helloAda, packs("assam", 2))
	if cookie := b.cookie(); cookie == "" || cookie == header.Get("Cookie") {
		t.Errorf("the cookie afterwards is %q", cookie)
	}
	b.get("/").shows(t, 200, helloAda, packs("assam", 2))
	site.wantSessions(t, 1)

	// A visitor's first request can be any; the list of devices finds its session.
	bob := newBrowser(t, site.url)
	bob.do(http.MethodGet, "/devices", oldCookie("Bob"), nil).shows(t, 200, "<strong>Bob</strong>", "This device")
	eve := newBrowser(t, site.url)
	eve.do(http.MethodPost, "/cart/assam/add", oldCookie("Eve"), nil).redirectsTo(t, "/")
	eve.get("/").shows(t, 200, "<strong>Eve</strong>", packs("assam", 3))
	newBrowser(t, site.url).do(http.MethodPost, "/logout", oldCookie("Mallory"), nil).takesCookie(t)
	site.wantSessions(t, 3)

	// A logout ends copies of the old cookie too.
	b.post("/logout").redirectsTo(t, "/?note=out")
	b.replay(header.Get("Cookie")).redirectsTo(t, "/login?note=ended")

	// Without the flag the old cookies are worth nothing, and the new ones work.
	site = openSite(t, db, config{})
	newBrowser(t, site.url).do(http.MethodGet, "/", oldCookie("Ada"), nil).redirectsTo(t, "/login?note=ended")
	newBrowser(t, site.url).replay(eve.cookie()).shows(t, 200, "<strong>Eve</strong>", packs("assam", 3))
}

func TestCart(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, newSite(t, testURI).url)
	b.login("Ada")
	b.post("/cart/sencha/add").redirectsTo(t, "/")
	b.get("/").shows(t, 200, packs("sencha", 1), "Sencha is in your cart.", "<strong>€7.80</strong>")
	b.post("/cart/sencha/add")
	b.post("/cart/assam/add")
	b.get("/").shows(t, 200, packs("sencha", 2), packs("assam", 1), "<strong>€21.50</strong>")
	b.post("/cart/sencha/quantity", "quantity", " 12 ").redirectsTo(t, "/")
	b.get("/").shows(t, 200, packs("sencha", 12), "There are now 12 × Sencha in your cart.")
	for _, quantity := range []string{"", "x", "-1", "100", "1e3", "99999999999999999999"} {
		b.post("/cart/sencha/quantity", "quantity", quantity).redirectsTo(t, "/")
		b.get("/").shows(t, 200, packs("sencha", 12), "Please choose a quantity from 0 to 99.")
	}
	b.post("/cart/sencha/quantity", "quantity", "99")
	b.post("/cart/sencha/add")
	b.get("/").shows(t, 200, packs("sencha", 99), "There are already 99 × Sencha in your cart.")
	b.post("/cart/sencha/remove").redirectsTo(t, "/")
	b.post("/cart/assam/quantity", "quantity", "0")
	b.get("/").shows(t, 200, "Your cart is empty.", "Sencha is no longer in your cart.")
	b.post("/cart/coffee/add").shows(t, 404, "There is no such page")
}

func TestCartNeedsLogin(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, newSite(t, testURI).url)
	b.post("/cart/sencha/add").redirectsTo(t, "/login?note=first")
	b.get("/login?note=first").shows(t, 200, `role="status">Please sign in first.`)
	b.get("/login?note=%3Cb%3E").shows(t, 200, "!role=\"status\"")
}

func TestLogout(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	one, two := newBrowser(t, site.url), newBrowser(t, site.url)
	one.login("Ada")
	two.login("Ada")
	old := one.cookie()
	one.replay(old).shows(t, 200, helloAda)

	out := one.post("/logout")
	out.redirectsTo(t, "/?note=out")
	out.takesCookie(t)
	one.get("/?note=out").shows(t, 200, noHello, "You are signed out.")
	one.replay(old).redirectsTo(t, "/login?note=ended")
	two.get("/").shows(t, 200, helloAda)

	// A page that was open all the time, in a browser that kept the cookie.
	header := http.Header{"Cookie": {old}}
	one.do(http.MethodPost, "/cart/assam/add", header, nil).redirectsTo(t, "/login?note=ended")
	one.post("/logout").redirectsTo(t, "/?note=out") // the button, pressed twice
}

// interrupted posts a form and calls f while the request is under way: its session is
// loaded, and the form not read yet. A server asks for the body of a request with
// "Expect: 100-continue" when a handler reads it, and not before.
func (b *browser) interrupted(f func(), path string, fields ...string) response {
	b.t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ExpectContinueTimeout = patience
	defer transport.CloseIdleConnections()
	patient := *b
	patient.client = &http.Client{Transport: transport, Jar: b.client.Jar, Timeout: patience, CheckRedirect: b.client.CheckRedirect}

	body := io.MultiReader(readerFunc(func([]byte) (int, error) { f(); return 0, io.EOF }), form(fields...))
	header := http.Header{"Content-Type": {formType}, "Expect": {"100-continue"}}
	return patient.do(http.MethodPost, path, header, body)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestLogoutWhileRequestIsUnderWay(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	b := newBrowser(t, site.url)
	b.login("Ada")
	cookie := http.Header{"Cookie": {b.cookie()}}
	logout := func() { newBrowser(t, site.url).do(http.MethodPost, "/logout", cookie, nil) }

	late := b.interrupted(logout, "/cart/assam/quantity", "quantity", "5")
	late.redirectsTo(t, "/login?note=ended")
	if late.setCookie != nil {
		t.Errorf("the late request sets a cookie: %v", late.setCookie)
	}
	if n, err := site.store.Count(t.Context()); err != nil || n != 0 {
		t.Errorf("%d sessions (error %v)", n, err)
	}
	b.get("/login?note=ended").shows(t, 200, "You were signed out", `name="remember"`)
	b.get("/").shows(t, 200, noHello)
	b.login("Ada")
	b.get("/").shows(t, 200, helloAda, "Your cart is empty")
}

func TestConcurrentRequestsLoseNothing(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, newSite(t, testURI).url)
	b.login("Ada")
	cookie := http.Header{"Cookie": {b.cookie()}}
	var wg sync.WaitGroup
	for _, tea := range teas {
		wg.Go(func() {
			newBrowser(t, b.base).do(http.MethodPost, "/cart/"+tea.ID+"/add", cookie, nil).redirectsTo(t, "/")
		})
	}
	wg.Wait()
	page := b.get("/")
	for _, tea := range teas {
		page.shows(t, 200, packs(tea.ID, 1))
	}
}

// Windows that change the same at once: what one of them overtakes it does again.
func TestSameTeaAddedAtOnce(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, newSite(t, testURI).url)
	b.login("Ada")
	b.get("/").shows(t, 200)
	cookie := http.Header{"Cookie": {b.cookie()}}
	const windows = maxAttempts / 2 // each of which adds and looks
	var wg sync.WaitGroup
	for range windows {
		wg.Go(func() {
			newBrowser(t, b.base).do(http.MethodPost, "/cart/assam/add", cookie, nil).redirectsTo(t, "/")
		})
		wg.Go(func() {
			newBrowser(t, b.base).do(http.MethodGet, "/", cookie, nil).shows(t, 200, helloAda)
		})
	}
	wg.Wait()
	b.get("/").shows(t, 200, packs("assam", windows))
}

// However often a request is overtaken, it comes to an end.
func TestChangeGivesUp(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	b := newBrowser(t, site.url)
	b.login("Ada")
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Cookie", b.cookie())
	attempts := 0
	_, err := site.shop.change(httptest.NewRecorder(), r, func(session *sessions.Session) {
		attempts++
		b.post("/cart/assam/add").redirectsTo(t, "/")
		line, _ := session.Values[cartPrefix+"assam"].(Line)
		if line.Quantity != attempts-1 {
			t.Errorf("attempt %d sees a quantity of %d", attempts, line.Quantity)
		}
		session.Values[cartPrefix+"assam"] = Line{Quantity: maxQuantity}
	})
	if !errors.Is(err, mongostore.ErrConflict) || attempts != maxAttempts {
		t.Errorf("error %v after %d attempts, want %v after %d", err, attempts, mongostore.ErrConflict, maxAttempts)
	}
	b.get("/").shows(t, 200, packs("assam", maxAttempts))

	_, err = site.shop.change(httptest.NewRecorder(), r, func(session *sessions.Session) {
		b.post("/logout")
		session.Values["change"] = true
	})
	if !errors.Is(err, mongostore.ErrGone) {
		t.Errorf("error %v after a logout, want %v", err, mongostore.ErrGone)
	}
}

func TestConflictAnswer(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	w := httptest.NewRecorder()
	site.shop.fail(w, httptest.NewRequest(http.MethodPost, "/", nil), mongostore.ErrConflict)
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "try it again") {
		t.Errorf("status %d, Retry-After %q\n%s", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
}

// A page that is read changes nothing in the database. A message that it shows is removed.
func TestReadingWritesNothing(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	b := newBrowser(t, site.url)
	b.login("Ada")
	b.post("/cart/sencha/add")
	b.get("/").shows(t, 200, "Welcome, Ada.", "Sencha is in your cart.")
	stored := func() string {
		t.Helper()
		document, err := site.documents(t).FindOne(t.Context(), bson.D{}).Raw()
		if err != nil {
			t.Fatal(err)
		}
		return document.String()
	}
	before := stored()
	for _, path := range []string{"/", "/devices", "/login", "/?note=out"} {
		if got := b.get(path); got.setCookie != nil {
			t.Errorf("%s sets a cookie: %v", path, got.setCookie)
		}
		if after := stored(); after != before {
			t.Errorf("%s changes the document\n%s\nto\n%s", path, before, after)
		}
	}
}

// The values of own types are documents in the database.
func TestTypesAreDocuments(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	b := newBrowser(t, site.url)
	b.login("Ada")
	b.post("/cart/sencha/quantity", "quantity", "2").redirectsTo(t, "/")
	filter := bson.D{{Key: "values.cart:sencha._value.quantity", Value: 2}}
	if n, err := site.documents(t).CountDocuments(t.Context(), filter); err != nil || n != 1 {
		t.Errorf("%d documents have the cart (error %v)", n, err)
	}
}

func TestCookieThatDoesNotVerify(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, newSite(t, testURI).url)
	for _, cookie := range []string{"x", "MTIzfGFiY3xkZWY=", strings.Repeat("A", 5000)} {
		header := http.Header{"Cookie": {sessionName + "=" + cookie}}
		b.do(http.MethodGet, "/", header, nil).redirectsTo(t, "/login?note=ended")
		login := b.do(http.MethodGet, "/login", header, nil)
		login.shows(t, 200, "You were signed out")
		login.takesCookie(t)
		b.do(http.MethodPost, "/logout", header, nil).redirectsTo(t, "/?note=out")
	}
}

// A session that cannot be read is logged and ended, and its user can sign in again.
func TestUnreadableSession(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	documents := site.documents(t)
	newer := bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: 99}}}}
	unknown := bson.D{{Key: "$set", Value: bson.D{{Key: "values.cart:sencha", Value: bson.D{
		{Key: "_type", Value: "basket"}, {Key: "_value", Value: bson.D{}},
	}}}}}
	for name, damage := range map[string]bson.D{"newer format": newer, "type of an older release": unknown} {
		for _, request := range []string{"GET /", "GET /login", "GET /devices", "POST /cart/sencha/add", "POST /order"} {
			b := newBrowser(t, site.url)
			b.login("Ada")
			if _, err := documents.UpdateMany(t.Context(), bson.D{}, damage); err != nil {
				t.Fatal(err)
			}
			method, path, _ := strings.Cut(request, " ")
			got := b.do(method, path, nil, nil)
			got.redirectsTo(t, "/login?note=unreadable")
			got.takesCookie(t)
			b.get("/login?note=unreadable").shows(t, 200, "Your session could not be read")
			if n, err := documents.CountDocuments(t.Context(), bson.D{}); err != nil || n != 0 {
				t.Errorf("%s, %s: %d documents are left (error %v)", name, request, n, err)
			}
			if log := site.log.String(); !strings.Contains(log, "session cannot be read") {
				t.Errorf("%s, %s: the log is %s", name, request, log)
			}
			b.login("Ada")
			b.get("/").shows(t, 200, helloAda)
			b.post("/logout").redirectsTo(t, "/?note=out")
		}
	}
}

func TestOutage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := startServer(t, embedded.Config{Dir: dir})
	// So that the test need not wait as long as a visitor.
	site := newSite(t, server.URI()+"?serverSelectionTimeoutMS=300")
	stays, leaves := newBrowser(t, site.url), newBrowser(t, site.url)
	stays.login("Ada")
	stays.post("/cart/sencha/add")
	leaves.login("Eve")
	left := leaves.cookie()

	if err := server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := stays.cookie()
	down := map[string]response{
		"GET /":        stays.get("/"),
		"GET /login":   stays.get("/login"),
		"GET /devices": stays.get("/devices"),
		"POST order":   stays.post("/order"),
		"POST cart":    stays.post("/cart/assam/add"),
		"POST device":  stays.post("/devices/sign-out", "key", "x"),
		"POST devices": stays.post("/devices/sign-out-others"),
		"POST /login":  newBrowser(t, site.url).post("/login", "name", "Bob"),
	}
	for request, got := range down {
		got.shows(t, 503, "You are not signed out", "Try again")
		if got.header.Get("Retry-After") == "" || got.setCookie != nil {
			t.Errorf("%s: Retry-After %q, Set-Cookie %v", request, got.header.Get("Retry-After"), got.setCookie)
		}
	}
	newBrowser(t, site.url).get("/").shows(t, 200, "Sign in") // needs no database
	leaves.post("/logout").redirectsTo(t, "/?note=out")       // is a promise

	startServer(t, embedded.Config{Dir: dir, Addr: strings.TrimSuffix(strings.TrimPrefix(server.URI(), "mongodb://"), "/")})
	if stays.cookie() != before {
		t.Error("the outage changed the cookie")
	}
	// The driver looks twice a second whether the server is back.
	until(t, "the shop has its memory back", func() bool { return stays.get("/").status == http.StatusOK })
	stays.get("/").shows(t, 200, helloAda, packs("sencha", 1), "!"+packs("assam", 1))
	leaves.replay(left).redirectsTo(t, "/login?note=ended")
	until(t, "the logout reaches the database", func() bool {
		n, err := site.store.Count(t.Context())
		return err == nil && n == 1
	})
}

// startServer starts an embedded server. A fixed address may have been lent to
// somebody else meanwhile: that is waited for.
func startServer(t *testing.T, cfg embedded.Config) *embedded.Server {
	t.Helper()
	var server *embedded.Server
	until(t, "the server starts", func() (ok bool) {
		var err error
		if server, err = embedded.Start(t.Context(), cfg); err != nil {
			t.Log(err)
		}
		return err == nil
	})
	t.Cleanup(func() {
		if err := closing(context.Background(), server.Close); err != nil {
			t.Error(err)
		}
	})
	return server
}

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still waiting: %s", what)
		}
	}
}

func TestForgedForms(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	b := newBrowser(t, site.url)
	b.login("Ada")
	for _, path := range []string{"/cart/assam/add", "/order", "/logout", "/login", "/devices/sign-out", "/devices/sign-out-others"} {
		for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
			got := b.do(http.MethodPost, path, http.Header{name: {value}}, nil)
			got.shows(t, 403, "That form came from another site")
		}
	}
	b.get("/").shows(t, 200, helloAda, "Your cart is empty.")
	for name, value := range map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": site.url} {
		b.do(http.MethodPost, "/cart/assam/add", http.Header{name: {value}}, nil).redirectsTo(t, "/")
	}
	b.get("/").shows(t, 200, packs("assam", 2))
}

func TestHeadersAndStatus(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, newSite(t, testURI).url)
	for _, tt := range []struct {
		method, path string
		status       int
		cache        string
	}{
		{"GET", "/", 200, "no-store"},
		{"HEAD", "/", 200, "no-store"},
		{"GET", "/login", 200, "no-store"},
		{"GET", "/static/style.css", 200, "public, max-age=300"},
		{"GET", "/static/cup.svg", 200, "public, max-age=300"},
		{"GET", "/static/inter.woff2", 200, "public, max-age=300"},
		{"GET", "/events", 204, "no-store"}, // the embedded server has no change streams
		{"GET", "/static/none.css", 404, ""},
		{"GET", "/templates/home.html", 404, "no-store"},
		{"GET", "/nowhere", 404, "no-store"},
		{"GET", "/logout", 405, "no-store"},
		{"GET", "/devices", 303, "no-store"},
		{"HEAD", "/devices", 303, "no-store"},
		{"GET", "/devices/sign-out", 405, "no-store"},
		{"GET", "/cart/assam/add", 405, "no-store"},
		{"GET", "/cart/assam/remove", 405, "no-store"},
		{"DELETE", "/", 405, "no-store"},
		{"POST", "/cart/assam/steal", 404, "no-store"},
	} {
		got := b.do(tt.method, tt.path, nil, nil)
		if got.status != tt.status || tt.cache != "" && got.header.Get("Cache-Control") != tt.cache {
			t.Errorf("%s %s: status %d, Cache-Control %q", tt.method, tt.path, got.status, got.header.Get("Cache-Control"))
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": "frame-ancestors 'none'",
			"X-Content-Type-Options":  "nosniff",
			"Referrer-Policy":         "same-origin",
		} {
			if !strings.Contains(got.header.Get(name), want) {
				t.Errorf("%s %s: %s %q", tt.method, tt.path, name, got.header.Get(name))
			}
		}
	}
	b.post("/login", "name", strings.Repeat("x", maxBody)).shows(t, 422)
}

func TestPublicAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ uri, address, database string }{
		{"mongodb://localhost", "mongodb://localhost", ""},
		{"mongodb://localhost:27017/", "mongodb://localhost:27017", ""},
		{"mongodb://localhost/shop?w=1", "mongodb://localhost", "shop"},
		{"mongodb://ada:secret@a:1,b:2/shop?authSource=admin", "mongodb://a:1,b:2", "shop"},
		{"mongodb://ada:s?ecret@a/?appName=x@secret", "mongodb://a", ""},
		{"mongodb+srv://ada:s%40ecret@cluster.example/shop", "mongodb+srv://cluster.example", "shop"},
	} {
		if address, name := publicAddress(tt.uri); address != tt.address || name != tt.database {
			t.Errorf("%s: %q and %q", tt.uri, address, name)
		}
	}
}

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

func TestBrowserAddress(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ flag, listening, want string }{
		{"localhost:8080", "127.0.0.1:8080", "localhost:8080"},
		{"localhost:0", "127.0.0.1:4711", "localhost:4711"},
		{":8080", "[::]:8080", "localhost:8080"},
		{"0.0.0.0:http", "0.0.0.0:80", "localhost:80"},
		{"[::1]:8080", "[::1]:8080", "[::1]:8080"},
		{"shop.example:8080", "192.0.2.1:8080", "shop.example:8080"},
	} {
		if got := browserAddress(tt.flag, address(tt.listening)); got != tt.want {
			t.Errorf("%s on %s: %q, want %q", tt.flag, tt.listening, got, tt.want)
		}
	}
}

func TestSecretKey(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "not", "made", "yet")
	first, err := secretKey(dir, "cookie.key")
	if err != nil {
		t.Fatal(err)
	}
	again, err := secretKey(dir, "cookie.key")
	if err != nil || !bytes.Equal(first, again) || len(first) != 32 {
		t.Errorf("%d bytes, the same again: %t (error %v)", len(first), bytes.Equal(first, again), err)
	}
	if other, err := secretKey(dir, "seal.key"); err != nil || bytes.Equal(first, other) {
		t.Errorf("another file has the same key (error %v)", err)
	}
	if other, err := secretKey(t.TempDir(), "cookie.key"); err != nil || bytes.Equal(first, other) {
		t.Errorf("another folder has the same key (error %v)", err)
	}
	file := filepath.Join(dir, "cookie.key")
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode != 0o600 {
		t.Errorf("mode %o", mode)
	}
	for _, damaged := range []string{"", "abcd", strings.Repeat("x", 64)} {
		if err := os.WriteFile(file, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := secretKey(dir, "cookie.key"); err == nil || !strings.Contains(err.Error(), "is damaged") {
			t.Errorf("file %q: error %v", damaged, err)
		}
	}
}

func TestPrices(t *testing.T) {
	t.Parallel()
	for cents, want := range map[int]string{0: "€0.00", 5: "€0.05", 590: "€5.90", 103950: "€1039.50"} {
		if got := euro(cents); got != want {
			t.Errorf("%d cents: %s", cents, got)
		}
	}
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
