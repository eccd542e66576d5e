package sr

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
)

// Concepts of the image library, PS3.16 TID 1602 to 1607, and of TID 10024 for the patient.
var (
	frameOfReferenceUID   = dcm("112227", "Frame of Reference UID")
	halfLife              = sct("304283002", "Half-life of radiopharmaceutical")
	horizontalSpacing     = dcm("111026", "Horizontal Pixel Spacing")
	modality              = dcm("121139", "Modality")
	patientHeight         = Code{"8302-2", "LN", "Patient Height"}
	patientWeight         = Code{"29463-7", "LN", "Patient Weight"}
	pixelDataColumns      = dcm("110911", "Pixel Data Columns")
	pixelDataRows         = dcm("110910", "Pixel Data Rows")
	pulseSequenceName     = dcm("128230", "Pulse Sequence Name")
	radionuclide          = sct("89457008", "Radionuclide")
	radionuclideTotalDose = dcm("123006", "Radionuclide Total Dose")
	radiopharmaceutical   = sct("417881006", "Radiopharmaceutical agent")
	radiopharmaceuticalAt = dcm("123003", "Radiopharmaceutical Start DateTime")
	seriesInstanceUID     = dcm("112002", "Series Instance UID")
	seriesNumber          = dcm("113607", "Series Number")
	sliceThickness        = dcm("112225", "Slice Thickness")
	spacingBetweenSlices  = dcm("112226", "Spacing between slices")
	studyDate             = dcm("111060", "Study Date")
	studyTime             = dcm("111061", "Study Time")
	verticalSpacing       = dcm("111066", "Vertical Pixel Spacing")
)

// context adds what all images of the series have in common (TID 1602) to their group. What the header does not say, or says
// in a way that no item can hold, is left out.
func (s Series) context(g *item) {
	g.add(hasAcqContext, newCode(modality, dcm(s.Modality, modalities[s.Modality]))) // TID 1602 row 1
	h := s.Header
	if h == nil {
		h = dicom.New()
	}
	if d := h.String(dicom.StudyDate); isDate(d) {
		g.add(hasAcqContext, &item{vt: date, name: studyDate, text: d}) // row 4
	}
	if t := h.String(dicom.StudyTime); isTime(t) {
		g.add(hasAcqContext, &item{vt: timeOfDay, name: studyTime, text: t}) // row 5
	}
	g.add(hasAcqContext, newUID(seriesInstanceUID, s.SeriesInstanceUID)) // a newer row
	if n, ok := h.Int(dicom.SeriesNumber); ok {
		g.add(hasAcqContext, newText(seriesNumber, strconv.Itoa(n))) // a newer row
	}
	if s.FrameOfReferenceUID != "" {
		g.add(hasAcqContext, newUID(frameOfReferenceUID, s.FrameOfReferenceUID)) // row 10
	}
	number(g, pixelDataRows, h, dicom.Rows, 1, "{pixels}")       // row 11
	number(g, pixelDataColumns, h, dicom.Columns, 1, "{pixels}") // row 12
	// TID 1604. Pixel Spacing is that of rows, which is vertical, then that of columns: PS3.3 10.7.1.3.
	if spacing, err := h.Within(dicom.PixelSpacing).Floats(dicom.PixelSpacing); err == nil && len(spacing) == 2 {
		quantity(g, horizontalSpacing, spacing[1], "mm")
		quantity(g, verticalSpacing, spacing[0], "mm")
	}
	number(g, spacingBetweenSlices, h, dicom.SpacingBetweenSlices, 1, "mm")
	number(g, sliceThickness, h, dicom.SliceThickness, 1, "mm")
	switch s.Modality {
	case "MR": // TID 1606
		for _, t := range []dicom.Tag{dicom.PulseSequenceName, dicom.SequenceName} {
			if name := dicom.CleanText(h.Within(t).String(t)); name != "" {
				g.add(hasAcqContext, newText(pulseSequenceName, name))
				break
			}
		}
	case "PT":
		tracer(g, h)
	}
}

// tracer is TID 1607, and the weight and height of the patient: together they are what uptake values come from.
func tracer(g *item, h *dicom.DataSet) {
	tracers := h.Seq(dicom.RadiopharmaceuticalInformationSequence)
	if len(tracers) == 1 { // with two, nothing says which one a number would belong to
		t := tracers[0]
		for _, c := range []struct {
			name  Code
			tag   dicom.Tag
			group map[string]Code
		}{
			{radionuclide, dicom.RadionuclideCodeSequence, radionuclides},
			{radiopharmaceutical, dicom.RadiopharmaceuticalCodeSequence, radiopharmaceuticals},
		} {
			if v, ok := parseCode(t, c.tag).present(c.group); ok {
				g.add(hasAcqContext, newCode(c.name, v))
			}
		}
		number(g, halfLife, t, dicom.RadionuclideHalfLife, 1, "s")
		if at, ok := administered(t, h); ok {
			g.add(hasAcqContext, &item{vt: dateTime, name: radiopharmaceuticalAt, text: at})
		}
		number(g, radionuclideTotalDose, t, dicom.RadionuclideTotalDose, 1, "Bq")
	}
	number(g, patientWeight, h, dicom.PatientWeight, 1, "kg")
	number(g, patientHeight, h, dicom.PatientSize, 100, "cm") // Patient's Size is in m
}

// administered is when the tracer was given. The retired Radiopharmaceutical Start Time has no date: it is the last such time
// before the acquisition, which in a dynamic scan may begin some minutes earlier.
func administered(tracer, h *dicom.DataSet) (string, bool) {
	if s := tracer.String(dicom.RadiopharmaceuticalStartDateTime); s != "" {
		whole, _, _ := strings.Cut(s, ".")
		whole, _, _ = strings.Cut(whole, "+")
		whole, _, _ = strings.Cut(whole, "-")
		_, err := time.Parse("20060102150405", whole)
		return s, err == nil && len(s) <= 26
	}
	start, day, acquired := tracer.String(dicom.RadiopharmaceuticalStartTime), h.String(dicom.AcquisitionDate), h.String(dicom.AcquisitionTime)
	if !isTime(start) || !isDate(day) || !isTime(acquired) || len(start) < 6 || len(acquired) < 6 {
		return "", false
	}
	at, err := time.Parse("20060102150405", day+start[:6])
	scan, err2 := time.Parse("20060102150405", day+acquired[:6])
	if err != nil || err2 != nil {
		return "", false
	}
	if at.After(scan.Add(10 * time.Minute)) {
		at = at.AddDate(0, 0, -1)
	}
	return at.Format("20060102") + start, true
}

// number adds an attribute that is a positive number, times a factor.
func number(g *item, name Code, d *dicom.DataSet, t dicom.Tag, factor float64, unit string) {
	if v, ok := d.Within(t).Float(t); ok {
		quantity(g, name, float64(v*factor), unit)
	}
}

func quantity(g *item, name Code, v float64, unit string) {
	if v > 0 && !math.IsInf(v, 1) {
		g.add(hasAcqContext, newNum(name, v, Unit(unit)))
	}
}

// isDate says whether an item can hold a DA, PS3.5 6.2.
func isDate(s string) bool {
	_, err := time.Parse("20060102", s)
	return err == nil
}

// isTime says whether an item can hold a TM, PS3.5 6.2.
func isTime(s string) bool {
	whole, fraction, dot := strings.Cut(s, ".")
	if len(whole) > 6 || dot && (len(whole) != 6 || fraction == "" || len(fraction) > 6 || strings.Trim(fraction, "0123456789") != "") {
		return false
	}
	for _, layout := range []string{"150405", "1504", "15"} {
		if _, err := time.Parse(layout, whole); err == nil && len(whole) == len(layout) {
			return true
		}
	}
	return false
}
