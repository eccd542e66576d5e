package features

import (
	"context"
	"fmt"
	"math"

	"github.com/radnode/radnode/features/voxel"
)

// A Diagnostic is one row of the [DiagnosticTable].
type Diagnostic struct {
	Tag  string // as in the IBSI reference tables
	Name string
	Unit UnitRule // 1 for what is counted in voxels
}

// DiagnosticTable is what the manual (chapter 5, diagnostic features) asks
// about the steps of the chain, so that two programs that differ find the step:
// the image and the region before the chain, after interpolation and rounding,
// and the region after re-segmentation.
var DiagnosticTable = func() (t []Diagnostic) {
	steps := []struct{ tag, name string }{{"init", "initial"}, {"interp", "interpolated"}, {"reseg", "re-segmented"}}
	for _, s := range steps[:2] {
		for _, d := range imageDiagnostics {
			t = append(t, Diagnostic{d.Tag + "_" + s.tag + "_img", d.Name + ", " + s.name + " image", d.Unit})
		}
	}
	for _, s := range steps {
		for _, d := range regionDiagnostics {
			t = append(t, Diagnostic{d.Tag + "_" + s.tag + "_roi", d.Name + ", " + s.name + " ROI", d.Unit})
		}
	}
	return t
}()

// x, y, z are columns, rows, slices of the image.
var imageDiagnostics = []Diagnostic{
	{"img_dim_x", "Image dimension x", UnitNone},
	{"img_dim_y", "Image dimension y", UnitNone},
	{"img_dim_z", "Image dimension z", UnitNone},
	{"vox_dim_x", "Voxel dimension x", UnitMM},
	{"vox_dim_y", "Voxel dimension y", UnitMM},
	{"vox_dim_z", "Voxel dimension z", UnitMM},
	{"mean_int", "Mean intensity", UnitIntensity},
	{"min_int", "Minimum intensity", UnitIntensity},
	{"max_int", "Maximum intensity", UnitIntensity},
}

var regionDiagnostics = []Diagnostic{
	{"int_mask_dim_x", "Intensity mask dimension x", UnitNone},
	{"int_mask_dim_y", "Intensity mask dimension y", UnitNone},
	{"int_mask_dim_z", "Intensity mask dimension z", UnitNone},
	{"int_mask_bb_dim_x", "Intensity mask bounding box dimension x", UnitNone},
	{"int_mask_bb_dim_y", "Intensity mask bounding box dimension y", UnitNone},
	{"int_mask_bb_dim_z", "Intensity mask bounding box dimension z", UnitNone},
	{"morph_mask_bb_dim_x", "Morphological mask bounding box dimension x", UnitNone},
	{"morph_mask_bb_dim_y", "Morphological mask bounding box dimension y", UnitNone},
	{"morph_mask_bb_dim_z", "Morphological mask bounding box dimension z", UnitNone},
	{"int_mask_vox_count", "Number of voxels in the intensity mask", UnitNone},
	{"morph_mask_vox_count", "Number of voxels in the morphological mask", UnitNone},
	{"int_mask_mean_int", "Mean intensity in the intensity mask", UnitIntensity},
	{"int_mask_min_int", "Minimum intensity in the intensity mask", UnitIntensity},
	{"int_mask_max_int", "Maximum intensity in the intensity mask", UnitIntensity},
}

// Diagnostics follows the region m of the image g through the chain that
// [Extract] goes with this profile, and gives the values of [DiagnosticTable] in
// its order. An intensity that does not exist, because a mask is empty or a
// voxel is not finite, has its Reason. Errors are those of Extract.
//
// The interpolated image is made and measured some slices at a time; it is
// never held whole.
func Diagnostics(ctx context.Context, g *voxel.Grid, m *voxel.Mask, p Profile) ([]Value, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	before := p
	before.Resegment = Resegment{}
	roi, err := Prepare(g, m, before)
	if err != nil {
		return nil, err
	}
	interpolated, err := interpolatedRange(ctx, g, roi.Geometry, p.Resample)
	if err != nil {
		return nil, fmt.Errorf("features: %w", err)
	}
	var initial extremes
	initial.add(g.Data)

	d := make(diagnosis, 0, len(DiagnosticTable))
	d.image(g.Geometry, initial)
	d.image(roi.Geometry, interpolated)
	d.region(g.Geometry, m, m, g.Crop(g.Part(m.Geometry)), "")
	d.region(roi.Geometry, roi.Morph, roi.Intensity, roi.Image, "no voxel of the ROI is left after interpolation")
	resegment(roi, p.Resegment)
	d.region(roi.Geometry, roi.Morph, roi.Intensity, roi.Image, reasonNoIntensity)
	return d, nil
}

// slab is how many slices of the interpolated image are made at a time. The
// cubic spline reads 28 slices of the given image on both sides of them.
const slab = 32

// interpolatedRange measures the whole image on the grid t of the interpolated one.
func interpolatedRange(ctx context.Context, g *voxel.Grid, t voxel.Geometry, r Resample) (s extremes, err error) {
	method, _ := voxel.ParseMethod(r.Image) // of a valid profile, or not used
	for box := t.Box(); box.Min[2] < t.Size[2]; box.Min[2] = box.Max[2] {
		if err := ctx.Err(); err != nil {
			return s, err
		}
		box.Max[2] = min(box.Min[2]+slab, t.Size[2])
		s.add(imagePart(g, t, box, r, method).Data)
	}
	return s, nil
}

// extremes are what the manual asks of a set of intensities.
type extremes struct {
	n                    int
	sum, lowest, highest float64
	infinite             bool // a value is NaN or infinite
}

func (s *extremes) add(values []float32) {
	for _, v := range values {
		x := float64(v)
		if math.IsNaN(x) || math.IsInf(x, 0) {
			s.infinite = true
		}
		if s.n == 0 {
			s.lowest, s.highest = x, x
		}
		s.n++
		s.sum += x
		s.lowest, s.highest = min(s.lowest, x), max(s.highest, x)
	}
}

// A diagnosis grows by one value a row of [DiagnosticTable].
type diagnosis []Value

func (d *diagnosis) add(x float64, reason string) {
	row := DiagnosticTable[len(*d)]
	*d = append(*d, Value{Tag: row.Tag, Value: x, Unit: row.Unit, Reason: reason})
}

func (d *diagnosis) sizes(n [3]int) {
	for a := range 3 {
		d.add(float64(n[a]), "")
	}
}

// intensities adds mean, minimum and maximum.
func (d *diagnosis) intensities(s extremes, empty string) {
	reason := ""
	switch {
	case s.n == 0:
		reason = empty
	case s.infinite:
		reason = "a voxel has no finite value"
	}
	if reason != "" {
		s = extremes{n: 1}
	}
	d.add(s.sum/float64(s.n), reason)
	d.add(s.lowest, reason)
	d.add(s.highest, reason)
}

// image adds the rows of imageDiagnostics.
func (d *diagnosis) image(g voxel.Geometry, s extremes) {
	d.sizes(g.Size)
	for a := range 3 {
		d.add(g.Spacing[a], "")
	}
	d.intensities(s, "")
}

// region adds the rows of regionDiagnostics. image is the part of the whole
// image that the masks lie on.
func (d *diagnosis) region(whole voxel.Geometry, morph, intensity *voxel.Mask, image *voxel.Grid, empty string) {
	d.sizes(whole.Size)
	d.sizes(intensity.Bounds().Size())
	d.sizes(morph.Bounds().Size())
	d.add(float64(intensity.Count()), "")
	d.add(float64(morph.Count()), "")
	var s extremes
	for i, in := range intensity.Data {
		if in != 0 {
			s.add(image.Data[i : i+1])
		}
	}
	d.intensities(s, empty)
}
