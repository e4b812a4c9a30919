package mongostore_test

import (
	"errors"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// Histories that the model taught: each is what one of its failures shrank to, over the store as
// it was, or with a mistake made on purpose.

// TestRenewalLearnsMaxAge: another request has chosen "remember me"; the cookie of a renewal says
// so too, or the visitor would be forgotten with the browser's end.
func TestRenewalLearnsMaxAge(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.Options = &sessions.Options{Path: "/"} })
	b := f.Browser().Login()
	held := b.Load()
	b.Clone().Do(func(s *sessions.Session) { s.Options.MaxAge = 7200 })
	w, err := b.Renew(held)
	if err != nil {
		t.Fatal(err)
	}
	cookies := w.Result().Cookies()
	if len(cookies) != 1 || cookies[0].MaxAge != 7200 || held.Options.MaxAge != 7200 {
		t.Errorf("cookies %v, of a session with MaxAge %d", cookies, held.Options.MaxAge)
	}
	if s := b.Load(); s.IsNew || s.Options.MaxAge != 7200 {
		t.Errorf("new: %t, MaxAge %d", s.IsNew, s.Options.MaxAge)
	}
}

// TestRenewalLearnsOwner: another request has taken the user out of the session, or put one in; the
// renewed session is nobody else's.
func TestRenewalLearnsOwner(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ before, then any }{{1, nil}, {1, 2}, {nil, 2}, {1, ""}} {
		f := storetest.SetupOwners(t)
		put := func(user any) func(*sessions.Session) {
			return func(s *sessions.Session) {
				delete(s.Values, "user")
				if user != nil {
					s.Values["user"] = user
				}
			}
		}
		b := f.Browser()
		b.Do(put(row.before))
		held := b.Load()
		b.Clone().Do(put(row.then))
		if _, err := b.Renew(held); err != nil {
			t.Fatal(err)
		}
		owner, ok := f.Document().Lookup("owner").AsInt64OK()
		if want, owned := row.then.(int); ok != owned || int(owner) != want || held.Values["user"] != row.then {
			t.Errorf("%v, then %v: the owner is %d (%t), of a session of %v", row.before, row.then, owner, ok, held.Values["user"])
		}
	}
}

// TestShorterLifeAndUnawareSave: a request that does not know of the session's new, shorter MaxAge
// grants it a longer life; the session ends by its MaxAge all the same. A request that has held it
// since before then does not bring it back, nor is it listed.
func TestShorterLifeAndUnawareSave(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"change", "touch", "renew"} {
		f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey, c.TouchInterval = "user", 1 })
		b := f.Browser().Login()
		unaware, held := b.Load(), b.Load()
		b.Do(func(s *sessions.Session) { s.Options.MaxAge = 7200 })
		aware := b.Load()
		if how != "touch" {
			unaware.Values["n"] = 1
		}
		seen := f.Document().Lookup("seenAt").Time()
		storetest.Eventually(t, "a touch is due", func() bool { return time.Since(seen) > 2*time.Millisecond })
		if _, err := b.Clone().Save(unaware); err != nil {
			t.Fatal(err)
		}
		doc := f.Document()
		storetest.WantTime(t, doc, "expiresAt", time.Now().Add(30*24*time.Hour))
		if infos := storetest.SessionsOf(t, f.Store, "ada"); len(infos) != 1 || infos[0].ExpiresAt.After(time.Now().Add(2*time.Hour)) {
			t.Errorf("%s: listed: %v", how, infos)
		}

		passed := bson.D{} // three hours
		for _, date := range []string{"createdAt", "seenAt", "expiresAt"} {
			passed = append(passed, bson.E{Key: date, Value: doc.Lookup(date).Time().Add(-3 * time.Hour)})
		}
		f.Edit(bson.D{{Key: "$set", Value: passed}})
		for _, session := range []*sessions.Session{held, aware} {
			session.Values["n"] = 2
			save := b.Clone().Save
			if how == "renew" {
				save = b.Clone().Renew
			}
			if w, err := save(session); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
				t.Errorf("%s: error %v", how, err)
			}
		}
		if !b.Load().IsNew || len(storetest.SessionsOf(t, f.Store, "ada")) != 0 {
			t.Errorf("%s: the session is back, or listed", how)
		}
	}
}

// TestConflictAfterMerge: a save under Reject that others' changes did not stand in the way of has
// not shown them to its session; a change of the same key is a conflict still.
func TestConflictAfterMerge(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OnConflict = mongostore.Reject })
	b := f.Browser().Login()
	held := b.Load()
	b.Do(func(s *sessions.Session) { s.Values["theirs"] = 1 })
	held.Values["ours"] = 1
	if _, err := b.Save(held); err != nil {
		t.Fatal(err)
	}
	held.Values["theirs"] = 2
	if _, err := b.Save(held); !errors.Is(err, mongostore.ErrConflict) {
		t.Errorf("error: %v", err)
	}
	if s := b.Load(); s.Values["theirs"] != 1 || s.Values["ours"] != 1 {
		t.Errorf("stored: %v", s.Values)
	}
}

// TestRenewalCarriesDeletion: what another request has deleted does not come back under the new ID.
func TestRenewalCarriesDeletion(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	b.Do(func(s *sessions.Session) { s.Values["voucher"] = "once" })
	held := b.Load()
	b.Clone().Do(func(s *sessions.Session) { delete(s.Values, "voucher") })
	if _, err := b.Renew(held); err != nil {
		t.Fatal(err)
	}
	if _, kept := held.Values["voucher"]; kept || b.Load().Values["voucher"] != nil {
		t.Errorf("the session holds %v, and %v once loaded", held.Values, b.Load().Values)
	}
}
