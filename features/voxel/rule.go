package voxel

import (
	"cmp"
	"fmt"
	"math"
)

// A Rule says which voxels belong to a region that is not given on the grid of the image: contours, fractional
// segmentations, segmentations on another grid. What is left out is the default: a voxel belongs to the region if its
// centre lies inside, outlines to the left and above inside, nothing between slices; half of a fraction is enough.
type Rule struct {
	Voxel    string  `yaml:"voxel,omitempty"`    // centre: its centre lies inside; coverage: enough of its area in the plane does
	Boundary string  `yaml:"boundary,omitempty"` // of a centre on the outline: half-open (left and upper inside), inside, outside
	Coverage float64 `yaml:"coverage,omitempty"` // the least part of the area, above 0 to 1, that much is enough; 0.5 where it is 0
	Fraction float64 `yaml:"fraction,omitempty"` // the least probability or occupancy of a fractional segmentation; 0.5 where it is 0
}

// Filled is r with the defaults in place of what was left out.
func (r Rule) Filled() Rule {
	r.Voxel = cmp.Or(r.Voxel, "centre")
	r.Boundary = cmp.Or(r.Boundary, "half-open")
	r.Coverage = cmp.Or(r.Coverage, 0.5)
	r.Fraction = cmp.Or(r.Fraction, 0.5)
	if r.Voxel == "coverage" {
		r.Boundary = "half-open" // not used
	} else {
		r.Coverage = 0.5 // not used
	}
	return r
}

// Notation is the rule as a sign: what differs from the default, as "VOX:coverage≥0.7".
func (r Rule) Notation() string {
	r = r.Filled()
	sign := "VOX:" + r.Voxel
	switch {
	case r.Voxel == "coverage":
		sign += fmt.Sprintf("≥%v", r.Coverage)
	case r.Boundary != "half-open":
		sign += "+" + r.Boundary
	}
	if r.Fraction != 0.5 {
		sign += fmt.Sprintf("+fraction≥%v", r.Fraction)
	}
	return sign
}

// Validate names the first field that is wrong and what it may be.
func (r Rule) Validate() error {
	switch r.Voxel {
	case "", "centre", "coverage":
	default:
		return fmt.Errorf("voxel: %q, want centre or coverage", r.Voxel)
	}
	switch r.Boundary {
	case "", "half-open", "inside", "outside":
	default:
		return fmt.Errorf("boundary: %q, want half-open, inside or outside", r.Boundary)
	}
	for _, f := range []struct {
		name  string
		value float64
	}{{"coverage", r.Coverage}, {"fraction", r.Fraction}} {
		if !(f.value >= 0 && f.value <= 1) || math.IsNaN(f.value) {
			return fmt.Errorf("%s: %v, want above 0 and at most 1 (0.5 is usual)", f.name, f.value)
		}
	}
	return nil
}
