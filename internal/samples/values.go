package samples

import (
	"math"
	"math/big"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Value is a value, how it is stored, and what comes back.
type Value struct {
	Name  string
	Value any
	Want  any       // what comes back if gob loses nothing
	Kind  bson.Type // as it is in the document
	Tag   string    // the _type of a tagged value
	Inner bson.Type // the _value of a tagged value
	Mixed bool      // contains gob
}

func bare(name string, kind bson.Type, v any) Value {
	return Value{Name: name, Value: v, Want: v, Kind: kind}
}

func tagged(name, tag string, inner bson.Type, v any) Value {
	return Value{Name: name, Value: v, Want: v, Kind: bson.TypeEmbeddedDocument, Tag: tag, Inner: inner}
}

func gobbed(name string, v any) Value { return tagged(name, "gob", bson.TypeBinary, v) }

func mixed(name string, kind bson.Type, v any) Value {
	return Value{Name: name, Value: v, Want: v, Kind: kind, Mixed: true}
}

// as returns v as a value that comes back as another.
func (v Value) as(want any) Value {
	v.Want = want
	return v
}

// Values returns new values on each call, since a test may change them in place.
func Values() []Value {
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
	letter, seven, admin := "a", 7, Role("admin")
	pointer := &seven
	return []Value{
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
		tagged("list, nil", "[]any", null, []any(nil)),
		bare("list of lists", list, []any{[]any{}, []any{[]any{nil}}, []any(nil)}),
		mixed("list of all kinds", list, []any{
			uint8(1), float32(2), "a\xff", math.NaN(), in(60), time.Hour,
			[]string{"a"},
			[]byte(nil),
			map[string]any{"_type": 1},
			map[string]string{"a": "b"},
			Card{Name: "Ada"},
			&Profile{Age: 36}, Role("admin"),
			Triple{1, 2, 3},
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
		tagged("[]map", "[]map[string]any", list, []map[string]any{{"a": 1}, nil, {}, {"_type": "gob"}}),
		gobbed("[]float32", []float32{1, float32(math.Inf(1))}),
		gobbed("[]int8", []int8{math.MinInt8, math.MaxInt8}),
		gobbed("[]role", []Role{"admin", ""}),
		gobbed("[][]byte", [][]byte{{1}, {}}),
		gobbed("[][]int", [][]int{{1, 2}, {3}}),

		bare("map", document, map[string]any{"a": 1, "b": "two", "c": nil, "d": []any{map[string]any{}}}),
		bare("map, empty", document, map[string]any{}),
		tagged("map, nil", "map[string]any", null, map[string]any(nil)),
		bare("map with odd keys", document, oddKeys()),
		bare("map with a key _value", document, map[string]any{"_value": 1}),
		tagged("map like a tag of gob", "map[string]any", document, map[string]any{"_type": "gob", "_value": []byte("x")}),
		tagged("map like a tag of an unknown type", "map[string]any", document, map[string]any{"_type": "no such type"}),
		tagged("map like a tag of a tag", "map[string]any", document, map[string]any{
			"_type": "map[string]any", "_value": map[string]any{"_type": "int8", "_value": 5},
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
		gobbed("map of structs", map[string]Card{"ada": {Name: "Ada"}}),
		gobbed("url.Values", url.Values{"q": {"a", "b"}}),

		gobbed("struct", Card{Name: "Ada", Age: 36}),
		gobbed("struct, zero", Card{}),
		gobbed("struct with everything", Card{
			Name: "Ada", Tags: map[string]string{"a": "b", "": ""}, Extra: []any{1, "two"}, Since: in(19),
			Friends: []*Profile{{Name: "Bea", Extra: KeyPair{"a", "b"}}, {Extra: Card{Extra: Role("admin")}}},
			Photo:   []byte{1, 2, 3}, secret: "lost with CookieStore too",
		}),
		gobbed("struct with empty parts", Card{Tags: map[string]string{}, Friends: []*Profile{}, Photo: []byte{}}),
		gobbed("pointer to a struct", &Profile{Name: "Ada", Since: millis}),
		gobbed("[]struct", []Card{{Name: "Ada"}, {}}),
		gobbed("struct that refers to its parent", family()),
		gobbed("value that encodes itself, and contains itself", selfMade()),
		gobbed("big.Int", big.NewInt(0).Lsh(big.NewInt(-5), 200)),
		gobbed("named string", Role("admin")),
		gobbed("named int", Level(seven)),
		gobbed("named map", Scores{"a": 1}),
		gobbed("named list", Chain{Chain{1}, "x"}),
		bare("pointer to a string", text, &letter).as(letter),
		bare("pointer to a pointer", integer, &pointer).as(seven),
		bare("pointer to a time", date, &millis).as(millis),
		tagged("pointer to a time with nanoseconds", "time.Time", text, &nanos).as(nanos),
		tagged("pointer to a list of strings", "[]string", list, &[]string{"a"}).as([]string{"a"}),
		bare("pointer to a map", document, &map[string]any{"a": 1}).as(map[string]any{"a": 1}),
		gobbed("pointer to a struct that is registered as a value", &Card{Name: "Ada"}).as(Card{Name: "Ada"}),
		gobbed("struct that is registered as a pointer", Profile{Name: "Ada"}).as(&Profile{Name: "Ada"}),
		gobbed("pointer to a named string", &admin).as(admin),
		gobbed("array", [3]int{1, 0, -1}),
		gobbed("array of strings", [2]string{"a", ""}),
		gobbed("named array", Triple{}),
	}
}

func oddKeys() map[string]any {
	m := map[string]any{}
	for i, key := range OddStrings {
		if key != "_type" {
			m[key] = i
		}
	}
	return m
}

func family() *Node {
	parent := &Node{Label: "parent"}
	for i := range 2 {
		parent.Children = append(parent.Children, &Node{Label: strconv.Itoa(i), parent: parent})
	}
	return parent
}

func selfMade() *Ring {
	r := &Ring{Value: 5}
	r.Next = r
	return r
}

// OddStrings could be mistaken for something else by a database, in a path of an update, or by
// the escapes of keys.
var OddStrings = []string{
	"", " ", ".", "..", "a.b", "a..b", ".a", "a.", "$", "$$", "$set", "a$", "a.$", "a.$[]", "$[x]", "a.$.b", "$ref", "$id",
	"_id", "_type", "_value", "values", "expiresAt", "v", "rev", "0", "1", "00", "-1", "1.5", "__proto__", "constructor",
	"%", "%%", "%2", "%25", "%2E", "%2e", "%00", "%empty", "%nil", "%int:1", "%bool:true", "%gob:", "%string:a", "a%", "a%2Eb", "%zz",
	" a", "a ", "\u00a0a", "a\u2003", " . ",
	"\x00", "a\x00b", "\x00\x00", "\x01", "\x7f", "\n", "\t", "\"", "'", "\\", "/", "{}", "[0]",
	"\xff", "a\xffb", "\xc3", "\xed\xa0\x80", "\xf0\x9f\xa6", "\ufffd", "é", "e\u0301", "世界", "🦊", "\u200b", "\ufeff",
	strings.Repeat("long", 1000), strings.Repeat(".", 100), strings.Repeat("\xff", 100),
}

// BadValues returns values that cannot be stored: only their Name and Value are set. No error may
// contain the text "confidential".
func BadValues() []Value {
	var itself any
	itself = &itself
	list := []any{"confidential", nil}
	list[1] = list
	wide := []any{nil, nil, nil}
	wide[0], wide[1], wide[2] = wide, wide, wide
	loop := map[string]any{"a": "confidential"}
	loop["b"] = []any{loop}
	named := Chain{nil}
	named[0] = named
	alone := &Profile{Name: "confidential"}
	alone.Friends = []*Profile{{}, alone}
	hidden := &Profile{}
	hidden.Extra = map[string]string{"x": "confidential"}
	hidden.Extra = []any{hidden}
	return []Value{
		{Name: "channel", Value: make(chan string)},
		{Name: "function", Value: func() {}},
		{Name: "named function", Value: farewell(func() {})},
		{Name: "type that is not registered", Value: Unregistered{"confidential"}},
		{Name: "pointer to it", Value: &Unregistered{"confidential"}},
		{Name: "type without a name", Value: struct{ A int }{1}},
		{Name: "nil pointer", Value: (*Profile)(nil)},
		{Name: "nil pointer to a basic type", Value: (*int)(nil)},
		{Name: "list that contains itself", Value: list},
		{Name: "list that contains itself thrice", Value: wide},
		{Name: "named list that contains itself", Value: named},
		{Name: "map that contains itself", Value: loop},
		{Name: "pointer that comes back", Value: alone},
		{Name: "pointer that comes back through an interface", Value: hidden},
		{Name: "method that panics", Value: Clumsy{EncodePanics}},
		{Name: "channel in a list", Value: []any{"confidential", []any{make(chan int)}}},
		{Name: "type that is not registered, in a map", Value: map[string]any{"confidential": Unregistered{"confidential"}}},
		{Name: "nil pointer in a struct's interface", Value: Card{Extra: (*Profile)(nil)}},
		{Name: "nil in a struct's list", Value: Card{Friends: []*Profile{nil}}},
		{Name: "panic in a list of maps", Value: []map[string]any{{"a": Clumsy{EncodePanics}}}},
		{Name: "nil pointer in a list", Value: []any{(*string)(nil)}},
		{Name: "method whose error holds a value", Value: Clumsy{EncodeFails}},
		{Name: "pointer to itself", Value: &itself},
	}
}
