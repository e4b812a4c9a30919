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
	"net/url"
	"reflect"
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

// SameAs reports whether v is a ring of the same value.
func (r *ring) SameAs(v any) bool {
	other, ok := v.(*ring)
	return ok && r.Value == other.Value && r.Next == r && other.Next == other
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
			asCookieStore := err == nil && storetest.Same(got, cookie)
			if !storetest.Same(got, row.value) && !asCookieStore {
				t.Errorf("%#v came back as %#v; from CookieStore as %#v, %v", row.value, got, cookie, err)
			}
			if err == nil && storetest.Same(cookie, row.value) && !storetest.Same(got, row.value) {
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
	if got := b.Load().Values["now"]; !storetest.Same(got, now) || strings.Contains(fmt.Sprint(got), "m=") {
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
			if got := b.Load().Values["key"]; !storetest.Same(got, row.value) {
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
						if !storetest.Same(s.Values["key"], value) {
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
