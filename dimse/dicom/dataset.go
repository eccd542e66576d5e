package dicom

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A DataSet holds data elements in the order of their tags: PS3.5 7.1. The zero value is empty and ready to use.
//
// Every text in it is UTF-8, whatever Specific Character Set the bytes came in. Binary values are little endian. Values are
// kept as bytes and parsed when asked for, so that a million contour points cost nothing until somebody wants them.
// A DataSet may be read by several goroutines at once, and changed by one alone.
type DataSet struct {
	elems []Element
	bad   map[Tag]error // what a setter was given and Encode must refuse
}

// An Element is one data element of a DataSet.
type Element struct {
	Tag   Tag
	VR    VR
	value []byte
	items []*DataSet // of SQ
}

// New returns an empty data set.
func New() *DataSet { return &DataSet{} }

// Elements goes through the elements in ascending order of their tags.
func (d *DataSet) Elements() iter.Seq[*Element] {
	return func(yield func(*Element) bool) {
		if d == nil {
			return
		}
		for i := range d.elems {
			if !yield(&d.elems[i]) {
				return
			}
		}
	}
}

// Len is the number of elements, those inside of sequences not counted.
func (d *DataSet) Len() int {
	if d == nil {
		return 0
	}
	return len(d.elems)
}

func (d *DataSet) search(t Tag) (int, bool) {
	if n := len(d.elems); n == 0 || d.elems[n-1].Tag < t { // in order, as a reader and most writers come
		return n, false
	}
	return slices.BinarySearchFunc(d.elems, t, func(e Element, t Tag) int {
		switch {
		case e.Tag < t:
			return -1
		case e.Tag > t:
			return 1
		}
		return 0
	})
}

// Element returns the element, or nil.
func (d *DataSet) Element(t Tag) *Element {
	if d == nil {
		return nil
	}
	if i, ok := d.search(t); ok {
		return &d.elems[i]
	}
	return nil
}

// Has reports whether the element is present; its value may be empty.
func (d *DataSet) Has(t Tag) bool { return d.Element(t) != nil }

// String returns the first value as text without padding, "" when the element is absent or empty. Numbers of the binary
// representations are printed.
func (d *DataSet) String(t Tag) string { return d.Element(t).first() }

// Strings returns all values as text without padding, nil when the element is absent or empty.
func (d *DataSet) Strings(t Tag) []string { return d.Element(t).Strings() }

// Int returns the first value as a whole number; false when it is absent, empty or not a whole number.
func (d *DataSet) Int(t Tag) (int, bool) {
	e := d.Element(t)
	if e == nil {
		return 0, false
	}
	v, err := e.ints(1)
	if err != nil || len(v) == 0 {
		return 0, false
	}
	return v[0], true
}

// Ints returns all values as whole numbers, nil when the element is absent or empty.
func (d *DataSet) Ints(t Tag) ([]int, error) {
	e := d.Element(t)
	if e == nil {
		return nil, nil
	}
	v, err := e.ints(math.MaxInt)
	if err != nil {
		return nil, elementError(t, err)
	}
	return v, nil
}

// Float returns the first value as a number; false when it is absent, empty or not a number.
func (d *DataSet) Float(t Tag) (float64, bool) {
	e := d.Element(t)
	if e == nil {
		return 0, false
	}
	v, err := e.floats(1)
	if err != nil || len(v) == 0 {
		return 0, false
	}
	return v[0], true
}

// Floats returns all values as numbers, nil when the element is absent or empty.
func (d *DataSet) Floats(t Tag) ([]float64, error) {
	e := d.Element(t)
	if e == nil {
		return nil, nil
	}
	v, err := e.floats(math.MaxInt)
	if err != nil {
		return nil, elementError(t, err)
	}
	return v, nil
}

// Bytes returns the value as it is encoded, little endian, padding included; text in UTF-8. The caller must not change it.
func (d *DataSet) Bytes(t Tag) []byte { return d.Element(t).Bytes() }

// Seq returns the items of a sequence, nil when the element is absent, empty or no sequence.
func (d *DataSet) Seq(t Tag) []*DataSet { return d.Element(t).Items() }

// Private finds a private element by what its maker calls it: the group, the private creator and the last two digits of the
// element, (0019,xx0C) of "SIEMENS MR HEADER". The creator has any of the blocks 10 to FF, another one in every file: PS3.5
// 7.8.1. False says that it has none in this group; the element itself may be absent. Private elements of an item have their
// creator in that item.
func (d *DataSet) Private(group uint16, creator string, element byte) (Tag, bool) {
	if d == nil || group&1 == 0 || creator == "" {
		return 0, false
	}
	base := Tag(group) << 16
	i, _ := d.search(base | 0x10)
	var first Tag
	for ; i < len(d.elems) && d.elems[i].Tag <= base|0xFF; i++ {
		if d.elems[i].first() != creator {
			continue
		}
		t := base | (d.elems[i].Tag&0xFF)<<8 | Tag(element)
		if d.Has(t) {
			return t, true
		}
		if first == 0 { // one creator may have several blocks
			first = t
		}
	}
	return first, first != 0
}

// Bytes returns the value as it is encoded, as [DataSet.Bytes] does.
func (e *Element) Bytes() []byte {
	if e == nil {
		return nil
	}
	return e.value
}

// Items returns the items of a sequence.
func (e *Element) Items() []*DataSet {
	if e == nil {
		return nil
	}
	return e.items
}

// Strings returns all values as text, as [DataSet.Strings] does.
func (e *Element) Strings() []string {
	if e == nil || len(e.value) == 0 {
		return nil
	}
	info := vrs[e.VR]
	if !info.text {
		return e.printed(math.MaxInt)
	}
	text := trimText(string(e.value), info.single)
	if text == "" {
		return nil
	}
	if info.single {
		return []string{text}
	}
	values := strings.Split(text, `\`)
	for i := range values {
		values[i] = trimText(values[i], false)
	}
	return values
}

func (e *Element) first() string {
	if e == nil || len(e.value) == 0 {
		return ""
	}
	info := vrs[e.VR]
	switch {
	case !info.text:
		if p := e.printed(1); len(p) > 0 {
			return p[0]
		}
		return ""
	case info.single:
		return trimText(string(e.value), true)
	}
	first := e.value
	for i, c := range first {
		if c == '\\' {
			first = first[:i]
			break
		}
	}
	return trimText(string(first), false)
}

// trimText removes what is not significant: trailing spaces everywhere and leading ones but in the long texts (PS3.5
// Table 6.2-1), and the NUL that pads a UI and that careless writers put behind other values.
func trimText(s string, long bool) string {
	s = strings.TrimRight(s, " \x00")
	if !long {
		s = strings.TrimLeft(s, " ")
	}
	return s
}

// printed are up to n values of a binary number in decimal.
func (e *Element) printed(n int) []string {
	switch e.VR {
	case FL, FD, OF, OD:
		values, err := e.floats(n)
		if err != nil {
			return nil
		}
		bits := 64
		if e.VR == FL || e.VR == OF {
			bits = 32
		}
		out := make([]string, len(values))
		for i, v := range values {
			out[i] = strconv.FormatFloat(v, 'g', -1, bits)
		}
		return out
	case AT:
		var out []string
		for b := e.value; len(b) >= 4 && len(out) < n; b = b[4:] {
			out = append(out, attributeTag(b).String())
		}
		return out
	case UV: // which may be beyond int
		values, err := fixed(e.value, 8, n, e.VR, binary.LittleEndian.Uint64)
		if err != nil {
			return nil
		}
		out := make([]string, len(values))
		for i, v := range values {
			out[i] = strconv.FormatUint(v, 10)
		}
		return out
	case US, SS, UL, SL, SV:
		values, err := e.ints(n)
		if err != nil {
			return nil
		}
		out := make([]string, len(values))
		for i, v := range values {
			out[i] = strconv.Itoa(v)
		}
		return out
	}
	return nil
}

// attributeTag reads an AT value: group, then element (PS3.5 Table 6.2-1).
func attributeTag(b []byte) Tag {
	return Tag(binary.LittleEndian.Uint16(b))<<16 | Tag(binary.LittleEndian.Uint16(b[2:]))
}

// set puts an element in its place; it replaces the one with the same tag.
func (d *DataSet) set(e Element) {
	i, found := d.search(e.Tag)
	if found {
		d.elems[i] = e
	} else {
		d.elems = slices.Insert(d.elems, i, e)
	}
	delete(d.bad, e.Tag)
}

// refuse notes what Encode must report: a setter has no error, so that building a module reads as a list of its attributes.
func (d *DataSet) refuse(t Tag, err error) {
	if d.bad == nil {
		d.bad = make(map[Tag]error)
	}
	d.bad[t] = err
}

// SetString sets an attribute whose representation in PS3.6 is text, DS and IS included; without values it is empty (type 2).
// What the representation does not allow (PS3.5 Table 6.2-1), a value too long first of all, makes Encode fail.
func (d *DataSet) SetString(t Tag, values ...string) {
	vr := t.VR()
	info := vrs[vr]
	if !info.text {
		panic(fmt.Sprintf("dicom: SetString(%s) but its VR is %s", t.name(), vr))
	}
	d.set(Element{Tag: t, VR: vr, value: []byte(strings.Join(values, `\`))})
	if info.single && len(values) > 1 {
		d.refuse(t, malformed("%s has one value only, not %d", vr, len(values)))
	}
	for _, v := range values {
		if err := checkText(vr, v); err != nil {
			d.refuse(t, err)
			return
		}
	}
}

// SetInt sets an attribute whose representation is a whole number: US, SS, UL, SL, UV, SV, IS, AT.
func (d *DataSet) SetInt(t Tag, values ...int) {
	vr := t.VR()
	if vr == US && t.allows(SS) && slices.ContainsFunc(values, func(v int) bool { return v < 0 }) {
		vr = SS // PS3.6 "US or SS"
	}
	var b []byte
	ok := true
	fits := func(v, low, high int) { ok = ok && low <= v && v <= high }
	switch vr {
	case US:
		for _, v := range values {
			fits(v, 0, math.MaxUint16)
			b = binary.LittleEndian.AppendUint16(b, uint16(v))
		}
	case SS:
		for _, v := range values {
			fits(v, math.MinInt16, math.MaxInt16)
			b = binary.LittleEndian.AppendUint16(b, uint16(v))
		}
	case UL:
		for _, v := range values {
			fits(v, 0, math.MaxUint32)
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
	case SL:
		for _, v := range values {
			fits(v, math.MinInt32, math.MaxInt32)
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
	case UV:
		for _, v := range values {
			fits(v, 0, math.MaxInt)
			b = binary.LittleEndian.AppendUint64(b, uint64(v))
		}
	case SV:
		for _, v := range values {
			b = binary.LittleEndian.AppendUint64(b, uint64(v))
		}
	case AT:
		for _, v := range values {
			fits(v, 0, math.MaxUint32)
			b = binary.LittleEndian.AppendUint16(b, uint16(v>>16))
			b = binary.LittleEndian.AppendUint16(b, uint16(v))
		}
	case IS:
		for i, v := range values {
			fits(v, math.MinInt32, math.MaxInt32) // PS3.5 Table 6.2-1
			if i > 0 {
				b = append(b, '\\')
			}
			b = strconv.AppendInt(b, int64(v), 10)
		}
	default:
		panic(fmt.Sprintf("dicom: SetInt(%s) but its VR is %s", t.name(), vr))
	}
	d.set(Element{Tag: t, VR: vr, value: b})
	if !ok {
		d.refuse(t, malformed("%v does not fit into %s", values, vr))
	}
}

// SetFloat sets an attribute whose representation is FL, FD or DS.
func (d *DataSet) SetFloat(t Tag, values ...float64) {
	vr := t.VR()
	var b []byte
	var bad error
	switch vr {
	case FL:
		for _, v := range values {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
		}
	case FD:
		for _, v := range values {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
	case DS:
		for i, v := range values {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				bad = malformed("DS cannot hold %v", v)
			}
			if i > 0 {
				b = append(b, '\\')
			}
			b = append(b, FormatDS(v)...)
		}
	default:
		panic(fmt.Sprintf("dicom: SetFloat(%s) but its VR is %s", t.name(), vr))
	}
	d.set(Element{Tag: t, VR: vr, value: b})
	if bad != nil {
		d.refuse(t, bad)
	}
}

// SetBytes sets a value that is encoded already, little endian: pixel data, a private element. The data set keeps b.
func (d *DataSet) SetBytes(t Tag, vr VR, b []byte) {
	if vr == SQ || !vr.known() {
		panic(fmt.Sprintf("dicom: SetBytes(%s) with VR %s", t.name(), vr))
	}
	d.set(Element{Tag: t, VR: vr, value: b})
	if vrs[vr].text && !utf8.Valid(b) {
		d.refuse(t, malformed("text is not UTF-8"))
	}
}

// SetSeq sets a sequence. The data set keeps the items.
func (d *DataSet) SetSeq(t Tag, items ...*DataSet) {
	if vr := t.VR(); vr != SQ && !(t.Private() && vr == UN) {
		panic(fmt.Sprintf("dicom: SetSeq(%s) but its VR is %s", t.name(), vr))
	}
	d.set(Element{Tag: t, VR: SQ, items: slices.Clone(items)})
}

// Copy takes elements over from another data set as they are there, faults and all: what a report says of the patient must be
// what the images say. An element that from does not have changes nothing. Values and items are shared.
func (d *DataSet) Copy(from *DataSet, tags ...Tag) {
	for _, t := range tags {
		e := from.Element(t)
		if e == nil {
			continue
		}
		d.set(*e)
		if err := from.bad[t]; err != nil {
			d.refuse(t, err)
		}
	}
}

// Remove takes elements away.
func (d *DataSet) Remove(tags ...Tag) {
	for _, t := range tags {
		if i, ok := d.search(t); ok {
			d.elems = slices.Delete(d.elems, i, i+1)
		}
		delete(d.bad, t)
	}
}

// Within is the data set that holds an attribute of an image: d itself or, in enhanced images, an item of the shared functional
// groups, one of which holds the attributes of converted single-frame images (PS3.3 C.7.6.16.2.25). It is d where none has it.
func (d *DataSet) Within(t Tag) *DataSet {
	if d.Has(t) {
		return d
	}
	for _, g := range d.Seq(SharedFunctionalGroupsSequence) {
		for e := range g.Elements() {
			for _, item := range e.Items() {
				if item.Has(t) {
					return item
				}
			}
		}
	}
	return d
}
