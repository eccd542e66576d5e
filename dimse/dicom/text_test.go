package dicom

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCleanLine(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"GTV-1", "GTV-1"},
		{"  a\tb\x1b[31m\\c ", "a b [31m/c"},
		{strings.Repeat("x", 64), strings.Repeat("x", 64)},
		{strings.Repeat("x", 65), strings.Repeat("x", 61) + "..."},
		{strings.Repeat("ż", 33), strings.Repeat("ż", 30) + "..."},
		{"\xff", ""},
	} {
		if got := CleanLine(c.in, 64); got != c.want {
			t.Errorf("CleanLine(%q) = %q, want %q", c.in, got, c.want)
		}
	}
	// Whatever comes in, what comes out can be written.
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "text"))
		d := New()
		d.SetString(SeriesDescription, CleanLine(s, 64))
		d.SetString(ImageComments, CleanText(s))
		if _, err := d.EncodedBytes(); err != nil {
			t.Fatal(err)
		}
	})
}

// Both encodings hold the same data set.
func TestImplicitIsTheSameDataSet(t *testing.T) {
	item := New()
	item.SetString(ReferencedSOPInstanceUID, "1.2.3")
	item.SetSeq(PurposeOfReferenceCodeSequence)
	d := New()
	d.SetString(PatientName, "Ωmega^Żółć")
	d.SetInt(Rows, 512)
	d.SetFloat(SliceThickness, 2.5)
	d.SetSeq(ReferencedImageSequence, item, New())
	d.SetBytes(PixelData, OW, []byte{1, 2, 3, 4})
	explicit, err := d.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	implicit, err := d.EncodedImplicit()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(explicit, implicit) {
		t.Fatal("the two encodings are the same bytes")
	}
	f, err := ReadDataSet(bytes.NewReader(implicit), int64(len(implicit)), ImplicitVRLittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	f.DataSet.SetBytes(PixelData, OW, []byte{1, 2, 3, 4})
	again, err := f.DataSet.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, explicit) {
		t.Error("read from Implicit VR, the data set encodes to other bytes")
	}
}
