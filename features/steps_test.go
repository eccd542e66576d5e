package features

import (
	"cmp"
	"math"
	"math/cmplx"
	"slices"
	"testing"

	"github.com/radnode/radnode/features/voxel"
	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"
)

// region makes an ROI whose masks are the same, all along the patient's axes.
func region(size [3]int, spacing [3]float64, image []float32, mask []uint8) *ROI {
	geo := voxel.Geometry{Size: size, Spacing: spacing, Axes: [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}
	m := &voxel.Mask{Geometry: geo, Data: mask}
	return &ROI{Image: &voxel.Grid{Geometry: geo, Data: image}, Morph: m, Intensity: m, Geometry: geo}
}

// valuesOf are the values of a family for one ROI, of the first aggregation of its profile.
func valuesOf(name Family, roi *ROI) []Value {
	for _, f := range families {
		if f.name == name {
			v := values{rows: f.rows, aggregation: f.aggregations(roi.profile)[0]}
			f.compute(roi, &v)
			return v.list
		}
	}
	return nil
}

var spacings = rapid.SampledFrom([]float64{0.5, 0.977, 1, 1.7, 3})

// randomROI has a mask of any shape, with holes, often at the border.
func randomROI(t *rapid.T, most int) *ROI {
	var size [3]int
	var spacing [3]float64
	for a := range 3 {
		size[a] = rapid.IntRange(1, most).Draw(t, "size")
		spacing[a] = spacings.Draw(t, "spacing")
	}
	n := size[0] * size[1] * size[2]
	image, mask := make([]float32, n), make([]uint8, n)
	seed, fill := rapid.Uint32().Draw(t, "seed"), rapid.Uint32Range(20, 250).Draw(t, "fill")
	parts := rapid.SampledFrom([]float32{1, 4}).Draw(t, "parts") // of whole numbers, or of quarters
	for i := range n {
		seed = seed*1664525 + 1013904223
		image[i] = float32(int(seed>>20)-1000) / parts
		seed = seed*1664525 + 1013904223
		if seed>>24 < fill {
			mask[i] = 1
		}
	}
	mask[int(seed>>8)%n] = 1
	return region(size, spacing, image, mask)
}

// boxesROI is long along x and made of boxes set and cleared one after another,
// so that its rows have long runs of either kind.
func boxesROI(t *rapid.T) *ROI {
	size := [3]int{rapid.IntRange(1, 60).Draw(t, "nx"), rapid.IntRange(1, 5).Draw(t, "ny"), rapid.IntRange(1, 5).Draw(t, "nz")}
	n := size[0] * size[1] * size[2]
	mask := make([]uint8, n)
	for b := range rapid.IntRange(1, 6).Draw(t, "boxes") {
		var lo, hi [3]int
		for a := range 3 {
			lo[a] = rapid.IntRange(0, size[a]-1).Draw(t, "lo")
			hi[a] = rapid.IntRange(lo[a]+1, size[a]).Draw(t, "hi")
		}
		for i := range n {
			x, y, z := i%size[0], i/size[0]%size[1], i/size[0]/size[1]
			if x >= lo[0] && x < hi[0] && y >= lo[1] && y < hi[1] && z >= lo[2] && z < hi[2] {
				mask[i] = uint8(1 - b%2)
			}
		}
	}
	if !slices.Contains(mask, 1) {
		mask[n/2] = 1
	}
	return region(size, [3]float64{spacings.Draw(t, "dx"), 1, 3}, make([]float32, n), mask)
}

// places are the voxels of the intensity mask in mm, with their intensities.
func places(roi *ROI) (p [][3]float64, x []float64) {
	i := 0
	s := roi.Image.Spacing
	for z := range roi.Image.Size[2] {
		for y := range roi.Image.Size[1] {
			for x0 := range roi.Image.Size[0] {
				if roi.Intensity.Data[i] != 0 {
					p = append(p, [3]float64{float64(x0) * s[0], float64(y) * s[1], float64(z) * s[2]})
					x = append(x, float64(roi.Image.Data[i]))
				}
				i++
			}
		}
	}
	return p, x
}

// intensities are the values under the intensity mask, x fastest.
func intensities(roi *ROI) []float64 {
	_, x := places(roi)
	return x
}

// meanVariance is the mean and the population variance.
func meanVariance(x []float64) (mean, variance float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		variance += (v - mean) * (v - mean) / float64(len(x))
	}
	return mean, variance
}

func distance(a, b [3]float64) float64 {
	return math.Sqrt((a[0]-b[0])*(a[0]-b[0]) + (a[1]-b[1])*(a[1]-b[1]) + (a[2]-b[2])*(a[2]-b[2]))
}

func within(a, b, relative float64) bool {
	return math.Abs(a-b) <= relative*math.Max(math.Abs(a), math.Abs(b))
}

// The mesh is closed and has one side: each edge is used once in each
// direction, or, where two parts touch, as often in one as in the other.
func TestMeshIsClosed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roi := randomROI(t, 6)
		if rapid.Bool().Draw(t, "runs") {
			roi = boxesROI(t)
		}
		m := roi.Morph
		in := func(x, y, z int) int {
			if x < 0 || y < 0 || z < 0 || x >= m.Size[0] || y >= m.Size[1] || z >= m.Size[2] {
				return 0
			}
			return int(m.Data[(z*m.Size[1]+y)*m.Size[0]+x])
		}
		edges := map[[2]point]int{}
		var volume, area float64
		for z := -1; z < m.Size[2]; z++ {
			for y := -1; y < m.Size[1]; y++ {
				for x := -1; x < m.Size[0]; x++ {
					c := 0
					for k := range 8 {
						c |= in(x+k&1, y+k>>1&1, z+k>>2&1) << k
					}
					for _, tr := range cubes[c] {
						var p [3][3]float64
						for i := range tr {
							a := add(tr[i], point{int32(2 * x), int32(2 * y), int32(2 * z)})
							b := add(tr[(i+1)%3], point{int32(2 * x), int32(2 * y), int32(2 * z)})
							edges[[2]point{a, b}]++
							edges[[2]point{b, a}]--
							for k := range 3 {
								p[i][k] = float64(a[k]) / 2 * m.Spacing[k]
							}
						}
						n := voxel.Cross(minus(p[1], p[0]), minus(p[2], p[0]))
						area += math.Sqrt(voxel.Dot(n, n)) / 2
						volume += voxel.Dot(voxel.Cross(p[0], p[1]), p[2]) / 6 // signed tetrahedron
					}
				}
			}
		}
		for e, n := range edges {
			if n != 0 {
				t.Fatalf("edge %v is used %d times more in one direction", e, n)
			}
		}
		got := newMesh(m)
		if !within(got.volume, volume, 1e-9) || !within(got.area, area, 1e-9) || volume <= 0 {
			t.Fatalf("volume %v, area %v; triangles give %v, %v", got.volume, got.area, volume, area)
		}
		var vertices, ends []point
		for e := range edges {
			vertices = append(vertices, e[0])
		}
		slices.SortFunc(vertices, func(a, b point) int {
			return cmp.Or(cmp.Compare(a[2], b[2]), cmp.Compare(a[1], b[1]), cmp.Compare(a[0], b[0]))
		})
		vertices = slices.Compact(vertices)
		for i, v := range vertices {
			inside := func(j int) bool {
				return j >= 0 && j < len(vertices) && vertices[j][1] == v[1] && vertices[j][2] == v[2]
			}
			if !inside(i-1) || !inside(i+1) {
				ends = append(ends, v)
			}
		}
		if !slices.Equal(got.ends, ends) {
			t.Fatalf("ends of rows %v, want %v", got.ends, ends)
		}
	})
}

func minus(a, b [3]float64) [3]float64 { return [3]float64{a[0] - b[0], a[1] - b[1], a[2] - b[2]} }

// One voxel is an octahedron, two are a longer one: by hand.
func TestMeshByHand(t *testing.T) {
	s := [3]float64{1, 2, 4}
	one := newMesh(region([3]int{1, 1, 1}, s, []float32{0}, []uint8{1}).Morph)
	if want := 8.0 / 6; !within(one.volume, want, 1e-12) { // half-axes ½, 1, 2: 4/3·abc
		t.Errorf("one voxel: %v mm³, want %v", one.volume, want)
	}
	two := newMesh(region([3]int{2, 1, 1}, s, []float32{0, 0}, []uint8{1, 1}).Morph)
	if want := 8.0/6 + 4; !within(two.volume, want, 1e-12) { // and a prism of 2·1·2 area, 1 long
		t.Errorf("two voxels: %v mm³, want %v", two.volume, want)
	}
}

// No vertex is above a face of the hull, every face's neighbour closes it, and
// the corners alone span the same hull.
func TestHull(t *testing.T) {
	check := func(t interface{ Fatalf(string, ...any) }, vertices []point) {
		h := newHull(vertices)
		edges := map[[2]point]int{}
		for _, f := range h.faces {
			n := normal(f[0], f[1], f[2])
			if n == [3]int64{} {
				t.Fatalf("face %v is flat", f)
			}
			for _, p := range vertices {
				if dot(n, p) > dot(n, f[0]) {
					t.Fatalf("vertex %v is outside face %v", p, f)
				}
			}
			for i := range f {
				edges[[2]point{f[i], f[(i+1)%3]}]++
			}
		}
		for e, n := range edges {
			if n != 1 || edges[[2]point{e[1], e[0]}] != 1 {
				t.Fatalf("edge %v is not between two faces", e)
			}
		}
		again := newHull(h.vertices)
		v, a := h.measure([3]float64{1, 2, 3})
		v2, a2 := again.measure([3]float64{1, 2, 3})
		if v != v2 || !within(a, a2, 1e-12) || len(again.vertices) != len(h.vertices) {
			t.Fatalf("the corners span %v mm³, %v mm²; the vertices %v, %v", v2, a2, v, a)
		}
	}
	t.Run("masks", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) { check(t, newMesh(randomROI(t, 7).Morph).ends) })
	})
	t.Run("points", func(t *testing.T) {
		// A small range makes coplanar, collinear and equal points the rule.
		coordinate := rapid.Int32Range(0, 4)
		p := rapid.Custom(func(t *rapid.T) point {
			return point{coordinate.Draw(t, "x"), coordinate.Draw(t, "y"), coordinate.Draw(t, "z")}
		})
		rapid.Check(t, func(t *rapid.T) {
			points := rapid.SliceOfN(p, 0, 60).Draw(t, "points")
			points = append(points, point{}, point{1}, point{0, 1}, point{0, 0, 1})
			check(t, points)
		})
	})
}

func TestDiameterAgainstAllPairs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roi := randomROI(t, 7)
		v := newMesh(roi.Morph).ends
		s := roi.Image.Spacing
		want := 0.0
		for _, a := range v {
			for _, b := range v {
				want = max(want, distance([3]float64{float64(a[0]) * s[0] / 2, float64(a[1]) * s[1] / 2, float64(a[2]) * s[2] / 2},
					[3]float64{float64(b[0]) * s[0] / 2, float64(b[1]) * s[1] / 2, float64(b[2]) * s[2] / 2}))
			}
		}
		if got := diameter(newHull(v).millimetres(s)); !within(got, want, 1e-12) {
			t.Fatalf("diameter %v, want %v", got, want)
		}
	})
}

func TestEigenvaluesAgainstGonum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.SliceOfN(rapid.Float64Range(-10, 10), 6, 6).Draw(t, "matrix")
		a := sym3{{v[0], v[1], v[2]}, {0, v[3], v[4]}, {0, 0, v[5]}}
		var e mat.EigenSym
		if !e.Factorize(mat.NewSymDense(3, []float64{v[0], v[1], v[2], v[1], v[3], v[4], v[2], v[4], v[5]}), false) {
			t.Skip("gonum did not converge")
		}
		want, got := e.Values(nil), a.eigenvalues()
		for k := range 3 {
			if math.Abs(got[k]-want[2-k]) > 1e-12*(1+math.Abs(want[2])+math.Abs(want[0])) {
				t.Fatalf("eigenvalues %v, gonum %v", got, want)
			}
		}
	})
}

func TestPrincipalVariancesAgainstFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roi := randomROI(t, 7)
		if rapid.Bool().Draw(t, "runs") {
			roi = boxesROI(t)
		}
		p, _ := places(roi)
		if len(p) < 2 {
			return
		}
		var mean [3]float64
		for _, q := range p {
			for k := range q {
				mean[k] += q[k] / float64(len(p))
			}
		}
		c := mat.NewSymDense(3, nil)
		for _, q := range p {
			for a := range 3 {
				for b := a; b < 3; b++ {
					c.SetSym(a, b, c.At(a, b)+(q[a]-mean[a])*(q[b]-mean[b])/float64(len(p)-1))
				}
			}
		}
		var e mat.EigenSym
		e.Factorize(c, false)
		want, got := e.Values(nil), principalVariances(roi.Morph)
		for k := range 3 {
			if math.Abs(got[k]-want[2-k]) > 1e-11*want[2] {
				t.Fatalf("variances %v, want %v", got, want)
			}
		}
	})
}

// The series against the surface integral of the ellipsoid. The manual's variant
// is the formula that its text prints, here with the polynomials written out.
func TestEllipsoidArea(t *testing.T) {
	for _, s := range [][3]float64{{1, 1, 1}, {3, 3, 2}, {3, 2, 2}, {4, 3, 2}, {1, 5, 3}, {10, 9, 4}} {
		const n = 2000
		want := 0.0
		for i := range n {
			for j := range 64 {
				u, v := (float64(i)+0.5)*math.Pi/n, (float64(j)+0.5)*2*math.Pi/64
				x := s[1] * s[2] * math.Sin(u) * math.Cos(v)
				y := s[0] * s[2] * math.Sin(u) * math.Sin(v)
				z := s[0] * s[1] * math.Cos(u)
				want += math.Sin(u) * math.Sqrt(x*x+y*y+z*z) * math.Pi / n * 2 * math.Pi / 64
			}
		}
		if got := ellipsoidArea(s); !within(got, want, 2e-5) {
			t.Errorf("%v: area %v, integral %v", s, got, want)
		}
	}
	a, b, c := 4.0, 3.0, 2.0
	alpha, beta := math.Sqrt(1-b*b/a/a), math.Sqrt(1-c*c/a/a)
	x := (alpha*alpha + beta*beta) / (2 * alpha * beta)
	before, p, want := 0.0, 1.0, 1.0
	for v := 1.0; v <= 20; v++ {
		before, p = p, ((2*v-1)*x*p-(v-1)*before)/v
		want += math.Pow(alpha*beta, v) / (1 - 4*v*v) * p
	}
	if got := approximateArea([3]float64{b, c, a}); !within(got, 4*math.Pi*a*b*want, 1e-12) {
		t.Errorf("manual's series: %v, want %v", got, 4*math.Pi*a*b*want)
	}
}

// By duality (Khachiyan) weights on the points that sum to 1 prove a lower bound
// of the least volume; the ellipsoid must hold every point, and its volume come
// near what the plain algorithm of many small steps reaches.
func TestEnclosingEllipsoid(t *testing.T) {
	box := [][3]float64{}
	for c := range 8 {
		box = append(box, [3]float64{float64(c&1) * 2, float64(c>>1&1) * 4, float64(c>>2&1) * 6})
	}
	got := enclosingEllipsoid(box)
	for k, want := range []float64{3 * math.Sqrt(3), 2 * math.Sqrt(3), math.Sqrt(3)} { // of a box: its half-sides times √3
		if !within(got[k], want, 1e-5) {
			t.Errorf("box: semi-axes %v", got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		roi := randomROI(t, 6)
		points := newHull(newMesh(roi.Morph).ends).millimetres(roi.Image.Spacing)
		got := ellipsoidVolume(enclosingEllipsoid(points))
		// Plain Khachiyan: det of the weighted moments bounds the volume from below.
		q, scale := homogeneous(points)
		u := make([]float64, len(q))
		for i := range u {
			u[i] = 1 / float64(len(q))
		}
		for range 3000 {
			inv := invert4(weighted(q, u))
			j, k := 0, 0.0
			for i, p := range q {
				if d := quad(&inv, p); d > k {
					j, k = i, d
				}
			}
			step := (k - 4) / (4 * (k - 1))
			for i := range u {
				u[i] *= 1 - step
			}
			u[j] += step
		}
		x := weighted(q, u)
		d := mat.Det(mat.NewDense(4, 4, slices.Concat(x[0][:], x[1][:], x[2][:], x[3][:])))
		lower := 4 * math.Pi / 3 * math.Sqrt(27*d) * scale[0] * scale[1] * scale[2]
		if got < lower*(1-1e-9) || got > lower*1.003 {
			t.Fatalf("volume %v, lower bound %v", got, lower)
		}
	})
}

// An exchange keeps the inverse and ends where no other share of the two weights
// makes the determinant greater.
func TestExchange(t *testing.T) {
	det := func(q [][4]float64, u []float64) float64 {
		x := weighted(q, u)
		return mat.Det(mat.NewDense(4, 4, slices.Concat(x[0][:], x[1][:], x[2][:], x[3][:])))
	}
	rapid.Check(t, func(t *rapid.T) {
		coordinate, weight := rapid.Float64Range(-1, 1), rapid.Float64Range(0, 1)
		q := [][4]float64{{0, 0, 0, 1}, {1, 0, 0, 1}, {0, 1, 0, 1}, {0, 0, 1, 1}} // so that there is an inverse
		u := []float64{0.1, 0.1, 0.1, 0.1, weight.Draw(t, "u"), weight.Draw(t, "v")}
		for range 2 {
			q = append(q, [4]float64{coordinate.Draw(t, "x"), coordinate.Draw(t, "y"), coordinate.Draw(t, "z"), 1})
		}
		before := slices.Clone(u)
		inv := invert4(weighted(q, u))
		exchange(&inv, q, u, 4, 5)
		want := invert4(weighted(q, u))
		for a := range 4 {
			for b := range 4 {
				if math.Abs(inv[a][b]-want[a][b]) > 1e-9*(1+math.Abs(want[a][a])+math.Abs(want[b][b])) {
					t.Fatalf("inverse %v, want %v", inv, want)
				}
			}
		}
		if sum := before[4] + before[5]; u[4] < 0 || u[5] < 0 || !slices.Equal(u[:4], before[:4]) || math.Abs(u[4]+u[5]-sum) > 1e-15 {
			t.Fatalf("weights %v, before %v", u, before)
		}
		got := det(q, u)
		for k := range 21 {
			share := (before[4] + before[5]) * float64(k) / 20
			if d := det(q, append(slices.Clone(u[:4]), share, before[4]+before[5]-share)); d > got*(1+1e-9) {
				t.Fatalf("determinant %v with the weights %v, %v with %v", got, u, d, share)
			}
		}
	})
}

func TestTransformAgainstSum(t *testing.T) {
	for _, n := range []int{1, 2, 3, 4, 5, 6, 8, 9, 15, 16, 20, 25, 30, 60, 64, 125, 128, 135} {
		const lines = 3
		x := make([]complex128, n*lines)
		seed := uint32(n)
		for i := range x {
			seed = seed*1664525 + 1013904223
			x[i] = complex(float64(seed>>16)/65536, float64(seed&0xffff)/65536)
		}
		in := slices.Clone(x)
		got := newTransform(n).do(x, make([]complex128, len(x)), lines)
		for k := range n {
			for l := range lines {
				want := complex128(0)
				for j := range n {
					want += in[j*lines+l] * cmplx.Exp(complex(0, -2*math.Pi*float64(j*k%n)/float64(n)))
				}
				if cmplx.Abs(got[k*lines+l]-want) > 1e-12*float64(n) {
					t.Fatalf("n %d, k %d: %v, want %v", n, k, got[k*lines+l], want)
				}
			}
		}
	}
	for n, want := range map[int]int{1: 1, 7: 8, 121: 125, 129: 135} {
		if got := smooth(n); got != want {
			t.Errorf("smooth(%d) = %d, want %d", n, got, want)
		}
	}
	for den := 1; den < 200; den++ {
		for num := range den {
			s, c := sincosTurn(num, den)
			ws, wc := math.Sincos(2 * math.Pi * float64(num) / float64(den))
			if math.Abs(s-ws) > 3e-15 || math.Abs(c-wc) > 3e-15 {
				t.Fatalf("turn %d/%d: %v %v, want %v %v", num, den, s, c, ws, wc)
			}
		}
	}
}

// Moran's I and Geary's C as the manual writes them, over all pairs.
func TestSpatialAgainstAllPairs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roi := randomROI(t, 7)
		p, x := places(roi)
		mean, variance := meanVariance(x)
		if variance == 0 {
			return
		}
		var w, wzz, wdd, zz float64
		for i := range p {
			zz += (x[i] - mean) * (x[i] - mean)
			for j := range p {
				if i != j {
					f := 1 / distance(p[i], p[j])
					w += f
					wzz += f * (x[i] - mean) * (x[j] - mean)
					wdd += f * (x[i] - x[j]) * (x[i] - x[j])
				}
			}
		}
		n := float64(len(x))
		v := values{rows: morphologyTable[27:]}
		spatial(&v, roi, roi.description())
		moran, geary := n/w*wzz/zz, (n-1)/(2*w)*wdd/zz
		if math.Abs(v.list[0].Value-moran) > 1e-10 || math.Abs(v.list[1].Value-geary) > 1e-10 {
			t.Fatalf("Moran's I %v, want %v; Geary's C %v, want %v", v.list[0].Value, moran, v.list[1].Value, geary)
		}
	})
}

// The mean over every voxel of the image whose centre is within the radius.
func TestSphereMeansAgainstAllVoxels(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roi := randomROI(t, 12)
		in, _ := places(roi)
		all := region(roi.Image.Size, roi.Image.Spacing, roi.Image.Data, slices.Repeat([]uint8{1}, len(roi.Image.Data)))
		p, x := places(all)
		r := 10 * math.Cbrt(3/(4*math.Pi))
		for i, got := range sphereMeans(roi) {
			sum, n := 0.0, 0.0
			for j := range p {
				if distance(p[j], in[i]) <= r {
					sum += x[j]
					n++
				}
			}
			if !within(got, sum/n, 1e-9) {
				t.Fatalf("voxel %d: %v, want %v over %v voxels", i, got, sum/n, n)
			}
		}
	})
}

// The sums of section 3.3 with the textbook's two passes and a plain sort.
func TestStatisticsAgainstFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roi := randomROI(t, 6)
		_, x := places(roi)
		n := float64(len(x))
		moment := func(c float64, k int) (s float64) {
			for _, v := range x {
				s += math.Pow(v-c, float64(k)) / n
			}
			return s
		}
		mean := moment(0, 1)
		sd := math.Sqrt(moment(mean, 2))
		slices.Sort(x)
		quantile := func(p float64) float64 {
			h := p * (n - 1)
			lo := int(math.Floor(h))
			hi := min(lo+1, len(x)-1)
			return x[lo] + (h-math.Floor(h))*(x[hi]-x[lo])
		}
		want := map[string]float64{
			"stat_mean": mean, "stat_var": sd * sd, "stat_median": quantile(0.5), "stat_min": x[0], "stat_max": x[len(x)-1],
			"stat_p10": quantile(0.1), "stat_p90": quantile(0.9), "stat_iqr": quantile(0.75) - quantile(0.25),
			"stat_range": x[len(x)-1] - x[0], "stat_energy": n * moment(0, 2), "stat_rms": math.Sqrt(moment(0, 2)),
		}
		deviation := func(c float64, in []float64) (s float64) {
			for _, v := range in {
				s += math.Abs(v-c) / float64(len(in))
			}
			return s
		}
		want["stat_mad"], want["stat_medad"] = deviation(mean, x), deviation(quantile(0.5), x)
		var robust []float64
		robustMean := 0.0
		for _, v := range x {
			if v >= quantile(0.1) && v <= quantile(0.9) {
				robust = append(robust, v)
				robustMean += v
			}
		}
		if len(robust) > 0 {
			want["stat_rmad"] = deviation(robustMean/float64(len(robust)), robust)
		}
		if sd > 1e-9 {
			want["stat_skew"], want["stat_kurt"] = moment(mean, 3)/(sd*sd*sd), moment(mean, 4)/(sd*sd*sd*sd)-3
		}
		for _, v := range valuesOf(Statistics, roi) {
			if w, ok := want[v.Tag]; ok && math.Abs(v.Value-w) > 1e-8*(1+math.Abs(w)) {
				t.Fatalf("%s = %v, want %v", v.Tag, v.Value, w)
			}
		}
	})
}

// The distribution, counted and sorted, against a plain sort.
func TestDistinct(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.SliceOfN(rapid.OneOf(rapid.Float32Range(-3, 3), rapid.Float32(),
			rapid.SampledFrom([]float32{0, float32(math.Copysign(0, -1)), 1, -1, 65535, 1 << 24, math.MaxFloat32, -math.MaxFloat32})), 1, 300).Draw(t, "x")
		if rapid.Bool().Draw(t, "whole") {
			for i, v := range x {
				x[i] = float32(math.Trunc(math.Mod(float64(v), 30000)))
			}
		}
		var got []float32
		for i, l := range distinct(region([3]int{1, len(x), 1}, [3]float64{1, 1, 1}, x, slices.Repeat([]uint8{1}, len(x)))) {
			if l.n == 0 || i > 0 && got[len(got)-1] == l.x {
				t.Fatalf("intensity %d is %v", i, l)
			}
			got = append(got, slices.Repeat([]float32{l.x}, int(l.n))...)
		}
		slices.Sort(x)
		if !slices.Equal(got, x) {
			t.Fatalf("%v, want %v", got, x)
		}
	})
}

func TestCbrt(t *testing.T) {
	for _, x := range []float64{0, 1e-9, 0.5, 1, 2, 27, 1e12, 3.3e-300, 1e300} {
		if !within(cbrt(x), math.Cbrt(x), 1e-15) {
			t.Errorf("cbrt(%v) = %v, want %v", x, cbrt(x), math.Cbrt(x))
		}
	}
}

func BenchmarkStep(b *testing.B) {
	const radius, n = 28.8, 71
	image, mask := make([]float32, n*n*n), make([]uint8, n*n*n)
	for i := range image {
		x, y, z := float64(i%n-n/2), float64(i/n%n-n/2), float64(i/n/n-n/2)
		if x*x+y*y+z*z <= radius*radius {
			mask[i] = 1
		}
		image[i] = float32(i*7919%1009) - 300
	}
	roi := region([3]int{n, n, n}, [3]float64{1, 1, 1}, image, mask)
	fractions := make([]float32, len(image))
	for i, v := range image {
		fractions[i] = v / 7
	}
	pet := region(roi.Image.Size, roi.Image.Spacing, fractions, mask)
	s := roi.Image.Spacing
	surface := newMesh(roi.Morph)
	h := newHull(surface.ends)
	points := h.millimetres(s)
	mean, variance := meanVariance(intensities(roi))
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"mesh", func() { newMesh(roi.Morph) }},
		{"hull", func() { newHull(surface.ends) }},
		{"diameter", func() { diameter(points) }},
		{"axes", func() { principalVariances(roi.Morph) }},
		{"orientedBox", func() { orientedBox(h, s) }},
		{"enclosingEllipsoid", func() { enclosingEllipsoid(points) }},
		{"moranGeary", func() { autocorrelation(roi, mean, math.Sqrt(variance)) }},
		{"peaks", func() { sphereMeans(roi) }},
		{"peaksOfFractions", func() { sphereMeans(pet) }},
		{"statistics", func() { roi.forget(); valuesOf(Statistics, roi) }},
		{"statisticsOfFractions", func() { pet.forget(); valuesOf(Statistics, pet) }},
	} {
		b.Run(step.name, func(b *testing.B) {
			for b.Loop() {
				step.do()
			}
		})
	}
}
