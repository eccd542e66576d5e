// Package roi reads regions of interest from RT structure sets (PS3.3 C.8.8.5, C.8.8.6, C.8.8.8), says which images they
// name, puts them on a grid, and writes the voxels as a Segmentation (PS3.3 C.8.20).
//
// Start at [References], which tells what a structure set needs, then [Regions] and [Rasterise]; [WriteSEG] makes the
// object that records exactly the voxels that were measured.
//
// The rule by which contours become voxels ([Describe] says it in a sentence, [voxel.Rule] changes it):
//
// The contours of a region lie in parallel planes. Those of one plane are combined by exclusive or, so that an inner contour
// is a hole and a keyhole is one as well (PS3.3 C.8.8.6.3). A plane stands for a slab, which reaches half way to the
// neighbouring planes. At the ends, and where the neighbour is further away than one and a half times the usual distance, it
// reaches half the usual distance, and the gap stays empty. The usual distance is the median of all, at most 10 mm or a
// voxel; where there is one plane only, it is a voxel; where all contours lie on slices of the images, it is that of the
// slices, so that nothing is put on slices without contours, unless [Region.OtherSeries]. A slab holds its lower side and not
// its upper one: of two slices at the same distance a contour goes to the lower one.
//
// A voxel belongs to the region if its centre lies in the slab of a plane and, seen along the normal, inside the contours of
// that plane by the even-odd rule. A centre on the outline belongs to the region on the side of the lower index: left and
// upper outlines are inside, right and lower ones outside, so that regions which share an outline share no voxel and leave
// none between them. By the boundary rule inside all centres on the outline belong to the region, by outside none; where an
// outline runs back on itself, as the bridge of a keyhole, there is none.
//
// By the rule coverage a voxel belongs to the region if the contours of the plane that its centre falls to cover enough of
// its rectangle in the plane: see cover for how exact that is. Where the plane is parallel to no two axes of the images, it is
// the part of 4 x 4 x 4 points of the voxel that lie inside.
//
// All contours of a region have to lie in planes of one direction, which is taken from their areas, to half a voxel along the
// normal. Directions within a degree of the slices, columns or rows are theirs.
package roi

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline/refusal"
)

// A Code is a coded concept, PS3.3 8.8.
type Code struct{ Value, Scheme, Meaning string }

// A Region is one item of Structure Set ROI Sequence (3006,0020) with its contours and its observation.
type Region struct {
	Number                 int       // ROI Number (3006,0022): names may repeat, numbers do not
	Name                   string    // ROI Name (3006,0026)
	Description            string    // ROI Description (3006,0028)
	GenerationAlgorithm    string    // ROI Generation Algorithm (3006,0036): AUTOMATIC, SEMIAUTOMATIC, MANUAL or ""
	Label                  string    // ROI Observation Label (3006,0085)
	ObservationDescription string    // ROI Observation Description (3006,0088)
	InterpretedType        string    // RT ROI Interpreted Type (3006,00A4): GTV, ORGAN, ... or ""
	Category, Type         Code      // what it is, as the structure set codes it; zero where it does not. See [Region.Property]
	TypeModifier           Code      // Segmented Property Type Modifier (0062,0011); this and the next three of a Segmentation only
	Site                   Code      // Anatomic Region (0008,2218)
	Laterality             Code      // Anatomic Region Modifier (0008,2220), else TypeModifier where that is a side
	AlgorithmName          string    // Segment Algorithm Name (0062,0009)
	TrackingID             string    // Tracking ID (0062,0020), else the name, with the number where regions share it
	TrackingUID            string    // Tracking UID (0062,0021), else derived from the structure set's UID and the number
	FrameOfReference       string    // Referenced Frame of Reference UID (3006,0024)
	SeriesUIDs             []string  // Source Series Sequence (3006,004B)
	Color                  *[3]uint8 // ROI Display Color (3006,002A), nil where there is none
	Images                 []string  // SOP Instance UIDs that the contours name, in order of first mention
	Contours               [][][3]float64
	OtherSeries            bool // it is measured on another series than it was drawn on: for the caller to say, see [Rasterise]
	Notes                  []string
	Refusal                *refusal.Refusal // why it cannot be put on a grid; nil where it can

	segment *segment // of a Segmentation; nil where there are contours
}

// Kind is what the source calls the region: "ROI" of a structure set, "Segment" of a segmentation.
func (r Region) Kind() string {
	if r.segment != nil {
		return "Segment"
	}
	return "ROI"
}

// maxCoordinate bounds contour data: ten kilometres are no patient.
const maxCoordinate = 1e7

// Regions returns every region of a structure set or of a segmentation, in the order of the object. A region that cannot be
// measured is there with its Refusal; the error, a *[refusal.Refusal], is for the object as a whole. The pixels of a
// segmentation are read when a region is put on a grid: f must be open until then.
func Regions(f *dicom.File) ([]Region, error) {
	if isSegmentation(f.DataSet) {
		return segments(f)
	}
	return contoured(f.DataSet)
}

// contoured returns the regions of a structure set, in the order of Structure Set ROI Sequence.
func contoured(d *dicom.DataSet) ([]Region, error) {
	if err := isStructureSet(d); err != nil {
		return nil, err
	}
	set := d.String(dicom.SOPInstanceUID)
	rois := d.Seq(dicom.StructureSetROISequence)
	if len(rois) == 0 {
		return nil, &refusal.Refusal{Code: refusal.ContoursNone, Text: "StructureSetROISequence (3006,0020) is absent or empty", Remedy: "export the structure set with its regions"}
	}
	contours, observations := byNumber(d.Seq(dicom.ROIContourSequence)), byNumber(d.Seq(dicom.RTROIObservationsSequence))
	names := make(map[string]int, len(rois))
	for _, item := range rois {
		names[item.String(dicom.ROIName)]++
	}
	seen := make(map[int]int)
	var regions []Region
	for i, item := range rois {
		number, ok := item.Int(dicom.ROINumber)
		r := Region{
			Number:              number,
			Name:                item.String(dicom.ROIName),
			Description:         item.String(dicom.ROIDescription),
			GenerationAlgorithm: item.String(dicom.ROIGenerationAlgorithm),
			FrameOfReference:    item.String(dicom.ReferencedFrameOfReferenceUID),
			TrackingID:          item.String(dicom.TrackingID),
			TrackingUID:         item.String(dicom.TrackingUID),
		}
		if first, twice := seen[number]; !ok || twice {
			text := fmt.Sprintf("(3006,0020)[%d].(3006,0022) ROI Number is absent", i+1)
			if twice {
				text = fmt.Sprintf("(3006,0020)[%d].(3006,0022) ROI Number %d is taken by another region: its contours cannot be told apart", i+1, number)
				if regions[first].Refusal == nil {
					regions[first].Refusal = &refusal.Refusal{Code: refusal.ContoursNumber, Text: text, Remedy: "export the structure set with a number for each region"}
				}
			}
			r.Refusal = &refusal.Refusal{Code: refusal.ContoursNumber, Text: text, Remedy: "export the structure set with a number for each region"}
		} else {
			seen[number] = i
		}
		if r.Refusal == nil {
			for _, o := range observations[number] {
				r.observe(o)
			}
		}
		if r.TrackingID == "" {
			r.TrackingID = r.Name
			if r.Name != "" && names[r.Name] > 1 { // reports show it alone
				r.TrackingID = fmt.Sprintf("%s (ROI %d)", r.Name, number)
			}
		}
		if r.TrackingID == "" {
			r.TrackingID = "ROI " + strconv.Itoa(number)
		}
		if !dicom.ValidUID(r.TrackingUID) {
			r.TrackingUID = dicom.UIDFrom("tracking", set, strconv.Itoa(number))
		}
		if r.Refusal == nil {
			r.Refusal = r.draw(contours[number])
		}
		regions = append(regions, r)
	}
	return regions, nil
}

func isStructureSet(d *dicom.DataSet) error {
	if class := d.String(dicom.SOPClassUID); class != dicom.RTStructureSetStorage {
		name := dicom.UIDName(class)
		if name == "" {
			name = class
		}
		return &refusal.Refusal{Code: refusal.ContoursClass, Text: fmt.Sprintf("SOPClassUID (0008,0016) is %q, not RT Structure Set Storage", name), Remedy: "send an RT structure set"}
	}
	return nil
}

// byNumber groups items by Referenced ROI Number (3006,0084). An item without one belongs to no region.
func byNumber(items []*dicom.DataSet) map[int][]*dicom.DataSet {
	m := make(map[int][]*dicom.DataSet, len(items))
	for _, item := range items {
		if n, ok := item.Int(dicom.ReferencedROINumber); ok {
			m[n] = append(m[n], item)
		}
	}
	return m
}

// observe takes what an item of RT ROI Observations Sequence (3006,0080) says. A region may have several observations
// (PS3.3 C.8.8.8); the first that says something counts.
func (r *Region) observe(o *dicom.DataSet) {
	first := func(have *string, t dicom.Tag) {
		if *have == "" {
			*have = o.String(t)
		}
	}
	first(&r.Label, dicom.ROIObservationLabel)
	first(&r.ObservationDescription, dicom.ROIObservationDescription)
	first(&r.InterpretedType, dicom.RTROIInterpretedType)
	first(&r.TrackingID, dicom.TrackingID)
	first(&r.TrackingUID, dicom.TrackingUID)
	if r.Type == (Code{}) {
		r.Type = readCode(o.Seq(dicom.RTROIIdentificationCodeSequence))
	}
	if r.Category == (Code{}) {
		r.Category = readCode(o.Seq(dicom.SegmentedPropertyCategoryCodeSequence))
	}
}

// readCode reads the first complete code of a sequence, PS3.3 Table 8.8-1.
func readCode(items []*dicom.DataSet) Code {
	for _, item := range items {
		c := Code{item.String(dicom.CodeValue), item.String(dicom.CodingSchemeDesignator), item.String(dicom.CodeMeaning)}
		if c.Value == "" {
			c.Value = item.String(dicom.LongCodeValue)
		}
		if c.Value != "" && c.Scheme != "" && c.Meaning != "" {
			return c
		}
	}
	return Code{}
}

// draw reads the contours of a region, PS3.3 C.8.8.6, and says what keeps them from enclosing voxels.
func (r *Region) draw(items []*dicom.DataSet) *refusal.Refusal {
	var degenerate, miscounted, marks int
	number := 0
	for _, item := range items {
		if rgb, err := item.Ints(dicom.ROIDisplayColor); err == nil && len(rgb) == 3 && min(rgb[0], rgb[1], rgb[2]) >= 0 && max(rgb[0], rgb[1], rgb[2]) <= 255 {
			r.Color = &[3]uint8{uint8(rgb[0]), uint8(rgb[1]), uint8(rgb[2])}
		}
		for _, s := range item.Seq(dicom.SourceSeriesSequence) {
			r.SeriesUIDs = append(r.SeriesUIDs, s.String(dicom.SeriesInstanceUID))
		}
		for _, c := range item.Seq(dicom.ContourSequence) {
			number++
			at := fmt.Sprintf("ROI %d, contour %d", r.Number, number)
			for _, image := range c.Seq(dicom.ContourImageSequence) {
				r.Images = append(r.Images, image.String(dicom.ReferencedSOPInstanceUID))
			}
			switch kind := c.String(dicom.ContourGeometricType); kind {
			case "CLOSED_PLANAR", "CLOSEDPLANAR_XOR": // PS3.3 C.8.8.6.1: both enclose, and combine by exclusive or
			case "POINT": // some systems end a region in a point, where a slice hardly touches it
				marks++
				continue
			default: // a line may be a contour that was not closed: without it the region would be another one
				return &refusal.Refusal{Code: refusal.ContoursType, Text: fmt.Sprintf("%s: ContourGeometricType (3006,0042) is %q, which encloses no voxels", at, kind), Remedy: "draw the region with closed planar contours"}
			}
			v, err := c.Floats(dicom.ContourData)
			if err != nil {
				return &refusal.Refusal{Code: refusal.ContoursData, Text: fmt.Sprintf("%s: ContourData (3006,0050) cannot be read: %v", at, err), Remedy: "export the structure set again"}
			}
			if len(v)%3 != 0 {
				return &refusal.Refusal{Code: refusal.ContoursData, Text: fmt.Sprintf("%s: ContourData (3006,0050) has %d values, not triplets of x, y, z", at, len(v)), Remedy: "export the structure set again"}
			}
			points := make([][3]float64, len(v)/3)
			for i := range points {
				points[i] = [3]float64(v[3*i:])
				for _, x := range points[i] {
					if !(math.Abs(x) < maxCoordinate) {
						return &refusal.Refusal{Code: refusal.ContoursData, Text: fmt.Sprintf("%s: ContourData (3006,0050) point %d has the coordinate %v, which is no place in mm", at, i+1, x), Remedy: "export the structure set again"}
					}
				}
			}
			if n, ok := c.Int(dicom.NumberOfContourPoints); ok && n != len(points) {
				miscounted++
			}
			if len(points) < 3 {
				degenerate++
				continue
			}
			r.Contours = append(r.Contours, points)
		}
	}
	slicesUnique(&r.Images)
	slicesUnique(&r.SeriesUIDs)
	if miscounted > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("Number of Contour Points (3006,0046) is not that of Contour Data in %d contours; the data count", miscounted))
	}
	if degenerate > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d contours of fewer than three points enclose nothing and are left out", degenerate))
	}
	if marks > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d of %d contours are points (POINT), which enclose nothing, and are left out", marks, number))
	}
	if marks > 0 && marks == number {
		return &refusal.Refusal{Code: refusal.ContoursType, Text: fmt.Sprintf("ROI %d: ContourGeometricType (3006,0042) is %q in all %d contours, which enclose no voxels", r.Number, "POINT", number), Remedy: "draw the region with closed planar contours"}
	}
	if len(r.Contours) == 0 {
		return &refusal.Refusal{Code: refusal.ContoursAbsent, Text: fmt.Sprintf("ROI %d has no closed contour in ROIContourSequence (3006,0039)", r.Number), Remedy: "draw the region, or leave it out of the export"}
	}
	return nil
}

func appendNew(list []string, s string) []string {
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

// slicesUnique keeps the first of equal strings and drops empty ones.
func slicesUnique(list *[]string) {
	seen := make(map[string]bool, len(*list))
	*list = slices.DeleteFunc(*list, func(s string) bool {
		twice := s == "" || seen[s]
		seen[s] = true
		return twice
	})
}

// The codes that RT ROI Interpreted Type (3006,00A4) stands for: categories of CID 7150, types of CID 7151, 9534 and 9535.
var (
	tissue     = Code{"85756007", "SCT", "Tissue"}
	anatomical = Code{"91723000", "SCT", "Anatomical Structure"}
	abnormal   = Code{"49755003", "SCT", "Morphologically Abnormal Structure"}
	spatial    = Code{"309825002", "SCT", "Spatial and Relational Concept"}

	interpreted = map[string][2]Code{
		"GTV":            {abnormal, {"228791009", "SCT", "GTV"}},
		"CTV":            {spatial, {"228792002", "SCT", "CTV"}},
		"PTV":            {spatial, {"228793007", "SCT", "PTV"}},
		"ITV":            {spatial, {"130056", "DCM", "ITV"}},
		"TREATED_VOLUME": {spatial, {"130059", "DCM", "Treated Volume"}},
		"IRRAD_VOLUME":   {spatial, {"228790005", "SCT", "Irradiated Volume"}},
		"OAR":            {spatial, {"130060", "DCM", "Organ At Risk"}},
		"AVOIDANCE":      {spatial, {"130058", "DCM", "Avoidance Volume"}},
		"ORGAN":          {anatomical, {"91772007", "SCT", "Organ"}},
	}
)

// Property returns what kind of thing the region is, as Segmented Property Category and Type want it: by the codes of the
// structure set, else by its interpreted type, else tissue.
func (r Region) Property() (category, kind Code) {
	category, kind = tissue, tissue
	if c, ok := interpreted[strings.ToUpper(r.InterpretedType)]; ok {
		category, kind = c[0], c[1]
	}
	if r.Type != (Code{}) {
		kind = r.Type
	}
	if r.Category != (Code{}) {
		category = r.Category
	}
	return category, kind
}
