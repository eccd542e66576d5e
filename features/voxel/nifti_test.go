package voxel

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
)

type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// A niftiFile describes a file to write; fields are those of nifti1.h.
type niftiFile struct {
	order        byteOrder
	datatype     int16
	dim          []int16
	pixdim       [4]float32 // qfac first
	qform, sform int16
	quatern      [6]float32
	srow         [12]float32
	slope, inter float32
	data         []byte
	offset       float32
	magic        string
	unit         byte
}

func (f niftiFile) bytes() []byte {
	h := make([]byte, 352)
	o := f.order
	f32 := func(at int, v float32) { o.PutUint32(h[at:], math.Float32bits(v)) }
	o.PutUint32(h[0:], 348)
	o.PutUint16(h[40:], uint16(len(f.dim)))
	for k, n := range f.dim {
		o.PutUint16(h[42+2*k:], uint16(n))
	}
	o.PutUint16(h[70:], uint16(f.datatype))
	for k, v := range f.pixdim {
		f32(76+4*k, v)
	}
	f32(108, f.offset)
	f32(112, f.slope)
	f32(116, f.inter)
	h[123] = f.unit
	o.PutUint16(h[252:], uint16(f.qform))
	o.PutUint16(h[254:], uint16(f.sform))
	for k, v := range f.quatern {
		f32(256+4*k, v)
	}
	for k, v := range f.srow {
		f32(280+4*k, v)
	}
	copy(h[344:], f.magic)
	return append(h, f.data...)
}

func simpleNIfTI() niftiFile {
	return niftiFile{order: binary.LittleEndian, datatype: 2, dim: []int16{2, 1, 3}, pixdim: [4]float32{1, 0.977, 1.5, 3},
		data: []byte{0, 1, 2, 3, 4, 5}, offset: 352, magic: "n+1\x00"}
}

func read(t *testing.T, f niftiFile) *Grid {
	t.Helper()
	g, err := ReadNIfTI(bytes.NewReader(f.bytes()))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestNIfTITypes(t *testing.T) {
	want := []float64{0, 1, -2, 100, -100, 7}
	for _, order := range []byteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, c := range []struct {
			datatype int16
			unsigned bool
			encode   func(v float64) []byte
		}{
			{2, true, func(v float64) []byte { return []byte{byte(v)} }},
			{256, false, func(v float64) []byte { return []byte{byte(int8(v))} }},
			{4, false, func(v float64) []byte { return order.AppendUint16(nil, uint16(int16(v))) }},
			{512, true, func(v float64) []byte { return order.AppendUint16(nil, uint16(v)) }},
			{8, false, func(v float64) []byte { return order.AppendUint32(nil, uint32(int32(v))) }},
			{768, true, func(v float64) []byte { return order.AppendUint32(nil, uint32(v)) }},
			{1024, false, func(v float64) []byte { return order.AppendUint64(nil, uint64(int64(v))) }},
			{1280, true, func(v float64) []byte { return order.AppendUint64(nil, uint64(v)) }},
			{16, false, func(v float64) []byte { return order.AppendUint32(nil, math.Float32bits(float32(v))) }},
			{64, false, func(v float64) []byte { return order.AppendUint64(nil, math.Float64bits(v)) }},
		} {
			f := simpleNIfTI()
			f.order, f.datatype, f.data = order, c.datatype, nil
			f.slope, f.inter = 2, -1024
			var expect []float32
			for _, v := range want {
				if c.unsigned {
					v = math.Abs(v)
				}
				f.data = append(f.data, c.encode(v)...)
				expect = append(expect, float32(2*v-1024))
			}
			var zipped bytes.Buffer
			z := gzip.NewWriter(&zipped)
			z.Write(f.bytes())
			z.Close()
			plain := read(t, f)
			packed, err := ReadNIfTI(&zipped)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range expect {
				if plain.Data[i] != v || packed.Data[i] != v {
					t.Errorf("%v datatype %d: voxel %d = %v, gzip %v, want %v", order, c.datatype, i, plain.Data[i], packed.Data[i], v)
				}
			}
			if plain.Size != [3]int{2, 1, 3} || plain.Spacing != [3]float64{0.977, 1.5, 3} {
				t.Errorf("%v datatype %d: size %v spacing %v", order, c.datatype, plain.Size, plain.Spacing)
			}
		}
	}
}

// The affine is in RAS+, what comes out is in LPS+; a slope of 0 means none.
func TestNIfTIPlaces(t *testing.T) {
	f := simpleNIfTI()
	f.sform = 1
	f.srow = [12]float32{
		0, 0, 3, 10, // x to the right grows with the slice
		-0.977, 0, 0, 20,
		0, 1.5, 0, 30,
	}
	g := read(t, f)
	if got, want := g.Point(1, 1, 1), [3]float64{-13, -19.023, 31.5}; !near(got, want, 1e-6) {
		t.Errorf("sform: voxel (1,1,1) at %v, want %v", got, want)
	}
	if g.Spacing != [3]float64{0.977, 1.5, 3} {
		t.Errorf("sform: spacing %v, want that of pixdim", g.Spacing)
	}

	// A turn by 90° about S: quaternion (cos 45°, 0, 0, sin 45°); qfac −1 flips k.
	f.sform, f.qform = 0, 1
	f.pixdim[0] = -1
	f.quatern = [6]float32{0, 0, float32(math.Sqrt(0.5)), 10, 20, 30}
	g = read(t, f)
	if got, want := g.Point(1, 1, 1), [3]float64{-8.5, -20.977, 27}; !near(got, want, 1e-5) {
		t.Errorf("qform: voxel (1,1,1) at %v, want %v", got, want)
	}

	f.qform = 0
	if got, want := read(t, f).Point(1, 1, 1), [3]float64{-0.977, -1.5, 3}; !near(got, want, 1e-9) {
		t.Errorf("no form: voxel (1,1,1) at %v, want %v", got, want)
	}

	// A sheared sform is no grid; the qform is then the place.
	f.sform, f.qform = 1, 1
	f.srow = [12]float32{1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0}
	if got := read(t, f).Point(0, 0, 0); !near(got, [3]float64{-10, -20, 30}, 1e-9) {
		t.Errorf("sheared sform: origin %v, want the qform's", got)
	}
}

func near(a, b [3]float64, tol float64) bool {
	for k := range a {
		if math.Abs(a[k]-b[k]) > tol {
			return false
		}
	}
	return true
}

func TestNIfTIRefuses(t *testing.T) {
	for want, change := range map[string]func(*niftiFile){
		"holds about":       func(f *niftiFile) { f.dim = []int16{32767, 1, 1}; f.data = make([]byte, 10) },
		"above the limit":   func(f *niftiFile) { f.dim = []int16{32767, 32767, 3} },
		"dim[2] is -1":      func(f *niftiFile) { f.dim = []int16{2, -1, 3} },
		"more than three":   func(f *niftiFile) { f.dim = []int16{2, 1, 3, 2} },
		"dim[0] is 0":       func(f *niftiFile) { f.dim = nil },
		"datatype 128":      func(f *niftiFile) { f.datatype = 128 },
		"magic":             func(f *niftiFile) { f.magic = "n+2\x00" },
		"separate .img":     func(f *niftiFile) { f.magic = "ni1\x00" },
		"vox_offset":        func(f *niftiFile) { f.offset = 3 },
		"before vox_offset": func(f *niftiFile) { f.offset = 1000 },
		"must be positive":  func(f *niftiFile) { f.pixdim[2] = 0 },
		"xyzt_units":        func(f *niftiFile) { f.unit = 3 },
		"not a finite":      func(f *niftiFile) { f.slope, f.inter = 1e38, 0; f.data[5] = 255 },
	} {
		f := simpleNIfTI()
		change(&f)
		_, err := ReadNIfTI(bytes.NewReader(f.bytes()))
		if !errors.Is(err, ErrNIfTI) || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	if _, err := ReadNIfTI(strings.NewReader("")); !errors.Is(err, ErrNIfTI) {
		t.Errorf("empty file: %v", err)
	}
}

func FuzzReadNIfTI(f *testing.F) {
	f.Add(simpleNIfTI().bytes())
	big := simpleNIfTI()
	big.order, big.sform, big.srow = binary.BigEndian, 1, [12]float32{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0}
	f.Add(big.bytes())
	q := simpleNIfTI()
	q.qform, q.datatype, q.dim = 1, 64, []int16{1}
	q.data = make([]byte, 8)
	f.Add(q.bytes())
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := ReadNIfTI(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, ErrNIfTI) {
				t.Fatalf("error %v is not ErrNIfTI", err)
			}
			return
		}
		if err := g.Valid(); err != nil || len(g.Data) != g.Len() {
			t.Fatalf("accepted a grid that is not valid: %v, %d of %d voxels", err, len(g.Data), g.Len())
		}
		for _, v := range g.Data {
			if v != v {
				t.Fatal("a voxel is not a number")
			}
		}
	})
}
