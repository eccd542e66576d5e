package pixel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
)

// A picture is an image before compression.
type picture struct {
	name              string
	rows, columns     int
	allocated, stored int
	signed            bool
	frames            [][]int32
	path              string // of the file
}

func (p picture) dataSet() *dicom.DataSet {
	d := image(p.rows, p.columns, p.allocated, p.stored, p.signed)
	if len(p.frames) > 1 {
		d.SetString(dicom.SOPClassUID, "1.2.840.10008.5.1.4.1.1.7.3") // Multi-frame Grayscale Word Secondary Capture
		d.SetInt(dicom.NumberOfFrames, len(p.frames))
	}
	return d
}

// bytes are native pixels: PS3.5 8.1.1.
func (p picture) bytes() []byte {
	var b []byte
	for _, f := range p.frames {
		for _, v := range f {
			switch p.allocated {
			case 8:
				b = append(b, byte(v))
			case 16:
				b = binary.LittleEndian.AppendUint16(b, uint16(v)&uint16(1<<p.stored-1))
			case 32:
				b = binary.LittleEndian.AppendUint32(b, uint32(v))
			}
		}
	}
	return append(b, make([]byte, len(b)%2)...)
}

// write makes a file of it that a peer can compress.
func (p *picture) write(t testing.TB, folder string) {
	t.Helper()
	d := p.dataSet()
	vr := dicom.OW
	if p.allocated == 8 {
		vr = dicom.OB
	}
	d.SetBytes(dicom.PixelData, vr, p.bytes())
	var b bytes.Buffer
	if err := dicom.WriteFile(&b, dicom.FileMeta{}, d); err != nil {
		t.Fatal(err)
	}
	p.path = filepath.Join(folder, strings.ReplaceAll(p.name, " ", "-")+".dcm")
	if err := os.WriteFile(p.path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// smooth is what a scanner sees, more or less: a slope, a disc and a bit of noise, in values of so many bits.
func smooth(r *rand.Rand, rows, columns, bits int, signed bool) []int32 {
	out := make([]int32, rows*columns)
	top := float64(int(1)<<bits - 1)
	for y := range rows {
		for x := range columns {
			v := top * float64(x+y) / float64(rows+columns) / 3
			if dx, dy := x-columns/2, y-rows/2; dx*dx+dy*dy < rows*columns/9 {
				v += top / 2
			}
			if y > rows/2 { // the lower half has noise, the upper one runs
				v += r.Float64() * top / 200
			}
			if y < rows/8 {
				v = 0
			}
			out[y*columns+x] = int32(min(v, top))
			if signed {
				out[y*columns+x] -= int32(1) << (bits - 1)
			}
		}
	}
	return out
}

func noise(r *rand.Rand, rows, columns, bits int, signed bool) []int32 {
	out := make([]int32, rows*columns)
	for i := range out {
		out[i] = int32(r.Uint32N(1 << bits))
		if signed {
			out[i] -= 1 << (bits - 1)
		}
	}
	return out
}

// pictures are small images of every shape, and slices of real ones where the reference data is here.
func pictures(t testing.TB, folder string) []picture {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	all := []picture{
		{name: "12 of 16", rows: 64, columns: 48, allocated: 16, stored: 12},
		{name: "12 of 16 signed", rows: 23, columns: 37, allocated: 16, stored: 12, signed: true},
		{name: "16", rows: 37, columns: 23, allocated: 16, stored: 16},
		{name: "16 signed", rows: 40, columns: 64, allocated: 16, stored: 16, signed: true},
		{name: "8", rows: 23, columns: 37, allocated: 8, stored: 8},
		{name: "8 signed", rows: 16, columns: 16, allocated: 8, stored: 8, signed: true},
		{name: "10 of 16", rows: 17, columns: 31, allocated: 16, stored: 10},
		{name: "1 × 1", rows: 1, columns: 1, allocated: 16, stored: 12},
		{name: "1 × 513", rows: 1, columns: 513, allocated: 16, stored: 12},
		{name: "513 × 1", rows: 513, columns: 1, allocated: 8, stored: 8},
		{name: "2 × 2", rows: 2, columns: 2, allocated: 16, stored: 16},
		{name: "4 frames", rows: 33, columns: 29, allocated: 16, stored: 12, frames: make([][]int32, 4)},
		{name: "5 frames of odd length", rows: 13, columns: 11, allocated: 8, stored: 8, frames: make([][]int32, 5)},
	}
	for i := range all {
		p := &all[i]
		if p.frames == nil {
			p.frames = make([][]int32, 1)
		}
		for f := range p.frames {
			p.frames[f] = smooth(r, p.rows, p.columns, p.stored, p.signed)
		}
	}
	add := func(name string, rows, columns, bits int, signed bool, frame []int32) {
		allocated := 16
		if bits <= 8 {
			allocated = 8
		}
		all = append(all, picture{name: name, rows: rows, columns: columns, allocated: allocated, stored: bits, signed: signed, frames: [][]int32{frame}})
	}
	add("noise of 16 bits", 61, 67, 16, false, noise(r, 61, 67, 16, false))
	add("noise of 16 bits signed", 31, 29, 16, true, noise(r, 31, 29, 16, true))
	add("noise of 8 bits", 31, 29, 8, false, noise(r, 31, 29, 8, false))
	add("blank", 128, 300, 16, false, make([]int32, 128*300))
	for i := range all {
		all[i].write(t, folder)
	}
	return append(all, slices3(t)...)
}

// slices3 are a CT of 512 × 512, one of 204 × 201 and a PET of the reference data.
func slices3(t testing.TB) []picture {
	root := sharedRoot()
	var all []picture
	for _, pattern := range []string{"lung1/LUNG1-001/*/*.dcm", "ibsi1/ct_phantom/*/*/*.dcm", "sts_raw/STS_001/FDG_PET/image/*.dcm"} {
		paths, _ := filepath.Glob(filepath.Join(root, "data", pattern))
		var found *picture
		for i := len(paths) / 2; i < len(paths) && found == nil; i++ {
			b, err := os.ReadFile(paths[i])
			if err != nil {
				t.Fatal(err)
			}
			f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
			if err != nil || f.Pixels == nil || f.Pixels.Length < 0 {
				continue
			}
			frames, err := collect(f)
			if err != nil {
				t.Fatalf("%s: %v", paths[i], err)
			}
			found = &picture{name: pattern, path: paths[i], frames: frames}
			found.rows, _ = f.DataSet.Int(dicom.Rows)
			found.columns, _ = f.DataSet.Int(dicom.Columns)
			found.allocated, _ = f.DataSet.Int(dicom.BitsAllocated)
			found.stored, _ = f.DataSet.Int(dicom.BitsStored)
			sign, _ := f.DataSet.Int(dicom.PixelRepresentation)
			found.signed = sign == 1
		}
		if found == nil {
			t.Logf("%s is not here: set RADNODE_SHARED", pattern)
			continue
		}
		all = append(all, *found)
	}
	return all
}

// peers skips the test where a program is not here, and fails it where it must be.
func peers(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s is needed: install dcmtk, libgdcm-tools, libopenjp2-tools and openjph-tools", p)
			}
			t.Skipf("%s is not here: install dcmtk, libgdcm-tools, libopenjp2-tools and openjph-tools", p)
		}
	}
}

func open(path string) (*dicom.File, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
}

// TestPeers decodes what DCMTK and GDCM compress: RLE and JPEG-LS, which must be exact, and near-lossless, where their own decoder
// is the witness.
func TestPeers(t *testing.T) {
	peers(t, "dcmcrle", "dcmcjpls", "dcmdjpls", "gdcmconv")
	folder := t.TempDir()
	type job struct {
		p      picture
		encode []string // IN and OUT are files
		decode []string // gives what is to be seen; nil: the picture
		syntax string
		lossy  bool
	}
	const rle, jls, near = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
	var jobs []job
	for i, p := range pictures(t, folder) {
		jobs = append(jobs,
			job{p: p, encode: []string{"dcmcrle", "IN", "OUT"}, syntax: rle},
			job{p: p, encode: []string{"gdcmconv", "--rle", "IN", "OUT"}, syntax: rle},
			job{p: p, encode: []string{"dcmcjpls", "+el", "IN", "OUT"}, syntax: jls},
			job{p: p, encode: []string{"gdcmconv", "--jpegls", "IN", "OUT"}, syntax: jls},
			job{p: p, encode: []string{"dcmcjpls", "+en", "+md", fmt.Sprint(1 + i%10), "IN", "OUT"}, decode: []string{"dcmdjpls", "IN", "OUT"}, syntax: near, lossy: true},
			[]job{
				{p: p, encode: []string{"dcmcjpls", "+el", "+pc", "-ot", "IN", "OUT"}, decode: []string{"dcmdjpls", "IN", "OUT"}, syntax: jls}, // whose encoder errs for signed noise
				{p: p, encode: []string{"dcmcjpls", "+fs", "1", "IN", "OUT"}, syntax: jls},
				{p: p, encode: []string{"dcmcjpls", "+t1", "5", "+t2", "9", "+t3", "30", "+rs", "40", "IN", "OUT"}, syntax: jls},
			}[i%3],
		)
	}
	counts := make(map[string]int)
	var mu sync.Mutex
	each(len(jobs), func(i int) {
		j := jobs[i]
		name := j.p.name + ": " + strings.Join(j.encode, " ")
		out := filepath.Join(folder, fmt.Sprintf("out-%d.dcm", i))
		if b, err := command(j.encode, j.p.path, out); err != nil {
			t.Logf("%s: %v %s", name, err, b) // counted below
			return
		}
		f, err := open(out)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if f.Meta.TransferSyntaxUID != j.syntax {
			t.Logf("%s: is in %s", name, f.Meta.TransferSyntaxUID)
			return
		}
		want := j.p.frames
		if j.decode != nil {
			plain := filepath.Join(folder, fmt.Sprintf("plain-%d.dcm", i))
			if b, err := command(j.decode, out, plain); err != nil {
				t.Errorf("%s: %v %s", name, err, b)
				return
			}
			f, err := open(plain)
			if err == nil {
				want, err = collect(f)
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
		}
		got := make([][]int32, 0, len(want))
		for frame, err := range Frames(f) {
			if err != nil || frame.Lossy != j.lossy {
				t.Errorf("%s: %v, lossy %v", name, err, frame.Lossy)
				return
			}
			got = append(got, slices.Clone(frame.Samples))
		}
		if !slices.EqualFunc(got, want, slices.Equal) {
			bad := 0
			for f := range min(len(got), len(want)) {
				for k, v := range got[f] {
					if v != want[f][k] {
						if bad++; bad == 1 {
							t.Errorf("%s: frame %d sample %d is %d, want %d", name, f+1, k, v, want[f][k])
						}
					}
				}
			}
			t.Errorf("%s: %d frames, want %d; %d samples differ", name, len(got), len(want), bad)
		}
		mu.Lock()
		counts[j.encode[0]+" "+j.syntax]++
		mu.Unlock()
	})
	t.Log(counts)
	for key, n := range map[string]int{"dcmcrle " + rle: 17, "gdcmconv " + rle: 14, "dcmcjpls " + jls: 34, "gdcmconv " + jls: 14, "dcmcjpls " + near: 12} {
		if counts[key] < n {
			t.Errorf("%s compressed %d images of %d", key, counts[key], n)
		}
	}
}

func command(words []string, in, out string) ([]byte, error) {
	args := slices.Clone(words[1:])
	for i, a := range args {
		switch a {
		case "IN":
			args[i] = in
		case "OUT":
			args[i] = out
		}
	}
	return exec.Command(words[0], args...).CombinedOutput()
}

// each calls do for 0 to n-1, on all processors.
func each(n int, do func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// encapsulated is d with fragments as PS3.5 A.4 has them, lengths and all as they are given.
func encapsulated(t testing.TB, d *dicom.DataSet, syntax string, table []byte, fragments ...[]byte) (*dicom.File, error) {
	t.Helper()
	d.Remove(dicom.PixelData)
	b, err := d.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, 0xE0, 0x7F, 0x10, 0x00, 'O', 'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF)
	for _, f := range append([][]byte{table}, fragments...) {
		b = append(b, 0xFE, 0xFF, 0x00, 0xE0)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	b = append(b, 0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0)
	return dicom.ReadDataSet(bytes.NewReader(b), int64(len(b)), syntax)
}

// rleFrame is one literal run or more for each byte of 16-bit samples: PS3.5 G.
func rleFrame(samples []int32) []byte {
	header := make([]byte, 64)
	header[0] = 2
	var body []byte
	for segment, shift := range []int{8, 0} {
		binary.LittleEndian.PutUint32(header[4+4*segment:], uint32(64+len(body)))
		for run := range slices.Chunk(samples, 128) {
			body = append(body, byte(len(run)-1))
			for _, v := range run {
				body = append(body, byte(v>>shift))
			}
		}
		body = append(body, make([]byte, len(body)%2)...)
	}
	return append(header, body...)
}

func table32(offsets ...int) (b []byte) {
	for _, o := range offsets {
		b = binary.LittleEndian.AppendUint32(b, uint32(o))
	}
	return b
}

func table64(offsets ...int) (b []byte) {
	for _, o := range offsets {
		b = binary.LittleEndian.AppendUint64(b, uint64(o))
	}
	return b
}

// TestFrames finds frames by the tables of offsets, by the number of fragments, and by the markers.
func TestFrames(t *testing.T) {
	const rle, jls = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80"
	rows, columns := 3, 5
	r := rand.New(rand.NewPCG(3, 4))
	var frames [][]int32
	var rles, jlss [][]byte
	for range 3 {
		f := noise(r, rows, columns, 16, false)
		frames = append(frames, f)
		rles = append(rles, rleFrame(f))
		s := jlsEncoder{bits: 16}.encode(f, rows, columns)
		jlss = append(jlss, append(s, make([]byte, len(s)%2)...))
	}
	half := func(b []byte) [][]byte { return [][]byte{b[:len(b)/4*2], b[len(b)/4*2:]} }
	var parts, marked [][]byte // two of each but the second
	for i := range rles {
		if i == 1 {
			parts, marked = append(parts, rles[i]), append(marked, jlss[i])
			continue
		}
		parts, marked = append(parts, half(rles[i])...), append(marked, half(jlss[i])...)
	}
	size := func(fragments ...[]byte) (n int) {
		for _, f := range fragments {
			n += 8 + len(f)
		}
		return n
	}
	one := []int{0, size(rles[0]), size(rles[:2]...)}
	two := []int{0, size(parts[:2]...), size(parts[:3]...)}
	lengths := table64(len(rles[0]), len(rles[1]), len(rles[2]))
	for _, c := range []struct {
		name              string
		syntax            string
		frames            int
		basic             []byte
		extended, lengths []byte
		fragments         [][]byte
		bad               string // of the error; its path is before the colon
	}{
		{name: "no table", syntax: rle, frames: 3, fragments: rles},
		{name: "basic", syntax: rle, frames: 3, basic: table32(one...), fragments: rles},
		{name: "extended", syntax: rle, frames: 3, extended: table64(one...), lengths: lengths, fragments: rles},
		{name: "basic table of garbage, one fragment a frame", syntax: rle, frames: 3, basic: table32(1, 2), fragments: rles},
		{name: "extended table of garbage, one fragment a frame", syntax: rle, frames: 3, extended: table64(1), fragments: rles},
		{name: "basic with parts", syntax: rle, frames: 3, basic: table32(two...), fragments: parts},
		{name: "extended with parts", syntax: rle, frames: 3, extended: table64(two...), lengths: lengths, fragments: parts},
		{name: "extended without padding", syntax: rle, frames: 3, extended: table64(two...), lengths: table64(len(rles[0])-1, len(rles[1]), len(rles[2])), fragments: parts},
		{name: "extended is wrong, basic is not", syntax: rle, frames: 3, basic: table32(two...), extended: table64(1, 2, 3), lengths: lengths, fragments: parts},
		{name: "one frame in one", syntax: rle, frames: 1, fragments: rles[:1]},
		{name: "one frame in parts", syntax: rle, frames: 1, fragments: half(rles[0])},
		{name: "one frame in parts with a table", syntax: rle, frames: 1, basic: table32(0), fragments: half(rles[0])},
		{name: "markers", syntax: jls, frames: 3, fragments: marked},
		{name: "markers for a wrong table", syntax: jls, frames: 3, basic: table32(0, 4, 8), fragments: marked},
		{name: "markers for wrong lengths", syntax: jls, frames: 3, extended: table64(two...), lengths: lengths, fragments: marked},
		{name: "markers with zeros between", syntax: jls, frames: 2, fragments: append(half(append(bytes.Clone(jlss[0]), 0, 0, 0, 0)), jlss[1])},
		{name: "parts of two bytes", syntax: jls, frames: 1, fragments: slices.Collect(slices.Chunk(jlss[0], 2))},

		{name: "parts without a table", syntax: rle, frames: 3, fragments: parts, bad: "(7FE0,0010) PixelData: has 5 fragments for 3 frames"},
		{name: "table between fragments", syntax: rle, frames: 3, basic: table32(0, two[1]+2, two[2]), fragments: parts, bad: "(7FE0,0010) PixelData: says in its Basic Offset Table that frame 2"},
		{name: "table backwards", syntax: rle, frames: 3, basic: table32(0, two[2], two[1]), fragments: parts, bad: "(7FE0,0010) PixelData: says in its Basic Offset Table that frame 3"},
		{name: "table not from the first", syntax: rle, frames: 3, basic: table32(size(parts[0]), two[1], two[2]), fragments: parts, bad: "frame 1 begins"},
		{name: "table beyond the end", syntax: rle, frames: 3, basic: table32(0, two[1], 1<<31), fragments: parts, bad: "frame 3 begins"},
		{name: "table too long", syntax: rle, frames: 3, basic: table32(0, two[1], two[2], size(parts[:4]...)), fragments: parts, bad: "Basic Offset Table of 16 bytes"},
		{name: "extended beyond the end", syntax: rle, frames: 3, extended: table64(0, two[1], 1<<62), lengths: lengths, fragments: parts, bad: "(7FE0,0001) ExtendedOffsetTable: says that frame 3"},
		{name: "extended at -1", syntax: rle, frames: 3, extended: table64(0, two[1], -1), lengths: lengths, fragments: parts, bad: "(7FE0,0001) ExtendedOffsetTable: says that frame 3"},
		{name: "extended lengths", syntax: rle, frames: 3, extended: table64(two...), lengths: table64(1, 2, 3), fragments: parts, bad: "(7FE0,0002) ExtendedOffsetTableLengths: says that frame 1"},
		{name: "no extended lengths", syntax: rle, frames: 3, extended: table64(two...), fragments: parts, bad: "(7FE0,0002) ExtendedOffsetTableLengths: has 0 bytes"},
		{name: "too few", syntax: rle, frames: 4, fragments: rles, bad: "has 3 fragments for 4 frames"},
		{name: "none", syntax: rle, frames: 1, bad: "has 0 fragments for 1 frames"},
		{name: "frames that are not declared", syntax: jls, frames: 1, fragments: jlss, bad: "has 3 frames, but Number of Frames"},
		{name: "frames in the table that are not declared", syntax: rle, frames: 1, basic: table32(one...), fragments: rles, bad: "has 3 frames in its Basic Offset Table"},
		{name: "an empty fragment", syntax: rle, frames: 3, fragments: [][]byte{rles[0], rles[1], nil, rles[2]}, bad: "has no bytes in fragment 3"},
		{name: "an empty frame", syntax: rle, frames: 3, fragments: [][]byte{rles[0], nil, rles[2]}, bad: "has no bytes in fragment 2"},
	} {
		d := image(rows, columns, 16, 16, false)
		if c.frames > 1 {
			d.SetInt(dicom.NumberOfFrames, c.frames)
		}
		if c.extended != nil {
			d.SetBytes(dicom.ExtendedOffsetTable, dicom.OV, c.extended)
		}
		if c.lengths != nil {
			d.SetBytes(dicom.ExtendedOffsetTableLengths, dicom.OV, c.lengths)
		}
		f, err := encapsulated(t, d, c.syntax, c.basic, c.fragments...)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got, err := collect(f)
		var e *dicom.Error
		switch {
		case c.bad == "":
			if err != nil || !slices.EqualFunc(got, frames[:c.frames], slices.Equal) {
				t.Errorf("%s: %v %v", c.name, got, err)
			}
		case !errors.As(err, &e) || !errors.Is(err, dicom.ErrMalformed) || !strings.Contains(err.Error(), c.bad) || len(got) > 0:
			t.Errorf("%s: %v, want %s", c.name, err, c.bad)
		case e.Path == "(7FE0,0010)" && e.Offset < f.Pixels.Offset:
			t.Errorf("%s: %v at byte %d", c.name, err, e.Offset)
		}
		if _, err := Open(f); (err == nil) != (c.bad == "") {
			t.Errorf("%s: Open has %v", c.name, err)
		}
	}
}

// TestOffset leads from an error to the byte: of the fragment that is empty, and of the frame that is damaged.
func TestOffset(t *testing.T) {
	frame := rleFrame(make([]int32, 4))
	d := image(2, 2, 16, 16, false)
	d.SetInt(dicom.NumberOfFrames, 2)
	broken := bytes.Clone(frame)
	broken[0] = 9
	f, err := encapsulated(t, d, "1.2.840.10008.1.2.5", nil, frame, broken)
	if err != nil {
		t.Fatal(err)
	}
	got, err := collect(f)
	var e *dicom.Error
	if want := f.Pixels.Offset + 8 + 8 + int64(len(frame)) + 8; len(got) != 1 || !errors.As(err, &e) || e.Offset != want || !strings.Contains(err.Error(), "frame 2: the RLE header has 9 segments") {
		t.Errorf("%d frames, %v, want byte %d", len(got), err, want)
	}
	f, err = encapsulated(t, d, "1.2.840.10008.1.2.5", nil, frame, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = collect(f); !errors.As(err, &e) || e.Offset != f.Pixels.Offset+8+8+int64(len(frame)) {
		t.Errorf("%v", err)
	}
}

// TestMismatch are transfer syntaxes that contradict the pixel data.
func TestMismatch(t *testing.T) {
	f := read(t, image(1, 1, 16, 16, false), dicom.OW, []byte{1, 2})
	f.Meta.TransferSyntaxUID = "1.2.840.10008.1.2.5"
	if _, err := collect(f); !errors.Is(err, dicom.ErrMalformed) || !strings.Contains(err.Error(), "is not encapsulated though") {
		t.Errorf("native: %v", err)
	}
	f, err := encapsulated(t, image(1, 1, 16, 16, false), dicom.ExplicitVRLittleEndian, nil, []byte{1, 2})
	if err == nil {
		_, err = collect(f)
	}
	if !errors.Is(err, dicom.ErrMalformed) {
		t.Errorf("encapsulated: %v", err)
	}
}

// TestDecodable holds the table of the decoders against that of the transfer syntaxes.
func TestDecodable(t *testing.T) {
	for _, uid := range dicom.TransferSyntaxes() {
		ts, _ := dicom.LookupTransferSyntax(uid)
		if _, has := codecs[uid]; ts.Encapsulated && ts.Decodable != has || has && !ts.Encapsulated {
			t.Errorf("%s: Decodable is %v, a decoder %v", uid, ts.Decodable, has)
		}
	}
	for uid := range codecs {
		if _, known := dicom.LookupTransferSyntax(uid); !known {
			t.Errorf("%s is no transfer syntax", uid)
		}
	}
}

// TestPrecision holds the rules for a codestream whose samples have another size than the header says.
func TestPrecision(t *testing.T) {
	for _, c := range []struct {
		name                    string
		allocated, stored, high int
		signed                  bool
		p                       precision
		in, want                []int32
		bad                     bool
	}{
		{"the same", 16, 12, 11, false, precision{bits: 12}, []int32{0, 4095}, []int32{0, 4095}, false},
		{"signed", 16, 12, 11, true, precision{bits: 12}, []int32{0, 4095, 2048, 2047}, []int32{0, -1, -2048, 2047}, false},
		{"the whole word", 16, 12, 11, true, precision{bits: 16}, []int32{0xFFFF, 0xF800, 0x7FF}, []int32{-1, -2048, 2047}, false},
		{"the whole word with overlay", 16, 12, 11, false, precision{bits: 16}, []int32{0xF001}, []int32{1}, false},
		{"high bit 15", 16, 12, 15, false, precision{bits: 16}, []int32{0xFFF0, 0x0010}, []int32{4095, 1}, false},
		{"high bit 15 that the stream knows nothing of", 16, 12, 15, true, precision{bits: 12}, []int32{4095, 1}, []int32{-1, 1}, false},
		{"high bit 15, 13 bits", 16, 12, 15, true, precision{bits: 13}, []int32{1}, nil, true},
		{"fewer bits", 16, 16, 15, false, precision{bits: 12}, []int32{4095}, []int32{4095}, false},
		{"fewer bits, signed and positive", 16, 16, 15, true, precision{bits: 12}, []int32{2047, 0}, []int32{2047, 0}, false},
		{"fewer bits, signed and who knows", 16, 16, 15, true, precision{bits: 12}, []int32{2048}, nil, true},
		{"more than allocated", 8, 8, 7, false, precision{bits: 9}, []int32{1}, nil, true},
		{"one bit in a byte", 1, 1, 0, false, precision{bits: 8}, []int32{1, 0}, []int32{1, 0}, false},
		{"own sign", 16, 12, 11, true, precision{bits: 12, signed: true}, []int32{-2048, 2047}, []int32{-2048, 2047}, false},
		{"own sign, more bits", 16, 12, 11, true, precision{bits: 16, signed: true}, []int32{-2048, 2047}, []int32{-2048, 2047}, false},
		{"own sign, too large", 16, 12, 11, true, precision{bits: 16, signed: true}, []int32{2048}, nil, true},
		{"own sign, too small", 16, 12, 11, true, precision{bits: 16, signed: true}, []int32{-2049}, nil, true},
		{"own sign in an unsigned image", 16, 12, 11, false, precision{bits: 12, signed: true}, []int32{-1}, nil, true},
		{"own sign in an unsigned image, not needed", 16, 12, 11, false, precision{bits: 12, signed: true}, []int32{1}, []int32{1}, false},
		{"32 bits", 32, 32, 31, true, precision{bits: 32}, []int32{-5}, []int32{-5}, false},
	} {
		l := &layout{allocated: c.allocated, stored: c.stored, high: c.high, signed: c.signed}
		got := slices.Clone(c.in)
		if err := l.settle(c.p, got); (err != nil) != c.bad || err == nil && !slices.Equal(got, c.want) || err != nil && !errors.Is(err, dicom.ErrMalformed) {
			t.Errorf("%s: %v %v, want %v", c.name, got, err, c.want)
		}
	}
}

// TestPlausible refuses a large image in a few bytes before it takes memory, and none that is blank.
func TestPlausible(t *testing.T) {
	const jls = "1.2.840.10008.1.2.4.80"
	for _, c := range []struct {
		rows, columns int
		refused       bool
	}{
		{512, 512, false},
		{4096, 4096, false},
		{16000, 16000, true},
	} {
		stream := jlsEncoder{bits: 12}.encode(make([]int32, 64*c.columns), 64, c.columns)
		blank := bytes.Clone(stream[:len(stream)-2])
		binary.BigEndian.PutUint16(blank[bytes.Index(blank, []byte{0xFF, jlsSOF55})+5:], uint16(c.rows))
		for !c.refused && len(blank)*8 < c.rows*2 { // a line is one bit, all of them 1, in bytes and in seven bits behind FF
			blank = append(blank, 0xFF, 0x7F)
		}
		f, err := encapsulated(t, image(c.rows, c.columns, 16, 12, false), jls, nil, append(blank, make([]byte, len(blank)%2)...))
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = Open(f)
		runtime.ReadMemStats(&after)
		if (err != nil) != c.refused || c.refused && (!errors.Is(err, dicom.ErrMalformed) || after.TotalAlloc-before.TotalAlloc > 1<<20) {
			t.Errorf("%d × %d in %d bytes: %v", c.rows, c.columns, len(blank), err)
		}
	}
}

// FuzzEncapsulated goes through whole images: any fragments, tables and number of frames, in every transfer syntax, up to
// 256 × 256 pixels.
func FuzzEncapsulated(f *testing.F) {
	var syntaxes []string
	for uid := range codecs {
		syntaxes = append(syntaxes, uid)
	}
	slices.Sort(syntaxes)
	index := func(uid string) byte { return byte(slices.Index(syntaxes, uid)) }
	r := rand.New(rand.NewPCG(11, 12))
	a, b := noise(r, 5, 7, 16, false), smooth(r, 5, 7, 16, false)
	e := jlsEncoder{bits: 16}
	x, y := rleFrame(a), rleFrame(b)
	f.Add(index("1.2.840.10008.1.2.5"), byte(4), byte(6), byte(16), byte(16), false, 2, []byte(nil), []byte(nil), slices.Concat(x, y), uint16(len(x)), uint16(len(x)+len(y)))
	f.Add(index("1.2.840.10008.1.2.5"), byte(4), byte(6), byte(16), byte(16), true, 2, table32(0, 8+len(x)), []byte(nil), slices.Concat(x, y), uint16(len(x)), uint16(len(x)+40))
	f.Add(index("1.2.840.10008.1.2.5"), byte(4), byte(6), byte(16), byte(12), true, 2, []byte(nil), table64(0, 8+len(x), len(x), len(y)), slices.Concat(x, y), uint16(len(x)), uint16(len(x)+40))
	x, y = e.encode(a, 5, 7), e.encode(b, 5, 7)
	f.Add(index("1.2.840.10008.1.2.4.80"), byte(4), byte(6), byte(16), byte(16), false, 2, []byte(nil), []byte(nil), slices.Concat(x, y), uint16(20), uint16(len(x)))
	f.Add(index("1.2.840.10008.1.2.4.81"), byte(4), byte(6), byte(16), byte(16), false, 1, []byte(nil), []byte(nil), x, uint16(20), uint16(50))
	f.Add(index("1.2.840.10008.1.2.8.1"), byte(4), byte(6), byte(16), byte(16), false, 1, []byte(nil), []byte(nil), deflate(f, make([]byte, 70)), uint16(2), uint16(4))
	f.Add(index("1.2.840.10008.1.2.1.98"), byte(4), byte(6), byte(1), byte(1), false, 1, []byte(nil), []byte(nil), make([]byte, 6), uint16(2), uint16(4))
	f.Fuzz(func(t *testing.T, syntax, y, x, allocated, stored byte, signed bool, frames int, table, extended, stream []byte, cut, again uint16) {
		stored = max(stored, 1)
		d := image(int(y)+1, int(x)+1, int(allocated), int(stored), signed)
		d.SetInt(dicom.NumberOfFrames, int(int32(frames)))
		if n := len(extended) / 2; n > 0 {
			d.SetBytes(dicom.ExtendedOffsetTable, dicom.OV, extended[:n])
			d.SetBytes(dicom.ExtendedOffsetTableLengths, dicom.OV, extended[n:])
		}
		var fragments [][]byte
		from := 0
		for _, to := range []int{int(cut), int(again), len(stream)} {
			to = min(max(to, from), len(stream))
			fragments = append(fragments, stream[from:to])
			from = to
		}
		if len(fragments[2]) == 0 {
			fragments = fragments[:2]
		}
		file, err := encapsulated(t, d, syntaxes[int(syntax)%len(syntaxes)], table, fragments...)
		if err != nil {
			return
		}
		start := time.Now()
		n := 0
		for frame, err := range Frames(file) {
			if err != nil {
				var e *dicom.Error
				if !errors.As(err, &e) || !errors.Is(err, dicom.ErrMalformed) && !errors.Is(err, dicom.ErrUnsupported) {
					t.Fatalf("%T %v", err, err)
				}
				break
			}
			low, top := int64(0), int64(1)<<stored
			if signed && allocated > 1 {
				low, top = -top/2, top/2
			}
			if (frame.Samples == nil) == (frame.Floats == nil) {
				t.Fatal("samples and floats")
			}
			for _, v := range frame.Samples {
				if int64(v) < low || int64(v) >= top {
					t.Fatalf("%d is no value of %d bits", v, stored)
				}
			}
			n++
		}
		if n > len(fragments) {
			t.Fatalf("%d frames of %d fragments", n, len(fragments))
		}
		if took := time.Since(start); took > 5*time.Second { // 3 frames of 2^16 pixels take a hundredth
			t.Fatalf("took %v", took)
		}
	})
}

// FuzzItems walks over bytes that nobody has checked before, and finds each byte once.
func FuzzItems(f *testing.F) {
	f.Add([]byte{0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0, 0xFE, 0xFF, 0x00, 0xE0, 2, 0, 0, 0, 1, 2}, 1)
	f.Add([]byte{0xFE, 0xFF, 0x00, 0xE0, 4, 0, 0, 0, 0, 0, 0, 0, 0xFE, 0xFF, 0x00, 0xE0, 2, 0, 0, 0, 1, 2, 0xFE, 0xFF, 0x00, 0xE0, 2, 0, 0, 0, 3, 4}, 2)
	f.Add([]byte{0xFE, 0xFF, 0x00, 0xE0, 0xFF, 0xFF, 0xFF, 0xFF}, 1)
	f.Fuzz(func(t *testing.T, value []byte, frames int) {
		l := &layout{rows: 1, columns: 1, frames: frames&0xFFFF + 1, value: io.NewSectionReader(bytes.NewReader(value), 0, int64(len(value))), codec: codec{marked: true}}
		done := spent(t, 64<<10+64*len(value)+32*l.frames)
		s, err := locate(&dicom.File{DataSet: dicom.New()}, l)
		done()
		if err != nil {
			return
		}
		var all int64
		for i := range l.frames {
			b, err := s.read(i, nil)
			if err != nil {
				t.Fatal(err)
			}
			all += int64(len(b))
		}
		table := int64(binary.LittleEndian.Uint32(value[4:]))
		if want := int64(len(value)) - table - int64(len(s.starts))*itemHeader; all != want {
			t.Fatalf("%d bytes, want %d", all, want)
		}
	})
}
