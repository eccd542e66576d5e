package roi_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
)

// segInput has two regions on a grid of 5 × 3 × 4: fifteen bits a frame, so that frames do not start on bytes.
func segInput() roi.SEGInput {
	g := askew(5, 3, 4)
	masks := []*voxel.Mask{{Geometry: g, Data: make([]uint8, g.Len())}, {Geometry: g, Data: make([]uint8, g.Len())}}
	for i := range g.Len() {
		if k := i / 15; k == 1 || k == 2 {
			masks[0].Data[i] = uint8(i * i / 3 % 2)
		}
	}
	masks[1].Data[0], masks[1].Data[59] = 1, 1
	header := item(func(d *dicom.DataSet) {
		d.SetString(dicom.PatientName, "Dürer^Albrecht=杜勒")
		d.SetString(dicom.PatientID, "42")
		d.SetString(dicom.PatientBirthDate, "14710521")
		d.SetString(dicom.PatientSex, "M")
		d.SetString(dicom.StudyInstanceUID, "1.1")
		d.SetString(dicom.StudyDate, "20200102")
		d.SetString(dicom.StudyTime, "030405")
		d.SetString(dicom.FrameOfReferenceUID, "1.4")
		d.SetString(dicom.SeriesDescription, "of the images, not of the segmentation")
	})
	return roi.SEGInput{
		Source:       roi.Source{Header: header, SOPClass: dicom.CTImageStorage, Series: "1.2", SOPInstances: []string{"1.2.1", "1.2.2", "1.2.3", "1.2.4"}},
		StructureSet: structureSet(),
		Segments: []roi.Segment{
			{Region: roi.Region{Number: 7, Name: "GTV µ", InterpretedType: "GTV", TrackingID: "GTV µ", TrackingUID: "1.7.7", Color: &[3]uint8{255, 0, 0}}, Mask: masks[0]},
			{Region: roi.Region{Number: 3, Name: strings.Repeat("long ", 16), GenerationAlgorithm: "AUTOMATIC", TrackingID: "x", TrackingUID: "1.7.3"}, Mask: masks[1]},
		},
		SeriesNumber: 9, SeriesDescription: "Regions",
		Equipment:   roi.Equipment{Manufacturer: "radnode", ModelName: "radnode", SerialNumber: "1", SoftwareVersion: "1.0"},
		ContentTime: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

// readSEG puts the frames of a Segmentation back on the grid, each segment by itself: by Image Position, bit by bit.
func readSEG(t testing.TB, b []byte, g voxel.Geometry) []*voxel.Mask {
	t.Helper()
	f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	d := f.DataSet
	var pixels bytes.Buffer
	if _, err := pixels.ReadFrom(f.Pixels.Reader()); err != nil {
		t.Fatal(err)
	}
	rows, _ := d.Int(dicom.Rows)
	columns, _ := d.Int(dicom.Columns)
	frames := d.Seq(dicom.PerFrameFunctionalGroupsSequence)
	if n, _ := d.Int(dicom.NumberOfFrames); n != len(frames) || rows != g.Size[1] || columns != g.Size[0] {
		t.Fatalf("%d frames of %d × %d, %d described", n, rows, columns, len(frames))
	}
	if want := (len(frames)*rows*columns + 15) / 16 * 2; pixels.Len() != want {
		t.Fatalf("Pixel Data has %d bytes, want %d", pixels.Len(), want)
	}
	var masks []*voxel.Mask
	for range d.Seq(dicom.SegmentSequence) {
		masks = append(masks, &voxel.Mask{Geometry: g, Data: make([]uint8, g.Len())})
	}
	bit := 0
	for _, frame := range frames {
		number, _ := frame.Seq(dicom.SegmentIdentificationSequence)[0].Int(dicom.ReferencedSegmentNumber)
		at, err := frame.Seq(dicom.PlanePositionSequence)[0].Floats(dicom.ImagePositionPatient)
		if err != nil {
			t.Fatal(err)
		}
		k := int(math.Round(g.Index([3]float64(at))[2]))
		for i := range rows * columns {
			masks[number-1].Data[k*rows*columns+i] = pixels.Bytes()[bit/8] >> (bit % 8) & 1
			bit++
		}
	}
	return masks
}

func TestWriteSEG(t *testing.T) {
	in := segInput()
	d, err := roi.WriteSEG(in)
	if err != nil {
		t.Fatal(err)
	}
	b := part10(t, d)
	for s, m := range readSEG(t, b, in.Segments[0].Mask.Geometry) {
		if !slices.Equal(m.Data, in.Segments[s].Mask.Data) {
			t.Errorf("segment %d comes back as other voxels", s+1)
		}
	}
	again, err := roi.WriteSEG(segInput())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, part10(t, again)) {
		t.Error("the same input gives other bytes")
	}
	for tag, want := range map[dicom.Tag]string{
		dicom.PatientName: "Dürer^Albrecht=杜勒", dicom.PatientID: "42", dicom.StudyInstanceUID: "1.1", dicom.FrameOfReferenceUID: "1.4",
		dicom.Modality: "SEG", dicom.SeriesDescription: "Regions", dicom.SegmentationType: "BINARY", dicom.SegmentsOverlap: "NO",
		dicom.ContentDate: "20260102", dicom.ContentTime: "030405", dicom.DeviceSerialNumber: "1",
	} {
		if got := d.String(tag); got != want {
			t.Errorf("%s %s is %q, want %q", tag.Keyword(), tag, got, want)
		}
	}
	for _, tag := range []dicom.Tag{dicom.AccessionNumber, dicom.ReferringPhysicianName, dicom.StudyID, dicom.PositionReferenceIndicator} {
		if !d.Has(tag) {
			t.Errorf("%s %s is type 2 and absent", tag.Keyword(), tag)
		}
	}
	segments := d.Seq(dicom.SegmentSequence)
	if got := segments[0].String(dicom.SegmentDescription); !strings.Contains(got, "ROI 7 of RT Structure Set 1.9.") || !strings.Contains(got, roi.Describe(voxel.Rule{}, roi.Region{})) {
		t.Errorf("Segment Description is %q", got)
	}
	if got, want := segments[1].String(dicom.SegmentLabel), strings.Repeat("long ", 16)[:61]+"..."; got != want {
		t.Errorf("Segment Label is %q, want %q", got, want)
	}
	if a, b := segments[0].String(dicom.SegmentAlgorithmType), segments[1].String(dicom.SegmentAlgorithmType); a != "SEMIAUTOMATIC" || b != "AUTOMATIC" {
		t.Errorf("Segment Algorithm Types are %s and %s", a, b)
	}
	// sRGB red is L 54.29, a 80.81, b 69.89 under D50 (Lindbloom's CIE colour calculator), encoded by PS3.3 C.10.7.1.1.
	lab, _ := segments[0].Ints(dicom.RecommendedDisplayCIELabValue)
	for i, want := range []float64{54.29 / 100 * 65535, (80.81 + 128) / 255 * 65535, (69.89 + 128) / 255 * 65535} {
		if len(lab) != 3 || math.Abs(float64(lab[i])-want) > 5 {
			t.Fatalf("Recommended Display CIELab Value is %v, component %d should be %.0f", lab, i, want)
		}
	}
	if series := d.Seq(dicom.ReferencedSeriesSequence); len(series) != 1 || series[0].String(dicom.SeriesInstanceUID) != "1.2" || len(series[0].Seq(dicom.ReferencedInstanceSequence)) != 4 {
		t.Error("Referenced Series Sequence does not name the images, and them alone: OHIF lays the segmentation on the first series there")
	}
}

// TestSEGAnySize writes masks of any size and reads them back.
func TestSEGAnySize(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		g := askew(rapid.IntRange(1, 9).Draw(rt, "x"), rapid.IntRange(1, 9).Draw(rt, "y"), rapid.IntRange(1, 5).Draw(rt, "z"))
		in := segInput()
		in.Segments, in.Source.SOPInstances = nil, nil
		for k := range g.Size[2] {
			in.Source.SOPInstances = append(in.Source.SOPInstances, fmt.Sprintf("1.2.%d", k+1))
		}
		for n := range rapid.IntRange(1, 3).Draw(rt, "segments") {
			data := rapid.SliceOfN(rapid.Uint8Range(0, 1), g.Len(), g.Len()).Draw(rt, "mask")
			in.Segments = append(in.Segments, roi.Segment{Region: roi.Region{Number: n, TrackingID: "T", TrackingUID: "1.7"}, Mask: &voxel.Mask{Geometry: g, Data: data}})
		}
		d, err := roi.WriteSEG(in)
		var r *refusal.Refusal
		if !slices.ContainsFunc(in.Segments, func(s roi.Segment) bool { return s.Mask.Count() > 0 }) {
			if !errors.As(err, &r) || r.Code != refusal.SegmentationEmpty {
				rt.Fatalf("no voxel anywhere, error is %v", err)
			}
			return
		}
		if err != nil {
			rt.Fatal(err)
		}
		b := part10(t, d)
		for s, m := range readSEG(t, b, g) {
			if !slices.Equal(m.Data, in.Segments[s].Mask.Data) {
				rt.Fatalf("segment %d comes back as other voxels", s+1)
			}
		}
		regions, err := roi.Regions(open(t, b))
		if err != nil {
			rt.Fatal(err)
		}
		for s, r := range regions {
			m, notes, err := wholeMask(t.Context(), r, g, voxel.Rule{})
			if n := in.Segments[s].Mask.Count(); n == 0 {
				if !errors.As(err, new(*refusal.Refusal)) {
					rt.Fatalf("segment %d has no voxel, error is %v", s+1, err)
				}
			} else if err != nil || len(notes) > 0 || !slices.Equal(m.Data, in.Segments[s].Mask.Data) {
				rt.Fatalf("segment %d is read as %d voxels of %d, notes %q, error %v", s+1, m.Count(), n, notes, err)
			}
		}
	})
}

// ofSegments is a Segmentation that is made of one that was read: a kidney by a network, a lesion by hand.
func ofSegments(t testing.TB) roi.SEGInput {
	t.Helper()
	in := segInput()
	right := roi.Code{Value: "24028007", Scheme: "SCT", Meaning: "Right"}
	abdomen := roi.Code{Value: "113345001", Scheme: "SCT", Meaning: "Abdomen"}
	s := upright(in.Segments[0].Mask.Geometry, "BINARY", 1, 1, 4)
	s.change = func(d *dicom.DataSet) {
		coded := func(c roi.Code) *dicom.DataSet {
			return item(func(d *dicom.DataSet) {
				d.SetString(dicom.CodeValue, c.Value)
				d.SetString(dicom.CodingSchemeDesignator, c.Scheme)
				d.SetString(dicom.CodeMeaning, c.Meaning)
			})
		}
		for i, x := range d.Seq(dicom.SegmentSequence) {
			x.SetString(dicom.SegmentAlgorithmType, []string{"AUTOMATIC", "MANUAL"}[i])
			x.SetString(dicom.SegmentAlgorithmName, []string{"net 3", ""}[i])
			x.SetSeq(dicom.SegmentedPropertyCategoryCodeSequence, coded(roi.Code{Value: "91723000", Scheme: "SCT", Meaning: "Anatomical Structure"}))
			kind := coded(roi.Code{Value: "64033007", Scheme: "SCT", Meaning: "Kidney"})
			kind.SetSeq(dicom.SegmentedPropertyTypeModifierCodeSequence, coded(right))
			x.SetSeq(dicom.SegmentedPropertyTypeCodeSequence, kind)
			site := coded(abdomen)
			site.SetSeq(dicom.AnatomicRegionModifierSequence, coded(right))
			x.SetSeq(dicom.AnatomicRegionSequence, site)
			x.SetString(dicom.TrackingID, fmt.Sprint("tracked ", i))
			x.SetString(dicom.TrackingUID, fmt.Sprint("1.55.", i))
			x.SetInt(dicom.RecommendedDisplayCIELabValue, 35578, 53662, 50857)
		}
	}
	for i, x := range in.Segments {
		g := x.Mask.Geometry
		for k := range g.Size[2] {
			f := sheet{segment: []int{1, 4}[i], at: g.Point(0, 0, float64(k))}
			for _, v := range x.Mask.Data[k*15:][:15] {
				f.samples = append(f.samples, int(v))
			}
			s.sheets = append(s.sheets, f)
		}
	}
	source := s.dataSet()
	source.SetString(dicom.SeriesInstanceUID, "1.8")
	for i, r := range s.regions(t) {
		in.Segments[i].Region = r
	}
	in.StructureSet = source
	return in
}

// What a segment was called stays with its voxels.
func TestWriteSEGOfSegments(t *testing.T) {
	in := ofSegments(t)
	d, err := roi.WriteSEG(in)
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, part10(t, d))
	for i, x := range f.DataSet.Seq(dicom.SegmentSequence) {
		if got, want := x.String(dicom.SegmentDescription), fmt.Sprintf("Segment %d of Segmentation 1.9. %s", []int{1, 4}[i], roi.SegmentRule); !strings.HasPrefix(got, want) {
			t.Errorf("Segment Description is %q, want %q", got, want)
		}
	}
	regions, err := roi.Regions(f)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range regions {
		was := in.Segments[i].Region
		was.Number, was.Description, was.SeriesUIDs, was.Images = r.Number, r.Description, r.SeriesUIDs, r.Images // which are of the new object
		if got, want := fmt.Sprint(plain(r)...), fmt.Sprint(plain(was)...); got != want {
			t.Errorf("%s\nwas\n%s", got, want)
		}
		if m, _ := rasterise(t, r, in.Segments[i].Mask.Geometry); !slices.Equal(m.Data, in.Segments[i].Mask.Data) {
			t.Errorf("segment %d comes back as other voxels", i+1)
		}
	}
	refs, err := roi.References(f.DataSet)
	if err != nil || len(refs) != 1 || refs[0].SeriesUID != "1.2" || len(refs[0].Instances) != 4 {
		t.Errorf("%+v, %v", refs, err)
	}
}

// ofFrames is a Segmentation of a multi-frame image whose frames go down.
func ofFrames() roi.SEGInput {
	in := segInput()
	in.Source.SOPClass = dicom.EnhancedCTImageStorage
	in.Source.SOPInstances = slices.Repeat([]string{"1.2.1"}, 4)
	in.Source.FrameNumbers = []int{9, 8, 7, 6}
	return in
}

// Slices of a multi-frame image are named by their frames, and the image once.
func TestWriteSEGOfFrames(t *testing.T) {
	in := ofFrames()
	d, err := roi.WriteSEG(in)
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, part10(t, d))
	g := in.Segments[0].Mask.Geometry
	for i, frame := range f.DataSet.Seq(dicom.PerFrameFunctionalGroupsSequence) {
		at, _ := frame.Seq(dicom.PlanePositionSequence)[0].Floats(dicom.ImagePositionPatient)
		image := frame.Seq(dicom.DerivationImageSequence)[0].Seq(dicom.SourceImageSequence)[0]
		if n, _ := image.Int(dicom.ReferencedFrameNumber); n != 9-int(math.Round(g.Index([3]float64(at))[2])) {
			t.Errorf("frame %d at %v was made of frame %d", i+1, at, n)
		}
	}
	series := f.DataSet.Seq(dicom.ReferencedSeriesSequence)[0]
	if n := len(series.Seq(dicom.ReferencedInstanceSequence)); n != 1 {
		t.Errorf("the image is listed %d times", n)
	}
	refs, err := roi.References(f.DataSet)
	if err != nil || len(refs) != 1 || !slices.Equal(refs[0].Frames, []int{6, 7, 8, 9}) {
		t.Errorf("%+v, %v", refs, err)
	}
}

// A colour comes back from CIELab as it was.
func TestColor(t *testing.T) {
	in := segInput()
	for n := range 512 {
		rgb := [3]uint8{uint8(n & 7 * 36), uint8(n >> 3 & 7 * 36), uint8(n >> 6 * 36)}
		in.Segments[0].Region.Color = &rgb
		d, err := roi.WriteSEG(in)
		if err != nil {
			t.Fatal(err)
		}
		regions, err := roi.Regions(open(t, part10(t, d)))
		if err != nil {
			t.Fatal(err)
		}
		if got := *regions[0].Color; got != rgb {
			t.Fatalf("%v comes back as %v", rgb, got)
		}
	}
}

func TestSEGOverlap(t *testing.T) {
	in := segInput()
	in.Segments[1].Mask = in.Segments[0].Mask
	d, err := roi.WriteSEG(in)
	if err != nil {
		t.Fatal(err)
	}
	if got := d.String(dicom.SegmentsOverlap); got != "YES" {
		t.Errorf("Segments Overlap is %s", got)
	}
}

// TestLabels gives names that LO (PS3.5 Table 6.2-1) cannot hold as they are.
func TestLabels(t *testing.T) {
	for name, want := range map[string]string{
		strings.Repeat("ж", 80): strings.Repeat("ж", 30) + "...", // 64 bytes
		"a\\b\x1b\n c":          "a/b   c",
		"  ":                    "ROI 7",
	} {
		in := segInput()
		in.Segments[0].Region.Name = name
		d, err := roi.WriteSEG(in)
		if err != nil {
			t.Fatal(err)
		}
		part10(t, d) // which refuses a value that its representation does not allow
		if got := d.Seq(dicom.SegmentSequence)[0].String(dicom.SegmentLabel); got != want {
			t.Errorf("Segment Label of %q is %q, want %q", name, got, want)
		}
	}
}

func TestTimeZone(t *testing.T) {
	in := segInput()
	in.Source.Header.SetString(dicom.TimezoneOffsetFromUTC, "-0430")
	d, err := roi.WriteSEG(in)
	if err != nil {
		t.Fatal(err)
	}
	if date, clock, zone := d.String(dicom.ContentDate), d.String(dicom.ContentTime), d.String(dicom.TimezoneOffsetFromUTC); date != "20260101" || clock != "223405" || zone != "-0430" {
		t.Errorf("Content Date %s, Content Time %s, zone %s; want 20260101, 223405, -0430", date, clock, zone)
	}
}

func TestDeidentifiedSource(t *testing.T) {
	in := segInput()
	in.Source.Header.SetString(dicom.PatientIdentityRemoved, "YES")
	for method, want := range map[string]string{"": "", "by hand": "YES"} {
		if method != "" {
			in.Source.Header.SetString(dicom.DeidentificationMethod, method)
		}
		d, err := roi.WriteSEG(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := d.String(dicom.PatientIdentityRemoved); got != want {
			t.Errorf("Patient Identity Removed is %q by the method %q, want %q", got, method, want)
		}
		in = segInput()
		in.Source.Header.SetString(dicom.PatientIdentityRemoved, "YES")
	}
}

func TestSEGRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		code   refusal.Code
		change func(in *roi.SEGInput)
	}{
		"no segments": {refusal.SegmentationInput, func(in *roi.SEGInput) { in.Segments = nil }},
		"no header":   {refusal.SegmentationInput, func(in *roi.SEGInput) { in.Source.Header = nil }},
		"no serial":   {refusal.SegmentationInput, func(in *roi.SEGInput) { in.Equipment.SerialNumber = "" }},
		"another grid": {refusal.SegmentationInput, func(in *roi.SEGInput) {
			in.Segments[1].Mask = &voxel.Mask{Geometry: unit(5, 3, 4), Data: make([]uint8, 60)}
		}},
		"short mask":    {refusal.SegmentationInput, func(in *roi.SEGInput) { in.Segments[1].Mask.Data = nil }},
		"a frame less":  {refusal.SegmentationInput, func(in *roi.SEGInput) { in.Source.FrameNumbers = []int{1, 2, 3} }},
		"frame 0":       {refusal.SegmentationInput, func(in *roi.SEGInput) { in.Source.FrameNumbers = []int{0, 1, 2, 3} }},
		"a slice less":  {refusal.SegmentationInput, func(in *roi.SEGInput) { in.Source.SOPInstances = in.Source.SOPInstances[1:] }},
		"nothing there": {refusal.SegmentationEmpty, func(in *roi.SEGInput) { clear(in.Segments[0].Mask.Data); clear(in.Segments[1].Mask.Data) }},
	} {
		t.Run(name, func(t *testing.T) {
			in := segInput()
			c.change(&in)
			_, err := roi.WriteSEG(in)
			var r *refusal.Refusal
			if !errors.As(err, &r) || r.Code != c.code || r.Text == "" {
				t.Errorf("error is %v, want %s", err, c.code)
			}
		})
	}
}

// realSEG is the Segmentation of the regions of a real patient.
func realSEG(t testing.TB, images, contours []string) (roi.SEGInput, []byte) {
	t.Helper()
	l, fs, set, regions := load(t, images, contours)
	in := segInput()
	in.StructureSet, in.Segments = set, nil
	in.Source = roi.Source{Header: fs[l.Order[0].Image].DataSet, SOPClass: l.SOPClass, Series: l.Series, SOPInstances: l.SOPInstances}
	for _, r := range regions {
		m, _ := rasterise(t, r, l.Geometry)
		in.Segments = append(in.Segments, roi.Segment{Region: r, Mask: m})
	}
	d, err := roi.WriteSEG(in)
	if err != nil {
		t.Fatal(err)
	}
	return in, part10(t, d)
}

// segmentations are what the witnesses look at: odd sizes, and real patients where their data are at hand.
func segmentations(t *testing.T, look func(t *testing.T, in roi.SEGInput, b []byte)) {
	t.Run("odd", func(t *testing.T) {
		in := segInput()
		d, err := roi.WriteSEG(in)
		if err != nil {
			t.Fatal(err)
		}
		look(t, in, part10(t, d))
	})
	for name, c := range map[string][2][]string{
		"IBSI":  {{"ibsi1", "ct_phantom", "dicom", "image"}, {"ibsi1", "ct_phantom", "dicom", "mask"}},
		"LUNG1": {{"lung1", "LUNG1-001", "image"}, {"lung1", "LUNG1-001", "mask_rtstruct"}},
	} {
		t.Run(name, func(t *testing.T) {
			in, b := realSEG(t, c[0], c[1])
			look(t, in, b)
		})
	}
}

// need skips the test where a peer is not installed, and fails it where everything has to be.
func need(t testing.TB, what string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed: %v", what, err)
	}
	t.Skipf("%s is not installed: %v", what, err)
}

// TestValidator asks dciodvfy of dicom3tools for errors.
func TestValidator(t *testing.T) {
	program, err := exec.LookPath("dciodvfy")
	need(t, "dciodvfy (dicom3tools)", err)
	validate := func(t *testing.T, in roi.SEGInput, b []byte) {
		path := filepath.Join(t.TempDir(), "seg.dcm")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(program, "-new", path).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("Segmentation")) || bytes.Contains(out, []byte("Error")) {
			t.Errorf("%v\n%s", err, out)
		}
	}
	segmentations(t, validate)
	for name, in := range map[string]roi.SEGInput{"of segments": ofSegments(t), "of frames": ofFrames()} {
		t.Run(name, func(t *testing.T) {
			d, err := roi.WriteSEG(in)
			if err != nil {
				t.Fatal(err)
			}
			validate(t, in, part10(t, d))
		})
	}
}

// highdicom reads a Segmentation with highdicom and writes its masks as bytes: for each segment the pixels by source
// instance, in the order that standard input names them, then the same from the volume, put back by its affine.
const highdicom = `
import sys, numpy, highdicom
path, out, *uids = sys.stdin.read().split()
seg = highdicom.seg.segread(path)
a = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
v = seg.get_volume(combine_segments=False, allow_missing_positions=True)
whole = numpy.zeros(a.shape, numpy.uint8)
import pydicom
position = {}
for f in seg.PerFrameFunctionalGroupsSequence:
    uid = f.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
    position[uid] = numpy.array(f.PlanePositionSequence[0].ImagePositionPatient, float)
for k, uid in enumerate(uids):
    if uid in position:
        i = v.map_reference_to_indices(position[uid][None, :], round_output=True)[0]
        whole[k] = v.array[i[0]]
with open(out, 'wb') as f:
    for source in (a, whole):
        for s in range(a.shape[3]):
            f.write(numpy.ascontiguousarray(source[..., s]).astype(numpy.uint8).tobytes())
for n in seg.segment_numbers:
    d = seg.get_segment_description(n)
    print(n, d.segment_label, d.tracking_id, d.tracking_uid, d.segmented_property_category.value, d.segmented_property_type.value, sep='|')
`

// TestHighdicom reads the masks back with highdicom, by source image and as a volume.
func TestHighdicom(t *testing.T) {
	python := os.Getenv("RADNODE_PYTHON")
	if python == "" {
		python = "python3"
	}
	need(t, "highdicom for "+python, exec.Command(python, "-c", "import highdicom").Run())
	segmentations(t, func(t *testing.T, in roi.SEGInput, b []byte) {
		folder := t.TempDir()
		path, out := filepath.Join(folder, "seg.dcm"), filepath.Join(folder, "masks")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c := exec.Command(python, "-W", "ignore", "-c", highdicom)
		c.Stdin = strings.NewReader(path + "\n" + out + "\n" + strings.Join(in.Source.SOPInstances, "\n"))
		c.Env = append(os.Environ(), "PYTHONIOENCODING=utf-8")
		var stderr bytes.Buffer
		c.Stderr = &stderr
		labels, err := c.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, stderr.Bytes())
		}
		masks, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		var want []byte
		for range 2 {
			for _, s := range in.Segments {
				want = append(want, s.Mask.Data...)
			}
		}
		if !bytes.Equal(masks, want) {
			t.Errorf("%d bytes of masks, other than the %d written", len(masks), len(want))
		}
		for n, s := range in.Segments {
			category, kind := s.Region.Property()
			line := fmt.Sprintf("%d|%s|%s|%s|%s|%s", n+1, dicom.CleanLine(s.Region.Name, 64), s.Region.TrackingID, s.Region.TrackingUID, category.Value, kind.Value)
			if !strings.Contains(string(labels), line+"\n") {
				t.Errorf("segment %q is described as\n%s", line, labels)
			}
		}
	})
}

// TestDCMTK lets dcmdump parse the file: every length, and the pixel data's size.
func TestDCMTK(t *testing.T) {
	program, err := exec.LookPath("dcmdump")
	need(t, "dcmdump (dcmtk)", err)
	segmentations(t, func(t *testing.T, in roi.SEGInput, b []byte) {
		path := filepath.Join(t.TempDir(), "seg.dcm")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(program, "+P", "7fe0,0010", "+P", "0028,0008", "+L", "-q", path).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("OB")) || !bytes.Contains(out, []byte("NumberOfFrames")) {
			t.Errorf("%v\n%s", err, out[:min(len(out), 500)])
		}
	})
}

// BenchmarkWriteSEG writes four regions of a thorax CT.
func BenchmarkWriteSEG(b *testing.B) {
	in, data := realSEG(b, []string{"lung1", "LUNG1-001", "image"}, []string{"lung1", "LUNG1-001", "mask_rtstruct"})
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := roi.WriteSEG(in); err != nil {
			b.Fatal(err)
		}
	}
}
