package roi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/pixel"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
)

// checkPixels holds the length of native pixels against what the header says.
func (s *segmentation) checkPixels() error {
	d, p := s.file.DataSet, s.file.Pixels
	if p == nil || p.Tag != dicom.PixelData {
		return refusal.New(refusal.SegmentationPixels, "", "PixelData (7FE0,0010) is absent")
	}
	ts, _ := dicom.LookupTransferSyntax(s.file.Meta.TransferSyntaxUID)
	stored, ok := d.Int(dicom.BitsStored)
	samples, several := d.Int(dicom.SamplesPerPixel)
	s.native = ts.Decodable && !ts.Encapsulated && !p.BigEndian && p.Length >= 0 && (!ok || stored == s.bits) &&
		(!several || samples == 1) && (s.bits == 1 || s.bits == 8 || s.bits == 16)
	if !s.native {
		return nil // package pixel checks it
	}
	frames := max(len(d.Seq(dicom.PerFrameFunctionalGroupsSequence)), 1)
	bits := int64(s.rows) * int64(s.columns) * int64(s.bits) // of a frame: below 2^32
	have := p.Length * 8
	if int64(frames) > have/bits {
		return refusal.New(refusal.SegmentationPixels, "", "PixelData (7FE0,0010) has %d bytes, and %d frames of %d x %d pixels of %d bits need more", p.Length, frames, s.columns, s.rows, s.bits)
	}
	if rest := have - int64(frames)*bits; rest >= bits && rest >= 16 { // an even length takes up to 15 bits
		return refusal.New(refusal.SegmentationPixels, "", "PixelData (7FE0,0010) has %d bytes, and %d frames of %d x %d pixels of %d bits leave %d over: they are not where they should be", p.Length, frames, s.columns, s.rows, s.bits, rest/8)
	}
	return nil
}

// each reads some frames, in ascending order, one at a time. The samples are overwritten by the next one.
func (s *segmentation) each(ctx context.Context, frames []int, see func(i int, samples []int32) error) error {
	if len(frames) == 0 {
		return nil
	}
	if s.native {
		return s.eachNative(ctx, frames, see)
	}
	if s.kept != nil {
		return s.eachKept(ctx, frames, see)
	}
	// Label maps may have colours (PS3.3 C.8.20.2), which are none of the labels' business.
	f := &dicom.File{Meta: s.file.Meta, DataSet: dicom.New(), Pixels: s.file.Pixels}
	f.DataSet.Copy(s.file.DataSet, dicom.SamplesPerPixel, dicom.PhotometricInterpretation, dicom.NumberOfFrames, dicom.Rows, dicom.Columns,
		dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit, dicom.PixelRepresentation)
	if f.DataSet.String(dicom.PhotometricInterpretation) == "PALETTE COLOR" {
		f.DataSet.SetString(dicom.PhotometricInterpretation, "MONOCHROME2")
	}
	image, err := pixel.Open(f)
	if err != nil {
		return unreadable(err)
	}
	var frame pixel.Frame
	for _, i := range frames {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if i >= image.Len() {
			return refusal.New(refusal.SegmentationPixels, "", "PixelData (7FE0,0010) ends before frame %d", i+1)
		}
		if err := image.Read(i, &frame); err != nil {
			return unreadable(err)
		}
		if len(frame.Samples) != s.rows*s.columns {
			return refusal.New(refusal.SegmentationPixels, "", "frame %d has %d samples", i+1, len(frame.Samples))
		}
		s.keep(i, frame.Samples)
		if err := see(i, frame.Samples); err != nil {
			return err
		}
	}
	return nil
}

// masks reads some frames as each does: 1 where a sample is at least least and at most most, and the highest sample. Nothing
// is looked for outside of box.
func (s *segmentation) masks(ctx context.Context, frames []int, least, most int32, box voxel.Box, see func(i int, in []uint8, highest int32) error) error {
	var in []uint8
	first, end := box.Min[1]*s.columns, box.Max[1]*s.columns // of whole rows
	switch {
	case s.native && s.bits == 1 && least == 1:
		// Bits are what masks are made of: the same without samples in between, eight at a time.
		in = make([]uint8, (s.rows*s.columns+7)/8*8)
		return s.stored(ctx, frames, func(i int, b []byte, bit int) error {
			for k := first / 8; k < (end+7)/8; k++ {
				v := uint(b[k]) >> bit
				if k+1 < len(b) {
					v |= uint(b[k+1]) << (8 - bit)
				}
				*(*[8]uint8)(in[8*k:]) = spread[uint8(v)]
			}
			return see(i, in[:s.rows*s.columns], 1)
		})
	case s.native && s.bits == 8 && least <= 255:
		in = make([]uint8, s.rows*s.columns)
		low, span := uint8(least), uint8(min(most, 255)-least)
		return s.stored(ctx, frames, func(i int, b []byte, _ int) error {
			highest := uint8(0)
			for k, v := range b[first:end] {
				in[first+k] = 0
				if v-low <= span { // what is below low wraps around, and is above it
					in[first+k] = 1
				}
				highest = max(highest, v)
			}
			return see(i, in, int32(highest))
		})
	}
	return s.each(ctx, frames, func(i int, samples []int32) error {
		if in == nil {
			in = make([]uint8, len(samples)) // which are there now, whatever the header claimed
		}
		highest := int32(0)
		for k, v := range samples[first:end] {
			in[first+k] = 0
			if v >= least && v <= most {
				in[first+k] = 1
			}
			highest = max(highest, v)
		}
		return see(i, in, highest)
	})
}

// spread are the bits of a byte, the first in the least significant place (PS3.5 8.1.1).
var spread = func() (t [256][8]uint8) {
	for v := range t {
		for k := range t[v] {
			t[v][k] = uint8(v >> k & 1)
		}
	}
	return t
}()

// A run is a row of equal samples of a frame, or of several rows.
type run struct {
	at, n uint32
	v     int32
}

// mostRuns bounds what is kept of an object: 48 MB. Masks and label maps are far below, noise is not.
const mostRuns = 1 << 22

// keep takes the samples of a frame that had to be decoded as runs, while all frames are looked through: each segment would
// else decode the object again from its beginning. Samples of 0 are left out.
func (s *segmentation) keep(i int, samples []int32) {
	if s.keeping == nil || s.runs > mostRuns {
		return
	}
	var runs []run
	for from := 0; from < len(samples); {
		v, to := samples[from], from+1
		for to < len(samples) && samples[to] == v {
			to++
		}
		if v != 0 {
			if runs = append(runs, run{uint32(from), uint32(to - from), v}); s.runs+len(runs) > mostRuns {
				break
			}
		}
		from = to
	}
	s.runs += len(runs)
	s.keeping[i] = slices.Clip(runs)
}

// eachKept is each for frames that were kept.
func (s *segmentation) eachKept(ctx context.Context, frames []int, see func(i int, samples []int32) error) error {
	samples := make([]int32, s.rows*s.columns)
	for _, i := range frames {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		clear(samples)
		for _, r := range s.kept[i] {
			for k := range samples[r.at:][:r.n] {
				samples[int(r.at)+k] = r.v
			}
		}
		if err := see(i, samples); err != nil {
			return err
		}
	}
	return nil
}

// eachNative is each for frames that can be read where they lie.
func (s *segmentation) eachNative(ctx context.Context, frames []int, see func(i int, samples []int32) error) error {
	samples := make([]int32, s.rows*s.columns)
	return s.stored(ctx, frames, func(i int, b []byte, bit int) error {
		switch s.bits {
		case 1:
			for k := range samples {
				samples[k] = int32(b[(k+bit)>>3] >> ((k + bit) & 7) & 1)
			}
		case 8:
			for k := range samples {
				samples[k] = int32(b[k])
			}
		case 16:
			for k := range samples {
				samples[k] = int32(b[2*k]) | int32(b[2*k+1])<<8
			}
		}
		return see(i, samples)
	})
}

// stored reads the bytes of some frames, and says at which bit of the first one the frame begins: frames of one bit a pixel
// follow each other without a gap, so that most do not begin on a byte (PS3.5 8.1.1).
func (s *segmentation) stored(ctx context.Context, frames []int, see func(i int, b []byte, bit int) error) error {
	value := s.file.Pixels.Reader()
	size := int64(s.rows) * int64(s.columns) * int64(s.bits)
	raw := make([]byte, size/8+2)
	for _, i := range frames {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		start := int64(i) * size
		b := raw[:(start+size+7)/8-start/8]
		if n, err := value.ReadAt(b, start/8); n < len(b) {
			return unreadable(fmt.Errorf("frame %d: %w", i+1, cmp.Or(err, io.ErrUnexpectedEOF)))
		}
		if err := see(i, b, int(start%8)); err != nil {
			return err
		}
	}
	return nil
}

// unreadable makes a refusal of what is the object's fault; the disk's stays an error.
func unreadable(err error) error {
	if errors.Is(err, dicom.ErrMalformed) || errors.Is(err, dicom.ErrUnsupported) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return refusal.New(refusal.SegmentationPixels, "", "PixelData (7FE0,0010): %v", err)
	}
	return err
}

// An extent says where in the pixels of an object a segment is.
type extent struct {
	frames []int32   // with a pixel of it, in ascending order
	box    voxel.Box // of pixels that holds all of them, on every frame
}

// extent finds where a segment is. All frames are read once, for all segments: an object of many segments would else be
// decoded as many times, and [segment.bounds] would be as wide as the images.
func (s *segmentation) extent(ctx context.Context, number int) (*extent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.extents != nil {
		return s.extents[number], nil
	}
	extents := make(map[int]*extent, len(s.numbers))
	for _, n := range s.numbers {
		extents[n] = &extent{box: voxel.Box{Min: [3]int{s.columns, s.rows, 0}, Max: [3]int{0, 0, 1}}}
	}
	if !s.native {
		s.keeping, s.runs = make([][]run, len(s.planes)), 0
	}
	var err error
	if s.kind == "LABELMAP" {
		var labels [1 << 16]*extent
		for n, e := range extents {
			labels[n] = e
		}
		err = s.each(ctx, s.of(0), func(i int, samples []int32) error {
			for y := range s.rows {
				row := samples[y*s.columns:][:s.columns]
				for from := 0; from < len(row); {
					v, to := row[from], from+1
					for to < len(row) && row[to] == v {
						to++
					}
					if v >= 0 && v < 1<<16 && labels[v] != nil {
						labels[v].add(i, from, y, to, y+1)
					}
					from = to
				}
			}
			return nil
		})
	} else {
		var frames []int // of all segments
		of := make([]*extent, len(s.planes))
		for _, n := range s.numbers {
			for _, i := range s.frames[n] {
				frames = append(frames, i)
				of[i] = extents[n]
			}
		}
		slices.Sort(frames)
		look := func(i int, in []uint8, _ int32) error {
			if b := (&voxel.Mask{Geometry: voxel.Geometry{Size: [3]int{s.columns, s.rows, 1}}, Data: in}).Bounds(); !b.Empty() {
				of[i].add(i, b.Min[0], b.Min[1], b.Max[0], b.Max[1])
			}
			return nil
		}
		whole := voxel.Box{Max: [3]int{s.columns, s.rows, 1}}
		err = s.masks(ctx, frames, 1, math.MaxInt32, whole, look)
	}
	if err != nil {
		return nil, err
	}
	if s.kept = s.keeping; s.runs > mostRuns {
		s.kept = nil
	}
	s.keeping = nil
	s.extents = extents
	return extents[number], nil
}

// add widens the extent by a box of pixels of a frame.
func (e *extent) add(frame, x0, y0, x1, y1 int) {
	if n := len(e.frames); n == 0 || e.frames[n-1] != int32(frame) {
		e.frames = append(e.frames, int32(frame))
	}
	b := &e.box
	b.Min[0], b.Min[1] = min(b.Min[0], x0), min(b.Min[1], y0)
	b.Max[0], b.Max[1] = max(b.Max[0], x1), max(b.Max[1], y1)
}

// rasterise puts a segment on a grid by [SegmentRule].
func (s *segment) rasterise(ctx context.Context, g voxel.Geometry, rule voxel.Rule) (*voxel.Mask, []string, error) {
	of := s.of
	notes := of.notes()
	least, most := int32(1), int32(math.MaxInt32)
	switch of.kind {
	case "FRACTIONAL":
		// A fraction of nothing is outside, whatever the threshold.
		least = int32(min(max(math.Ceil(rule.Fraction*float64(of.maximum)*(1-1e-9)), 1), math.MaxInt32))
		notes = append(notes, fmt.Sprintf("fractional segmentation (%s): voxels of at least %v belong, which are values from %d of %d", cmp.Or(strings.ToLower(of.meaning), "of what is not said"), rule.Fraction, least, of.maximum))
	case "LABELMAP":
		least, most = int32(s.number), int32(s.number)
	}

	extent, err := of.extent(ctx, s.number)
	if err != nil {
		return nil, nil, err
	}
	twins := of.twins(of.of(s.number))
	frames := slices.DeleteFunc(slices.Clone(of.of(s.number)), func(i int) bool {
		_, shown := slices.BinarySearch(extent.frames, int32(i))
		_, twin := twins[i]
		return !shown && !twin || len(extent.frames) == 0
	})

	m := newCanvas(g, s.bounds(g))
	landed := make(map[int]landing, len(frames))
	exact := true
	for _, i := range frames {
		l, ok := of.land(i, g)
		if exact = ok; !exact {
			break
		}
		landed[i] = l
	}
	if !exact {
		if slices.ContainsFunc(frames, func(i int) bool { return of.grids[of.planes[i].grid].slab == 0 }) {
			return nil, nil, refusal.New(refusal.SegmentationGeometry, "", "segment %d lies on another grid than the images, and neither SliceThickness (0018,0050) nor SpacingBetweenSlices (0018,0088) says how far its only plane reaches", s.number)
		}
		p := of.grids[of.planes[frames[0]].grid]
		notes = append(notes, fmt.Sprintf("resampled from a grid of %.4g x %.4g x %.4g mm to that of the images, %.4g x %.4g x %.4g mm: a voxel belongs if its centre lies in a voxel of the segmentation that does",
			p.spacing[0], p.spacing[1], p.slab, g.Spacing[0], g.Spacing[1], g.Spacing[2]))
	}

	digests := make(map[int][sha256.Size]byte) // of the frames that share a place, by the first of them
	var there, outside, clipped, differ, beyond int
	room := mostTimes * int64(g.Len())
	err = of.masks(ctx, frames, least, most, extent.box, func(i int, in []uint8, highest int32) error {
		if of.kind == "FRACTIONAL" && int(highest) > of.maximum {
			beyond++
		}
		if first, ok := twins[i]; ok {
			sum := sha256.Sum256(in)
			if before, ok := digests[first]; !ok {
				digests[first] = sum
			} else if before != sum {
				differ++
			}
		}
		if bytes.IndexByte(in, 1) < 0 {
			return nil
		}
		there++
		var put, cut bool
		if exact {
			put, cut = landed[i].copy(m, in, of.columns)
		} else {
			var tried int64
			if put, cut, tried = of.sample(i, m, in); tried > room {
				return refusal.New(refusal.SegmentationFrames, "", "segment %d: its %d frames cover the images more than %d times by ImagePositionPatient (0020,0032) and SpacingBetweenSlices (0018,0088)", s.number, len(frames), mostTimes)
			}
			room -= tried
		}
		if !put {
			outside++
		} else if cut {
			clipped++
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for _, n := range []struct {
		n    int
		text string
	}{
		{outside, "%d of %d frames with voxels lie outside the images and are left out"},
		{clipped, "%d of %d frames with voxels reach beyond the edge of the images and are cut there"},
		{differ, "%d of %d frames with voxels show other voxels than another frame of the same segment in the same place: what either shows belongs"},
		{beyond, "%d of %d frames with voxels have values above MaximumFractionalValue (0062,000E), which are taken for all of a voxel"},
	} {
		if n.n > 0 {
			notes = append(notes, fmt.Sprintf(n.text, n.n, there))
		}
	}
	if m.Count() == 0 {
		if there > 0 && outside == there {
			return nil, nil, refusal.New(refusal.SegmentOutside, "", "segment %d: none of its %d frames with voxels lies on the images by ImagePositionPatient (0020,0032)", s.number, there)
		}
		text := fmt.Sprintf("segment %d: no voxel of the images belongs to it by its %d frames in PixelData (7FE0,0010)", s.number, len(of.of(s.number)))
		return nil, nil, refusal.New(refusal.SegmentEmpty, "", "%s", strings.Join(append([]string{text}, notes...), "; "))
	}
	return &m.Mask, notes, nil
}

// A landing says how a frame lies on the voxels of a grid: where its first pixel is, and along which axes of the grid its
// rows and columns run.
type landing struct {
	first    [3]int
	across   [2]int // axis of the grid along a row, and down a column
	step     [2]int // 1, or -1 where it runs the other way
	inBounds bool   // the plane is one of the grid's
}

// land finds out whether every pixel of frame i is a voxel of the grid, and the plane stands for one slice of it.
func (s *segmentation) land(i int, g voxel.Geometry) (landing, bool) {
	p := s.planes[i]
	pg := s.grids[p.grid]
	var l landing
	q := g.Index(p.at)
	var off [3]float64 // of a voxel, at the pixel that is worst
	for a, x := range q {
		if !(math.Abs(x) < 1e9) {
			return l, false
		}
		l.first[a] = int(math.Floor(x + 0.5))
		off[a] = math.Abs(x - float64(l.first[a]))
	}
	third := 3
	for side, pixels := range [2]int{s.columns, s.rows} {
		l.across[side] = -1
		for a := range 3 {
			step := voxel.Dot(pg.axes[side], g.Axes[a]) * pg.spacing[side] / g.Spacing[a]
			whole := math.Floor(step + 0.5)
			if whole != 0 {
				if l.across[side] >= 0 || math.Abs(whole) != 1 || math.Abs(step-whole) > sameStep {
					return l, false
				}
				l.across[side], l.step[side] = a, int(whole)
			}
			off[a] += float64(math.Abs(step-whole) * float64(pixels-1))
		}
		if l.across[side] < 0 {
			return l, false
		}
		third -= l.across[side]
	}
	if l.across[0] == l.across[1] {
		return l, false
	}
	for a, x := range off {
		if a == third && x > offSlice || a != third && x > onLattice {
			return l, false
		}
	}
	if pg.known && math.Abs(pg.slab-g.Spacing[third]) > sameSlab*g.Spacing[third] {
		return l, false
	}
	l.inBounds = l.first[third] >= 0 && l.first[third] < g.Size[third]
	return l, true
}

// copy adds the pixels of a frame to the mask: whether there were any, and whether some lie beyond its edges.
func (l landing) copy(m *canvas, in []uint8, columns int) (put, cut bool) {
	if !l.inBounds {
		return false, false
	}
	stride, size := m.stride(), m.grid.Size
	a, b := l.across[0], l.across[1]
	third := 3 - a - b
	for y := range len(in) / columns {
		row := in[y*columns:][:columns]
		from := bytes.IndexByte(row, 1)
		if from < 0 {
			continue
		}
		at := l.first
		at[b] += l.step[1] * y
		inside := at[b] >= 0 && at[b] < size[b]
		for x := from; x < columns; x++ {
			if row[x] == 0 {
				continue
			}
			if at[a] = l.first[a] + l.step[0]*x; !inside || at[a] < 0 || at[a] >= size[a] {
				cut = true
				continue
			}
			m.Data[(at[a]-m.box.Min[a])*stride[a]+(at[b]-m.box.Min[b])*stride[b]+(at[third]-m.box.Min[third])*stride[third]] = 1
			put = true
		}
	}
	return put, cut
}

// A line is a coordinate of the frame along a row of voxels: start + x·step, and the least and the most that lie inside.
type line struct{ start, step, low, high float64 }

// sample adds the voxels of the grid whose centres lie in pixels of frame i that are in: whether those pixels lie in the grid,
// and whether some lie beyond its edges. tried is how many rows and voxels were looked at.
func (s *segmentation) sample(i int, m *canvas, in []uint8) (inside, cut bool, tried int64) {
	p := s.planes[i]
	pg := s.grids[p.grid]
	box := (&voxel.Mask{Geometry: voxel.Geometry{Size: [3]int{s.columns, s.rows, 1}}, Data: in}).Bounds()
	low := [3]float64{float64(box.Min[0]) - 0.5, float64(box.Min[1]) - 0.5, p.low}
	high := [3]float64{float64(box.Max[0]) - 0.5, float64(box.Max[1]) - 0.5, p.high}
	g := m.grid
	least, most := s.reach(p, g, low, high)
	for a := range 3 {
		if most[a] < -0.5 || least[a] > float64(g.Size[a])-0.5 {
			return false, false, 0
		}
		cut = cut || least[a] < -0.5-onLattice || most[a] > float64(g.Size[a])-0.5+onLattice
	}
	reach := around(least, most).Grow([3]int{}, m.box)
	// The coordinates of a voxel in the frame: pixels along a row and down a column, and mm along the normal.
	unit := [3]float64{pg.spacing[0], pg.spacing[1], 1}
	var start [3]float64
	var step [3][3]float64 // of each coordinate, by axis of the grid
	for c := range 3 {
		var from [3]float64
		for n := range 3 {
			from[n] = g.Origin[n] - p.at[n]
		}
		start[c] = voxel.Dot(from, pg.axes[c]) / unit[c]
		for a := range 3 {
			step[c][a] = voxel.Dot(g.Axes[a], pg.axes[c]) * g.Spacing[a] / unit[c]
		}
	}
	for z := reach.Min[2]; z < reach.Max[2]; z++ {
		for y := reach.Min[1]; y < reach.Max[1]; y++ {
			var l [3]line
			from, to := reach.Min[0], reach.Max[0]
			for c := range 3 {
				l[c] = line{start[c] + float64(float64(y)*step[c][1]) + float64(float64(z)*step[c][2]), step[c][0], low[c] - onBorder, high[c] - onBorder}
				from, to = l[c].within(from, to)
			}
			tried += int64(1 + to - from)
			row := m.Data[((z-m.box.Min[2])*m.Size[1]+y-m.box.Min[1])*m.Size[0]:][:m.Size[0]]
			for x := from; x < to; x++ {
				u, v, h := l[0].at(x), l[1].at(x), l[2].at(x)
				if u < l[0].low || u >= l[0].high || v < l[1].low || v >= l[1].high || h < l[2].low || h >= l[2].high {
					continue
				}
				// A centre on a border lies in the pixel of the higher index.
				column, line := int(math.Floor(u+(0.5+onBorder))), int(math.Floor(v+(0.5+onBorder)))
				if column = min(column, s.columns-1); in[min(line, s.rows-1)*s.columns+column] != 0 {
					row[x-m.box.Min[0]] = 1
				}
			}
		}
	}
	return true, cut, tried
}

func (l line) at(x int) float64 { return l.start + float64(float64(x)*l.step) }

// within narrows a range of x to where the coordinate can lie inside, one x more on each side.
func (l line) within(from, to int) (int, int) {
	if math.Abs(l.step) < 1e-9 {
		return from, to // the test of each voxel decides
	}
	a, b := (l.low-l.start)/l.step, (l.high-l.start)/l.step
	if a > b {
		a, b = b, a
	}
	if a > float64(from) {
		from = int(min(math.Floor(a), float64(to)))
	}
	if b < float64(to-1) {
		to = int(max(math.Ceil(b)+1, float64(from)))
	}
	return from, to
}

// reach are the least and the most indices, in the grid or not, of the space between low and high: pixels in the plane, mm
// along the normal.
func (s *segmentation) reach(p framePlace, g voxel.Geometry, low, high [3]float64) (least, most [3]float64) {
	pg := s.grids[p.grid]
	for corner := range 8 {
		at := p.at
		for c := range 3 {
			x := low[c]
			if corner>>c&1 == 1 {
				x = high[c]
			}
			if c < 2 {
				x *= pg.spacing[c]
			}
			for n := range 3 {
				at[n] += float64(x * pg.axes[c][n])
			}
		}
		q := g.Index(at)
		if corner == 0 {
			least, most = q, q
		}
		for a := range 3 {
			least[a], most[a] = math.Min(least[a], q[a]), math.Max(most[a], q[a])
		}
	}
	return least, most
}

// around is the box of the indices between two places.
func around(least, most [3]float64) (b voxel.Box) {
	const far, slack = 1 << 30, 1e-4
	for a := range 3 {
		b.Min[a] = int(math.Ceil(min(max(least[a]-slack, -far), far)))
		b.Max[a] = int(math.Floor(min(max(most[a]+slack, -far), far))) + 1
	}
	return b
}

// twins are the frames that lie where another one does, each with the first of them.
func (s *segmentation) twins(frames []int) map[int]int {
	type spot struct {
		grid int
		at   [3]int64
	}
	first := make(map[spot]int, len(frames))
	twins := make(map[int]int)
	for _, i := range frames {
		p := spot{grid: s.planes[i].grid}
		for c, x := range s.planes[i].at {
			p.at[c] = int64(math.Round(x / 0.01))
		}
		if n, ok := first[p]; ok {
			twins[i], twins[n] = n, n
		} else {
			first[p] = i
		}
	}
	return twins
}

// bounds is a box of the grid that holds all that rasterise can give, whatever the threshold of fractions; an empty one where
// the frames cannot be read.
func (s *segment) bounds(g voxel.Geometry) voxel.Box {
	of := s.of
	all := voxel.Box{Min: g.Size}
	extent, err := of.extent(context.Background(), s.number)
	if err != nil {
		return voxel.Box{}
	}
	for _, i := range extent.frames {
		p := of.planes[i]
		low := [3]float64{float64(extent.box.Min[0]) - 0.5, float64(extent.box.Min[1]) - 0.5, p.low}
		high := [3]float64{float64(extent.box.Max[0]) - 0.5, float64(extent.box.Max[1]) - 0.5, p.high}
		b := around(of.reach(p, g, low, high))
		if l, ok := of.land(int(i), g); ok {
			// The slab may be unknown, and the plane is copied.
			third := 3 - l.across[0] - l.across[1]
			b.Min[third], b.Max[third] = min(b.Min[third], l.first[third]), max(b.Max[third], l.first[third]+1)
		}
		if b = b.Grow([3]int{}, g.Box()); b.Empty() {
			continue
		}
		for a := range 3 {
			all.Min[a], all.Max[a] = min(all.Min[a], b.Min[a]), max(all.Max[a], b.Max[a])
		}
	}
	if all.Empty() {
		return voxel.Box{}
	}
	return all
}
