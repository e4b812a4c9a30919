package mongostore_test

import (
	"testing"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
)

// TestRenewalKeepsItsChange: what a renewal itself changes, it still does if another request
// changes the key in the same way, and then a third in another, all before the renewal
// is done.
func TestRenewalKeepsItsChange(t *testing.T) {
	t.Parallel()
	for _, deletes := range []bool{true, false} {
		f := setup(t)
		b := f.browser().login()
		b.clone().do(func(s *sessions.Session) { s.Values["a"], s.Values["b"] = 1, 1 })
		session := b.load()
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
		f.wire.on("update", rule{kind: hold, once: true, seen: seen, gate: marks})
		done := make(chan error, 1)
		go func() {
			_, err := b.renew(session)
			done <- err
		}()
		<-seen
		raise := bson.E{Key: "$inc", Value: bson.D{{Key: "rev", Value: 1}}}
		old := bson.D{{Key: "_id", Value: hashOf(session.ID)}}
		if _, err := f.coll.UpdateOne(t.Context(), old, append(second, raise)); err != nil {
			t.Fatal(err)
		}
		f.wire.on("update", rule{kind: hold, once: true, seen: seen, gate: brings})
		close(marks)
		<-seen
		if _, err := f.coll.UpdateOne(t.Context(), old, append(third, raise)); err != nil {
			t.Fatal(err)
		}
		close(brings)
		if err := <-done; err != nil {
			t.Fatal(err)
		}

		for what, s := range map[string]*sessions.Session{"afterwards": session, "stored": b.load()} {
			a, found := s.Values["a"]
			if deletes && found || !deletes && a != 5 {
				t.Errorf("%s: a is %v, %t", what, a, found)
			}
			if s.Values["b"] != 9 {
				t.Errorf("%s: b is %v", what, s.Values["b"])
			}
		}
		f.wantDocuments(1)
	}
}

// TestRenewalKeepsItsOwner: a login by renewal stays that user's session, whoever else
// logs in meanwhile.
func TestRenewalKeepsItsOwner(t *testing.T) {
	t.Parallel()
	f := setup(t, func(c *mongostore.Config) { c.OwnerKey = "uid" })
	b := f.browser()
	b.do(func(s *sessions.Session) { s.Values["cart"] = 1 })
	other, session := b.clone(), b.load()
	session.Values["uid"] = 42
	seen, marks, brings := make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	f.wire.on("update", rule{kind: hold, once: true, seen: seen, gate: marks})
	done := make(chan error, 1)
	go func() {
		_, err := b.renew(session)
		done <- err
	}()
	<-seen
	other.do(func(s *sessions.Session) { s.Values["uid"] = 42 })
	f.wire.on("update", rule{kind: hold, once: true, seen: seen, gate: brings})
	close(marks)
	<-seen
	other.do(func(s *sessions.Session) { s.Values["uid"] = 43 })
	close(brings)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := b.load().Values["uid"]; got != 42 || session.Values["uid"] != 42 {
		t.Errorf("uid is %v in the database, %v in the session", got, session.Values["uid"])
	}
	if owner := f.document().Lookup("owner").AsInt64(); owner != 42 {
		t.Errorf("the owner is %d", owner)
	}
}
