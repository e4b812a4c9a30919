package bsonval

import (
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mongostore/mongostore/internal/safegob"
)

// A key's name is the key itself if that is a string, percent-escaped where MongoDB would
// misread it. White space around a name is escaped because the tests' FerretDB 1 refuses it.
// An escape is a percent sign and two upper-case hex digits. Any other name that begins with a
// percent sign continues in lower case and stands for a key that is no ordinary string:
// %empty, %nil, %TYPE:TEXT for Go's basic types, and %gob:BASE64URL for other types.

var errKey = errors.New("invalid key")

const (
	upperHex = "0123456789ABCDEF"
	emptyKey = "%empty"
	nilKey   = "%nil"
	gobKey   = "%gob:"
)

// basicKeys are the types of keys that have a readable name, by the types' names.
var basicKeys = byName(
	reflect.TypeFor[bool](),
	reflect.TypeFor[int](), reflect.TypeFor[int8](), reflect.TypeFor[int16](), reflect.TypeFor[int32](), reflect.TypeFor[int64](),
	reflect.TypeFor[uint](), reflect.TypeFor[uint8](), reflect.TypeFor[uint16](), reflect.TypeFor[uint32](), reflect.TypeFor[uint64](),
)

func byName(types ...reflect.Type) map[string]reflect.Type {
	m := map[string]reflect.Type{}
	for _, t := range types {
		m[t.Name()] = t
	}
	return m
}

// EncodeKey returns the name of the field for a key. Different keys have different names, and
// every name is one that MongoDB accepts as it is.
func EncodeKey(key any) (string, error) {
	switch key := key.(type) {
	case string:
		return escape(key), nil
	case nil:
		return nilKey, nil
	}
	t, v := reflect.TypeOf(key), reflect.ValueOf(key)
	if basicKeys[t.Name()] != t {
		return encodeGobKey(key)
	}
	var text string
	switch {
	case v.CanInt():
		text = strconv.FormatInt(v.Int(), 10)
	case v.CanUint():
		text = strconv.FormatUint(v.Uint(), 10)
	default:
		text = strconv.FormatBool(v.Bool())
	}
	return "%" + t.Name() + ":" + text, nil
}

// encodeGobKey encodes keys of the application's own types. A key that would not come back
// equal, such as NaN or a pointer, is refused.
func encodeGobKey(key any) (string, error) {
	encoded, err := safegob.Encode(key)
	if err != nil {
		return "", err
	}
	back, err := safegob.Decode(encoded)
	if err != nil {
		return "", err
	}
	if !isComparable(key) || !isComparable(back) || back != key {
		return "", fmt.Errorf("a %T does not come back equal from gob, so it cannot be a key", key)
	}
	return gobKey + base64.RawURLEncoding.EncodeToString(encoded), nil
}

func isComparable(key any) bool { return key != nil && reflect.ValueOf(key).Comparable() }

// DecodeKey is the inverse of [EncodeKey]. It accepts only names that EncodeKey returns, so no two
// names stand for one key. Gob is the exception: it numbers types in the order in which a
// process first used them, so a key may have a name per process.
func DecodeKey(name string) (any, error) {
	switch {
	case len(name) < 2 || name[0] != '%' || name[1] < 'a' || name == emptyKey:
		if key, ok := unescape(name); ok {
			return key, nil
		}
		return nil, errKey
	case name == nilKey:
		return nil, nil
	case strings.HasPrefix(name, gobKey):
		return decodeGobKey(name[len(gobKey):])
	}
	typeName, text, _ := strings.Cut(name[1:], ":")
	t, ok := basicKeys[typeName]
	if !ok {
		return nil, errKey
	}
	v := reflect.New(t).Elem()
	var err error
	switch {
	case v.CanInt():
		var i int64
		i, err = strconv.ParseInt(text, 10, t.Bits())
		v.SetInt(i)
	case v.CanUint():
		var u uint64
		u, err = strconv.ParseUint(text, 10, t.Bits())
		v.SetUint(u)
	default:
		var b bool
		b, err = strconv.ParseBool(text)
		v.SetBool(b)
	}
	if err != nil {
		return nil, errKey
	}
	key := v.Interface()
	if canonical, err := EncodeKey(key); err != nil || canonical != name {
		return nil, errKey
	}
	return key, nil
}

func decodeGobKey(text string) (any, error) {
	encoded, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, errKey
	}
	key, err := safegob.Decode(encoded)
	if err != nil {
		return nil, err
	}
	// Refuse a key that has a readable name, or that is not equal to itself.
	if !isComparable(key) {
		return nil, errKey
	}
	if name, err := EncodeKey(key); err != nil || !strings.HasPrefix(name, gobKey) {
		return nil, errKey
	}
	return key, nil
}

// plain reports whether a string key is its own name, as most are. It looks at bytes alone, and
// returns false for some others that are.
func plain(key string) bool {
	for i := range len(key) {
		if c := key[i]; c <= ' ' || c > '~' || c == '%' || c == '.' {
			return false
		}
	}
	return key != "" && key[0] != '$'
}

// escape returns a string key's name.
func escape(key string) string {
	switch {
	case plain(key):
		return key
	case key == "":
		return emptyKey
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

// unescape is the inverse of [escape]. It accepts only what escape returns.
func unescape(name string) (key string, ok bool) {
	switch {
	case plain(name):
		return name, true
	case name == emptyKey:
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
