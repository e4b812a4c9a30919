package bench

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	eventv1 "go.mongodb.org/mongo-driver/event"
	mongov1 "go.mongodb.org/mongo-driver/mongo"
	optionsv1 "go.mongodb.org/mongo-driver/mongo/options"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// Traffic is what went to the server and came from it.
type Traffic struct {
	Sent     int64 // bytes on the wire
	Received int64
	Commands int64
	Payload  int64 // bytes of the commands' documents, a part of Sent
	Written  int64 // bytes of those that write, a part of Payload
}

func (t Traffic) sub(u Traffic) Traffic {
	return t.add(u, -1)
}

// add returns t plus n times u.
func (t Traffic) add(u Traffic, n int64) Traffic {
	return Traffic{
		Sent:     t.Sent + n*u.Sent,
		Received: t.Received + n*u.Received,
		Commands: t.Commands + n*u.Commands,
		Payload:  t.Payload + n*u.Payload,
		Written:  t.Written + n*u.Written,
	}
}

// Meter counts traffic. It costs a little, so what is timed goes without.
type Meter struct {
	sent, received, commands, payload, written atomic.Int64
}

// Read returns what was counted so far.
func (m *Meter) Read() Traffic {
	return Traffic{m.sent.Load(), m.received.Load(), m.commands.Load(), m.payload.Load(), m.written.Load()}
}

func (m *Meter) command(name string, size int) {
	if name == "ping" || name == "endSessions" {
		return // the driver's own
	}
	m.commands.Add(1)
	m.payload.Add(int64(size))
	if name != "find" {
		m.written.Add(int64(size))
	}
}

// dialer opens connections; those of the drivers themselves would be counted too,
// but the drivers keep still for [quiet].
type dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// quiet is the time between two heartbeats of a driver.
const quiet = 10 * time.Minute

type meteredDialer struct {
	dialer
	meter *Meter
}

func (d meteredDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return meteredConn{conn, d.meter}, nil
}

type meteredConn struct {
	net.Conn
	meter *Meter
}

func (c meteredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.meter.received.Add(int64(n))
	return n, err
}

func (c meteredConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.meter.sent.Add(int64(n))
	return n, err
}

// Env is where contenders run.
type Env struct {
	URI      string
	Database string
	TTL      bool   // the server has TTL indexes
	Meter    *Meter // nil where nothing is counted

	dialer dialer // nil for the network's
	dir    string // where the embedded server has its files; empty for other servers
}

// connect returns a client of the driver's second version.
func (e *Env) connect() (*mongo.Client, error) {
	opts := options.Client().ApplyURI(e.URI).SetHeartbeatInterval(quiet).SetServerMonitoringMode("poll")
	if d := e.dial(); d != nil {
		opts.SetDialer(d)
	}
	if m := e.Meter; m != nil {
		opts.SetMonitor(&event.CommandMonitor{Started: func(_ context.Context, ev *event.CommandStartedEvent) {
			m.command(ev.CommandName, len(ev.Command))
		}})
	}
	return mongo.Connect(opts)
}

// connectV1 returns a client of the driver's first version.
func (e *Env) connectV1(ctx context.Context) (*mongov1.Client, error) {
	opts := optionsv1.Client().ApplyURI(e.URI).SetHeartbeatInterval(quiet).SetServerMonitoringMode("poll")
	if d := e.dial(); d != nil {
		opts.SetDialer(d)
	}
	if m := e.Meter; m != nil {
		opts.SetMonitor(&eventv1.CommandMonitor{Started: func(_ context.Context, ev *eventv1.CommandStartedEvent) {
			m.command(ev.CommandName, len(ev.Command))
		}})
	}
	return mongov1.Connect(ctx, opts)
}

func (e *Env) dial() dialer {
	d := e.dialer
	if e.Meter == nil {
		return d
	}
	if d == nil {
		d = &net.Dialer{}
	}
	return meteredDialer{d, e.Meter}
}
