package features

// ngldmTable is the manual's section 3.11.
var ngldmTable = []Feature{
	{Tag: "ngl_lde", Code: "SODN", Name: "Low dependence emphasis", Unit: UnitNone, Section: "3.11.1", Standardised: true},
	{Tag: "ngl_hde", Code: "IMOQ", Name: "High dependence emphasis", Unit: UnitNone, Section: "3.11.2", Standardised: true},
	{Tag: "ngl_lgce", Code: "TL9H", Name: "Low grey level count emphasis", Unit: UnitNone, Section: "3.11.3", Standardised: true},
	{Tag: "ngl_hgce", Code: "OAE7", Name: "High grey level count emphasis", Unit: UnitNone, Section: "3.11.4", Standardised: true},
	{Tag: "ngl_ldlge", Code: "EQ3F", Name: "Low dependence low grey level emphasis", Unit: UnitNone, Section: "3.11.5", Standardised: true},
	{Tag: "ngl_ldhge", Code: "JA6D", Name: "Low dependence high grey level emphasis", Unit: UnitNone, Section: "3.11.6", Standardised: true},
	{Tag: "ngl_hdlge", Code: "NBZI", Name: "High dependence low grey level emphasis", Unit: UnitNone, Section: "3.11.7", Standardised: true},
	{Tag: "ngl_hdhge", Code: "9QMG", Name: "High dependence high grey level emphasis", Unit: UnitNone, Section: "3.11.8", Standardised: true},
	{Tag: "ngl_glnu", Code: "FP8K", Name: "Grey level non-uniformity", Unit: UnitNone, Section: "3.11.9", Standardised: true},
	{Tag: "ngl_glnu_norm", Code: "5SPA", Name: "Normalised grey level non-uniformity", Unit: UnitNone, Section: "3.11.10", Standardised: true},
	{Tag: "ngl_dcnu", Code: "Z87G", Name: "Dependence count non-uniformity", Unit: UnitNone, Section: "3.11.11", Standardised: true},
	{Tag: "ngl_dcnu_norm", Code: "OKJI", Name: "Normalised dependence count non-uniformity", Unit: UnitNone, Section: "3.11.12", Standardised: true},
	{Tag: "ngl_dc_perc", Code: "6XV8", Name: "Dependence count percentage", Unit: UnitNone, Section: "3.11.13", Standardised: true},
	{Tag: "ngl_gl_var", Code: "1PFV", Name: "Grey level variance", Unit: UnitNone, Section: "3.11.14", Standardised: true},
	{Tag: "ngl_dc_var", Code: "DNX2", Name: "Dependence count variance", Unit: UnitNone, Section: "3.11.15", Standardised: true},
	{Tag: "ngl_dc_entr", Code: "FCBV", Name: "Dependence count entropy", Unit: UnitNone, Section: "3.11.16", Standardised: true},
	{Tag: "ngl_dc_energy", Code: "CAS9", Name: "Dependence count energy", Unit: UnitNone, Section: "3.11.17", Standardised: true},
}

// ngldm computes section 3.11 (IBSI REK0), neighbouring grey level dependence.
func ngldm(roi *ROI, l *levels, v *values) {
	t := roi.profile.Texture.Filled()
	threeD := v.aggregation == Agg3D
	dependence := newDependences(l, t.NGLDMDistance, t.NGLDMCoarseness, threeD)
	side := 2*t.NGLDMDistance + 1
	width := side*side*side + 1 // a voxel depends on itself
	counts := make([]int, (l.top+1)*width)
	var cells []cell
	l.average(v, ngldmTable, reasonNoIntensity, nil, func(p part) []float64 {
		clear(counts)
		voxels := 0
		for z := p.first; z < p.end; z++ {
			voxels += l.inSlice[z]
			for y := l.margin; y < l.size[1]-l.margin; y++ {
				at, x := l.row(y, z)
				d := dependence[at+x.first : at+x.end]
				for k, level := range l.at[at+x.first : at+x.end] {
					counts[int(level)*width+int(d[k])+1]++
				}
			}
		}
		cells = cells[:0]
		energy := 0.0
		for i := 1; i <= l.top; i++ {
			for j, n := range counts[i*width:][:width] {
				if n > 0 {
					cells = append(cells, cell{i, j, float64(n)})
					p := float64(n) / float64(voxels)
					energy += float64(p * p)
				}
			}
		}
		f := emphases(cells, float64(voxels))
		if f != nil {
			f = append(f, energy)
		}
		return f
	})
}

// newDependences is, for each voxel, how many of its neighbours within reach
// differ by at most alpha levels. Each pair of neighbours is looked at once.
func newDependences(l *levels, reach, alpha int, threeD bool) []uint16 {
	out := make([]uint16, len(l.at))
	s := l.stride()
	near := offsets(reach, threeD)
	first, end := l.slices()
	for z := first; z < end; z++ {
		for y := l.margin; y < l.size[1]-l.margin; y++ {
			at, x := l.row(y, z)
			from, n := at+x.first, x.end-x.first
			here, mine := l.at[from:from+n], out[from:from+n]
			for _, o := range near {
				shift := o[0] + o[1]*s[1] + o[2]*s[2]
				dependRow(here, l.at[from+shift:][:n], mine, out[from+shift:][:n], alpha)
			}
		}
	}
	return out
}

// dependRow adds the dependences between two rows. It does not branch, since
// whether two voxels are alike cannot be foretold. What it adds to voxels
// outside the ROI nobody reads.
func dependRow(here, there, mine, theirs []uint16, alpha int) {
	there, mine, theirs = there[:len(here)], mine[:len(here)], theirs[:len(here)]
	if alpha == 0 {
		for k, i := range here {
			same := uint16((uint32(i^there[k]) - 1) >> 31)
			mine[k] += same
			theirs[k] += same
		}
		return
	}
	most := uint64(2*alpha + 1)
	for k, i := range here {
		j := there[k]
		// 0 <= i-j+alpha < most, and both in the ROI.
		near := (uint64(uint32(int(i)-int(j)+alpha)) - most) >> 63
		in := uint64(uint32(-int32(i))&uint32(-int32(j))) >> 31
		mine[k] += uint16(near & in)
		theirs[k] += uint16(near & in)
	}
}

func ngldmBytes(e extent, p Profile) int64 {
	side := int64(2*p.Texture.Filled().NGLDMDistance + 1)
	return 2*e.padded(p) + (8+24)*(p.top()+1)*(side*side*side+1)
}
