package imaging

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/pixel"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/panics"
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
	opened := make([]*pixel.Image, len(series)) // once each: a multi-frame object has all its fragments walked
	for _, s := range laid {
		if opened[s.Image] != nil {
			continue
		}
		if opened[s.Image], err = available(series[s.Image]); err != nil {
			return nil, err
		}
	}

	// The size is honest by now: every slice has the bytes for its rows and columns.
	plane := layout.Geometry.Size[0] * layout.Geometry.Size[1]
	n := layout.Geometry.Size[2]
	v.Grid = &voxel.Grid{Geometry: layout.Geometry, Data: make([]float32, plane*n)}
	outside, lost := make([]int, n), make([]bool, n)
	if err := eachFrame(ctx, series, opened, laid[:n], func(k int, stored pixel.Frame) (err error) {
		outside[k], err = laid[k].physical(v.Grid.Data[k*plane:(k+1)*plane], stored, 0)
		if err == nil && outside[k] > 0 && laid[k].table != nil {
			err = laid[k].refuse(refusal.ImageRescale, sendOriginals,
				"%d stored values lie outside of %v to %v, for which RealWorldValueLUTData (0040,9212) is defined", outside[k], laid[k].low, laid[k].high)
		}
		lost[k] = stored.Lossy
		return err
	}); err != nil {
		return nil, err
	}
	if k := slices.Index(lost, true); k >= 0 && v.Lossy == "" { // what the headers do not say
		uid := series[laid[k].Image].Meta.TransferSyntaxUID
		ts, _ := dicom.LookupTransferSyntax(uid)
		v.Lossy = fmt.Sprintf("Transfer Syntax UID (0002,0010) is %s (%s), with loss", uid, ts.Name)
		v.Notes = append(v.Notes, lossyNote(v.Lossy))
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

	if err := eachFrame(ctx, series, opened, laid[n:], func(i int, stored pixel.Frame) error {
		k := layout.Twins[i].Slice
		var part [4096]float32
		for from := 0; from < plane; from += len(part) {
			values := part[:min(len(part), plane-from)]
			if _, err := laid[n+i].physical(values, stored, from); err != nil {
				return err
			}
			for p, x := range values {
				if of := v.Grid.Data[k*plane+from+p]; math.Float32bits(x) != math.Float32bits(of) {
					return laid[n+i].refuse(refusal.GeometryDuplicate, "", "ImagePositionPatient (0020,0032) is the place of image %s too, and pixel %d of row %d is %v, not %v",
						laid[k].uid, (from+p)%layout.Geometry.Size[0]+1, (from+p)/layout.Geometry.Size[0]+1, x, of)
				}
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	return v, nil
}

// eachFrame decodes the frames of slices, several side by side, and hands each to take with its index among them. Of several
// errors that of the first slice is returned, and not that of the fastest.
func eachFrame(ctx context.Context, series []*dicom.File, opened []*pixel.Image, laid []slice, take func(k int, stored pixel.Frame) error) error {
	order := make([]int, len(laid)) // frames that lie together in an image are read together
	for k := range order {
		order[k] = k
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(laid[a].Image, laid[b].Image), cmp.Compare(laid[a].Frame, laid[b].Frame))
	})
	failed := make([]error, len(laid))
	var buffers sync.Pool
	var g errgroup.Group
	g.SetLimit(Processors())
	const together = 8
	for len(order) > 0 {
		n := 1
		for n < min(together, len(order)) && laid[order[n]].Image == laid[order[0]].Image {
			n++
		}
		some := order[:n]
		order = order[n:]
		g.Go(func() (err error) {
			defer panics.Catch(&err)
			stored, _ := buffers.Get().(*pixel.Frame)
			if stored == nil {
				stored = new(pixel.Frame)
			}
			defer buffers.Put(stored)
			for _, k := range some {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				image := laid[k].Image
				failed[k] = one(series[image], opened[image], &laid[k], stored, func() error { return take(k, *stored) })
			}
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

// one decodes the frame of a slice.
func one(f *dicom.File, image *pixel.Image, s *slice, stored *pixel.Frame, take func() error) error {
	if s.Frame >= image.Len() {
		return s.refuse(refusal.ImagePixels, "", "PixelData (7FE0,0010) has no frame %d", s.Frame+1)
	}
	if err := image.Read(s.Frame, stored); err != nil {
		return undecoded(f, err)
	}
	if have, want := stored.Rows*stored.Columns, s.rows*s.columns; have != want {
		return s.refuse(refusal.ImagePixels, "", "PixelData (7FE0,0010) has %d samples, expected %d", have, want)
	}
	return take()
}

// physical writes the physical values of a frame from one of its pixels on, and counts those for which there is no mapping.
func (s *slice) physical(into []float32, stored pixel.Frame, from int) (outside int, err error) {
	if stored.Floats == nil {
		return apply(&s.transform, into, stored.Samples[from:from+len(into)]), nil
	}
	floats := stored.Floats[from : from+len(into)]
	bad := !finite(floats)
	if !bad {
		outside = apply(&s.transform, into, floats)
		bad = slices.ContainsFunc(into, func(x float32) bool { return x-x != 0 })
	}
	if bad {
		err = s.refuse(refusal.ImagePixels, sendOriginals, "the pixels hold values that are no finite numbers, or do not lead to such")
	}
	return outside, err
}

// available opens the pixels of an image, and refuses one whose pixels are absent, compressed in a way that is not decoded or
// fewer than its size says, before memory is taken for it.
func available(f *dicom.File) (*pixel.Image, error) {
	uid := f.DataSet.String(dicom.SOPInstanceUID)
	if f.Pixels == nil {
		return nil, &refusal.Refusal{Code: refusal.ImagePixels, SOPInstance: uid, Text: "PixelData (7FE0,0010) is absent", Remedy: "send the image again from its source"}
	}
	if ts, _ := dicom.LookupTransferSyntax(f.Meta.TransferSyntaxUID); !ts.Decodable {
		return nil, &refusal.Refusal{Code: refusal.ImageCompressed, SOPInstance: uid,
			Text:   fmt.Sprintf("TransferSyntaxUID (0002,0010) is %s (%s), which cannot be decoded", f.Meta.TransferSyntaxUID, ts.Name),
			Remedy: "send the images uncompressed: Explicit VR Little Endian"}
	}
	image, err := pixel.Open(f)
	if err != nil {
		return nil, undecoded(f, err)
	}
	return image, nil
}

// undecoded is the refusal for what package pixel says of an image.
func undecoded(f *dicom.File, err error) error {
	r := &refusal.Refusal{Code: refusal.ImagePixels, SOPInstance: f.DataSet.String(dicom.SOPInstanceUID), Text: err.Error()}
	if errors.Is(err, dicom.ErrUnsupported) {
		r.Remedy = "send the images uncompressed, with 8 or 16 bits a pixel"
		if ts, _ := dicom.LookupTransferSyntax(f.Meta.TransferSyntaxUID); ts.Encapsulated {
			r.Code, r.Remedy = refusal.ImageCompressed, ""
		}
	}
	return r
}
