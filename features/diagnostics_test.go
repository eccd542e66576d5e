package features_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
	"pgregory.net/rapid"
)

// Slices at a time and one walk through the chain give what the plain way gives:
// the whole interpolated image, and the chain from its beginning for each step.
func TestDiagnostics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := [3]int{rapid.IntRange(1, 9).Draw(t, "nx"), rapid.IntRange(1, 9).Draw(t, "ny"), rapid.IntRange(1, 40).Draw(t, "nz")}
		g, m := blob(size, rapid.Uint32().Draw(t, "seed"))
		m.Data[rapid.IntRange(0, len(m.Data)-1).Draw(t, "voxel")] = 1
		p := plain()
		if rapid.Bool().Draw(t, "interpolate") {
			spacing := rapid.SampledFrom([]float64{0, 0.7, 1, 3, 20})
			p.Resample = features.Resample{
				Spacing: []float64{spacing.Draw(t, "x"), spacing.Draw(t, "y"), spacing.Draw(t, "z")},
				Image:   rapid.SampledFrom([]string{"nearest", "linear", "cubic"}).Draw(t, "image"),
				Mask:    "linear", MaskThreshold: 0.5,
			}
		}
		p.Resample.Round = rapid.Bool().Draw(t, "round")
		if rapid.Bool().Draw(t, "range") {
			p.Resegment.Range = []float64{rapid.Float64Range(-100, 300).Draw(t, "from"), 301}
		}
		got, err := features.Diagnostics(context.Background(), g, m, p)
		if err != nil {
			t.Fatal(err)
		}
		want := diagnostics(t, g, m, p)
		if len(got) != 60 || len(want) != 60 || len(features.DiagnosticTable) != 60 {
			t.Fatalf("%d values, want %d, a row of the table each (%d)", len(got), len(want), len(features.DiagnosticTable))
		}
		for i, v := range got {
			if row := features.DiagnosticTable[i]; v.Tag != row.Tag || v.Unit != row.Unit {
				t.Errorf("value %d is %s in %q, the table says %s in %q", i, v.Tag, v.Unit, row.Tag, row.Unit)
			}
			w, ok := want[v.Tag]
			switch {
			case !ok:
				t.Errorf("%s is not among the 60", v.Tag)
			case math.IsNaN(w) || math.IsInf(w, 0): // an empty mask
				if v.Reason == "" || v.Value != 0 {
					t.Errorf("%s = %v, reason %q; the mask is empty", v.Tag, v.Value, v.Reason)
				}
			case v.Reason != "" || v.Value != w:
				t.Errorf("%s = %v (%s), want %v", v.Tag, v.Value, v.Reason, w)
			}
		}
	})
}

// diagnostics are the values of the reference tables for the steps of the chain.
func diagnostics(t interface{ Fatal(...any) }, image *voxel.Grid, mask *voxel.Mask, p features.Profile) map[string]float64 {
	d := map[string]float64{}
	grid := func(at string, g *voxel.Grid) {
		sum, lo, hi := 0.0, math.Inf(1), math.Inf(-1)
		for _, v := range g.Data {
			x := float64(v)
			sum, lo, hi = sum+x, min(lo, x), max(hi, x)
		}
		for a, axis := range "xyz" {
			d[fmt.Sprintf("img_dim_%c_%s_img", axis, at)] = float64(g.Size[a])
			d[fmt.Sprintf("vox_dim_%c_%s_img", axis, at)] = g.Spacing[a]
		}
		d["mean_int_"+at+"_img"] = sum / float64(len(g.Data))
		d["min_int_"+at+"_img"], d["max_int_"+at+"_img"] = lo, hi
	}
	region := func(at string, whole voxel.Geometry, roi *features.ROI) {
		for a, axis := range "xyz" {
			d[fmt.Sprintf("int_mask_dim_%c_%s_roi", axis, at)] = float64(whole.Size[a])
			d[fmt.Sprintf("int_mask_bb_dim_%c_%s_roi", axis, at)] = float64(roi.Intensity.Bounds().Size()[a])
			d[fmt.Sprintf("morph_mask_bb_dim_%c_%s_roi", axis, at)] = float64(roi.Morph.Bounds().Size()[a])
		}
		d["int_mask_vox_count_"+at+"_roi"] = float64(roi.Intensity.Count())
		d["morph_mask_vox_count_"+at+"_roi"] = float64(roi.Morph.Count())
		sum, lo, hi := 0.0, math.Inf(1), math.Inf(-1)
		for i, in := range roi.Intensity.Data {
			if x := float64(roi.Image.Data[i]); in != 0 {
				sum, lo, hi = sum+x, min(lo, x), max(hi, x)
			}
		}
		d["int_mask_mean_int_"+at+"_roi"] = sum / float64(roi.Intensity.Count())
		d["int_mask_min_int_"+at+"_roi"], d["int_mask_max_int_"+at+"_roi"] = lo, hi
	}
	chain := func(p features.Profile) *features.ROI {
		roi, err := features.Prepare(image, mask, p)
		if err != nil {
			t.Fatal(err)
		}
		return roi
	}
	grid("init", image)
	first := chain(features.Profile{})
	region("init", first.Geometry, first)
	interpolated := p
	interpolated.Resegment = features.Resegment{}
	second := chain(interpolated)
	whole := image.Crop(image.Box())
	if second.Geometry != image.Geometry {
		method, err := voxel.ParseMethod(p.Resample.Image)
		if err != nil {
			t.Fatal(err)
		}
		whole = voxel.Resample(image, second.Geometry, second.Geometry.Box(), method)
	}
	for i, v := range whole.Data {
		if p.Resample.Round {
			whole.Data[i] = float32(math.RoundToEven(float64(v)))
		}
	}
	grid("interp", whole)
	region("interp", second.Geometry, second)
	third := chain(p)
	region("reseg", third.Geometry, third)
	return d
}

// What has no value says why; what cannot be measured at all is the error of Extract.
func TestDiagnosticsOfTheLost(t *testing.T) {
	lacking := func(g *voxel.Grid, m *voxel.Mask, p features.Profile) map[string]string {
		t.Helper()
		values, err := features.Diagnostics(context.Background(), g, m, p)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, v := range values {
			if v.Reason != "" {
				out[v.Tag] = v.Reason
			}
		}
		return out
	}
	three := func(reason, format string) map[string]string {
		out := map[string]string{}
		for _, s := range []string{"mean", "min", "max"} {
			out[fmt.Sprintf(format, s)] = reason
		}
		return out
	}
	both := func(a, b map[string]string) map[string]string {
		for k, v := range b {
			a[k] = v
		}
		return a
	}
	geo := geometry([3]int{40, 20, 20}, [3]float64{1, 1, 1})
	g, m := &voxel.Grid{Geometry: geo, Data: make([]float32, geo.Len())}, &voxel.Mask{Geometry: geo, Data: make([]uint8, geo.Len())}
	one := 10*40*20 + 10*40 + 30
	m.Data[one] = 1

	p := plain()
	p.Resegment.Range = []float64{5, 6}
	after := three("no voxel of the ROI is left after re-segmentation", "int_mask_%s_int_reseg_roi")
	if d := cmp.Diff(after, lacking(g, m, p)); d != "" {
		t.Errorf("re-segmented away: %s", d)
	}
	p.Resample = features.Resample{Spacing: []float64{7, 7, 7}, Image: "linear", Mask: "linear", MaskThreshold: 0.9}
	if d := cmp.Diff(both(three("no voxel of the ROI is left after interpolation", "int_mask_%s_int_interp_roi"), after), lacking(g, m, p)); d != "" {
		t.Errorf("lost between the voxels: %s", d)
	}

	// Far from the region a voxel may lack a value; Extract does not see it.
	g.Data[0] = float32(math.NaN())
	const infinite = "a voxel has no finite value"
	p = plain()
	if d := cmp.Diff(both(three(infinite, "%s_int_init_img"), three(infinite, "%s_int_interp_img")), lacking(g, m, p)); d != "" {
		t.Errorf("NaN far away: %s", d)
	}
	g.Data[0], g.Data[one] = 0, float32(math.Inf(1))
	if _, err := features.Diagnostics(context.Background(), g, m, p); err == nil || !strings.Contains(err.Error(), "no finite value") {
		t.Errorf("infinite in the region: %v", err)
	}
	g.Data[one] = 0
	m.Data[one] = 0
	if _, err := features.Diagnostics(context.Background(), g, m, p); !errors.Is(err, features.ErrEmptyROI) {
		t.Errorf("empty: %v", err)
	}
	m.Data[one] = 1
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := features.Diagnostics(ctx, g, m, p); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	p.Families = nil
	if _, err := features.Diagnostics(context.Background(), g, m, p); err == nil || !strings.Contains(err.Error(), "families") {
		t.Errorf("faulty profile: %v", err)
	}
}
