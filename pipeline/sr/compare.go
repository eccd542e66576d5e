package sr

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// A Comparison is one value of two reports beside each other.
type Comparison struct {
	Region        string // Tracking Identifier; both, where they differ
	Concept       Code
	How           string // what the report says of this value alone, and its aggregation
	Unit          Code
	First, Second *Measurement // nil where the report has no such value
	// Difference is Second - First and Relative that over the size of First. NaN where
	// there is no such number: a value is missing, the units differ, or First is 0.
	Difference, Relative float64
	Note                 string // what differs besides the value
	Parameters           bool   // the two were made with other parameters; Note names them
}

// SameUnit says whether both reports have the value in the same unit.
func (c Comparison) SameUnit() bool {
	return c.First != nil && c.Second != nil && c.First.Unit.sameUnit(c.Second.Unit)
}

// Equal says whether both reports have the same bits in the same unit.
func (c Comparison) Equal() bool {
	return c.SameUnit() &&
		(math.Float64bits(c.First.Value) == math.Float64bits(c.Second.Value) || math.IsNaN(c.First.Value) && math.IsNaN(c.Second.Value))
}

// Compare pairs the values of two reports of any program, in the order of the
// first; what only the second has follows the region it belongs to.
//
// Regions are paired by Tracking Unique Identifier, else by Tracking Identifier and
// source series, else by Tracking Identifier alone, else by their order where they
// have a quantity in common. Within a region two values are the same quantity when concept, derivation and
// aggregation agree. Of several the one with the same parameters is taken, else
// the one where fewest differ, and the note says which. Retired codes are equal
// to those in their place.
func Compare(first, second *Content) []Comparison {
	a, b := regionsOf(first), regionsOf(second)
	pairRegions(a, b)
	var out []Comparison
	for _, r := range a {
		out = append(out, r.compare()...)
	}
	for _, r := range b {
		if r.other == nil {
			out = append(out, (&regionValues{other: r}).compare()...)
		}
	}
	return out
}

// maxAlternatives bounds the search for a partner among values of one quantity in
// one region. Reports have a handful; the input may come from anyone.
const maxAlternatives = 64

// regionValues is what a report has measured in one region, in however many groups.
type regionValues struct {
	name, uid, series string
	values            []*value
	other             *regionValues
	note              string // how the region was paired, where that is in doubt
}

type value struct {
	Measurement
	quantity string      // equal for two values of the same quantity: concept, derivation and aggregation
	loose    string      // the same without the aggregation of the group, which says nothing of a volume or a mean
	stated   bool        // the group has an aggregation
	how      [][2]string // every other step and parameter, sorted: name, and what was chosen
	key      string      // equal for two values that also agree in unit, steps and parameters
	words    string
	taken    bool
}

func regionsOf(c *Content) []*regionValues {
	var all []*regionValues
	index := map[string]*regionValues{}
	for i, g := range c.Groups {
		key := "uid " + g.TrackingUID
		switch {
		case g.TrackingUID != "":
		case g.TrackingIdentifier != "":
			key = "name " + g.TrackingIdentifier + "\n" + g.series()
		default:
			key = fmt.Sprint("group ", i)
		}
		r := index[key]
		if r == nil {
			r = &regionValues{name: cmp.Or(g.TrackingIdentifier, g.Finding.Meaning, fmt.Sprintf("group %d", i+1)), uid: g.TrackingUID, series: g.series()}
			index[key] = r
			all = append(all, r)
		}
		algorithm := g.Algorithm
		if algorithm.zero() {
			algorithm = c.Algorithm
		}
		for _, m := range g.Measurements {
			r.values = append(r.values, newValue(m, g, algorithm))
		}
	}
	return all
}

// series is the images that the group was measured on.
func (g MeasurementGroup) series() string {
	if g.SourceSeries != "" {
		return g.SourceSeries
	}
	for _, r := range g.References {
		if r.SeriesInstanceUID != "" {
			return r.SeriesInstanceUID
		}
	}
	for _, r := range g.Regions {
		if r.ValueType == string(sCoord) && r.Object.SeriesInstanceUID != "" {
			return r.Object.SeriesInstanceUID
		}
	}
	return ""
}

var (
	derivation         = dcm("121401", "Derivation")
	featureAggregation = Code{"5QB6", IBSI, "Feature aggregation"}
)

// aggregations are the IBSI's ways to make one value of a texture matrix, whatever
// the name of the step that chooses one.
var aggregations = []string{"DHQ4", "3IDG", "BTW3", "SUJT", "JJUI", "ZW7Z", "ITBB", "IAZD", "8QNN", "62GR", "KOBO"}

// isKind says whether a choice makes another quantity of the concept, as the mean
// and the maximum of the uptake are two.
func isKind(name, method Code) bool {
	return name.is(derivation) || name.is(featureAggregation) || name.same(findingSite) || name.same(laterality) ||
		method.Scheme == IBSI && slices.Contains(aggregations, method.Value)
}

func newValue(m Measurement, g MeasurementGroup, algorithm Algorithm) *value {
	v := &value{Measurement: m}
	concept := m.Concept.canonical()
	kind := []string{concept.Scheme + " " + concept.Value}
	var words, ofGroup []string
	choose := func(name, method Code, chosen string, itsOwn bool) {
		isKind := isKind(name, method)
		if isKind || itsOwn {
			words = append(words, cmp.Or(name.Meaning, name.Value)+": "+chosen)
		}
		if isKind {
			kind = append(kind, method.canonical().Scheme+" "+method.canonical().Value)
		} else {
			v.how = append(v.how, [2]string{cmp.Or(name.Meaning, name.Value), chosen})
		}
	}
	for _, p := range m.Modifiers {
		choose(p.Name, p.Value, cmp.Or(p.Value.Meaning, p.Value.Value), true)
	}
	for _, p := range m.Parameters {
		choose(p.Concept, Code{}, p.String(), true)
	}
	for _, s := range g.Steps {
		chosen := cmp.Or(s.Method.Meaning, s.Method.Value, s.Text)
		for _, n := range s.Numbers {
			chosen += fmt.Sprintf(", %s %s", cmp.Or(n.Concept.Meaning, n.Concept.Value), n)
		}
		if isKind(s.Name, s.Method) {
			ofGroup = append(ofGroup, s.Method.canonical().Scheme+" "+s.Method.canonical().Value)
		}
		choose(s.Name, s.Method, chosen, false)
	}
	if !g.Method.zero() {
		choose(measurementMethod, g.Method, cmp.Or(g.Method.Meaning, g.Method.Value), false)
	}
	if len(g.Steps) == 0 && len(algorithm.Parameters) > 0 { // the whole configuration, in words
		choose(algorithmParameters, Code{}, strings.Join(algorithm.Parameters, "; "), false)
	}
	kindOfItsOwn := slices.DeleteFunc(slices.Clone(kind), func(k string) bool { return slices.Contains(ofGroup, k) })
	slices.Sort(kindOfItsOwn[1:])
	v.loose, v.stated = strings.Join(kindOfItsOwn, "\n"), len(ofGroup) > 0
	slices.Sort(kind[1:])
	slices.SortFunc(v.how, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	v.quantity = strings.Join(kind, "\n")
	v.key = fmt.Sprintf("%s\n%s\n%q", v.quantity, m.Unit.canonicalUnit().Value, v.how)
	v.words = strings.Join(words, "; ")
	return v
}

func (p Parameter) String() string {
	return strings.TrimSpace(fmt.Sprint(p.Value) + " " + unitText(p.Unit))
}

func pairRegions(a, b []*regionValues) {
	pair := func(by func(x *regionValues) string, note string) {
		waiting := map[string][]*regionValues{}
		for _, y := range b {
			if k := by(y); y.other == nil && k != "" {
				waiting[k] = append(waiting[k], y)
			}
		}
		for _, x := range a {
			if x.other != nil {
				continue
			}
			k := by(x)
			if k == "" || len(waiting[k]) == 0 {
				continue
			}
			x.other, x.note = waiting[k][0], note
			x.other.other = x
			waiting[k] = waiting[k][1:]
		}
	}
	pair(func(x *regionValues) string { return x.uid }, "")
	pair(func(x *regionValues) string { return x.name + "\n" + x.series }, "")
	pair(func(x *regionValues) string { return x.name }, "regions paired by name: the source series differ")
	unpaired := func(all []*regionValues) []*regionValues {
		return slices.DeleteFunc(slices.Clone(all), func(r *regionValues) bool { return r.other != nil })
	}
	left, right := unpaired(a), unpaired(b)
	for i := range min(len(left), len(right)) {
		if left[i].sharesQuantity(right[i]) {
			left[i].other, right[i].other, left[i].note = right[i], left[i], "regions paired by order"
		}
	}
}

func (r *regionValues) sharesQuantity(o *regionValues) bool {
	mine := map[string]bool{}
	for _, v := range r.values {
		mine[v.quantity] = true
	}
	return slices.ContainsFunc(o.values, func(v *value) bool { return mine[v.quantity] })
}

// compare gives the rows of a region and the one it is paired with. The region
// without values stands for what the first report does not have.
func (r *regionValues) compare() []Comparison {
	other := r.other
	if other == nil {
		other = &regionValues{}
	}
	name := cmp.Or(r.name, other.name)
	if r.name != "" && other.name != "" && r.name != other.name {
		name = r.name + " / " + other.name
	}
	partner := make([]*value, len(r.values))
	same := map[string][]*value{}
	for _, y := range other.values {
		same[y.key] = append(same[y.key], y)
	}
	for i, x := range r.values {
		if there := same[x.key]; len(there) > 0 {
			partner[i], there[0].taken = there[0], true
			same[x.key] = there[1:]
		}
	}
	left := map[string][]*value{}
	for _, y := range other.values {
		if !y.taken {
			left[y.quantity] = append(left[y.quantity], y)
		}
	}
	for i, x := range r.values {
		there := left[x.quantity]
		if partner[i] != nil || len(there) == 0 {
			continue
		}
		best, fewest := 0, math.MaxInt
		for k, y := range there[:min(len(there), maxAlternatives)] {
			if n := x.distance(y); n < fewest {
				best, fewest = k, n
			}
		}
		partner[i], there[best].taken = there[best], true
		copy(there[1:best+1], there[:best])
		left[x.quantity] = there[1:]
	}
	notes := r.pairLoosely(other, partner)
	var out []Comparison
	for i, x := range r.values {
		out = append(out, comparison(name, x, partner[i], notes[i]))
	}
	for _, y := range other.values {
		if !y.taken {
			out = append(out, comparison(name, nil, y, r.note))
		}
	}
	return out
}

// pairLoosely finds partners where one report states an aggregation and the other none, as for the volume in a report with
// texture and in one without. Either must have one such value alone. It returns a note for each value.
func (r *regionValues) pairLoosely(other *regionValues, partner []*value) []string {
	notes := make([]string, len(r.values))
	mine, theirs := map[string]int{}, map[string][]*value{}
	for i, x := range r.values {
		if notes[i] = r.note; partner[i] == nil {
			mine[x.loose]++
		}
	}
	for _, y := range other.values {
		if !y.taken {
			theirs[y.loose] = append(theirs[y.loose], y)
		}
	}
	for i, x := range r.values {
		there := theirs[x.loose]
		if partner[i] != nil || mine[x.loose] != 1 || len(there) != 1 || x.stated == there[0].stated {
			continue
		}
		partner[i], there[0].taken = there[0], true
		note := "aggregation is stated in the first alone"
		if !x.stated {
			note = "aggregation is stated in the second alone"
		}
		if notes[i] != "" {
			note = notes[i] + "; " + note
		}
		notes[i] = note
	}
	return notes
}

// distance counts the steps and parameters that two values do not share.
func (v *value) distance(o *value) (n int) {
	a, b := v.how, o.how
	for len(a) > 0 && len(b) > 0 {
		switch c := slices.Compare(a[0][:], b[0][:]); {
		case c == 0:
			a, b = a[1:], b[1:]
		case c < 0:
			a, n = a[1:], n+1
		default:
			b, n = b[1:], n+1
		}
	}
	return n + len(a) + len(b)
}

// differences names the steps and parameters in which two values differ.
func (v *value) differences(o *value) []string {
	var all []string
	left := slices.Clone(o.how)
	var mine [][2]string
	for _, h := range v.how {
		if i := slices.Index(left, h); i >= 0 {
			left = slices.Delete(left, i, i+1)
		} else {
			mine = append(mine, h)
		}
	}
	for _, h := range mine {
		if i := slices.IndexFunc(left, func(l [2]string) bool { return l[0] == h[0] }); i >= 0 {
			all = append(all, fmt.Sprintf("%s: %s / %s", h[0], h[1], left[i][1]))
			left = slices.Delete(left, i, i+1)
		} else {
			all = append(all, fmt.Sprintf("%s: %s / not stated", h[0], h[1]))
		}
	}
	for _, l := range left {
		all = append(all, fmt.Sprintf("%s: not stated / %s", l[0], l[1]))
	}
	return all
}

func comparison(region string, x, y *value, note string) Comparison {
	c := Comparison{Region: region, Difference: math.NaN(), Relative: math.NaN()}
	there := x
	if there == nil {
		there = y
	}
	c.Concept, c.How, c.Unit = there.Concept, there.words, there.Unit
	var notes []string
	if note != "" {
		notes = append(notes, note)
	}
	switch {
	case y == nil:
		c.First = &x.Measurement
		notes = append(notes, "only in first")
	case x == nil:
		c.Second = &y.Measurement
		notes = append(notes, "only in second")
	default:
		c.First, c.Second = &x.Measurement, &y.Measurement
		if !x.Unit.sameUnit(y.Unit) {
			notes = append(notes, fmt.Sprintf("units differ: %s / %s", x.Unit.Value, y.Unit.Value))
		} else {
			c.Difference = y.Value - x.Value
			switch {
			case c.Difference == 0:
				c.Relative = 0
			case x.Value != 0:
				c.Relative = c.Difference / math.Abs(x.Value)
			}
		}
		for i, m := range []*Measurement{c.First, c.Second} {
			if math.IsNaN(m.Value) {
				notes = append(notes, fmt.Sprintf("no value in %s", []string{"first", "second"}[i]))
			}
		}
		switch differ := x.differences(y); {
		case len(differ) == 0:
		case len(x.how) == 0:
			notes = append(notes, "parameters stated in second alone")
		case len(y.how) == 0:
			notes = append(notes, "parameters stated in first alone")
		default:
			c.Parameters = true
			notes = append(notes, "parameters differ: "+strings.Join(differ, "; "))
		}
	}
	c.Note = strings.Join(notes, ", ")
	return c
}
