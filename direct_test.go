package mongostore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestFetch gets a session by its ID, and Persist and Remove keep what Save promises.
func TestFetch(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Do(func(s *sessions.Session) { s.Values["user"], s.Options.MaxAge = "ada", 3600 })
	id := b.Load().ID
	f.Log.Reset()

	session, err := f.Store.Fetch(t.Context(), storetest.Name, id)
	if err != nil {
		t.Fatal(err)
	}
	if session.ID != id || session.IsNew || session.Values["user"] != "ada" || session.Options.MaxAge != 3600 || session.Name() != storetest.Name {
		t.Errorf("session: %+v", session)
	}
	if err := f.Store.Persist(t.Context(), session); err != nil {
		t.Error(err)
	}
	f.WantCommands("find")
	session.Values["n"] = 1
	if err := f.Store.Persist(t.Context(), session); err != nil {
		t.Error(err)
	}
	f.WantCommands("update")
	// At the same time a browser changed another key.
	b.Do(func(s *sessions.Session) { s.Values["m"] = 2 })
	session.Values["n"] = 3
	if err := f.Store.Persist(t.Context(), session); err != nil {
		t.Error(err)
	}
	if s := b.Load(); s.Values["n"] != 3 || s.Values["m"] != 2 {
		t.Errorf("values: %v", s.Values)
	}
	// It can be saved in a request, too.
	if _, err := b.Save(session); err != nil {
		t.Error(err)
	}

	other, err := f.Store.Fetch(t.Context(), storetest.Name, id)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Store.Remove(t.Context(), other); err != nil {
		t.Error(err)
	}
	if err := f.Store.Remove(t.Context(), other); err != nil {
		t.Errorf("again: %v", err)
	}
	if !b.Load().IsNew {
		t.Error("the session is alive")
	}
	session.Values["n"] = 4
	for _, s := range []*sessions.Session{session, other} {
		if err := f.Store.Persist(t.Context(), s); !errors.Is(err, mongostore.ErrGone) {
			t.Errorf("Persist after Remove: %v", err)
		}
	}
	f.WantDocuments(0)
}

// TestFetchRefused: no session for an ID that is unknown, malformed, of another name, expired or
// hashed, as it stands in the database.
func TestFetchRefused(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.Timeout = 2 * time.Second })
	b := f.Browser().Login()
	id := b.Load().ID
	for what, row := range map[string]struct {
		name, id string
		err      error
	}{
		"unknown ID":    {storetest.Name, "0123456789", mongostore.ErrNotFound},
		"no ID":         {storetest.Name, "", mongostore.ErrNotFound},
		"the key":       {storetest.Name, storetest.HashOf(id), mongostore.ErrNotFound},
		"other name":    {"other", id, mongostore.ErrNotFound},
		"odd ID":        {storetest.Name, "$ne\x00", mongostore.ErrNotFound},
		"unusable name": {"a b", id, nil},
	} {
		if s, err := f.Store.Fetch(t.Context(), row.name, row.id); err == nil || s != nil || row.err != nil && !errors.Is(err, row.err) {
			t.Errorf("%s: %v, %v", what, s, err)
		}
	}
	f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: 2}}}})
	if _, err := f.Store.Fetch(t.Context(), storetest.Name, id); !errors.Is(err, mongostore.ErrCorrupt) {
		t.Errorf("damaged: %v", err)
	}
	f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: 1}}}})
	f.Expire()
	if _, err := f.Store.Fetch(t.Context(), storetest.Name, id); !errors.Is(err, mongostore.ErrNotFound) {
		t.Errorf("expired: %v", err)
	}
	f.Wire.On("find", storetest.Rule{Kind: storetest.Hang})
	start := time.Now()
	if _, err := f.Store.Fetch(t.Context(), storetest.Name, id); !errors.Is(err, mongostore.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("hanging: %v", err)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("took %v", d)
	}
}

// TestPersistNew makes a session that a cookie can be given to later.
func TestPersistNew(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	session := sessions.NewSession(f.Store, storetest.Name)
	session.Options = nil
	session.Values["user"] = "ada"
	if err := f.Store.Persist(t.Context(), session); err != nil || session.ID == "" {
		t.Fatalf("ID %q, %v", session.ID, err)
	}
	b := f.Browser()
	if _, err := b.Save(session); err != nil {
		t.Fatal(err)
	}
	if s := b.Load(); s.Values["user"] != "ada" || s.ID != session.ID {
		t.Errorf("session: %+v", s)
	}
	session.Options = &sessions.Options{MaxAge: -1}
	if err := f.Store.Persist(t.Context(), session); err != nil {
		t.Error(err)
	}
	f.WantDocuments(0)

	if err := f.Store.Persist(t.Context(), nil); err == nil {
		t.Error("nil: no error")
	}
	if err := f.Store.Remove(t.Context(), nil); err == nil {
		t.Error("nil: no error")
	}
	if err := f.Store.Remove(t.Context(), f.Browser().Load()); err != nil {
		t.Errorf("Remove of a new session: %v", err)
	}
	// What was removed by ID alone does not come back.
	c := f.Browser().Login()
	foreign := sessions.NewSession(f.Store, storetest.Name)
	foreign.ID, foreign.Options = c.Load().ID, nil
	if err := f.Store.Remove(t.Context(), foreign); err != nil || !c.Load().IsNew {
		t.Errorf("Remove by ID: %v", err)
	}
	if err := f.Store.Persist(t.Context(), foreign); !errors.Is(err, mongostore.ErrGone) {
		t.Errorf("Persist of what was removed: %v", err)
	}
	if err := f.Store.Persist(t.Context(), sessions.NewSession(f.Store, "a b")); err == nil {
		t.Error("unusable name: no error")
	}
	f.WantDocuments(0)
}

// TestRemoveFails: the error is the caller's, who can try again.
func TestRemoveFails(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session := b.Load()
	f.Wire.On("delete", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized"), Once: true})
	if err := f.Store.Remove(t.Context(), session); !errors.Is(err, mongostore.ErrUnavailable) {
		t.Errorf("error: %v", err)
	}
	f.WantDocuments(1)
	if err := f.Store.Remove(t.Context(), session); err != nil {
		t.Error(err)
	}
	f.WantDocuments(0)
}
