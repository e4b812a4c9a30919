package proof

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/mongostore/mongostore"
)

var soakTime = flag.Duration("soak", time.Minute, "how long the soak lasts")

const (
	soakSessions = 10_000
	hotSessions  = 50 // that half of the work is about, so that the workers meet
	soakWorkers  = 64
	soakSites    = 4
	soakColls    = 100 // the embedded server reads a whole collection at each write
	warmUp       = 3 * time.Second
	graves       = 1000
)

// TestSoak has many workers use many sessions through several stores at once, while every
// second something goes wrong between the stores and the server. What a save has
// acknowledged must be there, what has ended must not come back, nobody may be logged out
// by an outage, and nothing may pile up in the process.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes its time")
	}
	noLeaks(t)
	outside := connect(t, nil)
	defer disconnect(t, outside)
	s := &soak{t: t}
	for range soakColls {
		s.colls = append(s.colls, collection(t, outside))
	}
	for range soakSites {
		s.open()
	}
	s.fill()

	s.work(warmUp, false)
	before := s.measure()
	began := time.Now()
	s.work(*soakTime, true)
	took := time.Since(began)
	s.settled(before.goroutines)
	after := s.measure()
	s.report(took, before, after)
	// What this test notes of sessions that ended grows as well.
	if limit := before.heap + 512<<10 + 300*uint64(s.ops.Load()); after.heap > limit {
		t.Errorf("%d KiB of heap, %d at the beginning", after.heap>>10, before.heap>>10)
	}

	for _, p := range s.sites {
		for _, store := range p.stores {
			closeStore(t, store)
		}
		disconnect(t, p.client)
	}
	if s.said.unfinished.Load() > 0 {
		t.Error("a store was closed before it had finished, though nothing was in its way")
	}
	s.verify()
	s.demand()
}

type soak struct {
	t     *testing.T
	colls []*mongo.Collection // from outside
	sites []*site
	said  warnings
	slots [soakSessions]slot

	mu     sync.Mutex
	all    []*subject
	graves []*life // ring of some that have ended
	buried int
	dead   map[string]bool // by _id: all that have ended

	unique                                    atomic.Int64
	ops, loads, acknowledged, unknown, gone   atomic.Int64
	conflicts, unavailable, renewals, logouts atomic.Int64
	pending, probes, unknownMade, undecided   atomic.Int64
	touches, flashed, taken                   atomic.Int64
	events                                    [eventKinds]atomic.Int64
}

// site is what a process has: a wire of its own, and on it a store for each collection.
type site struct {
	index  int
	stores []*mongostore.Store
	client *mongo.Client
	wires  *wires
}

// slot is where a worker finds a session; there is a new one after each that ended.
type slot struct {
	coll    int
	mu      sync.Mutex
	subject *subject
}

// subject is what the test knows of a session, over all its renewals.
type subject struct {
	mu        sync.Mutex
	life      *life
	registers map[int]*register // of the workers, each of whom writes its own alone
	sure      int               // increments of the counter that were acknowledged
	begun     int               // and those that may have been carried out
	flashes   map[int]bool      // in the list, acknowledged; false while that, or its removal, is under way or unknown
	taken     []int             // the last of those whose removal was acknowledged
}

// settled returns the elements that have to be in the list. The subject is locked.
func (s *subject) settled() (flashes []int) {
	for n, sure := range s.flashes {
		if sure {
			flashes = append(flashes, n)
		}
	}
	return flashes
}

// life is a session from one renewal to the next: an ID.
type life struct {
	id, cookie string
	coll       int
	parent     *life // that was renewed to this one
	endings    int   // that have begun, and may have succeeded
	logouts    int   // those of them that are no renewals, and so end what this was renewed to as well
	loggedOut  bool  // by one that was acknowledged
	dead       [soakSites]bool
}

// mayHaveEnded reports whether anybody has begun to end the session. The subject is locked.
func (l *life) mayHaveEnded() bool {
	if l.endings > 0 {
		return true
	}
	for l = l.parent; l != nil; l = l.parent {
		if l.logouts > 0 {
			return true
		}
	}
	return false
}

// register is what a worker has written under its key.
type register struct {
	sure  int   // acknowledged; 0 is absent
	maybe []int // may yet be found instead, because the answer was lost
}

func (r *register) allows(v int) bool { return v == r.sure || slices.Contains(r.maybe, v) }

func (s *soak) open() {
	w := newWires()
	p := &site{index: len(s.sites), client: connect(s.t, w), wires: w}
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	for i, coll := range s.colls {
		store, err := mongostore.Open(ctx, mongostore.Config{
			Client:     p.client,
			Database:   coll.Database().Name(),
			Collection: coll.Name(),
			OnConflict: policyOf(i),
			Cleanup:    mongostore.CleanupOff,
			Logger:     slog.New(&s.said),
			Timeout:    5 * time.Second,

			TouchInterval: time.Second,
		}, signingKey)
		if err != nil {
			s.t.Fatal(err)
		}
		p.stores = append(p.stores, store)
	}
	s.sites = append(s.sites, p)
}

// policyOf returns the policy of a collection's stores. Counters are for those that reject.
func policyOf(coll int) mongostore.ConflictPolicy {
	return []mongostore.ConflictPolicy{mongostore.ConflictMerge, mongostore.ConflictReject}[coll%2]
}

// fill inserts the sessions into the database, as stores of this version store them.
func (s *soak) fill() {
	s.dead = map[string]bool{}
	now := time.Now()
	docs := make([][]any, soakColls)
	for i := range s.slots {
		at := &s.slots[i]
		at.coll = i % soakColls
		id := newID()
		cookie, err := securecookie.EncodeMulti(name, id, s.sites[0].stores[at.coll].Codecs...)
		if err != nil {
			s.t.Fatal(err)
		}
		s.settle(at, id, cookie)
		docs[at.coll] = append(docs[at.coll], bson.D{
			{Key: "_id", Value: keyOf(id)},
			{Key: "v", Value: 1},
			{Key: "name", Value: name},
			{Key: "values", Value: bson.D{}},
			{Key: "rev", Value: 1},
			{Key: "createdAt", Value: now},
			{Key: "seenAt", Value: now},
			{Key: "expiresAt", Value: now.Add(30 * 24 * time.Hour)},
		})
	}
	for i, coll := range s.colls {
		if _, err := coll.InsertMany(s.t.Context(), docs[i]); err != nil {
			s.t.Fatal(err)
		}
	}
}

func newID() string {
	id := make([]byte, 32)
	_, _ = rand.Read(id)
	return base64.RawURLEncoding.EncodeToString(id)
}

// settle stores a new session in a slot.
func (s *soak) settle(at *slot, id, cookie string) {
	sub := &subject{life: &life{id: id, cookie: cookie, coll: at.coll}}
	at.mu.Lock()
	at.subject = sub
	at.mu.Unlock()
	s.mu.Lock()
	s.all = append(s.all, sub)
	s.mu.Unlock()
}

// work has the workers work for a while.
func (s *soak) work(d time.Duration, faulty bool) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range soakWorkers {
		w := &worker{soak: s, index: i, key: fmt.Sprint("w", i), rnd: mathrand.New(mathrand.NewPCG(mathrand.Uint64(), uint64(i)))}
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					w.visit(w.anySlot(), true)
				}
			}
		})
	}
	if faulty {
		wg.Go(func() { s.trouble(stop) })
	}
	timer := time.NewTimer(d)
	<-timer.C
	close(stop)
	wg.Wait()
}

// What goes wrong, each second one of these, in one process or in all.
const (
	eventCut     = iota // all connections, with what is under way on them
	eventLose           // the answers to the next commands
	eventFreeze         // nothing gets through for a moment
	eventRefuse         // nor is anything accepted
	eventSwallow        // the next commands, which are never answered
	eventDeny           // the server refuses the next commands
	eventConcern        // it carries them out, and says that it could not make sure of them
	eventKinds
)

func (s *soak) trouble(stop chan struct{}) {
	rnd := newRand()
	order := rnd.Perm(eventKinds)
	for i := 0; ; i++ {
		select {
		case <-stop:
			for _, p := range s.sites {
				p.wires.heal()
			}
			return
		case <-time.After(time.Second):
		}
		sites := s.sites
		if rnd.IntN(2) == 0 {
			sites = []*site{s.sites[rnd.IntN(soakSites)]}
		}
		event := order[i%eventKinds]
		s.events[event].Add(1)
		pause := time.Duration(200+rnd.IntN(500)) * time.Millisecond
		next := func(f fault, n int) {
			for _, p := range sites {
				left, deletions := 1+rnd.IntN(n), 1+rnd.IntN(n) // which are rare
				p.wires.fail(func(command string) fault {       // one at a time
					count := &left
					if command == "delete" {
						count = &deletions
					}
					if *count == 0 {
						return sound
					}
					*count--
					return f
				})
			}
		}
		switch event {
		case eventCut:
			for _, p := range sites {
				p.wires.cutAll()
			}
		case eventLose:
			next(lose, 8)
		case eventSwallow:
			next(swallow, 4)
		case eventDeny:
			next(deny, 16)
		case eventConcern:
			next(concern, 16)
		case eventFreeze:
			for _, p := range sites {
				p.wires.freeze()
			}
			time.Sleep(pause)
			for _, p := range sites {
				p.wires.thaw()
			}
		case eventRefuse:
			for _, p := range sites {
				p.wires.refuseAll(true)
			}
			time.Sleep(pause)
			for _, p := range sites {
				p.wires.refuseAll(false)
			}
		}
	}
}

type worker struct {
	*soak
	index int
	key   string // that it alone writes
	rnd   *mathrand.Rand
}

func (w *worker) anySlot() *slot {
	if w.rnd.IntN(2) == 0 {
		return &w.slots[w.rnd.IntN(hotSessions)]
	}
	return &w.slots[w.rnd.IntN(soakSessions)]
}

// visit is a request for the session in a slot.
func (w *worker) visit(at *slot, mayBeSlow bool) {
	w.ops.Add(1)
	site := w.sites[w.rnd.IntN(soakSites)]
	store := site.stores[at.coll]
	if w.rnd.IntN(16) == 0 {
		w.probe(site)
	}
	at.mu.Lock()
	sub := at.subject
	at.mu.Unlock()
	sub.mu.Lock()
	l := sub.life
	dead, sure := l.dead[site.index], sub.sure
	flashes, taken := sub.settled(), slices.Clone(sub.taken)
	sub.mu.Unlock()

	r, _ := newRequest(w.t.Context(), l.cookie)
	session, err := store.New(r, name)
	if err != nil {
		w.unanswered("load", err)
		if _, err := respond(w.t, store.Save, r, session); err == nil {
			w.t.Error("a session of an outage could be saved")
		}
		return
	}
	w.loads.Add(1)
	q := &visit{worker: w, site: site.index, store: store, slot: at, subject: sub, life: l, session: session}
	if session.IsNew {
		q.replace()
		return
	}
	if dead {
		w.t.Error("a session that had ended is back")
		return
	}
	q.look(sure, flashes, taken)
	if mayBeSlow && w.rnd.IntN(16) == 0 {
		q.slow = true
		w.visit(w.anySlot(), false)
		if w.rnd.IntN(2) == 0 {
			w.visit(at, false)
		}
	}
	q.act()
}

// unanswered notes an error that an outage explains.
func (w *worker) unanswered(what string, err error) {
	if !errors.Is(err, mongostore.ErrUnavailable) {
		w.t.Errorf("%s: %v", what, err)
	}
	w.unavailable.Add(1)
}

// visit is a loaded session.
type visit struct {
	*worker
	site    int
	store   *mongostore.Store
	slot    *slot
	subject *subject
	life    *life
	session *sessions.Session
	slow    bool // other requests of this worker may have come between
}

// look checks what was loaded. Whatever was acknowledged before the load has to be there.
func (q *visit) look(sure int, flashes, taken []int) {
	q.subject.mu.Lock()
	defer q.subject.mu.Unlock()
	list := q.list()
	for _, n := range flashes {
		if !slices.Contains(list, n) && q.subject.flashes[n] {
			q.t.Errorf("a flash message is lost: %d", n)
		}
	}
	for _, n := range list {
		if slices.Contains(taken, n) {
			q.t.Errorf("a flash message is back: %d", n)
		}
	}
	if n, _ := q.session.Values["n"].(int); n < sure || n > q.subject.begun {
		q.t.Errorf("the counter is %d; it was %d before, and can be %d now", n, sure, q.subject.begun)
	}
	v, _ := q.session.Values[q.key].(int)
	if reg := q.register(); !reg.allows(v) {
		q.t.Errorf("a write is lost: %d, want %d, or perhaps one of %v", v, reg.sure, reg.maybe)
	}
}

// list returns the elements of the session's list.
func (q *visit) list() (list []int) {
	elements, _ := q.session.Values["f"].([]any)
	for _, e := range elements {
		n, _ := e.(int)
		list = append(list, n)
	}
	return list
}

// flash appends to the session's list, or takes all out of it, as gorilla's AddFlash and Flashes do.
func (q *visit) flash() {
	sub, list, n := q.subject, q.list(), 0
	sub.mu.Lock()
	if sub.flashes == nil {
		sub.flashes = map[int]bool{}
	}
	if len(list) > 0 && q.rnd.IntN(2) == 0 {
		for _, taken := range list {
			sub.flashes[taken] = false
		}
		delete(q.session.Values, "f")
	} else {
		n = int(q.unique.Add(1))
		elements, _ := q.session.Values["f"].([]any)
		q.session.Values["f"] = append(slices.Clone(elements), n)
		list = nil
	}
	sub.mu.Unlock()
	r, _ := newRequest(q.t.Context(), "")
	_, err := respond(q.t, q.store.Save, r, q.session)
	sub.mu.Lock()
	defer sub.mu.Unlock()
	switch {
	case err == nil:
		q.acknowledged.Add(1)
		if n != 0 {
			q.flashed.Add(1)
			if _, takenAlready := sub.flashes[n]; !takenAlready && !slices.Contains(sub.taken, n) {
				sub.flashes[n] = true
			}
		}
		for _, taken := range list {
			q.taken.Add(1)
			delete(sub.flashes, taken)
			sub.taken = append(sub.taken, taken)
		}
		if len(sub.taken) > 100 {
			sub.taken = slices.Clone(sub.taken[50:])
		}
	case errors.Is(err, mongostore.ErrGone):
		if !q.life.mayHaveEnded() {
			q.t.Error("a session is gone that nobody has ended")
		}
	default:
		q.unanswered("flash", err) // also of a conflict, which lists do not have
	}
}

func (q *visit) register() *register {
	reg := q.subject.registers[q.index]
	if reg == nil {
		reg = &register{}
		if q.subject.registers == nil {
			q.subject.registers = map[int]*register{}
		}
		q.subject.registers[q.index] = reg
	}
	return reg
}

// replace stores a new session instead of one that has ended.
func (q *visit) replace() {
	q.subject.mu.Lock()
	if !q.life.mayHaveEnded() {
		q.t.Error("a session is gone that nobody has ended")
	}
	current := q.subject.life == q.life
	q.subject.mu.Unlock()
	q.slot.mu.Lock()
	current = current && q.slot.subject == q.subject
	q.slot.mu.Unlock()
	if !current {
		return
	}
	r, _ := newRequest(q.t.Context(), "")
	cookie, err := respond(q.t, q.store.Save, r, q.session)
	if errors.Is(err, mongostore.ErrGone) { // the session was renewed a moment ago, and only a login may store another
		cookie, err = respond(q.t, q.store.Renew, r, q.session)
	}
	if err != nil {
		q.unanswered("create", err)
		q.unknownMade.Add(1)
		return
	}
	q.acknowledged.Add(1)
	if cookie == "" {
		q.t.Error("a new session without a cookie")
	}
	q.settle(q.slot, q.session.ID, cookie)
}

func (q *visit) act() {
	switch n := q.rnd.IntN(100); {
	case n < 60:
		q.write(false)
	case n < 76:
		q.flash()
	case n < 82:
		q.write(true)
	case n < 88:
		q.touch()
	default:
		q.end()
	}
}

// touch saves the session as it is, which may move its expiry.
func (q *visit) touch() {
	r, _ := newRequest(q.t.Context(), "")
	cookie, err := respond(q.t, q.store.Save, r, q.session)
	switch {
	case err == nil:
		if cookie != "" {
			q.touches.Add(1)
		}
	case errors.Is(err, mongostore.ErrGone):
		q.subject.mu.Lock()
		defer q.subject.mu.Unlock()
		if !q.life.mayHaveEnded() {
			q.t.Error("a session is gone that nobody has ended")
		}
	default:
		q.unanswered("touch", err)
	}
}

// write saves the session with changes, or renews it with them.
func (q *visit) write(renew bool) {
	value, counts := int(q.unique.Add(1)), policyOf(q.life.coll) == mongostore.ConflictReject && q.rnd.IntN(4) > 0
	if _, held := q.session.Values[q.key]; held && q.rnd.IntN(8) == 0 {
		value = 0
		delete(q.session.Values, q.key)
	} else {
		q.session.Values[q.key] = value
	}
	if counts {
		n, _ := q.session.Values["n"].(int)
		q.session.Values["n"] = n + 1
	}
	sub, save := q.subject, q.store.Save
	if renew {
		save = q.store.Renew
	}
	sub.mu.Lock()
	reg := q.register()
	wasUnsure := len(reg.maybe) > 0
	reg.maybe = append(reg.maybe, value)
	if counts {
		sub.begun++
	}
	if renew {
		q.life.endings++
	}
	dead := q.life.dead[q.site]
	sub.mu.Unlock()

	r, _ := newRequest(q.t.Context(), "")
	cookie, err := respond(q.t, save, r, q.session)

	sub.mu.Lock()
	defer sub.mu.Unlock()
	isNothing := func() {
		i := slices.Index(reg.maybe, value)
		reg.maybe = slices.Delete(reg.maybe, i, i+1)
		if counts {
			sub.begun--
		}
		if renew {
			q.life.endings--
		}
	}
	switch {
	case err == nil:
		q.acknowledged.Add(1)
		if dead {
			q.t.Error("a session that had ended was saved")
		}
		i := slices.Index(reg.maybe, value)
		reg.sure, reg.maybe = value, slices.Delete(reg.maybe, i, i+1)
		if counts {
			sub.sure++
		}
		if renew {
			q.renewals.Add(1)
			if cookie == "" {
				q.t.Error("a renewed session without a cookie")
			}
			q.bury(q.life, -1)
			sub.life = &life{id: q.session.ID, cookie: cookie, coll: q.life.coll, parent: q.life}
			if q.life.loggedOut {
				q.bury(sub.life, -1) // by a logout that came after the renewal, and was sooner to be answered
			}
		}
	case errors.Is(err, mongostore.ErrGone):
		q.gone.Add(1)
		isNothing()
		if !q.life.mayHaveEnded() {
			q.t.Error("a session is gone that nobody has ended")
		}
	case errors.Is(err, mongostore.ErrConflict):
		q.conflicts.Add(1)
		isNothing()
		if policyOf(q.life.coll) == mongostore.ConflictMerge || !counts && !q.slow && !wasUnsure {
			q.t.Error("a conflict over a key that nobody else writes")
		}
	default:
		q.unanswered("save", err)
		q.unknown.Add(1)
		if renew {
			q.unknownMade.Add(1)
		}
		if cookie != "" {
			q.undecided.Add(1)
		}
	}
}

// end ends the session in one of several ways.
func (q *visit) end() {
	q.subject.mu.Lock()
	q.life.endings++
	q.life.logouts++
	q.subject.mu.Unlock()
	store, ctx := q.store, q.t.Context()
	where := -1 // dead in all processes
	var err error
	switch q.rnd.IntN(4) {
	case 0:
		err = store.Revoke(ctx, keyOf(q.session.ID))
	case 1:
		err = store.Remove(ctx, q.session)
	default:
		r, said := newRequest(ctx, "")
		q.session.Options.MaxAge = -1
		if _, err = respond(q.t, store.Save, r, q.session); err != nil {
			q.t.Error("logout:", err)
			return
		}
		if said.warned.Load() {
			q.pending.Add(1)
			where = q.site
		}
	}
	if err != nil {
		q.unanswered("remove", err)
		q.unknown.Add(1)
		return
	}
	q.logouts.Add(1)
	q.subject.mu.Lock()
	q.bury(q.life, where)
	if where < 0 {
		q.life.loggedOut = true
		for l := q.subject.life; l != nil && q.subject.life.descends(q.life); l = l.parent {
			if l == q.life {
				break
			}
			q.bury(l, where)
			l.loggedOut = true
		}
	}
	q.subject.mu.Unlock()
	r, _ := newRequest(ctx, q.life.cookie)
	if again, err := store.New(r, name); err == nil && !again.IsNew {
		q.t.Error("a session that has just ended is alive")
	}
}

// descends reports whether l is what another was renewed to, perhaps over several renewals.
func (l *life) descends(from *life) bool {
	for ; l != nil; l = l.parent {
		if l == from {
			return true
		}
	}
	return false
}

// bury notes that a session has ended: in one process, which has to tell the others yet, or
// in all. The subject is locked.
func (s *soak) bury(l *life, process int) {
	for i := range l.dead {
		if process < 0 || process == i {
			l.dead[i] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead[keyOf(l.id)] = true
	if process >= 0 {
		return
	}
	if len(s.graves) < graves {
		s.graves = append(s.graves, l)
	} else {
		s.graves[s.buried%graves] = l
	}
	s.buried++
}

// probe tries whether a session that ended some time ago comes back.
func (w *worker) probe(p *site) {
	w.mu.Lock()
	var l *life
	if len(w.graves) > 0 {
		l = w.graves[w.rnd.IntN(len(w.graves))]
	}
	w.mu.Unlock()
	if l == nil {
		return
	}
	w.probes.Add(1)
	r, _ := newRequest(w.t.Context(), l.cookie)
	session, err := p.stores[l.coll].New(r, name)
	if err != nil {
		w.unanswered("probe", err)
	} else if !session.IsNew {
		w.t.Error("a session that ended some time ago is back")
	}
}

// measurement is what the process holds while nobody works.
type measurement struct {
	goroutines int
	heap       uint64
}

func (s *soak) measure() (m measurement) {
	var stats runtime.MemStats
	for range 3 { // what is cleaned up after one is collected by the next
		runtime.GC()
	}
	runtime.ReadMemStats(&stats)
	m.heap = stats.HeapAlloc
	m.goroutines = runtime.NumGoroutine()
	return m
}

// settled waits until the stores have carried out what was left to do, and the driver what
// it does after a fault.
func (s *soak) settled(goroutines int) {
	for range 300 {
		if runtime.NumGoroutine() <= goroutines && !working() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.t.Errorf("%d goroutines, %d at the beginning:\n%s", runtime.NumGoroutine(), goroutines, stacks())
}

func (s *soak) report(took time.Duration, before, after measurement) {
	t := s.t
	t.Logf("%d workers, %d sessions, %d processes, %v", soakWorkers, len(s.all), soakSites, took.Round(time.Second))
	t.Logf("%d requests, %d loads, %d writes acknowledged, %d unknown, %d gone, %d conflicts", s.ops.Load(), s.loads.Load(),
		s.acknowledged.Load(), s.unknown.Load(), s.gone.Load(), s.conflicts.Load())
	t.Logf("%d flash messages added and %d taken, %d touches, %d undecided renewals", s.flashed.Load(), s.taken.Load(), s.touches.Load(), s.undecided.Load())
	t.Logf("%d renewals, %d sessions ended, %d of them later, %d probes for those that come back", s.renewals.Load(), s.logouts.Load(), s.pending.Load(), s.probes.Load())
	var n int64
	for i := range s.events {
		n += s.events[i].Load()
	}
	var hits []string
	var cuts int64
	for f := refuse; f < faults; f++ {
		var sum int64
		for _, p := range s.sites {
			sum += p.wires.hits[f].Load()
		}
		hits = append(hits, fmt.Sprintf("%d %v", sum, f))
	}
	for _, p := range s.sites {
		cuts += p.wires.cuts.Load()
	}
	t.Logf("%d faults: commands %s; %d connections cut; %d operations without an answer", n, strings.Join(hits, ", "), cuts, s.unavailable.Load())
	t.Logf("goroutines %d, then %d; heap %d KiB, then %d KiB", before.goroutines, after.goroutines, before.heap>>10, after.heap>>10)
}

// verify compares the database with what was acknowledged.
func (s *soak) verify() {
	stored := map[string]bson.Raw{}
	for _, coll := range s.colls {
		for _, doc := range documents(s.t, coll) {
			if doc.Rev == nil {
				continue // a tombstone
			}
			stored[doc.ID] = doc.Values
			if s.dead[doc.ID] {
				s.t.Error("a session that has ended is stored")
			}
		}
	}
	written, perhaps, maybeEnded := 0, 0, 0
	for _, sub := range s.all {
		key := keyOf(sub.life.id)
		held, found := stored[key]
		delete(stored, key)
		if !found {
			if !sub.life.mayHaveEnded() {
				s.t.Error("a session is not stored that nobody has ended")
			} else if !s.dead[key] {
				maybeEnded++
			}
			continue
		}
		number := func(v bson.RawValue) int {
			n, _ := v.AsInt64OK()
			return int(n)
		}
		var list []int
		if array, ok := held.Lookup("f").ArrayOK(); ok {
			elements, _ := array.Values()
			for _, e := range elements {
				list = append(list, number(e))
			}
		}
		for _, n := range sub.settled() {
			if !slices.Contains(list, n) {
				s.t.Errorf("a flash message is lost: %d", n)
			}
		}
		for _, n := range list {
			if slices.Contains(sub.taken, n) {
				s.t.Errorf("a flash message is back: %d", n)
			}
		}
		if n := number(held.Lookup("n")); n < sub.sure || n > sub.begun {
			s.t.Errorf("a counter is %d: %d increments were acknowledged, and %d begun", n, sub.sure, sub.begun)
		}
		for i, reg := range sub.registers {
			v := number(held.Lookup(fmt.Sprint("w", i)))
			if !reg.allows(v) {
				s.t.Errorf("a write is lost: %d, want %d, or perhaps one of %v", v, reg.sure, reg.maybe)
			}
			if v == reg.sure {
				written++
			} else {
				perhaps++
			}
		}
	}
	s.t.Logf("at the end: %d keys hold what was last acknowledged, %d what was sent later and whose answer was lost", written, perhaps)
	s.t.Logf("%d sessions ended by what was not answered; %d documents left that nobody can get at", maybeEnded, len(stored))
	if unknown := s.unknownMade.Load(); int64(len(stored)) > unknown {
		s.t.Errorf("only %d saves and renewals were not answered", unknown)
	}
}

// demand checks that there was something to be proved.
func (s *soak) demand() {
	for what, n := range map[string]int64{
		"acknowledged write": s.acknowledged.Load(), "unknown outcome": s.unknown.Load(), "ended session": s.logouts.Load(),
		"renewal": s.renewals.Load(), "flash message added": s.flashed.Load(), "flash message taken": s.taken.Load(), "touch": s.touches.Load(), "save of a session that is gone": s.gone.Load(), "conflict": s.conflicts.Load(), "probe": s.probes.Load(),
	} {
		if n == 0 {
			s.t.Error("there was no", what)
		}
	}
	if *soakTime >= 30*time.Second && s.pending.Load() == 0 {
		s.t.Error("there was no logout that had to be carried out later")
	}
}
