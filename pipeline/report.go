package pipeline

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/imaging"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/pipeline/words"
	"github.com/radnode/radnode/store"
)

// Made is what a computation returns to the hospital.
type Made struct {
	Segmentation store.NewInstance
	Sets         []Set // one for each style, in their order
}

// A Set is what was made in one style.
type Set struct {
	Style Style
	Items []Item
	Keys  map[string]string // SOP Instance UID of each report, by the name under which its successor finds it

	Superseded []string // SOP Instance UIDs of the reports that these name as predecessors
	Lacking    error    // why there is no PDF or capture though the style has them; the reports stand without
}

// An Item is one document: a report or a PDF is one instance, captures are several.
type Item struct {
	Document  Document // empty: for every destination of the style
	Instances []store.NewInstance
}

// A Revision places what is made among what was made of the same contours before.
type Revision struct {
	Input        string                 // digest of the contour object and the images
	Number       int                    // Instance Number, from 1
	Predecessors map[string]sr.Document // the reports that these supersede, by their keys
}

// key is the name of a document for its successor.
func (s Style) key(d Document) string { return string(d) + " " + s.id() }

// before are the reports that documents of a style supersede: for each the one before it in the same style, else in another.
func (r Revision) before(s Style, documents ...Document) (list []sr.Document) {
	for _, d := range documents {
		keys := append([]string{s.key(d)}, slices.Sorted(maps.Keys(r.Predecessors))...)
		for _, k := range keys {
			if p, ok := r.Predecessors[k]; ok && strings.HasPrefix(k, string(d)+" ") {
				list = append(list, p)
				break
			}
		}
	}
	return list
}

// standing are the reports that stand once the sets are made: theirs, and those before that none of them supersedes, as of a
// document that no destination wants any more. When it is wanted again its successor names it.
func (r Revision) standing(sets []Set) map[string]string {
	out := map[string]string{}
	for key, p := range r.Predecessors {
		if !slices.ContainsFunc(sets, func(s Set) bool { return slices.Contains(s.Superseded, p.SOPInstanceUID) }) {
			out[key] = p.SOPInstanceUID
		}
	}
	for _, s := range sets {
		maps.Copy(out, s.Keys)
	}
	return out
}

// uids are the SOP Instance UIDs of documents.
func uids(documents []sr.Document) (list []string) {
	for _, d := range documents {
		list = append(list, d.SOPInstanceUID)
	}
	return list
}

const (
	segmentationSeriesNumber = 9802 // far from those of scanners, beside that of reports
	manual                   = "IBSI reference manual v11 (arXiv:1612.07003)"
)

// Make writes the Segmentation and, in each style, the documents of a measurement. All UIDs and all content derive from the
// input, the profiles, the software version and the installation: computing again gives the same bytes.
func (o Options) Make(m *Measured, rev Revision, styles ...Style) (Made, error) {
	var profiles []string
	for _, r := range m.Regions {
		profiles = append(profiles, fmt.Sprint(r.Region.Number, " ", r.Profile.Name, " ", r.Profile.Hash(), " ", r.Region.OtherSeries))
	}
	w := &writing{
		Options: o, m: m, rev: rev, at: contentTime(m.Source.DataSet, m.Volume.Header),
		identity: []string{rev.Input, o.Equipment.SoftwareVersion, o.Equipment.DeviceUID, strings.Join(profiles, "\n")},
		// The series is that of a configuration by its names, and of its description: what a profile says may change, and then the
		// next revision follows.
		configuration: []string{m.Source.DataSet.String(dicom.SOPInstanceUID), m.Volume.Series, strings.Join(profileNames(m), "\n")},
	}
	var made Made
	var err error
	if w.segmentation, err = w.writeSegmentation(); err != nil {
		return Made{}, fmt.Errorf("segmentation: %w", err)
	}
	if made.Segmentation, err = newInstance(w.segmentation); err != nil {
		return Made{}, fmt.Errorf("segmentation: %w", err)
	}
	for _, style := range styles {
		set, err := w.set(style.Over(DefaultStyle))
		if err != nil {
			return Made{}, fmt.Errorf("report: %w", err)
		}
		made.Sets = append(made.Sets, set)
	}
	return made, nil
}

// A writing is what the documents of one measurement have in common.
type writing struct {
	Options
	m             *Measured
	rev           Revision
	at            time.Time // of Content Date and Time
	identity      []string  // what the content follows from
	configuration []string  // what a series stands for
	segmentation  *dicom.DataSet
}

// uid derives the UID of an instance, seriesUID that of its series.
func (w *writing) uid(what string, more ...string) string {
	return dicom.UIDFrom(slices.Concat([]string{"radnode", what}, w.identity, more)...)
}

func (w *writing) seriesUID(what string, more ...string) string {
	return dicom.UIDFrom(slices.Concat([]string{"radnode", what + " series"}, w.configuration, more)...)
}

// set writes the documents of one style.
func (w *writing) set(style Style) (Set, error) {
	set := Set{Style: style, Keys: map[string]string{}}
	for _, d := range style.Documents {
		if !d.report() {
			continue
		}
		report, err := w.report(style, d)
		if err != nil {
			return set, err
		}
		if err := set.add(d, report); err != nil {
			return set, err
		}
		set.Keys[style.key(d)] = report.String(dicom.SOPInstanceUID)
		set.Superseded = append(set.Superseded, uids(w.rev.before(style, d))...)
	}
	set.Lacking = w.pages(&set)
	return set, nil
}

func (s *Set) add(d Document, objects ...*dicom.DataSet) error {
	item := Item{Document: d}
	for _, o := range objects {
		in, err := newInstance(o)
		if err != nil {
			return err
		}
		item.Instances = append(item.Instances, in)
	}
	s.Items = append(s.Items, item)
	return nil
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

// zoneOf is the zone of the first data set that says it.
func zoneOf(sets ...*dicom.DataSet) *time.Location {
	for _, d := range sets {
		if zone, ok := d.Zone(); ok {
			return zone
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

// writeSegmentation writes the voxels that were measured, one segment for each region in the order of the report's groups.
// It holds no text in a language, and is the same for all destinations.
func (w *writing) writeSegmentation() (*dicom.DataSet, error) {
	m := w.m
	description := DefaultStyle.fill("Measured voxels", m)
	in := roi.SEGInput{
		Source: roi.Source{
			Header: m.Volume.Header, SOPClass: m.Volume.SOPClass, Series: m.Volume.Series,
			SOPInstances: m.Volume.SOPInstances, FrameNumbers: m.Volume.FrameNumbers, Geometry: m.Volume.Grid.Geometry,
		},
		StructureSet:   m.Source.DataSet,
		SOPInstanceUID: w.uid("segmentation"), SeriesInstanceUID: w.seriesUID("segmentation", description), SeriesNumber: segmentationSeriesNumber,
		SeriesDescription: description,
		Equipment: roi.Equipment{
			Manufacturer: w.Equipment.Manufacturer, ModelName: w.Equipment.Model, SerialNumber: w.Equipment.StationName,
			SoftwareVersion: w.Equipment.SoftwareVersion, DeviceUID: w.Equipment.DeviceUID,
		},
		ContentTime: w.at,
	}
	for _, r := range m.Regions {
		in.Segments = append(in.Segments, roi.Segment{Region: r.Region, Mask: r.Mask, Rule: r.Profile.Voxels})
	}
	return roi.WriteSEG(in)
}

// report arranges the values for a reader: the summary of each lesion, then the measurements a radiologist knows, then the
// rest in the order of the manual.
func (w *writing) report(style Style, d Document) (*dicom.DataSet, error) {
	m, l, source := w.m, style.Language, w.m.Source.DataSet
	before, description := w.rev.before(style, d), style.description(d, m)
	r := sr.Report{
		SOPClassUID:       sopClasses[style.SOPClass],
		SOPInstanceUID:    w.uid("report "+string(d), style.id(), strconv.Itoa(w.rev.Number), strings.Join(uids(before), " ")),
		SeriesInstanceUID: w.seriesUID("report "+string(d), style.id(), description),
		SeriesNumber:      style.number(d), InstanceNumber: w.rev.Number, SeriesDescription: description,
		Title: titles[style.Title], Language: string(l), ContentTime: w.at,
		Source:    m.Volume.Header,
		Equipment: w.author(),
		Images: []sr.Series{{
			StudyInstanceUID: m.Volume.Header.String(dicom.StudyInstanceUID), SeriesInstanceUID: m.Volume.Series, Modality: m.Volume.Modality,
			FrameOfReferenceUID: m.Volume.FrameOfReference, Instances: instances(m.Volume), Header: m.Volume.Header,
		}},
		Contours:     []sr.Document{document(source)},
		Predecessors: before,
	}
	if d == Key {
		r.Digits = 5
	}
	common := !slices.ContainsFunc(m.Regions, func(x MeasuredRegion) bool { return x.Profile.Hash() != m.Regions[0].Profile.Hash() })
	if common {
		r.Algorithm = w.algorithm(l, m.Regions[0])
	}
	var further []sr.Group // of regions, after the first of each
	var first summaries
	for i, x := range m.Regions {
		known, err := w.known(x)
		if err != nil {
			return nil, err
		}
		groups := []share{{values: keyValues(x.Result.Values, m.Volume.Modality)}}
		if d == Full {
			groups = shares(x.Result.Values)
		}
		category, kind := codes(x.Region)
		for k, share := range groups {
			g := sr.Group{
				TrackingIdentifier: x.Region.TrackingID, TrackingUID: x.Region.TrackingUID,
				Category: category, Finding: kind, Site: sr.Code(x.Region.Site),
				Segment:      sr.Segment{Number: i + 1, Document: document(w.segmentation)},
				SourceSeries: m.Volume.Series,
				Steps:        steps(x.Profile, share.aggregation, x.Image.Unit, roi.Describe(x.Profile.Voxels, x.Region), share.families()...),
			}
			for i := range g.Steps {
				g.Steps[i].Text = l.Text(g.Steps[i].Text)
			}
			if method, ok := sr.SUVMethod(x.Image.Unit); ok {
				g.Method = method
			}
			if x.Region.Site != (roi.Code{}) { // a side is one of something
				g.Laterality = sr.Code(x.Region.Laterality)
			}
			if !common {
				g.Algorithm = w.algorithm(l, x)
			}
			lead := known
			switch {
			case k > 0:
				lead = nil
			case d == Key:
				lead = inCM3(known)
			}
			if g.Measurements, err = measurements(l, lead, share.values, x.Image.Unit); err != nil {
				return nil, err
			}
			for _, how := range share.how {
				g.Comments = append(g.Comments, l.Text(how))
			}
			lacking := notComputable(l, share.values)
			g.Comments = append(g.Comments, lacking...)
			if k == 0 {
				g.Comments = append(g.Comments, w.remarks(l, x)...)
			}
			switch {
			case len(g.Measurements) == 0: // TID 1419 wants one in a group
				for _, line := range lacking {
					r.Summary = append(r.Summary, x.Region.TrackingID+": "+line)
				}
			case k == 0:
				r.Groups = append(r.Groups, g)
			default:
				further = append(further, g)
			}
		}
		lines, count := summary(l, x, known)
		first.add(x.Region, lines, count)
	}
	r.Groups = append(r.Groups, further...)
	r.Summary = append(first.regions, r.Summary...)
	for _, s := range m.Skipped {
		r.Summary = append(r.Summary, l.Sprintf("%s: not measured, %s", s.Region.TrackingID, l.Detail(s.Reason)))
	}
	if !w.views() {
		r.Summary = append(r.Summary, ofImages(l, m.Regions[0])...)
	}
	r.Summary = append(r.Summary, first.counted()...)
	return sr.New(r)
}

// views says whether regions see the images in different ways, as SUV of different kinds: then each says which.
func (w *writing) views() bool {
	return slices.ContainsFunc(w.m.Regions, func(x MeasuredRegion) bool { return x.Image != w.m.Regions[0].Image })
}

// ofImages is what was noted of the images that a region was measured on.
func ofImages(l words.Language, x MeasuredRegion) (lines []string) {
	for _, note := range x.Image.Notes {
		lines = append(lines, l.Sprintf("Images: %s", l.Text(note)))
	}
	return lines
}

// remarks are what the reader of a region's values should know; the region itself, for machines, comes last.
func (w *writing) remarks(l words.Language, x MeasuredRegion) (lines []string) {
	if w.views() {
		lines = ofImages(l, x)
	}
	lines = append(lines, voxels(l, x.Result))
	for _, note := range slices.Concat(x.Notes, x.Result.Notes) {
		lines = append(lines, l.Text(note))
	}
	if known, err := w.known(x); err == nil && slices.ContainsFunc(known, func(m measurement) bool { return m.tag == metabolic }) {
		lines = append(lines, l.Sprintf("Metabolic volume: all voxels of the region, without a threshold of uptake"))
	}
	source := w.m.Source.DataSet
	return append(lines, l.Sprintf("Region: %s %d of %s %s",
		l.Text(x.Region.Kind()), x.Region.Number, l.Text(objectName(source)), source.String(dicom.SOPInstanceUID)))
}

// codes says what a region is, by its codes or its RT ROI Interpreted Type (3006,00A4): where the structure set has neither,
// nothing is better than a guess in a report.
func codes(r roi.Region) (category, finding sr.Code) {
	if r.Type == (roi.Code{}) && (r.InterpretedType == "" || r.InterpretedType == "ORGAN" && target.MatchString(r.Name)) {
		return sr.Code{}, sr.Code{}
	}
	c, k := r.Property()
	return sr.Code(c), sr.Code(k)
}

// target finds the names of target volumes, ICRU Report 83: planning systems that call every region an organ name them so.
var target = regexp.MustCompile(`(?i)^[gcip]tv`)

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
func (o Options) algorithm(l words.Language, r MeasuredRegion) sr.Algorithm {
	p := r.Profile
	return sr.Algorithm{
		Name: o.Equipment.Model, Version: o.Equipment.SoftwareVersion,
		Parameters: []string{
			p.Notation(),
			l.Sprintf("profile %s sha256:%s", p.Name, p.Hash()),
			l.Sprintf("definitions: %s", manual),
		},
	}
}

// A share is the values of a region that one measurement group holds, and how they differ from those of its other groups.
type share struct {
	values      []features.Value
	how         []string
	aggregation features.Aggregation // of its texture matrices
}

// families are those of the values.
func (s share) families() (list []features.Family) {
	for _, v := range s.values {
		if f, _, ok := features.Lookup(v.Tag); ok && !slices.Contains(list, f.Family) {
			list = append(list, f.Family)
		}
	}
	return list
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
		if out[k].aggregation == "" || strings.Contains(string(a), "_") { // that of directions, where both kinds are there
			out[k].aggregation = a
		}
		if !slices.Contains(out[k].how, line) {
			out[k].how = append(out[k].how, line)
		}
	}
	if _, there := at[second]; there {
		out[0].how = append(out[0].how, "Intensity-volume histogram: fraction of 10%; that of 90% has a group of its own")
	}
	return slices.DeleteFunc(out, func(s share) bool { return len(s.values) == 0 })
}

// skippedText lists the regions that could not be measured.
func skippedText(skipped []SkippedRegion) string {
	var parts []string
	for _, s := range skipped {
		parts = append(parts, fmt.Sprintf("%s %d: %s", s.Region.Kind(), s.Region.Number, s.Reason))
	}
	return strings.Join(parts, "; ")
}

// A Refused is what could not be measured, and why.
type Refused struct {
	Contours  *dicom.DataSet
	Image     *dicom.DataSet // header of the series that was to be measured; nil where there is none
	Instances []sr.Instance  // its images
	Reasons   []*refusal.Refusal
}

// NotComputed writes, in each style, the report that says why there are no values.
func (o Options) NotComputed(x Refused, rev Revision, styles ...Style) (sets []Set, err error) {
	for _, style := range styles {
		style = style.Over(DefaultStyle)
		d := Full // it stands where the first report would
		if i := slices.IndexFunc(style.Documents, Document.report); i >= 0 {
			d = style.Documents[i]
		}
		report, err := o.notComputed(x, rev, style, d)
		if err != nil {
			return nil, err
		}
		set := Set{
			Style: style, Keys: map[string]string{style.key(d): report.String(dicom.SOPInstanceUID)}, Superseded: uids(rev.before(style, Full, Key)),
		}
		if err := set.add("", report); err != nil {
			return nil, err
		}
		sets = append(sets, set)
	}
	return sets, nil
}

func (o Options) notComputed(x Refused, rev Revision, style Style, d Document) (*dicom.DataSet, error) {
	l := style.Language
	description := l.Sprintf("Radiomics not computed")
	source, series := x.Contours, ""
	if x.Image != nil {
		source, series = x.Image, x.Image.String(dicom.SeriesInstanceUID)
		description += " - " + source.String(dicom.Modality)
	}
	var codes, lines []string
	for _, r := range x.Reasons {
		text := l.Sprintf("Not computed: %s", l.Refusal(r))
		if !slices.Contains(lines, text) {
			lines = append(lines, text)
		}
		if !slices.Contains(codes, string(r.Code)) {
			codes = append(codes, string(r.Code))
		}
	}
	before := rev.before(style, Full, Key) // none of their values holds any more
	description += " - " + strings.Join(codes, ", ")
	r := sr.Report{
		SOPClassUID: sopClasses[style.SOPClass],
		SOPInstanceUID: dicom.UIDFrom("radnode", "not computed "+string(d), rev.Input, o.Equipment.SoftwareVersion, o.Equipment.DeviceUID,
			strings.Join(lines, "\n"), style.id(), strconv.Itoa(rev.Number), strings.Join(uids(before), " ")),
		// Which profiles would have measured is not known: a series of its own.
		SeriesInstanceUID: dicom.UIDFrom("radnode", "not computed series "+string(d),
			x.Contours.String(dicom.SOPInstanceUID), series, style.id(), description),
		SeriesNumber: style.number(d), InstanceNumber: rev.Number, SeriesDescription: description,
		Title: titles[style.Title], Language: string(l),
		ContentTime:  contentTime(x.Contours, source),
		Source:       source,
		Equipment:    o.author(),
		Contours:     []sr.Document{document(x.Contours)},
		Summary:      lines,
		Predecessors: before,
	}
	if len(x.Instances) > 0 {
		r.Images = []sr.Series{{
			StudyInstanceUID: source.String(dicom.StudyInstanceUID), SeriesInstanceUID: series, Modality: source.String(dicom.Modality),
			FrameOfReferenceUID: source.String(dicom.FrameOfReferenceUID), Instances: x.Instances, Header: source,
		}}
	}
	return sr.New(r)
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
