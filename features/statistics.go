package features

import (
	"math"
	"slices"
)

// statisticsTable is the manual's section 3.3, intensity-based statistics.
var statisticsTable = []Feature{
	{Tag: "stat_mean", Code: "Q4LE", Name: "Mean intensity", Unit: UnitIntensity, Section: "3.3.1", Standardised: true},
	{Tag: "stat_var", Code: "ECT3", Name: "Intensity variance", Unit: UnitIntensity2, Section: "3.3.2", Standardised: true},
	{Tag: "stat_skew", Code: "KE2A", Name: "Intensity skewness", Unit: UnitNone, Section: "3.3.3", Standardised: true},
	{Tag: "stat_kurt", Code: "IPH6", Name: "(Excess) intensity kurtosis", Unit: UnitNone, Section: "3.3.4", Standardised: true},
	{Tag: "stat_median", Code: "Y12H", Name: "Median intensity", Unit: UnitIntensity, Section: "3.3.5", Standardised: true},
	{Tag: "stat_min", Code: "1GSF", Name: "Minimum intensity", Unit: UnitIntensity, Section: "3.3.6", Standardised: true},
	{Tag: "stat_p10", Code: "QG58", Name: "10th intensity percentile", Unit: UnitIntensity, Section: "3.3.7", Standardised: true},
	{Tag: "stat_p90", Code: "8DWT", Name: "90th intensity percentile", Unit: UnitIntensity, Section: "3.3.8", Standardised: true},
	{Tag: "stat_max", Code: "84IY", Name: "Maximum intensity", Unit: UnitIntensity, Section: "3.3.9", Standardised: true},
	{Tag: "stat_iqr", Code: "SALO", Name: "Intensity interquartile range", Unit: UnitIntensity, Section: "3.3.10", Standardised: true},
	{Tag: "stat_range", Code: "2OJQ", Name: "Intensity range", Unit: UnitIntensity, Section: "3.3.11", Standardised: true},
	{Tag: "stat_mad", Code: "4FUA", Name: "Intensity-based mean absolute deviation", Unit: UnitIntensity, Section: "3.3.12", Standardised: true},
	{Tag: "stat_rmad", Code: "1128", Name: "Intensity-based robust mean absolute deviation", Unit: UnitIntensity, Section: "3.3.13", Standardised: true},
	{Tag: "stat_medad", Code: "N72L", Name: "Intensity-based median absolute deviation", Unit: UnitIntensity, Section: "3.3.14", Standardised: true},
	{Tag: "stat_cov", Code: "7TET", Name: "Intensity-based coefficient of variation", Unit: UnitNone, Section: "3.3.15", Standardised: true},
	{Tag: "stat_qcod", Code: "9S40", Name: "Intensity-based quartile coefficient of dispersion", Unit: UnitNone, Section: "3.3.16", Standardised: true},
	{Tag: "stat_energy", Code: "N8CA", Name: "Intensity-based energy", Unit: UnitIntensity2, Section: "3.3.17", Standardised: true},
	{Tag: "stat_rms", Code: "5ZWQ", Name: "Root mean square intensity", Unit: UnitIntensity, Section: "3.3.18", Standardised: true},
}

// reasonNoIntensity is why a family of the intensity mask is empty.
const reasonNoIntensity = "no voxel of the ROI is left after re-segmentation"

// statistics computes section 3.3 over the intensity mask (IBSI UHIW).
func statistics(roi *ROI, v *values) {
	x := intensities(roi)
	if len(x) == 0 {
		v.allMissing(reasonNoIntensity)
		return
	}
	n := float64(len(x))
	mean, variance := meanVariance(x)
	var m3, m4, mad, energy float64
	for _, v := range x {
		d := v - mean
		d2 := float64(d * d)
		m3 += float64(d2 * d)
		m4 += float64(d2 * d2)
		mad += math.Abs(d)
		energy += float64(v * v)
	}
	x = roi.sorted() // only order statistics from here
	median, p10, p90 := percentile(x, 50), percentile(x, 10), percentile(x, 90)
	p25, p75 := percentile(x, 25), percentile(x, 75)
	medad := 0.0
	for _, v := range x {
		medad += math.Abs(v - median)
	}

	v.add("stat_mean", mean)
	v.add("stat_var", variance)
	if variance == 0 { // the manual sets both to 0 for a constant ROI
		v.add("stat_skew", 0)
		v.add("stat_kurt", 0)
	} else {
		v.add("stat_skew", m3/n/float64(variance*math.Sqrt(variance)))
		v.add("stat_kurt", m4/n/float64(variance*variance)-3)
	}
	v.add("stat_median", median)
	v.add("stat_min", x[0])
	v.add("stat_p10", p10)
	v.add("stat_p90", p90)
	v.add("stat_max", x[len(x)-1])
	v.add("stat_iqr", p75-p25)
	v.add("stat_range", x[len(x)-1]-x[0])
	v.add("stat_mad", mad/n)
	robust, n1090 := robustDeviation(x, p10, p90)
	v.ratio("stat_rmad", robust, n1090, "no voxel lies between the 10th and the 90th percentile")
	v.add("stat_medad", medad/n)
	v.ratio("stat_cov", math.Sqrt(variance), mean, "the mean intensity is 0")
	v.ratio("stat_qcod", p75-p25, p75+p25, "the 25th and 75th percentiles add to 0")
	v.add("stat_energy", energy)
	v.add("stat_rms", math.Sqrt(energy/n))
}

// robustDeviation is the sum of absolute deviations, from their own mean, of the
// n values from the 10th to the 90th percentile (IBSI 1128).
func robustDeviation(x []float64, p10, p90 float64) (dev, n float64) {
	sum := 0.0
	for _, v := range x {
		if v >= p10 && v <= p90 {
			sum += v
			n++
		}
	}
	for _, v := range x {
		if v >= p10 && v <= p90 {
			dev += math.Abs(v - sum/n)
		}
	}
	return dev, n
}

// percentile of sorted values, linear between the two nearest ranks (Hyndman
// and Fan's type 7, as in most statistics programs); the manual leaves it open.
func percentile(x []float64, p float64) float64 {
	at := float64(p*float64(len(x)-1)) / 100
	i := int(at)
	if i+1 >= len(x) {
		return x[len(x)-1]
	}
	f := at - float64(i)
	return x[i] + float64(f*(x[i+1]-x[i]))
}

// sortIntensities sorts by counting where the values are whole and close, as CT
// numbers are.
func sortIntensities(x []float64) {
	lo, hi := x[0], x[0]
	whole := true
	for _, v := range x {
		lo, hi = min(lo, v), max(hi, v)
		whole = whole && v == math.Trunc(v)
	}
	if !whole || hi-lo > 1<<16 {
		slices.Sort(x)
		return
	}
	count := make([]int, int(hi-lo)+1)
	for _, v := range x {
		count[int(v-lo)]++
	}
	i := 0
	for k, c := range count {
		for range c {
			x[i] = lo + float64(k)
			i++
		}
	}
}
