package features

import (
	"fmt"
	"math"
	"slices"
)

// maxLevels is the most grey levels that histogram and texture matrices take.
const maxLevels = 4096

// levels are the grey levels of an ROI after discretisation (manual 2.7, IBSI
// 4R0B), on the bounding box of its morphological mask with a margin of zeros
// around, so that a neighbour needs no check.
type levels struct {
	size    [3]int   // voxels along x, y, z, the margin included
	margin  int      // voxels on each side
	at      []uint16 // x fastest; 0 outside the intensity mask, else 1 to top
	rows    []stretch
	counts  []int // voxels of each level, counts[0] unused
	voxels  int
	top     int // N_g, the highest level
	inSlice []int
}

// A stretch is where a row's voxels of the ROI begin and end, in x of the
// levels; both are 0 for a row without any.
type stretch struct{ first, end int }

// stride is the distance of neighbours along each axis.
func (l *levels) stride() [3]int { return [3]int{1, l.size[0], l.size[0] * l.size[1]} }

// row is the index of the row y of slice z, with where its voxels are.
func (l *levels) row(y, z int) (at int, x stretch) {
	r := z*l.size[1] + y
	return r * l.size[0], l.rows[r]
}

// slices are the indices of the slices that may hold voxels.
func (l *levels) slices() (first, end int) { return l.margin, l.size[2] - l.margin }

// bins are the intervals of a discretisation: intensity x is in bin
// ⌊factor·(x−start)/width⌋+1, but at most in bin most.
type bins struct{ start, factor, width, most float64 }

// bins of intensities from lo to hi, re-segmented to the range r.
func (d Discretise) bins(lo, hi float64, r []float64) bins {
	switch {
	case d.Method == "fbn" && hi > lo: // K15C; the highest intensity has no bin of its own
		return bins{lo, float64(d.Bins), hi - lo, float64(d.Bins)}
	case d.Method == "fbn": // the lowest bin is 1
		return bins{lo, 1, 1, 1}
	case d.Method == "fbs": // Q3RU; from the lower bound of re-segmentation on, where there is one
		if len(r) == 2 && !math.IsInf(r[0], -1) {
			lo = r[0]
		}
		return bins{lo, 1, d.Width, math.Inf(1)}
	}
	return bins{1, 1, 1, math.Inf(1)} // as they are
}

// of is the bin of an intensity, from 1 on.
func (b bins) of(x float64) float64 {
	bin := math.Floor(float64(b.factor*(x-b.start))/b.width) + 1
	if bin > b.most { // math.Min would look for NaN
		return b.most
	}
	return bin
}

// levels discretises the ROI once. Where that cannot be, the reason says why.
func (roi *ROI) levels() (*levels, string) {
	if roi.discretised == nil && roi.noLevels == "" {
		roi.discretised, roi.noLevels = newLevels(roi)
	}
	return roi.discretised, roi.noLevels
}

func newLevels(roi *ROI) (*levels, string) {
	p := roi.profile
	t := p.Texture.Filled()
	l := &levels{margin: max(t.GLCMDistance, t.NGTDMDistance, t.NGLDMDistance)}
	box := roi.Morph.Bounds()
	n := box.Size()
	for a := range 3 {
		l.size[a] = n[a] + 2*l.margin
	}
	list := roi.distribution()
	if len(list) == 0 {
		return nil, reasonNoIntensity
	}
	lo, hi := float64(list[0].x), float64(list[len(list)-1].x)
	b := p.Discretise.bins(lo, hi, p.Resegment.Range)
	top := b.of(hi)
	switch asTheyAre := p.Discretise.canonical()[0] == "none"; {
	case asTheyAre && (lo < 1 || slices.ContainsFunc(list, fraction)):
		return nil, "without discretisation the grey levels must be whole numbers from 1 on"
	case asTheyAre && top > maxLevels:
		return nil, fmt.Sprintf("without discretisation the grey levels must not be above %d", maxLevels)
	case !(top <= maxLevels):
		return nil, fmt.Sprintf("%.0f grey levels are more than %d: the bins are too narrow", top, maxLevels)
	}
	l.top = int(top)
	l.at = make([]uint16, l.size[0]*l.size[1]*l.size[2])
	l.rows = make([]stretch, l.size[1]*l.size[2])
	l.counts = make([]int, l.top+1)
	l.inSlice = make([]int, l.size[2])
	g := roi.Image
	for z := range n[2] {
		for y := range n[1] {
			from := ((box.Min[2]+z)*g.Size[1]+box.Min[1]+y)*g.Size[0] + box.Min[0]
			mask, image := roi.Intensity.Data[from:from+n[0]], g.Data[from:from+n[0]]
			first, last := span(mask)
			if first > last {
				continue
			}
			r := (z+l.margin)*l.size[1] + y + l.margin
			l.rows[r] = stretch{first + l.margin, last + 1 + l.margin}
			out := l.at[r*l.size[0]+l.margin:][:n[0]]
			for x := first; x <= last; x++ {
				if mask[x] != 0 {
					i := int(b.of(float64(image[x])))
					out[x] = uint16(i)
					l.counts[i]++
					l.inSlice[z+l.margin]++
				}
			}
		}
	}
	for _, c := range l.counts {
		l.voxels += c
	}
	if l.voxels > math.MaxUint32/len(directions) { // runs of all directions are counted in 32 bits
		return nil, fmt.Sprintf("%d voxels are too many to count their runs", l.voxels)
	}
	return l, ""
}

// fraction tells whether an intensity is not a whole number.
func fraction(l intensity) bool { return float64(l.x) != math.Trunc(float64(l.x)) }

// An extent is how large an ROI may be, for the estimate of memory.
type extent struct {
	size   [3]int // of its bounding box after interpolation
	voxels int64  // of that box
	around [3]int // size of the box with the reach of the peak's sphere
	crop   int64  // voxels of that box
	reach  [3]int // of the sphere
}

// padded is the number of voxels of the levels.
func (e extent) padded(p Profile) int64 {
	t := p.Texture.Filled()
	m := 2 * max(t.GLCMDistance, t.NGTDMDistance, t.NGLDMDistance)
	return int64(e.size[0]+m) * int64(e.size[1]+m) * int64(e.size[2]+m)
}

// top is the most levels that discretisation can give.
func (p Profile) top() int64 {
	if p.Discretise.Method == "fbn" {
		return int64(p.Discretise.Bins)
	}
	if r := p.Resegment.Range; p.Discretise.Method == "fbs" && len(r) == 2 && !math.IsInf(r[1]-r[0], 0) {
		return int64(min(math.Floor((r[1]-r[0])/p.Discretise.Width)+1, maxLevels))
	}
	return maxLevels
}

// levelsBytes is the memory of the levels.
func levelsBytes(e extent, p Profile) int64 {
	return 2*e.padded(p) + 16*int64(e.size[1]+10)*int64(e.size[2]+10) + 8*p.top()
}

// offsets are the half of a neighbourhood of reach d that comes after its
// centre, in the order of the voxels: its other half is their opposite. In the
// plane only for 2D.
func offsets(d int, threeD bool) [][3]int {
	var out [][3]int
	deep := 0
	if threeD {
		deep = d
	}
	for z := 0; z <= deep; z++ {
		for y := -d; y <= d; y++ {
			for x := -d; x <= d; x++ {
				if z > 0 || y > 0 || y == 0 && x > 0 {
					out = append(out, [3]int{x, y, z})
				}
			}
		}
	}
	return out
}
