package bsonval

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore/internal/safegob"
)

// Type is an application's type with the name that its values are stored under: see [TypeOf].
type Type struct {
	name   string
	goType reflect.Type
}

// TypeOf returns a Type that stores values of T under the given name, as BSON that the driver's
// bson package encodes with its struct tags and its default registry. A value may be a T
// or a pointer to one; it is decoded as a T. T may be a struct, a pointer to a struct, or
// any other type that bson.MarshalValue encodes and this package does not store by itself.
//
// T need not be registered with gob. If it is, values that gob stored before still decode.
//
// Fields may be added to T, and removed later: unknown fields are ignored, and missing ones are
// zero. Beware of what the bson package loses:
//   - A time.Time comes back in UTC, in whole milliseconds.
//   - Unexported fields are not stored, nor are embedded structs of an unexported type.
//   - A field of an interface type comes back as the bson package's default: a map or struct as a
//     bson.D, an array as a bson.A, an int as an int32 or int64, a time as a bson.DateTime, bytes
//     as a bson.Binary. A field of an interface type that has methods cannot be decoded, so a value
//     with one is not stored.
//   - A field with omitempty does not distinguish empty from nil.
//
// The names of fields, and the keys of maps in T, are stored as they are. MongoDB before 5.0
// refuses some of them, such as keys with a leading dollar sign.
func TypeOf[T any](name string) Type { return Type{name, reflect.TypeFor[T]()} }

// otherTags are reserved tags that are not in the table of kinds: of gob, of sealed values, and of
// types that are always stored bare.
var otherTags = []string{tagGob, "sealed", "nil", "bool", "int64", "bson.ObjectID"}

// registered is a Type in a Codec.
type registered struct {
	name    string
	base    reflect.Type // never a pointer
	pointer bool         // values are decoded as *base
}

// NewCodec returns a Codec for the given types. A name or a type that is used twice is an error,
// and so are an empty name and one that this package uses itself. T and *T are one type.
func NewCodec(types []Type) (*Codec, error) {
	c := &Codec{byName: map[string]*registered{}, byType: map[reflect.Type]*registered{}}
	for _, t := range types {
		if t.goType == nil {
			return nil, errors.New("a Type that TypeOf did not return")
		}
		r := &registered{name: t.name, base: t.goType}
		if r.pointer = t.goType.Kind() == reflect.Pointer; r.pointer {
			r.base = t.goType.Elem()
		}
		switch {
		case t.name == "" || !utf8.ValidString(t.name) || strings.Contains(t.name, "\x00"):
			return nil, fmt.Errorf("type %s: invalid name %q", t.goType, t.name)
		case kindsByTag[t.name] != nil || slices.Contains(otherTags, t.name):
			return nil, fmt.Errorf("type %s: the name %q is reserved", t.goType, t.name)
		case c.byName[t.name] != nil:
			return nil, fmt.Errorf("types %s and %s: both have the name %q", c.byName[t.name].base, t.goType, t.name)
		case c.byType[t.goType] != nil:
			return nil, fmt.Errorf("type %s: has the names %q and %q", t.goType, c.byType[t.goType].name, t.name)
		case r.base.Kind() == reflect.Interface || r.base.Kind() == reflect.Pointer,
			r.pointer && t.goType != reflect.PointerTo(r.base): // a named pointer type, which would not come back
			return nil, fmt.Errorf("type %s: neither a type with values nor a pointer to one", t.goType)
		case isNative(r.base):
			return nil, fmt.Errorf("type %s: needs no name", t.goType)
		case losesAll(r.base):
			return nil, fmt.Errorf("type %s: BSON stores no field of it, as none is exported", t.goType)
		}
		c.byName[t.name] = r
		c.byType[r.base], c.byType[reflect.PointerTo(r.base)] = r, r
	}
	return c, nil
}

// losesAll reports whether the bson package stores values of t, or its elements, as empty
// documents although they have fields.
func losesAll(t reflect.Type) bool {
	for range maxNesting { // a list may be of its own type
		if marshalsItself(t) {
			return false
		}
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			t = t.Elem()
		}
	}
	if t.Kind() != reflect.Struct || t.NumField() == 0 {
		return false
	}
	for i := range t.NumField() {
		if !omitted(t.Field(i)) {
			return false
		}
	}
	kind, data, err := bson.MarshalValue(reflect.New(t).Interface()) // it knows some such types, as bson.Decimal128
	return err == nil && kind == bson.TypeEmbeddedDocument && len(data) == len(emptyDocument)
}

var emptyDocument = []byte{5, 0, 0, 0, 0}

// append appends v, which is a base or a *base.
func (r *registered) append(dst []byte, v any, depth int) ([]byte, bson.Type, error) {
	kind, data, err := r.marshal(v)
	if err != nil {
		return dst, 0, err
	}
	content, err := Parse(kind, data)
	if err == nil {
		err = checkTree(content, maxNesting-depth)
	}
	if err != nil {
		return dst, 0, fmt.Errorf("type %s: %w", r.base, err)
	}
	doc, at, start := beginTagged(slices.Grow(dst, 40+len(r.name)+len(data)), r.name)
	return endTagged(append(doc, data...), at, start, kind), bson.TypeEmbeddedDocument, nil
}

func (r *registered) marshal(v any) (kind bson.Type, data []byte, err error) {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.Type() == r.base {
		p = reflect.New(r.base) // since the methods of *base encode only what is addressable
		p.Elem().Set(reflect.ValueOf(v))
	}
	if p.IsNil() {
		return 0, nil, errNil
	}
	if err := safegob.CheckDepth(p.Interface(), marshalsItself, omitted); err != nil {
		return 0, nil, err
	}
	defer r.recoverAs(&err)
	if kind, data, err = marshalSorted(p.Interface()); err != nil {
		// The error of a method may contain a value.
		if name, ok := strings.CutPrefix(err.Error(), "no encoder found for "); ok {
			return 0, nil, fmt.Errorf("type %s: BSON has no encoding for %s", r.base, name)
		}
		return 0, nil, fmt.Errorf("type %s cannot be encoded as BSON", r.base)
	}
	return kind, data, nil
}

// marshalSorted is bson.MarshalValue, but the keys of maps are sorted, unless they are inline. Go's
// order of a map is random, and a map in a field of an interface type is decoded as a bson.D,
// which would then differ each time.
func marshalSorted(v any) (bson.Type, []byte, error) {
	var buf bytes.Buffer
	enc := bson.NewEncoder(bson.NewDocumentWriter(&buf))
	enc.SetRegistry(sortingRegistry)
	if err := enc.Encode(bson.D{{Value: v}}); err != nil {
		return 0, nil, err
	}
	content, err := bson.Raw(buf.Bytes()).LookupErr("")
	return content.Type, content.Value, err
}

var (
	sortingRegistry = newSortingRegistry()
	unsortedMaps, _ = bson.NewRegistry().LookupEncoder(reflect.TypeFor[map[string]any]())
)

func newSortingRegistry() *bson.Registry {
	r := bson.NewRegistry()
	r.RegisterKindEncoder(reflect.Map, bson.ValueEncoderFunc(encodeSorted))
	return r
}

// encodeSorted encodes a map with sorted keys.
func encodeSorted(ec bson.EncodeContext, vw bson.ValueWriter, v reflect.Value) error {
	if v.IsNil() {
		return unsortedMaps.EncodeValue(ec, vw, v)
	}
	var buf bytes.Buffer
	if err := unsortedMaps.EncodeValue(ec, bson.NewDocumentWriter(&buf), v); err != nil {
		return err
	}
	elements, err := bson.Raw(buf.Bytes()).Elements()
	if err != nil {
		return err
	}
	slices.SortStableFunc(elements, func(a, b bson.RawElement) int { return strings.Compare(a.Key(), b.Key()) })
	b := NewBuilder(buf.Len())
	for _, e := range elements {
		b.Value(e.Key(), Value{e.Value().Type, e.Value().Value})
	}
	raw, err := ec.LookupEncoder(reflect.TypeFor[bson.Raw]())
	if err != nil {
		return err
	}
	return raw.EncodeValue(ec, vw, reflect.ValueOf(b.Document()))
}

// marshalsItself reports whether the bson package leaves the encoding of type t to its methods.
func marshalsItself(t reflect.Type) bool {
	for _, method := range []reflect.Type{reflect.TypeFor[bson.Marshaler](), reflect.TypeFor[bson.ValueMarshaler]()} {
		if t.Implements(method) || reflect.PointerTo(t).Implements(method) {
			return true
		}
	}
	return false
}

// omitted reports whether the bson package leaves out a field.
func omitted(field reflect.StructField) bool {
	return !field.IsExported() || field.Tag.Get("bson") == "-"
}

func (r *registered) decode(content Value) (v any, err error) {
	// The bson package follows nested values as deep as they go.
	if err := checkTree(content, 2*maxNesting); err != nil {
		return nil, fmt.Errorf("type %s: %w", r.base, err)
	}
	defer r.recoverAs(&err)
	p := reflect.New(r.base)
	// The copy is for methods that keep a part of their input.
	if err := bson.UnmarshalValue(content.Kind, slices.Clone(content.Data), p.Interface()); err != nil {
		return nil, fmt.Errorf("type %s cannot be decoded from its BSON", r.base) // err may contain a value
	}
	return r.shaped(p), nil
}

// recoverAs turns a panic of an application's method into an error. The panic's own text may
// contain a value.
func (r *registered) recoverAs(err *error) {
	if recover() != nil {
		*err = fmt.Errorf("type %s: its BSON encoding panicked", r.base)
	}
}

// shaped returns what p, a *base, points to, or p itself if the type was registered as a pointer.
func (r *registered) shaped(p reflect.Value) any {
	if r.pointer {
		return p.Interface()
	}
	return p.Elem().Interface()
}

// shaped returns v, which gob decoded, as its type is registered here: gob may know it as a
// pointer, or not.
func (c *Codec) shaped(v any) any {
	r, p := c.byType[reflect.TypeOf(v)], reflect.ValueOf(v)
	if r == nil || r.pointer == (p.Kind() == reflect.Pointer) {
		return v
	}
	if r.pointer {
		p = reflect.New(r.base)
		p.Elem().Set(reflect.ValueOf(v))
	}
	return r.shaped(p)
}

// checkTree returns an error if v is malformed, holds invalid text, or is nested deeper than a
// number of levels.
func checkTree(v Value, levels int) error {
	switch v.Kind {
	case bson.TypeEmbeddedDocument, bson.TypeArray:
		if levels <= 0 {
			return errTooDeep
		}
		return Each(v.Data, func(name []byte, v Value) error {
			if !utf8.Valid(name) {
				return errInvalidText
			}
			return checkTree(v, levels-1)
		})
	case bson.TypeString:
		if s, ok := v.Text(); !ok || !utf8.ValidString(s) {
			return errInvalidText
		}
	case bson.TypeCodeWithScope: // contains a document
		return errors.New("JavaScript code with scope")
	}
	return nil
}

var errInvalidText = errors.New("text that is not valid UTF-8")

// Verify returns an error if v cannot be read back. It decodes v only if it contains gob or a
// registered type, since that decoding is the application's.
func (c *Codec) Verify(v Value) error {
	if !holdsOpaque(v, 0) {
		return nil
	}
	_, err := c.Decode(v)
	return err
}

// holdsOpaque reports whether a value with a tag that is not in the table of kinds is anywhere in v,
// or may be.
func holdsOpaque(v Value, depth int) bool {
	if v.Kind != bson.TypeEmbeddedDocument && v.Kind != bson.TypeArray || !bytes.Contains(v.Data, []byte(TagType)) {
		return false
	}
	tag, content, ok, err := Tag(v)
	if err != nil || depth > 2*maxNesting || ok && kindsByTag[tag] == nil {
		return true
	}
	if ok {
		v = content // a map, which may look like a tagged value but is none
	}
	if v.Kind != bson.TypeEmbeddedDocument && v.Kind != bson.TypeArray {
		return false
	}
	return Each(v.Data, func(_ []byte, element Value) error {
		if holdsOpaque(element, depth+1) {
			return errTag
		}
		return nil
	}) != nil
}
