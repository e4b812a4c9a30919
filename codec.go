package mongostore

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore/internal/bsonval"
	"github.com/mongostore/mongostore/internal/seal"
)

// This file defines the format of a session's document: how it is decoded, encoded, found and
// updated.

// formatVersion is the document's v. A document with a higher one is refused and never
// overwritten.
const formatVersion = 1

// The names of the document's fields.
const (
	fieldID            = "_id"
	fieldVersion       = "v"
	fieldName          = "name"
	fieldValues        = "values"
	fieldOwner         = "owner"
	fieldDetails       = "details"
	fieldRev           = "rev"
	fieldCreatedAt     = "createdAt"
	fieldSeenAt        = "seenAt"
	fieldExpiresAt     = "expiresAt"
	fieldCookieAt      = "cookieAt"
	fieldMaxAge        = "maxAge"
	fieldMovedTo       = "movedTo"
	fieldMigratedUntil = "migratedUntil"
)

// fieldNames are the fields that occur at most once. The required ones come first.
var fieldNames = [...]string{
	fieldVersion, fieldName, fieldRev, fieldCreatedAt, fieldSeenAt, fieldExpiresAt,
	fieldValues, fieldOwner, fieldDetails, fieldCookieAt, fieldMaxAge, fieldMovedTo, fieldMigratedUntil,
}

// meta is a session's document without its values.
type meta struct {
	hash          string        // of the session's ID; the document's _id
	name          bsonval.Value // a string; not decoded, since most documents are only compared with it
	rev           int64         // raised by every change; 0 in a tombstone
	createdAt     time.Time
	seenAt        time.Time
	expiresAt     time.Time
	cookieAt      time.Time     // when the cookie was last sent, if Touch has moved the expiry since
	maxAge        *int          // the session's own, in seconds; nil for the store's
	owner         bsonval.Value // zero if there is none
	details       bsonval.Value // zero if there are none
	tombstone     bool          // the session has ended
	movedTo       string        // in a tombstone: the hash that the session was renewed to
	migratedUntil time.Time     // how long the cookie of the old store can be valid; zero if there is none
}

// record is a session's document.
type record struct {
	meta
	fields []field // not sealed; each key once
}

// field is a key of Values, with its name and value in the document.
type field struct {
	key     any
	name    string
	value   bsonval.Value
	aliases []string // other names of the key: encoding/gob may name a struct differently in each process
}

// size returns the number of bytes of a field in the document.
func (f *field) size() int { return len(f.name) + 1 + f.value.Size() }

func byName(a, b field) int { return strings.Compare(a.name, b.name) }

// index returns the record's fields by key.
func (rec *record) index() map[any]field {
	fields := make(map[any]field, len(rec.fields))
	for _, f := range rec.fields {
		fields[f.key] = f
	}
	return fields
}

// errMisdelivered is a failure of the connection: the reply belongs to another command.
// The driver does not check which command a reply is for, and returning another visitor's
// session would be the worst possible failure.
var errMisdelivered = errors.New("reply does not match the query")

// parseMeta decodes a document. It returns the values undecoded, because those of a session
// that has ended are not needed. A hash other than "" must be the document's _id.
func parseMeta(doc bson.Raw, hash string) (m meta, values []byte, err error) {
	var version int64
	var seen [len(fieldNames)]bool
	err = bsonval.Each(doc, func(name []byte, v bsonval.Value) error {
		if i := slices.Index(fieldNames[:], string(name)); i >= 0 {
			if seen[i] {
				return fmt.Errorf("duplicate field %s", name)
			}
			seen[i] = true
		}
		ok := true
		switch string(name) {
		case fieldID:
			if hash != "" && !v.IsText(hash) {
				return errMisdelivered
			}
			if m.hash = hash; hash == "" {
				m.hash, ok = v.Text()
			}
		case fieldVersion:
			version, ok = v.Integer()
		case fieldName:
			m.name, ok = v, v.Kind == bson.TypeString && v.Data[len(v.Data)-1] == 0
		case fieldValues:
			values, ok = v.Document()
		case fieldOwner:
			m.owner = v
		case fieldDetails:
			m.details = v
		case fieldRev:
			m.rev, ok = v.Integer()
			m.tombstone = v.Kind == bson.TypeNull
			ok = ok && m.rev > 0 || m.tombstone
		case fieldCreatedAt:
			m.createdAt, ok = v.Time()
		case fieldSeenAt:
			m.seenAt, ok = v.Time()
		case fieldExpiresAt:
			m.expiresAt, ok = v.Time()
		case fieldCookieAt:
			m.cookieAt, ok = v.Time()
		case fieldMaxAge:
			var age int64
			age, ok = v.Integer()
			maxAge := int(min(age, math.MaxInt))
			m.maxAge, ok = &maxAge, ok && age >= 0
		case fieldMovedTo:
			m.movedTo, ok = v.Text()
			ok = ok && m.movedTo != ""
		case fieldMigratedUntil:
			m.migratedUntil, ok = v.Time()
		}
		if !ok {
			return fmt.Errorf("field %s has an invalid value", name)
		}
		return nil
	})
	const required = 6
	missing := slices.Index(seen[:required], false)
	switch {
	case version > formatVersion:
		err = fmt.Errorf("format version %d is newer than %d", version, formatVersion)
	case err != nil:
	case version < 1:
		err = errors.New("no format version")
	case missing >= 0:
		err = fmt.Errorf("field %s is missing", fieldNames[missing])
	case m.movedTo != "" && !m.tombstone:
		err = fmt.Errorf("field %s in a document that is no tombstone", fieldMovedTo)
	}
	return m, values, err
}

// valueCodec converts the values of sessions, and seals them.
type valueCodec struct {
	*bsonval.Codec
	seals seal.Sealer
}

// decodeFields returns the fields of a document's values, and the Go values. The fields
// refer to values, unless they were sealed; the Go values do not. If into is not nil, it must be
// empty; the Go values are stored in it if they are few.
func (c *valueCodec) decodeFields(hash string, values []byte, into map[any]any) (_ []field, goValues map[any]any, err error) {
	if values == nil {
		return nil, nil, fmt.Errorf("field %s is missing", fieldValues)
	}
	defer func() {
		if err != nil {
			clear(into)
		}
	}()
	var count, nameBytes int
	if err := bsonval.Each(values, func(name []byte, _ bsonval.Value) error {
		count++
		nameBytes += len(name)
		return nil
	}); err != nil {
		return nil, nil, err
	}
	const few = 8 // the capacity of a map that was made without a size
	if goValues = into; goValues == nil || count > few {
		goValues = make(map[any]any, count)
	}
	fields := make([]field, 0, count)
	var names strings.Builder // one string for all names
	names.Grow(nameBytes)
	err = bsonval.Each(values, func(name []byte, v bsonval.Value) error {
		start := names.Len()
		names.Write(name)
		f := field{name: names.String()[start:], value: v}
		var err error
		if f.key, err = bsonval.DecodeKey(f.name); err != nil {
			return fmt.Errorf("key %q: %w", name, err)
		}
		if f.value, err = c.seals.Open(hash, f.name, v); err != nil {
			return fmt.Errorf("value of key %q: %w", name, err)
		}
		goValue, err := c.Decode(f.value)
		if err != nil {
			return fmt.Errorf("value of key %q: %w", name, err)
		}
		goValues[f.key] = goValue
		if len(goValues) > len(fields) {
			fields = append(fields, f)
			return nil
		}
		// A second name of a key. It was written later, so its value counts.
		i := slices.IndexFunc(fields, func(known field) bool { return known.key == f.key })
		earlier := fields[i]
		if earlier.name == f.name || slices.Contains(earlier.aliases, f.name) {
			return fmt.Errorf("duplicate key %q", f.name)
		}
		f.aliases = append(slices.Clone(earlier.aliases), earlier.name)
		fields[i] = f
		return nil
	})
	return fields, goValues, err
}

// document returns the record as BSON.
func (c *valueCodec) document(rec *record) bson.Raw {
	size := 512 // of the other fields
	for i := range rec.fields {
		size += rec.fields[i].size()
	}
	b := bsonval.NewBuilder(size)
	b.String(fieldID, rec.hash)
	b.Int(fieldVersion, formatVersion)
	b.Value(fieldName, rec.name)
	b.Begin(fieldValues)
	for _, f := range slices.SortedFunc(slices.Values(rec.fields), byName) {
		b.Value(f.name, c.seals.Seal(rec.hash, f.name, f.value))
	}
	b.End()
	if !rec.owner.IsZero() {
		b.Value(fieldOwner, rec.owner)
	}
	if !rec.details.IsZero() {
		b.Value(fieldDetails, rec.details)
	}
	if rec.tombstone {
		b.Null(fieldRev)
	} else {
		b.Int(fieldRev, rec.rev)
	}
	b.Time(fieldCreatedAt, rec.createdAt)
	b.Time(fieldSeenAt, rec.seenAt)
	b.Time(fieldExpiresAt, rec.expiresAt)
	if !rec.cookieAt.IsZero() {
		b.Time(fieldCookieAt, rec.cookieAt)
	}
	if rec.maxAge != nil {
		b.Int(fieldMaxAge, int64(*rec.maxAge))
	}
	if rec.movedTo != "" {
		b.String(fieldMovedTo, rec.movedTo)
	}
	if !rec.migratedUntil.IsZero() {
		b.Time(fieldMigratedUntil, rec.migratedUntil)
	}
	return b.Document()
}

// toTombstone returns the tombstone of a session that ends at now, with the hash that it was
// renewed to, if any.
func (m *meta) toTombstone(movedTo string, now time.Time) meta {
	t := meta{
		hash: m.hash, name: m.name, tombstone: true, movedTo: movedTo,
		createdAt: m.createdAt, seenAt: now, expiresAt: now.Add(tombstoneLife),
	}
	if m.migratedUntil.After(t.expiresAt) {
		t.expiresAt = m.migratedUntil
	}
	return t
}

// burial returns the update that turns a session's document into the tombstone m. A null rev
// blocks every later save: MongoDB refuses to $inc it, and with it the whole update.
// https://www.mongodb.com/docs/manual/reference/operator/update/inc/
func (m *meta) burial() bson.Raw {
	b := bsonval.NewBuilder(256)
	b.Begin("$set")
	if m.movedTo != "" {
		b.String(fieldMovedTo, m.movedTo)
	}
	b.Null(fieldRev)
	b.Begin(fieldValues)
	b.End()
	b.Time(fieldSeenAt, m.seenAt)
	b.Time(fieldExpiresAt, m.expiresAt)
	b.End()
	b.Begin("$unset")
	for _, name := range [...]string{fieldOwner, fieldDetails, fieldCookieAt, fieldMaxAge, fieldMigratedUntil} {
		b.String(name, "")
	}
	b.End()
	return b.Document()
}

// operators returns the plan's update. It keeps concurrent changes of other requests. A touch
// raises the times, or sets them if they need correction.
func (c *valueCodec) operators(p *plan) bson.Raw {
	base, next, ch := &p.base.meta, &p.next.meta, &p.change
	size := 64 // of the operators and rev
	if p.touch {
		size = 256
	}
	for i := range ch.set {
		size += len(fieldValues) + 1 + ch.set[i].size()
	}
	b := bsonval.NewBuilder(size)

	b.Begin("$set")
	for _, f := range ch.set {
		b.Value(fieldValues+"."+f.name, c.seals.Seal(next.hash, f.name, f.value))
	}
	if p.newOwner && !next.owner.IsZero() {
		b.Value(fieldOwner, next.owner)
	}
	if !next.details.IsZero() && !base.details.Equal(next.details) {
		b.Value(fieldDetails, next.details)
	}
	if p.newAge && next.maxAge != nil {
		b.Int(fieldMaxAge, int64(*next.maxAge))
	}
	if p.touch && !next.cookieAt.IsZero() {
		b.Time(fieldCookieAt, next.cookieAt)
	}
	if p.touch && p.correct {
		b.Time(fieldCreatedAt, next.createdAt)
		b.Time(fieldSeenAt, next.seenAt)
		b.Time(fieldExpiresAt, next.expiresAt)
	}
	b.EndUnlessEmpty()

	b.Begin("$unset")
	for _, name := range ch.unset {
		b.String(fieldValues+"."+name, "")
	}
	if p.newOwner && next.owner.IsZero() {
		b.String(fieldOwner, "")
	}
	if next.details.IsZero() && !base.details.IsZero() {
		b.String(fieldDetails, "")
	}
	if p.newAge && next.maxAge == nil {
		b.String(fieldMaxAge, "")
	}
	if p.touch && next.cookieAt.IsZero() { // also that of a Touch since the load
		b.String(fieldCookieAt, "")
	}
	b.EndUnlessEmpty()

	if !ch.empty() || p.newAge || p.newOwner {
		b.Begin("$inc")
		b.Int(fieldRev, 1)
		b.End()
	}
	if p.touch && !p.correct {
		// Of two concurrent saves, the later one to arrive must not shorten the expiry that
		// the other one has set.
		b.Begin("$max")
		b.Time(fieldSeenAt, next.seenAt)
		b.Time(fieldExpiresAt, next.expiresAt)
		b.End()
	}
	return b.Document()
}

func equalAge(a, b *int) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// guards are the conditions of a write, in addition to the document's _id.
type guards struct {
	stored  bool      // it is the document of a session, not a tombstone
	rev     int64     // it has this rev; 0 for any
	aliveAt time.Time // it has not expired by then; zero for any
	sameAge bool      // it has this maxAge
	maxAge  *int
}

func (g guards) none() bool { return g == guards{} }

// filter returns the filter for the document with the hash that meets the guards. Without
// guards, the server uses its fast path for queries by _id.
func (g guards) filter(hash string) bson.Raw {
	size := 64
	if !g.none() {
		size = 160
	}
	b := bsonval.NewBuilder(size)
	b.String(fieldID, hash)
	switch {
	case g.rev != 0:
		b.Int(fieldRev, g.rev)
	case g.stored:
		b.Begin(fieldRev)
		b.Int("$gt", 0)
		b.End()
	}
	if !g.aliveAt.IsZero() {
		b.Begin(fieldExpiresAt)
		b.Time("$gt", g.aliveAt)
		b.End()
	}
	if g.sameAge && g.maxAge == nil {
		b.Null(fieldMaxAge) // or absent
	} else if g.sameAge {
		b.Int(fieldMaxAge, int64(*g.maxAge))
	}
	return b.Document()
}

// byHash returns the filter for the document with the hash.
func byHash(hash string) bson.Raw { return guards{}.filter(hash) }

// byHashes returns the filter for the documents with the hashes.
func byHashes(hashes []string) bson.Raw {
	b := bsonval.NewBuilder(64 + 64*len(hashes))
	appendHashes(b, hashes)
	return b.Document()
}

func appendHashes(b *bsonval.Builder, hashes []string) {
	if len(hashes) == 1 {
		b.String(fieldID, hashes[0])
		return
	}
	b.Begin(fieldID)
	b.Value("$in", textList(hashes))
	b.End()
}

func textList(texts []string) bsonval.Value {
	list := make([]bsonval.Value, len(texts))
	for i, text := range texts {
		list[i] = bsonval.String(text)
	}
	return bsonval.List(list)
}

// endable returns the filter for the documents of sessions that end by deletion. It excludes
// tombstones, and migrated sessions, which become tombstones.
func endable(hashes ...string) bson.Raw {
	b := bsonval.NewBuilder(128 + 64*len(hashes))
	appendHashes(b, hashes)
	b.Begin(fieldVersion)
	b.Bool("$exists", true)
	b.End()
	b.Begin(fieldRev)
	b.Int("$gt", 0)
	b.End()
	b.Null(fieldMigratedUntil) // or absent
	return b.Document()
}

// damaged returns the filter for a document of this store, regardless of its other fields.
func damaged(hash string) bson.Raw {
	b := bsonval.NewBuilder(128)
	b.String(fieldID, hash)
	b.Begin(fieldVersion)
	b.Bool("$exists", true)
	b.End()
	return b.Document()
}

// change is the difference between the values of two records.
type change struct {
	set   []field  // new or changed, sorted by name
	unset []string // names of removed fields
}

func (c *change) empty() bool { return len(c.set)+len(c.unset) == 0 }
