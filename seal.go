package mongostore

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Sealing: with [Config.SealKeys] each value of a session is stored as
// {_type: "sealed", _value: <binary>}. The binary is the ID of the key, a random nonce,
// and the AES-256-GCM ciphertext of the value's BSON type and bytes. The additional data
// binds it to its document and its key in Values, so that it cannot be moved.

const (
	tagSealed = "sealed"

	sealKeyBytes   = 32 // AES-256
	sealKeyIDBytes = 4
)

// sealer seals values with its first key and opens them with any. The zero value
// seals nothing.
type sealer struct {
	keys []sealKey
}

type sealKey struct {
	id   [sealKeyIDBytes]byte
	aead cipher.AEAD
}

func newSealer(keys [][]byte) (sealer, error) {
	var s sealer
	for i, key := range keys {
		if len(key) != sealKeyBytes {
			return sealer{}, fmt.Errorf("seal key %d has %d bytes, not %d", i, len(key), sealKeyBytes)
		}
		for j := range i {
			if subtle.ConstantTimeCompare(key, keys[j]) == 1 {
				return sealer{}, fmt.Errorf("seal keys %d and %d are the same", j, i)
			}
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return sealer{}, err
		}
		// With random nonces of 96 bits, NIST SP 800-38D, section 8.3, allows
		// 2^32 values per key.
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return sealer{}, err
		}
		sum := sha256.Sum256(append([]byte("mongostore seal key\x00"), key...))
		k := sealKey{aead: aead}
		copy(k.id[:], sum[:])
		for j := range s.keys {
			if s.keys[j].id == k.id {
				return sealer{}, fmt.Errorf("seal keys %d and %d have the same ID; replace one", j, i)
			}
		}
		s.keys = append(s.keys, k)
	}
	return s, nil
}

// seal gives what is to be stored of a field in the document with the given _id.
func (s *sealer) seal(key string, f field) value {
	if len(s.keys) == 0 {
		return f.value
	}
	k := &s.keys[0]
	plain := append([]byte{byte(f.value.kind)}, f.value.data...)
	doc, start := openDocument(make([]byte, 0, len(plain)+96))
	doc = appendStringElement(doc, tagType, tagSealed)
	doc = appendHeader(doc, bson.TypeBinary, tagValue)
	doc = appendInt32(doc, int32(sealKeyIDBytes+len(plain)+k.aead.Overhead()))
	doc = append(doc, bson.TypeBinaryGeneric)
	doc = append(doc, k.id[:]...)
	doc = k.aead.Seal(doc, nil, plain, sealedFor(key, f.name)) //nolint:gosec // this AEAD makes the nonce
	return value{bson.TypeEmbeddedDocument, closeDocument(doc, start)}
}

// open is the inverse of seal. What is not sealed, from before there were keys,
// comes back as it is.
func (s *sealer) open(key string, f field) (value, error) {
	if f.value.kind != bson.TypeEmbeddedDocument {
		return f.value, nil
	}
	tag, content, ok, err := readTag(f.value)
	if err != nil || !ok || tag != tagSealed {
		return f.value, nil //nolint:nilerr // it is for decodeValue to find fault with it
	}
	sealed, ok := content.binary()
	if !ok || len(sealed) < sealKeyIDBytes {
		return value{}, badTag(tagSealed)
	}
	for i := range s.keys {
		k := &s.keys[i]
		if string(k.id[:]) != string(sealed[:sealKeyIDBytes]) {
			continue
		}
		plain, err := k.aead.Open(nil, nil, sealed[sealKeyIDBytes:], sealedFor(key, f.name))
		if err != nil {
			return value{}, errors.New("sealed value was altered, or moved from elsewhere")
		}
		return openedValue(plain)
	}
	return value{}, errors.New("sealed with a key that is not configured")
}

// openedValue reads a type and a value of that type.
func openedValue(plain []byte) (value, error) {
	if len(plain) == 0 {
		return value{}, errMalformed
	}
	v := value{bson.Type(plain[0]), plain[1:]}
	if size, ok := sizeOf(v.kind, v.data); !ok || size != len(v.data) {
		return value{}, errMalformed
	}
	return v, nil
}

// sealedFor is the additional data. A key in Values has no NUL in its name.
func sealedFor(key, name string) []byte {
	return []byte(key + "\x00" + name)
}
