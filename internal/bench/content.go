package bench

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// Content is what a session holds from its first request on.
type Content struct {
	Values map[string]any // apart from the counter

	cookie   string   // of a session with these values
	template bson.Raw // its document
	id       int      // where the bytes of the document's _id begin
}

// NewContent returns content with the values. The store creates the document that the floor works
// on.
func NewContent(ctx context.Context, values map[string]any) (*Content, error) {
	all, err := newContents(ctx, []map[string]any{values})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

func newContents(ctx context.Context, sessions []map[string]any) (_ []*Content, err error) {
	memory := newMemory()
	own, err := newOwn(ctx, memory.env())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, own.Close(ctx)) }()
	var all []*Content
	for _, values := range sessions {
		c, b := &Content{Values: values}, &Browser{}
		if err := own.Do(b, First, c); err != nil {
			return nil, err
		}
		c.cookie, c.template = b.cookie, memory.take()
		id, ok := c.template.Lookup("_id").StringValueOK()
		if !ok || len(id) != keyLength {
			return nil, fmt.Errorf("the document's _id is not of %d characters", keyLength)
		}
		// An _id is the first element: length, type, name and the string's length precede.
		c.id = 4 + 1 + len("_id\x00") + 4
		all = append(all, c)
	}
	return all, nil
}

// keyLength is the length of a SHA-256 in base64url.
const keyLength = 43

// document returns a document with these values and an _id of its own.
func (c *Content) document() (doc bson.Raw, key string) {
	var id [32]byte
	_, _ = rand.Read(id[:]) // never fails
	key = base64.RawURLEncoding.EncodeToString(id[:])
	doc = append(bson.Raw(nil), c.template...)
	copy(doc[c.id:], key)
	return doc, key
}

// Size is how many bytes the document has.
func (c *Content) Size() int { return len(c.template) }
