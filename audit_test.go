package mongostore_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"go/ast"
	"go/token"
	"io"
	"log/slog"
	"math/bits"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestRandomIDs: ten thousand IDs of 256 bits have no bit, byte or place that is not random, as far
// as statistics can tell; and their source is the system's CSPRNG.
func TestRandomIDs(t *testing.T) {
	t.Parallel()
	const n, size = 10_000, 32
	f := storetest.Setup(t)
	f.Wire.On("insert", storetest.Rule{Kind: storetest.Answer, Reply: bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 1}}})
	var (
		set, same [8 * size]int // of each bit: how often it is set, and as in the ID before
		counts    [256]int      // of each byte
		parts     [size / 8]map[string]bool
		last      []byte
	)
	for i := range parts {
		parts[i] = map[string]bool{}
	}
	for range n {
		session := sessions.NewSession(f.Store, storetest.Name)
		if err := f.Store.Persist(t.Context(), session); err != nil {
			t.Fatal(err)
		}
		id, err := base64.RawURLEncoding.Strict().DecodeString(session.ID)
		if err != nil || len(id) != size || len(session.ID) != 43 {
			t.Fatalf("an ID of %d bytes, %d characters: %v", len(id), len(session.ID), err)
		}
		for i := range set {
			set[i] += int(id[i/8] >> (i % 8) & 1)
			if last != nil && bits.OnesCount8((id[i/8]^last[i/8])>>(i%8)&1) == 0 {
				same[i]++
			}
		}
		for _, c := range id {
			counts[c]++
		}
		for i := range parts { // of 64 bits, none comes twice, but once in 10^11 runs
			parts[i][string(id[8*i:8*i+8])] = true
		}
		last = id
	}
	for i, p := range parts {
		if len(p) != n {
			t.Errorf("%d different values in bytes %d to %d of %d IDs", len(p), 8*i, 8*i+7, n)
		}
	}
	// A fair coin gives n/2 with a standard deviation of 50. Seven of them, among 512
	// coins, are seen once in a thousand million runs.
	for i := range set {
		for what, got := range map[string]int{"set": set[i], "as before": same[i]} {
			if d := got - n/2; d < -350 || d > 350 {
				t.Errorf("bit %d is %s in %d of %d IDs", i, what, got, n)
			}
		}
	}
	// Chi-squared with 255 degrees of freedom: 255 on average, with a standard
	// deviation of 23.
	chi, expected := 0.0, float64(n*size)/256
	for _, got := range counts {
		d := float64(got) - expected
		chi += d * d / expected
	}
	if chi > 450 || chi < 110 {
		t.Errorf("the bytes' chi-squared is %.0f, want about 255", chi)
	}

	for path, file := range storetest.SourceFiles(t, false) {
		for _, spec := range file.Imports {
			if strings.HasPrefix(spec.Path.Value, `"math/rand`) {
				t.Errorf("%s imports %s", path, spec.Path.Value)
			}
		}
	}
}

// TestIDIsTakenFromTheCookieAlone, whatever else of a request carries it.
func TestIDIsTakenFromTheCookieAlone(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser().Login()
	cookie, id := b.Cookies[storetest.Name], b.Load().ID
	f.Log.Reset()
	for _, v := range []string{cookie, id} {
		form := strings.NewReader("session=" + v)
		r := httptest.NewRequest(http.MethodPost, "https://example.com/"+v+";session="+v+"?session="+v+"#"+v, form)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for _, header := range []string{"Session", "X-Session", "X-Session-Id", "Cookie2", "Set-Cookie"} {
			r.Header.Set(header, "session="+v)
		}
		r.Header.Set("Authorization", "Bearer "+v)
		r.SetBasicAuth("session", v)
		r.AddCookie(&http.Cookie{Name: "Session", Value: v}) // names are compared exactly
		if s, err := f.Store.Get(r, storetest.Name); err != nil || !s.IsNew {
			t.Errorf("session %v, %v", s.Values, err)
		}
	}
	f.WantCommands()
	// An ID in the right place counts only with its signature.
	b.Cookies[storetest.Name] = id
	if s, err := f.Store.New(b.Request(), storetest.Name); err == nil || !s.IsNew {
		t.Errorf("an unsigned ID: %v, %v", s.Values, err)
	}
	f.WantCommands()
}

// TestEverySetCookie: whatever the occasion, also a removal's, a response has the cookie with all
// its attributes, and the ID nowhere else.
func TestEverySetCookie(t *testing.T) {
	t.Parallel()
	const host = "__Host-id"
	for occasion, request := range map[string]func(*storetest.Fixture, *http.Request, http.ResponseWriter, *sessions.Session) error{
		"unchanged": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			return f.Store.Save(r, w, s)
		},
		"change": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			s.Values["n"] = 1
			return f.Store.Save(r, w, s)
		},
		"renewal": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			return f.Store.Renew(r, w, s)
		},
		"ID taken away": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			s.ID = ""
			return f.Store.Save(r, w, s)
		},
		"browser session": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			s.Options.MaxAge = 0
			return f.Store.Save(r, w, s)
		},
		"remember me": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			s.Options.MaxAge = 365 * 24 * 3600
			return f.Store.Save(r, w, s)
		},
		"options nil": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			s.Options = nil
			return f.Store.Save(r, w, s)
		},
		"twice": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			s.Values["n"] = 1
			return errors.Join(f.Store.Save(r, w, s), f.Store.Renew(r, w, s))
		},
		"logout": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			s.Options.MaxAge = -1
			return f.Store.Save(r, w, s)
		},
		"logout in an outage": func(f *storetest.Fixture, r *http.Request, w http.ResponseWriter, s *sessions.Session) error {
			f.Wire.On("delete", storetest.Rule{Kind: storetest.Answer, Once: true, Reply: storetest.Refusal(11600, "InterruptedAtShutdown")})
			s.Options.MaxAge = -1
			return f.Store.Save(r, w, s)
		},
	} {
		t.Run(occasion, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			b := f.Browser()
			for round := range 2 { // a new session, and one that is stored
				r, w := b.Request(), httptest.NewRecorder()
				session, err := f.Store.Get(r, host)
				if err != nil {
					t.Fatal(err)
				}
				if err := request(f, r, w, session); err != nil {
					t.Fatal(err)
				}
				lines := w.Result().Cookies()
				if len(lines) != 1 {
					t.Fatalf("round %d: %d cookies: %q", round, len(lines), w.Header())
				}
				c := lines[0]
				if c.Name != host || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
					t.Errorf("round %d: %v", round, c)
				}
				if len(c.Name)+len(c.Value) > 4096 {
					t.Errorf("round %d: %d bytes", round, len(c.Name)+len(c.Value))
				}
				if ended := strings.HasPrefix(occasion, "logout"); ended != (c.MaxAge < 0) || ended != (c.Value == "") {
					t.Errorf("round %d: %v", round, c)
				}
				if c.Value != "" {
					var id string
					if err := securecookie.DecodeMulti(host, c.Value, &id, f.Store.Codecs...); err != nil || id != session.ID {
						t.Errorf("round %d: the cookie holds something else than the ID: %v", round, err)
					}
				}
				w.Header().Del("Set-Cookie")
				if rest := fmt.Sprint(w.Header(), w.Body); len(w.Header()) > 0 || w.Body.Len() > 0 {
					t.Errorf("round %d: also in the response: %s", round, rest)
				}
				b.Cookies = map[string]string{host: c.Value}
				if c.Value == "" { // so that the second logout has something to end
					other := httptest.NewRecorder()
					r := f.Browser().Request()
					s, err := f.Store.Get(r, host)
					if err != nil {
						t.Fatal(err)
					}
					if err := s.Save(r, other); err != nil {
						t.Fatal(err)
					}
					b.Receive(other)
				}
			}
		})
	}
}

// TestEndedEverywhere: of a session that has ended, however that was, a copy of the cookie is worth
// nothing in any process, and no request that was under way brings it back.
func TestEndedEverywhere(t *testing.T) {
	t.Parallel()
	for how, end := range map[string]func(*testing.T, *storetest.Fixture, *storetest.Browser){
		"logout": func(_ *testing.T, _ *storetest.Fixture, b *storetest.Browser) { b.Logout() },
		"Remove": func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			if err := f.Store.Remove(t.Context(), b.Load()); err != nil {
				t.Fatal(err)
			}
		},
		"Persist with a negative MaxAge": func(t *testing.T, f *storetest.Fixture, b *storetest.Browser) {
			session := b.Load()
			session.Options.MaxAge = -1
			if err := f.Store.Persist(t.Context(), session); err != nil {
				t.Fatal(err)
			}
		},
		"Revoke": func(t *testing.T, f *storetest.Fixture, _ *storetest.Browser) {
			for _, info := range storetest.SessionsOf(t, f.Store, "ada") {
				if err := f.Store.Revoke(t.Context(), info.Key); err != nil {
					t.Fatal(err)
				}
			}
		},
		"RevokeAll": func(t *testing.T, f *storetest.Fixture, _ *storetest.Browser) {
			if n, err := f.Store.RevokeAll(t.Context(), "ada"); n != 1 || err != nil {
				t.Fatalf("%d, %v", n, err)
			}
		},
		"Renew, of the old ID": func(t *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			if _, err := b.Renew(b.Load()); err != nil {
				t.Fatal(err)
			}
		},
		"expiry": func(t *testing.T, _ *storetest.Fixture, b *storetest.Browser) {
			b.Clone().Do(func(s *sessions.Session) { s.Options.MaxAge = 1 })
			storetest.Eventually(t, "the session has expired", func() bool { return b.Load().IsNew })
		},
		// All sessions of all users: an administrator empties the collection.
		"deletion in the database": func(t *testing.T, f *storetest.Fixture, _ *storetest.Browser) {
			if _, err := f.Coll.DeleteMany(t.Context(), bson.D{}); err != nil {
				t.Fatal(err)
			}
		},
		"the collection dropped": func(t *testing.T, f *storetest.Fixture, _ *storetest.Browser) {
			if err := f.Coll.Drop(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
			b := f.Browser().LoginAs("ada")
			stolen, id := b.Clone(), b.Load().ID
			f.Cfg.Client = f.Connect()
			another := f.Open() // process, over connections of its own
			processes := map[string]*mongostore.Store{"here": f.Store, "elsewhere": another}

			underWay := map[string]*sessions.Session{}
			for where, store := range processes {
				stolen.Store = store
				if underWay[where] = stolen.Load(); underWay[where].Values["user"] != "ada" {
					t.Fatalf("%s: not logged in", where)
				}
			}
			end(t, f, b)

			restarted := f.Open()
			for where, store := range map[string]*mongostore.Store{"here": f.Store, "elsewhere": another, "after a restart": restarted} {
				stolen.Store = store
				if s := stolen.Load(); !s.IsNew || s.ID != "" || len(s.Values) > 0 {
					t.Errorf("%s: the copy works: %v", where, s.Values)
				}
				if _, err := store.Fetch(t.Context(), storetest.Name, id); !errors.Is(err, mongostore.ErrNotFound) {
					t.Errorf("%s: Fetch: %v", where, err)
				}
				for _, info := range storetest.SessionsOf(t, store, "ada") {
					if info.Key == storetest.HashOf(id) {
						t.Errorf("%s: it is listed", where)
					}
				}
			}
			for where, session := range underWay {
				for _, save := range []func(*sessions.Session) (*httptest.ResponseRecorder, error){stolen.Save, stolen.Renew} {
					stolen.Store = processes[where]
					session.Values["late"] = true
					w, err := save(session)
					if !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil {
						t.Errorf("%s: a late request: %v, cookies %q", where, err, w.Header()["Set-Cookie"])
					}
				}
				if err := processes[where].Persist(t.Context(), session); !errors.Is(err, mongostore.ErrGone) {
					t.Errorf("%s: a late job: %v", where, err)
				}
			}
			stolen.Store = restarted
			if s := stolen.Load(); !s.IsNew {
				t.Error("it is back")
			}
		})
	}
}

// TestTimeouts: a session that is not used ends, use prolongs its life, and nothing prolongs it
// beyond the absolute timeout; the document alone decides, whatever the cookie says or another
// process is set to.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	const minute = time.Minute
	for _, row := range []struct {
		name   string
		config func(*mongostore.Config)
		own    int             // the session's own MaxAge, if not 0
		uses   []time.Duration // pauses, each followed by a request that saves
		alive  time.Duration   // a pause after these that it outlives
		dead   time.Duration   // and one that it does not
	}{
		{name: "idle", alive: 59 * minute, dead: 61 * minute},
		{name: "idle, used", uses: []time.Duration{50 * minute, 50 * minute, 50 * minute}, alive: 59 * minute, dead: 61 * minute},
		{
			name: "browser session", alive: 9 * minute, dead: 11 * minute,
			config: func(c *mongostore.Config) { c.Options.MaxAge, c.BrowserTTL = 0, 10*minute },
		},
		{name: "remembered", own: 3 * 3600, alive: 179 * minute, dead: 181 * minute},
		{name: "shorter than the store's", own: 600, alive: 9 * minute, dead: 11 * minute},
		{
			name: "absolute", uses: []time.Duration{50 * minute, 50 * minute}, alive: 19 * minute, dead: 21 * minute,
			config: func(c *mongostore.Config) { c.AbsoluteTimeout = 120 * minute },
		},
		{
			name: "absolute, remembered", own: 30 * 24 * 3600, alive: 119 * minute, dead: 121 * minute,
			config: func(c *mongostore.Config) { c.AbsoluteTimeout = 120 * minute },
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) {
				c.Options = &sessions.Options{Path: "/", MaxAge: 3600}
				if row.config != nil {
					row.config(c)
				}
			})
			b := f.Browser()
			b.Do(func(s *sessions.Session) {
				if s.Values["user"] = "ada"; row.own != 0 {
					s.Options.MaxAge = row.own
				}
			})
			for _, pause := range row.uses {
				f.Age(pause)
				b.Do(func(s *sessions.Session) {
					if s.IsNew {
						t.Fatal("ended while it was used")
					}
				})
			}
			// A process that is set to more, and has the same signed cookie.
			f.Cfg.Options = &sessions.Options{Path: "/", MaxAge: 365 * 24 * 3600}
			f.Cfg.BrowserTTL, f.Cfg.AbsoluteTimeout = 365*24*time.Hour, 0
			generous := b.Clone()
			generous.Store = f.Open()
			loaded := b.Load()

			f.Age(row.alive)
			for _, v := range []*storetest.Browser{b, generous} {
				if s := v.Load(); s.IsNew || s.Values["user"] != "ada" {
					t.Error("ended too soon")
				}
			}
			f.Age(row.dead - row.alive)
			before := f.Document()
			for _, v := range []*storetest.Browser{b, generous} {
				if s := v.Load(); !s.IsNew || len(s.Values) > 0 {
					t.Error("alive after its time")
				}
				if _, err := v.Store.Fetch(t.Context(), storetest.Name, loaded.ID); !errors.Is(err, mongostore.ErrNotFound) {
					t.Errorf("Fetch: %v", err)
				}
				if n, err := v.Store.Count(t.Context()); n != 0 || err != nil {
					t.Errorf("Count: %d, %v", n, err)
				}
			}
			if after := f.Document(); string(after) != string(before) {
				t.Error("a load has changed the document")
			}
		})
	}
}

// TestReauthenticationBeginsAnew: a session that is removed and begun anew, with what is to be kept, has
// a new ID and its whole time before it; the old one is dead. (Renew keeps the time of creation.)
func TestReauthenticationBeginsAnew(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.AbsoluteTimeout = 12 * time.Hour })
	b := f.Browser().Login()
	f.Age(11 * time.Hour)
	f.Edit(storetest.SetDate("expiresAt", time.Now().Add(time.Hour)))
	old, r, w := b.Clone(), b.Request(), httptest.NewRecorder()

	session, err := f.Store.Get(r, storetest.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Store.Remove(r.Context(), session); err != nil {
		t.Fatal(err)
	}
	fresh, err := f.Store.New(r, storetest.Name)
	if err != nil || !fresh.IsNew {
		t.Fatalf("the session after Remove: %+v, %v", fresh, err)
	}
	fresh.Values["user"] = session.Values["user"]
	if err := f.Store.Save(r, w, fresh); err != nil {
		t.Fatal(err)
	}
	if n := len(w.Header()["Set-Cookie"]); n != 1 {
		t.Errorf("%d cookies", n)
	}
	b.Receive(w)
	if s := b.Load(); s.Values["user"] != "ada" || s.ID == session.ID {
		t.Errorf("session: %+v", s)
	}
	storetest.WantTime(t, f.Document(), "createdAt", time.Now())
	storetest.WantTime(t, f.Document(), "expiresAt", time.Now().Add(12*time.Hour))
	if !old.Load().IsNew {
		t.Error("the old ID works")
	}
}

// witness collects what the package tells: errors and log.
type witness struct {
	t    *testing.T
	f    *storetest.Fixture
	b    *storetest.Browser
	log  *storetest.LogBuffer
	errs []error
}

// hears notes errors; nil ones are no fault here.
func (w *witness) hears(errs ...error) {
	for _, err := range errs {
		if err != nil {
			w.errs = append(w.errs, err)
		}
	}
}

// another is a store that logs to the witness.
func (w *witness) another(change func(*mongostore.Config), keys ...[]byte) *mongostore.Store {
	cfg := w.f.Cfg
	change(&cfg)
	if len(keys) == 0 {
		keys = [][]byte{storetest.SigningKey}
	}
	store, err := mongostore.Open(w.t.Context(), cfg, keys...)
	w.hears(err)
	if err == nil {
		w.t.Cleanup(func() {
			w.f.Wire.Heal()
			_ = store.Close(context.WithoutCancel(w.t.Context()))
		})
	}
	return store
}

// TestNothingConfidentialIsTold runs the package through every error and every warning that it has, with a
// server that quotes what it was sent, and finds no session ID, cookie, value or key in them.
func TestNothingConfidentialIsTold(t *testing.T) {
	t.Parallel()
	const card, password = "4111111111111111", "Tr0ub4dor"
	seal := storetest.SealKey(t)

	// quotes makes the server refuse commands in words that tell everything.
	quotes := func(w *witness, code int, commands ...string) {
		everything := fmt.Sprint(card, w.b.Cookies, w.b.Load().ID)
		for _, command := range commands {
			w.f.Wire.On(command, storetest.Rule{Kind: storetest.Answer, Reply: bson.D{
				{Key: "ok", Value: 0},
				{Key: "code", Value: code},
				{Key: "codeName", Value: "Quoted"},
				{Key: "errmsg", Value: "cannot execute " + everything},
			}})
		}
	}
	// quotesWrite makes it refuse one document of a write.
	quotesWrite := func(w *witness, code int, commands ...string) {
		everything := fmt.Sprint(card, w.b.Cookies, w.b.Load().ID)
		for _, command := range commands {
			w.f.Wire.On(command, storetest.Rule{Kind: storetest.Answer, Reply: bson.D{
				{Key: "ok", Value: 1},
				{Key: "n", Value: 0},
				{Key: "writeErrors", Value: bson.A{bson.D{
					{Key: "index", Value: 0},
					{Key: "code", Value: code},
					{Key: "errmsg", Value: "dup key: " + everything},
					{Key: "errInfo", Value: bson.D{{Key: "consideredValue", Value: everything}}},
					{Key: "keyValue", Value: bson.D{{Key: "values", Value: everything}}},
				}}},
			}})
		}
	}
	// loads, saves and ends a session by each means.
	load := func(w *witness) {
		_, err := w.f.Store.New(w.b.Request(), storetest.Name)
		_, errGet := w.f.Store.Get(w.b.Request(), storetest.Name)
		w.hears(err, errGet)
	}
	save := func(w *witness, change func(*sessions.Session)) {
		for _, how := range []func(*sessions.Session) error{
			func(s *sessions.Session) error { _, err := w.b.Clone().Save(s); return err },
			func(s *sessions.Session) error { _, err := w.b.Clone().Renew(s); return err },
			func(s *sessions.Session) error { return w.f.Store.Persist(w.t.Context(), s) },
			func(s *sessions.Session) error { return sessions.Save(w.b.Request(), httptest.NewRecorder()) },
		} {
			session, err := w.f.Store.New(w.b.Request(), storetest.Name)
			w.hears(err)
			change(session)
			w.hears(how(session), how(session))
		}
	}
	change := func(s *sessions.Session) { s.Values["card"] = card + "1" }

	paths := map[string]func(*witness){
		"load, forged cookies": func(w *witness) {
			mine := w.b.Cookies[storetest.Name]
			old := cookieStoreCookie(t)
			for _, v := range []string{"", mine[:len(mine)-1], mine + "A", mine[1:], w.b.Load().ID, strings.Repeat(mine, 40), old} {
				w.b.Cookies[storetest.Name] = v
				load(w)
			}
			w.b.Cookies[storetest.Name] = mine
		},
		"load, damaged": func(w *witness) {
			good := w.f.Document()
			for field, v := range map[string]any{
				"v": 2, "values": card, "name": 7, "expiresAt": card, "createdAt": card, "rev": card, "maxAge": card, "movedTo": 1,
				"values.card": bson.Timestamp{T: 1},
				"values.user": bson.D{{Key: "_type", Value: "sealed"}, {Key: "_value", Value: []byte(card + card + card)}},
				"values.gob":  bson.D{{Key: "_type", Value: "gob"}, {Key: "_value", Value: []byte(card)}},
				"values.odd":  bson.D{{Key: "_type", Value: "int8"}, {Key: "_value", Value: card}},
			} {
				w.f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: field, Value: v}}}})
				load(w)
				_, err := w.f.Store.Fetch(w.t.Context(), storetest.Name, w.b.CookieID())
				w.hears(err)
				for _, err := range w.f.Store.Sessions(w.t.Context(), "ada") {
					w.hears(err)
				}
				if _, err := w.f.Coll.ReplaceOne(w.t.Context(), bson.D{}, good); err != nil {
					w.t.Fatal(err)
				}
			}
		},
		"load, refused":      func(w *witness) { quotes(w, 13, "find"); load(w) },
		"load, not answered": func(w *witness) { w.f.Wire.On("find", storetest.Rule{Kind: storetest.Hang}); load(w) },
		"load, cut": func(w *witness) {
			w.f.Wire.On("find", storetest.Rule{Kind: storetest.Refuse})
			load(w)
			id := w.b.CookieID()
			_, err := w.f.Store.Fetch(w.t.Context(), storetest.Name, id)
			w.hears(err)
		},
		"load, name that is none": func(w *witness) {
			_, err := w.f.Store.Get(w.b.Request(), "a b")
			_, errFetch := w.f.Store.Fetch(w.t.Context(), "a b", w.b.CookieID())
			_, errNone := w.f.Store.Fetch(w.t.Context(), storetest.Name, w.b.Cookies[storetest.Name])
			_, errNil := w.f.Store.New(nil, storetest.Name)
			w.hears(err, errFetch, errNone, errNil, w.f.Store.Persist(w.t.Context(), sessions.NewSession(w.f.Store, "a b")))
		},
		"save, refused": func(w *witness) { quotes(w, 13, "insert", "update", "delete"); save(w, change) },
		"save, invalid": func(w *witness) { quotesWrite(w, 121, "insert", "update"); save(w, change) },
		"save, twice":   func(w *witness) { quotesWrite(w, 11000, "insert", "update"); save(w, change) },
		"save, too large for the server": func(w *witness) {
			quotes(w, 10334, "insert", "update")
			save(w, change)
			quotesWrite(w, 17419, "insert", "update")
			save(w, change)
		},
		"save, cut": func(w *witness) {
			for _, command := range []string{"insert", "update", "delete"} {
				w.f.Wire.On(command, storetest.Rule{Kind: storetest.LoseAnswer})
			}
			save(w, change)
		},
		"save, too large": func(w *witness) {
			save(w, func(s *sessions.Session) { s.Values["card"] = strings.Repeat(card, 100_000) })
		},
		"save, values that cannot be": func(w *witness) {
			for _, v := range []any{make(chan string), unregistered{card}, []any{card, func() {}}, map[string]any{card: make(chan int)}} {
				save(w, func(s *sessions.Session) { s.Values["card"] = v })
			}
			save(w, func(s *sessions.Session) { s.Values["user"] = struct{ Number string }{card} })
		},
		"save, cookies that cannot be": func(w *witness) {
			for _, own := range []sessions.Options{{Domain: "exa mple"}, {Path: "/;"}, {Partitioned: true}} {
				save(w, func(s *sessions.Session) { s.Options = &own })
			}
		},
		"save, gone": func(w *witness) {
			late, errLate := w.f.Store.New(w.b.Request(), storetest.Name)
			w.hears(errLate)
			w.f.Expire()
			late.Values["card"] = card + "2"
			_, err := w.b.Clone().Save(late)
			w.hears(err)
			if _, err := w.f.Coll.DeleteMany(w.t.Context(), bson.D{}); err != nil {
				w.t.Fatal(err)
			}
			_, err = w.b.Clone().Renew(late)
			w.hears(err, w.f.Store.Persist(w.t.Context(), late))
		},
		"save, in conflict": func(w *witness) {
			store := w.another(func(c *mongostore.Config) { c.OnConflict = mongostore.Reject })
			w.b.Store = store
			one, two := w.b.Load(), w.b.Load()
			one.Values["card"], two.Values["card"] = card+"1", card+"2"
			_, err := w.b.Clone().Save(one)
			_, errTwo := w.b.Clone().Save(two)
			w.hears(err, errTwo)
		},
		"save, nothing": func(w *witness) {
			session := w.b.Load()
			foreign := sessions.NewSession(nil, storetest.Name)
			foreign.ID = session.ID
			_, err := w.b.Clone().Renew(foreign)
			w.hears(err, w.f.Store.Save(nil, nil, nil), w.f.Store.Persist(w.t.Context(), nil), w.f.Store.Remove(w.t.Context(), nil))
		},
		"logout, refused": func(w *witness) {
			quotes(w, 11600, "delete")
			session := w.b.Load()
			w.hears(w.f.Store.Remove(w.t.Context(), session))
			w.b.Logout()
			w.hears(w.f.Store.Close(w.t.Context()))
			session.Options.MaxAge = -1
			other := w.f.Browser()
			w.f.Wire.Heal()
			other.Store = w.another(func(*mongostore.Config) {})
			other.Login()
			held := other.Load()
			w.hears(other.Store.Close(w.t.Context()))
			w.f.Wire.On("delete", storetest.Rule{Kind: storetest.Refuse})
			held.Options.MaxAge = -1
			_, err := other.Save(held)
			w.hears(err)
		},
		"logout, unacknowledged": func(w *witness) {
			store, err := mongostore.New(unacknowledged(w.t, w.f), storetest.SigningKey)
			if err != nil {
				w.t.Fatal(err)
			}
			r := w.b.Request()
			session, err := store.New(r, storetest.Name)
			w.hears(err)
			session.Options.MaxAge = -1
			w.hears(store.Save(r, httptest.NewRecorder(), session), store.Close(w.t.Context()))
		},
		"owners": func(w *witness) {
			session, ctx := w.b.Load(), w.t.Context()
			_, errExcept := w.f.Store.RevokeAll(ctx, "ada", sessions.NewSession(nil, storetest.Name))
			_, errType := w.f.Store.RevokeAll(ctx, struct{ Number string }{card})
			w.hears(errExcept, errType, w.f.Store.Revoke(ctx, ""))
			quotes(w, 13, "find", "delete")
			_, err := w.f.Store.RevokeAll(ctx, "ada")
			w.hears(err, w.f.Store.Revoke(ctx, storetest.HashOf(session.ID)))
			for _, err := range w.f.Store.Sessions(ctx, "ada") {
				w.hears(err)
			}
		},
		"upkeep": func(w *witness) {
			quotes(w, 13, "find", "delete", "aggregate", "count")
			ctx := w.t.Context()
			_, errCount := w.f.Store.Count(ctx)
			_, errDelete := w.f.Store.DeleteExpired(ctx)
			w.hears(errCount, errDelete)
			w.f.Wire.Heal()
			store := w.another(func(c *mongostore.Config) { c.Cleanup = mongostore.Sweep })
			quotes(w, 13, "find")
			w.b.Store = store
			_, err := w.b.Clone().Save(sessions.NewSession(store, storetest.Name))
			w.hears(err)
			storetest.Eventually(w.t, "a sweep has failed", func() bool { return strings.Contains(w.log.String(), "not deleted") })
			w.hears(store.Close(ctx))
		},
		"indexes": func(w *witness) {
			for _, code := range []int{13, 10107} {
				w.f.Wire.On("createIndexes", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(code, "Refused")})
				w.f.Wire.On("listIndexes", storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(13, "Unauthorized")})
				store := w.another(func(c *mongostore.Config) { c.Cleanup = mongostore.TTLIndex })
				w.hears(store.EnsureIndexes(w.t.Context()))
			}
		},
		"migration": func(w *witness) {
			// A store that fails to load, and one that fails to remove.
			w.b.Store = w.another(func(c *mongostore.Config) { c.MigrateFrom = storetest.BrokenStore{} })
			mine := w.b.Cookies[storetest.Name]
			w.b.Cookies[storetest.Name] = "of-the-old-store"
			_, err := w.b.Store.New(w.b.Request(), storetest.Name)
			w.hears(err)
			files := sessions.NewFilesystemStore(w.t.TempDir(), storetest.SigningKey)
			r, recorder := w.f.Browser().Request(), httptest.NewRecorder()
			old, err := files.New(r, storetest.Name)
			w.hears(err)
			old.Values["card"] = card
			w.hears(files.Save(r, recorder, old))
			w.b.Store = w.another(func(c *mongostore.Config) { c.MigrateFrom = storetest.FullDisk{FilesystemStore: files} })
			w.b.Receive(recorder)
			session, err := w.b.Store.New(w.b.Request(), storetest.Name)
			w.hears(err, w.b.Store.Remove(w.t.Context(), session))
			w.b.Cookies[storetest.Name] = mine
		},
		"opening": func(w *witness) {
			w.another(func(*mongostore.Config) {}, []byte(password))
			w.another(func(*mongostore.Config) {}, storetest.SigningKey, []byte(password))
			w.another(func(c *mongostore.Config) { c.SealKeys = [][]byte{[]byte(password)} })
			w.another(func(c *mongostore.Config) { c.SealKeys = [][]byte{seal, seal} })
			for _, uri := range []string{"http://me:%s@localhost", "mongodb://me:%s@localhost:x", "mongodb://me:%s/localhost", "mongodb://me:%s@127.0.0.1:1/?connectTimeoutMS=200"} {
				w.another(func(c *mongostore.Config) {
					c.Client, c.URI, c.Timeout = nil, fmt.Sprintf(uri, password), 300*time.Millisecond
				})
			}
			_, err := mongostore.New(nil, storetest.SigningKey)
			_, errKey := mongostore.New(w.f.Coll, storetest.SigningKey, []byte(password))
			w.hears(err, errKey)
		},
		"closing": func(w *witness) {
			w.f.Wire.On("delete", storetest.Rule{Kind: storetest.Hang})
			w.b.Logout()
			ctx, cancel := context.WithCancel(w.t.Context())
			cancel()
			w.hears(w.f.Store.Close(ctx))
		},
	}

	var told storetest.LogBuffer // by all
	var walked atomic.Int64
	t.Run("paths", func(t *testing.T) {
		for what, path := range paths {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				w := &witness{t: t, log: &storetest.LogBuffer{}}
				w.f = storetest.Setup(t, func(c *mongostore.Config) {
					c.OwnerKey, c.SealKeys, c.Timeout = "user", [][]byte{seal}, 2*time.Second
					c.Logger = slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
				})
				w.b = w.f.Browser()
				w.b.Do(func(s *sessions.Session) { s.Values["user"], s.Values["card"] = "ada", card })
				id, cookie := w.b.Load().ID, w.b.Cookies[storetest.Name]

				path(w)
				walked.Add(1)

				var text strings.Builder
				for _, err := range w.errs {
					fmt.Fprintln(&text, err)
				}
				text.WriteString(w.log.String())
				if text.Len() == 0 {
					t.Error("nothing was told: this is no such path")
				}
				inner, err := base64.URLEncoding.DecodeString(cookie)
				if err != nil {
					t.Fatal(err)
				}
				for secret, s := range map[string]string{
					"the ID":             id,
					"the cookie":         cookie,
					"what it is made of": string(inner),
					"a value":            card,
					"a password":         password,
					"the signing key":    string(storetest.SigningKey),
					"the seal key":       string(seal),
					"its hexadecimals":   hex.EncodeToString(seal),
					"its base64":         base64.StdEncoding.EncodeToString(seal),
				} {
					if strings.Contains(text.String(), s) {
						t.Errorf("%s is told:\n%s", secret, &text)
					}
				}
				if _, err := io.WriteString(&told, text.String()); err != nil {
					t.Error(err)
				}
			})
		}
	})

	// And these were all.
	if walked.Load() < int64(len(paths)) {
		t.Log("not all paths were chosen to run, so none is missed")
		return
	}
	all := told.String()
	for text := range packageTexts(t) {
		if !strings.Contains(all, text) {
			t.Errorf("no path leads to %q", text)
		}
	}
}

// packageTexts returns the beginnings of all errors and warnings that the package has, as far as
// they are fixed.
func packageTexts(t *testing.T) map[string]bool {
	t.Helper()
	texts := map[string]bool{}
	for _, file := range storetest.SourceFiles(t, false) {
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			if err == nil && strings.HasPrefix(text, "mongostore: ") {
				text, _, _ = strings.Cut(text, "%")
				texts[strings.TrimSpace(text)] = true
			}
			return true
		})
	}
	if len(texts) < 20 {
		t.Errorf("found %d texts only", len(texts))
	}
	return texts
}
