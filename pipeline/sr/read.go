package sr

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/radnode/radnode/dimse/dicom"
)

// maxDepth bounds the nesting that is read. Templates nest less than ten deep;
// the input may come from anyone.
const maxDepth = 64

// parse reads a content item and what is below it. It takes what is there: an
// unknown value type keeps its name, a missing value is empty, or NaN for NUM.
func parse(d *dicom.DataSet, depth int) (*item, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("sr: content items are nested more than %d deep", maxDepth)
	}
	it := &item{
		rel:  relationship(d.String(dicom.RelationshipType)),
		vt:   valueType(d.String(dicom.ValueType)),
		name: parseCode(d, dicom.ConceptNameCodeSequence),
	}
	switch it.vt {
	case container:
		if t := d.Seq(dicom.ContentTemplateSequence); len(t) > 0 {
			it.template = t[0].String(dicom.TemplateIdentifier)
		}
	case code:
		it.code = parseCode(d, dicom.ConceptCodeSequence)
	case num:
		it.value = math.NaN()
		if m := d.Seq(dicom.MeasuredValueSequence); len(m) > 0 {
			it.unit = parseCode(m[0], dicom.MeasurementUnitsCodeSequence)
			v, ok := m[0].Float(dicom.FloatingPointValue)
			if !ok {
				v, ok = m[0].Float(dicom.NumericValue)
			}
			if ok && !math.IsInf(v, 0) {
				it.value = v
			}
		}
		it.qualifier = parseCode(d, dicom.NumericValueQualifierCodeSequence)
	case image, composite, waveform:
		if r := d.Seq(dicom.ReferencedSOPSequence); len(r) > 0 {
			it.ref = Instance{r[0].String(dicom.ReferencedSOPClassUID), r[0].String(dicom.ReferencedSOPInstanceUID)}
			it.segment, _ = r[0].Int(dicom.ReferencedSegmentNumber)
			if all, err := r[0].Ints(dicom.ReferencedSegmentNumber); err == nil && len(all) > 1 {
				it.segments = all
			}
			if all, err := r[0].Ints(dicom.ReferencedFrameNumber); err == nil && len(all) > 0 {
				it.frames = all
			}
		}
	case sCoord, sCoord3D:
		it.text = d.String(dicom.GraphicType)
		it.points, _ = d.Floats(dicom.GraphicData)
		it.frame = d.String(dicom.ReferencedFrameOfReferenceUID)
	case "":
		// By-reference relationship, PS3.3 C.17.3.2.5: the item is another one of the tree.
		if at, err := d.Ints(dicom.ReferencedContentItemIdentifier); err == nil && len(at) > 0 {
			it.text = "item " + strings.Trim(strings.ReplaceAll(fmt.Sprint(at), " ", "."), "[]")
		}
	default:
		it.text = d.String(textTag[it.vt])
	}
	for _, c := range d.Seq(dicom.ContentSequence) {
		child, err := parse(c, depth+1)
		if err != nil {
			return nil, err
		}
		it.children = append(it.children, child)
	}
	return it, nil
}

// parseDocument reads the tree of a Structured Report of any template.
func parseDocument(d *dicom.DataSet) (*item, error) {
	if d.String(dicom.ValueType) != string(container) {
		return nil, fmt.Errorf("sr: no Structured Report: Value Type (0040,A040) is %q, SOP class %s",
			d.String(dicom.ValueType), cmp.Or(dicom.UIDName(d.String(dicom.SOPClassUID)), "unknown"))
	}
	return parse(d, 0)
}

func parseCode(d *dicom.DataSet, t dicom.Tag) Code {
	s := d.Seq(t)
	if len(s) == 0 {
		return Code{}
	}
	c := Code{
		Value:   s[0].String(dicom.CodeValue),
		Scheme:  s[0].String(dicom.CodingSchemeDesignator),
		Meaning: s[0].String(dicom.CodeMeaning),
	}
	for _, t := range []dicom.Tag{dicom.LongCodeValue, dicom.URNCodeValue} {
		if c.Value == "" {
			c.Value = s[0].String(t)
		}
	}
	return c
}

// named says whether the item's concept name is c, also by a retired code.
func (it *item) named(c Code) bool { return it.name.same(c) }

func (it *item) namedOneOf(cs ...Code) bool { return slices.ContainsFunc(cs, it.named) }

// find gives the first child with the concept name, or nil.
func (it *item) find(c Code) *item {
	if i := slices.IndexFunc(it.children, func(c2 *item) bool { return c2.named(c) }); i >= 0 {
		return it.children[i]
	}
	return nil
}

func (it *item) findText(c Code) string {
	if f := it.find(c); f != nil {
		return f.text
	}
	return ""
}

func (it *item) findCode(c Code) Code {
	if f := it.find(c); f != nil {
		return f.code
	}
	return Code{}
}

// Content is what a measurement report (TID 1500) says, whoever wrote it. What the
// report does not have is empty. Codes are as the report has them, retired ones too.
type Content struct {
	Instance
	StudyInstanceUID, SeriesInstanceUID string
	SeriesNumber, SeriesDescription     string
	InstanceNumber                      string
	Completion, Verification            string // COMPLETE or PARTIAL; VERIFIED or UNVERIFIED

	Patient   Patient
	Study     Study
	Equipment Equipment  // General Equipment: what wrote the report
	Observers []Observer // who or what measured, TID 1001

	Template                 string // Template Identifier of the root: 1500, or empty
	Title                    Code
	Language                 Code
	ContentDate, ContentTime string // DA and TM
	TimezoneOffset           string // +HHMM

	ProcedureReported []Code
	Algorithm         Algorithm          // of all groups
	Groups            []MeasurementGroup // TID 1410, 1411 and 1501
	Derived           []Measurement      // made of the groups, TID 1420
	Summary           []string           // TEXT with the concept name Summary
	Evaluations       []Evaluation       // Qualitative Evaluations of the whole report, without the summary

	Images       []Series   // of the image library
	Contours     []Document // of the image library: composite objects that are no images
	Predecessors []Document
	Evidence     []Document // every instance that was used
}

// Patient is whom the report is about.
type Patient struct{ Name, ID, IssuerOfID, BirthDate, Sex string }

// Study is what the report says of the study that it belongs to.
type Study struct{ Date, Time, ID, Description, AccessionNumber string }

// An Observer is who or what measured: a person (TID 1003) or a device (TID 1004).
type Observer struct {
	Type                                              Code // Person or Device
	Name, Organization, LoginName                     string
	UID, Manufacturer, ModelName, SerialNumber, Place string
	Role                                              Code
}

// A MeasurementGroup is a Group with what other programs say of a region or an
// image besides.
type MeasurementGroup struct {
	Group
	Template        string // 1411 volumetric, 1410 planar, 1501 image; empty where the report does not say
	ActivitySession string
	TimePoint       TimePoint
	Sites           []Site // all of them, the first is also Group.Site
	Purpose         Code   // Geometric purpose of region
	Regions         []Region
	References      []Reference  // source images, illustrations, value maps
	Evaluations     []Evaluation // codes and texts that are neither steps nor comments
}

// A TimePoint says when in a course the group belongs, TID 1502.
type TimePoint struct {
	Label, Subject, Protocol string
	Type                     Code
	Order                    string
}

// A Site is where a finding is.
type Site struct{ Code, Laterality, Modifier Code }

// A Region is where in the images the group was measured.
type Region struct {
	Concept             Code // Referenced Segment, Referenced Segmentation Frame, Image Region, Volume Surface, Region in Space
	ValueType           string
	GraphicType         string    // of SCOORD and SCOORD3D
	Points              []float64 // column and row of the image (SCOORD), or x, y, z in mm (SCOORD3D)
	FrameOfReferenceUID string    // of SCOORD3D
	Object              Document  // the Segmentation, the image that was drawn on, or the RT Structure Set
	Segments, Frames    []int
	ROI                 string // Referenced Region of Interest Identifier of an RT Structure Set
}

// A Reference is an instance with what it is to the group.
type Reference struct {
	Concept Code
	Document
	Segments, Frames []int
}

// An Evaluation is a statement that is no number.
type Evaluation struct {
	Name  Code
	Value Code   // where the statement is coded
	Text  string // otherwise; dates, times, names and UIDs too
	With  []Evaluation
}

// Details are what reports of others say of a measurement besides method and parameters.
type Details struct {
	Qualifier  Code         // why there is no value, PS3.16 CID 42
	Properties []Evaluation // normality, significance, explanations
	Numbers    []Parameter  // statistical properties and uncertainty, TID 310
	Regions    []Region     // where a measurement has a region of its own
	References []Reference
}

// Value gives the first measurement with the concept name, of whichever parameters.
func (g Group) Value(concept Code) (Measurement, bool) {
	i := slices.IndexFunc(g.Measurements, func(m Measurement) bool { return m.Concept.same(concept) })
	if i < 0 {
		return Measurement{}, false
	}
	return g.Measurements[i], true
}

// Measurements reads the groups of a measurement report alone, in their order.
func Measurements(d *dicom.DataSet) ([]Group, error) {
	c, err := Read(d)
	if err != nil {
		return nil, err
	}
	var groups []Group
	for _, g := range c.Groups {
		groups = append(groups, g.Group)
	}
	return groups, nil
}

// Read reads a measurement report (TID 1500) of any program. It forgives what it
// does not know: an item of another template is not looked at, a NUM without a
// value has the value NaN.
func Read(d *dicom.DataSet) (*Content, error) {
	root, err := parse(d, 0)
	if err != nil {
		return nil, err
	}
	if !root.isMeasurementReport() {
		return nil, fmt.Errorf("sr: no Imaging Measurements (126010,DCM) in this document: it is not a measurement report (TID 1500)")
	}
	return contentOf(d, root), nil
}

// isMeasurementReport recognises a report also by its containers: some programs
// write no Content Template Sequence. One that says in words why there is no
// measurement has its title alone.
func (it *item) isMeasurementReport() bool {
	return it.vt == container && (slices.ContainsFunc(titles, it.name.is) || it.find(imagingMeasurements) != nil || it.find(derivedMeasurements) != nil)
}

func contentOf(d *dicom.DataSet, root *item) *Content {
	r := reader{places: places(d), evidence: evidenceOf(d)}
	c := header(d)
	c.Evidence, c.Predecessors = evidenceOf(d), documentsOf(d, dicom.PredecessorDocumentsSequence)
	c.Template, c.Title, c.Language = root.template, root.name, root.findCode(languageOfContent)
	c.Observers = observers(root.children)
	for _, it := range root.children {
		switch {
		case it.vt == code && it.named(procedureReported):
			c.ProcedureReported = append(c.ProcedureReported, it.code)
		case it.vt == text && it.named(summary): // TID 1500 is extensible
			c.Summary = append(c.Summary, it.text)
		case it.vt != container:
		case it.named(imageLibrary):
			r.library(c, it)
		case it.named(imagingMeasurements):
			c.Algorithm = readAlgorithm(it)
			for _, g := range it.children {
				if g.vt == container && g.named(measurementGroup) {
					c.Groups = append(c.Groups, r.group(g))
				}
			}
		case it.named(derivedMeasurements):
			for _, m := range it.children {
				if m.vt == num {
					c.Derived = append(c.Derived, r.measurement(m))
				}
			}
		case it.named(qualitativeEvals):
			for _, e := range it.children {
				if e.vt == text && e.named(summary) {
					c.Summary = append(c.Summary, e.text)
				} else if e.saysSomething() {
					c.Evaluations = append(c.Evaluations, e.evaluation())
				}
			}
		}
	}
	return c
}

func header(d *dicom.DataSet) *Content {
	return &Content{
		Instance:         Instance{d.String(dicom.SOPClassUID), d.String(dicom.SOPInstanceUID)},
		StudyInstanceUID: d.String(dicom.StudyInstanceUID), SeriesInstanceUID: d.String(dicom.SeriesInstanceUID),
		SeriesNumber: d.String(dicom.SeriesNumber), SeriesDescription: d.String(dicom.SeriesDescription),
		InstanceNumber: d.String(dicom.InstanceNumber),
		Completion:     d.String(dicom.CompletionFlag), Verification: d.String(dicom.VerificationFlag),
		Patient: Patient{d.String(dicom.PatientName), d.String(dicom.PatientID), d.String(dicom.IssuerOfPatientID),
			d.String(dicom.PatientBirthDate), d.String(dicom.PatientSex)},
		Study: Study{d.String(dicom.StudyDate), d.String(dicom.StudyTime), d.String(dicom.StudyID),
			d.String(dicom.StudyDescription), d.String(dicom.AccessionNumber)},
		Equipment: Equipment{Manufacturer: d.String(dicom.Manufacturer), ModelName: d.String(dicom.ManufacturerModelName),
			SoftwareVersion: strings.Join(d.Strings(dicom.SoftwareVersions), ", "), SerialNumber: d.String(dicom.DeviceSerialNumber),
			DeviceUID: deviceUID(d), Name: d.String(dicom.StationName)},
		ContentDate: d.String(dicom.ContentDate), ContentTime: d.String(dicom.ContentTime),
		TimezoneOffset: d.String(dicom.TimezoneOffsetFromUTC),
	}
}

// deviceUID is in the Processing Equipment where General Equipment has none.
func deviceUID(d *dicom.DataSet) string {
	if uid := d.String(dicom.DeviceUID); uid != "" {
		return uid
	}
	for _, c := range d.Seq(dicom.ContributingEquipmentSequence) {
		if parseCode(c, dicom.PurposeOfReferenceCodeSequence).is(processingEquipment) {
			return c.String(dicom.DeviceUID)
		}
	}
	return ""
}

// observers reads TID 1001. Each Observer Type begins an observer; where it is left
// out, the name of a person does (TID 1003 row 1) and the UID of a device (TID 1004 row 1).
func observers(items []*item) []Observer {
	var all []Observer
	for _, it := range items {
		var last Observer
		if len(all) > 0 {
			last = all[len(all)-1]
		}
		switch {
		case it.named(observerType):
			all = append(all, Observer{Type: it.code})
		case it.named(personObserverName) && (!last.Type.is(person) || last.Name != ""):
			all = append(all, Observer{Type: person})
		case it.named(deviceObserverUID) && (!last.Type.is(device) || last.UID != ""):
			all = append(all, Observer{Type: device})
		}
		if len(all) == 0 {
			continue
		}
		o := &all[len(all)-1]
		switch {
		case it.namedOneOf(personObserverName, deviceObserverName):
			o.Name = it.text
		case it.named(deviceObserverUID):
			o.UID = it.text
		case it.named(deviceManufacturer):
			o.Manufacturer = it.text
		case it.named(deviceModelName):
			o.ModelName = it.text
		case it.named(deviceSerialNumber):
			o.SerialNumber = it.text
		case it.named(deviceLocation):
			o.Place = it.text
		case it.named(personOrganization):
			o.Organization = it.text
		case it.named(personLoginName):
			o.LoginName = it.text
		case it.namedOneOf(personRole, personRoleHere, deviceRole):
			o.Role = it.code
		}
	}
	return all
}

type reader struct {
	places   map[string]Document // by SOP Instance UID
	evidence []Document          // the same in their order
}

// at gives the instance with its study and series, where the evidence knows them.
func (r reader) at(i Instance) Document {
	d := r.places[i.SOPInstanceUID]
	d.Instance = i
	return d
}

// library reads TID 1600: images by their series, in the order of first mention.
// What holds for all images of a library group is said at the group or at each image.
func (r reader) library(c *Content, lib *item) {
	bySeries := map[[2]string]int{}
	var add func(it *item, m, frame, series string)
	add = func(it *item, m, frame, series string) {
		if s := it.findCode(modality).Value; s != "" {
			m = s
		}
		if s := it.findText(frameOfReferenceUID); s != "" {
			frame = s
		}
		if s := it.findText(seriesInstanceUID); s != "" {
			series = s
		}
		switch it.vt {
		case composite:
			c.Contours = append(c.Contours, r.at(it.ref))
		case image, waveform:
			at := r.at(it.ref)
			if at.SeriesInstanceUID == "" {
				at.SeriesInstanceUID = series
			}
			key := [2]string{at.StudyInstanceUID, at.SeriesInstanceUID}
			i, known := bySeries[key]
			if !known {
				i = len(c.Images)
				bySeries[key] = i
				c.Images = append(c.Images, Series{StudyInstanceUID: at.StudyInstanceUID, SeriesInstanceUID: at.SeriesInstanceUID,
					Modality: m, FrameOfReferenceUID: frame})
			}
			c.Images[i].Instances = append(c.Images[i].Instances, it.ref)
		case container:
			before := len(c.Images) + len(c.Contours)
			for _, child := range it.children {
				if child.rel == contains {
					add(child, m, frame, series)
				}
			}
			// A group that describes a series, and leaves its images to the evidence.
			if own := it.findText(seriesInstanceUID); own != "" && len(c.Images)+len(c.Contours) == before {
				s := Series{SeriesInstanceUID: own, Modality: m, FrameOfReferenceUID: frame}
				for _, p := range r.evidence {
					if p.SeriesInstanceUID == own {
						s.StudyInstanceUID, s.Instances = p.StudyInstanceUID, append(s.Instances, p.Instance)
					}
				}
				c.Images = append(c.Images, s)
			}
		}
	}
	add(lib, "", "", "")
}

func readAlgorithm(it *item) Algorithm {
	a := Algorithm{Name: it.findText(algorithmName), Version: it.findText(algorithmVersion)}
	for _, c := range it.children {
		if c.vt == text && c.named(algorithmParameters) {
			a.Parameters = append(a.Parameters, c.text)
		}
	}
	return a
}

func (r reader) group(it *item) MeasurementGroup {
	g := MeasurementGroup{
		Group: Group{
			TrackingIdentifier: it.findText(trackingIdentifier),
			TrackingUID:        it.findText(trackingUID),
			Category:           it.findCode(findingCategory),
			Finding:            it.findCode(finding),
			SourceSeries:       it.findText(sourceSeries),
			Method:             it.findCode(measurementMethod),
			Algorithm:          readAlgorithm(it),
		},
		Template:        it.template,
		ActivitySession: it.findText(activitySession),
		TimePoint: TimePoint{it.findText(timePoint), it.findText(subjectTimePoint), it.findText(protocolTimePoint),
			it.findCode(timePointType), ""},
		Purpose: it.findCode(purposeOfRegion),
	}
	if o := it.find(timePointOrder); o != nil && o.vt == num {
		g.TimePoint.Order = round(o.value)
	}
	for _, c := range it.children {
		switch {
		case c.namedOneOf(trackingIdentifier, trackingUID, findingCategory, finding, sourceSeries, measurementMethod, algorithmName,
			algorithmVersion, algorithmParameters, activitySession, timePoint, subjectTimePoint, protocolTimePoint, timePointType,
			timePointOrder, purposeOfRegion):
		case c.vt == code && c.named(findingSite):
			g.Sites = append(g.Sites, Site{c.code, c.findCode(laterality), c.findCode(topographicalModifier)})
		case c.vt == num:
			g.Measurements = append(g.Measurements, r.measurement(c))
		case c.vt == text && c.named(comment):
			g.Comments = append(g.Comments, c.text)
		case c.isRegion():
			g.Regions = append(g.Regions, r.region(c))
			if c.named(referencedSegment) && g.Segment.Number == 0 {
				g.Segment = Segment{r.at(c.ref), c.segment}
			}
		case c.vt == image || c.vt == composite || c.vt == waveform:
			g.References = append(g.References, r.reference(c))
		case c.isStep():
			g.Steps = append(g.Steps, c.step())
		case c.saysSomething():
			g.Evaluations = append(g.Evaluations, c.evaluation())
		}
	}
	if len(g.Sites) > 0 {
		g.Site, g.Laterality = g.Sites[0].Code, g.Sites[0].Laterality
	}
	return g
}

// isStep tells how a value came to be from what was seen in the images: both are
// CODE and TEXT of the same rows of the template. A step has numbers, or a name
// that the IBSI or a private scheme gives.
func (it *item) isStep() bool {
	if it.vt != code && it.vt != text || it.rel != contains {
		return false
	}
	return it.name.Scheme == IBSI || strings.HasPrefix(it.name.Scheme, "99") ||
		slices.ContainsFunc(it.children, func(c *item) bool { return c.vt == num })
}

func (it *item) step() Step {
	s := Step{Name: it.name, Method: it.code, Text: it.text}
	for _, c := range it.children {
		if c.vt == num {
			s.Numbers = append(s.Numbers, Parameter{c.name, c.value, c.unit})
		}
	}
	return s
}

// saysSomething says whether the item can be an Evaluation.
func (it *item) saysSomething() bool { return it.vt == code || textTag[it.vt] != 0 }

func (it *item) evaluation() Evaluation {
	e := Evaluation{Name: it.name, Value: it.code, Text: it.text}
	for _, c := range it.children {
		if c.saysSomething() {
			e.With = append(e.With, c.evaluation())
		}
	}
	return e
}

// isRegion says whether the item is one of the rows of TID 1410 and 1411 that say where.
func (it *item) isRegion() bool {
	switch it.vt {
	case sCoord, sCoord3D:
		return true
	case image:
		return it.namedOneOf(referencedSegment, referencedFrame) || it.segment > 0
	case composite:
		return it.named(regionInSpace)
	}
	return false
}

func (it *item) allSegments() []int {
	if it.segment > 0 && it.segments == nil {
		return []int{it.segment}
	}
	return it.segments
}

func (r reader) region(it *item) Region {
	g := Region{Concept: it.name, ValueType: string(it.vt)}
	switch it.vt {
	case sCoord, sCoord3D:
		g.GraphicType, g.Points, g.FrameOfReferenceUID = it.text, it.points, it.frame
		for _, c := range it.children {
			if c.vt == image {
				g.Object, g.Frames = r.at(c.ref), c.frames
				break
			}
		}
	default:
		g.Object, g.Segments, g.Frames = r.at(it.ref), it.allSegments(), it.frames
		g.ROI = it.findText(referencedROI)
	}
	return g
}

func (r reader) reference(it *item) Reference {
	return Reference{it.name, r.at(it.ref), it.allSegments(), it.frames}
}

func (r reader) measurement(it *item) Measurement {
	m := Measurement{Concept: it.name, Value: it.value, Unit: it.unit}
	m.Details.Qualifier = it.qualifier
	for _, c := range it.children {
		switch {
		case c.vt == code && c.rel == hasConceptMod:
			m.Modifiers = append(m.Modifiers, CodePair{c.name, c.code})
			for _, more := range c.children { // the laterality of a site
				if more.vt == code {
					m.Modifiers = append(m.Modifiers, CodePair{more.name, more.code})
				}
			}
		case c.vt == num && c.rel == inferredFrom:
			m.Parameters = append(m.Parameters, Parameter{c.name, c.value, c.unit})
		case c.vt == num:
			m.Details.Numbers = append(m.Details.Numbers, Parameter{c.name, c.value, c.unit})
		case c == it.display():
			if c.text != it.name.Meaning {
				m.Display = c.text
			}
		case c.isRegion():
			m.Details.Regions = append(m.Details.Regions, r.region(c))
		case c.vt == image || c.vt == composite || c.vt == waveform:
			m.Details.References = append(m.Details.References, r.reference(c))
		case c.saysSomething():
			m.Details.Properties = append(m.Details.Properties, c.evaluation())
		}
	}
	return m
}

// places says in which study and series each instance of the evidence is.
func places(d *dicom.DataSet) map[string]Document {
	at := map[string]Document{}
	for _, doc := range evidenceOf(d) {
		at[doc.SOPInstanceUID] = doc
	}
	return at
}

func evidenceOf(d *dicom.DataSet) []Document {
	return append(documentsOf(d, dicom.CurrentRequestedProcedureEvidenceSequence), documentsOf(d, dicom.PertinentOtherEvidenceSequence)...)
}

// documentsOf reads a Hierarchical SOP Instance Reference Macro, PS3.3 C.17.2.1.
func documentsOf(d *dicom.DataSet, t dicom.Tag) (all []Document) {
	for _, study := range d.Seq(t) {
		for _, series := range study.Seq(dicom.ReferencedSeriesSequence) {
			for _, in := range series.Seq(dicom.ReferencedSOPSequence) {
				all = append(all, Document{
					StudyInstanceUID:  study.String(dicom.StudyInstanceUID),
					SeriesInstanceUID: series.String(dicom.SeriesInstanceUID),
					Instance:          Instance{in.String(dicom.ReferencedSOPClassUID), in.String(dicom.ReferencedSOPInstanceUID)},
				})
			}
		}
	}
	return all
}

// Concepts that radnode reads and does not write.
var (
	activitySession       = Code{"C67447", "NCIt", "Activity Session"}
	derivedMeasurements   = dcm("126011", "Derived Imaging Measurements")
	deviceLocation        = dcm("121017", "Device Observer Physical Location During Observation")
	deviceRole            = dcm("113876", "Device Role in Procedure")
	person                = dcm("121006", "Person")
	personLoginName       = dcm("128774", "Person Observer's Login Name")
	personObserverName    = dcm("121008", "Person Observer Name")
	personOrganization    = dcm("121009", "Person Observer's Organization Name")
	personRole            = dcm("121010", "Person Observer's Role in the Organization")
	personRoleHere        = dcm("121011", "Person Observer's Role in this Procedure")
	protocolTimePoint     = dcm("126071", "Protocol Time Point Identifier")
	purposeOfRegion       = dcm("130400", "Geometric purpose of region")
	referencedFrame       = dcm("121214", "Referenced Segmentation Frame")
	referencedROI         = dcm("130489", "Referenced Region of Interest Identifier")
	regionInSpace         = dcm("130488", "Region in Space")
	subjectTimePoint      = dcm("126070", "Subject Time Point Identifier")
	timePoint             = Code{"C2348792", "UMLS", "Time Point"}
	timePointOrder        = dcm("126073", "Time Point Order")
	timePointType         = dcm("126072", "Time Point Type")
	topographicalModifier = sct("106233006", "Topographical modifier")
)
