package pages

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
)

// The words of a document that are not the caller's, in one language.
type words struct {
	language string
	comma    bool // for the decimal point

	page, lesion, missing                               string // formats, but for missing
	key, histogram, voxels, outside, course, noEarlier  string
	all, comments, notes, continued, shortened, summary string
	noLesion, noPicture, appendix, to, oblique          string
	planes                                              [3]string
	months                                              [12]string
	name, id, issuer, born, sex, study, date, accession string
	modality, series                                    string
	sexes                                               map[string]string
}

var english = words{
	language: "en",
	page:     "Page %d of %d", lesion: "Region %d of %d", missing: "□ stands for a character that this document cannot show.",
	key: "Key values", histogram: "Intensities in the segmentation", voxels: "voxels", outside: "%d below and %d above not shown",
	course: "Course", noEarlier: "No earlier report of this region is here to compare with.",
	all: "All values", comments: "Comments", notes: "Notes", continued: "continued", shortened: "Shortened above", summary: "Summary",
	noLesion: "No region was measured.", noPicture: "No picture", appendix: "more in the appendix", to: "to", oblique: "oblique",
	planes: [3]string{"Axial", "Coronal", "Sagittal"},
	months: [12]string{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"},
	name:   "Patient", id: "Patient ID", issuer: "Issuer of ID", born: "Born", sex: "Sex", study: "Study", date: "Study date", accession: "Accession no.",
	modality: "Modality", series: "Series",
	sexes: map[string]string{"M": "male", "F": "female", "O": "other"},
}

var italian = words{
	language: "it", comma: true,
	page: "Pagina %d di %d", lesion: "Regione %d di %d", missing: "□ sta per un carattere che questo documento non può mostrare.",
	key: "Valori principali", histogram: "Intensità nella segmentazione", voxels: "voxel", outside: "%d sotto e %d sopra non mostrati",
	course: "Andamento", noEarlier: "Non è presente un report precedente di questa regione per il confronto.",
	all: "Tutti i valori", comments: "Commenti", notes: "Note", continued: "continua", shortened: "Abbreviato sopra", summary: "Sintesi",
	noLesion: "Nessuna regione è stata misurata.", noPicture: "Nessuna immagine", appendix: "altri in appendice", to: "a", oblique: "obliquo",
	planes: [3]string{"Assiale", "Coronale", "Sagittale"},
	months: [12]string{"gen", "feb", "mar", "apr", "mag", "giu", "lug", "ago", "set", "ott", "nov", "dic"},
	name:   "Paziente", id: "ID paziente", issuer: "Emittente ID", born: "Data di nascita", sex: "Sesso", study: "Studio", date: "Data studio",
	accession: "N. accettazione", modality: "Modalità", series: "Serie",
	sexes: map[string]string{"M": "maschile", "F": "femminile", "O": "altro"},
}

func wordsOf(language string) *words {
	if strings.HasPrefix(language, "it") {
		return &italian
	}
	return &english
}

// Identity is what the top of each page says of patient and study, from the header of an image.
func Identity(source *dicom.DataSet, language string) (patient, study []Row) {
	w := wordsOf(language)
	if source == nil {
		source = dicom.New()
	}
	add := func(rows *[]Row, label, s string) {
		if s != "" {
			*rows = append(*rows, Row{label, s})
		}
	}
	patient = []Row{{w.name, PersonName(source.String(dicom.PatientName))}, {w.id, source.String(dicom.PatientID)}}
	add(&patient, w.issuer, source.String(dicom.IssuerOfPatientID))
	add(&patient, w.born, w.dicomDate(source.String(dicom.PatientBirthDate)))
	sex := source.String(dicom.PatientSex)
	if full := w.sexes[sex]; full != "" {
		sex = full
	}
	add(&patient, w.sex, sex)
	add(&study, w.study, source.String(dicom.StudyDescription))
	add(&study, w.date, w.dicomDate(source.String(dicom.StudyDate)))
	add(&study, w.accession, source.String(dicom.AccessionNumber))
	add(&study, w.modality, source.String(dicom.Modality))
	add(&study, w.series, source.String(dicom.SeriesDescription))
	return patient, study
}

// PersonName is a PN as people write it: "Family, Prefix Given Middle, Suffix" of the alphabetic group, or of the first group
// that there is (PS3.5 6.2.1).
func PersonName(pn string) string {
	g := dicom.ParseName(pn)
	s := g.Alphabetic
	if s == "" {
		if s = g.Ideographic; s == "" {
			s = g.Phonetic
		}
	}
	part := append(strings.Split(s, "^"), "", "", "", "", "")
	given := strings.Join(strings.Fields(part[3]+" "+part[1]+" "+part[2]), " ")
	var all []string
	for _, p := range []string{strings.TrimSpace(part[0]), given, strings.TrimSpace(part[4])} {
		if p != "" {
			all = append(all, p)
		}
	}
	return strings.Join(all, ", ")
}

func (w *words) day(t time.Time) string {
	return strconv.Itoa(t.Day()) + " " + w.months[t.Month()-1] + " " + strconv.Itoa(t.Year())
}

// dicomDate is a DA for people, and as it is where it is none.
func (w *words) dicomDate(da string) string {
	if t, err := time.Parse("20060102", da); err == nil {
		return w.day(t)
	}
	return da
}

func (w *words) decimal(s string) string {
	if w.comma {
		s = strings.Replace(s, ".", ",", 1)
	}
	return strings.Replace(s, "-", "−", 1)
}

// number is a value with four digits that count.
func (w *words) number(v float64) string {
	a := math.Abs(v)
	if a != 0 && (a >= 1e7 || a < 1e-4) || math.IsNaN(v) || math.IsInf(v, 0) {
		return w.decimal(strconv.FormatFloat(v, 'g', 4, 64))
	}
	digits := 3
	for ; a >= 10 && digits > 0; a /= 10 {
		digits--
	}
	for b := math.Abs(v); b != 0 && b < 1 && digits < 8; b *= 10 {
		digits++
	}
	s := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return w.decimal(s)
}

// tick is a value on an axis whose ticks are step apart.
func (w *words) tick(v, step float64) string {
	if math.Abs(v) < step/2 {
		return "0"
	}
	if math.Abs(v) >= 1e6 || step < 1e-4 {
		return w.decimal(strconv.FormatFloat(v, 'g', 4, 64))
	}
	digits := 0
	for s := step; s < 0.999 && digits < 5; s *= 10 {
		digits++
	}
	return w.decimal(strconv.FormatFloat(v, 'f', digits, 64))
}

// count is a whole number in groups of three digits, with the narrow blank of ISO 80000-1.
func (w *words) count(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && len(s) > 4; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}
