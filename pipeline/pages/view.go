package pages

import (
	"image"
	"math"
	"slices"

	"github.com/radnode/radnode/features/voxel"
)

// Views cuts three slices of g: through the slice of each kind where the region m is largest, with a margin. The slices are
// those of the grid, so pixels are voxels; of an oblique grid each is named after the plane it is nearest to. The mask may
// lie on a part of the grid. There is no view where the region has no voxel or is not on the grid.
func Views(g *voxel.Grid, m *voxel.Mask, modality, unit string) []View {
	r, ok := locate(g, m)
	if !ok {
		return nil
	}
	var views []View
	var field, inside []float32 // intensities of the pictures, of the region in them
	var cuts []cut
	for _, p := range []Plane{Axial, Coronal, Sagittal} {
		c := r.cut(p)
		cuts = append(cuts, c)
		for y := range c.size[1] {
			for x := range c.size[0] {
				v := g.Data[c.at(x, y)]
				if v-v != 0 {
					continue
				}
				field = append(field, v)
				if c.in(x, y) {
					inside = append(inside, v)
				}
			}
		}
	}
	w := windowFor(modality, field, inside)
	for _, c := range cuts {
		views = append(views, c.view(w, unit))
	}
	return views
}

// A region is a mask on a grid.
type region struct {
	g      *voxel.Grid
	m      *voxel.Mask
	origin [3]int    // of the mask in the grid
	box    voxel.Box // that holds the voxels of the region, in the grid
	most   [3]int    // by axis: the slice in the grid where the region is largest; of several, the middle one
}

func locate(g *voxel.Grid, m *voxel.Mask) (region, bool) {
	if g == nil || m == nil || g.Valid() != nil || m.Valid() != nil || len(g.Data) != g.Len() || len(m.Data) != m.Len() {
		return region{}, false
	}
	part := g.Part(m.Geometry)
	whole := part.Grow([3]int{}, g.Box()) == part
	if !whole || !m.Geometry.Equal(g.Geometry.Crop(part), 1e-3*min(g.Spacing[0], g.Spacing[1], g.Spacing[2])) {
		return region{}, false
	}
	b := m.Bounds()
	if b.Empty() {
		return region{}, false
	}
	r := region{g: g, m: m, origin: part.Min, box: b.Add(part.Min)}
	var area [3][]int
	for a, n := range b.Size() {
		area[a] = make([]int, n)
	}
	for z := b.Min[2]; z < b.Max[2]; z++ {
		for y := b.Min[1]; y < b.Max[1]; y++ {
			n := 0
			for x, v := range m.Data[(z*m.Size[1]+y)*m.Size[0]:][b.Min[0]:b.Max[0]] {
				if v != 0 {
					area[0][x]++
					n++
				}
			}
			area[1][y-b.Min[1]] += n
			area[2][z-b.Min[2]] += n
		}
	}
	for a := range area {
		most := slices.Max(area[a])
		var all []int
		for i, n := range area[a] {
			if n == most {
				all = append(all, i)
			}
		}
		r.most[a] = r.box.Min[a] + all[len(all)/2]
	}
	return r, true
}

// axes says which axis of the grid is nearest to the patient's x, y and z, each axis once: the choice with the most in
// common.
func axes(g voxel.Geometry) [3]int {
	best, most := [3]int{0, 1, 2}, -1.0
	for _, p := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		sum := math.Abs(g.Axes[p[0]][0]) + math.Abs(g.Axes[p[1]][1]) + math.Abs(g.Axes[p[2]][2])
		if sum > most+1e-9 {
			best, most = p, sum
		}
	}
	return best
}

// A cut is a part of a slice of a grid, turned as it is looked at.
type cut struct {
	region
	plane Plane
	axis  [3]int // of the grid: along a row of the picture, along a column, through it
	flip  [2]bool
	first [2]int // index of the grid at the low end of the part
	size  [2]int
	slice int
}

// cut chooses the part of the slice: the region with a margin of a third of its size, at least 15 mm, square where the grid
// reaches that far.
func (r region) cut(p Plane) cut {
	of := axes(r.g.Geometry)
	c := cut{region: r, plane: p}
	var to [2]int       // patient axis along a row and along a column
	var sign [2]float64 // towards the right and the bottom of the picture
	switch p {
	case Axial: // the patient's left at the right, the back at the bottom
		c.axis, to, sign = [3]int{of[0], of[1], of[2]}, [2]int{0, 1}, [2]float64{1, 1}
	case Coronal: // the feet at the bottom
		c.axis, to, sign = [3]int{of[0], of[2], of[1]}, [2]int{0, 2}, [2]float64{1, -1}
	case Sagittal: // seen from the left: the back at the right
		c.axis, to, sign = [3]int{of[1], of[2], of[0]}, [2]int{1, 2}, [2]float64{1, -1}
	}
	c.slice = r.most[c.axis[2]]
	field := 0.0
	for i := range 2 {
		a := c.axis[i]
		c.flip[i] = r.g.Axes[a][to[i]]*sign[i] < 0
		extent := float64(r.box.Size()[a]) * r.g.Spacing[a]
		field = max(field, extent+2*max(15, extent/3))
	}
	for i := range 2 {
		a := c.axis[i]
		n := min(max(1, int(math.Round(min(field/r.g.Spacing[a], 1<<20)))), r.g.Size[a])
		n = max(n, r.box.Size()[a])
		low := (r.box.Min[a]+r.box.Max[a])/2 - n/2
		low = min(max(low, 0), r.g.Size[a]-n) // a part at the edge keeps its size
		c.first[i], c.size[i] = min(low, r.box.Min[a]), n
	}
	return c
}

// index is the voxel of the grid that is pixel (x, y) of the picture.
func (c cut) index(x, y int) (at [3]int) {
	for i, k := range [2]int{x, y} {
		if c.flip[i] {
			k = c.size[i] - 1 - k
		}
		at[c.axis[i]] = c.first[i] + k
	}
	at[c.axis[2]] = c.slice
	return at
}

func (c cut) at(x, y int) int {
	i := c.index(x, y)
	return (i[2]*c.g.Size[1]+i[1])*c.g.Size[0] + i[0]
}

// in tells whether a pixel, which may be outside the picture, is in the region.
func (c cut) in(x, y int) bool {
	if x < 0 || y < 0 || x >= c.size[0] || y >= c.size[1] {
		return false
	}
	i := c.index(x, y)
	for a := range i {
		if i[a] -= c.origin[a]; i[a] < 0 || i[a] >= c.m.Size[a] {
			return false
		}
	}
	return c.m.Data[(i[2]*c.m.Size[1]+i[1])*c.m.Size[0]+i[0]] != 0
}

func (c cut) view(w window, unit string) View {
	v := View{
		Plane: c.plane, Unit: unit, Low: w.low, High: w.high, Inverse: w.inverse,
		Picture: image.NewGray(image.Rect(0, 0, c.size[0], c.size[1])),
		Pixel:   [2]float64{c.g.Spacing[c.axis[0]], c.g.Spacing[c.axis[1]]},
	}
	for y := range c.size[1] {
		for x := range c.size[0] {
			v.Picture.Pix[y*v.Picture.Stride+x] = w.grey(c.g.Data[c.at(x, y)])
		}
	}
	v.Contour = outline(c.size[0], c.size[1], c.in)

	across := c.g.Axes[c.axis[0]]
	down := c.g.Axes[c.axis[1]]
	if c.flip[0] {
		across = [3]float64{-across[0], -across[1], -across[2]}
	}
	if c.flip[1] {
		down = [3]float64{-down[0], -down[1], -down[2]}
	}
	v.Right, v.Left = letters(across, 1), letters(across, -1)
	v.Bottom, v.Top = letters(down, 1), letters(down, -1)

	normal := [3]int{2, 1, 0}[c.plane]
	v.Oblique = math.Abs(c.g.Axes[c.axis[2]][normal]) < math.Cos(10*math.Pi/180)
	var middle [3]float64
	for i := range 2 {
		middle[c.axis[i]] = float64(c.first[i]) + float64(c.size[i]-1)/2
	}
	middle[c.axis[2]] = float64(c.slice)
	v.Place = c.g.Point(middle[0], middle[1], middle[2])[normal]
	return v
}

// letters says where a direction points, the nearest direction first: PS3.3 C.7.6.1.1.1. A second letter is for more than 15°.
func letters(d [3]float64, sign float64) string {
	names := [3][2]string{{"R", "L"}, {"A", "P"}, {"F", "H"}}
	order := []int{0, 1, 2}
	slices.SortStableFunc(order, func(a, b int) int {
		switch x, y := math.Abs(d[a]), math.Abs(d[b]); {
		case x > y+1e-9:
			return -1
		case y > x+1e-9:
			return 1
		}
		return 0
	})
	s := ""
	for i, a := range order[:2] {
		if i > 0 && math.Abs(d[a]) < math.Sin(15*math.Pi/180) {
			break
		}
		if d[a]*sign < 0 {
			s += names[a][0]
		} else {
			s += names[a][1]
		}
	}
	return s
}

// outline follows the edges between pixels that are in and pixels that are not: closed lines of corners, in to the right of
// the way. Where two pixels of the region touch at a corner alone, each keeps its own line.
func outline(w, h int, in func(x, y int) bool) (lines [][]image.Point) {
	const right, down, left, up = 1, 2, 4, 8
	stride := w + 1
	ways := make([]uint8, stride*(h+1)) // that leave each corner
	for y := range h {
		for x := range w {
			if !in(x, y) {
				continue
			}
			if !in(x, y-1) {
				ways[y*stride+x] |= right
			}
			if !in(x+1, y) {
				ways[y*stride+x+1] |= down
			}
			if !in(x, y+1) {
				ways[(y+1)*stride+x+1] |= left
			}
			if !in(x-1, y) {
				ways[(y+1)*stride+x] |= up
			}
		}
	}
	step := func(way uint8) image.Point {
		switch way {
		case right:
			return image.Pt(1, 0)
		case down:
			return image.Pt(0, 1)
		case left:
			return image.Pt(-1, 0)
		}
		return image.Pt(0, -1)
	}
	turnRight := func(way uint8) uint8 { // right, down, left, up, right
		if way == up {
			return right
		}
		return way << 1
	}
	for start := range ways {
		for ways[start] != 0 {
			begin := image.Pt(start%stride, start/stride)
			first := ways[start] & -ways[start]
			var line []image.Point
			at, way := begin, first
			for last := uint8(0); ; last = way {
				here := &ways[at.Y*stride+at.X]
				if last != 0 {
					// Of two ways, the one that stays with the pixel.
					if way = turnRight(last); *here&way == 0 {
						way = *here & -*here
					}
					if at == begin && (*here == 0 || turnRight(last) == first) {
						if last == first { // the line began between two corners
							line = line[1:]
						}
						break
					}
				}
				*here &^= way
				if way != last {
					line = append(line, at)
				}
				at = at.Add(step(way))
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// A window maps intensities to grey.
type window struct {
	low, high float64
	inverse   bool
}

// windowFor chooses what radiologists are used to: the window of lung, soft tissue or bone of a CT by the median of the
// region; from nothing to the region's most of a PET, black for much; the middle 98.5 % of what is seen of all others.
func windowFor(modality string, field, inside []float32) window {
	slices.Sort(field)
	slices.Sort(inside)
	rank := func(of []float32, p float64) float64 {
		if len(of) == 0 {
			return 0
		}
		return float64(of[int(p*float64(len(of)-1))])
	}
	var w window
	switch modality {
	case "CT":
		switch median := rank(inside, 0.5); {
		case median < -300:
			w = window{low: -1350, high: 150}
		case median > 300:
			w = window{low: -500, high: 1300}
		default:
			w = window{low: -160, high: 240}
		}
		// Images that hold no Hounsfield units, or little of this window.
		if high := rank(field, 0.99); len(field) > 0 && (high < w.low || rank(field, 0.01) > w.high) {
			w = window{low: rank(field, 0.01), high: high}
		}
	case "PT":
		w = window{low: 0, high: rank(inside, 0.99), inverse: true}
	default:
		w = window{low: rank(field, 0.01), high: rank(field, 0.995)}
	}
	if !(w.high > w.low) {
		w.low, w.high = rank(field, 0), rank(field, 1)
	}
	if !(w.high > w.low) {
		w.high = w.low + 1
	}
	return w
}

func (w window) grey(v float32) uint8 {
	s := (float64(v) - w.low) / (w.high - w.low)
	switch {
	case !(s > 0): // nothing is where there is no number
		s = 0
	case s > 1:
		s = 1
	}
	g := uint8(math.Round(float64(s * 255)))
	if w.inverse {
		return 255 - g
	}
	return g
}

// Count counts the voxels of the region by intensity: about as many bins as the rule of Freedman and Diaconis has it, 8 to 60,
// with a width of 1, 2 or 5 times a power of ten. Extremes far from the rest are counted outside the bins. It is nil where
// there is nothing to count.
func Count(g *voxel.Grid, m *voxel.Mask) *Histogram {
	r, ok := locate(g, m)
	if !ok {
		return nil
	}
	// Two passes, so that a region of millions of voxels is not sorted: extremes, then shares from fine bins.
	low, high, n := math.Inf(1), math.Inf(-1), 0
	whole := true
	r.each(func(v float64) {
		low, high, n = min(low, v), max(high, v), n+1
		whole = whole && v == math.Trunc(v)
	})
	if n == 0 {
		return nil
	}
	const fine = 1 << 14
	shares := make([]int, fine)
	scale := (fine - 1) / (high - low)
	if high > low && !math.IsInf(scale, 0) {
		r.each(func(v float64) { shares[int(float64((v-low)*scale))]++ })
	} else {
		shares[0] = n
	}
	rank := func(p float64) float64 {
		seen := 0
		for i, k := range shares {
			if seen += k; float64(seen) >= float64(p*float64(n)) {
				return low + float64(float64(i)*(high-low))/(fine-1)
			}
		}
		return high
	}
	from, to := low, high
	if a, b := rank(0.005), rank(0.995); b > a && high-low > 3*(b-a) {
		from, to = a, b
	}
	width := 2 * (rank(0.75) - rank(0.25)) / math.Cbrt(float64(n))
	width = min(max(width, (to-from)/60), (to-from)/8)
	if whole {
		width = max(width, 1)
	}
	if !(width > 0) {
		width = max(math.Abs(from)*1e-6, 1e-6)
		if whole {
			width = 1
		}
	}
	width = nice(width)
	start := math.Floor(from/width) * width
	bins := int(math.Floor((to-start)/width)) + 1
	h := &Histogram{Low: start, Width: width, Counts: make([]int, min(max(bins, 1), 200))}
	r.each(func(v float64) {
		switch i := math.Floor((v - start) / width); {
		case i < 0:
			h.Below++
		case i >= float64(len(h.Counts)):
			h.Above++
		default:
			h.Counts[int(i)]++
		}
	})
	return h
}

// each visits the intensities of the region that are numbers.
func (r region) each(do func(v float64)) {
	b := r.box
	for z := b.Min[2]; z < b.Max[2]; z++ {
		for y := b.Min[1]; y < b.Max[1]; y++ {
			row := r.g.Data[(z*r.g.Size[1]+y)*r.g.Size[0]:][b.Min[0]:b.Max[0]]
			in := r.m.Data[((z-r.origin[2])*r.m.Size[1]+y-r.origin[1])*r.m.Size[0]:][b.Min[0]-r.origin[0]:]
			for x, v := range row {
				if in[x] != 0 && v-v == 0 {
					do(float64(v))
				}
			}
		}
	}
}

// nice is the least of 1, 2 and 5 times a power of ten that is not below v.
func nice(v float64) float64 {
	if !(v > 0) || math.IsInf(v, 0) {
		return 1
	}
	p := math.Floor(math.Log10(v))
	for {
		unit := power(int(p))
		for _, k := range []float64{1, 2, 5} {
			if k*unit >= v*(1-1e-9) {
				return k * unit
			}
		}
		p++
	}
}

// power is ten to the n, the float64 that is nearest.
func power(n int) float64 { return math.Pow10(n) }
