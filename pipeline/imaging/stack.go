package imaging

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
)

// Tolerances of the geometry, stated in the package comment.
const (
	samePlace       = 0.01 // mm; positions closer than this are the same
	offPlace        = 0.1  // mm along the normal, and
	offPlaceShare   = 0.1  // of the spacing, whichever is smaller
	offLineShare    = 0.25 // of a pixel beside the normal
	sameDirection   = 1e-3 // each component of Image Orientation (Patient); a milliradian
	sameSpacing     = 1e-4 // of Pixel Spacing
	thicknessDiffer = 0.02 // of the spacing, before it is worth a note

	mostMissing = 10000 // positions named; nobody reads more
)

// A stack is frames in order along their normal.
type stack struct {
	geometry voxel.Geometry
	frames   []*frame
	twins    []twin
	missing  [][3]float64
	notes    []string
}

// A twin is a frame in the place of a slice, which nothing but its pixels can tell apart from it.
type twin struct {
	frame *frame
	of    *frame
}

// regular orders frames of one grid along the normal and measures how regular they are. The error is a *[refusal.Refusal];
// with it comes what is known of the stack so far.
func regular(frames []*frame) (stack, error) {
	// Unit vectors at right angles exactly: the attribute has a few decimals.
	x := unit(frames[0].row)
	y := unit(sub(frames[0].column, scale(x, voxel.Dot(x, frames[0].column))))
	normal := voxel.Cross(x, y)
	ordered := slices.Clone(frames)
	for _, f := range ordered {
		f.along = voxel.Dot(f.position, normal)
		f.beside = [2]float64{voxel.Dot(f.position, x), voxel.Dot(f.position, y)}
	}
	slices.SortStableFunc(ordered, func(a, b *frame) int { return cmp.Compare(a.along, b.along) }) // stable: ties stay by UID

	n := len(ordered)
	bottom, top := ordered[0], ordered[n-1]
	s := stack{frames: ordered, geometry: voxel.Geometry{
		Size:    [3]int{bottom.columns, bottom.rows, n},
		Spacing: [3]float64{bottom.columnSpacing, bottom.rowSpacing, 0},
		Origin:  bottom.position,
		Axes:    [3][3]float64{x, y, normal},
	}}
	if n == 1 {
		thickness, ok := bottom.holder(dicom.SliceThickness, dicom.PixelMeasuresSequence).Float(dicom.SliceThickness)
		if !ok || !(thickness > 0) || math.IsInf(thickness, 0) {
			return s, bottom.refuse(refusal.GeometrySpacing, "send the rest of the series",
				"the series is one slice, and SliceThickness (0018,0050), which would be its spacing, is absent or not positive")
		}
		s.geometry.Spacing[2] = thickness
		s.notes = append(s.notes, fmt.Sprintf("one slice: its thickness, Slice Thickness (0018,0050) %v mm, stands for the spacing between slices", thickness))
		return s, nil
	}

	steps := make([]float64, n-1)
	for i := range steps {
		steps[i] = ordered[i+1].along - ordered[i].along
		if steps[i] < samePlace {
			return s, ordered[i+1].refuse(refusal.GeometryDuplicate, "",
				"ImagePositionPatient (0020,0032) %v is the plane of %simage %s too: %.3f mm between them", ordered[i+1].position, ordered[i].place(), ordered[i].uid, steps[i])
		}
	}
	// A step well beyond the usual one is a hole; anything less is an irregular spacing.
	usual := median(steps)
	for i, step := range steps {
		for m := 1; m < int(math.Min(math.Round(step/usual), mostMissing)) && len(s.missing) < mostMissing; m++ {
			s.missing = append(s.missing, add(ordered[i].position, scale(sub(ordered[i+1].position, ordered[i].position), float64(m)*usual/step)))
		}
	}
	if k := len(s.missing); k > 0 {
		s.geometry.Spacing[2] = usual
		return s, &refusal.Refusal{Code: refusal.GeometryGap,
			Text:   fmt.Sprintf("%d of %d slices are missing by their ImagePositionPatient (0020,0032), the first at %s mm; the slices that are here are %.4g mm apart", k, n+k, coordinates(s.missing[0]), usual),
			Remedy: "send the missing images"}
	}
	spacing := (top.along - bottom.along) / float64(n-1)
	s.geometry.Spacing[2] = spacing
	tolerance := math.Min(offPlace, offPlaceShare*spacing)
	for k, f := range ordered {
		regular := bottom.along + float64(k)*spacing
		if off := f.along - regular; !(math.Abs(off) <= tolerance) {
			return s, f.refuse(refusal.GeometrySpacing, "send a reconstruction with equal spacing",
				"ImagePositionPatient (0020,0032) lies %.3f mm from where equal spacing of %.4g mm would put slice %d of %d, more than %.3g mm", math.Abs(off), spacing, k+1, n, tolerance)
		}
		side := sub(sub(f.position, bottom.position), scale(normal, f.along-bottom.along))
		if off := math.Sqrt(voxel.Dot(side, side)); !(off <= bottom.offLine()) {
			return s, f.refuse(refusal.GeometryTilt, "send a reconstruction without tilt",
				"ImagePositionPatient (0020,0032) of slice %d of %d lies %.3f mm beside the normal through the first slice, more than a quarter of a pixel: gantry tilt (GantryDetectorTilt (0018,1120) is %s) or a moved table",
				k+1, n, off, orNone(frames[0].holder(dicom.GantryDetectorTilt, dicom.CTGeometrySequence).String(dicom.GantryDetectorTilt)))
		}
	}
	return s, nil
}

// offLine is how far beside the line of positions a slice may lie, mm.
func (f *frame) offLine() float64 {
	return offLineShare * math.Min(f.rowSpacing, f.columnSpacing)
}

// codeOf is the code of a refusal.
func codeOf(err error) refusal.Code {
	if r, ok := err.(*refusal.Refusal); ok {
		return r.Code
	}
	return ""
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func finite(v []float64) bool {
	for _, x := range v {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return false
		}
	}
	return true
}

func orNone(s string) string {
	if s == "" {
		return "absent"
	}
	return s
}

func coordinates(p [3]float64) string { return fmt.Sprintf("(%.4g, %.4g, %.4g)", p[0], p[1], p[2]) }

func add(a, b [3]float64) [3]float64 { return [3]float64{a[0] + b[0], a[1] + b[1], a[2] + b[2]} }
func sub(a, b [3]float64) [3]float64 { return [3]float64{a[0] - b[0], a[1] - b[1], a[2] - b[2]} }
func scale(a [3]float64, f float64) [3]float64 {
	return [3]float64{float64(a[0] * f), float64(a[1] * f), float64(a[2] * f)}
}
func unit(a [3]float64) [3]float64 {
	length := math.Sqrt(voxel.Dot(a, a))
	return [3]float64{a[0] / length, a[1] / length, a[2] / length}
}
