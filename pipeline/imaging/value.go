package imaging

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline/refusal"
)

// A transform leads from stored values to physical ones: a line, PS3.3 C.11.1 and C.7.6.16.2.11, or a table.
type transform struct {
	slope, intercept float64
	factor           float64 // after the line: to standardised uptake values
	mapped           bool    // it is a Real World Value Mapping, and
	low, high        float64 // defined for these stored values
	table            []float64
	first            float64 // stored value of the first entry; the ends of the table go on, PS3.3 C.11.1.1.1

	unit  string
	kind  string // what must be the same in all slices, for a text
	notes []string
}

// apply writes the physical values of stored ones, and counts those for which the transform is not defined. Products are
// rounded before they are added, so that no compiler fuses them.
func apply[T int32 | float64](t *transform, into []float32, stored []T) (outside int) {
	if t.table != nil {
		last := float64(len(t.table) - 1)
		for i, s := range stored {
			into[i] = float32(float64(t.table[int(math.Max(0, math.Min(last, float64(s)-t.first)))] * t.factor))
		}
	} else {
		for i, s := range stored {
			into[i] = float32(float64(float64(float64(s)*t.slope)+t.intercept) * t.factor)
		}
	}
	if t.mapped {
		for _, s := range stored {
			if float64(s) < t.low || float64(s) > t.high {
				outside++
			}
		}
	}
	return outside
}

// inRange says whether no stored value of 32 bits overflows.
func (t *transform) inRange() bool {
	most := float64(math.Abs(t.slope)*math.MaxUint32) + math.Abs(t.intercept)
	return float64(most*math.Abs(t.factor)) < math.MaxFloat32 && t.slope != 0 && t.factor != 0
}

// transformOf reads how the values of a frame are meant, by the rules in the package comment.
func transformOf(f *frame) (transform, error) {
	switch f.modality {
	case "CT":
		return rescaleCT(f)
	case "PT":
		return rescalePET(f)
	}
	return otherValues(f)
}

// rescaleOf reads Rescale Slope and Intercept, PS3.3 C.11.1 and C.7.6.16.2.9; false when both are absent.
func rescaleOf(f *frame, to string) (t transform, ok bool, err error) {
	d := f.holder(dicom.RescaleSlope, dicom.PixelValueTransformationSequence)
	if !filled(d, dicom.RescaleSlope) {
		d = f.holder(dicom.RescaleIntercept, dicom.PixelValueTransformationSequence)
	}
	if !filled(d, dicom.RescaleSlope) && !filled(d, dicom.RescaleIntercept) {
		return t, false, nil
	}
	slope, okSlope := d.Float(dicom.RescaleSlope)
	intercept, okIntercept := d.Float(dicom.RescaleIntercept)
	t = transform{slope: slope, intercept: intercept, factor: 1, kind: d.String(dicom.RescaleType)}
	if !okSlope || !okIntercept || !t.inRange() {
		return t, true, f.refuse(refusal.ImageRescale, sendOriginals,
			"RescaleSlope (0028,1053) %q and RescaleIntercept (0028,1052) %q do not lead to %s", d.String(dicom.RescaleSlope), d.String(dicom.RescaleIntercept), to)
	}
	return t, true, nil
}

// typeUnits are the terms of Rescale Type (0028,1054) and Modality LUT Type (0028,3004) in UCUM: PS3.3 C.11.1.1.2.
var typeUnits = map[string]string{
	"HU": "HU", "HU_MOD": "HU", "MGML": "mg/ml", "PCT": "%", "Z_EFF": "1", "ED": "10*23/ml", "EDW": "1", "OD": "10*-3",
}

func rescaleCT(f *frame) (transform, error) {
	const to = "Hounsfield units"
	if len(f.holder(dicom.ModalityLUTSequence, dicom.PixelValueTransformationSequence).Seq(dicom.ModalityLUTSequence)) > 0 {
		return transform{}, f.refuse(refusal.ImageRescale, sendOriginals,
			"ModalityLUTSequence (0028,3000) is there, and a CT image has Rescale Slope and Intercept instead (PS3.3 C.8.2.1)")
	}
	t, ok, err := rescaleOf(f, to)
	if err == nil && !ok {
		err = f.refuse(refusal.ImageRescale, sendOriginals, "RescaleSlope (0028,1053) %q and RescaleIntercept (0028,1052) %q do not lead to %s", "", "", to)
	}
	if err != nil {
		return t, err
	}
	switch t.kind {
	case "", "HU": // PS3.3 C.8.2.1: absent means HU
		t.unit, t.kind = "HU", "HU"
	case "US": // unspecified, PS3.3 C.11.1.1.2
		t.unit, t.kind = "HU", "HU"
		t.notes = append(t.notes, "Rescale Type (0028,1054) is US, unspecified: the values are taken for Hounsfield units")
	default:
		var known bool
		if t.unit, known = typeUnits[t.kind]; !known {
			t.unit = "1"
		}
		t.notes = append(t.notes, fmt.Sprintf("Rescale Type (0028,1054) is %s: the values are not Hounsfield units", t.kind))
	}
	return t, nil
}

func rescalePET(f *frame) (transform, error) {
	units := f.holder(dicom.Units).String(dicom.Units)
	if units == "" {
		if t, ok, err := realWorld(f); ok || err != nil {
			return t, err
		}
	}
	const to = "activity"
	t, ok, err := rescaleOf(f, to)
	if err == nil && !ok {
		err = f.refuse(refusal.ImageRescale, sendOriginals, "RescaleSlope (0028,1053) %q and RescaleIntercept (0028,1052) %q do not lead to %s", "", "", to)
	}
	t.kind = units
	t.unit = "1"
	if units == "" {
		t.notes = append(t.notes, "Units (0054,1001) is absent: the values have no unit")
	}
	return t, err
}

// otherValues is for MR, whose values have no unit of their own (PS3.3 C.8.3.1), and NM.
func otherValues(f *frame) (transform, error) {
	if t, ok, err := realWorld(f); ok || err != nil {
		return t, err
	}
	t, ok, err := lookup(f)
	if !ok && err == nil {
		t, ok, err = rescaleOf(f, "finite values")
	}
	if err != nil {
		return t, err
	}
	if !ok {
		t = transform{slope: 1, factor: 1}
		t.notes = append(t.notes, "Rescale Slope (0028,1053) is absent: the values are those stored")
	}
	switch unit, known := typeUnits[t.kind]; {
	case known:
		t.unit = unit
		if t.kind == "HU_MOD" || t.kind == "Z_EFF" || t.kind == "EDW" {
			t.notes = append(t.notes, fmt.Sprintf("Rescale Type (0028,1054) is %s", t.kind))
		}
	default:
		t.unit = "1"
		if f.modality == "MR" {
			t.unit = "[arb'U]" // of the scanner's own, PS3.16 CID 7181
		}
		if t.kind != "" && t.kind != "US" {
			t.notes = append(t.notes, fmt.Sprintf("Rescale Type (0028,1054) is %s, which is no unit", t.kind))
		}
	}
	if units := f.holder(dicom.Units).String(dicom.Units); f.modality == "NM" && units != "" { // quantitative NM
		t.kind = units
		if t.unit = nmUnits[units]; t.unit == "" {
			t.unit = "1"
		}
	}
	return t, nil
}

// nmUnits are the terms of Units (0054,1001) that an NM image has: PS3.3 C.8.9.1.1.3.
var nmUnits = map[string]string{"BQML": "Bq/ml", "CNTS": "{counts}", "CPS": "{counts}/s", "PROPCNTS": "{propcounts}"}

// lookup reads a Modality LUT, PS3.3 C.11.1; false where there is none.
func lookup(f *frame) (t transform, ok bool, err error) {
	items := f.holder(dicom.ModalityLUTSequence, dicom.PixelValueTransformationSequence).Seq(dicom.ModalityLUTSequence)
	if len(items) == 0 {
		return t, false, nil
	}
	bad := func(why string) (transform, bool, error) {
		return t, true, f.refuse(refusal.ImageRescale, sendOriginals, "ModalityLUTSequence (0028,3000) cannot be used: %s", why)
	}
	d := items[0]
	descriptor, err := d.Ints(dicom.LUTDescriptor)
	if err != nil || len(descriptor) != 3 {
		return bad("LUTDescriptor (0028,3002) has not three values")
	}
	n, bits := descriptor[0]&0xFFFF, descriptor[2]
	if n == 0 { // PS3.3 C.11.1.1.1
		n = 1 << 16
	}
	data := d.Bytes(dicom.LUTData)
	t = transform{factor: 1, table: make([]float64, n), first: f.stored(descriptor[1]), kind: d.String(dicom.ModalityLUTType)}
	switch {
	case bits < 8 || bits > 16:
		return bad(fmt.Sprintf("LUTDescriptor (0028,3002) says %d bits", bits))
	case len(data) >= 2*n:
		for i := range t.table {
			t.table[i] = float64(binary.LittleEndian.Uint16(data[2*i:]))
		}
	case bits == 8 && len(data) >= n:
		for i := range t.table {
			t.table[i] = float64(data[i])
		}
	default:
		return bad(fmt.Sprintf("LUTData (0028,3006) has %d bytes for %d entries", len(data), n))
	}
	t.notes = append(t.notes, "Modality LUT Sequence (0028,3000) leads to the values")
	return t, true, nil
}

// stored gives an attribute of representation US or SS the sign of the pixels: in implicit VR it has lost it.
func (f *frame) stored(v int) float64 {
	if signed, _ := f.header.Int(dicom.PixelRepresentation); signed == 1 && v > math.MaxInt16 {
		v -= 1 << 16
	}
	return float64(v)
}

// realWorld reads the first Real World Value Mapping that has a UCUM unit: PS3.3 C.7.6.16.2.11; false where none has.
func realWorld(f *frame) (t transform, ok bool, err error) {
	var items []*dicom.DataSet
	for _, d := range [...]*dicom.DataSet{f.own, f.shared, f.holder(dicom.RealWorldValueMappingSequence)} { // itself a functional group
		if items = d.Seq(dicom.RealWorldValueMappingSequence); len(items) > 0 {
			break
		}
	}
	var names []string
	var first *dicom.DataSet
	for _, d := range items {
		if unit := ucum(d); unit != "" {
			names = append(names, unit)
			if first == nil {
				first = d
			}
		}
	}
	if first == nil {
		return t, false, nil
	}
	bad := func(why string) (transform, bool, error) {
		return t, true, f.refuse(refusal.ImageRescale, sendOriginals, "RealWorldValueMappingSequence (0040,9096) cannot be used: %s", why)
	}
	t = transform{factor: 1, mapped: true, unit: names[0], kind: names[0]}
	var okLow, okHigh bool
	if t.low, okLow = first.Float(dicom.DoubleFloatRealWorldValueFirstValueMapped); !okLow {
		var v int
		v, okLow = first.Int(dicom.RealWorldValueFirstValueMapped)
		t.low = f.stored(v)
	}
	if t.high, okHigh = first.Float(dicom.DoubleFloatRealWorldValueLastValueMapped); !okHigh {
		var v int
		v, okHigh = first.Int(dicom.RealWorldValueLastValueMapped)
		t.high = f.stored(v)
	}
	if !okLow || !okHigh || !(t.low <= t.high) || !finite([]float64{t.low, t.high}) {
		return bad("it does not say for which stored values it is defined")
	}
	if filled(first, dicom.RealWorldValueLUTData) {
		table, err := first.Floats(dicom.RealWorldValueLUTData)
		// No more entries than 16 bits count, and so many: the first is that of the first value mapped.
		entries := t.high - t.low + 1
		if err != nil || entries > 1<<16 || t.low != math.Trunc(t.low) || float64(len(table)) != entries || slices.ContainsFunc(table, tooLarge) {
			return bad("RealWorldValueLUTData (0040,9212) has not one finite value for each stored value")
		}
		t.table, t.first = table, t.low
	} else {
		var okSlope, okIntercept bool
		t.slope, okSlope = first.Float(dicom.RealWorldValueSlope)
		t.intercept, okIntercept = first.Float(dicom.RealWorldValueIntercept)
		if !okSlope || !okIntercept || !t.inRange() {
			return bad(fmt.Sprintf("RealWorldValueSlope (0040,9225) is %q and RealWorldValueIntercept (0040,9224) %q", first.String(dicom.RealWorldValueSlope), first.String(dicom.RealWorldValueIntercept)))
		}
	}
	note := fmt.Sprintf("Real World Value Mapping Sequence (0040,9096) leads to the values, in %s", names[0])
	if len(names) > 1 {
		note += fmt.Sprintf("; it is the first of %d (%s)", len(names), strings.Join(names, ", "))
	}
	t.notes = append(t.notes, note)
	return t, true, nil
}

func tooLarge(v float64) bool { return !(math.Abs(v) < math.MaxFloat32) }

// ucum is the UCUM code of the unit of a mapping, "" where it has none that a report can bear.
func ucum(mapping *dicom.DataSet) string {
	const most = 32 // characters; reports make longer codes of it
	for _, u := range mapping.Seq(dicom.MeasurementUnitsCodeSequence) {
		if u.String(dicom.CodingSchemeDesignator) != "UCUM" {
			continue
		}
		v := u.String(dicom.CodeValue)
		if v == "" {
			v = u.String(dicom.LongCodeValue)
		}
		printable := !strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' })
		if v != "" && len(v) <= most && printable {
			return v
		}
	}
	return ""
}

// transformsOf reads the transforms of all slices, which must lead to one unit, and gathers their notes.
func transformsOf(frames []*frame) (ts []transform, notes []string, err error) {
	ts = make([]transform, len(frames))
	for k, f := range frames {
		if ts[k], err = transformOf(f); err != nil {
			return nil, nil, err
		}
		if ts[k].unit != ts[0].unit || ts[k].kind != ts[0].kind {
			element := "RescaleType (0028,1054)"
			if f.modality == "PT" || f.modality == "NM" {
				element = "Units (0054,1001)"
			}
			return nil, nil, f.refuse(refusal.ImageRescale, sendOne, "%s or RealWorldValueMappingSequence (0040,9096) makes the unit %s (%s), and %s (%s) in image %s",
				element, ts[k].unit, orNone(ts[k].kind), ts[0].unit, orNone(ts[0].kind), frames[0].uid)
		}
		for _, note := range ts[k].notes {
			if !slices.Contains(notes, note) {
				notes = append(notes, note)
			}
		}
	}
	return ts, notes, nil
}

// uptake asks for standardised uptake values of PET, unless a mapping has led to something else than activity.
func (l *Layout) uptake(frames []*frame, ts []transform, kind SUVKind) error {
	if kind == "" {
		kind = SUVBodyWeight
	}
	unit := ts[0].unit
	mapped := ts[0].mapped
	if mapped && unit != "Bq/ml" {
		if own := suvUnit(unit); own != "" {
			l.Unit = own.unit()
			l.SUV = &SUV{Kind: own, Notes: []string{fmt.Sprintf("SUV by %s, as the Real World Value Mapping (0040,9096) has it", own.words())}}
			if kind != own && kind != SUVNone {
				l.Notes = append(l.Notes, fmt.Sprintf("the values stay SUV by %s and do not become SUV by %s", own.words(), kind.words()))
			}
		}
		return nil // a unit that the image itself gives
	}
	headers := make([]*dicom.DataSet, len(frames))
	active := make(map[*dicom.DataSet]*dicom.DataSet)
	for k, f := range frames {
		if headers[k] = f.header; !mapped {
			continue
		}
		d := active[f.header]
		if d == nil { // the mapping stands for Units (0054,1001), which enhanced PET has not
			d = dicom.New()
			for e := range f.header.Elements() {
				d.Copy(f.header, e.Tag)
			}
			d.SetString(dicom.Units, "BQML")
			active[f.header] = d
		}
		headers[k] = d
	}
	factors, suv, own, notes, err := toSUV(headers, kind)
	if err != nil {
		return err
	}
	l.Notes = append(l.Notes, notes...)
	l.SUV = suv
	if !mapped || factors != nil {
		l.Unit = own
	}
	if factors == nil {
		return nil
	}
	if len(factors) != len(ts) {
		return fmt.Errorf("%d factors for %d slices", len(factors), len(ts)) // toSUV gives one each
	}
	for k := range ts {
		ts[k].factor = factors[k]
		if !ts[k].inRange() {
			return frames[k].refuse(refusal.ImageRescale, sendOriginals, "the factor %v to standardised uptake values does not lead to finite values", factors[k])
		}
	}
	return nil
}

// padding notes pixels that are no measurement.
func padding(f *frame) string {
	d := f.header
	switch {
	case filled(d, dicom.PixelPaddingValue):
		v, _ := d.Int(dicom.PixelPaddingValue)
		text := fmt.Sprint(f.stored(v))
		if limit, ok := d.Int(dicom.PixelPaddingRangeLimit); ok {
			text += fmt.Sprintf(" to %v, Pixel Padding Range Limit (0028,0121)", f.stored(limit))
		}
		return fmt.Sprintf("Pixel Padding Value (0028,0120) is %s: stored values outside of what was scanned, kept as they are", text)
	case filled(d, dicom.FloatPixelPaddingValue):
		return fmt.Sprintf("Float Pixel Padding Value (0028,0122) is %s: stored values outside of what was scanned, kept as they are", d.String(dicom.FloatPixelPaddingValue))
	case filled(d, dicom.DoubleFloatPixelPaddingValue):
		return fmt.Sprintf("Double Float Pixel Padding Value (0028,0123) is %s: stored values outside of what was scanned, kept as they are", d.String(dicom.DoubleFloatPixelPaddingValue))
	}
	return ""
}

// lossy says how images were compressed with loss before they came, PS3.3 C.7.6.1.1.5; "" where they were not.
func lossy(frames []*frame) string {
	var methods, ratios []string
	found := false
	for _, f := range frames {
		d := f.header
		if d.String(dicom.LossyImageCompression) != "01" {
			continue
		}
		found = true
		for _, m := range d.Strings(dicom.LossyImageCompressionMethod) {
			if m != "" && !slices.Contains(methods, m) {
				methods = append(methods, m)
			}
		}
		for _, r := range d.Strings(dicom.LossyImageCompressionRatio) {
			if r != "" && !slices.Contains(ratios, r) {
				ratios = append(ratios, r)
			}
		}
	}
	if !found {
		return ""
	}
	s := "Lossy Image Compression (0028,2110) is 01"
	if len(methods) > 0 {
		s += ", by " + strings.Join(methods, ", ")
	}
	slices.SortFunc(ratios, compareValues)
	switch n := len(ratios); {
	case n == 1:
		s += ", " + ratios[0] + " to 1"
	case n > 1:
		s += ", " + ratios[0] + " to 1 up to " + ratios[n-1] + " to 1"
	}
	return s
}
