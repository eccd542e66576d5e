package features

// glrlmTable is the manual's section 3.7.
var glrlmTable = []Feature{
	{Tag: "rlm_sre", Code: "22OV", Name: "Short runs emphasis", Unit: UnitNone, Section: "3.7.1", Standardised: true},
	{Tag: "rlm_lre", Code: "W4KF", Name: "Long runs emphasis", Unit: UnitNone, Section: "3.7.2", Standardised: true},
	{Tag: "rlm_lgre", Code: "V3SW", Name: "Low grey level run emphasis", Unit: UnitNone, Section: "3.7.3", Standardised: true},
	{Tag: "rlm_hgre", Code: "G3QZ", Name: "High grey level run emphasis", Unit: UnitNone, Section: "3.7.4", Standardised: true},
	{Tag: "rlm_srlge", Code: "HTZT", Name: "Short run low grey level emphasis", Unit: UnitNone, Section: "3.7.5", Standardised: true},
	{Tag: "rlm_srhge", Code: "GD3A", Name: "Short run high grey level emphasis", Unit: UnitNone, Section: "3.7.6", Standardised: true},
	{Tag: "rlm_lrlge", Code: "IVPO", Name: "Long run low grey level emphasis", Unit: UnitNone, Section: "3.7.7", Standardised: true},
	{Tag: "rlm_lrhge", Code: "3KUM", Name: "Long run high grey level emphasis", Unit: UnitNone, Section: "3.7.8", Standardised: true},
	{Tag: "rlm_glnu", Code: "R5YN", Name: "Grey level non-uniformity", Unit: UnitNone, Section: "3.7.9", Standardised: true},
	{Tag: "rlm_glnu_norm", Code: "OVBL", Name: "Normalised grey level non-uniformity", Unit: UnitNone, Section: "3.7.10", Standardised: true},
	{Tag: "rlm_rlnu", Code: "W92Y", Name: "Run length non-uniformity", Unit: UnitNone, Section: "3.7.11", Standardised: true},
	{Tag: "rlm_rlnu_norm", Code: "IC23", Name: "Normalised run length non-uniformity", Unit: UnitNone, Section: "3.7.12", Standardised: true},
	{Tag: "rlm_r_perc", Code: "9ZK5", Name: "Run percentage", Unit: UnitNone, Section: "3.7.13", Standardised: true},
	{Tag: "rlm_gl_var", Code: "8CE5", Name: "Grey level variance", Unit: UnitNone, Section: "3.7.14", Standardised: true},
	{Tag: "rlm_rl_var", Code: "SXLW", Name: "Run length variance", Unit: UnitNone, Section: "3.7.15", Standardised: true},
	{Tag: "rlm_rl_entr", Code: "HJ9O", Name: "Run entropy", Unit: UnitNone, Section: "3.7.16", Standardised: true},
}

// glrlm computes section 3.7 (IBSI TP0I), grey level run length.
func glrlm(roi *ROI, l *levels, v *values) {
	r := newRunCounter(l)
	l.average(v, glrlmTable, reasonNoIntensity, nil, func(p part) []float64 {
		clear(r.atLeast)
		for _, d := range p.along {
			r.count(p, d)
		}
		return emphases(r.cells())
	})
}

// A runCounter finds runs without looking for their ends: it gives each voxel
// the length of its run so far, and counts the lengths. As many runs have
// exactly length j as voxels have length j and not j+1.
type runCounter struct {
	l       *levels
	width   int         // of a row of atLeast: the longest run and two more
	atLeast []uint32    // by level and length
	length  [2][]uint16 // of the runs so far, of this slice and the one before
	out     []cell
}

func newRunCounter(l *levels) *runCounter {
	width := max(l.size[0], l.size[1], l.size[2]) + 2
	plane := l.size[0] * l.size[1]
	return &runCounter{l: l, width: width, atLeast: make([]uint32, (l.top+1)*width),
		length: [2][]uint16{make([]uint16, plane), make([]uint16, plane)}}
}

// count adds the runs of the part along d.
func (r *runCounter) count(p part, d [3]int) {
	l := r.l
	plane := l.size[0] * l.size[1]
	back := d[0] + d[1]*l.size[0] // within a slice
	for z := p.first; z < p.end; z++ {
		here, before := r.length[z&1], r.length[(z-d[2])&1]
		last := l.at[(z-d[2])*plane:][:plane]
		if d[2] > 0 && z == p.first {
			last = nil // the slice before is not part of it
		}
		for y := l.margin; y < l.size[1]-l.margin; y++ {
			at, x := l.row(y, z)
			if x.first == x.end {
				continue
			}
			in := at - z*plane // within the slice
			levels := l.at[at+x.first : at+x.end]
			length := here[in+x.first:][:len(levels)]
			if last == nil {
				for k, i := range levels {
					length[k] = 1
					r.atLeast[int(i)*r.width+1]++
				}
				continue
			}
			r.row(levels, last[in+x.first-back:][:len(levels)], length, before[in+x.first-back:][:len(levels)])
		}
	}
}

// row continues the runs that come into a row of voxels, without branches,
// since where a run ends cannot be foretold.
func (r *runCounter) row(levels, last, length, before []uint16) {
	atLeast, width := r.atLeast, r.width
	last, length, before = last[:len(levels)], length[:len(levels)], before[:len(levels)]
	for k, i := range levels {
		if i == 0 {
			continue
		}
		goesOn := -uint16((uint32(i^last[k]) - 1) >> 31) // all bits or none
		n := before[k]&goesOn + 1
		length[k] = n
		atLeast[int(i)*width+int(n)]++
	}
}

// cells are the matrix, and the voxels of all directions in it: every voxel is in
// one run of each.
func (r *runCounter) cells() (cells []cell, voxels float64) {
	r.out = r.out[:0]
	for i := 1; i <= r.l.top; i++ {
		row := r.atLeast[i*r.width:][:r.width]
		for j := 1; j+1 < r.width && row[j] > 0; j++ {
			voxels += float64(row[j])
			if n := row[j] - row[j+1]; n > 0 {
				r.out = append(r.out, cell{i, j, float64(n)})
			}
		}
	}
	return r.out, voxels
}

func glrlmBytes(e extent, p Profile) int64 {
	width := int64(max(e.size[0], e.size[1], e.size[2]) + 12)
	return (p.top()+1)*width*(4+24) + 4*int64(e.size[0]+10)*int64(e.size[1]+10)
}
