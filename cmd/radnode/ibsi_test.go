package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/testdata"
)

// Processing of the IBSI CT phantom, configurations C and D of the reference manual, and of the digital phantom, which is
// measured as it is.
var ibsiProfiles = map[string]string{
	"digital": `families: [morph, loc, stat]`,
	"c": `
resample: {spacing: [2, 2, 2], image: linear, mask: linear, mask_threshold: 0.5, round: true}
resegment: {range: [-1000, 400]}
discretise: {method: fbs, width: 25}
aggregate: [3D_comb]
families: [morph, loc, stat]`,
	"d": `
resample: {spacing: [2, 2, 2], image: linear, mask: linear, mask_threshold: 0.5, round: true}
resegment: {outliers: 3}
discretise: {method: fbn, bins: 32}
aggregate: [3D_comb]
families: [morph, loc, stat]`,
}

// A reference is one line of the IBSI reference tables: value;tolerance;tag.
type reference struct {
	value, tolerance float64
	figures          int // significant digits of the value as printed
}

// readReferences reads the values of the families that this version computes. The tables leave out what IBSI did not
// standardise.
func readReferences(t *testing.T, r io.Reader) map[string]reference {
	t.Helper()
	table := csv.NewReader(r)
	table.Comma, table.Comment, table.FieldsPerRecord = ';', '#', -1
	records, err := table.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]reference{}
	for _, rec := range records {
		if len(rec) < 3 || rec[0] == "" {
			continue
		}
		tag := strings.TrimSpace(rec[2])
		if !slices.ContainsFunc([]string{"morph_", "loc_", "stat_"}, func(p string) bool { return strings.HasPrefix(tag, p) }) || strings.Contains(tag, "_mask_") {
			continue
		}
		value, err := strconv.ParseFloat(rec[0], 64)
		if err != nil {
			continue // the heading
		}
		tolerance, err := strconv.ParseFloat(rec[1], 64)
		if err != nil {
			t.Fatalf("%s: tolerance %q", tag, rec[1])
		}
		out[tag] = reference{value, tolerance, 3}
	}
	if len(out) < 45 {
		t.Fatalf("only %d reference values read", len(out))
	}
	return out
}

// within compares at the precision of the table, three significant figures, as IBSI's own compliance check does.
func (r reference) within(v float64) bool {
	if v != 0 {
		scale := math.Pow(10, float64(r.figures)-1-math.Floor(math.Log10(math.Abs(v))))
		v = math.Round(v*scale) / scale
	}
	return math.Abs(v-r.value) <= r.tolerance*(1+1e-9)
}

func compare(t *testing.T, refs map[string]reference, got map[string]float64) {
	t.Helper()
	for tag, ref := range refs {
		v, ok := got[tag]
		if !ok {
			t.Errorf("%s is missing, want %v", tag, ref.value)
			continue
		}
		if !ref.within(v) {
			t.Errorf("%s = %v, want %v ± %v", tag, v, ref.value, ref.tolerance)
		}
	}
}

// The published values come out of radnode extract and, over the network, out of the report.
func TestPublishedValues(t *testing.T) {
	for _, c := range []struct {
		name, profile string
		study         func(t *testing.T) string // a folder
		table         func(t *testing.T) io.Reader
	}{
		{"digital phantom", "digital", bundledPhantom, func(t *testing.T) io.Reader {
			b, err := testdata.FS.ReadFile(testdata.DigitalPhantomReference)
			if err != nil {
				t.Fatal(err)
			}
			return bytes.NewReader(b)
		}},
		{"CT phantom, configuration C", "c", ctPhantom, sharedTable("chest_config_c.csv")},
		{"CT phantom, configuration D", "d", ctPhantom, sharedTable("chest_config_d.csv")},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := c.study(t)
			refs := readReferences(t, c.table(t))
			profile := filepath.Join(t.TempDir(), "ibsi-"+c.profile+".yaml")
			if err := os.WriteFile(profile, []byte(ibsiProfiles[c.profile]), 0o644); err != nil {
				t.Fatal(err)
			}

			var out, errs bytes.Buffer
			if code := execute(t.Context(), []string{"extract", "--profile", profile, "--format", "json", folder}, &out, &errs); code != 0 {
				t.Fatalf("extract: exit %d: %s", code, errs.String())
			}
			var rows []row
			if err := json.Unmarshal(out.Bytes(), &rows); err != nil {
				t.Fatal(err)
			}
			got, byCode := map[string]float64{}, map[string]float64{}
			for _, r := range rows {
				if r.Value != nil {
					got[r.Feature] = *r.Value
					byCode[r.IBSICode] = *r.Value
				}
			}
			compare(t, refs, got)

			pacs := startPACS(t, "127.0.0.1:0")
			cfg := testConfig(t)
			cfg.Deliver = []string{pacs.destination()}
			p, err := readProfile(profile)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Profiles = map[string]features.Profile{"ibsi": p}
			cfg.Rules = []pipeline.Rule{{Profile: "ibsi"}}
			n, _ := startNode(t, cfg)
			var sent, said bytes.Buffer
			if code := execute(t.Context(), []string{"send", n.peer().String(), folder, "-j", "2"}, &sent, &said); code != 0 {
				t.Fatalf("send: exit %d: %s", code, said.String())
			}
			report := values(t, pacs.waitReports(t, 1)[0].dataSet(t))
			if len(report) != 1 {
				t.Fatalf("%d regions in the report, want 1", len(report))
			}
			for _, region := range report {
				reported := map[string]float64{}
				for code, v := range region {
					if v != byCode[code] {
						t.Errorf("%s: the report has %v, extract %v", code, v, byCode[code])
					}
					for _, f := range features.Table {
						if f.Code == code {
							reported[f.Tag] = v
						}
					}
				}
				compare(t, refs, reported)
			}
		})
	}
}

func sharedTable(name string) func(t *testing.T) io.Reader {
	return func(t *testing.T) io.Reader {
		b, err := os.ReadFile(shared(t, "data", "ibsi1", "reference_values", name))
		if err != nil {
			t.Fatal(err)
		}
		return bytes.NewReader(b)
	}
}

func ctPhantom(t *testing.T) string { return shared(t, "data", "ibsi1", "ct_phantom", "dicom") }

// bundledPhantom writes the bundled digital phantom into a folder.
func bundledPhantom(t *testing.T) string {
	dir := t.TempDir()
	entries, err := testdata.FS.ReadDir(testdata.DigitalPhantom)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := testdata.FS.ReadFile(testdata.DigitalPhantom + "/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The same through NIfTI.
func TestPublishedValuesThroughNIfTI(t *testing.T) {
	for _, c := range []struct{ name, profile, folder, table string }{
		{"digital phantom", "digital", "digital_phantom", "dig_phantom.csv"},
		{"CT phantom, configuration C", "c", "ct_phantom", "chest_config_c.csv"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := shared(t, "data", "ibsi1", c.folder, "nifti")
			refs := readReferences(t, sharedTable(c.table)(t))
			profile := filepath.Join(t.TempDir(), "p.yaml")
			if err := os.WriteFile(profile, []byte(ibsiProfiles[c.profile]), 0o644); err != nil {
				t.Fatal(err)
			}
			image, mask := filepath.Join(dir, "image", "phantom.nii.gz"), filepath.Join(dir, "mask", "mask.nii.gz")
			out := radnode(t, "extract", "--profile", profile, "--image", image, "--mask", mask, "--format", "json")
			var rows []row
			if err := json.Unmarshal([]byte(out), &rows); err != nil {
				t.Fatal(err)
			}
			got := map[string]float64{}
			for _, r := range rows {
				if r.Value != nil {
					got[r.Feature] = *r.Value
				}
			}
			compare(t, refs, got)

			// Image and mask must lie on one grid.
			other := shared(t, "data", "ibsi1", map[string]string{"digital_phantom": "ct_phantom", "ct_phantom": "digital_phantom"}[c.folder], "nifti", "mask", "mask.nii.gz")
			var o, e bytes.Buffer
			if code := execute(t.Context(), []string{"extract", "--image", image, "--mask", other}, &o, &e); code != exitFailed || !strings.Contains(e.String(), "same grid") {
				t.Errorf("a mask on another grid: exit %d, %s", code, e.String())
			}
		})
	}
}
