package voxel

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
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
	sizeofHdr    uint32
}

func (f niftiFile) bytes() []byte {
	h := make([]byte, 352)
	o := f.order
	f32 := func(at int, v float32) { o.PutUint32(h[at:], math.Float32bits(v)) }
	o.PutUint32(h[0:], f.sizeofHdr)
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
		data: []byte{0, 1, 2, 3, 4, 5}, offset: 352, magic: "n+1\x00", sizeofHdr: 348}
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
			plain := read(t, f)
			packed, err := ReadNIfTI(bytes.NewReader(gzipped(f.bytes())))
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

// The places of voxel (1,2,3) are those that nibabel 5.4.2 computes, in LPS; a
// qfac of −1 makes the axes left-handed.
func TestNIfTIQuaternions(t *testing.T) {
	for _, c := range []struct {
		b, c, d, qfac float32
		want          [3]float64
	}{
		{.1, .2, .3, 1, [3]float64{-13.052231, -22.393448, 38.712624}},
		{.1, -.2, .3, -1, [3]float64{-11.732231, -25.653791, 22.51745}},
		{.6, .8, 0, 1, [3]float64{-12.60644, -21.77792, 21}}, // a turn by 180°
		{-.5, .5, .5, -1, [3]float64{-7, -11, 29.023}},
	} {
		f := simpleNIfTI()
		f.qform, f.quatern, f.pixdim[0] = 1, [6]float32{c.b, c.c, c.d, 10, 20, 30}, c.qfac
		g := read(t, f)
		if got := g.Point(1, 2, 3); !near(got, c.want, 1e-5) {
			t.Errorf("%v: %v", c, got)
		}
		if d := determinant(g.Axes); math.Abs(d-float64(c.qfac)) > 1e-6 {
			t.Errorf("%v: determinant %v", c, d)
		}
	}
	f := simpleNIfTI()
	f.sform, f.srow = 1, [12]float32{-0.977, 0, 0, 0, 0, 1.5, 0, 0, 0, 0, 3, 0} // x to the left, y to the front
	g := read(t, f)
	if got := g.Point(1, 1, 1); !near(got, [3]float64{0.977, -1.5, 3}, 1e-9) || determinant(g.Axes) != -1 {
		t.Errorf("left-handed sform: voxel (1,1,1) at %v", got)
	}
	// The sform is the place of a file that has both, and its voxel sizes count.
	f.qform, f.quatern, f.srow[10] = 1, [6]float32{0, 0, 0, 10, 20, 30}, 2.5
	if g := read(t, f); g.Origin != [3]float64{} || g.Spacing != [3]float64{0.977, 1.5, 2.5} {
		t.Errorf("both forms: origin %v, spacing %v", g.Origin, g.Spacing)
	}
}

func determinant(a [3][3]float64) float64 {
	return a[0][0]*(a[1][1]*a[2][2]-a[1][2]*a[2][1]) - a[0][1]*(a[1][0]*a[2][2]-a[1][2]*a[2][0]) + a[0][2]*(a[1][0]*a[2][1]-a[1][1]*a[2][0])
}

// A slope of 0 or one that is no number means none; dimensions of one voxel
// beyond the third, and sizes of dimensions that are not there, mean nothing.
func TestNIfTILeniency(t *testing.T) {
	nan := float32(math.NaN())
	for name, change := range map[string]func(*niftiFile){
		"slope 0":     func(f *niftiFile) { f.slope, f.inter = 0, 7 },
		"slope NaN":   func(f *niftiFile) { f.slope, f.inter = nan, nan },
		"five":        func(f *niftiFile) { f.dim = []int16{2, 1, 3, 1, 1} },
		"one, no mm":  func(f *niftiFile) { f.dim, f.pixdim = []int16{6}, [4]float32{0, 1, 0, 0} },
		"offset":      func(f *niftiFile) { f.offset, f.data = 368, append(make([]byte, 16), f.data...) },
		"more behind": func(f *niftiFile) { f.data = append(f.data, 9, 9) },
		"mm and s":    func(f *niftiFile) { f.unit = 2 | 8 },
	} {
		f := simpleNIfTI()
		change(&f)
		if g := read(t, f); !slices.Equal(g.Data, []float32{0, 1, 2, 3, 4, 5}) {
			t.Errorf("%s: %v", name, g.Data)
		}
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
		"NIfTI-2":           func(f *niftiFile) { f.sizeofHdr = 540 },
		"it is a NIfTI-2":   func(f *niftiFile) { f.sizeofHdr, f.order = 540, binary.BigEndian },
		"sizeof_hdr is 7":   func(f *niftiFile) { f.sizeofHdr = 7 },
		"qform":             func(f *niftiFile) { f.qform, f.quatern[3] = 1, float32(math.Inf(1)) },
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

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(b)
	z.Close()
	return out.Bytes()
}

// A flipped bit in a packed file changes voxels and nothing else; the checksum,
// which lies behind them, tells.
func TestNIfTIPacked(t *testing.T) {
	f := simpleNIfTI()
	good := gzipped(f.bytes())
	for name, file := range map[string][]byte{
		"zeros behind":      append(bytes.Clone(good), make([]byte, 512)...),
		"a second member":   append(gzipped(f.bytes()[:355]), gzipped(f.bytes()[355:])...),
		"bytes in the file": gzipped(append(f.bytes(), 1, 2, 3)),
	} {
		g, err := ReadNIfTI(bytes.NewReader(file))
		if err != nil || !slices.Equal(g.Data, []float32{0, 1, 2, 3, 4, 5}) {
			t.Errorf("%s: %v, %v", name, g, err)
		}
	}
	wrong := bytes.Clone(good)
	wrong[len(wrong)-8] ^= 1
	for name, file := range map[string][]byte{"checksum": wrong, "EOF": good[:len(good)-3], "gzip": good[:5]} {
		if _, err := ReadNIfTI(bytes.NewReader(file)); !errors.Is(err, ErrNIfTI) || !strings.Contains(err.Error(), name) {
			t.Errorf("want an error with %q, got %v", name, err)
		}
	}
}

// A device that fails says nothing about the file.
func TestNIfTIReadError(t *testing.T) {
	broken := errors.New("broken device")
	for _, file := range [][]byte{simpleNIfTI().bytes(), gzipped(simpleNIfTI().bytes())} {
		for _, n := range []int{0, 20, len(file) - 9} {
			_, err := ReadNIfTI(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken)))
			if !errors.Is(err, broken) || errors.Is(err, ErrNIfTI) {
				t.Errorf("after %d bytes: %v", n, err)
			}
		}
	}
}

// A header that claims 2 GiB takes as much memory as its few bytes deserve.
func TestNIfTIMemory(t *testing.T) {
	f := simpleNIfTI()
	f.dim = []int16{32767, 16384, 1}
	f.data = make([]byte, 3<<20)
	file := f.bytes()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := ReadNIfTI(bytes.NewReader(file))
	runtime.ReadMemStats(&after)
	// At most four times the voxels that are there, and the block before that.
	if used := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, ErrNIfTI) || used > 21<<20 {
		t.Errorf("%d bytes for 3 Mi voxels; %v", used, err)
	}
}

// More voxels than are read at a time, with a rest, so that chunks are put together.
func TestNIfTIChunks(t *testing.T) {
	f := simpleNIfTI()
	f.datatype, f.dim, f.data = 512, []int16{1100, 1001, 2}, nil
	for i := range 1100 * 1001 * 2 {
		f.data = f.order.AppendUint16(f.data, uint16(i%65521))
	}
	g := read(t, f)
	for i, v := range g.Data {
		if v != float32(i%65521) {
			t.Fatalf("voxel %d = %v", i, v)
		}
	}
	if len(g.Data) != g.Len() {
		t.Errorf("%d voxels of %d", len(g.Data), g.Len())
	}
}

func FuzzReadNIfTI(f *testing.F) {
	for datatype, n := range sampleBytes {
		for _, order := range []byteOrder{binary.LittleEndian, binary.BigEndian} {
			s := simpleNIfTI()
			s.order, s.datatype, s.data = order, int16(datatype), make([]byte, 6*n)
			s.slope, s.inter = 2, -1
			f.Add(s.bytes())
			s.sform, s.srow = 1, [12]float32{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0}
			f.Add(gzipped(s.bytes()))
			s.sform, s.qform, s.quatern, s.dim = 0, 1, [6]float32{.6, .8}, []int16{2, 3}
			f.Add(s.bytes())
		}
	}
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
		for _, v := range slices.Concat(g.Data, []float32{float32(g.Origin[0]), float32(g.Origin[1]), float32(g.Origin[2])}) {
			if v-v != 0 {
				t.Fatal("a voxel or the origin is not finite")
			}
		}
		// gzip packs at most 1032 to 1.
		if len(g.Data) > 1032*len(b) || cap(g.Data) > max(1<<20, 4*len(g.Data)) {
			t.Fatalf("%d voxels in %d, of %d bytes", len(g.Data), cap(g.Data), len(b))
		}
	})
}

// BenchmarkReadNIfTI reads 35 million voxels, the size of a chest CT.
func BenchmarkReadNIfTI(b *testing.B) {
	for _, c := range []struct {
		name         string
		order        byteOrder
		datatype     int16
		bytes        int
		slope, inter float32
	}{
		{"uint8", binary.LittleEndian, 2, 1, 1, 0},
		{"int16", binary.LittleEndian, 4, 2, 1, 0},
		{"int16-big", binary.BigEndian, 4, 2, 1, 0},
		{"int16-scaled", binary.LittleEndian, 4, 2, 2, -1024},
		{"float32", binary.LittleEndian, 16, 4, 1, 0},
		{"float64", binary.LittleEndian, 64, 8, 1, 0},
	} {
		f := simpleNIfTI()
		f.order, f.datatype, f.dim, f.slope, f.inter = c.order, c.datatype, []int16{512, 512, 134}, c.slope, c.inter
		f.data = make([]byte, 512*512*134*c.bytes)
		seed := uint32(1)
		for i := range f.data {
			seed = seed*1664525 + 1013904223
			f.data[i] = byte(seed>>30) << (i & 1) // no exponent of a number that is not finite
		}
		plain := f.bytes()
		files := map[string][]byte{"": plain}
		if c.name == "int16" {
			var zipped bytes.Buffer
			z, _ := gzip.NewWriterLevel(&zipped, gzip.BestSpeed)
			z.Write(plain)
			z.Close()
			files["-gzip"] = zipped.Bytes()
		}
		for packed, file := range files {
			b.Run(c.name+packed, func(b *testing.B) {
				b.SetBytes(int64(len(plain)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := ReadNIfTI(bytes.NewReader(file)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
