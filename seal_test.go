package mongostore_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/storetest"
)

func setupSealed(t *testing.T, keys ...[]byte) *storetest.Fixture {
	t.Helper()
	return storetest.Setup(t, func(c *mongostore.Config) { c.SealKeys, c.OwnerKey = keys, "user" })
}

// fill puts values of all kinds into a session.
func fill(s *sessions.Session) {
	s.Values["secret"] = "TOP SECRET"
	s.Values["number"] = 424242
	s.Values["nothing"] = nil
	s.Values["cart"] = cart{Items: []item{{"TOP SECRET", 1}}, Notes: map[string]string{"a": "TOP SECRET", "b": "x", "c": "y"}}
	s.Values["list"] = []any{"TOP SECRET", map[string]any{"_type": "sealed", "_value": []byte("x")}}
	s.Values["tag"] = map[string]any{"_type": "sealed", "_value": []byte("x")}
}

// TestSealedValuesAreUnreadableInTheDatabase, and everything else is as without sealing.
func TestSealedValuesAreUnreadableInTheDatabase(t *testing.T) {
	t.Parallel()
	f := setupSealed(t, storetest.SealKey(t))
	b := f.Browser().Login()
	b.Do(fill)
	doc := f.Document()
	if s := doc.String(); strings.Contains(s, "SECRET") || bytes.Contains(doc, []byte("SECRET")) || strings.Contains(s, "424242") {
		t.Errorf("readable: %s", s)
	}
	elements, err := doc.Lookup("values").Document().Elements()
	if err != nil || len(elements) != 7 {
		t.Fatalf("values: %v, %v", elements, err)
	}
	for _, e := range elements {
		if e.Value().Document().Lookup("_type").StringValue() != "sealed" {
			t.Errorf("%s is not sealed", e.Key())
		}
	}
	// What stays readable: the owner, to be found by.
	if doc.Lookup("owner").StringValue() != "ada" || len(storetest.SessionsOf(t, f.Store, "ada")) != 1 {
		t.Errorf("owner: %v", doc.Lookup("owner"))
	}

	want := &sessions.Session{Values: map[any]any{"user": "ada"}}
	fill(want)
	if got := b.Load().Values; fmt.Sprint(got) != fmt.Sprint(want.Values) {
		t.Errorf("values: %v, want %v", got, want.Values)
	}
	// Unchanged, it is not written, and of a change only that.
	f.Log.Reset()
	for range 3 {
		b.Do(func(*sessions.Session) {})
		f.WantCommands("find")
	}
	b.Do(func(s *sessions.Session) { s.Values["number"] = 1 })
	after := f.Document()
	for _, e := range elements {
		same := after.Lookup("values", e.Key()).Equal(e.Value())
		if same != (e.Key() != "number") {
			t.Errorf("%s is the same: %t", e.Key(), same)
		}
	}
	// Concurrent requests merge.
	one, two := b.Load(), b.Load()
	one.Values["one"], two.Values["two"] = 1, 2
	for _, s := range []*sessions.Session{one, two} {
		if _, err := b.Save(s); err != nil {
			t.Fatal(err)
		}
	}
	if s := b.Load(); s.Values["one"] != 1 || s.Values["two"] != 2 {
		t.Errorf("merged: %v", s.Values)
	}
	// Under another ID it is sealed for that.
	session := b.Load()
	if _, err := b.Renew(session); err != nil {
		t.Fatal(err)
	}
	if s := b.Load(); s.Values["secret"] != "TOP SECRET" {
		t.Errorf("renewed: %v", s.Values)
	}
}

// TestMovedOrAlteredSealIsRefused, and left alone.
func TestMovedOrAlteredSealIsRefused(t *testing.T) {
	t.Parallel()
	key := storetest.SealKey(t)
	sealed := func(doc bson.Raw, key string) bson.RawValue { return doc.Lookup("values", key) }
	for what, move := range map[string]func(mine, other bson.Raw) bson.RawValue{
		"from another key":      func(mine, _ bson.Raw) bson.RawValue { return sealed(mine, "number") },
		"from another document": func(_, other bson.Raw) bson.RawValue { return sealed(other, "secret") },
		"with a bit turned": func(mine, _ bson.Raw) bson.RawValue {
			v := sealed(mine, "secret")
			v.Value = bytes.Clone(v.Value)
			v.Value[len(v.Value)-3] ^= 1
			return v
		},
	} {
		f := setupSealed(t, key)
		other := f.Browser()
		other.Do(fill)
		otherDoc := f.Document()
		if _, err := f.Coll.DeleteMany(t.Context(), bson.D{}); err != nil {
			t.Fatal(err)
		}
		b := f.Browser()
		b.Do(fill)
		f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "values.secret", Value: move(f.Document(), otherDoc)}}}})
		before := f.Document()
		session, err := f.Store.Get(b.Request(), storetest.Name)
		if !errors.Is(err, mongostore.ErrCorrupt) || !strings.Contains(err.Error(), "secret") || len(session.Values) > 0 {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := b.Save(session); !errors.Is(err, mongostore.ErrCorrupt) {
			t.Errorf("%s: save: %v", what, err)
		}
		if after := f.Document(); string(after) != string(before) {
			t.Errorf("%s: the document has changed", what)
		}
	}
}

// TestFirstSealKeySealsAndAllOpen: also values from before there was a key are read.
func TestFirstSealKeySealsAndAllOpen(t *testing.T) {
	t.Parallel()
	oldKey, newKey := storetest.SealKey(t), storetest.SealKey(t)
	f := storetest.Setup(t)
	b := f.Browser()
	open := func(keys ...[]byte) {
		f.Cfg.SealKeys = keys
		b.Store = f.Open()
	}
	b.Do(func(s *sessions.Session) { s.Values["a"], s.Values["b"] = "plain", "plain" })

	open(oldKey)
	if s := b.Load(); s.Values["a"] != "plain" {
		t.Errorf("values from before: %v", s.Values)
	}
	b.Do(func(s *sessions.Session) { s.Values["b"] = "old" })
	if v := f.Document().Lookup("values"); v.Document().Lookup("a").Type != bson.TypeString || v.Document().Lookup("b").Type != bson.TypeEmbeddedDocument {
		t.Errorf("values: %v", v)
	}

	open(newKey, oldKey)
	if s := b.Load(); s.Values["a"] != "plain" || s.Values["b"] != "old" {
		t.Errorf("with both keys: %v", s.Values)
	}
	b.Do(func(s *sessions.Session) { s.Values["a"], s.Values["b"] = "new", "new" })

	open(newKey)
	if s := b.Load(); s.Values["a"] != "new" || s.Values["b"] != "new" {
		t.Errorf("with the new key: %v", s.Values)
	}

	for _, keys := range [][][]byte{{oldKey}, {}} {
		open(keys...)
		if _, err := b.Store.Get(b.Request(), storetest.Name); !errors.Is(err, mongostore.ErrCorrupt) {
			t.Errorf("without the key: %v", err)
		}
	}
}
