package roi_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
)

// A drawing is contours in planes of any direction, and what is known of them without package roi.
type sketch struct {
	u, v, n [3]float64
	origin  [3]float64
	heights []float64        // in mm, ascending
	planes  [][][][3]float64 // the contours of each, in mm: u, v, 0
}

func (s sketch) region() roi.Region {
	r := roi.Region{Number: 1}
	for i, p := range s.planes {
		for _, c := range p {
			points := make([][3]float64, len(c))
			for k, q := range c {
				for a := range 3 {
					points[k][a] = s.origin[a] + q[0]*s.u[a] + q[1]*s.v[a] + s.heights[i]*s.n[a]
				}
			}
			r.Contours = append(r.Contours, points)
		}
	}
	return r
}

func product(a, b [3]float64) float64 { return a[0]*b[0] + a[1]*b[1] + a[2]*b[2] }

// slabs is what each plane stands for, as the package comment says.
func (s sketch) slabs(g voxel.Geometry) (low, high []float64) {
	extent := 0.0
	for a := range 3 {
		extent += math.Abs(product(s.n, g.Axes[a])) * g.Spacing[a]
	}
	usual := extent
	if len(s.heights) > 1 {
		var apart []float64
		for i := range s.heights[1:] {
			apart = append(apart, s.heights[i+1]-s.heights[i])
		}
		slices.Sort(apart)
		usual = min(apart[(len(apart)-1)/2], max(10, extent))
	}
	for i, h := range s.heights {
		l, u := h-usual/2, h+usual/2
		if i > 0 && h-s.heights[i-1] <= 1.5*usual {
			l = (h + s.heights[i-1]) / 2
		}
		if i+1 < len(s.heights) && s.heights[i+1]-h <= 1.5*usual {
			u = (h + s.heights[i+1]) / 2
		}
		low, high = append(low, l), append(high, u)
	}
	return low, high
}

// holds tells by the plain formula whether a point is inside, and whether that is beyond doubt.
func (s sketch) holds(p [3]float64, low, high []float64) (in, sure bool) {
	for a := range p {
		p[a] -= s.origin[a]
	}
	u, v, h := product(p, s.u), product(p, s.v), product(p, s.n)
	sure = true
	for i := range low {
		const hair = 1e-5
		sure = sure && math.Abs(h-low[i]) > hair && math.Abs(h-high[i]) > hair
		if h < low[i] || h >= high[i] {
			continue
		}
		in = inside(u, v, s.planes[i])
		for _, d := range [][2]float64{{hair, hair}, {-hair, hair}, {hair, -hair}, {-hair, -hair}} {
			sure = sure && inside(u+d[0], v+d[1], s.planes[i]) == in
		}
		return in, sure
	}
	return false, sure
}

// turned is three directions at right angles, turned by angles about x, y and z.
func turned(x, y, z float64) (axes [3][3]float64) {
	cx, sx, cy, sy, cz, sz := math.Cos(x), math.Sin(x), math.Cos(y), math.Sin(y), math.Cos(z), math.Sin(z)
	rows := [3][3]float64{
		{cy * cz, sx*sy*cz - cx*sz, cx*sy*cz + sx*sz},
		{cy * sz, sx*sy*sz + cx*cz, cx*sy*sz - sx*cz},
		{-sy, sx * cy, cx * cy},
	}
	for a := range 3 {
		for c := range 3 {
			axes[a][c] = rows[c][a]
		}
	}
	return axes
}

// draw makes planes of stars, some with holes and islands.
func draw(r *rand.Rand, axes [3][3]float64, middle [3]float64, planes int, apart, radius float64) sketch {
	s := sketch{u: axes[0], v: axes[1], n: axes[2], origin: middle}
	h := -apart * float64(planes-1) / 2
	for range planes {
		s.heights = append(s.heights, h)
		h += apart * (0.8 + 0.4*r.Float64())
		if r.IntN(6) == 0 {
			h += apart
		}
		var contours [][][3]float64
		for range 1 + r.IntN(3) {
			x, y, size := radius/2*(r.Float64()-0.5), radius/2*(r.Float64()-0.5), radius*(0.3+0.7*r.Float64())
			n := 3 + r.IntN(12)
			var c [][3]float64
			for k := range n {
				a := 2 * math.Pi * float64(k) / float64(n)
				far := size * (0.4 + 0.6*r.Float64())
				c = append(c, [3]float64{x + far*math.Cos(a), y + far*math.Sin(a), 0})
			}
			contours = append(contours, c)
		}
		s.planes = append(s.planes, contours)
	}
	return s
}

var rules = []voxel.Rule{
	{}, {Boundary: "inside"}, {Boundary: "outside"}, {Voxel: "coverage"}, {Voxel: "coverage", Coverage: 0.01}, {Voxel: "coverage", Coverage: 1},
}

// TestAcross compares regions in planes that lie across the slices with the stated rule, voxel by voxel: by centres, and by
// 4 x 4 x 4 points.
func TestAcross(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	doubtful, compared := 0, 0
	for round := range 30 {
		g := askew(20, 16, 7)
		if round%2 == 0 {
			g.Axes = turned(r.Float64()*6, r.Float64()*6, r.Float64()*6)
		}
		if round%3 == 0 { // left-handed
			g.Axes[2] = [3]float64{-g.Axes[2][0], -g.Axes[2][1], -g.Axes[2][2]}
		}
		axes := turned(r.Float64()*6, r.Float64()*6, r.Float64()*6)
		switch round % 5 {
		case 0: // about the rows alone
			c, s := math.Cos(0.4), math.Sin(0.4)
			for a := range 3 {
				axes[0][a], axes[1][a], axes[2][a] = g.Axes[0][a], c*g.Axes[1][a]+s*g.Axes[2][a], c*g.Axes[2][a]-s*g.Axes[1][a]
			}
		case 1: // two degrees off the slices
			c, s := math.Cos(0.035), math.Sin(0.035)
			for a := range 3 {
				axes[0][a], axes[1][a], axes[2][a] = c*g.Axes[0][a]+s*g.Axes[2][a], g.Axes[1][a], c*g.Axes[2][a]-s*g.Axes[0][a]
			}
		}
		s := draw(r, axes, g.Point(10, 8, 3), 1+r.IntN(9), 0.7+3*r.Float64(), 10)
		region := s.region()
		low, high := s.slabs(g)
		type answer struct {
			in, sure, all bool // of the centre, and whether all points are beyond doubt
			count         int
		}
		plain := make([]answer, 0, g.Len())
		for k := range g.Size[2] {
			for j := range g.Size[1] {
				for i := range g.Size[0] {
					a := answer{all: true}
					a.in, a.sure = s.holds(g.Point(float64(i), float64(j), float64(k)), low, high)
					for p := range 64 {
						at := func(i, p int) float64 { return float64(i) + (float64(p)-1.5)/4 }
						in, sure := s.holds(g.Point(at(i, p%4), at(j, p/4%4), at(k, p/16)), low, high)
						if a.all = a.all && sure; in {
							a.count++
						}
					}
					plain = append(plain, a)
				}
			}
		}
		b := roi.Bounds(region, g)
		for _, rule := range rules {
			m, notes, err := wholeMask(t.Context(), region, g, rule)
			if err != nil {
				var refused *refusal.Refusal
				if !errors.As(err, &refused) || refused.Code != refusal.ContoursEmpty {
					t.Fatal(err)
				}
				m = &voxel.Mask{Geometry: g, Data: make([]uint8, g.Len())}
			} else if !strings.Contains(strings.Join(notes, "\n"), "are not parallel to the slices") {
				t.Errorf("notes %q", notes)
			}
			if real := m.Bounds(); m.Count() > 0 && (b.Grow([3]int{}, real) != real || b.Grow([3]int{}, g.Box()) != b) {
				t.Fatalf("voxels in %v, bounds %v", real, b)
			}
			rule = rule.Filled()
			for n, a := range plain {
				want, sure := a.in, a.sure
				if rule.Voxel == "coverage" {
					want, sure = float64(a.count) >= 64*rule.Coverage, a.all
				}
				switch got := m.Data[n] == 1; {
				case !sure:
					doubtful++
				case got != want:
					t.Fatalf("round %d, rule %+v: voxel %d is %v, want %v", round, rule, n, got, want)
				default:
					compared++
				}
			}
		}
	}
	if doubtful > compared/500 {
		t.Errorf("%d of %d voxels in doubt", doubtful, compared)
	}
}

// TestCoronalAndSagittal draws on planes parallel to rows or columns: the mask is that of the same drawing on slices, with the
// axes of the grid in another order.
func TestCoronalAndSagittal(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 40 {
		flat := askew(16, 14, 12)
		var contours [][][3]float64
		for z := range 12 {
			if z > 0 && r.IntN(4) == 0 {
				continue
			}
			var c [][3]float64
			for range 3 + r.IntN(6) {
				c = append(c, [3]float64{float64(r.IntN(60)) / 4, float64(r.IntN(52)) / 4, float64(z) + 0.1})
			}
			contours = append(contours, c)
		}
		region := drawn(flat, contours...)
		for _, order := range [][3]int{{1, 2, 0}, {0, 2, 1}} { // which axes are u, v and the normal
			g := flat
			for k, a := range order {
				g.Axes[a], g.Spacing[a], g.Size[a] = flat.Axes[k], flat.Spacing[k], flat.Size[k]
			}
			for _, rule := range rules {
				want, _, err1 := wholeMask(t.Context(), region, flat, rule)
				got, notes, err2 := wholeMask(t.Context(), region, g, rule)
				if (err1 == nil) != (err2 == nil) {
					t.Fatalf("%v and %v", err1, err2)
				}
				if err1 != nil {
					continue
				}
				for k := range 12 {
					for j := range 14 {
						for i := range 16 {
							var at [3]int
							at[order[0]], at[order[1]], at[order[2]] = i, j, k
							if got.Data[(at[2]*g.Size[1]+at[1])*g.Size[0]+at[0]] != want.Data[(k*14+j)*16+i] {
								t.Fatalf("order %v, rule %+v: voxel (%d, %d, %d) differs", order, rule, i, j, k)
							}
						}
					}
				}
				if !strings.Contains(strings.Join(notes, "\n"), "turned by 90 degrees") {
					t.Errorf("notes %q", notes)
				}
				if b, real := roi.Bounds(region, g), got.Bounds(); b.Grow([3]int{}, real) != real {
					t.Fatalf("voxels in %v, bounds %v", real, b)
				}
			}
		}
	}
}

// TestOtherSeries takes planes to slices that are finer, coarser or between them.
func TestOtherSeries(t *testing.T) {
	at := func(heights ...float64) (c [][][3]float64) {
		for _, z := range heights {
			c = append(c, box(0.5, 0.5, 2.5, 2.5, z))
		}
		return c
	}
	for name, c := range map[string]struct {
		contours [][][3]float64
		want     string // a digit a slice: voxels
		notes    string // what follows ROI independent counts
	}{
		"finer":                     {at(1, 3, 5), "4444440000", "3 slices have no contour of their own and take those of the nearest plane"},
		"finer, a gap":              {at(0, 2, 6, 8), "4440044440", "3 slices have no contour of their own and take those of the nearest plane\n2 slices between the first and the last contour have none and are left empty"},
		"finer, a gap not so wide":  {at(0, 2, 5, 7), "4444444400", "4 slices have no contour of their own and take those of the nearest plane"},
		"coarser":                   {at(0.25, 0.75, 1.25, 1.75, 2.25), "4440000000", "3 of 5 contours lie between slices and are taken for the nearest one\n2 of 5 contours are left out because a nearer one stands for their slice"},
		"one plane":                 {at(4.5), "0000400000", "1 of 1 contours lie between slices and are taken for the nearest one"},
		"two planes very far apart": {at(0, 9), "4444444444", "8 slices have no contour of their own and take those of the nearest plane"},
	} {
		t.Run(name, func(t *testing.T) {
			g := unit(4, 4, 10)
			r := drawn(g, c.contours...)
			r.OtherSeries = true
			m, notes := rasterise(t, r, g)
			var got strings.Builder
			for k := range 10 {
				fmt.Fprint(&got, strings.Count(picture(m, k), "#"))
			}
			if got.String() != c.want || strings.Join(notes, "\n") != c.notes {
				t.Errorf("voxels %s, want %s; notes\n%s\nwant\n%s", got.String(), c.want, strings.Join(notes, "\n"), c.notes)
			}
		})
	}
	// Beyond 10 mm nothing is said about what lies between two planes.
	g := unit(4, 4, 40)
	r := drawn(g, at(5, 35)...)
	r.OtherSeries = true
	if m, _ := rasterise(t, r, g); m.Count() != 2*10*4 {
		t.Errorf("%d voxels, want 10 slices of 4 for each of two planes", m.Count())
	}
}

// TestDirections refuses contours of two directions, and by name.
func TestDirections(t *testing.T) {
	g := unit(10, 10, 10)
	axial := box(1, 1, 7, 7, 4)
	sagittal := [][3]float64{{3, 1, 1}, {3, 8, 1}, {3, 8, 6}, {3, 1, 6}}
	bent := [][3]float64{{1, 1, 1}, {3, 8, 3}, {8, 8, 1}, {8, 1, 6}}
	for name, c := range map[string]struct {
		code     refusal.Code
		contours [][][3]float64
		text     string
	}{
		"two directions":    {refusal.ContoursOrientation, [][][3]float64{axial, sagittal}, "contour 2"},
		"one is no plane":   {refusal.ContoursPlane, [][][3]float64{axial, bent}, "contour 2"},
		"sagittal, outside": {refusal.ContoursOutside, [][][3]float64{{{30, 1, 1}, {30, 8, 1}, {30, 8, 6}, {30, 1, 6}}}, "none of its 1 contours"},
		"oblique, outside":  {refusal.ContoursOutside, [][][3]float64{{{30, 30, 30}, {20, 40, 30}, {20, 50, 40}, {30, 40, 40}}}, "none of its 1 contours"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := wholeMask(t.Context(), roi.Region{Number: 7, Contours: c.contours}, g, voxel.Rule{})
			var r *refusal.Refusal
			if !errors.As(err, &r) || r.Code != c.code || !strings.Contains(r.Text, "ROI 7") || !strings.Contains(r.Text, c.text) || r.Remedy == "" {
				t.Errorf("error is %v, want %s", err, c.code)
			}
		})
	}
	if _, _, err := wholeMask(t.Context(), roi.Region{Contours: [][][3]float64{axial}}, g, voxel.Rule{Voxel: "corner"}); err == nil {
		t.Error("an unknown rule is accepted")
	}
}

// TestTurnedTogether: the mask does not depend on where patient and images lie, and moves with the contours.
func TestTurnedTogether(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 30 {
		var contours [][][3]float64
		for z := range 5 {
			var c [][3]float64
			for range 3 + r.IntN(8) {
				c = append(c, [3]float64{4 + float64(r.IntN(24))/2, 4 + 12*r.Float64(), 2 + float64(z)})
			}
			contours = append(contours, c)
		}
		g := unit(24, 24, 10)
		g.Spacing = [3]float64{0.8, 1.1, 2.7}
		h := g
		h.Axes, h.Origin = turned(r.Float64()*6, r.Float64()*6, r.Float64()*6), [3]float64{-300 * r.Float64(), 200 * r.Float64(), 1000 * r.Float64()}
		moved := slices.Clone(contours)
		for i, c := range moved {
			moved[i] = slices.Clone(c)
			for k := range c {
				moved[i][k] = [3]float64{c[k][0] + 3, c[k][1] - 2, c[k][2] + 1}
			}
		}
		for _, rule := range rules {
			a, _, err1 := wholeMask(t.Context(), drawn(g, contours...), g, rule)
			b, _, err2 := wholeMask(t.Context(), drawn(h, contours...), h, rule)
			c, _, err3 := wholeMask(t.Context(), drawn(h, moved...), h, rule)
			if err1 != nil || err2 != nil || err3 != nil {
				continue // all voxels too small
			}
			if !slices.Equal(a.Data, b.Data) {
				t.Fatalf("rule %+v: another mask after a turn", rule)
			}
			box := a.Bounds()
			if c.Bounds() != box.Add([3]int{3, -2, 1}) || !slices.Equal(a.Crop(box).Data, c.Crop(c.Bounds()).Data) {
				t.Fatalf("rule %+v: another mask after a move", rule)
			}
		}
	}
}

// TestSharedOutline cuts a block of planes along a jagged line: no voxel is in both parts, none is lost, whichever way the
// grid lies.
func TestSharedOutline(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for round := range 40 {
		g := askew(20, 20, 8)
		axes := turned(r.Float64()*6, r.Float64()*6, r.Float64()*6)
		if round%2 == 0 {
			axes = g.Axes
		}
		whole := sketch{u: axes[0], v: axes[1], n: axes[2], origin: g.Point(10, 10, 3)}
		left, right := whole, whole
		for i := range 5 {
			x := func(v float64) float64 { return math.Round(v*4) / 4 * 0.7 }
			cut := [][3]float64{{x(r.Float64() * 4), -8, 0}}
			for y := -7.0; y < 8; y += 1.3 * float64(1+r.IntN(2)) {
				cut = append(cut, [3]float64{x(r.Float64()*10 - 5), y, 0})
			}
			cut = append(cut, [3]float64{x(r.Float64() * 4), 8, 0})
			back := slices.Clone(cut)
			slices.Reverse(back)
			h := 2.9 * float64(i-2)
			for _, s := range []*sketch{&whole, &left, &right} {
				s.heights = append(s.heights, h)
			}
			whole.planes = append(whole.planes, [][][3]float64{{{-9, -8, 0}, {9, -8, 0}, {9, 8, 0}, {-9, 8, 0}}})
			left.planes = append(left.planes, [][][3]float64{append([][3]float64{{-9, 8, 0}, {-9, -8, 0}}, cut...)})
			right.planes = append(right.planes, [][][3]float64{append([][3]float64{{9, -8, 0}, {9, 8, 0}}, back...)})
		}
		a, _ := rasterise(t, whole.region(), g)
		b, _ := rasterise(t, left.region(), g)
		c, _ := rasterise(t, right.region(), g)
		for i, v := range a.Data {
			if b.Data[i]+c.Data[i] != v {
				t.Fatalf("round %d: voxel %d is %d in the whole, %d and %d in its parts", round, i, v, b.Data[i], c.Data[i])
			}
		}
	}
}

// around tells whether points near (x, y) are inside: any of them, all of them. Near a point of the outline that is the
// sides of each edge that leaves it.
func around(x, y float64, contours [][][3]float64) (some, all bool) {
	some, all = inside(x, y, contours), inside(x, y, contours)
	first := true
	for _, c := range contours {
		for i := range c {
			a, b := c[i], c[(i+1)%len(c)]
			du, dv := b[0]-a[0], b[1]-a[1]
			long := math.Hypot(du, dv)
			if long == 0 || (x-a[0])*dv-(y-a[1])*du != 0 {
				continue
			}
			along := ((x-a[0])*du + (y-a[1])*dv) / long
			if along < 0 || along > long {
				continue
			}
			for _, way := range []float64{1e-3, -1e-3} {
				if along+way < 0 || along+way > long {
					continue
				}
				for _, side := range []float64{1e-8, -1e-8} {
					in := inside(x+(way*du-side*dv)/long, y+(way*dv+side*du)/long, contours)
					if first {
						some, all = in, in
					}
					first = false
					some, all = some || in, all && in
				}
			}
		}
	}
	return some, all
}

// TestBoundary: by inside a centre belongs to the region where any place near it does, by outside where all do.
func TestBoundary(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	on := 0
	for range 400 {
		var contours [][][3]float64
		for range 1 + r.IntN(3) {
			var c [][3]float64
			grain := 1 + r.IntN(4)
			for range 3 + r.IntN(7) {
				c = append(c, [3]float64{float64(r.IntN(12*grain)-grain) / float64(grain), float64(r.IntN(11*grain)-grain) / float64(grain), 1})
			}
			if grain == 3 { // thirds are no exact numbers
				continue
			}
			contours = append(contours, c)
		}
		if len(contours) == 0 {
			continue
		}
		for _, g := range []voxel.Geometry{unit(10, 9, 3), askew(10, 9, 3)} {
			for _, rule := range rules[1:3] {
				m, _, err := wholeMask(t.Context(), drawn(g, contours...), g, rule)
				if err != nil {
					m = &voxel.Mask{Geometry: g, Data: make([]uint8, g.Len())}
				}
				for j := range 9 {
					for i := range 10 {
						some, all := around(float64(i), float64(j), contours)
						if some != all {
							on++
						}
						want := rule.Boundary == "inside" && some || rule.Boundary == "outside" && all
						if got := m.Data[(9+j)*10+i] == 1; got != want {
							t.Fatalf("%s: (%d, %d) is %v, want %v: %v\n%s", rule.Boundary, i, j, got, want, contours, picture(m, 1))
						}
					}
				}
			}
		}
	}
	if on < 5000 {
		t.Errorf("only %d centres on outlines", on)
	}
	// The bridge goes there in one edge and back in two.
	bridge := [][3]float64{{0, 0, 0}, {2, 0, 0}, {2, 3, 0}, {1, 4, 0}, {3, 4, 0}, {2, 3, 0}, {2, 1, 0}, {2, 0, 0}, {5, 0, 0}, {5, 6, 0}, {0, 6, 0}}
	g := unit(6, 7, 1)
	m, _, err := wholeMask(t.Context(), drawn(g, bridge), g, voxel.Rule{Boundary: "outside"})
	if want := "......\n.####.\n.####.\n.#.##.\n....#.\n.####.\n......\n"; err != nil || picture(m, 0) != want {
		t.Errorf("%v\n%swant\n%s", err, picture(m, 0), want)
	}
	keyhole := [][3]float64{
		{0, 0, 0}, {5, 0, 0}, {5, 4, 0}, {0, 4, 0}, {0, 2, 0}, {2, 2, 0}, {2, 3, 0}, {4, 3, 0}, {4, 1, 0}, {2, 1, 0}, {2, 2, 0}, {0, 2, 0},
	}
	for boundary, want := range map[string]string{
		"inside":  "######\n######\n###.##\n######\n######\n",
		"outside": "......\n.#....\n.#....\n.#....\n......\n", // (1, 2) is on the bridge
	} {
		g := unit(6, 5, 1)
		m, _, err := wholeMask(t.Context(), drawn(g, keyhole), g, voxel.Rule{Boundary: boundary})
		if err != nil || picture(m, 0) != want {
			t.Errorf("%s: %v\n%swant\n%s", boundary, err, picture(m, 0), want)
		}
	}
}

// TestBoundaryAcross asks the corners and edges of a square on a plane that climbs 3 for every 4 rows, and the voxels just
// inside; and voxels half way between that plane and the next, which has another square. The rules are those of indices,
// whichever way the axes and the contours run.
func TestBoundaryAcross(t *testing.T) {
	for flip := range 16 {
		g := unit(8, 8, 6)
		g.Origin = [3]float64{0.1, 0.2, 0.3} // no exact numbers
		for a := range 3 {
			if flip>>a&1 == 1 {
				g.Axes[a][a] = -1
			}
		}
		lower, upper := [][3]float64{{1, 0, 0}, {5, 0, 0}, {5, 4, 3}, {1, 4, 3}}, [][3]float64{{5, 0, 0}, {7, 0, 0}, {7, 8, 6}, {5, 8, 6}}
		for i := range upper {
			upper[i][1], upper[i][2] = upper[i][1]-0.6*0.4, upper[i][2]+0.8*0.4
		}
		if flip>>3 == 1 {
			slices.Reverse(lower)
			slices.Reverse(upper)
		}
		for boundary, want := range map[string]string{"": "11000010", "inside": "11111110", "outside": "00000010"} {
			m, _, err := wholeMask(t.Context(), drawn(g, lower), g, voxel.Rule{Boundary: boundary})
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, p := range [][3]int{{1, 0, 0}, {3, 0, 0}, {5, 0, 0}, {5, 4, 3}, {3, 4, 3}, {1, 4, 3}, {3, 2, 1}, {3, 6, 4}} {
				got += string('0' + rune(m.Data[(p[2]*8+p[1])*8+p[0]]))
			}
			if got != want {
				t.Errorf("%d, boundary %q: %s, want %s", flip, boundary, got, want)
			}
		}
		m, _ := rasterise(t, drawn(g, lower, upper), g)
		if m.Data[(1*8+1)*8+3] != 0 || m.Data[(1*8+1)*8+6] != 1 {
			t.Errorf("%d: a voxel half way between two planes goes to the lower one", flip)
		}
	}
}

// covered is the part of a voxel that contours cover, along so many lines, in its plainest form.
func covered(i, j, lines int, contours [][][3]float64) float64 {
	sum := 0.0
	for s := range lines {
		y := float64(j) + (float64(s)+0.5)/float64(lines) - 0.5
		var meets []float64
		for _, c := range contours {
			for k := range c {
				a, b := c[k], c[(k+1)%len(c)]
				if (a[1] <= y) != (b[1] <= y) {
					meets = append(meets, a[0]+(y-a[1])*(b[0]-a[0])/(b[1]-a[1]))
				}
			}
		}
		slices.Sort(meets)
		for k := 0; k+1 < len(meets); k += 2 {
			sum += max(0, min(meets[k+1], float64(i)+0.5)-max(meets[k], float64(i)-0.5))
		}
	}
	return sum / float64(lines)
}

// TestCoverage compares with the plain formula, and for convex shapes, which an outline enters and leaves once, with the area
// by so many lines that it is exact.
func TestCoverage(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 14))
	for round := range 300 {
		g := askew(10, 9, 2)
		var contours [][][3]float64
		n, many := 1+r.IntN(3), 3+r.IntN(7)
		if round%2 == 0 {
			n, many = 1, 3
		}
		for range n {
			var c [][3]float64
			for range many {
				c = append(c, [3]float64{r.Float64()*14 - 2, r.Float64()*13 - 2, 1})
			}
			contours = append(contours, c)
		}
		coverage := []float64{0.05, 0.3, 0.5, 0.9}[r.IntN(4)]
		m, _, err := wholeMask(t.Context(), drawn(g, contours...), g, voxel.Rule{Voxel: "coverage", Coverage: coverage})
		if err != nil {
			m = &voxel.Mask{Geometry: g, Data: make([]uint8, g.Len())}
		}
		for j := range 9 {
			for i := range 10 {
				got := m.Data[(9+j)*10+i] == 1
				if part := covered(i, j, 16, contours); math.Abs(part-coverage) > 1e-5 && got != (part >= coverage) {
					t.Fatalf("(%d, %d) is %v, covered %v of it", i, j, got, part)
				}
				if n == 1 && many == 3 {
					if part := covered(i, j, 1000, contours); math.Abs(part-coverage) > 2./32+1e-3 && got != (part >= coverage) {
						t.Fatalf("(%d, %d) is %v, covered %v of it", i, j, got, part)
					}
				}
			}
		}
	}
	// Ties belong to the region, however the grid lies.
	for _, g := range []voxel.Geometry{unit(6, 5, 1), askew(6, 5, 1)} {
		for coverage, want := range map[float64]string{
			0.25: "......\n.####.\n.####.\n.####.\n......\n",
			0.5:  "......\n..##..\n.####.\n..##..\n......\n",
			0.51: "......\n......\n..##..\n......\n......\n",
			1:    "......\n......\n..##..\n......\n......\n",
		} {
			m, _, err := wholeMask(t.Context(), drawn(g, box(1, 1, 4, 3, 0)), g, voxel.Rule{Voxel: "coverage", Coverage: coverage})
			if err != nil || picture(m, 0) != want {
				t.Errorf("coverage %v: %v\n%swant\n%s", coverage, err, picture(m, 0), want)
			}
		}
	}
}

func TestDescribe(t *testing.T) {
	for _, c := range []struct {
		rule voxel.Rule
		want string
	}{
		{voxel.Rule{}, "left and upper outlines inside"},
		{voxel.Rule{Boundary: "inside"}, "; outlines inside)"},
		{voxel.Rule{Boundary: "outside"}, "; outlines outside)"},
		{voxel.Rule{Voxel: "coverage", Coverage: 0.7}, "cover at least 0.7 of its area"},
	} {
		s := roi.Describe(c.rule, roi.Region{})
		if !strings.Contains(s, c.want) || !strings.Contains(s, "even-odd") || len(s) > 900 { // Segment Description (0062,0006) is ST
			t.Errorf("%+v: %s", c.rule, s)
		}
	}
}

// TestDrawnOnOblique measures contours drawn on MR slices two degrees off the axes of the patient on grids along the axes,
// finer and coarser: the volume is that of the contours, area times distance of planes.
func TestDrawnOnOblique(t *testing.T) {
	mr := lattice(t, readFolder(t, shared(t, "sts_raw", "STS_001", "MR_T2", "image")))
	regions, err := roi.Regions(readFolder(t, shared(t, "sts_raw", "STS_001", "MR_T2", "mask"))[0])
	if err != nil {
		t.Fatal(err)
	}
	r := regions[0]
	r.OtherSeries = true
	want := shoelace(r) / mr.Axes[2][2] * mr.Spacing[2] // of the contours seen from above
	for _, spacing := range [][3]float64{{1, 1, 1}, {1.3, 1.7, 4}, {2, 2, 7}} {
		g := unit(0, 0, 0)
		g.Spacing, g.Origin = spacing, [3]float64{mr.Origin[0], mr.Origin[1] - 10, mr.Origin[2] - 10}
		for a, mm := range []float64{202, 222, 230} {
			g.Size[a] = int(mm / spacing[a])
		}
		for _, rule := range rules[:4] {
			m, notes, err := wholeMask(t.Context(), r, g, rule)
			if err != nil {
				t.Fatal(err)
			}
			if got := float64(m.Count()) * spacing[0] * spacing[1] * spacing[2]; math.Abs(got-want) > 0.0015*(2+spacing[2])*want { // coarse voxels, coarse volumes
				t.Errorf("%v mm, %+v: %.0f mm3, contours enclose %.0f", spacing, rule, got, want)
			}
			if want := []string{"20 of 20 contours are not parallel to the slices: their planes are turned by 2 degrees"}; !slices.Equal(notes, want) {
				t.Errorf("notes %q", notes)
			}
		}
	}
}

// BenchmarkAcross is the same at 1 mm: 20 contours across 200 slices.
func BenchmarkAcross(b *testing.B) {
	regions, err := roi.Regions(readFolder(b, shared(b, "sts_raw", "STS_001", "MR_T2", "mask"))[0])
	if err != nil {
		b.Fatal(err)
	}
	g := unit(400, 400, 230)
	g.Spacing, g.Origin = [3]float64{0.5, 0.5, 1}, [3]float64{-9, -104, -124}
	for _, rule := range []voxel.Rule{{}, {Boundary: "inside"}, {Voxel: "coverage"}} {
		b.Run(rule.Filled().Voxel+" "+rule.Filled().Boundary, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := wholeMask(b.Context(), regions[0], g, rule); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestTooIntricate: contours that take minutes are refused before, by name.
func TestTooIntricate(t *testing.T) {
	g := unit(512, 512, 1)
	c := make([][3]float64, 100_000)
	for i := range c {
		c[i] = [3]float64{float64(i * 7919 % 500), float64(i % 2 * 500), 0}
	}
	_, _, err := wholeMask(t.Context(), drawn(g, c), g, voxel.Rule{Voxel: "coverage"})
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Code != refusal.ContoursData || !strings.Contains(r.Text, "too many times") {
		t.Errorf("error is %v", err)
	}
}

// TestFigureOfEight has an area of nothing, and a direction all the same.
func TestFigureOfEight(t *testing.T) {
	g := unit(12, 12, 12)
	m, _ := rasterise(t, roi.Region{Contours: [][][3]float64{{{1, 1, 1}, {1, 9, 9}, {9, 9, 9}, {9, 1, 1}, {1, 9, 9}, {9, 9, 9}, {1, 1, 1}, {9, 1, 1}}}}, g)
	if m.Count() == 0 {
		t.Error("no voxels")
	}
	eight := [][3]float64{{0.5, 0.5, 0.2}, {8.5, 6.5, 6.2}, {8.5, 0.5, 0.2}, {0.5, 6.5, 6.2}}
	m, _ = rasterise(t, roi.Region{Contours: [][][3]float64{eight}}, g)
	for _, c := range []struct {
		at [3]int
		in uint8
	}{{[3]int{2, 4, 3}, 1}, {[3]int{7, 4, 3}, 1}, {[3]int{4, 1, 1}, 0}, {[3]int{4, 6, 6}, 0}} {
		if got := m.Data[(c.at[2]*12+c.at[1])*12+c.at[0]]; got != c.in {
			t.Errorf("voxel %v is %d", c.at, got)
		}
	}
}

// TestHalfWay: half a slice is half a slice wherever images lie, and the lower slice has it.
func TestHalfWay(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 16))
	for range 200 {
		g := unit(4, 4, 5)
		g.Spacing[2] = 0.5 + 4*r.Float64()
		g.Axes, g.Origin = turned(r.Float64()*6, r.Float64()*6, r.Float64()*6), [3]float64{500 * r.Float64(), -300 * r.Float64(), 1000 * r.Float64()}
		m, _ := rasterise(t, drawn(g, box(0.5, 0.5, 2.5, 2.5, 1.5)), g)
		two, _ := rasterise(t, drawn(g, box(0.5, 0.5, 2.5, 2.5, 0.5), box(-0.5, -0.5, 0.5, 0.5, 1.5)), g)
		if m.Bounds().Min[2] != 1 || m.Count() != 4 || two.Count() != 5 || two.Bounds().Min[2] != 0 {
			t.Fatalf("%d voxels from slice %d, %d from slice %d", m.Count(), m.Bounds().Min[2], two.Count(), two.Bounds().Min[2])
		}
	}
}
