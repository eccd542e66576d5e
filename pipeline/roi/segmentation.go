package roi

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
)

// SegmentRule states how the frames of a Segmentation become voxels of the images, for those who read the result.
const SegmentRule = "Frames that lie on the voxels of the images, in whatever order and direction, are copied voxel by voxel, and frames that are not there are empty. Frames on another grid: a voxel belongs to the region if its centre lies in a voxel of the segmentation that does (a border belongs to the voxel of the higher index); a plane reaches half way to the next one or, where planes are missing, half of Spacing Between Slices, else of the smallest distance of planes. Nothing is interpolated. Fractions count from the threshold on."

// Tolerances of the geometry.
const (
	onLattice   = 1e-3    // of a voxel, in the plane: a frame whose pixels are all this close to voxels is copied
	sameStep    = 1e-4    // of the spacing in the plane
	offSlice    = 0.1     // of the distance of slices: as far as images may be from their regular places, see package imaging
	sameSlab    = 1e-2    // of the distance of slices: a plane of the segmentation stands for one slice
	onBorder    = 1e-6    // of a voxel: what keeps rounding errors from deciding on which side of a border a centre lies
	missing     = 1.5     // slabs from one plane to the next: further away, planes are missing in between
	sameGrid    = 1e-6    // of direction cosines and spacings that differ in their last digits
	maxGrids    = 1024    // different orientations and spacings in one object
	maxSamples  = 1 << 28 // of one frame, as in package pixel
	background  = 0       // of a label map that does not say Pixel Padding Value (0028,0120)
	largestStep = 1e4     // mm: no voxel is larger, and none smaller than one by this
	mostTimes   = 64      // that the frames of a segment may cover the images; frames beside each other cover them once
)

// planePositionSlideSequence is of microscopy, PS3.3 C.8.12.6.1.
const planePositionSlideSequence dicom.Tag = 0x0048021A

// isSegmentation tells the objects that hold voxels from those that hold contours.
func isSegmentation(d *dicom.DataSet) bool {
	class := d.String(dicom.SOPClassUID)
	return class == dicom.SegmentationStorage || class == dicom.LabelMapSegmentationStorage
}

// A segmentation is an object with its frames, PS3.3 C.8.20. All its segments share one.
type segmentation struct {
	file    *dicom.File
	kind    string // Segmentation Type (0062,0001): BINARY, FRACTIONAL, LABELMAP
	meaning string // Segmentation Fractional Type (0062,0010), "" where it is not said
	maximum int    // Maximum Fractional Value (0062,000E)

	rows, columns, bits int

	planes []framePlace   // one for each frame
	grids  []planeGrid    // the orientations and spacings of the planes, most often one
	frames map[int][]int  // of each segment number; not of a label map
	faulty map[int]string // why a frame has no place in the patient
	adrift int            // frames of segments that Segment Sequence does not have
	native bool           // frames can be read one by one

	numbers []int           // of the segments that can be put somewhere
	mu      sync.Mutex      // guards what follows; kept does not change any more once extents are there
	extents map[int]*extent // of each segment, once the pixels were looked through
	keeping [][]run         // of each frame, while they are; see keep
	runs    int             // in keeping
	kept    [][]run         // instead of decoding again; nil where frames can be read one by one, or are too many runs
}

// A framePlace is where a frame lies.
type framePlace struct {
	at   [3]float64 // LPS mm, the centre of the first pixel
	grid int        // in grids; -1 where the frame has no place
	low  float64    // mm along the normal from at to where the slab of the plane begins,
	high float64    // and where it ends
}

// A planeGrid is the orientation and the spacing of frames.
type planeGrid struct {
	axes      [3][3]float64 // along a row (x), down a column (y), and their cross product
	spacing   [2]float64    // of x and y
	thickness float64       // Slice Thickness (0018,0050), 0 where it is not said
	between   float64       // Spacing Between Slices (0018,0088), 0 where it is not said

	slab  float64 // mm that a plane stands for along the normal; 0 where nothing says it
	known bool    // the slab is said by the object, and no guess
}

// A segment is where the voxels of a region of a Segmentation are.
type segment struct {
	of     *segmentation
	number int
}

// segments returns the regions of a Segmentation, in the order of Segment Sequence (0062,0002). The background of a label
// map is none.
func segments(f *dicom.File) ([]Region, error) {
	d := f.DataSet
	items := d.Seq(dicom.SegmentSequence)
	if len(items) == 0 {
		return nil, refusal.New(refusal.SegmentationNone, "", "SegmentSequence (0062,0002) is absent or empty")
	}
	s, err := readSegmentation(f)
	if err != nil {
		return nil, err
	}
	uid, frame := d.String(dicom.SOPInstanceUID), d.String(dicom.FrameOfReferenceUID)
	var series, images []string
	for _, n := range listed(d) {
		series = appendNew(series, n.series)
	}
	empty := background
	if s.kind == "LABELMAP" {
		if v, ok := d.Int(dicom.PixelPaddingValue); ok {
			empty = v & 0xffff // the representation may be SS: PS3.3 C.7.5.1.1.2
		}
	}

	var regions []Region
	first := make(map[int]int)
	for i, item := range items {
		number, ok := item.Int(dicom.SegmentNumber)
		if s.kind == "LABELMAP" && ok && number == empty {
			continue
		}
		r := describedBy(item)
		r.Number, r.FrameOfReference, r.SeriesUIDs = number, frame, series
		r.segment = &segment{s, number}
		if r.TrackingID == "" {
			r.TrackingID = cmp.Or(r.Name, "Segment "+strconv.Itoa(number))
		}
		if !dicom.ValidUID(r.TrackingUID) {
			r.TrackingUID = dicom.UIDFrom("tracking", uid, strconv.Itoa(number))
		}
		at := fmt.Sprintf("(0062,0002)[%d].(0062,0004) Segment Number", i+1)
		switch other, twice := first[number]; {
		case !ok:
			r.Refusal = refusal.New(refusal.SegmentNumber, "", "%s is absent", at)
		case number < 0 || number > 65535 || number == 0 && s.kind != "LABELMAP":
			r.Refusal = refusal.New(refusal.SegmentNumber, "", "%s is %d, which no segment has", at, number)
		case twice:
			r.Refusal = refusal.New(refusal.SegmentNumber, "", "%s %d is taken by another segment: their frames cannot be told apart", at, number)
			if regions[other].Refusal == nil || regions[other].Refusal.Code != refusal.SegmentNumber {
				regions[other].Refusal = r.Refusal
			}
		default:
			first[number] = len(regions)
			if r.Refusal = s.place(number); r.Refusal == nil {
				s.numbers = append(s.numbers, number)
			}
		}
		regions = append(regions, r)
	}
	if len(regions) == 0 {
		return nil, refusal.New(refusal.SegmentationNone, "", "SegmentSequence (0062,0002) has nothing but the background")
	}

	if s.kind != "LABELMAP" {
		for number, frames := range s.frames {
			if _, ok := first[number]; !ok {
				s.adrift += len(frames)
			}
		}
	}
	for i := range regions {
		r := &regions[i]
		r.Notes = s.notes()
		if s.kind != "LABELMAP" || images == nil {
			images = s.images(s.of(r.Number))
		}
		r.Images = images
	}
	return regions, nil
}

// describedBy is what an item of Segment Sequence says of its segment, PS3.3 Table C.8.20-4.
func describedBy(item *dicom.DataSet) Region {
	r := Region{
		Name:                item.String(dicom.SegmentLabel),
		Description:         item.String(dicom.SegmentDescription),
		GenerationAlgorithm: item.String(dicom.SegmentAlgorithmType),
		AlgorithmName:       item.String(dicom.SegmentAlgorithmName),
		TrackingID:          item.String(dicom.TrackingID),
		TrackingUID:         item.String(dicom.TrackingUID),
		Category:            readCode(item.Seq(dicom.SegmentedPropertyCategoryCodeSequence)),
		Type:                readCode(item.Seq(dicom.SegmentedPropertyTypeCodeSequence)),
		Site:                readCode(item.Seq(dicom.AnatomicRegionSequence)),
	}
	for _, kind := range item.Seq(dicom.SegmentedPropertyTypeCodeSequence) {
		r.TypeModifier = cmp.Or(r.TypeModifier, readCode(kind.Seq(dicom.SegmentedPropertyTypeModifierCodeSequence)))
	}
	for _, site := range item.Seq(dicom.AnatomicRegionSequence) {
		r.Laterality = cmp.Or(r.Laterality, readCode(site.Seq(dicom.AnatomicRegionModifierSequence)))
	}
	if r.Laterality == (Code{}) && isSide(r.TypeModifier) {
		r.Laterality = r.TypeModifier
	}
	if lab, err := item.Ints(dicom.RecommendedDisplayCIELabValue); err == nil && len(lab) == 3 {
		r.Color = displayed([3]int(lab))
	}
	return r
}

// isSide tells the codes of CID 244 Laterality, and those of SNOMED RT that stood for them.
func isSide(c Code) bool {
	switch c.Scheme + " " + c.Value {
	case "SCT 7771000", "SCT 24028007", "SCT 51440002", "SCT 66459002", "SRT G-A101", "SRT G-A100", "SRT G-A102", "SRT G-A103":
		return true
	}
	return false
}

// readSegmentation reads what all segments share: the kind, and where each frame lies.
func readSegmentation(f *dicom.File) (*segmentation, error) {
	d := f.DataSet
	s := &segmentation{file: f, frames: map[int][]int{}, faulty: map[int]string{}}
	s.kind = d.String(dicom.SegmentationType)
	if s.kind == "" && d.String(dicom.SOPClassUID) == dicom.LabelMapSegmentationStorage {
		s.kind = "LABELMAP"
	}
	switch s.kind {
	case "BINARY", "LABELMAP":
	case "FRACTIONAL":
		s.meaning = d.String(dicom.SegmentationFractionalType)
		var ok bool
		if s.maximum, ok = d.Int(dicom.MaximumFractionalValue); !ok || s.maximum < 1 {
			return nil, refusal.New(refusal.SegmentationFraction, "", "MaximumFractionalValue (0062,000E) is %q", d.String(dicom.MaximumFractionalValue))
		}
	default:
		return nil, refusal.New(refusal.SegmentationType, "", "SegmentationType (0062,0001) is %q", s.kind)
	}
	for _, a := range []struct {
		tag dicom.Tag
		to  *int
		max int
	}{{dicom.Rows, &s.rows, 65535}, {dicom.Columns, &s.columns, 65535}, {dicom.BitsAllocated, &s.bits, 64}} {
		v, ok := d.Int(a.tag)
		if !ok || v < 1 || v > a.max {
			return nil, refusal.New(refusal.SegmentationFrames, "", "%s %s is %q", a.tag.Keyword(), a.tag, d.String(a.tag))
		}
		*a.to = v
	}
	if s.rows*s.columns > maxSamples {
		return nil, refusal.New(refusal.SegmentationFrames, "", "Rows (0028,0010) and Columns (0028,0011) are %d and %d", s.rows, s.columns)
	}
	groups := d.Seq(dicom.PerFrameFunctionalGroupsSequence)
	frames := 1
	if v, ok := d.Int(dicom.NumberOfFrames); ok {
		frames = v
	}
	if len(groups) != frames {
		return nil, refusal.New(refusal.SegmentationFrames, "", "NumberOfFrames (0028,0008) is %d, and PerFrameFunctionalGroupsSequence (5200,9230) has %d items", frames, len(groups))
	}
	if err := s.checkPixels(); err != nil {
		return nil, err
	}

	shared := dicom.New()
	if items := d.Seq(dicom.SharedFunctionalGroupsSequence); len(items) > 0 {
		shared = items[0]
	}
	s.planes = make([]framePlace, frames)
	for i, group := range groups {
		s.planes[i].grid = -1
		if err := s.put(i, group, shared); err != "" {
			s.faulty[i] = fmt.Sprintf("frame %d: %s", i+1, err)
		}
		if s.kind == "LABELMAP" {
			continue
		}
		identified := macro(group, shared, dicom.SegmentIdentificationSequence)
		number, ok := 0, false
		if identified != nil {
			number, ok = identified.Int(dicom.ReferencedSegmentNumber)
		}
		if !ok {
			return nil, refusal.New(refusal.SegmentationFrames, "", "frame %d: ReferencedSegmentNumber (0062,000B) of SegmentIdentificationSequence (0062,000A) is absent", i+1)
		}
		s.frames[number] = append(s.frames[number], i)
	}
	if len(s.faulty) == frames {
		return nil, refusal.New(refusal.SegmentationGeometry, "", "%s", s.faulty[0])
	}
	s.measureSlabs()
	return s, nil
}

// macro is the item of a functional group of a frame: its own, else the shared one. PS3.3 C.7.6.16.1.1
func macro(frame, shared *dicom.DataSet, t dicom.Tag) *dicom.DataSet {
	for _, d := range []*dicom.DataSet{frame, shared} {
		if items := d.Seq(t); len(items) > 0 {
			return items[0]
		}
	}
	return nil
}

// put reads where frame i lies: the Plane Position, Plane Orientation and Pixel Measures macros, PS3.3 C.7.6.16.2.1, .3, .4.
// It returns what is wrong.
func (s *segmentation) put(i int, frame, shared *dicom.DataSet) string {
	read := func(sequence, t dicom.Tag, n int) ([]float64, string) {
		item := macro(frame, shared, sequence)
		if item == nil {
			return nil, fmt.Sprintf("%s %s is absent", sequence.Keyword(), sequence)
		}
		v, err := item.Floats(t)
		if err != nil || len(v) != n {
			return nil, fmt.Sprintf("%s %s is %q, not %d numbers", t.Keyword(), t, strings.Join(item.Strings(t), `\`), n)
		}
		for _, x := range v {
			if !(math.Abs(x) < maxCoordinate) {
				return nil, fmt.Sprintf("%s %s has the value %v, which is no place in mm", t.Keyword(), t, x)
			}
		}
		return v, ""
	}
	at, wrong := read(dicom.PlanePositionSequence, dicom.ImagePositionPatient, 3)
	if wrong != "" {
		if macro(frame, shared, planePositionSlideSequence) != nil {
			wrong = "PlanePositionSlideSequence (0048,021A) places it on a slide and not in the patient"
		}
		return wrong
	}
	directions, wrong := read(dicom.PlaneOrientationSequence, dicom.ImageOrientationPatient, 6)
	if wrong != "" {
		return wrong
	}
	spacing, wrong := read(dicom.PixelMeasuresSequence, dicom.PixelSpacing, 2)
	if wrong != "" {
		return wrong
	}
	g := planeGrid{spacing: [2]float64{spacing[1], spacing[0]}} // rows first, PS3.3 10.7.1.3
	measures := macro(frame, shared, dicom.PixelMeasuresSequence)
	if v, ok := measures.Float(dicom.SliceThickness); ok && v > 0 && v < largestStep {
		g.thickness = v
	}
	// A negative Spacing Between Slices is of nuclear medicine, PS3.3 C.8.4.15.
	if v, ok := measures.Float(dicom.SpacingBetweenSlices); ok && math.Abs(v) < largestStep {
		g.between = math.Abs(v)
	}
	for _, v := range g.spacing {
		if !(v > 1/largestStep && v < largestStep) {
			return fmt.Sprintf("PixelSpacing (0028,0030) is %v, which is no spacing in mm", spacing)
		}
	}
	for a := range 2 {
		copy(g.axes[a][:], directions[3*a:])
		length := math.Sqrt(voxel.Dot(g.axes[a], g.axes[a]))
		if !(math.Abs(length-1) < 1e-3) {
			return fmt.Sprintf("ImageOrientationPatient (0020,0037) is %v, which are no unit vectors", directions)
		}
		for c := range 3 {
			g.axes[a][c] /= length
		}
	}
	if !(math.Abs(voxel.Dot(g.axes[0], g.axes[1])) < 1e-3) {
		return fmt.Sprintf("ImageOrientationPatient (0020,0037) is %v, and rows and columns are not at right angles", directions)
	}
	g.axes[2] = voxel.Cross(g.axes[0], g.axes[1])

	k := -1
	for n := len(s.grids) - 1; n >= 0 && k < 0; n-- {
		if s.grids[n].near(g) {
			k = n
		}
	}
	if k < 0 {
		if len(s.grids) == maxGrids {
			return fmt.Sprintf("the frames have more than %d orientations and spacings", maxGrids)
		}
		s.grids = append(s.grids, g)
		k = len(s.grids) - 1
	}
	s.planes[i] = framePlace{at: [3]float64(at), grid: k}
	return ""
}

// near tells grids whose numbers differ in their last digits only.
func (g planeGrid) near(o planeGrid) bool {
	for a := range g.axes {
		for c := range 3 {
			if math.Abs(g.axes[a][c]-o.axes[a][c]) > sameGrid {
				return false
			}
		}
	}
	for a := range g.spacing {
		if math.Abs(g.spacing[a]-o.spacing[a]) > sameGrid*g.spacing[a] {
			return false
		}
	}
	return math.Abs(g.thickness-o.thickness) <= sameGrid*g.thickness && math.Abs(g.between-o.between) <= sameGrid*g.between
}

// measureSlabs finds how far each plane reaches along the normal: half way to the next plane of the object, whatever segment
// that shows. Where the next plane is further away than one and a half slabs, planes are missing between them, and each
// reaches half a slab. A slab is Spacing Between Slices (0018,0088), but no more than the smallest distance of two planes;
// where it is not said, that distance, unless it is more than one and a half times the Slice Thickness (0018,0050), which
// counts then.
func (s *segmentation) measureSlabs() {
	orders, heights := make([][]int, len(s.grids)), make([]float64, len(s.planes))
	for i, p := range s.planes {
		if p.grid >= 0 {
			orders[p.grid] = append(orders[p.grid], i)
			heights[i] = voxel.Dot(p.at, s.grids[p.grid].axes[2])
		}
	}
	for k, order := range orders {
		g := &s.grids[k]
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(heights[a], heights[b]) })
		level := float64(0.01 * min(g.spacing[0], g.spacing[1])) // planes closer than this are one
		nearest := math.Inf(1)
		below, above := make([]float64, len(order)), make([]float64, len(order))
		for n := 0; n < len(order); {
			end := n + 1
			for end < len(order) && heights[order[end]]-heights[order[n]] <= level {
				end++
			}
			for m := n; m < end; m++ {
				below[m], above[m] = math.Inf(1), math.Inf(1)
				if n > 0 {
					below[m] = heights[order[m]] - heights[order[n-1]]
				}
				if end < len(order) {
					above[m] = heights[order[end]] - heights[order[m]]
					nearest = math.Min(nearest, above[m])
				}
			}
			n = end
		}
		switch t := g.thickness; {
		case g.between > 0:
			g.slab, g.known = math.Min(g.between, nearest), true
		case math.IsInf(nearest, 1):
			g.slab = t
		case t == 0 || nearest <= missing*t:
			g.slab, g.known = nearest, math.Abs(nearest-t) <= sameSlab*t
		default:
			g.slab = t
		}
		for n, i := range order {
			p := &s.planes[i]
			p.low, p.high = -g.slab/2, g.slab/2
			if below[n] <= missing*g.slab {
				p.low = -below[n] / 2
			}
			if above[n] <= missing*g.slab {
				p.high = above[n] / 2
			}
		}
	}
}

// of are the frames that may show a segment: of a label map all.
func (s *segmentation) of(number int) []int {
	if s.kind != "LABELMAP" {
		return s.frames[number]
	}
	all := make([]int, len(s.planes))
	for i := range all {
		all[i] = i
	}
	return all
}

// images are the instances that frames name, in order of first mention.
func (s *segmentation) images(frames []int) (uids []string) {
	d := s.file.DataSet
	groups := d.Seq(dicom.PerFrameFunctionalGroupsSequence)
	for _, i := range frames {
		for _, image := range derivedFrom(groups[i]) {
			uids = append(uids, image.String(dicom.ReferencedSOPInstanceUID))
		}
	}
	if uids == nil {
		for _, image := range forAll(d) {
			uids = append(uids, image.String(dicom.ReferencedSOPInstanceUID))
		}
	}
	slicesUnique(&uids)
	return uids
}

// notes are the small faults of the object.
func (s *segmentation) notes() (notes []string) {
	if s.kind == "BINARY" && s.bits != 1 {
		notes = append(notes, fmt.Sprintf("BitsAllocated (0028,0100) of a BINARY segmentation is %d and not 1: every value but 0 counts", s.bits))
	}
	if s.adrift > 0 {
		notes = append(notes, fmt.Sprintf("%d frames of the segmentation belong to a segment that SegmentSequence (0062,0002) does not have, and are left out", s.adrift))
	}
	return notes
}

// place says why a segment cannot be put anywhere.
func (s *segmentation) place(number int) *refusal.Refusal {
	frames := s.of(number)
	if len(frames) == 0 {
		return refusal.New(refusal.SegmentAbsent, "", "no frame names segment %d in ReferencedSegmentNumber (0062,000B)", number)
	}
	for _, i := range frames {
		if wrong := s.faulty[i]; wrong != "" {
			return refusal.New(refusal.SegmentationGeometry, "", "segment %d, %s", number, wrong)
		}
	}
	return nil
}

// derivedFrom are the images that a functional group says its frame was made from: the Derivation Image macro, PS3.3
// C.7.6.16.2.6.
func derivedFrom(group *dicom.DataSet) (images []*dicom.DataSet) {
	for _, derivation := range group.Seq(dicom.DerivationImageSequence) {
		images = append(images, derivation.Seq(dicom.SourceImageSequence)...)
	}
	return images
}

// forAll are the images that all frames together were made from: the shared groups, and the General Reference module, PS3.3
// C.12.4.
func forAll(d *dicom.DataSet) (images []*dicom.DataSet) {
	for _, group := range d.Seq(dicom.SharedFunctionalGroupsSequence) {
		images = append(images, derivedFrom(group)...)
	}
	return append(images, d.Seq(dicom.SourceImageSequence)...)
}

// A listedSeries is an item of Referenced Series Sequence (0008,1115) with images.
type listedSeries struct {
	study, series string
	images        []*dicom.DataSet
}

// listed are the image series in Common Instance Reference, PS3.3 C.12.2. A Segmentation that was made from a structure set
// or from another Segmentation names that as well, and it is no image to measure on.
func listed(d *dicom.DataSet) (list []listedSeries) {
	add := func(study string, items []*dicom.DataSet) {
		for _, s := range items {
			l := listedSeries{study: study, series: s.String(dicom.SeriesInstanceUID)}
			instances := s.Seq(dicom.ReferencedInstanceSequence)
			for _, image := range instances {
				if mayBeImage(image.String(dicom.ReferencedSOPClassUID)) {
					l.images = append(l.images, image)
				}
			}
			if l.series != "" && (len(l.images) > 0 || len(instances) == 0) {
				list = append(list, l)
			}
		}
	}
	add(d.String(dicom.StudyInstanceUID), d.Seq(dicom.ReferencedSeriesSequence))
	for _, study := range d.Seq(dicom.StudiesContainingOtherReferencedInstancesSequence) {
		add(study.String(dicom.StudyInstanceUID), study.Seq(dicom.ReferencedSeriesSequence))
	}
	return list
}

// mayBeImage tells a SOP class from those of radiotherapy, segmentations, registrations, reports, presentation states and
// documents.
func mayBeImage(class string) bool {
	rest, storage := strings.CutPrefix(class, "1.2.840.10008.5.1.4.1.1.")
	if !storage {
		return true
	}
	kind, _, _ := strings.Cut(rest, ".")
	switch kind {
	case "481", "66", "67", "88", "11", "104":
		return false
	}
	return true
}

// segmented returns the series that a Segmentation was made on: those of Common Instance Reference with the images that they
// list and the ones that frames name, else a Reference whose SeriesUID is "" with the images that frames name. A
// Segmentation that names no image can still be held against every series of its study and its frame of reference: it
// gives one Reference with these two and without instances.
func segmented(d *dicom.DataSet) ([]Reference, error) {
	study, frame := d.String(dicom.StudyInstanceUID), d.String(dicom.FrameOfReferenceUID)
	var refs []Reference
	bySeries, owner := make(map[string]int), make(map[string]int)
	reference := func(study, series string) int {
		i, ok := bySeries[series]
		if !ok {
			i = len(refs)
			bySeries[series] = i
			refs = append(refs, Reference{StudyUID: study, SeriesUID: series, FrameOfReference: frame})
		}
		return i
	}
	var mentions []*dicom.DataSet // of images, each with its frames
	for _, l := range listed(d) {
		i := reference(l.study, l.series)
		for _, image := range l.images {
			uid := image.String(dicom.ReferencedSOPInstanceUID)
			refs[i].Named = append(refs[i].Named, uid)
			if _, ok := owner[uid]; !ok {
				owner[uid] = i
			}
		}
	}
	groups := d.Seq(dicom.PerFrameFunctionalGroupsSequence)
	for _, group := range groups {
		mentions = append(mentions, derivedFrom(group)...)
	}
	mentions = append(mentions, forAll(d)...)
	for _, image := range mentions {
		uid := image.String(dicom.ReferencedSOPInstanceUID)
		if uid == "" || !mayBeImage(image.String(dicom.ReferencedSOPClassUID)) {
			continue
		}
		i, ok := owner[uid]
		if !ok {
			if len(refs) == 1 && len(refs[0].Named) == 0 { // the only series, named without a list
				i = 0
			} else {
				i = reference(study, "")
			}
			owner[uid] = i
		}
		refs[i].Contoured = append(refs[i].Contoured, uid)
	}
	for i := range refs {
		r := &refs[i]
		slicesUnique(&r.Named)
		slicesUnique(&r.Contoured)
		r.Instances = slices.Concat(r.Named, r.Contoured)
		slicesUnique(&r.Instances)
		// Frames are there where segments are: a list of more images than there are frames is no choice by segments.
		contoured := len(r.Contoured)
		if contoured == 0 {
			contoured = len(groups)
		}
		r.Listed = len(r.Named) > contoured
		if len(r.Instances) == 1 {
			r.Frames = framesNamed(r.Instances[0], mentions)
		}
	}
	if len(refs) > 0 {
		return refs, nil
	}
	if frame == "" {
		return nil, refusal.New(refusal.SegmentationReference, "", "the segmentation names no image, neither in ReferencedSeriesSequence (0008,1115) nor in SourceImageSequence (0008,2112), and FrameOfReferenceUID (0020,0052) is absent")
	}
	return []Reference{{StudyUID: study, FrameOfReference: frame}}, nil
}

// framesNamed are the frames of an image that the mentions of it name, Referenced Frame Number (0008,1160), in ascending
// order; nil where one means all.
func framesNamed(uid string, mentions []*dicom.DataSet) (frames []int) {
	for _, image := range mentions {
		if image.String(dicom.ReferencedSOPInstanceUID) != uid {
			continue
		}
		numbers, err := image.Ints(dicom.ReferencedFrameNumber)
		if err != nil || len(numbers) == 0 {
			return nil
		}
		frames = append(frames, numbers...)
	}
	slices.Sort(frames)
	return slices.Compact(frames)
}
