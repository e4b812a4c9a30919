package bsonval_test

import (
	"math"
	"strings"
	"testing"

	"github.com/mongostore/mongostore/internal/bsonval"
	"github.com/mongostore/mongostore/internal/samples"
)

// TestKeys: every key has its own name, which MongoDB accepts, and comes back from it.
func TestKeys(t *testing.T) {
	t.Parallel()
	names := map[string]any{}
	for _, k := range samples.Keys() {
		name, err := bsonval.EncodeKey(k.Key)
		if err != nil {
			t.Errorf("%T %#v: %v", k.Key, k.Key, err)
			continue
		}
		samples.CheckFieldName(t, name)
		if k.Name != "" && name != k.Name {
			t.Errorf("%T %#v has the name %q, want %q", k.Key, k.Key, name, k.Name)
		}
		if other, taken := names[name]; taken {
			t.Errorf("%#v and %#v have the name %q", k.Key, other, name)
		}
		names[name] = k.Key
		if back, err := bsonval.DecodeKey(name); err != nil || back != k.Key {
			t.Errorf("%T %#v came back as %T %#v, %v", k.Key, k.Key, back, back, err)
		}
	}
}

// TestKeysOfAnotherName: gob numbers types in the order in which a process first used them, so
// another process may have stored a key of an application's type under another name.
func TestKeysOfAnotherName(t *testing.T) {
	t.Parallel()
	key := samples.KeyPair{Shop: "a", User: "b"}
	name, err := bsonval.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	other := samples.OtherName(t, name)
	if back, err := bsonval.DecodeKey(other); err != nil || back != key {
		t.Errorf("%q is read as %#v, %v", other, back, err)
	}
}

// TestKeysThatCannotComeBack are refused, with an error that holds no value.
func TestKeysThatCannotComeBack(t *testing.T) {
	t.Parallel()
	for _, key := range samples.BadKeys() {
		name, err := bsonval.EncodeKey(key)
		if err == nil {
			t.Errorf("%T has the name %q", key, name)
		} else if strings.Contains(err.Error(), "confidential") {
			t.Errorf("%T: the error holds a value: %v", key, err)
		}
	}
}

// FuzzKey: a name stands for one key, or none, and every string has a name that MongoDB
// accepts.
func FuzzKey(f *testing.F) {
	for _, k := range samples.Keys() {
		name, err := bsonval.EncodeKey(k.Key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(name)
	}
	for _, s := range append(samples.OddStrings, "%int:01", "%int:+1", "%int8:128", "%uint:-1", "%bool:TRUE", "%nil:", "%2e", "%41", "%E9", "%gob:AAAA") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := bsonval.EncodeKey(s)
		if err != nil {
			t.Fatal(err)
		}
		samples.CheckFieldName(t, name)
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
		samples.CheckFieldName(t, again)
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
		samples.Role(text), samples.Level(bits), samples.CtxKey(bits),
		samples.KeyPair{Shop: text[:half], User: text[half:]},
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
		if (a == b) != (nameA == nameB) && !(a == b && strings.HasPrefix(nameA, "%gob:") && !samples.Same(a, b)) {
			t.Errorf("%#v is stored as %q, and %#v as %q", a, nameA, b, nameB)
		}
		back, err := bsonval.DecodeKey(nameA)
		if err != nil || back != a {
			t.Errorf("%#v came back as %#v, %v", a, back, err)
		}
	})
}
