package pixel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
)

// A jpegImage is an image to compress: samples are words of its bits allocated, as Pixel Data holds them.
type jpegImage struct {
	name              string
	rows, columns     int
	allocated, stored int
	signed            bool
	samples           []int32
}

func (m jpegImage) dataSet() *dicom.DataSet {
	d := image(m.rows, m.columns, m.allocated, m.stored, m.signed)
	d.SetString(dicom.SOPClassUID, dicom.SecondaryCaptureImageStorage)
	return d
}

func (m jpegImage) pixels() []byte {
	var b []byte
	for _, v := range m.samples {
		if m.allocated == 8 {
			b = append(b, byte(v))
		} else {
			b = binary.LittleEndian.AppendUint16(b, uint16(v))
		}
	}
	return append(b, make([]byte, len(b)%2)...)
}

// write makes a Part 10 file of the image.
func (m jpegImage) write(t testing.TB, path string) {
	t.Helper()
	d := m.dataSet()
	vr := dicom.OW
	if m.allocated == 8 {
		vr = dicom.OB
	}
	d.SetBytes(dicom.PixelData, vr, m.pixels())
	var b bytes.Buffer
	if err := dicom.WriteFile(&b, dicom.FileMeta{}, d); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// encapsulate makes a Part 10 file with a stream as its only frame, PS3.5 A.4.
func (m jpegImage) encapsulate(t testing.TB, path, transferSyntax string, stream []byte) {
	t.Helper()
	d := m.dataSet()
	body, err := d.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := dicom.WriteMeta(&b, dicom.FileMeta{TransferSyntaxUID: transferSyntax, MediaStorageSOPClassUID: d.String(dicom.SOPClassUID),
		MediaStorageSOPInstanceUID: d.String(dicom.SOPInstanceUID)}); err != nil {
		t.Fatal(err)
	}
	b.Write(body)
	b.WriteString("\xE0\x7F\x10\x00OB\x00\x00\xFF\xFF\xFF\xFF" + "\xFE\xFF\x00\xE0\x00\x00\x00\x00" + "\xFE\xFF\x00\xE0")
	binary.Write(&b, binary.LittleEndian, uint32(len(stream)+len(stream)%2))
	b.Write(stream)
	b.Write(make([]byte, len(stream)%2))
	b.WriteString("\xFE\xFF\xDD\xE0\x00\x00\x00\x00")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// jpegStream is the only frame of an encapsulated file, and its transfer syntax.
func jpegStream(t testing.TB, path string) ([]byte, string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	items, err := io.ReadAll(f.Pixels.Reader())
	if err != nil || f.Pixels.Length >= 0 {
		t.Fatalf("%s is not encapsulated: %v", path, err)
	}
	var stream []byte
	for first := true; len(items) >= 8; first = false {
		n := binary.LittleEndian.Uint32(items[4:])
		if !first { // the basic offset table
			stream = append(stream, items[8:8+n]...)
		}
		items = items[8+n:]
	}
	return stream, f.Meta.TransferSyntaxUID
}

// jpegNative are the words of a file that is not compressed.
func jpegNative(t testing.TB, path string) jpegImage {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	m := jpegImage{name: filepath.Base(path)}
	m.rows, _ = f.DataSet.Int(dicom.Rows)
	m.columns, _ = f.DataSet.Int(dicom.Columns)
	m.allocated, _ = f.DataSet.Int(dicom.BitsAllocated)
	m.stored, _ = f.DataSet.Int(dicom.BitsStored)
	v, _ := f.DataSet.Int(dicom.PixelRepresentation)
	m.signed = v == 1
	raw, err := io.ReadAll(f.Pixels.Reader())
	if err != nil || f.Pixels.Length < 0 {
		t.Fatalf("%s is compressed: %v", path, err)
	}
	for i := range m.rows * m.columns {
		if m.allocated == 8 {
			m.samples = append(m.samples, int32(raw[i]))
		} else {
			m.samples = append(m.samples, int32(binary.LittleEndian.Uint16(raw[2*i:])))
		}
	}
	return m
}

// jpegImages are images of many sizes and contents; slices of CT are among them where the reference data are here.
func jpegImages(t testing.TB) []jpegImage {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	var all []jpegImage
	add := func(name string, rows, columns, allocated, stored int, signed bool, at func(y, x int) int) {
		m := jpegImage{fmt.Sprintf("%s-%dx%d-%d-%t", name, rows, columns, stored, signed), rows, columns, allocated, stored, signed, nil}
		for y := range rows {
			for x := range columns {
				m.samples = append(m.samples, int32(at(y, x))&(1<<allocated-1))
			}
		}
		all = append(all, m)
	}
	noise := func(low, high int) func(int, int) int { return func(int, int) int { return low + r.IntN(high-low) } }
	ramp := func(scale, low int) func(int, int) int { return func(y, x int) int { return low + scale*(x+2*y) } }
	// Differences of 32768 and of every other size: the largest category, Table H.2.
	jumps := func(y, x int) int { return (x&1)<<15 ^ x>>1&1<<(y&15) }
	add("noise", 23, 37, 8, 8, false, noise(0, 256))
	add("ramp", 64, 65, 8, 8, false, ramp(1, 0))
	add("constant", 16, 16, 8, 8, false, func(int, int) int { return 77 })
	add("noise", 1, 1, 8, 8, false, noise(0, 256))
	add("noise", 23, 37, 16, 12, false, noise(0, 4096))
	add("noise", 23, 37, 16, 12, true, noise(-2048, 2048))
	add("ramp", 40, 33, 16, 12, true, ramp(11, -1024))
	add("noise", 1, 257, 16, 16, false, noise(0, 65536))
	add("noise", 257, 1, 16, 16, true, noise(-32768, 32768))
	add("jumps", 33, 34, 16, 16, false, jumps)
	add("constant", 8, 9, 16, 16, true, func(int, int) int { return -32768 })
	root := sharedRoot()
	for _, name := range []string{"lung1/LUNG1-001/image/1-057.dcm", "ibsi1/ct_phantom/dicom/image/DCM_IMG_00030.dcm"} {
		if path := filepath.Join(root, "data", name); root != "" {
			if _, err := os.Stat(path); err == nil {
				all = append(all, jpegNative(t, path))
			}
		}
	}
	return all
}

func jpegCompare(got, want []int32) error {
	for i := range want {
		if got[i] != want[i] {
			return fmt.Errorf("sample %d is %d, not %d", i, got[i], want[i])
		}
	}
	return nil
}

// TestJPEGPeers reads what DCMTK and GDCM compress, by every process they have. Lossless images must be the original, lossy ones
// what DCMTK makes of them.
func TestJPEGPeers(t *testing.T) {
	peers(t, "dcmcjpeg", "dcmdjpeg", "gdcmconv")
	dir := t.TempDir()
	type job struct {
		m        jpegImage
		name     string
		lossless bool
		shift    int
		command  []string // between the program's name and the files
		syntax   string
	}
	var jobs []job
	for _, m := range jpegImages(t) {
		m.write(t, filepath.Join(dir, m.name+".in"))
		add := func(lossless bool, shift int, syntax string, command ...string) {
			name := fmt.Sprintf("%s %s", m.name, strings.Join(command, " "))
			jobs = append(jobs, job{m, name, lossless, shift, command, syntax})
		}
		add(true, 0, "1.2.840.10008.1.2.4.70", "dcmcjpeg", "+e1")
		for sv := 1; sv <= 7; sv++ {
			if sv == 1 || sv == 4 || sv == 7 || m.rows < 100 {
				add(true, 0, "1.2.840.10008.1.2.4.57", "dcmcjpeg", "+el", "+sv", fmt.Sprint(sv))
			}
		}
		add(true, 3, "1.2.840.10008.1.2.4.57", "dcmcjpeg", "+el", "+sv", "5", "+pt", "3")
		add(true, 0, "1.2.840.10008.1.2.4.70", "gdcmconv", "--jpeg")
		qualities := []string{"80"}
		if m.rows < 100 {
			qualities = []string{"1", "100"}
		}
		for _, q := range qualities {
			if m.allocated == 8 {
				add(false, 0, "1.2.840.10008.1.2.4.50", "dcmcjpeg", "+eb", "+q", q)
				add(false, 0, "1.2.840.10008.1.2.4.51", "dcmcjpeg", "+ee", "-ho", "+q", q)
				// Of more than 8 bits GDCM's frames have P = 16, which Table B.2 does not.
				add(false, 0, "1.2.840.10008.1.2.4.50", "gdcmconv", "--jpeg", "--lossy", "-q", q)
			} else {
				add(false, 0, "1.2.840.10008.1.2.4.50", "dcmcjpeg", "+eb", "+be", "+q", q)
				add(false, 0, "1.2.840.10008.1.2.4.51", "dcmcjpeg", "+ee", "+bt", "+q", q)
			}
			add(false, 0, "1.2.840.10008.1.2.4.53", "dcmcjpeg", "+es", "+q", q)
			add(false, 0, "1.2.840.10008.1.2.4.55", "dcmcjpeg", "+ep", "+q", q)
		}
	}
	each(len(jobs), func(i int) {
		j := jobs[i]
		in, packed, out := filepath.Join(dir, j.m.name+".in"), filepath.Join(dir, fmt.Sprint(i, ".jpg")), filepath.Join(dir, fmt.Sprint(i, ".out"))
		if b, err := exec.Command(j.command[0], append(j.command[1:], in, packed)...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v %s", j.name, err, b)
			return
		}
		want := j.m
		if !j.lossless {
			if b, err := exec.Command("dcmdjpeg", packed, out).CombinedOutput(); err != nil {
				t.Errorf("%s: %v %s", j.name, err, b)
				return
			}
			want = jpegNative(t, out)
		}
		stream, syntax := jpegStream(t, packed)
		if syntax != j.syntax {
			t.Errorf("%s: transfer syntax %s", j.name, syntax)
		}
		got := make([]int32, j.m.rows*j.m.columns)
		p, err := decodeJPEG(stream, j.m.rows, j.m.columns, got)
		if err != nil {
			t.Errorf("%s: %v", j.name, err)
			return
		}
		samples := want.samples
		if j.shift > 0 {
			samples = append([]int32(nil), samples...)
			for k := range samples {
				samples[k] = samples[k] >> j.shift << j.shift
			}
		}
		if err := jpegCompare(got, samples); err != nil {
			t.Errorf("%s: %v", j.name, err)
		}
		if p.lossy != (!j.lossless || j.shift > 0) || p.signed {
			t.Errorf("%s: %+v", j.name, p)
		}
		if j.lossless && p.bits != j.m.allocated {
			t.Errorf("%s: %+v", j.name, p)
		}
	})
	t.Logf("%d streams", len(jobs))
}

// jpegDrawn is an image of noise whose differences are of all sizes.
func jpegDrawn(r *rand.Rand, n, bits int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(r.IntN(1 << (1 + r.IntN(bits))))
		if r.IntN(4) == 0 {
			out[i] ^= 1<<bits - 1
		}
	}
	return out
}

// TestJPEGLossless reads what the test's own writer makes of every precision, predictor, point transform and restart interval.
// dcmdjpeg reads some of the same streams, so that the writer is not its own witness.
func TestJPEGLossless(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	witness := true
	if _, err := exec.LookPath("dcmdjpeg"); err != nil && os.Getenv("CI") != "true" {
		witness = false
		t.Log("dcmdjpeg is not here: the writer of the test goes unchecked")
	}
	dir := t.TempDir()
	type check struct {
		m      jpegImage
		name   string
		stream []byte
	}
	var checks []check
	n := 0
	for bits := 2; bits <= 16; bits++ {
		for predictor := 1; predictor <= 7; predictor++ {
			for _, lines := range []int{0, 1, 3} {
				for _, shift := range []int{0, 1, bits - 1} {
					w := jpegWriter{rows: 1 + r.IntN(30), columns: 1 + r.IntN(40), bits: bits, predictor: predictor, shift: shift,
						lines: lines, counts: jpegFlatTable, values: jpegCategories(false), fill: n % 3}
					if n%2 == 1 {
						w.counts, w.values = jpegDeepTable, jpegCategories(n%4 == 1)
					}
					n++
					samples := jpegDrawn(r, w.rows*w.columns, bits)
					stream := w.encode(samples)
					for i := range samples {
						samples[i] = samples[i] >> shift << shift
					}
					got := make([]int32, len(samples))
					p, err := decodeJPEG(stream, w.rows, w.columns, got)
					if err == nil {
						err = jpegCompare(got, samples)
					}
					if err != nil || p != (precision{bits: bits, lossy: shift > 0}) {
						t.Errorf("%+v: %+v %v", w, p, err)
					}
					if (bits == 8 || bits == 16) && shift < 2 {
						m := jpegImage{fmt.Sprint(n), w.rows, w.columns, bits, bits, false, samples}
						checks = append(checks, check{m, fmt.Sprintf("%+v", w), stream})
					}
				}
			}
		}
	}
	t.Logf("%d streams, %d of them for dcmdjpeg", n, len(checks))
	if !witness {
		return
	}
	each(len(checks), func(i int) {
		c := checks[i]
		in, out := filepath.Join(dir, c.m.name+".jpg"), filepath.Join(dir, c.m.name+".out")
		c.m.encapsulate(t, in, "1.2.840.10008.1.2.4.57", c.stream)
		if b, err := exec.Command("dcmdjpeg", in, out).CombinedOutput(); err != nil {
			t.Errorf("%s: dcmdjpeg: %v %s", c.name, err, b)
			return
		}
		if err := jpegCompare(jpegNative(t, out).samples, c.m.samples); err != nil {
			t.Errorf("%s: dcmdjpeg: %v", c.name, err)
		}
	})
}

// jpegFile is a stream of testdata/jpeg.
type jpegFile struct {
	name   string
	stream []byte
	bits   int
	lossy  bool
	want   []int32
	end    int // of the entropy-coded data
}

const jpegFileRows, jpegFileColumns = 23, 37

// jpegPattern is samples in testdata/jpeg/make.py.
func jpegPattern(bits int) []int32 {
	var out []int32
	for y := range jpegFileRows {
		for x := range jpegFileColumns {
			out = append(out, int32(y*x*x+131*y+977*x)&(1<<bits-1))
		}
	}
	return out
}

func jpegFiles(t testing.TB) []jpegFile {
	t.Helper()
	names, err := filepath.Glob("testdata/jpeg/*.jpg")
	if err != nil || len(names) < 30 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	var all []jpegFile
	for _, name := range names {
		f := jpegFile{name: strings.TrimSuffix(filepath.Base(name), ".jpg")}
		if f.stream, err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
		f.end = bytes.LastIndex(f.stream, []byte{0xFF, jpegEOI})
		for f.stream[f.end-1] == 0xFF { // DCMTK makes the length even by a fill byte
			f.end--
		}
		_, signed, _ := strings.Cut(f.name, "-signed")
		fmt.Sscan(f.name[strings.LastIndexByte(f.name, '-')+1:], &f.bits)
		raw, err := os.ReadFile(strings.TrimSuffix(name, ".jpg") + ".raw")
		switch f.lossy = err == nil; {
		case f.lossy && f.bits == 8:
			for _, v := range raw {
				f.want = append(f.want, int32(v))
			}
		case f.lossy:
			for i := 0; i < len(raw); i += 2 {
				f.want = append(f.want, int32(binary.LittleEndian.Uint16(raw[i:])))
			}
		case signed == "12": // two's complement in words of 16 bits
			f.bits, f.want = 16, jpegPattern(12)
			for i, v := range f.want {
				f.want[i] = int32(uint16(int16(v<<4) >> 4))
			}
		default:
			f.want = jpegPattern(f.bits)
		}
		all = append(all, f)
	}
	return all
}

// TestJPEGFiles reads streams of four writers, which need not be here.
func TestJPEGFiles(t *testing.T) {
	for _, f := range jpegFiles(t) {
		for _, c := range []struct {
			name   string
			stream []byte
		}{
			{"", f.stream},
			{" without EOI", f.stream[:f.end]},
			{" with a padding byte", append(bytes.Clone(f.stream), 0)},
			{" without EOI and with a padding byte", append(bytes.Clone(f.stream[:f.end]), 0)},
			{" with padding before EOI", slices.Concat(f.stream[:f.end], make([]byte, 9), f.stream[f.end:])},
			{" with fill bytes before each marker", bytes.ReplaceAll(f.stream, []byte{0xFF, jpegDHT}, []byte{0xFF, 0xFF, 0xFF, jpegDHT})},
			{" with bytes between segments", bytes.Replace(f.stream, []byte{0xFF, jpegDHT}, []byte{0, 1, 0xFF, 0, 0xFF, jpegDHT}, 1)},
			{" with an Adobe segment", bytes.Replace(f.stream, []byte{0xFF, jpegDHT}, []byte("\xFF\xEE\x00\x0EAdobe\x00\x64\x00\x00\x00\x00\x01\xFF\xC4"), 1)},
			// One component alone is never interleaved: A.2.2.
			{" sampled 2 × 2", bytes.Replace(f.stream, []byte{0, jpegFileColumns, 1, 1, 0x11}, []byte{0, jpegFileColumns, 1, 1, 0x22}, 1)},
			{" sampled 2 × 2", bytes.Replace(f.stream, []byte{0, jpegFileColumns, 1, 0, 0x11}, []byte{0, jpegFileColumns, 1, 0, 0x22}, 1)},
		} {
			got := make([]int32, len(f.want))
			p, err := decodeJPEG(c.stream, jpegFileRows, jpegFileColumns, got)
			if err == nil {
				err = jpegCompare(got, f.want)
			}
			if err != nil || p != (precision{bits: f.bits, lossy: f.lossy}) {
				t.Errorf("%s%s: %+v %v", f.name, c.name, p, err)
			}
		}
	}
}

// TestJPEGTruncated cuts each stream at each byte: before the end of the entropy-coded data there is no image.
func TestJPEGTruncated(t *testing.T) {
	got := make([]int32, jpegFileRows*jpegFileColumns)
	for _, f := range jpegFiles(t) {
		for n := range len(f.stream) {
			_, err := decodeJPEG(f.stream[:n], jpegFileRows, jpegFileColumns, got)
			if (err == nil) != (n >= f.end) {
				t.Errorf("%s: %d of %d bytes: %v", f.name, n, f.end, err)
			}
			if err != nil && !errors.Is(err, dicom.ErrMalformed) {
				t.Errorf("%s: %d bytes: %v", f.name, n, err)
			}
		}
	}
}

// TestJPEGDamaged changes bytes of each stream. Where the damage goes unnoticed, which a code cannot avoid, samples are still of
// their bits.
func TestJPEGDamaged(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	noticed, all := 0, 0
	for _, f := range jpegFiles(t) {
		for range 500 {
			s := bytes.Clone(f.stream)
			for range 1 + r.IntN(3) {
				s[r.IntN(f.end)] ^= 1 << r.IntN(8)
			}
			if all++; jpegHostile(t, s, jpegFileRows, jpegFileColumns) != nil {
				noticed++
			}
		}
	}
	t.Logf("%d of %d noticed", noticed, all)
}

// jpegHostile decodes anything, and checks what holds for anything.
func jpegHostile(t testing.TB, stream []byte, rows, columns int) error {
	t.Helper()
	out := make([]int32, rows*columns)
	start := time.Now()
	p, err := decodeJPEG(stream, rows, columns, out)
	// All bits of all coefficients of 2^16 samples, one by one, take less than 0.1 s; the rest is for machines under load.
	if d := time.Since(start); d > 2*time.Second {
		t.Fatalf("%d bytes took %v", len(stream), d)
	}
	if err != nil {
		if !errors.Is(err, dicom.ErrMalformed) && !errors.Is(err, dicom.ErrUnsupported) {
			t.Fatalf("%T %v", err, err)
		}
		return err
	}
	if p.bits < 2 || p.bits > 16 {
		t.Fatalf("%+v", p)
	}
	for i, v := range out {
		if v < 0 || v >= 1<<p.bits {
			t.Fatalf("sample %d is %d, of %d bits", i, v, p.bits)
		}
	}
	return nil
}

func FuzzJPEG(f *testing.F) {
	for _, file := range jpegFiles(f) {
		f.Add(file.stream, uint16(jpegFileRows), uint16(jpegFileColumns))
	}
	w := jpegWriter{rows: 9, columns: 5, bits: 12, predictor: 4, lines: 2, counts: jpegDeepTable, values: jpegCategories(true), fill: 1}
	f.Add(w.encode(jpegPattern(12)[:45]), uint16(9), uint16(5))
	f.Fuzz(func(t *testing.T, stream []byte, rows, columns uint16) {
		if rows == 0 || columns == 0 || int(rows)*int(columns) > 1<<16 {
			return
		}
		jpegHostile(t, stream, int(rows), int(columns))
	})
}

// TestJPEGRefused has streams that are wrong in one place, or right but of a kind that is not read.
func TestJPEGRefused(t *testing.T) {
	lossless := jpegWriter{rows: 8, columns: 5, bits: 12, predictor: 2, lines: 2, counts: jpegFlatTable, values: jpegCategories(false)}.encode(jpegPattern(12)[:40])
	files := make(map[string][]byte)
	for _, f := range jpegFiles(t) {
		files[f.name] = f.stream
	}
	baseline, progressive := files["pillow-baseline-restarts-8"], files["pillow-progressive-restarts-8"]
	// segment finds the place of a marker; part takes all bytes from one marker to the next of another kind.
	segment := func(s []byte, marker byte) int { return bytes.Index(s, []byte{0xFF, marker}) }
	at := func(s []byte, marker byte, i int, v ...byte) []byte {
		s = bytes.Clone(s)
		copy(s[segment(s, marker)+i:], v)
		return s
	}
	insert := func(s []byte, before byte, v ...byte) []byte {
		i := segment(s, before)
		return slices.Concat(s[:i], v, s[i:])
	}
	without := func(s []byte, marker byte) []byte {
		for {
			i := segment(s, marker)
			if i < 0 {
				return s
			}
			s = slices.Concat(s[:i], s[i+2+int(binary.BigEndian.Uint16(s[i+2:])):])
		}
	}
	lossless = without(lossless, 0xFE) // its comment holds marker bytes
	const malformed, unsupported = false, true
	for _, c := range []struct {
		name          string
		stream        []byte
		rows, columns int
		kind          bool
		says          string
	}{
		{"nothing", nil, 8, 5, malformed, "FFD8"},
		{"no SOI", lossless[2:], 8, 5, malformed, "FFD8"},
		{"SOI alone", lossless[:2], 8, 5, malformed, "FFD8"},
		{"SOI and EOI", []byte{0xFF, jpegSOI, 0xFF, jpegEOI}, 8, 5, malformed, "truncated"},
		{"other rows", lossless, 9, 5, malformed, "8 × 5 samples, but Rows (0028,0010) × Columns (0028,0011) are 9 × 5"},
		{"other columns", lossless, 8, 4, malformed, "are 8 × 4"},
		{"no lines", at(lossless, jpegSOF3, 5, 0, 0), 8, 5, unsupported, "DNL"},
		{"lines after the scan", insert(lossless, jpegSOS, 0xFF, jpegDNL, 0, 4, 0, 8), 8, 5, unsupported, "DNL"},
		{"17 bits", at(lossless, jpegSOF3, 4, 17), 8, 5, malformed, "17 bits"},
		{"1 bit", at(lossless, jpegSOF3, 4, 1), 8, 5, malformed, "1 bits"},
		{"baseline of 12 bits", at(baseline, jpegSOF0, 4, 12), 23, 37, malformed, "12 bits"},
		{"extended of 16 bits", at(files["dcmcjpeg-extended-12"], jpegSOF1, 4, 16), 23, 37, malformed, "16 bits"},
		{"colour", insert(without(lossless, jpegSOF3), jpegDHT, 0xFF, jpegSOF3, 0, 17, 8, 0, 8, 0, 5, 3, 1, 17, 0, 2, 17, 0, 3, 17, 0), 8, 5, unsupported, "3 components"},
		{"two frame headers", insert(lossless, jpegSOS, lossless[segment(lossless, jpegSOF3):][:13]...), 8, 5, malformed, "second frame header"},
		{"short frame header", insert(without(lossless, jpegSOF3), jpegDHT, 0xFF, jpegSOF3, 0, 8, 12, 0, 8, 0, 5, 1), 8, 5, malformed, "frame header"},
		{"arithmetic", at(baseline, jpegSOF0, 1, 0xC9), 23, 37, unsupported, "arithmetic coding (SOF9)"},
		{"lossless arithmetic", at(lossless, jpegSOF3, 1, 0xCB), 8, 5, unsupported, "arithmetic coding (SOF11)"},
		{"hierarchical", at(lossless, jpegSOF3, 1, 0xC7), 8, 5, unsupported, "hierarchical (SOF7)"},
		{"hierarchical", insert(lossless, jpegSOF3, 0xFF, jpegDHP, 0, 2), 8, 5, unsupported, "hierarchical (DHP)"},
		{"JPEG-LS", at(lossless, jpegSOF3, 1, 0xF7), 8, 5, unsupported, "JPEG-LS"},
		{"predictor 0", at(lossless, jpegSOS, 7, 0), 8, 5, malformed, "predictor 0"},
		{"predictor 8", at(lossless, jpegSOS, 7, 8), 8, 5, malformed, "predictor 8"},
		{"point transform", at(lossless, jpegSOS, 9, 12), 8, 5, malformed, "point transform of 12"},
		{"samples of more bits", at(lossless, jpegSOF3, 4, 9), 8, 5, malformed, "9 bits of the JPEG frame"},
		{"another component", at(lossless, jpegSOS, 5, 8), 8, 5, malformed, "component 8"},
		{"two components in the scan", insert(without(lossless, jpegSOS), jpegEOI, 0xFF, jpegSOS, 0, 10, 2, 7, 0, 8, 0, 1, 0, 0), 8, 5, malformed, "SOS"},
		{"another Huffman table", at(lossless, jpegSOS, 6, 0x10), 8, 5, malformed, "difference Huffman table of the scan is missing"},
		{"Huffman table 5", at(lossless, jpegSOS, 6, 0x50), 8, 5, malformed, "Huffman tables 50"},
		{"no Huffman table", without(lossless, jpegDHT), 8, 5, malformed, "missing"},
		{"no AC table", at(baseline, jpegSOS, 6, 0x01), 23, 37, malformed, "AC Huffman table of the scan is missing"},
		{"no quantization", without(baseline, jpegDQT), 23, 37, malformed, "quantization table 0 is missing"},
		{"quantization by 0", at(baseline, jpegDQT, 9, 0), 23, 37, malformed, "divides by 0"},
		{"quantization of 24 bits", at(baseline, jpegDQT, 4, 0x20), 23, 37, malformed, "DQT"},
		{"too many codes", at(lossless, jpegDHT, 5, 3), 8, 5, malformed, "more than there can be"},
		{"fewer codes than said", at(lossless, jpegDHT, 20, 1), 8, 5, malformed, "of 18 codes"},
		{"category 17", at(lossless, jpegDHT, 21, 17), 8, 5, malformed, "category 17"},
		{"DC category 16", at(baseline, jpegDHT, 21, 16), 23, 37, malformed, "category 16"},
		{"restart in a line", at(lossless, jpegDRI, 4, 0, 7), 8, 5, malformed, "no whole lines"},
		{"restart unannounced", at(lossless, jpegDRI, 4, 0, 0), 8, 5, malformed, "entropy-coded data"},
		{"longer restart interval", at(lossless, jpegDRI, 4, 0, 15), 8, 5, malformed, "entropy-coded data"},
		{"shorter restart interval", at(lossless, jpegDRI, 4, 0, 5), 8, 5, malformed, "are left"},
		{"restart markers in another order", at(lossless, jpegRST0, 1, jpegRST0+1), 8, 5, malformed, "restart marker 0 is not at byte"},
		{"a restart interval is lost", slices.Concat(lossless[:segment(lossless, jpegRST0)], lossless[segment(lossless, jpegRST0+1):]), 8, 5, malformed, "restart marker 0"},
		{"a segment over the end", lossless[:segment(lossless, jpegDHT)+9], 8, 5, malformed, "truncated"},
		{"no scan", lossless[:segment(lossless, jpegSOS)], 8, 5, malformed, "truncated"},
		{"a scan before the frame", without(lossless, jpegSOF3), 8, 5, malformed, "before the frame header"},
		{"another SOI", insert(lossless, jpegSOS, 0xFF, jpegSOI), 8, 5, malformed, "second start of image"},
		{"a code that is not there", slices.Concat(lossless[:segment(lossless, jpegSOS)+10], bytes.Repeat([]byte{0xFE}, 99)), 8, 5, malformed, "no Huffman table has"},
		{"a marker in the entropy-coded data", at(lossless, jpegRST0, -4, 0xFF, 0xFE), 8, 5, malformed, "truncated"},
		{"more data than samples", insert(lossless, jpegEOI, 1, 2), 8, 5, malformed, "2 bytes are left"},
		{"more data than blocks", insert(baseline, jpegEOI, 1), 23, 37, malformed, "1 bytes are left"},
		{"more data than a scan takes", insert(progressive, jpegEOI, 0, 1), 23, 37, malformed, "2 bytes are left"},
		{"last scan missing", slices.Concat(progressive[:bytes.LastIndex(progressive, []byte{0xFF, jpegSOS})], []byte{0xFF, jpegEOI}), 23, 37, malformed, "scans are missing"},
		{"a band before DC", at(progressive, jpegSOS, 7, 1, 5), 23, 37, malformed, "before the first of coefficient 0"},
		{"DC with AC", at(progressive, jpegSOS, 8, 5), 23, 37, malformed, "0 to 5"},
		{"a scan twice", slices.Concat(progressive[:bytes.LastIndex(progressive, []byte{0xFF, jpegSOS})], progressive[bytes.LastIndex(progressive, []byte{0xFF, jpegSOS}):len(progressive)-2],
			progressive[bytes.LastIndex(progressive, []byte{0xFF, jpegSOS}):]), 23, 37, malformed, "after its bit 0"},
	} {
		want := dicom.ErrMalformed
		if c.kind == unsupported {
			want = dicom.ErrUnsupported
		}
		_, err := decodeJPEG(c.stream, c.rows, c.columns, make([]int32, c.rows*c.columns))
		if !errors.Is(err, want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
	}

	// Runs of zeros that go over the end of a block, by hand: one code of 1 bit in each table, DC category 0 and ZRL.
	head := []byte("\xFF\xD8\xFF\xDB\x00\x43\x00" + strings.Repeat("\x01", 64) +
		"\xFF\xC4\x00\x26\x00\x01" + strings.Repeat("\x00", 16) + "\x10\x01" + strings.Repeat("\x00", 15) + "\xF0")
	frame := []byte("\xFF\xC0\x00\x0B\x08\x00\x08\x00\x08\x01\x01\x11\x00")
	scan := func(first, last byte, bits ...byte) []byte {
		return append([]byte{0xFF, jpegSOS, 0, 8, 1, 1, 0, first, last, 0}, bits...)
	}
	for _, s := range [][]byte{
		slices.Concat(head, frame, scan(0, 63, 0b00000111)),
		slices.Concat(head, bytes.Replace(frame, []byte{jpegSOF0}, []byte{jpegSOF2}, 1), scan(0, 0, 0b01111111), scan(1, 63, 0b00001111), []byte{0xFF, jpegEOI}),
	} {
		_, err := decodeJPEG(s, 8, 8, make([]int32, 64))
		if !errors.Is(err, dicom.ErrMalformed) || !strings.Contains(err.Error(), "no Huffman table has") {
			t.Errorf("run over the end: %v", err)
		}
	}

	// 16384 × 16384 samples in 100 bytes take no memory.
	for _, s := range [][]byte{lossless, baseline, progressive} {
		for _, sof := range []byte{jpegSOF0, jpegSOF2, jpegSOF3} {
			if i := segment(s, sof); i > 0 {
				s = at(s, sof, 5, 0x40, 0, 0x40, 0)
			}
		}
		d := &jpegDecoder{stream: s, at: 2, rows: 1 << 14, columns: 1 << 14} // out stays empty: it would be 1 GB
		if n := testing.AllocsPerRun(1, func() { d.at, d.process = 2, 0; _, err := d.decode(); fmt.Fprint(io.Discard, err) }); n > 100 {
			t.Errorf("%v allocations", n)
		}
		d.at, d.process = 2, 0
		if _, err := d.decode(); err == nil || !strings.Contains(err.Error(), "16384 × 16384") || d.scratch != nil {
			t.Errorf("%v", err)
		}
	}
}

// TestJPEGInverse holds the integer transform against the formula of T.81 A.3.3 in floating point, and its constants against
// theirs.
func TestJPEGInverse(t *testing.T) {
	c := func(k int) float64 { return math.Sqrt2 * math.Cos(float64(k)*math.Pi/16) }
	for _, k := range []struct {
		got  int
		want float64
	}{
		{jpegC6, c(6)}, {jpegC2LessC6, c(2) - c(6)}, {jpegC2AndC6, c(2) + c(6)},
		{jpegC3, c(3)}, {jpegC3AndC5, c(3) + c(5)}, {jpegC3LessC5, c(3) - c(5)}, {jpegC3LessC7, c(3) - c(7)}, {jpegC1AndC3, c(1) + c(3)},
		{jpegC357Less1, c(3) + c(5) - c(1) - c(7)}, {jpegC137Less5, c(1) + c(3) + c(7) - c(5)},
		{jpegC135Less7, c(1) + c(3) + c(5) - c(7)}, {jpegC13Less57, c(1) + c(3) - c(5) - c(7)},
	} {
		if want := int(math.Round(k.want * (1 << jpegScale))); k.got != want {
			t.Errorf("%d, want %d", k.got, want)
		}
	}
	r := rand.New(rand.NewPCG(7, 8))
	for _, bits := range []int{8, 12} {
		level, top := 1<<(bits-1), 1<<bits-1
		wrong, all := 0, 0
		for range 300 {
			var block [64]int32
			for range 1 + r.IntN(40) {
				n := 4 * level / (1 + r.IntN(40))
				block[r.IntN(64)] = int32(r.IntN(2*n) - n)
			}
			got := make([]int32, 64)
			jpegInverse(&block, bits, got, 8)
			for y := range 8 {
				for x := range 8 {
					sum := 0.0
					for v := range 8 {
						for u := range 8 {
							f := float64(block[8*v+u]) / 4 * math.Cos(float64((2*x+1)*u)*math.Pi/16) * math.Cos(float64((2*y+1)*v)*math.Pi/16)
							if u == 0 {
								f /= math.Sqrt2
							}
							if v == 0 {
								f /= math.Sqrt2
							}
							sum += f
						}
					}
					want := min(max(int32(math.Round(sum))+int32(level), 0), int32(top))
					if d := got[8*y+x] - want; d < -1 || d > 1 {
						t.Fatalf("%d bits: sample %d, %d is %d, want %d of %v", bits, y, x, got[8*y+x], want, block)
					} else if d != 0 {
						wrong++
					}
					all++
				}
			}
		}
		// The roundings of the two passes move a sample by 1 where it is near a half; more often in 12 bits.
		t.Logf("%d bits: %d of %d samples differ by 1", bits, wrong, all)
		if wrong*20 > all {
			t.Errorf("%d bits: %d of %d samples differ by 1", bits, wrong, all)
		}
	}
}

// pillowJPEG writes streams by libjpeg-turbo, and the samples it makes of them: the name of each, its rows and its columns.
const pillowJPEG = `
import sys, random
from PIL import Image
random.seed(1)
folder, n = sys.argv[1], 0
for width, height in (1, 1), (8, 8), (9, 7), (37, 23), (257, 1), (64, 65):
    for smooth in False, True:
        a = bytes((x * y + 3 * x) // 9 % 256 if smooth else random.randrange(256) for y in range(height) for x in range(width))
        for options in (dict(quality=1), dict(quality=75, optimize=True), dict(quality=100, progressive=True), dict(quality=30, progressive=True),
                        dict(quality=90, restart_marker_blocks=1), dict(quality=50, restart_marker_rows=1), dict(quality=80, restart_marker_blocks=5, progressive=True),
                        dict(qtables=[[1] * 64]), dict(qtables=[[255 - i for i in range(64)]])):
            name = f"{folder}/{n}"
            n += 1
            Image.frombytes("L", (width, height), a).save(name, "JPEG", **options)
            open(name + ".raw", "wb").write(Image.open(name).tobytes())
            print(name, height, width, sep="\t")
`

// TestJPEGPillow reads what Pillow writes, restart markers and progressive images among it.
func TestJPEGPillow(t *testing.T) {
	if out, err := exec.Command(python(), "-c", "import PIL").CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("pillow is needed: %v %s", err, out)
		}
		t.Skip("python3 with pillow is not here")
	}
	list, err := exec.Command(python(), "-c", pillowJPEG, t.TempDir()).Output()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(list)) {
		var name string
		var rows, columns int
		if _, err := fmt.Sscan(line, &name, &rows, &columns); err != nil {
			t.Fatal(err)
		}
		stream, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(name + ".raw")
		if err != nil {
			t.Fatal(err)
		}
		want := make([]int32, len(raw))
		for i, v := range raw {
			want[i] = int32(v)
		}
		got := make([]int32, rows*columns)
		_, err = decodeJPEG(stream, rows, columns, got)
		if err == nil {
			err = jpegCompare(got, want)
		}
		if err != nil {
			t.Errorf("%d, %d × %d: %v", n, rows, columns, err)
		}
		n++
	}
	t.Logf("%d streams", n)
	if n < 100 {
		t.Errorf("%d streams", n)
	}
}
