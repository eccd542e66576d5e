package roi

import (
	"errors"
	"math"
	"sort"

	"github.com/radnode/radnode/features/voxel"
)

// points is how many points of a voxel are asked along each of its axes, by the rule coverage on an oblique grid: the area
// of a voxel in the plane is not the same for all of them there.
const points = 4

var errTooMuch = errors.New("too many crossings")

// A slab is a plane whose edges are found by the rows that they cross.
type slab struct {
	low, high float64
	points    [][2]float64 // of each contour, its last point first
	bottom    float64      // the lowest v
	per       float64      // buckets per v
	first     []int32      // of each bucket, the place in edge
	edge      []int32      // from points[edge] to points[edge+1]
}

func (b *slab) bucket(v float64) int {
	return int(math.Min(math.Max((v-b.bottom)*b.per, 0), float64(len(b.first)-2)))
}

// ordered is an edge, the lower v first.
func (b *slab) ordered(e int32) (p, q [2]float64) {
	p, q = b.points[e], b.points[e+1]
	if p[1] > q[1] || p[1] == q[1] && p[0] > q[0] {
		p, q = q, p
	}
	return p, q
}

// newSlab brings a plane into the coordinates of its frame. There are as many buckets as make about two entries of each edge.
func newSlab(s *stack, p plane) slab {
	b := slab{low: p.low, high: p.high}
	n := 0
	for _, c := range p.contours {
		n += len(s.contours[c]) + 1
	}
	b.points = make([][2]float64, 0, n)
	low, high, climb := math.Inf(1), math.Inf(-1), 0.0
	for _, c := range p.contours {
		contour := s.contours[c]
		b.points = append(b.points, s.basis.flat(contour[len(contour)-1]))
		for _, point := range contour {
			q := s.basis.flat(point)
			climb += math.Abs(q[1] - b.points[len(b.points)-1][1])
			low, high = math.Min(low, q[1]), math.Max(high, q[1])
			b.points = append(b.points, q)
		}
	}
	count := 1
	if climb > 0 {
		count = int(math.Max(1, math.Min(float64(n), float64(n)*(high-low)/climb)))
	}
	b.bottom = low
	if high > low {
		b.per = float64(count) / (high - low)
	}
	b.first = make([]int32, count+1)
	edges := func(do func(e int32)) {
		e := int32(0)
		for _, c := range p.contours {
			for range s.contours[c] {
				do(e)
				e++
			}
			e++ // from the end of a contour to the next is no edge
		}
	}
	edges(func(e int32) {
		p, q := b.ordered(e)
		for k := b.bucket(p[1]); k <= b.bucket(q[1]); k++ {
			b.first[k+1]++
		}
	})
	for k := range count {
		b.first[k+1] += b.first[k]
	}
	b.edge = make([]int32, b.first[count])
	at := append([]int32(nil), b.first[:count]...)
	edges(func(e int32) {
		p, q := b.ordered(e)
		for k := b.bucket(p[1]); k <= b.bucket(q[1]); k++ {
			b.edge[at[k]] = e
			at[k]++
		}
	})
	return b
}

// A sweep asks the voxels of an oblique grid, row by row.
type sweep struct {
	b     *brush
	slabs []slab
	step  [3][3]float64 // u, v and height of one voxel, on each axis of the grid
	order [3]int
	near  int // the slab that was met last
}

// oblique sets the voxels of a grid that the planes lie across.
func (s *stack) oblique(b *brush, m *canvas, used []plane) error {
	w := sweep{b: b, order: s.basis.order}
	for a := range 3 {
		for c := range 3 {
			w.step[a][c] = float64(s.basis.g.Spacing[a] * voxel.Dot(s.basis.g.Axes[a], s.basis.unit[c]))
		}
	}
	row := &w.step[w.order[0]]
	row[0], row[1] = 1, 0 // but for rounding
	if math.Abs(row[2]) < 1e-12 {
		row[2] = 0
	}
	for _, p := range used {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		w.slabs = append(w.slabs, newSlab(s, p))
	}
	stride, box := m.stride(), m.box
	o := w.order
	from, n := box.Min[o[0]], box.Size()[o[0]]
	inside, count := make([]uint8, points*n), make([]int, n)
	outline := make([]uint64, n)
	for k := box.Min[o[2]]; k < box.Max[o[2]]; k++ {
		for j := box.Min[o[1]]; j < box.Max[o[1]]; j++ {
			at := (j-box.Min[o[1]])*stride[o[1]] + (k-box.Min[o[2]])*stride[o[2]]
			if b.rule.Voxel == "coverage" {
				clear(count)
				for sub := range points * points {
					y, z := offset(sub%points), offset(sub/points)
					clear(inside)
					if err := w.row(inside, nil, float64(from)+offset(0), 1./points, float64(j)+y, float64(k)+z); err != nil {
						return err
					}
					for i, v := range inside {
						count[i/points] += int(v)
					}
				}
				for i, c := range count {
					if float64(c) >= float64(b.rule.Coverage*points*points*points) {
						m.Data[at+i*stride[o[0]]] = 1
					}
				}
				continue
			}
			row := inside[:n]
			clear(row)
			clear(outline)
			if err := w.row(row, outline, float64(from), 1, float64(j), float64(k)); err != nil {
				return err
			}
			for i, v := range row {
				m.Data[at+i*stride[o[0]]] = v
			}
		}
	}
	return nil
}

// offset is where a point of a voxel lies from its centre.
func offset(i int) float64 { return (float64(i)+0.5)/points - 0.5 }

// row sets the points of a row that lie inside the contours: those at start, start + step, ... on the first axis of the
// order, and at j and k on the others. Between the sides of a slab it is [brush.fill] for one row.
func (w *sweep) row(into []uint8, outline []uint64, start, step, j, k float64) error {
	var base [3]float64
	for c := range base {
		base[c] = float64(w.step[w.order[1]][c]*j) + float64(w.step[w.order[2]][c]*k) + float64(w.step[w.order[0]][c]*start)
	}
	v := snap(base[1], 1<<30)
	rise := float64(w.step[w.order[0]][2] * step)
	height := func(i int) float64 { return snap(base[2]+float64(rise*float64(i)), 1<<20) }
	closed := outline != nil && w.b.rule.Boundary != "half-open"
	for i := 0; i < len(into); {
		n := w.find(height(i))
		end := len(into)
		if rise != 0 {
			for end = i + 1; end < len(into) && w.find(height(end)) == n; end++ {
			}
		}
		if n < 0 {
			i = end
			continue
		}
		slab := &w.slabs[n]
		bucket := slab.bucket(v)
		edges := slab.edge[slab.first[bucket]:slab.first[bucket+1]]
		if err := w.b.did(len(edges)); err != nil {
			return err
		}
		piece := into[i:end]
		from := base[0] + float64(step*float64(i))
		for _, e := range edges {
			p, q := slab.ordered(e)
			if p[1] <= v && v < q[1] {
				x := math.Ceil(snap((crossing(p, q, v)-from)/step, 1<<20))
				if x < float64(len(piece)) {
					piece[int(math.Max(x, 0))] ^= 1
				}
			}
			if closed && p[1] <= v && v <= q[1] {
				touch(outline[i:end], p, q, v, from, step)
			}
		}
		var in uint8
		for i, flip := range piece {
			in ^= flip
			piece[i] = in
		}
		i = end
	}
	if closed {
		w.b.settle(into, outline)
	}
	return nil
}

// find is the slab that a height lies in, -1 for none.
func (w *sweep) find(height float64) int {
	if n := w.near; n < len(w.slabs) && w.slabs[n].low <= height && height < w.slabs[n].high {
		return n
	}
	n := sort.Search(len(w.slabs), func(n int) bool { return w.slabs[n].low > height }) - 1
	if n < 0 || height >= w.slabs[n].high {
		return -1
	}
	w.near = n
	return n
}
