package mongostore

import (
	"bytes"
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

// fieldNames are the fields that a document has once at most; those that it must have come
// first.
var fieldNames = [...]string{
	fieldVersion, fieldName, fieldValues, fieldRev, fieldCreatedAt, fieldSeenAt, fieldExpiresAt,
	fieldOwner, fieldDetails, fieldMaxAge, fieldMovedTo,
}

const requiredFields = 7

// record is a session's document.
type record struct {
	key       string // the document's _id
	name      string
	fields    []field // not sealed; no key is there twice
	strays    []field // further fields for a key in fields, of which only key and name count
	owner     value   // of kind 0 if there is none
	details   value   // of kind 0 if there are none
	rev       int64
	createdAt time.Time
	seenAt    time.Time
	expiresAt time.Time
	maxAge    *int   // the session's own, in seconds; nil for the store's
	movedTo   string // the _id of the document that took this one's place, see move; then this one is dead
}

// field is a key of Session.Values, with its name and its value as they stand in the
// document.
type field struct {
	key   any
	name  string
	value value
}

// errMisdelivered is a connection's failure: what it gave is the answer to another command.
// The driver does not look at which command an answer is for, and to hand a visitor
// somebody else's session would be the worst of all faults.
var errMisdelivered = errors.New("the server's answer is another document")

// parseRecord reads the document with the given _id, save for its values, which it
// returns as they are.
func parseRecord(doc bson.Raw, key string) (rec record, values []byte, err error) {
	rec.key = key
	var version int64
	var seen [len(fieldNames)]bool
	err = elements(doc, func(name []byte, v value) error {
		if i := slices.Index(fieldNames[:], string(name)); i >= 0 {
			if seen[i] {
				return fmt.Errorf("field %s is there twice", name)
			}
			seen[i] = true
		}
		ok := true
		switch string(name) {
		case fieldID:
			if !v.isText(key) {
				return errMisdelivered
			}
		case fieldVersion:
			version, ok = v.integer()
		case fieldName:
			rec.name, ok = v.text()
		case fieldValues:
			values, ok = v.document()
		case fieldOwner:
			rec.owner = v
		case fieldDetails:
			rec.details = v
		case fieldRev:
			rec.rev, ok = v.integer()
			ok = ok && rec.rev > 0 || v.kind == bson.TypeNull // of a document that has moved
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
		case fieldMovedTo:
			rec.movedTo, ok = v.text()
			ok = ok && rec.movedTo != ""
		default: // what others may have added
		}
		if !ok {
			return fmt.Errorf("field %s is not what it should be", name)
		}
		return nil
	})
	missing := slices.Index(seen[:requiredFields], false)
	switch {
	case version > formatVersion:
		err = fmt.Errorf("format version %d is newer than %d", version, formatVersion)
	case err != nil:
	case version < 1:
		err = errors.New("no format version")
	case missing >= 0:
		err = fmt.Errorf("field %s is missing", fieldNames[missing])
	case rec.rev == 0 && rec.movedTo == "":
		// It would be read, and refuse every save.
		err = fmt.Errorf("field %s is null without a %s", fieldRev, fieldMovedTo)
	}
	return rec, values, err
}

// readValues fills in the record's fields, and gives them as Go values. The fields are
// parts of values, unless they were sealed; the Go values are not.
func (rec *record) readValues(values []byte, seals *sealer) (map[any]any, error) {
	var count, nameBytes int
	if err := elements(values, func(name []byte, _ value) error {
		count++
		nameBytes += len(name)
		return nil
	}); err != nil {
		return nil, err
	}
	goValues := make(map[any]any, count)
	rec.fields = make([]field, 0, count)
	var names strings.Builder // one string for all
	names.Grow(nameBytes)
	err := elements(values, func(name []byte, v value) error {
		start := names.Len()
		names.Write(name)
		f := field{name: names.String()[start:], value: v}
		var err error
		if f.key, err = decodeKey(f.name); err != nil {
			return fmt.Errorf("key %q: %w", name, err)
		}
		if f.value, err = seals.open(rec.key, f); err != nil {
			return fmt.Errorf("value of key %q: %w", name, err)
		}
		goValue, err := decodeValue(f.value)
		if err != nil {
			return fmt.Errorf("value of key %q: %w", name, err)
		}
		goValues[f.key] = goValue
		if len(goValues) == len(rec.fields) { // there already
			return rec.replace(f)
		}
		rec.fields = append(rec.fields, f)
		return nil
	})
	return goValues, err
}

// replace puts a field in the place of one with the same key: one key under the names of two
// processes, see decodeGobKey. The later one was written last.
func (rec *record) replace(f field) error {
	i := slices.IndexFunc(rec.fields, func(known field) bool { return known.key == f.key })
	sameName := func(known field) bool { return known.name == f.name }
	if sameName(rec.fields[i]) || slices.ContainsFunc(rec.strays, sameName) {
		return fmt.Errorf("key %q is there twice", f.name)
	}
	rec.strays = append(rec.strays, rec.fields[i])
	rec.fields[i] = f
	return nil
}

// index gives the record's fields by their keys.
func (rec *record) index() map[any]field {
	fields := make(map[any]field, len(rec.fields))
	for _, f := range rec.fields {
		fields[f.key] = f
	}
	return fields
}

func (v value) time() (time.Time, bool) {
	ms, ok := v.millis()
	return time.UnixMilli(ms).UTC(), ok
}

// diff compares a session's values with the record's: set are the fields that are new or
// changed, unset the names that are no longer there, and fields what the record's
// will be. It fails if the whole exceeds maxSize bytes.
func (rec *record) diff(values map[any]any, maxSize int) (d diff, err error) {
	kept, size := 0, 0
	for _, f := range rec.fields {
		v, ok := values[f.key]
		if !ok {
			d.unset = append(d.unset, f.name)
			continue
		}
		kept++
		if !holds(f.value, v) {
			encoded, err := f.encode(v)
			if err != nil {
				return d, err
			}
			if !sameValue(f.value, encoded) {
				f.value = encoded
				d.set = append(d.set, f)
			}
		}
		size += f.size()
	}
	if kept < len(values) {
		known := rec.index()
		for key, v := range values {
			if _, ok := known[key]; ok {
				continue
			}
			f := field{key: key}
			if f.name, err = encodeKey(key); err != nil {
				return d, fmt.Errorf("key of type %T: %w", key, err)
			}
			if f.value, err = f.encode(v); err != nil {
				return d, err
			}
			d.set = append(d.set, f)
			size += f.size()
		}
	}
	if size > maxSize && len(d.set) > 0 {
		return d, fmt.Errorf("%w: %d bytes of values, at most %d", ErrTooLarge, size, maxSize)
	}
	if d.empty() {
		d.fields, d.strays = rec.fields, rec.strays
		return d, nil
	}
	slices.SortFunc(d.set, byName)
	slices.Sort(d.unset)
	d.fields = append(make([]field, 0, len(values)), d.set...)
	for _, f := range rec.fields {
		_, set := slices.BinarySearchFunc(d.set, f, byName)
		_, unset := slices.BinarySearch(d.unset, f.name)
		if !set && !unset {
			d.fields = append(d.fields, f)
		}
	}
	for _, f := range rec.strays {
		// One name of a key is as good as another, but what is written under
		// one of them makes the others obsolete.
		if i := slices.IndexFunc(d.fields, func(kept field) bool { return kept.key == f.key }); i >= len(d.set) {
			d.strays = append(d.strays, f)
		} else {
			d.unset = append(d.unset, f.name)
		}
	}
	return d, nil
}

func byName(a, b field) int { return strings.Compare(a.name, b.name) }

// encode gives the value of a field for v.
func (f *field) encode(v any) (value, error) {
	data, kind, err := encodeValue(nil, v)
	if err != nil {
		return value{}, fmt.Errorf("value of key %q, type %T: %w", f.name, v, err)
	}
	return value{kind, data}, nil
}

// size is how many bytes a field has in the document.
func (f *field) size() int { return 1 + len(f.name) + 1 + len(f.value.data) }

// diff is what a save changes.
type diff struct {
	set    []field
	unset  []string
	fields []field
	strays []field
}

func (d *diff) empty() bool { return len(d.set)+len(d.unset) == 0 }

// document gives the record as a document.
func (rec *record) document(seals *sealer) bson.Raw {
	fields := slices.SortedFunc(slices.Values(rec.fields), byName)
	size := 512 // what stands beside the values
	for _, f := range fields {
		size += f.size()
	}

	doc, start := openDocument(make([]byte, 0, size))
	doc = appendStringElement(doc, fieldID, rec.key)
	doc = appendNumber(doc, fieldVersion, formatVersion)
	doc = appendStringElement(doc, fieldName, rec.name)
	doc, at := openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, fieldValues))
	for _, f := range fields {
		doc = appendElement(doc, f.name, seals.seal(rec.key, f))
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

// update gives the update that makes the document, which was read as old, hold rec, with
// the values changed as d says. What other requests changed in it meanwhile stays.
func (rec *record) update(old *record, d *diff, seals *sealer) bson.Raw {
	size := 256 // what stands beside the values
	for _, f := range d.set {
		size += len(fieldValues) + 1 + f.size()
	}
	beside := [...]struct {
		name     string
		now, was value
	}{{fieldOwner, rec.owner, old.owner}, {fieldDetails, rec.details, old.details}}
	newAge, newLifetime := !equalAge(rec.maxAge, old.maxAge), rec.newLifetime(old)

	doc, start := openDocument(make([]byte, 0, size))
	doc, at := openOperator(doc, "$set")
	for _, f := range d.set {
		doc = appendElement(doc, fieldValues+"."+f.name, seals.seal(rec.key, f))
	}
	for _, f := range beside {
		if f.now.kind != 0 && !f.now.equal(f.was) {
			doc = appendElement(doc, f.name, f.now)
		}
	}
	if newAge && rec.maxAge != nil {
		doc = appendNumber(doc, fieldMaxAge, int64(*rec.maxAge))
	}
	if newLifetime {
		doc = appendTime(doc, fieldExpiresAt, rec.expiresAt)
	}
	doc = closeOperator(doc, at)

	doc, at = openOperator(doc, "$unset")
	for _, name := range d.unset {
		doc = appendStringElement(doc, fieldValues+"."+name, "")
	}
	for _, f := range beside {
		if f.now.kind == 0 && f.was.kind != 0 {
			doc = appendStringElement(doc, f.name, "")
		}
	}
	if newAge && rec.maxAge == nil {
		doc = appendStringElement(doc, fieldMaxAge, "")
	}
	doc = closeOperator(doc, at)

	// A document that has moved refuses every $inc, also one by nothing: see
	// markMoved.
	doc, at = openOperator(doc, "$inc")
	var more int64
	if !d.empty() || newAge {
		more = 1
	}
	doc = closeOperator(appendNumber(doc, fieldRev, more), at)

	// $max, not $set: of two requests at once, the one that saves first must not
	// take back what the other granted.
	doc, at = openOperator(doc, "$max")
	doc = appendTime(doc, fieldSeenAt, rec.seenAt)
	if !newLifetime {
		doc = appendTime(doc, fieldExpiresAt, rec.expiresAt)
	}
	return closeDocument(closeOperator(doc, at), start)
}

// openOperator begins an operator of an update; closeOperator, given the position that
// openOperator returned, ends it, or drops it if nothing follows: MongoDB before 5.0 refuses
// an empty one.
func openOperator(doc []byte, name string) ([]byte, int) {
	at := len(doc)
	doc, _ = openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, name))
	return doc, at
}

func closeOperator(doc []byte, at int) []byte {
	start := at + bytes.IndexByte(doc[at:], 0) + 1 // after the header
	if len(doc) == start+4 {
		return doc[:at]
	}
	return closeDocument(doc, start)
}

func equalAge(a, b *int) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// condition is what a document must meet, beside its _id, to be written.
type condition struct {
	rev       int64     // it was not changed since it was read with this rev; 0 for any
	aliveAt   time.Time // it has not expired then, and has this maxAge; zero for any
	maxAge    *int
	seenAfter time.Time // with a maxAge
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
		if c.maxAge == nil {
			doc = appendHeader(doc, bson.TypeNull, fieldMaxAge) // or absent
		} else {
			doc = appendNumber(doc, fieldMaxAge, int64(*c.maxAge))
			doc, at = openDocument(appendHeader(doc, bson.TypeEmbeddedDocument, fieldSeenAt))
			doc = closeDocument(appendTime(doc, "$gt", c.seenAfter), at)
		}
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
