package pipeline

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/roi"
)

// The segmentation that comes with a report, and one that highdicom writes of the same voxels, give the values of the contours
// again, each to the bit.
func TestSegmentationHasTheValuesOfContours(t *testing.T) {
	if testing.Short() {
		t.Skip("measures four regions three times")
	}
	root := sharedLung1(t)
	images := readAll(t, filepath.Join(root, "image"))
	choose := func(_ *dicom.DataSet, r roi.Region) (features.Profile, bool, error) {
		return features.DefaultProfile("CT"), true, nil
	}
	measure := func(contours *dicom.File) *Measured {
		t.Helper()
		m, err := Measure(t.Context(), Request{Contours: contours, Images: images, Choose: choose})
		if err != nil {
			t.Fatal(err)
		}
		m.Release()
		return m
	}
	want := measure(readAll(t, filepath.Join(root, "mask_rtstruct"))[0])
	made, err := testOptions().Make(want, Revision{Input: "x", Number: 1}, DefaultStyle)
	if err != nil {
		t.Fatal(err)
	}
	same := func(from string, seg *dicom.File) {
		t.Helper()
		got := measure(seg)
		if len(got.Regions) != len(want.Regions) || len(want.Regions) != 4 {
			t.Fatalf("%s: %d regions of %d", from, len(got.Regions), len(want.Regions))
		}
		for i, r := range got.Regions {
			w := want.Regions[i]
			if r.Region.Name != w.Region.Name || r.Region.Kind() != "Segment" {
				t.Errorf("%s: %s %q, want the segment %q", from, r.Region.Kind(), r.Region.Name, w.Region.Name)
			}
			if w.Mask.Geometry != r.Mask.Geometry || !bytes.Equal(w.Mask.Data, r.Mask.Data) {
				t.Errorf("%s: %s has other voxels", from, r.Region.Name)
			}
			if d := cmp.Diff(w.Result.Values, r.Result.Values); d != "" || len(r.Result.Values) != 174 {
				t.Errorf("%s, %s: %d values: %s", from, r.Region.Name, len(r.Result.Values), d)
			}
		}
	}
	ours, err := dicom.ReadDataSet(bytes.NewReader(made.Segmentation.Data), int64(len(made.Segmentation.Data)), dicom.ExplicitVRLittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	same("radnode", ours)

	python := os.Getenv("RADNODE_PYTHON")
	if python == "" {
		python = "python3"
	}
	if out, err := exec.Command(python, "-c", "import highdicom").CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("highdicom is needed: %v %s", err, out)
		}
		t.Skip("the rest needs python3 with highdicom; RADNODE_PYTHON names another interpreter")
	}
	dir := t.TempDir()
	d := ours.DataSet // which leaves pixels where they were read
	d.SetBytes(dicom.PixelData, dicom.OB, pixelBytes(t, ours))
	var file bytes.Buffer
	if err := dicom.WriteFile(&file, made.Segmentation.Meta, d); err != nil {
		t.Fatal(err)
	}
	in, out := filepath.Join(dir, "in.dcm"), filepath.Join(dir, "out.dcm")
	if err := os.WriteFile(in, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := exec.Command(python, "-c", rewriteSegmentation, in, filepath.Join(root, "image"), out).CombinedOutput(); err != nil {
		t.Fatalf("highdicom: %v\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	same("highdicom", theirs)
}

func pixelBytes(t *testing.T, f *dicom.File) []byte {
	t.Helper()
	b := make([]byte, f.Pixels.Length)
	if _, err := f.Pixels.Reader().ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// rewriteSegmentation lets highdicom decode a segmentation and write its masks anew.
const rewriteSegmentation = `
import sys, glob, warnings, numpy as np, pydicom, highdicom as hd
warnings.simplefilter("ignore")
seg = hd.seg.segread(sys.argv[1])
images = sorted((pydicom.dcmread(f) for f in glob.glob(sys.argv[2] + "/*.dcm")), key=lambda d: float(d.ImagePositionPatient[2]))
masks = seg.get_pixels_by_source_instance([d.SOPInstanceUID for d in images], ignore_spatial_locations=True, assert_missing_frames_are_empty=True)
segments = [hd.seg.SegmentDescription(i + 1, s.segment_label, s.segmented_property_category, s.segmented_property_type, hd.seg.SegmentAlgorithmTypeValues.MANUAL)
    for i, s in enumerate(seg.get_segment_description(n) for n in seg.segment_numbers)]
new = hd.seg.Segmentation(images, masks.astype(bool), hd.seg.SegmentationTypeValues.BINARY, segments, hd.UID(), 1, hd.UID(), 1, "M", "N", "1", "S", omit_empty_frames=True)
new.save_as(sys.argv[3])
`
