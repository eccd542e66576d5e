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
	return &Grid{t.Crop(box), interpolate(g.Data, g.Geometry, t, box, m, func(v float64) float32 { return float32(v) })}
}

// ResampleMask interpolates the mask as an image of zeros and ones and keeps
// what reaches the threshold (IBSI E8H9, partial volume): a voxel at exactly
// the threshold is in.
func ResampleMask(mask *Mask, t Geometry, box Box, m Method, threshold float64) *Mask {
	// The slack is for rounding errors of the weights.
	atLeast := threshold - 1e-6
	return &Mask{t.Crop(box), interpolate(mask.Data, mask.Geometry, t, box, m, func(v float64) uint8 {
		if v >= atLeast {
			return 1
		}
		return 0
	})}
}

// taps says how one output index is made of input samples: the weights w on the
// samples first, first+1, ...
type taps struct {
	first int
	w     [4]float64
}

// reach is how many neighbours on each side take part in a B-spline
// coefficient: the filter falls as 0.268ⁿ, below 2⁻⁵³ after 28.
const reach = 28

// interpolate works axis after axis, x first, each a weighted sum of at most
// four samples; the order of the axes is fixed, so that a part of the grid has
// the bits of the whole.
func interpolate[T float32 | uint8](data []T, g, t Geometry, box Box, m Method, out func(float64) T) []T {
	var axis [3][]taps
	need := Box{Min: g.Size}
	for a := range 3 {
		axis[a] = make([]taps, box.Max[a]-box.Min[a])
		for i := range axis[a] {
			tp := tapsAt(clampTo(place(g, t, a, box.Min[a]+i), g.Size[a]), g.Size[a], m)
			axis[a][i] = tp
			for k, w := range tp.w {
				if w != 0 {
					at := mirror(tp.first+k, g.Size[a])
					need.Min[a] = min(need.Min[a], at)
					need.Max[a] = max(need.Max[a], at+1)
				}
			}
		}
	}
	if m == Cubic {
		need = need.Grow([3]int{reach, reach, reach}, g.Box())
	}
	size := need.Size()
	cur := make([]float64, 0, need.Len())
	for z := need.Min[2]; z < need.Max[2]; z++ {
		for y := need.Min[1]; y < need.Max[1]; y++ {
			row := (z*g.Size[1] + y) * g.Size[0]
			for _, v := range data[row+need.Min[0] : row+need.Max[0]] {
				cur = append(cur, float64(v))
			}
		}
	}
	for a := range 3 {
		cur, size = along(cur, size, a, axis[a], need.Min[a], g.Size[a], m == Cubic)
	}
	res := make([]T, len(cur))
	for i, v := range cur {
		res[i] = out(v)
	}
	return res
}

// along interpolates one axis of a block: in[outer][n][inner].
func along(in []float64, size [3]int, a int, axis []taps, first, whole int, spline bool) ([]float64, [3]int) {
	n := size[a]
	inner, outer := 1, 1
	for b := range a {
		inner *= size[b]
	}
	for b := a + 1; b < 3; b++ {
		outer *= size[b]
	}
	size[a] = len(axis)
	res := make([]float64, inner*len(axis)*outer)
	var coef []float64
	if spline {
		coef = make([]float64, n*inner)
	}
	for o := range outer {
		src := in[o*n*inner : (o+1)*n*inner]
		if spline {
			prefilter(coef, src, inner, n, first, whole)
			src = coef
		}
		dst := res[o*len(axis)*inner : (o+1)*len(axis)*inner]
		for i := range axis {
			d := dst[i*inner : (i+1)*inner]
			for k, w := range axis[i].w {
				if w == 0 {
					continue
				}
				at := mirror(axis[i].first+k, whole) - first
				for x, v := range src[at*inner : (at+1)*inner] {
					d[x] += float64(w * v)
				}
			}
		}
	}
	return res, size
}

// prefilter turns samples into cubic B-spline coefficients (Unser 1999) with
// the inverse filter written out, h(k) = √3·zᵏ, z = √3 − 2, rather than as a
// recursion: a recursion would carry the start of the line into every voxel,
// and a part of the image would differ from the whole. Lines are mirrored at
// the image's true ends. Where first and n cut the line, the outermost
// coefficients are wrong and not used: the block is wider by [reach].
func prefilter(coef, src []float64, inner, n, first, whole int) {
	for i := range n {
		c := coef[i*inner : (i+1)*inner]
		h := math.Sqrt(3)
		for x, v := range src[i*inner : (i+1)*inner] {
			c[x] = float64(h * v)
		}
		for k := 1; k <= reach && whole > 1; k++ {
			h *= math.Sqrt(3) - 2
			l, r := mirror(first+i-k, whole)-first, mirror(first+i+k, whole)-first
			if l < 0 || r < 0 || l >= n || r >= n {
				break
			}
			left, right := src[l*inner:(l+1)*inner], src[r*inner:(r+1)*inner]
			for x := range c {
				c[x] += float64(h * (left[x] + right[x]))
			}
		}
		if whole == 1 {
			copy(c, src)
		}
	}
}

// tapsAt are the weights at position p of a line of n samples.
func tapsAt(p float64, n int, m Method) taps {
	switch m {
	case Nearest:
		// Halfway between two voxels, the one nearer the image's middle wins, so
		// that a flipped image gives the flipped result.
		i := math.Floor(p + 0.5)
		if p+0.5 == i && p+p > float64(n-1) {
			i--
		}
		return taps{int(i), [4]float64{1}}
	case Linear:
		i := math.Floor(p)
		f := p - i
		return taps{int(i), [4]float64{1 - f, f}}
	default:
		i := math.Floor(p)
		f := p - i
		g := 1 - f
		if n == 1 {
			return taps{int(i), [4]float64{1}}
		}
		return taps{int(i) - 1, [4]float64{
			float64(float64(g*g)*g) / 6,
			(4 - float64(float64(3*f)*float64(f*(2-f)))) / 6,
			(4 - float64(float64(3*g)*float64(g*(2-g)))) / 6,
			float64(float64(f*f)*f) / 6,
		}}
	}
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
	margin := 2
	if method == Cubic.String() {
		margin += reach
	}
	n := box.Size()
	at, most := int64(1), int64(0)
	var in [3]int64
	for a := range 3 {
		in[a] = min(int64(g.Size[a]), int64(float64(n[a])*t.Spacing[a]/g.Spacing[a])+int64(2*margin))
		at *= in[a]
	}
	for a := range 3 { // each axis reads one block and writes the next
		next := at / in[a] * int64(n[a])
		most = max(most, 8*(at+next))
		at = next
	}
	return most + 4*at
}
