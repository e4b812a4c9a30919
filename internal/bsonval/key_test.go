package bsonval_test

import (
	"bytes"
	"encoding/base64"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mongostore/mongostore/internal/bsonval"
)

// keyed is a key and its name, which is empty where gob decides.
type keyed struct {
	key  any
	name string
}

func keyedSamples() []keyed {
	keys := []keyed{
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

		{key: 1.5},
		{key: 0.0},
		{key: math.Inf(-1)},
		{key: float32(1.5)},
		{key: complex(1, 2)},
		{key: uintptr(1)},
		{key: time.March},
		{key: role("admin")},
		{key: role("")},
		{key: role("user")},
		{key: level(1)},
		{key: ctxKey(0)},
		{key: ctxKey(1)},
		{key: keyPair{"a", "b"}},
		{key: keyPair{"ab", ""}},
		{key: triple{1, 2, 3}},
		{key: [3]int{1, 2, 3}},
		{key: [2]string{"a.b", "$c"}},
	}
	for _, s := range oddStrings {
		if !slices.ContainsFunc(keys, func(k keyed) bool { return k.key == s }) {
			keys = append(keys, keyed{key: s})
		}
	}
	return keys
}

// TestKeys: every key has its own name, which MongoDB accepts, and comes back from it.
func TestKeys(t *testing.T) {
	t.Parallel()
	names := map[string]any{}
	for _, k := range keyedSamples() {
		name, err := bsonval.EncodeKey(k.key)
		if err != nil {
			t.Errorf("%T %#v: %v", k.key, k.key, err)
			continue
		}
		checkFieldName(t, name)
		if k.name != "" && name != k.name {
			t.Errorf("%T %#v has the name %q, want %q", k.key, k.key, name, k.name)
		}
		if other, taken := names[name]; taken {
			t.Errorf("%#v and %#v have the name %q", k.key, other, name)
		}
		names[name] = k.key
		if back, err := bsonval.DecodeKey(name); err != nil || back != k.key {
			t.Errorf("%T %#v came back as %T %#v, %v", k.key, k.key, back, back, err)
		}
	}
}

// TestKeysOfAnotherName: gob numbers types in the order in which a process first used them, so
// another process may have stored a key of an application's type under another name.
func TestKeysOfAnotherName(t *testing.T) {
	t.Parallel()
	key := keyPair{"a", "b"}
	name, err := bsonval.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(name, "%gob:"))
	if err != nil {
		t.Fatal(err)
	}
	other := "%gob:" + base64.RawURLEncoding.EncodeToString(renumberGob(t, encoded))
	if name == other {
		t.Fatal("the names do not differ")
	}
	if back, err := bsonval.DecodeKey(other); err != nil || back != key {
		t.Errorf("%q is read as %#v, %v", other, back, err)
	}
}

// checkFieldName checks that MongoDB accepts a name as it is, and as a part of a path.
func checkFieldName(t testing.TB, name string) {
	t.Helper()
	if name == "" || !utf8.ValidString(name) || strings.HasPrefix(name, "$") || strings.ContainsAny(name, ".\x00") {
		t.Errorf("%q is no name for a field", name)
	}
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

// TestKeysThatCannotComeBack are refused, with an error that holds no value.
func TestKeysThatCannotComeBack(t *testing.T) {
	t.Parallel()
	for _, key := range []any{
		math.NaN(),
		float32(math.NaN()),
		complex(math.NaN(), 0),
		&keyPair{"confidential", "b"},
		new(int),
		unregistered{"confidential"},
		struct{ Secret string }{"confidential"},
		make(chan int),
		clumsy{"encode"},
		clumsy{"decode"},
		(*keyPair)(nil),
		[]string{"confidential"},
	} {
		name, err := bsonval.EncodeKey(key)
		if err == nil {
			t.Errorf("%T has the name %q", key, name)
		} else if strings.Contains(err.Error(), "confidential") || strings.Contains(err.Error(), "clumsy panic") {
			t.Errorf("%T: the error holds a value: %v", key, err)
		}
	}
}

// FuzzKey: a name stands for one key, or none, and every string has a name that MongoDB
// accepts.
func FuzzKey(f *testing.F) {
	for _, k := range keyedSamples() {
		name, err := bsonval.EncodeKey(k.key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(name)
	}
	for _, s := range append(oddStrings, "%int:01", "%int:+1", "%int8:128", "%uint:-1", "%bool:TRUE", "%nil:", "%2e", "%41", "%E9", "%gob:AAAA") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := bsonval.EncodeKey(s)
		if err != nil {
			t.Fatal(err)
		}
		checkFieldName(t, name)
		if back, err := bsonval.DecodeKey(name); err != nil || back != s {
			t.Errorf("%q came back as %#v, %v", s, back, err)
		}

		key, err := bsonval.DecodeKey(s)
		if err != nil {
			return
		}
		again, err := bsonval.EncodeKey(key)
		if err != nil {
			t.Fatalf("%q stands for %#v, which has no name: %v", s, key, err)
		}
		if again != s && !strings.HasPrefix(s, "%gob:") {
			t.Errorf("%q and %q stand for one key", s, again)
		}
		checkFieldName(t, again)
		if back, err := bsonval.DecodeKey(again); err != nil || back != key {
			t.Errorf("%#v came back as %#v, %v", key, back, err)
		}
	})
}

// fuzzedKey returns a key of one of several types.
func fuzzedKey(kind uint8, text string) any {
	var bits uint64
	for _, b := range []byte(text) {
		bits = bits<<8 | uint64(b)
	}
	half := len(text) / 2
	kinds := []any{
		text, nil, bits&1 == 1, int(bits), int8(bits), int16(bits), int32(bits), int64(bits),
		uint(bits), uint8(bits), uint16(bits), uint32(bits), bits, uintptr(bits),
		math.Float64frombits(bits), math.Float32frombits(uint32(bits)), complex(1, math.Float64frombits(bits)),
		role(text), level(bits), ctxKey(bits),
		keyPair{text[:half], text[half:]},
		[2]string{text[:half], text[half:]},
		[3]int{int(bits), 0, int(bits)},
	}
	return kinds[int(kind)%len(kinds)]
}

// FuzzKeyPairs: two keys never share a name, and a key has no second one.
func FuzzKeyPairs(f *testing.F) {
	texts := []string{"", "a", "1", "%int:1", "\xff", ".", "%2E", "ab", "\x00\x00\x00\x00\x00\x00\x00\x01"}
	for kind := range uint8(23) {
		for i, text := range texts {
			f.Add(kind, text, kind, texts[(i+1)%len(texts)])
			f.Add(uint8(0), text, kind, text)
			f.Add(kind, text, kind+1, text)
		}
	}
	f.Fuzz(func(t *testing.T, kindA uint8, textA string, kindB uint8, textB string) {
		a, b := fuzzedKey(kindA, textA), fuzzedKey(kindB, textB)
		nameA, errA := bsonval.EncodeKey(a)
		nameB, errB := bsonval.EncodeKey(b)
		for key, err := range map[any]error{a: errA, b: errB} {
			if (err != nil) != (key != key) { // NaN
				t.Errorf("%#v: %v", key, err)
			}
		}
		if errA != nil || errB != nil {
			return
		}
		// 0 and -0 are one key, with two names of gob.
		if (a == b) != (nameA == nameB) && !(a == b && strings.HasPrefix(nameA, "%gob:") && !same(a, b)) {
			t.Errorf("%#v is stored as %q, and %#v as %q", a, nameA, b, nameB)
		}
		back, err := bsonval.DecodeKey(nameA)
		if err != nil || back != a {
			t.Errorf("%#v came back as %#v, %v", a, back, err)
		}
	})
}
