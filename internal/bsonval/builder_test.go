package bsonval_test

import (
	"bytes"
	"math"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore/internal/bsonval"
	"github.com/mongostore/mongostore/internal/samples"
)

func TestBuilder(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_700_000_000_123).UTC()
	b := bsonval.NewBuilder(64)
	b.String("text", "a\x00b")
	b.Begin("$set")
	b.Int("int", math.MinInt32)
	b.Begin("inner")
	b.Int("long", math.MaxInt32+1)
	b.EndUnlessEmpty()
	b.Begin("empty")
	b.EndUnlessEmpty()
	b.Time("time", now)
	b.End()
	b.Begin("$unset")
	b.Begin("none")
	b.EndUnlessEmpty()
	b.EndUnlessEmpty()
	b.Begin("kept")
	b.End()
	b.BeginArray("list")
	b.Null("0")
	b.Bool("1", true)
	b.Bool("2", false)
	b.Begin("3")
	b.End()
	b.End()
	b.Value("value", bsonval.Binary([]byte("x")))
	b.Value("absent", bsonval.Value{})
	b.Begin("open")
	b.Int("zero", 0)

	want, err := bson.Marshal(bson.D{
		{Key: "text", Value: "a\x00b"},
		{Key: "$set", Value: bson.D{
			{Key: "int", Value: int32(math.MinInt32)},
			{Key: "inner", Value: bson.D{{Key: "long", Value: int64(math.MaxInt32 + 1)}}},
			{Key: "time", Value: now},
		}},
		{Key: "kept", Value: bson.D{}},
		{Key: "list", Value: bson.A{nil, true, false, bson.D{}}},
		{Key: "value", Value: []byte("x")},
		{Key: "open", Value: bson.D{{Key: "zero", Value: int32(0)}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Document(); !bytes.Equal(got, want) {
		t.Errorf("built %v, want %v", got, bson.Raw(want))
	}
}

// TestDeepBuilder: documents may be nested as deep as the documentation says.
func TestDeepBuilder(t *testing.T) {
	t.Parallel()
	const deepest = 7
	b := bsonval.NewBuilder(0)
	for range deepest {
		b.Begin("a")
	}
	b.String("b", "core")
	if got := samples.Levels(b.Document()); got != 1+deepest {
		t.Errorf("%d levels, want %d", got, 1+deepest)
	}
}

func TestConstructors(t *testing.T) {
	t.Parallel()
	id := bson.ObjectID{1, 2, 11: 3}
	values := []bsonval.Value{
		bsonval.String("a"), bsonval.Int(1), bsonval.Int(math.MaxInt64), bsonval.Binary(nil), bsonval.ObjectID(id), bsonval.List(nil),
	}
	list := bsonval.List(values)
	got, err := codec.Decode(list)
	if want := []any{"a", 1, int64(math.MaxInt64), []byte{}, id, []any{}}; err != nil || !samples.Same(got, want) {
		t.Errorf("decoded as %#v, %v; want %#v", got, err, want)
	}
	back, ok := list.List()
	if !ok || len(back) != len(values) {
		t.Fatal("read as", back)
	}
	for i := range values {
		if !back[i].Equal(values[i]) {
			t.Errorf("element %d is %v, want %v", i, back[i], values[i])
		}
	}
}

func TestBuilderAllocations(t *testing.T) {
	value := bsonval.String("x")
	allocs := testing.AllocsPerRun(100, func() {
		b := bsonval.NewBuilder(256)
		b.String("_id", "hash")
		b.Begin("$set")
		b.Value("values.a", value)
		b.Int("rev", 1)
		b.End()
		b.Document()
	})
	if allocs > 2 {
		t.Errorf("%v allocations, want the document and the Builder", allocs)
	}
}
