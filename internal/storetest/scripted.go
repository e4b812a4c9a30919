package storetest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
)

// Scripted is a server that responds according to its script, and forwards all other commands to
// the test server. So the database holds real data.
//
// To the driver it is the primary of a replica set, or a standalone server, regardless of the
// test server. The driver retries writes to a primary. Like MongoDB, the scripted server carries
// out a retried write once:
// https://www.mongodb.com/docs/manual/core/retryable-writes/
type Scripted struct {
	address string
	backend string // the test server's address
	Set     string // the replica set's name; empty on a standalone

	process bson.ObjectID // of the topology's version
	ctx     context.Context
	doing   sync.Mutex // held while a line's Do is called

	mu       sync.Mutex
	script   map[string]Line
	writes   map[string]*write // by session and number
	counter  int64             // of the topology's version
	stepped  bool              // down: this server is not the primary
	changed  chan struct{}     // closed when the topology changes
	conns    map[net.Conn]struct{}
	answered int // the number of responses by the script
}

// Line is a line of the script: the response to a command.
type Line struct {
	Skip  int           // this number of commands of the name is forwarded before
	Once  bool          // only to one command
	Apply bool          // the command is carried out first, and Reply is added to the true response
	Reply bson.D        // nil for only the true response
	Seen  chan struct{} // a send for each command that was carried out
	Gate  chan struct{} // the response is held back until it is closed; nil for no wait
	Cut   bool          // the connection breaks instead of a response
	Steps bool          // the primary steps down with the response
	Elect bool          // and is elected again shortly after
	Then  *Line         // the response to later commands of the name

	Do func(command bson.Raw) // is called before Reply is sent, one call at a time
}

// write is a write that the driver may retry.
type write struct {
	mu    sync.Mutex // held while it is carried out
	reply bson.Raw   // nil until then
}

// startScripted starts a server, and stops it with the test.
func startScripted(t testing.TB, set string) *Scripted {
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
	s := &Scripted{
		address: listener.Addr().String(),
		backend: backend,
		Set:     set,
		process: bson.NewObjectID(),
		ctx:     ctx,
		script:  map[string]Line{},
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

// backendAddress is the address where the test server accepts writes.
var backendAddress = sync.OnceValues(func() (string, error) {
	s, err := StartServer()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var hello struct {
		Primary string `bson:"primary"`
	}
	if err := s.Client.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
		return "", err
	}
	if hello.Primary != "" {
		return hello.Primary, nil
	}
	return options.Client().ApplyURI(s.URI).Hosts[0], nil
})

// Client returns a client of the scripted server. Its commands are logged, and the fixture's
// faults affect it.
func (s *Scripted) Client(f *Fixture, change ...func(*options.ClientOptions)) *mongo.Client {
	f.T.Helper()
	direct := options.Client().ApplyURI(Server(f.T).URI)
	if direct.TLSConfig != nil {
		f.T.Skip("needs a server without TLS: the scripted server reads what passes")
	}
	opts := options.Client().SetHosts([]string{s.address})
	if direct.Auth != nil {
		opts.SetAuth(*direct.Auth)
	}
	if s.Set != "" {
		opts.SetReplicaSet(s.Set)
	}
	client := f.connect(opts, change...)
	f.T.Cleanup(s.Heal) // before the client is disconnected
	return client
}

// URI returns the address that a client connects to.
func (s *Scripted) URI() string {
	uri := "mongodb://" + s.address + "/"
	if s.Set != "" {
		uri += "?replicaSet=" + s.Set
	}
	return uri
}

// On sets the response to the commands of a name.
func (s *Scripted) On(command string, l Line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script[command] = l
}

// Heal ends the script, and makes this server the primary again.
func (s *Scripted) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.script)
	if s.stepped {
		s.turn(false)
	}
}

// Count returns the number of commands that the script has responded to.
func (s *Scripted) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answered
}

// turn changes the topology. The caller holds the lock.
func (s *Scripted) turn(stepped bool) {
	s.stepped = stepped
	s.counter++
	close(s.changed)
	s.changed = make(chan struct{})
}

// next returns the line for a command.
func (s *Scripted) next(command string) (Line, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.script[command]
	if ok && l.Skip > 0 {
		l.Skip--
		s.script[command] = l
		return Line{}, false
	}
	switch {
	case ok && l.Then != nil:
		s.script[command] = *l.Then
	case ok && l.Once:
		delete(s.script, command)
	}
	if ok {
		s.answered++
	}
	if !ok && s.stepped {
		return Line{Reply: NotPrimary}, true
	}
	return l, ok
}

// stepDown applies a line's changes to the topology.
func (s *Scripted) stepDown(l Line) {
	if !l.Steps {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stepped {
		s.turn(true)
	}
	if l.Elect {
		time.AfterFunc(50*time.Millisecond, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.stepped {
				s.turn(false)
			}
		})
	}
}

// Parts of the responses of a server that is no longer the primary, with the labels of MongoDB
// 4.4 and later.
var (
	Retryable  = bson.E{Key: "errorLabels", Value: bson.A{"RetryableWriteError"}}
	NotPrimary = append(Refusal(10107, "NotWritablePrimary"), Retryable)
	WTimeout   = bson.E{Key: "writeConcernError", Value: bson.D{
		{Key: "code", Value: 64}, {Key: "codeName", Value: "WriteConcernTimeout"}, {Key: "errmsg", Value: "waiting for replication timed out"},
	}}
	SteppedNow = append(Refusal(189, "PrimarySteppedDown"), Retryable)
)

// serve serves one connection, using a separate connection to the test server. Any error closes
// both.
func (s *Scripted) serve(client net.Conn) {
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
		request, err := ReadMessage(client)
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

// answer returns the reply to a request, with its header.
func (s *Scripted) answer(backend io.ReadWriter, request []byte) ([]byte, error) {
	command := CommandOf(request)
	id := binary.LittleEndian.Uint32(request[4:])
	switch command {
	case "": // the first message of a connection, in the protocol's old form
		return s.shakeHands(backend, request)
	case "hello":
		if _, err := FirstDocument(request).LookupErr("maxAwaitTimeMS"); err != nil {
			return s.shakeHands(backend, request)
		}
		return s.watch(backend, request)
	case "endSessions":
		return ReplyTo(id, bson.D{{Key: "ok", Value: 1}}), nil
	}
	l, scripted := s.next(command)
	if scripted && l.Do != nil {
		s.doing.Lock()
		l.Do(FirstDocument(request))
		s.doing.Unlock()
	}
	if scripted && !l.Apply {
		s.stepDown(l)
		return s.withVersion(id, l.Reply), nil
	}
	reply, err := s.carryOut(backend, request)
	if err != nil || reply == nil || !scripted {
		return reply, err
	}
	s.stepDown(l)
	if l.Seen != nil {
		l.Seen <- struct{}{}
	}
	if l.Gate != nil {
		select {
		case <-l.Gate:
		case <-s.ctx.Done():
			return nil, s.ctx.Err()
		}
	}
	if l.Cut {
		return nil, errCut
	}
	var fields bson.D
	if err := bson.Unmarshal(FirstDocument(reply), &fields); err != nil {
		return nil, err
	}
	return ReplyTo(id, append(fields, l.Reply...)), nil
}

// withVersion adds the topology's version to the responses of a member that steps down.
func (s *Scripted) withVersion(id uint32, reply bson.D) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stepped {
		reply = append(slices.Clone(reply), s.version())
	}
	return ReplyTo(id, reply)
}

func (s *Scripted) version() bson.E {
	return bson.E{Key: "topologyVersion", Value: bson.D{{Key: "processId", Value: s.process}, {Key: "counter", Value: s.counter}}}
}

// shakeHands responds to hello with the test server's response, except for the kind of server.
func (s *Scripted) shakeHands(backend io.ReadWriter, request []byte) ([]byte, error) {
	reply, err := exchange(backend, request)
	if err != nil {
		return nil, err
	}
	var fields bson.D
	if err := bson.Unmarshal(FirstDocument(reply), &fields); err != nil {
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
	if s.Set != "" {
		fields = append(fields, bson.D{
			{Key: "setName", Value: s.Set},
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

// watch responds to a hello that waits for a change of the topology.
func (s *Scripted) watch(backend io.ReadWriter, request []byte) ([]byte, error) {
	var hello struct {
		Wait    int64 `bson:"maxAwaitTimeMS"`
		Version struct {
			Counter int64 `bson:"counter"`
		} `bson:"topologyVersion"`
	}
	if err := bson.Unmarshal(FirstDocument(request), &hello); err != nil {
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

// carryOut forwards a command, unless it was carried out before.
func (s *Scripted) carryOut(backend io.ReadWriter, request []byte) ([]byte, error) {
	doc := FirstDocument(request)
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
		w.reply = FirstDocument(reply)
		return reply, nil
	}
	return ReplyTo(binary.LittleEndian.Uint32(request[4:]), w.reply), nil
}

// exchange sends a request to the test server. The reply is nil if the request expects none.
func exchange(backend io.ReadWriter, request []byte) ([]byte, error) {
	if _, err := backend.Write(request); err != nil {
		return nil, err
	}
	const moreToCome = 1 << 1
	if binary.LittleEndian.Uint32(request[12:]) == OpMsg && binary.LittleEndian.Uint32(request[16:])&moreToCome != 0 {
		return nil, nil
	}
	return ReadMessage(backend)
}

// SetupScripted is [Setup] with a scripted server in front of the test server: the primary of
// a replica set of the name, or a standalone server if the name is empty.
func SetupScripted(t testing.TB, set string, change ...func(*mongostore.Config)) (*Fixture, *Scripted) {
	t.Helper()
	f, s := newFixture(t), startScripted(t, set)
	f.start(s.Client(f), change)
	return f, s
}
