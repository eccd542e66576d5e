package dicom

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// lines is a data set as text, to compare it.
func lines(d *DataSet) []string {
	var out []string
	flatten(d, "", func(path, vr, value string) { out = append(out, path+" "+vr+" "+value) })
	return out
}

// drawDataSet builds a data set by the setters: any attribute of the table, any value its representation allows.
func drawDataSet(t *rapid.T, depth int) *DataSet {
	d := New()
	word := rapid.StringMatching(`[A-Z0-9_]{0,16}`)
	text := rapid.StringMatching(`[ -\[\]-~äéЖ山]{0,16}`)
	for range rapid.IntRange(0, 8).Draw(t, "elements") {
		switch rapid.IntRange(0, 9).Draw(t, "kind") {
		case 0:
			d.SetString(Modality, word.Draw(t, "CS"))
		case 1:
			d.SetString(ImageType, rapid.SliceOfN(word, 0, 4).Draw(t, "CS")...)
		case 2:
			d.SetString(SeriesDescription, text.Draw(t, "LO"))
		case 3:
			d.SetString(TextValue, text.Draw(t, "UT")+"\n")
		case 4:
			d.SetInt(Rows, rapid.IntRange(0, 65535).Draw(t, "US"))
		case 5:
			d.SetFloat(FloatingPointValue, rapid.SliceOfN(rapid.Float64(), 0, 3).Draw(t, "FD")...)
		case 6:
			d.SetFloat(ContourData, rapid.SliceOfN(rapid.Float64Range(-1e20, 1e20), 0, 9).Draw(t, "DS")...)
		case 7:
			d.SetBytes(EncapsulatedDocument, OB, rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "OB"))
		case 8:
			d.SetInt(DimensionIndexPointer, rapid.IntRange(0, math.MaxUint32).Draw(t, "AT"))
		case 9:
			if depth < 4 {
				items := make([]*DataSet, rapid.IntRange(0, 3).Draw(t, "items"))
				for i := range items {
					items[i] = drawDataSet(t, depth+1)
				}
				d.SetSeq(ContentSequence, items...)
			}
		}
	}
	return d
}

// TestRoundTrip writes any data set, reads it and writes it again: the same elements, the same bytes.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDataSet(t, 0)
		first, err := d.EncodedBytes()
		if err != nil {
			t.Fatal(err)
		}
		f, err := ReadDataSet(bytes.NewReader(first), int64(len(first)), ExplicitVRLittleEndian)
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Notes) > 0 {
			t.Fatalf("radnode forgives itself: %q", f.Notes)
		}
		second, err := f.DataSet.EncodedBytes()
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%v: written again it is\n%q\nand was\n%q", err, second, first)
		}
		d.SetString(SpecificCharacterSet, "ISO_IR 192")
		padded(d) // an odd OB comes back even
		if diff := cmp.Diff(lines(d), lines(f.DataSet)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func padded(d *DataSet) {
	for e := range d.Elements() {
		if e.VR == OB && len(e.value)%2 == 1 {
			e.value = append(bytes.Clone(e.value), 0)
		}
		for _, i := range e.items {
			padded(i)
		}
	}
}

// TestDeterministic sets the same elements in other orders.
func TestDeterministic(t *testing.T) {
	set := []func(*DataSet){
		func(d *DataSet) { d.SetString(PatientID, "42") },
		func(d *DataSet) { d.SetString(Modality, "CT") },
		func(d *DataSet) { d.SetInt(Rows, 512) },
		func(d *DataSet) { d.SetSeq(ContentSequence, New(), New()) },
	}
	var want []byte
	for n := range 24 {
		order := []int{0, 1, 2, 3}
		for i, k := 0, n; i < 4; i++ { // the n-th permutation
			j := i + k%(4-i)
			k /= 4 - i
			order[i], order[j] = order[j], order[i]
		}
		d := New()
		for _, i := range order {
			set[i](d)
		}
		b, err := d.EncodedBytes()
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want = b
		}
		if !bytes.Equal(b, want) {
			t.Errorf("order %v: other bytes", order)
		}
	}
}

// TestRefused are values that the writer must not let out. The error names the element.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		tag  Tag
		set  func(d *DataSet)
	}{
		{"LO too long", SeriesDescription, func(d *DataSet) { d.SetString(SeriesDescription, strings.Repeat("ä", 65)) }},
		{"SH too long", CodeValue, func(d *DataSet) { d.SetString(CodeValue, strings.Repeat("x", 17)) }},
		{"CS too long", Modality, func(d *DataSet) { d.SetString(Modality, strings.Repeat("X", 17)) }},
		{"CS in small letters", Modality, func(d *DataSet) { d.SetString(Modality, "ct") }},
		{"UI too long", SOPInstanceUID, func(d *DataSet) { d.SetString(SOPInstanceUID, "1."+strings.Repeat("2", 63)) }},
		{"no UID", SOPInstanceUID, func(d *DataSet) { d.SetString(SOPInstanceUID, "1..2") }},
		{"PN group too long", PatientName, func(d *DataSet) { d.SetString(PatientName, "a="+strings.Repeat("山", 65)) }},
		{"DS too long", SliceThickness, func(d *DataSet) { d.SetString(SliceThickness, "1.2345678901234567") }},
		{"DS of NaN", SliceThickness, func(d *DataSet) { d.SetFloat(SliceThickness, math.NaN()) }},
		{"IS too long", InstanceNumber, func(d *DataSet) { d.SetInt(InstanceNumber, 1<<40) }},
		{"US too big", Rows, func(d *DataSet) { d.SetInt(Rows, 65536) }},
		{"US negative", Rows, func(d *DataSet) { d.SetInt(Rows, -1) }},
		{"backslash", SeriesDescription, func(d *DataSet) { d.SetString(SeriesDescription, `a\b`) }},
		{"line break", SeriesDescription, func(d *DataSet) { d.SetString(SeriesDescription, "a\nb") }},
		{"escape", TextValue, func(d *DataSet) { d.SetString(TextValue, "a\x1bb") }},
		{"Latin-1", SeriesDescription, func(d *DataSet) { d.SetString(SeriesDescription, "J\xe9") }},
		{"two values of UT", TextValue, func(d *DataSet) { d.SetString(TextValue, "a", "b") }},
		{"date", StudyDate, func(d *DataSet) { d.SetString(StudyDate, "2026-11-23") }},
	} {
		d := New()
		item := New()
		c.set(item)
		d.SetSeq(ContentSequence, New(), item)
		_, err := d.EncodedBytes()
		var e *Error
		if !errors.As(err, &e) || e.Path != "(0040,A730)[2]."+c.tag.String() {
			t.Errorf("%s: %v", c.name, err)
		}
		if err := WriteFile(io.Discard, FileMeta{}, d); err == nil {
			t.Errorf("%s: written", c.name)
		}
		taken := New()
		taken.Copy(item, c.tag)
		if _, err := taken.EncodedBytes(); err == nil {
			t.Errorf("%s: gone after Copy", c.name)
		}
		if c.tag == Rows { // replaced, it is good again
			item.SetInt(Rows)
		} else {
			item.SetString(c.tag)
		}
		if _, err := d.EncodedBytes(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// What a peer sent too long is copied as it is, or the report would be lost for it.
	long := strings.Repeat("x", 80)
	f, err := le().short(PatientID, "LO", long).read(ExplicitVRLittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	d := New()
	d.Copy(f.DataSet, PatientID, Modality)
	if _, err := d.EncodedBytes(); err != nil || d.String(PatientID) != long || d.Has(Modality) {
		t.Error(err)
	}
}

func TestPadding(t *testing.T) {
	d := New()
	d.SetString(SOPInstanceUID, "1.2.3")
	d.SetString(Modality, "ABC")
	d.SetBytes(EncapsulatedDocument, OB, []byte{1})
	b, err := d.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	want := le().short(SpecificCharacterSet, "CS", "ISO_IR 192").short(SOPInstanceUID, "UI", "1.2.3\x00").short(Modality, "CS", "ABC ").
		long(EncapsulatedDocument, "OB", "\x01\x00").b
	if !bytes.Equal(b, want) {
		t.Errorf("%q\nwant\n%q", b, want)
	}
}

// TestLongValues writes Contour Data that is too long for a DS in Explicit VR, and reads it back.
func TestLongValues(t *testing.T) {
	points := make([]float64, 30_000)
	for i := range points {
		points[i] = float64(i) / 8
	}
	d := New()
	d.SetFloat(ContourData, points...)
	b, err := d.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte("\x06\x30\x50\x00UN\x00\x00")) {
		t.Errorf("%q", b[:50])
	}
	f, err := ReadDataSet(bytes.NewReader(b), int64(len(b)), ExplicitVRLittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.DataSet.Floats(ContourData); err != nil || !slices.Equal(got, points) || f.DataSet.Element(ContourData).VR != DS {
		t.Errorf("%d numbers, %v", len(got), err)
	}
}

// TestValidated lets DCMTK read a written file.
func TestValidated(t *testing.T) {
	dump, err := exec.LookPath("dcmdump")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("dcmdump (DCMTK) is not here")
	}
	d := New()
	d.SetString(SOPClassUID, Comprehensive3DSRStorage)
	d.SetString(SOPInstanceUID, UIDFrom("validated"))
	d.SetString(PatientName, "Müller^Jörg=山田")
	item := New()
	item.SetString(CodeMeaning, "Ж")
	d.SetSeq(ConceptNameCodeSequence, item, New())
	d.SetInt(PixelPaddingValue, -5)
	path := filepath.Join(t.TempDir(), "x.dcm")
	w, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(w, FileMeta{SourceApplicationEntityTitle: "RADNODE"}, d); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(dump, "-q", path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"FileMetaInformationVersion", "[Müller^Jörg=山田]", "SS -5", "[RADNODE_1]", "[RADNODE]", "#=2"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("dcmdump does not show %q in\n%s", want, out)
		}
	}
}

// TestWriteLinear writes an RTSTRUCT of 1.5 MB in the memory of its bytes: no level is encoded twice.
func TestWriteLinear(t *testing.T) {
	d := contours(60, 1000)
	var b []byte
	var err error
	n := allocated(func() { b, err = d.EncodedBytes() })
	if err != nil {
		t.Fatal(err)
	}
	if len(b) < 1_000_000 || n > uint64(len(b))+100_000 {
		t.Errorf("%d bytes allocated to write %d", n, len(b))
	}
}

// contours is an RTSTRUCT of n contours of m points.
func contours(n, m int) *DataSet {
	contours := make([]*DataSet, n)
	for i := range contours {
		points := make([]float64, 3*m)
		for k := range points {
			points[k] = math.Round(math.Sin(float64(i*m+k))*1e6) / 1e4
		}
		contours[i] = New()
		contours[i].SetString(ContourGeometricType, "CLOSED_PLANAR")
		contours[i].SetInt(NumberOfContourPoints, m)
		contours[i].SetFloat(ContourData, points...)
	}
	roi := New()
	roi.SetSeq(ContourSequence, contours...)
	d := New()
	d.SetString(SOPClassUID, RTStructureSetStorage)
	d.SetString(SOPInstanceUID, UIDFrom("contours", strconv.Itoa(n), strconv.Itoa(m)))
	d.SetSeq(ROIContourSequence, roi)
	return d
}

func TestFormatDS(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 1: "1", -1: "-1", 0.1: "0.1", 100: "100", 1e6: "1000000", 1.0 / 3: "0.33333333333333", -1.0 / 3: "-0.3333333333333",
		1e22: "1e22", -1e-9 / 3: "-3.333333333e-10", 123456789012345678: "1.23456789012e17", 512.5: "512.5",
		math.MaxFloat64: "1.79769313e308", 5e-324: "5e-324", -math.MaxFloat64: "-1.79769313e308", 0.00001: "0.00001",
	} {
		if got := FormatDS(v); got != want {
			t.Errorf("FormatDS(%v) = %q, want %q", v, got, want)
		}
	}
	if FormatDS(math.Copysign(0, -1)) != "0" || FormatDS(math.NaN()) != "" || FormatDS(math.Inf(-1)) != "" {
		t.Error("zero, NaN or infinity")
	}
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Float64().Draw(t, "v")
		s := FormatDS(v)
		got, err := strconv.ParseFloat(s, 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) || len(s) > 16 || strings.ContainsAny(s, "+ NI") {
			t.Fatalf("%q of %v: %v", s, v, err)
		}
		if short := strconv.FormatFloat(v, 'f', -1, 64); len(short) <= 16 && got != v {
			t.Fatalf("%q of %v, though %q would do", s, v, short)
		}
		if math.Abs(got-v) > 1e-8*math.Abs(v) {
			t.Fatalf("%q is far from %v", s, v)
		}
	})
}

// TestParseDecimal holds the quick reading of DS against strconv.
func TestParseDecimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[+-]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})([eE][+-]?[0-9]{1,2})?`).Draw(t, "s")
		want, err := strconv.ParseFloat(s, 64)
		got, err2 := parseDecimal([]byte(s))
		if err != nil || err2 != nil || got != want {
			t.Fatalf("%s: %v (%v), want %v (%v)", s, got, err2, want, err)
		}
	})
	for _, s := range []string{"NaN", "Inf", "0x1p-2", "1_000", "1,5", "", "-", ".", "1e", "1.2.3", "1 2", "1e999", "+-1"} {
		d := New()
		d.SetBytes(SliceThickness, DS, []byte(`1\`+s+`\2`))
		if v, err := d.Floats(SliceThickness); err == nil || !strings.Contains(err.Error(), "(0018,0050) SliceThickness") || !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v %v", s, v, err)
		}
	}
}

func TestGetters(t *testing.T) {
	d := New()
	if d.Has(Rows) || d.String(Rows) != "" || d.Strings(Rows) != nil || d.Seq(Rows) != nil || d.Bytes(Rows) != nil {
		t.Error("something is in nothing")
	}
	if v, err := d.Floats(Rows); v != nil || err != nil {
		t.Error(v, err)
	}
	d.SetString(StudyID)
	if !d.Has(StudyID) || d.String(StudyID) != "" || d.Strings(StudyID) != nil {
		t.Error("empty element")
	}
	d.SetString(ImageType, "ORIGINAL", "", "AXIAL")
	if got := fmt.Sprintf("%q", d.Strings(ImageType)); got != `["ORIGINAL" "" "AXIAL"]` {
		t.Error(got)
	}
	d.SetBytes(PixelSpacing, DS, []byte(` 0.5\1.5 `))
	if v, err := d.Floats(PixelSpacing); err != nil || len(v) != 2 || v[0] != 0.5 || v[1] != 1.5 {
		t.Error(v, err)
	}
	if v, ok := d.Float(PixelSpacing); !ok || v != 0.5 {
		t.Error(v)
	}
	d.SetBytes(InstanceNumber, IS, []byte("12.0 "))
	if v, ok := d.Int(InstanceNumber); !ok || v != 12 {
		t.Error(v)
	}
	d.SetBytes(NumberOfFrames, IS, []byte("12.5"))
	if v, err := d.Ints(NumberOfFrames); err == nil {
		t.Error(v)
	}
	d.SetInt(Rows, 7)
	if v, ok := d.Float(Rows); !ok || v != 7 || d.String(Rows) != "7" {
		t.Error(v)
	}
	d.SetString(TextValue, `a\b`)
	if v := d.Strings(TextValue); len(v) != 1 || v[0] != `a\b` {
		t.Error(v)
	}
	d.SetBytes(Columns, US, []byte{1, 2, 3})
	if v, err := d.Ints(Columns); err == nil {
		t.Error(v)
	}
	d.SetBytes(0x00720083, UV, []byte("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01\x00\x00\x00\x00\x00\x00\x00"))
	if v := d.Strings(0x00720083); len(v) != 2 || v[0] != "18446744073709551615" || v[1] != "1" {
		t.Error(v)
	}
	if v, err := d.Ints(0x00720083); err == nil {
		t.Error(v)
	}
	if v, err := d.Floats(0x00720083); err != nil || v[0] != math.MaxUint64 || v[1] != 1 {
		t.Error(v, err)
	}
	d.Remove(Columns, Rows)
	if d.Has(Rows) || d.Has(Columns) || !d.Has(StudyID) {
		t.Error("Remove")
	}
	for name, f := range map[string]func(){
		"SetString": func() { d.SetString(Rows, "x") },
		"SetInt":    func() { d.SetInt(PatientID, 1) },
		"SetFloat":  func() { d.SetFloat(PatientID, 1) },
		"SetSeq":    func() { d.SetSeq(PatientID) },
		"SetBytes":  func() { d.SetBytes(ContentSequence, SQ, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of a wrong VR does not panic", name)
				}
			}()
			f()
		}()
	}
}

// TestPrivate finds blocks of private elements by their creators: PS3.5 7.8.1.
func TestPrivate(t *testing.T) {
	f, err := le().short(0x00190010, "LO", "SIEMENS MR HEADER ").short(0x00190011, "LO", "OTHER ").short(0x00190012, "LO", "TWO BLOCKS").
		long(0x001900FF, "UN", "TWO BLOCKS").short(0x0019100C, "IS", "1000").short(0x0019110C, "IS", "7 ").
		short(0x0019FF01, "DS", "3.5 ").short(0x00200010, "SH", "OTHER ").read(ExplicitVRLittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		group   uint16
		creator string
		element byte
		want    Tag
	}{
		{0x0019, "SIEMENS MR HEADER", 0x0C, 0x0019100C},
		{0x0019, "OTHER", 0x0C, 0x0019110C},
		{0x0019, "OTHER", 0x0D, 0x0019110D}, // the block is there, the element is not
		{0x0019, "TWO BLOCKS", 0x01, 0x0019FF01},
		{0x0019, "TWO BLOCKS", 0x02, 0x00191202},
		{0x0019, "SIEMENS", 0x0C, 0},
		{0x0019, "", 0x0C, 0},
		{0x0029, "OTHER", 0x0C, 0},
		{0x0020, "OTHER", 0x0C, 0}, // an even group has no creators
	} {
		got, ok := f.DataSet.Private(c.group, c.creator, c.element)
		if got != c.want || ok != (c.want != 0) {
			t.Errorf("(%04X,xx%02X) of %q is %s, %v; want %s", c.group, c.element, c.creator, got, ok, c.want)
		}
	}
	if v, _ := f.DataSet.Int(0x0019100C); v != 1000 {
		t.Error(v)
	}
	var none *DataSet
	if _, ok := none.Private(0x0019, "OTHER", 0x0C); ok {
		t.Error("a block in nothing")
	}
}
