// Package sr writes and reads DICOM Structured Reports of measurements: PS3.3
// C.17 for the document, PS3.16 for the templates.
//
// Start at [New]: it makes a Measurement Report (TID 1500) out of a [Report].
// The content items are item.go, the templates that arrange them template.go,
// the attributes around the tree document.go. [Read] reads such a report back,
// whoever wrote it, [Compare] pairs the values of two, [Text] shows any Structured
// Report to a person and [JSON] to a program.
//
// What New returns is valid: every relationship is one that PS3.3 Table
// A.35.13-2 allows, every instance that the tree names is in the evidence, and
// the same Report gives the same bytes. Nothing here knows radiomics; a
// measurement is a code, a number and a unit.
package sr

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/radnode/radnode/dimse/dicom"
)

// A Report is what a measurement report is made of. Fields without the word
// optional have to be there.
type Report struct {
	// SOPClassUID is Comprehensive 3D SR when empty; Comprehensive SR and
	// Enhanced SR carry the same tree to archives that refuse it.
	SOPClassUID       string
	SOPInstanceUID    string
	SeriesInstanceUID string // of this report: never the series of an image or a SEG
	SeriesNumber      int
	SeriesDescription string // optional; control characters become blanks, \ becomes /, cut at 64 characters
	InstanceNumber    int    // from 1; the revision within the series

	// Title is the concept name of the root, PS3.16 CID 7021. Oncology
	// Measurement Report when empty.
	Title       Code
	ContentTime time.Time // when the analysis started; written in the source's time zone, where it names one

	// Language is that of all text, "en" (also where it is empty) or "it". Codes keep their meanings.
	Language string

	// Source is the header of one of the images. Patient and study are copied from it.
	Source            *dicom.DataSet
	Equipment         Equipment
	ProcedureReported []Code // optional

	Images       []Series   // the images that were measured; optional where there are Contours and no Groups
	Contours     []Document // optional: RT Structure Sets that the segments were made from
	Predecessors []Document // optional: reports that this one replaces

	// Algorithm is what made all the groups; leave it empty where groups differ
	// and say it in each of them.
	Algorithm Algorithm
	Groups    []Group
	Summary   []string // lines for the reader; optional where there are groups

	// Digits are the significant ones of Numeric Value (0040,A30A), which is what most viewers show; never fewer than the whole
	// part has. 0 is as many as fit. Floating Point Value (0040,A161) has all bits in any case.
	Digits int

	// CodingSchemes describes the private designators (99...) in use; optional, and not needed for [Private].
	CodingSchemes []CodingScheme
}

// Equipment is the node that writes the report: General Equipment (PS3.3
// C.7.5.1), Contributing Equipment (C.12.1) and the device observer (TID 1004).
type Equipment struct {
	Manufacturer    string
	ModelName       string
	SoftwareVersion string
	SerialNumber    string // optional
	DeviceUID       string // of this installation and version
	Name            string // optional: what the site calls it
}

// An Instance names a SOP instance.
type Instance struct{ SOPClassUID, SOPInstanceUID string }

// A Series is the part of an image series that was measured.
type Series struct {
	StudyInstanceUID    string // the study of Source when empty
	SeriesInstanceUID   string
	Modality            string
	FrameOfReferenceUID string // optional
	Instances           []Instance

	// Header is that of one of the images; optional. What it says of how all of them were made is in the Image Library: grid,
	// and for PET the tracer with all that the uptake values come from.
	Header *dicom.DataSet
}

// A Document is an instance with the study and series it is found in.
type Document struct {
	StudyInstanceUID  string // the study of Source when empty
	SeriesInstanceUID string
	Instance
}

// A Segment is one segment of a Segmentation.
type Segment struct {
	Document
	Number int // Segment Number, from 1
}

// An Algorithm is what computed the measurements, TID 4019.
type Algorithm struct {
	Name       string
	Version    string
	Parameters []string // optional: notation and hash of the configuration
}

func (a Algorithm) zero() bool { return a.Name == "" && a.Version == "" && len(a.Parameters) == 0 }

// A Group is the measurements of one region with one set of parameters, TID 1411.
type Group struct {
	TrackingIdentifier string // the region's name; control characters become blanks
	TrackingUID        string // the same for the same region, also in the Segmentation

	// Optional. Meanings come from other people's objects and are cut at 64 characters.
	Category, Finding, Site, Laterality Code

	Segment      Segment
	SourceSeries string    // Series Instance UID of the images, one of Report.Images
	Method       Code      // optional: Measurement Method of all measurements
	Algorithm    Algorithm // optional, see Report.Algorithm
	Steps        []Step    // optional: how the values came to be; those with codes come first in the template
	Measurements []Measurement
	Comments     []string // optional: "Not computable: ...", with the reasons
}

// A Step is a choice of method that holds for all measurements of a group: coded where there is a code, else in words.
type Step struct {
	Name    Code        // of the step
	Method  Code        // what was chosen; where it has no code, Text says it
	Text    string      // where Method is zero
	Numbers []Parameter // that the method was used with
}

// A Measurement is one NUM of TID 1419.
type Measurement struct {
	Concept    Code
	Display    string  // optional: the name that readers shall see, as "SUV peak"
	Value      float64 // read from other reports it is NaN where they have no value
	Unit       Code
	Modifiers  []CodePair  // choices of method that are codes (HAS CONCEPT MOD)
	Parameters []Parameter // choices of method that are numbers (INFERRED FROM)
	Details    Details     // what else a report that was read says of it; New does not write it
}

// A Parameter is a number that a measurement was derived with.
type Parameter struct {
	Concept Code
	Value   float64
	Unit    Code
}

// A CodingScheme says what a private designator stands for.
type CodingScheme struct{ Designator, Name, Organization string }

// Storage classes that the tree may be written in: the relationships it uses are in all of them.
var sopClasses = []string{dicom.Comprehensive3DSRStorage, dicom.ComprehensiveSRStorage, dicom.EnhancedSRStorage}

// New makes the SOP instance. An error names the field that is missing or wrong.
func New(r Report) (*dicom.DataSet, error) {
	r, err := r.complete()
	if err != nil {
		return nil, err
	}
	evidence, err := r.evidence()
	if err != nil {
		return nil, err
	}
	root := r.measurementReport()
	if err := root.check(); err != nil {
		return nil, err
	}
	if err := evidence.covers(root); err != nil {
		return nil, err
	}
	d := dicom.New()
	r.header(d, root, evidence)
	root.encodeTo(d)
	return d, nil
}

func missing(field, why string) error { return fmt.Errorf("sr: Report.%s: %s", field, why) }

// complete fills in the defaults and refuses what the standard requires and is not there.
func (r Report) complete() (Report, error) {
	if r.Source == nil {
		return r, missing("Source", "the header of a source image is needed for patient and study")
	}
	study := r.Source.String(dicom.StudyInstanceUID)
	if !dicom.AcceptableUID(study) {
		return r, missing("Source", "the source image has no valid Study Instance UID (0020,000D)")
	}
	if r.SOPClassUID == "" {
		r.SOPClassUID = dicom.Comprehensive3DSRStorage
	}
	if r.Title.zero() {
		r.Title = OncologyMeasurementReport
	}
	r.Language = orElse(r.Language, "en")
	switch {
	case !slices.Contains(sopClasses, r.SOPClassUID):
		return r, missing("SOPClassUID", fmt.Sprintf("%q is not Comprehensive 3D SR, Comprehensive SR or Enhanced SR", r.SOPClassUID))
	case !slices.ContainsFunc(titles, r.Title.is):
		return r, missing("Title", fmt.Sprintf("%s is not a title of PS3.16 CID 7021", r.Title))
	case languages[r.Language].zero():
		return r, missing("Language", fmt.Sprintf("%q is neither en nor it", r.Language))
	case !dicom.ValidUID(r.SOPInstanceUID):
		return r, missing("SOPInstanceUID", "not a valid UID")
	case !dicom.ValidUID(r.SeriesInstanceUID):
		return r, missing("SeriesInstanceUID", "not a valid UID")
	case r.SeriesNumber < 1:
		return r, missing("SeriesNumber", "must be 1 or more")
	case r.InstanceNumber < 1:
		return r, missing("InstanceNumber", "must be 1 or more")
	case r.ContentTime.IsZero():
		return r, missing("ContentTime", "not set")
	case len(r.Images) == 0 && (len(r.Groups) > 0 || len(r.Contours) == 0):
		return r, missing("Images", "no image series: the report would not say what was measured")
	case len(r.Groups) == 0 && len(r.Summary) == 0:
		return r, missing("Groups", "nothing measured and no summary that says why")
	}
	if err := r.Equipment.check(); err != nil {
		return r, err
	}
	if err := r.Algorithm.check("Algorithm"); err != nil {
		return r, err
	}
	for i, s := range r.CodingSchemes {
		if s.Designator == "" || len(s.Designator) > 16 || !plain(s.Designator) {
			return r, missing(fmt.Sprintf("CodingSchemes[%d].Designator", i), "needs 1 to 16 characters")
		}
	}
	r.SeriesDescription = dicom.CleanLine(r.SeriesDescription, 64)

	r.Images = slices.Clone(r.Images)
	for i := range r.Images {
		s := &r.Images[i]
		field := fmt.Sprintf("Images[%d]", i)
		s.StudyInstanceUID = orElse(s.StudyInstanceUID, study)
		switch {
		case !dicom.AcceptableUID(s.SeriesInstanceUID):
			return r, missing(field+".SeriesInstanceUID", "not a valid UID")
		case s.FrameOfReferenceUID != "" && !dicom.AcceptableUID(s.FrameOfReferenceUID):
			return r, missing(field+".FrameOfReferenceUID", "not a valid UID")
		case modalities[s.Modality] == "":
			return r, missing(field+".Modality", fmt.Sprintf("%q is not an image modality of PS3.16 CID 29 known here", s.Modality))
		case len(s.Instances) == 0:
			return r, missing(field+".Instances", "empty")
		}
	}
	r.Contours = inStudy(r.Contours, study)
	r.Predecessors = inStudy(r.Predecessors, study)
	r.ProcedureReported = slices.Clone(r.ProcedureReported)
	for i := range r.ProcedureReported {
		r.ProcedureReported[i].shortenMeaning()
	}
	r.Groups = slices.Clone(r.Groups)
	for i := range r.Groups {
		r.Groups[i].Segment.StudyInstanceUID = orElse(r.Groups[i].Segment.StudyInstanceUID, study)
		if err := r.Groups[i].complete(fmt.Sprintf("Groups[%d]", i), r.Images); err != nil {
			return r, err
		}
	}
	r.Summary = slices.Clone(r.Summary)
	for i := range r.Summary {
		if r.Summary[i] = dicom.CleanText(r.Summary[i]); r.Summary[i] == "" {
			return r, missing(fmt.Sprintf("Summary[%d]", i), "empty")
		}
	}
	return r, nil
}

func (g *Group) complete(field string, images []Series) error {
	g.TrackingIdentifier = dicom.CleanText(g.TrackingIdentifier)
	switch {
	case g.TrackingIdentifier == "":
		return missing(field+".TrackingIdentifier", "empty: viewers name the lesion by it")
	case !dicom.ValidUID(g.TrackingUID):
		return missing(field+".TrackingUID", "not a valid UID")
	case g.Segment.Number < 1 || g.Segment.Number > 65535:
		return missing(field+".Segment.Number", "must be 1 to 65535") // US
	case !slices.ContainsFunc(images, func(s Series) bool { return s.SeriesInstanceUID == g.SourceSeries }):
		return missing(field+".SourceSeries", fmt.Sprintf("%q is not one of Report.Images", g.SourceSeries))
	case !g.Laterality.zero() && g.Site.zero():
		return missing(field+".Site", "a laterality needs the site that it belongs to")
	case len(g.Measurements) == 0:
		return missing(field+".Measurements", "empty: leave the group out and say why in the summary") // TID 1419 row 5
	}
	if err := g.Algorithm.check(field + ".Algorithm"); err != nil {
		return err
	}
	for _, c := range []*Code{&g.Category, &g.Finding, &g.Site, &g.Laterality} {
		c.shortenMeaning()
	}
	g.Comments = slices.Clone(g.Comments)
	for i := range g.Comments {
		if g.Comments[i] = dicom.CleanText(g.Comments[i]); g.Comments[i] == "" {
			return missing(fmt.Sprintf("%s.Comments[%d]", field, i), "empty")
		}
	}
	if err := g.completeSteps(field); err != nil {
		return err
	}
	seen := make(map[string]int, len(g.Measurements))
	g.Measurements = slices.Clone(g.Measurements)
	for i := range g.Measurements {
		m := &g.Measurements[i]
		m.Display = dicom.CleanText(m.Display)
		k := m.key()
		if j, twice := seen[k]; twice {
			return missing(fmt.Sprintf("%s.Measurements[%d]", field, i),
				fmt.Sprintf("%s is there already as number %d with the same modifiers and parameters", m.Concept, j))
		}
		seen[k] = i
	}
	return nil
}

func (g *Group) completeSteps(field string) error {
	g.Steps = slices.Clone(g.Steps)
	for i := range g.Steps {
		s := &g.Steps[i]
		s.Text = dicom.CleanText(s.Text)
		if s.Method.zero() == (s.Text == "") {
			return missing(fmt.Sprintf("%s.Steps[%d]", field, i), fmt.Sprintf("%s needs a method or a text, and not both", s.Name))
		}
	}
	return nil
}

// key is equal for two measurements that a reader could not tell apart.
func (m Measurement) key() string {
	how := make([]string, 0, len(m.Modifiers)+len(m.Parameters))
	for _, p := range m.Modifiers {
		how = append(how, strings.Join([]string{p.Name.Scheme, p.Name.Value, p.Value.Scheme, p.Value.Value}, "\\"))
	}
	for _, p := range m.Parameters {
		how = append(how, fmt.Sprint(p.Concept.Scheme, "\\", p.Concept.Value, "\\", p.Value, "\\", p.Unit.Value))
	}
	slices.Sort(how)
	return m.Concept.Scheme + "\\" + m.Concept.Value + "\n" + strings.Join(how, "\n")
}

func (e Equipment) check() error {
	for _, f := range []struct {
		name, value string
		optional    bool
	}{
		{"Manufacturer", e.Manufacturer, false},
		{"ModelName", e.ModelName, false},
		{"SoftwareVersion", e.SoftwareVersion, false},
		{"SerialNumber", e.SerialNumber, true},
		{"Name", e.Name, true},
	} {
		switch {
		case f.value == "" && !f.optional:
			return missing("Equipment."+f.name, "empty")
		case f.value != "" && (!plain(f.value) || len([]rune(f.value)) > 64):
			return missing("Equipment."+f.name, fmt.Sprintf("%q does not fit an LO of 64 characters", f.value))
		}
	}
	if !dicom.ValidUID(e.DeviceUID) {
		return missing("Equipment.DeviceUID", "not a valid UID") // TID 1004 row 1
	}
	return nil
}

func (a Algorithm) check(field string) error {
	if a.zero() {
		return nil
	}
	if a.Name == "" {
		return missing(field+".Name", "empty")
	}
	if a.Version == "" {
		return missing(field+".Version", "empty")
	}
	for i, p := range a.Parameters {
		if p == "" {
			return missing(fmt.Sprintf("%s.Parameters[%d]", field, i), "empty")
		}
	}
	return nil
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func inStudy(docs []Document, study string) []Document {
	docs = slices.Clone(docs)
	for i := range docs {
		docs[i].StudyInstanceUID = orElse(docs[i].StudyInstanceUID, study)
	}
	return docs
}

func (c *Code) shortenMeaning() { c.Meaning = dicom.CleanLine(c.Meaning, 64) }

// plain says whether a string can be one value of SH or LO, PS3.5 Table 6.2-1.
func plain(s string) bool {
	return strings.TrimSpace(s) == s && !strings.ContainsFunc(s, func(r rune) bool { return r == '\\' || unicode.IsControl(r) })
}
