package mongostore

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// How the keys and values of a session stand in its document.
//
// A value is stored bare where BSON gives back the same Go type and value.
// Otherwise it is tagged, {_type: T, _value: V}, with a V that stays readable
// where one can be had, and gob for all else.

// The two fields of a tagged value, and the tag of a value encoded by gob.
const (
	tagType  = "_type"
	tagValue = "_value"
	tagGob   = "gob"
)

const (
	// maxNesting is how deep lists and maps, and the tags around them, may lie in
	// each other to be stored natively. MongoDB takes 100 levels, of which the
	// session's document needs some.
	maxNesting = 80

	// maxDepth is how deep a value may be nested at all. What lies deeper
	// refers to itself, and gob would follow it until the stack is full.
	maxDepth = 10_000
)

var (
	errTooDeep   = errors.New("nested too deeply, or a value that contains itself")
	errNotNative = errors.New("nested too deeply for native storage")

	// errTag does not tell the tag, which in a damaged document may be anything.
	errTag = errors.New("unknown " + tagType)
)

// encodeValue appends the BSON form of v to dst and returns its type. Equal
// values of a type give equal bytes, save for what gob encodes.
func encodeValue(dst []byte, v any) ([]byte, bson.Type, error) {
	start := len(dst)
	dst, kind, err := encodeNested(dst, v, 0)
	if errors.Is(err, errNotNative) {
		return encodeGob(dst[:start], v)
	}
	return dst, kind, err
}

func encodeNested(dst []byte, v any, depth int) ([]byte, bson.Type, error) {
	if depth > maxNesting {
		return dst, 0, errNotNative
	}
	switch v := v.(type) {
	case nil:
		return dst, bson.TypeNull, nil
	case bool:
		if v {
			return append(dst, 1), bson.TypeBoolean, nil
		}
		return append(dst, 0), bson.TypeBoolean, nil
	case string:
		if utf8.ValidString(v) {
			return appendString(dst, v), bson.TypeString, nil
		}
		return tagged(dst, "string", bson.TypeBinary, func(dst []byte) []byte { return appendBinary(dst, []byte(v)) })
	case []byte:
		if v == nil {
			return taggedNil(dst, "[]byte")
		}
		return appendBinary(dst, v), bson.TypeBinary, nil
	case bson.ObjectID:
		return append(dst, v[:]...), bson.TypeObjectID, nil

	case int:
		if v == int(int32(v)) {
			return appendInt32(dst, int32(v)), bson.TypeInt32, nil
		}
		return taggedInt(dst, "int", int64(v))
	case int64:
		return appendInt64(dst, v), bson.TypeInt64, nil
	case int8:
		return taggedInt(dst, "int8", int64(v))
	case int16:
		return taggedInt(dst, "int16", int64(v))
	case int32:
		return taggedInt(dst, "int32", int64(v))
	case uint8:
		return taggedInt(dst, "uint8", int64(v))
	case uint16:
		return taggedInt(dst, "uint16", int64(v))
	case uint32:
		return taggedInt(dst, "uint32", int64(v))
	case uint:
		return taggedUint(dst, "uint", uint64(v))
	case uint64:
		return taggedUint(dst, "uint64", v)
	case time.Duration:
		return taggedInt(dst, "time.Duration", int64(v))

	case float64:
		switch text, special := specialFloat(v); {
		case !special:
			return appendDouble(dst, v), bson.TypeDouble, nil
		case text != "":
			return taggedString(dst, "float64", text)
		}
	case float32:
		wide := float64(v)
		if math.Float32bits(v) == math.Float32bits(float32(math.NaN())) {
			wide = math.NaN() // whose bits are not those of a float32 made wider
		}
		switch text, special := specialFloat(wide); {
		case !special:
			return tagged(dst, "float32", bson.TypeDouble, func(dst []byte) []byte { return appendDouble(dst, wide) })
		case text != "":
			return taggedString(dst, "float32", text)
		}

	case time.Time:
		if v.Location() == time.UTC && v.Equal(time.UnixMilli(v.UnixMilli())) {
			return appendInt64(dst, v.UnixMilli()), bson.TypeDateTime, nil
		}
		return taggedString(dst, "time.Time", formatTime(v))

	case []any:
		if v == nil {
			return taggedNil(dst, "[]interface {}")
		}
		return encodeList(dst, v, depth)
	case innerList:
		return encodeTypedList(dst, []any(v), depth)
	case map[string]any:
		if v == nil {
			return taggedNil(dst, "map[string]interface {}")
		}
		if _, looksTagged := v[tagType]; looksTagged {
			return taggedNested(dst, "map[string]interface {}", func(dst []byte) ([]byte, bson.Type, error) {
				return encodeMap(dst, v, depth+1)
			})
		}
		return encodeMap(dst, v, depth)

	case []string:
		return encodeTypedList(dst, v, depth)
	case []bool:
		return encodeTypedList(dst, v, depth)
	case []int:
		return encodeTypedList(dst, v, depth)
	case []int64:
		return encodeTypedList(dst, v, depth)
	case []float64:
		return encodeTypedList(dst, v, depth)
	case []time.Time:
		return encodeTypedList(dst, v, depth)
	case []map[string]any:
		return encodeTypedList(dst, v, depth)
	case map[string]string:
		return encodeTypedMap(dst, v, depth)
	case map[string]bool:
		return encodeTypedMap(dst, v, depth)
	case map[string]int:
		return encodeTypedMap(dst, v, depth)
	case map[string]int64:
		return encodeTypedMap(dst, v, depth)
	case map[string]float64:
		return encodeTypedMap(dst, v, depth)
	case map[string][]string:
		return encodeTypedMap(dst, v, depth)
	}
	return encodeGob(dst, v)
}

// innerList is a list in a list. It is tagged, because FerretDB has no arrays that
// are elements of arrays.
type innerList []any

func encodeList[T any](dst []byte, list []T, depth int) ([]byte, bson.Type, error) {
	dst, start := openDocument(dst)
	for i, v := range list {
		var element any = v
		if inner, ok := element.([]any); ok {
			element = innerList(inner)
		}
		var err error
		if dst, err = encodeElement(dst, strconv.Itoa(i), element, depth); err != nil {
			return dst, 0, err
		}
	}
	return closeDocument(dst, start), bson.TypeArray, nil
}

func encodeMap[T any](dst []byte, m map[string]T, depth int) ([]byte, bson.Type, error) {
	dst, start := openDocument(dst)
	for _, key := range slices.Sorted(maps.Keys(m)) {
		var err error
		if dst, err = encodeElement(dst, escape(key), m[key], depth); err != nil {
			return dst, 0, err
		}
	}
	return closeDocument(dst, start), bson.TypeEmbeddedDocument, nil
}

func encodeElement(dst []byte, name string, v any, depth int) ([]byte, error) {
	at := len(dst)
	dst, kind, err := encodeNested(appendHeader(dst, 0, name), v, depth+1)
	dst[at] = byte(kind) // known only now
	return dst, err
}

func encodeTypedList[T any](dst []byte, list []T, depth int) ([]byte, bson.Type, error) {
	tag := fmt.Sprintf("%T", list)
	if list == nil {
		return taggedNil(dst, tag)
	}
	return taggedNested(dst, tag, func(dst []byte) ([]byte, bson.Type, error) {
		return encodeList(dst, list, depth+1)
	})
}

func encodeTypedMap[T any](dst []byte, m map[string]T, depth int) ([]byte, bson.Type, error) {
	tag := fmt.Sprintf("%T", m)
	if m == nil {
		return taggedNil(dst, tag)
	}
	return taggedNested(dst, tag, func(dst []byte) ([]byte, bson.Type, error) {
		return encodeMap(dst, m, depth+1)
	})
}

// taggedNested appends {_type: tag, _value: what write appends}.
func taggedNested(dst []byte, tag string, write func([]byte) ([]byte, bson.Type, error)) ([]byte, bson.Type, error) {
	dst, start := openDocument(dst)
	dst = appendString(appendHeader(dst, bson.TypeString, tagType), tag)
	at := len(dst)
	dst, kind, err := write(appendHeader(dst, 0, tagValue))
	if err != nil {
		return dst, 0, err
	}
	dst[at] = byte(kind)
	return closeDocument(dst, start), bson.TypeEmbeddedDocument, nil
}

func tagged(dst []byte, tag string, kind bson.Type, write func([]byte) []byte) ([]byte, bson.Type, error) {
	return taggedNested(dst, tag, func(dst []byte) ([]byte, bson.Type, error) { return write(dst), kind, nil })
}

func taggedNil(dst []byte, tag string) ([]byte, bson.Type, error) {
	return tagged(dst, tag, bson.TypeNull, func(dst []byte) []byte { return dst })
}

func taggedString(dst []byte, tag, s string) ([]byte, bson.Type, error) {
	return tagged(dst, tag, bson.TypeString, func(dst []byte) []byte { return appendString(dst, s) })
}

func taggedInt(dst []byte, tag string, i int64) ([]byte, bson.Type, error) {
	if i == int64(int32(i)) {
		return tagged(dst, tag, bson.TypeInt32, func(dst []byte) []byte { return appendInt32(dst, int32(i)) })
	}
	return tagged(dst, tag, bson.TypeInt64, func(dst []byte) []byte { return appendInt64(dst, i) })
}

func taggedUint(dst []byte, tag string, u uint64) ([]byte, bson.Type, error) {
	if u > math.MaxInt64 {
		return taggedString(dst, tag, strconv.FormatUint(u, 10))
	}
	return taggedInt(dst, tag, int64(u))
}

// specialFloat reports whether f is one of the values that some servers refuse or
// change in a double, and its name, which is empty for a NaN of unusual bits.
func specialFloat(f float64) (name string, special bool) {
	switch {
	case math.IsInf(f, 0) || f == 0 && math.Signbit(f) || math.Float64bits(f) == math.Float64bits(math.NaN()):
		return strconv.FormatFloat(f, 'g', -1, 64), true
	default:
		return "", math.IsNaN(f)
	}
}

// zonedTime is RFC 3339, which has no way to tell UTC from another zone with the
// same offset; so Z is UTC here, and +00:00 is not.
const zonedTime = "2006-01-02T15:04:05.999999999-07:00"

// formatTime gives the times that RFC 3339 cannot express as seconds since 1970,
// nanoseconds, and seconds east of UTC, or Z: "@-1 999999999 +1172".
func formatTime(t time.Time) string {
	_, offset := t.Zone()
	utc := t.Location() == time.UTC
	switch {
	case t.Year() < 0 || t.Year() > 9999 || offset%60 != 0 || offset <= -24*60*60 || offset >= 24*60*60:
		zone := "Z"
		if !utc {
			zone = fmt.Sprintf("%+d", offset)
		}
		return fmt.Sprintf("@%d %d %s", t.Unix(), t.Nanosecond(), zone)
	case utc:
		return t.Format(time.RFC3339Nano)
	default:
		return t.Format(zonedTime)
	}
}

// parseTime is the inverse of [formatTime]. Like encoding/gob, it gives a time in
// Local if that has the same offset then.
func parseTime(text string) (time.Time, bool) {
	numbers, odd := strings.CutPrefix(text, "@")
	if !odd {
		t, err := time.Parse(time.RFC3339Nano, text)
		return t, err == nil
	}
	var seconds, nanos, offset int64
	numbers, utc := strings.CutSuffix(numbers, "Z")
	if utc {
		numbers += "0"
	}
	if _, err := fmt.Sscanf(numbers, "%d %d %d", &seconds, &nanos, &offset); err != nil {
		return time.Time{}, false
	}
	t := time.Unix(seconds, nanos)
	if _, local := t.Zone(); utc {
		t = t.UTC()
	} else if int64(local) != offset {
		t = t.In(time.FixedZone("", int(offset)))
	}
	return t, formatTime(t) == text
}

func encodeGob(dst []byte, v any) ([]byte, bson.Type, error) {
	encoded, err := gobEncode(v)
	if err != nil {
		return dst, 0, err
	}
	return tagged(dst, tagGob, bson.TypeBinary, func(dst []byte) []byte { return appendBinary(dst, encoded) })
}

// gobEncode encodes v with its type's name, as gob does for an interface.
func gobEncode(v any) (_ []byte, err error) {
	if err := checkDepth(reflect.ValueOf(v), 0); err != nil {
		return nil, err
	}
	defer recoverAs(&err)
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(&v); err != nil {
		return nil, err
	}
	return buf.Bytes(), checkGob(buf.Bytes()) // what could not be read is not to be written
}

func gobDecode(encoded []byte) (v any, err error) {
	if err := checkGob(encoded); err != nil {
		return nil, err
	}
	defer recoverAs(&err)
	if err := gob.NewDecoder(bytes.NewReader(encoded)).Decode(&v); err != nil {
		return nil, err
	}
	return v, nil
}

// recoverAs turns a panic in the GobEncode or GobDecode of an application's type
// into an error: what one session holds must not take the request down.
func recoverAs(err *error) {
	if p := recover(); p != nil {
		// The panic's own text may hold a value.
		*err = errors.New("gob: the type's own encoding panicked")
	}
}

// checkDepth refuses a value that gob could follow without an end.
func checkDepth(v reflect.Value, depth int) error {
	if !v.IsValid() || !mayRecur(v.Type(), nil) {
		return nil
	}
	if depth > maxDepth {
		return errTooDeep
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return checkDepth(v.Elem(), depth+1)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if err := checkDepth(v.Index(i), depth+1); err != nil {
				return err
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if err := errors.Join(checkDepth(it.Key(), depth+1), checkDepth(it.Value(), depth+1)); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if !v.Type().Field(i).IsExported() {
				continue // gob leaves it out
			}
			if err := checkDepth(v.Field(i), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// mayRecur reports whether gob can come from a value of type t back to the same
// value: only then is it worth a walk.
func mayRecur(t reflect.Type, within []reflect.Type) bool {
	if slices.Contains(within, t) {
		return true
	}
	if encodesItself(t) {
		return false
	}
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return mayRecur(t.Elem(), append(within, t))
	case reflect.Map:
		return mayRecur(t.Key(), append(within, t)) || mayRecur(t.Elem(), append(within, t))
	case reflect.Struct:
		for i := range t.NumField() {
			if t.Field(i).IsExported() && mayRecur(t.Field(i).Type, append(within, t)) {
				return true
			}
		}
	}
	return false
}

// encodesItself reports whether gob leaves the encoding of type t to its methods.
func encodesItself(t reflect.Type) bool {
	for _, method := range []reflect.Type{reflect.TypeFor[gob.GobEncoder](), reflect.TypeFor[encoding.BinaryMarshaler]()} {
		if t.Implements(method) || reflect.PointerTo(t).Implements(method) {
			return true
		}
	}
	return false
}

// decodeValue is the inverse of [encodeValue]. Nothing that it returns refers to
// the bytes of v.
func decodeValue(v value) (any, error) {
	return decodeNested(v, 0)
}

// decodeNested takes more levels than [encodeNested] makes, for what was written
// by hand.
func decodeNested(v value, depth int) (any, error) {
	if depth > 2*maxNesting {
		return nil, errTooDeep
	}
	switch v.kind {
	case bson.TypeNull:
		return nil, nil
	case bson.TypeBoolean:
		if b, ok := v.boolean(); ok {
			return b, nil
		}
	case bson.TypeString:
		if s, ok := v.text(); ok && utf8.ValidString(s) {
			return s, nil
		}
	case bson.TypeInt32:
		i, _ := v.integer()
		return int(i), nil
	case bson.TypeInt64:
		i, _ := v.integer()
		return i, nil
	case bson.TypeDouble:
		return v.double(), nil
	case bson.TypeDateTime:
		ms, _ := v.millis()
		return time.UnixMilli(ms).UTC(), nil
	case bson.TypeObjectID:
		return bson.ObjectID(v.data), nil
	case bson.TypeBinary:
		if b, ok := v.binary(); ok {
			return append(make([]byte, 0, len(b)), b...), nil
		}
		return nil, fmt.Errorf("binary of subtype %d", v.data[4])
	case bson.TypeArray:
		return decodeList[any](v, depth)
	case bson.TypeEmbeddedDocument:
		if tag, content, ok, err := readTag(v); err != nil {
			return nil, err
		} else if ok {
			return decodeTagged(tag, content, depth)
		}
		return decodeMap[any](v, depth)
	default:
		return nil, fmt.Errorf("BSON type %s, which no session value is stored as", v.kind)
	}
	return nil, errMalformed
}

// readTag reports whether v, a document, is a tagged value.
func readTag(v value) (tag string, content value, ok bool, err error) {
	var fields int
	err = elements(v.data, func(name []byte, v value) error {
		fields++
		switch string(name) {
		case tagType:
			if tag, ok = v.text(); !ok {
				return fmt.Errorf("%s is no string", tagType)
			}
		case tagValue:
			content = v
		}
		return nil
	})
	if err == nil && ok && (fields != 2 || content.kind == 0) {
		err = fmt.Errorf("%s without its %s", tagType, tagValue)
	}
	return tag, content, ok, err
}

func decodeTagged(tag string, v value, depth int) (any, error) {
	switch tag {
	case tagGob:
		if b, ok := v.binary(); ok {
			return gobDecode(b)
		}
	case "string":
		if b, ok := v.binary(); ok {
			return string(b), nil
		}
	case "[]byte":
		return decodeNil[[]byte](tag, v)
	case "int":
		return decodeInt[int](tag, v)
	case "int8":
		return decodeInt[int8](tag, v)
	case "int16":
		return decodeInt[int16](tag, v)
	case "int32":
		return decodeInt[int32](tag, v)
	case "uint8":
		return decodeInt[uint8](tag, v)
	case "uint16":
		return decodeInt[uint16](tag, v)
	case "uint32":
		return decodeInt[uint32](tag, v)
	case "time.Duration":
		return decodeInt[time.Duration](tag, v)
	case "uint":
		return decodeUint[uint](tag, v)
	case "uint64":
		return decodeUint[uint64](tag, v)
	case "float64":
		return decodeFloat[float64](tag, v)
	case "float32":
		return decodeFloat[float32](tag, v)
	case "time.Time":
		if s, ok := v.text(); ok {
			if t, ok := parseTime(s); ok {
				return t, nil
			}
		}
	case "[]interface {}":
		return decodeTypedList[any](tag, v, depth)
	case "map[string]interface {}":
		return decodeTypedMap[any](tag, v, depth)
	case "[]string":
		return decodeTypedList[string](tag, v, depth)
	case "[]bool":
		return decodeTypedList[bool](tag, v, depth)
	case "[]int":
		return decodeTypedList[int](tag, v, depth)
	case "[]int64":
		return decodeTypedList[int64](tag, v, depth)
	case "[]float64":
		return decodeTypedList[float64](tag, v, depth)
	case "[]time.Time":
		return decodeTypedList[time.Time](tag, v, depth)
	case "[]map[string]interface {}":
		return decodeTypedList[map[string]any](tag, v, depth)
	case "map[string]string":
		return decodeTypedMap[string](tag, v, depth)
	case "map[string]bool":
		return decodeTypedMap[bool](tag, v, depth)
	case "map[string]int":
		return decodeTypedMap[int](tag, v, depth)
	case "map[string]int64":
		return decodeTypedMap[int64](tag, v, depth)
	case "map[string]float64":
		return decodeTypedMap[float64](tag, v, depth)
	case "map[string][]string":
		return decodeTypedMap[[]string](tag, v, depth)
	default:
		return nil, errTag
	}
	return nil, badTag(tag)
}

// badTag says that a value is not what its tag promises.
func badTag(tag string) error {
	return fmt.Errorf("no valid %s", tag)
}

func decodeNil[T any](tag string, v value) (any, error) {
	if v.kind != bson.TypeNull {
		return nil, badTag(tag)
	}
	var none T
	return none, nil
}

func decodeInt[T int | int8 | int16 | int32 | uint8 | uint16 | uint32 | time.Duration](tag string, v value) (any, error) {
	i, ok := v.integer()
	if !ok || int64(T(i)) != i {
		return nil, badTag(tag)
	}
	return T(i), nil
}

func decodeUint[T uint | uint64](tag string, v value) (any, error) {
	i, ok := v.integer()
	u := uint64(i)
	if s, isText := v.text(); isText {
		var err error
		u, err = strconv.ParseUint(s, 10, 64)
		i, ok = 0, err == nil
	}
	if !ok || i < 0 || uint64(T(u)) != u {
		return nil, badTag(tag)
	}
	return T(u), nil
}

func decodeFloat[T float32 | float64](tag string, v value) (any, error) {
	var f float64
	switch s, isText := v.text(); {
	case v.kind == bson.TypeDouble:
		f = v.double()
	case isText:
		var err error
		if f, err = strconv.ParseFloat(s, 64); err != nil {
			return nil, badTag(tag)
		}
	default:
		return nil, badTag(tag)
	}
	if float64(T(f)) != f && !math.IsNaN(f) {
		return nil, badTag(tag)
	}
	return T(f), nil
}

func decodeTypedList[T any](tag string, v value, depth int) (any, error) {
	switch v.kind {
	case bson.TypeNull:
		return []T(nil), nil
	case bson.TypeArray:
		return decodeList[T](v, depth+1)
	default:
		return nil, badTag(tag)
	}
}

func decodeTypedMap[T any](tag string, v value, depth int) (any, error) {
	switch v.kind {
	case bson.TypeNull:
		return map[string]T(nil), nil
	case bson.TypeEmbeddedDocument:
		return decodeMap[T](v, depth+1)
	default:
		return nil, badTag(tag)
	}
}

func decodeList[T any](v value, depth int) ([]T, error) {
	list := []T{}
	err := elements(v.data, func(name []byte, v value) error {
		if strconv.Itoa(len(list)) != string(name) {
			return errors.New("a list whose elements are not numbered") // a map once, perhaps
		}
		element, err := decodeAs[T](v, depth+1)
		list = append(list, element)
		return err
	})
	return list, err
}

func decodeMap[T any](v value, depth int) (map[string]T, error) {
	m := map[string]T{}
	err := elements(v.data, func(name []byte, v value) error {
		key, ok := unescape(string(name))
		if !ok {
			return errKey // a part of the value, so its text stays out of the error
		}
		if _, twice := m[key]; twice {
			return errors.New("a key is there twice")
		}
		element, err := decodeAs[T](v, depth+1)
		m[key] = element
		return err
	})
	return m, err
}

func decodeAs[T any](v value, depth int) (T, error) {
	decoded, err := decodeNested(v, depth)
	element, ok := decoded.(T)
	if err == nil && !ok && decoded != nil {
		err = fmt.Errorf("a %T in a list or map of another type", decoded)
	}
	if err == nil && !ok && reflect.TypeFor[T]().Kind() != reflect.Interface {
		err = errors.New("null in a list or map of another type")
	}
	return element, err
}

// Keys.
//
// A field's name is the key itself if that is a string, percent-escaped where
// MongoDB would misread it, or FerretDB refuse it (white space around a name).
// Escapes are a percent sign and two upper-case hex digits. All else that begins with a percent sign and continues in lower case
// is a key that is no ordinary string: %empty, %nil, %TYPE:TEXT for Go's basic
// types, and %gob:BASE64URL for other types.

const upperHex = "0123456789ABCDEF"

// plain reports whether a string key is its own name, as most are. It looks at bytes alone,
// and says false for some others that are.
func plain(key string) bool {
	for i := range len(key) {
		if c := key[i]; c <= ' ' || c > '~' || c == '%' || c == '.' {
			return false
		}
	}
	return key != "" && key[0] != '$'
}

// escape gives a string key's name.
func escape(key string) string {
	switch {
	case plain(key):
		return key
	case key == "":
		return "%empty"
	}
	left, right := len(key)-len(strings.TrimLeftFunc(key, unicode.IsSpace)), len(strings.TrimRightFunc(key, unicode.IsSpace))
	if !strings.ContainsAny(key, "%.\x00") && key[0] != '$' && utf8.ValidString(key) && left == 0 && right == len(key) {
		return key
	}
	var b strings.Builder
	for i := 0; i < len(key); {
		r, size := utf8.DecodeRuneInString(key[i:])
		switch {
		case r == utf8.RuneError && size == 1, r == '%', r == '.', r == 0, r == '$' && i == 0, i < left, i >= right:
			for _, c := range []byte(key[i : i+size]) {
				b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
			}
		default:
			b.WriteString(key[i : i+size])
		}
		i += size
	}
	return b.String()
}

// unescape is the inverse of [escape]. It accepts only what escape returns, so that
// no two names stand for one key.
func unescape(name string) (key string, ok bool) {
	switch {
	case plain(name):
		return name, true
	case name == "%empty":
		return "", true
	case !strings.Contains(name, "%"):
		return name, escape(name) == name
	}
	b := make([]byte, 0, len(name))
	for i := 0; i < len(name); i++ {
		if name[i] != '%' {
			b = append(b, name[i])
			continue
		}
		if i+2 >= len(name) {
			return "", false
		}
		high, low := strings.IndexByte(upperHex, name[i+1]), strings.IndexByte(upperHex, name[i+2])
		if high < 0 || low < 0 {
			return "", false
		}
		b = append(b, byte(high<<4|low))
		i += 2
	}
	key = string(b)
	return key, escape(key) == name
}

// encodeKey gives the name of the field for a key of [sessions.Session.Values].
func encodeKey(key any) (string, error) {
	switch k := key.(type) {
	case string:
		return escape(k), nil
	case nil:
		return "%nil", nil
	case bool:
		return "%bool:" + strconv.FormatBool(k), nil
	case int:
		return "%int:" + strconv.FormatInt(int64(k), 10), nil
	case int8:
		return "%int8:" + strconv.FormatInt(int64(k), 10), nil
	case int16:
		return "%int16:" + strconv.FormatInt(int64(k), 10), nil
	case int32:
		return "%int32:" + strconv.FormatInt(int64(k), 10), nil
	case int64:
		return "%int64:" + strconv.FormatInt(k, 10), nil
	case uint:
		return "%uint:" + strconv.FormatUint(uint64(k), 10), nil
	case uint8:
		return "%uint8:" + strconv.FormatUint(uint64(k), 10), nil
	case uint16:
		return "%uint16:" + strconv.FormatUint(uint64(k), 10), nil
	case uint32:
		return "%uint32:" + strconv.FormatUint(uint64(k), 10), nil
	case uint64:
		return "%uint64:" + strconv.FormatUint(k, 10), nil
	}
	return encodeGobKey(key)
}

// encodeGobKey is for keys of the application's own types. A key that would not
// find its way back, such as NaN or a pointer, is refused: under another name it
// would be another key.
func encodeGobKey(key any) (string, error) {
	encoded, err := gobEncode(key)
	if err != nil {
		return "", err
	}
	back, err := gobDecode(encoded)
	if err != nil {
		return "", err
	}
	if back != key {
		return "", fmt.Errorf("a %T does not come back equal from gob, so it cannot be a key", key)
	}
	return "%gob:" + base64.RawURLEncoding.EncodeToString(encoded), nil
}

var errKey = errors.New("invalid key")

// decodeKey is the inverse of [encodeKey].
func decodeKey(name string) (any, error) {
	if len(name) < 2 || name[0] != '%' || name[1] < 'a' || name == "%empty" {
		if key, ok := unescape(name); ok {
			return key, nil
		}
		return nil, errKey
	}
	kind, text, _ := strings.Cut(name[1:], ":")
	var key any
	var err error
	switch kind {
	case "nil":
		key = nil
	case "bool":
		key, err = strconv.ParseBool(text)
	case "int":
		key, err = parseInt[int](text)
	case "int8":
		key, err = parseInt[int8](text)
	case "int16":
		key, err = parseInt[int16](text)
	case "int32":
		key, err = parseInt[int32](text)
	case "int64":
		key, err = parseInt[int64](text)
	case "uint":
		key, err = parseUint[uint](text)
	case "uint8":
		key, err = parseUint[uint8](text)
	case "uint16":
		key, err = parseUint[uint16](text)
	case "uint32":
		key, err = parseUint[uint32](text)
	case "uint64":
		key, err = parseUint[uint64](text)
	case "gob":
		return decodeGobKey(text)
	default:
		return nil, errKey
	}
	if err != nil {
		return nil, errKey
	}
	if canonical, err := encodeKey(key); err != nil || canonical != name {
		return nil, errKey
	}
	return key, nil
}

func parseInt[T int | int8 | int16 | int32 | int64](text string) (T, error) {
	i, err := strconv.ParseInt(text, 10, 64)
	return T(i), err // encodeKey finds out whether it fits
}

func parseUint[T uint | uint8 | uint16 | uint32 | uint64](text string) (T, error) {
	u, err := strconv.ParseUint(text, 10, 64)
	return T(u), err // encodeKey finds out whether it fits
}

// decodeGobKey makes no demand on the bytes: gob numbers types in the order in
// which a process first used them, so one key may have a name per process.
func decodeGobKey(text string) (any, error) {
	encoded, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, errKey
	}
	key, err := gobDecode(encoded)
	if err != nil {
		return nil, err
	}
	if key == nil || !reflect.ValueOf(key).Comparable() {
		return nil, errKey
	}
	// A key that has a plainer name, or that is not equal to itself, is none.
	if plain, err := encodeKey(key); err != nil || !strings.HasPrefix(plain, "%gob:") {
		return nil, errKey
	}
	return key, nil
}

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

// Whether a value is still the one that was stored.

// holds reports that stored is the encoding of v. It looks at stored in place, for the
// values that make up most of a session; of others it says false.
func holds(stored value, v any) bool {
	switch v := v.(type) {
	case nil:
		return stored.kind == bson.TypeNull
	case bool:
		b, ok := stored.boolean()
		return ok && b == v
	case string:
		return stored.isText(v)
	case []byte:
		b, ok := stored.binary()
		return ok && v != nil && bytes.Equal(b, v)
	case int:
		return stored.kind == bson.TypeInt32 && int64(int32(binary.LittleEndian.Uint32(stored.data))) == int64(v)
	case int64:
		return stored.kind == bson.TypeInt64 && int64(binary.LittleEndian.Uint64(stored.data)) == v
	case float64:
		return stored.kind == bson.TypeDouble && binary.LittleEndian.Uint64(stored.data) == math.Float64bits(v)
	case time.Time:
		ms, ok := stored.millis()
		return ok && v.Location() == time.UTC && v.Equal(time.UnixMilli(ms))
	case bson.ObjectID:
		return stored.kind == bson.TypeObjectID && string(stored.data) == string(v[:])
	case []any:
		return v != nil && stored.kind == bson.TypeArray && holdsList(stored, v)
	case map[string]any:
		return v != nil && stored.kind == bson.TypeEmbeddedDocument && holdsMap(stored, v)
	default:
		return false
	}
}

func holdsList(stored value, list []any) bool {
	i := 0
	err := elements(stored.data, func(_ []byte, element value) error {
		if i == len(list) || !holds(element, list[i]) {
			return errDiffers
		}
		i++
		return nil
	})
	return err == nil && i == len(list)
}

func holdsMap(stored value, m map[string]any) bool {
	n := 0
	err := elements(stored.data, func(name []byte, element value) error {
		n++
		v, ok := m[string(name)]
		isKey := bytes.IndexByte(name, '%') < 0 && string(name) != tagType // and neither escaped nor a tag
		if !ok || !isKey || !holds(element, v) {
			return errDiffers
		}
		return nil
	})
	return err == nil && n == len(m)
}

// errDiffers ends a comparison.
var errDiffers = errors.New("differs")

// sameValue reports whether two encoded values stand for equal Go values. That is
// whether their bytes are equal, except for gob, which writes maps in any order
// and numbers types in the order in which a process first used them, and for maps
// whose fields somebody put into another order, as FerretDB does with _id.
func sameValue(a, b value) bool {
	if a.kind == b.kind && bytes.Equal(a.data, b.data) {
		return true
	}
	if a.kind != bson.TypeEmbeddedDocument || b.kind != bson.TypeEmbeddedDocument {
		return sameParts(a, b)
	}
	tagA, contentA, okA, errA := readTag(a)
	tagB, contentB, okB, errB := readTag(b)
	switch {
	case errA != nil || errB != nil || okA != okB || tagA != tagB:
		return false
	case okA && tagA == tagGob:
		return sameGob(contentA, contentB)
	case okA: // whose _value, a map, may look like a tag, but is none
		return sameParts(contentA, contentB)
	default:
		return sameParts(a, b)
	}
}

// sameParts is sameValue for what is no tagged value.
func sameParts(a, b value) bool {
	if a.kind != b.kind {
		return false
	}
	if bytes.Equal(a.data, b.data) {
		return true
	}
	if a.kind != bson.TypeArray && a.kind != bson.TypeEmbeddedDocument ||
		len(a.data) != len(b.data) && !bytes.Contains(b.data, []byte(tagGob)) {
		return false
	}
	parts := map[string]value{}
	if elements(a.data, func(name []byte, v value) error {
		parts[string(name)] = v
		return nil
	}) != nil {
		return false
	}
	err := elements(b.data, func(name []byte, v value) error {
		if part, ok := parts[string(name)]; !ok || !sameValue(part, v) {
			return errMalformed
		}
		delete(parts, string(name))
		return nil
	})
	return err == nil && len(parts) == 0
}

// sameGob compares what comes out of gob on both sides: unexported fields and the
// difference between nil and empty, which gob loses, are no change.
func sameGob(a, b value) bool {
	bytesA, okA := a.binary()
	bytesB, okB := b.binary()
	if !okA || !okB {
		return false
	}
	goA, errA := gobDecode(bytesA)
	goB, errB := gobDecode(bytesB)
	return errA == nil && errB == nil && reflect.DeepEqual(goA, goB)
}

// The document of a session, and the updates that bring it up to date.

// formatVersion is the document's v. A document with a higher one is refused,
// never overwritten.
const formatVersion = 1

// The names of the document's fields.
const (
	fieldID        = "_id"
	fieldVersion   = "v"
	fieldName      = "name"
	fieldValues    = "values"
	fieldOwner     = "owner"
	fieldDetails   = "details"
	fieldRev       = "rev"
	fieldCreatedAt = "createdAt"
	fieldSeenAt    = "seenAt"
	fieldExpiresAt = "expiresAt"
	fieldMaxAge    = "maxAge"
	fieldMovedTo   = "movedTo"
)

// fieldNames are the fields that a document has once at most; those that it must have come
// first.
var fieldNames = [...]string{
	fieldVersion, fieldName, fieldValues, fieldRev, fieldCreatedAt, fieldSeenAt, fieldExpiresAt,
	fieldOwner, fieldDetails, fieldMaxAge, fieldMovedTo,
}

const requiredFields = 7

// record is a session's document.
type record struct {
	key       string // the document's _id
	name      string
	fields    []field // not sealed; no key is there twice
	strays    []field // further fields for a key in fields, of which only key and name count
	owner     value   // of kind 0 if there is none
	details   value   // of kind 0 if there are none
	rev       int64
	createdAt time.Time
	seenAt    time.Time
	expiresAt time.Time
	maxAge    *int   // the session's own, in seconds; nil for the store's
	movedTo   string // the _id of the document that took this one's place, see move; then this one is dead
}

// field is a key of Session.Values, with its name and its value as they stand in the
// document.
type field struct {
	key   any
	name  string
	value value
}

// errMisdelivered is a connection's failure: what it gave is the answer to another command.
// The driver does not look at which command an answer is for, and to hand a visitor
// somebody else's session would be the worst of all faults.
var errMisdelivered = errors.New("the server's answer is another document")

// parseRecord reads the document with the given _id, save for its values, which it
// returns as they are.
func parseRecord(doc bson.Raw, key string) (rec record, values []byte, err error) {
	rec.key = key
	var version int64
	var seen [len(fieldNames)]bool
	err = elements(doc, func(name []byte, v value) error {
		if i := slices.Index(fieldNames[:], string(name)); i >= 0 {
			if seen[i] {
				return fmt.Errorf("field %s is there twice", name)
			}
			seen[i] = true
		}
		ok := true
		switch string(name) {
		case fieldID:
			if !v.isText(key) {
				return errMisdelivered
			}
		case fieldVersion:
			version, ok = v.integer()
		case fieldName:
			rec.name, ok = v.text()
		case fieldValues:
			values, ok = v.document()
		case fieldOwner:
			rec.owner = v
		case fieldDetails:
			rec.details = v
		case fieldRev:
			rec.rev, ok = v.integer()
			ok = ok && rec.rev > 0 || v.kind == bson.TypeNull // of a document that has moved
		case fieldCreatedAt:
			rec.createdAt, ok = v.time()
		case fieldSeenAt:
			rec.seenAt, ok = v.time()
		case fieldExpiresAt:
			rec.expiresAt, ok = v.time()
		case fieldMaxAge:
			var age int64
			age, ok = v.integer()
			maxAge := int(min(age, math.MaxInt))
			rec.maxAge, ok = &maxAge, ok && age >= 0
		case fieldMovedTo:
			rec.movedTo, ok = v.text()
			ok = ok && rec.movedTo != ""
		default: // what others may have added
		}
		if !ok {
			return fmt.Errorf("field %s is not what it should be", name)
		}
		return nil
	})
	missing := slices.Index(seen[:requiredFields], false)
	switch {
	case version > formatVersion:
		err = fmt.Errorf("format version %d is newer than %d", version, formatVersion)
	case err != nil:
	case version < 1:
		err = errors.New("no format version")
	case missing >= 0:
		err = fmt.Errorf("field %s is missing", fieldNames[missing])
	case rec.rev == 0 && rec.movedTo == "":
		// It would be read, and refuse every save.
		err = fmt.Errorf("field %s is null without a %s", fieldRev, fieldMovedTo)
	}
	return rec, values, err
}

// readValues fills in the record's fields, and gives them as Go values. The fields are
// parts of values, unless they were sealed; the Go values are not.
func (rec *record) readValues(values []byte, seals *sealer) (map[any]any, error) {
	var count, nameBytes int
	if err := elements(values, func(name []byte, _ value) error {
		count++
		nameBytes += len(name)
		return nil
	}); err != nil {
		return nil, err
	}
	goValues := make(map[any]any, count)
	rec.fields = make([]field, 0, count)
	var names strings.Builder // one string for all
	names.Grow(nameBytes)
	err := elements(values, func(name []byte, v value) error {
		start := names.Len()
		names.Write(name)
		f := field{name: names.String()[start:], value: v}
		var err error
		if f.key, err = decodeKey(f.name); err != nil {
			return fmt.Errorf("key %q: %w", name, err)
		}
		if f.value, err = seals.open(rec.key, f); err != nil {
			return fmt.Errorf("value of key %q: %w", name, err)
		}
		goValue, err := decodeValue(f.value)
		if err != nil {
			return fmt.Errorf("value of key %q: %w", name, err)
		}
		goValues[f.key] = goValue
		if len(goValues) == len(rec.fields) { // there already
			return rec.replace(f)
		}
		rec.fields = append(rec.fields, f)
		return nil
	})
	return goValues, err
}

// replace puts a field in the place of one with the same key: one key under the names of two
// processes, see decodeGobKey. The later one was written last.
func (rec *record) replace(f field) error {
	i := slices.IndexFunc(rec.fields, func(known field) bool { return known.key == f.key })
	sameName := func(known field) bool { return known.name == f.name }
	if sameName(rec.fields[i]) || slices.ContainsFunc(rec.strays, sameName) {
		return fmt.Errorf("key %q is there twice", f.name)
	}
	rec.strays = append(rec.strays, rec.fields[i])
	rec.fields[i] = f
	return nil
}

// index gives the record's fields by their keys.
func (rec *record) index() map[any]field {
	fields := make(map[any]field, len(rec.fields))
	for _, f := range rec.fields {
		fields[f.key] = f
	}
	return fields
}

func (v value) time() (time.Time, bool) {
	ms, ok := v.millis()
	return time.UnixMilli(ms).UTC(), ok
}

// diff compares a session's values with the record's: set are the fields that are new or
// changed, unset the names that are no longer there, and fields what the record's
// will be. It fails if the whole exceeds maxSize bytes.
func (rec *record) diff(values map[any]any, maxSize int) (d diff, err error) {
	kept, size := 0, 0
	for _, f := range rec.fields {
		v, ok := values[f.key]
		if !ok {
			d.unset = append(d.unset, f.name)
			continue
		}
		kept++
		if !holds(f.value, v) {
			encoded, err := f.encode(v)
			if err != nil {
				return d, err
			}
			if !sameValue(f.value, encoded) {
				f.value = encoded
				d.set = append(d.set, f)
			}
		}
		size += f.size()
	}
	if kept < len(values) {
		known := rec.index()
		for key, v := range values {
			if _, ok := known[key]; ok {
				continue
			}
			f := field{key: key}
			if f.name, err = encodeKey(key); err != nil {
				return d, fmt.Errorf("key of type %T: %w", key, err)
			}
			if f.value, err = f.encode(v); err != nil {
				return d, err
			}
			d.set = append(d.set, f)
			size += f.size()
		}
	}
	if size > maxSize && len(d.set) > 0 {
		return d, fmt.Errorf("%w: %d bytes of values, at most %d", ErrTooLarge, size, maxSize)
	}
	if d.empty() {
		d.fields, d.strays = rec.fields, rec.strays
		return d, nil
	}
	slices.SortFunc(d.set, byName)
	slices.Sort(d.unset)
	d.fields = append(make([]field, 0, len(values)), d.set...)
	for _, f := range rec.fields {
		_, set := slices.BinarySearchFunc(d.set, f, byName)
		_, unset := slices.BinarySearch(d.unset, f.name)
		if !set && !unset {
			d.fields = append(d.fields, f)
		}
	}
	for _, f := range rec.strays {
		// One name of a key is as good as another, but what is written under
		// one of them makes the others obsolete.
		if i := slices.IndexFunc(d.fields, func(kept field) bool { return kept.key == f.key }); i >= len(d.set) {
			d.strays = append(d.strays, f)
		} else {
			d.unset = append(d.unset, f.name)
		}
	}
	return d, nil
}

func byName(a, b field) int { return strings.Compare(a.name, b.name) }

// encode gives the value of a field for v.
func (f *field) encode(v any) (value, error) {
	data, kind, err := encodeValue(nil, v)
	if err != nil {
		return value{}, fmt.Errorf("value of key %q, type %T: %w", f.name, v, err)
	}
	return value{kind, data}, nil
}

// size is how many bytes a field has in the document.
func (f *field) size() int { return 1 + len(f.name) + 1 + len(f.value.data) }

// diff is what a save changes.
type diff struct {
	set    []field
	unset  []string
	fields []field
	strays []field
}

func (d *diff) empty() bool { return len(d.set)+len(d.unset) == 0 }

// document gives the record as a document.
func (rec *record) document(seals *sealer) bson.Raw {
	fields := slices.SortedFunc(slices.Values(rec.fields), byName)
	size := 512 // what stands beside the values
	for _, f := range fields {
		size += f.size()
	}

	doc, start := openDocument(make([]byte, 0, size))
	doc = appendStringElement(doc, fieldID, rec.key)
	doc = appendNumber(doc, fieldVersion, formatVersion)
	doc = appendStringElement(doc, fieldName, rec.name)
	doc, at := openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, fieldValues))
	for _, f := range fields {
		doc = appendElement(doc, f.name, seals.seal(rec.key, f))
	}
	doc = closeDocument(doc, at)
	if rec.owner.kind != 0 {
		doc = appendElement(doc, fieldOwner, rec.owner)
	}
	if rec.details.kind != 0 {
		doc = appendElement(doc, fieldDetails, rec.details)
	}
	doc = appendNumber(doc, fieldRev, rec.rev)
	doc = appendTime(doc, fieldCreatedAt, rec.createdAt)
	doc = appendTime(doc, fieldSeenAt, rec.seenAt)
	doc = appendTime(doc, fieldExpiresAt, rec.expiresAt)
	if rec.maxAge != nil {
		doc = appendNumber(doc, fieldMaxAge, int64(*rec.maxAge))
	}
	return closeDocument(doc, start)
}

// sameMeta reports whether rec needs no write for what stands beside its values.
func (rec *record) sameMeta(old *record) bool {
	return equalAge(rec.maxAge, old.maxAge) && rec.owner.equal(old.owner)
}

// newLifetime reports whether the expiry is to be set, be it to an earlier
// time: the session has another MaxAge than before, or the store's settings
// have become stricter.
func (rec *record) newLifetime(old *record) bool {
	const skew = time.Minute // between the clocks of processes
	return !equalAge(rec.maxAge, old.maxAge) || old.expiresAt.After(rec.expiresAt.Add(skew))
}

// markMoved gives the update that marks a document as moved to another. It also freezes
// the document: MongoDB refuses to $inc a null, and with it the whole update, so that
// no request's change is lost in a document that is about to be deleted.
// https://www.mongodb.com/docs/manual/reference/operator/update/inc/
func markMoved(key string) bson.Raw {
	doc, start := openDocument(nil)
	doc, at := openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, "$set"))
	doc = appendStringElement(doc, fieldMovedTo, key)
	doc = appendHeader(doc, bson.TypeNull, fieldRev)
	return closeDocument(closeDocument(doc, at), start)
}

// update gives the update that makes the document, which was read as old, hold rec, with
// the values changed as d says. What other requests changed in it meanwhile stays.
func (rec *record) update(old *record, d *diff, seals *sealer) bson.Raw {
	size := 256 // what stands beside the values
	for _, f := range d.set {
		size += len(fieldValues) + 1 + f.size()
	}
	beside := [...]struct {
		name     string
		now, was value
	}{{fieldOwner, rec.owner, old.owner}, {fieldDetails, rec.details, old.details}}
	newAge, newLifetime := !equalAge(rec.maxAge, old.maxAge), rec.newLifetime(old)

	doc, start := openDocument(make([]byte, 0, size))
	doc, at := openOperator(doc, "$set")
	for _, f := range d.set {
		doc = appendElement(doc, fieldValues+"."+f.name, seals.seal(rec.key, f))
	}
	for _, f := range beside {
		if f.now.kind != 0 && !f.now.equal(f.was) {
			doc = appendElement(doc, f.name, f.now)
		}
	}
	if newAge && rec.maxAge != nil {
		doc = appendNumber(doc, fieldMaxAge, int64(*rec.maxAge))
	}
	if newLifetime {
		doc = appendTime(doc, fieldExpiresAt, rec.expiresAt)
	}
	doc = closeOperator(doc, at)

	doc, at = openOperator(doc, "$unset")
	for _, name := range d.unset {
		doc = appendStringElement(doc, fieldValues+"."+name, "")
	}
	for _, f := range beside {
		if f.now.kind == 0 && f.was.kind != 0 {
			doc = appendStringElement(doc, f.name, "")
		}
	}
	if newAge && rec.maxAge == nil {
		doc = appendStringElement(doc, fieldMaxAge, "")
	}
	doc = closeOperator(doc, at)

	// A document that has moved refuses every $inc, also one by nothing: see
	// markMoved.
	doc, at = openOperator(doc, "$inc")
	var more int64
	if !d.empty() || newAge {
		more = 1
	}
	doc = closeOperator(appendNumber(doc, fieldRev, more), at)

	// $max, not $set: of two requests at once, the one that saves first must not
	// take back what the other granted.
	doc, at = openOperator(doc, "$max")
	doc = appendTime(doc, fieldSeenAt, rec.seenAt)
	if !newLifetime {
		doc = appendTime(doc, fieldExpiresAt, rec.expiresAt)
	}
	return closeDocument(closeOperator(doc, at), start)
}

// openOperator begins an operator of an update; closeOperator, given the position that
// openOperator returned, ends it, or drops it if nothing follows: MongoDB before 5.0 refuses
// an empty one.
func openOperator(doc []byte, name string) ([]byte, int) {
	at := len(doc)
	doc, _ = openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, name))
	return doc, at
}

func closeOperator(doc []byte, at int) []byte {
	start := at + bytes.IndexByte(doc[at:], 0) + 1 // after the header
	if len(doc) == start+4 {
		return doc[:at]
	}
	return closeDocument(doc, start)
}

func equalAge(a, b *int) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// condition is what a document must meet, beside its _id, to be written.
type condition struct {
	rev       int64     // it was not changed since it was read with this rev; 0 for any
	aliveAt   time.Time // it has not expired then, and has this maxAge; zero for any
	maxAge    *int
	seenAfter time.Time // with a maxAge
}

// filter is for the document with the given _id that meets the condition.
func (c condition) filter(key string) bson.Raw {
	doc, start := openDocument(make([]byte, 0, 128))
	doc = appendStringElement(doc, fieldID, key)
	if c.rev != 0 {
		doc = appendNumber(doc, fieldRev, c.rev)
	}
	if !c.aliveAt.IsZero() {
		var at int
		doc, at = openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, fieldExpiresAt))
		doc = closeDocument(appendTime(doc, "$gt", c.aliveAt), at)
		if c.maxAge == nil {
			doc = appendHeader(doc, bson.TypeNull, fieldMaxAge) // or absent
		} else {
			doc = appendNumber(doc, fieldMaxAge, int64(*c.maxAge))
			doc, at = openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, fieldSeenAt))
			doc = closeDocument(appendTime(doc, "$gt", c.seenAfter), at)
		}
	}
	return closeDocument(doc, start)
}

// byKey is the filter for the document with the given _id.
func byKey(key string) bson.Raw { return condition{}.filter(key) }

func appendStringElement(doc []byte, name, s string) []byte {
	return appendString(appendHeader(doc, bson.TypeString, name), s)
}

// appendNumber appends an integer in the type that the shell shows plainly.
func appendNumber(doc []byte, name string, i int64) []byte {
	if i == int64(int32(i)) {
		return appendInt32(appendHeader(doc, bson.TypeInt32, name), int32(i))
	}
	return appendInt64(appendHeader(doc, bson.TypeInt64, name), i)
}

func appendTime(doc []byte, name string, t time.Time) []byte {
	return appendInt64(appendHeader(doc, bson.TypeDateTime, name), t.UnixMilli())
}

// encoding/gob believes the counts that it reads, and follows nested values as
// deep as they go: fifty bytes can make its decoder reserve gigabytes, and a few
// megabytes end the process with a stack overflow that nothing can recover from.
// So [checkGob] reads ahead of it.

var errGob = errors.New("malformed gob")

// checkGob refuses what [gobEncode] does not write: counts of more elements than
// there are bytes left, values nested more than maxDepth levels deep, and type
// definitions that cost far more to prepare for than they have bytes.
//
// The format is described at the end of encoding/gob's doc.go.
func checkGob(encoded []byte) error {
	s := gobScanner{
		stream:  encoded,
		types:   map[int64]*gobType{},
		decodes: map[gobPair]bool{},
		budget:  1000 + 4*len(encoded),
	}
	if s.typeSequence(true) != gobInterface || s.uint() != 0 {
		return errGob
	}
	s.interfaceValue(0)
	if s.bad || len(s.rest)+len(s.stream) > 0 {
		return errGob
	}
	return nil
}

// The IDs of gob's basic types.
const (
	gobBool = iota + 1
	gobInt
	gobUint
	gobFloat
	gobBytes
	gobString
	gobComplex
	gobInterface
)

// The kinds of types that a stream defines, as numbered in gob's wireType.
const (
	gobArray = iota
	gobSlice
	gobStruct
	gobMap
	gobOpaque // this and what follows encodes itself
)

type gobType struct {
	kind   int
	of     [3]int64 // the element of an array or slice at 1; a map's key at 1, its element at 2
	fields []int64
	met    int // the last walk of [gobScanner.prepare] that came here
}

// gobPair is what the decoder prepares itself for: to read the type of an ID into
// the type that a name is registered for.
type gobPair struct {
	name string
	id   int64
}

type gobScanner struct {
	stream  []byte // the messages to come
	rest    []byte // what is left of the present one
	end     int    // how much of rest is left where the present value of an interface, or its present piece, ends
	types   map[int64]*gobType
	decodes map[gobPair]bool
	budget  int
	bad     bool // nothing that was read counts
}

func (s *gobScanner) fail() {
	s.bad, s.rest, s.stream = true, nil, nil
}

func (s *gobScanner) uint() uint64 { return s.uintFrom(&s.rest) }

func (s *gobScanner) uintFrom(src *[]byte) uint64 {
	if len(*src) == 0 {
		s.fail()
		return 0
	}
	first := (*src)[0]
	*src = (*src)[1:]
	if first < 0x80 {
		return uint64(first)
	}
	size := 0x100 - int(first)
	if size > 8 || size > len(*src) {
		s.fail()
		return 0
	}
	var u uint64
	for _, b := range (*src)[:size] {
		u = u<<8 | uint64(b)
	}
	*src = (*src)[size:]
	return u
}

func (s *gobScanner) int() int64 {
	u := s.uint()
	if u&1 != 0 {
		return ^int64(u >> 1)
	}
	return int64(u >> 1)
}

// count reads how many bytes or elements follow. Every element takes a byte at least.
func (s *gobScanner) count() int {
	n := s.uint()
	if n > uint64(len(s.rest)) {
		s.fail()
		return 0
	}
	return int(n)
}

// text reads a string, or what is written like one.
func (s *gobScanner) text() []byte {
	n := s.count()
	text := s.rest[:n]
	s.rest = s.rest[n:]
	return text
}

// structFields calls field for every field of a struct that is there.
func (s *gobScanner) structFields(field func(i int64)) {
	for i := int64(-1); ; field(i) {
		delta := s.uint()
		if s.bad || delta == 0 {
			return
		}
		if i += int64(delta); i < 0 || i > 1<<20 {
			s.fail()
			return
		}
	}
}

// typeSequence reads the definitions of types that stand in front of a value, and
// returns the ID of the value's type.
func (s *gobScanner) typeSequence(outermost bool) int64 {
	for !s.bad {
		if len(s.rest) == 0 && outermost {
			size := s.uintFrom(&s.stream)
			if size > uint64(len(s.stream)) {
				s.fail()
				break
			}
			s.rest, s.stream = s.stream[:size], s.stream[size:]
		}
		id := s.int()
		if id >= 0 {
			return id
		}
		s.define(-id)
		if len(s.rest) > 0 {
			s.endPiece()
			s.beginPiece()
		}
	}
	return 0
}

// A definition cuts the value that it stands in into pieces, each with its length.

func (s *gobScanner) beginPiece() {
	n := s.count()
	s.end = len(s.rest) - n
}

func (s *gobScanner) endPiece() {
	if len(s.rest) != s.end {
		s.fail()
	}
}

// define reads the definition of a type.
func (s *gobScanner) define(id int64) {
	t := &gobType{kind: -1}
	s.structFields(func(kind int64) {
		if t.kind >= 0 {
			s.fail()
		}
		t.kind = int(kind)
		s.structFields(func(i int64) {
			switch {
			case i == 0: // the name, which counts for nothing, and the ID again
				s.nameAndID()
			case kind == gobStruct && i == 1:
				for range s.count() {
					t.fields = append(t.fields, s.nameAndID())
				}
			case i < int64(len(t.of)):
				t.of[i] = s.int()
			default:
				s.fail()
			}
		})
	})
	if t.kind < 0 || s.types[id] != nil {
		s.fail()
	}
	s.types[id] = t
}

// nameAndID reads a struct of a string and an ID.
func (s *gobScanner) nameAndID() (id int64) {
	s.structFields(func(i int64) {
		if i == 0 {
			s.text()
		} else {
			id = s.int()
		}
	})
	return id
}

func (s *gobScanner) interfaceValue(depth int) {
	name := string(s.text())
	if name == "" {
		return
	}
	id := s.typeSequence(depth == 0)
	if pair := (gobPair{name, id}); !s.decodes[pair] {
		s.decodes[pair] = true
		s.prepare(id)
	}
	outer := s.end
	s.beginPiece()
	if t := s.types[id]; (t == nil || t.kind != gobStruct) && s.uint() != 0 {
		s.fail()
	}
	s.value(id, depth)
	s.endPiece()
	s.end = outer
}

func (s *gobScanner) value(id int64, depth int) {
	if depth > maxDepth {
		s.fail()
	}
	if s.bad {
		return
	}
	switch id {
	case gobBool, gobInt, gobUint, gobFloat:
		s.uint()
		return
	case gobComplex:
		s.uint()
		s.uint()
		return
	case gobBytes, gobString:
		s.text()
		return
	case gobInterface:
		s.interfaceValue(depth + 1)
		return
	}
	t := s.types[id]
	if t == nil {
		s.fail()
		return
	}
	switch t.kind {
	case gobArray, gobSlice:
		for n := s.count(); n > 0 && !s.bad; n-- {
			s.value(t.of[1], depth+1)
		}
	case gobMap:
		for n := s.count(); n > 0 && !s.bad; n-- {
			s.value(t.of[1], depth+1)
			s.value(t.of[2], depth+1)
		}
	case gobStruct:
		s.structFields(func(i int64) {
			if i >= int64(len(t.fields)) {
				s.fail()
				return
			}
			s.value(t.fields[i], depth+1)
		})
	default:
		s.text()
	}
}

// prepare charges for what the decoder does before it reads a type for the first
// time: it visits the type's parts, a struct once, all others as often as
// they are used.
func (s *gobScanner) prepare(id int64) {
	s.visit(id, len(s.decodes), 0)
}

func (s *gobScanner) visit(id int64, walk, depth int) {
	s.budget--
	if s.budget < 0 || depth > maxDepth {
		s.fail()
	}
	t := s.types[id]
	if s.bad || t == nil || t.met == walk {
		return
	}
	t.met = walk
	for _, part := range t.fields {
		s.visit(part, walk, depth+1)
	}
	if t.kind != gobStruct {
		if t.kind == gobMap {
			s.visit(t.of[2], walk, depth+1)
		}
		if t.kind < gobOpaque {
			s.visit(t.of[1], walk, depth+1)
		}
		t.met = 0
	}
}

// encodeOwner gives the BSON value of an owner: a string, an integer, an ObjectID or
// binary, whatever Go type it has. nil and the empty string are no owner, and a
// value of kind 0.
func encodeOwner(owner any) (value, error) {
	if id, ok := owner.(bson.ObjectID); ok {
		return value{bson.TypeObjectID, id[:]}, nil
	}
	v := reflect.ValueOf(owner)
	switch {
	case !v.IsValid():
		return value{}, nil
	case v.Kind() == reflect.String:
		switch s := v.String(); {
		case s == "":
			return value{}, nil
		case utf8.ValidString(s):
			return value{bson.TypeString, appendString(nil, s)}, nil
		default:
			return value{}, errors.New("a string that is not UTF-8 cannot be an owner")
		}
	case v.CanInt():
		return integerValue(v.Int()), nil
	case v.CanUint():
		if u := v.Uint(); u <= math.MaxInt64 {
			return integerValue(int64(u)), nil
		}
		return value{}, errors.New("an integer above 63 bits cannot be an owner")
	case (v.Kind() == reflect.Array || v.Kind() == reflect.Slice) && v.Type().Elem().Kind() == reflect.Uint8: // a UUID, say
		if v.Len() == 0 {
			return value{}, nil
		}
		b := make([]byte, v.Len())
		for i := range b {
			b[i] = byte(v.Index(i).Uint())
		}
		return value{bson.TypeBinary, appendBinary(nil, b)}, nil
	}
	return value{}, fmt.Errorf("a %T cannot be an owner: it takes a string, an integer, an ObjectID or bytes", owner)
}

func integerValue(i int64) value {
	if i == int64(int32(i)) {
		return value{bson.TypeInt32, appendInt32(nil, int32(i))}
	}
	return value{bson.TypeInt64, appendInt64(nil, i)}
}

// equal reports whether two encoded values are the same to the byte.
func (v value) equal(w value) bool {
	return v.kind == w.kind && string(v.data) == string(w.data)
}

// encodeDetails gives the BSON value of what Config.Describe told; of kind 0 if that is
// nothing.
func encodeDetails(details map[string]string) value {
	if len(details) == 0 {
		return value{}
	}
	clean := make(map[string]string, len(details))
	for k, v := range details {
		// They come from the request, where anything may stand.
		clean[strings.ToValidUTF8(k, "\uFFFD")] = strings.ToValidUTF8(v, "\uFFFD")
	}
	data, kind, err := encodeMap(nil, clean, 0)
	if err != nil {
		return value{}
	}
	return value{kind, data}
}

func decodeDetails(v value) (map[string]string, error) {
	if v.kind != bson.TypeEmbeddedDocument {
		return nil, badTag(fieldDetails)
	}
	return decodeMap[string](v, 0)
}
