package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"strings"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// memory answers a driver from inside the process, at once and without a goroutine or
// an allocation per command, so that what is measured over it is the client alone. It
// knows as much of MongoDB's protocol as a session needs: find, update and delete by _id,
// and insert. Of an update it carries out what is set to a value of the same length.
// https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
type memory struct {
	mu      sync.Mutex
	replies map[string]bson.Raw // to find, by the document's _id
}

func newMemory() *memory { return &memory{replies: map[string]bson.Raw{}} }

// env is the memory as a place for contenders.
func (m *memory) env() *Env {
	return &Env{URI: "mongodb://memory", Database: "bench", dialer: m}
}

// only returns the document, if there is one.
func (m *memory) only() bson.Raw {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, reply := range m.replies {
		return reply.Lookup("cursor", "firstBatch", "0").Document()
	}
	return nil
}

// take is only, and forgets the document.
func (m *memory) take() bson.Raw {
	doc := m.only()
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.replies)
	return doc
}

// DialContext returns a connection.
func (m *memory) DialContext(context.Context, string, string) (net.Conn, error) {
	c := &memoryConn{memory: m}
	c.filled.L = &c.mu
	return c, nil
}

var (
	memoryHello = mustMarshal(bson.D{
		{Key: "ok", Value: 1.0},
		{Key: "isWritablePrimary", Value: true},
		{Key: "logicalSessionTimeoutMinutes", Value: int32(30)},
		{Key: "maxBsonObjectSize", Value: int32(16 << 20)},
		{Key: "maxMessageSizeBytes", Value: int32(48e6)},
		{Key: "maxWriteBatchSize", Value: int32(1e5)},
		{Key: "minWireVersion", Value: int32(0)},
		{Key: "maxWireVersion", Value: int32(21)},
	})
	memoryOne  = mustMarshal(bson.D{{Key: "n", Value: int32(1)}, {Key: "nModified", Value: int32(1)}, {Key: "ok", Value: 1.0}})
	memoryNone = mustMarshal(bson.D{{Key: "n", Value: int32(0)}, {Key: "nModified", Value: int32(0)}, {Key: "ok", Value: 1.0}})
	memoryFind = foundReply()
)

// foundReply is the answer to a find.
func foundReply(docs ...bson.Raw) bson.Raw {
	if docs == nil {
		docs = []bson.Raw{}
	}
	return mustMarshal(bson.D{
		{Key: "cursor", Value: bson.D{
			{Key: "firstBatch", Value: docs},
			{Key: "id", Value: int64(0)},
			{Key: "ns", Value: "bench.own"},
		}},
		{Key: "ok", Value: 1.0},
	})
}

func mustMarshal(doc any) bson.Raw {
	raw, err := bson.Marshal(doc)
	if err != nil {
		panic(err) // of constants, and of documents that the driver has sent
	}
	return raw
}

// answer carries out a command, whose documents may follow in a sequence of their own.
func (m *memory) answer(command bson.Raw, sequence []byte) bson.Raw {
	m.mu.Lock()
	defer m.mu.Unlock()
	first, err := command.IndexErr(0)
	if err != nil {
		return memoryNone
	}
	switch first.Key() {
	case "find":
		if reply, ok := m.replies[key(command.Lookup("filter"))]; ok {
			return reply
		}
		return memoryFind
	case "insert":
		doc := bytes.Clone(argument(command, "documents", sequence))
		m.replies[bson.Raw(doc).Lookup("_id").StringValue()] = foundReply(doc)
		return memoryOne
	case "update":
		statement := argument(command, "updates", sequence)
		reply, ok := m.replies[key(statement.Lookup("q"))]
		if !ok {
			return memoryNone
		}
		doc, u := reply.Lookup("cursor", "firstBatch", "0").Document(), statement.Lookup("u").Document()
		set(doc, u, "$set")
		set(doc, u, "$max")
		return memoryOne
	case "delete":
		id := key(argument(command, "deletes", sequence).Lookup("q"))
		if _, ok := m.replies[id]; !ok {
			return memoryNone
		}
		delete(m.replies, id)
		return memoryOne
	default: // hello, ping, endSessions
		return memoryHello
	}
}

func key(filter bson.RawValue) string {
	id, _ := filter.Document().Lookup("_id").StringValueOK()
	return id
}

// argument returns the first statement of a command.
func argument(command bson.Raw, name string, sequence []byte) bson.Raw {
	if sequence != nil {
		return sequence
	}
	return command.Lookup(name, "0").Document()
}

// set overwrites fields in place with what the operator of the update says.
func set(doc, update bson.Raw, operator string) {
	fields, ok := update.Lookup(operator).DocumentOK()
	if !ok {
		return
	}
	elements, _ := fields.Elements()
	for _, e := range elements {
		name, inner, nested := strings.Cut(e.Key(), ".")
		old := doc.Lookup(name)
		if nested {
			old = doc.Lookup(name, inner)
		}
		if v := e.Value(); v.Type == old.Type && len(v.Value) == len(old.Value) {
			copy(old.Value, v.Value)
		}
	}
}

// Codes of messages.
const (
	opReply = 1
	opQuery = 2004
	opMsg   = 2013
)

// memoryConn answers what is written to it.
type memoryConn struct {
	memory *memory

	mu     sync.Mutex
	filled sync.Cond // or closed
	buf    []byte
	read   int
	closed bool
}

var _ net.Conn = (*memoryConn)(nil)

// Write accepts one whole message. The driver writes no parts.
func (c *memoryConn) Write(message []byte) (int, error) {
	const header = 16
	id, code := message[4:8], binary.LittleEndian.Uint32(message[12:])
	reply := memoryHello
	if code == opMsg {
		command, sequence := sections(message[header+4:])
		reply = c.memory.answer(command, sequence)
	}

	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read == len(c.buf) {
		c.buf, c.read = c.buf[:0], 0
	}
	length, kind := header+4+1, uint32(opMsg)
	if code == opQuery {
		length, kind = header+20, opReply
	}
	c.buf = binary.LittleEndian.AppendUint32(c.buf, uint32(length+len(reply)))
	c.buf = append(c.buf, 0, 0, 0, 0)
	c.buf = append(c.buf, id...)
	c.buf = binary.LittleEndian.AppendUint32(c.buf, kind)
	c.buf = append(c.buf, make([]byte, length-header)...) // no flags; a section of kind 0
	if kind == opReply {
		c.buf[len(c.buf)-4] = 1 // document
	}
	c.buf = append(c.buf, reply...)
	c.filled.Broadcast()
	return len(message), nil
}

// sections returns the command, and the first document of a sequence if there is one.
func sections(data []byte) (command, sequence bson.Raw) {
	for len(data) > 5 {
		kind, rest := data[0], data[1:]
		size := binary.LittleEndian.Uint32(rest)
		if kind == 0 {
			command = rest[:size]
		} else {
			_, sequence, _ = bytes.Cut(rest[4:size], []byte{0})
		}
		data = rest[size:]
	}
	return command, sequence
}

func (c *memoryConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.read == len(c.buf) && !c.closed {
		c.filled.Wait()
	}
	if c.closed {
		return 0, net.ErrClosed
	}
	n := copy(p, c.buf[c.read:])
	c.read += n
	return n, nil
}

// Close wakes a reader.
func (c *memoryConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.filled.Broadcast()
	return nil
}

func (c *memoryConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *memoryConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *memoryConn) SetDeadline(time.Time) error      { return nil }
func (c *memoryConn) SetReadDeadline(time.Time) error  { return nil }
func (c *memoryConn) SetWriteDeadline(time.Time) error { return nil }
