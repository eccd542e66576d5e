package dicom

import (
	"bytes"
	"testing"

	suyash "github.com/suyashkumar/dicom"
)

func ctImage(b *testing.B) []byte {
	var file bytes.Buffer
	d := New()
	d.SetString(SOPClassUID, CTImageStorage)
	d.SetString(SOPInstanceUID, "1.2.3")
	for _, t := range []Tag{StudyDescription, SeriesDescription, PatientID, PatientName, Manufacturer, InstitutionName, StationName, ProtocolName} {
		d.SetString(t, "TEXT OF A LENGTH")
	}
	for _, t := range []Tag{KVP, SliceThickness, GantryDetectorTilt, TableHeight, RescaleSlope, RescaleIntercept, SliceLocation, WindowCenter, WindowWidth} {
		d.SetFloat(t, 1.25)
	}
	for i := range 100 { // a CT header has 100 to 200 elements, half of them private
		d.SetBytes(0x00431010+Tag(i), LO, []byte("private value"))
	}
	d.SetInt(Rows, 512)
	d.SetInt(Columns, 512)
	d.SetBytes(PixelData, OW, make([]byte, 512*512*2))
	if err := WriteFile(&file, FileMeta{}, d); err != nil {
		b.Fatal(err)
	}
	return file.Bytes()
}

// BenchmarkReadCT reads the header of a CT image; suyashkumar does with its pixel data skipped.
func BenchmarkReadCT(b *testing.B) {
	file := ctImage(b)
	b.Run("radnode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := readBytes(file); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("identity", func(b *testing.B) {
		_, offset, _ := ReadMeta(bytes.NewReader(file), int64(len(file)))
		b.ReportAllocs()
		for b.Loop() {
			ReadIdentity(bytes.NewReader(file[offset:]), ExplicitVRLittleEndian)
		}
	})
	b.Run("suyashkumar", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := suyash.Parse(bytes.NewReader(file), int64(len(file)), nil, suyash.SkipPixelData()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRTSTRUCT is a structure set of 300 contours and 300,000 points.
func BenchmarkRTSTRUCT(b *testing.B) {
	d := contours(300, 1000)
	var file bytes.Buffer
	if err := WriteFile(&file, FileMeta{}, d); err != nil {
		b.Fatal(err)
	}
	b.Run("read", func(b *testing.B) {
		b.SetBytes(int64(file.Len()))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := readBytes(file.Bytes()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("points", func(b *testing.B) {
		f, err := readBytes(file.Bytes())
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(file.Len()))
		for b.Loop() {
			for _, c := range f.DataSet.Seq(ROIContourSequence)[0].Seq(ContourSequence) {
				if v, err := c.Floats(ContourData); err != nil || len(v) != 3000 {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("write", func(b *testing.B) {
		b.SetBytes(int64(file.Len()))
		for b.Loop() {
			if _, err := d.EncodedBytes(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("suyashkumar", func(b *testing.B) {
		b.SetBytes(int64(file.Len()))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := suyash.Parse(bytes.NewReader(file.Bytes()), int64(file.Len()), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}
