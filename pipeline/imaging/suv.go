package imaging

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/refusal"
)

// A SUVKind is what a standardised uptake value is normalised by.
type SUVKind string

// The kinds of SUV. PS3.3 C.8.9.1 SUV Type (0054,1006) has the same ones, and the lean body mass by the formula that is
// printed with 120 in place of 128, which images may have and nobody should ask for.
const (
	SUVNone              SUVKind = "none" // leave the unit of the images
	SUVBodyWeight        SUVKind = "bw"
	SUVLeanJames         SUVKind = "lbm-james"
	SUVLeanJanmahasatian SUVKind = "lbm"
	SUVBodySurface       SUVKind = "bsa"
	SUVIdealWeight       SUVKind = "ibw"

	suvLeanJames120 SUVKind = "lbm-james-120"
)

// SUV says how values became standardised uptake values.
type SUV struct {
	Kind  SUVKind
	Notes []string // inputs and rules, for the report
}

// suvTypes are the values of SUV Type (0054,1006), PS3.3 C.8.9.1, with the UCUM unit of PS3.16 CID 85.
var suvTypes = []struct {
	kind             SUVKind
	value, ucum, say string
}{
	{SUVBodyWeight, "BW", "g/ml{SUVbw}", "body weight"},
	{SUVLeanJames, "LBMJAMES128", "g/ml{SUVlbm(James128)}", "lean body mass (James, 128)"},
	{SUVLeanJanmahasatian, "LBMJANMA", "g/ml{SUVlbm(Janma)}", "lean body mass (Janmahasatian)"},
	{SUVBodySurface, "BSA", "cm2/ml{SUVbsa}", "body surface area (Du Bois)"},
	{SUVIdealWeight, "IBW", "g/ml{SUVibw}", "ideal body weight (Sugawara)"},
	{suvLeanJames120, "LBM", "g/ml{SUVlbm}", "lean body mass (James as printed with 120)"},
}

// Validate refuses a kind that cannot be asked for; "" is body weight.
func (k SUVKind) Validate() error {
	switch k {
	case "", SUVNone, SUVBodyWeight, SUVLeanJames, SUVLeanJanmahasatian, SUVBodySurface, SUVIdealWeight:
		return nil
	}
	return fmt.Errorf("%q is no kind of SUV, want none, bw, lbm, lbm-james, bsa or ibw", string(k))
}

// words is the kind as the notes name it.
func (k SUVKind) words() string {
	for _, t := range suvTypes {
		if t.kind == k {
			return t.say
		}
	}
	return string(k)
}

// unit is the UCUM unit of values of this kind.
func (k SUVKind) unit() string {
	for _, t := range suvTypes {
		if t.kind == k {
			return t.ucum
		}
	}
	return ""
}

// suvUnit tells which kind of SUV a coded unit means, "" where none. g/ml and cm2/ml alone are those of PET, where they mean
// body weight and body surface; {SUVbw}g/ml is the spelling of PS3.16 before 2016.
func suvUnit(ucum string) SUVKind {
	switch ucum {
	case "g/ml", "{SUVbw}g/ml":
		return SUVBodyWeight
	case "cm2/ml", "{SUVbsa}cm2/ml":
		return SUVBodySurface
	case "{SUVlbm}g/ml":
		return suvLeanJames120
	case "{SUVibw}g/ml":
		return SUVIdealWeight
	}
	for _, t := range suvTypes {
		if t.ucum == ucum {
			return t.kind
		}
	}
	return ""
}

// petUnits are the defined terms of Units (0054,1001), PS3.3 C.8.9.1.1.3, in the UCUM of PS3.16 CID 84.
var petUnits = map[string]string{
	"CNTS": "{counts}", "CPS": "{counts}/s", "PROPCNTS": "{propcounts}", "PROPCPS": "{propcounts}/s",
	"BQML": "Bq/ml", "GML": "g/ml", "CM2ML": "cm2/ml", "CM2": "cm2", "PCNT": "%", "NONE": "1", "1CM": "/cm",
	"MGMINML": "mg/min/ml", "UMOLMINML": "umol/min/ml", "MLMING": "ml/min/g", "MLG": "ml/g", "UMOLML": "umol/ml",
	"MLMINML": "ml/min/ml", "MLML": "ml/ml", "STDDEV": "{stddev}",
}

// nuclides are the half lives, in seconds, of positron emitters of PS3.16 CID 4020 (and of germanium, which phantoms are
// filled with), by their codes of SNOMED CT and, in old images, SNOMED-RT: NuDat 3, National Nuclear Data Center. F-18 is
// 109.77 min, as in the vendor-neutral pseudocode of QIBA.
var nuclides = []struct {
	sct, srt, name, mass string
	halfLife             float64
}{
	{"40565003", "C-105A1", "C-11", "11", 1221.6},
	{"21576001", "C-107A1", "N-13", "13", 597.9},
	{"129504001", "C-B1038", "O-15", "15", 122.24},
	{"77004003", "C-111A1", "F-18", "18", 6586.2},
	{"71425003", "C-127A1", "Cu-61", "61", 12020.4},
	{"422934004", "C-127A5", "Cu-62", "62", 580.2},
	{"3932008", "C-127A2", "Cu-64", "64", 45723.6},
	{"79477007", "C-131A1", "Ga-66", "66", 34164},
	{"35337001", "C-131A3", "Ga-68", "68", 4062.6},
	{"53315004", "C-128A2", "Ge-68", "68", 23408352},
	{"79523006", "C-113A2", "Br-76", "76", 58320},
	{"79197006", "C-159A2", "Rb-82", "82", 75.45},
	{"10738001", "C-162A3", "Y-86", "86", 53064},
	{"63360001", "C-168A4", "Zr-89", "89", 282276},
	{"40937006", "C-114A5", "I-124", "124", 360806.4},
}

// Bounds of what is believed.
const (
	mostWeight  = 500.0             // kg; above 1000 the number is in grams
	leastHeight = 0.2               // m
	mostHeight  = 2.6               // m; from 30 the number is in cm
	leastDose   = 1e5               // Bq; below 1e4 the number is in MBq
	mostDose    = 2e10              // Bq
	mostLives   = 12.0              // half lives from injection to scan: 1/4096 of the dose is left
	mostLife    = 1e10              // s of half life
	injectAfter = 600 * time.Second // a dynamic scan may begin before the injection
	longLived   = 43200.0           // s of half life; an injection without a date may be days ago
	sameClock   = time.Second       // Series Time and Acquisition Time of one event
)

// toSUV gives for each slice the factor that turns its rescaled values into standardised uptake values of the wanted kind, ""
// for body weight. headers are one per slice in the order of slices; an enhanced image repeats its data set for each slice.
//
// Where the series cannot become SUV, factors and suv are nil, the unit is that of the images, and the notes say why, with the
// code of a reason. Images that are SUV of another kind already and cannot be converted stay so: factors of 1, suv of their
// own kind. With SUVNone factors is nil. The error, a *[refusal.Refusal], is for slices that contradict each other.
//
// The rules are those of PS3.3 C.8.9.1 and C.8.9.4, the vendor-neutral pseudocode of QIBA (FDG-PET/CT profile, appendix G)
// and, where that stops, the manual for SUV of the IBSI (Vácha et al., oncoray.github.io/suv_computation).
func toSUV(headers []*dicom.DataSet, kind SUVKind) (factors []float64, suv *SUV, unit string, notes []string, err error) {
	if kind == "" {
		kind = SUVBodyWeight
	}
	if len(headers) == 0 {
		return nil, nil, "", nil, refusal.New(refusal.ImageNone, "", "the PET series has no image")
	}
	if r := oneScale(headers); r != nil {
		return nil, nil, "", nil, r
	}
	s := &uptake{headers: headers}
	unit, own := s.values()
	if own != "" {
		suv = &SUV{Kind: own, Notes: []string{fmt.Sprintf("SUV by %s, as the images have it", own.words())}}
	}
	if kind == SUVNone {
		return nil, suv, unit, nil, nil
	}
	if own == kind {
		return ones(len(headers)), suv, unit, s.warnings, nil
	}
	factors, r := s.factors(kind, own, unit)
	if r != nil {
		note := fmt.Sprintf("the values stay in %s and do not become SUV by %s: %s; %s [%s]", unit, kind.words(), r.Text, r.Advice(), r.Code)
		if own != "" {
			factors = ones(len(headers))
		}
		return factors, suv, unit, append(s.warnings, note), nil
	}
	rule := fmt.Sprintf("SUV by %s: %s, %s", kind.words(), strings.Join(s.inputs, ", "), factorText(factors))
	return factors, &SUV{Kind: kind, Notes: []string{rule}}, kind.unit(), s.warnings, nil
}

// uptake gathers what leads from a series to SUV.
type uptake struct {
	headers  []*dicom.DataSet
	inputs   []string // for the report
	warnings []string // what was corrected or looks unusual; without numbers of the patient
}

func (s *uptake) input(format string, a ...any) {
	s.inputs = append(s.inputs, fmt.Sprintf(format, a...))
}
func (s *uptake) warn(format string, a ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, a...))
}

// oneScale refuses slices whose values do not mean the same.
func oneScale(headers []*dicom.DataSet) *refusal.Refusal {
	for _, t := range []dicom.Tag{dicom.Units, dicom.SUVType, dicom.DecayCorrection} {
		first := headers[0].Within(t).String(t)
		for d := range distinct(headers) {
			if v := d.Within(t).String(t); v != first {
				return refusal.New(refusal.PETMixed, d.String(dicom.SOPInstanceUID), "%s %s is %s, and %s in image %s",
					t.Keyword(), t, orNone(v), orNone(first), headers[0].String(dicom.SOPInstanceUID))
			}
		}
	}
	return nil
}

// values tells the unit of the images, and the kind of SUV that they are already, "" for none.
func (s *uptake) values() (unit string, own SUVKind) {
	d := s.headers[0]
	term := d.Within(dicom.Units).String(dicom.Units)
	switch kind := d.Within(dicom.SUVType).String(dicom.SUVType); {
	case term == "GML" || term == "CM2ML":
		if kind == "" { // PS3.3 C.8.9.1: absent, and g/ml, means body weight
			own = suvUnit(petUnits[term])
		}
		for _, t := range suvTypes {
			if t.value == kind && (t.kind == SUVBodySurface) == (term == "CM2ML") {
				own = t.kind
			}
		}
	case term == "":
		// An enhanced image may have its unit in Rescale Type (0028,1054) or in a real world value map that is the rescaling.
		ucum := enhancedUnit(d)
		if own = suvUnit(ucum); own == "" {
			return ucum, ""
		}
	}
	if own != "" {
		return own.unit(), own
	}
	if u, ok := petUnits[term]; ok {
		return u, ""
	}
	return "1", ""
}

// enhancedUnit is the unit of the rescaled values of an enhanced image in UCUM, "1" where it does not say.
func enhancedUnit(d *dicom.DataSet) string {
	groups := append(slices.Clone(d.Seq(dicom.SharedFunctionalGroupsSequence)), d.Seq(dicom.PerFrameFunctionalGroupsSequence)...)
	unit := ""
	for _, g := range groups {
		var slope, intercept float64
		okSlope := false
		for _, v := range g.Seq(dicom.PixelValueTransformationSequence) {
			slope, okSlope = v.Float(dicom.RescaleSlope)
			intercept, _ = v.Float(dicom.RescaleIntercept)
			t := v.String(dicom.RescaleType)
			if u, ok := petUnits[t]; ok {
				return u
			}
			if t == "Bq/ml" || suvUnit(t) != "" {
				return t
			}
		}
		for _, m := range g.Seq(dicom.RealWorldValueMappingSequence) {
			a, okA := m.Float(dicom.RealWorldValueSlope)
			b, okB := m.Float(dicom.RealWorldValueIntercept)
			for _, c := range m.Seq(dicom.MeasurementUnitsCodeSequence) {
				if u := c.String(dicom.CodeValue); okSlope && okA && okB && a == slope && b == intercept && (unit == "" || u == unit) {
					unit = u
				}
			}
		}
	}
	if unit == "" {
		return "1"
	}
	return unit
}

// factors are those to SUV of a kind from values in unit, which are SUV of the kind own where that is not "".
func (s *uptake) factors(kind, own SUVKind, unit string) ([]float64, *refusal.Refusal) {
	p, r := s.patient()
	if r != nil {
		return nil, r
	}
	to, r := s.norm(p, kind)
	if r != nil {
		return nil, r
	}
	if own != "" {
		from, r := s.norm(p, own)
		if r != nil {
			return nil, r
		}
		s.input("from SUV by %s", own.words())
		return constant(len(s.headers), to/from), nil
	}
	switch unit {
	case "Bq/ml":
		return s.fromActivity(to, ones(len(s.headers)))
	case "{counts}":
		return s.fromCounts(p, kind, to)
	}
	return nil, refusal.New(refusal.PETUnits, "", "Units (0054,1001) is %s", orNone(s.headers[0].Within(dicom.Units).String(dicom.Units)))
}

// fromCounts are the factors from the counts of a Philips scanner, whose private elements (7053,xx00) and (7053,xx09) lead to
// SUV by body weight and to Bq/ml; 0 says that there is no such way (Philips conformance statements, QIBA).
func (s *uptake) fromCounts(p patient, kind SUVKind, to float64) ([]float64, *refusal.Refusal) {
	toWeight, okWeight := s.philips(0x00)
	toActivity, okActivity := s.philips(0x09)
	// The factor to SUV is one for the series, which is right for decay-corrected slices only.
	corrected := s.headers[0].Within(dicom.DecayCorrection).String(dicom.DecayCorrection) != "NONE"
	switch {
	case okWeight && corrected:
		if r := s.attenuation(); r != nil {
			return nil, r
		}
		s.input("SUV %s of the scanner (7053,xx00)", factorText(toWeight))
		if kind != SUVBodyWeight {
			from, r := s.norm(p, SUVBodyWeight)
			if r != nil {
				return nil, r
			}
			for i := range toWeight {
				toWeight[i] = float64(toWeight[i]*to) / from
			}
		}
		return toWeight, nil
	case okActivity:
		s.input("to Bq/ml by the %s of the scanner (7053,xx09)", factorText(toActivity))
		return s.fromActivity(to, toActivity)
	case okWeight:
		return nil, refusal.New(refusal.PETDecay, "", "DecayCorrection (0054,1102) is NONE, and the SUV factor of the scanner (7053,xx00) is one for all slices")
	}
	return nil, refusal.New(refusal.PETUnits, "", "Units (0054,1001) is CNTS, and the images have neither a SUV factor (7053,xx00) nor an activity factor (7053,xx09) of Philips PET Private Group")
}

func (s *uptake) philips(element byte) ([]float64, bool) {
	var f []float64
	for _, d := range s.headers {
		v, err := strconv.ParseFloat(private(d, 0x7053, "Philips PET Private Group", element), 64)
		if err != nil || !(v > 0 && v < 1e12) {
			return nil, false
		}
		f = append(f, v)
	}
	return f, true
}

// fromActivity are the factors from values that scale turns into Bq/ml.
func (s *uptake) fromActivity(to float64, scale []float64) ([]float64, *refusal.Refusal) {
	if r := s.attenuation(); r != nil {
		return nil, r
	}
	tracer, r := s.tracer()
	if r != nil {
		return nil, r
	}
	dose, r := s.dose(tracer)
	if r != nil {
		return nil, r
	}
	left, r := s.left(tracer)
	if r != nil {
		return nil, r
	}
	f := make([]float64, len(s.headers))
	for i := range f {
		f[i] = float64(scale[i]*to) / float64(dose*left[i])
	}
	return f, nil
}

// attenuation refuses images that do not say that they are corrected for it.
func (s *uptake) attenuation() *refusal.Refusal {
	for d := range distinct(s.headers) {
		corrected := slices.Contains(d.Within(dicom.CorrectedImage).Strings(dicom.CorrectedImage), "ATTN") ||
			d.Within(dicom.AttenuationCorrected).String(dicom.AttenuationCorrected) == "YES"
		if !corrected {
			return refusal.New(refusal.PETNotCorrected, d.String(dicom.SOPInstanceUID), "CorrectedImage (0028,0051) does not hold ATTN")
		}
	}
	return nil
}

// A patient is what the formulas need. A number is 0, and why says the reason, where the header does not give it.
type patient struct {
	weight    float64 // kg
	height    float64 // m
	sex       string  // M, F, O
	whyWeight *refusal.Refusal
	whyHeight *refusal.Refusal
	whySex    *refusal.Refusal
}

func (s *uptake) patient() (p patient, r *refusal.Refusal) {
	d := s.headers[0]
	if r := s.agree(dicom.PatientWeight, dicom.PatientSize, dicom.PatientSex); r != nil {
		return p, r
	}
	switch w, ok := d.Float(dicom.PatientWeight); {
	case !ok || w == 0:
		p.whyWeight = refusal.New(refusal.PETNoWeight, "", "PatientWeight (0010,1030) is absent or 0")
	case w >= 1000 && w <= 1000*mostWeight:
		s.warn("Patient's Weight (0010,1030) is above 1000, which no patient weighs in kg: it is taken for grams")
		p.weight = w / 1000
	case !(w > 0 && w <= mostWeight):
		p.whyWeight = refusal.New(refusal.PETNoWeight, "", "PatientWeight (0010,1030) is negative or above %v kg", mostWeight)
	default:
		p.weight = w
	}
	switch h, ok := d.Float(dicom.PatientSize); {
	case !ok || h == 0:
		p.whyHeight = refusal.New(refusal.PETNoHeight, "", "PatientSize (0010,1020) is absent or 0")
	case h >= 30 && h <= 100*mostHeight:
		p.height = h / 100
	case !(h >= leastHeight && h <= mostHeight):
		p.whyHeight = refusal.New(refusal.PETNoHeight, "", "PatientSize (0010,1020) is outside %v to %v m", leastHeight, mostHeight)
	default:
		p.height = h
	}
	switch p.sex = d.String(dicom.PatientSex); p.sex {
	case "M", "F", "O":
	default:
		p.whySex = refusal.New(refusal.PETNoSex, "", "PatientSex (0010,0040) is absent, or none of M, F, O")
	}
	return p, nil
}

// norm is what a SUV is normalised by: grams, or cm² for the body surface. The formulas take the weight w in kg and the height
// h in cm.
func (s *uptake) norm(p patient, kind SUVKind) (float64, *refusal.Refusal) {
	if kind.unit() == "" {
		return 0, refusal.New(refusal.PETUnits, "", "there is no SUV by %q", string(kind))
	}
	if p.whyWeight != nil && kind != SUVIdealWeight {
		return 0, p.whyWeight
	}
	if p.whyHeight != nil && kind != SUVBodyWeight {
		return 0, p.whyHeight
	}
	w, h := p.weight, float64(100*p.height)
	if kind != SUVIdealWeight {
		s.inputOnce("weight %s kg", number(w))
	}
	if kind != SUVBodyWeight {
		s.inputOnce("height %s m", number(p.height))
		if size, _ := s.headers[0].Float(dicom.PatientSize); size != p.height {
			s.warnOnce("Patient's Size (0010,1020) is above 30, which no patient is tall in m: it is taken for centimetres")
		}
	}
	switch kind {
	case SUVBodyWeight:
		return 1000 * w, nil
	case SUVBodySurface: // Du Bois and Du Bois, Arch Intern Med 1916; 17: 863: m²
		return 1e4 * float64(0.007184*exp2(float64(0.425*features.Log2(w))+float64(0.725*features.Log2(h)))), nil
	}
	if p.whySex != nil {
		return 0, p.whySex
	}
	var male, female float64
	switch ratio := w / h; kind {
	case SUVLeanJames: // James, Research on obesity, HMSO 1976; Hallynck et al., Br J Clin Pharmacol 1981; 11: 523
		male = float64(1.10*w) - float64(128*float64(ratio*ratio))
		female = float64(1.07*w) - float64(148*float64(ratio*ratio))
	case suvLeanJames120: // the same with a misprint of Morgan and Bray 1994, which Sugawara et al. 1999 and many scanners took over
		male = float64(1.10*w) - float64(120*float64(ratio*ratio))
		female = float64(1.07*w) - float64(148*float64(ratio*ratio))
	case SUVLeanJanmahasatian: // Janmahasatian et al., Clin Pharmacokinet 2005; 44: 1051
		bmi := w / float64(p.height*p.height)
		male = float64(9270*w) / (6680 + float64(216*bmi))
		female = float64(9270*w) / (8780 + float64(244*bmi))
	case SUVIdealWeight: // Sugawara et al., Radiology 1999; 213: 521, as PS3.16 (126404, DCM); Devine's differs by a few percent
		male = 48 + float64(1.06*(h-152))
		female = 45.5 + float64(0.91*(h-152))
	}
	mass := male
	switch p.sex {
	case "F":
		mass = female
	case "O":
		mass = (male + female) / 2
		s.warnOnce("Patient's Sex (0010,0040) is O: %s is the mean of the formulas for male and female", kind.words())
	}
	s.inputOnce("sex %s", p.sex)
	// James' parabola falls again beyond 43 (men) and 36 kg/m² (women) of body mass index, down to negative masses.
	if !(mass > 0) || kind != SUVIdealWeight && mass > w {
		return 0, refusal.New(refusal.PETNoHeight, "", "PatientWeight (0010,1030) and PatientSize (0010,1020) lead to an impossible %s", kind.words())
	}
	return 1000 * mass, nil
}

func (s *uptake) inputOnce(format string, a ...any) {
	if t := fmt.Sprintf(format, a...); !slices.Contains(s.inputs, t) {
		s.inputs = append(s.inputs, t)
	}
}

func (s *uptake) warnOnce(format string, a ...any) {
	if t := fmt.Sprintf(format, a...); !slices.Contains(s.warnings, t) {
		s.warnings = append(s.warnings, t)
	}
}

// agree refuses slices that have different values of an element.
func (s *uptake) agree(tags ...dicom.Tag) *refusal.Refusal {
	for d := range distinct(s.headers) {
		if r := agree(s.headers[0], d, d.String(dicom.SOPInstanceUID), tags...); r != nil {
			return r
		}
	}
	return nil
}

func agree(a, b *dicom.DataSet, instance string, tags ...dicom.Tag) *refusal.Refusal {
	for _, t := range tags {
		if x, y := a.String(t), b.String(t); x != y {
			u, okU := a.Float(t)
			v, okV := b.Float(t)
			if !okU || !okV || u != v {
				return refusal.New(refusal.PETDiffers, instance, "%s %s is not the same in all slices", t.Keyword(), t)
			}
		}
	}
	return nil
}

// tracer is the one item of Radiopharmaceutical Information Sequence (0054,0016).
func (s *uptake) tracer() (*dicom.DataSet, *refusal.Refusal) {
	var first *dicom.DataSet
	for d := range distinct(s.headers) {
		items := d.Within(dicom.RadiopharmaceuticalInformationSequence).Seq(dicom.RadiopharmaceuticalInformationSequence)
		switch {
		case len(items) == 0:
			return nil, refusal.New(refusal.PETNoDose, "", "RadiopharmaceuticalInformationSequence (0054,0016) is absent or empty")
		case len(items) > 1:
			return nil, refusal.New(refusal.PETNoDose, "", "RadiopharmaceuticalInformationSequence (0054,0016) has %d items, and one dose is needed", len(items))
		case first == nil:
			first = items[0]
		}
		if r := agree(first, items[0], d.String(dicom.SOPInstanceUID), dicom.RadionuclideTotalDose, dicom.RadionuclideHalfLife,
			dicom.RadiopharmaceuticalStartTime, dicom.RadiopharmaceuticalStartDateTime); r != nil {
			return nil, r
		}
	}
	return first, nil
}

// dose is the injected activity in Bq: the unit of PS3.3 C.8.9.2, while the nuclear medicine and the enhanced PET isotope
// modules have MBq, and people type what they know.
func (s *uptake) dose(tracer *dicom.DataSet) (float64, *refusal.Refusal) {
	dose, ok := tracer.Float(dicom.RadionuclideTotalDose)
	switch {
	case !ok || dose == 0:
		return 0, refusal.New(refusal.PETNoDose, "", "RadionuclideTotalDose (0018,1074) is absent or 0")
	case dose > 0 && dose < 1e4:
		s.warn("Radionuclide Total Dose (0018,1074) is below 10000, which would be no dose in Bq: it is taken for MBq")
		dose *= 1e6
	}
	if !(dose >= leastDose && dose <= mostDose) {
		return 0, refusal.New(refusal.PETNoDose, "", "RadionuclideTotalDose (0018,1074) is neither a dose in Bq nor in MBq")
	}
	s.input("dose %s MBq", number(dose/1e6))
	return dose, nil
}

// left is the part of the dose that is left at the time the values of each slice are corrected to.
func (s *uptake) left(tracer *dicom.DataSet) ([]float64, *refusal.Refusal) {
	d := s.headers[0]
	mode := d.Within(dicom.DecayCorrection).String(dicom.DecayCorrection)
	enhanced := d.Within(dicom.DecayCorrected).String(dicom.DecayCorrected)
	corrected := slices.ContainsFunc(d.Within(dicom.CorrectedImage).Strings(dicom.CorrectedImage), func(v string) bool {
		return v == "DECY" || v == "DECAY" // the second before PS3.3 settled on four letters
	})
	switch {
	case mode == "" && enhanced == "":
		return nil, refusal.New(refusal.PETDecay, "", "DecayCorrection (0054,1102) is absent")
	case mode == "NONE" && corrected:
		return nil, refusal.New(refusal.PETDecay, "", "DecayCorrection (0054,1102) is NONE, and CorrectedImage (0028,0051) says DECY")
	case (mode == "START" || mode == "ADMIN") && !corrected:
		return nil, refusal.New(refusal.PETDecay, "", "DecayCorrection (0054,1102) is %s, and CorrectedImage (0028,0051) does not hold DECY", mode)
	case mode == "ADMIN":
		s.input("values corrected to the injection, Decay Correction (0054,1102) ADMIN")
		return ones(len(s.headers)), nil
	}
	life, r := s.halfLife(tracer)
	if r != nil {
		return nil, r
	}
	var at []time.Time
	var from string
	switch {
	case mode == "START":
		at, from, r = s.start(life)
	case mode == "NONE":
		at, from, r = s.during(life)
	case mode == "" && enhanced == "YES":
		at, from, r = s.enhancedStart()
	case mode == "" && enhanced == "NO":
		at, from, r = s.enhancedFrames()
	default:
		r = refusal.New(refusal.PETDecay, "", "DecayCorrection (0054,1102) is %q, want START, ADMIN or NONE", mode)
	}
	if r != nil {
		return nil, r
	}
	injected, r := s.injection(tracer, life, at)
	if r != nil {
		return nil, r
	}
	left := make([]float64, len(at))
	for i, t := range at {
		past := t.Sub(injected)
		switch {
		case past < -injectAfter:
			return nil, refusal.New(refusal.PETDecay, "", "the injection lies after the time of the scan, %s", from)
		case past.Seconds() > mostLives*life:
			return nil, refusal.New(refusal.PETDecay, "", "more than %v half lives lie between injection and scan, %s", mostLives, from)
		case past < 0:
			s.warnOnce("the injection lies up to ten minutes after the time of the scan, %s", from)
		}
		left[i] = exp2(-(past.Seconds() / life))
	}
	first, last := slices.MinFunc(at, time.Time.Compare), slices.MaxFunc(at, time.Time.Compare)
	until := first.Format(time.TimeOnly)
	if !last.Equal(first) {
		until += " to " + last.Format(time.TimeOnly)
	}
	s.input("injected at %s, decay to %s (%s), half life %s s", injected.Format(time.TimeOnly), until, from, number(life))
	return left, nil
}

// halfLife is Radionuclide Half Life (0018,1075), or that of the radionuclide.
func (s *uptake) halfLife(tracer *dicom.DataSet) (float64, *refusal.Refusal) {
	life, ok := tracer.Float(dicom.RadionuclideHalfLife)
	ok = ok && life > 0 && life < mostLife
	for _, c := range tracer.Seq(dicom.RadionuclideCodeSequence) {
		code, meaning := c.String(dicom.CodeValue), c.String(dicom.CodeMeaning)
		for _, n := range nuclides {
			if code != n.sct && code != n.srt {
				continue
			}
			// Old images confuse the codes of two isotopes of an element; the meaning is what a person has read.
			mass := strings.Map(func(r rune) rune {
				if r >= '0' && r <= '9' {
					return r
				}
				return -1
			}, meaning)
			named := mass == "" || mass == n.mass
			switch {
			case !ok && named:
				s.warn("Radionuclide Half Life (0018,1075) is absent: that of %s by Radionuclide Code Sequence (0054,0300) is taken", n.name)
				return n.halfLife, nil
			case !ok:
				return 0, refusal.New(refusal.PETNoHalfLife, "", "RadionuclideHalfLife (0018,1075) is absent, and RadionuclideCodeSequence (0054,0300) has the code of %s and another meaning", n.name)
			case named && math.Abs(float64(60*life)-n.halfLife) < 0.02*n.halfLife:
				s.warn("Radionuclide Half Life (0018,1075) is that of %s in minutes: it is taken so", n.name)
				return 60 * life, nil
			case math.Abs(life-n.halfLife) > 0.02*n.halfLife:
				s.warn("Radionuclide Half Life (0018,1075) is not that of %s, which Radionuclide Code Sequence (0054,0300) names: it is taken all the same", n.name)
			}
			return life, nil
		}
	}
	if !ok {
		return 0, refusal.New(refusal.PETNoHalfLife, "", "RadionuclideHalfLife (0018,1075) is absent, and RadionuclideCodeSequence (0054,0300) names no radionuclide that is known")
	}
	return life, nil
}

// start is the time that all slices of a series with Decay Correction START are corrected to: the start of the scan, by PS3.3
// C.8.9.1 Series Date and Time. Whatever makes a new series of old images writes a new time there, so that it is held against
// what else there is.
//
//  1. The private elements of Siemens and GE, which say this time and nothing else.
//  2. Series Time, if no slice was acquired before it, and the slices do not know better.
//  3. Counted back from each slice: the offset Frame Reference Time (0054,1300) ends, by PS3.3 C.8.9.4, at the time that the
//     values occurred, which is when the activity has its mean over the frame. GE lets it end at the start of the frame.
//     All slices must lead to one time.
//  4. Acquisition Time, where it is the same in all slices while Frame Reference Time goes on from 0: then it is the scan's.
func (s *uptake) start(life float64) ([]time.Time, string, *refusal.Refusal) {
	all := func(t time.Time) []time.Time { return constant(len(s.headers), t) }
	d := s.headers[0]
	acquired, ok := s.acquired()
	if !ok {
		return nil, "", refusal.New(refusal.PETNoReferenceTime, "", "AcquisitionTime (0008,0032) is absent or malformed")
	}
	first, last := slices.MinFunc(acquired, time.Time.Compare), slices.MaxFunc(acquired, time.Time.Compare)
	for _, own := range []struct {
		group         uint16
		creator, name string
		element       byte
	}{
		{0x0071, "SIEMENS MED PT", "decay correction date and time of Siemens (0071,xx22)", 0x22},
		{0x0009, "GEMS_PETD_01", "scan date and time of GE (0009,xx0D)", 0x0D},
	} {
		t, ok := parseDateTime(private(d, own.group, own.creator, own.element), d)
		if !ok {
			continue
		}
		// De-identification shifts the dates that it knows, and private ones it does not.
		if away := first.Sub(t); away < -12*time.Hour || away > 12*time.Hour {
			s.warn("%s is not of the day of the acquisition: it is not used", own.name)
			continue
		}
		return all(t), own.name, nil
	}

	near := time.Duration(math.Max(2, float64(0.002*life)) * float64(time.Second)) // 0.14 % of the values
	counted, sure, why := s.countBack(acquired, life, near)
	series, ok := clock(d, dicom.SeriesDate, dicom.SeriesTime)
	if ok && !series.After(first.Add(sameClock)) && first.Sub(series) < 12*time.Hour {
		const from = "Series Time (0008,0031)"
		switch off := counted.Sub(series).Abs(); {
		case why != nil || off <= near:
			return all(series), from, nil
		case first.Equal(last) && first.Sub(series).Abs() <= sameClock:
			// GE writes the start of the scan into every slice, so that a part of a series does not count back.
			s.warn("Acquisition Time (0008,0032) of all slices is Series Time (0008,0031), though Frame Reference Time (0054,1300) says that they came later: Series Time is taken")
			return all(series), from, nil
		case !sure:
			s.warn("Series Time (0008,0031) is %.0f s from what Frame Reference Time (0054,1300) counts back to: Series Time is taken", off.Seconds())
			return all(series), from, nil
		}
		s.warn("Series Time (0008,0031) lies before the acquisition, and not where Frame Reference Time (0054,1300) and Decay Factor (0054,1321) of all slices count back to: the latter is taken")
		return all(counted), "counted back by Frame Reference Time (0054,1300)", nil
	}
	s.warn("Series Time (0008,0031) is not that of the scan: the series was made of other images, or lost its times")
	if why == nil {
		return all(counted), "counted back by Frame Reference Time (0054,1300)", nil
	}
	if least, most, ok := s.frameReference(); ok && first.Equal(last) && least < near && most-least > near {
		return all(first), "Acquisition Time (0008,0032), the same in all slices", nil
	}
	return nil, "", why
}

// countBack is the start of the scan by Frame Reference Time of all slices. sure says that Decay Factor (0054,1321) of all
// slices agrees, which also tells the convention of Frame Reference Time.
func (s *uptake) countBack(acquired []time.Time, life float64, near time.Duration) (at time.Time, sure bool, why *refusal.Refusal) {
	none := func(format string, a ...any) (time.Time, bool, *refusal.Refusal) {
		return time.Time{}, false, refusal.New(refusal.PETNoReferenceTime, "", format, a...)
	}
	least, _, ok := s.frameReference()
	if !ok {
		return none("SeriesTime (0008,0031) is not that of the scan, and FrameReferenceTime (0054,1300) is absent")
	}
	ge := strings.HasPrefix(strings.ToUpper(s.headers[0].String(dicom.Manufacturer)), "GE")
	n := len(s.headers)
	offset, mean := make([]time.Duration, n), make([]time.Duration, n)
	durations, factors, byStart := true, true, 0
	for i, d := range s.headers {
		ms, _ := d.Float(dicom.FrameReferenceTime)
		offset[i] = seconds(ms / 1000)
		m, ok := meanTime(d, life)
		durations = durations && ok
		mean[i] = m
		// 1 is what those write who do not know it.
		f, ok := d.Float(dicom.DecayFactor)
		if factors = factors && ok && f > 0 && f < 1e6; !factors || f == 1 {
			factors = factors && f == 1 && offset[i]+m < near
			continue
		}
		decayed := seconds(life * features.Log2(f))
		a, b := (decayed - offset[i]).Abs(), (decayed - offset[i] - m).Abs()
		factors = min(a, b) <= near
		if b < a {
			byStart++
		} else {
			byStart--
		}
	}
	sure = factors && durations
	startOfFrame := ge || durations && least < mean[0]/2
	if sure && byStart != 0 {
		startOfFrame = byStart > 0
	}
	if !startOfFrame && !durations {
		return none("SeriesTime (0008,0031) is not that of the scan, and ActualFrameDuration (0018,1242), by which it could be counted back, is absent")
	}
	counted := make([]time.Time, n)
	for i := range counted {
		counted[i] = acquired[i].Add(-offset[i])
		if !startOfFrame {
			counted[i] = counted[i].Add(mean[i])
		}
	}
	slices.SortFunc(counted, time.Time.Compare)
	if counted[n-1].Sub(counted[0]) > 2*near {
		return none("SeriesTime (0008,0031) is not that of the scan, and the slices count back by FrameReferenceTime (0054,1300) to different times")
	}
	return counted[n/2], sure, nil
}

// frameReference is the least and the greatest Frame Reference Time; false where a slice has none.
func (s *uptake) frameReference() (least, most time.Duration, ok bool) {
	for i, d := range s.headers {
		ms, ok := d.Float(dicom.FrameReferenceTime)
		if !ok || !(math.Abs(ms) < 1e9) {
			return 0, 0, false
		}
		if t := seconds(ms / 1000); i == 0 {
			least, most = t, t
		} else {
			least, most = min(least, t), max(most, t)
		}
	}
	return least, most, true
}

// during is when the values of slices occurred that are not decay-corrected: each at the mean activity of its frame.
func (s *uptake) during(life float64) ([]time.Time, string, *refusal.Refusal) {
	at, ok := s.acquired()
	if !ok {
		return nil, "", refusal.New(refusal.PETNoReferenceTime, "", "AcquisitionTime (0008,0032) is absent or malformed")
	}
	for i, d := range s.headers {
		m, ok := meanTime(d, life)
		if !ok {
			return nil, "", refusal.New(refusal.PETNoReferenceTime, "", "ActualFrameDuration (0018,1242) is absent or not positive")
		}
		at[i] = at[i].Add(m)
	}
	return at, "Acquisition Time (0008,0032) and Actual Frame Duration (0018,1242), Decay Correction (0054,1102) NONE", nil
}

// meanTime is the time from the start of a frame until the activity is what it is in the mean over the frame: with λ = ln 2/T½
// and a frame of the length t it is ln(λt/(1-exp(-λt)))/λ, a little less than half.
func meanTime(d *dicom.DataSet, life float64) (time.Duration, bool) {
	ms, ok := d.Float(dicom.ActualFrameDuration)
	if !ok || !(ms > 0 && ms < 1e9) {
		return 0, false
	}
	lives := ms / 1000 / life
	if lives < 1e-6 {
		return seconds(ms / 2000), true
	}
	return seconds(life * features.Log2(float64(math.Ln2*lives)/(1-exp2(-lives)))), true
}

// enhancedStart is Decay Correction DateTime (0018,9701) of an enhanced image, PS3.3 C.8.22.3.
func (s *uptake) enhancedStart() ([]time.Time, string, *refusal.Refusal) {
	at := make([]time.Time, len(s.headers))
	for i, d := range s.headers {
		in := d.Within(dicom.DecayCorrectionDateTime)
		t, ok := parseDateTime(in.String(dicom.DecayCorrectionDateTime), d)
		if !ok {
			return nil, "", refusal.New(refusal.PETNoReferenceTime, "", "DecayCorrectionDateTime (0018,9701) is absent or malformed")
		}
		at[i] = t
	}
	return at, "Decay Correction DateTime (0018,9701)", nil
}

// enhancedFrames is Frame Reference DateTime (0018,9151) of an enhanced image that is not decay-corrected. Which frame a slice
// is cannot be told here, so that they must all be of one time.
func (s *uptake) enhancedFrames() ([]time.Time, string, *refusal.Refusal) {
	var at time.Time
	for d := range distinct(s.headers) {
		for _, g := range d.Seq(dicom.PerFrameFunctionalGroupsSequence) {
			for _, c := range g.Seq(dicom.FrameContentSequence) {
				t, ok := parseDateTime(c.String(dicom.FrameReferenceDateTime), d)
				switch {
				case !ok:
					return nil, "", refusal.New(refusal.PETNoReferenceTime, "", "FrameReferenceDateTime (0018,9151) is absent or malformed")
				case at.IsZero():
					at = t
				case !at.Equal(t):
					return nil, "", refusal.New(refusal.PETDecay, "", "DecayCorrected (0018,9758) is NO, and FrameReferenceDateTime (0018,9151) differs between the frames")
				}
			}
		}
	}
	if at.IsZero() {
		return nil, "", refusal.New(refusal.PETNoReferenceTime, "", "FrameReferenceDateTime (0018,9151) is absent or malformed")
	}
	return constant(len(s.headers), at), "Frame Reference DateTime (0018,9151)", nil
}

// acquired is when the acquisition of each slice began.
func (s *uptake) acquired() ([]time.Time, bool) {
	at := make([]time.Time, len(s.headers))
	for i, d := range s.headers {
		t, ok := clock(d, dicom.AcquisitionDate, dicom.AcquisitionTime)
		if !ok {
			t, ok = parseDateTime(d.String(dicom.AcquisitionDateTime), d)
		}
		if !ok {
			return nil, false
		}
		at[i] = t
	}
	return at, true
}

// injection is when the tracer was injected: Radiopharmaceutical Start DateTime (0018,1078), or the retired Start Time
// (0018,1072), which has no date and is that of the day, or of the night, before the scan.
func (s *uptake) injection(tracer *dicom.DataSet, life float64, scan []time.Time) (time.Time, *refusal.Refusal) {
	d := s.headers[0]
	first := slices.MinFunc(scan, time.Time.Compare)
	before := func(t time.Time) time.Time { // the last time the clock showed t
		day := time.Date(first.Year(), first.Month(), first.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
		if day.After(first.Add(injectAfter)) {
			day = day.AddDate(0, 0, -1)
		}
		return day
	}
	at, ok := parseDateTime(tracer.String(dicom.RadiopharmaceuticalStartDateTime), d)
	if !ok {
		at, ok = parseDateTime(private(d, 0x0009, "GEMS_PETD_01", 0x3B), d)
	}
	if ok {
		past := first.Sub(at)
		if past >= -injectAfter && past.Seconds() <= mostLives*life || life >= longLived {
			return at, nil
		}
		s.warn("Radiopharmaceutical Start DateTime (0018,1078) and the times of the scan are not of one day: its time is taken for that before the scan")
		return before(at), nil
	}
	since, ok := parseTime(tracer.String(dicom.RadiopharmaceuticalStartTime))
	if !ok {
		return time.Time{}, refusal.New(refusal.PETNoInjectionTime, "", "RadiopharmaceuticalStartDateTime (0018,1078) and RadiopharmaceuticalStartTime (0018,1072) are absent or malformed")
	}
	if life >= longLived {
		return time.Time{}, refusal.New(refusal.PETNoInjectionTime, "", "RadiopharmaceuticalStartDateTime (0018,1078) is absent, and with a half life this long RadiopharmaceuticalStartTime (0018,1072) may be that of any day")
	}
	at = before(time.Time{}.Add(since))
	if at.Day() != first.Day() {
		s.warn("Radiopharmaceutical Start Time (0018,1072) is later than the scan: it is that of the day before")
	}
	return at, nil
}

// private is the text of a private element. Some programs drop the private creator and leave the element in the block where
// it was, mostly the first.
func private(d *dicom.DataSet, group uint16, creator string, element byte) string {
	t, ok := d.Private(group, creator, element)
	if !ok && !d.Has(dicom.Tag(group)<<16|0x0010) {
		t = dicom.Tag(group)<<16 | 0x1000 | dicom.Tag(element)
	}
	if e := d.Element(t); e == nil || e.VR != dicom.UN {
		return d.String(t)
	}
	return strings.Trim(string(d.Bytes(t)), " \x00") // Implicit VR, which has no dictionary of private elements
}

// distinct goes through the headers without the repetitions of an enhanced image.
func distinct(headers []*dicom.DataSet) func(yield func(*dicom.DataSet) bool) {
	return func(yield func(*dicom.DataSet) bool) {
		for i, d := range headers {
			if (i == 0 || d != headers[i-1]) && !yield(d) {
				return
			}
		}
	}
}

// clock is a date and a time of a header on the clock of the scanner. Where the date is gone, another one of the series has
// to do: only differences count.
func clock(d *dicom.DataSet, date, tm dicom.Tag) (time.Time, bool) {
	since, ok := parseTime(d.String(tm))
	if !ok {
		return time.Time{}, false
	}
	for _, t := range []dicom.Tag{date, dicom.SeriesDate, dicom.AcquisitionDate, dicom.StudyDate} {
		if day, ok := parseDate(d.String(t)); ok {
			return day.Add(since), true
		}
	}
	return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(since), true
}

// parseDate reads DA, PS3.5 6.2, and its form before 1993 with points.
func parseDate(s string) (time.Time, bool) {
	s = strings.ReplaceAll(s, ".", "")
	t, err := time.Parse("20060102", s)
	return t, err == nil && t.Year() >= 1900
}

// parseTime reads TM, PS3.5 6.2, and its form before 1993 with colons: the time since midnight.
func parseTime(s string) (time.Duration, bool) {
	whole, fraction, dot := strings.Cut(strings.ReplaceAll(s, ":", ""), ".")
	if len(whole) < 2 || len(whole) > 6 || len(whole)%2 != 0 || dot && (len(whole) != 6 || len(fraction) > 9) || !digits(whole+fraction) {
		return 0, false
	}
	part := func(i int) time.Duration {
		if i >= len(whole) {
			return 0
		}
		return time.Duration(10*int(whole[i]-'0') + int(whole[i+1]-'0'))
	}
	h, m, sec := part(0), part(2), part(4)
	if h > 23 || m > 59 || sec > 60 { // 60 is a leap second
		return 0, false
	}
	ns, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	return h*time.Hour + m*time.Minute + sec*time.Second + time.Duration(ns), true
}

// parseDateTime reads DT, PS3.5 6.2, with hours at least. A time with an offset from UTC is put on the clock of the other times
// of the header, which is that of Timezone Offset From UTC (0008,0201); without that it is left as it is written.
func parseDateTime(s string, d *dicom.DataSet) (time.Time, bool) {
	zone := ""
	if i := strings.LastIndexAny(s, "+-"); i > 0 {
		s, zone = s[:i], s[i:]
	}
	if len(s) < 10 {
		return time.Time{}, false
	}
	day, ok := parseDate(s[:8])
	if !ok {
		return time.Time{}, false
	}
	since, ok := parseTime(s[8:])
	if !ok {
		return time.Time{}, false
	}
	t := day.Add(since)
	if zone != "" {
		theirs, ok := parseZone(zone)
		if !ok {
			return time.Time{}, false
		}
		if ours, ok := parseZone(d.String(dicom.TimezoneOffsetFromUTC)); ok {
			t = t.Add(ours - theirs)
		}
	}
	return t, true
}

// parseZone reads an offset from UTC, PS3.5 6.2 DT: +0130.
func parseZone(s string) (time.Duration, bool) {
	if len(s) != 5 || s[0] != '+' && s[0] != '-' || !digits(s[1:]) {
		return 0, false
	}
	n, _ := strconv.Atoi(s[1:])
	d := time.Duration(n/100)*time.Hour + time.Duration(n%100)*time.Minute
	if d > 14*time.Hour || n%100 > 59 {
		return 0, false
	}
	if s[0] == '-' {
		d = -d
	}
	return d, true
}

func digits(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }) < 0
}

func seconds(s float64) time.Duration { return time.Duration(math.Round(s * 1e9)) }

func ones(n int) []float64 { return constant(n, 1.0) }

func constant[T any](n int, v T) []T {
	s := make([]T, n)
	for i := range s {
		s[i] = v
	}
	return s
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 10, 64) }

func factorText(f []float64) string {
	least, most := slices.Min(f), slices.Max(f)
	if least == most {
		return "factor " + strconv.FormatFloat(least, 'g', 6, 64)
	}
	return fmt.Sprintf("factors %.6g to %.6g", least, most)
}

// The standard library's Exp2 may be written in assembly on one processor and not on another, so that its last bits differ. This
// does not, nor does features.Log2.

// exp2 is 2 to the power x, 0 below -1000.
func exp2(x float64) float64 {
	if x < -1000 {
		return 0
	}
	n := math.Round(x)
	r := float64((x - n) * math.Ln2) // |r| < 0.35: the 18th term of the series is below 2⁻⁸⁰
	sum := 1.0
	for k := 18; k >= 1; k-- {
		sum = 1 + float64(r/float64(k)*sum)
	}
	return math.Ldexp(sum, int(n))
}
