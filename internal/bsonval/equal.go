package bsonval

import (
	"maps"
	"math"
	"reflect"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Same reports whether a and b stand for equal Go values. Most equal values have equal bytes.
// Others are decoded and compared, with NaN equal to itself, and 0 not equal to -0: gob and
// the bson package write maps in any order, gob numbers types in the order in which a process
// first used them, and a server may reorder fields.
//
// A value that gob stored, of a type that has been registered since, is the same as its document
// if they differ only in what the document does not keep.
func (c *Codec) Same(a, b Value) bool {
	switch {
	case a.Equal(b):
		return true
	case a.Kind != b.Kind:
		return false
	case a.Kind == bson.TypeDouble:
		return math.IsNaN(a.double()) && math.IsNaN(b.double())
	case a.Kind != bson.TypeEmbeddedDocument && a.Kind != bson.TypeArray:
		return false
	}
	goA, errA := c.Decode(a)
	goB, errB := c.Decode(b)
	if errA != nil || errB != nil {
		return false
	}
	if equal(goA, goB) {
		return true
	}
	return len(c.byName) > 0 && holdsOpaque(a, 0) && holdsOpaque(b, 0) && c.sameAsStored(goA, goB)
}

// sameAsStored reports whether a and b are equal once they are stored and loaded.
func (c *Codec) sameAsStored(a, b any) bool {
	loadedA, errA := c.throughStorage(a)
	loadedB, errB := c.throughStorage(b)
	return errA == nil && errB == nil && equal(loadedA, loadedB)
}

func (c *Codec) throughStorage(v any) (any, error) {
	stored, err := c.Encode(v)
	if err != nil {
		return nil, err
	}
	return c.Decode(stored)
}

// equal is like reflect.DeepEqual for decoded values, except that floats are compared by their
// bits (or both are NaN), times by their instant and zone, and that functions and channels, which
// are not stored, are only compared for nil.
func equal(a, b any) bool {
	c := comparison{compared: map[comparedPair]bool{}}
	return c.equal(reflect.ValueOf(a), reflect.ValueOf(b), 0)
}

// maxCompared is how deep values are compared. Deeper ones count as different.
const maxCompared = 100_000

// comparedPair is two references. That they are compared already, or are being compared,
// ends the comparison of values that contain themselves.
type comparedPair struct {
	a, b uintptr
	len  int // of a slice
	t    reflect.Type
}

type comparison struct {
	compared map[comparedPair]bool
}

func (c *comparison) equal(a, b reflect.Value, depth int) bool {
	if !a.IsValid() || !b.IsValid() {
		return a.IsValid() == b.IsValid()
	}
	if a.Type() != b.Type() || depth > maxCompared {
		return false
	}
	switch a.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if a.IsNil() || b.IsNil() {
			return a.IsNil() == b.IsNil()
		}
		if a.Kind() == reflect.Slice && a.Type().Elem().Kind() == reflect.Uint8 {
			break // no references in it
		}
		pair := comparedPair{a: a.Pointer(), b: b.Pointer(), t: a.Type()}
		if a.Kind() == reflect.Slice {
			pair.len = a.Len()
		}
		if c.compared[pair] {
			return true
		}
		c.compared[pair] = true
	}
	return c.equalContents(a, b, depth)
}

func (c *comparison) equalContents(a, b reflect.Value, depth int) bool {
	switch a.Kind() {
	case reflect.Float32, reflect.Float64:
		return equalFloats(a.Float(), b.Float())
	case reflect.Complex64, reflect.Complex128:
		x, y := a.Complex(), b.Complex()
		return equalFloats(real(x), real(y)) && equalFloats(imag(x), imag(y))
	case reflect.Func, reflect.Chan:
		return a.IsNil() == b.IsNil()
	case reflect.Interface, reflect.Pointer:
		return c.equal(a.Elem(), b.Elem(), depth+1)
	case reflect.Slice, reflect.Array:
		if a.Len() != b.Len() {
			return false
		}
		for i := range a.Len() {
			if !c.equal(a.Index(i), b.Index(i), depth+1) {
				return false
			}
		}
		return true
	case reflect.Map:
		return c.equalMaps(a, b, depth)
	case reflect.Struct:
		if a.Type() == reflect.TypeFor[time.Time]() && a.CanInterface() {
			return equalTimes(a.Interface().(time.Time), b.Interface().(time.Time))
		}
		for i := range a.NumField() {
			if !c.equal(a.Field(i), b.Field(i), depth+1) {
				return false
			}
		}
		return true
	default:
		return a.Equal(b)
	}
}

func (c *comparison) equalMaps(a, b reflect.Value, depth int) bool {
	if a.Len() != b.Len() {
		return false
	}
	var oddA, oddB [][2]reflect.Value // entries whose key holds a NaN, which no lookup finds
	for it := a.MapRange(); it.Next(); {
		if !it.Key().Equal(it.Key()) {
			oddA = append(oddA, [2]reflect.Value{it.Key(), it.Value()})
			continue
		}
		if v := b.MapIndex(it.Key()); !v.IsValid() || !c.equal(it.Value(), v, depth+1) {
			return false
		}
	}
	if len(oddA) == 0 {
		return true
	}
	for it := b.MapRange(); it.Next(); {
		if !it.Key().Equal(it.Key()) {
			oddB = append(oddB, [2]reflect.Value{it.Key(), it.Value()})
		}
	}
	if len(oddA) != len(oddB) || len(oddA) > 100 { // the search below is quadratic
		return false
	}
	for _, x := range oddA {
		found := false
		for i, y := range oddB {
			// A failed attempt must leave no marks.
			attempt := comparison{compared: maps.Clone(c.compared)}
			if attempt.equal(x[0], y[0], depth+1) && attempt.equal(x[1], y[1], depth+1) {
				oddB[i] = oddB[len(oddB)-1]
				oddB, found = oddB[:len(oddB)-1], true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

func equalFloats(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || math.IsNaN(a) && math.IsNaN(b)
}

// equalTimes ignores the names of zones, which are not stored.
func equalTimes(a, b time.Time) bool {
	_, offsetA := a.Zone()
	_, offsetB := b.Zone()
	return a.Equal(b) && offsetA == offsetB && (a.Location() == time.UTC) == (b.Location() == time.UTC)
}
