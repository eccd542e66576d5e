package features

import (
	"encoding/binary"
	"math"
	"math/bits"

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

// cubeSums is, for each row of cubes, what its triangles add to six times the
// volume of the mesh: own + at·normal for a cell at the point at, which sums up
// the tetrahedra from the triangles to the grid's origin.
var cubeSums = func() (table [256]struct {
	own    int64
	normal [3]int64
}) {
	for c, tris := range cubes {
		for _, t := range tris {
			table[c].own += dot(normal(point{}, t[0], t[1]), t[2])
			for k, n := range normal(t[0], t[1], t[2]) {
				table[c].normal[k] += n
			}
		}
	}
	return table
}()

// A mesh is the surface of a mask, summed up.
type mesh struct {
	volume, area float64 // mm³, mm²
	// ends are the first and the last vertex of each row along x, by z and then
	// by y; half voxels. The others lie between them.
	ends []point
}

// newMesh runs marching cubes over the mask as if it lay in a larger empty one,
// so that the surface closes where the ROI touches the border. Only cells at the
// surface cost: the rest of a row is skipped eight voxels at a time.
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
	var between, on []point // the ends at 2z+1 and at 2z+2
	for z := -1; z < nz; z++ {
		between, on = between[:0], on[:0]
		for y := -1; y < ny; y++ {
			r := [4][]uint8{row(y, z), row(y+1, z), row(y, z+1), row(y+1, z+1)}
			start, end := nx, -1
			for _, r := range r {
				if first, last := span(r); first <= last {
					start, end = min(start, first), max(end, last)
				}
			}
			// The first and the last cell with a vertex on its far edge along x, y, z.
			first, last := [3]int{-1, -1, -1}, [3]int{}
			c := 0
			for x := start; x <= end+1; x++ { // cells from x-1 to x
				c = c >> 1 & 0x55 // the corners at x of the cell before are those at x-1 of this one
				if c == 0 || c == 0x55 {
					x += alike(r, x, c != 0)
				}
				if x < nx {
					c |= int(r[0][x])<<1 | int(r[1][x])<<3 | int(r[2][x])<<5 | int(r[3][x])<<7
				}
				if c == 0 || c == 255 {
					continue
				}
				count[c]++
				n := &cubeSums[c]
				six += n.own + int64(2*x-2)*n.normal[0] + int64(2*y)*n.normal[1] + int64(2*z)*n.normal[2]
				const far = 7
				for k := range 3 {
					if near := far &^ (1 << k); (c>>near^c>>far)&1 == 1 {
						last[k] = x
						if first[k] < 0 {
							first[k] = x
						}
					}
				}
			}
			ends := func(list []point, k int) []point {
				if first[k] < 0 {
					return list
				}
				v := point{int32(2 * first[k]), int32(2*y + 2), int32(2*z + 2)}
				v[k]--
				list = append(list, v)
				if last[k] > first[k] {
					v[0] += int32(2 * (last[k] - first[k]))
					list = append(list, v)
				}
				return list
			}
			between = ends(between, 2)
			on = ends(ends(on, 1), 0)
		}
		out.ends = append(append(out.ends, between...), on...)
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

// alike is how many voxels from x on are all in (or all outside) in each of the
// rows; it may stop early near the rows' end.
func alike(rows [4][]uint8, x int, in bool) int {
	const ones = 0x0101010101010101
	n := 0
	for ; x+n+8 <= len(rows[0]); n += 8 {
		at := func(r []uint8) uint64 { return binary.LittleEndian.Uint64(r[x+n:]) }
		other := at(rows[0]) | at(rows[1]) | at(rows[2]) | at(rows[3])
		if in {
			other = at(rows[0])&at(rows[1])&at(rows[2])&at(rows[3]) ^ ones
		}
		if other != 0 {
			return n + bits.TrailingZeros64(other)/8
		}
	}
	return n
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
