package voxel

import (
	"fmt"
	"math"
)

// A Method is a way to interpolate (IBSI VTM2).
type Method int

const (
	Nearest Method = iota // the value of the nearest voxel
	Linear                // trilinear
	Cubic                 // cubic B-spline through the samples (tricubic spline), not cubic convolution
)

// ParseMethod reads the name that profiles use.
func ParseMethod(s string) (Method, error) {
	for m, n := range methodNames {
		if n == s {
			return Method(m), nil
		}
	}
	return 0, fmt.Errorf("voxel: no interpolation %q; one of nearest, linear, cubic", s)
}

var methodNames = [...]string{"nearest", "linear", "cubic"}

func (m Method) String() string { return methodNames[m] }

// Aligned is the grid of another spacing whose centre is g's centre (IBSI
// UMPJ, 3WE3): n·s/s' voxels on each axis, rounded up. A spacing of 0 keeps the
// axis, so that [2 2 0] interpolates in the plane only.
func Aligned(g Geometry, spacing [3]float64) Geometry {
	t := g
	var first [3]float64
	for a := range 3 {
		if spacing[a] <= 0 {
			continue
		}
		// A spacing read from a file is decimal text or float32; without the
		// slack, 5 × 0.8 mm at 1 mm would be 5 voxels.
		n := float64(g.Size[a]) * g.Spacing[a] / spacing[a]
		t.Size[a] = max(1, int(math.Ceil(n-float64(1e-6*n))))
		t.Spacing[a] = spacing[a]
		first[a] = place(g, t, a, 0)
	}
	t.Origin = g.Point(first[0], first[1], first[2])
	return t
}

// place is where index i of grid t falls on axis a of grid g, in g's indices,
// when the centres of both grids coincide.
func place(g, t Geometry, a, i int) float64 {
	if t.Spacing[a] == g.Spacing[a] && t.Size[a] == g.Size[a] {
		return float64(i)
	}
	ratio := t.Spacing[a] / g.Spacing[a]
	p := float64(float64(g.Size[a]-1)/2) + float64(float64(2*i-t.Size[a]+1)/2*ratio)
	// Rounding errors must not decide between two voxels that are equally near.
	twice := p + p
	if r := math.RoundToEven(twice); math.Abs(twice-r) < 1e-9 {
		p = r / 2
	}
	return p
}

// Covered is the box of the voxels of t = [Aligned](g, …) that a mask whose
// bounds on g are b can reach by linear interpolation.
func Covered(g, t Geometry, b Box) Box {
	var c Box
	for a := range 3 {
		c.Min[a] = t.Size[a]
		for i := range t.Size[a] {
			p := clampTo(place(g, t, a, i), g.Size[a])
			if p > float64(b.Min[a]-1) && p < float64(b.Max[a]) {
				c.Min[a] = min(c.Min[a], i)
				c.Max[a] = i + 1
			}
		}
	}
	if c.Empty() {
		return Box{}
	}
	return c
}

// Resample interpolates g at the voxels of box of the grid t = [Aligned](g, …).
// It reads only the part of g that those voxels need, and every voxel has the
// same bits as if the whole of t had been asked for. Beyond the outermost voxel
// centres the image goes on with the value at the edge.
func Resample(g *Grid, t Geometry, box Box, m Method) *Grid {
	return &Grid{t.Crop(box), interpolate(g.Data, g.Geometry, g.Box(), t, box, m, func(out []float32, row []float64) {
		for i, v := range row {
			out[i] = float32(v)
		}
	})}
}

// Source is the box of the voxels of g that [Resample] reads.
func Source(g, t Geometry, box Box, m Method) Box {
	var b Box
	for a := range 3 {
		_, s := tapsOf(g, t, a, box.Min[a], box.Max[a], m)
		b.Min[a], b.Max[a] = s.first, s.first+s.n
	}
	return b
}

// ResampleMask interpolates the mask as an image of zeros and ones and keeps
// what reaches the threshold (IBSI E8H9, partial volume): a voxel at exactly
// the threshold is in. The mask lies on g or on a part of it ([Geometry.Crop]),
// beyond which nothing is in the region.
func ResampleMask(mask *Mask, g, t Geometry, box Box, m Method, threshold float64) *Mask {
	// The slack is for rounding errors of the weights.
	atLeast := threshold - 1e-6
	return &Mask{t.Crop(box), interpolate(mask.Data, g, g.Part(mask.Geometry), t, box, m, func(out []uint8, row []float64) {
		for i, v := range row {
			if v >= atLeast {
				out[i] = 1
			}
		}
	})}
}

// band is how many rows the spline along x takes at a time.
const band = 16

// interpolate works along x, then y, then z, each a weighted sum of at most
// four samples; the order is fixed, so that a part of the grid has the bits of
// the whole. It goes once through the slices of the image and holds those that
// an output slice is made of, interpolated in the plane: two, for a spline all.
// write takes a row of results. data are the samples of the box part of g;
// outside of it they are 0.
func interpolate[T float32 | uint8](data []T, g Geometry, part Box, t Geometry, box Box, m Method, write func(out []T, row []float64)) []T {
	res := make([]T, box.Len())
	if len(res) == 0 {
		return res
	}
	var axis [3][]taps
	var in [3]span
	for a := range 3 {
		axis[a], in[a] = tapsOf(g, t, a, box.Min[a], box.Max[a], m)
	}
	nx, ny, held := len(axis[0]), len(axis[1]), 2
	var block, coef []float64 // a spline's samples and coefficients
	if m == Cubic {
		held = in[2].n
		block = make([]float64, max(in[0].n*band, in[2].n*nx))
		coef = make([]float64, max(in[0].n*band, in[1].n*nx))
	}
	rows := make([]float64, in[1].n*nx)   // a slice interpolated along x
	planes := make([]float64, held*ny*nx) // slices interpolated along x and y
	sum := make([]float64, max(nx, band))
	size := part.Size()
	row := func(y, z int) []T { return data[(z*size[1]+y)*size[0]:][:size[0]] }
	src := func(y, z int) []T { return row(in[1].first+y, in[2].first+z)[in[0].first:][:in[0].n] }
	if part != g.Box() {
		cut := make([]T, in[0].n)
		from, to := max(part.Min[0], in[0].first), min(part.Max[0], in[0].first+in[0].n)
		src = func(y, z int) []T {
			clear(cut)
			if y, z := in[1].first+y-part.Min[1], in[2].first+z-part.Min[2]; from < to && y >= 0 && y < size[1] && z >= 0 && z < size[2] {
				copy(cut[from-in[0].first:], row(y, z)[from-part.Min[0]:to-part.Min[0]])
			}
			return cut
		}
	}

	inPlane := func(z int) {
		along := rows
		if m == Cubic {
			for y0 := 0; y0 < in[1].n; y0 += band {
				k := min(band, in[1].n-y0)
				for y := range k {
					for x, v := range src(y0+y, z) {
						block[x*k+y] = float64(v)
					}
				}
				in[0].prefilter(coef, block, k, k)
				for x := range axis[0] {
					for y, v := range axis[0][x].weigh(sum[:k], coef, k) {
						rows[(y0+y)*nx+x] = v
					}
				}
			}
			in[1].prefilter(coef, rows, nx, nx)
			along = coef
		} else {
			for y := range in[1].n {
				weighRow(rows[y*nx:][:nx], src(y, z), axis[0])
			}
		}
		for y := range ny {
			out := planes[(z%held*ny+y)*nx:][:nx]
			copy(out, axis[1][y].weigh(out, along, nx))
		}
	}
	next := 0
	if m == Cubic {
		for ; next < in[2].n; next++ {
			inPlane(next)
		}
		for y := range ny {
			for z := range in[2].n {
				copy(block[z*nx:], planes[(z*ny+y)*nx:][:nx])
			}
			in[2].prefilter(planes[y*nx:], block, nx, ny*nx)
		}
	}
	for z, tp := range axis[2] {
		for next = max(next, tp.at[0]); next <= tp.at[tp.n-1]; next++ {
			inPlane(next)
		}
		for k := range tp.at {
			tp.at[k] %= held
		}
		for y := range ny {
			write(res[(z*ny+y)*nx:][:nx], tp.weigh(sum[:nx], planes[y*nx:], ny*nx))
		}
	}
	return res
}

// A span is the part of an axis that is read: n samples from first on, of whole.
type span struct{ first, n, whole int }

// taps say how one output index is made of n samples: at counts from the first
// of the span, no weight is 0, and the weight of a single sample is 1.
type taps struct {
	n  int
	at [4]int
	w  [4]float64
}

// tapsOf are the taps of the indices from lo to hi of axis a, and the span that
// holds their samples.
func tapsOf(g, t Geometry, a, lo, hi int, m Method) ([]taps, span) {
	n := g.Size[a]
	if lo >= hi {
		return nil, span{whole: n}
	}
	axis := make([]taps, hi-lo)
	first, end := n, 0
	for i := range axis {
		axis[i] = tapsAt(clampTo(place(g, t, a, lo+i), n), n, m)
		for _, at := range axis[i].at[:axis[i].n] {
			first, end = min(first, at), max(end, at+1)
		}
	}
	if m == Cubic {
		first = max(first/stretch*stretch-reach, 0)
		end = min((end+stretch-1)/stretch*stretch+reach, n)
	}
	for i := range axis {
		for k := range axis[i].n {
			axis[i].at[k] -= first
		}
	}
	return axis, span{first, end - first, n}
}

// weighRow interpolates a row of the image.
func weighRow[T float32 | uint8](out []float64, row []T, axis []taps) {
	for i := range out {
		t := &axis[i]
		v := float64(t.w[0] * float64(row[t.at[0]]))
		if t.n == 2 {
			v += float64(t.w[1] * float64(row[t.at[1]]))
		}
		out[i] = v
	}
}

// weigh is the weighted sum of rows of src, which begin stride apart. It is in
// dst, or is the row of src itself.
func (t *taps) weigh(dst, src []float64, stride int) []float64 {
	n := len(dst)
	a := src[t.at[0]*stride:][:n]
	if t.n == 1 {
		return a
	}
	b, v, w := src[t.at[1]*stride:][:n], t.w[0], t.w[1]
	for x := range dst {
		dst[x] = float64(v*a[x]) + float64(w*b[x])
	}
	for k := 2; k < t.n; k++ {
		c, w := src[t.at[k]*stride:][:n], t.w[k]
		for x := range dst {
			dst[x] += float64(w * c[x])
		}
	}
	return dst
}

// The filter for B-spline coefficients falls as 0.268ⁿ, below 2⁻⁵³ after 28
// neighbours on each side. It is run over stretches of an axis, which begin at
// multiples of 32: any number of reach does, and this one costs little for
// large parts and for small ones.
const (
	reach   = 28
	stretch = 32
)

// prefilter turns samples into cubic B-spline coefficients (Unser 1999), the
// samples folded with √3·z^|k|, z = √3 − 2: one sum from the left and one from
// the right, each a recursion. A recursion carries its start into every voxel;
// so that a part of the image has the bits of the whole, each stretch of the
// axis has a start of its own, [reach] samples outside it. Lines are mirrored
// at the image's true ends. Where the span cuts the line, the outermost reach
// samples get no coefficients.
//
// A sample is a row of width values; those of src lie one after the other, those
// of dst begin stride apart.
func (s span) prefilter(dst, src []float64, width, stride int) {
	if s.whole == 1 {
		copy(dst, src[:width])
		return
	}
	row := func(i int) []float64 { return src[(mirror(i, s.whole)-s.first)*width:][:width] }
	lo, hi := s.first, s.first+s.n
	if lo > 0 {
		lo += reach
	}
	if hi < s.whole {
		hi -= reach
	}
	z, gain := math.Sqrt(3)-2, math.Sqrt(3)
	sum := make([]float64, width)
	for ; lo < hi; lo += stretch {
		end := min(lo+stretch, hi)
		clear(sum)
		for i := lo - reach; i < end; i++ { // from the left, with the sample itself
			for x, v := range row(i) {
				sum[x] = v + float64(z*sum[x])
			}
			if i >= lo {
				copy(dst[(i-s.first)*stride:], sum)
			}
		}
		clear(sum)
		for i := end - 1 + reach; i >= lo; i-- { // from the right, without it
			if i < end {
				d := dst[(i-s.first)*stride:][:width]
				for x, v := range sum {
					d[x] = float64(gain * (d[x] + float64(z*v)))
				}
			}
			for x, v := range row(i) {
				sum[x] = v + float64(z*sum[x])
			}
		}
	}
}

// tapsAt are the taps at position p of a line of n samples.
func tapsAt(p float64, n int, m Method) (t taps) {
	i := math.Floor(p)
	f := p - i
	g := 1 - f
	first, w := int(i), [4]float64{1}
	switch {
	case m == Nearest:
		// Halfway between two voxels, the one nearer the image's middle wins, so
		// that a flipped image gives the flipped result.
		if f > 0.5 || f == 0.5 && p+p <= float64(n-1) {
			first++
		}
	case m == Linear:
		w = [4]float64{g, f}
	case n > 1:
		first--
		w = [4]float64{
			float64(float64(g*g)*g) / 6,
			(4 - float64(float64(3*f)*float64(f*(2-f)))) / 6,
			(4 - float64(float64(3*g)*float64(g*(2-g)))) / 6,
			float64(float64(f*f)*f) / 6,
		}
	}
	for k, v := range w {
		if v != 0 {
			t.at[t.n], t.w[t.n] = mirror(first+k, n), v
			t.n++
		}
	}
	return t
}

func clampTo(p float64, n int) float64 { return math.Min(math.Max(p, 0), float64(n-1)) }

// mirror folds an index at the first and the last sample.
func mirror(i, n int) int {
	if n == 1 {
		return 0
	}
	for i < 0 || i >= n {
		if i < 0 {
			i = -i
		}
		if i >= n {
			i = 2*(n-1) - i
		}
	}
	return i
}

// ResampleBytes is the memory that [Resample] takes, its result included.
func ResampleBytes(g, t Geometry, box Box, method string) int64 {
	m, _ := ParseMethod(method)
	n := box.Size()
	var in [3]int64
	for a := range 3 {
		_, s := tapsOf(g, t, a, box.Min[a], box.Max[a], m)
		in[a] = int64(s.n)
	}
	nx, ny, held, spline := int64(n[0]), int64(n[1]), int64(2), int64(0)
	if m == Cubic {
		held = in[2]
		spline = max(in[0]*band, in[2]*nx) + max(in[0]*band, in[1]*nx)
	}
	return 8*(spline+in[1]*nx+held*ny*nx) + 4*int64(box.Len())
}
