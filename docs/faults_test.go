package docs_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// These tests inject each fault between the store and the database, at each step of each
// operation, on a standalone server and on a replica set. They generate docs/faults.md.

// operation is something that an application does with a session, and the command that the
// fault hits.
type operation struct {
	name    string
	group   string // on the page, of operations with the same results
	column  string // on the page
	command string
	stalls  int // how many of its commands can wait for Timeout, each; 1 if 0
	do      func(*cell) error
	ends    bool               // it is supposed to end the session
	results map[string]outcome // by the letters of the table
}

// outcome is what is observed of an operation, and by whom.
type outcome struct {
	err    error  // by the caller
	cookie string // by the browser: none, same, fresh, expired
	warned bool   // by the operator
	stored string // in the database, at the end: old, new, fresh, dead (a tombstone)
	next   string // by the visitor's next request: out, or n=1 or n=2
}

func (o outcome) String() string {
	return fmt.Sprintf("error %v, cookie %s, warned %t, stored %q, next request %s", o.err, o.cookie, o.warned, o.stored, o.next)
}

// The letters of the table.
const (
	carriedOut = "d" // the caller gets nil
	undone     = "n" // the caller gets an error, and nothing was done
	answerGone = "l" // the caller gets an error, but it was carried out
	repeated   = "w" // a failed deletion, for which the caller gets no error
	leftOver   = "o" // as undone, except for a document whose ID nobody has
	undecided  = "u" // the caller gets an error, and the visitor gets the new ID
)

var (
	away = mongostore.ErrUnavailable

	loading = map[string]outcome{
		carriedOut: {nil, "none", false, "old", "n=1"},
		undone:     {away, "none", false, "old", "n=1"},
	}
	creating = map[string]outcome{
		carriedOut: {nil, "fresh", false, "fresh", "n=2"},
		undone:     {away, "none", false, "", "out"},
		leftOver:   {away, "none", false, "fresh", "out"},
	}
	updating = map[string]outcome{
		carriedOut: {nil, "none", false, "new", "n=2"},
		undone:     {away, "none", false, "old", "n=1"},
		answerGone: {away, "none", false, "new", "n=2"},
	}
	touching = map[string]outcome{
		carriedOut: {nil, "same", false, "new", "n=1"},
		undone:     {away, "none", false, "old", "n=1"},
		answerGone: {away, "none", false, "new", "n=1"},
	}
	loggingOut = map[string]outcome{
		carriedOut: {nil, "expired", false, "", "out"},
		repeated:   {nil, "expired", true, "", "out"},
	}
	removing = map[string]outcome{
		carriedOut: {nil, "none", false, "", "out"},
		undone:     {away, "none", false, "old", "n=1"},
		answerGone: {away, "none", false, "", "out"},
	}
	renewing = map[string]outcome{
		carriedOut: {nil, "fresh", false, "dead fresh", "n=2"},
		undone:     {away, "none", false, "old", "n=1"},
		leftOver:   {away, "none", false, "fresh old", "n=1"},
		undecided:  {away, "fresh", false, "dead fresh", "n=2"},
	}
)

var allOperations = []operation{
	{name: "load", group: "load (`Get`, `New`)", column: "load", command: "find", do: (*cell).load, results: loading},
	{name: "create", group: "create (`Save`)", column: "create", command: "insert", do: (*cell).save, results: creating},
	{name: "update", group: "update (`Save`)", column: "update", command: "update", do: (*cell).save, results: updating},
	{name: "touch", group: "touch (`Save`, unchanged)", column: "touch", command: "update", do: (*cell).save, results: touching},
	{name: "logout", group: "log out (`Save`, `MaxAge` < 0)", column: "log out", command: "delete", do: (*cell).save, results: loggingOut, ends: true},
	{name: "remove", group: "`Remove`, `Revoke`, `RevokeAll`", column: "`Remove`", command: "delete", do: (*cell).remove, results: removing, ends: true},
	{name: "renew insert", group: "`Renew`", column: "`Renew`: inserting the new document", command: "insert", stalls: 2, do: (*cell).renew, results: renewing},
	{name: "renew mark", group: "`Renew`", column: "`Renew`: the decision", command: "update", stalls: 3, do: (*cell).renew, results: renewing},
	{name: "revoke", group: "`Remove`, `Revoke`, `RevokeAll`", column: "`Revoke`", command: "delete", do: (*cell).revoke, results: removing, ends: true},
	{name: "revokeAll", group: "`Remove`, `Revoke`, `RevokeAll`", column: "`RevokeAll`", command: "delete", do: (*cell).revokeAll, results: removing, ends: true},
	{name: "revokeAll look", group: "`Remove`, `Revoke`, `RevokeAll`", column: "`RevokeAll`: the search after it", command: "find", do: (*cell).revokeAll, results: removing, ends: true},
}

// fault is a failure to inject.
type fault struct {
	name   string
	text   string // on the page
	waits  bool   // until Timeout
	inject func(*cell)

	careless bool // the store's writes are unacknowledged

	// The letters, one for each operation, with dashes between groups of them. A dot is an
	// impossible combination. An impossible fault has no letters.
	standalone, replicaSet string
}

func onWire(r storetest.Rule) func(*cell) {
	return func(c *cell) {
		c.f.Wire.On(c.op.command, r)
	}
}

func byScript(l storetest.Line) func(*cell) {
	return func(c *cell) {
		c.server.On(c.op.command, l)
	}
}

var faultsToInject = []fault{
	{
		name: "away", waits: true, inject: onWire(storetest.Rule{Kind: storetest.Refuse, Away: true}),
		text:       "The server becomes unreachable before the command, and stays so: connections are refused",
		standalone: "nnnnwn-nu-nnl",
		replicaSet: "nnnnwn-nu-nnl",
	},
	{
		name: "cut before", inject: onWire(storetest.Rule{Kind: storetest.Refuse, Once: true}),
		text:       "The connection breaks before the command",
		standalone: "dnnnwn-nd-nnd",
		replicaSet: "dddddd-dd-dnd",
	},
	{
		name: "answer lost", inject: onWire(storetest.Rule{Kind: storetest.LoseAnswer, Once: true}),
		text:       "The connection breaks before the response",
		standalone: "dnllwl-nd-lld",
		replicaSet: "dddddd-dd-dld",
	},
	{
		name: "answer lost and away", waits: true, inject: onWire(storetest.Rule{Kind: storetest.LoseAnswer, Once: true, Away: true}),
		text:       "The connection breaks before the response, and the server stays unreachable",
		standalone: "nnllwl-nu-lll",
		replicaSet: "nnllwl-nu-lll",
	},
	{
		name: "black hole", waits: true, inject: onWire(storetest.Rule{Kind: storetest.BlackHole, Once: true}),
		text:       "No data passes any more, and no connection is refused",
		standalone: "nnnnwn-nu-nnl",
		replicaSet: "nnnnwn-nu-nnl",
	},
	{
		name: "slow", inject: onWire(storetest.Rule{Kind: storetest.Slow}),
		text:       "The network is slow",
		standalone: "dddddd-dd-ddd",
		replicaSet: "dddddd-dd-ddd",
	},
	{
		name: "throttled", inject: onWire(storetest.Rule{Kind: storetest.Throttle}),
		text:       "Data passes a few bytes at a time, in both directions",
		standalone: "dddddd-dd-ddd",
		replicaSet: "dddddd-dd-ddd",
	},
	{
		name: "late answer", waits: true,
		inject: func(c *cell) { byScript(storetest.Line{Once: true, Apply: true, Gate: c.gate})(c) },
		text:   "The response arrives after `Timeout`",
		// The driver does not retry after the deadline.
		standalone: "nnllwl-nd-lll",
		replicaSet: "nnllwl-nd-lll",
	},
	{
		name: "late command", waits: true,
		inject: func(c *cell) {
			c.delivered = make(chan struct{}, 1)
			onWire(storetest.Rule{Kind: storetest.Late, Once: true, Gate: c.gate, Seen: c.delivered})(c)
		},
		text:       "The command reaches the server after `Timeout`, and after the cleanup by the store",
		standalone: "nollwl-od-lll",
		replicaSet: "nollwl-od-lll",
	},
	{
		name: "visitor leaves",
		inject: func(c *cell) {
			seen := make(chan struct{}, 1)
			byScript(storetest.Line{Once: true, Apply: true, Seen: seen, Gate: c.gate})(c)
			go func() {
				<-seen
				c.leave()
				if c.op.name == "logout" || strings.HasPrefix(c.op.name, "renew") {
					c.open() // these continue
				}
			}()
		},
		text:       "The request's context is cancelled before the response arrives",
		standalone: "nnlldl-dd-lll",
		replicaSet: "nnlldl-dd-lll",
	},
	{
		name: "half-closed by the server", inject: onWire(storetest.Rule{Kind: storetest.EndReplies, Once: true}),
		text:       "The server closes its side of the connection after the command",
		standalone: "dnllwl-nd-lld",
		replicaSet: "dddddd-dd-dld",
	},
	{
		name: "half-closed by the client", inject: onWire(storetest.Rule{Kind: storetest.EndRequests, Once: true}),
		text: "The client's side of the connection is closed after the command",
		// The next command on that connection finds it broken.
		standalone: "dddddd-dd-ddd",
		replicaSet: "dddddd-dd-ddd",
	},
	{
		name: "garbage", inject: onWire(storetest.Rule{Kind: storetest.Garble, Once: true}),
		text:       "The response is not a valid message of the protocol",
		standalone: "dnllwl-nd-lld",
		replicaSet: "dddddd-dd-dld",
	},
	{
		name: "torn document", inject: onWire(storetest.Rule{Kind: storetest.Damage, Once: true}),
		text: "The document of the response is truncated",
		// The driver treats this as its own failure, and does not retry.
		standalone: "nnllwl-nd-lll",
		replicaSet: "nnllwl-nd-lll",
	},
	{
		name: "another's answer", inject: onWire(storetest.Rule{Kind: storetest.Misaddress, Once: true}),
		text:       "The response belongs to another command (the driver does not check)",
		standalone: "dddddd-dd-ddd",
		replicaSet: "dddddd-dd-ddd",
	},
	{
		name: "not the primary", inject: func(c *cell) {
			reply := storetest.NotPrimary
			if c.server.Set == "" {
				reply = storetest.Refusal(10107, "NotWritablePrimary")
			}
			byScript(storetest.Line{Once: true, Reply: reply})(c)
		},
		text:       "NotWritablePrimary (10107), once",
		standalone: "dnnnwn-nd-nnd",
		replicaSet: "dddddd-dd-dnd",
	},
	{
		name: "election", inject: byScript(storetest.Line{Once: true, Reply: storetest.SteppedNow, Steps: true, Elect: true}),
		text:       "PrimarySteppedDown (189), and a new primary is elected in time",
		replicaSet: "dddddd-dd-dnd",
	},
	{
		name: "no primary", waits: true, inject: byScript(storetest.Line{Once: true, Reply: storetest.SteppedNow, Steps: true}),
		text:       "PrimarySteppedDown (189), and no new primary is elected in time",
		replicaSet: "nnnnwn-nu-nnl",
	},
	{
		name: "failover", waits: true, inject: byScript(storetest.Line{Once: true, Apply: true, Cut: true, Steps: true}),
		text:       "The primary carries out the command and steps down without a response; no new primary is elected in time",
		replicaSet: "nnllwl-nu-lll",
	},
	{
		name: "failover, unnoticed", waits: true, inject: byScript(storetest.Line{Apply: true, Cut: true, Then: &storetest.Line{Reply: storetest.NotPrimary}}),
		text: "The primary carries out the command, the connection breaks, and all retries of the driver get 10107 until `Timeout`",
		// That response is about the retry, not about the first attempt.
		replicaSet: "nnllwl-nd-lll",
	},
	{
		name: "write concern", inject: byScript(storetest.Line{Once: true, Apply: true, Reply: bson.D{storetest.WTimeout}}),
		text:       "Carried out, but on fewer members than requested: write concern error 64",
		standalone: ".nllwl-nd-ll.",
		replicaSet: ".nllwl-nd-ll.",
	},
	{
		name: "write concern, shutting down", inject: byScript(storetest.Line{Once: true, Apply: true, Reply: bson.D{
			{Key: "writeConcernError", Value: bson.D{{Key: "code", Value: 91}, {Key: "codeName", Value: "ShutdownInProgress"}, {Key: "errmsg", Value: "shutting down"}}}, storetest.Retryable,
		}}),
		text:       "Carried out, but the server is shutting down: write concern error 91, retryable",
		replicaSet: ".ddddd-dd-dl.",
	},
	{
		name: "duplicate key", inject: byScript(storetest.Line{Once: true, Reply: bson.D{
			{Key: "ok", Value: 1},
			{Key: "n", Value: 0},
			{Key: "writeErrors", Value: bson.A{bson.D{{Key: "index", Value: 0}, {Key: "code", Value: 11000}, {Key: "errmsg", Value: "E11000 duplicate key error dup key: { card: " + storetest.CardNumber + " }"}}}},
		}}),
		text:       "A duplicate key (11000)",
		standalone: ".nnnwn-nn-nn.",
		replicaSet: ".nnnwn-nn-nn.",
	},
	{
		name: "unauthorized", inject: byScript(storetest.Line{Reply: storetest.Quoting(13, "Unauthorized")}),
		text:       "Unauthorized (13), for every such command",
		standalone: "nnnnwn-nn-nnl",
		replicaSet: "nnnnwn-nn-nnl",
	},
	{
		name: "not implemented", inject: byScript(storetest.Line{Reply: storetest.Quoting(238, "NotImplemented")}),
		text:       "NotImplemented (238), for every such command",
		standalone: "nnnnwn-nn-nnl",
		replicaSet: "nnnnwn-nn-nnl",
	},
	{
		name: "time limit", inject: byScript(storetest.Line{Once: true, Reply: storetest.Quoting(50, "MaxTimeMSExpired")}),
		text: "MaxTimeMSExpired (50), once",
		// It may have been carried out, so a renewal checks.
		standalone: "nnnnwn-nd-nnl",
		replicaSet: "nnnnwn-nd-nnl",
	},
	{
		name: "no code", inject: byScript(storetest.Line{Once: true, Reply: bson.D{{Key: "ok", Value: 0}, {Key: "errmsg", Value: "cannot do that to " + storetest.CardNumber}}}),
		text:       "An error without a code, as from a proxy",
		standalone: "nnnnwn-nn-nnl",
		replicaSet: "nnnnwn-nn-nnl",
	},
}

// TestOutcomes injects each fault of the table and checks the outcome.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	storetest.Server(t)
	sum := &tally{letters: map[string]string{}, careless: map[string]outcome{}, indexes: map[string][]string{}}
	// Cells that wait for a timeout use no CPU meanwhile.
	waiting, busy := make(chan struct{}, 32), make(chan struct{}, 4)
	var cells sync.WaitGroup
	run := func(slots chan struct{}, where string, test func(*testing.T)) {
		cells.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			t.Run(where, test)
		})
	}
	start, total := time.Now(), 0
	for _, waits := range []bool{true, false} {
		for i := range faultsToInject {
			fault := &faultsToInject[i]
			if fault.waits != waits {
				continue
			}
			for _, set := range []string{"", "rs"} {
				letters := fault.letters(set)
				if len(letters) == 0 {
					continue
				}
				for j := range allOperations {
					op := &allOperations[j]
					want := letters[j : j+1]
					if want == "." {
						continue
					}
					total++
					slots := busy
					if waits {
						slots = waiting
					}
					where := cellName(fault, op, set)
					run(slots, where, func(t *testing.T) {
						c := newCell(t, fault, op, set)
						letter := c.run(want)
						for attempt := 1; attempt < 3 && !t.Failed() && (letter != want || c.slow()); attempt++ {
							// On a busy machine, Timeout may end before the command under test
							// is sent, and the driver's own clearing of the pool may interrupt
							// the one retry that it makes. The store handled that correctly,
							// or the test would have failed.
							t.Logf("%s was seen, not %s, in %v: trying again", cmp.Or(wordOf(letter), "another outcome"), wordOf(want), c.took)
							c = newCell(t, fault, op, set)
							letter = c.run(want)
						}
						if letter != want {
							t.Errorf("%s was seen, but the table says %s: %v", wordOf(letter), wordOf(want), op.results[want])
						}
						if c.slow() {
							t.Errorf("the call took %v, more than %v", c.took, c.limit())
						}
						sum.add(where, letter, c)
					})
				}
			}
		}
	}
	for _, set := range []string{"", "rs"} {
		for i := range unacknowledgedWrites {
			row := &unacknowledgedWrites[i]
			where := cellName(unacknowledgedFault, &row.operation, set)
			run(busy, where, func(t *testing.T) {
				seen := newCell(t, unacknowledgedFault, &row.operation, set).runCareless(row.want)
				sum.mu.Lock()
				defer sum.mu.Unlock()
				sum.careless[where] = seen
			})
		}
	}
	for i := range indexFaults {
		row := &indexFaults[i]
		run(busy, "indexes/"+row.text, func(t *testing.T) {
			seen := row.run(t)
			sum.mu.Lock()
			defer sum.mu.Unlock()
			sum.indexes[row.text] = seen
		})
	}
	cells.Wait()
	t.Logf("%d cells, %d faults injected, the longest call took %v, all %v", len(sum.letters), sum.faults, sum.longest, time.Since(start).Round(time.Millisecond))
	all := len(sum.letters) == total && len(sum.careless) == 2*len(unacknowledgedWrites) && len(sum.indexes) == len(indexFaults)
	if !t.Failed() && all { // without -run
		checkPage(t, "faults.md", faultsPage(sum))
	}
}

func cellName(fault *fault, op *operation, set string) string {
	kind := "standalone"
	if set != "" {
		kind = "replica set"
	}
	return kind + "/" + fault.name + "/" + op.name
}

func (f *fault) letters(set string) string {
	if set == "" {
		return strings.ReplaceAll(f.standalone, "-", "")
	}
	return strings.ReplaceAll(f.replicaSet, "-", "")
}

// tally is the results of all cells.
type tally struct {
	mu      sync.Mutex
	letters map[string]string // by the cell's name
	faults  int
	longest time.Duration

	careless map[string]outcome  // of unacknowledged writes, by the cell's name
	indexes  map[string][]string // the page's words for the faults of indexes, by what happens
}

func (s *tally) add(where, letter string, c *cell) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.letters[where] = letter
	s.faults += c.f.Wire.Count() + c.server.Count()
	s.longest = max(s.longest, c.took)
}

// cell is one operation with one fault.
type cell struct {
	t      *testing.T
	fault  *fault
	op     *operation
	f      *storetest.Fixture
	server *storetest.Scripted

	b       *storetest.Browser // of the visitor
	other   *storetest.Browser // with the earlier cookies, at another process of the application
	session *sessions.Session
	stale   *sessions.Session // loaded by other before the fault
	oldID   string
	from    string // in the cookie of an undecided renewal: the hash of oldID
	w       *httptest.ResponseRecorder

	ctx   context.Context // of the request under test
	leave context.CancelFunc

	gate      chan struct{} // of a late message
	delivered chan struct{} // when that has arrived
	opened    sync.Once

	took   time.Duration
	logged int // before the fault
}

func newCell(t *testing.T, fault *fault, op *operation, set string) *cell {
	c := &cell{t: t, fault: fault, op: op, w: httptest.NewRecorder(), gate: make(chan struct{})}
	t.Cleanup(c.open)
	c.ctx, c.leave = context.WithCancel(t.Context())
	t.Cleanup(c.leave)
	// Another process of the application, with a generous timeout for all operations that are
	// not under test.
	c.f, c.server = storetest.SetupScripted(t, set, func(cfg *mongostore.Config) {
		if strings.HasPrefix(op.name, "revokeAll") {
			cfg.OwnerKey = "user"
		}
	})
	c.b = c.f.Browser()
	if op.name != "create" {
		c.b.Do(func(s *sessions.Session) {
			s.Values["user"], s.Values["card"], s.Values["n"] = "ada", storetest.CardNumber, 1
		})
	}
	if op.name == "touch" {
		c.f.Edit(storetest.SetDate("seenAt", time.Now().Add(-time.Hour)))
	}
	c.other = c.b.Clone()
	c.stale = c.other.Load()
	timeout := storetest.Patience
	if fault.waits {
		timeout = storetest.Soon
	}
	if fault.careless {
		c.f.Cfg.Client = c.server.Client(c.f, func(o *options.ClientOptions) { o.SetWriteConcern(writeconcern.Unacknowledged()) })
	}
	c.f.Store = c.f.OpenWith(timeout)
	c.b.Store = c.f.Store
	c.session = c.patientLoad(c.b)
	c.oldID = c.session.ID
	switch op.name {
	case "create":
		c.session.Values["user"], c.session.Values["card"], c.session.Values["n"] = "ada", storetest.CardNumber, 2
	case "logout":
		c.session.Options.MaxAge = -1
	case "update", "persist", "renew insert", "renew mark":
		c.session.Values["n"] = 2
	}
	return c
}

// patientLoad loads a session. It retries, because the machine may be busier than Timeout
// allows, and connections may not have recovered yet.
func (c *cell) patientLoad(b *storetest.Browser) (session *sessions.Session) {
	storetest.Eventually(c.t, "the session can be loaded", func() bool {
		var err error
		session, err = b.Store.New(b.Request(), storetest.Name)
		return err == nil
	})
	return session
}

// The operations.

func (c *cell) request() *http.Request { return c.b.Request().WithContext(c.ctx) }

func (c *cell) load() error {
	session, err := c.f.Store.New(c.request(), storetest.Name)
	if err == nil {
		if session.IsNew || session.Values["n"] != 1 {
			c.t.Errorf("loaded: %v", session.Values)
		}
		return nil
	}
	if session == nil {
		return errors.New("the session is nil")
	}
	// A session that could not be loaded cannot be saved.
	session.Values["user"] = "nobody"
	if errSave := c.f.Store.Save(c.b.Request(), c.w, session); !errors.Is(errSave, away) {
		c.t.Errorf("the save of a session that could not be loaded: %v", errSave)
	}
	return err
}

func (c *cell) save() error { return c.f.Store.Save(c.request(), c.w, c.session) }

func (c *cell) renew() error { return c.f.Store.Renew(c.request(), c.w, c.session) }

func (c *cell) remove() error { return c.f.Store.Remove(c.ctx, c.session) }

func (c *cell) revoke() error { return c.f.Store.Revoke(c.ctx, storetest.HashOf(c.oldID)) }

func (c *cell) persist() error {
	return c.f.Store.Persist(c.ctx, c.session)
}

func (c *cell) revokeAll() error {
	_, err := c.f.Store.RevokeAll(c.ctx, "ada")
	return err
}

// run injects the fault, does the operation, checks the conditions of all cells, and returns the
// letter of the outcome. want tells it what to wait for.
func (c *cell) run(want string) string {
	var got outcome
	c.logged = len(c.f.Text.String())
	c.fault.inject(c)
	err := c.call()
	if c.f.Wire.Count()+c.server.Count() == 0 {
		c.t.Logf("the fault was not triggered: no %s was sent, and the error is %v", c.op.command, err)
		return "?"
	}
	if c.t.Failed() {
		return "?"
	}
	for _, sentinel := range []error{
		mongostore.ErrGone, mongostore.ErrConflict, mongostore.ErrTooLarge, mongostore.ErrCorrupt, mongostore.ErrNotFound, away,
	} {
		if errors.Is(err, sentinel) {
			if got.err != nil {
				c.t.Errorf("the error wraps two sentinel errors: %v", err)
			}
			got.err = sentinel
		}
	}
	if err != nil && got.err == nil {
		c.t.Errorf("the error wraps no sentinel error: %v", err)
	}
	var fresh string
	got.cookie, fresh = c.cookie()
	c.atOnce(err, fresh)

	// The fault ends. Wait for the background work.
	if c.delivered == nil {
		c.open()
	}
	c.f.Wire.Heal()
	c.server.Heal()
	got.next = c.next()
	c.settle(want, &got)
	if c.delivered != nil {
		c.open() // only now, after all the work of the store
		<-c.delivered
		got.next = c.next()
	}
	got.stored = c.stored()
	letter := "?"
	for l, o := range c.op.results {
		if o == got {
			letter = l
		}
	}
	if letter == "?" {
		c.t.Errorf("seen: %v; %v", got, err)
	}
	c.atRest(got)
	c.again(got)
	for _, told := range []string{c.f.Text.String(), fmt.Sprint(err)} {
		for _, secret := range []string{c.oldID, c.session.ID, fresh, storetest.CardNumber} {
			if secret != "" && strings.Contains(told, secret) {
				c.t.Errorf("an ID or a value is disclosed: %s", told)
			}
		}
	}
	return letter
}

// settle waits for the store's background work.
func (c *cell) settle(want string, got *outcome) {
	deadline := time.After(storetest.Patience)
	for c.stored() != c.op.results[want].stored && c.delivered == nil {
		select {
		case <-time.After(5 * time.Millisecond):
			continue
		case <-deadline:
		}
		break
	}
	got.warned = c.warned() // before there is a warning about Close
	if err := c.f.Store.Close(context.WithoutCancel(c.t.Context())); err != nil {
		c.t.Error(err)
	}
}

// warned reports whether there was a warning since the fault.
func (c *cell) warned() bool { return strings.Contains(c.f.Text.String()[c.logged:], "level=WARN") }

func (c *cell) open() { c.opened.Do(func() { close(c.gate) }) }

// call does the operation, in time and without a panic.
func (c *cell) call() error {
	done := make(chan error, 1)
	start := time.Now()
	go func() {
		defer func() {
			if p := recover(); p != nil {
				c.t.Errorf("panic: %v\n%s", p, debug.Stack())
				done <- nil
			}
		}()
		done <- c.op.do(c)
	}()
	var err error
	select {
	case err = <-done:
	case <-time.After(storetest.Patience):
		c.t.Errorf("no return within %v", storetest.Patience)
		c.open()
		c.f.Wire.RefuseAll()
		c.f.Wire.Heal()
		c.server.Heal()
		err = <-done
	}
	c.took = time.Since(start)
	c.b.Receive(c.w)
	return err
}

// limit returns how long the call may take on a busy machine: Timeout for each command that waits.
func (c *cell) limit() time.Duration {
	if !c.fault.waits {
		return storetest.Patience
	}
	return time.Duration(max(c.op.stalls, 1))*storetest.Soon + storetest.Slack
}

func (c *cell) slow() bool { return c.took > c.limit() }

// cookie returns the kind of the cookie that the browser received, and the ID in it, if any.
func (c *cell) cookie() (kind, id string) {
	cookies := c.w.Result().Cookies()
	switch {
	case len(cookies) == 0:
		return "none", ""
	case len(cookies) > 1:
		c.t.Errorf("%d cookies", len(cookies))
		return "several", ""
	case cookies[0].MaxAge < 0:
		return "expired", ""
	}
	if err := securecookie.DecodeMulti(storetest.Name, cookies[0].Value, &id, c.f.Store.Codecs...); err != nil {
		c.t.Errorf("cookie: %v", err)
	}
	id, c.from, _ = strings.Cut(id, ".")
	c.from, _, _ = strings.Cut(c.from, ".")
	if id == c.oldID {
		return "same", id
	}
	return "fresh", id
}

// atOnce checks the conditions for every fault when the call returns: no cookie for a session
// that is not stored, no cookie with an error except of an undecided renewal, and no success
// for an operation that was not done.
func (c *cell) atOnce(err error, id string) {
	if unsure := c.op.name == "renew mark" && c.from == storetest.HashOf(c.oldID); err != nil && c.w.Header()["Set-Cookie"] != nil && !unsure {
		c.t.Errorf("a cookie along with the error %v", err)
	}
	docs := map[string]bson.Raw{}
	for _, doc := range c.f.Documents() {
		docs[doc.Lookup("_id").StringValue()] = doc
	}
	if id != "" {
		doc := docs[storetest.HashOf(id)]
		switch {
		case doc == nil:
			c.t.Error("a cookie for a session that is not stored")
		case doc.Lookup("movedTo").Type != 0 || !doc.Lookup("expiresAt").Time().After(time.Now()):
			c.t.Errorf("a cookie for a session that has ended: %v", doc)
		case c.op.name != "touch" && doc.Lookup("values", "n").AsInt64() != 2:
			c.t.Errorf("success is reported, but this is stored: %v", doc)
		case c.op.name == "touch" && time.Since(doc.Lookup("seenAt").Time()) > time.Minute:
			c.t.Errorf("success is reported, but it was last seen at %v", doc.Lookup("seenAt").Time())
		}
	}
	if err != nil {
		return
	}
	old := docs[storetest.HashOf(c.oldID)]
	switch {
	case strings.HasPrefix(c.op.name, "renew") && old != nil && old.Lookup("movedTo").Type == 0:
		c.t.Error("success is reported, but the old ID works")
	case c.op.name == "logout" && old != nil && !c.warned():
		c.t.Error("the session still exists, and no warning was logged")
	case c.op.name != "logout" && c.op.ends && old != nil:
		c.t.Error("success is reported, but the session still exists")
	}
}

// next returns what the visitor's next request sees.
func (c *cell) next() string {
	session := c.patientLoad(c.b)
	if session.IsNew {
		return "out"
	}
	return fmt.Sprintf("n=%v", session.Values["n"])
}

// stored returns what the collection holds.
func (c *cell) stored() string {
	var kinds []string
	for _, doc := range c.f.Documents() {
		kind := "old"
		switch {
		case doc.Lookup("_id").StringValue() != storetest.HashOf(c.oldID):
			kind = "fresh"
		case doc.Lookup("movedTo").Type != 0:
			kind = "dead"
		case doc.Lookup("values", "n").AsInt64() == 2:
			kind = "new"
		case c.op.name == "touch" && time.Since(doc.Lookup("seenAt").Time()) < 30*time.Minute:
			kind = "new"
		}
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	return strings.Join(kinds, " ")
}

// atRest checks the final conditions: nobody is logged out unintentionally, nobody is logged in
// again, a concurrent request loses no changes and revives no session, and no document is
// left behind.
func (c *cell) atRest(got outcome) {
	old := c.patientLoad(c.other)
	if wantOld := got.stored == "old" || got.stored == "new" || got.stored == "fresh old"; old.IsNew == wantOld {
		c.t.Errorf("with the earlier cookie the session is new: %t; stored: %s", old.IsNew, got.stored)
	}
	if c.op.name == "create" {
		return
	}
	c.stale.Values["stale"] = true
	var w *httptest.ResponseRecorder
	var err error
	storetest.Eventually(c.t, "an earlier request can save", func() bool {
		w, err = c.other.Save(c.stale)
		return !errors.Is(err, away)
	})
	if old.IsNew {
		if w.Header()["Set-Cookie"] != nil || !errors.Is(err, mongostore.ErrGone) {
			c.t.Errorf("save of an earlier request: %v, %v", err, w.Header())
		}
	} else {
		after := c.patientLoad(c.other)
		if err != nil || after.Values["stale"] != true || after.Values["n"] != old.Values["n"] || after.Values["card"] != storetest.CardNumber {
			c.t.Errorf("after the save of an earlier request, with error %v: %v", err, after.Values)
		}
	}
	if n, want := len(c.f.Documents()), len(strings.Fields(got.stored)); n != want {
		c.t.Errorf("%d documents at the end, want %d", n, want)
	}
}

// again retries a failed operation, as an application may. It now succeeds.
func (c *cell) again(failed outcome) {
	if failed.err == nil || c.op.name == "load" {
		return
	}
	c.ctx = c.t.Context()
	var err error
	attempts := 0
	storetest.Eventually(c.t, "the operation can be retried", func() bool {
		attempts++
		c.w = httptest.NewRecorder()
		err = c.op.do(c)
		return !errors.Is(err, away)
	})
	c.b.Receive(c.w)
	leftovers := 0
	switch failed.stored {
	case "fresh", "fresh old":
		leftovers = 1
	case "dead fresh": // a second renewal leaves a second tombstone
		leftovers = 1
	}
	if strings.HasPrefix(c.op.name, "renew") {
		leftovers++
	}
	if err != nil {
		c.t.Errorf("retry: %v", err)
	}
	want, documents := "n=2", leftovers+1
	if c.op.ends {
		want, documents = "out", leftovers
	}
	if c.op.name == "touch" {
		want = "n=1"
	}
	if next := c.next(); next != want {
		c.t.Errorf("the next request, after the retry: %s, want %s", next, want)
	}
	if attempts == 1 { // after more, a closed store may have left a document behind
		if n := len(c.f.Documents()); n != documents {
			c.t.Errorf("%d documents after the retry, want %d", n, documents)
		}
	}
}

// errNoWish is the outcome's error of an unacknowledged write.
var errNoWish = errors.New("the write concern is unacknowledged")

var unacknowledgedFault = &fault{name: "unacknowledged", careless: true}

// unacknowledgedWrites are the outcomes of writes without acknowledgement: the server carries
// them out, and the store returns an error.
var unacknowledgedWrites = []struct {
	operation
	want outcome
}{
	{operation{name: "load", column: "load", do: (*cell).load}, outcome{nil, "none", false, "old", "n=1"}},
	{operation{name: "create", column: "create", do: (*cell).save}, outcome{errNoWish, "none", false, "fresh", "out"}},
	{operation{name: "update", column: "update", do: (*cell).save}, outcome{errNoWish, "none", false, "new", "n=2"}},
	{operation{name: "persist", column: "update by `Persist`", do: (*cell).persist}, outcome{errNoWish, "none", false, "new", "n=2"}},
	{operation{name: "touch", column: "touch", do: (*cell).save}, outcome{errNoWish, "none", false, "new", "n=1"}},
	{operation{name: "logout", column: "log out", do: (*cell).save}, outcome{errNoWish, "none", false, "", "out"}},
	{operation{name: "remove", column: "`Remove`", do: (*cell).remove}, outcome{errNoWish, "none", false, "", "out"}},
	{operation{name: "renew insert", column: "`Renew`", do: (*cell).renew}, outcome{errNoWish, "none", false, "old", "n=1"}},
	{operation{name: "revoke", column: "`Revoke`", do: (*cell).revoke}, outcome{errNoWish, "none", false, "", "out"}},
	{operation{name: "revokeAll", column: "`RevokeAll`", do: (*cell).revokeAll}, outcome{errNoWish, "none", false, "", "out"}},
}

// runCareless does the operation with a store whose writes are unacknowledged.
func (c *cell) runCareless(want outcome) outcome {
	var got outcome
	c.logged = len(c.f.Text.String())
	err := c.call()
	if err != nil {
		got.err = errNoWish
		if !strings.Contains(err.Error(), "unacknowledged") || errors.Is(err, away) || errors.Is(err, mongostore.ErrGone) || errors.Is(err, mongostore.ErrNotFound) {
			c.t.Errorf("error: %v", err)
		}
	}
	got.cookie, _ = c.cookie()
	// The command may not have arrived yet.
	const longEnough = 10
	for steady, deadline := 0, time.Now().Add(storetest.Patience); steady < longEnough && time.Now().Before(deadline); {
		if steady++; c.stored() != want.stored {
			steady = 0
		}
		<-time.After(10 * time.Millisecond)
	}
	got.next, got.stored, got.warned = c.next(), c.stored(), c.warned()
	if got != want {
		c.t.Errorf("seen: %v; %v\nwant: %v", got, err, want)
	}
	return got
}

// indexFault is a response to the command that creates the TTL index.
type indexFault struct {
	text   string // on the page
	rule   storetest.Rule
	theirs bson.A // the existing indexes; nil if they cannot be listed
	swept  bool   // the store deletes expired sessions itself
}

var indexFaults = []indexFault{
	{"IndexOptionsConflict (85): the index has another `expireAfterSeconds`", refusing(85, "IndexOptionsConflict"), expiryIndex(bson.E{Key: "expireAfterSeconds", Value: 3600}), true},
	{"IndexOptionsConflict (85): the index is not a TTL index", refusing(85, "IndexOptionsConflict"), expiryIndex(), true},
	{"IndexOptionsConflict (85): the index exists under another name", refusing(85, "IndexOptionsConflict"), expiryIndex(bson.E{Key: "expireAfterSeconds", Value: 0}), false},
	{"IndexKeySpecsConflict (86): an index that is not a TTL index has the name", refusing(86, "IndexKeySpecsConflict"), expiryIndex(), true},
	{"Unauthorized (13)", refusing(13, "Unauthorized"), nil, true},
	{"Unauthorized (13), but the index exists", refusing(13, "Unauthorized"), expiryIndex(bson.E{Key: "expireAfterSeconds", Value: 0}), false},
	{"NotImplemented (238)", refusing(238, "NotImplemented"), nil, true},
	{"None: the connection breaks", storetest.Rule{Kind: storetest.Refuse}, nil, false},
}

func refusing(code int, codeName string) storetest.Rule {
	return storetest.Rule{Kind: storetest.Answer, Reply: storetest.Refusal(code, codeName)}
}

func expiryIndex(rest ...bson.E) bson.A {
	return bson.A{append(bson.D{{Key: "v", Value: 2}, {Key: "key", Value: bson.D{{Key: "expiresAt", Value: 1}}}, {Key: "name", Value: "theirs"}}, rest...)}
}

var logMessage = regexp.MustCompile(`level=WARN msg="mongostore: ([^"]*)"`)

// run returns the cells of the page's row: the errors of Open, of EnsureIndexes and of the first
// save of a store from New, the warning, and what happens to expired sessions.
func (i *indexFault) run(t *testing.T) []string {
	f := storetest.Setup(t)
	f.Wire.On("createIndexes", i.rule)
	f.Wire.On("listIndexes", refusing(13, "Unauthorized"))
	if i.theirs != nil {
		f.Wire.On("listIndexes", storetest.Rule{Kind: storetest.Answer, Reply: bson.D{{Key: "ok", Value: 1}, {Key: "cursor", Value: bson.D{
			{Key: "id", Value: int64(0)}, {Key: "ns", Value: "a.b"}, {Key: "firstBatch", Value: i.theirs},
		}}}})
	}
	f.Cfg.Cleanup = mongostore.CleanupTTLIndex
	opened, errOpen := mongostore.Open(t.Context(), f.Cfg, storetest.SigningKey)
	if errOpen != nil {
		t.Fatal(errOpen)
	}
	warnings := logMessage.FindAllStringSubmatch(f.Text.String(), -1)
	warning := ""
	for _, w := range warnings {
		warning += w[1]
	}
	if len(warnings) > 1 {
		t.Errorf("warnings: %s", f.Text)
	}
	if log := f.Text.String(); strings.Contains(log, "collMod") || strings.Contains(log, "dropIndex") {
		warning += " (with the command that corrects the index)"
	}
	errEnsure := opened.EnsureIndexes(t.Context())
	made, err := mongostore.New(f.Connect().Database(f.Coll.Database().Name()).Collection(f.Coll.Name()), storetest.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	var errSave error
	expired := ""
	for _, store := range []*mongostore.Store{opened, made} {
		t.Cleanup(func() { _ = store.Close(context.WithoutCancel(t.Context())) })
		storetest.Seed(t, f, 1, time.Now().Add(-time.Minute))
		save := func() {
			b := f.Browser()
			b.Store = store
			if _, err := b.Save(b.Load()); err != nil {
				errSave = err
			}
		}
		seen := i.swept
		save()
		if i.swept {
			storetest.Eventually(t, "expired sessions are swept", func() bool {
				save() // a save starts the sweep
				return countExpired(f) == 0
			})
		} else {
			// Wait as long as a store that sweeps takes.
			control := storetest.Setup(t, func(c *mongostore.Config) { c.Cleanup = mongostore.CleanupSweep })
			storetest.Seed(t, control, 1, time.Now().Add(-time.Minute))
			storetest.Eventually(t, "another store has swept", func() bool {
				save()
				b := control.Browser()
				if _, err := b.Save(b.Load()); err != nil {
					t.Fatal(err)
				}
				return countExpired(control) == 0
			})
			seen = countExpired(f) == 0
		}
		switch {
		case seen != i.swept:
			t.Errorf("expired sessions are swept: %t", seen)
		case seen:
			expired = "swept"
		case errEnsure == nil:
			expired = "deleted by the server's index"
		default:
			expired = "stay until the index is created"
		}
		if _, err := f.Coll.DeleteMany(t.Context(), bson.D{}); err != nil {
			t.Fatal(err)
		}
	}
	return []string{errorWords(errOpen), errorWords(errEnsure), errorWords(errSave), warning, expired}
}

// countExpired returns the number of expired sessions.
func countExpired(f *storetest.Fixture) (n int) {
	f.T.Helper()
	for _, doc := range f.Documents() {
		if !doc.Lookup("expiresAt").Time().After(time.Now()) {
			n++
		}
	}
	return n
}

// errorWords returns the text of the page for an error of an index.
func errorWords(err error) string {
	var server mongo.CommandError
	switch {
	case err == nil:
		return "`nil`"
	case errors.Is(err, away):
		return "`ErrUnavailable`"
	case errors.As(err, &server):
		return fmt.Sprintf("the server's error %d", server.Code)
	default:
		return "another error"
	}
}

// checkPage compares a page of the documentation with the text that a test has generated.
func checkPage(t *testing.T, file, want string) {
	t.Helper()
	path := filepath.Join("docs", file)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s differs from the results of the test: go test ./docs -run '^%s$' -update (%v)", path, t.Name(), err)
	}
}

// The texts of the page.

const pageHead = `# What happens when the database fails

<!-- Generated by TestOutcomes, which injects each of these faults: go test ./docs -run '^TestOutcomes$' -update -->

The test injects each fault into the connection, or into the server's responses, at each command that an operation sends.
It then checks the caller's error, the visitor's cookie, the log, the database and the visitor's next request. In all cases:

- A call takes at most ` + "`Config.Timeout`" + ` for each command that it waits for: one, and up to three for a ` + "`Renew`" + `.
- No call panics.
- No cookie is set for a session that is not stored.
- No call returns nil for an operation that failed, except for a logout, whose deletion is retried in the background.
- No session ends unintentionally, and no ended session becomes valid again.
- No error and no log message contains an ID or a value.
- After the fault, the next request works normally.

The cells of the two tables below have these meanings:

`

const pageFoot = `
Notes:

- A *leftover* is a document whose ID nobody has received. It expires like any unused session. It occurs only if
  a command reaches the server after the store has given up and has sent the deletion of the document.
- A renewal is *undecided* if MongoDB does not report, within ` + "`Timeout`" + `, whether the old ID still works. The visitor gets the
  cookie of the new ID along with the error. The next request with that cookie ends the old ID, if it still works. It
  merges what other requests have stored under the old ID meanwhile ([with two exceptions](limits.md#outages)).
- After an *unsure* change, the application may save again. The store treats the change as not written until MongoDB has
  acknowledged it. A stored value that equals the one sent is not a conflict. One risk remains: a write that the
  server carries out after ` + "`Timeout`" + ` may overwrite a save that succeeded in between.
- A replica set differs because the driver retries writes of one document there. Sharded clusters are not tested. According to
  [MongoDB's documentation](https://www.mongodb.com/docs/manual/core/retryable-writes/), the driver retries writes there too. ` + "`RevokeAll`" + `
  deletes many documents by one command, which the driver does not retry: call it again. After the deletion, it searches
  for sessions that a concurrent renewal has stored.
`

const pageUnacknowledged = `
## When writes are not acknowledged

` + "`Open`" + ` fails if the URI has the write concern ` + "`w: 0`" + `. If the client or the collection has it, every write of a session
returns an error that names the write concern and wraps none of the sentinel errors. No cookie is set, and none
expires. But the server carries out the command, if it can. The store does not retry it. The results on a standalone server
and on a replica set are the same:

`

const pageIndexes = `
## When an index cannot be created

` + "`Open`" + ` and ` + "`EnsureIndexes`" + ` create the indexes. A store from ` + "`New`" + ` creates them in the background of its first save. If the
server refuses the TTL index, the store logs a warning and sweeps expired sessions in the background of saves. An expired
session is not read, whether deleted or not.

`

// words are the page's words for the letters, in the page's order.
var words = []struct{ letter, word string }{
	{carriedOut, "done"}, {repeated, "repeated"}, {undone, "fails"}, {answerGone, "unsure"}, {leftOver, "leftover"}, {undecided, "undecided"},
}

func wordOf(letter string) string {
	for _, w := range words {
		if w.letter == letter {
			return w.word
		}
	}
	return ""
}

// faultsPage generates the page from the results of the cells.
func faultsPage(sum *tally) string {
	var page strings.Builder
	page.WriteString(pageHead)
	writeRow(&page, "operation", "cell", "the caller gets", "the cookie", "the log", "the database, at the end", "the next request")
	writeRow(&page, slices.Repeat([]string{"---"}, 7)...)
	for i := range allOperations {
		op := &allOperations[i]
		if slices.ContainsFunc(allOperations[:i], func(earlier operation) bool { return earlier.group == op.group }) {
			continue
		}
		first := op.group
		for _, w := range words {
			if o, ok := op.results[w.letter]; ok {
				writeRow(&page, append([]string{first, w.word}, o.words(op.name == "create")...)...)
				first = ""
			}
		}
	}
	for _, set := range []string{"", "rs"} {
		page.WriteString(map[string]string{"": "\n## On a standalone server\n\n", "rs": "\n## On a replica set\n\n"}[set])
		writeTable(&page, sum.letters, set)
	}
	page.WriteString(pageFoot)
	page.WriteString(pageUnacknowledged)
	writeRow(&page, "operation", "the caller gets", "the cookie", "the log", "the database, at the end", "the next request")
	writeRow(&page, slices.Repeat([]string{"---"}, 6)...)
	for i := range unacknowledgedWrites {
		op := &unacknowledgedWrites[i].operation
		seen := sum.careless[cellName(unacknowledgedFault, op, "")] // the same as on a replica set
		writeRow(&page, append([]string{op.column}, seen.words(op.name == "create")...)...)
	}
	page.WriteString(pageIndexes)
	writeRow(&page, "the server's response", "`Open`", "`EnsureIndexes`", "the first `Save`", "the warning", "expired sessions")
	writeRow(&page, slices.Repeat([]string{"---"}, 6)...)
	for i := range indexFaults {
		writeRow(&page, append([]string{indexFaults[i].text}, sum.indexes[indexFaults[i].text]...)...)
	}
	return page.String()
}

// writeTable writes the result of each fault. Operations with equal results share a column.
func writeTable(page *strings.Builder, letters map[string]string, set string) {
	var heads, columns []string
	for i := range allOperations {
		var column []string
		for j := range faultsToInject {
			if len(faultsToInject[j].letters(set)) > 0 {
				column = append(column, wordOf(letters[cellName(&faultsToInject[j], &allOperations[i], set)]))
			}
		}
		whole := strings.Join(column, "|")
		if at := slices.Index(columns, whole); at >= 0 {
			heads[at] += ", " + allOperations[i].column
			continue
		}
		heads, columns = append(heads, allOperations[i].column), append(columns, whole)
	}
	writeRow(page, append([]string{"fault"}, heads...)...)
	writeRow(page, slices.Repeat([]string{"---"}, len(heads)+1)...)
	at := 0
	for j := range faultsToInject {
		if len(faultsToInject[j].letters(set)) == 0 {
			continue
		}
		row := []string{faultsToInject[j].text}
		for _, column := range columns {
			row = append(row, strings.Split(column, "|")[at])
		}
		writeRow(page, row...)
		at++
	}
}

func writeRow(page *strings.Builder, cells ...string) {
	page.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

// words returns the cells of the page for an outcome.
func (o outcome) words(created bool) []string {
	caller, log := "`nil`", ""
	switch {
	case o.err == nil:
	case errors.Is(o.err, away):
		caller = "`ErrUnavailable`"
	default:
		caller = "an error: " + o.err.Error()
	}
	if o.warned {
		log = "a warning"
	}
	cookie := map[string]string{"none": "stays as it is", "same": "is set again", "fresh": "is set, with a new ID", "expired": "expires"}[o.cookie]
	stored := map[string]string{
		"": "nothing", "old": "the session as it was", "new": "the session, changed", "fresh": "the session, under its new ID",
		"fresh old": "the session as it was, and a leftover", "dead fresh": "the session, under its new ID, and a tombstone",
	}[o.stored]
	next := map[string]string{"out": "has no session", "n=1": "has the session as it was", "n=2": "has the session, changed"}[o.next]
	if created {
		stored = map[string]string{"": "nothing", "fresh": "the session"}[o.stored]
		next = map[string]string{"out": "has no session, as before", "n=2": "has the session"}[o.next]
		if o.err != nil && o.stored != "" {
			stored = "a leftover"
		}
	}
	if o.stored == "new" && o.next == "n=1" { // a touch
		stored, next = "the session, with a later expiry", "has the session"
	}
	return []string{caller, cookie, log, stored, next}
}
