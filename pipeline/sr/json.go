package sr

import (
	"encoding/json"
	"io"
	"math"
	"strings"

	"github.com/radnode/radnode/dimse/dicom"
)

// JSON writes a Structured Report as one line of JSON for a program. file says
// where the report came from.
//
// The keys of a measurement report (TID 1500) are those of the types below. All
// of them are always there: a text that the report does not have is "", a list
// is [], a code or a number is null. A code is {"value", "scheme", "meaning"}. A
// number has the digits that read back the same bits, and where it is null its
// qualifier may say why. Of any other template the same header is written, and
// the items of the tree under "content", which a measurement report has null.
func JSON(w io.Writer, d *dicom.DataSet, file string) error {
	root, err := parseDocument(d)
	if err != nil {
		return err
	}
	var out jsonReport
	if root.isMeasurementReport() {
		out = jsonOf(contentOf(d, root))
	} else {
		c := header(d)
		c.Evidence, c.Predecessors = evidenceOf(d), documentsOf(d, dicom.PredecessorDocumentsSequence)
		c.Template, c.Title, c.Language = root.template, root.name, root.findCode(languageOfContent)
		c.Observers = observers(root.children)
		out = jsonOf(c)
		out.Content = jsonItems(root.children)
	}
	out.File = file
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(out)
}

type jsonReport struct {
	File              string `json:"file"`
	SOPClassUID       string `json:"sop_class_uid"`
	SOPClass          string `json:"sop_class"`
	SOPInstanceUID    string `json:"sop_instance_uid"`
	SeriesInstanceUID string `json:"series_instance_uid"`
	SeriesNumber      string `json:"series_number"`
	SeriesDescription string `json:"series_description"`
	InstanceNumber    string `json:"instance_number"`
	Completion        string `json:"completion"`
	Verification      string `json:"verification"`
	Time              string `json:"time"` // ISO 8601, with the offset where the report has one

	Patient   jsonPatient    `json:"patient"`
	Study     jsonStudy      `json:"study"`
	Equipment jsonEquipment  `json:"equipment"`
	Observers []jsonObserver `json:"observers"`

	Template  string        `json:"template"` // 1500
	Title     *jsonCode     `json:"title"`
	Language  *jsonCode     `json:"language"`
	Procedure []*jsonCode   `json:"procedures_reported"`
	Algorithm jsonAlgorithm `json:"algorithm"`

	Groups      []jsonGroup       `json:"groups"`
	Derived     []jsonMeasurement `json:"derived"`
	Summary     []string          `json:"summary"`
	Evaluations []jsonEvaluation  `json:"evaluations"`

	Images       []jsonSeries   `json:"images"`
	Contours     []jsonDocument `json:"contours"`
	Predecessors []jsonDocument `json:"predecessors"`
	Evidence     []jsonDocument `json:"evidence"`
	Content      []jsonItem     `json:"content"`
}

type jsonCode struct {
	Value   string `json:"value"`
	Scheme  string `json:"scheme"`
	Meaning string `json:"meaning"`
}

type jsonPatient struct {
	Name       string `json:"name"`
	ID         string `json:"id"`
	IssuerOfID string `json:"issuer_of_id"`
	BirthDate  string `json:"birth_date"`
	Sex        string `json:"sex"`
}

type jsonStudy struct {
	UID             string `json:"study_instance_uid"`
	Date            string `json:"date"`
	Time            string `json:"time"`
	ID              string `json:"id"`
	Description     string `json:"description"`
	AccessionNumber string `json:"accession_number"`
}

type jsonEquipment struct {
	Manufacturer    string `json:"manufacturer"`
	ModelName       string `json:"model_name"`
	SoftwareVersion string `json:"software_version"`
	SerialNumber    string `json:"serial_number"`
	DeviceUID       string `json:"device_uid"`
	StationName     string `json:"station_name"`
}

type jsonObserver struct {
	Type         *jsonCode `json:"type"`
	Name         string    `json:"name"`
	Organization string    `json:"organization"`
	LoginName    string    `json:"login_name"`
	UID          string    `json:"uid"`
	Manufacturer string    `json:"manufacturer"`
	ModelName    string    `json:"model_name"`
	SerialNumber string    `json:"serial_number"`
	Place        string    `json:"place"`
	Role         *jsonCode `json:"role"`
}

type jsonAlgorithm struct {
	Name       string   `json:"name"`
	Version    string   `json:"version"`
	Parameters []string `json:"parameters"`
}

type jsonGroup struct {
	TrackingIdentifier string `json:"tracking_identifier"`
	TrackingUID        string `json:"tracking_uid"`
	Template           string `json:"template"` // 1411 volumetric, 1410 planar, 1501 image
	ActivitySession    string `json:"activity_session"`

	TimePoint jsonTimePoint `json:"time_point"`
	Category  *jsonCode     `json:"finding_category"`
	Finding   *jsonCode     `json:"finding"`
	Sites     []jsonSite    `json:"sites"`
	Purpose   *jsonCode     `json:"purpose"`

	Regions      []jsonRegion    `json:"regions"`
	SourceSeries string          `json:"source_series"`
	References   []jsonReference `json:"references"`
	Method       *jsonCode       `json:"method"`
	Algorithm    jsonAlgorithm   `json:"algorithm"`
	Steps        []jsonStep      `json:"steps"`

	Measurements []jsonMeasurement `json:"measurements"`
	Evaluations  []jsonEvaluation  `json:"evaluations"`
	Comments     []string          `json:"comments"`
}

type jsonTimePoint struct {
	Label    string    `json:"label"`
	Subject  string    `json:"subject"`
	Protocol string    `json:"protocol"`
	Type     *jsonCode `json:"type"`
	Order    string    `json:"order"`
}

type jsonSite struct {
	Site       *jsonCode `json:"site"`
	Laterality *jsonCode `json:"laterality"`
	Modifier   *jsonCode `json:"topographical_modifier"`
}

type jsonRegion struct {
	Concept             *jsonCode    `json:"concept"`
	ValueType           string       `json:"value_type"` // IMAGE, SCOORD, SCOORD3D or COMPOSITE
	GraphicType         string       `json:"graphic_type"`
	Points              []*float64   `json:"points"` // column, row for SCOORD; x, y, z for SCOORD3D
	FrameOfReferenceUID string       `json:"frame_of_reference_uid"`
	Object              jsonDocument `json:"object"` // segmentation, image drawn on, or RT Structure Set
	Segments            []int        `json:"segments"`
	Frames              []int        `json:"frames"`
	ROI                 string       `json:"roi"`
}

type jsonDocument struct {
	StudyInstanceUID  string `json:"study_instance_uid"`
	SeriesInstanceUID string `json:"series_instance_uid"`
	SOPClassUID       string `json:"sop_class_uid"`
	SOPInstanceUID    string `json:"sop_instance_uid"`
}

type jsonReference struct {
	Concept  *jsonCode    `json:"concept"`
	Object   jsonDocument `json:"object"`
	Segments []int        `json:"segments"`
	Frames   []int        `json:"frames"`
}

type jsonStep struct {
	Name    *jsonCode       `json:"name"`
	Method  *jsonCode       `json:"method"` // null where only text says it
	Text    string          `json:"text"`
	Numbers []jsonParameter `json:"numbers"`
}

type jsonParameter struct {
	Concept *jsonCode `json:"concept"`
	Value   *float64  `json:"value"`
	Unit    *jsonCode `json:"unit"`
}

type jsonMeasurement struct {
	Concept    *jsonCode        `json:"concept"`
	Display    string           `json:"display"` // the name to show, "" where it is that of the concept
	Value      *float64         `json:"value"`   // null where the report has none
	Unit       *jsonCode        `json:"unit"`
	Qualifier  *jsonCode        `json:"qualifier"` // why there is none
	Modifiers  []jsonPair       `json:"modifiers"`
	Parameters []jsonParameter  `json:"parameters"`
	Properties []jsonEvaluation `json:"properties"`
	Numbers    []jsonParameter  `json:"numbers"`
	Regions    []jsonRegion     `json:"regions"`
	References []jsonReference  `json:"references"`
}

type jsonPair struct {
	Name  *jsonCode `json:"name"`
	Value *jsonCode `json:"value"`
}

type jsonEvaluation struct {
	Name  *jsonCode        `json:"name"`
	Value *jsonCode        `json:"value"` // null where it is text
	Text  string           `json:"text"`
	With  []jsonEvaluation `json:"with"`
}

type jsonSeries struct {
	StudyInstanceUID    string         `json:"study_instance_uid"`
	SeriesInstanceUID   string         `json:"series_instance_uid"`
	Modality            string         `json:"modality"`
	FrameOfReferenceUID string         `json:"frame_of_reference_uid"`
	Instances           []jsonInstance `json:"instances"`
}

type jsonInstance struct {
	SOPClassUID    string `json:"sop_class_uid"`
	SOPInstanceUID string `json:"sop_instance_uid"`
}

// A jsonItem is a content item of another template; keys without a value are left out.
type jsonItem struct {
	Relationship string        `json:"relationship"`
	ValueType    string        `json:"value_type"`
	Name         *jsonCode     `json:"name"`
	Text         string        `json:"text,omitempty"` // of items whose value is one string; Graphic Type of coordinates
	Code         *jsonCode     `json:"code,omitempty"`
	Value        *float64      `json:"value,omitempty"`
	Unit         *jsonCode     `json:"unit,omitempty"`
	Qualifier    *jsonCode     `json:"qualifier,omitempty"`
	Object       *jsonInstance `json:"object,omitempty"`
	Segments     []int         `json:"segments,omitempty"`
	Frames       []int         `json:"frames,omitempty"`
	Points       []*float64    `json:"points,omitempty"`
	Frame        string        `json:"frame_of_reference_uid,omitempty"`
	Content      []jsonItem    `json:"content,omitempty"`
}

func jsonOf(c *Content) jsonReport {
	e := c.Equipment
	return jsonReport{
		SOPClassUID: c.SOPClassUID, SOPClass: dicom.UIDName(c.SOPClassUID), SOPInstanceUID: c.SOPInstanceUID,
		SeriesInstanceUID: c.SeriesInstanceUID, SeriesNumber: c.SeriesNumber, SeriesDescription: c.SeriesDescription,
		InstanceNumber: c.InstanceNumber, Completion: c.Completion, Verification: c.Verification,
		Time:      isoTime(c.ContentDate, c.ContentTime, c.TimezoneOffset),
		Patient:   jsonPatient{c.Patient.Name, c.Patient.ID, c.Patient.IssuerOfID, day(c.Patient.BirthDate), c.Patient.Sex},
		Study:     jsonStudy{c.StudyInstanceUID, day(c.Study.Date), clock(c.Study.Time), c.Study.ID, c.Study.Description, c.Study.AccessionNumber},
		Equipment: jsonEquipment{e.Manufacturer, e.ModelName, e.SoftwareVersion, e.SerialNumber, e.DeviceUID, e.Name},
		Observers: list(c.Observers, func(o Observer) jsonObserver {
			return jsonObserver{o.Type.json(), o.Name, o.Organization, o.LoginName, o.UID, o.Manufacturer, o.ModelName, o.SerialNumber, o.Place, o.Role.json()}
		}),
		Template: c.Template, Title: c.Title.json(), Language: c.Language.json(),
		Procedure: list(c.ProcedureReported, Code.json), Algorithm: c.Algorithm.json(),
		Groups: list(c.Groups, MeasurementGroup.json), Derived: list(c.Derived, Measurement.json),
		Summary: texts(c.Summary), Evaluations: list(c.Evaluations, Evaluation.json),
		Images: list(c.Images, func(s Series) jsonSeries {
			return jsonSeries{s.StudyInstanceUID, s.SeriesInstanceUID, s.Modality, s.FrameOfReferenceUID, list(s.Instances, Instance.json)}
		}),
		Contours: list(c.Contours, Document.json), Predecessors: list(c.Predecessors, Document.json), Evidence: list(c.Evidence, Document.json),
	}
}

func (g MeasurementGroup) json() jsonGroup {
	t := g.TimePoint
	return jsonGroup{
		TrackingIdentifier: g.TrackingIdentifier, TrackingUID: g.TrackingUID, Template: g.Template, ActivitySession: g.ActivitySession,
		TimePoint: jsonTimePoint{t.Label, t.Subject, t.Protocol, t.Type.json(), t.Order},
		Category:  g.Category.json(), Finding: g.Finding.json(), Purpose: g.Purpose.json(),
		Sites:   list(g.Sites, func(s Site) jsonSite { return jsonSite{s.Code.json(), s.Laterality.json(), s.Modifier.json()} }),
		Regions: list(g.Regions, Region.json), SourceSeries: g.SourceSeries, References: list(g.References, Reference.json),
		Method: g.Method.json(), Algorithm: g.Algorithm.json(),
		Steps: list(g.Steps, func(s Step) jsonStep {
			return jsonStep{s.Name.json(), s.Method.json(), s.Text, list(s.Numbers, Parameter.json)}
		}),
		Measurements: list(g.Measurements, Measurement.json), Evaluations: list(g.Evaluations, Evaluation.json), Comments: texts(g.Comments),
	}
}

func (m Measurement) json() jsonMeasurement {
	return jsonMeasurement{
		Concept: m.Concept.json(), Display: m.Display, Value: jsonNumber(m.Value), Unit: m.Unit.json(), Qualifier: m.Details.Qualifier.json(),
		Modifiers:  list(m.Modifiers, func(p CodePair) jsonPair { return jsonPair{p.Name.json(), p.Value.json()} }),
		Parameters: list(m.Parameters, Parameter.json), Properties: list(m.Details.Properties, Evaluation.json),
		Numbers: list(m.Details.Numbers, Parameter.json), Regions: list(m.Details.Regions, Region.json),
		References: list(m.Details.References, Reference.json),
	}
}

func (r Region) json() jsonRegion {
	return jsonRegion{r.Concept.json(), r.ValueType, r.GraphicType, list(r.Points, jsonNumber), r.FrameOfReferenceUID, r.Object.json(),
		jsonInts(r.Segments), jsonInts(r.Frames), r.ROI}
}

func (r Reference) json() jsonReference {
	return jsonReference{r.Concept.json(), r.Document.json(), jsonInts(r.Segments), jsonInts(r.Frames)}
}

func (p Parameter) json() jsonParameter {
	return jsonParameter{p.Concept.json(), jsonNumber(p.Value), p.Unit.json()}
}

func (e Evaluation) json() jsonEvaluation {
	return jsonEvaluation{e.Name.json(), e.Value.json(), e.Text, list(e.With, Evaluation.json)}
}

func (a Algorithm) json() jsonAlgorithm { return jsonAlgorithm{a.Name, a.Version, texts(a.Parameters)} }

func (d Document) json() jsonDocument {
	return jsonDocument{d.StudyInstanceUID, d.SeriesInstanceUID, d.SOPClassUID, d.SOPInstanceUID}
}

func (i Instance) json() jsonInstance { return jsonInstance(i) }

func (c Code) json() *jsonCode {
	if c.zero() {
		return nil
	}
	j := jsonCode(c)
	return &j
}

func jsonItems(items []*item) []jsonItem {
	return list(items, func(it *item) jsonItem {
		j := jsonItem{Relationship: string(it.rel), ValueType: string(it.vt), Name: it.name.json(), Text: it.text, Code: it.code.json(),
			Unit: it.unit.json(), Qualifier: it.qualifier.json(), Segments: it.allSegments(), Frames: it.frames,
			Points: list(it.points, jsonNumber), Frame: it.frame}
		if it.vt == num {
			j.Value = jsonNumber(it.value)
		}
		if it.ref != (Instance{}) {
			ref := it.ref.json()
			j.Object = &ref
		}
		if len(it.children) > 0 {
			j.Content = jsonItems(it.children)
		}
		return j
	})
}

// list is never null in JSON.
func list[T, J any](all []T, convert func(T) J) []J {
	out := make([]J, len(all))
	for i, v := range all {
		out[i] = convert(v)
	}
	return out
}

func texts(s []string) []string { return append([]string{}, s...) }
func jsonInts(n []int) []int    { return append([]int{}, n...) }

// jsonNumber is null for what JSON has no digits for.
func jsonNumber(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// isoTime writes DA, TM and offset as ISO 8601; what is not of these forms stays as it is.
func isoTime(date, tm, offset string) string {
	s := day(date)
	if tm == "" {
		return s
	}
	s += "T" + clock(tm)
	if len(offset) == 5 && strings.ContainsAny(offset[:1], "+-") {
		s += offset[:3] + ":" + offset[3:]
	}
	return s
}
