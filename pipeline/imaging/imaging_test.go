package imaging_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/imaging"
	"github.com/radnode/radnode/pipeline/refusal"
)

// ct is a single-frame CT image of 3 columns and 2 rows, slice k of a stack with three different spacings that lies
// askew in the patient.
func ct(k int) *dicom.DataSet {
	d := dicom.New()
	d.SetString(dicom.SOPClassUID, dicom.CTImageStorage)
	d.SetString(dicom.SOPInstanceUID, fmt.Sprintf("1.2.3.%d", 100+(k*7)%10)) // UIDs do not follow positions
	d.SetString(dicom.StudyInstanceUID, "1.2.1")
	d.SetString(dicom.SeriesInstanceUID, "1.2.2")
	d.SetString(dicom.FrameOfReferenceUID, "1.2.4")
	d.SetString(dicom.Modality, "CT")
	d.SetString(dicom.ImageType, "ORIGINAL", "PRIMARY", "AXIAL")
	d.SetInt(dicom.InstanceNumber, 50-k) // nor do Instance Numbers
	d.SetInt(dicom.SamplesPerPixel, 1)
	d.SetString(dicom.PhotometricInterpretation, "MONOCHROME2")
	d.SetInt(dicom.Rows, 2)
	d.SetInt(dicom.Columns, 3)
	d.SetInt(dicom.BitsAllocated, 16)
	d.SetInt(dicom.BitsStored, 12)
	d.SetInt(dicom.HighBit, 11)
	d.SetInt(dicom.PixelRepresentation, 1)
	d.SetFloat(dicom.PixelSpacing, 0.5, 0.75) // rows 0.5 mm apart, columns 0.75 mm
	d.SetFloat(dicom.SliceThickness, 2)
	d.SetFloat(dicom.ImageOrientationPatient, append(row[:], column[:]...)...)
	at := position(float64(k))
	d.SetFloat(dicom.ImagePositionPatient, at[:]...)
	d.SetFloat(dicom.RescaleSlope, 2)
	d.SetFloat(dicom.RescaleIntercept, float64(-1000-k))
	var pixels []byte
	for n := range 6 {
		pixels = binary.LittleEndian.AppendUint16(pixels, uint16(int16(100*k+n-3))&0xFFF)
	}
	d.SetBytes(dicom.PixelData, dicom.OW, pixels)
	return d
}

// Directions of rows and columns, and their cross product: unit vectors of thirds, exactly at right angles.
var (
	row    = [3]float64{2. / 3, 2. / 3, 1. / 3}
	column = [3]float64{-2. / 3, 1. / 3, 2. / 3}
	normal = [3]float64{1. / 3, -2. / 3, 2. / 3}
)

const between = 2.0 // mm from slice to slice

func position(k float64) [3]float64 {
	return [3]float64{10 + normal[0]*between*k, -20 + normal[1]*between*k, 30 + normal[2]*between*k}
}

func series(n int) []*dicom.DataSet {
	var s []*dicom.DataSet
	for k := range n {
		s = append(s, ct(k))
	}
	return s
}

// file writes a data set and reads it back as it would come from a peer.
func file(t testing.TB, d *dicom.DataSet, transferSyntax string) *dicom.File {
	t.Helper()
	var b bytes.Buffer
	meta := dicom.FileMeta{MediaStorageSOPClassUID: d.String(dicom.SOPClassUID), MediaStorageSOPInstanceUID: d.String(dicom.SOPInstanceUID), TransferSyntaxUID: dicom.ExplicitVRLittleEndian}
	if err := dicom.WriteFile(&b, meta, d); err != nil {
		t.Fatal(err)
	}
	f, err := dicom.ReadFile(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if transferSyntax != "" {
		f.Meta.TransferSyntaxUID = transferSyntax
	}
	return f
}

func files(t testing.TB, s []*dicom.DataSet) []*dicom.File {
	t.Helper()
	var fs []*dicom.File
	for _, d := range s {
		fs = append(fs, file(t, d, ""))
	}
	return fs
}

func TestAssemble(t *testing.T) {
	want := files(t, series(4))
	for trial := range 10 {
		shuffled := slices.Clone(want)
		rand.New(rand.NewPCG(1, uint64(trial))).Shuffle(4, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		v, err := imaging.Assemble(context.Background(), shuffled, imaging.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if v.Grid.Size != [3]int{3, 2, 4} || v.Unit != "HU" || v.Modality != "CT" || v.Series != "1.2.2" || v.FrameOfReference != "1.2.4" || len(v.Notes) != 0 {
			t.Fatalf("size %v, unit %q, modality %q, series %q, frame %q, notes %q", v.Grid.Size, v.Unit, v.Modality, v.Series, v.FrameOfReference, v.Notes)
		}
		for k := range 4 {
			if uid := want[k].DataSet.String(dicom.SOPInstanceUID); v.SOPInstances[k] != uid {
				t.Errorf("slice %d is %s, want %s", k, v.SOPInstances[k], uid)
			}
			for j := range 2 {
				for i := range 3 {
					if got, want := v.Grid.Data[(k*2+j)*3+i], float32(2*(100*k+3*j+i-3)-1000-k); got != want {
						t.Errorf("voxel %d %d %d is %v, want %v", i, j, k, got, want)
					}
					// PS3.3 C.7.6.2.1-1: position + row direction * column spacing * column index + column direction * row spacing * row index.
					got, s := v.Grid.Point(float64(i), float64(j), float64(k)), position(float64(k))
					for c := range 3 {
						if want := s[c] + row[c]*0.75*float64(i) + column[c]*0.5*float64(j); math.Abs(got[c]-want) > 1e-9 {
							t.Fatalf("voxel %d %d %d lies at %v, coordinate %d should be %v", i, j, k, got, c, want)
						}
					}
				}
			}
		}
	}
}

func TestOneSlice(t *testing.T) {
	v, err := imaging.Assemble(context.Background(), files(t, series(1)), imaging.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if v.Grid.Spacing != [3]float64{0.75, 0.5, 2} || len(v.Notes) != 1 || !strings.Contains(v.Notes[0], "(0018,0050)") {
		t.Errorf("spacing %v, notes %q", v.Grid.Spacing, v.Notes)
	}
}

// TestNotes lists what is measured all the same, and said.
func TestNotes(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s []*dicom.DataSet)
		unit   string
		note   string
	}{
		"derived":             {func(s []*dicom.DataSet) { s[1].SetString(dicom.ImageType, "DERIVED", "SECONDARY", "AXIAL") }, "HU", "(0008,0008)"},
		"unspecified rescale": {func(s []*dicom.DataSet) { each(s, dicom.RescaleType, "US") }, "HU", "(0028,1054)"},
		"not HU":              {func(s []*dicom.DataSet) { each(s, dicom.RescaleType, "Z_EFF") }, "1", "(0028,1054)"},
		"thick slices":        {func(s []*dicom.DataSet) { each(s, dicom.SliceThickness, "5") }, "HU", "(0018,0050)"},
		"no frame":            {func(s []*dicom.DataSet) { each(s, dicom.FrameOfReferenceUID, "") }, "HU", "(0020,0052)"},
		"rounded positions":   {func(s []*dicom.DataSet) { move(s[1], 0.09) }, "HU", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := series(4)
			c.change(s)
			v, err := imaging.Assemble(context.Background(), files(t, s), imaging.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if v.Unit != c.unit || len(v.Notes) > 1 || !strings.Contains(strings.Join(v.Notes, ""), c.note) {
				t.Errorf("unit %q, notes %q, want %q", v.Unit, v.Notes, c.note)
			}
		})
	}
}

func each(s []*dicom.DataSet, t dicom.Tag, v string) {
	for _, d := range s {
		d.SetString(t, v)
	}
}

// move shifts a slice along the normal.
func move(d *dicom.DataSet, mm float64) {
	p, _ := d.Floats(dicom.ImagePositionPatient)
	for c := range p {
		p[c] += normal[c] * mm
	}
	d.SetFloat(dicom.ImagePositionPatient, p...)
}

// slide shifts a slice along its rows.
func slide(d *dicom.DataSet, mm float64) {
	p, _ := d.Floats(dicom.ImagePositionPatient)
	for c := range p {
		p[c] += row[c] * mm
	}
	d.SetFloat(dicom.ImagePositionPatient, p...)
}

// TestRefusals has a broken series for each code: the element it must name, and whether headers alone show it.
func TestRefusals(t *testing.T) {
	type images = []*dicom.DataSet
	covered := map[refusal.Code]bool{refusal.ImageCompressed: true, "image.normalise": true} // TestCompressed; package pipeline
	for name, c := range map[string]struct {
		code    refusal.Code
		names   string
		change  func(s images) images
		decoded bool // only Assemble can see it
	}{
		"nothing":         {refusal.ImageNone, "no image", func(s images) images { return nil }, false},
		"CT class of PET": {refusal.ImageModality, "(0008,0060)", func(s images) images { each(s, dicom.Modality, "PT"); return s }, false},
		"MR class of CT":  {refusal.ImageModality, "MR Image Storage", func(s images) images { each(s, dicom.SOPClassUID, dicom.MRImageStorage); return s }, false},
		"ultrasound": {refusal.ImageModality, "Ultrasound", func(s images) images {
			each(s, dicom.SOPClassUID, "1.2.840.10008.5.1.4.1.1.6.1")
			each(s, dicom.Modality, "US")
			return s
		}, false},
		"NM projections": {refusal.ImageModality, "(0008,0008)", func(s images) images {
			n := nm(4, 2, 2)
			n.SetString(dicom.ImageType, "ORIGINAL", "PRIMARY", "TOMO", "EMISSION")
			return images{n}
		}, false},
		"PET reprojection": {refusal.ImageModality, "(0054,1000)", func(s images) images {
			p := pets(4)
			p[1].SetString(dicom.SeriesType, "WHOLE BODY", "REPROJECTION")
			return p
		}, false},
		"enhanced": {refusal.ImageMultiFrame, "(5200,9230)", func(s images) images { each(s, dicom.SOPClassUID, dicom.EnhancedCTImageStorage); return s }, false},
		"fewer groups": {refusal.ImageMultiFrame, "(5200,9230)", func(s images) images {
			e := enhanced(dicom.EnhancedCTImageStorage, s)
			e.SetInt(dicom.NumberOfFrames, 6)
			return images{e}
		}, false},
		"frames without end": {refusal.ImageMultiFrame, "(0028,0008)", func(s images) images {
			e := enhanced(dicom.EnhancedCTImageStorage, s)
			e.SetString(dicom.NumberOfFrames, "2147483647")
			return images{e}
		}, false},
		"no frames": {refusal.ImageMultiFrame, "(0028,0008)", func(s images) images {
			e := enhanced(dicom.EnhancedCTImageStorage, s)
			e.SetString(dicom.NumberOfFrames, "0")
			return images{e}
		}, false},
		"frame of no place": {refusal.ImageAttribute, "frame 3: ImagePositionPatient (0020,0032)", func(s images) images {
			e := enhanced(dicom.EnhancedCTImageStorage, s)
			e.Seq(dicom.PerFrameFunctionalGroupsSequence)[2].Remove(dicom.PlanePositionSequence)
			return images{e}
		}, false},
		"NM slices":  {refusal.ImageMultiFrame, "(0054,0080)", func(s images) images { n := nm(4, 2, 2); n.SetInt(dicom.SliceVector, 1, 2, 3); return images{n} }, false},
		"NM spacing": {refusal.GeometrySpacing, "(0018,0088)", func(s images) images { n := nm(4, 2, 2); n.SetFloat(dicom.SpacingBetweenSlices, 0); return images{n} }, false},
		"only localizers": {refusal.ImageLocalizer, "(0008,0008)", func(s images) images {
			for _, d := range s {
				d.SetString(dicom.ImageType, "ORIGINAL", "PRIMARY", "LOCALIZER")
			}
			return s
		}, false},
		"frames":            {refusal.ImageMultiFrame, "(0028,0008)", func(s images) images { s[2].SetInt(dicom.NumberOfFrames, 4); return s }, false},
		"localizer":         {refusal.ImageLocalizer, "(0008,0008)", func(s images) images { s[1].SetString(dicom.ImageType, "ORIGINAL", "PRIMARY", "LOCALIZER"); return s }, false},
		"secondary capture": {refusal.ImageSecondary, "Secondary Capture", func(s images) images { s[1].SetString(dicom.SOPClassUID, "1.2.840.10008.5.1.4.1.1.7"); return s }, false},
		"screen save": {refusal.ImageSecondary, "(0008,0008)", func(s images) images {
			s[1].SetString(dicom.ImageType, "DERIVED", "SECONDARY", "SCREEN SAVE")
			return s
		}, false},
		"no UID":            {refusal.ImageAttribute, "(0008,0018)", func(s images) images { s[1].Remove(dicom.SOPInstanceUID); return s }, false},
		"no rows":           {refusal.ImageAttribute, "(0028,0010)", func(s images) images { s[1].Remove(dicom.Rows); return s }, false},
		"no columns":        {refusal.ImageAttribute, "(0028,0011)", func(s images) images { s[1].SetInt(dicom.Columns, 0); return s }, false},
		"no position":       {refusal.ImageAttribute, "(0020,0032)", func(s images) images { s[1].Remove(dicom.ImagePositionPatient); return s }, false},
		"position of two":   {refusal.ImageAttribute, "(0020,0032)", func(s images) images { s[1].SetFloat(dicom.ImagePositionPatient, 1, 2); return s }, false},
		"colour":            {refusal.ImagePhotometric, "(0028,0004)", func(s images) images { s[1].SetString(dicom.PhotometricInterpretation, "RGB"); return s }, false},
		"inverted":          {refusal.ImagePhotometric, "(0028,0004)", func(s images) images { s[1].SetString(dicom.PhotometricInterpretation, "MONOCHROME1"); return s }, false},
		"no slope":          {refusal.ImageRescale, "(0028,1053)", func(s images) images { s[1].Remove(dicom.RescaleSlope); return s }, false},
		"no rescale":        {refusal.ImageRescale, "(0028,1053)", func(s images) images { s[1].Remove(dicom.RescaleSlope, dicom.RescaleIntercept); return s }, false},
		"PET without slope": {refusal.ImageRescale, "(0028,1053)", func(s images) images { p := pets(4); p[1].Remove(dicom.RescaleSlope, dicom.RescaleIntercept); return p }, false},
		"PET of two units":  {refusal.ImageRescale, "(0054,1001)", func(s images) images { p := pets(4); p[1].SetString(dicom.Units, "BQML"); return p }, false},
		"MR half a rescale": {refusal.ImageRescale, "(0028,1052)", func(s images) images { p := mrs(4); p[1].SetFloat(dicom.RescaleSlope, 2); return p }, false},
		"MR short table": {refusal.ImageRescale, "(0028,3006)", func(s images) images {
			p := mrs(4)
			table(p, 500, 0)
			p[1].Seq(dicom.ModalityLUTSequence)[0].SetBytes(dicom.LUTData, dicom.OW, make([]byte, 100))
			return p
		}, false},
		"mapping of none": {refusal.ImageRescale, "(0040,9096)", func(s images) images {
			p := mrs(4)
			mapping(p, "ms", -5000, 5000)
			p[1].Seq(dicom.RealWorldValueMappingSequence)[1].Remove(dicom.RealWorldValueLastValueMapped)
			return p
		}, false},
		"mapping of slope 0": {refusal.ImageRescale, "(0040,9225)", func(s images) images {
			p := mrs(4)
			mapping(p, "ms", -5000, 5000)
			p[1].Seq(dicom.RealWorldValueMappingSequence)[1].SetFloat(dicom.RealWorldValueSlope, 0)
			return p
		}, false},
		"short mapping table": {refusal.ImageRescale, "(0040,9212)", func(s images) images {
			p := mrs(4)
			mapping(p, "ms", 0, 50)
			p[1].Seq(dicom.RealWorldValueMappingSequence)[1].SetFloat(dicom.RealWorldValueLUTData, 1, 2, 3)
			return p
		}, false},
		"beside mapping table": {refusal.ImageRescale, "(0040,9212)", func(s images) images {
			p := mrs(4)
			mapping(p, "ms", 0, 2)
			for _, d := range p {
				d.Seq(dicom.RealWorldValueMappingSequence)[1].SetFloat(dicom.RealWorldValueLUTData, 1, 2, 3)
			}
			return p
		}, true},
		"slope zero":            {refusal.ImageRescale, "(0028,1053)", func(s images) images { s[1].SetFloat(dicom.RescaleSlope, 0); return s }, false},
		"slope immense":         {refusal.ImageRescale, "(0028,1053)", func(s images) images { s[1].SetFloat(dicom.RescaleSlope, 1e38); return s }, false},
		"lookup table":          {refusal.ImageRescale, "(0028,3000)", func(s images) images { s[1].SetSeq(dicom.ModalityLUTSequence, dicom.New()); return s }, false},
		"two units":             {refusal.ImageRescale, "(0028,1054)", func(s images) images { s[1].SetString(dicom.RescaleType, "ED"); return s }, false},
		"no pixels":             {refusal.ImagePixels, "(7FE0,0010)", func(s images) images { s[1].Remove(dicom.PixelData); return s }, true},
		"too few pixels":        {refusal.ImagePixels, "(7FE0,0010)", func(s images) images { s[1].SetBytes(dicom.PixelData, dicom.OW, make([]byte, 10)); return s }, true},
		"too many bits":         {refusal.ImagePixels, "(0028,0101)", func(s images) images { s[3].SetInt(dicom.BitsStored, 20); return s }, true},
		"24 bits":               {refusal.ImagePixels, "(0028,0100)", func(s images) images { each24(s); return s }, true},
		"two series":            {refusal.SeriesMixed, "(0020,000E)", func(s images) images { s[1].SetString(dicom.SeriesInstanceUID, "1.2.9"); return s }, false},
		"two studies":           {refusal.SeriesMixed, "(0020,000D)", func(s images) images { s[1].SetString(dicom.StudyInstanceUID, "1.2.9"); return s }, false},
		"two frames":            {refusal.GeometryFrame, "(0020,0052)", func(s images) images { s[1].SetString(dicom.FrameOfReferenceUID, "1.2.9"); return s }, false},
		"other rows":            {refusal.GeometrySize, "(0028,0010)", func(s images) images { s[1].SetInt(dicom.Rows, 1); return s }, false},
		"other columns":         {refusal.GeometrySize, "(0028,0011)", func(s images) images { s[1].SetInt(dicom.Columns, 2); return s }, false},
		"other spacing":         {refusal.GeometryPixelSpacing, "(0028,0030)", func(s images) images { s[1].SetFloat(dicom.PixelSpacing, 0.75, 0.5); return s }, false},
		"last of other spacing": {refusal.GeometryPixelSpacing, "(0028,0030)", func(s images) images { s[4].SetFloat(dicom.PixelSpacing, 1, 1); return s }, false},
		"first of other size":   {refusal.GeometrySize, "(0028,0010)", func(s images) images { s[0].SetInt(dicom.Rows, 1); return s }, false},
		"no spacing":            {refusal.GeometryPixelSpacing, "(0028,0030)", func(s images) images { s[1].Remove(dicom.PixelSpacing); return s }, false},
		"negative spacing":      {refusal.GeometryPixelSpacing, "(0028,0030)", func(s images) images { s[1].SetFloat(dicom.PixelSpacing, 1, -1); return s }, false},
		"no orientation":        {refusal.GeometryOrientation, "(0020,0037)", func(s images) images { s[1].Remove(dicom.ImageOrientationPatient); return s }, false},
		"other orientation":     {refusal.GeometryOrientation, "(0020,0037)", func(s images) images { s[1].SetFloat(dicom.ImageOrientationPatient, 1, 0, 0, 0, 1, 0); return s }, false},
		"skew orientation":      {refusal.GeometryOrientation, "(0020,0037)", func(s images) images { s[1].SetFloat(dicom.ImageOrientationPatient, 1, 0, 0, 0.1, 0.99, 0); return s }, false},
		"two in one place": {refusal.GeometryDuplicate, "(0020,0032)", func(s images) images {
			s[4].SetString(dicom.ImagePositionPatient, s[3].Strings(dicom.ImagePositionPatient)...)
			return s
		}, true},
		"two echoes in one place": {refusal.GeometryDuplicate, "(0018,0081)", func(s images) images {
			p := mrs(5)
			p[4].SetString(dicom.ImagePositionPatient, p[3].Strings(dicom.ImagePositionPatient)...)
			p[4].SetFloat(dicom.EchoTime, 80)
			return p
		}, false},
		"side by side": {refusal.GeometryDuplicate, "(0020,0032)", func(s images) images {
			s[4].SetString(dicom.ImagePositionPatient, s[3].Strings(dicom.ImagePositionPatient)...)
			slide(s[4], 3)
			return s
		}, false},
		"two echoes":            {refusal.SeriesStacks, "Echo Time (0018,0081): 20 ms, 80 ms", func(s images) images { return echoes(5) }, false},
		"two grids":             {refusal.SeriesStacks, "(0020,0037)", func(s images) images { return append(s, coronal(5)...) }, false},
		"two grids, one broken": {refusal.GeometryOrientation, "(0020,0037)", func(s images) images { return append(s, coronal(5)[:2]...) }, false},
		"two classes": {refusal.SeriesMixed, "(0008,0016)", func(s images) images {
			e := enhanced(dicom.EnhancedCTImageStorage, s[1:])
			e.SetString(dicom.SOPInstanceUID, "1.2.3.500")
			return append(s[:1], e)
		}, false},
		"a hole":                {refusal.GeometryGap, "(0020,0032)", func(s images) images { return slices.Delete(s, 1, 2) }, false},
		"moved":                 {refusal.GeometrySpacing, "(0020,0032)", func(s images) images { move(s[1], 0.2); return s }, false},
		"one without thickness": {refusal.GeometrySpacing, "(0018,0050)", func(s images) images { s[0].Remove(dicom.SliceThickness); return s[:1] }, false},
		"tilt": {refusal.GeometryTilt, "(0018,1120)", func(s images) images {
			for k, d := range s {
				slide(d, 0.1*float64(k))
			}
			return s
		}, false},
		"one aside": {refusal.GeometryTilt, "(0020,0032)", func(s images) images { slide(s[2], 1); return s }, false},
	} {
		covered[c.code] = true
		t.Run(name, func(t *testing.T) {
			s := c.change(series(5))
			_, err := imaging.Check(s, imaging.Options{})
			if c.decoded {
				if err != nil {
					t.Fatalf("headers are refused: %v", err)
				}
				_, err = imaging.Assemble(context.Background(), files(t, s), imaging.Options{})
			}
			var r *refusal.Refusal
			if !errors.As(err, &r) {
				t.Fatalf("error is %v, not a refusal", err)
			}
			if r.Code != c.code || !strings.Contains(r.Error(), c.names) || r.Text == "" || r.Advice() == "" {
				t.Errorf("refused as %s: %v; want %s naming %s, and a remedy", r.Code, r, c.code, c.names)
			}
			slices.Reverse(s)
			if !c.decoded {
				if _, again := imaging.Check(s, imaging.Options{}); again == nil || again.Error() != err.Error() {
					t.Errorf("in another order: %v, want %v", again, err)
				}
			}
		})
	}
	for _, r := range refusal.Reasons {
		area, _, _ := strings.Cut(string(r.Code), ".")
		if slices.Contains([]string{"image", "series", "geometry"}, area) && !covered[r.Code] {
			t.Errorf("no series is refused as %s", r.Code)
		}
	}
}

func each24(s []*dicom.DataSet) {
	for _, d := range s {
		d.SetInt(dicom.BitsAllocated, 24)
		d.SetBytes(dicom.PixelData, dicom.OB, make([]byte, 18))
	}
}

func TestCompressed(t *testing.T) {
	fs := files(t, series(3))
	fs[1].Meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.110" // JPEG XL Lossless
	_, err := imaging.Assemble(context.Background(), fs, imaging.Options{})
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Code != refusal.ImageCompressed || !strings.Contains(r.Text, "JPEG XL Lossless") || r.SOPInstance == "" {
		t.Errorf("error is %v, want a refusal %s that names the transfer syntax", err, refusal.ImageCompressed)
	}
}

func TestGapNamesPlaces(t *testing.T) {
	s := series(9)
	s = append(append(slices.Clone(s[:3]), s[5]), s[7:]...) // 3, 4 and 6 are missing
	l, err := imaging.Check(s, imaging.Options{})
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Code != refusal.GeometryGap || !strings.Contains(r.Text, "3 of 9") {
		t.Fatalf("error is %v", err)
	}
	if len(l.Missing) != 3 {
		t.Fatalf("missing %v", l.Missing)
	}
	for n, k := range []float64{3, 4, 6} {
		for c, want := range position(k) {
			if math.Abs(l.Missing[n][c]-want) > 1e-6 {
				t.Errorf("missing slice %v is said to lie at %v, want %v", k, l.Missing[n], position(k))
			}
		}
	}
}

// TestFirstRefusalSpeaks breaks the pixels of every slice: the refusal is that of the first, whoever decodes fastest.
func TestFirstRefusalSpeaks(t *testing.T) {
	s := series(9)
	for _, d := range s {
		d.SetInt(dicom.BitsStored, 20)
	}
	fs := files(t, s)
	for range 20 {
		_, err := imaging.Assemble(context.Background(), fs, imaging.Options{})
		var r *refusal.Refusal
		if !errors.As(err, &r) || r.SOPInstance != s[0].String(dicom.SOPInstanceUID) {
			t.Fatalf("error is %v, want that of image %s", err, s[0].String(dicom.SOPInstanceUID))
		}
	}
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := imaging.Assemble(ctx, files(t, series(3)), imaging.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// TestCheckAnyStack builds stacks of any orientation and spacing and looks whether Check finds them again.
func TestCheckAnyStack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		number := func(name string, low, high float64) float64 { return rapid.Float64Range(low, high).Draw(t, name) }
		a, b, c := number("a", -3, 3), number("b", -3, 3), number("c", -3, 3)
		// Rotation by Euler angles.
		sa, ca, sb, cb, sc, cc := math.Sin(a), math.Cos(a), math.Sin(b), math.Cos(b), math.Sin(c), math.Cos(c)
		x := [3]float64{ca * cb, sa * cb, -sb}
		y := [3]float64{ca*sb*sc - sa*cc, sa*sb*sc + ca*cc, cb * sc}
		z := [3]float64{ca*sb*cc + sa*sc, sa*sb*cc - ca*sc, cb * cc}
		spacing := number("spacing", 0.3, 10)
		n := rapid.IntRange(2, 40).Draw(t, "n")
		var s []*dicom.DataSet
		for k := range n {
			d := ct(k)
			d.SetString(dicom.SOPInstanceUID, fmt.Sprintf("1.2.3.%d", 1000-k))
			d.SetFloat(dicom.ImageOrientationPatient, x[0], x[1], x[2], y[0], y[1], y[2])
			f := spacing * float64(k)
			d.SetFloat(dicom.ImagePositionPatient, 5+z[0]*f, 6+z[1]*f, 7+z[2]*f)
			s = append(s, d)
		}
		order := rapid.Permutation(slices.Collect(func(yield func(int) bool) {
			for k := range n {
				if !yield(k) {
					return
				}
			}
		})).Draw(t, "order")
		var shuffled []*dicom.DataSet
		for _, k := range order {
			shuffled = append(shuffled, s[k])
		}
		l, err := imaging.Check(shuffled, imaging.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Geometry.Valid(); err != nil {
			t.Fatal(err)
		}
		if math.Abs(l.Geometry.Spacing[2]-spacing) > 1e-6*spacing {
			t.Errorf("spacing %v, want %v", l.Geometry.Spacing[2], spacing)
		}
		for k := range n {
			if order[l.Order[k].Image] != k {
				t.Fatalf("slice %d is image %d", k, order[l.Order[k].Image])
			}
		}
	})
}

// FuzzCheck feeds any text as geometry: what is accepted must be a valid grid.
func FuzzCheck(f *testing.F) {
	f.Add("1\\0\\0\\0\\1\\0", "0\\0\\0", "0\\0\\3", "0\\0\\6", "1\\2")
	f.Add("0.6\\0.8\\0\\-0.8\\0.6\\0", "1\\2\\3", "1\\2\\4.5", "1\\2\\3", "1e-30\\1e30")
	f.Add("1\\0\\0\\0\\1\\0", "1e300\\0\\-1e300", "NaN\\0\\3", "0\\0\\1e308", "0\\1")
	f.Add("0\\0\\0\\0\\0\\0", "1\\2", "", "\\\\", "-1\\1")
	f.Fuzz(func(t *testing.T, orientation, p0, p1, p2, spacing string) {
		var s []*dicom.DataSet
		for k, p := range []string{p0, p1, p2} {
			d := ct(k)
			d.SetBytes(dicom.ImageOrientationPatient, dicom.DS, []byte(strings.ToValidUTF8(orientation, "?")))
			d.SetBytes(dicom.ImagePositionPatient, dicom.DS, []byte(strings.ToValidUTF8(p, "?")))
			d.SetBytes(dicom.PixelSpacing, dicom.DS, []byte(strings.ToValidUTF8(spacing, "?")))
			s = append(s, d)
		}
		l, err := imaging.Check(s, imaging.Options{})
		var r *refusal.Refusal
		switch {
		case err == nil:
			if err := l.Geometry.Valid(); err != nil || len(l.Order)+len(l.Twins) != 3 {
				t.Errorf("accepted %+v: %v", l, err)
			}
		case !errors.As(err, &r) || r.Code == "" || r.Text == "":
			t.Errorf("error is %v", err)
		}
	})
}

// shared finds the real data beside the module.
func shared(t testing.TB, path ...string) string {
	t.Helper()
	root := os.Getenv("RADNODE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared")
	}
	p := filepath.Join(append([]string{root, "data"}, path...)...)
	if _, err := os.Stat(p); err != nil {
		t.Skipf("real data are absent: set RADNODE_SHARED to the folder that holds data/ (%v)", err)
	}
	return p
}

func readFolder(t testing.TB, folder string) []*dicom.File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*.dcm"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no file in %s: %v", folder, err)
	}
	var fs []*dicom.File
	for _, p := range paths {
		fs = append(fs, openFile(t, p))
	}
	return fs
}

// TestPublishedVolume compares the DICOM chest CT of IBSI with the NIfTI volume that IBSI publishes of it: every voxel.
func TestPublishedVolume(t *testing.T) {
	folder := shared(t, "ibsi1", "ct_phantom")
	v, err := imaging.Assemble(context.Background(), readFolder(t, filepath.Join(folder, "dicom", "image")), imaging.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(filepath.Join(folder, "nifti", "image", "phantom.nii.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, err := voxel.ReadNIfTI(f)
	if err != nil {
		t.Fatal(err)
	}
	if !v.Grid.Geometry.Equal(want.Geometry, 0.01) { // NIfTI has float32 coordinates and a spacing of 0.977
		t.Fatalf("geometry %+v, published %+v", v.Grid.Geometry, want.Geometry)
	}
	if !slices.Equal(v.Grid.Data, want.Data) {
		t.Error("voxels differ")
	}
}

// TestSecondReader compares real series with figures that pydicom 3.0.2 and numpy gave: stored values, rescaled per slice,
// slices by Image Position.
func TestSecondReader(t *testing.T) {
	for _, c := range []struct {
		path          []string
		size          [3]int
		spacing       [3]float64
		min, max, sum float64
		at            [3]int // one voxel
		value         float64
	}{
		{[]string{"lung1", "LUNG1-001", "image"}, [3]int{512, 512, 134}, [3]float64{0.9765625, 0.9765625, 3.0}, -1024, 3034, -26042952667, [3]int{170, 256, 33}, 80},
		{[]string{"dcmqi", "ct-3slice"}, [3]int{512, 512, 3}, [3]float64{0.810547, 0.810547, 1.0}, -3024, 1381, -750951030, [3]int{170, 256, 0}, 45},
		{[]string{"dcmqi", "23x38x3", "image"}, [3]int{23, 38, 3}, [3]float64{0.7, 0.7, 2.5}, 0, 1, 310, [3]int{7, 19, 0}, 0},
		{[]string{"sts", "STS_001", "CT", "image"}, [3]int{198, 202, 59}, [3]float64{0.976562, 0.976562, 3.27}, -1000, 1397, -523058985, [3]int{66, 101, 14}, 46},
		{[]string{"sts", "STS_002", "CT", "image"}, [3]int{161, 143, 48}, [3]float64{0.976562, 0.976562, 3.27}, -1000, 1156, -322176927, [3]int{53, 71, 12}, -45},
		{[]string{"sts", "STS_003", "CT", "image"}, [3]int{154, 158, 51}, [3]float64{0.976562, 0.976562, 3.27}, -1000, 1439, -270207471, [3]int{51, 79, 12}, -133},
	} {
		t.Run(strings.Join(c.path, "/"), func(t *testing.T) {
			v, err := imaging.Assemble(context.Background(), readFolder(t, shared(t, c.path...)), imaging.Options{})
			if err != nil {
				t.Fatal(err)
			}
			low, high, sum := math.Inf(1), math.Inf(-1), 0.0
			for _, x := range v.Grid.Data {
				low, high, sum = min(low, float64(x)), max(high, float64(x)), sum+float64(x)
			}
			value := float64(v.Grid.Data[(c.at[2]*c.size[1]+c.at[1])*c.size[0]+c.at[0]])
			if v.Grid.Size != c.size || low != c.min || high != c.max || sum != c.sum || value != c.value {
				t.Errorf("size %v min %v max %v sum %v voxel %v; want %+v", v.Grid.Size, low, high, sum, value, c)
			}
			for a := range 3 {
				if math.Abs(v.Grid.Spacing[a]-c.spacing[a]) > 1e-5 {
					t.Errorf("spacing %v, want %v", v.Grid.Spacing, c.spacing)
				}
			}
		})
	}
}

// BenchmarkAssemble assembles a thorax CT: 134 slices of 512 × 512.
func BenchmarkAssemble(b *testing.B) {
	fs := readFolder(b, shared(b, "lung1", "LUNG1-001", "image"))
	b.SetBytes(134 * 512 * 512 * 2)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := imaging.Assemble(context.Background(), fs, imaging.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
