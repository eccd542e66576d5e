package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline/sr"
)

// demoReport is the report of the demonstration as a file, after the change.
func demoReport(t *testing.T, change func(nums []*dicom.DataSet)) string {
	t.Helper()
	dir := t.TempDir()
	radnode(t, "demo", "--out", dir)
	name := filepath.Join(dir, "report.dcm")
	if change == nil {
		return name
	}
	f, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	file, err := dicom.ReadFile(bytes.NewReader(f), int64(len(f)))
	if err != nil {
		t.Fatal(err)
	}
	var nums []*dicom.DataSet
	var collect func(items []*dicom.DataSet)
	collect = func(items []*dicom.DataSet) {
		for _, it := range items {
			if it.String(dicom.ValueType) == "NUM" && it.String(dicom.RelationshipType) == "CONTAINS" {
				nums = append(nums, it)
			}
			collect(it.Seq(dicom.ContentSequence))
		}
	}
	collect(file.DataSet.Seq(dicom.ContentSequence))
	change(nums)
	data, err := file.DataSet.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	meta := dicom.FileMeta{MediaStorageSOPClassUID: file.DataSet.String(dicom.SOPClassUID), MediaStorageSOPInstanceUID: file.DataSet.String(dicom.SOPInstanceUID),
		TransferSyntaxUID: dicom.ExplicitVRLittleEndian}
	if err := (demoObject{meta, data}).keep(dir); err != nil {
		t.Fatal(err)
	}
	return name
}

// JSON is one line a file; a file that is no report does not keep the others from being printed.
func TestReportAsJSON(t *testing.T) {
	report := demoReport(t, nil)
	image := filepath.Join(bundledStudy(t), "ct-01.dcm")
	var out, errs bytes.Buffer
	if code := execute(t.Context(), []string{"sr", "--format", "json", report, image, report}, &out, &errs); code != exitFailed {
		t.Errorf("exit %d, want %d", code, exitFailed)
	}
	if !strings.Contains(errs.String(), "ct-01.dcm: sr: no Structured Report") {
		t.Errorf("standard error %q", errs.String())
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2", len(lines))
	}
	d, err := readReport(report)
	if err != nil {
		t.Fatal(err)
	}
	want, err := sr.Read(d)
	if err != nil {
		t.Fatal(err)
	}
	// Every key is explained in --help.
	var keys func(v any)
	keys = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, below := range v {
				if !regexp.MustCompile(`\b` + k + `\b`).MatchString(srCmd{}.Help()) {
					t.Errorf("--help does not name %s", k)
				}
				keys(below)
			}
		case []any:
			for _, below := range v {
				keys(below)
			}
		}
	}
	var all any
	if err := json.Unmarshal([]byte(lines[0]), &all); err != nil {
		t.Fatal(err)
	}
	keys(all)
	for _, line := range lines {
		var got struct {
			File   string
			Groups []struct {
				Name         string `json:"tracking_identifier"`
				Measurements []struct{ Value *float64 }
			}
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		if got.File != report || len(got.Groups) != len(want.Groups) || len(got.Groups) == 0 {
			t.Fatalf("file %q, %d groups", got.File, len(got.Groups))
		}
		for i, g := range want.Groups {
			for k, m := range g.Measurements {
				if v := got.Groups[i].Measurements[k].Value; v == nil || math.Float64bits(*v) != math.Float64bits(m.Value) {
					t.Errorf("%s: %v, want %v", m.Concept, v, m.Value)
				}
			}
		}
	}
}

func compareReports(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = execute(t.Context(), append([]string{"extract", "--compare"}, args...), &o, &e)
	return code, o.String(), e.String()
}

// extract --compare pairs the values of two reports; whatever they are, comparing succeeds.
func TestCompareReports(t *testing.T) {
	run := func(args ...string) (int, string, string) { return compareReports(t, args...) }
	first := demoReport(t, nil)
	second := demoReport(t, func(nums []*dicom.DataSet) {
		v := nums[0].Seq(dicom.MeasuredValueSequence)[0]
		old, _ := v.Float(dicom.FloatingPointValue)
		v.SetFloat(dicom.FloatingPointValue, 1.5*old)
		name := nums[1].Seq(dicom.ConceptNameCodeSequence)[0]
		name.SetString(dicom.CodeValue, "OTHER")
		nums[2].Seq(dicom.MeasuredValueSequence)[0].Seq(dicom.MeasurementUnitsCodeSequence)[0].SetString(dicom.CodeValue, "cm")
	})

	code, out, errs := run(first, first)
	table, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || code != exitDone {
		t.Fatalf("exit %d, %v", code, err)
	}
	if got := strings.Join(table[0], ","); got != "roi,feature,code,scheme,how,unit,value_1,value_2,difference,relative_difference,note" {
		t.Errorf("heading %s", got)
	}
	// 174 features and the standard deviation for each of two regions.
	if len(table) != 1+2*175 || errs != "350 of 350 values equal to the bit, largest relative difference 0\n" {
		t.Errorf("%d rows, %q", len(table)-1, errs)
	}
	for _, r := range table[1:] {
		if v, err := strconv.ParseFloat(r[6], 64); err != nil || r[6] != r[7] || r[8] != "0" || r[9] != "0" || r[10] != "" || strconv.FormatFloat(v, 'g', -1, 64) != r[6] {
			t.Errorf("row %v", r)
		}
	}

	file := filepath.Join(t.TempDir(), "compared.json")
	code, out, errs = run(first, second, "--format", "json", "--out", file)
	if code != exitDone || out != "" {
		t.Errorf("exit %d, standard output %q", code, out)
	}
	if want := "347 of 349 values equal to the bit, largest relative difference 0.5 (Volume of Mesh of GTV-1), 1 in other units, 1 only in the first, 1 only in the second\n"; errs != want {
		t.Errorf("%q, want %q", errs, want)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var rows []comparedRow
	if err := json.Unmarshal(b, &rows); err != nil || len(rows) != 351 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if r := rows[0]; r.ROI != "GTV-1" || r.Code != "RNU0" || r.Scheme != "IBSI" || r.Unit != "mm3" || *r.First != 6772.5 || *r.Second != 1.5*6772.5 || *r.Differ != 0.5*6772.5 || *r.Relative != 0.5 {
		t.Errorf("%+v", r)
	}
	if r := rows[1]; r.Second != nil || r.Note != "only in first" {
		t.Errorf("%+v", r)
	}
	if r := rows[2]; r.Differ != nil || r.Note != "units differ: mm / cm" {
		t.Errorf("%+v", r)
	}

	image := filepath.Join(bundledStudy(t), "ct-01.dcm")
	for _, c := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{first}, exitUsage, "two Structured Reports"},
		{[]string{first, first, first}, exitUsage, "two Structured Reports"},
		{[]string{first, first, "--roi", "x"}, exitUsage, "measures nothing"},
		{[]string{first, first, "--profile", "x"}, exitUsage, "measures nothing"},
		{[]string{first, image}, exitFailed, "ct-01.dcm: sr: no Imaging Measurements"},
		{[]string{filepath.Join(t.TempDir(), "absent.dcm"), first}, exitFailed, "absent.dcm"},
		{[]string{first, first, "--out", filepath.Join(t.TempDir(), "no", "file.csv")}, exitFailed, "file.csv"},
	} {
		if code, out, errs := run(c.args...); code != c.code || !strings.Contains(errs, c.err) || out != "" {
			t.Errorf("%v: exit %d, %q", c.args[1:], code, errs)
		}
	}
}

// Reports of any program: these two have nothing in common, and that is no failure.
func TestCompareReportOfAnotherProgram(t *testing.T) {
	code, out, errs := compareReports(t, demoReport(t, nil), shared(t, "data", "dcmqi", "sr-example", "sr.dcm"))
	if code != exitDone || !strings.Contains(out, "\nprimary tumor,SUVbw,126401,DCM,Derivation: Mean,{SUVbw}g/ml,,6.01529,,,only in second\n") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if errs != "0 of 0 values equal to the bit, largest relative difference 0, 350 only in the first, 22 only in the second\n" {
		t.Errorf("%q", errs)
	}
}
