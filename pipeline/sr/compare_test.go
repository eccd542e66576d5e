package sr

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
)

func content(t testing.TB, d *dicom.DataSet) *Content {
	t.Helper()
	c, err := Read(d)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// changed is the sample with the change, read back.
func changed(t testing.TB, change func(r *Report)) *Content {
	t.Helper()
	r := sample(t)
	change(&r)
	return content(t, make1(t, r))
}

func nothing(*Report) {}

func row(t testing.TB, all []Comparison, code string) Comparison {
	t.Helper()
	i := slices.IndexFunc(all, func(c Comparison) bool { return c.Concept.Value == code })
	if i < 0 {
		t.Fatalf("no row %s", code)
	}
	return all[i]
}

func TestCompareEqual(t *testing.T) {
	a := changed(t, nothing)
	all := Compare(a, a)
	if len(all) != 9 {
		t.Fatalf("%d rows, want 9", len(all))
	}
	for _, c := range all {
		if !c.Equal() || c.Note != "" || c.Difference != 0 || c.Relative != 0 || c.Parameters {
			t.Errorf("%+v", c)
		}
	}
	if c := row(t, all, "TU9B"); c.How != "Intensity discretisation: Fixed bin size; Feature aggregation: merged 3D directions; Bin width: 25 HU" {
		t.Errorf("how: %q", c.How)
	}
	// Dcmqi's nine values of SUVbw and those of one concept elsewhere are told apart by their derivation.
	b, err := os.ReadFile(shared(t, reportsOfOthers[0]...))
	if err != nil {
		t.Fatal(err)
	}
	d := content(t, read(t, b))
	reversed := *d
	reversed.Groups = slices.Clone(d.Groups)
	reversed.Groups[0].Measurements = slices.Clone(d.Groups[0].Measurements)
	slices.Reverse(reversed.Groups[0].Measurements)
	all = Compare(d, &reversed)
	if len(all) != 22 || slices.ContainsFunc(all, func(c Comparison) bool { return !c.Equal() || c.Note != "" }) {
		t.Errorf("%+v", all)
	}
}

func TestCompareDifferences(t *testing.T) {
	one := math.Nextafter(1, 2)
	a := changed(t, func(r *Report) {
		m := r.Groups[0].Measurements
		m[2].Value = 0  // C0JK
		m[6].Value = -4 // L0JK
		r.Groups[0].Measurements = append(m, measure(t, "NI2N", 1))
	})
	b := changed(t, func(r *Report) {
		m := r.Groups[0].Measurements
		m[0].Unit = Unit("cm3")                         // RNU0
		m[1].Value = math.Nextafter(m[1].Value, 1)      // 2PR5
		m[2].Value = 2                                  // C0JK
		m[6].Value = -5                                 // L0JK
		m[7].Parameters = slices.Clone(m[7].Parameters) // TU9B
		m[7].Parameters[0].Value = 10
		r.Groups[0].Measurements = append(m, measure(t, "ACUI", one))
	})
	all := Compare(a, b)
	if len(all) != 9+2 {
		t.Fatalf("%d rows", len(all))
	}
	if c := row(t, all, "RNU0"); c.Equal() || c.SameUnit() || c.Note != "units differ: mm3 / cm3" || !math.IsNaN(c.Difference) {
		t.Errorf("%+v", c)
	}
	if c := row(t, all, "2PR5"); c.Equal() || c.Difference != math.Nextafter(0.1+0.2, 1)-(0.1+0.2) || c.Relative != c.Difference/(0.1+0.2) || c.Note != "" {
		t.Errorf("%+v", c)
	}
	if c := row(t, all, "C0JK"); c.Difference != 2 || !math.IsNaN(c.Relative) {
		t.Errorf("%+v", c)
	}
	if c := row(t, all, "L0JK"); c.Difference != -1 || c.Relative != -0.25 {
		t.Errorf("%+v", c)
	}
	if c := row(t, all, "TU9B"); !c.Parameters || c.Note != "parameters differ: Bin width: 25 HU / 10 HU" || c.Difference != 0 {
		t.Errorf("%+v", c)
	}
	if c := row(t, all, "NI2N"); c.Second != nil || c.Note != "only in first" || c.First.Value != 1 {
		t.Errorf("%+v", c)
	}
	if c := row(t, all, "ACUI"); c.First != nil || c.Note != "only in second" || c.Second.Value != one || c.Region != `GTVp – rechts \ oben` {
		t.Errorf("%+v", c)
	}
	if i, j := slices.IndexFunc(all, func(c Comparison) bool { return c.Concept.Value == "ACUI" }),
		slices.IndexFunc(all, func(c Comparison) bool { return c.Concept.Value == "YEKZ" }); i > j {
		t.Error("a value of the second report does not follow its region")
	}
}

// Two groups of one region, as for two aggregations or two bin widths, are paired with their like.
func TestCompareGroupsOfOneRegion(t *testing.T) {
	step := func(name, method Code, numbers ...Parameter) Step {
		return Step{Name: name, Method: method, Numbers: numbers}
	}
	width := func(w float64) Step {
		return step(Code{"4R0B", IBSI, "Intensity discretisation"}, Code{"Q3RU", IBSI, "Fixed bin size"}, Parameter{Code{"w", "99X", "bin width"}, w, Unit("HU")})
	}
	aggregated := func(code string) Step { return step(featureAggregation, Code{code, IBSI, code}) }
	group := func(value float64, steps ...Step) MeasurementGroup {
		return MeasurementGroup{Group: Group{TrackingIdentifier: "GTV", TrackingUID: "2.25.1", Steps: steps, Measurements: []Measurement{measure(t, "TU9B", value)}}}
	}
	a := &Content{Groups: []MeasurementGroup{group(1, aggregated("IAZD"), width(25)), group(2, aggregated("ITBB"), width(25)), group(3, aggregated("IAZD"), width(10))}}
	b := &Content{Groups: []MeasurementGroup{group(3, aggregated("IAZD"), width(10)), group(2, aggregated("ITBB"), width(25)), group(1, aggregated("IAZD"), width(25))}}
	for _, c := range Compare(a, b) {
		if !c.Equal() || c.Note != "" || !strings.HasPrefix(c.How, "Feature aggregation: I") {
			t.Errorf("%+v", c)
		}
	}
	b.Groups = b.Groups[:2] // the width of 25 with IAZD is gone: the other is taken, and the note says so
	b.Groups[0].Steps = []Step{aggregated("IAZD"), width(12)}
	all := Compare(a, b)
	if len(all) != 3 {
		t.Fatalf("%+v", all)
	}
	if c := all[0]; c.Second.Value != 3 || !c.Parameters ||
		c.Note != "parameters differ: Intensity discretisation: Fixed bin size, bin width 25 HU / Fixed bin size, bin width 12 HU" {
		t.Errorf("%+v", c)
	}
	if c := all[2]; c.Second != nil || c.Note != "only in first" {
		t.Errorf("%+v", c)
	}
	// Of several the one where fewest differ.
	spacing := func(mm float64) Step {
		return step(Code{"VTM2", IBSI, "Interpolation"}, Code{}, Parameter{Code{"s", "99X", "spacing"}, mm, Unit("mm")})
	}
	all = Compare(&Content{Groups: []MeasurementGroup{group(1, width(25), spacing(1))}},
		&Content{Groups: []MeasurementGroup{group(2, width(10), spacing(2)), group(3, width(10), spacing(1)), group(4, spacing(2), width(11))}})
	if len(all) != 3 || all[0].Second.Value != 3 || !all[0].Parameters || strings.Contains(all[0].Note, "spacing") {
		t.Errorf("%+v", all)
	}
	// Another aggregation is another quantity.
	all = Compare(&Content{Groups: a.Groups[:1]}, &Content{Groups: a.Groups[1:2]})
	if len(all) != 2 || all[0].Note != "only in first" || all[1].Note != "only in second" {
		t.Errorf("%+v", all)
	}
	all = Compare(&Content{Groups: []MeasurementGroup{group(1, aggregated("new1"))}}, &Content{Groups: []MeasurementGroup{group(1, aggregated("new2"))}})
	if len(all) != 2 {
		t.Errorf("%+v", all)
	}
	// Steps that one report alone states are no difference that is known.
	all = Compare(&Content{Groups: []MeasurementGroup{group(1, width(25))}}, &Content{Groups: []MeasurementGroup{group(1)}})
	if len(all) != 1 || all[0].Parameters || all[0].Note != "parameters stated in first alone" {
		t.Errorf("%+v", all)
	}
	// Without steps the notation of the algorithm says it.
	x := &Content{Algorithm: Algorithm{Parameters: []string{"FBS:25"}}, Groups: []MeasurementGroup{group(1)}}
	y := &Content{Algorithm: Algorithm{Parameters: []string{"FBN:32"}}, Groups: []MeasurementGroup{group(1)}}
	if all = Compare(x, y); len(all) != 1 || all[0].Note != "parameters differ: Algorithm Parameters: FBS:25 / FBN:32" {
		t.Errorf("%+v", all)
	}
}

func TestComparePairsRegions(t *testing.T) {
	group := func(name, uid, series string, value float64) MeasurementGroup {
		return MeasurementGroup{Group: Group{TrackingIdentifier: name, TrackingUID: uid, SourceSeries: series,
			Measurements: []Measurement{measure(t, "RNU0", value)}}}
	}
	report := func(groups ...MeasurementGroup) *Content { return &Content{Groups: groups} }
	for _, c := range []struct {
		name   string
		a, b   *Content
		second []float64 // beside 1, 2, ...; 0 for none
		note   string    // of the first row
		region string
	}{
		{"by UID, whatever the name", report(group("A", "1", "s", 1), group("B", "2", "s", 2)), report(group("B", "1", "s", 10), group("A", "2", "s", 20)), []float64{10, 20}, "", "A / B"},
		{"by name and series", report(group("A", "1", "s", 1), group("A", "2", "t", 2)), report(group("A", "3", "t", 10), group("A", "4", "s", 20)), []float64{20, 10}, "", "A"},
		{"by name", report(group("A", "1", "s", 1)), report(group("B", "2", "s", 10), group("A", "3", "t", 20)), []float64{20}, "regions paired by name: the source series differ", "A"},
		{"of one name, in their order", report(group("A", "1", "s", 1), group("A", "2", "s", 2)), report(group("A", "3", "s", 10), group("A", "4", "s", 20)), []float64{10, 20}, "", "A"},
		{"by order", report(group("A", "1", "s", 1), group("B", "2", "s", 2)), report(group("C", "3", "s", 10), group("D", "4", "s", 20)), []float64{10, 20}, "regions paired by order", "A / C"},
		{"without names", report(group("", "", "", 1)), report(group("", "", "", 10)), []float64{10}, "", "group 1"},
		{"more in the first", report(group("A", "1", "s", 1), group("B", "2", "s", 2)), report(group("B", "2", "s", 20)), []float64{0, 20}, "only in first", "A"},
	} {
		all := Compare(c.a, c.b)
		for i, want := range c.second {
			if r := all[i]; r.First == nil || r.First.Value != float64(i+1) || (r.Second == nil) != (want == 0) || r.Second != nil && r.Second.Value != want {
				t.Errorf("%s: row %d %+v", c.name, i, r)
			}
		}
		if all[0].Note != c.note || all[0].Region != c.region {
			t.Errorf("%s: note %q, region %q", c.name, all[0].Note, all[0].Region)
		}
	}
}

// Retired codes and other spellings of a unit are the same quantity in the same unit.
func TestCompareRetiredCodes(t *testing.T) {
	of := func(m Measurement) *Content {
		return &Content{Groups: []MeasurementGroup{{Group: Group{TrackingUID: "1", Measurements: []Measurement{m}}}}}
	}
	derived := func(c Code) []CodePair { return []CodePair{{derivation, c}} }
	suv := dcm("126401", "SUVbw")
	for _, c := range []struct {
		a, b Measurement
		rows int
	}{
		{Measurement{Concept: dcm("128781", ""), Value: 1, Unit: Unit("1")}, Measurement{Concept: concept(t, "GYBY"), Value: 1, Unit: Unit("1")}, 1},
		{Measurement{Concept: Code{"G-D705", "SRT", "Volume"}, Value: 1, Unit: Unit("ml")}, Measurement{Concept: sct("118565006", "Volume"), Value: 1, Unit: Unit("cm3")}, 1},
		{Measurement{Concept: suv, Value: 1, Unit: Unit("{SUVbw}g/ml"), Modifiers: derived(Code{"R-00317", "SRT", "Mean"})},
			Measurement{Concept: suv, Value: 1, Unit: Unit("g/ml{SUVbw}"), Modifiers: derived(sct("373098007", "Mean"))}, 1},
		{Measurement{Concept: suv, Value: 1, Unit: Unit("1"), Modifiers: derived(sct("56851009", "Maximum"))}, Measurement{Concept: suv, Value: 1, Unit: Unit("1"), Modifiers: derived(sct("373098007", "Mean"))}, 2},
	} {
		all := Compare(of(c.a), of(c.b))
		if len(all) != c.rows || c.rows == 1 && (!all[0].Equal() || all[0].Note != "") {
			t.Errorf("%+v", all)
		}
	}
	all := Compare(of(Measurement{Concept: suv, Value: math.NaN()}), of(Measurement{Concept: suv, Value: 1}))
	if len(all) != 1 || all[0].Note != "no value in first" || all[0].Equal() {
		t.Errorf("%+v", all)
	}
}

// A report with very many values of one quantity is compared in reasonable time.
func TestCompareIsBounded(t *testing.T) {
	many := func(offset float64) *Content {
		g := MeasurementGroup{Group: Group{TrackingUID: "1"}}
		for i := range 20_000 {
			m := measure(t, "RNU0", 1)
			m.Parameters = []Parameter{{dcm("1", "p"), float64(i) + offset, Unit("1")}}
			g.Measurements = append(g.Measurements, m)
		}
		return &Content{Groups: []MeasurementGroup{g}}
	}
	if all := Compare(many(0), many(0.5)); len(all) != 20_000 {
		t.Errorf("%d rows", len(all))
	}
}

// A report without texture states no aggregation: its volume is compared with that of a report with texture, where either has one.
func TestCompareWithoutAggregation(t *testing.T) {
	group := func(value float64, steps ...Step) MeasurementGroup {
		return MeasurementGroup{Group: Group{TrackingIdentifier: "GTV", TrackingUID: "2.25.1", Steps: steps, Measurements: []Measurement{measure(t, "RNU0", value)}}}
	}
	merged := Step{Name: featureAggregation, Method: Code{"IAZD", IBSI, "merged"}}
	averaged := Step{Name: featureAggregation, Method: Code{"ITBB", IBSI, "averaged"}}
	with, without := &Content{Groups: []MeasurementGroup{group(5, merged)}}, &Content{Groups: []MeasurementGroup{group(5)}}
	for _, c := range []struct {
		a, b *Content
		note string
	}{{with, without, "aggregation is stated in the first alone"}, {without, with, "aggregation is stated in the second alone"}} {
		if all := Compare(c.a, c.b); len(all) != 1 || !all[0].Equal() || all[0].Note != c.note {
			t.Errorf("%+v, want %q", all, c.note)
		}
	}
	two := &Content{Groups: []MeasurementGroup{group(5, merged), group(6, averaged)}}
	if all := Compare(two, without); len(all) != 3 { // which of the two is not known
		t.Errorf("%+v", all)
	}
}
