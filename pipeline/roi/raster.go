package roi

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
)

// Tolerances along the normal, in slices.
const (
	acrossSlices = 0.5  // a contour that reaches further crosses slices
	onSlice      = 0.05 // a contour closer than this is in the plane of the slice, and two of them in one plane
)

// VoxelRule states how contours become voxels, for those who read the result.
const VoxelRule = "A voxel belongs to the region if its centre lies inside the contours (even-odd rule, contours of one plane combined by exclusive or; left and upper outlines inside, right and lower ones outside). No interpolation between slices."

// Rasterise puts a region on a grid by the rule in the package comment. A contour belongs to the slice nearest to it, which
// lies within half a spacing; where contours of several planes fall to one slice the nearest plane stands for it. The notes
// say what was left out or looks unusual. Errors are *[refusal.Refusal], or the context's.
func Rasterise(ctx context.Context, r Region, g voxel.Geometry, rule voxel.Rule) (*voxel.Mask, []string, error) {
	if r.Refusal != nil {
		return nil, nil, r.Refusal
	}
	if err := g.Valid(); err != nil {
		return nil, nil, err
	}
	if r.segment != nil {
		return r.segment.rasterise(ctx, g, rule.Filled())
	}
	notes := slices.Clone(r.Notes)
	placed, more, err := place(r, g)
	if err != nil {
		return nil, nil, err
	}
	notes = append(notes, more...)

	m := &voxel.Mask{Geometry: g, Data: make([]uint8, g.Len())}
	area := g.Size[0] * g.Size[1]
	for len(placed) > 0 {
		k := placed[0].slice
		n := slices.IndexFunc(placed, func(c flat) bool { return c.slice != k })
		if n < 0 {
			n = len(placed)
		}
		if err := fill(ctx, m.Data[k*area:(k+1)*area], g.Size[0], g.Size[1], placed[:n]); err != nil {
			return nil, nil, err
		}
		placed = placed[n:]
	}
	if m.Count() == 0 {
		text := strings.Join(append([]string{fmt.Sprintf("ROI %d encloses the centre of no voxel", r.Number)}, notes...), "; ")
		return nil, nil, &refusal.Refusal{Code: refusal.ContoursEmpty, Text: text, Remedy: "draw it larger than a voxel and inside the images"}
	}
	return m, notes, nil
}

// Bounds is a box of the grid that holds every voxel which [Rasterise] can give to the region, from its contours alone; an
// empty one where it gives none or refuses.
func Bounds(r Region, g voxel.Geometry) voxel.Box {
	b := voxel.Box{Min: g.Size}
	if r.Refusal != nil || g.Valid() != nil {
		return voxel.Box{}
	}
	if r.segment != nil {
		return r.segment.bounds(g)
	}
	for _, contour := range r.Contours {
		for _, p := range contour {
			q := g.Index(p)
			q[2] += 0.5 // the nearest slice
			for a, x := range q {
				x = math.Min(math.Max(x, -1), float64(g.Size[a]))
				b.Min[a] = min(b.Min[a], max(int(math.Floor(x)), 0))
				b.Max[a] = max(b.Max[a], min(int(math.Ceil(x))+1, g.Size[a]))
			}
		}
	}
	if b.Empty() {
		return voxel.Box{}
	}
	return b
}

// A flat contour is one in the plane of a slice, in index coordinates.
type flat struct {
	slice  int
	height float64 // along the normal, in slices
	points [][2]float64
}

// place brings contours into index space and gives each to its slice, in the order of slices.
func place(r Region, g voxel.Geometry) (placed []flat, notes []string, err error) {
	var outside, clipped, bent, between int
	for i, contour := range r.Contours {
		c := flat{points: make([][2]float64, len(contour))}
		low, high := math.Inf(1), math.Inf(-1)
		beyond := false
		for n, p := range contour {
			q := g.Index(p)
			for _, x := range q {
				if !(math.Abs(x) < 1e9) {
					return nil, nil, &refusal.Refusal{Code: refusal.ContoursData, Text: fmt.Sprintf("ROI %d, contour %d: ContourData (3006,0050) point %d lies nowhere near the images", r.Number, i+1, n+1), Remedy: "export the structure set again"}
				}
			}
			c.points[n] = [2]float64{q[0], snap(q[1], 1<<30)}
			low, high = math.Min(low, q[2]), math.Max(high, q[2])
			beyond = beyond || q[0] < -0.5 || q[1] < -0.5 || q[0] > float64(g.Size[0])-0.5 || q[1] > float64(g.Size[1])-0.5
		}
		if len(contour) < 3 {
			continue // encloses nothing
		}
		if high-low > acrossSlices {
			return nil, nil, &refusal.Refusal{Code: refusal.ContoursPlane, Text: fmt.Sprintf("ROI %d, contour %d: ContourData (3006,0050) spans %.3g slices along the normal of the images", r.Number, i+1, high-low), Remedy: "draw the region on the slices of this series"}
		}
		if high-low > onSlice {
			bent++
		}
		c.height = (low + high) / 2
		c.slice = int(math.Floor(c.height + 0.5))
		if c.slice < 0 || c.slice >= g.Size[2] {
			outside++
			continue
		}
		if beyond {
			clipped++
		}
		if math.Abs(c.height-float64(c.slice)) > onSlice {
			between++
		}
		placed = append(placed, c)
	}
	total := len(r.Contours)
	if len(placed) == 0 {
		return nil, nil, &refusal.Refusal{Code: refusal.ContoursOutside, Text: fmt.Sprintf("ROI %d: none of its %d contours lies on a slice of the images", r.Number, total), Remedy: "send the series that the region was drawn on"}
	}
	slices.SortStableFunc(placed, func(a, b flat) int {
		return cmp.Or(cmp.Compare(a.slice, b.slice), cmp.Compare(a.height, b.height))
	})
	placed, dropped := nearestPlane(placed)
	twins := twice(placed)
	holes := 0
	for i := 1; i < len(placed); i++ {
		holes += max(placed[i].slice-placed[i-1].slice-1, 0)
	}

	note := func(n int, text string) {
		if n > 0 {
			notes = append(notes, fmt.Sprintf(text, n, total))
		}
	}
	note(outside, "%d of %d contours lie beyond the first or the last slice and are left out")
	note(clipped, "%d of %d contours reach beyond the edge of the images and are cut there")
	note(between, "%d of %d contours lie between slices and are taken for the nearest one")
	note(dropped, "%d of %d contours are left out because a nearer one stands for their slice")
	note(twins, "%d of %d contours repeat another of their slice, and by exclusive or cancel it")
	note(bent, "%d of %d contours are not parallel to the slices")
	if holes > 0 {
		notes = append(notes, fmt.Sprintf("%d slices between the first and the last contour have none and are left empty", holes))
	}
	return placed, notes, nil
}

// nearestPlane keeps, for each slice, the contours of the plane nearest to it: contours of different planes are no holes in
// each other.
func nearestPlane(sorted []flat) (kept []flat, dropped int) {
	for len(sorted) > 0 {
		k := sorted[0].slice
		n := slices.IndexFunc(sorted, func(c flat) bool { return c.slice != k })
		if n < 0 {
			n = len(sorted)
		}
		best := sorted[0].height
		for _, c := range sorted[:n] {
			if math.Abs(c.height-float64(k)) < math.Abs(best-float64(k)) {
				best = c.height
			}
		}
		for _, c := range sorted[:n] {
			if math.Abs(c.height-best) <= onSlice {
				kept = append(kept, c)
			} else {
				dropped++
			}
		}
		sorted = sorted[n:]
	}
	return kept, dropped
}

// twice counts the contours that are the same as one before them on their slice.
func twice(sorted []flat) (n int) {
	type key struct {
		slice, points int
		first         [2]float64
	}
	seen := make(map[key]flat, len(sorted))
	for _, c := range sorted {
		k := key{c.slice, len(c.points), c.points[0]}
		if other, ok := seen[k]; ok && slices.Equal(c.points, other.points) {
			n++
		}
		seen[k] = c
	}
	return n
}

// snap rounds an index coordinate to a fraction of a voxel, so that outlines through voxel centres, which many planning
// systems write, run through them exactly, and the rule for outlines decides and not the last bit of a product. Rows are
// compared with vertices to a billionth of a voxel, columns with crossings, which inherit that error, to a millionth.
func snap(x, fraction float64) float64 { return math.Round(x*fraction) / fraction }

// fill sets the voxels of one slice whose centres the contours enclose. Each edge flips, in each row that it crosses, the
// first voxel at or right of the crossing; the running exclusive or along the row is then the even-odd rule. The work is
// that of the edges and of the box around them, however many contours there are.
func fill(ctx context.Context, into []uint8, columns, rows int, contours []flat) error {
	top, bottom := rows, -1
	left := columns
	for _, c := range contours {
		if err := ctx.Err(); err != nil {
			return err
		}
		a := c.points[len(c.points)-1]
		for n, b := range c.points {
			if n&0xFFFF == 0xFFFF {
				if err := ctx.Err(); err != nil {
					return err
				}
			}
			p, q := a, b
			a = b
			if p[1] > q[1] {
				p, q = q, p // one direction, so that a shared outline is crossed at the same place from both sides
			}
			// Rows from p to q, p's own included and q's not: each vertex counts once.
			first := max(int(math.Ceil(p[1])), 0)
			last := min(int(math.Ceil(q[1]))-1, rows-1)
			for j := first; j <= last; j++ {
				x := p[0] + float64((float64(j)-p[1])*(q[0]-p[0]))/(q[1]-p[1])
				i := max(int(math.Ceil(snap(x, 1<<20))), 0)
				if i < columns {
					into[j*columns+i] ^= 1
					left = min(left, i)
				}
			}
			if first <= last {
				top, bottom = min(top, first), max(bottom, last)
			}
		}
	}
	for j := top; j <= bottom; j++ {
		row := into[j*columns : (j+1)*columns]
		var inside uint8
		for i := left; i < columns; i++ {
			inside ^= row[i]
			row[i] = inside
		}
	}
	return nil
}
