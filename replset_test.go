package mongostore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
)

// scripted is a server that answers as its script says, and passes on to the test server
// what the script does not mention. What a test finds in the database is real.
//
// To the driver it is the primary of a replica set, or a standalone server, whatever the
// test server is. As a primary it has the driver repeat its writes, and as MongoDB does it
// carries out a repeated write once:
// https://www.mongodb.com/docs/manual/core/retryable-writes/
type scripted struct {
	address string
	backend string // the test server's address
	set     string // the replica set's name; empty on a standalone

	process bson.ObjectID // of the topology's version
	ctx     context.Context

	mu       sync.Mutex
	script   map[string]line
	writes   map[string]*write // by session and number
	counter  int64             // of the topology's version
	stepped  bool              // down: another member would be the primary now
	changed  chan struct{}     // closed when the topology changes
	conns    map[net.Conn]struct{}
	answered int // commands by the script
}

// line of a script: what a command is answered.
type line struct {
	skip  int           // as many commands of the name are answered truly before
	once  bool          // only to one command
	apply bool          // the command is carried out first, and the true answer's fields stay
	reply bson.D        // nil for the true answer
	seen  chan struct{} // a send for each command that was carried out
	gate  chan struct{} // the answer is held back until it is closed; nil for at once
	cut   bool          // the connection breaks instead of an answer
	steps bool          // the primary steps down with that
	elect bool          // and is elected again a moment later
	then  *line         // what later commands of the name are answered
}

// write is one that the driver may repeat.
type write struct {
	mu    sync.Mutex // held while it is carried out
	reply bson.Raw   // nil until then
}

// startScripted starts a server, and stops it with the test.
func startScripted(t testing.TB, set string) *scripted {
	t.Helper()
	backend, err := backendAddress()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &scripted{
		address: listener.Addr().String(),
		backend: backend,
		set:     set,
		process: bson.NewObjectID(),
		ctx:     ctx,
		script:  map[string]line{},
		writes:  map[string]*write{},
		counter: 1,
		changed: make(chan struct{}),
		conns:   map[net.Conn]struct{}{},
	}
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			handlers.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		s.mu.Lock()
		for conn := range s.conns {
			_ = conn.Close()
		}
		s.mu.Unlock()
		handlers.Wait()
	})
	return s
}

// backendAddress is where the test server takes writes.
var backendAddress = sync.OnceValues(func() (string, error) {
	s, err := startServer()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var hello struct {
		Primary string `bson:"primary"`
	}
	if err := s.client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
		return "", err
	}
	if hello.Primary != "" {
		return hello.Primary, nil
	}
	return options.Client().ApplyURI(s.uri).Hosts[0], nil
})

// client makes a client of the scripted server, as [fixture.connect] does of the real one.
func (s *scripted) client(f *fixture, change ...func(*options.ClientOptions)) *mongo.Client {
	f.t.Helper()
	direct := options.Client().ApplyURI(server(f.t).uri)
	if direct.TLSConfig != nil {
		f.t.Skip("needs a server without TLS: the relay reads what passes")
	}
	opts := options.Client().
		SetHosts([]string{s.address}).
		SetMonitor(f.log.monitor()).
		SetDialer(f.wire).
		SetHeartbeatInterval(500 * time.Millisecond)
	if direct.Auth != nil {
		opts.SetAuth(*direct.Auth)
	}
	if s.set != "" {
		opts.SetReplicaSet(s.set)
	}
	for _, c := range change {
		c(opts)
	}
	client, err := mongo.Connect(opts)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		f.wire.heal()
		s.heal()
		_ = client.Disconnect(context.WithoutCancel(f.t.Context()))
	})
	return client
}

// on writes a line of the script.
func (s *scripted) on(command string, l line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script[command] = l
}

// heal ends the script, and makes this the primary again.
func (s *scripted) heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.script)
	if s.stepped {
		s.turn(false)
	}
}

// count tells how many commands were answered by the script.
func (s *scripted) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered
}

// turn changes the topology. The lock is held.
func (s *scripted) turn(stepped bool) {
	s.stepped = stepped
	s.counter++
	close(s.changed)
	s.changed = make(chan struct{})
}

// next returns the line for a command.
func (s *scripted) next(command string) (line, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.script[command]
	if ok && l.skip > 0 {
		l.skip--
		s.script[command] = l
		return line{}, false
	}
	switch {
	case ok && l.then != nil:
		s.script[command] = *l.then
	case ok && l.once:
		delete(s.script, command)
	}
	if ok {
		s.answered++
	}
	if !ok && s.stepped {
		return line{reply: notPrimary}, true
	}
	return l, ok
}

// stepDown is what a line does to the topology.
func (s *scripted) stepDown(l line) {
	if !l.steps {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stepped {
		s.turn(true)
	}
	if l.elect {
		time.AfterFunc(50*time.Millisecond, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.stepped {
				s.turn(false)
			}
		})
	}
}

// The answers of a server that is no primary any more, as MongoDB from 4.4 labels them.
var (
	retryable  = bson.E{Key: "errorLabels", Value: bson.A{"RetryableWriteError"}}
	notPrimary = append(refusal(10107, "NotWritablePrimary"), retryable)
	wtimeout   = bson.E{Key: "writeConcernError", Value: bson.D{
		{Key: "code", Value: 64}, {Key: "codeName", Value: "WriteConcernTimeout"}, {Key: "errmsg", Value: "waiting for replication timed out"},
	}}
	steppedNow = append(refusal(189, "PrimarySteppedDown"), retryable)
)

// serve serves one connection, over one of its own to the test server. Whatever goes wrong
// ends both.
func (s *scripted) serve(client net.Conn) {
	defer client.Close()
	backend, err := (&net.Dialer{}).DialContext(s.ctx, "tcp", s.backend)
	if err != nil {
		return
	}
	defer backend.Close()
	s.mu.Lock()
	s.conns[client], s.conns[backend] = struct{}{}, struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, client)
		delete(s.conns, backend)
	}()
	for {
		request, err := readMessage(client)
		if err != nil {
			return
		}
		reply, err := s.answer(backend, request)
		if err != nil {
			return
		}
		if reply == nil {
			continue // an unacknowledged write
		}
		if _, err := client.Write(reply); err != nil {
			return
		}
	}
}

var errCut = errors.New("cut by the script")

// answer gives the reply to a request, with its header.
func (s *scripted) answer(backend io.ReadWriter, request []byte) ([]byte, error) {
	command := commandOf(request)
	id := binary.LittleEndian.Uint32(request[4:])
	switch command {
	case "": // the first message of a connection, in the protocol's old form
		return s.shakeHands(backend, request)
	case "hello":
		if _, err := firstDocument(request).LookupErr("maxAwaitTimeMS"); err != nil {
			return s.shakeHands(backend, request)
		}
		return s.watch(backend, request)
	case "endSessions":
		return replyTo(id, bson.D{{Key: "ok", Value: 1}}), nil
	}
	l, scripted := s.next(command)
	if scripted && !l.apply {
		s.stepDown(l)
		return s.withVersion(id, l.reply), nil
	}
	reply, err := s.carryOut(backend, request)
	if err != nil || reply == nil || !scripted {
		return reply, err
	}
	s.stepDown(l)
	if l.seen != nil {
		l.seen <- struct{}{}
	}
	if l.gate != nil {
		select {
		case <-l.gate:
		case <-s.ctx.Done():
			return nil, s.ctx.Err()
		}
	}
	if l.cut {
		return nil, errCut
	}
	var fields bson.D
	if err := bson.Unmarshal(firstDocument(reply), &fields); err != nil {
		return nil, err
	}
	return replyTo(id, append(fields, l.reply...)), nil
}

// withVersion adds the topology's version to the answers of a member that steps down.
func (s *scripted) withVersion(id uint32, reply bson.D) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stepped {
		reply = append(slices.Clone(reply), s.version())
	}
	return replyTo(id, reply)
}

func (s *scripted) version() bson.E {
	return bson.E{Key: "topologyVersion", Value: bson.D{{Key: "processId", Value: s.process}, {Key: "counter", Value: s.counter}}}
}

// shakeHands answers hello: what the test server says of itself, but for what it is.
func (s *scripted) shakeHands(backend io.ReadWriter, request []byte) ([]byte, error) {
	reply, err := exchange(backend, request)
	if err != nil {
		return nil, err
	}
	var fields bson.D
	if err := bson.Unmarshal(firstDocument(reply), &fields); err != nil {
		return nil, err
	}
	fields = slices.DeleteFunc(fields, func(e bson.E) bool {
		return slices.Contains([]string{
			"arbiterOnly", "arbiters", "electionId", "helloOk", "hidden", "hosts", "ismaster", "isreplicaset", "isWritablePrimary",
			"lastWrite", "logicalSessionTimeoutMinutes", "me", "msg", "passive", "passives", "primary", "secondary", "setName",
			"setVersion", "topologyVersion", "$clusterTime", "operationTime",
		}, e.Key)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	fields = append(fields, bson.D{
		{Key: "helloOk", Value: true},
		{Key: "ismaster", Value: !s.stepped}, // in the old form
		{Key: "isWritablePrimary", Value: !s.stepped},
		{Key: "logicalSessionTimeoutMinutes", Value: 30},
		s.version(),
	}...)
	if s.set != "" {
		fields = append(fields, bson.D{
			{Key: "setName", Value: s.set},
			{Key: "setVersion", Value: 1},
			{Key: "hosts", Value: bson.A{s.address}},
			{Key: "me", Value: s.address},
			{Key: "secondary", Value: s.stepped},
		}...)
		if !s.stepped {
			fields = append(fields, bson.E{Key: "primary", Value: s.address})
		}
	}
	return envelope(reply, fields)
}

// watch answers a hello that wants to wait until the topology changes.
func (s *scripted) watch(backend io.ReadWriter, request []byte) ([]byte, error) {
	var hello struct {
		Wait    int64 `bson:"maxAwaitTimeMS"`
		Version struct {
			Counter int64 `bson:"counter"`
		} `bson:"topologyVersion"`
	}
	if err := bson.Unmarshal(firstDocument(request), &hello); err != nil {
		return nil, err
	}
	s.mu.Lock()
	counter, changed := s.counter, s.changed
	s.mu.Unlock()
	if counter == hello.Version.Counter {
		select {
		case <-changed:
		case <-time.After(time.Duration(hello.Wait) * time.Millisecond):
		case <-s.ctx.Done():
			return nil, s.ctx.Err()
		}
	}
	plain, err := without(request, "maxAwaitTimeMS", "topologyVersion")
	if err != nil {
		return nil, err
	}
	binary.LittleEndian.PutUint32(plain[16:], 0) // one reply, not a stream of them
	return s.shakeHands(backend, plain)
}

// carryOut passes a command on, unless it is one that was carried out before.
func (s *scripted) carryOut(backend io.ReadWriter, request []byte) ([]byte, error) {
	doc := firstDocument(request)
	plain, err := without(request, "lsid", "txnNumber", "$clusterTime", "$readPreference")
	if err != nil {
		return nil, err
	}
	number, err := doc.LookupErr("txnNumber")
	if err != nil {
		return exchange(backend, plain)
	}
	key := string(doc.Lookup("lsid").Value) + string(number.Value)
	s.mu.Lock()
	w := s.writes[key]
	if w == nil {
		w = &write{}
		s.writes[key] = w
	}
	s.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reply == nil {
		reply, err := exchange(backend, plain)
		if err != nil {
			return nil, err
		}
		w.reply = firstDocument(reply)
		return reply, nil
	}
	return replyTo(binary.LittleEndian.Uint32(request[4:]), w.reply), nil
}

// exchange asks the test server. The reply is nil if none comes, by the request's own wish.
func exchange(backend io.ReadWriter, request []byte) ([]byte, error) {
	if _, err := backend.Write(request); err != nil {
		return nil, err
	}
	const moreToCome = 1 << 1
	if binary.LittleEndian.Uint32(request[12:]) == opMsg && binary.LittleEndian.Uint32(request[16:])&moreToCome != 0 {
		return nil, nil
	}
	return readMessage(backend)
}

// documentStart is where a message's first document begins.
// https://www.mongodb.com/docs/manual/legacy-opcodes/
func documentStart(message []byte) int {
	const header, flags, kind, opReply = 16, 4, 1, 1
	if binary.LittleEndian.Uint32(message[12:]) == opReply {
		return header + flags + 8 + 4 + 4 // cursor, start, number
	}
	return header + flags + kind
}

// firstDocument returns a message's first document: the command, or the reply.
func firstDocument(message []byte) bson.Raw {
	doc := message[documentStart(message):]
	return bson.Raw(doc[:min(len(doc), int(binary.LittleEndian.Uint32(doc)))])
}

// envelope puts another document in the place of a message's first one.
func envelope(message []byte, doc any) ([]byte, error) {
	body, err := bson.Marshal(doc)
	if err != nil {
		return nil, err
	}
	start := documentStart(message)
	rest := message[start+len(firstDocument(message)):]
	framed := slices.Concat(message[:start], body, rest)
	binary.LittleEndian.PutUint32(framed, uint32(len(framed)))
	return framed, nil
}

// without takes fields out of a command.
func without(request []byte, names ...string) ([]byte, error) {
	var fields bson.D
	if err := bson.Unmarshal(firstDocument(request), &fields); err != nil {
		return nil, err
	}
	return envelope(request, slices.DeleteFunc(fields, func(e bson.E) bool { return slices.Contains(names, e.Key) }))
}

// setupScripted is [setup] with a scripted server in front of the test server.
func setupScripted(t testing.TB, set string, change ...func(*mongostore.Config)) (*fixture, *scripted) {
	t.Helper()
	s := startScripted(t, set)
	test := server(t)
	f := &fixture{t: t, log: &commandLog{}, wire: newFaults(), text: &logBuffer{}}
	f.coll = test.client.Database(test.database).Collection("c" + strconv.FormatInt(collections.Add(1), 10))
	t.Cleanup(func() { _ = f.coll.Drop(context.WithoutCancel(t.Context())) })
	f.cfg = mongostore.Config{
		Client:     s.client(f),
		Database:   test.database,
		Collection: f.coll.Name(),
		Cleanup:    mongostore.Off,
		Logger:     slog.New(slog.NewTextHandler(f.text, nil)),
		Timeout:    20 * time.Second,
	}
	for _, c := range change {
		c(&f.cfg)
	}
	f.store = f.open()
	f.log.reset()
	return f, s
}

// openWith opens a store with a short Timeout, but takes the time that it needs for that.
func (f *fixture) openWith(timeout time.Duration) *mongostore.Store {
	f.t.Helper()
	cfg := f.cfg
	cfg.Timeout = timeout
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	store, err := mongostore.Open(ctx, cfg, signingKey)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = store.Close(context.WithoutCancel(f.t.Context())) })
	return store
}

// TestScripted: the driver takes the scripted server for what it is to be.
func TestScripted(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"", "rs"} {
		f, s := setupScripted(t, set)
		b := f.browser().login()
		_, commands := f.log.take()
		for _, c := range commands {
			if _, err := c.LookupErr("txnNumber"); (err == nil) != (set != "") {
				t.Errorf("set %q: the driver would repeat %v: %t", set, c.Index(0).Key(), err == nil)
			}
			if _, err := c.LookupErr("lsid"); err != nil {
				t.Errorf("set %q: the driver knows of no sessions", set)
			}
		}
		f.wantDocuments(1)
		s.on("find", line{skip: 1, once: true, reply: refusal(13, "Unauthorized")})
		for i, want := range []bool{true, false, true} {
			if _, err := f.store.New(b.request(), name); (err == nil) != want {
				t.Errorf("set %q: find %d: %v", set, i, err)
			}
		}
		if n := s.count(); n != 1 {
			t.Errorf("set %q: %d commands were answered by the script, want 1", set, n)
		}
	}
}

// TestRepeatedWrites: where the driver repeats writes, no visitor notices lost answers or an
// election, and nothing is stored twice.
func TestRepeatedWrites(t *testing.T) {
	t.Parallel()
	for what, l := range map[string]line{
		"answer lost":           {apply: true, cut: true, once: true},
		"two answers lost":      {apply: true, cut: true, then: &line{apply: true, cut: true, once: true}},
		"lost, then stepped":    {apply: true, cut: true, then: &line{reply: steppedNow, once: true, steps: true, elect: true}},
		"stepped, then lost":    {reply: steppedNow, steps: true, elect: true, then: &line{apply: true, cut: true, once: true}},
		"stepped without a cut": {reply: steppedNow, once: true, steps: true, elect: true},
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
func repeatedWrites(t *testing.T, l line) error {
	f, s := setupScripted(t, "rs")
	meet := func(commands ...string) {
		for _, command := range commands {
			s.on(command, l)
		}
	}
	b := f.browser()
	session := b.load()
	meet("insert")
	if _, err := b.save(session); err != nil {
		return err
	}
	f.wantDocuments(1)
	session.Values["n"] = 2
	meet("update")
	if _, err := b.save(session); err != nil {
		return err
	}
	if rev := f.document().Lookup("rev").AsInt64(); rev != 2 {
		t.Errorf("one insert and one update have made it rev %d", rev)
	}
	old := b.clone()
	meet("insert", "update", "delete")
	if _, err := b.renew(session); err != nil {
		return err
	}
	if !old.load().IsNew {
		t.Error("the old ID works")
	}
	eventually(t, "there is one document", func() bool { return len(f.documents()) == 1 })
	if s := b.load(); s.Values["n"] != 2 {
		t.Errorf("values: %v", s.Values)
	}
	meet("delete")
	b.logout()
	if log := f.text.String(); log != "" {
		return errors.New(log)
	}
	f.wantDocuments(0)
	return nil
}

// TestOpenWithoutIndexes: what goes wrong with an index is a warning, and the store works.
func TestOpenWithoutIndexes(t *testing.T) {
	t.Parallel()
	for what, r := range map[string]func(*fixture, *scripted){
		"conflict":        func(_ *fixture, s *scripted) { s.on("createIndexes", line{reply: quoting(85, "IndexOptionsConflict")}) },
		"unauthorized":    func(_ *fixture, s *scripted) { s.on("createIndexes", line{reply: quoting(13, "Unauthorized")}) },
		"not implemented": func(_ *fixture, s *scripted) { s.on("createIndexes", line{reply: quoting(238, "NotImplemented")}) },
		"no code":         func(_ *fixture, s *scripted) { s.on("createIndexes", line{reply: bson.D{{Key: "ok", Value: 0}}}) },
		"no primary": func(_ *fixture, s *scripted) {
			s.on("createIndexes", line{reply: steppedNow, steps: true, elect: true, once: true})
		},
		"write concern":    func(_ *fixture, s *scripted) { s.on("createIndexes", line{apply: true, reply: bson.D{wtimeout}}) },
		"cut":              func(f *fixture, _ *scripted) { f.wire.on("createIndexes", rule{kind: refuse}) },
		"answer lost":      func(f *fixture, _ *scripted) { f.wire.on("createIndexes", rule{kind: loseAnswer}) },
		"garbage":          func(f *fixture, _ *scripted) { f.wire.on("createIndexes", rule{kind: garble}) },
		"torn document":    func(f *fixture, _ *scripted) { f.wire.on("createIndexes", rule{kind: damage}) },
		"nothing answered": func(f *fixture, _ *scripted) { f.wire.on("createIndexes", rule{kind: hang}) },
	} {
		for _, set := range []string{"", "rs"} {
			t.Run(what+" "+set, func(t *testing.T) {
				t.Parallel()
				f, s := setupScripted(t, set, func(c *mongostore.Config) { c.Timeout = 2 * time.Second })
				f.cfg.Cleanup, f.cfg.OwnerKey = mongostore.TTLIndex, "user"
				r(f, s)
				start := time.Now()
				f.store = f.open() // fails the test on an error
				if d := time.Since(start); d > patience {
					t.Errorf("Open took %v", d)
				}
				if n := f.wire.count() + s.count(); n == 0 {
					t.Error("no fault was injected")
				}
				log := f.text.String()
				if n := strings.Count(log, "level=WARN"); n < 1 || n > 2 || n != strings.Count(log, "index") {
					t.Errorf("log: %s", log)
				}
				f.wire.heal()
				s.heal()
				b := f.browser()
				b.store = f.store
				eventually(t, "a visitor can log in", func() bool {
					session, err := f.store.New(b.request(), name)
					if err != nil {
						return false
					}
					session.Values["user"] = "ada"
					_, err = b.save(session)
					return err == nil
				})
				if s := b.load(); s.Values["user"] != "ada" {
					t.Errorf("values: %v", s.Values)
				}
			})
		}
	}
}

// TestErrorWithoutCode: also where a server, or a proxy, says no more than a sentence, its
// words are not told.
func TestErrorWithoutCode(t *testing.T) {
	t.Parallel()
	f := setup(t)
	b := f.browser().login()
	session := b.load()
	session.Values["card"] = cardNumber
	f.wire.on("update", rule{kind: answer, reply: bson.D{{Key: "ok", Value: 0}, {Key: "errmsg", Value: "cannot set values.card: " + cardNumber}}})
	_, err := b.save(session)
	if !errors.Is(err, mongostore.ErrUnavailable) || strings.Contains(err.Error(), cardNumber) {
		t.Errorf("error: %v", err)
	}
	var server mongo.CommandError
	if !errors.As(err, &server) || !strings.Contains(server.Message, cardNumber) {
		t.Error("the server's words cannot be had")
	}
}

// TestRepetitionRefused: when an insert was carried out, its answer lost, and the
// driver's repetition of it refused, the document that nobody knows of is removed.
func TestRepetitionRefused(t *testing.T) {
	t.Parallel()
	f, s := setupScripted(t, "rs")
	f.store = f.openWith(soon)
	b := f.browser()
	session := b.load()
	s.on("insert", line{apply: true, cut: true, then: &line{reply: notPrimary}})
	if w, err := b.save(session); !errors.Is(err, mongostore.ErrUnavailable) || w.Header()["Set-Cookie"] != nil {
		t.Fatalf("first save: %v", err)
	}
	s.heal()
	eventually(t, "nothing is left of it", func() bool { return len(f.documents()) == 0 })
	eventually(t, "it can be saved", func() bool {
		_, err := b.save(session)
		return err == nil
	})
	eventually(t, "there is one document", func() bool { return len(f.documents()) == 1 })
}

// TestMisdelivered: a connection that has got out of step gives the answer to another
// visitor's request. Nobody gets another one's session.
func TestMisdelivered(t *testing.T) {
	t.Parallel()
	f := setup(t)
	eve, ada := f.browser(), f.browser()
	eve.do(func(s *sessions.Session) { s.Values["user"] = "eve" })
	theirs := f.document()
	ada.do(func(s *sessions.Session) { s.Values["user"] = "ada" })
	f.wire.on("find", rule{kind: answerAfter, reply: bson.D{
		{Key: "ok", Value: 1},
		{Key: "cursor", Value: bson.D{
			{Key: "id", Value: int64(0)},
			{Key: "ns", Value: f.coll.Database().Name() + "." + f.coll.Name()},
			{Key: "firstBatch", Value: bson.A{theirs}},
		}},
	}})
	session, err := f.store.New(ada.request(), name)
	if !errors.Is(err, mongostore.ErrUnavailable) || len(session.Values) > 0 {
		t.Errorf("loaded %v, %v", session.Values, err)
	}
	if w, err := ada.save(session); !errors.Is(err, mongostore.ErrUnavailable) || w.Header()["Set-Cookie"] != nil {
		t.Errorf("saved: %v", err)
	}
	f.wire.heal()
	for user, b := range map[string]*browser{"eve": eve, "ada": ada} {
		if s := b.load(); s.Values["user"] != user {
			t.Errorf("%s: %v", user, s.Values)
		}
	}
}

// TestConflictWithItself: under Reject, a save whose answer was lost and that is repeated by
// the application either succeeds or is a conflict; what it saved is there.
func TestConflictWithItself(t *testing.T) {
	t.Parallel()
	for _, set := range []string{"", "rs"} {
		f, s := setupScripted(t, set, func(c *mongostore.Config) { c.OnConflict = mongostore.Reject })
		b := f.browser().login()
		b.store = f.openWith(soon)
		var session *sessions.Session
		eventually(t, "the session can be loaded", func() (ok bool) {
			var err error
			session, err = b.store.New(b.request(), name)
			return err == nil
		})
		session.Values["n"] = 2
		gate := make(chan struct{})
		s.on("update", line{apply: true, once: true, gate: gate})
		if _, err := b.save(session); !errors.Is(err, mongostore.ErrUnavailable) {
			t.Fatalf("first save: %v", err)
		}
		close(gate)
		var err error
		eventually(t, "it can be saved again", func() bool {
			_, err = b.save(session)
			return !errors.Is(err, mongostore.ErrUnavailable)
		})
		if !errors.Is(err, mongostore.ErrConflict) {
			t.Errorf("second save: %v", err)
		}
		b.store = f.store
		if s := b.load(); s.Values["n"] != 2 {
			t.Errorf("values: %v", s.Values)
		}
	}
}
