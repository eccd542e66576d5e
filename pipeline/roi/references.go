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
	c := collector{series: map[string]int{}, claimed: map[string]int{}, frames: map[string][]int{}}
	for _, frame := range d.Seq(dicom.ReferencedFrameOfReferenceSequence) {
		frameUID := frame.String(dicom.FrameOfReferenceUID)
		for _, study := range frame.Seq(dicom.RTReferencedStudySequence) {
			for _, series := range study.Seq(dicom.RTReferencedSeriesSequence) {
				i := c.reference(series.String(dicom.SeriesInstanceUID))
				r := &c.refs[i]
				orElse(&r.StudyUID, study.String(dicom.ReferencedSOPInstanceUID))
				c.frame(i, frameUID)
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
			c.frame(source, frameUID)
		}
		for _, contour := range item.Seq(dicom.ContourSequence) {
			images := contour.Seq(dicom.ContourImageSequence)
			if len(images) == 0 {
				planes[frameUID]++
			}
			for _, image := range images {
				if uid := image.String(dicom.ReferencedSOPInstanceUID); uid != "" {
					i := c.owner(uid, source, frameUID)
					c.frame(i, frameUID)
					r := &c.refs[i]
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
	series  map[string]int   // Series Instance UID -> index in refs
	claimed map[string]int   // SOP Instance UID -> index in refs
	frames  map[string][]int // Frame of Reference UID -> indices of series in refs; those of "" may have got one since
}

func (c *collector) reference(series string) int {
	i, ok := c.series[series]
	if !ok {
		i = len(c.refs)
		c.series[series] = i
		c.refs = append(c.refs, Reference{SeriesUID: series})
		if series != "" {
			c.frames[""] = append(c.frames[""], i)
		}
	}
	return i
}

// frame says which frame of reference a reference is in, if that is not known yet.
func (c *collector) frame(i int, uid string) {
	if r := &c.refs[i]; r.FrameOfReference == "" && uid != "" {
		r.FrameOfReference = uid
		if r.SeriesUID != "" {
			c.frames[uid] = append(c.frames[uid], i)
		}
	}
}

// owner returns the reference that an image named by a contour belongs to.
func (c *collector) owner(uid string, source int, frame string) int {
	if i, ok := c.claimed[uid]; ok {
		return i
	}
	if source >= 0 {
		return source
	}
	if only := c.only(frame); only >= 0 && len(c.refs[only].Named) == 0 {
		return only // named without a list
	}
	return c.reference("")
}

// only is the series that a frame of reference has, -1 where it has none or several. A frame that is not said may be any.
func (c *collector) only(frame string) int {
	if frame == "" {
		_, unclaimed := c.series[""]
		switch n := len(c.refs); {
		case n == 1 && !unclaimed:
			return 0
		case n == 2 && unclaimed:
			return 1 - c.series[""]
		}
		return -1
	}
	// What has got a frame since is taken off the list, once.
	found, n := -1, len(c.frames[frame])
	if n > 0 {
		found = c.frames[frame][0]
	}
	open := c.frames[""]
	for k := 0; k < len(open) && n < 2; {
		if c.refs[open[k]].FrameOfReference != "" {
			open[k] = open[len(open)-1]
			open = open[:len(open)-1]
			continue
		}
		found = open[k]
		k, n = k+1, n+1
	}
	c.frames[""] = open
	if n != 1 {
		return -1
	}
	return found
}

func orElse(have *string, value string) {
	if *have == "" {
		*have = value
	}
}
