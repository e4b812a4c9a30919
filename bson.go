package mongostore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// This file reads and writes BSON in place, as https://bsonspec.org defines it.
// The driver's own tools for that, x/bsonx/bsoncore, are outside its promise of
// compatibility, and a library that used them would break in its users' builds.

// errMalformed is what a BSON document that does not follow the specification
// is refused with.
var errMalformed = errors.New("malformed BSON")

// value is one BSON value: its type and its bytes, as they stand in a document.
type value struct {
	kind bson.Type
	data []byte
}

// elements calls visit for every element of a document or array, until visit
// returns an error. The names and values passed to it are parts of doc.
func elements(doc []byte, visit func(name []byte, v value) error) error {
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
		name := rest[1 : 1+end]
		rest = rest[end+2:]
		size, ok := sizeOf(kind, rest)
		if !ok || size > len(rest) {
			return errMalformed
		}
		if err := visit(name, value{kind, rest[:size:size]}); err != nil {
			return err
		}
		rest = rest[size:]
	}
	return nil
}

// sizeOf returns the length of the value of the given type that src starts with.
// The length may exceed src.
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

// prefixed returns the size of a value that begins with its length: that length,
// which must be at least least, and extra bytes that it does not count.
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

// The readers below return false for a value of another type.

func (v value) text() (string, bool) {
	if v.kind != bson.TypeString || v.data[len(v.data)-1] != 0 {
		return "", false
	}
	return string(v.data[4 : len(v.data)-1]), true
}

func (v value) isText(s string) bool {
	return v.kind == bson.TypeString && string(v.data[4:len(v.data)-1]) == s
}

// integer reads any number that stands for a whole one: the shell turns integers
// into doubles easily.
func (v value) integer() (int64, bool) {
	switch v.kind {
	case bson.TypeInt32:
		return int64(int32(binary.LittleEndian.Uint32(v.data))), true
	case bson.TypeInt64:
		return int64(binary.LittleEndian.Uint64(v.data)), true
	case bson.TypeDouble:
		f := v.double()
		return int64(f), f == math.Trunc(f) && math.Abs(f) < 1<<53
	default:
		return 0, false
	}
}

func (v value) double() float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64(v.data))
}

func (v value) millis() (int64, bool) {
	if v.kind != bson.TypeDateTime {
		return 0, false
	}
	return int64(binary.LittleEndian.Uint64(v.data)), true
}

func (v value) boolean() (b, ok bool) {
	return v.kind == bson.TypeBoolean && v.data[0] == 1, v.kind == bson.TypeBoolean && v.data[0] <= 1
}

// binary returns the bytes of a generic binary value. They are a part of v.
func (v value) binary() ([]byte, bool) {
	if v.kind != bson.TypeBinary || v.data[4] != bson.TypeBinaryGeneric {
		return nil, false
	}
	return v.data[5:], true
}

// document returns the bytes of an embedded document. They are a part of v.
func (v value) document() ([]byte, bool) {
	return v.data, v.kind == bson.TypeEmbeddedDocument
}

// The writers below append to dst, as append does.

// appendHeader begins an element; the value's bytes are to follow.
func appendHeader(dst []byte, kind bson.Type, name string) []byte {
	dst = append(dst, byte(kind))
	dst = append(dst, name...)
	return append(dst, 0)
}

func appendElement(dst []byte, name string, v value) []byte {
	return append(appendHeader(dst, v.kind, name), v.data...)
}

func appendInt32(dst []byte, i int32) []byte {
	return binary.LittleEndian.AppendUint32(dst, uint32(i))
}

func appendInt64(dst []byte, i int64) []byte {
	return binary.LittleEndian.AppendUint64(dst, uint64(i))
}

func appendDouble(dst []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
}

func appendString(dst []byte, s string) []byte {
	dst = appendInt32(slices.Grow(dst, 4+len(s)+1), int32(len(s)+1))
	dst = append(dst, s...)
	return append(dst, 0)
}

func appendBinary(dst, b []byte) []byte {
	dst = appendInt32(slices.Grow(dst, 4+1+len(b)), int32(len(b)))
	dst = append(dst, bson.TypeBinaryGeneric)
	return append(dst, b...)
}

// openDocument begins a document or an array; closeDocument, given the position
// that openDocument returned, ends it.
func openDocument(dst []byte) ([]byte, int) {
	return append(dst, 0, 0, 0, 0), len(dst)
}

func closeDocument(dst []byte, start int) []byte {
	dst = append(dst, 0)
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}
