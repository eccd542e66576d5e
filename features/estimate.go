package features

import "github.com/radnode/radnode/features/voxel"

// Estimate is the most memory in bytes that [Extract] takes beside the image
// and mask it is given, for a mask that lies inside bounds of the image's grid. A
// caller that must stay below a limit asks first. It counts blocks in use; the
// garbage collector may hold as much again, as GOGC allows.
func Estimate(g voxel.Geometry, bounds voxel.Box, p Profile) int64 {
	t, box := g, bounds
	var work int64
	if p.interpolates() && len(p.Resample.Spacing) == 3 {
		t = voxel.Aligned(g, [3]float64(p.Resample.Spacing))
		box = voxel.Covered(g, t, bounds)
		work = voxel.ResampleBytes(g, t, box.Grow(sphereReach(t.Spacing), t.Box()), p.Resample.Image)
	}
	crop := int64(box.Grow(sphereReach(t.Spacing), t.Box()).Len())
	voxels := int64(box.Len())
	n := box.Size()
	kept := crop * (4 + 1 + 1) // image and two masks
	for _, f := range p.Families {
		need := int64(0)
		switch f {
		case Morphology:
			surface := 4 * int64(n[0]*n[1]+n[1]*n[2]+n[2]*n[0]) // vertices, generously for a wrinkled ROI
			need = 8*voxels + 48*surface + spatialBytes(n)
		case LocalIntensity:
			need = 8*crop + 8*int64(n[1]*n[2]) + 8*voxels
		case Statistics:
			need = 8 * voxels
		}
		work = max(work, need)
	}
	return kept + work
}
