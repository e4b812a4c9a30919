package mongostore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
)

// TestFetch gets a session by its ID, and Persist and Remove keep what Save promises.
func TestFetch(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser()
	b.do(func(s *sessions.Session) { s.Values["user"], s.Options.MaxAge = "ada", 3600 })
	id := b.load().ID
	f.log.reset()

	session, err := f.store.Fetch(t.Context(), name, id)
	if err != nil {
		t.Fatal(err)
	}
	if session.ID != id || session.IsNew || session.Values["user"] != "ada" || session.Options.MaxAge != 3600 || session.Name() != name {
		t.Errorf("session: %+v", session)
	}
	if err := f.store.Persist(t.Context(), session); err != nil {
		t.Error(err)
	}
	f.wantCommands("find")
	session.Values["n"] = 1
	if err := f.store.Persist(t.Context(), session); err != nil {
		t.Error(err)
	}
	f.wantCommands("update")
	// At the same time a browser changed another key.
	b.do(func(s *sessions.Session) { s.Values["m"] = 2 })
	session.Values["n"] = 3
	if err := f.store.Persist(t.Context(), session); err != nil {
		t.Error(err)
	}
	if s := b.load(); s.Values["n"] != 3 || s.Values["m"] != 2 {
		t.Errorf("values: %v", s.Values)
	}
	// It can be saved in a request, too.
	if _, err := b.save(session); err != nil {
		t.Error(err)
	}

	other, err := f.store.Fetch(t.Context(), name, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.store.Remove(t.Context(), other); err != nil {
		t.Error(err)
	}
	if err := f.store.Remove(t.Context(), other); err != nil {
		t.Errorf("again: %v", err)
	}
	if !b.load().IsNew {
		t.Error("the session is alive")
	}
	session.Values["n"] = 4
	for _, s := range []*sessions.Session{session, other} {
		if err := f.store.Persist(t.Context(), s); !errors.Is(err, mongostore.ErrGone) {
			t.Errorf("Persist after Remove: %v", err)
		}
	}
	f.wantDocuments(0)
}

// TestFetchRefused: no session for an ID that is unknown, malformed, of another name, expired or
// hashed, as it stands in the database.
func TestFetchRefused(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *mongostore.Config) { c.Timeout = 2 * time.Second })
	b := f.browser().login()
	id := b.load().ID
	for what, row := range map[string]struct {
		name, id string
		err      error
	}{
		"unknown ID":    {name, "0123456789", mongostore.ErrNotFound},
		"no ID":         {name, "", mongostore.ErrNotFound},
		"the key":       {name, hashOf(id), mongostore.ErrNotFound},
		"other name":    {"other", id, mongostore.ErrNotFound},
		"odd ID":        {name, "$ne\x00", mongostore.ErrNotFound},
		"unusable name": {"a b", id, nil},
	} {
		if s, err := f.store.Fetch(t.Context(), row.name, row.id); err == nil || s != nil || row.err != nil && !errors.Is(err, row.err) {
			t.Errorf("%s: %v, %v", what, s, err)
		}
	}
	f.edit(bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: 2}}}})
	if _, err := f.store.Fetch(t.Context(), name, id); !errors.Is(err, mongostore.ErrCorrupt) {
		t.Errorf("damaged: %v", err)
	}
	f.edit(bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: 1}}}})
	f.expire()
	if _, err := f.store.Fetch(t.Context(), name, id); !errors.Is(err, mongostore.ErrNotFound) {
		t.Errorf("expired: %v", err)
	}
	f.wire.on("find", rule{kind: hang})
	start := time.Now()
	if _, err := f.store.Fetch(t.Context(), name, id); !errors.Is(err, mongostore.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hanging: %v", err)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
}

// TestPersistNew makes a session that a cookie can be given to later.
func TestPersistNew(t *testing.T) {
	t.Parallel()
	f := setup(t)
	session := sessions.NewSession(f.store, name)
	session.Options = nil
	session.Values["user"] = "ada"
	if err := f.store.Persist(t.Context(), session); err != nil || session.ID == "" {
		t.Fatalf("ID %q, %v", session.ID, err)
	}
	b := f.browser()
	if _, err := b.save(session); err != nil {
		t.Fatal(err)
	}
	if s := b.load(); s.Values["user"] != "ada" || s.ID != session.ID {
		t.Errorf("session: %+v", s)
	}
	session.Options = &sessions.Options{MaxAge: -1}
	if err := f.store.Persist(t.Context(), session); err != nil {
		t.Error(err)
	}
	f.wantDocuments(0)

	if err := f.store.Persist(t.Context(), nil); err == nil {
		t.Error("nil: no error")
	}
	if err := f.store.Remove(t.Context(), nil); err == nil {
		t.Error("nil: no error")
	}
	if err := f.store.Remove(t.Context(), f.browser().load()); err != nil {
		t.Errorf("Remove of a new session: %v", err)
	}
	// What was removed by ID alone does not come back.
	c := f.browser().login()
	foreign := sessions.NewSession(f.store, name)
	foreign.ID, foreign.Options = c.load().ID, nil
	if err := f.store.Remove(t.Context(), foreign); err != nil || !c.load().IsNew {
		t.Errorf("Remove by ID: %v", err)
	}
	if err := f.store.Persist(t.Context(), foreign); !errors.Is(err, mongostore.ErrGone) {
		t.Errorf("Persist of what was removed: %v", err)
	}
	if err := f.store.Persist(t.Context(), sessions.NewSession(f.store, "a b")); err == nil {
		t.Error("unusable name: no error")
	}
	f.wantDocuments(0)
}

// TestRemoveFails: the error is the caller's, who can try again.
func TestRemoveFails(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser().login()
	session := b.load()
	f.wire.on("delete", rule{kind: answer, reply: refusal(13, "Unauthorized"), once: true})
	if err := f.store.Remove(t.Context(), session); !errors.Is(err, mongostore.ErrUnavailable) {
		t.Errorf("error: %v", err)
	}
	f.wantDocuments(1)
	if err := f.store.Remove(t.Context(), session); err != nil {
		t.Error(err)
	}
	f.wantDocuments(0)
}
