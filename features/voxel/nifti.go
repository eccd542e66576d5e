package voxel

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
)

// ErrNIfTI is what every error about a NIfTI file's content wraps; any other
// error is the reader's.
var ErrNIfTI = errors.New("not a usable NIfTI-1 file")

// maxVoxels bounds what a header may claim: 2 GiB of float32.
const maxVoxels = 1 << 29

// ReadNIfTI reads a NIfTI-1 image of up to three dimensions from one file,
// .nii or .nii.gz, in either byte order. The place in space is the sform if the
// file has one with orthogonal axes, else the qform, else the voxel sizes
// alone; RAS+ becomes LPS. Values are scaled by scl_slope and scl_inter.
// Field names are those of nifti1.h.
func ReadNIfTI(r io.Reader) (*Grid, error) {
	return ReadNIfTIPart(r, func(g Geometry) (Box, error) { return g.Box(), nil })
}

// ReadNIfTIPart is [ReadNIfTI] for the voxels of a box alone, which part
// chooses for the file's grid. The rest of the grid is 0, whatever the file
// holds there. An error of part is returned as it is. Of an unpacked r that is
// an [io.Seeker] little more than the box is read.
func ReadNIfTIPart(r io.Reader, part func(Geometry) (Box, error)) (*Grid, error) {
	v, err := openNIfTI(r)
	if err != nil {
		return nil, err
	}
	box, err := part(v.Geometry)
	if err != nil {
		return nil, err
	}
	box = box.Grow([3]int{}, v.Box())
	if box.Empty() {
		box = Box{}
	}
	s := box.Size() // voxels in a run, runs in a slice, slices
	if s[0] == v.Size[0] {
		s[0], s[1] = s[0]*s[1], 1
		if s[0] == v.Size[0]*v.Size[1] {
			s[0], s[2] = s[0]*s[2], 1
		}
	}
	g := &Grid{Geometry: v.Geometry}
	first := (box.Min[2]*v.Size[1]+box.Min[1])*v.Size[0] + box.Min[0]
	store := func(at int, b []byte, n int) error {
		g.Data = room(v, g.Data, first, at+n)
		return v.decode(g.Data[at:], b, at)
	}
	for z := range s[2] {
		for y := range s[1] {
			if err := v.read(first+(z*v.Size[1]+y)*v.Size[0], s[0], store); err != nil {
				return nil, err
			}
		}
	}
	if err := v.rest(); err != nil {
		return nil, err
	}
	g.Data = room(v, g.Data, first, v.Len())
	return g, nil
}

// ReadNIfTIMask is [ReadNIfTI] for a region: the mask of the voxels above 0.
func ReadNIfTIMask(r io.Reader) (*Mask, error) {
	v, err := openNIfTI(r)
	if err != nil {
		return nil, err
	}
	m := &Mask{Geometry: v.Geometry}
	var zeros []byte // zero bytes are the value 0 in every datatype: a block of them outside the region
	if v.inter <= 0 && !math.IsInf(v.inter, 0) {
		zeros = make([]byte, block*v.bytesPer)
	}
	first := v.Len() // voxel of the region
	values := make([]float32, block)
	err = v.read(0, v.Len(), func(at int, b []byte, n int) error {
		m.Data = room(v, m.Data, first, at+n)
		if zeros != nil && bytes.Equal(b, zeros[:len(b)]) {
			return nil
		}
		if err := v.decode(values[:n], b, at); err != nil {
			return err
		}
		for i, x := range values[:n] {
			if x > 0 {
				first = min(first, at+i)
				m.Data[at+i] = 1
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := v.rest(); err != nil {
		return nil, err
	}
	return m, nil
}

// A volume is a file whose header has been read: the voxels before next have
// been read or passed over.
type volume struct {
	Geometry
	next         int
	in           *bufio.Reader
	file         io.ReadSeeker // what in reads, if it is known to hold all voxels and not packed; else nil
	packed       bool
	datatype     int
	bytesPer     int
	bigEndian    bool
	slope, inter float64
	buf          []byte         // of read
	wide         [block]float64 // of decode
}

func openNIfTI(r io.Reader) (*volume, error) {
	// The buffer is small: longer reads pass it by, and a seek wastes what is in it.
	br := bufio.NewReaderSize(r, 1<<12)
	magic, _ := br.Peek(2)
	packed := bytes.Equal(magic, []byte{0x1f, 0x8b})
	if packed {
		z, err := gzip.NewReader(bufio.NewReaderSize(br, 1<<16))
		if err != nil {
			return nil, readError(err, "gzip")
		}
		br = bufio.NewReaderSize(z, 1<<12)
	}
	var h [348]byte
	if _, err := io.ReadFull(br, h[:]); err != nil {
		return nil, readError(err, "the header of 348 bytes is cut short")
	}
	var order binary.ByteOrder = binary.LittleEndian
	if n := binary.BigEndian.Uint32(h[0:]); n == 348 || n == 540 {
		order = binary.BigEndian
	}
	switch magic := string(h[344:348]); {
	case order.Uint32(h[0:]) == 540:
		return nil, niftiError("it is a NIfTI-2 file; convert it to NIfTI-1")
	case order.Uint32(h[0:]) != 348:
		return nil, niftiError("sizeof_hdr is %d, want 348", order.Uint32(h[0:]))
	case magic == "ni1\x00":
		return nil, niftiError("the image is in a separate .img file; convert both to a single .nii")
	case magic != "n+1\x00":
		return nil, niftiError("magic is %q, want \"n+1\"", magic)
	}
	i16 := func(at int) int { return int(int16(order.Uint16(h[at:]))) }
	f32 := func(at int) float64 { return decimal(math.Float32frombits(order.Uint32(h[at:]))) }

	g := Geometry{Size: [3]int{1, 1, 1}}
	dims := i16(40)
	if dims < 1 || dims > 7 {
		return nil, niftiError("dim[0] is %d, want 1 to 7", dims)
	}
	voxels := 1
	for k := 1; k <= dims; k++ {
		n := i16(40 + 2*k)
		if n < 1 {
			return nil, niftiError("dim[%d] is %d", k, n)
		}
		if k > 3 {
			if n > 1 {
				return nil, niftiError("dim[%d] is %d: more than three dimensions; split the file", k, n)
			}
			continue
		}
		g.Size[k-1] = n
		if voxels *= n; voxels > maxVoxels {
			return nil, niftiError("%v voxels are above the limit of %d", g.Size[:k], maxVoxels)
		}
	}
	for a := range 3 {
		g.Spacing[a] = math.Abs(f32(80 + 4*a))
		if a >= dims && !(g.Spacing[a] > 0) {
			g.Spacing[a] = 1
		}
	}
	switch unit := h[123] & 7; unit { // xyzt_units
	case 0, 2: // unknown, mm
	default:
		return nil, niftiError("xyzt_units %d: lengths must be in mm", unit)
	}
	switch {
	case i16(254) > 0 && placeS(&g, f32) == nil: // sform_code
	case i16(252) > 0: // qform_code
		if err := placeQ(&g, f32); err != nil {
			return nil, err
		}
	default:
		g.Axes = [3][3]float64{{-1, 0, 0}, {0, -1, 0}, {0, 0, 1}}
	}
	if err := g.Valid(); err != nil {
		return nil, niftiError("%v", err)
	}

	bytesPer := sampleBytes[i16(70)]
	if bytesPer == 0 {
		return nil, niftiError("datatype %d is not a real number type (2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280)", i16(70))
	}
	offset := f32(108) // vox_offset
	if !(offset >= 348 && offset <= 1<<20) {
		return nil, niftiError("vox_offset is %v, want at least 352", offset)
	}
	if _, err := io.CopyN(io.Discard, br, int64(offset)-348); err != nil {
		return nil, readError(err, "it ends before vox_offset %v", offset)
	}
	slope, inter := f32(112), f32(116)
	if slope == 0 || math.IsNaN(slope) || math.IsInf(slope, 0) {
		slope, inter = 1, 0
	}
	v := &volume{Geometry: g, in: br, packed: packed, datatype: i16(70), bytesPer: bytesPer,
		bigEndian: order == binary.BigEndian, slope: slope, inter: inter}
	if file, ok := r.(io.ReadSeeker); ok && !packed {
		here, err := file.Seek(0, io.SeekCurrent)
		if err != nil { // a pipe, which is read in order
			return v, nil
		}
		end, err := file.Seek(0, io.SeekEnd)
		if _, err := file.Seek(here, io.SeekStart); err != nil {
			return nil, readError(err, "the first voxel")
		}
		if err == nil && end-here+int64(br.Buffered()) >= int64(voxels)*int64(bytesPer) {
			v.file = file
		}
	}
	return v, nil
}

// block is how many voxels are decoded at a time, chunk how many are read.
const (
	block = 1 << 10
	chunk = 1 << 5 * block
)

// read passes over the voxels before first and hands over the n from there on,
// as the bytes of a block of voxels at a time.
func (v *volume) read(first, n int, do func(at int, b []byte, n int) error) error {
	if err := v.skip(first); err != nil {
		return err
	}
	if size := min(chunk, n) * v.bytesPer; size > len(v.buf) {
		v.buf = make([]byte, size)
	}
	for end := first + n; v.next < end; {
		b := v.buf[:min(chunk, end-v.next)*v.bytesPer]
		if _, err := io.ReadFull(v.in, b); err != nil {
			return v.short(err)
		}
		for len(b) > 0 {
			n := min(block, len(b)/v.bytesPer)
			if err := do(v.next, b[:n*v.bytesPer], n); err != nil {
				return err
			}
			v.next, b = v.next+n, b[n*v.bytesPer:]
		}
	}
	return nil
}

// skip passes over the voxels before to.
func (v *volume) skip(to int) (err error) {
	n := int64(to-v.next) * int64(v.bytesPer)
	if buffered := int64(v.in.Buffered()); v.file != nil && n > buffered {
		_, err = v.file.Seek(n-buffered, io.SeekCurrent)
		v.in.Reset(v.file)
	} else {
		_, err = io.CopyN(io.Discard, v.in, n)
	}
	if err != nil {
		return v.short(err)
	}
	v.next = to
	return nil
}

func (v *volume) short(err error) error {
	return readError(err, "it holds about %d of %d voxels", v.next, v.Len())
}

// rest looks whether all is there: the voxels not read, and the checksum behind them.
func (v *volume) rest() error {
	if v.file != nil {
		return nil
	}
	if err := v.skip(v.Len()); err != nil {
		return err
	}
	if v.packed { // gzip.ErrHeader is for other bytes there
		if _, err := io.CopyN(io.Discard, v.in, 1<<20); err != nil && err != io.EOF && err != gzip.ErrHeader {
			return readError(err, "gzip, behind the voxels")
		}
	}
	return nil
}

// room lengthens data to end voxels. Where the file is not known to hold what
// its header claims, memory grows with the voxels that were read or passed over.
// The voxels before first are 0. They are not copied, nor is anything written
// but what was read: memory that is never touched is address space alone.
func room[T any](v *volume, data []T, first, end int) []T {
	if end > cap(data) {
		size := v.Len()
		if v.file == nil {
			size = min(size, max(1<<20, 4*end))
		}
		more := make([]T, size)
		if first < len(data) {
			copy(more[first:], data[first:])
		}
		data = more
	}
	return data[:end]
}

func niftiError(format string, a ...any) error {
	return fmt.Errorf("voxel: %w: %s", ErrNIfTI, fmt.Sprintf(format, a...))
}

// readError is about a file that is cut short or badly packed, or else about a
// device that cannot be read.
func readError(err error, format string, a ...any) error {
	var corrupt flate.CorruptInputError
	for _, content := range []error{io.EOF, io.ErrUnexpectedEOF, gzip.ErrHeader, gzip.ErrChecksum} {
		if errors.Is(err, content) || errors.As(err, &corrupt) {
			return niftiError("%s: %v", fmt.Sprintf(format, a...), err)
		}
	}
	return fmt.Errorf("voxel: %s: %w", fmt.Sprintf(format, a...), err)
}

// decimal is the shortest decimal number that is the same float32: 0.977 mm in
// a header is 0.977, as it is in the DICOM files the header was made from.
func decimal(f float32) float64 {
	v, err := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

// placeS takes the affine of srow_x, srow_y, srow_z. The voxel sizes stay
// those of pixdim where the affine says the same: they have less rounding.
func placeS(g *Geometry, f32 func(int) float64) error {
	t := *g
	for c := range 3 {
		sign := [3]float64{-1, -1, 1}[c] // RAS+ to LPS+
		for a := range 3 {
			t.Axes[a][c] = positiveZero(sign * f32(280+16*c+4*a))
		}
		t.Origin[c] = positiveZero(sign * f32(280+16*c+12))
	}
	for a := range 3 {
		x := t.Axes[a]
		n := math.Sqrt(float64(x[0]*x[0]) + float64(x[1]*x[1]) + float64(x[2]*x[2]))
		for c := range x {
			t.Axes[a][c] /= n
		}
		if !(math.Abs(n-t.Spacing[a]) <= 1e-4*n) {
			t.Spacing[a] = n
		}
	}
	if err := finite(t); err != nil {
		return err
	}
	*g = t
	return nil
}

// placeQ takes the quaternion (quatern_b, c, d), the offset and qfac.
func placeQ(g *Geometry, f32 func(int) float64) error {
	b, c, d := f32(256), f32(260), f32(264)
	bb, cc, dd := float64(b*b), float64(c*c), float64(d*d)
	aa := 1 - (bb + cc + dd)
	if aa <= 1e-7 { // nifti1.h: a is 0, the others are made of unit length
		n := math.Sqrt(bb + cc + dd)
		b, c, d = b/n, c/n, d/n
		aa, bb, cc, dd = 0, float64(b*b), float64(c*c), float64(d*d)
	}
	a := math.Sqrt(aa)
	qfac := 1.0
	if f32(76) < 0 {
		qfac = -1
	}
	ab, ac, ad := float64(a*b), float64(a*c), float64(a*d)
	bc, bd, cd := float64(b*c), float64(b*d), float64(c*d)
	r := [3][3]float64{ // rows: R, A, S
		{aa + bb - cc - dd, 2 * (bc - ad), 2 * (bd + ac) * qfac},
		{2 * (bc + ad), aa + cc - bb - dd, 2 * (cd - ab) * qfac},
		{2 * (bd - ac), 2 * (cd + ab), (aa + dd - cc - bb) * qfac},
	}
	for k := range 3 {
		sign := [3]float64{-1, -1, 1}[k]
		for i := range 3 {
			g.Axes[i][k] = positiveZero(sign * r[k][i])
		}
		g.Origin[k] = positiveZero(sign * f32(268+4*k))
	}
	if err := finite(*g); err != nil {
		return niftiError("qform: %v", err)
	}
	return nil
}

func finite(g Geometry) error {
	for _, v := range g.Origin {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("the origin %v is not finite", g.Origin)
		}
	}
	return g.Valid()
}

// positiveZero takes the sign off a zero, which turning RAS to LPS leaves.
func positiveZero(v float64) float64 {
	if v == 0 {
		return 0
	}
	return v
}

// sampleBytes is the size of the samples of a datatype.
var sampleBytes = map[int]int{
	2:    1, // NIFTI_TYPE_UINT8
	256:  1, // INT8
	4:    2, // INT16
	512:  2, // UINT16
	8:    4, // INT32
	768:  4, // UINT32
	16:   4, // FLOAT32
	1024: 8, // INT64
	1280: 8, // UINT64
	64:   8, // FLOAT64
}

// decode makes values of the block of samples in b, which begins with voxel at.
// It changes b where that is big-endian.
func (v *volume) decode(out []float32, b []byte, at int) error {
	le := binary.LittleEndian
	if n := v.bytesPer; v.bigEndian && n > 1 {
		for s := b; len(s) > 0; s = s[n:] {
			slices.Reverse(s[:n])
		}
	}
	if v.datatype == 4 && v.slope == 1 && v.inter == 0 { // most CTs, four voxels at a time
		for ; len(out) >= 4 && len(b) >= 8; out, b = out[4:], b[8:] {
			x := le.Uint64(b)
			out[0], out[1] = float32(int16(x)), float32(int16(x>>16))
			out[2], out[3] = float32(int16(x>>32)), float32(int16(x>>48))
		}
	}
	wide := v.wide[:len(out)]
	switch v.datatype {
	case 2:
		for i := range wide {
			wide[i] = float64(b[i])
		}
	case 256:
		for i := range wide {
			wide[i] = float64(int8(b[i]))
		}
	case 4:
		for i := range wide {
			wide[i] = float64(int16(le.Uint16(b[2*i:])))
		}
	case 512:
		for i := range wide {
			wide[i] = float64(le.Uint16(b[2*i:]))
		}
	case 8:
		for i := range wide {
			wide[i] = float64(int32(le.Uint32(b[4*i:])))
		}
	case 768:
		for i := range wide {
			wide[i] = float64(le.Uint32(b[4*i:]))
		}
	case 16:
		for i := range wide {
			wide[i] = float64(math.Float32frombits(le.Uint32(b[4*i:])))
		}
	case 1024:
		for i := range wide {
			wide[i] = float64(int64(le.Uint64(b[8*i:])))
		}
	case 1280:
		for i := range wide {
			wide[i] = float64(le.Uint64(b[8*i:]))
		}
	case 64:
		for i := range wide {
			wide[i] = math.Float64frombits(le.Uint64(b[8*i:]))
		}
	}
	for i, x := range wide {
		x := float32(float64(x*v.slope) + v.inter)
		if x-x != 0 {
			return niftiError("voxel %d is not a finite number", at+i)
		}
		out[i] = x
	}
	return nil
}
