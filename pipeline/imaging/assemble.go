package imaging

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/pixel"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
)

// Assemble puts the slices of one CT series into a grid of Hounsfield units, whatever their order. Each slice is decoded
// straight into its place; nothing else of the size of the volume is held. Errors are *[refusal.Refusal], or the context's.
func Assemble(ctx context.Context, series []*dicom.File, o Options) (*Volume, error) {
	headers := make([]*dicom.DataSet, len(series))
	for i, f := range series {
		headers[i] = f.DataSet
	}
	layout, err := Check(headers, o)
	if err != nil {
		return nil, err
	}
	v := &Volume{
		Modality:         layout.Modality,
		Header:           headers[layout.Order[0]],
		Study:            layout.Study,
		Series:           layout.Series,
		FrameOfReference: layout.FrameOfReference,
		SOPClass:         layout.SOPClass,
		SOPInstances:     layout.SOPInstances,
		Notes:            layout.Notes,
	}
	scales := make([]rescale, len(series))
	for k, i := range layout.Order {
		if err := available(series[i]); err != nil {
			return nil, err
		}
		if scales[k], err = readRescale(headers[i]); err != nil {
			return nil, err
		}
		if scales[k].unit != scales[0].unit {
			return nil, &refusal.Refusal{Code: refusal.ImageRescale, SOPInstance: layout.SOPInstances[k],
				Text:   fmt.Sprintf("RescaleType (0028,1054) makes the unit %s, and %s in image %s", scales[k].unit, scales[0].unit, layout.SOPInstances[0]),
				Remedy: "send the slices of one reconstruction as one series, and the others as another"}
		}
	}
	v.Unit = scales[0].unit
	if note := scales[0].note; note != "" {
		v.Notes = append(v.Notes, note)
	}

	// The size is honest by now: every slice has the bytes for its rows and columns.
	plane := layout.Geometry.Size[0] * layout.Geometry.Size[1]
	v.Grid = &voxel.Grid{Geometry: layout.Geometry, Data: make([]float32, plane*len(series))}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	failed := make([]error, len(series)) // by slice, so that the first one speaks and not the fastest
	for k, i := range layout.Order {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			failed[k] = decode(series[i], scales[k], v.Grid.Data[k*plane:(k+1)*plane])
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, err := range failed {
		if err != nil {
			return nil, err
		}
	}
	return v, nil
}

// available refuses a slice whose pixels are absent, compressed or fewer than its size says, before memory is taken for it.
func available(f *dicom.File) error {
	uid := f.DataSet.String(dicom.SOPInstanceUID)
	if f.Pixels == nil || f.Pixels.Tag != dicom.PixelData {
		return &refusal.Refusal{Code: refusal.ImagePixels, SOPInstance: uid, Text: "PixelData (7FE0,0010) is absent", Remedy: "send the image again from its source"}
	}
	if ts, _ := dicom.LookupTransferSyntax(f.Meta.TransferSyntaxUID); !ts.Decodable {
		return &refusal.Refusal{Code: refusal.ImageCompressed, SOPInstance: uid,
			Text:   fmt.Sprintf("TransferSyntaxUID (0002,0010) is %s (%s), which cannot be decoded", f.Meta.TransferSyntaxUID, ts.Name),
			Remedy: "send the images uncompressed: Explicit VR Little Endian"}
	}
	if f.Pixels.Length < 0 {
		if err := pixel.Check(f); err != nil { // encapsulated: as long as its transfer syntax makes it
			return undecoded(uid, err)
		}
		return nil
	}
	rows, _ := f.DataSet.Int(dicom.Rows)
	columns, _ := f.DataSet.Int(dicom.Columns)
	bits, _ := f.DataSet.Int(dicom.BitsAllocated)
	if need := int64(rows) * int64(columns) * int64(bits) / 8; bits != 8 && bits != 16 && bits != 32 || f.Pixels.Length < need {
		return &refusal.Refusal{Code: refusal.ImagePixels, SOPInstance: uid,
			Text:   fmt.Sprintf("PixelData (7FE0,0010) has %d bytes, and Rows (0028,0010) %d, Columns (0028,0011) %d, BitsAllocated (0028,0100) %d need %d", f.Pixels.Length, rows, columns, bits, need),
			Remedy: "send the image again from its source"}
	}
	return nil
}

// A rescale leads from stored values to physical ones, PS3.3 C.11.1.
type rescale struct {
	slope, intercept float64
	unit, note       string
}

func readRescale(d *dicom.DataSet) (rescale, error) {
	uid := d.String(dicom.SOPInstanceUID)
	slope, okSlope := d.Float(dicom.RescaleSlope)
	intercept, okIntercept := d.Float(dicom.RescaleIntercept)
	switch {
	case len(d.Seq(dicom.ModalityLUTSequence)) > 0:
		return rescale{}, &refusal.Refusal{Code: refusal.ImageRescale, SOPInstance: uid,
			Text:   "ModalityLUTSequence (0028,3000) is there, and a CT image has Rescale Slope and Intercept instead (PS3.3 C.8.2.1)",
			Remedy: "send the original images of the scanner"}
	case !okSlope || !okIntercept || slope == 0 || !(math.Abs(slope)*math.MaxInt32+math.Abs(intercept) < math.MaxFloat32):
		return rescale{}, &refusal.Refusal{Code: refusal.ImageRescale, SOPInstance: uid,
			Text:   fmt.Sprintf("RescaleSlope (0028,1053) %q and RescaleIntercept (0028,1052) %q do not lead to Hounsfield units", d.String(dicom.RescaleSlope), d.String(dicom.RescaleIntercept)),
			Remedy: "send the original images of the scanner"}
	}
	r := rescale{slope: slope, intercept: intercept, unit: "HU"}
	switch kind := d.String(dicom.RescaleType); kind {
	case "", "HU": // PS3.3 C.8.2.1: absent means HU
	case "US": // unspecified, PS3.3 C.11.1.1.2
		r.note = "Rescale Type (0028,1054) is US, unspecified: the values are taken for Hounsfield units"
	default:
		r.unit = kind
		r.note = fmt.Sprintf("Rescale Type (0028,1054) is %s: the values are not Hounsfield units", kind)
	}
	return r, nil
}

// decode writes the physical values of one slice.
func decode(f *dicom.File, r rescale, into []float32) error {
	uid := f.DataSet.String(dicom.SOPInstanceUID)
	done := false
	for frame, err := range pixel.Frames(f) {
		if err != nil {
			return undecoded(uid, err)
		}
		if done || frame.Rows*frame.Columns != len(into) {
			return &refusal.Refusal{Code: refusal.ImagePixels, SOPInstance: uid,
				Text:   fmt.Sprintf("PixelData (7FE0,0010) frame %d has %d samples, expected one frame of %d", frame.Index+1, frame.Rows*frame.Columns, len(into)),
				Remedy: "send the image again from its source"}
		}
		for i, s := range frame.Samples {
			into[i] = float32(float64(float64(s)*r.slope) + r.intercept)
		}
		for i, s := range frame.Floats { // instead of Samples
			into[i] = float32(float64(s*r.slope) + r.intercept)
		}
		done = true
	}
	if !done {
		return &refusal.Refusal{Code: refusal.ImagePixels, SOPInstance: uid, Text: "PixelData (7FE0,0010) has no frame", Remedy: "send the image again from its source"}
	}
	return nil
}

// undecoded is the refusal for what package pixel says of an image.
func undecoded(uid string, err error) error {
	if errors.Is(err, dicom.ErrUnsupported) {
		return &refusal.Refusal{Code: refusal.ImageCompressed, SOPInstance: uid, Text: err.Error()} // which names the remedy
	}
	return &refusal.Refusal{Code: refusal.ImagePixels, SOPInstance: uid, Text: err.Error(), Remedy: "send the image again from its source"}
}
