package mongostore

import "go.mongodb.org/mongo-driver/v2/bson"

// The codec, for the fuzz targets. All other tests see it through the store.

var (
	EncodeKey = encodeKey
	DecodeKey = decodeKey
)

func EncodeValue(v any) (bson.RawValue, error) {
	data, kind, err := encodeValue(nil, v)
	return bson.RawValue{Type: kind, Value: data}, err
}

func DecodeValue(v bson.RawValue) (any, error) {
	return decodeValue(value{v.Type, v.Value})
}

func SameValue(a, b bson.RawValue) bool {
	return sameValue(value{a.Type, a.Value}, value{b.Type, b.Value})
}

func Elements(doc []byte, visit func(name string, v bson.RawValue) error) error {
	return elements(doc, func(name []byte, v value) error {
		return visit(string(name), bson.RawValue{Type: v.kind, Value: v.data})
	})
}
