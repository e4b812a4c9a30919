// Package safegob is encoding/gob for input that may be damaged or hostile, and for values
// that may contain themselves.
//
// encoding/gob trusts the counts in its input: fifty bytes make it reserve gigabytes, and deep
// nesting overflows the stack, which no recover catches. So a scanner reads ahead of it.
package safegob

import (
	"bytes"
	"encoding"
	"encoding/gob"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Encode returns the gob of v with the name of v's type, as gob encodes an interface: pointers
// are flattened, and the type must be registered.
//
// No error text of this package contains a part of a value.
func Encode(v any) (encoded []byte, err error) {
	if err := CheckDepth(v, encodesItself, omitted); err != nil {
		return nil, err
	}
	defer recoverAs(&err, "the encoding")
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(&v); err != nil {
		return nil, encodeError(v, err)
	}
	if _, err := scan(buf.Bytes()); err != nil { // it could not be read back
		return nil, err
	}
	return buf.Bytes(), nil
}

// Decode returns the value that [Encode] encoded.
func Decode(encoded []byte) (v any, err error) {
	name, err := scan(encoded)
	if err != nil {
		return nil, err
	}
	defer recoverAs(&err, "the decoding")
	if err := gob.NewDecoder(bytes.NewReader(encoded)).Decode(&v); err != nil {
		return nil, decodeError(name, err)
	}
	return v, nil
}

// recoverAs turns a panic of an application's GobEncode or GobDecode into an error. The panic's
// own text may contain a value.
func recoverAs(err *error, doing string) {
	if recover() == nil {
		return
	}
	*err = fmt.Errorf("gob: %s of a type panicked", doing)
}

const gobPrefix = "gob: " // of encoding/gob's errors

// encodeError replaces an error of gob's encoder, which may be one of an application's method
// and quote a value, by one that names types alone.
func encodeError(v any, err error) error {
	for _, known := range []struct{ prefix, text string }{
		{gobPrefix + "type not registered for interface: ", "not registered with gob: "},
		{gobPrefix + gobPrefix + "cannot encode nil pointer of type ", "nil pointer inside an interface: "},
		{"gob NewTypeObject can't handle type: ", "gob cannot encode the type "},
		{gobPrefix + "type ", gobPrefix + "type "}, // X has no exported fields
	} {
		if name, ok := strings.CutPrefix(err.Error(), known.prefix); ok {
			if known.prefix == known.text && !strings.HasSuffix(name, " has no exported fields") {
				continue
			}
			return errors.New(known.text + name)
		}
	}
	return fmt.Errorf("gob: type %T cannot be encoded", v)
}

// decodeError is encodeError for gob's decoder. The name is that of the outermost type.
func decodeError(name string, err error) error {
	if quoted, ok := strings.CutPrefix(err.Error(), "gob: name not registered for interface: "); ok {
		name, _ = strconv.Unquote(quoted)
		return errors.New(described(name) + " is not registered with gob")
	}
	return errors.New("gob: " + described(name) + " cannot be decoded")
}

// described returns "type X", or "a type" for a name that damage may have put there.
func described(name string) string {
	odd := func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("_./-*[],", r)
	}
	if name == "" || len(name) > 200 || strings.ContainsFunc(name, odd) {
		return "a type"
	}
	return "type " + name
}

// encodesItself reports whether gob leaves the encoding of type t to its methods.
func encodesItself(t reflect.Type) bool {
	for _, method := range []reflect.Type{reflect.TypeFor[gob.GobEncoder](), reflect.TypeFor[encoding.BinaryMarshaler]()} {
		if t.Implements(method) || reflect.PointerTo(t).Implements(method) {
			return true
		}
	}
	return false
}

// omitted reports whether gob leaves out a field.
func omitted(field reflect.StructField) bool { return !field.IsExported() }
