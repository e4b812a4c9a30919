package seal_test

import (
	"bytes"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore/internal/bsonval"
	"github.com/mongostore/mongostore/internal/seal"
)

var (
	older = bytes.Repeat([]byte{1}, 32)
	newer = bytes.Repeat([]byte{2}, 32)
)

func sealer(t testing.TB, secrets ...[]byte) *seal.Sealer {
	t.Helper()
	s, err := seal.New(secrets)
	if err != nil {
		t.Fatal(err)
	}
	return &s
}

// content returns the binary of a sealed value.
func content(t testing.TB, v bsonval.Value) []byte {
	t.Helper()
	tag, inner, ok, err := bsonval.Tag(v)
	if err != nil || !ok || tag != "sealed" {
		t.Fatalf("tag %q, %t, %v", tag, ok, err)
	}
	b, ok := inner.Binary()
	if !ok {
		t.Fatal("a sealed value without a binary")
	}
	return b
}

// withContent returns a sealed value with another binary.
func withContent(b []byte) bsonval.Value {
	d := bsonval.NewBuilder(len(b) + 64)
	d.String(bsonval.TagType, "sealed")
	d.Value(bsonval.TagValue, bsonval.Binary(b))
	return bsonval.Value{Kind: bson.TypeEmbeddedDocument, Data: d.Document()}
}

func TestSealedValuesComeBackUnderEverySecret(t *testing.T) {
	t.Parallel()
	for _, v := range []bsonval.Value{
		bsonval.String("TOP SECRET"), bsonval.String(""), bsonval.Int(1 << 40), bsonval.Binary([]byte{0, 1}),
		bsonval.List([]bsonval.Value{bsonval.String("a"), bsonval.Int(2)}),
	} {
		sealed := sealer(t, older).Seal("hash", "name", v)
		if bytes.Contains(sealed.Data, []byte("SECRET")) {
			t.Error("the sealed value is readable")
		}
		for _, s := range []*seal.Sealer{sealer(t, older), sealer(t, newer, older), sealer(t, older, newer)} {
			if got, err := s.Open("hash", "name", sealed); err != nil || !got.Equal(v) {
				t.Errorf("got %v, %v", got, err)
			}
		}
		if bytes.Equal(content(t, sealed), content(t, sealer(t, older).Seal("hash", "name", v))) {
			t.Error("two ciphertexts of one value are the same")
		}
	}
}

func TestUnsealedValuesPassUnchanged(t *testing.T) {
	t.Parallel()
	v := bsonval.String("plain")
	if got := new(seal.Sealer).Seal("hash", "name", v); !got.Equal(v) {
		t.Error("a sealer without secrets has changed a value")
	}
	for _, v := range []bsonval.Value{v, bsonval.Int(1)} {
		if got, err := sealer(t, older).Open("hash", "name", v); err != nil || !got.Equal(v) {
			t.Errorf("got %v, %v", got, err)
		}
	}
}

func TestSealedValuesCannotBeMovedOrAltered(t *testing.T) {
	t.Parallel()
	s := sealer(t, older)
	sealed := s.Seal("hash", "name", bsonval.String("value"))
	refused := func(what, hash, name string, v bsonval.Value) {
		t.Helper()
		if got, err := s.Open(hash, name, v); err == nil {
			t.Errorf("%s: opened as %v", what, got)
		}
	}
	refused("in another document", "other", "name", sealed)
	refused("under another name", "hash", "other", sealed)
	b := content(t, sealed)
	for bit := range len(b) * 8 {
		altered := bytes.Clone(b)
		altered[bit/8] ^= 1 << (bit % 8)
		refused("altered", "hash", "name", withContent(altered))
	}
	for n := range b {
		refused("truncated", "hash", "name", withContent(b[:n]))
	}
	if _, err := sealer(t, newer).Open("hash", "name", sealed); err == nil || !strings.Contains(err.Error(), "not in Config.SealKeys") {
		t.Errorf("under another secret: %v", err)
	}
}

func TestBadSecretsAreRefused(t *testing.T) {
	t.Parallel()
	for want, secrets := range map[string][][]byte{
		"seal key 0 has 31 bytes, not 32": {older[1:]},
		"seal key 1 has 0 bytes, not 32":  {older, nil},
		"seal keys 0 and 2 are the same":  {older, newer, bytes.Clone(older)},
		"seal key 0 has 33 bytes, not 32": {append(bytes.Clone(older), 1)},
	} {
		if _, err := seal.New(secrets); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func FuzzOpen(f *testing.F) {
	f.Add([]byte{})
	f.Add(content(f, sealer(f, older).Seal("hash", "name", bsonval.Int(1))))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The only content that opens is one that was sealed, so with a random nonce.
		if v, err := sealer(t, older).Open("hash", "name", withContent(b)); err == nil && !v.Equal(bsonval.Int(1)) {
			t.Errorf("%x opens as %v", b, v)
		}
	})
}
