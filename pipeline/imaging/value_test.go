package imaging

import (
	"math"
	"slices"
	"testing"
)

// TestApply compares with the plain formula, in the order of rounding that all machines share.
func TestApply(t *testing.T) {
	stored := []int32{math.MinInt32, -32768, -1, 0, 1, 7, 4095, math.MaxInt32}
	for _, c := range []transform{
		{slope: 1, intercept: -1024, factor: 1},
		{slope: 0.1, intercept: 0.3, factor: 0.00017},
		{slope: -3.3e-5, intercept: 1e-9, factor: 12.7},
	} {
		into := make([]float32, len(stored))
		if outside := apply(&c, into, stored); outside != 0 {
			t.Errorf("%d outside", outside)
		}
		floats := make([]float64, len(stored))
		for i, s := range stored {
			line := c.slope * float64(s)
			line += c.intercept
			line *= c.factor
			if want := float32(line); into[i] != want {
				t.Errorf("%v of %d is %v, want %v", c, s, into[i], want)
			}
			floats[i] = float64(s)
		}
		again := make([]float32, len(stored))
		apply(&c, again, floats)
		if !slices.Equal(again, into) {
			t.Errorf("floats give %v, whole numbers %v", again, into)
		}
	}
	c := transform{factor: 10, table: []float64{1, 2, 4}, first: -1, mapped: true, low: -1, high: 1}
	into := make([]float32, 5)
	if outside := apply(&c, into, []int32{-2, -1, 0, 1, 2}); outside != 2 || !slices.Equal(into, []float32{10, 10, 20, 40, 40}) {
		t.Errorf("table gives %v, %d outside", into, outside)
	}
}

func TestInRange(t *testing.T) {
	for _, c := range []struct {
		t  transform
		ok bool
	}{
		{transform{slope: 1, factor: 1}, true},
		{transform{slope: 1e20, factor: 1e20}, false},
		{transform{slope: 0, factor: 1}, false},
		{transform{slope: 1, factor: 0}, false},
		{transform{slope: math.NaN(), factor: 1}, false},
		{transform{slope: 1, intercept: math.Inf(-1), factor: 1}, false},
		{transform{slope: 1, factor: math.NaN()}, false},
	} {
		if got := c.t.inRange(); got != c.ok {
			t.Errorf("%+v: %v", c.t, got)
		}
	}
}
