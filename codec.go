package mongostore

import (
	"bytes"
	"encoding"
	"encoding/base64"
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
