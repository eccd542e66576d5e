package sr

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/radnode/radnode/dimse/dicom"
)

// petHeader is what a PET slice says of the tracer and the patient.
func petHeader() *dicom.DataSet {
	d := source()
	d.SetString(dicom.AcquisitionDate, "20140501")
	d.SetString(dicom.AcquisitionTime, "101530.00")
	tracer := dicom.New()
	tracer.SetString(dicom.RadiopharmaceuticalStartTime, "090000.00")
	tracer.SetString(dicom.RadionuclideTotalDose, "3.7e8")
	tracer.SetString(dicom.RadionuclideHalfLife, "6586.2")
	tracer.SetSeq(dicom.RadionuclideCodeSequence, sct("77004003", "^18^Fluorine").encode())
	tracer.SetSeq(dicom.RadiopharmaceuticalCodeSequence, sct("35321007", "Fluorodeoxyglucose F^18^").encode())
	d.SetSeq(dicom.RadiopharmaceuticalInformationSequence, tracer)
	return d
}

// contextOf is the acquisition context of a series as lines, "Name = value unit".
func contextOf(t testing.TB, s Series) (lines []string) {
	t.Helper()
	g := newContainer(imageLibraryGroup, "")
	s.context(g)
	if err := g.check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range g.children {
		if c.rel != hasAcqContext {
			t.Errorf("%s is %s", c.name, c.rel)
		}
		switch c.vt {
		case num:
			lines = append(lines, fmt.Sprintf("%s = %g %s", c.name.Meaning, c.value, c.unit.Value))
		case code:
			lines = append(lines, c.name.Meaning+" = "+c.code.Meaning)
		default:
			lines = append(lines, c.name.Meaning+" = "+c.text)
		}
	}
	return lines
}

func TestAcquisitionContext(t *testing.T) {
	common := []string{"Study Date = 20140501", "Study Time = 101112", "Series Instance UID = " + ctSeries, "Series Number = 4", "Frame of Reference UID = " + ctFrame, "Pixel Data Rows = 512 {pixels}",
		"Pixel Data Columns = 400 {pixels}", "Horizontal Pixel Spacing = 0.8 mm", "Vertical Pixel Spacing = 0.9 mm", "Slice Thickness = 3 mm"}
	spoilt := petHeader()
	spoilt.SetString(dicom.StudyDate, "20149901")
	spoilt.SetString(dicom.StudyTime, "2561")
	spoilt.SetString(dicom.PixelSpacing, "1")
	spoilt.SetString(dicom.SliceThickness, "0")
	spoilt.SetString(dicom.PatientWeight, "-1")
	spoilt.Remove(dicom.PatientSize, dicom.Rows, dicom.Columns, dicom.SeriesNumber)
	bad := dicom.New()
	bad.SetString(dicom.RadiopharmaceuticalStartDateTime, "2014")
	bad.SetBytes(dicom.RadionuclideTotalDose, dicom.DS, []byte("many"))
	bad.SetSeq(dicom.RadionuclideCodeSequence, dicom.New())
	spoilt.SetSeq(dicom.RadiopharmaceuticalInformationSequence, bad)
	night := petHeader()
	night.SetString(dicom.AcquisitionTime, "001530")
	night.Seq(dicom.RadiopharmaceuticalInformationSequence)[0].SetString(dicom.RadiopharmaceuticalStartTime, "233000")
	dated := petHeader()
	dated.Seq(dicom.RadiopharmaceuticalInformationSequence)[0].SetString(dicom.RadiopharmaceuticalStartDateTime, "20140501085500.5+0200")
	old := petHeader()
	oldTracer := old.Seq(dicom.RadiopharmaceuticalInformationSequence)[0]
	oldTracer.SetSeq(dicom.RadionuclideCodeSequence, Code{"C-111A1", "99SDM", "18F"}.encode())
	oldTracer.SetSeq(dicom.RadiopharmaceuticalCodeSequence, Code{"C-B1031", "SRT", "FDG"}.encode())
	own := petHeader()
	ownTracer := own.Seq(dicom.RadiopharmaceuticalInformationSequence)[0]
	ownTracer.SetSeq(dicom.RadionuclideCodeSequence, Code{"1", "99HOSP", "18F"}.encode())
	ownTracer.SetSeq(dicom.RadiopharmaceuticalCodeSequence, Code{"C-XXXX", "SRT", "New tracer"}.encode())
	two := petHeader()
	two.SetSeq(dicom.RadiopharmaceuticalInformationSequence, bad, bad)
	enhanced := dicom.New()
	measures, shared := dicom.New(), dicom.New()
	measures.SetString(dicom.PixelSpacing, "2", "1")
	measures.SetString(dicom.SpacingBetweenSlices, "4")
	shared.SetSeq(dicom.PixelMeasuresSequence, measures)
	enhanced.SetSeq(dicom.SharedFunctionalGroupsSequence, shared)
	enhanced.SetString(dicom.PulseSequenceName, "GRE")
	enhanced.SetString(dicom.SequenceName, "not this")

	tracer := []string{"Radionuclide = ^18^Fluorine", "Radiopharmaceutical agent = Fluorodeoxyglucose F^18^", "Half-life of radiopharmaceutical = 6586.2 s",
		"Radiopharmaceutical Start DateTime = 20140501090000.00", "Radionuclide Total Dose = 3.7e+08 Bq"}
	at := func(s string) []string {
		c := slices.Clone(tracer)
		c[3] = "Radiopharmaceutical Start DateTime = " + s
		return c
	}
	body := []string{"Patient Weight = 71.5 kg", "Patient Height = 168 cm"}
	for _, c := range []struct {
		name, modality string
		header         *dicom.DataSet
		want           []string
	}{
		{"none", "CT", nil, []string{"Modality = Computed Tomography", "Series Instance UID = " + ctSeries, "Frame of Reference UID = " + ctFrame}},
		{"CT", "CT", petHeader(), slices.Concat([]string{"Modality = Computed Tomography"}, common)}, // no tracer in a CT
		{"PET", "PT", petHeader(), slices.Concat([]string{"Modality = Positron emission tomography"}, common, tracer, body)},
		{"injected before midnight", "PT", night, slices.Concat([]string{"Modality = Positron emission tomography"}, common, at("20140430233000"), body)},
		{"injection with a date", "PT", dated, slices.Concat([]string{"Modality = Positron emission tomography"}, common, at("20140501085500.5+0200"), body)},
		{"retired codes", "PT", old, slices.Concat([]string{"Modality = Positron emission tomography"}, common, tracer, body)},
		{"codes that nobody knows", "PT", own, slices.Concat([]string{"Modality = Positron emission tomography"}, common, tracer[2:], body)},
		{"two tracers", "PT", two, slices.Concat([]string{"Modality = Positron emission tomography"}, common, body)},
		{"faults", "PT", spoilt, []string{"Modality = Positron emission tomography", "Series Instance UID = " + ctSeries, "Frame of Reference UID = " + ctFrame}},
		{"enhanced MR", "MR", enhanced, []string{"Modality = Magnetic Resonance", "Series Instance UID = " + ctSeries, "Frame of Reference UID = " + ctFrame, "Horizontal Pixel Spacing = 1 mm",
			"Vertical Pixel Spacing = 2 mm", "Spacing between slices = 4 mm", "Pulse Sequence Name = GRE"}},
	} {
		got := contextOf(t, Series{SeriesInstanceUID: ctSeries, Modality: c.modality, FrameOfReferenceUID: ctFrame, Header: c.header})
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s, want - got +:\n%s", c.name, diff)
		}
	}
}

// Headers of real series: PET of two centres, MR and CT.
func TestAcquisitionContextOfRealImages(t *testing.T) {
	for pattern, want := range map[string][]string{
		"sts/STS_001/*/image/*.dcm":       nil,
		"sts_raw/STS_001/FDG_PET/image/*": {"Radionuclide Total Dose", "Half-life", "Start DateTime", "Patient Weight"},
		"dcmqi/ct-3slice/01.dcm":          {"Horizontal Pixel Spacing", "Slice Thickness"},
		"sts_raw/STS_001/MR_T1/image/*":   {"Horizontal Pixel Spacing", "Slice Thickness"},
	} {
		files, err := filepath.Glob(filepath.Join(shared(t, "data"), filepath.FromSlash(pattern)))
		if err != nil || len(files) == 0 {
			t.Errorf("no file %s in the shared data: %v", pattern, err)
			continue
		}
		b, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		d := read(t, b)
		got := strings.Join(contextOf(t, Series{SeriesInstanceUID: d.String(dicom.SeriesInstanceUID), Modality: d.String(dicom.Modality), Header: d}), "\n")
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %s in\n%s", pattern, w, got)
			}
		}
	}
}

// Whatever a header holds, the items that come of it can be written and read.
func TestAcquisitionContextOfAnything(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := func(name string) []byte {
			return []byte(rapid.OneOf(rapid.StringMatching(`[0-9.:+\\-]{0,30}`), rapid.String()).Draw(rt, name))
		}
		h, tracer := dicom.New(), dicom.New()
		for _, tag := range []dicom.Tag{dicom.StudyDate, dicom.StudyTime, dicom.PixelSpacing, dicom.SliceThickness, dicom.SpacingBetweenSlices,
			dicom.AcquisitionDate, dicom.AcquisitionTime, dicom.SequenceName, dicom.PatientWeight, dicom.PatientSize} {
			h.SetBytes(tag, tag.VR(), text(tag.Keyword()))
		}
		for _, tag := range []dicom.Tag{dicom.RadionuclideHalfLife, dicom.RadionuclideTotalDose, dicom.RadiopharmaceuticalStartDateTime, dicom.RadiopharmaceuticalStartTime} {
			tracer.SetBytes(tag, tag.VR(), text(tag.Keyword()))
		}
		c := dicom.New()
		for _, tag := range []dicom.Tag{dicom.CodeValue, dicom.CodingSchemeDesignator, dicom.CodeMeaning} {
			c.SetBytes(tag, tag.VR(), text(tag.Keyword()))
		}
		tracer.SetSeq(dicom.RadionuclideCodeSequence, c)
		h.SetSeq(dicom.RadiopharmaceuticalInformationSequence, tracer)
		g := newContainer(imageLibraryGroup, "")
		Series{SeriesInstanceUID: ctSeries, Modality: rapid.SampledFrom([]string{"PT", "MR"}).Draw(rt, "modality"), Header: h}.context(g)
		if err := g.check(); err != nil {
			rt.Fatal(err)
		}
		if _, err := g.encode().EncodedBytes(); err != nil {
			rt.Fatal(err)
		}
	})
}
