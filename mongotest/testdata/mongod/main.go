// Command mongod pretends to be MongoDB's, as far as the tests of this module
// need it: it wants the arguments of a replica set member, becomes the primary
// when it is told to initiate, and agrees to anything else.
package main

import (
	"context"
	"encoding/binary"
	"flag"
	"io"
	"log"
	"net"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// state is the replica set's.
type state struct {
	mu      sync.Mutex
	name    string // as the arguments have it
	primary bool
}

func main() {
	var s state
	flag.StringVar(&s.name, "replSet", "", "")
	everywhere := flag.Bool("bind_ip_all", false, "")
	flag.Parse()
	if s.name == "" || !*everywhere {
		log.Fatal("not started as a member of a replica set")
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(context.Background(), "tcp", ":27017")
	if err != nil {
		log.Fatal(err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			log.Print(s.serve(conn), conn.Close())
		}()
	}
}

func (s *state) serve(conn net.Conn) error {
	for {
		header := make([]byte, 16)
		if _, err := io.ReadFull(conn, header); err != nil {
			return err
		}
		body := make([]byte, binary.LittleEndian.Uint32(header)-16)
		if _, err := io.ReadFull(conn, body); err != nil {
			return err
		}
		var command bson.Raw
		reply := make([]byte, 16)
		if opcode := binary.LittleEndian.Uint32(header[12:]); opcode == 2004 { // OP_QUERY: the handshake
			command = body[4+len("admin.$cmd\x00")+8:]
			binary.LittleEndian.PutUint32(reply[12:], 1)       // OP_REPLY
			reply = append(reply, make([]byte, 16)...)         // flags, cursor, start
			reply = binary.LittleEndian.AppendUint32(reply, 1) // documents
		} else {
			command = body[5:]
			binary.LittleEndian.PutUint32(reply[12:], 2013) // OP_MSG
			reply = append(reply, make([]byte, 5)...)       // flags, kind
		}
		document, err := bson.Marshal(s.answer(command))
		if err != nil {
			return err
		}
		reply = append(reply, document...)
		binary.LittleEndian.PutUint32(reply, uint32(len(reply)))
		copy(reply[8:], header[4:8]) // response to
		if _, err := conn.Write(reply); err != nil {
			return err
		}
	}
}

func (s *state) answer(command bson.Raw) bson.M {
	s.mu.Lock()
	defer s.mu.Unlock()
	var name string
	if element, err := command.IndexErr(0); err == nil {
		name = element.Key()
	}
	switch name {
	case "hello", "isMaster", "ismaster":
		reply := bson.M{
			"ok": 1, "isWritablePrimary": s.primary, "ismaster": s.primary, "helloOk": true,
			"maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000,
			"logicalSessionTimeoutMinutes": 30, "minWireVersion": 0, "maxWireVersion": 25,
		}
		if s.primary {
			// The name is of no use outside of the container.
			reply["setName"], reply["hosts"], reply["me"] = s.name, bson.A{"localhost:27017"}, "localhost:27017"
		} else {
			reply["isreplicaset"] = true
		}
		return reply
	case "replSetInitiate":
		var initiate struct {
			Config struct {
				ID      string `bson:"_id"`
				Members []struct {
					ID   int    `bson:"_id"`
					Host string `bson:"host"`
				} `bson:"members"`
			} `bson:"replSetInitiate"`
		}
		err := bson.Unmarshal(command, &initiate)
		config := initiate.Config
		if err != nil || config.ID != s.name || len(config.Members) != 1 || config.Members[0].Host != "localhost:27017" {
			return bson.M{"ok": 0, "errmsg": "bad configuration", "code": 93}
		}
		s.primary = true
		return bson.M{"ok": 1}
	case "buildInfo":
		return bson.M{"ok": 1, "version": "8.0.4"}
	case "insert":
		// A driver that may retry numbers its writes.
		if _, err := command.LookupErr("txnNumber"); err != nil {
			return bson.M{"ok": 0, "errmsg": "not a retryable write", "code": 20}
		}
		return bson.M{"ok": 1, "n": 1}
	default:
		return bson.M{"ok": 1}
	}
}
