package sr

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/radnode/radnode/dimse/dicom"
)

// maxDepth bounds the nesting that is read. Templates nest less than ten deep;
// the input may come from anyone.
const maxDepth = 64

// parse reads a content item and what is below it. It takes what is there: an
// unknown value type keeps its name, a missing value is empty, or NaN for NUM.
func parse(d *dicom.DataSet, depth int) (*item, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("sr: content items are nested more than %d deep", maxDepth)
	}
	it := &item{
		rel:  relationship(d.String(dicom.RelationshipType)),
		vt:   valueType(d.String(dicom.ValueType)),
		name: parseCode(d, dicom.ConceptNameCodeSequence),
	}
	switch it.vt {
	case container:
		if t := d.Seq(dicom.ContentTemplateSequence); len(t) > 0 {
			it.template = t[0].String(dicom.TemplateIdentifier)
		}
	case code:
		it.code = parseCode(d, dicom.ConceptCodeSequence)
	case num:
		it.value = math.NaN()
		if m := d.Seq(dicom.MeasuredValueSequence); len(m) > 0 {
			it.unit = parseCode(m[0], dicom.MeasurementUnitsCodeSequence)
			v, ok := m[0].Float(dicom.FloatingPointValue)
			if !ok {
				v, ok = m[0].Float(dicom.NumericValue)
			}
			if ok && !math.IsInf(v, 0) {
				it.value = v
			}
		}
	case image, composite, waveform:
		if r := d.Seq(dicom.ReferencedSOPSequence); len(r) > 0 {
			it.ref = Instance{r[0].String(dicom.ReferencedSOPClassUID), r[0].String(dicom.ReferencedSOPInstanceUID)}
			it.segment, _ = r[0].Int(dicom.ReferencedSegmentNumber)
		}
	case sCoord, sCoord3D:
		it.text = d.String(dicom.GraphicType)
	case "":
		// By-reference relationship, PS3.3 C.17.3.2.5: the item is another one of the tree.
		if at, err := d.Ints(dicom.ReferencedContentItemIdentifier); err == nil && len(at) > 0 {
			it.text = "item " + strings.Trim(strings.ReplaceAll(fmt.Sprint(at), " ", "."), "[]")
		}
	default:
		it.text = d.String(textTag[it.vt])
	}
	for _, c := range d.Seq(dicom.ContentSequence) {
		child, err := parse(c, depth+1)
		if err != nil {
			return nil, err
		}
		it.children = append(it.children, child)
	}
	return it, nil
}

func parseCode(d *dicom.DataSet, t dicom.Tag) Code {
	s := d.Seq(t)
	if len(s) == 0 {
		return Code{}
	}
	c := Code{
		Value:   s[0].String(dicom.CodeValue),
		Scheme:  s[0].String(dicom.CodingSchemeDesignator),
		Meaning: s[0].String(dicom.CodeMeaning),
	}
	for _, t := range []dicom.Tag{dicom.LongCodeValue, dicom.URNCodeValue} {
		if c.Value == "" {
			c.Value = s[0].String(t)
		}
	}
	return c
}

// retired are codes of SNOMED's old form that reports written before 2020 use
// for the concepts that are looked for here, PS3.16 chapter 8.
var retired = map[Code]Code{
	{Value: "G-C0E3", Scheme: "SRT"}: findingSite,
	{Value: "G-C171", Scheme: "SRT"}: laterality,
	{Value: "G-C036", Scheme: "SRT"}: measurementMethod,
}

// named says whether the item's concept name is c, also by a retired code.
func (it *item) named(c Code) bool {
	return it.name.is(c) || retired[Code{Value: it.name.Value, Scheme: it.name.Scheme}].is(c)
}

// find gives the first child with the concept name, or nil.
func (it *item) find(c Code) *item {
	if i := slices.IndexFunc(it.children, func(c2 *item) bool { return c2.named(c) }); i >= 0 {
		return it.children[i]
	}
	return nil
}

func (it *item) findText(c Code) string {
	if f := it.find(c); f != nil {
		return f.text
	}
	return ""
}

func (it *item) findCode(c Code) Code {
	if f := it.find(c); f != nil {
		return f.code
	}
	return Code{}
}

// Measurements reads the groups of a measurement report (TID 1500), in their
// order. It forgives what it does not know: an item of another template is not
// looked at, a NUM without a value has the value NaN.
func Measurements(d *dicom.DataSet) ([]Group, error) {
	root, err := parse(d, 0)
	if err != nil {
		return nil, err
	}
	m := root.find(imagingMeasurements)
	if m == nil {
		if slices.ContainsFunc(titles, root.name.is) {
			return nil, nil // a report that says in words why there is no measurement
		}
		return nil, fmt.Errorf("sr: no Imaging Measurements (126010,DCM) in this document: it is not a measurement report (TID 1500)")
	}
	where := places(d)
	var groups []Group
	for _, g := range m.children {
		if g.vt == container && g.named(measurementGroup) {
			groups = append(groups, readGroup(g, where))
		}
	}
	return groups, nil
}

func readGroup(it *item, where map[string]Document) Group {
	g := Group{
		TrackingIdentifier: it.findText(trackingIdentifier),
		TrackingUID:        it.findText(trackingUID),
		Category:           it.findCode(findingCategory),
		Finding:            it.findCode(finding),
		SourceSeries:       it.findText(sourceSeries),
		Method:             it.findCode(measurementMethod),
		Algorithm:          Algorithm{Name: it.findText(algorithmName), Version: it.findText(algorithmVersion)},
	}
	if site := it.find(findingSite); site != nil {
		g.Site, g.Laterality = site.code, site.findCode(laterality)
	}
	if s := it.find(referencedSegment); s != nil {
		g.Segment = Segment{where[s.ref.SOPInstanceUID], s.segment}
		g.Segment.Instance = s.ref
	}
	for _, c := range it.children {
		switch {
		case c.vt == num:
			g.Measurements = append(g.Measurements, readMeasurement(c))
		case c.vt == text && c.named(comment):
			g.Comments = append(g.Comments, c.text)
		case c.vt == text && c.named(algorithmParameters):
			g.Algorithm.Parameters = append(g.Algorithm.Parameters, c.text)
		}
	}
	return g
}

func readMeasurement(it *item) Measurement {
	m := Measurement{Concept: it.name, Value: it.value, Unit: it.unit}
	for _, c := range it.children {
		switch {
		case c.vt == code && c.rel == hasConceptMod:
			m.Modifiers = append(m.Modifiers, CodePair{c.name, c.code})
		case c.vt == num && c.rel == inferredFrom:
			m.Parameters = append(m.Parameters, Parameter{c.name, c.value, c.unit})
		}
	}
	return m
}

// places says in which study and series each instance of the evidence is.
func places(d *dicom.DataSet) map[string]Document {
	at := map[string]Document{}
	for _, t := range []dicom.Tag{dicom.CurrentRequestedProcedureEvidenceSequence, dicom.PertinentOtherEvidenceSequence} {
		for _, study := range d.Seq(t) {
			for _, series := range study.Seq(dicom.ReferencedSeriesSequence) {
				for _, in := range series.Seq(dicom.ReferencedSOPSequence) {
					uid := in.String(dicom.ReferencedSOPInstanceUID)
					at[uid] = Document{
						StudyInstanceUID:  study.String(dicom.StudyInstanceUID),
						SeriesInstanceUID: series.String(dicom.SeriesInstanceUID),
						Instance:          Instance{in.String(dicom.ReferencedSOPClassUID), uid},
					}
				}
			}
		}
	}
	return at
}
