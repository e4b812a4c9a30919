package mongostore_test

import (
	"testing"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestRenewalKeepsItsChange: what a renewal itself changes, it still does if another request
// changes the key in the same way, and then a third in another, all before the renewal
// is done.
func TestRenewalKeepsItsChange(t *testing.T) {
	t.Parallel()
	for _, deletes := range []bool{true, false} {
		f := storetest.Setup(t)
		b := f.Browser().Login()
		b.Clone().Do(func(s *sessions.Session) { s.Values["a"], s.Values["b"] = 1, 1 })
		session := b.Load()
		second := bson.D{{Key: "$unset", Value: bson.D{{Key: "values.a", Value: ""}}}}
		if deletes {
			delete(session.Values, "a")
		} else {
			session.Values["a"] = 5
			second = bson.D{{Key: "$set", Value: bson.D{{Key: "values.a", Value: 5}}}}
		}
		third := bson.D{{Key: "$set", Value: bson.D{{Key: "values.a", Value: 9}, {Key: "values.b", Value: 9}}}}

		// Both come from another process, before the renewal marks the old document,
		// and before it has brought the first of them into the new one.
		seen, marks, brings := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
		f.Wire.On("update", storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: marks})
		done := make(chan error, 1)
		go func() {
			_, err := b.Renew(session)
			done <- err
		}()
		<-seen
		raise := bson.E{Key: "$inc", Value: bson.D{{Key: "rev", Value: 1}}}
		old := bson.D{{Key: "_id", Value: storetest.HashOf(session.ID)}}
		if _, err := f.Coll.UpdateOne(t.Context(), old, append(second, raise)); err != nil {
			t.Fatal(err)
		}
		f.Wire.On("update", storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: brings})
		close(marks)
		<-seen
		if _, err := f.Coll.UpdateOne(t.Context(), old, append(third, raise)); err != nil {
			t.Fatal(err)
		}
		close(brings)
		if err := <-done; err != nil {
			t.Fatal(err)
		}

		for what, s := range map[string]*sessions.Session{"afterwards": session, "stored": b.Load()} {
			a, found := s.Values["a"]
			if deletes && found || !deletes && a != 5 {
				t.Errorf("%s: a is %v, %t", what, a, found)
			}
			if s.Values["b"] != 9 {
				t.Errorf("%s: b is %v", what, s.Values["b"])
			}
		}
		f.WantDocuments(1)
	}
}

// TestRenewalKeepsItsOwner: a login by renewal stays that user's session, whoever else
// logs in meanwhile.
func TestRenewalKeepsItsOwner(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "uid" })
	b := f.Browser()
	b.Do(func(s *sessions.Session) { s.Values["cart"] = 1 })
	other, session := b.Clone(), b.Load()
	session.Values["uid"] = 42
	seen, marks, brings := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	f.Wire.On("update", storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: marks})
	done := make(chan error, 1)
	go func() {
		_, err := b.Renew(session)
		done <- err
	}()
	<-seen
	other.Do(func(s *sessions.Session) { s.Values["uid"] = 42 })
	f.Wire.On("update", storetest.Rule{Kind: storetest.Hold, Once: true, Seen: seen, Gate: brings})
	close(marks)
	<-seen
	other.Do(func(s *sessions.Session) { s.Values["uid"] = 43 })
	close(brings)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := b.Load().Values["uid"]; got != 42 || session.Values["uid"] != 42 {
		t.Errorf("uid is %v in the database, %v in the session", got, session.Values["uid"])
	}
	if owner := f.Document().Lookup("owner").AsInt64(); owner != 42 {
		t.Errorf("the owner is %d", owner)
	}
}
