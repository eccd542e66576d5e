package features

import "math"

// morphologyTable is the manual's section 3.1. The IBSI found no agreement on
// the oriented box and on the enclosing ellipsoid.
var morphologyTable = []Feature{
	{Tag: "morph_volume", Code: "RNU0", Name: "Volume (mesh)", Unit: UnitMM3, Section: "3.1.1", Standardised: true},
	{Tag: "morph_vol_approx", Code: "YEKZ", Name: "Volume (voxel counting)", Unit: UnitMM3, Section: "3.1.2", Standardised: true},
	{Tag: "morph_area_mesh", Code: "C0JK", Name: "Surface area (mesh)", Unit: UnitMM2, Section: "3.1.3", Standardised: true},
	{Tag: "morph_av", Code: "2PR5", Name: "Surface to volume ratio", Unit: UnitPerMM, Section: "3.1.4", Standardised: true},
	{Tag: "morph_comp_1", Code: "SKGS", Name: "Compactness 1", Unit: UnitNone, Section: "3.1.5", Standardised: true},
	{Tag: "morph_comp_2", Code: "BQWJ", Name: "Compactness 2", Unit: UnitNone, Section: "3.1.6", Standardised: true},
	{Tag: "morph_sph_dispr", Code: "KRCK", Name: "Spherical disproportion", Unit: UnitNone, Section: "3.1.7", Standardised: true},
	{Tag: "morph_sphericity", Code: "QCFX", Name: "Sphericity", Unit: UnitNone, Section: "3.1.8", Standardised: true},
	{Tag: "morph_asphericity", Code: "25C7", Name: "Asphericity", Unit: UnitNone, Section: "3.1.9", Standardised: true},
	{Tag: "morph_com", Code: "KLMA", Name: "Centre of mass shift", Unit: UnitMM, Section: "3.1.10", Standardised: true},
	{Tag: "morph_diam", Code: "L0JK", Name: "Maximum 3D diameter", Unit: UnitMM, Section: "3.1.11", Standardised: true},
	{Tag: "morph_pca_maj_axis", Code: "TDIC", Name: "Major axis length", Unit: UnitMM, Section: "3.1.12", Standardised: true},
	{Tag: "morph_pca_min_axis", Code: "P9VJ", Name: "Minor axis length", Unit: UnitMM, Section: "3.1.13", Standardised: true},
	{Tag: "morph_pca_least_axis", Code: "7J51", Name: "Least axis length", Unit: UnitMM, Section: "3.1.14", Standardised: true},
	{Tag: "morph_pca_elongation", Code: "Q3CK", Name: "Elongation", Unit: UnitNone, Section: "3.1.15", Standardised: true},
	{Tag: "morph_pca_flatness", Code: "N17B", Name: "Flatness", Unit: UnitNone, Section: "3.1.16", Standardised: true},
	{Tag: "morph_vol_dens_aabb", Code: "PBX1", Name: "Volume density (axis-aligned bounding box)", Unit: UnitNone, Section: "3.1.17", Standardised: true},
	{Tag: "morph_area_dens_aabb", Code: "R59B", Name: "Area density (axis-aligned bounding box)", Unit: UnitNone, Section: "3.1.18", Standardised: true},
	{Tag: "morph_vol_dens_ombb", Code: "ZH1A", Name: "Volume density (oriented minimum bounding box)", Unit: UnitNone, Section: "3.1.19"},
	{Tag: "morph_area_dens_ombb", Code: "IQYR", Name: "Area density (oriented minimum bounding box)", Unit: UnitNone, Section: "3.1.20"},
	{Tag: "morph_vol_dens_aee", Code: "6BDE", Name: "Volume density (approximate enclosing ellipsoid)", Unit: UnitNone, Section: "3.1.21", Standardised: true},
	{Tag: "morph_area_dens_aee", Code: "RDD2", Name: "Area density (approximate enclosing ellipsoid)", Unit: UnitNone, Section: "3.1.22", Standardised: true},
	{Tag: "morph_vol_dens_mvee", Code: "SWZ1", Name: "Volume density (minimum volume enclosing ellipsoid)", Unit: UnitNone, Section: "3.1.23"},
	{Tag: "morph_area_dens_mvee", Code: "BRI8", Name: "Area density (minimum volume enclosing ellipsoid)", Unit: UnitNone, Section: "3.1.24"},
	{Tag: "morph_vol_dens_conv_hull", Code: "R3ER", Name: "Volume density (convex hull)", Unit: UnitNone, Section: "3.1.25", Standardised: true},
	{Tag: "morph_area_dens_conv_hull", Code: "7T7F", Name: "Area density (convex hull)", Unit: UnitNone, Section: "3.1.26", Standardised: true},
	{Tag: "morph_integ_int", Code: "99N0", Name: "Integrated intensity", Unit: UnitIntensityMM, Section: "3.1.27", Standardised: true},
	{Tag: "morph_moran_i", Code: "N365", Name: "Moran's I index", Unit: UnitNone, Section: "3.1.28", Standardised: true},
	{Tag: "morph_geary_c", Code: "NPT7", Name: "Geary's C measure", Unit: UnitNone, Section: "3.1.29", Standardised: true},
}

// morphology computes section 3.1 (IBSI HCUG): shape from the morphological
// mask, what involves intensities from the intensity mask.
func morphology(roi *ROI, v *values) {
	n := roi.Morph.Count()
	if n == 0 {
		v.allMissing("no voxel of the ROI is left after interpolation")
		return
	}
	s := roi.Image.Spacing
	surface := newMesh(roi.Morph)
	x := roi.description()

	v.add("morph_volume", surface.volume)
	v.add("morph_vol_approx", float64(float64(n)*float64(float64(s[0]*s[1])*s[2])))
	v.add("morph_area_mesh", surface.area)
	compactness(v, surface.volume, surface.area)
	massShift(v, roi, x.n > 0)

	var h hull
	var points [][3]float64
	if v.wants("morph_diam", "morph_vol_dens_aabb", "morph_area_dens_aabb", "morph_vol_dens_ombb", "morph_area_dens_ombb",
		"morph_vol_dens_mvee", "morph_area_dens_mvee", "morph_vol_dens_conv_hull", "morph_area_dens_conv_hull") {
		h = newHull(surface.ends)
		points = h.millimetres(s)
	}
	v.add("morph_diam", diameter(points))
	axes := principalAxes(v, roi, n)
	densities(v, surface, h, points, s, axes)

	if x.n == 0 {
		v.missing(reasonNoIntensity, "morph_integ_int", "morph_moran_i", "morph_geary_c")
		return
	}
	v.add("morph_integ_int", float64(x.mean*surface.volume))
	spatial(v, roi, x)
}

// principalAxes is 3.1.12 to 3.1.16. It returns the standard deviations along
// the axes, longest first.
func principalAxes(v *values, roi *ROI, n int) [3]float64 {
	if n == 1 {
		v.missing("the ROI is one voxel, which has no axes", "morph_pca_maj_axis", "morph_pca_min_axis",
			"morph_pca_least_axis", "morph_pca_elongation", "morph_pca_flatness")
		return [3]float64{}
	}
	axes := principalVariances(roi.Morph)
	for k := range axes {
		if axes[k] < 1e-13*axes[0] { // rounding errors of a flat ROI that lies aslant
			axes[k] = 0
		}
	}
	for k := range axes {
		axes[k] = math.Sqrt(axes[k])
	}
	v.add("morph_pca_maj_axis", 4*axes[0])
	v.add("morph_pca_min_axis", 4*axes[1])
	v.add("morph_pca_least_axis", 4*axes[2])
	v.add("morph_pca_elongation", axes[1]/axes[0])
	v.add("morph_pca_flatness", axes[2]/axes[0])
	return axes
}

// compactness is 3.1.4 to 3.1.9, all of which compare the surface with a
// sphere's.
func compactness(v *values, volume, area float64) {
	v.add("morph_av", area/volume)
	v.add("morph_comp_1", volume/float64(math.Sqrt(math.Pi)*float64(area*math.Sqrt(area))))
	v.add("morph_comp_2", float64(36*math.Pi*float64(volume*volume))/float64(area*float64(area*area)))
	sphere := cbrt(float64(36 * math.Pi * float64(volume*volume))) // area of the sphere of the same volume
	v.add("morph_sph_dispr", area/sphere)
	v.add("morph_sphericity", sphere/area)
	v.add("morph_asphericity", area/sphere-1)
}

// massShift is 3.1.10: the distance between the centre of the morphological
// mask and that of the intensity mask weighted by intensity.
func massShift(v *values, roi *ROI, any bool) {
	if !any {
		v.missing(reasonNoIntensity, "morph_com")
		return
	}
	b := roi.Morph.Bounds()
	g := roi.Image
	var shape, mass [3]float64
	var voxels, total float64
	for z := b.Min[2]; z < b.Max[2]; z++ {
		for y := b.Min[1]; y < b.Max[1]; y++ {
			row := (z*g.Size[1] + y) * g.Size[0]
			for x := b.Min[0]; x < b.Max[0]; x++ {
				if roi.Morph.Data[row+x] == 0 {
					continue
				}
				at := [3]float64{float64(x - b.Min[0]), float64(y - b.Min[1]), float64(z - b.Min[2])}
				voxels++
				for k := range at {
					shape[k] += at[k]
				}
				if roi.Intensity.Data[row+x] == 0 {
					continue
				}
				i := float64(g.Data[row+x])
				total += i
				for k := range at {
					mass[k] += float64(i * at[k])
				}
			}
		}
	}
	if total == 0 {
		v.missing("the intensities add to 0, so they have no centre", "morph_com")
		return
	}
	d2 := 0.0
	for k := range 3 {
		d := float64((shape[k]/voxels - mass[k]/total) * g.Spacing[k])
		d2 += float64(d * d)
	}
	v.add("morph_com", math.Sqrt(d2))
}

// densities is 3.1.17 to 3.1.26: volume and area against those of enclosing
// bodies. axes are the standard deviations along the principal axes.
func densities(v *values, surface mesh, h hull, points [][3]float64, spacing, axes [3]float64) {
	if v.wants("morph_vol_dens_aabb", "morph_area_dens_aabb") {
		aligned := extents(points, &[3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}})
		v.add("morph_vol_dens_aabb", surface.volume/boxVolume(aligned))
		v.add("morph_area_dens_aabb", surface.area/boxArea(aligned))
	}
	if v.wants("morph_vol_dens_ombb", "morph_area_dens_ombb") {
		if oriented, proven := orientedBox(h, spacing); proven {
			v.add("morph_vol_dens_ombb", surface.volume/boxVolume(oriented))
			v.add("morph_area_dens_ombb", surface.area/boxArea(oriented))
		} else {
			v.missing("the ROI is so thin that its least box could not be found", "morph_vol_dens_ombb", "morph_area_dens_ombb")
		}
	}
	if axes[2] == 0 {
		v.missing("the ROI is flat, so its principal ellipsoid has no volume", "morph_vol_dens_aee", "morph_area_dens_aee")
	} else {
		semi := [3]float64{2 * axes[0], 2 * axes[1], 2 * axes[2]}
		v.add("morph_vol_dens_aee", surface.volume/ellipsoidVolume(semi))
		v.add("morph_area_dens_aee", surface.area/approximateArea(semi))
	}

	if v.wants("morph_vol_dens_mvee", "morph_area_dens_mvee") {
		semi := enclosingEllipsoid(points)
		v.add("morph_vol_dens_mvee", surface.volume/ellipsoidVolume(semi))
		v.add("morph_area_dens_mvee", surface.area/ellipsoidArea(semi))
	}
	if v.wants("morph_vol_dens_conv_hull", "morph_area_dens_conv_hull") {
		volume, area := h.measure(spacing)
		v.add("morph_vol_dens_conv_hull", surface.volume/volume)
		v.add("morph_area_dens_conv_hull", surface.area/area)
	}
}

// spatial is 3.1.28 and 3.1.29. It is the longest step by far where the ROI is
// large, and cannot be cheaper by much: exact sums over all pairs need the
// spectra of the mask and of the intensities, over twice the ROI's box a side,
// and both values come out of the same three.
func spatial(v *values, roi *ROI, x description) {
	if !v.wants("morph_moran_i", "morph_geary_c") {
		return
	}
	switch {
	case x.n == 1:
		v.missing("one voxel has no neighbour to correlate with", "morph_moran_i", "morph_geary_c")
	case x.variance == 0:
		v.missing("all intensities are the same", "morph_moran_i", "morph_geary_c")
	default:
		// In units of the standard deviation Σz² is the number of voxels.
		s := autocorrelation(roi, x.mean, math.Sqrt(x.variance))
		v.add("morph_moran_i", s.wzz/s.w)
		v.add("morph_geary_c", float64((x.n-1)/x.n)*(s.wdd/(2*s.w)))
	}
}
