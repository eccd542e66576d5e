package features

import (
	"bytes"
	"cmp"
	"math"
	"slices"

	"github.com/radnode/radnode/features/voxel"
)

// localIntensityTable is the manual's section 3.2.
var localIntensityTable = []Feature{
	{Tag: "loc_peak_loc", Code: "VJGA", Name: "Local intensity peak", Unit: UnitIntensity, Section: "3.2.1", Standardised: true},
	{Tag: "loc_peak_glob", Code: "0F91", Name: "Global intensity peak", Unit: UnitIntensity, Section: "3.2.2", Standardised: true},
}

// sphereRadius is the radius in mm of a sphere of 1 cm³, (3/4π)^⅓ cm.
const sphereRadius = 6.203504908994

// sphereReach is how many voxels the sphere reaches on each axis.
func sphereReach(spacing [3]float64) [3]int {
	var n [3]int
	for a := range n {
		n[a] = int(math.Floor(sphereRadius / spacing[a]))
	}
	return n
}

// localIntensity computes section 3.2 over the intensity mask (IBSI 9ST6). The
// mean in a sphere takes every voxel whose centre is at most sphereRadius away,
// also outside the ROI, as far as there is an image.
func localIntensity(roi *ROI, v *values) {
	if roi.Intensity.Count() == 0 {
		v.allMissing(reasonNoIntensity)
		return
	}
	mean := sphereMeans(roi)
	highest, local, global := math.Inf(-1), math.Inf(-1), math.Inf(-1)
	n := 0
	for i, in := range roi.Intensity.Data {
		if in == 0 {
			continue
		}
		x := float64(roi.Image.Data[i])
		switch {
		case x > highest:
			highest, local = x, mean[n]
		case x == highest: // of several maxima the highest peak counts
			local = math.Max(local, mean[n])
		}
		global = math.Max(global, mean[n])
		n++
	}
	v.add("loc_peak_loc", local)
	v.add("loc_peak_glob", global)
}

// A chord is a row of voxels of the sphere, all dx from -half to half, at dy and
// at dz as well as at -dz.
type chord struct{ half, dy, dz int }

// chords cut the sphere into rows along x, those of one length together.
func chords(spacing [3]float64) []chord {
	var list []chord
	n := sphereReach(spacing)
	const r2 = sphereRadius * sphereRadius
	for dz := 0; dz <= n[2]; dz++ {
		for dy := -n[1]; dy <= n[1]; dy++ {
			y, z := float64(float64(dy)*spacing[1]), float64(float64(dz)*spacing[2])
			half := -1
			for dx := 0; dx <= n[0]; dx++ {
				x := float64(float64(dx) * spacing[0])
				if float64(x*x)+float64(y*y)+float64(z*z) <= r2 {
					half = dx
				}
			}
			if half >= 0 {
				list = append(list, chord{half, dy, dz})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b chord) int { return cmp.Compare(a.half, b.half) })
	return list
}

// sphereVoxels is how many voxels the sphere holds where it lies inside the image.
func sphereVoxels(list []chord) int64 {
	n := 0
	for _, c := range list {
		n += (2*c.half + 1) * min(1+c.dz, 2)
	}
	return int64(n)
}

// sphereMeans is the mean in the sphere around each voxel of the intensity
// mask, x fastest. Where the image holds whole numbers only, as CT does, one
// 64-bit sum holds those of two slices, one in each half: what overflows on the
// way does so modulo 2⁶⁴, and the sums that come out fit 32 bits.
func sphereMeans(roi *ROI) []float64 {
	g, mask := roi.Image, roi.Intensity
	nx, ny, nz := g.Size[0], g.Size[1], g.Size[2]
	list := chords(g.Spacing)
	count := newSphereCount(list, g.Size, g.Spacing)
	out := make([]float64, mask.Count())
	slice := make([][]float64, nz) // its part of out
	for z, n := 0, 0; z < nz; z++ {
		slice[z] = out[n:n]
		n += bytes.Count(mask.Data[z*ny*nx:][:ny*nx], []byte{1})
	}
	row := func(y, z int) []float32 { return g.Data[(z*ny+y)*nx:][:nx] }

	if lowest, spread, whole := wholeNumbers(g.Data); whole && spread*sphereVoxels(list) <= math.MaxUint32 {
		sphereSums(mask, list, 2, func(sum []uint64, y, z int) {
			for lane := range 2 {
				if z+lane < 0 || z+lane >= nz {
					continue
				}
				s := uint64(0)
				for x, v := range row(y, z+lane) {
					s += uint64(int64(v)-lowest) << (32 * lane)
					sum[x+1] += s
				}
			}
		}, func(y, z, first int, sums []uint64) {
			for lane := range min(2, nz-z) {
				in := mask.Data[((z+lane)*ny+y)*nx+first:][:len(sums)]
				count.row(y, z+lane)
				means := slice[z+lane]
				for i, s := range sums {
					if in[i] != 0 {
						n := count.at(first + i)
						total := int64(s>>(32*lane)&math.MaxUint32) + int64(n)*lowest
						means = append(means, float64(total)/float64(n))
					}
				}
				slice[z+lane] = means
			}
		})
		return out
	}
	sphereSums(mask, list, 1, func(sum []float64, y, z int) {
		if z < 0 || z >= nz {
			return
		}
		for x, v := range row(y, z) {
			sum[x+1] = sum[x] + float64(v)
		}
	}, func(y, z, first int, sums []float64) {
		in := mask.Data[(z*ny+y)*nx+first:][:len(sums)]
		count.row(y, z)
		means := slice[z]
		for i, s := range sums {
			if in[i] != 0 {
				means = append(means, s/float64(count.at(first+i)))
			}
		}
		slice[z] = means
	})
	return out
}

// wholeNumbers is whether all samples are whole numbers that fit a float32's
// precision, the lowest, and how far above it the highest is.
func wholeNumbers(data []float32) (lowest, spread int64, whole bool) {
	lo, hi := int32(math.MaxInt32), int32(math.MinInt32)
	for _, v := range data {
		if v < -1<<24 || v > 1<<24 {
			return 0, 0, false
		}
		n := int32(v)
		if v != float32(n) {
			return 0, 0, false
		}
		lo, hi = min(lo, n), max(hi, n)
	}
	return int64(lo), int64(hi) - int64(lo), true
}

// sphereSums adds up the sphere around each voxel from the first to the last of
// the mask in each row, and hands each row to use. It works on as many slices at
// once as a T has lanes; running adds the running sums of such a row, whose first
// slice is z, to zeros. Samples outside the image count as 0.
//
// The sphere is the same above and below, so the slices z+dz and z-dz are added
// first. A chord is a difference of two running sums, and chords of one length
// lie at the same two places of their rows: those rows are added before the
// difference.
func sphereSums[T float64 | uint64](mask *voxel.Mask, list []chord, lanes int, running func(sum []T, y, z int), use func(y, z, first int, sums []T)) {
	nx, ny, nz := mask.Size[0], mask.Size[1], mask.Size[2]
	reach := sphereReach(mask.Spacing)
	reach[2] = min(reach[2], nz-1)
	width := nx + 1 + 2*reach[0]      // of a row: chords reach beyond both ends
	ring := make([][]T, 2*reach[2]+1) // the slices z-reach … z+reach
	folded := make([][]T, reach[2]+1)
	for i := range ring {
		ring[i] = make([]T, ny*width)
	}
	for dz := 1; dz < len(folded); dz++ {
		folded[dz] = make([]T, ny*width)
	}
	spans := make([][2]int, ny)
	sums, added := make([]T, nx), make([]T, width)
	var rows [][]T
	next := -reach[2] // the first slice that was not in the ring yet
	for z := 0; z < nz; z += lanes {
		x0, x1, y0, y1 := nx, 0, ny, 0 // the voxels around which there is a sum
		for y := range ny {
			spans[y] = [2]int{nx, -1}
			for s := z; s < min(z+lanes, nz); s++ {
				if first, last := span(mask.Data[(s*ny+y)*nx:][:nx]); first <= last {
					spans[y] = [2]int{min(spans[y][0], first), max(spans[y][1], last)}
					x0, x1, y0, y1 = min(x0, first), max(x1, last+1), min(y0, y), y+1
				}
			}
		}
		if y0 >= y1 {
			continue
		}
		for next = max(next, z-reach[2]); next <= z+reach[2]; next++ {
			plane := ring[(next+len(ring))%len(ring)]
			clear(plane)
			for y := range ny {
				row := plane[y*width:][:width]
				running(row[reach[0]:reach[0]+nx+1], y, next)
				for x := reach[0] + nx + 1; x < width; x++ {
					row[x] = row[x-1]
				}
			}
		}
		folded[0] = ring[z%len(ring)]
		for dz := 1; dz < len(folded); dz++ {
			above, below := ring[(z+dz)%len(ring)], ring[(z-dz+len(ring))%len(ring)]
			for y := max(0, y0-reach[1]); y < min(ny, y1+reach[1]); y++ {
				from, to := y*width+x0, y*width+x1+2*reach[0]+1
				f, above, below := folded[dz][from:to], above[from:to], below[from:to]
				for i := range f {
					f[i] = above[i] + below[i]
				}
			}
		}
		for y := y0; y < y1; y++ {
			first, last := spans[y][0], spans[y][1]
			if first > last {
				continue
			}
			sums := sums[:last-first+1]
			clear(sums)
			for c := 0; c < len(list); {
				half := list[c].half
				start, n := first-half+reach[0], len(sums)+2*half+1
				rows = rows[:0]
				for ; c < len(list) && list[c].half == half; c++ {
					if yy := y + list[c].dy; yy >= 0 && yy < ny && list[c].dz < len(folded) {
						rows = append(rows, folded[list[c].dz][yy*width+start:][:n])
					}
				}
				addRows(added[:n], rows)
				hi, lo := added[2*half+1:n], added[:len(sums)]
				for i := range sums {
					sums[i] += hi[i] - lo[i]
				}
			}
			use(y, z, first, sums)
		}
	}
}

// addRows makes sum the sum of rows.
func addRows[T float64 | uint64](sum []T, rows [][]T) {
	clear(sum)
	for ; len(rows) >= 4; rows = rows[4:] {
		a, b, c, d := rows[0][:len(sum)], rows[1][:len(sum)], rows[2][:len(sum)], rows[3][:len(sum)]
		for i := range sum {
			sum[i] += (a[i] + b[i]) + (c[i] + d[i])
		}
	}
	for _, a := range rows {
		a = a[:len(sum)]
		for i := range sum {
			sum[i] += a[i]
		}
	}
}

// A sphereCount counts the voxels of the image in the spheres around a row.
type sphereCount struct {
	list        []chord
	size, reach [3]int
	rows        []int // chords inside the image, by half
	whole       int   // voxels of all of them
	inside      bool  // all chords are
}

func newSphereCount(list []chord, size [3]int, spacing [3]float64) *sphereCount {
	reach := sphereReach(spacing)
	return &sphereCount{list: list, size: size, reach: reach, rows: make([]int, reach[0]+1)}
}

// row takes the row at y and z.
func (c *sphereCount) row(y, z int) {
	was := c.inside
	c.inside = y >= c.reach[1] && y+c.reach[1] < c.size[1] && z >= c.reach[2] && z+c.reach[2] < c.size[2]
	if was && c.inside {
		return
	}
	clear(c.rows)
	c.whole = 0
	for _, k := range c.list {
		if yy := y + k.dy; yy < 0 || yy >= c.size[1] {
			continue
		}
		n := 0
		if z+k.dz < c.size[2] {
			n++
		}
		if k.dz > 0 && z-k.dz >= 0 {
			n++
		}
		c.rows[k.half] += n
		c.whole += n * (2*k.half + 1)
	}
}

// at is the count around x.
func (c *sphereCount) at(x int) int {
	if x >= c.reach[0] && x+c.reach[0] < c.size[0] {
		return c.whole
	}
	n := 0
	for half, rows := range c.rows {
		n += rows * (min(x+half, c.size[0]-1) - max(x-half, 0) + 1)
	}
	return n
}

// span is the first and last index that is 1; first > last for none.
func span(row []uint8) (first, last int) {
	first, last = bytes.IndexByte(row, 1), len(row)-1
	if first < 0 {
		return 0, -1
	}
	for row[last] == 0 {
		last--
	}
	return first, last
}

// run is the next run of ones from index from on; empty for none.
func run(row []uint8, from int) (first, end int) {
	n := bytes.IndexByte(row[from:], 1)
	if n < 0 {
		return 0, 0
	}
	first = from + n
	if n = bytes.IndexByte(row[first:], 0); n < 0 {
		return first, len(row)
	}
	return first, first + n
}
