package pages

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/testdata"
)

func instance(class, uid string) sr.Instance {
	return sr.Instance{SOPClassUID: class, SOPInstanceUID: uid}
}

func headerOf(source *dicom.DataSet) Header {
	study, series := source.String(dicom.StudyInstanceUID), source.String(dicom.SeriesInstanceUID)
	image := func(uid string) sr.Document {
		return sr.Document{StudyInstanceUID: study, SeriesInstanceUID: series, Instance: instance(source.String(dicom.SOPClassUID), uid)}
	}
	return Header{
		Source: source,
		Equipment: sr.Equipment{
			Manufacturer: "radnode", ModelName: "radnode", SoftwareVersion: "0.1.0", SerialNumber: "1", DeviceUID: "2.25.7",
		},
		SOPInstanceUID: "2.25.100", SeriesInstanceUID: "2.25.101", SeriesNumber: 9803, InstanceNumber: 2,
		SeriesDescription: "Radiomics (IBSI) - pages",
		ContentTime:       time.Date(2026, 11, 3, 23, 30, 0, 0, time.UTC), Title: "Radiomics (IBSI) - Größe",
		Images: []sr.Document{image(source.String(dicom.SOPInstanceUID)), image("2.25.5")},
		Related: []sr.Document{
			{SeriesInstanceUID: "2.25.201", Instance: instance(dicom.Comprehensive3DSRStorage, "2.25.200")},
			{SeriesInstanceUID: "2.25.203", Instance: instance(dicom.SegmentationStorage, "2.25.202")},
			{StudyInstanceUID: "2.25.206", SeriesInstanceUID: "2.25.205", Instance: instance(dicom.RTStructureSetStorage, "2.25.204")},
		},
	}
}

func fileOf(t testing.TB, d *dicom.DataSet) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := dicom.WriteFile(&b, dicom.FileMeta{}, d); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func parse(t testing.TB, b []byte) *dicom.DataSet {
	t.Helper()
	f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f.DataSet
}

// tiny is a page of few bytes.
func tiny(columns, rows int) *Picture {
	p := &Picture{Columns: columns, Rows: rows, Pix: make([]byte, 3*columns*rows)}
	for i := range p.Pix {
		p.Pix[i] = byte(i * 7)
	}
	return p
}

// sources are headers of images: one in the project, and others where the reference data is there.
func sources(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	b, err := fs.ReadFile(testdata.FS, testdata.SyntheticCT+"/ct-01.dcm")
	if err != nil {
		t.Fatal(err)
	}
	all["synthetic"] = b
	for _, name := range []string{"lung1/LUNG1-001/image/1-001.dcm", "highdicom/ct_image.dcm", "dcmqi/ct-3slice/01.dcm"} {
		if b, err := fs.ReadFile(shared(), name); err == nil {
			all[name] = b
		} else if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
	}
	return all
}

// dicom3tools finds no error in the objects, and nothing in which they differ from the image that they are filed with; DCMTK
// gives the PDF and the pixels back.
func TestObjects(t *testing.T) {
	dciodvfy, dcentvfy := need(t, "dciodvfy"), need(t, "dcentvfy")
	need(t, "dcm2pdf")
	need(t, "dcmj2pnm")
	pdf := pdfOf(t, phantom(t, 1, false))
	odd := append([]byte{}, pdf...)
	if len(odd)%2 == 0 {
		odd = append(odd, '\n') // PDF readers take what comes behind %%EOF
	}
	for name, image := range sources(t) {
		h := headerOf(parse(t, image))
		folder := t.TempDir()
		write := func(name string, b []byte) string {
			path := filepath.Join(folder, name)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		var made []string
		for i, p := range [][]byte{pdf, odd} {
			h := h
			h.SOPInstanceUID = fmt.Sprintf("2.25.1%d", i)
			if i == 1 { // what may be left out
				h.Images, h.Related, h.Title, h.SeriesDescription = nil, nil, "", ""
				h.Equipment.SerialNumber, h.Equipment.DeviceUID = "", ""
				h.Concept = sr.OncologyMeasurementReport
			}
			d, err := Encapsulate(h, p)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			file := write(fmt.Sprintf("pdf%d.dcm", i), fileOf(t, d))
			made = append(made, file)
			back := filepath.Join(folder, "back.pdf")
			run(t, "dcm2pdf", file, back)
			got, err := os.ReadFile(back)
			if err != nil || !bytes.Equal(got, p) {
				t.Errorf("%s: dcm2pdf gives %d bytes, %v, not the %d of the PDF", name, len(got), err, len(p))
			}
			if n, ok := d.Int(dicom.EncapsulatedDocumentLength); !ok || n != len(p) {
				t.Errorf("%s: Encapsulated Document Length is %d of %d", name, n, len(p))
			}
		}
		h.SeriesInstanceUID, h.SeriesNumber = "2.25.102", 9804
		pages := []*Picture{tiny(64, 48), tiny(31, 17)}
		captures, err := Captures(h, pages)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, d := range captures {
			file := write(fmt.Sprintf("page%d.dcm", i), fileOf(t, d))
			made = append(made, file)
			back := filepath.Join(folder, "back.ppm")
			run(t, "dcmj2pnm", "--write-raw-pnm", file, back)
			got, err := os.ReadFile(back)
			p := pages[i]
			want := append([]byte(fmt.Sprintf("P6\n%d %d\n255\n", p.Columns, p.Rows)), p.Pix...)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: page %d is not the same in DCMTK: %v", name, i+1, err)
			}
		}
		for _, file := range made {
			// The exit code says little: dciodvfy names the IOD it found, then a line a finding.
			out, _ := exec.Command(dciodvfy, "-new", file).CombinedOutput()
			if iod := string(out); !strings.Contains(iod, "EncapsulatedPDF\n") && !strings.Contains(iod, "SCImage\n") {
				t.Errorf("%s, %s: dciodvfy does not know what it is:\n%s", name, filepath.Base(file), out)
			}
			for line := range strings.Lines(string(out)) {
				if strings.HasPrefix(line, "Error") {
					t.Errorf("%s, %s: %s", name, filepath.Base(file), line)
				} else {
					t.Logf("%s, %s: %s", name, filepath.Base(file), strings.TrimSpace(line))
				}
			}
		}
		out, err := exec.Command(dcentvfy, append(made, write("image.dcm", image))...).CombinedOutput()
		if err != nil || strings.Contains(string(out), "Error") {
			t.Errorf("%s: dcentvfy: %v\n%s", name, err, out)
		}
	}
}

// A whole page goes through DCMTK pixel for pixel.
func TestPageInDCMTK(t *testing.T) {
	d, err := Draw(phantom(t, 1, false))
	if err != nil {
		t.Fatal(err)
	}
	p := d.Picture(0)
	b, err := fs.ReadFile(testdata.FS, testdata.SyntheticCT+"/ct-01.dcm")
	if err != nil {
		t.Fatal(err)
	}
	c, err := capture(headerOf(parse(t, b)), 1, d.Len(), p)
	if err != nil {
		t.Fatal(err)
	}
	back := filepath.Join(t.TempDir(), "back.ppm")
	run(t, "dcmj2pnm", "--write-raw-pnm", save(t, "page.dcm", fileOf(t, c)), back)
	got, err := os.ReadFile(back)
	if want := append([]byte(fmt.Sprintf("P6\n%d %d\n255\n", p.Columns, p.Rows)), p.Pix...); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the page is not the same in DCMTK: %v", err)
	}
}

// What the objects say of patient and study is what the image says; what they name is in both lists.
func TestHeaders(t *testing.T) {
	b, err := fs.ReadFile(testdata.FS, testdata.SyntheticCT+"/ct-01.dcm")
	if err != nil {
		t.Fatal(err)
	}
	source := parse(t, b)
	source.SetString(dicom.PatientName, "Müller^Anna=山田")
	source.SetString(dicom.TimezoneOffsetFromUTC, "+0200")
	source.SetString(dicom.LossyImageCompression, "01")
	source.SetString(dicom.LossyImageCompressionRatio, "12")
	h := headerOf(source)
	pdf, err := Encapsulate(h, []byte("%PDF-1.3\n"))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := Captures(h, []*Picture{tiny(2, 2), tiny(2, 2), tiny(3, 1)})
	if err != nil {
		t.Fatal(err)
	}
	uids := map[string]bool{}
	for i, d := range append([]*dicom.DataSet{pdf}, pages...) {
		d = parse(t, fileOf(t, d))
		for _, tag := range dicom.EntityAttributes() {
			if got, want := d.Strings(tag), source.Strings(tag); strings.Join(got, `\`) != strings.Join(want, `\`) {
				t.Errorf("object %d: %s is %q, the image has %q", i, tag, got, want)
			}
		}
		// 23:30 UTC is the next day in the zone that the object names.
		if d.String(dicom.ContentDate) != "20261104" || d.String(dicom.ContentTime) != "013000" {
			t.Errorf("object %d: content %s %s", i, d.String(dicom.ContentDate), d.String(dicom.ContentTime))
		}
		if d.String(dicom.BurnedInAnnotation) != "YES" || d.String(dicom.ConversionType) != "WSD" {
			t.Errorf("object %d: burned in %q, conversion %q", i, d.String(dicom.BurnedInAnnotation), d.String(dicom.ConversionType))
		}
		number, _ := d.Int(dicom.InstanceNumber)
		if want := max(2, 2+i-1); number != want {
			t.Errorf("object %d: Instance Number %d, want %d", i, number, want)
		}
		if uid := d.String(dicom.SOPInstanceUID); uids[uid] || !dicom.ValidUID(uid) {
			t.Errorf("object %d: SOP Instance UID %s", i, uid)
		} else {
			uids[uid] = true
		}
		named := 0
		for _, s := range d.Seq(dicom.ReferencedSeriesSequence) {
			named += len(s.Seq(dicom.ReferencedInstanceSequence))
		}
		other := d.Seq(dicom.StudiesContainingOtherReferencedInstancesSequence)
		if named != 4 || len(other) != 1 || len(other[0].Seq(dicom.ReferencedSeriesSequence)) != 1 {
			t.Errorf("object %d: %d instances of the study and %d other studies are named", i, named, len(other))
		}
	}
	if n := len(pdf.Seq(dicom.SourceInstanceSequence)); n != 5 {
		t.Errorf("the PDF has %d source instances, want 5", n)
	}
	if n := len(pages[0].Seq(dicom.SourceImageSequence)); n != 2 || pages[0].String(dicom.LossyImageCompression) != "01" {
		t.Errorf("the page has %d source images, want 2; lossy %q", n, pages[0].String(dicom.LossyImageCompression))
	}
	again, err := Captures(h, []*Picture{tiny(2, 2), tiny(2, 2), tiny(3, 1)})
	if err != nil || !bytes.Equal(fileOf(t, again[1]), fileOf(t, pages[1])) {
		t.Errorf("the same page is not the same bytes: %v", err)
	}
}

func TestObjectsRefused(t *testing.T) {
	source := dicom.New()
	source.SetString(dicom.StudyInstanceUID, "2.25.1")
	for name, change := range map[string]func(*Header){
		"no source":    func(h *Header) { h.Source = nil },
		"no study":     func(h *Header) { h.Source = dicom.New() },
		"no instance":  func(h *Header) { h.SOPInstanceUID = "" },
		"no series":    func(h *Header) { h.SeriesInstanceUID = "x" },
		"no equipment": func(h *Header) { h.Equipment.Manufacturer = "" },
		"no year":      func(h *Header) { h.ContentTime = time.Unix(1<<50, 0) },
		"half a code":  func(h *Header) { h.Concept.Value = "1" },
		"no reference": func(h *Header) { h.Related[0].SOPInstanceUID = "" },
	} {
		h := headerOf(source)
		h.Images = nil
		change(&h)
		if _, err := Encapsulate(h, []byte("%PDF-1.3")); err == nil {
			t.Errorf("%s: a PDF was made", name)
		}
		if _, err := Captures(h, []*Picture{tiny(1, 1)}); err == nil {
			t.Errorf("%s: a page was made", name)
		}
	}
	h := headerOf(source)
	h.Images = nil
	for _, b := range [][]byte{nil, []byte("%PD"), []byte("hello world")} {
		if _, err := Encapsulate(h, b); err == nil {
			t.Errorf("%q was taken for a PDF", b)
		}
	}
	for _, p := range []*Picture{
		nil, {}, {Columns: 1, Rows: 1}, {Columns: -1, Rows: -1, Pix: make([]byte, 3)}, {Columns: 70000, Rows: 1, Pix: make([]byte, 210000)},
	} {
		if _, err := Captures(h, []*Picture{p}); err == nil {
			t.Errorf("%v was taken for a page", p)
		}
	}
}

func TestIdentity(t *testing.T) {
	d := dicom.New()
	d.SetString(dicom.PatientName, "Rossi^Anna=羅西")
	d.SetString(dicom.PatientID, "42")
	d.SetString(dicom.PatientBirthDate, "19580203")
	d.SetString(dicom.PatientSex, "F")
	d.SetString(dicom.StudyDate, "soon")
	patient, study := Identity(d, "it")
	want := "[{Paziente Rossi, Anna} {ID paziente 42} {Data di nascita 3 feb 1958} {Sesso femminile}] [{Data studio soon}]"
	if got := fmt.Sprint(patient, study); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if patient, _ := Identity(nil, ""); len(patient) != 2 { // name and identifier are there even if unknown
		t.Errorf("nobody is %v", patient)
	}
}
