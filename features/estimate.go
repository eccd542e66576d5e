package features

import (
	"slices"

	"github.com/radnode/radnode/features/voxel"
)

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
	e := extent{size: box.Size(), voxels: int64(box.Len()), crop: int64(box.Grow(sphereReach(t.Spacing), t.Box()).Len())}
	kept := e.crop * (4 + 1 + 1) // image and two masks
	for _, f := range families {
		if slices.Contains(p.Families, f.name) {
			work = max(work, f.memory(e, p))
		}
	}
	return kept + sharedBytes(e, p) + work
}

// sharedBytes is what stays from one family to the next: sorted intensities,
// levels and zones.
func sharedBytes(e extent, p Profile) int64 {
	has := func(names ...Family) bool {
		return slices.ContainsFunc(names, func(f Family) bool { return slices.Contains(p.Families, f) })
	}
	var b int64
	if has(Statistics, VolumeHistogram) {
		b += 8 * e.voxels
	}
	if has(Histogram, GLCM, GLRLM, GLSZM, GLDZM, NGTDM, NGLDM) {
		b += levelsBytes(e, p)
	}
	if has(GLSZM, GLDZM) {
		b += zonesBytes(e, p)
	}
	return b
}

func morphologyBytes(e extent, p Profile) int64 {
	n := e.size
	surface := 4 * int64(n[0]*n[1]+n[1]*n[2]+n[2]*n[0]) // vertices, generously for a wrinkled ROI
	return 8*e.voxels + 48*surface + spatialBytes(n)
}

func localIntensityBytes(e extent, p Profile) int64 {
	return 8*e.crop + 8*int64(e.size[1]*e.size[2]) + 8*e.voxels
}

func statisticsBytes(e extent, p Profile) int64 { return 8 * e.voxels }
