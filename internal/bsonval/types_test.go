package bsonval_test

import (
	"bytes"
	"encoding/gob"
	"errors"
	"maps"
	"math"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/mongostore/mongostore/internal/bsonval"
	"github.com/mongostore/mongostore/internal/samples"
)

// The types of an application that are named in its store's settings.

type (
	user struct {
		Name    string             `bson:"name"`
		Age     int                `bson:"age,omitempty"`
		Tags    map[string]string  `bson:"tags"`
		Scores  map[string]float64 `bson:"scores,omitempty"`
		Since   time.Time          `bson:"since"`
		Friends []*user            `bson:"friends"`
		Extra   any                `bson:"extra"`
		secret  string
	}

	// account is registered as a pointer.
	account struct {
		Owner *user
		Mail  []string
	}

	box[T any] struct{ Content T }
	cart       []item
	item       struct {
		Name  string
		Count int
	}
	prices map[string]item
	rank   string

	// strict fails or panics in its BSON methods as it is told.
	strict struct{ in string }

	// addressed has its methods on the pointer.
	addressed struct{ In string }

	// tree has no end if its values contain themselves.
	tree struct{ Kids []*tree }

	// moved was stored by gob before it had a name.
	moved struct {
		At   time.Time
		Tags map[string]int
	}
)

func (s strict) MarshalBSON() ([]byte, error) {
	switch s.in {
	case "panic when encoded":
		panic("confidential")
	case "fail when encoded":
		return nil, errors.New("confidential")
	case "nonsense when encoded":
		return []byte("confidential"), nil
	}
	return bson.Marshal(bson.D{{Key: "in", Value: s.in}})
}

func (s *strict) UnmarshalBSON(b []byte) error {
	s.in, _ = bson.Raw(b).Lookup("in").StringValueOK()
	switch s.in {
	case "panic when decoded":
		panic("confidential")
	case "fail when decoded":
		return errors.New("confidential")
	}
	return nil
}

func (a *addressed) MarshalBSONValue() (byte, []byte, error) {
	kind, data, err := bson.MarshalValue("<" + a.In + ">")
	return byte(kind), data, err
}

func (a *addressed) UnmarshalBSONValue(kind byte, data []byte) error {
	text, ok := bson.RawValue{Type: bson.Type(kind), Value: data}.StringValueOK()
	a.In = strings.Trim(text, "<>")
	if !ok {
		return errors.New("not a string")
	}
	return nil
}

var _ = registerMoved()

func registerMoved() bool {
	gob.Register(moved{})
	gob.Register(&account{})
	return true
}

func allTypes() []bsonval.Type {
	return []bsonval.Type{
		bsonval.TypeOf[user]("user"),
		bsonval.TypeOf[*account]("account"),
		bsonval.TypeOf[box[user]]("box of a user"),
		bsonval.TypeOf[box[int]]("box of an int"),
		bsonval.TypeOf[cart]("cart"),
		bsonval.TypeOf[prices]("prices"),
		bsonval.TypeOf[rank]("rank"),
		bsonval.TypeOf[[]user]("users"),
		bsonval.TypeOf[strict]("strict"),
		bsonval.TypeOf[addressed]("addressed"),
		bsonval.TypeOf[tree]("tree"),
		bsonval.TypeOf[*moved]("moved"),
	}
}

func pointerTo[T any](v T) *T { return &v }

func newCodec(t testing.TB, types ...bsonval.Type) *bsonval.Codec {
	t.Helper()
	c, err := bsonval.NewCodec(types)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ada() user {
	return user{
		Name: "Ada", Age: 36, Tags: map[string]string{"a": "b", "c": "d", "e.f": "$g"}, Since: time.Date(2024, 2, 29, 1, 2, 3, 4_000_000, time.UTC),
		Friends: []*user{{Name: "Bea"}, nil}, Extra: "text",
	}
}

// TestRegisteredTypes: values of the application's types are readable documents, and come back as they
// were, alone and in lists and maps.
func TestRegisteredTypes(t *testing.T) {
	t.Parallel()
	c := newCodec(t, allTypes()...)
	person := ada()
	for _, row := range []struct {
		name  string
		value any
		want  any // if it differs
		tag   string
		inner bson.Type
	}{
		{"struct", person, nil, "user", bson.TypeEmbeddedDocument},
		{"pointer to a struct", &person, person, "user", bson.TypeEmbeddedDocument},
		{"pointer to a pointer", pointerTo(&person), person, "user", bson.TypeEmbeddedDocument},
		{"zero struct", user{}, nil, "user", bson.TypeEmbeddedDocument},
		{"pointer type", &account{Owner: &person, Mail: []string{"a"}}, nil, "account", bson.TypeEmbeddedDocument},
		{"value of a pointer type", account{Mail: []string{}}, &account{Mail: []string{}}, "account", bson.TypeEmbeddedDocument},
		{"generic type", box[user]{person}, nil, "box of a user", bson.TypeEmbeddedDocument},
		{"its other instance", box[int]{5}, nil, "box of an int", bson.TypeEmbeddedDocument},
		{"named list", cart{{"apple", 1}, {"pear", 2}}, nil, "cart", bson.TypeArray},
		{"empty named list", cart{}, nil, "cart", bson.TypeArray},
		{"nil named list", cart(nil), nil, "cart", bson.TypeNull},
		{"named map", prices{"a": {"apple", 1}, "_type": {}}, nil, "prices", bson.TypeEmbeddedDocument},
		{"nil named map", prices(nil), nil, "prices", bson.TypeNull},
		{"named string", rank("chief"), nil, "rank", bson.TypeString},
		{"list of structs", []user{person, {}}, nil, "users", bson.TypeArray},
		{"methods of the value", strict{"well"}, nil, "strict", bson.TypeEmbeddedDocument},
		{"methods of the pointer", addressed{"a"}, nil, "addressed", bson.TypeString},
		{"pointer with methods", &addressed{"a"}, addressed{"a"}, "addressed", bson.TypeString},
		{"tree", tree{[]*tree{{[]*tree{{}}}, {}}}, nil, "tree", bson.TypeEmbeddedDocument},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if row.want == nil {
				row.want = row.value
			}
			stored, err := c.Encode(row.value)
			if err != nil {
				t.Fatal(err)
			}
			tag, content, ok, err := bsonval.Tag(stored)
			if err != nil || !ok || tag != row.tag || content.Kind != row.inner {
				t.Errorf("stored with the tag %q and a %v, %v", tag, content.Kind, err)
			}
			for wrapped, want := range map[string][2]any{
				"alone":     {row.value, row.want},
				"in a list": {[]any{1, row.value}, []any{1, row.want}},
				"in a map":  {map[string]any{"_type": map[string]any{"a.b": row.value}}, map[string]any{"_type": map[string]any{"a.b": row.want}}},
				"in lists":  {[]any{[]any{row.value}}, []any{[]any{row.want}}},
				"in maps":   {[]map[string]any{{"a": row.value}}, []map[string]any{{"a": row.want}}},
			} {
				stored, err := c.Encode(want[0])
				if err != nil {
					t.Fatal(err)
				}
				if err := documentOf(stored).Validate(); err != nil {
					t.Error(wrapped, err)
				}
				got, err := c.Decode(stored)
				if err != nil || !reflect.DeepEqual(got, want[1]) {
					t.Errorf("%s: %#v came back as %#v, %v", wrapped, want[0], got, err)
				}
				if err := c.Verify(stored); err != nil {
					t.Error(wrapped, err)
				}
				again, err := c.Encode(got)
				if err != nil || !c.Same(stored, again) {
					t.Errorf("%s: seems to have changed: %v", wrapped, err)
				}
				if other, err := c.Encode([]any{want[0], 1}); err != nil || c.Same(stored, other) {
					t.Errorf("%s: seems not to have changed: %v", wrapped, err)
				}
			}
		})
	}
}

// TestRegisteredTypeInMongosh: the document is the one that the application's own queries expect.
func TestRegisteredTypeInMongosh(t *testing.T) {
	t.Parallel()
	c := newCodec(t, allTypes()...)
	stored, err := c.Encode(user{Name: "Ada", secret: "lost", Friends: []*user{}})
	if err != nil {
		t.Fatal(err)
	}
	want := bson.D{{Key: "_type", Value: "user"}, {Key: "_value", Value: bson.D{
		{Key: "name", Value: "Ada"},
		{Key: "tags", Value: nil},
		{Key: "since", Value: bson.DateTime(time.Time{}.UnixMilli())},
		{Key: "friends", Value: bson.A{}},
		{Key: "extra", Value: nil},
	}}}
	var got bson.D
	if err := bson.Unmarshal(stored.Data, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("stored as %v, %v; want %v", got, err, want)
	}
}

// TestLossIsNoChange: what BSON loses is lost once. The value that comes back is stored as it is, so an
// unchanged session is not written.
func TestLossIsNoChange(t *testing.T) {
	t.Parallel()
	c := newCodec(t, allTypes()...)
	lossy := ada()
	lossy.Since = time.Date(2024, 2, 29, 1, 2, 3, 4_567_890, time.FixedZone("", 3600))
	lossy.Extra = map[string]any{"a": []any{1, time.Now(), []byte("x"), uint8(5), math.NaN(), user{Tags: map[string]string{"x": "y"}}}}
	lossy.Scores = map[string]float64{"a": math.NaN(), "b": math.Inf(1), "c": math.Copysign(0, -1)}
	lossy.secret = "lost"
	lossy.Tags = map[string]string{}
	for i := range 20 {
		lossy.Tags[strconv.Itoa(i)] = "x"
	}
	for _, v := range []any{lossy, &lossy, []any{lossy, map[string]any{"a": lossy}}, box[user]{lossy}} {
		stored, err := c.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 { // maps are written in another order each time
			decoded, err := c.Decode(stored)
			if err != nil {
				t.Fatal(err)
			}
			for _, unchanged := range []any{v, decoded} {
				again, err := c.Encode(unchanged)
				if err != nil || !c.Same(stored, again) || !c.Same(again, stored) {
					t.Fatalf("%#v seems to have changed: %v", unchanged, err)
				}
			}
		}
	}
	// A map in a field of an interface type comes back as a bson.D, which has an order.
	mapped := user{Extra: map[string]any{"a": 1, "b": 2, "c": 3, "d": map[string]int{"e": 4, "f": 5}}}
	stored, err := c.Encode(mapped)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := c.Decode(stored)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := c.Encode(decoded); err != nil || !again.Equal(stored) {
		t.Errorf("%#v seems to have changed: %v", decoded, err)
	}

	if stored, err = c.Encode(lossy); err != nil {
		t.Fatal(err)
	}
	changed := lossy
	changed.Tags = maps.Clone(lossy.Tags)
	changed.Tags["5"] = "y"
	if again, err := c.Encode(changed); err != nil || c.Same(stored, again) {
		t.Errorf("a change inside a map is not seen: %v", err)
	}
}

// TestFieldsComeAndGo: releases of an application may add and remove fields.
func TestFieldsComeAndGo(t *testing.T) {
	t.Parallel()
	type before struct {
		Name string
		Old  []string
	}
	type after struct {
		Name string
		New  map[string]int
	}
	older, newer := newCodec(t, bsonval.TypeOf[before]("t")), newCodec(t, bsonval.TypeOf[*after]("t"))
	stored, err := older.Encode(before{"Ada", []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := newer.Decode(stored)
	if want := (&after{Name: "Ada"}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("read as %#v, %v", got, err)
	}
	if again, err := newer.Encode(got); err != nil || !newer.Same(stored, again) {
		t.Errorf("an unknown field is a change: %v", err)
	}
	if _, err := codec.Decode(stored); err == nil {
		t.Error("decoded without its type")
	}
}

// TestTypeThatGobStored: a value that gob stored before its type had a name is read as the type is
// registered now, and is not written until it changes.
func TestTypeThatGobStored(t *testing.T) {
	t.Parallel()
	c := newCodec(t, allTypes()...)
	for _, value := range []moved{
		{At: time.Date(2024, 2, 29, 1, 2, 3, 0, time.UTC), Tags: map[string]int{"a": 1, "b": 2, "c": 3}},
		{At: time.Date(2024, 2, 29, 1, 2, 3, 4_567_890, time.FixedZone("", 3600))},
		{Tags: map[string]int{}},
	} {
		for _, v := range []any{value, []any{value, 1}, map[string]any{"a": []any{value}}} {
			stored := encode(t, v) // as gob
			if !bytes.Contains(stored.Data, []byte("gob\x00")) {
				t.Fatal("not stored by gob")
			}
			loaded, err := c.Decode(stored)
			if err != nil {
				t.Fatal(err)
			}
			again, err := c.Encode(loaded)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(again.Data, []byte("gob\x00")) {
				t.Error("written by gob")
			}
			if !c.Same(stored, again) || !c.Same(again, stored) {
				t.Errorf("%#v seems to have changed", loaded)
			}
			back, err := c.Decode(again)
			if err != nil || reflect.TypeOf(back) != reflect.TypeOf(loaded) {
				t.Errorf("a %T came back as %T, %v", loaded, back, err)
			}
		}
		loaded, err := c.Decode(encode(t, value))
		if err != nil {
			t.Fatal(err)
		}
		pointer, ok := loaded.(*moved)
		if !ok {
			t.Fatalf("read as a %T", loaded)
		}
		stored := encode(t, value)
		pointer.At = pointer.At.Add(time.Hour)
		if again, err := c.Encode(pointer); err != nil || c.Same(stored, again) {
			t.Errorf("a change is not seen: %v", err)
		}
	}
	// account was registered with gob as a pointer, and is one here.
	if got, err := c.Decode(encode(t, account{Mail: []string{"a"}})); err != nil || !reflect.DeepEqual(got, &account{Mail: []string{"a"}}) {
		t.Errorf("read as %#v, %v", got, err)
	}
	// And as a value elsewhere.
	values := newCodec(t, bsonval.TypeOf[account]("account"))
	if got, err := values.Decode(encode(t, account{Mail: []string{"a"}})); err != nil || !reflect.DeepEqual(got, account{Mail: []string{"a"}}) {
		t.Errorf("read as %#v, %v", got, err)
	}
}

// TestRegisteredTypeErrors: methods that fail or panic, and values that contain themselves, are errors
// that name the type and hold no value.
func TestRegisteredTypeErrors(t *testing.T) {
	t.Parallel()
	c := newCodec(t, append(allTypes(), bsonval.TypeOf[box[chan string]]("channel"), bsonval.TypeOf[box[any]]("any"))...)
	loop := &tree{}
	loop.Kids = []*tree{{}, loop}
	deep := &tree{}
	for range 60 {
		deep = &tree{[]*tree{deep}}
	}
	encodes := []struct {
		value any
		want  string
	}{
		{strict{"panic when encoded"}, "type bsonval_test.strict: its BSON encoding panicked"},
		{strict{"fail when encoded"}, "type bsonval_test.strict cannot be encoded"},
		{strict{"nonsense when encoded"}, "type bsonval_test.strict"},
		{box[chan string]{}, "BSON has no encoding for chan string"},
		{box[any]{func() {}}, "type bsonval_test.box[interface {}]"},
		{loop, "contains itself"},
		{deep, "nested too deeply"},
		{(*user)(nil), "nil pointer"},
		{pointerTo((*user)(nil)), "nil pointer"},
		{user{Name: "confidential\xff"}, "valid UTF-8"},
		{user{Tags: map[string]string{"confidential\x00": "a"}}, "type bsonval_test.user"},
	}
	for _, row := range encodes {
		stored, err := c.Encode([]any{"confidential", row.value})
		if err == nil {
			t.Errorf("%T was stored as %v", row.value, stored)
		} else if !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "confidential") {
			t.Errorf("%T: %v; want %q", row.value, err, row.want)
		}
	}
	for _, text := range []string{"panic when decoded", "fail when decoded"} {
		stored, err := c.Encode(map[string]any{"confidential": []any{strict{text}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Verify(stored); err == nil || !strings.Contains(err.Error(), "type bsonval_test.strict") || strings.Contains(err.Error(), "confidential") {
			t.Errorf("%s: %v", text, err)
		}
	}
	for name, content := range map[string]any{
		"text for a document":       "confidential",
		"a field of another type":   bson.D{{Key: "age", Value: "confidential"}},
		"a number out of range":     bson.D{{Key: "age", Value: 1e300}},
		"nested deeply":             bson.D{{Key: "extra", Value: samples.DeepDocument(300)}},
		"text of invalid UTF-8":     bson.D{{Key: "name", Value: "\xff"}},
		"JavaScript code":           bson.D{{Key: "extra", Value: bson.CodeWithScope{Code: "a", Scope: bson.D{}}}},
		"bytes that are no BSON":    bson.D{{Key: "extra", Value: bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: []byte{6, 0, 0, 0, 1, 0}}}},
		"a document for an array":   bson.D{{Key: "friends", Value: bson.D{{Key: "x", Value: bson.D{}}}}},
		"an array of another shape": bson.D{{Key: "friends", Value: bson.A{"confidential"}}},
	} {
		kind, data, err := bson.MarshalValue(bson.D{{Key: "_type", Value: "user"}, {Key: "_value", Value: content}})
		if err != nil {
			t.Fatal(err)
		}
		v, err := c.Decode(bsonval.Value{Kind: kind, Data: data})
		if err == nil {
			t.Errorf("%s: decoded as %#v", name, v)
		} else if !strings.Contains(err.Error(), "type bsonval_test.user") || strings.Contains(err.Error(), "confidential") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNewCodec(t *testing.T) {
	t.Parallel()
	for name, types := range map[string][]bsonval.Type{
		"empty name":            {bsonval.TypeOf[user]("")},
		"name with NUL":         {bsonval.TypeOf[user]("a\x00")},
		"name of invalid UTF-8": {bsonval.TypeOf[user]("\xff")},
		"gob's tag":             {bsonval.TypeOf[user]("gob")},
		"tag of sealed values":  {bsonval.TypeOf[user]("sealed")},
		"tag of a kind":         {bsonval.TypeOf[user]("int")},
		"tag of a list":         {bsonval.TypeOf[user]("[]any")},
		"name used twice":       {bsonval.TypeOf[user]("user"), bsonval.TypeOf[account]("user")},
		"type used twice":       {bsonval.TypeOf[user]("user"), bsonval.TypeOf[user]("person")},
		"type and its pointer":  {bsonval.TypeOf[user]("user"), bsonval.TypeOf[*user]("person")},
		"pointer and its type":  {bsonval.TypeOf[*user]("user"), bsonval.TypeOf[user]("person")},
		"pointer to a pointer":  {bsonval.TypeOf[**user]("user")},
		"named pointer":         {bsonval.TypeOf[userPointer]("user")},
		"type and named one":    {bsonval.TypeOf[user]("user"), bsonval.TypeOf[userPointer]("person")},
		"no exported field":     {bsonval.TypeOf[big.Int]("number")},
		"embedded, unexported":  {bsonval.TypeOf[struct{ hidden }]("hidden")},
		"named time":            {bsonval.TypeOf[stamp]("stamp")},
		"list of named times":   {bsonval.TypeOf[[]*stamp]("stamps")},
		"map of named times":    {bsonval.TypeOf[map[string]stamp]("stamps")},
		"interface":             {bsonval.TypeOf[error]("error")},
		"native type":           {bsonval.TypeOf[string]("text")},
		"pointer to one":        {bsonval.TypeOf[*time.Time]("time")},
		"native list":           {bsonval.TypeOf[[]string]("list")},
		"zero Type":             {{}},
	} {
		if _, err := bsonval.NewCodec(types); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	for name, types := range map[string][]bsonval.Type{
		"none":                  nil,
		"struct without fields": {bsonval.TypeOf[struct{}]("mark")},
		"known to bson":         {bsonval.TypeOf[bson.Decimal128]("price")},
		"fields left out empty": {bsonval.TypeOf[struct {
			A string `bson:",omitempty"`
		}]("text")},
		"embedded":           {bsonval.TypeOf[struct{ Shown }]("shown")},
		"recursive list":     {bsonval.TypeOf[forest]("forest")},
		"mutually recursive": {bsonval.TypeOf[bush]("bush")},
	} {
		if _, err := bsonval.NewCodec(types); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type (
	userPointer *user
	stamp       time.Time
	hidden      struct{ Text string }
	Shown       struct{ Text string }
	forest      []forest
	bush        []hedge
	hedge       map[string]bush
)

// TestVerifyDecodesOnlyWhatItMust: native values are not decoded, whatever they look like.
func TestVerifyDecodesOnlyWhatItMust(t *testing.T) {
	native := []any{"a", map[string]any{"_type": "gob", "_value": "x", "list": []any{[]string{"_type"}}}, map[string]string{"_type": "user"}}
	stored := encode(t, native)
	if err := codec.Verify(stored); err != nil {
		t.Error(err)
	}
	many := make([]any, 10_000)
	for i := range many {
		many[i] = map[string]string{"a": "b"}
	}
	stored = encode(t, many)
	if allocs, decode := testing.AllocsPerRun(1, func() { _ = codec.Verify(stored) }), testing.AllocsPerRun(1, func() { _, _ = codec.Decode(stored) }); allocs > decode {
		t.Errorf("%v allocations, Decode has %v", allocs, decode)
	}
}

// FuzzRegistered: whatever is in the document of a registered type, reading it does not panic, and
// what is read can be written and is the same then.
func FuzzRegistered(f *testing.F) {
	c := newCodec(f, allTypes()...)
	names := []string{"user", "account", "box of a user", "box of an int", "cart", "prices", "rank", "users", "strict", "addressed", "tree", "moved"}
	person := ada()
	for _, v := range []any{
		person,
		user{},
		&account{Owner: &person},
		box[user]{person},
		cart{{"a", 1}},
		prices{"a": {"b", 2}},
		rank("a"),
		[]user{person},
		strict{"a"},
		strict{"fail when decoded"},
		addressed{"a"},
		tree{[]*tree{{}}},
		moved{Tags: map[string]int{"a": 1}},
	} {
		stored, err := c.Encode(v)
		if err != nil {
			f.Fatal(err)
		}
		_, content, _, err := bsonval.Tag(stored)
		if err != nil {
			f.Fatal(err)
		}
		for i := range names {
			f.Add(uint8(i), byte(content.Kind), content.Data)
		}
	}
	f.Fuzz(func(t *testing.T, name uint8, kind byte, data []byte) {
		content, err := bsonval.Parse(bson.Type(kind), data)
		if err != nil {
			return
		}
		b := bsonval.NewBuilder(0)
		b.String(bsonval.TagType, names[int(name)%len(names)])
		b.Value(bsonval.TagValue, content)
		stored := bsonval.Value{Kind: bson.TypeEmbeddedDocument, Data: b.Document()}
		v, err := c.Decode(stored)
		if err != nil {
			return
		}
		if _, isStrict := v.(strict); isStrict {
			return // may fail
		}
		again, err := c.Encode(v)
		if err != nil {
			return // deeper than what is written, or text that BSON cannot hold
		}
		if !c.Same(stored, again) {
			back, err := c.Decode(again)
			t.Errorf("%#v seems to have changed to %#v, %v", v, back, err)
		}
	})
}
