package sr

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/radnode/radnode/dimse/dicom"
)

const sampleText = `Oncology Measurement Report
  patient   Żółć^Łucja=山田^花子, ID RN-0042, sex F, born 1961-02-03
  study     2014-05-01, CT thorax, accession ACC1
            1.2.826.0.1.3680043.8.498.1
  document  Comprehensive 3D SR, COMPLETE, UNVERIFIED, 2026-03-02 01:30:15
            2.25.101
  series    9001, Radiomics (IBSI) GTVp, instance 2
  made by   radnode, radnode, version 0.1.0

Summary
  GTVp, right lung: 12.3 cm3, mean -46.9 HU. 8 features, 1 not computable.

GTVp – rechts \ oben
  Finding category: Morphologically Abnormal Structure
  Finding: Neoplasm
  Finding Site: Lung  (Laterality: Right)
  Volume of Mesh                 12345.68 mm3
  Surface to Volume Ratio        0.3 /mm
  Surface Area of Mesh           1.666667e-09 mm2
  Mean intensity                 -46.9 HU
  Intensity variance             1e+300 HU2
  Integrated Intensity           -1.234568e-300 HU.mm3
  Maximum 3D Diameter of a Mesh  1 mm
  Joint Entropy of GLCM          6.123457  (Intensity discretisation: Fixed bin size; Feature aggregation: merged 3D directions; Bin width: 25 HU)
  Comment: Not computable: NI2N Correlation of GLCM (constant ROI)
  Tracking Unique Identifier: 2.25.200
  Referenced Segment: Segmentation 2.25.301, segment 1
  Source series for segmentation: 1.2.826.0.1.3680043.8.498.2

node 4R
  Volume from Voxel Summation  64 mm3
  Tracking Unique Identifier: 2.25.201
  Referenced Segment: Segmentation 2.25.401, segment 3
  Source series for segmentation: 1.2.826.0.1.3680043.8.498.2
  Measurement Method: Sum of segmented voxel method for volume
  Algorithm Name: radnode features
  Algorithm Version: 0.1.0
  Algorithm Parameters: FBN:32

Imaging Measurements
  Algorithm Name: radnode features
  Algorithm Version: 0.1.0
  Algorithm Parameters: INT:LIN:3D:1mm RS:[-1000,400] FBS:25HU
  Algorithm Parameters: profile\ct-default

Context
  Language of Content Item and Descendants: English (United States)
  Observer Type: Device
  Device Observer UID: 2.25.7
  Device Observer Name: RADNODE
  Device Observer Manufacturer: radnode
  Device Observer Model Name: radnode
  Device Observer Serial Number: n1
  Procedure reported: CT unspecified body region

Image Library
  Image Library Group
    Modality: Computed Tomography
    Series Instance UID: 1.2.826.0.1.3680043.8.498.2
    Frame of Reference UID: 1.2.826.0.1.3680043.8.498.3
  Image Library Group
    RT Structure Set ….3680043.8.498.5
`

func TestText(t *testing.T) {
	var out strings.Builder
	if err := Text(&out, make1(t, sample(t))); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sampleText, out.String()); diff != "" {
		t.Errorf("want - got +:\n%s", diff)
	}
}

func TestTextOfOthers(t *testing.T) {
	for _, c := range []struct {
		path []string
		want []string
	}{
		{[]string{"data", "dcmqi", "sr-example", "sr.dcm"}, []string{
			"\n  document  Comprehensive SR, PARTIAL, UNVERIFIED, 2015-08-19 11:21:53\n",
			"\n    191 × Positron Emission Tomography Image  ",
			"\n    Radiopharmaceutical agent: Fluorodeoxyglucose F^18^\n",
			"\n  SUVbw                                                6.01529 g/ml SUVbw  (Derivation: Mean)\n",
			"\n  Referenced Segment: Segmentation …440001312.777033, segment 1\n",
		}},
		{[]string{"data", "highdicom", "sr_document.dcm"}, []string{
			"\n  Area of defined region  1.7 cm2  (", "\n  Image Region: SCOORD CIRCLE  (Source Image: CT Image …",
			"\n  Finding Site: Cervico-thoracic spine  (Topographical Modifier: Vertebral foramen)\n",
		}},
		{[]string{"data", "highdicom", "sr_document_with_multiple_groups.dcm"}, []string{
			"\n  Intensity Histogram Mean  -119.0739 HU\n", "\n  Volume  200 mm3\n", "\n  Volume Surface: SCOORD3D POINT\n",
		}},
	} {
		b, err := os.ReadFile(shared(t, c.path...))
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := Text(&out, read(t, b)); err != nil {
			t.Fatal(err)
		}
		for _, w := range c.want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("%s: %q is not in\n%s", c.path[2], w, out.String())
			}
		}
	}
}

func TestTextIsForReportsOnly(t *testing.T) {
	if err := Text(new(bytes.Buffer), source()); err == nil || !strings.Contains(err.Error(), "CT Image Storage") {
		t.Errorf("a CT image gave %v", err)
	}
}

func TestRound(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", 0.1 + 0.2: "0.3", 12345.678901234: "12345.68", -46.900000000000006: "-46.9", 999999.96: "1000000",
		12345678.9: "12345679", 123456789012345: "123456789012345", 1e15: "1e+15", 0.00012345678: "0.0001234568", 1.23456789e-5: "1.234568e-05",
		math.MaxFloat64: "1.797693e+308", -1e-320: "-1e-320",
	} {
		if got := round(v); got != want {
			t.Errorf("%v is shown as %s, want %s", v, got, want)
		}
	}
}

// No document can steer the terminal.
func TestTextEscapesControls(t *testing.T) {
	d := newContainer(dcm("1", "\x1b]0;title\a"), "").encode()
	d.SetBytes(dicom.PatientName, dicom.PN, []byte("\x1b[2J\u202e\u009bA"))
	c := newText(dcm("2", "Note"), "x").encode()
	c.SetBytes(dicom.TextValue, dicom.UT, []byte("one\r\ntwo\rthree\tfour\x00\x1b[31m"))
	d.SetSeq(dicom.ContentSequence, c)
	var out strings.Builder
	if err := Text(&out, d); err != nil {
		t.Fatal(err)
	}
	want := "\\u001B]0;title\\u0007\n  patient   \\u001B[2J\\u202E\\u009BA\n  document  (no SOP class)\nNote: one\n    two\\u000Dthree four\\u0000\\u001B[31m\n"
	if out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

func seeds(f *testing.F) {
	f.Add(encode(f, make1(f, sample(f))))
	deep := newContainer(measurementGroup, "").encode()
	for range 5 {
		outer := newNum(dcm("1", "One"), 1, Unit("1")).encode()
		outer.SetSeq(dicom.ContentSequence, deep)
		deep = outer
	}
	root := newContainer(ImagingMeasurementReport, "1500").encode()
	root.SetSeq(dicom.ContentSequence, deep)
	f.Add(encode(f, root))
	f.Add(encode(f, dose().encode()))
	for _, name := range []string{"dcmqi/sr-example/sr.dcm", "highdicom/sr_document.dcm", "highdicom/sr_document_with_multiple_groups.dcm"} {
		if dir := os.Getenv("RADNODE_SHARED"); dir != "" {
			if b, err := os.ReadFile(filepath.Join(dir, "data", filepath.FromSlash(name))); err == nil {
				f.Add(encode(f, read(f, b)))
			}
		}
	}
}

// FuzzReport gives any data set to the readers: they must not panic, Text must write nothing but graphic characters, JSON
// one line that is JSON, and what Read finds must not depend on how often it is asked nor Compare find a report unlike itself.
func FuzzReport(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := dicom.ReadDataSet(bytes.NewReader(b), int64(len(b)), dicom.ExplicitVRLittleEndian)
		if err != nil {
			return
		}
		var out strings.Builder
		textErr := Text(&out, file.DataSet)
		for _, r := range out.String() {
			if r != '\n' && !unicode.IsGraphic(r) {
				t.Fatalf("%q in %q", r, out.String())
			}
		}
		var line bytes.Buffer
		jsonErr := JSON(&line, file.DataSet, "report.dcm")
		if (textErr == nil) != (jsonErr == nil) {
			t.Fatalf("Text: %v, JSON: %v", textErr, jsonErr)
		}
		if jsonErr == nil && (!json.Valid(line.Bytes()) || bytes.Count(line.Bytes(), []byte("\n")) != 1) {
			t.Fatalf("no line of JSON: %q", line.Bytes())
		}
		one, err := Read(file.DataSet)
		if err != nil {
			return
		}
		if two, _ := Read(file.DataSet); !cmp.Equal(one, two, cmp.Comparer(sameBits)) {
			t.Fatalf("%+v, then %+v", one, two)
		}
		measured := 0
		for _, g := range one.Groups {
			measured += len(g.Measurements)
		}
		all := Compare(one, one)
		if len(all) != measured {
			t.Fatalf("%d values became %d rows", measured, len(all))
		}
		for _, c := range all {
			if !c.Equal() || c.Parameters || c.Region == "" {
				t.Fatalf("not equal to itself: %+v", c)
			}
		}
	})
}

func sameBits(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || a != a && b != b
}

// Every value of the tree is shown, in whatever order.
func TestTextLeavesNothingOut(t *testing.T) {
	_, sets := reports(t)
	sets = append(sets, dose().encode())
	for _, d := range sets {
		var out strings.Builder
		if err := Text(&out, d); err != nil {
			t.Fatal(err)
		}
		root, err := parseDocument(d)
		if err != nil {
			t.Fatal(err)
		}
		shown := out.String()
		items := 0
		root.walk(func(it *item) {
			v := valueOf(it)
			if it.bare() || it.vt == text && strings.Contains(it.text, "\n") {
				return
			}
			items++
			if !strings.Contains(shown, escape(v)) {
				t.Errorf("%s %s: %q is not in\n%s", it.vt, it.name, v, shown)
			}
		})
		if items < 5 {
			t.Errorf("only %d items", items)
		}
	}
}

// dose is a report of another template, TID 10011.
func dose() *item {
	root := newContainer(dcm("113701", "X-Ray Radiation Dose Report"), "10011")
	root.add(hasConceptMod, newCode(dcm("121058", "Procedure reported"), dcm("113704", "Projection X-Ray")))
	root.add(hasObsContext, newCode(observerType, person))
	root.add(hasObsContext, &item{vt: pName, name: personObserverName, text: "Doe^Jane"})
	acc := root.add(contains, newContainer(dcm("113702", "Accumulated X-Ray Dose Data"), "10002"))
	acc.add(contains, newNum(dcm("113722", "Dose Area Product Total"), 1.25e-5, Code{"Gy.m2", "UCUM", "Gy.m2"}))
	acc.add(contains, newText(dcm("121106", "Comment"), "none"))
	return root
}

// Another template comes in the order of its tree.
func TestTextOfAnotherTemplate(t *testing.T) {
	const want = `X-Ray Radiation Dose Report
  document  (no SOP class)
  observer  Doe^Jane
Procedure reported: Projection X-Ray
Observer Type: Person
Person Observer Name: Doe^Jane

Accumulated X-Ray Dose Data
  Dose Area Product Total  1.25e-05 Gy.m2
  Comment: none
`
	var out strings.Builder
	if err := Text(&out, dose().encode()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("want - got +:\n%s", diff)
	}
}

// A region with several groups counts them; one without a name is a measurement group; steps say how; a missing value why.
func TestTextOfGroups(t *testing.T) {
	d := edited(t, func(root, g *item) {
		bin := g.add(contains, newCode(Code{"4R0B", IBSI, "Intensity discretisation"}, Code{"Q3RU", IBSI, "Fixed bin size"}))
		bin.add(hasProperties, newNum(Code{"w", "99RADNODE", "Bin width"}, 25, Unit("HU")))
		g.find(concept(t, "Q4LE")).add(hasConceptMod, newText(equivalentMeaning, "Mean CT number"))
		g.find(concept(t, "ECT3")).add(hasConceptMod, newText(equivalentMeaning, "Intensity variance"))
		m := root.find(imagingMeasurements)
		second := m.add(contains, newContainer(measurementGroup, "1411"))
		second.add(hasObsContext, newText(trackingIdentifier, "node 4R"))
		second.add(contains, newNum(concept(t, "RNU0"), 2, Unit("mm3")))
		third := m.add(contains, newContainer(measurementGroup, "1411"))
		third.add(contains, newNum(concept(t, "RNU0"), 3, Unit("mm3")))
		evaluationsOf(root).add(contains, newCode(dcm("9", "Response"), dcm("10", "Stable disease")))
		root.add(contains, newText(summary, "A line at the top."))
	})
	if got := content(t, d).Summary; len(got) != 2 || got[1] != "A line at the top." {
		t.Errorf("summary %q", got)
	}
	var out strings.Builder
	if err := Text(&out, d); err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, part := range []string{"\nSummary\n", "\n  A line at the top.\n", "\nQualitative Evaluations\n  Response: Stable disease\n", "\nGTVp – rechts \\ oben\n",
		"\n  Mean CT number                 -46.9 HU  (Mean intensity)\n  Intensity variance             1e+300 HU2\n", "  Comment: Not", "\n  Intensity discretisation: Fixed bin size  (Bin width: 25 HU)\n", "  Referenced Segment: ",
		"\nnode 4R (1 of 2)\n", "\nnode 4R (2 of 2)\n  Volume of Mesh  2 mm3\n", "\nMeasurement Group\n  Volume of Mesh  3 mm3\n", "\nContext\n", "\nImage Library\n"} {
		i := strings.Index(out.String()[at:], part)
		if i < 0 {
			t.Fatalf("%q is not there or too early in\n%s", part, out.String())
		}
		at += i
	}
	it := newNum(concept(t, "RNU0"), math.NaN(), Code{})
	it.qualifier = dcm("114000", "Not a number")
	if got := valueOf(it); got != "(no value: Not a number)" {
		t.Errorf("a missing value is %q", got)
	}
	for unit, want := range map[string]string{"{SUVbw}g/ml": "g/ml SUVbw", "g/ml{SUVbw}": "g/ml SUVbw", "{pixels}": "pixels", "1": "", "ml": "ml", "cm3": "cm3",
		"{counts}/s": "counts /s", "g/ml{SUVbw}.mm3": "g/ml SUVbw .mm3"} {
		if got := unitText(Unit(unit)); got != want {
			t.Errorf("%s is shown as %q, want %q", unit, got, want)
		}
	}
}
