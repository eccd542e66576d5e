package voxel

import (
	"math"
	"testing"
)

func TestRule(t *testing.T) {
	for _, c := range []struct {
		rule  Rule
		sign  string
		valid bool
	}{
		{Rule{}, "VOX:centre", true},
		{Rule{Voxel: "centre", Boundary: "inside", Coverage: 0.9}, "VOX:centre+inside", true}, // coverage is not used
		{Rule{Voxel: "coverage", Boundary: "outside"}, "VOX:coverage≥0.5", true},
		{Rule{Voxel: "coverage", Coverage: 0.25, Fraction: 0.75}, "VOX:coverage≥0.25+fraction≥0.75", true},
		{Rule{Voxel: "corner"}, "VOX:corner", false},
		{Rule{Boundary: "left"}, "VOX:centre+left", false},
		{Rule{Voxel: "coverage", Coverage: 1.5}, "VOX:coverage≥1.5", false},
		{Rule{Coverage: math.NaN()}, "VOX:centre", false},
		{Rule{Fraction: -1}, "VOX:centre+fraction≥-1", false},
	} {
		if got := c.rule.Notation(); got != c.sign {
			t.Errorf("%+v is %s, want %s", c.rule, got, c.sign)
		}
		if err := c.rule.Validate(); (err == nil) != c.valid {
			t.Errorf("%+v: %v", c.rule, err)
		}
		if f := c.rule.Filled(); f != f.Filled() {
			t.Errorf("%+v is filled twice: %+v, %+v", c.rule, f, f.Filled())
		}
	}
}
