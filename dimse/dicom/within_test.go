package dicom

import (
	"bytes"
	"compress/flate"
	"errors"
	"testing"
)

// Who has little room gets an error before more is taken, and can go without what fills it: then it is not read, and all else is.
func TestReadWithin(t *testing.T) {
	for _, ts := range []string{ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian} {
		d := contours(20, 1000)
		data, err := d.EncodedBytes()
		switch ts {
		case ImplicitVRLittleEndian:
			data, err = d.EncodedImplicit()
		case DeflatedExplicitVRLittleEndian:
			var b bytes.Buffer
			w, _ := flate.NewWriter(&b, flate.BestSpeed)
			_, _ = w.Write(data)
			_ = w.Close()
			data = b.Bytes()
		}
		if err != nil {
			t.Fatal(ts, err)
		}
		read := func(room int64, without ...Tag) (*File, error) {
			return ReadDataSetWithin(bytes.NewReader(data), int64(len(data)), ts, room, without...)
		}
		all, err := ReadDataSet(bytes.NewReader(data), int64(len(data)), ts)
		if err != nil {
			t.Fatal(ts, err)
		}
		if _, err := read(all.Memory); err != nil {
			t.Errorf("%s in just enough room: %v", ts, err)
		}
		for _, room := range []int64{-1, 0, 1, all.Memory / 2, all.Memory - 1} {
			if _, err := read(room); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s in %d of %d bytes: %v", ts, room, all.Memory, err)
			}
		}
		if ts == DeflatedExplicitVRLittleEndian {
			continue // is inflated as a whole
		}
		without, err := read(all.Memory/2, ContourData)
		if err != nil {
			t.Fatalf("%s without contour data: %v", ts, err)
		}
		if without.Memory > all.Memory/10 {
			t.Errorf("%s: %d bytes without contour data, %d with it", ts, without.Memory, all.Memory)
		}
		n := 0
		var drop func(d *DataSet)
		drop = func(d *DataSet) {
			for e := range d.Elements() {
				for _, item := range e.Items() {
					drop(item)
				}
				if e.Tag == ContourData {
					d.SetBytes(ContourData, e.VR, nil)
					n++
				}
			}
		}
		drop(all.DataSet)
		want, _ := all.DataSet.EncodedBytes()
		got, err := without.DataSet.EncodedBytes()
		if err != nil || n == 0 || !bytes.Equal(got, want) {
			t.Errorf("%s: what is read without %d values of contour data is not all else, %v", ts, n, err)
		}
	}
}
