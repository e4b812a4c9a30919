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
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/samples"
	"github.com/mongostore/mongostore/internal/storetest"
)

// witness collects the output of the package: errors and log.
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

// TestNothingConfidentialIsTold runs the package through every error and every warning that it
// has, with a server that quotes what it was sent, and finds no session ID, cookie, value or
// key in them.
func TestNothingConfidentialIsTold(t *testing.T) {
	t.Parallel()
	const card, password = "4111111111111111", "Tr0ub4dor"
	seal := storetest.SealKey(t)

	// quotes makes the server refuse commands with a message that discloses everything.
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
			for _, v := range []any{make(chan string), samples.Unregistered{Secret: card}, []any{card, func() {}}, map[string]any{card: make(chan int)}} {
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
			store := w.another(func(c *mongostore.Config) { c.OnConflict = mongostore.ConflictReject })
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
		"save, header nil": func(w *witness) {
			w.hears(w.f.Store.Save(w.b.Request(), headless{}, w.b.Load()))
		},
		"renewal, undecided": func(w *witness) {
			session := w.b.Load()
			quotes(w, 13, "find")
			w.f.Wire.On("update", storetest.Rule{Kind: storetest.LoseAnswer, Once: true})
			recorder, err := w.b.Clone().Renew(session)
			if err == nil || recorder.Header()["Set-Cookie"] == nil {
				w.t.Errorf("the renewal is decided: %v", err)
			}
			w.hears(err)
		},
		"load, damaged and begun again": func(w *witness) {
			w.f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "values.card", Value: bson.Timestamp{T: 1}}}}})
			store := w.another(func(c *mongostore.Config) { c.OnCorrupt = mongostore.CorruptRestart })
			_, err := store.New(w.b.Request(), storetest.Name)
			w.hears(err)
		},
		"middleware": func(w *witness) {
			serve := func(change func(*sessions.Session)) {
				handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					session, err := w.f.Store.Get(r, storetest.Name)
					if err != nil {
						w.t.Error(err)
					}
					change(session)
				})
				w.f.Store.Middleware(storetest.Name)(handler).ServeHTTP(httptest.NewRecorder(), w.b.Request())
			}
			w.f.Age(time.Hour)
			quotes(w, 13, "update")
			serve(func(*sessions.Session) {}) // a touch
			serve(change)
			serve(func(session *sessions.Session) { // and ignores the error
				change(session)
				w.hears(w.f.Store.Save(w.b.Request(), httptest.NewRecorder(), session))
			})
			w.f.Wire.Heal()
			late := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				session, err := w.f.Store.Get(r, storetest.Name)
				w.hears(err)
				_, err = rw.Write([]byte("page"))
				w.hears(err)
				change(session)
			})
			w.f.Store.Middleware(storetest.Name)(late).ServeHTTP(httptest.NewRecorder(), w.b.Request())
		},
		"ping, key and watch": func(w *witness) {
			_, err := w.f.Store.Key(w.f.Browser().Load())
			w.hears(err)
			quotes(w, 13, "aggregate")
			for _, err := range w.f.Store.Watch(w.t.Context()) {
				w.hears(err)
			}
			w.f.Wire.RefuseAll()
			w.hears(w.f.Store.Ping(w.t.Context()))
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
			store := w.another(func(c *mongostore.Config) { c.Cleanup = mongostore.CleanupSweep })
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
				store := w.another(func(c *mongostore.Config) { c.Cleanup = mongostore.CleanupTTLIndex })
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
	for _, file := range storetest.SourceFiles(t, ".", false) {
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if call, isCall := n.(*ast.CallExpr); isCall {
				if _, conversion := call.Fun.(*ast.ArrayType); conversion {
					return false // bytes, of a label
				}
			}
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

// TestErrorsAreDiscreet: MongoDB quotes the command that it refuses, and with it values.
func TestErrorsAreDiscreet(t *testing.T) {
	t.Parallel()
	const secret = "4111111111111111"
	quoting := bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: 13}, {Key: "codeName", Value: "Unauthorized"}, {Key: "errmsg", Value: "not authorized to execute command " + secret}}
	invalid := bson.D{{Key: "ok", Value: 1}, {Key: "n", Value: 0}, {Key: "writeErrors", Value: bson.A{bson.D{
		{Key: "index", Value: 0},
		{Key: "code", Value: 121},
		{Key: "errmsg", Value: "Document failed validation " + secret},
		{Key: "errInfo", Value: bson.D{{Key: "consideredValue", Value: secret}}},
	}}}}
	for command, replies := range map[string][]bson.D{"insert": {quoting, invalid}, "update": {quoting, invalid}, "delete": {quoting}, "find": {quoting}} {
		for _, reply := range replies {
			f := storetest.Setup(t)
			b := f.Browser()
			if command != "insert" {
				b.Login()
			}
			session := b.Load()
			session.Values["card"] = secret
			f.Wire.On(command, storetest.Rule{Kind: storetest.Answer, Reply: reply})
			var err error
			switch command {
			case "delete":
				b.Logout()
			case "find":
				_, err = f.Store.New(b.Request(), storetest.Name)
			default:
				_, err = b.Save(session)
			}
			if command != "delete" && !errors.Is(err, mongostore.ErrUnavailable) {
				t.Errorf("%s: %v", command, err)
			}
			if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), storetest.HashOf(session.ID))) {
				t.Errorf("%s: the error tells: %v", command, err)
			}
			var server mongo.ServerError
			if err != nil && !errors.As(err, &server) {
				t.Errorf("%s: the server's error cannot be had: %v", command, err)
			}
			if log := f.Text.String(); strings.Contains(log, secret) || session.ID != "" && strings.Contains(log, session.ID) {
				t.Errorf("%s: the log tells: %s", command, log)
			}
		}
	}
}

// TestRepeatedWrites: where the driver repeats writes, no visitor notices lost responses or an
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
	meet("insert", "update")
	if _, err := b.Renew(session); err != nil {
		return err
	}
	if !old.Load().IsNew {
		t.Error("the old ID works")
	}
	storetest.Eventually(t, "there is one session", func() bool { return len(f.Live()) == 1 })
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

// TestErrorWithoutCodeQuotesNothing: if a server, or a proxy, responds with only a message, the
// error does not contain the message.
func TestErrorWithoutCodeQuotesNothing(t *testing.T) {
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

// TestResponseToAnotherCommandIsRefused: a connection that is out of step returns the response
// to another visitor's request. Nobody gets another one's session.
func TestResponseToAnotherCommandIsRefused(t *testing.T) {
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

// duplicateKey is the response of a server whose collection has a unique index of somebody else's.
func duplicateKey(message string) bson.D {
	return bson.D{
		{Key: "ok", Value: 1},
		{Key: "n", Value: 0},
		{Key: "writeErrors", Value: bson.A{bson.D{{Key: "index", Value: 0}, {Key: "code", Value: 11000}, {Key: "errmsg", Value: message}}}},
	}
}

// TestDuplicateKeyNamesItsIndex: so that the operator finds it. The values in it stay out of the text.
func TestDuplicateKeyNamesItsIndex(t *testing.T) {
	t.Parallel()
	for what, message := range map[string]string{
		"today":                `E11000 duplicate key error collection: app.sessions index: sid_1 dup key: { sid: "` + storetest.CardNumber + `" }`,
		"null":                 `E11000 duplicate key error collection: app.sessions index: sid_1 dup key: { sid: null }`,
		"before 4.2":           `E11000 duplicate key error collection: app.sessions index: sid_1 dup key: { : "` + storetest.CardNumber + `" }`,
		"with a collation":     `E11000 duplicate key error collection: app.sessions index: sid_1 collation: { locale: "de" } dup key: { sid: "0x` + storetest.CardNumber + `" }`,
		"index within a value": `E11000 duplicate key error collection: app.sessions index: sid_1 dup key: { sid: " index: ` + storetest.CardNumber + ` dup key: " }`,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			check := func(err error) {
				t.Helper()
				if err == nil || errors.Is(err, mongostore.ErrGone) {
					t.Fatalf("error: %v", err)
				}
				if text := err.Error(); !strings.Contains(text, "sid_1") || !strings.Contains(text, "11000") || strings.Contains(text, storetest.CardNumber) {
					t.Errorf("error: %v", err)
				}
			}
			b := f.Browser()
			f.Wire.On("insert", storetest.Rule{Kind: storetest.Answer, Reply: duplicateKey(message), Once: true})
			w, err := b.Save(b.Load())
			check(err)
			storetest.WantNoCookie(t, "insert", w)
			b.Visit(storetest.SetValue("user", "ada"))
			session := b.Load()
			session.Values["card"] = storetest.CardNumber
			f.Wire.On("update", storetest.Rule{Kind: storetest.Answer, Reply: duplicateKey(message), Once: true})
			w, err = b.Save(session)
			check(err)
			storetest.WantNoCookie(t, "update", w)
			f.Wire.On("insert", storetest.Rule{Kind: storetest.Answer, Reply: duplicateKey(message), Once: true})
			w, err = b.Renew(session)
			check(err)
			storetest.WantNoCookie(t, "renewal", w)
		})
	}
}

// TestMalformedDuplicateKeyQuotesNothing: a message of another form is left out.
func TestMalformedDuplicateKeyQuotesNothing(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	for _, message := range []string{
		"duplicate key " + storetest.CardNumber, "index: " + storetest.CardNumber, `E11000 duplicate key error collection: app.sessions dup key: { index: "` + storetest.CardNumber + `" }`, "",
	} {
		b := f.Browser()
		f.Wire.On("insert", storetest.Rule{Kind: storetest.Answer, Reply: duplicateKey(message), Once: true})
		if _, err := b.Save(b.Load()); err == nil || strings.Contains(err.Error(), storetest.CardNumber) {
			t.Errorf("%q: %v", message, err)
		}
	}
}

// TestNoServersWordsInAnError: by whatever way. The driver quotes the last error of a
// server in its description of the topology.
func TestNoServersWordsInAnError(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"", "rs"} {
		for _, code := range []struct {
			code int
			name string
		}{{10107, "NotWritablePrimary"}, {189, "PrimarySteppedDown"}, {91, "ShutdownInProgress"}, {11600, "InterruptedAtShutdown"}} {
			t.Run(code.name+" "+set, func(t *testing.T) {
				t.Parallel()
				f, s := storetest.SetupScripted(t, set)
				if err := f.Cfg.Client.Disconnect(t.Context()); err != nil {
					t.Fatal(err)
				}
				// A hello that hangs is given up later than the calls below.
				f.Cfg.Client = s.Client(f, func(o *options.ClientOptions) { o.SetConnectTimeout(4 * time.Second) })
				f.Store = f.OpenWith(500 * time.Millisecond)
				b := f.Browser()
				b.Visit(storetest.SetValue("user", "ada"))
				loaded, leaving := b.Load(), b.Load()
				loaded.Values["card"] = storetest.CardNumber
				s.On("update", storetest.Line{Reply: append(storetest.Quoting(code.code, code.name), storetest.Retryable)})
				// The driver learns nothing newer: neither of its two monitors, nor a new connection.
				seen := make(chan struct{}, 100)
				f.Wire.On("", storetest.Rule{Kind: storetest.Hang})
				f.Wire.On("hello", storetest.Rule{Kind: storetest.Hang, Seen: seen})
				for range 2 {
					<-seen
				}
				_, errSave := b.Clone().Save(loaded)
				_, errLoad := f.Store.New(b.Request(), storetest.Name)
				_, errCount := f.Store.Count(t.Context())
				errRemove := f.Store.Remove(t.Context(), leaving)
				leaving.Options.MaxAge = -1
				if _, err := b.Clone().Save(leaving); err != nil {
					t.Errorf("logout: %v", err)
				}
				for what, err := range map[string]error{"Save": errSave, "New": errLoad, "Count": errCount, "Remove": errRemove} {
					if err == nil {
						continue
					}
					if strings.Contains(err.Error(), storetest.CardNumber) {
						t.Errorf("%s: %v", what, err)
					}
				}
				if strings.Contains(f.Text.String(), storetest.CardNumber) {
					t.Errorf("log: %s", f.Text)
				}
				// The driver itself does quote it.
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				defer cancel()
				if err := f.Cfg.Client.Ping(ctx, nil); err == nil || !strings.Contains(err.Error(), storetest.CardNumber) {
					t.Errorf("the driver's error: %v", err)
				}
			})
		}
	}
}
