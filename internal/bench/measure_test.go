package bench

import (
	"slices"
	"testing"
)

func TestBalanced(t *testing.T) {
	for n := 1; n <= 9; n++ {
		orders := balanced(n)
		after := map[[2]int]int{}
		for _, order := range orders {
			sorted := slices.Sorted(slices.Values(order))
			for i, x := range sorted {
				if i != x {
					t.Fatalf("%d: %v is no order", n, order)
				}
			}
			for i := 1; i < n; i++ {
				after[[2]int{order[i-1], order[i]}]++
			}
		}
		for pair, times := range after {
			if times != len(orders)/n {
				t.Errorf("%d: %v comes %d times in %d orders", n, pair, times, len(orders))
			}
		}
		if len(after) != n*(n-1) {
			t.Errorf("%d: %d pairs, want %d", n, len(after), n*(n-1))
		}
	}
}

func TestMedian(t *testing.T) {
	values := []float64{9, 1, 5}
	if m := median(values); m != 5 {
		t.Errorf("median %v", m)
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median %v", m)
	}
	if !slices.Equal(values, []float64{9, 1, 5}) {
		t.Error("the values were sorted in place")
	}
	// Of 100 ordered values the interval is from the 40th to the 61st: a table of
	// binomial confidence limits says so.
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(i + 1)
	}
	if low, high := interval(hundred); low < 40 || low > 42 || high < 60 || high > 62 {
		t.Errorf("interval from %v to %v", low, high)
	}
	if low, high := interval([]float64{3}); low != 3 || high != 3 {
		t.Errorf("interval from %v to %v", low, high)
	}
}
