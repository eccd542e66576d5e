package roi

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
)

// Tolerances along the normal of the contours, in voxels.
const (
	flatness = 0.5  // a contour that reaches further along the normal lies in no plane of it
	onSlice  = 0.05 // a contour closer than this is in the plane of the slice, and two of them in one plane
)

const (
	// Contours less than a degree off the slices lie in them: coordinates are rounded, and contours of a few millimetres with
	// them. Those further off are asked in planes of their own.
	sameDirection = 0.99984769515639123 // cos 1°
	// Contours more than ten degrees off the largest do not shape the direction of the planes.
	alike = 0.98480775301220806 // cos 10°
	// A plane is no thicker than this, in mm, nor than a voxel: two planes far apart say nothing of what lies between.
	thickest = 10.0
	// Neighbours further apart than this many usual distances have a gap between them.
	widest = 1.5
)

// A stack is the contours of a region sorted into planes of one direction, from the lowest to the highest.
type stack struct {
	contours [][][3]float64
	basis    basis
	span     []span // of each contour
	planes   []plane
	angle    float64 // between the planes and the slices, in degrees; 0 where they are parallel
}

// A plane has contours, and the slab that it stands for: its lower side belongs to it, its upper one to the next.
type plane struct {
	height    float64
	low, high float64
	contours  []int
}

// A span is where the points of a contour lie.
type span struct {
	low, high   [3]float64 // on the axes of the grid, in indices
	bottom, top float64    // heights
	height      float64    // the middle
	points      int
}

// A basis is the coordinates in which contours become voxels: u and v in their plane, and the height along its normal.
type basis struct {
	g voxel.Geometry
	// Where the planes are parallel to two axes of the grid, u, v and height are indices on the axes order. Else order[0] is
	// the axis along which voxels are asked in a row: u counts its voxels, v stays the same along it, and the height is in
	// extents of a voxel along the normal.
	parallel bool
	order    [3]int
	unit     [3][3]float64 // u, v and height per mm in LPS; of the oblique
	normal   [3]float64
	mm       float64 // of a unit of height
}

func (f *basis) at(p [3]float64) [3]float64 {
	if f.parallel {
		return [3]float64{f.index(p, f.order[0]), f.index(p, f.order[1]), f.index(p, f.order[2])}
	}
	for c := range p {
		p[c] -= f.g.Origin[c]
	}
	return [3]float64{voxel.Dot(p, f.unit[0]), voxel.Dot(p, f.unit[1]), voxel.Dot(p, f.unit[2])}
}

// index is [voxel.Geometry.Index] on one axis.
func (f *basis) index(p [3]float64, axis int) float64 {
	a, o := &f.g.Axes[axis], &f.g.Origin
	return (float64((p[0]-o[0])*a[0]) + float64((p[1]-o[1])*a[1]) + float64((p[2]-o[2])*a[2])) / f.g.Spacing[axis]
}

// flat is a point in the plane of its contour.
func (f *basis) flat(p [3]float64) [2]float64 {
	if f.parallel {
		return [2]float64{f.index(p, f.order[0]), snap(f.index(p, f.order[1]), 1<<30)}
	}
	q := f.at(p)
	return [2]float64{q[0], snap(q[1], 1<<30)}
}

// along is the basis of planes parallel to the slices, or to two other axes of the grid.
func along(g voxel.Geometry, axis int) basis {
	f := basis{g: g, parallel: true, order: [3]int{0, 1, 2}, normal: g.Axes[axis], mm: g.Spacing[axis]}
	f.order = [3][3]int{{1, 2, 0}, {0, 2, 1}, {0, 1, 2}}[axis]
	return f
}

// across is the basis of planes with any normal. All directions are those of growing indices, as near as can be.
func across(g voxel.Geometry, normal [3]float64) basis {
	f := basis{g: g}
	row, c := 0, 0 // the axes most and least in the plane
	var cosine [3]float64
	for a := range 3 {
		cosine[a] = voxel.Dot(normal, g.Axes[a])
		if math.Abs(cosine[a]) < math.Abs(cosine[row]) {
			row = a
		}
		if math.Abs(cosine[a]) > math.Abs(cosine[c]) {
			c = a
		}
	}
	if cosine[c] < 0 {
		normal = scaled(normal, -1)
	}
	f.normal = normal
	f.order = [3][3]int{{0, 1, 2}, {1, 0, 2}, {2, 0, 1}}[row]
	tilt := voxel.Dot(normal, g.Axes[row])
	var u [3]float64
	for c := range u {
		u[c] = g.Axes[row][c] - float64(tilt*normal[c])
	}
	u = scaled(u, 1/math.Sqrt(voxel.Dot(u, u)))
	v := voxel.Cross(normal, u)
	best := f.order[1]
	if math.Abs(voxel.Dot(v, g.Axes[f.order[2]])) > math.Abs(voxel.Dot(v, g.Axes[best])) {
		best = f.order[2]
	}
	if voxel.Dot(v, g.Axes[best]) < 0 {
		v = scaled(v, -1)
	}
	for a := range 3 {
		f.mm += float64(math.Abs(cosine[a]) * g.Spacing[a])
	}
	f.unit = [3][3]float64{scaled(u, 1/float64(g.Spacing[row]*voxel.Dot(u, g.Axes[row]))), scaled(v, 1/min(g.Spacing[0], g.Spacing[1], g.Spacing[2])), scaled(normal, 1/f.mm)}
	return f
}

// arrange sorts the contours of a region into planes. The error is a *[refusal.Refusal].
func arrange(r Region, g voxel.Geometry) (*stack, error) {
	s := &stack{contours: r.Contours, span: make([]span, len(r.Contours))}
	for i, contour := range r.Contours {
		e := span{low: infinite, high: scaled(infinite, -1), points: len(contour)}
		for n, p := range contour {
			for a, x := range g.Index(p) {
				if !(math.Abs(x) < 1e9) {
					return nil, &refusal.Refusal{Code: refusal.ContoursData, Text: fmt.Sprintf("ROI %d, contour %d: ContourData (3006,0050) point %d lies nowhere near the images", r.Number, i+1, n+1), Remedy: "export the structure set again"}
				}
				e.low[a], e.high[a] = min(e.low[a], x), max(e.high[a], x)
			}
		}
		s.span[i] = e
	}
	if err := s.orient(r.Number, g); err != nil {
		return nil, err
	}
	s.group(s.basis.parallel && s.basis.order[2] == 2 && !r.OtherSeries)
	return s, nil
}

var infinite = [3]float64{math.Inf(1), math.Inf(1), math.Inf(1)}

// spread is how far the contours reach along an axis of the grid at most.
func (s *stack) spread(axis int) (far float64) {
	for _, e := range s.span {
		if e.points >= 3 {
			far = max(far, e.high[axis]-e.low[axis])
		}
	}
	return far
}

// orient finds the direction of the planes, and gives each contour its height.
func (s *stack) orient(number int, g voxel.Geometry) error {
	axis := slices.IndexFunc([]int{2, 1, 0}, func(a int) bool { return s.spread(a) <= onSlice })
	if axis >= 0 {
		s.basis = along(g, 2-axis)
	} else {
		normal, ok := s.normal()
		if !ok {
			return &refusal.Refusal{Code: refusal.ContoursPlane, Text: fmt.Sprintf("ROI %d: the contours in ContourData (3006,0050) enclose no area in any plane", number), Remedy: "draw the region with planar contours"}
		}
		s.basis = across(g, normal)
		for a := range 3 {
			if math.Abs(voxel.Dot(normal, g.Axes[a])) >= sameDirection && s.spread(a) <= flatness {
				s.basis = along(g, a)
			}
		}
	}
	if cosine := math.Abs(voxel.Dot(s.basis.normal, g.Axes[2])); cosine < 1 && !(s.basis.parallel && s.basis.order[2] == 2) {
		s.angle = math.Acos(cosine) * 180 / math.Pi
	}
	for i := range s.span {
		e := &s.span[i]
		if s.basis.parallel {
			e.bottom, e.top = e.low[s.basis.order[2]], e.high[s.basis.order[2]]
		} else {
			e.bottom, e.top = math.Inf(1), math.Inf(-1)
			for _, p := range s.contours[i] {
				h := s.basis.at(p)[2]
				e.bottom, e.top = min(e.bottom, h), max(e.top, h)
			}
		}
		if e.points < 3 {
			continue // encloses nothing
		}
		e.height = (e.bottom + e.top) / 2
		if e.top-e.bottom > flatness {
			return s.bent(number, i, g)
		}
	}
	return nil
}

// bent says why a contour does not lie in a plane of the stack: it or another one lies in no plane at all and has led the
// direction astray, or it lies in one of another direction.
func (s *stack) bent(number, i int, g voxel.Geometry) error {
	for n, c := range s.contours {
		own, area := newell(c)
		far := 0.0
		if f := across(g, own); area > 0 {
			low, high := math.Inf(1), math.Inf(-1)
			for _, p := range c {
				h := f.at(p)[2]
				low, high = min(low, h), max(high, h)
			}
			far = high - low
		} else if n == i { // a line
			far = s.span[i].top - s.span[i].bottom
		}
		if far > flatness {
			return &refusal.Refusal{Code: refusal.ContoursPlane, Text: fmt.Sprintf("ROI %d, contour %d: ContourData (3006,0050) lies in no plane: it spans %.3g voxels along the normal", number, n+1, far), Remedy: "draw the region with planar contours"}
		}
	}
	return &refusal.Refusal{Code: refusal.ContoursOrientation, Text: fmt.Sprintf("ROI %d, contour %d: ContourData (3006,0050) lies in a plane of another direction than the other contours", number, i+1), Remedy: "draw the region in planes of one direction"}
}

// normal is the direction that the contours are perpendicular to: the sum of the area vectors of those that agree with the
// largest, turned to its side.
func (s *stack) normal() (n [3]float64, ok bool) {
	areas := make([][3]float64, 0, len(s.contours))
	var largest [3]float64
	for _, c := range s.contours {
		if n, area := newell(c); area > 0 {
			n = scaled(n, area)
			areas = append(areas, n)
			if voxel.Dot(n, n) > voxel.Dot(largest, largest) {
				largest = n
			}
		}
	}
	for _, a := range areas {
		cosine := voxel.Dot(a, largest) / math.Sqrt(float64(voxel.Dot(a, a)*voxel.Dot(largest, largest)))
		if cosine < 0 {
			a = scaled(a, -1)
		}
		if math.Abs(cosine) < alike {
			continue // to be refused, or too small to matter
		}
		for c := range n {
			n[c] += a[c]
		}
	}
	length := math.Sqrt(voxel.Dot(n, n))
	if !(length > 0) {
		return n, false
	}
	return scaled(n, 1/length), true
}

// newell is the unit normal of a polygon and its area, by Newell's method. Where the area is next to nothing, as that of a
// figure of eight, it is the normal and area of the largest triangle from the first point and the one farthest from it; 0 of a
// line.
func newell(c [][3]float64) (n [3]float64, area float64) {
	if len(c) < 3 {
		return n, 0
	}
	away := func(p [3]float64) [3]float64 {
		for k := range p {
			p[k] -= c[0][k]
		}
		return p
	}
	var farthest [3]float64
	a := away(c[1])
	for _, p := range c[1:] {
		b := away(p)
		x := voxel.Cross(a, b)
		for k := range n {
			n[k] += x[k] / 2
		}
		if voxel.Dot(b, b) > voxel.Dot(farthest, farthest) {
			farthest = b
		}
		a = b
	}
	far := voxel.Dot(farthest, farthest)
	if area = math.Sqrt(voxel.Dot(n, n)); !(area > 1e-4*far) {
		n = [3]float64{}
		for _, p := range c {
			if x := scaled(voxel.Cross(farthest, away(p)), 0.5); voxel.Dot(x, x) > voxel.Dot(n, n) {
				n = x
			}
		}
		if area = math.Sqrt(voxel.Dot(n, n)); !(area > 1e-9*far) {
			return n, 0
		}
	}
	return scaled(n, 1/area), area
}

// group makes planes of contours of one height, and slabs of planes. Contours that all lie on slices were drawn on these
// images unless that is known to be otherwise: their usual distance is that of the slices, however many have none.
func (s *stack) group(drawnHere bool) {
	var order []int
	for i, e := range s.span {
		if e.points >= 3 {
			order = append(order, i)
			drawnHere = drawnHere && math.Abs(e.height-math.Round(e.height)) <= onSlice
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(s.span[a].height, s.span[b].height) })
	for len(order) > 0 {
		first := s.span[order[0]].height
		n := slices.IndexFunc(order, func(i int) bool {
			if drawnHere {
				return math.Round(s.span[i].height) != math.Round(first)
			}
			return s.span[i].height-first > onSlice
		})
		if n < 0 {
			n = len(order)
		}
		p := plane{height: (first + s.span[order[n-1]].height) / 2, contours: order[:n:n]}
		if drawnHere {
			p.height = math.Round(first)
		}
		s.planes = append(s.planes, p)
		order = order[n:]
	}
	usual := 1.0
	if n := len(s.planes) - 1; n > 0 && !drawnHere {
		apart := make([]float64, n)
		for i := range apart {
			apart[i] = s.planes[i+1].height - s.planes[i].height
		}
		slices.Sort(apart)
		usual = min(apart[(n-1)/2], max(1, thickest/s.basis.mm)) // the median, the lower one of two
	}
	near := func(i int) bool { // the planes before and after a place
		return i > 0 && i < len(s.planes) && snap(s.planes[i].height-s.planes[i-1].height-float64(widest*usual), 1<<20) <= 0
	}
	for i := range s.planes {
		p := &s.planes[i]
		p.low, p.high = p.height-usual/2, p.height+usual/2
		if near(i) {
			p.low = (p.height + s.planes[i-1].height) / 2
		}
		if near(i + 1) {
			p.high = (p.height + s.planes[i+1].height) / 2
		}
	}
	for i := range s.planes { // half way between two slices is to be half way, and not what the last bit says
		p := &s.planes[i]
		p.height, p.low, p.high = snap(p.height, 1<<20), snap(p.low, 1<<20), snap(p.high, 1<<20)
	}
}

// slices are those of the parallel grid that a plane stands for: from first to before end.
func (s *stack) slices(p plane) (first, end int) {
	n := s.basis.g.Size[s.basis.order[2]]
	return int(math.Ceil(max(p.low, 0))), int(math.Ceil(min(p.high, float64(n))))
}

// reach is the heights from half a voxel below the lowest voxel of the grid to half a voxel above the highest.
func (s *stack) reach() (low, high float64) {
	g := s.basis.g
	if s.basis.parallel {
		return -0.5, float64(g.Size[s.basis.order[2]]) - 0.5
	}
	low, high = math.Inf(1), math.Inf(-1)
	for c := range 8 {
		h := s.basis.at(g.Point(float64(c&1*(g.Size[0]-1)), float64(c>>1&1*(g.Size[1]-1)), float64(c>>2&1*(g.Size[2]-1))))[2]
		low, high = min(low, h), max(high, h)
	}
	return low - 0.5, high + 0.5
}

// place tells which planes have voxels of the grid in their slab, and what there is to note about the others.
func (s *stack) place() (used []plane, notes []string) {
	total := len(s.contours)
	var outside, dropped, clipped, between, bent, gaps, filled int
	size := s.basis.g.Size
	lowest, highest := s.reach()
	for i, p := range s.planes {
		if s.basis.parallel {
			if first, end := s.slices(p); first >= end {
				if p.height < lowest || p.height >= highest {
					outside += len(p.contours)
				} else {
					dropped += len(p.contours)
				}
				continue
			}
		} else if p.high <= lowest || p.low > highest {
			outside += len(p.contours)
			continue
		}
		if n := len(used); s.basis.parallel && n > 0 {
			_, end := s.slices(used[n-1])
			first, _ := s.slices(p)
			gaps += max(first-end, 0)
		} else if n > 0 && s.planes[i-1].high < p.low {
			gaps++
		}
		used = append(used, p)
		if first, end := s.slices(p); s.basis.parallel {
			filled += end - first - 1
		}
		for _, n := range p.contours {
			e := s.span[n]
			beyond := false
			for a := range 3 {
				if !s.basis.parallel || a != s.basis.order[2] {
					beyond = beyond || e.low[a] < -0.5 || e.high[a] > float64(size[a])-0.5
				}
			}
			if beyond {
				clipped++
			}
			if s.basis.parallel && math.Abs(e.height-math.Round(e.height)) > onSlice {
				between++
			}
			if e.top-e.bottom > onSlice {
				bent++
			}
		}
	}
	note := func(n int, text string) {
		if n > 0 {
			notes = append(notes, fmt.Sprintf(text, n, total))
		}
	}
	name := "slices"
	if s.basis.parallel {
		name = [3]string{"columns", "rows", "slices"}[s.basis.order[2]]
	}
	if s.angle > 0 && total > 0 {
		notes = append(notes, fmt.Sprintf("%d of %d contours are not parallel to the slices: their planes are turned by %.0f degrees", total, total, s.angle))
	}
	note(outside, "%d of %d contours lie beyond the first or the last slice and are left out")
	note(clipped, "%d of %d contours reach beyond the edge of the images and are cut there")
	note(between, "%d of %d contours lie between "+name+" and are taken for the nearest one")
	note(dropped, "%d of %d contours are left out because a nearer one stands for their slice")
	if s.basis.parallel && s.basis.order[2] == 2 {
		note(bent, "%d of %d contours are not parallel to the slices")
	} else {
		note(bent, "%d of %d contours are not flat and are taken for flat")
	}
	if filled > 0 {
		notes = append(notes, fmt.Sprintf("%d %s have no contour of their own and take those of the nearest plane", filled, name))
	}
	switch {
	case gaps > 0 && s.basis.parallel:
		notes = append(notes, fmt.Sprintf("%d %s between the first and the last contour have none and are left empty", gaps, name))
	case gaps > 0:
		notes = append(notes, fmt.Sprintf("%d gaps between planes of contours are wider than usual and are left empty", gaps))
	}
	return used, notes
}

// elsewhere tells whether all planes lie beyond the grid, and none between its slices.
func (s *stack) elsewhere() bool {
	low, high := s.reach()
	return !slices.ContainsFunc(s.planes, func(p plane) bool { return p.height >= low && p.height < high })
}

// twice counts the contours that are the same, point by point, as one before them in their plane.
func (s *stack) twice(planes []plane) (notes []string) {
	n := 0
	seen := make(map[[2]uint64]bool)
	for _, p := range planes {
		if len(p.contours) < 2 {
			continue
		}
		clear(seen)
		for _, i := range p.contours {
			// Two sums of 64 bits: that different contours have both in common is not to be expected.
			k := [2]uint64{14695981039346656037, uint64(len(s.contours[i]))}
			for _, point := range s.contours[i] {
				for _, x := range s.basis.flat(point) {
					bits := math.Float64bits(snap(x, 1<<20))
					k[0] = (k[0] ^ bits) * 1099511628211
					k[1] = (k[1] ^ bits>>17) * 0x9E3779B97F4A7C15
				}
			}
			if seen[k] {
				n++
			}
			seen[k] = true
		}
	}
	if n > 0 {
		notes = append(notes, fmt.Sprintf("%d of %d contours repeat another of their slice, and by exclusive or cancel it", n, len(s.contours)))
	}
	return notes
}

// bounds is a box of voxels that the planes can give to the region by any rule.
func (s *stack) bounds() voxel.Box {
	f := &s.basis
	size := f.g.Size
	b := voxel.Box{Min: size}
	widen := func(axis int, low, high float64) {
		n := float64(size[axis])
		b.Min[axis] = min(b.Min[axis], int(math.Floor(min(max(low, 0), n))))
		b.Max[axis] = max(b.Max[axis], int(math.Ceil(min(max(high, -1), n-1)))+1)
	}
	used, _ := s.place()
	for _, p := range used {
		if f.parallel {
			first, end := s.slices(p)
			widen(f.order[2], float64(first), float64(end-1))
		}
		for _, i := range p.contours {
			e := s.span[i]
			for a := range 3 {
				if f.parallel {
					if a != f.order[2] {
						widen(a, e.low[a], e.high[a])
					}
					continue
				}
				// What the contour sweeps along the normal, from the bottom of the slab to its top.
				move := voxel.Dot(f.normal, f.g.Axes[a]) * f.mm / f.g.Spacing[a]
				down, up := move*(p.low-e.top), move*(p.high-e.bottom)
				const slack = 1e-4
				widen(a, e.low[a]+min(min(down, up), 0)-slack, e.high[a]+max(max(down, up), 0)+slack)
			}
		}
	}
	if b.Empty() {
		return voxel.Box{}
	}
	return b
}

func scaled(a [3]float64, by float64) [3]float64 {
	return [3]float64{float64(a[0] * by), float64(a[1] * by), float64(a[2] * by)}
}
