package sr

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/radnode/radnode/dimse/dicom"
)

// A Code is a coded concept, PS3.3 section 8. Two codes are the same concept
// when value and scheme agree; the meaning is for people.
type Code struct {
	Value   string // 16 characters, or longer and then written as Long Code Value
	Scheme  string // Coding Scheme Designator: DCM, SCT, UCUM, IBSI; private ones start with 99
	Meaning string // 64 characters
}

func (c Code) is(o Code) bool { return c.Value == o.Value && c.Scheme == o.Scheme }

func (c Code) zero() bool { return c == Code{} }

func (c Code) String() string { return fmt.Sprintf("(%s,%s,%q)", c.Value, c.Scheme, c.Meaning) }

// A CodePair is a concept name and the code that is its value.
type CodePair struct{ Name, Value Code }

// A valueType says what kind of content an item has, PS3.3 C.17.3.2.1.
type valueType string

const (
	container valueType = "CONTAINER"
	text      valueType = "TEXT"
	code      valueType = "CODE"
	num       valueType = "NUM"
	dateTime  valueType = "DATETIME"
	date      valueType = "DATE"
	timeOfDay valueType = "TIME"
	uidRef    valueType = "UIDREF"
	pName     valueType = "PNAME"
	image     valueType = "IMAGE"
	composite valueType = "COMPOSITE"
	waveform  valueType = "WAVEFORM"
	sCoord    valueType = "SCOORD"
	sCoord3D  valueType = "SCOORD3D"
	tCoord    valueType = "TCOORD"
)

// textTag is where a value type that is one string keeps it, PS3.3 Table C.18.
var textTag = map[valueType]dicom.Tag{
	text:      dicom.TextValue,
	dateTime:  dicom.DateTime,
	date:      dicom.Date,
	timeOfDay: dicom.Time,
	uidRef:    dicom.UID,
	pName:     dicom.PersonName,
}

// A relationship is what an item is to its parent, PS3.3 C.17.3.2.4.
type relationship string

const (
	contains      relationship = "CONTAINS"
	hasObsContext relationship = "HAS OBS CONTEXT"
	hasAcqContext relationship = "HAS ACQ CONTEXT"
	hasConceptMod relationship = "HAS CONCEPT MOD"
	hasProperties relationship = "HAS PROPERTIES"
	inferredFrom  relationship = "INFERRED FROM"
	selectedFrom  relationship = "SELECTED FROM"
)

// constraints is PS3.3 Table A.35.13-2, row by row: what may stand in which
// relationship to what in a Comprehensive 3D SR. Comprehensive and Enhanced SR
// allow the same for the value types that radnode writes.
var constraints = []struct {
	source []valueType // nil is any
	rel    relationship
	target []valueType
}{
	{[]valueType{container}, contains, []valueType{text, code, num, dateTime, date, timeOfDay, uidRef, pName,
		sCoord, sCoord3D, tCoord, composite, image, waveform, container}},
	{[]valueType{text, code, num, container}, hasObsContext, []valueType{text, code, num, dateTime, date, timeOfDay,
		uidRef, pName, composite}},
	{[]valueType{container, image, waveform, composite, num}, hasAcqContext, []valueType{text, code, num, dateTime,
		date, timeOfDay, uidRef, pName, container}},
	{nil, hasConceptMod, []valueType{text, code}},
	{[]valueType{text, code, num}, hasProperties, []valueType{text, code, num, dateTime, date, timeOfDay, uidRef, pName,
		image, waveform, composite, sCoord, sCoord3D, tCoord, container}},
	{[]valueType{pName}, hasProperties, []valueType{text, code, dateTime, date, timeOfDay, uidRef, pName}},
	{[]valueType{text, code, num}, inferredFrom, []valueType{text, code, num, dateTime, date, timeOfDay, uidRef, pName,
		image, waveform, composite, sCoord, sCoord3D, tCoord, container}},
	{[]valueType{sCoord}, selectedFrom, []valueType{image}},
	{[]valueType{tCoord}, selectedFrom, []valueType{sCoord, sCoord3D, image, waveform}},
}

func allowed(source valueType, rel relationship, target valueType) bool {
	for _, c := range constraints {
		if c.rel == rel && (c.source == nil || slices.Contains(c.source, source)) && slices.Contains(c.target, target) {
			return true
		}
	}
	return false
}

// An item is one content item with what hangs below it, PS3.3 C.17.3.
type item struct {
	rel      relationship // to the parent; empty at the root
	vt       valueType
	name     Code
	template string // Template Identifier of a container that a template of PS3.16 rules

	text    string  // value of TEXT, UIDREF, PNAME, DATE, TIME, DATETIME
	code    Code    // value of CODE
	value   float64 // value of NUM, NaN where the report has none
	unit    Code    // unit of NUM
	digits  int     // of NUM in Numeric Value, 0 for all that fit
	ref     Instance
	segment int // Referenced Segment Number of IMAGE, 0 when there is none

	children []*item
}

// add appends a child and returns it.
func (it *item) add(rel relationship, child *item) *item {
	child.rel = rel
	it.children = append(it.children, child)
	return child
}

func newContainer(name Code, template string) *item {
	return &item{vt: container, name: name, template: template}
}
func newText(name Code, s string) *item { return &item{vt: text, name: name, text: s} }
func newUID(name Code, s string) *item  { return &item{vt: uidRef, name: name, text: s} }
func newCode(name, value Code) *item    { return &item{vt: code, name: name, code: value} }
func newNum(name Code, v float64, unit Code) *item {
	return &item{vt: num, name: name, value: v, unit: unit}
}

// walk calls f for the item and everything below it, parents first.
func (it *item) walk(f func(*item)) {
	f(it)
	for _, c := range it.children {
		c.walk(f)
	}
}

// check says what in the tree the standard would not have: a relationship that
// PS3.3 Table A.35.13-2 does not list, or a value that its element cannot hold.
func (it *item) check() error {
	if err := it.checkValue(); err != nil {
		return fmt.Errorf("sr: %s %s: %w", it.vt, it.name, err)
	}
	for _, c := range it.children {
		if !allowed(it.vt, c.rel, c.vt) {
			return fmt.Errorf("sr: %s %s %s %s %s: not a relationship of PS3.3 Table A.35.13-2",
				it.vt, it.name, c.rel, c.vt, c.name)
		}
		if err := c.check(); err != nil {
			return err
		}
	}
	return nil
}

func (it *item) checkValue() error {
	// Concept Name Code Sequence may be absent for references only, PS3.3 C.17.3.2.
	if !it.name.zero() || (it.vt != image && it.vt != composite) {
		if err := it.name.check(); err != nil {
			return fmt.Errorf("concept name: %w", err)
		}
	}
	switch it.vt {
	case container:
	case code:
		return it.code.check()
	case num:
		if math.IsNaN(it.value) || math.IsInf(it.value, 0) {
			return fmt.Errorf("value %v is not a number: leave the measurement out and say why in a comment", it.value)
		}
		return it.unit.check()
	case uidRef:
		if !dicom.AcceptableUID(it.text) {
			return fmt.Errorf("UID %q is not valid", it.text)
		}
	case image, composite:
		return it.ref.check()
	case text, pName, date, timeOfDay, dateTime:
		if it.text == "" {
			return fmt.Errorf("the value is empty")
		}
	default:
		return fmt.Errorf("value type is not one that radnode writes")
	}
	return nil
}

// check refuses what PS3.3 Table 8.8-1 and the VRs SH, LO and UC do not allow.
func (c Code) check() error {
	switch {
	case c.Value == "" || c.Scheme == "" || c.Meaning == "":
		return fmt.Errorf("code %s needs value, scheme and meaning", c)
	case !plain(c.Value) || !plain(c.Scheme) || !plain(c.Meaning):
		return fmt.Errorf("code %s has a backslash, a control character or a blank at an end", c)
	case len([]rune(c.Scheme)) > 16:
		return fmt.Errorf("code %s: scheme is longer than 16 characters", c)
	case len([]rune(c.Meaning)) > 64:
		return fmt.Errorf("code %s: meaning is longer than 64 characters", c)
	}
	return nil
}

// encode writes the item as PS3.3 C.17.3 lays it out.
func (it *item) encode() *dicom.DataSet {
	d := dicom.New()
	it.encodeTo(d)
	return d
}

func (it *item) encodeTo(d *dicom.DataSet) {
	if it.rel != "" {
		d.SetString(dicom.RelationshipType, string(it.rel))
	}
	d.SetString(dicom.ValueType, string(it.vt))
	if !it.name.zero() {
		d.SetSeq(dicom.ConceptNameCodeSequence, it.name.encode())
	}
	switch it.vt {
	case container:
		d.SetString(dicom.ContinuityOfContent, "SEPARATE")
		if it.template != "" {
			t := dicom.New()
			t.SetString(dicom.MappingResource, "DCMR")
			t.SetString(dicom.TemplateIdentifier, it.template)
			d.SetSeq(dicom.ContentTemplateSequence, t)
		}
	case code:
		d.SetSeq(dicom.ConceptCodeSequence, it.code.encode())
	case num:
		m := dicom.New()
		// DS has 16 bytes, which is too few for every float64; Floating Point
		// Value has all bits, PS3.3 C.18.1.
		m.SetString(dicom.NumericValue, dicom.FormatDS(significant(it.value, it.digits)))
		m.SetFloat(dicom.FloatingPointValue, it.value)
		m.SetSeq(dicom.MeasurementUnitsCodeSequence, it.unit.encode())
		d.SetSeq(dicom.MeasuredValueSequence, m)
	case image, composite:
		r := it.ref.encode()
		if it.segment > 0 {
			r.SetInt(dicom.ReferencedSegmentNumber, it.segment)
		}
		d.SetSeq(dicom.ReferencedSOPSequence, r)
	default:
		d.SetString(textTag[it.vt], it.text)
	}
	if len(it.children) > 0 {
		children := make([]*dicom.DataSet, len(it.children))
		for i, c := range it.children {
			children[i] = c.encode()
		}
		d.SetSeq(dicom.ContentSequence, children...)
	}
}

func (c Code) encode() *dicom.DataSet {
	d := dicom.New()
	// Code Value is SH; what does not fit goes to Long Code Value, PS3.3 section 8.1.
	if len([]rune(c.Value)) <= 16 {
		d.SetString(dicom.CodeValue, c.Value)
	} else {
		d.SetString(dicom.LongCodeValue, c.Value)
	}
	d.SetString(dicom.CodingSchemeDesignator, c.Scheme)
	d.SetString(dicom.CodeMeaning, c.Meaning)
	return d
}

func (r Instance) encode() *dicom.DataSet {
	d := dicom.New()
	d.SetString(dicom.ReferencedSOPClassUID, r.SOPClassUID)
	d.SetString(dicom.ReferencedSOPInstanceUID, r.SOPInstanceUID)
	return d
}

func (r Instance) check() error {
	if !dicom.AcceptableUID(r.SOPClassUID) || !dicom.AcceptableUID(r.SOPInstanceUID) {
		return fmt.Errorf("reference needs a valid SOP Class UID and SOP Instance UID, has %q and %q", r.SOPClassUID, r.SOPInstanceUID)
	}
	return nil
}

// significant rounds to so many significant digits, and not before the point. 0 leaves the value as it is.
func significant(v float64, digits int) float64 {
	if digits <= 0 {
		return v
	}
	s := strconv.FormatFloat(v, 'e', digits-1, 64)
	if math.Abs(v) >= math.Pow10(digits) {
		s = strconv.FormatFloat(v, 'f', 0, 64)
	}
	r, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsInf(r, 0) { // rounded up beyond the greatest float64
		return v
	}
	return r
}
