package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/testdata"
)

type ibsiCmd struct {
	Data    string `help:"Folder that holds the IBSI's CT phantom: ct_phantom and reference_values, or both below ibsi1 (default: ../shared/data where it is)." placeholder:"DIR"`
	Suite   string `default:"" enum:",digital,ct,filters,all" help:"digital (built in), ct (needs the data) or all, the default." placeholder:"NAME"`
	JSON    bool   `name:"json" help:"Every comparison as JSON."`
	Verbose bool   `short:"v" help:"Also every value that agrees."`
}

// ibsiData is where the data are looked for when --data does not say.
var ibsiData = filepath.Join("..", "shared", "data")

// A comparison is one value beside its reference as ibsi writes it. The names are a contract.
type comparison struct {
	Suite     string   `json:"suite"`
	Config    string   `json:"config"` // of the CT phantom, A to E; the digital phantom has none
	Feature   string   `json:"feature"`
	Reference float64  `json:"reference"`
	Tolerance float64  `json:"tolerance"`
	Value     *float64 `json:"value"` // null where there is none
	Pass      bool     `json:"pass"`

	agreed bool   // whether the IBSI has a reference value; without one there is nothing to compare
	family string // as of the reference
	reason string // why there is no value
}

// An ibsiConfiguration is one phantom, one way to process it, and the values that the IBSI published for that.
type ibsiConfiguration struct {
	suite, config string
	study         *ibsiStudy
	profile       features.Profile
	file          string // the reference table
	table         []ibsiReference
}

// Run measures the phantoms as any study, through their RTSTRUCT, and compares with the published values.
func (c ibsiCmd) Run(e *env) error {
	if c.Suite == "filters" {
		return usageError{errors.New("--suite filters: this version has no filters (IBSI-2); use digital, ct or all")}
	}
	configurations, err := c.open(e)
	if err != nil {
		return err
	}

	var all []comparison
	t := ibsiText{w: e.stdout, verbose: c.Verbose}
	if c.JSON {
		t.w = io.Discard
	}
	t.head()
	for _, d := range configurations {
		rows, err := d.compare(e.ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", strings.TrimSpace(d.suite+" "+d.config), err)
		}
		t.line(rows)
		all = append(all, rows...)
	}
	t.details(all)

	compared := slices.DeleteFunc(slices.Clone(all), func(r comparison) bool { return !r.agreed })
	if c.JSON {
		enc := json.NewEncoder(e.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(compared); err != nil {
			return err
		}
	}
	if n := failures(compared); n > 0 {
		return fmt.Errorf("%d of %d values are wrong or missing", n, len(compared))
	}
	return nil
}

// open reads all that the suites need, before anything is measured.
func (c ibsiCmd) open(e *env) (configurations []ibsiConfiguration, err error) {
	if c.Suite != "ct" {
		study, err := openDigitalPhantom()
		if err != nil {
			return nil, err
		}
		d, err := readIBSI("digital", "", "digital-phantom", testdata.DigitalPhantomReference, testdata.FS.ReadFile)
		if err != nil {
			return nil, err
		}
		d.study = study
		configurations = append(configurations, d)
	}
	if c.Suite == "digital" {
		return configurations, nil
	}
	folder, err := c.folder()
	if err != nil {
		return nil, err
	}
	if folder == "" {
		fmt.Fprintf(e.stderr, "radnode: without the CT phantom, which is not in %s: name the folder that holds ct_phantom and reference_values with --data\n", ibsiData)
		return configurations, nil
	}
	for _, config := range []string{"a", "b", "c", "d", "e"} {
		table := filepath.Join(folder, "reference_values", "chest_config_"+config+".csv")
		d, err := readIBSI("ct", strings.ToUpper(config), "config-"+config, table, os.ReadFile)
		if err != nil {
			return nil, err
		}
		configurations = append(configurations, d)
	}
	study, err := openCTPhantom(filepath.Join(folder, "ct_phantom", "dicom"))
	if err != nil {
		return nil, err
	}
	for i := range configurations {
		if configurations[i].suite == "ct" {
			configurations[i].study = study
		}
	}
	return configurations, nil
}

// folder finds the one that holds ct_phantom and reference_values: --data or its ibsi1. It is "" where neither the data nor a
// suite that needs them was asked for, and they are not where they usually are.
func (c ibsiCmd) folder() (string, error) {
	data := c.Data
	if data == "" {
		data = ibsiData
	}
	candidates := []string{filepath.Join(data, "ibsi1"), data}
	for _, folder := range candidates {
		if _, err := os.Stat(filepath.Join(folder, "ct_phantom")); err == nil {
			return folder, nil
		} else if errors.Is(err, fs.ErrPermission) {
			return "", err
		}
	}
	switch {
	case c.Data == "" && c.Suite == "":
		return "", nil
	case c.Data == "":
		return "", fmt.Errorf("no CT phantom: neither %s nor %s holds ct_phantom; name the folder that holds it and reference_values with --data", candidates[0], candidates[1])
	}
	return "", fmt.Errorf("--data %s: neither it nor %s holds ct_phantom; name the folder that holds ct_phantom and reference_values", data, candidates[0])
}

// readIBSI reads a configuration: its profile, which is built in, and its reference table.
func readIBSI(suite, config, profile, table string, read func(string) ([]byte, error)) (ibsiConfiguration, error) {
	c := ibsiConfiguration{suite: suite, config: config, file: table}
	b, err := testdata.FS.ReadFile("ibsi1/" + profile + ".yaml")
	if err != nil {
		return c, err
	}
	if c.profile, err = parseProfile(b); err != nil {
		return c, fmt.Errorf("%s: %w", profile, err)
	}
	c.profile.Name = profile
	if b, err = read(table); err != nil {
		return c, err
	}
	if c.table, err = readReferences(bytes.NewReader(b)); err != nil {
		return c, fmt.Errorf("%s: %w", table, err)
	}
	return c, c.complete()
}

// complete refuses a table that lacks what the IBSI publishes: a part of the table must not pass for the whole.
func (c ibsiConfiguration) complete() error {
	var lacking []string
	want := func(tag string) {
		if !slices.ContainsFunc(c.table, func(r ibsiReference) bool { return r.tag == tag }) {
			lacking = append(lacking, tag)
		}
	}
	for _, tag := range features.Tags(c.profile) {
		if f, _, _ := features.Lookup(tag); f.Standardised {
			want(tag)
		}
	}
	if c.suite == "ct" {
		for _, d := range features.DiagnosticTable {
			want(d.Tag)
		}
	}
	switch n := len(lacking); {
	case n > 1:
		return fmt.Errorf("%s: lacks %s and %d more of the IBSI's values: the file is not complete", c.file, lacking[0], n-1)
	case n == 1:
		return fmt.Errorf("%s: lacks %s: the file is not complete", c.file, lacking[0])
	}
	return nil
}

// An ibsiReference is one row of a reference table: value; tolerance; tag.
type ibsiReference struct {
	tag, family      string // the family is diag for a diagnostic value, and empty for a tag that nobody knows
	text             string // the value as printed, "" where the IBSI found no agreement
	value, tolerance float64
	exact            bool // counted in voxels
}

// readReferences reads a reference table.
func readReferences(r io.Reader) ([]ibsiReference, error) {
	table := csv.NewReader(r)
	table.Comma = ';'
	heading := []string{"reference value", "tolerance", "tag"}
	if first, _ := table.Read(); !slices.Equal(first, heading) {
		return nil, fmt.Errorf("is no IBSI reference table: the first line must be %q", strings.Join(heading, ";"))
	}
	var out []ibsiReference
	seen := map[string]bool{}
	for {
		fields, err := table.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := table.FieldPos(0)
		ref := ibsiReference{text: fields[0], tag: fields[2]}
		if f, _, ok := features.Lookup(ref.tag); ok {
			ref.family = string(f.Family)
		}
		if ref.tag == "" || seen[ref.tag] {
			return nil, fmt.Errorf("line %d: the tag %q is empty or there twice", line, ref.tag)
		}
		seen[ref.tag] = true
		for _, d := range features.DiagnosticTable {
			if d.Tag == ref.tag {
				ref.family, ref.exact = "diag", d.Unit == features.UnitNone
			}
		}
		if ref.text != "" {
			for i, v := range []*float64{&ref.value, &ref.tolerance} {
				if *v, err = strconv.ParseFloat(fields[i], 64); err != nil || math.IsNaN(*v) || math.IsInf(*v, 0) || i == 1 && *v < 0 {
					return nil, fmt.Errorf("line %d: %s of %s: %q is no number that it can be", line, heading[i], ref.tag, fields[i])
				}
			}
		}
		out = append(out, ref)
	}
}

// matches compares at the precision of the table: its values are rounded to three figures, or to as many as they show, and so
// is v before. What is counted in voxels is compared as it is.
func (r ibsiReference) matches(v float64) bool {
	if !r.exact {
		v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'e', r.figures()-1, 64), 64)
	}
	return math.Abs(v-r.value) <= r.tolerance+1e-9*math.Abs(r.value) // decimals are not exact in binary
}

// figures are the significant ones of the value as printed, at least three: 3065 has four, 4810000 three.
func (r ibsiReference) figures() int {
	digits, _, _ := strings.Cut(strings.ToLower(r.text), "e")
	if !strings.Contains(digits, ".") {
		digits = strings.TrimRight(digits, "0")
	}
	digits = strings.TrimLeft(strings.ReplaceAll(digits, ".", ""), "+-0")
	return max(3, len(digits))
}

// An ibsiStudy is a phantom: one structure set with one region, and the images it was drawn on.
type ibsiStudy struct {
	contours *dicom.File
	images   []*dicom.File
	region   string // ROI Name (3006,0026)
}

// openDigitalPhantom opens the study that is built in.
func openDigitalPhantom() (*ibsiStudy, error) {
	s := &ibsiStudy{region: "ROI"}
	entries, err := testdata.FS.ReadDir(testdata.DigitalPhantom)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		b, err := testdata.FS.ReadFile(testdata.DigitalPhantom + "/" + entry.Name())
		if err != nil {
			return nil, err
		}
		f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", entry.Name(), err)
		}
		if f.DataSet.String(dicom.SOPClassUID) == dicom.RTStructureSetStorage {
			s.contours = f
		} else {
			s.images = append(s.images, f)
		}
	}
	return s, nil
}

// openCTPhantom opens the lung cancer CT of the manual's section 5.2, with its region GTV-1.
func openCTPhantom(folder string) (s *ibsiStudy, err error) {
	contours, images, failed := readInputs([]string{folder})
	if len(failed) > 0 {
		return nil, errors.Join(failed...)
	}
	if len(contours) != 1 {
		return nil, fmt.Errorf("%s: %d RTSTRUCT are below it, want the one of the CT phantom", folder, len(contours))
	}
	s = &ibsiStudy{contours: contours[0].file, region: "GTV-1"}
	refs, err := roi.References(s.contours.DataSet)
	if err == nil && len(refs) != 1 {
		err = fmt.Errorf("names %d image series, want one", len(refs))
	}
	if err == nil {
		s.images, err = imagesOf(refs[0], images)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", contours[0].path, err)
	}
	return s, nil
}

// compare measures the study and sets the values beside the rows of the table, in the table's order.
func (c ibsiConfiguration) compare(ctx context.Context) ([]comparison, error) {
	s := c.study
	m, err := pipeline.Measure(ctx, pipeline.Request{
		Contours: s.contours, Images: s.images, Diagnostics: true,
		Choose: func(_ *dicom.DataSet, r roi.Region) (features.Profile, bool, error) {
			return c.profile, r.Name == s.region, nil
		},
	})
	if errors.Is(err, pipeline.ErrNothingMeasured) {
		for _, r := range m.Skipped {
			return nil, fmt.Errorf("%s: %s", r.Region.Name, r.Reason)
		}
		return nil, fmt.Errorf("the RTSTRUCT has no region %q", s.region)
	}
	if err != nil {
		return nil, err
	}
	if len(m.Regions) != 1 {
		return nil, fmt.Errorf("the RTSTRUCT has %d regions %q, want one", len(m.Regions), s.region)
	}
	region := m.Regions[0]
	return c.beside(slices.Concat(region.Result.Values, region.Diagnostics)), nil
}

// beside sets values beside the table.
func (c ibsiConfiguration) beside(values []features.Value) (rows []comparison) {
	got := map[string]features.Value{}
	for _, v := range values {
		got[v.Tag] = v
	}
	for _, ref := range c.table {
		row := comparison{Suite: c.suite, Config: c.config, Feature: ref.tag, Reference: ref.value, Tolerance: ref.tolerance, agreed: ref.text != "", family: ref.family}
		switch v, ok := got[ref.tag]; {
		case !ok:
			row.reason = "missing in the output"
		case v.Reason != "":
			row.reason = v.Reason
		default:
			row.Value = &v.Value
			row.Pass = ref.matches(v.Value)
		}
		rows = append(rows, row)
	}
	return rows
}

// failures counts the rows that do not pass.
func failures(rows []comparison) (n int) {
	for _, r := range rows {
		if !r.Pass {
			n++
		}
	}
	return n
}

// An ibsiText writes comparisons for people.
type ibsiText struct {
	w       io.Writer
	verbose bool
}

// ibsiColumns are the families, and the diagnostic values of the chain before them.
var ibsiColumns = []string{"diag", "morph", "loc", "stat", "ih", "ivh", "cm", "rlm", "szm", "dzm", "ngt", "ngl"}

func (t ibsiText) head() {
	fmt.Fprintf(t.w, "%-7s", "")
	for _, c := range append(slices.Clone(ibsiColumns), "all") {
		fmt.Fprintf(t.w, " %7s", c)
	}
	fmt.Fprintln(t.w)
}

// line is one configuration: passed/compared by family.
func (t ibsiText) line(rows []comparison) {
	count := func(in func(comparison) bool) string {
		var n, passed int
		for _, r := range rows {
			if r.agreed && in(r) {
				n++
				if r.Pass {
					passed++
				}
			}
		}
		if n == 0 {
			return "-"
		}
		return fmt.Sprintf("%d/%d", passed, n)
	}
	fmt.Fprintf(t.w, "%-7s", rows[0].place())
	for _, c := range ibsiColumns {
		fmt.Fprintf(t.w, " %7s", count(func(r comparison) bool { return r.family == c }))
	}
	fmt.Fprintf(t.w, " %7s\n", count(func(comparison) bool { return true }))
}

// details lists what failed, what has no reference, and the total.
func (t ibsiText) details(rows []comparison) {
	section := func(title string, in func(comparison) bool) {
		for _, r := range rows {
			if !in(r) {
				continue
			}
			if title != "" {
				fmt.Fprintf(t.w, "\n%s\n", title)
				title = ""
			}
			fmt.Fprintf(t.w, "  %-7s %-34s %s\n", r.place(), r.Feature, r.text())
		}
	}
	if t.verbose {
		section("These agree:", func(r comparison) bool { return r.agreed && r.Pass })
	}
	section("These do not agree:", func(r comparison) bool { return r.agreed && !r.Pass })
	section("No reference (the IBSI found no agreement; not counted):", func(r comparison) bool { return !r.agreed })
	compared := slices.DeleteFunc(slices.Clone(rows), func(r comparison) bool { return !r.agreed })
	fmt.Fprintf(t.w, "\n%d of %d values agree with the IBSI's reference values.\n", len(compared)-failures(compared), len(compared))
}

// place is the suite and the configuration.
func (r comparison) place() string { return strings.TrimSpace(r.Suite + " " + r.Config) }

func (r comparison) text() string {
	s := "no value: " + r.reason
	if r.Value != nil {
		s = strconv.FormatFloat(*r.Value, 'g', -1, 64)
	}
	if r.agreed {
		s += fmt.Sprintf(", reference %v ± %v", r.Reference, r.Tolerance)
	}
	return s
}
