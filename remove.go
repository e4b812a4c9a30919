package mongostore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/sessions"
)

// Removal: a logout must not fail, and must not be undone.

// How long the store waits before it repeats a deletion that failed: the time
// doubles from the first to the second figure.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// destroy is Save with a negative MaxAge.
func (s *Store) destroy(ctx context.Context, w http.ResponseWriter, session *sessions.Session, st *state, own *sessions.Options) error {
	if id := st.knownID(session); id != "" && !errors.Is(st.err, ErrGone) {
		key := keyOf(id)
		// A visitor who has left has logged out all the same.
		ctx := context.WithoutCancel(ctx)
		_, err := s.deleteDocument(ctx, byKey(key, time.Time{}))
		switch {
		case errors.Is(err, errUnacknowledged):
			return err
		case err != nil:
			s.logger().WarnContext(ctx, "mongostore: session not removed yet, the deletion will be repeated",
				"error", err, "collection", s.coll.Name())
			s.repeatRemoval(ctx, key)
		}
		st.err = fmt.Errorf("mongostore: save session: %w", ErrGone)
	}
	cookie, err := newCookie(session.Name(), "", own)
	if err != nil {
		return err
	}
	st.cookie = setCookie(w, cookie, st.cookie)
	return nil
}

// knownID returns the ID that a document may exist for.
func (st *state) knownID(session *sessions.Session) string {
	switch {
	case st.id != "":
		return st.id
	case st.attempt != "":
		return st.attempt
	default:
		return session.ID // of a session that another store made
	}
}

// removals are the deletions that have failed so far. Their sessions are dead for
// this process.
type removals struct {
	mu      sync.Mutex
	keys    map[string]struct{}
	running bool
}

func (q *removals) pending(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, ok := q.keys[key]
	return ok
}

// add reports whether the deletions have to be started.
func (q *removals) add(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.keys == nil {
		q.keys = map[string]struct{}{}
	}
	q.keys[key] = struct{}{}
	start := !q.running
	q.running = true
	return start
}

// next returns any key to be deleted; ok is false, and the work over, if there is none.
func (q *removals) next() (key string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for key := range q.keys {
		return key, true
	}
	q.running = false
	return "", false
}

func (q *removals) done(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.keys, key)
}

// repeatRemoval deletes a document in the background, as often as it takes.
func (s *Store) repeatRemoval(ctx context.Context, key string) {
	if s.removals.add(key) {
		s.tasks.start(ctx, s.repeatRemovals)
	}
}

func (s *Store) repeatRemovals(ctx context.Context) {
	wait := firstRetry
	for {
		key, ok := s.removals.next()
		if !ok {
			return
		}
		if _, err := s.deleteDocument(ctx, byKey(key, time.Time{})); err == nil {
			s.removals.done(key)
			wait = firstRetry
			continue
		}
		select {
		case <-ctx.Done():
			s.logger().WarnContext(ctx, "mongostore: closed before all sessions were removed", "collection", s.coll.Name())
			return
		case <-time.After(wait):
			wait = min(2*wait, lastRetry)
		}
	}
}
