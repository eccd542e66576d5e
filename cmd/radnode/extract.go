package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/pipeline/sr"
)

type extractCmd struct {
	Profile string `help:"Built-in profile or YAML file with one profile (default: the built-in one of the modality)." placeholder:"NAME|FILE"`
	ROI     string `name:"roi" help:"Only regions whose name matches." placeholder:"REGEXP"`
	Format  string `default:"csv" enum:"csv,json" help:"csv or json."`
	Out     string `help:"File to write (default: standard output)." placeholder:"FILE"`
	Image   string `help:"NIfTI image, with --mask." placeholder:"NIFTI"`
	Mask    string `help:"NIfTI mask: every voxel above 0." placeholder:"NIFTI"`

	Diagnostics bool `help:"Also the IBSI's diagnostic values of the steps before the features: image and region as given, interpolated, re-segmented."`

	Also []string `placeholder:"MODALITY" help:"Measure contours also on other series of this modality in their frame of reference, as PT for contours drawn on the CT."`

	Compare bool `help:"Compare the values of two reports instead of measuring, see above."`

	Path []string `arg:"" optional:"" help:"Files and folders of DICOM: images, and RTSTRUCT or SEG; with --compare two Structured Reports."`
}

// A row is one value as extract writes it. The names are a contract.
type row struct {
	PatientID    string   `json:"patient_id"`
	StudyUID     string   `json:"study_uid"`
	SeriesUID    string   `json:"series_uid"`
	Modality     string   `json:"modality"`
	ROISourceUID string   `json:"roi_source_uid"`
	ROINumber    int      `json:"roi_number"`
	ROIName      string   `json:"roi_name"`
	Profile      string   `json:"profile"`
	Image        string   `json:"image"`
	Feature      string   `json:"feature"`
	IBSICode     string   `json:"ibsi_code"`
	Value        *float64 `json:"value"` // null where it could not be computed
	Unit         string   `json:"unit"`
	Note         string   `json:"note"`
}

var rowNames = []string{"patient_id", "study_uid", "series_uid", "modality", "roi_source_uid", "roi_number", "roi_name", "profile", "image", "feature", "ibsi_code", "value", "unit", "note"}

func (r row) fields() []string {
	value := ""
	if r.Value != nil {
		value = strconv.FormatFloat(*r.Value, 'g', -1, 64) // the shortest text that reads back the same bits
	}
	return []string{r.PatientID, r.StudyUID, r.SeriesUID, r.Modality, r.ROISourceUID, strconv.Itoa(r.ROINumber), r.ROIName, r.Profile, r.Image, r.Feature, r.IBSICode, value, r.Unit, r.Note}
}

// Help says what two reports are compared by.
func (extractCmd) Help() string {
	return `With --compare two Structured Reports of measurements (TID 1500), from whichever programs, are compared, the second
against the first. Regions are paired by Tracking UID, else by name and source series, else by name, else by order where
they have a quantity in common; values by concept, derivation and aggregation, retired codes standing for the present
ones. One row a value:

  roi, feature, code, scheme, unit    as in the first report, or in the second where it alone has the value
  how                                 derivation, aggregation and other choices stated of this value
  value_1, value_2                    empty (JSON: null) where a report has none
  difference                          value_2 - value_1; empty where the units differ
  relative_difference                 difference over the size of value_1; empty where that is 0
  note                                only in first, only in second, units differ, parameters differ and which

The last line on standard error counts: "N of M values equal to the bit, largest relative difference ...". The exit code
is 0 wherever both reports could be read, whatever their values, and 1 otherwise.`
}

func (c extractCmd) Run(e *env) error {
	if c.Compare {
		return c.compare(e)
	}
	nifti := c.Image != "" || c.Mask != ""
	switch {
	case nifti && (c.Image == "" || c.Mask == "" || len(c.Path) > 0):
		return usageError{errors.New("--image and --mask go together, and without further paths")}
	case !nifti && len(c.Path) == 0:
		return usageError{errors.New("name files or folders of DICOM, or --image and --mask")}
	}
	only, err := regexp.Compile(c.ROI)
	if err != nil {
		return usageError{fmt.Errorf("--roi: %w", err)}
	}
	for _, m := range c.Also {
		if !sr.ImageModality(m) {
			return usageError{fmt.Errorf("--also: %q is no modality of images; write Modality (0008,0060), as PT", m)}
		}
	}
	choose := pipeline.Options{}.Select
	if c.Profile != "" {
		p, err := readProfile(c.Profile)
		if err != nil {
			return usageError{err}
		}
		choose = func(*dicom.DataSet, roi.Region) (features.Profile, bool, error) { return p, true, nil }
	}
	named := func(image *dicom.DataSet, r roi.Region) (features.Profile, bool, error) {
		if !only.MatchString(r.Name) {
			return features.Profile{}, false, nil
		}
		return choose(image, r)
	}

	var rows []row
	var failed []error
	if nifti {
		image := dicom.New()
		image.SetString(dicom.Modality, "CT") // NIfTI knows no modality
		p, _, err := choose(image, roi.Region{})
		if err != nil {
			return err
		}
		rows, err = c.extractNIfTI(e.ctx, p)
		if err != nil {
			return err
		}
	} else {
		rows, failed = c.extractDICOM(e, named)
	}
	for _, err := range failed {
		fmt.Fprintln(e.stderr, "radnode:", err)
	}
	if len(rows) > 0 {
		if err := c.write(e.stdout, rows); err != nil {
			return err
		}
	}
	switch {
	case len(rows) == 0 && len(failed) == 0:
		return errors.New("nothing measured: no region matches")
	case len(failed) > 0:
		return fmt.Errorf("%d of the inputs could not be measured", len(failed))
	}
	return nil
}

// write writes the rows to --out or standard output; a file that could not be written whole is an error.
func (c extractCmd) write(w io.Writer, rows []row) error {
	records := [][]string{rowNames}
	for _, r := range rows {
		records = append(records, r.fields())
	}
	return c.writeTable(w, rows, records)
}

// writeTable writes rows as JSON, or as the records of a CSV table.
func (c extractCmd) writeTable(w io.Writer, rows any, records [][]string) (err error) {
	if c.Out != "" {
		f, err := os.Create(c.Out)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		w = f
	}
	if c.Format == "json" {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	for _, r := range records {
		for i := range r {
			r[i] = noFormula(r[i])
		}
	}
	return csv.NewWriter(w).WriteAll(records)
}

// noFormula puts an apostrophe before a text that a spreadsheet would take for a formula: names of patients and regions are
// whatever a sender wrote. Numbers stay as they are.
func noFormula(s string) string {
	if s == "" || !strings.ContainsRune("=+-@\t\r\n", rune(s[0])) {
		return s
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		return s
	}
	return "'" + s
}

// profileName is how a profile file is called in reports: its name without folder and ending.
func profileName(file string) string {
	base := filepath.Base(file)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// extractNIfTI measures the voxels above 0 of the mask. Of the image only what is needed around them is read.
func (c extractCmd) extractNIfTI(ctx context.Context, p features.Profile) ([]row, error) {
	mask, err := readNIfTI(c.Mask, voxel.ReadNIfTIMask)
	if err != nil {
		return nil, err
	}
	image, err := readNIfTI(c.Image, func(r io.Reader) (*voxel.Grid, error) {
		return voxel.ReadNIfTIPart(r, func(g voxel.Geometry) (voxel.Box, error) {
			if !mask.Geometry.Equal(g, 1e-3) {
				return voxel.Box{}, fmt.Errorf("not on the same grid as %s (size, spacing, orientation, origin): resample the mask to the image", c.Mask)
			}
			bounds := mask.Bounds()
			if need, limit := features.Estimate(g, bounds, p), pipeline.DefaultMemory(); need > limit {
				return voxel.Box{}, pipeline.TooLarge("the region", need, limit, "choose a larger spacing in the profile")
			}
			if c.Diagnostics {
				return g.Box(), nil
			}
			return features.Needed(g, bounds, p), nil
		})
	})
	if err != nil {
		return nil, err
	}
	mask.Geometry = image.Geometry // the same but for rounding in the headers
	result, err := features.Extract(ctx, image, mask, p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Mask, err)
	}
	values := result.Values
	if c.Diagnostics {
		d, err := features.Diagnostics(ctx, image, mask, p)
		if err != nil {
			return nil, err
		}
		values = slices.Concat(values, d)
	}
	return rows(row{ROISourceUID: filepath.Base(c.Mask), ROIName: profileName(strings.TrimSuffix(c.Mask, ".gz")), Profile: p.Name}, values, ""), nil
}

func readNIfTI[T any](file string, read func(io.Reader) (T, error)) (out T, err error) {
	f, err := os.Open(file)
	if err != nil {
		return out, err
	}
	defer f.Close()
	if out, err = read(f); err != nil {
		return out, fmt.Errorf("%s: %w", file, err)
	}
	return out, nil
}

// rows writes out the values of one region. unit is the UCUM unit of the image intensities, "" where it is unknown.
func rows(base row, values []features.Value, unit string) (rows []row) {
	for _, v := range values {
		f, _, _ := features.Lookup(v.Tag) // a diagnostic value has no code
		r := base
		r.Image, r.Feature, r.IBSICode, r.Unit, r.Note = "original", v.Tag, f.Code, unitOf(v, f.Code, unit), v.Reason
		if v.Reason == "" {
			r.Value = &v.Value
		}
		rows = append(rows, r)
	}
	return rows
}

// unitOf is the UCUM unit of a value.
func unitOf(v features.Value, ibsiCode, intensity string) string {
	switch {
	case v.Unit == features.UnitNone: // bin numbers too, whatever the unit of the feature is otherwise
		return sr.Unit("").Value
	case ibsiCode != "":
		u, _ := sr.UnitFor(ibsiCode, intensity)
		return u.Value
	case v.Unit == features.UnitIntensity:
		return sr.Unit(intensity).Value
	}
	return string(v.Unit)
}

// An input is one DICOM file of an extraction. Its pixels are read when they are needed.
type input struct {
	path  string
	named bool // and not found in a folder
	file  *dicom.File
}

// A reopened file is open while its header is read, and then for each read of pixels: a series may have more images than a
// program may have open files.
type reopened struct {
	path   string
	opened *os.File // nil after the header
}

func (r *reopened) ReadAt(b []byte, off int64) (int, error) {
	if r.opened != nil {
		return r.opened.ReadAt(b, off)
	}
	f, err := os.Open(r.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.ReadAt(b, off)
}

// extractDICOM measures every RTSTRUCT and SEG below the paths on the images below the paths that it names.
func (c extractCmd) extractDICOM(e *env, choose pipeline.Chooser) (rows []row, failed []error) {
	contours, images, failed := readInputs(c.Path)
	contours = slices.DeleteFunc(contours, func(in input) bool {
		own := !in.named && equipmentOf("").Wrote(in.file.DataSet)
		if own {
			fmt.Fprintf(e.stderr, "radnode: %s: passed over, a segmentation that radnode made of other contours; name the file itself to measure it\n", in.path)
		}
		return own
	})
	if len(contours) == 0 {
		return nil, append(failed, errors.New("no RTSTRUCT or SEG found below the paths: nothing says where to measure"))
	}
	for _, in := range contours {
		r, err := c.extractOne(e.ctx, in, images, choose)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", in.path, err))
		}
		rows = append(rows, r...)
	}
	return rows, failed
}

// readInputs reads the headers of all files below the paths. Files that are no DICOM are passed over in silence, files that
// are broken DICOM are not.
func readInputs(paths []string) (contours []input, images map[string][]input, failed []error) {
	images = map[string][]input{} // by Series Instance UID
	failed = walkFiles(paths, func(path string, named bool) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		switch {
		case err != nil:
			return err
		case !info.Mode().IsRegular() || !isPart10(f):
			if named {
				return fmt.Errorf("%s: %w", path, errNotPart10)
			}
			return nil
		}
		r := &reopened{path, f}
		defer func() { r.opened = nil }()
		file, err := dicom.ReadFile(r, info.Size())
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		in := input{path: path, named: named, file: file}
		switch {
		case roi.HoldsRegions(file.DataSet.String(dicom.SOPClassUID)):
			contours = append(contours, in)
		case file.Pixels != nil:
			series := file.DataSet.String(dicom.SeriesInstanceUID)
			images[series] = append(images[series], in)
		}
		return nil
	})
	return contours, images, failed
}

// extractOne measures one RTSTRUCT or SEG. What it names may be here under changed UIDs (anonymised, resampled): then the
// images of the series that it names are taken, as the fallback rule of the pipeline does.
func (c extractCmd) extractOne(ctx context.Context, in input, images map[string][]input, choose pipeline.Chooser) (out []row, err error) {
	refs, err := roi.References(in.file.DataSet)
	if err != nil {
		return nil, err
	}
	if len(refs) == 0 {
		return nil, pipeline.ErrNoImages
	}
	var failed []error
	measure := func(uid string, series []*dicom.File, elsewhere bool) {
		m, err := pipeline.Measure(ctx, pipeline.Request{Contours: in.file, Images: series, Choose: choose, Elsewhere: elsewhere, Diagnostics: c.Diagnostics})
		if err != nil && !errors.Is(err, pipeline.ErrNothingMeasured) {
			failed = append(failed, fmt.Errorf("series %s: %w", uid, err))
			return
		}
		for _, r := range m.Regions {
			header := m.Volume.Header
			out = append(out, rows(row{
				PatientID: header.String(dicom.PatientID), StudyUID: header.String(dicom.StudyInstanceUID), SeriesUID: m.Volume.Series,
				Modality: m.Volume.Modality, ROISourceUID: in.file.DataSet.String(dicom.SOPInstanceUID),
				ROINumber: r.Region.Number, ROIName: r.Region.Name, Profile: r.Profile.Name,
			}, slices.Concat(r.Result.Values, r.Diagnostics), r.Image.Unit)...)
		}
		for _, s := range m.Skipped {
			failed = append(failed, fmt.Errorf("%s %d %q: %w", s.Region.Kind(), s.Region.Number, s.Region.Name, s.Reason))
		}
	}
	seen := make(map[string]bool)
	for _, ref := range refs {
		seen[ref.SeriesUID] = true // where it is not whole too
		series, err := imagesOf(ref, images)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		seen[series[0].DataSet.String(dicom.SeriesInstanceUID)] = true
		measure(ref.SeriesUID, series, false)
	}
	for _, uid := range slices.Sorted(maps.Keys(images)) {
		header := images[uid][0].file.DataSet
		inFrame := slices.ContainsFunc(refs, func(r roi.Reference) bool {
			return r.FrameOfReference != "" && r.FrameOfReference == header.String(dicom.FrameOfReferenceUID)
		})
		if !seen[uid] && inFrame && slices.Contains(c.Also, header.String(dicom.Modality)) {
			measure(uid, files(images[uid]), true)
		}
	}
	return out, errors.Join(failed...)
}

func files(in []input) (out []*dicom.File) {
	for _, i := range in {
		out = append(out, i.file)
	}
	return out
}

// imagesOf finds the images that a reference names, or their whole series where it names only the slices with contours or
// where none of them is here under its present UID.
func imagesOf(ref roi.Reference, images map[string][]input) ([]*dicom.File, error) {
	byUID := map[string]*dicom.File{}
	for _, series := range images {
		for _, in := range series {
			byUID[in.file.DataSet.String(dicom.SOPInstanceUID)] = in.file
		}
	}
	var found []*dicom.File
	for _, uid := range ref.Instances {
		if f := byUID[uid]; f != nil {
			found = append(found, f)
		}
	}
	series := ref.SeriesUID
	if series == "" && len(found) > 0 {
		series = found[0].DataSet.String(dicom.SeriesInstanceUID)
	}
	switch missing := len(ref.Instances) - len(found); {
	case len(found) > 0 && missing > 0:
		return nil, refusal.New(refusal.ImageNone, "", "series %s: %d of %d named images are missing below the paths", series, missing, len(ref.Instances))
	case len(found) > 0 && ref.Listed:
		return found, nil
	}
	all := files(images[series])
	if series == "" && len(ref.Instances) == 0 { // a segmentation that names no image
		for uid, in := range images {
			if in[0].file.DataSet.String(dicom.FrameOfReferenceUID) != ref.FrameOfReference {
				continue
			}
			if all != nil {
				return nil, refusal.New(refusal.ContoursReferences, "", "the segmentation names no image, and there are several series of its frame of reference below the paths")
			}
			series, all = uid, files(in)
		}
	}
	if len(all) == 0 {
		return nil, refusal.New(refusal.ImageNone, "", "series %s: none of its images is below the paths", series)
	}
	return all, nil
}
