package imaging

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/pixel"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
)

// Assemble puts the slices of one series into a grid of physical values, whatever their order. Each slice is decoded straight
// into its place; nothing else of the size of the volume is held. Errors are *[refusal.Refusal], or the context's.
func Assemble(ctx context.Context, series []*dicom.File, o Options) (*Volume, error) {
	headers := make([]*dicom.DataSet, len(series))
	for i, f := range series {
		headers[i] = f.DataSet
	}
	layout, laid, err := lay(headers, o)
	if err != nil {
		return nil, err
	}
	v := &Volume{
		Unit:             layout.Unit,
		Modality:         layout.Modality,
		Header:           headers[layout.Order[0].Image],
		Study:            layout.Study,
		Series:           layout.Series,
		FrameOfReference: layout.FrameOfReference,
		SOPClass:         layout.SOPClass,
		SOPInstances:     layout.SOPInstances,
		FrameNumbers:     layout.FrameNumbers,
		Notes:            layout.Notes,
		Lossy:            layout.Lossy,
		SUV:              layout.SUV,
	}
	checked := make(map[int]bool, len(series))
	for _, s := range laid {
		if checked[s.Image] {
			continue
		}
		checked[s.Image] = true
		if err := available(series[s.Image]); err != nil {
			return nil, err
		}
		if how := lossySyntax(series[s.Image].Meta.TransferSyntaxUID); how != "" && v.Lossy == "" {
			v.Lossy = how
			v.Notes = append(v.Notes, lossyNote(how))
		}
	}

	// The size is honest by now: every slice has the bytes for its rows and columns.
	plane := layout.Geometry.Size[0] * layout.Geometry.Size[1]
	n := layout.Geometry.Size[2]
	v.Grid = &voxel.Grid{Geometry: layout.Geometry, Data: make([]float32, plane*n)}
	outside := make([]int, n)
	if err := eachFrame(ctx, series, laid[:n], func(k int, stored pixel.Frame) error {
		outside[k] = physical(&laid[k].transform, v.Grid.Data[k*plane:(k+1)*plane], stored)
		if outside[k] > 0 && laid[k].table != nil {
			return laid[k].refuse(refusal.ImageRescale, sendOriginals,
				"%d stored values lie outside of %v to %v, for which RealWorldValueLUTData (0040,9212) is defined", outside[k], laid[k].low, laid[k].high)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	total, bounds := 0, &laid[0].transform
	for k := range outside {
		if total == 0 {
			bounds = &laid[k].transform
		}
		total += outside[k]
	}
	if total > 0 {
		v.Notes = append(v.Notes, fmt.Sprintf("%d stored values lie outside of %v to %v, for which the Real World Value Mapping (0040,9096) is defined; the same line was taken for them", total, bounds.low, bounds.high))
	}

	if err := eachFrame(ctx, series, laid[n:], func(i int, stored pixel.Frame) error {
		values := make([]float32, plane)
		physical(&laid[n+i].transform, values, stored)
		k := layout.Twins[i].Slice
		for p, x := range v.Grid.Data[k*plane : (k+1)*plane] {
			if math.Float32bits(x) != math.Float32bits(values[p]) {
				return laid[n+i].refuse(refusal.GeometryDuplicate, "", "ImagePositionPatient (0020,0032) is the place of image %s too, and pixel %d of row %d is %v, not %v",
					laid[k].uid, p%layout.Geometry.Size[0]+1, p/layout.Geometry.Size[0]+1, values[p], x)
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return v, nil
}

// eachFrame decodes the frames of slices, images side by side, and hands each to take with its index among them. Of several
// errors that of the first slice is returned, and not that of the fastest.
func eachFrame(ctx context.Context, series []*dicom.File, laid []slice, take func(k int, stored pixel.Frame) error) error {
	wanted := make(map[int][]int, len(laid)) // by image, indices of slices in the order of frames
	var images []int
	for k, s := range laid {
		if wanted[s.Image] == nil {
			images = append(images, s.Image)
		}
		wanted[s.Image] = append(wanted[s.Image], k)
	}
	failed := make([]error, len(laid))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, image := range images {
		of := wanted[image]
		slices.SortFunc(of, func(a, b int) int { return cmp.Compare(laid[a].Frame, laid[b].Frame) })
		g.Go(func() error {
			for stored, err := range pixel.Frames(series[image]) {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil {
					failed[of[0]] = undecoded(laid[of[0]].uid, err)
					return nil
				}
				for len(of) > 0 && laid[of[0]].Frame == stored.Index {
					k := of[0]
					if have, want := samples(stored), laid[k].rows*laid[k].columns; have != want {
						failed[k] = laid[k].refuse(refusal.ImagePixels, "", "PixelData (7FE0,0010) has %d samples, expected %d", have, want)
						return nil
					}
					if failed[k] = take(k, stored); failed[k] != nil {
						return nil
					}
					of = of[1:]
				}
				if len(of) == 0 {
					return nil
				}
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			failed[of[0]] = laid[of[0]].refuse(refusal.ImagePixels, "", "PixelData (7FE0,0010) has no frame %d", laid[of[0]].Frame+1)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// samples and physical are all that knows how a frame holds its stored values.
func samples(f pixel.Frame) int { return len(f.Samples) }

func physical(t *transform, into []float32, f pixel.Frame) (outside int) {
	return apply(t, into, f.Samples)
}

// available refuses an image whose pixels are absent, compressed or fewer than its size says, before memory is taken for it.
func available(f *dicom.File) error {
	uid := f.DataSet.String(dicom.SOPInstanceUID)
	if f.Pixels == nil {
		return &refusal.Refusal{Code: refusal.ImagePixels, SOPInstance: uid, Text: "PixelData (7FE0,0010) is absent", Remedy: "send the image again from its source"}
	}
	if ts, _ := dicom.LookupTransferSyntax(f.Meta.TransferSyntaxUID); !ts.Decodable {
		return &refusal.Refusal{Code: refusal.ImageCompressed, SOPInstance: uid,
			Text:   fmt.Sprintf("TransferSyntaxUID (0002,0010) is %s (%s), which cannot be decoded", f.Meta.TransferSyntaxUID, ts.Name),
			Remedy: "send the images uncompressed: Explicit VR Little Endian"}
	}
	if f.Pixels.Length < 0 {
		return nil // encapsulated: as long as its transfer syntax makes it
	}
	rows, _ := f.DataSet.Int(dicom.Rows)
	columns, _ := f.DataSet.Int(dicom.Columns)
	bits, _ := f.DataSet.Int(dicom.BitsAllocated)
	switch f.Pixels.Tag { // the float ones have no Bits Allocated of their own: PS3.3 C.7.6.24, C.7.6.25
	case dicom.FloatPixelData:
		bits = 32
	case dicom.DoubleFloatPixelData:
		bits = 64
	}
	frames, ok := f.DataSet.Int(dicom.NumberOfFrames)
	if !ok {
		frames = 1
	}
	// No product overflows: rows and columns ≤ 2^16, frames ≤ 2^16, bytes ≤ 2^3.
	need := int64(rows) * int64(columns) * int64(bits/8) * int64(frames)
	if bits != 8 && bits != 16 && bits != 32 && bits != 64 || f.Pixels.Length < need {
		return &refusal.Refusal{Code: refusal.ImagePixels, SOPInstance: uid,
			Text: fmt.Sprintf("%s %v has %d bytes, and Rows (0028,0010) %d, Columns (0028,0011) %d, BitsAllocated (0028,0100) %d and %d frames need %d",
				f.Pixels.Tag.Keyword(), f.Pixels.Tag, f.Pixels.Length, rows, columns, bits, frames, need),
			Remedy: "send the image again from its source"}
	}
	return nil
}

// lossySyntax names a transfer syntax that loses information by its nature, "" for all others. JPEG 2000 may or may not: what the
// image says of itself counts there (PS3.3 C.7.6.1.1.5).
func lossySyntax(uid string) string {
	switch uid { // the integrator takes TransferSyntax.Lossy and pixel.Frame.Lossy
	case "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81":
		ts, _ := dicom.LookupTransferSyntax(uid)
		return fmt.Sprintf("Transfer Syntax UID (0002,0010) is %s (%s)", uid, ts.Name)
	}
	return ""
}

// undecoded is the refusal for what package pixel says of an image.
func undecoded(uid string, err error) error {
	if errors.Is(err, dicom.ErrUnsupported) {
		return &refusal.Refusal{Code: refusal.ImageCompressed, SOPInstance: uid, Text: err.Error()} // which names the remedy
	}
	return &refusal.Refusal{Code: refusal.ImagePixels, SOPInstance: uid, Text: err.Error(), Remedy: "send the image again from its source"}
}
