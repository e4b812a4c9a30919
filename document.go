package mongostore

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// The document of a session, and the updates that bring it up to date.

// formatVersion is the document's v. A document with a higher one is refused,
// never overwritten.
const formatVersion = 1

// The names of the document's fields.
const (
	fieldID        = "_id"
	fieldVersion   = "v"
	fieldName      = "name"
	fieldValues    = "values"
	fieldOwner     = "owner"
	fieldDetails   = "details"
	fieldRev       = "rev"
	fieldCreatedAt = "createdAt"
	fieldSeenAt    = "seenAt"
	fieldExpiresAt = "expiresAt"
	fieldMaxAge    = "maxAge"
	fieldMovedTo   = "movedTo"
)

// record is a session's document, without its _id.
type record struct {
	name      string
	fields    map[any]field // by the key in Session.Values; not sealed
	strays    []string      // further names of fields that stand for a key in fields
	owner     value         // of kind 0 if there is none
	details   value         // of kind 0 if there are none
	rev       int64
	createdAt time.Time
	seenAt    time.Time
	expiresAt time.Time
	maxAge    *int   // the session's own, in seconds; nil for the store's
	movedTo   string // the _id of the document that took this one's place, see move; then this one is dead
}

// field is a key and its value as they stand in the document.
type field struct {
	name  string
	value value
}

// parseRecord reads the document with the given _id. The fields of the result are
// parts of doc, unless they were sealed.
func parseRecord(doc bson.Raw, key string, seals *sealer) (record, error) {
	rec := record{fields: map[any]field{}}
	var version int64
	var values []byte
	var seen int
	err := elements(doc, func(name []byte, v value) (err error) {
		ok := true
		seen++
		switch string(name) {
		case fieldVersion:
			version, ok = v.integer()
		case fieldName:
			rec.name, ok = v.text()
		case fieldValues:
			values, ok = v.document()
		case fieldOwner:
			rec.owner = v
			seen--
		case fieldDetails:
			rec.details = v
			seen--
		case fieldRev:
			rec.rev, ok = v.integer()
			ok = ok || v.kind == bson.TypeNull // of a document that has moved
		case fieldCreatedAt:
			rec.createdAt, ok = v.time()
		case fieldSeenAt:
			rec.seenAt, ok = v.time()
		case fieldExpiresAt:
			rec.expiresAt, ok = v.time()
		case fieldMaxAge:
			var age int64
			age, ok = v.integer()
			maxAge := int(min(age, math.MaxInt))
			rec.maxAge, ok = &maxAge, ok && age >= 0
			seen--
		case fieldMovedTo:
			rec.movedTo, ok = v.text()
			seen--
		default: // _id, and what others may have added
			seen--
		}
		if !ok {
			return fmt.Errorf("field %s is of the wrong type", name)
		}
		return nil
	})
	switch {
	case version > formatVersion:
		return rec, fmt.Errorf("format version %d is newer than %d", version, formatVersion)
	case err != nil:
		return rec, err
	case version < 1:
		return rec, errors.New("no format version")
	case seen != 7:
		return rec, errors.New("a field is missing or there twice")
	}
	err = elements(values, func(name []byte, v value) error {
		f := field{string(name), v}
		goKey, err := decodeKey(f.name)
		if err != nil {
			return fmt.Errorf("key %q: %w", name, err)
		}
		if f.value, err = seals.open(key, f); err != nil {
			return fmt.Errorf("value of key %q: %w", name, err)
		}
		if known, twice := rec.fields[goKey]; twice {
			// One key under the names of two processes, see decodeGobKey. The
			// later one was written last.
			rec.strays = append(rec.strays, known.name)
		}
		rec.fields[goKey] = f
		return nil
	})
	return rec, err
}

func (v value) time() (time.Time, bool) {
	ms, ok := v.millis()
	return time.UnixMilli(ms).UTC(), ok
}

// decode gives the record's values as Go values.
func (rec *record) decode() (map[any]any, error) {
	values := make(map[any]any, len(rec.fields))
	for key, f := range rec.fields {
		v, err := decodeValue(f.value)
		if err != nil {
			return nil, fmt.Errorf("value of key %q: %w", f.name, err)
		}
		values[key] = v
	}
	return values, nil
}

// diff encodes a session's values and compares them with the record's: set are the fields
// that are new or changed, unset the names that are no longer there, and fields
// what the record's will be. It fails if the whole exceeds maxSize bytes.
func (rec *record) diff(values map[any]any, maxSize int) (d diff, err error) {
	d.fields = make(map[any]field, len(values))
	size := 0
	for key, v := range values {
		f, known := rec.fields[key]
		if !known {
			if f.name, err = encodeKey(key); err != nil {
				return d, fmt.Errorf("key of type %T: %w", key, err)
			}
		}
		if !known || !holds(f.value, v) {
			data, kind, err := encodeValue(nil, v)
			if err != nil {
				return d, fmt.Errorf("value of key %q, type %T: %w", f.name, v, err)
			}
			if encoded := (value{kind, data}); !known || !sameValue(f.value, encoded) {
				f.value = encoded
				d.set = append(d.set, f)
			}
		}
		d.fields[key] = f
		size += len(f.name) + len(f.value.data) + 2 // the type and the name's end
	}
	if size > maxSize && len(d.set) > 0 {
		return d, fmt.Errorf("%w: %d bytes of values, at most %d", ErrTooLarge, size, maxSize)
	}
	for key, f := range rec.fields {
		if _, kept := d.fields[key]; !kept {
			d.unset = append(d.unset, f.name)
		}
	}
	if len(d.set)+len(d.unset) > 0 {
		d.unset = append(d.unset, rec.strays...)
	}
	slices.SortFunc(d.set, func(a, b field) int { return strings.Compare(a.name, b.name) })
	slices.Sort(d.unset)
	return d, nil
}

// holds reports, for the values that make up most of a session, that stored is the
// encoding of v, without encoding it.
func holds(stored value, v any) bool {
	switch v := v.(type) {
	case string:
		return stored.kind == bson.TypeString && string(stored.data[4:len(stored.data)-1]) == v
	case []byte:
		return v != nil && stored.kind == bson.TypeBinary && stored.data[4] == bson.TypeBinaryGeneric && string(stored.data[5:]) == string(v)
	default:
		return false
	}
}

// diff is what a save changes.
type diff struct {
	set    []field
	unset  []string
	fields map[any]field
}

func (d *diff) empty() bool { return len(d.set)+len(d.unset) == 0 }

// document gives the record as the document with the given _id.
func (rec *record) document(key string, seals *sealer) bson.Raw {
	fields := make([]field, 0, len(rec.fields))
	for _, f := range rec.fields {
		fields = append(fields, f)
	}
	slices.SortFunc(fields, func(a, b field) int { return strings.Compare(a.name, b.name) })

	doc, start := openDocument(nil)
	doc = appendStringElement(doc, fieldID, key)
	doc = appendNumber(doc, fieldVersion, formatVersion)
	doc = appendStringElement(doc, fieldName, rec.name)
	doc, at := openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, fieldValues))
	for _, f := range fields {
		doc = appendElement(doc, f.name, seals.seal(key, f))
	}
	doc = closeDocument(doc, at)
	if rec.owner.kind != 0 {
		doc = appendElement(doc, fieldOwner, rec.owner)
	}
	if rec.details.kind != 0 {
		doc = appendElement(doc, fieldDetails, rec.details)
	}
	doc = appendNumber(doc, fieldRev, rec.rev)
	doc = appendTime(doc, fieldCreatedAt, rec.createdAt)
	doc = appendTime(doc, fieldSeenAt, rec.seenAt)
	doc = appendTime(doc, fieldExpiresAt, rec.expiresAt)
	if rec.maxAge != nil {
		doc = appendNumber(doc, fieldMaxAge, int64(*rec.maxAge))
	}
	return closeDocument(doc, start)
}

// sameMeta reports whether rec needs no write for what stands beside its values.
func (rec *record) sameMeta(old *record) bool {
	return equalAge(rec.maxAge, old.maxAge) && rec.owner.equal(old.owner)
}

// newLifetime reports whether the expiry is to be set, be it to an earlier
// time: the session has another MaxAge than before, or the store's settings
// have become stricter.
func (rec *record) newLifetime(old *record) bool {
	const skew = time.Minute // between the clocks of processes
	return !equalAge(rec.maxAge, old.maxAge) || old.expiresAt.After(rec.expiresAt.Add(skew))
}

// markMoved gives the update that marks a document as moved to another. It also freezes
// the document: MongoDB refuses to $inc a null, and with it the whole update, so that
// no request's change is lost in a document that is about to be deleted.
// https://www.mongodb.com/docs/manual/reference/operator/update/inc/
func markMoved(key string) bson.Raw {
	doc, start := openDocument(nil)
	doc, at := openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, "$set"))
	doc = appendStringElement(doc, fieldMovedTo, key)
	doc = appendHeader(doc, bson.TypeNull, fieldRev)
	return closeDocument(closeDocument(doc, at), start)
}

// update gives the update that makes the document with the given _id, which was
// read as old, hold rec, with the values changed as d says. What other requests
// changed in it meanwhile stays.
func (rec *record) update(old *record, d *diff, key string, seals *sealer) bson.Raw {
	var set, unset, raise []byte
	for _, f := range d.set {
		set = appendElement(set, fieldValues+"."+f.name, seals.seal(key, f))
	}
	for _, name := range d.unset {
		unset = appendStringElement(unset, fieldValues+"."+name, "")
	}
	for _, meta := range []struct {
		name     string
		now, was value
	}{{fieldOwner, rec.owner, old.owner}, {fieldDetails, rec.details, old.details}} {
		switch {
		case meta.now.equal(meta.was):
		case meta.now.kind != 0:
			set = appendElement(set, meta.name, meta.now)
		default:
			unset = appendStringElement(unset, meta.name, "")
		}
	}
	// $max, not $set: of two requests at once, the one that saves first must not
	// take back what the other granted.
	raise = appendTime(raise, fieldSeenAt, rec.seenAt)
	if rec.newLifetime(old) {
		set = appendTime(set, fieldExpiresAt, rec.expiresAt)
	} else {
		raise = appendTime(raise, fieldExpiresAt, rec.expiresAt)
	}
	newAge := !equalAge(rec.maxAge, old.maxAge)
	switch {
	case newAge && rec.maxAge != nil:
		set = appendNumber(set, fieldMaxAge, int64(*rec.maxAge))
	case newAge:
		unset = appendStringElement(unset, fieldMaxAge, "")
	}
	// A document that has moved refuses every $inc, also one by nothing: see
	// markMoved.
	var more int64
	if !d.empty() || newAge {
		more = 1
	}
	count := appendNumber(nil, fieldRev, more)

	doc, start := openDocument(nil)
	for _, operator := range []struct {
		name   string
		fields []byte
	}{{"$set", set}, {"$unset", unset}, {"$inc", count}, {"$max", raise}} {
		if len(operator.fields) > 0 { // MongoDB before 5.0 refuses an empty one
			var at int
			doc, at = openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, operator.name))
			doc = closeDocument(append(doc, operator.fields...), at)
		}
	}
	return closeDocument(doc, start)
}

func equalAge(a, b *int) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// condition is what a document must meet, beside its _id, to be written.
type condition struct {
	aliveAt time.Time // it has not expired then; zero for any
	rev     int64     // it was not changed since it was read with this rev; 0 for any
}

// filter is for the document with the given _id that meets the condition.
func (c condition) filter(key string) bson.Raw {
	doc, start := openDocument(make([]byte, 0, 128))
	doc = appendStringElement(doc, fieldID, key)
	if c.rev != 0 {
		doc = appendNumber(doc, fieldRev, c.rev)
	}
	if !c.aliveAt.IsZero() {
		var at int
		doc, at = openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, fieldExpiresAt))
		doc = closeDocument(appendTime(doc, "$gt", c.aliveAt), at)
	}
	return closeDocument(doc, start)
}

// byKey is the filter for the document with the given _id.
func byKey(key string) bson.Raw { return condition{}.filter(key) }

func appendStringElement(doc []byte, name, s string) []byte {
	return appendString(appendHeader(doc, bson.TypeString, name), s)
}

// appendNumber appends an integer in the type that the shell shows plainly.
func appendNumber(doc []byte, name string, i int64) []byte {
	if i == int64(int32(i)) {
		return appendInt32(appendHeader(doc, bson.TypeInt32, name), int32(i))
	}
	return appendInt64(appendHeader(doc, bson.TypeInt64, name), i)
}

func appendTime(doc []byte, name string, t time.Time) []byte {
	return appendInt64(appendHeader(doc, bson.TypeDateTime, name), t.UnixMilli())
}
