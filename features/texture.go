package features

import (
	"cmp"
	"math"
	"slices"
)

// Texture matrices count grey levels: of neighbours, runs, zones. A family
// makes the matrix of one slice and direction, or of several that are merged;
// this file says which are merged and how the features of several matrices
// become one value (IBSI 5QB6).

// directions are the 13 unique direction vectors of the neighbourhood (manual
// 3.6); the first four lie in the plane.
var directions = offsets(1, true)

// A part is what one matrix is made of: the voxels of the slices first to
// end-1, and, for a family that has them, the directions.
type part struct {
	first, end int
	along      [][3]int
}

// parts are the matrices of an aggregation.
func (l *levels) parts(a Aggregation) []part {
	first, end := l.slices()
	plane := directions[:4]
	var out []part
	switch a {
	case Agg2D, Agg2DComb:
		for z := first; z < end; z++ {
			out = append(out, part{z, z + 1, plane})
		}
	case Agg2DAvg:
		for z := first; z < end; z++ {
			for d := range plane {
				out = append(out, part{z, z + 1, plane[d : d+1]})
			}
		}
	case Agg25D, Agg25DComb:
		out = append(out, part{first, end, plane})
	case Agg25DAvg:
		for d := range plane {
			out = append(out, part{first, end, plane[d : d+1]})
		}
	case Agg3D, Agg3DComb:
		out = append(out, part{first, end, directions})
	case Agg3DAvg:
		for d := range directions {
			out = append(out, part{first, end, directions[d : d+1]})
		}
	}
	return out
}

// undefined marks a feature that does not exist for a matrix.
var undefined = math.NaN()

// onLevels is a family that is computed from grey levels: where there are none,
// none of its values exist.
func onLevels(compute func(*ROI, *levels, *values)) func(*ROI, *values) {
	return func(roi *ROI, v *values) {
		if l, reason := roi.levels(); reason != "" {
			v.allMissing(reason)
		} else {
			compute(roi, l, v)
		}
	}
}

// average gives v the features of its aggregation: of each part, which features
// computes in the order of the table, or as nil for an empty matrix; then the
// mean, for each feature over the matrices for which it exists. reasons say why
// one exists for no matrix, where that can be; empty is why there is no matrix
// at all.
func (l *levels) average(v *values, table []Feature, empty string, reasons map[string]string, features func(part) []float64) {
	sum, n := make([]float64, len(table)), make([]int, len(table))
	any := false
	for _, p := range l.parts(v.aggregation) {
		for i, x := range features(p) {
			any = true
			if !math.IsNaN(x) {
				sum[i] += x
				n[i]++
			}
		}
	}
	if !any {
		v.allMissing(empty)
		return
	}
	for i, f := range table {
		if n[i] == 0 {
			v.missing(reasons[f.Tag], f.Tag)
			continue
		}
		v.add(f.Tag, sum[i]/float64(n[i]))
	}
}

// A cell is an element of a matrix of levels and sizes: how many runs, zones or
// neighbourhoods of level i have size j.
type cell struct {
	i, j int
	n    float64
}

// emphases are the 16 features that the matrices of runs, size zones, distance
// zones and dependences share, in the order of the manual's section 3.7; the
// cells are ascending in i. voxels is the number of voxels of the matrix, with
// those of merged matrices added up (N_v).
func emphases(cells []cell, voxels float64) []float64 {
	var total float64
	for _, c := range cells {
		total += c.n
	}
	if total == 0 {
		return nil
	}
	var short, long, low, high, shortLow, shortHigh, longLow, longHigh, meanI, meanJ, entropy float64
	for _, c := range cells {
		i2, j2 := float64(c.i)*float64(c.i), float64(c.j)*float64(c.j)
		short += c.n / j2
		long += float64(c.n * j2)
		low += c.n / i2
		high += float64(c.n * i2)
		shortLow += c.n / float64(i2*j2)
		shortHigh += float64(c.n*i2) / j2
		longLow += float64(c.n*j2) / i2
		longHigh += float64(float64(c.n*i2) * j2)
		meanI += float64(c.n * float64(c.i))
		meanJ += float64(c.n * float64(c.j))
		p := c.n / total
		entropy -= float64(p * Log2(p))
	}
	levelSquares := squares(cells, func(c cell) int { return c.i })
	bySize := slices.Clone(cells)
	slices.SortStableFunc(bySize, func(a, b cell) int { return cmp.Compare(a.j, b.j) })
	sizeSquares := squares(bySize, func(c cell) int { return c.j })
	meanI, meanJ = meanI/total, meanJ/total
	var varI, varJ float64
	for _, c := range cells {
		di, dj := float64(c.i)-meanI, float64(c.j)-meanJ
		varI += float64(c.n * float64(di*di))
		varJ += float64(c.n * float64(dj*dj))
	}
	return []float64{
		short / total, long / total, low / total, high / total,
		shortLow / total, shortHigh / total, longLow / total, longHigh / total,
		levelSquares / total, levelSquares / total / total,
		sizeSquares / total, sizeSquares / total / total,
		total / voxels, varI / total, varJ / total, math.Max(entropy, 0),
	}
}

// squares adds up the squares of the numbers of cells with one key, by which
// they are in order.
func squares(cells []cell, key func(cell) int) (sum float64) {
	for k := 0; k < len(cells); {
		n, first := 0.0, key(cells[k])
		for ; k < len(cells) && key(cells[k]) == first; k++ {
			n += cells[k].n
		}
		sum += float64(n * n)
	}
	return sum
}

// noNeighbours is why a texture feature of pairs does not exist.
const noNeighbours = "no voxel of the ROI has a neighbour in it"
