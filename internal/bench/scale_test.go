package bench

import (
	"flag"
	"math"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

var sessionsFlag = flag.Int("sessions", 2000, "how `many` sessions TestFill makes")

// TestFill: with many sessions in the collection a request costs what it does with few.
// With a few thousand, as in an ordinary run, it is only checked that this is measured
// rightly. For the real thing:
//
//	go -C internal/bench test -run TestFill -sessions 1000000 -timeout 1h -v .
func TestFill(t *testing.T) {
	env, _ := environment(t)
	p := Plan{Rounds: 4, Turn: time.Millisecond, Time: time.Second}
	if *sessionsFlag >= 100_000 {
		p = plan()
	}
	fill, err := FillUp(t.Context(), env, *sessionsFlag, p, func(s string) { t.Log(s) })
	if err != nil {
		t.Fatal(err)
	}
	if fill.Few != few || fill.Many != int64(*sessionsFlag) || len(fill.Results) != 2*len(filled) {
		t.Fatalf("%+v", fill)
	}
	t.Logf("filled in %v\n%s\n%s", fill.Took, fill.Stats, fill.Markdown())
}

// TestMeasure: footprints are those of the documents.
func TestMeasure(t *testing.T) {
	env, _ := environment(t)
	prints := map[string]Footprint{}
	for _, store := range Sized {
		f, err := Measure(t.Context(), env, store, Small, 50)
		if err != nil {
			t.Fatal(store, err)
		}
		if f.Document < 200 || f.Document > 2000 || f.Compressed <= 50 || f.Compressed >= f.Document ||
			f.KeyBytes < 40 || f.KeyBytes > 60 || f.WriteBytes < 100 || f.ReadBytes < f.Document {
			t.Errorf("%+v", f)
		}
		// Only scs with a fixed lifetime never moves the expiry. This store sends a few bytes more
		// for it than for a change.
		if moves := f.TouchBytes > 0; moves != f.Policy.Unchanged || moves && (f.TouchBytes < f.WriteBytes || f.TouchBytes > f.WriteBytes+100) {
			t.Errorf("%+v", f)
		}
		prints[store] = f
	}
	if prints[OwnName].KeyBytes != keyLength {
		t.Errorf("%+v", prints[OwnName])
	}
	// scs has one codec and one layout, whatever its timeouts; only the times differ.
	if a, b := prints[SCSName], prints[SCSIdle]; math.Abs(a.Document-b.Document) > 3 || math.Abs(a.WriteBytes-b.WriteBytes) > 20 {
		t.Errorf("%+v and %+v", a, b)
	}
}

func TestWeigh(t *testing.T) {
	one := mustMarshal(bson.D{{Key: "x", Value: "0123456789abcdef"}})
	docs := make([]bson.Raw, 5000)
	for i := range docs {
		docs[i] = one
	}
	document, compressed := weigh(docs)
	if document != float64(len(one)) || compressed <= 0 || compressed > document/5 {
		t.Errorf("%v bytes, compressed %v", document, compressed)
	}
}
