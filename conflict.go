package mongostore

import "slices"

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
