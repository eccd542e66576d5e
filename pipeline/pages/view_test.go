package pages

import (
	"image"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/radnode/radnode/features/voxel"
)

// grid is a grid whose voxels hold what value says of their place in LPS mm.
func grid(g voxel.Geometry, value func(p [3]float64) float64) *voxel.Grid {
	out := &voxel.Grid{Geometry: g, Data: make([]float32, g.Len())}
	for k := range g.Size[2] {
		for j := range g.Size[1] {
			for i := range g.Size[0] {
				out.Data[(k*g.Size[1]+j)*g.Size[0]+i] = float32(value(g.Point(float64(i), float64(j), float64(k))))
			}
		}
	}
	return out
}

func maskOf(g voxel.Geometry, in func(p [3]float64) bool) *voxel.Mask {
	v := grid(g, func(p [3]float64) float64 {
		if in(p) {
			return 1
		}
		return 0
	})
	return v.Threshold(0.5)
}

// centred puts the middle of a grid at the origin.
func centred(size [3]int, spacing [3]float64, axes [3][3]float64) voxel.Geometry {
	g := voxel.Geometry{Size: size, Spacing: spacing, Axes: axes}
	p := g.Point(float64(size[0]-1)/2, float64(size[1]-1)/2, float64(size[2]-1)/2)
	g.Origin = [3]float64{-p[0], -p[1], -p[2]}
	return g
}

var identity = [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}

// turned turns axes by angle about an axis of the patient.
func turned(axes [3][3]float64, about int, angle float64) (out [3][3]float64) {
	a, b := (about+1)%3, (about+2)%3
	c, s := math.Cos(angle), math.Sin(angle)
	for i, v := range axes {
		out[i] = v
		out[i][a], out[i][b] = c*v[a]-s*v[b], s*v[a]+c*v[b]
	}
	return out
}

func distance(p [3]float64) float64 { return math.Sqrt(p[0]*p[0] + p[1]*p[1] + p[2]*p[2]) }

// However the grid lies, the patient's left is at the right, the back at the bottom or right, the head at the top: in images
// that grow brighter to the left, the back or the head, and in the letters.
func TestViewsAreTurnedAsRadiologistsLook(t *testing.T) {
	// Towards the right and the bottom of each plane, and the letters left, right, top, bottom.
	want := map[Plane]struct {
		right, bottom int // patient axis
		sign          float64
		letters       [4]string
	}{
		Axial:    {0, 1, 1, [4]string{"R", "L", "A", "P"}},
		Coronal:  {0, 2, -1, [4]string{"R", "L", "H", "F"}},
		Sagittal: {1, 2, -1, [4]string{"A", "P", "H", "F"}},
	}
	var all [][3][3]float64
	for _, p := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		for signs := range 8 {
			var a [3][3]float64
			for k := range 3 {
				a[k][p[k]] = 1
				if signs>>k&1 == 1 {
					a[k][p[k]] = -1
				}
			}
			all = append(all, a)
		}
	}
	for i, axes := range all {
		for _, angle := range []float64{0, 8 * math.Pi / 180, 25 * math.Pi / 180} {
			axes := turned(axes, i%3, angle)
			// Largest along z of the grid's, whichever that is: all three sizes differ, so a wrong axis is a wrong size.
			g := centred([3]int{30, 26, 38}, [3]float64{1.3, 1.6, 1.1}, axes)
			m := maskOf(g, func(p [3]float64) bool { return distance(p) < 9 })
			for axis := range 3 {
				views := Views(grid(g, func(p [3]float64) float64 { return p[axis] }), m, "MR", "")
				if len(views) != 3 {
					t.Fatalf("axes %v: %d views", axes, len(views))
				}
				for _, v := range views {
					w := want[v.Plane]
					b := v.Picture.Bounds()
					across := int(v.Picture.GrayAt(b.Dx()-1, b.Dy()/2).Y) - int(v.Picture.GrayAt(0, b.Dy()/2).Y)
					down := int(v.Picture.GrayAt(b.Dx()/2, b.Dy()-1).Y) - int(v.Picture.GrayAt(b.Dx()/2, 0).Y)
					if axis == w.right && across < 100 {
						t.Errorf("axes %v, plane %d: axis %d grows by %d to the right", axes, v.Plane, axis, across)
					}
					if axis == w.bottom && float64(down)*w.sign < 100 {
						t.Errorf("axes %v, plane %d: axis %d grows by %d to the bottom", axes, v.Plane, axis, down)
					}
					got := [4]string{v.Left, v.Right, v.Top, v.Bottom}
					for k, s := range got {
						if !strings.HasPrefix(s, w.letters[k]) || angle < 0.2 && len(s) != 1 {
							t.Errorf("axes %v, plane %d: letters %v, want %v", axes, v.Plane, got, w.letters)
						}
					}
					if angle > 0.4 == (v.Oblique == false) && v.Plane != plane(i%3) || angle < 0.2 && v.Oblique {
						t.Errorf("axes %v, plane %d: oblique is %t at %.0f°", axes, v.Plane, v.Oblique, angle*180/math.Pi)
					}
				}
			}
		}
	}
}

// plane is the one that an axis of the patient is normal to: a turn about it leaves it.
func plane(normal int) Plane { return [3]Plane{Sagittal, Coronal, Axial}[normal] }

// A double oblique grid names the second direction too. PS3.3 C.7.6.1.1.1.
func TestLetters(t *testing.T) {
	for _, c := range []struct {
		d    [3]float64
		want string
	}{
		{[3]float64{1, 0, 0}, "L"}, {[3]float64{-1, 0, 0}, "R"}, {[3]float64{0, 1, 0}, "P"}, {[3]float64{0, -1, 0}, "A"},
		{[3]float64{0, 0, 1}, "H"}, {[3]float64{0, 0, -1}, "F"}, {[3]float64{0.9, -0.43, 0}, "LA"}, {[3]float64{-0.1, 0.7, -0.7}, "PF"},
	} {
		if got := letters(c.d, 1); got != c.want {
			t.Errorf("%v is %q, want %q", c.d, got, c.want)
		}
	}
}

// unitEdges are the edges of pixels between in and not in, by the plain formula: a corner and whether the edge is upright.
func unitEdges(w, h int, in func(x, y int) bool) map[[3]int]bool {
	edges := map[[3]int]bool{}
	for y := -1; y < h+1; y++ {
		for x := -1; x < w+1; x++ {
			if in(x, y) != in(x+1, y) {
				edges[[3]int{x + 1, y, 1}] = true
			}
			if in(x, y) != in(x, y+1) {
				edges[[3]int{x, y + 1, 0}] = true
			}
		}
	}
	return edges
}

// edgesOf takes closed lines apart into the edges of pixels. An edge that is there twice is an error.
func edgesOf(t *testing.T, lines [][]image.Point) map[[3]int]bool {
	t.Helper()
	edges := map[[3]int]bool{}
	for _, line := range lines {
		for i, p := range line {
			q := line[(i+1)%len(line)]
			r := line[(i+2)%len(line)]
			if (p.X == q.X) == (p.Y == q.Y) || (p.X == q.X) == (q.X == r.X) {
				t.Errorf("%v, %v, %v is no corner of a contour", p, q, r)
				return nil
			}
			for p != q {
				from := p
				switch {
				case p.X < q.X:
					p.X++
				case p.X > q.X:
					p.X--
					from = p
				case p.Y < q.Y:
					p.Y++
				default:
					p.Y--
					from = p
				}
				upright := 0
				if p.X == from.X && p.Y != from.Y || p == from && line[i].X == q.X {
					upright = 1
				}
				e := [3]int{from.X, from.Y, upright}
				if edges[e] {
					t.Errorf("edge %v is there twice", e)
				}
				edges[e] = true
			}
		}
	}
	return edges
}

func TestOutlineIsTheEdgesOfThePixels(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 400 {
		w, h := 1+r.IntN(12), 1+r.IntN(12)
		share := []float64{0.1, 0.5, 0.9, 1}[n%4]
		pixels := make([]bool, w*h)
		for i := range pixels {
			pixels[i] = r.Float64() < share
		}
		in := func(x, y int) bool { return x >= 0 && y >= 0 && x < w && y < h && pixels[y*w+x] }
		if got, want := edgesOf(t, outline(w, h, in)), unitEdges(w, h, in); !reflect.DeepEqual(got, want) {
			t.Fatalf("%d × %d, %v: edges %v, want %v", w, h, pixels, got, want)
		}
	}
	// Two pixels that touch at a corner are two squares.
	in := func(x, y int) bool { return x == y && (x == 0 || x == 1) }
	if lines := outline(2, 2, in); len(lines) != 2 || len(lines[0]) != 4 || len(lines[1]) != 4 {
		t.Errorf("two pixels at a corner: %v", lines)
	}
}

// The contour of each view is the outline of the mask's voxels in the slice, and the pixels are those of the grid, whether the
// mask lies on the whole grid or on a part.
func TestViewsShowTheVoxelsOfTheRegion(t *testing.T) {
	g := centred([3]int{60, 50, 20}, [3]float64{1, 1, 4}, identity)
	centre := [3]float64{-6, 4, 6}
	ball := func(p [3]float64) bool {
		return distance([3]float64{p[0] - centre[0], p[1] - centre[1], p[2] - centre[2]}) < 12.2
	}
	m := maskOf(g, ball)
	im := grid(g, func(p [3]float64) float64 {
		if ball(p) {
			return 100
		}
		return p[0] - p[1]
	})
	views := Views(im, m, "MR", "")
	part := Views(im, m.Crop(m.Bounds()), "MR", "")
	if !reflect.DeepEqual(views, part) {
		t.Error("a mask on a part of the grid has other views")
	}
	for _, v := range views {
		b := v.Picture.Bounds()
		in := func(x, y int) bool {
			return x >= 0 && y >= 0 && x < b.Dx() && y < b.Dy() && v.Picture.GrayAt(x, y).Y == 255
		}
		if got, want := edgesOf(t, v.Contour), unitEdges(b.Dx(), b.Dy(), in); len(want) < 20 || !reflect.DeepEqual(got, want) {
			t.Errorf("plane %d: the contour is not the outline of the bright voxels", v.Plane)
		}
		// A ball is as wide as high, in millimetres.
		var low, high [2]float64
		for i := range 2 {
			low[i], high[i] = math.Inf(1), math.Inf(-1)
		}
		for _, line := range v.Contour {
			for _, p := range line {
				for i, c := range [2]int{p.X, p.Y} {
					low[i], high[i] = min(low[i], float64(c)*v.Pixel[i]), max(high[i], float64(c)*v.Pixel[i])
				}
			}
		}
		if w, h := high[0]-low[0], high[1]-low[1]; math.Abs(w-24.4) > 4 || math.Abs(h-24.4) > 4 {
			t.Errorf("plane %d: the ball of 24.4 mm is %.1f × %.1f mm", v.Plane, w, h)
		}
		if want := centre[[3]int{2, 1, 0}[v.Plane]]; math.Abs(v.Place-want) > 2.01 {
			t.Errorf("plane %d is at %.1f mm, the middle of the ball at %.1f", v.Plane, v.Place, want)
		}
	}
}

// The slice is the one with most voxels of the region, and of several the middle one.
func TestViewsChooseTheLargestSlice(t *testing.T) {
	g := centred([3]int{9, 9, 9}, [3]float64{1, 1, 1}, identity)
	m := &voxel.Mask{Geometry: g, Data: make([]uint8, g.Len())}
	for z, n := range []int{1, 2, 6, 6, 6, 3, 1, 0, 0} {
		for x := range n {
			m.Data[(z*9+4)*9+x] = 1
		}
	}
	im := grid(g, func(p [3]float64) float64 { return p[2] })
	for _, v := range Views(im, m, "MR", "") {
		if v.Plane == Axial && v.Place != -1 { // slice 3 of 0 to 8
			t.Errorf("the axial slice is at z %v, want −1", v.Place)
		}
	}
}

func TestViewsAtTheEdge(t *testing.T) {
	for name, c := range map[string]struct {
		size [3]int
		in   func(x, y, z int) bool
	}{
		"one voxel in a corner": {[3]int{30, 30, 30}, func(x, y, z int) bool { return x == 29 && y == 0 && z == 29 }},
		"one slice":             {[3]int{40, 40, 1}, func(x, y, z int) bool { return x > 10 && x < 20 && y > 10 && y < 25 }},
		"all voxels":            {[3]int{20, 10, 5}, func(x, y, z int) bool { return true }},
		"one voxel of a grid":   {[3]int{1, 1, 1}, func(x, y, z int) bool { return true }},
		"two far apart":         {[3]int{200, 20, 20}, func(x, y, z int) bool { return y == 3 && z == 3 && (x == 0 || x == 199) }},
	} {
		g := centred(c.size, [3]float64{0.7, 0.7, 5}, identity)
		m := &voxel.Mask{Geometry: g, Data: make([]uint8, g.Len())}
		want := 0
		for z := range c.size[2] {
			for y := range c.size[1] {
				for x := range c.size[0] {
					if c.in(x, y, z) {
						m.Data[(z*c.size[1]+y)*c.size[0]+x] = 1
						want++
					}
				}
			}
		}
		im := grid(g, func(p [3]float64) float64 { return 7 })
		views := Views(im, m, "CT", "HU")
		if len(views) != 3 {
			t.Errorf("%s: %d views", name, len(views))
		}
		for _, v := range views {
			if len(v.Contour) == 0 {
				t.Errorf("%s: plane %d has no contour", name, v.Plane)
			}
			for _, line := range v.Contour {
				for _, p := range line {
					if p.X < 0 || p.Y < 0 || p.X > v.Picture.Bounds().Dx() || p.Y > v.Picture.Bounds().Dy() {
						t.Errorf("%s: plane %d: %v of the contour is outside the picture", name, v.Plane, p)
					}
				}
			}
		}
		h := Count(im, m)
		if h == nil || sum(h) != want {
			t.Errorf("%s: histogram %+v, want %d voxels", name, h, want)
		}
	}
}

func sum(h *Histogram) int {
	n := h.Below + h.Above
	for _, c := range h.Counts {
		n += c
	}
	return n
}

func TestViewsOfNothing(t *testing.T) {
	g := centred([3]int{5, 5, 5}, [3]float64{1, 1, 1}, identity)
	im := grid(g, func(p [3]float64) float64 { return p[0] })
	in := maskOf(g, func(p [3]float64) bool { return distance(p) < 2 })
	elsewhere := maskOf(g, func(p [3]float64) bool { return true })
	elsewhere.Origin[0] += 100
	between := maskOf(g, func(p [3]float64) bool { return true })
	between.Origin[0] += 0.4
	other := maskOf(centred([3]int{5, 5, 5}, [3]float64{1, 1, 2}, identity), func(p [3]float64) bool { return true })
	none := maskOf(g, func(p [3]float64) bool { return false })
	short := &voxel.Mask{Geometry: g, Data: make([]uint8, 7)}
	for name, c := range map[string]struct {
		g *voxel.Grid
		m *voxel.Mask
	}{
		"nil": {nil, nil}, "no mask": {im, nil}, "no grid": {nil, in}, "zero": {&voxel.Grid{}, &voxel.Mask{}}, "empty": {im, none},
		"elsewhere": {im, elsewhere}, "between voxels": {im, between}, "other spacing": {im, other}, "cut short": {im, short},
	} {
		if v := Views(c.g, c.m, "CT", "HU"); v != nil {
			t.Errorf("%s: %d views", name, len(v))
		}
		if h := Count(c.g, c.m); h != nil {
			t.Errorf("%s: %+v", name, h)
		}
	}
	// No number at all, and numbers among which there are none.
	nan := grid(g, func(p [3]float64) float64 { return math.NaN() })
	if v, h := Views(nan, in, "PT", ""), Count(nan, in); len(v) != 3 || h != nil {
		t.Errorf("NaN: %d views, histogram %v", len(v), h)
	}
	im.Data[62] = float32(math.Inf(1))
	if h := Count(im, in); h == nil || sum(h) != in.Count()-1 {
		t.Errorf("an infinite voxel: %+v", h)
	}
}

// Each bin holds what a count of all voxels by the plain formula puts there.
func TestCount(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for name, value := range map[string]func() float64{
		"normal":    func() float64 { return 40 + 12*r.NormFloat64() },
		"whole":     func() float64 { return math.Round(40 + 12*r.NormFloat64()) },
		"metal":     func() float64 { return math.Exp(4 * r.NormFloat64()) },
		"constant":  func() float64 { return 3.25 },
		"two":       func() float64 { return float64(r.IntN(2)) },
		"tiny":      func() float64 { return 1e-30 * r.Float64() },
		"enormous":  func() float64 { return 1e30 * r.NormFloat64() },
		"offset":    func() float64 { return 1e6 + r.Float64() },
		"SUV":       func() float64 { return 5 * r.Float64() },
		"full span": func() float64 { return math.MaxFloat32 * (2*r.Float64() - 1) },
	} {
		g := centred([3]int{20, 20, 20}, [3]float64{1, 1, 1}, identity)
		im := grid(g, func([3]float64) float64 { return value() })
		m := maskOf(g, func(p [3]float64) bool { return distance(p) < 9 })
		h := Count(im, m)
		if h == nil {
			t.Errorf("%s: no histogram", name)
			continue
		}
		want := &Histogram{Low: h.Low, Width: h.Width, Counts: make([]int, len(h.Counts))}
		var inside []float64
		for i, v := range im.Data {
			if m.Data[i] == 0 {
				continue
			}
			inside = append(inside, float64(v))
			b := math.Floor((float64(v) - h.Low) / h.Width)
			switch {
			case b < 0:
				want.Below++
			case b >= float64(len(h.Counts)):
				want.Above++
			default:
				want.Counts[int(b)]++
			}
		}
		if !reflect.DeepEqual(h, want) {
			t.Errorf("%s: %+v, want %+v", name, h, want)
		}
		if n := len(h.Counts); n > 200 || h.Below+h.Above > len(inside)/50 {
			t.Errorf("%s: %d bins, %d of %d voxels outside", name, n, h.Below+h.Above, len(inside))
		}
		if slices.Max(inside) > slices.Min(inside) && name != "two" && len(h.Counts) < 4 {
			t.Errorf("%s: %d bins", name, len(h.Counts))
		}
	}
}

func TestWindows(t *testing.T) {
	flat := func(v ...float32) []float32 { return v }
	for _, c := range []struct {
		modality      string
		field, inside []float32
		want          window
	}{
		{"CT", flat(-1000, 40, 60), flat(40, 50), window{-160, 240, false}},
		{"CT", flat(-1000, 40, 60), flat(-800, -700), window{-1350, 150, false}},
		{"CT", flat(-1000, 40, 900), flat(800, 700), window{-500, 1300, false}},
		{"CT", flat(4000, 4100, 4200), flat(4100), window{4000, 4100, false}}, // no Hounsfield units
		{"PT", flat(0, 1, 9), flat(2, 6, 6), window{0, 6, true}},
		{"PT", flat(-2, -1), flat(-1), window{-2, -1, true}},
		{"MR", flat(5, 5, 5), flat(5), window{5, 6, false}},
		{"MR", nil, nil, window{0, 1, false}},
	} {
		if got := windowFor(c.modality, c.field, c.inside); got != c.want {
			t.Errorf("%s %v: %+v, want %+v", c.modality, c.field, got, c.want)
		}
	}
}
