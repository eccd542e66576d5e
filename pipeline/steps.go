package pipeline

import (
	"math"
	"slices"

	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/sr"
)

func private(value, meaning string) sr.Code {
	return sr.Code{Value: value, Scheme: sr.Private, Meaning: meaning}
}

// Names of steps, methods and numbers that neither DICOM nor the IBSI has codes for. A value never changes its meaning: reports
// in archives have it.
var (
	normalisation       = private("normalisation", "Normalisation of the image")
	normaliseRegion     = private("norm-region", "Reference region of the normalisation")
	percentileLow       = private("percentile-low", "Lower percentile")
	percentileHigh      = private("percentile-high", "Upper percentile")
	scale               = private("scale", "Scale")
	maskInterpolation   = private("mask-interp", "Interpolation of the region")
	roundToNearest      = private("round-nearest", "Nearest whole number, halves to even")
	lowerBound          = private("lower-bound", "Lowest intensity kept")
	upperBound          = private("upper-bound", "Highest intensity kept")
	outlierDistance     = private("outlier-distance", "Standard deviations from the mean that are kept")
	binWidth            = private("bin-width", "Bin width")
	binCount            = private("bin-count", "Number of bins")
	ivhDiscretisation   = private("ivh-bins", "Discretisation for the intensity-volume histogram")
	glcmDistance        = private("glcm-distance", "Distance of grey level co-occurrence")
	ngtdmDistance       = private("ngtdm-distance", "Reach of the NGTDM neighbourhood")
	ngldmDistance       = private("ngldm-distance", "Reach of the NGLDM neighbourhood")
	dependence          = private("ngldm-dependence", "Dependence of neighbouring grey levels")
	dependenceWithin    = private("ngldm-within", "Levels apart by no more than the coarseness")
	coarseness          = private("ngldm-coarseness", "Coarseness of dependence")
	weightNorm          = private("glcm-norm", "Norm of the distance weighting")
	imageFilter         = private("filter", "Image filter")
	voxelisation        = private("voxelisation", "Voxels of the region")
	normalisationMethod = map[string]sr.Code{
		"zscore": private("norm-zscore", "Mean to 0, standard deviation to the scale"),
		"range":  private("norm-range", "Percentiles to 0 and the scale"),
		"mean":   private("norm-mean", "Mean to the scale"),
	}
	interpolationMethod = map[string]sr.Code{
		"nearest": private("interp-nearest", "Nearest neighbour"),
		"linear":  private("interp-linear", "Linear"),
		"cubic":   private("interp-cubic", "Cubic spline"),
	}
	weightingMethod = map[string]sr.Code{
		"inverse":     private("weight-inverse", "Inverse of the distance"),
		"exponential": private("weight-exp", "Exponential of minus the squared distance"),
	}
	distanceNorm = map[string]sr.Code{
		"chebyshev": sr.Processing("PVMT"), "euclidean": sr.Processing("G9EV"), "manhattan": sr.Processing("LIFZ"),
	}

	// Spacings of the interpolated image along columns, rows and slices, as PS3.16 calls them in an image library.
	spacings = [3]sr.Code{
		{Value: "111026", Scheme: "DCM", Meaning: "Horizontal Pixel Spacing"},
		{Value: "111066", Scheme: "DCM", Meaning: "Vertical Pixel Spacing"},
		{Value: "112226", Scheme: "DCM", Meaning: "Spacing between slices"},
	}
)

// steps says what shaped the values of a measurement group, in the order of the chain (IBSI manual chapter 2); a step that was
// not taken is not there. a is the aggregation of its texture features, "" where it has none; unit is that of the intensities
// that were measured; rule is how the region became voxels ([roi.Describe]); present are the families of its values.
func steps(p features.Profile, a features.Aggregation, unit, rule string, present ...features.Family) []sr.Step {
	has := func(f ...features.Family) bool {
		return slices.ContainsFunc(f, func(f features.Family) bool { return slices.Contains(present, f) })
	}
	texture := has(features.GLCM, features.GLRLM, features.GLSZM, features.GLDZM, features.NGTDM, features.NGLDM)
	s := slices.Concat(normalise(p.Normalise), interpolate(p.Resample), resegment(p.Resegment, unit))
	if has(features.Histogram) || texture {
		s = append(s, discretise(sr.Processing("4R0B"), p.Discretise, unit)...)
	}
	if has(features.VolumeHistogram) {
		s = append(s, discretise(ivhDiscretisation, p.IVH, unit)...)
	}
	if code, _ := a.Describe(); code != "" && texture {
		s = append(s, sr.Step{Name: sr.Processing("5QB6"), Method: sr.Processing(code)})
	}
	s = append(s, matrices(p.Texture.Filled(), a, has)...)
	// What has no code comes last: TID 1411 row 17 is after row 16.
	for _, f := range p.Filters {
		s = append(s, sr.Step{Name: imageFilter, Text: f})
	}
	if p.Normalise.Used() && p.Normalise.Region != "" {
		s = append(s, sr.Step{Name: normaliseRegion, Text: "The region that is named " + p.Normalise.Region})
	}
	if rule != "" {
		s = append(s, sr.Step{Name: voxelisation, Text: rule})
	}
	return s
}

func plain(name sr.Code, v float64) sr.Parameter {
	return sr.Parameter{Concept: name, Value: v, Unit: sr.Unit("1")}
}

// normalise is what is done with the whole image before the chain.
func normalise(n features.Normalise) []sr.Step {
	if !n.Used() {
		return nil
	}
	n = n.Filled()
	s := sr.Step{Name: normalisation, Method: normalisationMethod[n.Method], Numbers: []sr.Parameter{plain(scale, n.Scale)}}
	if n.Method == "range" {
		for _, q := range []sr.Parameter{plain(percentileLow, n.Low), plain(percentileHigh, n.High)} {
			q.Unit = sr.Unit("%")
			s.Numbers = append(s.Numbers, q)
		}
	}
	return []sr.Step{s}
}

// interpolate is interpolation of image and region to one grid, IBSI VTM2, and rounding, 68QD.
func interpolate(r features.Resample) (s []sr.Step) {
	var size []sr.Parameter
	for i, v := range r.Spacing {
		if v > 0 { // 0 keeps an axis
			size = append(size, sr.Parameter{Concept: spacings[i], Value: v, Unit: sr.Unit("mm")})
		}
	}
	if len(size) > 0 {
		s = append(s,
			sr.Step{Name: sr.Processing("VTM2"), Method: interpolationMethod[r.Image], Numbers: size},
			sr.Step{Name: maskInterpolation, Method: interpolationMethod[r.Mask], Numbers: []sr.Parameter{plain(sr.Processing("E8H9"), r.MaskThreshold)}},
			sr.Step{Name: sr.Processing("UMPJ"), Method: sr.Processing("3WE3")})
	}
	if r.Round {
		s = append(s, sr.Step{Name: sr.Processing("68QD"), Method: roundToNearest})
	}
	return s
}

// resegment is re-segmentation, IBSI IF9H; a voxel must pass both.
func resegment(r features.Resegment, unit string) (s []sr.Step) {
	var bounds []sr.Parameter
	for i, v := range r.Range {
		if !math.IsInf(v, 0) { // open on that side
			bounds = append(bounds, sr.Parameter{Concept: [2]sr.Code{lowerBound, upperBound}[i], Value: v, Unit: sr.Unit(unit)})
		}
	}
	if len(bounds) > 0 {
		s = append(s, sr.Step{Name: sr.Processing("IF9H"), Method: sr.Processing("USB3"), Numbers: bounds})
	}
	if r.Outliers > 0 {
		s = append(s, sr.Step{Name: sr.Processing("IF9H"), Method: sr.Processing("7ACA"), Numbers: []sr.Parameter{plain(outlierDistance, r.Outliers)}})
	}
	return s
}

func discretise(name sr.Code, d features.Discretise, unit string) []sr.Step {
	switch d.Method {
	case "fbs":
		// The first bin begins where re-segmentation does, else at the lowest intensity: that is part of the definition.
		width := sr.Parameter{Concept: binWidth, Value: d.Width, Unit: sr.Unit(unit)}
		return []sr.Step{{Name: name, Method: sr.Processing("Q3RU"), Numbers: []sr.Parameter{width}}}
	case "fbn":
		return []sr.Step{{Name: name, Method: sr.Processing("K15C"), Numbers: []sr.Parameter{plain(binCount, float64(d.Bins))}}}
	}
	return nil
}

// matrices are the parameters of the texture matrices that are there.
func matrices(t features.Texture, a features.Aggregation, has func(...features.Family) bool) (s []sr.Step) {
	var distances []sr.Parameter
	for _, d := range []struct {
		family   features.Family
		name     sr.Code
		distance int
	}{
		{features.GLCM, glcmDistance, t.GLCMDistance},
		{features.NGTDM, ngtdmDistance, t.NGTDMDistance},
		{features.NGLDM, ngldmDistance, t.NGLDMDistance},
	} {
		if has(d.family) {
			distances = append(distances, plain(d.name, float64(d.distance)))
		}
	}
	if len(distances) > 0 {
		s = append(s, sr.Step{Name: sr.Processing("MPUJ"), Method: sr.Processing("PVMT"), Numbers: distances})
	}
	// A matrix of one direction is the same with any weight.
	merged := a == features.Agg2DComb || a == features.Agg25DComb || a == features.Agg3DComb
	if has(features.GLCM) && merged && t.GLCMWeighting != "none" {
		s = append(s,
			sr.Step{Name: sr.Processing("6CK8"), Method: weightingMethod[t.GLCMWeighting]},
			sr.Step{Name: weightNorm, Method: distanceNorm[t.GLCMNorm]})
	}
	if has(features.NGLDM) {
		s = append(s, sr.Step{Name: dependence, Method: dependenceWithin, Numbers: []sr.Parameter{plain(coarseness, float64(t.NGLDMCoarseness))}})
	}
	return s
}
