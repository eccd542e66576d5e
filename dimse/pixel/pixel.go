// Package pixel turns Pixel Data into samples: PS3.5 8, and the Image Pixel module of PS3.3 C.7.6.3.
//
// Start at [Frames]. It reads native pixel data of 1, 8, 16 and 32 bits, one sample a pixel; a compressed image is refused with
// an error that says so.
package pixel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/radnode/radnode/dimse/dicom"
)

// A Frame is one plane of stored values: before rescale, sign extended, with nothing but Bits Stored in them.
type Frame struct {
	Index           int // from 0
	Rows, Columns   int
	SamplesPerPixel int
	Samples         []int32 // row by row; overwritten by the next frame
}

// maxSamples bounds what one frame may ask of memory: 16384 × 16384.
const maxSamples = 1 << 28

// Frames goes through the frames of an image, from the first to the last. It reads one at a time, and ends with the first error,
// which is a *dicom.Error that names the element at fault.
func Frames(f *dicom.File) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		l, err := describe(f)
		if err != nil {
			yield(Frame{}, err)
			return
		}
		frame := Frame{Rows: l.rows, Columns: l.columns, SamplesPerPixel: 1, Samples: make([]int32, l.rows*l.columns)}
		var raw []byte
		for ; frame.Index < l.frames; frame.Index++ {
			if raw, err = l.read(frame.Index, raw); err == nil {
				err = l.unpack(frame.Index, raw, frame.Samples)
			}
			if err != nil {
				yield(Frame{}, &dicom.Error{Path: l.tag.String(), Offset: l.offset, Err: fmt.Errorf("frame %d: %w", frame.Index+1, err)})
				return
			}
			if !yield(frame, nil) {
				return
			}
		}
	}
}

// layout is how the samples lie in the value.
type layout struct {
	tag           dicom.Tag
	offset        int64 // of the value
	value         *io.SectionReader
	rows, columns int
	frames        int
	allocated     int
	shift         int // from the highest bit of a sample to bit 31
	stored        int
	signed        bool
	order         binary.ByteOrder
	swapped       bool // bytes change places in pairs: 8 bits in big endian words
}

// describe checks the Image Pixel module against itself and against the length of the value.
func describe(f *dicom.File) (*layout, error) {
	d, p := f.DataSet, f.Pixels
	switch {
	case p == nil:
		return nil, fail(dicom.PixelData, dicom.ErrMalformed, "there are no pixels: if this should be an image, it is truncated; send it again")
	case p.Tag != dicom.PixelData:
		return nil, fail(p.Tag, dicom.ErrUnsupported, "float pixels are not read yet: send the image with Pixel Data (7FE0,0010)")
	}
	uid := f.Meta.TransferSyntaxUID
	if ts, known := dicom.LookupTransferSyntax(uid); !ts.Decodable {
		if !known {
			ts.Name = "unknown"
		}
		return nil, fail(dicom.PixelData, dicom.ErrUnsupported,
			"transfer syntax %s (%s) is not decoded: send the image uncompressed, as %s", uid, ts.Name, dicom.UIDName(dicom.ExplicitVRLittleEndian))
	}
	if p.Length < 0 {
		return nil, fail(dicom.PixelData, dicom.ErrMalformed, "is encapsulated though transfer syntax %s is not: send the image again, uncompressed", uid)
	}

	l := &layout{tag: p.Tag, offset: p.Offset, value: p.Reader(), frames: 1, order: binary.LittleEndian}
	var bits, stored, high int
	for _, a := range []struct {
		tag       dicom.Tag
		to        *int
		low, high int
	}{
		{dicom.Rows, &l.rows, 1, 65535},
		{dicom.Columns, &l.columns, 1, 65535},
		{dicom.BitsAllocated, &bits, 1, 64},
		{dicom.BitsStored, &stored, 1, 64},
	} {
		v, ok := d.Int(a.tag)
		if !ok {
			return nil, fail(a.tag, dicom.ErrMalformed, "is missing: the image cannot be read without it")
		}
		if v < a.low || v > a.high {
			return nil, fail(a.tag, dicom.ErrMalformed, "is %d, which no image has", v)
		}
		*a.to = v
	}
	if v, ok := d.Int(dicom.SamplesPerPixel); ok && v != 1 {
		return nil, fail(dicom.SamplesPerPixel, dicom.ErrUnsupported, "is %d: only images with one sample a pixel are read, no colour", v)
	}
	switch v := d.String(dicom.PhotometricInterpretation); v {
	case "", "MONOCHROME1", "MONOCHROME2":
	default:
		return nil, fail(dicom.PhotometricInterpretation, dicom.ErrUnsupported, "is %q: only MONOCHROME1 and MONOCHROME2 are read, no colour", v)
	}
	switch bits {
	case 1, 8, 16, 32:
	default:
		return nil, fail(dicom.BitsAllocated, dicom.ErrUnsupported, "is %d: only 1, 8, 16 and 32 are read", bits)
	}
	high = stored - 1
	if v, ok := d.Int(dicom.HighBit); ok {
		high = v
	}
	if stored > bits {
		return nil, fail(dicom.BitsStored, dicom.ErrMalformed, "is %d of %d Bits Allocated", stored, bits)
	}
	if high >= bits || high < stored-1 {
		return nil, fail(dicom.HighBit, dicom.ErrMalformed, "is %d with %d Bits Stored of %d Bits Allocated", high, stored, bits)
	}
	l.allocated, l.stored, l.shift = bits, stored, 31-high
	if d.Has(dicom.PixelRepresentation) {
		v, ok := d.Int(dicom.PixelRepresentation)
		if !ok || v != 0 && v != 1 {
			return nil, fail(dicom.PixelRepresentation, dicom.ErrMalformed, "is neither 0 nor 1")
		}
		l.signed = v == 1
	}
	if d.String(dicom.NumberOfFrames) != "" {
		v, ok := d.Int(dicom.NumberOfFrames)
		if !ok || v < 1 {
			return nil, fail(dicom.NumberOfFrames, dicom.ErrMalformed, "is no number of 1 or more")
		}
		l.frames = v
	}
	if l.rows*l.columns > maxSamples {
		return nil, fail(dicom.Rows, dicom.ErrUnsupported, "%d × %d pixels are more than %d", l.rows, l.columns, maxSamples)
	}
	if p.BigEndian && p.VR == dicom.OW { // PS3.5 7.3: words of 16 bits
		l.order = binary.BigEndian
		switch bits {
		case 1, 32:
			return nil, fail(dicom.BitsAllocated, dicom.ErrUnsupported, "is %d in big endian words: send the image as %s", bits,
				dicom.UIDName(dicom.ExplicitVRLittleEndian))
		case 8:
			l.swapped = true
		}
	}

	// No product of these overflows: rows·columns ≤ 2^28, bits ≤ 2^5.
	frameBits := int64(l.rows) * int64(l.columns) * int64(bits)
	if have := p.Length * 8; int64(l.frames) > have/frameBits {
		return nil, fail(dicom.PixelData, dicom.ErrMalformed, "has %d bytes, but %d frames of %d × %d pixels of %d bits need more: it is truncated or its header is wrong; send it again",
			p.Length, l.frames, l.rows, l.columns, bits)
	} else if rest := have - int64(l.frames)*frameBits; rest >= frameBits && rest >= 16 { // an even length takes up to 15 bits
		return nil, fail(dicom.PixelData, dicom.ErrMalformed, "has %d bytes, but %d frames of %d × %d pixels of %d bits leave %d of them over: Number of Frames (0028,0008) or Bits Allocated (0028,0100) is wrong",
			p.Length, l.frames, l.rows, l.columns, bits, rest/8)
	}
	return l, nil
}

func fail(t dicom.Tag, kind error, format string, args ...any) error {
	return &dicom.Error{Path: t.String(), Offset: -1, Err: kindError{kind, fmt.Sprintf(format, args...)}}
}

// kindError is a sentence that is found by its kind.
type kindError struct {
	kind error
	text string
}

func (e kindError) Error() string { return e.text }
func (e kindError) Unwrap() error { return e.kind }

// span are the first and the last byte but one that frame i touches, and the bit where it begins in them.
func (l *layout) span(i int) (from, to, bit int64) {
	n := int64(l.rows) * int64(l.columns) * int64(l.allocated)
	start := int64(i) * n
	from, to = start/8, (start+n+7)/8
	if l.swapped { // whole words
		from, to = from&^1, (to+1)&^1
	}
	return from, to, start - from*8
}

// read gets the bytes of frame i into raw, which it grows where needed.
func (l *layout) read(i int, raw []byte) ([]byte, error) {
	from, to, _ := l.span(i)
	if n := to - from; int64(cap(raw)) < n {
		raw = make([]byte, n)
	} else {
		raw = raw[:n]
	}
	n, err := l.value.ReadAt(raw, from)
	if n < len(raw) {
		if l.swapped && n == len(raw)-1 { // the last word of an odd length
			raw[n] = 0
			return raw, nil
		}
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return raw, err
	}
	return raw, nil
}

// unpack turns bytes into samples. Shifting a sample to the top and back takes away the bits outside of Bits Stored, which may
// hold overlays (PS3.5 8.1.1), and extends the sign.
func (l *layout) unpack(i int, raw []byte, out []int32) error {
	_, _, bit := l.span(i)
	up, down := l.shift, 32-l.stored
	switch l.allocated {
	case 1: // the first pixel is the least significant bit: PS3.5 8.1.1
		for k := range out {
			b := bit + int64(k)
			out[k] = int32(raw[b>>3] >> (b & 7) & 1)
		}
		return nil
	case 8:
		if l.swapped {
			for k := 0; k+1 < len(raw); k += 2 {
				raw[k], raw[k+1] = raw[k+1], raw[k]
			}
		}
		raw = raw[bit/8:][:len(out)]
		for k, b := range raw {
			out[k] = int32(b)
		}
	case 16:
		if l.order == binary.BigEndian {
			for k := range out {
				out[k] = int32(binary.BigEndian.Uint16(raw[2*k:]))
			}
		} else {
			for k := range out {
				out[k] = int32(binary.LittleEndian.Uint16(raw[2*k:]))
			}
		}
	case 32:
		for k := range out {
			out[k] = int32(binary.LittleEndian.Uint32(raw[4*k:]))
		}
	}
	switch {
	case l.signed:
		for k, v := range out {
			out[k] = v << up >> down
		}
	case l.stored == 32:
		for _, v := range out {
			if v < 0 {
				return kindError{dicom.ErrUnsupported, fmt.Sprintf("a sample of %d, and samples of 2^31 and more are not read", uint32(v))}
			}
		}
	default:
		for k, v := range out {
			out[k] = int32(uint32(v) << up >> down)
		}
	}
	return nil
}
