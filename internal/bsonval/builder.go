package bsonval

import (
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// String returns the BSON string s.
func String(s string) Value { return Value{bson.TypeString, appendString(nil, s)} }

// Int returns i as an int32 if it fits, else as an int64.
func Int(i int64) Value {
	data, kind := appendInt(nil, i)
	return Value{kind, data}
}

// Binary returns the binary value b.
func Binary(b []byte) Value { return Value{bson.TypeBinary, appendBinary(nil, b)} }

// ObjectID returns the BSON value id.
func ObjectID(id bson.ObjectID) Value { return Value{bson.TypeObjectID, id[:]} }

// List returns the array of the elements.
func List(elements []Value) Value {
	size := 5
	for i := range elements {
		size += elements[i].Size() + 8
	}
	doc, start := beginDocument(make([]byte, 0, size))
	for i, v := range elements {
		doc = append(appendIndex(doc, v.Kind, i), v.Data...)
	}
	return Value{bson.TypeArray, endDocument(doc, start)}
}

// Builder builds one document, in which documents can be nested 7 levels deep. Its methods
// append elements to the innermost document that has begun and not ended.
type Builder struct {
	doc   []byte
	open  [maxOpen]opened // an array, so that a Builder can be on the stack
	depth int
}

// maxOpen is how deep documents can be nested in a Builder's.
const maxOpen = 8

// opened is where an embedded document's element, and its content, begin.
type opened struct{ element, content int }

// NewBuilder returns a Builder that has begun the outermost document, of about size bytes.
func NewBuilder(size int) *Builder {
	return &Builder{doc: make([]byte, 4, max(size, 4)), depth: 1} // the length comes last
}

// String appends a string.
func (b *Builder) String(name, s string) {
	b.doc = appendString(appendHeader(b.doc, bson.TypeString, name), s)
}

// Int appends i as an int32 if it fits, else as an int64.
func (b *Builder) Int(name string, i int64) {
	at := len(b.doc)
	doc, kind := appendInt(appendHeader(b.doc, 0, name), i)
	doc[at] = byte(kind)
	b.doc = doc
}

// Time appends a date, which has milliseconds.
func (b *Builder) Time(name string, t time.Time) {
	b.doc = appendInt64(appendHeader(b.doc, bson.TypeDateTime, name), t.UnixMilli())
}

// Null appends a null.
func (b *Builder) Null(name string) { b.doc = appendHeader(b.doc, bson.TypeNull, name) }

// Bool appends a boolean.
func (b *Builder) Bool(name string, v bool) {
	b.doc = appendBool(appendHeader(b.doc, bson.TypeBoolean, name), v)
}

// Value appends a value. The zero Value is omitted.
func (b *Builder) Value(name string, v Value) {
	if !v.IsZero() {
		b.doc = append(appendHeader(b.doc, v.Kind, name), v.Data...)
	}
}

// Begin begins an embedded document.
func (b *Builder) Begin(name string) {
	at := len(b.doc)
	b.doc = appendHeader(b.doc, bson.TypeEmbeddedDocument, name)
	b.begin(at)
}

// BeginArray begins an array. Its elements are to be named "0", "1" and so on.
func (b *Builder) BeginArray(name string) {
	at := len(b.doc)
	b.doc = appendHeader(b.doc, bson.TypeArray, name)
	b.begin(at)
}

func (b *Builder) begin(element int) {
	doc, content := beginDocument(b.doc)
	b.doc, b.open[b.depth] = doc, opened{element, content}
	b.depth++
}

// End ends the innermost document or array.
func (b *Builder) End() {
	b.depth--
	b.doc = endDocument(b.doc, b.open[b.depth].content)
}

// EndUnlessEmpty ends the innermost document or array, or removes it if it is empty: MongoDB
// before 5.0 refuses an empty operator in an update.
func (b *Builder) EndUnlessEmpty() {
	if innermost := b.open[b.depth-1]; len(b.doc) == innermost.content+4 {
		b.doc = b.doc[:innermost.element]
		b.depth--
		return
	}
	b.End()
}

// Document ends the outermost document, and those within that have not ended, and returns it.
func (b *Builder) Document() bson.Raw {
	for b.depth > 0 {
		b.End()
	}
	return b.doc
}

// The functions below append to dst, as append does.

// appendHeader begins an element; the value's bytes follow.
func appendHeader(dst []byte, kind bson.Type, name string) []byte {
	dst = append(dst, byte(kind))
	dst = append(dst, name...)
	return append(dst, 0)
}

// appendIndex begins the i-th element of an array.
func appendIndex(dst []byte, kind bson.Type, i int) []byte {
	dst = append(dst, byte(kind))
	dst = strconv.AppendInt(dst, int64(i), 10)
	return append(dst, 0)
}

func appendBool(dst []byte, b bool) []byte {
	if b {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// appendInt appends i as an int32 if it fits.
func appendInt(dst []byte, i int64) ([]byte, bson.Type) {
	if i == int64(int32(i)) {
		return appendInt32(dst, int32(i)), bson.TypeInt32
	}
	return appendInt64(dst, i), bson.TypeInt64
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

// beginDocument begins a document or an array; endDocument, given the position that
// beginDocument returned, ends it.
func beginDocument(dst []byte) ([]byte, int) {
	return append(dst, 0, 0, 0, 0), len(dst)
}

func endDocument(dst []byte, start int) []byte {
	dst = append(dst, 0)
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}
