package features

import (
	"math"
)

// localIntensityTable is the manual's section 3.2.
var localIntensityTable = []Feature{
	{Tag: "loc_peak_loc", Code: "VJGA", Name: "Local intensity peak", Unit: UnitIntensity, Section: "3.2.1", Standardised: true},
	{Tag: "loc_peak_glob", Code: "0F91", Name: "Global intensity peak", Unit: UnitIntensity, Section: "3.2.2", Standardised: true},
}

// sphereRadius is the radius in mm of a sphere of 1 cm³, (3/4π)^⅓ cm.
const sphereRadius = 6.203504908994

// sphereReach is how many voxels the sphere reaches on each axis.
func sphereReach(spacing [3]float64) [3]int {
	var n [3]int
	for a := range n {
		n[a] = int(math.Floor(sphereRadius / spacing[a]))
	}
	return n
}

// localIntensity computes section 3.2 over the intensity mask (IBSI 9ST6). The
// mean in a sphere takes every voxel whose centre is at most sphereRadius away,
// also outside the ROI, as far as there is an image.
func localIntensity(roi *ROI, v *values) {
	if roi.Intensity.Count() == 0 {
		v.allMissing(reasonNoIntensity)
		return
	}
	mean := sphereMeans(roi)
	highest, local, global := math.Inf(-1), math.Inf(-1), math.Inf(-1)
	n := 0
	for i, in := range roi.Intensity.Data {
		if in == 0 {
			continue
		}
		x := float64(roi.Image.Data[i])
		switch {
		case x > highest:
			highest, local = x, mean[n]
		case x == highest: // of several maxima the highest peak counts
			local = math.Max(local, mean[n])
		}
		global = math.Max(global, mean[n])
		n++
	}
	v.add("loc_peak_loc", local)
	v.add("loc_peak_glob", global)
}

// A chord is a row of voxels of the sphere: all dx from -half to half.
type chord struct{ dy, dz, half int }

// chords cut the sphere into rows along x.
func chords(spacing [3]float64) []chord {
	var list []chord
	n := sphereReach(spacing)
	const r2 = sphereRadius * sphereRadius
	for dz := -n[2]; dz <= n[2]; dz++ {
		for dy := -n[1]; dy <= n[1]; dy++ {
			y, z := float64(float64(dy)*spacing[1]), float64(float64(dz)*spacing[2])
			half := -1
			for dx := 0; dx <= n[0]; dx++ {
				x := float64(float64(dx) * spacing[0])
				if float64(x*x)+float64(y*y)+float64(z*z) <= r2 {
					half = dx
				}
			}
			if half >= 0 {
				list = append(list, chord{dy, dz, half})
			}
		}
	}
	return list
}

// sphereMeans is the mean in the sphere around each voxel of the intensity
// mask, x fastest. A chord is the difference of two running sums of its row.
func sphereMeans(roi *ROI) []float64 {
	g := roi.Image
	nx, ny, nz := g.Size[0], g.Size[1], g.Size[2]
	running := make([]float64, (nx+1)*ny*nz)
	for r := range ny * nz {
		sum := running[r*(nx+1) : (r+1)*(nx+1)]
		for x, v := range g.Data[r*nx : (r+1)*nx] {
			sum[x+1] = sum[x] + float64(v)
		}
	}
	rows := chords(g.Spacing)
	out := make([]float64, 0, roi.Intensity.Count())
	sums, counts := make([]float64, nx), make([]int, nx)
	for z := range nz {
		for y := range ny {
			mask := roi.Intensity.Data[(z*ny+y)*nx:][:nx]
			first, last := span(mask)
			if first > last {
				continue
			}
			clear(sums)
			clear(counts)
			for _, c := range rows {
				yy, zz := y+c.dy, z+c.dz
				if yy < 0 || yy >= ny || zz < 0 || zz >= nz {
					continue // beyond the image
				}
				addChord(sums, counts, running[(zz*ny+yy)*(nx+1):][:nx+1], c.half, first, last)
			}
			for x := first; x <= last; x++ {
				if mask[x] != 0 {
					out = append(out, sums[x]/float64(counts[x]))
				}
			}
		}
	}
	return out
}

// addChord adds, for each x from first to last, the samples x-half … x+half
// that exist.
func addChord(sums []float64, counts []int, running []float64, half, first, last int) {
	nx := len(sums)
	x := first
	for ; x <= last && x < half; x++ {
		hi := min(x+half+1, nx)
		sums[x] += running[hi] - running[0]
		counts[x] += hi
	}
	if end := min(last, nx-1-half); x <= end {
		s, n := sums[x:end+1], counts[x:end+1]
		hi, lo := running[x+half+1:][:len(s)], running[x-half:][:len(s)]
		for i := range s {
			s[i] += hi[i] - lo[i]
			n[i] += 2*half + 1
		}
		x = end + 1
	}
	for ; x <= last; x++ {
		sums[x] += running[nx] - running[x-half]
		counts[x] += nx - (x - half)
	}
}

// span is the first and last index that is set; first > last for none.
func span(row []uint8) (first, last int) {
	first, last = 0, len(row)-1
	for first <= last && row[first] == 0 {
		first++
	}
	for last >= first && row[last] == 0 {
		last--
	}
	return first, last
}
