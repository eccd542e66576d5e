package pixel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
)

// j2kCase is a picture and how a peer is told to compress it.
type j2kCase struct {
	name          string
	columns, rows int
	bits          int
	signed        bool
	args          []string
	lossy         int // how far the peer's decoder may be off; 0 means lossless
}

// j2kPicture is waves, noise, flat parts and the extremes.
func j2kPicture(c j2kCase) []int32 {
	r := rand.New(rand.NewPCG(uint64(c.columns), uint64(c.bits)))
	low, high := int32(0), int32(1)<<c.bits-1
	if c.signed {
		low, high = -1<<(c.bits-1), 1<<(c.bits-1)-1
	}
	p := make([]int32, c.rows*c.columns)
	for i := range p {
		x, y := i%c.columns, i/c.columns
		v := int64(low) + (int64(high)-int64(low))*int64((3*x+2*y)%97)/97 + r.Int64N(int64(high)-int64(low))/16
		switch {
		case r.IntN(64) == 0:
			v = int64(low)
		case r.IntN(64) == 0:
			v = int64(high)
		case (x/16+y/16)%5 == 0:
			v = int64(high) / 3
		}
		p[i] = int32(min(v, int64(high)))
	}
	p[0], p[len(p)-1] = high, low // a peer takes the precision from the largest sample
	return p
}

// j2kBytes are samples as the peers take them: in whole bytes.
func j2kBytes(samples []int32, bits int, order binary.AppendByteOrder) (b []byte) {
	for _, v := range samples {
		switch {
		case bits <= 8:
			b = append(b, byte(v))
		case bits <= 16:
			b = order.AppendUint16(b, uint16(v))
		default:
			b = order.AppendUint32(b, uint32(v))
		}
	}
	return b
}

func j2kSamples(b []byte, bits int, signed bool, order binary.ByteOrder) (samples []int32) {
	width := 1
	if bits > 8 {
		width = 2
	}
	for ; len(b) >= width; b = b[width:] {
		v := int32(b[0])
		if width == 2 {
			v = int32(order.Uint16(b))
		}
		if signed {
			v = v << (32 - bits) >> (32 - bits) // opj_decompress leaves the bits above at 0
		}
		samples = append(samples, v)
	}
	return samples
}

func j2kRun(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// j2kCompare decodes a stream, holds it against want, and counts the samples that differ.
func j2kCompare(t testing.TB, c j2kCase, stream []byte, want []int32) (differ, most int) {
	t.Helper()
	out := make([]int32, c.rows*c.columns)
	p, err := decodeJPEG2000(stream, c.rows, c.columns, out)
	if err != nil {
		t.Fatal(err)
	}
	if p.bits != c.bits || p.signed != c.signed || p.lossy != (c.lossy > 0) {
		t.Errorf("%+v, want %+v", p, c)
	}
	if len(want) != len(out) {
		t.Fatalf("%d samples of the peer, want %d", len(want), len(out))
	}
	for i, v := range out {
		if d := max(v-want[i], want[i]-v); d > 0 {
			differ, most = differ+1, max(most, int(d))
		}
	}
	if most > c.lossy {
		t.Errorf("%d of %d samples differ, by up to %d", differ, len(out), most)
	}
	return differ, most
}

func openJPEGCases() (cases []j2kCase) {
	add := func(name string, columns, rows, bits int, signed bool, args string) {
		c := j2kCase{name: name, columns: columns, rows: rows, bits: bits, signed: signed, args: strings.Fields(args)}
		cases = append(cases, c)
	}
	for _, bits := range []int{2, 4, 8, 10, 12, 14, 16} {
		add(fmt.Sprintf("%d bits", bits), 61, 53, bits, false, "")
		add(fmt.Sprintf("%d bits signed", bits), 61, 53, bits, true, "")
	}
	for _, bits := range []int{9, 13, 15, 17, 20, 24} { // opj_compress takes these as PGX, without sign
		add(fmt.Sprintf("%d bits", bits), 61, 53, bits, false, "")
	}
	for _, s := range [][3]int{{1, 1, 1}, {1, 513, 1}, {513, 1, 1}, {2, 3, 2}, {23, 37, 1}, {23, 37, 5}, {64, 64, 7}, {511, 513, 6}} {
		add(fmt.Sprintf("%d x %d, %d resolutions", s[0], s[1], s[2]), s[0], s[1], 12, true, fmt.Sprint("-n ", s[2]))
	}
	for _, p := range []string{"LRCP", "RLCP", "RPCL", "PCRL", "CPRL"} {
		add(p, 127, 130, 12, true, "-c [64,64],[32,32],[16,16] -b 16,16 -r 20,5,1 -n 4 -p "+p)
		add(p+" tiles", 127, 130, 12, false, "-c [32,32] -b 8,8 -r 20,5,1 -n 4 -t 50,60 -SOP -EPH -p "+p)
		add(p+" from an offset", 127, 130, 12, true, "-n 4 -t 50,60 -d 13,7 -T 5,3 -TP R -p "+p)
	}
	for _, b := range []string{"4,4", "4,1024", "1024,4", "32,128", "8,256", "256,16"} {
		add("code-blocks "+b, 300, 70, 12, false, "-b "+b)
	}
	for m := range 63 {
		add(fmt.Sprint("style ", m+1), 70, 67, 12, true, fmt.Sprint("-r 10,1 -M ", m+1))
	}
	add("30 layers", 127, 130, 16, false, "-r 31,30,29,28,27,26,25,24,23,22,21,20,19,18,17,16,15,14,13,12,11,10,9,8,7,6,5,4,3,1")
	for _, p := range []string{"R", "L", "C"} {
		add("tile-parts by "+p, 127, 130, 12, false, "-r 20,5,1 -t 64,64 -TLM -PLT -TP "+p)
	}
	add("change of progression", 127, 130, 12, false, "-POC T1=0,0,1,3,1,LRCP/T1=3,0,1,6,1,RLCP")
	add("change of progression, layers", 127, 130, 12, false, "-r 20,1 -POC T1=0,0,2,2,1,PCRL/T1=2,0,2,6,1,RLCP")
	for _, u := range []int{1, 7, 12} {
		add(fmt.Sprint("region of interest ", u), 70, 67, 12, false, fmt.Sprint("-ROI c=0,U=", u))
		cases[len(cases)-1].lossy = 1 // whether the background is whole cannot be told
	}
	add("JP2 file", 61, 53, 16, true, "")
	for _, bits := range []int{8, 12, 16} {
		// OpenJPEG 2.5.0 has 1.625732422 for 2/K of the irreversible wavelet, which is 1.625786132: up to 4 of 65536 grey
		// levels.
		off := 1
		if bits == 16 {
			off = 4
		}
		for _, args := range []string{"-I", "-I -r 10", "-I -M 63 -r 20,3 -t 50,50 -d 3,5 -n 4", "-I -r 4 -ROI c=0,U=8"} {
			add("irreversible "+args, 127, 130, bits, bits == 12, args)
			cases[len(cases)-1].lossy = off
		}
		add("derived quantisation", 127, 130, bits, bits == 12, "-I -r 10")
		cases[len(cases)-1].lossy = off
		for _, args := range []string{"-r 10", "-M 63 -r 20,3 -t 50,50"} {
			add("truncated "+args, 127, 130, bits, bits == 12, args)
			cases[len(cases)-1].lossy = 1
		}
	}
	return cases
}

// derived says the quantisation of a stream by one step, which no encoder at hand does: another picture, but for all
// decoders the same.
func derived(stream []byte) []byte {
	at := bytes.Index(stream, []byte{0xff, 0x5c})
	end := at + 2 + int(binary.BigEndian.Uint16(stream[at+2:]))
	exponent := 0 // such that no subband has fewer bit planes than it had
	for i := 0; at+5+2*i < end; i++ {
		exponent = max(exponent, int(stream[at+5+2*i]>>3)+max(0, i-1)/3)
	}
	qcd := []byte{0xff, 0x5c, 0, 5, stream[at+4]&^31 | 1, byte(exponent<<3 | 1), 0x55}
	return slices.Concat(stream[:at], qcd, stream[end:])
}

// TestOpenJPEG decodes what opj_compress writes. What is lossless must be exact; for the rest opj_decompress is the
// witness.
func TestOpenJPEG(t *testing.T) {
	peers(t, "opj_compress", "opj_decompress")
	folder := t.TempDir()
	for i, c := range openJPEGCases() {
		t.Run(c.name, func(t *testing.T) {
			base := filepath.Join(folder, fmt.Sprint(i))
			in, out := base+".rawl", base+".j2k"
			if c.name == "JP2 file" {
				out = base + ".jp2"
			}
			samples := j2kPicture(c)
			sign := "u"
			if c.signed {
				sign = "s"
			}
			args := []string{"-F", fmt.Sprintf("%d,%d,1,%d,%s", c.columns, c.rows, c.bits, sign)}
			data := j2kBytes(samples, c.bits, binary.LittleEndian)
			if c.bits%2 == 1 || c.bits > 16 {
				in, args = base+".pgx", nil
				data = append(fmt.Appendf(nil, "PG LM + %d %d %d\n", c.bits, c.columns, c.rows), data...)
			}
			if err := os.WriteFile(in, data, 0o600); err != nil {
				t.Fatal(err)
			}
			j2kRun(t, "opj_compress", append(append(args, "-i", in, "-o", out), c.args...)...)
			stream, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(c.name, "derived") {
				stream = derived(stream)
				if err := os.WriteFile(out, stream, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if c.lossy > 0 && !strings.HasPrefix(c.name, "region") {
				j2kRun(t, "opj_decompress", "-i", out, "-o", base+"-out.rawl")
				b, err := os.ReadFile(base + "-out.rawl")
				if err != nil {
					t.Fatal(err)
				}
				samples = j2kSamples(b, c.bits, c.signed, binary.LittleEndian)
			}
			n, most := j2kCompare(t, c, stream, samples)
			if n > 0 {
				t.Logf("%d of %d samples differ, by up to %d", n, len(samples), most)
			}
			if strings.HasPrefix(c.name, "region") && n > 0 {
				t.Errorf("%d samples differ", n)
			}
		})
	}
}

// TestOpenJPH decodes what ojph_compress writes: HTJ2K without sign, with tiles, precincts and code-blocks of all kinds.
func TestOpenJPH(t *testing.T) {
	peers(t, "ojph_compress", "ojph_expand")
	var cases []j2kCase
	add := func(name string, columns, rows, bits, lossy int, args string) {
		cases = append(cases, j2kCase{name, columns, rows, bits, false, strings.Fields(args), lossy})
	}
	for _, bits := range []int{1, 2, 5, 8, 9, 12, 15, 16} {
		add(fmt.Sprintf("%d bits", bits), 61, 53, bits, 0, "-reversible true")
		add(fmt.Sprintf("%d bits, no wavelet", bits), 61, 53, bits, 0, "-reversible true -num_decomps 0")
		if bits >= 8 {
			add(fmt.Sprintf("%d bits irreversible", bits), 61, 53, bits, 1, "-qstep 0.0001")
			add(fmt.Sprintf("%d bits irreversible, coarse", bits), 61, 53, bits, 1, "-qstep 0.02")
		}
	}
	for _, s := range [][3]int{{1, 1, 0}, {1, 1, 6}, {1, 513, 2}, {513, 1, 6}, {2, 3, 1}, {5, 1, 2}, {23, 37, 6}, {511, 513, 5}} {
		add(fmt.Sprintf("%d x %d, %d levels", s[0], s[1], s[2]), s[0], s[1], 12, 0, fmt.Sprint("-reversible true -num_decomps ", s[2]))
	}
	add("tiles of one line", 34, 34, 12, 0, "-reversible true -num_decomps 3 -tile_size {33,33}")
	add("tiles of one line, irreversible", 34, 34, 12, 1, "-qstep 0.0001 -num_decomps 3 -tile_size {33,33}")
	for _, b := range []string{"{4,4}", "{4,1024}", "{1024,4}", "{32,128}", "{8,256}", "{256,16}"} {
		add("code-blocks "+b, 300, 70, 16, 0, "-reversible true -block_size "+b)
	}
	for _, p := range []string{"LRCP", "RLCP", "RPCL", "PCRL", "CPRL"} {
		args := " -reversible true -precincts {16,16},{32,64},{64,32} -prog_order " + p
		add(p, 127, 130, 12, 0, "-block_size {16,16}"+args)
		add(p+" tiles", 127, 130, 12, 0, "-block_size {16,16} -tile_size {50,60} -tile_offset {3,5} -image_offset {9,6}"+args)
		add(p+" from an offset", 127, 130, 12, 0, "-block_size {8,32} -tile_offset {3,5} -image_offset {9,6}"+args)
	}
	folder := t.TempDir()
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			base := filepath.Join(folder, fmt.Sprint(i))
			samples := j2kPicture(c)
			header := fmt.Appendf(nil, "P5\n%d %d\n%d\n", c.columns, c.rows, 1<<c.bits-1)
			if err := os.WriteFile(base+".pgm", append(header, j2kBytes(samples, c.bits, binary.BigEndian)...), 0o600); err != nil {
				t.Fatal(err)
			}
			j2kRun(t, "ojph_compress", append([]string{"-i", base + ".pgm", "-o", base + ".j2c"}, c.args...)...)
			stream, err := os.ReadFile(base + ".j2c")
			if err != nil {
				t.Fatal(err)
			}
			if c.lossy > 0 {
				j2kRun(t, "ojph_expand", "-i", base+".j2c", "-o", base+"-out.pgm")
				b, err := os.ReadFile(base + "-out.pgm")
				if err != nil {
					t.Fatal(err)
				}
				samples = j2kSamples(b[len(b)-len(j2kBytes(samples, c.bits, binary.BigEndian)):], c.bits, false, binary.BigEndian)
			}
			if n, most := j2kCompare(t, c, stream, samples); n > 0 {
				t.Logf("%d of %d samples differ, by up to %d", n, len(samples), most)
			}
		})
	}
}

// imagecodecsScript compresses raw samples: signed HTJ2K, which ojph_compress does not write, by a newer OpenJPH, and JPEG
// 2000 of signed samples by a newer OpenJPEG. What is lossy it decodes, too.
const imagecodecsScript = `
import sys, numpy, imagecodecs as ic
for line in sys.stdin:
    name, kind, columns, rows, bits, sign = line.split()
    a = numpy.fromfile(name, sign + ("1" if int(bits) <= 8 else "2" if int(bits) <= 16 else "4")).reshape(int(rows), int(columns))
    if kind == "ht": b = ic.htj2k_encode(a, reversible=True)
    elif kind == "ht-tiles": b = ic.htj2k_encode(a, reversible=True, tile=(64, 80), resolutions=3)
    elif kind == "ht-lossy": b = ic.htj2k_encode(a, level=0.002, reversible=False)
    elif kind == "j2k": b = ic.jpeg2k_encode(a, level=0, reversible=True, codecformat="j2k", bitspersample=int(bits))
    elif kind == "j2k-lossy": b = ic.jpeg2k_encode(a, level=60, reversible=False, codecformat="j2k", bitspersample=int(bits))
    open(name + ".j2k", "wb").write(b)
    if "lossy" in kind: (ic.htj2k_decode if "ht" in kind else ic.jpeg2k_decode)(b).astype(a.dtype).tofile(name + ".out")
`

func TestImagecodecs(t *testing.T) {
	if out, err := exec.Command(python(), "-c", "import imagecodecs, numpy; imagecodecs.htj2k_version()").CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("imagecodecs is needed: %v %s", err, out)
		}
		t.Skip("python3 with imagecodecs is not here")
	}
	cases := []j2kCase{
		{"ht", 211, 173, 8, true, nil, 0}, {"ht", 211, 173, 16, true, nil, 0}, {"ht", 1, 7, 16, true, nil, 0},
		{"ht-tiles", 211, 173, 16, true, nil, 0}, {"ht-lossy", 211, 173, 8, true, nil, 1},
		{"j2k", 211, 173, 11, true, nil, 0}, {"j2k", 211, 173, 13, true, nil, 0}, {"j2k", 211, 173, 16, true, nil, 0},
		{"j2k", 61, 53, 18, true, nil, 0}, {"j2k", 61, 53, 24, true, nil, 0}, {"j2k-lossy", 211, 173, 12, true, nil, 1},
	}
	folder := t.TempDir()
	var list bytes.Buffer
	for i, c := range cases {
		name := filepath.Join(folder, fmt.Sprint(i))
		if err := os.WriteFile(name, j2kBytes(j2kPicture(c), c.bits, binary.LittleEndian), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&list, name, c.name, c.columns, c.rows, c.bits, "i")
	}
	cmd := exec.Command(python(), "-c", imagecodecsScript)
	cmd.Stdin = &list
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for i, c := range cases {
		t.Run(fmt.Sprintf("%s %d bits", c.name, c.bits), func(t *testing.T) {
			name := filepath.Join(folder, fmt.Sprint(i))
			stream, err := os.ReadFile(name + ".j2k")
			if err != nil {
				t.Fatal(err)
			}
			want := j2kPicture(c)
			if c.lossy > 0 {
				b, err := os.ReadFile(name + ".out")
				if err != nil {
					t.Fatal(err)
				}
				want = j2kSamples(b, c.bits, true, binary.LittleEndian)
			}
			if n, most := j2kCompare(t, c, stream, want); n > 0 {
				t.Logf("%d of %d samples differ, by up to %d", n, len(want), most)
			}
		})
	}
}

// j2kFixtures are the streams of testdata, which need no peer. The samples beside them are in 16 bits, little endian.
var j2kFixtures = []j2kCase{
	{name: "opj-layers", columns: 23, rows: 37, bits: 12},
	{name: "opj-styles", columns: 21, rows: 19, bits: 16, signed: true},
	{name: "opj-irreversible", columns: 33, rows: 29, bits: 12, lossy: 1},
	{name: "ojph-signed", columns: 23, rows: 19, bits: 16, signed: true},
	{name: "ojph-irreversible", columns: 33, rows: 29, bits: 12, lossy: 1},
	{name: "ojph-refined", columns: 37, rows: 21, bits: 8, lossy: 1},
	{name: "ojph-refined-causal", columns: 37, rows: 21, bits: 8, lossy: 1},
}

func j2kFixture(t testing.TB, c j2kCase) (stream []byte, samples []int32) {
	t.Helper()
	base := filepath.Join("testdata", "jpeg2000", c.name)
	stream, err := os.ReadFile(base + ".j2k")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(base + ".samples")
	if err != nil {
		t.Fatal(err)
	}
	return stream, j2kSamples(raw, 16, true, binary.LittleEndian)
}

func TestJPEG2000(t *testing.T) {
	irreversible := map[string]uint32{"opj-irreversible": 0x12b80079, "ojph-irreversible": 0x44c4427e}
	for _, c := range j2kFixtures {
		t.Run(c.name, func(t *testing.T) {
			stream, want := j2kFixture(t, c)
			if strings.HasPrefix(c.name, "ojph-refined") {
				if n, _ := j2kCompare(t, c, stream, want); n > 0 { // refinement is whole numbers: nothing to round
					t.Errorf("%d samples differ", n)
				}
				return
			}
			j2kCompare(t, c, stream, want)
			if sum, ok := irreversible[c.name]; ok {
				out := make([]int32, c.rows*c.columns)
				if _, err := decodeJPEG2000(stream, c.rows, c.columns, out); err != nil {
					t.Fatal(err)
				}
				if got := crc32.ChecksumIEEE(j2kBytes(out, 32, binary.LittleEndian)); got != sum {
					t.Errorf("checksum %08x, want %08x: not the same on each machine", got, sum)
				}
			}
		})
	}
}

// TestJPEG2000Truncated cuts a stream at each byte. It is an error unless only EOC is missing, and then nothing changes.
func TestJPEG2000Truncated(t *testing.T) {
	for _, c := range j2kFixtures {
		stream, _ := j2kFixture(t, c)
		out, whole := make([]int32, c.rows*c.columns), make([]int32, c.rows*c.columns)
		if _, err := decodeJPEG2000(stream, c.rows, c.columns, whole); err != nil {
			t.Fatal(err)
		}
		for n := range stream {
			_, err := decodeJPEG2000(stream[:n], c.rows, c.columns, out)
			switch {
			case n < len(stream)-2 && err == nil:
				t.Fatalf("%s: %d of %d bytes pass", c.name, n, len(stream))
			case n < len(stream)-2 && !errors.Is(err, dicom.ErrMalformed):
				t.Fatalf("%s: %d of %d bytes: %v", c.name, n, len(stream), err)
			case n >= len(stream)-2 && (err != nil || !slices.Equal(out, whole)):
				t.Fatalf("%s: %d of %d bytes: %v", c.name, n, len(stream), err)
			}
		}
		for _, more := range []string{"\x00", "\xff\xd9\x00\x00"} {
			if _, err := decodeJPEG2000(append(stream, more...), c.rows, c.columns, out); err != nil || !slices.Equal(out, whole) {
				t.Errorf("%s followed by % X: %v", c.name, more, err)
			}
		}
	}
}

// TestJPEG2000Refused changes bytes of a stream. What the standard forbids and what is not read are told apart.
func TestJPEG2000Refused(t *testing.T) {
	c := j2kFixtures[1] // 21 x 19; SIZ is at byte 2, COD at 45, QCD at 59
	stream, _ := j2kFixture(t, c)
	set := func(at int, b ...byte) []byte {
		s := slices.Clone(stream)
		copy(s[at:], b)
		return s
	}
	insert := func(at int, b ...byte) []byte { return slices.Insert(slices.Clone(stream), at, b...) }
	sot := bytes.Index(stream, []byte{0xff, 0x90, 0, 10})
	const signature = "\x00\x00\x00\x0cjP  \r\n\x87\n"
	for _, r := range []struct {
		name   string
		stream []byte
		kind   error
	}{
		{"nothing", nil, dicom.ErrMalformed},
		{"not a codestream", []byte("\xff\xd8\xff\xe0 JPEG"), dicom.ErrMalformed},
		{"JP2 without a codestream", []byte(signature + "\x00\x00\x00\x08free"), dicom.ErrMalformed},
		{"JP2 with a box of no length", []byte(signature + "\x00\x00\x00\x07free"), dicom.ErrMalformed},
		{"JP2 with a box of 2^64 bytes", []byte(signature + "\x00\x00\x00\x01free\xff\xff\xff\xff\xff\xff\xff\xff"), dicom.ErrMalformed},
		{"JP2 with a palette", []byte(signature + "\x00\x00\x00\x10jp2h\x00\x00\x00\x08pclr"), dicom.ErrUnsupported},
		{"COD before SIZ", append([]byte{0xff, 0x4f}, stream[45:]...), dicom.ErrMalformed},
		{"another width", set(8, 0, 0, 0, 22), dicom.ErrMalformed},
		{"another height", set(12, 0, 0, 0, 18), dicom.ErrMalformed},
		{"three components", set(40, 0, 3), dicom.ErrUnsupported},
		{"38 bits", set(42, 37), dicom.ErrUnsupported},
		{"subsampled", set(43, 2), dicom.ErrUnsupported},
		{"no step", set(43, 0), dicom.ErrUnsupported},
		{"tiles without width", set(24, 0, 0, 0, 0), dicom.ErrMalformed},
		{"first tile behind the image", set(32, 0, 0, 0, 1), dicom.ErrMalformed},
		{"a tile for each pixel", set(24, 0, 0, 0, 1, 0, 0, 0, 1), dicom.ErrMalformed},
		{"five progression orders", set(50, 5), dicom.ErrMalformed},
		{"no layers", set(51, 0, 0), dicom.ErrMalformed},
		{"65535 layers", set(51, 0xff, 0xff), dicom.ErrMalformed},
		{"another coding style", set(49, 8), dicom.ErrUnsupported},
		{"33 levels", set(54, 33), dicom.ErrMalformed},
		{"32 levels", set(54, 32), dicom.ErrMalformed}, // QCD has steps for two
		{"code-blocks of 128 x 64", set(55, 5, 4), dicom.ErrMalformed},
		{"another wavelet", set(58, 2), dicom.ErrUnsupported},
		{"mixed blocks", set(57, 0xc0), dicom.ErrUnsupported},
		{"high throughput blocks with bypass", set(57, 0x41), dicom.ErrUnsupported},
		{"quantisation 3", set(63, 0x43), dicom.ErrMalformed},
		{"packed packet headers", insert(sot, 0xff, 0x60, 0, 3, 0), dicom.ErrUnsupported},
		{"a marker of Part 2", insert(sot, 0xff, 0x76, 0, 3, 0), dicom.ErrUnsupported},
		{"a segment of length 1", insert(sot, 0xff, 0x64, 0, 1), dicom.ErrMalformed},
		{"a region of another style", insert(sot, 0xff, 0x5e, 0, 5, 0, 1, 3), dicom.ErrUnsupported},
		{"an order of eight bytes", insert(sot, append([]byte{0xff, 0x5f, 0, 10}, make([]byte, 8)...)...), dicom.ErrMalformed},
		{"an order that leaves packets out", insert(sot, 0xff, 0x5f, 0, 9, 0, 0, 0, 1, 2, 1, 0), dicom.ErrMalformed},
		{"another tile", set(sot+4, 0, 1), dicom.ErrMalformed},
		{"a tile-part of 13 bytes", set(sot+6, 0, 0, 0, 13), dicom.ErrMalformed},
		{"no COD", slices.Delete(slices.Clone(stream), 45, 59), dicom.ErrMalformed},
	} {
		out := make([]int32, c.rows*c.columns)
		if _, err := decodeJPEG2000(r.stream, c.rows, c.columns, out); !errors.Is(err, r.kind) {
			t.Errorf("%s: %v, want %v", r.name, err, r.kind)
		} else if !strings.Contains(err.Error(), "send the image") && !strings.Contains(err.Error(), "no colour") {
			t.Errorf("%s: no remedy: %v", r.name, err)
		}
	}
	// Damage within code-blocks shows in a wrong segmentation symbol, where the writer put them.
	noticed := 0
	for at := sot + 40; at < len(stream)-2; at += 7 {
		s := slices.Clone(stream)
		s[at] ^= 0x10
		_, err := decodeJPEG2000(s, c.rows, c.columns, make([]int32, c.rows*c.columns))
		if err != nil && strings.Contains(err.Error(), "symbol") {
			noticed++
		}
	}
	if noticed < 20 {
		t.Errorf("only %d damages noticed by a segmentation symbol", noticed)
	}
	// In high throughput blocks, magnitudes show it that are larger than the planes allow.
	c = j2kFixtures[3]
	stream, _ = j2kFixture(t, c)
	noticed = 0
	for at := len(stream) - 100; at < len(stream)-2; at++ {
		s := slices.Clone(stream)
		s[at] ^= 0xff
		_, err := decodeJPEG2000(s, c.rows, c.columns, make([]int32, c.rows*c.columns))
		if err != nil && strings.Contains(err.Error(), "magnitudes") {
			noticed++
		}
	}
	if noticed < 5 {
		t.Errorf("only %d damages noticed by a magnitude", noticed)
	}
}

// TestJPEG2000Headers says the same in other words: each stream is the same picture.
func TestJPEG2000Headers(t *testing.T) {
	c := j2kFixtures[1] // SIZ is at byte 2, COD at 45, QCD at 59
	stream, want := j2kFixture(t, c)
	cod, qcd := stream[45:59], stream[59:71]
	sot := bytes.Index(stream, []byte{0xff, 0x90, 0, 10})
	end := slices.Clone(stream[:sot])
	open := func(main []byte, header ...[]byte) []byte { // with a header of the tile, whose length is not said
		s := append(slices.Clone(main), stream[sot:sot+12]...)
		copy(s[len(main)+6:], make([]byte, 4))
		return append(append(s, slices.Concat(header...)...), stream[sot+12:]...)
	}
	with := func(s []byte, at int, b byte) []byte { s = slices.Clone(s); s[at] = b; return s }
	coc := append([]byte{0xff, 0x53, 0, 9, 0, 0}, cod[9:14]...)
	qcc := append([]byte{0xff, 0x5d, 0, byte(len(qcd) - 1), 0}, qcd[4:]...)
	order := func(entries ...byte) []byte { return append([]byte{0xff, 0x5f, 0, byte(2 + len(entries))}, entries...) }
	wrongCOD, wrongQCD := with(cod, 12, 0), with(qcd, 5, 0x30)
	for name, s := range map[string][]byte{
		"tile-part to the end":          open(end),
		"comment in the tile":           open(end, []byte{0xff, 0x64, 0, 4, 0, 0}),
		"COC after COD":                 open(slices.Concat(stream[:45], wrongCOD, coc, stream[59:sot])),
		"COC before COD":                open(slices.Concat(stream[:45], coc, wrongCOD, stream[59:sot])),
		"QCC before QCD":                open(slices.Concat(stream[:59], qcc, wrongQCD, stream[71:sot])),
		"COD of the tile":               open(slices.Concat(stream[:45], wrongCOD, stream[59:sot]), cod),
		"COD of the tile and COC":       open(slices.Concat(stream[:45], cod, with(coc, 9, 0), stream[59:sot]), cod),
		"QCD of the tile and QCC":       open(slices.Concat(stream[:71], with(qcc, 6, 0x30), stream[71:sot]), qcd),
		"QCC of the tile":               open(slices.Concat(stream[:59], wrongQCD, stream[71:sot]), qcc),
		"COC of a second component":     open(slices.Concat(stream[:59], with(with(coc, 4, 1), 9, 0), stream[59:sot])),
		"order that says packets twice": open(slices.Concat(end, order(0, 0, 0, 1, 2, 1, 0, 0, 0, 0, 1, 3, 1, 1))),
		"order of the tile":             open(slices.Concat(end, order(2, 0, 0, 1, 3, 1, 0)), order(0, 0, 0, 1, 3, 1, 2)),
	} {
		out := make([]int32, c.rows*c.columns)
		if _, err := decodeJPEG2000(s, c.rows, c.columns, out); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !slices.Equal(out, want) {
			t.Errorf("%s: another picture", name)
		}
	}
}

// TestJPEG2000Overshoot declares a bit less than the samples have: they are cut, and not called lossless.
func TestJPEG2000Overshoot(t *testing.T) {
	c := j2kFixtures[1]
	stream, want := j2kFixture(t, c)
	stream[42]--
	for i, v := range want {
		want[i] = min(1<<14-1, max(-1<<14, v))
	}
	c.bits, c.lossy = 15, 1
	if n, _ := j2kCompare(t, c, stream, want); n > 0 {
		t.Errorf("%d samples differ", n)
	}
}

// TestJPEG2000Bounds refuses a size that the bytes cannot back, before it makes precincts for it.
func TestJPEG2000Bounds(t *testing.T) {
	const side = 1024
	header := []byte{
		0xff, 0x4f, 0xff, 0x51, 0, 41, 0, 0, 0, 0, side >> 8, 0, 0, 0, side >> 8, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, side >> 8, 0, 0, 0, side >> 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 7, 1, 1,
		0xff, 0x52, 0, 13, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, // no wavelet, precincts of one sample
		0xff, 0x5c, 0, 4, 0x40, 0x40,
		0xff, 0x90, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x93,
	}
	out := make([]int32, side*side)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := decodeJPEG2000(append(header, make([]byte, 5000)...), side, side, out)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, dicom.ErrMalformed) || !strings.Contains(err.Error(), "cannot hold") {
		t.Error(err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 5*side*side {
		t.Errorf("%d bytes of memory for %d samples", n, side*side)
	}
}

// TestJPEG2000Parts holds what no writer at hand writes against the plain text of the standard.
func TestJPEG2000Parts(t *testing.T) {
	// H.1: a shift of 4; halves, so that a background of 7.5 is 15 and the least of the region 16.
	data := []uint32{15 << 1, 31, 32, signBit | 0x155, signBit | 9}
	if unshift(data, 4); !slices.Equal(data, []uint32{30, 31, 2, signBit | 0x15, signBit | 9}) {
		t.Errorf("%x", data)
	}
	// E-5: one step, an octave less for each level.
	q := quantisation{kind: 1, steps: []uint16{14<<11 | 5}}
	for i, want := range []int{14, 14, 14, 14, 13, 13, 13, 12} {
		if e, m, err := q.subband(i); e != want || m != 5 || err != nil {
			t.Errorf("subband %d: %d %d %v", i, e, m, err)
		}
	}
	// B.10.1: 7 bits follow FF, and a header that ends with FF has one byte more. There is one block, which is in it, with
	// no plane missing, in 32 passes; Lblock grows by 1, so that the length is 9 bits: 255.
	p := &parameters{coding: coding{layers: 1}, quantisation: quantisation{guard: 3, steps: []uint16{10 << 11}}}
	p.precinct[0] = 0xff
	data8 := append([]byte{0b111_11111, 0b0_1010_10_0, 0b11111111, 0}, bytes.Repeat([]byte{7}, 255)...)
	tile, err := newTile(rect{0, 0, 1, 1}, p, 8, data8, new(tileScratch))
	if err != nil {
		t.Fatal(err)
	}
	if err := tile.readPackets(data8); err != nil {
		t.Fatal(err)
	}
	if b := tile.resolutions[0].precincts[0].bands[0].blocks[0]; b.passes != 32 || !bytes.Equal(b.segments[0].data, data8[4:]) {
		t.Errorf("%d passes, % x", b.passes, b.segments[0].data)
	}
}

// TestMQ holds the arithmetic decoder against the flow charts of C.3 as they are drawn, over bytes as no encoder writes them:
// with carries after FF, and with markers, behind which ones follow.
func TestMQ(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 3000 {
		data := make([]byte, r.IntN(300))
		for i := range data {
			data[i] = byte(r.Uint32())
			if r.IntN(3) > 0 {
				data[i] = []byte{0xff, 0xff, 0xff, 0x80, 0x8f, 0x00}[r.IntN(6)]
			}
			if i < len(data)/2 && i > 0 && data[i-1] == 0xff { // a marker ends the bytes
				data[i] &= 0x8f
			}
		}
		data = append(data, 0xff, 0xff)

		var bp int
		var a, c, ct uint32
		byteIn := func() { // Figure C.19
			switch b1 := data[bp+min(1, len(data)-1-bp)]; {
			case data[bp] != 0xff:
				bp++
				c += uint32(b1) << 8
				ct = 8
			case b1 > 0x8f:
				c += 0xff00
				ct = 8
			default:
				bp++
				c += uint32(b1) << 9
				ct = 7
			}
		}
		c = uint32(data[0]) << 16 // Figure C.20
		byteIn()
		c, ct, a = c<<7, ct-7, 0x8000

		var m mqDecoder
		m.reset()
		slack := m.start(data)
		states := m.contexts
		for k := range 8*len(data) + 100 {
			context := uint8(r.IntN(19))
			s := &states[context]
			qe, d := uint32(*s>>mqPoint), uint32(*s)&1
			more := true
			a -= qe // Figure C.15
			renormalise := false
			if c>>16 < qe {
				more = a < qe // Figure C.17
				a, renormalise = qe, true
			} else if c -= qe << 16; a&0x8000 == 0 {
				more = a >= qe // Figure C.16
				renormalise = true
			}
			if !more {
				d ^= 1
			}
			if renormalise {
				next := uint8(*s >> 8)
				if !more {
					next = uint8(*s >> 16)
				}
				*s = mqStates[next]
				for ok := true; ok; ok = a&0x8000 == 0 { // Figure C.18
					if ct == 0 {
						byteIn()
					}
					a, c, ct = a<<1, c<<1, ct-1
				}
			}
			var bit uint32
			if slack, bit = m.bit(slack, context); bit != d {
				t.Fatalf("symbol %d of % x: %d, want %d", k, data, bit, d)
			}
		}
	}
}

// FuzzJPEG2000 holds that samples keep to their precision, that errors are of the two kinds, and that time and memory are
// bound by the size of the image and of the stream.
func FuzzJPEG2000(f *testing.F) {
	for _, c := range j2kFixtures {
		stream, _ := j2kFixture(f, c)
		f.Add(stream, byte(c.rows-1), byte(c.columns-1), false)
		f.Add(stream, byte(63), byte(47), true)
	}
	f.Fuzz(func(t *testing.T, stream []byte, y, x byte, force bool) {
		rows, columns := int(y)+1, int(x)+1
		if len(stream) > 1<<16 {
			return
		}
		if at := 8; force && len(stream) > at+32 { // a size that fits, else little of what is drawn would get beyond SIZ
			stream = slices.Clone(stream)
			binary.BigEndian.PutUint32(stream[at:], uint32(columns)+binary.BigEndian.Uint32(stream[at+8:]))
			binary.BigEndian.PutUint32(stream[at+4:], uint32(rows)+binary.BigEndian.Uint32(stream[at+12:]))
		}
		out := make([]int32, rows*columns)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		p, err := decodeJPEG2000(stream, rows, columns, out)
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if limit := 5 * time.Second; took > limit {
			t.Errorf("%v for %d samples and %d bytes", took, len(out), len(stream))
		}
		// 20 bytes a sample for coefficients and wavelet, 60 for the smallest code-blocks; what a byte of the stream can
		// ask for is a packet, a precinct of it, and a share of a tile, which has 97 subbands at most.
		if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+80*len(out)+2048*len(stream)); got > limit {
			t.Errorf("%d bytes of memory for %d samples and %d bytes", got, len(out), len(stream))
		}
		if err != nil {
			if !errors.Is(err, dicom.ErrMalformed) && !errors.Is(err, dicom.ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		low, high := int64(0), int64(1)<<p.bits
		if p.signed {
			low, high = -high/2, high/2
		}
		for _, v := range out {
			if int64(v) < low || int64(v) >= high {
				t.Fatalf("%d has not %d bits", v, p.bits)
			}
		}
	})
}

// BenchmarkJPEG2000 is decoded bytes in a second, of a CT slice of 512 x 512 in 16 bits, and how long the peer's program
// takes for the same file, its start included.
func BenchmarkJPEG2000(b *testing.B) {
	peers(b, "opj_compress", "opj_decompress", "ojph_compress", "ojph_expand")
	const side = 512
	// Soft tissue, bone and air with noise of a few HU, as a body on a table.
	r := rand.New(rand.NewPCG(1, 2))
	samples := make([]int32, side*side)
	for i := range samples {
		x, y := float64(i%side-side/2)/side, float64(i/side-side/2)/side
		v := 24.0
		if q := x*x*6 + y*y*9; q < 1 {
			v = 1064 + 40*math.Sin(20*x)*math.Cos(14*y)
			if math.Abs(q-0.8) < 0.05 {
				v += 700
			}
		}
		samples[i] = int32(max(0, v+12*r.NormFloat64()))
	}
	folder := b.TempDir()
	raw, pgm := filepath.Join(folder, "in.rawl"), filepath.Join(folder, "in.pgm")
	header := fmt.Appendf(nil, "P5\n%d %d\n65535\n", side, side)
	if err := errors.Join(os.WriteFile(raw, j2kBytes(samples, 16, binary.LittleEndian), 0o600),
		os.WriteFile(pgm, append(header, j2kBytes(samples, 16, binary.BigEndian)...), 0o600)); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args string
	}{
		{"lossless", "opj_compress -F 512,512,1,16,u -i " + raw + " -o"},
		{"lossy", "opj_compress -F 512,512,1,16,u -I -r 12 -i " + raw + " -o"},
		{"HTJ2K lossless", "ojph_compress -reversible true -i " + pgm + " -o"},
		{"HTJ2K lossy", "ojph_compress -qstep 0.0005 -i " + pgm + " -o"},
	} {
		path, peer := filepath.Join(folder, strings.ReplaceAll(c.name, " ", "-")+".j2c"), "opj_decompress"
		if strings.HasPrefix(c.name, "HT") {
			peer = "ojph_expand"
		}
		args := append(strings.Fields(c.args), path)
		j2kRun(b, args[0], args[1:]...)
		stream, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(c.name, func(b *testing.B) {
			out := make([]int32, side*side)
			b.SetBytes(2 * side * side)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decodeJPEG2000(stream, side, side, out); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(2*side*side)/float64(len(stream)), "ratio")
		})
		b.Run(c.name+" "+peer, func(b *testing.B) {
			b.SetBytes(2 * side * side)
			for b.Loop() {
				j2kRun(b, peer, "-i", path, "-o", filepath.Join(folder, "out.pgm"))
			}
		})
	}
}
