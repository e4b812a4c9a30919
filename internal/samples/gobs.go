package samples

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"runtime"
	"slices"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// GobValue returns the value that a gob is stored as.
func GobValue(t testing.TB, encoded []byte) bson.RawValue {
	t.Helper()
	kind, data, err := bson.MarshalValue(bson.D{{Key: "_type", Value: "gob"}, {Key: "_value", Value: encoded}})
	if err != nil {
		t.Fatal(err)
	}
	return bson.RawValue{Type: kind, Value: data}
}

// lyingGob returns the gob of a value of a defined type with other contents.
func lyingGob(t testing.TB, like any, contents ...byte) []byte {
	t.Helper()
	definitions, id := gobParts(t, like)
	message := slices.Concat(id, gobUint(len(contents)), contents)
	return slices.Concat(definitions, gobUint(len(message)), message)
}

// gobParts returns the definitions with which the gob of a value begins, and the number of its
// type.
func gobParts(t testing.TB, value any) (definitions, id []byte) {
	t.Helper()
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(&value); err != nil {
		t.Fatal(err)
	}
	encoded := buf.Bytes()
	// Each message begins with its size. The last is the value, and begins with its type.
	for rest := encoded; len(rest) > 0; {
		size := 0
		prefix := gobLen(rest)
		if prefix == 1 {
			size = int(rest[0])
		}
		for _, b := range rest[1:prefix] {
			size = size<<8 | int(b)
		}
		message := rest[prefix : prefix+size]
		definitions, id = encoded[:len(encoded)-len(rest)], message[:gobLen(message)]
		rest = rest[prefix+size:]
	}
	return definitions, id
}

// gobLen returns the length of the integer that data begins with.
func gobLen(data []byte) int {
	if data[0] < 0x80 {
		return 1
	}
	return 1 + int(-data[0])
}

// gobUint encodes an unsigned integer.
func gobUint(n int) []byte {
	if n < 0x80 {
		return []byte{byte(n)}
	}
	b := bytes.TrimLeft(binary.BigEndian.AppendUint64(nil, uint64(n)), "\x00")
	return append([]byte{byte(-len(b))}, b...)
}

// gobInt encodes a signed integer.
func gobInt(n int) []byte {
	if n < 0 {
		return gobUint(^n<<1 | 1)
	}
	return gobUint(n << 1)
}

// laboriousGob returns a gob of a struct whose fields are all lists in lists in lists. The
// decoder compiles an engine for each of them, although the target has no such field.
func laboriousGob(fields, levels int) []byte {
	const id = 100
	common := func(id int) []byte { return slices.Concat([]byte{1, 2}, gobInt(id), []byte{0, 1}) }
	message := func(parts ...[]byte) []byte {
		content := slices.Concat(parts...)
		return append(gobUint(len(content)), content...)
	}
	var list []byte
	for range fields {
		list = slices.Concat(list, []byte{1, 1, 'X', 1}, gobInt(id+1), []byte{0})
	}
	const name = "github.com/mongostore/mongostore/internal/samples.KeyPair"
	stream := message([]byte{0x10, 0}, gobUint(len(name)), []byte(name), gobInt(-id), []byte{3}, common(id), gobUint(fields), list, []byte{0, 0})
	for i := range levels {
		element := id + 2 + i
		if i == levels-1 {
			element = 2
		}
		stream = append(stream, message(gobInt(-id-1-i), []byte{2}, common(id+1+i), gobInt(element), []byte{0, 0})...)
	}
	return append(stream, message(gobInt(id), []byte{1, 0})...)
}

// LyingGobs returns gobs with false counts. Decoding one with encoding/gob allocates gigabytes of
// memory, or crashes the process.
func LyingGobs(t testing.TB) map[string][]byte {
	t.Helper()
	huge := gobUint(1 << 34)
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }

	_, id := gobParts(t, Chain{})

	// A list in a list in a list: each claims to have a million elements.
	chainOf := func(levels int, count []byte) []byte {
		contents := join([]byte{0}, count)
		for range levels {
			contents = append(contents, "\x05chain"...)
			contents = append(contents, id...)
			contents = append(contents, 0x7f, 0) // the decoder skips the length
			contents = append(contents, count...)
		}
		return lyingGob(t, Chain{}, append(contents, 0)...)
	}
	return map[string][]byte{
		"definitions that make work":          laboriousGob(3000, 3000),
		"map of 16 billion entries":           lyingGob(t, map[int]string{}, join([]byte{0}, huge)...),
		"map of a billion entries in a map":   lyingGob(t, map[string]Card{}, join([]byte{0, 1, 1, 'a', 3}, gobUint(1<<30), []byte{0})...),
		"list of 16 billion elements":         lyingGob(t, Chain{}, join([]byte{0}, huge)...),
		"list of a million elements":          lyingGob(t, []Card{}, join([]byte{0}, gobUint(1<<20), make([]byte, 10))...),
		"string of 16 billion bytes":          lyingGob(t, [2]string{}, join([]byte{0, 2}, huge)...),
		"field behind the last":               lyingGob(t, Card{}, 9, 1, 0),
		"field far behind the last":           lyingGob(t, Card{}, join(huge, []byte{1, 0})...),
		"a thousand lists, a million in each": chainOf(1000, gobUint(1<<20)),
		"a million lists in each other":       chainOf(1_000_000, []byte{1}),
		"length of another value":             lyingGob(t, Chain{}, join([]byte{0, 1}, []byte("\x05chain"), id, []byte{1, 0, 0})...),
	}
}

// Allocated returns how many bytes a function allocates. Its callers do not run in parallel
// with other tests.
func Allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}
