package main

import (
	"bytes"
	"encoding/csv"
	"os"
	"path/filepath"
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
		{"extract without contours", []string{"extract", t.TempDir()}, exitFailed, "", "no RTSTRUCT"},
		{"extract a truncated file", []string{"extract", broken}, exitFailed, "", "broken.dcm"},
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
