package voxel

import (
	"math"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func axisAligned(size [3]int, spacing [3]float64) Geometry {
	return Geometry{Size: size, Spacing: spacing, Axes: [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}
}

// oblique turns a geometry out of the patient's axes.
func oblique(g Geometry) Geometry {
	g.Axes = [3][3]float64{{2. / 3, 2. / 3, 1. / 3}, {-2. / 3, 1. / 3, 2. / 3}, {1. / 3, -2. / 3, 2. / 3}}
	g.Origin = [3]float64{-120, 35.5, 900}
	return g
}

// The sizes are those of the CT phantom in the IBSI's tables, and cases where
// decimal spacings are not binary ones.
func TestAligned(t *testing.T) {
	for _, c := range []struct {
		size    [3]int
		from    [3]float64
		to      [3]float64
		want    [3]int
		spacing [3]float64
	}{
		{[3]int{204, 201, 60}, [3]float64{0.977, 0.977, 3}, [3]float64{2, 2, 2}, [3]int{100, 99, 90}, [3]float64{2, 2, 2}},
		{[3]int{204, 201, 60}, [3]float64{0.977, 0.977, 3}, [3]float64{2, 2, 0}, [3]int{100, 99, 60}, [3]float64{2, 2, 3}},
		{[3]int{5, 10, 1}, [3]float64{0.800000012, 0.1, 7}, [3]float64{1, 0.5, 20}, [3]int{4, 2, 1}, [3]float64{1, 0.5, 20}},
	} {
		g := oblique(axisAligned(c.size, c.from))
		a := Aligned(g, c.to)
		if a.Size != c.want || a.Spacing != c.spacing {
			t.Errorf("%v at %v: size %v spacing %v, want %v and %v", c.size, c.from, a.Size, a.Spacing, c.want, c.spacing)
		}
		centre := func(g Geometry) [3]float64 {
			return g.Point(float64(g.Size[0]-1)/2, float64(g.Size[1]-1)/2, float64(g.Size[2]-1)/2)
		}
		if !near(centre(g), centre(a), 1e-9) {
			t.Errorf("centres %v and %v differ", centre(g), centre(a))
		}
	}
}

func TestPointIndex(t *testing.T) {
	g := oblique(axisAligned([3]int{4, 5, 6}, [3]float64{0.7, 1.1, 2.5}))
	if got := g.Index(g.Point(1.5, -2, 3.25)); !near(got, [3]float64{1.5, -2, 3.25}, 1e-12) {
		t.Errorf("index of a point = %v", got)
	}
	if !g.Equal(g, 0) {
		t.Error("a geometry is not equal to itself")
	}
	o := g
	o.Spacing[0] *= 1.01
	if g.Equal(o, 0.01) || !g.Equal(o, 0.1) {
		t.Error("a corner that is 0.021 mm away must count with 0.01 and not with 0.1")
	}
}

func randomGrid(t *rapid.T) *Grid {
	size := [3]int{rapid.IntRange(1, 9).Draw(t, "nx"), rapid.IntRange(1, 9).Draw(t, "ny"), rapid.IntRange(1, 70).Draw(t, "nz")}
	sp := rapid.SampledFrom([]float64{0.5, 0.7, 1, 1.3, 3})
	g := &Grid{Geometry: oblique(axisAligned(size, [3]float64{sp.Draw(t, "sx"), sp.Draw(t, "sy"), sp.Draw(t, "sz")}))}
	seed := rapid.Uint32().Draw(t, "seed")
	for range g.Len() {
		seed = seed*1664525 + 1013904223
		g.Data = append(g.Data, float32(seed>>16)/7-3000)
	}
	return g
}

// A box of the interpolated image has the bits of the whole, for every method.
func TestPartOfWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := randomGrid(t)
		var spacing [3]float64
		for a := range 3 {
			spacing[a] = rapid.SampledFrom([]float64{0, 0.6, 1, 2}).Draw(t, "to")
		}
		to := Aligned(g.Geometry, spacing)
		m := Method(rapid.IntRange(0, 2).Draw(t, "method"))
		var b Box
		for a := range 3 {
			b.Min[a] = rapid.IntRange(0, to.Size[a]-1).Draw(t, "min")
			b.Max[a] = rapid.IntRange(b.Min[a]+1, to.Size[a]).Draw(t, "max")
		}
		whole, part := Resample(g, to, to.Box(), m), Resample(g, to, b, m)
		if want := whole.Crop(b); !slices.Equal(part.Data, want.Data) || !part.Geometry.Equal(want.Geometry, 1e-9) {
			t.Fatalf("%v: the part differs from the whole", m)
		}
		wide := func(b Box) (rows []float64) { // float32 hides most differences of the last bits
			interpolate(g.Data, g.Geometry, g.Box(), to, b, m, func(_ []float32, row []float64) { rows = append(rows, row...) })
			return rows
		}
		if !slices.Equal(wide(b), crop(wide(to.Box()), to.Size, b)) {
			t.Fatalf("%v: the part differs from the whole in float64", m)
		}

		source, hidden := Source(g.Geometry, to, b, m), &Grid{g.Geometry, slices.Clone(g.Data)}
		for i := range hidden.Data {
			at := [3]int{i % g.Size[0], i / g.Size[0] % g.Size[1], i / g.Size[0] / g.Size[1]}
			for a := range 3 {
				if at[a] < source.Min[a] || at[a] >= source.Max[a] {
					hidden.Data[i] = float32(math.NaN())
				}
			}
		}
		if !slices.Equal(Resample(hidden, to, b, m).Data, part.Data) {
			t.Fatalf("%v: voxels outside %v are read", m, source)
		}

		mask := g.Threshold(0)
		wholeMask := ResampleMask(mask, mask.Geometry, to, to.Box(), Linear, 0.5)
		c := Covered(g.Geometry, to, mask.Bounds())
		if got := wholeMask.Count(); c.Empty() && got > 0 || !c.Empty() && ResampleMask(mask, mask.Geometry, to, c, Linear, 0.5).Count() != got {
			t.Fatalf("voxels of the mask lie outside the covered box %v", c)
		}
	})
}

// Written out: eight neighbours with products of weights.
func TestLinearAgainstFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := randomGrid(t)
		to := Aligned(g.Geometry, [3]float64{0.9, 1.1, 0.8})
		got := Resample(g, to, to.Box(), Linear)
		at := func(q [3]float64) float64 {
			sum := 0.0
			for c := range 8 {
				w, i := 1.0, [3]int{}
				for a := range 3 {
					p := min(max(q[a], 0), float64(g.Size[a]-1))
					f := p - math.Floor(p)
					i[a] = int(math.Floor(p))
					if c>>a&1 == 1 {
						w *= f
						i[a] = min(i[a]+1, g.Size[a]-1)
					} else {
						w *= 1 - f
					}
				}
				sum += w * float64(g.Data[(i[2]*g.Size[1]+i[1])*g.Size[0]+i[0]])
			}
			return sum
		}
		n := 0
		for z := range to.Size[2] {
			for y := range to.Size[1] {
				for x := range to.Size[0] {
					want := at(g.Index(to.Point(float64(x), float64(y), float64(z))))
					if v := float64(got.Data[n]); math.Abs(v-want) > 2e-2 { // float32 of values up to 7000
						t.Fatalf("(%d,%d,%d) = %v, want %v", x, y, z, v, want)
					}
					n++
				}
			}
		}
	})
}

// The value is that of a voxel whose centre is at most half a spacing away.
func TestNearestIsNear(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := randomGrid(t)
		for i := range g.Data {
			g.Data[i] = float32(i)
		}
		to := Aligned(g.Geometry, [3]float64{0.9, 1.1, 0.8})
		for n, v := range Resample(g, to, to.Box(), Nearest).Data {
			q := g.Index(to.Point(float64(n%to.Size[0]), float64(n/to.Size[0]%to.Size[1]), float64(n/to.Size[0]/to.Size[1])))
			for a, i := range [3]int{int(v) % g.Size[0], int(v) / g.Size[0] % g.Size[1], int(v) / g.Size[0] / g.Size[1]} {
				if p := min(max(q[a], 0), float64(g.Size[a]-1)); math.Abs(p-float64(i)) > 0.5+1e-6 {
					t.Fatalf("axis %d: the value at %v is that of voxel %d", a, p, i)
				}
			}
		}
	})
}

// A cubic spline passes through the samples, and away from the ends it
// reproduces a cubic polynomial, which cubic convolution does not.
func TestCubicIsASpline(t *testing.T) {
	const n = 101
	g := &Grid{Geometry: axisAligned([3]int{n, 1, 1}, [3]float64{1, 1, 1})}
	f := func(x float64) float64 { x = (x - 50) / 10; return x*x*x - 2*x*x + 3*x - 1 }
	for i := range n {
		g.Data = append(g.Data, float32(f(float64(i))))
	}
	to := Aligned(g.Geometry, [3]float64{0.25, 0, 0})
	r := Resample(g, to, to.Box(), Cubic)
	for i, v := range r.Data {
		x := g.Index(to.Point(float64(i), 0, 0))[0]
		if x > 30 && x < 70 && math.Abs(float64(v)-f(x)) > 1e-4 {
			t.Errorf("at %v: %v, want %v", x, v, f(x))
		}
	}
	// The spline of one sample among zeros: √3-2 to the distance, at the ends too.
	for i := range g.Data {
		g.Data[i] = 0
	}
	g.Data[0] = 1
	to = Aligned(g.Geometry, [3]float64{1. / 3, 0, 0}) // every third voxel lies on a sample
	r = Resample(g, to, to.Box(), Cubic)
	for i := range n {
		if v := r.Data[3*i+1]; math.Abs(float64(v-g.Data[i])) > 1e-6 {
			t.Errorf("sample %d = %v, want %v", i, v, g.Data[i])
		}
	}
}

// Written out: every sample with √3·(√3−2)^|k|, as far as it counts. The
// coefficients of a part are those of the whole line, bit for bit; the float32 of
// an image would hide a difference.
func TestPrefilterAgainstFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const width, stride = 3, 5
		whole := rapid.IntRange(1, 200).Draw(t, "whole")
		line := make([]float64, whole*width)
		for i := range line {
			line[i] = rapid.Float64Range(-3000, 3000).Draw(t, "sample")
		}
		s := span{0, whole, whole}
		if n := whole/stretch - 2; n > 0 && rapid.Bool().Draw(t, "cut") {
			s.first = stretch*rapid.IntRange(1, n).Draw(t, "first") - reach
			s.n = min(whole, s.first+2*reach+stretch*rapid.IntRange(1, 3).Draw(t, "stretches")) - s.first
		}
		all := make([]float64, whole*stride)
		span{0, whole, whole}.prefilter(all, line, width, stride)
		coef := make([]float64, s.n*stride)
		s.prefilter(coef, line[s.first*width:(s.first+s.n)*width], width, stride)
		for i := range s.n {
			if s.first > 0 && i < reach || s.first+s.n < whole && i >= s.n-reach {
				continue
			}
			for x := range width {
				want, h := 0.0, math.Sqrt(3)
				for k := range 60 {
					l, r := mirror(s.first+i-k, whole), mirror(s.first+i+k, whole)
					switch {
					case whole == 1:
						want = line[x]
					case k == 0:
						want = h * line[l*width+x]
					default:
						want += h * (line[l*width+x] + line[r*width+x])
					}
					h *= math.Sqrt(3) - 2
				}
				got := coef[i*stride+x]
				if w := all[(s.first+i)*stride+x]; got != w {
					t.Fatalf("%+v: coefficient %d of row %d = %v, %v when the line is whole", s, x, i, got, w)
				}
				if !(math.Abs(got-want) <= 1e-11) { // of values up to 5000
					t.Fatalf("%+v: coefficient %d of row %d = %v, want %v", s, x, i, got, want)
				}
			}
		}
	})
}

// Nothing but the result and the blocks that are told is allocated.
func TestResampleBytes(t *testing.T) {
	g := &Grid{Geometry: axisAligned([3]int{90, 80, 70}, [3]float64{0.7, 0.9, 2.5})}
	g.Data = make([]float32, g.Len())
	to := Aligned(g.Geometry, [3]float64{1, 1, 1})
	for _, box := range []Box{to.Box(), {[3]int{30, 20, 70}, [3]int{45, 60, 90}}, {}, {Max: [3]int{0, 1, 1}}} {
		for _, m := range []Method{Nearest, Linear, Cubic} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			Resample(g, to, box, m)
			runtime.ReadMemStats(&after)
			used, told := int64(after.TotalAlloc-before.TotalAlloc), ResampleBytes(g.Geometry, to, box, m.String())
			if told > used || used > told+told/10+1<<16 { // taps, rows that were rounded up
				t.Errorf("%v %v: told %d bytes, %d were allocated", m, box, told, used)
			}
		}
	}
}

func TestSameSpacingChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := randomGrid(t)
		to := Aligned(g.Geometry, g.Spacing)
		for _, m := range []Method{Nearest, Linear} {
			if r := Resample(g, to, to.Box(), m); !slices.Equal(r.Data, g.Data) || !r.Geometry.Equal(g.Geometry, 1e-9) {
				t.Fatalf("%v changed the image", m)
			}
		}
	})
}

// Halfway between two voxels the value is that of the one nearer the middle; in
// the middle, of the second.
func TestNearestTies(t *testing.T) {
	g := &Grid{axisAligned([3]int{6, 1, 1}, [3]float64{0.1, 1, 1}), []float32{0, 1, 2, 3, 4, 5}}
	to := Aligned(g.Geometry, [3]float64{0.2, 0, 0})
	if got := Resample(g, to, to.Box(), Nearest).Data; !slices.Equal(got, []float32{1, 3, 4}) {
		t.Errorf("at 0.5, 2.5 and 4.5: %v", got)
	}
}

// Halfway between two voxels a mask of one of them is exactly at the threshold.
func TestMaskThreshold(t *testing.T) {
	m := &Mask{axisAligned([3]int{4, 1, 1}, [3]float64{0.1, 1, 1}), []uint8{0, 1, 0, 0}}
	to := Aligned(m.Geometry, [3]float64{0.2, 0, 0}) // centres between 0 and 1, 2 and 3
	for threshold, want := range map[float64]int{0.5: 1, 0.51: 0, 0.01: 1} {
		if got := ResampleMask(m, m.Geometry, to, to.Box(), Linear, threshold).Count(); got != want {
			t.Errorf("threshold %v: %d voxels, want %d", threshold, got, want)
		}
	}
}

func TestMaskBounds(t *testing.T) {
	m := &Mask{Geometry: axisAligned([3]int{4, 3, 2}, [3]float64{1, 1, 1}), Data: make([]uint8, 24)}
	if b := m.Bounds(); !b.Empty() || m.Count() != 0 {
		t.Errorf("no voxel: bounds %v", b)
	}
	m.Data[1*12+2*4+3], m.Data[1*12+1*4+2] = 1, 1
	want := Box{[3]int{2, 1, 1}, [3]int{4, 3, 2}}
	if b := m.Bounds(); b != want || m.Count() != 2 {
		t.Errorf("bounds %v, want %v", b, want)
	}
	c := m.Crop(want)
	if c.Count() != 2 || !slices.Equal(c.Data, []uint8{1, 0, 0, 1}) || c.Origin != [3]float64{2, 1, 1} {
		t.Errorf("crop %v at %v", c.Data, c.Origin)
	}
}

// BenchmarkResample takes a chest CT of LUNG1's size to 1 mm in the box of an
// ellipsoid as large as a tumour, and as a lung.
func BenchmarkResample(b *testing.B) {
	g := &Grid{Geometry: oblique(axisAligned([3]int{512, 512, 134}, [3]float64{0.977, 0.977, 3}))}
	g.Data = make([]float32, g.Len())
	seed := uint32(1)
	for i := range g.Data {
		seed = seed*1664525 + 1013904223
		g.Data[i] = float32(seed>>20) - 1024
	}
	to := Aligned(g.Geometry, [3]float64{1, 1, 1})
	for _, roi := range []struct {
		name     string
		diameter [3]float64 // mm
	}{{"tumour", [3]float64{70, 70, 70}}, {"lung", [3]float64{170, 250, 290}}} {
		mask := ellipsoid(g.Geometry, roi.diameter)
		box := Covered(g.Geometry, to, mask.Bounds())
		for _, m := range []Method{Nearest, Linear, Cubic} {
			b.Run(roi.name+"/image/"+m.String(), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					Resample(g, to, box, m)
				}
				b.ReportMetric(float64(ResampleBytes(g.Geometry, to, box, m.String())), "B-told")
			})
		}
		for _, m := range []Method{Nearest, Linear} {
			b.Run(roi.name+"/mask/"+m.String(), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					ResampleMask(mask, mask.Geometry, to, box, m, 0.5)
				}
			})
		}
	}
}

// ellipsoid is a region in the middle of g.
func ellipsoid(g Geometry, diameter [3]float64) *Mask {
	m := &Mask{g, make([]uint8, g.Len())}
	n := 0
	for z := range g.Size[2] {
		for y := range g.Size[1] {
			for x := range g.Size[0] {
				r := 0.0
				for a, i := range [3]int{x, y, z} {
					d := (float64(2*i-g.Size[a]+1) * g.Spacing[a]) / diameter[a]
					r += d * d
				}
				if r <= 1 {
					m.Data[n] = 1
				}
				n++
			}
		}
	}
	return m
}

// Voxel by voxel; any value but 0 is in.
func TestMaskAgainstFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := [3]int{rapid.IntRange(1, 40).Draw(t, "nx"), rapid.IntRange(1, 5).Draw(t, "ny"), rapid.IntRange(1, 4).Draw(t, "nz")}
		m := &Mask{Geometry: axisAligned(size, [3]float64{1, 1, 1})}
		m.Data = make([]uint8, m.Len())
		for range rapid.IntRange(0, 6).Draw(t, "voxels") {
			m.Data[rapid.IntRange(0, m.Len()-1).Draw(t, "at")] = rapid.SampledFrom([]uint8{1, 2, 0x80, 0xff}).Draw(t, "value")
		}
		count, bounds := 0, Box{Min: size}
		for i, v := range m.Data {
			if v == 0 {
				continue
			}
			count++
			for a, q := range [3]int{i % size[0], i / size[0] % size[1], i / size[0] / size[1]} {
				bounds.Min[a], bounds.Max[a] = min(bounds.Min[a], q), max(bounds.Max[a], q+1)
			}
		}
		if count == 0 {
			bounds = Box{}
		}
		if m.Count() != count || m.Bounds() != bounds {
			t.Fatalf("%d voxels in %v, want %d in %v", m.Count(), m.Bounds(), count, bounds)
		}
	})
}

// BenchmarkMask is what a mask of a chest CT costs before anything is computed.
func BenchmarkMask(b *testing.B) {
	m := ellipsoid(axisAligned([3]int{512, 512, 134}, [3]float64{0.977, 0.977, 3}), [3]float64{170, 250, 290})
	g := &Grid{m.Geometry, make([]float32, m.Len())}
	for i, v := range m.Data {
		g.Data[i] = float32(v)
	}
	box := m.Bounds()
	for name, f := range map[string]func(){
		"Count":     func() { m.Count() },
		"Bounds":    func() { m.Bounds() },
		"Crop":      func() { m.Crop(box) },
		"Threshold": func() { g.Threshold(0.5) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(m.Data)))
			for b.Loop() {
				f()
			}
		})
	}
}

// A part that was cut out lies where it was, and goes back there.
func TestPartGoesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mask := randomGrid(t).Threshold(0)
		box := mask.Bounds()
		if box.Empty() {
			return
		}
		part := mask.Crop(box)
		if got := mask.Geometry.Part(part.Geometry); got != box {
			t.Fatalf("part %v, want %v", got, box)
		}
		if back := part.On(mask.Geometry, box.Min); !slices.Equal(back.Data, mask.Data) {
			t.Fatal("the mask is another one when it is back")
		}
	})
}
