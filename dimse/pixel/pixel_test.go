package pixel

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"
)

// image is a data set with the Image Pixel module of one frame of 16 bits, for a test to change.
func image(rows, columns, bits, stored int, signed bool) *dicom.DataSet {
	d := dicom.New()
	d.SetString(dicom.SOPClassUID, dicom.CTImageStorage)
	d.SetString(dicom.SOPInstanceUID, "1.2.3")
	d.SetInt(dicom.SamplesPerPixel, 1)
	d.SetString(dicom.PhotometricInterpretation, "MONOCHROME2")
	d.SetInt(dicom.Rows, rows)
	d.SetInt(dicom.Columns, columns)
	d.SetInt(dicom.BitsAllocated, bits)
	d.SetInt(dicom.BitsStored, stored)
	d.SetInt(dicom.HighBit, stored-1)
	d.SetInt(dicom.PixelRepresentation, map[bool]int{true: 1}[signed])
	return d
}

func read(t testing.TB, d *dicom.DataSet, vr dicom.VR, pixels []byte) *dicom.File {
	t.Helper()
	d.SetBytes(dicom.PixelData, vr, pixels)
	b, err := d.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	f, err := dicom.ReadDataSet(bytes.NewReader(b), int64(len(b)), dicom.ExplicitVRLittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// collect copies all frames, as Samples is used again.
func collect(f *dicom.File) (frames [][]int32, err error) {
	for frame, err := range Frames(f) {
		if err != nil {
			return frames, err
		}
		if frame.Index != len(frames) || len(frame.Samples) != frame.Rows*frame.Columns {
			return frames, fmt.Errorf("frame %d of %d × %d has %d samples", frame.Index, frame.Rows, frame.Columns, len(frame.Samples))
		}
		frames = append(frames, slices.Clone(frame.Samples))
	}
	return frames, nil
}

func TestSamples(t *testing.T) {
	for _, c := range []struct {
		name               string
		bits, stored, high int
		signed             bool
		in                 []byte
		want               []int32 // 1 row
	}{
		{"8 bits", 8, 8, 7, false, []byte{0, 1, 127, 128, 255}, []int32{0, 1, 127, 128, 255}},
		{"8 bits signed", 8, 8, 7, true, []byte{0, 1, 127, 128, 255}, []int32{0, 1, 127, -128, -1}},
		{"16 bits", 16, 16, 15, false, []byte{0, 0, 0xFF, 0x7F, 0, 0x80, 0xFF, 0xFF}, []int32{0, 32767, 32768, 65535}},
		{"16 bits signed", 16, 16, 15, true, []byte{0, 0, 0xFF, 0x7F, 0, 0x80, 0xFF, 0xFF}, []int32{0, 32767, -32768, -1}},
		{"12 bits with an overlay above", 16, 12, 11, false, []byte{0xFF, 0xFF, 0x00, 0x18}, []int32{4095, 2048}},
		{"12 bits signed", 16, 12, 11, true, []byte{0xFF, 0x0F, 0x00, 0xF8, 0xFF, 0x07}, []int32{-1, -2048, 2047}},
		{"12 bits on top", 16, 12, 15, false, []byte{0xFF, 0xFF, 0x1F, 0x00}, []int32{4095, 1}},
		{"12 bits signed on top", 16, 12, 15, true, []byte{0xFF, 0xFF, 0x1F, 0x80}, []int32{-1, -2047}},
		{"31 bits", 32, 31, 30, false, []byte{1, 2, 3, 0x84}, []int32{0x04030201}},
		{"32 bits signed", 32, 32, 31, true, []byte{0, 0, 0, 0x80, 0xFE, 0xFF, 0xFF, 0xFF}, []int32{math.MinInt32, -2}},
		{"1 bit", 1, 1, 0, false, []byte{0b00000101, 0b1}, []int32{1, 0, 1, 0, 0, 0, 0, 0, 1}}, // least significant first: PS3.5 8.1.1
	} {
		d := image(1, len(c.want), c.bits, c.stored, c.signed)
		d.SetInt(dicom.HighBit, c.high)
		frames, err := collect(read(t, d, dicom.OW, c.in))
		if err != nil || len(frames) != 1 || !slices.Equal(frames[0], c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, frames, err, c.want)
		}
	}
}

// TestFramesOfBits packs frames without a gap, as a binary SEG does: PS3.5 8.1.1 and PS3.3 C.8.20.2.
func TestFramesOfBits(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rows, columns, n := rapid.IntRange(1, 7).Draw(rt, "rows"), rapid.IntRange(1, 7).Draw(rt, "columns"), rapid.IntRange(1, 5).Draw(rt, "frames")
		want := make([][]int32, n)
		packed := make([]byte, (n*rows*columns+7)/8)
		for i := range want {
			want[i] = make([]int32, rows*columns)
			for k := range want[i] {
				if rapid.Bool().Draw(rt, "bit") {
					want[i][k] = 1
					bit := i*rows*columns + k
					packed[bit/8] |= 1 << (bit % 8)
				}
			}
		}
		d := image(rows, columns, 1, 1, false)
		d.SetInt(dicom.NumberOfFrames, n)
		got, err := collect(read(t, d, dicom.OB, packed))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			rt.Fatalf("%v %v, want %v", got, err, want)
		}
	})
}

// TestBigEndian reads frames in big endian words, 8-bit ones of odd size too.
func TestBigEndian(t *testing.T) {
	for _, bits := range []int{8, 16} {
		rows, columns, n := 3, 3, 3
		var little []byte
		var want [][]int32
		for i := range n {
			frame := make([]int32, rows*columns)
			for k := range frame {
				frame[k] = int32(10*i + k)
				if bits == 16 {
					frame[k] += 1000
					little = binary.LittleEndian.AppendUint16(little, uint16(frame[k]))
				} else {
					little = append(little, byte(frame[k]))
				}
			}
			want = append(want, frame)
		}
		little = append(little, make([]byte, len(little)%2)...)
		for i := 0; i < len(little); i += 2 {
			little[i], little[i+1] = little[i+1], little[i]
		}
		var b []byte
		element := func(tag dicom.Tag, vr string, value ...byte) {
			b = binary.BigEndian.AppendUint16(b, uint16(tag>>16))
			b = binary.BigEndian.AppendUint16(b, uint16(tag))
			b = append(b, vr...)
			if vr == "OW" {
				b = append(b, 0, 0)
				b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
			} else {
				b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
			}
			b = append(b, value...)
		}
		element(dicom.NumberOfFrames, "IS", []byte("3 ")...)
		element(dicom.Rows, "US", 0, byte(rows))
		element(dicom.Columns, "US", 0, byte(columns))
		element(dicom.BitsAllocated, "US", 0, byte(bits))
		element(dicom.BitsStored, "US", 0, byte(bits))
		element(dicom.HighBit, "US", 0, byte(bits-1))
		element(dicom.PixelData, "OW", little...)
		f, err := dicom.ReadDataSet(bytes.NewReader(b), int64(len(b)), dicom.ExplicitVRBigEndian)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := collect(f); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%d bits: %v %v, want %v", bits, got, err, want)
		}
	}
}

// bigEndian is an image in Explicit VR Big Endian, the pixels as they are given.
func bigEndian(t testing.TB, bits, stored, columns int, tag dicom.Tag, vr string, pixels []byte) *dicom.File {
	t.Helper()
	var b []byte
	element := func(tag dicom.Tag, vr string, value ...byte) {
		b = binary.BigEndian.AppendUint16(b, uint16(tag>>16))
		b = binary.BigEndian.AppendUint16(b, uint16(tag))
		b = append(b, vr...)
		if vr[0] == 'O' {
			b = append(b, 0, 0)
			b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
		} else {
			b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
		}
		b = append(b, value...)
	}
	element(dicom.Rows, "US", 0, 1)
	element(dicom.Columns, "US", 0, byte(columns))
	element(dicom.BitsAllocated, "US", 0, byte(bits))
	if stored > 0 {
		element(dicom.BitsStored, "US", 0, byte(stored))
	}
	element(tag, vr, pixels...)
	f, err := dicom.ReadDataSet(bytes.NewReader(b), int64(len(b)), dicom.ExplicitVRBigEndian)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestBigEndianWords reads what fills words of 16 bits from the lowest bit on, PS3.5 8.1.1, and has their bytes swapped, 7.3.
func TestBigEndianWords(t *testing.T) {
	f := bigEndian(t, 32, 31, 2, dicom.PixelData, "OW", []byte{0x03, 0x04, 0x01, 0x02, 0, 5, 0, 0})
	if got, err := collect(f); err != nil || !slices.Equal(got[0], []int32{0x01020304, 5}) {
		t.Errorf("32 bits: %v %v", got, err)
	}
	f = bigEndian(t, 1, 1, 17, dicom.PixelData, "OW", []byte{0x80, 0x05, 0x00, 0x01}) // bits 0, 2, 15, 16
	if got, err := collect(f); err != nil || !slices.Equal(got[0], []int32{1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}) {
		t.Errorf("1 bit: %v %v", got, err)
	}
}

// TestFloats reads values that Samples cannot hold.
func TestFloats(t *testing.T) {
	values := []float64{0, -1.5, math.MaxFloat32, math.Inf(1), math.NaN(), 1e-40}
	same := func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) || a != a && b != b }
	d := image(2, 3, 32, 32, false)
	d.Remove(dicom.BitsStored, dicom.HighBit, dicom.PixelRepresentation) // PS3.3 C.7.6.24 has none of them
	var single, double, singleBig []byte
	rounded := make([]float64, len(values))
	for i, v := range values {
		rounded[i] = float64(float32(v))
		single = binary.LittleEndian.AppendUint32(single, math.Float32bits(float32(v)))
		singleBig = binary.BigEndian.AppendUint32(singleBig, math.Float32bits(float32(v)))
		double = binary.LittleEndian.AppendUint64(double, math.Float64bits(v))
	}
	d.SetInt(dicom.NumberOfFrames, 2)
	set := func(tag dicom.Tag, vr dicom.VR, bits int, b []byte) *dicom.File {
		d.Remove(dicom.FloatPixelData, dicom.DoubleFloatPixelData)
		d.SetInt(dicom.BitsAllocated, bits)
		d.SetBytes(tag, vr, b)
		encoded, err := d.EncodedBytes()
		if err != nil {
			t.Fatal(err)
		}
		f, err := dicom.ReadDataSet(bytes.NewReader(encoded), int64(len(encoded)), dicom.ExplicitVRLittleEndian)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	big := bigEndian(t, 32, 0, len(values), dicom.FloatPixelData, "OF", singleBig)
	for _, c := range []struct {
		name   string
		f      *dicom.File
		frames int
		want   []float64
	}{
		{"single", set(dicom.FloatPixelData, dicom.OF, 32, append(bytes.Clone(single), single...)), 2, rounded},
		{"double", set(dicom.DoubleFloatPixelData, dicom.OD, 64, append(bytes.Clone(double), double...)), 2, values},
		{"big endian", big, 1, rounded},
	} {
		n := 0
		for frame, err := range Frames(c.f) {
			if err != nil || frame.Samples != nil || frame.Lossy || !slices.EqualFunc(frame.Floats, c.want, same) {
				t.Errorf("%s: %+v %v, want %v", c.name, frame, err, c.want)
			}
			n++
		}
		if n != c.frames {
			t.Errorf("%s: %d frames", c.name, n)
		}
	}
	for name, f := range map[string]*dicom.File{
		"double in 32 bits":  set(dicom.DoubleFloatPixelData, dicom.OD, 32, append(bytes.Clone(double), double...)),
		"half of the frames": set(dicom.FloatPixelData, dicom.OF, 32, single),
	} {
		if got, err := collect(f); !errors.Is(err, dicom.ErrMalformed) {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}

	// 32 Bits Stored, native and in RLE, where a sample is the same float
	d = image(1, 2, 32, 32, false)
	for _, f := range []*dicom.File{
		read(t, d, dicom.OW, []byte{1, 0, 0, 0, 0, 0, 0, 0x80}),
		func() *dicom.File {
			stream := []byte{0: 4, 4: 64, 8: 68, 12: 72, 16: 76, 63: 0}
			for _, b := range [][2]byte{{0, 0x80}, {0, 0}, {0, 0}, {1, 0}} {
				stream = append(stream, 1, b[0], b[1], 0x80)
			}
			f, err := encapsulated(t, d, "1.2.840.10008.1.2.5", nil, stream)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}(),
	} {
		for frame, err := range Frames(f) {
			if err != nil || frame.Samples != nil || !slices.Equal(frame.Floats, []float64{1, 1 << 31}) {
				t.Errorf("32 bits stored: %+v %v", frame, err)
			}
		}
	}
}

// TestRefused are images that cannot be read, or that lie. The error names the element.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(d *dicom.DataSet)
		tag  dicom.Tag
		kind error
	}{
		{"no rows", func(d *dicom.DataSet) { d.Remove(dicom.Rows) }, dicom.Rows, dicom.ErrMalformed},
		{"0 rows", func(d *dicom.DataSet) { d.SetInt(dicom.Rows, 0) }, dicom.Rows, dicom.ErrMalformed},
		{"65535 × 65535", func(d *dicom.DataSet) { d.SetInt(dicom.Rows, 65535); d.SetInt(dicom.Columns, 65535) }, dicom.Rows, dicom.ErrUnsupported},
		{"16000 × 16000", func(d *dicom.DataSet) { d.SetInt(dicom.Rows, 16000); d.SetInt(dicom.Columns, 16000) }, dicom.PixelData, dicom.ErrMalformed},
		{"0 bits", func(d *dicom.DataSet) { d.SetInt(dicom.BitsAllocated, 0) }, dicom.BitsAllocated, dicom.ErrMalformed},
		{"64 bits", func(d *dicom.DataSet) { d.SetInt(dicom.BitsAllocated, 64) }, dicom.BitsAllocated, dicom.ErrUnsupported},
		{"12 bits allocated", func(d *dicom.DataSet) { d.SetInt(dicom.BitsAllocated, 12) }, dicom.BitsAllocated, dicom.ErrUnsupported},
		{"no bits stored", func(d *dicom.DataSet) { d.Remove(dicom.BitsStored) }, dicom.BitsStored, dicom.ErrMalformed},
		{"17 of 16 bits", func(d *dicom.DataSet) { d.SetInt(dicom.BitsStored, 17) }, dicom.BitsStored, dicom.ErrMalformed},
		{"high bit 16", func(d *dicom.DataSet) { d.SetInt(dicom.HighBit, 16) }, dicom.HighBit, dicom.ErrMalformed},
		{"high bit below", func(d *dicom.DataSet) { d.SetInt(dicom.HighBit, 3) }, dicom.HighBit, dicom.ErrMalformed},
		{"2^31 frames", func(d *dicom.DataSet) { d.SetInt(dicom.NumberOfFrames, math.MaxInt32) }, dicom.PixelData, dicom.ErrMalformed},
		{"-1 frames", func(d *dicom.DataSet) { d.SetInt(dicom.NumberOfFrames, -1) }, dicom.NumberOfFrames, dicom.ErrMalformed},
		{"0 frames", func(d *dicom.DataSet) { d.SetInt(dicom.NumberOfFrames, 0) }, dicom.NumberOfFrames, dicom.ErrMalformed},
		{"2 frames of 1", func(d *dicom.DataSet) { d.SetInt(dicom.NumberOfFrames, 2) }, dicom.PixelData, dicom.ErrMalformed},
		{"half the columns", func(d *dicom.DataSet) { d.SetInt(dicom.Columns, 4) }, dicom.PixelData, dicom.ErrMalformed},
		{"colour", func(d *dicom.DataSet) { d.SetInt(dicom.SamplesPerPixel, 3) }, dicom.SamplesPerPixel, dicom.ErrUnsupported},
		{"palette", func(d *dicom.DataSet) { d.SetString(dicom.PhotometricInterpretation, "PALETTE COLOR") }, dicom.PhotometricInterpretation, dicom.ErrUnsupported},
		{"sign 2", func(d *dicom.DataSet) { d.SetInt(dicom.PixelRepresentation, 2) }, dicom.PixelRepresentation, dicom.ErrMalformed},
	} {
		d := image(8, 8, 16, 16, false)
		c.set(d)
		f := read(t, d, dicom.OW, make([]byte, 128))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		frames, err := collect(f)
		runtime.ReadMemStats(&after)
		var e *dicom.Error
		if !errors.As(err, &e) || e.Path != c.tag.String() || !errors.Is(err, c.kind) || len(frames) > 0 {
			t.Errorf("%s: %v", c.name, err)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%s: %d bytes allocated", c.name, n)
		}
	}

	f := read(t, image(1, 1, 16, 16, false), dicom.OW, []byte{1, 2})
	f.Pixels = nil
	if _, err := collect(f); !errors.Is(err, dicom.ErrMalformed) || !strings.Contains(err.Error(), "(7FE0,0010)") {
		t.Errorf("no pixels: %v", err)
	}
	for _, ts := range []string{"1.2.840.10008.1.2.4.110", "1.2.3.4", "1.2.840.10008.1.2.4.92"} {
		f := read(t, image(1, 1, 16, 16, false), dicom.OW, []byte{1, 2})
		f.Meta.TransferSyntaxUID = ts
		_, err := collect(f)
		if !errors.Is(err, dicom.ErrUnsupported) || !strings.Contains(err.Error(), ts) || !strings.Contains(err.Error(), "uncompressed") {
			t.Errorf("%s: %v", ts, err)
		}
	}
}

// TestReused reads a volume in the memory of one frame, and stops when the caller does.
func TestReused(t *testing.T) {
	d := image(256, 256, 16, 16, false)
	d.SetInt(dicom.NumberOfFrames, 50)
	f := read(t, d, dicom.OW, make([]byte, 50*256*256*2))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	for _, err := range Frames(f) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; n != 50 || used > 1<<20 {
		t.Errorf("%d frames, %d bytes", n, used)
	}
	n = 0
	for range Frames(f) {
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d frames", n)
	}
}

// pydicomPixels prints how many samples each file has, and two sums over them that notice every place and value.
const pydicomPixels = `
import sys, pydicom, numpy as np, warnings
warnings.simplefilter("ignore")
for line in sys.stdin:
    name = line.rstrip("\n")
    try: a = pydicom.dcmread(name).pixel_array.astype(np.int64).ravel()
    except Exception as e:
        print(name, "error", 0, 0, sep="\t"); continue
    print(name, a.size, int(a.sum()), int((a * (np.arange(a.size) % 8191 + 1)).sum()), sep="\t")
`

// TestPydicom holds the samples of the reference data against pydicom's pixel_array.
func TestPydicom(t *testing.T) {
	root := sharedRoot()
	if _, err := os.Stat(root); err != nil {
		t.Skipf("reference data is not here (%v): set RADNODE_SHARED", err)
	}
	if out, err := exec.Command(python(), "-c", "import pydicom, numpy").CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("pydicom and numpy are needed: %v %s", err, out)
		}
		t.Skip("python3 with pydicom and numpy is not here")
	}
	perFolder := make(map[string]int)
	files := make(map[string]*dicom.File)
	var names []string
	err := filepath.WalkDir(filepath.Join(root, "data"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || perFolder[filepath.Dir(path)] == 3 { // slices of a series are alike
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
		if err != nil || f.Pixels == nil {
			return nil // no DICOM, or no image
		}
		perFolder[filepath.Dir(path)]++
		files[path] = f
		names = append(names, path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python(), "-c", pydicomPixels)
	cmd.Stdin = strings.NewReader(strings.Join(names, "\n") + "\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for line := range strings.Lines(string(out)) {
		p := strings.Split(strings.TrimSpace(line), "\t")
		frames, err := collect(files[p[0]])
		if err != nil {
			t.Logf("%s: %v (pydicom: %s)", p[0], err, p[1])
			if !errors.Is(err, dicom.ErrUnsupported) {
				t.Errorf("%s: %v", p[0], err)
			}
			continue
		}
		var n, sum, weighted int64
		for _, f := range frames {
			for _, v := range f {
				sum += int64(v)
				weighted += int64(v) * (n%8191 + 1)
				n++
			}
		}
		if got := fmt.Sprintf("%d %d %d", n, sum, weighted); got != strings.Join(p[1:], " ") {
			t.Errorf("%s: %s, pydicom has %s", p[0], got, p[1:])
		}
		compared++
	}
	t.Logf("%d images", compared)
	if compared < 20 {
		t.Errorf("only %d images compared", compared)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(uint16(2), uint16(3), uint16(16), uint16(12), uint16(11), uint16(1), int64(1), []byte("abcdefghijkl"), false)
	f.Add(uint16(3), uint16(3), uint16(8), uint16(8), uint16(7), uint16(0), int64(3), []byte("abcdefghijklmnopqrstuvwxyzab"), true)
	f.Add(uint16(3), uint16(3), uint16(1), uint16(1), uint16(0), uint16(0), int64(3), []byte("abcd"), false)
	f.Fuzz(func(t *testing.T, rows, columns, bits, stored, high, sign uint16, frames int64, pixels []byte, big bool) {
		d := image(int(rows), int(columns), int(bits), int(stored), false)
		d.SetInt(dicom.HighBit, int(high))
		d.SetInt(dicom.PixelRepresentation, int(sign))
		d.SetInt(dicom.NumberOfFrames, int(int32(frames)))
		d.SetBytes(dicom.PixelData, dicom.OW, pixels)
		b, err := d.EncodedBytes()
		if err != nil {
			return
		}
		file, err := dicom.ReadDataSet(bytes.NewReader(b), int64(len(b)), dicom.ExplicitVRLittleEndian)
		if err != nil {
			t.Fatal(err)
		}
		file.Pixels.BigEndian = big
		done := spent(t, 1<<20+256*len(pixels)) // 8 samples of 4 bytes from a byte, twice, in slices that grow
		got, err := collect(file)
		done()
		var e *dicom.Error
		if err != nil && !errors.As(err, &e) {
			t.Fatalf("%T %v", err, err)
		}
		for _, frame := range got {
			for _, v := range frame {
				low, top := int64(0), int64(1)<<stored
				if sign == 1 && bits > 1 {
					low, top = -(int64(1) << (stored - 1)), int64(1)<<(stored-1)
				}
				if int64(v) < low || int64(v) >= top {
					t.Fatalf("%d is no value of %d bits", v, stored)
				}
			}
		}
	})
}

func BenchmarkFrames(b *testing.B) {
	d := image(512, 512, 16, 12, true)
	d.SetInt(dicom.NumberOfFrames, 20)
	f := read(b, d, dicom.OW, make([]byte, 20*512*512*2))
	b.SetBytes(20 * 512 * 512 * 2)
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range Frames(f) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}

// python is the interpreter that has the packages: the one RADNODE_PYTHON names, or python3.
func python() string { return cmp.Or(os.Getenv("RADNODE_PYTHON"), "python3") }

// Frames in any order, several at a time and into memory that was used for another image, are those that come in a row.
func TestReadInAnyOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	many := picture{name: "many", rows: 37, columns: 23, allocated: 16, stored: 12}
	for range 24 {
		many.frames = append(many.frames, smooth(r, many.rows, many.columns, 12, false))
	}
	many.write(t, t.TempDir())
	f, err := open(many.path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(f)
	if err != nil || m.Len() != len(many.frames) {
		t.Fatalf("%v", err)
	}
	var g errgroup.Group
	for range 4 {
		order := r.Perm(m.Len())
		g.Go(func() error {
			frame := Frame{samples: []int32{1, 2, 3}, raw: []byte{4}}
			for _, i := range order {
				if err := m.Read(i, &frame); err != nil {
					return err
				}
				if frame.Index != i || frame.Floats != nil || !slices.Equal(frame.Samples, many.frames[i]) {
					return fmt.Errorf("frame %d has other samples", i)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
}

// sharedRoot is where the reference data may be.
func sharedRoot() string {
	if root := os.Getenv("RADNODE_SHARED"); root != "" {
		return root
	}
	return filepath.Join("..", "..", "..", "shared")
}
