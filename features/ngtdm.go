package features

import "math"

// ngtdmTable is the manual's section 3.10.
var ngtdmTable = []Feature{
	{Tag: "ngt_coarseness", Code: "QCDE", Name: "Coarseness", Unit: UnitNone, Section: "3.10.1", Standardised: true},
	{Tag: "ngt_contrast", Code: "65HE", Name: "Contrast", Unit: UnitNone, Section: "3.10.2", Standardised: true},
	{Tag: "ngt_busyness", Code: "NQ30", Name: "Busyness", Unit: UnitNone, Section: "3.10.3", Standardised: true},
	{Tag: "ngt_complexity", Code: "HDEZ", Name: "Complexity", Unit: UnitNone, Section: "3.10.4", Standardised: true},
	{Tag: "ngt_strength", Code: "1X9X", Name: "Strength", Unit: UnitNone, Section: "3.10.5", Standardised: true},
}

// ngtdm computes section 3.10 (IBSI IPET), neighbourhood grey tone difference.
func ngtdm(roi *ROI, l *levels, v *values) {
	t := newTones(l, roi.profile.Texture.Filled().NGTDMDistance, v.aggregation == Agg3D)
	l.average(v, ngtdmTable, noNeighbours, map[string]string{
		"ngt_busyness": "grey level times number of voxels is the same for all grey levels, so there is nothing to divide by",
	}, func(p part) []float64 {
		t.clear()
		for z := p.first; z < p.end; z++ {
			t.slice(z)
		}
		return t.features()
	})
}

// tones collects the differences between voxels and their neighbourhoods.
type tones struct {
	l      *levels
	reach  int
	threeD bool
	most   int // voxels of a neighbourhood, the centre included

	// A sum of levels and a number of voxels, as sum + number<<32, of the part of
	// a row within reach of each voxel; of a slice at its number modulo theirs.
	lines [][]uint64
	in    []int // which slice each of them holds
	row   []uint64

	// s_i = Σ |i − sum/W| is kept as whole numbers |i·W − sum| for each W, so
	// that the order of the voxels cannot matter.
	difference []int64 // by level and W
	number     []int   // of voxels with neighbours, by level
}

func newTones(l *levels, reach int, threeD bool) *tones {
	side := 2*reach + 1
	t := &tones{l: l, reach: reach, threeD: threeD, most: side * side, lines: make([][]uint64, 1)}
	if threeD {
		t.most *= side
		t.lines = make([][]uint64, side)
	}
	t.in = make([]int, len(t.lines))
	for i := range t.lines {
		t.lines[i] = make([]uint64, l.size[0]*l.size[1])
		t.in[i] = -1
	}
	t.row = make([]uint64, l.size[0])
	t.difference = make([]int64, (l.top+1)*t.most)
	t.number = make([]int, l.top+1)
	return t
}

func (t *tones) clear() {
	clear(t.difference)
	clear(t.number)
}

// linesOf are the sums along the rows of slice z.
func (t *tones) linesOf(z int) []uint64 {
	k := z % len(t.lines)
	out := t.lines[k]
	if t.in[k] == z {
		return out
	}
	t.in[k] = z
	clear(out)
	l, r := t.l, t.reach
	w := l.size[0]
	for y := l.margin; y < l.size[1]-l.margin; y++ {
		at, x := l.row(y, z)
		if x.first == x.end {
			continue
		}
		in, line := l.at[at:at+w], out[y*w:][:w]
		var sum uint64
		for k := x.first - r; k < x.end+r; k++ { // the margin is at least the reach
			if k+r < w {
				sum += worth(in[k+r])
			}
			line[k] = sum
			if k >= r {
				sum -= worth(in[k-r])
			}
		}
	}
	return out
}

// worth is a voxel's part of a sum.
func worth(level uint16) uint64 {
	if level == 0 {
		return 0
	}
	return uint64(level) | 1<<32
}

// slice adds the voxels of slice z.
func (t *tones) slice(z int) {
	l, r := t.l, t.reach
	w := l.size[0]
	deep := 0
	if t.threeD {
		deep = r
	}
	var layers [][]uint64
	for d := -deep; d <= deep; d++ {
		layers = append(layers, t.linesOf(z+d))
	}
	for y := l.margin; y < l.size[1]-l.margin; y++ {
		at, x := l.row(y, z)
		if x.first == x.end {
			continue
		}
		sums := t.row[:x.end-x.first]
		clear(sums)
		for _, layer := range layers {
			for d := -r; d <= r; d++ {
				for k, s := range layer[(y+d)*w+x.first:][:len(sums)] {
					sums[k] += s
				}
			}
		}
		for k, level := range l.at[at+x.first:][:len(sums)] {
			if level == 0 {
				continue
			}
			sum := sums[k] - worth(level)
			size := int64(sum >> 32)
			if size == 0 {
				continue
			}
			d := int64(level)*size - int64(uint32(sum))
			t.difference[int(level)*t.most+int(size)] += max(d, -d)
			t.number[level]++
		}
	}
}

// features are the five features in the table's order; nil where no voxel has a
// neighbour.
func (t *tones) features() []float64 {
	type tone struct {
		i, p, s float64
		in      int // i·n_i
	}
	var list []tone
	total := 0
	for _, n := range t.number {
		total += n
	}
	if total == 0 {
		return nil
	}
	var sum, weighted float64
	for i, n := range t.number {
		if n == 0 {
			continue
		}
		one := tone{i: float64(i), p: float64(n) / float64(total), in: i * n}
		for w, d := range t.difference[i*t.most:][:t.most] {
			if d != 0 {
				one.s += float64(d) / float64(w)
			}
		}
		sum += one.s
		weighted += float64(one.p * one.s)
		list = append(list, one)
	}
	var spread, complex, strength float64
	busy := 0 // in whole numbers, since as a divisor it must be 0 where it is
	for _, a := range list {
		for _, b := range list {
			d := a.i - b.i
			spread += float64(float64(a.p*b.p) * float64(d*d))
			busy += max(a.in-b.in, b.in-a.in)
			complex += float64(math.Abs(d)*(float64(a.p*a.s)+float64(b.p*b.s))) / (a.p + b.p)
			strength += float64((a.p + b.p) * float64(d*d))
		}
	}
	out := []float64{1e6, 0, 0, complex / float64(total), 0} // what the manual sets where a divisor is 0
	if weighted > 0 {
		out[0] = min(1/weighted, 1e6)
	}
	if n := float64(len(list)); n > 1 {
		out[1] = float64(spread/float64(n*(n-1))) * (sum / float64(total))
		out[2] = undefined
		if busy > 0 {
			out[2] = weighted / (float64(busy) / float64(total))
		}
	}
	if sum > 0 {
		out[4] = strength / sum
	}
	return out
}

func ngtdmBytes(e extent, p Profile) int64 {
	side := int64(2*p.Texture.Filled().NGTDMDistance + 1)
	return 8*(side+1)*int64(e.size[0]+10)*int64(e.size[1]+10) + 8*(p.top()+1)*side*side*side
}
