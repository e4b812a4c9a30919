package proof

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"pgregory.net/rapid"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// The store against a model of it: random histories of several browsers and several
// processes on one collection. The processes have different settings. The model says of each
// call what it returns, which commands it sends, whether it sets a cookie, and what the
// collection holds afterwards. Sessions are held between their load and their saves, so that
// requests overlap in every order. Time is not waited for: a document's dates are moved. A
// failure shrinks to a short history, which belongs into a test of its own. With
// -rapid.checks=10000 there are more of them.

// modelKeys are the keys in Values, and the names of their fields.
var modelKeys = [...]struct {
	key   any
	field string
}{{"user", "user"}, {"$a.b", "%24a%2Eb"}, {7, "%int:7"}, {"_flash", "_flash"}}

const ( // in modelKeys
	ownerIndex = 0
	typeIndex  = 2
	listIndex  = 3
)

// modelCount is a type of the application, which is stored as a document. Its map makes the
// document's bytes differ from one encoding to the next.
type modelCount struct {
	N     int            `bson:"n"`
	Parts map[string]int `bson:"parts"`
}

func countOf(n int) modelCount {
	return modelCount{n, map[string]int{"a": n, "b": n + 1, "c": n + 2}}
}

// modelValues are the values of modelKeys as text: a number, a list such as "[1 2]", or "" if
// there is none.
type modelValues [len(modelKeys)]string

// content is what a document says, or what a session knows of it.
type content struct {
	values    modelValues
	seals     [len(modelKeys)]int // the number of the key that the value is sealed with; 0 if it is not
	owner     string
	rev       int64 // 0 in a tombstone
	own       int   // the session's own MaxAge; none if it has the store's
	createdAt time.Time
	seenAt    time.Time
	expiresAt time.Time
	cookieAt  time.Time // of the last cookie, if Touch came later; else zero
	movedTo   int       // the number of a document
}

const none = -1

func (c *content) tombstone() bool { return c.rev == 0 }

// cookieSent returns when the last cookie was sent.
func (c *content) cookieSent() time.Time {
	if c.cookieAt.IsZero() || c.cookieAt.After(c.seenAt) {
		return c.seenAt
	}
	return c.cookieAt
}

func (c *content) dates() []*time.Time {
	return []*time.Time{&c.createdAt, &c.seenAt, &c.expiresAt}
}

// allDates are the dates that the store computes; an absent one is zero.
func (c *content) allDates() []*time.Time { return append(c.dates(), &c.cookieAt) }

type modelDocument struct {
	content
	id      string
	n       int // for the reader of a history
	deleted bool
}

func (d *modelDocument) String() string {
	if d == nil {
		return "no document"
	}
	return fmt.Sprint("document ", d.n)
}

// process is one of the application's, which all use the collection.
type modelProcess struct {
	n     int
	store *mongostore.Store
	modelSettings
}

type modelSettings struct {
	keys     []int // for signing, the first signs
	seals    []int // the first seals; none if there are none
	owners   bool  // there is an OwnerKey
	age      int   // MaxAge of new sessions
	absolute time.Duration
}

type modelBrowser struct {
	*storetest.Browser
	doc *modelDocument // what its cookie stands for; nil without a cookie
	key int            // that signed the cookie
}

// handling is a request in the hands of a handler.
type handling struct {
	n       int
	p       *modelProcess
	browser *modelBrowser
	r       *http.Request
	w       *httptest.ResponseRecorder
	session *sessions.Session
	doc     *modelDocument // nil until there is one
	other   *modelDocument // that the browser's cookie stands for, if not doc
	seen    content        // the document, as far as this session knows it
	asOf    time.Time      // when that was learned
	asks    bool           // is held for so long that a save asks whether it has expired meanwhile
	given   int            // its MaxAge, as the store has set it
	domain  string         // of its cookie, likewise
	correct bool           // the document's times cannot be
	resend  bool           // the browser has no cookie of it, or one of an older key
	err     error          // what every save returns from now on
	renewed *modelDocument // what its document was renewed to a moment ago: Renew may store it
	removed bool           // by itself
}

type model struct {
	f       *storetest.Fixture
	cfg     mongostore.Config
	rejects bool
	eager   bool          // every save is due for a touch, and asks whether the session has expired
	next    modelSettings // of processes yet to start

	processes []*modelProcess
	browsers  []*modelBrowser
	handlings []*handling
	docs      []*modelDocument
	last      int            // number of a request
	serial    int            // of an element of a list
	wrote     bool           // since the last check
	began     time.Time      // of the action under way, as exact as a BSON date
	tally     map[string]int // of what happened, over all histories
}

const (
	monthly     = 30 * 24 * 60 * 60
	weekly      = 7 * 24 * 60 * 60
	browserTTL  = 24 * time.Hour
	absoluteEnd = 12 * time.Hour
	touchAfter  = time.Hour
	graveTime   = time.Hour
	grace       = 30 * time.Second // of requests that were sent before a renewal
	skew        = time.Minute
)

func TestModel(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	tally := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{f: f, cfg: f.Cfg, next: modelSettings{keys: []int{1}, owners: true, age: monthly}, tally: tally}
		m.start(rt)
		m.tally["histories"]++
		rt.Repeat(map[string]func(*rapid.T){
			"load":       m.load,
			"fetch":      m.fetch,
			"change":     m.change,
			"visit":      m.visit,
			"interfere":  m.interfere,
			"save":       func(rt *rapid.T) { m.save(rt, m.draw(rt), "save") },
			"save twice": m.saveTwice,
			"persist":    func(rt *rapid.T) { m.save(rt, m.draw(rt), "persist") },
			"touch":      func(rt *rapid.T) { m.save(rt, m.draw(rt), "touch") },
			"renew":      func(rt *rapid.T) { m.save(rt, m.draw(rt), "renew") },
			"log in":     m.logIn,
			"race":       m.race,
			"end":        m.end,
			"revoke":     m.revoke,
			"list":       m.list,
			"sweep":      m.sweep,
			"pass time":  m.passTime,
			"outlive":    m.outlive,
			"deploy":     m.deploy,
			"":           m.check,
		})
	})
	t.Logf("%v", tally)
}

// start draws the settings of a history. It begins with two browsers that share a session,
// as two windows do, and one with another, so that it gets to the point.
func (m *model) start(rt *rapid.T) {
	if _, err := m.f.Coll.DeleteMany(m.f.T.Context(), bson.D{}); err != nil {
		rt.Fatal(err)
	}
	m.rejects, m.eager = rapid.Bool().Draw(rt, "reject conflicts"), rapid.Bool().Draw(rt, "touch always")
	m.cfg.BrowserTTL, m.cfg.TouchInterval = browserTTL, m.touchInterval()
	if m.rejects {
		m.cfg.OnConflict = mongostore.ConflictReject
	}
	m.processes = []*modelProcess{m.open(rt, 0), m.open(rt, 1)}
	m.begin()
	for i := range 3 {
		m.browsers = append(m.browsers, &modelBrowser{Browser: m.f.Browser()})
		if i == 1 {
			*m.browsers[1] = modelBrowser{m.browsers[0].Clone(), m.browsers[0].doc, 1}
			continue
		}
		q := m.get(rt, m.processes[0], m.browsers[i])
		m.put(q, ownerIndex, strconv.Itoa(i+1))
		m.put(q, 1, "1")
		m.put(q, listIndex, m.append(""))
		m.save(rt, q, "save")
		m.check(rt)
	}
	for i := range 2 {
		m.hold(m.get(rt, m.processes[i], m.browsers[i]))
	}
}

func (m *model) touchInterval() time.Duration {
	if m.eager {
		return 1
	}
	return touchAfter
}

func (m *model) open(rt *rapid.T, n int) *modelProcess {
	p := &modelProcess{n: n, modelSettings: m.next}
	cfg := m.cfg
	cfg.AbsoluteTimeout = p.absolute
	cfg.Options = mongostore.DefaultOptions()
	cfg.Options.MaxAge = p.age
	cfg.Types = []mongostore.Type{mongostore.TypeOf[modelCount]("count")}
	if p.owners {
		cfg.OwnerKey = "user"
	}
	for _, n := range p.seals {
		cfg.SealKeys = append(cfg.SealKeys, bytes.Repeat([]byte{byte(n)}, 32))
	}
	var pairs [][]byte
	for _, n := range p.keys {
		pairs = append(pairs, bytes.Repeat([]byte{byte(n)}, 32), nil)
	}
	var err error
	if p.store, err = mongostore.Open(m.f.T.Context(), cfg, pairs...); err != nil {
		rt.Fatal(err)
	}
	rt.Cleanup(func() {
		if err := p.store.Close(m.f.T.Context()); err != nil {
			rt.Error(err)
		}
	})
	return p
}

// What the model knows of time.

func (p *modelProcess) lifetime(maxAge int) time.Duration {
	lifetime := time.Duration(maxAge) * time.Second
	if maxAge == 0 {
		lifetime = browserTTL
	}
	if p.absolute > 0 {
		lifetime = min(lifetime, p.absolute)
	}
	return lifetime
}

func (p *modelProcess) expiry(createdAt time.Time, maxAge int, seenAt time.Time) time.Time {
	idle := seenAt.Add(p.lifetime(maxAge))
	if end := createdAt.Add(p.absolute); p.absolute > 0 && end.Before(idle) {
		return end
	}
	return idle
}

// ageOf returns the MaxAge of a document's session in the process.
func (p *modelProcess) ageOf(c content) int {
	if c.own != none {
		return c.own
	}
	return p.age
}

// counts returns a document with its times as the process counts them: one ahead of its clock,
// or an end later than its settings allow, comes from another process. wrong is whether a save
// has to correct them.
func (p *modelProcess) counts(c content, now time.Time) (_ content, wrong bool) {
	for _, date := range []*time.Time{&c.createdAt, &c.seenAt} {
		if date.After(now.Add(skew)) {
			*date, wrong = now, true
		}
	}
	if latest := p.expiry(c.createdAt, p.ageOf(c), c.seenAt); c.expiresAt.After(latest) {
		wrong = wrong || c.expiresAt.After(latest.Add(skew))
		c.expiresAt = latest
	}
	return c, wrong
}

func (p *modelProcess) alive(c content, now time.Time) bool {
	counted, _ := p.counts(c, now)
	return !c.tombstone() && counted.expiresAt.After(now)
}

// lives reports whether a document is that of a live session.
func (m *model) lives(p *modelProcess, doc *modelDocument) bool {
	return doc != nil && !doc.deleted && p.alive(doc.content, m.began)
}

// finds is what looking a document up returns.
func (m *model) finds(p *modelProcess, doc *modelDocument) error {
	switch {
	case !m.lives(p, doc):
		return mongostore.ErrNotFound
	case !p.reads(doc.content):
		return mongostore.ErrCorrupt
	default:
		return nil
	}
}

// isSession reports whether a document is that of a session, which may have expired.
func (m *model) isSession(doc *modelDocument) bool { return !doc.deleted && !doc.tombstone() }

// follow returns the document that a session was renewed to, if any.
func (m *model) follow(doc *modelDocument) *modelDocument {
	if doc == nil || doc.deleted || !doc.tombstone() {
		return nil
	}
	i := slices.IndexFunc(m.docs, func(d *modelDocument) bool { return d.n == doc.movedTo })
	if i < 0 {
		return nil
	}
	return m.docs[i]
}

// reads reports whether the process has the keys that the values are sealed with.
func (p *modelProcess) reads(c content) bool {
	return !slices.ContainsFunc(c.seals[:], func(n int) bool { return n != 0 && !slices.Contains(p.seals, n) })
}

// seal seals values as the process stores them.
func (p *modelProcess) seal(c *content, keys ...int) {
	for _, i := range keys {
		c.seals[i] = 0
		if c.values[i] != "" && len(p.seals) > 0 {
			c.seals[i] = p.seals[0]
		}
	}
}

// ownerOf is the owner that a process finds in values.
func (p *modelProcess) ownerOf(values modelValues, before string) string {
	if !p.owners {
		return before
	}
	return values[ownerIndex]
}

// begin starts an action's clock.
func (m *model) begin() {
	m.f.Log.Reset()
	m.began = time.Now().UTC().Truncate(time.Millisecond)
}

// want checks what a call returned and sent.
func (m *model) want(rt *rapid.T, what string, err, want error, commands ...string) {
	m.tally[fmt.Sprintf("%s: %v", what, want)]++
	sent := m.f.Log.Reset()
	m.wrote = m.wrote || slices.ContainsFunc(sent, func(command string) bool { return command != "find" })
	rt.Logf("%s: %v, sent %q", what, err, sent)
	if (err != nil || want != nil) && !errors.Is(err, want) {
		rt.Fatalf("%s: error %v, want %v", what, err, want)
	}
	if !slices.Equal(sent, commands) {
		rt.Fatalf("%s: sent %q, want %q", what, sent, commands)
	}
}

// Drawing.

func pick[T any](rt *rapid.T, from []T, what string) T {
	return from[rapid.IntRange(0, len(from)-1).Draw(rt, what)]
}

// draw returns one of the requests under way.
func (m *model) draw(rt *rapid.T) *handling {
	if len(m.handlings) == 0 {
		rt.Skip("no request")
	}
	m.begin()
	return pick(rt, m.handlings, "request")
}

// Loading.

// load begins a request, which has a change in mind.
func (m *model) load(rt *rapid.T) {
	q := m.get(rt, pick(rt, m.processes, "process"), pick(rt, m.browsers, "browser"))
	m.changeIn(rt, q)
	m.hold(q)
}

// get is the begin of a request.
func (m *model) get(rt *rapid.T, p *modelProcess, b *modelBrowser) *handling {
	m.begin()
	q := &handling{p: p, browser: b, r: b.Request(), w: httptest.NewRecorder()}
	var err error
	q.session, err = p.store.Get(q.r, storetest.Name)
	switch {
	case b.doc == nil:
		m.want(rt, "load", err, nil)
	case !slices.Contains(p.keys, b.key):
		m.want(rt, "load with an unknown key", nil, nil)
		var refused securecookie.Error
		if !errors.As(err, &refused) || !refused.IsDecode() {
			rt.Fatalf("error %v, want securecookie's", err)
		}
	default:
		want := m.finds(p, b.doc)
		switch {
		case want == nil:
			q.doc, q.resend = b.doc, b.key != p.keys[0]
		case errors.Is(want, mongostore.ErrNotFound):
			want, q.other = nil, b.doc
			if counted, _ := p.counts(b.doc.content, m.began); m.follow(b.doc) != nil && m.began.Sub(counted.seenAt) < grace {
				q.renewed, q.err = m.follow(b.doc), mongostore.ErrGone
				m.tally["load of a renewed session"]++
			}
		default:
			q.other, q.err = b.doc, want
		}
		m.want(rt, "load", err, want, "find")
	}
	m.took(rt, q)
	return q
}

// took checks a session that was loaded.
func (m *model) took(rt *rapid.T, q *handling) {
	m.last++
	q.n, q.asOf = m.last, time.Now()
	found := q.doc != nil
	if found {
		q.seen, q.correct = q.p.counts(q.doc.content, m.began)
	} else {
		q.seen = content{own: none}
	}
	q.given = q.p.ageOf(q.seen)
	rt.Logf("as request %d, of %v", q.n, q.doc)
	if q.session.IsNew == found || found != (q.session.ID != "") || found && q.session.ID != q.doc.id {
		rt.Fatalf("IsNew: %t; the model found it: %t", q.session.IsNew, found)
	}
	m.wantSession(rt, q, q.seen.values, q.given)
}

// hold adds a request to those under way, for later actions.
func (m *model) hold(q *handling) {
	if m.handlings = append(m.handlings, q); len(m.handlings) > 4 {
		m.handlings = m.handlings[1:]
	}
}

func (m *model) drop(q *handling) {
	m.handlings = slices.DeleteFunc(m.handlings, func(h *handling) bool { return h == q })
}

func (m *model) wantSession(rt *rapid.T, q *handling, values modelValues, age int) {
	if got := q.values(rt); got != values {
		rt.Fatalf("the session holds %q, want %q", got, values)
	}
	if got := q.session.Options.MaxAge; got != age {
		rt.Fatalf("the session has MaxAge %d, want %d", got, age)
	}
}

func (m *model) fetch(rt *rapid.T) {
	if q := m.fetchBy(rt, pick(rt, m.processes, "process"), pick(rt, m.docs, "document")); q != nil {
		m.hold(q)
	}
}

// fetchBy is a request that knows the ID from elsewhere; nil if that is not found.
func (m *model) fetchBy(rt *rapid.T, p *modelProcess, doc *modelDocument) *handling {
	b := pick(rt, m.browsers, "browser")
	m.begin()
	q := &handling{p: p, browser: b, r: b.Request(), w: httptest.NewRecorder(), doc: doc, resend: true}
	var err error
	q.session, err = p.store.Fetch(m.f.T.Context(), storetest.Name, doc.id)
	want := m.finds(p, doc)
	if want == nil && !doc.expiresAt.After(time.Now()) && errors.Is(err, mongostore.ErrNotFound) {
		want = err // it was about to expire
	}
	m.want(rt, "fetch", err, want, "find")
	if err == nil {
		m.took(rt, q)
		return q
	}
	if q.session != nil {
		rt.Fatal("a session with an error")
	}
	return nil
}

// interfere is a request that changes a session which another one has in its hands.
func (m *model) interfere(rt *rapid.T) {
	theirs := m.draw(rt)
	if theirs.doc == nil {
		rt.Skip("no document")
	}
	if q := m.fetchBy(rt, pick(rt, m.processes, "process"), theirs.doc); q != nil {
		m.changeIn(rt, q)
		m.save(rt, q, pick(rt, []string{"persist", "save", "renew"}, "how"))
	}
}

// The application.

func (m *model) change(rt *rapid.T) { m.changeIn(rt, m.draw(rt)) }

// visit is a whole request, in the midst of those under way.
func (m *model) visit(rt *rapid.T) {
	q := m.get(rt, pick(rt, m.processes, "process"), pick(rt, m.browsers, "browser"))
	if rapid.Bool().Draw(rt, "with a change") {
		m.changeIn(rt, q)
	}
	m.save(rt, q, "save")
}

// logIn is a request that sets the owner and renews the session. Another like it may come
// between.
func (m *model) logIn(rt *rapid.T) {
	p, b, user := pick(rt, m.processes, "process"), pick(rt, m.browsers, "browser"), strconv.Itoa(rapid.IntRange(1, 3).Draw(rt, "user"))
	first := m.get(rt, p, b)
	second := first
	if rapid.Bool().Draw(rt, "form sent twice") {
		second = m.get(rt, p, b)
	}
	m.put(first, ownerIndex, user)
	m.save(rt, first, "renew")
	if second != first {
		m.check(rt)
		m.put(second, ownerIndex, user)
		m.save(rt, second, "renew")
	}
}

// race is two or three requests of one browser that overlap.
func (m *model) race(rt *rapid.T) {
	b := pick(rt, m.browsers, "browser")
	var racers []*handling
	for range rapid.IntRange(2, 3).Draw(rt, "requests") {
		q := m.get(rt, pick(rt, m.processes, "process"), b)
		racers = append(racers, q)
		m.changeIn(rt, q)
		if rapid.Bool().Draw(rt, "another change") {
			m.changeIn(rt, q)
		}
	}
	for _, q := range racers {
		switch how := pick(rt, []string{"save", "save", "save", "persist", "renew", "touch", "log out"}, "how"); {
		case how == "log out":
			q.session.Options.MaxAge = -1
			m.begin()
			m.remove(rt, q, how)
		case how != "touch" || q.doc != nil:
			m.save(rt, q, how)
		}
		m.check(rt)
	}
	m.hold(racers[0])
}

// changeIn changes a value, a list, or the cookie: "remember me", or no longer.
func (m *model) changeIn(rt *rapid.T, q *handling) {
	i := min(listIndex, rapid.IntRange(0, len(modelKeys)+3).Draw(rt, "key"))
	if rapid.IntRange(0, 5).Draw(rt, "of the cookie") == 5 {
		i = len(modelKeys) + rapid.IntRange(0, 1).Draw(rt, "which")
	}
	by := rapid.IntRange(0, 3).Draw(rt, "value")
	switch i {
	case len(modelKeys) + 1:
		q.session.Options.Domain = []string{"example.com", ""}[by%2]
		rt.Logf("its domain: %q", q.session.Options.Domain)
		return
	case len(modelKeys):
		q.session.Options.MaxAge = []int{7200, 0, monthly, weekly}[by]
		rt.Logf("its MaxAge: %d", q.session.Options.MaxAge)
		return
	}
	was := q.values(rt)[i]
	var v string
	if i == listIndex {
		v = m.edit(was, by)
	} else if n, _ := strconv.Atoi(was); (n+3-by%3)%4 > 0 {
		v = strconv.Itoa((n + 3 - by%3) % 4)
	}
	rt.Logf("its %v: %q, was %q", modelKeys[i].key, v, was)
	m.put(q, i, v)
}

// Lists.

func elements(list string) []string { return strings.Fields(strings.Trim(list, "[]")) }

func listOf(elements []string) string { return fmt.Sprint(elements) }

// append returns a list with one more element. No element occurs twice in a history.
func (m *model) append(list string) string {
	m.serial++
	return listOf(append(elements(list), strconv.Itoa(m.serial)))
}

// edit returns a list with one more element, with none as of gorilla's Flashes, without its
// first, or in another order.
func (m *model) edit(list string, how int) string {
	e := elements(list)
	switch {
	case how == 0 || len(e) == 0:
		return m.append(list)
	case how == 1:
		return ""
	case how == 2:
		return listOf(e[1:])
	default:
		slices.Reverse(e)
		return listOf(e)
	}
}

// edited returns what was taken out of a list and what was appended, in whatever order both were
// done. ok is false if the list was changed in another way.
func edited(before, after string) (taken, appended []string, ok bool) {
	was, is := elements(before), elements(after)
	for _, e := range was {
		if !slices.Contains(is, e) {
			taken = append(taken, e)
		}
	}
	for _, e := range is {
		if !slices.Contains(was, e) {
			appended = append(appended, e)
		}
	}
	kept := slices.DeleteFunc(was, func(e string) bool { return slices.Contains(taken, e) })
	return taken, appended, slices.Equal(is, append(kept, appended...))
}

// mergeLists returns what two edits of a list come to.
func mergeLists(before, theirs, ours string) (merged string, ok bool) {
	taken, appended, ok := edited(before, ours)
	list := slices.DeleteFunc(elements(theirs), func(e string) bool { return slices.Contains(taken, e) })
	list = append(list, appended...)
	if len(list) == 0 && ours == "" {
		return "", ok
	}
	return listOf(list), ok
}

// mergeValue returns a key's value after this session's change and those of others.
func mergeValue(i int, before, theirs, ours string) string {
	switch {
	case ours == before:
		return theirs
	case theirs == before:
		return ours
	case i == listIndex:
		if merged, ok := mergeLists(before, theirs, ours); ok {
			return merged
		}
	}
	return ours
}

// put sets a value, or deletes it if v is empty.
func (m *model) put(q *handling, i int, v string) {
	key := modelKeys[i].key
	switch {
	case v == "":
		delete(q.session.Values, key)
	case i == listIndex:
		list := []any{}
		for _, e := range elements(v) {
			n, _ := strconv.Atoi(e)
			list = append(list, n)
		}
		q.session.Values[key] = list
	case i == typeIndex:
		n, _ := strconv.Atoi(v)
		q.session.Values[key] = countOf(n)
	default:
		n, _ := strconv.Atoi(v)
		q.session.Values[key] = n
	}
}

// values are the session's.
func (q *handling) values(rt *rapid.T) (values modelValues) {
	found := 0
	for i, key := range modelKeys {
		if v, ok := q.session.Values[key.key]; ok {
			if _, isList := v.([]any); isList != (i == listIndex) {
				rt.Fatalf("the session holds %v", q.session.Values)
			}
			values[i] = fmt.Sprint(v)
			if count, isCount := v.(modelCount); isCount != (i == typeIndex) || isCount && !reflect.DeepEqual(count, countOf(count.N)) {
				rt.Fatalf("the session holds %v", q.session.Values)
			} else if isCount {
				values[i] = strconv.Itoa(count.N)
			}
			found++
		}
	}
	if found != len(q.session.Values) {
		rt.Fatalf("the session holds %v", q.session.Values)
	}
	return values
}

// Saving.

// modelSave is what the model says of a save.
type modelSave struct {
	err      error
	commands []string
	written  bool        // the session knows what the database has acknowledged
	buries   bool        // the old document becomes a tombstone
	doc      content     // afterwards
	seen     content     // what the session knows of it
	touch    bool        // the expiry moves, and the cookie is sent
	age      int         // MaxAge of the session, after a touch
	values   modelValues // of the session
}

func (m *model) saveTwice(rt *rapid.T) {
	q := m.draw(rt)
	m.save(rt, q, "save")
	m.check(rt)
	if rapid.Bool().Draw(rt, "changed between") {
		m.changeIn(rt, q)
	}
	m.save(rt, q, "save")
}

func (m *model) save(rt *rapid.T, q *handling, how string) {
	if q.session.Options.MaxAge < 0 {
		m.remove(rt, q, how)
		return
	}
	if how == "touch" && q.doc == nil {
		rt.Skip("not stored")
	}
	m.hesitate(q)
	m.begin()
	isNew := q.doc == nil
	fresh := isNew || how == "renew"
	age, domain := q.session.Options.MaxAge, q.session.Options.Domain
	want := m.expect(q, how, q.values(rt))

	var err error
	earlier := slices.Clone(q.w.Header()["Set-Cookie"])
	switch how {
	case "renew":
		err = q.p.store.Renew(q.r, q.w, q.session)
	case "persist":
		err = q.p.store.Persist(m.f.T.Context(), q.session)
	case "touch":
		err = q.p.store.Touch(m.f.T.Context(), q.session)
	default:
		err = q.session.Save(q.r, q.w)
	}
	rt.Logf("it is request %d, of %v", q.n, q.doc)
	m.want(rt, how, err, want.err, want.commands...)
	responds := how == "save" || how == "renew"
	loggedOut := slices.ContainsFunc(earlier, func(line string) bool { return strings.Contains(line, "Max-Age=0") })
	if errors.Is(want.err, mongostore.ErrGone) && responds && !loggedOut {
		earlier = nil // a cookie of an earlier save is taken back
	}
	sent := err == nil && responds && want.touch
	if got := q.w.Header()["Set-Cookie"]; !sent && !slices.Equal(got, earlier) {
		rt.Fatalf("a cookie that should not be sent: %q, want %q", got, earlier)
	}
	switch {
	case errors.Is(err, mongostore.ErrGone) && q.err == nil:
		q.err = mongostore.ErrGone
	case q.err != nil && err != nil && q.renewed == nil:
		m.drop(q) // it will not get another one
	}
	if err != nil {
		return
	}
	if fresh {
		old := q.doc
		q.doc = m.newDocument(rt, q.session.ID)
		if want.buries {
			m.bury(old, q.doc)
		}
	}
	if want.written {
		q.doc.content, q.seen, q.asOf = want.doc, want.seen, time.Now()
		q.err, q.renewed = nil, nil
	}
	if want.touch {
		q.given, q.correct, age = want.age, false, want.age
		if how != "touch" { // which leaves it to Save
			q.domain = domain
		}
		q.resend = q.resend && !responds || fresh && !responds
	}
	m.wantSession(rt, q, want.values, age)
	if q.session.ID != q.doc.id {
		rt.Fatal("the session has another ID")
	}
	if sent {
		m.tally["cookie"]++
		if cookie := m.receive(rt, q); cookie.MaxAge != want.age || cookie.Domain != domain {
			rt.Fatalf("the cookie has MaxAge %d and domain %q, want %d and %q", cookie.MaxAge, cookie.Domain, want.age, domain)
		}
		q.browser.doc, q.browser.key = q.doc, q.p.keys[0]
	}
}

// hesitate waits where a save would be too close to the time from when on it asks the
// database whether the session has been given a shorter life. Dates are in milliseconds.
func (m *model) hesitate(q *handling) {
	asksAfter, tooClose := time.Second, time.Second/2
	if m.eager {
		asksAfter, tooClose = time.Millisecond, 0
	}
	if q.asks = time.Since(q.asOf) >= tooClose; q.asks {
		for time.Since(q.asOf) <= asksAfter+time.Millisecond {
			runtime.Gosched()
		}
	}
}

// receive stores in the browser the only cookie that the response may have, beside those that an
// earlier logout has expired for another domain.
func (m *model) receive(rt *rapid.T, q *handling) *http.Cookie {
	cookies := q.receive()
	last := len(cookies) - 1
	for i, c := range cookies {
		if i < last && (c.MaxAge >= 0 || c.Domain == cookies[last].Domain) {
			rt.Fatalf("%d cookies sent, want 1: %v", len(cookies), cookies)
		}
	}
	if last < 0 {
		rt.Fatal("no cookie sent")
	}
	return cookies[last]
}

// receive stores the response's cookies in the browser.
func (q *handling) receive() []*http.Cookie {
	w := httptest.NewRecorder() // which takes its headers down but once
	maps.Copy(w.Header(), q.w.Header())
	q.browser.Receive(w)
	return w.Result().Cookies()
}

func (m *model) newDocument(rt *rapid.T, id string) *modelDocument {
	if id == "" || slices.ContainsFunc(m.docs, func(d *modelDocument) bool { return d.id == id }) {
		rt.Fatal("a new document without a new ID")
	}
	doc := &modelDocument{id: id, n: len(m.docs) + 1}
	m.docs = append([]*modelDocument{doc}, m.docs...) // what is drawn is likely to be early
	return doc
}

// bury turns a document into the tombstone of a renewed session.
func (m *model) bury(doc, movedTo *modelDocument) {
	doc.content = content{own: none, createdAt: doc.createdAt, seenAt: m.began, expiresAt: m.began.Add(graveTime), movedTo: movedTo.n}
}

// intention is what a session would have a save do.
type intention struct {
	*handling
	next     content // the document as the session would have it
	changed  []int   // keys
	touch    bool
	newAge   bool
	newOwner bool
}

func (m *model) expect(q *handling, how string, values modelValues) modelSave {
	want := modelSave{values: values, age: q.session.Options.MaxAge}
	stored, renews := q.doc != nil, how == "renew"
	if q.err != nil && (q.renewed == nil || !renews) {
		want.err = q.err
		return want
	}
	in := intention{handling: q, next: q.seen}
	if how == "persist" && stored {
		want.age = q.given
	}
	touched := q.seen.cookieSent()
	if how == "touch" {
		touched = q.seen.seenAt
	}
	due := q.correct || m.began.Sub(touched) >= min(m.touchInterval(), q.p.lifetime(want.age)/10)
	switch {
	case !stored || renews:
		in.touch = true
	case how == "persist":
	case how == "touch":
		in.touch = due || want.age != q.given
	default:
		in.touch = due || q.resend || want.age != q.given || q.session.Options.Domain != q.domain
	}
	want.touch = in.touch
	next := &in.next
	if !stored {
		next.createdAt = m.began
	}
	if how != "touch" {
		for i, v := range values {
			if v != q.seen.values[i] {
				in.changed = append(in.changed, i)
			}
		}
		next.values, next.owner = values, q.p.ownerOf(values, q.seen.owner)
		in.newOwner = next.owner != q.seen.owner
	}
	if in.touch {
		if stored && want.age != q.given || q.seen.own != none || !stored && want.age != q.p.age {
			next.own = want.age
		}
		in.newAge = next.own != q.seen.own
		if next.cookieAt = (time.Time{}); how == "touch" {
			next.cookieAt = q.seen.cookieSent()
		}
		next.seenAt, next.expiresAt = m.began, q.p.expiry(next.createdAt, want.age, m.began)
		if !next.expiresAt.After(m.began) {
			want.err = mongostore.ErrGone
			return want
		}
	}
	if !stored || renews || len(in.changed) > 0 || in.newAge || in.newOwner {
		next.rev = q.seen.rev + 1
	}
	switch {
	case !stored:
		m.insert(in, &want)
	case renews:
		m.move(in, &want)
	default:
		m.update(in, &want)
	}
	return want
}

// clashes reports whether the session and others have changed one key in ways that do not merge.
func (in *intention) clashes(theirs modelValues) bool {
	return slices.ContainsFunc(in.changed, func(i int) bool {
		before := in.seen.values[i]
		if before == theirs[i] {
			return false
		}
		_, _, merges := edited(before, in.next.values[i])
		return i != listIndex || !merges
	})
}

// update is the model's part of a save of what is stored.
func (m *model) update(in intention, want *modelSave) {
	p, doc, seen := in.p, in.doc, in.seen
	changes := len(in.changed) > 0
	if !changes && !in.touch && !in.newOwner {
		return
	}
	late := in.newOwner && in.next.values[ownerIndex] == seen.values[ownerIndex] // of values that others have set
	_, _, edits := edited(seen.values[listIndex], in.next.values[listIndex])
	edits = edits && slices.Contains(in.changed, listIndex)
	clash := m.rejects && in.clashes(doc.values)

	expired := !seen.expiresAt.After(m.began)
	asks, guarded := in.asks || expired, m.rejects && changes || late || edits
	matches := !doc.deleted && !doc.tombstone() && (!asks || doc.expiresAt.After(m.began)) &&
		(!guarded || doc.rev == seen.rev) && (!in.touch || in.newAge || doc.own == seen.own) && !clash
	if !expired {
		want.commands = []string{"update"}
	}
	theirs := doc.content
	if expired || !matches {
		if !expired && !asks && !guarded && !in.touch {
			want.err = mongostore.ErrGone
			return
		}
		want.commands = append(want.commands, "find")
		theirs, _ = p.counts(doc.content, m.began)
		switch found := m.finds(p, doc); {
		case errors.Is(found, mongostore.ErrNotFound):
			want.err = mongostore.ErrGone
			return
		case found != nil:
			want.err = found
			return
		case clash:
			want.err = mongostore.ErrConflict
			return
		}
		if in.touch && !in.newAge {
			in.next.own, want.age = theirs.own, p.ageOf(theirs)
			in.next.expiresAt = p.expiry(theirs.createdAt, want.age, m.began)
			if !in.next.expiresAt.After(m.began) {
				want.err = mongostore.ErrGone
				return
			}
		}
		if late {
			in.next.owner = p.ownerOf(theirs.values, theirs.owner)
			in.newOwner = in.next.owner != theirs.owner
		}
		if changes || in.touch || in.newOwner {
			want.commands = append(want.commands, "update")
		}
		m.tally["update after another"]++
	}

	want.written, want.doc = true, doc.content
	for _, i := range in.changed {
		v := in.next.values[i]
		if i == listIndex {
			v = mergeValue(i, seen.values[i], theirs.values[i], v)
			if v != in.next.values[i] {
				m.tally["merged list"]++
			}
		}
		in.next.values[i], want.values[i], want.doc.values[i] = v, v, v
		p.seal(&want.doc, i)
	}
	if in.newOwner {
		want.doc.owner = in.next.owner
	}
	if in.newAge {
		want.doc.own = in.next.own
	}
	if changes || in.newAge || in.newOwner {
		want.doc.rev++
	}
	switch {
	case in.touch && (in.correct || in.newAge):
		want.doc.createdAt, want.doc.seenAt, want.doc.expiresAt = in.next.createdAt, in.next.seenAt, in.next.expiresAt
	case in.touch: // never shorter than what another has granted
		want.doc.seenAt, want.doc.expiresAt = later(doc.seenAt, in.next.seenAt), later(doc.expiresAt, in.next.expiresAt)
	}
	switch {
	case in.touch && !in.next.cookieAt.IsZero():
		want.doc.cookieAt = in.next.cookieAt
	case in.touch:
		want.doc.cookieAt = time.Time{}
	}
	want.seen = in.next
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// mergeRenewal merges what others have done into the session's new document.
func (m *model) mergeRenewal(in *intention, theirs content, want *modelSave) {
	p, seen, next := in.p, in.seen, &in.next
	newUser := p.owners && seen.values[ownerIndex] != next.values[ownerIndex]
	if newUser && seen.owner != "" {
		return // not from one user to another
	}
	for i := range next.values {
		next.values[i] = mergeValue(i, seen.values[i], theirs.values[i], next.values[i])
	}
	if !newUser && theirs.owner != seen.owner {
		next.owner = theirs.owner
	}
	if next.own == seen.own && theirs.own != seen.own {
		next.own, want.age = theirs.own, p.ageOf(theirs)
		next.expiresAt = p.expiry(next.createdAt, want.age, m.began)
	}
	if next.values != want.values {
		m.tally["merged renewal"]++
	}
}

// create has a save store the new document.
func (m *model) create(in intention, want *modelSave) {
	for i := range in.next.values {
		in.p.seal(&in.next, i)
	}
	want.written, want.doc, want.seen, want.values = true, in.next, in.next, in.next.values
}

// insert is the model's part of a save of a new session.
func (m *model) insert(in intention, want *modelSave) {
	if in.renewed != nil {
		if doc, err := m.chase(in.p, in.renewed, want); err == nil && in.next.owner != "" && doc.owner == in.next.owner {
			theirs, _ := in.p.counts(doc.content, m.began)
			in.next.rev = max(in.next.rev, theirs.rev+1)
			m.mergeRenewal(&in, theirs, want)
			in.next.createdAt = theirs.createdAt
			in.next.expiresAt = in.p.expiry(theirs.createdAt, want.age, m.began)
			m.tally["second login"]++
		}
	}
	want.commands = append(want.commands, "insert")
	m.create(in, want)
}

// chase finds the live session that another was renewed to, perhaps over several renewals.
func (m *model) chase(p *modelProcess, doc *modelDocument, want *modelSave) (*modelDocument, error) {
	for ; doc != nil; doc = m.follow(doc) {
		want.commands = append(want.commands, "find")
		if err := m.finds(p, doc); !errors.Is(err, mongostore.ErrNotFound) {
			return doc, err
		}
	}
	return nil, mongostore.ErrNotFound
}

// move is the model's part of a renewal of what is stored.
func (m *model) move(in intention, want *modelSave) {
	p, doc := in.p, in.doc
	want.commands = []string{"insert", "update"}
	stale := doc.rev != in.seen.rev
	clash := m.rejects && in.clashes(doc.values)
	theirs, _ := p.counts(doc.content, m.began)
	if doc.deleted || doc.tombstone() || stale || clash || !doc.expiresAt.After(m.began) {
		want.commands = append(want.commands, "find")
		switch found := m.finds(p, doc); {
		case errors.Is(found, mongostore.ErrNotFound):
			want.err = mongostore.ErrGone
			if moved := m.follow(doc); moved != nil {
				renewed, err := m.chase(p, moved, want)
				switch {
				case errors.Is(err, mongostore.ErrCorrupt):
					want.err = err
				case err == nil && in.next.owner != "" && renewed.owner == in.next.owner:
					theirs, _ := p.counts(renewed.content, m.began)
					in.next.rev = max(in.next.rev, theirs.rev+1)
					want.err, want.commands = nil, append(want.commands, "update")
					m.mergeRenewal(&in, theirs, want)
					m.create(in, want)
					m.tally["second renewal"]++
					return
				}
			}
		case found != nil:
			want.err = found
		case clash:
			want.err = mongostore.ErrConflict
		}
		if want.err != nil {
			want.commands = append(want.commands, "delete")
			return
		}
		in.next.rev = max(in.next.rev, theirs.rev+1)
		want.commands = append(want.commands, "update", "update")
	}
	m.mergeRenewal(&in, theirs, want)
	m.create(in, want)
	want.buries = true
}

// Removing.

// ends records the end of the session of a document, or what it was renewed to, and returns the commands
// for that.
func (m *model) ends(doc *modelDocument) (commands []string) {
	for {
		commands = append(commands, "delete")
		if m.isSession(doc) {
			doc.deleted = true
			return commands
		}
		commands = append(commands, "find")
		if doc = m.follow(doc); doc == nil {
			return commands
		}
		m.tally["followed"]++
	}
}

// end is a logout, with or without HTTP.
func (m *model) end(rt *rapid.T) {
	q, how := m.draw(rt), rapid.SampledFrom([]string{"log out", "remove", "persist"}).Draw(rt, "how")
	if how != "remove" {
		q.session.Options.MaxAge = -1
	}
	m.remove(rt, q, how)
}

func (m *model) remove(rt *rapid.T, q *handling, how string) {
	var err error
	switch how {
	case "remove":
		err = q.p.store.Remove(m.f.T.Context(), q.session)
	case "persist":
		err = q.p.store.Persist(m.f.T.Context(), q.session)
	case "touch":
		err = q.p.store.Touch(m.f.T.Context(), q.session)
	case "renew":
		err = q.p.store.Renew(q.r, q.w, q.session)
	default:
		err = q.session.Save(q.r, q.w)
	}
	rt.Logf("it is request %d, of %v, and of another: %v", q.n, q.doc, q.other)
	responds := how != "remove" && how != "persist" && how != "touch"
	if q.removed {
		m.drop(q)
	}
	var commands []string
	if q.doc != nil && !q.removed {
		commands = m.ends(q.doc)
	}
	switch {
	case q.other == nil || q.removed:
	case commands == nil:
		commands = m.ends(q.other)
	case m.isSession(q.other):
		q.other.deleted = true
		commands = append(commands, "delete")
	default:
		commands = append(commands, "delete", "find")
		if !q.other.deleted {
			commands = append(commands, m.ends(q.other)...)
		}
	}
	if commands != nil {
		q.removed, q.err, q.renewed = true, mongostore.ErrGone, nil
	}
	m.want(rt, "end by "+how, err, nil, commands...)
	if responds {
		cookies := q.receive()
		if len(cookies) == 0 || slices.ContainsFunc(cookies, func(c *http.Cookie) bool { return c.MaxAge >= 0 || c.Value != "" }) {
			rt.Fatalf("the cookie does not expire: %v", cookies)
		}
		q.browser.doc = nil
	}
}

func (m *model) revoke(rt *rapid.T) {
	if rapid.Bool().Draw(rt, "all of an owner") {
		m.revokeAll(rt)
		return
	}
	p, doc := pick(rt, m.processes, "process"), pick(rt, m.docs, "document")
	m.begin()
	err := p.store.Revoke(m.f.T.Context(), storetest.HashOf(doc.id))
	m.want(rt, "revoke", err, nil, m.ends(doc)...)
}

func (m *model) revokeAll(rt *rapid.T) {
	q, owner, others := m.draw(rt), strconv.Itoa(rapid.IntRange(1, 3).Draw(rt, "owner")), rapid.Bool().Draw(rt, "all but this one")
	var except []*sessions.Session
	if others {
		except = append(except, q.session)
	}
	n, err := q.p.store.RevokeAll(m.f.T.Context(), number(owner), except...)
	if !q.p.owners || others && q.doc == nil {
		if err == nil || n != 0 || len(m.f.Log.Reset()) > 0 {
			rt.Fatalf("no owners, or an exception that is not stored: %d revoked, error %v", n, err)
		}
		return
	}
	want := int64(0)
	for _, doc := range m.docs {
		if !doc.deleted && doc.owner == owner && (!others || doc != q.doc) {
			doc.deleted = true
			want++
		}
	}
	m.want(rt, "revoke all", err, nil, "delete", "find")
	if n != want {
		rt.Fatalf("%d revoked, want %d", n, want)
	}
}

func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

func (m *model) list(rt *rapid.T) {
	p, owner := pick(rt, m.processes, "process"), strconv.Itoa(rapid.IntRange(1, 3).Draw(rt, "owner"))
	if !p.owners {
		rt.Skip("no owners")
	}
	m.begin()
	want := map[string]bool{}
	for _, doc := range m.docs {
		if doc.owner == owner && m.lives(p, doc) {
			want[storetest.HashOf(doc.id)] = true
		}
	}
	got := map[string]bool{}
	var last time.Time
	for info, err := range p.store.Sessions(m.f.T.Context(), number(owner)) {
		if err != nil || info.Owner != number(owner) || len(got) > 0 && info.SeenAt.After(last) {
			rt.Fatalf("%+v, %v", info, err)
		}
		got[info.Key], last = true, info.SeenAt
	}
	m.want(rt, "list", nil, nil, "find")
	if !maps.Equal(got, want) {
		rt.Fatalf("listed %v, want %v", got, want)
	}
}

// sweep counts the sessions and deletes what has expired.
func (m *model) sweep(rt *rapid.T) {
	p := pick(rt, m.processes, "process")
	m.begin()
	alive, expired := int64(0), int64(0)
	for _, doc := range m.docs {
		switch {
		case doc.deleted:
		case !doc.expiresAt.After(m.began):
			doc.deleted = true
			expired++
		case !doc.tombstone():
			alive++
		}
	}
	n, err := p.store.Count(m.f.T.Context())
	m.want(rt, "count", err, nil, "aggregate")
	if n != alive {
		rt.Fatalf("%d sessions, want %d", n, alive)
	}
	n, err = p.store.DeleteExpired(m.f.T.Context())
	commands := []string{"find"}
	if expired > 0 {
		commands = append(commands, "delete")
	}
	m.want(rt, "delete expired", err, nil, commands...)
	if n != expired {
		rt.Fatalf("%d expired sessions deleted, want %d", n, expired)
	}
}

// Time and operations.

// setTimes moves a document's dates. Without a touch that is always due, a save need not
// ask, within a second of the load, whether a session has expired that had not by then. So
// such requests end first.
func (m *model) setTimes(rt *rapid.T, doc *modelDocument, moved content) {
	m.wrote = true
	doc.createdAt, doc.seenAt, doc.expiresAt = moved.createdAt, moved.seenAt, moved.expiresAt
	set := bson.D{{Key: "createdAt", Value: doc.createdAt}, {Key: "seenAt", Value: doc.seenAt}, {Key: "expiresAt", Value: doc.expiresAt}}
	if _, err := m.f.Coll.UpdateByID(m.f.T.Context(), storetest.HashOf(doc.id), bson.D{{Key: "$set", Value: set}}); err != nil {
		rt.Fatal(err)
	}
	m.handlings = slices.DeleteFunc(m.handlings, func(q *handling) bool { return q.doc == doc && !m.eager })
}

// passTime makes a touch due, or is one of the ends of a session: it was idle for too long,
// or is too old. Or it was another process's clock that was ahead.
func (m *model) passTime(rt *rapid.T) {
	doc := pick(rt, m.docs, "document")
	m.begin()
	moved := doc.content
	const hours = 60 * 60
	seconds := rapid.SampledFrom([]int{20 * 60, 90 * 60, 3 * hours, 45, 13 * hours, 31 * 24 * hours, -90 * 60, -3 * 24 * hours, 15, 0}).Draw(rt, "seconds")
	if seconds == 0 {
		moved.expiresAt = m.began.Add(-time.Second)
	} else {
		for _, date := range moved.dates() {
			*date = date.Add(-time.Duration(seconds) * time.Second)
		}
	}
	m.setTimes(rt, doc, moved)
}

// outlive has a session expire in the hands of a request, now and then: this takes time.
func (m *model) outlive(rt *rapid.T) {
	p, doc := pick(rt, m.processes, "process"), pick(rt, m.docs, "document")
	if rapid.IntRange(0, 4).Draw(rt, "seldom") != 4 {
		rt.Skip("too slow to be done often")
	}
	m.begin()
	if m.finds(p, doc) != nil {
		rt.Skip("cannot be loaded")
	}
	moved := doc.content
	moved.expiresAt = m.began.Add(50 * time.Millisecond)
	m.setTimes(rt, doc, moved)
	if q := m.fetchBy(rt, p, doc); q != nil {
		m.hold(q)
	}
	for !time.Now().After(doc.expiresAt) {
		runtime.Gosched()
	}
}

// deploy replaces a process by one with other settings, which the others get in their turn.
func (m *model) deploy(rt *rapid.T) {
	i := rapid.IntRange(0, len(m.processes)-1).Draw(rt, "process")
	next := &m.next
	switch rapid.SampledFrom([]string{
		"nothing", "new signing key", "drop signing key", "new seal key", "absolute timeout", "owner key", "max age",
	}).Draw(rt, "change") {
	case "new signing key":
		next.keys = append([]int{next.keys[0] + 1}, next.keys...)
	case "drop signing key":
		next.keys = next.keys[:max(1, len(next.keys)-1)]
	case "new seal key":
		next.seals = append([]int{len(next.seals) + 1}, next.seals...)
	case "absolute timeout":
		next.absolute = absoluteEnd - next.absolute
	case "owner key":
		next.owners = !next.owners
	case "max age":
		next.age = monthly + weekly - next.age
	}
	m.processes[i] = m.open(rt, i)
}

// check compares the collection with the model. The dates of the action under way are as
// late as the action took, or the load before it.
func (m *model) check(rt *rapid.T) {
	m.tally["actions"]++
	if !m.wrote {
		return
	}
	m.wrote = false
	docs := map[string]bson.Raw{}
	for _, raw := range m.f.Documents() {
		docs[raw.Lookup("_id").StringValue()] = raw
	}
	slack := time.Since(m.began) + time.Second
	for _, doc := range m.docs {
		raw, found := docs[storetest.HashOf(doc.id)]
		delete(docs, storetest.HashOf(doc.id))
		if found == doc.deleted {
			rt.Fatalf("%v is there: %t, want %t", doc, found, !doc.deleted)
		}
		if !found {
			continue
		}
		got := m.parse(rt, raw)
		for i, seal := range doc.seals { // values that are sealed are seen by the next load
			if seal != 0 && got.seals[i] != 0 {
				got.values[i], got.seals[i] = doc.values[i], seal
			}
		}
		for i, date := range doc.allDates() {
			exact := *got.allDates()[i]
			late := exact.Sub(*date)
			if late <= 0 || late > slack {
				continue
			}
			for _, q := range m.handlings {
				if known := q.seen.allDates()[i]; q.doc == doc && known.Equal(*date) {
					*known = exact
				}
			}
			*date = exact
		}
		if got != doc.content {
			rt.Fatalf("%v is\n%+v, want\n%+v", doc, got, doc.content)
		}
	}
	if len(docs) > 0 {
		rt.Fatalf("%d documents that should not be there", len(docs))
	}
}

// parse does not know by which key a value is sealed.
func (m *model) parse(rt *rapid.T, raw bson.Raw) (c content) {
	values := raw.Lookup("values").Document()
	fields, err := values.Elements()
	if err != nil {
		rt.Fatal(err)
	}
	found := 0
	for i, key := range modelKeys {
		v, err := values.LookupErr(key.field)
		if err != nil {
			continue
		}
		found++
		if list, ok := v.ArrayOK(); ok && i == listIndex {
			elements, _ := list.Values()
			text := []string{}
			for _, e := range elements {
				text = append(text, strconv.FormatInt(e.AsInt64(), 10))
			}
			c.values[i] = listOf(text)
		} else if n, ok := v.AsInt64OK(); ok {
			c.values[i] = strconv.FormatInt(n, 10)
		} else if tag := v.Document().Lookup("_type").StringValue(); tag == "sealed" {
			c.seals[i] = -1
		} else if tag == "count" && i == typeIndex {
			c.values[i] = strconv.FormatInt(v.Document().Lookup("_value", "n").AsInt64(), 10)
		}
	}
	if found != len(fields) {
		rt.Fatalf("the document holds %v", values)
	}
	if v, err := raw.LookupErr("owner"); err == nil {
		c.owner = strconv.FormatInt(v.AsInt64(), 10)
	}
	if rev := raw.Lookup("rev"); rev.Type != bson.TypeNull {
		c.rev = rev.AsInt64()
	}
	c.own = none
	if age, err := raw.LookupErr("maxAge"); err == nil {
		c.own = int(age.AsInt64())
	}
	if moved, err := raw.LookupErr("movedTo"); err == nil {
		i := slices.IndexFunc(m.docs, func(d *modelDocument) bool { return storetest.HashOf(d.id) == moved.StringValue() })
		if i < 0 {
			rt.Fatal("moved to a document that is not known")
		}
		c.movedTo = m.docs[i].n
	}
	if at, ok := raw.Lookup("cookieAt").TimeOK(); ok {
		c.cookieAt = at.UTC()
	}
	c.createdAt, c.seenAt, c.expiresAt = raw.Lookup("createdAt").Time().UTC(), raw.Lookup("seenAt").Time().UTC(), raw.Lookup("expiresAt").Time().UTC()
	return c
}
