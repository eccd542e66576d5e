package features

import (
	"slices"

	"github.com/radnode/radnode/features/voxel"
)

// Estimate is the most memory in bytes that [Extract] takes beside the image
// and mask it is given, for a mask that lies inside bounds of the image's grid. A
// caller that must stay below a limit asks first. It counts blocks in use; the
// garbage collector may hold as much again, as GOGC allows.
//
// It holds for every image, so it is for as many grey levels as the profile can
// give and for a zone in every voxel. The surface alone is not bounded by the
// box: it is taken to be at most twice as large as that of a convex region.
func Estimate(g voxel.Geometry, bounds voxel.Box, p Profile) int64 {
	return estimate(g, bounds, p, nil)
}

// estimate is for a region that takes its image from a block, where there is one.
func estimate(g voxel.Geometry, bounds voxel.Box, p Profile, b *block) int64 {
	const tables = 2 << 20 // what does not grow with the region
	if bounds.Empty() {
		return tables
	}
	t, box, around := p.Resample.reach(g, bounds)
	e := extent{size: box.Size(), voxels: int64(box.Len()), around: around.Size(), crop: int64(around.Len()), reach: sphereReach(t.Spacing)}
	kept := e.crop * (4 + 1 + 1) // image and two masks
	chain := kept + 20*e.voxels  // the distribution of intensities while it is sorted
	if p.Resample.interpolates() {
		image := 4 * e.crop
		if b == nil {
			image = voxel.ResampleBytes(g, t, around, p.Resample.Image)
		} else {
			image += voxel.ResampleBytes(g, t, b.slabs[0], p.Resample.Image)
		}
		chain = max(chain, voxel.ResampleBytes(g, t, box, p.Resample.Mask), 2*e.voxels+image)
	}
	var work int64
	for _, f := range families {
		if slices.Contains(p.Families, f.name) {
			work = max(work, f.memory(e, p))
		}
	}
	return tables + max(chain, kept+sharedBytes(e, p)+work)
}

// sharedBytes is what stays from one family to the next: the distribution of
// intensities, levels and zones.
func sharedBytes(e extent, p Profile) int64 {
	has := func(names ...Family) bool {
		return slices.ContainsFunc(names, func(f Family) bool { return slices.Contains(p.Families, f) })
	}
	b := 8 * e.voxels
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
	return max(48*surface+160*boxParts, spatialBytes(n))
}

// localIntensityBytes is the running sums of the slices in reach, and the means.
func localIntensityBytes(e extent, p Profile) int64 {
	deep := int64(min(e.reach[2], e.around[2]-1))
	return 8*(3*deep+1)*int64(e.around[1])*int64(e.around[0]+1+2*e.reach[0]) + 8*e.voxels
}

// statisticsBytes is none beside the distribution.
func statisticsBytes(e extent, p Profile) int64 { return 0 }
