package proof

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/mongostore/mongostore"
)

var histories = flag.Int("histories", 0, "how many `histories` of each kind to run; 0 for as many as a few seconds allow")

const (
	briefly      = 5 * time.Second // for a kind of histories, unless -histories is given
	fewest       = 60              // histories that say something
	processes    = 3
	requesters   = 4 // of one history, at once
	steps        = 6 // of each
	undecidedFor = 20 * time.Second
)

// TestHistories runs short histories of concurrent requests for one session, through several
// stores on one collection as several processes would have them, and checks that
// each is linearizable.
func TestHistories(t *testing.T) {
	for _, policy := range []mongostore.ConflictPolicy{mongostore.ConflictMerge, mongostore.ConflictReject} {
		for _, faulty := range []bool{false, true} {
			text := map[mongostore.ConflictPolicy]string{mongostore.ConflictMerge: "merge", mongostore.ConflictReject: "reject"}[policy]
			if faulty {
				text += " with faults"
			}
			t.Run(text, func(t *testing.T) {
				noLeaks(t)
				runHistories(t, policy, faulty)
			})
		}
	}
}

// figures count what happened in all histories.
type figures struct {
	histories, operations, unavailable, pending, undecided atomic.Int64
	outcomes                                               [end + 1][unknown + 1]atomic.Int64
	faults                                                 [faults]atomic.Int64
}

// rig is where one history after another is run: several processes on one collection.
type rig struct {
	t       *testing.T
	policy  mongostore.ConflictPolicy
	faulty  bool
	coll    *mongo.Collection // from outside
	wires   [processes]*wires
	clients [processes]*mongo.Client
	figures *figures
	strays  int // documents that may have been left by what was not answered
}

func runHistories(t *testing.T, policy mongostore.ConflictPolicy, faulty bool) {
	outside := connect(t, nil)
	defer disconnect(t, outside)
	var sum figures
	var started atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	more := func() bool {
		n := started.Add(1)
		if t.Failed() {
			return false
		}
		if *histories > 0 {
			return n <= int64(*histories)
		}
		return n <= fewest || time.Since(began) < briefly
	}
	rigs := 4
	if faulty {
		rigs = 24 // after a fault the driver waits for up to half a second
	}
	for range rigs {
		wg.Go(func() {
			g := &rig{t: t, policy: policy, faulty: faulty, coll: collection(t, outside), figures: &sum}
			for i := range g.wires {
				g.wires[i] = newWires()
				g.clients[i] = connect(t, g.wires[i])
				defer disconnect(t, g.clients[i])
			}
			for more() {
				g.run()
			}
			for _, w := range g.wires {
				for f := range w.hits {
					sum.faults[f].Add(w.hits[f].Load())
				}
			}
		})
	}
	wg.Wait()
	sum.report(t, time.Since(began))
	if t.Failed() {
		return
	}
	sum.demand(t, policy, faulty)
}

func (f *figures) report(t *testing.T, took time.Duration) {
	t.Logf("%d histories with %d operations in %v", f.histories.Load(), f.operations.Load(), took.Round(time.Second))
	for k, what := range []string{"load", "save", "renew", "create", "end"} {
		o := &f.outcomes[k]
		t.Logf("%6s: %5d done, %5d gone, %4d conflicts, %4d unknown", what, o[done].Load(), o[gone].Load(), o[conflict].Load(), o[unknown].Load())
	}
	t.Logf("%d loads or first saves without an answer, %d logouts carried out later, %d undecided renewals", f.unavailable.Load(), f.pending.Load(), f.undecided.Load())
	var hits []string
	for k := refuse; k < faults; k++ {
		hits = append(hits, fmt.Sprintf("%d %v", f.faults[k].Load(), k))
	}
	t.Logf("faults: %s", strings.Join(hits, ", "))
}

// demand checks that the histories were not idle ones.
func (f *figures) demand(t *testing.T, policy mongostore.ConflictPolicy, faulty bool) {
	for k := load; k <= end; k++ {
		if f.outcomes[k][done].Load() == 0 {
			t.Error("nothing was done of kind", k)
		}
	}
	for what, n := range map[string]int64{
		"load of a session that is gone": f.outcomes[load][gone].Load(),
		"save of a session that is gone": f.outcomes[save][gone].Load(),
	} {
		if n == 0 {
			t.Error("there was no", what)
		}
	}
	if conflicts := f.outcomes[save][conflict].Load(); (conflicts > 0) != (policy == mongostore.ConflictReject) {
		t.Errorf("there were %d conflicts", conflicts)
	}
	unknowns := f.outcomes[save][unknown].Load()
	if (unknowns > 0) != faulty || (f.pending.Load() > 0) != faulty {
		t.Errorf("there were %d unknown outcomes, and %d pending logouts", unknowns, f.pending.Load())
	}
	for k := refuse; k < faults; k++ {
		if n := f.faults[k].Load(); (n > 0) != faulty {
			t.Errorf("there were %d faults of kind %q", n, k)
		}
	}
}

// history is the record of one history.
type history struct {
	*rig
	began  time.Time
	unique atomic.Int64 // source of values

	mu       sync.Mutex
	ops      []porcupine.Operation
	docs     map[string]int // indexes of the session IDs
	tickets  []ticket
	deferred []deferral
}

// ticket is how to get at a session.
type ticket struct {
	id, cookie string // the cookie is empty of a session that was stored without
	doc        int
}

// deferral is a logout that one process has to carry out yet, and at once stands by.
type deferral struct {
	process, doc int
	call, ret    int64
	op           int
}

// process is a store on the collection.
type process struct {
	index int
	store *mongostore.Store
}

func (g *rig) run() {
	h := &history{rig: g, began: time.Now(), docs: map[string]int{}}
	var said warnings
	var stores [processes]*process
	for i, client := range g.clients {
		store, err := g.open(client, &said)
		if err != nil {
			g.t.Error(err)
			return
		}
		stores[i] = &process{i, store}
	}
	first := &requester{history: h, process: stores[0], rnd: newRand()}
	first.begin()
	first.save()
	if len(h.tickets) == 0 {
		g.t.Error("nothing was in the way of a first session, and it could not be made")
		return
	}
	if g.faulty {
		for _, w := range g.wires {
			w.fail(mishaps(newRand()))
		}
	}
	var wg sync.WaitGroup
	for i := range requesters {
		c := &requester{history: h, process: stores[i%processes], rnd: newRand()}
		wg.Go(func() {
			for range steps {
				c.step()
			}
		})
	}
	wg.Wait()
	for _, w := range g.wires {
		w.heal()
	}
	for _, p := range stores {
		closeStore(g.t, p.store) // what is left to do is done now
	}
	if said.unfinished.Load() > 0 {
		g.t.Error("a store was closed before it had finished, though nothing was in its way")
	}
	h.finish()
	h.check()
}

func (g *rig) open(client *mongo.Client, said *warnings) (*mongostore.Store, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	return mongostore.Open(ctx, mongostore.Config{
		Client:     client,
		Database:   g.coll.Database().Name(),
		Collection: g.coll.Name(),
		OnConflict: g.policy,
		Cleanup:    mongostore.CleanupOff,
		Logger:     slog.New(said),
		Timeout:    g.timeout(),
	}, signingKey)
}

func (g *rig) timeout() time.Duration {
	if g.faulty {
		return 5 * time.Second // so long does a swallowed command take
	}
	return 30 * time.Second // a busy machine is no fault
}

func newRand() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }

// mishaps has one command in eight fail, and of the deletions one in three. Mishaps that
// cost the driver its connection, and with it time, are rarer than others.
func mishaps(rnd *rand.Rand) func(string) fault {
	return func(command string) fault {
		one := 8
		if command == "delete" {
			one = 3
		}
		if rnd.IntN(one) > 0 {
			return sound
		}
		if rnd.IntN(40) == 0 {
			return swallow
		}
		return []fault{deny, deny, deny, concern, concern, concern, concern, refuse, lose, lose, cut}[rnd.IntN(11)]
	}
}

func (h *history) now() int64 { return int64(time.Since(h.began)) }

// record stores an operation.
func (h *history) record(c *requester, in input, out output, call, ret int64) {
	in.process = c.process.index
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: c.process.index, Input: in, Output: out, Call: call, Return: ret})
	h.figures.outcomes[in.kind][out.result].Add(1)
}

// know returns the index of a session's ID. It adds an ID that is new.
func (h *history) know(id, cookie string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	doc, known := h.docs[id]
	if !known {
		doc = len(h.docs)
		h.docs[id] = doc
		h.tickets = append(h.tickets, ticket{id, cookie, doc})
	}
	return doc
}

// pick returns the latest ticket, as a browser would, or an older one.
func (h *history) pick(rnd *rand.Rand) ticket {
	h.mu.Lock()
	defer h.mu.Unlock()
	if last := len(h.tickets) - 1; rnd.IntN(4) > 0 {
		return h.tickets[last]
	}
	return h.tickets[rnd.IntN(len(h.tickets))]
}

// requester is one that makes requests, one after the other, and may hold on to a session
// over several saves.
type requester struct {
	*history
	process *process
	rnd     *rand.Rand

	session *sessions.Session // nil if there is none at hand
	request *http.Request     // that it was loaded in; nil if it was fetched
	said    *remarks
	doc     int // of a stored session; -1 of a new one
	base    values
	list    []int  // as base
	sent    values // of the last save, if that was not answered: the next one sends these keys again
}

func (c *requester) step() {
	if c.session == nil {
		c.load()
		return
	}
	n := c.rnd.IntN(100)
	switch {
	case n < 35:
		c.load()
	case n < 80 || c.doc < 0:
		c.save()
	case n < 89:
		c.renew()
	default:
		c.end()
	}
}

// begin starts with a new session.
func (c *requester) begin() {
	c.request, c.said = newRequest(c.t.Context(), "")
	session, err := c.process.store.New(c.request, name)
	if err != nil {
		c.t.Error("new session:", err)
	}
	c.session, c.doc, c.base, c.list, c.sent = session, -1, values{}, nil, nothing
}

func (c *requester) load() {
	tk := c.pick(c.rnd)
	in := input{kind: load, what: "load", doc: tk.doc}
	var session *sessions.Session
	var err error
	fetched := tk.cookie == "" || c.rnd.IntN(4) == 0
	c.request, c.said = newRequest(c.t.Context(), tk.cookie)
	call := c.now()
	if fetched {
		in.what = "fetch"
		session, err = c.process.store.Fetch(c.t.Context(), name, tk.id)
	} else {
		session, err = c.process.store.New(c.request, name)
	}
	ret := c.now()
	c.session = nil
	switch {
	case errors.Is(err, mongostore.ErrUnavailable) && c.faulty:
		c.figures.unavailable.Add(1)
	case errors.Is(err, mongostore.ErrNotFound) && fetched, err == nil && session.IsNew:
		c.record(c, in, output{result: gone}, call, ret)
		c.begin()
	case err != nil:
		c.t.Errorf("%s: %v", in.what, err)
	case session.ID != tk.id:
		c.t.Errorf("%s: another session than was asked for", in.what)
	default:
		held, list := c.valuesOf(session)
		c.record(c, in, output{values: held, list: textOfList(list)}, call, ret)
		c.session, c.doc, c.base, c.list, c.sent = session, tk.doc, held, list, nothing
		if fetched {
			c.request = nil
		}
	}
}

func (c *requester) valuesOf(session *sessions.Session) (v values, list []int) {
	found := 0
	if elements, ok := session.Values[listKey].([]any); ok {
		found++
		for _, e := range elements {
			n, _ := e.(int)
			list = append(list, n)
		}
	}
	for k, key := range keys {
		if n, ok := session.Values[key].(int); ok {
			v[k] = n
			found++
		}
	}
	if found != len(session.Values) {
		c.t.Errorf("the session holds %v", session.Values)
	}
	return v, list
}

func textOfList(list []int) string {
	in := input{appended: list}
	return in.edit("")
}

// changeList appends to the session's list, or takes all elements or the first out of it, as flash
// messages are.
func (c *requester) changeList(in *input) {
	list, _ := c.session.Values[listKey].([]any)
	switch c.rnd.IntN(6) {
	case 0, 1:
		c.session.Values[listKey] = append(slices.Clone(list), int(c.unique.Add(1)))
	case 2:
		delete(c.session.Values, listKey)
	case 3:
		if len(list) > 0 {
			c.session.Values[listKey] = slices.Clone(list[1:])
		}
	}
	_, now := c.valuesOf(c.session)
	for _, n := range c.list {
		if !slices.Contains(now, n) {
			in.taken = append(in.taken, n)
		}
	}
	for _, n := range now {
		if !slices.Contains(c.list, n) {
			in.appended = append(in.appended, n)
		}
	}
}

// change changes some of the session's values, and returns which.
func (c *requester) change() values {
	for range 1 + c.rnd.IntN(2) {
		k := c.rnd.IntN(len(keys))
		if c.rnd.IntN(4) == 0 {
			delete(c.session.Values, keys[k])
		} else {
			c.session.Values[keys[k]] = int(c.unique.Add(1))
		}
	}
	write, _ := c.valuesOf(c.session)
	for k := range write {
		if write[k] == c.base[k] && c.sent[k] == untouched {
			write[k] = untouched
		}
	}
	return write
}

func (c *requester) save() {
	in := input{kind: save, what: "save", doc: c.doc, base: c.base, sent: c.sent, write: c.change()}
	c.changeList(&in)
	if c.doc < 0 {
		in.kind, in.what = create, "create"
	}
	var cookie string
	var err error
	c.said.updating.Store(false)
	call := c.now()
	if c.request == nil {
		in.what += " without HTTP"
		err = c.process.store.Persist(context.WithValue(c.t.Context(), remarksKey{}, c.said), c.session)
	} else {
		cookie, err = respond(c.t, c.process.store.Save, c.request, c.session)
	}
	ret := c.now()
	if in.write == nothing && len(in.taken)+len(in.appended) == 0 && c.doc >= 0 && err == nil {
		return // nothing was sent
	}
	out, ok := c.outcome(in.what, err)
	switch {
	case !ok:
	case in.kind == save && refused(err):
		c.figures.unavailable.Add(1) // nothing was written, and the store knows it
	case in.kind == save:
		if out.result == done {
			c.base, c.sent = in.over(c.base), nothing
			_, c.list = c.valuesOf(c.session)
		}
		c.record(c, in, out, call, until(ret, out))
		if out.result == unknown {
			c.sent = in.write
			if len(in.appended) > 0 || !c.said.updating.Load() {
				// An element that is appended again may occur twice. And if the update was
				// not sent, the store knows it, and does not send these keys again.
				c.session = nil
			}
		}
	case out.result == done:
		if cookie == "" && c.request != nil {
			c.t.Error("a new session without a cookie")
		}
		in.doc = c.know(c.session.ID, cookie)
		c.doc, c.base = in.doc, in.over(c.base)
		_, c.list = c.valuesOf(c.session)
		c.record(c, in, out, call, ret)
	case out.result == unknown:
		c.figures.unavailable.Add(1) // and what there may be, nobody can get at
		c.stray()
	default:
		c.t.Errorf("%s: %v", in.what, err)
	}
}

// outcome says what an error means.
func (c *requester) outcome(what string, err error) (out output, ok bool) {
	switch {
	case err == nil:
	case errors.Is(err, mongostore.ErrGone):
		out.result = gone
	case errors.Is(err, mongostore.ErrConflict):
		out.result = conflict
	case errors.Is(err, mongostore.ErrUnavailable) && c.faulty:
		out.result = unknown
	default:
		c.t.Errorf("%s: %v", what, err)
		return out, false
	}
	return out, true
}

// refused reports whether the server has refused a command.
func refused(err error) bool {
	var server mongo.CommandError
	return errors.As(err, &server) && server.Code == denied
}

func until(ret int64, out output) int64 {
	if out.result == unknown {
		return forever
	}
	return ret
}

func (c *requester) renew() {
	if c.request == nil {
		c.request, c.said = newRequest(c.t.Context(), "")
	}
	in := input{kind: renew, what: "renew", doc: c.doc, base: c.base, sent: c.sent, write: c.change()}
	c.changeList(&in)
	call := c.now()
	cookie, err := respond(c.t, c.process.store.Renew, c.request, c.session)
	ret := c.now()
	out, ok := c.outcome(in.what, err)
	if !ok {
		return
	}
	switch out.result {
	case done:
		if cookie == "" {
			c.t.Error("a renewed session without a cookie")
		}
		out.values, c.list = c.valuesOf(c.session)
		out.list = textOfList(c.list)
		out.doc = c.know(c.session.ID, cookie)
		c.doc, c.base, c.sent = out.doc, out.values, nothing
	case unknown:
		// It continues under the old ID, unless that has ended. If the renewal is undecided, nobody
		// uses its cookie.
		if cookie != "" {
			c.figures.undecided.Add(1)
		}
		c.figures.outcomes[renew][unknown].Add(1)
		c.stray()
		c.record(c, input{kind: end, what: "failed renewal", doc: in.doc}, out, call, forever)
		c.session = nil
		return
	}
	c.record(c, in, out, call, ret)
}

// stray notes that a document may be left that nobody can get at.
func (c *requester) stray() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.strays++
}

// end ends the session in one of several ways.
func (c *requester) end() {
	in := input{kind: end, doc: c.doc}
	store, session := c.process.store, c.session
	c.session = nil
	var err error
	call := c.now()
	switch c.rnd.IntN(4) {
	case 0:
		in.what = "revoke"
		err = store.Revoke(c.t.Context(), keyOf(session.ID))
	case 1:
		in.what = "remove"
		err = store.Remove(c.t.Context(), session)
	default:
		in.what = "logout"
		r, said := newRequest(c.t.Context(), "")
		session.Options.MaxAge = -1
		_, err = respond(c.t, store.Save, r, session)
		ret := c.now()
		if err == nil && said.warned.Load() {
			in.what = "logout, pending"
			c.figures.pending.Add(1)
			c.mu.Lock()
			c.deferred = append(c.deferred, deferral{c.process.index, in.doc, call, ret, len(c.ops)})
			c.ops = append(c.ops, porcupine.Operation{ClientId: c.process.index, Input: in, Output: output{}, Call: call, Return: forever})
			c.mu.Unlock()
			return
		}
		if err != nil {
			c.t.Error("logout:", err)
		}
	}
	ret := c.now()
	out, ok := c.outcome(in.what, err)
	if ok {
		c.record(c, in, out, call, until(ret, out))
	}
}

// finish ends what is known to have ended, and looks at what there is.
func (h *history) finish() {
	closed := h.now()
	var ends []porcupine.Operation
	for _, d := range h.deferred {
		h.ops[d.op].Return = closed
		for i := range h.ops {
			o := &h.ops[i]
			in, out := o.Input.(input), o.Output.(output)
			if in.process != d.process || in.doc != d.doc || in.kind == end {
				continue
			}
			if o.Call > d.ret && (out.result == done || out.result == conflict) {
				h.t.Errorf("in the process of a logout that was pending: %s", describe(in, out))
			}
			out.hidden = out.hidden || o.Return >= d.call
			o.Output = out
			if in.kind == renew && out.result == gone {
				// It may have ended the session before it found that a logout was pending.
				ends = append(ends, porcupine.Operation{ClientId: o.ClientId, Input: input{kind: end, what: "renewal before a logout", process: in.process, doc: in.doc}, Output: output{}, Call: o.Call, Return: forever})
			}
		}
	}
	h.ops = append(h.ops, ends...)
	call := h.now()
	docs := map[string]stored{}
	for _, doc := range documents(h.t, h.coll) {
		docs[doc.ID] = doc
	}
	ret := h.now()
	for _, tk := range h.tickets {
		in, out := input{kind: load, what: "at last", doc: tk.doc, process: processes}, output{}
		doc, found := docs[keyOf(tk.id)]
		if !found || doc.Rev == nil {
			out.result = gone
		} else {
			for k, key := range keys {
				v, _ := doc.Values.Lookup(key).AsInt64OK()
				out.values[k] = int(v)
			}
			if list, ok := doc.Values.Lookup(listKey).ArrayOK(); ok {
				elements, _ := list.Values()
				for _, e := range elements {
					out.list += fmt.Sprint(e.AsInt64(), ",")
				}
			}
		}
		h.ops = append(h.ops, porcupine.Operation{ClientId: processes, Input: in, Output: out, Call: call, Return: ret})
		delete(docs, keyOf(tk.id))
	}
	if len(docs) > h.strays {
		h.t.Errorf("%d documents are left that nobody can get at, and only %d saves and renewals were not answered", len(docs), h.strays)
	}
	// The embedded server reads the whole collection at each write.
	if _, err := h.coll.DeleteMany(h.t.Context(), bson.D{}); err != nil {
		h.t.Error(err)
	}
}

// check has the history checked. One that fails is shown as text and as a picture.
func (h *history) check() {
	h.figures.histories.Add(1)
	h.figures.operations.Add(int64(len(h.ops)))
	model := specification(h.policy == mongostore.ConflictReject)
	verdict, info := porcupine.CheckOperationsVerbose(model, h.ops, undecidedFor)
	if verdict == porcupine.Ok {
		return
	}
	var text strings.Builder
	slices.SortFunc(h.ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	for _, o := range h.ops {
		ret := "      ..."
		if o.Return < forever {
			ret = fmt.Sprintf("%9.3f", float64(o.Return)/1e6)
		}
		fmt.Fprintf(&text, "%9.3f -%s ms  %s\n", float64(o.Call)/1e6, ret, describe(o.Input.(input), o.Output.(output)))
	}
	h.t.Errorf("not linearizable (%s):\n%s", verdict, &text)
	if dir, err := os.MkdirTemp("", "mongostore-history-"); err != nil {
		h.t.Log(err)
	} else if path := filepath.Join(dir, "history.html"); porcupine.VisualizePath(model, info, path) == nil {
		h.t.Log("to be seen in a browser:", path)
	}
}
