package pipeline

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/pipeline/words"
)

// A measurement is one that a radiologist knows: it leads the group of its region, and is in the key report.
type measurement struct {
	tag string // of the feature, or one of those below
	sr.Measurement
}

// What is no feature of the manual and made from several.
const (
	deviation  = "sd"
	metabolic  = "mtv"
	glycolysis = "tlg"
)

// The measurements that a radiologist looks for, at most a dozen, in their order.
var (
	keys = []string{"morph_volume", "morph_diam", "morph_pca_maj_axis", "morph_pca_min_axis", "morph_pca_least_axis",
		"stat_mean", deviation, "stat_median", "stat_min", "stat_max", "morph_sphericity", "ih_entropy"}
	keysPT = []string{"morph_volume", "morph_diam", "morph_pca_maj_axis", "morph_pca_min_axis",
		"stat_mean", deviation, "stat_median", "stat_max", "loc_peak_glob", metabolic, glycolysis, "morph_sphericity"}
	// uptakes are what PET readers call them, where the values are SUV.
	uptakes = map[string]string{"stat_mean": "SUV mean", "stat_median": "SUV median", "stat_max": "SUV maximum", "loc_peak_glob": "SUV peak"}
)

// plainNames are what the pages call the known measurements, in the reader's language; their appendix has the meanings of the
// codes. An axis is not the long axis of RECIST: it is that of the ellipsoid with the region's moments.
var plainNames = map[string]string{
	"morph_volume": "Volume", "morph_diam": "Largest diameter", "morph_pca_maj_axis": "Major axis (ellipsoid)",
	"morph_pca_min_axis": "Minor axis (ellipsoid)", "morph_pca_least_axis": "Least axis (ellipsoid)",
	"stat_mean": "Mean intensity", deviation: "Standard deviation", "stat_median": "Median intensity", "stat_min": "Minimum intensity",
	"stat_max": "Maximum intensity", "loc_peak_glob": "Peak intensity", "morph_sphericity": "Sphericity",
	"ih_entropy": "Entropy of the histogram", metabolic: "Metabolic tumour volume", glycolysis: "Total lesion glycolysis",
}

// plainName is the measurement's name on the pages.
func (m measurement) plainName(l words.Language) string {
	return l.Text(cmp.Or(m.Display, plainNames[m.tag], m.Concept.Meaning))
}

func keysOf(modality string) []string {
	if modality == "PT" {
		return keysPT
	}
	return keys
}

// known are the measurements of a region that lead its group, without those that do not exist for it.
func (w *writing) known(x MeasuredRegion) (list []measurement, err error) {
	value := func(tag string) (v features.Value, ok bool) {
		i := slices.IndexFunc(x.Result.Values, func(v features.Value) bool { return v.Tag == tag && v.Reason == "" })
		if i < 0 {
			return v, false
		}
		return x.Result.Values[i], true
	}
	suv := strings.Contains(x.Image.Unit, "{SUV")
	for _, tag := range keysOf(w.m.Volume.Modality) {
		m := measurement{tag: tag}
		switch tag {
		case deviation:
			v, ok := value("stat_var") // of the population, as the manual has it (ECT3)
			if !ok {
				continue
			}
			m.Measurement = sr.Measurement{Concept: sr.StandardDeviation, Value: math.Sqrt(v.Value), Unit: sr.Unit(x.Image.Unit)}
		case metabolic, glycolysis:
			// The volume of a lesion that was drawn on the PET is its metabolic one; that of an organ, or of a contour from
			// another series, is not.
			v, ok := value("morph_vol_approx")
			if !ok || !lesion(x.Region) || x.Region.OtherSeries {
				continue
			}
			ml := v.Value / 1000
			m.Measurement = sr.Measurement{Concept: sr.MetabolicVolume, Value: ml, Unit: sr.Unit("cm3")}
			if tag == metabolic {
				break
			}
			// Glycolysis is what FDG shows, and grams are what g/ml times ml gives.
			mean, ok := value("stat_mean")
			if !ok || !suv || !strings.HasPrefix(x.Image.Unit, "g/ml") || !glucose(w.m.Volume.Header) {
				continue
			}
			m.Measurement = sr.Measurement{Concept: sr.TotalLesionGlycolysis, Value: float64(mean.Value * ml), Unit: sr.Unit("g")}
		default:
			v, ok := value(tag)
			if !ok {
				continue
			}
			if m.Measurement, err = coded(v, x.Image.Unit); err != nil {
				return nil, err
			}
			if suv {
				m.Display = uptakes[tag]
			}
		}
		list = append(list, m)
	}
	return list, nil
}

// lesion says whether a region may be one: it is not said to be an organ or an aid of treatment.
func lesion(r roi.Region) bool {
	const anatomicalStructure = "123037004" // SCT, PS3.16 CID 7150
	switch r.InterpretedType {
	case "", "GTV", "CTV", "PTV", "ITV", "TREATED_VOLUME", "IRRAD_VOLUME":
		return r.Category.Value != anatomicalStructure
	}
	return false
}

// glucose says whether the radiopharmaceutical is fluorodeoxyglucose, PS3.3 C.8.9.2 and PS3.16 CID 4021.
func glucose(image *dicom.DataSet) bool {
	for _, d := range image.Seq(dicom.RadiopharmaceuticalInformationSequence) {
		name := strings.ToLower(d.String(dicom.Radiopharmaceutical))
		if strings.Contains(name, "fdg") || strings.Contains(name, "deoxyglucose") || strings.Contains(name, "desoxyglucose") {
			return true
		}
		for _, c := range d.Seq(dicom.RadiopharmaceuticalCodeSequence) {
			switch c.String(dicom.CodeValue) {
			case "35321007", "C-B1031": // SCT, SRT: Fluorodeoxyglucose F^18^
				return true
			}
		}
	}
	return false
}

// inCM3 gives volumes in the unit that radiologists think in.
func inCM3(known []measurement) []measurement {
	known = slices.Clone(known)
	for i := range known {
		if m := &known[i]; m.Unit.Value == "mm3" {
			m.Value, m.Unit = m.Value/1000, sr.Unit("cm3")
		}
	}
	return known
}

// keyValues are the values that the key report has, or says why not.
func keyValues(values []features.Value, modality string) (out []features.Value) {
	for _, v := range values {
		if slices.Contains(keysOf(modality), v.Tag) {
			out = append(out, v)
		}
	}
	return out
}

// measurements puts the known ones first, and turns the rest of the values into measurements with codes and units.
func measurements(l words.Language, known []measurement, values []features.Value, unit string) (out []sr.Measurement, err error) {
	for _, m := range known {
		if m.Display != "" {
			m.Display = l.Text(m.Display)
		}
		out = append(out, m.Measurement)
	}
	for _, v := range values {
		if v.Reason != "" || slices.ContainsFunc(known, func(m measurement) bool { return m.tag == v.Tag }) {
			continue
		}
		m, err := coded(v, unit)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// coded is a value with its codes; unit is that of the intensities.
func coded(v features.Value, unit string) (sr.Measurement, error) {
	f, concept, err := named(v)
	if err != nil {
		return sr.Measurement{}, err
	}
	u, _ := sr.UnitFor(f.Code, unit)
	if v.Unit == features.UnitNone {
		u = sr.Unit("1")
	}
	return sr.Measurement{Concept: concept, Value: v.Value, Unit: u}, nil
}

// named finds the feature and the coded concept of a value.
func named(v features.Value) (features.Feature, sr.Code, error) {
	f, _, ok := features.Lookup(v.Tag)
	if !ok {
		return f, sr.Code{}, fmt.Errorf("%s is not in the table of features", v.Tag)
	}
	concept, ok := sr.Concept(f.Code)
	if !ok {
		return f, sr.Code{}, fmt.Errorf("%s: IBSI code %s has no coded concept", v.Tag, f.Code)
	}
	return f, concept, nil
}

// voxels follows the region through the chain: the segmentation holds the voxels it begins with.
func voxels(l words.Language, r features.Result) string {
	return l.Sprintf("Voxels: %d in the segmentation, %d of %.4g x %.4g x %.4g mm after interpolation (morphology), %d after re-segmentation (intensities)",
		r.VoxelsInitial, r.VoxelsInterpolated, r.Geometry.Spacing[0], r.Geometry.Spacing[1], r.Geometry.Spacing[2], r.VoxelsIntensity)
}

// notComputable names the values that do not exist, those with the same reason together.
func notComputable(l words.Language, values []features.Value) (lines []string) {
	var reasons []string
	by := map[string][]string{}
	for _, v := range values {
		if v.Reason == "" {
			continue
		}
		name := v.Tag
		if _, concept, err := named(v); err == nil {
			name = concept.Meaning
		}
		if by[v.Reason] == nil {
			reasons = append(reasons, v.Reason)
		}
		by[v.Reason] = append(by[v.Reason], name)
	}
	for _, reason := range reasons {
		lines = append(lines, l.Sprintf("Not computable (%s): %s", l.Text(reason), strings.Join(by[reason], ", ")))
	}
	return lines
}

// summary is what a radiologist reads first of a region, in plain words: its size and its intensities, each where it has them,
// and how many values there are.
func summary(l words.Language, x MeasuredRegion, known []measurement) (lines []string, count string) {
	find := func(tag string) (v float64, ok bool) {
		i := slices.IndexFunc(known, func(m measurement) bool { return m.tag == tag })
		if i < 0 {
			return 0, false
		}
		return known[i].Value, true
	}
	var size, intensity []string // whose numbers the language writes: the text has a %n for them
	if v, ok := find("morph_volume"); ok {
		size = append(size, l.Sprintf("volume %s cm3", rounded(words.English, v/1000)))
	}
	if v, ok := find("morph_diam"); ok {
		size = append(size, l.Sprintf("largest diameter %s mm", rounded(words.English, v)))
	}
	unit := plainUnit(x.Image.Unit)
	if mean, ok := find("stat_mean"); ok {
		if sd, ok := find(deviation); ok {
			intensity = append(intensity, strings.ReplaceAll(l.Sprintf("mean %s %s (SD %s)", rounded(words.English, mean), unit, rounded(words.English, sd)), "  ", " ")) // without a unit
		} else {
			intensity = append(intensity, strings.TrimSpace(l.Sprintf("mean %s %s", rounded(words.English, mean), unit)))
		}
	}
	uptake := strings.Contains(x.Image.Unit, "{SUV")
	if v, ok := find("stat_max"); ok && uptake {
		intensity = append(intensity, l.Sprintf("SUV maximum %s", rounded(words.English, v)))
	}
	if v, ok := find("loc_peak_glob"); ok && uptake {
		intensity = append(intensity, l.Sprintf("SUV peak %s", rounded(words.English, v)))
	}
	if v, ok := find(metabolic); ok {
		intensity = append(intensity, l.Sprintf("metabolic tumour volume %s cm3", rounded(words.English, v)))
	}
	if v, ok := find(glycolysis); ok {
		intensity = append(intensity, l.Sprintf("total lesion glycolysis %s g", rounded(words.English, v)))
	}
	lacking := 0
	for _, v := range x.Result.Values {
		if v.Reason != "" {
			lacking++
		}
	}
	count = l.Sprintf("%d values by profile %s", len(x.Result.Values)-lacking, x.Profile.Name)
	if lacking > 0 {
		count = l.Sprintf("%d values by profile %s, %d not computable", len(x.Result.Values)-lacking, x.Profile.Name, lacking)
	}
	for _, parts := range [][]string{size, intensity} {
		if len(parts) > 0 {
			lines = append(lines, strings.Join(parts, ", "))
		}
	}
	return lines, count
}

// Summaries are the summary of all regions: two lines for each, then how many values there are, regions with the same count
// together, since viewers show about twenty lines before one has to scroll.
type summaries struct {
	regions []string
	counts  []string
	of      map[string][]string // the names of the regions by their count
}

func (s *summaries) add(r roi.Region, lines []string, count string) {
	name := r.TrackingID
	if what := whatAndWhere(r); what != "" {
		name += " (" + what + ")"
	}
	for _, line := range lines {
		s.regions = append(s.regions, name+": "+line)
		name = r.TrackingID // once is enough
	}
	if s.of[count] == nil {
		s.counts = append(s.counts, count)
	}
	if s.of == nil {
		s.of = map[string][]string{}
	}
	s.of[count] = append(s.of[count], r.TrackingID)
}

// counted are the lines with the counts.
func (s *summaries) counted() (lines []string) {
	for _, c := range s.counts {
		lines = append(lines, strings.Join(s.of[c], ", ")+": "+c)
	}
	return lines
}

// whatAndWhere are the finding, site and side of a region as their codes mean them.
func whatAndWhere(r roi.Region) string {
	_, kind := codes(r)
	var parts []string
	for _, meaning := range []string{kind.Meaning, r.Site.Meaning, r.Laterality.Meaning} {
		if meaning != "" && !slices.Contains(parts, meaning) {
			parts = append(parts, meaning)
		}
	}
	return strings.Join(parts, ", ")
}

// plainUnit is a UCUM unit as a radiologist writes it.
func plainUnit(unit string) string {
	if unit == "1" {
		return ""
	}
	unit = strings.NewReplacer("[hnsf'U]", "HU", "[arb'U]", "a.u.", "g/ml{SUV", "{SUV", "cm2/ml{SUV", "{SUV").Replace(unit)
	for _, square := range []string{"g2/ml2{", "cm4/ml2{"} { // of a SUV
		if kind, ok := strings.CutPrefix(unit, square); ok {
			unit = "(" + strings.TrimSuffix(kind, "}") + ")2"
		}
	}
	return strings.NewReplacer("{", "", "}", "").Replace(unit)
}

// rounded shows three significant figures, and never less than the integer part.
func rounded(l words.Language, v float64) string {
	switch a := math.Abs(v); {
	case a >= 100 || a == 0:
		return l.Number("%.0f", v)
	case a >= 10:
		return l.Number("%.1f", v)
	case a >= 1:
		return l.Number("%.2f", v)
	}
	return l.Number("%.3g", v)
}
