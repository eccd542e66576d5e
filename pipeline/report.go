package pipeline

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/imaging"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/store"
)

// Made is what a computation returns to the hospital.
type Made struct {
	Segmentation, Report store.NewInstance
}

// A Revision places a report among those of the same contours.
type Revision struct {
	Input       string       // digest of the contour object and the images
	Number      int          // Instance Number, from 1
	Predecessor *sr.Document // the report that this one supersedes; nil = none
}

// Series Numbers of what radnode writes, far from those of scanners.
const (
	reportSeriesNumber       = 9801
	segmentationSeriesNumber = 9802
)

const manual = "IBSI reference manual v11 (arXiv:1612.07003)"

// Make writes the Segmentation and the Structured Report of a measurement. All UIDs and all content derive from the input,
// the profiles, the software version and the installation: computing again gives the same bytes.
func (o Options) Make(m *Measured, rev Revision) (Made, error) {
	var profiles []string
	for _, r := range m.Regions {
		profiles = append(profiles, fmt.Sprint(r.Region.Number, " ", r.Profile.Name, " ", r.Profile.Hash()))
	}
	contours := m.Source.DataSet.String(dicom.SOPInstanceUID)
	identity := []string{rev.Input, o.Equipment.SoftwareVersion, o.Equipment.DeviceUID, strings.Join(profiles, "\n")}
	uid := func(what string, more ...string) string {
		return dicom.UIDFrom(slices.Concat([]string{"radnode", what}, more)...)
	}
	at := contentTime(m.Source.DataSet, m.Volume.Header)

	seg, err := o.segmentation(m, at, uid("segmentation", identity...), uid("segmentation series", contours, m.Volume.Series))
	if err != nil {
		return Made{}, fmt.Errorf("segmentation: %w", err)
	}
	predecessor := ""
	if rev.Predecessor != nil {
		predecessor = rev.Predecessor.SOPInstanceUID
	}
	report, err := o.report(m, at, rev, seg,
		uid("report", append(identity, predecessor)...), uid("report series", contours, m.Volume.Series))
	if err != nil {
		return Made{}, fmt.Errorf("report: %w", err)
	}
	var made Made
	if made.Segmentation, err = newInstance(seg); err != nil {
		return Made{}, fmt.Errorf("segmentation: %w", err)
	}
	if made.Report, err = newInstance(report); err != nil {
		return Made{}, fmt.Errorf("report: %w", err)
	}
	return made, nil
}

// newInstance encodes a data set for the store.
func newInstance(d *dicom.DataSet) (store.NewInstance, error) {
	b, err := d.EncodedBytes()
	if err != nil {
		return store.NewInstance{}, err
	}
	return store.NewInstance{
		Meta: dicom.FileMeta{
			MediaStorageSOPClassUID: d.String(dicom.SOPClassUID), MediaStorageSOPInstanceUID: d.String(dicom.SOPInstanceUID),
			TransferSyntaxUID:      dicom.ExplicitVRLittleEndian,
			ImplementationClassUID: dicom.ImplementationClassUID, ImplementationVersionName: dicom.ImplementationVersionName,
		},
		Identity: dicom.Identity{
			SOPClassUID: d.String(dicom.SOPClassUID), SOPInstanceUID: d.String(dicom.SOPInstanceUID),
			StudyInstanceUID: d.String(dicom.StudyInstanceUID), SeriesInstanceUID: d.String(dicom.SeriesInstanceUID),
			PatientID: d.String(dicom.PatientID), Modality: d.String(dicom.Modality),
		},
		Data: b,
	}, nil
}

// contentTime is the Content Date and Time of what is made: that of the contours, since the content follows from them and
// has to be the same however often it is computed. Structure Set Date (3006,0008) and Time (3006,0009), else Content Date
// and Time, else Instance Creation Date and Time, else the date of the study.
func contentTime(contours, image *dicom.DataSet) time.Time {
	zone := zoneOf(contours, image)
	for _, c := range []struct {
		d          *dicom.DataSet
		date, time dicom.Tag
	}{
		{contours, dicom.StructureSetDate, dicom.StructureSetTime},
		{contours, dicom.ContentDate, dicom.ContentTime},
		{contours, dicom.InstanceCreationDate, dicom.InstanceCreationTime},
		{contours, dicom.SeriesDate, dicom.SeriesTime},
		{image, dicom.SeriesDate, dicom.SeriesTime},
		{image, dicom.StudyDate, dicom.StudyTime},
	} {
		if t, _, ok := dateTime(c.d, c.date, c.time, zone); ok {
			return t
		}
	}
	return time.Date(1970, 1, 1, 0, 0, 0, 0, zone)
}

// zoneOf is the zone of the first data set that says it: its times are those of its Timezone Offset From UTC (0008,0201),
// PS3.3 C.12.1.1.8.
func zoneOf(sets ...*dicom.DataSet) *time.Location {
	for _, d := range sets {
		if t, err := time.Parse("-0700", d.String(dicom.TimezoneOffsetFromUTC)); err == nil {
			_, offset := t.Zone()
			return time.FixedZone("", offset)
		}
	}
	return time.UTC
}

// dateTime reads a date, and the time of the day where there is one; ok is false without a date.
func dateTime(d *dicom.DataSet, date, clock dicom.Tag, zone *time.Location) (at time.Time, hour, ok bool) {
	day, err := time.ParseInLocation("20060102", d.String(date), zone)
	if err != nil {
		return at, false, false
	}
	text, _, _ := strings.Cut(d.String(clock), ".")
	for _, layout := range []string{"150405", "1504", "15"} {
		if t, err := time.Parse(layout, text); err == nil {
			return time.Date(day.Year(), day.Month(), day.Day(), t.Hour(), t.Minute(), t.Second(), 0, zone), true, true
		}
	}
	return day, false, true
}

// segmentation writes the voxels that were measured, one segment for each region in the order of the report's groups.
func (o Options) segmentation(m *Measured, at time.Time, uid, series string) (*dicom.DataSet, error) {
	in := roi.SEGInput{
		Source: roi.Source{
			Header: m.Volume.Header, SOPClass: m.Volume.SOPClass, Series: m.Volume.Series, SOPInstances: m.Volume.SOPInstances, FrameNumbers: m.Volume.FrameNumbers,
			Geometry: m.Volume.Grid.Geometry,
		},
		StructureSet:   m.Source.DataSet,
		SOPInstanceUID: uid, SeriesInstanceUID: series, SeriesNumber: segmentationSeriesNumber,
		SeriesDescription: "Measured voxels - " + m.Volume.Modality + " - " + strings.Join(names(m), ", "),
		Equipment: roi.Equipment{
			Manufacturer: o.Equipment.Manufacturer, ModelName: o.Equipment.Model, SerialNumber: o.Equipment.StationName, SoftwareVersion: o.Equipment.SoftwareVersion,
		},
		ContentTime: at,
	}
	for _, r := range m.Regions {
		in.Segments = append(in.Segments, roi.Segment{Region: r.Region, Mask: r.Mask, Rule: r.Profile.Voxels})
	}
	return roi.WriteSEG(in)
}

// report arranges the values for a reader: the summary of each lesion, then the measurements a radiologist knows, then the
// rest in the order of the manual.
func (o Options) report(m *Measured, at time.Time, rev Revision, seg *dicom.DataSet, uid, series string) (*dicom.DataSet, error) {
	source := m.Source.DataSet
	r := sr.Report{
		SOPInstanceUID: uid, SeriesInstanceUID: series, SeriesNumber: reportSeriesNumber, InstanceNumber: rev.Number,
		SeriesDescription: "Radiomics (IBSI) - " + m.Volume.Modality + " - " + strings.Join(names(m), ", "),
		ContentTime:       at,
		Source:            m.Volume.Header,
		Equipment:         o.author(),
		Images: []sr.Series{{
			StudyInstanceUID: m.Volume.Header.String(dicom.StudyInstanceUID), SeriesInstanceUID: m.Volume.Series, Modality: m.Volume.Modality,
			FrameOfReferenceUID: m.Volume.FrameOfReference, Instances: instances(m.Volume),
		}},
		Contours: []sr.Document{document(source)},
	}
	if rev.Predecessor != nil {
		r.Predecessors = []sr.Document{*rev.Predecessor}
	}
	common := !slices.ContainsFunc(m.Regions, func(x MeasuredRegion) bool { return x.Profile.Hash() != m.Regions[0].Profile.Hash() })
	if common {
		r.Algorithm = o.algorithm(m.Regions[0])
	}
	// Regions may see the images in different ways, as SUV of different kinds: then each says which.
	views := slices.ContainsFunc(m.Regions, func(x MeasuredRegion) bool { return x.Image != m.Regions[0].Image })
	for i, x := range m.Regions {
		category, kind := codes(x.Region)
		for k, share := range shares(x.Result.Values) {
			g := sr.Group{
				TrackingIdentifier: x.Region.TrackingID, TrackingUID: x.Region.TrackingUID,
				Category: category, Finding: kind, Site: sr.Code(x.Region.Site),
				Segment:      sr.Segment{Number: i + 1, Document: document(seg)},
				SourceSeries: m.Volume.Series,
			}
			if x.Region.Site != (roi.Code{}) { // a side is one of something
				g.Laterality = sr.Code(x.Region.Laterality)
			}
			if !common {
				g.Algorithm = o.algorithm(x)
			}
			var err error
			if g.Measurements, err = measurements(share.values, x.Image.Unit); err != nil {
				return nil, err
			}
			lacking := notComputable(share.values)
			if k == 0 {
				g.Comments = append(g.Comments, fmt.Sprintf("Region: %s %d of %s %s", x.Region.Kind(), x.Region.Number, objectName(source), source.String(dicom.SOPInstanceUID)))
				if views {
					for _, note := range x.Image.Notes {
						g.Comments = append(g.Comments, "Images: "+note)
					}
				}
				g.Comments = append(g.Comments, voxels(x.Result))
				g.Comments = append(g.Comments, x.Notes...)
				g.Comments = append(g.Comments, x.Result.Notes...)
			}
			g.Comments = append(g.Comments, share.how...)
			g.Comments = append(g.Comments, lacking...)
			if len(g.Measurements) > 0 {
				r.Groups = append(r.Groups, g)
				continue
			}
			for _, line := range lacking { // TID 1419 wants a measurement in a group
				r.Summary = append(r.Summary, x.Region.TrackingID+": "+line)
			}
		}
		r.Summary = append(r.Summary, summary(x, x.Image.Unit))
	}
	for _, s := range m.Skipped {
		r.Summary = append(r.Summary, fmt.Sprintf("%s: not measured, %s", s.Region.TrackingID, s.Reason))
	}
	if !views {
		for _, note := range m.Regions[0].Image.Notes {
			r.Summary = append(r.Summary, "Images: "+note)
		}
	}
	return sr.New(r)
}

// codes says what a region is, by its codes or its RT ROI Interpreted Type (3006,00A4): where the structure set has neither,
// nothing is better than a guess in a report.
func codes(r roi.Region) (category, finding sr.Code) {
	if r.Type == (roi.Code{}) && r.InterpretedType == "" {
		return sr.Code{}, sr.Code{}
	}
	c, k := r.Property()
	return sr.Code(c), sr.Code(k)
}

func names(m *Measured) (out []string) {
	for _, r := range m.Regions {
		out = append(out, r.Region.TrackingID)
	}
	return out
}

// instances are the images of a volume; a multi-frame one holds many slices.
func instances(v *imaging.Volume) (out []sr.Instance) {
	seen := make(map[string]bool, len(v.SOPInstances))
	for _, uid := range v.SOPInstances {
		if !seen[uid] {
			out = append(out, sr.Instance{SOPClassUID: v.SOPClass, SOPInstanceUID: uid})
		}
		seen[uid] = true
	}
	return out
}

// objectName is what a contour object is called.
func objectName(d *dicom.DataSet) string {
	if d.String(dicom.SOPClassUID) == dicom.RTStructureSetStorage {
		return "RT Structure Set"
	}
	return "Segmentation"
}

// algorithm says by what the values were computed, PS3.16 TID 4019.
func (o Options) algorithm(r MeasuredRegion) sr.Algorithm {
	p := r.Profile
	return sr.Algorithm{
		Name: o.Equipment.Model, Version: o.Equipment.SoftwareVersion,
		Parameters: []string{
			p.Notation(),
			"profile " + p.Name + " sha256:" + p.Hash(),
			"definitions: " + manual,
			"region: " + roi.Describe(p.Voxels, r.Region),
		},
	}
}

// first are the values that a radiologist looks for; they lead each group.
var first = []string{"morph_volume", "morph_diam", "stat_mean", "stat_median", "stat_min", "stat_max", "stat_var", "morph_sphericity"}

// A share is the values of a region that one measurement group holds, and how they differ from those of its other groups.
type share struct {
	values []features.Value
	how    []string
}

// shares puts the values of a region into groups in which no two have the same name, since readers show the name alone:
// the first holds all but those of further aggregations of texture matrices, and of the second fraction of the
// intensity-volume histogram, which have groups of their own.
func shares(values []features.Value) []share {
	const second = "90%"
	out := make([]share, 1)
	at := map[string]int{} // which group holds an aggregation, or the second fraction
	texture := false
	for _, v := range values {
		_, a, _ := features.Lookup(v.Tag)
		key, line := string(a), ""
		switch {
		case v.Tag == "ivh_v90" || v.Tag == "ivh_i90":
			key, line = second, "Intensity-volume histogram: fraction of "+second
		case a == "":
			out[0].values = append(out[0].values, v)
			continue
		default:
			code, words := a.Describe()
			line = fmt.Sprintf("Texture matrices: %s (IBSI %s)", words, code)
			// A family without directions goes with one that has as many dimensions.
			for _, mode := range []string{"_avg", "_comb"} {
				if _, there := at[string(a)+mode]; there {
					key = string(a) + mode
					break
				}
			}
			if !texture { // the first aggregation is in the first group
				texture, at[key] = true, 0
			}
		}
		k, there := at[key]
		if !there {
			k = len(out)
			at[key] = k
			out = append(out, share{})
		}
		out[k].values = append(out[k].values, v)
		if !slices.Contains(out[k].how, line) {
			out[k].how = append(out[k].how, line)
		}
	}
	if _, there := at[second]; there {
		out[0].how = append(out[0].how, "Intensity-volume histogram: fraction of 10%; that of 90% has a group of its own")
	}
	return slices.DeleteFunc(out, func(s share) bool { return len(s.values) == 0 })
}

// measurements turns values into measurements with codes and units, the known ones first.
func measurements(values []features.Value, unit string) ([]sr.Measurement, error) {
	rank := func(tag string) int {
		if i := slices.Index(first, tag); i >= 0 {
			return i
		}
		return len(first)
	}
	values = slices.Clone(values)
	slices.SortStableFunc(values, func(a, b features.Value) int { return rank(a.Tag) - rank(b.Tag) })
	var out []sr.Measurement
	for _, v := range values {
		if v.Reason != "" {
			continue
		}
		f, concept, err := named(v)
		if err != nil {
			return nil, err
		}
		u, _ := sr.UnitFor(f.Code, unit)
		if v.Unit == features.UnitNone {
			u = sr.Unit("1")
		}
		out = append(out, sr.Measurement{Concept: concept, Value: v.Value, Unit: u})
	}
	return out, nil
}

// named finds the feature and the coded concept of a value.
func named(v features.Value) (features.Feature, sr.Code, error) {
	f, _, ok := features.Lookup(v.Tag)
	if !ok {
		return f, sr.Code{}, fmt.Errorf("%s is not in the table of features", v.Tag)
	}
	concept, ok := sr.Concept(f.Code)
	if !ok {
		return f, sr.Code{}, fmt.Errorf("%s: IBSI code %s has no coded concept", v.Tag, f.Code)
	}
	return f, concept, nil
}

// voxels follows the region through the chain: the segmentation holds the voxels it begins with.
func voxels(r features.Result) string {
	return fmt.Sprintf("Voxels: %d in the segmentation, %d of %g x %g x %g mm after interpolation (morphology), %d after re-segmentation (intensities)",
		r.VoxelsInitial, r.VoxelsInterpolated, r.Geometry.Spacing[0], r.Geometry.Spacing[1], r.Geometry.Spacing[2], r.VoxelsIntensity)
}

// notComputable names the values that do not exist, those with the same reason together.
func notComputable(values []features.Value) (lines []string) {
	var reasons []string
	by := map[string][]string{}
	for _, v := range values {
		if v.Reason == "" {
			continue
		}
		name := v.Tag
		if _, concept, err := named(v); err == nil {
			name = concept.Meaning
		}
		if by[v.Reason] == nil {
			reasons = append(reasons, v.Reason)
		}
		by[v.Reason] = append(by[v.Reason], name)
	}
	for _, reason := range reasons {
		lines = append(lines, fmt.Sprintf("Not computable (%s): %s", reason, strings.Join(by[reason], ", ")))
	}
	return lines
}

// summary is one line in plain words about one region.
func summary(x MeasuredRegion, unit string) string {
	value := func(tag string) (float64, bool) {
		for _, v := range x.Result.Values {
			if v.Tag == tag && v.Reason == "" {
				return v.Value, true
			}
		}
		return 0, false
	}
	var parts []string
	if v, ok := value("morph_volume"); ok {
		parts = append(parts, fmt.Sprintf("volume %s cm3", rounded(v/1000)))
	}
	if v, ok := value("morph_diam"); ok {
		parts = append(parts, fmt.Sprintf("largest diameter %s mm", rounded(v)))
	}
	if mean, ok := value("stat_mean"); ok {
		text := fmt.Sprintf("mean %s %s", rounded(mean), unit)
		if variance, ok := value("stat_var"); ok {
			text += fmt.Sprintf(" (SD %s)", rounded(math.Sqrt(variance)))
		}
		parts = append(parts, text)
	}
	lacking := 0
	for _, v := range x.Result.Values {
		if v.Reason != "" {
			lacking++
		}
	}
	count := fmt.Sprintf("%d values", len(x.Result.Values)-lacking)
	if lacking > 0 {
		count += fmt.Sprintf(", %d not computable", lacking)
	}
	return fmt.Sprintf("%s: %s. %s.", x.Region.TrackingID, strings.Join(parts, ", "), count)
}

// rounded shows three significant figures, and never less than the integer part.
func rounded(v float64) string {
	if a := math.Abs(v); a >= 100 || a == 0 {
		return fmt.Sprintf("%.0f", v)
	} else if a >= 10 {
		return fmt.Sprintf("%.1f", v)
	} else if a >= 1 {
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// skippedText lists the regions that could not be measured.
func skippedText(skipped []SkippedRegion) string {
	var parts []string
	for _, s := range skipped {
		parts = append(parts, fmt.Sprintf("%s %d: %s", s.Region.Kind(), s.Region.Number, s.Reason))
	}
	return strings.Join(parts, "; ")
}

// NotComputed writes the report that says why there are no values. image is a header of the series that was to be measured,
// nil where there is none; instances are its images.
func (o Options) NotComputed(contours, image *dicom.DataSet, images []sr.Instance, reasons []*refusal.Refusal, rev Revision) (store.NewInstance, error) {
	source, modality, series := contours, "", ""
	if image != nil {
		source, modality, series = image, image.String(dicom.Modality), image.String(dicom.SeriesInstanceUID)
	}
	var codes, lines []string
	for _, r := range reasons {
		text := fmt.Sprintf("Not computed: %s %s.", sentence(r.Code), strings.TrimSuffix(r.Error(), "."))
		if !slices.Contains(lines, text) {
			lines = append(lines, text)
		}
		if !slices.Contains(codes, string(r.Code)) {
			codes = append(codes, string(r.Code))
		}
	}
	predecessor := ""
	if rev.Predecessor != nil {
		predecessor = rev.Predecessor.SOPInstanceUID
	}
	subject := contours.String(dicom.SOPInstanceUID)
	r := sr.Report{
		SOPInstanceUID: dicom.UIDFrom("radnode", "not computed", rev.Input, o.Equipment.SoftwareVersion, o.Equipment.DeviceUID, strings.Join(lines, "\n"), predecessor),
		// The series of the reports of these contours on these images, so that what comes later stands beside it.
		SeriesInstanceUID: dicom.UIDFrom("radnode", "report series", subject, series),
		SeriesNumber:      reportSeriesNumber, InstanceNumber: rev.Number,
		SeriesDescription: strings.Join(slices.DeleteFunc([]string{"Radiomics not computed", modality, strings.Join(codes, ", ")}, func(s string) bool { return s == "" }), " - "),
		ContentTime:       contentTime(contours, source),
		Source:            source,
		Equipment:         o.author(),
		Contours:          []sr.Document{document(contours)},
		Summary:           lines,
	}
	if len(images) > 0 {
		r.Images = []sr.Series{{
			StudyInstanceUID: image.String(dicom.StudyInstanceUID), SeriesInstanceUID: series, Modality: modality,
			FrameOfReferenceUID: image.String(dicom.FrameOfReferenceUID), Instances: images,
		}}
	}
	if rev.Predecessor != nil {
		r.Predecessors = []sr.Document{*rev.Predecessor}
	}
	d, err := sr.New(r)
	if err != nil {
		return store.NewInstance{}, err
	}
	return newInstance(d)
}

// sentence is what the list says of a reason.
func sentence(c refusal.Code) string {
	r, _ := refusal.Lookup(c)
	return r.Sentence
}

// author is the equipment that writes reports.
func (o Options) author() sr.Equipment {
	return sr.Equipment{
		Manufacturer: o.Equipment.Manufacturer, ModelName: o.Equipment.Model, SoftwareVersion: o.Equipment.SoftwareVersion,
		Name: o.Equipment.StationName, DeviceUID: o.Equipment.DeviceUID,
	}
}

// document names an object with its study and series.
func document(d *dicom.DataSet) sr.Document {
	return sr.Document{
		StudyInstanceUID: d.String(dicom.StudyInstanceUID), SeriesInstanceUID: d.String(dicom.SeriesInstanceUID),
		Instance: sr.Instance{SOPClassUID: d.String(dicom.SOPClassUID), SOPInstanceUID: d.String(dicom.SOPInstanceUID)},
	}
}
