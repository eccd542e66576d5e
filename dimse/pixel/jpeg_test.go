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
	"strings"
	"sync"
	"testing"

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

// nativeSamples are the words of a file that is not compressed.
func nativeSamples(t testing.TB, path string) jpegImage {
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
				all = append(all, nativeSamples(t, path))
			}
		}
	}
	return all
}

func sharedRoot() string {
	if root := os.Getenv("RADNODE_SHARED"); root != "" {
		return root
	}
	return filepath.Join("..", "..", "..", "shared")
}

// needPrograms skips a test where a peer is not installed, but not in CI.
func needPrograms(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is needed: %v", name, err)
			}
			t.Skipf("%s is not here", name)
		}
	}
}

// parallel runs f for each i in turn, two at a time: the peers take their time to start.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range 2 {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
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
	needPrograms(t, "dcmcjpeg", "dcmdjpeg", "gdcmconv")
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
		qualities := []string{"90", "30"}
		if m.rows < 100 {
			qualities = []string{"1", "50", "100"}
		}
		for _, q := range qualities {
			if m.allocated == 8 {
				add(false, 0, "1.2.840.10008.1.2.4.50", "dcmcjpeg", "+eb", "+q", q)
				add(false, 0, "1.2.840.10008.1.2.4.51", "dcmcjpeg", "+ee", "-ho", "+q", q)
			} else {
				add(false, 0, "1.2.840.10008.1.2.4.50", "dcmcjpeg", "+eb", "+be", "+q", q)
				add(false, 0, "1.2.840.10008.1.2.4.51", "dcmcjpeg", "+ee", "+bt", "+q", q)
			}
			add(false, 0, "1.2.840.10008.1.2.4.53", "dcmcjpeg", "+es", "+q", q)
			add(false, 0, "1.2.840.10008.1.2.4.55", "dcmcjpeg", "+ep", "+q", q)
		}
	}
	parallel(len(jobs), func(i int) {
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
			want = nativeSamples(t, out)
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

var _ = errors.Is
var _ = math.Abs
