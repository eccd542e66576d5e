package pipeline

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/pipeline/words"
)

// A Document is one of the things that say what was measured. The segmentation goes with all of them.
type Document string

const (
	Full    Document = "full"    // Structured Report with every value
	Key     Document = "key"     // Structured Report with at most a dozen values a region
	PDF     Document = "pdf"     // Encapsulated PDF, for viewers that show no Structured Reports
	Capture Document = "capture" // its pages as Secondary Captures, for viewers that show images alone
)

var documents = []Document{Full, Key, PDF, Capture}

func (d Document) report() bool { return d == Full || d == Key }

// A Style says in what form a destination wants results. What is left out is as [DefaultStyle] has it.
type Style struct {
	Documents    []Document     `yaml:"documents,omitempty"`
	Language     words.Language `yaml:"language,omitempty"`      // of text: en, it
	Title        string         `yaml:"title,omitempty"`         // of reports: oncology, imaging, dynamic-mr, pet
	SOPClass     string         `yaml:"sop_class,omitempty"`     // of reports: comprehensive-3d, comprehensive, enhanced
	SeriesNumber int            `yaml:"series_number,omitempty"` // of full reports; key reports, PDF and captures follow it
	Segmentation string         `yaml:"segmentation,omitempty"`  // send, or keep it in the store where the destination takes none
	Description  string         `yaml:"description,omitempty"`   // Series Description, with {document}, {regions}, {modality}, {series}, {profile}
}

// DefaultStyle is what a destination gets that asks for nothing else.
var DefaultStyle = Style{
	Documents: []Document{Full}, Language: "en", Title: "oncology", SOPClass: "comprehensive-3d",
	SeriesNumber: 9801, Segmentation: "send", Description: "{document} - {regions} - {modality} {series} - {profile}",
}

var (
	titles = map[string]sr.Code{
		"imaging": sr.ImagingMeasurementReport, "oncology": sr.OncologyMeasurementReport,
		"dynamic-mr": sr.DynamicMRReport, "pet": sr.PETMeasurementReport,
	}
	sopClasses = map[string]string{
		"comprehensive-3d": dicom.Comprehensive3DSRStorage, "comprehensive": dicom.ComprehensiveSRStorage, "enhanced": dicom.EnhancedSRStorage,
	}
	placeholders = []string{"{document}", "{modality}", "{profile}", "{regions}", "{series}"}
)

// Over is s where it says something, else t.
func (s Style) Over(t Style) Style {
	if len(s.Documents) == 0 {
		s.Documents = t.Documents
	}
	s.Language, s.Title, s.SOPClass = cmp.Or(s.Language, t.Language), cmp.Or(s.Title, t.Title), cmp.Or(s.SOPClass, t.SOPClass)
	s.SeriesNumber, s.Segmentation = cmp.Or(s.SeriesNumber, t.SeriesNumber), cmp.Or(s.Segmentation, t.Segmentation)
	s.Description = cmp.Or(s.Description, t.Description)
	return s
}

// Check names the first setting that is none, and what may stand there.
func (s Style) Check() error {
	s = s.Over(DefaultStyle)
	for i, d := range s.Documents {
		if !slices.Contains(documents, d) {
			return fmt.Errorf("documents: %q is none; write any of full, key, pdf, capture", d)
		}
		if slices.Contains(s.Documents[:i], d) {
			return fmt.Errorf("documents: %q is there twice", d)
		}
	}
	if _, err := words.Parse(string(s.Language)); err != nil {
		return fmt.Errorf("language: %w", err)
	}
	if _, ok := titles[s.Title]; !ok {
		return fmt.Errorf("title: %q is none; write oncology, imaging, dynamic-mr or pet (PS3.16 CID 7021)", s.Title)
	}
	if _, ok := sopClasses[s.SOPClass]; !ok {
		return fmt.Errorf("sop_class: %q is none; write comprehensive-3d, comprehensive or enhanced", s.SOPClass)
	}
	if s.Segmentation != "send" && s.Segmentation != "keep" {
		return fmt.Errorf("segmentation: %q; write send or keep", s.Segmentation)
	}
	if s.SeriesNumber < 1 || s.SeriesNumber > 1<<31-1-len(documents) { // IS, PS3.5 Table 6.2-1
		return fmt.Errorf("series_number: %d, want 1 to %d", s.SeriesNumber, 1<<31-1-len(documents))
	}
	for _, d := range s.Documents {
		if s.number(d) == segmentationSeriesNumber {
			return fmt.Errorf("series_number: %d gives %s reports the number of the segmentation, %d", s.SeriesNumber, d, segmentationSeriesNumber)
		}
	}
	rest := s.Description
	for _, p := range placeholders {
		rest = strings.ReplaceAll(rest, p, " ")
	}
	if strings.ContainsAny(rest, "{}\\") || strings.ContainsFunc(rest, unicode.IsControl) || !utf8.ValidString(rest) || strings.TrimSpace(s.Description) == "" {
		return fmt.Errorf("description: %q; write text in one line with any of %s, without backslash", s.Description, strings.Join(placeholders, " "))
	}
	return nil
}

// looks says whether pictures are needed.
func looks(d []Document) bool { return slices.Contains(d, PDF) || slices.Contains(d, Capture) }

// pageBytes is about what the pages of a region take, in documents of which each style has its own: those of a PDF while they
// are written, and a picture once encoded, and once more as pixels in the style that is being written.
func pageBytes(d []Document) (bytes int64) {
	const picture, pdf = 7 << 20, 1 << 20
	for _, d := range d {
		switch d {
		case PDF:
			bytes += pdf
		case Capture:
			bytes += picture
		}
	}
	if slices.Contains(d, Capture) {
		bytes += picture
	}
	return bytes
}

// written are the documents of all styles.
func written(styles []Style) (all []Document) {
	for _, s := range styles {
		all = append(all, s.Documents...)
	}
	return all
}

// id names what a style does to content: two destinations with the same one get the same instances.
func (s Style) id() string {
	s.Documents, s.Segmentation = nil, "" // each is made or sent, or not, and is the same
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v", s))
	return hex.EncodeToString(sum[:8])
}

// number is the Series Number of a document.
func (s Style) number(d Document) int {
	switch d {
	case Key:
		return s.SeriesNumber + 2 // the segmentation lies between them
	case PDF:
		return s.SeriesNumber + 3
	case Capture:
		return s.SeriesNumber + 4
	}
	return s.SeriesNumber
}

// description is the Series Description of a document.
func (s Style) description(d Document, m *Measured) string {
	var name string
	switch l := s.Language; d {
	case Key:
		name = l.Sprintf("Radiomics, key values")
	case PDF:
		name = l.Sprintf("Radiomics, PDF")
	case Capture:
		name = l.Sprintf("Radiomics, pictures")
	default:
		name = l.Sprintf("Radiomics")
	}
	return s.fill(name, m)
}

// fill is the description of what is called name. {series} is the Series Number of the images, which tells the T1 from the T2 of a
// study.
func (s Style) fill(name string, m *Measured) string {
	with := func(regions string) string {
		text := strings.NewReplacer("{document}", name, "{modality}", m.Volume.Modality, "{series}", m.Volume.Header.String(dicom.SeriesNumber),
			"{profile}", strings.Join(profileNames(m), "+"), "{regions}", regions).Replace(s.Description)
		return strings.Join(strings.Fields(text), " ") // what is empty leaves no gap
	}
	text := with(strings.Join(names(m), ", "))
	if utf8.RuneCountInString(text) > 64 { // LO: a list that is cut tells less than its length
		text = with(s.Language.Sprintf("%d regions", len(m.Regions)))
	}
	return text
}

// profileNames are the profiles of a measurement, each once.
func profileNames(m *Measured) (names []string) {
	for _, r := range m.Regions {
		if !slices.Contains(names, r.Profile.Name) {
			names = append(names, r.Profile.Name)
		}
	}
	return names
}
