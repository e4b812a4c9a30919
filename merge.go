package mongostore

import (
	"maps"
	"slices"
)

// ConflictPolicy is what becomes of a save that changes a key which another request
// has changed since this one loaded the session.
type ConflictPolicy int

const (
	// Merge has the later save win, key by key.
	Merge ConflictPolicy = iota

	// Reject has the later save fail with [ErrConflict], and writes nothing of
	// it. Changes of different keys are still merged. A handler loads the
	// session again with [Store.New], applies its change, and saves:
	//
	//	for range 3 {
	//		session, err = store.New(r, "session")
	//		...
	//		if err = store.Save(r, w, session); !errors.Is(err, mongostore.ErrConflict) {
	//			break
	//		}
	//	}
	//
	// After [ErrUnavailable] it is not known whether the save was carried out;
	// repeated, it may find itself in conflict with itself.
	Reject
)

// clashes reports whether rec and theirs, which were both made from base, changed one
// key, be it to the same value.
func (rec *record) clashes(base, theirs *record) bool {
	ours, theirFields, was := rec.index(), theirs.index(), base.index()
	clash := func(f field) bool { return changed(ours, was, f.key) && changed(theirFields, was, f.key) }
	return slices.ContainsFunc(rec.fields, clash) || slices.ContainsFunc(base.fields, clash)
}

// changed reports whether a record whose fields are now has another value for a key than
// it had when they were was, or only then or only now has one.
func changed(now, was map[any]field, key any) bool {
	f, have := now[key]
	old, had := was[key]
	return have != had || have && !sameValue(f.value, old.value)
}

// carryOver brings into rec what changed from base to theirs, save for the keys that
// rec itself changed. The values that came in are put into values.
func (rec *record) carryOver(base, theirs *record, ownerKey string, theirValues, values map[any]any) {
	rec.rev = max(rec.rev, theirs.rev)
	ours, theirFields, was := rec.index(), theirs.index(), base.index()
	newOwner := changed(ours, was, ownerKey)
	if newOwner && base.owner.kind != 0 {
		return // what one user does is no matter of the next one
	}
	fields := maps.Clone(ours)
	for key, f := range theirFields {
		if changed(theirFields, was, key) && !changed(ours, was, key) {
			fields[key] = f
			values[key] = theirValues[key]
		}
	}
	for key := range was {
		if _, kept := theirFields[key]; !kept && !changed(ours, was, key) {
			delete(fields, key)
			delete(values, key)
		}
	}
	if equalAge(rec.maxAge, base.maxAge) && !equalAge(theirs.maxAge, base.maxAge) {
		rec.maxAge, rec.expiresAt = theirs.maxAge, theirs.expiresAt
	}
	if ownerKey != "" && !newOwner && changed(theirFields, was, ownerKey) {
		rec.owner, _ = encodeOwner(theirValues[ownerKey]) // none, of what cannot be one
	}
	rec.fields = slices.Collect(maps.Values(fields))
}

// merge gives a session's values what [record.carryOver] brought into rec since base.
func (rec *record) merge(base *record, values, carried map[any]any) map[any]any {
	if values == nil {
		values = map[any]any{}
	}
	maps.Copy(values, carried)
	fields := rec.index()
	for _, f := range base.fields {
		if _, kept := fields[f.key]; !kept {
			delete(values, f.key)
		}
	}
	return values
}
