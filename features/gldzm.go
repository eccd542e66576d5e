package features

// gldzmTable is the manual's section 3.9.
var gldzmTable = []Feature{
	{Tag: "dzm_sde", Code: "0GBI", Name: "Small distance emphasis", Unit: UnitNone, Section: "3.9.1", Standardised: true},
	{Tag: "dzm_lde", Code: "MB4I", Name: "Large distance emphasis", Unit: UnitNone, Section: "3.9.2", Standardised: true},
	{Tag: "dzm_lgze", Code: "S1RA", Name: "Low grey level zone emphasis", Unit: UnitNone, Section: "3.9.3", Standardised: true},
	{Tag: "dzm_hgze", Code: "K26C", Name: "High grey level zone emphasis", Unit: UnitNone, Section: "3.9.4", Standardised: true},
	{Tag: "dzm_sdlge", Code: "RUVG", Name: "Small distance low grey level emphasis", Unit: UnitNone, Section: "3.9.5", Standardised: true},
	{Tag: "dzm_sdhge", Code: "DKNJ", Name: "Small distance high grey level emphasis", Unit: UnitNone, Section: "3.9.6", Standardised: true},
	{Tag: "dzm_ldlge", Code: "A7WM", Name: "Large distance low grey level emphasis", Unit: UnitNone, Section: "3.9.7", Standardised: true},
	{Tag: "dzm_ldhge", Code: "KLTH", Name: "Large distance high grey level emphasis", Unit: UnitNone, Section: "3.9.8", Standardised: true},
	{Tag: "dzm_glnu", Code: "VFT7", Name: "Grey level non-uniformity", Unit: UnitNone, Section: "3.9.9", Standardised: true},
	{Tag: "dzm_glnu_norm", Code: "7HP3", Name: "Normalised grey level non-uniformity", Unit: UnitNone, Section: "3.9.10", Standardised: true},
	{Tag: "dzm_zdnu", Code: "V294", Name: "Zone distance non-uniformity", Unit: UnitNone, Section: "3.9.11", Standardised: true},
	{Tag: "dzm_zdnu_norm", Code: "IATH", Name: "Normalised zone distance non-uniformity", Unit: UnitNone, Section: "3.9.12", Standardised: true},
	{Tag: "dzm_z_perc", Code: "VIWW", Name: "Zone percentage", Unit: UnitNone, Section: "3.9.13", Standardised: true},
	{Tag: "dzm_gl_var", Code: "QK93", Name: "Grey level variance", Unit: UnitNone, Section: "3.9.14", Standardised: true},
	{Tag: "dzm_zd_var", Code: "7WT1", Name: "Zone distance variance", Unit: UnitNone, Section: "3.9.15", Standardised: true},
	{Tag: "dzm_zd_entr", Code: "GBDU", Name: "Zone distance entropy", Unit: UnitNone, Section: "3.9.16", Standardised: true},
}

// gldzm computes section 3.9 (IBSI VMDZ), grey level distance zone: the zones
// are those of the GLSZM, the distance is that to the edge of the morphological
// mask.
func gldzm(roi *ROI, l *levels, v *values) {
	zoneFeatures(roi, l, v, gldzmTable, func(z zone) int { return int(z.distance) })
}

// edgeDistance is, for each voxel of the levels, how many voxels away the
// nearest voxel outside the morphological mask is, counted along the axes
// (Manhattan norm); a voxel at the edge has distance 1. In 2D each slice is
// looked at alone. Two passes are exact for this norm.
func edgeDistance(roi *ROI, l *levels, threeD bool) []uint16 {
	d := make([]uint16, len(l.at))
	s := l.stride()
	box := roi.Morph.Bounds()
	g := roi.Morph.Size
	n := box.Size()
	deep := s[2]
	row := func(y, z int) ([]uint8, int) {
		mask := roi.Morph.Data[((box.Min[2]+z)*g[1]+box.Min[1]+y)*g[0]+box.Min[0]:][:n[0]]
		return mask, ((z+l.margin)*l.size[1]+y+l.margin)*l.size[0] + l.margin
	}
	for z := range n[2] {
		for y := range n[1] {
			mask, at := row(y, z)
			first, last := span(mask)
			for x := first; x <= last; x++ {
				if mask[x] != 0 {
					v := at + x
					near := min(d[v-1], d[v-s[1]])
					if threeD {
						near = min(near, d[v-deep])
					}
					d[v] = near + 1
				}
			}
		}
	}
	for z := n[2] - 1; z >= 0; z-- {
		for y := n[1] - 1; y >= 0; y-- {
			mask, at := row(y, z)
			first, last := span(mask)
			for x := last; x >= first; x-- {
				if mask[x] != 0 {
					v := at + x
					near := min(d[v+1], d[v+s[1]])
					if threeD {
						near = min(near, d[v+deep])
					}
					d[v] = min(d[v], near+1)
				}
			}
		}
	}
	return d
}

// gldzmBytes adds the distances to what the zones take.
func gldzmBytes(e extent, p Profile) int64 { return 2*e.padded(p) + zonesBytes(e, p) }
