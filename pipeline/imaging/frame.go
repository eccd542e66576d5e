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

// A class is a storage class that is measured, PS3.4 B.5.
type class struct {
	modality string
	groups   bool // frames are described by functional groups: PS3.3 C.7.6.16
}

var classes = map[string]class{
	dicom.CTImageStorage:                         {"CT", false},
	dicom.EnhancedCTImageStorage:                 {"CT", true},
	dicom.LegacyConvertedEnhancedCTImageStorage:  {"CT", true},
	dicom.MRImageStorage:                         {"MR", false},
	dicom.EnhancedMRImageStorage:                 {"MR", true},
	dicom.LegacyConvertedEnhancedMRImageStorage:  {"MR", true},
	dicom.PositronEmissionTomographyImageStorage: {"PT", false},
	dicom.EnhancedPETImageStorage:                {"PT", true},
	dicom.LegacyConvertedEnhancedPETImageStorage: {"PT", true},
	dicom.NuclearMedicineImageStorage:            {"NM", false},
}

// mostFrames bounds what a header alone can ask of memory.
const mostFrames = 1 << 16

// A frame is one plane of pixels, with the data sets that describe it.
type frame struct {
	Place
	uid         string
	modality    string
	header      *dicom.DataSet
	own, shared *dicom.DataSet // functional groups of this frame and of all; nil in a single-frame image
	of          int            // frames in the image

	rows, columns int
	rowSpacing    float64 // between rows: y
	columnSpacing float64 // between columns: x
	row, column   [3]float64
	position      [3]float64
	along         float64    // of the position on the normal
	beside        [2]float64 // of the position on rows and columns
}

// The attributes that a conversion to multi-frame found no functional group for: PS3.3 C.7.6.16.2.26 and .27.
var converted = [...]dicom.Tag{dicom.UnassignedPerFrameConvertedAttributesSequence, dicom.UnassignedSharedConvertedAttributesSequence}

// grouped is the item of a functional group that has the attribute, nil where none has: first that of the frame, then
// that of all frames (PS3.3 C.7.6.16.1.1 and .2).
func (f *frame) grouped(t dicom.Tag, groups ...dicom.Tag) *dicom.DataSet {
	for _, g := range [...]*dicom.DataSet{f.own, f.shared} {
		for _, s := range groups {
			if items := g.Seq(s); len(items) > 0 && filled(items[0], t) {
				return items[0]
			}
		}
		for _, s := range converted {
			if items := g.Seq(s); len(items) > 0 && filled(items[0], t) {
				return items[0]
			}
		}
	}
	return nil
}

// holder is the data set that has the attribute of the frame: an item as in grouped, else the header. Where none has it, it
// is the header all the same.
func (f *frame) holder(t dicom.Tag, groups ...dicom.Tag) *dicom.DataSet {
	if d := f.grouped(t, groups...); d != nil {
		return d
	}
	return f.header
}

func filled(d *dicom.DataSet, t dicom.Tag) bool {
	e := d.Element(t)
	return e != nil && (len(e.Bytes()) > 0 || len(e.Items()) > 0)
}

var frameTypes = [...]dicom.Tag{dicom.CTImageFrameTypeSequence, dicom.MRImageFrameTypeSequence, dicom.PETFrameTypeSequence}

// imageType is Frame Type (0008,9007), or Image Type (0008,0008) where there is none, in capitals.
func (f *frame) imageType() []string {
	v := f.grouped(dicom.FrameType, frameTypes[:]...).Strings(dicom.FrameType)
	if v == nil {
		v = f.header.Strings(dicom.ImageType)
	}
	out := make([]string, len(v))
	for i := range v {
		out[i] = strings.ToUpper(v[i])
	}
	return out
}

// place names the frame in a text: its number where the image has several.
func (f *frame) place() string {
	if f.own == nil && f.of == 1 {
		return ""
	}
	return fmt.Sprintf("frame %d: ", f.Frame+1)
}

// refuse is a refusal that shows the frame.
func (f *frame) refuse(code refusal.Code, remedy, format string, args ...any) error {
	return &refusal.Refusal{Code: code, SOPInstance: f.uid, Text: f.place() + fmt.Sprintf(format, args...), Remedy: remedy}
}

const (
	sendOriginals = "send the original images of the scanner"
	sendGeometry  = "send the original images of the scanner, with their geometry"
	sendOne       = "send the slices of one reconstruction as one series, and the others as another"
)

// framesOf lists the frames of all images by SOP Instance UID and number, so that the same images are refused with the same
// words in whatever order they came.
func framesOf(headers []*dicom.DataSet) ([]*frame, error) {
	byUID := make([]int, len(headers))
	for i := range byUID {
		byUID[i] = i
	}
	slices.SortStableFunc(byUID, func(a, b int) int {
		return cmp.Compare(headers[a].String(dicom.SOPInstanceUID), headers[b].String(dicom.SOPInstanceUID))
	})
	var all []*frame
	for _, i := range byUID {
		if err := suitable(headers[i]); err != nil {
			return nil, err
		}
		own, err := split(headers[i], i)
		if err != nil {
			return nil, err
		}
		all = append(all, own...)
	}
	first := headers[byUID[0]]
	for _, i := range byUID[1:] {
		if err := sameSeries(first, headers[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// suitable refuses what is not an image of slices, by name.
func suitable(d *dicom.DataSet) error {
	uid, sopClass, modality := d.String(dicom.SOPInstanceUID), d.String(dicom.SOPClassUID), d.String(dicom.Modality)
	name := dicom.UIDName(sopClass)
	if name == "" {
		name = "SOP Class " + sopClass
	}
	imageType := d.Strings(dicom.ImageType)
	kind := make(map[string]bool)
	for _, v := range imageType {
		kind[strings.ToUpper(v)] = true
	}
	refuse := func(code refusal.Code, remedy, format string, args ...any) error {
		return &refusal.Refusal{Code: code, SOPInstance: uid, Text: fmt.Sprintf(format, args...), Remedy: remedy}
	}
	c, known := classes[sopClass]
	frames, _ := d.Int(dicom.NumberOfFrames)
	switch {
	case uid == "":
		return refuse(refusal.ImageAttribute, "send the image again from its source", "SOP Instance UID (0008,0018) is absent or empty")
	case strings.Contains(name, "Secondary Capture") || kind["SCREEN SAVE"] || kind["SECONDARY CAPTURE"]:
		return refuse(refusal.ImageSecondary, sendOriginals, "%s, Image Type (0008,0008) %s: a secondary capture shows a screen and has no physical values", name, strings.Join(imageType, "\\"))
	case !known || modality != c.modality:
		return refuse(refusal.ImageModality, "", "%s with Modality (0008,0060) %q: CT, MR, PET and NM images are supported", name, modality)
	case c.modality == "NM" && (len(imageType) < 3 || !strings.HasPrefix(strings.ToUpper(imageType[2]), "RECON ")):
		// PS3.3 C.8.4.9.1.1: all other values are projections.
		return refuse(refusal.ImageModality, "send the reconstructed volume", "%s, Image Type (0008,0008) %s: only RECON TOMO and RECON GATED TOMO are volumes", name, strings.Join(imageType, "\\"))
	case slices.Contains(d.Strings(dicom.SeriesType), "REPROJECTION"): // PS3.3 C.8.9.1.1.2
		return refuse(refusal.ImageModality, "send the reconstructed slices", "Series Type (0054,1000) says REPROJECTION: a projection is no slice")
	case frames > 1 && !c.groups && c.modality != "NM":
		return refuse(refusal.ImageMultiFrame, "", "%s with Number of Frames (0028,0008) %d: frames of this class have no geometry of their own", name, frames)
	case frames > mostFrames:
		return refuse(refusal.ImageMultiFrame, "", "Number of Frames (0028,0008) is %d, more than %d", frames, mostFrames)
	}
	samples, ok := d.Int(dicom.SamplesPerPixel)
	photometric := d.String(dicom.PhotometricInterpretation)
	switch {
	case ok && samples == 1 && photometric == "MONOCHROME2":
	case ok && samples == 1 && photometric == "MONOCHROME1" && c.modality != "CT":
	case c.modality == "CT":
		return refuse(refusal.ImagePhotometric, sendOriginals, "Photometric Interpretation (0028,0004) is %q and Samples per Pixel (0028,0002) %d, a CT image has MONOCHROME2 and 1 (PS3.3 C.8.2.1)", photometric, samples)
	default:
		return refuse(refusal.ImagePhotometric, sendOriginals, "Photometric Interpretation (0028,0004) is %q and Samples per Pixel (0028,0002) %d: one grey value a pixel is needed", photometric, samples)
	}
	return nil
}

// split lists the frames of one image.
func split(d *dicom.DataSet, image int) ([]*frame, error) {
	c := classes[d.String(dicom.SOPClassUID)]
	at := func(i, of int) *frame {
		return &frame{Place: Place{image, i}, uid: d.String(dicom.SOPInstanceUID), modality: c.modality, header: d, of: of}
	}
	n := 1
	if filled(d, dicom.NumberOfFrames) {
		var ok bool
		if n, ok = d.Int(dicom.NumberOfFrames); !ok || n < 1 {
			return nil, at(0, 1).refuse(refusal.ImageMultiFrame, sendOriginals, "Number of Frames (0028,0008) is %q", d.String(dicom.NumberOfFrames))
		}
	}
	switch {
	case c.groups:
		own := d.Seq(dicom.PerFrameFunctionalGroupsSequence)
		if len(own) != n {
			return nil, at(0, 1).refuse(refusal.ImageMultiFrame, sendOriginals,
				"Number of Frames (0028,0008) is %d, and Per-Frame Functional Groups Sequence (5200,9230) describes %d", n, len(own))
		}
		var shared *dicom.DataSet
		if s := d.Seq(dicom.SharedFunctionalGroupsSequence); len(s) > 0 {
			shared = s[0]
		}
		out := make([]*frame, n)
		for i := range out {
			f := at(i, n)
			f.own, f.shared = own[i], shared
			if err := f.readPlane(f.grouped(dicom.PixelSpacing, dicom.PixelMeasuresSequence),
				f.grouped(dicom.ImagePositionPatient, dicom.PlanePositionSequence),
				f.grouped(dicom.ImageOrientationPatient, dicom.PlaneOrientationSequence)); err != nil {
				return nil, err
			}
			out[i] = f
		}
		return out, nil
	case c.modality == "NM":
		return splitNM(d, n, at)
	}
	f := at(0, 1)
	return []*frame{f}, f.readPlane(d, d, d)
}

// splitNM lists the frames of a reconstructed NM image. The detector has the position of the first slice, and the others lie
// along the normal as Slice Vector (0054,0080) counts them: PS3.3 C.8.4.8, C.8.4.11, C.8.4.15.
func splitNM(d *dicom.DataSet, n int, at func(i, of int) *frame) ([]*frame, error) {
	detector := d
	if items := d.Seq(dicom.DetectorInformationSequence); len(items) > 0 && filled(items[0], dicom.ImagePositionPatient) {
		detector = items[0] // a reconstruction has one, whatever number of heads turned
	}
	first := at(0, n)
	if err := first.readPlane(d, detector, detector); err != nil {
		return nil, err
	}
	if n == 1 {
		return []*frame{first}, nil
	}
	slice, err := d.Ints(dicom.SliceVector)
	if err != nil || len(slice) != n {
		return nil, first.refuse(refusal.ImageMultiFrame, sendOriginals, "Number of Frames (0028,0008) is %d, and Slice Vector (0054,0080) has %d values", n, len(slice))
	}
	// The sign says in which direction the slices are stacked: PS3.3 C.8.4.15.
	spacing, ok := d.Float(dicom.SpacingBetweenSlices)
	if !ok || spacing == 0 || !finite([]float64{spacing}) {
		return nil, first.refuse(refusal.GeometrySpacing, sendGeometry, "Spacing Between Slices (0018,0088) is %q, and the frames have no other positions", d.String(dicom.SpacingBetweenSlices))
	}
	normal := unit(voxel.Cross(first.row, first.column))
	out := make([]*frame, n)
	for i := range out {
		f := at(i, n)
		if slice[i] < 1 || slice[i] > mostFrames {
			return nil, f.refuse(refusal.ImageMultiFrame, sendOriginals, "Slice Vector (0054,0080) has slice %d", slice[i])
		}
		f.rows, f.columns, f.row, f.column = first.rows, first.columns, first.row, first.column
		f.rowSpacing, f.columnSpacing = first.rowSpacing, first.columnSpacing
		f.position = add(first.position, scale(normal, float64(slice[i]-1)*spacing))
		out[i] = f
	}
	return out, nil
}

// readPlane reads the image plane, PS3.3 C.7.6.2, from the data sets that hold it.
func (f *frame) readPlane(measures, position, orientation *dicom.DataSet) error {
	bad := func(code refusal.Code, t dicom.Tag, why string) error {
		return f.refuse(code, sendGeometry, "%s %s %s", t.Keyword(), t, why)
	}
	var ok bool
	if f.rows, ok = f.header.Int(dicom.Rows); !ok || f.rows < 1 || f.rows > math.MaxUint16 {
		return bad(refusal.ImageAttribute, dicom.Rows, "is absent or not positive")
	}
	if f.columns, ok = f.header.Int(dicom.Columns); !ok || f.columns < 1 || f.columns > math.MaxUint16 {
		return bad(refusal.ImageAttribute, dicom.Columns, "is absent or not positive")
	}
	spacing, err := measures.Floats(dicom.PixelSpacing)
	switch {
	case err != nil:
		return bad(refusal.GeometryPixelSpacing, dicom.PixelSpacing, "cannot be read: "+err.Error())
	case len(spacing) != 2:
		return bad(refusal.GeometryPixelSpacing, dicom.PixelSpacing, fmt.Sprintf("has %d values and needs 2", len(spacing)))
	case !(spacing[0] > 0) || !(spacing[1] > 0) || math.IsInf(spacing[0]+spacing[1], 0):
		return bad(refusal.GeometryPixelSpacing, dicom.PixelSpacing, "is not positive")
	}
	// PS3.3 10.7.1.3: first the spacing between rows, then that between columns.
	f.rowSpacing, f.columnSpacing = spacing[0], spacing[1]

	place, err := position.Floats(dicom.ImagePositionPatient)
	switch {
	case err != nil:
		return bad(refusal.ImageAttribute, dicom.ImagePositionPatient, "cannot be read: "+err.Error())
	case len(place) != 3:
		return bad(refusal.ImageAttribute, dicom.ImagePositionPatient, fmt.Sprintf("has %d values and needs 3", len(place)))
	case !finite(place):
		return bad(refusal.ImageAttribute, dicom.ImagePositionPatient, "is not a finite number")
	}
	f.position = [3]float64(place)

	direction, err := orientation.Floats(dicom.ImageOrientationPatient)
	switch {
	case err != nil:
		return bad(refusal.GeometryOrientation, dicom.ImageOrientationPatient, "cannot be read: "+err.Error())
	case len(direction) != 6:
		return bad(refusal.GeometryOrientation, dicom.ImageOrientationPatient, fmt.Sprintf("has %d values and needs 6", len(direction)))
	case !finite(direction):
		return bad(refusal.GeometryOrientation, dicom.ImageOrientationPatient, "is not a finite number")
	}
	f.row, f.column = [3]float64(direction[:3]), [3]float64(direction[3:])
	// PS3.3 C.7.6.2.1.1: row and column vectors are orthogonal unit vectors.
	if math.Abs(voxel.Dot(f.row, f.row)-1) > sameDirection || math.Abs(voxel.Dot(f.column, f.column)-1) > sameDirection || math.Abs(voxel.Dot(f.row, f.column)) > sameDirection {
		return bad(refusal.GeometryOrientation, dicom.ImageOrientationPatient, "is not two unit vectors at right angles")
	}
	return nil
}

func sameSeries(a, b *dicom.DataSet) error {
	for _, c := range []struct {
		tag  dicom.Tag
		code refusal.Code
	}{
		{dicom.StudyInstanceUID, refusal.SeriesMixed},
		{dicom.SeriesInstanceUID, refusal.SeriesMixed},
		{dicom.SOPClassUID, refusal.SeriesMixed},
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

// sameGrid refuses what b has of another grid than a.
func sameGrid(a, b *frame) error {
	differ := func(code refusal.Code, t dicom.Tag, x, y any) error {
		return b.refuse(code, sendOne, "%s %s is %v, and %v in image %s", t.Keyword(), t, y, x, a.uid)
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
