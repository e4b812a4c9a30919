package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/mongostore/mongostore"
)

// watched replaces the store's Watch, which the embedded server does not support, by a channel
// of events.
func (s *site) watched(t *testing.T) chan<- mongostore.Event {
	t.Helper()
	until(t, "the server's answer is known", func() bool { return !s.shop.live.works() })
	events := make(chan mongostore.Event)
	s.shop.live = newLive(t.Context(), watch(events), slog.New(slog.NewTextHandler(s.log, nil)))
	t.Cleanup(s.shop.live.close)
	return events
}

func watch(events <-chan mongostore.Event) func(context.Context) iter.Seq2[mongostore.Event, error] {
	return func(ctx context.Context) iter.Seq2[mongostore.Event, error] {
		return func(yield func(mongostore.Event, error) bool) {
			for {
				select {
				case event := <-events:
					if !yield(event, nil) {
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}
	}
}

// listening returns how many pages listen for the end of a session.
func (l *live) listening(key string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pages[key])
}

// listen opens the stream of events and returns its lines, which end with the stream.
func (b *browser) listen() <-chan string {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, b.base+"/events", nil)
	if err != nil {
		b.t.Fatal(err)
	}
	answer, err := b.client.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = answer.Body.Close() })
	if kind := answer.Header.Get("Content-Type"); answer.StatusCode != http.StatusOK || kind != "text/event-stream" {
		b.t.Errorf("the stream of events has status %d and type %q", answer.StatusCode, kind)
	}
	if cookies := answer.Cookies(); len(cookies) > 0 {
		b.t.Errorf("the stream of events sets cookies: %v", cookies)
	}
	lines := make(chan string, 100)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(answer.Body); scanner.Scan(); {
			if scanner.Text() != "" {
				lines <- scanner.Text()
			}
		}
	}()
	return lines
}

func rest(lines <-chan string) string {
	var all []string
	for line := range lines {
		all = append(all, line)
	}
	return strings.Join(all, "\n")
}

const endedEvent = "event: ended\ndata: ended"

func TestOpenPageNoticesLogout(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	events := site.watched(t)
	b := site.loggedIn(t, "Ada", firefoxWindows)
	page := b.get("/")
	page.shows(t, 200, `src="/static/live.js"`, "Open pages notice it immediately")
	b.get("/devices").shows(t, 200, `src="/static/live.js"`)
	newBrowser(t, site.url).get("/").shows(t, 200, "!live.js")
	other := site.loggedIn(t, "Eve", firefoxWindows)

	lines, others := b.listen(), other.listen()
	if first := <-lines; first != "retry: 2000" {
		t.Errorf("the stream begins with %q", first)
	}
	key := site.key(t, "Ada", "Firefox")
	session := site.session(t, b)
	if err := site.store.Revoke(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	events <- mongostore.Event{Key: key}
	if text := rest(lines); text != endedEvent {
		t.Errorf("the stream has %q", text)
	}
	until(t, "the page is forgotten", func() bool { return site.shop.live.listening(key) == 0 })
	if n := site.shop.live.listening(site.key(t, "Eve", "Firefox")); n != 1 {
		t.Errorf("%d pages of another user listen, want 1", n)
	}
	// A request with the cookie of an ended session gets its answer immediately.
	if text := rest(b.listen()); text != endedEvent {
		t.Errorf("the stream for session %t has %q", session.IsNew, text)
	}
	site.shop.live.close()
	if text := rest(others); text != "retry: 2000" {
		t.Errorf("the stream of another user has %q", text)
	}
}

// The page of a session that was renewed asks again, with the cookie that the browser has then.
func TestOpenPageOutlivesRenewal(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	events := site.watched(t)
	b := site.loggedIn(t, "Ada", firefoxWindows)
	copied := http.Header{"Cookie": {b.cookie()}}
	lines := b.listen()
	key := site.key(t, "Ada", "Firefox")
	b.post("/devices/sign-out-others").redirectsTo(t, "/devices")
	renewed := site.key(t, "Ada", "Firefox")
	events <- mongostore.Event{Key: key, RenewedTo: renewed}
	if text := rest(lines); text != "retry: 2000" {
		t.Errorf("the stream has %q", text)
	}
	b.listen()
	until(t, "the page listens for its new session", func() bool { return site.shop.live.listening(renewed) == 1 })

	// A copy of the old cookie hears nothing of the new session, and cannot end it.
	thief := newBrowser(t, site.url)
	if got := thief.do(http.MethodGet, "/events", copied, nil); !strings.Contains(got.body, endedEvent) {
		t.Errorf("the copied cookie gets %q", got.body)
	}
	thief.do(http.MethodGet, "/login", copied, nil).takesCookie(t)
	b.get("/").shows(t, 200, helloAda)
}

// On a server without change streams the pages say that they do not notice.
func TestServerWithoutChangeStreams(t *testing.T) {
	t.Parallel()
	site := newSite(t, testURI)
	b := site.loggedIn(t, "Ada", firefoxWindows)
	until(t, "the server's answer is known", func() bool { return !site.shop.live.works() })
	b.get("/").shows(t, 200, "!live.js", "Open pages notice it at their next request")
	b.get("/devices").shows(t, 200, "!live.js", "notices at its next request")
	if got := b.get("/events"); got.status != http.StatusNoContent {
		t.Errorf("status %d, want 204", got.status)
	}
}

func TestWatchFails(t *testing.T) {
	t.Parallel()
	log := &lockedBuffer{}
	failing := func(ctx context.Context) iter.Seq2[mongostore.Event, error] {
		return func(yield func(mongostore.Event, error) bool) { yield(mongostore.Event{}, errors.New("no primary")) }
	}
	l := newLive(t.Context(), failing, slog.New(slog.NewTextHandler(log, nil)))
	until(t, "the failure is logged", func() bool { return strings.Contains(log.String(), "no primary") })
	if !l.works() {
		t.Error("a failure that can pass has ended the watch")
	}
	l.close()

	unsupported := func(ctx context.Context) iter.Seq2[mongostore.Event, error] {
		return func(yield func(mongostore.Event, error) bool) {
			yield(mongostore.Event{}, fmt.Errorf("standalone: %w", errors.ErrUnsupported))
		}
	}
	l = newLive(t.Context(), unsupported, slog.New(slog.DiscardHandler))
	until(t, "the pages do without", func() bool { return !l.works() })
}
