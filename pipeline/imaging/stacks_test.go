package imaging_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline/imaging"
	"github.com/radnode/radnode/pipeline/refusal"
)

func assemble(t testing.TB, s []*dicom.DataSet, o imaging.Options) *imaging.Volume {
	t.Helper()
	v, err := imaging.Assemble(context.Background(), files(t, s), o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func uids(s []*dicom.DataSet) (out []string) {
	for _, d := range s {
		out = append(out, d.String(dicom.SOPInstanceUID))
	}
	return out
}

// sameVolume compares bit for bit.
func sameVolume(t testing.TB, got, want *imaging.Volume) {
	t.Helper()
	if got.Grid.Geometry != want.Grid.Geometry {
		t.Errorf("geometry %+v, want %+v", got.Grid.Geometry, want.Grid.Geometry)
	}
	if got.Unit != want.Unit {
		t.Errorf("unit %q, want %q", got.Unit, want.Unit)
	}
	if len(got.Grid.Data) != len(want.Grid.Data) {
		t.Fatalf("%d voxels, want %d", len(got.Grid.Data), len(want.Grid.Data))
	}
	for i := range want.Grid.Data {
		if math.Float32bits(got.Grid.Data[i]) != math.Float32bits(want.Grid.Data[i]) {
			t.Fatalf("voxel %d is %v, want %v", i, got.Grid.Data[i], want.Grid.Data[i])
		}
	}
}

// TestMultiFrame packs single-frame series into one multi-frame image, frames in any order: the same volume.
func TestMultiFrame(t *testing.T) {
	mapped := mrs(5)
	mapping(mapped, "ms", -5000, 5000)
	for name, c := range map[string]struct {
		single []*dicom.DataSet
		class  string
	}{
		"Enhanced CT":                   {series(5), dicom.EnhancedCTImageStorage},
		"Legacy Converted Enhanced CT":  {series(5), dicom.LegacyConvertedEnhancedCTImageStorage},
		"Enhanced MR":                   {mrs(5), dicom.EnhancedMRImageStorage},
		"Enhanced MR, real world":       {mapped, dicom.EnhancedMRImageStorage},
		"Legacy Converted Enhanced MR":  {mrs(5), dicom.LegacyConvertedEnhancedMRImageStorage},
		"Enhanced PET":                  {pets(5), dicom.EnhancedPETImageStorage},
		"Legacy Converted Enhanced PET": {pets(5), dicom.LegacyConvertedEnhancedPETImageStorage},
	} {
		t.Run(name, func(t *testing.T) {
			want := assemble(t, c.single, imaging.Options{})
			if want.FrameNumbers != nil {
				t.Errorf("single frames have numbers %v", want.FrameNumbers)
			}
			order := rand.New(rand.NewPCG(3, 4)).Perm(5)
			var shuffled []*dicom.DataSet
			for _, k := range order {
				shuffled = append(shuffled, c.single[k])
			}
			got := assemble(t, []*dicom.DataSet{enhanced(c.class, shuffled)}, imaging.Options{})
			sameVolume(t, got, want)
			for k := range 5 {
				if got.SOPInstances[k] != "1.2.3.1000" || order[got.FrameNumbers[k]-1] != k {
					t.Errorf("slice %d is frame %d of %s; frames are %v", k, got.FrameNumbers[k], got.SOPInstances[k], order)
				}
			}

			// In two images, as a concatenation is (PS3.3 C.7.6.16.1.3).
			one, two := enhanced(c.class, shuffled[:2]), enhanced(c.class, shuffled[2:])
			two.SetString(dicom.SOPInstanceUID, "1.2.3.1001")
			sameVolume(t, assemble(t, []*dicom.DataSet{two, one}, imaging.Options{}), want)
		})
	}
}

// TestStacks has several stacks in one series, and what tells them apart.
func TestStacks(t *testing.T) {
	type images = []*dicom.DataSet
	double := func(s, more images, change func(d *dicom.DataSet, k, copy int)) images {
		for k := range s {
			more[k].SetString(dicom.SOPInstanceUID, more[k].String(dicom.SOPInstanceUID)+".2")
			change(s[k], k, 0)
			change(more[k], k, 1)
		}
		return append(s, more...)
	}
	set := func(t dicom.Tag, values ...string) func(d *dicom.DataSet, k, copy int) {
		return func(d *dicom.DataSet, k, copy int) { d.SetString(t, values[copy]) }
	}
	for name, c := range map[string]struct {
		series images // the second half is another stack than the first
		names  string
	}{
		"echo time":   {double(mrs(4), mrs(4), set(dicom.EchoTime, "20", "80")), "Echo Time (0018,0081) 80 ms"},
		"echo number": {double(mrs(4), mrs(4), set(dicom.EchoNumbers, "1", "2")), "Echo Numbers (0018,0086) 2"},
		"phase":       {double(series(4), series(4), set(dicom.AcquisitionNumber, "3", "4")), "Acquisition Number (0020,0012) 4"},
		"time point":  {double(mrs(4), mrs(4), set(dicom.TemporalPositionIdentifier, "9", "10")), "(0020,0100), (0020,9128) 10, of 9, 10"},
		"kernel":      {double(series(4), series(4), set(dicom.ConvolutionKernel, "B30f", "B70f")), "B70f"},
		"thickness":   {double(series(4), series(4), set(dicom.SliceThickness, "2", "2.02")), "Slice Thickness (0018,0050) 2.02 mm"},
		"voltage":     {double(series(4), series(4), set(dicom.KVP, "80", "140.0")), "KVP (0018,0060) 140 kV"},
		"contrast":    {double(series(4), series(4), set(dicom.ContrastBolusAgent, "", "yes")), "(0018,0010) yes, of absent, yes"},
		"dynamic PET": {double(pets(4), pets(4), set(dicom.FrameReferenceTime, "1000", "60000")), "(0054,1300) 60000 ms"},
		"image type": {double(mrs(4), mrs(4), func(d *dicom.DataSet, k, copy int) {
			d.SetString(dicom.ImageType, "ORIGINAL", "PRIMARY", []string{"M", "P"}[copy])
		}), `ORIGINAL\PRIMARY\P`},
		"b-value": {double(mrs(4), mrs(4), func(d *dicom.DataSet, k, copy int) { d.SetFloat(dicom.DiffusionBValue, []float64{0, 800}[copy]) }), "(0018,9087) 800 s/mm2"},
		"Siemens b-value": {double(mrs(4), mrs(4), func(d *dicom.DataSet, k, copy int) {
			d.SetBytes(0x00190011, dicom.LO, []byte("SIEMENS MR HEADER "))
			d.SetBytes(0x0019110C, dicom.IS, []byte([]string{"50", "1000"}[copy]))
		}), "(0019,xx0C) of SIEMENS MR HEADER 1000 s/mm2"},
		"Philips b-value in implicit VR": {double(mrs(4), mrs(4), func(d *dicom.DataSet, k, copy int) {
			d.SetBytes(0x20010010, dicom.LO, []byte("Philips Imaging DD 001"))
			d.SetBytes(0x20011003, dicom.UN, binary.LittleEndian.AppendUint32(nil, math.Float32bits([]float32{0, 600}[copy])))
		}), "Philips Imaging DD 001 600 s/mm2"},
		// A time that differs from slice to slice too: by its order in each place.
		"trigger time": {double(mrs(4), mrs(4), func(d *dicom.DataSet, k, copy int) { d.SetFloat(dicom.TriggerTime, float64(3*k+500*copy)) }), "(0020,9153) 500 to 509 ms"},
		"acquisition time": {double(mrs(4), mrs(4), func(d *dicom.DataSet, k, copy int) {
			d.SetString(dicom.AcquisitionTime, fmt.Sprintf("1000%02d.5", 10*copy+k))
		}), "Acquisition Time (0008,0032) 100010.5 to 100013.5"},
		// What varies and tells nothing apart is passed over.
		"time of each image": {double(mrs(4), mrs(4), func(d *dicom.DataSet, k, copy int) {
			d.SetString(dicom.AcquisitionNumber, fmt.Sprint(k))
			d.SetFloat(dicom.RepetitionTime, float64(100*copy))
		}), "Repetition Time (0018,0080) 100 ms"},
		// Interleaved: no place is shared.
		"shifted": {double(mrs(4), mrs(4), func(d *dicom.DataSet, k, copy int) {
			move(d, 0.7*float64(copy))
			d.SetFloat(dicom.EchoTime, 20+60*float64(copy))
		}), "Echo Time (0018,0081) 80 ms"},
		"orientation": {append(series(4), coronal(4)...), "4 images are left out: Image Orientation (Patient) (0020,0037)"},
	} {
		t.Run(name, func(t *testing.T) {
			want := assemble(t, c.series[4:], imaging.Options{})
			shuffled := slices.Clone(c.series)
			rand.New(rand.NewPCG(5, 6)).Shuffle(8, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
			got := assemble(t, shuffled, imaging.Options{Named: uids(c.series[4:6])})
			sameVolume(t, got, want)
			if !slices.Equal(got.SOPInstances, want.SOPInstances) {
				t.Errorf("slices are %v, want %v", got.SOPInstances, want.SOPInstances)
			}
			if notes := strings.Join(got.Notes, "\n"); !strings.Contains(notes, c.names) {
				t.Errorf("notes %q do not name %q", notes, c.names)
			}
			for what, o := range map[string]imaging.Options{
				"nothing named":       {},
				"both named":          {Named: []string{c.series[0].String(dicom.SOPInstanceUID), c.series[4].String(dicom.SOPInstanceUID)}},
				"another thing named": {Named: []string{"1.2.3.4.5.6"}},
			} {
				_, err := imaging.Check(shuffled, o)
				var r *refusal.Refusal
				want := refusal.SeriesStacks
				switch {
				case name == "orientation" && what == "both named":
					want = refusal.GeometryOrientation
				case name == "shifted": // it may be one stack with holes
					want = refusal.GeometryGap
				}
				if !errors.As(err, &r) || r.Code != want {
					t.Errorf("%s: error is %v, want a refusal %s", what, err, want)
				}
				if _, again := imaging.Check(c.series, o); again == nil || again.Error() != err.Error() {
					t.Errorf("%s: in another order: %v, want %v", what, again, err)
				}
			}
		})
	}
}

// TestStacksOfTwo needs two attributes to tell stacks apart, and all of them.
func TestStacksOfTwo(t *testing.T) {
	var s []*dicom.DataSet
	for te := range 2 {
		for b := range 3 {
			for _, d := range mrs(4) {
				d.SetString(dicom.SOPInstanceUID, fmt.Sprintf("%s.%d.%d", d.String(dicom.SOPInstanceUID), te, b))
				d.SetFloat(dicom.EchoTime, float64(20+60*te))
				d.SetFloat(dicom.DiffusionBValue, float64(400*b))
				s = append(s, d)
			}
		}
	}
	v := assemble(t, s, imaging.Options{Named: uids(s[16:17])}) // the second echo, b = 400
	sameVolume(t, v, assemble(t, s[16:20], imaging.Options{}))
	if !slices.Equal(v.SOPInstances, uids(s[16:20])) {
		t.Errorf("slices are %v", v.SOPInstances)
	}
	if notes := strings.Join(v.Notes, "\n"); !strings.Contains(notes, "stack 4 of 6") || !strings.Contains(notes, "400 s/mm2 and 80 ms") {
		t.Errorf("notes %q", notes)
	}
}

// TestStacksOfFrames has the stacks inside of one image: frames are named.
func TestStacksOfFrames(t *testing.T) {
	s := echoes(4)
	e := enhanced(dicom.EnhancedMRImageStorage, s)
	want := assemble(t, s[4:], imaging.Options{})
	for name, o := range map[string]imaging.Options{
		"frames":            {NamedFrames: map[string][]int{"1.2.3.1000": {6, 7}}},
		"frames and all":    {Named: []string{"1.2.3.1000"}, NamedFrames: map[string][]int{"1.2.3.1000": {5}}},
		"converted sources": {Named: uids(s[5:6])},
	} {
		t.Run(name, func(t *testing.T) {
			v := assemble(t, []*dicom.DataSet{e}, o)
			sameVolume(t, v, want)
			if !slices.Equal(v.FrameNumbers, []int{5, 6, 7, 8}) {
				t.Errorf("frames are %v", v.FrameNumbers)
			}
		})
	}
	for name, o := range map[string]imaging.Options{"none": {}, "the image": {Named: []string{"1.2.3.1000"}}, "both": {NamedFrames: map[string][]int{"1.2.3.1000": {1, 5}}}} {
		_, err := imaging.Check([]*dicom.DataSet{e}, o)
		var r *refusal.Refusal
		if !errors.As(err, &r) || r.Code != refusal.SeriesStacks || !strings.Contains(r.Text, "20 ms, 80 ms") {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// TestLeftOut lists what is measured without, and what is not when the contours name it.
func TestLeftOut(t *testing.T) {
	extra := func(change func(d *dicom.DataSet)) *dicom.DataSet {
		d := ct(9)
		d.SetString(dicom.SOPInstanceUID, "1.2.3.900")
		change(d)
		return d
	}
	for name, c := range map[string]struct {
		odd  *dicom.DataSet
		note string
		code refusal.Code // where it is named
	}{
		"localizer": {extra(func(d *dicom.DataSet) {
			d.SetString(dicom.ImageType, "ORIGINAL", "PRIMARY", "LOCALIZER")
			d.SetFloat(dicom.ImageOrientationPatient, 1, 0, 0, 0, 0, -1)
			d.SetInt(dicom.Rows, 1)
		}), "LOCALIZER", refusal.ImageLocalizer},
		"projection": {extra(func(d *dicom.DataSet) { d.SetString(dicom.ImageType, "DERIVED", "SECONDARY", "MIP") }), "projection", ""},
		"reformat":   {extra(func(d *dicom.DataSet) { d.SetFloat(dicom.ImageOrientationPatient, 1, 0, 0, 0, 0, -1) }), "(0020,0037)", refusal.GeometryOrientation},
		"size":       {extra(func(d *dicom.DataSet) { d.SetInt(dicom.Rows, 1) }), "(0028,0010) 1", refusal.GeometrySize},
		"spacing":    {extra(func(d *dicom.DataSet) { d.SetFloat(dicom.PixelSpacing, 1, 1) }), "(0028,0030)", refusal.GeometryPixelSpacing},
		"aside":      {extra(func(d *dicom.DataSet) { d.SetFloat(dicom.ImagePositionPatient, 40, 0, 0) }), "beside", ""},
		"again": {func() *dicom.DataSet {
			d := ct(2)
			d.SetString(dicom.SOPInstanceUID, "1.2.3.900")
			d.SetInt(dicom.InstanceNumber, 900)
			return d
		}(), "the values of another", ""},
		"the same instance": {ct(2), "the values of another", ""},
	} {
		t.Run(name, func(t *testing.T) {
			want := assemble(t, series(6), imaging.Options{})
			if name == "aside" { // beside the line and on a place of its own
				p := position(6)
				c.odd.SetFloat(dicom.ImagePositionPatient, p[0]+20*row[0], p[1]+20*row[1], p[2]+20*row[2])
			}
			for _, s := range [][]*dicom.DataSet{append(series(6), c.odd), append([]*dicom.DataSet{c.odd}, series(6)...)} {
				got := assemble(t, s, imaging.Options{Named: uids(s[1:2])})
				sameVolume(t, got, want)
				if len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "left out") || !strings.Contains(got.Notes[0], c.note) {
					t.Errorf("notes %q, want one that names %q", got.Notes, c.note)
				}
			}
			_, err := imaging.Check(append(series(6), c.odd), imaging.Options{Named: []string{"1.2.3.900"}})
			var r *refusal.Refusal
			if c.code != "" && (!errors.As(err, &r) || r.Code != c.code) {
				t.Errorf("named: error is %v, want a refusal %s", err, c.code)
			}
			if name == "aside" && (!errors.As(err, &r) || r.Code != refusal.GeometryGap && r.Code != refusal.GeometryTilt) {
				t.Errorf("named: error is %v", err)
			}
		})
	}
	t.Run("named twin", func(t *testing.T) {
		twin := ct(2)
		twin.SetString(dicom.SOPInstanceUID, "1.2.3.900")
		v := assemble(t, append(series(6), twin), imaging.Options{Named: []string{"1.2.3.900"}})
		if v.SOPInstances[2] != "1.2.3.900" {
			t.Errorf("slice 2 is %s, not the one that is named", v.SOPInstances[2])
		}
	})
	t.Run("too many", func(t *testing.T) {
		_, err := imaging.Check(append(series(6), coronal(3)...), imaging.Options{})
		var r *refusal.Refusal
		if !errors.As(err, &r) || r.Code != refusal.SeriesStacks {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("gap stays a gap", func(t *testing.T) { // more images may come: package pipeline waits on this code
		s := series(9)
		s = append(s[:4], s[5:]...)
		loc := extra(func(d *dicom.DataSet) {
			d.SetString(dicom.ImageType, "ORIGINAL", "PRIMARY", "LOCALIZER")
			d.SetFloat(dicom.ImagePositionPatient, 500, 500, 500)
		})
		_, err := imaging.Check(append(s, loc), imaging.Options{})
		var r *refusal.Refusal
		if !errors.As(err, &r) || r.Code != refusal.GeometryGap {
			t.Errorf("error is %v", err)
		}
	})
	// Packages that were acquired one after the other are one stack; with slices missing it is a gap, not two stacks.
	t.Run("interleaved packages with gaps", func(t *testing.T) {
		var s []*dicom.DataSet
		for k, d := range series(10) {
			d.SetString(dicom.SOPInstanceUID, fmt.Sprintf("1.2.3.%d", 10+k))
			d.SetInt(dicom.AcquisitionNumber, k%2)
			if k != 1 && k != 8 {
				s = append(s, d)
			}
		}
		_, err := imaging.Check(s, imaging.Options{})
		var r *refusal.Refusal
		if !errors.As(err, &r) || r.Code != refusal.GeometryGap {
			t.Errorf("error is %v", err)
		}
	})
}

// TestCareful has series that a hasty rule would divide.
func TestCareful(t *testing.T) {
	t.Run("two and two", func(t *testing.T) { // too few for a stack that shares no place with another
		s := series(4)
		for k, d := range s {
			d.SetInt(dicom.AcquisitionNumber, k%2)
			move(d, []float64{0, 0, 1, 1}[k]) // 0, 2, 5, 7 mm
		}
		_, err := imaging.Check(s, imaging.Options{Named: uids(s[:1])})
		var r *refusal.Refusal
		if !errors.As(err, &r) || r.Code != refusal.GeometryGap {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("times of an incomplete copy", func(t *testing.T) {
		s := series(4)
		for k, d := range series(4)[:3] {
			d.SetString(dicom.SOPInstanceUID, d.String(dicom.SOPInstanceUID)+".2")
			d.SetFloat(dicom.TriggerTime, float64(500+k))
			s[k].SetFloat(dicom.TriggerTime, float64(k))
			s = append(s, d)
		}
		s[3].SetFloat(dicom.TriggerTime, 3)
		l, err := imaging.Check(s, imaging.Options{})
		if err != nil || len(l.Twins) != 3 {
			t.Errorf("%v, twins %v", err, l.Twins)
		}
		sameVolume(t, assemble(t, s, imaging.Options{}), assemble(t, s[:4], imaging.Options{}))
		s[5].SetBytes(dicom.PixelData, dicom.OW, make([]byte, 12))
		_, err = imaging.Assemble(context.Background(), files(t, s), imaging.Options{})
		var r *refusal.Refusal
		if !errors.As(err, &r) || r.Code != refusal.GeometryDuplicate || !strings.Contains(r.Text, "pixel") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("a copy with rounded directions", func(t *testing.T) { // far from the origin, where half a milliradian is half a millimetre
		s := append(series(5), ct(2))
		s[5].SetString(dicom.SOPInstanceUID, "1.2.3.0")
		s[5].SetFloat(dicom.ImageOrientationPatient, row[0], row[1], row[2], column[0]+5e-4*normal[0], column[1]+5e-4*normal[1], column[2]+5e-4*normal[2])
		for k, d := range s {
			p, _ := d.Floats(dicom.ImagePositionPatient)
			d.SetFloat(dicom.ImagePositionPatient, p[0]-1000, p[1]+1000, p[2]+1000)
			d.SetString(dicom.AcquisitionTime, []string{"10", "10", "20", "20", "20", "10"}[k]) // divides, into no stacks
		}
		l, err := imaging.Check(s, imaging.Options{})
		if err != nil || len(l.Twins) != 1 {
			t.Errorf("%v, twins %v", err, l.Twins)
		}
	})
	t.Run("own groups before shared ones", func(t *testing.T) {
		e := enhanced(dicom.EnhancedCTImageStorage, series(4))
		decoy := dicom.New()
		decoy.SetFloat(dicom.RescaleSlope, 9)
		decoy.SetFloat(dicom.RescaleIntercept, 9)
		decoy.SetFloat(dicom.ImagePositionPatient, 9, 9, 9)
		e.Seq(dicom.SharedFunctionalGroupsSequence)[0].SetSeq(dicom.PixelValueTransformationSequence, decoy)
		e.Seq(dicom.SharedFunctionalGroupsSequence)[0].SetSeq(dicom.PlanePositionSequence, decoy)
		sameVolume(t, assemble(t, []*dicom.DataSet{e}, imaging.Options{}), assemble(t, series(4), imaging.Options{}))
	})
}

// TestNM places the slices of a reconstructed NM image by Slice Vector, in front of the first one where the spacing is negative.
func TestNM(t *testing.T) {
	for _, spacing := range []float64{2, -2} {
		v := assemble(t, []*dicom.DataSet{nm(4, 1, spacing)}, imaging.Options{})
		if v.Unit != "1" || v.Grid.Size != [3]int{3, 2, 4} || math.Abs(v.Grid.Spacing[2]-2) > 1e-9 {
			t.Fatalf("unit %q, size %v, spacing %v", v.Unit, v.Grid.Size, v.Grid.Spacing)
		}
		for frame := range 4 {
			want := position(float64(frame) * spacing / 2)
			k := slices.Index(v.FrameNumbers, frame+1)
			at := v.Grid.Point(0, 0, float64(k))
			for c := range 3 {
				if math.Abs(at[c]-want[c]) > 1e-9 {
					t.Errorf("spacing %v: frame %d lies at %v, want %v", spacing, frame+1, at, want)
				}
			}
			if got := v.Grid.Data[6*k+5]; got != float32(100*frame+5) {
				t.Errorf("spacing %v: frame %d has %v", spacing, frame+1, got)
			}
		}
	}
	quantitative := nm(4, 1, 2)
	quantitative.SetString(dicom.Units, "BQML")
	if v := assemble(t, []*dicom.DataSet{quantitative}, imaging.Options{}); v.Unit != "Bq/ml" {
		t.Errorf("unit %q", v.Unit)
	}
	gated := nm(4, 3, 2)
	_, err := imaging.Check([]*dicom.DataSet{gated}, imaging.Options{})
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Code != refusal.SeriesStacks || !strings.Contains(r.Text, "3 stacks of 4 slices") || !strings.Contains(r.Text, "(0054,0070)") {
		t.Errorf("error is %v", err)
	}
	v := assemble(t, []*dicom.DataSet{gated}, imaging.Options{NamedFrames: map[string][]int{gated.String(dicom.SOPInstanceUID): {7}}})
	if v.Grid.Data[0] != 1000 {
		t.Errorf("first voxel of the second slot is %v", v.Grid.Data[0])
	}
}

// TestValues compares with the plain formula of each way to physical values.
func TestValues(t *testing.T) {
	stored := func(k, n int) float64 { return float64(100*k + n - 3) }
	for name, c := range map[string]struct {
		series []*dicom.DataSet
		unit   string
		note   string
		value  func(s float64, k int) float64
	}{
		"MR as stored": {mrs(4), "[arb'U]", "(0028,1053) is absent", func(s float64, k int) float64 { return s }},
		"MR rescaled": {func() []*dicom.DataSet {
			s := mrs(4)
			for k, d := range s {
				d.SetFloat(dicom.RescaleSlope, 1.5+float64(k))
				d.SetFloat(dicom.RescaleIntercept, -3)
			}
			return s
		}(), "[arb'U]", "", func(s float64, k int) float64 { return (1.5+float64(k))*s - 3 }},
		"MR of a type": {func() []*dicom.DataSet {
			s := mrs(4)
			for _, d := range s {
				d.SetFloat(dicom.RescaleSlope, 1)
				d.SetFloat(dicom.RescaleIntercept, 0)
				d.SetString(dicom.RescaleType, "normalized")
			}
			return s
		}(), "[arb'U]", "normalized, which is no unit", func(s float64, k int) float64 { return s }},
		"MR real world": {func() []*dicom.DataSet { s := mrs(4); mapping(s, "10*-6.mm2/s", -100, 1000); return s }(), "10*-6.mm2/s", "first of 2 (10*-6.mm2/s, mm)",
			func(s float64, k int) float64 { return 3*s - 7 }},
		"MR beside real world": {func() []*dicom.DataSet { s := mrs(4); mapping(s, "ms", 0, 300); return s }(), "ms", "5 stored values lie outside of 0 to 300",
			func(s float64, k int) float64 { return 3*s - 7 }},
		"MR real world table": {func() []*dicom.DataSet {
			s := mrs(4)
			mapping(s, "ms", -3, 400)
			table := make([]float64, 404)
			for i := range table {
				table[i] = math.Sqrt(float64(i))
			}
			for _, d := range s {
				d.Seq(dicom.RealWorldValueMappingSequence)[1].SetFloat(dicom.RealWorldValueLUTData, table...)
			}
			return s
		}(), "ms", "(0040,9096)", func(s float64, k int) float64 { return math.Sqrt(s + 3) }},
		"MR long unit": {func() []*dicom.DataSet {
			s := mrs(4)
			mapping(s, "ms", -100, 1000)
			for _, d := range s {
				code := d.Seq(dicom.RealWorldValueMappingSequence)[1].Seq(dicom.MeasurementUnitsCodeSequence)[0]
				code.Remove(dicom.CodeValue)
				code.SetString(dicom.LongCodeValue, "g/ml{SUVlbm(James128)}")
			}
			return s
		}(), "g/ml{SUVlbm(James128)}", "", func(s float64, k int) float64 { return 3*s - 7 }},
		"MR unit that is none": {func() []*dicom.DataSet { s := mrs(4); mapping(s, "m s", -100, 1000); return s }(), "mm", "(0040,9096)",
			func(s float64, k int) float64 { return 5*s - 7 }},
		"MR table": {func() []*dicom.DataSet { s := mrs(4); table(s, 300, -2); return s }(), "[arb'U]", "(0028,3000)",
			func(s float64, k int) float64 { return 2 * max(0, min(299, s+2)) }},
		"MR table of 2^16": {func() []*dicom.DataSet { s := mrs(4); table(s, 1<<16, -2); return s }(), "[arb'U]", "(0028,3000)",
			func(s float64, k int) float64 { return 2 * max(0, s+2) }},
		"MR table of bytes": {func() []*dicom.DataSet {
			s := mrs(4)
			table(s, 200, -2)
			for _, d := range s {
				lut := d.Seq(dicom.ModalityLUTSequence)[0]
				lut.SetBytes(dicom.LUTDescriptor, dicom.US, []byte{200, 0, 0xFE, 0xFF, 8, 0})
				data := make([]byte, 200)
				for i := range data {
					data[i] = byte(255 - i)
				}
				lut.SetBytes(dicom.LUTData, dicom.OW, data)
			}
			return s
		}(), "[arb'U]", "(0028,3000)", func(s float64, k int) float64 { return 255 - max(0, min(199, s+2)) }},
		"MR inverted": {func() []*dicom.DataSet {
			s := mrs(4)
			each(s, dicom.PhotometricInterpretation, "MONOCHROME1")
			return s
		}(), "[arb'U]", "MONOCHROME1",
			func(s float64, k int) float64 { return s }},
		"PET counts": {pets(4), "{counts}", "", func(s float64, k int) float64 { return (0.5 + 0.25*float64(k)) * s }},
		"PET without units, real world": {func() []*dicom.DataSet {
			s := pets(4)
			each(s, dicom.Units, "")
			mapping(s, "g/ml{SUVbw}", -100, 1000)
			return s
		}(), "g/ml{SUVbw}", "(0040,9096)", func(s float64, k int) float64 { return 3*s - 7 }},
		"PET without units, activity": { // which becomes no SUV without a weight
			func() []*dicom.DataSet {
				s := pets(4)
				each(s, dicom.Units, "")
				mapping(s, "Bq/ml", -100, 1000)
				for _, d := range s {
					d.SetString(dicom.CorrectedImage, "DECY", "ATTN")
					d.SetString(dicom.DecayCorrection, "START")
				}
				return s
			}(), "Bq/ml", "pet.no-weight", func(s float64, k int) float64 { return 3*s - 7 }},
		"CT real world": {func() []*dicom.DataSet { s := series(4); mapping(s, "mg/ml", -100, 1000); return s }(), "HU", "",
			func(s float64, k int) float64 { return 2*s - 1000 - float64(k) }},
		"padding": {func() []*dicom.DataSet {
			s := series(4)
			for _, d := range s {
				d.SetBytes(dicom.PixelPaddingValue, dicom.US, binary.LittleEndian.AppendUint16(nil, 65536-2000))
			}
			return s
		}(), "HU", "(0028,0120) is -2000", func(s float64, k int) float64 { return 2*s - 1000 - float64(k) }},
		"lossy": {func() []*dicom.DataSet {
			s := series(4)
			for k, d := range s {
				d.SetString(dicom.LossyImageCompression, "01")
				d.SetString(dicom.LossyImageCompressionMethod, "ISO_15444_1")
				d.SetFloat(dicom.LossyImageCompressionRatio, float64(8+k))
			}
			return s
		}(), "HU", "by ISO_15444_1, 8 to 1 up to 11 to 1", func(s float64, k int) float64 { return 2*s - 1000 - float64(k) }},
	} {
		t.Run(name, func(t *testing.T) {
			v := assemble(t, c.series, imaging.Options{})
			if v.Unit != c.unit || !strings.Contains(strings.Join(v.Notes, "\n"), c.note) {
				t.Errorf("unit %q, notes %q; want %q, %q", v.Unit, v.Notes, c.unit, c.note)
			}
			if lossy := name == "lossy"; (v.Lossy != "") != lossy {
				t.Errorf("lossy is %q", v.Lossy)
			}
			for k := range 4 {
				for n := range 6 {
					if got, want := v.Grid.Data[6*k+n], float32(c.value(stored(k, n), k)); got != want {
						t.Fatalf("slice %d, pixel %d is %v, want %v", k, n, got, want)
					}
				}
			}
			l, err := imaging.Check(c.series, imaging.Options{})
			if err != nil || l.Unit != v.Unit {
				t.Errorf("headers alone say %q, %v", l.Unit, err)
			}
		})
	}
}

// TestFloatPixels has stored values that are no whole numbers, and some that are no numbers.
func TestFloatPixels(t *testing.T) {
	float := func(change func(k int, v []float32)) []*dicom.File {
		s := mrs(4)
		for k, d := range s {
			v := []float32{0.5, -1.25, 3e7, 0, float32(k), 1e-9}
			change(k, v)
			var pixels []byte
			for _, x := range v {
				pixels = binary.LittleEndian.AppendUint32(pixels, math.Float32bits(x))
			}
			d.SetInt(dicom.BitsAllocated, 32)
			d.Remove(dicom.PixelData, dicom.BitsStored, dicom.HighBit, dicom.PixelRepresentation)
			d.SetFloat(dicom.RescaleSlope, 2)
			d.SetFloat(dicom.RescaleIntercept, 1)
			d.SetBytes(dicom.FloatPixelData, dicom.OF, pixels)
		}
		twin := dicom.New() // compared as floats too
		for e := range s[2].Elements() {
			twin.Copy(s[2], e.Tag)
		}
		twin.SetString(dicom.SOPInstanceUID, "1.2.3.900")
		return files(t, append(s, twin))
	}
	v, err := imaging.Assemble(context.Background(), float(func(int, []float32) {}), imaging.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := []float32{2, -1.5, 6e7 + 1, 1, 7, 1}; !slices.Equal(v.Grid.Data[18:], want) {
		t.Errorf("values %v, want %v", v.Grid.Data[18:], want)
	}
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat32} {
		_, err := imaging.Assemble(context.Background(), float(func(k int, v []float32) {
			if k == 1 {
				v[3] = float32(x)
			}
		}), imaging.Options{})
		var r *refusal.Refusal
		if !errors.As(err, &r) || r.Code != refusal.ImagePixels || !strings.Contains(r.Text, "finite") {
			t.Errorf("%v: error is %v", x, err)
		}
	}
}

// TestMappedUptake has SUV in a real world mapping: it is taken as it is.
func TestMappedUptake(t *testing.T) {
	for code, unit := range map[string]string{"g/ml{SUVbw}": "g/ml{SUVbw}", "{SUVbw}g/ml": "g/ml{SUVbw}"} {
		s := pets(4)
		each(s, dicom.Units, "")
		mapping(s, code, -100, 1000)
		for kind, notes := range map[imaging.SUVKind]int{"": 1, imaging.SUVNone: 1, imaging.SUVBodySurface: 2} {
			v := assemble(t, s, imaging.Options{SUV: kind})
			if v.Unit != unit || v.SUV == nil || v.SUV.Kind != imaging.SUVBodyWeight || len(v.Notes) != notes {
				t.Errorf("%s as %q: unit %q, SUV %+v, notes %q", code, kind, v.Unit, v.SUV, v.Notes)
			}
		}
	}
}

// TestAnyVolume builds volumes of any orientation, spacing and order, as single frames and as one image: the value at a known
// point of the patient is right.
func TestAnyVolume(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		number := func(name string, low, high float64) float64 { return rapid.Float64Range(low, high).Draw(rt, name) }
		a, b, c := number("a", -3, 3), number("b", -1.5, 1.5), number("c", -3, 3)
		sa, ca, sb, cb, sc, cc := math.Sin(a), math.Cos(a), math.Sin(b), math.Cos(b), math.Sin(c), math.Cos(c)
		x := [3]float64{ca * cb, sa * cb, -sb}
		y := [3]float64{ca*sb*sc - sa*cc, sa*sb*sc + ca*cc, cb * sc}
		z := [3]float64{ca*sb*cc + sa*sc, sa*sb*cc - ca*sc, cb * cc}
		dx, dy, dz := number("dx", 0.3, 5), number("dy", 0.3, 5), number("dz", 0.5, 8)
		o := [3]float64{number("ox", -300, 300), number("oy", -300, 300), number("oz", -300, 300)}
		columns, rows, n := rapid.IntRange(1, 5).Draw(rt, "columns"), rapid.IntRange(1, 5).Draw(rt, "rows"), rapid.IntRange(2, 6).Draw(rt, "n")
		point := func(i, j, k int) (p [3]float64) {
			for c := range 3 {
				p[c] = o[c] + x[c]*dx*float64(i) + y[c]*dy*float64(j) + z[c]*dz*float64(k)
			}
			return p
		}
		value := func(i, j, k int) float32 { return float32(2*(100*k+10*j+i) - 1000) }
		var s []*dicom.DataSet
		for k := range n {
			d := ct(k)
			d.SetInt(dicom.Rows, rows)
			d.SetInt(dicom.Columns, columns)
			d.SetFloat(dicom.RescaleIntercept, -1000)
			d.SetFloat(dicom.PixelSpacing, dy, dx)
			d.SetFloat(dicom.ImageOrientationPatient, x[0], x[1], x[2], y[0], y[1], y[2])
			p := point(0, 0, k)
			d.SetFloat(dicom.ImagePositionPatient, p[:]...)
			var pixels []byte
			for j := range rows {
				for i := range columns {
					pixels = binary.LittleEndian.AppendUint16(pixels, uint16(100*k+10*j+i))
				}
			}
			d.SetBytes(dicom.PixelData, dicom.OW, pixels)
			s = append(s, d)
		}
		order := rapid.Permutation([]int{0, 1, 2, 3, 4, 5}[:n]).Draw(rt, "order")
		var shuffled []*dicom.DataSet
		for _, k := range order {
			shuffled = append(shuffled, s[k])
		}
		for _, packed := range [][]*dicom.DataSet{shuffled, {enhanced(dicom.EnhancedCTImageStorage, shuffled)}} {
			v := assemble(t, packed, imaging.Options{})
			for k := range n {
				for j := range rows {
					for i := range columns {
						at := v.Grid.Index(point(i, j, k))
						// Positions have the 16 bytes of DS.
						if math.Abs(at[0]-float64(i)) > 1e-3 || math.Abs(at[1]-float64(j)) > 1e-3 || math.Abs(at[2]-float64(k)) > 1e-3 {
							rt.Fatalf("%v has index %v, want %d %d %d", point(i, j, k), at, i, j, k)
						}
						if got := v.Grid.Data[(k*rows+j)*columns+i]; got != value(i, j, k) {
							rt.Fatalf("voxel %d %d %d is %v, want %v", i, j, k, got, value(i, j, k))
						}
					}
				}
			}
		}
	})
}

// replace gives the nth element of a data set, counted through its sequences, another value; a sequence is taken away.
func replace(d *dicom.DataSet, n *int, value []byte) {
	for _, e := range slices.Collect(d.Elements()) {
		if *n--; *n == -1 {
			if len(e.Items()) > 0 {
				d.Remove(e.Tag)
			} else {
				d.SetBytes(e.Tag, e.VR, value)
			}
			return
		}
		for _, item := range e.Items() {
			if replace(item, n, value); *n < 0 {
				return
			}
		}
	}
}

// FuzzFunctionalGroups feeds any bytes as a multi-frame image, with two elements replaced: what is accepted is a valid grid with a
// value for each voxel, and of no more voxels than there are bits.
func FuzzFunctionalGroups(f *testing.F) {
	mapped := mrs(3)
	mapping(mapped, "ms", -5000, 5000)
	table(mapped[:1], 4, -2)
	for _, d := range []*dicom.DataSet{
		enhanced(dicom.EnhancedCTImageStorage, series(4)), enhanced(dicom.EnhancedMRImageStorage, echoes(2)), enhanced(dicom.EnhancedMRImageStorage, mapped),
		enhanced(dicom.LegacyConvertedEnhancedPETImageStorage, pets(3)), nm(3, 2, -2), nm(1, 1, 2), ct(1),
	} {
		var b bytes.Buffer
		if err := dicom.WriteFile(&b, dicom.FileMeta{TransferSyntaxUID: dicom.ExplicitVRLittleEndian}, d); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes(), uint16(math.MaxUint16), []byte(nil), uint16(math.MaxUint16), []byte(nil))
		for n := range uint16(60) { // each of the first elements in turn
			f.Add(b.Bytes(), n, []byte("0"), uint16(math.MaxUint16), []byte(nil))
			f.Add(b.Bytes(), n, []byte("1e300\\-1e300\\NaN"), n/2, []byte{0xFF, 0xFF})
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, i uint16, x []byte, k uint16, y []byte) {
		if len(b) > 1<<16 {
			return
		}
		d, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		at := int(i)
		replace(d.DataSet, &at, bytes.ToValidUTF8(x, nil))
		at = int(k)
		replace(d.DataSet, &at, y)
		for _, o := range []imaging.Options{{}, {NamedFrames: map[string][]int{d.DataSet.String(dicom.SOPInstanceUID): {1}}}} {
			l, checked := imaging.Check([]*dicom.DataSet{d.DataSet}, o)
			v, err := imaging.Assemble(context.Background(), []*dicom.File{d}, o)
			var r *refusal.Refusal
			switch {
			case checked != nil:
				if !errors.As(checked, &r) || r.Text == "" || err == nil || err.Error() != checked.Error() {
					t.Fatalf("headers are refused with %v, pixels with %v", checked, err)
				}
			case err != nil:
				if !errors.As(err, &r) || r.Text == "" {
					t.Fatalf("error is %v", err)
				}
			default:
				if err := v.Grid.Geometry.Valid(); err != nil || v.Grid.Geometry != l.Geometry || len(v.Grid.Data) != v.Grid.Len() || len(l.Order) != v.Grid.Size[2] {
					t.Fatalf("accepted %+v with %d voxels: %v", v.Grid.Geometry, len(v.Grid.Data), err)
				}
				if ts, _ := dicom.LookupTransferSyntax(d.Meta.TransferSyntaxUID); !ts.Encapsulated && !ts.Deflated && len(v.Grid.Data) > 8*len(b) { // a bit each at least
					t.Fatalf("%d voxels of %d bytes", len(v.Grid.Data), len(b))
				}
				for _, x := range v.Grid.Data {
					if x-x != 0 {
						t.Fatal("a value is not finite")
					}
				}
			}
		}
	})
}
