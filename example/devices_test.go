package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
)

const (
	firefoxWindows = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:144.0) Gecko/20100101 Firefox/144.0"
	safariIPhone   = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
	firefoxLinux   = "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0"
	edgeWindows    = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0"
	chromeLinux    = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
)

// loggedIn returns a browser in which the user has signed in.
func (s *site) loggedIn(t *testing.T, user, agent string) *browser {
	t.Helper()
	b := newBrowser(t, s.url)
	b.agent = agent
	b.login(user)
	return b
}

// sessions returns what the store lists of a user.
func (s *site) sessions(t *testing.T, user string) []mongostore.Info {
	t.Helper()
	var infos []mongostore.Info
	for info, err := range s.store.Sessions(t.Context(), user) {
		if err != nil {
			t.Fatal(err)
		}
		infos = append(infos, info)
	}
	return infos
}

// key returns the key of the user's session on a device.
func (s *site) key(t *testing.T, user, browser string) string {
	t.Helper()
	infos := s.sessions(t, user)
	i := slices.IndexFunc(infos, func(info mongostore.Info) bool { return info.Details["browser"] == browser })
	if i < 0 {
		t.Fatalf("%s has no session in %s: %+v", user, browser, infos)
	}
	return infos[i].Key
}

// set changes the sessions in the database.
func (s *site) set(t *testing.T, update bson.D) {
	t.Helper()
	if _, err := s.documents(t).UpdateMany(t.Context(), bson.D{}, update); err != nil {
		t.Fatal(err)
	}
}

func (s *site) wantSessions(t *testing.T, want int64) {
	t.Helper()
	if n, err := s.store.Count(t.Context()); err != nil || n != want {
		t.Errorf("%d sessions, want %d (error %v)", n, want, err)
	}
}

// signedOut checks that the browser is told at its next request that it was signed
// out, once.
func (b *browser) signedOut() {
	b.t.Helper()
	b.get("/").redirectsTo(b.t, "/login?note=ended")
	login := b.get("/login?note=ended")
	login.shows(b.t, 200, `role="status">You were signed out, in another window`, `name="remember"`)
	login.takesCookie(b.t)
	b.get("/").shows(b.t, 200, noHello, "You have no session yet")
}

// parts returns what the page has between two texts, each time.
func parts(page, from, to string) []string {
	var found []string
	for {
		_, rest, ok := strings.Cut(page, from)
		if !ok {
			return found
		}
		part, after, _ := strings.Cut(rest, to)
		found, page = append(found, part), after
	}
}

func TestDevices(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	anybody := newBrowser(t, site.url)
	anybody.get("/devices").redirectsTo(t, "/login?note=first")

	desk := site.loggedIn(t, "Ada", firefoxWindows)
	desk.get("/").shows(t, 200, `href="/devices"`)
	desk.get("/devices").shows(t, 200, "Firefox on Windows", "You are not signed in anywhere else.", "!Sign out everywhere else")
	phone := site.loggedIn(t, "Ada", safariIPhone)

	// Whoever asks comes first, though the other one was seen last.
	for _, tt := range []struct {
		b     *browser
		names []string
	}{
		{desk, []string{"Firefox on Windows", "Safari on iPhone"}},
		{phone, []string{"Safari on iPhone", "Firefox on Windows"}},
	} {
		page := tt.b.get("/devices")
		page.shows(t, 200, helloAda, "Sign out everywhere else", "just now</time>")
		if names := parts(page.body, "<h2>", "</h2>"); !slices.Equal(names, tt.names) {
			t.Errorf("the page lists %q, want %q", names, tt.names)
		}
		if first, _, _ := strings.Cut(page.body, tt.names[1]); strings.Count(page.body, "This device") != 1 || !strings.Contains(first, "This device") {
			t.Errorf("it is not the first device that is this one:\n%s", page.body)
		}
		for _, datetime := range parts(page.body, `<time datetime="`, `"`) {
			if at, err := time.Parse("2006-01-02T15:04Z", datetime); err != nil || time.Since(at).Abs() > 2*time.Minute {
				t.Errorf("time %q (error %v)", datetime, err)
			}
		}
		for _, secret := range []string{tt.b.cookie(), "Mozilla", "Gecko"} {
			page.shows(t, 200, "!"+secret)
		}
	}
	// Messages of other pages are shown here too, once.
	phone.post("/cart/assam/add")
	phone.get("/devices").shows(t, 200, "Assam is in your cart.")
	phone.get("/devices").shows(t, 200, "!Assam")
}

func TestSignOutDevice(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	desk := site.loggedIn(t, "Ada", firefoxWindows)
	phone := site.loggedIn(t, "Ada", safariIPhone)
	phone.post("/cart/assam/add")
	key := site.key(t, "Ada", "Safari")

	desk.post("/devices/sign-out", "key", key).redirectsTo(t, "/devices")
	desk.get("/devices").shows(t, 200, helloAda, `role="status">Safari on iPhone is signed out.`, "You are not signed in anywhere else.")
	site.wantSessions(t, 1)
	phone.signedOut()
	desk.post("/devices/sign-out", "key", key).shows(t, 404, "You are not signed in there", `href="/devices"`)
	desk.get("/").shows(t, 200, helloAda)

	// The device at hand is signed out as by the button above.
	out := desk.post("/devices/sign-out", "key", site.key(t, "Ada", "Firefox"))
	out.redirectsTo(t, "/?note=out")
	out.takesCookie(t)
	site.wantSessions(t, 0)
}

// A device that was signed out may begin anywhere.
func TestSignedOutDeviceComesBack(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	for _, path := range []string{"/", "/devices", "/login"} {
		phone := site.loggedIn(t, "Ada", safariIPhone)
		if n, err := site.store.RevokeAll(t.Context(), "Ada"); err != nil || n != 1 {
			t.Fatalf("%d sessions ended (error %v)", n, err)
		}
		if path != "/login" {
			first := phone.get(path)
			first.redirectsTo(t, "/login?note=ended")
			if first.setCookie != nil {
				t.Errorf("%s sets a cookie: %v", path, first.setCookie)
			}
		}
		login := phone.get("/login")
		login.shows(t, 200, "You were signed out")
		login.takesCookie(t)
		phone.get("/login").shows(t, 200, "!You were signed out")
		phone.login("Ada")
		phone.get(path).shows(t, map[bool]int{true: 303, false: 200}[path == "/login"])
		phone.post("/logout")
	}
	// The form can also be sent at once.
	phone := site.loggedIn(t, "Ada", safariIPhone)
	if _, err := site.store.RevokeAll(t.Context(), "Ada"); err != nil {
		t.Fatal(err)
	}
	phone.login("Ada")
	phone.get("/").shows(t, 200, helloAda)
}

// A key ends sessions of its own user only, however much another user looks alike.
func TestForeignKeys(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	users := []string{"Ada", "ada", "Аda", "Ada B", "Ad", "$Ada", "Ada.", "Adá", "Ada\u0301", "1", "01", "1.0"}
	browsers := make([]*browser, len(users))
	for i, user := range users {
		browsers[i] = site.loggedIn(t, user, firefoxWindows)
		site.loggedIn(t, user, safariIPhone)
	}
	var keys []string
	for _, user := range users {
		keys = append(keys, site.key(t, user, "Safari"))
	}
	for i, b := range browsers {
		page := b.get("/devices")
		if listed := parts(page.body, `name="key" value="`, `"`); !slices.Equal(listed, keys[i:i+1]) {
			t.Errorf("the page of %q lists the keys %q, want %q", users[i], listed, keys[i])
		}
		for j, key := range keys {
			if i != j {
				b.post("/devices/sign-out", "key", key).shows(t, 404, "You are not signed in there", "Nothing was changed")
			}
		}
	}
	b := browsers[0]
	_, value, _ := strings.Cut(b.cookie(), "=")
	for _, key := range []string{"", "x", value, strings.ToLower(keys[0]), keys[0] + " ", `{"$ne":""}`, "\x00", "\xff"} {
		b.post("/devices/sign-out", "key", key).shows(t, 404, "You are not signed in there")
	}
	// In the address or under another name it counts for nothing.
	b.post("/devices/sign-out?key="+keys[0], "Key", keys[0]).shows(t, 404)
	newBrowser(t, site.url).post("/devices/sign-out", "key", keys[1]).redirectsTo(t, "/login?note=first")

	site.wantSessions(t, 2*int64(len(users)))
	for _, b := range browsers {
		b.post("/devices/sign-out-others").redirectsTo(t, "/devices")
		b.get("/devices").shows(t, 200, "Hello, ", "One other device is signed out.")
	}
	site.wantSessions(t, int64(len(users)))
}

func TestSignOutOthers(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	desk := site.loggedIn(t, "Ada", firefoxWindows)
	desk.post("/cart/sencha/add")
	somebody := site.loggedIn(t, "ada", firefoxWindows)
	for n, text := range []string{"You were not signed in anywhere else.", "One other device is signed out.", "2 other devices are signed out."} {
		others := make([]*browser, n)
		for i := range others {
			others[i] = site.loggedIn(t, "Ada", safariIPhone)
		}
		before := desk.cookie()
		desk.post("/devices/sign-out-others").redirectsTo(t, "/devices")
		desk.get("/devices").shows(t, 200, helloAda, `role="status">`+text, "You are not signed in anywhere else.")
		for _, other := range others {
			other.signedOut()
		}
		// Also who has a copy of this device's cookie is out.
		desk.replay(before).redirectsTo(t, "/login?note=ended")
	}
	desk.get("/").shows(t, 200, helloAda, packs("sencha", 1))
	somebody.get("/").shows(t, 200, "<strong>ada</strong>")
	site.wantSessions(t, 2)
}

// What a device asks for while it is being signed out is not done.
func TestSignedOutWhileRequestIsUnderWay(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	desk := site.loggedIn(t, "Ada", firefoxWindows)
	tablet := site.loggedIn(t, "Ada", chromeLinux)
	desk.get("/")
	for _, tt := range []struct {
		path   string
		fields []string
	}{
		{"/cart/assam/quantity", []string{"quantity", "5"}},
		{"/devices/sign-out", []string{"key", site.key(t, "Ada", "Chrome")}},
	} {
		phone := site.loggedIn(t, "Ada", safariIPhone)
		signOut := func() {
			desk.post("/devices/sign-out", "key", site.key(t, "Ada", "Safari")).redirectsTo(t, "/devices")
		}
		late := phone.interrupted(signOut, tt.path, tt.fields...)
		late.redirectsTo(t, "/login?note=ended")
		if late.setCookie != nil {
			t.Errorf("%s sets a cookie: %v", tt.path, late.setCookie)
		}
		phone.signedOut()
		site.wantSessions(t, 2)
	}
	tablet.get("/").shows(t, 200, helloAda)
}

// Another user's login in the same browser begins another session.
func TestLoginOfAnotherUser(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	b := site.loggedIn(t, "Eve", firefoxWindows)
	site.set(t, bson.D{{Key: "$set", Value: bson.D{{Key: "createdAt", Value: time.Now().Add(-80 * 24 * time.Hour)}}}})
	b.login("Ada")
	infos := site.sessions(t, "Ada")
	if len(infos) != 1 || time.Since(infos[0].CreatedAt) > time.Minute {
		t.Errorf("sessions of Ada: %+v", infos)
	}
	site.wantSessions(t, 1)
}

// Nobody stays signed in forever.
func TestLongestSession(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	b := newBrowser(t, site.url)
	b.post("/login", "name", "Ada", "remember", "yes")
	began := func(ago time.Duration) {
		t.Helper()
		// Seen long ago too, so that the next visit is noted.
		site.set(t, bson.D{{Key: "$set", Value: bson.D{
			{Key: "createdAt", Value: time.Now().Add(-ago)},
			{Key: "seenAt", Value: time.Now().Add(-time.Hour)},
		}}})
	}
	began(longestSession - time.Hour)
	b.get("/").shows(t, 200, helloAda, "30 days from your last visit, and at most 90 in all")
	if infos := site.sessions(t, "Ada"); len(infos) != 1 || time.Until(infos[0].ExpiresAt) > time.Hour {
		t.Errorf("sessions: %+v", infos)
	}
	began(longestSession + time.Hour)
	b.signedOut()
}

// Sessions of before there was this page have neither owner nor device.
func TestDeviceOfEarlierSession(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	b := site.loggedIn(t, "Ada", "")
	site.set(t, bson.D{{Key: "$unset", Value: bson.D{{Key: "owner", Value: ""}, {Key: "details", Value: ""}}}})
	b.get("/devices").shows(t, 200, "<h2>Unknown device</h2>", "This device")
}

func TestSealed(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte("s"), 32)
	for _, tt := range []struct {
		name string
		site *site
		text string
	}{
		{"readable", newSite(t, testURI), `id="sealed">No.`},
		{"sealed", newSite(t, testURI, key), `id="sealed">Yes: the values`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := tt.site.loggedIn(t, "Ada", firefoxWindows)
			b.post("/cart/sencha/add")
			doc, err := tt.site.documents(t).FindOne(t.Context(), bson.D{{Key: "owner", Value: "Ada"}}).Raw()
			if err != nil {
				t.Fatal(err)
			}
			values, err := doc.Lookup("values").Document().Elements()
			if err != nil || len(values) < 3 {
				t.Fatalf("the values are %v (error %v)", values, err)
			}
			for _, element := range values {
				document, _ := element.Value().DocumentOK() // nil if it is something else
				tag, _ := document.Lookup("_type").StringValueOK()
				if sealed := tag == "sealed"; sealed != (tt.name == "sealed") {
					t.Errorf("%s is stored as %s", element.Key(), element.Value())
				}
			}
			b.get("/").shows(t, 200, helloAda, packs("sencha", 1), tt.text)
			b.get("/devices").shows(t, 200, "Firefox on Windows")
		})
	}
}

func TestDeviceName(t *testing.T) {
	t.Parallel()
	const webkit = "AppleWebKit/537.36 (KHTML, like Gecko) "
	for _, tt := range []struct{ header, want string }{
		{firefoxWindows, "Firefox on Windows"},
		{safariIPhone, "Safari on iPhone"},
		{chromeLinux, "Chrome on Linux"},
		{"Mozilla/5.0 (X11; Linux x86_64) " + webkit + "HeadlessChrome/141.0.0.0 Safari/537.36", "Headless Chrome on Linux"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) " + webkit + "Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0", "Edge on Windows"},
		{"Mozilla/5.0 (Linux; Android 10; K) " + webkit + "Chrome/141.0.0.0 Mobile Safari/537.36", "Chrome on Android"},
		{"Mozilla/5.0 (Linux; Android 10; K) " + webkit + "SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36", "Samsung Browser on Android"},
		{"Mozilla/5.0 (Android 15; Mobile; rv:144.0) Gecko/144.0 Firefox/144.0", "Firefox on Android"},
		{"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) " + webkit + "Chrome/141.0.0.0 Safari/537.36", "Chrome on ChromeOS"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15", "Safari on macOS"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) " + webkit + "Chrome/141.0.0.0 Safari/537.36 OPR/122.0.0.0", "Opera on macOS"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/141.0.0.0 Mobile/15E148 Safari/604.1", "Chrome on iPhone"},
		{"Mozilla/5.0 (iPad; CPU OS 15_8 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/144.0 Mobile/15E148 Safari/605.1.15", "Firefox on iPad"},
		{"Mozilla/5.0 (X11; FreeBSD amd64; rv:144.0) Gecko/20100101 Firefox/144.0", "Firefox"},
		{"Linux", "Linux"},
		{"curl/8.14.1", "Unknown device"},
		{"", "Unknown device"},
		{strings.Repeat("x", 1<<15), "Unknown device"},
		{"<script>alert(1)</script>\xff Firefox/<b> Linux\"", "Firefox"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("User-Agent", tt.header)
		if got := deviceName(describe(r)); got != tt.want {
			t.Errorf("%.200s: %q, want %q", tt.header, got, tt.want)
		}
	}
}

// What the database says of a device is not trusted as markup either.
func TestDeviceIsEscaped(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	b := site.loggedIn(t, "Ada", `<script>alert("Firefox/1")</script>`)
	b.get("/devices").shows(t, 200, "<h2>Unknown device</h2>", "!script", "!alert")
	site.set(t, bson.D{{Key: "$set", Value: bson.D{{Key: "details", Value: bson.D{{Key: "browser", Value: `"><b>`}}}}}})
	b.get("/devices").shows(t, 200, "&#34;&gt;&lt;b&gt;", "!<b>")
}

func TestAgo(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, tt := range []struct {
		d    time.Duration
		want string
	}{
		{-time.Hour, "just now"}, // by another server's clock
		{0, "just now"},
		{2*time.Minute - 1, "just now"},
		{2 * time.Minute, "2 minutes ago"},
		{time.Hour - 1, "59 minutes ago"},
		{time.Hour, "1 hour ago"},
		{2*time.Hour - 1, "1 hour ago"},
		{2 * time.Hour, "2 hours ago"},
		{48*time.Hour - 1, "1 day ago"},
		{48 * time.Hour, "2 days ago"},
		{89 * 24 * time.Hour, "2 months ago"},
	} {
		if got := ago(now, now.Add(-tt.d)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.d, got, tt.want)
		}
	}
}
