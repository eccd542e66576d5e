package features

import "math"

// histogramTable is the manual's section 3.4, of discretised intensities.
var histogramTable = []Feature{
	{Tag: "ih_mean", Code: "X6K6", Name: "Mean discretised intensity", Unit: UnitNone, Section: "3.4.1", Standardised: true},
	{Tag: "ih_var", Code: "CH89", Name: "Discretised intensity variance", Unit: UnitNone, Section: "3.4.2", Standardised: true},
	{Tag: "ih_skew", Code: "88K1", Name: "Discretised intensity skewness", Unit: UnitNone, Section: "3.4.3", Standardised: true},
	{Tag: "ih_kurt", Code: "C3I7", Name: "(Excess) discretised intensity kurtosis", Unit: UnitNone, Section: "3.4.4", Standardised: true},
	{Tag: "ih_median", Code: "WIFQ", Name: "Median discretised intensity", Unit: UnitNone, Section: "3.4.5", Standardised: true},
	{Tag: "ih_min", Code: "1PR8", Name: "Minimum discretised intensity", Unit: UnitNone, Section: "3.4.6", Standardised: true},
	{Tag: "ih_p10", Code: "GPMT", Name: "10th discretised intensity percentile", Unit: UnitNone, Section: "3.4.7", Standardised: true},
	{Tag: "ih_p90", Code: "OZ0C", Name: "90th discretised intensity percentile", Unit: UnitNone, Section: "3.4.8", Standardised: true},
	{Tag: "ih_max", Code: "3NCY", Name: "Maximum discretised intensity", Unit: UnitNone, Section: "3.4.9", Standardised: true},
	{Tag: "ih_mode", Code: "AMMC", Name: "Intensity histogram mode", Unit: UnitNone, Section: "3.4.10", Standardised: true},
	{Tag: "ih_iqr", Code: "WR0O", Name: "Discretised intensity interquartile range", Unit: UnitNone, Section: "3.4.11", Standardised: true},
	{Tag: "ih_range", Code: "5Z3W", Name: "Discretised intensity range", Unit: UnitNone, Section: "3.4.12", Standardised: true},
	{Tag: "ih_mad", Code: "D2ZX", Name: "Intensity histogram mean absolute deviation", Unit: UnitNone, Section: "3.4.13", Standardised: true},
	{Tag: "ih_rmad", Code: "WRZB", Name: "Intensity histogram robust mean absolute deviation", Unit: UnitNone, Section: "3.4.14", Standardised: true},
	{Tag: "ih_medad", Code: "4RNL", Name: "Intensity histogram median absolute deviation", Unit: UnitNone, Section: "3.4.15", Standardised: true},
	{Tag: "ih_cov", Code: "CWYJ", Name: "Intensity histogram coefficient of variation", Unit: UnitNone, Section: "3.4.16", Standardised: true},
	{Tag: "ih_qcod", Code: "SLWD", Name: "Intensity histogram quartile coefficient of dispersion", Unit: UnitNone, Section: "3.4.17", Standardised: true},
	{Tag: "ih_entropy", Code: "TLU2", Name: "Discretised intensity entropy", Unit: UnitNone, Section: "3.4.18", Standardised: true},
	{Tag: "ih_uniformity", Code: "BJ5W", Name: "Discretised intensity uniformity", Unit: UnitNone, Section: "3.4.19", Standardised: true},
	{Tag: "ih_max_grad", Code: "12CE", Name: "Maximum histogram gradient", Unit: UnitNone, Section: "3.4.20", Standardised: true},
	{Tag: "ih_max_grad_g", Code: "8E6O", Name: "Maximum histogram gradient intensity", Unit: UnitNone, Section: "3.4.21", Standardised: true},
	{Tag: "ih_min_grad", Code: "VQB3", Name: "Minimum histogram gradient", Unit: UnitNone, Section: "3.4.22", Standardised: true},
	{Tag: "ih_min_grad_g", Code: "RHQZ", Name: "Minimum histogram gradient intensity", Unit: UnitNone, Section: "3.4.23", Standardised: true},
}

// histogram computes section 3.4 (IBSI ZVCW) from the number of voxels of each
// level.
func histogram(roi *ROI, l *levels, v *values) {
	h := l.counts
	var list []intensity
	sum := 0
	var entropy, uniformity float64
	for i, c := range h {
		if c > 0 {
			list = append(list, intensity{float32(i), uint32(c)})
			sum += i * c
			p := float64(c) / float64(l.voxels)
			entropy -= float64(p * Log2(p))
			uniformity += float64(p * p)
		}
	}
	d := describe(list)
	v.add("ih_mean", d.mean)
	v.add("ih_var", d.variance)
	v.add("ih_skew", d.skewness)
	v.add("ih_kurt", d.kurtosis)
	v.add("ih_median", d.median)
	v.add("ih_min", d.lowest)
	v.add("ih_p10", d.p10)
	v.add("ih_p90", d.p90)
	v.add("ih_max", d.highest)
	v.add("ih_mode", float64(mode(h, sum, l.voxels)))
	v.add("ih_iqr", d.p75-d.p25)
	v.add("ih_range", d.highest-d.lowest)
	v.add("ih_mad", d.deviation)
	v.ratio("ih_rmad", d.robust, d.middle, noMiddle)
	v.add("ih_medad", d.medianDeviation)
	v.add("ih_cov", math.Sqrt(d.variance)/d.mean)
	v.add("ih_qcod", (d.p75-d.p25)/(d.p75+d.p25))
	v.add("ih_entropy", max(entropy, 0)) // not -0 for a single level
	v.add("ih_uniformity", uniformity)
	if l.top == 1 {
		v.missing("a histogram of one bin has no gradient", "ih_max_grad", "ih_max_grad_g", "ih_min_grad", "ih_min_grad_g")
		return
	}
	most, least := gradient(h, 1), gradient(h, 1)
	mostAt, leastAt := 1, 1
	for i := 2; i <= l.top; i++ { // of equal gradients the one at the lowest level
		d := gradient(h, i)
		if d > most {
			most, mostAt = d, i
		}
		if d < least {
			least, leastAt = d, i
		}
	}
	v.add("ih_max_grad", most)
	v.add("ih_max_grad_g", float64(mostAt))
	v.add("ih_min_grad", least)
	v.add("ih_min_grad_g", float64(leastAt))
}

// mode is the level of most voxels; of several the one nearest the mean, and of
// two equally near the lower one (IBSI AMMC). The mean is sum/n, and distances
// from it are compared in whole numbers, so that a tie is one.
func mode(h []int, sum, n int) int {
	distance := func(i int) int { return max(i*n-sum, sum-i*n) }
	best := 0
	for i, c := range h {
		if c > h[best] || c == h[best] && distance(i) < distance(best) {
			best = i
		}
	}
	return best
}

// gradient of the histogram at level i, with at least two levels (manual 3.4.20).
func gradient(h []int, i int) float64 {
	switch i {
	case 1:
		return float64(h[2] - h[1])
	case len(h) - 1:
		return float64(h[i] - h[i-1])
	}
	return float64(h[i+1]-h[i-1]) / 2
}
