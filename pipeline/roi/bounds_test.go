package roi_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
)

// Every voxel of a region lies in its bounds, which are hardly larger than they have to be.
func TestBounds(t *testing.T) {
	g := askew(40, 30, 12)
	r := rand.New(rand.NewPCG(7, 8))
	filled := 0
	for range 500 {
		var region roi.Region
		for range 1 + r.IntN(4) {
			// A star around a place inside or outside of the grid; often with corners on voxel centres.
			x, y, z := r.Float64()*50-5, r.Float64()*40-5, float64(r.IntN(16)-2)+0.3*r.Float64()
			var contour [][3]float64
			for n := range 3 + r.IntN(9) {
				far := r.Float64() * 12
				i, j := x+far*math.Cos(float64(n)), y+far*math.Sin(float64(n))
				if r.IntN(2) == 0 {
					i, j = math.Round(i), math.Round(j)
				}
				contour = append(contour, g.Point(i, j, z))
			}
			region.Contours = append(region.Contours, contour)
		}
		b := roi.Bounds(region, g)
		m, _, err := wholeMask(t.Context(), region, g, voxel.Rule{})
		if err != nil {
			continue
		}
		filled++
		real := m.Bounds()
		if real.Grow([3]int{}, b) != real || b.Grow([3]int{}, g.Box()) != b {
			t.Fatalf("voxels in %v, bounds %v", real, b)
		}
	}
	if filled < 200 {
		t.Errorf("only %d regions with voxels", filled)
	}
	square := roi.Region{Contours: [][][3]float64{{g.Point(3, 4, 5), g.Point(9, 4, 5), g.Point(9, 8, 5), g.Point(3, 8, 5)}}}
	if b := roi.Bounds(square, g); b.Min[0] < 2 || b.Min[1] < 3 || b.Min[2] < 4 || b.Max[0] > 11 || b.Max[1] > 10 || b.Max[2] > 7 {
		t.Errorf("bounds %v of a square from (3, 4, 5) to (9, 8, 5)", b)
	}
	if b := roi.Bounds(roi.Region{Contours: square.Contours, Refusal: &refusal.Refusal{}}, g); !b.Empty() {
		t.Errorf("bounds %v of a region that is refused", b)
	}
	far := roi.Region{Contours: [][][3]float64{{g.Point(3, 4, 50), g.Point(9, 4, 50), g.Point(9, 8, 50)}}}
	if b := roi.Bounds(far, g); b.Len() > 10*10*2 {
		t.Errorf("bounds %v of a region beyond the slices", b)
	}
}

// Masks on parts of the grid give the bytes of masks on the whole.
func TestWriteSEGOfParts(t *testing.T) {
	in := segInput()
	whole, err := roi.WriteSEG(in)
	if err != nil {
		t.Fatal(err)
	}
	in.Source.Geometry = in.Segments[0].Mask.Geometry
	for i, s := range in.Segments {
		in.Segments[i].Mask = s.Mask.Crop(s.Mask.Bounds())
	}
	parts, err := roi.WriteSEG(in)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(part10(t, whole), part10(t, parts)) {
		t.Error("other bytes")
	}
	in.Segments[1].Mask = &voxel.Mask{Geometry: in.Segments[1].Mask.Geometry, Data: in.Segments[1].Mask.Data}
	in.Segments[1].Mask.Origin[0] += 0.1
	if _, err := roi.WriteSEG(in); err == nil {
		t.Error("a mask between the voxels was taken")
	}
}
