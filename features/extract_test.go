package features_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
	"pgregory.net/rapid"
)

// blob is a ragged ball in an oblique image with three different spacings.
func blob(size [3]int, seed uint32) (*voxel.Grid, *voxel.Mask) {
	geo := voxel.Geometry{Size: size, Spacing: [3]float64{0.9, 1.4, 2.5}, Origin: [3]float64{-120, 35.5, 900},
		Axes: [3][3]float64{{2. / 3, 2. / 3, 1. / 3}, {-2. / 3, 1. / 3, 2. / 3}, {1. / 3, -2. / 3, 2. / 3}}}
	g := &voxel.Grid{Geometry: geo}
	m := &voxel.Mask{Geometry: geo}
	for i := range geo.Len() {
		x, y, z := i%size[0], i/size[0]%size[1], i/size[0]/size[1]
		var r float64
		for k, c := range [3]int{x, y, z} {
			d := (float64(c)/float64(size[k]) - 0.5) * 2.4
			r += d * d
		}
		seed = seed*1664525 + 1013904223
		g.Data = append(g.Data, float32(int(seed>>24))+float32(3*x-2*y+z))
		in := uint8(0)
		if r+float64(seed>>24)/1024 < 1 {
			in = 1
		}
		m.Data = append(m.Data, in)
	}
	return g, m
}

func extract(t interface{ Fatal(...any) }, g *voxel.Grid, m *voxel.Mask, p features.Profile) features.Result {
	res, err := features.Extract(context.Background(), g, m, p)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// every value that the profile asks for is a number, or has a reason and is 0.
func checkShape(t interface{ Errorf(string, ...any) }, values []features.Value, p features.Profile) {
	var tags []string
	for _, v := range values {
		tags = append(tags, v.Tag)
	}
	if d := cmp.Diff(features.Tags(p), tags); d != "" {
		t.Errorf("tags: %s", d)
	}
	for _, v := range values {
		if math.IsNaN(v.Value) || math.IsInf(v.Value, 0) || v.Reason != "" && v.Value != 0 {
			t.Errorf("%s = %v, reason %q", v.Tag, v.Value, v.Reason)
		}
	}
}

func TestTable(t *testing.T) {
	count := map[features.Family]int{}
	seen := map[string]bool{}
	for _, f := range features.Table {
		count[f.Family]++
		// The IVH's features at two fractions share a code.
		if twin := f.Tag == "ivh_v90" || f.Tag == "ivh_i90"; seen[f.Tag] || seen[f.Code] != twin || len(f.Code) != 4 || f.Name == "" || f.Section == "" || !strings.HasPrefix(f.Tag, string(f.Family)+"_") {
			t.Errorf("row %+v", f)
		}
		seen[f.Tag], seen[f.Code] = true, true
		if got, a, ok := features.Lookup(f.Tag); !ok || got != f || a != "" {
			t.Errorf("Lookup(%q) = %v, %q, %v", f.Tag, got, a, ok)
		}
	}
	want := map[features.Family]int{
		features.Morphology: 29, features.LocalIntensity: 2, features.Statistics: 18, features.Histogram: 23, features.VolumeHistogram: 7,
		features.GLCM: 25, features.GLRLM: 16, features.GLSZM: 16, features.GLDZM: 16, features.NGTDM: 5, features.NGLDM: 17,
	}
	if d := cmp.Diff(want, count); d != "" {
		t.Error(d)
	}
	if f, a, ok := features.Lookup("cm_joint_max_2_5D_comb"); !ok || f.Code != "GYBY" || a != features.Agg25DComb {
		t.Errorf("cm_joint_max_2_5D_comb is %+v, %q", f, a)
	}
	for _, tag := range []string{"morph_none", "morph_volume_3D", "szm_sze_3D_comb", "cm_joint_max_3D", ""} {
		if f, a, ok := features.Lookup(tag); ok {
			t.Errorf("Lookup found %+v, %q for %q, which is no tag", f, a, tag)
		}
	}
}

// What the reference tables leave blank is what the table calls not standardised.
func TestStandardised(t *testing.T) {
	var blank []string
	standard := map[string]bool{}
	for _, r := range readReference(t, "../testdata/ibsi1/digital-phantom.csv") {
		standard[r.tag] = true
	}
	p := plain()
	p.Aggregate = allAggregations
	for _, tag := range features.Tags(p) {
		f, _, _ := features.Lookup(tag)
		if f.Standardised != standard[tag] {
			t.Errorf("%s: standardised %v, in the reference table %v", tag, f.Standardised, standard[tag])
		}
		if !f.Standardised {
			blank = append(blank, tag)
		}
	}
	if len(blank) != 5 {
		t.Errorf("not standardised: %q, want five", blank)
	}
}

// transposed puts old axis order[k] at k, with its spacing and direction.
func transposed(g *voxel.Grid, m *voxel.Mask, order [3]int) (*voxel.Grid, *voxel.Mask) {
	geo := g.Geometry
	for k, o := range order {
		geo.Size[k], geo.Spacing[k], geo.Axes[k] = g.Size[o], g.Spacing[o], g.Axes[o]
	}
	g2, m2 := &voxel.Grid{Geometry: geo}, &voxel.Mask{Geometry: geo}
	for i := range geo.Len() {
		at := [3]int{i % geo.Size[0], i / geo.Size[0] % geo.Size[1], i / geo.Size[0] / geo.Size[1]}
		var old [3]int
		for k, o := range order {
			old[o] = at[k]
		}
		j := (old[2]*g.Size[1]+old[1])*g.Size[0] + old[0]
		g2.Data, m2.Data = append(g2.Data, g.Data[j]), append(m2.Data, m.Data[j])
	}
	return g2, m2
}

// A swap of row and column spacing shows here: the axes may come in any order,
// each with its own spacing, and nothing changes.
func TestOrderOfAxes(t *testing.T) {
	g, m := blob([3]int{20, 15, 9}, 7)
	unchanged := plain()
	unchanged.Discretise, unchanged.IVH = features.Discretise{Method: "fbs", Width: 25}, features.IVH{Method: "fbn", Bins: 100}
	for _, p := range []features.Profile{unchanged, {Families: plain().Families, Aggregate: allAggregations[4:],
		Discretise: features.Discretise{Method: "fbn", Bins: 16}, IVH: features.IVH{Method: "fbs", Width: 2},
		Texture:   features.Texture{GLCMDistance: 2, GLCMWeighting: "inverse", NGTDMDistance: 2, NGLDMDistance: 2, NGLDMCoarseness: 1},
		Resample:  features.Resample{Spacing: []float64{1.1, 1.1, 1.1}, Image: "cubic", Mask: "linear", MaskThreshold: 0.5},
		Resegment: features.Resegment{Outliers: 2}}} {
		want := extract(t, g, m, p).Values
		for _, order := range [][3]int{{1, 0, 2}, {2, 0, 1}, {2, 1, 0}} {
			g2, m2 := transposed(g, m, order)
			for i, v := range extract(t, g2, m2, p).Values {
				if w := want[i]; math.Abs(v.Value-w.Value) > 1e-6*(math.Abs(w.Value)+1e-3) || v.Reason != w.Reason {
					t.Errorf("axes %v: %s = %v %q, want %v %q", order, v.Tag, v.Value, v.Reason, w.Value, w.Reason)
				}
			}
		}
	}
}

// In the plane, rows and columns may change places.
func TestOrderOfAxesInThePlane(t *testing.T) {
	g, m := blob([3]int{20, 15, 9}, 7)
	p := plain()
	p.Families, p.Aggregate = p.Families[5:], allAggregations[:4]
	p.Discretise = features.Discretise{Method: "fbn", Bins: 8}
	want := extract(t, g, m, p).Values
	g2, m2 := transposed(g, m, [3]int{1, 0, 2})
	for i, v := range extract(t, g2, m2, p).Values {
		if w := want[i]; math.Abs(v.Value-w.Value) > 1e-12*(math.Abs(w.Value)+1) || v.Reason != w.Reason {
			t.Errorf("%s = %v %q, want %v %q", v.Tag, v.Value, v.Reason, w.Value, w.Reason)
		}
	}
}

// The same ROI elsewhere in a larger image has the same bits.
func TestTranslation(t *testing.T) {
	g, m := blob([3]int{14, 12, 8}, 3)
	p := plain()
	p.Aggregate = allAggregations
	p.Discretise = features.Discretise{Method: "fbn", Bins: 8}
	want := extract(t, g, m, p)
	rapid.Check(t, func(t *rapid.T) {
		var before, after [3]int
		geo := g.Geometry
		for k := range 3 {
			before[k], after[k] = rapid.IntRange(0, 9).Draw(t, "before"), rapid.IntRange(0, 9).Draw(t, "after")
			geo.Size[k] += before[k] + after[k]
		}
		geo.Origin = g.Point(-float64(before[0]), -float64(before[1]), -float64(before[2]))
		g2 := &voxel.Grid{Geometry: geo, Data: make([]float32, geo.Len())}
		m2 := &voxel.Mask{Geometry: geo, Data: make([]uint8, geo.Len())}
		for i := range g.Data {
			x, y, z := i%g.Size[0]+before[0], i/g.Size[0]%g.Size[1]+before[1], i/g.Size[0]/g.Size[1]+before[2]
			j := (z*geo.Size[1]+y)*geo.Size[0] + x
			g2.Data[j], m2.Data[j] = g.Data[i], m.Data[i]
		}
		for i, v := range extract(t, g2, m2, p).Values {
			// The peak's sphere takes in what lies around.
			if v != want.Values[i] && !strings.HasPrefix(v.Tag, "loc_") {
				t.Fatalf("%s = %v, want %v", v.Tag, v.Value, want.Values[i].Value)
			}
		}
	})
}

// The ROI's part of the image gives the bits of the whole image: the chain run
// on everything, by steps, against the chain that crops.
func TestChainOnPart(t *testing.T) {
	g, m := blob([3]int{40, 30, 16}, 5)
	for i := range m.Data { // a small ROI in a corner of the blob
		if x, y, z := i%40, i/40%30, i/1200; x > 18 || y > 14 || z > 7 {
			m.Data[i] = 0
		}
	}
	for _, method := range []string{"nearest", "linear", "cubic"} {
		p := features.Profile{Families: plain().Families, Aggregate: plain().Aggregate,
			Resample:  features.Resample{Spacing: []float64{1, 0, 1.3}, Image: method, Mask: "linear", MaskThreshold: 0.5, Round: true},
			Resegment: features.Resegment{Range: []float64{math.Inf(-1), 150}, Outliers: 2.5}}
		roi, err := features.Prepare(g, m, p)
		if err != nil {
			t.Fatal(err)
		}
		kind, _ := voxel.ParseMethod(method)
		to := voxel.Aligned(g.Geometry, [3]float64{1, 0, 1.3})
		image, mask := voxel.Resample(g, to, to.Box(), kind), voxel.ResampleMask(m, m.Geometry, to, to.Box(), voxel.Linear, 0.5)
		part := voxel.Box{Max: roi.Image.Size}.Add(roi.Offset)
		whole := image.Crop(part)
		for i, v := range whole.Data {
			whole.Data[i] = float32(math.RoundToEven(float64(v)))
		}
		if !slices.Equal(whole.Data, roi.Image.Data) || !slices.Equal(mask.Crop(part).Data, roi.Morph.Data) || mask.Count() != roi.Morph.Count() {
			t.Errorf("%s: image or mask differ from those of the whole image", method)
		}
		if roi.Image.Len() >= to.Len() || !roi.Image.Geometry.Equal(to.Crop(part), 1e-9) {
			t.Errorf("%s: %v voxels of %v", method, roi.Image.Size, to.Size)
		}
		var mean, sq, n float64
		for i, in := range roi.Morph.Data {
			if v := float64(whole.Data[i]); in != 0 {
				mean, sq, n = mean+v, sq+v*v, n+1
			}
		}
		mean /= n
		sd := math.Sqrt(sq/n - mean*mean)
		for i, in := range roi.Morph.Data {
			v := float64(whole.Data[i])
			want := in != 0 && v <= 150 && math.Abs(v-mean) <= 2.5*sd
			if (roi.Intensity.Data[i] != 0) != want {
				t.Errorf("%s: voxel of %v is in the intensity mask: %v", method, v, !want)
			}
		}
	}
}

// What lies outside the needed box is not read: there it may be no number.
func TestNeeded(t *testing.T) {
	g, m := blob([3]int{90, 80, 70}, 5)
	for i := range m.Data { // a small ROI
		if x, y, z := i%90, i/90%80, i/7200; x < 40 || x > 48 || y < 20 || y > 26 || z < 30 || z > 33 {
			m.Data[i] = 0
		}
	}
	for _, method := range []string{"", "nearest", "linear", "cubic"} {
		p := features.DefaultProfile("CT")
		p.Resample.Image = method
		if method == "" {
			p.Resample.Spacing = nil
		}
		want := extract(t, g, m, p)
		box := features.Needed(g.Geometry, m.Bounds(), p)
		hidden := &voxel.Grid{Geometry: g.Geometry, Data: slices.Clone(g.Data)}
		n := 0
		for i := range hidden.Data {
			if x, y, z := i%90, i/90%80, i/7200; x < box.Min[0] || x >= box.Max[0] || y < box.Min[1] || y >= box.Max[1] || z < box.Min[2] || z >= box.Max[2] {
				hidden.Data[i] = float32(math.NaN())
				n++
			}
		}
		if d := cmp.Diff(want, extract(t, hidden, m, p)); d != "" || n == 0 {
			t.Errorf("%q: %d voxels hidden outside %v: %s", method, n, box, d)
		}
	}
}

// A mask may be given on the part of the grid that holds the region: the same values, to the bit. One beside the grid is refused.
func TestMaskOnPart(t *testing.T) {
	g, m := blob([3]int{40, 36, 30}, 5)
	for _, aggregate := range [][]features.Aggregation{{features.Agg3DComb}, {features.Agg2DAvg}} {
		for _, method := range []string{"", "nearest", "linear", "cubic"} {
			p := features.DefaultProfile("CT")
			p.Aggregate, p.Resample.Image = aggregate, method
			if p.Resample.Spacing = []float64{1.1, 0.7, 1.9}; method == "" {
				p.Resample.Spacing = nil
			}
			part := m.Crop(m.Bounds())
			if part.Len() == m.Len() {
				t.Fatal("the region fills the image")
			}
			if d := cmp.Diff(extract(t, g, m, p), extract(t, g, part, p)); d != "" {
				t.Errorf("%q: %s", method, d)
			}
			want, err := features.Diagnostics(t.Context(), g, m, p)
			if err != nil {
				t.Fatal(err)
			}
			got, err := features.Diagnostics(t.Context(), g, part, p)
			if d := cmp.Diff(want, got); d != "" || err != nil {
				t.Errorf("%q, diagnostics: %v %s", method, err, d)
			}
		}
	}
	beside := m.Crop(m.Bounds())
	beside.Origin = g.Point(30, 0, 0)
	if _, err := features.Extract(t.Context(), g, beside, plain()); err == nil {
		t.Error("a mask that reaches beyond the image is accepted")
	}
}

// A mask that fills the image has no margin; the peak's sphere is cut.
func TestWholeImage(t *testing.T) {
	g, m := blob([3]int{9, 8, 5}, 9)
	for i := range m.Data {
		m.Data[i] = 1
	}
	res := extract(t, g, m, plain())
	checkShape(t, res.Values, plain())
	// The mesh is the image's box without its edges: 2h of each edge's square bevel
	// is cut off, so volume lies between the box of voxel centres and of voxels.
	v := res.Values[0].Value
	if lo, hi := 8*0.9*7*1.4*4*2.5, 9*0.9*8*1.4*5*2.5; v <= lo || v >= hi {
		t.Errorf("volume %v, want between %v and %v", v, lo, hi)
	}
	if len(res.Notes) != 1 || !strings.Contains(res.Notes[0], "border") {
		t.Errorf("notes %q", res.Notes)
	}
}

func TestDegenerate(t *testing.T) {
	reasons := func(res features.Result) map[string]string {
		checkShape(t, res.Values, plain())
		m := map[string]string{}
		for _, v := range res.Values {
			if v.Reason != "" {
				m[v.Tag] = v.Reason
			}
		}
		return m
	}
	keys := func(m map[string]string) []string {
		var k []string
		for _, tag := range features.Tags(plain()) {
			if m[tag] != "" {
				k = append(k, strings.TrimPrefix(tag, "morph_"))
			}
		}
		return k
	}
	// of are the tags that begin so.
	of := func(prefixes ...string) (s []string) {
		for _, tag := range features.Tags(plain()) {
			if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(tag, p) }) {
				s = append(s, tag)
			}
		}
		return s
	}
	textures := of("cm_", "rlm_", "szm_", "dzm_", "ngt_", "ngl_")
	box := func(size [3]int, f func(x, y, z int) (float32, bool)) (*voxel.Grid, *voxel.Mask) {
		geo := geometry(size, [3]float64{1, 2, 3})
		g, m := &voxel.Grid{Geometry: geo}, &voxel.Mask{Geometry: geo}
		for i := range geo.Len() {
			v, in := f(i%size[0], i/size[0]%size[1], i/size[0]/size[1])
			g.Data, m.Data = append(g.Data, v), append(m.Data, 0)
			if in {
				m.Data[i] = 1
			}
		}
		return g, m
	}
	ramp := func(x, y, z int) float32 { return float32(x + 3*y + 7*z + 1) }
	for name, c := range map[string]struct {
		f       func(x, y, z int) (float32, bool)
		profile func(*features.Profile)
		want    []string
	}{
		"one voxel": {f: func(x, y, z int) (float32, bool) { return 5, x == 1 && y == 2 && z == 3 },
			want: append([]string{"pca_maj_axis", "pca_min_axis", "pca_least_axis", "pca_elongation", "pca_flatness", "vol_dens_aee", "area_dens_aee",
				"moran_i", "geary_c", "ivh_v10", "ivh_v90", "ivh_diff_v10_v90"}, of("cm_", "ngt_")...)},
		"two voxels": {f: func(x, y, z int) (float32, bool) { return ramp(x, y, z), x < 2 && y == 2 && z == 3 },
			want: []string{"vol_dens_aee", "area_dens_aee", "stat_rmad", "ih_rmad"}},
		"one slice": {f: func(x, y, z int) (float32, bool) { return ramp(x, y, z), z == 2 },
			want: []string{"vol_dens_aee", "area_dens_aee"}},
		"a plane aslant": {f: func(x, y, z int) (float32, bool) { return ramp(x, y, z), x+y+z == 4 },
			want: []string{"vol_dens_aee", "area_dens_aee"}},
		"constant": {f: func(x, y, z int) (float32, bool) { return 5, x > 0 }, want: append([]string{"moran_i", "geary_c", "ivh_v10", "ivh_v90", "ivh_diff_v10_v90"}, "cm_corr_3D_comb", "cm_info_corr1_3D_comb")},
		"all zero": {f: func(x, y, z int) (float32, bool) { return 0, x > 0 },
			want: slices.Concat([]string{"com", "moran_i", "geary_c", "stat_cov", "stat_qcod"}, of("ih_"), []string{"ivh_v10", "ivh_v90", "ivh_diff_v10_v90"}, textures)},
		"nothing left": {f: func(x, y, z int) (float32, bool) { return ramp(x, y, z), x > 0 },
			profile: func(p *features.Profile) { p.Resegment.Range = []float64{1000, math.Inf(1)} },
			want:    slices.Concat([]string{"com", "integ_int", "moran_i", "geary_c"}, of("loc_", "stat_", "ih_", "ivh_"), textures)},
		"thousands of levels": {f: func(x, y, z int) (float32, bool) { return 100 * ramp(x, y, z), true }, want: slices.Concat(of("ih_"), textures)},
		"fractions of levels": {f: func(x, y, z int) (float32, bool) { return ramp(x, y, z) / 2, true }, want: slices.Concat(of("ih_", "ivh_"), textures)},
		"huge":                {f: func(x, y, z int) (float32, bool) { return ramp(x, y, z) * 1e36, true }, want: slices.Concat(of("ih_"), textures)},
	} {
		t.Run(name, func(t *testing.T) {
			g, m := box([3]int{4, 5, 6}, c.f)
			p := plain()
			if c.profile != nil {
				c.profile(&p)
			}
			res := extract(t, g, m, p)
			got := reasons(res)
			if d := cmp.Diff(c.want, keys(got)); d != "" {
				t.Errorf("%s\n%v", d, got)
			}
		})
	}
	t.Run("lost in interpolation", func(t *testing.T) {
		g, m := box([3]int{4, 5, 6}, func(x, y, z int) (float32, bool) { return 1, x == 0 && y == 0 && z == 0 })
		p := plain()
		p.Resample = features.Resample{Spacing: []float64{4, 4, 4}, Image: "linear", Mask: "linear", MaskThreshold: 0.5}
		res := extract(t, g, m, p)
		if got := reasons(res); len(got) != len(features.Table) || res.VoxelsInitial != 1 || res.VoxelsInterpolated != 0 || len(res.Notes) != 2 {
			t.Errorf("%d reasons, %+v", len(got), res)
		}
	})
}

func TestExtractRefuses(t *testing.T) {
	g, m := blob([3]int{6, 6, 6}, 1)
	empty := &voxel.Mask{Geometry: m.Geometry, Data: make([]uint8, m.Len())}
	if _, err := features.Extract(context.Background(), g, empty, plain()); !errors.Is(err, features.ErrEmptyROI) {
		t.Errorf("empty mask: %v", err)
	}
	moved := *m
	moved.Origin[2] += 2.5
	if _, err := features.Extract(context.Background(), g, &moved, plain()); err == nil || !strings.Contains(err.Error(), "not on the image's grid") {
		t.Errorf("mask on another grid: %v", err)
	}
	short := *g
	short.Data = short.Data[1:]
	if _, err := features.Extract(context.Background(), &short, m, plain()); err == nil {
		t.Error("an image with a voxel missing was accepted")
	}
	labels := voxel.Mask{Geometry: m.Geometry, Data: slices.Repeat([]uint8{2}, m.Len())}
	if _, err := features.Extract(context.Background(), g, &labels, plain()); err == nil || !strings.Contains(err.Error(), "0 and 1") {
		t.Errorf("mask of twos: %v", err)
	}
	hole := &voxel.Grid{Geometry: g.Geometry, Data: slices.Clone(g.Data)}
	hole.Data[3*36+3*6+3] = float32(math.NaN())
	if _, err := features.Extract(context.Background(), hole, m, plain()); err == nil || !strings.Contains(err.Error(), "no finite value") {
		t.Errorf("image with a hole: %v", err)
	}
	if _, err := features.Extract(context.Background(), g, m, features.Profile{}); err == nil || !strings.Contains(err.Error(), "families") {
		t.Errorf("no families: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := features.Extract(ctx, g, m, plain()); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// One family alone gives the values it has among all.
func TestOneFamily(t *testing.T) {
	g, m := blob([3]int{12, 12, 8}, 2)
	all := extract(t, g, m, plain())
	var got []features.Value
	for _, f := range plain().Families {
		p := plain()
		p.Families = []features.Family{f}
		got = append(got, extract(t, g, m, p).Values...)
	}
	if d := cmp.Diff(all.Values, got); d != "" {
		t.Error(d)
	}
}

// Single features have the values that they have among all, in the table's order.
func TestSomeFeatures(t *testing.T) {
	g, m := blob([3]int{12, 12, 8}, 2)
	all := plain()
	all.Discretise = features.Discretise{Method: "fbn", Bins: 8}
	want := map[string]features.Value{}
	for _, v := range extract(t, g, m, all).Values {
		want[v.Tag] = v
	}
	rapid.Check(t, func(t *rapid.T) {
		p := all
		for _, f := range features.Table {
			if rapid.IntRange(0, 9).Draw(t, f.Tag) == 0 {
				p.Features = append(p.Features, f.Tag)
			}
		}
		slices.Reverse(p.Features)
		if len(p.Features) == 0 {
			return
		}
		values := extract(t, g, m, p).Values
		checkShape(t, values, p)
		if len(values) != len(p.Features) {
			t.Fatalf("%d values, want %d", len(values), len(p.Features))
		}
		for _, v := range values {
			if v != want[v.Tag] {
				t.Fatalf("%+v, want %+v", v, want[v.Tag])
			}
		}
	})
}

// golden are the SHA-256 of the values' bits for the blob under several
// profiles. They are the same on every machine; one changes only with a change
// of the numbers, which the commit then explains.
var golden = []struct {
	name    string
	profile func() features.Profile
	hash    string
}{
	{"linear", func() features.Profile {
		p := features.DefaultProfile("CT")
		p.Resample.Round = false
		return p
	}, "10314a2bf21cd8d9e6c533e9296f77f123829554d0c8feeeb24a61b45192dd46"},
	{"cubic, both outliers and range", func() features.Profile {
		p := features.DefaultProfile("CT")
		p.Resample.Image, p.Resample.Round = "cubic", false
		p.Discretise, p.IVH = features.Discretise{Method: "fbn", Bins: 32}, features.IVH{Method: "fbn", Bins: 1000}
		return p
	}, "b736cceab907126f83c87992a60db7509e90fd3c0f9fa441d30bac3220850af3"},
	{"every aggregation, texture parameters", func() features.Profile {
		p := plain()
		p.Aggregate = allAggregations
		p.Discretise, p.IVH = features.Discretise{Method: "fbs", Width: 7}, features.IVH{Method: "fbs", Width: 2.5}
		p.Texture = features.Texture{GLCMDistance: 2, GLCMWeighting: "exponential", GLCMNorm: "manhattan", NGTDMDistance: 2, NGLDMDistance: 3, NGLDMCoarseness: 1}
		return p
	}, "e2c7880c4849e81f50cdb1896f422a95a4a88a14baddba2b948183d659bfb7ee"},
	{"nearest, in the plane", func() features.Profile {
		p := features.DefaultProfile("PT")
		p.Resample.Image, p.Resample.Spacing = "nearest", []float64{2, 2, 0}
		p.Aggregate = allAggregations[:2]
		p.Discretise.Width = 16
		return p
	}, "4684349fe0b323c073fe7548690170a99b3809816896c9ba56d48c43646b2dac"},
}

func TestSameBits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	g, m := blob([3]int{30, 24, 16}, 11)
	for _, c := range golden {
		for _, workers := range []int{1, 2, 8} {
			runtime.GOMAXPROCS(workers)
			h := sha256.New()
			for _, v := range extract(t, g, m, c.profile()).Values {
				fmt.Fprintf(h, "%s %016x %s\n", v.Tag, math.Float64bits(v.Value), v.Reason)
			}
			if got := hex.EncodeToString(h.Sum(nil)); got != c.hash {
				t.Errorf("%s, %d workers: %s, want %s", c.name, workers, got, c.hash)
			}
		}
	}
}

// No product is fused with a sum where the processor could: that would change
// the last bits. The compiler's listing for arm64 shows it.
func TestNoFusedArithmetic(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles for another processor")
	}
	cmd := exec.Command("go", "build", "-gcflags=-S", ".", "./voxel")
	cmd.Env = append(cmd.Environ(), "GOARCH=arm64", "GOOS=linux", "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Skipf("the Go tool cannot build for arm64 here: %v", err)
	}
	seen := false
	for line := range strings.Lines(string(out)) {
		seen = seen || strings.Contains(line, "FMULD")
		if f := strings.Fields(line); slices.ContainsFunc(f, func(s string) bool {
			return strings.HasPrefix(s, "FMADD") || strings.HasPrefix(s, "FMSUB") || strings.HasPrefix(s, "FNMADD") || strings.HasPrefix(s, "FNMSUB")
		}) {
			t.Errorf("fused: %s", strings.TrimSpace(line))
		}
	}
	if !seen {
		t.Error("the listing holds no arithmetic at all")
	}
}

func TestProfileYAML(t *testing.T) {
	const text = `
resample: {spacing: [1, 1, 1], image: linear, mask: linear, mask_threshold: 0.5, round: true}
resegment: {range: [-1000, 400], outliers: 3}
discretise: {method: fbs, width: 25}
ivh: {method: none}
aggregate: [3D_comb]
families: [morph, loc, stat, ih, ivh, cm, rlm, szm, dzm, ngt, ngl]
filters: []
`
	var p features.Profile
	if err := yaml.UnmarshalWithOptions([]byte(text), &p, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	want := features.DefaultProfile("CT")
	want.Name = ""
	if d := cmp.Diff(want, p); d != "" {
		t.Errorf("the default for CT is not that of the configuration's example:\n%s", d)
	}
	if got, want := p.Notation(), "INT:LIN:3D:1mm; RND; RS:[-1000,400]+3σ; FBS:25"; got != want {
		t.Errorf("notation %q, want %q", got, want)
	}
	p = features.Profile{}
	if err := yaml.UnmarshalWithOptions([]byte("resegment: {range: [-500, .inf]}\nfamilies: [stat]\nresample: {spacing: [2, 2, 0], image: cubic, mask: nearest, mask_threshold: 0.5}\ndiscretise: {method: fbn, bins: 32}"), &p, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Error(err)
	}
	if got, want := p.Notation(), "INT:CSI:2D:2mm; RS:[-500,∞); FBN:32"; got != want {
		t.Errorf("notation %q, want %q", got, want)
	}
	usual := p.Hash()
	if err := yaml.UnmarshalWithOptions([]byte("voxels: {voxel: coverage, coverage: 0.7}"), &p, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if got, want := p.Notation(), "INT:CSI:2D:2mm; RS:[-500,∞); FBN:32; VOX:coverage≥0.7"; got != want || p.Hash() == usual {
		t.Errorf("notation %q, want %q, and another hash", got, want)
	}
}

func TestDefaultProfiles(t *testing.T) {
	for _, m := range []string{"CT", "MR", "PT", "US"} {
		if err := features.DefaultProfile(m).Validate(); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
}

func TestValidate(t *testing.T) {
	for want, change := range map[string]func(*features.Profile){
		`ct-default: families: "cmx" is not available, want any of morph, loc, stat, ih`: func(p *features.Profile) { p.Families = append(p.Families, "cmx") },
		"aggregate: is empty, but there are texture families":                            func(p *features.Profile) { p.Aggregate = nil },
		`features: "cm_joint_max_3D_comb", want a feature's tag`:                         func(p *features.Profile) { p.Features = []string{"cm_joint_max_3D_comb"} },
		`features: "ih_mean" is of the family ih`:                                        func(p *features.Profile) { p.Families, p.Features = p.Families[:2], []string{"ih_mean"} },
		"texture: glcm_distance: 6, want 1 to 5":                                         func(p *features.Profile) { p.Texture.GLCMDistance = 6 },
		"texture: ngtdm_distance: -1":                                                    func(p *features.Profile) { p.Texture.NGTDMDistance = -1 },
		`texture: glcm_weighting: "yes", want any of none`:                               func(p *features.Profile) { p.Texture.GLCMWeighting = "yes" },
		`texture: glcm_norm: "l2"`:                                                       func(p *features.Profile) { p.Texture.GLCMNorm = "l2" },
		"texture: ngldm_coarseness: -1":                                                  func(p *features.Profile) { p.Texture.NGLDMCoarseness = -1 },
		"discretise.bins: 5000, want 2 to 4096":                                          func(p *features.Profile) { p.Discretise = features.Discretise{Method: "fbn", Bins: 5000} },
		"families: is empty":                                                             func(p *features.Profile) { p.Families = nil },
		`"stat" is there twice`:                                                          func(p *features.Profile) { p.Families = append(p.Families, "stat") },
		"resample.spacing: has 2 numbers":                                                func(p *features.Profile) { p.Resample.Spacing = []float64{1, 1} },
		"resample.spacing: -1 mm":                                                        func(p *features.Profile) { p.Resample.Spacing[1] = -1 },
		"resample.spacing: NaN mm":                                                       func(p *features.Profile) { p.Resample.Spacing[1] = math.NaN() },
		`resample.image: "spline", want nearest, linear or cubic`:                        func(p *features.Profile) { p.Resample.Image = "spline" },
		`resample.mask: "cubic", want nearest or linear`:                                 func(p *features.Profile) { p.Resample.Mask = "cubic" },
		"resample.mask_threshold: 0":                                                     func(p *features.Profile) { p.Resample.MaskThreshold = 0 },
		"resegment.range: has 1 numbers":                                                 func(p *features.Profile) { p.Resegment.Range = []float64{1} },
		"resegment.range: 400 to -1000":                                                  func(p *features.Profile) { p.Resegment.Range = []float64{400, -1000} },
		"resegment.outliers: -3":                                                         func(p *features.Profile) { p.Resegment.Outliers = -3 },
		`discretise.method: "fbz", want none, fbs or fbn`:                                func(p *features.Profile) { p.Discretise.Method = "fbz" },
		"discretise.width: 0":                                                            func(p *features.Profile) { p.Discretise.Width = 0 },
		"ivh.bins: 1":                                                                    func(p *features.Profile) { p.IVH = features.Discretise{Method: "fbn", Bins: 1} },
		`aggregate: "4D", want any of 2D_avg`:                                            func(p *features.Profile) { p.Aggregate = []features.Aggregation{"4D"} },
		`filters: "log" is not available`:                                                func(p *features.Profile) { p.Filters = []string{"log"} },
	} {
		p := features.DefaultProfile("CT")
		change(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestHash(t *testing.T) {
	p := features.DefaultProfile("CT")
	const want = "f5883ce626cb39d65518dcfaf5b4a192beaab0d36c1b47ab5d3302df3946c647"
	if got := p.Hash(); got != want {
		t.Errorf("hash %s, want %s: reports hold it, so it must not change", got, want)
	}
	q := p
	q.Name, q.Families = "other", slices.Clone(p.Families)
	slices.Reverse(q.Families)
	q.Texture = features.Texture{GLCMDistance: 1, GLCMWeighting: "none"} // the defaults
	if p.Hash() != q.Hash() {
		t.Error("name, order of families or defaults that are written out count")
	}
	q.Resample.Round = false
	if p.Hash() == q.Hash() {
		t.Error("rounding does not count")
	}
}
