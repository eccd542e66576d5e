package dicom

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// header are the first elements of an object, up to Series Instance UID.
func (r *raw) header() *raw {
	return r.short(SOPClassUID, "UI", CTImageStorage+"\x00").short(SOPInstanceUID, "UI", "1.2.3\x00").
		short(Modality, "CS", "CT").short(PatientID, "LO", "42").
		short(StudyInstanceUID, "UI", "1.2.34").short(SeriesInstanceUID, "UI", "1.2.35")
}

// allocated is how many bytes f takes from the heap, freed ones too.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// nested is n sequences inside of each other.
func nested(n int) *raw {
	r := le()
	for range n {
		r.open(ContentSequence, "SQ").tag(itemTag).u32(undefinedLength)
	}
	for range n {
		r.tag(itemDelimTag).u32(0).tag(sequenceEndTag).u32(0)
	}
	return r
}

// TestHostile gives the guard bytes that lie. Every one must end in an error of the right kind, at the right place, without
// memory that no byte backs.
func TestHostile(t *testing.T) {
	const ex, im = ExplicitVRLittleEndian, ImplicitVRLittleEndian
	pack := func(b []byte) *raw { return &raw{b: deflated(b)} }
	private := le()
	for range 10000 {
		private.tag(0x00291010).u32(undefinedLength).tag(itemTag).u32(undefinedLength)
	}
	for _, c := range []struct {
		name string
		in   *raw
		ts   string
		kind error
		path string
	}{
		{"nothing", le(), ex, ErrMalformed, ""},
		{"four bytes", le().u32(0x00080005), ex, ErrMalformed, ""},
		{"length beyond the end", le().short(Modality, "CS", "CT").tag(PatientID).text("LO").u16(10), ex, ErrMalformed, "(0010,0020)"},
		{"implicit length of 4 GB", le().tag(PatientID).u32(0xFFFFFFFE), im, ErrMalformed, "(0010,0020)"},
		{"UN of 2 GB", le().header().tag(0x00291010).text("UN").u16(0).u32(1 << 31).text(strings.Repeat("x", 232)), ex, ErrMalformed, "(0029,1010)"},
		{"OB of 4 GB", le().tag(0x00291010).text("OB").u16(0).u32(0xFFFFFFFE), ex, ErrMalformed, "(0029,1010)"},
		{"pixel data of 2 GB", le().header().tag(PixelData).text("OW").u16(0).u32(1 << 31), ex, ErrMalformed, "(7FE0,0010)"},
		{"16 sequences", nested(16), ex, nil, ""},
		{"17 sequences", nested(17), ex, ErrUnsupported, ""},
		{"80 KB of sequences", nested(2000), ex, ErrUnsupported, ""},
		{"10,000 private sequences", private, im, ErrUnsupported, ""},
		{"sequence that holds an element", le().long(ContentSequence, "SQ", string(le().short(Modality, "CS", "CT").b)), ex, ErrMalformed, "(0040,A730)"},
		{"item longer than its sequence", le().long(ContentSequence, "SQ", string(le().tag(itemTag).u32(100).b)).header(), ex, ErrMalformed, "(0040,A730)[1]"},
		{"element longer than its item", le().long(ContentSequence, "SQ", string(le().tag(itemTag).u32(8).tag(Modality).text("CS").u16(2).b)).header(), ex, ErrMalformed, "(0040,A730)[1].(0008,0060)"},
		{"sequence without an end", le().open(ContentSequence, "SQ").tag(itemTag).u32(0), ex, ErrMalformed, "(0040,A730)[1]"},
		{"item without an end", le().open(ContentSequence, "SQ").tag(itemTag).u32(undefinedLength).short(Modality, "CS", "CT"), ex, ErrMalformed, "(0040,A730)[1]"},
		{"delimiter at the top", le().header().tag(itemDelimTag).u32(0), ex, ErrMalformed, ""},
		{"fragment beyond the end", le().open(PixelData, "OB").tag(itemTag).u32(1000), ex, ErrMalformed, "(7FE0,0010)"},
		{"fragments without an end", le().open(PixelData, "OB").tag(itemTag).u32(0), ex, ErrMalformed, "(7FE0,0010)"},
		{"fragment of undefined length", le().open(PixelData, "OB").tag(itemTag).u32(undefinedLength), ex, ErrMalformed, "(7FE0,0010)"},
		{"element among fragments", le().open(PixelData, "OB").short(Modality, "CS", "CT"), ex, ErrMalformed, "(7FE0,0010)"},
		{"CS of undefined length", le().tag(Modality).u32(undefinedLength).tag(itemTag).u32(0).tag(sequenceEndTag).u32(0), im, ErrMalformed, "(0008,0060)"},
		{"VR of digits", le().header().tag(0x00400000 | 0x0254).text("12").u16(0x7FFF), ex, ErrMalformed, "(0040,0254)"},
		{"VR FF FF", le().header().tag(0x00400254).u32(0xFFFFFFFF), ex, ErrMalformed, "(0040,0254)"},
		{"5000 zeros", le().header().text(strings.Repeat("\x00", 5000)), ex, ErrMalformed, ""},
		{"truncated deflate", &raw{b: deflated(le().header().b)[:40]}, DeflatedExplicitVRLittleEndian, ErrMalformed, ""},
		{"2^31 frames", le().header().short(NumberOfFrames, "IS", "2147483647").short(Rows, "US", "\xFF\xFF").short(Columns, "US", "\xFF\xFF").
			short(BitsAllocated, "US", "\x00\x00").long(PixelData, "OW", "12345678"), ex, nil, ""},
		{"-1 frames, Samples per Pixel empty", le().header().short(SamplesPerPixel, "US", "").short(NumberOfFrames, "IS", "-1").long(PixelData, "OW", ""), ex, nil, ""},
		{"character set of another VR", le().short(SpecificCharacterSet, "US", "\x01\x02").long(PatientName, "UN", "J\xe9"), ex, nil, ""},
		{"character set that is a sequence", le().long(SpecificCharacterSet, "SQ", string(nested(1).b[12:20])+string(le().tag(itemDelimTag).u32(0).b)).header(), ex, nil, ""},
		{"group length of another VR", le().short(0x00080000, "LO", "abc ").header(), ex, nil, ""},
		{"Pixel Representation of another VR", le().long(PixelRepresentation, "OB", "").header(), ex, nil, ""},
		{"no transfer syntax", le().header(), "", nil, ""},
		{"HTJ2K", le().header().open(PixelData, "OB").tag(itemTag).u32(0).tag(sequenceEndTag).u32(0), "1.2.840.10008.1.2.4.201", nil, ""},
		{"UT of undefined length", le().open(TextValue, "UT").tag(itemTag).u32(0).tag(sequenceEndTag).u32(0), ex, ErrMalformed, "(0040,A160)"},
		{"not deflated", le().header(), DeflatedExplicitVRLittleEndian, ErrMalformed, ""},
		{"elements by deflate", pack([]byte(strings.Repeat("\x10\x00\x20\x00LO\x00\x00", 1<<19))), DeflatedExplicitVRLittleEndian, ErrUnsupported, "(0010,0020)"},
		{"deflate bomb", pack(le().header().long(PixelData, "OW", strings.Repeat("\x00", 70<<20)).b), DeflatedExplicitVRLittleEndian, ErrUnsupported, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var err error
			bytes := allocated(func() { _, err = c.in.read(c.ts) })
			if limit := uint64(allocatedOnce + allocatedPerByte*len(c.in.b)); bytes > limit && c.name != "elements by deflate" {
				t.Errorf("%d bytes allocated for %d", bytes, len(c.in.b))
			}
			if c.kind == nil {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var e *Error
			if !errors.As(err, &e) || !errors.Is(err, c.kind) {
				t.Fatalf("%v (%T), want %v", err, err, c.kind)
			}
			if c.path != "" && e.Path != c.path {
				t.Errorf("path %q, want %q", e.Path, c.path)
			}
			if e.Offset < 0 || e.Offset > int64(len(c.in.b)) && c.name != "elements by deflate" {
				t.Errorf("offset %d of %d", e.Offset, len(c.in.b))
			}
			t.Log(err)
		})
	}
}

// TestForgiven are faults that real writers make. Each is read, and noted.
func TestForgiven(t *testing.T) {
	const ex, im = ExplicitVRLittleEndian, ImplicitVRLittleEndian
	item := func(content *raw) string {
		return string(le().tag(itemTag).u32(uint32(len(content.b))).text(string(content.b)).b)
	}
	for _, c := range []struct {
		name, ts, note string
		in             *raw
		tag            Tag
		want           string
	}{
		{"odd length", ex, "odd length", le().short(Modality, "CS", "ABC").short(PatientID, "LO", "42"), PatientID, "42"},
		{"zeros behind the end", ex, "zero bytes", le().header().text(strings.Repeat("\x00", 100)), PatientID, "42"},
		{"three zeros behind the end", ex, "zero bytes", le().header().text("\x00\x00\x00"), PatientID, "42"},
		{"wrong order", ex, "ascending", le().short(PatientID, "LO", "42").short(Modality, "CS", "CT"), Modality, "CT"},
		{"twice", ex, "twice", le().short(PatientID, "LO", "42").short(PatientID, "LO", "43"), PatientID, "42"},
		{"implicit instead of explicit", ex, "implicit VR", le().implicit(Modality, "CT").implicit(PatientID, "42"), PatientID, "42"},
		{"explicit instead of implicit", im, "explicit VR", le().header(), PatientID, "42"},
		{"unknown VR", ex, "ZZ", le().long(0x00291010, "ZZ", "abcd").short(0x00400254, "LO", "x "), 0x00400254, "x"},
		{"private transfer syntax", "1.2.3.4", "", le().header(), PatientID, "42"},
		{"implicit item in an explicit sequence", ex, "implicit VR", le().short(PatientID, "LO", "42").
			long(0x00291010, "SQ", item(le().implicit(0x00291020, "abcd"))), PatientID, "42"},
		{"group lengths", ex, "", le().short(0x00080000, "UL", "\x0A\x00\x00\x00").short(Modality, "CS", "CT").
			short(0x00100000, "UL", "\xFF\xFF\xFF\xFF").short(PatientID, "LO", "42"), PatientID, "42"},
		{"trailing padding", ex, "", le().header().long(DataSetTrailingPadding, "OB", "\x00\x00"), PatientID, "42"},
		{"UN that is known", ex, "", le().long(PatientID, "UN", "42"), PatientID, "42"},
		{"icon in fragments", ex, "left out", le().short(PatientID, "LO", "42").long(IconImageSequence, "SQ", item(le().open(PixelData, "OB").
			tag(itemTag).u32(0).tag(sequenceEndTag).u32(0))), PatientID, "42"},
		{"64 bits", ex, "", le().long(0x00720082, "SV", "\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF"), 0x00720082, "-2"},
		{"NUL padding", ex, "", le().short(PatientID, "LO", "42\x00\x00"), PatientID, "42"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := c.in.read(c.ts)
			if err != nil {
				t.Fatal(err)
			}
			if got := f.DataSet.String(c.tag); got != c.want {
				t.Errorf("%s = %q, want %q", c.tag, got, c.want)
			}
			if notes := strings.Join(f.Notes, "; "); c.note == "" && notes != "" || !strings.Contains(notes, c.note) {
				t.Errorf("notes %q, want %q", notes, c.note)
			}
			for e := range f.DataSet.Elements() {
				if e.Tag&0xFFFF == 0 {
					t.Errorf("%s is kept", e.Tag)
				}
			}
		})
	}
}

// TestUnknownSequences reads sequences that come as UN: of undefined length (CP-246) and of defined length.
func TestUnknownSequences(t *testing.T) {
	code := le().implicit(CodeValue, "ab").implicit(CodeMeaning, "cd")
	item := le().tag(itemTag).u32(uint32(len(code.b))).text(string(code.b))
	for name, in := range map[string]*raw{
		"undefined": le().open(ConceptNameCodeSequence, "UN").text(string(item.b)).tag(sequenceEndTag).u32(0),
		"defined":   le().long(ConceptNameCodeSequence, "UN", string(item.b)),
		"private":   le().open(0x00291010, "UN").text(string(item.b)).tag(sequenceEndTag).u32(0),
	} {
		f, err := in.short(0x00880140, "UI", "1.2.3\x00").read(ExplicitVRLittleEndian)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		t2 := ConceptNameCodeSequence
		if name == "private" {
			t2 = 0x00291010
		}
		items := f.DataSet.Seq(t2)
		if len(items) != 1 || items[0].String(CodeMeaning) != "cd" || f.DataSet.String(0x00880140) != "1.2.3" {
			t.Errorf("%s: %d items", name, len(items))
		}
	}
	f, err := le().long(ConceptNameCodeSequence, "UN", "no items").read(ExplicitVRLittleEndian)
	if err != nil || f.DataSet.Element(ConceptNameCodeSequence).VR != UN || len(f.Notes) != 1 {
		t.Errorf("%v %v", err, f)
	}
}

// TestByteOrders reads the same values in both byte orders.
func TestByteOrders(t *testing.T) {
	read := func(r *raw, ts string) *DataSet {
		r.tag(FrameIncrementPointer).text("AT").u16(4).tag(PatientID)
		r.tag(Rows).text("US").u16(2).u16(512)
		r.tag(SmallestImagePixelValue).text("SS").u16(2).u16(0xFFFE)
		r.tag(LUTData).text("OW").u16(0).u32(4).u16(1).u16(0x0203)
		r.tag(ConceptNameCodeSequence).text("SQ").u16(0).u32(8 + 12).tag(itemTag).u32(12).tag(0x00089459).text("FL").u16(4).u32(0x3FC00000)
		r.tag(PixelData).text("OW").u16(0).u32(4).u16(1).u16(0x0203)
		f, err := r.read(ts)
		if err != nil {
			t.Fatal(err)
		}
		if f.Pixels == nil || f.Pixels.BigEndian != (ts == ExplicitVRBigEndian) || f.Pixels.Length != 4 {
			t.Errorf("pixels %+v", f.Pixels)
		}
		stored, err := io.ReadAll(f.Pixels.Reader())
		if err != nil || !bytes.Equal(stored, r.b[len(r.b)-4:]) {
			t.Errorf("pixel bytes %x, %v", stored, err)
		}
		return f.DataSet
	}
	for _, d := range []*DataSet{read(le(), ExplicitVRLittleEndian), read(be(), ExplicitVRBigEndian)} {
		if v, _ := d.Int(Rows); v != 512 {
			t.Errorf("Rows %d", v)
		}
		if v, _ := d.Int(SmallestImagePixelValue); v != -2 {
			t.Errorf("SmallestImagePixelValue %d", v)
		}
		if v, _ := d.Int(FrameIncrementPointer); Tag(v) != PatientID {
			t.Errorf("FrameIncrementPointer %x", v)
		}
		if b := d.Bytes(LUTData); !bytes.Equal(b, []byte{1, 0, 3, 2}) {
			t.Errorf("LUTData %x", b)
		}
		if items := d.Seq(ConceptNameCodeSequence); len(items) != 1 || items[0].String(0x00089459) != "1.5" {
			t.Errorf("items %v", items)
		}
	}
}

// TestTruncated cuts objects of every layout at every byte: an error, or exactly the elements before the cut.
func TestTruncated(t *testing.T) {
	explicit := func(r *raw) *raw {
		return r.header().short(Rows, "US", "\x10\x00").open(ContentSequence, "SQ").tag(itemTag).u32(undefinedLength).
			short(CodeValue, "SH", "ab").tag(itemDelimTag).u32(0).tag(sequenceEndTag).u32(0).long(PixelData, "OW", "12345678")
	}
	implicit := le().implicit(SOPClassUID, CTImageStorage+"\x00").implicit(PatientID, "42").implicit(Rows, "\x10\x00").
		tag(ContentSequence).u32(undefinedLength).tag(itemTag).u32(undefinedLength).implicit(CodeValue, "ab").tag(itemDelimTag).u32(0).
		tag(sequenceEndTag).u32(0).implicit(PixelData, "12345678")
	for _, c := range []struct {
		ts    string
		whole []byte
	}{
		{ExplicitVRLittleEndian, explicit(le()).b},
		{ExplicitVRBigEndian, explicit(be()).b},
		{ImplicitVRLittleEndian, implicit.b},
		{DeflatedExplicitVRLittleEndian, deflated(explicit(le()).b)},
	} {
		f, err := (&raw{b: c.whole}).read(c.ts)
		if err != nil {
			t.Fatal(err)
		}
		var all []Tag
		for e := range f.DataSet.Elements() {
			all = append(all, e.Tag)
		}
		good := 0
		for n := range c.whole {
			f, err := (&raw{b: c.whole[:n]}).read(c.ts)
			if err != nil {
				var e *Error
				if !errors.As(err, &e) || !errors.Is(err, ErrMalformed) {
					t.Errorf("%s cut at %d: %v", UIDName(c.ts), n, err)
				}
				continue
			}
			good++
			i := 0
			for e := range f.DataSet.Elements() {
				if e.Tag != all[i] {
					t.Errorf("%s cut at %d: %s where %s was", UIDName(c.ts), n, e.Tag, all[i])
				}
				i++
			}
			if f.Pixels != nil {
				t.Errorf("%s cut at %d: there are pixels", UIDName(c.ts), n)
			}
		}
		want := len(all) // one cut behind each element: there a bare data set does not know that it was longer
		if c.ts == DeflatedExplicitVRLittleEndian {
			want = 0
		}
		if good != want {
			t.Errorf("%s: %d cuts were read, want %d", UIDName(c.ts), good, want)
		}
	}
}

// TestManyItems holds memory to a small multiple of the bytes for 10^6 items and for 10^7 contour points.
func TestManyItems(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	items := le().open(ContentSequence, "SQ")
	for range 1_000_000 {
		items.tag(itemTag).u32(10).short(CodeValue, "SH", "ab")
	}
	items.tag(sequenceEndTag).u32(0)
	points := le().implicit(ContourData, strings.Repeat(`-123.5\12.25\3.125\`, 3_333_333)+`-123.5\12.25\3`)
	for _, c := range []struct {
		name   string
		in     *raw
		ts     string
		factor float64
	}{
		{"items", items, ExplicitVRLittleEndian, 9},
		{"points", points, ImplicitVRLittleEndian, 1.1},
	} {
		var f *File
		var err error
		n := allocated(func() { f, err = c.in.read(c.ts) })
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes, %.1f times that allocated", c.name, len(c.in.b), float64(n)/float64(len(c.in.b)))
		if float64(n) > c.factor*float64(len(c.in.b)) {
			t.Errorf("%s: %d bytes allocated for %d", c.name, n, len(c.in.b))
		}
		if c.name == "points" {
			v, err := f.DataSet.Floats(ContourData)
			if err != nil || len(v) != 10_000_002 || v[len(v)-1] != 3 || v[3] != -123.5 {
				t.Errorf("%d numbers, %v", len(v), err)
			}
		}
	}
}

// TestLimit counts elements, items and fragments alike.
func TestLimit(t *testing.T) {
	in := le().open(ContentSequence, "SQ").tag(itemTag).u32(10).short(CodeValue, "SH", "ab").tag(sequenceEndTag).u32(0).
		open(PixelData, "OB").tag(itemTag).u32(0).tag(sequenceEndTag).u32(0).b
	for limit := range 8 {
		g := guard{cursor: cursor{r: bytes.NewReader(in), size: int64(len(in))}, limit: limit, room: 1 << 20}
		_, err := g.dataSet(context{coding: coding{explicit: true}}, g.size, false)
		if want := limit < 6; errors.Is(err, ErrUnsupported) != want { // 2 elements and 1 in an item, 1 item, 1 fragment, the end
			t.Errorf("limit %d: %v", limit, err)
		}
	}
}

// counting notes how far a stream was read.
type counting struct {
	r io.Reader
	n int64
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

func TestIdentity(t *testing.T) {
	want := Identity{CTImageStorage, "1.2.3", "1.2.34", "1.2.35", "42", "CT"}
	tail := strings.Repeat("x", 1<<20)
	private := le().short(SOPClassUID, "UI", CTImageStorage+"\x00").short(SOPInstanceUID, "UI", "1.2.3\x00").short(Modality, "CS", "CT").
		open(0x00081140, "SQ").tag(itemTag).u32(undefinedLength).short(ReferencedSOPClassUID, "UI", "1.2.9\x00").
		open(0x00091010, "UN").tag(itemTag).u32(4).text("abcd").tag(sequenceEndTag).u32(0).
		tag(itemDelimTag).u32(0).tag(itemTag).u32(2).text("zz").tag(sequenceEndTag).u32(0).
		long(0x00091011, "OB", strings.Repeat("y", 3<<20)).
		short(PatientID, "LO", "42").short(StudyInstanceUID, "UI", "1.2.34").short(SeriesInstanceUID, "UI", "1.2.35")
	var deflated bytes.Buffer
	w, _ := flate.NewWriter(&deflated, 1)
	w.Write(le().header().long(PixelData, "OW", tail).b)
	w.Close()
	implicit := le().implicit(SOPClassUID, CTImageStorage+"\x00").implicit(SOPInstanceUID, "1.2.3\x00").implicit(Modality, "CT").
		implicit(PatientID, "42").implicit(StudyInstanceUID, "1.2.34").implicit(SeriesInstanceUID, "1.2.35").implicit(PixelData, tail)
	for _, c := range []struct {
		name, ts string
		in       []byte
		limit    int64
	}{
		{"explicit", ExplicitVRLittleEndian, le().header().long(PixelData, "OW", tail).b, 8192},
		{"big endian", ExplicitVRBigEndian, be().header().long(PixelData, "OW", tail).b, 8192},
		{"implicit", ImplicitVRLittleEndian, implicit.b, 8192},
		{"implicit, said to be explicit", ExplicitVRLittleEndian, implicit.b, 8192},
		{"deflated", DeflatedExplicitVRLittleEndian, deflated.Bytes(), 8192},
		{"JPEG 2000", "1.2.840.10008.1.2.4.90", le().header().open(PixelData, "OB").text(tail).b, 8192},
		{"private transfer syntax", "1.2.3.4", le().header().long(PixelData, "OW", tail).b, 8192},
		{"ends behind the last", ExplicitVRLittleEndian, le().header().b, 8192},
		{"sequences and private elements before", ExplicitVRLittleEndian, private.b, 4 << 20},
	} {
		r := counting{r: bytes.NewReader(c.in)}
		var got Identity
		var err error
		n := allocated(func() { got, err = ReadIdentity(&r, c.ts) })
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		if r.n > c.limit || n > 100<<10 {
			t.Errorf("%s: %d bytes read, %d allocated", c.name, r.n, n)
		}
	}
	full := le().header().b
	for n := range full {
		_, err := ReadIdentity(bytes.NewReader(full[:n]), ExplicitVRLittleEndian)
		var e *Error
		if !errors.As(err, &e) || !errors.Is(err, ErrMalformed) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	zeros := le().short(SOPClassUID, "UI", "1.2\x00").short(SOPInstanceUID, "UI", "1.02").short(StudyInstanceUID, "UI", "1.2\x00").short(SeriesInstanceUID, "UI", "1.2\x00")
	if id, err := ReadIdentity(bytes.NewReader(zeros.b), ExplicitVRLittleEndian); err != nil || id.SOPInstanceUID != "1.02" {
		t.Errorf("leading zero: %v %v", id, err)
	}
	identified := func(uid string) *raw {
		return le().short(SOPClassUID, "UI", "1.2").short(SOPInstanceUID, "UI", uid).short(StudyInstanceUID, "UI", "1.2").short(SeriesInstanceUID, "UI", "1.2")
	}
	broken := func(r io.Reader) error { _, err := ReadIdentity(r, ExplicitVRLittleEndian); return err }
	for _, c := range []struct {
		in   *raw
		path string
	}{
		{le().short(SOPClassUID, "UI", CTImageStorage+"\x00").short(0x00280010, "US", "\x00\x02"), "(0008,0018)"},
		{le().short(SOPInstanceUID, "UI", "1.2.3\x00").short(0x00280010, "US", "\x00\x02"), "(0008,0016)"},
		{le().short(SOPClassUID, "UI", "1.2").short(SOPInstanceUID, "UI", "../../etc/passwd").short(StudyInstanceUID, "UI", "1.2").short(SeriesInstanceUID, "UI", "1.2"), "(0008,0018)"},
		{identified("/etc/x"), "(0008,0018)"},
		{identified("1.2\x003"), "(0008,0018)"},
		{identified("$(id)"), "(0008,0018)"},
		{identified(strings.Repeat("1.", 32) + "1"), "(0008,0018)"},
		{identified("1..2"), "(0008,0018)"},
		{identified(""), "(0008,0018)"},
		{identified("1.2\n"), "(0008,0018)"},
		{le().short(SOPClassUID, "UI", "1.2").short(SOPInstanceUID, "UI", "1.2").short(StudyInstanceUID, "UI", "").short(SeriesInstanceUID, "UI", "1.2"), "(0020,000D)"},
		{le().short(SOPClassUID, "UI", "1.2").short(SOPInstanceUID, "UI", "1.2").short(StudyInstanceUID, "UI", "1.2").short(0x00280010, "US", "\x00\x02"), "(0020,000E)"},
		{nested(20).header(), "(0040,A730)"},
	} {
		var e *Error
		if err := broken(bytes.NewReader(c.in.b)); !errors.As(err, &e) || e.Path != c.path {
			if c.path != "(0040,A730)" { // which is behind (0020,000E)
				t.Errorf("%v, want an error at %s", err, c.path)
			}
		}
	}
	if err := broken(bytes.NewReader(le().tag(0x00091010).text("UN").u16(0).u32(0xFFFFFFFE).b)); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
	failure := errors.New("connection reset")
	if err := broken(io.MultiReader(bytes.NewReader(full[:50]), errReader{failure})); !errors.Is(err, failure) || errors.Is(err, ErrMalformed) {
		t.Errorf("error of the reader becomes %v", err)
	}
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

// TestSharedIdentity compares the quick scan with the full reading on real objects.
func TestSharedIdentity(t *testing.T) {
	for _, path := range sharedFiles(t) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := readBytes(b)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		if len(f.Notes) > 0 {
			t.Errorf("%s: %q", path, f.Notes)
		}
		_, offset, err := ReadMeta(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadIdentity(bytes.NewReader(b[offset:]), f.Meta.TransferSyntaxUID)
		d := f.DataSet
		want := Identity{d.String(SOPClassUID), d.String(SOPInstanceUID), d.String(StudyInstanceUID), d.String(SeriesInstanceUID), d.String(PatientID), d.String(Modality)}
		if err != nil || got != want {
			t.Errorf("%s: %+v %v", path, got, err)
		}
	}
}

func TestMeta(t *testing.T) {
	var b bytes.Buffer
	want := FileMeta{CTImageStorage, "1.2.3", "1.2.840.10008.1.2.4.90", "1.2.4", "X_1", "SENDER"}
	if err := WriteMeta(&b, want); err != nil {
		t.Fatal(err)
	}
	got, offset, err := ReadMeta(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil || got != want || offset != int64(b.Len()) {
		t.Errorf("%+v %d %v", got, offset, err)
	}
	if n := binary.LittleEndian.Uint32(b.Bytes()[140:]); int(n) != b.Len()-144 {
		t.Errorf("group length %d of %d bytes", n, b.Len())
	}
	for n := range b.Len() {
		f, err := readBytes(b.Bytes()[:n])
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("cut at %d: %v %v", n, f, err)
		}
	}
	if err := WriteMeta(io.Discard, FileMeta{MediaStorageSOPClassUID: "1.2", MediaStorageSOPInstanceUID: "1.2"}); err == nil || !strings.Contains(err.Error(), "(0002,0010)") {
		t.Error(err)
	}
	for _, junk := range []string{"", "DICM", strings.Repeat("\x00", 128) + "DICM", strings.Repeat("\x00", 128) + "DICX" + strings.Repeat("x", 100)} {
		if _, err := readBytes([]byte(junk)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v", len(junk), err)
		}
	}
	// A value of File Meta Information that claims all memory.
	lie := le().text(strings.Repeat("\x00", 128) + "DICM").tag(metaTransferSyntax).text("UI").u16(60000)
	if _, err := readBytes(lie.b); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

// TestReaderThatLies gives a size that the bytes do not have.
func TestPreamble(t *testing.T) {
	var file bytes.Buffer
	d := New()
	d.SetString(SOPClassUID, CTImageStorage)
	d.SetString(SOPInstanceUID, "1.2.3")
	if err := WriteFile(&file, FileMeta{}, d); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file.Bytes()[:128], make([]byte, 128)) {
		t.Errorf("preamble %q", file.Bytes()[:128])
	}
	for start, noted := range map[string]bool{"\x00\x00": false, "II*\x00": false, "MZ\x90\x00": true, "\x7FELF": true, "#!/bin/sh": true} {
		b := bytes.Clone(file.Bytes())
		copy(b, start)
		f, err := readBytes(b)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(strings.Join(f.Notes, ""), "program"); got != noted || !noted && len(f.Notes) > 0 {
			t.Errorf("%q: %q", start, f.Notes)
		}
	}
}

// TestPlaces breaks the same element in every layout: the error has its path, and the offset of its value.
func TestPlaces(t *testing.T) {
	build := func(r *raw, explicit bool) *raw {
		element := func(r *raw, t Tag, vr, value string) {
			if explicit {
				r.short(t, vr, value)
			} else {
				r.implicit(t, value)
			}
		}
		sequence := func(r *raw, t Tag) {
			if explicit {
				r.open(t, "SQ")
			} else {
				r.tag(t).u32(undefinedLength)
			}
		}
		element(r, PatientID, "LO", "42")
		sequence(r, ROIContourSequence)
		r.tag(itemTag).u32(undefinedLength)
		element(r, ReferencedROINumber, "IS", "1 ")
		r.tag(itemDelimTag).u32(0)
		r.tag(itemTag).u32(undefinedLength)
		sequence(r, ContourSequence)
		r.tag(itemTag).u32(18 - 2)
		element(r, ContourNumber, "IS", "")
		if r.tag(ContourData); explicit {
			r.text("DS").u16(2)
		} else {
			r.u32(2)
		}
		return r
	}
	for _, c := range []struct {
		in *raw
		ts string
	}{
		{build(le(), true), ExplicitVRLittleEndian},
		{build(le(), false), ImplicitVRLittleEndian},
		{build(be(), true), ExplicitVRBigEndian},
		{&raw{b: deflated(build(le(), true).b)}, DeflatedExplicitVRLittleEndian},
	} {
		at := int64(len(build(le(), c.ts != ImplicitVRLittleEndian).b)) // after inflating
		_, err := c.in.read(c.ts)
		var e *Error
		if !errors.As(err, &e) || e.Path != "(3006,0039)[2].(3006,0040)[1].(3006,0050)" || e.Offset != at || !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v, want the place %d", UIDName(c.ts), err, at)
		}
		// In a file the offset is that of the file.
		var file bytes.Buffer
		if err := WriteMeta(&file, FileMeta{MediaStorageSOPClassUID: "1.2", MediaStorageSOPInstanceUID: "1.2", TransferSyntaxUID: c.ts}); err != nil {
			t.Fatal(err)
		}
		if c.ts != DeflatedExplicitVRLittleEndian {
			at += int64(file.Len())
		}
		file.Write(c.in.b)
		if _, err := readBytes(file.Bytes()); !errors.As(err, &e) || e.Offset != at {
			t.Errorf("%s: %v, want the place %d", UIDName(c.ts), err, at)
		}
	}
}

func TestReaderThatLies(t *testing.T) {
	b := le().header().tag(PixelData).text("OB").u16(0).u32(1 << 30).b
	var err error
	if n := allocated(func() { _, err = ReadDataSet(bytes.NewReader(b), 1<<40, ExplicitVRLittleEndian) }); err == nil || n > 1<<20 {
		t.Errorf("%v, %d bytes", err, n)
	}
}

// TestDisk reads by a real file, whose pixels stay on the disk.
func TestDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image.dcm")
	var file bytes.Buffer
	if err := WriteMeta(&file, FileMeta{MediaStorageSOPClassUID: CTImageStorage, MediaStorageSOPInstanceUID: "1.2.3", TransferSyntaxUID: ExplicitVRLittleEndian}); err != nil {
		t.Fatal(err)
	}
	file.Write(le().header().long(PixelData, "OW", strings.Repeat("ab", 4<<20)).b)
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var f *File
	if n := allocated(func() { f, err = ReadFile(r, int64(file.Len())) }); err != nil || n > 200<<10 {
		t.Fatalf("%d bytes allocated, %v", n, err)
	}
	if b, err := io.ReadAll(f.Pixels.Reader()); err != nil || string(b) != strings.Repeat("ab", 4<<20) {
		t.Errorf("%d bytes of pixels, %v", len(b), err)
	}
}

func ExampleError() {
	_, err := (&raw{b: le().long(ContentSequence, "SQ", string(le().tag(itemTag).u32(8).tag(Modality).text("CS").u16(2).b)).b}).read(ExplicitVRLittleEndian)
	fmt.Println(err)
	// Output: (0040,A730)[1].(0008,0060) Modality: claims 2 bytes where 0 are left; it is truncated, send it again (at byte 28)
}
