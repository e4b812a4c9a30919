package safegob_test

import (
	"bytes"
	"encoding/gob"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/mongostore/mongostore/internal/safegob"
	"github.com/mongostore/mongostore/internal/samples"
)

type hidden struct{ secret string }

var _ = registerTypes()

func registerTypes() bool {
	gob.Register(hidden{})
	gob.Register(&url.URL{})
	return true
}

// values come back from gob as they are.
func values() []any {
	return []any{
		nil, "text", 5, -1.5, []byte("bytes"), true, complex(1, 2),
		[]string{"a", "b"},
		samples.KeyPair{Shop: "a", User: "b"},
		&samples.Profile{Name: "Ada", Tags: map[string]string{"a": "b"}, Friends: []*samples.Profile{{Age: 36}}},
		samples.Card{Extra: &samples.Profile{Extra: samples.Chain{"x", 1}}},
		[]samples.Card{{Name: "a"}, {Name: "b"}},
		samples.Chain{samples.Chain{1}, "x"},
		map[int]string{1: "a"},
		map[string]samples.Card{"a": {Age: 1}},
		[2]string{"a", "b"},
		samples.Clumsy{Text: "well"},
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
	text, name := "a", samples.KeyPair{Shop: "a", User: "b"}
	for _, row := range []struct{ value, want any }{
		{&text, "a"},
		{&name, name},
		{samples.Profile{Age: 1}, &samples.Profile{Age: 1}},
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
	loop := samples.Chain{"confidential", nil}
	loop[1] = loop
	friends := &samples.Profile{Name: "confidential"}
	friends.Friends = []*samples.Profile{{}, friends}
	for _, row := range []struct {
		value any
		want  string
	}{
		{samples.Unregistered{Secret: "confidential"}, "not registered with gob: samples.Unregistered"},
		{samples.Chain{samples.Unregistered{Secret: "confidential"}}, "not registered with gob: samples.Unregistered"},
		{hidden{"confidential"}, "gob: type safegob_test.hidden has no exported fields"},
		{samples.Chain{(*samples.Profile)(nil)}, "nil pointer inside an interface: *samples.Profile"},
		{make(chan string), "chan string"},
		{samples.Card{Friends: []*samples.Profile{nil}}, "gob: type samples.Card cannot be encoded"},
		{samples.Clumsy{Text: samples.EncodeFails}, "gob: type samples.Clumsy cannot be encoded"},
		{samples.Chain{"confidential", samples.Clumsy{Text: samples.EncodeFails}}, "gob: type samples.Chain cannot be encoded"},
		{samples.Clumsy{Text: samples.EncodePanics}, "panicked"},
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
	const path = "github.com/mongostore/mongostore/internal/samples."
	for _, row := range []struct {
		name    string
		encoded []byte
		want    string
	}{
		{"a method that fails", encode(samples.Clumsy{Text: samples.DecodeFails}), "gob: type " + path + "Clumsy cannot be decoded"},
		{"a method that fails inside", encode(samples.Chain{"confidential", samples.Clumsy{Text: samples.DecodeFails}}), "gob: type chain cannot be decoded"},
		{"a method that panics", encode(samples.Clumsy{Text: samples.DecodePanics}), "panicked"},
		{"a type that is not registered", rename(samples.KeyPair{Shop: "confidential"}, "KeyPair", "NewPair"), "type " + path + "NewPair is not registered with gob"},
		{"a name that is none", rename(samples.KeyPair{}, "internal/samples", "it's all a value"), "a type is not registered with gob"},
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
	shared := &samples.Profile{Name: "shared"}
	if _, err := safegob.Encode(&samples.Profile{Friends: []*samples.Profile{shared, shared, shared}}); err != nil {
		t.Error(err)
	}
	deep := &samples.Profile{}
	for range 1000 {
		deep = &samples.Profile{Friends: []*samples.Profile{deep}}
	}
	encoded, err := safegob.Encode(deep)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := safegob.Decode(encoded); err != nil || !reflect.DeepEqual(back, deep) {
		t.Error("another value came back:", err)
	}
}
