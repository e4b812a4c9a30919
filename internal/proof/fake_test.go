package proof

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/mongostore/mongostore/internal/proof/fakemongo"
)

// TestFakeServer sends the same random commands to the server in memory and to the
// server under the other tests. Both have to answer the same, and to hold the same documents.
func TestFakeServer(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	fake := &fakemongo.Server{}
	t.Cleanup(fake.Close)
	client, err := mongo.Connect(options.Client().ApplyURI(fake.URI()).SetDialer(fake))
	if err != nil {
		t.Fatal(err)
	}
	defer disconnect(t, client)
	outside := connect(t, nil)
	defer disconnect(t, outside)

	const rounds, commands = 25, 60
	kinds := map[string]int{}
	for range rounds {
		coll := collection(t, outside)
		g := &generator{Rand: rnd, collection: coll.Name()}
		var log []string
		for range commands {
			c := g.command()
			log = append(log, text(c))
			want, got := answer(coll.Database(), c), answer(client.Database("fake"), c)
			kinds[outcomeOf(c, want)]++
			if want != got {
				t.Fatalf("seed %d: %s\nis answered %s\n          and %s here, after\n%s", seed, text(c), want, got, strings.Join(log, "\n"))
			}
		}
		all := bson.D{{Key: "find", Value: coll.Name()}, {Key: "filter", Value: bson.D{}}}
		if want, got := answer(coll.Database(), all), answer(client.Database("fake"), all); want != got {
			t.Fatalf("seed %d: at last there is %s\n            and %s here, after\n%s", seed, want, got, strings.Join(log, "\n"))
		}
	}
	t.Logf("%d commands: %v", rounds*commands, kinds)
	for _, kind := range []string{"find: 1", "insert: 1", "insert: 11000", "update: 1", "update: 0", "update: 14", "delete: 1", "delete: 0"} {
		if kinds[kind] == 0 {
			t.Errorf("there was no %q", kind)
		}
	}
}

func outcomeOf(c bson.D, reply string) string {
	_, what, _ := strings.Cut(reply, " ")
	what = strings.Trim(what, "[]")
	if i := strings.IndexAny(what, " ["); i >= 0 {
		what = what[:i]
	}
	return c[0].Key + ": " + what
}

func text(c bson.D) string {
	b, err := bson.MarshalExtJSON(c, true, false)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// answer runs a command and returns what its reply says that does not differ between servers.
func answer(db *mongo.Database, c bson.D) string {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var reply struct {
		N      int32
		Cursor struct {
			Batch []bson.D `bson:"firstBatch"`
		}
	}
	err := db.RunCommand(ctx, c).Decode(&reply)
	var refused mongo.ServerError
	if errors.As(err, &refused) {
		return fmt.Sprint("fails ", refused.ErrorCodes())
	}
	if err != nil {
		return err.Error()
	}
	if c[0].Key != "find" {
		return fmt.Sprintf("writes %d", reply.N)
	}
	var docs []string
	for _, doc := range reply.Cursor.Batch {
		docs = append(docs, text(sorted(doc)))
	}
	if _, ordered := c[len(c)-1].Value.(bson.D); !ordered || c[len(c)-1].Key != "sort" {
		slices.Sort(docs)
	}
	return fmt.Sprintf("finds %d %v", len(docs), docs)
}

// sorted returns a document with its fields in the order of their names, at every depth.
func sorted(doc bson.D) bson.D {
	out := slices.Clone(doc)
	for i := range out {
		if d, ok := out[i].Value.(bson.D); ok {
			out[i].Value = sorted(d)
		}
	}
	slices.SortFunc(out, func(a, b bson.E) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

// generator returns commands like those of a session store.
type generator struct {
	*rand.Rand
	collection string
}

func (g *generator) pick(values ...any) any { return values[g.IntN(len(values))] }

func (g *generator) id() any { return g.pick("a", "b", "c") }

func (g *generator) date() bson.DateTime { return bson.DateTime(1_000_000 + 1000*g.IntN(4)) }

func (g *generator) key() string { return g.pick("x", "y", "%2Ez").(string) }

func (g *generator) value() any {
	return g.pick(int32(g.IntN(3)), int64(g.IntN(3)), "s", "", nil, true, g.date(),
		bson.D{{Key: "k", Value: int32(g.IntN(2))}}, bson.A{"f", int32(1)}, bson.Binary{Data: []byte{1, 2}})
}

func (g *generator) document() bson.D {
	doc := bson.D{
		{Key: "_id", Value: g.id()},
		{Key: "v", Value: int32(1)},
		{Key: "values", Value: bson.D{{Key: g.key(), Value: g.value()}}},
		{Key: "rev", Value: g.pick(int32(1), int64(1), nil)},
		{Key: "seenAt", Value: g.date()},
		{Key: "expiresAt", Value: g.date()},
	}
	if g.IntN(3) == 0 {
		doc = append(doc, bson.E{Key: "maxAge", Value: int32(g.IntN(3))})
	}
	if g.IntN(3) == 0 {
		doc = append(doc, bson.E{Key: "owner", Value: g.pick("ada", int32(1), int64(1))})
	}
	if g.IntN(6) == 0 {
		doc = append(doc, bson.E{Key: "movedTo", Value: g.id()})
	}
	return doc
}

func (g *generator) filter() bson.D {
	filter := bson.D{}
	if g.IntN(4) > 0 {
		filter = append(filter, bson.E{Key: "_id", Value: g.id()})
	}
	for range g.IntN(3) {
		e := []bson.E{
			{Key: "expiresAt", Value: bson.D{{Key: "$gt", Value: g.date()}}},
			{Key: "expiresAt", Value: bson.D{{Key: "$lte", Value: g.date()}}},
			{Key: "rev", Value: g.pick(int32(1), int32(2), int64(1), nil)},
			{Key: "rev", Value: bson.D{{Key: "$ne", Value: nil}}},
			{Key: "movedTo", Value: bson.D{{Key: "$exists", Value: g.IntN(2) == 0}}},
			{Key: "movedTo", Value: nil},
			{Key: "v", Value: bson.D{{Key: "$exists", Value: true}}},
			{Key: "maxAge", Value: g.pick(int32(0), nil)},
			{Key: "maxAge", Value: bson.D{{Key: "$in", Value: bson.A{nil, int32(1)}}}},
			{Key: "owner", Value: g.pick("ada", int32(1))},
			{Key: "_id", Value: bson.D{{Key: "$nin", Value: bson.A{g.id()}}}},
			{Key: "values." + g.key(), Value: g.pick("s", int32(1), nil)},
			{Key: "values." + g.key(), Value: bson.D{{Key: "$exists", Value: true}}},
		}[g.IntN(13)]
		if !slices.ContainsFunc(filter, func(f bson.E) bool { return f.Key == e.Key }) {
			filter = append(filter, e)
		}
	}
	return filter
}

func (g *generator) update() bson.D {
	set, unset := bson.D{}, bson.D{}
	for _, key := range []string{"values.x", "values.y", "values.%2Ez", "maxAge", "owner", "movedTo"} {
		switch g.IntN(8) {
		case 0:
			set = append(set, bson.E{Key: key, Value: g.value()})
		case 1:
			unset = append(unset, bson.E{Key: key, Value: ""})
		}
	}
	var update bson.D
	if len(set) > 0 {
		update = append(update, bson.E{Key: "$set", Value: set})
	}
	if len(unset) > 0 {
		update = append(update, bson.E{Key: "$unset", Value: unset})
	}
	switch g.IntN(4) {
	case 0:
		update = append(update, bson.E{Key: "$set", Value: bson.D{{Key: "rev", Value: nil}}})
		if len(set) > 0 {
			update = slices.Delete(update, 0, 1)
		}
	case 1, 2:
		update = append(update, bson.E{Key: "$inc", Value: bson.D{{Key: "rev", Value: g.pick(int32(1), int64(1))}}})
	}
	if g.IntN(2) == 0 || len(update) == 0 {
		update = append(update, bson.E{Key: "$max", Value: bson.D{{Key: "seenAt", Value: g.date()}, {Key: "expiresAt", Value: g.date()}}})
	}
	return update
}

func (g *generator) command() bson.D {
	switch g.IntN(8) {
	case 0, 1:
		return bson.D{{Key: "insert", Value: g.collection}, {Key: "documents", Value: bson.A{g.document()}}}
	case 2:
		return bson.D{{Key: "delete", Value: g.collection}, {Key: "deletes", Value: bson.A{
			bson.D{{Key: "q", Value: g.filter()}, {Key: "limit", Value: int32(g.IntN(2))}},
		}}}
	case 3:
		c := bson.D{{Key: "find", Value: g.collection}, {Key: "filter", Value: g.filter()}}
		if g.IntN(3) == 0 {
			c = append(c, bson.E{Key: "projection", Value: bson.D{{Key: "values", Value: int32(0)}}})
		}
		if g.IntN(3) == 0 {
			c = append(c, bson.E{Key: "sort", Value: bson.D{{Key: "seenAt", Value: int32(-1)}, {Key: "_id", Value: int32(1)}}})
		}
		return c
	}
	filter, u := g.filter(), g.update()
	if !slices.ContainsFunc(filter, func(e bson.E) bool { return e.Key == "_id" && class(e.Value) }) {
		filter = append(bson.D{{Key: "_id", Value: g.id()}}, slices.DeleteFunc(filter, func(e bson.E) bool { return e.Key == "_id" })...)
	}
	if g.IntN(10) == 0 {
		u = slices.DeleteFunc(g.document(), func(e bson.E) bool { return e.Key == "_id" })
	}
	return bson.D{{Key: "update", Value: g.collection}, {Key: "updates", Value: bson.A{bson.D{{Key: "q", Value: filter}, {Key: "u", Value: u}}}}}
}

// class reports whether a value is one that an _id is compared with for equality.
func class(v any) bool { _, ok := v.(string); return ok }
