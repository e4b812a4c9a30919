package mongostore_test

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/samples"
	"github.com/mongostore/mongostore/internal/storetest"
)

// throughCookieStore returns a value after a round trip through CookieStore.
func throughCookieStore(v any) (any, error) {
	encoded, err := securecookie.GobEncoder{}.Serialize(map[any]any{"key": v})
	if err != nil {
		return nil, err
	}
	values := map[any]any{}
	err = securecookie.GobEncoder{}.Deserialize(encoded, &values)
	return values["key"], err
}

// TestValues is promise 4 and 5 of the design: each value comes back with its type, at least as
// faithfully as from CookieStore, stands in the document as BSON's own type where
// that loses nothing, and is not written again when nobody changed it.
func TestValues(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	b.Do(func(s *sessions.Session) {
		for _, row := range samples.Values() {
			s.Values[row.Name] = row.Value
		}
	})
	f.WantCommands("insert")
	document := f.Document()

	session := b.Load()
	if len(session.Values) != len(samples.Values()) {
		t.Errorf("%d values came back of %d", len(session.Values), len(samples.Values()))
	}
	for _, row := range samples.Values() {
		if strings.Contains(row.Name, "monotonic") {
			continue // another time now; see TestMonotonicReading
		}
		t.Run(row.Name, func(t *testing.T) {
			stored := document.Lookup("values", strings.ReplaceAll(row.Name, ".", "%2E"))
			if stored.Type != row.Kind {
				t.Errorf("stored as %v, want %v", stored.Type, row.Kind)
			}
			if row.Tag != "" {
				checkTag(t, stored, row.Tag, row.Inner)
			}
			got := session.Values[row.Name]
			if reflect.TypeOf(got) != reflect.TypeOf(row.Want) {
				t.Errorf("a %T came back as %T, not as %T", row.Value, got, row.Want)
			}
			cookie, err := throughCookieStore(row.Value)
			asCookieStore := err == nil && samples.Same(got, cookie)
			if !samples.Same(got, row.Want) && !asCookieStore {
				t.Errorf("%#v came back as %#v; from CookieStore as %#v, %v", row.Value, got, cookie, err)
			}
			if err == nil && samples.Same(cookie, row.Value) && !samples.Same(got, row.Value) {
				t.Error("CookieStore is more faithful")
			}
		})
	}

	if _, err := b.Save(session); err != nil {
		t.Fatal(err)
	}
	f.WantCommands("find")
}

// checkTag checks that a stored value is {_type: tag, _value: one of the type inner}.
func checkTag(t *testing.T, stored bson.RawValue, tag string, inner bson.Type) {
	t.Helper()
	doc, ok := stored.DocumentOK()
	if !ok {
		t.Fatal("stored as no document")
	}
	elements, err := doc.Elements()
	if err != nil || len(elements) != 2 {
		t.Fatalf("stored as %v, %v", doc, err)
	}
	if got := doc.Lookup("_type"); got.Type != bson.TypeString || got.StringValue() != tag {
		t.Errorf("_type is %v, want %q", got, tag)
	}
	if got := doc.Lookup("_value").Type; got != inner {
		t.Errorf("_value is stored as %v, want %v", got, inner)
	}
}

// TestMonotonicReading: the instant and the zone of a time come back; the reading of the
// monotonic clock means nothing to another process.
func TestMonotonicReading(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	now := time.Now()
	b.Do(func(s *sessions.Session) { s.Values["now"] = now })
	if got := b.Load().Values["now"]; !samples.Same(got, now) || strings.Contains(fmt.Sprint(got), "m=") {
		t.Errorf("%v came back as %v", now, got)
	}
}

// TestChangesInPlace: a value that an application changes without assigning it again
// is stored, and one that it changes back is not.
func TestChangesInPlace(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name           string
		value          any
		change, revert func(v any)
	}{
		{
			name: "map entry", value: map[string]any{"a": 1},
			change: func(v any) { v.(map[string]any)["a"] = 2 },
			revert: func(v any) { v.(map[string]any)["a"] = 1 },
		},
		{
			name: "map entry's type", value: map[string]any{"a": 1},
			change: func(v any) { v.(map[string]any)["a"] = int64(1) },
			revert: func(v any) { v.(map[string]any)["a"] = 1 },
		},
		{
			name: "map entry removed", value: map[string]string{"a": "1", "b": "2"},
			change: func(v any) { delete(v.(map[string]string), "a") },
			revert: func(v any) { v.(map[string]string)["a"] = "1" },
		},
		{
			name: "list element", value: []any{1, "two"},
			change: func(v any) { v.([]any)[1] = nil },
			revert: func(v any) { v.([]any)[1] = "two" },
		},
		{
			name: "[]string element", value: []string{"a", "b"},
			change: func(v any) { v.([]string)[0] = "b" },
			revert: func(v any) { v.([]string)[0] = "a" },
		},
		{
			name: "byte", value: []byte("abc"),
			change: func(v any) { v.([]byte)[2] = 0 },
			revert: func(v any) { v.([]byte)[2] = 'c' },
		},
		{
			name: "struct behind a pointer", value: &samples.Profile{Name: "Ada"},
			change: func(v any) { v.(*samples.Profile).Age++ },
			revert: func(v any) { v.(*samples.Profile).Age-- },
		},
		{
			name: "map in a struct behind a pointer", value: &samples.Profile{Tags: manyTags()},
			change: func(v any) { v.(*samples.Profile).Tags["5"] += "!" },
			revert: func(v any) { v.(*samples.Profile).Tags["5"] = manyTags()["5"] },
		},
		{
			name: "deep inside", value: []any{map[string]any{"a": []any{&samples.Profile{Extra: []any{&samples.Profile{Tags: manyTags()}}}}}},
			change: func(v any) {
				p := v.([]any)[0].(map[string]any)["a"].([]any)[0].(*samples.Profile)
				p.Extra.([]any)[0].(*samples.Profile).Tags["new"] = ""
			},
			revert: func(v any) {
				p := v.([]any)[0].(map[string]any)["a"].([]any)[0].(*samples.Profile)
				delete(p.Extra.([]any)[0].(*samples.Profile).Tags, "new")
			},
		},
		{
			name: "struct in a map like a tag", value: map[string]any{"_type": nil, "a": samples.Card{Tags: manyTags()}},
			change: func(v any) { v.(map[string]any)["a"].(samples.Card).Tags["new"] = "" },
			revert: func(v any) { delete(v.(map[string]any)["a"].(samples.Card).Tags, "new") },
		},
		{
			name: "map like a gob", value: map[string]any{"_type": "gob", "_value": []byte("abc")},
			change: func(v any) { v.(map[string]any)["_value"].([]byte)[0] = 0 },
			revert: func(v any) { v.(map[string]any)["_value"].([]byte)[0] = 'a' },
		},
		{
			name: "named map", value: samples.Scores{"a": 1, "b": 2},
			change: func(v any) { v.(samples.Scores)["a"], v.(samples.Scores)["b"] = 2, 1 },
			revert: func(v any) { v.(samples.Scores)["a"], v.(samples.Scores)["b"] = 1, 2 },
		},
		{
			name: "pointer's number", value: big.NewInt(5),
			change: func(v any) { v.(*big.Int).SetInt64(6) },
			revert: func(v any) { v.(*big.Int).SetInt64(5) },
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t)
			b := f.Browser()
			b.Do(func(s *sessions.Session) { s.Values["key"], s.Values["other"] = row.value, 1 })
			f.WantCommands("insert")

			b.Do(func(s *sessions.Session) {
				row.change(s.Values["key"])
				row.revert(s.Values["key"])
			})
			f.WantCommands("find")

			b.Do(func(s *sessions.Session) { row.change(s.Values["key"]) })
			f.WantCommands("find", "update")
			row.change(row.value)
			if got := b.Load().Values["key"]; !samples.Same(got, row.value) {
				t.Errorf("%#v came back as %#v", row.value, got)
			}

			// In the session that was saved, too.
			session := b.Load()
			f.Log.Reset()
			row.revert(session.Values["key"])
			for range 2 {
				if _, err := b.Save(session); err != nil {
					t.Fatal(err)
				}
			}
			f.WantCommands("update")
		})
	}
}

func manyTags() map[string]string {
	tags := map[string]string{}
	for i := range 30 {
		tags[strconv.Itoa(i)] = strings.Repeat("x", i)
	}
	return tags
}

// TestUnchangedMaps: gob writes a map in another order every time. That is no change.
func TestUnchangedMaps(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	fill := func(s *sessions.Session) {
		s.Values["struct"] = samples.Card{Tags: manyTags(), Extra: &samples.Profile{Tags: manyTags()}}
		s.Values["pointer"] = &samples.Profile{Tags: manyTags()}
		s.Values["list"] = []any{samples.Card{Tags: manyTags()}, map[string]any{"a": samples.Card{Tags: manyTags()}}}
		s.Values["map"] = map[int]string{1: "a", 2: "b", 3: "c", 4: "d", 5: "e"}
	}
	b.Do(fill)
	f.Log.Reset()
	for range 10 {
		b.Do(func(*sessions.Session) {})
		b.Do(fill)
	}
	f.WantCommands(slices.Repeat([]string{"find"}, 20)...)
}

// TestEqualSessionsAreEqualBytes: except for gob, the bytes of a session depend on its values
// alone, not on the order in which they, or the entries of their maps, were put in.
func TestEqualSessionsAreEqualBytes(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	for _, backwards := range []bool{false, true} {
		f.Browser().Do(func(s *sessions.Session) {
			rows := samples.Values()
			m, words, counts := map[string]any{}, map[string]string{}, map[string]int{}
			for i := range 500 {
				if backwards {
					i = 499 - i
				}
				key := strconv.Itoa(i)
				m[key], words[key], counts[key] = i, key, i
			}
			s.Values["map"], s.Values["words"], s.Values["counts"] = m, words, counts
			s.Values["inside"] = []any{m, map[string]any{"m": m}}
			if backwards {
				slices.Reverse(rows)
			}
			for _, row := range rows {
				if row.Tag != "gob" && !row.Mixed && !strings.Contains(row.Name, "monotonic") {
					s.Values[row.Name] = row.Value
				}
			}
		})
	}
	docs := f.Documents()
	if len(docs) != 2 {
		t.Fatalf("%d documents, want 2", len(docs))
	}
	first, second := docs[0].Lookup("values"), docs[1].Lookup("values")
	if !first.Equal(second) {
		t.Error("the documents of equal sessions differ")
	}
}

// TestKeys: whatever a key is, it names one field, from which it comes back; that field, and no
// other, is changed and removed with it.
func TestKeys(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	keys := samples.Keys()

	check := func(step string, want map[any]any) {
		t.Helper()
		got := b.Load().Values
		for key, v := range want {
			if got[key] != v {
				t.Errorf("%s: the value of %T %#v is %v, want %v", step, key, key, got[key], v)
			}
		}
		for key := range got {
			if _, ok := want[key]; !ok {
				t.Errorf("%s: there is a key %T %#v", step, key, key)
			}
		}
	}

	want := map[any]any{}
	for i, k := range keys {
		want[k.Key] = i
	}
	b.Do(func(s *sessions.Session) {
		maps.Copy(s.Values, want)
	})
	check("stored", want)

	fields, err := f.Document().Lookup("values").Document().Elements()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]int{}
	for _, field := range fields {
		samples.CheckFieldName(t, field.Key())
		names[field.Key()] = int(field.Value().Int32())
	}
	for i, k := range keys {
		if got, ok := names[k.Name]; k.Name != "" && (!ok || got != i) {
			t.Errorf("%T %#v is not stored under the name %q", k.Key, k.Key, k.Name)
		}
	}

	b.Do(func(s *sessions.Session) {
		for key, v := range want {
			want[key] = v.(int) + 1000
			s.Values[key] = v.(int) + 1000
		}
	})
	check("changed", want)

	// Every second one goes.
	b.Do(func(s *sessions.Session) {
		for i, k := range keys {
			if i%2 == 0 {
				delete(want, k.Key)
				delete(s.Values, k.Key)
			}
		}
	})
	check("removed", want)

	// One by one, each save telling its own path.
	for _, k := range keys {
		f.Log.Reset()
		b.Do(func(s *sessions.Session) {
			s.Values[k.Key] = -1
			want[k.Key] = -1
		})
		f.WantCommands("find", "update")
	}
	check("added one by one", want)
}

// TestKeysOfAnotherName: gob numbers types in the order in which a process first used them, so
// a key of an application's type may have been stored by another process under
// another name. It is one key: the later name counts, and a change leaves one field.
func TestKeysOfAnotherName(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	key := samples.KeyPair{Shop: "a", User: "b"}
	b.Do(func(s *sessions.Session) { s.Values[key] = "old" })
	f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "values." + otherName(f), Value: "new"}}}})
	f.Log.Reset()

	b.Do(func(s *sessions.Session) {
		if len(s.Values) != 1 || s.Values[key] != "new" {
			t.Errorf("loaded: %v", s.Values)
		}
	})
	f.WantCommands("find")
	b.Do(func(s *sessions.Session) { s.Values["other"] = 1 })
	b.Do(func(s *sessions.Session) {
		if len(s.Values) != 2 || s.Values[key] != "new" {
			t.Errorf("loaded: %v", s.Values)
		}
		delete(s.Values, key)
	})
	if got := b.Load().Values; len(got) != 1 {
		t.Errorf("the key outlived its removal: %v", got)
	}
}

// TestStrayIsLeftAlone: a save that does not touch such a key leaves it as others have stored it
// meanwhile, under whichever name.
func TestStrayIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	key := samples.KeyPair{Shop: "a", User: "b"}
	b.Do(func(s *sessions.Session) { s.Values[key] = "1" })
	f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "values." + otherName(f), Value: "2"}}}})
	early := b.Load()
	b.Do(func(s *sessions.Session) { delete(s.Values, key) })
	b.Do(func(s *sessions.Session) { s.Values[key] = "4" })
	early.Values["another"] = true
	if _, err := b.Save(early); err != nil {
		t.Fatal(err)
	}
	if got := b.Load().Values[key]; got != "4" {
		t.Errorf("a save of another key changed this one to %v", got)
	}
}

// otherName returns the name under which another process may store the only key of the
// only session.
func otherName(f *storetest.Fixture) string {
	f.T.Helper()
	fields, err := f.Document().Lookup("values").Document().Elements()
	if err != nil || len(fields) != 1 {
		f.T.Fatal(fields, err)
	}
	return samples.OtherName(f.T, fields[0].Key())
}

// TestKeysThatCannotComeBack are refused before anything is stored.
func TestKeysThatCannotComeBack(t *testing.T) {
	t.Parallel()
	for _, key := range samples.BadKeys() {
		if !reflect.TypeOf(key).Comparable() {
			continue // Values cannot hold it
		}
		typeName := fmt.Sprintf("%T", key)
		t.Run(typeName, func(t *testing.T) {
			t.Parallel()
			wantRefused(t, func(s *sessions.Session) { s.Values[key] = "confidential" }, "key", typeName)
		})
	}
}

// wantRefused checks that a save fails with an error that holds the texts and no value, that
// nothing is stored and no cookie sent, for a new session and for a stored one.
func wantRefused(t *testing.T, change func(*sessions.Session), texts ...string) {
	t.Helper()
	f := storetest.Setup(t)
	for _, stored := range []bool{false, true} {
		b := f.Browser()
		if stored {
			b.Login()
		}
		before := f.Documents()
		f.Log.Reset()
		session := b.Load()
		session.Values["good"] = "confidential"
		change(session)
		w, err := b.Save(session)
		if err == nil {
			t.Fatal("saved")
		}
		for _, text := range texts {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("the error does not tell %q: %v", text, err)
			}
		}
		if strings.Contains(err.Error(), "confidential") {
			t.Errorf("the error tells a value: %v", err)
		}
		if cookies := w.Header()["Set-Cookie"]; cookies != nil {
			t.Errorf("a cookie is sent: %q", cookies)
		}
		if names := f.Log.Reset(); len(names) > 1 {
			t.Errorf("commands sent: %q", names)
		}
		if !reflect.DeepEqual(before, f.Documents()) {
			t.Error("the database has changed")
		}
		// What was wrong can be mended.
		session.Values = map[any]any{"good": true}
		if _, err := b.Save(session); err != nil {
			t.Error("save without it:", err)
		}
		if got := b.Load().Values["good"]; got != true {
			t.Errorf("stored after that: %v", got)
		}
	}
}

// TestUnencodableValues fail the save, with the key and the type in the error.
func TestUnencodableValues(t *testing.T) {
	t.Parallel()
	for _, row := range samples.BadValues() {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			wantRefused(t, func(s *sessions.Session) { s.Values["a.key"] = row.Value }, `"a%2Ekey"`, fmt.Sprintf("%T", row.Value))
		})
	}
}

// TestValueThatCannotBeReadBackIsNotStored: its Save fails with an error that names key and type. One
// that is in the database anyway fails the load, and cannot be overwritten.
func TestValueThatCannotBeReadBackIsNotStored(t *testing.T) {
	t.Parallel()
	gobOf := func(v any) bson.RawValue {
		var buf bytes.Buffer
		if err := gob.NewEncoder(&buf).Encode(&v); err != nil {
			t.Fatal(err)
		}
		return samples.GobValue(t, buf.Bytes())
	}
	bad := samples.Clumsy{Text: samples.DecodePanics}
	for _, row := range []struct {
		value    any
		typeName string
		stored   any
	}{
		{bad, "samples.Clumsy", gobOf(bad)},
		{[]any{bad}, "[]interface {}", bson.A{gobOf(bad)}},
		{samples.Card{Extra: bad}, "samples.Card", gobOf(samples.Card{Extra: bad})},
	} {
		f := storetest.Setup(t)
		b := f.Browser().Login()
		session := b.Load()
		session.Values["key"] = row.value
		before := f.Documents()
		if w, err := b.Save(session); err == nil || !strings.Contains(err.Error(), `"key"`) || !strings.Contains(err.Error(), row.typeName) || w.Header()["Set-Cookie"] != nil {
			t.Errorf("%s, save: %v", row.typeName, err)
		}
		if !reflect.DeepEqual(before, f.Documents()) {
			t.Errorf("%s: the save has changed the database", row.typeName)
		}

		f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "values.key", Value: row.stored}}}})
		before = f.Documents()
		session, err := b.Store.Get(b.Request(), storetest.Name)
		if !errors.Is(err, mongostore.ErrCorrupt) || !strings.Contains(err.Error(), `"key"`) {
			t.Errorf("%s, load: %v", row.typeName, err)
		}
		session.Values["key"] = "overwritten"
		w, err := b.Save(session)
		if !errors.Is(err, mongostore.ErrCorrupt) || w.Header()["Set-Cookie"] != nil {
			t.Errorf("%s, save of what cannot be read: %v", row.typeName, err)
		}
		if !reflect.DeepEqual(before, f.Documents()) {
			t.Errorf("%s: the second save has changed the database", row.typeName)
		}
	}
}

// TestDeepNesting: MongoDB takes a hundred levels. Values nested deeper are stored
// too.
func TestDeepNesting(t *testing.T) {
	t.Parallel()
	for _, row := range samples.Nestings() {
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			value := row.Value
			f := storetest.Setup(t)
			b := f.Browser()
			for range 2 { // the second one as a change
				session := b.Load()
				session.Values["key"] = value
				if _, err := b.Save(session); err != nil {
					// As with CookieStore, for want of gob.Register(map[string]any{}).
					if _, errCookie := throughCookieStore(value); errCookie == nil || !strings.Contains(err.Error(), "not registered") {
						t.Fatal(err)
					}
					return
				}
				if got := samples.Levels(f.Document()); got > 90 {
					t.Errorf("the document has %d levels", got)
				}
				f.Log.Reset()
				b.Do(func(s *sessions.Session) {
					if !samples.Same(s.Values["key"], value) {
						t.Error("another value came back")
					}
				})
				f.WantCommands("find")
				value = row.Deeper(value)
			}
		})
	}
}

// Types whose own encoding succeeds, and whose own decoding does not.

type pickyBinary struct{ Text string }

func (p pickyBinary) MarshalBinary() ([]byte, error) { return []byte(p.Text), nil }

func (p *pickyBinary) UnmarshalBinary(data []byte) error {
	if strings.HasPrefix(string(data), "bad") {
		return errors.New("invalid: " + string(data))
	}
	p.Text = string(data)
	return nil
}

type pickyGob struct{ Text string }

func (p pickyGob) GobEncode() ([]byte, error) { return []byte(p.Text), nil }

func (p *pickyGob) GobDecode(data []byte) error {
	if strings.HasPrefix(string(data), "bad") {
		return fmt.Errorf("invalid: %s", data)
	}
	p.Text = string(data)
	return nil
}

type panickyGob struct{ Text string }

func (p panickyGob) GobEncode() ([]byte, error) { return []byte(p.Text), nil }

func (p *panickyGob) GobDecode(data []byte) error {
	if strings.HasPrefix(string(data), "bad") {
		panic("invalid: " + string(data))
	}
	p.Text = string(data)
	return nil
}

// holder has one of them inside.
type holder struct {
	Name  string
	Inner pickyBinary
}

// refusingGob cannot even be encoded, and says why.
type refusingGob struct{ Text string }

func (p refusingGob) GobEncode() ([]byte, error)   { return nil, errors.New("refused: " + p.Text) }
func (p *refusingGob) GobDecode(data []byte) error { p.Text = string(data); return nil }

type panickyEncoder struct{ Text string }

func (p panickyEncoder) GobEncode() ([]byte, error)   { panic("refused: " + p.Text) }
func (p *panickyEncoder) GobDecode(data []byte) error { p.Text = string(data); return nil }

func registerPicky() {
	for _, v := range []any{
		&url.URL{},
		pickyBinary{},
		pickyGob{},
		panickyGob{},
		holder{},
		[]pickyBinary{},
		map[string]pickyGob{},
		refusingGob{},
		panickyEncoder{},
		evolving{},
		measure{},
		map[string]float64{},
		[]float64{},
	} {
		gob.Register(v)
	}
}

// TestWhatCannotBeReadBackIsNotStored: the save that would store it fails. Its error
// names the key and the type, and holds nothing of the value.
func TestWhatCannotBeReadBackIsNotStored(t *testing.T) {
	t.Parallel()
	registerPicky()
	const bad = "bad?card=" + storetest.CardNumber
	address, err := url.ParseRequestURI("//[?card=" + storetest.CardNumber) // as net/http parses GET //[
	if err != nil {
		t.Fatal(err)
	}
	for what, row := range map[string]struct {
		value    any
		typeName string
	}{
		"url.URL":                   {address, "url.URL"},
		"UnmarshalBinary":           {pickyBinary{bad}, "pickyBinary"},
		"GobDecode":                 {pickyGob{bad}, "pickyGob"},
		"GobDecode that panics":     {panickyGob{bad}, "panickyGob"},
		"field":                     {holder{"x", pickyBinary{bad}}, "holder"},
		"pointer":                   {&pickyGob{bad}, "pickyGob"},
		"slice":                     {[]pickyBinary{{"good"}, {bad}}, "pickyBinary"},
		"map":                       {map[string]pickyGob{"k": {bad}}, "pickyGob"},
		"element of a list":         {[]any{1, pickyGob{bad}}, ""},
		"element of a document":     {map[string]any{"k": pickyGob{bad}}, ""},
		"deep element":              {map[string]any{"k": []any{map[string]any{"l": panickyGob{bad}}}}, ""},
		"encoding that is refused":  {refusingGob{bad}, "refusingGob"},
		"encoding that panics":      {panickyEncoder{bad}, "panickyEncoder"},
		"refused within a document": {map[string]any{"k": refusingGob{bad}}, ""},
	} {
		for how, save := range map[string]func(*storetest.Browser, *sessions.Session) (*httptest.ResponseRecorder, error){
			"Save":  (*storetest.Browser).Save,
			"Renew": (*storetest.Browser).Renew,
			"Persist": func(b *storetest.Browser, s *sessions.Session) (*httptest.ResponseRecorder, error) {
				return httptest.NewRecorder(), b.Store.Persist(b.F.T.Context(), s)
			},
		} {
			t.Run(what+", "+how, func(t *testing.T) {
				t.Parallel()
				f := storetest.Setup(t)
				check := func(b *storetest.Browser, session *sessions.Session) {
					t.Helper()
					session.Values["return to"] = row.value
					w, err := save(b, session)
					storetest.WantNoCookie(t, what, w)
					if err == nil {
						t.Fatal("no error")
					}
					if text := err.Error(); !strings.Contains(text, "return to") || !strings.Contains(text, row.typeName) || strings.Contains(text, storetest.CardNumber) {
						t.Errorf("error: %v", err)
					}
					for _, sentinel := range []error{mongostore.ErrUnavailable, mongostore.ErrGone, mongostore.ErrCorrupt} {
						if errors.Is(err, sentinel) {
							t.Errorf("error: %v", err)
						}
					}
				}
				b := f.Browser()
				check(b, b.Load())
				f.WantDocuments(0)
				b.Visit(storetest.SetValue("user", "ada"))
				before := f.Document()
				session := b.Load()
				check(b, session)
				f.WantDocuments(1)
				if string(f.Document()) != string(before) {
					t.Error("the document has changed")
				}
				// Without the value the session can be saved.
				delete(session.Values, "return to")
				session.Values["n"] = 1
				b.MustSave(session)
				b.WantIn("afterwards")
				// Nor does it replace a value that the key has.
				b.Visit(storetest.SetValue("return to", "/"))
				before = f.Document()
				check(b, b.Load())
				if string(f.Document()) != string(before) {
					t.Error("the document has changed")
				}
			})
		}
	}
}

// TestKeyThatCannotBeReadBackIsNotStored: keys are values, too.
func TestKeyThatCannotBeReadBackIsNotStored(t *testing.T) {
	t.Parallel()
	registerPicky()
	f := storetest.Setup(t)
	for what, key := range map[string]any{
		"UnmarshalBinary": pickyBinary{"bad " + storetest.CardNumber}, "GobDecode": pickyGob{"bad " + storetest.CardNumber}, "panic": panickyGob{"bad " + storetest.CardNumber},
	} {
		b := f.Browser()
		session := b.Load()
		session.Values[key] = 1
		w, err := b.Save(session)
		if err == nil || strings.Contains(err.Error(), storetest.CardNumber) {
			t.Errorf("%s: %v", what, err)
		}
		storetest.WantNoCookie(t, what, w)
	}
	f.WantDocuments(0)
}

// evolving is a type that becomes stricter with a deploy.
type evolving struct{ Text string }

var strict atomic.Int32

func (e evolving) GobEncode() ([]byte, error) { return []byte(e.Text), nil }

func (e *evolving) GobDecode(data []byte) error {
	switch strict.Load() {
	case 1:
		return fmt.Errorf("invalid: %q", data)
	case 2:
		panic(fmt.Sprintf("invalid: %q", data))
	case 3:
		panic(fmt.Errorf("invalid: %q", data))
	}
	e.Text = string(data)
	return nil
}

// TestErrorOfADecoderHoldsNoValue: neither the error of a load nor a warning holds what a
// type's own decoding says.
func TestErrorOfADecoderHoldsNoValue(t *testing.T) {
	registerPicky()
	t.Cleanup(func() { strict.Store(0) })
	f := storetest.Setup(t, func(c *mongostore.Config) { c.OwnerKey = "user" })
	b := f.Browser()
	b.Visit(func(s *sessions.Session) {
		s.Values["user"], s.Values["return to"] = "ada", evolving{storetest.CardNumber}
	})
	id := b.Load().ID
	loaded := b.Load()
	for mode := range int32(3) {
		strict.Store(mode + 1)
		_, errNew := f.Store.New(b.Request(), storetest.Name)
		_, errFetch := f.Store.Fetch(t.Context(), storetest.Name, id)
		for what, err := range map[string]error{"New": errNew, "Fetch": errFetch} {
			if !errors.Is(err, mongostore.ErrCorrupt) {
				t.Fatalf("%s: %v", what, err)
			}
			if text := err.Error(); !strings.Contains(text, "return to") || strings.Contains(text, storetest.CardNumber) {
				t.Errorf("%s: %v", what, err)
			}
		}
		loaded.Values["return to"] = evolving{storetest.CardNumber + "0"}
		if _, err := b.Save(loaded); err == nil || strings.Contains(err.Error(), storetest.CardNumber) {
			t.Errorf("Save: %v", err)
		}
	}
	if log := f.Text.String(); strings.Contains(log, storetest.CardNumber) {
		t.Errorf("log: %s", log)
	}
}

// measure is a type of an application, with floats in it.
type measure struct {
	Value  float64
	Series map[string]float64
	List   []float64
}

// TestPointerIsStoredAsWhatItPointsTo: as gob does, and it is not written again.
func TestPointerIsStoredAsWhatItPointsTo(t *testing.T) {
	t.Parallel()
	text, other, number, list := "text", "other", 7, []string{"a", "b"}
	otherPointer, at, c := &other, time.Now().UTC().Truncate(time.Millisecond), cart{Items: []item{{"tea", 2}}}
	yes, float := true, 1.5
	for what, row := range map[string]struct {
		value any
		kind  bson.Type // 0 for any
	}{
		"*string":    {&text, bson.TypeString},
		"**string":   {&otherPointer, bson.TypeString},
		"*int":       {&number, bson.TypeInt32},
		"*bool":      {&yes, bson.TypeBoolean},
		"*float64":   {&float, bson.TypeDouble},
		"*time.Time": {&at, bson.TypeDateTime},
		"*[]string":  {&list, 0},
		"*cart":      {&c, 0},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			want, err := throughCookieStore(row.value)
			if p, ok := row.value.(*time.Time); ok { // which gob does not know by itself
				want, err = *p, nil
			}
			if err != nil {
				t.Fatal(err)
			}
			f := storetest.Setup(t)
			b := f.Browser()
			session := b.Load()
			session.Values["p"] = row.value
			b.MustSave(session)
			if got := b.Load().Values["p"]; !reflect.DeepEqual(got, want) {
				t.Errorf("read back: %T %v, want %T %v", got, got, want, want)
			}
			stored := f.Document().Lookup("values", "p")
			if row.kind != 0 && stored.Type != row.kind {
				t.Errorf("stored as %v: %v", stored.Type, stored)
			}
			f.Log.Reset()
			for range 3 {
				b.MustSave(session)
			}
			f.WantCommands()
			for range 3 {
				storetest.WantNoCookie(t, "unchanged", b.Visit(storetest.Unchanged))
				f.WantCommands("find")
			}
			// A change of what it points to is one.
			if p, ok := row.value.(*string); ok {
				*p = "another text"
				f.Log.Reset()
				b.MustSave(session)
				f.WantCommands("update")
				if got := b.Load().Values["p"]; got != "another text" {
					t.Errorf("changed: %v", got)
				}
			}
		})
	}
}

// TestNaNEqualsItself: a session that contains a NaN is not written again, and causes no false
// conflict.
func TestNaNEqualsItself(t *testing.T) {
	t.Parallel()
	registerPicky()
	nan := math.NaN()
	series := map[string]float64{}
	for i := range 20 {
		series[fmt.Sprint(i)] = nan
	}
	for what, value := range map[string]any{
		"bare":     nan,
		"struct":   measure{Value: nan},
		"pointer":  &measure{Value: nan},
		"map":      series,
		"list":     []float64{1, nan, 2},
		"own map":  measure{Series: series},
		"own list": measure{List: []float64{nan}},
		"any list": []any{nan, measure{Value: nan, Series: series}},
		"document": map[string]any{"a": nan, "b": measure{Series: series}},
		"complex":  complex(nan, nan),
		"float32":  float32(nan),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, func(c *mongostore.Config) { c.OnConflict = mongostore.ConflictReject })
			b := f.Browser()
			session := b.Load()
			session.Values["v"] = value
			b.MustSave(session)
			f.Log.Reset()
			for range 3 {
				b.MustSave(session)
			}
			f.WantCommands()
			for range 5 {
				b.Visit(storetest.Unchanged)
				f.WantCommands("find")
			}
			first, second := b.Load(), b.Load()
			first.Values["a"], second.Values["b"] = 1, 2
			for _, s := range []*sessions.Session{first, second} {
				if _, err := b.Save(s); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// Types of an application that are stored as BSON documents.

type (
	person struct {
		Name    string            `bson:"name"`
		Age     int               `bson:"age"`
		Tags    map[string]string `bson:"tags"`
		Friends []*person         `bson:"friends,omitempty"`
		Since   time.Time         `bson:"since"`
		Score   float64           `bson:"score"`
		Next    any               `bson:"next"`
		secret  string
	}
	people      []person
	priceList   map[string]float64
	pair[T any] struct {
		Left, Right T
	}
	pointed struct {
		Text string
		Tags map[string]int
	}
	userName string
)

func namedTypes() []mongostore.Type {
	return []mongostore.Type{
		mongostore.TypeOf[person]("person"),
		mongostore.TypeOf[people]("people"),
		mongostore.TypeOf[priceList]("prices"),
		mongostore.TypeOf[pair[person]]("pair of persons"),
		mongostore.TypeOf[pair[int]]("pair of ints"),
		mongostore.TypeOf[pair[any]]("pair of anything"),
		mongostore.TypeOf[*pointed]("pointed"),
		mongostore.TypeOf[userName]("user name"),
	}
}

func withTypes(types ...mongostore.Type) func(*mongostore.Config) {
	return func(c *mongostore.Config) { c.Types = types }
}

func newPerson() person {
	p := person{
		Name:    "Ada",
		Age:     36,
		Tags:    map[string]string{},
		Friends: []*person{{Name: "Bob", Tags: map[string]string{"a": "b"}}, {}},
		Since:   time.Date(2024, 2, 29, 1, 2, 3, 4_000_000, time.UTC),
		Score:   0.1,
		Next:    "text",
	}
	for i := range 20 { // written in another order each time
		p.Tags[strconv.Itoa(i)] = "x"
	}
	return p
}

// storedPerson is what comes back of [newPerson].
func storedPerson() person {
	p := newPerson()
	for _, friend := range p.Friends {
		friend.Since = time.Time{}.UTC()
	}
	return p
}

type typedSample struct {
	name        string
	value, want any
	tag         string
	inner       bson.Type
	change      func(any) // in place
}

func typedSamples() []typedSample {
	ada := newPerson()
	prices := priceList{}
	for i := range 20 {
		prices[strconv.Itoa(i)] = float64(i)
	}
	return []typedSample{
		{"struct", newPerson(), storedPerson(), "person", bson.TypeEmbeddedDocument, func(v any) { v.(person).Tags["7"] = "y" }},
		{"pointer to a struct", &ada, storedPerson(), "person", bson.TypeEmbeddedDocument, func(v any) { v.(person).Friends[0].Name = "y" }},
		{"pointer type", &pointed{"a", map[string]int{"b": 1, "c": 2}}, &pointed{"a", map[string]int{"b": 1, "c": 2}}, "pointed", bson.TypeEmbeddedDocument, func(v any) { v.(*pointed).Text = "y" }},
		{"struct of a pointer type", pointed{Text: "a"}, &pointed{Text: "a"}, "pointed", bson.TypeEmbeddedDocument, func(v any) { v.(*pointed).Tags = map[string]int{"y": 1} }},
		{"named slice", people{newPerson(), {}}, people{storedPerson(), {Since: time.Time{}.UTC()}}, "people", bson.TypeArray, func(v any) { v.(people)[1].Age = 7 }},
		{"empty slice", people{}, people{}, "people", bson.TypeArray, nil},
		{"named map", prices, prices, "prices", bson.TypeEmbeddedDocument, func(v any) { v.(priceList)["7"] = 8 }},
		{"generic", pair[person]{newPerson(), newPerson()}, pair[person]{storedPerson(), storedPerson()}, "pair of persons", bson.TypeEmbeddedDocument, func(v any) { v.(pair[person]).Right.Tags["7"] = "y" }},
		{"another generic", pair[int]{1, math.MaxInt64}, pair[int]{1, math.MaxInt64}, "pair of ints", bson.TypeEmbeddedDocument, nil},
		{"maps in interfaces", pair[any]{mapOf(9), []any{mapOf(3), nil, map[int]any{2: mapOf(2), 1: bson.M{"b": 1, "a": 2}}}}, pair[any]{
			sortedMap(9), bson.A{sortedMap(3), nil, bson.D{{Key: "1", Value: bson.D{{Key: "a", Value: int32(2)}, {Key: "b", Value: int32(1)}}}, {Key: "2", Value: sortedMap(2)}}},
		}, "pair of anything", bson.TypeEmbeddedDocument, func(v any) { v.(pair[any]).Right.(bson.A)[0].(bson.D)[1].Value = "y" }},
		{"named string", userName("ada"), userName("ada"), "user name", bson.TypeString, nil},
	}
}

// mapOf returns a map of so many keys, and sortedMap what becomes of it in a field of type any.
func mapOf(n int) map[string]any {
	m := map[string]any{}
	for i := range n {
		m[strconv.Itoa(i)] = i
	}
	return m
}

func sortedMap(n int) (d bson.D) {
	for i := range n {
		d = append(d, bson.E{Key: strconv.Itoa(i), Value: int32(i)})
	}
	return d
}

// TestNamedTypes: values of Config.Types are documents, alone and within lists and maps. Only a
// change is written, also under sealing.
func TestNamedTypes(t *testing.T) {
	t.Parallel()
	for name, seal := range map[string][][]byte{"plain": nil, "sealed": {storetest.SealKey(t)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := storetest.Setup(t, withTypes(namedTypes()...), func(c *mongostore.Config) { c.SealKeys = seal })
			b := f.Browser()
			b.Do(func(s *sessions.Session) {
				for _, row := range typedSamples() {
					s.Values[row.name] = row.value
					s.Values[row.name+", nested"] = []any{1, map[string]any{"a.b": row.value, "_type": []any{row.value}}}
				}
			})
			document := f.Document()
			f.Log.Reset()
			again := b.Load() // with the values of Go that are stored, so in a map's random order
			for _, row := range typedSamples() {
				again.Values[row.name] = row.value
			}
			for range 5 {
				b.MustSave(again)
			}
			f.WantCommands("find")
			for range 5 {
				s := b.Load()
				for _, row := range typedSamples() {
					nested := []any{1, map[string]any{"a.b": row.want, "_type": []any{row.want}}}
					if got := s.Values[row.name]; !samples.Same(got, row.want) {
						t.Errorf("%s: came back as %#v", row.name, got)
					}
					if got := s.Values[row.name+", nested"]; !samples.Same(got, nested) {
						t.Errorf("%s, nested: came back as %#v", row.name, got)
					}
				}
				b.MustSave(s)
				b.MustSave(s)
				f.WantCommands("find")
			}
			// Setting what was stored is no change either, whatever BSON has lost of it.
			b.Do(func(s *sessions.Session) {
				for _, row := range typedSamples() {
					s.Values[row.name] = row.value
				}
			})
			f.WantCommands("find")

			for _, row := range typedSamples() {
				if seal == nil {
					checkTag(t, document.Lookup("values", row.name), row.tag, row.inner)
				}
				if row.change == nil {
					continue
				}
				b.Do(func(s *sessions.Session) { row.change(s.Values[row.name]) })
				f.WantCommands("find", "update")
				row.change(row.want)
				if got := b.Load().Values[row.name]; !samples.Same(got, row.want) {
					t.Errorf("%s: came back as %#v after a change", row.name, got)
				}
				f.WantCommands("find")
			}
		})
	}
}

// TestNamedTypeIsFoundInMongosh, with the names of the struct tags.
func TestNamedTypeIsFoundInMongosh(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, withTypes(namedTypes()...))
	ada, bob := newPerson(), person{Name: "Bob", secret: "lost"}
	f.Browser().Do(storetest.SetValue("user", ada))
	f.Browser().Do(storetest.SetValue("user", bob))
	for _, query := range []bson.D{
		{{Key: "values.user._value.name", Value: "Bob"}},
		{{Key: "values.user._value.age", Value: 0}, {Key: "values.user._type", Value: "person"}},
	} {
		raw, err := f.Coll.FindOne(t.Context(), query).Raw()
		if err != nil {
			t.Fatal(query, err)
		}
		text, err := bson.MarshalExtJSON(raw.Lookup("values"), false, false)
		want := `{"user":{"_type":"person","_value":{"name":"Bob","age":0,"tags":null,"since":{"$date":{"$numberLong":"-62135596800000"}},"score":0.0,"next":null}}}`
		if err != nil || string(text) != want {
			t.Errorf("stored as %s, %v; want %s", text, err, want)
		}
	}
}

// TestNamedTypesAreChecked by Open.
func TestNamedTypesAreChecked(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	for name, types := range map[string][]mongostore.Type{
		"name used twice":      {mongostore.TypeOf[person]("a"), mongostore.TypeOf[people]("a")},
		"type used twice":      {mongostore.TypeOf[person]("a"), mongostore.TypeOf[person]("b")},
		"type and its pointer": {mongostore.TypeOf[person]("a"), mongostore.TypeOf[*person]("b")},
		"no name":              {mongostore.TypeOf[person]("")},
		"reserved name":        {mongostore.TypeOf[person]("gob")},
		"native type":          {mongostore.TypeOf[string]("a")},
		"interface":            {mongostore.TypeOf[any]("a")},
		"zero Type":            {{}},
		"no exported field":    {mongostore.TypeOf[struct{ n int }]("a")},
		"embedded, unexported": {mongostore.TypeOf[struct{ pointed }]("a")},
	} {
		cfg := f.Cfg
		cfg.Types = types
		store, err := mongostore.Open(t.Context(), cfg, signingKey)
		if err == nil {
			t.Errorf("%s: accepted", name)
			_ = store.Close(t.Context())
		} else if errors.Is(err, mongostore.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNamedTypeThatGobStored: a value that gob stored is loaded, and stays as it is until it
// changes. Then it is a document.
func TestNamedTypeThatGobStored(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t)
	b := f.Browser()
	card := cart{Items: []item{{"tea", 2}}, Notes: map[string]string{"a": "b", "c": "d", "e": "f"}}
	b.Do(func(s *sessions.Session) {
		s.Values["cart"], s.Values["list"] = card, []any{card}
	})
	checkTag(t, f.Document().Lookup("values", "cart"), "gob", bson.TypeBinary)

	b = b.At(f.Another(withTypes(mongostore.TypeOf[cart]("cart"))))
	before := f.Document()
	for range 5 {
		s := b.Load()
		if !reflect.DeepEqual(s.Values["cart"], card) || !reflect.DeepEqual(s.Values["list"], []any{card}) {
			t.Errorf("loaded as %#v", s.Values)
		}
		b.MustSave(s)
	}
	if after := f.Document(); !bytes.Equal(before, after) {
		t.Errorf("written without a change: %v", after)
	}
	b.Do(func(s *sessions.Session) {
		c, _ := mongostore.Value[cart](s, "cart")
		c.Notes["a"] = "z"
	})
	after := f.Document()
	checkTag(t, after.Lookup("values", "cart"), "cart", bson.TypeEmbeddedDocument)
	if !after.Lookup("values", "list").Equal(before.Lookup("values", "list")) {
		t.Error("the list was written without a change")
	}
	if c, ok := mongostore.Value[cart](b.Load(), "cart"); !ok || c.Notes["a"] != "z" || c.Items[0] != card.Items[0] {
		t.Errorf("the cart is %v %t after the change", c, ok)
	}
}

// TestFieldsOfNamedTypesComeAndGo: two releases of an application share the sessions.
func TestFieldsOfNamedTypesComeAndGo(t *testing.T) {
	t.Parallel()
	type older struct {
		Name string
		Old  []string
	}
	type newer struct {
		Name string
		New  map[string]int
	}
	f := storetest.Setup(t, withTypes(mongostore.TypeOf[older]("user")))
	before := f.Browser()
	before.Do(storetest.SetValue("user", older{"Ada", []string{"x"}}))
	stored := f.Document()
	after := before.At(f.Another(withTypes(mongostore.TypeOf[newer]("user"))))
	s := after.Load()
	if got, ok := mongostore.Value[newer](s, "user"); !ok || !reflect.DeepEqual(got, newer{Name: "Ada"}) {
		t.Errorf("loaded as %#v", s.Values["user"])
	}
	after.MustSave(s)
	if !bytes.Equal(stored, f.Document()) {
		t.Error("written without a change")
	}
	after.Do(storetest.SetValue("user", newer{"Ada", map[string]int{"a": 1}}))
	if got, ok := mongostore.Value[older](before.Load(), "user"); !ok || !reflect.DeepEqual(got, older{Name: "Ada"}) {
		t.Errorf("the older release loads %#v, %t", got, ok)
	}
}

// TestNamedTypeThatIsUnknown is reported, and nothing of the session is lost.
func TestNamedTypeThatIsUnknown(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, withTypes(namedTypes()...))
	b := f.Browser()
	b.Do(storetest.SetValue("user", newPerson()))
	stored := f.Document()
	for name, change := range map[string]func(*mongostore.Config){
		"no types":             withTypes(),
		"another type":         withTypes(mongostore.TypeOf[people]("people")),
		"type of another kind": withTypes(mongostore.TypeOf[people]("person")),
	} {
		store := f.Another(change)
		s, err := store.New(b.Request(), storetest.Name)
		if !errors.Is(err, mongostore.ErrCorrupt) || !strings.Contains(err.Error(), `"user"`) || strings.Contains(err.Error(), "Ada") {
			t.Errorf("%s: %v", name, err)
		}
		s.Values["n"] = 1
		if err := store.Save(b.Request(), httptest.NewRecorder(), s); !errors.Is(err, mongostore.ErrCorrupt) {
			t.Errorf("%s: saved: %v", name, err)
		}
		restart := f.Another(change, func(c *mongostore.Config) { c.OnCorrupt = mongostore.CorruptRestart })
		if s, err := restart.New(b.Request(), storetest.Name); err != nil || !s.IsNew || len(s.Values) != 0 {
			t.Errorf("%s, restarted: %v, %v", name, s.Values, err)
		}
		if !bytes.Equal(stored, f.Document()) {
			t.Errorf("%s: the document has changed", name)
		}
	}
	if got := b.Load().Values["user"]; !samples.Same(got, storedPerson()) {
		t.Errorf("the user is %#v", got)
	}
}

// TestNamedTypesMerge: flash messages of a named type that concurrent requests add, and changes
// beside a value whose bytes are never the same.
func TestNamedTypesMerge(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, withTypes(namedTypes()...), func(c *mongostore.Config) { c.OnConflict = mongostore.ConflictReject })
	b := f.Browser()
	b.Do(func(s *sessions.Session) {
		s.AddFlash(newPerson())
		s.Values["user"] = newPerson()
	})
	one, two := b.Load(), b.Load()
	one.AddFlash(person{Name: "one"})
	one.Values["n"] = 1
	two.AddFlash(person{Name: "two"})
	b.MustSave(one)
	b.MustSave(two)
	var names []string
	s := b.Load()
	for _, flash := range s.Flashes() {
		names = append(names, flash.(person).Name)
	}
	if want := []string{"Ada", "one", "two"}; !slices.Equal(names, want) {
		t.Errorf("flashes: %q, want %q", names, want)
	}
	b.MustSave(s)

	// The same key, changed by two.
	one, two = b.Load(), b.Load()
	one.Values["user"].(person).Tags["7"] = "one"
	two.Values["user"].(person).Tags["8"] = "two"
	b.MustSave(one)
	if _, err := b.Save(two); !errors.Is(err, mongostore.ErrConflict) {
		t.Errorf("the second change: %v", err)
	}
}

// TestOwnerOfANamedType: the owner is what the type holds.
func TestOwnerOfANamedType(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, withTypes(namedTypes()...), func(c *mongostore.Config) { c.OwnerKey = "user" })
	b := f.Browser().LoginAs(userName("ada"))
	if owner, ok := f.Document().Lookup("owner").StringValueOK(); owner != "ada" || !ok {
		t.Errorf("the owner is %q", owner)
	}
	if n := len(storetest.SessionsOf(t, f.Store, userName("ada"))); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
	if got := b.Load().Values["user"]; got != userName("ada") {
		t.Errorf("the user is %#v", got)
	}
}

// TestNamedTypesThatCannotBeStored: nothing is written, and the error holds no value.
func TestNamedTypesThatCannotBeStored(t *testing.T) {
	t.Parallel()
	f := storetest.Setup(t, withTypes(namedTypes()...))
	b := f.Browser().Login()
	before := f.Document()
	loop := &person{Name: "confidential"}
	loop.Friends = []*person{loop}
	for name, v := range map[string]any{
		"function":        pair[any]{"confidential", func() {}},
		"channel":         pair[any]{"confidential", make(chan int)},
		"contains itself": loop,
		"invalid text":    person{Name: "confidential\xff"},
		"key with NUL":    priceList{"confidential\x00": 1},
		"nil pointer":     (*person)(nil),
		"too large":       person{Name: strings.Repeat("confidential", 1<<20)},
	} {
		s := b.Load()
		s.Values["bad"] = []any{v}
		_, err := b.Save(s)
		if err == nil || strings.Contains(err.Error(), "confidential") {
			t.Errorf("%s: %.200v", name, err)
		}
		if (name == "too large") != errors.Is(err, mongostore.ErrTooLarge) {
			t.Errorf("%s: %.200v", name, err)
		}
	}
	if !bytes.Equal(before, f.Document()) {
		t.Error("the document has changed")
	}
}
