package mongostore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Whether a value is still the one that was stored.

// holds reports that stored is the encoding of v. It looks at stored in place, for the
// values that make up most of a session; of others it says false.
func holds(stored value, v any) bool {
	switch v := v.(type) {
	case nil:
		return stored.kind == bson.TypeNull
	case bool:
		b, ok := stored.boolean()
		return ok && b == v
	case string:
		return stored.isText(v)
	case []byte:
		b, ok := stored.binary()
		return ok && v != nil && bytes.Equal(b, v)
	case int:
		return stored.kind == bson.TypeInt32 && int64(int32(binary.LittleEndian.Uint32(stored.data))) == int64(v)
	case int64:
		return stored.kind == bson.TypeInt64 && int64(binary.LittleEndian.Uint64(stored.data)) == v
	case float64:
		return stored.kind == bson.TypeDouble && binary.LittleEndian.Uint64(stored.data) == math.Float64bits(v)
	case time.Time:
		ms, ok := stored.millis()
		return ok && v.Location() == time.UTC && v.Equal(time.UnixMilli(ms))
	case bson.ObjectID:
		return stored.kind == bson.TypeObjectID && string(stored.data) == string(v[:])
	case []any:
		return v != nil && stored.kind == bson.TypeArray && holdsList(stored, v)
	case map[string]any:
		return v != nil && stored.kind == bson.TypeEmbeddedDocument && holdsMap(stored, v)
	default:
		return false
	}
}

func holdsList(stored value, list []any) bool {
	i := 0
	err := elements(stored.data, func(_ []byte, element value) error {
		if i == len(list) || !holds(element, list[i]) {
			return errDiffers
		}
		i++
		return nil
	})
	return err == nil && i == len(list)
}

func holdsMap(stored value, m map[string]any) bool {
	n := 0
	err := elements(stored.data, func(name []byte, element value) error {
		n++
		v, ok := m[string(name)]
		isKey := bytes.IndexByte(name, '%') < 0 && string(name) != tagType // and neither escaped nor a tag
		if !ok || !isKey || !holds(element, v) {
			return errDiffers
		}
		return nil
	})
	return err == nil && n == len(m)
}

// errDiffers ends a comparison.
var errDiffers = errors.New("differs")

// sameValue reports whether two encoded values stand for equal Go values. That is
// whether their bytes are equal, except for gob, which writes maps in any order
// and numbers types in the order in which a process first used them, and for maps
// whose fields somebody put into another order, as FerretDB does with _id.
func sameValue(a, b value) bool {
	if a.kind == b.kind && bytes.Equal(a.data, b.data) {
		return true
	}
	if a.kind != bson.TypeEmbeddedDocument || b.kind != bson.TypeEmbeddedDocument {
		return sameParts(a, b)
	}
	tagA, contentA, okA, errA := readTag(a)
	tagB, contentB, okB, errB := readTag(b)
	switch {
	case errA != nil || errB != nil || okA != okB || tagA != tagB:
		return false
	case okA && tagA == tagGob:
		return sameGob(contentA, contentB)
	case okA: // whose _value, a map, may look like a tag, but is none
		return sameParts(contentA, contentB)
	default:
		return sameParts(a, b)
	}
}

// sameParts is sameValue for what is no tagged value.
func sameParts(a, b value) bool {
	if a.kind != b.kind {
		return false
	}
	if bytes.Equal(a.data, b.data) {
		return true
	}
	if a.kind != bson.TypeArray && a.kind != bson.TypeEmbeddedDocument ||
		len(a.data) != len(b.data) && !bytes.Contains(b.data, []byte(tagGob)) {
		return false
	}
	parts := map[string]value{}
	if elements(a.data, func(name []byte, v value) error {
		parts[string(name)] = v
		return nil
	}) != nil {
		return false
	}
	err := elements(b.data, func(name []byte, v value) error {
		if part, ok := parts[string(name)]; !ok || !sameValue(part, v) {
			return errMalformed
		}
		delete(parts, string(name))
		return nil
	})
	return err == nil && len(parts) == 0
}

// sameGob compares what comes out of gob on both sides: unexported fields and the
// difference between nil and empty, which gob loses, are no change.
func sameGob(a, b value) bool {
	bytesA, okA := a.binary()
	bytesB, okB := b.binary()
	if !okA || !okB {
		return false
	}
	goA, errA := gobDecode(bytesA)
	goB, errB := gobDecode(bytesB)
	return errA == nil && errB == nil && reflect.DeepEqual(goA, goB)
}
