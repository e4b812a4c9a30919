package mongostore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/samples"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestLoading: for each kind of cookie, document and trouble, what Get and New return, what the
// session is, what is sent, and that nothing is written.
func TestLoading(t *testing.T) {
	t.Parallel()
	damage := func(update bson.D) func(*testing.T, *storetest.Fixture, *storetest.Browser) {
		return func(_ *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			f.Edit(update)
		}
	}
	set := func(field string, v any) bson.D {
		return bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: v}}}}
	}
	unset := func(field string) bson.D {
		return bson.D{{Key: "$unset", Value: bson.D{{Key: field, Value: ""}}}}
	}
	securecookieError := func(err error) bool {
		var e securecookie.Error
		return errors.As(err, &e) && e.IsDecode()
	}
	is := func(target error) func(error) bool {
		return func(err error) bool { return errors.Is(err, target) }
	}
	none := func(err error) bool { return err == nil }

	for _, row := range []struct {
		name       string
		prepare    func(*testing.T, *storetest.Fixture, *storetest.Browser)
		err        func(error) bool
		old        bool // the session of the login, rather than a new one
		unsaveable bool
		finds      int
	}{
		{name: "no cookie", prepare: func(*testing.T, *storetest.Fixture, *storetest.Browser) {}, err: none},
		{name: "cookie of another name", prepare: func(_ *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			b.Cookies = map[string]string{"other": b.Cookies[storetest.Name]}
		}, err: none},
		{name: "cookie that another name was signed for", prepare: func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			signed, err := securecookie.EncodeMulti("other", "0123456789", f.Store.Codecs...)
			if err != nil {
				t.Fatal(err)
			}
			b.Cookies[storetest.Name] = signed
		}, err: securecookieError},
		{name: "cookie that fails the signature", prepare: func(_ *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			b.Cookies[storetest.Name] = b.Cookies[storetest.Name][:40] + "AAAA" + b.Cookies[storetest.Name][44:]
		}, err: securecookieError},
		{name: "cookie of another key", prepare: func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			other, err := mongostore.New(f.Coll, []byte("another key of at least 32 bytes"))
			if err != nil {
				t.Fatal(err)
			}
			b.Login()
			signed, err := securecookie.EncodeMulti(storetest.Name, b.Load().ID, other.Codecs...)
			if err != nil {
				t.Fatal(err)
			}
			b.Cookies[storetest.Name] = signed
		}, err: securecookieError},
		{name: "cookie of a CookieStore with the same key", prepare: func(t *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			b.Cookies[storetest.Name] = cookieStoreCookie(t)
		}, err: securecookieError},
		{name: "empty cookie", prepare: func(_ *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			b.Cookies[storetest.Name] = ""
		}, err: securecookieError},
		{name: "overlong cookie", prepare: func(_ *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			b.Cookies[storetest.Name] = strings.Repeat("A", 10_000)
		}, err: func(err error) bool { return err != nil }},
		{name: "unknown ID, properly signed", prepare: func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			signed, err := securecookie.EncodeMulti(storetest.Name, "chosen-by-an-attacker", f.Store.Codecs...)
			if err != nil {
				t.Fatal(err)
			}
			b.Cookies[storetest.Name] = signed
		}, err: none, finds: 1},
		{name: "document missing", prepare: func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			if _, err := f.Coll.DeleteMany(t.Context(), bson.D{}); err != nil {
				t.Fatal(err)
			}
		}, err: none, finds: 1},
		{name: "document expired", prepare: func(_ *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			f.Expire()
		}, err: none, finds: 1},
		{name: "document alive", prepare: func(_ *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			b.Login()
		}, err: none, old: true, finds: 1},
		{name: "MongoDB not answering", prepare: func(_ *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			f.Wire.RefuseAll()
		}, err: is(mongostore.ErrUnavailable), unsaveable: true, finds: 1},
		{name: "MongoDB refusing", prepare: func(_ *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			f.Wire.On("find", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")})
		}, err: is(mongostore.ErrUnavailable), unsaveable: true, finds: 1},
		{
			name: "newer format", prepare: damage(set("v", 2)),
			err: is(mongostore.ErrCorrupt), unsaveable: true, finds: 1,
		},
		{
			name: "no format", prepare: damage(unset("v")),
			err: is(mongostore.ErrCorrupt), unsaveable: true, finds: 1,
		},
		{
			name: "values of the wrong type", prepare: damage(set("values", "none")),
			err: is(mongostore.ErrCorrupt), unsaveable: true, finds: 1,
		},
		{
			name: "expiry of the wrong type", prepare: damage(set("expiresAt", "tomorrow")),
			err: is(mongostore.ErrCorrupt), unsaveable: true, finds: 1,
		},
		{
			name: "field missing", prepare: damage(unset("createdAt")),
			err: is(mongostore.ErrCorrupt), unsaveable: true, finds: 1,
		},
		{
			name: "type that is not registered", prepare: damage(set("values.cart", bson.D{
				{Key: "_type", Value: "gob"}, {Key: "_value", Value: []byte("\x10\x10\x00\x0bmain.Absent")},
			})),
			err: is(mongostore.ErrCorrupt), unsaveable: true, finds: 1,
		},
		{
			name: "value of a type that is not stored", prepare: damage(set("values.when", bson.Timestamp{T: 1})),
			err: is(mongostore.ErrCorrupt), unsaveable: true, finds: 1,
		},
		{name: "good cookie behind bad ones", prepare: func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			b.Login()
			b.Cookies["a"] = ""
			signed, err := securecookie.EncodeMulti(storetest.Name, "planted-on-a-parent-domain", f.Store.Codecs...)
			if err != nil {
				t.Fatal(err)
			}
			b.Cookies[storetest.Name] = "forged; " + storetest.Name + "=" + signed + "; " + storetest.Name + "=" + b.Cookies[storetest.Name]
		}, err: none, old: true, finds: 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) { c.Timeout = 2 * time.Second })
			b := f.Browser()
			row.prepare(t, f, b)
			before := f.Documents()
			f.Log.Reset()

			r := httptest.NewRequest(http.MethodGet, "/", nil)
			for n, v := range b.Cookies {
				r.Header.Add("Cookie", n+"="+v) // as it is, several included
			}
			session, err := f.Store.Get(r, storetest.Name)
			if !row.err(err) {
				t.Errorf("error: %v", err)
			}
			if session == nil {
				t.Fatal("the session is nil")
			}
			if again, errAgain := f.Store.Get(r, storetest.Name); again != session || fmt.Sprint(errAgain) != fmt.Sprint(err) {
				t.Error("a second Get of the request returns something else")
			}
			names, _ := f.Log.Take()
			// The driver may find out before it sends that there is no server.
			if len(names) != row.finds && row.name != "MongoDB not answering" {
				t.Errorf("commands sent: %q, want %d finds", names, row.finds)
			}
			if row.old {
				if session.IsNew || session.ID == "" || session.Values["user"] != "ada" {
					t.Errorf("not the stored session: %+v", session)
				}
			} else if !session.IsNew || session.ID != "" || len(session.Values) > 0 {
				t.Errorf("not a new session: %+v", session)
			}

			w := httptest.NewRecorder()
			errSave := session.Save(r, w)
			if row.unsaveable {
				if errSave == nil || errSave.Error() != err.Error() {
					t.Errorf("Save returned %v, want the error of the load", errSave)
				}
				if got := w.Header()["Set-Cookie"]; got != nil {
					t.Errorf("Save set a cookie: %q", got)
				}
			} else if errSave != nil {
				t.Errorf("Save: %v", errSave)
			}
			f.Wire.Heal()
			// Nothing that was there has changed, and nothing came but by Save.
			after := f.Documents()
			for _, doc := range before {
				found := false
				for _, d := range after {
					found = found || string(d) == string(doc)
				}
				if !found {
					t.Error("a document has changed")
				}
			}
			want := len(before) + 1
			if row.old || row.unsaveable {
				want = len(before)
			}
			if len(after) != want {
				t.Errorf("%d documents, want %d", len(after), want)
			}
		})
	}
}

// TestFetchReturnsTheSessionOfAnID gets a session by its ID, and Persist and Remove keep what
// Save promises.
func TestFetchReturnsTheSessionOfAnID(t *testing.T) {
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

// TestFetchFindsNoOtherSession: no session for an ID that is unknown, malformed, of another
// name, expired or hashed, as it stands in the database.
func TestFetchFindsNoOtherSession(t *testing.T) {
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

// TestCorruptSession: by default it is refused, and under CorruptRestart the visitor goes
// on with a new one. The document stays as it is either way.
func TestCorruptSession(t *testing.T) {
	t.Parallel()
	damage := func(field string, value any) bson.D {
		return bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: value}}}}
	}
	renamed := bson.D{{Key: "_type", Value: "gob"}, {Key: "_value", Value: []byte("\x10\x00" + storetest.CardNumber)}}
	for what, update := range map[string]bson.D{
		"type that is gone": damage("values.cart", renamed),
		"unknown tag":       damage("values.cart", bson.D{{Key: "_type", Value: "nobody's"}, {Key: "_value", Value: storetest.CardNumber}}),
		"newer format":      damage("v", 2),
		"rev":               damage("rev", "x"),
		"seenAt":            damage("seenAt", 1),
	} {
		for policy, p := range map[string]mongostore.CorruptPolicy{"refuse": mongostore.CorruptRefuse, "restart": mongostore.CorruptRestart} {
			t.Run(what+", "+policy, func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t, func(c *mongostore.Config) { c.OnCorrupt = p })
				b := f.Browser()
				b.Visit(storetest.SetValue("user", "ada"))
				cookie := b.Cookies[storetest.Name]
				f.Edit(update)
				before := f.Document()
				session, err := f.Store.New(b.Request(), storetest.Name)
				if !session.IsNew || session.ID != "" || len(session.Values) > 0 || session.Values == nil {
					t.Errorf("session: %+v", session)
				}
				if p == mongostore.CorruptRefuse {
					if !errors.Is(err, mongostore.ErrCorrupt) || strings.Contains(err.Error(), storetest.CardNumber) {
						t.Errorf("New: %v", err)
					}
					w, err := b.Save(session)
					if !errors.Is(err, mongostore.ErrCorrupt) {
						t.Errorf("Save: %v", err)
					}
					storetest.WantNoCookie(t, "Save", w)
					if string(f.Document()) != string(before) {
						t.Error("the document has changed")
					}
					return
				}
				if err != nil {
					t.Fatalf("New: %v", err)
				}
				if log := f.Text.String(); strings.Count(log, "level=WARN") != 1 || strings.Contains(log, storetest.CardNumber) || strings.Contains(log, cookie) {
					t.Errorf("log: %s", log)
				}
				session.Values["n"] = 1
				b.MustSave(session)
				if b.Cookies[storetest.Name] == cookie {
					t.Error("the cookie is the same")
				}
				if s := b.Load(); s.Values["n"] != 1 {
					t.Errorf("values: %v", s.Values)
				}
				docs := f.Documents()
				if len(docs) != 2 || string(docs[0]) != string(before) && string(docs[1]) != string(before) {
					t.Error("the damaged document was not left as it was")
				}
				if _, err := f.Store.Fetch(t.Context(), storetest.Name, session.ID); err != nil {
					t.Errorf("Fetch: %v", err)
				}
			})
		}
	}
}

// TestTypeRenamedByADeploy: gob does not know the name that the stored value has.
func TestTypeRenamedByADeploy(t *testing.T) {
	t.Parallel()
	for policy, p := range map[string]mongostore.CorruptPolicy{"refuse": mongostore.CorruptRefuse, "restart": mongostore.CorruptRestart} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) { c.OnCorrupt = p })
			b := f.Browser()
			b.Visit(storetest.SetValue("list", samples.Chain{"x"}))
			_, encoded := f.Document().Lookup("values", "list", "_value").Binary()
			renamed := bytes.ReplaceAll(encoded, []byte("chain"), []byte("chaiN"))
			if bytes.Equal(renamed, encoded) {
				t.Fatal("the value does not have the name of its type")
			}
			f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "values.list._value", Value: renamed}}}})
			before := f.Document()
			session, err := f.Store.New(b.Request(), storetest.Name)
			if p == mongostore.CorruptRefuse {
				if !errors.Is(err, mongostore.ErrCorrupt) || !strings.Contains(err.Error(), `"list"`) {
					t.Errorf("New: %v", err)
				}
				if _, err := b.Save(session); !errors.Is(err, mongostore.ErrCorrupt) {
					t.Errorf("Save: %v", err)
				}
			} else {
				if err != nil || !session.IsNew || len(session.Values) > 0 {
					t.Errorf("New: %+v, %v", session, err)
				}
				b.MustSave(session)
				f.WantDocuments(2)
			}
			if !slices.ContainsFunc(f.Documents(), func(doc bson.Raw) bool { return bytes.Equal(doc, before) }) {
				t.Error("the document has changed")
			}
		})
	}
}

// TestCorruptRestartLogin: a visitor whose session cannot be read can log in, and out.
func TestCorruptRestartLogin(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OnCorrupt = mongostore.CorruptRestart })
	b := f.Browser()
	b.Visit(storetest.SetValue("user", "ada"))
	f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "v", Value: 2}}}})
	session := b.Load()
	session.Values["user"] = "ada"
	b.MustRenew(session)
	b.WantIn("after a login")
	b.Visit(func(s *sessions.Session) { s.Options.MaxAge = -1 })
	b.WantOut("after a logout")
}

// TestLoadWhoseResponseWasLate: a session that has ended since the load's command was sent
// is not revived by a save, however late the response came.
func TestLoadWhoseResponseWasLate(t *testing.T) {
	t.Parallel()
	for what, save := range map[string]func(*storetest.Browser, *sessions.Session) (*httptest.ResponseRecorder, error){
		"changed": func(b *storetest.Browser, s *sessions.Session) (*httptest.ResponseRecorder, error) {
			s.Values["n"] = 1
			return b.Save(s)
		},
		"list": func(b *storetest.Browser, s *sessions.Session) (*httptest.ResponseRecorder, error) {
			s.AddFlash("late")
			return b.Save(s)
		},
		"touch":   (*storetest.Browser).Save,
		"renewed": (*storetest.Browser).Renew,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f, s := storetest.SetupScripted(t, "")
			b := f.Browser()
			b.Visit(storetest.SetValue("user", "ada"))
			if what != "changed" { // whose update has no guard but the time of the load
				f.Older(2 * time.Minute)
			}
			other := b.At(f.Another())
			seen, gate := make(chan struct{}, 1), make(chan struct{})
			s.On("find", storetest.Line{Apply: true, Once: true, Seen: seen, Gate: gate})
			loaded := make(chan *sessions.Session, 1)
			go func() {
				session, err := f.Store.New(b.Request(), storetest.Name)
				if err != nil {
					t.Error(err)
				}
				loaded <- session
			}()
			<-seen
			other.Visit(func(s *sessions.Session) { s.Options.MaxAge = 1 })
			expiry := f.Document().Lookup("expiresAt").Time()
			storetest.Eventually(t, "the session has expired", func() bool { return time.Now().After(expiry.Add(100 * time.Millisecond)) })
			close(gate)
			session := <-loaded
			if session.IsNew {
				t.Fatal("the response was not the session")
			}
			w, err := save(b, session)
			storetest.WantGone(t, what, w, err)
			b.WantOut("afterwards")
			if n, err := f.Store.Count(t.Context()); n != 0 || err != nil {
				t.Errorf("Count: %d, %v", n, err)
			}
		})
	}
}
