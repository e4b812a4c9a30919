package mongostore_test

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"math"
	"math/big"
	"math/cmplx"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// TestValuesOfOthers: what people write in the shell, or programs in other
// languages, is read where it says clearly what it is, and else refused, not dropped.
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
		{"deep", storetest.DeepDocument(300), refused},
		{"list that was a map", bson.RawValue{Type: bson.TypeArray, Value: []byte("\x08\x00\x00\x00\x0aa\x00\x00")}, refused},
		{"list with a gap", bson.RawValue{Type: bson.TypeArray, Value: []byte("\x08\x00\x00\x00\x0a1\x00\x00")}, refused},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			kind, data, err := bson.MarshalValue(row.stored)
			if err != nil {
				t.Fatal(err)
			}
			got, err := mongostore.DecodeValue(bson.RawValue{Type: kind, Value: data})
			if row.want == refused {
				if err == nil {
					t.Errorf("read as %#v", got)
				}
				return
			}
			if err != nil || !storetest.Same(got, row.want) {
				t.Errorf("read as %#v, %v; want %#v", got, err, row.want)
			}
		})
	}
}

// TestLyingGobs: fifty bytes in a document must not cost the server its memory, nor
// a deeply nested value the process its stack.
func TestLyingGobs(t *testing.T) {
	for row, lie := range storetest.LyingGobs(t) {
		t.Run(row, func(t *testing.T) {
			stored := storetest.GobValue(t, lie)
			used := allocated(func() {
				if v, err := mongostore.DecodeValue(stored); err == nil {
					t.Errorf("read as %T", v)
				}
			})
			if limit := uint64(10*len(lie) + 16<<10); used > limit {
				t.Errorf("%d bytes took %d bytes to refuse", len(lie), used)
			}
		})
	}
}

// allocated tells how many bytes a function takes from the heap. Its callers do not run
// beside other tests.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// The fuzz targets.

// FuzzKey: a name stands for one key, or none; and every string has a name that
// MongoDB takes.
func FuzzKey(f *testing.F) {
	for _, k := range keyedSamples() {
		name, err := mongostore.EncodeKey(k.key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(name)
	}
	for _, s := range append(oddStrings, "%int:01", "%int:+1", "%int8:128", "%uint:-1", "%bool:TRUE", "%nil:", "%2e", "%41", "%E9", "%gob:AAAA") {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := mongostore.EncodeKey(s)
		if err != nil {
			t.Fatal(err)
		}
		checkFieldName(t, name)
		if back, err := mongostore.DecodeKey(name); err != nil || back != s {
			t.Errorf("%q came back as %#v, %v", s, back, err)
		}

		key, err := mongostore.DecodeKey(s)
		if err != nil {
			return
		}
		again, err := mongostore.EncodeKey(key)
		if err != nil {
			t.Fatalf("%q stands for %#v, which has no name: %v", s, key, err)
		}
		if again != s && !strings.HasPrefix(s, "%gob:") {
			t.Errorf("%q and %q stand for one key", s, again)
		}
		checkFieldName(t, again)
		if back, err := mongostore.DecodeKey(again); err != nil || back != key {
			t.Errorf("%#v came back as %#v, %v", key, back, err)
		}
	})
}

// fuzzedKey makes a key of a kind.
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
		nameA, errA := mongostore.EncodeKey(a)
		nameB, errB := mongostore.EncodeKey(b)
		for key, err := range map[any]error{a: errA, b: errB} {
			if (err != nil) != (key != key) { // NaN
				t.Errorf("%#v: %v", key, err)
			}
		}
		if errA != nil || errB != nil {
			return
		}
		// 0 and -0 are one key of two names, and gob's.
		if (a == b) != (nameA == nameB) && !(a == b && strings.HasPrefix(nameA, "%gob:") && !storetest.Same(a, b)) {
			t.Errorf("%#v is stored as %q, and %#v as %q", a, nameA, b, nameB)
		}
		back, err := mongostore.DecodeKey(nameA)
		if err != nil || back != a {
			t.Errorf("%#v came back as %#v, %v", a, back, err)
		}
	})
}

// recipe makes Go values out of bytes.
type recipe struct {
	data []byte
	gob  bool // the values hold some that gob encodes
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

// count is how many elements a list or map gets.
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

// gobbed makes values that gob encodes without a loss.
func (r *recipe) gobbed(depth int) any {
	r.gob = true
	switch r.byte() % 9 {
	case 0:
		return role(r.text())
	case 1:
		return level(r.bits())
	case 2:
		return complex(r.float(), r.float())
	case 3:
		return [3]int{int(r.bits()), 0, int(r.byte())}
	case 4:
		return scores{r.text(): int(r.byte()), r.text(): 1, "c": 2}
	case 5:
		return new(big.Int).SetBytes(r.take(20))
	case 6:
		return map[int]string{int(r.bits()): r.text(), 1: "a", 2: "b", 3: "c"}
	case 7:
		return chain{r.text(), r.gobbed(depth), uint16(r.byte())}
	}
	p := profile{Name: r.text(), Age: int(r.byte()), Tags: map[string]string{r.text(): r.text(), "b": "c"}}
	if depth < 10 && r.byte()%2 == 0 {
		p.Extra = r.gobbed(depth + 1)
	}
	if depth < 10 && r.byte()%2 == 0 {
		p.Friends = []*profile{{Extra: r.gobbed(depth + 1)}, {Photo: []byte{r.byte()}}}
	}
	if r.byte()%2 == 0 {
		return card(p)
	}
	return &p
}

// FuzzValue: what encodes comes back with its type and value; and its bytes are the same every time, but
// for gob, where they stand for an equal value.
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
		stored, err := mongostore.EncodeValue(v)
		if err != nil {
			t.Fatalf("%#v: %v", v, err)
		}
		doc := documentOf(stored)
		if err := doc.Validate(); err != nil {
			t.Fatalf("%#v is no BSON: %v", v, err)
		}
		if n := levels(doc); n > 90 {
			t.Errorf("%d levels", n)
		}
		back, err := mongostore.DecodeValue(stored)
		if err != nil || !storetest.Same(back, v) {
			t.Fatalf("%#v came back as %#v, %v", v, back, err)
		}
		for _, v := range []any{v, back} {
			again, err := mongostore.EncodeValue(v)
			if err != nil || !recipe.gob && !bytes.Equal(again.Value, stored.Value) {
				t.Errorf("%#v has other bytes the second time: %v", v, err)
			}
			if !mongostore.SameValue(stored, again) && !hasNaN(reflect.ValueOf(v)) {
				t.Errorf("%#v seems to have changed", v)
			}
		}
		changed, err := mongostore.EncodeValue([]any{v, 1})
		if err != nil || mongostore.SameValue(stored, changed) {
			t.Errorf("%#v seems not to have changed: %v", v, err)
		}
	})
}

// documentOf is a document with one field.
func documentOf(v bson.RawValue) bson.Raw {
	doc := []byte{0, 0, 0, 0, byte(v.Type), 'v', 0}
	doc = append(append(doc, v.Value...), 0)
	binary.LittleEndian.PutUint32(doc, uint32(len(doc)))
	return doc
}

// hasNaN tells of a NaN in what gob encodes, where it is equal to nothing.
func hasNaN(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		return hasNaN(v.Elem())
	case reflect.Complex128:
		return cmplx.IsNaN(v.Complex())
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if hasNaN(v.Index(i)) {
				return true
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if hasNaN(it.Value()) {
				return true
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if hasNaN(v.Field(i)) {
				return true
			}
		}
	}
	return false
}

// checkDecoding checks the promises for a value of a document from anywhere.
func checkDecoding(t *testing.T, v bson.RawValue, size, gobs int) {
	t.Helper()
	var decoded any
	var err error
	used := allocated(func() { decoded, err = mongostore.DecodeValue(v) })
	limit := uint64(64*size + 16<<10)
	if gobs > 0 {
		// A decoder of gob takes about 8 KiB before it has decoded anything, and
		// half as much for each type that it meets. An element takes a byte at
		// least; a card without contents is 136 bytes in memory.
		limit += uint64(160*size + 32<<10*gobs)
	}
	if used > limit {
		t.Errorf("%d bytes took %d bytes of memory", size, used)
	}
	if err != nil {
		return
	}
	again, err := mongostore.EncodeValue(decoded)
	if err != nil {
		t.Fatalf("%#v was read, and cannot be written: %v", decoded, err)
	}
	back, err := mongostore.DecodeValue(again)
	if err != nil || !storetest.Same(back, decoded) {
		t.Fatalf("%#v came back as %#v, %v", decoded, back, err)
	}
}

// seedDocuments adds a document for each sample that is short enough to be varied.
func seedDocuments(f *testing.F) {
	f.Helper()
	for _, row := range samples() {
		stored, err := mongostore.EncodeValue(row.value)
		if err != nil {
			f.Fatal(err)
		}
		if doc := documentOf(stored); len(doc) < 2<<10 {
			f.Add([]byte(doc))
		}
	}
}

// FuzzDecode: whatever stands in a document, reading it neither panics nor takes much more
// memory than the document; and what is read can be written.
func FuzzDecode(f *testing.F) {
	seedDocuments(f)
	f.Fuzz(func(t *testing.T, doc []byte) {
		gobs := bytes.Count(doc, []byte("gob"))
		_ = mongostore.Elements(doc, func(_ string, v bson.RawValue) error {
			checkDecoding(t, v, len(v.Value), gobs)
			return nil
		})
	})
}

// FuzzDecodeGob is FuzzDecode for what stands in the gob of a value.
func FuzzDecodeGob(f *testing.F) {
	for _, row := range samples() {
		if row.tag != "gob" {
			continue
		}
		var buf bytes.Buffer
		if err := gob.NewEncoder(&buf).Encode(&row.value); err != nil {
			f.Fatal(err)
		}
		f.Add(buf.Bytes())
	}
	for _, lie := range storetest.LyingGobs(f) {
		if len(lie) < 1<<10 {
			f.Add(lie)
		}
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		checkDecoding(t, storetest.GobValue(t, encoded), len(encoded), 1)
	})
}

// FuzzElements compares our walk over a document with the driver's. There are two
// differences: the driver passes over bytes behind the document's end, and over
// values that are too short for their type. We refuse both.
func FuzzElements(f *testing.F) {
	seedDocuments(f)
	for _, v := range []any{
		bson.Symbol("a"), bson.JavaScript("a"),
		bson.CodeWithScope{Code: "a", Scope: bson.D{{Key: "b", Value: 1}}},
		bson.Regex{Pattern: "a", Options: "i"},
		bson.Binary{Subtype: bson.TypeBinaryBinaryOld, Data: []byte{1}},
		bson.Binary{Subtype: 0x80},
		bson.NewDecimal128(1, 2),
		bson.Timestamp{T: 1},
		bson.MinKey{},
		bson.MaxKey{},
		bson.Undefined{},
		bson.DBPointer{DB: "a"},
	} {
		kind, data, err := bson.MarshalValue(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(documentOf(bson.RawValue{Type: kind, Value: data})))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if len(doc) > 5 {
			if size := int64(binary.LittleEndian.Uint32(doc)); size >= 5 && size < int64(len(doc)) {
				if err := mongostore.Elements(doc, func(string, bson.RawValue) error { return nil }); err == nil {
					t.Errorf("% x has bytes behind its end", doc)
				}
				doc = doc[:size]
			}
		}
		type element struct {
			name string
			v    bson.RawValue
		}
		var ours []element
		err := mongostore.Elements(doc, func(name string, v bson.RawValue) error {
			ours = append(ours, element{name, v})
			return nil
		})
		raw := bson.Raw(doc)
		elements, errDriver := raw.Elements()
		if errDriver == nil {
			errDriver = raw.Validate()
		}
		least := map[bson.Type]int{
			bson.TypeString: 5, bson.TypeSymbol: 5, bson.TypeJavaScript: 5, bson.TypeDBPointer: 17,
			bson.TypeEmbeddedDocument: 5, bson.TypeArray: 5, bson.TypeCodeWithScope: 14,
		}
		if errDriver == nil && slices.ContainsFunc(elements, func(e bson.RawElement) bool {
			return len(e.Value().Value) < least[e.Value().Type]
		}) {
			errDriver = errors.New("a value is too short")
		}
		if (err == nil) != (errDriver == nil) {
			t.Fatalf("% x: our walk says %v, the driver %v", doc, err, errDriver)
		}
		if err != nil {
			return
		}
		if len(ours) != len(elements) {
			t.Fatalf("% x: %d elements, the driver sees %d", doc, len(ours), len(elements))
		}
		for i, e := range elements {
			if v := e.Value(); ours[i].name != e.Key() || ours[i].v.Type != v.Type || !bytes.Equal(ours[i].v.Value, v.Value) {
				t.Errorf("% x: element %d is %q %v, the driver's %q %v", doc, i, ours[i].name, ours[i].v, e.Key(), v)
			}
		}
	})
}
