package bsonval

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"time"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore/internal/safegob"
)

// A value is stored bare if BSON returns the same Go type and value. Otherwise it is
// tagged, {_type: tag, _value: content}: see kinds.go, types.go, and gob for all other types.

// The fields of a tagged value.
const (
	TagType  = "_type"
	TagValue = "_value"
)

const tagGob = "gob"

// maxNesting is how deep lists, maps and the tags around them may be nested to be stored
// natively. MongoDB accepts 100 levels, of which the session's document needs some.
const maxNesting = 80

var (
	errTooDeep   = errors.New("nested too deeply")
	errNotNative = errors.New("nested too deeply for native storage")
	errNil       = errors.New("nil pointer")

	// errTag omits the tag, which in a damaged document may be anything.
	errTag = errors.New("unknown " + TagType)
)

// Codec converts Go values to BSON values and back. The zero Codec has no registered types. A
// Codec is safe for concurrent use.
//
// No error text of a Codec contains a part of a value.
type Codec struct {
	byName map[string]*registered
	byType map[reflect.Type]*registered // T and *T
}

// Encode returns the BSON value of v.
func (c *Codec) Encode(v any) (Value, error) {
	data, kind, err := c.Append(nil, v)
	if err != nil {
		return Value{}, err
	}
	return Value{kind, data}, nil
}

// Append appends the BSON value of v to dst and returns its type. Equal values of a type have
// equal bytes, except where gob or a registered type's own encoding is not canonical. After an
// error, the contents of the returned slice beyond len(dst) are undefined.
//
// A pointer is stored as what it points to, as gob flattens pointers. A nil pointer is an error.
func (c *Codec) Append(dst []byte, v any) ([]byte, bson.Type, error) {
	start := len(dst)
	dst, kind, err := c.append(dst, v, 0)
	if err == errNotNative { //nolint:errorlint // it is never wrapped
		dst, kind, err = appendGob(dst[:start], v)
	}
	return dst, kind, err
}

// walker is what encodes and decodes the elements of lists and maps: the Codec. The table of
// kinds names it by an interface, since a Codec's methods use the table.
type walker interface {
	append(dst []byte, v any, depth int) ([]byte, bson.Type, error)
	appendTagged(dst []byte, v any, depth int) ([]byte, bson.Type, error)
	decode(v Value, depth int) (any, error)
}

func (c *Codec) append(dst []byte, v any, depth int) ([]byte, bson.Type, error) {
	if dst, kind := appendScalar(dst, v); kind != 0 {
		return dst, kind, nil
	}
	switch v := v.(type) {
	case []any:
		if v != nil {
			return appendList(c, dst, v, depth)
		}
	case map[string]any:
		if _, likeTagged := v[TagType]; v != nil && !likeTagged {
			return appendMap(c, dst, v, depth)
		}
	}
	return c.appendTagged(dst, v, depth)
}

// appendScalar appends a value that is stored bare and is neither list nor map. It returns the
// type 0 if v is none.
func appendScalar(dst []byte, v any) ([]byte, bson.Type) {
	switch v := v.(type) {
	case nil:
		return dst, bson.TypeNull
	case bool:
		return appendBool(dst, v), bson.TypeBoolean
	case string:
		if utf8.ValidString(v) {
			return appendString(dst, v), bson.TypeString
		}
	case int:
		if v == int(int32(v)) {
			return appendInt32(dst, int32(v)), bson.TypeInt32
		}
	case int64:
		return appendInt64(dst, v), bson.TypeInt64
	case float64:
		if !special(v) {
			return appendDouble(dst, v), bson.TypeDouble
		}
	case []byte:
		if v != nil {
			return appendBinary(dst, v), bson.TypeBinary
		}
	case time.Time:
		if v.Location() == time.UTC && v.Equal(time.UnixMilli(v.UnixMilli())) {
			return appendInt64(dst, v.UnixMilli()), bson.TypeDateTime
		}
	case bson.ObjectID:
		return append(dst, v[:]...), bson.TypeObjectID
	}
	return dst, 0
}

// appendTagged appends a value that is not stored bare.
func (c *Codec) appendTagged(dst []byte, v any, depth int) ([]byte, bson.Type, error) {
	t := reflect.TypeOf(v)
	if k := kindsByType[t]; k != nil {
		doc, at, start := beginTagged(dst, k.tag)
		doc, kind, err := k.append(c, doc, v, depth)
		switch {
		case err != nil:
			return dst, 0, err
		case kind != 0:
			return endTagged(doc, at, start, kind), bson.TypeEmbeddedDocument, nil
		}
		return appendGob(dst, v)
	}
	if r := c.byType[t]; r != nil {
		return r.append(dst, v, depth)
	}
	if t.Kind() == reflect.Pointer {
		return c.appendPointer(dst, v, depth)
	}
	return appendGob(dst, v)
}

// appendPointer appends what v, a pointer, points to, or leaves the pointer to gob: if gob would
// encode the target, and if the type was registered with gob as a pointer, which then
// comes back as one, as from CookieStore.
func (c *Codec) appendPointer(dst []byte, v any, depth int) ([]byte, bson.Type, error) {
	target := reflect.ValueOf(v)
	for target.Kind() == reflect.Pointer {
		if target.IsNil() {
			return dst, 0, errNil
		}
		if depth++; depth > maxNesting { // a pointer to itself, perhaps
			return dst, 0, errNotNative
		}
		if c.byType[target.Type()] != nil {
			break
		}
		target = target.Elem()
	}
	t := target.Type()
	native := isNative(t)
	if !native && c.byType[t] == nil || native && gobKeepsPointer(t) {
		return appendGob(dst, v)
	}
	return c.append(dst, target.Interface(), depth)
}

// gobKeepsPointer reports whether the application registered *T with gob, which then decodes
// a T as a *T.
func gobKeepsPointer(t reflect.Type) bool {
	encoded, err := safegob.Encode(reflect.New(t).Elem().Interface())
	if err != nil {
		return false
	}
	v, err := safegob.Decode(encoded)
	return err == nil && v != nil && reflect.TypeOf(v).Kind() == reflect.Pointer
}

// A tagged value is begun, its content is appended, and it is ended with the content's type.

func beginTagged(dst []byte, tag string) (doc []byte, at, start int) {
	doc, start = beginDocument(dst)
	doc = appendString(appendHeader(doc, bson.TypeString, TagType), tag)
	at = len(doc)
	return appendHeader(doc, 0, TagValue), at, start
}

func endTagged(doc []byte, at, start int, kind bson.Type) []byte {
	doc[at] = byte(kind)
	return endDocument(doc, start)
}

func appendGob(dst []byte, v any) ([]byte, bson.Type, error) {
	encoded, err := safegob.Encode(v)
	if err != nil {
		return dst, 0, err
	}
	doc, at, start := beginTagged(slices.Grow(dst, 48+len(encoded)), tagGob)
	return endTagged(appendBinary(doc, encoded), at, start, bson.TypeBinary), bson.TypeEmbeddedDocument, nil
}

func appendList[T any](w walker, dst []byte, list []T, depth int) ([]byte, bson.Type, error) {
	dst, start := beginDocument(dst)
	for i := range list {
		at := len(dst)
		doc, kind, err := appendElement(w, appendIndex(dst, 0, i), &list[i], depth, true)
		if err != nil {
			return dst, 0, err
		}
		doc[at] = byte(kind) // known only now
		dst = doc
	}
	return endDocument(dst, start), bson.TypeArray, nil
}

func appendMap[T any](w walker, dst []byte, m map[string]T, depth int) ([]byte, bson.Type, error) {
	dst, start := beginDocument(dst)
	var space [16]string
	keys := space[:0]
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		at, element := len(dst), m[key]
		doc, kind, err := appendElement(w, appendHeader(dst, 0, escape(key)), &element, depth, false)
		if err != nil {
			return dst, 0, err
		}
		doc[at] = byte(kind)
		dst = doc
	}
	return endDocument(dst, start), bson.TypeEmbeddedDocument, nil
}

// appendElement appends an element's value.
func appendElement[T any](w walker, dst []byte, element *T, depth int, inList bool) ([]byte, bson.Type, error) {
	if depth >= maxNesting {
		return dst, 0, errNotNative
	}
	if doc, kind := appendScalar(dst, *element); kind != 0 {
		return doc, kind, nil
	}
	if list, ok := any(*element).([]any); ok && inList {
		return w.appendTagged(dst, list, depth+1) // the tests' FerretDB 1 has no arrays in arrays
	}
	return w.append(dst, *element, depth+1)
}

// Decode returns the Go value of v. Nothing in it refers to v's bytes.
func (c *Codec) Decode(v Value) (any, error) { return c.decode(v, 0) }

// decode accepts more levels than append writes, for what was written by hand.
func (c *Codec) decode(v Value, depth int) (any, error) {
	if depth > 2*maxNesting {
		return nil, errTooDeep
	}
	switch v.Kind {
	case bson.TypeNull:
		return nil, nil
	case bson.TypeBoolean:
		if b, ok := v.boolean(); ok {
			return b, nil
		}
	case bson.TypeString:
		if s, ok := v.Text(); ok && utf8.ValidString(s) {
			return s, nil
		}
	case bson.TypeInt32:
		i, _ := v.Integer()
		return int(i), nil
	case bson.TypeInt64:
		i, _ := v.Integer()
		return i, nil
	case bson.TypeDouble:
		return v.double(), nil
	case bson.TypeDateTime:
		t, _ := v.Time()
		return t, nil
	case bson.TypeObjectID:
		return bson.ObjectID(v.Data), nil
	case bson.TypeBinary:
		if b, ok := v.Binary(); ok {
			return append(make([]byte, 0, len(b)), b...), nil
		}
		return nil, fmt.Errorf("binary of subtype %d", v.Data[4])
	case bson.TypeArray:
		return decodeList[any](c, v, depth)
	case bson.TypeEmbeddedDocument:
		if tag, content, ok, err := Tag(v); err != nil {
			return nil, err
		} else if ok {
			return c.decodeTagged(tag, content, depth)
		}
		return decodeMap[any](c, v, depth)
	default:
		return nil, fmt.Errorf("BSON type %s, which no session value is stored as", v.Kind)
	}
	return nil, errMalformed
}

// Tag returns the tag and the content of a tagged value, and reports whether v is one. A document
// that has a tag, but not the form of a tagged value, is an error.
func Tag(v Value) (tag string, content Value, ok bool, err error) {
	doc, isDocument := v.Document()
	if !isDocument {
		return "", Value{}, false, nil
	}
	var fields int
	err = Each(doc, func(name []byte, v Value) error {
		fields++
		switch string(name) {
		case TagType:
			if tag, ok = v.Text(); !ok {
				return errors.New(TagType + " is not a string")
			}
		case TagValue:
			content = v
		}
		return nil
	})
	if err == nil && ok && (fields != 2 || content.IsZero()) {
		err = errors.New(TagType + " without its " + TagValue)
	}
	if err != nil || !ok {
		return "", Value{}, false, err
	}
	return tag, content, true, nil
}

func (c *Codec) decodeTagged(tag string, content Value, depth int) (any, error) {
	if tag == tagGob {
		encoded, ok := content.Binary()
		if !ok {
			return nil, badTag(tagGob)
		}
		v, err := safegob.Decode(encoded)
		if err != nil {
			return nil, err
		}
		return c.shaped(v), nil
	}
	if k := kindsByTag[tag]; k != nil {
		return k.decode(c, content, depth)
	}
	if r := c.byName[tag]; r != nil {
		return r.decode(content)
	}
	return nil, errTag
}

// badTag is the error for a content that does not fit its tag.
func badTag(tag string) error { return errors.New("invalid " + tag) }

func decodeList[T any](w walker, v Value, depth int) ([]T, error) {
	list := []T{}
	err := Each(v.Data, func(name []byte, v Value) error {
		if !isIndex(name, len(list)) {
			return errors.New("a list whose elements are not numbered")
		}
		element, err := decodeAs[T](w, v, depth+1)
		list = append(list, element)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func decodeMap[T any](w walker, v Value, depth int) (map[string]T, error) {
	m := map[string]T{}
	err := Each(v.Data, func(name []byte, v Value) error {
		key, ok := unescape(string(name))
		if !ok {
			return errKey // a part of the value, so the error omits it
		}
		if _, twice := m[key]; twice {
			return errors.New("duplicate key in a map")
		}
		element, err := decodeAs[T](w, v, depth+1)
		m[key] = element
		return err
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

func decodeAs[T any](w walker, v Value, depth int) (T, error) {
	decoded, err := w.decode(v, depth)
	element, ok := decoded.(T)
	if err == nil && !ok && decoded != nil {
		err = fmt.Errorf("a %T in a list or map of another type", decoded)
	}
	if err == nil && !ok && reflect.TypeFor[T]().Kind() != reflect.Interface {
		err = errors.New("null in a list or map of another type")
	}
	return element, err
}

// special reports whether f is a value that some servers refuse or change in a double, or a
// NaN.
func special(f float64) bool {
	return math.IsInf(f, 0) || math.IsNaN(f) || f == 0 && math.Signbit(f)
}
