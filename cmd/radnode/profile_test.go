package main

import (
	"bytes"
	"context"
	"math"
	"slices"
	"testing"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"

	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/testdata"
)

// tinyPhantom is a region of 62 voxels with a hole, at the border of a grid so fine that the finest spacing of a profile makes
// it five times as large.
func tinyPhantom() (*voxel.Grid, *voxel.Mask) {
	geo := voxel.Geometry{Size: [3]int{5, 4, 4}, Spacing: [3]float64{0.05, 0.04, 0.03}, Axes: [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}
	g, m := &voxel.Grid{Geometry: geo}, &voxel.Mask{Geometry: geo}
	seed := uint32(1)
	for i := range geo.Len() {
		seed = seed*1664525 + 1013904223
		g.Data = append(g.Data, float32(int(seed>>24))-100.5)
		in := uint8(1)
		if i%5 == 4 || i == 27 || i == 51 {
			in = 0
		}
		m.Data = append(m.Data, in)
	}
	return g, m
}

// Whatever a profile file holds, the reader refuses it or it can be computed with: no panic, every value that it asks for is
// there, and a value is a number or has a reason. What was read can be written and read again.
func FuzzProfile(f *testing.F) {
	for _, name := range []string{"digital-phantom", "config-a", "config-b", "config-c", "config-d", "config-e"} {
		b, err := testdata.FS.ReadFile("ibsi1/" + name + ".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("families: [cm, ngt, ngl]\naggregate: [2_5D_comb]\nfeatures: [cm_joint_max, ngl_lde]\ndiscretise: {method: fbn, bins: 4096}\n" +
		"texture: {glcm_distance: 5, glcm_weighting: exponential, glcm_norm: chebyshev, ngtdm_distance: 3, ngldm_distance: 2, ngldm_coarseness: 3}\nfilters: []\n"))
	f.Add([]byte("families: [ih, ivh]\nresegment: {range: [-.inf, 1e3], outliers: 0.5}\nivh: {method: fbs, width: 0.001}\n" +
		"resample: {spacing: [0, 0.01, 100], image: nearest, mask: nearest, mask_threshold: 1}\n"))
	f.Add([]byte("families: !cm, ")) // the YAML library panics
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseProfile(b)
		if err != nil {
			return
		}
		roundTrip(t, p)
		computes(t, p)
	})
}

// computes measures a region by a valid profile.
func computes(t interface {
	Errorf(string, ...any)
	Fatalf(string, ...any)
}, p features.Profile) {
	g, m := tinyPhantom()
	if e := features.Estimate(g.Geometry, m.Bounds(), p); e < 0 || e > 4<<30 {
		t.Fatalf("would take %d bytes", e)
	}
	res, err := features.Extract(context.Background(), g, m, p)
	if err != nil {
		t.Fatalf("%v", err)
	}
	d, err := features.Diagnostics(context.Background(), g, m, p)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var tags []string
	for _, v := range res.Values {
		tags = append(tags, v.Tag)
	}
	if want := features.Tags(p); !slices.Equal(tags, want) {
		t.Errorf("values %v, want %v", tags, want)
	}
	for _, v := range slices.Concat(res.Values, d) {
		if math.IsNaN(v.Value) || math.IsInf(v.Value, 0) || v.Reason != "" && v.Value != 0 {
			t.Errorf("%s = %v, reason %q", v.Tag, v.Value, v.Reason)
		}
	}
}

// roundTrip writes a valid profile as YAML and reads it again: the same in all that counts, and the same bytes when written
// once more.
func roundTrip(t interface{ Fatalf(string, ...any) }, p features.Profile) {
	text, err := yaml.Marshal(p)
	if err != nil {
		t.Fatalf("%+v: %v", p, err)
	}
	back, err := parseProfile(text)
	if err != nil {
		t.Fatalf("written as\n%s\nit is not read: %v", text, err)
	}
	if back.Hash() != p.Hash() || back.Notation() != p.Notation() || !slices.Equal(features.Tags(back), features.Tags(p)) {
		t.Fatalf("written as\n%s\n%+v\nbecame\n%+v", text, p, back)
	}
	if again, err := yaml.Marshal(back); err != nil || !bytes.Equal(again, text) {
		t.Fatalf("written as\n%s\nthen as\n%s (%v)", text, again, err)
	}
}

// The same for profiles that are valid from the start, which mutated text seldom is.
func TestProfiles(t *testing.T) {
	for _, modality := range []string{"CT", "MR", "PT", "US"} {
		roundTrip(t, features.DefaultProfile(modality))
	}
	drawDiscretise := func(t *rapid.T, name string) (d features.Discretise) {
		switch d.Method = rapid.SampledFrom([]string{"", "none", "fbs", "fbn"}).Draw(t, name); d.Method {
		case "fbs":
			d.Width = rapid.OneOf(rapid.Float64Range(1e-300, 1e300), rapid.Float64Range(0.05, 50)).Draw(t, "width")
		case "fbn":
			d.Bins = rapid.IntRange(2, 4096).Draw(t, "bins")
		}
		return d
	}
	var families []features.Family
	for _, f := range features.Table {
		if !slices.Contains(families, f.Family) {
			families = append(families, f.Family)
		}
	}
	aggregations := []features.Aggregation{features.Agg2DAvg, features.Agg2DComb, features.Agg25DAvg, features.Agg25DComb, features.Agg3DAvg, features.Agg3DComb}
	rapid.Check(t, func(t *rapid.T) {
		spacing := rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0.01, 100))
		p := features.Profile{
			Resample: features.Resample{
				Image:         rapid.SampledFrom([]string{"nearest", "linear", "cubic"}).Draw(t, "image"),
				Mask:          rapid.SampledFrom([]string{"nearest", "linear"}).Draw(t, "mask"),
				MaskThreshold: rapid.Float64Range(math.SmallestNonzeroFloat64, 1).Draw(t, "threshold"),
				Round:         rapid.Bool().Draw(t, "round"),
			},
			Resegment:  features.Resegment{Outliers: rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0, 4), rapid.Float64Range(0, 1e300)).Draw(t, "outliers")},
			Discretise: drawDiscretise(t, "discretise"),
			IVH:        drawDiscretise(t, "ivh"),
			Texture: features.Texture{
				GLCMDistance:    rapid.IntRange(0, 5).Draw(t, "glcm distance"),
				GLCMWeighting:   rapid.SampledFrom([]string{"", "none", "inverse", "exponential"}).Draw(t, "weighting"),
				GLCMNorm:        rapid.SampledFrom([]string{"", "euclidean", "manhattan", "chebyshev"}).Draw(t, "norm"),
				NGTDMDistance:   rapid.IntRange(0, 5).Draw(t, "ngtdm distance"),
				NGLDMDistance:   rapid.IntRange(0, 5).Draw(t, "ngldm distance"),
				NGLDMCoarseness: rapid.IntRange(0, 9).Draw(t, "coarseness"),
			},
			Families:  rapid.SliceOfNDistinct(rapid.SampledFrom(families), 1, len(families), rapid.ID).Draw(t, "families"),
			Aggregate: rapid.SliceOfNDistinct(rapid.SampledFrom(aggregations), 1, len(aggregations), rapid.ID).Draw(t, "aggregate"),
		}
		if rapid.Bool().Draw(t, "interpolate") {
			p.Resample.Spacing = []float64{spacing.Draw(t, "x"), spacing.Draw(t, "y"), spacing.Draw(t, "z")}
		}
		if rapid.Bool().Draw(t, "range") {
			bound := rapid.OneOf(rapid.Float64(), rapid.Float64Range(-200, 200))
			low, high := bound.Draw(t, "low"), bound.Draw(t, "high")
			p.Resegment.Range = []float64{min(low, high), max(low, high)}
			if rapid.Bool().Draw(t, "open") {
				p.Resegment.Range[rapid.IntRange(0, 1).Draw(t, "side")] = math.Inf(2*rapid.IntRange(0, 1).Draw(t, "sign") - 1)
			}
		}
		if rapid.Bool().Draw(t, "some features") {
			var tags []string
			for _, f := range features.Table {
				if slices.Contains(p.Families, f.Family) {
					tags = append(tags, f.Tag)
				}
			}
			p.Features = rapid.SliceOfNDistinct(rapid.SampledFrom(tags), 1, 5, rapid.ID).Draw(t, "features")
		}
		if p.Validate() != nil {
			t.Skip()
		}
		roundTrip(t, p)
		computes(t, p)
	})
}
