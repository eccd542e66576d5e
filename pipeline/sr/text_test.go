package sr

import (
	"bytes"
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
    Frame of Reference UID: 1.2.826.0.1.3680043.8.498.3
    6 × CT Image  …0043.8.498.2.100 to …0043.8.498.2.105
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
	for _, name := range []string{"dcmqi/sr-example/sr.dcm", "highdicom/sr_document.dcm", "highdicom/sr_document_with_multiple_groups.dcm"} {
		if dir := os.Getenv("RADNODE_SHARED"); dir != "" {
			if b, err := os.ReadFile(filepath.Join(dir, "data", filepath.FromSlash(name))); err == nil {
				f.Add(encode(f, read(f, b)))
			}
		}
	}
}

// FuzzReport gives any data set to the readers: they must not panic, Text must
// write nothing but graphic characters, and what Measurements finds must not
// depend on how often it is asked.
func FuzzReport(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := dicom.ReadDataSet(bytes.NewReader(b), int64(len(b)), dicom.ExplicitVRLittleEndian)
		if err != nil {
			return
		}
		var out strings.Builder
		if Text(&out, file.DataSet) == nil {
			for _, r := range out.String() {
				if r != '\n' && !unicode.IsGraphic(r) {
					t.Fatalf("%q in %q", r, out.String())
				}
			}
		}
		one, err1 := Measurements(file.DataSet)
		two, err2 := Measurements(file.DataSet)
		if (err1 == nil) != (err2 == nil) || !cmp.Equal(one, two, cmp.Comparer(func(a, b float64) bool { return a == b || a != a && b != b })) {
			t.Fatalf("%+v, then %+v", one, two)
		}
	})
}
