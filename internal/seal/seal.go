// Package seal encrypts BSON values. A sealed value is {_type: "sealed", _value: <binary>}. The
// binary is the ID of the secret, a random nonce, and the AES-256-GCM ciphertext of the value's
// BSON type and bytes. The additional data is the document's hash and the value's name, so a sealed
// value cannot be moved to another document or name.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore/internal/bsonval"
)

const (
	tag         = "sealed"
	secretBytes = 32 // AES-256
	idBytes     = 4
)

// Sealer encrypts values with its first secret and decrypts them with any. The zero value does
// not encrypt. It is safe for concurrent use.
type Sealer struct {
	secrets []secret
}

type secret struct {
	id   [idBytes]byte
	aead cipher.AEAD
}

// New returns a sealer for the secrets, which it does not keep. It fails on a secret that does
// not have 32 bytes, and on two that are the same.
func New(secrets [][]byte) (Sealer, error) {
	var s Sealer
	for i, key := range secrets {
		if len(key) != secretBytes {
			return Sealer{}, fmt.Errorf("seal key %d has %d bytes, not %d", i, len(key), secretBytes)
		}
		for j := range i {
			if subtle.ConstantTimeCompare(key, secrets[j]) == 1 {
				return Sealer{}, fmt.Errorf("seal keys %d and %d are the same", j, i)
			}
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return Sealer{}, err
		}
		// With random nonces of 96 bits, NIST SP 800-38D, section 8.3, allows
		// 2^32 values per key.
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return Sealer{}, err
		}
		sum := sha256.Sum256(append([]byte("mongostore seal key\x00"), key...))
		k := secret{aead: aead}
		copy(k.id[:], sum[:])
		for j := range s.secrets {
			if s.secrets[j].id == k.id {
				return Sealer{}, fmt.Errorf("seal keys %d and %d have the same ID; replace one", j, i)
			}
		}
		s.secrets = append(s.secrets, k)
	}
	return s, nil
}

// Seal returns the stored form of a value. The hash is that of the document. The name is that of
// the value in the document.
func (s *Sealer) Seal(hash, name string, v bsonval.Value) bsonval.Value {
	if len(s.secrets) == 0 {
		return v
	}
	k := &s.secrets[0]
	plain := append([]byte{byte(v.Kind)}, v.Data...)
	sealed := make([]byte, idBytes, idBytes+len(plain)+k.aead.Overhead())
	copy(sealed, k.id[:])
	sealed = k.aead.Seal(sealed, nil, plain, additional(hash, name)) //nolint:gosec // this AEAD generates the nonce
	b := bsonval.NewBuilder(len(sealed) + 64)
	b.String(bsonval.TagType, tag)
	b.Value(bsonval.TagValue, bsonval.Binary(sealed))
	return bsonval.Value{Kind: bson.TypeEmbeddedDocument, Data: b.Document()}
}

// Open is the inverse of Seal. It returns a value that is not sealed, such as one stored before
// there were secrets, unchanged.
func (s *Sealer) Open(hash, name string, v bsonval.Value) (bsonval.Value, error) {
	if v.Kind != bson.TypeEmbeddedDocument {
		return v, nil
	}
	kind, content, ok, err := bsonval.Tag(v)
	if err != nil || !ok || kind != tag {
		return v, nil //nolint:nilerr // decoding the value reports the error
	}
	sealed, ok := content.Binary()
	if !ok || len(sealed) < idBytes {
		return bsonval.Value{}, errors.New("sealed value is malformed")
	}
	for i := range s.secrets {
		k := &s.secrets[i]
		if string(k.id[:]) != string(sealed[:idBytes]) {
			continue
		}
		plain, err := k.aead.Open(nil, nil, sealed[idBytes:], additional(hash, name))
		if err != nil || len(plain) == 0 {
			return bsonval.Value{}, errors.New("sealed value was altered, or moved from elsewhere")
		}
		return bsonval.Parse(bson.Type(plain[0]), plain[1:])
	}
	return bsonval.Value{}, errors.New("sealed with a key that is not in Config.SealKeys")
}

// additional returns the additional data. A name has no NUL.
func additional(hash, name string) []byte {
	return []byte(hash + "\x00" + name)
}
