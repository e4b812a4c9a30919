package mongostore

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore/internal/bsonval"
)

// ConflictPolicy decides what happens if two requests have loaded the session and both change the
// same key. Concurrent edits of a list ([]any, such as gorilla's flash messages) that only append
// or remove elements are merged under every policy.
type ConflictPolicy int

const (
	// ConflictMerge lets the later save win, key by key.
	ConflictMerge ConflictPolicy = iota

	// ConflictReject fails the later save with [ErrConflict] and writes nothing of it.
	// Changes of different keys are still merged. A handler loads the session again with
	// [Store.New], applies its change, and saves:
	//
	//	for range 3 {
	//		session, err = store.New(r, "session")
	//		...
	//		if err = store.Save(r, w, session); !errors.Is(err, mongostore.ErrConflict) {
	//			break
	//		}
	//	}
	ConflictReject
)

// merger compares and merges the changes of several requests to one session. In its methods,
// before is a key's value when this request loaded the session, theirs is the current value in
// the database, and ours is this request's value. A zero value is an absent value.
type merger struct {
	codec  *valueCodec
	policy ConflictPolicy
}

func (m *merger) same(a, b bsonval.Value) bool {
	return a.IsZero() && b.IsZero() || !a.IsZero() && !b.IsZero() && m.codec.Same(a, b)
}

// mergeValue returns the merged value of a key. If d is not nil, the key is in doubt: this request
// has sent values for it, and does not know whether they were stored.
func (m *merger) mergeValue(before, theirs, ours bsonval.Value, d *doubtfulKey) bsonval.Value {
	if d == nil && m.same(before, ours) {
		return theirs
	}
	before = m.basis(before, theirs, d)
	if m.same(before, theirs) {
		return ours
	}
	if merged, ok := m.mergeLists(before, theirs, ours); ok {
		return merged
	}
	return ours
}

// clashes reports whether others have changed a key that this request changed, to a value that
// this request has not sent itself. Lists that can be merged do not clash.
func (m *merger) clashes(before, theirs, ours bsonval.Value, d *doubtfulKey) bool {
	if m.same(before, theirs) || d == nil && m.same(before, ours) || d.sent(func(v bsonval.Value) bool { return m.same(theirs, v) }) {
		return false
	}
	_, merged := m.mergeLists(before, theirs, ours)
	return !merged
}

// mergeLists applies this request's edits to the list theirs: it removes the elements that this
// request removed, and appends those that it appended. ok is false if one of the values is not
// a list, or if this request changed the list in another way.
func (m *merger) mergeLists(before, theirs, ours bsonval.Value) (_ bsonval.Value, ok bool) {
	was, okBefore := listOf(before)
	merged, okTheirs := listOf(theirs)
	is, okOurs := listOf(ours)
	if !okBefore || !okTheirs || !okOurs {
		return bsonval.Value{}, false
	}
	taken, appended, ok := m.edit(was, is)
	if !ok {
		return bsonval.Value{}, false
	}
	merged = slices.Clone(merged)
	for _, v := range taken {
		if i := m.indexOf(merged, v); i >= 0 {
			merged = slices.Delete(merged, i, i+1)
		}
	}
	merged = append(merged, appended...)
	if len(merged) == 0 && ours.IsZero() {
		return bsonval.Value{}, true
	}
	return bsonval.List(merged), true
}

// edits reports whether a value is a list whose edit can be applied to another version of the
// list.
func (m *merger) edits(before, ours bsonval.Value) bool {
	was, okBefore := listOf(before)
	is, okOurs := listOf(ours)
	if !okBefore || !okOurs || m.same(before, ours) {
		return false
	}
	_, _, ok := m.edit(was, is)
	return ok
}

// edit returns the elements that were removed from a list, and those that were appended. ok
// is false if the list was changed in another way.
func (m *merger) edit(before, after []bsonval.Value) (taken, appended []bsonval.Value, ok bool) {
	kept := 0
	for _, v := range before {
		if kept < len(after) && m.codec.Same(v, after[kept]) {
			kept++
		} else {
			taken = append(taken, v)
		}
	}
	appended = after[kept:]
	moved := func(v bsonval.Value) bool { return m.indexOf(taken, v) >= 0 }
	return taken, appended, !slices.ContainsFunc(appended, moved)
}

func (m *merger) indexOf(list []bsonval.Value, v bsonval.Value) int {
	return slices.IndexFunc(list, func(w bsonval.Value) bool { return m.codec.Same(v, w) })
}

// basis returns the session's value that others changed to theirs: before, or a value that this
// request has sent without a response, if it was stored. For lists, it is the longest of these
// that theirs begins with.
func (m *merger) basis(before, theirs bsonval.Value, d *doubtfulKey) bsonval.Value {
	if d == nil {
		return before
	}
	longest := m.begins(theirs, before)
	for _, a := range d.attempts {
		switch n := m.begins(theirs, a.sent); {
		case n > longest:
			longest, before = n, a.ours
		case n < 0 && m.same(theirs, a.sent):
			before = a.ours
		}
	}
	return before
}

// begins returns the length of the list start if the list v begins with it, and -1 otherwise.
func (m *merger) begins(v, start bsonval.Value) int {
	list, isList := listOf(v)
	first, ok := listOf(start)
	if !isList || !ok || len(first) > len(list) || !slices.EqualFunc(first, list[:len(first)], m.codec.Same) {
		return -1
	}
	return len(first)
}

// listOf returns the elements of a list. An absent value is an empty list.
func listOf(v bsonval.Value) ([]bsonval.Value, bool) {
	if v.IsZero() {
		return nil, true
	}
	return v.List()
}

// changedKeys returns the keys that the plan changes, or whose values are in doubt.
func (p *plan) changedKeys() (keys []any) {
	for _, f := range p.change.set {
		keys = append(keys, f.key)
	}
	for _, f := range p.base.fields {
		if slices.Contains(p.change.unset, f.name) && !slices.Contains(keys, f.key) {
			keys = append(keys, f.key)
		}
	}
	for _, d := range p.doubts.keys {
		if !slices.Contains(keys, d.key) {
			keys = append(keys, d.key)
		}
	}
	return keys
}

// changedNames returns the names of the keys that the plan changes, for [cookieID].
func (p *plan) changedNames() string {
	var names strings.Builder
	names.WriteByte(0)
	for _, key := range p.changedKeys() {
		names.WriteString(p.nameOf(key) + "\x00")
	}
	if p.newAge {
		names.WriteString(changedAge + "\x00")
	}
	if p.newOwner {
		names.WriteString(changedOwner + "\x00")
	}
	return names.String()
}

// editsLists reports whether the plan edits a list, which is then merged with the edits of others.
func (m *merger) editsLists(p *plan) bool {
	for _, key := range p.changedKeys() {
		if m.edits(valueOf(p.base.fields, key), valueOf(p.next.fields, key)) {
			return true
		}
	}
	return false
}

// valueOf returns the value of a key, or a zero value.
func valueOf(fields []field, key any) bsonval.Value {
	if i := slices.IndexFunc(fields, func(f field) bool { return f.key == key }); i >= 0 {
		return fields[i].value
	}
	return bsonval.Value{}
}

// conflict returns [ErrConflict] if the plan and others have changed one key, and the policy
// is [ConflictReject].
func (m *merger) conflict(p *plan, theirs *record) error {
	if m.policy != ConflictReject {
		return nil
	}
	for _, key := range p.changedKeys() {
		if m.clashes(valueOf(p.base.fields, key), valueOf(theirs.fields, key), valueOf(p.next.fields, key), p.doubts.of(key)) {
			return ErrConflict
		}
	}
	return nil
}

// mergeChanged returns the plan's change for a document that others have changed to theirs, the
// resulting fields of this session, and those that differ from the session's values.
func (m *merger) mergeChanged(p *plan, theirs *record) (ch change, fields, merged []field) {
	ch.unset = slices.Clone(p.change.unset)
	for _, key := range p.changedKeys() {
		ours := valueOf(p.next.fields, key)
		f := field{key: key, name: p.nameOf(key), value: m.mergeValue(valueOf(p.base.fields, key), valueOf(theirs.fields, key), ours, p.doubts.of(key))}
		ch.unset = slices.DeleteFunc(ch.unset, func(name string) bool { return name == f.name })
		if f.value.IsZero() {
			ch.unset = append(ch.unset, f.name)
		} else {
			ch.set = append(ch.set, f)
		}
		if !m.same(f.value, ours) {
			merged = append(merged, f)
		}
	}
	slices.SortFunc(ch.set, byName)
	return ch, ch.apply(p.next.fields), merged
}

// mergeAll returns the plan's fields with all changes of others, and the fields that differ from
// the session's values.
func (m *merger) mergeAll(p *plan, theirs *record) (fields, merged []field) {
	before, ours, now := p.base.index(), p.next.index(), theirs.index()
	done := map[any]bool{}
	for _, f := range slices.Concat(p.next.fields, theirs.fields, p.base.fields) {
		if done[f.key] {
			continue
		}
		done[f.key] = true
		o := ours[f.key]
		f = field{key: f.key, name: f.name, value: m.mergeValue(before[f.key].value, now[f.key].value, o.value, p.doubts.of(f.key))}
		if !f.value.IsZero() {
			fields = append(fields, f)
		}
		if !m.same(f.value, o.value) {
			merged = append(merged, f)
		}
	}
	return fields, merged
}

// nameOf returns the name of a key that the plan changes.
func (p *plan) nameOf(key any) string {
	if d := p.doubts.of(key); d != nil {
		return d.name
	}
	for _, fields := range [][]field{p.next.fields, p.base.fields} {
		if i := slices.IndexFunc(fields, func(f field) bool { return f.key == key }); i >= 0 {
			return fields[i].name
		}
	}
	return ""
}

// doubtfulError is the failure of an update that may have been carried out.
type doubtfulError struct {
	error
	made *plan // of the session's changes
	sent *plan // with the changes of others merged
}

func (e *doubtfulError) Unwrap() error { return e.error }

// add returns the doubts including those of p, the plan that was sent. made is the same plan
// before it was rebased.
func (d doubts) add(made, p *plan) doubts {
	sum := doubts{
		keys:  slices.Clone(d.keys),
		age:   d.age || p.newAge,
		owner: d.owner || p.newOwner,
	}
	for _, key := range p.changedKeys() {
		k := doubtfulKey{key: key, name: p.nameOf(key)}
		if earlier := d.of(key); earlier != nil {
			k.attempts = slices.Clone(earlier.attempts)
		}
		k.attempts = append(k.attempts, attempt{valueOf(p.next.fields, key), valueOf(made.next.fields, key)})
		sum.keys = slices.DeleteFunc(sum.keys, func(k doubtfulKey) bool { return k.key == key })
		sum.keys = append(sum.keys, k)
	}
	return sum
}

// diff returns how values differ from the record's fields, and the fields that the record
// has after the change. Keys in doubt count as changed.
func (c *valueCodec) diff(rec *record, values map[any]any, doubts doubts, maxSize int) (ch change, fields []field, err error) {
	var space [512]byte // on the stack
	scratch := space[:0]
	size, kept := 0, 0
	for i := range rec.fields {
		f := rec.fields[i]
		v, ok := values[f.key]
		if !ok {
			ch.unset = append(append(ch.unset, f.name), f.aliases...)
			continue
		}
		kept++
		var kind bson.Type
		if scratch, kind, err = c.Append(scratch[:0], v); err != nil {
			return change{}, nil, valueError(f.name, v, err)
		}
		encoded := bsonval.Value{Kind: kind, Data: scratch}
		if !encoded.Equal(f.value) && !c.Same(encoded, f.value) || doubts.of(f.key) != nil {
			ch.unset = append(ch.unset, f.aliases...)
			f.value, f.aliases = bsonval.Value{Kind: kind, Data: slices.Clone(scratch)}, nil
			if err := c.Verify(f.value); err != nil {
				return change{}, nil, valueError(f.name, v, err)
			}
			ch.set = append(ch.set, f)
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
			if f.name, err = bsonval.EncodeKey(key); err != nil {
				return change{}, nil, fmt.Errorf("key of type %T: %w", key, err)
			}
			if f.value, err = c.Encode(v); err == nil {
				err = c.Verify(f.value)
			}
			if err != nil {
				return change{}, nil, valueError(f.name, v, err)
			}
			ch.set = append(ch.set, f)
			size += f.size()
		}
	}
	for _, d := range doubts.keys {
		if _, ok := values[d.key]; !ok && !slices.Contains(ch.unset, d.name) {
			ch.unset = append(ch.unset, d.name)
		}
	}
	if size > maxSize && len(ch.set) > 0 {
		return change{}, nil, fmt.Errorf("%w: %d bytes of values, at most %d", ErrTooLarge, size, maxSize)
	}
	if ch.empty() {
		return ch, rec.fields, nil
	}
	slices.SortFunc(ch.set, byName)
	return ch, ch.apply(rec.fields), nil
}

// apply returns the fields after the change. It does not modify its argument.
func (c *change) apply(fields []field) []field {
	changed := make([]field, 0, len(fields)+len(c.set))
	changed = append(changed, c.set...)
	for _, f := range fields {
		_, set := slices.BinarySearchFunc(c.set, f, byName)
		if !set && !slices.Contains(c.unset, f.name) {
			changed = append(changed, f)
		}
	}
	return changed
}

func valueError(name string, v any, err error) error {
	return fmt.Errorf("value of key %q, type %T: %w", name, v, err)
}

// fieldsOf returns the fields that a save of the session would store, sorted by name.
func (s *Store) fieldsOf(session *sessions.Session, st *state) ([]field, error) {
	_, fields, err := s.codec.diff(&st.record, session.Values, st.doubts, s.cfg.MaxSize)
	return slices.SortedFunc(slices.Values(fields), byName), err
}

// result is what the database has acknowledged.
type result struct {
	plan      *plan  // as it was carried out
	id        string // of the session
	merged    []mergedValue
	undecided error // the error of an undecided renewal
}

// mergedValue is a value that another request has set or removed.
type mergedValue struct {
	key, value any
	removed    bool
}

// resultOf returns the result of a plan that was carried out.
func (s *Store) resultOf(p *plan) (*result, error) {
	r := result{plan: p, id: p.id}
	for _, f := range p.merged {
		m := mergedValue{key: f.key, removed: f.value.IsZero()}
		if !m.removed {
			var err error
			if m.value, err = s.codec.Decode(f.value); err != nil {
				return nil, corrupt(err)
			}
		}
		r.merged = append(r.merged, m)
	}
	return &r, nil
}
