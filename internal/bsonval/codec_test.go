package bsonval_test

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore/internal/bsonval"
	"github.com/mongostore/mongostore/internal/samples"
)

// codec has no registered types.
var codec bsonval.Codec

func encode(t testing.TB, v any) bsonval.Value {
	t.Helper()
	stored, err := codec.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// TestValues: each value comes back with its type, at least as faithfully as from CookieStore, is
// stored as BSON's own type where that loses nothing, and is not written again unchanged.
func TestValues(t *testing.T) {
	t.Parallel()
	for _, row := range samples.Values() {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			stored := encode(t, row.Value)
			if stored.Kind != row.Kind {
				t.Errorf("stored as %v, want %v", stored.Kind, row.Kind)
			}
			tag, content, ok, err := bsonval.Tag(stored)
			if err != nil || ok != (row.Tag != "") || tag != row.Tag || content.Kind != row.Inner {
				t.Errorf("stored with the tag %q and a %v, %v; want %q and a %v", tag, content.Kind, err, row.Tag, row.Inner)
			}
			if err := codec.Verify(stored); err != nil {
				t.Error(err)
			}

			got, err := codec.Decode(stored)
			if err != nil {
				t.Fatal(err)
			}
			cookie, err := throughGob(row.Value)
			asCookieStore := err == nil && samples.Same(got, cookie)
			if !samples.Same(got, row.Want) && !asCookieStore {
				t.Errorf("%#v came back as %#v; from CookieStore as %#v, %v", row.Value, got, cookie, err)
			}
			if err == nil && samples.Same(cookie, row.Value) && !samples.Same(got, row.Value) {
				t.Error("CookieStore is more faithful")
			}
			if strings.HasPrefix(row.Name, "pointer") && err == nil && !asCookieStore {
				t.Errorf("CookieStore returns a %T, not a %T", cookie, got)
			}

			for _, v := range []any{row.Value, got} {
				again := encode(t, v)
				if !codec.Same(stored, again) || row.Tag != "gob" && !row.Mixed && !again.Equal(stored) {
					t.Errorf("%#v seems to have changed", v)
				}
			}
		})
	}
}

// throughGob returns v as CookieStore does, whose serializer is gob.
func throughGob(v any) (any, error) {
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(map[any]any{"key": v}); err != nil {
		return nil, err
	}
	values := map[any]any{}
	err := gob.NewDecoder(&buf).Decode(&values)
	return values["key"], err
}

var _ = registerPointer()

func registerPointer() bool {
	gob.Register(new(time.Duration))
	return true
}

// TestPointersThatGobKeeps: a type that an application registered with gob as a pointer comes back as a
// pointer, as from CookieStore, also where a value of it would be stored natively.
func TestPointersThatGobKeeps(t *testing.T) {
	t.Parallel()
	hour := time.Hour
	stored := encode(t, &hour)
	got, err := codec.Decode(stored)
	if back, ok := got.(*time.Duration); err != nil || !ok || *back != hour {
		t.Errorf("came back as %#v, %v", got, err)
	}
	if !codec.Same(stored, encode(t, got)) {
		t.Error("seems to have changed")
	}
	if got, err := codec.Decode(encode(t, hour)); err != nil || got != hour {
		t.Errorf("a value came back as %#v, %v", got, err)
	}
}

// TestDecodedValuesAreCopies: nothing decoded refers to the bytes that it was decoded from.
func TestDecodedValuesAreCopies(t *testing.T) {
	t.Parallel()
	for _, row := range samples.Values() {
		stored := encode(t, row.Value)
		got, err := codec.Decode(stored)
		if err != nil {
			t.Fatal(err)
		}
		want, err := codec.Decode(bsonval.Value{Kind: stored.Kind, Data: bytes.Clone(stored.Data)})
		if err != nil {
			t.Fatal(err)
		}
		for i := range stored.Data {
			stored.Data[i] = 0xaa
		}
		if !samples.Same(got, want) {
			t.Errorf("%s: overwriting the bytes changed the value", row.Name)
		}
	}
}

// TestAppend: what was in dst stays, and a failure does not change it.
func TestAppend(t *testing.T) {
	t.Parallel()
	for _, row := range samples.Values() {
		dst := append(make([]byte, 0, 64), "before"...)
		got, kind, err := codec.Append(dst, row.Value)
		if err != nil || kind != row.Kind || !bytes.HasPrefix(got, []byte("before")) {
			t.Errorf("%s: %v, %v", row.Name, kind, err)
		}
		if want := encode(t, row.Value); row.Tag != "gob" && !row.Mixed && string(got[6:]) != string(want.Data) {
			t.Errorf("%s: other bytes than Encode's", row.Name)
		}
	}
	dst, _, err := codec.Append([]byte("before"), []any{"a", make(chan int)})
	if err == nil || !bytes.HasPrefix(dst, []byte("before")) {
		t.Errorf("%q, %v", dst, err)
	}
}

// TestAllocations: comparing an unchanged value with its stored bytes costs nothing.
func TestAllocations(t *testing.T) {
	list := []any{"a", 1, int64(2), 2.5, true, nil, map[string]any{"b": "c", "d": []byte("e")}}
	for name, v := range map[string]any{
		"nil": nil, "bool": true, "string": strings.Repeat("x", 100), "int": 1 << 20, "int64": int64(1) << 40, "float64": 1.5,
		"[]byte": []byte("bytes"), "time": time.Unix(1e9, 0).UTC(), "ObjectID": bson.ObjectID{1}, "uint8": uint8(5),
		"Duration": time.Hour, "list": list, "map": map[string]any{"list": list, "n": 1}, "[]string": []string{"a", "b", "c"},
		"map[string]string": map[string]string{"a": "b", "c": "d"},
	} {
		stored := encode(t, v)
		scratch := make([]byte, 0, 2*len(stored.Data)+8)
		allocs := testing.AllocsPerRun(100, func() {
			data, kind, err := codec.Append(scratch, v)
			if err != nil || kind != stored.Kind || !bytes.Equal(data, stored.Data) {
				t.Error(name, "has changed")
			}
		})
		if allocs > 0 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

// TestUnencodableValues are refused, with an error that holds no value.
func TestUnencodableValues(t *testing.T) {
	t.Parallel()
	for _, row := range samples.BadValues() {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			stored, err := codec.Encode(row.Value)
			if err == nil {
				t.Errorf("stored as %v", stored)
			} else if strings.Contains(err.Error(), "confidential") {
				t.Error("the error holds a value:", err)
			}
		})
	}
}

// TestUnreadableValues are not stored: Verify returns an error, which holds no value.
func TestUnreadableValues(t *testing.T) {
	t.Parallel()
	for _, text := range []string{samples.DecodePanics, samples.DecodeFails} {
		v := samples.Clumsy{Text: text}
		for _, v := range []any{v, []any{1, v}, map[string]any{"_type": []any{map[string]any{"a": v}}}, samples.Card{Extra: v}, []map[string]any{{"a": v}}} {
			stored := encode(t, v)
			err := codec.Verify(stored)
			if err == nil {
				t.Errorf("%#v was accepted", v)
			} else if strings.Contains(err.Error(), "confidential") {
				t.Error("the error holds a value:", err)
			}
			if _, err := codec.Decode(stored); err == nil {
				t.Errorf("%#v was decoded", v)
			}
		}
	}
}

// TestDeepNesting: MongoDB accepts a hundred levels. Values nested deeper are stored by gob.
func TestDeepNesting(t *testing.T) {
	t.Parallel()
	for _, row := range samples.Nestings() {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			stored, err := codec.Encode(row.Value)
			if err != nil {
				// As with CookieStore, since map[string]any is not registered with gob.
				if _, errCookie := throughGob(row.Value); errCookie == nil || !strings.Contains(err.Error(), "not registered") {
					t.Fatal(err)
				}
				return
			}
			if got := samples.Levels(documentOf(stored)); got > 85 {
				t.Errorf("the document has %d levels", got)
			}
			back, err := codec.Decode(stored)
			if err != nil || !samples.Same(back, row.Value) {
				t.Errorf("another value came back: %v", err)
			}
			if !codec.Same(stored, encode(t, back)) {
				t.Error("seems to have changed")
			}
		})
	}
}

// TestValuesOfOthers: what people write in the shell, or programs in other languages, is read if
// it is unambiguous, and otherwise refused.
func TestValuesOfOthers(t *testing.T) {
	t.Parallel()
	tag := func(kind string, v any) bson.D { return bson.D{{Key: "_type", Value: kind}, {Key: "_value", Value: v}} }
	type refusal struct{}
	refused := refusal{}
	for _, row := range []struct {
		name   string
		stored any
		want   any
	}{
		{"int32", int32(5), 5},
		{"long", int64(5), int64(5)},
		{"double", 5.5, 5.5},
		{"infinity", tag("float64", "Infinity"), math.Inf(1)},
		{"map out of order", bson.D{{Key: "b", Value: int32(1)}, {Key: "a", Value: "x"}}, map[string]any{"a": "x", "b": 1}},
		{"list", bson.A{int32(1), bson.A{}}, []any{1, []any{}}},
		{"tag out of order", bson.D{{Key: "_value", Value: int32(5)}, {Key: "_type", Value: "int8"}}, int8(5)},
		{"double for an integer", tag("int8", 5.0), int8(5)},
		{"long for an integer", tag("int8", int64(5)), int8(5)},
		{"date", bson.DateTime(0), time.Unix(0, 0).UTC()},
		{"time", tag("time.Time", "2024-01-01T00:00:00+02:00"), time.Date(2024, 1, 1, 0, 0, 0, 0, time.FixedZone("", 2*60*60))},

		{"integer out of range", tag("int8", int32(128)), refused},
		{"negative for unsigned", tag("uint", int32(-1)), refused},
		{"negative text for unsigned", tag("uint64", "-1"), refused},
		{"unsigned out of range", tag("uint64", "18446744073709551616"), refused},
		{"fraction for an integer", tag("int", 5.5), refused},
		{"text for an integer", tag("int", "5"), refused},
		{"double out of range", tag("float32", 1e300), refused},
		{"text for a double", tag("float64", "many"), refused},
		{"integer for a string", tag("string", int32(5)), refused},
		{"list for a map", tag("map[string]string", bson.A{}), refused},
		{"another element in a list", tag("[]string", bson.A{int32(1)}), refused},
		{"null in a list of strings", tag("[]string", bson.A{nil}), refused},
		{"something for nil", tag("[]byte", int32(0)), refused},
		{"no time", tag("time.Time", "yesterday"), refused},
		{"number for a time", tag("time.Time", int64(3)), refused},
		{"no gob", tag("gob", []byte("nonsense")), refused},
		{"empty gob", tag("gob", []byte{}), refused},
		{"text for gob", tag("gob", "nonsense"), refused},
		{"unknown tag", tag("decimal", "1"), refused},
		{"tag that is no text", tag("", 1), refused},
		{"tag without its value", bson.D{{Key: "_type", Value: "int"}}, refused},
		{"tag with more", append(tag("int", int32(1)), bson.E{Key: "a", Value: 1}), refused},
		{"number for a tag", bson.D{{Key: "_type", Value: int32(1)}, {Key: "_value", Value: int32(1)}}, refused},
		{"key that we do not write", bson.D{{Key: "%2f", Value: int32(1)}}, refused},
		{"symbol", bson.Symbol("x"), refused},
		{"decimal", bson.NewDecimal128(1, 2), refused},
		{"regular expression", bson.Regex{Pattern: "a"}, refused},
		{"UUID", bson.Binary{Subtype: bson.TypeBinaryUUID, Data: make([]byte, 16)}, refused},
		{"deep", samples.DeepDocument(300), refused},
		{"text that is not UTF-8", bson.RawValue{Type: bson.TypeString, Value: []byte("\x02\x00\x00\x00\xff\x00")}, refused},
		{"list that was a map", bson.RawValue{Type: bson.TypeArray, Value: []byte("\x08\x00\x00\x00\x0aa\x00\x00")}, refused},
		{"list with a gap", bson.RawValue{Type: bson.TypeArray, Value: []byte("\x08\x00\x00\x00\x0a1\x00\x00")}, refused},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			kind, data, err := bson.MarshalValue(row.stored)
			if err != nil {
				t.Fatal(err)
			}
			got, err := codec.Decode(bsonval.Value{Kind: kind, Data: data})
			if row.want == refused {
				if err == nil {
					t.Errorf("read as %#v", got)
				}
				return
			}
			if err != nil || !samples.Same(got, row.want) {
				t.Errorf("read as %#v, %v; want %#v", got, err, row.want)
			}
		})
	}
}

// gobValue returns the value that a gob is stored as.
func gobValue(t testing.TB, encoded []byte) bsonval.Value {
	t.Helper()
	v := samples.GobValue(t, encoded)
	return bsonval.Value{Kind: v.Type, Data: v.Value}
}

// recipe creates Go values from bytes.
type recipe struct {
	data []byte
	gob  bool // gob encodes some of the values
}

func (r *recipe) take(n int) []byte {
	taken := make([]byte, n)
	r.data = r.data[copy(taken, r.data):]
	return taken
}

func (r *recipe) byte() byte { return r.take(1)[0] }

func (r *recipe) bits() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

func (r *recipe) text() string { return string(r.take(int(r.byte() % 16))) }

func (r *recipe) float() float64 { return math.Float64frombits(r.bits()) }

// count returns how many elements a list or map gets.
func (r *recipe) count() int {
	if len(r.data) == 0 {
		return 0
	}
	return int(r.byte() % 6)
}

func (r *recipe) time() time.Time {
	t := time.Unix(int64(r.bits()), int64(r.bits()%1e9))
	switch r.byte() % 5 {
	case 0:
		return t.UTC()
	case 1:
		return t.UTC().Truncate(time.Millisecond)
	case 2:
		return t
	case 3:
		return time.Unix(t.Unix()%1e11, 0).In(time.FixedZone("", int(int8(r.byte()))*60))
	default:
		return t.In(time.FixedZone("", int(int32(r.bits()))))
	}
}

func listOf[T any](r *recipe, element func() T) []T {
	var l []T
	for range r.count() {
		l = append(l, element())
	}
	if l == nil && r.byte()%2 == 0 {
		l = []T{}
	}
	return l
}

func dictOf[T any](r *recipe, element func() T) map[string]T {
	m := map[string]T{}
	for range r.count() {
		m[r.text()] = element()
	}
	if len(m) == 0 && r.byte()%2 == 0 {
		return nil
	}
	if r.byte()%4 == 0 {
		m["_type"] = element()
	}
	return m
}

func (r *recipe) value(depth int) any {
	if depth > 10 {
		return nil
	}
	inner := func() any { return r.value(depth + 1) }
	kinds := []func() any{
		func() any { return nil },
		func() any { return r.byte()%2 == 0 },
		func() any { return r.text() },
		func() any { return []byte(r.text()) },
		func() any { return []byte(nil) },
		func() any { return bson.ObjectID(r.take(12)) },
		func() any { return int(r.bits()) },
		func() any { return int(int32(r.bits())) },
		func() any { return int8(r.bits()) },
		func() any { return int16(r.bits()) },
		func() any { return int32(r.bits()) },
		func() any { return int64(r.bits()) },
		func() any { return uint(r.bits()) },
		func() any { return uint8(r.bits()) },
		func() any { return uint16(r.bits()) },
		func() any { return uint32(r.bits()) },
		func() any { return r.bits() },
		func() any { return time.Duration(r.bits()) },
		func() any { return r.float() },
		func() any { return float64(int8(r.byte())) / 4 },
		func() any { return math.Float32frombits(uint32(r.bits())) },
		func() any { return r.time() },
		func() any { return listOf(r, inner) },
		func() any { return dictOf(r, inner) },
		func() any { return listOf(r, r.text) },
		func() any { return listOf(r, func() bool { return r.byte()%2 == 0 }) },
		func() any { return listOf(r, func() int { return int(r.bits()) }) },
		func() any { return listOf(r, func() int64 { return int64(r.bits()) }) },
		func() any { return listOf(r, r.float) },
		func() any { return listOf(r, r.time) },
		func() any { return listOf(r, func() map[string]any { return dictOf(r, inner) }) },
		func() any { return dictOf(r, r.text) },
		func() any { return dictOf(r, func() bool { return r.byte()%2 == 0 }) },
		func() any { return dictOf(r, func() int { return int(r.bits()) }) },
		func() any { return dictOf(r, func() int64 { return int64(r.bits()) }) },
		func() any { return dictOf(r, r.float) },
		func() any { return dictOf(r, func() []string { return listOf(r, r.text) }) },
		func() any { return r.gobbed(depth + 1) },
	}
	return kinds[int(r.byte())%len(kinds)]()
}

// gobbed creates values that gob encodes without a loss.
func (r *recipe) gobbed(depth int) any {
	r.gob = true
	switch r.byte() % 9 {
	case 0:
		return samples.Role(r.text())
	case 1:
		return samples.Level(r.bits())
	case 2:
		return complex(r.float(), r.float())
	case 3:
		return [3]int{int(r.bits()), 0, int(r.byte())}
	case 4:
		return samples.Scores{r.text(): int(r.byte()), r.text(): 1, "c": 2}
	case 5:
		return new(big.Int).SetBytes(r.take(20))
	case 6:
		return map[int]string{int(r.bits()): r.text(), 1: "a", 2: "b", 3: "c"}
	case 7:
		return samples.Chain{r.text(), r.gobbed(depth), uint16(r.byte())}
	}
	p := samples.Profile{Name: r.text(), Age: int(r.byte()), Tags: map[string]string{r.text(): r.text(), "b": "c"}}
	if depth < 10 && r.byte()%2 == 0 {
		p.Extra = r.gobbed(depth + 1)
	}
	if depth < 10 && r.byte()%2 == 0 {
		p.Friends = []*samples.Profile{{Extra: r.gobbed(depth + 1)}, {Photo: []byte{r.byte()}}}
	}
	if r.byte()%2 == 0 {
		return samples.Card(p)
	}
	return &p
}

// FuzzValue: what is encoded comes back with its type and value. Its bytes are the same every
// time, except with gob, where they stand for an equal value.
func FuzzValue(f *testing.F) {
	for kind := range byte(38) {
		f.Add([]byte{kind, 3, 0x41, 0x42, 0xff, 0, 0, 0, 0, 0x80, 5, 6, 7, kind, 8, 9, 10, 11, 12, 13})
		f.Add([]byte{22, 2, kind, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, kind, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255})
		f.Add([]byte{23, 1, 3, 'a', '.', 'b', kind, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
		f.Add([]byte{37, kind})
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		recipe := &recipe{data: data}
		v := recipe.value(0)
		stored, err := codec.Encode(v)
		if err != nil {
			t.Fatalf("%#v: %v", v, err)
		}
		doc := documentOf(stored)
		if err := doc.Validate(); err != nil {
			t.Fatalf("%#v is no BSON: %v", v, err)
		}
		if n := samples.Levels(doc); n > 90 {
			t.Errorf("%d levels", n)
		}
		back, err := codec.Decode(stored)
		if err != nil || !samples.Same(back, v) {
			t.Fatalf("%#v came back as %#v, %v", v, back, err)
		}
		for _, v := range []any{v, back} {
			again, err := codec.Encode(v)
			if err != nil || !recipe.gob && !again.Equal(stored) {
				t.Errorf("%#v has other bytes the second time: %v", v, err)
			}
			if !codec.Same(stored, again) {
				t.Errorf("%#v seems to have changed", v)
			}
		}
		changed, err := codec.Encode([]any{v, 1})
		if err != nil || codec.Same(stored, changed) {
			t.Errorf("%#v seems not to have changed: %v", v, err)
		}
	})
}

// documentOf returns a document with one field.
func documentOf(v bsonval.Value) bson.Raw {
	doc := []byte{0, 0, 0, 0, byte(v.Kind), 'v', 0}
	doc = append(append(doc, v.Data...), 0)
	binary.LittleEndian.PutUint32(doc, uint32(len(doc)))
	return doc
}

// checkDecoding checks what is promised for any value of a document.
func checkDecoding(t *testing.T, v bsonval.Value, size, gobs int) {
	t.Helper()
	var decoded any
	var err error
	used := samples.Allocated(func() { decoded, err = codec.Decode(v) })
	limit := uint64(64*size + 16<<10)
	if gobs > 0 {
		// A decoder of gob allocates about 8 KiB before it has decoded anything, and half as
		// much for each type. An element has at least one byte; an empty card has
		// 136 bytes in memory.
		limit += uint64(160*size + 32<<10*gobs)
	}
	if used > limit {
		t.Errorf("%d bytes took %d bytes of memory", size, used)
	}
	if err != nil {
		return
	}
	again, err := codec.Encode(decoded)
	if err != nil {
		t.Fatalf("%#v was read, and cannot be written: %v", decoded, err)
	}
	back, err := codec.Decode(again)
	if err != nil || !samples.Same(back, decoded) {
		t.Fatalf("%#v came back as %#v, %v", decoded, back, err)
	}
}

// seedDocuments adds a document for each sample that is short enough to fuzz.
func seedDocuments(f *testing.F) {
	f.Helper()
	for _, row := range samples.Values() {
		stored, err := codec.Encode(row.Value)
		if err != nil {
			f.Fatal(err)
		}
		if doc := documentOf(stored); len(doc) < 2<<10 {
			f.Add([]byte(doc))
		}
	}
}

// FuzzDecode: whatever is in a document, reading it does not panic and allocates little more than
// the document's size, and what is read can be written.
func FuzzDecode(f *testing.F) {
	seedDocuments(f)
	f.Fuzz(func(t *testing.T, doc []byte) {
		gobs := bytes.Count(doc, []byte("gob"))
		_ = bsonval.Each(doc, func(_ []byte, v bsonval.Value) error {
			checkDecoding(t, v, len(v.Data), gobs)
			return nil
		})
	})
}

// FuzzDecodeGob is FuzzDecode for the content of a gob.
func FuzzDecodeGob(f *testing.F) {
	for _, row := range samples.Values() {
		if row.Tag != "gob" {
			continue
		}
		var buf bytes.Buffer
		if err := gob.NewEncoder(&buf).Encode(&row.Value); err != nil {
			f.Fatal(err)
		}
		f.Add(buf.Bytes())
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		checkDecoding(t, gobValue(t, encoded), len(encoded), 1)
	})
}
