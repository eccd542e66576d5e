package features

import "math"

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
	d := roi.description()
	if d.n == 0 {
		v.allMissing(reasonNoIntensity)
		return
	}
	v.add("stat_mean", d.mean)
	v.add("stat_var", d.variance)
	v.add("stat_skew", d.skewness)
	v.add("stat_kurt", d.kurtosis)
	v.add("stat_median", d.median)
	v.add("stat_min", d.lowest)
	v.add("stat_p10", d.p10)
	v.add("stat_p90", d.p90)
	v.add("stat_max", d.highest)
	v.add("stat_iqr", d.p75-d.p25)
	v.add("stat_range", d.highest-d.lowest)
	v.add("stat_mad", d.deviation)
	v.ratio("stat_rmad", d.robust, d.middle, noMiddle)
	v.add("stat_medad", d.medianDeviation)
	v.ratio("stat_cov", math.Sqrt(d.variance), d.mean, "the mean intensity is 0")
	v.ratio("stat_qcod", d.p75-d.p25, d.p75+d.p25, "the 25th and 75th percentiles add to 0")
	v.add("stat_energy", d.energy)
	v.add("stat_rms", math.Sqrt(d.energy/d.n))
}

// noMiddle is why there is no robust deviation.
const noMiddle = "no voxel lies between the 10th and the 90th percentile"

// A description is what intensity statistics and the intensity histogram say of
// a set of values.
type description struct {
	n, lowest, highest                 float64
	mean, variance, skewness, kurtosis float64 // kurtosis is excess kurtosis
	p10, p25, median, p75, p90         float64
	deviation, medianDeviation         float64 // mean absolute ones, from mean and median
	robust, middle                     float64 // sum of deviations of the values from p10 to p90, and how many those are
	energy                             float64
}

func describe(list []intensity) description {
	d := description{lowest: float64(list[0].x), highest: float64(list[len(list)-1].x)}
	var count int
	var sum float64
	for _, l := range list {
		count += int(l.n)
		sum += float64(float64(l.n) * float64(l.x))
	}
	d.n = float64(count)
	d.mean = sum / d.n
	var m2, m3, m4 float64
	for _, l := range list {
		k, x := float64(l.n), float64(l.x)
		e := x - d.mean
		e2 := float64(e * e)
		m2 += float64(k * e2)
		m3 += float64(k * float64(e2*e))
		m4 += float64(k * float64(e2*e2))
		d.deviation += float64(k * math.Abs(e))
		d.energy += float64(k * float64(x*x))
	}
	if len(list) == 1 { // whatever rounding makes of the mean
		m2, d.deviation = 0, 0
	}
	d.variance = m2 / d.n
	d.deviation /= d.n
	if d.variance > 0 { // the manual sets both to 0 where all values are the same
		d.skewness = m3 / d.n / float64(d.variance*math.Sqrt(d.variance))
		d.kurtosis = m4/d.n/float64(d.variance*d.variance) - 3
	}
	p := percentiles(list, count, 10, 25, 50, 75, 90)
	d.p10, d.p25, d.median, d.p75, d.p90 = p[0], p[1], p[2], p[3], p[4]
	for _, l := range list {
		d.medianDeviation += float64(float64(l.n) * math.Abs(float64(l.x)-d.median))
	}
	d.medianDeviation /= d.n
	d.robust, d.middle = robustDeviation(list, d.p10, d.p90)
	return d
}

// robustDeviation is the sum of absolute deviations, from their own mean, of the
// n values from the 10th to the 90th percentile (IBSI 1128).
func robustDeviation(list []intensity, p10, p90 float64) (dev, n float64) {
	for len(list) > 0 && float64(list[0].x) < p10 {
		list = list[1:]
	}
	for len(list) > 0 && float64(list[len(list)-1].x) > p90 {
		list = list[:len(list)-1]
	}
	sum := 0.0
	for _, l := range list {
		sum += float64(float64(l.n) * float64(l.x))
		n += float64(l.n)
	}
	for _, l := range list {
		dev += float64(float64(l.n) * math.Abs(float64(l.x)-sum/n))
	}
	return dev, n
}

// percentiles of count values, in ascending order; linear between the two
// nearest ranks (Hyndman and Fan's type 7, as in most statistics programs); the
// manual leaves it open.
func percentiles(list []intensity, count int, percent ...float64) []float64 {
	var out []float64
	k, end := 0, int(list[0].n) // number k has the ranks below end
	for _, p := range percent {
		at := float64(p*float64(count-1)) / 100
		i := int(at)
		for i >= end {
			k++
			end += int(list[k].n)
		}
		x := float64(list[k].x)
		next := x
		if i+1 == end && k+1 < len(list) {
			next = float64(list[k+1].x)
		}
		out = append(out, x+float64((at-float64(i))*(next-x)))
	}
	return out
}

// An intensity is a value and how many voxels have it.
type intensity struct {
	x float32
	n uint32
}

// distribution is the intensities under the intensity mask, ascending.
func (roi *ROI) distribution() []intensity {
	if roi.ascending == nil {
		roi.ascending = distinct(roi)
	}
	return roi.ascending
}

// description describes the distribution; its n is 0 where there is none.
func (roi *ROI) description() description {
	if list := roi.distribution(); roi.described == nil && len(list) > 0 {
		d := describe(list)
		roi.described = &d
	}
	if roi.described == nil {
		return description{}
	}
	return *roi.described
}

// forget makes the distribution anew when it is needed, for another mask.
func (roi *ROI) forget() { roi.ascending, roi.described = nil, nil }

func distinct(roi *ROI) []intensity {
	nx := roi.Image.Size[0]
	x := make([]float32, 0, roi.Intensity.Count())
	for row := 0; row < len(roi.Intensity.Data); row += nx {
		mask, image := roi.Intensity.Data[row:][:nx], roi.Image.Data[row:][:nx]
		for first, end := run(mask, 0); first < end; first, end = run(mask, end) {
			x = append(x, image[first:end]...)
		}
	}
	if len(x) == 0 {
		return nil
	}
	if lowest, spread, whole := wholeNumbers(x); whole && spread < 1<<16 { // as CT numbers are
		return counted(x, lowest, spread)
	}
	return sorted(x)
}

func counted(x []float32, lowest, spread int64) []intensity {
	count := make([]uint32, spread+1)
	for _, v := range x {
		count[int64(v)-lowest]++
	}
	var list []intensity
	for k, n := range count {
		if n > 0 {
			list = append(list, intensity{float32(lowest + int64(k)), n})
		}
	}
	return list
}

// sorted sorts the bits of the values, which order as the values do once
// the sign is turned, by 11 at a time.
func sorted(x []float32) []intensity {
	const digit = 11
	keys, room := make([]uint32, len(x)), make([]uint32, len(x))
	var count [3][1 << digit]uint32
	for i, v := range x {
		b := math.Float32bits(v)
		if v == 0 { // also the negative one
			b = 0
		}
		b ^= uint32(int32(b)>>31) | 1<<31
		keys[i] = b
		for d := range count {
			count[d][b>>(digit*d)%(1<<digit)]++
		}
	}
	for d := range count {
		at := uint32(0)
		for k, n := range count[d] {
			count[d][k] = at
			at += n
		}
		for _, b := range keys {
			to := &count[d][b>>(digit*d)%(1<<digit)]
			room[*to] = b
			*to++
		}
		keys, room = room, keys
	}
	list := make([]intensity, 0, len(keys))
	for i, b := range keys {
		if i > 0 && b == keys[i-1] {
			list[len(list)-1].n++
			continue
		}
		list = append(list, intensity{math.Float32frombits(b ^ (uint32(int32(^b)>>31) | 1<<31)), 1})
	}
	return list
}
