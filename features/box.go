package features

import (
	"cmp"
	"math"
	"slices"
)

// A rotation as a unit quaternion (w, x, y, z).
type rotation [4]float64

// axes are the rows of the rotation's matrix: the box's three directions.
func (r rotation) axes() [3][3]float64 {
	w, x, y, z := r[0], r[1], r[2], r[3]
	p := func(a, b float64) float64 { return float64(2 * float64(a*b)) }
	return [3][3]float64{
		{1 - p(y, y) - p(z, z), p(x, y) - p(w, z), p(x, z) + p(w, y)},
		{p(x, y) + p(w, z), 1 - p(x, x) - p(z, z), p(y, z) - p(w, x)},
		{p(x, z) - p(w, y), p(y, z) + p(w, x), 1 - p(x, x) - p(y, y)},
	}
}

// extents are the points' lengths along three directions.
func extents(points [][3]float64, axes *[3][3]float64) (e [3]float64) {
	for k := range 3 {
		a := axes[k]
		lo, hi := math.Inf(1), math.Inf(-1)
		for _, p := range points {
			h := float64(a[0]*p[0]) + float64(a[1]*p[1]) + float64(a[2]*p[2])
			if h < lo {
				lo = h
			}
			if h > hi {
				hi = h
			}
		}
		e[k] = hi - lo
	}
	return e
}

func boxVolume(e [3]float64) float64 { return float64(float64(e[0]*e[1]) * e[2]) }

func boxArea(e [3]float64) float64 {
	return 2 * (float64(e[0]*e[1]) + float64(e[1]*e[2]) + float64(e[2]*e[0]))
}

// A candidate is an orientation of the box.
type candidate struct {
	axes [3][3]float64
	e    [3]float64
	v    float64
}

func newCandidate(points [][3]float64, axes [3][3]float64) candidate {
	e := extents(points, &axes)
	return candidate{axes, e, boxVolume(e)}
}

// orientedBox is the edges of the box of least volume around the corners of a
// hull, in any orientation. The least box has two adjacent faces that each hold
// an edge of the hull (O'Rourke 1985), but trying all pairs of edges is cubic
// and a smooth ROI has a thousand. So it is a search: orientations spread evenly
// and the planes of the largest faces to start from; from the best few, turn
// the box about each of its axes to the exact planar minimum until nothing gets
// smaller, then about small angles in all three. It is never smaller than the
// least box; the test compares it with a much denser search.
func orientedBox(points [][3]float64, faces []tri, spacing [3]float64) [3]float64 {
	starts := []candidate{newCandidate(points, rotation{1, 0, 0, 0}.axes())}
	for _, n := range largestPlanes(faces, spacing, 12) {
		starts = append(starts, planarBox(points, n))
	}
	for _, r := range evenRotations {
		starts = append(starts, newCandidate(points, r.axes()))
	}
	slices.SortStableFunc(starts, func(a, b candidate) int { return cmp.Compare(a.v, b.v) })
	// A hull of few corners has sharper valleys, and each try costs less.
	tries := max(4, 6000/len(points))
	best := starts[0]
	var turned []candidate
	for _, c := range starts[:min(tries, len(starts))] {
		for range 20 {
			before := c.v
			for k := range 3 {
				if n := planarBox(points, c.axes[k]); n.v < c.v {
					c = n
				}
			}
			if c.v >= before*(1-1e-9) {
				break
			}
		}
		turned = append(turned, c)
	}
	slices.SortStableFunc(turned, func(a, b candidate) int { return cmp.Compare(a.v, b.v) })
	for _, c := range turned[:min(max(1, tries/8), len(turned))] {
		if c = descend(points, c); c.v < best.v {
			best = c
		}
	}
	return best.e
}

// descend turns the box about small angles, half as large each time that no
// turn helps. The volume has valleys along which a turn about one axis alone
// climbs, so it turns about the diagonals too.
func descend(points [][3]float64, c candidate) candidate {
	for angle := 1.0 / 8; angle > 1e-5; {
		better := c
		for _, d := range turns {
			var axes [3][3]float64
			r := rotation{1, float64(angle * d[0]), float64(angle * d[1]), float64(angle * d[2])}
			l := math.Sqrt(1 + float64(angle*angle))
			m := rotation{1 / l, r[1] / l, r[2] / l, r[3] / l}.axes()
			for i := range 3 {
				for k := range 3 {
					axes[i][k] = float64(m[i][0]*c.axes[0][k]) + float64(m[i][1]*c.axes[1][k]) + float64(m[i][2]*c.axes[2][k])
				}
			}
			if n := newCandidate(points, axes); n.v < better.v {
				better = n
			}
		}
		if better.v < c.v*(1-1e-12) {
			c = better
		} else {
			angle /= 2
		}
	}
	return c
}

// turns are unit vectors to the faces, edges and corners of a cube.
var turns = func() (out [][3]float64) {
	for k := range 27 {
		d := [3]float64{float64(k%3 - 1), float64(k/3%3 - 1), float64(k/9 - 1)}
		if l := math.Sqrt(inner(d, d)); l > 0 {
			out = append(out, [3]float64{d[0] / l, d[1] / l, d[2] / l})
		}
	}
	return out
}()

// largestPlanes are the unit normals of the planes in which a hull has most
// area, largest first.
func largestPlanes(faces []tri, spacing [3]float64, most int) [][3]float64 {
	type plane struct {
		n    [3]int64
		area float64
	}
	var planes []plane
	at := map[[3]int64]int{}
	for _, f := range faces {
		n := normal(f[0], f[1], f[2])
		d := gcd(gcd(n[0], n[1]), n[2])
		n = [3]int64{n[0] / d, n[1] / d, n[2] / d}
		i, ok := at[n]
		if !ok {
			i = len(planes)
			at[n] = i
			planes = append(planes, plane{n: n})
		}
		planes[i].area += triangleArea(f, spacing)
	}
	slices.SortStableFunc(planes, func(a, b plane) int { return cmp.Compare(b.area, a.area) })
	var out [][3]float64
	for _, p := range planes[:min(most, len(planes))] {
		// Planes in half voxels have normals over the spacing in mm.
		v := [3]float64{float64(p.n[0]) / spacing[0], float64(p.n[1]) / spacing[1], float64(p.n[2]) / spacing[2]}
		l := math.Sqrt(inner(v, v))
		out = append(out, [3]float64{v[0] / l, v[1] / l, v[2] / l})
	}
	return out
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return max(a, -a)
}

// planarBox is the least box with one axis along n: the least rectangle around
// the projection, which has a side on an edge of its outline.
func planarBox(points [][3]float64, n [3]float64) candidate {
	other := [3]float64{1, 0, 0}
	if math.Abs(n[0]) > 0.7 {
		other = [3]float64{0, 1, 0}
	}
	u := cross(n, other)
	l := math.Sqrt(inner(u, u))
	u = [3]float64{u[0] / l, u[1] / l, u[2] / l}
	v := cross(n, u)
	flat := make([][2]float64, len(points))
	for i, p := range points {
		flat[i] = [2]float64{inner(u, p), inner(v, p)}
	}
	a, b := leastRectangle(planarHull(flat))
	w := [3]float64{}
	for k := range w {
		w[k] = float64(a*u[k]) + float64(b*v[k])
	}
	return newCandidate(points, [3][3]float64{n, w, cross(n, w)})
}

// planarHull is Andrew's monotone chain, counter-clockwise.
func planarHull(p [][2]float64) [][2]float64 {
	slices.SortFunc(p, func(a, b [2]float64) int {
		switch {
		case a[0] < b[0] || a[0] == b[0] && a[1] < b[1]:
			return -1
		case a == b:
			return 0
		}
		return 1
	})
	var out [][2]float64
	grow := func(start int, q [2]float64) {
		for len(out) >= start+2 {
			a, b := out[len(out)-2], out[len(out)-1]
			if float64((b[0]-a[0])*(q[1]-a[1]))-float64((b[1]-a[1])*(q[0]-a[0])) > 0 {
				break
			}
			out = out[:len(out)-1]
		}
		out = append(out, q)
	}
	for _, q := range p {
		grow(0, q)
	}
	out = out[:len(out)-1]
	start := len(out)
	for _, q := range slices.Backward(p) {
		grow(start, q)
	}
	return out[:len(out)-1]
}

// leastRectangle is the direction of a side of the rectangle of least area
// around a convex polygon (rotating calipers).
func leastRectangle(p [][2]float64) (a, b float64) {
	n := len(p)
	a, b = 1, 0
	if n < 3 {
		return a, b
	}
	along := func(d, q [2]float64) float64 { return float64(d[0]*q[0]) + float64(d[1]*q[1]) }
	least := math.Inf(1)
	right, top, left := 0, 0, 0
	for i := range n {
		q := p[(i+1)%n]
		d := [2]float64{q[0] - p[i][0], q[1] - p[i][1]}
		l := math.Sqrt(along(d, d))
		if l == 0 {
			continue
		}
		d = [2]float64{d[0] / l, d[1] / l}
		up := [2]float64{-d[1], d[0]}
		back := [2]float64{-d[0], -d[1]}
		climb := func(at int, dir [2]float64) int {
			for k := 0; k < n && along(dir, p[(at+1)%n]) > along(dir, p[at]); k++ {
				at = (at + 1) % n
			}
			return at
		}
		if i == 0 {
			right = climb(1, d)
			top = climb(right, up)
			left = climb(top, back)
		} else {
			right, top, left = climb(right, d), climb(top, up), climb(left, back)
		}
		area := float64((along(d, p[right]) - along(d, p[left])) * (along(up, p[top]) - along(up, p[i])))
		if area < least {
			least, a, b = area, d[0], d[1]
		}
	}
	return a, b
}

// evenRotations spread over the orientations of a box. A box looks the same
// after 24 turns, so the quaternions (1, a, b, c) with |a|, |b|, |c| up to
// tan 22.5° reach them all; these are about 20° apart.
var evenRotations = func() []rotation {
	const step = 0.2
	var out []rotation
	for k := range 5 * 5 * 5 {
		a, b, c := step*float64(k%5-2), step*float64(k/5%5-2), step*float64(k/25-2)
		l := math.Sqrt(1 + float64(a*a) + float64(b*b) + float64(c*c))
		out = append(out, rotation{1 / l, a / l, b / l, c / l})
	}
	return out
}()
