package roi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/pixel"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
)

// SegmentRule states how the frames of a Segmentation become voxels of the images, for those who read the result.
const SegmentRule = "Frames that lie on the voxels of the images, in whatever order and direction, are copied voxel by voxel, and frames that are not there are empty. Frames on another grid: a voxel belongs to the region if its centre lies in a voxel of the segmentation that does (a border belongs to the voxel of the higher index); a plane reaches half way to the next one or, where planes are missing, half of Spacing Between Slices, else of the smallest distance of planes. Nothing is interpolated. Fractions count from the threshold on."

// Tolerances of the geometry.
const (
	onLattice   = 1e-3 // of a voxel, in the plane: a frame whose pixels are all this close to voxels is copied
	sameStep    = 1e-4 // of the spacing in the plane
	offSlice    = 0.1  // of the distance of slices: as far as images may be from their regular places, see package imaging
	sameSlab    = 1e-2 // of the distance of slices: a plane of the segmentation stands for one slice
	onBorder    = 1e-6 // of a voxel: what keeps rounding errors from deciding on which side of a border a centre lies
	missing     = 1.5  // slabs from one plane to the next: further away, planes are missing in between
	sameGrid    = 1e-6 // of direction cosines and spacings that differ in their last digits
	maxGrids    = 1024 // different orientations and spacings in one object
	maxSamples  = 1 << 28
	background  = 0 // of a label map that does not say Pixel Padding Value (0028,0120)
	largestStep = 1e4
	mostTimes   = 64 // that the frames of a segment may cover the images; frames beside each other cover them once
)

// planePositionSlideSequence is of microscopy, PS3.3 C.8.12.6.1.
const planePositionSlideSequence dicom.Tag = 0x0048021A

// isSegmentation tells the objects that hold voxels from those that hold contours.
func isSegmentation(d *dicom.DataSet) bool {
	class := d.String(dicom.SOPClassUID)
	return class == dicom.SegmentationStorage || class == dicom.LabelMapSegmentationStorage
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
	for _, study := range d.Seq(studiesContainingOtherReferencedInstances) {
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

// A segmentation is an object with its frames, PS3.3 C.8.20. All its segments share one.
type segmentation struct {
	file    *dicom.File
	kind    string // Segmentation Type (0062,0001): BINARY, FRACTIONAL, LABELMAP
	meaning string // Segmentation Fractional Type (0062,0010), "" where it is not said
	maximum int    // Maximum Fractional Value (0062,000E)

	rows, columns, bits int

	planes []plane        // one for each frame
	grids  []planeGrid    // the orientations and spacings of the planes, most often one
	frames map[int][]int  // of each segment number; not of a label map
	faulty map[int]string // why a frame has no place in the patient
	adrift int            // frames of segments that Segment Sequence does not have
	native bool           // frames can be read one by one

	mu     sync.Mutex    // guards labels
	labels map[int][]int // frames of each label, once they were counted
}

// A plane is where a frame lies.
type plane struct {
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
			r.Refusal = s.place(number)
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
	s.planes = make([]plane, frames)
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
		length := math.Sqrt(dot(g.axes[a], g.axes[a]))
		if !(math.Abs(length-1) < 1e-3) {
			return fmt.Sprintf("ImageOrientationPatient (0020,0037) is %v, which are no unit vectors", directions)
		}
		for c := range 3 {
			g.axes[a][c] /= length
		}
	}
	if !(math.Abs(dot(g.axes[0], g.axes[1])) < 1e-3) {
		return fmt.Sprintf("ImageOrientationPatient (0020,0037) is %v, and rows and columns are not at right angles", directions)
	}
	g.axes[2] = cross(g.axes[0], g.axes[1])

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
	s.planes[i] = plane{at: [3]float64(at), grid: k}
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
			heights[i] = dot(p.at, s.grids[p.grid].axes[2])
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

// checkPixels holds the length of native pixels against what the header says.
func (s *segmentation) checkPixels() error {
	d, p := s.file.DataSet, s.file.Pixels
	if p == nil || p.Tag != dicom.PixelData {
		return refusal.New(refusal.SegmentationPixels, "", "PixelData (7FE0,0010) is absent")
	}
	ts, _ := dicom.LookupTransferSyntax(s.file.Meta.TransferSyntaxUID)
	stored, ok := d.Int(dicom.BitsStored)
	samples, several := d.Int(dicom.SamplesPerPixel)
	s.native = ts.Decodable && !ts.Encapsulated && !p.BigEndian && p.Length >= 0 && (!ok || stored == s.bits) &&
		(!several || samples == 1) && (s.bits == 1 || s.bits == 8 || s.bits == 16)
	if !s.native {
		return nil // package pixel checks it
	}
	frames := max(len(d.Seq(dicom.PerFrameFunctionalGroupsSequence)), 1)
	bits := int64(s.rows) * int64(s.columns) * int64(s.bits) // of a frame: below 2^32
	have := p.Length * 8
	if int64(frames) > have/bits {
		return refusal.New(refusal.SegmentationPixels, "", "PixelData (7FE0,0010) has %d bytes, and %d frames of %d x %d pixels of %d bits need more", p.Length, frames, s.columns, s.rows, s.bits)
	}
	if rest := have - int64(frames)*bits; rest >= bits && rest >= 16 { // an even length takes up to 15 bits
		return refusal.New(refusal.SegmentationPixels, "", "PixelData (7FE0,0010) has %d bytes, and %d frames of %d x %d pixels of %d bits leave %d over: they are not where they should be", p.Length, frames, s.columns, s.rows, s.bits, rest/8)
	}
	return nil
}

// each reads some frames, in ascending order, one at a time. The samples are overwritten by the next one.
func (s *segmentation) each(ctx context.Context, frames []int, see func(i int, samples []int32) error) error {
	if len(frames) == 0 {
		return nil
	}
	if s.native {
		return s.eachNative(ctx, frames, see)
	}
	// Label maps may have colours (PS3.3 C.8.20.2), which are none of the labels' business.
	f := &dicom.File{Meta: s.file.Meta, DataSet: dicom.New(), Pixels: s.file.Pixels}
	f.DataSet.Copy(s.file.DataSet, dicom.SamplesPerPixel, dicom.PhotometricInterpretation, dicom.NumberOfFrames, dicom.Rows, dicom.Columns,
		dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit, dicom.PixelRepresentation)
	if f.DataSet.String(dicom.PhotometricInterpretation) == "PALETTE COLOR" {
		f.DataSet.SetString(dicom.PhotometricInterpretation, "MONOCHROME2")
	}
	for frame, err := range pixel.Frames(f) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return unreadable(err)
		}
		if len(frame.Samples) != s.rows*s.columns {
			return refusal.New(refusal.SegmentationPixels, "", "frame %d has %d samples", frame.Index+1, len(frame.Samples))
		}
		if frame.Index == frames[0] {
			if err := see(frame.Index, frame.Samples); err != nil {
				return err
			}
			if frames = frames[1:]; len(frames) == 0 {
				return nil
			}
		}
	}
	return refusal.New(refusal.SegmentationPixels, "", "PixelData (7FE0,0010) ends before frame %d", frames[0]+1)
}

// masks reads some frames as each does: 1 where a sample is at least least and at most most, and the highest sample.
func (s *segmentation) masks(ctx context.Context, frames []int, least, most int32, see func(i int, in []uint8, highest int32) error) error {
	var in []uint8
	if !s.native || s.bits != 1 || least != 1 {
		return s.each(ctx, frames, func(i int, samples []int32) error {
			if in == nil {
				in = make([]uint8, len(samples)) // which are there now, whatever the header claimed
			}
			highest := int32(0)
			for k, v := range samples {
				in[k] = 0
				if v >= least && v <= most {
					in[k] = 1
				}
				highest = max(highest, v)
			}
			return see(i, in, highest)
		})
	}
	// Bits are what masks are made of: the same without samples in between, eight at a time.
	in = make([]uint8, (s.rows*s.columns+7)/8*8)
	return s.stored(ctx, frames, func(i int, b []byte, bit int) error {
		for k := range len(in) / 8 {
			v := uint(b[k]) >> bit
			if k+1 < len(b) {
				v |= uint(b[k+1]) << (8 - bit)
			}
			*(*[8]uint8)(in[8*k:]) = spread[uint8(v)]
		}
		return see(i, in[:s.rows*s.columns], 1)
	})
}

// spread are the bits of a byte, the first in the least significant place (PS3.5 8.1.1).
var spread = func() (t [256][8]uint8) {
	for v := range t {
		for k := range t[v] {
			t[v][k] = uint8(v >> k & 1)
		}
	}
	return t
}()

// eachNative is each for frames that can be read where they lie.
func (s *segmentation) eachNative(ctx context.Context, frames []int, see func(i int, samples []int32) error) error {
	samples := make([]int32, s.rows*s.columns)
	return s.stored(ctx, frames, func(i int, b []byte, bit int) error {
		switch s.bits {
		case 1:
			for k := range samples {
				samples[k] = int32(b[(k+bit)>>3] >> ((k + bit) & 7) & 1)
			}
		case 8:
			for k := range samples {
				samples[k] = int32(b[k])
			}
		case 16:
			for k := range samples {
				samples[k] = int32(b[2*k]) | int32(b[2*k+1])<<8
			}
		}
		return see(i, samples)
	})
}

// stored reads the bytes of some frames, and says at which bit of the first one the frame begins: frames of one bit a pixel
// follow each other without a gap, so that most do not begin on a byte (PS3.5 8.1.1).
func (s *segmentation) stored(ctx context.Context, frames []int, see func(i int, b []byte, bit int) error) error {
	value := s.file.Pixels.Reader()
	size := int64(s.rows) * int64(s.columns) * int64(s.bits)
	raw := make([]byte, size/8+2)
	for _, i := range frames {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		start := int64(i) * size
		b := raw[:(start+size+7)/8-start/8]
		if n, err := value.ReadAt(b, start/8); n < len(b) {
			return unreadable(fmt.Errorf("frame %d: %w", i+1, cmp.Or(err, io.ErrUnexpectedEOF)))
		}
		if err := see(i, b, int(start%8)); err != nil {
			return err
		}
	}
	return nil
}

// unreadable makes a refusal of what is the object's fault; the disk's stays an error.
func unreadable(err error) error {
	if errors.Is(err, dicom.ErrMalformed) || errors.Is(err, dicom.ErrUnsupported) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return refusal.New(refusal.SegmentationPixels, "", "PixelData (7FE0,0010): %v", err)
	}
	return err
}

// showing are the frames in which a label occurs. All frames are read once, for all labels.
func (s *segmentation) showing(ctx context.Context, label int) ([]int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.labels == nil {
		labels := make(map[int][]int)
		last := make([]int, 1<<16) // frame, from 1, in which a label was seen last
		err := s.each(ctx, s.of(0), func(i int, samples []int32) error {
			before := int32(-1)
			for _, v := range samples {
				if v != before && v >= 0 && v < 1<<16 {
					if before = v; last[v] != i+1 {
						last[v] = i + 1
						labels[int(v)] = append(labels[int(v)], i)
					}
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		s.labels = labels
	}
	return s.labels[label], nil
}

// rasterise puts a segment on a grid by [SegmentRule].
func (s *segment) rasterise(ctx context.Context, g voxel.Geometry, rule voxel.Rule) (*voxel.Mask, []string, error) {
	of := s.of
	notes := of.notes()
	frames, least, most := of.of(s.number), int32(1), int32(math.MaxInt32)
	switch of.kind {
	case "FRACTIONAL":
		// A fraction of nothing is outside, whatever the threshold.
		least = int32(min(max(math.Ceil(rule.Fraction*float64(of.maximum)*(1-1e-9)), 1), math.MaxInt32))
		notes = append(notes, fmt.Sprintf("fractional segmentation (%s): voxels of at least %v belong, which are values from %d of %d", cmp.Or(strings.ToLower(of.meaning), "of what is not said"), rule.Fraction, least, of.maximum))
	case "LABELMAP":
		var err error
		if frames, err = of.showing(ctx, s.number); err != nil {
			return nil, nil, err
		}
		least, most = int32(s.number), int32(s.number)
	}

	m := &voxel.Mask{Geometry: g, Data: make([]uint8, g.Len())}
	landed := make(map[int]landing, len(frames))
	exact := true
	for _, i := range frames {
		l, ok := of.land(i, g)
		if exact = ok; !exact {
			break
		}
		landed[i] = l
	}
	if !exact {
		if slices.ContainsFunc(frames, func(i int) bool { return of.grids[of.planes[i].grid].slab == 0 }) {
			return nil, nil, refusal.New(refusal.SegmentationGeometry, "", "segment %d lies on another grid than the images, and neither SliceThickness (0018,0050) nor SpacingBetweenSlices (0018,0088) says how far its only plane reaches", s.number)
		}
		p := of.grids[of.planes[frames[0]].grid]
		notes = append(notes, fmt.Sprintf("resampled from a grid of %.4g x %.4g x %.4g mm to that of the images, %.4g x %.4g x %.4g mm: a voxel belongs if its centre lies in a voxel of the segmentation that does",
			p.spacing[0], p.spacing[1], p.slab, g.Spacing[0], g.Spacing[1], g.Spacing[2]))
	}

	twins := of.twins(frames)
	digests := make(map[int][sha256.Size]byte) // of the frames that share a place, by the first of them
	var there, outside, clipped, differ, beyond int
	room := mostTimes * int64(g.Len())
	err := of.masks(ctx, frames, least, most, func(i int, in []uint8, highest int32) error {
		if of.kind == "FRACTIONAL" && int(highest) > of.maximum {
			beyond++
		}
		if first, ok := twins[i]; ok {
			sum := sha256.Sum256(in)
			if before, ok := digests[first]; !ok {
				digests[first] = sum
			} else if before != sum {
				differ++
			}
		}
		if bytes.IndexByte(in, 1) < 0 {
			return nil
		}
		there++
		var put, cut bool
		if exact {
			put, cut = landed[i].copy(m, in, of.columns)
		} else {
			var tried int64
			if put, cut, tried = of.sample(i, m, in); tried > room {
				return refusal.New(refusal.SegmentationFrames, "", "segment %d: its %d frames cover the images more than %d times by ImagePositionPatient (0020,0032) and SpacingBetweenSlices (0018,0088)", s.number, len(frames), mostTimes)
			}
			room -= tried
		}
		if !put {
			outside++
		} else if cut {
			clipped++
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for _, n := range []struct {
		n    int
		text string
	}{
		{outside, "%d of %d frames with voxels lie outside the images and are left out"},
		{clipped, "%d of %d frames with voxels reach beyond the edge of the images and are cut there"},
		{differ, "%d of %d frames with voxels show other voxels than another frame of the same segment in the same place: what either shows belongs"},
		{beyond, "%d of %d frames with voxels have values above MaximumFractionalValue (0062,000E), which are taken for all of a voxel"},
	} {
		if n.n > 0 {
			notes = append(notes, fmt.Sprintf(n.text, n.n, there))
		}
	}
	if m.Count() == 0 {
		if there > 0 && outside == there {
			return nil, nil, refusal.New(refusal.SegmentOutside, "", "segment %d: none of its %d frames with voxels lies on the images by ImagePositionPatient (0020,0032)", s.number, there)
		}
		text := fmt.Sprintf("segment %d: no voxel of the images belongs to it by its %d frames in PixelData (7FE0,0010)", s.number, len(frames))
		return nil, nil, refusal.New(refusal.SegmentEmpty, "", "%s", strings.Join(append([]string{text}, notes...), "; "))
	}
	return m, notes, nil
}

// A landing says how a frame lies on the voxels of a grid: where its first pixel is, and along which axes of the grid its
// rows and columns run.
type landing struct {
	first    [3]int
	across   [2]int // axis of the grid along a row, and down a column
	step     [2]int // 1, or -1 where it runs the other way
	inBounds bool   // the plane is one of the grid's
}

// land finds out whether every pixel of frame i is a voxel of the grid, and the plane stands for one slice of it.
func (s *segmentation) land(i int, g voxel.Geometry) (landing, bool) {
	p := s.planes[i]
	pg := s.grids[p.grid]
	var l landing
	q := g.Index(p.at)
	var off [3]float64 // of a voxel, at the pixel that is worst
	for a, x := range q {
		if !(math.Abs(x) < 1e9) {
			return l, false
		}
		l.first[a] = int(math.Floor(x + 0.5))
		off[a] = math.Abs(x - float64(l.first[a]))
	}
	third := 3
	for side, pixels := range [2]int{s.columns, s.rows} {
		l.across[side] = -1
		for a := range 3 {
			step := dot(pg.axes[side], g.Axes[a]) * pg.spacing[side] / g.Spacing[a]
			whole := math.Floor(step + 0.5)
			if whole != 0 {
				if l.across[side] >= 0 || math.Abs(whole) != 1 || math.Abs(step-whole) > sameStep {
					return l, false
				}
				l.across[side], l.step[side] = a, int(whole)
			}
			off[a] += float64(math.Abs(step-whole) * float64(pixels-1))
		}
		if l.across[side] < 0 {
			return l, false
		}
		third -= l.across[side]
	}
	if l.across[0] == l.across[1] {
		return l, false
	}
	for a, x := range off {
		if a == third && x > offSlice || a != third && x > onLattice {
			return l, false
		}
	}
	if pg.known && math.Abs(pg.slab-g.Spacing[third]) > sameSlab*g.Spacing[third] {
		return l, false
	}
	l.inBounds = l.first[third] >= 0 && l.first[third] < g.Size[third]
	return l, true
}

// copy adds the pixels of a frame to the mask: whether there were any, and whether some lie beyond its edges.
func (l landing) copy(m *voxel.Mask, in []uint8, columns int) (put, cut bool) {
	if !l.inBounds {
		return false, false
	}
	stride := [3]int{1, m.Size[0], m.Size[0] * m.Size[1]}
	a, b := l.across[0], l.across[1]
	third := 3 - a - b
	for y := range len(in) / columns {
		row := in[y*columns:][:columns]
		from := bytes.IndexByte(row, 1)
		if from < 0 {
			continue
		}
		at := l.first
		at[b] += l.step[1] * y
		inside := at[b] >= 0 && at[b] < m.Size[b]
		for x := from; x < columns; x++ {
			if row[x] == 0 {
				continue
			}
			if at[a] = l.first[a] + l.step[0]*x; !inside || at[a] < 0 || at[a] >= m.Size[a] {
				cut = true
				continue
			}
			m.Data[at[a]*stride[a]+at[b]*stride[b]+at[third]*stride[third]] = 1
			put = true
		}
	}
	return put, cut
}

// A line is a coordinate of the frame along a row of voxels: start + x·step, and the least and the most that lie inside.
type line struct{ start, step, low, high float64 }

// sample adds the voxels of the grid whose centres lie in pixels of frame i that are in: whether those pixels lie in the grid,
// and whether some lie beyond its edges. tried is how many rows and voxels were looked at.
func (s *segmentation) sample(i int, m *voxel.Mask, in []uint8) (inside, cut bool, tried int64) {
	p := s.planes[i]
	pg := s.grids[p.grid]
	box := (&voxel.Mask{Geometry: voxel.Geometry{Size: [3]int{s.columns, s.rows, 1}}, Data: in}).Bounds()
	low := [3]float64{float64(box.Min[0]) - 0.5, float64(box.Min[1]) - 0.5, p.low}
	high := [3]float64{float64(box.Max[0]) - 0.5, float64(box.Max[1]) - 0.5, p.high}
	least, most := s.reach(p, m.Geometry, low, high)
	for a := range 3 {
		if most[a] < -0.5 || least[a] > float64(m.Size[a])-0.5 {
			return false, false, 0
		}
		cut = cut || least[a] < -0.5-onLattice || most[a] > float64(m.Size[a])-0.5+onLattice
	}
	reach := around(least, most).Grow([3]int{}, m.Box())
	// The coordinates of a voxel in the frame: pixels along a row and down a column, and mm along the normal.
	unit := [3]float64{pg.spacing[0], pg.spacing[1], 1}
	var start [3]float64
	var step [3][3]float64 // of each coordinate, by axis of the grid
	for c := range 3 {
		var from [3]float64
		for n := range 3 {
			from[n] = m.Origin[n] - p.at[n]
		}
		start[c] = dot(from, pg.axes[c]) / unit[c]
		for a := range 3 {
			step[c][a] = dot(m.Axes[a], pg.axes[c]) * m.Spacing[a] / unit[c]
		}
	}
	for z := reach.Min[2]; z < reach.Max[2]; z++ {
		for y := reach.Min[1]; y < reach.Max[1]; y++ {
			var l [3]line
			from, to := reach.Min[0], reach.Max[0]
			for c := range 3 {
				l[c] = line{start[c] + float64(float64(y)*step[c][1]) + float64(float64(z)*step[c][2]), step[c][0], low[c] - onBorder, high[c] - onBorder}
				from, to = l[c].within(from, to)
			}
			tried += int64(1 + to - from)
			row := m.Data[(z*m.Size[1]+y)*m.Size[0]:][:m.Size[0]]
			for x := from; x < to; x++ {
				u, v, h := l[0].at(x), l[1].at(x), l[2].at(x)
				if u < l[0].low || u >= l[0].high || v < l[1].low || v >= l[1].high || h < l[2].low || h >= l[2].high {
					continue
				}
				// A centre on a border lies in the pixel of the higher index.
				column, line := int(math.Floor(u+(0.5+onBorder))), int(math.Floor(v+(0.5+onBorder)))
				if column = min(column, s.columns-1); in[min(line, s.rows-1)*s.columns+column] != 0 {
					row[x] = 1
				}
			}
		}
	}
	return true, cut, tried
}

func (l line) at(x int) float64 { return l.start + float64(float64(x)*l.step) }

// within narrows a range of x to where the coordinate can lie inside, one x more on each side.
func (l line) within(from, to int) (int, int) {
	if math.Abs(l.step) < 1e-9 {
		return from, to // the test of each voxel decides
	}
	a, b := (l.low-l.start)/l.step, (l.high-l.start)/l.step
	if a > b {
		a, b = b, a
	}
	if a > float64(from) {
		from = int(min(math.Floor(a), float64(to)))
	}
	if b < float64(to-1) {
		to = int(max(math.Ceil(b)+1, float64(from)))
	}
	return from, to
}

// reach are the least and the most indices, in the grid or not, of the space between low and high: pixels in the plane, mm
// along the normal.
func (s *segmentation) reach(p plane, g voxel.Geometry, low, high [3]float64) (least, most [3]float64) {
	pg := s.grids[p.grid]
	for corner := range 8 {
		at := p.at
		for c := range 3 {
			x := low[c]
			if corner>>c&1 == 1 {
				x = high[c]
			}
			if c < 2 {
				x *= pg.spacing[c]
			}
			for n := range 3 {
				at[n] += float64(x * pg.axes[c][n])
			}
		}
		q := g.Index(at)
		if corner == 0 {
			least, most = q, q
		}
		for a := range 3 {
			least[a], most[a] = math.Min(least[a], q[a]), math.Max(most[a], q[a])
		}
	}
	return least, most
}

// around is the box of the indices between two places.
func around(least, most [3]float64) (b voxel.Box) {
	const far, slack = 1 << 30, 1e-4
	for a := range 3 {
		b.Min[a] = int(math.Ceil(min(max(least[a]-slack, -far), far)))
		b.Max[a] = int(math.Floor(min(max(most[a]+slack, -far), far))) + 1
	}
	return b
}

// twins are the frames that lie where another one does, each with the first of them.
func (s *segmentation) twins(frames []int) map[int]int {
	type place struct {
		grid int
		at   [3]int64
	}
	first := make(map[place]int, len(frames))
	twins := make(map[int]int)
	for _, i := range frames {
		p := place{grid: s.planes[i].grid}
		for c, x := range s.planes[i].at {
			p.at[c] = int64(math.Round(x / 0.01))
		}
		if n, ok := first[p]; ok {
			twins[i], twins[n] = n, n
		} else {
			first[p] = i
		}
	}
	return twins
}

// bounds is a box of the grid that holds all that rasterise can give, from where the frames lie alone.
func (s *segment) bounds(g voxel.Geometry) voxel.Box {
	all := voxel.Box{Min: g.Size}
	for _, i := range s.of.of(s.number) {
		p := s.of.planes[i]
		if p.grid < 0 {
			return voxel.Box{}
		}
		low := [3]float64{-0.5, -0.5, p.low}
		high := [3]float64{float64(s.of.columns) - 0.5, float64(s.of.rows) - 0.5, p.high}
		b := around(s.of.reach(p, g, low, high))
		if l, ok := s.of.land(i, g); ok {
			third := 3 - l.across[0] - l.across[1]
			b.Min[third], b.Max[third] = l.first[third], l.first[third]+1
		}
		if b = b.Grow([3]int{}, g.Box()); b.Empty() {
			continue
		}
		for a := range 3 {
			all.Min[a], all.Max[a] = min(all.Min[a], b.Min[a]), max(all.Max[a], b.Max[a])
		}
	}
	if all.Empty() {
		return voxel.Box{}
	}
	return all
}
