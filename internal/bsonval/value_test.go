package bsonval_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore/internal/bsonval"
	"github.com/mongostore/mongostore/internal/samples"
)

// FuzzEach compares Each with the driver's walk over a document. There are two differences: the
// driver ignores bytes after the document's end, and values that are too short for their
// type. Each refuses both.
func FuzzEach(f *testing.F) {
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
		f.Add([]byte(documentOf(bsonval.Value{Kind: kind, Data: data})))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if len(doc) > 5 {
			if size := int64(binary.LittleEndian.Uint32(doc)); size >= 5 && size < int64(len(doc)) {
				if err := bsonval.Each(doc, func([]byte, bsonval.Value) error { return nil }); err == nil {
					t.Errorf("% x has bytes behind its end", doc)
				}
				doc = doc[:size]
			}
		}
		type element struct {
			name string
			v    bsonval.Value
		}
		var ours []element
		err := bsonval.Each(doc, func(name []byte, v bsonval.Value) error {
			ours = append(ours, element{string(name), v})
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
			if v := e.Value(); ours[i].name != e.Key() || !ours[i].v.Equal(bsonval.Value{Kind: v.Type, Data: v.Value}) {
				t.Errorf("% x: element %d is %q %v, the driver's %q %v", doc, i, ours[i].name, ours[i].v, e.Key(), v)
			}
		}
	})
}

// TestParse accepts exactly one value.
func TestParse(t *testing.T) {
	t.Parallel()
	for _, row := range samples.Values() {
		stored := encode(t, row.Value)
		v, err := bsonval.Parse(stored.Kind, stored.Data)
		if err != nil || !v.Equal(stored) {
			t.Errorf("%s: %v, %v", row.Name, v, err)
		}
		if _, err := bsonval.Parse(stored.Kind, append(bytes.Clone(stored.Data), 0)); err == nil {
			t.Errorf("%s: a byte too many was accepted", row.Name)
		}
		for i := range min(len(stored.Data), 100) {
			if _, err := bsonval.Parse(stored.Kind, stored.Data[:i]); err == nil {
				t.Errorf("%s: the first %d bytes were accepted", row.Name, i)
			}
		}
	}
	for kind := range 256 {
		if _, err := bsonval.Parse(bson.Type(kind), make([]byte, 1000)); err == nil {
			t.Errorf("a thousand zeros were accepted as %v", bson.Type(kind))
		}
	}
}

// TestReaders return what they are for, and false for every other type.
func TestReaders(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_123).UTC()
	doc := bson.D{
		{Key: "double", Value: 5.0},
		{Key: "fraction", Value: 5.5},
		{Key: "large", Value: 1e300},
		{Key: "nan", Value: math.NaN()},
		{Key: "int", Value: int32(-5)},
		{Key: "long", Value: int64(1 << 40)},
		{Key: "text", Value: "abc"},
		{Key: "binary", Value: []byte("abc")},
		{Key: "uuid", Value: bson.Binary{Subtype: 4, Data: make([]byte, 16)}},
		{Key: "time", Value: now},
		{Key: "document", Value: bson.D{{Key: "a", Value: 1}}},
		{Key: "list", Value: bson.A{"a", "b"}},
		{Key: "null", Value: nil},
		{Key: "bool", Value: true},
		{Key: "symbol", Value: bson.Symbol("abc")},
	}
	raw, err := bson.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	type reading struct {
		text, binary string
		integer      int64
		time         time.Time
		document     bool
		list         int
	}
	want := map[string]reading{
		"double": {integer: 5}, "int": {integer: -5}, "long": {integer: 1 << 40}, "text": {text: "abc"}, "binary": {binary: "abc"},
		"time": {time: now}, "document": {document: true}, "list": {list: 2},
	}
	err = bsonval.Each(raw, func(name []byte, v bsonval.Value) error {
		var got reading
		if s, ok := v.Text(); ok {
			got.text = s
		}
		if b, ok := v.Binary(); ok {
			got.binary = string(b)
		}
		if i, ok := v.Integer(); ok {
			got.integer = i
		}
		if at, ok := v.Time(); ok {
			got.time = at
		}
		if d, ok := v.Document(); ok {
			got.document = len(d) > 5
		}
		if l, ok := v.List(); ok {
			got.list = len(l)
		}
		if got != want[string(name)] {
			t.Errorf("%s is read as %+v, want %+v", name, got, want[string(name)])
		}
		if got, want := v.IsText("abc"), string(name) == "text"; got != want {
			t.Errorf("%s: IsText is %v", name, got)
		}
		if v.IsZero() || v.Size() != 1+len(v.Data) || !v.Equal(v) || v.Equal(bsonval.Value{}) {
			t.Errorf("%s: IsZero, Size or Equal is wrong", name)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestZeroValue: the readers return false for no value.
func TestZeroValue(t *testing.T) {
	t.Parallel()
	var v bsonval.Value
	_, text := v.Text()
	_, integer := v.Integer()
	_, date := v.Time()
	_, binary := v.Binary()
	_, document := v.Document()
	_, list := v.List()
	_, _, tagged, err := bsonval.Tag(v)
	if !v.IsZero() || text || integer || date || binary || document || list || tagged || err != nil || v.IsText("") {
		t.Error("the zero Value is read as a value")
	}
	if _, err := codec.Decode(v); err == nil {
		t.Error("the zero Value was decoded")
	}
}

// TestPartsAreParts: what Each passes on are parts of the document that appends cannot overwrite.
func TestPartsAreParts(t *testing.T) {
	t.Parallel()
	doc := documentOf(bsonval.String("abc"))
	err := bsonval.Each(doc, func(name []byte, v bsonval.Value) error {
		if &name[0] != &doc[5] || &v.Data[0] != &doc[7] {
			t.Error("a copy was passed on")
		}
		if cap(name) != len(name) || cap(v.Data) != len(v.Data) {
			t.Error("an append would overwrite the document")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
