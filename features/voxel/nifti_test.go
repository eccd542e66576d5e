package voxel

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
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
		"a finite number":   func(f *niftiFile) { f.slope, f.inter, f.data = 1, float32(math.Inf(-1)), make([]byte, 6) },
	} {
		f := simpleNIfTI()
		change(&f)
		for name, err := range readings(f.bytes()) {
			if !errors.Is(err, ErrNIfTI) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: want an error with %q, got %v", name, want, err)
			}
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
		for reading, err := range readings(file) {
			if !errors.Is(err, ErrNIfTI) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: want an error with %q, got %v", reading, name, err)
			}
		}
	}
}

// A device that fails says nothing about the file.
func TestNIfTIReadError(t *testing.T) {
	broken := errors.New("broken device")
	for _, file := range [][]byte{simpleNIfTI().bytes(), gzipped(simpleNIfTI().bytes())} {
		for _, n := range []int{0, 20, len(file) - 9} {
			r := func() io.Reader { return io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken)) }
			_, err := ReadNIfTI(r())
			_, err2 := ReadNIfTIMask(r())
			_, err3 := ReadNIfTIPart(r(), firstVoxel)
			for _, err := range []error{err, err2, err3} {
				if !errors.Is(err, broken) || errors.Is(err, ErrNIfTI) {
					t.Errorf("after %d bytes: %v", n, err)
				}
			}
		}
	}
	for whence := range 3 { // of a file that cannot tell its place or its size, all is read in order
		r := &seeker{Reader: bytes.NewReader(simpleNIfTI().bytes()), fails: map[int]error{whence: broken}}
		g, err := ReadNIfTI(r)
		if whence == io.SeekStart {
			if !errors.Is(err, broken) || errors.Is(err, ErrNIfTI) {
				t.Errorf("no way back: %v", err)
			}
		} else if err != nil || !slices.Equal(g.Data, []float32{0, 1, 2, 3, 4, 5}) {
			t.Errorf("whence %d: %v, %v", whence, g, err)
		}
	}
}

// A seeker counts the bytes that are read of a file; some ways to seek in it fail.
type seeker struct {
	*bytes.Reader
	fails map[int]error
	read  int
}

func (s *seeker) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	s.read += n
	return n, err
}

func (s *seeker) Seek(offset int64, whence int) (int64, error) {
	if err := s.fails[whence]; err != nil {
		return 0, err
	}
	return s.Reader.Seek(offset, whence)
}

// A stream is a reader that cannot seek, nor give all that it is asked for.
func stream(b []byte) io.Reader { return iotest.HalfReader(bytes.NewReader(b)) }

func firstVoxel(Geometry) (Box, error) { return Box{Max: [3]int{1, 1, 1}}, nil }

// lastVoxel is also beyond the grid, which changes nothing.
func lastVoxel(g Geometry) (Box, error) {
	return Box{Min: [3]int{g.Size[0] - 1, g.Size[1] - 1, g.Size[2] - 1}, Max: [3]int{1 << 30, 1 << 30, 1 << 30}}, nil
}

func noVoxel(g Geometry) (Box, error) {
	return Box{Min: [3]int{0, 0, 9}, Max: [3]int{g.Size[0], g.Size[1], -3}}, nil
}

// readings is what each way to read a file to its end says is wrong with it.
func readings(file []byte) map[string]error {
	_, whole := ReadNIfTI(bytes.NewReader(file))
	_, wholeStream := ReadNIfTI(stream(file))
	_, mask := ReadNIfTIMask(bytes.NewReader(file))
	_, maskStream := ReadNIfTIMask(stream(file))
	_, part := ReadNIfTIPart(bytes.NewReader(file), lastVoxel)
	_, partStream := ReadNIfTIPart(stream(file), lastVoxel)
	return map[string]error{"whole": whole, "whole, stream": wholeStream, "mask": mask, "mask, stream": maskStream,
		"part": part, "part, stream": partStream}
}

// Whatever the type, the order of bytes, the scale, the packing and the way to
// read: voxels are samples times slope plus intercept, masks are what is above
// 0 of them, and parts are the voxels in the box, and 0 outside.
func TestNIfTIReadings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := simpleNIfTI()
		f.order = rapid.SampledFrom([]byteOrder{binary.LittleEndian, binary.BigEndian}).Draw(t, "order")
		f.datatype = rapid.SampledFrom([]int16{2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280}).Draw(t, "datatype")
		scale := rapid.SampledFrom([][2]float32{{0, 0}, {1, 0}, {1, -3}, {1, 3}, {0.1, 0}, {-2, 0}, {-2, 5}}).Draw(t, "scale")
		f.slope, f.inter = scale[0], scale[1]
		size := [3]int{rapid.IntRange(1, 60).Draw(t, "x"), rapid.IntRange(1, 60).Draw(t, "y"), rapid.IntRange(1, 20).Draw(t, "z")}
		f.dim, f.data = []int16{int16(size[0]), int16(size[1]), int16(size[2])}, nil
		f.offset = rapid.SampledFrom([]float32{352, 9000}).Draw(t, "vox_offset")
		f.data = make([]byte, int(f.offset)-352)
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		fill := rapid.SampledFrom([]float64{0, 0.0005, 0.02, 1}).Draw(t, "fill")
		var want []float32
		var region []uint8
		for range size[0] * size[1] * size[2] {
			n := 0
			if random.Float64() < fill {
				n = random.IntN(1<<16) - 1<<15
			}
			var x float64
			switch o := f.order; f.datatype {
			case 2:
				x, f.data = float64(uint8(n)), append(f.data, uint8(n))
			case 256:
				x, f.data = float64(int8(n)), append(f.data, uint8(n))
			case 4:
				x, f.data = float64(int16(n)), o.AppendUint16(f.data, uint16(n))
			case 512:
				x, f.data = float64(uint16(n)), o.AppendUint16(f.data, uint16(n))
			case 8:
				x, f.data = float64(int32(n)), o.AppendUint32(f.data, uint32(n))
			case 768:
				x, f.data = float64(uint32(n)), o.AppendUint32(f.data, uint32(n))
			case 1024:
				x, f.data = float64(int64(n)), o.AppendUint64(f.data, uint64(n))
			case 1280:
				x, f.data = float64(uint64(n)), o.AppendUint64(f.data, uint64(n))
			case 16:
				x, f.data = float64(float32(n)/64), o.AppendUint32(f.data, math.Float32bits(float32(n)/64))
			case 64:
				x, f.data = float64(n)/64, o.AppendUint64(f.data, math.Float64bits(float64(n)/64))
			}
			if f.slope != 0 {
				x = float64(x*decimal(f.slope)) + float64(f.inter)
			}
			want = append(want, float32(x))
			region = append(region, 0)
			if float32(x) > 0 {
				region[len(region)-1] = 1
			}
		}
		file := f.bytes()
		readers := map[string]func() io.Reader{
			"file":        func() io.Reader { return bytes.NewReader(file) },
			"stream":      func() io.Reader { return stream(file) },
			"gzip":        func() io.Reader { return bytes.NewReader(gzipped(file)) },
			"gzip stream": func() io.Reader { return stream(gzipped(file)) },
			"behind others": func() io.Reader {
				r := bytes.NewReader(slices.Concat(make([]byte, 5), file, []byte("more")))
				r.Seek(5, io.SeekStart)
				return r
			},
		}
		box := Geometry{Size: size}.Box()
		for a := range 3 {
			if rapid.Bool().Draw(t, "narrow") {
				box.Min[a] = rapid.IntRange(0, size[a]).Draw(t, "min")
				box.Max[a] = rapid.IntRange(box.Min[a], size[a]).Draw(t, "max")
			}
		}
		part := make([]float32, len(want))
		for z := box.Min[2]; z < box.Max[2]; z++ {
			for y := box.Min[1]; y < box.Max[1]; y++ {
				for x := box.Min[0]; x < box.Max[0]; x++ {
					at := (z*size[1]+y)*size[0] + x
					part[at] = want[at]
				}
			}
		}
		for name, r := range readers {
			g, err := ReadNIfTI(r())
			if err != nil || g.Size != size || !slices.Equal(g.Data, want) {
				t.Fatalf("%s: the whole differs; %v", name, err)
			}
			m, err := ReadNIfTIMask(r())
			if err != nil || m.Geometry != g.Geometry || !slices.Equal(m.Data, region) {
				t.Fatalf("%s: the mask differs; %v", name, err)
			}
			if !slices.Equal(region, g.Threshold(math.SmallestNonzeroFloat32).Data) {
				t.Fatalf("%s: the threshold differs", name)
			}
			p, err := ReadNIfTIPart(r(), func(Geometry) (Box, error) { return box, nil })
			if err != nil || p.Geometry != g.Geometry || !slices.Equal(p.Data, part) {
				t.Fatalf("%s: the part %v differs; %v", name, box, err)
			}
		}
	})
}

// part may refuse; what lies outside the box may be no number; and of a file
// not much more than the box is read.
func TestNIfTIPart(t *testing.T) {
	refused := errors.New("not this grid")
	_, err := ReadNIfTIPart(bytes.NewReader(simpleNIfTI().bytes()), func(g Geometry) (Box, error) {
		if g.Size != [3]int{2, 1, 3} || g.Spacing != [3]float64{0.977, 1.5, 3} {
			t.Errorf("part sees %v", g)
		}
		return g.Box(), refused
	})
	if err != refused {
		t.Errorf("refused: %v", err)
	}

	f := simpleNIfTI()
	f.slope, f.data = 1e38, []byte{1, 1, 9, 1, 1, 2}
	for _, c := range []struct {
		part func(Geometry) (Box, error)
		want []float32
	}{
		{firstVoxel, []float32{1e38, 0, 0, 0, 0, 0}},
		{lastVoxel, []float32{0, 0, 0, 0, 0, 2e38}},
		{noVoxel, make([]float32, 6)},
	} {
		for _, r := range []io.Reader{bytes.NewReader(f.bytes()), stream(f.bytes())} {
			g, err := ReadNIfTIPart(r, c.part)
			if err != nil || !slices.Equal(g.Data, c.want) {
				t.Errorf("%v, %v, want %v", g, err, c.want)
			}
		}
		half := f // its samples have two bytes, and the file holds three
		half.datatype, half.slope = 4, 1
		for _, file := range [][]byte{f.bytes()[:357], gzipped(f.bytes()[:357]), half.bytes()} {
			if _, err := ReadNIfTIPart(bytes.NewReader(file), c.part); !errors.Is(err, ErrNIfTI) || !strings.Contains(err.Error(), "of 6 voxels") {
				t.Errorf("short: %v", err)
			}
		}
	}
	_, err = ReadNIfTIPart(bytes.NewReader(f.bytes()), func(g Geometry) (Box, error) { return Box{Min: [3]int{0, 0, 1}, Max: [3]int{1, 1, 2}}, nil })
	if !errors.Is(err, ErrNIfTI) || !strings.Contains(err.Error(), "voxel 2 is not a finite number") {
		t.Errorf("not finite in the box: %v", err)
	}

	f = simpleNIfTI()
	f.dim, f.data = []int16{1000, 1000, 10}, make([]byte, 1e7)
	r := &seeker{Reader: bytes.NewReader(f.bytes())}
	_, err = ReadNIfTIPart(r, func(Geometry) (Box, error) {
		return Box{Min: [3]int{100, 500, 3}, Max: [3]int{900, 510, 6}}, nil
	})
	if err != nil || r.read > 3*(10_000+4096)+4096 {
		t.Errorf("%d bytes read for 3 slices of 10000; %v", r.read, err)
	}
}

// A header that claims 2 GiB takes as much memory as its few bytes deserve.
func TestNIfTIMemory(t *testing.T) {
	f := simpleNIfTI()
	f.dim = []int16{32767, 16384, 1}
	f.data = make([]byte, 3<<20)
	file := f.bytes()
	for name, read := range map[string]func() error{
		"whole": func() error { _, err := ReadNIfTI(bytes.NewReader(file)); return err },
		"mask":  func() error { _, err := ReadNIfTIMask(bytes.NewReader(file)); return err },
		"part":  func() error { _, err := ReadNIfTIPart(stream(file), firstVoxel); return err },
		"end":   func() error { _, err := ReadNIfTIPart(bytes.NewReader(file), lastVoxel); return err },
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := read()
		runtime.ReadMemStats(&after)
		// At most four times the voxels that are there, and the block before that.
		if used := after.TotalAlloc - before.TotalAlloc; !errors.Is(err, ErrNIfTI) || used > 21<<20 {
			t.Errorf("%s: %d bytes for 3 Mi voxels; %v", name, used, err)
		}
	}
}

// More voxels than are read at a time, with a rest, so that chunks are put together.
func TestNIfTIChunks(t *testing.T) {
	f := simpleNIfTI()
	f.datatype, f.dim, f.data = 512, []int16{1100, 1001, 2}, nil
	for i := range 1100 * 1001 * 2 {
		f.data = f.order.AppendUint16(f.data, uint16(i%65521))
	}
	file := f.bytes()
	for name, r := range map[string]io.Reader{"file": bytes.NewReader(file), "stream": stream(file)} {
		g, err := ReadNIfTI(r)
		if err != nil || len(g.Data) != g.Len() {
			t.Fatalf("%s: %v", name, err)
		}
		for i, v := range g.Data {
			if v != float32(i%65521) {
				t.Fatalf("%s: voxel %d = %v", name, i, v)
			}
		}
	}
	for _, r := range []io.Reader{bytes.NewReader(file), stream(file)} {
		m, err := ReadNIfTIMask(r)
		if err != nil || m.Count() != 2202200-34 || len(m.Data) != m.Len() {
			t.Fatalf("mask: %v", err)
		}
	}
	for _, r := range []io.Reader{bytes.NewReader(file), stream(file)} {
		box := Box{Min: [3]int{1000, 900, 0}, Max: [3]int{1090, 1000, 2}} // on both sides of the first Mi voxels
		g, err := ReadNIfTIPart(r, func(Geometry) (Box, error) { return box, nil })
		if err != nil || len(g.Data) != g.Len() {
			t.Fatal(err)
		}
		for i, v := range g.Data {
			want := float32(0)
			if x, y := i%1100, i/1100%1001; x >= 1000 && x < 1090 && y >= 900 && y < 1000 {
				want = float32(i % 65521)
			}
			if v != want {
				t.Fatalf("part: voxel %d = %v, want %v", i, v, want)
			}
		}
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
			for name, other := range readings(b) {
				if part := strings.HasPrefix(name, "part"); other == nil && !part || other != nil && !errors.Is(other, ErrNIfTI) {
					t.Fatalf("%s: %v, for a file with %v", name, other, err)
				}
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
		mask, err := ReadNIfTIMask(stream(b))
		if err != nil || mask.Geometry != g.Geometry || !slices.Equal(mask.Data, g.Threshold(math.SmallestNonzeroFloat32).Data) {
			t.Fatalf("the mask differs; %v", err)
		}
		var box Box
		for a := range 3 {
			box.Min[a] = int(b[len(b)-1-a]) % g.Size[a]
			box.Max[a] = min(box.Min[a]+1+int(b[len(b)-4-a]), g.Size[a])
		}
		part, err := ReadNIfTIPart(bytes.NewReader(b), func(Geometry) (Box, error) { return box, nil })
		if err != nil || part.Geometry != g.Geometry || !slices.Equal(part.Crop(box).Data, g.Crop(box).Data) {
			t.Fatalf("the part %v differs; %v", box, err)
		}
		for z := box.Min[2]; z < box.Max[2]; z++ { // empty the box
			for y := box.Min[1]; y < box.Max[1]; y++ {
				clear(part.Data[(z*g.Size[1]+y)*g.Size[0]:][box.Min[0]:box.Max[0]])
			}
		}
		if slices.ContainsFunc(part.Data, func(v float32) bool { return v != 0 }) {
			t.Fatalf("the part %v is not 0 outside", box)
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

// BenchmarkReadNIfTIMask reads a region of 10 000 voxels among 35 million.
func BenchmarkReadNIfTIMask(b *testing.B) {
	for _, datatype := range []int16{2, 4} {
		f := simpleNIfTI()
		f.datatype, f.dim = datatype, []int16{512, 512, 134}
		n := sampleBytes[int(datatype)]
		f.data = make([]byte, 512*512*134*n)
		for z := range 10 {
			for y := range 32 {
				for x := range 32 {
					f.data[(((z+60)*512+y+200)*512+x+200)*n] = 1
				}
			}
		}
		b.Run(map[int16]string{2: "uint8", 4: "int16"}[datatype], func(b *testing.B) {
			benchmarkFile(b, f.bytes(), func(r io.Reader) error { _, err := ReadNIfTIMask(r); return err })
		})
	}
}

// BenchmarkReadNIfTIPart reads 25 slices of 134, whole and around a tumour.
func BenchmarkReadNIfTIPart(b *testing.B) {
	f := simpleNIfTI()
	f.datatype, f.dim = 4, []int16{512, 512, 134}
	f.data = make([]byte, 512*512*134*2)
	for i := range f.data {
		f.data[i] = byte(i)
	}
	file := f.bytes()
	for name, box := range map[string]Box{
		"slices": {Min: [3]int{0, 0, 60}, Max: [3]int{512, 512, 85}},
		"tumour": {Min: [3]int{200, 200, 60}, Max: [3]int{280, 280, 85}},
	} {
		b.Run(name, func(b *testing.B) {
			benchmarkFile(b, file, func(r io.Reader) error {
				_, err := ReadNIfTIPart(r, func(Geometry) (Box, error) { return box, nil })
				return err
			})
		})
	}
}

// benchmarkFile reads a file again and again. From the second time on the Go
// runtime clears memory that it had given out before, which a program that
// reads one file is spared.
func benchmarkFile(b *testing.B, file []byte, read func(io.Reader) error) {
	path := filepath.Join(b.TempDir(), "image.nii")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		b.Fatal(err)
	}
	r, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			b.Fatal(err)
		}
		if err := read(r); err != nil {
			b.Fatal(err)
		}
	}
}
