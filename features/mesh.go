package features

import (
	"math"

	"github.com/radnode/radnode/features/voxel"
)

// The surface of a mask is made by marching cubes at 0.5 (manual 3.1, IBSI
// HCUG). For a mask of zeros and ones every vertex lies halfway between two
// voxels, so a mesh is made of whole numbers: lengths are counted in half
// voxels until the spacing comes in, and sums over it are exact.

// A point is a place in half voxels.
type point [3]int32

// A tri is a triangle, counter-clockwise from outside.
type tri [3]point

// cube is what marching cubes does for one of the 256 ways in which the eight
// corners of a cell can be inside: corner c is at (c&1, c>>1&1, c>>2&1).
var cubes = func() (table [256][]tri) {
	for inside := range table {
		table[inside] = cubeTriangles(inside)
	}
	return table
}()

// cubeFaces are the corners of the six faces of a cell, counter-clockwise from
// outside.
var cubeFaces = [6][4]int{
	{0, 4, 6, 2}, {1, 3, 7, 5}, // x = 0, 1
	{0, 1, 5, 4}, {2, 6, 7, 3}, // y = 0, 1
	{0, 2, 3, 1}, {4, 5, 7, 6}, // z = 0, 1
}

// cubeTriangles derives one row of the table instead of copying it from a
// publication. On each face, every run of outside corners is cut off from the
// rest by one segment: where two diagonal corners are inside, they are joined.
// The rule sees the face only, so the two cells that share it agree and the
// mesh is closed. The segments chain to loops, which [triangulate] fills.
func cubeTriangles(inside int) []tri {
	in := func(c int) bool { return inside>>c&1 == 1 }
	middle := func(a, b int) point { // of the edge between corners a and b, in half voxels
		var p point
		for k := range p {
			p[k] = int32(a>>k&1 + b>>k&1)
		}
		return p
	}
	next := map[point]point{} // segments, from vertex to vertex
	for _, f := range cubeFaces {
		for i := range f {
			before := f[(i+3)%4]
			if in(f[i]) || !in(before) {
				continue
			}
			// A run of outside corners starts at f[i].
			j := i
			for !in(f[(j+1)%4]) {
				j = (j + 1) % 4
			}
			next[middle(f[j], f[(j+1)%4])] = middle(before, f[i])
		}
	}
	var tris []tri
	for a := range 8 { // a fixed order of the edges, by their corners
		for k := range 3 {
			b := a | 1<<k
			start := middle(a, b)
			if _, ok := next[start]; a == b || !ok {
				continue
			}
			loop := []point{start}
			for p := next[start]; p != start; p = next[p] {
				loop = append(loop, p)
			}
			for _, p := range loop {
				delete(next, p)
			}
			tris = append(tris, triangulate(loop)...)
		}
	}
	return tris
}

// triangulate fills a loop. Loops of five and more corners are not flat, and the
// choice shows in the second figure of the surface area. Of all triangulations
// it takes the one of largest area, and of those the one of largest volume: for
// the loops that are not ambiguous that is the one of the classical tables
// (Lorensen and Cline 1987), with which the IBSI's references were made, and it
// does not depend on the order of the axes.
func triangulate(loop []point) []tri {
	var best []tri
	bestArea, bestSix := -1.0, int64(0)
	for _, tris := range triangulations(loop) {
		area, six := 0.0, int64(0)
		for _, t := range tris {
			area += triangleArea(t, [3]float64{1, 1, 1})
			six += dot(normal(point{}, t[0], t[1]), t[2])
		}
		const equal = 1e-9
		if area > bestArea+equal || area > bestArea-equal && six > bestSix {
			best, bestArea, bestSix = tris, area, six
		}
	}
	return best
}

// triangulations are all ways to fill a polygon: the first edge belongs to a
// triangle with any other corner.
func triangulations(loop []point) [][]tri {
	if len(loop) < 3 {
		return [][]tri{nil}
	}
	last := len(loop) - 1
	var all [][]tri
	for k := 1; k < last; k++ {
		for _, a := range triangulations(loop[:k+1]) {
			for _, b := range triangulations(loop[k:]) {
				t := append(append([]tri{{loop[0], loop[k], loop[last]}}, a...), b...)
				all = append(all, t)
			}
		}
	}
	return all
}

// A mesh is the surface of a mask, summed up.
type mesh struct {
	volume, area float64 // mm³, mm²
	vertices     []point // each at least once; half voxels
}

// newMesh runs marching cubes over the mask as if it lay in a larger empty one,
// so that the surface closes where the ROI touches the border.
func newMesh(m *voxel.Mask) mesh {
	nx, ny, nz := m.Size[0], m.Size[1], m.Size[2]
	var out mesh
	var six int64 // six times the volume, in half voxels cubed
	var count [256]int
	empty := make([]uint8, nx)
	row := func(y, z int) []uint8 {
		if y < 0 || y >= ny || z < 0 || z >= nz {
			return empty
		}
		return m.Data[(z*ny+y)*nx:][:nx]
	}
	for z := -1; z < nz; z++ {
		for y := -1; y < ny; y++ {
			rows := [4][]uint8{row(y, z), row(y+1, z), row(y, z+1), row(y+1, z+1)}
			c := 0 // the corners at x+1 of the cell before are those at x of this one
			for x := -1; x < nx; x++ {
				c = c >> 1 & 0x55
				if x+1 < nx {
					c |= int(rows[0][x+1]&1)<<1 | int(rows[1][x+1]&1)<<3 | int(rows[2][x+1]&1)<<5 | int(rows[3][x+1]&1)<<7
				}
				if c == 0 || c == 255 {
					continue
				}
				count[c]++
				at := point{int32(2 * x), int32(2 * y), int32(2 * z)}
				for _, t := range cubes[c] {
					p, q, r := add(at, t[0]), add(at, t[1]), add(at, t[2])
					// Signed tetrahedra from the grid's origin.
					six += dot(normal(point{}, p, q), r)
				}
				// Each vertex lies on an edge; a cell adds those of its far edges.
				const far = 7
				for k := range 3 {
					if near := far &^ (1 << k); (c>>near^c>>far)&1 == 1 {
						v := add(at, point{2, 2, 2})
						v[k]--
						out.vertices = append(out.vertices, v)
					}
				}
			}
		}
	}
	s := m.Spacing
	out.volume = float64(six) / 48 * float64(float64(s[0]*s[1])*s[2])
	for c, n := range count {
		a := 0.0
		for _, t := range cubes[c] {
			a += triangleArea(t, s)
		}
		out.area += float64(float64(n) * a)
	}
	return out
}

func add(p, q point) point { return point{p[0] + q[0], p[1] + q[1], p[2] + q[2]} }

// normal is (b-a) × (c-a), twice the area of the triangle. Grids have at most
// 2¹⁵ voxels an axis, so products of three coordinates fit 63 bits.
func normal(a, b, c point) [3]int64 {
	var u, v [3]int64
	for k := range u {
		u[k], v[k] = int64(b[k]-a[k]), int64(c[k]-a[k])
	}
	return [3]int64{u[1]*v[2] - u[2]*v[1], u[2]*v[0] - u[0]*v[2], u[0]*v[1] - u[1]*v[0]}
}

func dot(n [3]int64, p point) int64 {
	return n[0]*int64(p[0]) + n[1]*int64(p[1]) + n[2]*int64(p[2])
}

// triangleArea is in mm².
func triangleArea(t tri, spacing [3]float64) float64 {
	n := normal(t[0], t[1], t[2])
	x := float64(float64(n[0]) * float64(spacing[1]*spacing[2]))
	y := float64(float64(n[1]) * float64(spacing[2]*spacing[0]))
	z := float64(float64(n[2]) * float64(spacing[0]*spacing[1]))
	return math.Sqrt(float64(x*x)+float64(y*y)+float64(z*z)) / 8
}
