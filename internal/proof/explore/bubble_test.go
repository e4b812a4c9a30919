package explore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/proof/fakemongo"
)

// A bubble is one run of a script: a server in memory, stores, and actors whose
// commands wait until they are chosen. Time is that of testing/synctest, so it
// passes only when all wait for it.

// By number, since the names of these constants are not the subject here.
const (
	rejects    = mongostore.ConflictPolicy(1)
	noCleaning = mongostore.Cleanup(2)
)

const (
	tick    = 600 * time.Millisecond // more than the first retries of the store and of the driver
	stuckAt = 5 * time.Minute        // nobody may wait for so long
	aged    = 2 * time.Minute        // older than the TouchInterval
)

var (
	site       = &url.URL{Scheme: "https", Host: "example.com", Path: "/"}
	oldCookies = []byte("a signing key of the older store")
	sealKey    = []byte("a sealing key of 32 bytes, said.")
)

type bubble struct {
	script script
	server *fakemongo.Server
	sites  map[int]*process
	shared *cookiejar.Jar // of the browser, in scripts with one
	start  []*http.Cookie // what each browser begins with
	first  string         // the session's ID; none when it is to be migrated

	moved chan struct{} // something has happened

	mu       sync.Mutex
	open     bool             // commands pass without being chosen
	senders  map[int64]*visit // of commands, by the number of the message
	pending  []*held
	symbols  map[string]string // of documents
	actors   []*actor
	visits   []*visit
	taken    []string // choices
	faulted  bool
	ticked   bool
	freshly  bool // no command was released since the last delivery
	problems []problem
	astray   bool // the chooser did not find what it was to choose
}

// process is a process: a client and a store.
type process struct {
	number int
	dialer *dialer
	client *mongo.Client
	store  *mongostore.Store
}

// dialer is the way of a process to the server, which can be blocked.
type dialer struct {
	fakemongo.Dialer

	mu    sync.Mutex
	until time.Time
	conns []net.Conn
}

func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Now().Before(d.until) {
		return nil, errors.New("no route to the server")
	}
	conn, err := d.Dialer.DialContext(ctx, network, address)
	if err == nil {
		d.conns = append(d.conns, conn)
	}
	return conn, err
}

// fail blocks the way for a while; 0 ends it.
func (d *dialer) fail(while time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = time.Now().Add(while)
	if while == 0 {
		return
	}
	for _, conn := range d.conns {
		_ = conn.Close()
	}
	d.conns = nil
}

// held is a command that waits to be chosen.
type held struct {
	visit *visit // that has sent it; nil if nobody knows
	since time.Time
	site  int
	name  string
	text  string
	gate  chan fakemongo.Fate
}

// actor sends the requests of a chain, one after the other.
type actor struct {
	*bubble
	number  int
	site    *process
	kinds   []string
	jar     *cookiejar.Jar
	started bool
	done    bool
	silent  bool       // waits for an answer that does not come
	visit   *visit     // under way
	goOn    chan bool  // in a shared browser: the response was delivered
	arrived bool       // a response waits to be delivered
	inbox   []delivery // it
}

type delivery struct{ cookies []*http.Cookie }

// visit is a request and what came of it.
type visit struct {
	kind      string
	actor     int
	presented string // ID in the request's cookie
	old       bool   // the cookie is that of the store to migrate from
	isNew     bool
	user      bool // the session that was loaded has a user
	answered  bool // the load was answered
	err       error
	call, ret int
	id        string // of the session afterwards
	cookies   []*http.Cookie
	issued    string // ID in the cookie that was set
	expired   bool   // the cookie was made to expire
	key       string
	value     int
	base      int
	held      []string // flashes that were loaded
	added     string   // flash
	shown     []string // flashes
	doubtful  bool     // a fault hit a command of it
	over      bool     // the response is there
	leaked    bool     // a cookie was set with an error
	dropped   bool     // the browser did not wait for the response
}

func (v *visit) String() string {
	s := fmt.Sprintf("%d.%s: %s", v.actor, v.kind, errText(v.err))
	if len(v.cookies) > 0 {
		s += " with a cookie"
	}
	return s
}

func errText(err error) string {
	for name, target := range map[string]error{
		"gone": mongostore.ErrGone, "conflict": mongostore.ErrConflict,
		"unavailable": mongostore.ErrUnavailable, "not found": mongostore.ErrNotFound,
	} {
		if errors.Is(err, target) {
			return name
		}
	}
	if err == nil {
		return "nil"
	}
	return err.Error()
}

// problem is a statement that does not hold, and of what request.
type problem struct{ what, of string }

func (p problem) String() string {
	if p.of == "" {
		return p.what
	}
	return p.what + ": " + p.of
}

// problem notes that something is wrong, and with which requests.
func (b *bubble) problem(what string, of ...*visit) {
	var names []string
	for _, v := range of {
		names = append(names, v.String())
	}
	b.problems = append(b.problems, problem{what, strings.Join(names, ", ")})
}

// prepare creates the server, the stores and the session that the script begins with.
func (b *bubble) prepare() {
	b.server = &fakemongo.Server{ReplicaSet: b.script.replicaSet, Intercept: b.intercept}
	b.moved = make(chan struct{}, 1)
	b.symbols = map[string]string{}
	b.senders = map[int64]*visit{}
	b.sites = map[int]*process{}
	b.open = true
	for _, a := range b.script.actors {
		if b.sites[a.site] == nil {
			b.sites[a.site] = b.connect(a.site, b.script.configFor(a.site))
		}
	}
	first := b.script.actors[0].site
	if b.script.mixed { // its owner is to be stored
		if first = 1; b.sites[first] == nil {
			b.sites[first] = b.connect(first, b.script.configFor(first))
		}
	}
	p := b.sites[first]
	r := newRequest(nil)
	values := map[any]any{"user": "ada", "n": 0}
	if b.script.flashed {
		values["_flash"] = []any{"f0"}
	}
	if b.script.migrate {
		w := &response{header: http.Header{}}
		session, _ := b.script.oldStore().New(r, name)
		session.Values = values
		if err := session.Save(r, w); err != nil {
			b.problem("set-up: " + err.Error())
		}
		b.start = w.cookies()
	} else {
		w := &response{header: http.Header{}}
		session, err := p.store.New(r, name)
		if err == nil {
			session.Values = values
			err = p.store.Save(r, w, session)
		}
		if err != nil {
			b.problem("set-up: " + err.Error())
		}
		b.start, b.first = w.cookies(), session.ID
		b.symbol(keyOf(session.ID))
	}
	if b.script.aged {
		time.Sleep(aged)
	}
	b.shared = b.newJar()
	for i, a := range b.script.actors {
		actor := &actor{bubble: b, number: i + 1, site: b.sites[a.site], kinds: a.kinds, goOn: make(chan bool, 1), jar: b.shared}
		if !b.script.browser {
			actor.jar = b.newJar()
		}
		b.actors = append(b.actors, actor)
	}
	b.open = false
}

func (b *bubble) newJar() *cookiejar.Jar {
	jar, _ := cookiejar.New(nil)
	jar.SetCookies(site, b.start)
	return jar
}

func (b *bubble) connect(number int, cfg mongostore.Config) *process {
	way := &dialer{Dialer: b.server.Dialer(fmt.Sprint(number))}
	client, err := mongo.Connect(options.Client().ApplyURI(b.server.URI()).SetDialer(way).SetMonitor(&event.CommandMonitor{Started: b.sent}))
	if err != nil {
		b.problem("connect: " + err.Error())
		return nil
	}
	return b.openOn(client, way, number, cfg)
}

func (b *bubble) openOn(client *mongo.Client, way *dialer, number int, cfg mongostore.Config) *process {
	cfg.Client, cfg.Database, cfg.Collection = client, "d", "sessions"
	store, err := mongostore.Open(context.Background(), cfg, signingKey)
	if err != nil {
		b.problem("open: " + err.Error())
		return nil
	}
	return &process{number, way, client, store}
}

// close ends what prepare has begun.
func (b *bubble) close() {
	for _, p := range b.sites {
		if p != nil {
			_ = p.client.Disconnect(context.Background())
		}
	}
	b.server.Close()
}

// sent notes who sends a command. What a store does later for a request has its context's values.
func (b *bubble) sent(ctx context.Context, e *event.CommandStartedEvent) {
	if v, ok := ctx.Value(visitKey{}).(*visit); ok {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.senders[e.RequestID] = v
	}
}

type visitKey struct{}

// intercept holds a command until it is chosen.
func (b *bubble) intercept(c *fakemongo.Command) fakemongo.Fate {
	switch c.Name {
	case "find", "insert", "update", "delete", "deleting", "aggregate":
	default:
		return fakemongo.Fate{}
	}
	b.mu.Lock()
	if b.open {
		b.mu.Unlock()
		return fakemongo.Fate{}
	}
	h := &held{name: c.Name, gate: make(chan fakemongo.Fate, 1), visit: b.senders[c.RequestID], since: time.Now()}
	_, _ = fmt.Sscan(c.From, &h.site)
	who := "b" // in the background
	if h.visit != nil {
		who = fmt.Sprint(h.visit.actor)
		if h.visit.over {
			who = "b" + who
		} else {
			b.actors[h.visit.actor-1].silent = false
		}
	}
	h.text = fmt.Sprintf("%s.%s(%s)", who, c.Name, b.symbol(idIn(c)))
	b.pending = append(b.pending, h)
	b.mu.Unlock()
	b.signal()
	return <-h.gate
}

func (b *bubble) signal() {
	select {
	case b.moved <- struct{}{}:
	default:
	}
}

// idIn returns the _id of the document that a command is about.
func idIn(c *fakemongo.Command) string {
	get := func(doc bson.D, key string) any {
		for _, e := range doc {
			if e.Key == key {
				return e.Value
			}
		}
		return nil
	}
	var about bson.D
	switch c.Name {
	case "find":
		about, _ = get(c.Body, "filter").(bson.D)
	case "insert", "update", "delete":
		list, _ := get(c.Body, c.Name+"s").(bson.A)
		if c.Name == "insert" {
			list, _ = get(c.Body, "documents").(bson.A)
		}
		if len(list) == 1 {
			about, _ = list[0].(bson.D)
		}
		if c.Name != "insert" {
			about, _ = get(about, "q").(bson.D)
		}
	}
	id, _ := get(about, "_id").(string)
	return id
}

// symbol returns a letter for a document, in the order in which they are seen.
func (b *bubble) symbol(id string) string {
	if id == "" {
		return "*"
	}
	if b.symbols[id] == "" {
		b.symbols[id] = string(rune('a' + len(b.symbols)))
	}
	return b.symbols[id]
}

// option is something that can happen next.
type option struct {
	text   string
	weight int // for a choice at random
	do     func()
}

// mishap is something that can go wrong with a command.
type mishap struct {
	name   string
	writes bool // only for commands that write
	down   bool // and then the process cannot reach the server for longer than its Timeout
	fate   fakemongo.Fate
}

var mishaps = []mishap{
	{name: "cut", fate: fakemongo.Fate{Skip: true, Answer: fakemongo.Cut}},
	{name: "lost", fate: fakemongo.Fate{Answer: fakemongo.Cut}},
	{name: "half", fate: fakemongo.Fate{Answer: fakemongo.Half}},
	{name: "silent", fate: fakemongo.Fate{Skip: true, Answer: fakemongo.None}},
	{name: "mute", writes: true, fate: fakemongo.Fate{Answer: fakemongo.None}}, // carried out, and silent
	{name: "off", down: true, fate: fakemongo.Fate{Skip: true, Answer: fakemongo.Cut}},
	{name: "down", writes: true, down: true, fate: fakemongo.Fate{Answer: fakemongo.Cut}}, // carried out
	{name: "10107", fate: fakemongo.Fate{Skip: true, Error: fakemongo.Failure(10107, "NotWritablePrimary")}},
	{name: "189", fate: fakemongo.Fate{Skip: true, Error: fakemongo.Failure(189, "PrimarySteppedDown")}},
	{name: "91", writes: true, fate: fakemongo.Fate{Append: fakemongo.ConcernError(91, "ShutdownInProgress")}},
	// Carried out by an attempt that the driver, or mongos, has repeated; this is what comes of the last one.
	{name: "189x", writes: true, fate: fakemongo.Fate{Error: fakemongo.Failure(189, "PrimarySteppedDown")}},
}

// options returns what can happen next, in an order that is the same in each run.
func (b *bubble) options(faults int) []option {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []option
	for _, a := range b.actors {
		switch {
		case b.script.browser && !a.started && (b.freshly || len(b.pending) == 0):
			all = append(all, option{fmt.Sprintf("%d.start", a.number), 32, func() { b.begin(a) }})
		case b.script.browser && a.arrived:
			all = append(all, option{fmt.Sprintf("%d.deliver", a.number), 32, func() { b.deliver(a, true) }})
			if b.superseded(a) {
				all = append(all, option{fmt.Sprintf("%d.drop", a.number), 16, func() { b.deliver(a, false) }})
			}
		}
	}
	waiting := slices.Clone(b.pending)
	slices.SortStableFunc(waiting, func(x, y *held) int { return strings.Compare(x.text, y.text) })
	for _, h := range waiting {
		all = append(all, option{h.text, 32, func() { b.release(h, mishap{}) }})
		if faults <= b.faultsSoFar() || h.name == "deleting" {
			continue
		}
		writes := h.name != "find" && h.name != "aggregate"
		for _, m := range mishaps {
			if !m.writes || writes {
				all = append(all, option{h.text + "!" + m.name, 1, func() { b.release(h, m) }})
			}
		}
	}
	for _, a := range b.actors {
		if limit := timeoutOf(a.site.number); a.silent && len(waiting) > 0 && patient(waiting, limit) {
			all = append(all, option{"wait", 16, func() { b.waitForMove(limit) }})
			break
		}
	}
	if len(waiting) > 0 && b.faulted && !b.ticked && patient(waiting, tick) {
		all = append(all, option{"tick", 8, func() {
			b.ticked = true
			time.Sleep(tick)
		}})
	}
	return all
}

// patient reports whether those who have sent the commands can wait for so long. A command
// that is carried out after its sender has given up is not what is tried here.
func patient(waiting []*held, more time.Duration) bool {
	return !slices.ContainsFunc(waiting, func(h *held) bool {
		return time.Since(h.since)+more >= timeoutOf(h.site)
	})
}

func (b *bubble) faultsSoFar() (n int) {
	for _, c := range b.taken {
		if strings.Contains(c, "!") {
			n++
		}
	}
	return n
}

// superseded reports whether the browser has begun to load another page since, so that
// it may not wait for a response any more.
func (b *bubble) superseded(a *actor) bool {
	if !isNavigation(a.visit) {
		return false
	}
	return slices.ContainsFunc(b.actors, func(other *actor) bool {
		return other != a && other.visit != nil && isNavigation(other.visit) && slices.Index(b.visits, other.visit) > slices.Index(b.visits, a.visit)
	})
}

func isNavigation(v *visit) bool { return v.kind == "login" || v.kind == "logout" }

// release lets a command go on.
func (b *bubble) release(h *held, m mishap) {
	fault := m.name != ""
	b.mu.Lock()
	b.pending = slices.DeleteFunc(b.pending, func(other *held) bool { return other == h })
	b.freshly = false
	if v := h.visit; v != nil {
		if v.call < 0 {
			v.call = len(b.taken)
		}
		v.doubtful = v.doubtful || fault
		b.actors[v.actor-1].silent = (m.fate.Answer == fakemongo.None || m.down) && !v.over
	}
	b.faulted = b.faulted || fault
	b.mu.Unlock()
	h.gate <- m.fate
	if m.down {
		synctest.Wait()
		b.sites[h.site].dialer.fail(timeoutOf(h.site) * 3 / 2)
	}
}

func (b *bubble) begin(a *actor) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a.started = true
	go a.run()
}

// deliver hands a response to the browser, and lets the user go on.
func (b *bubble) deliver(a *actor, wanted bool) {
	b.mu.Lock()
	a.arrived, b.freshly = false, true
	b.mu.Unlock()
	for _, d := range a.inbox {
		if wanted {
			a.jar.SetCookies(site, d.cookies)
		}
	}
	a.inbox = nil
	a.goOn <- wanted
}

// run carries the script out, as the chooser decides.
func (b *bubble) run(choose chooser, faults int) {
	defer b.close()
	b.prepare()
	if len(b.problems) > 0 {
		return
	}
	b.freshly = true
	if !b.script.browser {
		for _, a := range b.actors {
			b.begin(a)
			synctest.Wait()
		}
	}
	for {
		synctest.Wait()
		all := b.options(faults)
		if len(all) > 0 {
			i := choose(all)
			if i < 0 {
				b.problem(fmt.Sprintf("the schedule cannot be repeated: of %v none was chosen", texts(all)))
				b.astray = true
				b.abandon()
				return
			}
			b.mu.Lock()
			b.taken = append(b.taken, all[i].text)
			b.mu.Unlock()
			all[i].do()
			continue
		}
		if b.over() {
			break
		}
		if !b.waitForMove(stuckAt) {
			b.problem("stuck")
			b.abandon()
			return
		}
	}
	b.settle()
	b.verify()
}

func (b *bubble) over() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !slices.ContainsFunc(b.actors, func(a *actor) bool { return !a.done })
}

func texts(all []option) []string {
	var s []string
	for _, o := range all {
		s = append(s, o.text)
	}
	return s
}

// waitForMove lets time pass until something happens, and reports whether it has.
func (b *bubble) waitForMove(limit time.Duration) bool {
	select {
	case <-b.moved: // for what was seen already
	default:
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-b.moved:
		return true
	case <-timer.C:
		return false
	}
}

// abandon lets everything through.
func (b *bubble) abandon() {
	b.mu.Lock()
	b.open = true
	waiting := b.pending
	b.pending = nil
	b.mu.Unlock()
	for _, h := range waiting {
		h.gate <- fakemongo.Fate{}
	}
	for _, a := range b.actors {
		select {
		case a.goOn <- true:
		default:
		}
	}
	time.Sleep(stuckAt)
}

// settle has the stores finish what they have to do in the background.
func (b *bubble) settle() {
	b.mu.Lock()
	b.open = true
	b.mu.Unlock()
	for _, p := range b.sites {
		p.dialer.fail(0)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		if err := p.store.Close(ctx); err != nil {
			b.problem("close: " + err.Error())
		}
		cancel()
	}
}

// run sends the actor's requests.
func (a *actor) run() {
	defer func() {
		a.mu.Lock()
		a.done = true
		a.mu.Unlock()
		a.signal()
	}()
	for _, kind := range a.kinds {
		v := &visit{kind: kind, actor: a.number, call: -1}
		a.mu.Lock()
		a.visits = append(a.visits, v)
		a.visit = v
		a.mu.Unlock()
		a.request(v)
		a.mu.Lock()
		v.ret, v.over, a.silent = len(a.taken), true, false
		if v.call < 0 {
			v.call = v.ret
		}
		a.mu.Unlock()
		if !a.script.browser {
			a.jar.SetCookies(site, v.cookies)
			continue
		}
		a.mu.Lock()
		a.inbox, a.arrived = append(a.inbox, delivery{v.cookies}), true
		a.mu.Unlock()
		a.signal()
		wanted := <-a.goOn
		a.mu.Lock()
		v.dropped = !wanted
		a.mu.Unlock()
	}
}

// response is as much of an http.ResponseWriter as a store uses.
type response struct{ header http.Header }

func (w *response) Header() http.Header         { return w.header }
func (w *response) Write(p []byte) (int, error) { return len(p), nil }
func (w *response) WriteHeader(int)             {}
func (w *response) cookies() []*http.Cookie     { return (&http.Response{Header: w.header}).Cookies() }

func (b *bubble) idOf(store *mongostore.Store, cookies []*http.Cookie) (id string, old bool) {
	for _, c := range cookies {
		if c.Name != name || c.Value == "" {
			continue
		}
		if securecookie.DecodeMulti(name, c.Value, &id, store.Codecs...) == nil {
			return id, false
		}
		old = true
	}
	return "", old
}

// request handles a request as an application's handler does.
func (a *actor) request(v *visit) {
	store := a.site.store
	cookies := a.jar.Cookies(site)
	r := newRequest(cookies)
	r = r.WithContext(context.WithValue(r.Context(), visitKey{}, v))
	v.presented, v.old = a.idOf(store, cookies)
	w := &response{header: http.Header{}}
	defer func() {
		v.cookies = w.cookies()
		for _, c := range v.cookies {
			v.expired = c.MaxAge < 0 || c.Value == ""
			v.issued, _ = a.idOf(store, []*http.Cookie{c})
		}
	}()
	respond := func(save func(*http.Request, http.ResponseWriter, *sessions.Session) error, session *sessions.Session) {
		before := w.header.Clone()
		v.err = save(r, w, session)
		v.leaked = v.err != nil && slices.ContainsFunc(w.header["Set-Cookie"], func(c string) bool {
			return !slices.Contains(before["Set-Cookie"], c)
		})
	}
	switch v.kind {
	case "revoke":
		_, v.err = store.RevokeAll(r.Context(), "ada")
		return
	case "persist":
		session, err := store.Fetch(r.Context(), name, v.presented)
		if v.err = err; err == nil {
			a.loaded(v, session)
			a.write(v, session)
			v.err = store.Persist(r.Context(), session)
			v.id = session.ID
		}
		return
	}
	session, err := store.New(r, name)
	if err != nil && (v.kind != "logout" || !errors.Is(err, mongostore.ErrUnavailable)) {
		v.err = err
		return
	}
	if err == nil {
		a.loaded(v, session)
	}
	switch v.kind {
	case "poll":
		respond(store.Save, session)
	case "set", "same":
		if !v.isNew { // of a page for those who have a session
			a.write(v, session)
			respond(store.Save, session)
		}
	case "twice":
		if !v.isNew {
			session.Values[fmt.Sprint("first", v.actor)] = 1
			if respond(store.Save, session); v.err == nil {
				a.write(v, session)
				respond(store.Save, session)
			}
		}
	case "undo":
		if !v.isNew {
			a.write(v, session)
			if respond(store.Save, session); v.unavailable() {
				v.value = 0
				delete(session.Values, v.key)
				respond(store.Save, session)
			}
		}
	case "login":
		session.Values["user"] = "ada"
		a.write(v, session)
		respond(store.Renew, session)
	case "logout":
		session.Options.MaxAge = -1
		respond(store.Save, session)
	case "remove":
		v.err = store.Remove(r.Context(), session)
	case "flash":
		if !v.isNew {
			v.added = fmt.Sprint("f", v.actor)
			session.AddFlash(v.added)
			respond(store.Save, session)
		}
	case "take":
		if !v.isNew {
			for _, f := range session.Flashes() {
				v.shown = append(v.shown, fmt.Sprint(f))
			}
			respond(store.Save, session)
		}
	default:
		v.err = fmt.Errorf("unknown request %q", v.kind)
	}
	v.id = session.ID
}

// loaded notes what a handler sees.
func (a *actor) loaded(v *visit, session *sessions.Session) {
	v.answered, v.isNew = true, session.IsNew
	v.user = session.Values["user"] == "ada"
	v.held = flashesIn(session)
}

func flashesIn(session *sessions.Session) (all []string) {
	list, _ := session.Values["_flash"].([]any)
	for _, f := range list {
		all = append(all, fmt.Sprint(f))
	}
	return all
}

// write changes a key: one of its own, or the one of all.
func (a *actor) write(v *visit, session *sessions.Session) {
	v.key, v.value = fmt.Sprint("k", v.actor), v.actor
	if v.kind == "same" {
		v.key = "n"
	}
	v.base, _ = session.Values[v.key].(int)
	session.Values[v.key] = v.value
}

var quiet = slog.New(slog.DiscardHandler)
