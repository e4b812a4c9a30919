package mongostore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// faults is a dialer that can make a client's wire go wrong: as a whole, or for the
// commands of a name. It sees each message, since the driver writes each at once.
type faults struct {
	mu    sync.Mutex
	down  bool
	rules map[string]rule
	conns map[*wire]struct{}
}

// rule says what happens to a command.
type rule struct {
	kind  int
	reply bson.D        // of answer
	once  bool          // only to the first one
	seen  chan struct{} // of hold, hang and answer: a send for each command that arrives; of late: once it is delivered
	gate  chan struct{} // of hold and late: open once it is closed
}

const (
	pass        = iota
	refuse      // the connection breaks before the command is sent
	loseAnswer  // the command is carried out, and its answer lost
	hang        // nothing is sent and nothing comes
	hold        // sent once the gate opens
	answer      // with a given document, without asking the server
	answerAfter // the command is carried out, and answered with a given document
	late        // nothing comes; once the gate opens it is sent over another connection
)

func newFaults() *faults {
	return &faults{rules: map[string]rule{}, conns: map[*wire]struct{}{}}
}

// on sets what happens to the commands of a name, from now on.
func (f *faults) on(command string, r rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules[command] = r
}

// refuseAll cuts all connections and refuses new ones.
func (f *faults) refuseAll() {
	f.mu.Lock()
	f.down = true
	conns := slices.Collect(maps.Keys(f.conns))
	f.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// heal ends all faults.
func (f *faults) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = false
	clear(f.rules)
}

func (f *faults) take(command string) rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.rules[command]
	if r.once {
		delete(f.rules, command)
	}
	return r
}

var errFault = errors.New("cut by the test")

func (f *faults) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	f.mu.Lock()
	down := f.down
	f.mu.Unlock()
	if down {
		return nil, errFault
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &wire{Conn: conn, faults: f}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = struct{}{}
	return c, nil
}

// wire is a connection between the driver and the server.
type wire struct {
	net.Conn
	faults *faults

	mu     sync.Mutex
	canned bytes.Buffer // what is to be read instead of the server's reply
	lose   bool         // the next reply
	swap   bson.D       // to take the place of the next reply
	asked  uint32       // the ID of the request that swap answers
}

func (c *wire) Close() error {
	c.faults.mu.Lock()
	delete(c.faults.conns, c)
	c.faults.mu.Unlock()
	return c.Conn.Close()
}

func (c *wire) Write(message []byte) (int, error) {
	r := c.faults.take(commandOf(message))
	switch r.kind {
	case refuse:
		_ = c.Conn.Close()
		return 0, errFault
	case loseAnswer:
		c.mu.Lock()
		c.lose = true
		c.mu.Unlock()
	case hang:
		if r.seen != nil {
			r.seen <- struct{}{}
		}
		return len(message), nil
	case late:
		go c.deliver(bytes.Clone(message), r)
		return len(message), nil
	case hold:
		r.seen <- struct{}{}
		<-r.gate
	case answer:
		if r.seen != nil {
			r.seen <- struct{}{}
		}
		c.mu.Lock()
		c.canned.Write(replyTo(binary.LittleEndian.Uint32(message[4:]), r.reply))
		c.mu.Unlock()
		return len(message), nil
	case answerAfter:
		c.mu.Lock()
		c.swap, c.asked = r.reply, binary.LittleEndian.Uint32(message[4:])
		c.mu.Unlock()
	}
	return c.Conn.Write(message)
}

// deliver sends a message over a connection of its own, and waits for the reply.
func (c *wire) deliver(message []byte, r rule) {
	defer func() { r.seen <- struct{}{} }()
	<-r.gate
	conn, err := (&net.Dialer{}).DialContext(context.Background(), c.RemoteAddr().Network(), c.RemoteAddr().String())
	if err != nil {
		return
	}
	defer conn.Close()
	if _, err := conn.Write(message); err == nil {
		_, _ = conn.Read(make([]byte, 4096))
	}
}

func (c *wire) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lose || c.swap != nil {
		var size [4]byte
		if _, err := io.ReadFull(c.Conn, size[:]); err != nil {
			return 0, err
		}
		if _, err := io.CopyN(io.Discard, c.Conn, int64(binary.LittleEndian.Uint32(size[:]))-4); err != nil {
			return 0, err
		}
		if c.lose {
			_ = c.Conn.Close()
			return 0, io.EOF
		}
		c.canned.Write(replyTo(c.asked, c.swap))
		c.swap = nil
	}
	if c.canned.Len() > 0 {
		return c.canned.Read(p)
	}
	c.mu.Unlock()
	defer c.mu.Lock()
	return c.Conn.Read(p)
}

const opMsg = 2013

// commandOf returns the name of the command that an OP_MSG message holds.
// https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
func commandOf(message []byte) string {
	const header, flags, kind = 16, 4, 1
	if len(message) < header+flags+kind+6 || binary.LittleEndian.Uint32(message[12:]) != opMsg {
		return ""
	}
	elements, err := bson.Raw(message[header+flags+kind:]).Elements()
	if len(elements) == 0 && err != nil {
		return ""
	}
	return elements[0].Key()
}

// replyTo makes the message that answers a request.
func replyTo(request uint32, doc bson.D) []byte {
	body, err := bson.Marshal(doc)
	if err != nil {
		return nil // the driver will find the connection broken
	}
	m := binary.LittleEndian.AppendUint32(nil, uint32(16+4+1+len(body)))
	m = binary.LittleEndian.AppendUint32(m, 1)
	m = binary.LittleEndian.AppendUint32(m, request)
	m = binary.LittleEndian.AppendUint32(m, opMsg)
	m = append(m, 0, 0, 0, 0, 0)
	return append(m, body...)
}

// refusal is a server's answer that it did not do what it was told.
func refusal(code int, codeName string) bson.D {
	return bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: code}, {Key: "codeName", Value: codeName}, {Key: "errmsg", Value: codeName + ", says the test"}}
}
