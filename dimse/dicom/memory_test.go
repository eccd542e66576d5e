package dicom

import (
	"bytes"
	"compress/flate"
	"fmt"
	"strings"
	"testing"
)

// deflated is b as one deflate stream: PS3.5 A.5.
func deflated(b []byte) []byte {
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, flate.BestCompression)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// TestMemoryBound reads the data sets that cost the most memory for their bytes, each of half a megabyte, and holds what is
// allocated to the bound of the package comment.
func TestMemoryBound(t *testing.T) {
	const ex, im, size = ExplicitVRLittleEndian, ImplicitVRLittleEndian, 1 << 19
	repeat := func(r *raw, one func(r *raw, i int)) *raw {
		for i := 0; len(r.b) < size; i++ {
			one(r, i)
		}
		return r
	}
	item := func(content *raw) string {
		return string(le().tag(itemTag).u32(uint32(len(content.b))).text(string(content.b)).b)
	}
	open := func() *raw { return le().open(ContentSequence, "SQ") }
	kanji := le().short(SpecificCharacterSet, "CS", `\ISO 2022 IR 87 `)
	unknown := func(depth int) string { // sequences as UN in explicit VR inside of each other, which the guard reads one by one
		in := le().short(CodeValue, "SH", "ab")
		for range depth {
			in = le().long(ContentSequence, "UN", item(in))
		}
		return string(in.b)
	}
	for _, c := range []struct {
		name, ts string
		open     bool
		in       *raw
	}{
		{"empty elements", im, false, repeat(le(), func(r *raw, i int) { r.implicit(0x00290000|Tag(i/0xFF00)<<17|Tag(0x0010+i%0xFF00), "") })},
		{"one element again and again", im, false, repeat(le(), func(r *raw, i int) { r.implicit(PatientID, "") })},
		{"empty elements backwards", im, false, repeat(le(), func(r *raw, i int) { r.implicit(0x7FDFFFF0-Tag(i), "") })},
		{"empty items", ex, true, repeat(open(), func(r *raw, i int) { r.tag(itemTag).u32(0) })},
		{"items of one empty element", im, true, repeat(le().tag(ContentSequence).u32(undefinedLength), func(r *raw, i int) {
			r.text(item(le().implicit(PatientID, "")))
		})},
		{"empty sequences", im, true, repeat(le().tag(ContentSequence).u32(undefinedLength), func(r *raw, i int) {
			r.text(item(le().implicit(ContentSequence, "")))
		})},
		{"items of 65 elements", ex, true, repeat(open(), func(r *raw, i int) {
			r.text(item(func() *raw {
				one := le()
				for k := range 65 {
					one.short(0x00280000|Tag(2*k+2), "US", "")
				}
				return one
			}()))
		})},
		{"items of a growing number of elements", ex, true, repeat(open(), func(r *raw, i int) {
			one := le()
			for k := range i % 700 {
				one.short(0x00280000|Tag(2*k+2), "US", "")
			}
			r.text(item(one))
		})},
		{"16 deep again and again", ex, false, repeat(le(), func(r *raw, i int) { r.text(string(nested(16).b)) })},
		{"UN sequences", ex, true, repeat(open(), func(r *raw, i int) { r.text(item(le().text(unknown(1)))) })},
		{"UN sequences 15 deep", ex, true, repeat(open(), func(r *raw, i int) { r.text(item(le().text(unknown(15)))) })},
		{"short text again and again", im, false, repeat(le(), func(r *raw, i int) { r.implicit(PatientID, "\xe9") })},
		{"short text with an escape", im, false, repeat(le(), func(r *raw, i int) { r.implicit(PatientID, "\x1b") })},
		{"short text that does not fit", im, false, repeat(le().implicit(SpecificCharacterSet, "ISO_IR 126"), func(r *raw, i int) { r.implicit(PatientID, "\xff") })},
		{"short text with an escape in UTF-8", im, false, repeat(le().implicit(SpecificCharacterSet, "ISO_IR 192"), func(r *raw, i int) { r.implicit(PatientID, "\x1b") })},
		{"short text with an escape in GBK", im, false, repeat(le().implicit(SpecificCharacterSet, "GBK "), func(r *raw, i int) { r.implicit(PatientID, "\x1b\xcd\xf5") })},
		{"short text of GBK", im, false, repeat(le().implicit(SpecificCharacterSet, "GBK "), func(r *raw, i int) { r.implicit(PatientID, "\xcd\xf5") })},
		{"short text of Shift JIS", im, false, repeat(le().implicit(SpecificCharacterSet, "ISO_IR 13"), func(r *raw, i int) { r.implicit(PatientID, "\x93c") })},
		{"short kanji", im, false, repeat(le().implicit(SpecificCharacterSet, `\ISO 2022 IR 149`), func(r *raw, i int) { r.implicit(PatientID, "\x1b$)C\xb1\xe6") })},
		{"the same character set", im, false, repeat(le(), func(r *raw, i int) { r.implicit(SpecificCharacterSet, "GBK") })},
		{"other character sets", im, false, repeat(le(), func(r *raw, i int) {
			r.implicit(SpecificCharacterSet, string([]byte{byte('A' + i%26), byte('A' + i/26%26)}))
		})},
		{"empty UN sequences", ex, false, repeat(le(), func(r *raw, i int) { r.long(ContentSequence, "UN", "") })},
		{"wrong UN sequences", ex, false, repeat(le(), func(r *raw, i int) { r.long(ContentSequence, "UN", "x") })},
		{"unknown attributes", im, false, repeat(le(), func(r *raw, i int) { r.implicit(0x0008FFFE, "x") })},
		{"UN that is no sequence", ex, true, repeat(open(), func(r *raw, i int) { r.text(item(le().long(ContentSequence, "UN", "abcdefgh"))) })},
		{"UN sequences that end wrong", ex, true, repeat(open(), func(r *raw, i int) {
			r.text(item(le().long(ContentSequence, "UN", strings.Repeat(item(le().short(CodeValue, "SH", "")), 9)+"x")))
		})},
		{"UN sequences deep inside that end wrong", ex, true, repeat(open(), func(r *raw, i int) {
			in := le()
			for range 50 {
				in.long(ContentSequence, "UN", item(le())+"x")
			}
			for range 14 {
				in = le().long(ContentSequence, "SQ", item(in))
			}
			r.text(item(in))
		})},
		{"character sets", ex, true, repeat(open(), func(r *raw, i int) {
			r.text(item(le().short(SpecificCharacterSet, "CS", "GB18030 ").short(CodeValue, "SH", "\x81\x40")))
		})},
		{"many character sets", ex, true, repeat(open(), func(r *raw, i int) { r.text(item(le().short(SpecificCharacterSet, "CS", fmt.Sprint(1000+i%9000)))) })},
		{"character sets of many values", ex, true, repeat(open(), func(r *raw, i int) {
			r.text(item(le().short(SpecificCharacterSet, "CS", strings.Repeat(`\`, 1000))))
		})},
		{"kanji", ex, true, repeat(kanji.open(ContentSequence, "SQ"), func(r *raw, i int) {
			r.text(item(le().short(CodeMeaning, "LO", "\x1b$B"+strings.Repeat(";3ED", 12)+"\x1b(B")))
		})},
		{"one kanji each", ex, true, repeat(le().short(SpecificCharacterSet, "CS", `\ISO 2022 IR 87 `).open(ContentSequence, "SQ"), func(r *raw, i int) {
			r.text(item(le().short(CodeMeaning, "LO", "\x1b$B;3")))
		})},
		{"half-width kana", ex, true, repeat(le().short(SpecificCharacterSet, "CS", "ISO_IR 13 ").open(ContentSequence, "SQ"), func(r *raw, i int) {
			r.text(item(le().short(CodeMeaning, "LO", strings.Repeat("\xb1", 60))))
		})},
		{"Latin-1 without a character set", ex, true, repeat(open(), func(r *raw, i int) { r.text(item(le().short(CodeMeaning, "LO", "\xe9\xe9"))) })},
		{"cut letters of UTF-8", ex, true, repeat(le().short(SpecificCharacterSet, "CS", "ISO_IR 192").open(ContentSequence, "SQ"), func(r *raw, i int) {
			r.text(item(le().short(CodeMeaning, "LO", "\xc3\xa9\xc3 ")))
		})},
		{"long text of Latin-1", ex, false, le().long(TextValue, "UT", strings.Repeat("\xe9", size))},
		{"long text of GB18030", ex, false, le().short(SpecificCharacterSet, "CS", "GB18030 ").long(TextValue, "UT", strings.Repeat("\x81\x30\x81\x30", size/4))},
		{"odd lengths", ex, true, repeat(open(), func(r *raw, i int) { r.text(item(le().short(CodeValue, "SH", "a"))) })},
		{"unknown VRs", ex, false, repeat(le(), func(r *raw, i int) { r.long(0x00290010+Tag(i), "ZZ", "") })},
		{"fragments", ex, true, repeat(le().open(PixelData, "OB"), func(r *raw, i int) { r.tag(itemTag).u32(0) })},
		{"icons in fragments", ex, true, repeat(open(), func(r *raw, i int) {
			r.text(item(le().open(PixelData, "OB").tag(itemTag).u32(0).tag(sequenceEndTag).u32(0)))
		})},
		{"values of 8 KB", ex, false, repeat(le(), func(r *raw, i int) { r.long(0x00290010+Tag(i), "OB", strings.Repeat("x", 8193)) })},
		{"words", ExplicitVRBigEndian, false, func() *raw {
			r := be()
			for i := 0; len(r.b) < size; i++ {
				r.short(0x00280000|Tag(2*i+2), "US", "ab")
			}
			return r
		}()},
	} {
		if c.open {
			c.in.tag(sequenceEndTag).u32(0)
		}
		for _, ts := range []string{c.ts, DeflatedExplicitVRLittleEndian} {
			in := c.in
			n := uint64(len(in.b))
			if ts == DeflatedExplicitVRLittleEndian {
				if c.ts != ex {
					continue
				}
				in = &raw{b: deflated(in.b)}
			}
			var err error
			got := allocated(func() { _, err = in.read(ts) })
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			t.Logf("%-40s %5.1f bytes for each of %d (%v)", c.name, float64(got)/float64(n), n, err)
			if got > allocatedPerByte*n+allocatedOnce {
				t.Errorf("%s (%s): %d bytes allocated for %d", c.name, UIDName(ts), got, n)
			}
		}
	}
}

// What reading may allocate, bytes that are freed again too: so much for each byte of the data set without its pixels, after
// inflating, and so much for any data set. The package comment states it.
const (
	allocatedPerByte = 24 * raceDetector
	allocatedOnce    = 256 << 10 * raceDetector
)

// TestInflate reads deflated data sets that end otherwise than PS3.5 A.5 says. The inflated bytes are the same in all of them.
func TestInflate(t *testing.T) {
	body := le().header().b
	plain := deflated(body)
	zlib := append([]byte("\x78\x9c"), plain...)
	stored := append([]byte{0x78, byte(len(body)), byte(len(body) >> 8), ^byte(len(body)), ^byte(len(body) >> 8)}, body...) // begins as zlib does
	stored = append(stored, 1, 0, 0, 0xFF, 0xFF)
	for _, c := range []struct {
		name, note string
		in         []byte
	}{
		{"plain", "", plain},
		{"padded", "", append(bytes.Clone(plain), 0)},
		{"with bytes behind", "3 bytes after", append(bytes.Clone(plain), 1, 2, 3)},
		{"zlib", "zlib", append(bytes.Clone(zlib), 1, 2, 3, 4)},
		{"stored", "", stored},
	} {
		f, err := (&raw{b: c.in}).read(DeflatedExplicitVRLittleEndian)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if notes := strings.Join(f.Notes, "; "); f.DataSet.String(PatientID) != "42" || !strings.Contains(notes, c.note) || c.note == "" && notes != "" {
			t.Errorf("%s: notes %q", c.name, notes)
		}
		if id, err := ReadIdentity(bytes.NewReader(c.in), DeflatedExplicitVRLittleEndian); err != nil || id.PatientID != "42" {
			t.Errorf("%s: %+v %v", c.name, id, err)
		}
	}
	// A bomb of 64 KB that inflates to 64 MiB and a byte is found out in the memory of a buffer.
	bomb := deflated(le().long(PixelData, "OW", strings.Repeat("\x00", freeInflated)).b)
	var err error
	n := allocated(func() { _, err = (&raw{b: bomb}).read(DeflatedExplicitVRLittleEndian) })
	if err == nil || n > allocatedOnce {
		t.Errorf("%d bytes allocated for %d: %v", n, len(bomb), err)
	}
}

// TestUnbelievableSequences are sequences as UN that could not be read: what was read of them leaves no trace.
func TestUnbelievableSequences(t *testing.T) {
	item := func(r *raw) string { return string(le().tag(itemTag).u32(uint32(len(r.b))).text(string(r.b)).b) }
	good := le().short(SpecificCharacterSet, "CS", "KLINGON ").short(CodeMeaning, "LO", "J\xe9")
	f, err := le().long(ConceptNameCodeSequence, "UN", item(good)+item(good)+"x").long(ContentSequence, "UN", item(good)).
		short(0x0040DB00, "CS", "2000").read(ExplicitVRLittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	e := f.DataSet.Element(ConceptNameCodeSequence)
	if e.VR != UN || e.Items() != nil || len(e.value)%2 != 1 || f.DataSet.String(0x0040DB00) != "2000" || f.DataSet.Len() != 3 {
		t.Errorf("%+v", f.DataSet)
	}
	if v := f.DataSet.Seq(ContentSequence); len(v) != 1 || v[0].String(CodeMeaning) != "Jé" {
		t.Errorf("%d items", len(v))
	}
	want := []string{
		"(0040,A043): odd length",
		"(0040,A043): is UN and could not be read as a sequence",
		"(0040,A730)[1]: is in explicit VR where implicit VR was announced",
		`(0040,A730)[1].(0008,0005): character set "KLINGON" is unknown; text is read as UTF-8 or Windows-1252`,
		"(0040,A730)[1].(0008,0104): has letters that no character set covers; read as Windows-1252",
	}
	if strings.Join(f.Notes, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s", strings.Join(f.Notes, "\n"))
	}
}
