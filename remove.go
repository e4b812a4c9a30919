package mongostore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/mongostore/mongostore/internal/mongoerr"
)

// Remove ends a session. It returns nil if the session has already ended or was never
// stored. If the database fails, the error is [ErrUnavailable], the session may still be
// valid, and Remove can be called again. The browser keeps its cookie, which is no longer valid.
func (s *Store) Remove(ctx context.Context, session *sessions.Session) error {
	if session == nil {
		return errors.New("mongostore: remove session: session is nil")
	}
	st := s.states.of(session)
	st.mu.Lock()
	defer st.mu.Unlock()
	return s.remove(ctx, session, st)
}

func (s *Store) remove(ctx context.Context, session *sessions.Session, st *state) error {
	endings := s.endings(session, st)
	if err := s.endAll(ctx, endings); err != nil {
		return fmt.Errorf("mongostore: remove session: %w", err)
	}
	if len(endings) > 0 {
		st.end()
	}
	if err := s.removeOld(ctx, nil, st, sessions.Options{}); err != nil {
		return fmt.Errorf("mongostore: remove session: %w: %w", ErrUnavailable, err)
	}
	return nil
}

// logout is Save with a negative MaxAge. A database error is logged as a warning.
func (s *Store) logout(r *http.Request, w http.ResponseWriter, session *sessions.Session, st *state, o *sessions.Options) error {
	ctx := context.WithoutCancel(r.Context()) // a user who has disconnected has still logged out
	endings := s.endings(session, st)
	more, old := s.otherOldSessions(ctx, r, session.Name(), st)
	endings = append(endings, more...)
	err := s.endAll(ctx, endings)
	if errors.Is(err, errUnacknowledged) {
		return fmt.Errorf("mongostore: remove session: %w", err)
	}
	if err != nil {
		warning := "mongostore: session not removed yet, the deletion will be retried"
		for _, e := range endings {
			if !s.retry(ctx, e) {
				warning = "mongostore: session not removed, and the store is closed"
			}
		}
		s.logger().WarnContext(ctx, warning, "error", err, "collection", s.coll.Name())
	}
	if len(endings) > 0 {
		st.end()
	}
	cookie, err := newCookie(session.Name(), "", o)
	if err != nil {
		st.withdrawCookie(w)
		return fmt.Errorf("mongostore: remove session: %w", err)
	}
	_ = s.removeOld(ctx, w, st, *o)
	for _, origin := range old {
		_ = s.removeFromOld(ctx, w, origin, *o)
	}
	st.expireCookie(w, cookie)
	return nil
}

// ending is a session to end.
type ending struct {
	hash  string
	grave *meta // the tombstone to leave; nil for a deletion
}

// endings returns the sessions that a logout of the session has to end.
func (s *Store) endings(session *sessions.Session, st *state) (endings []ending) {
	if st.ended {
		return nil
	}
	switch {
	case st.stored && !st.record.migratedUntil.IsZero():
		grave := st.record.toTombstone("", now())
		endings = append(endings, ending{st.record.hash, &grave})
	case st.stored:
		endings = append(endings, ending{hash: st.record.hash})
	case !st.known && session.ID != "":
		endings = append(endings, ending{hash: hashID(session.ID)})
	}
	if o := st.origin; o != nil && o.id != "" {
		endings = append(endings, o.ending())
	}
	for _, id := range st.others {
		endings = append(endings, ending{hash: hashID(id)})
	}
	ids := append(slices.Clone(st.others), st.id)
	if session.ID != st.id {
		ids = append(ids, session.ID)
	}
	for _, id := range ids { // and what they were renewed from
		if c, _ := s.parseID(id); c.from != "" {
			endings = append(endings, ending{hash: c.from})
		}
	}
	return endings
}

// end records that the application has ended the session.
func (st *state) end() {
	st.ended = true
	_ = st.gone()
}

// endAll ends the session of a request, and those of the request's other cookies.
func (s *Store) endAll(ctx context.Context, endings []ending) error {
	var others []string
	for i, e := range endings {
		if i > 0 && e.grave == nil {
			others = append(others, e.hash)
		} else if err := s.end(ctx, e); err != nil {
			return err
		}
	}
	if len(others) == 0 {
		return nil
	}
	if n, err := s.deleteDocuments(ctx, endable(others...)); err != nil || int(n) == len(others) {
		return err
	}
	var left []string
	err := s.eachDocument(ctx, byHashes(others), func(doc bson.Raw) bool {
		if hash, ok := doc.Lookup(fieldID).StringValueOK(); ok { // also of a damaged one
			left = append(left, hash)
		}
		return true
	}, withoutValues())
	for _, hash := range left {
		if err == nil {
			err = s.end(ctx, ending{hash: hash})
		}
	}
	return err
}

// end ends the session of a hash, and those that it was renewed to. In the common case this is
// one deletion.
func (s *Store) end(ctx context.Context, e ending) error {
	for attempts, renewals := 0, 0; attempts < maxAttempts && renewals < maxRenewals; attempts++ {
		if done, err := s.tryEnd(ctx, e); done || err != nil {
			return err
		}
		doc, err := s.findDocument(ctx, e.hash)
		if errors.Is(err, ErrNotFound) && e.grave == nil {
			return nil
		}
		if errors.Is(err, ErrNotFound) {
			done, err := s.insertTombstone(ctx, e.grave)
			if done || err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		m, _, err := parseMeta(doc, e.hash)
		switch {
		case errors.Is(err, errMisdelivered):
			return unavailable(err)
		case err != nil:
			if _, err := s.deleteDocument(ctx, damaged(e.hash)); err != nil || e.grave == nil {
				return err
			}
		case m.tombstone && m.movedTo == "":
			return nil
		case m.tombstone:
			e = ending{hash: m.movedTo}
			attempts, renewals = -1, renewals+1
		case !m.migratedUntil.IsZero():
			grave := m.toTombstone("", now())
			e.grave = &grave
		}
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, errContended)
}

// tryEnd reports whether it has ended a live session.
func (s *Store) tryEnd(ctx context.Context, e ending) (bool, error) {
	if e.grave != nil {
		return s.updateDocument(ctx, guards{stored: true}.filter(e.hash), e.grave.burial())
	}
	return s.deleteDocument(ctx, endable(e.hash))
}

// insertTombstone reports whether it has stored a tombstone where there was no document.
func (s *Store) insertTombstone(ctx context.Context, grave *meta) (bool, error) {
	err := s.insertDocument(ctx, s.codec.document(&record{meta: *grave}))
	if mongoerr.HasCode(err, mongoerr.DuplicateKey) {
		return false, nil
	}
	return err == nil, err
}

// retry ends a session in the background, and retries until it succeeds. It reports whether
// the store is open.
func (s *Store) retry(ctx context.Context, e ending) bool {
	if !s.removals.add(e) || s.tasks.start(ctx, s.retryRemovals) {
		return true
	}
	s.removals.stop()
	return false
}

// abandon deletes a document whose ID was never sent.
func (s *Store) abandon(ctx context.Context, hash string) {
	if s.end(ctx, ending{hash: hash}) != nil {
		s.discard(ctx, hash)
	}
}

// discard is abandon in the background. If too many deletions are pending, the document is
// left to expire.
func (s *Store) discard(ctx context.Context, hash string) {
	const most = 1000 // such deletions only free disk space
	if s.removals.count() < most {
		s.retry(ctx, ending{hash: hash})
	}
}

func (s *Store) retryRemovals(ctx context.Context) {
	const shortest, longest = 100 * time.Millisecond, 30 * time.Second
	wait := shortest
	for {
		e, ok := s.removals.next()
		if !ok {
			return
		}
		err := s.end(ctx, e)
		if err == nil || errors.Is(err, errUnacknowledged) { // the latter was sent, and its result stays unknown
			s.removals.done(e)
			wait = shortest
			continue
		}
		if errors.Is(err, mongo.ErrClientDisconnected) {
			// The application has disconnected the client, and may never call Close.
			s.finishRemovals(context.WithoutCancel(ctx))
			return
		}
		select {
		case <-ctx.Done():
			s.finishRemovals(context.WithoutCancel(ctx))
			return
		case <-time.After(wait):
			wait = min(2*wait, longest)
		}
	}
}

// finishRemovals makes a last attempt, while Close waits or when the client is disconnected.
func (s *Store) finishRemovals(ctx context.Context) {
	for {
		e, ok := s.removals.next()
		if !ok {
			return
		}
		if err := s.end(ctx, e); err != nil && !errors.Is(err, errUnacknowledged) {
			s.removals.stop()
			s.logger().WarnContext(ctx, "mongostore: closed before all sessions were removed", "error", err, "collection", s.coll.Name())
			return
		}
		s.removals.done(e)
	}
}
