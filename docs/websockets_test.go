package docs_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/gorilla/sessions"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// socketHub has the sockets of the page, by the keys of their sessions.
type socketHub map[string]*socket

func (h socketHub) add(key string, s *socket)    { h[key] = s }
func (h socketHub) remove(key string, _ *socket) { delete(h, key) }

func (h socketHub) end(key string) {
	if s := h[key]; s != nil {
		_ = s.Close()
	}
}

type socket struct{ closed bool }

func (s *socket) Close() error {
	s.closed = true
	return nil
}

func openSocket(ctx context.Context, store *mongostore.Store, hub socketHub, session *sessions.Session, socket *socket) error {
	key, err := store.Key(session)
	if err != nil {
		return err
	}
	hub.add(key, socket)
	defer hub.remove(key, socket)
	if _, err := store.Fetch(ctx, session.Name(), session.ID); errors.Is(err, mongostore.ErrNotFound) {
		return socket.Close()
	}
	return nil
}

func closeSockets(ctx context.Context, store *mongostore.Store, hub socketHub) error {
	for event, err := range store.Watch(ctx) {
		if err != nil {
			return err
		}
		hub.end(event.Key)
	}
	return nil
}

// TestWebsocketsPageShowsTheCode: the code on the page is that above.
func TestWebsocketsPageShowsTheCode(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("docs/websockets_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := blocksOf(t, "docs/websockets.md", "go")
	for _, block := range blocks {
		indented := "\n\t" + strings.ReplaceAll(strings.TrimSuffix(block, "\n"), "\n", "\n\t") + "\n"
		if !strings.Contains(string(source), indented) {
			t.Errorf("not in websockets_test.go:\n%s", block)
		}
	}
	if len(blocks) != 2 {
		t.Errorf("%d blocks of Go", len(blocks))
	}
}

// TestSocketOfAnEndedSession: the socket of a live session stays open, that of one which ended
// before it was registered is closed, and the loop ends with its context. What Watch reports is
// tested beside it.
func TestSocketOfAnEndedSession(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	hub, b := socketHub{}, f.Browser().Login()
	live := new(socket)
	if err := openSocket(t.Context(), f.Store, hub, b.Load(), live); err != nil || live.closed || len(hub) != 0 {
		t.Errorf("of a live session: closed %t, error %v, registered %v", live.closed, err, hub)
	}
	session, late := b.Load(), new(socket)
	b.Logout()
	if err := openSocket(t.Context(), f.Store, hub, session, late); err != nil || !late.closed {
		t.Errorf("of an ended session: closed %t, error %v", late.closed, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := closeSockets(ctx, f.Store, hub); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("the loop ends with %v", err)
	}
}
