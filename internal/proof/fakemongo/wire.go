package fakemongo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// A message is a header of four int32 (length, request ID, response to, operation code) and a
// body. All numbers are little-endian.
// https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
const (
	headerSize = 16
	maxMessage = 48_000_000

	opReply = 1
	opQuery = 2004 // of a driver's first message
	opMsg   = 2013

	flagMoreToCome = 1 << 1 // the sender expects no answer
)

var errMessage = errors.New("malformed message")

// request is a message from a driver.
type request struct {
	id     uint32
	code   uint32
	body   bson.D
	silent bool // expects no answer
}

func readRequest(r io.Reader) (*request, error) {
	var header [headerSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(header[:])
	if size < headerSize || size > maxMessage {
		return nil, errMessage
	}
	rest := make([]byte, size-headerSize)
	if _, err := io.ReadFull(r, rest); err != nil {
		return nil, err
	}
	q := &request{id: binary.LittleEndian.Uint32(header[4:]), code: binary.LittleEndian.Uint32(header[12:])}
	var err error
	switch q.code {
	case opMsg:
		err = q.parseMsg(rest)
	case opQuery:
		err = q.parseQuery(rest)
	default:
		err = fmt.Errorf("operation code %d is not supported", q.code)
	}
	return q, err
}

// parseMsg reads flags and sections: one document of kind 0, and sequences of kind 1,
// which become arrays of the document.
func (q *request) parseMsg(rest []byte) error {
	if len(rest) < 4 {
		return errMessage
	}
	flags := binary.LittleEndian.Uint32(rest)
	q.silent = flags&flagMoreToCome != 0
	rest = rest[4:]
	if flags&1 != 0 && len(rest) >= 4 {
		rest = rest[:len(rest)-4] // a checksum
	}
	var sequences bson.D
	for len(rest) > 0 {
		kind := rest[0]
		rest = rest[1:]
		switch kind {
		case 0:
			doc, after, err := cutDocument(rest)
			if err != nil {
				return err
			}
			q.body, rest = doc, after
		case 1:
			if len(rest) < 4 {
				return errMessage
			}
			size := int(binary.LittleEndian.Uint32(rest))
			if size < 5 || size > len(rest) {
				return errMessage
			}
			section := rest[4:size]
			rest = rest[size:]
			end := 0
			for end < len(section) && section[end] != 0 {
				end++
			}
			if end == len(section) {
				return errMessage
			}
			name, docs := string(section[:end]), section[end+1:]
			list := bson.A{}
			for len(docs) > 0 {
				doc, after, err := cutDocument(docs)
				if err != nil {
					return err
				}
				list, docs = append(list, doc), after
			}
			sequences = append(sequences, bson.E{Key: name, Value: list})
		default:
			return errMessage
		}
	}
	if len(q.body) == 0 {
		return errMessage
	}
	q.body = append(q.body, sequences...)
	return nil
}

// parseQuery reads flags, the collection's name, two numbers and the command.
func (q *request) parseQuery(rest []byte) error {
	i := 4
	for i < len(rest) && rest[i] != 0 {
		i++
	}
	i += 1 + 8
	if i > len(rest) {
		return errMessage
	}
	doc, _, err := cutDocument(rest[i:])
	q.body = doc
	return err
}

func cutDocument(b []byte) (doc bson.D, rest []byte, err error) {
	if len(b) < 5 {
		return nil, nil, errMessage
	}
	size := int(binary.LittleEndian.Uint32(b))
	if size < 5 || size > len(b) {
		return nil, nil, errMessage
	}
	if err := bson.Unmarshal(b[:size], &doc); err != nil {
		return nil, nil, err
	}
	return doc, b[size:], nil
}

// reply returns the message that answers a request.
func (q *request) reply(doc bson.D) ([]byte, error) {
	body, err := bson.Marshal(doc)
	if err != nil {
		return nil, err
	}
	code := uint32(opMsg)
	prefix := make([]byte, 5) // flags, and the kind of section
	if q.code == opQuery {
		code = opReply
		prefix = make([]byte, 20) // flags, cursor, where it starts
		prefix[16] = 1            // and how many documents there are
	}
	m := binary.LittleEndian.AppendUint32(nil, uint32(headerSize+len(prefix)+len(body)))
	m = binary.LittleEndian.AppendUint32(m, 1)
	m = binary.LittleEndian.AppendUint32(m, q.id)
	m = binary.LittleEndian.AppendUint32(m, code)
	m = append(m, prefix...)
	return append(m, body...), nil
}
