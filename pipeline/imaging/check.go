package imaging

import (
	"fmt"
	"math"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline/refusal"
)

// Check tells from headers alone whether images form one regular stack, in which order, and in what unit. The error is a
// *[refusal.Refusal]; with code [refusal.GeometryGap] the layout names the positions where slices are missing. The answer does
// not depend on the order of the headers.
func Check(headers []*dicom.DataSet, o Options) (Layout, error) {
	l, _, err := lay(headers, o)
	return l, err
}

// A slice is a frame in its place, and how its values are meant.
type slice struct {
	*frame
	transform
}

// lay is [Check], with what is needed to assemble.
func lay(headers []*dicom.DataSet, o Options) (Layout, []slice, error) {
	if len(headers) == 0 {
		return Layout{}, nil, &refusal.Refusal{Code: refusal.ImageNone, Text: "there is no image", Remedy: "send the images of the series"}
	}
	frames, err := framesOf(headers)
	if err != nil {
		return Layout{}, nil, err
	}
	first := frames[0].header
	l := Layout{
		Study:            first.String(dicom.StudyInstanceUID),
		Series:           first.String(dicom.SeriesInstanceUID),
		FrameOfReference: first.String(dicom.FrameOfReferenceUID),
		Modality:         first.String(dicom.Modality),
		SOPClass:         first.String(dicom.SOPClassUID),
	}
	s, err := newChooser(o).arrange(frames)
	l.Geometry, l.Missing, l.Notes = s.geometry, s.missing, s.notes
	multi := false
	at := make(map[*frame]int, len(s.frames))
	for k, f := range s.frames {
		l.Order = append(l.Order, f.Place)
		l.SOPInstances = append(l.SOPInstances, f.uid)
		l.FrameNumbers = append(l.FrameNumbers, f.Frame+1)
		multi = multi || f.own != nil || f.of > 1
		at[f] = k
	}
	if !multi {
		l.FrameNumbers = nil
	}
	if err != nil {
		return l, nil, err
	}
	for _, w := range s.twins {
		l.Twins = append(l.Twins, Twin{w.frame.Place, at[w.of]})
	}
	if n := len(s.twins); n > 0 {
		what := "1 image with the place and the values of another one is"
		if n > 1 {
			what = fmt.Sprintf("%d images with the places and the values of others are", n)
		}
		l.Notes = append(l.Notes, fmt.Sprintf("%s left out, %s", what, s.twins[0].frame.uid))
	}
	l.note(s.frames)

	ts, notes, err := transformsOf(s.frames)
	if err != nil {
		return l, nil, err
	}
	l.Unit = ts[0].unit
	l.Notes = append(l.Notes, notes...)
	if l.Modality == "PT" {
		if err := l.uptake(s.frames, ts, o.SUV); err != nil {
			return l, nil, err
		}
	}
	laid := make([]slice, len(ts), len(ts)+len(s.twins))
	for k, f := range s.frames {
		laid[k] = slice{f, ts[k]}
	}
	for _, w := range s.twins {
		t, err := transformOf(w.frame)
		if err != nil {
			return l, nil, err
		}
		t.factor = ts[at[w.of]].factor
		laid = append(laid, slice{w.frame, t})
	}
	return l, laid, nil
}

// note says what does not forbid a measurement and matters to its reader.
func (l *Layout) note(frames []*frame) {
	var derived, noFrame, inverted bool
	padded := ""
	for _, f := range frames {
		for i, v := range f.imageType() {
			derived = derived || (i == 0 && v == "DERIVED") || (i == 1 && v == "SECONDARY")
		}
		noFrame = noFrame || f.header.String(dicom.FrameOfReferenceUID) == ""
		inverted = inverted || f.header.String(dicom.PhotometricInterpretation) == "MONOCHROME1"
		if padded == "" {
			padded = padding(f)
		}
	}
	if derived {
		l.Notes = append(l.Notes, "Image Type (0008,0008) says DERIVED or SECONDARY: the values may not be those of the scanner")
	}
	if noFrame {
		l.Notes = append(l.Notes, "Frame of Reference UID (0020,0052) is absent: positions are taken to share one frame")
	}
	if inverted {
		l.Notes = append(l.Notes, "Photometric Interpretation (0028,0004) is MONOCHROME1: low values are shown bright, and measured as they are")
	}
	spacing := l.Geometry.Spacing[2]
	if t, ok := frames[0].holder(dicom.SliceThickness, dicom.PixelMeasuresSequence).Float(dicom.SliceThickness); ok && t > 0 && math.Abs(t-spacing) > thicknessDiffer*spacing {
		l.Notes = append(l.Notes, fmt.Sprintf("Slice Thickness (0018,0050) is %v mm, the slices are %.4g mm apart", t, spacing))
	}
	if padded != "" {
		l.Notes = append(l.Notes, padded)
	}
	l.Lossy = lossy(frames)
	if l.Lossy != "" {
		l.Notes = append(l.Notes, lossyNote(l.Lossy))
	}
}

func lossyNote(how string) string {
	return how + ": the images are lossy, with other values than those of the scanner"
}
