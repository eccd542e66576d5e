package features

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/radnode/radnode/features/voxel"
)

// A Profile says how an image is processed before and while features are
// computed. The YAML names are those of the configuration file.
type Profile struct {
	Name       string        `yaml:"-"`
	Voxels     voxel.Rule    `yaml:"voxels,omitempty"`    // how contours and segmentations become voxels
	SUV        string        `yaml:"suv,omitempty"`       // of PET images: bw (empty too), lbm, lbm-james, bsa, ibw; none keeps their unit
	Normalise  Normalise     `yaml:"normalise,omitempty"` // of the whole image, before interpolation
	Resample   Resample      `yaml:"resample"`
	Resegment  Resegment     `yaml:"resegment"`
	Discretise Discretise    `yaml:"discretise"`
	IVH        IVH           `yaml:"ivh"`
	Texture    Texture       `yaml:"texture,omitempty"`
	Aggregate  []Aggregation `yaml:"aggregate"`
	Families   []Family      `yaml:"families"`
	Features   []string      `yaml:"features,omitempty"` // tags without aggregation; only these of the families, empty for all
	Filters    []string      `yaml:"filters"`
}

// Resample is interpolation (IBSI VTM2) and rounding (68QD).
type Resample struct {
	Spacing       []float64 `yaml:"spacing"`        // mm along columns, rows, slices; 0 keeps an axis; empty keeps all
	Image         string    `yaml:"image"`          // nearest, linear, cubic
	Mask          string    `yaml:"mask"`           // nearest, linear
	MaskThreshold float64   `yaml:"mask_threshold"` // the part of a voxel that makes it part of the ROI (E8H9)
	Round         bool      `yaml:"round"`          // to the nearest whole intensity, halves to even
}

// Resegment is re-segmentation (IBSI IF9H) of the intensity mask. Both settings
// look at the whole ROI; a voxel must pass both.
type Resegment struct {
	Range    []float64 `yaml:"range"`    // lowest and highest intensity kept, USB3; [-500, .inf] is open above; empty for none
	Outliers float64   `yaml:"outliers"` // standard deviations around the mean that are kept, 7ACA; 0 for all
}

// Discretise is discretisation (IBSI 4R0B) for histogram and texture.
type Discretise struct {
	Method string  `yaml:"method"`          // none, fbs, fbn
	Width  float64 `yaml:"width,omitempty"` // of a bin, fbs
	Bins   int     `yaml:"bins,omitempty"`  // fbn
}

// IVH is the discretisation for the intensity-volume histogram alone.
type IVH = Discretise

// Texture holds the parameters of texture matrices. What is left out is the
// manual's default: distance 1, no weights, coarseness 0. Distances are counted
// in voxels by the Chebyshev norm (IBSI PVMT).
type Texture struct {
	GLCMDistance    int    `yaml:"glcm_distance,omitempty"`    // length of the direction vectors
	GLCMWeighting   string `yaml:"glcm_weighting,omitempty"`   // none, inverse (1/|m|) or exponential (exp(-|m|²)) of a direction m when matrices are merged, 6CK8
	GLCMNorm        string `yaml:"glcm_norm,omitempty"`        // of |m|: euclidean, manhattan, chebyshev
	NGTDMDistance   int    `yaml:"ngtdm_distance,omitempty"`   // reach of the neighbourhood
	NGLDMDistance   int    `yaml:"ngldm_distance,omitempty"`   // reach of the neighbourhood
	NGLDMCoarseness int    `yaml:"ngldm_coarseness,omitempty"` // levels apart that still depend, α
}

// Filled is t with the defaults in place of what was left out.
func (t Texture) Filled() Texture {
	t.GLCMDistance = cmp.Or(t.GLCMDistance, 1)
	t.GLCMWeighting = cmp.Or(t.GLCMWeighting, "none")
	t.GLCMNorm = cmp.Or(t.GLCMNorm, "euclidean")
	t.NGTDMDistance = cmp.Or(t.NGTDMDistance, 1)
	t.NGLDMDistance = cmp.Or(t.NGLDMDistance, 1)
	return t
}

// maxDistance bounds the neighbourhoods of texture matrices.
const maxDistance = 5

// DefaultProfile is the built-in profile of a modality (0008,0060): ct-default,
// mr-default, pt-default, or "default" for any other.
func DefaultProfile(modality string) Profile {
	p := Profile{
		Name:       "default",
		Resample:   Resample{Spacing: []float64{1, 1, 1}, Image: "linear", Mask: "linear", MaskThreshold: 0.5},
		Discretise: Discretise{Method: "fbn", Bins: 32},
		IVH:        IVH{Method: "fbn", Bins: 1000}, // for arbitrary units, manual 3.5
		Aggregate:  []Aggregation{Agg3DComb},
		Filters:    []string{},
	}
	for _, f := range families {
		p.Families = append(p.Families, f.name)
	}
	switch modality {
	case "CT":
		p.Name = "ct-default"
		p.Resample.Round = true // CT numbers are whole
		p.Resegment = Resegment{Range: []float64{-1000, 400}, Outliers: 3}
		p.Discretise = Discretise{Method: "fbs", Width: 25}
		p.IVH = IVH{Method: "none"} // discrete and calibrated
	case "MR":
		p.Name = "mr-default"
		p.Resegment.Outliers = 3 // intensities have no unit: no range, a fixed number of bins
	case "PT":
		p.Name = "pt-default"
		p.Resegment.Range = []float64{0, math.Inf(1)}
		p.Discretise = Discretise{Method: "fbs", Width: 0.25} // SUV
		p.IVH = IVH{Method: "fbs", Width: 0.1}
	}
	return p
}

// Validate names the first field that is wrong and what it may be.
func (p Profile) Validate() error {
	bad := func(field, format string, a ...any) error {
		name := p.Name
		if name == "" {
			name = "profile"
		}
		return fmt.Errorf("%s: %s: %s", name, field, fmt.Sprintf(format, a...))
	}
	if err := p.Voxels.Validate(); err != nil {
		return bad("voxels", "%v", err)
	}
	if kinds := []string{"", "none", "bw", "lbm", "lbm-james", "bsa", "ibw"}; !slices.Contains(kinds, p.SUV) {
		return bad("suv", "%q, want any of%s", p.SUV, strings.Join(kinds, " "))
	}
	if err := p.Normalise.validate(); err != nil {
		return bad("normalise", "%v", err)
	}
	r := p.Resample
	if n := len(r.Spacing); n != 0 && n != 3 {
		return bad("resample.spacing", "has %d numbers, want three: columns, rows, slices in mm (0 keeps an axis)", n)
	}
	for _, s := range r.Spacing {
		if !(s >= 0 && s <= 100) || s != 0 && s < 0.01 {
			return bad("resample.spacing", "%v mm, want 0 (keep the axis) or 0.01 to 100", s)
		}
	}
	if _, err := voxel.ParseMethod(r.Image); err != nil && r.interpolates() {
		return bad("resample.image", "%q, want nearest, linear or cubic", r.Image)
	}
	if r.interpolates() {
		if r.Mask != "nearest" && r.Mask != "linear" {
			return bad("resample.mask", "%q, want nearest or linear", r.Mask)
		}
		if !(r.MaskThreshold > 0 && r.MaskThreshold <= 1) {
			return bad("resample.mask_threshold", "%v, want above 0 and at most 1 (0.5 is usual)", r.MaskThreshold)
		}
	}
	if rg := p.Resegment.Range; len(rg) != 0 {
		if len(rg) != 2 {
			return bad("resegment.range", "has %d numbers, want lowest and highest (-.inf and .inf leave a side open)", len(rg))
		}
		if !(rg[0] <= rg[1]) || math.IsInf(rg[0], 1) || math.IsInf(rg[1], -1) {
			return bad("resegment.range", "%v to %v, want the lower bound first", rg[0], rg[1])
		}
	}
	if k := p.Resegment.Outliers; !(k >= 0) || math.IsInf(k, 0) {
		return bad("resegment.outliers", "%v, want a number of standard deviations, or 0 to keep all", k)
	}
	for _, d := range []struct {
		field string
		Discretise
		most int
	}{{"discretise", p.Discretise, maxLevels}, {"ivh", p.IVH, 65536}} {
		switch d.Method {
		case "none", "":
		case "fbs":
			if !(d.Width > 0) || math.IsInf(d.Width, 0) {
				return bad(d.field+".width", "%v, want the width of a bin above 0", d.Width)
			}
		case "fbn":
			if d.Bins < 2 || d.Bins > d.most {
				return bad(d.field+".bins", "%d, want 2 to %d", d.Bins, d.most)
			}
		default:
			return bad(d.field+".method", "%q, want none, fbs or fbn", d.Method)
		}
	}
	if err := p.Texture.Filled().validate(); err != nil {
		return bad("texture", "%v", err)
	}
	for i, a := range p.Aggregate {
		if !slices.Contains(aggregations, a) {
			return bad("aggregate", "%q, want any of %s", a, list(aggregations))
		}
		if slices.Contains(p.Aggregate[:i], a) {
			return bad("aggregate", "%q is there twice", a)
		}
	}
	if len(p.Families) == 0 {
		return bad("families", "is empty, want any of %s", available())
	}
	for i, f := range p.Families {
		if !slices.ContainsFunc(families, func(k family) bool { return k.name == f }) {
			return bad("families", "%q is not available, want any of %s", f, available())
		}
		if slices.Contains(p.Families[:i], f) {
			return bad("families", "%q is there twice", f)
		}
	}
	if len(p.Aggregate) == 0 && slices.ContainsFunc(families, func(f family) bool {
		return f.aggregate != whole && slices.Contains(p.Families, f.name)
	}) {
		return bad("aggregate", "is empty, but there are texture families; want any of %s", list(aggregations))
	}
	for _, tag := range p.Features {
		f, a, ok := Lookup(tag)
		if !ok || a != "" {
			return bad("features", "%q, want a feature's tag without aggregation, as cm_joint_max", tag)
		}
		if !slices.Contains(p.Families, f.Family) {
			return bad("features", "%q is of the family %s, which is not among the families", tag, f.Family)
		}
	}
	if len(p.Filters) > 0 {
		return bad("filters", "%q is not available, want none", p.Filters[0])
	}
	return nil
}

func (t Texture) validate() error {
	for _, d := range []struct {
		field string
		value int
	}{{"glcm_distance", t.GLCMDistance}, {"ngtdm_distance", t.NGTDMDistance}, {"ngldm_distance", t.NGLDMDistance}} {
		if d.value < 1 || d.value > maxDistance {
			return fmt.Errorf("%s: %d, want 1 to %d voxels", d.field, d.value, maxDistance)
		}
	}
	if w := []string{"none", "inverse", "exponential"}; !slices.Contains(w, t.GLCMWeighting) {
		return fmt.Errorf("glcm_weighting: %q, want any of %s", t.GLCMWeighting, strings.Join(w, ", "))
	}
	if n := []string{"euclidean", "manhattan", "chebyshev"}; !slices.Contains(n, t.GLCMNorm) {
		return fmt.Errorf("glcm_norm: %q, want any of %s", t.GLCMNorm, strings.Join(n, ", "))
	}
	if t.NGLDMCoarseness < 0 || t.NGLDMCoarseness > maxLevels {
		return fmt.Errorf("ngldm_coarseness: %d, want 0 to %d levels", t.NGLDMCoarseness, maxLevels)
	}
	return nil
}

func available() string {
	var s []Family
	for _, f := range families {
		s = append(s, f.name)
	}
	return list(s)
}

func list[T ~string](s []T) string {
	var out []string
	for _, v := range s {
		out = append(out, string(v))
	}
	return strings.Join(out, ", ")
}

// rows are the features of a family that the profile asks for.
func (p Profile) rows(f family) []Feature {
	if len(p.Features) == 0 {
		return f.rows
	}
	var out []Feature
	for _, row := range f.rows {
		if slices.Contains(p.Features, row.Tag) {
			out = append(out, row)
		}
	}
	return out
}

// interpolates tells whether any axis gets another spacing.
func (r Resample) interpolates() bool {
	return slices.ContainsFunc(r.Spacing, func(s float64) bool { return s != 0 })
}

// Hash is the SHA-256 of what the profile asks for, in hex. It does not depend
// on the name, on the order of families, nor on settings that are not used.
func (p Profile) Hash() string {
	var b strings.Builder
	line := func(key string, v ...string) { b.WriteString(key + "=" + strings.Join(v, ",") + "\n") }
	line("profile", "1") // changes with this list
	if v := p.Voxels.Filled(); v != (voxel.Rule{}).Filled() {
		line("voxels", fmt.Sprintf("%+v", v))
	}
	if p.SUV != "" && p.SUV != "bw" {
		line("suv", p.SUV)
	}
	if p.Normalise.Used() {
		line("normalise", p.Normalise.canonical()...)
	}
	if p.Resample.interpolates() {
		line("spacing", numbers(p.Resample.Spacing)...)
		line("image", p.Resample.Image)
		line("mask", p.Resample.Mask, number(p.Resample.MaskThreshold))
	}
	line("round", strconv.FormatBool(p.Resample.Round))
	line("range", numbers(p.Resegment.Range)...)
	line("outliers", number(p.Resegment.Outliers))
	line("discretise", p.Discretise.canonical()...)
	line("ivh", p.IVH.canonical()...)
	if t := p.Texture.Filled(); t != (Texture{}).Filled() {
		line("texture", fmt.Sprintf("%+v", t))
	}
	for _, a := range aggregations {
		if slices.Contains(p.Aggregate, a) {
			line("aggregate", string(a))
		}
	}
	for _, f := range families {
		if slices.Contains(p.Families, f.name) {
			line("family", string(f.name))
		}
	}
	for _, f := range Table {
		if slices.Contains(p.Features, f.Tag) {
			line("feature", f.Tag)
		}
	}
	line("filters", p.Filters...)
	h := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(h[:])
}

func (d Discretise) canonical() []string {
	switch d.Method {
	case "fbs":
		return []string{"fbs", number(d.Width)}
	case "fbn":
		return []string{"fbn", strconv.Itoa(d.Bins)}
	}
	return []string{"none"}
}

// Notation is the profile in the short notation of the manual's chapter 4, as
// in "INT:LIN:3D:1mm; RND; RS:[-1000,400]+3σ; FBS:25". RND, for rounding, and
// VOX, for a voxel rule that is not the usual one, are ours: the chapter has no
// sign for them.
func (p Profile) Notation() string {
	var s []string
	if p.Normalise.Used() {
		s = append(s, p.Normalise.notation())
	}
	if p.Resample.interpolates() {
		method := map[string]string{"nearest": "NNB", "linear": "LIN", "cubic": "CSI"}[p.Resample.Image]
		dims, sp := "3D", p.Resample.Spacing
		if sp[2] == 0 {
			dims, sp = "2D", sp[:2]
		}
		size := strings.Join(numbers(sp), "x")
		if !slices.ContainsFunc(sp, func(v float64) bool { return v != sp[0] }) {
			size = number(sp[0])
		}
		s = append(s, "INT:"+method+":"+dims+":"+size+"mm")
	}
	if p.Resample.Round {
		s = append(s, "RND")
	}
	var rs []string
	if r := p.Resegment.Range; len(r) == 2 {
		open, shut := "[", "]"
		lo, hi := number(r[0]), number(r[1])
		if math.IsInf(r[0], -1) {
			open, lo = "(", "-∞"
		}
		if math.IsInf(r[1], 1) {
			shut, hi = ")", "∞"
		}
		rs = append(rs, open+lo+","+hi+shut)
	}
	if k := p.Resegment.Outliers; k > 0 {
		rs = append(rs, number(k)+"σ")
	}
	if len(rs) > 0 {
		s = append(s, "RS:"+strings.Join(rs, "+"))
	}
	if c := p.Discretise.canonical(); c[0] != "none" {
		s = append(s, strings.ToUpper(c[0])+":"+c[1])
	}
	if c := p.IVH.canonical(); c[0] != "none" {
		s = append(s, "IVH:"+strings.ToUpper(c[0])+":"+c[1])
	}
	s = append(s, p.Texture.notation()...)
	if v := p.Voxels.Filled(); v != (voxel.Rule{}).Filled() {
		s = append(s, v.Notation())
	}
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, "; ")
}

// notation names what differs from the manual's defaults.
func (t Texture) notation() (s []string) {
	t = t.Filled()
	if t.GLCMDistance != 1 {
		s = append(s, fmt.Sprintf("CM δ-∞:%d", t.GLCMDistance))
	}
	if t.GLCMWeighting != "none" {
		norm := map[string]string{"euclidean": "2", "manhattan": "1", "chebyshev": "∞"}[t.GLCMNorm]
		s = append(s, fmt.Sprintf("CM w-%s:%s", norm, t.GLCMWeighting))
	}
	if t.NGTDMDistance != 1 {
		s = append(s, fmt.Sprintf("NGT δ-∞:%d", t.NGTDMDistance))
	}
	if t.NGLDMDistance != 1 {
		s = append(s, fmt.Sprintf("NGL δ-∞:%d", t.NGLDMDistance))
	}
	if t.NGLDMCoarseness != 0 {
		s = append(s, fmt.Sprintf("NGL α:%d", t.NGLDMCoarseness))
	}
	return s
}

// number is the shortest text that reads back the same; -0 is 0.
func number(v float64) string { return strconv.FormatFloat(v+0, 'g', -1, 64) }

func numbers(v []float64) []string {
	var s []string
	for _, x := range v {
		s = append(s, number(x))
	}
	return s
}
