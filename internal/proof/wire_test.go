package proof

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// fault is what goes wrong with a command on its way.
type fault int

const (
	sound   fault = iota
	refuse        // the connection breaks before the command is sent
	lose          // the command is carried out, its answer lost
	cut           // the connection breaks as soon as the command is sent, which may still be carried out
	swallow       // nothing is sent, and nothing comes
	deny          // the server answers that it refuses the command
	concern       // the command is carried out, and the server answers that its write concern was not met
	faults        // how many there are
)

func (f fault) String() string {
	return [faults]string{"sound", "refused", "answer lost", "cut", "swallowed", "denied", "write concern failed"}[f]
}

// denied is the code of the error that a denied command gets: Unauthorized.
const denied = 13

var errFault = errors.New("broken by the test")

// wires is a dialer whose connections can go wrong. The driver writes each message at
// once, so each Write is one.
type wires struct {
	mu       sync.Mutex
	conns    map[*wire]struct{}
	plan     func(command string) fault // for the commands that concern sessions; nil while all are sound
	refusing bool                       // all that is sent or dialled
	frozen   chan struct{}              // closed at the thaw; nil if all gets through
	hits     [faults]atomic.Int64
	cuts     atomic.Int64 // connections cut with whatever was under way on them
}

func newWires() *wires { return &wires{conns: map[*wire]struct{}{}} }

// fail sets what happens to the commands from now on.
func (s *wires) fail(plan func(command string) fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plan = plan
}

func (s *wires) refuseAll(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refusing = on
}

// cutAll breaks all connections.
func (s *wires) cutAll() {
	for _, c := range s.all() {
		s.cuts.Add(1)
		_ = c.Conn.Close()
	}
}

// freeze lets nothing through until the thaw, in both directions.
func (s *wires) freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen == nil {
		s.frozen = make(chan struct{})
	}
}

func (s *wires) thaw() {
	s.mu.Lock()
	if s.frozen != nil {
		close(s.frozen)
		s.frozen = nil
	}
	s.mu.Unlock()
	for _, c := range s.all() {
		c.deliver()
	}
}

// heal ends all faults.
func (s *wires) heal() {
	s.fail(nil)
	s.refuseAll(false)
	s.thaw()
}

func (s *wires) all() []*wire {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*wire, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

// next says what happens to a command.
func (s *wires) next(command string) fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := sound
	switch {
	case s.refusing:
		f = refuse
	case s.plan != nil && slices.Contains([]string{"find", "insert", "update", "delete"}, command):
		f = s.plan(command)
		if f == concern && command == "find" {
			f = lose
		}
	}
	s.hits[f].Add(1)
	return f
}

func (s *wires) gate() chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frozen
}

func (s *wires) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if gate := s.gate(); gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	s.mu.Lock()
	refusing := s.refusing
	s.mu.Unlock()
	if refusing {
		return nil, errFault
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &wire{Conn: conn, wires: s, closed: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	return c, nil
}

// wire is a connection between the driver and the server.
type wire struct {
	net.Conn
	wires  *wires
	once   sync.Once
	closed chan struct{}

	mu     sync.Mutex
	reply  fault        // what is to happen to the next reply: lose or concern
	canned bytes.Buffer // to be read before anything else
	held   []byte       // to be sent at the thaw
}

func (c *wire) Close() error {
	c.wires.mu.Lock()
	delete(c.wires.conns, c)
	c.wires.mu.Unlock()
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (c *wire) Write(message []byte) (int, error) {
	f := c.wires.next(commandOf(message))
	switch f {
	case refuse:
		_ = c.Conn.Close()
		return 0, errFault
	case swallow:
		return len(message), nil
	case deny:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.canned.Write(replyTo(binary.LittleEndian.Uint32(message[4:]), bson.D{
			{Key: "ok", Value: 0}, {Key: "code", Value: denied}, {Key: "codeName", Value: "Unauthorized"}, {Key: "errmsg", Value: "by the test"},
		}))
		return len(message), nil
	case lose, concern:
		c.mu.Lock()
		c.reply = f
		c.mu.Unlock()
	}
	if err := c.send(message); err != nil {
		return 0, err
	}
	if f == cut {
		_ = c.Conn.Close()
	}
	return len(message), nil
}

// send passes a message on, or keeps it until the thaw.
func (c *wire) send(message []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.wires.gate() != nil {
		c.held = append(c.held, message...)
		return nil
	}
	_, err := c.Conn.Write(message)
	return err
}

// deliver sends what was held back, unless the driver has given up on it.
func (c *wire) deliver() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) > 0 {
		_, _ = c.Conn.Write(c.held) // the driver will find out
		c.held = nil
	}
}

func (c *wire) Read(p []byte) (int, error) {
	c.mu.Lock()
	f := c.reply
	c.reply = sound
	if c.canned.Len() > 0 {
		defer c.mu.Unlock()
		return c.canned.Read(p)
	}
	c.mu.Unlock()
	if f == sound {
		n, err := c.Conn.Read(p)
		if gate := c.wires.gate(); gate != nil {
			select {
			case <-gate:
			case <-c.closed:
			}
		}
		return n, err
	}
	reply, err := readMessage(c.Conn)
	if err != nil || f == lose {
		_ = c.Conn.Close()
		return 0, errors.Join(err, io.ErrUnexpectedEOF)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.canned.Write(withConcernError(reply))
	return c.canned.Read(p)
}

// A message is a header of four int32 (length, request ID, response to, operation code),
// flags, the byte 0, and a document; there may be more.
// https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
const (
	headerSize = 16
	bodyStart  = headerSize + 4 + 1
	opMsg      = 2013
)

func readMessage(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	length := binary.LittleEndian.Uint32(size[:])
	if length < bodyStart {
		return nil, errFault
	}
	message := make([]byte, length)
	copy(message, size[:])
	_, err := io.ReadFull(r, message[4:])
	return message, err
}

// commandOf returns the name of the command in a message.
func commandOf(message []byte) string {
	if len(message) <= bodyStart || binary.LittleEndian.Uint32(message[12:]) != opMsg {
		return ""
	}
	element, err := bson.Raw(message[bodyStart:]).IndexErr(0)
	if err != nil {
		return ""
	}
	return element.Key()
}

// withConcernError adds to a reply that the write concern was not met.
func withConcernError(reply []byte) []byte {
	var doc bson.D
	if err := bson.Unmarshal(reply[bodyStart:], &doc); err != nil {
		return reply // the driver will complain
	}
	doc = append(doc, bson.E{Key: "writeConcernError", Value: bson.D{
		{Key: "code", Value: 64}, {Key: "codeName", Value: "WriteConcernFailed"}, {Key: "errmsg", Value: "by the test"},
	}})
	return replyTo(binary.LittleEndian.Uint32(reply[8:]), doc)
}

// replyTo returns the reply to a request.
func replyTo(request uint32, doc bson.D) []byte {
	body, err := bson.Marshal(doc)
	if err != nil {
		return nil // the driver will find the connection broken
	}
	m := binary.LittleEndian.AppendUint32(nil, uint32(bodyStart+len(body)))
	m = binary.LittleEndian.AppendUint32(m, 1)
	m = binary.LittleEndian.AppendUint32(m, request)
	m = binary.LittleEndian.AppendUint32(m, opMsg)
	m = append(m, 0, 0, 0, 0, 0)
	return append(m, body...)
}
