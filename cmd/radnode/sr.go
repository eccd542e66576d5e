package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline/sr"
)

// srCmd prints reports.
type srCmd struct {
	Format string `default:"text" enum:"text,json" help:"text or json. JSON is one line an SR file (JSON Lines): file, document, patient, study, groups with their measurements, images; a code is {value, scheme, meaning}, a missing value null. A report that is no measurement report (TID 1500) has its content items under content."`

	File []string `arg:"" help:"Structured Reports of any template (PS3.10 files)."`
}

func (c srCmd) Run(e *env) error {
	var failed []error
	printed := false
	for _, file := range c.File {
		d, err := readReport(file)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if c.Format == "json" {
			err = sr.JSON(e.stdout, d, file)
		} else {
			if printed {
				fmt.Fprintln(e.stdout)
			}
			err = sr.Text(e.stdout, d)
		}
		printed = printed || err == nil
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", file, err))
		}
	}
	return errors.Join(failed...)
}

// readReport reads the data set of one file.
func readReport(file string) (*dicom.DataSet, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	d, err := dicom.ReadFile(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return d.DataSet, nil
}

// A comparedRow is one value of two reports as extract --compare writes it. The names are a contract.
type comparedRow struct {
	ROI      string   `json:"roi"`
	Feature  string   `json:"feature"`
	Code     string   `json:"code"`
	Scheme   string   `json:"scheme"`
	How      string   `json:"how"` // derivation, aggregation and other choices that are stated of this value
	Unit     string   `json:"unit"`
	First    *float64 `json:"value_1"` // null where the report has no such value
	Second   *float64 `json:"value_2"`
	Differ   *float64 `json:"difference"`
	Relative *float64 `json:"relative_difference"`
	Note     string   `json:"note"`
}

var comparedNames = []string{"roi", "feature", "code", "scheme", "how", "unit", "value_1", "value_2", "difference", "relative_difference", "note"}

func (r comparedRow) fields() []string {
	number := func(v *float64) string {
		if v == nil {
			return ""
		}
		return strconv.FormatFloat(*v, 'g', -1, 64)
	}
	return []string{r.ROI, r.Feature, r.Code, r.Scheme, r.How, r.Unit, number(r.First), number(r.Second), number(r.Differ), number(r.Relative), r.Note}
}

// compare compares the values of two reports.
func (c extractCmd) compare(e *env) error {
	if len(c.Path) != 2 {
		return usageError{errors.New("--compare takes two Structured Reports")}
	}
	if c.Image != "" || c.Mask != "" || c.Profile != "" || c.ROI != "" || c.Diagnostics || len(c.Also) > 0 {
		return usageError{errors.New("--compare goes with --format and --out alone: it measures nothing")}
	}
	var read [2]*sr.Content
	for i, file := range c.Path {
		d, err := readReport(file)
		if err != nil {
			return err
		}
		if read[i], err = sr.Read(d); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	all := sr.Compare(read[0], read[1])
	rows, records := make([]comparedRow, len(all)), [][]string{comparedNames}
	for i, v := range all {
		rows[i] = comparedRow{ROI: v.Region, Feature: v.Concept.Meaning, Code: v.Concept.Value, Scheme: v.Concept.Scheme, How: v.How,
			Unit: v.Unit.Value, Differ: finite(v.Difference), Relative: finite(v.Relative), Note: v.Note}
		if v.First != nil {
			rows[i].First = finite(v.First.Value)
		}
		if v.Second != nil {
			rows[i].Second = finite(v.Second.Value)
		}
		records = append(records, rows[i].fields())
	}
	if err := c.writeTable(e.stdout, rows, records); err != nil {
		return err
	}
	fmt.Fprintln(e.stderr, comparedLine(all))
	return nil
}

func finite(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// comparedLine is the result in a line, for people and for scripts that grep.
func comparedLine(all []sr.Comparison) string {
	var both, equal, parameters, units, first, second int
	largest, where := 0.0, ""
	for _, v := range all {
		switch {
		case v.Second == nil:
			first++
			continue
		case v.First == nil:
			second++
			continue
		}
		both++
		if v.Equal() {
			equal++
		}
		if v.Parameters {
			parameters++
		}
		if !v.SameUnit() {
			units++
		}
		if r := math.Abs(v.Relative); r > largest {
			largest, where = r, fmt.Sprintf(" (%s of %s)", v.Concept.Meaning, v.Region)
		}
	}
	s := fmt.Sprintf("%d of %d values equal to the bit, largest relative difference %.3g%s", equal, both, largest, where)
	for _, n := range []struct {
		count int
		what  string
	}{{parameters, "with other parameters"}, {units, "in other units"}, {first, "only in the first"}, {second, "only in the second"}} {
		if n.count > 0 {
			s += fmt.Sprintf(", %d %s", n.count, n.what)
		}
	}
	return s
}
