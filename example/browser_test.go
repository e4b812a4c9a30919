package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/mongotest/embedded"
)

// screenshotVariable names a folder to keep the screenshots in.
const screenshotVariable = "EXAMPLE_SCREENSHOTS"

// TestBrowser visits the shop as people do.
func TestBrowser(t *testing.T) {
	t.Parallel()
	tab := newTab(t)
	server := startServer(t, embedded.Config{})
	site := newSite(t, server.URI()+"?serverSelectionTimeoutMS=300")

	tab.do("look around",
		chromedp.EmulateViewport(1280, 800),
		chromedp.Navigate(site.url),
		chromedp.WaitVisible(`//h1[contains(., "A tea shop that remembers you")]`),
	)
	tab.screenshots("home")
	if cookie := tab.cookie(); cookie != nil {
		t.Errorf("looking around sets a cookie: %v", cookie)
	}

	tab.do("go to the login",
		chromedp.Click(`main a[href="/login"]`),
		chromedp.WaitVisible(`#name`),
	)
	tab.screenshots("login")
	tab.do("sign in with the keyboard, to be remembered",
		chromedp.SendKeys(`#name`, "Ada"+kb.Tab+" "+kb.Enter),
		chromedp.WaitVisible(status("Welcome, Ada.")),
		chromedp.WaitVisible(`//dd[@id="remembered"][contains(., "Yes")]`),
	)
	if cookie := tab.cookie(); cookie == nil || cookie.Session || days(cookie) < 29 || days(cookie) > 30 || !cookie.HTTPOnly || cookie.SameSite != network.CookieSameSiteLax {
		t.Errorf("the cookie of a visitor to be remembered: %+v", cookie)
	}

	tab.do("fill the cart",
		chromedp.Click(`form[action="/cart/sencha/add"] button`),
		chromedp.WaitVisible(status("Sencha is in your cart.")),
		chromedp.Click(`form[action="/cart/oolong/add"] button`),
		chromedp.WaitVisible(status("Oolong is in your cart.")),
		chromedp.SetValue(`#quantity-sencha`, "3"),
		chromedp.SendKeys(`#quantity-sencha`, kb.Enter),
		chromedp.WaitVisible(status("There are now 3 × Sencha in your cart.")),
		chromedp.WaitVisible(`#quantity-sencha[value="3"]`),
	)
	tab.screenshots("cart")
	tab.do("order",
		chromedp.Click(`form[action="/order"] button`),
		chromedp.WaitVisible(status("Thank you for your order.")),
		chromedp.WaitVisible(`#order`),
		chromedp.WaitNotPresent(`#quantity-sencha`),
	)
	tab.screenshots("order")
	until(t, "the order is packed", func() bool { return site.packer.underWayNow() == 0 })
	tab.do("see how far the order is",
		chromedp.Reload(),
		chromedp.WaitVisible(`//p[@id="order"][.="On its way."]`),
	)
	tab.do("fill the cart again",
		chromedp.Click(`form[action="/cart/sencha/add"] button`),
		chromedp.WaitVisible(status("Sencha is in your cart.")),
		chromedp.SetValue(`#quantity-sencha`, "3"),
		chromedp.SendKeys(`#quantity-sencha`, kb.Enter),
		chromedp.WaitVisible(`#quantity-sencha[value="3"]`),
	)

	tab.do("reload",
		chromedp.Reload(),
		chromedp.WaitNotPresent(`.flash`),
		chromedp.WaitVisible(`#quantity-sencha[value="3"]`),
	)
	if where := step(tab, "look where the session panel is", chromedp.Evaluate[float64](`document.querySelector(".session").getBoundingClientRect().bottom`)); where > 800 {
		t.Errorf("the panel of the session ends at %.0f pixels, below the fold", where)
	}

	tab.do("begin with the keyboard", chromedp.KeyEvent(kb.Tab))
	if focused := step(tab, "look at the focus", chromedp.Text(`:focus`)); focused != "Skip to the content" {
		t.Errorf("the first stop of the Tab key is %q", focused)
	}
	tab.do("skip to the content", chromedp.KeyEvent(kb.Enter+kb.Tab))
	if !step(tab, "look at the focus again", chromedp.Evaluate[bool](`document.querySelector("main :focus") !== null`)) {
		t.Error("the link to the content does not lead there")
	}

	tab.do("empty the cart",
		chromedp.Click(`form[action="/cart/sencha/remove"] button`),
		chromedp.WaitVisible(status("Sencha is no longer in your cart.")),
		chromedp.WaitNotPresent(`#quantity-sencha`),
	)
	tab.do("sign out",
		chromedp.Click(`form[action="/logout"] button`),
		chromedp.WaitVisible(status("You are signed out.")),
		chromedp.WaitNotPresent(`#stored`),
	)
	if cookie := tab.cookie(); cookie != nil {
		t.Errorf("the logout leaves a cookie: %v", cookie)
	}

	tab.do("sign in without being remembered",
		chromedp.Click(`main a[href="/login"]`),
		chromedp.SendKeys(`#name`, "Bob"+kb.Enter),
		chromedp.WaitVisible(`//dd[@id="remembered"][contains(., "No")]`),
	)
	if cookie := tab.cookie(); cookie == nil || !cookie.Session {
		t.Errorf("the cookie of a visitor not to be remembered: %+v", cookie)
	}
	tab.wantNoComplaints()

	if err := server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	tab.do("visit while the database is down",
		chromedp.Navigate(site.url),
		chromedp.WaitVisible(`//h1[contains(., "Your session is not available")]`),
	)
	tab.screenshots("unavailable")
	if cookie := tab.cookie(); cookie == nil {
		t.Error("the outage takes the cookie")
	}
}

// TestTwoBrowsers signs a user in twice and out from afar.
func TestTwoBrowsers(t *testing.T) {
	t.Parallel()
	desk := newTab(t)
	phone := desk.stranger()
	call(phone, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: safariIPhone})
	phone.do("be small", chromedp.EmulateViewport(360, 740))
	site := newSite(t, testURI)
	const (
		here  = `//li[.//p[.="This device"]]`
		there = `//li[not(.//p[.="This device"])]`
	)
	signIn := func(tab *tab) {
		t.Helper()
		tab.do("sign in",
			chromedp.Navigate(site.url+"/login"),
			chromedp.SendKeys(`#name`, "Ada"+kb.Enter),
			chromedp.WaitVisible(status("Welcome, Ada.")),
		)
	}
	signedOut := func(tab *tab, actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		tab.do("do something after having been signed out", append(actions,
			chromedp.WaitVisible(`//p[@role="status"][starts-with(., "You were signed out, in another window")]`),
			chromedp.WaitVisible(`#name`),
		)...)
		if address := step(tab, "look at the address", chromedp.Location()); address != site.url+"/login?note=ended" {
			t.Errorf("the browser is at %s", address)
		}
		if cookie := tab.cookie(); cookie != nil {
			t.Errorf("the cookie of the ended session stays: %+v", cookie)
		}
	}

	signIn(desk)
	desk.do("look at the devices",
		chromedp.EmulateViewport(1280, 800),
		chromedp.Click(`header a[href="/devices"]`),
		chromedp.WaitVisible(here),
		chromedp.WaitNotPresent(there),
		chromedp.WaitVisible(`//p[.="You are not signed in anywhere else."]`),
	)
	signIn(phone)
	phone.do("look at the devices on the phone",
		chromedp.Click(`header a[href="/devices"]`),
		chromedp.WaitVisible(here+`[.//h2[.="Safari on iPhone"]]`),
		chromedp.WaitVisible(there+`[.//h2[contains(., "Chrome on ")]]`),
	)
	desk.do("look again",
		chromedp.Reload(),
		chromedp.WaitVisible(here+`[.//h2[contains(., "Chrome on ")]]`),
		chromedp.WaitVisible(there+`[.//h2[.="Safari on iPhone"]]`),
	)
	if n := step(desk, "count", chromedp.Evaluate[int](`document.querySelectorAll(".device").length`)); n != 2 {
		t.Errorf("the page shows %d devices, want 2", n)
	}
	desk.screenshots("devices")

	desk.do("sign the phone out with the keyboard",
		chromedp.Focus(there+`//button`),
		chromedp.KeyEvent(kb.Enter),
		chromedp.WaitVisible(status("Safari on iPhone is signed out.")),
		chromedp.WaitNotPresent(there),
	)
	signedOut(phone, chromedp.Click(`a.brand`))
	phone.screenshots("signed-out")
	phone.do("look around", chromedp.Click(`a.brand`), chromedp.WaitVisible(`.hero`))

	signIn(phone)
	another := desk.stranger()
	signIn(another)
	cookie := desk.cookie()
	desk.do("sign out everywhere else",
		chromedp.Reload(),
		chromedp.Click(`form[action="/devices/sign-out-others"] button`),
		chromedp.WaitVisible(status("2 other devices are signed out.")),
		chromedp.WaitNotPresent(there),
	)
	if renewed := desk.cookie(); cookie == nil || renewed == nil || renewed.Value == cookie.Value {
		t.Errorf("cookie %v, before %v", renewed, cookie)
	}
	signedOut(another, chromedp.Reload())
	signedOut(phone, chromedp.Click(`form[action="/cart/sencha/add"] button`))
	desk.do("go on", chromedp.Click(`a.brand`), chromedp.WaitVisible(`#stored`))
	desk.do("sign out here",
		chromedp.Click(`form[action="/logout"] button`),
		chromedp.WaitVisible(status("You are signed out.")),
	)
	for _, tab := range []*tab{desk, phone, another} {
		tab.wantNoComplaints()
	}
}

// TestBrowserPicture draws the picture of the README: a user with three devices.
func TestBrowserPicture(t *testing.T) {
	t.Parallel()
	tab := newTab(t)
	call(tab, emulation.SetUserAgentOverride, emulation.SetUserAgentOverrideParams{UserAgent: firefoxLinux})
	site := newSite(t, testURI)
	fixtures := []struct {
		agent, browser string
		seen, began    time.Duration // ago
	}{
		{safariIPhone, "Safari", 3*time.Hour + 10*time.Minute, 16 * 24 * time.Hour},
		{edgeWindows, "Edge", 51 * time.Hour, 51*time.Hour + 25*time.Minute}, // in the library
	}
	for _, f := range fixtures {
		b := newBrowser(t, site.url)
		b.agent = f.agent
		b.post("/login", "name", "Ada", "remember", "yes").redirectsTo(t, "/")
		filter := bson.D{{Key: "_id", Value: site.key(t, "Ada", f.browser)}}
		update := bson.D{{Key: "$set", Value: bson.D{
			{Key: "seenAt", Value: time.Now().Add(-f.seen)},
			{Key: "createdAt", Value: time.Now().Add(-f.began)},
		}}}
		if _, err := site.documents(t).UpdateOne(t.Context(), filter, update); err != nil {
			t.Fatal(err)
		}
	}
	tab.do("sign in on the laptop",
		chromedp.Navigate(site.url+"/login"),
		chromedp.SendKeys(`#name`, "Ada"+kb.Enter),
		chromedp.WaitVisible(status("Welcome, Ada.")),
		chromedp.Click(`header a[href="/devices"]`),
		chromedp.WaitVisible(`//li[.//h2[.="Firefox on Linux"]][.//p[.="This device"]]`),
		chromedp.WaitVisible(`//li[.//h2[.="Safari on iPhone"]][.//time[.="3 hours ago"]]`),
		chromedp.WaitVisible(`//li[.//h2[.="Edge on Windows"]][.//time[.="2 days ago"]]`),
	)
	tab.screenshots("three-devices")
	tab.picture("devices", readmeScreen, "light")
	tab.wantNoComplaints()
}

// TestBrowserTwoWindows signs a user out in one window, and sees that the other one notices. The
// embedded server has no change streams, so the test reports the end of the session itself.
func TestBrowserTwoWindows(t *testing.T) {
	t.Parallel()
	one := newTab(t)
	site := newSite(t, testURI)
	events := site.watched(t)
	one.do("sign in",
		chromedp.EmulateViewport(1280, 800),
		chromedp.Navigate(site.url+"/login"),
		chromedp.SendKeys(`#name`, "Ada"+kb.Enter),
		chromedp.WaitVisible(`//dd[@id="live"][.="Open pages notice it immediately"]`),
	)
	two := one.sibling()
	two.do("open another window", chromedp.Navigate(site.url), chromedp.WaitVisible(`#stored`))
	key := site.sessions(t, "Ada")[0].Key
	until(t, "both windows listen", func() bool { return site.shop.live.listening(key) == 2 })

	one.do("sign out everywhere else, which renews the session",
		chromedp.Navigate(site.url+"/devices"),
		chromedp.Evaluate[chromedp.Void](`fetch("/devices/sign-out-others", {method: "POST"})`),
	)
	until(t, "the session has another key", func() bool { return site.sessions(t, "Ada")[0].Key != key })
	renewed := site.sessions(t, "Ada")[0].Key
	events <- mongostore.Event{Key: key, RenewedTo: renewed}
	until(t, "both windows listen again", func() bool { return site.shop.live.listening(renewed) == 2 })
	if address := step(two, "look at the address", chromedp.Location()); address != site.url+"/" {
		t.Errorf("the renewal has sent the other window to %s", address)
	}

	one.do("sign out",
		chromedp.Click(`form[action="/logout"] button`),
		chromedp.WaitVisible(status("You are signed out.")),
	)
	events <- mongostore.Event{Key: renewed}
	two.do("notice that", chromedp.WaitVisible(`//p[@role="status"][starts-with(., "You were signed out, in another window")]`))
	two.wantNoComplaints()
}

// status is the XPath of a message.
func status(text string) string { return fmt.Sprintf(`//p[@role="status"][.="%s"]`, text) }

func days(cookie *network.Cookie) float64 {
	return time.Until(time.Unix(int64(cookie.Expires), 0)).Hours() / 24
}

// tab is a tab of a real browser.
type tab struct {
	t          *testing.T
	ctx        context.Context
	folder     string        // of the screenshots
	complaints *lockedBuffer // what the browser has written to its console
}

func newTab(t *testing.T) *tab {
	t.Helper()
	var browser string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			browser = path
			break
		}
	}
	if browser == "" {
		t.Skip("there is no chromium, chromium-browser or google-chrome")
	}
	flags := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(browser),
		chromedp.Flag("disable-dev-shm-usage", true), // it is small in containers
		chromedp.WSURLReadTimeout(patience),
	)
	if os.Geteuid() == 0 {
		flags = append(flags, chromedp.NoSandbox) // Chromium's refuses to work for root
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, flags...)
	t.Cleanup(cancel)
	return openTab(ctx, t, chromedp.WithErrorf(t.Logf))
}

// stranger opens a tab of another visitor: it has cookies of its own, as in a private
// window.
func (tab *tab) stranger() *tab {
	tab.t.Helper()
	return openTab(tab.ctx, tab.t, chromedp.WithNewBrowserContext())
}

// sibling opens another tab of the same visitor.
func (tab *tab) sibling() *tab {
	tab.t.Helper()
	return openTab(tab.ctx, tab.t)
}

func openTab(parent context.Context, t *testing.T, options ...chromedp.ContextOption) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent, options...)
	t.Cleanup(cancel)
	tab := &tab{t: t, ctx: ctx, folder: os.Getenv(screenshotVariable), complaints: &lockedBuffer{}}
	if tab.folder == "" {
		tab.folder = t.TempDir()
	}
	if err := os.MkdirAll(tab.folder, 0o750); err != nil {
		t.Fatal(err)
	}
	tab.do("open the tab")
	err := chromedp.Listen(ctx, func(event any) {
		switch event := event.(type) {
		case *log.EventEntryAdded:
			if event.Entry.Level == log.EntryLevelInfo { // that a page was too slow to focus its input, say
				return
			}
			fmt.Fprintf(tab.complaints, "%s: %s %s\n", event.Entry.Level, event.Entry.Text, event.Entry.URL)
		case *runtime.EventExceptionThrown:
			fmt.Fprintln(tab.complaints, event.ExceptionDetails.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

// do carries out a step of the visit.
func (tab *tab) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	step(tab, what, chromedp.Steps(actions...))
}

// step carries out a step of the visit that has a result.
func step[T any](tab *tab, what string, action chromedp.Action[T]) T {
	tab.t.Helper()
	result, err := chromedp.Run(tab.ctx, action)
	if err != nil {
		tab.t.Fatalf("%s: %v", what, err)
	}
	return result
}

func (tab *tab) wantNoComplaints() {
	tab.t.Helper()
	if complaints := tab.complaints.String(); complaints != "" {
		tab.t.Errorf("the browser complains:\n%s", complaints)
	}
}

// call gives the browser a command that chromedp has no action for.
func call[P, R any](tab *tab, command cdp.Command[P, R], params P) R {
	tab.t.Helper()
	result, err := chromedp.Call(tab.ctx, command, params)
	if err != nil {
		tab.t.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

// screen is what a browser shows its pages on.
type screen struct {
	name          string
	width, height int64
	scale         float64 // pixels of the screen for each of the page
}

var (
	phoneScreen = screen{"mobile", 360, 740, 2}
	desktop     = screen{"desktop", 1280, 800, 1}

	// readmeScreen is as wide as a README on GitHub, and sharp on a screen of twice the pixels.
	readmeScreen = screen{"readme", 830, 735, 2}
)

// emulate has the browser show the page on another screen, by day ("light") or night ("dark").
func (tab *tab) emulate(screen screen, scheme string) {
	tab.t.Helper()
	tab.do("choose a screen", chromedp.EmulateViewport(screen.width, screen.height, chromedp.EmulateScale(screen.scale)))
	call(tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme},
			{Name: "prefers-reduced-motion", Value: "reduce"}, // no colours half way
		},
	})
}

// screenshots keeps the page as it looks on a desk and on a phone, by day and by
// night. It checks each: see wantAccessible. A phone must have no need to scroll sideways,
// nor a page that is magnified until it is 320 pixels wide.
func (tab *tab) screenshots(name string) {
	tab.t.Helper()
	tab.emulate(screen{"narrow", 320, 740, 1}, "light")
	tab.wantNoSidewaysScroll(name, 320)
	for _, screen := range []screen{phoneScreen, desktop} {
		for _, scheme := range []string{"light", "dark"} {
			tab.emulate(screen, scheme)
			tab.wantNoSidewaysScroll(name, screen.width)
			image := step(tab, "take a screenshot", chromedp.FullScreenshot(100)) // PNG
			file := strings.Join([]string{name, screen.name, scheme}, "-") + ".png"
			if err := os.WriteFile(filepath.Join(tab.folder, file), image, 0o600); err != nil {
				tab.t.Fatal(err)
			}
			tab.wantAccessible(strings.Join([]string{"page", name, screen.name, scheme}, " "))
		}
	}
}

func (tab *tab) wantNoSidewaysScroll(name string, screen int64) {
	tab.t.Helper()
	if width := step(tab, "measure", chromedp.Evaluate[int64](`document.documentElement.scrollWidth`)); width > screen {
		tab.t.Errorf("page %s is %d pixels wide on a screen of %d", name, width, screen)
	}
}

// cookie returns the browser's cookie of the session, or nil.
func (tab *tab) cookie() *network.Cookie {
	tab.t.Helper()
	for _, cookie := range call(tab, network.GetCookies, network.GetCookiesParams{}).Cookies {
		if cookie.Name == sessionName {
			return cookie
		}
	}
	return nil
}
