package proof

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
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
// processes on one collection. The model says of each call what it returns, which
// commands it sends and what the collection holds afterwards. Sessions are held between
// their load and their saves, so that requests overlap in every order. Time is not
// waited for: a document's dates are moved. A failure shrinks to a short history, which
// belongs into a test of its own. With -rapid.checks=1000 there are more of them.

// modelKeys are the keys in Values, and the names of their fields.
var modelKeys = [...]struct {
	key   any
	field string
}{{"user", "user"}, {"$a.b", "%24a%2Eb"}, {7, "%int:7"}}

const ownerIndex = 0 // in modelKeys

// modelValues are the values of modelKeys; 0 if there is none.
type modelValues [len(modelKeys)]int

// content is what a document says, or what a session knows of it.
type content struct {
	values    modelValues
	seals     [len(modelKeys)]int // the number of the key that the value is sealed with; 0 if it is not
	rev       int64
	maxAge    int
	createdAt time.Time
	seenAt    time.Time
	expiresAt time.Time
}

func (c *content) dates() []*time.Time {
	return []*time.Time{&c.createdAt, &c.seenAt, &c.expiresAt}
}

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
	n        int
	store    *mongostore.Store
	keys     []int // for signing, the first signs
	seals    []int // the first seals; none if there are none
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
	seen    content        // the document, as far as this session knows it
	asOf    time.Time      // when that was learned
	asks    bool           // is held for so long that a save asks whether it has expired meanwhile
	err     error          // what every save returns from now on
	removed bool           // by itself
}

type model struct {
	f        *storetest.Fixture
	cfg      mongostore.Config
	rejects  bool
	eager    bool // every save is due for a touch, and asks whether the session has expired
	keys     []int
	seals    []int
	absolute time.Duration // of processes yet to start

	processes []*modelProcess
	browsers  []*modelBrowser
	handlings []*handling
	docs      []*modelDocument
	last      int            // number of a request
	wrote     bool           // since the last check
	began     time.Time      // of the action under way, as exact as a BSON date
	tally     map[string]int // of what happened, over all histories
}

const (
	standardAge = 30 * 24 * 60 * 60 // the store's own MaxAge
	browserTTL  = 24 * time.Hour
	absoluteEnd = 12 * time.Hour
	touchAfter  = time.Hour
)

func TestModel(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
	tally := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{f: f, cfg: f.Cfg, keys: []int{1}, tally: tally}
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
			"renew":      func(rt *rapid.T) { m.save(rt, m.draw(rt), "renew") },
			"end":        m.end,
			"revoke":     m.revoke,
			"list":       m.list,
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
	m.cfg.BrowserTTL, m.cfg.TouchInterval = browserTTL, touchAfter
	if m.rejects {
		m.cfg.OnConflict = mongostore.Reject
	}
	if m.eager {
		m.cfg.TouchInterval = 1
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
		m.put(q, 0, i+1)
		m.put(q, 1, 1)
		m.save(rt, q, "save")
		m.check(rt)
	}
	for i := range 2 {
		m.hold(m.get(rt, m.processes[i], m.browsers[i]))
	}
}

func (m *model) open(rt *rapid.T, n int) *modelProcess {
	p := &modelProcess{n: n, keys: slices.Clone(m.keys), seals: slices.Clone(m.seals), absolute: m.absolute}
	cfg := m.cfg
	cfg.AbsoluteTimeout = m.absolute
	for _, n := range m.seals {
		cfg.SealKeys = append(cfg.SealKeys, bytes.Repeat([]byte{byte(n)}, 32))
	}
	var pairs [][]byte
	for _, n := range m.keys {
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

func (p *modelProcess) expiry(c content, now time.Time) time.Time {
	idle := now.Add(p.lifetime(c.maxAge))
	if end := c.createdAt.Add(p.absolute); p.absolute > 0 && end.Before(idle) {
		return end
	}
	return idle
}

// alive: a MaxAge of the session's own ends it even if a request that did not know of it
// has granted more.
func (p *modelProcess) alive(c content, now time.Time) bool {
	return c.expiresAt.After(now) &&
		(c.maxAge == standardAge || c.seenAt.Add(p.lifetime(c.maxAge)).After(now)) &&
		(p.absolute == 0 || c.createdAt.Add(p.absolute).After(now))
}

// finds is what looking a document up returns.
func (m *model) finds(p *modelProcess, doc *modelDocument) error {
	switch {
	case doc.deleted || !p.alive(doc.content, m.began):
		return mongostore.ErrNotFound
	case !p.reads(doc.content):
		return mongostore.ErrCorrupt
	default:
		return nil
	}
}

// reads reports whether the process has the keys that the values are sealed with.
func (p *modelProcess) reads(c content) bool {
	return !slices.ContainsFunc(c.seals[:], func(n int) bool { return n != 0 && !slices.Contains(p.seals, n) })
}

// sealed are the values as the process stores them.
func (p *modelProcess) sealed(values modelValues) (seals [len(modelKeys)]int) {
	for i, v := range values {
		if v != 0 && len(p.seals) > 0 {
			seals[i] = p.seals[0]
		}
	}
	return seals
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

// draw takes one of the requests under way.
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
		q.doc, q.seen = b.doc, b.doc.content // also of what cannot be read, for its removal
		if q.err = m.finds(p, b.doc); errors.Is(q.err, mongostore.ErrNotFound) {
			q.doc, q.err = nil, nil
		}
		m.want(rt, "load", err, q.err, "find")
	}
	m.took(rt, q)
	return q
}

// took checks a session that was loaded.
func (m *model) took(rt *rapid.T, q *handling) {
	m.last++
	q.n, q.asOf = m.last, time.Now()
	found := q.doc != nil && q.err == nil
	if !found {
		q.seen = content{maxAge: standardAge}
	}
	rt.Logf("as request %d, of %v", q.n, q.doc)
	if q.session.IsNew == found || found != (q.session.ID != "") || found && q.session.ID != q.doc.id {
		rt.Fatalf("IsNew: %t; the model found it: %t", q.session.IsNew, found)
	}
	m.wantSession(rt, q, q.seen)
}

// hold puts a request among those under way, for later actions.
func (m *model) hold(q *handling) {
	if m.handlings = append(m.handlings, q); len(m.handlings) > 4 {
		m.handlings = m.handlings[1:]
	}
}

func (m *model) drop(q *handling) {
	m.handlings = slices.DeleteFunc(m.handlings, func(h *handling) bool { return h == q })
}

func (m *model) wantSession(rt *rapid.T, q *handling, want content) {
	if got := q.values(rt); got != want.values {
		rt.Fatalf("the session holds %v, want %v", got, want.values)
	}
	if got := q.session.Options.MaxAge; got != want.maxAge {
		rt.Fatalf("the session has MaxAge %d, want %d", got, want.maxAge)
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
	q := &handling{p: p, browser: b, r: b.Request(), w: httptest.NewRecorder(), doc: doc, seen: doc.content}
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
		m.save(rt, q, "persist")
	}
}

// The application.

func (m *model) change(rt *rapid.T) { m.changeIn(rt, m.draw(rt)) }

// visit is a whole request, in the midst of those under way.
func (m *model) visit(rt *rapid.T) {
	q := m.get(rt, pick(rt, m.processes, "process"), pick(rt, m.browsers, "browser"))
	m.changeIn(rt, q)
	m.save(rt, q, "save")
}

// changeIn changes a value, or the MaxAge: "remember me", or no longer.
func (m *model) changeIn(rt *rapid.T, q *handling) {
	i := rapid.IntRange(0, len(modelKeys)).Draw(rt, "key")
	by := rapid.IntRange(0, 2).Draw(rt, "value")
	if i == len(modelKeys) {
		q.session.Options.MaxAge = []int{7200, 0, standardAge}[by]
		rt.Logf("its MaxAge: %d", q.session.Options.MaxAge)
		return
	}
	was := q.values(rt)[i]
	v := (was + 3 - by) % 4
	rt.Logf("its %v: %d, was %d", modelKeys[i].key, v, was)
	m.put(q, i, v)
}

// put sets a value, or deletes it if v is 0.
func (m *model) put(q *handling, i, v int) {
	if v == 0 {
		delete(q.session.Values, modelKeys[i].key)
	} else {
		q.session.Values[modelKeys[i].key] = v
	}
}

// values are the session's.
func (q *handling) values(rt *rapid.T) (values modelValues) {
	found := 0
	for i, key := range modelKeys {
		if v, ok := q.session.Values[key.key]; ok {
			values[i], _ = v.(int)
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
	doc      content // afterwards
	seen     content // what the session knows of it
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
	m.hesitate(q)
	m.begin()
	isNew := q.doc == nil
	moves := how == "renew" && !isNew
	var want modelSave
	switch next := m.next(q, q.values(rt)); {
	case q.err != nil:
		want.err = q.err
	case isNew:
		want = modelSave{commands: []string{"insert"}, doc: next, seen: next}
	case moves:
		want = m.move(q, next)
	default:
		want = m.update(q, next)
	}

	var err error
	earlier := slices.Clone(q.w.Header()["Set-Cookie"])
	switch how {
	case "renew":
		err = q.p.store.Renew(q.r, q.w, q.session)
	case "persist":
		err = q.p.store.Persist(m.f.T.Context(), q.session)
	default:
		err = q.session.Save(q.r, q.w)
	}
	rt.Logf("it is request %d, of %v", q.n, q.doc)
	m.want(rt, how, err, want.err, want.commands...)
	loggedOut := slices.ContainsFunc(earlier, func(line string) bool { return strings.Contains(line, "Max-Age=0") })
	if errors.Is(want.err, mongostore.ErrGone) && how != "persist" && !loggedOut {
		earlier = nil // a cookie of an earlier save is taken back
	}
	if err != nil || how == "persist" {
		if !slices.Equal(q.w.Header()["Set-Cookie"], earlier) {
			rt.Fatalf("a cookie that should not be sent: %q, want %q", q.w.Header()["Set-Cookie"], earlier)
		}
	}
	switch {
	case q.err != nil:
		m.drop(q) // it will say no other for ever
	case errors.Is(err, mongostore.ErrGone):
		q.err = mongostore.ErrGone
	}
	if err != nil {
		return
	}
	if isNew || moves {
		if moves {
			q.doc.deleted = true
		}
		q.doc = m.newDocument(rt, q.session.ID)
	}
	q.doc.content, q.seen, q.asOf = want.doc, want.seen, time.Now()
	m.wantSession(rt, q, q.seen)
	if q.session.ID != q.doc.id {
		rt.Fatal("the session has another ID")
	}
	if how != "persist" {
		if cookie := m.receive(rt, q); cookie.MaxAge != q.seen.maxAge {
			rt.Fatalf("the cookie has MaxAge %d, want %d", cookie.MaxAge, q.seen.maxAge)
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

// receive gives the browser the only cookie that the response may have.
func (m *model) receive(rt *rapid.T, q *handling) *http.Cookie {
	w := httptest.NewRecorder() // which takes its headers down but once
	maps.Copy(w.Header(), q.w.Header())
	cookies := w.Result().Cookies()
	if len(cookies) != 1 {
		rt.Fatalf("%d cookies sent, want 1", len(cookies))
	}
	q.browser.Receive(w)
	return cookies[0]
}

func (m *model) newDocument(rt *rapid.T, id string) *modelDocument {
	if id == "" || slices.ContainsFunc(m.docs, func(d *modelDocument) bool { return d.id == id }) {
		rt.Fatal("a new document without a new ID")
	}
	doc := &modelDocument{id: id, n: len(m.docs) + 1}
	m.docs = append([]*modelDocument{doc}, m.docs...) // what is drawn is likely to be early
	return doc
}

// next is the document as the session would have it.
func (m *model) next(q *handling, values modelValues) content {
	next := content{values: values, seals: q.p.sealed(values), rev: 1, maxAge: q.session.Options.MaxAge, createdAt: q.seen.createdAt, seenAt: m.began}
	if q.doc == nil {
		next.createdAt = m.began
	}
	next.expiresAt = q.p.expiry(next, m.began)
	return next
}

// stale reports whether others have changed the document since the session's load, so
// that its rev is not what the session knows. It stays so: what they changed, it has not seen.
func (q *handling) stale() bool { return q.doc.rev != q.seen.rev }

// clashes reports whether the session and others have changed one key.
func (q *handling) clashes(values modelValues) bool {
	for i, was := range q.seen.values {
		if values[i] != was && q.doc.values[i] != was {
			return true
		}
	}
	return false
}

// update is the model's part of a save of what is stored.
func (m *model) update(q *handling, next content) (want modelSave) {
	seen, doc := q.seen, q.doc
	want.doc, want.seen = doc.content, seen
	changed, aged := next.values != seen.values, next.maxAge != seen.maxAge
	due := m.eager || m.began.Sub(seen.seenAt) >= min(touchAfter, q.p.lifetime(next.maxAge)/10)
	lives := !doc.deleted && q.p.alive(doc.content, m.began)
	asks, rejects := q.asks || !q.p.alive(seen, m.began), m.rejects && changed
	switch {
	case !next.expiresAt.After(m.began):
		want.err = mongostore.ErrGone
	case !changed && !aged && !due && q.p.alive(seen, m.began):
		return want
	case lives && !(rejects && q.stale()) && !(asks && doc.maxAge != seen.maxAge):
		want.commands = []string{"update"}
	case !asks && !rejects:
		want.commands, want.err = []string{"update"}, mongostore.ErrGone
	default:
		want.commands = []string{"update", "find"}
		switch found := m.finds(q.p, doc); {
		case errors.Is(found, mongostore.ErrNotFound):
			want.err = mongostore.ErrGone
		case found != nil:
			want.err = found
		case rejects && q.clashes(next.values):
			want.err = mongostore.ErrConflict
		default:
			want.commands = append(want.commands, "update")
		}
	}
	if want.err != nil {
		return want
	}

	want.doc.merge(seen.values, next)
	want.seen.values, want.seen.maxAge, want.seen.seenAt = next.values, next.maxAge, next.seenAt
	want.doc.seenAt = next.seenAt
	if changed || aged {
		want.doc.rev++
	}
	if !q.stale() {
		want.seen.rev = want.doc.rev
	}
	// Expiry moves forward, save for a shorter life that was asked for.
	if aged {
		want.doc.maxAge = next.maxAge
	}
	if aged || seen.expiresAt.After(next.expiresAt.Add(time.Minute)) {
		want.seen.expiresAt, want.doc.expiresAt = next.expiresAt, next.expiresAt
	} else {
		want.seen.expiresAt = later(seen.expiresAt, next.expiresAt)
		want.doc.expiresAt = later(doc.expiresAt, next.expiresAt)
	}
	return want
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// merge brings into a document what next has changed since it was base.
func (c *content) merge(base modelValues, next content) {
	for i, v := range next.values {
		if v != base[i] {
			c.values[i], c.seals[i] = v, next.seals[i]
		}
	}
}

// move is the model's part of a renewal of what is stored.
func (m *model) move(q *handling, next content) (want modelSave) {
	seen, doc := q.seen, q.doc
	if !next.expiresAt.After(m.began) {
		want.err = mongostore.ErrGone
		return want
	}
	lives := !doc.deleted && q.p.alive(doc.content, m.began)
	want.commands = []string{"insert", "update"}
	if !lives || q.stale() {
		want.commands = append(want.commands, "find")
		switch {
		case !doc.deleted && !q.p.reads(doc.content):
			want.err = mongostore.ErrCorrupt
		case !lives:
			want.err = mongostore.ErrGone
		case m.rejects && q.clashes(next.values):
			want.err = mongostore.ErrConflict
		default:
			want.commands = append(want.commands, "update", "update")
		}
	}
	want.commands = append(want.commands, "delete")
	if want.err != nil {
		return want
	}

	changed, aged := next.values != seen.values, next.maxAge != seen.maxAge
	want.doc = next
	want.doc.rev = doc.rev
	if (changed || aged) && !q.stale() {
		want.doc.rev++
	}
	// What others did comes along, but not to another owner.
	if was := seen.values[ownerIndex]; was == 0 || was == next.values[ownerIndex] {
		want.doc.values = doc.values
		want.doc.merge(seen.values, next)
		want.doc.seals = q.p.sealed(want.doc.values)
		if !aged && doc.maxAge != seen.maxAge {
			want.doc.maxAge, want.doc.expiresAt = doc.maxAge, doc.expiresAt
		}
	}
	want.seen = want.doc
	return want
}

// Removing.

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
	case "renew":
		err = q.p.store.Renew(q.r, q.w, q.session)
	default:
		err = q.session.Save(q.r, q.w)
	}
	rt.Logf("it is request %d, of %v", q.n, q.doc)
	if q.removed {
		m.drop(q)
	}
	if q.doc == nil || q.removed {
		m.want(rt, "end by "+how, err, nil)
	} else {
		m.want(rt, "end by "+how, err, nil, "delete")
		q.doc.deleted, q.removed, q.err = true, true, mongostore.ErrGone
	}
	if how != "remove" && how != "persist" {
		if cookie := m.receive(rt, q); cookie.MaxAge >= 0 || cookie.Value != "" {
			rt.Fatal("the cookie does not expire")
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
	m.want(rt, "revoke", p.store.Revoke(m.f.T.Context(), storetest.HashOf(doc.id)), nil, "delete")
	doc.deleted = true
}

func (m *model) revokeAll(rt *rapid.T) {
	q, owner, others := m.draw(rt), rapid.IntRange(1, 3).Draw(rt, "owner"), rapid.Bool().Draw(rt, "all but this one")
	var except []*sessions.Session
	if others {
		except = append(except, q.session)
	}
	n, err := q.p.store.RevokeAll(m.f.T.Context(), owner, except...)
	if others && (q.doc == nil || q.session.ID == "") {
		if err == nil || n != 0 || len(m.f.Log.Reset()) > 0 {
			rt.Fatalf("an exception that is not stored: %d revoked, error %v", n, err)
		}
		return
	}
	want := int64(0)
	for _, doc := range m.docs {
		if !doc.deleted && doc.values[ownerIndex] == owner && (!others || doc != q.doc) {
			doc.deleted = true
			want++
		}
	}
	commands := []string{"delete"}
	if want > 0 {
		commands = append(commands, "delete") // until nothing is left
	}
	m.want(rt, "revoke all", err, nil, commands...)
	if n != want {
		rt.Fatalf("%d revoked, want %d", n, want)
	}
}

func (m *model) list(rt *rapid.T) {
	p, owner := pick(rt, m.processes, "process"), rapid.IntRange(1, 3).Draw(rt, "owner")
	m.begin()
	want := map[string]bool{}
	for _, doc := range m.docs {
		if !doc.deleted && doc.values[ownerIndex] == owner && p.alive(doc.content, m.began) {
			want[storetest.HashOf(doc.id)] = true
		}
	}
	got := map[string]bool{}
	var last time.Time
	for info, err := range p.store.Sessions(m.f.T.Context(), owner) {
		if err != nil || info.Owner != owner || len(got) > 0 && info.SeenAt.After(last) {
			rt.Fatalf("%+v, %v", info, err)
		}
		got[info.Key], last = true, info.SeenAt
	}
	m.want(rt, "list", nil, nil, "find")
	if !maps.Equal(got, want) {
		rt.Fatalf("listed %v, want %v", got, want)
	}
}

// Time and operations.

// setTimes moves a document's dates. Without a touch that is always due, a save need not
// ask, within a second of the load, whether a session has expired that had not by then;
// nor does one know of a date of creation that has changed. So such requests end first.
func (m *model) setTimes(rt *rapid.T, doc *modelDocument, moved content) {
	m.wrote = true
	doc.createdAt, doc.seenAt, doc.expiresAt = moved.createdAt, moved.seenAt, moved.expiresAt
	set := bson.D{{Key: "createdAt", Value: doc.createdAt}, {Key: "seenAt", Value: doc.seenAt}, {Key: "expiresAt", Value: doc.expiresAt}}
	if _, err := m.f.Coll.UpdateByID(m.f.T.Context(), storetest.HashOf(doc.id), bson.D{{Key: "$set", Value: set}}); err != nil {
		rt.Fatal(err)
	}
	m.handlings = slices.DeleteFunc(m.handlings, func(q *handling) bool {
		return q.doc == doc && (!m.eager || q.p.absolute > 0)
	})
}

// passTime makes a touch due, or is one of the ends of a session: it was idle for too long,
// or is too old.
func (m *model) passTime(rt *rapid.T) {
	doc := pick(rt, m.docs, "document")
	m.begin()
	moved := doc.content
	if minutes := rapid.SampledFrom([]int{20, 90, 3 * 60, 13 * 60, 31 * 24 * 60, 0}).Draw(rt, "minutes"); minutes == 0 {
		moved.expiresAt = m.began.Add(-time.Second)
	} else {
		for _, date := range []*time.Time{&moved.createdAt, &moved.seenAt, &moved.expiresAt} {
			*date = date.Add(-time.Duration(minutes) * time.Minute)
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
	change := rapid.SampledFrom([]string{"nothing", "new signing key", "drop signing key", "new seal key", "absolute timeout"}).Draw(rt, "change")
	switch change {
	case "new signing key":
		m.keys = append([]int{m.keys[0] + 1}, m.keys...)
	case "drop signing key":
		m.keys = m.keys[:max(1, len(m.keys)-1)]
	case "new seal key":
		m.seals = append([]int{len(m.seals) + 1}, m.seals...)
	case "absolute timeout":
		m.absolute = absoluteEnd - m.absolute
	}
	m.processes[i] = m.open(rt, i)
}

// check compares the collection with the model. The dates of the action under way are as
// late as the action took.
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
	slack := time.Since(m.began)
	for _, doc := range m.docs {
		raw, found := docs[storetest.HashOf(doc.id)]
		delete(docs, storetest.HashOf(doc.id))
		if found == doc.deleted {
			rt.Fatalf("%v is there: %t, want %t", doc, found, !doc.deleted)
		}
		if !found {
			continue
		}
		got, owner := parseModelDocument(rt, raw)
		for i, seal := range doc.seals { // values that are sealed are seen by the next load
			if seal != 0 && got.seals[i] != 0 {
				got.values[i], got.seals[i] = doc.values[i], seal
			}
		}
		for i, date := range doc.dates() {
			exact := *got.dates()[i]
			late := exact.Sub(*date)
			if late <= 0 || late > slack {
				continue
			}
			for _, q := range m.handlings {
				if known := q.seen.dates()[i]; q.doc == doc && known.Equal(*date) {
					*known = exact
				}
			}
			*date = exact
		}
		if owner != doc.values[ownerIndex] {
			rt.Fatalf("%v is of owner %d, want %d", doc, owner, doc.values[ownerIndex])
		}
		if got != doc.content {
			rt.Fatalf("%v is\n%+v, want\n%+v", doc, got, doc.content)
		}
	}
	if len(docs) > 0 {
		rt.Fatalf("%d documents that should not be there", len(docs))
	}
}

// parseModelDocument does not know by which key a value is sealed.
func parseModelDocument(rt *rapid.T, raw bson.Raw) (c content, owner int) {
	values := raw.Lookup("values").Document()
	elements, err := values.Elements()
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
		if n, ok := v.AsInt64OK(); ok {
			c.values[i] = int(n)
		} else if v.Document().Lookup("_type").StringValue() == "sealed" {
			c.seals[i] = -1
		}
	}
	if found != len(elements) {
		rt.Fatalf("the document holds %v", values)
	}
	if v, err := raw.LookupErr("owner"); err == nil {
		owner = int(v.AsInt64())
	}
	c.rev, c.maxAge = raw.Lookup("rev").AsInt64(), standardAge
	if age, err := raw.LookupErr("maxAge"); err == nil {
		c.maxAge = int(age.AsInt64())
	}
	c.createdAt, c.seenAt, c.expiresAt = raw.Lookup("createdAt").Time().UTC(), raw.Lookup("seenAt").Time().UTC(), raw.Lookup("expiresAt").Time().UTC()
	return c, owner
}
