// Package samples holds the values, keys and gob streams that the tests of several packages share.
// It registers the types of its values with gob, as an application does for CookieStore.
package samples

import (
	"encoding/binary"
	"encoding/gob"
	"errors"
	"io"
	"math/big"
	"net/url"
	"time"
)

// Types of an application.
type (
	// Role is a named string.
	Role string

	// Level is a named number.
	Level int

	// CtxKey is a named number that is used as a key.
	CtxKey int

	// KeyPair is a struct that can be a key.
	KeyPair struct{ Shop, User string }

	// Scores is a named map.
	Scores map[string]int

	// Chain is a named list. It is registered under a name of its own.
	Chain []any

	// Triple is a named array.
	Triple [3]int

	// Card is registered as a value.
	Card Profile

	// Profile is registered as a pointer.
	Profile struct {
		Name    string
		Age     int
		Tags    map[string]string
		Extra   any
		Since   time.Time
		Friends []*Profile
		Photo   []byte
		secret  string // gob omits it
	}

	// Node has no end if an encoder follows its parents. gob does not: the field is not
	// exported.
	Node struct {
		Label    string
		Children []*Node
		parent   *Node
	}

	// Ring encodes itself, and contains itself.
	Ring struct {
		Value int
		Next  *Ring
	}

	// Clumsy panics or fails in its methods with some texts.
	Clumsy struct{ Text string }

	// Unregistered is not registered.
	Unregistered struct{ Secret string }

	farewell func()
)

// Texts of a [Clumsy] with which its methods panic or fail. No error of the library may contain
// them.
const (
	EncodePanics = "encode panics: confidential"
	EncodeFails  = "encode fails: confidential"
	DecodePanics = "decode panics: confidential"
	DecodeFails  = "decode fails: confidential"
)

// GobEncode returns the ring's value.
func (r *Ring) GobEncode() ([]byte, error) { return binary.AppendVarint(nil, int64(r.Value)), nil }

// GobDecode sets the ring's value.
func (r *Ring) GobDecode(b []byte) error {
	v, _ := binary.Varint(b)
	*r = Ring{Value: int(v)}
	r.Next = r
	return nil
}

// GobEncode returns the text.
func (c Clumsy) GobEncode() ([]byte, error) {
	switch c.Text {
	case EncodePanics:
		panic(c.Text)
	case EncodeFails:
		return nil, errors.New(c.Text)
	}
	return []byte(c.Text), nil
}

// GobDecode sets the text.
func (c *Clumsy) GobDecode(b []byte) error {
	switch c.Text = string(b); c.Text {
	case DecodePanics:
		panic(c.Text)
	case DecodeFails:
		return errors.New(c.Text)
	}
	return nil
}

var _ = registerTypes()

func registerTypes() bool {
	for _, v := range []any{
		Role(""), Level(0), CtxKey(0),
		KeyPair{},
		Scores{},
		Triple{},
		[3]int{},
		[2]string{},
		Card{},
		&Profile{}, &Node{}, &Ring{},
		Clumsy{},
		&big.Int{},
		url.Values{},
		time.March,
		[]Role{},
		[]any{},
		[]Card{},
		[][]byte{},
		[][]int{},
		map[int]string{},
		map[string]Card{},
		map[string]float32{},
	} {
		gob.Register(v)
	}
	gob.RegisterName("chain", Chain{})
	// The first type has a shorter number than those after it.
	return gob.NewEncoder(io.Discard).Encode(struct{ First int }{}) == nil
}
