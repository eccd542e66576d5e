package features_test

import (
	"context"
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
)

// A reference is one row of an IBSI reference table.
type reference struct {
	tag, text        string
	value, tolerance float64
	standard         bool // whether there is a value
}

// readReference reads "reference value;tolerance;tag".
func readReference(t *testing.T, file string) []reference {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma = ';'
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []reference
	for _, row := range rows[1:] {
		ref := reference{tag: row[2], text: row[0]}
		if row[0] != "" {
			ref.standard = true
			ref.value, err = strconv.ParseFloat(row[0], 64)
			if err == nil {
				ref.tolerance, err = strconv.ParseFloat(row[1], 64)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, ref)
	}
	return out
}

// matches compares at the table's precision, three significant figures: the
// value is rounded to them first, as the table's own was. A reference with more
// figures (counts of voxels) is compared as it is.
func (r reference) matches(got float64) bool {
	digits := 3
	if n := len(strings.TrimLeft(r.text, "-")); !strings.Contains(r.text, ".") && n <= 6 && (strings.Contains(r.tag, "mask_") || strings.HasSuffix(r.tag, "_img")) {
		digits = max(3, n)
	}
	if got != 0 {
		got, _ = strconv.ParseFloat(strconv.FormatFloat(got, 'e', digits-1, 64), 64)
	}
	return math.Abs(got-r.value) <= r.tolerance+1e-9*math.Abs(r.value)
}

// featureRows drops the rows of diagnostic values.
func featureRows(refs []reference) []reference {
	return slices.DeleteFunc(slices.Clone(refs), func(r reference) bool {
		_, _, ok := features.Lookup(r.tag)
		return !ok
	})
}

func compare(t *testing.T, refs []reference, values []features.Value) {
	t.Helper()
	got := map[string]features.Value{}
	for _, v := range values {
		got[v.Tag] = v
	}
	for _, r := range refs {
		v, ok := got[r.tag]
		switch {
		case !ok:
			t.Errorf("%s is in the reference table and not in the output", r.tag)
		case v.Reason != "":
			t.Errorf("%s has no value: %s", r.tag, v.Reason)
		case r.standard && !r.matches(v.Value):
			t.Errorf("%s = %.6g, want %s ± %g", r.tag, v.Value, r.text, r.tolerance)
		}
	}
}

// shared finds reference data beside the checkout.
func shared(t testing.TB, path ...string) string {
	t.Helper()
	root := os.Getenv("RADNODE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "shared")
	}
	p := filepath.Join(append([]string{root, "data"}, path...)...)
	if _, err := os.Stat(p); err != nil {
		t.Skipf("needs the reference data, set RADNODE_SHARED or put it at ../shared: %v", err)
	}
	return p
}

func readNIfTI(t testing.TB, file string) *voxel.Grid {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, err := voxel.ReadNIfTI(f)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// digitalPhantom reads testdata/digital-phantom.txt.
func digitalPhantom(t testing.TB) (*voxel.Grid, *voxel.Mask) {
	t.Helper()
	text, err := os.ReadFile("testdata/digital-phantom.txt")
	if err != nil {
		t.Fatal(err)
	}
	geo := geometry([3]int{5, 4, 4}, [3]float64{2, 2, 2})
	g, m := &voxel.Grid{Geometry: geo}, &voxel.Mask{Geometry: geo}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		for _, s := range strings.Fields(line) {
			v, err := strconv.ParseFloat(strings.Trim(s, "()"), 32)
			if err != nil {
				t.Fatal(err)
			}
			in := uint8(1)
			if s[0] == '(' {
				in = 0
			}
			g.Data, m.Data = append(g.Data, float32(v)), append(m.Data, in)
		}
	}
	return g, m
}

// geometry is a grid along the patient's axes.
func geometry(size [3]int, spacing [3]float64) voxel.Geometry {
	return voxel.Geometry{Size: size, Spacing: spacing, Axes: [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}
}

// plain is a profile that changes nothing.
func plain() features.Profile {
	return features.Profile{Families: features.DefaultProfile("CT").Families, Aggregate: []features.Aggregation{features.Agg3DComb}}
}

var allAggregations = []features.Aggregation{features.Agg2DAvg, features.Agg2DComb, features.Agg25DAvg, features.Agg25DComb, features.Agg3DAvg, features.Agg3DComb}

func TestDigitalPhantom(t *testing.T) {
	g, m := digitalPhantom(t)
	refs := readReference(t, "../testdata/ibsi1/digital-phantom.csv")
	p := profile(t, "digital-phantom")
	if len(refs) != 482 || len(features.Tags(p)) != 487 {
		t.Errorf("%d rows in the reference table, want 482; %d values, want five more", len(refs), len(features.Tags(p)))
	}
	res, err := features.Extract(context.Background(), g, m, p)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, refs, res.Values)
}

// profile reads a profile of testdata/ibsi1, the ones that radnode ibsi goes by.
func profile(t testing.TB, name string) features.Profile {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", "ibsi1", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var p features.Profile
	if err := yaml.UnmarshalWithOptions(b, &p, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCTPhantom(t *testing.T) {
	image := readNIfTI(t, shared(t, "ibsi1", "ct_phantom", "nifti", "image", "phantom.nii.gz"))
	mask := readNIfTI(t, shared(t, "ibsi1", "ct_phantom", "nifti", "mask", "mask.nii.gz")).Threshold(0.5)
	for _, c := range []string{"a", "b", "c", "d", "e"} {
		t.Run(c, func(t *testing.T) {
			p := profile(t, "config-"+c)
			refs := readReference(t, shared(t, "ibsi1", "reference_values", "chest_config_"+c+".csv"))
			res, err := features.Extract(context.Background(), image, mask, p)
			if err != nil {
				t.Fatal(err)
			}
			compare(t, featureRows(refs), res.Values)
			values, err := features.Diagnostics(context.Background(), image, mask, p)
			if err != nil {
				t.Fatal(err)
			}
			// The table begins with them, in the same order.
			for i, v := range values {
				if refs[i].tag != v.Tag {
					t.Errorf("row %d of the table is %s, the output has %s", i, refs[i].tag, v.Tag)
				}
			}
			if len(values) != 60 {
				t.Errorf("%d diagnostic values, want 60", len(values))
			}
			compare(t, refs[:60], values)
		})
	}
}
