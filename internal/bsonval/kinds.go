package bsonval

import (
	"math"
	"reflect"
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// kind is a Go type that is stored with a tag, always or where BSON would lose something.
type kind struct {
	tag    string // a constant of the format
	goType reflect.Type

	// append appends the content of v. It returns the type 0 to leave v to gob.
	append func(w walker, dst []byte, v any, depth int) ([]byte, bson.Type, error)
	// decode returns the value with the given content.
	decode func(w walker, content Value, depth int) (any, error)
}

// kinds are all types that this package knows and does not always store bare.
var kinds = []kind{
	{"string", reflect.TypeFor[string](), appendInvalidString, decodeInvalidString},
	{"[]byte", reflect.TypeFor[[]byte](), appendNilBytes, decodeNilBytes},

	signed[int]("int"),
	signed[int8]("int8"),
	signed[int16]("int16"),
	signed[int32]("int32"),
	signed[time.Duration]("time.Duration"),
	unsigned[uint]("uint"),
	unsigned[uint8]("uint8"),
	unsigned[uint16]("uint16"),
	unsigned[uint32]("uint32"),
	unsigned[uint64]("uint64"),

	{"float64", reflect.TypeFor[float64](), appendFloat64, decodeFloat[float64]},
	{"float32", reflect.TypeFor[float32](), appendFloat32, decodeFloat[float32]},
	{"time.Time", reflect.TypeFor[time.Time](), appendTime, decodeTime},

	list[any]("[]any"),
	list[string]("[]string"),
	list[bool]("[]bool"),
	list[int]("[]int"),
	list[int64]("[]int64"),
	list[float64]("[]float64"),
	list[time.Time]("[]time.Time"),
	list[map[string]any]("[]map[string]any"),
	dict[any]("map[string]any"),
	dict[string]("map[string]string"),
	dict[bool]("map[string]bool"),
	dict[int]("map[string]int"),
	dict[int64]("map[string]int64"),
	dict[float64]("map[string]float64"),
	dict[[]string]("map[string][]string"),
}

var kindsByTag, kindsByType = indexKinds(kinds)

func indexKinds(kinds []kind) (byTag map[string]*kind, byType map[reflect.Type]*kind) {
	byTag, byType = map[string]*kind{}, map[reflect.Type]*kind{}
	for i := range kinds {
		byTag[kinds[i].tag], byType[kinds[i].goType] = &kinds[i], &kinds[i]
	}
	return byTag, byType
}

// isNative reports whether this package stores values of type t without gob or a registered type.
func isNative(t reflect.Type) bool {
	_, scalar := appendScalar(nil, reflect.Zero(t).Interface())
	return scalar != 0 || kindsByType[t] != nil
}

func appendInvalidString(_ walker, dst []byte, v any, _ int) ([]byte, bson.Type, error) {
	return appendBinary(dst, []byte(v.(string))), bson.TypeBinary, nil
}

func decodeInvalidString(_ walker, content Value, _ int) (any, error) {
	b, ok := content.Binary()
	if !ok {
		return nil, badTag("string")
	}
	return string(b), nil
}

func appendNilBytes(_ walker, dst []byte, _ any, _ int) ([]byte, bson.Type, error) {
	return dst, bson.TypeNull, nil
}

func decodeNilBytes(_ walker, content Value, _ int) (any, error) {
	if content.Kind != bson.TypeNull {
		return nil, badTag("[]byte")
	}
	return []byte(nil), nil
}

func signed[T int | int8 | int16 | int32 | time.Duration](tag string) kind {
	return kind{
		tag: tag, goType: reflect.TypeFor[T](),
		append: func(_ walker, dst []byte, v any, _ int) ([]byte, bson.Type, error) {
			dst, kind := appendInt(dst, int64(v.(T)))
			return dst, kind, nil
		},
		decode: func(_ walker, content Value, _ int) (any, error) {
			i, ok := content.Integer()
			if !ok || int64(T(i)) != i {
				return nil, badTag(tag)
			}
			return T(i), nil
		},
	}
}

// unsigned integers beyond an int64 are stored as text.
func unsigned[T uint | uint8 | uint16 | uint32 | uint64](tag string) kind {
	return kind{
		tag: tag, goType: reflect.TypeFor[T](),
		append: func(_ walker, dst []byte, v any, _ int) ([]byte, bson.Type, error) {
			u := uint64(v.(T))
			if u > math.MaxInt64 {
				return appendString(dst, strconv.FormatUint(u, 10)), bson.TypeString, nil
			}
			dst, kind := appendInt(dst, int64(u))
			return dst, kind, nil
		},
		decode: func(_ walker, content Value, _ int) (any, error) {
			i, ok := content.Integer()
			ok = ok && i >= 0
			u := uint64(i)
			if s, isText := content.Text(); isText {
				var err error
				u, err = strconv.ParseUint(s, 10, 64)
				ok = err == nil
			}
			if !ok || uint64(T(u)) != u {
				return nil, badTag(tag)
			}
			return T(u), nil
		},
	}
}

func appendFloat64(_ walker, dst []byte, v any, _ int) ([]byte, bson.Type, error) {
	return appendFloat(dst, v.(float64))
}

func appendFloat32(_ walker, dst []byte, v any, _ int) ([]byte, bson.Type, error) {
	f := v.(float32)
	if math.Float32bits(f) == math.Float32bits(float32(math.NaN())) {
		return appendFloat(dst, math.NaN()) // its bits are not those of a widened float32
	}
	return appendFloat(dst, float64(f))
}

// appendFloat appends special floats as text, as FormatFloat writes them, and leaves a NaN of
// unusual bits to gob.
func appendFloat(dst []byte, f float64) ([]byte, bson.Type, error) {
	switch {
	case !special(f):
		return appendDouble(dst, f), bson.TypeDouble, nil
	case math.IsNaN(f) && math.Float64bits(f) != math.Float64bits(math.NaN()):
		return dst, 0, nil
	default:
		return appendString(dst, strconv.FormatFloat(f, 'g', -1, 64)), bson.TypeString, nil
	}
}

func decodeFloat[T float32 | float64](_ walker, content Value, _ int) (any, error) {
	var f float64
	switch s, isText := content.Text(); {
	case content.Kind == bson.TypeDouble:
		f = content.double()
	case isText:
		var err error
		if f, err = strconv.ParseFloat(s, 64); err != nil {
			return nil, badTag("float")
		}
	default:
		return nil, badTag("float")
	}
	if float64(T(f)) != f && !math.IsNaN(f) {
		return nil, badTag("float")
	}
	return T(f), nil
}

// list is the kind of a slice, dict that of a map. Nil is stored as null.

func list[T any](tag string) kind {
	return kind{
		tag: tag, goType: reflect.TypeFor[[]T](),
		append: func(w walker, dst []byte, v any, depth int) ([]byte, bson.Type, error) {
			if v.([]T) == nil {
				return dst, bson.TypeNull, nil
			}
			return appendList(w, dst, v.([]T), depth+1)
		},
		decode: func(w walker, content Value, depth int) (any, error) {
			switch content.Kind {
			case bson.TypeNull:
				return []T(nil), nil
			case bson.TypeArray:
				return decodeList[T](w, content, depth+1)
			default:
				return nil, badTag(tag)
			}
		},
	}
}

func dict[T any](tag string) kind {
	return kind{
		tag: tag, goType: reflect.TypeFor[map[string]T](),
		append: func(w walker, dst []byte, v any, depth int) ([]byte, bson.Type, error) {
			if v.(map[string]T) == nil {
				return dst, bson.TypeNull, nil
			}
			return appendMap(w, dst, v.(map[string]T), depth+1)
		},
		decode: func(w walker, content Value, depth int) (any, error) {
			switch content.Kind {
			case bson.TypeNull:
				return map[string]T(nil), nil
			case bson.TypeEmbeddedDocument:
				return decodeMap[T](w, content, depth+1)
			default:
				return nil, badTag(tag)
			}
		},
	}
}
