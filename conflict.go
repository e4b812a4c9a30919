package mongostore

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
	// repeated on a standalone server, it may find itself in conflict with itself.
	Reject
)

// clashes reports whether rec and theirs, which were both made from base, changed one
// key, be it to the same value.
func (rec *record) clashes(base, theirs *record) bool {
	for key := range rec.fields {
		if rec.changed(base, key) && theirs.changed(base, key) {
			return true
		}
	}
	for key := range base.fields {
		if rec.changed(base, key) && theirs.changed(base, key) {
			return true
		}
	}
	return false
}

// changed reports whether rec has another value for a key than base, or only one
// of them has one.
func (rec *record) changed(base *record, key any) bool {
	ours, have := rec.fields[key]
	was, had := base.fields[key]
	return have != had || have && !sameValue(ours.value, was.value)
}
