package samples_test

import (
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/mongostore/mongostore/internal/samples"
)

func TestEqualValuesAreTheSame(t *testing.T) {
	t.Parallel()
	others := samples.Values()
	for i, row := range samples.Values() {
		if strings.Contains(row.Name, "monotonic") || row.Name == "struct that refers to its parent" {
			continue // another time, and a value that contains itself
		}
		if !samples.Same(row.Value, others[i].Value) {
			t.Errorf("%s: %#v and %#v differ", row.Name, row.Value, others[i].Value)
		}
	}
}

func TestOtherValuesAreNotTheSame(t *testing.T) {
	t.Parallel()
	now, ring := time.UnixMilli(1_700_000_000_123).UTC(), &samples.Ring{Value: 1}
	ring.Next = ring
	for _, pair := range [][2]any{
		{nil, 0},
		{1, int64(1)},
		{"a", samples.Role("a")},
		{0.0, math.Copysign(0, -1)},
		{math.NaN(), math.Float64frombits(0xfff8_0000_0000_0001)},
		{complex(0, 0), complex(0, math.Copysign(0, -1))},
		{now, now.Add(1)},
		{now, now.In(time.FixedZone("", 60))},
		{now, now.In(time.FixedZone("", 0))},
		{[]byte{}, []byte(nil)},
		{[]any{}, []any(nil)},
		{[]any{1, 2}, []any{2, 1}},
		{[]any{1}, []any{1, 2}},
		{[]any{nil}, []any{0}},
		{map[string]any{}, map[string]any(nil)},
		{map[string]any{"a": 1}, map[string]any{"b": 1}},
		{map[string]any{"a": 1}, map[string]any{"a": int64(1)}},
		{samples.Card{}, samples.Profile{}},
		{samples.Card{}, &samples.Card{}},
		{(*samples.Card)(nil), &samples.Card{}},
		{samples.Card{Tags: map[string]string{}}, samples.Card{}},
		{&samples.Profile{Friends: []*samples.Profile{{Age: 1}}}, &samples.Profile{Friends: []*samples.Profile{{Age: 2}}}},
		{samples.Triple{1}, samples.Triple{2}},
		{big.NewInt(1), big.NewInt(2)},
		{ring, &samples.Ring{Value: 1}},
		{samples.Clumsy{Text: "a"}, samples.Clumsy{Text: "b"}},
	} {
		if samples.Same(pair[0], pair[1]) || samples.Same(pair[1], pair[0]) {
			t.Errorf("%#v and %#v are the same", pair[0], pair[1])
		}
		if !samples.Same(pair[0], pair[0]) {
			t.Errorf("%#v is not the same as itself", pair[0])
		}
	}
}
