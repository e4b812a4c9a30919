package samples

import (
	"math"
	"math/big"
	"reflect"
	"time"
)

// Same reports whether two values have the same type and are equal: floats bit by bit, times by
// instant and offset. Nil and empty are not equal. A value that contains itself is not, unless it is
// a [Ring].
func Same(a, b any) bool {
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
		case *Ring:
			y := b.Interface().(*Ring)
			return x.Value == y.Value && x.Next == x && y.Next == y
		case *big.Int:
			return x.Cmp(b.Interface().(*big.Int)) == 0
		}
	}
	next := func(a, b reflect.Value) bool { return sameReflected(a, b, depth+1) }
	switch a.Kind() {
	case reflect.Float32, reflect.Float64:
		return math.Float64bits(a.Float()) == math.Float64bits(b.Float())
	case reflect.Complex64, reflect.Complex128:
		x, y := a.Complex(), b.Complex()
		return Same(real(x), real(y)) && Same(imag(x), imag(y))
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
