package main

import (
	"bytes"
	"encoding/csv"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// The command line is a contract: exit codes, and messages that name the place and the remedy.
func TestCommandLine(t *testing.T) {
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	example := file("example.yaml", string(exampleConfig))
	broken := filepath.Join(t.TempDir(), "broken.dcm")
	b, err := os.ReadFile(filepath.Join(bundledStudy(t), "rtstruct.dcm"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(broken, b[:len(b)-100], 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		out  string // part of standard output
		err  string // part of standard error
	}{
		{"no command", nil, exitUsage, "", "--help"},
		{"unknown command", []string{"frobnicate"}, exitUsage, "", "frobnicate"},
		{"help", []string{"--help"}, exitDone, "serve", ""},
		{"version", []string{"version"}, exitDone, "radnode " + version, ""},
		{"example", []string{"config", "example"}, exitDone, "profiles:", ""},
		{"the example is good", []string{"config", "check", example}, exitDone, "good", ""},
		{"unknown key", []string{"config", "check", file("a.yaml", "dicom: {lissten: x}")}, exitFailed, "", "lissten"},
		{"wrong type", []string{"config", "check", file("a.yaml", "dicom: {max_associations: many}")}, exitFailed, "", "max_associations"},
		{"bad expression", []string{"config", "check", file("a.yaml", `rules: [{when: {roi: "(("}, profile: ct-default}]`)}, exitFailed, "", "rules[0].when.roi"},
		{"unknown profile", []string{"config", "check", file("a.yaml", `rules: [{profile: nope}]`)}, exitFailed, "", "rules[0].profile"},
		{"family that is not there", []string{"config", "check", file("a.yaml", `profiles: {x: {families: [morph, nope]}}`)}, exitFailed, "", "nope"},
		{"unknown destination", []string{"config", "check", file("a.yaml", `deliver: [PACS]`)}, exitFailed, "", `"PACS"`},
		{"long AE title", []string{"config", "check", file("a.yaml", `dicom: {aet: ABCDEFGHIJKLMNOPQ}`)}, exitFailed, "", "dicom.aet"},
		{"no such file", []string{"config", "check", "/does/not/exist"}, exitFailed, "", "/does/not/exist"},
		{"serve with a bad configuration", []string{"serve", "--config", file("a.yaml", "x: 1")}, exitUsage, "", "a.yaml"},
		{"serve to a bad destination", []string{"serve", "--deliver", "PACS"}, exitUsage, "", "AET@HOST:PORT"},
		{"serve on a bad address", []string{"serve", "--listen", "nowhere"}, exitUsage, "", "dicom.listen"},
		{"echo to nobody", []string{"echo", "X@127.0.0.1:1"}, exitFailed, "", "X@127.0.0.1:1"},
		{"echo to nonsense", []string{"echo", "X"}, exitUsage, "", "AET@HOST:PORT"},
		{"send nothing", []string{"send", "X@127.0.0.1:1", t.TempDir()}, exitFailed, "", "nothing to send"},
		{"send to nobody", []string{"send", "X@127.0.0.1:1", bundledStudy(t)}, exitFailed, "0 sent", "rtstruct.dcm"},
		{"extract nothing", []string{"extract"}, exitUsage, "", "folders"},
		{"extract with image alone", []string{"extract", "--image", "x.nii"}, exitUsage, "", "--mask"},
		{"extract with a bad expression", []string{"extract", "--roi", "((", "."}, exitUsage, "", "--roi"},
		{"extract with an unknown profile", []string{"extract", "--profile", "nope", "."}, exitUsage, "", "nope"},
		{"profile with an unknown key", []string{"extract", "--profile", file("p.yaml", "families: [cm]\nagregate: [3D_comb]"), "."}, exitUsage, "", `p.yaml: [2:1] unknown field "agregate"`},
		{"profile without aggregation", []string{"extract", "--profile", file("p.yaml", "families: [cm]"), "."}, exitUsage, "", "aggregate: is empty"},
		{"profile with an unknown aggregation", []string{"extract", "--profile", file("p.yaml", "families: [cm]\naggregate: [3D]"), "."}, exitUsage, "", `aggregate: "3D"`},
		{"profile with texture out of range", []string{"extract", "--profile", file("p.yaml", "families: [stat]\ntexture: {glcm_distance: 9}"), "."}, exitUsage, "", "texture: glcm_distance: 9"},
		{"profile with texture of a wrong type", []string{"extract", "--profile", file("p.yaml", "families: [stat]\ntexture: {glcm_distance: far}"), "."}, exitUsage, "", "glcm_distance: far"},
		{"profile with an unknown feature", []string{"extract", "--profile", file("p.yaml", "families: [stat]\nfeatures: [stat_nope]"), "."}, exitUsage, "", `features: "stat_nope"`},
		{"profile with a feature of another family", []string{"extract", "--profile", file("p.yaml", "families: [stat]\nfeatures: [loc_peak_glob]"), "."}, exitUsage, "", `"loc_peak_glob" is of the family loc`},
		{"two profiles in a file", []string{"extract", "--profile", file("p.yaml", "families: [stat]\n---\nfamilies: [loc]"), "."}, exitUsage, "", "p.yaml: holds more than one document"},
		{"profile that the YAML library panics at", []string{"extract", "--profile", file("p.yaml", "families: !cm, "), "."}, exitUsage, "", "p.yaml: is no YAML"},
		{"extract without contours", []string{"extract", t.TempDir()}, exitFailed, "", "no RTSTRUCT"},
		{"extract a truncated file", []string{"extract", broken}, exitFailed, "", "broken.dcm"},
		{"extract also on nothing", []string{"extract", "--also", "pt", bundledStudy(t)}, exitUsage, "", `--also: "pt" is no modality`},
		{"rule for no modality", []string{"config", "check", file("a.yaml", `rules: [{when: {modality: CTT}, profile: none}]`)}, exitFailed, "", "rules[0].when.modality"},
		{"rule for no number", []string{"config", "check", file("a.yaml", `rules: [{when: {number: -3}, profile: none}]`)}, exitFailed, "", "rules[0].when.number"},
		{"workers below nothing", []string{"config", "check", file("a.yaml", `workers: -1`)}, exitFailed, "", "workers"},
		{"normalisation by no method", []string{"config", "check", file("a.yaml", `profiles: {x: {families: [stat], normalise: {region: muscle}}}`)}, exitFailed, "", "normalise: method"},
		{"extract what does not match", []string{"extract", "--roi", "^none$", bundledStudy(t)}, exitFailed, "", "no region matches"},
		{"print no report", []string{"sr", filepath.Join(bundledStudy(t), "ct-01.dcm")}, exitFailed, "", "ct-01.dcm"},
		{"print no DICOM", []string{"sr", example}, exitFailed, "", "example.yaml"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := execute(t.Context(), c.args, &out, &errs)
			if code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			if !strings.Contains(out.String(), c.out) {
				t.Errorf("standard output lacks %q:\n%s", c.out, out.String())
			}
			if !strings.Contains(errs.String(), c.err) {
				t.Errorf("standard error lacks %q:\n%s", c.err, errs.String())
			}
		})
	}
}

// extract writes one row a value, with the names of the contract, and numbers that read back the same bits; the rows are
// the same through a file and whatever the names of the files are.
func TestExtractCSV(t *testing.T) {
	out := filepath.Join(t.TempDir(), "values.csv")
	radnode(t, "extract", "--roi", "^GTV", "--out", out, bundledStudy(t))
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	const names = "patient_id,study_uid,series_uid,modality,roi_source_uid,roi_number,roi_name,profile,image,feature,ibsi_code,value,unit,note"
	if got := strings.Join(rows[0], ","); got != names {
		t.Errorf("heading %s, want %s", got, names)
	}
	if len(rows) != 1+174 {
		t.Fatalf("%d rows, want 174 values of one region", len(rows)-1)
	}
	for _, r := range rows[1:] {
		v, err := strconv.ParseFloat(r[11], 64)
		if err != nil {
			t.Errorf("%s: %v", r[9], err)
		}
		if back := strconv.FormatFloat(v, 'g', -1, 64); back != r[11] {
			t.Errorf("%s: %s reads back as %s", r[9], r[11], back)
		}
		if r[6] != "GTV-1" || r[7] != "ct-default" || r[8] != "original" || r[3] != "CT" || r[12] == "" {
			t.Errorf("row %v", r)
		}
	}
}

// Diagnostic values follow the features of each region; a unit is that of the value and of the image; what does not exist
// says why.
func TestExtractDiagnostics(t *testing.T) {
	profile := filepath.Join(t.TempDir(), "p.yaml")
	text := "families: [stat, ivh, cm]\nfeatures: [stat_mean, stat_var, ivh_i10, cm_joint_max]\naggregate: [2_5D_comb, 3D_avg]\n" +
		"resegment: {range: [3000, 3001]}\nivh: {method: fbn, bins: 100}\ndiscretise: {method: fbn, bins: 8}\n"
	if err := os.WriteFile(profile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	records := func(args ...string) (lines []string) {
		t.Helper()
		table, err := csv.NewReader(strings.NewReader(radnode(t, append([]string{"extract", bundledStudy(t)}, args...)...))).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range table[1:] {
			lines = append(lines, strings.Join(r[6:], ","))
		}
		return lines
	}
	got := records("--profile", profile, "--diagnostics")
	if len(got) != 2*(5+60) {
		t.Fatalf("%d rows, want 5 features and 60 diagnostic values of 2 regions", len(got))
	}
	const gone = "no voxel of the ROI is left after re-segmentation"
	for i, want := range map[int]string{
		0:   "GTV-1,p,original,stat_mean,Q4LE,,[hnsf'U]," + gone,
		1:   "GTV-1,p,original,stat_var,ECT3,,[hnsf'U]2," + gone,
		3:   "GTV-1,p,original,cm_joint_max_2_5D_comb,GYBY,,1," + gone,
		5:   "GTV-1,p,original,img_dim_x_init_img,,64,1,",
		8:   "GTV-1,p,original,vox_dim_x_init_img,,1.1,mm,",
		13:  "GTV-1,p,original,max_int_init_img,,",
		64:  "GTV-1,p,original,int_mask_max_int_reseg_roi,,,[hnsf'U]," + gone,
		65:  "Oedema,p,original,stat_mean,Q4LE,,[hnsf'U]," + gone,
		129: "Oedema,p,original,int_mask_max_int_reseg_roi,,,[hnsf'U]," + gone,
	} {
		if !strings.HasPrefix(got[i], want) {
			t.Errorf("row %d: %s\nwant     %s", i, got[i], want)
		}
	}
	if !strings.HasSuffix(got[13], ",[hnsf'U],") {
		t.Errorf("row %s, want it in HU", got[13])
	}

	// Under a fixed bin number the intensities of the volume histogram are bin numbers.
	for method, unit := range map[string]string{"fbn, bins: 100": ",1,", "fbs, width: 5": ",[hnsf'U],", "none": ",[hnsf'U],"} {
		if err := os.WriteFile(profile, []byte("families: [ivh]\nfeatures: [ivh_i10]\nivh: {method: "+method+"}\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := records("--profile", profile, "--roi", "GTV"); len(got) != 1 || !strings.HasPrefix(got[0], "GTV-1,p,original,ivh_i10,GBPN,") || !strings.HasSuffix(got[0], unit) {
			t.Errorf("%s: %v, want the unit %q", method, got, unit)
		}
	}
}

// The folder of a study that a PACS exports also holds what radnode sent to it: that is not measured again, but where it is named.
func TestExtractPassesOverOwn(t *testing.T) {
	folder := bundledStudy(t)
	extract := func(paths ...string) (out, errs string) {
		t.Helper()
		var o, e bytes.Buffer
		if code := execute(t.Context(), append([]string{"extract", "--roi", "^GTV"}, paths...), &o, &e); code != exitDone {
			t.Fatalf("exit %d: %s", code, e.String())
		}
		return o.String(), e.String()
	}
	before, _ := extract(folder)
	sent := t.TempDir()
	radnode(t, "demo", "--out", sent)
	own := filepath.Join(sent, "segmentation.dcm")
	out, errs := extract(folder, sent)
	if out != before || !strings.Contains(errs, own) || strings.Count(errs, "\n") != 1 {
		t.Errorf("%d lines in place of %d, and says %q", strings.Count(out, "\n"), strings.Count(before, "\n"), errs)
	}
	if out, errs = extract(folder, own); strings.Count(out, "\n") <= strings.Count(before, "\n") || errs != "" {
		t.Errorf("%d lines of a segmentation that is named, and says %q", strings.Count(out, "\n"), errs)
	}
}

// The demonstration does what the README says.
func TestDemo(t *testing.T) {
	dir := t.TempDir()
	out := radnode(t, "demo", "--out", dir)
	for _, part := range []string{"Back in the PACS: Comprehensive 3D SR", "Volume of Mesh", "GTV-1", "Where the time went"} {
		if !strings.Contains(out, part) {
			t.Errorf("the demonstration does not print %q", part)
		}
	}
	if text := radnode(t, "sr", filepath.Join(dir, "report.dcm")); !strings.Contains(out, text) {
		t.Error("radnode sr prints the kept report in another way")
	}
}

// A series may have more images than a program may have open files.
func TestExtractHoldsNoFileOpen(t *testing.T) {
	opened := func() int {
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc/self/fd to count the open files in")
		}
		return len(files)
	}
	folder := bundledStudy(t)
	before := opened()
	contours, images, failed := readInputs([]string{folder})
	if len(contours) != 1 || len(images) != 1 || len(failed) != 0 {
		t.Fatalf("%d contours, %d series, %v", len(contours), len(images), failed)
	}
	for _, series := range images {
		if n := opened() - before; n > len(series)/2 {
			t.Errorf("%d files are open after the headers of %d", n, len(series))
		}
		if b, err := io.ReadAll(series[0].file.Pixels.Reader()); err != nil || len(b) == 0 {
			t.Errorf("%d bytes of pixels: %v", len(b), err)
		}
	}
}

// The example has every key of the configuration and of a profile.
func TestExampleIsComplete(t *testing.T) {
	var keys func(t reflect.Type) []string
	keys = func(t reflect.Type) (all []string) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			return keys(t.Elem())
		case reflect.Struct:
			for i := range t.NumField() {
				name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
				if name == "" || name == "-" {
					continue
				}
				all = append(append(all, name), keys(t.Field(i).Type)...)
			}
		}
		return all
	}
	for _, key := range keys(reflect.TypeFor[Config]()) {
		if !regexp.MustCompile(`\b` + key + `\b`).Match(exampleConfig) {
			t.Errorf("%s is not in the example", key)
		}
	}
}
