package samples

import (
	"bytes"
	"encoding/base64"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// Key is a key and the name of its field, which is empty where gob decides.
type Key struct {
	Key  any
	Name string
}

// Keys returns keys of all types, and all of [OddStrings].
func Keys() []Key {
	keys := []Key{
		{"user", "user"},
		{"", "%empty"},
		{".", "%2E"},
		{"a.b", "a%2Eb"},
		{"a..b", "a%2E%2Eb"},
		{"$set", "%24set"},
		{"a$b", "a$b"},
		{"%", "%25"},
		{"%empty", "%25empty"},
		{"%int:1", "%25int:1"},
		{"\x00", "%00"},
		{"\xff\ufffd", "%FF\ufffd"},
		{"_id", "_id"},
		{"expiresAt", "expiresAt"},
		{" a b ", "%20a b%20"},
		{"\u2003", "%E2%80%83"},
		{"0", "0"},
		{"🦊", "🦊"},

		{nil, "%nil"},
		{true, "%bool:true"},
		{false, "%bool:false"},
		{0, "%int:0"},
		{1, "%int:1"},
		{math.MinInt, "%int:-9223372036854775808"},
		{int8(math.MinInt8), "%int8:-128"},
		{int16(math.MaxInt16), "%int16:32767"},
		{int32(math.MinInt32), "%int32:-2147483648"},
		{int64(math.MinInt64), "%int64:-9223372036854775808"},
		{int64(1), "%int64:1"},
		{uint(1), "%uint:1"},
		{uint(math.MaxUint), "%uint:18446744073709551615"},
		{uint8(1), "%uint8:1"},
		{uint16(1), "%uint16:1"},
		{uint32(1), "%uint32:1"},
		{uint64(math.MaxUint64), "%uint64:18446744073709551615"},

		{Key: 1.5},
		{Key: 0.0},
		{Key: math.Inf(-1)},
		{Key: float32(1.5)},
		{Key: complex(1, 2)},
		{Key: uintptr(1)},
		{Key: time.March},
		{Key: Role("admin")},
		{Key: Role("")},
		{Key: Role("user")},
		{Key: Level(1)},
		{Key: CtxKey(0)},
		{Key: CtxKey(1)},
		{Key: KeyPair{"a", "b"}},
		{Key: KeyPair{"ab", ""}},
		{Key: Triple{1, 2, 3}},
		{Key: [3]int{1, 2, 3}},
		{Key: [2]string{"a.b", "$c"}},
	}
	for _, s := range OddStrings {
		if !slices.ContainsFunc(keys, func(k Key) bool { return k.Key == s }) {
			keys = append(keys, Key{Key: s})
		}
	}
	return keys
}

// BadKeys returns keys that cannot come back. Not all are comparable. No error may contain the text
// "confidential".
func BadKeys() []any {
	return []any{
		math.NaN(),
		float32(math.NaN()),
		complex(math.NaN(), 0),
		&KeyPair{"confidential", "b"},
		new(int),
		Unregistered{"confidential"},
		struct{ Secret string }{"confidential"},
		make(chan int),
		Clumsy{EncodePanics},
		Clumsy{DecodePanics},
		(*KeyPair)(nil),
		[]string{"confidential"},
	}
}

// CheckFieldName checks that MongoDB accepts a name as it is, and as a part of a path.
func CheckFieldName(t testing.TB, name string) {
	t.Helper()
	if name == "" || !utf8.ValidString(name) || strings.HasPrefix(name, "$") || strings.ContainsAny(name, ".\x00") {
		t.Errorf("%q is no name for a field", name)
	}
}

// OtherName returns the name under which another process may store the key with a name that gob
// decides: gob numbers types in the order in which a process first used them.
func OtherName(t testing.TB, name string) string {
	t.Helper()
	encoded, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(name, "%gob:"))
	if err != nil {
		t.Fatal(err)
	}
	other := "%gob:" + base64.RawURLEncoding.EncodeToString(renumberGob(t, encoded))
	if name == other {
		t.Fatal("the names do not differ")
	}
	return other
}

// renumberGob returns the gob of a value of one defined type with another number for that type,
// as another process may have written it.
func renumberGob(t testing.TB, encoded []byte) []byte {
	t.Helper()
	// The number has one byte, after a byte with its length. Before the definition it is
	// negative.
	i := bytes.LastIndexByte(encoded, 0xff)
	if i < 0 {
		t.Fatalf("no number of a type in % x", encoded)
	}
	number := encoded[i+1]
	other := number ^ 0x20
	definition := []byte{0xff, number - 1}
	encoded = bytes.ReplaceAll(encoded, definition, []byte{0xff, other - 1})
	return bytes.ReplaceAll(encoded, []byte{0xff, number}, []byte{0xff, other})
}
