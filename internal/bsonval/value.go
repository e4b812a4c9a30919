// Package bsonval reads and writes BSON values in place, and converts between them and Go
// values. It knows nothing of sessions.
package bsonval

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// This file reads BSON as https://bsonspec.org defines it. The driver's own package for that,
// x/bsonx/bsoncore, is outside its promise of compatibility.

var errMalformed = errors.New("malformed BSON")

// Value is one BSON value: its type and its bytes, as they are in a document. The zero Value
// is no value. Other Values come from [Each], [Parse], a [Codec] or the functions of builder.go:
// the readers trust Data to be as long as Kind requires.
type Value struct {
	Kind bson.Type
	Data []byte
}

// Parse returns the value of the given type that data consists of.
func Parse(kind bson.Type, data []byte) (Value, error) {
	if size, ok := sizeOf(kind, data); !ok || size != len(data) {
		return Value{}, errMalformed
	}
	return Value{kind, data}, nil
}

// Each calls visit for every element of a document or array, until visit returns an error. The
// names and values passed to visit are parts of doc.
func Each(doc []byte, visit func(name []byte, v Value) error) error {
	if len(doc) < 5 || int64(binary.LittleEndian.Uint32(doc)) != int64(len(doc)) || doc[len(doc)-1] != 0 {
		return errMalformed
	}
	rest := doc[4 : len(doc)-1]
	for len(rest) > 0 {
		kind := bson.Type(rest[0])
		end := bytes.IndexByte(rest[1:], 0)
		if end < 0 {
			return errMalformed
		}
		name := rest[1 : 1+end : 1+end]
		rest = rest[end+2:]
		size, ok := sizeOf(kind, rest)
		if !ok || size > len(rest) {
			return errMalformed
		}
		if err := visit(name, Value{kind, rest[:size:size]}); err != nil {
			return err
		}
		rest = rest[size:]
	}
	return nil
}

// sizeOf returns the length of the value of the given type at the beginning of src. The length
// may exceed src.
func sizeOf(kind bson.Type, src []byte) (size int, ok bool) {
	switch kind {
	case bson.TypeNull, bson.TypeUndefined, bson.TypeMinKey, bson.TypeMaxKey:
		return 0, true
	case bson.TypeBoolean:
		return 1, true
	case bson.TypeInt32:
		return 4, true
	case bson.TypeDouble, bson.TypeDateTime, bson.TypeTimestamp, bson.TypeInt64:
		return 8, true
	case bson.TypeObjectID:
		return 12, true
	case bson.TypeDecimal128:
		return 16, true
	case bson.TypeString, bson.TypeJavaScript, bson.TypeSymbol:
		return prefixed(src, 4, 1)
	case bson.TypeDBPointer:
		return prefixed(src, 16, 1)
	case bson.TypeBinary:
		return prefixed(src, 5, 0)
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		return prefixed(src, 0, 5)
	case bson.TypeCodeWithScope:
		return prefixed(src, 0, 14)
	case bson.TypeRegex:
		pattern := bytes.IndexByte(src, 0)
		if pattern < 0 {
			return 0, false
		}
		options := bytes.IndexByte(src[pattern+1:], 0)
		return pattern + options + 2, options >= 0
	default:
		return 0, false
	}
}

// prefixed returns the size of a value that begins with its length: that length, which must be
// at least least, and extra bytes that it does not count.
func prefixed(src []byte, extra, least int) (int, bool) {
	if len(src) < 4 {
		return 0, false
	}
	n := int64(binary.LittleEndian.Uint32(src))
	if n < int64(least) || n > int64(len(src)-extra) { // also where an int has 32 bits
		return 0, false
	}
	return int(n) + extra, true
}

// IsZero reports whether v is no value.
func (v Value) IsZero() bool { return v.Kind == 0 }

// Equal reports whether v and w are the same to the byte.
func (v Value) Equal(w Value) bool { return v.Kind == w.Kind && bytes.Equal(v.Data, w.Data) }

// Size returns how many bytes v has in a document, with its type but without its name.
func (v Value) Size() int { return 1 + len(v.Data) }

// The readers below return false for a value of another type.

// Text returns a string.
func (v Value) Text() (string, bool) {
	if v.Kind != bson.TypeString || v.Data[len(v.Data)-1] != 0 {
		return "", false
	}
	return string(v.Data[4 : len(v.Data)-1]), true
}

// IsText reports whether v is the string s.
func (v Value) IsText(s string) bool {
	return v.Kind == bson.TypeString && string(v.Data[4:len(v.Data)-1]) == s && v.Data[len(v.Data)-1] == 0
}

// Integer returns a whole number of any numeric type: the shell turns integers into doubles
// easily.
func (v Value) Integer() (int64, bool) {
	switch v.Kind {
	case bson.TypeInt32:
		return int64(int32(binary.LittleEndian.Uint32(v.Data))), true
	case bson.TypeInt64:
		return int64(binary.LittleEndian.Uint64(v.Data)), true
	case bson.TypeDouble:
		f := v.double()
		return int64(f), f == math.Trunc(f) && math.Abs(f) < 1<<53
	default:
		return 0, false
	}
}

func (v Value) double() float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64(v.Data))
}

// Time returns a date, in UTC.
func (v Value) Time() (time.Time, bool) {
	if v.Kind != bson.TypeDateTime {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(binary.LittleEndian.Uint64(v.Data))).UTC(), true
}

func (v Value) boolean() (b, ok bool) {
	return v.Kind == bson.TypeBoolean && v.Data[0] == 1, v.Kind == bson.TypeBoolean && v.Data[0] <= 1
}

// Binary returns the bytes of a binary value of the generic subtype. They are a part of v.
func (v Value) Binary() ([]byte, bool) {
	if v.Kind != bson.TypeBinary || v.Data[4] != bson.TypeBinaryGeneric {
		return nil, false
	}
	return v.Data[5:], true
}

// Document returns an embedded document. It is a part of v.
func (v Value) Document() ([]byte, bool) {
	return v.Data, v.Kind == bson.TypeEmbeddedDocument
}

// List returns the elements of an array. They are parts of v.
func (v Value) List() ([]Value, bool) {
	if v.Kind != bson.TypeArray {
		return nil, false
	}
	elements := []Value{}
	err := Each(v.Data, func(name []byte, element Value) error {
		if !isIndex(name, len(elements)) {
			return errMalformed
		}
		elements = append(elements, element)
		return nil
	})
	return elements, err == nil
}

// isIndex reports whether an element of an array with this name is the i-th.
func isIndex(name []byte, i int) bool {
	var digits [20]byte
	return bytes.Equal(strconv.AppendInt(digits[:0], int64(i), 10), name)
}
