package features

import (
	"container/heap"
	"math"

	"github.com/radnode/radnode/features/voxel"
)

// bounds are the least and the greatest place of the points along a.
func bounds(points [][3]float64, a [3]float64) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, p := range points {
		h := voxel.Dot(a, p)
		if h < lo { // min and max would look for NaN
			lo = h
		}
		if h > hi {
			hi = h
		}
	}
	return lo, hi
}

// extents are the points' lengths along three directions.
func extents(points [][3]float64, axes *[3][3]float64) (e [3]float64) {
	for k := range 3 {
		lo, hi := bounds(points, axes[k])
		e[k] = hi - lo
	}
	return e
}

func boxVolume(e [3]float64) float64 { return float64(float64(e[0]*e[1]) * e[2]) }

func boxArea(e [3]float64) float64 {
	return 2 * (float64(e[0]*e[1]) + float64(e[1]*e[2]) + float64(e[2]*e[0]))
}

const (
	boxTolerance = 1e-9   // of the volume
	boxParts     = 50_000 // about 0.1 s
)

// orientedBox is the edges in mm of the box of least volume around a hull, in
// any orientation. It is found by branch and bound: every part of the
// orientations has a lower bound of the volume, and the part with the lowest one
// is halved until no bound is below the least box found. So the volume is the
// least to a relative 1e-9, by proof and not by the number of tries, and never
// below the least, since the box encloses the hull. The number of parts does not
// grow with the corners: it is about 700, and 10,000 for a rod a hundred times as
// long as thick. Where boxParts are not enough, proven is false and the box is
// the least tried, at most the one along the image's axes.
//
// A few small or regular shapes have several least boxes of different areas; the
// edges are those of one of them, which may be another when the image's axes
// change places.
//
// The usual exact way goes through pairs of edges: the least box has two
// adjacent sides that each hold an edge of the hull (O'Rourke 1985). That is
// cubic, and a smooth ROI has thousands of edges.
func orientedBox(h hull, spacing [3]float64) (edges [3]float64, proven bool) {
	b := newBoxSearch(h, spacing)
	edges = extents(b.points, &[3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}})
	aligned := boxVolume(edges)
	b.least = aligned
	b.turn()
	var open attitudeHeap
	// A box looks the same after 24 turns: this cube has an orientation of each.
	const r = math.Sqrt2 - 1
	b.look(&attitudes{half: [3]float64{r, r, r}}, &open)
	for n := 0; len(open) > 0 && n < boxParts; n += 2 {
		c := heap.Pop(&open).(*attitudes)
		if c.bound >= b.least*(1-boxTolerance) {
			open = nil
			break
		}
		c.half[c.longest] /= 2
		other := *c
		c.at[c.longest] -= c.half[c.longest]
		other.at[c.longest] += c.half[c.longest]
		b.look(c, &open)
		b.look(&other, &open)
	}
	if b.least < aligned {
		edges = extents(b.points, &b.axes)
	}
	return edges, len(open) == 0
}

// attitudes are a part of the orientations: the quaternions (1, x, y, z) with x,
// y and z within half of at.
type attitudes struct {
	at, half [3]float64
	support  [3][2]int32 // vertices near the ends of the hull along the axes of at
	bound    float64     // none of the orientations has a smaller box
	longest  int         // direction in which the bound loses most
}

// attitudeHeap is a heap with the lowest bound at its top.
type attitudeHeap []*attitudes

func (c attitudeHeap) Len() int           { return len(c) }
func (c attitudeHeap) Less(i, j int) bool { return c[i].bound < c[j].bound }
func (c attitudeHeap) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *attitudeHeap) Push(x any)        { *c = append(*c, x.(*attitudes)) }
func (c *attitudeHeap) Pop() any {
	n := len(*c) - 1
	last := (*c)[n]
	*c = (*c)[:n]
	return last
}

// boxSearch is the hull's vertices in mm and the least box so far.
type boxSearch struct {
	points [][3]float64
	first  []int32 // the neighbours of vertex i are next[first[i]:first[i+1]]
	next   []int32
	least  float64
	axes   [3][3]float64
}

func newBoxSearch(h hull, spacing [3]float64) *boxSearch {
	b := &boxSearch{least: math.Inf(1)}
	index := map[point]int32{}
	origin := h.faces[0][0] // so that the bits do not depend on where the ROI lies
	degree := []int32{}
	for _, f := range h.faces {
		for _, p := range f {
			i, ok := index[p]
			if !ok {
				i = int32(len(b.points))
				index[p] = i
				degree = append(degree, 0)
				var at [3]float64
				for k := range at {
					at[k] = float64(float64(p[k]-origin[k])*spacing[k]) / 2
				}
				b.points = append(b.points, at)
			}
			degree[i]++ // each face at a vertex has one edge that starts there
		}
	}
	b.first = make([]int32, len(degree)+1)
	for i, n := range degree {
		b.first[i+1] = b.first[i] + n
	}
	b.next = make([]int32, b.first[len(degree)])
	for _, f := range h.faces {
		for e, p := range f {
			i := index[p]
			degree[i]--
			b.next[b.first[i]+degree[i]] = index[f[(e+1)%3]]
		}
	}
	return b
}

// turn puts the longest direction of the hull, about, on the first axis, and the
// longest at right angles to it on the second. The box of a rod or a plate
// changes far more with a turn about some axes than about others, and the parts
// should lie along these.
func (b *boxSearch) turn() {
	farthest := func(from func([3]float64) [3]float64) [3]float64 {
		at, far := 0, -1.0
		for i, p := range b.points {
			if d := from(p); voxel.Dot(d, d) > far {
				at, far = i, voxel.Dot(d, d)
			}
		}
		return b.points[at]
	}
	p := farthest(func(r [3]float64) [3]float64 { return difference(r, b.points[0]) })
	q := farthest(func(r [3]float64) [3]float64 { return difference(r, p) })
	u := unit(difference(q, p))
	off := func(r [3]float64) [3]float64 { return voxel.Cross(u, difference(r, p)) }
	n := unit(off(farthest(off)))
	v := voxel.Cross(n, u)
	for i, p := range b.points {
		b.points[i] = [3]float64{voxel.Dot(u, p), voxel.Dot(v, p), voxel.Dot(n, p)}
	}
}

// climb is the vertex farthest along a, from any vertex. On a convex hull every
// vertex but the highest has a higher neighbour.
func (b *boxSearch) climb(a [3]float64, at int32) int32 {
	top := voxel.Dot(a, b.points[at])
	for i := b.first[at]; i < b.first[at+1]; i++ {
		n := b.next[i]
		if h := voxel.Dot(a, b.points[n]); h > top {
			at, top = n, h
			i = b.first[at] - 1
		}
	}
	return at
}

// look tries the middle of a part and adds the part to open if it may hold a
// smaller box.
func (b *boxSearch) look(c *attitudes, open *attitudeHeap) {
	v := view{x: c.at, axes: rotated(c.at)}
	volume := 1.0
	for i, a := range v.axes {
		s := &c.support[i]
		s[0] = b.climb(a, s[0])
		s[1] = b.climb([3]float64{-a[0], -a[1], -a[2]}, s[1])
		v.d[i] = difference(b.points[s[0]], b.points[s[1]])
		v.w[i] = voxel.Dot(a, v.d[i])
		volume = float64(volume * v.w[i])
	}
	if volume < b.least {
		b.least, b.axes = volume, v.axes
	}
	enough := b.least * (1 - boxTolerance)
	lower, most, longest := v.bound(c.half)
	c.longest = longest
	c.bound = max(c.bound, float64(volume*lower)) // that of the whole holds for its halves
	if c.bound < enough && volume*most >= enough {
		b.tighten(&v, &c.support)
		lower, _, _ = v.bound(c.half)
		c.bound = max(c.bound, float64(volume*lower))
	}
	if c.bound < enough {
		heap.Push(open, c)
	}
}

// A view is what the bound of a part is made of.
//
// The vector d from one point of the hull to another is a bound for the width
// along any direction a': it is at least d·a'. In the middle of the part d joins
// the ends along an axis a of length 1, and w = d·a is the width. A turn by the
// angle 2 atan |ρ| about ρ makes a' = ((1-ρ²) a + 2 ρ×a + 2 (ρ·a) ρ) / (1+ρ²).
// With g = a×d/w, and as (ρ·a)(ρ·d) is at least ρ² (w-|d|)/2,
//
//	d·a' / w ≥ 1 + z,  z = (2 ρ·g - ρ² (1+|d|/w)) / (1+ρ²)
//
// From the middle x to x+δ the turn is ρ = (δ + x×δ) / (1 + x² + x·δ), so that
// 2|ρ·g| and ρ² have bounds over the part, and |z| has one, m. For the three
// axes, as far as every m is below 1,
//
//	(1+z₁)(1+z₂)(1+z₃) ≥ 1 + Σz - Σm²/2 - m₁m₂m₃
//
// In Σz the three g add to one vector, which is small where the volume hardly
// changes.
type view struct {
	x     [3]float64
	axes  [3][3]float64
	w     [3]float64
	d     [3][3]float64
	scale [3]float64 // the most of 2ρ for δ along one of the directions
}

// slope is how much 2 ρ·g changes for a d along axis i, in the three directions
// of δ, from the middle to the end of the part.
func (v *view) slope(i int, d [3]float64) [3]float64 {
	g := voxel.Cross(v.axes[i], d)
	turn := voxel.Cross(g, v.x) // g·(δ + x×δ) = (g + g×x)·δ
	for k := range g {
		g[k] = float64(v.scale[k]*(g[k]+turn[k])) / v.w[i]
	}
	return g
}

// bound is the lower bound over the volume in the middle, what it would be with
// Σg = 0, and the direction in which it loses most.
func (v *view) bound(half [3]float64) (lower, most float64, longest int) {
	x2, h2 := voxel.Dot(v.x, v.x), voxel.Dot(half, half)
	least := 1 + x2 // of 1 + x² + x·δ
	for k := range 3 {
		least -= math.Abs(float64(v.x[k] * half[k]))
	}
	rho2 := float64(h2*(1+x2)) / float64(least*least)
	for k := range 3 {
		v.scale[k] = float64(2*half[k]) / least
	}
	most, squares, product := 1.0, 0.0, 1.0
	var sum, loss [3]float64
	for i := range 3 {
		// After tighten d·a is a little less than w.
		bend := 1 - voxel.Dot(v.axes[i], v.d[i])/v.w[i] + float64(rho2*(1+math.Sqrt(voxel.Dot(v.d[i], v.d[i]))/v.w[i]))
		m := bend
		for k, s := range v.slope(i, v.d[i]) {
			sum[k] += s
			m += math.Abs(s)
			loss[k] += math.Abs(s) + float64(bend*float64(half[k]*half[k]))/h2
		}
		if m >= 1 {
			m = math.Inf(1)
		}
		most -= bend
		squares += float64(m * m)
		product = float64(product * m)
	}
	for k := range loss {
		if loss[k] > loss[longest] {
			longest = k
		}
	}
	return most - absolute(sum) - float64(squares/2) - product, most, longest
}

// tighten moves the ends along the three axes to where the bound is higher. At
// the least box sides hold edges of the hull: from either end of an edge the
// bound falls to the one side, and in between it need not. So an end goes along
// the edges from its vertex, as far as the slopes get smaller by more than the
// width does.
func (b *boxSearch) tighten(v *view, support *[3][2]int32) {
	var sum [3]float64
	for i := range 3 {
		for k, s := range v.slope(i, v.d[i]) {
			sum[k] += s
		}
	}
	for i, a := range v.axes {
		for end, at := range support[i] {
			p := b.points[at]
			for _, n := range b.next[b.first[at]:b.first[at+1]] {
				move := difference(b.points[n], p)
				if end == 1 {
					move = difference(p, b.points[n])
				}
				down := -voxel.Dot(a, move) / v.w[i]
				if down >= absolute(sum) {
					continue
				}
				s, rise := v.slope(i, move), down
				for k := range s {
					if sum[k] > 0 {
						rise += s[k]
					} else {
						rise -= s[k]
					}
				}
				if rise >= 0 {
					continue
				}
				// The cost is convex in the share of the way and bends where one slope is 0.
				share, cost := 0.0, absolute(sum)
				for k := range 4 {
					t := 1.0
					if k < 3 {
						t = -sum[k] / s[k]
					}
					if !(t > 0 && t <= 1) {
						continue
					}
					if c := float64(t*down) + absolute(along(sum, t, s)); c < cost {
						share, cost = t, c
					}
				}
				if share > 0 {
					sum = along(sum, share, s)
					v.d[i] = along(v.d[i], share, move)
					if end == 1 {
						share = -share
					}
					p = along(p, share, move)
				}
			}
		}
	}
}

func difference(a, b [3]float64) [3]float64 {
	return [3]float64{a[0] - b[0], a[1] - b[1], a[2] - b[2]}
}

// along is a + t b.
func along(a [3]float64, t float64, b [3]float64) [3]float64 {
	return [3]float64{a[0] + float64(t*b[0]), a[1] + float64(t*b[1]), a[2] + float64(t*b[2])}
}

func absolute(a [3]float64) float64 { return math.Abs(a[0]) + math.Abs(a[1]) + math.Abs(a[2]) }

// rotated are the axes after the turn of the quaternion (1, x, y, z).
func rotated(x [3]float64) (axes [3][3]float64) {
	n := 1 + voxel.Dot(x, x)
	for i := range axes {
		var e [3]float64
		e[i] = 1
		turn := voxel.Cross(x, e)
		for k := range e {
			axes[i][k] = (float64((2-n)*e[k]) + float64(2*turn[k]) + float64(2*float64(x[i]*x[k]))) / n
		}
	}
	return axes
}
