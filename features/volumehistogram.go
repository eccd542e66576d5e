package features

import (
	"math"
	"slices"
)

// volumeHistogramTable is the manual's section 3.5. The IBSI found no agreement
// on the area under the curve.
var volumeHistogramTable = []Feature{
	{Tag: "ivh_v10", Code: "BC2M", Name: "Volume at intensity fraction (10%)", Unit: UnitNone, Section: "3.5.1", Standardised: true},
	{Tag: "ivh_v90", Code: "BC2M", Name: "Volume at intensity fraction (90%)", Unit: UnitNone, Section: "3.5.1", Standardised: true},
	{Tag: "ivh_i10", Code: "GBPN", Name: "Intensity at volume fraction (10%)", Unit: UnitIntensity, Section: "3.5.2", Standardised: true},
	{Tag: "ivh_i90", Code: "GBPN", Name: "Intensity at volume fraction (90%)", Unit: UnitIntensity, Section: "3.5.2", Standardised: true},
	{Tag: "ivh_diff_v10_v90", Code: "DDTU", Name: "Volume fraction difference between intensity fractions", Unit: UnitNone, Section: "3.5.3", Standardised: true},
	{Tag: "ivh_diff_i10_i90", Code: "CNV2", Name: "Intensity fraction difference between volume fractions", Unit: UnitIntensity, Section: "3.5.4", Standardised: true},
	{Tag: "ivh_auc", Code: "9CMM", Name: "Area under the IVH curve", Unit: UnitNone, Section: "3.5.5"},
}

// A volumeCurve is an intensity-volume histogram (IBSI P88C). Its intensities
// are steps 0, 1, … of the range G, which ends at step last; last need not be
// whole, since G may end inside a bin.
type volumeCurve struct {
	list        []intensity
	n           int                     // voxels
	at          func(x float64) float64 // step of an intensity; below 0 and above last outside G
	last        float64
	first, step float64  // the intensity of step 0, and what a step adds
	unit        UnitRule // of an intensity
}

// volumeHistogram computes section 3.5 over the intensity mask.
func volumeHistogram(roi *ROI, v *values) {
	c, reason := newVolumeCurve(roi)
	if reason != "" {
		v.allMissing(reason)
		return
	}
	const tenth, most = 0.1, 0.9
	i10, i90 := c.intensityAt(tenth), c.intensityAt(most)
	if c.last <= 0 {
		v.missing("the range of intensities holds a single one, so it has no fractions", "ivh_v10", "ivh_v90")
	} else {
		v.add("ivh_v10", c.volumeAt(tenth))
		v.add("ivh_v90", c.volumeAt(most))
	}
	from := len(v.list)
	v.add("ivh_i10", i10)
	v.add("ivh_i90", i90)
	if c.last <= 0 {
		v.missing("the range of intensities holds a single one, so it has no fractions", "ivh_diff_v10_v90")
	} else {
		v.add("ivh_diff_v10_v90", c.volumeAt(tenth)-c.volumeAt(most))
	}
	v.add("ivh_diff_i10_i90", i10-i90)
	v.add("ivh_auc", c.area())
	for i := from; i < len(v.list); i++ {
		if v.list[i].Unit == UnitIntensity {
			v.list[i].Unit = c.unit
		}
	}
}

// newVolumeCurve discretises as the manual's section 3.5 says for images that
// are calibrated and discrete (no discretisation), calibrated and continuous
// (fixed bin size, intensities are bin centres) or arbitrary (fixed bin number,
// intensities are bin numbers).
func newVolumeCurve(roi *ROI) (volumeCurve, string) {
	list := roi.distribution()
	if len(list) == 0 {
		return volumeCurve{}, reasonNoIntensity
	}
	lowest, highest := float64(list[0].x), float64(list[len(list)-1].x)
	lo, hi := lowest, highest
	if r := roi.profile.Resegment.Range; len(r) == 2 {
		if !math.IsInf(r[0], 0) {
			lo = r[0]
		}
		if !math.IsInf(r[1], 0) {
			hi = r[1]
		}
	}
	d := roi.profile.IVH
	c := volumeCurve{list: list, unit: UnitIntensity}
	for _, l := range list {
		c.n += int(l.n)
	}
	switch d.canonical()[0] {
	case "none":
		if slices.ContainsFunc(list, fraction) {
			return c, "without discretisation the intensities must be whole numbers: the profile's ivh says none"
		}
		lo, hi = math.Ceil(lo), math.Floor(hi)
		c.last, c.first, c.step = hi-lo, lo, 1
		c.at = func(v float64) float64 { return v - lo }
	case "fbs":
		c.last, c.first, c.step = (hi-lo)/d.Width-1, lo+float64(d.Width/2), d.Width
	case "fbn":
		c.last, c.first, c.step, c.unit = float64(d.Bins-1), 1, 1, UnitNone
	}
	if c.at == nil {
		b := d.bins(lowest, highest, roi.profile.Resegment.Range)
		c.at = func(v float64) float64 { return b.of(v) - 1 }
	}
	return c, ""
}

// slack is for rounding errors of fractions of whole numbers.
const slack = 1e-9

// reaching is how many voxels have at least a step.
func (c volumeCurve) reaching(step float64) int {
	n := 0
	for k := len(c.list) - 1; k >= 0 && c.at(float64(c.list[k].x)) >= step; k-- {
		n += int(c.list[k].n)
	}
	return n
}

// volumeAt is the largest volume fraction whose intensity fraction is at least
// g (IBSI BC2M): that of the first step from g·last on.
func (c volumeCurve) volumeAt(g float64) float64 {
	return float64(c.reaching(math.Ceil(float64(g*c.last)-slack))) / float64(c.n)
}

// intensityAt is the lowest intensity that at most the volume fraction f has or
// exceeds (IBSI GBPN). Where every step of the range has more, it is the next
// step, which no voxel has.
func (c volumeCurve) intensityAt(f float64) float64 {
	may := int(math.Floor(float64(f*float64(c.n)) + slack)) // voxels that may have it
	k := len(c.list) - 1
	for ; may >= int(c.list[k].n); k-- {
		may -= int(c.list[k].n)
	}
	step := max(c.at(float64(c.list[k].x))+1, 0)
	return c.first + float64(step*c.step)
}

// area is by the trapezoidal rule over the steps of the range (IBSI 9CMM); 0
// for a single intensity, as the manual says.
func (c volumeCurve) area() float64 {
	whole := math.Floor(c.last + slack)
	lowest, highest := float64(c.list[0].x), float64(c.list[len(c.list)-1].x)
	if whole <= 0 || c.at(lowest) == c.at(highest) {
		return 0
	}
	// A voxel counts at each step up to its own.
	sum := 0.0
	for _, l := range c.list {
		sum += float64(float64(l.n) * max(0, min(c.at(float64(l.x)), whole)+1))
	}
	ends := float64(float64(c.reaching(0)+c.reaching(whole)) / 2)
	return (sum - ends) / float64(c.n) / c.last
}
