package roi

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
)

// A SEGInput is what a Segmentation is made of. The same input gives the same bytes.
type SEGInput struct {
	Source            Source
	StructureSet      *dicom.DataSet // where the regions came from, or the Segmentation; nil where it was neither
	Segments          []Segment      // numbered from 1 in this order
	SOPInstanceUID    string         // derived from the content where it is ""
	SeriesInstanceUID string         // derived from source and structure set where it is ""
	SeriesNumber      int
	InstanceNumber    int // 1 where it is 0
	SeriesDescription string
	Equipment         Equipment
	ContentTime       time.Time // of Content Date and Time: when the content came to be; shown in the source's time zone if it names one
}

// A Source is the image series that was segmented.
type Source struct {
	Header       *dicom.DataSet // of one image: patient, study, frame of reference
	SOPClass     string
	Series       string
	SOPInstances []string       // one for each slice, in order
	FrameNumbers []int          // of each slice in its instance, from 1; nil where the images are single-frame
	Geometry     voxel.Geometry // of the images; where it is zero, that of the first mask
}

// A Segment is one region and its voxels: a mask on the grid of the source, or on a part of it ([voxel.Mask.Crop]).
type Segment struct {
	Region Region
	Mask   *voxel.Mask
	Rule   voxel.Rule // by which the region became the mask
}

// Equipment is the device that writes: Enhanced General Equipment, PS3.3 C.7.5.2, where all of the first four are type 1, and
// Contributing Equipment, C.12.1, where IHE AIR asks for the Device UID of what ran the algorithm.
type Equipment struct {
	Manufacturer, ModelName, SerialNumber, SoftwareVersion string
	DeviceUID                                              string // optional: then there is no Contributing Equipment
}

// WriteSEG makes a binary Segmentation (PS3.3 A.51, C.8.20): one segment for each region, one frame for each slice that a
// segment is on. Every frame names the image it lies on, so readers need no geometry to put it back.
func WriteSEG(in SEGInput) (*dicom.DataSet, error) {
	g, boxes, err := in.check()
	if err != nil {
		return nil, err
	}
	frames := framesOf(in.Segments, boxes)
	if len(frames) == 0 {
		return nil, &refusal.Refusal{Code: refusal.SegmentationEmpty, Text: "no segment has a voxel, and a Segmentation has at least one frame", Remedy: "leave empty regions out"}
	}
	pixels := pack(in.Segments, boxes, frames, g)
	origin := "" // where the regions came from
	if in.StructureSet != nil {
		origin = in.StructureSet.String(dicom.SOPInstanceUID)
	}
	digest := sha256.Sum256(pixels)
	uid := cmp.Or(in.SOPInstanceUID, dicom.UIDFrom("segmentation", in.Source.Series, origin, hex.EncodeToString(digest[:]), in.Equipment.SoftwareVersion, in.ContentTime.Format(time.RFC3339Nano)))

	at := in.Source.Header.InZone(in.ContentTime) // the zone is copied, and rules every time in the object

	d := dicom.New()
	// SOP Common, PS3.3 C.12.1.
	d.SetString(dicom.SOPClassUID, dicom.SegmentationStorage)
	d.SetString(dicom.SOPInstanceUID, uid)
	// Patient, Study, Frame of Reference.
	d.CopyEntities(in.Source.Header)
	d.SetString(dicom.PositionReferenceIndicator) // type 2
	d.Copy(in.Source.Header, dicom.PositionReferenceIndicator)
	d.SetString(dicom.FrameOfReferenceUID, cmp.Or(in.Source.Header.String(dicom.FrameOfReferenceUID), dicom.UIDFrom("frame of reference", in.Source.Series)))
	// Segmentation Series, PS3.3 C.8.20.1; Enhanced General Equipment, C.7.5.2.
	d.SetString(dicom.Modality, "SEG")
	d.SetString(dicom.SeriesInstanceUID, cmp.Or(in.SeriesInstanceUID, dicom.UIDFrom("segmentation series", in.Source.Series, origin)))
	d.SetInt(dicom.SeriesNumber, in.SeriesNumber)
	if in.SeriesDescription != "" {
		d.SetString(dicom.SeriesDescription, dicom.CleanLine(in.SeriesDescription, 64))
	}
	d.SetString(dicom.SeriesDate, at.Format("20060102"))
	d.SetString(dicom.SeriesTime, at.Format("150405"))
	d.Copy(in.Source.Header, dicom.BodyPartExamined)
	d.SetString(dicom.Manufacturer, dicom.CleanLine(in.Equipment.Manufacturer, 64))
	d.SetString(dicom.ManufacturerModelName, dicom.CleanLine(in.Equipment.ModelName, 64))
	d.SetString(dicom.DeviceSerialNumber, dicom.CleanLine(in.Equipment.SerialNumber, 64))
	d.SetString(dicom.SoftwareVersions, dicom.CleanLine(in.Equipment.SoftwareVersion, 64))
	if in.Equipment.DeviceUID != "" {
		e := dicom.New()
		e.Copy(d, dicom.Manufacturer, dicom.ManufacturerModelName, dicom.DeviceSerialNumber, dicom.SoftwareVersions)
		e.SetString(dicom.DeviceUID, in.Equipment.DeviceUID)
		e.SetSeq(dicom.PurposeOfReferenceCodeSequence, Code{"109102", "DCM", "Processing Equipment"}.item())
		d.SetSeq(dicom.ContributingEquipmentSequence, e)
	}
	// General Image, Image Pixel, Segmentation Image, PS3.3 C.8.20.2.
	d.SetInt(dicom.InstanceNumber, cmp.Or(in.InstanceNumber, 1))
	d.SetString(dicom.ContentDate, at.Format("20060102"))
	d.SetString(dicom.ContentTime, at.Format("150405"))
	d.SetString(dicom.ImageType, "DERIVED", "PRIMARY")
	d.SetInt(dicom.SamplesPerPixel, 1)
	d.SetString(dicom.PhotometricInterpretation, "MONOCHROME2")
	d.SetInt(dicom.Columns, g.Size[0])
	d.SetInt(dicom.Rows, g.Size[1])
	d.SetInt(dicom.BitsAllocated, 1)
	d.SetInt(dicom.BitsStored, 1)
	d.SetInt(dicom.HighBit, 0)
	d.SetInt(dicom.PixelRepresentation, 0)
	d.SetString(dicom.LossyImageCompression, "00")
	if in.Source.Header.String(dicom.LossyImageCompression) == "01" { // once lossy, lossy for ever: PS3.3 C.7.6.1.1.5
		d.Copy(in.Source.Header, dicom.LossyImageCompression, dicom.LossyImageCompressionRatio, dicom.LossyImageCompressionMethod)
	}
	d.SetString(dicom.ContentLabel, "REGIONS")
	d.SetString(dicom.ContentDescription, "Voxels of regions, as measured")
	d.SetString(dicom.ContentCreatorName)
	d.SetString(dicom.SegmentationType, "BINARY")
	d.SetString(dicom.SegmentsOverlap, overlap(in.Segments, boxes, g))
	var segments []*dicom.DataSet
	for i, s := range in.Segments {
		segments = append(segments, describe(i+1, s.Region, s.Rule, origin))
	}
	d.SetSeq(dicom.SegmentSequence, segments...)
	in.refer(d)
	// Multi-frame Functional Groups, C.7.6.16; Multi-frame Dimension, C.7.6.17.
	organization := dicom.UIDFrom("dimension organization", uid)
	d.SetSeq(dicom.DimensionOrganizationSequence, item(func(o *dicom.DataSet) { o.SetString(dicom.DimensionOrganizationUID, organization) }))
	d.SetSeq(dicom.DimensionIndexSequence,
		dimension(organization, dicom.ReferencedSegmentNumber, dicom.SegmentIdentificationSequence, "Segment"),
		dimension(organization, dicom.ImagePositionPatient, dicom.PlanePositionSequence, "Position"))
	d.SetInt(dicom.NumberOfFrames, len(frames))
	d.SetSeq(dicom.SharedFunctionalGroupsSequence, shared(g))
	d.SetSeq(dicom.PerFrameFunctionalGroupsSequence, in.perFrame(g, frames)...)
	d.SetBytes(dicom.PixelData, dicom.OB, pixels)
	return d, nil
}

// check refuses what would not make a valid object. It returns the grid of the source and the box of it that each mask
// covers.
func (in SEGInput) check() (voxel.Geometry, []voxel.Box, error) {
	bad := func(format string, args ...any) (voxel.Geometry, []voxel.Box, error) {
		return voxel.Geometry{}, nil, &refusal.Refusal{Code: refusal.SegmentationInput, Text: fmt.Sprintf(format, args...)}
	}
	switch e := in.Equipment; {
	case len(in.Segments) == 0:
		return bad("a Segmentation needs a segment: SegmentSequence (0062,0002) is type 1")
	case len(in.Segments) > 65535:
		return bad("%d segments do not fit SegmentNumber (0062,0004)", len(in.Segments))
	case in.Source.Header == nil || in.Source.SOPClass == "" || in.Source.Series == "":
		return bad("the source of a Segmentation needs a header, a SOP class and a series")
	case e.Manufacturer == "" || e.ModelName == "" || e.SerialNumber == "" || e.SoftwareVersion == "":
		return bad("the equipment of a Segmentation needs manufacturer, model name, serial number and software version: PS3.3 C.7.5.2")
	}
	g := cmp.Or(in.Source.Geometry, in.Segments[0].Mask.Geometry)
	if err := g.Valid(); err != nil {
		return bad("%v", err)
	}
	boxes := make([]voxel.Box, len(in.Segments))
	for i, s := range in.Segments {
		m := s.Mask
		boxes[i] = g.Part(m.Geometry)
		whole := boxes[i].Grow([3]int{}, g.Box()) == boxes[i]
		if !whole || m.Valid() != nil || !m.Geometry.Equal(g.Crop(boxes[i]), 0) || len(m.Data) != m.Len() {
			return bad("segment %d lies on another grid than the source", i+1)
		}
	}
	if len(in.Source.SOPInstances) != g.Size[2] {
		return bad("the masks have %d slices and the source %d images", g.Size[2], len(in.Source.SOPInstances))
	}
	if n := in.Source.FrameNumbers; n != nil && (len(n) != g.Size[2] || slices.Min(n) < 1) {
		return bad("the masks have %d slices and the source %d frame numbers, from 1", g.Size[2], len(n))
	}
	return g, boxes, nil
}

// A frame is one segment on one slice.
type frame struct{ segment, slice int }

// framesOf returns the slices that each segment is on, by segment and then along the normal.
func framesOf(segments []Segment, boxes []voxel.Box) []frame {
	var frames []frame
	for s, segment := range segments {
		m := segment.Mask
		area := m.Size[0] * m.Size[1]
		for k := range m.Size[2] {
			if slices.ContainsFunc(m.Data[k*area:(k+1)*area], func(v uint8) bool { return v != 0 }) {
				frames = append(frames, frame{s, boxes[s].Min[2] + k})
			}
		}
	}
	return frames
}

// pack writes the voxels of the frames as bits, the first in the least significant place, without a gap between frames
// (PS3.5 8.1.1, PS3.3 C.8.20.2.1); the last byte and the even length are filled with zeros.
func pack(segments []Segment, boxes []voxel.Box, frames []frame, g voxel.Geometry) []byte {
	area := g.Size[0] * g.Size[1]
	size := (len(frames)*area + 7) / 8
	b := make([]byte, size+size%2)
	for n, f := range frames {
		m, box := segments[f.segment].Mask, boxes[f.segment]
		for y := range m.Size[1] {
			at := n*area + (box.Min[1]+y)*g.Size[0] + box.Min[0]
			for x, v := range m.Data[((f.slice-box.Min[2])*m.Size[1]+y)*m.Size[0]:][:m.Size[0]] {
				if v != 0 {
					b[(at+x)>>3] |= 1 << ((at + x) & 7)
				}
			}
		}
	}
	return b
}

// overlap says whether any voxel belongs to two segments, Segments Overlap (0062,0013).
func overlap(segments []Segment, boxes []voxel.Box, g voxel.Geometry) string {
	taken := make([]uint8, g.Size[0]*g.Size[1])
	for k := range g.Size[2] {
		clear(taken)
		for s, box := range boxes {
			if k < box.Min[2] || k >= box.Max[2] {
				continue
			}
			m := segments[s].Mask
			for y := range m.Size[1] {
				row := taken[(box.Min[1]+y)*g.Size[0]+box.Min[0]:]
				for x, v := range m.Data[((k-box.Min[2])*m.Size[1]+y)*m.Size[0]:][:m.Size[0]] {
					if v&row[x] != 0 {
						return "YES"
					}
					row[x] |= v
				}
			}
		}
	}
	return "NO"
}

// describe is an item of Segment Sequence, PS3.3 C.8.20.2 with the Segment Description macro. origin is the object that the
// region came from.
func describe(number int, r Region, rule voxel.Rule, origin string) *dicom.DataSet {
	category, kind := r.Property()
	// Contours that a person drew and a program made voxels of are semi-automatic.
	object, algorithm, name := "RT Structure Set", "SEMIAUTOMATIC", "Contours to voxels by voxel "+rule.Filled().Voxel
	if r.GenerationAlgorithm == "AUTOMATIC" {
		algorithm = "AUTOMATIC"
	}
	if r.Kind() == "Segment" { // its voxels were there
		object, name = "Segmentation", cmp.Or(dicom.CleanLine(r.AlgorithmName, 64), "As in the Segmentation it came from")
		if slices.Contains([]string{"AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"}, r.GenerationAlgorithm) {
			algorithm = r.GenerationAlgorithm
		}
	}
	return item(func(s *dicom.DataSet) {
		s.SetInt(dicom.SegmentNumber, number)
		s.SetString(dicom.SegmentLabel, cmp.Or(dicom.CleanLine(r.Name, 64), r.Kind()+" "+strconv.Itoa(r.Number)))
		description := Describe(rule, r)
		if origin != "" {
			description = fmt.Sprintf("%s %d of %s %s. %s", r.Kind(), r.Number, object, origin, description)
		}
		s.SetString(dicom.SegmentDescription, description)
		s.SetString(dicom.SegmentAlgorithmType, algorithm)
		if algorithm != "MANUAL" { // type 1C
			s.SetString(dicom.SegmentAlgorithmName, name)
		}
		s.SetSeq(dicom.SegmentedPropertyCategoryCodeSequence, category.item())
		kindItem := kind.item()
		if r.TypeModifier != (Code{}) {
			kindItem.SetSeq(dicom.SegmentedPropertyTypeModifierCodeSequence, r.TypeModifier.item())
		}
		s.SetSeq(dicom.SegmentedPropertyTypeCodeSequence, kindItem)
		if r.Site != (Code{}) {
			site := r.Site.item()
			if r.Laterality != (Code{}) {
				site.SetSeq(dicom.AnatomicRegionModifierSequence, r.Laterality.item())
			}
			s.SetSeq(dicom.AnatomicRegionSequence, site)
		}
		if r.Color != nil {
			s.SetInt(dicom.RecommendedDisplayCIELabValue, cieLab(*r.Color)...)
		}
		s.SetString(dicom.TrackingID, dicom.CleanText(r.TrackingID))
		s.SetString(dicom.TrackingUID, r.TrackingUID)
	})
}

// refer lists every instance that the object names: Common Instance Reference, PS3.3 C.12.2. The structure set is not among
// them: what the regions came from stands in the report, and OHIF lays a segmentation on the first series that it finds named here.
func (in SEGInput) refer(d *dicom.DataSet) {
	instances := slices.Clone(in.Source.SOPInstances)
	slicesUnique(&instances) // the slices of a multi-frame image share one
	var images []*dicom.DataSet
	for _, uid := range instances {
		images = append(images, reference(in.Source.SOPClass, uid))
	}
	d.SetSeq(dicom.ReferencedSeriesSequence, seriesItem(in.Source.Series, images...))
}

// shared is what all frames have in common.
func shared(g voxel.Geometry) *dicom.DataSet {
	return item(func(s *dicom.DataSet) {
		s.SetSeq(dicom.PixelMeasuresSequence, item(func(m *dicom.DataSet) {
			m.SetFloat(dicom.SliceThickness, g.Spacing[2])
			m.SetFloat(dicom.SpacingBetweenSlices, g.Spacing[2])
			m.SetFloat(dicom.PixelSpacing, g.Spacing[1], g.Spacing[0]) // rows first, PS3.3 10.7.1.3
		}))
		s.SetSeq(dicom.PlaneOrientationSequence, item(func(o *dicom.DataSet) {
			o.SetFloat(dicom.ImageOrientationPatient, append(g.Axes[0][:], g.Axes[1][:]...)...)
		}))
	})
}

// perFrame is one item for each frame: what it shows, where it lies and which image that is.
func (in SEGInput) perFrame(g voxel.Geometry, frames []frame) []*dicom.DataSet {
	rank := make(map[int]int) // of a slice among those with frames, from 1
	used := make([]bool, g.Size[2])
	for _, f := range frames {
		used[f.slice] = true
	}
	for k, yes := range used {
		if yes {
			rank[k] = len(rank) + 1
		}
	}
	items := make([]*dicom.DataSet, 0, len(frames))
	for _, f := range frames {
		items = append(items, item(func(p *dicom.DataSet) {
			p.SetSeq(dicom.FrameContentSequence, item(func(c *dicom.DataSet) { c.SetInt(dicom.DimensionIndexValues, f.segment+1, rank[f.slice]) }))
			p.SetSeq(dicom.PlanePositionSequence, item(func(o *dicom.DataSet) {
				at := g.Point(0, 0, float64(f.slice))
				o.SetFloat(dicom.ImagePositionPatient, at[:]...)
			}))
			p.SetSeq(dicom.SegmentIdentificationSequence, item(func(s *dicom.DataSet) { s.SetInt(dicom.ReferencedSegmentNumber, f.segment+1) }))
			p.SetSeq(dicom.DerivationImageSequence, item(func(o *dicom.DataSet) {
				o.SetSeq(dicom.DerivationCodeSequence, Code{"113076", "DCM", "Segmentation"}.item())
				source := reference(in.Source.SOPClass, in.Source.SOPInstances[f.slice])
				if in.Source.FrameNumbers != nil { // PS3.3 Table 10-3
					source.SetInt(dicom.ReferencedFrameNumber, in.Source.FrameNumbers[f.slice])
				}
				source.SetSeq(dicom.PurposeOfReferenceCodeSequence, Code{"121322", "DCM", "Source image for image processing operation"}.item())
				source.SetString(dicom.SpatialLocationsPreserved, "YES")
				o.SetSeq(dicom.SourceImageSequence, source)
			}))
		}))
	}
	return items
}

func dimension(organization string, pointer, group dicom.Tag, label string) *dicom.DataSet {
	return item(func(d *dicom.DataSet) {
		d.SetString(dicom.DimensionOrganizationUID, organization)
		d.SetInt(dicom.DimensionIndexPointer, int(pointer))
		d.SetInt(dicom.FunctionalGroupPointer, int(group))
		d.SetString(dicom.DimensionDescriptionLabel, label)
	})
}

func reference(class, uid string) *dicom.DataSet {
	return item(func(r *dicom.DataSet) {
		r.SetString(dicom.ReferencedSOPClassUID, class)
		r.SetString(dicom.ReferencedSOPInstanceUID, uid)
	})
}

func seriesItem(uid string, instances ...*dicom.DataSet) *dicom.DataSet {
	return item(func(s *dicom.DataSet) {
		s.SetString(dicom.SeriesInstanceUID, uid)
		s.SetSeq(dicom.ReferencedInstanceSequence, instances...)
	})
}

func (c Code) item() *dicom.DataSet {
	return item(func(d *dicom.DataSet) {
		if len(c.Value) <= 16 { // PS3.3 Table 8.8-1
			d.SetString(dicom.CodeValue, c.Value)
		} else {
			d.SetString(dicom.LongCodeValue, c.Value)
		}
		d.SetString(dicom.CodingSchemeDesignator, c.Scheme)
		d.SetString(dicom.CodeMeaning, c.Meaning)
	})
}

func item(fill func(*dicom.DataSet)) *dicom.DataSet {
	d := dicom.New()
	fill(d)
	return d
}
