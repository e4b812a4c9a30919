package safegob_test

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"runtime"
	"slices"
	"testing"

	"github.com/mongostore/mongostore/internal/safegob"
)

// lyingGob returns the gob of a value of one defined type with other contents.
func lyingGob(t testing.TB, like any, contents ...byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := gob.NewEncoder(&buf).Encode(&like); err != nil {
		t.Fatal(err)
	}
	encoded := buf.Bytes()
	// After the definitions comes the message with the value, which begins with its type's
	// number: two bytes, see registerTypes.
	var definitions, id []byte
	for rest := encoded; len(rest) > 0; {
		size, prefix := int(rest[0]), 1
		if size >= 0x80 {
			size, prefix = int(rest[1]), 2
		}
		definitions, id = encoded[:len(encoded)-len(rest)], rest[prefix:prefix+2]
		rest = rest[prefix+size:]
	}
	message := slices.Concat(id, gobUint(len(contents)), contents)
	return slices.Concat(definitions, gobUint(len(message)), message)
}

// gobUint returns an unsigned integer as gob encodes it.
func gobUint(n int) []byte {
	if n < 0x80 {
		return []byte{byte(n)}
	}
	b := bytes.TrimLeft(binary.BigEndian.AppendUint64(nil, uint64(n)), "\x00")
	return append([]byte{byte(-len(b))}, b...)
}

// gobInt returns a signed integer as gob encodes it.
func gobInt(n int) []byte {
	if n < 0 {
		return gobUint(^n<<1 | 1)
	}
	return gobUint(n << 1)
}

// laboriousGob defines a struct of fields that are all lists in lists in lists. The decoder
// prepares for each field again, though its struct has no such field.
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
	const name = "github.com/mongostore/mongostore/internal/safegob_test.keyPair"
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

// lyingGobs returns gobs that cost encoding/gob gigabytes, or the process.
func lyingGobs(t testing.TB) map[string][]byte {
	t.Helper()
	huge := gobUint(1 << 34)
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }

	id := lyingGob(t, chain{}) // ends with it and a length of 0
	id = id[len(id)-3 : len(id)-1]
	if id[0] != 0xff {
		t.Fatalf("no number of a type: % x", id)
	}

	// A list in a list in a list: each claims to have a million elements.
	chainOf := func(levels int, count []byte) []byte {
		contents := join([]byte{0}, count)
		for range levels {
			contents = append(contents, "\x05chain"...)
			contents = append(contents, id...)
			contents = append(contents, 0x7f, 0) // the decoder passes over the length
			contents = append(contents, count...)
		}
		return lyingGob(t, chain{}, append(contents, 0)...)
	}
	return map[string][]byte{
		"definitions that make work":          laboriousGob(3000, 3000),
		"map of 16 billion entries":           lyingGob(t, map[int]string{}, join([]byte{0}, huge)...),
		"map of a billion entries in a map":   lyingGob(t, map[string]card{}, join([]byte{0, 1, 1, 'a', 3}, gobUint(1<<30), []byte{0})...),
		"list of 16 billion elements":         lyingGob(t, chain{}, join([]byte{0}, huge)...),
		"list of a million elements":          lyingGob(t, []card{}, join([]byte{0}, gobUint(1<<20), make([]byte, 10))...),
		"string of 16 billion bytes":          lyingGob(t, [2]string{}, join([]byte{0, 2}, huge)...),
		"field far behind the last":           lyingGob(t, card{}, join(huge, []byte{1, 0})...),
		"a thousand lists, a million in each": chainOf(1000, gobUint(1<<20)),
		"a million lists in each other":       chainOf(1_000_000, []byte{1}),
		"length of another value":             lyingGob(t, chain{}, join([]byte{0, 1}, []byte("\x05chain"), id, []byte{1, 0, 0})...),
	}
}

// TestLyingGobs: fifty bytes must not cost the process its memory, nor a deeply nested value its
// stack.
func TestLyingGobs(t *testing.T) {
	for row, lie := range lyingGobs(t) {
		t.Run(row, func(t *testing.T) {
			used := allocated(func() {
				if v, err := safegob.Decode(lie); err == nil {
					t.Errorf("read as %T", v)
				}
			})
			if limit := uint64(10*len(lie) + 16<<10); used > limit {
				t.Errorf("%d bytes took %d bytes to refuse", len(lie), used)
			}
		})
	}
}

// allocated returns how many bytes a function allocates. Its callers do not run in parallel
// with other tests.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// FuzzDecode: whatever the bytes are, decoding them does not panic and allocates little more than
// their size, and what is decoded can be encoded.
func FuzzDecode(f *testing.F) {
	for _, v := range values() {
		encoded, err := safegob.Encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	for _, lie := range lyingGobs(f) {
		if len(lie) < 1<<10 {
			f.Add(lie)
		}
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		var v any
		var err error
		used := allocated(func() { v, err = safegob.Decode(encoded) })
		// A decoder of gob allocates about 8 KiB before it has decoded anything, and half as much
		// for each type. An element has at least one byte; an empty card has 136 bytes in memory.
		if limit := uint64(224*len(encoded) + 48<<10); used > limit {
			t.Errorf("%d bytes took %d bytes of memory", len(encoded), used)
		}
		if err != nil {
			return
		}
		if _, err := safegob.Encode(v); err != nil {
			t.Errorf("%#v was decoded, and cannot be encoded: %v", v, err)
		}
	})
}
