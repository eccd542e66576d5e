// Package pixel turns Pixel Data into samples: PS3.5 8, and the Image Pixel module of PS3.3 C.7.6.3.
//
// Start at [Open], or at [Frames] to go through all of them. It reads one sample a pixel: native pixel data of 1, 8, 16 and 32 bits, float pixels of 32 and 64 bits, and
// what PS3.5 A.4 encapsulates (encapsulated.go) with the decoders that the table there names. Anything else is refused with an
// error that says so.
package pixel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"

	"github.com/radnode/radnode/dimse/dicom"
)

// A Frame is one plane of stored values: before rescale, sign extended, with nothing but Bits Stored in them. Either Samples or
// Floats is set, the same one in all frames of an image, row by row, and it is overwritten by the next frame.
type Frame struct {
	Index           int // from 0
	Rows, Columns   int
	SamplesPerPixel int
	Samples         []int32
	Floats          []float64 // of float pixels, NaN and infinities as they are, and of unsigned pixels with 32 Bits Stored, exact
	Lossy           bool      // this codestream lost something; what was lost before, Lossy Image Compression (0028,2110) says

	samples []int32 // memory of Samples, and of what becomes Floats
	floats  []float64
	raw     []byte
}

// maxSamples bounds what one frame may ask of memory: 16384 × 16384.
const maxSamples = 1 << 28

// An Image gives the frames of a file in any order. Its methods may run at the same time, each with a Frame of its own.
type Image struct{ l *layout }

// Open finds what can be said against an image before a frame is decoded: what the header says against itself and against the
// bytes that are there. An image that passes has a size that its bytes can back. The error is a *dicom.Error that names the
// element at fault.
func Open(f *dicom.File) (*Image, error) {
	l, err := describe(f)
	if err != nil {
		return nil, err
	}
	return &Image{l}, nil
}

// Len is the number of frames.
func (m *Image) Len() int { return m.l.frames }

// Read decodes frame i, from 0, into frame, whose memory it uses again. Errors are those of [Open].
func (m *Image) Read(i int, frame *Frame) (err error) {
	l := m.l
	n := l.rows * l.columns
	frame.Index, frame.Rows, frame.Columns, frame.SamplesPerPixel = i, l.rows, l.columns, 1
	frame.Samples, frame.Floats = nil, nil
	if l.tag == dicom.PixelData {
		if cap(frame.samples) < n {
			frame.samples = make([]int32, n)
		}
		frame.samples = frame.samples[:n]
		frame.Samples = frame.samples
	}
	if l.float {
		if cap(frame.floats) < n {
			frame.floats = make([]float64, n)
		}
		frame.Samples, frame.Floats = nil, frame.floats[:n]
	}
	if frame.raw, err = l.read(i, frame.raw); err == nil {
		frame.Lossy, err = l.decode(i, frame.raw, frame.samples, frame.Floats)
	}
	if err != nil {
		return &dicom.Error{Path: l.tag.String(), Offset: l.where(i), Err: fmt.Errorf("frame %d: %w", i+1, err)}
	}
	return nil
}

// Frames goes through the frames of an image, from the first to the last. It reads one at a time, and ends with the first error.
func Frames(f *dicom.File) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		m, err := Open(f)
		if err != nil {
			yield(Frame{}, err)
			return
		}
		var frame Frame
		for i := range m.Len() {
			if err := m.Read(i, &frame); err != nil {
				yield(Frame{}, err)
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
	high          int // bit of a sample that is its highest
	stored        int
	signed        bool
	float         bool // Floats, not Samples
	order         binary.ByteOrder
	swapped       bool // bytes change places in pairs: big endian words of 16 bits that hold samples of another size
	codec         codec
	items         *fragments // of encapsulated pixel data, else nil
}

// describe checks the Image Pixel module against itself and against the length of the value.
func describe(f *dicom.File) (_ *layout, err error) {
	d, p := f.DataSet, f.Pixels
	switch {
	case p == nil:
		return nil, fail(dicom.PixelData, dicom.ErrMalformed, "there are no pixels: if this should be an image, it is truncated; send it again")
	}
	uid := f.Meta.TransferSyntaxUID
	if ts, known := dicom.LookupTransferSyntax(uid); !ts.Decodable {
		if !known {
			ts.Name = "unknown"
		}
		return nil, fail(dicom.PixelData, dicom.ErrUnsupported,
			"transfer syntax %s (%s) is not decoded: send the image uncompressed, as %s", uid, ts.Name, dicom.UIDName(dicom.ExplicitVRLittleEndian))
	}
	c, encapsulated := codecs[uid]
	isFloat := p.Tag != dicom.PixelData
	switch {
	case encapsulated && isFloat: // PS3.5 A.4
		return nil, fail(p.Tag, dicom.ErrMalformed, "cannot be in transfer syntax %s, which is for Pixel Data (7FE0,0010): send the image uncompressed, as %s",
			uid, dicom.UIDName(dicom.ExplicitVRLittleEndian))
	case encapsulated && p.Length >= 0: // PS3.5 A.4
		return nil, fail(p.Tag, dicom.ErrMalformed, "is not encapsulated though transfer syntax %s is: send the image again, uncompressed", uid)
	case !encapsulated && p.Length < 0:
		return nil, fail(p.Tag, dicom.ErrMalformed, "is encapsulated though transfer syntax %s is not: send the image again, uncompressed", uid)
	}

	l := &layout{tag: p.Tag, offset: p.Offset, value: p.Reader(), frames: 1, order: binary.LittleEndian, codec: c}
	var bits, stored int
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
		if isFloat && a.tag == dicom.BitsStored { // which floats do not have: PS3.3 C.7.6.24
			continue
		}
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
	if isFloat {
		if want := map[dicom.Tag]int{dicom.FloatPixelData: 32, dicom.DoubleFloatPixelData: 64}[p.Tag]; bits != want { // PS3.3 C.7.6.24 and C.7.6.25
			return nil, fail(dicom.BitsAllocated, dicom.ErrMalformed, "is %d: it is %d in an image with %s", bits, want, p.Tag.Keyword())
		}
		l.allocated, l.float = bits, true
		if p.BigEndian {
			l.order = binary.BigEndian
		}
	} else if err := l.integers(d, bits, stored); err != nil {
		return nil, err
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
	if !isFloat && p.BigEndian && p.VR == dicom.OW { // PS3.5 7.3: words of 16 bits
		if bits == 16 {
			l.order = binary.BigEndian
		} else {
			l.swapped = true // pixels fill the words from the lowest bit on, whatever the byte order: PS3.5 8.1.1
		}
	}
	if encapsulated {
		if l.items, err = locate(f, l); err != nil {
			return nil, err
		}
		return l, nil
	}

	// No product of these overflows: rows·columns ≤ 2^28, bits ≤ 2^6.
	frameBits := int64(l.rows) * int64(l.columns) * int64(bits)
	if have := p.Length * 8; int64(l.frames) > have/frameBits {
		return nil, fail(p.Tag, dicom.ErrMalformed, "has %d bytes, but %d frames of %d × %d pixels of %d bits need more: it is truncated or its header is wrong; send it again",
			p.Length, l.frames, l.rows, l.columns, bits)
	} else if rest := have - int64(l.frames)*frameBits; rest >= frameBits && rest >= 16 { // an even length takes up to 15 bits
		return nil, fail(p.Tag, dicom.ErrMalformed, "has %d bytes, but %d frames of %d × %d pixels of %d bits leave %d of them over: Number of Frames (0028,0008) or Bits Allocated (0028,0100) is wrong",
			p.Length, l.frames, l.rows, l.columns, bits, rest/8)
	}
	return l, nil
}

// integers checks what says how a sample lies in its bits: PS3.5 8.1.1.
func (l *layout) integers(d *dicom.DataSet, bits, stored int) error {
	switch bits {
	case 1, 8, 16, 32:
	default:
		return fail(dicom.BitsAllocated, dicom.ErrUnsupported, "is %d: only 1, 8, 16 and 32 are read", bits)
	}
	high := stored - 1
	if v, ok := d.Int(dicom.HighBit); ok {
		high = v
	}
	if stored > bits {
		return fail(dicom.BitsStored, dicom.ErrMalformed, "is %d of %d Bits Allocated", stored, bits)
	}
	if high >= bits || high < stored-1 {
		return fail(dicom.HighBit, dicom.ErrMalformed, "is %d with %d Bits Stored of %d Bits Allocated", high, stored, bits)
	}
	l.allocated, l.stored, l.high = bits, stored, high
	if d.Has(dicom.PixelRepresentation) {
		v, ok := d.Int(dicom.PixelRepresentation)
		if !ok || v != 0 && v != 1 {
			return fail(dicom.PixelRepresentation, dicom.ErrMalformed, "is neither 0 nor 1")
		}
		l.signed = v == 1 && bits > 1 // one bit is a mask, PS3.3 C.8.20.2, and has no room for a sign
	}
	l.float = stored == 32 && !l.signed
	return nil
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

// where is the offset of frame i.
func (l *layout) where(i int) int64 {
	if l.items != nil {
		return l.items.where(i)
	}
	return l.offset
}

// read gets the bytes of frame i into raw, which it grows where needed.
func (l *layout) read(i int, raw []byte) ([]byte, error) {
	if l.items != nil {
		return l.items.read(i, raw)
	}
	from, to, _ := l.span(i)
	raw = grown(raw, to-from)
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

// grown is b with a length of n.
func grown(b []byte, n int64) []byte {
	if int64(cap(b)) < n {
		return make([]byte, n)
	}
	return b[:n]
}

// decode turns the bytes of frame i into stored values; samples serve as a step where floats are asked for.
func (l *layout) decode(i int, raw []byte, samples []int32, floats []float64) (lossy bool, err error) {
	switch {
	case l.tag == dicom.FloatPixelData:
		for k := range floats {
			floats[k] = float64(math.Float32frombits(l.order.Uint32(raw[4*k:])))
		}
		return false, nil
	case l.tag == dicom.DoubleFloatPixelData:
		for k := range floats {
			floats[k] = math.Float64frombits(l.order.Uint64(raw[8*k:]))
		}
		return false, nil
	case l.codec.samples != nil:
		p, err := l.codec.samples(raw, l.rows, l.columns, samples)
		if err == nil {
			err = l.settle(p, samples)
		}
		if err != nil {
			return false, err
		}
		lossy = p.lossy
	case l.codec.bytes != nil:
		if raw, err = l.codec.bytes(raw, (int64(len(samples))*int64(l.allocated)+7)/8); err != nil {
			return false, err
		}
		l.unpack(0, raw, samples)
	default:
		_, _, bit := l.span(i)
		l.unpack(bit, raw, samples)
	}
	if l.float {
		for k, v := range samples {
			floats[k] = float64(uint32(v))
		}
	}
	return lossy, nil
}

// unpack turns bytes into samples, from a bit of the first byte on.
func (l *layout) unpack(bit int64, raw []byte, out []int32) {
	if l.swapped {
		for k := 0; k+1 < len(raw); k += 2 {
			raw[k], raw[k+1] = raw[k+1], raw[k]
		}
	}
	switch l.allocated {
	case 1: // the first pixel is the least significant bit: PS3.5 8.1.1
		for k := range out {
			b := bit + int64(k)
			out[k] = int32(raw[b>>3] >> (b & 7) & 1)
		}
		return
	case 8:
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
	l.cut(l.high, out)
}

// cut leaves Bits Stored of each sample, the highest of them bit high. Shifting a sample to the top and back takes away the bits
// outside, which may hold overlays (PS3.5 8.1.1), and extends the sign.
func (l *layout) cut(high int, out []int32) {
	up, down := 31-high, 32-l.stored
	switch {
	case l.signed:
		for k, v := range out {
			out[k] = v << up >> down
		}
	case l.stored < 32:
		for k, v := range out {
			out[k] = int32(uint32(v) << up >> down)
		}
	}
}
