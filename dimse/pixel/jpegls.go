package pixel

import (
	"encoding/binary"
)

// JPEG-LS markers: ITU-T T.87 Table C.1, and of T.81 Table B.1 those that it takes over.
const (
	jlsRST0  = 0xD0
	jlsSOI   = 0xD8
	jlsEOI   = 0xD9
	jlsSOS   = 0xDA
	jlsDNL   = 0xDC
	jlsDRI   = 0xDD
	jlsAPP0  = 0xE0
	jlsAPP15 = 0xEF
	jlsSOF55 = 0xF7
	jlsLSE   = 0xF8
	jlsCOM   = 0xFE
)

// jlsScan is what the marker segments say of the only scan.
type jlsScan struct {
	bits     int // P
	lines    int // Y; 0 where a DNL behind the scan says it
	columns  int // X
	interval int // Ri: lines from one restart marker to the next, 0: no markers
	near     int
	preset   [5]int // MAXVAL, T1, T2, T3, RESET of C.2.4.1.1; 0: the default
}

// decodeJPEGLS reads JPEG-LS, lossless and near-lossless: ITU-T T.87 | ISO/IEC 14495-1.
func decodeJPEGLS(stream []byte, rows, columns int, out []int32) (precision, error) {
	s, start, err := jlsHeader(stream)
	if err != nil {
		return precision{}, err
	}
	if s.columns != columns || s.lines != rows && s.lines != 0 {
		return precision{}, malformed("the JPEG-LS stream has %d × %d pixels, Rows (0028,0010) and Columns (0028,0011) say %d × %d: send the image again",
			s.lines, s.columns, rows, columns)
	}
	c, err := s.coding()
	if err != nil {
		return precision{}, err
	}
	d := jlsDecoders.Get().(*jlsDecoder)
	defer jlsDecoders.Put(d)
	d.begin(c, columns)
	d.in, d.pos = stream, start
	defer func() { d.in = nil }()
	interval := s.interval
	if interval == 0 {
		interval = rows
	}
	for line, restart := 0, 0; ; restart++ {
		next := min(line+interval, rows)
		if n := d.lines(out[line*columns : next*columns]); n >= 0 {
			return precision{}, malformed("the JPEG-LS stream is truncated or damaged, in or before line %d: send the image again", line+n+1)
		}
		if line = next; line == rows {
			break
		}
		if m := d.marker(); m != jlsRST0+restart&7 { // T.81 B.2.1
			return precision{}, malformed("the JPEG-LS stream has no restart marker %d behind line %d: it is truncated or damaged, send the image again", restart&7, line)
		}
	}
	return precision{bits: s.bits, lossy: s.near > 0}, d.end(s, rows)
}

// jlsHeader reads the marker segments up to the scan, and where it begins.
func jlsHeader(b []byte) (s jlsScan, start int, err error) {
	if len(b) < 2 || b[0] != 0xFF || b[1] != jlsSOI {
		return s, 0, malformed("the JPEG-LS stream does not begin with SOI: send the image again")
	}
	component := -1 // Ci
	for at := 2; ; {
		from := at
		for at < len(b) && b[at] == 0xFF { // T.81 B.1.1.2: any number of them
			at++
		}
		if at >= len(b) {
			return s, 0, malformed("the JPEG-LS stream ends before its scan: it is truncated, send the image again")
		}
		marker := b[at]
		at++
		if at-from < 2 {
			return s, 0, malformed("the JPEG-LS stream has no marker at byte %d: send the image again", from)
		}
		if marker == jlsEOI || marker == jlsSOI || marker >= jlsRST0 && marker < jlsRST0+8 || marker < 0xC0 {
			return s, 0, malformed("the JPEG-LS stream has marker FF%02X at byte %d, before its scan: send the image again", marker, from)
		}
		if len(b)-at < 2 || int(binary.BigEndian.Uint16(b[at:])) > len(b)-at || binary.BigEndian.Uint16(b[at:]) < 2 {
			return s, 0, malformed("the JPEG-LS stream has a wrong length at byte %d: it is truncated or damaged, send the image again", at)
		}
		p := b[at+2 : at+int(binary.BigEndian.Uint16(b[at:]))]
		at += 2 + len(p)
		bad := func() error {
			return malformed("the JPEG-LS stream has a marker segment FF%02X at byte %d that T.87 does not allow: send the image again", marker, from)
		}
		switch {
		case marker == jlsSOF55: // C.2.2
			switch {
			case len(p) < 6 || len(p) != 6+3*int(p[5]) || p[5] == 0 || component >= 0:
				return s, 0, bad()
			case p[5] != 1:
				return s, 0, unsupported("the JPEG-LS stream has %d components: only one is read, no colour", p[5])
			}
			s.bits, s.lines, s.columns = int(p[0]), int(binary.BigEndian.Uint16(p[1:])), int(binary.BigEndian.Uint16(p[3:]))
			component = int(p[6])
			if s.bits < 2 || s.bits > 16 || p[7]>>4 == 0 || p[7]&15 == 0 {
				return s, 0, bad()
			}
			if s.columns == 0 { // C.2.4.1.4: then LSE has the size
				return s, 0, unsupported("the JPEG-LS stream has its size in LSE, as only one beyond 65535 × 65535 needs it")
			}
		case marker == jlsLSE: // C.2.4.1
			switch {
			case len(p) == 0:
				return s, 0, bad()
			case p[0] == 1:
				if len(p) != 11 {
					return s, 0, bad()
				}
				for i := range s.preset {
					s.preset[i] = int(binary.BigEndian.Uint16(p[1+2*i:]))
				}
			case p[0] == 2 || p[0] == 3: // a mapping table, which the scan names if it needs it
			case p[0] == 4:
				return s, 0, unsupported("the JPEG-LS stream has its size in LSE, as only one beyond 65535 × 65535 needs it")
			default:
				return s, 0, unsupported("the JPEG-LS stream has LSE parameters of type %d", p[0])
			}
		case marker == jlsDRI: // C.2.5: 2, 3 or 4 bytes
			if len(p) < 2 || len(p) > 4 {
				return s, 0, bad()
			}
			s.interval = 0
			for _, v := range p {
				s.interval = s.interval<<8 | int(v)
			}
		case marker == jlsSOS: // C.2.3
			if component < 0 || len(p) != 6 || p[0] != 1 || int(p[1]) != component {
				return s, 0, bad()
			}
			switch {
			case p[2] != 0:
				return s, 0, unsupported("the JPEG-LS stream has a mapping table, which is colour")
			case p[5] != 0:
				return s, 0, unsupported("the JPEG-LS stream has a point transform of %#x", p[5])
			}
			s.near = int(p[3]) // p[4], the interleave mode, has no meaning for one component
			return s, at, nil
		case marker >= jlsAPP0 && marker <= jlsAPP15 || marker == jlsCOM:
		case marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xCC: // T.81 Table B.1
			return s, 0, malformed("the stream is JPEG (SOF FF%02X) and not JPEG-LS, which the transfer syntax says: send the image again", marker)
		default:
			return s, 0, bad()
		}
	}
}

// jlsCoding is what the coding procedures of T.87 Annex A take from the parameters.
type jlsCoding struct {
	maxval, t1, t2, t3, reset int
	near                      int
	step                      int // 2·NEAR+1
	span                      int // RANGE
	qbpp                      int
	limit                     int // LIMIT
}

// coding fills in the defaults of C.2.4.1.1.1, and checks the values against Table C.3.
func (s jlsScan) coding() (jlsCoding, error) {
	maxval := 1<<s.bits - 1
	if v := s.preset[0]; v > maxval {
		return jlsCoding{}, malformed("the JPEG-LS stream has MAXVAL %d with %d bits: send the image again", v, s.bits)
	} else if v > 0 {
		maxval = v
	}
	near := s.near
	if near > min(255, maxval/2) {
		return jlsCoding{}, malformed("the JPEG-LS stream has NEAR %d with MAXVAL %d: send the image again", near, maxval)
	}
	clamp := func(v, low int) int {
		if v > maxval || v < low {
			return low
		}
		return v
	}
	var t [3]int
	low := near + 1
	for i, basic := range [3]int{3, 7, 21} {
		v := 0
		if maxval >= 128 {
			factor := (min(maxval, 4095) + 128) / 256
			v = factor*(basic-2-i) + 2 + i + (3+2*i)*near
		} else {
			factor := 256 / (maxval + 1)
			v = max(2+i, basic/factor+(3+2*i)*near)
		}
		t[i] = clamp(v, low)
		if given := s.preset[1+i]; given != 0 {
			if given < low || given > maxval {
				return jlsCoding{}, malformed("the JPEG-LS stream has T%d %d, which lies not between %d and MAXVAL %d: send the image again", i+1, given, low, maxval)
			}
			t[i] = given
		}
		low = t[i]
	}
	reset := 64
	if v := s.preset[4]; v != 0 {
		if v < 3 || v > max(255, maxval) {
			return jlsCoding{}, malformed("the JPEG-LS stream has RESET %d: send the image again", v)
		}
		reset = v
	}
	c := jlsCoding{maxval: maxval, t1: t[0], t2: t[1], t3: t[2], reset: reset, near: near, step: 2*near + 1}
	c.span = (maxval+2*near)/c.step + 1 // A.2.1
	c.qbpp = bitLength(c.span - 1)
	bpp := max(2, bitLength(maxval))
	c.limit = 2 * (bpp + max(8, bpp))
	return c, nil
}

// marker goes over the padding of the last byte to the next marker, which it takes; -1 when there is none.
func (d *jlsDecoder) marker() int {
	d.fill()
	if d.avail-d.invented >= 16 { // a byte, and behind an FF one without bits: A.1
		return -1
	}
	at := d.pos
	d.buf, d.avail, d.invented = 0, 0, 0
	for d.pos < len(d.in) && d.in[d.pos] == 0xFF {
		d.pos++
	}
	if d.pos == at || d.pos >= len(d.in) {
		return -1
	}
	d.pos++
	return int(d.in[d.pos-1])
}

// end checks what stands behind the scan. An EOI that is missing is no loss, as all lines were there.
func (d *jlsDecoder) end(s jlsScan, rows int) error {
	d.fill()
	if d.pos >= len(d.in) && s.lines != 0 {
		return nil
	}
	m := d.marker()
	if m == jlsDNL && s.lines == 0 { // T.81 B.2.5
		p := d.in[d.pos:]
		if len(p) < 4 || binary.BigEndian.Uint16(p) != 4 || int(binary.BigEndian.Uint16(p[2:])) != rows {
			return malformed("the JPEG-LS stream has other lines in DNL than Rows (0028,0010) %d: send the image again", rows)
		}
		return nil
	}
	if m != jlsEOI || s.lines == 0 {
		return malformed("the JPEG-LS stream goes on behind its last line: Rows (0028,0010) or Columns (0028,0011) is wrong, send the image again")
	}
	return nil
}
