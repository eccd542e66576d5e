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
	Format string `default:"text" enum:"text,json" help:"text for people, or json: one line a file (JSON Lines)."`

	File []string `arg:"" help:"Structured Reports of any template (PS3.10 files)."`
}

// Help is the contract of the JSON.
func (srCmd) Help() string {
	return `Text shows a measurement report (TID 1500) in the order of interest: summary, regions with their measurements, context,
images; any other template in the order of its tree. It shows the patient.

JSON is one object a file, each on a line. Every key is always there: a text that the report does not have is "", a list
is [], a code or a number is null. A code is {value, scheme, meaning}; a number has all its digits.

  file, sop_class_uid, sop_class, sop_instance_uid, series_instance_uid, series_number, series_description,
  instance_number, completion, verification, time (ISO 8601), template, title, language
  patient      name, id, issuer_of_id, birth_date, sex
  study        study_instance_uid, date, time, id, description, accession_number
  equipment    manufacturer, model_name, software_version, serial_number, device_uid, station_name
  observers    [] type, name, organization, login_name, uid, manufacturer, model_name, serial_number, place, role
  procedures_reported [] codes
  algorithm    name, version, parameters []
  groups       [] tracking_identifier, tracking_uid, template, activity_session, finding_category, finding, purpose,
               source_series, method, algorithm, comments []
    time_point     label, subject, protocol, type, order
    sites          [] site, laterality, topographical_modifier
    regions        [] concept, value_type, graphic_type, points [], frame_of_reference_uid, object, segments [], frames [], roi
    references     [] concept, object, segments [], frames []
    steps          [] name, method, text, numbers [] (concept, value, unit)
    measurements   [] concept, display, value, unit, qualifier (why value is null), modifiers [] (name, value),
                   parameters [] (concept, value, unit), properties [], numbers [], regions [], references []
    evaluations    [] name, value, text, with []
  derived      [] measurements
  summary      [] texts
  evaluations  [] as in groups
  images       [] study_instance_uid, series_instance_uid, modality, frame_of_reference_uid, instances []
  contours, predecessors, evidence
               [] study_instance_uid, series_instance_uid, sop_class_uid, sop_instance_uid, as object above
  content      null, or of a report that is no measurement report its items: relationship, value_type, name, and of
               text, code, value, unit, qualifier, object, segments, frames, points, content those that it has

Exit code 1 where a file could not be read or is no Structured Report; the others are printed all the same.`
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
	// Before it is opened: a pipe that nobody writes to would be waited for.
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is a folder, pipe or device; name a file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
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
