package pages

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline/sr"
)

// A Header is what the objects have around the pages. The same header and pages give the same bytes.
type Header struct {
	Source    *dicom.DataSet // of one of the images: patient and study are copied from it
	Equipment sr.Equipment   // what made the pages

	SOPInstanceUID    string // of the PDF; those of the captures derive from it
	SeriesInstanceUID string // PDF and captures need a series each: a series has one Modality
	SeriesNumber      int
	SeriesDescription string
	InstanceNumber    int       // of the PDF and of the first capture; 1 where it is 0
	ContentTime       time.Time // of the measurement; shown in the source's time zone if it names one

	Title   string  // of the document, in words: Sheet.Title and what tells reports of a study apart
	Concept sr.Code // the same as a code of PS3.16 CID 7020; an Imaging Measurement Report where it is zero

	Images  []sr.Document // that were measured
	Related []sr.Document // the report, the segmentation, the contours that the pages show
}

var sourceImage = sr.Code{Value: "121322", Scheme: "DCM", Meaning: "Source image for image processing operation"} // PS3.16 CID 7202

// Encapsulate puts a PDF into a DICOM object: Encapsulated PDF Storage, PS3.3 A.45.1.
func Encapsulate(h Header, pdf []byte) (*dicom.DataSet, error) {
	if len(pdf) < 5 || string(pdf[:5]) != "%PDF-" {
		return nil, fmt.Errorf("pages: %d bytes for EncapsulatedDocument (0042,0011) are no PDF", len(pdf))
	}
	if int64(len(pdf)) >= 1<<32-2 {
		return nil, fmt.Errorf("pages: a PDF of %d bytes does not fit EncapsulatedDocument (0042,0011)", len(pdf))
	}
	// The kind of thing that it is, PS3.3 C.7.3.1.1.1: archives and viewers tell by it what to open it with.
	d, err := h.dataSet(dicom.EncapsulatedPDFStorage, h.SOPInstanceUID, "DOC", cmp.Or(h.InstanceNumber, 1))
	if err != nil {
		return nil, err
	}
	// Encapsulated Document, C.24.2.
	d.SetString(dicom.AcquisitionDateTime) // type 2: of nothing that was acquired at one time
	d.SetString(dicom.BurnedInAnnotation, "YES")
	var sources []*dicom.DataSet
	for _, s := range slices.Concat(h.Images, h.Related) {
		sources = append(sources, reference(s))
	}
	if len(sources) > 0 {
		d.SetSeq(dicom.SourceInstanceSequence, sources...)
	}
	d.SetString(dicom.DocumentTitle, dicom.CleanLine(h.Title, 1024)) // ST
	d.SetSeq(dicom.ConceptNameCodeSequence, code(cmp.Or(h.Concept, sr.ImagingMeasurementReport)))
	d.SetString(dicom.MIMETypeOfEncapsulatedDocument, "application/pdf")
	d.SetInt(dicom.EncapsulatedDocumentLength, len(pdf)) // without the byte that makes the value even
	if len(pdf)%2 == 1 {
		pdf = append(slices.Clip(pdf), 0)
	}
	d.SetBytes(dicom.EncapsulatedDocument, dicom.OB, pdf)
	return d, nil
}

// Captures makes one image of each page: Secondary Capture Image Storage, PS3.3 A.8.1. Their numbers count on from
// [Header.InstanceNumber].
func Captures(h Header, pages []*Picture) ([]*dicom.DataSet, error) {
	var all []*dicom.DataSet
	for i, p := range pages {
		d, err := capture(h, i+1, len(pages), p)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// capture is page n of so many. It keeps the pixels.
func capture(h Header, n, of int, p *Picture) (*dicom.DataSet, error) {
	if p == nil || p.Columns < 1 || p.Rows < 1 || p.Columns > 65535 || p.Rows > 65535 || len(p.Pix) != 3*p.Columns*p.Rows {
		return nil, fmt.Errorf("pages: page %d has no pixels that fit Rows (0028,0010) and Columns (0028,0011)", n)
	}
	uid := dicom.UIDFrom("page", h.SOPInstanceUID, strconv.Itoa(n))
	d, err := h.dataSet(dicom.SecondaryCaptureImageStorage, uid, "OT", cmp.Or(h.InstanceNumber, 1)+n-1)
	if err != nil {
		return nil, err
	}
	d.SetString(dicom.Laterality) // type 2C of General Series: a page is no paired body part
	// General Image, C.7.6.1; General Reference, C.12.4.
	d.SetString(dicom.PatientOrientation) // a page has none
	d.SetString(dicom.ImageType, "DERIVED", "SECONDARY")
	d.SetString(dicom.BurnedInAnnotation, "YES")
	d.SetString(dicom.DerivationDescription, dicom.CleanLine(fmt.Sprintf("%s (%d/%d)", h.Title, n, of), 1024))
	d.SetString(dicom.LossyImageCompression, "00")
	if h.Source.String(dicom.LossyImageCompression) == "01" { // once lossy, lossy for ever: C.7.6.1.1.5
		d.Copy(h.Source, dicom.LossyImageCompression, dicom.LossyImageCompressionRatio, dicom.LossyImageCompressionMethod)
	}
	var images []*dicom.DataSet
	for _, s := range h.Images {
		r := reference(s)
		r.SetSeq(dicom.PurposeOfReferenceCodeSequence, code(sourceImage))
		images = append(images, r)
	}
	if len(images) > 0 {
		d.SetSeq(dicom.SourceImageSequence, images...)
	}
	// SC Image, C.8.6.2.
	d.SetString(dicom.DateOfSecondaryCapture, d.String(dicom.ContentDate))
	d.SetString(dicom.TimeOfSecondaryCapture, d.String(dicom.ContentTime))
	// Image Pixel, C.7.6.3. No Pixel Spacing: what is measured on a page is not in the patient's millimetres.
	d.SetInt(dicom.SamplesPerPixel, 3)
	d.SetString(dicom.PhotometricInterpretation, "RGB")
	d.SetInt(dicom.PlanarConfiguration, 0)
	d.SetInt(dicom.Rows, p.Rows)
	d.SetInt(dicom.Columns, p.Columns)
	d.SetInt(dicom.BitsAllocated, 8)
	d.SetInt(dicom.BitsStored, 8)
	d.SetInt(dicom.HighBit, 7)
	d.SetInt(dicom.PixelRepresentation, 0)
	pix := p.Pix
	if len(pix)%2 == 1 {
		pix = append(slices.Clip(pix), 0)
	}
	d.SetBytes(dicom.PixelData, dicom.OB, pix)
	return d, nil
}

// dataSet is what both kinds of objects have.
func (h Header) dataSet(class, uid, modality string, number int) (*dicom.DataSet, error) {
	if err := h.check(); err != nil {
		return nil, err
	}
	d := dicom.New()
	d.SetString(dicom.SpecificCharacterSet, "ISO_IR 192") // every DataSet holds UTF-8
	d.SetString(dicom.SOPClassUID, class)
	d.SetString(dicom.SOPInstanceUID, uid)

	d.CopyEntities(h.Source)

	// General Series, C.7.3.1; Encapsulated Document Series, C.24.1.
	d.SetString(dicom.Modality, modality)
	d.SetString(dicom.SeriesInstanceUID, h.SeriesInstanceUID)
	d.SetInt(dicom.SeriesNumber, h.SeriesNumber)
	if s := dicom.CleanLine(h.SeriesDescription, 64); s != "" {
		d.SetString(dicom.SeriesDescription, s)
	}
	at := h.Source.InZone(h.ContentTime) // the zone is copied, and rules every time in the object
	for _, t := range []dicom.Tag{dicom.SeriesDate, dicom.ContentDate} {
		d.SetString(t, at.Format("20060102"))
	}
	for _, t := range []dicom.Tag{dicom.SeriesTime, dicom.ContentTime} {
		d.SetString(t, at.Format("150405"))
	}
	d.SetInt(dicom.InstanceNumber, number)

	// General Equipment, C.7.5.1; SC Equipment, C.8.6.1: a workstation made it; the item of Contributing Equipment is what
	// IHE AIR asks of whoever runs an algorithm.
	e := h.Equipment
	e.Describe(d)
	d.SetString(dicom.ConversionType, "WSD")
	d.SetString(dicom.SecondaryCaptureDeviceManufacturer, dicom.CleanLine(e.Manufacturer, 64))
	d.SetString(dicom.SecondaryCaptureDeviceManufacturerModelName, dicom.CleanLine(e.ModelName, 64))
	d.SetString(dicom.SecondaryCaptureDeviceSoftwareVersions, dicom.CleanLine(e.SoftwareVersion, 64))
	h.refer(d)
	return d, nil
}

func (h Header) check() error {
	bad := func(what string) error { return fmt.Errorf("pages: %s", what) }
	switch {
	case h.Source == nil || !dicom.AcceptableUID(h.Source.String(dicom.StudyInstanceUID)):
		return bad("Source needs the header of an image with a StudyInstanceUID (0020,000D)")
	case !dicom.AcceptableUID(h.SOPInstanceUID):
		return bad("SOPInstanceUID (0008,0018) is no UID")
	case !dicom.AcceptableUID(h.SeriesInstanceUID):
		return bad("SeriesInstanceUID (0020,000E) is no UID")
	case h.Equipment.Manufacturer == "" || h.Equipment.ModelName == "" || h.Equipment.SoftwareVersion == "":
		return bad("Equipment needs manufacturer, model name and software version")
	case h.ContentTime.Year() < 1 || h.ContentTime.Year() > 9999:
		return bad("ContentTime does not fit ContentDate (0008,0023)")
	case h.Concept != sr.Code{} && (h.Concept.Value == "" || h.Concept.Scheme == "" || h.Concept.Meaning == ""):
		return bad("Concept needs value, scheme and meaning")
	}
	for _, s := range slices.Concat(h.Images, h.Related) {
		if !dicom.AcceptableUID(s.SOPClassUID) || !dicom.AcceptableUID(s.SOPInstanceUID) || !dicom.AcceptableUID(s.SeriesInstanceUID) ||
			s.StudyInstanceUID != "" && !dicom.AcceptableUID(s.StudyInstanceUID) {
			return bad("Images and Related need a SOP class, a SOP instance and a series, each a UID")
		}
	}
	return nil
}

// refer lists every instance that the object names: Common Instance Reference, PS3.3 C.12.2, series in the order of first
// mention.
func (h Header) refer(d *dicom.DataSet) {
	type series struct {
		study, uid string
		instances  []*dicom.DataSet
	}
	var all []series
	own := h.Source.String(dicom.StudyInstanceUID)
	for _, s := range slices.Concat(h.Images, h.Related) {
		study := cmp.Or(s.StudyInstanceUID, own)
		i := slices.IndexFunc(all, func(x series) bool { return x.study == study && x.uid == s.SeriesInstanceUID })
		if i < 0 {
			i = len(all)
			all = append(all, series{study: study, uid: s.SeriesInstanceUID})
		}
		all[i].instances = append(all[i].instances, reference(s))
	}
	item := func(s series) *dicom.DataSet {
		o := dicom.New()
		o.SetString(dicom.SeriesInstanceUID, s.uid)
		o.SetSeq(dicom.ReferencedInstanceSequence, s.instances...)
		return o
	}
	var here []*dicom.DataSet
	var others []string
	for _, s := range all {
		switch {
		case s.study == own:
			here = append(here, item(s))
		case !slices.Contains(others, s.study):
			others = append(others, s.study)
		}
	}
	if len(here) > 0 {
		d.SetSeq(dicom.ReferencedSeriesSequence, here...)
	}
	var elsewhere []*dicom.DataSet
	for _, study := range others {
		o := dicom.New()
		o.SetString(dicom.StudyInstanceUID, study)
		var items []*dicom.DataSet
		for _, s := range all {
			if s.study == study {
				items = append(items, item(s))
			}
		}
		o.SetSeq(dicom.ReferencedSeriesSequence, items...)
		elsewhere = append(elsewhere, o)
	}
	if len(elsewhere) > 0 {
		d.SetSeq(dicom.StudiesContainingOtherReferencedInstancesSequence, elsewhere...)
	}
}

func reference(s sr.Document) *dicom.DataSet {
	d := dicom.New()
	d.SetString(dicom.ReferencedSOPClassUID, s.SOPClassUID)
	d.SetString(dicom.ReferencedSOPInstanceUID, s.SOPInstanceUID)
	return d
}

func code(c sr.Code) *dicom.DataSet {
	d := dicom.New()
	d.SetString(dicom.CodeValue, c.Value)
	d.SetString(dicom.CodingSchemeDesignator, c.Scheme)
	d.SetString(dicom.CodeMeaning, c.Meaning)
	return d
}

// Extract is the PDF that [Encapsulate] has put into an object.
func Extract(d *dicom.DataSet) ([]byte, error) {
	b := d.Bytes(dicom.EncapsulatedDocument)
	if n, ok := d.Int(dicom.EncapsulatedDocumentLength); ok && n >= 0 && n <= len(b) {
		b = b[:n]
	}
	if len(b) < 5 || string(b[:5]) != "%PDF-" {
		return nil, fmt.Errorf("pages: EncapsulatedDocument (0042,0011) is no PDF")
	}
	return b, nil
}
