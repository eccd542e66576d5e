package roi

import (
	"github.com/radnode/radnode/dimse/dicom"
)

// A Reference is one image series that a structure set names.
type Reference struct {
	StudyUID         string   // "" where RT Referenced Study Sequence (3006,0012) is missing
	SeriesUID        string   // "" for images that no series of the structure set claims
	FrameOfReference string   // "" where it is not said
	Instances        []string // every image it names, in order of first mention: Named, then what Contoured adds
	Named            []string // those in RT Referenced Series Sequence (3006,0014)
	Contoured        []string // those that contours name, Contour Image Sequence (3006,0016) of Contour Sequence (3006,0040)
	Frames           []int    // of the only instance, where single frames of a multi-frame image are named; nil = all
	Listed           bool     // the series list goes beyond the slices with contours, so it is the series and not a choice of it
}

// References returns the series that a structure set names, each with the union of its images in RT Referenced Series
// Sequence and in the contours. Contours name images without their series: they go to the series that lists the image,
// else to the one that is named without any list or by Source Series Sequence (3006,004B), else to a Reference whose
// SeriesUID is "". The error is a *[refusal.Refusal].
func References(d *dicom.DataSet) ([]Reference, error) {
	if isSegmentation(d) {
		return segmented(d)
	}
	if err := isStructureSet(d); err != nil {
		return nil, err
	}
	c := collector{series: map[string]int{}, claimed: map[string]int{}}
	for _, frame := range d.Seq(dicom.ReferencedFrameOfReferenceSequence) {
		frameUID := frame.String(dicom.FrameOfReferenceUID)
		for _, study := range frame.Seq(dicom.RTReferencedStudySequence) {
			for _, series := range study.Seq(dicom.RTReferencedSeriesSequence) {
				i := c.reference(series.String(dicom.SeriesInstanceUID))
				r := &c.refs[i]
				orElse(&r.StudyUID, study.String(dicom.ReferencedSOPInstanceUID))
				orElse(&r.FrameOfReference, frameUID)
				for _, image := range series.Seq(dicom.ContourImageSequence) {
					if uid := image.String(dicom.ReferencedSOPInstanceUID); uid != "" {
						r.Named = append(r.Named, uid)
						if _, ok := c.claimed[uid]; !ok {
							c.claimed[uid] = i
						}
					}
				}
			}
		}
	}

	frameOf := make(map[int]string) // of each region
	for _, item := range d.Seq(dicom.StructureSetROISequence) {
		if n, ok := item.Int(dicom.ROINumber); ok {
			frameOf[n] = item.String(dicom.ReferencedFrameOfReferenceUID)
		}
	}
	planes := make(map[string]int) // contours without a reference, by frame of reference: see Listed
	for _, item := range d.Seq(dicom.ROIContourSequence) {
		number, _ := item.Int(dicom.ReferencedROINumber)
		frameUID := frameOf[number]
		source := -1 // of contours whose image no series lists
		if s := item.Seq(dicom.SourceSeriesSequence); len(s) == 1 && s[0].String(dicom.SeriesInstanceUID) != "" {
			source = c.reference(s[0].String(dicom.SeriesInstanceUID))
			orElse(&c.refs[source].FrameOfReference, frameUID)
		}
		for _, contour := range item.Seq(dicom.ContourSequence) {
			images := contour.Seq(dicom.ContourImageSequence)
			if len(images) == 0 {
				planes[frameUID]++
			}
			for _, image := range images {
				if uid := image.String(dicom.ReferencedSOPInstanceUID); uid != "" {
					r := &c.refs[c.owner(uid, source, frameUID)]
					orElse(&r.FrameOfReference, frameUID)
					r.Contoured = append(r.Contoured, uid)
				}
			}
		}
	}

	var refs []Reference
	for _, r := range c.refs {
		slicesUnique(&r.Named)
		slicesUnique(&r.Contoured)
		r.Instances = append(append(r.Instances, r.Named...), r.Contoured...)
		slicesUnique(&r.Instances)
		// Some exporters list only the slices with contours under the series too. A list that names more images than there are
		// slices with contours cannot be of that kind.
		contoured := len(r.Contoured)
		if contoured == 0 {
			contoured = planes[r.FrameOfReference]
		}
		r.Listed = len(r.Named) > contoured
		if len(r.Instances) > 0 || r.SeriesUID != "" {
			refs = append(refs, r)
		}
	}
	return refs, nil
}

// A collector gathers references in order of first mention.
type collector struct {
	refs    []Reference
	series  map[string]int // Series Instance UID -> index in refs
	claimed map[string]int // SOP Instance UID -> index in refs
}

func (c *collector) reference(series string) int {
	i, ok := c.series[series]
	if !ok {
		i = len(c.refs)
		c.series[series] = i
		c.refs = append(c.refs, Reference{SeriesUID: series})
	}
	return i
}

// owner returns the reference that an image named by a contour belongs to.
func (c *collector) owner(uid string, source int, frame string) int {
	if i, ok := c.claimed[uid]; ok {
		return i
	}
	if source >= 0 {
		return source
	}
	// The only series of that frame, named without a list.
	only := -1
	for i, r := range c.refs {
		if r.SeriesUID != "" && (frame == "" || r.FrameOfReference == "" || r.FrameOfReference == frame) {
			if only >= 0 || len(r.Named) > 0 {
				return c.reference("")
			}
			only = i
		}
	}
	if only < 0 {
		return c.reference("")
	}
	return only
}

func orElse(have *string, value string) {
	if *have == "" {
		*have = value
	}
}
