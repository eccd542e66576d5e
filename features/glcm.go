package features

import "math"

// glcmTable is the manual's section 3.6.
var glcmTable = []Feature{
	{Tag: "cm_joint_max", Code: "GYBY", Name: "Joint maximum", Unit: UnitNone, Section: "3.6.1", Standardised: true},
	{Tag: "cm_joint_avg", Code: "60VM", Name: "Joint average", Unit: UnitNone, Section: "3.6.2", Standardised: true},
	{Tag: "cm_joint_var", Code: "UR99", Name: "Joint variance", Unit: UnitNone, Section: "3.6.3", Standardised: true},
	{Tag: "cm_joint_entr", Code: "TU9B", Name: "Joint entropy", Unit: UnitNone, Section: "3.6.4", Standardised: true},
	{Tag: "cm_diff_avg", Code: "TF7R", Name: "Difference average", Unit: UnitNone, Section: "3.6.5", Standardised: true},
	{Tag: "cm_diff_var", Code: "D3YU", Name: "Difference variance", Unit: UnitNone, Section: "3.6.6", Standardised: true},
	{Tag: "cm_diff_entr", Code: "NTRS", Name: "Difference entropy", Unit: UnitNone, Section: "3.6.7", Standardised: true},
	{Tag: "cm_sum_avg", Code: "ZGXS", Name: "Sum average", Unit: UnitNone, Section: "3.6.8", Standardised: true},
	{Tag: "cm_sum_var", Code: "OEEB", Name: "Sum variance", Unit: UnitNone, Section: "3.6.9", Standardised: true},
	{Tag: "cm_sum_entr", Code: "P6QZ", Name: "Sum entropy", Unit: UnitNone, Section: "3.6.10", Standardised: true},
	{Tag: "cm_energy", Code: "8ZQL", Name: "Angular second moment", Unit: UnitNone, Section: "3.6.11", Standardised: true},
	{Tag: "cm_contrast", Code: "ACUI", Name: "Contrast", Unit: UnitNone, Section: "3.6.12", Standardised: true},
	{Tag: "cm_dissimilarity", Code: "8S9J", Name: "Dissimilarity", Unit: UnitNone, Section: "3.6.13", Standardised: true},
	{Tag: "cm_inv_diff", Code: "IB1Z", Name: "Inverse difference", Unit: UnitNone, Section: "3.6.14", Standardised: true},
	{Tag: "cm_inv_diff_norm", Code: "NDRX", Name: "Normalised inverse difference", Unit: UnitNone, Section: "3.6.15", Standardised: true},
	{Tag: "cm_inv_diff_mom", Code: "WF0Z", Name: "Inverse difference moment", Unit: UnitNone, Section: "3.6.16", Standardised: true},
	{Tag: "cm_inv_diff_mom_norm", Code: "1QCO", Name: "Normalised inverse difference moment", Unit: UnitNone, Section: "3.6.17", Standardised: true},
	{Tag: "cm_inv_var", Code: "E8JP", Name: "Inverse variance", Unit: UnitNone, Section: "3.6.18", Standardised: true},
	{Tag: "cm_corr", Code: "NI2N", Name: "Correlation", Unit: UnitNone, Section: "3.6.19", Standardised: true},
	{Tag: "cm_auto_corr", Code: "QWB0", Name: "Autocorrelation", Unit: UnitNone, Section: "3.6.20", Standardised: true},
	{Tag: "cm_clust_tend", Code: "DG8W", Name: "Cluster tendency", Unit: UnitNone, Section: "3.6.21", Standardised: true},
	{Tag: "cm_clust_shade", Code: "7NFM", Name: "Cluster shade", Unit: UnitNone, Section: "3.6.22", Standardised: true},
	{Tag: "cm_clust_prom", Code: "AE86", Name: "Cluster prominence", Unit: UnitNone, Section: "3.6.23", Standardised: true},
	{Tag: "cm_info_corr1", Code: "R8DG", Name: "Information correlation 1", Unit: UnitNone, Section: "3.6.24", Standardised: true},
	{Tag: "cm_info_corr2", Code: "JN9H", Name: "Information correlation 2", Unit: UnitNone, Section: "3.6.25", Standardised: true},
}

// glcm computes section 3.6 (IBSI LFYI), grey level co-occurrence.
func glcm(roi *ROI, l *levels, v *values) {
	t := roi.profile.Texture.Filled()
	pairs := make([]uint32, (l.top+1)*(l.top+1))
	m := newCooccurrence(l.top)
	const one = "a single grey level in the ROI has no correlation"
	l.average(v, glcmTable, noNeighbours, map[string]string{"cm_corr": one, "cm_info_corr1": one}, func(p part) []float64 {
		m.clear()
		for _, d := range p.along {
			clear(pairs)
			l.countPairs(pairs, p, [3]int{d[0] * t.GLCMDistance, d[1] * t.GLCMDistance, d[2] * t.GLCMDistance})
			m.merge(pairs, t.weight(d))
		}
		return m.features()
	})
}

// weight is the weight of a direction when matrices are merged (IBSI 6CK8).
func (t Texture) weight(d [3]int) float64 {
	if t.GLCMWeighting == "none" {
		return 1
	}
	var sum, squares, most int
	for _, c := range d {
		c = max(c, -c) * t.GLCMDistance
		sum, squares, most = sum+c, squares+c*c, max(most, c)
	}
	length := math.Sqrt(float64(squares))
	switch t.GLCMNorm {
	case "manhattan":
		length = float64(sum)
	case "chebyshev":
		length = float64(most)
	}
	if t.GLCMWeighting == "inverse" {
		return 1 / length
	}
	return exp(-float64(length * length))
}

// countPairs adds to counts[i·(top+1)+j] the pairs of a voxel of level i and one
// of level j that is d away, both in the part's slices. Pairs with a voxel
// outside the ROI fall into row and column 0.
func (l *levels) countPairs(counts []uint32, p part, d [3]int) {
	width := l.top + 1
	s := l.stride()
	shift := d[0] + d[1]*s[1] + d[2]*s[2]
	for z := p.first; z < p.end-d[2]; z++ {
		for y := l.margin; y < l.size[1]-l.margin; y++ {
			at, x := l.row(y, z)
			here := l.at[at+x.first : at+x.end]
			there := l.at[at+x.first+shift:][:len(here)]
			for k, i := range here {
				counts[int(i)*width+int(there[k])]++
			}
		}
	}
}

// A cooccurrence is the symmetric matrix M + Mᵀ of one or several directions.
type cooccurrence struct {
	top int
	m   []float64 // m[(i-1)·top+j-1], counts or weighted counts
}

func newCooccurrence(top int) *cooccurrence { return &cooccurrence{top, make([]float64, top*top)} }

func (c *cooccurrence) clear() { clear(c.m) }

// merge adds the pairs of a direction in both senses.
func (c *cooccurrence) merge(pairs []uint32, weight float64) {
	for i := 1; i <= c.top; i++ {
		row := pairs[i*(c.top+1)+1:][:c.top]
		for j, n := range row {
			if n != 0 {
				w := float64(weight * float64(n))
				c.m[(i-1)*c.top+j] += w
				c.m[j*c.top+i-1] += w
			}
		}
	}
}

// features are the 25 features in the table's order; nil for an empty matrix.
// One pass over the matrix gives the sums over its rows, diagonals and
// cross-diagonals; most features follow from those.
func (c *cooccurrence) features() []float64 {
	n := c.top
	row := make([]float64, n+1)     // by i
	diff := make([]float64, n)      // by |i-j|
	cross := make([]float64, 2*n+1) // by i+j
	var total, most, squares, entropy float64
	for _, m := range c.m {
		total += m
	}
	if total == 0 {
		return nil
	}
	for i := 1; i <= n; i++ {
		for j, m := range c.m[(i-1)*n : i*n] {
			if m == 0 {
				continue
			}
			j++
			row[i] += m
			diff[max(i-j, j-i)] += m
			cross[i+j] += m
			most = max(most, m)
			squares += float64(m * m)
			entropy -= float64(m * Log2(m/total))
		}
	}
	entropy /= total
	var mean, variance, rowEntropy float64
	levels := 0
	for i, m := range row {
		mean += float64(m * float64(i))
		if m > 0 {
			levels++
			rowEntropy -= float64(m * Log2(m/total))
		}
	}
	mean /= total
	rowEntropy /= total
	for i, m := range row {
		variance += float64(m * float64((float64(i)-mean)*(float64(i)-mean)))
	}
	variance /= total

	var diffMean, diffSquares, diffVariance, diffEntropy, inverse, inverseNorm, moment, momentNorm, inverseVariance float64
	for k, m := range diff {
		if m == 0 {
			continue
		}
		d := float64(k)
		diffMean += float64(m * d)
		diffSquares += float64(m * float64(d*d))
		diffEntropy -= float64(m * Log2(m/total))
		inverse += m / (1 + d)
		inverseNorm += m / (1 + d/float64(n))
		moment += m / (1 + float64(d*d))
		momentNorm += m / (1 + float64(d*d)/float64(n*n))
		if k > 0 {
			inverseVariance += m / float64(d*d)
		}
	}
	diffMean /= total
	for k, m := range diff {
		diffVariance += float64(m * float64((float64(k)-diffMean)*(float64(k)-diffMean)))
	}
	contrast := diffSquares / total

	var sumEntropy, tendency, shade, prominence, sumSquares float64
	for k, m := range cross {
		if m == 0 {
			continue
		}
		sumEntropy -= float64(m * Log2(m/total))
		d := float64(k) - 2*mean
		d2 := float64(d * d)
		tendency += float64(m * d2)
		shade += float64(m * float64(d2*d))
		prominence += float64(m * float64(d2*d2))
		sumSquares += float64(m * float64(float64(k)*float64(k)))
	}
	tendency /= total

	// 4ij = (i+j)² − (i−j)², and likewise for the covariance.
	auto := (sumSquares/total - contrast) / 4
	correlation, information1 := undefined, undefined
	information2 := 0.0
	if levels > 1 {
		correlation = (tendency - contrast) / 4 / variance
		// For a symmetric matrix HXY1 = HXY2 = 2 HX.
		information1 = (entropy - 2*rowEntropy) / rowEntropy
		information2 = math.Sqrt(math.Max(1-exp(-2*(2*rowEntropy-entropy)), 0))
	}
	return []float64{
		most / total, mean, variance, math.Max(entropy, 0),
		diffMean, diffVariance / total, diffEntropy / total,
		2 * mean, tendency, sumEntropy / total,
		squares / float64(total*total), contrast, diffMean,
		inverse / total, inverseNorm / total, moment / total, momentNorm / total, inverseVariance / total,
		correlation, auto, tendency, shade / total, prominence / total,
		information1, information2,
	}
}

func glcmBytes(e extent, p Profile) int64 {
	n := p.top() + 1
	return 12 * n * n
}
