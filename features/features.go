// Package features computes the radiomic features of the IBSI reference manual
// (Zwanenburg et al., arXiv 1612.07003v11) from an image and a region of
// interest on one grid.
//
// Start at [Extract]: the chain of the manual's chapter 2 ([Prepare], chain.go)
// and then one file a family: morphology.go, localintensity.go, statistics.go.
// [Table] lists every feature; [Profile] says how the chain works.
//
// The same input and profile give the same bits on every machine. So sums run
// in one fixed order, and products that are added are written float64(a*b),
// which forbids the compiler to fuse them where the processor could.
package features

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/radnode/radnode/features/voxel"
)

// A Family is a group of features as in the manual's chapter 3, by the prefix
// of its tags.
type Family string

const (
	Morphology     Family = "morph" // HCUG, manual 3.1
	LocalIntensity Family = "loc"   // 9ST6, manual 3.2
	Statistics     Family = "stat"  // UHIW, manual 3.3
)

// A UnitRule says how a feature's unit follows from the image's unit U.
type UnitRule string

const (
	UnitNone        UnitRule = "1"
	UnitIntensity   UnitRule = "U"
	UnitIntensity2  UnitRule = "U2"
	UnitIntensityMM UnitRule = "U.mm3"
	UnitMM          UnitRule = "mm"
	UnitMM2         UnitRule = "mm2"
	UnitMM3         UnitRule = "mm3"
	UnitPerMM       UnitRule = "/mm"
)

// A Feature is one row of the [Table].
type Feature struct {
	Tag          string // the IBSI spreadsheet's name, the only one used in code and files
	Code         string // IBSI id
	Name         string // the manual's heading
	Family       Family
	Unit         UnitRule
	Section      string // of the manual
	Standardised bool   // whether the IBSI agreed on a reference value
}

// A family is how one family joins the table: its rows and the function that
// computes them, in the order of the rows.
type family struct {
	name    Family
	rows    []Feature
	compute func(*ROI) []Value
}

// families are in the manual's order.
var families = []family{
	{Morphology, morphologyTable, morphology},
	{LocalIntensity, localIntensityTable, localIntensity},
	{Statistics, statisticsTable, statistics},
}

// Table is every feature that this package computes, in the manual's order.
var Table = func() []Feature {
	var t []Feature
	for _, f := range families {
		for _, row := range f.rows {
			row.Family = f.name
			t = append(t, row)
		}
	}
	return t
}()

// Lookup finds a feature by its tag.
func Lookup(tag string) (Feature, bool) {
	i := slices.IndexFunc(Table, func(f Feature) bool { return f.Tag == tag })
	if i < 0 {
		return Feature{}, false
	}
	return Table[i], true
}

// A Value is a feature's value. Where it does not exist, Reason says why in
// words; then Value is 0 and means nothing.
type Value struct {
	Tag    string
	Value  float64
	Reason string
}

// A Result is what [Extract] found.
type Result struct {
	Values []Value // of the profile's families, in the order of Table

	Geometry voxel.Geometry // the interpolated image; its Spacing is the voxels' size
	// Voxels of the ROI as given, after interpolation (the morphological mask),
	// and after re-segmentation (the intensity mask).
	VoxelsInitial, VoxelsInterpolated, VoxelsIntensity int
	Notes                                              []string // what a reader of the values should know
}

// ErrEmptyROI is the error of [Extract] for a mask without any voxel.
var ErrEmptyROI = errors.New("the ROI holds no voxel of the image")

// Extract computes the features of the region m of the image g, both on the
// same grid. A feature that does not exist for this region is in the result
// with its Reason; no value is NaN or infinite. An error means that there is no
// result at all: a faulty profile, two different grids, a region without voxels
// ([ErrEmptyROI]), or the end of ctx.
//
// It works on one core; regions can be extracted in parallel. [Estimate] tells
// the memory it takes.
func Extract(ctx context.Context, g *voxel.Grid, m *voxel.Mask, p Profile) (Result, error) {
	if err := p.Validate(); err != nil {
		return Result{}, err
	}
	roi, err := Prepare(g, m, p)
	if err != nil {
		return Result{}, err
	}
	res := Result{
		Geometry:           roi.Geometry,
		VoxelsInitial:      roi.VoxelsInitial,
		VoxelsInterpolated: roi.Morph.Count(),
		VoxelsIntensity:    roi.Intensity.Count(),
		Notes:              roi.Notes,
	}
	for _, f := range families {
		if !slices.Contains(p.Families, f.name) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return Result{}, fmt.Errorf("features: %w", err)
		}
		res.Values = append(res.Values, f.compute(roi)...)
	}
	return res, nil
}

// values collects a family's values in the order of its rows.
type values struct {
	rows []Feature
	list []Value
}

// add is the value of the next row, which must be tag.
func (v *values) add(tag string, x float64) { v.put(Value{Tag: tag, Value: x}) }

// missing says why the values of the next rows do not exist.
func (v *values) missing(reason string, tags ...string) {
	for _, t := range tags {
		v.put(Value{Tag: t, Reason: reason})
	}
}

// ratio is a/b, or the reason why there is none.
func (v *values) ratio(tag string, a, b float64, reason string) {
	if b == 0 {
		v.missing(reason, tag)
		return
	}
	v.add(tag, a/b)
}

func (v *values) put(x Value) {
	if want := v.rows[len(v.list)].Tag; x.Tag != want {
		panic("features: " + x.Tag + " computed where the table has " + want)
	}
	// Overflow of extreme intensities is the only way here.
	if math.IsNaN(x.Value) || math.IsInf(x.Value, 0) {
		x = Value{Tag: x.Tag, Reason: "the intensities are too large to compute it"}
	}
	v.list = append(v.list, x)
}

// allMissing is a whole family that does not exist.
func allMissing(rows []Feature, reason string) []Value {
	v := values{rows: rows}
	for _, f := range rows {
		v.missing(reason, f.Tag)
	}
	return v.list
}
