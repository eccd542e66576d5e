package pixel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
)

// JPEG 2000 as ITU-T T.800 (ISO/IEC 15444-1) rules it, and its high throughput block coder of ITU-T T.814 (15444-15);
// clauses are of T.800 where no other is named. One component, as Frames reads no colour.
//
// This file reads the markers and puts the tiles together; jpeg2000_packet.go finds the bytes of each code-block,
// jpeg2000_block.go and jpeg2000_ht.go decode them, jpeg2000_wavelet.go turns coefficients into samples.

// The markers of Table A.1, of T.814 A.1 and of Part 2 that a codestream may hold.
const (
	markSOC = 0xff4f
	markCAP = 0xff50
	markSIZ = 0xff51
	markCOD = 0xff52
	markCOC = 0xff53
	markTLM = 0xff55
	markPRF = 0xff56
	markPLM = 0xff57
	markPLT = 0xff58
	markCPF = 0xff59
	markQCD = 0xff5c
	markQCC = 0xff5d
	markRGN = 0xff5e
	markPOC = 0xff5f
	markPPM = 0xff60
	markPPT = 0xff61
	markCRG = 0xff63
	markCOM = 0xff64
	markSOT = 0xff90
	markSOP = 0xff91
	markEPH = 0xff92
	markSOD = 0xff93
	markEOC = 0xffd9
)

const (
	maxLevels       = 32 // Table A.15
	maxProgressions = 64 // of POC; no writer is known to use more than one for each resolution
	maxPlanes       = 30 // of a code-block: a magnitude and its half bit (E.1.1.2) are an int32
	maxBits         = 24 // of a sample; no encoder at hand is right above 25
)

// Bits of the code-block style, Table A.19, and T.814 A.4.
const (
	styleBypass  = 1 << iota // raw bits instead of arithmetic coding in the lower planes
	styleReset               // of the contexts after each pass
	styleTermAll             // each pass is a codeword segment
	styleCausal              // no context reaches into the next stripe
	stylePredict             // termination that shows errors; the decoder need not know
	styleSegment             // four bits 1010 end each cleanup pass
	styleHT                  // high throughput blocks
	styleMixed               // both kinds of block in one tile
)

// coding is COD and COC, Table A.13 to A.23.
type coding struct {
	order      int // of progression, Table A.16
	layers     int
	eph        bool // after each packet header
	levels     int  // of the wavelet
	cbx, cby   int  // exponents of the size of a code-block
	style      byte
	reversible bool
	precinct   [maxLevels + 1]byte // exponents of the size, by resolution: PPy, PPx
}

// quantisation is QCD and QCC, Table A.27 to A.30.
type quantisation struct {
	kind  int // 0 none, 1 one step from which the others derive, 2 a step for each subband
	guard int
	steps []uint16 // as they are written: exponent and, unless kind is 0, mantissa
}

// progression is one entry of POC, Table A.32, as far as the first component goes.
type progression struct {
	order, firstRes, endRes, layers int
}

// parameters are what a header says on the only component. A tile begins with those of the main header.
type parameters struct {
	coding
	quantisation
	roi          int // RGN: the shift of the region of interest, Annex H
	progressions []progression

	coc, qcc, poc bool // were in this header: COD and QCD of the same header do not count (A.6.1, A.6.4)
}

// tileStream is what the tile-parts of one tile hold.
type tileStream struct {
	parameters *parameters
	parts      int
	data       []byte // the packets
}

type rect struct{ x0, y0, x1, y1 int64 }

func (r rect) width() int  { return int(r.x1 - r.x0) }
func (r rect) height() int { return int(r.y1 - r.y0) }
func (r rect) empty() bool { return r.x1 <= r.x0 || r.y1 <= r.y0 }

func ceilDiv(a, b int64) int64       { return (a + b - 1) / b }
func ceilShift(a int64, n int) int64 { return (a + 1<<n - 1) >> n }

// incomplete is the sentence for a codestream whose end is missing.
func incomplete(f string, a ...any) error {
	return malformed("the codestream is truncated: "+f+"; send the image again", a...)
}

func damaged(f string, a ...any) error {
	return malformed("the codestream is damaged: "+f+"; send the image again", a...)
}

func beyond(f string, a ...any) error {
	return unsupported("the codestream has "+f+", which is not read: send the image uncompressed", a...)
}

type codestream struct {
	stream  []byte
	pos     int
	area    rect // the image on the reference grid (B.2)
	tile    rect // the first tile, not cut to the image
	across  int  // tiles
	bits    int
	signed  bool
	main    parameters
	cod     bool // the main header has COD and QCD
	qcd     bool
	tiles   []tileStream
	lossy   bool
	blocks  blockDecoder
	scratch tileScratch
}

// decodeJPEG2000 decodes the frame of a JPEG 2000 or HTJ2K transfer syntax (PS3.5 A.4.4, 8.2.4).
//
// Each packet that the headers promise must be there, in the lossy transfer syntaxes as well: a codestream that was cut
// short is an error and never a blurred image. EOC (A.4.4) may be missing after the last packet, as some writers leave it
// out, and bytes may follow it, as an item has an even length (PS3.5 A.4).
func decodeJPEG2000(stream []byte, rows, columns int, out []int32) (precision, error) {
	stream, err := unbox(stream)
	if err != nil {
		return precision{}, err
	}
	c := &codestream{stream: stream}
	if err := c.readMainHeader(rows, columns); err != nil {
		return precision{}, err
	}
	if len(out) != rows*columns {
		return precision{}, fmt.Errorf("JPEG 2000: room for %d samples, the image has %d", len(out), rows*columns)
	}
	if err := c.readTileParts(); err != nil {
		return precision{}, err
	}
	for i := range c.tiles {
		if err := c.decodeTile(i, out, columns); err != nil {
			return precision{}, fmt.Errorf("tile %d: %w", i, err)
		}
	}
	return precision{bits: c.bits, signed: c.signed, lossy: c.lossy}, nil
}

// unbox finds the codestream in a JP2 file (Annex I). PS3.5 A.4.4 wants the codestream alone, yet there are writers of
// whole files.
func unbox(b []byte) ([]byte, error) {
	const signature = "\x00\x00\x00\x0cjP  \r\n\x87\n"
	if len(b) < len(signature) || string(b[:len(signature)]) != signature {
		return b, nil
	}
	for len(b) >= 8 {
		n, head := uint64(binary.BigEndian.Uint32(b)), uint64(8)
		switch {
		case n == 1 && len(b) >= 16:
			n, head = binary.BigEndian.Uint64(b[8:]), 16
		case n == 0: // to the end of the file
			n = uint64(len(b))
		}
		if n < head {
			break
		}
		if string(b[4:8]) == "jp2c" {
			return b[head:min(n, uint64(len(b)))], nil
		}
		if n > uint64(len(b)) {
			break
		}
		if string(b[4:8]) == "jp2h" && bytes.Contains(b[head:n], []byte("pclr")) { // I.5.3.4
			return nil, beyond("a palette")
		}
		b = b[n:]
	}
	return nil, damaged("it is a JP2 file without one")
}

// marker reads the next marker, and the rest of its segment where it has one.
func (c *codestream) marker() (mark int, segment []byte, err error) {
	b := c.stream[c.pos:]
	if len(b) < 2 {
		return 0, nil, incomplete("it ends within a header")
	}
	mark = int(binary.BigEndian.Uint16(b))
	if mark == markSOD || mark == markEOC {
		c.pos += 2
		return mark, nil, nil
	}
	if mark < 0xff4f || len(b) < 4 {
		return 0, nil, damaged("a marker should be at byte %d", c.pos)
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n < 2 {
		return 0, nil, damaged("the segment of marker %04X has length %d", mark, n)
	}
	if n+2 > len(b) {
		return 0, nil, incomplete("it ends within the segment of marker %04X", mark)
	}
	c.pos += n + 2
	return mark, b[4 : n+2], nil
}

func (c *codestream) readMainHeader(rows, columns int) error {
	if len(c.stream) < 2 || binary.BigEndian.Uint16(c.stream) != markSOC {
		return damaged("it does not begin with FF4F")
	}
	c.pos = 2
	mark, segment, err := c.marker()
	if err != nil {
		return err
	}
	if mark != markSIZ {
		return damaged("marker %04X where SIZ must be", mark)
	}
	if err := c.readSize(segment, rows, columns); err != nil {
		return err
	}
	for {
		before := c.pos
		mark, segment, err := c.marker()
		if err != nil {
			return err
		}
		switch mark {
		case markSOT:
			if !c.cod || !c.qcd {
				return damaged("no COD or no QCD in the main header")
			}
			c.pos = before
			return nil
		case markCAP, markTLM, markPLM, markCRG, markPRF, markCPF: // what they say is said elsewhere, or binds no decoder
		case markCOD:
			c.cod = true
			err = c.main.readMarker(mark, segment)
		case markQCD:
			c.qcd = true
			err = c.main.readMarker(mark, segment)
		default:
			err = c.main.readMarker(mark, segment)
		}
		if err != nil {
			return err
		}
	}
}

// readSize reads SIZ, Table A.9.
func (c *codestream) readSize(s []byte, rows, columns int) error {
	if len(s) < 36 {
		return damaged("SIZ has %d bytes", len(s))
	}
	word := func(i int) int64 { return int64(binary.BigEndian.Uint32(s[2+4*i:])) }
	c.area = rect{word(2), word(3), word(0), word(1)}
	c.tile = rect{word(6), word(7), word(6) + word(4), word(7) + word(5)}
	if w, h := c.area.x1-c.area.x0, c.area.y1-c.area.y0; w != int64(columns) || h != int64(rows) {
		return malformed("the codestream has %d rows and %d columns, "+
			"Rows (0028,0010) and Columns (0028,0011) say %d and %d: send the image again", h, w, rows, columns)
	}
	if n := int(binary.BigEndian.Uint16(s[34:])); n != 1 {
		return unsupported("the codestream has %d components: only images with one sample a pixel are read, no colour", n)
	}
	if len(s) != 39 {
		return damaged("SIZ has %d bytes", len(s))
	}
	c.bits, c.signed = int(s[36]&0x7f)+1, s[36]&0x80 != 0
	if c.bits > maxBits {
		return beyond("%d bits a sample", c.bits)
	}
	if s[37] != 1 || s[38] != 1 {
		return beyond("samples that lie %d by %d grid points apart", s[37], s[38])
	}
	// B.3: the first tile holds the first pixel.
	if c.tile.empty() || c.tile.x0 > c.area.x0 || c.tile.y0 > c.area.y0 || c.tile.x1 <= c.area.x0 || c.tile.y1 <= c.area.y0 {
		return damaged("the tiles do not cover the image")
	}
	across := ceilDiv(c.area.x1-c.tile.x0, c.tile.x1-c.tile.x0)
	down := ceilDiv(c.area.y1-c.tile.y0, c.tile.y1-c.tile.y0)
	// Each has a tile-part of 14 bytes at least, and Isot counts to 65534 (A.4.2).
	if n := across * down; n > 65535 {
		return damaged("%d tiles", n)
	} else if n > int64(len(c.stream)/14) {
		return incomplete("%d tiles cannot be in %d bytes", n, len(c.stream))
	}
	c.across = int(across)
	c.tiles = make([]tileStream, across*down)
	return nil
}

// readMarker reads a segment that both kinds of header may hold.
func (p *parameters) readMarker(mark int, s []byte) error {
	short := func() error { return damaged("the segment of marker %04X has %d bytes", mark, len(s)) }
	switch mark {
	case markCOM, markPLT:
	case markCOD: // Table A.13
		if len(s) < 10 {
			return short()
		}
		p.order, p.layers = int(s[1]), int(binary.BigEndian.Uint16(s[2:]))
		p.eph = s[0]&4 != 0
		if p.order > 4 || p.layers == 0 {
			return damaged("COD has progression order %d, %d layers", p.order, p.layers)
		}
		if s[0]&^7 != 0 {
			return beyond("coding style %02X", s[0])
		}
		if !p.coc {
			return p.coding.readBlocks(s[0], s[5:])
		}
	case markCOC: // Table A.22
		if len(s) < 7 {
			return short()
		}
		if s[0] == 0 {
			p.coc = true
			return p.coding.readBlocks(s[1], s[2:])
		}
	case markQCD: // Table A.27
		if !p.qcc {
			return p.quantisation.read(s)
		}
	case markQCC: // Table A.31
		if len(s) < 2 {
			return short()
		}
		if s[0] == 0 {
			p.qcc = true
			return p.quantisation.read(s[1:])
		}
	case markRGN: // Table A.24
		if len(s) != 3 {
			return short()
		}
		if s[0] == 0 {
			if s[1] != 0 {
				return beyond("a region of interest of style %d", s[1])
			}
			p.roi = int(s[2])
		}
	case markPOC: // Table A.32
		if len(s) == 0 || len(s)%7 != 0 {
			return short()
		}
		if !p.poc {
			p.poc, p.progressions = true, nil
		}
		for ; len(s) > 0; s = s[7:] {
			e := progression{int(s[6]), int(s[0]), int(s[4]), int(binary.BigEndian.Uint16(s[2:]))}
			if e.order > 4 || len(p.progressions) == maxProgressions {
				return damaged("POC has progression order %d, or more than %d changes of order", e.order, maxProgressions)
			}
			if s[1] == 0 {
				p.progressions = append(p.progressions, e)
			}
		}
	case markPPM, markPPT:
		return beyond("packed packet headers (PPM, PPT)")
	default:
		return beyond("marker %04X", mark)
	}
	return nil
}

// readBlocks reads SPcod or SPcoc, Table A.20.
func (c *coding) readBlocks(style byte, s []byte) error {
	c.levels, c.cbx, c.cby, c.style = int(s[0]), int(s[1])+2, int(s[2])+2, s[3]
	if c.levels > maxLevels {
		return damaged("%d levels of the wavelet", c.levels)
	}
	if c.cbx > 10 || c.cby > 10 || c.cbx+c.cby > 12 { // Table A.18
		return damaged("code-blocks of 2^%d by 2^%d", c.cbx, c.cby)
	}
	if s[4] > 1 {
		return beyond("wavelet %d", s[4])
	}
	c.reversible = s[4] == 1
	switch {
	case c.style&styleMixed != 0:
		return beyond("code-block style %02X", c.style)
	case c.style&styleHT != 0 && c.style&^(styleHT|styleCausal) != 0:
		return beyond("high throughput blocks of style %02X", c.style)
	}
	for r := range c.precinct {
		c.precinct[r] = 0xff
	}
	if style&1 == 0 {
		return nil
	}
	if len(s) < 5+c.levels+1 {
		return damaged("precincts are missing")
	}
	for r := range c.levels + 1 {
		c.precinct[r] = s[5+r]
		if r > 0 && (s[5+r]&15 == 0 || s[5+r]>>4 == 0) { // Table A.21
			return damaged("precincts of one sample")
		}
	}
	return nil
}

func (q *quantisation) read(s []byte) error {
	if len(s) < 2 {
		return damaged("quantisation is missing")
	}
	q.kind, q.guard, q.steps = int(s[0]&31), int(s[0]>>5), nil
	for s = s[1:]; len(s) > 0; {
		switch {
		case q.kind == 0:
			q.steps = append(q.steps, uint16(s[0]>>3)<<11)
			s = s[1:]
		case q.kind <= 2 && len(s) >= 2:
			q.steps = append(q.steps, binary.BigEndian.Uint16(s))
			s = s[2:]
		default:
			return damaged("quantisation of style %d", q.kind)
		}
	}
	return nil
}

// subband is exponent and mantissa of a subband, counted from LL, which lies lower levels below the first one of three
// (E.1.1).
func (q *quantisation) subband(i int) (exponent, mantissa int, err error) {
	j := i
	if q.kind == 1 {
		j = 0
	}
	if j >= len(q.steps) {
		return 0, 0, damaged("the quantisation of subband %d is missing", i)
	}
	exponent, mantissa = int(q.steps[j]>>11), int(q.steps[j]&0x7ff)
	if q.kind == 1 && i > 0 { // E-5
		exponent = max(0, exponent-(i-1)/3)
	}
	return exponent, mantissa, nil
}

// readTileParts finds the packets of each tile (A.4.2).
func (c *codestream) readTileParts() error {
	missing := len(c.tiles)
	for {
		start := c.pos
		if b := c.stream[start:]; len(b) < 2 || binary.BigEndian.Uint16(b) != markSOT {
			break // EOC, and where it is missing the padding; whether all is there shows in the packets
		}
		_, s, err := c.marker()
		if err != nil {
			return err
		}
		if len(s) != 8 {
			return damaged("SOT has %d bytes", len(s))
		}
		index, length := int(binary.BigEndian.Uint16(s)), int(binary.BigEndian.Uint32(s[2:]))
		if index >= len(c.tiles) {
			return damaged("tile %d of %d", index, len(c.tiles))
		}
		end := start + length
		if length == 0 || end > len(c.stream) { // 0: the last tile-part goes on to the end
			end = len(c.stream)
		}
		t := &c.tiles[index]
		if t.parameters == nil {
			t.parameters = &c.main
			missing--
		}
	header:
		for {
			mark, s, err := c.marker()
			if err != nil {
				return err
			}
			switch mark {
			case markSOD:
				break header
			case markCOM, markPLT:
				continue
			}
			if t.parts > 0 && mark != markPOC && mark != markPPT { // Table A.2
				return damaged("marker %04X in the header of a later tile-part", mark)
			}
			if t.parameters == &c.main {
				p := c.main
				p.coc, p.qcc, p.poc = false, false, false // of the main header yield to COD, QCD, POC of the tile
				t.parameters = &p
			}
			if err := t.parameters.readMarker(mark, s); err != nil {
				return err
			}
		}
		if c.pos > end {
			return damaged("tile-part of %d bytes, less than its header", length)
		}
		t.parts++
		if part := c.stream[c.pos:end:end]; t.data == nil {
			t.data = part
		} else {
			t.data = append(t.data, part...)
		}
		c.pos = end
	}
	if missing > 0 {
		return incomplete("%d of %d tiles are missing", missing, len(c.tiles))
	}
	return nil
}

// decodeTile decodes one tile into its place in the image.
func (c *codestream) decodeTile(i int, out []int32, columns int) error {
	w, h := c.tile.x1-c.tile.x0, c.tile.y1-c.tile.y0
	p, q := int64(i%c.across), int64(i/c.across)
	area := rect{ // B-7 to B-10
		max(c.tile.x0+p*w, c.area.x0), max(c.tile.y0+q*h, c.area.y0),
		min(c.tile.x0+(p+1)*w, c.area.x1), min(c.tile.y0+(q+1)*h, c.area.y1),
	}
	if area.empty() {
		return damaged("the tile lies outside the image")
	}
	t, err := newTile(area, c.tiles[i].parameters, c.bits, c.tiles[i].data, &c.scratch)
	if err != nil {
		return err
	}
	if err := t.readPackets(c.tiles[i].data); err != nil {
		return err
	}
	if err := t.decodeBlocks(&c.blocks); err != nil {
		return err
	}
	c.lossy = c.lossy || t.lossy
	low, high, shift := int32(0), int32(1<<c.bits-1), int32(1)<<(c.bits-1)
	if c.signed {
		low, high, shift = -shift, shift-1, 0
	}
	to := func(y int) []int32 {
		at := (int(area.y0-c.area.y0)+y)*columns + int(area.x0-c.area.x0)
		return out[at : at+area.width()]
	}
	// Level shift (G.1.2). What overshoots is cut, and shows that coefficients were left out, even where no code-block says so.
	if t.parameters.reversible {
		var last []int32
		if len(c.tiles) == 1 {
			last = out
		}
		samples := t.reconstruct53(last)
		for y := range area.height() {
			line := to(y)
			for x, v := range samples[y*area.width() : (y+1)*area.width()] {
				if v += shift; v < low || v > high {
					v, c.lossy = min(high, max(low, v)), true
				}
				line[x] = v
			}
		}
		return nil
	}
	samples := t.reconstruct97()
	for y := range area.height() {
		row, line := samples[y*area.width():], to(y)
		for x := range line {
			line[x] = int32(math.RoundToEven(min(float64(high), max(float64(low), row[x]+float64(shift)))))
		}
	}
	return nil
}
