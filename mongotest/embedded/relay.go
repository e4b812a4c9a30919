package embedded

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// relay stands between the clients and FerretDB and lets one command through
// at a time, over all connections.
//
// FerretDB reads, changes and writes a document in separate steps, so of two
// updates at once one can get lost. MongoDB updates a document atomically, and
// applications rely on it.
type relay struct {
	listener net.Listener
	backend  string // FerretDB's address

	command sync.Mutex // held while FerretDB works on a command

	clients  context.Context // done: no more requests
	hangUp   context.CancelFunc
	backends context.Context // done: no more replies either
	cutOff   context.CancelFunc
	handlers sync.WaitGroup
}

// newRelay starts to relay what comes in at the listener, until close.
func newRelay(ctx context.Context, listener net.Listener, backend string) *relay {
	r := &relay{listener: listener, backend: backend}
	r.backends, r.cutOff = context.WithCancel(ctx)
	r.clients, r.hangUp = context.WithCancel(r.backends)
	r.handlers.Go(r.accept)
	return r
}

// close hangs up on all clients, and returns when every goroutine has ended.
// FerretDB may finish what it is working on until the context is done.
func (r *relay) close(ctx context.Context) {
	r.hangUp()
	_ = r.listener.Close() // accept reports nothing that matters now
	defer context.AfterFunc(ctx, r.cutOff)()
	r.handlers.Wait()
	r.cutOff()
}

func (r *relay) accept() {
	for {
		client, err := r.listener.Accept()
		switch {
		case err == nil:
			r.handlers.Go(func() { r.handle(client) })
		case r.clients.Err() != nil || errors.Is(err, net.ErrClosed):
			return
		default:
			// Out of files, or a client that was gone already: it may pass.
			select {
			case <-r.clients.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// handle serves one client. Each has a connection to FerretDB of its own, since
// cursors and sessions belong to connections. Whatever goes wrong ends both
// connections, which is all that the protocol has to say about it.
func (r *relay) handle(client net.Conn) {
	defer closeWith(r.clients, client)()
	var dialer net.Dialer
	server, err := dialer.DialContext(r.clients, "tcp", r.backend)
	if err != nil {
		return
	}
	defer closeWith(r.backends, server)()

	requests, replies := bufio.NewReader(client), bufio.NewReader(server)
	for {
		// A request is read whole before the lock is taken, and its reply
		// written after the lock is released: a slow client delays itself only.
		request, err := readMessage(requests)
		if err != nil {
			return
		}
		reply, err := r.exchange(server, replies, request)
		if err != nil {
			return
		}
		if request.moreToCome() {
			continue // FerretDB answers even those, but the client expects nothing
		}
		for {
			if _, err = client.Write(reply); err != nil {
				return
			}
			if !reply.moreToCome() {
				break
			}
			// More replies to one request are a stream of reads. FerretDB sends
			// none today; should it begin to, they must not hold the lock.
			if reply, err = readMessage(replies); err != nil {
				return
			}
		}
	}
}

// exchange sends a request to FerretDB and returns the reply. The lock is kept
// until the reply is there, also when the client has gone meanwhile: only the
// reply says that FerretDB has finished.
func (r *relay) exchange(server net.Conn, replies io.Reader, request message) (message, error) {
	if request.mayWait() {
		// Nor does close wait for it.
		defer context.AfterFunc(r.clients, func() { _ = server.Close() })()
	} else {
		r.command.Lock()
		defer r.command.Unlock()
	}
	if _, err := server.Write(request); err != nil {
		return nil, err
	}
	return readMessage(replies)
}

// closeWith closes the connection as soon as the context is done. The function
// returned closes it now.
func closeWith(ctx context.Context, conn net.Conn) func() {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return func() {
		stop()
		_ = conn.Close()
	}
}

// message is one message of MongoDB's wire protocol: a header of four int32
// (length, request ID, response to, operation code), then the body. All
// numbers are little-endian. A body of OP_MSG begins with uint32 flags.
type message []byte

const (
	headerSize     = 16
	flagsSize      = 4
	maxMessageSize = 48_000_000 // also FerretDB's and MongoDB's limit

	opMsg          = 2013
	flagMoreToCome = 1 << 1
)

// readMessage reads one message. The error is io.EOF if there is none.
func readMessage(r io.Reader) (message, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(header[:])
	if size < headerSize || size > maxMessageSize {
		return nil, fmt.Errorf("message of %d bytes", size)
	}
	m := make(message, size)
	copy(m, header[:])
	_, err := io.ReadFull(r, m[headerSize:])
	return m, err
}

// isMsg reports whether the message is an OP_MSG, the only kind with flags.
func (m message) isMsg() bool {
	return len(m) >= headerSize+flagsSize && binary.LittleEndian.Uint32(m[12:]) == opMsg
}

// moreToCome reports whether the sender sends another message without waiting
// for an answer: a client with an unacknowledged write, a server that streams.
func (m message) moreToCome() bool {
	return m.isMsg() && binary.LittleEndian.Uint32(m[headerSize:])&flagMoreToCome != 0
}

// mayWait reports whether FerretDB may take its time over the request on
// purpose. That is getMore alone, which waits for new documents on a tailable
// cursor. It changes nothing, so it need not hold up the others.
func (m message) mayWait() bool {
	const body = headerSize + flagsSize + 1
	if !m.isMsg() || len(m) < body || m[body-1] != 0 { // section of kind 0: the command
		return false
	}
	element, err := bson.Raw(m[body:]).IndexErr(0)
	if err != nil {
		return false
	}
	key, err := element.KeyErr()
	return err == nil && key == "getMore"
}
