package storetest

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
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Faults is a dialer that injects faults into the connections of a client, as a whole or for
// the commands of a name. It sees each message, since the driver writes each at once.
type Faults struct {
	mu    sync.Mutex
	down  bool          // connections are refused
	dark  chan struct{} // no data passes until it is closed; nil for no such fault
	rules map[string]Rule
	conns map[*wire]struct{}
	fired int // how many commands a rule has hit
}

// Rule is what happens to a command.
type Rule struct {
	Kind  int
	Reply bson.D        // of Answer and AnswerAfter
	Skip  int           // as many commands of the name pass before
	Once  bool          // only to one command
	Away  bool          // of Refuse and LoseAnswer: from then on the server cannot be reached
	Seen  chan struct{} // of Hold, Hang and Answer: a send for each command that arrives; of Late: once it is delivered
	Gate  chan struct{} // of Hold and Late: open once it is closed
}

// Kinds of rules. A command that is carried out reaches the server.
const (
	Pass        = iota
	Refuse      // the connection breaks before the command is sent
	LoseAnswer  // the command is carried out, and its response is lost
	Hang        // the command is not sent, and no response comes
	Hold        // the command is sent once the gate is open
	Answer      // the response is Reply, and the command is not sent to the server
	AnswerAfter // the command is carried out, and the response is Reply
	Late        // no response comes; once the gate is open the command is sent over another connection
	BlackHole   // from now on no data passes over any connection, old or new
	Slow        // the connection delays each message, from now on
	Throttle    // the connection passes a few bytes at a time, from now on
	EndReplies  // the command is carried out, and the server closes its side instead of a response
	EndRequests // the client's side of the connection is closed after the command
	Garble      // the command is carried out, and the response's header is corrupted
	Damage      // the command is carried out, and the response's document is truncated
	Misaddress  // the command is carried out, and the response is addressed to another request
)

const (
	latency = 20 * time.Millisecond // of Slow, each way
	chunk   = 32                    // bytes of Throttle, in each millisecond
)

// Constants of the tests with faults.
const (
	Soon       = time.Second        // the Timeout where a fault lasts until it
	Patience   = 10 * time.Second   // the Timeout elsewhere, and more than any call may take
	CardNumber = "4111111111111111" // a value that no error and no log may contain
)

// NewFaults returns a dialer whose connections have no faults yet.
func NewFaults() *Faults {
	return &Faults{rules: map[string]Rule{}, conns: map[*wire]struct{}{}}
}

// On sets the rule for the commands of a name.
func (f *Faults) On(command string, r Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules[command] = r
}

// RefuseAll cuts all connections and refuses new ones.
func (f *Faults) RefuseAll() {
	f.mu.Lock()
	f.down = true
	conns := slices.Collect(maps.Keys(f.conns))
	f.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

// Heal ends all faults. Data that was sent into a black hole is lost.
func (f *Faults) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = false
	if f.dark != nil {
		close(f.dark)
		f.dark = nil
	}
	clear(f.rules)
}

func (f *Faults) take(command string) Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.rules[command]
	switch {
	case r.Skip > 0:
		r.Skip--
		f.rules[command] = r
		r = Rule{}
	case r.Once:
		delete(f.rules, command)
	}
	if r.Kind != Pass {
		f.fired++
	}
	switch {
	case r.Kind == BlackHole && f.dark == nil:
		f.dark = make(chan struct{})
	case f.dark != nil: // for any command, including those that maintain connections
		r = Rule{Kind: Hang}
	}
	return r
}

// Count returns how many commands a fault has hit.
func (f *Faults) Count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fired
}

var errFault = errors.New("cut by the test")

// DialContext connects to the server, unless a fault prevents it.
func (f *Faults) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	f.mu.Lock()
	down, dark := f.down, f.dark
	f.mu.Unlock()
	if down {
		return nil, errFault
	}
	if dark != nil {
		select {
		case <-dark:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
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
	faults *Faults

	mu      sync.Mutex
	canned  bytes.Buffer // data to read instead of the server's reply
	spoil   int          // the kind of rule to apply to the next reply
	away    bool         // the server becomes unreachable with the next reply
	swap    bson.D       // replaces the next reply
	asked   uint32       // the ID of the request that swap replies to
	ended   bool         // there is no more data to read
	delayed bool         // by slow
	trickle bool         // by throttle
}

func (c *wire) Close() error {
	c.faults.mu.Lock()
	delete(c.faults.conns, c)
	c.faults.mu.Unlock()
	return c.Conn.Close()
}

func (c *wire) Write(message []byte) (int, error) {
	r := c.faults.take(CommandOf(message))
	switch r.Kind {
	case Refuse:
		if r.Away {
			c.faults.RefuseAll()
		}
		_ = c.Conn.Close()
		return 0, errFault
	case LoseAnswer, EndReplies, Garble, Damage, Misaddress:
		c.mu.Lock()
		c.spoil, c.away = r.Kind, r.Away
		c.mu.Unlock()
	case Hang, BlackHole:
		if r.Seen != nil {
			r.Seen <- struct{}{}
		}
		return len(message), nil
	case Late:
		go c.deliver(bytes.Clone(message), r)
		return len(message), nil
	case Hold:
		r.Seen <- struct{}{}
		<-r.Gate
	case Answer:
		if r.Seen != nil {
			r.Seen <- struct{}{}
		}
		c.mu.Lock()
		c.canned.Write(ReplyTo(binary.LittleEndian.Uint32(message[4:]), r.Reply))
		c.mu.Unlock()
		return len(message), nil
	case AnswerAfter:
		c.mu.Lock()
		c.swap, c.asked = r.Reply, binary.LittleEndian.Uint32(message[4:])
		c.mu.Unlock()
	case Slow, Throttle:
		c.mu.Lock()
		c.delayed, c.trickle = r.Kind == Slow, r.Kind == Throttle
		c.mu.Unlock()
	}
	c.mu.Lock()
	delayed, trickle := c.delayed, c.trickle
	c.mu.Unlock()
	if delayed {
		<-time.After(latency)
	}
	if trickle {
		return c.writeSlowly(message)
	}
	n, err := c.Conn.Write(message)
	if conn, ok := c.Conn.(*net.TCPConn); ok && r.Kind == EndRequests && err == nil {
		err = conn.CloseWrite()
	}
	return n, err
}

func (c *wire) writeSlowly(message []byte) (n int, err error) {
	for part := range slices.Chunk(message, chunk) {
		<-time.After(time.Millisecond)
		written, err := c.Conn.Write(part)
		n += written
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// deliver sends a message over a connection of its own, and waits for the reply.
func (c *wire) deliver(message []byte, r Rule) {
	defer func() { r.Seen <- struct{}{} }()
	<-r.Gate
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
	if c.ended {
		return 0, io.EOF
	}
	if c.spoil != Pass || c.swap != nil {
		// Without the lock: the driver may close the connection concurrently.
		c.mu.Unlock()
		reply, err := ReadMessage(c.Conn)
		c.mu.Lock()
		if err != nil {
			return 0, err
		}
		if err := c.replace(reply); err != nil {
			return 0, err
		}
	}
	if c.canned.Len() > 0 {
		return c.canned.Read(p)
	}
	delayed, trickle := c.delayed, c.trickle
	c.mu.Unlock()
	defer c.mu.Lock()
	if trickle {
		<-time.After(time.Millisecond)
		p = p[:min(len(p), chunk)]
	}
	n, err := c.Conn.Read(p)
	if delayed {
		<-time.After(latency)
	}
	return n, err
}

// replace replaces a reply.
func (c *wire) replace(reply []byte) error {
	spoil, away := c.spoil, c.away
	c.spoil, c.away = Pass, false
	switch spoil {
	case LoseAnswer:
		c.ended = true
		if away {
			c.faults.RefuseAll()
		}
		_ = c.Conn.Close()
		return io.EOF
	case EndReplies:
		c.ended = true // the driver's writes still arrive
		return io.EOF
	case Garble:
		copy(reply, "HTTP/1.1 400 Bad Request")
	case Damage:
		reply = reply[:len(reply)-len(reply)/4]
		binary.LittleEndian.PutUint32(reply, uint32(len(reply)))
	case Misaddress:
		reply[8]++ // the ID of the request that this replies to
	default:
		reply = ReplyTo(c.asked, c.swap)
		c.swap = nil
	}
	c.canned.Write(reply)
	return nil
}

// Refusal returns a server's response to a command that it has not carried out.
func Refusal(code int, codeName string) bson.D {
	return bson.D{{Key: "ok", Value: 0}, {Key: "code", Value: code}, {Key: "codeName", Value: codeName}, {Key: "errmsg", Value: codeName + ", says the test"}}
}

// Quoting returns a [Refusal] that quotes a value, [CardNumber], as MongoDB's errors do.
func Quoting(code int, codeName string) bson.D {
	reply := Refusal(code, codeName)
	reply[len(reply)-1].Value = codeName + `: { values: { card: "` + CardNumber + `" } }`
	return reply
}

// Slack is the extra time that a call may take on a busy machine. It is less than the time that
// doubling a Timeout twice would add.
const Slack = 2500 * time.Millisecond
