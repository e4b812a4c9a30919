package safegob

import (
	"errors"
	"reflect"
	"slices"
)

// maxDepth is how deep a value may be nested. A deeper one contains itself, and an encoder
// would follow it until the stack overflows.
const maxDepth = 10_000

var errTooDeep = errors.New("nested too deeply, or a value that contains itself")

// CheckDepth returns an error if an encoder that follows fields, elements, pointers and
// interfaces could follow v without an end. The encoder follows no type for which opaque
// returns true, and no field for which omitted does.
func CheckDepth(v any, opaque func(reflect.Type) bool, omitted func(reflect.StructField) bool) error {
	w := depthWalk{opaque: opaque, omitted: omitted, recurs: map[reflect.Type]bool{}}
	return w.check(reflect.ValueOf(v), 0)
}

type depthWalk struct {
	opaque  func(reflect.Type) bool
	omitted func(reflect.StructField) bool
	recurs  map[reflect.Type]bool // results of mayRecur
}

func (w *depthWalk) check(v reflect.Value, depth int) error {
	if !v.IsValid() || !w.worthAWalk(v.Type()) {
		return nil
	}
	if depth > maxDepth {
		return errTooDeep
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return w.check(v.Elem(), depth+1)
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if err := w.check(v.Index(i), depth+1); err != nil {
				return err
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if err := w.check(it.Key(), depth+1); err != nil {
				return err
			}
			if err := w.check(it.Value(), depth+1); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if w.omitted(v.Type().Field(i)) {
				continue
			}
			if err := w.check(v.Field(i), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *depthWalk) worthAWalk(t reflect.Type) bool {
	recurs, known := w.recurs[t]
	if !known {
		recurs = w.mayRecur(t, nil)
		w.recurs[t] = recurs
	}
	return recurs
}

// mayRecur reports whether an encoder can come from a value of type t back to the same value.
func (w *depthWalk) mayRecur(t reflect.Type, within []reflect.Type) bool {
	if slices.Contains(within, t) {
		return true
	}
	if w.opaque(t) {
		return false
	}
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return w.mayRecur(t.Elem(), append(within, t))
	case reflect.Map:
		return w.mayRecur(t.Key(), append(within, t)) || w.mayRecur(t.Elem(), append(within, t))
	case reflect.Struct:
		for i := range t.NumField() {
			field := t.Field(i)
			if !w.omitted(field) && w.mayRecur(field.Type, append(within, t)) {
				return true
			}
		}
	}
	return false
}
