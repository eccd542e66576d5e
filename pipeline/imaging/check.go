package imaging

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

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
	sameDirection   = 1e-3 // each component of Image refusal.GeometryOrientation (Patient); a milliradian
	sameSpacing     = 1e-4 // of Pixel Spacing
	thicknessDiffer = 0.02 // of the spacing, before it is worth a note

	mostMissing = 10000 // positions named; nobody reads more
)

// A plane is what Check needs of one header.
type plane struct {
	index         int // in the caller's slice
	uid           string
	rows, columns int
	rowSpacing    float64 // between rows: y
	columnSpacing float64 // between columns: x
	row, column   [3]float64
	position      [3]float64
	along         float64 // of the position on the normal
}

// Check tells from headers alone whether images form one regular stack, and in which order. The error is a *[refusal.Refusal];
// with code [Gap] the layout names the positions where slices are missing. The answer does not depend on the order of the
// headers.
func Check(headers []*dicom.DataSet, o Options) (Layout, error) {
	if len(headers) == 0 {
		return Layout{}, &refusal.Refusal{Code: refusal.ImageNone, Text: "there is no image", Remedy: "send the images of the series"}
	}
	// By UID, so that the same images are refused with the same words in whatever order they came.
	byUID := make([]int, len(headers))
	for i := range byUID {
		byUID[i] = i
	}
	slices.SortStableFunc(byUID, func(a, b int) int {
		return cmp.Compare(headers[a].String(dicom.SOPInstanceUID), headers[b].String(dicom.SOPInstanceUID))
	})
	planes := make([]plane, len(headers))
	for n, i := range byUID {
		if err := suitable(headers[i]); err != nil {
			return Layout{}, err
		}
		p, err := readPlane(headers[i])
		if err != nil {
			return Layout{}, err
		}
		p.index = i
		planes[n] = p
	}
	first := headers[planes[0].index]
	for _, p := range planes[1:] {
		if err := sameSeries(first, headers[p.index]); err != nil {
			return Layout{}, err
		}
		if err := sameGrid(planes[0], p); err != nil {
			return Layout{}, err
		}
	}
	l := Layout{
		Study:            first.String(dicom.StudyInstanceUID),
		Series:           first.String(dicom.SeriesInstanceUID),
		FrameOfReference: first.String(dicom.FrameOfReferenceUID),
		Modality:         first.String(dicom.Modality),
		SOPClass:         first.String(dicom.SOPClassUID),
	}
	err := l.stack(planes, first)
	if err != nil {
		return l, err
	}
	l.note(headers)
	return l, nil
}

// suitable refuses what is not a single-frame CT image, by name.
func suitable(d *dicom.DataSet) error {
	uid, class, modality := d.String(dicom.SOPInstanceUID), d.String(dicom.SOPClassUID), d.String(dicom.Modality)
	name := dicom.UIDName(class)
	if name == "" {
		name = "SOP Class " + class
	}
	kind := make(map[string]bool)
	for _, v := range d.Strings(dicom.ImageType) {
		kind[strings.ToUpper(v)] = true
	}
	frames, _ := d.Int(dicom.NumberOfFrames)
	switch {
	case uid == "":
		return &refusal.Refusal{Code: refusal.ImageAttribute, Text: "SOP Instance UID (0008,0018) is absent or empty", Remedy: "send the image again from its source"}
	case class == enhancedCT || class == legacyEnhancedCT || frames > 1:
		return &refusal.Refusal{Code: refusal.ImageMultiFrame, SOPInstance: uid,
			Text:   fmt.Sprintf("%s with Number of Frames (0028,0008) %d: multi-frame images are not supported", name, frames),
			Remedy: "send the series as single-frame CT images"}
	case strings.Contains(name, "Secondary Capture") || kind["SCREEN SAVE"] || kind["SECONDARY CAPTURE"]:
		return &refusal.Refusal{Code: refusal.ImageSecondary, SOPInstance: uid,
			Text:   fmt.Sprintf("%s, Image Type (0008,0008) %s: a secondary capture shows a screen and has no physical values", name, strings.Join(d.Strings(dicom.ImageType), "\\")),
			Remedy: "send the original images of the scanner"}
	case class != dicom.CTImageStorage || modality != "CT":
		return &refusal.Refusal{Code: refusal.ImageModality, SOPInstance: uid,
			Text:   fmt.Sprintf("%s with Modality (0008,0060) %q: only CT images are supported", name, modality),
			Remedy: "send a CT series"}
	case kind["LOCALIZER"]:
		return &refusal.Refusal{Code: refusal.ImageLocalizer, SOPInstance: uid,
			Text:   "Image Type (0008,0008) says LOCALIZER: a scout view is no slice",
			Remedy: "keep localizers in a series of their own"}
	}
	samples, ok := d.Int(dicom.SamplesPerPixel)
	if photometric := d.String(dicom.PhotometricInterpretation); !ok || samples != 1 || photometric != "MONOCHROME2" {
		return &refusal.Refusal{Code: refusal.ImagePhotometric, SOPInstance: uid,
			Text:   fmt.Sprintf("Photometric Interpretation (0028,0004) is %q and Samples per Pixel (0028,0002) %d, a CT image has MONOCHROME2 and 1 (PS3.3 C.8.2.1)", photometric, samples),
			Remedy: "send the original images of the scanner"}
	}
	return nil
}

// The multi-frame CT classes, PS3.4 B.5.
const (
	enhancedCT       = "1.2.840.10008.5.1.4.1.1.2.1"
	legacyEnhancedCT = "1.2.840.10008.5.1.4.1.1.2.2"
)

// readPlane reads the image plane, PS3.3 C.7.6.2.
func readPlane(d *dicom.DataSet) (plane, error) {
	p := plane{uid: d.String(dicom.SOPInstanceUID)}
	bad := func(code refusal.Code, t dicom.Tag, why string) (plane, error) {
		return p, &refusal.Refusal{Code: code, SOPInstance: p.uid, Text: fmt.Sprintf("%s %s %s", t.Keyword(), t, why),
			Remedy: "send the original images of the scanner, with their geometry"}
	}
	var ok bool
	if p.rows, ok = d.Int(dicom.Rows); !ok || p.rows < 1 {
		return bad(refusal.ImageAttribute, dicom.Rows, "is absent or not positive")
	}
	if p.columns, ok = d.Int(dicom.Columns); !ok || p.columns < 1 {
		return bad(refusal.ImageAttribute, dicom.Columns, "is absent or not positive")
	}
	spacing, err := d.Floats(dicom.PixelSpacing)
	switch {
	case err != nil:
		return bad(refusal.GeometryPixelSpacing, dicom.PixelSpacing, "cannot be read: "+err.Error())
	case len(spacing) != 2:
		return bad(refusal.GeometryPixelSpacing, dicom.PixelSpacing, fmt.Sprintf("has %d values and needs 2", len(spacing)))
	case !(spacing[0] > 0) || !(spacing[1] > 0) || math.IsInf(spacing[0]+spacing[1], 0):
		return bad(refusal.GeometryPixelSpacing, dicom.PixelSpacing, "is not positive")
	}
	// PS3.3 10.7.1.3: first the spacing between rows, then that between columns.
	p.rowSpacing, p.columnSpacing = spacing[0], spacing[1]

	position, err := d.Floats(dicom.ImagePositionPatient)
	switch {
	case err != nil:
		return bad(refusal.ImageAttribute, dicom.ImagePositionPatient, "cannot be read: "+err.Error())
	case len(position) != 3:
		return bad(refusal.ImageAttribute, dicom.ImagePositionPatient, fmt.Sprintf("has %d values and needs 3", len(position)))
	case !finite(position):
		return bad(refusal.ImageAttribute, dicom.ImagePositionPatient, "is not a finite number")
	}
	p.position = [3]float64(position)

	direction, err := d.Floats(dicom.ImageOrientationPatient)
	switch {
	case err != nil:
		return bad(refusal.GeometryOrientation, dicom.ImageOrientationPatient, "cannot be read: "+err.Error())
	case len(direction) != 6:
		return bad(refusal.GeometryOrientation, dicom.ImageOrientationPatient, fmt.Sprintf("has %d values and needs 6", len(direction)))
	case !finite(direction):
		return bad(refusal.GeometryOrientation, dicom.ImageOrientationPatient, "is not a finite number")
	}
	p.row, p.column = [3]float64(direction[:3]), [3]float64(direction[3:])
	// PS3.3 C.7.6.2.1.1: row and column vectors are orthogonal unit vectors.
	if math.Abs(dot(p.row, p.row)-1) > sameDirection || math.Abs(dot(p.column, p.column)-1) > sameDirection || math.Abs(dot(p.row, p.column)) > sameDirection {
		return bad(refusal.GeometryOrientation, dicom.ImageOrientationPatient, "is not two unit vectors at right angles")
	}
	return p, nil
}

func sameSeries(a, b *dicom.DataSet) error {
	for _, c := range []struct {
		tag  dicom.Tag
		code refusal.Code
	}{
		{dicom.StudyInstanceUID, refusal.SeriesMixed},
		{dicom.SeriesInstanceUID, refusal.SeriesMixed},
		{dicom.FrameOfReferenceUID, refusal.GeometryFrame},
	} {
		if x, y := a.String(c.tag), b.String(c.tag); x != y {
			return &refusal.Refusal{Code: c.code, SOPInstance: b.String(dicom.SOPInstanceUID),
				Text:   fmt.Sprintf("%s %s is %s, and %s in image %s", c.tag.Keyword(), c.tag, orNone(y), orNone(x), a.String(dicom.SOPInstanceUID)),
				Remedy: "measure one series at a time"}
		}
	}
	return nil
}

func sameGrid(a, b plane) error {
	differ := func(code refusal.Code, t dicom.Tag, x, y any) error {
		return &refusal.Refusal{Code: code, SOPInstance: b.uid,
			Text:   fmt.Sprintf("%s %s is %v, and %v in image %s", t.Keyword(), t, y, x, a.uid),
			Remedy: "send the slices of one reconstruction as one series, and the others as another"}
	}
	switch {
	case a.rows != b.rows:
		return differ(refusal.GeometrySize, dicom.Rows, a.rows, b.rows)
	case a.columns != b.columns:
		return differ(refusal.GeometrySize, dicom.Columns, a.columns, b.columns)
	case math.Abs(a.rowSpacing-b.rowSpacing) > sameSpacing*a.rowSpacing || math.Abs(a.columnSpacing-b.columnSpacing) > sameSpacing*a.columnSpacing:
		return differ(refusal.GeometryPixelSpacing, dicom.PixelSpacing, fmt.Sprintf("%v\\%v", a.rowSpacing, a.columnSpacing), fmt.Sprintf("%v\\%v", b.rowSpacing, b.columnSpacing))
	}
	for i := range 3 {
		if math.Abs(a.row[i]-b.row[i]) > sameDirection || math.Abs(a.column[i]-b.column[i]) > sameDirection {
			return differ(refusal.GeometryOrientation, dicom.ImageOrientationPatient, fmt.Sprint(a.row, a.column), fmt.Sprint(b.row, b.column))
		}
	}
	return nil
}

// stack orders the planes along the normal and measures how regular they are.
func (l *Layout) stack(planes []plane, first *dicom.DataSet) error {
	// Unit vectors at right angles exactly: the attribute has a few decimals.
	x := unit(planes[0].row)
	y := unit(sub(planes[0].column, scale(x, dot(x, planes[0].column))))
	normal := cross(x, y)
	for i := range planes {
		planes[i].along = dot(planes[i].position, normal)
	}
	slices.SortStableFunc(planes, func(a, b plane) int { return cmp.Compare(a.along, b.along) }) // stable: ties stay by UID

	n := len(planes)
	bottom, top := planes[0], planes[n-1]
	l.Geometry = voxel.Geometry{
		Size:    [3]int{bottom.columns, bottom.rows, n},
		Spacing: [3]float64{bottom.columnSpacing, bottom.rowSpacing, 0},
		Origin:  bottom.position,
		Axes:    [3][3]float64{x, y, normal},
	}
	for _, p := range planes {
		l.Order = append(l.Order, p.index)
		l.SOPInstances = append(l.SOPInstances, p.uid)
	}
	if n == 1 {
		thickness, ok := first.Float(dicom.SliceThickness)
		if !ok || !(thickness > 0) || math.IsInf(thickness, 0) {
			return &refusal.Refusal{Code: refusal.GeometrySpacing, SOPInstance: bottom.uid,
				Text:   "the series is one slice, and SliceThickness (0018,0050), which would be its spacing, is absent or not positive",
				Remedy: "send the rest of the series"}
		}
		l.Geometry.Spacing[2] = thickness
		l.Notes = append(l.Notes, fmt.Sprintf("one slice: its thickness, Slice Thickness (0018,0050) %v mm, stands for the spacing between slices", thickness))
		return nil
	}

	steps := make([]float64, n-1)
	for i := range steps {
		steps[i] = planes[i+1].along - planes[i].along
		if steps[i] < samePlace {
			return &refusal.Refusal{Code: refusal.GeometryDuplicate, SOPInstance: planes[i+1].uid,
				Text:   fmt.Sprintf("ImagePositionPatient (0020,0032) %v is the plane of image %s too: %.3f mm between them", planes[i+1].position, planes[i].uid, steps[i]),
				Remedy: "send one image for each position; phases, energies and reconstructions belong in series of their own"}
		}
	}
	// A step well beyond the usual one is a hole; anything less is an irregular spacing.
	usual := median(steps)
	for i, step := range steps {
		for m := 1; m < int(math.Min(math.Round(step/usual), mostMissing)) && len(l.Missing) < mostMissing; m++ {
			l.Missing = append(l.Missing, add(planes[i].position, scale(sub(planes[i+1].position, planes[i].position), float64(m)*usual/step)))
		}
	}
	if k := len(l.Missing); k > 0 {
		l.Geometry.Spacing[2] = usual
		return &refusal.Refusal{Code: refusal.GeometryGap,
			Text:   fmt.Sprintf("%d of %d slices are missing by their ImagePositionPatient (0020,0032), the first at %s mm; the slices that are here are %.4g mm apart", k, n+k, coordinates(l.Missing[0]), usual),
			Remedy: "send the missing images"}
	}
	spacing := (top.along - bottom.along) / float64(n-1)
	l.Geometry.Spacing[2] = spacing
	tolerance := math.Min(offPlace, offPlaceShare*spacing)
	beside := offLineShare * math.Min(bottom.rowSpacing, bottom.columnSpacing)
	for k, p := range planes {
		regular := bottom.along + float64(k)*spacing
		if off := p.along - regular; math.Abs(off) > tolerance {
			return &refusal.Refusal{Code: refusal.GeometrySpacing, SOPInstance: p.uid,
				Text:   fmt.Sprintf("ImagePositionPatient (0020,0032) lies %.3f mm from where equal spacing of %.4g mm would put slice %d of %d, more than %.3g mm", math.Abs(off), spacing, k+1, n, tolerance),
				Remedy: "send a reconstruction with equal spacing"}
		}
		side := sub(sub(p.position, bottom.position), scale(normal, p.along-bottom.along))
		if off := math.Sqrt(dot(side, side)); off > beside {
			return &refusal.Refusal{Code: refusal.GeometryTilt, SOPInstance: p.uid,
				Text: fmt.Sprintf("ImagePositionPatient (0020,0032) of slice %d of %d lies %.3f mm beside the normal through the first slice, more than a quarter of a pixel: gantry tilt (GantryDetectorTilt (0018,1120) is %s) or a moved table",
					k+1, n, off, orNone(first.String(dicom.GantryDetectorTilt))),
				Remedy: "send a reconstruction without tilt"}
		}
	}
	return nil
}

// note says what does not forbid a measurement and matters to its reader.
func (l *Layout) note(headers []*dicom.DataSet) {
	var derived, noFrame bool
	for _, d := range headers {
		for i, v := range d.Strings(dicom.ImageType) {
			derived = derived || (i == 0 && v == "DERIVED") || (i == 1 && v == "SECONDARY")
		}
		noFrame = noFrame || d.String(dicom.FrameOfReferenceUID) == ""
	}
	if derived {
		l.Notes = append(l.Notes, "Image Type (0008,0008) says DERIVED or SECONDARY: the values may not be those of the scanner")
	}
	if noFrame {
		l.Notes = append(l.Notes, "Frame of Reference UID (0020,0052) is absent: positions are taken to share one frame")
	}
	spacing := l.Geometry.Spacing[2]
	if t, ok := headers[l.Order[0]].Float(dicom.SliceThickness); ok && t > 0 && math.Abs(t-spacing) > thicknessDiffer*spacing {
		l.Notes = append(l.Notes, fmt.Sprintf("Slice Thickness (0018,0050) is %v mm, the slices are %.4g mm apart", t, spacing))
	}
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

// Vectors. Products are rounded before they are added, so that no compiler fuses them: the same bits on every machine.

func dot(a, b [3]float64) float64 {
	return float64(a[0]*b[0]) + float64(a[1]*b[1]) + float64(a[2]*b[2])
}

func cross(a, b [3]float64) [3]float64 {
	return [3]float64{
		float64(a[1]*b[2]) - float64(a[2]*b[1]),
		float64(a[2]*b[0]) - float64(a[0]*b[2]),
		float64(a[0]*b[1]) - float64(a[1]*b[0]),
	}
}

func add(a, b [3]float64) [3]float64 { return [3]float64{a[0] + b[0], a[1] + b[1], a[2] + b[2]} }
func sub(a, b [3]float64) [3]float64 { return [3]float64{a[0] - b[0], a[1] - b[1], a[2] - b[2]} }
func scale(a [3]float64, f float64) [3]float64 {
	return [3]float64{float64(a[0] * f), float64(a[1] * f), float64(a[2] * f)}
}
func unit(a [3]float64) [3]float64 {
	length := math.Sqrt(dot(a, a))
	return [3]float64{a[0] / length, a[1] / length, a[2] / length}
}
