package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// secretKey returns the key in a file, such as the one that signs the cookies. The first start
// creates it; a new key would sign everybody out. In production, read it from where your other
// secrets are.
func secretKey(dir, name string) (key []byte, err error) {
	const size = 32
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()

	text, err := root.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		key = make([]byte, size)
		_, _ = rand.Read(key) // never fails
		return key, root.WriteFile(name, []byte(hex.EncodeToString(key)+"\n"), 0o600)
	}
	if err != nil {
		return nil, err
	}
	key, err = hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != size {
		return nil, fmt.Errorf("%s is damaged; deleting it creates a new key and signs everybody out", filepath.Join(dir, name))
	}
	return key, nil
}

// sealKeys returns the keys that encrypt the values of the sessions, or none. Once there is a
// key, it is used without the flag too: sealed values cannot be read without it.
func sealKeys(cfg config) ([][]byte, error) {
	const name = "seal.key"
	_, err := os.Stat(filepath.Join(cfg.dir, name))
	if errors.Is(err, fs.ErrNotExist) && !cfg.seal {
		return nil, nil
	}
	key, err := secretKey(cfg.dir, name)
	if err != nil {
		return nil, err
	}
	return [][]byte{key}, nil // to change the key, put a new one in front
}
