package features

import (
	"math"
	"testing"

	"github.com/radnode/radnode/features/voxel"
)

func stepBall(radius float64) *ROI {
	n := 2*int(radius) + 15
	geo := voxel.Geometry{Size: [3]int{n, n, n}, Spacing: [3]float64{1, 1, 1}, Axes: [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}
	roi := &ROI{Image: &voxel.Grid{Geometry: geo, Data: make([]float32, geo.Len())},
		Morph: &voxel.Mask{Geometry: geo, Data: make([]uint8, geo.Len())}}
	i := 0
	c := float64(n / 2)
	for z := range n {
		for y := range n {
			for x := range n {
				dx, dy, dz := float64(x)-c, float64(y)-c, float64(z)-c
				if dx*dx+dy*dy+dz*dz <= radius*radius {
					roi.Morph.Data[i] = 1
				}
				roi.Image.Data[i] = float32((i*7919)%1009) - 300
				i++
			}
		}
	}
	roi.Intensity = roi.Morph
	return roi
}

func BenchmarkStep(b *testing.B) {
	roi := stepBall(28.8)
	s := roi.Image.Spacing
	surface := newMesh(roi.Morph)
	h := newHull(surface.vertices)
	points := h.millimetres(s)
	b.Logf("%d voxels, %d vertices, %d hull faces, %d corners", roi.Morph.Count(), len(surface.vertices), len(h.faces), len(h.vertices))
	mean, variance := meanVariance(intensities(roi))
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"mesh", func() { newMesh(roi.Morph) }},
		{"hull", func() { newHull(surface.vertices) }},
		{"diameter", func() { diameter(points) }},
		{"axes", func() { principalVariances(roi.Morph) }},
		{"orientedBox", func() { orientedBox(points, h.faces, s) }},
		{"enclosingEllipsoid", func() { enclosingEllipsoid(points) }},
		{"autocorrelation", func() { autocorrelation(roi, mean, math.Sqrt(variance)) }},
		{"sphereMeans", func() { sphereMeans(roi) }},
		{"statistics", func() { statistics(roi) }},
	} {
		b.Run(step.name, func(b *testing.B) {
			for b.Loop() {
				step.do()
			}
		})
	}
}
