package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/testdata"
)

// ibsiProfile writes a built-in profile of the IBSI into a file for --profile.
func ibsiProfile(t *testing.T, name string) string {
	t.Helper()
	b, err := testdata.FS.ReadFile("ibsi1/" + name + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, filepath.Join(t.TempDir(), name+".yaml"), b)
}

func writeFile(t *testing.T, name string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// ibsiTable is a reference table as a file.
func ibsiTable(t *testing.T, profile string) string {
	t.Helper()
	if config, ok := strings.CutPrefix(profile, "config-"); ok {
		return shared(t, "data", "ibsi1", "reference_values", "chest_config_"+config+".csv")
	}
	b, err := testdata.FS.ReadFile(testdata.DigitalPhantomReference)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, filepath.Join(t.TempDir(), "digital-phantom.csv"), b)
}

func ibsiReferences(t *testing.T, profile string) []ibsiReference {
	t.Helper()
	f, err := os.Open(ibsiTable(t, profile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	refs, err := readReferences(f)
	if err != nil {
		t.Fatal(err)
	}
	return refs
}

// compare counts the references of the families that are met; the others are errors.
func compare(t *testing.T, refs []ibsiReference, got map[string]float64, families ...features.Family) (n int) {
	t.Helper()
	for _, ref := range refs {
		if ref.text == "" || len(families) > 0 && !slices.Contains(families, features.Family(ref.family)) {
			continue
		}
		switch v, ok := got[ref.tag]; {
		case !ok:
			t.Errorf("%s is missing, want %v", ref.tag, ref.value)
		case !ref.matches(v):
			t.Errorf("%s = %v, want %v ± %v", ref.tag, v, ref.value, ref.tolerance)
		default:
			n++
		}
	}
	return n
}

// The published values come out of radnode extract, by its own comparison and by that of .ci/check-ibsi.py; and, over the
// network, out of the report.
func TestPublishedValues(t *testing.T) {
	for _, c := range []struct {
		name, profile string
		study         func(t *testing.T) string // a folder
		want          int                       // how many there are
		report        int                       // how many of them come out of the report; 0 for no report
	}{
		{"digital phantom", "digital-phantom", bundledPhantom, 482, 482},
		{"CT phantom, configuration A", "config-a", ctPhantom, 406, 346},
		{"CT phantom, configuration B", "config-b", ctPhantom, 406, 0},
		{"CT phantom, configuration C", "config-c", ctPhantom, 270, 210},
		{"CT phantom, configuration D", "config-d", ctPhantom, 270, 0},
		{"CT phantom, configuration E", "config-e", ctPhantom, 270, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := c.study(t)
			refs := ibsiReferences(t, c.profile)
			profile := ibsiProfile(t, c.profile)
			file := filepath.Join(t.TempDir(), "values.csv")
			radnode(t, "extract", "--profile", profile, "--diagnostics", "--format", "csv", "--out", file, folder)
			got := extracted(t, file)
			if n := compare(t, refs, got); n != c.want {
				t.Errorf("%d values agree, want %d", n, c.want)
			}
			t.Run("independently", func(t *testing.T) {
				out := command(t, python(t), filepath.Join("..", "..", ".ci", "check-ibsi.py"), ibsiTable(t, c.profile), file)
				if want := fmt.Sprintf(": %d/%d\n", c.want, c.want); !strings.HasSuffix(out, want) {
					t.Errorf("want %q:\n%s", want, out)
				}
			})
			if c.report == 0 {
				return
			}

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
			reported := reportedValues(t, pacs.waitReports(t, 1)[0].dataSet(t))
			for tag, v := range reported {
				if v != got[tag] {
					t.Errorf("%s: the report has %v, extract %v", tag, v, got[tag])
				}
			}
			chain := slices.DeleteFunc(refs, func(r ibsiReference) bool { _, _, ok := features.Lookup(r.tag); return !ok })
			if n := compare(t, chain, reported); n != c.report {
				t.Errorf("%d values agree in the report, want %d", n, c.report)
			}
		})
	}
}

// reportedValues reads the values of a report of one region by their tags: a group says by its comments which aggregations
// and which fraction of the intensity-volume histogram it holds.
func reportedValues(t *testing.T, d *dicom.DataSet) map[string]float64 {
	t.Helper()
	groups, err := sr.Measurements(d)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, g := range groups {
		says := strings.Join(g.Comments, "\n")
		second := strings.Contains(says, "histogram: fraction of 90%")
		for _, m := range g.Measurements {
			if m.Concept.Scheme != sr.IBSI { // for the reader: the same in other words
				continue
			}
			tag := ""
			for _, f := range features.Table {
				if f.Code == m.Concept.Value && (f.Family != features.VolumeHistogram || second == (f.Tag == "ivh_v90" || f.Tag == "ivh_i90")) {
					tag = f.Tag
					break
				}
			}
			for _, a := range []features.Aggregation{features.Agg2D, features.Agg25D, features.Agg3D, features.Agg2DAvg, features.Agg2DComb,
				features.Agg25DAvg, features.Agg25DComb, features.Agg3DAvg, features.Agg3DComb} {
				code, _ := a.Describe()
				if _, _, ok := features.Lookup(tag + "_" + string(a)); ok && strings.Contains(says, "(IBSI "+code+")") {
					tag += "_" + string(a)
					break
				}
			}
			if _, twice := out[tag]; twice || tag == "" {
				t.Fatalf("%s is %q, which is there already or no feature", m.Concept, tag)
			}
			out[tag] = m.Value
		}
	}
	return out
}

// .ci/check-ibsi.py fails for a value that is wrong, that is not there, or that is there twice.
func TestCheckIBSI(t *testing.T) {
	exe := python(t)
	good := radnode(t, "extract", "--profile", ibsiProfile(t, "digital-phantom"), bundledPhantom(t))
	for _, c := range []struct{ name, old, new, say string }{
		{"all good", "", "", ": 482/482"},
		{"another value", ",morph_area_mesh,C0JK,", ",morph_area_mesh,C0JK,9", "morph_area_mesh"},
		{"no value", ",stat_max,84IY,6,", ",stat_max,84IY,,", "stat_max: no value"},
		{"not there", ",stat_max,", ",stat_most,", "stat_max: no value: not in the output"},
		{"twice", ",stat_min,", ",stat_max,", "twice"},
		{"another table", "ibsi_code,value", "ibsi_code,values", "value"},
	} {
		if strings.Count(good, c.old) != 1 && c.old != "" {
			t.Fatalf("%s: %q is not there once", c.name, c.old)
		}
		file := writeFile(t, filepath.Join(t.TempDir(), "values.csv"), []byte(strings.Replace(good, c.old, c.new, 1)))
		out, err := exec.Command(exe, filepath.Join("..", "..", ".ci", "check-ibsi.py"), ibsiTable(t, "digital-phantom"), file).CombinedOutput()
		if (err == nil) != (c.old == "") || !strings.Contains(string(out), c.say) {
			t.Errorf("%s: %v\n%s", c.name, err, out)
		}
	}
}

// extracted reads the values of one region from the CSV of radnode extract, by tag.
func extracted(t *testing.T, file string) map[string]float64 {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	column := func(name string) int { return slices.Index(rowNames, name) }
	for _, r := range rows[1:] {
		text := r[column("value")]
		if text == "" {
			continue
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		out[r[column("feature")]] = v
	}
	return out
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
	for _, c := range []struct {
		name, profile, folder, other string
		want                         int
	}{
		{"digital phantom", "digital-phantom", "digital_phantom", "ct_phantom", 482},
		{"CT phantom, configuration C", "config-c", "ct_phantom", "digital_phantom", 270},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := shared(t, "data", "ibsi1", c.folder, "nifti")
			file := filepath.Join(t.TempDir(), "values.csv")
			image, mask := filepath.Join(dir, "image", "phantom.nii.gz"), filepath.Join(dir, "mask", "mask.nii.gz")
			radnode(t, "extract", "--profile", ibsiProfile(t, c.profile), "--image", image, "--mask", mask, "--diagnostics", "--out", file)
			got := extracted(t, file)
			if n := compare(t, ibsiReferences(t, c.profile), got); n != c.want {
				t.Errorf("%d values agree, want %d", n, c.want)
			}

			// Image and mask must lie on one grid.
			other := shared(t, "data", "ibsi1", c.other, "nifti", "mask", "mask.nii.gz")
			var o, e bytes.Buffer
			if code := execute(t.Context(), []string{"extract", "--image", image, "--mask", other}, &o, &e); code != exitFailed || !strings.Contains(e.String(), "same grid") {
				t.Errorf("a mask on another grid: exit %d, %s", code, e.String())
			}
		})
	}
}

// ibsi runs radnode ibsi.
func ibsi(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = execute(t.Context(), append([]string{"ibsi"}, args...), &o, &e)
	return code, o.String(), e.String()
}

// ibsi --json writes the contract's names and nothing else, and a row for every published value.
func TestIBSIJSON(t *testing.T) {
	for _, c := range []struct {
		suite string
		want  map[string]int // by configuration
	}{
		{"digital", map[string]int{"digital/": 482}},
		{"ct", map[string]int{"ct/A": 406, "ct/B": 406, "ct/C": 270, "ct/D": 270, "ct/E": 270}},
	} {
		t.Run(c.suite, func(t *testing.T) {
			code, out, errs := ibsi(t, "--suite", c.suite, "--json", "--data", shared(t, "data"))
			if code != 0 || errs != "" {
				t.Fatalf("exit %d: %s", code, errs)
			}
			var rows []map[string]any
			if err := json.Unmarshal([]byte(out), &rows); err != nil {
				t.Fatal(err)
			}
			got := map[string]int{}
			for _, r := range rows {
				names := slices.Sorted(maps.Keys(r))
				if want := []string{"config", "feature", "pass", "reference", "suite", "tolerance", "value"}; !slices.Equal(names, want) {
					t.Fatalf("a row has %v, want %v", names, want)
				}
				if _, ok := r["value"].(float64); !ok || r["pass"] != true {
					t.Errorf("%v", r)
				}
				got[fmt.Sprintf("%s/%s", r["suite"], r["config"])]++
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("rows %v, want %v", got, c.want)
			}
		})
	}
}

// ibsi says what it compared, and with what.
func TestIBSIText(t *testing.T) {
	t.Chdir(t.TempDir()) // no data beside it
	code, out, errs := ibsi(t)
	if code != 0 || !strings.Contains(out, "482 of 482 values agree") || !strings.Contains(errs, "without the CT phantom") || !strings.Contains(errs, "--data") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if code, out, _ := ibsi(t, "--suite", "digital", "-v"); code != 0 || strings.Count(out, "reference") < 482 || !strings.Contains(out, "cm_joint_max_2_5D_avg") {
		t.Errorf("verbose: exit %d\n%s", code, out)
	}
	for _, c := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"--suite", "filters"}, exitUsage, "no filters"},
		{[]string{"--suite", "nonsense"}, exitUsage, "nonsense"},
		{[]string{"--suite", "ct"}, exitFailed, filepath.Join("..", "shared", "data")},
		{[]string{"--suite", "all"}, exitFailed, filepath.Join("..", "shared", "data")},
		{[]string{"--data", "here"}, exitFailed, "here"},
		{[]string{"--suite", "all", "--data", "here"}, exitFailed, "here"},
	} {
		if code, out, errs := ibsi(t, c.args...); code != c.code || !strings.Contains(errs, c.err) || out != "" {
			t.Errorf("%v: exit %d, want %d and %q\n%s%s", c.args, code, c.code, c.err, out, errs)
		}
	}
}

// What is wrong with the data is an error that names the place, and what differs from the table fails.
func TestIBSIFails(t *testing.T) {
	source := shared(t, "data", "ibsi1")
	const table = "chest_config_d.csv"
	for _, c := range []struct {
		name, old, new string // a change of that table
		out, err       string
	}{
		{"another value", "\n367000;6000;morph_volume\n", "\n387000;6000;morph_volume\n",
			"morph_volume                       367463, reference 387000 ± 6000", "1 of 1622 values are wrong or missing"},
		{"a tag that is not computed", "\n367000;6000;morph_volume\n", "\n367000;6000;morph_volume\n1;0;morph_unheard_of\n",
			"morph_unheard_of                   no value: missing in the output", "1 of 1623 values are wrong or missing"},
		{"a count off by one", "\n204;0;img_dim_x_init_img\n", "\n205;0;img_dim_x_init_img\n", "img_dim_x_init_img", "1 of 1622"},
		{"an incomplete table", "\n367000;6000;morph_volume\n", "\n", "", table + ": lacks morph_volume"},
		{"a tag twice", "\n367000;6000;morph_volume\n", "\n367000;6000;morph_volume\n367000;6000;morph_volume\n", "", "morph_volume"},
		{"no number", "\n367000;6000;morph_volume\n", "\n367O00;6000;morph_volume\n", "", table + `: line 62: reference value of morph_volume: "367O00"`},
		{"no tolerance", "\n367000;6000;morph_volume\n", "\n367000;;morph_volume\n", "", "tolerance of morph_volume"},
		{"a tolerance below 0", "\n367000;6000;morph_volume\n", "\n367000;-6000;morph_volume\n", "", "tolerance of morph_volume"},
		{"two columns", "\n367000;6000;morph_volume\n", "\n367000;morph_volume\n", "", "line 62"},
		{"another heading", "reference value;tolerance;tag", "tag,value", "", "is no IBSI reference table"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(filepath.Join(dir, "reference_values"), os.DirFS(filepath.Join(source, "reference_values"))); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(filepath.Join(source, "ct_phantom"), filepath.Join(dir, "ct_phantom")); err != nil {
				t.Skip(err)
			}
			file := filepath.Join(dir, "reference_values", table)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Count(b, []byte(c.old)) != 1 {
				t.Fatalf("%q is not there once", c.old)
			}
			if err := os.Remove(file); err != nil { // read-only like its source
				t.Fatal(err)
			}
			writeFile(t, file, bytes.Replace(b, []byte(c.old), []byte(c.new), 1))
			code, out, errs := ibsi(t, "--suite", "ct", "--data", dir)
			if code != exitFailed || !strings.Contains(out, c.out) || !strings.Contains(errs, c.err) {
				t.Errorf("exit %d, want %q and %q\n%s%s", code, c.out, c.err, out, errs)
			}
			if c.out == "" && out != "" {
				t.Errorf("begins to measure with a broken table:\n%s", out)
			}
		})
	}

	dir := t.TempDir()
	for _, name := range []string{"ct_phantom/dicom", "reference_values"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.FromSlash(name)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if code, _, errs := ibsi(t, "--data", dir); code != exitFailed || !strings.Contains(errs, "chest_config_a.csv") {
		t.Errorf("no tables: exit %d, %s", code, errs)
	}
	for _, c := range "abcde" {
		name := "chest_config_" + string(c) + ".csv"
		b, err := os.ReadFile(filepath.Join(source, "reference_values", name))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, "reference_values", name), b)
	}
	if code, _, errs := ibsi(t, "--data", dir); code != exitFailed || !strings.Contains(errs, filepath.Join(dir, "ct_phantom", "dicom")+": 0 RTSTRUCT") {
		t.Errorf("no images: exit %d, %s", code, errs)
	}
	if err := os.CopyFS(filepath.Join(dir, "ct_phantom", "dicom", "mask"), os.DirFS(filepath.Join(source, "ct_phantom", "dicom", "mask"))); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := ibsi(t, "--data", dir); code != exitFailed || !strings.Contains(errs, "none of its images") {
		t.Errorf("no images: exit %d, %s", code, errs)
	}
}

// The value is rounded as the reference was; what is counted in voxels is not.
func TestIBSIReference(t *testing.T) {
	for _, c := range []struct {
		row   string
		value float64
		want  bool
	}{
		{"0.698;0.004;morph_av", 0.7024, true},  // 0.702
		{"0.698;0.004;morph_av", 0.7026, false}, // 0.703
		{"0.698;0;morph_av", 0.6984, true},
		{"0.698;0;morph_av", 0.6986, false},
		{"0.03;0.0001;morph_comp_1", 0.03012, true},
		{"0.03;0.0001;morph_comp_1", 0.0302, false},
		{"4810000;320000;morph_integ_int", 5.134e6, true},
		{"4810000;320000;morph_integ_int", 5.136e6, false},
		{"-2.46;0.05;ih_skew", -2.51, true},
		{"-2.46;0.05;ih_skew", 2.46, false},
		{"6.98E-05;1.03E-05;ivh_v90", 8.01e-5, true},
		{"6.98E-05;1.03E-05;ivh_v90", 8.02e-5, false},
		{"3065;0;max_int_init_img", 3065.2, true},
		{"3065;0;max_int_init_img", 3066, false},
		{"-46.9;0;int_mask_mean_int_init_roi", -46.94, true},
		{"0.977;0;vox_dim_x_init_img", 0.9769999, true},
		{"100;0;int_mask_bb_dim_x_init_roi", 100.4, false},
		{"46000;0;int_mask_vox_count_interp_roi", 46001, false},
		{"0;0;stat_skew", 0, true},
	} {
		refs, err := readReferences(strings.NewReader("reference value;tolerance;tag\n" + c.row + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := refs[0].matches(c.value); got != c.want {
			t.Errorf("%s: %v passes: %v, want %v", c.row, c.value, got, c.want)
		}
	}

	// What has a reason instead of a value fails, and so does what is not there at all.
	c := ibsiConfiguration{table: []ibsiReference{{tag: "stat_mean", text: "0"}, {tag: "stat_var", text: "0"}, {tag: "stat_skew", text: "0"}}}
	rows := c.beside([]features.Value{{Tag: "stat_mean", Reason: "no voxel"}, {Tag: "stat_skew"}})
	if rows[0].Pass || rows[0].Value != nil || rows[1].Pass || rows[1].Value != nil || !rows[2].Pass || failures(rows) != 2 {
		t.Errorf("%+v", rows)
	}
}
