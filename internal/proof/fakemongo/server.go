package fakemongo

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Server is the server. The zero value is a standalone one.
type Server struct {
	// ReplicaSet makes it the primary of a replica set of one, so that drivers repeat writes.
	ReplicaSet bool

	// Intercept decides what happens to a command, on the connection's goroutine. It may wait.
	// What has to do with the connection alone (hello, ping, endSessions) is not passed to it.
	// It is to be set before the first connection is made.
	Intercept func(*Command) Fate

	mu      sync.Mutex
	colls   map[string]*collection
	replies map[string]bson.D // of retryable writes, by session and number
	cursors map[int64][]bson.D
	cursor  int64
	conns   map[net.Conn]bool
	closed  bool
	serving sync.WaitGroup
}

// Command is a command on its way to be carried out.
type Command struct {
	Name       string // "find"; "deleting" for the second step of a deletion of many
	From       string // of the dialer
	RequestID  int64  // of the message, as the driver's monitor says it
	Collection string
	Body       bson.D
}

// Fate is what happens to a command. The zero value is: the usual.
type Fate struct {
	Skip   bool   // it is not carried out
	Answer Answer // what becomes of the reply
	Error  bson.D // the reply, if it is not that of the command
	Append bson.D // added to the reply
}

// Answer is what becomes of a reply.
type Answer int

// The answers.
const (
	Sent Answer = iota
	Cut         // the connection breaks instead
	Half        // the connection breaks in the middle of the reply
	None        // nothing is sent, and the connection stays
)

var errClosed = errors.New("the server is closed")

// DialContext returns a connection to the server, whatever the address.
func (s *Server) DialContext(context.Context, string, string) (net.Conn, error) { return s.dial("") }

// Dialer returns a dialer for connections whose commands name their origin.
func (s *Server) Dialer(from string) Dialer { return Dialer{s, from} }

// Dialer is a dialer for a driver.
type Dialer struct {
	server *Server
	from   string
}

// DialContext returns a connection to the server, whatever the address.
func (d Dialer) DialContext(context.Context, string, string) (net.Conn, error) {
	return d.server.dial(d.from)
}

func (s *Server) dial(from string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	ours, theirs := net.Pipe()
	if s.conns == nil {
		s.conns = map[net.Conn]bool{}
	}
	s.conns[ours] = true
	s.serving.Go(func() { s.serve(ours, from) })
	return theirs, nil
}

// Close breaks all connections. No Intercept may be waiting.
func (s *Server) Close() {
	s.mu.Lock()
	s.closed = true
	for conn := range s.conns {
		_ = conn.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
}

func (s *Server) serve(conn net.Conn, from string) {
	defer func() {
		_ = conn.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, conn)
	}()
	for {
		q, err := readRequest(conn)
		if err != nil {
			return // the driver has hung up, or sends what no driver sends
		}
		reply, answer := s.handle(q, from)
		if q.silent && answer != Cut {
			continue
		}
		message, err := q.reply(reply)
		if err != nil {
			return
		}
		switch answer {
		case Cut:
			return
		case Half:
			_, _ = conn.Write(message[:len(message)/2])
			return
		case None:
			continue
		case Sent:
			if _, err := conn.Write(message); err != nil {
				return
			}
		}
	}
}

// handle carries out a command.
func (s *Server) handle(q *request, from string) (bson.D, Answer) {
	body := q.body
	c := &Command{Name: body[0].Key, From: from, RequestID: int64(q.id), Body: body}
	c.Collection, _ = body[0].Value.(string)
	if name, ok := lookup(body, "collection").(string); ok && c.Name == "getMore" {
		c.Collection = name
	}
	switch strings.ToLower(c.Name) {
	case "hello", "ismaster":
		return s.hello(), Sent
	case "ping", "endsessions", "buildinfo", "killcursors":
		return bson.D{{Key: "ok", Value: 1.0}}, Sent
	}
	var fate Fate
	if s.Intercept != nil {
		fate = s.Intercept(c)
	}
	var reply bson.D
	if fate.Skip {
		reply = bson.D{{Key: "ok", Value: 1.0}}
	} else {
		reply = s.once(c)
	}
	if fate.Error != nil {
		reply = slices.Clone(fate.Error)
	}
	reply = append(reply, fate.Append...)
	if s.ReplicaSet && lookup(body, "txnNumber") != nil && isRetryable(reply) {
		reply = append(reply, bson.E{Key: "errorLabels", Value: bson.A{"RetryableWriteError"}})
	}
	return reply, fate.Answer
}

// retryable are the codes of errors with which a server asks a driver to repeat a write.
var retryable = []int32{6, 7, 89, 91, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436}

func isRetryable(reply bson.D) bool {
	code, _ := lookup(reply, "code").(int32)
	if concern, ok := lookup(reply, "writeConcernError").(bson.D); ok {
		code, _ = lookup(concern, "code").(int32)
	}
	return slices.Contains(retryable, code)
}

func (s *Server) hello() bson.D {
	doc := bson.D{
		{Key: "helloOk", Value: true},
		{Key: "isWritablePrimary", Value: true},
		{Key: "ismaster", Value: true},
		{Key: "maxBsonObjectSize", Value: int32(16 << 20)},
		{Key: "maxMessageSizeBytes", Value: int32(maxMessage)},
		{Key: "maxWriteBatchSize", Value: int32(100_000)},
		{Key: "logicalSessionTimeoutMinutes", Value: int32(30)},
		{Key: "minWireVersion", Value: int32(0)},
		{Key: "maxWireVersion", Value: int32(21)},
		{Key: "readOnly", Value: false},
		{Key: "ok", Value: 1.0},
	}
	if s.ReplicaSet {
		doc = append(doc,
			bson.E{Key: "setName", Value: "rs"}, bson.E{Key: "setVersion", Value: int32(1)},
			bson.E{Key: "secondary", Value: false}, bson.E{Key: "hosts", Value: bson.A{Address}},
			bson.E{Key: "me", Value: Address}, bson.E{Key: "primary", Value: Address})
	}
	return doc
}

// Address is what the server calls itself. [Server.URI] has it.
const Address = "fake.invalid:27017"

// URI returns the connection string for a client, whose dialer has to be the server.
func (s *Server) URI() string {
	if s.ReplicaSet {
		return "mongodb://" + Address + "/?replicaSet=rs"
	}
	return "mongodb://" + Address + "/"
}

// once carries out a command, or looks up what it answered to an earlier attempt.
func (s *Server) once(c *Command) bson.D {
	key := ""
	if number, ok := lookup(c.Body, "txnNumber").(int64); ok {
		if !s.ReplicaSet {
			return failure(20, "IllegalOperation", "transaction numbers are only allowed on a replica set member or mongos")
		}
		session, _ := bson.Marshal(bson.D{{Key: "id", Value: lookup(c.Body, "lsid")}, {Key: "n", Value: number}})
		key = string(session)
		s.mu.Lock()
		reply, done := s.replies[key]
		s.mu.Unlock()
		if done {
			return slices.Clone(reply)
		}
	}
	reply := s.run(c)
	if key != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.replies == nil {
			s.replies = map[string]bson.D{}
		}
		s.replies[key] = slices.Clone(reply)
	}
	return reply
}

// Documents returns what a collection holds, in the order of insertion.
func (s *Server) Documents(name string) []bson.D {
	s.mu.Lock()
	defer s.mu.Unlock()
	var docs []bson.D
	for _, doc := range s.collection(name).docs {
		docs = append(docs, clone(doc))
	}
	return docs
}

func clone(doc bson.D) bson.D {
	c := make(bson.D, len(doc))
	for i, e := range doc {
		c[i] = bson.E{Key: e.Key, Value: cloneValue(e.Value)}
	}
	return c
}

// cloneValue copies what can be changed in place. Bytes are not.
func cloneValue(v any) any {
	switch v := v.(type) {
	case bson.D:
		return clone(v)
	case bson.A:
		c := make(bson.A, len(v))
		for i := range v {
			c[i] = cloneValue(v[i])
		}
		return c
	}
	return v
}

// lookup returns the value of a field, or nil.
func lookup(doc bson.D, key string) any {
	for _, e := range doc {
		if e.Key == key {
			return e.Value
		}
	}
	return nil
}

func has(doc bson.D, key string) bool {
	return slices.ContainsFunc(doc, func(e bson.E) bool { return e.Key == key })
}
