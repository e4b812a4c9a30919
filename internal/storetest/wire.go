package storetest

import (
	"encoding/binary"
	"errors"
	"io"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// This file reads and writes the messages of MongoDB's wire protocol:
// https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/

// ReadMessage reads one message of the protocol.
func ReadMessage(r io.Reader) ([]byte, error) {
	const header, most = 16, 48_000_000
	message := make([]byte, header)
	if _, err := io.ReadFull(r, message); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(message)
	if size < header || size > most {
		return nil, errors.New("a message of an impossible size")
	}
	message = append(message, make([]byte, size-header)...)
	_, err := io.ReadFull(r, message[header:])
	return message, err
}

// OpMsg is the opcode of messages with a command or its response.
const OpMsg = 2013

// CommandOf returns the name of the command in an OP_MSG message.
// https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
func CommandOf(message []byte) string {
	const header, flags, kind = 16, 4, 1
	if len(message) < header+flags+kind+6 || binary.LittleEndian.Uint32(message[12:]) != OpMsg {
		return ""
	}
	elements, err := bson.Raw(message[header+flags+kind:]).Elements()
	if len(elements) == 0 && err != nil {
		return ""
	}
	return elements[0].Key()
}

// ReplyTo returns the message that replies to a request.
func ReplyTo(request uint32, doc any) []byte {
	body, err := bson.Marshal(doc)
	if err != nil {
		return nil // the driver will find the connection broken
	}
	m := binary.LittleEndian.AppendUint32(nil, uint32(16+4+1+len(body)))
	m = binary.LittleEndian.AppendUint32(m, 1)
	m = binary.LittleEndian.AppendUint32(m, request)
	m = binary.LittleEndian.AppendUint32(m, OpMsg)
	m = append(m, 0, 0, 0, 0, 0)
	return append(m, body...)
}

// documentStart returns the offset of a message's first document.
// https://www.mongodb.com/docs/manual/legacy-opcodes/
func documentStart(message []byte) int {
	const header, flags, kind, opReply = 16, 4, 1, 1
	if binary.LittleEndian.Uint32(message[12:]) == opReply {
		return header + flags + 8 + 4 + 4 // cursor, start, number
	}
	return header + flags + kind
}

// FirstDocument returns the first document of a message: the command, or the response.
func FirstDocument(message []byte) bson.Raw {
	doc := message[documentStart(message):]
	return bson.Raw(doc[:min(len(doc), int(binary.LittleEndian.Uint32(doc)))])
}

// envelope replaces a message's first document.
func envelope(message []byte, doc any) ([]byte, error) {
	body, err := bson.Marshal(doc)
	if err != nil {
		return nil, err
	}
	start := documentStart(message)
	rest := message[start+len(FirstDocument(message)):]
	framed := slices.Concat(message[:start], body, rest)
	binary.LittleEndian.PutUint32(framed, uint32(len(framed)))
	return framed, nil
}

// without removes fields from a command.
func without(request []byte, names ...string) ([]byte, error) {
	var fields bson.D
	if err := bson.Unmarshal(FirstDocument(request), &fields); err != nil {
		return nil, err
	}
	return envelope(request, slices.DeleteFunc(fields, func(e bson.E) bool { return slices.Contains(names, e.Key) }))
}
