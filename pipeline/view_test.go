package pipeline

import (
	"bytes"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/testdata"
)

// asStored is the intensity statistics of the voxels as they are.
func asStored() features.Profile {
	return features.Profile{Name: "as stored", Families: []features.Family{features.Statistics}}
}

func valueOf(t *testing.T, r MeasuredRegion, tag string) float64 {
	t.Helper()
	for _, v := range r.Result.Values {
		if v.Tag == tag && v.Reason == "" {
			return v.Value
		}
	}
	t.Fatalf("no %s", tag)
	return 0
}

// Normalisation is that of the whole image, by the voxels of the reference region: (x - mean) / SD, by the plain formula.
// Regions that ask for none have the values of the images, beside them.
func TestNormalisedRegions(t *testing.T) {
	contours, images := readStudy(t, testdata.SyntheticCT)
	measure := func(normalise func(number int) features.Normalise) *Measured {
		t.Helper()
		m, err := Measure(t.Context(), Request{Contours: contours, Images: images, Choose: func(_ *dicom.DataSet, r roi.Region) (features.Profile, bool, error) {
			p := asStored()
			p.Normalise = normalise(r.Number)
			return p, true, p.Validate()
		}})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	plain := measure(func(int) features.Normalise { return features.Normalise{} })
	lesion, oedema := plain.Regions[0], plain.Regions[1]
	mean, sd := valueOf(t, oedema, "stat_mean"), math.Sqrt(valueOf(t, oedema, "stat_var"))

	m := measure(func(number int) features.Normalise {
		if number == 1 {
			return features.Normalise{Method: "zscore", Region: "^Oedema$"}
		}
		return features.Normalise{}
	})
	want := (valueOf(t, lesion, "stat_mean") - mean) / sd
	if got := valueOf(t, m.Regions[0], "stat_mean"); math.Abs(got-want) > 1e-6 {
		t.Errorf("mean %v, want %v", got, want)
	}
	if got := valueOf(t, m.Regions[1], "stat_mean"); got != mean {
		t.Errorf("a region that asks for no normalisation has the mean %v, want %v", got, mean)
	}
	if m.Regions[0].Image.Unit != "1" || m.Regions[1].Image.Unit != "HU" {
		t.Errorf("units %q and %q", m.Regions[0].Image.Unit, m.Regions[1].Image.Unit)
	}
	if notes := strings.Join(m.Regions[0].Image.Notes, "\n"); !strings.Contains(notes, "z-score") {
		t.Errorf("no note says how: %q", notes)
	}
	if notes := strings.Join(m.Regions[1].Image.Notes, "\n"); strings.Contains(notes, "z-score") {
		t.Errorf("what was not normalised says so: %q", notes)
	}

	// In the report each region says what was done with the images for it, and has its own unit.
	made, err := testOptions().Make(m, Revision{Input: "x", Number: 1}, DefaultStyle)
	if err != nil {
		t.Fatal(err)
	}
	f, err := dicom.ReadDataSet(bytes.NewReader(made.report().Data), int64(len(made.report().Data)), dicom.ExplicitVRLittleEndian)
	if err != nil {
		t.Fatal(err)
	}
	groups, err := sr.Measurements(f.DataSet)
	if err != nil {
		t.Fatal(err)
	}
	for i, unit := range []string{"1", "[hnsf'U]"} {
		for _, v := range groups[i].Measurements {
			if v.Concept.Value == "Q4LE" && v.Unit.Value != unit {
				t.Errorf("region %d: the mean has the unit %s, want %s", i+1, v.Unit.Value, unit)
			}
		}
		if says := strings.Join(groups[i].Comments, "\n"); strings.Contains(says, "z-score") != (i == 0) {
			t.Errorf("region %d says %q", i+1, says)
		}
	}
	sheet := (&writing{Options: testOptions(), m: m}).sheet("en")
	for i, l := range sheet.Lesions {
		if says := strings.Join(l.Comments, "\n"); strings.Contains(says, "z-score") != (i == 0) {
			t.Errorf("the page of region %d says %q", i+1, says)
		}
	}
	if says := strings.Join(sheet.Notes, "\n"); strings.Contains(says, "z-score") {
		t.Errorf("the pages say of all regions %q", says)
	}

	m = measure(func(number int) features.Normalise {
		if number == 1 {
			return features.Normalise{Method: "mean", Region: "^muscle"}
		}
		return features.Normalise{}
	})
	if len(m.Regions) != 1 || len(m.Skipped) != 1 || m.Skipped[0].Reason.Code != refusal.ImageNormalise {
		t.Errorf("without the reference region %d regions are measured, %+v skipped", len(m.Regions), m.Skipped)
	}
}

// Two kinds of SUV in one report: STS_001 before any processing. The figures are those of the data's README.
func TestKindsOfSUV(t *testing.T) {
	root := filepath.Join(filepath.Dir(filepath.Dir(sharedLung1(t))), "sts_raw", "STS_001", "FDG_PET")
	contours, images := readAll(t, filepath.Join(root, "mask"))[0], readAll(t, filepath.Join(root, "image"))
	for kind, c := range map[string]struct {
		low, high float64 // of the maximum
		unit      string
	}{
		"":          {7.9, 8.0, "g/ml{SUVbw}"},
		"bw":        {7.9, 8.0, "g/ml{SUVbw}"},
		"lbm-james": {5.9, 6.1, "g/ml{SUVlbm(James128)}"},
		"none":      {1e4, 1e6, "Bq/ml"},
	} {
		m, err := Measure(t.Context(), Request{Contours: contours, Images: images, Choose: func(_ *dicom.DataSet, r roi.Region) (features.Profile, bool, error) {
			p := asStored()
			if r.Name == "GTV_Mass" {
				p.SUV = kind
			}
			return p, true, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range m.Regions {
			low, high, unit := c.low, c.high, c.unit
			if r.Region.Name != "GTV_Mass" {
				low, high, unit = 7.9, 8.0, "g/ml{SUVbw}"
			}
			if most := valueOf(t, r, "stat_max"); most < low || most > high || r.Image.Unit != unit {
				t.Errorf("%q, %s: maximum %v %s, want %v to %v %s", kind, r.Region.Name, most, r.Image.Unit, low, high, unit)
			}
		}
		m.Release()
	}
}
