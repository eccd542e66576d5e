package pixel

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/radnode/radnode/dimse/dicom"
)

// precision is what a codestream says of its samples.
type precision struct {
	bits   int  // of a sample
	signed bool // JPEG 2000 only: the samples are two's complement already, sign extended in out
	lossy  bool // the codestream is irreversibly compressed: lossy JPEG, JPEG-LS with NEAR > 0, an irreversible wavelet
}

// A decoder turns the compressed bytes of one frame into out, rows × columns samples as the codestream holds them. Errors are
// sentences about the codestream that wrap dicom.ErrMalformed or dicom.ErrUnsupported.
type decoder func(stream []byte, rows, columns int, out []int32) (precision, error)

// A codec is how a transfer syntax keeps a frame: as a codestream of samples, or as the n bytes of a native frame.
type codec struct {
	samples decoder
	bytes   func(stream []byte, n int64) ([]byte, error)
	marked  bool // the stream begins with SOI or SOC and ends with EOI or EOC, and nothing in between looks like that
	exact   bool // it holds all Bits Allocated
}

// codecs are the transfer syntaxes of PS3.5 A.4 that can be read.
var codecs = map[string]codec{
	"1.2.840.10008.1.2.1.98":  {bytes: unpadded},                       // A.4.11
	"1.2.840.10008.1.2.4.50":  {samples: decodeJPEG, marked: true},     // A.4.1
	"1.2.840.10008.1.2.4.51":  {samples: decodeJPEG, marked: true},     // A.4.1
	"1.2.840.10008.1.2.4.57":  {samples: decodeJPEG, marked: true},     // A.4.1
	"1.2.840.10008.1.2.4.70":  {samples: decodeJPEG, marked: true},     // A.4.1
	"1.2.840.10008.1.2.4.80":  {samples: decodeJPEGLS, marked: true},   // A.4.3
	"1.2.840.10008.1.2.4.81":  {samples: decodeJPEGLS, marked: true},   // A.4.3
	"1.2.840.10008.1.2.4.90":  {samples: decodeJPEG2000, marked: true}, // A.4.4
	"1.2.840.10008.1.2.4.91":  {samples: decodeJPEG2000, marked: true}, // A.4.4
	"1.2.840.10008.1.2.4.201": {samples: decodeJPEG2000, marked: true}, // A.4.12
	"1.2.840.10008.1.2.4.202": {samples: decodeJPEG2000, marked: true}, // A.4.12
	"1.2.840.10008.1.2.4.203": {samples: decodeJPEG2000, marked: true}, // A.4.12
	"1.2.840.10008.1.2.5":     {samples: decodeRLE, exact: true},       // A.4.2
	"1.2.840.10008.1.2.8.1":   {bytes: inflate},                        // A.4.13
}

func malformed(format string, args ...any) error {
	return kindError{dicom.ErrMalformed, fmt.Sprintf(format, args...)}
}

func unsupported(format string, args ...any) error {
	return kindError{dicom.ErrUnsupported, fmt.Sprintf(format, args...)}
}

// fragments is encapsulated pixel data: which of its items make which frame.
type fragments struct {
	value  *io.SectionReader
	offset int64   // of the value
	starts []int64 // of the items in the value, and behind the last one its end
	first  []int   // item of each frame, and behind the last one the number of items; nil: every frame has one
}

const itemHeader = 8 // PS3.5 Table 7.5-1

// locate finds the frames: PS3.5 A.4 and PS3.3 C.7.6.3.1.8. As many fragments as frames are one each, and all fragments belong
// to the only frame, whatever a table of offsets says. Otherwise the Extended Offset Table decides, or the Basic Offset Table,
// or the markers of the codestreams, the first of them that fits the fragments.
func locate(f *dicom.File, l *layout) (*fragments, error) {
	s := &fragments{value: l.value, offset: l.offset}
	table, err := s.walk()
	if err != nil {
		return nil, err
	}
	switch n := len(s.starts) - 1; {
	case n < l.frames:
		return nil, s.fail(s.value.Size(), "has %d fragments for %d frames: it is truncated or Number of Frames (0028,0008) is wrong; send it again", n, l.frames)
	case n == l.frames:
	case l.frames == 1:
		if err := s.only(table, l.codec.marked); err != nil {
			return nil, err
		}
		s.first = []int{0, n}
	default:
		if err := s.assign(f.DataSet, table, l); err != nil {
			return nil, err
		}
	}
	return s, s.plausible(l)
}

func (s *fragments) fail(at int64, format string, args ...any) error {
	if at >= 0 {
		at += s.offset
	}
	return &dicom.Error{Path: dicom.PixelData.String(), Offset: at, Err: malformed(format, args...)}
}

// walk goes over the items and returns where the Basic Offset Table, which comes first, has its value.
func (s *fragments) walk() (*io.SectionReader, error) {
	const window = 512
	var buf [window]byte
	var have []byte // what the window shows from at on
	var table *io.SectionReader
	size := s.value.Size()
	for at, from := int64(0), int64(0); at < size; {
		if at+itemHeader > size {
			return nil, s.fail(at, "ends inside of an item: it is truncated, send it again")
		}
		if skip := at - from; skip >= 0 && skip+itemHeader <= int64(len(have)) {
			have = have[skip:]
		} else {
			n, err := s.value.ReadAt(buf[:min(window, size-at)], at)
			if n < itemHeader {
				return nil, &dicom.Error{Path: dicom.PixelData.String(), Offset: s.offset + at, Err: unexpected(err)}
			}
			have = buf[:n]
		}
		from = at
		tag, length := binary.LittleEndian.Uint32(have), int64(binary.LittleEndian.Uint32(have[4:]))
		switch {
		case tag != 0xE000FFFE: // (FFFE,E000) in its byte order
			return nil, s.fail(at, "has no item where a fragment belongs: send the image again")
		case length > size-at-itemHeader:
			return nil, s.fail(at, "has an item that claims %d bytes where %d are left: it is truncated, send it again", length, size-at-itemHeader)
		case table == nil:
			table = io.NewSectionReader(s.value, at+itemHeader, length)
		case length == 0: // PS3.5 A.4: two bytes at least
			return nil, s.fail(at, "has no bytes in fragment %d: send the image again", len(s.starts)+1)
		default:
			s.starts = append(s.starts, at)
		}
		at += itemHeader + length
	}
	if table == nil {
		return nil, s.fail(0, "has no Basic Offset Table and no fragment: send the image again")
	}
	s.starts = append(s.starts, size)
	return table, nil
}

func unexpected(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// only makes sure that the fragments are those of one frame.
func (s *fragments) only(table *io.SectionReader, marked bool) error {
	if marked {
		starts, err := s.marked()
		if err == nil && len(starts) > 1 {
			err = s.fail(s.starts[starts[1]], "has %d frames, but Number of Frames (0028,0008) is 1: send the image again", len(starts))
		}
		return err
	}
	if n := table.Size() / 4; n > 1 {
		return s.fail(itemHeader, "has %d frames in its Basic Offset Table, but Number of Frames (0028,0008) is 1: send the image again", n)
	}
	return nil
}

// assign gives the fragments to several frames of which one has several.
func (s *fragments) assign(d *dicom.DataSet, table *io.SectionReader, l *layout) error {
	var wrong error // what the first table that is there has wrong
	if d.Has(dicom.ExtendedOffsetTable) {
		if s.first, wrong = s.extended(d, l.frames); wrong == nil {
			return nil
		}
	}
	if table.Size() > 0 {
		var err error
		if s.first, err = s.basic(table, l.frames); err == nil {
			return nil
		}
		if wrong == nil {
			wrong = err
		}
	}
	if l.codec.marked {
		starts, err := s.marked()
		if err != nil {
			return err
		}
		if len(starts) == l.frames {
			s.first = append(starts, len(s.starts)-1)
			return nil
		}
	}
	if wrong != nil {
		return wrong
	}
	return s.fail(0, "has %d fragments for %d frames and no offset table that says which belong together: send the image again", len(s.starts)-1, l.frames)
}

// extended reads the Extended Offset Table: PS3.3 C.7.6.3.1.8. Its offsets are those of a Basic Offset Table, with 64 bits.
func (s *fragments) extended(d *dicom.DataSet, frames int) ([]int, error) {
	b, lengths := d.Bytes(dicom.ExtendedOffsetTable), d.Bytes(dicom.ExtendedOffsetTableLengths)
	if len(b) != 8*frames {
		return nil, fail(dicom.ExtendedOffsetTable, dicom.ErrMalformed, "has %d bytes for %d frames: send the image again", len(b), frames)
	}
	first, bad := s.at(frames, func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) })
	if bad >= 0 {
		return nil, fail(dicom.ExtendedOffsetTable, dicom.ErrMalformed, "says that frame %d begins at %d, where no fragment does that could: send the image again",
			bad+1, binary.LittleEndian.Uint64(b[8*bad:]))
	}
	if len(lengths) != 8*frames {
		return nil, fail(dicom.ExtendedOffsetTableLengths, dicom.ErrMalformed, "has %d bytes for %d frames: send the image again", len(lengths), frames)
	}
	for i := range frames {
		have := uint64(s.size(first[i], first[i+1]))
		if n := binary.LittleEndian.Uint64(lengths[8*i:]); n != have && n+1 != have { // the byte that makes the length even may not count
			return nil, fail(dicom.ExtendedOffsetTableLengths, dicom.ErrMalformed, "says that frame %d has %d bytes, but its fragments have %d: send the image again", i+1, n, have)
		}
	}
	return first, nil
}

// basic reads the Basic Offset Table: PS3.5 A.4.
func (s *fragments) basic(table *io.SectionReader, frames int) ([]int, error) {
	if table.Size() != 4*int64(frames) {
		return nil, s.fail(0, "has a Basic Offset Table of %d bytes for %d frames: send the image again", table.Size(), frames)
	}
	b := make([]byte, table.Size())
	if n, err := table.ReadAt(b, 0); n < len(b) {
		return nil, &dicom.Error{Path: dicom.PixelData.String(), Offset: s.offset + itemHeader, Err: unexpected(err)}
	}
	first, bad := s.at(frames, func(i int) uint64 { return uint64(binary.LittleEndian.Uint32(b[4*i:])) })
	if bad >= 0 {
		return nil, s.fail(itemHeader+4*int64(bad), "says in its Basic Offset Table that frame %d begins at %d, where no fragment does that could: send the image again",
			bad+1, binary.LittleEndian.Uint32(b[4*bad:]))
	}
	return first, nil
}

// at finds the fragments by their offsets from the first one; bad is the frame that has none behind that of the frame before, -1 if
// all have one.
func (s *fragments) at(frames int, offset func(i int) uint64) (first []int, bad int) {
	items := s.starts[:len(s.starts)-1]
	first = make([]int, frames+1)
	for i := range frames {
		o := offset(i)
		if o > uint64(s.value.Size()) {
			return nil, i
		}
		k, found := slices.BinarySearch(items, items[0]+int64(o))
		if !found || i == 0 && k != 0 || i > 0 && k <= first[i-1] {
			return nil, i
		}
		first[i] = k
	}
	first[frames] = len(items)
	return first, -1
}

// marked are the fragments where a codestream begins, behind one where a codestream ends. No entropy coded data has these
// markers: ITU-T T.81 B.1.1.5, T.87 C.2.1, T.800 B.1.
func (s *fragments) marked() ([]int, error) {
	first := []int{0}
	for k := 1; k < len(s.starts)-1; k++ {
		var head [2]byte
		tail := make([]byte, min(16, s.starts[k]-s.starts[k-1]-itemHeader))
		_, err := s.value.ReadAt(head[:min(2, s.starts[k+1]-s.starts[k]-itemHeader)], s.starts[k]+itemHeader)
		if err == nil {
			_, err = s.value.ReadAt(tail, s.starts[k]-int64(len(tail)))
		}
		if err != nil {
			return nil, &dicom.Error{Path: dicom.PixelData.String(), Offset: s.offset + s.starts[k], Err: unexpected(err)}
		}
		begins := head == [2]byte{0xFF, 0xD8} || head == [2]byte{0xFF, 0x4F}
		if begins && bytes.HasSuffix(bytes.TrimRight(tail, "\x00"), []byte{0xFF, 0xD9}) {
			first = append(first, k)
		}
	}
	return first, nil
}

// size is how many bytes the fragments from first up to next have.
func (s *fragments) size(first, next int) int64 {
	return s.starts[next] - s.starts[first] - int64(next-first)*itemHeader
}

// span are the first fragment of frame i, and the one behind its last.
func (s *fragments) span(i int) (first, next int) {
	if s.first == nil {
		return i, i + 1
	}
	return s.first[i], s.first[i+1]
}

// where is the offset of the first byte of frame i.
func (s *fragments) where(i int) int64 {
	first, _ := s.span(i)
	return s.offset + s.starts[first] + itemHeader
}

// What a frame may claim of its bytes. JPEG 2000 and JPEG-LS say of any blank image that it is blank in next to no bytes, so every
// frame of up to 2^25 samples, which the largest mammograms (4728 × 5928) do not reach, is believed. Beyond, a frame needs
// a byte for 4096 samples.
const (
	freeSamples  = 1 << 25
	samplesAByte = 4096
)

// plausible refuses frames that are too small for their size, before memory is taken for it.
func (s *fragments) plausible(l *layout) error {
	n := int64(l.rows) * int64(l.columns)
	for i := range l.frames {
		first, next := s.span(i)
		if have := s.size(first, next); n > freeSamples+samplesAByte*have {
			return s.fail(s.starts[first], "has %d bytes in frame %d, which cannot be %d × %d pixels: it is truncated or its header is wrong; send it again",
				have, i+1, l.rows, l.columns)
		}
	}
	return nil
}

// read gets the stream of frame i into raw, which it grows where needed.
func (s *fragments) read(i int, raw []byte) ([]byte, error) {
	first, next := s.span(i)
	raw = grown(raw, s.size(first, next))
	done := int64(0)
	for k := first; k < next; k++ {
		part := raw[done:][:s.starts[k+1]-s.starts[k]-itemHeader]
		if n, err := s.value.ReadAt(part, s.starts[k]+itemHeader); n < len(part) {
			return raw, unexpected(err)
		}
		done += int64(len(part))
	}
	return raw, nil
}

// settle turns the samples of a codestream into stored values. A codestream has no sign but in JPEG 2000, and more bits than Bits
// Stored where its writer took the whole word, or none but those (PS3.5 8.2).
func (l *layout) settle(p precision, out []int32) error {
	room := max(l.allocated, 8) // a pixel of one bit takes a byte at least: PS3.5 G.2
	switch {
	case p.bits > room || l.codec.exact && p.bits != l.allocated && !(l.allocated == 1 && p.bits == 8):
		return malformed("the codestream has %d bits a sample, Bits Allocated (0028,0100) is %d: send the image again", p.bits, l.allocated)
	case p.signed:
		return l.within(p, out)
	case p.bits > l.high:
		l.cut(l.high, out)
	case p.bits == l.stored: // High Bit is above, which says nothing of a codestream
		l.cut(l.stored-1, out)
	case l.high != l.stored-1:
		return malformed("the codestream has %d bits a sample, where High Bit (0028,0102) is %d and Bits Stored (0028,0101) %d: send the image again", p.bits, l.high, l.stored)
	case l.signed:
		// The sign would be in a bit that is not there. A value with the highest bit that is there may be negative, if the writer cut
		// the sign off there, or not, if it found none that is; the others are the same both ways.
		for _, v := range out {
			if uint32(v)>>(p.bits-1) != 0 {
				return malformed("the codestream has %d bits a sample, Bits Stored (0028,0101) is %d, and where the sign is cannot be told: send the image uncompressed", p.bits, l.stored)
			}
		}
	}
	return nil
}

// within refuses signed samples that Bits Stored and Pixel Representation do not allow.
func (l *layout) within(p precision, out []int32) error {
	low, top := int64(0), int64(1)<<l.stored
	if l.signed {
		low, top = -top/2, top/2
	}
	for _, v := range out {
		if int64(v) < low || int64(v) >= top {
			return malformed("the codestream has a sample of %d, which Bits Stored (0028,0101) %d and Pixel Representation (0028,0103) do not allow: send the image uncompressed", v, l.stored)
		}
	}
	return nil
}

// unpadded is a native frame, with a byte behind it where its length is odd.
func unpadded(stream []byte, n int64) ([]byte, error) {
	if have := int64(len(stream)); have != n && have != n+n&1 {
		return nil, malformed("has %d bytes, and its pixels need %d: send the image again", have, n)
	}
	return stream[:n], nil
}

// inflate undoes the deflate stream of one frame, and not a byte more than the frame has.
func inflate(stream []byte, n int64) ([]byte, error) {
	in := bytes.NewReader(stream)
	z := flate.NewReader(in)
	defer z.Close()
	out := bytes.NewBuffer(make([]byte, 0, min(n, 1032*int64(len(stream)))+bytes.MinRead)) // RFC 1951: 258 bytes in 2 bits at best
	have, err := out.ReadFrom(io.LimitReader(z, n+2))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, malformed("the deflate stream is truncated after %d of %d bytes: send the image again", have, n)
	case err != nil:
		return nil, malformed("the deflate stream cannot be inflated: %v", err)
	case have > n+n&1 || have < n:
		return nil, malformed("the deflate stream has not the %d bytes that its pixels need: send the image again", n)
	case in.Len() > 1: // PS3.5 A.4.13: one byte makes the length even
		return nil, malformed("has %d bytes behind the deflate stream: send the image again", in.Len())
	}
	return out.Bytes()[:n], nil
}
