package safegob_test

import (
	"bytes"
	"encoding/gob"
	"errors"
	"io"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mongostore/mongostore/internal/safegob"
)

type (
	keyPair struct{ Shop, User string }
	chain   []any
	card    profile
	profile struct {
		Name    string
		Age     int
		Tags    map[string]string
		Extra   any
		Since   time.Time
		Friends []*profile
		Photo   []byte
	}

	// clumsy panics or fails in its methods as it is told.
	clumsy struct{ in string }

	unregistered struct{ Secret string }
	hidden       struct{ secret string }
)

func (c clumsy) GobEncode() ([]byte, error) {
	switch c.in {
	case "panic when encoded":
		panic("confidential")
	case "fail when encoded":
		return nil, errors.New("confidential")
	}
	return []byte(c.in), nil
}

func (c *clumsy) GobDecode(b []byte) error {
	switch c.in = string(b); c.in {
	case "panic when decoded":
		panic("confidential")
	case "fail when decoded":
		return errors.New("confidential")
	}
	return nil
}

var _ = registerTypes()

func registerTypes() bool {
	for _, v := range []any{keyPair{}, card{}, []card{}, &profile{}, clumsy{}, hidden{}, [2]string{}, []any{}, map[int]string{}, map[string]card{}, &url.URL{}} {
		gob.Register(v)
	}
	gob.RegisterName("chain", chain{})
	// The first type has a shorter number than those after it.
	return gob.NewEncoder(io.Discard).Encode(struct{ First int }{}) == nil
}

// values come back from gob as they are.
func values() []any {
	return []any{
		nil, "text", 5, -1.5, []byte("bytes"), true, complex(1, 2),
		[]string{"a", "b"},
		keyPair{"a", "b"},
		&profile{Name: "Ada", Tags: map[string]string{"a": "b"}, Friends: []*profile{{Age: 36}}},
		card{Extra: &profile{Extra: chain{"x", 1}}},
		[]card{{Name: "a"}, {Name: "b"}},
		chain{chain{1}, "x"},
		map[int]string{1: "a"},
		map[string]card{"a": {Age: 1}},
		[2]string{"a", "b"},
		clumsy{"well"},
		&url.URL{Host: "example.com"},
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, v := range values() {
		encoded, err := safegob.Encode(v)
		if err != nil {
			t.Errorf("%T: %v", v, err)
			continue
		}
		if back, err := safegob.Decode(encoded); err != nil || !reflect.DeepEqual(back, v) {
			t.Errorf("%#v came back as %#v, %v", v, back, err)
		}
	}
}

// TestPointersAreFlattened: whether a pointer comes back depends on how the type was registered.
func TestPointersAreFlattened(t *testing.T) {
	t.Parallel()
	text, name := "a", keyPair{"a", "b"}
	for _, row := range []struct{ value, want any }{
		{&text, "a"},
		{&name, name},
		{profile{Age: 1}, &profile{Age: 1}},
	} {
		encoded, err := safegob.Encode(row.value)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := safegob.Decode(encoded); err != nil || !reflect.DeepEqual(back, row.want) {
			t.Errorf("%#v came back as %#v, %v", row.value, back, err)
		}
	}
}

// TestEncodeErrors name types, and no values.
func TestEncodeErrors(t *testing.T) {
	t.Parallel()
	loop := chain{"confidential", nil}
	loop[1] = loop
	friends := &profile{Name: "confidential"}
	friends.Friends = []*profile{{}, friends}
	for _, row := range []struct {
		value any
		want  string
	}{
		{unregistered{"confidential"}, "not registered with gob: safegob_test.unregistered"},
		{chain{unregistered{"confidential"}}, "not registered with gob: safegob_test.unregistered"},
		{hidden{"confidential"}, "gob: type safegob_test.hidden has no exported fields"},
		{chain{(*profile)(nil)}, "nil pointer inside an interface: *safegob_test.profile"},
		{make(chan string), "chan string"},
		{card{Friends: []*profile{nil}}, "gob: type safegob_test.card cannot be encoded"},
		{clumsy{"fail when encoded"}, "gob: type safegob_test.clumsy cannot be encoded"},
		{chain{"confidential", clumsy{"fail when encoded"}}, "gob: type safegob_test.chain cannot be encoded"},
		{clumsy{"panic when encoded"}, "panicked"},
		{loop, "contains itself"},
		{friends, "contains itself"},
	} {
		encoded, err := safegob.Encode(row.value)
		if err == nil {
			t.Errorf("%T was encoded as % x", row.value, encoded)
		} else if !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "confidential") {
			t.Errorf("%T: %v; want %s", row.value, err, row.want)
		}
	}
}

// TestDecodeErrors name types, and no values.
func TestDecodeErrors(t *testing.T) {
	t.Parallel()
	encode := func(v any) []byte {
		encoded, err := safegob.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	rename := func(v any, from, to string) []byte {
		return []byte(strings.ReplaceAll(string(encode(v)), from, to))
	}
	const path = "github.com/mongostore/mongostore/internal/safegob_test."
	for _, row := range []struct {
		name    string
		encoded []byte
		want    string
	}{
		{"a method that fails", encode(clumsy{"fail when decoded"}), "gob: type " + path + "clumsy cannot be decoded"},
		{"a method that fails inside", encode(chain{"confidential", clumsy{"fail when decoded"}}), "gob: type chain cannot be decoded"},
		{"a method that panics", encode(clumsy{"panic when decoded"}), "panicked"},
		{"a type that is not registered", rename(keyPair{"confidential", ""}, "keyPair", "newPair"), "type " + path + "newPair is not registered with gob"},
		{"a name that is none", rename(keyPair{}, "safegob_test", "it's a value"), "a type is not registered with gob"},
		{"the content of a URL", rename(&url.URL{Scheme: "https", Host: "confidential"}, "https", "ht%%:"), "gob: type *url.URL cannot be decoded"},
		{"nothing", nil, "malformed gob"},
		{"text", []byte("confidential"), "malformed gob"},
	} {
		v, err := safegob.Decode(row.encoded)
		if err == nil {
			t.Errorf("%s: decoded as %#v", row.name, v)
		} else if !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "confidential") {
			t.Errorf("%s: %v; want %s", row.name, err, row.want)
		}
	}
}

// TestWhatDecodeRefusesIsNotEncoded: a type for which gob would prepare far longer than its
// definition has bytes.
func TestWhatDecodeRefusesIsNotEncoded(t *testing.T) {
	t.Parallel()
	key := reflect.TypeFor[string]()
	for range 10 {
		key = reflect.ArrayOf(1, key)
	}
	of := key
	for range 10 {
		of = reflect.MapOf(key, of)
	}
	var fields []reflect.StructField
	for i := range 100 {
		fields = append(fields, reflect.StructField{Name: "F" + strconv.Itoa(i), Type: of})
	}
	laborious := reflect.New(reflect.StructOf(fields)).Elem().Interface()
	gob.RegisterName("laborious", laborious)
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(&laborious); err != nil {
		t.Fatal(err)
	}
	if v, err := safegob.Decode(buf.Bytes()); err == nil {
		t.Fatalf("decoded as %T", v)
	}
	if _, err := safegob.Encode(laborious); err == nil {
		t.Error("it was encoded, and cannot be decoded")
	}
}

// TestValuesThatSeemToRecur: what gob does not follow may contain itself.
func TestValuesThatSeemToRecur(t *testing.T) {
	t.Parallel()
	shared := &profile{Name: "shared"}
	if _, err := safegob.Encode(&profile{Friends: []*profile{shared, shared, shared}}); err != nil {
		t.Error(err)
	}
	deep := &profile{}
	for range 1000 {
		deep = &profile{Friends: []*profile{deep}}
	}
	encoded, err := safegob.Encode(deep)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := safegob.Decode(encoded); err != nil || !reflect.DeepEqual(back, deep) {
		t.Error("another value came back:", err)
	}
}
