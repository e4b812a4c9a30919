package bench

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	lazy "github.com/laziness-coders/mongostore"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
)

var updateFlag = flag.Bool("update", false, "write docs/comparison.md, and the short table between the README's markers")

const (
	yes  = "yes"
	no   = "no"
	none = "–" // the question does not arise
)

// feature is a row of the comparison: what is claimed of each store, and the trial that
// shows it.
type feature struct {
	name  string
	short bool   // in the README too
	waits bool   // most of the time, so that it begins at once
	how   string // it was tried
	trial func(*trial) string
	want  [len(peers)]string // this store, laziness-coders', scs, CookieStore, FilesystemStore
}

var lateSaves, changesAtOnce = 200, 50

// strengths are what the others have, or can do without.
var strengths = []feature{
	{
		"Works without a database", true, false,
		"The database is unavailable from the start. A visitor logs in and comes back.",
		withoutDatabase,
		[...]string{no, no, "yes: `memstore`", yes, yes},
	},
	{
		"Commands to load a session", false, false,
		"Counted. FilesystemStore reads a file instead: without the file, the session is gone.",
		commandsToLoad,
		[...]string{"1", "1", "1", "0", "0; reads a file"},
	},
	{
		"Any backend", true, false,
		"scs ran on a Go map behind three methods. The constructors of the others accept no backend.",
		anyBackend,
		[...]string{no, no, yes, no, no},
	},
	{
		"Typed getters instead of type assertions", false, false,
		"`GetInt` and `PopString` of scs, `Value` of this store. The others have no such method, nor has gorilla's session.",
		typedGetters,
		[...]string{"yes: `Value`", no, yes, no, no},
	},
	{
		"Saves without a call of `Save`", false, false,
		"A handler changes a value and returns. The next request looks for it. This store and scs with their middlewares.",
		savesItself,
		[...]string{"yes: `Middleware`", no, yes, no, no},
	},
	{
		"Session from a header instead of a cookie", false, false,
		"Two requests without any cookie, with the ID in a header. laziness-coders' `Token` was a type of two methods " +
			"that read and write the header. For scs and this store, a handler called the two functions.",
		fromHeader,
		[...]string{"by `Fetch`, `Persist`", "yes: `Token`", "by `Load`, `Commit`", no, no},
	},
	{
		"Iterates over the sessions of all users", false, false,
		"`All` of this store, `Iterate` of scs with its `memstore`. The others have no such method.",
		visitsAll,
		[...]string{"yes: `All`", no, "yes: `Iterate`", no, no},
	},
	{
		"Merges another session into the current one", false, false,
		"`MergeSession` of scs. The others have no such method.",
		merges,
		[...]string{no, no, "yes: `MergeSession`", no, no},
	},
}

// features are what this store was made for.
var features = []feature{
	{
		"Sessions that a late save brings back after the logout", true, false,
		"200 sessions. One request loads the session, another one logs out, then the first changes and saves it. The cookie " +
			"that its browser has then is tried.",
		revived,
		[...]string{"0 of 200", "200 of 200", "200 of 200", "200 of 200", "200 of 200"},
	},
	{
		"Changes lost, of 50 concurrent requests", true, false,
		"50 requests load one session, each sets another key, all save.",
		lostChanges,
		[...]string{"0 of 50", "49 of 50", "49 of 50", "49 of 50", "49 of 50"},
	},
	{
		"An outage looks different from a logout", true, true,
		"The result of a load while the connection is cut, compared with that after a logout. In the trials with an " +
			"outage the drivers looked for a server for 3 s instead of 30, and FilesystemStore's folder was removed. It " +
			"returns `fs.ErrNotExist` in both cases.",
		outageTold,
		[...]string{yes, no, yes, none, no},
	},
	{
		"A request during an outage leaves the session as it was", false, true,
		"Load, change and save while the connection is cut; then the visitor comes back.",
		outageKeeps,
		[...]string{yes, yes, yes, none, yes},
	},
	{
		"A request at the end of an outage leaves the session as it was", false, true,
		"The load fails, the connection heals, the handler changes a value and saves, as if there had been no session; then " +
			"the visitor comes back. scs does not call the handler.",
		outageEnds,
		[...]string{yes, no, yes, none, no},
	},
	{
		"A logout during an outage ends the session", false, true,
		"The logout is called while the connection is cut. Afterwards a copy of the cookie is tried.",
		outageLogout,
		[...]string{yes, no, no, none, no},
	},
	{
		"A load returns from a server that hangs", false, true,
		"No message arrives, and the application has set no deadline, neither for the request nor in the connection " +
			"string. scs leaves deadlines to its backend, and its backend for MongoDB has none.",
		hangs,
		[...]string{"in 5 s: `Timeout`", "not in 8 s", "not in 8 s", none, none},
	},
	{
		"An unknown ID is not adopted", false, false,
		"A cookie with a valid signature, where the store signs, and without a session. One request with it saves. Does " +
			"another one with it find that session?",
		unknownID,
		[...]string{yes, no, yes, none, no},
	},
	{
		"Safe if somebody steals the database", false, false,
		"Every string in it was sent as the cookie. scs with and without its option `HashTokenInStore`, which is off by default.",
		stolenDatabase,
		[...]string{yes, yes, "with an option", none, yes},
	},
	{
		"Safe if somebody steals the database and the signing key", true, false,
		"As in the last row, with each string also signed. CookieStore's session was forged with the key alone.",
		stolenKey,
		[...]string{yes, no, "with an option", no, no},
	},
	{
		"A new ID at login ends the old one", false, false,
		"`Renew`, `RenewToken`. For the others, the ID was emptied before `Save`. A copy of the old cookie was tried.",
		renewed,
		[...]string{yes, no, yes, no, no},
	},
	{
		"Values can be queried in the database", true, false,
		"A query for a field with the value.",
		queried,
		[...]string{yes, no, no, none, no},
	},
	{
		"Saving an unchanged session writes nothing", false, false,
		"Bytes of the commands that write were counted, or the time of the file compared. This store moves the expiry once per " +
			"`TouchInterval`. scs writes at every request if it has an `IdleTimeout`.",
		unchanged,
		[...]string{"yes, except for the expiry", no, "yes, without an idle timeout", none, no},
	},
	{
		"Bytes sent for one changed key of 64 KiB", false, false,
		"64 keys of 1 KiB. The size of the documents in the commands that write, or of the file. securecookie's limit was lifted.",
		sentForOne,
		[...]string{"about 1 KiB", "about 120 KiB", "about 65 KiB", "does not fit", "about 120 KiB"},
	},
	{
		"Accepts more than 4096 bytes by default", false, false,
		"A string of 5000 bytes.",
		large,
		[...]string{yes, no, yes, no, no},
	},
	{
		"Go types that come back", false, false,
		"`int`, `[]string`, `time.Time` with nanoseconds and zone, `nil`, a registered struct; `time.Time` registered too. " +
			"A type counts if its value is there in the next request.",
		types,
		[...]string{"all", "all", "all", "all", "all"},
	},
	{
		"Go types without `gob.Register`", false, false,
		"`map[string]string`, `map[string]any`, `time.Duration`, of which nothing was registered, and `[]string`.",
		unregistered,
		[...]string{"all", "`[]string`", "`[]string`", "`[]string`", "`[]string`"},
	},
	{
		"An empty list comes back empty, and not `nil`", false, false,
		"`[]string{}`, which JSON writes as `[]`, and nil as `null`.",
		emptyList,
		[...]string{yes, no, no, no, no},
	},
	{
		"Lists and ends the sessions of a user", true, false,
		"Two sessions of one user and one of another. scs has `Iterate` over all sessions, if the backend supports it. The " +
			"others have no such method.",
		devices,
		[...]string{"yes: `Sessions`, `RevokeAll`", no, "by iterating over all", no, no},
	},
	{
		"Idle timeout kept by the server", false, true,
		"One second, as the store's `MaxAge` (scs: `IdleTimeout`, off by default). The cookie is sent again later, while the " +
			"session is in the database or the folder as before.",
		idle,
		[...]string{yes, yes, yes, yes, yes},
	},
	{
		"Absolute timeout kept by the server", false, true,
		"Three seconds, as `AbsoluteTimeout` (off by default) or scs's `Lifetime` (24 hours by default), in a session that is " +
			"changed several times a second.",
		absolute,
		[...]string{yes, no, yes, no, no},
	},
	{
		"A session's own lifetime is kept on later requests", false, false,
		"`MaxAge` (scs: `SetDeadline`) of an hour, set in one request. The cookie after the next request is compared.",
		ownLifetime,
		[...]string{yes, no, yes, no, no},
	},
	{
		"A session's own lifetime is kept by the server", false, true,
		"One second, of one session. The cookie is sent again later.",
		ownLifetimeServer,
		[...]string{yes, no, yes, no, no},
	},
}

// TestComparison puts all stores to all trials, and holds the page against what came out. With
// -update it writes the page.
func TestComparison(t *testing.T) {
	gob.Register(time.Time{})
	gob.Register(basket{})
	environment(t) // started before the clocks run
	rows := slices.Concat(strengths, features)
	got := make([][len(peers)]string, len(rows))
	var all sync.WaitGroup
	busy := make(chan struct{}, 8) // more at once would look like outages
	for i, row := range rows {
		for j, p := range peers {
			all.Go(func() {
				if !row.waits {
					busy <- struct{}{}
					defer func() { <-busy }()
				}
				x := &trial{T: t, what: row.name, peer: p}
				defer x.finish()
				got[i][j] = row.trial(x)
			})
		}
	}
	all.Wait()
	t.Logf("%d trials", len(rows)*len(peers))
	for i, row := range rows {
		for j, p := range peers {
			if got[i][j] != row.want[j] {
				t.Errorf("%s: %s: %q, and the table says %q", row.name, p.name, got[i][j], row.want[j])
			}
		}
	}
	root := filepath.Join("..", "..")
	page := comparisonPage(t)
	checkWritten(t, filepath.Join(root, "docs", "comparison.md"), func([]byte) []byte { return page })
	checkWritten(t, filepath.Join(root, "README.md"), shortComparison)
}

// checkWritten holds a file against what it must be, given what it is. With -update it is made so,
// if the table holds.
func checkWritten(t *testing.T, file string, rewrite func([]byte) []byte) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	want := rewrite(content)
	if bytes.Equal(content, want) {
		return
	}
	if !*updateFlag || t.Failed() {
		t.Errorf("%s is not what -update writes", filepath.Base(file))
		return
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, want, 0o644)); err != nil {
		t.Error(err)
	}
}

// The markers between which the README's table stands.
const (
	beginComparison = "<!-- comparison: made by internal/bench, go test -run TestComparison -update -->\n"
	endComparison   = "<!-- end of comparison -->\n"
)

// shortComparison writes the short table between the markers of a page, if it has them.
func shortComparison(page []byte) []byte {
	before, rest, begins := strings.Cut(string(page), beginComparison)
	_, after, ends := strings.Cut(rest, endComparison)
	if !begins || !ends {
		return page
	}
	var b bytes.Buffer
	b.WriteString(before + beginComparison + "\n")
	writeTable(&b, slices.DeleteFunc(slices.Concat(strengths, features), func(row feature) bool { return !row.short }))
	b.WriteString("\n" + endComparison + after)
	return b.Bytes()
}

// writeTable writes rows as a table in Markdown.
func writeTable(b *bytes.Buffer, rows []feature) {
	b.WriteString("|")
	for _, p := range peers {
		b.WriteString(" | " + p.name)
	}
	b.WriteString(" |\n|---" + strings.Repeat("|---", len(peers)) + "|\n")
	for _, row := range rows {
		fmt.Fprintf(b, "| %s | %s |\n", row.name, strings.Join(row.want[:], " | "))
	}
}

// comparisonPage is the table, for people.
func comparisonPage(t *testing.T) []byte {
	t.Helper()
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := func(module string) string {
		found := regexp.MustCompile(`(?m)^\t` + regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(mod)
		if found == nil {
			t.Fatal("no version of", module)
		}
		return "`" + module + "` " + string(found[1])
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, comparisonHead, version("github.com/laziness-coders/mongostore"), version("go.mongodb.org/mongo-driver"),
		version("github.com/alexedwards/scs/v2"), version("go.mongodb.org/mongo-driver/v2"),
		version("github.com/gorilla/sessions"), version("github.com/gorilla/securecookie"))
	for _, part := range []struct {
		title string
		rows  []feature
	}{{"What others have", strengths}, {"What this store is made for", features}} {
		fmt.Fprintf(&b, "\n## %s\n\n", part.title)
		writeTable(&b, part.rows)
		b.WriteString("\nHow each row was tried:\n\n")
		for _, row := range part.rows {
			fmt.Fprintf(&b, "- *%s:* %s\n", row.name, row.how)
		}
	}
	return b.Bytes()
}

const comparisonHead = `<!-- Made by: go -C internal/bench test -run TestComparison -update . -->

# How does it compare with other session stores?

With this store, a late save cannot bring a session back, concurrent requests do not lose changes, and an outage logs nobody
out. In return it needs MongoDB. The first table lists what the others have instead.

Each cell is what a test saw the store do, with the store's defaults unless the row says otherwise. "–" means that the question
does not apply. The test fails if this page is wrong:

    go -C internal/bench test -run TestComparison .

The other stores are:

- %s, on %s. It is
  gin-contrib/sessions' store for MongoDB too, as ` + "`mongo/mongodriver`" + `.
- %s with its middleware, on a backend like its own one for MongoDB: the whole session is one
  value, upserted under its token. Here on %s.
- ` + "`CookieStore` and `FilesystemStore`" + ` of %s, with
  %s.

Redis stores are not tested, as the tests have no Redis. By their source, [redistore](https://github.com/boj/redistore) and
[redisstore](https://github.com/rbcervilla/redisstore) read and write the whole session as one value, like
laziness-coders/mongostore. So a late save brings a session back after the logout, and of concurrent changes the last one
stays. Unlike it, they return an outage as an error. Redis itself deletes expired sessions.
`

// answerTo returns a trial's answer.
func answerTo(is bool) string {
	if is {
		return yes
	}
	return no
}

// basket is an application's own type.
type basket struct {
	Items []string
	Total int
}

// The trials of what the others have.

func withoutDatabase(x *trial) string {
	if x.peer.name == "scs" {
		s := throughSCS(scs.New())
		return answerTo(x.loggedIn(s, x.login(s))) + ": `memstore`"
	}
	if x.peer.name == "this store" {
		// Open would not return a store.
		_, err := mongostore.Open(x.Context(), mongostore.Config{URI: "mongodb://127.0.0.1:1", Database: "x", Timeout: time.Second}, signingKey)
		return answerTo(!errors.Is(err, mongostore.ErrUnavailable))
	}
	w := &wire{}
	w.cut()
	s := x.peer.open(x, setting{wire: w})
	v := &visitor{}
	s.request(v, func(in visit) { in.set("user", "ada") })
	return answerTo(x.loggedIn(s, v))
}

func commandsToLoad(x *trial) string {
	m := &Meter{}
	s := x.peer.open(x, setting{meter: m})
	v := x.login(s)
	before := m.Read()
	if !x.loggedIn(s, v) {
		x.fatal("not loaded")
	}
	commands := fmt.Sprint(m.Read().sub(before).Commands)
	if s.dir != "" {
		if x.lost(s); !x.loggedIn(s, v) {
			return commands + "; reads a file"
		}
	}
	return commands
}

// mapped is a backend of scs: a map.
type mapped struct {
	mu   sync.Mutex
	data map[string][]byte
}

func (m *mapped) Find(token string) ([]byte, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.data[token]
	return b, ok, nil
}

func (m *mapped) Commit(token string, b []byte, _ time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data[token] = b
	return nil
}

func (m *mapped) Delete(token string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.data, token)
	return nil
}

// types of the others' constructors, stores and gorilla's session, to look through.
var (
	constructors = map[string]any{
		"this store":                 mongostore.New,
		"laziness-coders/mongostore": lazy.NewMongoStore,
		"CookieStore":                sessions.NewCookieStore,
		"FilesystemStore":            sessions.NewFilesystemStore,
	}
	methods = map[string][]string{
		"this store": {
			"All", "Close", "Count", "DeleteExpired", "EnsureIndexes", "Fetch", "Get", "Key", "MaxAge", "Middleware", "New",
			"Persist", "Ping", "Remove", "Renew", "Revoke", "RevokeAll", "Save", "Sessions", "Touch", "Watch",
		},
		"laziness-coders/mongostore": {"Get", "MaxAge", "New", "Save"},
		"CookieStore":                {"Get", "MaxAge", "New", "Save"},
		"FilesystemStore":            {"Get", "MaxAge", "MaxLength", "New", "Save"},
	}
)

// knowsMethods fails if the store has other methods than those that were looked through when the
// table was written, so that a "no" is looked at again when it gets new ones.
func (x *trial) knowsMethods() {
	x.Helper()
	check := func(typ reflect.Type, want []string) {
		var got []string
		for i := range typ.NumMethod() {
			got = append(got, typ.Method(i).Name)
		}
		if !slices.Equal(got, want) {
			x.fatal("methods of", typ, "are", got)
		}
	}
	check(reflect.TypeOf(constructors[x.peer.name]).Out(0), methods[x.peer.name])
	check(reflect.TypeFor[*sessions.Session](), []string{"AddFlash", "Flashes", "Name", "Save", "Store"})
}

func anyBackend(x *trial) string {
	if x.peer.name == "scs" {
		manager := scs.New()
		manager.Store = &mapped{data: map[string][]byte{}}
		s := throughSCS(manager)
		return answerTo(x.loggedIn(s, x.login(s)))
	}
	constructor := reflect.TypeOf(constructors[x.peer.name])
	for i := range constructor.NumIn() {
		if constructor.In(i).Kind() == reflect.Interface {
			return yes
		}
	}
	return no
}

func typedGetters(x *trial) string {
	s := x.peer.open(x, setting{})
	if s.own != nil {
		session := sessions.NewSession(s.own, cookieName)
		session.Values["n"] = 42
		n, ok := mongostore.Value[int](session, "n")
		_, wrong := mongostore.Value[string](session, "n")
		return answerTo(ok && n == 42 && !wrong) + ": `Value`"
	}
	if s.manager == nil {
		x.knowsMethods()
		return no
	}
	ctx, err := s.manager.Load(x.Context(), "")
	x.must(err)
	s.manager.Put(ctx, "n", 42)
	s.manager.Put(ctx, "text", "x")
	return answerTo(s.manager.GetInt(ctx, "n") == 42 && s.manager.PopString(ctx, "text") == "x" && !s.manager.Exists(ctx, "text"))
}

func savesItself(x *trial) string {
	s := x.peer.open(x, setting{})
	v, by := x.login(s), ""
	if s.own != nil {
		by = ": `Middleware`"
		s.own.Middleware(cookieName)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			session, err := s.own.Get(r, cookieName)
			x.must(err)
			session.Values["n"] = 1
		})).ServeHTTP(httptest.NewRecorder(), v.request())
	} else {
		s.request(v, func(in visit) {
			in.set("n", 1)
			in.skip()
		})
	}
	saved := false
	s.request(v, func(in visit) { _, saved = in.get("n") })
	return answerTo(saved) + by
}

const idHeader = "X-Session"

// headerToken is a Token of laziness-coders' store.
type headerToken struct{}

func (headerToken) GetToken(r *http.Request, _ string) (string, error) {
	if id := r.Header.Get(idHeader); id != "" {
		return id, nil
	}
	return "", http.ErrNoCookie
}

func (headerToken) SetToken(w http.ResponseWriter, _, value string, _ *sessions.Options) {
	w.Header().Set(idHeader, value)
}

func fromHeader(x *trial) string {
	if !x.peer.database {
		x.knowsMethods()
		return no
	}
	s := x.peer.open(x, setting{})
	by := map[string]func(http.ResponseWriter, *http.Request) any{
		"by `Fetch`, `Persist`": func(w http.ResponseWriter, r *http.Request) any {
			session, err := s.own.Fetch(r.Context(), cookieName, r.Header.Get(idHeader))
			if errors.Is(err, mongostore.ErrNotFound) {
				session, err = sessions.NewSession(s.own, cookieName), nil
			}
			x.must(err)
			before := session.Values["n"]
			session.Values["n"] = 1
			x.must(s.own.Persist(r.Context(), session))
			w.Header().Set(idHeader, session.ID)
			return before
		},
		"by `Load`, `Commit`": func(w http.ResponseWriter, r *http.Request) any {
			ctx, err := s.manager.Load(r.Context(), r.Header.Get(idHeader))
			x.must(err)
			before := s.manager.Get(ctx, "n")
			s.manager.Put(ctx, "n", 1)
			token, _, err := s.manager.Commit(ctx)
			x.must(err)
			w.Header().Set(idHeader, token)
			return before
		},
		"yes: `Token`": func(w http.ResponseWriter, r *http.Request) any {
			s.lazy.Token = headerToken{}
			session, err := s.lazy.Get(r, cookieName)
			x.must(err)
			before := session.Values["n"]
			session.Values["n"] = 1
			x.must(session.Save(r, w))
			return before
		},
	}
	name := map[bool]string{s.own != nil: "by `Fetch`, `Persist`", s.manager != nil: "by `Load`, `Commit`", s.lazy != nil: "yes: `Token`"}[true]
	b := &Browser{}
	w, r := b.request()
	if got := by[name](w, r); got != nil {
		x.fatal("the first request has a value")
	}
	id := w.Header().Get(idHeader)
	w, r = b.request()
	r.Header.Set(idHeader, id)
	if got := by[name](w, r); got != 1 || len(w.Result().Cookies()) > 0 {
		return no
	}
	return name
}

func visitsAll(x *trial) string {
	visited := 0
	switch x.peer.name {
	case "this store":
		s := x.peer.open(x, setting{})
		x.login(s)
		x.login(s)
		for _, err := range s.own.All(x.Context()) {
			x.must(err)
			visited++
		}
		return answerTo(visited == 2) + ": `All`"
	case "scs":
	default:
		x.knowsMethods()
		return no
	}
	s := throughSCS(scs.New())
	x.login(s)
	x.login(s)
	x.must(s.manager.Iterate(x.Context(), func(context.Context) error {
		visited++
		return nil
	}))
	return answerTo(visited == 2) + ": `Iterate`"
}

func merges(x *trial) string {
	if x.peer.name != "scs" {
		x.knowsMethods()
		return no
	}
	s := x.peer.open(x, setting{})
	first, second := x.login(s), &visitor{}
	s.request(second, func(in visit) {
		in.set("n", 1)
		x.must(s.manager.MergeSession(in.(*scsVisit).ctx, first.cookie))
	})
	return answerTo(x.loggedIn(s, second) && !x.loggedIn(s, first)) + ": `MergeSession`"
}

// The trials of what this store was made for.

func revived(x *trial) string {
	s := x.peer.open(x, setting{})
	count := 0
	for range lateSaves {
		v := &visitor{}
		a := s.request(v, func(in visit) { in.set("user", "ada") })
		x.must(errors.Join(a.load, a.save))
		late := s.request(v, func(in visit) {
			if !in.known() {
				x.fatal("not loaded")
			}
			a := s.request(v.clone(), func(in visit) { in.end() })
			x.must(errors.Join(a.load, a.save))
			in.set("late", true)
		})
		if s.own != nil && (!errors.Is(late.save, mongostore.ErrGone) || len(late.cookies) > 0) {
			x.fatal("the late save:", late.save)
		}
		if x.loggedIn(s, v) {
			count++
		}
		if s.coll != nil {
			x.lost(s) // the embedded server reads a collection from its beginning
		}
	}
	return fmt.Sprintf("%d of %d", count, lateSaves)
}

func lostChanges(x *trial) string {
	s := x.peer.open(x, setting{})
	v := x.login(s)
	var loaded, done sync.WaitGroup
	loaded.Add(changesAtOnce)
	for i := range changesAtOnce {
		done.Go(func() {
			arrive := sync.OnceFunc(loaded.Done)
			defer arrive()
			a := s.request(v, func(in visit) {
				arrive()
				loaded.Wait()
				in.set(fmt.Sprint("key", i), i)
			})
			if err := errors.Join(a.load, a.save); err != nil {
				x.Errorf("%s: change: %v", x.peer.name, err)
			}
		})
	}
	done.Wait()
	lost := changesAtOnce
	s.request(v, func(in visit) {
		for i := range changesAtOnce {
			if got, _ := in.get(fmt.Sprint("key", i)); got == i {
				lost--
			}
		}
		in.skip()
	})
	return fmt.Sprintf("%d of %d", lost, changesAtOnce)
}

// outage is a subject, a visitor of it, and the way to take its storage away and give it back.
func outage(x *trial) (s *subject, v *visitor, begin, end func()) {
	w := &wire{}
	s = x.peer.open(x, setting{wire: w})
	v = x.login(s)
	if s.dir != "" {
		away := s.dir + "-away"
		return s, v, func() { x.must(os.Rename(s.dir, away)) }, func() { x.must(os.Rename(away, s.dir)) }
	}
	return s, v, w.cut, func() {
		w.heal()
		if !within(20*time.Second, func() bool { return s.ping(x.Context()) == nil }) {
			x.fatal("the server does not come back")
		}
	}
}

func outageTold(x *trial) string {
	if !x.peer.database && x.peer.name == "CookieStore" {
		return none
	}
	s, v, begin, end := outage(x)
	load := func(v *visitor) error { return s.request(v, func(in visit) { in.skip() }).load }
	gone := x.login(s)
	copied := gone.clone()
	s.request(gone, func(in visit) { in.end() })
	logout := load(copied)
	begin()
	away := load(v)
	end()
	if s.own != nil && !errors.Is(away, mongostore.ErrUnavailable) {
		x.fatal("the load's error:", away)
	}
	// What an application can tell apart.
	return answerTo(away != nil && (logout == nil || errors.Is(away, fs.ErrNotExist) != errors.Is(logout, fs.ErrNotExist)))
}

func outageKeeps(x *trial) string {
	if x.peer.name == "CookieStore" {
		return none
	}
	s, v, begin, end := outage(x)
	begin()
	a := s.request(v, func(in visit) { in.set("n", 1) })
	end()
	return answerTo(len(a.cookies) == 0 && x.loggedIn(s, v))
}

func outageEnds(x *trial) string {
	if x.peer.name == "CookieStore" {
		return none
	}
	s, v, begin, end := outage(x)
	begin()
	healed := false
	s.request(v, func(in visit) {
		if in.known() {
			x.fatal("there is no outage")
		}
		end()
		healed = true
		in.set("n", 1)
	})
	if !healed { // the handler was not called
		end()
	}
	return answerTo(x.loggedIn(s, v))
}

func outageLogout(x *trial) string {
	if x.peer.name == "CookieStore" {
		return none
	}
	s, v, begin, end := outage(x)
	copied := v.clone()
	begin()
	s.request(v, func(in visit) { in.end() })
	end()
	return answerTo(v.cookie == "" && !x.loggedIn(s, copied))
}

func hangs(x *trial) string {
	if !x.peer.database {
		return none
	}
	const patience = 8 * time.Second
	w := &wire{}
	s := x.peer.open(x, setting{wire: w})
	v := x.login(s)
	w.swallow()
	loaded := make(chan answer, 1)
	begin := time.Now()
	go func() { loaded <- s.request(v, func(in visit) { in.skip() }) }()
	select {
	case a := <-loaded:
		if a.load == nil {
			x.fatal("nothing hangs")
		}
		if took := time.Since(begin); took < timeout-100*time.Millisecond {
			x.fatal("returned after", took)
		}
		return fmt.Sprintf("in %.0f s: `Timeout`", timeout.Seconds())
	case <-time.After(patience):
		w.cut()
		<-loaded
		return fmt.Sprintf("not in %.0f s", patience.Seconds())
	}
}

func unknownID(x *trial) string {
	if x.peer.name == "CookieStore" {
		return none // there is no ID
	}
	s := x.peer.open(x, setting{})
	victim := x.login(s)
	planter := victim.clone()
	x.lost(s)
	if x.loggedIn(s, victim) {
		x.fatal("the session is not gone")
	}
	s.request(victim, func(in visit) { in.set("user", "ada") })
	if !x.loggedIn(s, victim) {
		x.fatal("the new session is not stored")
	}
	return answerTo(!x.loggedIn(s, planter))
}

// secrets are all strings that the store keeps about sessions.
func (x *trial) secrets(s *subject) []string {
	x.Helper()
	var found []string
	if s.coll == nil {
		for _, file := range x.files(s) {
			content, err := os.ReadFile(file)
			x.must(err)
			found = append(found, string(content), strings.TrimPrefix(filepath.Base(file), "session_"))
		}
		return found
	}
	for _, doc := range x.documents(s) {
		for _, field := range fields(doc, "") {
			if text, ok := field.value.StringValueOK(); ok {
				found = append(found, text)
			} else if _, data, ok := field.value.BinaryOK(); ok {
				found = append(found, string(data))
			}
		}
	}
	return found
}

// field is a value in a document, and the path to it.
type field struct {
	path  string
	value bson.RawValue
}

func fields(doc bson.Raw, prefix string) []field {
	var all []field
	elements, _ := doc.Elements()
	for _, e := range elements {
		path := prefix + e.Key()
		all = append(all, field{path, e.Value()})
		if inner, ok := e.Value().DocumentOK(); ok {
			all = append(all, fields(inner, path+".")...)
		}
	}
	return all
}

// opened reports whether one of the cookies opens the session that is there.
func (x *trial) opened(s *subject, cookies []string) bool {
	return slices.ContainsFunc(cookies, func(cookie string) bool {
		return (&http.Cookie{Name: cookieName, Value: cookie}).Valid() == nil && x.loggedIn(s, &visitor{cookie: cookie})
	})
}

func stolenDatabase(x *trial) string {
	if x.peer.name == "CookieStore" {
		return none
	}
	opens := func(set setting) bool {
		s := x.peer.open(x, set)
		x.login(s)
		return x.opened(s, x.secrets(s))
	}
	return byHashing(x, opens)
}

// byHashing answers for scs with and without its option.
func byHashing(x *trial, opens func(setting) bool) string {
	is := answerTo(!opens(setting{}))
	if x.peer.name == "scs" && is == no && !opens(setting{hashed: true}) {
		return "with an option"
	}
	return is
}

func stolenKey(x *trial) string {
	return byHashing(x, func(set setting) bool {
		s := x.peer.open(x, set)
		x.login(s)
		var stolen []any
		if x.peer.name == "CookieStore" {
			stolen = append(stolen, map[any]any{"user": "ada"}) // whoever's
		} else {
			for _, text := range x.secrets(s) {
				stolen = append(stolen, text)
			}
		}
		var cookies []string
		for _, content := range stolen {
			cookie, err := fmt.Sprint(content), error(nil)
			if s.codecs != nil {
				cookie, err = securecookie.EncodeMulti(cookieName, content, s.codecs...)
			}
			if err == nil {
				cookies = append(cookies, cookie)
			}
		}
		if len(cookies) == 0 {
			x.fatal("nothing to try")
		}
		return x.opened(s, cookies)
	})
}

func renewed(x *trial) string {
	s := x.peer.open(x, setting{})
	v := x.login(s)
	before := v.clone()
	a := s.request(v, func(in visit) {
		in.set("role", "admin")
		x.must(in.renew())
	})
	x.must(errors.Join(a.load, a.save))
	if !x.loggedIn(s, v) || v.cookie == before.cookie {
		x.fatal("no new session")
	}
	return answerTo(!x.loggedIn(s, before))
}

func queried(x *trial) string {
	if x.peer.name == "CookieStore" {
		return none
	}
	s := x.peer.open(x, setting{})
	x.login(s)
	if s.coll == nil {
		return answerTo(slices.Contains(x.secrets(s), "ada"))
	}
	for _, doc := range x.documents(s) {
		for _, f := range fields(doc, "") {
			if text, ok := f.value.StringValueOK(); ok && text == "ada" {
				n, err := s.coll.CountDocuments(x.Context(), bson.D{{Key: f.path, Value: "ada"}})
				x.must(err)
				return answerTo(n == 1)
			}
		}
	}
	return no
}

func unchanged(x *trial) string {
	if x.peer.name == "CookieStore" {
		return none
	}
	written := func(set setting) int64 {
		m := &Meter{}
		set.meter = m
		s := x.peer.open(x, set)
		v := x.login(s)
		epoch := time.Unix(1e9, 0)
		if s.dir != "" {
			x.must(os.Chtimes(x.files(s)[0], epoch, epoch))
		}
		before := m.Read()
		a := s.request(v, func(visit) {})
		x.must(errors.Join(a.load, a.save))
		if s.dir != "" {
			info, err := os.Stat(x.files(s)[0])
			if x.must(err); !info.ModTime().Equal(epoch) {
				return info.Size()
			}
		}
		return m.Read().sub(before).Written
	}
	if written(setting{}) > 0 {
		return no
	}
	switch {
	case x.peer.name == "scs" && written(setting{maxAge: 3600}) > 0:
		return "yes, without an idle timeout"
	case x.peer.name == "this store" && written(setting{touch: time.Nanosecond}) > 0:
		return "yes, except for the expiry"
	}
	return yes
}

func sentForOne(x *trial) string {
	m := &Meter{}
	s := x.peer.open(x, setting{meter: m, unlimited: true})
	v := &visitor{}
	a := s.request(v, func(in visit) {
		for key, value := range Values(Large) {
			in.set(key, value)
		}
	})
	if x.peer.name == "CookieStore" && a.save != nil {
		return "does not fit"
	}
	x.must(errors.Join(a.load, a.save))
	before := m.Read()
	a = s.request(v, func(in visit) { in.set("block07", strings.Repeat("x", 1<<10)) })
	x.must(errors.Join(a.load, a.save))
	sent := m.Read().sub(before).Written
	if s.dir != "" {
		info, err := os.Stat(x.files(s)[0])
		x.must(err)
		sent = info.Size()
	}
	kib := float64(sent) / (1 << 10)
	x.Logf("%s: %.2f KiB", x.peer.name, kib)
	if kib < 5 {
		return fmt.Sprintf("about %.0f KiB", kib)
	}
	return fmt.Sprintf("about %.0f KiB", 5*float64(int(kib/5+0.5)))
}

func large(x *trial) string {
	s := x.peer.open(x, setting{})
	v := x.login(s)
	text := strings.Repeat("x", 5000)
	a := s.request(v, func(in visit) { in.set("text", text) })
	x.must(a.load)
	var got any
	s.request(v, func(in visit) {
		got, _ = in.get("text")
		in.skip()
	})
	if (got == text) != (a.save == nil) {
		x.fatal("save:", a.save)
	}
	return answerTo(got == text)
}

func types(x *trial) string {
	return x.comeBack(map[string]any{
		"int":       42,
		"[]string":  []string{"a", "b"},
		"time.Time": time.Date(2026, time.May, 4, 3, 2, 1, 987654321, time.FixedZone("", 5*60*60+45*60)),
		"nil":       nil,
		"basket":    basket{[]string{"pen"}, 3},
	})
}

func unregistered(x *trial) string {
	return x.comeBack(map[string]any{
		"map[string]string": map[string]string{"a": "b"},
		"map[string]any":    map[string]any{"a": 1},
		"time.Duration":     time.Minute,
		"[]string":          []string{"a"},
	})
}

func emptyList(x *trial) string {
	return answerTo(x.comeBack(map[string]any{"empty": []string{}}) == "all")
}

// comeBack names the values that the next request sees as they were.
func (x *trial) comeBack(values map[string]any) string {
	x.Helper()
	s := x.peer.open(x, setting{})
	var same []string
	for _, name := range slices.Sorted(maps.Keys(values)) {
		v := x.login(s)
		s.request(v, func(in visit) { in.set("value", values[name]) })
		s.request(v, func(in visit) {
			in.skip()
			got, ok := in.get("value")
			want := values[name]
			if at, isTime := got.(time.Time); isTime {
				got, want = at.Format(time.RFC3339Nano), want.(time.Time).Format(time.RFC3339Nano)
			}
			if ok && reflect.DeepEqual(got, want) {
				same = append(same, "`"+name+"`")
			}
		})
	}
	if len(same) == len(values) {
		return "all"
	}
	return strings.Join(same, ", ")
}

func devices(x *trial) string {
	if x.peer.name == "scs" {
		s := throughSCS(scs.New())
		first, second := x.login(s), x.login(s)
		other := &visitor{}
		s.request(other, func(in visit) { in.set("user", "bob") })
		x.must(s.manager.Iterate(x.Context(), func(ctx context.Context) error {
			if s.manager.GetString(ctx, "user") != "ada" {
				return nil
			}
			return s.manager.Destroy(ctx)
		}))
		known := false
		s.request(other, func(in visit) { known = in.known() })
		if x.loggedIn(s, first) || x.loggedIn(s, second) || !known {
			return no
		}
		return "by iterating over all"
	}
	if x.peer.name != "this store" {
		x.knowsMethods()
		return no
	}
	s := x.peer.open(x, setting{owner: "user"})
	first, second := x.login(s), x.login(s)
	other := &visitor{}
	s.request(other, func(in visit) { in.set("user", "bob") })
	listed := 0
	for _, err := range s.own.Sessions(x.Context(), "ada") {
		x.must(err)
		listed++
	}
	ended, err := s.own.RevokeAll(x.Context(), "ada")
	x.must(err)
	known := false
	s.request(other, func(in visit) { known = in.known() })
	if listed != 2 || ended != 2 || x.loggedIn(s, first) || x.loggedIn(s, second) || !known {
		return no
	}
	return "yes: `Sessions`, `RevokeAll`"
}

// aWhile is longer than a second of securecookie's, which counts whole ones.
const aWhile = 3 * time.Second

func idle(x *trial) string {
	s := x.peer.open(x, setting{maxAge: 1})
	v := &visitor{}
	a := s.request(v, func(in visit) { in.set("user", "ada") })
	x.must(errors.Join(a.load, a.save))
	<-time.After(aWhile) // a look in between would be a use, for scs
	ended := !x.loggedIn(s, v)
	if (s.coll != nil || s.dir != "") && x.stored(s) != 1 {
		x.fatal("the session was deleted")
	}
	return answerTo(ended)
}

func absolute(x *trial) string {
	const limit = 3 * time.Second
	s := x.peer.open(x, setting{absolute: limit})
	v, used := &visitor{}, 0
	s.request(v, func(in visit) { in.set("user", "ada") })
	ended := within(limit+aWhile, func() bool {
		alive := false
		a := s.request(v, func(in visit) {
			if alive = in.known(); alive {
				in.set("used", used)
			} else {
				in.skip()
			}
		})
		if alive && a.save == nil {
			used++
		}
		return !alive
	})
	if used < 2 {
		x.fatal("used", used, "times only")
	}
	return answerTo(ended)
}

func ownLifetime(x *trial) string {
	s := x.peer.open(x, setting{})
	v := x.login(s)
	age := func(handle func(visit)) (maxAge int, sent bool) {
		a := s.request(v, handle)
		if x.must(errors.Join(a.load, a.save)); len(a.cookies) == 0 {
			return 0, false
		}
		return a.cookies[0].MaxAge, true
	}
	near := func(age int) bool { return age > 3500 && age <= 3601 }
	first, sent := age(func(in visit) {
		in.live(3600)
		in.set("n", 1)
	})
	if !sent || !near(first) {
		x.fatal("no lifetime of its own")
	}
	second, sent := age(func(in visit) { in.set("n", 2) })
	return answerTo(!sent || near(second)) // a browser that gets no cookie keeps the first
}

func ownLifetimeServer(x *trial) string {
	s := x.peer.open(x, setting{})
	v := x.login(s)
	a := s.request(v, func(in visit) {
		in.live(1)
		in.set("n", 1)
	})
	x.must(errors.Join(a.load, a.save))
	return answerTo(within(aWhile, func() bool { return !x.loggedIn(s, v) })) // here a look is no use
}
