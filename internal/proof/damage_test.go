package proof

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gorilla/sessions"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore"
	"github.com/mongostore/mongostore/internal/samples"
	"github.com/mongostore/mongostore/internal/storetest"
)

// Damaged documents: every truncation of a document that the store wrote, and thousands of
// random mutations. A load returns what the document says, down to the last key, or it fails
// with an error that names what is wrong, and a session that cannot be saved over the document.
//
// What no reader can notice, and what the tests therefore take for what the document says:
//
//   - a value that became another value of a valid form, unless it is sealed, and a key that is gone;
//   - a name that became another valid name, at the top of the document one that the store does
//     not know, unless a field is missing then;
//   - another name, expiry, creation, maxAge, owner or rev of a valid form: they are never sealed;
//   - a sealed value that no longer says it is one: it is read as what it became, since values from
//     before there were keys are read as they are;
//   - an older sealed value of the same key in the same document.

var (
	mutations  = flag.Int("damage.n", 10_000, "how many mutated documents to load")
	damageSeed = flag.Uint64("damage.seed", 1, "seed of the mutations; 0 for another one on each run")
)

// forger is a dialer of connections to the server on which finds are answered with a document
// of the test's choice, framed like a server's reply, and updates with success.
type forger struct {
	mu  sync.Mutex
	doc []byte
}

func (f *forger) set(doc []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.doc = doc
}

func (f *forger) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	return &forgedConn{Conn: conn, forger: f}, err
}

type forgedConn struct {
	net.Conn
	forger *forger
	reply  []byte // what is left to read of a forged one
}

func (c *forgedConn) Write(message []byte) (int, error) {
	c.forger.mu.Lock()
	defer c.forger.mu.Unlock()
	var body []byte
	switch storetest.CommandOf(message) {
	case "find":
		body, _ = found(c.forger.doc)
	case "update":
		one := []byte{1, 0, 0, 0}
		body = rawDocument(rawElement(bson.TypeInt32, "n", one), rawElement(bson.TypeInt32, "nModified", one), rawElement(bson.TypeInt32, "ok", one))
	default:
		return c.Conn.Write(message)
	}
	c.reply = binary.LittleEndian.AppendUint32(nil, uint32(16+5+len(body)))
	c.reply = binary.LittleEndian.AppendUint32(c.reply, 1)
	c.reply = append(c.reply, message[4:8]...) // the request that it answers
	c.reply = binary.LittleEndian.AppendUint32(c.reply, storetest.OpMsg)
	c.reply = append(append(c.reply, 0, 0, 0, 0, 0), body...)
	return len(message), nil
}

// found is the reply to a find, and the document that its reader will take out of it, which is
// longer or shorter than the given one if that says so.
func found(doc []byte) (reply, read []byte) {
	batch := rawDocument(rawElement(bson.TypeEmbeddedDocument, "0", doc))
	cursor := rawDocument(rawElement(bson.TypeArray, "firstBatch", batch),
		rawElement(bson.TypeInt64, "id", make([]byte, 8)), rawElement(bson.TypeString, "ns", []byte("\x04\x00\x00\x00d.c\x00")))
	reply = rawDocument(rawElement(bson.TypeEmbeddedDocument, "cursor", cursor), rawElement(bson.TypeInt32, "ok", []byte{1, 0, 0, 0}))
	const start = 4 + len("?cursor?") + 4 + len("?firstBatch?") + 4 + len("?0?")
	size := binary.LittleEndian.Uint32(reply[start:])
	return reply, reply[start:][:min(int64(size), int64(len(reply)-start))]
}

func (c *forgedConn) Read(p []byte) (int, error) {
	if len(c.reply) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.reply)
	c.reply = c.reply[n:]
	return n, nil
}

// rawElement and rawDocument write BSON as they are told.
func rawElement(kind bson.Type, name string, data []byte) []byte {
	return slices.Concat([]byte{byte(kind)}, []byte(name), []byte{0}, data)
}

func rawDocument(elements ...[]byte) []byte {
	return frame(slices.Concat([]byte{0, 0, 0, 0}, slices.Concat(elements...), []byte{0}))
}

// frame sets a document's length and last byte, which the driver checks.
func frame(doc []byte) []byte {
	if len(doc) < 5 {
		doc = append(doc, 0, 0, 0, 0, 0)[:5]
	}
	binary.LittleEndian.PutUint32(doc, uint32(len(doc)))
	doc[len(doc)-1] = 0
	return doc
}

// victim is a document as the store wrote it, and a store that can be made to find another in
// its place.
type victim struct {
	t       testing.TB
	f       *storetest.Fixture
	browser *storetest.Browser
	store   *mongostore.Store // over the forger
	forger  *forger
	log     *storetest.CommandLog
	id      string
	doc     []byte // as it was written, and as the database holds it
	sealed  bool
	alone   bool // no other test runs, so that memory can be measured
	oracle  *oracle
	gobs    map[string]any // the gobs in what was written, and what they stand for
	keys    map[string]keyOrError
	count   counts
}

// unsealed are the values that a sealed session is spared, to be loaded sooner.
var unsealed = []any{
	"yes", "long", "real", "object", "int", "int8", "int16", "int32", "uint", "uint8", "uint16", "uint32", "span", "float32", "infinite",
	"nolist", "bools", "ints", "int64s", "floats", "times", "maps", "flags", "counts", "counts64", "rates", "carts", "$set", "50%",
}

type counts struct{ tried, rejected, refused, fresh, renewed, alive, opened int }

const marker = "SECRET" // a part of most values

var damageSealKey = []byte("thirty-two bytes to seal it with")

// Types of an application, as CookieStore needs them to be registered.
type (
	article struct {
		Name  string
		Count int
	}
	basketful struct {
		Items []article
		Notes map[string]string
	}
	shopper struct{ Shop, User string }
)

var registerRichTypes = sync.OnceFunc(func() {
	gob.Register(basketful{})
	gob.Register(shopper{})
})

// richValues are of every kind that the store has a form for.
func richValues() map[any]any {
	registerRichTypes()
	zone := time.FixedZone("", 2*60*60+45*60)
	return map[any]any{
		"user":     "ada SECRET",
		"nothing":  nil,
		"yes":      true,
		"text":     "TOP SECRET, and \x01\x00 more of it",
		"number":   424242,
		"long":     int64(1) << 40,
		"real":     3.25,
		"when":     time.UnixMilli(1_700_000_000_123).UTC(),
		"object":   bson.ObjectID{'S', 'E', 'C', 'R', 'E', 'T'},
		"bytes":    []byte("TOP SECRET bytes"),
		"list":     []any{"SECRET", 1, nil, []any{int64(7)}, map[string]any{"deep": []any{map[string]any{"deeper": "SECRET"}}}},
		"map":      map[string]any{"a.b": 1, "": "SECRET", "c": []byte{1}, "d": map[string]any{}},
		"tag":      map[string]any{"_type": "sealed", "_value": []byte("SECRET")},
		"int":      1 << 40,
		"int8":     int8(-5),
		"int16":    int16(-500),
		"int32":    int32(5),
		"uint":     uint(5),
		"uint8":    uint8(5),
		"uint16":   uint16(5),
		"uint32":   uint32(1) << 31,
		"uint64":   uint64(math.MaxUint64),
		"span":     time.Hour,
		"float32":  float32(1.5),
		"infinite": math.Inf(1),
		"invalid":  "SECRET \xff\xfe",
		"nil":      []byte(nil),
		"nolist":   []any(nil),
		"strings":  []string{"SECRET", "b"},
		"bools":    []bool{true, false},
		"ints":     []int{1, 1 << 40},
		"int64s":   []int64{1, 2},
		"floats":   []float64{1.5, math.Inf(-1)},
		"times":    []time.Time{time.UnixMilli(0).UTC(), time.Unix(1, 1).In(zone)},
		"maps":     []map[string]any{{"a": "SECRET"}, nil},
		"dict":     map[string]string{"a": "SECRET"},
		"flags":    map[string]bool{"a": true},
		"counts":   map[string]int{"a": 1},
		"counts64": map[string]int64{"a": 1},
		"rates":    map[string]float64{"a": 1.5},
		"lists":    map[string][]string{"a": {"SECRET"}},
		"zoned":    time.Unix(1_700_000_000, 5).In(zone),
		"cart":     basketful{Items: []article{{"SECRET", 1}}, Notes: map[string]string{"a": "SECRET"}},
		"carts":    []any{basketful{Items: []article{{"SECRET", 2}}}, 5},
		"_flash":   []any{"Welcome back"},

		7: "a key that is an int", int64(7): 1, true: 2, nil: 3, "": 4, "a.b": 5, "$set": 6, "50%": 7,
		shopper{"corner", "ada"}: 8,
	}
}

// The kinds of victims. Those that have ended are tombstones.
var (
	liveVictims  = []string{"plain", "sealed", "migrated"}
	endedVictims = []string{"renewed", "logged out"} // the latter after a migration
)

// newVictim stores a rich session, and ends it if it is of such a kind.
func newVictim(t testing.TB, kind string) *victim {
	t.Helper()
	v := &victim{t: t, forger: &forger{}, log: &storetest.CommandLog{}, sealed: kind == "sealed", gobs: map[string]any{}, keys: map[string]keyOrError{}}
	migrated := kind == "migrated" || kind == "logged out"
	old := sessions.NewCookieStore([]byte("the signing key of the store before"))
	v.f = storetest.Setup(t, func(c *mongostore.Config) {
		c.OwnerKey = "user"
		c.Describe = func(*http.Request) map[string]string { return map[string]string{"device": "SECRET phone"} }
		if v.sealed {
			c.SealKeys = [][]byte{damageSealKey}
		}
		if migrated {
			c.MigrateFrom = old
		}
	})
	v.browser = v.f.Browser()
	if migrated {
		v.browser.LoginAt(old)
	}
	v.browser.Do(func(s *sessions.Session) {
		user := s.Values["user"]
		s.Values = richValues()
		if migrated {
			s.Values["user"] = user // or the save would renew the session
		}
		if v.sealed { // where all that is sealed looks alike
			maps.DeleteFunc(s.Values, func(key, _ any) bool { return slices.Contains(unsealed, key) })
		}
		s.Options.MaxAge = 7200
	})
	session := v.browser.Load()
	v.id, v.doc = session.ID, v.f.Document()
	switch kind {
	case "renewed":
		if _, err := v.browser.Clone().Renew(session); err != nil {
			t.Fatal(err)
		}
	case "logged out":
		v.browser.Clone().Logout()
	}
	for _, doc := range v.f.Documents() {
		if doc.Lookup("_id").StringValue() == storetest.HashOf(v.id) {
			v.doc = doc
		}
	}
	cfg := v.f.Cfg
	cfg.MigrateFrom = nil
	v.store = openForged(t, cfg, v.forger, v.log)
	v.oracle = newOracle(t)
	v.learnGobs(v.oracle.doc)
	v.learnGobs(v.doc)
	return v
}

// key is what a field's name stands for.
func (v *victim) key(name string) (any, error) {
	known, ok := v.keys[name]
	if !ok {
		known.key, _, known.err = v.oracle.read(name, bson.RawValue{Type: bson.TypeNull})
		v.keys[name] = known
	}
	return known.key, known.err
}

// oracle is a store that is asked what a single field of values means.
type oracle struct {
	t      testing.TB
	store  *mongostore.Store // over the forger
	forger *forger
	id     string
	doc    bson.Raw // of a session with the rich values, not sealed
}

func newOracle(t testing.TB) *oracle {
	t.Helper()
	f := storetest.Setup(t)
	session := sessions.NewSession(f.Store, storetest.Name)
	session.Values = richValues()
	if err := f.Store.Persist(t.Context(), session); err != nil {
		t.Fatal(err)
	}
	o := &oracle{t: t, forger: &forger{}, id: session.ID, doc: f.Document()}
	o.store = openForged(t, f.Cfg, o.forger, &storetest.CommandLog{})
	return o
}

// read returns the key and the value that the store reads a field as.
func (o *oracle) read(name string, v bson.RawValue) (key, value any, err error) {
	elements, err := o.doc.Elements()
	if err != nil {
		o.t.Fatal(err)
	}
	var fields [][]byte
	for _, e := range elements {
		if e.Key() == "values" {
			e = rawElement(bson.TypeEmbeddedDocument, "values", rawDocument(rawElement(v.Type, name, v.Value)))
		}
		fields = append(fields, e)
	}
	o.forger.set(rawDocument(fields...))
	session, err := o.store.Fetch(o.t.Context(), storetest.Name, o.id)
	if err != nil {
		return nil, nil, err
	}
	for key, value := range session.Values {
		return key, value, nil
	}
	return nil, nil, errors.New("no value")
}

// openForged opens a store over a forger's connections.
func openForged(t testing.TB, cfg mongostore.Config, forger *forger, log *storetest.CommandLog) *mongostore.Store {
	t.Helper()
	client, err := mongo.Connect(options.Client().ApplyURI(storetest.Server(t).URI).SetMonitor(log.Monitor()).SetDialer(forger))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
	cfg.Client = client
	store, err := mongostore.Open(t.Context(), cfg, storetest.SigningKey)
	if err != nil {
		t.Fatal(err)
	}
	log.Reset()
	return store
}

type keyOrError struct {
	key any
	err error
}

// learnGobs remembers the gobs in a document, or a list, that the store wrote.
func (v *victim) learnGobs(stored bson.Raw) {
	elements, err := stored.Elements()
	if err != nil {
		v.t.Fatal(err)
	}
	if tag, ok := stored.Lookup("_type").StringValueOK(); ok && tag == "gob" {
		_, encoded, _ := stored.Lookup("_value").BinaryOK()
		var value any
		if err := gob.NewDecoder(bytes.NewReader(encoded)).Decode(&value); err != nil {
			v.t.Fatal(err)
		}
		v.gobs[string(encoded)] = value
	}
	for _, e := range elements {
		if kind := e.Value().Type; kind == bson.TypeEmbeddedDocument || kind == bson.TypeArray {
			v.learnGobs(e.Value().Value)
		}
	}
}

// verdict is what a load has to return for a document.
type verdict struct {
	fresh   bool     // a new session, for there is none that is alive
	renewed bool     // which a save does not store, for it was renewed a moment ago
	refused bool     // an error
	bad     []string // the names of fields, or of keys, of which the error has to name one
	unsure  bool     // an error is no surprise: whether a gob is good is not decided here
	values  map[any]any
	maxAge  *int64
}

// reading is a reading of a document that shares no code with the store, except for the names of
// keys, which are fuzzed by themselves. A gob that the store did not write is decoded only if the store has
// done so: encoding/gob believes what it reads.
type reading struct {
	v      *victim
	unsure bool
	loaded bool
}

// judge reads a document. loaded says whether the store could.
func (v *victim) judge(doc []byte, loaded bool) verdict {
	top, ok := wellFormed(doc)
	if !ok {
		return verdict{refused: true}
	}
	types := map[string][]bson.Type{
		"v": numberTypes, "name": {bson.TypeString}, "rev": append([]bson.Type{bson.TypeNull}, numberTypes...),
		"createdAt": {bson.TypeDateTime}, "seenAt": {bson.TypeDateTime}, "expiresAt": {bson.TypeDateTime},
	}
	optional := map[string][]bson.Type{
		"values": {bson.TypeEmbeddedDocument}, "owner": nil, "details": nil, "maxAge": numberTypes,
		"movedTo": {bson.TypeString}, "migratedUntil": {bson.TypeDateTime}, "cookieAt": {bson.TypeDateTime},
	}
	fields, bad := map[string]bson.RawValue{}, []string(nil)
	for _, e := range top {
		kinds, known := types[e.Key()]
		if !known {
			kinds, known = optional[e.Key()]
		}
		if !known {
			continue
		}
		_, twice := fields[e.Key()]
		value := e.Value()
		if twice || kinds != nil && !slices.Contains(kinds, value.Type) || badNumber(value, kinds) || badText(value, kinds) ||
			e.Key() == "movedTo" && len(value.Value) == 5 {
			bad = append(bad, e.Key())
		}
		fields[e.Key()] = value
	}
	for name := range types {
		if _, there := fields[name]; !there {
			bad = append(bad, name)
		}
	}
	if n, ok := whole(fields["v"]); ok && n != 1 {
		bad = append(bad, "version")
	}
	res := verdict{values: map[any]any{}}
	if age, there := fields["maxAge"]; there {
		seconds, _ := whole(age)
		if seconds < 0 {
			bad = append(bad, "maxAge")
		}
		seconds = min(seconds, 100*365*24*3600)
		res.maxAge = &seconds
	}
	tombstone := fields["rev"].Type == bson.TypeNull
	if rev, _ := whole(fields["rev"]); !tombstone && rev < 1 {
		bad = append(bad, "rev")
	}
	_, moved := fields["movedTo"]
	if moved && !tombstone {
		bad = append(bad, "movedTo")
	}
	if len(bad) > 0 {
		return verdict{refused: true, bad: bad}
	}

	// Of a session that has ended it does not matter how good its values are.
	seen, now := time.UnixMilli(fields["seenAt"].DateTime()), time.Now()
	if seen.After(now.Add(time.Minute)) {
		seen = now
	}
	life := 30 * 24 * time.Hour
	switch {
	case res.maxAge != nil && *res.maxAge > 0:
		life = time.Duration(*res.maxAge) * time.Second
	case res.maxAge != nil:
		life = 24 * time.Hour
	}
	cookie, _ := fields["name"].StringValueOK()
	res.fresh = tombstone || cookie != storetest.Name
	res.renewed = moved && cookie == storetest.Name && now.Sub(seen) < 30*time.Second
	if tombstone || !time.UnixMilli(fields["expiresAt"].DateTime()).After(now) || !seen.Add(life).After(now) {
		res.fresh = true
		return res
	}

	stored, there := fields["values"]
	if !there {
		return verdict{refused: true, bad: []string{"values"}}
	}
	values, ok := wellFormed(stored.Value)
	if !ok {
		return verdict{refused: true}
	}
	in := reading{v: v, loaded: loaded}
	names := map[string]bool{}
	for _, e := range values {
		key, err := v.key(e.Key())
		value, ok := in.value(e)
		if err != nil || !ok || names[e.Key()] {
			bad = append(bad, strconv.Quote(e.Key()))
			continue
		}
		names[e.Key()] = true
		res.values[key] = value
	}
	res.unsure, res.bad, res.refused = in.unsure, bad, len(bad) > 0
	return res
}

var numberTypes = []bson.Type{bson.TypeInt32, bson.TypeInt64, bson.TypeDouble}

// whole reads an integer, also one that the shell has made a double.
func whole(v bson.RawValue) (int64, bool) {
	switch v.Type {
	case bson.TypeInt32, bson.TypeInt64:
		return v.AsInt64(), true
	case bson.TypeDouble:
		f := v.Double()
		return int64(f), f == math.Trunc(f) && math.Abs(f) < 1<<53
	}
	return 0, false
}

func badNumber(v bson.RawValue, kinds []bson.Type) bool {
	if _, ok := whole(v); ok || !slices.Contains(kinds, bson.TypeInt64) {
		return false
	}
	return slices.Contains(numberTypes, v.Type)
}

func badText(v bson.RawValue, kinds []bson.Type) bool {
	return slices.Contains(kinds, bson.TypeString) && v.Type == bson.TypeString && v.Value[len(v.Value)-1] != 0
}

// wellFormed returns the elements of a well-formed document. The driver lets some pass that are not.
func wellFormed(doc []byte) ([]bson.RawElement, bool) {
	if len(doc) < 5 || int64(binary.LittleEndian.Uint32(doc)) != int64(len(doc)) {
		return nil, false
	}
	elements, err := bson.Raw(doc).Elements()
	if err != nil || bson.Raw(doc).Validate() != nil {
		return nil, false
	}
	least := map[bson.Type]int{
		bson.TypeString: 5, bson.TypeSymbol: 5, bson.TypeJavaScript: 5, bson.TypeDBPointer: 17,
		bson.TypeEmbeddedDocument: 5, bson.TypeArray: 5, bson.TypeCodeWithScope: 14,
	}
	for _, e := range elements {
		if len(e.Value().Value) < least[e.Value().Type] {
			return nil, false
		}
	}
	return elements, true
}

// value reads the value of a key in values.
func (in *reading) value(e bson.RawElement) (any, bool) {
	v := e.Value()
	tag, content, ok := tagOf(v)
	if !ok || tag != "sealed" {
		return in.plain(v, 0)
	}
	// {_type: "sealed", _value: <key ID, nonce, ciphertext>}, bound to document and key.
	sum := sha256.Sum256(append([]byte("mongostore seal key\x00"), damageSealKey...))
	if !in.v.sealed || content.Type != bson.TypeBinary || len(content.Value) < 5+4+12 || content.Value[4] != 0 ||
		!bytes.Equal(content.Value[5:9], sum[:4]) {
		return nil, false
	}
	opened, err := testAEAD(in.v.t).Open(nil, content.Value[9:21], content.Value[21:], []byte(storetest.HashOf(in.v.id)+"\x00"+e.Key()))
	if err != nil || len(opened) == 0 {
		return nil, false
	}
	inner, ok := wellFormed(rawDocument(rawElement(bson.Type(opened[0]), "", opened[1:])))
	if !ok || len(inner) != 1 {
		return nil, false
	}
	return in.plain(inner[0].Value(), 0)
}

// testAEAD seals and opens with damageSealKey.
func testAEAD(t testing.TB) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(damageSealKey)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

// tagOf returns T and V of {_type: T, _value: V}, in any order.
func tagOf(v bson.RawValue) (tag string, content bson.RawValue, ok bool) {
	if v.Type != bson.TypeEmbeddedDocument {
		return "", content, false
	}
	elements, good := wellFormed(v.Value)
	if !good || len(elements) != 2 {
		return "", content, false
	}
	for _, e := range elements {
		switch e.Key() {
		case "_type":
			tag, ok = textOf(e.Value())
		case "_value":
			content = e.Value()
		}
	}
	return tag, content, ok && content.Type != 0
}

func textOf(v bson.RawValue) (string, bool) {
	if v.Type != bson.TypeString || v.Value[len(v.Value)-1] != 0 {
		return "", false
	}
	return string(v.Value[4 : len(v.Value)-1]), true
}

// taggedTypes are the types whose values are tagged with their type's name.
var taggedTypes = func() map[string]reflect.Type {
	types := map[string]reflect.Type{}
	for _, v := range []any{
		"", []byte(nil), int(0), int8(0), int16(0), int32(0), uint(0), uint8(0), uint16(0), uint32(0), uint64(0), time.Duration(0),
		float32(0), float64(0),
		time.Time{},
		[]any(nil), map[string]any(nil), []string(nil), []bool(nil), []int(nil), []int64(nil),
		[]float64(nil), []time.Time(nil), []map[string]any(nil), map[string]string(nil), map[string]bool(nil), map[string]int(nil),
		map[string]int64(nil), map[string]float64(nil), map[string][]string(nil),
	} {
		types[strings.ReplaceAll(reflect.TypeOf(v).String(), "interface {}", "any")] = reflect.TypeOf(v)
	}
	types["[]byte"] = types["[]uint8"]
	delete(types, "[]uint8")
	return types
}()

// plain reads a value that is not sealed.
func (in *reading) plain(v bson.RawValue, depth int) (any, bool) {
	if depth > 150 { // about here is the store's limit
		in.unsure = true
		if depth > 180 {
			return nil, false
		}
	}
	switch v.Type {
	case bson.TypeNull:
		return nil, true
	case bson.TypeBoolean:
		return v.Value[0] == 1, v.Value[0] < 2
	case bson.TypeString:
		s, ok := textOf(v)
		return s, ok && utf8.ValidString(s)
	case bson.TypeInt32:
		return int(v.Int32()), true
	case bson.TypeInt64:
		return v.Int64(), true
	case bson.TypeDouble:
		return v.Double(), true
	case bson.TypeDateTime:
		return time.UnixMilli(v.DateTime()).UTC(), true
	case bson.TypeObjectID:
		return v.ObjectID(), true
	case bson.TypeBinary:
		return bytes.Clone(v.Value[5:]), v.Value[4] == 0
	case bson.TypeArray:
		list, ok := in.list(v, reflect.TypeFor[[]any](), depth)
		return list, ok
	case bson.TypeEmbeddedDocument:
		if tag, content, ok := tagOf(v); ok {
			return in.tagged(tag, content, depth+1)
		}
		if elements, ok := wellFormed(v.Value); !ok || slices.ContainsFunc(elements, func(e bson.RawElement) bool { return e.Key() == "_type" }) {
			return nil, false
		}
		return in.dict(v, reflect.TypeFor[map[string]any](), depth)
	}
	return nil, false
}

func (in *reading) tagged(tag string, v bson.RawValue, depth int) (any, bool) {
	if tag == "gob" {
		return in.gob(v)
	}
	kind, known := taggedTypes[tag]
	if !known {
		return nil, false
	}
	result := reflect.New(kind).Elem()
	n, isWhole := whole(v)
	words, isText := textOf(v)
	switch kind.Kind() {
	case reflect.String:
		result.SetString(string(v.Value[min(5, len(v.Value)):]))
		return result.Interface(), v.Type == bson.TypeBinary && v.Value[4] == 0
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		result.SetInt(n)
		return result.Interface(), isWhole && !result.OverflowInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		u := uint64(n)
		if isText && (tag == "uint" || tag == "uint64") {
			var err error
			u, err = strconv.ParseUint(words, 10, 64)
			n, isWhole = 0, err == nil
		}
		result.SetUint(u)
		return result.Interface(), isWhole && n >= 0 && !result.OverflowUint(u)
	case reflect.Float32, reflect.Float64:
		f, err := math.NaN(), errors.New("no number")
		if v.Type == bson.TypeDouble {
			f, err = v.Double(), nil
		} else if isText {
			f, err = strconv.ParseFloat(words, 64)
		}
		result.SetFloat(f)
		return result.Interface(), err == nil && (result.Float() == f || math.IsNaN(f))
	case reflect.Struct: // time.Time
		t, err := time.Parse(time.RFC3339Nano, words)
		if isText && strings.HasPrefix(words, "@") {
			in.unsure = true // a form for times that have no other
			_, back, err := in.v.oracle.read("time", taggedValue(tag, v))
			return back, err == nil
		}
		return t, isText && err == nil
	case reflect.Slice:
		switch {
		case v.Type == bson.TypeNull:
			return result.Interface(), true
		case v.Type != bson.TypeArray || tag == "[]byte":
			return nil, false
		}
		return in.list(v, kind, depth)
	default:
		switch v.Type {
		case bson.TypeNull:
			return result.Interface(), true
		case bson.TypeEmbeddedDocument:
			return in.dict(v, kind, depth)
		}
		return nil, false
	}
}

func taggedValue(tag string, content bson.RawValue) bson.RawValue {
	return bson.RawValue{Type: bson.TypeEmbeddedDocument, Value: rawDocument(
		rawElement(bson.TypeString, "_type", slices.Concat(binary.LittleEndian.AppendUint32(nil, uint32(len(tag)+1)), []byte(tag), []byte{0})),
		rawElement(content.Type, "_value", content.Value))}
}

func (in *reading) gob(v bson.RawValue) (any, bool) {
	if v.Type != bson.TypeBinary || v.Value[4] != 0 {
		return nil, false
	}
	if known, ok := in.v.gobs[string(v.Value[5:])]; ok {
		return known, true
	}
	in.unsure = true
	if !in.loaded {
		return nil, true
	}
	var decoded any
	err := gob.NewDecoder(bytes.NewReader(v.Value[5:])).Decode(&decoded)
	return decoded, err == nil
}

// list reads an array, whose elements are numbered.
func (in *reading) list(v bson.RawValue, kind reflect.Type, depth int) (any, bool) {
	elements, ok := wellFormed(v.Value)
	list := reflect.MakeSlice(kind, 0, len(elements))
	for i, e := range elements {
		inner, good := in.plain(e.Value(), depth+1)
		fitting, fits := fit(inner, kind.Elem())
		ok = ok && good && (fits || in.unsure && !in.loaded) && e.Key() == strconv.Itoa(i)
		list = reflect.Append(list, fitting)
	}
	return list.Interface(), ok
}

func (in *reading) dict(v bson.RawValue, kind reflect.Type, depth int) (any, bool) {
	elements, ok := wellFormed(v.Value)
	dict := reflect.MakeMap(kind)
	for _, e := range elements {
		// The keys of maps are escaped like a session's own, but are always strings.
		key, err := in.v.key(e.Key())
		name, isString := key.(string)
		inner, good := in.plain(e.Value(), depth+1)
		fitting, fits := fit(inner, kind.Elem())
		ok = ok && err == nil && isString && good && (fits || in.unsure && !in.loaded) && !dict.MapIndex(reflect.ValueOf(name)).IsValid()
		dict.SetMapIndex(reflect.ValueOf(name), fitting)
	}
	return dict.Interface(), ok
}

// fit returns the value converted to a type, if it has that type.
func fit(v any, kind reflect.Type) (reflect.Value, bool) {
	if v == nil {
		return reflect.Zero(kind), kind.Kind() == reflect.Interface
	}
	if value := reflect.ValueOf(v); value.Type().AssignableTo(kind) {
		return value, true
	}
	return reflect.Zero(kind), false
}

// load has the store find a document, and checks what comes of it.
func (v *victim) load(what string, doc []byte) {
	v.t.Helper()
	v.forger.set(doc)
	v.count.tried++
	r := v.browser.Request()
	var session *sessions.Session
	var err error
	began := time.Now()
	before := storetest.HeapUsed()
	func() {
		defer func() {
			if p := recover(); p != nil {
				v.t.Fatalf("%s: panic: %v, with the document % x", what, p, doc)
			}
		}()
		session, err = v.store.Get(r, storetest.Name)
	}()
	used := storetest.HeapUsed() - before
	fail := func(format string, args ...any) {
		v.t.Helper()
		v.t.Fatalf("%s: %s; error %v; the document % x", what, fmt.Sprintf(format, args...), err, doc)
	}
	if took := time.Since(began); took > 15*time.Second {
		fail("took %v", took)
	}
	if limit := uint64(2<<20 + 100*len(doc)); v.alone && used > limit {
		fail("%d bytes took %d bytes of memory", len(doc), used)
	}
	if session == nil {
		fail("no session")
	}
	if got := v.log.Reset(); !slices.Equal(got, []string{"find"}) {
		fail("the load sent %q", got)
	}
	if errors.Is(err, mongostore.ErrUnavailable) { // the driver could not read the reply
		v.count.rejected++
		v.checkRefused(fail, session, err, r)
		return
	}
	_, doc = found(doc)
	want := v.judge(doc, err == nil)
	switch {
	case err != nil && !want.refused && !want.unsure:
		fail("a good document was refused")
	case err != nil:
		v.count.refused++
		if !errors.Is(err, mongostore.ErrCorrupt) {
			fail("not ErrCorrupt")
		}
		if len(want.bad) > 0 && !want.unsure && !slices.ContainsFunc(want.bad, func(s string) bool { return strings.Contains(err.Error(), s) }) {
			fail("the error names none of %q", want.bad)
		}
		v.checkRefused(fail, session, err, r)
	case want.refused:
		fail("a damaged document was read, in which %q is wrong, as %v", want.bad, session.Values)
	case want.fresh:
		v.count.fresh++
		if !session.IsNew || session.ID != "" || len(session.Values) > 0 {
			fail("no new session but %+v", session)
		}
		if want.renewed {
			session.Values["user"], err = "somebody else", nil
			w := httptest.NewRecorder()
			if err = session.Save(r, w); !errors.Is(err, mongostore.ErrGone) || w.Header()["Set-Cookie"] != nil || len(v.log.Reset()) > 0 {
				fail("a session that was renewed was saved")
			}
			v.count.renewed++
		}
	default:
		v.count.alive++
		if session.IsNew || session.ID != v.id {
			fail("a new session, though there is one")
		}
		if len(session.Values) != len(want.values) {
			fail("%d values, want %d", len(session.Values), len(want.values))
		}
		for key, value := range want.values {
			if got, there := session.Values[key]; !there || !samples.Same(got, value) {
				fail("the value of %v is %#v, want %#v", key, got, value)
			}
		}
		v.checkSealed(fail, session, doc)
		if want.maxAge != nil && int64(session.Options.MaxAge) != *want.maxAge {
			fail("MaxAge is %d, want %d", session.Options.MaxAge, *want.maxAge)
		}
		v.checkChange(fail, session, doc, want)
	}
}

// checkSealed checks that what says it is sealed is what was sealed there.
func (v *victim) checkSealed(fail func(string, ...any), session *sessions.Session, doc []byte) {
	v.t.Helper()
	if !v.sealed {
		return
	}
	original := richValues()
	values, _ := wellFormed(bson.Raw(doc).Lookup("values").Value)
	for _, e := range values {
		key, _ := v.key(e.Key())
		if tag, _, ok := tagOf(e.Value()); !ok || tag != "sealed" {
			v.count.opened++
		} else if value, there := original[key]; !there || !samples.Same(session.Values[key], value) {
			fail("a sealed value was altered: %s is %#v", e.Key(), session.Values[key])
		}
	}
}

// checkRefused checks that nothing can become of a session that could not be loaded.
func (v *victim) checkRefused(fail func(string, ...any), session *sessions.Session, err error, r *http.Request) {
	v.t.Helper()
	if !session.IsNew || session.ID != "" || len(session.Values) > 0 {
		fail("not a new session: %+v", session)
	}
	for _, secret := range []string{v.id, storetest.HashOf(v.id), marker} {
		if strings.Contains(err.Error(), secret) {
			fail("the error tells %q", secret)
		}
	}
	session.Values["user"] = "somebody else"
	w := httptest.NewRecorder()
	if errSave := session.Save(r, w); errSave == nil || errSave.Error() != err.Error() || w.Header()["Set-Cookie"] != nil {
		fail("Save returned %v, and set the cookie %q", errSave, w.Header()["Set-Cookie"])
	}
	if got := v.log.Reset(); len(got) > 0 {
		fail("Save sent %q", got)
	}
}

// checkChange checks that a save of one more key leaves the others as they were.
func (v *victim) checkChange(fail func(string, ...any), session *sessions.Session, doc []byte, was verdict) {
	v.t.Helper()
	session.Values["one more"] = 1
	w := httptest.NewRecorder()
	if err := session.Save(v.browser.Request(), w); err != nil {
		// Whose lifetime, as the document has it, makes no valid cookie.
		if w.Header()["Set-Cookie"] != nil || len(v.log.Reset()) > 0 {
			fail("Save returned %v", err)
		}
		return
	}
	names, commands := v.log.Take()
	if !slices.Equal(names, []string{"update"}) {
		fail("the save sent %q", names)
	}
	var twice []string // names of keys that have another name as well
	keys := map[any]string{}
	values, _ := wellFormed(bson.Raw(doc).Lookup("values").Value)
	for _, e := range values {
		key, _ := v.key(e.Key())
		if other, there := keys[key]; there {
			twice = append(twice, "values."+other)
		}
		keys[key] = e.Key()
	}
	for operator, ours := range map[string][]string{
		"$set":   {"values.one more", "owner", "details", "createdAt", "seenAt", "expiresAt", "maxAge"},
		"$unset": append([]string{"owner", "details", "maxAge", "cookieAt"}, twice...),
	} {
		changes, err := commands[0].LookupErr("updates", "0", "u", operator)
		if err != nil {
			continue
		}
		elements, _ := changes.Document().Elements()
		for _, e := range elements {
			if slices.Contains(ours, e.Key()) {
				continue
			}
			// What others wrote in another form may be written again, as the same.
			name := strings.TrimPrefix(e.Key(), "values.")
			key, err := v.key(name)
			in := reading{v: v, loaded: true}
			value, ok := in.value(bson.RawElement(rawElement(e.Value().Type, name, e.Value().Value)))
			if before, there := was.values[key]; operator != "$set" || err != nil || !ok || !there || !samples.Same(value, before) {
				fail("to add a key, the save sent %s: %s", operator, e)
			}
		}
	}
}

// unharmed checks that the database holds what it held.
func (v *victim) unharmed() {
	v.t.Helper()
	c := v.count
	v.t.Logf("%d documents of %d bytes: %d rejected by the driver, %d refused, %d dead, %d read",
		c.tried, len(v.doc), c.rejected, c.refused, c.fresh, c.alive)
	if v.sealed {
		v.t.Logf("in those that were read, %d values did not say that they were sealed", c.opened)
	}
	for _, got := range v.f.Documents() {
		if bytes.Equal(got, v.doc) {
			return
		}
	}
	v.t.Error("the document has changed")
}

// part is a part of a document to be mutated.
type part struct {
	kind bson.Type
	name string
	data []byte  // of what is no document and no array
	kids []*part // of what is
}

func (p *part) nested() bool { return p.kind == bson.TypeEmbeddedDocument || p.kind == bson.TypeArray }

func partOf(kind bson.Type, name string, data []byte) *part {
	n := &part{kind: kind, name: name, data: data}
	if !n.nested() {
		return n
	}
	elements, err := bson.Raw(data).Elements()
	if err != nil {
		return &part{kind: bson.TypeNull, name: name}
	}
	for _, e := range elements {
		n.kids = append(n.kids, partOf(e.Value().Type, e.Key(), bytes.Clone(e.Value().Value)))
	}
	return n
}

func (p *part) bytes() []byte {
	if !p.nested() {
		return p.data
	}
	var parts [][]byte
	for _, kid := range p.kids {
		parts = append(parts, rawElement(kid.kind, strings.ReplaceAll(kid.name, "\x00", ""), kid.bytes()))
	}
	return rawDocument(parts...)
}

// all returns the parts below a part, or those of them that can have parts themselves.
func (p *part) all(parents bool) []*part {
	var parts []*part
	for _, kid := range p.kids {
		if !parents || kid.nested() {
			parts = append(parts, kid)
		}
		parts = append(parts, kid.all(parents)...)
	}
	return parts
}

// mutator damages documents.
type mutator struct{ *rand.Rand }

func oneOf[T any](m mutator, from []T) T { return from[m.IntN(len(from))] }

// newNames are what a field may be renamed to.
var newNames = []string{
	"_id", "v", "name", "values", "owner", "details", "rev", "createdAt", "seenAt", "expiresAt", "cookieAt", "maxAge", "movedTo", "migratedUntil",
	"_type", "_value", "text", "user", "cart", "", "a.b", "$set", "%", "%2f", "%2F", "%empty", "%nil", "%int:7", "%int:07", "%uint8:300",
	"%gob:AAAA", "%gob:!", "%bool:T", "%zz:1", "\xff", " x", "0", "1", "01", "session",
}

// edit changes the document as a tree. What comes out is well-formed.
func (m mutator) edit(doc []byte) []byte {
	root := partOf(bson.TypeEmbeddedDocument, "", bytes.Clone(doc))
	parents := append(root.all(true), root, root)
	if values := slices.IndexFunc(root.kids, func(n *part) bool { return n.name == "values" }); values >= 0 {
		parents = append(parents, root.kids[values], root.kids[values])
	}
	parents = slices.DeleteFunc(parents, func(n *part) bool { return len(n.kids) == 0 })
	if len(parents) == 0 {
		return doc
	}
	parent := oneOf(m, parents)
	i := m.IntN(len(parent.kids))
	kid := parent.kids[i]
	switch m.IntN(11) {
	case 0:
		kid.name = oneOf(m, newNames)
	case 1:
		kid.name = oneOf(m, oneOf(m, parents).kids).name
	case 2:
		parent.kids = slices.Delete(parent.kids, i, i+1)
	case 3: // twice
		other := *kid
		if m.IntN(2) == 0 {
			other.kind, other.data, other.kids = bson.TypeInt32, []byte{9, 0, 0, 0}, nil
		}
		parent.kids = slices.Insert(parent.kids, m.IntN(len(parent.kids)+1), &other)
	case 4: // elsewhere
		elsewhere := oneOf(m, parents)
		other := *kid
		other.kids = nil
		other.data = kid.bytes()
		other = *partOf(kid.kind, kid.name, other.data)
		elsewhere.kids = slices.Insert(elsewhere.kids, m.IntN(len(elsewhere.kids)+1), &other)
	case 5: // the value of another field
		all := root.all(false)
		other := oneOf(m, all)
		if !slices.Contains(kid.all(false), other) && !slices.Contains(other.all(false), kid) {
			kid.kind, other.kind = other.kind, kid.kind
			kid.data, other.data = other.data, kid.data
			kid.kids, other.kids = other.kids, kid.kids
		}
	case 6:
		kid.kind, kid.data, kid.kids = bson.TypeEmbeddedDocument, nil, nil
		inner := kid
		for range 1 + m.IntN(400) {
			next := &part{kind: bson.TypeEmbeddedDocument, name: "a"}
			if m.IntN(100) < 30 {
				inner.kind, next.name = bson.TypeArray, "0"
			}
			inner.kids = []*part{next}
			inner = next
		}
	case 7:
		other := m.value()
		kid.kind, kid.data, kid.kids = other.Type, other.Value, nil
		*kid = *partOf(kid.kind, kid.name, kid.data)
	case 8: // a document for an array, and the other way round
		if kid.nested() {
			kid.kind ^= bson.TypeEmbeddedDocument ^ bson.TypeArray
		}
	case 9: // the same number of another type
		if kid.kind == bson.TypeInt32 {
			n := int32(binary.LittleEndian.Uint32(kid.data))
			kid.kind, kid.data = bson.TypeDouble, binary.LittleEndian.AppendUint64(nil, math.Float64bits(float64(n)))
		}
	case 10:
		m.Shuffle(len(parent.kids), func(i, j int) { parent.kids[i], parent.kids[j] = parent.kids[j], parent.kids[i] })
	}
	return root.bytes()
}

// value is of any type that BSON has.
func (m mutator) value() bson.RawValue {
	n := oneOf(m, []int64{0, 1, -1, 2, 127, 1 << 31, -1 << 31, 1 << 53, math.MaxInt64, math.MinInt64, m.Int64()})
	v := oneOf(m, []any{
		nil, true, n, int32(n), float64(n), math.NaN(), math.Inf(1), 0.5, "text", "SECRET", "\x00", "", bson.DateTime(n),
		bson.Symbol("a"), bson.JavaScript("a"),
		bson.CodeWithScope{Code: "a", Scope: bson.D{{Key: "b", Value: 1}}},
		bson.Regex{Pattern: "a", Options: "i"},
		bson.Binary{Subtype: bson.TypeBinaryBinaryOld, Data: []byte{1}},
		bson.Binary{Subtype: 0x80},
		bson.NewDecimal128(1, 2),
		bson.Timestamp{T: 1},
		bson.MinKey{},
		bson.MaxKey{},
		bson.Undefined{},
		bson.DBPointer{DB: "a"},
		bson.NewObjectID(),
		[]byte{},
		bson.A{},
		bson.D{},
		bson.A{1, "a"},
		bson.D{
			{Key: "_type", Value: oneOf(m, []string{"int", "int8", "uint", "float64", "gob", "string", "sealed", "[]string", "time.Time", "future", ""})},
			{Key: "_value", Value: n},
		},
		bson.D{{Key: "_type", Value: "gob"}, {Key: "_value", Value: []byte{0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}},
		bson.D{{Key: "_type", Value: "sealed"}, {Key: "_value", Value: make([]byte, m.IntN(40))}},
		bson.D{{Key: "_type", Value: "int"}},
	})
	kind, data, err := bson.MarshalValue(v)
	if err != nil {
		return bson.RawValue{Type: bson.TypeNull}
	}
	return bson.RawValue{Type: kind, Value: data}
}

// marks returns where in a document lengths and types stand.
func marks(doc []byte, base int) (lengths, types []int) {
	elements, err := bson.Raw(doc).Elements()
	if err != nil {
		return nil, nil
	}
	if base > 0 {
		lengths = append(lengths, base)
	}
	at := base + 4
	for _, e := range elements {
		types = append(types, at)
		start := at + 2 + len(e.Key())
		switch e.Value().Type {
		case bson.TypeString, bson.TypeBinary, bson.TypeJavaScript, bson.TypeSymbol, bson.TypeCodeWithScope:
			lengths = append(lengths, start)
		case bson.TypeEmbeddedDocument, bson.TypeArray:
			l, k := marks(e.Value().Value, start)
			lengths, types = append(lengths, l...), append(types, k...)
		}
		at += len(e)
	}
	return lengths, types
}

// scratch changes bytes, without a thought for what they are, or with a bad one.
func (m mutator) scratch(doc []byte) []byte {
	doc = bytes.Clone(doc)
	if len(doc) < 16 {
		return doc
	}
	at := 4 + m.IntN(len(doc)-5)
	to := min(at+1+m.IntN(1+m.IntN(64)), len(doc)-1)
	lengths, types := marks(doc, 0)
	switch m.IntN(8) {
	case 0:
		doc[at] ^= 1 << m.IntN(8)
	case 1:
		doc[at] = byte(m.Uint32())
	case 2:
		doc[at] = oneOf(m, []byte{0, 1, 2, 3, 4, 5, 8, 9, 10, 16, 18, 0x7f, 0x80, 0xff})
	case 3:
		return slices.Delete(doc, at, to)
	case 4:
		span := make([]byte, to-at)
		for i := range span {
			span[i] = byte(m.Uint32())
		}
		return slices.Insert(doc, at, span...)
	case 5:
		return slices.Insert(doc, 4+m.IntN(len(doc)-5), bytes.Clone(doc[at:to])...)
	case 6:
		if len(lengths) > 0 {
			p := oneOf(m, lengths)
			n := binary.LittleEndian.Uint32(doc[p:])
			binary.LittleEndian.PutUint32(doc[p:], oneOf(m, []uint32{
				0, 1, 4, 5, 0x7fffffff, 0x80000000, 0xffffffff, n - 1, n + 1, n / 2, n * 2, uint32(len(doc) - p), uint32(len(doc) - p - 4), m.Uint32N(uint32(len(doc))),
			}))
		}
	case 7:
		if len(types) > 0 {
			doc[oneOf(m, types)] = oneOf(m, []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 0x7f, 0xff, 20})
		}
	}
	return doc
}

// mutate damages a document once, or a few times.
func (m mutator) mutate(doc []byte) []byte {
	edits := m.IntN(2) == 0
	for range 1 + m.IntN(3)*m.IntN(2) {
		if edits {
			doc = m.edit(doc)
		} else {
			doc = m.scratch(doc)
		}
	}
	if m.IntN(20) == 0 {
		doc = m.scratch(doc)
	}
	if m.IntN(50) > 0 {
		doc = frame(doc)
	}
	return doc
}

// TestDamage: a document that was cut off, or altered in any way, is read as what it says, or
// refused, and in either case nothing of it is dropped or overwritten. It measures memory, and
// so does not run beside other tests.
func TestDamage(t *testing.T) {
	n, seed := *mutations, *damageSeed
	if testing.Short() {
		n /= 10
	}
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	shares := map[string]int{"plain": 4, "sealed": 3, "migrated": 1, "renewed": 1, "logged out": 1} // tenths
	for _, kind := range slices.Concat(liveVictims, endedVictims) {
		t.Run(kind, func(t *testing.T) {
			v := newVictim(t, kind)
			v.alone = true
			v.load("as it is", v.doc)
			live := slices.Contains(liveVictims, kind)
			if live && v.count.alive != 1 || !live && v.count.fresh != 1 || v.count.renewed == 1 != (kind == "renewed") {
				t.Fatalf("the document as it was written: %+v", v.count)
			}
			step := 1
			if !live && len(v.doc) > 1000 || testing.Short() {
				step = 8
			}
			for end := 0; end < len(v.doc); end += step {
				v.load(fmt.Sprintf("cut at %d", end), frame(bytes.Clone(v.doc[:end])))
			}
			// Some lack only the last fields, such as maxAge, which need not be there.
			if live && (v.count.alive > 3 || v.count.fresh > 0) || v.count.alive > 2 && kind != "migrated" || v.count.rejected > 0 {
				t.Errorf("documents that were cut off were read: %+v", v.count)
			}
			for end := 0; end < len(v.doc); end += 16 * step {
				v.load(fmt.Sprintf("cut at %d, which its length does not say", end), v.doc[:end:end])
			}
			v.unharmed()
			if kind == "plain" {
				for what, lie := range samples.LyingGobs(t) {
					root, values := v.fields()
					stored := samples.GobValue(t, lie)
					*values.kid("cart") = *partOf(stored.Type, "cart", stored.Value)
					v.load(what, root.bytes())
				}
				v.unharmed()
			}
			reached := func() int { return v.count.tried - v.count.rejected }
			v.count = counts{}
			for round := 0; reached() < n*shares[kind]/10; round++ {
				m := mutator{rand.New(rand.NewPCG(seed, uint64(round)))}
				v.load(fmt.Sprintf("seed %d, round %d", seed, round), m.mutate(v.doc))
			}
			v.unharmed()
		})
	}
}

// fields returns the top of a victim's document as a tree, and the values in it.
func (v *victim) fields() (root, values *part) {
	root = partOf(bson.TypeEmbeddedDocument, "", bytes.Clone(v.doc))
	return root, root.kid("values")
}

func (p *part) kid(name string) *part {
	for _, kid := range p.kids {
		if kid.name == name {
			return kid
		}
	}
	return nil
}

func (p *part) drop(name string) {
	p.kids = slices.DeleteFunc(p.kids, func(kid *part) bool { return kid.name == name })
}

// set replaces the value of a part.
func (p *part) set(t testing.TB, value any) {
	t.Helper()
	if value == nil {
		value = bson.Null{}
	}
	kind, data, err := bson.MarshalValue(value)
	if err != nil {
		t.Fatal(err)
	}
	*p = *partOf(kind, p.name, data)
}

// TestDamageIsNamed: the error tells what is wrong. It is the same from Fetch, and a logout
// works nevertheless.
func TestDamageIsNamed(t *testing.T) {
	t.Parallel()
	type row struct {
		what   string
		damage func(root, values *part)
		want   string
	}
	set := func(name string, value any, want string) row {
		return row{fmt.Sprintf("%s: %v", name, value), func(root, _ *part) { root.kid(name).set(t, value) }, want}
	}
	setValue := func(what string, value any) row {
		return row{what, func(_, values *part) { values.kid("text").set(t, value) }, `key "text"`}
	}
	rows := []row{
		set("v", 2, "format version 2 is newer"),
		set("v", int64(math.MaxInt64), "newer"),
		set("v", 2.0, "format version 2 is newer"),
		set("v", 0, "no format version"),
		set("v", "1", "field v"),
		set("rev", 0, "field rev"),
		set("rev", "", "field rev"),
		set("rev", -1, "field rev"),
		set("rev", 1.5, "field rev"),
		set("maxAge", -1, "field maxAge"),
		set("maxAge", "60", "field maxAge"),
		set("name", 1, "field name"),
		set("values", bson.A{}, "field values"),
		set("createdAt", 1, "field createdAt"),
		set("seenAt", nil, "field seenAt"),
		set("expiresAt", bson.Timestamp{T: math.MaxUint32}, "field expiresAt"),
		{"movedTo empty", func(root, _ *part) {
			root.kid("rev").set(t, nil)
			root.kids = append(root.kids, partOf(bson.TypeString, "movedTo", []byte{1, 0, 0, 0, 0}))
		}, "field movedTo"},
		{"movedTo in a session", func(root, _ *part) {
			root.kids = append(root.kids, partOf(bson.TypeString, "movedTo", []byte("\x02\x00\x00\x00a\x00")))
		}, "field movedTo"},
		{"migratedUntil is a number", func(root, _ *part) {
			root.kids = append(root.kids, partOf(bson.TypeInt32, "migratedUntil", []byte{1, 0, 0, 0}))
		}, "field migratedUntil"},
		{"cookieAt is a number", func(root, _ *part) {
			root.kids = append(root.kids, partOf(bson.TypeInt32, "cookieAt", []byte{1, 0, 0, 0}))
		}, "field cookieAt"},
		{"a newer version of another shape", func(root, _ *part) {
			root.kid("v").set(t, 2)
			root.drop("values")
			root.kid("rev").set(t, "many")
		}, "format version 2 is newer"},
		{"a key there twice", func(_, values *part) {
			other := *values.kid("text")
			values.kids = append(values.kids, &other)
		}, `key "text"`},
		{"a key there twice, with another value", func(_, values *part) {
			values.kids = append(values.kids, partOf(bson.TypeInt32, "text", []byte{1, 0, 0, 0}))
		}, `key "text"`},
		{"a key that is none", func(_, values *part) { values.kid("text").name = "%2e" }, `key "%2e"`},
		{"an array that was a document", func(_, values *part) { values.kid("map").kind = bson.TypeArray }, `key "map"`},
		{"a list with a gap", func(_, values *part) { values.kid("list").drop("1") }, `key "list"`},
		{"a boolean of 2", func(_, values *part) { values.kid("yes").data[0] = 2 }, `key "yes"`},
		{"a string that is not UTF-8", func(_, values *part) { values.kid("text").data[4] = 0xff }, `key "text"`},
		{"a string without its end", func(_, values *part) {
			text := values.kid("text")
			text.data[len(text.data)-1] = 'x'
		}, `key "text"`},
		{"a binary of another subtype", func(_, values *part) { values.kid("bytes").data[4] = 2 }, `key "bytes"`},
		{"a tag with a third field", func(_, values *part) {
			tag := values.kid("int8")
			tag.kids = append(tag.kids, partOf(bson.TypeNull, "SECRET", nil))
		}, `key "int8"`},
		{"a tag without its value", func(_, values *part) { values.kid("int8").drop("_value") }, `key "int8"`},
		{"a string that claims two gigabytes", func(_, values *part) {
			binary.LittleEndian.PutUint32(values.kid("text").data, math.MaxInt32)
		}, "malformed BSON"},
		{"a binary within that claims two gigabytes", func(_, values *part) {
			binary.LittleEndian.PutUint32(values.kid("map").kid("c").data, math.MaxInt32)
		}, `key "map"`},
		setValue("an unknown tag", bson.D{{Key: "_type", Value: "SECRET"}, {Key: "_value", Value: 1}}),
		setValue("a gob of an unknown type", bson.D{{Key: "_type", Value: "gob"}, {Key: "_value", Value: []byte("\x10\x10\x00\x0bmain.Absent")}}),
		setValue("a nested key that is none", bson.D{{Key: "%SECRET", Value: 1}}),
		setValue("a nested key there twice", bson.D{{Key: "SECRET", Value: 1}, {Key: "SECRET", Value: 1}}),
		setValue("a document three hundred levels deep", samples.DeepDocument(300)),
		setValue("sealed without a key", bson.D{{Key: "_type", Value: "sealed"}, {Key: "_value", Value: make([]byte, 50)}}),
	}
	required := []string{"v", "name", "values", "rev", "createdAt", "seenAt", "expiresAt"}
	for _, name := range required {
		want := "field " + name
		if name == "v" {
			want = "version"
		}
		rows = append(rows, row{"no " + name, func(root, _ *part) { root.drop(name) }, want})
		for _, other := range append([]string{"owner", "details", "maxAge"}, required...) {
			if other == name {
				continue
			}
			rows = append(rows, row{fmt.Sprintf("no %s, but %s twice", name, other), func(root, _ *part) {
				root.kid(name).set(t, root.kid(other).raw())
				root.kid(name).name = other
			}, "field "})
		}
	}
	v := newVictim(t, "plain")
	for _, row := range rows {
		root, values := v.fields()
		row.damage(root, values)
		doc := root.bytes()
		v.load(row.what, doc)
		session, err := v.store.New(v.browser.Request(), storetest.Name)
		if !errors.Is(err, mongostore.ErrCorrupt) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v, want %q", row.what, err, row.want)
		}
		fetched, errFetch := v.store.Fetch(t.Context(), storetest.Name, v.id)
		if fetched != nil || !errors.Is(errFetch, mongostore.ErrCorrupt) || strings.TrimPrefix(errFetch.Error(), "mongostore: fetch session: ") != strings.TrimPrefix(err.Error(), "mongostore: load session: ") {
			t.Errorf("%s: Fetch returned %v, %v", row.what, fetched, errFetch)
		}
		if err := v.store.Persist(t.Context(), session); !errors.Is(err, mongostore.ErrCorrupt) {
			t.Errorf("%s: Persist returned %v", row.what, err)
		}
		if err := v.store.Renew(v.browser.Request(), httptest.NewRecorder(), session); !errors.Is(err, mongostore.ErrCorrupt) {
			t.Errorf("%s: Renew returned %v", row.what, err)
		}
		v.log.Reset()
	}
	v.unharmed()
	// The last of them, logged out.
	session, err := v.store.New(v.browser.Request(), storetest.Name)
	if err == nil {
		t.Fatal("the document is not damaged")
	}
	session.Options.MaxAge = -1
	w := httptest.NewRecorder()
	if err := v.store.Save(v.browser.Request(), w, session); err != nil {
		t.Errorf("logout: %v", err)
	}
	if c := w.Result().Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("cookies of the logout: %v", c)
	}
	v.f.WantDocuments(0)
}

// TestDeadDocuments: what says that it is over, or somebody else's, is no session and no damage.
func TestDeadDocuments(t *testing.T) {
	t.Parallel()
	v := newVictim(t, "plain")
	for what, change := range map[string]func(root *part){
		"another name":    func(root *part) { root.kid("name").set(t, "other") },
		"a name in parts": func(root *part) { root.kid("name").set(t, "session\x00") },
		"no name":         func(root *part) { root.kid("name").set(t, "") },
		"a tombstone":     func(root *part) { root.kid("rev").set(t, nil) },
		"a tombstone without values": func(root *part) {
			root.kid("rev").set(t, nil)
			root.drop("values")
		},
		"renewed": func(root *part) {
			root.kid("rev").set(t, nil)
			root.kids = append(root.kids, partOf(bson.TypeString, "movedTo", []byte("\x02\x00\x00\x00a\x00")))
		},
		"expired":  func(root *part) { root.kid("expiresAt").set(t, bson.NewDateTimeFromTime(time.Now().Add(-time.Second))) },
		"long ago": func(root *part) { root.kid("expiresAt").set(t, bson.DateTime(math.MinInt64)) },
		"not seen since": func(root *part) {
			root.kid("seenAt").set(t, bson.NewDateTimeFromTime(time.Now().Add(-7201*time.Second)))
		},
	} {
		root, _ := v.fields()
		change(root)
		was := v.count.fresh
		if v.load(what, root.bytes()); v.count.fresh != was+1 {
			t.Errorf("%s: it was read", what)
		}
		if session, err := v.store.Fetch(t.Context(), storetest.Name, v.id); session != nil || !errors.Is(err, mongostore.ErrNotFound) {
			t.Errorf("%s: Fetch returned %v, %v", what, session, err)
		}
		v.log.Reset()
	}
	v.unharmed()
}

func (p *part) raw() bson.RawValue { return bson.RawValue{Type: p.kind, Value: p.bytes()} }

// TestSealedBits: turning any bit of a sealed value is noticed, wherever it stands. Only in
// the name _type it makes a map of it that says nothing of a seal.
func TestSealedBits(t *testing.T) {
	t.Parallel()
	v := newVictim(t, "sealed")
	start := bytes.Index(v.doc, []byte("\x03text\x00")) // its type, its name, and then the value
	size := len("?text?") + int(binary.LittleEndian.Uint32(v.doc[start+len("?text?"):]))
	original := v.doc[start : start+size]
	typeName := bytes.Index(original, []byte("_type"))
	for at := range original {
		if testing.Short() && at%4 != 0 {
			continue
		}
		for bit := range 8 {
			doc := bytes.Clone(v.doc)
			doc[start+at] ^= 1 << bit
			was := v.count
			v.load(fmt.Sprintf("bit %d of byte %d", bit, at), doc)
			inName := at >= typeName && at < typeName+len("_type")
			if v.count.refused == was.refused && !inName {
				t.Errorf("bit %d of byte %d in % x, turned, was not noticed", bit, at, original)
			}
		}
	}
	v.unharmed()
}

// TestSealedElsewhere: a sealed value opens in its document and under its key, and nowhere else.
func TestSealedElsewhere(t *testing.T) {
	t.Parallel()
	mine, other := newVictim(t, "sealed"), newVictim(t, "sealed")
	_, foreign := other.fields()
	names := []string{"text", "number", "nothing", "cart", "list", "%int:7", "%int64:7", "a%2Eb", "%empty", "%nil", "user"}
	refused := func(what string, doc []byte, key string) {
		t.Helper()
		mine.load(what, doc)
		_, err := mine.store.New(mine.browser.Request(), storetest.Name)
		if !errors.Is(err, mongostore.ErrCorrupt) || !strings.Contains(err.Error(), strconv.Quote(key)) {
			t.Errorf("%s: %v", what, err)
		}
		mine.log.Reset()
	}
	for _, to := range names {
		for _, from := range names {
			root, values := mine.fields()
			*values.kid(to) = *partOf(bson.TypeEmbeddedDocument, to, foreign.kid(from).bytes())
			refused(fmt.Sprintf("%s from another document's %s", to, from), root.bytes(), to)
			if from == to {
				continue
			}
			root, values = mine.fields()
			*values.kid(to) = *partOf(bson.TypeEmbeddedDocument, to, values.kid(from).bytes())
			refused(fmt.Sprintf("%s from %s", to, from), root.bytes(), to)
		}
		for _, name := range []string{to + "x", "x" + to, "other"} {
			root, values := mine.fields()
			values.kid(to).name = name
			refused(to+" renamed", root.bytes(), name)
		}
		for _, cut := range []int{1, 12, 16, 17, 30} {
			root, values := mine.fields()
			sealed := values.kid(to).kid("_value")
			sealed.data = sealed.data[:max(5, len(sealed.data)-cut)]
			binary.LittleEndian.PutUint32(sealed.data, uint32(len(sealed.data)-5))
			refused(fmt.Sprintf("%s, %d bytes shorter", to, cut), root.bytes(), to)
		}
	}
	// Sealed as it should be, but no value.
	for _, plain := range []string{
		"", "\x02", "\x02\xff\xff\xff\x7f", "\x02\x02\x00\x00\x00ab", "\x10\x01\x00\x00", "\x10\x01\x00\x00\x00\x00", "\x03\x05\x00\x00", "\xee",
		"\x08", "\x05\x01\x00\x00\x00", "\x04\x05\x00\x00\x00\x01",
	} {
		root, values := mine.fields()
		sealed := values.kid("text").kid("_value")
		nonce := sealed.data[9:21]
		ciphertext := testAEAD(t).Seal(nil, nonce, []byte(plain), []byte(storetest.HashOf(mine.id)+"\x00text"))
		sealed.data = slices.Concat(binary.LittleEndian.AppendUint32(nil, uint32(4+len(nonce)+len(ciphertext))), sealed.data[4:21], ciphertext)
		refused(fmt.Sprintf("the sealed bytes % x", plain), root.bytes(), "text")
	}
	// A whole document under another _id.
	root := partOf(bson.TypeEmbeddedDocument, "", bytes.Clone(other.doc))
	root.kid("_id").set(t, storetest.HashOf(mine.id))
	mine.load("another document", root.bytes())
	if _, err := mine.store.New(mine.browser.Request(), storetest.Name); !errors.Is(err, mongostore.ErrCorrupt) {
		t.Errorf("another document: %v", err)
	}
	mine.log.Reset()
	mine.unharmed()
	// With the key lost, or another in its place.
	for _, keys := range [][][]byte{nil, {storetest.SealKey(t)}} {
		cfg := mine.f.Cfg
		cfg.SealKeys = keys
		store, err := mongostore.Open(t.Context(), cfg, storetest.SigningKey)
		if err != nil {
			t.Fatal(err)
		}
		session, err := store.Get(mine.browser.Request(), storetest.Name)
		if !errors.Is(err, mongostore.ErrCorrupt) || !strings.Contains(err.Error(), `key "`) || !strings.Contains(err.Error(), "not in Config.SealKeys") {
			t.Errorf("with %d other keys: %v", len(keys), err)
		}
		w := httptest.NewRecorder()
		if errSave := store.Save(mine.browser.Request(), w, session); !errors.Is(errSave, mongostore.ErrCorrupt) || w.Header()["Set-Cookie"] != nil {
			t.Errorf("with %d other keys: Save returned %v", len(keys), errSave)
		}
	}
	mine.unharmed()
}

// TestDamageInTheDatabase: what the server takes of the damaged documents, found by the store in
// earnest. What it cannot read stays as it is, to the byte; what it can read keeps all its keys when
// one more is saved.
func TestDamageInTheDatabase(t *testing.T) {
	t.Parallel()
	for i, kind := range []string{"plain", "sealed"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			v := newVictim(t, kind)
			store, key := v.f.Store, storetest.HashOf(v.id)
			// A connection of its own: what FerretDB cannot read it closes the connection
			// for, and other tests look at the database over the one that they share.
			client, err := mongo.Connect(options.Client().ApplyURI(storetest.Server(t).URI))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) })
			coll := client.Database(v.f.Cfg.Database).Collection(v.f.Cfg.Collection)
			var unwritten, refused, fresh, alive int
			for round := 0; refused+fresh+alive < *mutations/100; round++ {
				m := mutator{rand.New(rand.NewPCG(*damageSeed+uint64(i)+1, uint64(round)))}
				doc := m.edit(v.doc)
				if id, ok := bson.Raw(doc).Lookup("_id").StringValueOK(); !ok || id != key {
					continue
				}
				if _, err := coll.ReplaceOne(t.Context(), bson.D{{Key: "_id", Value: key}}, bson.Raw(doc)); err != nil {
					unwritten++ // the server thinks so too
					continue
				}
				before := v.f.Document() // as the server took it
				r, w := v.browser.Request(), httptest.NewRecorder()
				session, err := store.Get(r, storetest.Name)
				want := v.judge(before, err == nil)
				if err != nil && !want.refused && !want.unsure || err == nil && want.refused || err != nil && !errors.Is(err, mongostore.ErrCorrupt) {
					t.Fatalf("round %d: %v; want %q refused; the document is %s", round, err, want.bad, before)
				}
				switch {
				case err != nil:
					refused++
					session.Values["one more"] = 1
					if errSave := session.Save(r, w); errSave == nil || errSave.Error() != err.Error() || w.Header()["Set-Cookie"] != nil {
						t.Errorf("round %d: Save returned %v", round, errSave)
					}
					if after := v.f.Document(); !bytes.Equal(after, before) {
						t.Errorf("round %d: the document has changed: %s", round, before)
					}
				case want.fresh:
					fresh++
					if !session.IsNew || session.ID != "" || len(session.Values) > 0 {
						t.Errorf("round %d: %+v", round, session)
					}
				default:
					alive++
					session.Values["one more"] = 1
					if err := session.Save(r, w); err != nil {
						if after := v.f.Document(); !bytes.Equal(after, before) || w.Header()["Set-Cookie"] != nil {
							t.Errorf("round %d: Save failed, %v, and left %s", round, err, after)
						}
						continue
					}
					want.values["one more"] = 1
					again := v.browser.Load()
					if len(again.Values) != len(want.values) {
						t.Errorf("round %d: %d values, want %d", round, len(again.Values), len(want.values))
					}
					for key, value := range want.values {
						if got, there := again.Values[key]; !there || !samples.Same(got, value) {
							t.Errorf("round %d: the value of %v is %#v, want %#v", round, key, got, value)
						}
					}
				}
			}
			t.Logf("the server refused %d documents; of the others %d were refused, %d dead, %d read", unwritten, refused, fresh, alive)
		})
	}
}

// TestDamageInLists: a damaged document is left out of its owner's list of sessions, with a
// warning that tells nothing of it, or listed as what it says.
func TestDamageInLists(t *testing.T) {
	t.Parallel()
	v := newVictim(t, "plain")
	listed := 0
	for round := range *mutations / 10 {
		m := mutator{rand.New(rand.NewPCG(*damageSeed+10, uint64(round)))}
		doc := m.mutate(v.doc)
		v.forger.set(doc)
		_, doc = found(doc)
		n := 0
		for info, err := range v.store.Sessions(t.Context(), "ada SECRET") {
			n++
			if err != nil {
				if !errors.Is(err, mongostore.ErrUnavailable) || strings.Contains(err.Error(), marker) {
					t.Fatalf("round %d: %v", round, err)
				}
				continue
			}
			listed++
			id, _ := bson.Raw(doc).Lookup("_id").StringValueOK()
			if info.Key != id {
				t.Fatalf("round %d: %+v for % x", round, info, doc)
			}
		}
		if n > 1 {
			t.Fatalf("round %d: a list of %d", round, n)
		}
	}
	if log := v.f.Text.String(); !strings.Contains(log, "damaged") || strings.Contains(log, marker) || strings.Contains(log, v.id) {
		t.Errorf("log: %.300s", log)
	}
	t.Logf("%d of %d listed", listed, *mutations/10)
}

// TestDamageMeanwhile: a document that was damaged after its session was loaded is not overwritten
// by what has to read it again.
func TestDamageMeanwhile(t *testing.T) {
	t.Parallel()
	broken := bson.D{{Key: "_type", Value: "broken"}, {Key: "_value", Value: 1}}
	for what, save := range map[string]func(*storetest.Browser, *sessions.Session) (*httptest.ResponseRecorder, error){
		"save":  (*storetest.Browser).Save,
		"renew": (*storetest.Browser).Renew,
	} {
		f := storetest.Setup(t, func(c *mongostore.Config) { c.OnConflict = mongostore.ConflictReject })
		b := f.Browser().Login()
		session := b.Load()
		f.Edit(bson.D{{Key: "$set", Value: bson.D{{Key: "values.user", Value: broken}}}, {Key: "$inc", Value: bson.D{{Key: "rev", Value: 1}}}})
		before := f.Document()
		session.Values["more"] = 1
		w, err := save(b, session)
		if !errors.Is(err, mongostore.ErrCorrupt) || !strings.Contains(err.Error(), `"user"`) || w.Header()["Set-Cookie"] != nil {
			t.Errorf("%s: %v", what, err)
		}
		if after := f.Document(); !bytes.Equal(after, before) {
			t.Errorf("%s: the document has changed", what)
		}
	}
}
