package mongostore

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

// This file encrypts values. With [Config.SealKeys] each value of a session is stored as
// {_type: "sealed", _value: <binary>}. The binary is the ID of the secret, a random nonce, and
// the AES-256-GCM ciphertext of the value's BSON type and bytes. The additional data
// binds it to its document and its key in Values, so that it cannot be moved.

const (
	tagSealed = "sealed"

	sealSecretBytes = 32 // AES-256
	sealIDBytes     = 4
)

// sealer encrypts values with its first secret and decrypts them with any. The zero value does
// not encrypt.
type sealer struct {
	secrets []sealSecret
}

type sealSecret struct {
	id   [sealIDBytes]byte
	aead cipher.AEAD
}

func newSealer(secrets [][]byte) (sealer, error) {
	var s sealer
	for i, secret := range secrets {
		if len(secret) != sealSecretBytes {
			return sealer{}, fmt.Errorf("seal key %d has %d bytes, not %d", i, len(secret), sealSecretBytes)
		}
		for j := range i {
			if subtle.ConstantTimeCompare(secret, secrets[j]) == 1 {
				return sealer{}, fmt.Errorf("seal keys %d and %d are the same", j, i)
			}
		}
		block, err := aes.NewCipher(secret)
		if err != nil {
			return sealer{}, err
		}
		// With random nonces of 96 bits, NIST SP 800-38D, section 8.3, allows
		// 2^32 values per key.
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return sealer{}, err
		}
		sum := sha256.Sum256(append([]byte("mongostore seal key\x00"), secret...))
		k := sealSecret{aead: aead}
		copy(k.id[:], sum[:])
		for j := range s.secrets {
			if s.secrets[j].id == k.id {
				return sealer{}, fmt.Errorf("seal keys %d and %d have the same ID; replace one", j, i)
			}
		}
		s.secrets = append(s.secrets, k)
	}
	return s, nil
}

// seal returns the stored form of a value, for the document with the hash and the name in it.
func (s *sealer) seal(hash, name string, v bsonval.Value) bsonval.Value {
	if len(s.secrets) == 0 {
		return v
	}
	k := &s.secrets[0]
	plain := append([]byte{byte(v.Kind)}, v.Data...)
	sealed := make([]byte, sealIDBytes, sealIDBytes+len(plain)+k.aead.Overhead())
	copy(sealed, k.id[:])
	sealed = k.aead.Seal(sealed, nil, plain, sealedFor(hash, name)) //nolint:gosec // this AEAD generates the nonce
	b := bsonval.NewBuilder(len(sealed) + 64)
	b.String(bsonval.TagType, tagSealed)
	b.Value(bsonval.TagValue, bsonval.Binary(sealed))
	return bsonval.Value{Kind: bson.TypeEmbeddedDocument, Data: b.Document()}
}

// open is the inverse of seal. It returns a value that is not sealed, such as one stored before
// SealKeys were set, unchanged.
func (s *sealer) open(hash, name string, v bsonval.Value) (bsonval.Value, error) {
	if v.Kind != bson.TypeEmbeddedDocument {
		return v, nil
	}
	tag, content, ok, err := bsonval.Tag(v)
	if err != nil || !ok || tag != tagSealed {
		return v, nil //nolint:nilerr // decoding the value reports the error
	}
	sealed, ok := content.Binary()
	if !ok || len(sealed) < sealIDBytes {
		return bsonval.Value{}, errors.New("sealed value is malformed")
	}
	for i := range s.secrets {
		k := &s.secrets[i]
		if string(k.id[:]) != string(sealed[:sealIDBytes]) {
			continue
		}
		plain, err := k.aead.Open(nil, nil, sealed[sealIDBytes:], sealedFor(hash, name))
		if err != nil || len(plain) == 0 {
			return bsonval.Value{}, errors.New("sealed value was altered, or moved from elsewhere")
		}
		return bsonval.Parse(bson.Type(plain[0]), plain[1:])
	}
	return bsonval.Value{}, errors.New("sealed with a key that is not in Config.SealKeys")
}

// sealedFor returns the additional data. A key in Values has no NUL in its name.
func sealedFor(hash, name string) []byte {
	return []byte(hash + "\x00" + name)
}
