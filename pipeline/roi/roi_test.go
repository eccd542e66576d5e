package roi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/testdata"
)

func item(fill func(d *dicom.DataSet)) *dicom.DataSet {
	d := dicom.New()
	fill(d)
	return d
}

func instance(class, uid string) *dicom.DataSet {
	return item(func(d *dicom.DataSet) {
		d.SetString(dicom.ReferencedSOPClassUID, class)
		d.SetString(dicom.ReferencedSOPInstanceUID, uid)
	})
}

func images(uids ...string) (items []*dicom.DataSet) {
	for _, uid := range uids {
		items = append(items, instance(dicom.CTImageStorage, uid))
	}
	return items
}

// contour is an item of Contour Sequence.
func contour(kind, data string, uids ...string) *dicom.DataSet {
	return item(func(d *dicom.DataSet) {
		d.SetString(dicom.ContourGeometricType, kind)
		d.SetBytes(dicom.ContourData, dicom.DS, []byte(data))
		if len(uids) > 0 {
			d.SetSeq(dicom.ContourImageSequence, images(uids...)...)
		}
	})
}

const square = `0\0\5\10\0\5\10\10\5\0\10\5`

// structureSet has the regions 3 and 7, both called GTV, on one listed series.
func structureSet() *dicom.DataSet {
	return item(func(d *dicom.DataSet) {
		d.SetString(dicom.SOPClassUID, dicom.RTStructureSetStorage)
		d.SetString(dicom.SOPInstanceUID, "1.9")
		d.SetString(dicom.StudyInstanceUID, "1.1")
		d.SetString(dicom.SeriesInstanceUID, "1.8")
		d.SetSeq(dicom.ReferencedFrameOfReferenceSequence, frame("1.4", study("1.1", series("1.2", "1.2.1", "1.2.2", "1.2.3"))))
		d.SetSeq(dicom.StructureSetROISequence, region("7", "GTV"), region("3", "GTV"))
		d.SetSeq(dicom.ROIContourSequence,
			drawing("3", contour("CLOSED_PLANAR", square, "1.2.2")),
			drawing("7", contour("CLOSED_PLANAR", square, "1.2.1"), contour("CLOSED_PLANAR", square, "1.2.2")))
		d.SetSeq(dicom.RTROIObservationsSequence, item(func(o *dicom.DataSet) {
			o.SetString(dicom.ReferencedROINumber, "7")
			o.SetString(dicom.ROIObservationLabel, "primary")
			o.SetString(dicom.RTROIInterpretedType, "GTV")
		}))
	})
}

func frame(uid string, studies ...*dicom.DataSet) *dicom.DataSet {
	return item(func(f *dicom.DataSet) {
		f.SetString(dicom.FrameOfReferenceUID, uid)
		if len(studies) > 0 {
			f.SetSeq(dicom.RTReferencedStudySequence, studies...)
		}
	})
}

func study(uid string, series ...*dicom.DataSet) *dicom.DataSet {
	return item(func(s *dicom.DataSet) {
		s.SetString(dicom.ReferencedSOPInstanceUID, uid)
		s.SetSeq(dicom.RTReferencedSeriesSequence, series...)
	})
}

func series(uid string, uids ...string) *dicom.DataSet {
	return item(func(s *dicom.DataSet) {
		s.SetString(dicom.SeriesInstanceUID, uid)
		if len(uids) > 0 {
			s.SetSeq(dicom.ContourImageSequence, images(uids...)...)
		}
	})
}

func region(number, name string) *dicom.DataSet {
	return item(func(r *dicom.DataSet) {
		r.SetString(dicom.ROINumber, number)
		r.SetString(dicom.ROIName, name)
		r.SetString(dicom.ReferencedFrameOfReferenceUID, "1.4")
		r.SetString(dicom.ROIGenerationAlgorithm, "MANUAL")
	})
}

func drawing(number string, contours ...*dicom.DataSet) *dicom.DataSet {
	return item(func(d *dicom.DataSet) {
		d.SetString(dicom.ReferencedROINumber, number)
		d.SetString(dicom.ROIDisplayColor, "255", "0", "0")
		d.SetSeq(dicom.ContourSequence, contours...)
	})
}

func TestReferences(t *testing.T) {
	for name, c := range map[string]struct {
		change func(d *dicom.DataSet)
		want   []roi.Reference
	}{
		"series list and contours": {func(d *dicom.DataSet) {}, []roi.Reference{{
			StudyUID: "1.1", SeriesUID: "1.2", FrameOfReference: "1.4", Instances: []string{"1.2.1", "1.2.2", "1.2.3"},
			Named: []string{"1.2.1", "1.2.2", "1.2.3"}, Contoured: []string{"1.2.2", "1.2.1"}, Listed: true,
		}}},
		"the list is only the slices with contours": {func(d *dicom.DataSet) {
			d.SetSeq(dicom.ReferencedFrameOfReferenceSequence, frame("1.4", study("1.1", series("1.2", "1.2.1", "1.2.2"))))
		}, []roi.Reference{{
			StudyUID: "1.1", SeriesUID: "1.2", FrameOfReference: "1.4", Instances: []string{"1.2.1", "1.2.2"},
			Named: []string{"1.2.1", "1.2.2"}, Contoured: []string{"1.2.2", "1.2.1"},
		}}},
		"no RT Referenced Study Sequence": {func(d *dicom.DataSet) {
			d.SetSeq(dicom.ReferencedFrameOfReferenceSequence, frame("1.4"))
		}, []roi.Reference{{FrameOfReference: "1.4", Instances: []string{"1.2.2", "1.2.1"}, Contoured: []string{"1.2.2", "1.2.1"}}}},
		"nothing but Source Series Sequence": {func(d *dicom.DataSet) {
			d.Remove(dicom.ReferencedFrameOfReferenceSequence)
			for _, r := range d.Seq(dicom.ROIContourSequence) {
				r.SetSeq(dicom.SourceSeriesSequence, series("1.2"))
			}
		}, []roi.Reference{{SeriesUID: "1.2", FrameOfReference: "1.4", Instances: []string{"1.2.2", "1.2.1"}, Contoured: []string{"1.2.2", "1.2.1"}}}},
		"a series without list": {func(d *dicom.DataSet) {
			d.SetSeq(dicom.ReferencedFrameOfReferenceSequence, frame("1.4", study("1.1", series("1.2"))))
		}, []roi.Reference{{StudyUID: "1.1", SeriesUID: "1.2", FrameOfReference: "1.4", Instances: []string{"1.2.2", "1.2.1"}, Contoured: []string{"1.2.2", "1.2.1"}}}},
		"two series without lists": {func(d *dicom.DataSet) {
			d.SetSeq(dicom.ReferencedFrameOfReferenceSequence, frame("1.4", study("1.1", series("1.2"), series("1.3"))))
		}, []roi.Reference{
			{StudyUID: "1.1", SeriesUID: "1.2", FrameOfReference: "1.4"}, {StudyUID: "1.1", SeriesUID: "1.3", FrameOfReference: "1.4"},
			{FrameOfReference: "1.4", Instances: []string{"1.2.2", "1.2.1"}, Contoured: []string{"1.2.2", "1.2.1"}},
		}},
		"contours without images": {func(d *dicom.DataSet) {
			d.SetSeq(dicom.ROIContourSequence, drawing("3", contour("CLOSED_PLANAR", square), contour("CLOSED_PLANAR", square)))
		}, []roi.Reference{{
			StudyUID: "1.1", SeriesUID: "1.2", FrameOfReference: "1.4", Instances: []string{"1.2.1", "1.2.2", "1.2.3"},
			Named: []string{"1.2.1", "1.2.2", "1.2.3"}, Listed: true,
		}}},
		"two series, each with contours": {func(d *dicom.DataSet) {
			d.SetSeq(dicom.ReferencedFrameOfReferenceSequence, frame("1.4", study("1.1", series("1.2", "1.2.1", "1.2.7"), series("1.3", "1.2.2", "1.3.1"))))
		}, []roi.Reference{
			{StudyUID: "1.1", SeriesUID: "1.2", FrameOfReference: "1.4", Instances: []string{"1.2.1", "1.2.7"}, Named: []string{"1.2.1", "1.2.7"}, Contoured: []string{"1.2.1"}, Listed: true},
			{StudyUID: "1.1", SeriesUID: "1.3", FrameOfReference: "1.4", Instances: []string{"1.2.2", "1.3.1"}, Named: []string{"1.2.2", "1.3.1"}, Contoured: []string{"1.2.2"}, Listed: true},
		}},
		"an image that no series lists": {func(d *dicom.DataSet) {
			d.SetSeq(dicom.ReferencedFrameOfReferenceSequence, frame("1.4", study("1.1", series("1.2", "1.2.1", "1.2.3"))))
		}, []roi.Reference{
			{StudyUID: "1.1", SeriesUID: "1.2", FrameOfReference: "1.4", Instances: []string{"1.2.1", "1.2.3"}, Named: []string{"1.2.1", "1.2.3"}, Contoured: []string{"1.2.1"}, Listed: true},
			{FrameOfReference: "1.4", Instances: []string{"1.2.2"}, Contoured: []string{"1.2.2"}},
		}},
		"nothing": {func(d *dicom.DataSet) {
			d.Remove(dicom.ReferencedFrameOfReferenceSequence, dicom.ROIContourSequence)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			d := structureSet()
			c.change(d)
			got, err := roi.References(d)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
	d := structureSet()
	d.SetString(dicom.SOPClassUID, dicom.CTImageStorage)
	var r *refusal.Refusal
	if _, err := roi.References(d); !errors.As(err, &r) || r.Code != refusal.ContoursClass || !strings.Contains(r.Text, "CT Image Storage") {
		t.Errorf("error is %v", err)
	}
}

func TestRegions(t *testing.T) {
	d := structureSet()
	o := d.Seq(dicom.RTROIObservationsSequence)[0]
	o.SetSeq(dicom.RTROIIdentificationCodeSequence, item(func(c *dicom.DataSet) {
		c.SetString(dicom.CodeValue, "86049000")
		c.SetString(dicom.CodingSchemeDesignator, "SCT")
		c.SetString(dicom.CodeMeaning, "Malignant neoplasm, primary")
	}))
	d.Seq(dicom.ROIContourSequence)[1].SetSeq(dicom.ContourSequence,
		contour("CLOSED_PLANAR", square, "1.2.1"), contour("CLOSEDPLANAR_XOR", `0\0\6\4\0\6\4\4\6`, "1.2.2"), contour("CLOSED_PLANAR", `1\2\3`, "1.2.3"))
	got, err := roi.Regions(&dicom.File{DataSet: d})
	if err != nil {
		t.Fatal(err)
	}
	quad := [][3]float64{{0, 0, 5}, {10, 0, 5}, {10, 10, 5}, {0, 10, 5}}
	want := []roi.Region{{
		Number: 7, Name: "GTV", GenerationAlgorithm: "MANUAL", Label: "primary", InterpretedType: "GTV",
		Type:       roi.Code{Value: "86049000", Scheme: "SCT", Meaning: "Malignant neoplasm, primary"},
		TrackingID: "GTV (ROI 7)", TrackingUID: dicom.UIDFrom("tracking", "1.9", "7"), FrameOfReference: "1.4",
		Color: &[3]uint8{255, 0, 0}, Images: []string{"1.2.1", "1.2.2", "1.2.3"},
		Contours: [][][3]float64{quad, {{0, 0, 6}, {4, 0, 6}, {4, 4, 6}}},
		Notes:    []string{"1 contours of fewer than three points enclose nothing and are left out"},
	}, {
		Number: 3, Name: "GTV", GenerationAlgorithm: "MANUAL", TrackingID: "GTV (ROI 3)", TrackingUID: dicom.UIDFrom("tracking", "1.9", "3"), FrameOfReference: "1.4",
		Color: &[3]uint8{255, 0, 0}, Images: []string{"1.2.2"}, Contours: [][][3]float64{quad},
	}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(roi.Region{})); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if category, kind := got[0].Property(); category.Value != "49755003" || kind.Value != "86049000" {
		t.Errorf("a coded GTV is %v, %v", category, kind)
	}
	if category, kind := got[1].Property(); category.Value != "85756007" || kind.Value != "85756007" {
		t.Errorf("a region of unknown kind is %v, %v", category, kind)
	}
}

// TestRegionRefusals breaks region 7 in each way; region 3 stays whole.
func TestRegionRefusals(t *testing.T) {
	replace := func(c ...*dicom.DataSet) func(*dicom.DataSet) {
		return func(d *dicom.DataSet) { d.Seq(dicom.ROIContourSequence)[1].SetSeq(dicom.ContourSequence, c...) }
	}
	for name, c := range map[string]struct {
		code   refusal.Code
		names  string
		change func(d *dicom.DataSet)
	}{
		"point":            {refusal.ContoursType, "(3006,0042)", replace(contour("POINT", `1\2\3`))},
		"points":           {refusal.ContoursType, "POINT", replace(contour("POINT", `1\2\3`), contour("POINT", `1\2\4`))},
		"open, nonplanar":  {refusal.ContoursType, "OPEN_NONPLANAR", replace(contour("OPEN_NONPLANAR", square))},
		"open":             {refusal.ContoursType, "(3006,0042)", replace(contour("CLOSED_PLANAR", square), contour("OPEN_PLANAR", square))},
		"no type":          {refusal.ContoursType, "(3006,0042)", replace(contour("", square))},
		"no contours":      {refusal.ContoursAbsent, "(3006,0039)", replace()},
		"no drawing":       {refusal.ContoursAbsent, "(3006,0039)", func(d *dicom.DataSet) { d.Seq(dicom.ROIContourSequence)[1].SetString(dicom.ReferencedROINumber, "99") }},
		"only lines":       {refusal.ContoursAbsent, "(3006,0039)", replace(contour("CLOSED_PLANAR", `1\2\3\4\5\6`))},
		"not triplets":     {refusal.ContoursData, "(3006,0050)", replace(contour("CLOSED_PLANAR", square+`\1`))},
		"NaN":              {refusal.ContoursData, "(3006,0050)", replace(contour("CLOSED_PLANAR", `NaN\0\5\10\0\5\10\10\5`))},
		"infinite":         {refusal.ContoursData, "(3006,0050)", replace(contour("CLOSED_PLANAR", `inf\0\5\10\0\5\10\10\5`))},
		"words":            {refusal.ContoursData, "(3006,0050)", replace(contour("CLOSED_PLANAR", `a\0\5\10\0\5\10\10\5`))},
		"off the world":    {refusal.ContoursData, "(3006,0050)", replace(contour("CLOSED_PLANAR", `1e9\0\5\10\0\5\10\10\5`))},
		"an empty value":   {refusal.ContoursData, "(3006,0050)", replace(contour("CLOSED_PLANAR", `\0\5\10\0\5\10\10\5`))},
		"no number":        {refusal.ContoursNumber, "(3006,0022)", func(d *dicom.DataSet) { d.Seq(dicom.StructureSetROISequence)[0].Remove(dicom.ROINumber) }},
		"number not there": {refusal.ContoursNumber, "(3006,0022)", func(d *dicom.DataSet) { d.Seq(dicom.StructureSetROISequence)[0].SetString(dicom.ROINumber) }},
	} {
		t.Run(name, func(t *testing.T) {
			d := structureSet()
			c.change(d)
			regions, err := roi.Regions(&dicom.File{DataSet: d})
			if err != nil {
				t.Fatal(err)
			}
			if r := regions[0].Refusal; r == nil || r.Code != c.code || !strings.Contains(r.Error(), c.names) || r.Remedy == "" {
				t.Errorf("refused with %v, want %s naming %s, and a remedy", r, c.code, c.names)
			}
			if r := regions[1].Refusal; r != nil || len(regions[1].Contours) != 1 {
				t.Errorf("region 3 is refused too: %v", r)
			}
		})
	}
	t.Run("one number twice", func(t *testing.T) {
		d := structureSet()
		d.Seq(dicom.StructureSetROISequence)[1].SetString(dicom.ROINumber, "7")
		regions, err := roi.Regions(&dicom.File{DataSet: d})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range regions {
			if r.Refusal == nil || r.Refusal.Code != refusal.ContoursNumber {
				t.Errorf("refused with %v", r.Refusal)
			}
		}
	})
	t.Run("no regions", func(t *testing.T) {
		d := structureSet()
		d.Remove(dicom.StructureSetROISequence)
		var r *refusal.Refusal
		if _, err := roi.Regions(&dicom.File{DataSet: d}); !errors.As(err, &r) || r.Code != refusal.ContoursNone {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("another object", func(t *testing.T) {
		d := structureSet()
		d.Remove(dicom.SOPClassUID)
		var r *refusal.Refusal
		if _, err := roi.Regions(&dicom.File{DataSet: d}); !errors.As(err, &r) || r.Code != refusal.ContoursClass {
			t.Errorf("error is %v", err)
		}
	})
}

// A point beside closed contours is left out and noted; the name of two regions does not tell them apart, a name of its own
// stays.
func TestPointsAndNames(t *testing.T) {
	d := structureSet()
	d.Seq(dicom.ROIContourSequence)[1].SetSeq(dicom.ContourSequence, contour("CLOSED_PLANAR", square), contour("POINT", `1\2\3`))
	o := d.Seq(dicom.RTROIObservationsSequence)[0]
	o.SetString(dicom.TrackingID, "lesion")
	regions, err := roi.Regions(&dicom.File{DataSet: d})
	if err != nil {
		t.Fatal(err)
	}
	r := regions[0]
	if want := []string{"1 of 2 contours are points (POINT), which enclose nothing, and are left out"}; r.Refusal != nil || len(r.Contours) != 1 || !slices.Equal(r.Notes, want) {
		t.Errorf("%d contours, %v, notes %q", len(r.Contours), r.Refusal, r.Notes)
	}
	if r.TrackingID != "lesion" || regions[1].TrackingID != "GTV (ROI 3)" {
		t.Errorf("tracked as %q and %q", r.TrackingID, regions[1].TrackingID)
	}
	d.Seq(dicom.StructureSetROISequence)[1].SetString(dicom.ROIName, "PTV")
	if regions, err = roi.Regions(&dicom.File{DataSet: d}); err != nil || regions[1].TrackingID != "PTV" {
		t.Errorf("tracked as %q: %v", regions[1].TrackingID, err)
	}
}

// TestManyOfOneNumber: what says the same number, or the same frame of reference, again and again takes no longer for it.
func TestManyOfOneNumber(t *testing.T) {
	const n = 20_000
	d := structureSet()
	var rois, drawings, observations, all []*dicom.DataSet
	for i := range n {
		rois = append(rois, region("1", "GTV"))
		drawings = append(drawings, item(func(c *dicom.DataSet) {
			c.SetString(dicom.ReferencedROINumber, "1")
			c.SetSeq(dicom.SourceSeriesSequence, series(fmt.Sprintf("1.5.%d", i)))
			c.SetSeq(dicom.ContourSequence, contour("CLOSED_PLANAR", square, fmt.Sprintf("1.6.%d", i)))
		}))
		observations = append(observations, item(func(o *dicom.DataSet) { o.SetString(dicom.ReferencedROINumber, "1") }))
		all = append(all, series(fmt.Sprintf("1.7.%d", i)))
	}
	d.SetSeq(dicom.StructureSetROISequence, rois...)
	d.SetSeq(dicom.ROIContourSequence, append(drawings, drawing("1", contour("CLOSED_PLANAR", square, "1.8")))...)
	d.SetSeq(dicom.RTROIObservationsSequence, observations...)
	d.SetSeq(dicom.ReferencedFrameOfReferenceSequence, frame("1.4", study("1.1", all...)))
	start := time.Now()
	regions, err := roi.Regions(&dicom.File{DataSet: d})
	if err != nil {
		t.Fatal(err)
	}
	refs, err := roi.References(d)
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if len(regions) != n || len(refs) != 2*n+1 || len(regions[0].SeriesUIDs) != n {
		t.Errorf("%d regions, the first of %d series, %d references", len(regions), len(regions[0].SeriesUIDs), len(refs))
	}
}

func TestMiscounted(t *testing.T) {
	d := structureSet()
	d.Seq(dicom.ROIContourSequence)[1].Seq(dicom.ContourSequence)[0].SetInt(dicom.NumberOfContourPoints, 5)
	regions, err := roi.Regions(&dicom.File{DataSet: d})
	if err != nil {
		t.Fatal(err)
	}
	if regions[0].Refusal != nil || len(regions[0].Contours) != 2 || !strings.Contains(strings.Join(regions[0].Notes, ""), "(3006,0046)") {
		t.Errorf("%+v", regions[0])
	}
}

// part10 is a data set as a file.
func part10(t testing.TB, d *dicom.DataSet) []byte {
	t.Helper()
	var b bytes.Buffer
	meta := dicom.FileMeta{MediaStorageSOPClassUID: d.String(dicom.SOPClassUID), MediaStorageSOPInstanceUID: d.String(dicom.SOPInstanceUID), TransferSyntaxUID: dicom.ExplicitVRLittleEndian}
	if err := dicom.WriteFile(&b, meta, d); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// FuzzStructureSet reads any bytes as a structure set: nothing may panic, and what is accepted keeps its promises.
func FuzzStructureSet(f *testing.F) {
	f.Add(part10(f, structureSet()))
	b, err := fs.ReadFile(testdata.FS, testdata.DigitalPhantom+"/rtstruct.dcm")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	g, h := askew(16, 16, 6), askew(16, 16, 6)
	h.Axes, h.Origin = [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}, [3]float64{-5, -5, -2}
	tilted := structureSet()
	tilted.SetSeq(dicom.ROIContourSequence, drawing("3", contour("CLOSED_PLANAR", `0\0\0\10\0\1\10\10\4\0\10\3`), contour("CLOSED_PLANAR", `0\0\2\10\0\3\10\10\6\0\10\5`)),
		drawing("7", contour("CLOSEDPLANAR_XOR", `3\0\0\3\10\0\3\10\9\3\0\9`)))
	f.Add(part10(f, tilted))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		refs, err := roi.References(file.DataSet)
		var refused *refusal.Refusal
		if err != nil && !errors.As(err, &refused) {
			t.Errorf("error is %v", err)
		}
		for _, r := range refs {
			all := slices.Concat(r.Named, r.Contoured)
			for _, uid := range all {
				if !slices.Contains(r.Instances, uid) {
					t.Errorf("%q is named and not among the instances", uid)
				}
			}
		}
		regions, err := roi.Regions(file)
		if err != nil && !errors.As(err, &refused) {
			t.Errorf("error is %v", err)
		}
		for n, r := range regions {
			if n == 8 {
				break // one after the other: more of them find no more
			}
			for _, g := range []voxel.Geometry{g, h} {
				r.OtherSeries = !r.OtherSeries
				b := roi.Bounds(r, g)
				var within [3]*voxel.Mask // by outside, half-open and inside
				for i, rule := range []voxel.Rule{{Boundary: "outside"}, {}, {Boundary: "inside"}, {Voxel: "coverage", Coverage: 0.01}, {Voxel: "coverage", Coverage: 1}} {
					m, _, err := wholeMask(context.Background(), r, g, rule)
					if err != nil {
						if !errors.As(err, &refused) {
							t.Errorf("error is %v", err)
						}
						continue
					}
					if m.Count() == 0 || len(m.Data) != g.Len() || !m.Binary() {
						t.Errorf("a mask of %d voxels", m.Count())
					}
					if real := m.Bounds(); b.Grow([3]int{}, real) != real {
						t.Errorf("%+v: voxels in %v, bounds %v", rule, real, b)
					}
					if i < len(within) {
						within[i] = m
						for before := range i {
							for v := range m.Data {
								if within[before] != nil && within[before].Data[v] > m.Data[v] {
									t.Fatalf("voxel %d is inside by a narrower rule than %+v", v, rule)
								}
							}
						}
					}
				}
			}
		}
	})
}
