package dicom

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"testing"
	"time"
	"unicode/utf8"
)

// sharedSeeds are data sets of the reference data up to their pixels, one of a folder, as far as they are short, with their
// transfer syntax.
func sharedSeeds(f *testing.F) (bodies [][]byte, syntaxes []string) {
	if _, err := os.Stat(sharedData()); err != nil {
		return nil, nil // the seeds of radnode's own do without
	}
	for _, path := range firstOfFolders(sharedFiles(f), 1) {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		meta, offset, err := ReadMeta(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			f.Fatal(err)
		}
		file, err := readBytes(b)
		if err != nil {
			f.Fatal(err)
		}
		end := int64(len(b))
		if file.Pixels != nil {
			end = file.Pixels.Offset - 12
			if meta.TransferSyntaxUID == ImplicitVRLittleEndian {
				end = file.Pixels.Offset - 8
			}
		}
		if end-offset < 20<<10 {
			bodies = append(bodies, b[offset:end])
			syntaxes = append(syntaxes, meta.TransferSyntaxUID)
		}
	}
	return bodies, syntaxes
}

// bounded runs read, which decodes n bytes, and fails where it takes more memory or time than the package comment and common
// sense allow. A worker of the fuzzer is a process of its own, and does one thing at a time.
func bounded(t *testing.T, n int, read func()) {
	t.Helper()
	start := time.Now()
	bytes := allocated(read)
	if limit := uint64(allocatedOnce + allocatedPerByte*n + 1<<20); bytes > limit { // the fuzzer itself allocates, too
		t.Fatalf("%d bytes allocated for %d", bytes, n)
	}
	if d := time.Since(start); d > 2*time.Second+time.Duration(n)*time.Second/100_000 {
		t.Fatalf("%v for %d bytes", d, n)
	}
}

// inflated is how many bytes a body in this transfer syntax stands for.
func inflated(b []byte, ts string) int {
	if !layout(ts).Deflated {
		return len(b)
	}
	out, _, _ := inflate(bytes.NewReader(b), 0, int64(len(b)), 1<<40)
	return len(b) + len(out)
}

// seeds are small objects of every layout.
func seeds(f *testing.F) [][]byte {
	item := string(le().tag(itemTag).u32(10).short(CodeValue, "SH", "ab").b)
	var file bytes.Buffer
	d := contours(1, 2)
	d.SetString(PatientName, "Müller")
	if err := WriteFile(&file, FileMeta{}, d); err != nil {
		f.Fatal(err)
	}
	return [][]byte{
		file.Bytes(),
		le().header().b,
		be().header().long(LUTData, "OW", "abcd").long(PixelData, "OW", "abcd").b,
		le().implicit(PatientID, "42").implicit(PixelRepresentation, "\x01\x00").implicit(SmallestImagePixelValue, "\xff\xff").b,
		le().short(SpecificCharacterSet, "CS", `\ISO 2022 IR 87`).short(PatientName, "PN", "\x1b$B;3ED\x1b(B").b,
		le().long(ContentSequence, "SQ", item).open(0x00411010, "UN").text(item).tag(sequenceEndTag).u32(0).b,
		le().open(PixelData, "OB").tag(itemTag).u32(0).tag(itemTag).u32(4).text("abcd").tag(sequenceEndTag).u32(0).b,
		nested(3).b,
	}
}

// circle writes what was read and reads it again: once written by radnode, nothing changes any more.
func circle(t *testing.T, f *File) {
	for e := range f.DataSet.Elements() {
		if vrs[e.VR].text && !utf8.Valid(e.value) {
			t.Fatalf("%s is not UTF-8: %q", e.Tag, e.value)
		}
		e.Strings()
		f.DataSet.String(e.Tag)
		f.DataSet.Ints(e.Tag)
		f.DataSet.Floats(e.Tag)
	}
	first, err := f.DataSet.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ReadDataSet(bytes.NewReader(first), int64(len(first)), ExplicitVRLittleEndian)
	if err != nil {
		t.Fatalf("%v in %q", err, first)
	}
	second, err := again.DataSet.EncodedBytes()
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("%v\n%q\n%q", err, first, second)
	}
	if a, b := lines(f.DataSet), lines(again.DataSet); len(a) > len(b)+1 || len(b) > len(a)+1 { // Specific Character Set may come in
		t.Fatalf("%d elements, then %d", len(a), len(b))
	}
}

func FuzzReadFile(f *testing.F) {
	for _, b := range seeds(f) {
		f.Add(b)
		var file bytes.Buffer
		for _, ts := range fuzzSyntaxes {
			file.Reset()
			if err := WriteMeta(&file, FileMeta{MediaStorageSOPClassUID: "1.2", MediaStorageSOPInstanceUID: "1.2", TransferSyntaxUID: ts}); err != nil {
				f.Fatal(err)
			}
			file.Write(b)
			f.Add(bytes.Clone(file.Bytes()))
		}
	}
	bodies, syntaxes := sharedSeeds(f)
	for i, b := range bodies {
		var file bytes.Buffer
		if err := WriteMeta(&file, FileMeta{MediaStorageSOPClassUID: "1.2", MediaStorageSOPInstanceUID: "1.2", TransferSyntaxUID: syntaxes[i]}); err != nil {
			f.Fatal(err)
		}
		f.Add(append(file.Bytes(), b...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := len(b)
		if meta, offset, err := ReadMeta(bytes.NewReader(b), int64(len(b))); err == nil {
			n = inflated(b[offset:], meta.TransferSyntaxUID)
		}
		var file *File
		var err error
		bounded(t, n, func() { file, err = readBytes(b) })
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Error() == "" {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		circle(t, file)
	})
}

var fuzzSyntaxes = []string{ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, "1.2.840.10008.1.2.4.90", "1.2.3"}

// addShared adds the seeds of the reference data: as they are, and deflated.
func addShared(f *testing.F) {
	bodies, syntaxes := sharedSeeds(f)
	for i, b := range bodies {
		for k, ts := range fuzzSyntaxes {
			switch {
			case ts == syntaxes[i]:
				f.Add(b, uint8(k))
			case ts == DeflatedExplicitVRLittleEndian && syntaxes[i] == ExplicitVRLittleEndian:
				f.Add(deflated(b), uint8(k))
			}
		}
	}
}

func FuzzReadDataSet(f *testing.F) {
	for _, b := range seeds(f) {
		for i := range fuzzSyntaxes {
			f.Add(b, uint8(i))
		}
	}
	addShared(f)
	f.Fuzz(func(t *testing.T, b []byte, syntax uint8) {
		ts := fuzzSyntaxes[int(syntax)%len(fuzzSyntaxes)]
		var file *File
		var err error
		bounded(t, inflated(b, ts), func() { file, err = (&raw{b: b}).read(ts) })
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrUnsupported) {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		if p := file.Pixels; p != nil {
			if n, err := io.Copy(io.Discard, p.Reader()); err != nil || n != p.extent {
				t.Fatalf("%d bytes of pixels, %v, want %d", n, err, p.extent)
			}
		}
		circle(t, file)
	})
}

// FuzzIdentity holds the quick scan against the full reading.
func FuzzIdentity(f *testing.F) {
	for _, b := range seeds(f) {
		for i := range fuzzSyntaxes {
			f.Add(b, uint8(i))
		}
	}
	addShared(f)
	f.Fuzz(func(t *testing.T, b []byte, syntax uint8) {
		ts := fuzzSyntaxes[int(syntax)%len(fuzzSyntaxes)]
		var id Identity
		var err error
		bounded(t, 0, func() { id, err = ReadIdentity(bytes.NewReader(b), ts) })
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		file, err := (&raw{b: b}).read(ts)
		if err != nil || slices.ContainsFunc(file.Notes, func(string) bool { return true }) {
			return // what is wrong further on, the scan cannot know
		}
		d := file.DataSet
		for tag, got := range map[Tag]string{
			SOPClassUID: id.SOPClassUID, SOPInstanceUID: id.SOPInstanceUID, StudyInstanceUID: id.StudyInstanceUID,
			SeriesInstanceUID: id.SeriesInstanceUID, PatientID: id.PatientID, Modality: id.Modality,
		} {
			// Under a VR that is not its own the full reading knows numbers where the scan, which has the dictionary's VR,
			// sees text.
			if e := d.Element(tag); e != nil && e.VR == tag.VR() && got != d.String(tag) {
				t.Fatalf("%s is %q, want %q", tag.Keyword(), got, d.String(tag))
			}
		}
	})
}

// FuzzCharset reads any text under any Specific Character Set: it becomes UTF-8, a fault is noted, and a text of ASCII stays
// as it is.
func FuzzCharset(f *testing.F) {
	for _, terms := range []string{"", "ISO_IR 100", "ISO_IR 192", "GB18030", "GBK", "ISO_IR 13", `ISO 2022 IR 13\ISO 2022 IR 87\ISO 2022 IR 159`,
		`\ISO 2022 IR 149`, `\ISO 2022 IR 58`, `ISO 2022 IR 144\ISO 2022 IR 126`, "KLINGON", "utf-8"} {
		for _, text := range []string{"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "\x1b$(D0!\x1b(B", "\xd4\xcf\xc0\xde=\x8eR\x93c", "Hong=\x1b$)C\xfb\xf3^\xd1\xce",
			"\x1b$)A\xd5\xc5\r\n\xd0", "J\xe9r\xf4me", "Jérôme\xc3", "\x1b-L\xbb\\\xe9", "\x81\x30\x81\x30\x81", "plain"} {
			f.Add([]byte(terms), []byte(text), uint8(0))
		}
	}
	vrs := []VR{LO, PN, UT, CS, UI}
	f.Fuzz(func(t *testing.T, terms, text []byte, which uint8) {
		vr := vrs[int(which)%len(vrs)]
		before := bytes.Clone(text)
		var out []byte
		var c *charset
		var termNote string
		var r remark
		bounded(t, len(terms)+len(text), func() {
			c, termNote = parseCharset(terms)
			out, r = c.decode(vr, text)
		})
		note := r.words(vr, c)
		switch {
		case !utf8.Valid(out):
			t.Fatalf("%q is no UTF-8 (%s)", out, note)
		case !bytes.Equal(before, text):
			t.Fatal("the bytes that were read have changed")
		case len(note) > 200 || len(termNote) > 200:
			t.Fatalf("notes %q %q", termNote, note)
		case plain(text) && (note != "" || !bytes.Equal(out, text)):
			t.Fatalf("ASCII %q became %q (%s)", text, out, note)
		case note == "" && bytes.ContainsRune(out, utf8.RuneError) && !bytes.ContainsRune(text, utf8.RuneError):
			t.Fatalf("%q lost letters without a note: %q", text, out)
		}
	})
}
