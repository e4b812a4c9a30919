package mongostore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/mongo"
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
	// A visitor who has left has logged out all the same.
	ctx = context.WithoutCancel(ctx)
	var err error
	for _, id := range st.knownIDs(session) {
		key := keyOf(id)
		if err == nil { // or the visitor would wait for each one in vain
			_, err = s.deleteDocument(ctx, byKey(key))
		}
		if errors.Is(err, errUnacknowledged) {
			return err
		}
		if err != nil {
			warning := "mongostore: session not removed yet, the deletion will be repeated"
			if !s.repeatRemoval(ctx, key, true) {
				warning = "mongostore: session not removed, and the store is closed"
			}
			s.logger().WarnContext(ctx, warning, "error", err, "collection", s.coll.Name())
		}
		st.end()
	}
	_ = s.removeOld(ctx, st)
	cookie, err := newCookie(session.Name(), "", own)
	if err != nil {
		st.withdraw(w)
		return err
	}
	st.expireCookie(w, cookie)
	return nil
}

// knownIDs returns the IDs that a removal has to delete the documents of.
func (st *state) knownIDs(session *sessions.Session) []string {
	switch {
	case st.removed:
		return nil
	case st.id != "":
		return append([]string{st.id}, st.others...)
	case len(st.others) > 0:
		return st.others
	case session.ID != "":
		return []string{session.ID} // of a session that another store made
	default:
		return nil
	}
}

// maxAbandoned bounds the list of removals that do not matter for security.
const maxAbandoned = 1000

// removals are the deletions that have failed so far. Their sessions are dead for
// this store.
type removals struct {
	mu      sync.Mutex
	keys    map[string]bool // true while there is a document to be deleted
	moves   map[string]int  // moves under way from a key, until whose end it stays in keys
	running bool
}

func (q *removals) pending(key string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	_, ok := q.keys[key]
	return ok
}

// add reports whether the deletions have to be started.
func (q *removals) add(key string, matters bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.keys == nil {
		q.keys = map[string]bool{}
	}
	if !matters && len(q.keys) >= maxAbandoned {
		return false
	}
	q.keys[key] = true
	start := !q.running
	q.running = true
	return start
}

// next returns any key to be deleted; ok is false, and the work over, if there is none.
func (q *removals) next() (key string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for key, left := range q.keys {
		if left {
			return key, true
		}
	}
	q.running = false
	return "", false
}

// stop takes down that nobody is at work, though there is some left.
func (q *removals) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running = false
}

func (q *removals) done(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.moves[key] > 0 {
		q.keys[key] = false
		return
	}
	delete(q.keys, key)
}

// enter and leave enclose a move away from a key.
func (q *removals) enter(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.moves == nil {
		q.moves = map[string]int{}
	}
	q.moves[key]++
}

func (q *removals) leave(key string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.moves[key]--; q.moves[key] > 0 {
		return
	}
	delete(q.moves, key)
	if left, ok := q.keys[key]; ok && !left {
		delete(q.keys, key)
	}
}

// repeatRemoval deletes a document in the background, as often as it takes. With matters
// unset, as for a document whose ID nobody has been told, it may be left to
// expire when there is too much to do. It reports whether the store is open.
func (s *Store) repeatRemoval(ctx context.Context, key string, matters bool) bool {
	return !s.removals.add(key, matters) || s.tasks.start(ctx, s.repeatRemovals)
}

func (s *Store) repeatRemovals(ctx context.Context) {
	wait := firstRetry
	for {
		key, ok := s.removals.next()
		if !ok {
			return
		}
		// What is not acknowledged was sent all the same, and is not to be repeated
		// for ever.
		_, err := s.deleteDocument(ctx, byKey(key))
		if err == nil || errors.Is(err, errUnacknowledged) {
			s.removals.done(key)
			wait = firstRetry
			continue
		}
		if errors.Is(err, mongo.ErrClientDisconnected) {
			// By the application, for good. Without the store's Close there is nobody else
			// to end this.
			s.finishRemovals(context.WithoutCancel(ctx))
			return
		}
		select {
		case <-ctx.Done():
			s.finishRemovals(context.WithoutCancel(ctx))
			return
		case <-time.After(wait):
			wait = min(2*wait, lastRetry)
		}
	}
}

// finishRemovals is a last attempt, while Close waits or when the client is gone.
func (s *Store) finishRemovals(ctx context.Context) {
	for {
		key, ok := s.removals.next()
		if !ok {
			return
		}
		if _, err := s.deleteDocument(ctx, byKey(key)); err != nil && !errors.Is(err, errUnacknowledged) {
			s.removals.stop()
			s.logger().WarnContext(ctx, "mongostore: closed before all sessions were removed", "error", err, "collection", s.coll.Name())
			return
		}
		s.removals.done(key)
	}
}

// Remove deletes a session. It returns nil if the session is already gone, or was
// never stored, and [ErrUnavailable] if the database fails; then the session may still
// be there, and Remove can be called again. The browser keeps its cookie, which is worth
// nothing.
func (s *Store) Remove(ctx context.Context, session *sessions.Session) error {
	if session == nil {
		return errors.New("mongostore: remove session: session is nil")
	}
	st := s.states.of(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	ids := st.knownIDs(session)
	for _, id := range ids {
		if _, err := s.deleteDocument(ctx, byKey(keyOf(id))); err != nil {
			return fmt.Errorf("mongostore: remove session: %w", err)
		}
	}
	if len(ids) > 0 {
		st.end()
	}
	if err := s.removeOld(ctx, st); err != nil {
		return fmt.Errorf("mongostore: remove session: %w: %w", ErrUnavailable, err)
	}
	return nil
}
