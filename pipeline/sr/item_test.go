package sr

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/radnode/radnode/dimse/dicom"
)

var allTypes = []valueType{container, text, code, num, dateTime, date, timeOfDay, uidRef, pName, image, composite, waveform,
	sCoord, sCoord3D, tCoord}

var allRelationships = []relationship{contains, hasObsContext, hasAcqContext, hasConceptMod, hasProperties, inferredFrom, selectedFrom}

func TestRelationshipConstraints(t *testing.T) {
	n := 0
	for _, source := range allTypes {
		for _, rel := range allRelationships {
			for _, target := range allTypes {
				if allowed(source, rel, target) {
					n++
				}
			}
		}
	}
	// DCMTK's checker for this SOP class (dsrc3dcc.cc) allows as many:
	// 15 + 4·9 + 5·9 + 15·2 + 3·15 + 7 + 3·15 + 1 + 4.
	if n != 228 {
		t.Errorf("%d combinations allowed, want 228", n)
	}
	for _, c := range []struct {
		source valueType
		rel    relationship
		target valueType
		want   bool
	}{
		{num, hasConceptMod, code, true},
		{num, inferredFrom, num, true},
		{image, hasAcqContext, code, true},
		{composite, hasProperties, text, false}, // DCMTK cannot parse a file that has it
		{num, contains, num, false},
		{container, hasObsContext, container, false},
		{container, hasConceptMod, num, false},
		{code, hasAcqContext, code, false},
		{container, "", text, false},
	} {
		if got := allowed(c.source, c.rel, c.target); got != c.want {
			t.Errorf("%s %s %s: %v, want %v", c.source, c.rel, c.target, got, c.want)
		}
	}
}

func TestCheckNamesTheItem(t *testing.T) {
	name := dcm("1", "One")
	for want, spoil := range map[string]func(*item){
		"CONTAINER (1,DCM,\"One\") INFERRED FROM TEXT": func(r *item) { r.add(inferredFrom, newText(name, "x")) },
		"TEXT (1,DCM,\"One\"): the value is empty":     func(r *item) { r.add(contains, newText(name, "")) },
		"UIDREF (1,DCM,\"One\"): UID":                  func(r *item) { r.add(contains, newUID(name, "1.2.")) },
		"concept name":                                 func(r *item) { r.add(contains, newText(Code{}, "x")) },
		"control character":                            func(r *item) { r.add(contains, newCode(name, Code{"a\x1b", "DCM", "A"})) },
		"16 characters":                                func(r *item) { r.add(contains, newCode(name, Code{"a", "ABCDEFGHIJKLMNOPQ", "A"})) },
		"value type":                                   func(r *item) { r.add(contains, &item{vt: sCoord, name: name}) },
		"valid SOP Class UID":                          func(r *item) { r.add(contains, &item{vt: composite}) },
	} {
		root := newContainer(name, "")
		spoil(root)
		if err := root.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that says %s", err, want)
		}
	}
}

// Numeric Value is what most readers show: it fits its 16 bytes and loses no
// more than they force it to.
func TestNumericValueFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Float64Range(-1e308, 1e308).Draw(t, "v")
		d := newNum(dcm("1", "One"), v, Unit("1")).encode().Seq(dicom.MeasuredValueSequence)[0]
		s := d.String(dicom.NumericValue)
		back, err := strconv.ParseFloat(s, 64)
		if err != nil || len(s) > 16 || strings.Contains(s, "+") {
			t.Fatalf("%v is written as %q: %v", v, s, err)
		}
		// A sign, a point, an exponent of five characters leave nine digits.
		if math.Abs(back-v) > math.Abs(v)*1e-8 {
			t.Fatalf("%v is written as %q", v, s)
		}
		if fd, ok := d.Float(dicom.FloatingPointValue); !ok || math.Float64bits(fd) != math.Float64bits(v) {
			t.Fatalf("Floating Point Value of %x is %x", v, fd)
		}
	})
}

func genString(most int) *rapid.Generator[string] {
	return rapid.StringOfN(rapid.RuneFrom(nil, unicode.Latin, unicode.Han, unicode.Greek, unicode.Digit), 1, most, -1)
}

func genCode(t *rapid.T) Code {
	return Code{genString(30).Draw(t, "value"), genString(16).Draw(t, "scheme"), genString(64).Draw(t, "meaning")}
}

func genUID(t *rapid.T) string {
	return "2.25." + strconv.Itoa(rapid.IntRange(1, 1<<30).Draw(t, "uid"))
}

// genItem draws a tree that check accepts.
func genItem(t *rapid.T, vt valueType, depth int) *item {
	it := &item{vt: vt, name: genCode(t)}
	switch vt {
	case container:
		it.template = rapid.SampledFrom([]string{"", "1411"}).Draw(t, "template")
	case code:
		it.code = genCode(t)
	case num:
		it.value, it.unit = rapid.Float64Range(-1e308, 1e308).Draw(t, "number"), genCode(t)
	case uidRef:
		it.text = genUID(t)
	case date:
		it.text = "20260102"
	case timeOfDay:
		it.text = "030405"
	case dateTime:
		it.text = "20260102030405"
	case image, composite:
		it.ref = Instance{genUID(t), genUID(t)}
		if vt == image {
			it.segment = rapid.IntRange(0, 65535).Draw(t, "segment")
		}
	default:
		it.text = genString(60).Draw(t, "text")
	}
	if depth == 0 {
		return it
	}
	for range rapid.IntRange(0, 4).Draw(t, "children") {
		rel := rapid.SampledFrom(allRelationships).Draw(t, "relationship")
		child := rapid.SampledFrom(allTypes[:11]).Draw(t, "value type")
		if allowed(vt, rel, child) {
			it.add(rel, genItem(t, child, depth-1))
		}
	}
	return it
}

// Whatever check accepts can be encoded, and reads back as it was.
func TestTreesReadBackAsWritten(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		root := genItem(rt, container, 4)
		if err := root.check(); err != nil {
			rt.Fatal(err)
		}
		d := root.encode()
		d.SetString(dicom.SOPClassUID, dicom.EnhancedSRStorage)
		d.SetString(dicom.SOPInstanceUID, "2.25.1")
		got, err := parse(read(t, file(t, d)), 0)
		if err != nil {
			rt.Fatal(err)
		}
		if diff := cmp.Diff(root, got, cmp.AllowUnexported(item{})); diff != "" {
			rt.Fatal(diff)
		}
	})
}

// A fuzzed name in every place that takes one from outside either is refused or
// gives a document that encodes and reads back.
func TestForeignStringsNeverSpoilTheDocument(t *testing.T) {
	base := sample(t)
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.String().Draw(rt, "name")
		r := base
		r.SeriesDescription = s
		r.Summary = []string{s}
		r.Algorithm.Parameters = []string{s}
		r.ProcedureReported = []Code{{"1", "99X", s}}
		g := base.Groups[0]
		g.TrackingIdentifier, g.Finding.Meaning, g.Comments = s, s, []string{s}
		r.Groups = []Group{g}
		d, err := New(r)
		if err != nil {
			return
		}
		got, err := Measurements(read(t, file(t, d)))
		if err != nil || len(got) != 1 || got[0].TrackingIdentifier != dicom.CleanText(s) {
			rt.Fatalf("%+v, %v", got, err)
		}
	})
}

// Numeric Value is rounded where that is asked for, and never before the point; Floating Point Value keeps all bits.
func TestSignificant(t *testing.T) {
	for _, c := range []struct {
		value  float64
		digits int
		want   string
	}{
		{12.3456789, 5, "12.346"}, {-0.000123456, 3, "-0.000123"}, {1234567.89, 5, "1234568"}, {99999.6, 5, "100000"}, {0, 5, "0"},
		{math.MaxFloat64, 5, "1.79769313e308"}, {1.0 / 3, 0, "0.33333333333333"},
	} {
		it := newNum(Code{"Q4LE", IBSI, "Mean intensity"}, c.value, Unit("1"))
		it.digits = c.digits
		m := it.encode().Seq(dicom.MeasuredValueSequence)[0]
		if v, _ := m.Float(dicom.FloatingPointValue); m.String(dicom.NumericValue) != c.want || v != c.value {
			t.Errorf("%v in %d digits: Numeric Value %q, want %q, and Floating Point Value %v", c.value, c.digits, m.String(dicom.NumericValue), c.want, v)
		}
	}
}
