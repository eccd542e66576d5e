package sr

import (
	"bytes"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/radnode/radnode/dimse/dicom"
)

const (
	study    = "1.2.826.0.1.3680043.8.498.1"
	ctSeries = "1.2.826.0.1.3680043.8.498.2"
	ctFrame  = "1.2.826.0.1.3680043.8.498.3"
)

// source is what a CT slice says of patient and study, with characters that ISO
// 8859-1 and ASCII do not have.
func source() *dicom.DataSet {
	d := dicom.New()
	d.SetString(dicom.SOPClassUID, dicom.CTImageStorage)
	d.SetString(dicom.PatientName, "Żółć^Łucja=山田^花子")
	d.SetString(dicom.PatientID, "RN-0042")
	d.SetString(dicom.IssuerOfPatientID, "HOSP")
	d.SetString(dicom.OtherPatientIDs, "A1", "A2")
	d.SetString(dicom.PatientBirthDate, "19610203")
	d.SetString(dicom.PatientSex, "F")
	d.SetString(dicom.PatientAge, "053Y")
	d.SetString(dicom.PatientSize, "1.68")
	d.SetString(dicom.PatientWeight, "71.5")
	d.SetString(dicom.StudyInstanceUID, study)
	d.SetString(dicom.StudyDate, "20140501")
	d.SetString(dicom.StudyTime, "101112")
	d.SetString(dicom.StudyID, "S1")
	d.SetString(dicom.AccessionNumber, "ACC1")
	d.SetString(dicom.ReferringPhysicianName, "Referrer^R")
	d.SetString(dicom.StudyDescription, "CT thorax")
	d.SetString(dicom.TimezoneOffsetFromUTC, "+0200")
	d.SetString(dicom.SeriesInstanceUID, ctSeries)
	d.SetInt(dicom.SeriesNumber, 4)
	d.SetString(dicom.SeriesDescription, "must not be copied")
	d.SetString(dicom.BodyPartExamined, "CHEST")
	d.SetString(dicom.PatientComments, "comment")
	d.SetString(dicom.ClinicalTrialSponsorName, "Sponsor")
	d.SetString(dicom.ClinicalTrialProtocolID, "P1")
	d.SetString(dicom.ClinicalTrialProtocolName, "Protocol")
	d.SetString(dicom.ClinicalTrialSiteID, "")
	d.SetString(dicom.ClinicalTrialSiteName, "")
	d.SetString(dicom.ClinicalTrialSubjectID, "T7")
	issuer := dicom.New()
	issuer.SetString(0x00400031, "RIS") // LocalNamespaceEntityID
	d.SetSeq(dicom.IssuerOfAccessionNumberSequence, issuer)
	request := dicom.New()
	request.SetString(dicom.RequestedProcedureID, "RP1")
	request.SetString(dicom.ScheduledProcedureStepID, "SP1")
	request.SetString(dicom.RequestedProcedureDescription, "CT thorax with contrast")
	d.SetSeq(dicom.RequestAttributesSequence, request)
	d.SetInt(dicom.Rows, 512)
	d.SetInt(dicom.Columns, 400)
	d.SetString(dicom.PixelSpacing, "0.9", "0.8")
	d.SetString(dicom.SliceThickness, "3")
	return d
}

func concept(t testing.TB, ibsi string) Code {
	t.Helper()
	c, ok := Concept(ibsi)
	if !ok {
		t.Fatalf("no concept %s", ibsi)
	}
	return c
}

func measure(t testing.TB, ibsi string, v float64) Measurement {
	t.Helper()
	u, _ := UnitFor(ibsi, "HU")
	return Measurement{Concept: concept(t, ibsi), Value: v, Unit: u}
}

// sample is a report of one lesion from an RT Structure Set and one from a SEG of another study.
func sample(t testing.TB) Report {
	t.Helper()
	images := Series{SeriesInstanceUID: ctSeries, Modality: "CT", FrameOfReferenceUID: ctFrame}
	for i := range 6 {
		images.Instances = append(images.Instances, Instance{dicom.CTImageStorage, ctSeries + ".10" + strconv.Itoa(i)})
	}
	entropy := measure(t, "TU9B", 6.1234567890123456)
	entropy.Modifiers = []CodePair{
		{Code{"4R0B", IBSI, "Intensity discretisation"}, Code{"Q3RU", IBSI, "Fixed bin size"}},
		{Code{"5QB6", IBSI, "Feature aggregation"}, Code{"IAZD", IBSI, "merged 3D directions"}},
	}
	entropy.Parameters = []Parameter{{Code{"bin-width", "99RADNODE", "Bin width"}, 25, Unit("HU")}}
	return Report{
		SOPInstanceUID:    "2.25.101",
		SeriesInstanceUID: "2.25.102",
		SeriesNumber:      9001,
		SeriesDescription: "Radiomics (IBSI) GTVp",
		InstanceNumber:    2,
		ContentTime:       time.Date(2026, 3, 1, 23, 30, 15, 0, time.UTC),
		Source:            source(),
		Equipment: Equipment{Manufacturer: "radnode", ModelName: "radnode", SoftwareVersion: "0.1.0", SerialNumber: "n1",
			DeviceUID: "2.25.7", Name: "RADNODE"},
		ProcedureReported: []Code{{"25045-6", "LN", "CT unspecified body region"}},
		Images:            []Series{images},
		Contours: []Document{{SeriesInstanceUID: "1.2.826.0.1.3680043.8.498.4",
			Instance: Instance{dicom.RTStructureSetStorage, "1.2.826.0.1.3680043.8.498.5"}}},
		Predecessors: []Document{{SeriesInstanceUID: "2.25.102", Instance: Instance{dicom.Comprehensive3DSRStorage, "2.25.100"}}},
		Algorithm:    Algorithm{"radnode features", "0.1.0", []string{"INT:LIN:3D:1mm RS:[-1000,400] FBS:25HU", `profile\ct-default`}},
		Groups: []Group{{
			TrackingIdentifier: "GTVp – rechts \\ oben",
			TrackingUID:        "2.25.200",
			Category:           sct("49755003", "Morphologically Abnormal Structure"),
			Finding:            sct("108369006", "Neoplasm"),
			Site:               sct("39607008", "Lung"),
			Laterality:         sct("24028007", "Right"),
			Segment:            Segment{Document{study, "2.25.300", Instance{dicom.SegmentationStorage, "2.25.301"}}, 1},
			SourceSeries:       ctSeries,
			Measurements: []Measurement{
				measure(t, "RNU0", 12345.678901234567), measure(t, "2PR5", 0.1+0.2), measure(t, "C0JK", 5.0/3e9),
				measure(t, "Q4LE", -46.900000000000006), measure(t, "ECT3", 1e300), measure(t, "99N0", -1.2345678901234567e-300),
				measure(t, "L0JK", math.Nextafter(1, 2)), entropy,
			},
			Comments: []string{"Not computable: NI2N Correlation of GLCM (constant ROI)"},
		}, {
			TrackingIdentifier: "node 4R",
			TrackingUID:        "2.25.201",
			Segment:            Segment{Document{"1.2.826.0.1.3680043.8.498.99", "2.25.400", Instance{dicom.SegmentationStorage, "2.25.401"}}, 3},
			SourceSeries:       ctSeries,
			Method:             dcm("126030", "Sum of segmented voxel method for volume"),
			Algorithm:          Algorithm{"radnode features", "0.1.0", []string{"FBN:32"}},
			Measurements:       []Measurement{measure(t, "YEKZ", 64)},
		}},
		Summary:       []string{"GTVp, right lung: 12.3 cm3, mean -46.9 HU. 8 features, 1 not computable."},
		CodingSchemes: []CodingScheme{{"99RADNODE", "radnode concepts", "radnode"}},
	}
}

// full is the sample with all that a report can have besides.
func full(t testing.TB) Report {
	t.Helper()
	r := sample(t)
	r.Language = "it"
	r.Images[0].Header = source()
	r.Groups[0].Measurements[3].Display = "Mean CT number"
	binWidth := Parameter{private("bin-width", "Bin width"), 25, Unit("HU")}
	r.Groups[0].Steps = []Step{
		{Name: Processing("IF9H"), Method: Processing("USB3"), Numbers: []Parameter{
			{private("lower-bound", "Lowest intensity kept"), -1000, Unit("HU")}, {private("upper-bound", "Highest intensity kept"), 400, Unit("HU")},
		}},
		{Name: Processing("IF9H"), Method: Processing("7ACA"), Numbers: []Parameter{{private("outlier-sigma", "Standard deviations kept"), 3, Unit("1")}}},
		{Name: Processing("4R0B"), Method: Processing("Q3RU"), Numbers: []Parameter{binWidth}},
		{Name: private("voxelisation", "Voxels of the region"), Text: "A voxel belongs to the region if its centre lies inside.",
			Numbers: []Parameter{{private("coverage", "Least part of a voxel"), 0.5, Unit("1")}}},
	}
	return r
}

func make1(t testing.TB, r Report) *dicom.DataSet {
	t.Helper()
	d, err := New(r)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func encode(t testing.TB, d *dicom.DataSet) []byte {
	t.Helper()
	b, err := d.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// file is the report as a Part 10 file.
func file(t testing.TB, d *dicom.DataSet) []byte {
	t.Helper()
	var b bytes.Buffer
	meta := dicom.FileMeta{
		MediaStorageSOPClassUID:    d.String(dicom.SOPClassUID),
		MediaStorageSOPInstanceUID: d.String(dicom.SOPInstanceUID),
		TransferSyntaxUID:          dicom.ExplicitVRLittleEndian,
	}
	if err := dicom.WriteFile(&b, meta, d); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func read(t testing.TB, b []byte) *dicom.DataSet {
	t.Helper()
	f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f.DataSet
}

func TestMeasurementsReadBackAsWritten(t *testing.T) {
	for _, class := range sopClasses {
		r := sample(t)
		r.SOPClassUID = class
		r.Groups[0].TrackingIdentifier += "\n" // cleaned
		d := read(t, file(t, make1(t, r)))
		if got := d.String(dicom.SOPClassUID); got != class {
			t.Errorf("SOP class %s, want %s", got, class)
		}
		got, err := Measurements(d)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(sample(t).Groups, got); diff != "" {
			t.Errorf("SOP class %s, want - got +:\n%s", class, diff)
		}
		for g := range got {
			for i, m := range got[g].Measurements {
				if w := r.Groups[g].Measurements[i].Value; math.Float64bits(w) != math.Float64bits(m.Value) {
					t.Errorf("%s: %x became %x", m.Concept, w, m.Value)
				}
			}
		}
	}
}

func TestSameReportSameBytes(t *testing.T) {
	first := file(t, make1(t, full(t)))
	for range 5 {
		if !bytes.Equal(first, file(t, make1(t, full(t)))) {
			t.Fatal("the same report gave other bytes")
		}
	}
	other := full(t)
	other.Groups[0].Measurements[0].Value = math.Nextafter(other.Groups[0].Measurements[0].Value, 0)
	if bytes.Equal(first, file(t, make1(t, other))) {
		t.Fatal("another value gave the same bytes")
	}
}

func TestNewLeavesTheReportAlone(t *testing.T) {
	r := sample(t)
	r.Groups[0].Finding.Meaning = strings.Repeat("x", 80)
	r.Groups[0].TrackingIdentifier = "a\x1b"
	before := encode(t, r.Source)
	make1(t, r)
	if r.Groups[0].Finding.Meaning != strings.Repeat("x", 80) || r.Groups[0].TrackingIdentifier != "a\x1b" ||
		r.Contours[0].StudyInstanceUID != "" || r.Images[0].StudyInstanceUID != "" || !bytes.Equal(before, encode(t, r.Source)) {
		t.Error("New changed its input")
	}
}

func TestNewRefuses(t *testing.T) {
	long := strings.Repeat("x", 65)
	for _, c := range []struct {
		name  string
		field string // what the error has to name
		spoil func(*Report)
	}{
		{"source", "Source", func(r *Report) { r.Source = nil }},
		{"study", "Source", func(r *Report) { r.Source.SetString(dicom.StudyInstanceUID) }},
		{"class", "SOPClassUID", func(r *Report) { r.SOPClassUID = dicom.CTImageStorage }},
		{"title", "Title", func(r *Report) { r.Title = dcm("111111", "Novel") }},
		{"instance", "SOPInstanceUID", func(r *Report) { r.SOPInstanceUID = "1.02" }},
		{"series", "SeriesInstanceUID", func(r *Report) { r.SeriesInstanceUID = "" }},
		{"series number", "SeriesNumber", func(r *Report) { r.SeriesNumber = 0 }},
		{"instance number", "InstanceNumber", func(r *Report) { r.InstanceNumber = 0 }},
		{"time", "ContentTime", func(r *Report) { r.ContentTime = time.Time{} }},
		{"manufacturer", "Equipment.Manufacturer", func(r *Report) { r.Equipment.Manufacturer = "" }},
		{"model", "Equipment.ModelName", func(r *Report) { r.Equipment.ModelName = long }},
		{"version", "Equipment.SoftwareVersion", func(r *Report) { r.Equipment.SoftwareVersion = `1\2` }},
		{"device", "Equipment.DeviceUID", func(r *Report) { r.Equipment.DeviceUID = "" }},
		{"images", "Images", func(r *Report) { r.Images = nil }},
		{"image series", "Images[0].SeriesInstanceUID", func(r *Report) { r.Images[0].SeriesInstanceUID = "x" }},
		{"image modality", "Images[0].Modality", func(r *Report) { r.Images[0].Modality = "XX" }},
		{"image frame", "Images[0].FrameOfReferenceUID", func(r *Report) { r.Images[0].FrameOfReferenceUID = "x" }},
		{"image instances", "Images[0].Instances", func(r *Report) { r.Images[0].Instances = nil }},
		{"procedure", "CODE", func(r *Report) { r.ProcedureReported = []Code{{}} }},
		{"image class", "Images[0].Instances[2]", func(r *Report) { r.Images[0].Instances[2].SOPClassUID = "" }},
		{"contours", "Contours[0]", func(r *Report) { r.Contours[0].SeriesInstanceUID = "" }},
		{"predecessor", "Predecessors[0]", func(r *Report) { r.Predecessors[0].SOPInstanceUID = "" }},
		{"own series", "Groups[1].Segment", func(r *Report) { r.Groups[1].Segment.SeriesInstanceUID = r.SeriesInstanceUID }},
		{"two places", "Groups[1].Segment", func(r *Report) { r.Groups[1].Segment.SOPInstanceUID = r.Groups[0].Segment.SOPInstanceUID }},
		{"segment number", "Groups[1].Segment.Number", func(r *Report) { r.Groups[1].Segment.Number = 0 }},
		{"tracking", "Groups[0].TrackingIdentifier", func(r *Report) { r.Groups[0].TrackingIdentifier = " \n" }},
		{"tracking uid", "Groups[0].TrackingUID", func(r *Report) { r.Groups[0].TrackingUID = "" }},
		{"source series", "Groups[0].SourceSeries", func(r *Report) { r.Groups[0].SourceSeries = "1.2.3" }},
		{"laterality", "Groups[0].Site", func(r *Report) { r.Groups[0].Site = Code{} }},
		{"no measurement", "Groups[1].Measurements", func(r *Report) { r.Groups[1].Measurements = nil }},
		{"comment", "Groups[0].Comments[0]", func(r *Report) { r.Groups[0].Comments = []string{""} }},
		{"algorithm", "Algorithm.Version", func(r *Report) { r.Algorithm.Version = "" }},
		{"algorithm name", "Groups[1].Algorithm.Name", func(r *Report) { r.Groups[1].Algorithm.Name = "" }},
		{"parameter", "Algorithm.Parameters[1]", func(r *Report) { r.Algorithm.Parameters[1] = "" }},
		{"nothing", "Groups", func(r *Report) { r.Groups, r.Summary = nil, nil }},
		{"language", "Language", func(r *Report) { r.Language = "de" }},
		{"step without method", "Groups[0].Steps[0]", func(r *Report) { r.Groups[0].Steps = []Step{{Name: Processing("VTM2")}} }},
		{"step with both", "Groups[0].Steps[0]", func(r *Report) {
			r.Groups[0].Steps = []Step{{Name: Processing("VTM2"), Method: Processing("3WE3"), Text: "x"}}
		}},
		{"step without name", "concept name", func(r *Report) { r.Groups[0].Steps = []Step{{Text: "x"}} }},
		{"step with NaN", "TU9B", func(r *Report) {
			r.Groups[0].Steps = []Step{{Name: Processing("VTM2"), Text: "x", Numbers: []Parameter{{concept(t, "TU9B"), math.NaN(), Unit("1")}}}}
		}},
		{"summary", "Summary[0]", func(r *Report) { r.Summary = []string{"\x00"} }},
		{"scheme", "CodingSchemes[0]", func(r *Report) { r.CodingSchemes[0].Designator = "" }},
		{"NaN", "RNU0", func(r *Report) { r.Groups[0].Measurements[0].Value = math.NaN() }},
		{"infinity", "RNU0", func(r *Report) { r.Groups[0].Measurements[0].Value = math.Inf(-1) }},
		{"concept", "concept name", func(r *Report) { r.Groups[0].Measurements[0].Concept.Scheme = "" }},
		{"long concept", "longer than 64", func(r *Report) { r.Groups[0].Measurements[0].Concept.Meaning = long }},
		{"unit", "mm3", func(r *Report) { r.Groups[0].Measurements[0].Unit.Meaning = "" }},
		{"twice", "Groups[0].Measurements[8]", func(r *Report) {
			again := r.Groups[0].Measurements[7]
			again.Value, again.Modifiers = 1, []CodePair{again.Modifiers[1], again.Modifiers[0]}
			r.Groups[0].Measurements = append(r.Groups[0].Measurements, again)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := sample(t)
			c.spoil(&r)
			d, err := New(r)
			if err == nil || !strings.Contains(err.Error(), c.field) {
				t.Fatalf("error %v, want one that names %s", err, c.field)
			}
			if d != nil {
				t.Error("a data set together with an error")
			}
			for _, secret := range []string{"RN-0042", "ucja"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the error shows the patient: %v", err)
				}
			}
		})
	}
}

// The same concept is fine where something that is written tells two apart.
func TestNewTakesOneConceptWithTwoParameters(t *testing.T) {
	r := sample(t)
	for _, f := range []float64{0.1, 0.9} {
		m := measure(t, "BC2M", f)
		m.Parameters = []Parameter{{Code{"fraction", "99RADNODE", "Intensity fraction"}, f, Unit("1")}}
		r.Groups[1].Measurements = append(r.Groups[1].Measurements, m)
	}
	make1(t, r)
}

func TestSummaryAloneIsAReport(t *testing.T) {
	r := sample(t)
	r.Groups = nil
	d := make1(t, r)
	if g, err := Measurements(d); err != nil || g != nil {
		t.Errorf("Measurements = %v, %v", g, err)
	}
	root := tree(t, d)
	// Row 12 is there where row 6 is not; the summary is where it always is.
	q := root.find(qualitativeEvals)
	if root.find(imagingMeasurements) != nil || q == nil || !q.findCode(outcome).is(measurementFailure) || root.findText(summary) != r.Summary[0] {
		t.Error("TID 1500 wants Qualitative Evaluations alone, behind the summary")
	}
}

func TestForeignNamesAreCut(t *testing.T) {
	r := sample(t)
	r.SeriesDescription = "Radiomics\t" + strings.Repeat("ą", 30) + `\` + strings.Repeat("b", 40)
	r.Groups[0].Finding.Meaning = strings.Repeat("ż", 65)
	r.Groups[0].TrackingIdentifier = "\x1b[31m" + strings.Repeat("long ", 4000) + `a\b`
	d := read(t, file(t, make1(t, r)))
	if got, want := d.Strings(dicom.SeriesDescription), "Radiomics "+strings.Repeat("ą", 25)+"..."; len(got) != 1 || got[0] != want {
		t.Errorf("Series Description %q, want %q", got, want)
	}
	g, err := Measurements(d)
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("ż", 30) + "..."; g[0].Finding.Meaning != want {
		t.Errorf("meaning %q, want %q", g[0].Finding.Meaning, want)
	}
	if want := "[31m" + strings.Repeat("long ", 4000) + `a\b`; g[0].TrackingIdentifier != want {
		t.Errorf("Tracking Identifier %.40q, want %.40q", g[0].TrackingIdentifier, want)
	}
}

// Patient and study are what the images say, byte for byte.
func TestHeaderIsTheImages(t *testing.T) {
	r := sample(t)
	d := read(t, file(t, make1(t, r)))
	for _, tag := range dicom.EntityAttributes() {
		if got, want := d.Bytes(tag), read(t, file(t, withClass(r.Source))).Bytes(tag); !bytes.Equal(got, want) {
			t.Errorf("%s is %q, in the images %q", tag, got, want)
		}
	}
	for tag, want := range map[dicom.Tag]string{
		dicom.Modality: "SR", dicom.SeriesInstanceUID: "2.25.102", dicom.SeriesNumber: "9001", dicom.InstanceNumber: "2",
		dicom.SeriesDescription: "Radiomics (IBSI) GTVp", dicom.Manufacturer: "radnode", dicom.SoftwareVersions: "0.1.0",
		dicom.CompletionFlag: "COMPLETE", dicom.VerificationFlag: "UNVERIFIED", dicom.SpecificCharacterSet: "ISO_IR 192",
		// 23:30:15 UTC in the zone of the images, which is +0200.
		dicom.ContentDate: "20260302", dicom.ContentTime: "013015", dicom.BodyPartExamined: "",
	} {
		if got := d.String(tag); got != want {
			t.Errorf("%s = %q, want %q", tag, got, want)
		}
	}
	for _, tag := range []dicom.Tag{dicom.ReferencedPerformedProcedureStepSequence, dicom.PerformedProcedureCodeSequence} {
		if !d.Has(tag) {
			t.Errorf("%s of type 2 is absent", tag)
		}
	}
	c := d.Seq(dicom.ContributingEquipmentSequence)
	if len(c) != 1 || c[0].String(dicom.DeviceUID) != "2.25.7" || c[0].String(dicom.Manufacturer) != "radnode" ||
		!parseCode(c[0], dicom.PurposeOfReferenceCodeSequence).is(processingEquipment) {
		t.Errorf("Contributing Equipment Sequence is %v", c)
	}
	s := d.Seq(dicom.CodingSchemeIdentificationSequence)
	if len(s) != 1 || s[0].String(dicom.CodingSchemeDesignator) != "99RADNODE" || s[0].String(dicom.CodingSchemeName) != "radnode concepts" {
		t.Errorf("Coding Scheme Identification Sequence is %v", s)
	}
}

func withClass(d *dicom.DataSet) *dicom.DataSet {
	d.SetString(dicom.SOPInstanceUID, "1.2.3")
	return d
}

// That the patient's identity was removed is said together with the method, or not at all.
func TestDeidentifiedSource(t *testing.T) {
	r := sample(t)
	r.Source.SetString(dicom.PatientIdentityRemoved, "YES")
	if make1(t, r).Has(dicom.PatientIdentityRemoved) {
		t.Error("Patient Identity Removed without a method")
	}
	r.Source.SetString(dicom.DeidentificationMethod, "by hand")
	if d := make1(t, r); d.String(dicom.PatientIdentityRemoved) != "YES" || d.String(dicom.DeidentificationMethod) != "by hand" {
		t.Error("the images' own words about de-identification are lost")
	}
}

// A source with almost nothing still gives the attributes of type 2.
func TestHeaderOfABareSource(t *testing.T) {
	r := sample(t)
	r.Source = dicom.New()
	r.Source.SetString(dicom.StudyInstanceUID, study)
	d := make1(t, r)
	for _, tag := range []dicom.Tag{dicom.PatientName, dicom.PatientID, dicom.PatientBirthDate, dicom.PatientSex, dicom.StudyDate,
		dicom.StudyTime, dicom.StudyID, dicom.AccessionNumber, dicom.ReferringPhysicianName} {
		if !d.Has(tag) {
			t.Errorf("%s is absent", tag)
		}
	}
	if got := d.String(dicom.ContentTime); got != "233015" {
		t.Errorf("Content Time %s without a zone in the source, want the caller's clock", got)
	}
}

func tree(t testing.TB, d *dicom.DataSet) *item {
	t.Helper()
	root, err := parse(d, 0)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// All instances that the tree names, and the images that were measured, are in
// the evidence, and no others, each in the sequence of its study.
func TestEvidence(t *testing.T) {
	d := make1(t, sample(t))
	named := map[string]bool{}
	tree(t, d).walk(func(it *item) {
		if it.ref.SOPInstanceUID != "" {
			named[it.ref.SOPInstanceUID] = true
		}
	})
	for _, s := range sample(t).Images {
		for _, in := range s.Instances {
			named[in.SOPInstanceUID] = true
		}
	}
	at := places(d)
	if len(named) != 6+1+2 || len(at) != len(named) {
		t.Errorf("%d instances named, %d in the evidence, want 9", len(named), len(at))
	}
	for uid := range named {
		if _, ok := at[uid]; !ok {
			t.Errorf("%s is not in the evidence", uid)
		}
	}
	for tag, want := range map[dicom.Tag][]string{
		dicom.CurrentRequestedProcedureEvidenceSequence: {study},
		dicom.PertinentOtherEvidenceSequence:            {"1.2.826.0.1.3680043.8.498.99"},
		dicom.PredecessorDocumentsSequence:              {study},
	} {
		var got []string
		for _, s := range d.Seq(tag) {
			got = append(got, s.String(dicom.StudyInstanceUID))
		}
		if !cmp.Equal(got, want) {
			t.Errorf("%s has the studies %v, want %v", tag, got, want)
		}
	}
	current := d.Seq(dicom.CurrentRequestedProcedureEvidenceSequence)[0].Seq(dicom.ReferencedSeriesSequence)
	var series []string
	for _, s := range current {
		series = append(series, s.String(dicom.SeriesInstanceUID))
	}
	if want := []string{ctSeries, "1.2.826.0.1.3680043.8.498.4", "2.25.300"}; !cmp.Equal(series, want) {
		t.Errorf("series of the evidence %v, want %v", series, want)
	}
}

// The order of the rows in TID 1500 and TID 1411, and their template ids.
func TestRowsAreInTemplateOrder(t *testing.T) {
	root := tree(t, make1(t, full(t)))
	rows := func(it *item) (s []string) {
		for _, c := range it.children {
			s = append(s, string(c.rel)+" "+string(c.vt)+" "+c.name.Value)
		}
		return s
	}
	want := []string{
		"HAS CONCEPT MOD CODE 121049", "HAS OBS CONTEXT CODE 121005", "HAS OBS CONTEXT UIDREF 121012", "HAS OBS CONTEXT TEXT 121013",
		"HAS OBS CONTEXT TEXT 121014", "HAS OBS CONTEXT TEXT 121015", "HAS OBS CONTEXT TEXT 121016", "HAS CONCEPT MOD CODE 121058",
		"CONTAINS TEXT 121111", // before everything that is long
		"CONTAINS CONTAINER 111028", "CONTAINS CONTAINER 126010",
	}
	if diff := cmp.Diff(want, rows(root)); diff != "" {
		t.Errorf("TID 1500:\n%s", diff)
	}
	lib := root.find(imageLibrary)
	want = []string{"HAS ACQ CONTEXT CODE 121139", "HAS ACQ CONTEXT DATE 111060", "HAS ACQ CONTEXT TIME 111061",
		"HAS ACQ CONTEXT UIDREF 112002", "HAS ACQ CONTEXT TEXT 113607", "HAS ACQ CONTEXT UIDREF 112227",
		"HAS ACQ CONTEXT NUM 110910", "HAS ACQ CONTEXT NUM 110911", "HAS ACQ CONTEXT NUM 111026", "HAS ACQ CONTEXT NUM 111066",
		"HAS ACQ CONTEXT NUM 112225"}
	if diff := cmp.Diff(want, rows(lib.children[0])); diff != "" {
		t.Errorf("TID 1600:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"CONTAINS COMPOSITE 121112"}, rows(lib.children[1])); diff != "" {
		t.Errorf("TID 1600, contours:\n%s", diff)
	}
	groups := root.find(imagingMeasurements).children[4:] // after algorithm name, version and two parameters
	want = []string{
		"HAS OBS CONTEXT TEXT 112039", "HAS OBS CONTEXT UIDREF 112040", "CONTAINS CODE 276214006", "CONTAINS CODE 121071",
		"CONTAINS IMAGE 121191", "CONTAINS UIDREF 121232", "HAS CONCEPT MOD CODE 363698007",
		"CONTAINS NUM RNU0", "CONTAINS NUM 2PR5", "CONTAINS NUM C0JK", "CONTAINS NUM Q4LE", "CONTAINS NUM ECT3", "CONTAINS NUM 99N0",
		"CONTAINS NUM L0JK", "CONTAINS NUM TU9B",
		"CONTAINS CODE IF9H", "CONTAINS CODE IF9H", "CONTAINS CODE 4R0B", "CONTAINS TEXT voxelisation", "CONTAINS TEXT 121106",
	}
	if diff := cmp.Diff(want, rows(groups[0])); diff != "" {
		t.Errorf("TID 1411:\n%s", diff)
	}
	want = []string{
		"HAS OBS CONTEXT TEXT 112039", "HAS OBS CONTEXT UIDREF 112040", "CONTAINS IMAGE 121191", "CONTAINS UIDREF 121232",
		"HAS CONCEPT MOD CODE 370129005", "HAS CONCEPT MOD TEXT 111001", "HAS CONCEPT MOD TEXT 111003", "HAS CONCEPT MOD TEXT 111002",
		"CONTAINS NUM YEKZ",
	}
	if diff := cmp.Diff(want, rows(groups[1])); diff != "" {
		t.Errorf("TID 1411, second group:\n%s", diff)
	}
	for it, want := range map[*item]string{root: "1500", lib: "1600", groups[0]: "1411", groups[1]: "1411"} {
		if it.template != want {
			t.Errorf("template of %s is %q, want %s", it.name, it.template, want)
		}
	}
	if s := groups[0].find(referencedSegment).segment; s != 1 {
		t.Errorf("Referenced Segment Number %d, want 1", s)
	}
}

// OHIF takes ContentSequence of every NUM apart in reports with the title 126000.
func TestEveryNumHasAChildUnderTheGenericTitle(t *testing.T) {
	for _, title := range titles {
		r := sample(t)
		r.Title = title
		root := tree(t, make1(t, r))
		if !root.name.is(title) {
			t.Errorf("title %s, want %s", root.name, title)
		}
		root.find(imagingMeasurements).walk(func(it *item) {
			if it.vt != num || it.rel != contains {
				return
			}
			first := len(it.children) > 0 && it.children[0].rel == hasConceptMod
			if want := title.is(ImagingMeasurementReport) || it.name.Value == "TU9B"; first != want {
				t.Errorf("%s: %s has a HAS CONCEPT MOD child: %v, want %v", title, it.name, first, want)
			}
		})
		got, err := Measurements(make1(t, r))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r.Groups, got); diff != "" {
			t.Errorf("%s: want - got +:\n%s", title, diff)
		}
	}
}

// Steps are coded items of the group with their numbers as properties; the same step may be there twice.
func TestStepsInTheTree(t *testing.T) {
	r := full(t)
	g := tree(t, make1(t, r)).find(imagingMeasurements).children[4]
	var got []Step
	for _, c := range g.children {
		if c.rel == contains && (c.vt == code || c.vt == text) && (c.name.Scheme == IBSI || c.name.Scheme == Private) {
			s := Step{Name: c.name, Method: c.code, Text: c.text}
			for _, n := range c.children {
				if n.vt != num || n.rel != hasProperties {
					t.Errorf("%s has %s %s", c.name, n.rel, n.vt)
				}
				s.Numbers = append(s.Numbers, Parameter{n.name, n.value, n.unit})
			}
			got = append(got, s)
		}
	}
	if diff := cmp.Diff(r.Groups[0].Steps, got); diff != "" {
		t.Errorf("want - got +:\n%s", diff)
	}
	// Who reads the private codes is told whose they are.
	r.CodingSchemes = nil
	s := make1(t, r).Seq(dicom.CodingSchemeIdentificationSequence)
	if len(s) != 1 || s[0].String(dicom.CodingSchemeDesignator) != Private || s[0].String(dicom.CodingSchemeName) == "" ||
		s[0].String(dicom.CodingSchemeResponsibleOrganization) != "radnode" {
		t.Errorf("Coding Scheme Identification Sequence is %v", s)
	}
	for _, c := range g.children {
		if c.name.Value == "Q4LE" && c.findText(equivalentMeaning) != "Mean CT number" {
			t.Errorf("display name of the mean is %q", c.findText(equivalentMeaning))
		}
	}
}

func TestLanguage(t *testing.T) {
	r := sample(t)
	for language, want := range map[string]string{"": "en-US English (United States)", "en": "en-US English (United States)", "it": "it-IT Italian (Italy)"} {
		r.Language = language
		if c := tree(t, make1(t, r)).findCode(languageOfContent); c.Value+" "+c.Meaning != want || c.Scheme != "RFC5646" {
			t.Errorf("%q: %s, want %s", language, c, want)
		}
	}
}

// A revision names the one before, in one series: instance numbers rise, and each report has one predecessor.
func TestChainOfRevisions(t *testing.T) {
	var before *dicom.DataSet
	for n := 1; n <= 4; n++ {
		r := sample(t)
		r.SOPInstanceUID, r.InstanceNumber, r.Predecessors = "2.25.11"+strconv.Itoa(n), n, nil
		if before != nil {
			r.Predecessors = []Document{{before.String(dicom.StudyInstanceUID), before.String(dicom.SeriesInstanceUID),
				Instance{before.String(dicom.SOPClassUID), before.String(dicom.SOPInstanceUID)}}}
		}
		d := read(t, file(t, make1(t, r)))
		p := d.Seq(dicom.PredecessorDocumentsSequence)
		if before == nil {
			if len(p) > 0 {
				t.Error("the first report has a predecessor")
			}
			before = d
			continue
		}
		series := p[0].Seq(dicom.ReferencedSeriesSequence)
		at := series[0].Seq(dicom.ReferencedSOPSequence)
		if len(p) != 1 || len(series) != 1 || len(at) != 1 || at[0].String(dicom.ReferencedSOPInstanceUID) != before.String(dicom.SOPInstanceUID) ||
			series[0].String(dicom.SeriesInstanceUID) != d.String(dicom.SeriesInstanceUID) || d.String(dicom.InstanceNumber) != strconv.Itoa(n) {
			t.Errorf("revision %d does not name the one before", n)
		}
		before = d
	}
}

// Segment numbers and the series that was segmented are those of the evidence.
func TestReferencesOfGroups(t *testing.T) {
	r := full(t)
	d := read(t, file(t, make1(t, r)))
	series := map[string]bool{}
	for _, tag := range []dicom.Tag{dicom.CurrentRequestedProcedureEvidenceSequence, dicom.PertinentOtherEvidenceSequence} {
		for _, st := range d.Seq(tag) {
			for _, se := range st.Seq(dicom.ReferencedSeriesSequence) {
				series[se.String(dicom.SeriesInstanceUID)] = true
			}
		}
	}
	for i, g := range d.Seq(dicom.ContentSequence)[10].Seq(dicom.ContentSequence)[4:] {
		template := g.Seq(dicom.ContentTemplateSequence)
		if len(template) != 1 || template[0].String(dicom.TemplateIdentifier) != "1411" || template[0].String(dicom.MappingResource) != "DCMR" {
			t.Errorf("group %d is not of DCMR 1411", i)
		}
		for _, c := range g.Seq(dicom.ContentSequence) {
			switch name := parseCode(c, dicom.ConceptNameCodeSequence); {
			case name.is(referencedSegment):
				n, err := c.Seq(dicom.ReferencedSOPSequence)[0].Ints(dicom.ReferencedSegmentNumber)
				if err != nil || len(n) != 1 || n[0] != r.Groups[i].Segment.Number { // TID 1411 row 7: exactly one
					t.Errorf("group %d has the segments %v, want %d", i, n, r.Groups[i].Segment.Number)
				}
			case name.is(sourceSeries):
				if !series[c.String(dicom.UID)] {
					t.Errorf("group %d: series %s is not in the evidence", i, c.String(dicom.UID))
				}
			}
		}
	}
	if root := d.Seq(dicom.ContentTemplateSequence); len(root) != 1 || root[0].String(dicom.TemplateIdentifier) != "1500" {
		t.Error("the root is not of DCMR 1500")
	}
}

// The orders that the images name are those of the report, PS3.3 C.17.2.
func TestReferencedRequests(t *testing.T) {
	type order struct{ accession, procedure, placer, filler, study string }
	request := func(values map[dicom.Tag]string) *dicom.DataSet {
		q := dicom.New()
		for t, v := range values {
			q.SetString(t, v)
		}
		return q
	}
	for _, c := range []struct {
		name   string
		change func(*dicom.DataSet)
		want   []order
	}{
		{"as it is", func(*dicom.DataSet) {}, []order{{"ACC1", "RP1", "", "", study}}},
		{"none", func(d *dicom.DataSet) { d.Remove(dicom.RequestAttributesSequence, dicom.AccessionNumber) }, nil},
		{"accession alone", func(d *dicom.DataSet) { d.Remove(dicom.RequestAttributesSequence) }, []order{{"ACC1", "", "", "", study}}},
		{"two orders", func(d *dicom.DataSet) {
			d.SetSeq(dicom.RequestAttributesSequence,
				request(map[dicom.Tag]string{dicom.AccessionNumber: "A", dicom.RequestedProcedureID: "1", dicom.PlacerOrderNumberImagingServiceRequest: "P",
					dicom.FillerOrderNumberImagingServiceRequest: "F"}),
				request(map[dicom.Tag]string{dicom.AccessionNumber: "", dicom.RequestedProcedureID: "2", dicom.StudyInstanceUID: "1.2.3"}))
		}, []order{{"A", "1", "P", "F", study}, {"ACC1", "2", "", "", "1.2.3"}}},
		{"empty order", func(d *dicom.DataSet) {
			d.SetString(dicom.AccessionNumber)
			d.SetSeq(dicom.RequestAttributesSequence, request(map[dicom.Tag]string{dicom.ScheduledProcedureStepID: "S"}))
		}, nil},
	} {
		r := sample(t)
		c.change(r.Source)
		d := read(t, file(t, make1(t, r)))
		var got []order
		for _, q := range d.Seq(dicom.ReferencedRequestSequence) {
			got = append(got, order{q.String(dicom.AccessionNumber), q.String(dicom.RequestedProcedureID),
				q.String(dicom.PlacerOrderNumberImagingServiceRequest), q.String(dicom.FillerOrderNumberImagingServiceRequest), q.String(dicom.StudyInstanceUID)})
			for _, type2 := range []dicom.Tag{dicom.ReferencedStudySequence, dicom.AccessionNumber, dicom.PlacerOrderNumberImagingServiceRequest,
				dicom.FillerOrderNumberImagingServiceRequest, dicom.RequestedProcedureID, dicom.RequestedProcedureDescription, dicom.RequestedProcedureCodeSequence} {
				if !q.Has(type2) {
					t.Errorf("%s: %s is absent", c.name, type2)
				}
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// An accession number goes with its own issuer.
func TestIssuerOfAccessionNumber(t *testing.T) {
	r := sample(t)
	issuer, known, other := dicom.New(), dicom.New(), dicom.New()
	issuer.SetString(dicom.Tag(0x00400031), "HOSPITAL") // Local Namespace Entity ID
	known.SetString(dicom.RequestedProcedureID, "1")
	other.SetString(dicom.AccessionNumber, "OTHER")
	r.Source.SetSeq(dicom.IssuerOfAccessionNumberSequence, issuer)
	r.Source.SetSeq(dicom.RequestAttributesSequence, known, other)
	requests := read(t, file(t, make1(t, r))).Seq(dicom.ReferencedRequestSequence)
	if len(requests) != 2 || len(requests[0].Seq(dicom.IssuerOfAccessionNumberSequence)) != 1 || requests[1].Has(dicom.IssuerOfAccessionNumberSequence) {
		t.Errorf("%v", requests)
	}
}

// IHE AIR asks for the device, its version and its UID in Contributing Equipment; the observer of the content is the same one.
func TestDeviceIsTheObserver(t *testing.T) {
	d := read(t, file(t, make1(t, full(t))))
	c := d.Seq(dicom.ContributingEquipmentSequence)
	root := tree(t, d)
	if len(c) != 1 || c[0].String(dicom.DeviceUID) != root.findText(deviceObserverUID) || c[0].String(dicom.SoftwareVersions) != d.String(dicom.SoftwareVersions) ||
		c[0].String(dicom.Manufacturer) != root.findText(deviceManufacturer) || c[0].String(dicom.ManufacturerModelName) != root.findText(deviceModelName) ||
		!root.findCode(observerType).is(device) {
		t.Errorf("%v", c)
	}
}

// Archives and networks bear a full report: 250 kB.
func TestReportIsSmall(t *testing.T) {
	if n := len(encode(t, make1(t, fourRegions(t)))); n > 250_000 {
		t.Errorf("%d bytes", n)
	}
}

// BenchmarkNew writes a full report to the last byte.
func BenchmarkNew(b *testing.B) {
	r := fourRegions(b)
	b.ReportAllocs()
	var size int
	for b.Loop() {
		size = len(encode(b, make1(b, r)))
	}
	b.ReportMetric(float64(size), "bytes/report")
}

// fourRegions is a report on 134 images of four regions with 174 values each, in two groups with their steps.
func fourRegions(b testing.TB) Report {
	r := full(b)
	for i := range 134 - len(r.Images[0].Instances) {
		r.Images[0].Instances = append(r.Images[0].Instances, Instance{dicom.CTImageStorage, ctSeries + ".20" + strconv.Itoa(i)})
	}
	number := func(n int) []Parameter {
		return slices.Repeat([]Parameter{{private("bin-width", "Bin width"), 25, Unit("HU")}}, n)
	}
	step := func(numbers int) Step {
		return Step{Name: Processing("VTM2"), Method: Processing("3WE3"), Numbers: number(numbers)}
	}
	first := r.Groups[0]
	first.Measurements = everyFeature(b)
	first.Steps = []Step{step(3), step(1), step(0), step(0), step(2), step(1), step(1), step(0), step(3), step(1),
		{Name: private("voxelisation", "Voxels of the region"), Text: strings.Repeat("x", 330)}}
	second := first
	second.Measurements = []Measurement{measure(b, "BC2M", math.E), measure(b, "GBPN", math.E)}
	second.Steps = first.Steps[:6]
	r.Groups = nil
	for range 4 {
		r.Groups = append(r.Groups, first, second)
	}
	return r
}
