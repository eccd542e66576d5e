package features_test

import (
	"context"
	"math"
	"testing"

	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
)

// ball is a ball of 100,137 voxels with CT-like values, in an image with room
// for the peak's sphere: the case of the goals in README.md.
func ball(radius float64, spacing [3]float64) (*voxel.Grid, *voxel.Mask) {
	n := 2*int(radius) + 21
	geo := geometry([3]int{n, n, n}, spacing)
	g := &voxel.Grid{Geometry: geo, Data: make([]float32, geo.Len())}
	m := &voxel.Mask{Geometry: geo, Data: make([]uint8, geo.Len())}
	seed := uint32(1)
	c, i := float64(n/2), 0
	for z := range n {
		for y := range n {
			for x := range n {
				dx, dy, dz := float64(x)-c, float64(y)-c, float64(z)-c
				if dx*dx+dy*dy+dz*dz <= radius*radius {
					m.Data[i] = 1
				}
				seed = seed*1664525 + 1013904223
				g.Data[i] = float32(math.Round(40+dx+3*dy-2*dz) + float64(seed>>24) - 128)
				i++
			}
		}
	}
	return g, m
}

// BenchmarkExtract is all 174 values, 32 levels, 3D merged, and all but Moran's I
// and Geary's C. The largest has the size of a lung at 1 mm in a ball's bounding
// box, which is what the spatial sums cost.
func BenchmarkExtract(b *testing.B) {
	all := plain()
	all.Discretise = features.Discretise{Method: "fbn", Bins: 32}
	rest := all
	for _, f := range features.Table {
		if f.Tag != "morph_moran_i" && f.Tag != "morph_geary_c" {
			rest.Features = append(rest.Features, f.Tag)
		}
	}
	for _, c := range []struct {
		name    string
		radius  float64
		profile features.Profile
	}{{"100k", 28.8, all}, {"100k-rest", 28.8, rest}, {"350k", 43.7, all}, {"2300k", 81.9, all}, {"2300k-rest", 81.9, rest}} {
		b.Run(c.name, func(b *testing.B) {
			g, m := ball(c.radius, [3]float64{1, 1, 1})
			for b.Loop() {
				if _, err := features.Extract(context.Background(), g, m, c.profile); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(features.Estimate(g.Geometry, m.Bounds(), c.profile))/(1<<20), "MiB-estimate")
		})
	}
}

// lungs are two lobes of 4.0 million voxels in all, in a bounding box of 190, 250
// and 280 voxels, with values as CT has them in a lung.
func lungs() (*voxel.Grid, *voxel.Mask) {
	size := [3]int{206, 266, 296}
	geo := geometry(size, [3]float64{1, 1, 1})
	g := &voxel.Grid{Geometry: geo, Data: make([]float32, geo.Len())}
	m := &voxel.Mask{Geometry: geo, Data: make([]uint8, geo.Len())}
	seed := uint32(1)
	for i := range m.Data {
		x, y, z := float64(i%size[0]), float64(i/size[0]%size[1]), float64(i/size[0]/size[1])
		for _, centre := range [2]float64{8 + 27.5, 206 - 8 - 27.5} {
			dx, dy, dz := (x-centre)/27.5, (y-132.5)/125, (z-147.5)/140
			if dx*dx+dy*dy+dz*dz <= 1 {
				m.Data[i] = 1
			}
		}
		seed = seed*1664525 + 1013904223
		g.Data[i] = float32(int(seed>>23) - 1000)
	}
	return g, m
}

// BenchmarkFamily is one family alone, 32 levels, 3D merged, on the ball of the
// goals: what it takes after the chain.
func BenchmarkFamily(b *testing.B) {
	g, m := ball(28.8, [3]float64{1, 1, 1})
	benchmarkFamilies(b, g, m)
}

func BenchmarkLungs(b *testing.B) {
	g, m := lungs()
	benchmarkFamilies(b, g, m)
}

func benchmarkFamilies(b *testing.B, g *voxel.Grid, m *voxel.Mask) {
	for _, f := range plain().Families {
		b.Run(string(f), func(b *testing.B) {
			p := plain()
			p.Families = []features.Family{f}
			p.Discretise = features.Discretise{Method: "fbn", Bins: 32}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := features.Extract(context.Background(), g, m, p); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(m.Count()), "voxels")
			b.ReportMetric(float64(features.Estimate(g.Geometry, m.Bounds(), p))/(1<<20), "MiB-estimate")
		})
	}
}

func BenchmarkChain(b *testing.B) {
	g, m := ball(28.8, [3]float64{1, 1, 1})
	p := features.DefaultProfile("CT")
	p.Resample.Spacing = []float64{0.9, 0.9, 0.9}
	for b.Loop() {
		if _, err := features.Prepare(g, m, p); err != nil {
			b.Fatal(err)
		}
	}
}
