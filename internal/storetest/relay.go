package storetest

import (
	"context"
	"encoding/binary"
	"net"
	"strings"
	"sync"
	"testing"
)

// Relay returns a connection string that leads to the test server through the faults, for a
// program in another process. The connections have no TLS.
func (f *Faults) Relay(t testing.TB) (uri string) {
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
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			handlers.Go(func() { f.relay(ctx, client, backend) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		handlers.Wait()
	})
	return withHost(Server(t).URI, listener.Addr().String())
}

// relay passes the requests of a client to the server, and the replies to the client. An error
// of one connection closes the other.
func (f *Faults) relay(ctx context.Context, client net.Conn, backend string) {
	defer closeAfter(ctx, client)()
	server, err := f.DialContext(ctx, "tcp", backend)
	if err != nil {
		return
	}
	defer closeAfter(ctx, server)()
	for {
		request, err := ReadMessage(client)
		if err != nil {
			return
		}
		if _, err := server.Write(request); err != nil {
			return
		}
		for more := !moreToCome(request); more; {
			reply, err := ReadMessage(server)
			if err != nil {
				return
			}
			if _, err := client.Write(reply); err != nil {
				return
			}
			more = moreToCome(reply)
		}
	}
}

// closeAfter closes a connection when the context ends, or when the returned function is called.
func closeAfter(ctx context.Context, conn net.Conn) func() {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	return func() {
		stop()
		_ = conn.Close()
	}
}

// moreToCome reports whether the sender of a message sends another one before it gets a reply.
func moreToCome(message []byte) bool {
	const header, flag = 16, 1 << 1
	return binary.LittleEndian.Uint32(message[12:]) == OpMsg && binary.LittleEndian.Uint32(message[header:])&flag != 0
}

// withHost returns the connection string with one host, to which the driver connects directly.
func withHost(uri, host string) string {
	uri, query, _ := strings.Cut(uri, "?")
	scheme, address, _ := strings.Cut(uri, "://")
	hosts, database, _ := strings.Cut(address, "/")
	if user, _, ok := strings.Cut(hosts, "@"); ok {
		host = user + "@" + host
	}
	return scheme + "://" + host + "/" + database + "?" + strings.TrimPrefix(query+"&directConnection=true", "&")
}
