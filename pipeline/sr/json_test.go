package sr

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
)

func asJSON(t testing.TB, d *dicom.DataSet) (map[string]any, []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := JSON(&b, d, "a&b.dcm"); err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	return m, b.Bytes()
}

// at follows keys and indices.
func at(t testing.TB, v any, path ...any) any {
	t.Helper()
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, ok := v.(map[string]any)
			if _, has := m[p]; !ok || !has {
				t.Fatalf("no %v in %v", p, v)
			}
			v = m[p]
		case int:
			l, ok := v.([]any)
			if !ok || p >= len(l) {
				t.Fatalf("no %v in %v", p, v)
			}
			v = l[p]
		}
	}
	return v
}

// The names are a contract.
func TestJSON(t *testing.T) {
	d := edited(t, func(_, g *item) {
		bin := g.add(contains, newCode(Code{"4R0B", IBSI, "Intensity discretisation"}, Code{"Q3RU", IBSI, "Fixed bin size"}))
		bin.add(hasProperties, newNum(Code{"w", "99RADNODE", "Bin width"}, 25, Unit("HU")))
		g.add(contains, newText(dcm("3", "Appearance"), "spiculated"))
		g.find(concept(t, "C0JK")).value = math.NaN()
	})
	got, line := asJSON(t, d)
	if bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' || !bytes.Contains(line, []byte(`"file":"a&b.dcm"`)) {
		t.Errorf("not one line that names the file as it is: %.80q", line)
	}
	g := []any{"groups", 0}
	m := append(slices.Clone(g), "measurements")
	for _, c := range []struct {
		path []any
		want any
	}{
		{[]any{"sop_class"}, "Comprehensive 3D SR Storage"}, {[]any{"sop_instance_uid"}, "2.25.101"}, {[]any{"template"}, "1500"},
		{[]any{"time"}, "2026-03-02T01:30:15+02:00"}, {[]any{"patient", "name"}, "Żółć^Łucja=山田^花子"}, {[]any{"patient", "birth_date"}, "1961-02-03"},
		{[]any{"study", "accession_number"}, "ACC1"}, {[]any{"title", "meaning"}, "Oncology Measurement Report"}, {[]any{"language", "value"}, "en-US"},
		{[]any{"observers", 0, "uid"}, "2.25.7"}, {[]any{"algorithm", "parameters", 1}, `profile\ct-default`}, {[]any{"content"}, nil},
		{[]any{"images", 0, "modality"}, "CT"}, {[]any{"images", 0, "instances", 5, "sop_instance_uid"}, ctSeries + ".105"},
		{[]any{"contours", 0, "sop_class_uid"}, dicom.RTStructureSetStorage}, {[]any{"predecessors", 0, "sop_instance_uid"}, "2.25.100"},
		{[]any{"evidence", 6, "sop_instance_uid"}, "1.2.826.0.1.3680043.8.498.5"},
		{append(g, "tracking_identifier"), `GTVp – rechts \ oben`}, {append(g, "sites", 0, "laterality", "meaning"), "Right"},
		{append(g, "regions", 0, "segments", 0), 1.0}, {append(g, "regions", 0, "object", "series_instance_uid"), "2.25.300"},
		{append(g, "steps", 0, "method", "value"), "Q3RU"}, {append(g, "steps", 0, "numbers", 0, "value"), 25.0}, {append(g, "purpose"), nil},
		{append(g, "evaluations", 0, "text"), "spiculated"}, {append(g, "evaluations", 0, "value"), nil}, {append(g, "finding", "scheme"), "SCT"},
		{append(g, "comments", 0), "Not computable: NI2N Correlation of GLCM (constant ROI)"},
		{append(m, 0, "concept", "value"), "RNU0"}, {append(m, 0, "unit", "value"), "mm3"}, {append(m, 0, "value"), 12345.678901234567}, {append(m, 0, "qualifier"), nil},
		{append(m, 1, "value"), 0.1 + 0.2}, {append(m, 4, "value"), 1e300}, {append(m, 5, "value"), -1.2345678901234567e-300},
		{append(m, 2, "value"), nil},
		{append(m, 7, "modifiers", 1, "value", "value"), "IAZD"}, {append(m, 7, "parameters", 0, "concept", "meaning"), "Bin width"},
		{[]any{"summary", 0}, "GTVp, right lung: 12.3 cm3, mean -46.9 HU. 8 features, 1 not computable."},
	} {
		if v := at(t, got, c.path...); v != c.want {
			t.Errorf("%v is %v, want %v", c.path, v, c.want)
		}
	}

	// A text that is not there is "", a list [], and every key is there in an empty report too.
	_, line = asJSON(t, newContainer(ImagingMeasurementReport, "").encode())
	empty := string(line)
	for i, f := range reflect.VisibleFields(reflect.TypeFor[jsonReport]()) {
		if key := `"` + f.Tag.Get("json") + `":`; !strings.Contains(empty, key) {
			t.Errorf("field %d: no %s in %s", i, key, empty)
		}
	}
	if n := strings.Count(empty, "null"); n != 2 { // language, content
		t.Errorf("%d times null in %s", n, empty)
	}
}

// What NUM has no value for is null with its qualifier: the encoded item has an empty Measured Value Sequence.
func TestJSONOfMissingValue(t *testing.T) {
	d := newNum(concept(t, "RNU0"), 1, Unit("mm3")).encode()
	d.SetSeq(dicom.MeasuredValueSequence)
	d.SetSeq(dicom.NumericValueQualifierCodeSequence, dcm("114000", "Not a number").encode())
	it, err := parse(d, 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(reader{}.measurement(it).json())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(`"value":null,"unit":null,"qualifier":{"value":"114000","scheme":"DCM","meaning":"Not a number"}`)) {
		t.Errorf("%s", b)
	}
}

// A report of another template is not refused: its items are there in their order.
func TestJSONOfAnotherTemplate(t *testing.T) {
	got, _ := asJSON(t, dose().encode())
	for _, c := range []struct {
		path []any
		want any
	}{
		{[]any{"template"}, "10011"}, {[]any{"title", "meaning"}, "X-Ray Radiation Dose Report"}, {[]any{"observers", 0, "name"}, "Doe^Jane"},
		{[]any{"content", 2, "text"}, "Doe^Jane"}, {[]any{"content", 0, "code", "value"}, "113704"},
		{[]any{"content", 3, "content", 0, "value"}, 1.25e-5}, {[]any{"content", 3, "content", 0, "unit", "value"}, "Gy.m2"},
		{[]any{"content", 3, "content", 1, "relationship"}, "CONTAINS"}, {[]any{"content", 3, "content", 1, "value_type"}, "TEXT"},
	} {
		if v := at(t, got, c.path...); v != c.want {
			t.Errorf("%v is %v, want %v", c.path, v, c.want)
		}
	}
	if l := at(t, got, "groups").([]any); len(l) != 0 {
		t.Errorf("groups %v", l)
	}
	if err := JSON(new(bytes.Buffer), source(), ""); err == nil || !strings.Contains(err.Error(), "CT Image Storage") {
		t.Errorf("a CT image gave %v", err)
	}
}

const pydicomReport = `
import os, sys, pydicom.data
sys.stdout.write(os.path.join(os.path.dirname(pydicom.data.__file__), "test_files", "test-SR.dcm"))
`

// A report of no template, with all value types and items by reference, has as many items in JSON as DCMTK finds in it.
func TestJSONOfNoTemplate(t *testing.T) {
	dsrdump := need(t, "dsrdump")
	name := string(python(t, pydicomReport))
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := asJSON(t, read(t, b))
	var count func(items any) int
	count = func(items any) (n int) {
		l, _ := items.([]any)
		for _, it := range l {
			n += 1 + count(it.(map[string]any)["content"])
		}
		return n
	}
	out, err := exec.Command(dsrdump, "-Ph", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := 0
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(strings.TrimLeft(line, " "), "<") {
			want++
		}
	}
	if n := 1 + count(got["content"]); n != want || want != 29 {
		t.Errorf("%s: %d items, DCMTK has %d", name, n, want)
	}
}
