package pixel

import "math/bits"

// Coefficients are held in halves (E.1.1.2, r = 1/2): twice the magnitude, and where planes are missing below the last one
// that was decoded, the middle of what is possible. The sign is the highest bit.
const signBit = 1 << 31

// blockDecoder decodes code-blocks one after the other in the same memory.
type blockDecoder struct {
	w, h  int
	data  []uint32 // row by row
	bytes []byte   // of one codeword segment
	mq    mqDecoder
	raw   rawDecoder
	flags []uint64 // of four rows of a column each; one more to every side
	ht    htDecoder
}

// The flags of four rows of a column, a stripe column. What concerns row i is found by a shift by 3i.
const (
	flagSig  = 1 << 0 // 3 x 6 flags, row by row: coefficients that are significant, with the neighbours to every side
	flagSign = flagSig << 20
	flagMu   = 1 << 40 // refined before
	flagPi   = 1 << 41 // coded in this plane

	here      = 1 << 4             // the coefficient in its 3 x 3 window
	window    = 0x1ff              // it and its neighbours
	windows   = 0x3ffff            // those of all four
	allHere   = here * 0o1111      // the four
	allPi     = flagPi * 0o1111    // the four
	neighbour = window &^ (1 << 4) // without it
	crosswise = 1<<1 | 1<<3 | 1<<5 | 1<<7
)

// zeroContext is Table D.1: the context of a neighbourhood, for LL and LH, HL, HH.
var zeroContext = func() (t [3][window + 1]uint8) {
	for f := range window + 1 {
		at := func(i int) int { return f >> i & 1 }
		h, v, d := at(3)+at(5), at(1)+at(7), at(0)+at(2)+at(6)+at(8)
		along := func(h, v int) uint8 {
			switch {
			case h == 2:
				return 8
			case h == 1 && v >= 1:
				return 7
			case h == 1 && d >= 1:
				return 6
			case h == 1:
				return 5
			case v == 2:
				return 4
			case v == 1:
				return 3
			}
			return uint8(min(d, 2))
		}
		t[0][f], t[1][f] = along(h, v), along(v, h)
		switch {
		case d >= 3:
			t[2][f] = 8
		case d == 2:
			t[2][f] = uint8(6 + min(h+v, 1))
		case d == 1:
			t[2][f] = uint8(3 + min(h+v, 2))
		default:
			t[2][f] = uint8(min(h+v, 2))
		}
	}
	return t
}()

// signContext is Tables D.2 and D.3: context and, in bit 7, the prediction, by significance (odd bits) and sign (even
// bits) of the neighbours above, left, right, below.
var signContext = func() (t [256]uint8) {
	for f := range t {
		at := func(i int) int { // +1, 0, -1
			if f>>(2*i+1)&1 == 0 {
				return 0
			}
			return 1 - 2*(f>>(2*i)&1)
		}
		h, v := max(-1, min(1, at(1)+at(2))), max(-1, min(1, at(0)+at(3)))
		flip := uint8(0)
		if h < 0 || h == 0 && v < 0 {
			h, v, flip = -h, -v, 0x80
		}
		t[f] = flip | uint8(9+3*h+v)
	}
	return t
}()

const (
	contextRefine  = 14
	contextRun     = 17
	contextUniform = 18
)

// mqState is a row of Table C.2 and a value of the more probable symbol.
type mqState struct {
	qe         uint32
	mps        uint8
	nmps, nlps uint8
}

// mqStates are the rows of Table C.2, twice each: for the more probable symbol 0 and 1.
var mqStates = func() (t [94]mqState) {
	rows := [47][4]uint16{ // Qe, NMPS, NLPS, SWITCH
		{0x5601, 1, 1, 1}, {0x3401, 2, 6, 0}, {0x1801, 3, 9, 0}, {0x0ac1, 4, 12, 0}, {0x0521, 5, 29, 0}, {0x0221, 38, 33, 0},
		{0x5601, 7, 6, 1}, {0x5401, 8, 14, 0}, {0x4801, 9, 14, 0}, {0x3801, 10, 14, 0}, {0x3001, 11, 17, 0}, {0x2401, 12, 18, 0},
		{0x1c01, 13, 20, 0}, {0x1601, 29, 21, 0}, {0x5601, 15, 14, 1}, {0x5401, 16, 14, 0}, {0x5101, 17, 15, 0}, {0x4801, 18, 16, 0},
		{0x3801, 19, 17, 0}, {0x3401, 20, 18, 0}, {0x3001, 21, 19, 0}, {0x2801, 22, 19, 0}, {0x2401, 23, 20, 0}, {0x2201, 24, 21, 0},
		{0x1c01, 25, 22, 0}, {0x1801, 26, 23, 0}, {0x1601, 27, 24, 0}, {0x1401, 28, 25, 0}, {0x1201, 29, 26, 0}, {0x1101, 30, 27, 0},
		{0x0ac1, 31, 28, 0}, {0x09c1, 32, 29, 0}, {0x08a1, 33, 30, 0}, {0x0521, 34, 31, 0}, {0x0441, 35, 32, 0}, {0x02a1, 36, 33, 0},
		{0x0221, 37, 34, 0}, {0x0141, 38, 35, 0}, {0x0111, 39, 36, 0}, {0x0085, 40, 37, 0}, {0x0049, 41, 38, 0}, {0x0025, 42, 39, 0},
		{0x0015, 43, 40, 0}, {0x0009, 44, 41, 0}, {0x0005, 45, 42, 0}, {0x0001, 45, 43, 0}, {0x5601, 46, 46, 0},
	}
	for i, r := range rows {
		for mps := range uint8(2) {
			t[2*i+int(mps)] = mqState{uint32(r[0]), mps, uint8(2*r[1]) + mps, uint8(2*r[2]) + mps ^ uint8(r[3])}
		}
	}
	return t
}()

// mqDecoder is the arithmetic decoder of Annex C.
type mqDecoder struct {
	data     []byte // ends with FF FF
	pos      int
	a, c     uint32
	ct       uint
	contexts [19]uint8 // index into mqStates
}

func (m *mqDecoder) reset() { // Table D.7
	m.contexts = [19]uint8{0: 2 * 4, contextRun: 2 * 3, contextUniform: 2 * 46}
}

// start is INITDEC (C.3.5).
func (m *mqDecoder) start(data []byte) {
	m.data, m.pos = data, 0
	m.c = uint32(data[0]) << 16
	m.next()
	m.c <<= 7
	m.ct -= 7
	m.a = 0x8000
}

// next is BYTEIN (C.3.4).
func (m *mqDecoder) next() {
	if m.data[m.pos] != 0xff {
		m.pos++
		m.c += uint32(m.data[m.pos]) << 8
		m.ct = 8
		return
	}
	if b := m.data[m.pos+1]; b > 0x8f {
		m.c += 0xff00
		m.ct = 8
	} else {
		m.pos++
		m.c += uint32(b) << 9
		m.ct = 7
	}
}

// bit is DECODE (C.3.2).
func (m *mqDecoder) bit(context uint8) uint32 {
	s := &mqStates[m.contexts[context]]
	m.a -= s.qe
	if m.c>>16 >= s.qe {
		m.c -= s.qe << 16
		if m.a&0x8000 != 0 {
			return uint32(s.mps)
		}
		if m.a < s.qe {
			return m.exchange(context, s, false)
		}
		return m.exchange(context, s, true)
	}
	more := m.a < s.qe
	m.a = s.qe
	return m.exchange(context, s, more)
}

// exchange goes to the next state, after the more or the less probable symbol, and renormalises (C.3.3).
func (m *mqDecoder) exchange(context uint8, s *mqState, more bool) uint32 {
	d := uint32(s.mps)
	if more {
		m.contexts[context] = s.nmps
	} else {
		m.contexts[context] = s.nlps
		d ^= 1
	}
	for n := uint(bits.LeadingZeros16(uint16(m.a))); n > 0; {
		if m.ct == 0 {
			m.next()
		}
		k := min(n, m.ct)
		m.a <<= k
		m.c <<= k
		m.ct -= k
		n -= k
	}
	return d
}

// rawDecoder reads the bits of the bypass (D.6): 7 of the byte that follows FF.
type rawDecoder struct {
	data []byte // ends with FF FF
	pos  int
	last byte
	left uint
}

func (r *rawDecoder) start(data []byte) { *r = rawDecoder{data: data} }

func (r *rawDecoder) bit() uint32 {
	if r.left == 0 {
		r.left = 8
		if r.last == 0xff {
			r.left = 7
		}
		r.last = r.data[r.pos]
		if r.pos < len(r.data)-1 {
			r.pos++
		}
	}
	r.left--
	return uint32(r.last>>r.left) & 1
}

// decodeBlocks decodes the code-blocks of the tile into its subbands.
func (t *tile) decodeBlocks(d *blockDecoder) error {
	for r := range t.resolutions {
		res := &t.resolutions[r]
		for k := range res.precincts {
			for i := range res.precincts[k].bands {
				g, b := &res.precincts[k].bands[i], &res.bands[i]
				inside := res.part(b, k)
				for j := range g.blocks {
					if g.blocks[j].passes == 0 {
						continue
					}
					x, y := g.firstX+int64(j%g.across), g.firstY+int64(j/g.across)
					area := rect{
						max(inside.x0, x<<b.cbx), max(inside.y0, y<<b.cby), min(inside.x1, (x+1)<<b.cbx), min(inside.y1, (y+1)<<b.cby),
					}
					if err := t.decodeBlock(d, b, &g.blocks[j], area); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

func (t *tile) decodeBlock(d *blockDecoder, b *band, block *codeBlock, area rect) error {
	p := t.parameters
	d.w, d.h = area.width(), area.height()
	d.data = room(&d.data, d.w*d.h)
	clear(d.data)
	var whole bool
	var err error
	if p.style&styleHT != 0 {
		whole, err = d.decodeHT(block, b.planes+p.roi, p.style)
	} else {
		whole, err = d.decode(block, b.planes+p.roi, b.orientation, p.style)
	}
	if err != nil {
		return err
	}
	t.lossy = t.lossy || !whole
	if p.roi > 0 {
		unshift(d.data, p.roi)
	}
	half := 0
	if p.reversible {
		half = 1
	}
	stride := b.area.width()
	to := b.coefficients[int(area.y0-b.area.y0)*stride+int(area.x0-b.area.x0):]
	for y := range d.h {
		row, line := d.data[y*d.w:(y+1)*d.w], to[y*stride:]
		line = line[:len(row)]
		for x, v := range row {
			s := int32(v) >> 31 // -1 where negative
			line[x] = (int32(v&^signBit)>>half ^ s) - s
		}
	}
	return nil
}

// unshift brings the coefficients of a region of interest back to their place (H.1). The background lies below the shift.
func unshift(data []uint32, shift int) {
	for i, v := range data {
		if m := v &^ signBit; uint64(m) >= 2<<min(shift, 40) { // in halves
			data[i] = v&signBit | m>>shift
		}
	}
}

// decode decodes a block of Annex D; whole says that all its planes are there.
func (d *blockDecoder) decode(block *codeBlock, planes, orientation int, style byte) (whole bool, err error) {
	planes -= int(block.leading)
	passes := int(block.passes)
	if planes < 1 || passes > 3*planes-2 {
		return false, damaged("%d passes over %d bit planes", passes, planes)
	}
	if planes > maxPlanes {
		return false, beyond("%d bit planes", planes)
	}
	stripes := (d.h + 3) / 4
	d.flags = room(&d.flags, (stripes+2)*(d.w+2))
	clear(d.flags)
	zero := &zeroContext[[4]int{0, 1, 0, 2}[orientation]]
	d.mq.reset()
	pass := 2 // cleanup
	plane := planes - 1
	for i := range block.segments {
		s := &block.segments[i]
		raw := style&styleBypass != 0 && planes-1-plane >= 4 && pass != 2
		d.bytes = append(append(d.bytes[:0], s.data...), 0xff, 0xff)
		if raw {
			d.raw.start(d.bytes)
		} else {
			d.mq.start(d.bytes)
		}
		for range s.passes {
			switch pass {
			case 0:
				d.significance(plane, zero, raw, style)
			case 1:
				d.refinement(plane, raw)
			case 2:
				d.cleanup(plane, zero, style)
				if style&styleSegment != 0 {
					v := uint32(0)
					for range 4 {
						v = v<<1 | d.mq.bit(contextUniform)
					}
					if v != 0b1010 { // D.5
						return false, damaged("a segmentation symbol is wrong")
					}
				}
				plane--
			}
			pass = (pass + 1) % 3
			if style&styleReset != 0 {
				d.mq.reset()
			}
		}
	}
	return passes == 3*planes-2 || plane == 0 && !d.remains(pass), nil
}

// remains says whether the passes from pass on would have bits to code in the plane; there are encoders that leave out the
// last one where it has none.
func (d *blockDecoder) remains(pass int) bool {
	for y := range d.h {
		f := (y/4+1)*(d.w+2) + 1
		for x := range d.w {
			flags := d.flags[f+x] >> (3 * (y % 4))
			if flags&flagPi == 0 && (flags&here == 0 || pass == 1) {
				return true
			}
		}
	}
	return false
}

// become makes row i of the stripe column at f significant.
func (d *blockDecoder) become(f, i int, sign uint32, causal bool) {
	stride := d.w + 2
	set := (flagSig | uint64(sign)*flagSign) << (3 * (i + 1))
	d.flags[f-1] |= set << 2
	d.flags[f] |= set << 1
	d.flags[f+1] |= set
	switch i {
	case 0:
		if !causal { // D.7: the stripe above does not see it
			set = (flagSig | uint64(sign)*flagSign) << 15
			d.flags[f-stride-1] |= set << 2
			d.flags[f-stride] |= set << 1
			d.flags[f-stride+1] |= set
		}
	case 3:
		set = flagSig | uint64(sign)*flagSign
		d.flags[f+stride-1] |= set << 2
		d.flags[f+stride] |= set << 1
		d.flags[f+stride+1] |= set
	}
}

// sign decodes a sign (D.3.2); flags are shifted to the row.
func (d *blockDecoder) sign(flags uint64) uint32 {
	s := signContext[uint8(flags&crosswise|flags>>21&(crosswise>>1))]
	return d.mq.bit(s&0x7f) ^ uint32(s>>7)
}

// significance is the significance propagation pass (D.3.1).
func (d *blockDecoder) significance(plane int, zero *[window + 1]uint8, raw bool, style byte) {
	value := uint32(3) << plane
	for y := 0; y < d.h; y += 4 {
		f := (y/4+1)*(d.w+2) + 1
		rows := min(4, d.h-y)
		for x := 0; x < d.w; x, f = x+1, f+1 {
			if d.flags[f]&windows == 0 {
				continue
			}
			for i := range rows {
				flags := d.flags[f] >> (3 * i)
				if flags&here != 0 || flags&neighbour == 0 {
					continue
				}
				d.flags[f] |= flagPi << (3 * i)
				var sign uint32
				if raw {
					if d.raw.bit() == 0 {
						continue
					}
					sign = d.raw.bit()
				} else {
					if d.mq.bit(zero[flags&window]) == 0 {
						continue
					}
					sign = d.sign(flags)
				}
				d.data[(y+i)*d.w+x] = value | sign<<31
				d.become(f, i, sign, style&styleCausal != 0)
			}
		}
	}
}

// refinement is the magnitude refinement pass (D.3.3).
func (d *blockDecoder) refinement(plane int, raw bool) {
	half := uint32(1) << plane
	for y := 0; y < d.h; y += 4 {
		f := (y/4+1)*(d.w+2) + 1
		rows := min(4, d.h-y)
		for x := 0; x < d.w; x, f = x+1, f+1 {
			all := d.flags[f]
			if all&allHere == 0 {
				continue
			}
			for i := range rows {
				flags := all >> (3 * i)
				if flags&(here|flagPi) != here {
					continue
				}
				var bit uint32
				if raw {
					bit = d.raw.bit()
				} else {
					context := uint8(contextRefine)
					if flags&flagMu != 0 {
						context += 2
					} else if flags&neighbour != 0 {
						context++
					}
					bit = d.mq.bit(context)
				}
				// The half that stood for this plane and those below gives way to the bit and the next half.
				d.data[(y+i)*d.w+x] += bit<<(plane+1) - half
				all |= flagMu << (3 * i)
			}
			d.flags[f] = all
		}
	}
}

// cleanup is the cleanup pass (D.3.4).
func (d *blockDecoder) cleanup(plane int, zero *[window + 1]uint8, style byte) {
	value := uint32(3) << plane
	for y := 0; y < d.h; y += 4 {
		f := (y/4+1)*(d.w+2) + 1
		rows := min(4, d.h-y)
		for x := 0; x < d.w; x, f = x+1, f+1 {
			first, run := 0, false
			if rows == 4 && d.flags[f]&(windows|allPi) == 0 {
				if d.mq.bit(contextRun) == 0 {
					continue
				}
				first = int(d.mq.bit(contextUniform) << 1)
				first |= int(d.mq.bit(contextUniform))
				run = true
			}
			for i := first; i < rows; i++ {
				flags := d.flags[f] >> (3 * i)
				if !run {
					if flags&(here|flagPi) != 0 || d.mq.bit(zero[flags&window]) == 0 {
						continue
					}
				}
				run = false
				sign := d.sign(flags)
				d.data[(y+i)*d.w+x] = value | sign<<31
				d.become(f, i, sign, style&styleCausal != 0)
			}
			d.flags[f] &^= allPi
		}
	}
}
