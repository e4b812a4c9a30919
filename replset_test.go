package mongostore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestRepeatedWrites: where the driver repeats writes, no visitor notices lost answers or an
// election, and nothing is stored twice.
func TestRepeatedWrites(t *testing.T) {
	t.Parallel()
	for what, l := range map[string]storetest.Line{
		"answer lost":           {Apply: true, Cut: true, Once: true},
		"two answers lost":      {Apply: true, Cut: true, Then: &storetest.Line{Apply: true, Cut: true, Once: true}},
		"lost, then stepped":    {Apply: true, Cut: true, Then: &storetest.Line{Reply: storetest.SteppedNow, Once: true, Steps: true, Elect: true}},
		"stepped, then lost":    {Reply: storetest.SteppedNow, Steps: true, Elect: true, Then: &storetest.Line{Apply: true, Cut: true, Once: true}},
		"stepped without a cut": {Reply: storetest.SteppedNow, Once: true, Steps: true, Elect: true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			for range 3 {
				err := repeatedWrites(t, l)
				if err == nil {
					return
				}
				// On a busy machine the driver's own clearing of its pool may meet the
				// repetition.
				t.Log("the driver gave up:", err)
			}
			t.Error("visitors notice")
		})
	}
}

// repeatedWrites lets each write of a session's life meet the script. It fails if the driver
// does not get over it.
func repeatedWrites(t *testing.T, l storetest.Line) error {
	f, s := storetest.SetupScripted(t, "rs")
	meet := func(commands ...string) {
		for _, command := range commands {
			s.On(command, l)
		}
	}
	b := f.Browser()
	session := b.Load()
	meet("insert")
	if _, err := b.Save(session); err != nil {
		return err
	}
	f.WantDocuments(1)
	session.Values["n"] = 2
	meet("update")
	if _, err := b.Save(session); err != nil {
		return err
	}
	if rev := f.Document().Lookup("rev").AsInt64(); rev != 2 {
		t.Errorf("one insert and one update have made it rev %d", rev)
	}
	old := b.Clone()
	meet("insert", "update", "delete")
	if _, err := b.Renew(session); err != nil {
		return err
	}
	if !old.Load().IsNew {
		t.Error("the old ID works")
	}
	storetest.Eventually(t, "there is one document", func() bool { return len(f.Documents()) == 1 })
	if s := b.Load(); s.Values["n"] != 2 {
		t.Errorf("values: %v", s.Values)
	}
	meet("delete")
	b.Logout()
	if log := f.Text.String(); log != "" {
		return errors.New(log)
	}
	f.WantDocuments(0)
	return nil
}

// TestOpenWithoutIndexes: what goes wrong with an index is a warning, and the store works.
func TestOpenWithoutIndexes(t *testing.T) {
	t.Parallel()
	for what, r := range map[string]func(*storetest.Fixture, *storetest.Scripted){
		"conflict": func(_ *storetest.Fixture, s *storetest.Scripted) {
			s.On("createIndexes", storetest.Line{Reply: storetest.Quoting(85, "IndexOptionsConflict")})
		},
		"unauthorized": func(_ *storetest.Fixture, s *storetest.Scripted) {
			s.On("createIndexes", storetest.Line{Reply: storetest.Quoting(13, "Unauthorized")})
		},
		"not implemented": func(_ *storetest.Fixture, s *storetest.Scripted) {
			s.On("createIndexes", storetest.Line{Reply: storetest.Quoting(238, "NotImplemented")})
		},
		"no code": func(_ *storetest.Fixture, s *storetest.Scripted) {
			s.On("createIndexes", storetest.Line{Reply: bson.D{{Key: "ok", Value: 0}}})
		},
		"no primary": func(_ *storetest.Fixture, s *storetest.Scripted) {
			s.On("createIndexes", storetest.Line{Reply: storetest.SteppedNow, Steps: true, Elect: true, Once: true})
		},
		"write concern": func(_ *storetest.Fixture, s *storetest.Scripted) {
			s.On("createIndexes", storetest.Line{Apply: true, Reply: bson.D{storetest.WTimeout}})
		},
		"cut": func(f *storetest.Fixture, _ *storetest.Scripted) {
			f.Wire.On("createIndexes", storetest.Rule{Kind: storetest.Refuse})
		},
		"answer lost": func(f *storetest.Fixture, _ *storetest.Scripted) {
			f.Wire.On("createIndexes", storetest.Rule{Kind: storetest.LoseAnswer})
		},
		"garbage": func(f *storetest.Fixture, _ *storetest.Scripted) {
			f.Wire.On("createIndexes", storetest.Rule{Kind: storetest.Garble})
		},
		"torn document": func(f *storetest.Fixture, _ *storetest.Scripted) {
			f.Wire.On("createIndexes", storetest.Rule{Kind: storetest.Damage})
		},
		"nothing answered": func(f *storetest.Fixture, _ *storetest.Scripted) {
			f.Wire.On("createIndexes", storetest.Rule{Kind: storetest.Hang})
		},
	} {
		for _, set := range []string{"", "rs"} {
			t.Run(what+" "+set, func(t *testing.T) {
				t.Parallel()
				f, s := storetest.SetupScripted(t, set, func(c *mongostore.Config) { c.Timeout = 2 * time.Second })
				f.Cfg.Cleanup, f.Cfg.OwnerKey = mongostore.TTLIndex, "user"
				r(f, s)
				start := time.Now()
				f.Store = f.Open() // fails the test on an error
				if d := time.Since(start); d > storetest.Patience {
					t.Errorf("Open took %v", d)
				}
				if n := f.Wire.Count() + s.Count(); n == 0 {
					t.Error("no fault was injected")
				}
				log := f.Text.String()
				if n := strings.Count(log, "level=WARN"); n < 1 || n > 2 || n != strings.Count(log, "index") {
					t.Errorf("log: %s", log)
				}
				f.Wire.Heal()
				s.Heal()
				b := f.Browser()
				b.Store = f.Store
				storetest.Eventually(t, "a visitor can log in", func() bool {
					session, err := f.Store.New(b.Request(), storetest.Name)
					if err != nil {
						return false
					}
					session.Values["user"] = "ada"
					_, err = b.Save(session)
					return err == nil
				})
				if s := b.Load(); s.Values["user"] != "ada" {
					t.Errorf("values: %v", s.Values)
				}
			})
		}
	}
}

// TestErrorWithoutCode: also where a server, or a proxy, says no more than a sentence, its
// words are not told.
func TestErrorWithoutCode(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	session := b.Load()
	session.Values["card"] = storetest.CardNumber
	f.Wire.On("update", storetest.Rule{Kind: storetest.Answer, Reply: bson.D{{Key: "ok", Value: 0}, {Key: "errmsg", Value: "cannot set values.card: " + storetest.CardNumber}}})
	_, err := b.Save(session)
	if !errors.Is(err, mongostore.ErrUnavailable) || strings.Contains(err.Error(), storetest.CardNumber) {
		t.Errorf("error: %v", err)
	}
	var server mongo.CommandError
	if !errors.As(err, &server) || !strings.Contains(server.Message, storetest.CardNumber) {
		t.Error("the server's words cannot be had")
	}
}

// TestRepetitionRefused: when an insert was carried out, its answer lost, and the
// driver's repetition of it refused, the document that nobody knows of is removed.
func TestRepetitionRefused(t *testing.T) {
	t.Parallel()
	f, s := storetest.SetupScripted(t, "rs")
	f.Store = f.OpenWith(storetest.Soon)
	b := f.Browser()
	session := b.Load()
	s.On("insert", storetest.Line{Apply: true, Cut: true, Then: &storetest.Line{Reply: storetest.NotPrimary}})
	if w, err := b.Save(session); !errors.Is(err, mongostore.ErrUnavailable) || w.Header()["Set-Cookie"] != nil {
		t.Fatalf("first save: %v", err)
	}
	s.Heal()
	storetest.Eventually(t, "nothing is left of it", func() bool { return len(f.Documents()) == 0 })
	storetest.Eventually(t, "it can be saved", func() bool {
		_, err := b.Save(session)
		return err == nil
	})
	storetest.Eventually(t, "there is one document", func() bool { return len(f.Documents()) == 1 })
}

// TestMisdelivered: a connection that has got out of step gives the answer to another
// visitor's request. Nobody gets another one's session.
func TestMisdelivered(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	eve, ada := f.Browser(), f.Browser()
	eve.Do(func(s *sessions.Session) { s.Values["user"] = "eve" })
	theirs := f.Document()
	ada.Do(func(s *sessions.Session) { s.Values["user"] = "ada" })
	f.Wire.On("find", storetest.Rule{Kind: storetest.AnswerAfter, Reply: bson.D{
		{Key: "ok", Value: 1},
		{Key: "cursor", Value: bson.D{
			{Key: "id", Value: int64(0)},
			{Key: "ns", Value: f.Coll.Database().Name() + "." + f.Coll.Name()},
			{Key: "firstBatch", Value: bson.A{theirs}},
		}},
	}})
	session, err := f.Store.New(ada.Request(), storetest.Name)
	if !errors.Is(err, mongostore.ErrUnavailable) || len(session.Values) > 0 {
		t.Errorf("loaded %v, %v", session.Values, err)
	}
	if w, err := ada.Save(session); !errors.Is(err, mongostore.ErrUnavailable) || w.Header()["Set-Cookie"] != nil {
		t.Errorf("saved: %v", err)
	}
	f.Wire.Heal()
	for user, b := range map[string]*storetest.Browser{"eve": eve, "ada": ada} {
		if s := b.Load(); s.Values["user"] != user {
			t.Errorf("%s: %v", user, s.Values)
		}
	}
}

// TestConflictWithItself: under Reject, a save whose answer was lost and that is repeated by
// the application either succeeds or is a conflict; what it saved is there.
func TestConflictWithItself(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"", "rs"} {
		f, s := storetest.SetupScripted(t, set, func(c *mongostore.Config) { c.OnConflict = mongostore.Reject })
		b := f.Browser().Login()
		b.Store = f.OpenWith(storetest.Soon)
		var session *sessions.Session
		storetest.Eventually(t, "the session can be loaded", func() (ok bool) {
			var err error
			session, err = b.Store.New(b.Request(), storetest.Name)
			return err == nil
		})
		session.Values["n"] = 2
		gate := make(chan struct{})
		s.On("update", storetest.Line{Apply: true, Once: true, Gate: gate})
		if _, err := b.Save(session); !errors.Is(err, mongostore.ErrUnavailable) {
			t.Fatalf("first save: %v", err)
		}
		close(gate)
		var err error
		storetest.Eventually(t, "it can be saved again", func() bool {
			_, err = b.Save(session)
			return !errors.Is(err, mongostore.ErrUnavailable)
		})
		if !errors.Is(err, mongostore.ErrConflict) {
			t.Errorf("second save: %v", err)
		}
		b.Store = f.Store
		if s := b.Load(); s.Values["n"] != 2 {
			t.Errorf("values: %v", s.Values)
		}
	}
}
