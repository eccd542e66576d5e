package pixel

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
	"pgregory.net/rapid"
)

// A jlsEncoder writes JPEG-LS as the procedures of T.87 Annex A stand there, one step after the other: what no peer writes
// (restart markers, any number of bits, MAXVAL below their range, DNL) comes from it. CharLS, by pyjpegls, is the witness for it
// as far as it goes: it ignores MAXVAL.
type jlsEncoder struct {
	bits     int
	near     int
	interval int    // DRI
	preset   [5]int // MAXVAL, T1, T2, T3, RESET; an LSE if one is not 0
	dnl      bool
}

type bitWriter struct {
	out  []byte
	acc  uint64
	n    int
	last bool // the byte before was FF
}

func (w *bitWriter) put(v uint64, n int) {
	for i := n - 1; i >= 0; i-- {
		w.acc = w.acc<<1 | v>>i&1
		w.n++
		room := 8
		if w.last {
			room = 7 // A.1
		}
		if w.n == room {
			w.out = append(w.out, byte(w.acc))
			w.last = byte(w.acc) == 0xFF
			w.acc, w.n = 0, 0
		}
	}
}

func (w *bitWriter) flush() {
	for w.n > 0 || w.last {
		w.put(0, 1)
	}
}

func (e jlsEncoder) encode(samples []int32, rows, columns int) []byte {
	out := []byte{0xFF, 0xD8}
	segment := func(marker byte, payload ...byte) {
		out = append(out, 0xFF, marker)
		out = binary.BigEndian.AppendUint16(out, uint16(len(payload)+2))
		out = append(out, payload...)
	}
	lines := rows
	if e.dnl {
		lines = 0
	}
	segment(0xF7, byte(e.bits), byte(lines>>8), byte(lines), byte(columns>>8), byte(columns), 1, 1, 0x11, 0)
	if e.preset != [5]int{} {
		p := []byte{1}
		for _, v := range e.preset {
			p = binary.BigEndian.AppendUint16(p, uint16(v))
		}
		segment(0xF8, p...)
	}
	if e.interval > 0 {
		segment(0xDD, byte(e.interval>>8), byte(e.interval))
	}
	segment(0xDA, 1, 1, 0, byte(e.near), 0, 0)
	interval := e.interval
	if interval == 0 {
		interval = rows
	}
	for y, n := 0, 0; y < rows; y, n = y+interval, n+1 {
		if y > 0 {
			out = append(out, 0xFF, byte(0xD0+(n-1)%8))
		}
		part := min(interval, rows-y)
		out = append(out, e.scan(samples[y*columns:(y+part)*columns], part, columns)...)
	}
	if e.dnl {
		segment(0xDC, byte(rows>>8), byte(rows))
	}
	return append(out, 0xFF, 0xD9)
}

// scan is Annex A. The names are the standard's.
func (e jlsEncoder) scan(samples []int32, rows, columns int) []byte {
	NEAR := e.near
	c, err := jlsScan{bits: e.bits, near: e.near, preset: e.preset}.coding()
	if err != nil {
		panic(err)
	}
	MAXVAL, RANGE, LIMIT, qbpp, RESET := c.maxval, c.span, c.limit, c.qbpp, c.reset
	var A, B, C, N [367]int
	var Nn [367]int
	for i := range A {
		A[i], N[i] = max(2, (RANGE+32)/64), 1
	}
	RUNindex := 0
	J := []int{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	w := new(bitWriter)
	rec := make([][]int, rows+1) // reconstructed, with a column on each side
	rec[0] = make([]int, columns+2)
	quantize := func(d int) int {
		switch {
		case d <= -c.t3:
			return -4
		case d <= -c.t2:
			return -3
		case d <= -c.t1:
			return -2
		case d < -NEAR:
			return -1
		case d <= NEAR:
			return 0
		case d < c.t1:
			return 1
		case d < c.t2:
			return 2
		case d < c.t3:
			return 3
		}
		return 4
	}
	golomb := func(v, k, limit int) {
		if high := v >> k; high < limit-qbpp-1 {
			w.put(0, high)
			w.put(1, 1)
			w.put(uint64(v), k)
		} else {
			w.put(0, limit-qbpp-1)
			w.put(1, 1)
			w.put(uint64(v-1), qbpp)
		}
	}
	residual := func(Errval int) int { // A.4.4 and A.4.5
		if Errval > 0 {
			Errval = (Errval + NEAR) / (2*NEAR + 1)
		} else {
			Errval = -((NEAR - Errval) / (2*NEAR + 1))
		}
		return Errval
	}
	modulo := func(Errval int) int {
		if Errval < 0 {
			Errval += RANGE
		}
		if Errval >= (RANGE+1)/2 {
			Errval -= RANGE
		}
		return Errval
	}
	clamp := func(v int) int { return min(max(v, 0), MAXVAL) }
	for y := range rows {
		above := rec[y]
		line := make([]int, columns+2)
		rec[y+1] = line
		above[columns+1] = above[columns]
		line[0] = above[1]
		for x := 1; x <= columns; {
			Ra, Rb, Rc, Rd := line[x-1], above[x], above[x-1], above[x+1]
			Q1, Q2, Q3 := quantize(Rd-Rb), quantize(Rb-Rc), quantize(Rc-Ra)
			Ix := int(samples[y*columns+x-1])
			if Q1 == 0 && Q2 == 0 && Q3 == 0 { // A.7
				count := 0
				for x <= columns && max(Ix-Ra, Ra-Ix) <= NEAR {
					line[x] = Ra
					count++
					if x++; x <= columns {
						Ix = int(samples[y*columns+x-1])
					}
				}
				for count >= 1<<J[RUNindex] {
					w.put(1, 1)
					count -= 1 << J[RUNindex]
					if RUNindex < 31 {
						RUNindex++
					}
				}
				if x > columns {
					if count > 0 {
						w.put(1, 1)
					}
					continue
				}
				w.put(0, 1)
				w.put(uint64(count), J[RUNindex])
				Rb = above[x]
				RItype := 0
				if max(Ra-Rb, Rb-Ra) <= NEAR {
					RItype = 1
				}
				Px, SIGN := Rb, 1
				if RItype == 1 {
					Px = Ra
				}
				if RItype == 0 && Ra > Rb {
					SIGN = -1
				}
				Errval := residual(SIGN * (Ix - Px))
				line[x] = clamp(Px + SIGN*Errval*(2*NEAR+1))
				Errval = modulo(Errval)
				Q := 365 + RItype
				TEMP := A[365]
				if RItype == 1 {
					TEMP = A[366] + N[366]>>1
				}
				k := 0
				for N[Q]<<k < TEMP {
					k++
				}
				m := 0
				switch {
				case k == 0 && Errval > 0 && 2*Nn[Q] < N[Q], Errval < 0 && 2*Nn[Q] >= N[Q], Errval < 0 && k != 0:
					m = 1
				}
				EMErrval := 2*max(Errval, -Errval) - RItype - m
				golomb(EMErrval, k, LIMIT-J[RUNindex]-1)
				if Errval < 0 {
					Nn[Q]++
				}
				A[Q] += (EMErrval + 1 - RItype) >> 1
				if N[Q] == RESET {
					A[Q], N[Q], Nn[Q] = A[Q]>>1, N[Q]>>1, Nn[Q]>>1
				}
				N[Q]++
				if RUNindex > 0 {
					RUNindex--
				}
				x++
				continue
			}
			SIGN := 1
			if Q1 < 0 || Q1 == 0 && (Q2 < 0 || Q2 == 0 && Q3 < 0) {
				Q1, Q2, Q3, SIGN = -Q1, -Q2, -Q3, -1
			}
			Q := 81*Q1 + 9*Q2 + Q3
			var Px int
			switch {
			case Rc >= max(Ra, Rb):
				Px = min(Ra, Rb)
			case Rc <= min(Ra, Rb):
				Px = max(Ra, Rb)
			default:
				Px = Ra + Rb - Rc
			}
			Px = clamp(Px + SIGN*C[Q])
			Errval := residual(SIGN * (Ix - Px))
			line[x] = clamp(Px + SIGN*Errval*(2*NEAR+1))
			Errval = modulo(Errval)
			k := 0
			for N[Q]<<k < A[Q] {
				k++
			}
			var MErrval int
			switch special := NEAR == 0 && k == 0 && 2*B[Q] <= -N[Q]; {
			case special && Errval >= 0:
				MErrval = 2*Errval + 1
			case special:
				MErrval = -2 * (Errval + 1)
			case Errval >= 0:
				MErrval = 2 * Errval
			default:
				MErrval = -2*Errval - 1
			}
			golomb(MErrval, k, LIMIT)
			B[Q] += Errval * (2*NEAR + 1)
			A[Q] += max(Errval, -Errval)
			if N[Q] == RESET {
				A[Q] >>= 1
				if B[Q] >= 0 {
					B[Q] >>= 1
				} else {
					B[Q] = -((1 - B[Q]) >> 1)
				}
				N[Q] >>= 1
			}
			N[Q]++
			if B[Q] <= -N[Q] {
				B[Q] += N[Q]
				if C[Q] > -128 {
					C[Q]--
				}
				if B[Q] <= -N[Q] {
					B[Q] = -N[Q] + 1
				}
			} else if B[Q] > 0 {
				B[Q] -= N[Q]
				if C[Q] < 127 {
					C[Q]++
				}
				if B[Q] > 0 {
					B[Q] = 0
				}
			}
			x++
		}
	}
	w.flush()
	return w.out
}

// sum is the SHA-256 of the samples in bytes, two of them where bits are more than 8.
func sum(samples []int32, bits int, order binary.AppendByteOrder) string {
	var b []byte
	for _, v := range samples {
		if bits <= 8 {
			b = append(b, byte(v))
		} else {
			b = order.AppendUint16(b, uint16(v))
		}
	}
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// TestJPEGLSConformance decodes streams of T.87 Annex E and one with restart markers: testdata/jpegls/README.md.
func TestJPEGLSConformance(t *testing.T) {
	for _, c := range []struct {
		name string
		size int
		p    precision
		sum  string // of the image, most significant byte first as PGM has it
	}{
		{"t8nde0", 128, precision{bits: 8}, "3412f83ce18bc5e2cb4964a58d27981b8cc3cfb56f4a15c908ab9b49ec47706d"},
		{"t8nde3", 128, precision{bits: 8, lossy: true}, "d49ce4a0281bb90abcbcb2154d37e42db6aa9fdbfb24e87df17bd77d4f61c394"},
		{"t16e3", 256, precision{bits: 12, lossy: true}, "b2983b10d1ff67bbba86df5dd7444a94aaa6194f9d2d5858350390f1d90ae383"},
		{"test16_rm_5", 256, precision{bits: 12}, "c2b6a978d1d6ade3f33ed6037f8b5c0de8d90dd79124f32452d8ee91cf76b504"},
	} {
		b, err := os.ReadFile(filepath.Join("testdata", "jpegls", c.name+".jls"))
		if err != nil {
			t.Fatal(err)
		}
		out := make([]int32, c.size*c.size)
		p, err := decodeJPEGLS(b, c.size, c.size, out)
		if err != nil || p != c.p || sum(out, p.bits, binary.BigEndian) != c.sum {
			t.Errorf("%s: %+v %v, sum %s", c.name, p, err, sum(out, p.bits, binary.BigEndian))
		}
	}
}

// drawJPEGLS is an encoder with any parameters, and an image for it.
func drawJPEGLS(rt *rapid.T) (e jlsEncoder, samples []int32, rows, columns int) {
	e.bits = rapid.IntRange(2, 16).Draw(rt, "bits")
	maxval := 1<<e.bits - 1
	if rapid.Bool().Draw(rt, "preset") {
		maxval = rapid.IntRange(1, maxval).Draw(rt, "MAXVAL")
		e.preset[0] = maxval
		if rapid.Bool().Draw(rt, "reset") {
			e.preset[4] = rapid.IntRange(3, max(255, maxval)).Draw(rt, "RESET")
		}
	}
	e.near = rapid.SampledFrom([]int{0, 0, 1, 2, 3, 10, 255}).Draw(rt, "NEAR")
	e.near = min(e.near, maxval/2)
	if e.preset[0] != 0 && e.near < maxval && rapid.Bool().Draw(rt, "thresholds") {
		low := e.near + 1
		for i := 1; i <= 3; i++ {
			low = rapid.IntRange(low, maxval).Draw(rt, "T")
			e.preset[i] = low
		}
	}
	rows, columns = rapid.IntRange(1, 12).Draw(rt, "rows"), rapid.IntRange(1, 40).Draw(rt, "columns")
	e.interval = rapid.IntRange(0, 3).Draw(rt, "interval")
	e.dnl = rapid.Bool().Draw(rt, "DNL")
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
	amplitude := rapid.IntRange(0, maxval).Draw(rt, "amplitude") // 0 is all runs
	runs := rapid.Float64Range(0, 1).Draw(rt, "runs")
	samples = make([]int32, rows*columns)
	for i := range samples {
		switch {
		case i > 0 && r.Float64() < runs:
			samples[i] = samples[i-1]
		default:
			samples[i] = int32(maxval/2 + r.IntN(amplitude+1) - amplitude/2)
		}
	}
	return e, samples, rows, columns
}

// TestJPEGLSCircle encodes and decodes; the fast loop and the plain one agree.
func TestJPEGLSCircle(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		e, samples, rows, columns := drawJPEGLS(rt)
		stream := e.encode(samples, rows, columns)
		got := make([]int32, len(samples))
		p, err := decodeJPEGLS(stream, rows, columns, got)
		if err != nil || p != (precision{bits: e.bits, lossy: e.near > 0}) {
			rt.Fatalf("%+v: %+v %v", e, p, err)
		}
		for i, v := range samples {
			if max(v-got[i], got[i]-v) > int32(e.near) {
				rt.Fatalf("%+v: sample %d is %d, was %d", e, i, got[i], v)
			}
		}
		if e.near == 0 && e.interval == 0 {
			if plain := plainLossless(rt, stream, rows, columns); !slices.Equal(got, plain) {
				rt.Fatalf("%+v: %v, by the plain loop %v", e, got, plain)
			}
		}
	})
}

// plainLossless decodes a lossless stream by the loop for any NEAR.
func plainLossless(t interface{ Fatal(...any) }, stream []byte, rows, columns int) []int32 {
	s, start, err := jlsHeader(stream)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.coding()
	if err != nil {
		t.Fatal(err)
	}
	d := new(jlsDecoder)
	d.begin(c, columns)
	d.in, d.pos = stream, start
	d.restart()
	out := make([]int32, rows*columns)
	above, corner := d.zeros, int32(0)
	for y := range rows {
		line := out[y*columns : (y+1)*columns]
		if !d.nearLossless(above, line, corner) {
			t.Fatal("damaged")
		}
		corner, above = above[0], line
	}
	return out
}

const pyjpegls = `
import sys, hashlib, jpeg_ls
for line in sys.stdin:
    name = line.strip()
    try: print(name, hashlib.sha256(jpeg_ls.decode_buffer(open(name, "rb").read())[0]).hexdigest())
    except Exception as e: print(name, "error", str(e).replace("\n", " "))
`

// TestCharLS decodes what no other peer writes, by CharLS too: every number of bits, parameters, restart markers.
func TestCharLS(t *testing.T) {
	if out, err := exec.Command(python(), "-c", "import jpeg_ls").CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("pyjpegls is needed: %v %s", err, out)
		}
		t.Skip("python3 with pyjpegls is not here: set RADNODE_PYTHON")
	}
	folder := t.TempDir()
	r := rand.New(rand.NewPCG(5, 6))
	var names []string
	want := make(map[string]string)
	add := func(e jlsEncoder, samples []int32, rows, columns int) {
		stream := e.encode(samples, rows, columns)
		name := filepath.Join(folder, fmt.Sprintf("%d.jls", len(names)))
		if err := os.WriteFile(name, stream, 0o600); err != nil {
			t.Fatal(err)
		}
		out := make([]int32, len(samples))
		p, err := decodeJPEGLS(stream, rows, columns, out)
		if err != nil {
			t.Errorf("%+v: %v", e, err)
			return
		}
		names = append(names, name)
		want[name] = fmt.Sprintf("%s %+v %d × %d", sum(out, p.bits, binary.LittleEndian), e, rows, columns)
	}
	for bits := 2; bits <= 16; bits++ {
		for _, near := range []int{0, 1, 3, 10} {
			if near > (1<<bits-1)/2 {
				continue
			}
			e := jlsEncoder{bits: bits, near: near}
			add(e, smooth(r, 23, 37, bits, false), 23, 37)
			add(e, noise(r, 11, 53, bits, false), 11, 53)
			e.interval = 1 + bits%5
			add(e, smooth(r, 31, 17, bits, false), 31, 17)
			e.interval = 0
			if bits > 4 { // MAXVAL has to be that of the bits: CharLS knows no other
				e.preset = [5]int{1<<bits - 1, near + 2, near + 4, near + 5, 3 + bits*2}
				add(e, smooth(r, 23, 37, bits, false), 23, 37)
			}
		}
	}
	add(jlsEncoder{bits: 16}, make([]int32, 3*5000), 3, 5000)
	add(jlsEncoder{bits: 12, interval: 7}, smooth(r, 100, 1, 12, false), 100, 1)
	cmd := exec.Command(python(), "-c", pyjpegls)
	cmd.Stdin = strings.NewReader(strings.Join(names, "\n") + "\n")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for line := range strings.Lines(string(out)) {
		name, got, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(want[name], got) {
			t.Errorf("CharLS has %s, want %s", got, want[name])
		}
		compared++
	}
	t.Logf("%d streams", compared)
	if compared != len(names) || compared < 200 {
		t.Errorf("%d streams of %d compared", compared, len(names))
	}
}

// TestJPEGLSRefused are streams that are damaged, or that ask for what is not read.
func TestJPEGLSRefused(t *testing.T) {
	rows, columns := 20, 30
	samples := smooth(rand.New(rand.NewPCG(7, 8)), rows, columns, 12, false)
	good := jlsEncoder{bits: 12, preset: [5]int{4095, 18, 67, 276, 64}, interval: 6}.encode(samples, rows, columns)
	out := make([]int32, len(samples))
	if _, err := decodeJPEGLS(good, rows, columns, out); err != nil || !slices.Equal(out, samples) {
		t.Fatal(err)
	}
	frame, lse := bytes.Index(good, []byte{0xFF, 0xF7}), bytes.Index(good, []byte{0xFF, 0xF8})
	dri, scan := bytes.Index(good, []byte{0xFF, 0xDD}), bytes.Index(good, []byte{0xFF, 0xDA})
	rst := bytes.Index(good, []byte{0xFF, 0xD1})
	for _, c := range []struct {
		name string
		at   int
		put  []byte
		kind error
	}{
		{"no SOI", 0, []byte{0, 0}, dicom.ErrMalformed},
		{"lossless JPEG", frame, []byte{0xFF, 0xC3}, dicom.ErrMalformed},
		{"1 bit", frame + 4, []byte{1}, dicom.ErrMalformed},
		{"17 bits", frame + 4, []byte{17}, dicom.ErrMalformed},
		{"21 rows", frame + 5, []byte{0, 21}, dicom.ErrMalformed},
		{"31 columns", frame + 7, []byte{0, 31}, dicom.ErrMalformed},
		{"no lines and no DNL", frame + 5, []byte{0, 0}, dicom.ErrMalformed},
		{"0 columns", frame + 7, []byte{0, 0}, dicom.ErrUnsupported},
		{"0 components", frame + 9, []byte{0}, dicom.ErrMalformed},
		{"sampling 0", frame + 11, []byte{0}, dicom.ErrMalformed},
		{"length of a segment", frame + 2, []byte{0xFF, 0xFF}, dicom.ErrMalformed},
		{"length 1", frame + 2, []byte{0, 1}, dicom.ErrMalformed},
		{"MAXVAL", lse + 5, []byte{0xFF, 0xFF}, dicom.ErrMalformed},
		{"T1", lse + 7, []byte{0xFF, 0xFF}, dicom.ErrMalformed},
		{"T2 below T1", lse + 9, []byte{0, 1}, dicom.ErrMalformed},
		{"T3 below T2", lse + 11, []byte{0, 66}, dicom.ErrMalformed},
		{"RESET", lse + 13, []byte{0, 2}, dicom.ErrMalformed},
		{"a size in LSE", lse + 4, []byte{4}, dicom.ErrUnsupported},
		{"LSE 9", lse + 4, []byte{9}, dicom.ErrUnsupported},
		{"another interval", dri + 4, []byte{0, 7}, dicom.ErrMalformed},
		{"NEAR", scan + 7, []byte{255}, dicom.ErrMalformed}, // T1 is below
		{"another component", scan + 5, []byte{9}, dicom.ErrMalformed},
		{"mapping table", scan + 6, []byte{1}, dicom.ErrUnsupported},
		{"point transform", scan + 9, []byte{1}, dicom.ErrUnsupported},
		{"restart marker", rst + 1, []byte{0xD2}, dicom.ErrMalformed},
		{"EOI in the scan", rst, []byte{0xFF, 0xD9}, dicom.ErrMalformed},
	} {
		b := bytes.Clone(good)
		copy(b[c.at:], c.put)
		if _, err := decodeJPEGLS(b, rows, columns, out); !errors.Is(err, c.kind) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for n := range good {
		if _, err := decodeJPEGLS(good[:n], rows, columns, out); (err == nil) != (n == len(good)-2) && (err == nil) != (n == len(good)-1) {
			t.Errorf("%d of %d bytes: %v", n, len(good), err)
		}
	}
	long := jlsEncoder{bits: 12}.encode(append(slices.Clone(samples), samples...), 2*rows, columns)
	binary.BigEndian.PutUint16(long[bytes.Index(long, []byte{0xFF, 0xF7})+5:], uint16(rows))
	if _, err := decodeJPEGLS(long, rows, columns, out); !errors.Is(err, dicom.ErrMalformed) {
		t.Errorf("twice the lines: %v", err)
	}
	if _, err := decodeJPEGLS(slices.Concat(good[:len(good)-2], []byte{0, 0}, good[len(good)-2:]), rows, columns, out); !errors.Is(err, dicom.ErrMalformed) {
		t.Errorf("two bytes more: %v", err)
	}
	lossy := jlsEncoder{bits: 12}.encode(samples, rows, columns)
	lossy[bytes.Index(lossy, []byte{0xFF, 0xDA})+7] = 255
	binary.BigEndian.PutUint16(lossy[bytes.Index(lossy, []byte{0xFF, 0xF7})+4:], 8<<8)
	if _, err := decodeJPEGLS(lossy, rows, columns, out); !errors.Is(err, dicom.ErrMalformed) || !strings.Contains(err.Error(), "NEAR 255") {
		t.Errorf("NEAR beyond half of MAXVAL: %v", err)
	}
	run := jlsEncoder{bits: 12}.encode(make([]int32, 5), 1, 5)
	run = slices.Concat(run[:bytes.Index(run, []byte{0xFF, 0xDA})+10], []byte{0xF4, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xD9}) // 4 pixels, and one more up to the end, which a run does not say like that
	if _, err := decodeJPEGLS(run, 1, 5, out[:5]); !errors.Is(err, dicom.ErrMalformed) {
		t.Errorf("a run up to the end: %v", err)
	}
	three := slices.Concat(good[:frame], []byte{0xFF, 0xF7, 0, 17, 12, 0, 20, 0, 30, 3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0}, good[frame+13:])
	if _, err := decodeJPEGLS(three, rows, columns, out); !errors.Is(err, dicom.ErrUnsupported) || !strings.Contains(err.Error(), "3 components") {
		t.Errorf("3 components: %v", err)
	}
}

// FuzzJPEGLS decodes anything in the time that its pixels take, and a lossless stream the same by both loops.
func FuzzJPEGLS(f *testing.F) {
	for _, name := range []string{"t8nde0", "t8nde3", "test16_rm_5"} {
		b, err := os.ReadFile(filepath.Join("testdata", "jpegls", name+".jls"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, byte(127), byte(127))
		f.Add(b[:600], byte(255), byte(255))
	}
	r := rand.New(rand.NewPCG(9, 10))
	f.Add(jlsEncoder{bits: 16, interval: 2}.encode(noise(r, 5, 7, 16, false), 5, 7), byte(4), byte(6))
	f.Add(jlsEncoder{bits: 2, dnl: true}.encode(noise(r, 5, 7, 2, false), 5, 7), byte(4), byte(6))
	f.Add(jlsEncoder{bits: 12, preset: [5]int{4000, 0, 0, 0, 3000}}.encode(smooth(r, 9, 9, 11, false), 9, 9), byte(8), byte(8))
	f.Fuzz(func(t *testing.T, stream []byte, y, x byte) {
		rows, columns := int(y)+1, int(x)+1
		out := make([]int32, rows*columns)
		done := spent(t, 1<<20)
		p, err := decodeJPEGLS(stream, rows, columns, out)
		done()
		if err != nil {
			if !errors.Is(err, dicom.ErrMalformed) && !errors.Is(err, dicom.ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		for _, v := range out {
			if v < 0 || v>>p.bits != 0 {
				t.Fatalf("%d has not %d bits", v, p.bits)
			}
		}
		if s, _, _ := jlsHeader(stream); !p.lossy && (s.interval == 0 || s.interval >= rows) {
			if plain := plainLossless(t, stream, rows, columns); !slices.Equal(plain, out) {
				t.Fatal("the two loops differ")
			}
		}
	})
}
