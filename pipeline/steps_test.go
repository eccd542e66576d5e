package pipeline

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/sr"
)

// told is the steps as lines, "Name = Method (Number 1 unit)".
func told(steps []sr.Step) (lines []string) {
	for _, s := range steps {
		line := fmt.Sprintf("%s = %s%s", s.Name.Meaning, s.Method.Meaning, s.Text)
		for _, n := range s.Numbers {
			line += fmt.Sprintf(" (%s %g %s)", n.Concept.Meaning, n.Value, n.Unit.Value)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestSteps(t *testing.T) {
	for _, c := range []struct {
		name    string
		profile features.Profile
		a       features.Aggregation
		unit    string
		rule    string
		present []features.Family
		want    []string
	}{
		{"all of CT", features.DefaultProfile("CT"), features.Agg3DComb, "HU", "By centre.", features.DefaultProfile("CT").Families, []string{
			"Image interpolation = Linear (Horizontal Pixel Spacing 1 mm) (Vertical Pixel Spacing 1 mm) (Spacing between slices 1 mm)",
			"Interpolation of the region = Linear (ROI partial volume 0.5 1)",
			"Interpolation grid = Align grid centres",
			"Intensity rounding = Nearest whole number, halves to even",
			"Re-segmentation = Range re-segmentation (Lowest intensity kept -1000 [hnsf'U]) (Highest intensity kept 400 [hnsf'U])",
			"Re-segmentation = Intensity outlier filtering (Standard deviations from the mean that are kept 3 1)",
			"Intensity discretisation = Fixed bin size (Bin width 25 [hnsf'U])",
			"Feature aggregation = 3D, directions merged",
			"Grid distance = Chebyshev distance (Distance of grey level co-occurrence 1 1) (Reach of the NGTDM neighbourhood 1 1) (Reach of the NGLDM neighbourhood 1 1)",
			"Dependence of neighbouring grey levels = Levels apart by no more than the coarseness (Coarseness of dependence 0 1)",
			"Voxels of the region = By centre.",
		}},
		{"the volume histogram of PET alone", features.DefaultProfile("PT"), "", "g/ml{SUVbw}", "", []features.Family{features.VolumeHistogram}, []string{
			"Image interpolation = Linear (Horizontal Pixel Spacing 1 mm) (Vertical Pixel Spacing 1 mm) (Spacing between slices 1 mm)",
			"Interpolation of the region = Linear (ROI partial volume 0.5 1)",
			"Interpolation grid = Align grid centres",
			"Re-segmentation = Range re-segmentation (Lowest intensity kept 0 g/ml{SUVbw})",
			"Discretisation for the intensity-volume histogram = Fixed bin size (Bin width 0.1 g/ml{SUVbw})",
		}},
		{"nothing", features.Profile{}, features.Agg2D, "1", "", []features.Family{features.GLRLM}, []string{"Feature aggregation = 2D, averaged over slices"}},
		{"everything", features.Profile{
			Normalise: features.Normalise{Method: "range", Region: "muscle", Scale: 100},
			Resample:  features.Resample{Spacing: []float64{2, 2, 0}, Image: "cubic", Mask: "nearest", MaskThreshold: 0.5},
			Resegment: features.Resegment{Range: []float64{math.Inf(-1), 3}}, Discretise: features.Discretise{Method: "fbn", Bins: 64},
			Texture: features.Texture{GLCMDistance: 2, GLCMWeighting: "exponential", GLCMNorm: "manhattan", NGLDMCoarseness: 1},
		}, features.Agg25DComb, "1", "", []features.Family{features.GLCM, features.NGLDM}, []string{
			"Normalisation of the image = Percentiles to 0 and the scale (Scale 100 1) (Lower percentile 1 %) (Upper percentile 99 %)",
			"Image interpolation = Cubic spline (Horizontal Pixel Spacing 2 mm) (Vertical Pixel Spacing 2 mm)",
			"Interpolation of the region = Nearest neighbour (ROI partial volume 0.5 1)",
			"Interpolation grid = Align grid centres",
			"Re-segmentation = Range re-segmentation (Highest intensity kept 3 1)",
			"Intensity discretisation = Fixed bin number (Number of bins 64 1)",
			"Feature aggregation = 2.5D, slices and directions merged",
			"Grid distance = Chebyshev distance (Distance of grey level co-occurrence 2 1) (Reach of the NGLDM neighbourhood 1 1)",
			"Distance weighting = Exponential of minus the squared distance",
			"Norm of the distance weighting = Manhattan distance",
			"Dependence of neighbouring grey levels = Levels apart by no more than the coarseness (Coarseness of dependence 1 1)",
			"Reference region of the normalisation = The region that is named muscle",
		}},
		{"weights of one direction", features.Profile{Texture: features.Texture{GLCMWeighting: "inverse"}}, features.Agg3DAvg, "1", "", []features.Family{features.GLCM}, []string{
			"Feature aggregation = 3D, averaged over directions",
			"Grid distance = Chebyshev distance (Distance of grey level co-occurrence 1 1)",
		}},
	} {
		if diff := cmp.Diff(c.want, told(steps(c.profile, c.a, c.unit, c.rule, c.present...))); diff != "" {
			t.Errorf("%s, want - got +:\n%s", c.name, diff)
		}
	}
}

// Two profiles that compute other numbers (their hashes differ) say so in the steps, but for what is said elsewhere.
func TestStepsTellProfilesApart(t *testing.T) {
	elsewhere := []string{"Voxels", "SUV", "Families", "Features", "Aggregate"} // the rule, the unit, the group
	seen := map[string]bool{}
	base := features.DefaultProfile("CT")
	base.Texture.GLCMWeighting = "inverse"
	base.Normalise = features.Normalise{Method: "range"}
	with := func(change func(*features.Profile)) []string {
		p := base
		p.Resample.Spacing = slices.Clone(p.Resample.Spacing)
		p.Resegment.Range = slices.Clone(p.Resegment.Range)
		change(&p)
		if p.Hash() == base.Hash() {
			t.Errorf("%+v has the hash of the base", p)
		}
		return told(steps(p, features.Agg3DComb, "HU", "", base.Families...))
	}
	before := told(steps(base, features.Agg3DComb, "HU", "", base.Families...))
	for field, changes := range map[string][]func(*features.Profile){
		"Normalise": {
			func(p *features.Profile) { p.Normalise.Method = "zscore" },
			func(p *features.Profile) { p.Normalise.Region = "x" },
			func(p *features.Profile) { p.Normalise.Low = 2 },
			func(p *features.Profile) { p.Normalise.High = 90 },
			func(p *features.Profile) { p.Normalise.Scale = 2 },
		},
		"Resample": {
			func(p *features.Profile) { p.Resample.Spacing[1] = 2 },
			func(p *features.Profile) { p.Resample.Image = "cubic" },
			func(p *features.Profile) { p.Resample.Mask = "nearest" },
			func(p *features.Profile) { p.Resample.MaskThreshold = 0.6 },
			func(p *features.Profile) { p.Resample.Round = false },
		},
		"Resegment": {
			func(p *features.Profile) { p.Resegment.Range[0] = -900 },
			func(p *features.Profile) { p.Resegment.Range[1] = 300 },
			func(p *features.Profile) { p.Resegment.Outliers = 2 },
		},
		"Discretise": {func(p *features.Profile) { p.Discretise.Width = 24 }, func(p *features.Profile) { p.Discretise = features.Discretise{Method: "fbn", Bins: 8} }},
		"IVH":        {func(p *features.Profile) { p.IVH = features.IVH{Method: "fbs", Width: 1} }},
		"Texture": {
			func(p *features.Profile) { p.Texture.GLCMDistance = 2 },
			func(p *features.Profile) { p.Texture.GLCMWeighting = "exponential" },
			func(p *features.Profile) { p.Texture.GLCMNorm = "chebyshev" },
			func(p *features.Profile) { p.Texture.NGTDMDistance = 2 },
			func(p *features.Profile) { p.Texture.NGLDMDistance = 2 },
			func(p *features.Profile) { p.Texture.NGLDMCoarseness = 1 },
		},
		"Filters": {func(p *features.Profile) { p.Filters = []string{"log"} }},
	} {
		seen[field] = true
		for i, change := range changes {
			if cmp.Equal(before, with(change)) {
				t.Errorf("change %d of %s is not in the steps", i, field)
			}
		}
	}
	typ := reflect.TypeFor[features.Profile]()
	for i := range typ.NumField() {
		if f := typ.Field(i).Name; !seen[f] && !slices.Contains(elsewhere, f) && f != "Name" {
			t.Errorf("nothing here changes Profile.%s", f)
		}
	}
}

// The aggregations have one wording.
func TestAggregationsAreCoded(t *testing.T) {
	for _, a := range []features.Aggregation{features.Agg2D, features.Agg25D, features.Agg3D, features.Agg2DAvg, features.Agg2DComb,
		features.Agg25DAvg, features.Agg25DComb, features.Agg3DAvg, features.Agg3DComb} {
		if code, words := a.Describe(); sr.Processing(code).Meaning != words {
			t.Errorf("%s is %q, in the report %q", code, words, sr.Processing(code).Meaning)
		}
	}
}

// Private codes stay in Code Value, which is SH; other readers do not look into Long Code Value.
func TestPrivateCodesFit(t *testing.T) {
	meanings := map[string]string{}
	check := func(c sr.Code) {
		if c.Value == "" || utf8.RuneCountInString(c.Value) > 16 || c.Meaning == "" || len(c.Meaning) > 64 || strings.TrimSpace(c.Meaning) != c.Meaning {
			t.Errorf("%v does not fit", c)
		}
		if old, ok := meanings[c.Scheme+c.Value]; ok && old != c.Meaning {
			t.Errorf("%v means %q too", c, old)
		}
		meanings[c.Scheme+c.Value] = c.Meaning
	}
	base := features.DefaultProfile("PT")
	base.Texture.GLCMWeighting = "inverse"
	for _, image := range []string{"nearest", "linear", "cubic"} {
		for _, method := range []string{"zscore", "range", "mean"} {
			for _, weight := range []string{"inverse", "exponential"} {
				p := base
				p.Resample.Image, p.Normalise, p.Texture.GLCMWeighting = image, features.Normalise{Method: method, Region: "x"}, weight
				p.Voxels = voxel.Rule{}
				p.Resegment.Outliers = 3
				for _, s := range steps(p, features.Agg3DComb, "g/ml{SUVbw}", "rule", p.Families...) {
					check(s.Name)
					if s.Text == "" {
						check(s.Method)
					}
					for _, n := range s.Numbers {
						check(n.Concept)
						check(n.Unit)
					}
				}
			}
		}
	}
	if len(meanings) < 39 {
		t.Errorf("%d codes looked at, want 40 and more", len(meanings))
	}
}
