package bsonval_test

import (
	"encoding/gob"
	"math"
	"strconv"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore/internal/bsonval"
	"github.com/mongostore/mongostore/internal/samples"
)

// measures is an own type with floats everywhere.
type measures struct {
	Value   float64
	ByName  map[string]float64
	ByValue map[float64]*measures
	Any     any
	Complex complex128
}

// ringed decodes itself to a value that contains itself.
type ringed struct {
	Label string
	Next  *ringed
	Any   any
	do    func()
}

func (r ringed) MarshalBSON() ([]byte, error) {
	return bson.Marshal(bson.D{{Key: "label", Value: r.Label}})
}

func (r *ringed) UnmarshalBSON(b []byte) error {
	label, _ := bson.Raw(b).Lookup("label").StringValueOK()
	*r = ringed{Label: label, Next: &ringed{Label: label}, do: func() {}}
	r.Next.Next, r.Any = r, map[string]any{"r": r, "list": []*ringed{r, r.Next}}
	return nil
}

var _ = registerMeasures()

func registerMeasures() bool {
	gob.Register(measures{})
	return true
}

func manyMeasures() measures {
	m := measures{Value: math.NaN(), ByName: map[string]float64{}, ByValue: map[float64]*measures{}, Complex: complex(math.NaN(), 1)}
	for i := range 20 {
		m.ByName[strconv.Itoa(i)] = math.NaN()
		m.ByValue[float64(i)] = &measures{Value: float64(i)}
	}
	m.ByValue[math.NaN()] = &measures{Value: 1}
	m.ByValue[math.NaN()] = &measures{Value: math.NaN()}
	m.Any = []float64{math.NaN(), 1}
	return m
}

// TestNaNIsUnchanged: NaN is equal to itself, wherever it is, though gob writes the maps around it in another
// order each time.
func TestNaNIsUnchanged(t *testing.T) {
	t.Parallel()
	for _, v := range []any{
		manyMeasures(),
		[]any{manyMeasures(), map[string]any{"a": manyMeasures()}},
		math.NaN(), float32(math.NaN()),
		[]any{math.NaN()},
		map[string]any{"a": math.NaN(), "b": manyMeasures()},
		map[string]float64{"a": math.NaN()},
		complex(1, math.NaN()),
		math.Float64frombits(0xfff8_0000_0000_0001),
	} {
		stored := encode(t, v)
		for range 10 {
			again := encode(t, v)
			if !codec.Same(stored, again) || !codec.Same(again, stored) {
				t.Fatalf("%#v seems to have changed", v)
			}
			back, err := codec.Decode(again)
			if err != nil || !codec.Same(stored, encode(t, back)) {
				t.Fatalf("%#v seems to have changed when loaded: %v", v, err)
			}
		}
	}
}

// TestNaNIsUnchangedByItsBits: there are many NaNs, and others write them as plain doubles.
func TestNaNIsUnchangedByItsBits(t *testing.T) {
	t.Parallel()
	double := func(f float64) bsonval.Value {
		kind, data, err := bson.MarshalValue(f)
		if err != nil {
			t.Fatal(err)
		}
		return bsonval.Value{Kind: kind, Data: data}
	}
	one, other := double(math.NaN()), double(math.Float64frombits(0xfff8_0000_0000_0001))
	if one.Equal(other) {
		t.Fatal("the bits are the same")
	}
	if !codec.Same(one, other) {
		t.Error("NaN seems to have changed")
	}
	if codec.Same(one, double(1)) || codec.Same(double(1), double(2)) {
		t.Error("a change is not seen")
	}
}

// TestChangesAreSeen: values that differ by little are not the same.
func TestChangesAreSeen(t *testing.T) {
	t.Parallel()
	change := func(do func(m *measures)) any {
		m := manyMeasures()
		do(&m)
		return m
	}
	hour := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, pair := range [][2]any{
		{0.0, math.Copysign(0, -1)},
		{[]any{0.0}, []any{math.Copysign(0, -1)}},
		{[]float64{0}, []float64{math.Copysign(0, -1)}},
		{measures{}, measures{ByName: map[string]float64{"a": 0}}},
		{measures{ByName: map[string]float64{"a": 0}}, measures{ByName: map[string]float64{"a": math.Copysign(0, -1)}}},
		{manyMeasures(), change(func(m *measures) { m.Value = 0 })},
		{manyMeasures(), change(func(m *measures) { m.Complex = complex(1, math.NaN()) })},
		{manyMeasures(), change(func(m *measures) { m.ByName["5"] = 5 })},
		{manyMeasures(), change(func(m *measures) { m.ByValue[5].Value = math.NaN() })},
		{manyMeasures(), change(func(m *measures) { m.ByValue[math.NaN()] = &measures{} })},
		{manyMeasures(), change(func(m *measures) { m.Any = []float64{math.NaN(), math.NaN()} })},
		{manyMeasures(), change(func(m *measures) { m.Any = []any{math.NaN(), 1.0} })},
		{measures{Any: 1}, measures{Any: int64(1)}},
		{measures{Any: samples.Role("a")}, measures{Any: "a"}},
		{nil, false},
		{"a", "b"},
		{1, int64(1)},
		{int8(1), int16(1)},
		{"1", []byte("1")},
		{[]string{}, []string(nil)},
		{[]string{"a"}, []any{"a"}},
		{[]any{"a", "b"}, []any{"b", "a"}},
		{[]any{}, map[string]any{}},
		{map[string]any{"a": 1}, map[string]any{"b": 1}},
		{map[string]any{"a": nil}, map[string]any{}},
		{map[string]any{"_type": 1}, map[string]any{"_type": 2}},
		{hour, hour.Add(time.Millisecond)},
		{hour, hour.In(time.FixedZone("", 0))},
		{[]any{hour}, []any{hour.In(time.FixedZone("", 60))}},
		{samples.Card{Since: hour}, samples.Card{Since: hour.In(time.FixedZone("", 3600))}},
		{samples.Card{Name: "a"}, &samples.Profile{Name: "a"}},
	} {
		a, b := encode(t, pair[0]), encode(t, pair[1])
		if codec.Same(a, b) || codec.Same(b, a) {
			t.Errorf("%d: %#v and %#v seem to be the same", i, pair[0], pair[1])
		}
		if !codec.Same(a, encode(t, pair[0])) || !codec.Same(b, encode(t, pair[1])) {
			t.Errorf("%d: not the same as itself", i)
		}
	}
}

// TestOtherFormsOfAValue: reordering fields, or writing a number in another type, changes no
// value.
func TestOtherFormsOfAValue(t *testing.T) {
	t.Parallel()
	stored := func(v any) bsonval.Value {
		kind, data, err := bson.MarshalValue(v)
		if err != nil {
			t.Fatal(err)
		}
		return bsonval.Value{Kind: kind, Data: data}
	}
	for _, row := range []struct {
		value any
		other any
	}{
		{map[string]any{"a": 1, "_id": map[string]any{"b": 2, "c": 3}}, bson.D{{Key: "_id", Value: bson.D{{Key: "c", Value: int32(3)}, {Key: "b", Value: int32(2)}}}, {Key: "a", Value: int32(1)}}},
		{int8(5), bson.D{{Key: "_value", Value: 5.0}, {Key: "_type", Value: "int8"}}},
		{[]any{uint8(5)}, bson.A{bson.D{{Key: "_value", Value: int64(5)}, {Key: "_type", Value: "uint8"}}}},
	} {
		a, b := encode(t, row.value), stored(row.other)
		if !codec.Same(a, b) || !codec.Same(b, a) {
			t.Errorf("%#v seems to have changed", row.value)
		}
	}
	broken := stored(bson.D{{Key: "_type", Value: "gob"}, {Key: "_value", Value: "nonsense"}})
	if codec.Same(broken, encode(t, samples.Card{})) || !codec.Same(broken, broken) {
		t.Error("a value that cannot be decoded is only the same as itself")
	}
}

// TestSameIsBounded: comparing values that contain themselves, or each other, ends.
func TestSameIsBounded(t *testing.T) {
	t.Parallel()
	c := newCodec(t, bsonval.TypeOf[ringed]("ringed"))
	encode := func(v any) bsonval.Value {
		stored, err := c.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		return stored
	}
	reordered := func(label string) bsonval.Value {
		kind, data, err := bson.MarshalValue(bson.D{{Key: "_value", Value: bson.D{{Key: "x", Value: 1}, {Key: "label", Value: label}}}, {Key: "_type", Value: "ringed"}})
		if err != nil {
			t.Fatal(err)
		}
		return bsonval.Value{Kind: kind, Data: data}
	}
	if !c.Same(encode(ringed{Label: "a"}), reordered("a")) {
		t.Error("a value that contains itself seems to have changed")
	}
	if c.Same(encode(ringed{Label: "a"}), reordered("b")) {
		t.Error("a change is not seen")
	}
}
