package mongostore

import (
	"errors"
	"fmt"
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
	fieldRev       = "rev"
	fieldCreatedAt = "createdAt"
	fieldSeenAt    = "seenAt"
	fieldExpiresAt = "expiresAt"
	fieldMaxAge    = "maxAge"
)

// record is a session's document, without its _id.
type record struct {
	name      string
	fields    map[any]field // by the key in Session.Values
	strays    []string      // further names of fields that stand for a key in fields
	rev       int64
	createdAt time.Time
	seenAt    time.Time
	expiresAt time.Time
	maxAge    *int // the session's own, in seconds; nil for the store's
}

// field is a key and its value as they stand in the document.
type field struct {
	name  string
	value value
}

// aliveAt reports whether the record has not expired.
func (rec *record) aliveAt(now time.Time) bool { return rec.expiresAt.After(now) }

// parseRecord reads a document. The fields of the result are parts of doc.
func parseRecord(doc bson.Raw) (record, error) {
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
		case fieldRev:
			rec.rev, ok = v.integer()
		case fieldCreatedAt:
			rec.createdAt, ok = v.time()
		case fieldSeenAt:
			rec.seenAt, ok = v.time()
		case fieldExpiresAt:
			rec.expiresAt, ok = v.time()
		case fieldMaxAge:
			var age int64
			age, ok = v.integer()
			maxAge := int(age)
			rec.maxAge, ok = &maxAge, ok && age >= 0
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
		key, err := decodeKey(string(name))
		if err != nil {
			return fmt.Errorf("key %q: %w", name, err)
		}
		if known, twice := rec.fields[key]; twice {
			// One key under the names of two processes, see decodeGobKey. The
			// later one was written last.
			rec.strays = append(rec.strays, known.name)
		}
		rec.fields[key] = field{string(name), v}
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
	if size > maxSize {
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
func (rec *record) document(key string) bson.Raw {
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
		doc = appendElement(doc, f.name, f.value)
	}
	doc = closeDocument(doc, at)
	doc = appendNumber(doc, fieldRev, rec.rev)
	doc = appendTime(doc, fieldCreatedAt, rec.createdAt)
	doc = appendTime(doc, fieldSeenAt, rec.seenAt)
	doc = appendTime(doc, fieldExpiresAt, rec.expiresAt)
	if rec.maxAge != nil {
		doc = appendNumber(doc, fieldMaxAge, int64(*rec.maxAge))
	}
	return closeDocument(doc, start)
}

// update gives the update that makes a document that was read as old hold rec,
// with the values changed as d says. What other requests changed in it meanwhile stays.
func (rec *record) update(old *record, d *diff) bson.Raw {
	newMaxAge := !equalAge(rec.maxAge, old.maxAge)

	doc, start := openDocument(nil)
	if len(d.set) > 0 || newMaxAge {
		var at int
		doc, at = openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, "$set"))
		for _, f := range d.set {
			doc = appendElement(doc, fieldValues+"."+f.name, f.value)
		}
		if newMaxAge {
			if rec.maxAge != nil {
				doc = appendNumber(doc, fieldMaxAge, int64(*rec.maxAge))
			}
			// Another lifetime, which may be a shorter one.
			doc = appendTime(doc, fieldExpiresAt, rec.expiresAt)
		}
		doc = closeDocument(doc, at)
	}
	if len(d.unset) > 0 || newMaxAge && rec.maxAge == nil {
		var at int
		doc, at = openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, "$unset"))
		for _, name := range d.unset {
			doc = appendStringElement(doc, fieldValues+"."+name, "")
		}
		if newMaxAge && rec.maxAge == nil {
			doc = appendStringElement(doc, fieldMaxAge, "")
		}
		doc = closeDocument(doc, at)
	}
	if !d.empty() {
		var at int
		doc, at = openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, "$inc"))
		doc = appendNumber(doc, fieldRev, 1)
		doc = closeDocument(doc, at)
	}
	// $max, not $set: of two requests at once, the one that saves first must not
	// take back what the other granted.
	doc, at := openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, "$max"))
	doc = appendTime(doc, fieldSeenAt, rec.seenAt)
	if !newMaxAge {
		doc = appendTime(doc, fieldExpiresAt, rec.expiresAt)
	}
	doc = closeDocument(doc, at)
	return closeDocument(doc, start)
}

func equalAge(a, b *int) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// byKey is the filter for a document, and if now is not zero, for one that is alive.
func byKey(key string, now time.Time) bson.Raw {
	doc, start := openDocument(make([]byte, 0, 128))
	doc = appendStringElement(doc, fieldID, key)
	if !now.IsZero() {
		doc = appendAfter(doc, now)
	}
	return closeDocument(doc, start)
}

// appendAfter appends the condition that a document has not expired.
func appendAfter(doc []byte, now time.Time) []byte {
	doc, at := openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, fieldExpiresAt))
	return closeDocument(appendTime(doc, "$gt", now), at)
}

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
