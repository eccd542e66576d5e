package sr

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/radnode/radnode/dimse/dicom"
)

var reportsOfOthers = [][]string{
	{"data", "dcmqi", "sr-example", "sr.dcm"},
	{"data", "highdicom", "sr_document.dcm"},
	{"data", "highdicom", "sr_document_with_multiple_groups.dcm"},
}

// reports are files of other programs and of radnode, for the readers of other programs.
func reports(t testing.TB) (files []string, sets []*dicom.DataSet) {
	t.Helper()
	for _, path := range reportsOfOthers {
		name := shared(t, path...)
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files, sets = append(files, name), append(sets, read(t, b))
	}
	all := variants(t)
	for _, name := range []string{"full", "Enhanced SR", "generic title", "every feature there"} {
		files, sets = append(files, save(t, all[name])), append(sets, all[name])
	}
	return files, sets
}

const highdicomGroups = `
import sys, json, highdicom
def code(c): return [c.value, c.scheme_designator, c.meaning] if c is not None else ["", "", ""]
files = []
for f in sys.argv[1:]:
    c = highdicom.sr.srread(f).content
    groups = []
    for kind, found in (("1410", c.get_planar_roi_measurement_groups()), ("1411", c.get_volumetric_roi_measurement_groups()), ("1501", c.get_image_measurement_groups())):
        for g in found:
            groups.append({
                "Kind": kind, "Name": g.tracking_identifier, "UID": g.tracking_uid, "Category": code(g.finding_category), "Finding": code(g.finding_type),
                "Method": code(g.method), "Reference": code(getattr(g, "reference_type", None)),
                "Sites": [[code(s.value), code(s.laterality), code(s.topographical_modifier)] for s in g.finding_sites],
                "Evaluations": [[code(q.name), code(q.value)] for q in g.get_qualitative_evaluations()],
                "Values": [[code(m.name), float(m.value).hex() if m.value is not None else "", code(m.unit)] for m in g.get_measurements()],
            })
    files.append(groups)
json.dump(files, sys.stdout)
`

// highdicom's srread finds the same groups in every file, and the same bits in them.
func TestReadAgreesWithHighdicom(t *testing.T) {
	files, sets := reports(t)
	type coded [3]string
	var want [][]struct {
		Kind, Name, UID                      string
		Category, Finding, Method, Reference coded
		Sites                                [][3]coded
		Evaluations                          [][2]coded
		Values                               [][3]json.RawMessage
	}
	if err := json.Unmarshal(python(t, highdicomGroups, files...), &want); err != nil {
		t.Fatal(err)
	}
	codeIn := func(c coded) Code { return Code{c[0], c[1], c[2]} }
	values := 0
	for i, d := range sets {
		got, err := Read(d)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Groups) != len(want[i]) || len(want[i]) == 0 {
			t.Errorf("%s: %d groups, highdicom has %d", files[i], len(got.Groups), len(want[i]))
			continue
		}
		for _, w := range want[i] {
			k := slices.IndexFunc(got.Groups, func(g MeasurementGroup) bool { return g.TrackingUID == w.UID })
			if k < 0 {
				t.Errorf("%s: no group %s", files[i], w.UID)
				continue
			}
			g := got.Groups[k]
			if g.TrackingIdentifier != w.Name || g.Category != codeIn(w.Category) || g.Finding != codeIn(w.Finding) || g.Method != codeIn(w.Method) {
				t.Errorf("%s: group %+v, highdicom has %+v", files[i], g, w)
			}
			if g.Template != "" && g.Template != w.Kind {
				t.Errorf("%s: %s is of TID %s, highdicom says %s", files[i], g.TrackingIdentifier, g.Template, w.Kind)
			}
			var reference Code
			if len(g.Regions) > 0 {
				reference = g.Regions[0].Concept
			}
			if reference != codeIn(w.Reference) {
				t.Errorf("%s: region %s, highdicom has %s", g.TrackingIdentifier, reference, w.Reference)
			}
			var sites [][3]coded
			for _, s := range g.Sites {
				sites = append(sites, [3]coded{coded{s.Code.Value, s.Code.Scheme, s.Code.Meaning},
					coded{s.Laterality.Value, s.Laterality.Scheme, s.Laterality.Meaning}, coded{s.Modifier.Value, s.Modifier.Scheme, s.Modifier.Meaning}})
			}
			if !slices.Equal(sites, w.Sites) {
				t.Errorf("%s: sites %v, highdicom has %v", g.TrackingIdentifier, sites, w.Sites)
			}
			for _, e := range w.Evaluations { // highdicom counts the category among them
				if name := codeIn(e[0]); name != findingCategory && !slices.ContainsFunc(g.Evaluations, func(h Evaluation) bool {
					return h.Name == name && h.Value == codeIn(e[1])
				}) && !slices.ContainsFunc(g.Steps, func(h Step) bool { return h.Name == name && h.Method == codeIn(e[1]) }) {
					t.Errorf("%s: no evaluation %s", g.TrackingIdentifier, name)
				}
			}
			if len(g.Measurements) != len(w.Values) {
				t.Errorf("%s: %d values, highdicom has %d", g.TrackingIdentifier, len(g.Measurements), len(w.Values))
				continue
			}
			for j, m := range g.Measurements {
				var name, unit coded
				var hex string
				for k, to := range []any{&name, &hex, &unit} {
					if err := json.Unmarshal(w.Values[j][k], to); err != nil {
						t.Fatal(err)
					}
				}
				v, err := strconv.ParseFloat(hex, 64)
				if err != nil || math.Float64bits(v) != math.Float64bits(m.Value) || m.Concept != codeIn(name) || m.Unit != codeIn(unit) {
					t.Errorf("%s: %s %x %s, highdicom has %v %s %v", g.TrackingIdentifier, m.Concept, m.Value, m.Unit, name, hex, unit)
				}
				values++
			}
		}
	}
	if values < 200 {
		t.Errorf("only %d values compared", values)
	}
}

// dcmqiGroup is what dcmqi's tid1500reader writes of a group.
type dcmqiGroup struct {
	ActivitySession, TimePoint       string
	Finding                          dcmqiCode
	ReferencedSegment                int
	SegmentationSOPInstanceUID       string
	SourceSeriesForImageSegmentation string
	TrackingIdentifier               string
	TrackingUniqueIdentifier         string
	MeasurementItems                 []dcmqiItem
	AlgorithmIdentification          json.RawMessage `json:"measurementAlgorithmIdentification"`
	FindingSite, Laterality          dcmqiCode
	QualitativeEvaluations           []json.RawMessage
}

type dcmqiItem struct {
	Quantity, Units, DerivationModifier dcmqiCode
	Value                               string
}

type dcmqiCode struct{ CodeValue, CodingSchemeDesignator, CodeMeaning string }

// dcmqi's tid1500reader, which 3D Slicer calls, has the same in its JSON; its values are those of Numeric Value.
func TestReadAgreesWithDcmqi(t *testing.T) {
	interpreter := os.Getenv("RADNODE_PYTHON")
	if interpreter == "" {
		absent(t, "RADNODE_PYTHON does not name the interpreter beside which pip has put dcmqi's tid1500reader")
	}
	reader := filepath.Join(filepath.Dir(interpreter), "tid1500reader")
	if _, err := os.Stat(reader); err != nil {
		absent(t, "dcmqi's tid1500reader is not installed: pip install dcmqi")
	}
	all := variants(t)
	b, err := os.ReadFile(shared(t, reportsOfOthers[0]...))
	if err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]*dicom.DataSet{"dcmqi's example": read(t, b), "full": all["full"], "every feature there": all["every feature there"]} {
		out := filepath.Join(t.TempDir(), "report.json")
		if log, err := exec.Command(reader, "--inputDICOM", save(t, d), "--outputMetadata", out).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		text, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		var want struct {
			CompletionFlag, VerificationFlag, SeriesDescription, SeriesNumber, InstanceNumber string
			ImageLibrary                                                                      []string
			ObserverContext                                                                   struct{ PersonObserverName, DeviceObserverUID string }
			ProcedureReported                                                                 dcmqiCode
			Measurements                                                                      []dcmqiGroup
		}
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		var line bytes.Buffer
		if err := JSON(&line, d, ""); err != nil {
			t.Fatal(err)
		}
		var got jsonReport
		if err := json.Unmarshal(line.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		var images []string
		for _, s := range got.Images {
			for _, i := range s.Instances {
				images = append(images, i.SOPInstanceUID)
			}
		}
		for _, c := range got.Contours { // dcmqi takes them for images
			images = append(images, c.SOPInstanceUID)
		}
		if !slices.Equal(images, want.ImageLibrary) || len(images) == 0 {
			t.Errorf("%s: %d images in the library, dcmqi has %d", name, len(images), len(want.ImageLibrary))
		}
		if got.Completion != want.CompletionFlag || got.Verification != want.VerificationFlag || got.SeriesDescription != want.SeriesDescription ||
			got.SeriesNumber != want.SeriesNumber || got.InstanceNumber != want.InstanceNumber || !want.ProcedureReported.is(got.Procedure[0]) {
			t.Errorf("%s: header %+v, dcmqi has %+v", name, got, want)
		}
		if o := got.Observers[0]; len(got.Observers) != 1 || o.UID != want.ObserverContext.DeviceObserverUID ||
			o.UID == "" && o.Name != want.ObserverContext.PersonObserverName {
			t.Errorf("%s: observers %+v, dcmqi has %+v", name, got.Observers, want.ObserverContext)
		}
		if len(got.Groups) != len(want.Measurements) {
			t.Fatalf("%s: %d groups, dcmqi has %d", name, len(got.Groups), len(want.Measurements))
		}
		for i, w := range want.Measurements {
			g := got.Groups[i]
			if g.ActivitySession != w.ActivitySession || g.TimePoint.Label != w.TimePoint || !w.Finding.is(g.Finding) ||
				g.TrackingIdentifier != w.TrackingIdentifier || g.TrackingUID != w.TrackingUniqueIdentifier ||
				g.SourceSeries != w.SourceSeriesForImageSegmentation || g.Regions[0].Segments[0] != w.ReferencedSegment ||
				g.Regions[0].Object.SOPInstanceUID != w.SegmentationSOPInstanceUID {
				t.Errorf("%s: group %+v, dcmqi has %+v", name, g, w)
			}
			if len(g.Measurements) != len(w.MeasurementItems) {
				t.Fatalf("%s: %d values, dcmqi has %d", name, len(g.Measurements), len(w.MeasurementItems))
			}
			for k, m := range g.Measurements {
				n := w.MeasurementItems[k]
				derived := dcmqiCode{} // dcmqi reads no other modifier as a derivation
				for _, p := range m.Modifiers {
					if p.Name.Value == derivation.Value {
						derived = dcmqiCode{p.Value.Value, p.Value.Scheme, p.Value.Meaning}
					}
				}
				v, err := strconv.ParseFloat(n.Value, 64)
				if err != nil || dicom.FormatDS(*m.Value) != dicom.FormatDS(v) || !n.Quantity.is(m.Concept) || !n.Units.is(m.Unit) || derived != n.DerivationModifier {
					t.Errorf("%s: %+v %v, dcmqi has %+v", name, m.Concept, *m.Value, n)
				}
			}
		}
	}
}

func (c dcmqiCode) is(j *jsonCode) bool {
	if j == nil {
		return c == dcmqiCode{}
	}
	return c == dcmqiCode{j.Value, j.Scheme, j.Meaning}
}

// DCMTK counts as many content items.
func TestReadAgreesWithDsrdump(t *testing.T) {
	dsrdump := need(t, "dsrdump")
	files, sets := reports(t)
	for i, d := range sets {
		out, err := exec.Command(dsrdump, "-Ph", files[i]).Output()
		if err != nil {
			t.Fatalf("%s: %v", files[i], err)
		}
		want := 0
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(strings.TrimLeft(line, " "), "<") {
				want++
			}
		}
		root, err := parseDocument(d)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		root.walk(func(*item) { got++ })
		if got != want || want < 10 {
			t.Errorf("%s: %d content items, DCMTK has %d", files[i], got, want)
		}
	}
}

const pydicomRetired = `
import sys, json
from pydicom.sr._snomed_dict import mapping
json.dump(mapping["SRT"], sys.stdout)
`

// Each retired code of SNOMED is replaced as pydicom's table has it, which is made from PS3.16 Annex O; each texture code
// by a feature.
func TestRetiredCodes(t *testing.T) {
	seen := map[string]bool{}
	for old, now := range retired["DCM"] {
		if _, ok := Concept(now); !ok || seen[now] {
			t.Errorf("%s stands for %s, which is no feature or there twice", old, now)
		}
		seen[now] = true
	}
	if len(seen) != 57 { // CP-1764
		t.Errorf("%d texture codes", len(seen))
	}
	for _, c := range []struct{ old, now Code }{
		{Code{"G-C0E3", "SRT", "Finding Site"}, findingSite}, {Code{"G-C0E3", "SNM3", "x"}, findingSite}, {Code{"G-C171", "99SDM", "x"}, laterality},
		{Code{"R-427CE", "SRT", ""}, findingCategory}, {dcm("128781", "Joint Maximum of GLCM"), concept(t, "GYBY")}, {dcm("126065", ""), concept(t, "8ZQL")},
		{Code{"C67447", "NCIT", ""}, activitySession}, {finding, finding},
	} {
		if !c.old.same(c.now) || !c.now.same(c.old) {
			t.Errorf("%s is not %s", c.old, c.now)
		}
	}
	if (Code{"G-C0E3", "DCM", ""}).same(findingSite) || finding.same(findingSite) || (Code{"", "SRT", ""}).same(Code{"", "SCT", ""}) {
		t.Error("other codes are the same")
	}
	var want map[string]string
	if err := json.Unmarshal(python(t, pydicomRetired), &want); err != nil {
		t.Fatal(err)
	}
	for old, now := range retired["SRT"] {
		if want[old] != now {
			t.Errorf("%s stands for %s, want %s", old, now, want[old])
		}
	}
}

// edited is the sample with the first group changed.
func edited(t testing.TB, change func(root, group *item)) *dicom.DataSet {
	t.Helper()
	d := make1(t, sample(t))
	root := tree(t, d)
	change(root, root.find(imagingMeasurements).find(measurementGroup))
	out := root.encode()
	for e := range d.Elements() {
		if !out.Has(e.Tag) {
			out.Copy(d, e.Tag)
		}
	}
	return out
}

// evaluationsOf is the container of Qualitative Evaluations, made where there is none.
func evaluationsOf(root *item) *item {
	if c := root.find(qualitativeEvals); c != nil {
		return c
	}
	return root.add(contains, newContainer(qualitativeEvals, ""))
}

// The whole of a report as a program gets it.
func TestReadContent(t *testing.T) {
	got, err := Read(read(t, file(t, make1(t, sample(t)))))
	if err != nil {
		t.Fatal(err)
	}
	r := sample(t)
	r.Images[0].StudyInstanceUID, r.Contours[0].StudyInstanceUID, r.Predecessors[0].StudyInstanceUID = study, study, study
	want := &Content{
		Instance:         Instance{dicom.Comprehensive3DSRStorage, "2.25.101"},
		StudyInstanceUID: study, SeriesInstanceUID: "2.25.102", SeriesNumber: "9001", SeriesDescription: "Radiomics (IBSI) GTVp", InstanceNumber: "2",
		Completion: "COMPLETE", Verification: "UNVERIFIED",
		Patient:   Patient{"Żółć^Łucja=山田^花子", "RN-0042", "HOSP", "19610203", "F"},
		Study:     Study{"20140501", "101112", "S1", "CT thorax", "ACC1"},
		Equipment: Equipment{Manufacturer: "radnode", ModelName: "radnode", SoftwareVersion: "0.1.0", SerialNumber: "n1", DeviceUID: "2.25.7"},
		Observers: []Observer{{Type: device, Name: "RADNODE", UID: "2.25.7", Manufacturer: "radnode", ModelName: "radnode", SerialNumber: "n1"}},
		Template:  "1500", Title: OncologyMeasurementReport, Language: Code{"en-US", "RFC5646", "English (United States)"},
		ContentDate: "20260302", ContentTime: "013015", TimezoneOffset: "+0200",
		ProcedureReported: r.ProcedureReported, Algorithm: r.Algorithm, Summary: r.Summary,
		Images: r.Images, Contours: r.Contours, Predecessors: r.Predecessors,
	}
	for _, i := range r.Images[0].Instances {
		want.Evidence = append(want.Evidence, Document{study, ctSeries, i})
	}
	want.Evidence = append(want.Evidence, r.Contours[0], r.Groups[0].Segment.Document, r.Groups[1].Segment.Document)
	for _, g := range r.Groups {
		m := MeasurementGroup{Group: g, Template: "1411"}
		if !g.Site.zero() {
			m.Sites = []Site{{Code: g.Site, Laterality: g.Laterality}}
		}
		m.Regions = []Region{{Concept: referencedSegment, ValueType: "IMAGE", Object: g.Segment.Document, Segments: []int{g.Segment.Number}}}
		want.Groups = append(want.Groups, m)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want - got +:\n%s", diff)
	}
}

// Rows that radnode does not write: those of other programs, and those with retired codes.
func TestReadRowsOfOthers(t *testing.T) {
	ct, rt := Instance{dicom.CTImageStorage, ctSeries + ".100"}, Instance{dicom.RTStructureSetStorage, "1.2.826.0.1.3680043.8.498.5"}
	at := func(i Instance) Document { return Document{study, ctSeries, i} }
	hu := Unit("HU")
	d := edited(t, func(root, g *item) {
		g.template = "1410"
		g.children = slices.DeleteFunc(g.children, func(it *item) bool { return it.named(findingSite) || it.named(referencedSegment) })
		g.add(hasObsContext, newText(timePoint, "baseline"))
		g.add(hasObsContext, newText(subjectTimePoint, "TP0"))
		g.add(hasObsContext, newCode(timePointType, dcm("1", "Baseline")))
		g.add(hasObsContext, newNum(timePointOrder, 1, Unit("1")))
		g.add(hasObsContext, newText(Code{"C67447", "NCIt", "Activity Session"}, "7"))
		g.add(contains, newCode(purposeOfRegion, dcm("2", "Outline")))
		old := g.add(hasConceptMod, newCode(Code{"G-C0E3", "SRT", "Finding Site"}, Code{"T-28000", "SRT", "Lung"}))
		old.add(hasConceptMod, newCode(Code{"G-C171", "SRT", "Laterality"}, Code{"G-A100", "SRT", "Right"}))
		old.add(hasConceptMod, newCode(Code{"G-A1F8", "SRT", "Topographical modifier"}, Code{"R-1", "SRT", "Apical"}))
		g.add(hasConceptMod, newCode(findingSite, sct("2", "Pleura")))
		g.add(contains, &item{vt: image, name: referencedFrame, ref: Instance{dicom.SegmentationStorage, "2.25.301"}, segment: 2})
		g.add(contains, &item{vt: composite, name: regionInSpace, ref: rt}).add(hasProperties, newText(referencedROI, "7"))
		g.add(contains, &item{vt: image, name: dcm("121233", "Source image for segmentation"), ref: ct})
		bin := g.add(contains, newCode(Code{"4R0B", IBSI, "Intensity discretisation"}, Code{"Q3RU", IBSI, "Fixed bin size"}))
		bin.add(hasProperties, newNum(Code{"w", "99RADNODE", "Bin width"}, 25, hu))
		g.add(contains, newText(Code{"r", "99RADNODE", "Resampling"}, "linear")).add(inferredFrom, newNum(Code{"s", "99RADNODE", "Spacing"}, 1, Unit("mm")))
		g.add(contains, newText(Code{"n", "99RADNODE", "Normalisation"}, "z-score"))
		g.add(contains, newText(dcm("3", "Appearance"), "spiculated"))
		g.add(contains, newCode(dcm("121403", "Level of Significance"), dcm("4", "Significant")))
		m := g.find(concept(t, "RNU0"))
		m.add(hasProperties, newCode(dcm("121402", "Normality"), dcm("5", "Abnormal")))
		m.add(hasProperties, newNum(dcm("6", "Uncertainty"), 0.5, Unit("mm3")))
		m.add(hasConceptMod, newText(equivalentMeaning, "Lesion volume"))
		m.add(inferredFrom, &item{vt: image, name: dcm("121112", "Source of Measurement"), ref: ct})
		// An image that the evidence does not name, with what is said of it: TID 1602 at the image goes before that of the group.
		mr := root.find(imageLibrary).add(contains, newContainer(imageLibraryGroup, ""))
		mr.add(hasAcqContext, newCode(modality, dcm("CT", "Computed Tomography")))
		mr.add(hasAcqContext, newUID(seriesInstanceUID, "1.2.3"))
		slice := mr.add(contains, &item{vt: image, ref: Instance{dicom.MRImageStorage, "1.2.3.4"}})
		slice.add(hasAcqContext, newCode(modality, dcm("MR", "Magnetic Resonance")))
		derived := root.add(contains, newContainer(derivedMeasurements, ""))
		derived.add(contains, newNum(dcm("8", "Ratio"), 2, Unit("1")))
		evaluationsOf(root).add(contains, newCode(dcm("9", "Response"), dcm("10", "Stable disease")))
		root.add(hasObsContext, newCode(observerType, person))
		root.add(hasObsContext, &item{vt: pName, name: personObserverName, text: "Doe^Jane"})
		root.add(hasObsContext, newText(personOrganization, "Hospital"))
		root.add(hasObsContext, &item{vt: pName, name: personObserverName, text: "Roe^Jo"}) // no Observer Type: a person
	})
	// Coordinates, and more than one segment: radnode writes none of them.
	scoord := dicom.New()
	scoord.SetString(dicom.RelationshipType, "CONTAINS")
	scoord.SetString(dicom.ValueType, "SCOORD")
	scoord.SetString(dicom.GraphicType, "POLYLINE")
	scoord.SetFloat(dicom.GraphicData, 1, 2, 3.5, 4, 1, 2)
	scoord.SetSeq(dicom.ConceptNameCodeSequence, dcm("111030", "Image Region").encode())
	from := dicom.New()
	from.SetString(dicom.RelationshipType, "SELECTED FROM")
	from.SetString(dicom.ValueType, "IMAGE")
	ref := ct.encode()
	ref.SetInt(dicom.ReferencedFrameNumber, 3, 4)
	from.SetSeq(dicom.ReferencedSOPSequence, ref)
	scoord.SetSeq(dicom.ContentSequence, from)
	top := d.Seq(dicom.ContentSequence)
	measured := top[slices.IndexFunc(top, func(it *dicom.DataSet) bool {
		return parseCode(it, dicom.ConceptNameCodeSequence).is(imagingMeasurements)
	})]
	groups := measured.Seq(dicom.ContentSequence)
	first := groups[slices.IndexFunc(groups, func(it *dicom.DataSet) bool { return it.String(dicom.ValueType) == "CONTAINER" })]
	first.SetSeq(dicom.ContentSequence, append(slices.Clone(first.Seq(dicom.ContentSequence)), scoord)...)

	c, err := Read(read(t, file(t, d)))
	if err != nil {
		t.Fatal(err)
	}
	got := c.Groups[0]
	want := MeasurementGroup{Group: sample(t).Groups[0], Template: "1410", ActivitySession: "7",
		TimePoint: TimePoint{Label: "baseline", Subject: "TP0", Type: dcm("1", "Baseline"), Order: "1"},
		Purpose:   dcm("2", "Outline"),
		Sites: []Site{{Code{"T-28000", "SRT", "Lung"}, Code{"G-A100", "SRT", "Right"}, Code{"R-1", "SRT", "Apical"}},
			{Code: sct("2", "Pleura")}},
		Regions: []Region{
			{Concept: referencedFrame, ValueType: "IMAGE", Object: Document{study, "2.25.300", Instance{dicom.SegmentationStorage, "2.25.301"}}, Segments: []int{2}},
			{Concept: regionInSpace, ValueType: "COMPOSITE", Object: Document{study, "1.2.826.0.1.3680043.8.498.4", rt}, ROI: "7"},
			{Concept: dcm("111030", "Image Region"), ValueType: "SCOORD", GraphicType: "POLYLINE", Points: []float64{1, 2, 3.5, 4, 1, 2}, Object: at(ct), Frames: []int{3, 4}},
		},
		References:  []Reference{{Concept: dcm("121233", "Source image for segmentation"), Document: at(ct)}},
		Evaluations: []Evaluation{{Name: dcm("3", "Appearance"), Text: "spiculated"}, {Name: dcm("121403", "Level of Significance"), Value: dcm("4", "Significant")}},
	}
	want.Segment, want.Site, want.Laterality = Segment{}, want.Sites[0].Code, want.Sites[0].Laterality
	want.Steps = append(want.Steps, []Step{
		{Name: Code{"4R0B", IBSI, "Intensity discretisation"}, Method: Code{"Q3RU", IBSI, "Fixed bin size"}, Numbers: []Parameter{{Code{"w", "99RADNODE", "Bin width"}, 25, hu}}},
		{Name: Code{"r", "99RADNODE", "Resampling"}, Text: "linear", Numbers: []Parameter{{Code{"s", "99RADNODE", "Spacing"}, 1, Unit("mm")}}},
		{Name: Code{"n", "99RADNODE", "Normalisation"}, Text: "z-score"},
	}...)
	want.Measurements[0].Display = "Lesion volume"
	want.Measurements[0].Details = Details{
		Properties: []Evaluation{{Name: dcm("121402", "Normality"), Value: dcm("5", "Abnormal")}},
		Numbers:    []Parameter{{dcm("6", "Uncertainty"), 0.5, Unit("mm3")}},
		References: []Reference{{Concept: dcm("121112", "Source of Measurement"), Document: at(ct)}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want - got +:\n%s", diff)
	}
	if len(c.Derived) != 1 || c.Derived[0].Value != 2 || len(c.Evaluations) != 1 || c.Evaluations[0].Value.Meaning != "Stable disease" || len(c.Summary) != 1 {
		t.Errorf("derived %+v, evaluations %+v, summary %q", c.Derived, c.Evaluations, c.Summary)
	}
	if diff := cmp.Diff(Series{SeriesInstanceUID: "1.2.3", Modality: "MR", Instances: []Instance{{dicom.MRImageStorage, "1.2.3.4"}}}, c.Images[len(c.Images)-1]); diff != "" {
		t.Errorf("images, want - got +:\n%s", diff)
	}
	people := c.Observers[1:]
	if diff := cmp.Diff([]Observer{{Type: person, Name: "Doe^Jane", Organization: "Hospital"}, {Type: person, Name: "Roe^Jo"}}, people); diff != "" {
		t.Errorf("observers, want - got +:\n%s", diff)
	}
	if m, ok := got.Value(concept(t, "RNU0")); !ok || m.Value != 12345.678901234567 {
		t.Errorf("Value gives %+v", m)
	}
	if _, ok := got.Value(concept(t, "NI2N")); ok {
		t.Error("Value gives what is not there")
	}
}

// Floating Point Value has all bits and goes before Numeric Value, PS3.3 C.18.1; where neither is, the qualifier says why.
func TestReadNumbers(t *testing.T) {
	for _, c := range []struct {
		name      string
		ds, fd    string
		qualifier Code
		want      float64
	}{
		{"both", "12.3456789012345", "12.345678901234567", Code{}, 12.345678901234567},
		{"DS alone", " -1.5e3 ", "", Code{}, -1500},
		{"not a number", "", "", dcm("114000", "Not a number"), math.NaN()},
		{"nonsense", "12mm", "", Code{}, math.NaN()},
		{"infinite", "", "+Inf", dcm("114001", "Negative Infinity"), math.NaN()},
	} {
		d := edited(t, func(_, g *item) { g.find(concept(t, "RNU0")).name = dcm("1", "Probe") })
		var num *dicom.DataSet
		var find func(items []*dicom.DataSet)
		find = func(items []*dicom.DataSet) {
			for _, it := range items {
				if parseCode(it, dicom.ConceptNameCodeSequence).is(dcm("1", "")) {
					num = it
				}
				find(it.Seq(dicom.ContentSequence))
			}
		}
		find(d.Seq(dicom.ContentSequence))
		v := dicom.New()
		if c.ds != "" {
			v.SetBytes(dicom.NumericValue, dicom.DS, []byte(c.ds))
		}
		if c.fd != "" {
			f, err := strconv.ParseFloat(c.fd, 64)
			if err != nil {
				t.Fatal(err)
			}
			v.SetFloat(dicom.FloatingPointValue, f)
		}
		num.SetSeq(dicom.MeasuredValueSequence)
		if c.ds != "" || c.fd != "" {
			num.SetSeq(dicom.MeasuredValueSequence, v)
		}
		if !c.qualifier.zero() {
			num.SetSeq(dicom.NumericValueQualifierCodeSequence, c.qualifier.encode())
		}
		r, err := Read(d)
		if err != nil {
			t.Fatal(err)
		}
		m := r.Groups[0].Measurements[0]
		if m.Value != c.want && !(math.IsNaN(m.Value) && math.IsNaN(c.want)) || m.Details.Qualifier != c.qualifier {
			t.Errorf("%s: %v %s, want %v %s", c.name, m.Value, m.Details.Qualifier, c.want, c.qualifier)
		}
	}
}

func TestReadRefusesOtherDocuments(t *testing.T) {
	for name, d := range map[string]*dicom.DataSet{
		"an image":            source(),
		"another template":    newContainer(dcm("113701", "X-Ray Radiation Dose Report"), "10011").encode(),
		"nothing":             dicom.New(),
		"a text by the title": newText(ImagingMeasurementReport, "x").encode(),
	} {
		if c, err := Read(d); err == nil || c != nil || !strings.Contains(err.Error(), "TID 1500") {
			t.Errorf("%s gave %v", name, err)
		}
	}
}

func BenchmarkRead(b *testing.B) {
	d := variants(b)["every feature there"]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Read(d); err != nil {
			b.Fatal(err)
		}
	}
}
