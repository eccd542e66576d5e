package sr

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
)

// need gives a program that other people wrote to read reports. Without it the
// test is skipped, and fails where everything is meant to be installed.
func need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		absent(t, program+" is not installed")
	}
	return path
}

func absent(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// python runs a script with the interpreter that has highdicom and pydicom.
func python(t testing.TB, script string, args ...string) []byte {
	t.Helper()
	interpreter := os.Getenv("RADNODE_PYTHON")
	if interpreter == "" {
		interpreter = "python3"
	}
	interpreter = need(t, interpreter)
	if err := exec.Command(interpreter, "-c", "import highdicom, pydicom").Run(); err != nil {
		absent(t, "highdicom is not installed: RADNODE_PYTHON names the interpreter that has it")
	}
	var out, problems bytes.Buffer
	cmd := exec.Command(interpreter, append([]string{"-W", "ignore", "-c", script}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, problems.Bytes())
	}
	return out.Bytes()
}

func save(t testing.TB, d *dicom.DataSet) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "report.dcm")
	if err := os.WriteFile(name, file(t, d), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// variants are the reports that the validators see: each SOP class, each kind
// of content that New can leave out.
func variants(t testing.TB) map[string]*dicom.DataSet {
	t.Helper()
	all := map[string]*dicom.DataSet{"full": make1(t, full(t))}
	for name, change := range map[string]func(*Report){
		"Comprehensive SR":   func(r *Report) { r.SOPClassUID = dicom.ComprehensiveSRStorage },
		"Enhanced SR":        func(r *Report) { r.SOPClassUID = dicom.EnhancedSRStorage },
		"generic title":      func(r *Report) { r.Title = ImagingMeasurementReport },
		"summary alone":      func(r *Report) { r.Groups = nil },
		"measurements alone": func(r *Report) { r.Summary, r.Contours, r.Predecessors, r.ProcedureReported = nil, nil, nil, nil },
		"bare source":        func(r *Report) { r.Source = dicom.New(); r.Source.SetString(dicom.StudyInstanceUID, study) },
		"bare equipment":     func(r *Report) { r.Equipment.SerialNumber, r.Equipment.Name = "", "" },
		"PET":                func(r *Report) { r.Images[0].Modality, r.Images[0].Header = "PT", petHeader() },
		"MR": func(r *Report) {
			r.Images[0].Modality = "MR"
			r.Images[0].Header.SetString(dicom.SequenceName, "*tfl3d1")
		},
		"every feature there": func(r *Report) { r.Groups = r.Groups[:1]; r.Groups[0].Measurements = everyFeature(t) },
	} {
		r := full(t)
		change(&r)
		all[name] = make1(t, r)
	}
	return all
}

func everyFeature(t testing.TB) (all []Measurement) {
	for _, ibsi := range slices.Sorted(maps.Keys(concepts)) {
		all = append(all, measure(t, ibsi, float64(len(all))*math.Pi))
	}
	return all
}

func TestDciodvfy(t *testing.T) {
	dciodvfy := need(t, "dciodvfy")
	for name, d := range variants(t) {
		out, err := exec.Command(dciodvfy, "-new", save(t, d)).CombinedOutput()
		if err != nil || bytes.Contains(out, []byte("Error")) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// A report on real images is valid, and agrees with them on patient and study.
func TestReportOfRealImages(t *testing.T) {
	dciodvfy, dcentvfy := need(t, "dciodvfy"), need(t, "dcentvfy")
	for _, path := range [][]string{
		{"data", "lung1", "LUNG1-001", "image", "1-001.dcm"},
		{"data", "highdicom", "ct_image.dcm"},
		{"data", "dcmqi", "ct-3slice", "01.dcm"},
		{"data", "sts", "STS_001", "PET", "image", "000000.dcm"}, // with a Study ID of 18 characters
		{"data", "sts_raw", "STS_001", "FDG_PET", "image", "1-001.dcm"},
	} {
		image := shared(t, path...)
		b, err := os.ReadFile(image)
		if err != nil {
			t.Fatal(err)
		}
		r := full(t)
		r.Source = read(t, b)
		r.Images[0] = Series{
			SeriesInstanceUID: r.Source.String(dicom.SeriesInstanceUID), Modality: r.Source.String(dicom.Modality), Header: r.Source,
			Instances: []Instance{{r.Source.String(dicom.SOPClassUID), r.Source.String(dicom.SOPInstanceUID)}},
		}
		for i := range r.Groups {
			r.Groups[i].SourceSeries = r.Images[0].SeriesInstanceUID
			r.Groups[i].Segment.StudyInstanceUID = ""
		}
		report := save(t, make1(t, r))
		if out, err := exec.Command(dciodvfy, "-new", report).CombinedOutput(); err != nil || bytes.Contains(out, []byte("Error")) {
			t.Errorf("%s: %v\n%s", path[1], err, out)
		}
		out, err := exec.Command(dcentvfy, report, image).CombinedOutput()
		if err != nil || bytes.Contains(out, []byte("different")) {
			t.Errorf("%s: %v\n%s", path[1], err, out)
		}
	}
}

func TestDsrdump(t *testing.T) {
	dsrdump := need(t, "dsrdump")
	for name, d := range variants(t) {
		out, err := exec.Command(dsrdump, "+Pc", save(t, d)).CombinedOutput()
		if err != nil || bytes.Contains(out, []byte("E: ")) || !bytes.Contains(out, []byte("2.25.101")) && !bytes.Contains(out, []byte("Report")) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// The shared script also asks pixelmed, which knows the rows of the templates
// as of 2022. It takes its time, so it sees one file.
func TestTemplateValidator(t *testing.T) {
	if testing.Short() {
		t.Skip("pixelmed takes half a minute")
	}
	script := shared(t, "tools", "sr-check")
	for _, p := range []string{"bash", "java", "dciodvfy", "dsrdump", "dcmdump"} {
		need(t, p)
	}
	r := full(t)
	r.Images = append(r.Images, Series{SeriesInstanceUID: ctSeries + ".9", Modality: "PT", Header: petHeader(),
		Instances: []Instance{{dicom.PositronEmissionTomographyImageStorage, ctSeries + ".9.1"}}})
	out, err := exec.Command("bash", script, save(t, make1(t, r))).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("Found Root Template TID_1500")) || !bytes.Contains(out, []byte("IOD validation complete")) {
		t.Errorf("%v\n%s", err, out)
	}
}

const highdicomReader = `
import sys, json, highdicom
sr = highdicom.sr.srread(sys.argv[1])
groups = []
for g in sr.content.get_volumetric_roi_measurement_groups():
    seg = [i for i in g[0].ContentSequence if i.ValueType == "IMAGE"][0].ReferencedSOPSequence[0]
    groups.append({
        "name": g.tracking_identifier, "uid": g.tracking_uid, "reference": g.reference_type.meaning,
        "finding": g.finding_type.meaning if g.finding_type else "", "sites": [s.value.meaning for s in g.finding_sites],
        "segment": int(seg.ReferencedSegmentNumber), "seg": seg.ReferencedSOPInstanceUID,
        "nums": [[m.name.value, m.name.scheme_designator, m.name.meaning, float(m.value).hex(), m.unit.value] for m in g.get_measurements()],
    })
json.dump(groups, sys.stdout)
`

// highdicom, which 3D Slicer reads reports with, gets the same bits.
func TestHighdicom(t *testing.T) {
	r := full(t)
	r.Groups[0].Measurements = append(r.Groups[0].Measurements, everyFeature(t)...)
	seen := map[string]bool{}
	var once []Measurement
	for _, m := range r.Groups[0].Measurements {
		if !seen[m.key()] {
			once = append(once, m)
		}
		seen[m.key()] = true
	}
	r.Groups[0].Measurements = once
	var got []struct {
		Name, UID, Reference, Finding string
		Sites                         []string
		Segment                       int
		Seg                           string
		Nums                          [][5]string
	}
	if err := json.Unmarshal(python(t, highdicomReader, save(t, make1(t, r))), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(r.Groups) {
		t.Fatalf("%d groups, want %d", len(got), len(r.Groups))
	}
	for i, g := range r.Groups {
		h := got[i]
		if h.Name != g.TrackingIdentifier || h.UID != g.TrackingUID || h.Reference != "Referenced Segment" || h.Finding != g.Finding.Meaning ||
			h.Segment != g.Segment.Number || h.Seg != g.Segment.SOPInstanceUID || len(h.Nums) != len(g.Measurements) {
			t.Fatalf("group %d is %+v", i, h)
		}
		if !g.Site.zero() && (len(h.Sites) != 1 || h.Sites[0] != g.Site.Meaning) {
			t.Errorf("group %d has the sites %v", i, h.Sites)
		}
		for k, m := range g.Measurements {
			n := h.Nums[k]
			v, err := strconv.ParseFloat(n[3], 64)
			if err != nil || math.Float64bits(v) != math.Float64bits(m.Value) {
				t.Errorf("%s is %s (%v), want %x", m.Concept, n[3], err, m.Value)
			}
			if (Code{n[0], n[1], n[2]}) != m.Concept || n[4] != m.Unit.Value {
				t.Errorf("%s is %v", m.Concept, n)
			}
		}
	}
}

const pydicomReader = `
import sys, json, pydicom
d = pydicom.dcmread(sys.argv[1])
d.walk(lambda ds, e: e.value)
json.dump({"name": str(d.PatientName), "class": d.SOPClassUID.name, "id": d.PatientID, "groups": len(d.ContentSequence[-1].ContentSequence) - 4}, sys.stdout)
`

func TestPydicom(t *testing.T) {
	var got struct {
		Name, Class, ID string
		Groups          int
	}
	if err := json.Unmarshal(python(t, pydicomReader, save(t, make1(t, sample(t)))), &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "Żółć^Łucja=山田^花子" || got.ID != "RN-0042" || got.Class != "Comprehensive 3D SR Storage" || got.Groups != 2 {
		t.Errorf("%+v", got)
	}
}

const pydicomCodes = `
import sys, json
from pydicom.sr._concepts_dict import concepts
# A code has several names: that of a context group counts.
names = {}
for s in ("IBSI", "DCM", "SCT", "UCUM"):
    for k in concepts[s].values():
        for c, (m, groups) in k.items():
            if groups or s + " " + c not in names:
                names[s + " " + c] = names.get(s + " " + c, []) + [m]
json.dump(names, sys.stdout)
`

// pydicom's dictionary is made from PS3.16: codes and meanings that it has are
// the standard's.
func TestMeaningsAreTheStandards(t *testing.T) {
	var standard map[string][]string
	if err := json.Unmarshal(python(t, pydicomCodes), &standard); err != nil {
		t.Fatal(err)
	}
	check := func(c Code) bool {
		want, ok := standard[c.Scheme+" "+c.Value]
		if ok && !slices.Contains(want, c.Meaning) {
			t.Errorf("%s, in the standard %q", c, want)
		}
		return ok
	}
	features := 0
	for ibsi := range concepts {
		if check(concept(t, ibsi)) {
			features++
		}
	}
	if features != 147 { // PS3.16 CID 218 and what it includes
		t.Errorf("%d features are in the standard, want 147", features)
	}
	known := 0
	for u := range units {
		if check(Unit(u)) {
			known++
		}
	}
	if known < 30 {
		t.Errorf("%d units are in the standard, want 30 at least", known)
	}
	for m, meaning := range modalities {
		if !check(dcm(m, meaning)) {
			t.Errorf("modality %s is not in the standard", m)
		}
	}
	for _, c := range []Code{StandardDeviation, MetabolicVolume, TotalLesionGlycolysis, measurementFailure} {
		if !check(c) {
			t.Errorf("%s is not in the standard", c)
		}
	}
	for _, group := range []map[string]Code{suvMethods, radionuclides, radiopharmaceuticals} {
		for _, c := range group {
			if !check(c) {
				t.Errorf("%s is not in the standard", c)
			}
		}
	}
	// The rows of TID 1411 and TID 1607 have shorter names than SNOMED, which is what the dictionary has.
	short := []Code{findingCategory, radionuclide, radiopharmaceutical, halfLife}
	names := map[Code]bool{}
	pet := full(t)
	pet.Images[0].Modality, pet.Images[0].Header = "PT", petHeader()
	for _, r := range []Report{full(t), pet} {
		tree(t, make1(t, r)).walk(func(it *item) {
			if (it.name.Scheme == "DCM" || it.name.Scheme == "SCT") && !slices.ContainsFunc(short, it.name.is) {
				names[it.name] = true
			}
		})
	}
	for c := range names {
		if !check(c) {
			t.Errorf("%s is not in the standard", c)
		}
	}
	if len(names) < 35 {
		t.Errorf("only %d names compared", len(names))
	}
}

// Reports of other programs: what their own readers find in them.
func TestMeasurementsOfOthers(t *testing.T) {
	for _, c := range []struct {
		path    []string
		groups  int
		numbers int
		first   float64
		unit    string
		segment int
	}{
		{[]string{"data", "dcmqi", "sr-example", "sr.dcm"}, 1, 22, 6.01529, "{SUVbw}g/ml", 1},
		{[]string{"data", "highdicom", "sr_document.dcm"}, 1, 1, 1.7, "cm2", 0},
		{[]string{"data", "highdicom", "sr_document_with_multiple_groups.dcm"}, 4, 4, math.NaN(), "[hnsf'U]", 0},
	} {
		b, err := os.ReadFile(shared(t, c.path...))
		if err != nil {
			t.Fatal(err)
		}
		d := read(t, b)
		groups, err := Measurements(d)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, g := range groups {
			n += len(g.Measurements)
			if g.TrackingIdentifier == "" || !dicom.ValidUID(g.TrackingUID) {
				t.Errorf("%s: group %+v", c.path[2], g)
			}
		}
		if len(groups) != c.groups || n != c.numbers {
			t.Errorf("%s: %d groups, %d numbers, want %d and %d", c.path[2], len(groups), n, c.groups, c.numbers)
			continue
		}
		m := groups[0].Measurements[0]
		if !math.IsNaN(c.first) && m.Value != c.first || m.Unit.Value != c.unit || groups[0].Segment.Number != c.segment {
			t.Errorf("%s: %v %s, segment %d, want %v %s, segment %d", c.path[2], m.Value, m.Unit, groups[0].Segment.Number, c.first, c.unit, c.segment)
		}
		if c.segment > 0 && (groups[0].Site.Meaning == "" || groups[0].Segment.SeriesInstanceUID == "" || len(m.Modifiers) != 1 || m.Modifiers[0].Value.Meaning != "Mean") {
			t.Errorf("%s: %+v", c.path[2], groups[0])
		}
	}
}

func TestMeasurementsRefusesOtherDocuments(t *testing.T) {
	if _, err := Measurements(source()); err == nil || !strings.Contains(err.Error(), "126010") {
		t.Errorf("a CT image gave %v", err)
	}
	// Nested deeper than any template: refused, not followed.
	d := newContainer(ImagingMeasurementReport, "").encode()
	for range 3 * maxDepth {
		outer := newContainer(measurementGroup, "").encode()
		outer.SetSeq(dicom.ContentSequence, d)
		d = outer
	}
	if _, err := Measurements(d); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("deep nesting gave %v", err)
	}
	if err := Text(new(bytes.Buffer), d); err == nil {
		t.Error("Text takes any depth")
	}
}

// A number without a value, the standard's own way to say "not computable"
// (PS3.3 C.18.1), is read as such.
func TestNumberWithoutValue(t *testing.T) {
	root := tree(t, make1(t, sample(t)))
	d := root.encode()
	num := d.Seq(dicom.ContentSequence)[10].Seq(dicom.ContentSequence)[4].Seq(dicom.ContentSequence)[7]
	num.SetSeq(dicom.MeasuredValueSequence)
	groups, err := Measurements(d)
	if err != nil {
		t.Fatal(err)
	}
	if m := groups[0].Measurements[0]; !math.IsNaN(m.Value) || m.Concept.Value != "RNU0" {
		t.Errorf("%+v, want NaN for RNU0", m)
	}
	var out strings.Builder
	if err := Text(&out, d); err != nil || !strings.Contains(out.String(), "Volume of Mesh                 (no value)") {
		t.Errorf("%v\n%s", err, out.String())
	}
	// Numeric Value alone, as older writers have it.
	v := dicom.New()
	v.SetString(dicom.NumericValue, "12.5")
	num.SetSeq(dicom.MeasuredValueSequence, v)
	if groups, _ = Measurements(d); groups[0].Measurements[0].Value != 12.5 {
		t.Errorf("%+v, want 12.5", groups[0].Measurements[0])
	}
}

// Whatever of patient and study the images say, the report says the same: dcentvfy compares all that it knows.
func TestPatientAndStudyOfEverything(t *testing.T) {
	dcentvfy := need(t, "dcentvfy")
	r := sample(t)
	values := map[dicom.VR]string{dicom.DA: "20200102", dicom.TM: "0304", dicom.DT: "202001020304", dicom.AS: "055Y", dicom.DS: "1.5", dicom.CS: "YES",
		dicom.UC: "text", dicom.LO: "text", dicom.SH: "text", dicom.ST: "text", dicom.LT: "text", dicom.UT: "text", dicom.PN: "Name^N"}
	for _, tag := range dicom.EntityAttributes() {
		if v, ok := values[tag.VR()]; ok && r.Source.String(tag) == "" && tag != dicom.TimezoneOffsetFromUTC {
			r.Source.SetString(tag, v)
		}
	}
	r.Source.SetString(dicom.DeidentificationMethod, "by hand")
	r.Source.SetString(dicom.PatientIdentityRemoved, "YES")
	r.Source.SetString(dicom.SpecificCharacterSet, "ISO_IR 192")
	r.Source.SetString(dicom.SOPInstanceUID, "1.2.3")
	r.Source.SetString(dicom.Modality, "CT")
	out, err := exec.Command(dcentvfy, save(t, make1(t, r)), save(t, r.Source)).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		// The validator's table has Accession Number and its issuer in the series of an image.
		if strings.TrimSpace(line) != "" && !strings.Contains(line, "AccessionNumber") {
			t.Error(line)
		}
	}
}

const pydicomNames = `
import sys, json, pydicom
out = []
for source, report in zip(sys.argv[1::2], sys.argv[2::2]):
    a, b = pydicom.dcmread(source, stop_before_pixels=True), pydicom.dcmread(report)
    out.append([[str(d.PatientName), str(d.StudyDescription), b.SpecificCharacterSet] for d in (a, b)])
json.dump(out, sys.stdout)
`

// Text of every character set arrives as UTF-8, and is what pydicom reads in the images.
func TestCharacterSetsOfImages(t *testing.T) {
	long := strings.Repeat("x", 64) + "=" + strings.Repeat("山", 64) + "=" + strings.Repeat("や", 64)
	cases := []struct{ terms, name, description, want string }{
		{"", "Plain^Name", "plain", "Plain^Name"},
		{"ISO_IR 100", "Buc^J\xe9r\xf4me", "\xe9t\xe9", "Buc^Jérôme"},
		{"ISO_IR 101", "Wa\xb3\xeasa^Lech", "\xb3", "Wałęsa^Lech"},
		{"ISO_IR 126", "\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "\xe1", "Διονυσιος"},
		{"ISO_IR 127", "\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1", "\xe2", "قباني^لنزار"},
		{"ISO_IR 144", "\xbb\xee\xda\x63\xd5\xdc\xd1\xe3\xe0\xd3", "\xbb", "Люкcембург"},
		{`\ISO 2022 IR 87`, "Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B", "\x1b$B;3\x1b(B", "Yamada^Tarou=山田^太郎=やまだ^たろう"},
		{`\ISO 2022 IR 149`, "Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf", "\x1b$)C\xc8\xab", "Hong^Gildong=洪^吉洞=홍^길동"},
		{"GB18030", "Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab", "\xcd\xf5", "Wang^XiaoDong=王^小东"},
		{"ISO_IR 192", long, "été", long},
	}
	var files []string
	for _, c := range cases {
		d := source()
		d.Remove(dicom.ReferringPhysicianName, dicom.PatientName, dicom.StudyDescription)
		d.SetString(dicom.SOPInstanceUID, "1.2.3")
		name := filepath.Join(t.TempDir(), "image.dcm")
		if err := os.WriteFile(name, withText(t, d, c.terms, map[dicom.Tag]string{dicom.PatientName: c.name, dicom.StudyDescription: c.description}), 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		r := sample(t)
		r.Source = read(t, b)
		report := make1(t, r)
		if got := report.String(dicom.PatientName); got != c.want {
			t.Errorf("%s: Patient's Name is %q, want %q", c.terms, got, c.want)
		}
		files = append(files, name, save(t, report))
	}
	var got [][2][3]string
	if err := json.Unmarshal(python(t, pydicomNames, files...), &got); err != nil {
		t.Fatal(err)
	}
	for i, pair := range got {
		if pair[0] != pair[1] || pair[1][2] != "ISO_IR 192" {
			t.Errorf("%s: pydicom reads %q in the image and %q in the report", cases[i].terms, pair[0], pair[1])
		}
	}
}

// withText is an image whose texts are in the bytes of a character set.
func withText(t testing.TB, d *dicom.DataSet, terms string, texts map[dicom.Tag]string) []byte {
	t.Helper()
	for tag, s := range texts {
		d.SetBytes(tag, tag.VR(), []byte(strings.Repeat("x", len(s)))) // the setters take UTF-8 alone: bytes of the same number stand for it
	}
	b := file(t, d)
	for tag, s := range texts {
		header := []byte{byte(tag >> 16), byte(tag >> 24), byte(tag), byte(tag >> 8), tag.VR().String()[0], tag.VR().String()[1]}
		at := bytes.Index(b, header) + len(header) + 2
		copy(b[at:], s)
	}
	if len(terms)%2 == 1 {
		terms += " "
	}
	const utf8 = "\x08\x00\x05\x00CS\x0a\x00ISO_IR 192" // which the writer always says
	return bytes.Replace(b, []byte(utf8), []byte("\x08\x00\x05\x00CS"+string(rune(len(terms)))+"\x00"+terms), 1)
}

// dcmqi, which 3D Slicer reads reports with too, finds the groups, their values and the steps as evaluations.
func TestDcmqi(t *testing.T) {
	reader, err := exec.LookPath(filepath.Join(filepath.Dir(os.Getenv("RADNODE_PYTHON")), "tid1500reader"))
	if err != nil {
		reader = need(t, "tid1500reader")
	}
	r := full(t)
	name := filepath.Join(t.TempDir(), "report.json")
	if out, err := exec.Command(reader, "--inputDICOM", save(t, make1(t, r)), "--outputMetadata", name).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	type dcmqiCode struct{ CodeValue, CodeMeaning string }
	var got struct {
		Measurements []struct {
			TrackingIdentifier       string
			TrackingUniqueIdentifier string
			ReferencedSegment        int
			MeasurementItems         []struct{ Quantity dcmqiCode }
			QualitativeEvaluations   []struct {
				ConceptCode  dcmqiCode
				ConceptValue any
			}
		}
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Measurements) != len(r.Groups) {
		t.Fatalf("%d groups, want %d", len(got.Measurements), len(r.Groups))
	}
	for i, g := range r.Groups {
		m := got.Measurements[i]
		if m.TrackingIdentifier != g.TrackingIdentifier || m.TrackingUniqueIdentifier != g.TrackingUID || m.ReferencedSegment != g.Segment.Number ||
			len(m.MeasurementItems) != len(g.Measurements) {
			t.Errorf("group %d is %+v", i, m)
		}
		for _, s := range g.Steps {
			if !slices.ContainsFunc(m.QualitativeEvaluations, func(e struct {
				ConceptCode  dcmqiCode
				ConceptValue any
			}) bool {
				return e.ConceptCode.CodeValue == s.Name.Value
			}) {
				t.Errorf("group %d: no %s", i, s.Name)
			}
		}
	}
}
