package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/klauspost/compress/snappy"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// collections are where the contenders with a database keep their documents.
var collections = map[string]string{FloorName: "raw", OwnName: "own", LazyName: "lazy", SCSName: "scs", SCSIdle: "scs_idle"}

// Sized are the stores whose sizes are reckoned.
var Sized = []string{OwnName, LazyName, SCSName, SCSIdle}

// Varied are the values of the session with a number: as [Values], but of another
// user in each.
func Varied(size Size, number int) map[string]any {
	random := rand.New(rand.NewPCG(uint64(number), 0))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	word := func() string {
		var b strings.Builder
		for range 2 + random.IntN(3) {
			b.WriteString(pick("a", "be", "ca", "do", "el", "fi", "ga", "hu", "in", "jo", "ka", "lo", "mi", "ne", "or", "pa", "ro", "su", "ta", "vi"))
		}
		return b.String()
	}
	if size == Small {
		first, last := word(), word()
		return map[string]any{
			"user_id": random.IntN(1e8),
			"name":    first + " " + last,
			"email":   first + "." + last + "@" + word() + ".example",
			"theme":   pick("dark", "light", "system"),
			"locale":  pick("en-GB", "de-DE", "fr-FR", "pt-BR", "ja-JP"),
			"admin":   random.IntN(100) == 0,
			"login":   loginTime.Add(time.Duration(random.Int64N(int64(lifetime)))).Truncate(time.Millisecond),
		}
	}
	values := blocks(1 << 10)
	for key := range values {
		var text strings.Builder
		for text.Len() < 1<<10 {
			text.WriteString(word() + " ")
		}
		values[key] = text.String()[:1<<10]
	}
	return values
}

// Measure has a store make sessions and looks at what became of them.
func Measure(ctx context.Context, env *Env, store string, size Size, sessions int) (f Footprint, err error) {
	all, err := Open(ctx, env, store)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, CloseAll(ctx, all)) }()
	client, err := env.connect()
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, client.Disconnect(ctx)) }()
	coll := client.Database(env.Database).Collection(collections[store])
	if err := env.empty(ctx); err != nil {
		return f, err
	}
	for i := range sessions {
		if err := all[0].Do(&Browser{}, First, &Content{Values: Varied(size, i)}); err != nil {
			return f, err
		}
	}
	cursor, err := coll.Find(ctx, bson.D{})
	if err != nil {
		return f, err
	}
	var docs []bson.Raw
	if err := cursor.All(ctx, &docs); err != nil {
		return f, err
	}
	if len(docs) != sessions {
		return f, fmt.Errorf("%d documents of %d sessions", len(docs), sessions)
	}
	f = Footprint{Store: store, Policy: policies[store]}
	f.Document, f.Compressed = weigh(docs)
	f.KeyBytes = float64(len(docs[0].Lookup("_id").StringValue()))

	content, err := NewContent(ctx, Values(size))
	if err != nil {
		return f, err
	}
	counts := map[Op]Result{}
	for _, op := range []Op{Load, Change} {
		results := []Result{{Store: store}}
		if err := Count(ctx, env, Case{size, op, 1}, content, results); err != nil {
			return f, err
		}
		counts[op] = results[0]
	}
	f.ReadBytes = counts[Load].Received
	f.WriteBytes = counts[Change].Written
	switch {
	case f.Policy.Throttle > 0:
		touch, err := seenBefore(ctx, env, content, Keep, 2*f.Policy.Throttle)
		if err != nil {
			return f, err
		}
		f.TouchBytes = float64(touch.Written)
	case f.Policy.Unchanged:
		f.TouchBytes = f.WriteBytes // written whole
	}
	return f, nil
}

// seenBefore returns what a request of this store sends whose session was last touched the
// given time ago. All sessions of the store are set to that.
func seenBefore(ctx context.Context, env *Env, content *Content, op Op, ago time.Duration) (_ Traffic, err error) {
	counted := *env
	counted.Meter = &Meter{}
	own, err := newOwn(ctx, &counted)
	if err != nil {
		return Traffic{}, err
	}
	defer func() { err = errors.Join(err, own.Close(ctx)) }()
	b := &Browser{}
	if err := own.Do(b, First, content); err != nil {
		return Traffic{}, err
	}
	update := bson.D{{Key: "$set", Value: bson.D{{Key: "seenAt", Value: time.Now().Add(-ago)}}}}
	if m, ok := env.dialer.(*memory); ok {
		set(m.only(), mustMarshal(update), "$set")
	} else if err := env.updateAll(ctx, collections[OwnName], update); err != nil {
		return Traffic{}, err
	}
	before := counted.Meter.Read()
	if err := own.Do(b, op, content); err != nil {
		return Traffic{}, err
	}
	return counted.Meter.Read().sub(before), nil
}

// updateAll updates all documents of a collection.
func (e *Env) updateAll(ctx context.Context, collection string, update bson.D) error {
	client, err := e.connect()
	if err != nil {
		return err
	}
	_, err = client.Database(e.Database).Collection(collection).UpdateMany(ctx, bson.D{}, update)
	return errors.Join(err, client.Disconnect(ctx))
}

// weigh returns the mean size of documents, and that after compression in pages, as the
// storage engine does it.
func weigh(docs []bson.Raw) (document, compressed float64) {
	var page []byte
	flush := func() {
		compressed += float64(len(snappy.Encode(nil, page)))
		page = page[:0]
	}
	for _, doc := range docs {
		if len(page) > 0 && len(page)+len(doc) > documentPage {
			flush()
		}
		page = append(page, doc...)
		document += float64(len(doc))
	}
	flush()
	n := float64(len(docs))
	return document / n, compressed / n
}

// Fill is a collection full of sessions, and what its size does to requests.
type Fill struct {
	Few, Many int64         // documents in the two collections
	Took      time.Duration // to fill the larger one
	Results   []Result      // in pairs: with few, with many
	Stats     string        // what MongoDB says of the larger one
}

// filled are the operations that are measured in a full collection.
var filled = []Op{Load, Keep, Change}

const (
	few  = 1000 // sessions in the smaller collection
	most = 500  // sessions of a collection, at most, that get requests, in turns
)

// FillUp creates a collection of a thousand sessions and one of n, all of them
// documents of the store's making, and compares requests to sessions that lie scattered
// in them. Progress is told.
func FillUp(ctx context.Context, env *Env, n int, plan Plan, tell func(string)) (*Fill, error) {
	var users []map[string]any
	for i := range 1000 {
		users = append(users, Varied(Small, i))
	}
	contents, err := newContents(ctx, users)
	if err != nil {
		return nil, err
	}
	client, err := env.connect()
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(ctx)) }()

	fill := &Fill{}
	sizes := []int{few, n}
	pool := min(most, n/20)
	counted := []*int64{&fill.Few, &fill.Many}
	var contenders []*Contender
	defer func() { _ = CloseAll(context.WithoutCancel(ctx), contenders) }()
	for i, name := range []string{"few", "many"} {
		own := *env
		own.Database += "_" + name
		db := client.Database(own.Database)
		defer func() { _ = db.Drop(context.WithoutCancel(ctx)) }()
		all, err := Open(ctx, &own, OwnName)
		if err != nil {
			return nil, err
		}
		contenders = append(contenders, all[0])
		began := time.Now()
		browsers, err := populate(ctx, db.Collection(collections[OwnName]), all[0], contents, sizes[i], pool, tell)
		if err != nil {
			return nil, err
		}
		fill.Took = time.Since(began)
		if *counted[i], err = db.Collection(collections[OwnName]).CountDocuments(ctx, bson.D{}); err != nil {
			return nil, err
		}
		if env.TTL { // other servers keep documents in other ways
			fill.Stats = stats(ctx, db)
		}
		all[0].Name = name
		pooled(all[0], browsers)
	}
	for _, op := range filled {
		// What is due for a touch gets it now, in both.
		for _, x := range contenders {
			for range pool {
				if err := x.Do(&Browser{}, Keep, contents[0]); err != nil {
					return nil, err
				}
			}
		}
		results, err := Compare(contenders, Case{Small, op, 1}, contents[0], plan)
		if err != nil {
			return nil, err
		}
		fill.Results = append(fill.Results, results...)
	}
	return fill, nil
}

// populate fills a collection up to n documents, with the sessions of browsers scattered in it.
func populate(ctx context.Context, coll *mongo.Collection, own *Contender, contents []*Content, n, pool int, tell func(string)) ([]*Browser, error) {
	const batch = 1000
	var browsers []*Browser
	docs := make([]any, 0, batch)
	for i := range n - pool {
		if len(browsers) < pool && i*pool/max(1, n-pool) >= len(browsers) {
			b := &Browser{}
			if err := own.Do(b, First, contents[len(browsers)]); err != nil {
				return nil, err
			}
			browsers = append(browsers, b)
		}
		doc, _ := contents[i%len(contents)].document()
		if docs = append(docs, doc); len(docs) < batch && i+1 < n-pool {
			continue
		}
		if _, err := coll.InsertMany(ctx, docs, options.InsertMany().SetOrdered(false)); err != nil {
			return nil, err
		}
		docs = docs[:0]
		if (i+1)%(100*batch) == 0 {
			tell(fmt.Sprintf("%s documents", thousands(float64(i+1))))
		}
	}
	if len(browsers) < pool {
		return nil, fmt.Errorf("%d documents are too few", n)
	}
	return browsers, nil
}

// pooled has a contender serve the sessions of browsers in turns, whoever asks.
func pooled(c *Contender, browsers []*Browser) {
	handle, next := c.handle, 0
	c.handle = func(_ *Browser, op Op, content *Content) error {
		if op == First {
			return nil // they have theirs
		}
		next++
		return handle(browsers[next%len(browsers)], op, content)
	}
}

// stats is what the server says of the collection's sizes, or nothing.
func stats(ctx context.Context, db *mongo.Database) string {
	var s struct {
		Count       int64            `bson:"count"`
		Size        float64          `bson:"size"`
		StorageSize float64          `bson:"storageSize"`
		IndexSizes  map[string]int64 `bson:"indexSizes"`
	}
	err := db.RunCommand(ctx, bson.D{{Key: "collStats", Value: collections[OwnName]}}).Decode(&s)
	if err != nil || s.Count == 0 {
		return ""
	}
	n := float64(s.Count)
	parts := []string{fmt.Sprintf("%.0f bytes per document, %.0f on disk", s.Size/n, s.StorageSize/n)}
	for _, index := range []string{"_id_", "expiresAt_1"} {
		if bytes, ok := s.IndexSizes[index]; ok {
			parts = append(parts, fmt.Sprintf("%.0f in the index %s", float64(bytes)/n, index))
		}
	}
	return strings.Join(parts, ", ")
}

// Markdown is a table of the two collections.
func (f *Fill) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| 8 values | µs with %s sessions | µs with %s | ratio | 95 %% confidence |\n|---|--:|--:|--:|---|\n",
		thousands(float64(f.Few)), thousands(float64(f.Many)))
	for i := 0; i+1 < len(f.Results); i += 2 {
		few, many := f.Results[i], f.Results[i+1]
		fmt.Fprintf(&b, "| %s | %s | %s | %.2f | %.2f to %.2f |\n", words[few.Op], micros(few.Nanos), micros(many.Nanos), many.Ratio, many.Low, many.High)
	}
	return b.String()
}
