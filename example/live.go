package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/mongostore/mongostore"
)

// Pages that are open when their session ends: each listens to /events, and goes to the login
// page. This needs a replica set, whose change stream Store.Watch reads. On a standalone server
// a page notices at its next request.

const (
	watchAgain  = 5 * time.Second  // after the change stream has failed
	lookAgain   = 30 * time.Second // for what the change stream may have missed
	sendTimeout = 10 * time.Second
)

// live passes the ends of sessions on to the pages that are open.
type live struct {
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	off   bool // the server has no change streams
	pages map[string]map[chan mongostore.Event]bool
}

// newLive starts the one Watch of this process.
func newLive(ctx context.Context, watch func(context.Context) iter.Seq2[mongostore.Event, error], logger *slog.Logger) *live {
	l := &live{log: logger, pages: make(map[string]map[chan mongostore.Event]bool)}
	l.ctx, l.cancel = context.WithCancel(ctx)
	go l.run(watch)
	return l
}

func (l *live) run(watch func(context.Context) iter.Seq2[mongostore.Event, error]) {
	for l.ctx.Err() == nil {
		for event, err := range watch(l.ctx) {
			switch {
			case errors.Is(err, errors.ErrUnsupported):
				l.log.Debug("open pages will not notice that their session ends", "error", err)
				l.mu.Lock()
				l.off = true
				l.mu.Unlock()
				return
			case err != nil:
				l.log.Warn("sessions are not watched for a moment", "error", err)
			default:
				l.pass(event)
			}
		}
		select {
		case <-time.After(watchAgain):
		case <-l.ctx.Done():
		}
	}
}

func (l *live) pass(event mongostore.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for page := range l.pages[event.Key] {
		select {
		case page <- event:
		default: // it has one already, and one is enough
		}
	}
}

// join returns a channel that gets an event when the session of the key ends.
func (l *live) join(key string) (page chan mongostore.Event, leave func()) {
	page = make(chan mongostore.Event, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pages[key] == nil {
		l.pages[key] = make(map[chan mongostore.Event]bool)
	}
	l.pages[key][page] = true
	return page, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.pages[key], page)
		if len(l.pages[key]) == 0 {
			delete(l.pages, key)
		}
	}
}

// works reports whether open pages notice the end of their session.
func (l *live) works() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.off
}

func (l *live) close() { l.cancel() }

// events is a stream of server-sent events with one event: the session has ended. It is no user
// activity, so it is not behind the middleware, which would extend the session.
func (s *shop) events(w http.ResponseWriter, r *http.Request) error {
	if !s.live.works() {
		w.WriteHeader(http.StatusNoContent) // the browser does not come back
		return nil
	}
	session, err := s.store.Get(r, sessionName)
	if err != nil && !isInvalidCookie(err) {
		http.Error(w, "The session cannot be loaded.", mongostore.StatusCode(err))
		return nil
	}
	stream := &stream{w: w, rc: http.NewResponseController(w)}
	_ = stream.rc.SetReadDeadline(time.Time{}) // the server's are for short requests
	w.Header().Set("Content-Type", "text/event-stream")
	key, err := s.store.Key(session)
	if err != nil {
		return stream.send("event: ended\ndata: ended\n\n")
	}
	page, leave := s.live.join(key)
	defer leave()
	if err := stream.send("retry: 2000\n\n"); err != nil {
		return nil // the user has left
	}

	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	for {
		// First, since the session may have ended before join.
		if _, err := s.store.Fetch(r.Context(), sessionName, session.ID); errors.Is(err, mongostore.ErrNotFound) {
			// If it was renewed in another window, the browser has a new cookie or is about to
			// get it: the stream ends, and the browser opens another one.
			if !renewed(page) {
				_ = stream.send("event: ended\ndata: ended\n\n")
			}
			return nil
		}
		select {
		case event := <-page:
			if event.RenewedTo == "" {
				_ = stream.send("event: ended\ndata: ended\n\n")
			}
			return nil
		case <-ticker.C:
			if err := stream.send(": still here\n\n"); err != nil {
				return nil
			}
		case <-r.Context().Done():
			return nil
		case <-s.live.ctx.Done():
			return nil
		}
	}
}

// renewed reports whether the event that a page has got, if any, is a renewal.
func renewed(page <-chan mongostore.Event) bool {
	select {
	case event := <-page:
		return event.RenewedTo != ""
	default:
		return false
	}
}

// stream sends server-sent events.
type stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

func (s *stream) send(text string) error {
	_ = s.rc.SetWriteDeadline(time.Now().Add(sendTimeout))
	if _, err := fmt.Fprint(s.w, text); err != nil {
		return err
	}
	return s.rc.Flush()
}
