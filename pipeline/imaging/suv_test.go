package imaging

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/pixel"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/pipeline/sr"
)

// pet is the header of slice k of a series of two beds of 5 minutes, 10 slices each: injected at 10:00, scanned from 11:00,
// F-18, a man of 70 kg and 1.75 m. Frame Reference Time ends at the mean activity of the frame, as that of Siemens and Philips.
func pet(k int) *dicom.DataSet {
	d := dicom.New()
	d.SetString(dicom.SOPClassUID, dicom.PositronEmissionTomographyImageStorage)
	d.SetString(dicom.SOPInstanceUID, fmt.Sprintf("1.2.3.%d", k+1))
	d.SetString(dicom.Manufacturer, "SIEMENS")
	d.SetString(dicom.Modality, "PT")
	d.SetString(dicom.SeriesDate, "20250101")
	d.SetString(dicom.SeriesTime, "110000.000000")
	d.SetString(dicom.AcquisitionDate, "20250101")
	bed := k / 10
	d.SetString(dicom.AcquisitionTime, []string{"110000.000000", "110500.000000"}[bed])
	d.SetInt(dicom.ActualFrameDuration, 300000)
	// ln(λt/(1-exp(-λt)))/λ for λ = ln 2/6586.2 s, t = 300 s is 149.6054 s.
	d.SetFloat(dicom.FrameReferenceTime, []float64{149605.4, 449605.4}[bed])
	d.SetString(dicom.Units, "BQML")
	d.SetString(dicom.DecayCorrection, "START")
	d.SetString(dicom.CorrectedImage, "NORM", "DTIM", "ATTN", "SCAT", "DECY", "RAN")
	d.SetFloat(dicom.PatientWeight, 70)
	d.SetFloat(dicom.PatientSize, 1.75)
	d.SetString(dicom.PatientSex, "M")
	code := dicom.New()
	code.SetString(dicom.CodeValue, "C-111A1")
	code.SetString(dicom.CodingSchemeDesignator, "SRT")
	code.SetString(dicom.CodeMeaning, "^18^Fluorine")
	item := dicom.New()
	item.SetString(dicom.RadiopharmaceuticalStartTime, "100000.00")
	item.SetString(dicom.RadionuclideTotalDose, "370000000")
	item.SetString(dicom.RadionuclideHalfLife, "6586.2")
	item.SetString(dicom.RadiopharmaceuticalStartDateTime, "20250101100000.00")
	item.SetSeq(dicom.RadionuclideCodeSequence, code)
	d.SetSeq(dicom.RadiopharmaceuticalInformationSequence, item)
	return d
}

func petSeries() []*dicom.DataSet {
	var s []*dicom.DataSet
	for k := range 20 {
		s = append(s, pet(k))
	}
	return s
}

func set(t dicom.Tag, v string) func(*dicom.DataSet) {
	return func(d *dicom.DataSet) {
		if v == "" {
			d.Remove(t)
		} else {
			d.SetString(t, strings.Split(v, `\`)...)
		}
	}
}

func inject(t dicom.Tag, v string) func(*dicom.DataSet) {
	return func(d *dicom.DataSet) { set(t, v)(d.Seq(dicom.RadiopharmaceuticalInformationSequence)[0]) }
}

func owned(group uint16, creator string, element byte, vr dicom.VR, v string) func(*dicom.DataSet) {
	return func(d *dicom.DataSet) {
		if creator != "" {
			d.SetBytes(dicom.Tag(group)<<16|0x0010, dicom.LO, even(creator))
		}
		d.SetBytes(dicom.Tag(group)<<16|0x1000|dicom.Tag(element), vr, even(v))
	}
}

func even(s string) []byte {
	if len(s)%2 != 0 {
		s += " "
	}
	return []byte(s)
}

// beds gives the two beds different values.
func beds(t dicom.Tag, first, second string) func(*dicom.DataSet) {
	return func(d *dicom.DataSet) {
		if len(d.String(dicom.SOPInstanceUID)) < len("1.2.3.10") || d.String(dicom.SOPInstanceUID) == "1.2.3.10" {
			d.SetString(t, first)
		} else {
			d.SetString(t, second)
		}
	}
}

// shift moves the acquisition by half an hour.
func shift(d *dicom.DataSet) { beds(dicom.AcquisitionTime, "113000", "113500")(d) }

type change = func(*dicom.DataSet)

// vendors are the ways to SUV: what the headers have that the series above has not, and the factor by the plain formula.
var vendors = []struct {
	name    string
	kind    SUVKind
	changes []change
	mass    float64 // g, or cm²; 0 = 70000
	hours   float64 // of decay
	want    []float64
	unit    string
	note    string // in the warnings; "" for none at all
	rule    string // in the notes of SUV
	mirp    bool   // whether MIRP follows the same rule
}{
	{name: "Series Time", hours: 1, rule: "decay to 11:00:00 (Series Time (0008,0031))", mirp: true},
	{name: "General Electric, start of frame", hours: 1, mirp: true, changes: []change{set(dicom.Manufacturer, "GE MEDICAL SYSTEMS"), beds(dicom.FrameReferenceTime, "0", "300000")}, rule: "Series Time"},
	{name: "decayed dose of the ADMIN correction", hours: 0, mirp: true, changes: []change{set(dicom.DecayCorrection, "ADMIN")}, rule: "ADMIN"},
	{name: "old name of decay correction", hours: 1, changes: []change{set(dicom.CorrectedImage, `ATTN\DECAY`)}, rule: "Series Time"},
	{name: "series rewritten", hours: 1, mirp: true, changes: []change{set(dicom.SeriesTime, "153000")}, note: "Series Time (0008,0031) is not that of the scan", rule: "counted back by Frame Reference Time"},
	{name: "series rewritten another day", hours: 1, mirp: true, changes: []change{set(dicom.SeriesDate, "20250301")}, note: "Series Time (0008,0031) is not that of the scan", rule: "counted back"},
	{name: "series rewritten to an earlier year", hours: 1, mirp: true, changes: []change{set(dicom.SeriesDate, "20200301")}, note: "Series Time (0008,0031) is not that of the scan", rule: "counted back"},
	{name: "series rewritten, General Electric", hours: 1, mirp: true, changes: []change{set(dicom.SeriesTime, "153000"), set(dicom.Manufacturer, "GE MEDICAL SYSTEMS"), beds(dicom.FrameReferenceTime, "0", "300000")}, note: "not that of the scan", rule: "counted back"},
	{name: "series rewritten, start of frame by the decay factor", hours: 1, changes: []change{set(dicom.SeriesTime, "153000"),
		// 2^((149.6054)/6586.2) and 2^(449.6054/6586.2), while Frame Reference Time is that of the start.
		beds(dicom.FrameReferenceTime, "1800000", "2100000"), shift, beds(dicom.DecayFactor, "1.2277", "1.26708")}, note: "not that of the scan", rule: "counted back"},
	{name: "series rewritten, General Electric, first bed left out", hours: 1, mirp: true, changes: []change{set(dicom.SeriesTime, "153000"), set(dicom.Manufacturer, "GE MEDICAL SYSTEMS"), beds(dicom.FrameReferenceTime, "1800000", "2100000"), shift}, note: "not that of the scan", rule: "counted back"},
	{name: "series rewritten, one time of acquisition for all beds", hours: 1, changes: []change{set(dicom.SeriesTime, "153000"), beds(dicom.FrameReferenceTime, "0", "300000"), set(dicom.AcquisitionTime, "110000")}, note: "not that of the scan", rule: "Acquisition Time (0008,0032), the same in all slices"},
	{name: "first bed left out", hours: 1, changes: []change{shift, beds(dicom.FrameReferenceTime, "1949605.4", "2249605.4"), set(dicom.SeriesTime, "110000")}, rule: "Series Time", mirp: true},
	{name: "Series Time of the CT, decay factors know better", hours: 1.5, mirp: true, changes: []change{shift, beds(dicom.DecayFactor, "1.01587", "1.04846")}, note: "lies before the acquisition", rule: "counted back"},
	{name: "Series Time of the CT, nobody knows better", hours: 1, changes: []change{shift}, note: "1800 s from", rule: "Series Time"},
	{name: "Series Time of the planning, decay factors know better", hours: 1, mirp: true, changes: []change{set(dicom.SeriesTime, "105800"), beds(dicom.DecayFactor, "1.01587", "1.04846")}, note: "lies before the acquisition", rule: "counted back"},
	{name: "decay factors of another time", hours: 1, changes: []change{shift, beds(dicom.DecayFactor, "1.02", "1.04846")}, note: "1800 s from", rule: "Series Time"},
	{name: "Siemens private", hours: 1, mirp: false, changes: []change{set(dicom.SeriesTime, "153000"), owned(0x0071, "SIEMENS MED PT", 0x22, dicom.DT, "20250101110000.000000")}, rule: "Siemens (0071,xx22)"},
	{name: "General Electric private", hours: 0.75, mirp: true, changes: []change{set(dicom.SeriesTime, "153000"), owned(0x0009, "GEMS_PETD_01", 0x0D, dicom.DT, "20250101104500.00")}, rule: "GE (0009,xx0D)"},
	{name: "General Electric private in Implicit VR without its creator", hours: 0.75, changes: []change{set(dicom.SeriesTime, "153000"), owned(0x0009, "", 0x0D, dicom.UN, "20250101104500.00")}, rule: "GE (0009,xx0D)"},
	{name: "another maker's element", hours: 1, changes: []change{owned(0x0009, "SIEMENS CT VA0", 0x0D, dicom.DT, "20250101104500.00")}, rule: "Series Time"},
	{name: "General Electric private of another day", hours: 1, changes: []change{owned(0x0009, "GEMS_PETD_01", 0x0D, dicom.DT, "20190304104500.00")}, note: "not of the day of the acquisition", rule: "Series Time"},
	{name: "not decay-corrected", mirp: true, changes: []change{set(dicom.DecayCorrection, "NONE"), set(dicom.CorrectedImage, `ATTN\SCAT`)},
		want: []float64{70000 / (370e6 * math.Exp2(-(3600+149.6054)/6586.2)), 70000 / (370e6 * math.Exp2(-(3900+149.6054)/6586.2))}, rule: "11:02:29 to 11:07:29"},
	{name: "Philips SUV factor", mirp: true, changes: []change{set(dicom.Units, "CNTS"), set(dicom.Manufacturer, "Philips Medical Systems"), owned(0x7053, "Philips PET Private Group", 0x00, dicom.DS, "0.000551")}, want: []float64{0.000551, 0.000551}, rule: "(7053,xx00)"},
	{name: "Philips SUV factor 0", hours: 1, mass: 70000 * 1.5, changes: []change{set(dicom.Units, "CNTS"), owned(0x7053, "Philips PET Private Group", 0x00, dicom.UN, "0.0"), owned(0x7053, "Philips PET Private Group", 0x09, dicom.UN, "1.5")}, rule: "(7053,xx09)", mirp: true},
	{name: "Philips, not decay-corrected", changes: []change{set(dicom.Units, "CNTS"), set(dicom.DecayCorrection, "NONE"), set(dicom.CorrectedImage, "ATTN"), owned(0x7053, "", 0x00, dicom.DS, "0.5"), owned(0x7053, "", 0x09, dicom.DS, "1.5")},
		want: []float64{1.5 * 70000 / (370e6 * math.Exp2(-(3600+149.6054)/6586.2)), 1.5 * 70000 / (370e6 * math.Exp2(-(3900+149.6054)/6586.2))}, rule: "(7053,xx09)"},
	{name: "Philips SUV factor to body surface", kind: SUVBodySurface, changes: []change{set(dicom.Units, "CNTS"), owned(0x7053, "Philips PET Private Group", 0x00, dicom.DS, "0.7")}, want: []float64{0.7 * bsa / 70000, 0.7 * bsa / 70000}, unit: "cm2/ml{SUVbsa}", rule: "height 1.75 m"},

	{name: "SUV already", changes: []change{set(dicom.Units, "GML")}, want: []float64{1, 1}, rule: "as the images have it", mirp: true},
	{name: "SUV of lean body mass to body weight", changes: []change{set(dicom.Units, "GML"), set(dicom.SUVType, "LBMJAMES128")}, want: []float64{70 / 56.52, 70 / 56.52}, rule: "from SUV by lean body mass (James, 128)", mirp: true},
	{name: "SUV of lean body mass with 120", changes: []change{set(dicom.Units, "GML"), set(dicom.SUVType, "LBM")}, want: []float64{70 / (77 - 19.2), 70 / (77 - 19.2)}, rule: "120", mirp: true},
	{name: "SUV of body surface to body weight", changes: []change{set(dicom.Units, "CM2ML")}, want: []float64{70000 / bsa, 70000 / bsa}, rule: "Du Bois", mirp: true},
	{name: "SUV of ideal weight to lean body mass", kind: SUVLeanJanmahasatian, changes: []change{set(dicom.Units, "GML"), set(dicom.SUVType, "IBW")}, want: []float64{janmaM / 72380, janmaM / 72380}, unit: "g/ml{SUVlbm(Janma)}", rule: "Sugawara", mirp: true},

	{name: "James", kind: SUVLeanJames, hours: 1, mass: 56520, unit: "g/ml{SUVlbm(James128)}", rule: "sex M", mirp: true},
	{name: "James, woman", kind: SUVLeanJames, hours: 1, mass: 51220, changes: []change{set(dicom.PatientSex, "F")}, unit: "g/ml{SUVlbm(James128)}", rule: "sex F", mirp: true},
	{name: "Janmahasatian", kind: SUVLeanJanmahasatian, hours: 1, mass: janmaM, unit: "g/ml{SUVlbm(Janma)}", rule: "SUV by lean body mass (Janmahasatian): weight 70 kg, height 1.75 m, sex M, dose 370 MBq", mirp: true},
	{name: "Janmahasatian, woman", kind: SUVLeanJanmahasatian, hours: 1, mass: janmaF, changes: []change{set(dicom.PatientSex, "F")}, unit: "g/ml{SUVlbm(Janma)}", rule: "sex F", mirp: true},
	{name: "Janmahasatian, other", kind: SUVLeanJanmahasatian, hours: 1, mass: (janmaM + janmaF) / 2, changes: []change{set(dicom.PatientSex, "O")}, unit: "g/ml{SUVlbm(Janma)}", note: "(0010,0040) is O", rule: "sex O", mirp: true},
	{name: "Du Bois", kind: SUVBodySurface, hours: 1, mass: bsa, unit: "cm2/ml{SUVbsa}", rule: "body surface area", mirp: true},
	{name: "Sugawara", kind: SUVIdealWeight, hours: 1, mass: 72380, changes: []change{set(dicom.PatientWeight, "")}, unit: "g/ml{SUVibw}", rule: "ideal"},
	{name: "Sugawara, woman", kind: SUVIdealWeight, hours: 1, mass: 66430, changes: []change{set(dicom.PatientSex, "F")}, unit: "g/ml{SUVibw}", rule: "ideal", mirp: true},

	{name: "dose in MBq", hours: 1, changes: []change{inject(dicom.RadionuclideTotalDose, "370")}, note: "(0018,1074) is below 10000", rule: "dose 370 MBq", mirp: true},
	{name: "weight in grams", hours: 1, changes: []change{set(dicom.PatientWeight, "70000")}, note: "(0010,1030) is above 1000", rule: "weight 70 kg", mirp: true},
	{name: "height in centimetres", kind: SUVBodySurface, hours: 1, mass: bsa, changes: []change{set(dicom.PatientSize, "175")}, unit: "cm2/ml{SUVbsa}", note: "(0010,1020) is above 30", rule: "height 1.75 m", mirp: true},
	{name: "no height", hours: 1, changes: []change{set(dicom.PatientSize, ""), set(dicom.PatientSex, "")}, rule: "Series Time", mirp: true},

	{name: "time of injection without date", hours: 1, changes: []change{inject(dicom.RadiopharmaceuticalStartDateTime, "")}, rule: "injected at 10:00:00", mirp: true},
	{name: "date and time of injection alone", hours: 1, changes: []change{inject(dicom.RadiopharmaceuticalStartTime, "")}, rule: "injected at 10:00:00", mirp: true},
	{name: "over midnight", hours: 1, changes: []change{inject(dicom.RadiopharmaceuticalStartDateTime, ""), inject(dicom.RadiopharmaceuticalStartTime, "233000"), set(dicom.SeriesTime, "003000"), beds(dicom.AcquisitionTime, "003000", "003500")}, note: "the day before", rule: "decay to 00:30:00"},
	{name: "over midnight with a date", hours: 1, changes: []change{inject(dicom.RadiopharmaceuticalStartDateTime, "20241231233000"), set(dicom.SeriesTime, "003000"), beds(dicom.AcquisitionTime, "003000", "003500")}, rule: "injected at 23:30:00", mirp: true},
	{name: "dates of injection and scan shifted apart", hours: 1, changes: []change{inject(dicom.RadiopharmaceuticalStartDateTime, "20140704100000")}, note: "not of one day", rule: "injected at 10:00:00", mirp: true},
	{name: "no dates", hours: 1, changes: []change{set(dicom.SeriesDate, ""), set(dicom.AcquisitionDate, ""), inject(dicom.RadiopharmaceuticalStartDateTime, "")}, rule: "injected at 10:00:00"},
	{name: "injection in UTC", hours: 1, changes: []change{inject(dicom.RadiopharmaceuticalStartDateTime, "20250101083000+0000"), set(dicom.TimezoneOffsetFromUTC, "+0130")}, rule: "injected at 10:00:00"},
	{name: "General Electric injection", hours: 1.25, changes: []change{inject(dicom.RadiopharmaceuticalStartDateTime, ""), inject(dicom.RadiopharmaceuticalStartTime, ""), owned(0x0009, "GEMS_PETD_01", 0x3B, dicom.DT, "20250101094500.00")}, rule: "injected at 09:45:00", mirp: true},
	{name: "injection just after the start", hours: -1. / 60, changes: []change{inject(dicom.RadiopharmaceuticalStartDateTime, "20250101110100")}, note: "ten minutes after", rule: "injected at 11:01:00", mirp: true},
	{name: "zirconium after three days", want: []float64{70000 / (370e6 * math.Exp2(-73*3600/282276.)), 70000 / (370e6 * math.Exp2(-73*3600/282276.))},
		changes: []change{inject(dicom.RadiopharmaceuticalStartDateTime, "20241229100000"), inject(dicom.RadionuclideHalfLife, "282276"), nuclide("63360001", "^89^Zirconium")}, rule: "half life 282276 s", mirp: true},

	{name: "half life of the code", hours: 1, changes: []change{inject(dicom.RadionuclideHalfLife, "")}, note: "that of F-18", rule: "half life 6586.2 s"},
	{name: "half life in minutes", hours: 1, changes: []change{inject(dicom.RadionuclideHalfLife, "109.77")}, note: "in minutes", rule: "half life 6586.2 s"},
	{name: "code of another isotope", want: []float64{70000 / (370e6 * math.Exp2(-3600/4057.7)), 70000 / (370e6 * math.Exp2(-3600/4057.7))},
		changes: []change{inject(dicom.RadionuclideHalfLife, "4057.7"), nuclide("C-131A1", "^68^Gallium")}, note: "not that of Ga-66", rule: "half life 4057.7 s"},
}

const (
	bsa    = 1e4 * 1.8481430181 // 0.007184 · 70^0.425 · 175^0.725 m²
	janmaM = 1000 * 9270 * 70 / (6680 + 216*70/(1.75*1.75))
	janmaF = 1000 * 9270 * 70 / (8780 + 244*70/(1.75*1.75))
)

func nuclide(code, meaning string) func(*dicom.DataSet) {
	return func(d *dicom.DataSet) {
		c := d.Seq(dicom.RadiopharmaceuticalInformationSequence)[0].Seq(dicom.RadionuclideCodeSequence)[0]
		c.SetString(dicom.CodeValue, code)
		c.SetString(dicom.CodeMeaning, meaning)
	}
}

func changed(changes []change) []*dicom.DataSet {
	s := petSeries()
	for _, d := range s {
		for _, c := range changes {
			c(d)
		}
	}
	return s
}

func TestSUV(t *testing.T) {
	for _, c := range vendors {
		t.Run(c.name, func(t *testing.T) {
			headers := changed(c.changes)
			slices.Reverse(headers) // the order of slices says nothing of the order of beds
			factors, suv, unit, notes, err := toSUV(headers, c.kind)
			if err != nil {
				t.Fatal(err)
			}
			if factors == nil || suv == nil {
				t.Fatalf("no SUV: %q", notes)
			}
			mass := c.mass
			if mass == 0 {
				mass = 70000
			}
			want := c.want
			if want == nil {
				f := mass / (370e6 * math.Exp2(-c.hours*3600/6586.2))
				want = []float64{f, f}
			}
			// Counting back is as exact as the milliseconds in the headers.
			if a, b := factors[len(factors)-1]/want[0]-1, factors[0]/want[1]-1; !(math.Abs(a) < 2e-6) || !(math.Abs(b) < 2e-6) {
				t.Errorf("factors %v, %v, want %v: off by %.2g, %.2g", factors[len(factors)-1], factors[0], want, a, b)
			}
			kind, ucum := c.kind, c.unit
			if kind == "" {
				kind, ucum = SUVBodyWeight, "g/ml{SUVbw}"
			}
			if suv.Kind != kind || unit != ucum {
				t.Errorf("kind %q in %q, want %q in %q", suv.Kind, unit, kind, ucum)
			}
			if said := strings.Join(notes, "\n"); (c.note == "") != (said == "") || !strings.Contains(said, c.note) {
				t.Errorf("notes %q, want %q", notes, c.note)
			}
			if len(suv.Notes) != 1 || !strings.Contains(suv.Notes[0], c.rule) {
				t.Errorf("rule %q, want %q", suv.Notes, c.rule)
			}
			if u := sr.Unit(unit); u.Value != unit || u.Meaning == unit {
				t.Errorf("the report has no name for %q", unit)
			}
		})
	}
}

// TestNoSUV lists what cannot become SUV: the unit that it keeps and the code of the reason.
func TestNoSUV(t *testing.T) {
	first := func(f func(*dicom.DataSet)) func(*dicom.DataSet) {
		return func(d *dicom.DataSet) {
			if d.String(dicom.SOPInstanceUID) == "1.2.3.7" {
				f(d)
			}
		}
	}
	seen := map[refusal.Code]bool{refusal.PETMixed: true}
	for _, c := range []struct {
		code    refusal.Code
		kind    SUVKind
		unit    string // "" = Bq/ml
		own     SUVKind
		text    string
		changes []change
	}{
		{code: refusal.PETUnits, unit: "{propcounts}", text: "(0054,1001) is PROPCNTS", changes: []change{set(dicom.Units, "PROPCNTS")}},
		{code: refusal.PETUnits, unit: "{counts}/s", text: "CPS", changes: []change{set(dicom.Units, "CPS")}},
		{code: refusal.PETUnits, unit: "{counts}", text: "(7053,xx09)", changes: []change{set(dicom.Units, "CNTS")}},
		{code: refusal.PETUnits, unit: "{counts}", text: "(7053,xx09)", changes: []change{set(dicom.Units, "CNTS"), owned(0x7053, "Philips PET Private Group", 0x00, dicom.DS, "0")}},
		{code: refusal.PETUnits, unit: "{counts}", text: "(7053,xx09)", changes: []change{set(dicom.Units, "CNTS"), first(owned(0x7053, "Philips PET Private Group", 0x00, dicom.DS, "2"))}},
		{code: refusal.PETUnits, unit: "1", text: "absent", changes: []change{set(dicom.Units, "")}},
		{code: refusal.PETUnits, unit: "1", text: "OTHER", changes: []change{set(dicom.Units, "OTHER")}},
		{code: refusal.PETUnits, unit: "g/ml", text: "GML", changes: []change{set(dicom.Units, "GML"), set(dicom.SUVType, "BSA")}},
		{code: refusal.PETUnits, kind: "bmi", text: `no SUV by "bmi"`},
		{code: refusal.PETNotCorrected, text: "(0028,0051)", changes: []change{set(dicom.CorrectedImage, "DECY")}},
		{code: refusal.PETNotCorrected, text: "(0028,0051)", unit: "{counts}", changes: []change{set(dicom.CorrectedImage, "DECY"), set(dicom.Units, "CNTS"), owned(0x7053, "", 0x00, dicom.DS, "0.5")}},
		{code: refusal.PETNoWeight, text: "(0010,1030) is absent or 0", changes: []change{set(dicom.PatientWeight, "")}},
		{code: refusal.PETNoWeight, text: "(0010,1030) is absent or 0", changes: []change{set(dicom.PatientWeight, "0")}},
		{code: refusal.PETNoWeight, text: "negative or above 500 kg", changes: []change{set(dicom.PatientWeight, "-70")}},
		{code: refusal.PETNoWeight, text: "negative or above 500 kg", changes: []change{set(dicom.PatientWeight, "501")}},
		{code: refusal.PETNoWeight, kind: SUVLeanJames, unit: "g/ml{SUVbw}", own: SUVBodyWeight, changes: []change{set(dicom.PatientWeight, ""), set(dicom.Units, "GML")}},
		{code: refusal.PETNoHeight, kind: SUVLeanJames, text: "(0010,1020)", changes: []change{set(dicom.PatientSize, "")}},
		{code: refusal.PETNoHeight, kind: SUVIdealWeight, text: "outside 0.2 to 2.6 m", changes: []change{set(dicom.PatientSize, "3")}},
		{code: refusal.PETNoHeight, kind: SUVBodySurface, unit: "g/ml{SUVbw}", own: SUVBodyWeight, text: "(0010,1020) is absent or 0", changes: []change{set(dicom.PatientSize, "0"), set(dicom.Units, "GML")}},
		{code: refusal.PETNoHeight, unit: "cm2/ml{SUVbsa}", own: SUVBodySurface, changes: []change{set(dicom.PatientSize, ""), set(dicom.Units, "CM2ML")}},
		{code: refusal.PETNoHeight, kind: SUVLeanJames, text: "impossible lean body mass", changes: []change{set(dicom.PatientWeight, "300")}},
		{code: refusal.PETNoHeight, kind: SUVIdealWeight, text: "impossible ideal body weight", changes: []change{set(dicom.PatientSize, "1")}},
		{code: refusal.PETNoSex, kind: SUVLeanJanmahasatian, text: "(0010,0040)", changes: []change{set(dicom.PatientSex, "")}},
		{code: refusal.PETNoSex, unit: "g/ml{SUVibw}", own: SUVIdealWeight, text: "(0010,0040)", changes: []change{set(dicom.PatientSex, "X"), set(dicom.Units, "GML"), set(dicom.SUVType, "IBW")}},
		{code: refusal.PETNoDose, text: "(0018,1074) is absent or 0", changes: []change{inject(dicom.RadionuclideTotalDose, "")}},
		{code: refusal.PETNoDose, text: "(0018,1074) is absent or 0", changes: []change{inject(dicom.RadionuclideTotalDose, "0")}},
		{code: refusal.PETNoDose, text: "neither a dose in Bq nor in MBq", changes: []change{inject(dicom.RadionuclideTotalDose, "-370000000")}},
		{code: refusal.PETNoDose, text: "neither a dose in Bq nor in MBq", changes: []change{inject(dicom.RadionuclideTotalDose, "37000")}},
		{code: refusal.PETNoDose, text: "neither a dose in Bq nor in MBq", changes: []change{inject(dicom.RadionuclideTotalDose, "1e300")}},
		{code: refusal.PETNoDose, text: "(0054,0016)", changes: []change{set(dicom.RadiopharmaceuticalInformationSequence, "")}},
		{code: refusal.PETNoDose, text: "2 items", changes: []change{func(d *dicom.DataSet) {
			i := d.Seq(dicom.RadiopharmaceuticalInformationSequence)[0]
			d.SetSeq(dicom.RadiopharmaceuticalInformationSequence, i, i)
		}}},
		{code: refusal.PETNoHalfLife, text: "(0018,1075)", changes: []change{inject(dicom.RadionuclideHalfLife, ""), nuclide("1", "?")}},
		{code: refusal.PETNoHalfLife, text: "another meaning", changes: []change{inject(dicom.RadionuclideHalfLife, "0"), nuclide("C-131A1", "^68^Gallium")}},
		{code: refusal.PETNoHalfLife, text: "(0018,1075)", changes: []change{inject(dicom.RadionuclideHalfLife, "1e300"), nuclide("1", "?")}},
		{code: refusal.PETNoInjectionTime, text: "(0018,1078)", changes: []change{inject(dicom.RadiopharmaceuticalStartDateTime, ""), inject(dicom.RadiopharmaceuticalStartTime, "")}},
		{code: refusal.PETNoInjectionTime, text: "malformed", changes: []change{inject(dicom.RadiopharmaceuticalStartDateTime, "2025"), inject(dicom.RadiopharmaceuticalStartTime, "253000")}},
		{code: refusal.PETNoInjectionTime, text: "any day", changes: []change{inject(dicom.RadiopharmaceuticalStartDateTime, ""), inject(dicom.RadionuclideHalfLife, "282276")}},
		{code: refusal.PETNoReferenceTime, text: "(0008,0032)", changes: []change{set(dicom.AcquisitionTime, "")}},
		{code: refusal.PETNoReferenceTime, text: "(0018,1242)", changes: []change{set(dicom.SeriesTime, "153000"), set(dicom.ActualFrameDuration, "")}},
		{code: refusal.PETNoReferenceTime, text: "FrameReferenceTime (0054,1300) is absent", changes: []change{set(dicom.SeriesTime, "153000"), set(dicom.FrameReferenceTime, "")}},
		{code: refusal.PETNoReferenceTime, text: "to different times", changes: []change{set(dicom.SeriesTime, "153000"), set(dicom.FrameReferenceTime, "149605")}},
		{code: refusal.PETNoReferenceTime, text: "to different times", changes: []change{set(dicom.SeriesTime, "153000"), beds(dicom.FrameReferenceTime, "0", "900000")}},
		{code: refusal.PETNoReferenceTime, text: "(0018,1242)", changes: []change{set(dicom.DecayCorrection, "NONE"), set(dicom.CorrectedImage, "ATTN"), set(dicom.ActualFrameDuration, "0")}},
		{code: refusal.PETDecay, text: "(0054,1102) is absent", changes: []change{set(dicom.DecayCorrection, "")}},
		{code: refusal.PETDecay, text: "(0054,1102) is NONE, and CorrectedImage", changes: []change{set(dicom.DecayCorrection, "NONE")}},
		{code: refusal.PETDecay, text: "does not hold DECY", changes: []change{set(dicom.CorrectedImage, "ATTN")}},
		{code: refusal.PETDecay, text: "want START", changes: []change{set(dicom.DecayCorrection, "OTHER")}},
		{code: refusal.PETDecay, text: "is NONE, and the SUV factor", unit: "{counts}", changes: []change{set(dicom.DecayCorrection, "NONE"), set(dicom.CorrectedImage, "ATTN"), set(dicom.Units, "CNTS"), owned(0x7053, "", 0x00, dicom.DS, "0.5")}},
		{code: refusal.PETDecay, text: "more than 12 half lives", changes: []change{inject(dicom.RadiopharmaceuticalStartDateTime, "20250101111500")}},
		{code: refusal.PETDecay, text: "more than 12 half lives", changes: []change{inject(dicom.RadiopharmaceuticalStartDateTime, "20150101100000"), inject(dicom.RadionuclideHalfLife, "282276")}},
		{code: refusal.PETDecay, text: "after the time of the scan", changes: []change{inject(dicom.RadiopharmaceuticalStartDateTime, "20250102100000"), inject(dicom.RadionuclideHalfLife, "282276")}},
		{code: refusal.PETDiffers, text: "(0010,1030)", changes: []change{first(set(dicom.PatientWeight, "71"))}},
		{code: refusal.PETDiffers, text: "(0018,1074)", changes: []change{first(inject(dicom.RadionuclideTotalDose, "371000000"))}},
		{code: refusal.PETDiffers, text: "(0018,1078)", changes: []change{first(inject(dicom.RadiopharmaceuticalStartDateTime, "20250101101000"))}},
	} {
		t.Run(string(c.code)+" "+c.text, func(t *testing.T) {
			seen[c.code] = true
			factors, suv, unit, notes, err := toSUV(changed(c.changes), c.kind)
			if err != nil {
				t.Fatal(err)
			}
			want := c.unit
			if want == "" {
				want = "Bq/ml"
			}
			if unit != want || (suv == nil) != (c.own == "") || (factors == nil) != (c.own == "") {
				t.Errorf("%d factors, suv %v in %q, want none in %q", len(factors), suv, unit, want)
			}
			if c.own != "" && (suv.Kind != c.own || factors[0] != 1 || factors[19] != 1) {
				t.Errorf("suv %v, factors %v, want %q as they are", suv, factors, c.own)
			}
			if len(notes) == 0 || !strings.HasPrefix(notes[len(notes)-1], "the values stay in "+want) || !strings.HasSuffix(notes[len(notes)-1], "["+string(c.code)+"]") || !strings.Contains(notes[len(notes)-1], c.text) {
				t.Errorf("notes %q, want %q [%s]", notes, c.text, c.code)
			}
		})
	}
	for _, r := range refusal.Reasons {
		if strings.HasPrefix(string(r.Code), "pet.") && !seen[r.Code] {
			t.Errorf("%s has no case here", r.Code)
		}
	}
}

func TestSUVContradictions(t *testing.T) {
	for _, c := range []struct {
		tag   dicom.Tag
		value string
	}{{dicom.Units, "GML"}, {dicom.SUVType, "IBW"}, {dicom.DecayCorrection, "ADMIN"}} {
		s := petSeries()
		s[13].SetString(c.tag, c.value)
		_, _, _, _, err := toSUV(s, SUVNone)
		r, _ := err.(*refusal.Refusal)
		if r == nil || r.Code != refusal.PETMixed || r.SOPInstance != "1.2.3.14" || !strings.Contains(r.Text, c.tag.String()) {
			t.Errorf("%s: %v", c.tag, err)
		}
	}
	if _, _, _, _, err := toSUV(nil, SUVBodyWeight); err == nil {
		t.Error("no image, no error")
	}
}

func TestSUVKinds(t *testing.T) {
	for _, k := range []SUVKind{"", "none", "bw", "lbm", "lbm-james", "bsa", "ibw"} {
		if err := k.Validate(); err != nil {
			t.Error(err)
		}
	}
	for _, k := range []SUVKind{"lbm-james-120", "BW", "suv"} {
		if err := k.Validate(); err == nil || !strings.Contains(err.Error(), "want none, bw, lbm") {
			t.Errorf("%q: %v", k, err)
		}
	}
	// Every unit leads back to its kind.
	for _, k := range suvTypes {
		if got := suvUnit(k.ucum); got != k.kind {
			t.Errorf("%s is %q, want %q", k.ucum, got, k.kind)
		}
	}
}

func TestSUVNone(t *testing.T) {
	for units, want := range map[string]string{"BQML": "Bq/ml", "GML": "g/ml{SUVbw}", "CNTS": "{counts}", "PROPCPS": "{propcounts}/s", "1CM": "/cm"} {
		factors, suv, unit, notes, err := toSUV(changed([]change{set(dicom.Units, units)}), SUVNone)
		if factors != nil || (suv != nil) != (units == "GML") || unit != want || notes != nil || err != nil {
			t.Errorf("%s: %v, %v, %q, %q, %v", units, factors, suv, unit, notes, err)
		}
	}
}

// enhanced is an enhanced image of two frames whose values are in the unit of a real world value map.
func enhanced(unit string) *dicom.DataSet {
	d := pet(0)
	d.Remove(dicom.Units, dicom.DecayCorrection, dicom.CorrectedImage, dicom.FrameReferenceTime, dicom.AcquisitionTime)
	d.SetString(dicom.AttenuationCorrected, "YES")
	d.SetString(dicom.DecayCorrected, "YES")
	d.SetString(dicom.DecayCorrectionDateTime, "20250101110000.000000")
	inject(dicom.RadionuclideTotalDose, "370")(d)
	d.SetSeq(dicom.SharedFunctionalGroupsSequence, dicom.New())
	var frames []*dicom.DataSet
	for k := range 2 {
		slope := float64(k + 2)
		scale, m, code, content, g := dicom.New(), dicom.New(), dicom.New(), dicom.New(), dicom.New()
		scale.SetFloat(dicom.RescaleSlope, slope)
		scale.SetFloat(dicom.RescaleIntercept, 0)
		scale.SetString(dicom.RescaleType, "US")
		code.SetString(dicom.CodeValue, unit)
		m.SetFloat(dicom.RealWorldValueSlope, slope)
		m.SetFloat(dicom.RealWorldValueIntercept, 0)
		m.SetSeq(dicom.MeasurementUnitsCodeSequence, code)
		content.SetString(dicom.FrameReferenceDateTime, "20250101110000")
		g.SetSeq(dicom.PixelValueTransformationSequence, scale)
		g.SetSeq(dicom.RealWorldValueMappingSequence, m)
		g.SetSeq(dicom.FrameContentSequence, content)
		frames = append(frames, g)
	}
	d.SetSeq(dicom.PerFrameFunctionalGroupsSequence, frames...)
	return d
}

func TestEnhancedSUV(t *testing.T) {
	bw := 70000 / (370e6 * math.Exp2(-3600/6586.2))
	frame := func(d *dicom.DataSet, k int) *dicom.DataSet { return d.Seq(dicom.PerFrameFunctionalGroupsSequence)[k] }
	for _, c := range []struct {
		name, unit string
		change     func(*dicom.DataSet)
		factor     float64
		note       string
	}{
		{"Bq/ml", "Bq/ml", nil, bw, "taken for MBq"},
		{"SUV", "g/ml{SUVbw}", nil, 1, ""},
		{"SUV in the old spelling", "{SUVbw}g/ml", nil, 1, ""},
		{"ideal weight", "g/ml{SUVibw}", nil, 70 / 72.38, ""},
		{"rescale type", "Bq/ml", func(d *dicom.DataSet) {
			frame(d, 0).Seq(dicom.PixelValueTransformationSequence)[0].SetString(dicom.RescaleType, "GML")
		}, 1, ""},
		{"Units", "", set(dicom.Units, "BQML"), bw, "taken for MBq"},
		{"not decay-corrected", "Bq/ml", set(dicom.DecayCorrected, "NO"), bw, "taken for MBq"},
		{"no time", "Bq/ml", set(dicom.DecayCorrectionDateTime, ""), 0, "[pet.no-reference-time]"},
		{"frames of two times", "Bq/ml", func(d *dicom.DataSet) {
			d.SetString(dicom.DecayCorrected, "NO")
			frame(d, 1).Seq(dicom.FrameContentSequence)[0].SetString(dicom.FrameReferenceDateTime, "20250101110500")
		}, 0, "[pet.decay]"},
		{"another map", "Bq/ml", func(d *dicom.DataSet) {
			for k := range 2 {
				frame(d, k).Seq(dicom.RealWorldValueMappingSequence)[0].SetFloat(dicom.RealWorldValueSlope, 1)
			}
		}, 0, "[pet.units]"},
		{"converted", "", func(d *dicom.DataSet) {
			item := dicom.New()
			for _, t := range []dicom.Tag{dicom.AttenuationCorrected, dicom.DecayCorrected, dicom.RadiopharmaceuticalInformationSequence} {
				item.Copy(d, t)
				d.Remove(t)
			}
			item.SetString(dicom.Units, "BQML")
			d.Seq(dicom.SharedFunctionalGroupsSequence)[0].SetSeq(dicom.UnassignedSharedConvertedAttributesSequence, item)
		}, bw, "taken for MBq"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := enhanced(c.unit)
			if c.change != nil {
				c.change(d)
			}
			factors, suv, _, notes, err := toSUV([]*dicom.DataSet{d, d}, SUVBodyWeight)
			if err != nil || (suv == nil) != (c.factor == 0) || !strings.Contains(strings.Join(notes, " "), c.note) || (c.note == "") != (notes == nil) {
				t.Fatalf("%v, notes %q, err %v", suv, notes, err)
			}
			for _, f := range factors {
				if !(math.Abs(f/c.factor-1) < 1e-12) {
					t.Errorf("factor %v, want %v", f, c.factor)
				}
			}
		})
	}
}

// Notes that are not the report's may reach a log: they have no number of the patient.
func TestSUVNotesArePrivate(t *testing.T) {
	d := []change{set(dicom.PatientWeight, "81234"), set(dicom.PatientSize, "177"), inject(dicom.RadionuclideTotalDose, "398.7"), inject(dicom.RadiopharmaceuticalStartDateTime, "20140704101317")}
	_, suv, _, notes, _ := toSUV(changed(d), SUVBodySurface)
	said := strings.Join(notes, " ")
	for _, secret := range []string{"81", "1.77", "177", "398", "10:13", "1013"} {
		if strings.Contains(said, secret) {
			t.Errorf("%q is in the notes %q", secret, said)
		}
	}
	if !strings.Contains(suv.Notes[0], "weight 81.234 kg, height 1.77 m, dose 398.7 MBq, injected at 10:13:17") {
		t.Errorf("rule %q", suv.Notes)
	}
}

func TestSUVTimes(t *testing.T) {
	for s, want := range map[string]string{"10": "10h0m0s", "1001": "10h1m0s", "100102": "10h1m2s", "100102.5": "10h1m2.5s", "10:01:02.123456": "10h1m2.123456s", "235960": "24h0m0s"} {
		if d, ok := parseTime(s); !ok || d.String() != want {
			t.Errorf("%s is %v, %v, want %s", s, d, ok, want)
		}
	}
	for _, s := range []string{"", "1", "101", "24", "1060", "100161", "1001.5", "10-1", "100102.", "100102.1234567890", "1001029", "١٢"} {
		if d, ok := parseTime(s); ok && s != "100102." {
			t.Errorf("%q is %v", s, d)
		}
	}
	d := dicom.New()
	d.SetString(dicom.TimezoneOffsetFromUTC, "-0330")
	for s, want := range map[string]string{"20250101100203": "2025-01-01 10:02:03", "20250101100203.5+0000": "2025-01-01 06:32:03", "2025010110": "2025-01-01 10:00:00", "20250101003000+0100": "2024-12-31 20:00:00"} {
		if at, ok := parseDateTime(s, d); !ok || at.Format("2006-01-02 15:04:05") != want {
			t.Errorf("%s is %v, %v, want %s", s, at, ok, want)
		}
	}
	for _, s := range []string{"", "20250101", "20251301100203", "20250101100203+1", "20250101100203+2500", "00000101100203", "+0100"} {
		if at, ok := parseDateTime(s, d); ok {
			t.Errorf("%q is %v", s, at)
		}
	}
}

// FuzzSUV gives the elements any text. Whatever becomes SUV has factors, and what does not has a reason.
func FuzzSUV(f *testing.F) {
	for _, c := range vendors {
		d := changed(c.changes)[0]
		item := d.Seq(dicom.RadiopharmaceuticalInformationSequence)[0]
		f.Add(string(c.kind), d.String(dicom.Units), d.String(dicom.DecayCorrection), d.String(dicom.SeriesTime), d.String(dicom.AcquisitionTime), d.String(dicom.FrameReferenceTime),
			d.String(dicom.ActualFrameDuration), d.String(dicom.PatientWeight), d.String(dicom.PatientSize), item.String(dicom.RadiopharmaceuticalStartDateTime), item.String(dicom.RadionuclideTotalDose),
			item.String(dicom.RadionuclideHalfLife), d.String(dicom.DecayFactor))
	}
	f.Fuzz(func(t *testing.T, kind, units, decay, series, acquired, reference, duration, weight, size, injected, dose, life, factor string) {
		d := pet(3)
		owned(0x7053, "", 0x00, dicom.UN, factor)(d)
		for tag, v := range map[dicom.Tag]string{dicom.Units: units, dicom.DecayCorrection: decay, dicom.SeriesTime: series, dicom.AcquisitionTime: acquired, dicom.FrameReferenceTime: reference,
			dicom.ActualFrameDuration: duration, dicom.PatientWeight: weight, dicom.PatientSize: size, dicom.DecayFactor: factor} {
			d.SetBytes(tag, dicom.LO, even(v))
		}
		item := d.Seq(dicom.RadiopharmaceuticalInformationSequence)[0]
		for tag, v := range map[dicom.Tag]string{dicom.RadiopharmaceuticalStartDateTime: injected, dicom.RadionuclideTotalDose: dose, dicom.RadionuclideHalfLife: life} {
			item.SetBytes(tag, dicom.LO, even(v))
		}
		headers := []*dicom.DataSet{d, pet(13)}
		headers[1].Copy(d, dicom.Units, dicom.DecayCorrection, dicom.PatientWeight, dicom.PatientSize, dicom.RadiopharmaceuticalInformationSequence)
		factors, suv, unit, notes, err := toSUV(headers, SUVKind(kind))
		if err != nil {
			t.Fatalf("the slices do not contradict each other: %v", err)
		}
		if unit == "" || factors != nil && (suv == nil || len(factors) != 2) || factors == nil && suv == nil && kind != "none" && len(notes) == 0 {
			t.Fatalf("%d factors, %v, unit %q, notes %q", len(factors), suv, unit, notes)
		}
		for _, f := range factors {
			// Weight from 0 to 500 kg, 0.1 MBq to 20 GBq, twelve half lives.
			if !(f >= 0 && f < 1e16) {
				t.Fatalf("factors %v", factors)
			}
		}
	})
}

func TestPowersOfTwo(t *testing.T) {
	worst := 0.0
	for x := -40.0; x <= 40; x += 0.0137 {
		worst = max(worst, math.Abs(exp2(x)/math.Exp2(x)-1))
	}
	if worst > 1e-15 {
		t.Errorf("exp2 is off by %.2g", worst)
	}
	// The standard library's may be wrong in the same way: halves and quarters by square roots of 200 bits.
	root := new(big.Float).SetPrec(200).Sqrt(big.NewFloat(2).SetPrec(200))
	for _, c := range []struct {
		x    float64
		want *big.Float
	}{{0.5, root}, {0.25, new(big.Float).Sqrt(root)}, {-0.5, new(big.Float).Quo(big.NewFloat(1), root)}, {-3, big.NewFloat(0.125)}, {0, big.NewFloat(1)}} {
		want, _ := c.want.Float64()
		if got := exp2(c.x); math.Abs(got/want-1) > 2.3e-16 {
			t.Errorf("exp2(%v) = %v, want %v", c.x, got, want)
		}
	}
	if exp2(-1001) != 0 || exp2(-1e300) != 0 {
		t.Error("exp2 has no bottom")
	}
}

// TestSUVFusesNothing compiles the package for a processor that fuses and looks for fused instructions of suv.go.
func TestSUVFusesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles for another processor")
	}
	cmd := exec.Command("go", "build", "-gcflags=-S", ".")
	cmd.Env = append(cmd.Environ(), "GOARCH=arm64", "GOOS=linux", "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Skipf("the Go tool cannot build for arm64 here: %v", err)
	}
	seen := false
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "/suv.go:") {
			continue
		}
		seen = seen || strings.Contains(line, "FMULD")
		if slices.ContainsFunc(strings.Fields(line), func(s string) bool {
			return strings.HasPrefix(s, "FMADD") || strings.HasPrefix(s, "FMSUB") || strings.HasPrefix(s, "FNMADD") || strings.HasPrefix(s, "FNMSUB")
		}) {
			t.Errorf("fused: %s", strings.TrimSpace(line))
		}
	}
	if !seen {
		t.Error("the listing holds no arithmetic at all")
	}
}

func sharedData(t testing.TB, elem ...string) string {
	t.Helper()
	root := os.Getenv("RADNODE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared")
	}
	path := filepath.Join(append([]string{root, "data"}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("reference data is not here (%v): set RADNODE_SHARED", err)
	}
	return path
}

// petImages reads a folder of slices, from the lowest to the highest z, and the rescaled values of each.
func petImages(t *testing.T, pattern string) (headers []*dicom.DataSet, values [][]float64) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no images in %s: %v", pattern, err)
	}
	type slice struct {
		d      *dicom.DataSet
		z      float64
		values []float64
	}
	var all []slice
	for _, p := range paths {
		f := readDICOM(t, p)
		at, err := f.DataSet.Floats(dicom.ImagePositionPatient)
		if err != nil || len(at) != 3 {
			t.Fatal(p, at, err)
		}
		slope, ok := f.DataSet.Float(dicom.RescaleSlope)
		if !ok {
			t.Fatal(p, "has no slope")
		}
		s := slice{d: f.DataSet, z: at[2]}
		for frame, err := range pixel.Frames(f) {
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range frame.Samples {
				s.values = append(s.values, float64(v)*slope)
			}
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b slice) int {
		if a.z < b.z {
			return -1
		}
		return 1
	})
	for _, s := range all {
		headers, values = append(headers, s.d), append(values, s.values)
	}
	return headers, values
}

func readDICOM(t *testing.T, path string) *dicom.File {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestSUVOfSarcoma measures FDG-PET in Bq/ml of a General Electric scanner, whose beds all have the Acquisition Time of the
// scan. The figures are those of shared/data/README.md, from the data set's own SUV images.
func TestSUVOfSarcoma(t *testing.T) {
	dir := sharedData(t, "sts_raw", "STS_001", "FDG_PET")
	headers, values := petImages(t, filepath.Join(dir, "image", "*.dcm"))
	position := func(d *dicom.DataSet) [3]float64 {
		p, _ := d.Floats(dicom.ImagePositionPatient)
		return [3]float64(p)
	}
	n := len(headers)
	g := voxel.Geometry{Size: [3]int{128, 128, n}, Spacing: [3]float64{4.6875, 4.6875, (position(headers[n-1])[2] - position(headers[0])[2]) / float64(n-1)},
		Origin: position(headers[0]), Axes: [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}
	structures := readDICOM(t, filepath.Join(dir, "mask", "1-1.dcm"))
	regions, err := roi.Regions(structures)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(regions, func(r roi.Region) bool { return r.Name == "GTV_Mass" })
	if i < 0 {
		t.Fatal("no GTV_Mass")
	}
	mask, _, err := roi.Rasterise(context.Background(), regions[i], g, voxel.Rule{})
	if err != nil {
		t.Fatal(err)
	}
	mask = mask.On(g, g.Part(mask.Geometry).Min)
	for _, c := range []struct {
		kind                           SUVKind
		leastMin, mostMin, least, most float64
	}{
		{SUVBodyWeight, 0.15, 0.20, 7.9, 8.0},
		{SUVLeanJames, 0, 1, 5.9, 6.1},
		{SUVLeanJanmahasatian, 0, 1, 5.8, 6.0},
	} {
		factors, suv, unit, notes, err := toSUV(headers, c.kind)
		if err != nil || suv == nil || len(notes) > 0 {
			t.Fatal(suv, notes, err)
		}
		low, high := math.Inf(1), 0.0
		for v, in := range mask.Data {
			if in != 0 {
				x := values[v/(128*128)][v%(128*128)] * factors[v/(128*128)]
				low, high = min(low, x), max(high, x)
			}
		}
		t.Logf("%s: %.4f to %.4f in %d voxels; %s", unit, low, high, mask.Count(), suv.Notes[0])
		if low < c.leastMin || low > c.mostMin || high < c.least || high > c.most {
			t.Errorf("%s: %v to %v", unit, low, high)
		}
	}
}

// TestSUVOfReferenceObjects measures the digital reference objects of the IBSI's manual for SUV: a hot sphere of 4, a
// background of 1 and a cold sphere of 0.2 by body weight, in every unit and decay correction.
func TestSUVOfReferenceObjects(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("testdata", "suv", "DRO_*.dcm"))
	if err != nil || len(paths) != 17 {
		t.Fatalf("%d objects: %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			headers, values := petImages(t, path)
			factors, suv, _, notes, err := toSUV(headers, SUVBodyWeight)
			if err != nil || suv == nil {
				t.Fatal(suv, notes, err)
			}
			var inside []float64
			for k, s := range values {
				for _, v := range s {
					if v > 0 {
						inside = append(inside, v*factors[k])
					}
				}
			}
			slices.Sort(inside)
			low, middle, high := inside[0], inside[len(inside)/2], inside[len(inside)-1]
			t.Logf("%.4f %.4f %.4f; %s; %q", low, middle, high, suv.Notes[0], notes)
			slope, _ := headers[0].Float(dicom.RescaleSlope)
			step := slope * factors[0] // the objects hold whole numbers, rounded down: of body surface no more than 5, 26 and 105
			for _, c := range [][2]float64{{low, 0.2}, {middle, 1}, {high, 4}} {
				if math.Abs(c[0]-c[1]) > max(0.005, step) {
					t.Errorf("%v, want %v", c[0], c[1])
				}
			}
		})
	}
}

// TestSUVAgainstMIRP runs MIRP on the headers of TestSUV.
func TestSUVAgainstMIRP(t *testing.T) {
	python := os.Getenv("RADNODE_MIRP_PYTHON")
	if python == "" {
		home, _ := os.UserHomeDir()
		python = filepath.Join(home, ".cache", "radnode-ci", "mirp", "bin", "python")
	}
	if err := exec.Command(python, "-c", "import mirp").Run(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("MIRP is not here: %v", err)
		}
		t.Skipf("MIRP is not here (%v): set RADNODE_MIRP_PYTHON", err)
	}
	kinds := map[SUVKind]string{"": "body_weight", SUVBodyWeight: "body_weight", SUVLeanJames: "lean_body_mass", SUVLeanJanmahasatian: "lean_body_mass_bmi", SUVBodySurface: "body_surface_area", SUVIdealWeight: "ideal_body_weight"}
	dir := t.TempDir()
	type job struct{ Name, File, Kind string }
	var jobs []job
	ours := map[string]float64{}
	for i, c := range vendors {
		if !c.mirp {
			continue
		}
		headers := changed(c.changes)
		factors, _, _, _, err := toSUV(headers, c.kind)
		if err != nil || factors == nil {
			t.Fatal(c.name, err)
		}
		for _, k := range []int{0, 19} {
			d := headers[k]
			path := filepath.Join(dir, fmt.Sprintf("%d-%d.dcm", i, k))
			f, err := os.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := dicom.WriteFile(f, dicom.FileMeta{TransferSyntaxUID: dicom.ExplicitVRLittleEndian}, d); err != nil {
				t.Fatal(c.name, err)
			}
			f.Close()
			name := fmt.Sprintf("%s, slice %d", c.name, k)
			jobs, ours[name] = append(jobs, job{name, path, kinds[c.kind]}), factors[k]
		}
	}
	in, _ := json.Marshal(jobs)
	cmd := exec.Command(python, "-W", "ignore", "-c", `
import json, sys
import pydicom
from mirp._data_import.dicom_file_pet import ImageDicomFilePT
out = {}
for job in json.load(sys.stdin):
    image = ImageDicomFilePT.__new__(ImageDicomFilePT)
    image.image_metadata = pydicom.dcmread(job["File"])
    image.load_metadata = lambda *a, **k: None
    image.describe_self = lambda: job["Name"]
    try:
        f = image._to_gml_conversion_factor()
        # MIRP leaves the unit of SUV by body weight to its caller where it comes from Bq/ml.
        g = image._to_suv_conversion_factor(job["Kind"])
        out[job["Name"]] = float(f * g)
    except Exception as e:
        out[job["Name"]] = repr(e)
json.dump(out, sys.stdout)
`)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var theirs map[string]any
	if err := json.Unmarshal(stdout, &theirs); err != nil {
		t.Fatal(err)
	}
	worst := 0.0
	for _, j := range jobs {
		v, ok := theirs[j.Name].(float64)
		if !ok {
			t.Errorf("%s: MIRP says %v", j.Name, theirs[j.Name])
			continue
		}
		off := math.Abs(ours[j.Name]/v - 1)
		worst = max(worst, off)
		if !(off < 2e-6) {
			t.Errorf("%s: %v, MIRP %v, off by %.2g", j.Name, ours[j.Name], v, off)
		}
	}
	t.Logf("%d factors, the worst off by %.2g", len(jobs), worst)
}
