package dicom

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"unicode/utf8"
)

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
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := readBytes(b)
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

func FuzzReadDataSet(f *testing.F) {
	for _, b := range seeds(f) {
		for i := range fuzzSyntaxes {
			f.Add(b, uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, syntax uint8) {
		ts := fuzzSyntaxes[int(syntax)%len(fuzzSyntaxes)]
		file, err := (&raw{b: b}).read(ts)
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
	f.Fuzz(func(t *testing.T, b []byte, syntax uint8) {
		ts := fuzzSyntaxes[int(syntax)%len(fuzzSyntaxes)]
		id, err := ReadIdentity(bytes.NewReader(b), ts)
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
			// Under a VR that is not its own the full reading knows numbers where the scan, which has the dictionary's VR, sees text.
			if e := d.Element(tag); e != nil && e.VR == tag.VR() && got != d.String(tag) {
				t.Fatalf("%s is %q, want %q", tag.Keyword(), got, d.String(tag))
			}
		}
	})
}
