package bench

import (
	"context"
	"reflect"
	"runtime"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// open returns contenders on the test server, in a database of their own.
func open(t *testing.T, names ...string) (*Env, []*Contender) {
	t.Helper()
	env, _ := environment(t)
	own := *env
	own.Database += "_" + t.Name()
	all, err := Open(t.Context(), &own, names...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if client, err := env.connect(); err == nil {
			_ = client.Database(own.Database).Drop(ctx)
			_ = client.Disconnect(ctx)
		}
		if err := CloseAll(ctx, all); err != nil {
			t.Error(err)
		}
	})
	return &own, all
}

// TestContenders: each of them stores what it is given and gives it back.
func TestContenders(t *testing.T) {
	_, all := open(t, AllNames...)
	for size, content := range contents(t) {
		for _, x := range all {
			if !x.Holds(size) {
				continue
			}
			t.Run(x.Name+"/"+string(size), func(t *testing.T) { checkContender(t, x, content) })
		}
	}
}

func checkContender(t *testing.T, x *Contender, content *Content) {
	b, other := &Browser{}, &Browser{}
	do := func(b *Browser, op Op) {
		t.Helper()
		if err := x.Do(b, op, content); err != nil {
			t.Fatal(err)
		}
	}
	holds := func(b *Browser, count int) {
		t.Helper()
		looked := false
		b.inspect = func(value func(string) any) {
			looked = true
			for key, want := range content.Values {
				if got := value(key); !same(got, want) {
					t.Errorf("%s: %v, want %v", key, got, want)
				}
			}
			if got := value(counter); got != count {
				t.Errorf("the counter is %v, want %d", got, count)
			}
		}
		do(b, Load)
		b.inspect = nil
		if !looked {
			t.Error("nothing was loaded")
		}
	}
	do(b, First)
	do(other, First)
	holds(b, 0)
	do(b, Change)
	holds(b, 1)
	do(b, Keep)
	do(b, Change)
	holds(b, 2)
	holds(other, 0)
	do(b, Logout)
	holds(other, 0)
	err := x.Do(b, Load, content)
	if x.Name == CookieName {
		// The session is the cookie, and this browser has kept it.
		if err != nil {
			t.Error(err)
		}
	} else if err == nil {
		t.Error("the session is there after its end")
	}
}

func same(got, want any) bool {
	if want, ok := want.(time.Time); ok {
		got, ok := got.(time.Time)
		return ok && got.Equal(want)
	}
	return reflect.DeepEqual(got, want)
}

// TestContendersNotice that a session does not hold what it must.
func TestContendersNotice(t *testing.T) {
	_, all := open(t, AllNames...)
	content := contents(t)[Small]
	for _, x := range all {
		b := &Browser{}
		if err := x.Do(b, First, content); err != nil {
			t.Fatal(err)
		}
		b.count = 5
		if err := x.Do(b, Keep, content); err == nil && x.Name != FloorName {
			t.Errorf("%s does not look at what it has loaded", x.Name)
		}
		b.count, b.cookie, b.key = 0, "forged", "unknown"
		if err := x.Do(b, Load, content); err == nil {
			t.Errorf("%s accepts any cookie", x.Name)
		}
	}
}

// TestFloorDocument: the floor works on the document that the store makes.
func TestFloorDocument(t *testing.T) {
	env, all := open(t, FloorName, OwnName)
	content := contents(t)[Small]
	for _, x := range all {
		b := &Browser{}
		for _, op := range []Op{First, Change} {
			if err := x.Do(b, op, content); err != nil {
				t.Fatal(err)
			}
		}
	}
	client, err := env.connect()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Disconnect(context.WithoutCancel(t.Context())) }()
	var docs [2]bson.Raw
	for i, name := range []string{"raw", "own"} {
		docs[i], err = client.Database(env.Database).Collection(name).FindOne(t.Context(), bson.D{}).Raw()
		if err != nil {
			t.Fatal(err)
		}
	}
	if a, b := docs[0].Lookup("values").String(), docs[1].Lookup("values").String(); a != b {
		t.Errorf("the floor's values: %s\nthe store's: %s", a, b)
	}
	if a, b := len(docs[0]), len(docs[1]); a != b || a != content.Size() {
		t.Errorf("the floor's document has %d bytes, the store's %d, the content's %d", a, b, content.Size())
	}
}

// TestCommands: what each contender sends, by its nature.
func TestCommands(t *testing.T) {
	env, _ := environment(t)
	content := contents(t)[Small]
	for name, want := range map[string]map[Op]float64{
		FloorName:  {Load: 1, Keep: 1, Change: 2, First: 1, Logout: 2},
		OwnName:    {Load: 1, Keep: 1, Change: 2, First: 1, Logout: 2},
		LazyName:   {Load: 1, Keep: 2, Change: 2, First: 1, Logout: 2},
		SCSName:    {Load: 1, Keep: 1, Change: 2, First: 1, Logout: 2},
		SCSIdle:    {Load: 2, Keep: 2, Change: 2, First: 1, Logout: 2},
		CookieName: {Load: 0, Keep: 0, Change: 0, First: 0, Logout: 0},
		FilesName:  {Load: 0, Keep: 0, Change: 0, First: 0, Logout: 0},
	} {
		for op, commands := range want {
			results := []Result{{Store: name}}
			if err := Count(t.Context(), env, Case{Small, op, 1}, content, results); err != nil {
				t.Fatal(err)
			}
			got := results[0]
			if got.Commands != commands {
				t.Errorf("%s, %s: %v commands, want %v", name, op, got.Commands, commands)
			}
			if (commands > 0) != (got.Payload > 0 && got.Sent > got.Payload && got.Received > 0) {
				t.Errorf("%s, %s: traffic %+v", name, op, got)
			}
		}
	}
}

// TestCookies: which responses set a cookie. This store's do so for a new session, and when the
// expiry moves, which it does not within a minute.
func TestCookies(t *testing.T) {
	_, all := open(t, AllNames[1:]...)
	content := contents(t)[Small]
	for _, x := range all {
		want := map[Op]int{First: 1, Load: 0, Keep: 1, Change: 1}
		switch x.Name {
		case OwnName:
			want[Keep], want[Change] = 0, 0
		case SCSName:
			want[Keep] = 0
		case SCSIdle:
			want[Load] = 1
		}
		b := &Browser{}
		for _, op := range []Op{First, Load, Keep, Change} {
			before := b.cookies
			if err := x.Do(b, op, content); err != nil {
				t.Fatal(err)
			}
			if got := b.cookies - before; got != want[op] {
				t.Errorf("%s, %s: %d cookies, want %d", x.Name, op, got, want[op])
			}
		}
	}
}

// TestCompare: a comparison has a result for each contender, and the first is its yardstick.
func TestCompare(t *testing.T) {
	all, err := Open(t.Context(), newMemory().env(), FloorName, OwnName, CookieName)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = CloseAll(context.WithoutCancel(t.Context()), all) }()
	contents := contents(t)
	cases := []Case{{Large, Keep, 1}, {Small, Change, 4}}
	for _, op := range Ops {
		cases = append(cases, Case{Small, op, 1})
	}
	for _, c := range cases {
		results, err := Compare(all, c, contents[c.Size], Plan{Rounds: 6, Turn: time.Millisecond, Time: time.Minute})
		if err != nil {
			t.Fatal(c, err)
		}
		want := 3
		if c.Size == Large {
			want = 2 // no cookie holds that
		}
		if len(results) != want {
			t.Fatalf("%v: %d results", c, len(results))
		}
		for _, res := range results {
			if res.Nanos <= 0 || res.CPU <= 0 || res.Allocs <= 0 || res.Bytes <= 0 || res.Requests < 6*c.Browsers ||
				res.Ratio < res.Low || res.Ratio > res.High {
				t.Errorf("%v: %+v", c, res)
			}
		}
		if results[0].Ratio != 1 || results[0].Over != 0 {
			t.Errorf("%v: the floor's ratio to itself is %v, and its CPU beyond itself %v", c, results[0].Ratio, results[0].Over)
		}
	}
}

// TestNothingRetained: of a finished request nothing is left, neither what a session
// held nor a reference to it.
func TestNothingRetained(t *testing.T) {
	all, err := Open(t.Context(), newMemory().env(), OwnName)
	if err != nil {
		t.Fatal(err)
	}
	own := all[0]
	defer func() { _ = own.Close(context.WithoutCancel(t.Context())) }()
	content := contents(t)[Small]
	b := &Browser{}
	requests := func(n int) {
		t.Helper()
		if err := own.Do(b, First, content); err != nil {
			t.Fatal(err)
		}
		for range n {
			for _, op := range []Op{Load, Keep, Change} {
				if err := own.Do(b, op, content); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	requests(100) // fill the pools
	objects := func() int64 {
		runtime.GC()
		runtime.GC() // of pools, what the first one left
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapObjects)
	}
	before := objects()
	const few = 500
	rounds := 7000
	if raceEnabled {
		rounds = 1000
	}
	requests(rounds)
	// References are dropped after a collection, by a goroutine.
	deadline := time.Now().Add(20 * time.Second)
	grown := objects() - before
	for grown > few && time.Now().Before(deadline) {
		grown = objects() - before
	}
	if grown > few {
		t.Errorf("of %d requests %d objects are left", 3*rounds, grown)
	}
}
