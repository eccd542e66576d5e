// Package features computes the radiomic features of the IBSI reference manual
// (Zwanenburg et al., arXiv 1612.07003v11) from an image and a region of
// interest on one grid.
//
// Start at [Extract]: the chain of the manual's chapter 2 ([Prepare], chain.go)
// and then one file a family, from morphology.go to ngldm.go; what the texture
// families share is texture.go. [Table] lists every feature; [Profile] says how
// the chain works.
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
	"strings"

	"github.com/radnode/radnode/features/voxel"
)

// A Family is a group of features as in the manual's chapter 3, by the prefix
// of its tags.
type Family string

const (
	Morphology      Family = "morph" // HCUG, manual 3.1
	LocalIntensity  Family = "loc"   // 9ST6, manual 3.2
	Statistics      Family = "stat"  // UHIW, manual 3.3
	Histogram       Family = "ih"    // ZVCW, manual 3.4
	VolumeHistogram Family = "ivh"   // P88C, manual 3.5
	GLCM            Family = "cm"    // LFYI, manual 3.6, grey level co-occurrence
	GLRLM           Family = "rlm"   // TP0I, manual 3.7, grey level run length
	GLSZM           Family = "szm"   // 9SAK, manual 3.8, grey level size zone
	GLDZM           Family = "dzm"   // VMDZ, manual 3.9, grey level distance zone
	NGTDM           Family = "ngt"   // IPET, manual 3.10, neighbourhood grey tone difference
	NGLDM           Family = "ngl"   // REK0, manual 3.11, neighbouring grey level dependence
)

// An Aggregation is how the texture matrices of slices and directions become
// one value (IBSI 5QB6), as the end of its tag. Families whose matrices have no
// direction know only 2D, 2_5D and 3D.
type Aggregation string

const (
	Agg2D      Aggregation = "2D"
	Agg25D     Aggregation = "2_5D"
	Agg3D      Aggregation = "3D"
	Agg2DAvg   Aggregation = "2D_avg"
	Agg2DComb  Aggregation = "2D_comb"
	Agg25DAvg  Aggregation = "2_5D_avg"
	Agg25DComb Aggregation = "2_5D_comb"
	Agg3DAvg   Aggregation = "3D_avg"
	Agg3DComb  Aggregation = "3D_comb"
)

// Describe gives the IBSI id and the words for an aggregation.
func (a Aggregation) Describe() (code, words string) {
	switch a {
	case Agg2D:
		return "8QNN", "2D, averaged over slices"
	case Agg25D:
		return "62GR", "2.5D, slices merged"
	case Agg3D:
		return "KOBO", "3D"
	case Agg2DAvg:
		return "BTW3", "2D, averaged over slices and directions"
	case Agg2DComb:
		return "SUJT", "2D, directions merged, averaged over slices"
	case Agg25DAvg:
		return "JJUI", "2.5D, slices merged, averaged over directions"
	case Agg25DComb:
		return "ZW7Z", "2.5D, slices and directions merged"
	case Agg3DAvg:
		return "ITBB", "3D, averaged over directions"
	case Agg3DComb:
		return "IAZD", "3D, directions merged"
	}
	return "", ""
}

// aggregations are what a profile may ask for. A family without directions
// takes the part before the underscore that precedes avg or comb.
var aggregations = []Aggregation{Agg2DAvg, Agg2DComb, Agg25DAvg, Agg25DComb, Agg3DAvg, Agg3DComb}

// withoutDirection is the aggregation of a family that has no directions.
func (a Aggregation) withoutDirection() Aggregation {
	s, _ := strings.CutSuffix(string(a), "_avg")
	s, _ = strings.CutSuffix(s, "_comb")
	return Aggregation(s)
}

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
	Tag          string // the IBSI spreadsheet's name without aggregation, the only one used in code and files
	Code         string // IBSI id; the two fractions of an ivh feature share one
	Name         string // the manual's heading
	Family       Family
	Unit         UnitRule
	Section      string // of the manual
	Standardised bool   // whether the IBSI agreed on a reference value
}

// A family is how one family joins the table: its rows, the function that
// computes them in the order of the rows, and the memory that takes.
type family struct {
	name      Family
	rows      []Feature
	aggregate kind
	compute   func(*ROI, *values)
	memory    func(extent, Profile) int64
}

// A kind says which aggregations a family knows.
type kind int

const (
	whole       kind = iota // none: one value for the ROI
	sliced                  // 2D, 2_5D, 3D
	directional             // all six
)

// families are in the manual's order.
var families = []family{
	{Morphology, morphologyTable, whole, morphology, morphologyBytes},
	{LocalIntensity, localIntensityTable, whole, localIntensity, localIntensityBytes},
	{Statistics, statisticsTable, whole, statistics, statisticsBytes},
	{Histogram, histogramTable, whole, onLevels(histogram), levelsBytes},
	{VolumeHistogram, volumeHistogramTable, whole, volumeHistogram, statisticsBytes},
	{GLCM, glcmTable, directional, onLevels(glcm), glcmBytes},
	{GLRLM, glrlmTable, directional, onLevels(glrlm), glrlmBytes},
	{GLSZM, glszmTable, sliced, onLevels(glszm), zonesBytes},
	{GLDZM, gldzmTable, sliced, onLevels(gldzm), gldzmBytes},
	{NGTDM, ngtdmTable, sliced, onLevels(ngtdm), ngtdmBytes},
	{NGLDM, ngldmTable, sliced, onLevels(ngldm), ngldmBytes},
}

// aggregations are those of the family that the profile asks for, in the
// manual's order; the empty one for a family that has none.
func (f family) aggregations(p Profile) []Aggregation {
	if f.aggregate == whole {
		return []Aggregation{""}
	}
	var out []Aggregation
	for _, a := range aggregations {
		if !slices.Contains(p.Aggregate, a) {
			continue
		}
		if f.aggregate == sliced {
			a = a.withoutDirection()
		}
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
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

// byTag finds the rows of Table.
var byTag = func() map[string]int {
	m := make(map[string]int, len(Table))
	for i, f := range Table {
		m[f.Tag] = i
	}
	return m
}()

// Lookup finds the feature and the aggregation of a value's tag:
// cm_joint_max_3D_comb is cm_joint_max and 3D_comb. A texture feature's tag
// without its aggregation is found too, as are the tags of other families.
func Lookup(tag string) (Feature, Aggregation, bool) {
	if i, ok := byTag[tag]; ok {
		return Table[i], "", true
	}
	for _, f := range families {
		if f.aggregate == whole || !strings.HasPrefix(tag, string(f.name)+"_") {
			continue
		}
		for _, a := range f.aggregations(Profile{Aggregate: aggregations}) {
			base, ok := strings.CutSuffix(tag, "_"+string(a))
			if i, known := byTag[base]; ok && known {
				return Table[i], a, true
			}
		}
	}
	return Feature{}, "", false
}

// Tags are the tags of the values that a profile asks for, in the order of
// [Result.Values].
func Tags(p Profile) []string {
	var out []string
	for _, f := range families {
		if !slices.Contains(p.Families, f.name) {
			continue
		}
		for _, a := range f.aggregations(p) {
			for _, row := range p.rows(f) {
				out = append(out, a.tag(row.Tag))
			}
		}
	}
	return out
}

// tag is the tag of a value of a feature.
func (a Aggregation) tag(base string) string {
	if a == "" {
		return base
	}
	return base + "_" + string(a)
}

// A Value is a feature's value. Where it does not exist, Reason says why in
// words; then Value is 0 and means nothing.
type Value struct {
	Tag    string // the feature's, with the aggregation for a texture feature
	Value  float64
	Unit   UnitRule // the feature's, but for IVH intensities that are bin numbers
	Reason string
}

// A Result is what [Extract] found.
type Result struct {
	Values []Value // of the profile's families, in the order of Table, for each aggregation

	Geometry voxel.Geometry // the interpolated image; its Spacing is the voxels' size
	// Voxels of the ROI as given, after interpolation (the morphological mask),
	// and after re-segmentation (the intensity mask).
	VoxelsInitial, VoxelsInterpolated, VoxelsIntensity int
	Notes                                              []string // what a reader of the values should know
}

// ErrEmptyROI is the error of [Extract] for a mask without any voxel.
var ErrEmptyROI = errors.New("the ROI holds no voxel of the image")

// Extract computes the features of the region m of the image g, which lies on
// the image's grid or on a part of it ([voxel.Geometry.Crop]). A feature that does not exist for this region is in the result
// with its Reason; no value is NaN or infinite. An error means that there is no
// result at all: a faulty profile, two different grids, a region without voxels
// ([ErrEmptyROI]), or the end of ctx.
//
// It works on one core; regions can be extracted in parallel, those of one image
// best by a [Batch]. [Estimate] tells the memory it takes.
func Extract(ctx context.Context, g *voxel.Grid, m *voxel.Mask, p Profile) (Result, error) {
	return extract(ctx, g, m, p, nil)
}

func extract(ctx context.Context, g *voxel.Grid, m *voxel.Mask, p Profile, b *block) (Result, error) {
	if err := p.Validate(); err != nil {
		return Result{}, err
	}
	roi, err := prepare(g, m, p, b)
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
		rows := p.rows(f)
		if len(rows) == 0 {
			continue
		}
		for _, a := range f.aggregations(p) {
			if err := ctx.Err(); err != nil {
				return Result{}, fmt.Errorf("features: %w", err)
			}
			v := values{rows: rows, aggregation: a, list: make([]Value, 0, len(rows))}
			f.compute(roi, &v)
			if v.astray != "" || len(v.list) != len(rows) { // a fault of this package, not of its input
				return Result{}, fmt.Errorf("features: %s gave %d of %d values, and %q out of the table's order", f.name, len(v.list), len(rows), v.astray)
			}
			res.Values = append(res.Values, v.list...)
		}
	}
	return res, nil
}

// values collects a family's values for one aggregation, in the order of its
// rows. Of the features that the profile does not ask for it takes no notice.
type values struct {
	rows        []Feature // those that are asked for
	aggregation Aggregation
	list        []Value
	astray      string // a tag that was computed out of the table's order
}

// wants tells whether any of the features is asked for.
func (v *values) wants(tags ...string) bool {
	return slices.ContainsFunc(v.rows, func(f Feature) bool { return slices.Contains(tags, f.Tag) })
}

// add is the value of the next row, which must be tag.
func (v *values) add(tag string, x float64) { v.put(tag, x, "") }

// missing says why the values of the next rows do not exist.
func (v *values) missing(reason string, tags ...string) {
	for _, t := range tags {
		v.put(t, 0, reason)
	}
}

// allMissing is a whole family that does not exist.
func (v *values) allMissing(reason string) {
	for _, f := range v.rows {
		v.put(f.Tag, 0, reason)
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

func (v *values) put(tag string, x float64, reason string) {
	if len(v.list) == len(v.rows) || v.rows[len(v.list)].Tag != tag {
		if v.wants(tag) {
			v.astray = tag
		}
		return
	}
	// Overflow of extreme intensities is the only way here.
	if math.IsNaN(x) || math.IsInf(x, 0) {
		x, reason = 0, "the intensities are too large to compute it"
	}
	v.list = append(v.list, Value{Tag: v.aggregation.tag(tag), Value: x, Unit: v.rows[len(v.list)].Unit, Reason: reason})
}
