package fakemongo

import (
	"bytes"
	"cmp"
	"math/big"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// class is where a value's type stands in MongoDB's order of types. Values of one class are
// compared by value, as an int32 with a double.
func class(v any) int {
	switch v.(type) {
	case nil, bson.Null, bson.Undefined:
		return 1
	case int32, int64, float64:
		return 2
	case string, bson.Symbol:
		return 3
	case bson.D:
		return 4
	case bson.A:
		return 5
	case bson.Binary:
		return 6
	case bson.ObjectID:
		return 7
	case bool:
		return 8
	case bson.DateTime:
		return 9
	case bson.Timestamp:
		return 10
	case bson.Regex:
		return 11
	default:
		return 12
	}
}

// compare orders two values as MongoDB does.
func compare(a, b any) int {
	if c := cmp.Compare(class(a), class(b)); c != 0 {
		return c
	}
	switch a := a.(type) {
	case int32, int64, float64:
		return compareNumbers(a, b)
	case string:
		b, _ := b.(string)
		return strings.Compare(a, b)
	case bson.D:
		return compareDocuments(a, b.(bson.D))
	case bson.A:
		b := b.(bson.A)
		for i := range a {
			if i >= len(b) {
				return 1
			}
			if c := compare(a[i], b[i]); c != 0 {
				return c
			}
		}
		return cmp.Compare(len(a), len(b))
	case bson.Binary:
		b := b.(bson.Binary)
		return cmp.Or(cmp.Compare(len(a.Data), len(b.Data)), cmp.Compare(a.Subtype, b.Subtype), bytes.Compare(a.Data, b.Data))
	case bson.ObjectID:
		b := b.(bson.ObjectID)
		return bytes.Compare(a[:], b[:])
	case bool:
		b := b.(bool)
		switch {
		case a == b:
			return 0
		case b:
			return -1
		default:
			return 1
		}
	case bson.DateTime:
		return cmp.Compare(a, b.(bson.DateTime))
	case bson.Timestamp:
		b := b.(bson.Timestamp)
		return cmp.Or(cmp.Compare(a.T, b.T), cmp.Compare(a.I, b.I))
	}
	x, errX := bson.Marshal(bson.D{{Key: "", Value: a}})
	y, errY := bson.Marshal(bson.D{{Key: "", Value: b}})
	if errX != nil || errY != nil {
		return 0
	}
	return bytes.Compare(x, y)
}

func compareDocuments(a, b bson.D) int {
	for i := range a {
		if i >= len(b) {
			return 1
		}
		if c := cmp.Or(
			cmp.Compare(class(a[i].Value), class(b[i].Value)),
			strings.Compare(a[i].Key, b[i].Key),
			compare(a[i].Value, b[i].Value),
		); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func compareNumbers(a, b any) int {
	x, xWhole := whole(a)
	y, yWhole := whole(b)
	if xWhole && yWhole {
		return cmp.Compare(x, y)
	}
	f, fIsFloat := a.(float64)
	g, gIsFloat := b.(float64)
	switch {
	case fIsFloat && gIsFloat:
		return cmp.Compare(f, g) // NaN is the least, and equals itself
	case f != f:
		return -1
	case g != g:
		return 1
	}
	return float(a).Cmp(float(b))
}

func whole(v any) (int64, bool) {
	switch v := v.(type) {
	case int32:
		return int64(v), true
	case int64:
		return v, true
	}
	return 0, false
}

func float(v any) *big.Float {
	if i, ok := whole(v); ok {
		return new(big.Float).SetInt64(i)
	}
	return big.NewFloat(v.(float64))
}

func equal(a, b any) bool { return compare(a, b) == 0 }
