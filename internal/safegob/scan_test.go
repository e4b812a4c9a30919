package safegob_test

import (
	"testing"

	"github.com/mongostore/mongostore/internal/safegob"
	"github.com/mongostore/mongostore/internal/samples"
)

// TestLyingGobs: fifty bytes must not cost the process its memory, nor a deeply nested value its
// stack.
func TestLyingGobs(t *testing.T) {
	for row, lie := range samples.LyingGobs(t) {
		t.Run(row, func(t *testing.T) {
			used := samples.Allocated(func() {
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
	for _, lie := range samples.LyingGobs(f) {
		if len(lie) < 1<<10 {
			f.Add(lie)
		}
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		var v any
		var err error
		used := samples.Allocated(func() { v, err = safegob.Decode(encoded) })
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
