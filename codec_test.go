package mongostore_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/big"
	"math/cmplx"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

// The types of an application, made known to gob as for CookieStore.

type (
	role     string
	level    int
	ctxKey   int
	keyPair  struct{ Shop, User string }
	scores   map[string]int
	chain    []any
	triple   [3]int
	farewell func()

	// card is registered as a value, profile as a pointer.
	card    profile
	profile struct {
		Name    string
		Age     int
		Tags    map[string]string
		Extra   any
		Since   time.Time
		Friends []*profile
		Photo   []byte
		secret  string // gob leaves it out
	}

	// node has no end for who follows its parents. gob does not: the field is
	// not exported.
	node struct {
		Label    string
		Children []*node
		parent   *node
	}

	// ring is what encodes itself, and refers to itself.
	ring struct {
		Value int
		Next  *ring
	}

	// clumsy panics in its methods when told to.
	clumsy struct{ in string }

	unregistered struct{ Secret string }
)

func (r *ring) GobEncode() ([]byte, error) { return binary.AppendVarint(nil, int64(r.Value)), nil }

func (r *ring) GobDecode(b []byte) error {
	v, _ := binary.Varint(b)
	*r = ring{Value: int(v)}
	r.Next = r
	return nil
}

func (c clumsy) GobEncode() ([]byte, error) {
	if c.in == "encode" {
		panic("clumsy")
	}
	return []byte(c.in), nil
}

func (c *clumsy) GobDecode(b []byte) error {
	if c.in = string(b); c.in == "decode" {
		panic("clumsy")
	}
	return nil
}

var _ = registerTypes()

func registerTypes() bool {
	for _, v := range []any{
		role(""), level(0), ctxKey(0),
		keyPair{},
		scores{},
		triple{},
		[3]int{},
		[2]string{},
		card{},
		&profile{}, &node{}, &ring{},
		clumsy{},
		&big.Int{},
		url.Values{},
		time.March,
		[]role{},
		[]card{},
		[][]byte{},
		[][]int{},
		map[int]string{},
		map[string]card{},
		map[string]float32{},
	} {
		gob.Register(v)
	}
	gob.RegisterName("chain", chain{})
	// The first type has a shorter number than those after it.
	return gob.NewEncoder(io.Discard).Encode(struct{ First int }{}) == nil
}

// sample is a value, how it is stored, and what an application may do to it.
type sample struct {
	name  string
	value any
	kind  bson.Type // as it stands in the document
	tag   string    // the _type of a tagged value
	inner bson.Type // the _value of a tagged value
}

func bare(name string, kind bson.Type, v any) sample {
	return sample{name: name, value: v, kind: kind}
}

func tagged(name, tag string, inner bson.Type, v any) sample {
	return sample{name: name, value: v, kind: bson.TypeEmbeddedDocument, tag: tag, inner: inner}
}

func gobbed(name string, v any) sample { return tagged(name, "gob", bson.TypeBinary, v) }

// samples are made anew on each call, since they may be changed in place.
func samples() []sample {
	const (
		integer  = bson.TypeInt32
		long     = bson.TypeInt64
		double   = bson.TypeDouble
		text     = bson.TypeString
		binary   = bson.TypeBinary
		list     = bson.TypeArray
		document = bson.TypeEmbeddedDocument
		date     = bson.TypeDateTime
		null     = bson.TypeNull
	)
	millis := time.Date(2024, 2, 29, 23, 59, 59, 999_000_000, time.UTC)
	nanos := time.Date(2024, 2, 29, 23, 59, 59, 999_999_999, time.UTC)
	in := func(seconds int) time.Time { return nanos.In(time.FixedZone("somewhere", seconds)) }
	named := 7
	return []sample{
		bare("nil", null, nil),
		bare("true", bson.TypeBoolean, true),
		bare("false", bson.TypeBoolean, false),
		bare("ObjectID", bson.TypeObjectID, bson.ObjectID{1, 2, 3, 11: 255}),

		bare("empty string", text, ""),
		bare("string", text, "Grüße, 世界 🦊"),
		bare("string with NUL", text, "a\x00b\x00"),
		bare("string with controls", text, "\x01\x1f\x7f\u2028\"\\"),
		bare("string with the replacement character", text, "\ufffd"),
		bare("string like a tag", text, `{"_type": "gob"}`),
		bare("long string", text, strings.Repeat("0123456789abcdef", 4096)),
		tagged("string of invalid UTF-8", "string", binary, "a\xff\xfe\xc3"),
		tagged("string of a surrogate", "string", binary, "\xed\xa0\x80"),

		bare("[]byte", binary, []byte{0, 1, 0xff}),
		bare("[]byte, empty", binary, []byte{}),
		tagged("[]byte, nil", "[]byte", null, []byte(nil)),

		bare("int 0", integer, 0),
		bare("int -1", integer, -1),
		bare("int of 32 bits, greatest", integer, math.MaxInt32),
		bare("int of 32 bits, least", integer, math.MinInt32),
		tagged("int of 33 bits", "int", long, math.MaxInt32+1),
		tagged("int of 33 bits, negative", "int", long, math.MinInt32-1),
		tagged("int, greatest", "int", long, math.MaxInt),
		tagged("int, least", "int", long, math.MinInt),
		bare("int64 0", long, int64(0)),
		bare("int64, greatest", long, int64(math.MaxInt64)),
		bare("int64, least", long, int64(math.MinInt64)),
		tagged("int8, greatest", "int8", integer, int8(math.MaxInt8)),
		tagged("int8, least", "int8", integer, int8(math.MinInt8)),
		tagged("int16, greatest", "int16", integer, int16(math.MaxInt16)),
		tagged("int16, least", "int16", integer, int16(math.MinInt16)),
		tagged("int32, greatest", "int32", integer, int32(math.MaxInt32)),
		tagged("int32, least", "int32", integer, int32(math.MinInt32)),
		tagged("rune", "int32", integer, '🦊'),
		tagged("uint 0", "uint", integer, uint(0)),
		tagged("uint within int64", "uint", long, uint(math.MaxInt64)),
		tagged("uint, greatest", "uint", text, uint(math.MaxUint)),
		tagged("uint8, greatest", "uint8", integer, uint8(math.MaxUint8)),
		tagged("uint16, greatest", "uint16", integer, uint16(math.MaxUint16)),
		tagged("uint32, greatest", "uint32", long, uint32(math.MaxUint32)),
		tagged("uint64 0", "uint64", integer, uint64(0)),
		tagged("uint64 beyond int64", "uint64", text, uint64(math.MaxInt64+1)),
		tagged("uint64, greatest", "uint64", text, uint64(math.MaxUint64)),
		gobbed("uintptr", uintptr(math.MaxUint32)),

		bare("float64 0", double, 0.0),
		bare("float64", double, -1234.5678),
		bare("float64 of a whole number", double, 5.0),
		bare("float64, greatest", double, math.MaxFloat64),
		bare("float64, least", double, -math.MaxFloat64),
		bare("float64, smallest", double, math.SmallestNonzeroFloat64),
		tagged("float64 -0", "float64", text, math.Copysign(0, -1)),
		tagged("float64 +Inf", "float64", text, math.Inf(1)),
		tagged("float64 -Inf", "float64", text, math.Inf(-1)),
		tagged("float64 NaN", "float64", text, math.NaN()),
		gobbed("float64 NaN of unusual bits", math.Float64frombits(0xfff8_0000_0000_0001)),
		tagged("float32 0", "float32", double, float32(0)),
		tagged("float32", "float32", double, float32(0.1)),
		tagged("float32, greatest", "float32", double, float32(math.MaxFloat32)),
		tagged("float32, smallest", "float32", double, float32(math.SmallestNonzeroFloat32)),
		tagged("float32 -0", "float32", text, float32(math.Copysign(0, -1))),
		tagged("float32 +Inf", "float32", text, float32(math.Inf(1))),
		tagged("float32 -Inf", "float32", text, float32(math.Inf(-1))),
		tagged("float32 NaN", "float32", text, float32(math.NaN())),
		gobbed("float32 NaN of unusual bits", math.Float32frombits(0xffc0_0001)),
		gobbed("complex64", complex64(complex(1, -2))),
		gobbed("complex128", complex(math.MaxFloat64, math.Inf(-1))),

		bare("time in UTC", date, millis),
		bare("time of the epoch", date, time.Unix(0, 0).UTC()),
		bare("time before the epoch", date, time.Date(1815, 12, 10, 0, 0, 0, 1_000_000, time.UTC)),
		bare("zero time", date, time.Time{}),
		bare("time of year 10000", date, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)),
		bare("time before year 0", date, time.Date(-44, 3, 15, 0, 0, 0, 0, time.UTC)),
		tagged("time with nanoseconds", "time.Time", text, nanos),
		tagged("time with microseconds", "time.Time", text, nanos.Truncate(time.Microsecond)),
		tagged("time east of UTC", "time.Time", text, in(5*60*60+45*60)),
		tagged("time west of UTC", "time.Time", text, in(-8*60*60)),
		tagged("time a minute west of UTC", "time.Time", text, in(-60)),
		tagged("time in a zone like UTC", "time.Time", text, in(0)),
		tagged("time at the farthest offset", "time.Time", text, in(24*60*60-60)),
		tagged("time beyond it", "time.Time", text, in(26*60*60)),
		tagged("time at an offset with seconds", "time.Time", text, in(19*60+32)),
		tagged("time that gob refuses: London, before 1847", "time.Time", text, in(-75)),
		tagged("time at an offset with seconds, west", "time.Time", text, in(-4*60*60-2)),
		tagged("time in Local", "time.Time", text, nanos.Local()),
		tagged("time with a monotonic reading", "time.Time", text, time.Now()),
		tagged("time of year 9999 here, of 10000 in UTC", "time.Time", text, time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -2*60*60))),
		tagged("time of year 10000 in a zone", "time.Time", text, time.Date(10000, 1, 1, 0, 0, 0, 0, time.FixedZone("", 60*60))),
		tagged("time before year 0 in a zone", "time.Time", text, time.Date(-1, 1, 1, 0, 0, 0, 0, time.FixedZone("", 60*60))),
		tagged("time with nanoseconds of year 10000", "time.Time", text, time.Date(10000, 1, 1, 0, 0, 0, 1, time.UTC)),
		tagged("time beyond BSON's dates", "time.Time", text, time.Unix(math.MaxInt64/1000*2, 0).UTC()),
		tagged("Duration", "time.Duration", long, 90*time.Minute),
		tagged("Duration, short", "time.Duration", integer, -time.Microsecond),
		tagged("Duration, longest", "time.Duration", long, time.Duration(math.MaxInt64)),
		gobbed("Month", time.March),

		bare("list", list, []any{"flash", 1, int64(2), 3.5, true, nil, millis, []byte("x")}),
		bare("list, empty", list, []any{}),
		tagged("list, nil", "[]interface {}", null, []any(nil)),
		bare("list of lists", list, []any{[]any{}, []any{[]any{nil}}, []any(nil)}),
		bare("list of all kinds", list, []any{
			uint8(1), float32(2), "a\xff", math.NaN(), in(60), time.Hour,
			[]string{"a"},
			[]byte(nil),
			map[string]any{"_type": 1},
			map[string]string{"a": "b"},
			card{Name: "Ada"},
			&profile{Age: 36}, role("admin"),
			triple{1, 2, 3},
		}),
		tagged("[]string", "[]string", list, []string{"b", "", "a"}),
		tagged("[]string, empty", "[]string", list, []string{}),
		tagged("[]string, nil", "[]string", null, []string(nil)),
		tagged("[]string of invalid UTF-8", "[]string", list, []string{"\xff", "ok"}),
		tagged("[]bool", "[]bool", list, []bool{true, false}),
		tagged("[]int", "[]int", list, []int{1, math.MaxInt, math.MinInt}),
		tagged("[]int64", "[]int64", list, []int64{1, math.MaxInt64}),
		tagged("[]float64", "[]float64", list, []float64{0, math.Copysign(0, -1), math.Inf(1), math.NaN()}),
		tagged("[]time.Time", "[]time.Time", list, []time.Time{millis, nanos, in(19), {}}),
		tagged("[]map", "[]map[string]interface {}", list, []map[string]any{{"a": 1}, nil, {}, {"_type": "gob"}}),
		gobbed("[]float32", []float32{1, float32(math.Inf(1))}),
		gobbed("[]int8", []int8{math.MinInt8, math.MaxInt8}),
		gobbed("[]role", []role{"admin", ""}),
		gobbed("[][]byte", [][]byte{{1}, {}}),
		gobbed("[][]int", [][]int{{1, 2}, {3}}),

		bare("map", document, map[string]any{"a": 1, "b": "two", "c": nil, "d": []any{map[string]any{}}}),
		bare("map, empty", document, map[string]any{}),
		tagged("map, nil", "map[string]interface {}", null, map[string]any(nil)),
		bare("map with odd keys", document, oddKeys()),
		bare("map with a key _value", document, map[string]any{"_value": 1}),
		tagged("map like a tag of gob", "map[string]interface {}", document, map[string]any{"_type": "gob", "_value": []byte("x")}),
		tagged("map like a tag of an unknown type", "map[string]interface {}", document, map[string]any{"_type": "no such type"}),
		tagged("map like a tag of a tag", "map[string]interface {}", document, map[string]any{
			"_type": "map[string]interface {}", "_value": map[string]any{"_type": "int8", "_value": 5},
		}),
		bare("maps like tags inside", document, map[string]any{
			"a": map[string]any{"_type": "uint8", "_value": 5, "b": map[string]any{"_type": map[string]any{"_type": nil}}},
			"c": []any{map[string]any{"_type": "string", "_value": []byte("x")}},
		}),
		tagged("map[string]string", "map[string]string", document, map[string]string{"a": "b", "_type": "gob", "_value": "x", "": "\xff", "a.b": "$c"}),
		tagged("map[string]string, empty", "map[string]string", document, map[string]string{}),
		tagged("map[string]string, nil", "map[string]string", null, map[string]string(nil)),
		tagged("map[string]bool", "map[string]bool", document, map[string]bool{"a": true, "_type": false}),
		tagged("map[string]int", "map[string]int", document, map[string]int{"a": 1, "_type": 1 << 40}),
		tagged("map[string]int64", "map[string]int64", document, map[string]int64{"a": 1, "_type": 2}),
		tagged("map[string]float64", "map[string]float64", document, map[string]float64{"a": 1, "_type": math.Inf(1)}),
		tagged("map[string][]string", "map[string][]string", document, map[string][]string{"a": {"b"}, "c": nil, "_type": {}}),
		gobbed("map[int]string", map[int]string{1: "one", -1: "minus one"}),
		gobbed("map[string]float32", map[string]float32{"_type": 1, "_value": 2}),
		gobbed("map of structs", map[string]card{"ada": {Name: "Ada"}}),
		gobbed("url.Values", url.Values{"q": {"a", "b"}}),

		gobbed("struct", card{Name: "Ada", Age: 36}),
		gobbed("struct, zero", card{}),
		gobbed("struct with everything", card{
			Name: "Ada", Tags: map[string]string{"a": "b", "": ""}, Extra: []any{1, "two"}, Since: in(19),
			Friends: []*profile{{Name: "Bea", Extra: keyPair{"a", "b"}}, {Extra: card{Extra: role("admin")}}},
			Photo:   []byte{1, 2, 3}, secret: "lost with CookieStore too",
		}),
		gobbed("struct with empty parts", card{Tags: map[string]string{}, Friends: []*profile{}, Photo: []byte{}}),
		gobbed("pointer to a struct", &profile{Name: "Ada", Since: millis}),
		gobbed("[]struct", []card{{Name: "Ada"}, {}}),
		gobbed("struct that refers to its parent", family()),
		gobbed("value that encodes itself, and contains itself", selfMade()),
		gobbed("big.Int", big.NewInt(0).Lsh(big.NewInt(-5), 200)),
		gobbed("named string", role("admin")),
		gobbed("named int", level(named)),
		gobbed("named map", scores{"a": 1}),
		gobbed("named list", chain{chain{1}, "x"}),
		gobbed("array", [3]int{1, 0, -1}),
		gobbed("array of strings", [2]string{"a", ""}),
		gobbed("named array", triple{}),
	}
}

func oddKeys() map[string]any {
	m := map[string]any{}
	for i, key := range oddStrings {
		if key != "_type" {
			m[key] = i
		}
	}
	return m
}

func family() *node {
	parent := &node{Label: "parent"}
	for i := range 2 {
		parent.Children = append(parent.Children, &node{Label: strconv.Itoa(i), parent: parent})
	}
	return parent
}

func selfMade() *ring {
	r := &ring{Value: 5}
	r.Next = r
	return r
}

// oddStrings are strings that a database, a path in an update, or our own escapes
// could take for something else.
var oddStrings = []string{
	"", " ", ".", "..", "a.b", "a..b", ".a", "a.", "$", "$$", "$set", "a$", "a.$", "a.$[]", "$[x]", "a.$.b", "$ref", "$id",
	"_id", "_type", "_value", "values", "expiresAt", "v", "rev", "0", "1", "00", "-1", "1.5", "__proto__", "constructor",
	"%", "%%", "%2", "%25", "%2E", "%2e", "%00", "%empty", "%nil", "%int:1", "%bool:true", "%gob:", "%string:a", "a%", "a%2Eb", "%zz",
	" a", "a ", "\u00a0a", "a\u2003", " . ",
	"\x00", "a\x00b", "\x00\x00", "\x01", "\x7f", "\n", "\t", "\"", "'", "\\", "/", "{}", "[0]",
	"\xff", "a\xffb", "\xc3", "\xed\xa0\x80", "\xf0\x9f\xa6", "\ufffd", "é", "e\u0301", "世界", "🦊", "\u200b", "\ufeff",
	strings.Repeat("long", 1000), strings.Repeat(".", 100), strings.Repeat("\xff", 100),
}

// same reports whether two values are of one type and alike: floats to the bit, times by their
// instant and offset, and nil and empty not.
func same(a, b any) bool {
	return sameReflected(reflect.ValueOf(a), reflect.ValueOf(b), 0)
}

func sameReflected(a, b reflect.Value, depth int) bool {
	if a.IsValid() != b.IsValid() || a.IsValid() && a.Type() != b.Type() || depth > 100_000 {
		return false
	}
	if !a.IsValid() {
		return true
	}
	if a.CanInterface() {
		switch x := a.Interface().(type) {
		case time.Time:
			y := b.Interface().(time.Time)
			_, offsetX := x.Zone()
			_, offsetY := y.Zone()
			return x.Equal(y) && offsetX == offsetY && (x.Location() == time.UTC) == (y.Location() == time.UTC)
		case *ring:
			y := b.Interface().(*ring)
			return x.Value == y.Value && x.Next == x && y.Next == y
		case *big.Int:
			return x.Cmp(b.Interface().(*big.Int)) == 0
		case clumsy:
			return x == b.Interface()
		}
	}
	next := func(a, b reflect.Value) bool { return sameReflected(a, b, depth+1) }
	switch a.Kind() {
	case reflect.Float32, reflect.Float64:
		return math.Float64bits(a.Float()) == math.Float64bits(b.Float())
	case reflect.Complex64, reflect.Complex128:
		x, y := a.Complex(), b.Complex()
		return same(real(x), real(y)) && same(imag(x), imag(y))
	case reflect.Interface:
		return a.IsNil() == b.IsNil() && next(a.Elem(), b.Elem())
	case reflect.Pointer:
		return a.IsNil() == b.IsNil() && next(a.Elem(), b.Elem())
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() || a.Kind() == reflect.Slice && a.IsNil() != b.IsNil() {
			return false
		}
		for i := range a.Len() {
			if !next(a.Index(i), b.Index(i)) {
				return false
			}
		}
		return true
	case reflect.Map:
		if a.Len() != b.Len() || a.IsNil() != b.IsNil() {
			return false
		}
		for it := a.MapRange(); it.Next(); {
			if other := b.MapIndex(it.Key()); !other.IsValid() || !next(it.Value(), other) {
				return false
			}
		}
		return true
	case reflect.Struct:
		for i := range a.NumField() {
			if !next(a.Field(i), b.Field(i)) {
				return false
			}
		}
		return true
	default:
		return a.Equal(b)
	}
}

// throughCookieStore is what CookieStore makes of a value.
func throughCookieStore(v any) (any, error) {
	encoded, err := securecookie.GobEncoder{}.Serialize(map[any]any{"key": v})
	if err != nil {
		return nil, err
	}
	values := map[any]any{}
	err = securecookie.GobEncoder{}.Deserialize(encoded, &values)
	return values["key"], err
}

// TestValues is promise 4 and 5 of the design: each value comes back with its type, at least as
// faithfully as from CookieStore, stands in the document as BSON's own type where
// that loses nothing, and is not written again when nobody changed it.
func TestValues(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Do(func(s *sessions.Session) {
		for _, row := range samples() {
			s.Values[row.name] = row.value
		}
	})
	f.WantCommands("insert")
	document := f.Document()

	session := b.Load()
	if len(session.Values) != len(samples()) {
		t.Errorf("%d values came back of %d", len(session.Values), len(samples()))
	}
	for _, row := range samples() {
		if strings.Contains(row.name, "monotonic") {
			continue // another time now; see TestMonotonicReading
		}
		t.Run(row.name, func(t *testing.T) {
			stored := document.Lookup("values", strings.ReplaceAll(row.name, ".", "%2E"))
			if stored.Type != row.kind {
				t.Errorf("stored as %v, want %v", stored.Type, row.kind)
			}
			if row.tag != "" {
				checkTag(t, stored, row.tag, row.inner)
			}
			got := session.Values[row.name]
			if reflect.TypeOf(got) != reflect.TypeOf(row.value) {
				t.Errorf("a %T came back as %T", row.value, got)
			}
			cookie, err := throughCookieStore(row.value)
			asCookieStore := err == nil && same(got, cookie)
			if !same(got, row.value) && !asCookieStore {
				t.Errorf("%#v came back as %#v; from CookieStore as %#v, %v", row.value, got, cookie, err)
			}
			if err == nil && same(cookie, row.value) && !same(got, row.value) {
				t.Error("CookieStore is more faithful")
			}
		})
	}

	if _, err := b.Save(session); err != nil {
		t.Fatal(err)
	}
	f.WantCommands("find")
}

// checkTag checks that a stored value is {_type: tag, _value: one of the type inner}.
func checkTag(t *testing.T, stored bson.RawValue, tag string, inner bson.Type) {
	t.Helper()
	doc, ok := stored.DocumentOK()
	if !ok {
		t.Fatal("stored as no document")
	}
	elements, err := doc.Elements()
	if err != nil || len(elements) != 2 {
		t.Fatalf("stored as %v, %v", doc, err)
	}
	if got := doc.Lookup("_type"); got.Type != bson.TypeString || got.StringValue() != tag {
		t.Errorf("_type is %v, want %q", got, tag)
	}
	if got := doc.Lookup("_value").Type; got != inner {
		t.Errorf("_value is stored as %v, want %v", got, inner)
	}
}

// TestMonotonicReading: the instant and the zone of a time come back; the reading of the
// monotonic clock means nothing to another process.
func TestMonotonicReading(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	now := time.Now()
	b.Do(func(s *sessions.Session) { s.Values["now"] = now })
	if got := b.Load().Values["now"]; !same(got, now) || strings.Contains(fmt.Sprint(got), "m=") {
		t.Errorf("%v came back as %v", now, got)
	}
}

// TestChangesInPlace: a value that an application changes without assigning it anew
// is stored, and one that it changes back is not.
func TestChangesInPlace(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name           string
		value          any
		change, revert func(v any)
	}{
		{
			name: "map entry", value: map[string]any{"a": 1},
			change: func(v any) { v.(map[string]any)["a"] = 2 },
			revert: func(v any) { v.(map[string]any)["a"] = 1 },
		},
		{
			name: "map entry's type", value: map[string]any{"a": 1},
			change: func(v any) { v.(map[string]any)["a"] = int64(1) },
			revert: func(v any) { v.(map[string]any)["a"] = 1 },
		},
		{
			name: "map entry removed", value: map[string]string{"a": "1", "b": "2"},
			change: func(v any) { delete(v.(map[string]string), "a") },
			revert: func(v any) { v.(map[string]string)["a"] = "1" },
		},
		{
			name: "list element", value: []any{1, "two"},
			change: func(v any) { v.([]any)[1] = nil },
			revert: func(v any) { v.([]any)[1] = "two" },
		},
		{
			name: "[]string element", value: []string{"a", "b"},
			change: func(v any) { v.([]string)[0] = "b" },
			revert: func(v any) { v.([]string)[0] = "a" },
		},
		{
			name: "byte", value: []byte("abc"),
			change: func(v any) { v.([]byte)[2] = 0 },
			revert: func(v any) { v.([]byte)[2] = 'c' },
		},
		{
			name: "struct behind a pointer", value: &profile{Name: "Ada"},
			change: func(v any) { v.(*profile).Age++ },
			revert: func(v any) { v.(*profile).Age-- },
		},
		{
			name: "map in a struct behind a pointer", value: &profile{Tags: manyTags()},
			change: func(v any) { v.(*profile).Tags["5"] += "!" },
			revert: func(v any) { v.(*profile).Tags["5"] = manyTags()["5"] },
		},
		{
			name: "deep inside", value: []any{map[string]any{"a": []any{&profile{Extra: []any{&profile{Tags: manyTags()}}}}}},
			change: func(v any) {
				p := v.([]any)[0].(map[string]any)["a"].([]any)[0].(*profile)
				p.Extra.([]any)[0].(*profile).Tags["new"] = ""
			},
			revert: func(v any) {
				p := v.([]any)[0].(map[string]any)["a"].([]any)[0].(*profile)
				delete(p.Extra.([]any)[0].(*profile).Tags, "new")
			},
		},
		{
			name: "struct in a map like a tag", value: map[string]any{"_type": nil, "a": card{Tags: manyTags()}},
			change: func(v any) { v.(map[string]any)["a"].(card).Tags["new"] = "" },
			revert: func(v any) { delete(v.(map[string]any)["a"].(card).Tags, "new") },
		},
		{
			name: "map like a gob", value: map[string]any{"_type": "gob", "_value": []byte("abc")},
			change: func(v any) { v.(map[string]any)["_value"].([]byte)[0] = 0 },
			revert: func(v any) { v.(map[string]any)["_value"].([]byte)[0] = 'a' },
		},
		{
			name: "named map", value: scores{"a": 1, "b": 2},
			change: func(v any) { v.(scores)["a"], v.(scores)["b"] = 2, 1 },
			revert: func(v any) { v.(scores)["a"], v.(scores)["b"] = 1, 2 },
		},
		{
			name: "pointer's number", value: big.NewInt(5),
			change: func(v any) { v.(*big.Int).SetInt64(6) },
			revert: func(v any) { v.(*big.Int).SetInt64(5) },
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			b := f.Browser()
			b.Do(func(s *sessions.Session) { s.Values["key"], s.Values["other"] = row.value, 1 })
			f.WantCommands("insert")

			b.Do(func(s *sessions.Session) {
				row.change(s.Values["key"])
				row.revert(s.Values["key"])
			})
			f.WantCommands("find")

			b.Do(func(s *sessions.Session) { row.change(s.Values["key"]) })
			f.WantCommands("find", "update")
			row.change(row.value)
			if got := b.Load().Values["key"]; !same(got, row.value) {
				t.Errorf("%#v came back as %#v", row.value, got)
			}

			// In the session that was saved, too.
			session := b.Load()
			f.Log.Reset()
			row.revert(session.Values["key"])
			for range 2 {
				if _, err := b.Save(session); err != nil {
					t.Fatal(err)
				}
			}
			f.WantCommands("update")
		})
	}
}

func manyTags() map[string]string {
	tags := map[string]string{}
	for i := range 30 {
		tags[strconv.Itoa(i)] = strings.Repeat("x", i)
	}
	return tags
}

// TestUnchangedMaps: gob writes a map in another order every time. That is no change.
func TestUnchangedMaps(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	fill := func(s *sessions.Session) {
		s.Values["struct"] = card{Tags: manyTags(), Extra: &profile{Tags: manyTags()}}
		s.Values["pointer"] = &profile{Tags: manyTags()}
		s.Values["list"] = []any{card{Tags: manyTags()}, map[string]any{"a": card{Tags: manyTags()}}}
		s.Values["map"] = map[int]string{1: "a", 2: "b", 3: "c", 4: "d", 5: "e"}
	}
	b.Do(fill)
	f.Log.Reset()
	for range 10 {
		b.Do(func(*sessions.Session) {})
		b.Do(fill)
	}
	f.WantCommands(slices.Repeat([]string{"find"}, 20)...)
}

// TestEqualSessionsAreEqualBytes: but for gob, the bytes of a session depend on its values
// alone, not on the order in which they, or the entries of their maps, were put in.
func TestEqualSessionsAreEqualBytes(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	for _, backwards := range []bool{false, true} {
		f.Browser().Do(func(s *sessions.Session) {
			rows := samples()
			m, words, counts := map[string]any{}, map[string]string{}, map[string]int{}
			for i := range 500 {
				if backwards {
					i = 499 - i
				}
				key := strconv.Itoa(i)
				m[key], words[key], counts[key] = i, key, i
			}
			s.Values["map"], s.Values["words"], s.Values["counts"] = m, words, counts
			s.Values["inside"] = []any{m, map[string]any{"m": m}}
			if backwards {
				slices.Reverse(rows)
			}
			for _, row := range rows {
				if row.tag != "gob" && row.name != "list of all kinds" && !strings.Contains(row.name, "monotonic") {
					s.Values[row.name] = row.value
				}
			}
		})
	}
	docs := f.Documents()
	if len(docs) != 2 {
		t.Fatalf("%d documents, want 2", len(docs))
	}
	first, second := docs[0].Lookup("values"), docs[1].Lookup("values")
	if !first.Equal(second) {
		t.Error("the documents of equal sessions differ")
	}
}

// keyed is a key and the name of its field; no name where that is gob's affair.
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

// TestKeys: whatever a key is, it names one field, from which it comes back; that field, and no
// other, is changed and removed with it.
func TestKeys(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	keys := keyedSamples()

	check := func(step string, want map[any]any) {
		t.Helper()
		got := b.Load().Values
		for key, v := range want {
			if got[key] != v {
				t.Errorf("%s: the value of %T %#v is %v, want %v", step, key, key, got[key], v)
			}
		}
		for key := range got {
			if _, ok := want[key]; !ok {
				t.Errorf("%s: there is a key %T %#v", step, key, key)
			}
		}
	}

	want := map[any]any{}
	for i, k := range keys {
		want[k.key] = i
	}
	b.Do(func(s *sessions.Session) {
		maps.Copy(s.Values, want)
	})
	check("stored", want)

	fields, err := f.Document().Lookup("values").Document().Elements()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, field := range fields {
		checkFieldName(t, field.Key())
		names[field.Key()] = int(field.Value().Int32())
	}
	for i, k := range keys {
		if got, ok := names[k.name]; k.name != "" && (!ok || got != i) {
			t.Errorf("%T %#v is not stored under the name %q", k.key, k.key, k.name)
		}
	}

	b.Do(func(s *sessions.Session) {
		for key, v := range want {
			want[key] = v.(int) + 1000
			s.Values[key] = v.(int) + 1000
		}
	})
	check("changed", want)

	// Every second one goes.
	b.Do(func(s *sessions.Session) {
		for i, k := range keys {
			if i%2 == 0 {
				delete(want, k.key)
				delete(s.Values, k.key)
			}
		}
	})
	check("removed", want)

	// One by one, each save telling its own path.
	for _, k := range keys {
		f.Log.Reset()
		b.Do(func(s *sessions.Session) {
			s.Values[k.key] = -1
			want[k.key] = -1
		})
		f.WantCommands("find", "update")
	}
	check("added one by one", want)
}

// checkFieldName checks that MongoDB takes a name as it is, and as a part of a path.
func checkFieldName(t testing.TB, name string) {
	t.Helper()
	if name == "" || !utf8.ValidString(name) || strings.HasPrefix(name, "$") || strings.ContainsAny(name, ".\x00") {
		t.Errorf("%q is no name for a field", name)
	}
}

// TestKeysOfAnotherName: gob numbers types in the order in which a process first used them, so
// a key of an application's type may have been stored by another process under
// another name. It is one key: the later name counts, and a change leaves one field.
func TestKeysOfAnotherName(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	key := keyPair{"a", "b"}
	b.Do(func(s *sessions.Session) { s.Values[key] = "old" })
	f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "values." + otherName(f), Value: "new"}}}})
	f.Log.Reset()

	b.Do(func(s *sessions.Session) {
		if len(s.Values) != 1 || s.Values[key] != "new" {
			t.Errorf("loaded: %v", s.Values)
		}
	})
	f.WantCommands("find")
	b.Do(func(s *sessions.Session) { s.Values["other"] = 1 })
	b.Do(func(s *sessions.Session) {
		if len(s.Values) != 2 || s.Values[key] != "new" {
			t.Errorf("loaded: %v", s.Values)
		}
		delete(s.Values, key)
	})
	if got := b.Load().Values; len(got) != 1 {
		t.Errorf("the key outlived its removal: %v", got)
	}
}

// TestStrayIsLeftAlone: a save that does not touch such a key leaves it as others have stored it
// meanwhile, under whichever name.
func TestStrayIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	key := keyPair{"a", "b"}
	b.Do(func(s *sessions.Session) { s.Values[key] = "1" })
	f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "values." + otherName(f), Value: "2"}}}})
	early := b.Load()
	b.Do(func(s *sessions.Session) { delete(s.Values, key) })
	b.Do(func(s *sessions.Session) { s.Values[key] = "4" })
	early.Values["another"] = true
	if _, err := b.Save(early); err != nil {
		t.Fatal(err)
	}
	if got := b.Load().Values[key]; got != "4" {
		t.Errorf("a save of another key changed this one to %v", got)
	}
}

// otherName gives the name under which another process may store the only key of the
// only session.
func otherName(f *storetest.Fixture) string {
	f.T.Helper()
	fields, err := f.Document().Lookup("values").Document().Elements()
	if err != nil || len(fields) != 1 {
		f.T.Fatal(fields, err)
	}
	name := fields[0].Key()
	encoded, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(name, "%gob:"))
	if err != nil {
		f.T.Fatal(err)
	}
	other := "%gob:" + base64.RawURLEncoding.EncodeToString(renumberGob(f.T, encoded))
	if name == other {
		f.T.Fatal("the names do not differ")
	}
	return other
}

// renumberGob gives the gob of a value of one defined type another number for that type, as
// another process may have given it.
func renumberGob(t testing.TB, encoded []byte) []byte {
	t.Helper()
	// The number takes a byte, behind one that tells so; negative it is in front of the
	// definition.
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

// TestKeysThatCannotComeBack are refused before anything is stored.
func TestKeysThatCannotComeBack(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		key      any
		typeName string
	}{
		{math.NaN(), "float64"},
		{float32(math.NaN()), "float32"},
		{complex(math.NaN(), 0), "complex128"},
		{&keyPair{"a", "b"}, "*mongostore_test.keyPair"},
		{new(int), "*int"},
		{unregistered{"confidential"}, "mongostore_test.unregistered"},
		{struct{ Secret string }{"confidential"}, "struct { Secret string }"},
		{make(chan int), "chan int"},
		{clumsy{"encode"}, "mongostore_test.clumsy"},
		{clumsy{"decode"}, "mongostore_test.clumsy"},
		{(*keyPair)(nil), "*mongostore_test.keyPair"},
	} {
		t.Run(fmt.Sprintf("%T", row.key), func(t *testing.T) {
			t.Parallel()
			wantRefused(t, func(s *sessions.Session) { s.Values[row.key] = "confidential" }, "key", row.typeName)
		})
	}
}

// wantRefused checks that a save fails with an error that holds the texts and no value, that
// nothing is stored and no cookie sent, for a new session and for a stored one.
func wantRefused(t *testing.T, change func(*sessions.Session), texts ...string) {
	t.Helper()
	f := storetest.Setup(t)
	for _, stored := range []bool{false, true} {
		b := f.Browser()
		if stored {
			b.Login()
		}
		before := f.Documents()
		f.Log.Reset()
		session := b.Load()
		session.Values["good"] = "confidential"
		change(session)
		w, err := b.Save(session)
		if err == nil {
			t.Fatal("saved")
		}
		for _, text := range texts {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("the error does not tell %q: %v", text, err)
			}
		}
		if strings.Contains(err.Error(), "confidential") {
			t.Errorf("the error tells a value: %v", err)
		}
		if cookies := w.Header()["Set-Cookie"]; cookies != nil {
			t.Errorf("a cookie is sent: %q", cookies)
		}
		if names := f.Log.Reset(); len(names) > 1 {
			t.Errorf("commands sent: %q", names)
		}
		if !reflect.DeepEqual(before, f.Documents()) {
			t.Error("the database has changed")
		}
		// What was wrong can be mended.
		session.Values = map[any]any{"good": true}
		if _, err := b.Save(session); err != nil {
			t.Error("save without it:", err)
		}
		if got := b.Load().Values["good"]; got != true {
			t.Errorf("stored after that: %v", got)
		}
	}
}

// TestUnencodableValues fail the save, with the key and the type in the error.
func TestUnencodableValues(t *testing.T) {
	t.Parallel()
	list := []any{"confidential", nil}
	list[1] = list
	wide := []any{nil, nil, nil}
	wide[0], wide[1], wide[2] = wide, wide, wide
	loop := map[string]any{"a": "confidential"}
	loop["b"] = []any{loop}
	named := chain{nil}
	named[0] = named
	alone := &profile{Name: "confidential"}
	alone.Friends = []*profile{{}, alone}
	hidden := &profile{}
	hidden.Extra = map[string]string{"x": "confidential"}
	hidden.Extra = []any{hidden}
	for _, row := range []struct {
		name     string
		value    any
		typeName string
	}{
		{"channel", make(chan string), "chan string"},
		{"function", func() {}, "func()"},
		{"named function", farewell(func() {}), "mongostore_test.farewell"},
		{"type that is not registered", unregistered{"confidential"}, "mongostore_test.unregistered"},
		{"pointer to it", &unregistered{"confidential"}, "*mongostore_test.unregistered"},
		{"type without a name", struct{ A int }{1}, "struct { A int }"},
		{"nil pointer", (*profile)(nil), "*mongostore_test.profile"},
		{"nil pointer to a basic type", (*int)(nil), "*int"},
		{"list that contains itself", list, "[]interface {}"},
		{"list that contains itself thrice", wide, "[]interface {}"},
		{"named list that contains itself", named, "mongostore_test.chain"},
		{"map that contains itself", loop, "map[string]interface {}"},
		{"pointer that comes back", alone, "*mongostore_test.profile"},
		{"pointer that comes back through an interface", hidden, "*mongostore_test.profile"},
		{"method that panics", clumsy{"encode"}, "mongostore_test.clumsy"},
		{"channel in a list", []any{"confidential", []any{make(chan int)}}, "[]interface {}"},
		{"type that is not registered, in a map", map[string]any{"confidential": unregistered{"confidential"}}, "map[string]interface {}"},
		{"nil pointer in a struct's interface", card{Extra: (*profile)(nil)}, "mongostore_test.card"},
		{"nil in a struct's list", card{Friends: []*profile{nil}}, "mongostore_test.card"},
		{"panic in a list of maps", []map[string]any{{"a": clumsy{"encode"}}}, "[]map[string]interface {}"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			wantRefused(t, func(s *sessions.Session) { s.Values["a.key"] = row.value }, `"a%2Ekey"`, row.typeName)
		})
	}
}

// TestUndecodableValues fail the load and cannot be overwritten.
func TestUndecodableValues(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	for _, value := range []any{clumsy{"decode"}, []any{clumsy{"decode"}}, card{Extra: clumsy{"decode"}}} {
		b := f.Browser()
		b.Do(func(s *sessions.Session) { s.Values["key"] = value })
		before := f.Documents()
		session, err := b.Store.Get(b.Request(), storetest.Name)
		if !errors.Is(err, mongostore.ErrCorrupt) || !strings.Contains(err.Error(), `"key"`) {
			t.Errorf("load: %v", err)
		}
		session.Values["key"] = "overwritten"
		w, err := b.Save(session)
		if !errors.Is(err, mongostore.ErrCorrupt) || w.Header()["Set-Cookie"] != nil {
			t.Errorf("save: %v", err)
		}
		if !reflect.DeepEqual(before, f.Documents()) {
			t.Error("the database has changed")
		}
	}
}

// TestDeepNesting: MongoDB takes a hundred levels. Values nested deeper are stored
// all the same.
func TestDeepNesting(t *testing.T) {
	t.Parallel()
	shapes := map[string]func(inner any) any{
		"list":   func(inner any) any { return []any{1, inner} },
		"map":    func(inner any) any { return map[string]any{"a": 1, "b": inner} },
		"tagged": func(inner any) any { return map[string]any{"_type": inner} },
		"typed":  func(inner any) any { return []map[string]any{{"a": inner}} },
		"named":  func(inner any) any { return chain{inner} },
		"struct": func(inner any) any { return &profile{Extra: inner} },
		"mixed":  func(inner any) any { return []any{&profile{Extra: []any{inner}}} },
	}
	for shape, wrap := range shapes {
		for _, depth := range []int{1, 10, 39, 40, 41, 79, 80, 81, 100, 500} {
			t.Run(fmt.Sprint(shape, " ", depth), func(t *testing.T) {
				t.Parallel()
				var value any = "core"
				for range depth {
					value = wrap(value)
				}
				f := storetest.Setup(t)
				b := f.Browser()
				for range 2 { // the second one as a change
					session := b.Load()
					session.Values["key"] = value
					if _, err := b.Save(session); err != nil {
						// As with CookieStore, for want of gob.Register(map[string]any{}).
						if _, errCookie := throughCookieStore(value); errCookie == nil || !strings.Contains(err.Error(), "not registered") {
							t.Fatal(err)
						}
						return
					}
					if got := levels(f.Document()); got > 90 {
						t.Errorf("the document has %d levels", got)
					}
					f.Log.Reset()
					b.Do(func(s *sessions.Session) {
						if !same(s.Values["key"], value) {
							t.Error("another value came back")
						}
					})
					f.WantCommands("find")
					value = wrap(value)
				}
			})
		}
	}
}

// levels tells how deep documents and arrays are nested.
func levels(doc bson.Raw) int {
	elements, err := doc.Elements()
	if err != nil {
		return math.MaxInt
	}
	deepest := 0
	for _, e := range elements {
		switch v := e.Value(); v.Type {
		case bson.TypeArray, bson.TypeEmbeddedDocument:
			deepest = max(deepest, levels(bson.Raw(v.Value)))
		}
	}
	return deepest + 1
}

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
			if err != nil || !same(got, row.want) {
				t.Errorf("read as %#v, %v; want %#v", got, err, row.want)
			}
		})
	}
}

// Documents that lie. The decoder of encoding/gob would believe each of these counts.

// lyingGob is the gob of a value of one defined type, its contents replaced.
func lyingGob(t testing.TB, like any, contents ...byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(&like); err != nil {
		t.Fatal(err)
	}
	encoded := buf.Bytes()
	// Behind the definitions comes the message with the value, which begins with its
	// type's number: two bytes, see registerTypes.
	var definitions, id []byte
	for rest := encoded; len(rest) > 0; {
		size, prefix := int(rest[0]), 1
		if size >= 0x80 {
			size, prefix = int(rest[1]), 2
		}
		definitions, id = encoded[:len(encoded)-len(rest)], rest[prefix:prefix+2]
		rest = rest[prefix+size:]
	}
	message := slices.Concat(id, gobUint(len(contents)), contents)
	return slices.Concat(definitions, gobUint(len(message)), message)
}

// gobUint is an unsigned integer in gob's way.
func gobUint(n int) []byte {
	if n < 0x80 {
		return []byte{byte(n)}
	}
	b := bytes.TrimLeft(binary.BigEndian.AppendUint64(nil, uint64(n)), "\x00")
	return append([]byte{byte(-len(b))}, b...)
}

// gobInt is a signed integer in gob's way.
func gobInt(n int) []byte {
	if n < 0 {
		return gobUint(^n<<1 | 1)
	}
	return gobUint(n << 1)
}

// laboriousGob defines a struct of fields that are all lists in lists in lists. The decoder
// prepares itself for each field anew, though it has no such field to put it into.
func laboriousGob(fields, levels int) []byte {
	const id = 100
	common := func(id int) []byte { return slices.Concat([]byte{1, 2}, gobInt(id), []byte{0, 1}) }
	message := func(parts ...[]byte) []byte {
		content := slices.Concat(parts...)
		return append(gobUint(len(content)), content...)
	}
	var list []byte
	for range fields {
		list = slices.Concat(list, []byte{1, 1, 'X', 1}, gobInt(id+1), []byte{0})
	}
	const name = "github.com/mongostore/mongostore_test.keyPair"
	stream := message([]byte{0x10, 0}, gobUint(len(name)), []byte(name), gobInt(-id), []byte{3}, common(id), gobUint(fields), list, []byte{0, 0})
	for i := range levels {
		element := id + 2 + i
		if i == levels-1 {
			element = 2
		}
		stream = append(stream, message(gobInt(-id-1-i), []byte{2}, common(id+1+i), gobInt(element), []byte{0, 0})...)
	}
	return append(stream, message(gobInt(id), []byte{1, 0})...)
}

// lyingGobs are malformed in ways that cost encoding/gob gigabytes, or the process.
func lyingGobs(t testing.TB) map[string][]byte {
	t.Helper()
	huge := gobUint(1 << 34)
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }

	// A list in a list in a list: each claims to have a million elements.
	chainOf := func(levels int, count []byte) []byte {
		id := lyingGob(t, chain{}) // ends with it and a length of 0
		id = id[len(id)-3 : len(id)-1]
		if id[0] != 0xff {
			t.Fatalf("no number of a type: % x", id)
		}
		contents := join([]byte{0}, count)
		for range levels {
			contents = append(contents, "\x05chain"...)
			contents = append(contents, id...)
			contents = append(contents, 0x7f, 0) // the decoder passes over the length
			contents = append(contents, count...)
		}
		return lyingGob(t, chain{}, append(contents, 0)...)
	}
	return map[string][]byte{
		"definitions that make work":          laboriousGob(3000, 3000),
		"map of 16 billion entries":           lyingGob(t, map[int]string{}, join([]byte{0}, huge)...),
		"map of a billion entries in a map":   lyingGob(t, map[string]card{}, join([]byte{0, 1, 1, 'a', 3}, gobUint(1<<30), []byte{0})...),
		"list of 16 billion elements":         lyingGob(t, chain{}, join([]byte{0}, huge)...),
		"list of a million elements":          lyingGob(t, []card{}, join([]byte{0}, gobUint(1<<20), make([]byte, 10))...),
		"string of 16 billion bytes":          lyingGob(t, [2]string{}, join([]byte{0, 2}, huge)...),
		"field far behind the last":           lyingGob(t, card{}, join(huge, []byte{1, 0})...),
		"a thousand lists, a million in each": chainOf(1000, gobUint(1<<20)),
		"a million lists in each other":       chainOf(1_000_000, []byte{1}),
	}
}

// TestLyingGobs: fifty bytes in a document must not cost the server its memory, nor
// a deeply nested value the process its stack.
func TestLyingGobs(t *testing.T) {
	for row, lie := range lyingGobs(t) {
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
		if (a == b) != (nameA == nameB) && !(a == b && strings.HasPrefix(nameA, "%gob:") && !same(a, b)) {
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
		if err != nil || !same(back, v) {
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
	if err != nil || !same(back, decoded) {
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
	for _, lie := range lyingGobs(f) {
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
