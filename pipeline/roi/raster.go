package roi

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
)

// subrows is how many lines each row is looked at along, by the rule coverage. Along a line the part that is covered is
// exact. Where one outline passes through a voxel once, the area is then right to 1/32 of the voxel.
const subrows = 16

// maxWork bounds how often edges may meet rows of voxels: some twenty seconds, where a thorax takes milliseconds.
const maxWork int64 = 1 << 31

// Describe states the rule by which a region became voxels, for those who read the result.
func Describe(rule voxel.Rule, r Region) string {
	rule = rule.Filled()
	if r.segment != nil {
		if r.segment.of.kind == "FRACTIONAL" {
			return fmt.Sprintf("%s The threshold is %v.", SegmentRule, rule.Fraction)
		}
		return SegmentRule
	}
	what := "its centre lies inside the contours of the plane nearest to it"
	outline := map[string]string{
		"half-open": "left and upper outlines inside, right and lower ones outside", "inside": "outlines inside", "outside": "outlines outside",
	}[rule.Boundary]
	if rule.Voxel == "coverage" {
		what = fmt.Sprintf("the contours of the plane nearest to it cover at least %v of its area", rule.Coverage)
		outline = "the area by 16 lines a row; of voxels that are turned against the contours by 4 x 4 x 4 points"
	}
	return "A voxel belongs to the region if " + what + " (even-odd rule, contours of one plane combined by exclusive or; " + outline + "). " +
		"A plane reaches half way to its neighbours, and half the usual distance where there is none. No interpolation between planes."
}

// Rasterise puts a region on a grid by the rule in the package comment. The mask lies on the part of the grid that the region
// can reach ([Bounds]). The notes say what was left out or looks unusual. Errors are *[refusal.Refusal], or the context's.
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
	if err := rule.Validate(); err != nil {
		return nil, nil, err
	}
	s, err := arrange(r, g)
	if err != nil {
		return nil, nil, err
	}
	used, more := s.place()
	notes := slices.Concat(r.Notes, more, s.twice(used))
	refuse := func(code refusal.Code, text, remedy string) error {
		return &refusal.Refusal{Code: code, Text: strings.Join(append([]string{text}, notes...), "; "), Remedy: remedy}
	}
	if len(used) == 0 && s.elsewhere() {
		return nil, nil, refuse(refusal.ContoursOutside, fmt.Sprintf("ROI %d: none of its %d contours lies on a slice of the images", r.Number, len(r.Contours)), "send the series that the region was drawn on")
	}

	m := newCanvas(g, s.bounds())
	b := brush{ctx: ctx, rule: rule.Filled()}
	if s.basis.parallel {
		err = s.parallel(&b, m, used)
	} else {
		err = s.oblique(&b, m, used)
	}
	if b.work > maxWork {
		return nil, nil, refuse(refusal.ContoursData, fmt.Sprintf("ROI %d: the edges in ContourData (3006,0050) cross rows of voxels too many times", r.Number), "draw it with simpler contours")
	}
	if err != nil {
		return nil, nil, err
	}
	if m.Count() == 0 {
		return nil, nil, refuse(refusal.ContoursEmpty, fmt.Sprintf("ROI %d encloses the centre of no voxel", r.Number), "draw it larger than a voxel and inside the images")
	}
	return &m.Mask, notes, nil
}

// A canvas is a mask on the part of a grid that a region can reach.
type canvas struct {
	voxel.Mask
	grid voxel.Geometry
	box  voxel.Box // of the grid
}

func newCanvas(g voxel.Geometry, box voxel.Box) *canvas {
	return &canvas{voxel.Mask{Geometry: g.Crop(box), Data: make([]uint8, box.Len())}, g, box}
}

// stride is how far neighbours on each axis are apart in Data.
func (c *canvas) stride() [3]int { return [3]int{1, c.Size[0], c.Size[0] * c.Size[1]} }

// Bounds is a box of the grid that holds every voxel which [Rasterise] can give to the region by any rule, from its contours
// alone; an empty one where it gives none or refuses.
func Bounds(r Region, g voxel.Geometry) voxel.Box {
	if r.Refusal != nil || g.Valid() != nil {
		return voxel.Box{}
	}
	if r.segment != nil {
		return r.segment.bounds(g)
	}
	s, err := arrange(r, g)
	if err != nil {
		return voxel.Box{}
	}
	return s.bounds()
}

// A brush fills what contours enclose.
type brush struct {
	ctx  context.Context
	rule voxel.Rule
	work int64 // edges times rows so far

	outline []uint64 // see touch
	lines   lines    // see cover
}

// did adds work, and stops it at a bound.
func (b *brush) did(n int) error {
	if b.work += int64(n); b.work > maxWork {
		return errTooMuch
	}
	return b.ctx.Err()
}

// parallel fills the slices of each plane: whole ones, beside the mask, which takes its part of them.
func (s *stack) parallel(b *brush, m *canvas, used []plane) error {
	stride := m.stride()
	o := s.basis.order
	columns, rows := m.grid.Size[o[0]], m.grid.Size[o[1]]
	low, high := m.box.Min, m.box.Max
	slice := make([]uint8, columns*rows)
	for _, p := range used {
		first, end := s.slices(p)
		clear(slice)
		var err error
		if b.rule.Voxel == "coverage" {
			err = b.cover(slice, columns, rows, s, p.contours)
		} else {
			err = b.fill(slice, columns, rows, s, p.contours)
		}
		if err != nil {
			return err
		}
		for k := max(first, low[o[2]]); k < min(end, high[o[2]]); k++ {
			for j := low[o[1]]; j < high[o[1]]; j++ {
				at := (k-low[o[2]])*stride[o[2]] + (j-low[o[1]])*stride[o[1]]
				row := slice[j*columns:][low[o[0]]:high[o[0]]]
				if o[0] == 0 {
					copy(m.Data[at:], row)
					continue
				}
				for i, v := range row {
					m.Data[at+i*stride[o[0]]] = v
				}
			}
		}
	}
	return nil
}

// snap rounds an index coordinate to a fraction of a voxel, so that outlines through voxel centres, which many planning
// systems write, run through them exactly, and the rule for outlines decides and not the last bit of a product. Rows are
// compared with vertices to a billionth of a voxel, columns with crossings, which inherit that error, to a millionth.
func snap(x, fraction float64) float64 { return math.Round(x*fraction) / fraction }

// crossing is where an edge meets the row y, along it. The edge goes from p to q, the lower y first, so that a shared outline
// is crossed at the same place from both sides.
func crossing(p, q [2]float64, y float64) float64 {
	return p[0] + float64((y-p[1])*(q[0]-p[0]))/(q[1]-p[1])
}

// fill sets the voxels of one slice whose centres the contours enclose. Each edge flips, in each row that it crosses, the
// first voxel at or right of the crossing; the running exclusive or along the row is then the even-odd rule. The work is
// that of the edges and of the box around them, however many contours there are.
func (b *brush) fill(into []uint8, columns, rows int, s *stack, contours []int) error {
	top, bottom := rows, -1
	left := columns
	closed := b.rule.Boundary != "half-open"
	if closed {
		if b.outline == nil {
			b.outline = make([]uint64, len(into))
		}
		clear(b.outline)
	}
	work := 0
	for _, n := range contours {
		c := s.contours[n]
		if err := b.did(0); err != nil {
			return err
		}
		a := s.basis.flat(c[len(c)-1])
		for n, point := range c {
			if n&0xFFFF == 0xFFFF {
				if err := b.did(work); err != nil {
					return err
				}
				work = 0
			}
			e := s.basis.flat(point)
			p, q := a, e
			a = e
			if p[1] > q[1] || p[1] == q[1] && p[0] > q[0] {
				p, q = q, p
			}
			// Rows from p to q, p's own included and q's not: each vertex counts once.
			first := max(int(math.Ceil(p[1])), 0)
			last := min(int(math.Ceil(q[1]))-1, rows-1)
			for j := first; j <= last; j++ {
				i := max(int(math.Ceil(snap(crossing(p, q, float64(j)), 1<<20))), 0)
				if i < columns {
					into[j*columns+i] ^= 1
					left = min(left, i)
				}
			}
			if first <= last {
				top, bottom = min(top, first), max(bottom, last)
				work += last - first
			}
			if closed {
				for j := first; j <= min(int(math.Floor(q[1])), rows-1); j++ {
					work += touch(b.outline[j*columns:(j+1)*columns], p, q, float64(j), 0, 1)
				}
			}
		}
		if err := b.did(work); err != nil {
			return err
		}
		work = 0
	}
	for j := top; j <= bottom; j++ {
		row := into[j*columns : (j+1)*columns]
		var inside uint8
		for i := left; i < columns; i++ {
			inside ^= row[i]
			row[i] = inside
		}
	}
	if closed {
		b.settle(into, b.outline)
	}
	return nil
}

// touch marks the voxels of a row whose centres lie on an edge from p to q, and returns how many it looked at. The row is at
// y; its voxel i is at start + i * step. A mark is the exclusive or of the directions in which edges leave the centre: two
// edges that run into each other, as the two sides of a keyhole's bridge, leave none, and there is no outline.
func touch(row []uint64, p, q [2]float64, y, start, step float64) int {
	du, dv := q[0]-p[0], q[1]-p[1]
	if du == 0 && dv == 0 {
		return 0
	}
	direction := uint64(int64(math.Round(du/(math.Abs(du)+dv)*(1<<20)))+1<<21) * 0x9E3779B97F4A7C15
	direction ^= direction >> 29
	forth, back := direction*0xBF58476D1CE4E5B9, direction*0x94D049BB133111EB
	at := func(u float64) float64 { return snap((u-start)/step, 1<<20) }
	if dv == 0 {
		low, high := at(p[0]), at(q[0])
		first, last := max(int(math.Ceil(low)), 0), min(int(math.Floor(high)), len(row)-1)
		for i := first; i <= last; i++ {
			if float64(i) > low {
				row[i] ^= back
			}
			if float64(i) < high {
				row[i] ^= forth
			}
		}
		return max(last-first, 0) + 1
	}
	if x := at(crossing(p, q, y)); x == math.Floor(x) && x >= 0 && x < float64(len(row)) {
		if y > p[1] {
			row[int(x)] ^= back
		}
		if y < q[1] {
			row[int(x)] ^= forth
		}
	}
	return 1
}

// settle decides the voxels on the outline.
func (b *brush) settle(into []uint8, outline []uint64) {
	var in uint8
	if b.rule.Boundary == "inside" {
		in = 1
	}
	for i, mark := range outline {
		if mark != 0 {
			into[i] = in
		}
	}
}

// lines is what cover works with. Lengths are whole numbers of 2^-20 of a voxel.
type lines struct {
	edges  [][2][2]float64
	begin  []int // of the edges that begin to be crossed at each line
	active []int
	meets  []int64
	part   []int64 // of each voxel of a row
	whole  []int64 // changes of it from one voxel to the next
}

// cover sets the voxels of one slice that the contours cover enough of. It goes down the slice line by line and keeps the
// edges that the line meets.
func (b *brush) cover(into []uint8, columns, rows int, s *stack, contours []int) error {
	const unit = 1 << 20
	l := &b.lines
	n := rows * subrows
	l.edges = l.edges[:0]
	if l.begin == nil {
		l.begin, l.part, l.whole = make([]int, n+1), make([]int64, columns+1), make([]int64, columns+1)
	}
	clear(l.begin)
	// Line s is at (s + 1/2) / subrows - 1/2. first is the first line at or after a vertex.
	first := func(v float64) int {
		return int(math.Ceil(math.Min(math.Max(float64((v+0.5)*subrows)-0.5, 0), float64(n))))
	}
	for _, c := range contours {
		points := s.contours[c]
		a := s.basis.flat(points[len(points)-1])
		work := 0
		for i, point := range points {
			if i&0xFFFF == 0xFFFF {
				if err := b.did(work); err != nil {
					return err
				}
				work = 0
			}
			e := s.basis.flat(point)
			p, q := a, e
			a = e
			if p[1] > q[1] {
				p, q = q, p
			}
			if from, to := first(p[1]), first(q[1]); from < to {
				l.edges = append(l.edges, [2][2]float64{p, q})
				l.begin[from]++
				work += 8 * (to - from) // they are sorted, too
			}
		}
		if err := b.did(work); err != nil {
			return err
		}
	}
	// The edges in the order of their first lines: a count, then begin[s] is where those of line s end.
	order := make([]int32, len(l.edges))
	sum := 0
	for s, n := range l.begin {
		l.begin[s] = sum
		sum += n
	}
	for i, e := range l.edges {
		s := first(e[0][1])
		order[l.begin[s]] = int32(i)
		l.begin[s]++
	}
	least := float64(b.rule.Coverage * subrows * unit)
	l.active = l.active[:0]
	next := 0
	for s := range n {
		if s%subrows == 0 {
			if err := b.ctx.Err(); err != nil {
				return err
			}
		}
		for ; next < l.begin[s]; next++ {
			l.active = append(l.active, int(order[next]))
		}
		y := (float64(s)+0.5)/subrows - 0.5
		l.meets = l.meets[:0]
		l.active = slices.DeleteFunc(l.active, func(i int) bool {
			e := l.edges[i]
			if e[1][1] <= y {
				return true
			}
			x := math.Min(math.Max(crossing(e[0], e[1], y)+0.5, 0), float64(columns))
			l.meets = append(l.meets, int64(math.Round(x*unit)))
			return false
		})
		slices.Sort(l.meets)
		for i := 0; i+1 < len(l.meets); i += 2 {
			from, to := l.meets[i], l.meets[i+1]
			f, t := from/unit, to/unit
			if f == t {
				l.part[f] += to - from
				continue
			}
			l.part[f] += (f+1)*unit - from
			l.part[t] += to - t*unit
			l.whole[f+1] += unit
			l.whole[t] -= unit
		}
		if s%subrows == subrows-1 {
			row := into[s/subrows*columns:][:columns]
			covered := int64(0)
			for i := range row {
				covered += l.whole[i]
				if float64(covered+l.part[i]) >= least {
					row[i] = 1
				}
			}
			clear(l.part)
			clear(l.whole)
		}
	}
	return nil
}
