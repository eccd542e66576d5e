package pixel

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/radnode/radnode/dimse/dicom"
)

// The markers of ITU-T T.81 Table B.1 that are looked at by name; the second byte, after FF.
const (
	jpegSOF0 = 0xC0 // baseline DCT
	jpegSOF1 = 0xC1 // extended sequential DCT
	jpegSOF2 = 0xC2 // progressive DCT
	jpegSOF3 = 0xC3 // lossless
	jpegDHT  = 0xC4
	jpegDAC  = 0xCC
	jpegRST0 = 0xD0
	jpegRST7 = 0xD7
	jpegSOI  = 0xD8
	jpegEOI  = 0xD9
	jpegSOS  = 0xDA
	jpegDQT  = 0xDB
	jpegDNL  = 0xDC
	jpegDRI  = 0xDD
	jpegDHP  = 0xDE
	jpegEXP  = 0xDF
	jpegTEM  = 0x01
)

// jpegProcesses names the frames of Table B.1 that are not read.
var jpegProcesses = map[byte]string{
	0xC5: "hierarchical (SOF5)", 0xC6: "hierarchical (SOF6)", 0xC7: "hierarchical (SOF7)",
	0xC8: "JPG extension (SOF8)",
	0xC9: "arithmetic coding (SOF9)", 0xCA: "arithmetic coding (SOF10)", 0xCB: "arithmetic coding (SOF11)",
	0xCD: "hierarchical arithmetic coding (SOF13)", 0xCE: "hierarchical arithmetic coding (SOF14)",
	0xCF:    "hierarchical arithmetic coding (SOF15)",
	jpegDAC: "arithmetic coding (DAC)", jpegDHP: "hierarchical (DHP)", jpegEXP: "hierarchical (EXP)",
	0xF7: "JPEG-LS (SOF55)",
}

// jpegDecoder reads one image of ITU-T T.81 with one component.
type jpegDecoder struct {
	stream        []byte
	at            int // in stream
	rows, columns int
	out           []int32

	process   byte // its SOF, 0 before it came
	bits      int  // P of the SOF
	component byte
	quantizer byte // Tq of the SOF

	quant    [4]*[64]int32      // in zigzag order, as DQT has them
	huffman  [2][4]*jpegHuffman // by class and destination
	restart  int                // MCUs of a restart interval, 0 for none
	scratch  []byte             // entropy-coded bytes without stuffing
	progress *jpegProgress      // SOF2 only
	shift    int                // the point transform of SOF3
	complete bool
}

// decodeJPEG reads baseline (SOF0), extended sequential (SOF1), progressive (SOF2) and lossless (SOF3) images, all with Huffman
// codes and one component. It needs no EOI, but every sample: a stream that ends before them is an error.
func decodeJPEG(stream []byte, rows, columns int, out []int32) (precision, error) {
	d := &jpegDecoder{stream: stream, rows: rows, columns: columns, out: out}
	if rows < 1 || columns < 1 || len(out) != rows*columns {
		return precision{}, fmt.Errorf("%d samples are no %d × %d", len(out), rows, columns)
	}
	if len(stream) < 4 || stream[0] != 0xFF || stream[1] != jpegSOI {
		return precision{}, jpegMalformed("does not begin with a JPEG start of image (FFD8)")
	}
	d.at = 2
	return d.decode()
}

// decode goes through the marker segments: B.1.1.
func (d *jpegDecoder) decode() (precision, error) {
	for {
		marker, ok := d.marker()
		if !ok || marker == jpegEOI {
			return d.finish()
		}
		if marker == jpegTEM || marker >= jpegRST0 && marker <= jpegRST7 {
			continue // they have no segment
		}
		start := d.at - 2
		segment, err := d.segment(marker)
		if err != nil {
			return precision{}, err
		}
		switch marker {
		case jpegSOF0, jpegSOF1, jpegSOF2, jpegSOF3:
			err = d.frame(marker, segment)
		case jpegDQT:
			err = d.quantization(segment)
		case jpegDHT:
			err = d.huffmanTables(segment)
		case jpegDRI: // B.2.4.4
			if len(segment) != 2 {
				err = jpegMalformed("restart interval (DRI) of %d bytes", len(segment))
			} else {
				d.restart = int(binary.BigEndian.Uint16(segment))
			}
		case jpegDNL:
			err = jpegUnsupported("the number of lines comes after the scan (DNL), which is not read")
		case jpegSOI:
			err = jpegMalformed("a second start of image (SOI) before the first has ended")
		case jpegSOS:
			if err = d.scan(segment); err == nil && d.complete {
				return d.finish()
			}
		default: // APPn, COM and what is reserved say nothing of the samples
			if name, ok := jpegProcesses[marker]; ok {
				err = jpegUnsupported("JPEG process %s is not read: baseline, extended, progressive and lossless Huffman are", name)
			}
		}
		if err != nil {
			return precision{}, fmt.Errorf("JPEG marker FF%02X at byte %d: %w", marker, start, err)
		}
	}
}

func jpegMalformed(format string, args ...any) error {
	return kindError{dicom.ErrMalformed, fmt.Sprintf(format, args...)}
}

func jpegUnsupported(format string, args ...any) error {
	return kindError{dicom.ErrUnsupported, fmt.Sprintf(format, args...)}
}

// marker goes to the next marker, over fill bytes (B.1.1.2) and over bytes that belong to no segment.
func (d *jpegDecoder) marker() (byte, bool) {
	for {
		i := bytes.IndexByte(d.stream[d.at:], 0xFF)
		if i < 0 {
			return 0, false
		}
		d.at += i + 1
		for d.at < len(d.stream) && d.stream[d.at] == 0xFF {
			d.at++
		}
		if d.at == len(d.stream) {
			return 0, false
		}
		m := d.stream[d.at]
		d.at++
		if m != 0 {
			return m, true
		}
	}
}

// segment takes the parameters of a marker segment: B.1.1.4.
func (d *jpegDecoder) segment(marker byte) ([]byte, error) {
	if marker == jpegSOI {
		return nil, nil
	}
	rest := d.stream[d.at:]
	if len(rest) < 2 {
		return nil, jpegMalformed("ends after JPEG marker FF%02X: it is truncated; send the image again", marker)
	}
	n := int(binary.BigEndian.Uint16(rest))
	if n < 2 || n > len(rest) {
		return nil, jpegMalformed("JPEG marker FF%02X has a segment of %d bytes where %d are left: it is truncated; send the image again",
			marker, n, len(rest))
	}
	d.at += n
	return rest[2:n], nil
}

// frame reads a frame header: B.2.2.
func (d *jpegDecoder) frame(marker byte, s []byte) error {
	if d.process != 0 {
		return jpegMalformed("a second frame header (SOF)")
	}
	if len(s) < 6 || len(s) != 6+3*int(s[5]) {
		return jpegMalformed("frame header (SOF) of %d bytes", len(s))
	}
	bits, components := int(s[0]), int(s[5])
	rows, columns := int(binary.BigEndian.Uint16(s[1:])), int(binary.BigEndian.Uint16(s[3:]))
	if components != 1 {
		return jpegUnsupported("has %d components: only one sample a pixel is read, no colour", components)
	}
	if rows == 0 {
		return jpegUnsupported("leaves the number of lines to a DNL segment, which is not read")
	}
	if rows != d.rows || columns != d.columns {
		return jpegMalformed("has %d × %d samples, but Rows (0028,0010) × Columns (0028,0011) are %d × %d",
			rows, columns, d.rows, d.columns)
	}
	// Table B.2
	switch {
	case marker == jpegSOF0 && bits == 8, (marker == jpegSOF1 || marker == jpegSOF2) && (bits == 8 || bits == 12):
	case marker == jpegSOF3 && bits >= 2 && bits <= 16:
	default:
		return jpegMalformed("has samples of %d bits, which this process of JPEG does not have", bits)
	}
	d.process, d.bits, d.component, d.quantizer = marker, bits, s[6], s[8]
	if d.quantizer > 3 {
		return jpegMalformed("names quantization table %d of 4", d.quantizer)
	}
	return nil
}

// quantization reads quantization tables: B.2.4.1.
func (d *jpegDecoder) quantization(s []byte) error {
	for len(s) > 0 {
		wide, to := s[0]>>4, s[0]&15
		size := 1 + 64*(1+int(wide))
		if wide > 1 || to > 3 || len(s) < size {
			return jpegMalformed("quantization table (DQT) %02X with %d bytes", s[0], len(s))
		}
		q := new([64]int32)
		for k := range q {
			if wide == 1 {
				q[k] = int32(binary.BigEndian.Uint16(s[1+2*k:]))
			} else {
				q[k] = int32(s[1+k])
			}
			if q[k] == 0 {
				return jpegMalformed("quantization table %d divides by 0", to)
			}
		}
		d.quant[to] = q
		s = s[size:]
	}
	return nil
}

// scan reads a scan header (B.2.3) and the scan that follows.
func (d *jpegDecoder) scan(s []byte) error {
	switch {
	case d.process == 0:
		return jpegMalformed("a scan before the frame header (SOF)")
	case len(s) != 6 || s[0] != 1:
		return jpegMalformed("scan header (SOS) of %d bytes, where one component takes 6", len(s))
	case s[1] != d.component:
		return jpegMalformed("scan of component %d, but the frame has component %d", s[1], d.component)
	case s[2]>>4 > 3 || s[2]&15 > 3:
		return jpegMalformed("scan names the Huffman tables %02X", s[2])
	}
	if d.scratch == nil { // the first scan has a bit or more of each sample, or of each block: no memory for what cannot come
		codes := d.blocks()
		if d.process == jpegSOF3 {
			codes = d.rows * d.columns
		}
		if codes/8 > len(d.stream)-d.at {
			return jpegMalformed("%d bytes are left for %d × %d samples: they are truncated; send the image again",
				len(d.stream)-d.at, d.rows, d.columns)
		}
		d.scratch = make([]byte, 0, len(d.stream)-d.at+jpegPad)
	}
	dc, ac := d.huffman[0][s[2]>>4], d.huffman[1][s[2]&15]
	if d.process == jpegSOF3 {
		return d.lossless(dc, int(s[3]), int(s[5]&15))
	}
	quant := d.quant[d.quantizer]
	if quant == nil {
		return jpegMalformed("quantization table %d is missing", d.quantizer)
	}
	if d.process == jpegSOF2 {
		return d.progressive(dc, ac, quant, int(s[3]), int(s[4]), int(s[5]>>4), int(s[5]&15))
	}
	return d.sequential(dc, ac, quant)
}

// finish answers for the whole image, after the last scan.
func (d *jpegDecoder) finish() (precision, error) {
	if d.process == jpegSOF2 && d.progress != nil {
		if err := d.progress.output(d); err != nil {
			return precision{}, err
		}
		d.complete = true
	}
	if !d.complete {
		return precision{}, jpegMalformed("ends before the scan that holds the samples: it is truncated; send the image again")
	}
	return precision{bits: d.bits, lossy: d.process != jpegSOF3 || d.shift > 0}, nil
}

// jpegPad is what jpegRefill may read behind the bytes.
const jpegPad = 8

// jpegBits are the entropy-coded bits of one restart interval. The next n of them are on top of acc.
type jpegBits struct {
	buf []byte // without stuffing, and with jpegPad zeros behind
	p   int    // the byte that follows those in acc
	acc uint64
	n   uint
}

// jpegRefill tops acc up to at least 56 bits. Behind the end it gives zeros: overrun tells.
func jpegRefill(buf []byte, acc uint64, n uint, p int) (uint64, uint, int) {
	if p <= len(buf)-jpegPad {
		acc |= binary.BigEndian.Uint64(buf[p:]) >> (n & 63)
	}
	return acc, n | 56, p + int((63-n)>>3)
}

// overrun says whether more bits were taken than there are.
func (b *jpegBits) overrun() bool { return b.p*8-int(b.n) > (len(b.buf)-jpegPad)*8 }

// take gets up to 16 bits.
func (b *jpegBits) take(size uint) int32 {
	if b.n < 16 {
		b.acc, b.n, b.p = jpegRefill(b.buf, b.acc, b.n, b.p)
	}
	v := b.acc >> (64 - size) // 0 of 0 bits
	b.acc <<= size
	b.n -= size
	return int32(v)
}

// interval goes to the entropy-coded bits of restart interval i of a scan, over the marker before it: B.2.1, F.2.2.5 (E.2.4).
func (d *jpegDecoder) interval(i int, b *jpegBits) error {
	if i > 0 {
		if err := d.ended(b); err != nil {
			return err
		}
		// The number of the marker counts restarts: one that is lost must not move the rest of the image.
		at := d.at
		if m, ok := d.marker(); !ok || m != jpegRST0+byte((i-1)%8) {
			return jpegMalformed("restart marker %d is not at byte %d: the data are damaged; send the image again", (i-1)%8, at)
		}
	}
	s := d.scratch[:0]
	for {
		rest := d.stream[d.at:]
		k := bytes.IndexByte(rest, 0xFF)
		if k < 0 {
			s, d.at = append(s, rest...), len(d.stream)
			break
		}
		s = append(s, rest[:k]...)
		d.at += k
		// FF 00 is a byte FF (F.1.2.3); fill bytes FF may come before a marker (B.1.1.2).
		next := k + 1
		for next < len(rest) && rest[next] == 0xFF {
			next++
		}
		if next == len(rest) || rest[next] != 0 {
			break
		}
		s = append(s, 0xFF)
		d.at += next - k + 1
	}
	*b = jpegBits{buf: append(s, make([]byte, jpegPad)...)}
	return nil
}

// ended checks that a restart interval without overrun took all bits it has. Bytes that are left mean that codes were misread,
// unless they are padding.
func (d *jpegDecoder) ended(b *jpegBits) error {
	left := b.buf[b.p-int(b.n)/8 : len(b.buf)-jpegPad]
	if n := len(left); n > 0 && bytes.Count(left, []byte{0}) < n && bytes.Count(left, []byte{0xFF}) < n {
		return jpegMalformed("%d bytes are left before byte %d, after the last sample: the data are damaged; send the image again", n, d.at)
	}
	return nil
}

func (d *jpegDecoder) truncated() error {
	return jpegMalformed("the entropy-coded data end at byte %d, before the last sample: they are truncated; send the image again", d.at)
}

func jpegNoCode() error {
	return jpegMalformed("the entropy-coded data hold a code that no Huffman table has: they are damaged; send the image again")
}
