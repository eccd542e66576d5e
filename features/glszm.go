package features

import (
	"cmp"
	"math/bits"
	"slices"
)

// glszmTable is the manual's section 3.8.
var glszmTable = []Feature{
	{Tag: "szm_sze", Code: "5QRC", Name: "Small zone emphasis", Unit: UnitNone, Section: "3.8.1", Standardised: true},
	{Tag: "szm_lze", Code: "48P8", Name: "Large zone emphasis", Unit: UnitNone, Section: "3.8.2", Standardised: true},
	{Tag: "szm_lgze", Code: "XMSY", Name: "Low grey level zone emphasis", Unit: UnitNone, Section: "3.8.3", Standardised: true},
	{Tag: "szm_hgze", Code: "5GN9", Name: "High grey level zone emphasis", Unit: UnitNone, Section: "3.8.4", Standardised: true},
	{Tag: "szm_szlge", Code: "5RAI", Name: "Small zone low grey level emphasis", Unit: UnitNone, Section: "3.8.5", Standardised: true},
	{Tag: "szm_szhge", Code: "HW1V", Name: "Small zone high grey level emphasis", Unit: UnitNone, Section: "3.8.6", Standardised: true},
	{Tag: "szm_lzlge", Code: "YH51", Name: "Large zone low grey level emphasis", Unit: UnitNone, Section: "3.8.7", Standardised: true},
	{Tag: "szm_lzhge", Code: "J17V", Name: "Large zone high grey level emphasis", Unit: UnitNone, Section: "3.8.8", Standardised: true},
	{Tag: "szm_glnu", Code: "JNSA", Name: "Grey level non-uniformity", Unit: UnitNone, Section: "3.8.9", Standardised: true},
	{Tag: "szm_glnu_norm", Code: "Y1RO", Name: "Normalised grey level non-uniformity", Unit: UnitNone, Section: "3.8.10", Standardised: true},
	{Tag: "szm_zsnu", Code: "4JP3", Name: "Zone size non-uniformity", Unit: UnitNone, Section: "3.8.11", Standardised: true},
	{Tag: "szm_zsnu_norm", Code: "VB3A", Name: "Normalised zone size non-uniformity", Unit: UnitNone, Section: "3.8.12", Standardised: true},
	{Tag: "szm_z_perc", Code: "P30P", Name: "Zone percentage", Unit: UnitNone, Section: "3.8.13", Standardised: true},
	{Tag: "szm_gl_var", Code: "BYLV", Name: "Grey level variance", Unit: UnitNone, Section: "3.8.14", Standardised: true},
	{Tag: "szm_zs_var", Code: "3NSA", Name: "Zone size variance", Unit: UnitNone, Section: "3.8.15", Standardised: true},
	{Tag: "szm_zs_entr", Code: "GU8N", Name: "Zone size entropy", Unit: UnitNone, Section: "3.8.16", Standardised: true},
}

// glszm computes section 3.8 (IBSI 9SAK), grey level size zone.
func glszm(roi *ROI, l *levels, v *values) {
	zoneFeatures(roi, l, v, glszmTable, func(z zone) int { return int(z.size) })
}

// zoneFeatures computes the emphases of zones by level and by some measure.
func zoneFeatures(roi *ROI, l *levels, v *values, table []Feature, measure func(zone) int) {
	zones := roi.zonesOf(l, v.aggregation == Agg3D)
	counts := newZoneCounts(l.top)
	l.average(v, table, reasonNoIntensity, nil, func(p part) []float64 {
		voxels := 0
		for z := p.first; z < p.end; z++ {
			voxels += l.inSlice[z]
			for _, one := range zones.of(z) {
				counts.add(int(one.level), measure(one))
			}
		}
		return emphases(counts.take(), float64(voxels))
	})
}

// smallZone bounds the sizes that are counted in a table: most zones are small.
const smallZone = 64

// zoneCounts are numbers of zones by level and size.
type zoneCounts struct {
	small []uint32 // by level and size, below smallZone
	big   []cell   // one for each larger zone
	out   []cell
}

func newZoneCounts(top int) *zoneCounts {
	return &zoneCounts{small: make([]uint32, (top+1)*smallZone)}
}

func (c *zoneCounts) add(level, size int) {
	if size < smallZone {
		c.small[level*smallZone+size]++
	} else {
		c.big = append(c.big, cell{level, size, 1})
	}
}

// take gives the matrix, in ascending order, and starts anew.
func (c *zoneCounts) take() []cell {
	slices.SortFunc(c.big, func(a, b cell) int { return cmp.Or(cmp.Compare(a.i, b.i), cmp.Compare(a.j, b.j)) })
	big := c.big
	c.out = c.out[:0]
	for at, n := range c.small {
		if n > 0 {
			c.out = append(c.out, cell{at / smallZone, at % smallZone, float64(n)})
			c.small[at] = 0
		}
		if at%smallZone < smallZone-1 {
			continue
		}
		for ; len(big) > 0 && big[0].i == at/smallZone; big = big[1:] {
			if k := len(c.out) - 1; k >= 0 && c.out[k].i == big[0].i && c.out[k].j == big[0].j {
				c.out[k].n++
			} else {
				c.out = append(c.out, big[0])
			}
		}
	}
	c.big = c.big[:0]
	return c.out
}

// A zone is a group of linked voxels of one level: 26-connected in 3D,
// 8-connected in the plane.
type zone struct {
	size     int32  // voxels
	distance uint16 // the least to the ROI's edge, for the GLDZM
	level    uint16
}

// zones are an ROI's zones in the order of their first voxels.
type zones struct {
	list []zone
	from []int // from[z] is the first zone that begins in slice z
}

// of are the zones that begin in slice z.
func (z *zones) of(slice int) []zone { return z.list[z.from[slice]:z.from[slice+1]] }

// zonesOf finds the zones once for all families.
func (roi *ROI) zonesOf(l *levels, threeD bool) *zones {
	if roi.zones[threeD] == nil {
		if roi.zones == nil {
			roi.zones = map[bool]*zones{}
		}
		var distance []uint16
		if slices.Contains(roi.profile.Families, GLDZM) {
			distance = edgeDistance(roi, l, threeD)
		}
		roi.zones[threeD] = newZones(l, distance, threeD)
	}
	return roi.zones[threeD]
}

// newZones links equal neighbours by union-find: one pass over the voxels in
// their order links each with the half of its neighbours that came before, and
// the root of a zone is its first voxel; a second pass counts.
func newZones(l *levels, distance []uint16, threeD bool) *zones {
	parent := make([]int32, len(l.at))
	link := newLinker(l, threeD)
	first, end := l.slices()
	for z := first; z < end; z++ {
		for y := l.margin; y < l.size[1]-l.margin; y++ {
			if at, x := l.row(y, z); x.first < x.end {
				link.row(parent, at+x.first, at+x.end)
			}
		}
	}
	out := &zones{from: make([]int, l.size[2]+1)}
	for z := range l.size[2] {
		out.from[z] = len(out.list)
		for y := range l.size[1] {
			at, x := l.row(y, z)
			for v := at + x.first; v < at+x.end; v++ {
				level := l.at[v]
				if level == 0 {
					continue
				}
				// Voxels that are done hold their zone's number, below 0.
				if int(parent[v]) == v {
					parent[v] = int32(^len(out.list))
					out.list = append(out.list, zone{level: level, distance: ^uint16(0)})
				} else {
					parent[v] = parent[parent[v]]
				}
				z := &out.list[^parent[v]]
				z.size++
				if distance != nil {
					z.distance = min(z.distance, distance[v])
				}
			}
		}
	}
	out.from[l.size[2]] = len(out.list)
	return out
}

// A linker links voxels with their neighbours.
type linker struct {
	at    []uint16
	back  []int // how far the neighbours that came before a voxel lie behind it
	needs []uint16
	near  [][]uint16 // rows of those neighbours
}

// newLinker prepares for each set of equal neighbours the few that a voxel needs
// to be linked with: those of them that touch each other are linked already, so
// one of each group will do.
func newLinker(l *levels, threeD bool) *linker {
	s := l.stride()
	near := offsets(1, threeD)
	out := &linker{at: l.at, needs: make([]uint16, 1<<len(near))}
	touch := make([]uint16, len(near)) // by neighbour: those that touch it
	for i, o := range near {
		out.back = append(out.back, o[0]+o[1]*s[1]+o[2]*s[2])
		for j, p := range near {
			if max(o[0]-p[0], p[0]-o[0], o[1]-p[1], p[1]-o[1], o[2]-p[2], p[2]-o[2]) == 1 {
				touch[i] |= 1 << j
			}
		}
	}
	for set := range out.needs {
		for left := uint16(set); left != 0; {
			one := left & -left
			out.needs[set] |= one
			for group := one; group != 0; {
				left &^= group
				next := uint16(0)
				for ; group != 0; group &= group - 1 {
					next |= touch[bits.TrailingZeros16(group)]
				}
				group = next & left
			}
		}
	}
	return out
}

// row links the voxels from first to end-1, which follow each other along x.
func (k *linker) row(parent []int32, first, end int) {
	near := k.near[:0]
	for _, back := range k.back {
		near = append(near, k.at[first-back:end-back])
	}
	k.near = near
	for x, level := range k.at[first:end] {
		v := int32(first + x)
		parent[v] = v
		if level == 0 {
			continue
		}
		set := uint32(0) // without branches, since what is equal cannot be foretold
		for i := range near {
			set |= (uint32(level^near[i][x]) - 1) >> 31 << i
		}
		for need := k.needs[set]; need != 0; need &= need - 1 {
			link(parent, v, v-int32(k.back[bits.TrailingZeros16(need)]))
		}
	}
}

// link makes one zone of two, by Rem's algorithm with splicing (Dijkstra 1976;
// Patwary, Blair and Manne 2010): a parent is never behind its child.
func link(parent []int32, a, b int32) {
	up, other := parent[a], parent[b]
	for up != other {
		if up < other {
			a, b, up, other = b, a, other, up
		}
		parent[a] = other
		if up == a {
			return
		}
		a = up
		up = parent[a]
	}
}

// zonesBytes is the memory of the zones, of which there are at most as many as
// voxels, in 2D and in 3D.
func zonesBytes(e extent, p Profile) int64 {
	return 6*e.padded(p) + 2*8*e.voxels + 24*e.voxels
}
