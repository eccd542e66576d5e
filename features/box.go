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

// bounds are the least and the greatest place of the points along a.
func bounds(points [][3]float64, a [3]float64) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, p := range points {
		h := float64(a[0]*p[0]) + float64(a[1]*p[1]) + float64(a[2]*p[2])
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
// the box about each of its axes to the exact planar minimum until it hardly gets
// smaller, then about small angles in all three. It is never smaller than the
// least box; the test compares it with a much denser search.
func orientedBox(points [][3]float64, faces []tri, spacing [3]float64) [3]float64 {
	var room planar
	starts := []candidate{newCandidate(points, rotation{1, 0, 0, 0}.axes())}
	for _, n := range largestPlanes(faces, spacing, 12) {
		starts = append(starts, room.box(points, n))
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
		// planar.box leaves n as axis 0, so the two others are what is left to try.
		// A hull stretched by the spacing can get smaller for thousands of turns.
		for k, failed, turns := 0, 0, 0; failed < 3 && turns < 30; k, turns = (k+1)%3, turns+1 {
			if n := room.box(points, c.axes[k]); n.v < c.v*(1-1e-6) {
				c, k, failed = n, 0, 1
			} else {
				failed++
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
	var low, high [3][][3]float64
	for angle := 1.0 / 8; angle > 1e-5; {
		// The turn has twice the angle at most, so a unit vector moves by less than
		// twice the angle, and a point farther from the box's side than that times
		// the box's diagonal does not come to touch it.
		reach := float64(2.001 * float64(angle*math.Sqrt(inner(c.e, c.e))))
		for k, a := range c.axes {
			lo, hi := bounds(points, a)
			low[k], high[k] = low[k][:0], high[k][:0]
			for _, p := range points {
				h := inner(a, p)
				if h <= lo+reach {
					low[k] = append(low[k], p)
				}
				if h >= hi-reach {
					high[k] = append(high[k], p)
				}
			}
		}
		better := c
		for _, d := range turns {
			var n candidate
			r := rotation{1, float64(angle * d[0]), float64(angle * d[1]), float64(angle * d[2])}
			l := math.Sqrt(1 + float64(angle*angle))
			m := rotation{1 / l, r[1] / l, r[2] / l, r[3] / l}.axes()
			for i := range 3 {
				for k := range 3 {
					n.axes[i][k] = float64(m[i][0]*c.axes[0][k]) + float64(m[i][1]*c.axes[1][k]) + float64(m[i][2]*c.axes[2][k])
				}
				lo, _ := bounds(low[i], n.axes[i])
				_, hi := bounds(high[i], n.axes[i])
				n.e[i] = hi - lo
			}
			if n.v = boxVolume(n.e); n.v < better.v {
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
		if k != 13 { // 0
			out = append(out, unit([3]float64{float64(k%3 - 1), float64(k/3%3 - 1), float64(k/9 - 1)}))
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
		out = append(out, unit([3]float64{float64(p.n[0]) / spacing[0], float64(p.n[1]) / spacing[1], float64(p.n[2]) / spacing[2]}))
	}
	return out
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return max(a, -a)
}

// A planar is the room for points in a plane, used again by each box.
type planar struct {
	flat, sorted, hull [][2]float64
	end                []int
}

// box is the least box with axis 0 along n: the least rectangle around the
// projection, which has a side on an edge of its outline.
func (r *planar) box(points [][3]float64, n [3]float64) candidate {
	n = unit(n) // or each turn would double the error of its length
	other := [3]float64{1, 0, 0}
	if math.Abs(n[0]) > 0.7 {
		other = [3]float64{0, 1, 0}
	}
	u := unit(cross(n, other))
	v := cross(n, u)
	r.flat = r.flat[:0]
	for _, p := range points {
		r.flat = append(r.flat, [2]float64{inner(u, p), inner(v, p)})
	}
	r.sort()
	r.outline()
	a, b := leastRectangle(r.hull)
	w := [3]float64{}
	for k := range w {
		w[k] = float64(a*u[k]) + float64(b*v[k])
	}
	return newCandidate(points, [3][3]float64{n, w, cross(n, w)})
}

// sort is flat by x and then y to sorted: into as many strips of x as there are
// points, then within each.
func (r *planar) sort() {
	n := len(r.flat)
	lo, hi := r.flat[0][0], r.flat[0][0]
	for _, p := range r.flat {
		if p[0] < lo {
			lo = p[0]
		}
		if p[0] > hi {
			hi = p[0]
		}
	}
	if !(hi > lo) {
		hi = lo + 1
	}
	scale := float64(n-1) / (hi - lo)
	r.end = append(r.end[:0], make([]int, n+1)...)
	for _, p := range r.flat {
		r.end[int((p[0]-lo)*scale)+1]++
	}
	for i := range n {
		r.end[i+1] += r.end[i]
	}
	r.sorted = append(r.sorted[:0], r.flat...)
	for _, p := range r.flat {
		at := &r.end[int((p[0]-lo)*scale)]
		r.sorted[*at] = p
		*at++
	}
	start := 0
	for _, end := range r.end[:n] {
		if end-start > 1 {
			slices.SortFunc(r.sorted[start:end], func(a, b [2]float64) int {
				switch {
				case a[0] < b[0] || a[0] == b[0] && a[1] < b[1]:
					return -1
				case a == b:
					return 0
				}
				return 1
			})
		}
		start = end
	}
}

// outline is the convex hull of sorted by Andrew's monotone chain,
// counter-clockwise.
func (r *planar) outline() {
	out := r.hull[:0]
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
	for _, q := range r.sorted {
		grow(0, q)
	}
	out = out[:len(out)-1]
	start := len(out)
	for _, q := range slices.Backward(r.sorted) {
		grow(start, q)
	}
	r.hull = out[:len(out)-1]
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
