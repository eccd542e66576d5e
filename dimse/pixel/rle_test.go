package pixel

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
)

// header is an RLE header: PS3.5 G.5.
func header(segments uint32, offsets ...uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, segments)
	for _, o := range offsets {
		b = binary.LittleEndian.AppendUint32(b, o)
	}
	return append(b, make([]byte, 64-len(b))...)
}

func TestRLE(t *testing.T) {
	for _, c := range []struct {
		name   string
		stream []byte
		want   []int32
		bits   int
		kind   error
	}{
		{"literal", append(header(1, 64), 3, 1, 2, 3, 4), []int32{1, 2, 3, 4}, 8, nil},
		{"replicate", append(header(1, 64), 0xFD, 9), []int32{9, 9, 9, 9}, 8, nil},
		{"nothing, and padding", append(header(1, 64), 0x80, 1, 1, 2, 0x80, 0xFF, 7, 0), []int32{1, 2, 7, 7}, 8, nil},
		{"two segments", append(header(2, 64, 66), 0xFD, 1, 0xFD, 255), []int32{511, 511, 511, 511}, 16, nil},
		{"two segments with padding", append(header(2, 64, 68), 2, 1, 2, 3, 0, 4, 0xFD, 1), nil, 0, dicom.ErrMalformed},
		{"four segments", append(header(4, 64, 66, 68, 70), 0xFD, 0xFF, 0xFD, 1, 0xFD, 2, 0xFD, 3), []int32{-0xFEFDFD, -0xFEFDFD, -0xFEFDFD, -0xFEFDFD}, 32, nil},
		{"pixels of one bit, packed", append(header(1, 64), 0, 0b1010), []int32{0, 1, 0, 1}, 1, nil},
		{"no header", make([]byte, 63), nil, 0, dicom.ErrMalformed},
		{"no segment", header(0), nil, 0, dicom.ErrMalformed},
		{"16 segments", header(16), nil, 0, dicom.ErrMalformed},
		{"colour", append(header(3, 64, 66, 68), 0xFD, 1, 0xFD, 2, 0xFD, 3), nil, 0, dicom.ErrUnsupported},
		{"offset in the header", append(header(1, 60), 0xFD, 9), nil, 0, dicom.ErrMalformed},
		{"offset behind the end", append(header(1, 66), 0xFD, 9), nil, 0, dicom.ErrMalformed},
		{"offset far behind the end", append(header(1, 1<<31), 0xFD, 9), nil, 0, dicom.ErrMalformed},
		{"offsets backwards", append(header(2, 66, 64), 0xFD, 1, 0xFD, 255), nil, 0, dicom.ErrMalformed},
		{"a segment of no bytes", append(header(2, 64, 64), 0xFD, 1, 0xFD, 255), nil, 0, dicom.ErrMalformed},
		{"truncated row", append(header(1, 64), 0xFE, 9), nil, 0, dicom.ErrMalformed},
		{"truncated literal", append(header(1, 64), 3, 1, 2, 3), nil, 0, dicom.ErrMalformed},
		{"truncated replicate", append(header(1, 64), 2, 1, 2, 3, 0xFF), nil, 0, dicom.ErrMalformed},
		{"replicate beyond the end", append(header(1, 64), 0xFC, 9), nil, 0, dicom.ErrMalformed},
		{"literal beyond the end", append(header(1, 64), 4, 1, 2, 3, 4, 5), nil, 0, dicom.ErrMalformed},
		{"another run behind the end", append(header(1, 64), 0xFD, 9, 0xFD, 9), nil, 0, dicom.ErrMalformed},
	} {
		out := []int32{-7, -7, -7, -7} // what an earlier frame left
		p, err := decodeRLE(c.stream, 2, 2, out)
		if c.kind != nil {
			if !errors.Is(err, c.kind) {
				t.Errorf("%s: %v %v", c.name, out, err)
			}
			continue
		}
		if err != nil || p != (precision{bits: c.bits}) || !slices.Equal(out, c.want) {
			t.Errorf("%s: %v %+v %v, want %v", c.name, out, p, err, c.want)
		}
	}
}

// TestMasks reads pixels of one bit in RLE, both ways; 8 bits for pixels of 16, and 16 for 8, are refused.
func TestMasks(t *testing.T) {
	const rle = "1.2.840.10008.1.2.5"
	for name, stream := range map[string][]byte{
		"a byte each": append(header(1, 64), 8, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0),
		"packed":      append(header(1, 64), 1, 0b1101, 0b1, 0),
	} {
		f, err := encapsulated(t, image(3, 3, 1, 1, false), rle, nil, stream)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := collect(f); err != nil || !slices.Equal(got[0], []int32{1, 0, 1, 1, 0, 0, 0, 0, 1}) {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	for _, bits := range []int{8, 16, 32} {
		for segments, stream := range map[int][]byte{
			0: append(header(1, 64), 0, 0b1101), // packed
			1: append(header(1, 64), 0xFD, 1),
			2: append(header(2, 64, 66), 0xFD, 1, 0xFD, 1),
			4: append(header(4, 64, 66, 68, 70), 0xFD, 1, 0xFD, 1, 0xFD, 1, 0xFD, 1),
		} {
			f, err := encapsulated(t, image(2, 2, bits, bits-1, false), rle, nil, stream)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := collect(f); (err == nil) != (segments*8 == bits) || err != nil && !errors.Is(err, dicom.ErrMalformed) {
				t.Errorf("%d bits in %d segments: %v", bits, segments, err)
			}
		}
	}
}

const pythonDeflate = `
import sys, zlib
c = zlib.compressobj(9, zlib.DEFLATED, -15)
sys.stdout.buffer.write(c.compress(sys.stdin.buffer.read()) + c.flush())
`

// TestDeflated reads Deflated Image Frame Compression, PS3.5 A.4.13, as zlib deflates; and Encapsulated Uncompressed, A.4.11.
func TestDeflated(t *testing.T) {
	const deflated, uncompressed = "1.2.840.10008.1.2.8.1", "1.2.840.10008.1.2.1.98"
	if _, err := exec.LookPath(python()); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("python3 is not here: set RADNODE_PYTHON")
	}
	r := rand.New(rand.NewPCG(1, 1))
	for _, p := range []picture{
		{rows: 23, columns: 37, allocated: 16, stored: 12, signed: true},
		{rows: 5, columns: 7, allocated: 8, stored: 8},
		{rows: 5, columns: 7, allocated: 1, stored: 1},
		{rows: 200, columns: 300, allocated: 32, stored: 31},
	} {
		d := p.dataSet()
		d.SetInt(dicom.NumberOfFrames, 2)
		var streams, plain [][]byte
		for range 2 {
			frame := smooth(r, p.rows, p.columns, p.stored, p.signed)
			p.frames = append(p.frames, frame)
			one := picture{allocated: p.allocated, stored: p.stored, frames: [][]int32{frame}}
			b := one.bytes()
			if p.allocated == 1 {
				b = make([]byte, 6)
				for i, v := range frame {
					b[i/8] |= byte(v) << (i % 8)
				}
			}
			plain = append(plain, b)
			cmd := exec.Command(python(), "-c", pythonDeflate)
			cmd.Stdin = bytes.NewReader(b[:(p.rows*p.columns*p.allocated+7)/8])
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			streams = append(streams, append(out, make([]byte, len(out)%2)...))
		}
		for syntax, fragments := range map[string][][]byte{deflated: streams, uncompressed: plain} {
			f, err := encapsulated(t, d, syntax, nil, fragments...)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := collect(f); err != nil || !slices.EqualFunc(got, p.frames, slices.Equal) {
				t.Errorf("%s, %d bits: %v %v", syntax, p.allocated, got, err)
			}
		}
		d.SetInt(dicom.NumberOfFrames, 1)
		for name, stream := range map[string][]byte{
			"truncated":    streams[0][:len(streams[0])/2],
			"more behind":  append(bytes.Clone(streams[0]), 1, 2, 3, 4),
			"two streams":  slices.Concat(streams[0], streams[1]),
			"no deflate":   {0xFF, 0xFF, 0xFF, 0xFF},
			"short":        deflate(t, make([]byte, (p.rows*p.columns*p.allocated+7)/8-1)),
			"long":         deflate(t, make([]byte, (p.rows*p.columns*p.allocated+7)/8+2)),
			"a great deal": deflate(t, make([]byte, 10<<20)),
		} {
			f, err := encapsulated(t, d, deflated, nil, stream)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := collect(f); !errors.Is(err, dicom.ErrMalformed) {
				t.Errorf("%s, %d bits: %v %v", name, p.allocated, got, err)
			}
		}
		for _, n := range []int{-1, 2} {
			f, err := encapsulated(t, d, uncompressed, nil, make([]byte, len(plain[0])+n))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := collect(f); !errors.Is(err, dicom.ErrMalformed) && !(n == -1 && len(plain[0]) > (p.rows*p.columns*p.allocated+7)/8) {
				t.Errorf("%d bytes more: %v %v", n, got, err)
			}
		}
	}
}

func deflate(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, 9)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return append(out.Bytes(), make([]byte, out.Len()%2)...)
}

// TestDeflatedDataSet reads the pixels of a whole data set that DCMTK deflates, PS3.5 A.5, and what it turns into big endian.
func TestDeflatedDataSet(t *testing.T) {
	peers(t, "dcmconv")
	folder := t.TempDir()
	for _, p := range []picture{
		{name: "16", rows: 23, columns: 37, allocated: 16, stored: 12, signed: true},
		{name: "8", rows: 23, columns: 37, allocated: 8, stored: 8},
		{name: "32", rows: 23, columns: 37, allocated: 32, stored: 31},
	} {
		p.frames = [][]int32{smooth(rand.New(rand.NewPCG(1, 1)), p.rows, p.columns, p.stored, p.signed)}
		p.write(t, folder)
		for option, syntax := range map[string]string{"+td": dicom.DeflatedExplicitVRLittleEndian, "+tb": dicom.ExplicitVRBigEndian, "+ti": dicom.ImplicitVRLittleEndian} {
			out := filepath.Join(folder, "out")
			if b, err := command([]string{"dcmconv", option, "IN", "OUT"}, p.path, out); err != nil {
				t.Fatalf("%v %s", err, b)
			}
			f, err := open(out)
			if err != nil {
				t.Fatal(err)
			}
			got, err := collect(f)
			if err != nil || f.Meta.TransferSyntaxUID != syntax || !slices.EqualFunc(got, p.frames, slices.Equal) {
				t.Errorf("%s %s: %v", p.name, option, err)
			}
		}
	}
}

// FuzzRLE decodes anything, and what it decodes encodes and decodes to the same.
func FuzzRLE(f *testing.F) {
	r := rand.New(rand.NewPCG(13, 14))
	f.Add(rleFrame(noise(r, 5, 7, 16, false)), byte(4), byte(6))
	f.Add(append(header(1, 64), 0xFD, 9), byte(1), byte(1))
	f.Add(append(header(4, 64, 66, 68, 70), 0xFD, 0xFF, 0xFD, 1, 0xFD, 2, 0xFD, 3), byte(1), byte(1))
	f.Fuzz(func(t *testing.T, stream []byte, y, x byte) {
		out := make([]int32, (int(y)+1)*(int(x)+1))
		done := spent(t, 64<<10)
		p, err := decodeRLE(stream, int(y)+1, int(x)+1, out)
		done()
		if err != nil {
			if !errors.Is(err, dicom.ErrMalformed) && !errors.Is(err, dicom.ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		for _, v := range out {
			if uint64(uint32(v))>>p.bits != 0 {
				t.Fatalf("%d has not %d bits", v, p.bits)
			}
		}
		if p.bits == 16 {
			again := make([]int32, len(out))
			if _, err := decodeRLE(rleFrame(out), int(y)+1, int(x)+1, again); err != nil || !slices.Equal(out, again) {
				t.Fatal(err)
			}
		}
	})
}
