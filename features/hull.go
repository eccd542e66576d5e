package features

import (
	"cmp"
	"math"
	"slices"

	"github.com/radnode/radnode/features/voxel"
)

// A hull is the convex hull of a mesh. The mesh's vertices are whole numbers
// (half voxels) and scaling the axes keeps convexity, so every decision is made
// in integers: no tolerance, and coplanar or collinear points are no case apart.
type hull struct {
	faces    []tri   // triangles, counter-clockwise from outside; coplanar ones may be adjacent
	vertices []point // its corners, without points inside an edge or a face
}

// newHull needs four points that are not in one plane, which the mesh of a
// single voxel has already.
func newHull(vertices []point) hull {
	q := quickhull{points: outline(vertices)}
	q.run()
	var h hull
	for _, f := range q.faces {
		if !f.gone {
			h.faces = append(h.faces, tri{q.points[f.v[0]], q.points[f.v[1]], q.points[f.v[2]]})
		}
	}
	h.vertices = q.corners()
	return h
}

// outline drops points that cannot be corners: for each z it keeps the corners
// of the planar hull (Andrew's monotone chain).
func outline(points []point) []point {
	points = slices.Clone(points)
	slices.SortFunc(points, func(a, b point) int {
		if a[2] != b[2] {
			return cmp.Compare(a[2], b[2])
		}
		if a[1] != b[1] {
			return cmp.Compare(a[1], b[1])
		}
		return cmp.Compare(a[0], b[0])
	})
	points = slices.Compact(points)
	var out []point
	for len(points) > 0 {
		n := 1
		for n < len(points) && points[n][2] == points[0][2] {
			n++
		}
		out = appendPlanarHull(out, points[:n])
		points = points[n:]
	}
	return out
}

func appendPlanarHull(out []point, sorted []point) []point {
	if len(sorted) < 3 {
		return append(out, sorted...)
	}
	turn := func(a, b, c point) int64 { // normal(a, b, c)[2]
		return int64(b[0]-a[0])*int64(c[1]-a[1]) - int64(b[1]-a[1])*int64(c[0]-a[0])
	}
	half := func(start int, p point) {
		for len(out) >= start+2 && turn(out[len(out)-2], out[len(out)-1], p) >= 0 {
			out = out[:len(out)-1]
		}
		out = append(out, p)
	}
	start := len(out)
	for _, p := range sorted {
		half(start, p)
	}
	out = out[:len(out)-1]
	start = len(out)
	for _, p := range slices.Backward(sorted) {
		half(start, p)
	}
	return out[:len(out)-1]
}

// quickhull is the algorithm of Barber, Dobkin and Huhdanpaa (1996). A face is
// visible from a point strictly above its plane only; then no new triangle can
// be flat, also where points lie in the plane of a face.
type quickhull struct {
	points []point
	faces  []hullFace
	next   []int32 // of a point: the next one of its face's list, or -1
}

type hullFace struct {
	v        [3]int32 // points
	adjacent [3]int32 // adjacent[i] shares the edge v[i], v[i+1]
	normal   [3]int64
	offset   int64
	outside  int32 // first of the points above it
	farthest int32
	height   int64 // of the farthest
	gone     bool
}

func (q *quickhull) face(a, b, c int32) int32 {
	n := normal(q.points[a], q.points[b], q.points[c])
	q.faces = append(q.faces, hullFace{v: [3]int32{a, b, c}, normal: n, offset: dot(n, q.points[a]), outside: -1})
	return int32(len(q.faces) - 1)
}

// above is positive for a point outside the face's plane.
func (q *quickhull) above(f, p int32) int64 {
	return dot(q.faces[f].normal, q.points[p]) - q.faces[f].offset
}

// give puts p on the list of the first of the faces that it is above.
func (q *quickhull) give(p int32, faces []int32) {
	for _, f := range faces {
		if h := q.above(f, p); h > 0 {
			face := &q.faces[f]
			q.next[p] = face.outside
			face.outside = p
			if h > face.height {
				face.height, face.farthest = h, p
			}
			return
		}
	}
}

func (q *quickhull) run() {
	q.next = make([]int32, len(q.points))
	faces := q.simplex()
	for p := range int32(len(q.points)) {
		q.give(p, faces)
	}
	var visible, horizon []int32
	for f := int32(0); int(f) < len(q.faces); f++ { // new faces are appended
		if q.faces[f].gone || q.faces[f].outside < 0 {
			continue
		}
		p := q.faces[f].farthest
		visible, horizon = q.look(f, p, visible[:0], horizon[:0])
		// horizon holds pairs: a hidden face and the edge of it that borders
		// the visible ones, in a cycle.
		first := int32(len(q.faces))
		n := int32(len(horizon) / 2)
		for i := range n {
			hidden, e := horizon[2*i], horizon[2*i+1]
			a, b := q.faces[hidden].v[(e+1)%3], q.faces[hidden].v[e]
			nf := q.face(a, b, p)
			q.faces[nf].adjacent = [3]int32{hidden, first + (i+1)%n, first + (i+n-1)%n}
			q.faces[hidden].adjacent[e] = nf
		}
		fresh := make([]int32, n)
		for i := range fresh {
			fresh[i] = first + int32(i)
		}
		for _, v := range visible {
			for o := q.faces[v].outside; o >= 0; {
				nextO := q.next[o]
				if o != p {
					q.give(o, fresh)
				}
				o = nextO
			}
			q.faces[v].outside = -1
		}
	}
}

// look marks the faces that p sees, starting with f, and lists the horizon
// around them counter-clockwise.
func (q *quickhull) look(f, p int32, visible, horizon []int32) ([]int32, []int32) {
	type step struct{ face, edge, left int32 }
	q.faces[f].gone = true
	visible = append(visible, f)
	stack := []step{{f, 0, 3}}
	for len(stack) > 0 {
		s := &stack[len(stack)-1]
		if s.left == 0 {
			stack = stack[:len(stack)-1]
			continue
		}
		e := s.edge
		s.edge, s.left = (e+1)%3, s.left-1
		n := q.faces[s.face].adjacent[e]
		if q.faces[n].gone {
			continue
		}
		a := q.faces[s.face].v[e] // the edge in n runs the other way and ends here
		back := int32(0)
		for q.faces[n].v[(back+1)%3] != a || q.faces[n].v[back] != q.faces[s.face].v[(e+1)%3] {
			back++
		}
		if q.above(n, p) > 0 {
			q.faces[n].gone = true
			visible = append(visible, n)
			stack = append(stack, step{n, (back + 1) % 3, 2})
		} else {
			horizon = append(horizon, n, back)
		}
	}
	return visible, horizon
}

// simplex starts the hull with four points that are not in one plane.
func (q *quickhull) simplex() []int32 {
	best := func(score func(int32) int64) int32 {
		at, high := int32(0), int64(-1)
		for p := range int32(len(q.points)) {
			if s := score(p); s > high {
				at, high = p, s
			}
		}
		return at
	}
	abs := func(v int64) int64 { return max(v, -v) }
	a := best(func(p int32) int64 { return 1<<32 - int64(q.points[p][0]) })
	b := best(func(p int32) int64 {
		s := int64(0)
		for k := range 3 {
			d := int64(q.points[p][k] - q.points[a][k])
			s += d * d
		}
		return s
	})
	c := best(func(p int32) int64 {
		n := normal(q.points[a], q.points[b], q.points[p])
		return abs(n[0]) + abs(n[1]) + abs(n[2])
	})
	n := normal(q.points[a], q.points[b], q.points[c])
	d := best(func(p int32) int64 { return abs(dot(n, q.points[p]) - dot(n, q.points[a])) })
	if dot(n, q.points[d]) > dot(n, q.points[a]) {
		b, c = c, b
	}
	f := []int32{q.face(a, b, c), q.face(a, d, b), q.face(b, d, c), q.face(c, d, a)}
	q.faces[0].adjacent = [3]int32{1, 2, 3}
	q.faces[1].adjacent = [3]int32{3, 2, 0}
	q.faces[2].adjacent = [3]int32{1, 3, 0}
	q.faces[3].adjacent = [3]int32{2, 1, 0}
	return f
}

// corners are the points whose faces have normals in three dimensions, in the
// order of the faces.
func (q *quickhull) corners() []point {
	type span struct {
		rank int
		a    [3]float64 // first normal, then the cross product of two
	}
	spans := make([]span, len(q.points))
	var order []int32
	for _, f := range q.faces {
		if f.gone {
			continue
		}
		n := f.normal
		u := unit([3]float64{float64(n[0]), float64(n[1]), float64(n[2])})
		for _, p := range f.v {
			const parallel = 1e-12 // whole-number normals differ by more
			switch s := &spans[p]; s.rank {
			case 0:
				*s = span{1, u}
				order = append(order, p)
			case 1:
				c := voxel.Cross(s.a, u)
				if voxel.Dot(c, c) > parallel*parallel {
					*s = span{2, c}
				}
			case 2:
				if d := voxel.Dot(s.a, u); d*d > parallel*parallel*voxel.Dot(s.a, s.a) {
					s.rank = 3
				}
			}
		}
	}
	var out []point
	for _, p := range order {
		if spans[p].rank == 3 {
			out = append(out, q.points[p])
		}
	}
	return out
}

// measure is the volume and area in mm.
func (h hull) measure(spacing [3]float64) (volume, area float64) {
	var six int64
	for _, t := range h.faces {
		six += dot(normal(point{}, t[0], t[1]), t[2])
		area += triangleArea(t, spacing)
	}
	return float64(six) / 48 * float64(float64(spacing[0]*spacing[1])*spacing[2]), area
}

// millimetres places the corners, counted from the first one, so that the bits
// do not depend on where in the image the ROI lies.
func (h hull) millimetres(spacing [3]float64) [][3]float64 {
	out := make([][3]float64, len(h.vertices))
	for i, p := range h.vertices {
		for k := range 3 {
			out[i][k] = float64(float64(p[k]-h.vertices[0][k])*spacing[k]) / 2
		}
	}
	return out
}

// diameter is the largest distance between two points.
func diameter(points [][3]float64) float64 {
	far := 0.0
	for i, p := range points {
		for _, q := range points[:i] {
			x, y, z := p[0]-q[0], p[1]-q[1], p[2]-q[2]
			far = max(far, float64(x*x)+float64(y*y)+float64(z*z))
		}
	}
	return math.Sqrt(far)
}

// unit is the direction of a.
func unit(a [3]float64) [3]float64 {
	l := math.Sqrt(voxel.Dot(a, a))
	return [3]float64{a[0] / l, a[1] / l, a[2] / l}
}
