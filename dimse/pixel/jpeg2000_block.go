package pixel

import (
	"math"
	"math/bits"
)

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
	piToHere  = 37 // how far right flagPi is shifted to lie on here
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

// mqState is a row of Table C.2 with a value of the more probable symbol, as bit fields: this symbol in bit 0, from bit 8 on
// the row that follows the more probable symbol, from bit 16 the one that follows the less probable, from bit 24 how far an
// interval of Qe is shifted to be 0x8000 or more, and from mqPoint on Qe.
type mqState uint64

// mqPoint is where the 16 bits of A and of Chigh (Figure C.13) begin in a word; the lower bits of C are beneath. The highest
// bit is left free and shows a difference below 0.
const mqPoint = 47

func (s mqState) qe() int64   { return int64(s >> mqPoint << mqPoint) }
func (s mqState) mps() uint32 { return uint32(s) & 1 }

// mqStates are the rows of Table C.2, twice each: for the more probable symbol 0 and 1.
var mqStates = func() (t [256]mqState) { // of which 94 are used
	rows := [47][4]uint64{ // Qe, NMPS, NLPS, SWITCH
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
		for mps := range uint64(2) {
			more, less := 2*r[1]+mps, 2*r[2]+mps^r[3]
			shift := uint64(bits.LeadingZeros16(uint16(r[0])))
			t[2*uint64(i)+mps] = mqState(r[0]<<mqPoint | shift<<24 | less<<16 | more<<8 | mps)
		}
	}
	return t
}()

// mqDecoder is the arithmetic decoder of Annex C.
//
// As long as the more probable symbol comes and A does not fall below 0x8000, DECODE (Figure C.15) does nothing but take Qe
// from both A and C. So one number is enough, which the coding passes hold: slack, the lesser of A - 0x8000 and C. While it
// is not below 0 after Qe was taken from it, the symbol is the more probable one, and nothing is to be renormalised.
type mqDecoder struct {
	data     []byte // ends with FF FF
	pos      int
	a, c     int64       // A and C, less slack
	ready    int         // bits of C below mqPoint
	contexts [32]mqState // 19 of them, and so many that an index of 5 bits needs no check
}

func (m *mqDecoder) reset() { // Table D.7
	for i := range m.contexts {
		m.contexts[i] = mqStates[0]
	}
	m.contexts[0], m.contexts[contextRun], m.contexts[contextUniform] = mqStates[2*4], mqStates[2*3], mqStates[2*46]
}

// start is INITDEC (C.3.5).
func (m *mqDecoder) start(data []byte) (slack int64) {
	m.data, m.pos, m.ready = data, 0, -7
	m.c = int64(data[0]) << (mqPoint + 7)
	m.fill()
	return m.hold(0x8000<<mqPoint, m.c)
}

// hold keeps A and C, which is renormalised.
func (m *mqDecoder) hold(a, c int64) (slack int64) {
	slack = min(a-0x8000<<mqPoint, c)
	m.a, m.c = a-slack, c-slack
	return slack
}

// fill is BYTEIN (C.3.4) for some bytes at once.
func (m *mqDecoder) fill() {
	for m.ready <= mqPoint-8 {
		at := mqPoint - 8 - m.ready
		b := m.data[m.pos+1]
		switch {
		case m.data[m.pos] != 0xff:
			m.c += int64(b) << at
			m.ready += 8
			m.pos++
		case b > 0x8f: // the end
			m.c += 0xff << at
			m.ready += 8
		case b > 0x7f && m.ready > 0: // it has a carry, which no comparison may see before its time
			return
		default:
			m.c += int64(b) << (at + 1)
			m.ready += 7
			m.pos++
		}
	}
}

// bit is DECODE (C.3.2).
func (m *mqDecoder) bit(slack int64, context uint8) (int64, uint32) {
	slack, bit := m.likely(slack, context)
	if slack < 0 {
		return m.exchange(slack, context)
	}
	return slack, bit
}

// likely is DECODE up to the point where slack is below 0; then exchange must follow. It is apart for the compiler to put it
// inline.
func (m *mqDecoder) likely(slack int64, context uint8) (int64, uint32) {
	s := m.contexts[context&31]
	return slack - s.qe(), s.mps()
}

// exchange is the rest of DECODE, Figures C.16 to C.18. No processor foresees which symbol comes, so that masks do what the
// figures say with branches: they are -1 for yes and 0 for no.
func (m *mqDecoder) exchange(slack int64, context uint8) (int64, uint32) {
	s := m.contexts[context&31]
	qe := s.qe()
	a, c := m.a+slack, m.c+slack // Qe was taken from both
	lower := c >> 63             // C was below Qe: it is in the lower interval, of length Qe
	less := lower ^ (a-qe)>>63   // the less probable symbol, which has the shorter interval
	m.contexts[context&31] = mqStates[uint8(s>>(8+8&less))]
	shift := 2 - a>>(mqPoint+14) // the upper interval has at least 0x8000 - 0x5601
	shift += (int64(s>>24&15) - shift) & lower
	a += (qe - a) & lower
	c += qe & lower
	if m.ready -= int(shift); m.ready >= 0 {
		c <<= shift & 63
	} else {
		c = m.refill(c, int(shift))
	}
	return m.hold(a<<(shift&63), c&math.MaxInt64), s.mps() ^ uint32(less)&1
}

// refill shifts C where more bits are needed than are ready.
func (m *mqDecoder) refill(c int64, shift int) int64 {
	m.ready += shift
	m.c = c
	for shift > 0 {
		if m.ready == 0 {
			m.fill()
		}
		n := min(shift, m.ready)
		m.c <<= n
		m.ready -= n
		shift -= n
	}
	return m.c
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
	slack := int64(0)
	for i := range block.segments {
		s := &block.segments[i]
		raw := style&styleBypass != 0 && planes-1-plane >= 4 && pass != 2
		d.bytes = append(append(d.bytes[:0], s.data...), 0xff, 0xff)
		if raw {
			d.raw.start(d.bytes)
		} else {
			slack = d.mq.start(d.bytes)
		}
		for range s.passes {
			switch pass {
			case 0:
				slack = d.significance(slack, plane, zero, raw, style)
			case 1:
				slack = d.refinement(slack, plane, raw)
			case 2:
				slack = d.cleanup(slack, plane, zero, style)
				if style&styleSegment != 0 {
					v, bit := uint32(0), uint32(0)
					for range 4 {
						slack, bit = d.mq.bit(slack, contextUniform)
						v = v<<1 | bit
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

// The coding passes take the coefficients of a stripe column from a set of bits here, todo, the lowest first. rowOf is the row
// in the stripe by the place of such a bit.
var rowOf = [16]uint8{4: 0, 7: 1, 10: 2, 13: 3}

// become tells the neighbours in other columns and stripes that row i of the stripe column at f is significant.
func (d *blockDecoder) become(f, i int, sign uint32, causal bool) {
	stride := d.w + 2
	one := flagSig | uint64(sign)*flagSign
	d.flags[f-1] |= one << (3*i + 5)
	d.flags[f+1] |= one << (3*i + 3)
	switch i {
	case 0:
		if !causal { // D.7: the stripe above does not see it
			d.flags[f-stride-1] |= one << 17
			d.flags[f-stride] |= one << 16
			d.flags[f-stride+1] |= one << 15
		}
	case 3:
		d.flags[f+stride-1] |= one << 2
		d.flags[f+stride] |= one << 1
		d.flags[f+stride+1] |= one
	}
}

// sign decodes a sign (D.3.2); flags are shifted to the row.
func (d *blockDecoder) sign(slack int64, flags uint64) (int64, uint32) {
	s := signContext[uint8(flags&crosswise|flags>>21&(crosswise>>1))]
	slack, bit := d.mq.bit(slack, s&0x7f)
	return slack, bit ^ uint32(s>>7)
}

// significance is the significance propagation pass (D.3.1).
func (d *blockDecoder) significance(slack int64, plane int, zero *[window + 1]uint8, raw bool, style byte) int64 {
	value := uint32(3) << plane
	var bit, sign uint32
	for y := 0; y < d.h; y += 4 {
		f, first := (y/4+1)*(d.w+2)+1, y*d.w
		inside := uint64(allHere) & (1<<(3*min(4, d.h-y)+2) - 1)
		for x := 0; x < d.w; x, f = x+1, f+1 {
			all := d.flags[f]
			if all&windows == 0 {
				continue
			}
			around := all | all>>1 | all>>2 // bit 3i: row i of the window has a significant coefficient
			around |= around>>3 | around>>6 // row i or one of the two below, the neighbourhood of coefficient i
			for todo := around << 4 &^ all & inside; todo != 0; todo &= todo - 1 {
				at := bits.TrailingZeros64(todo)
				i, row := (at-4)&63, int(rowOf[at&15])
				flags := all >> i
				all |= flagPi << i
				if raw {
					if d.raw.bit() == 0 {
						continue
					}
					sign = d.raw.bit()
				} else {
					context := zero[flags&window]
					if slack, bit = d.mq.likely(slack, context); slack < 0 {
						slack, bit = d.mq.exchange(slack, context)
					}
					if bit == 0 {
						continue
					}
					slack, sign = d.sign(slack, flags)
				}
				d.data[first+row*d.w+x] = value | sign<<31
				d.become(f, row, sign, style&styleCausal != 0)
				all |= (flagSig | uint64(sign)*flagSign) << (at & 63)
				todo |= here << ((i + 3) & 63) &^ all & inside // the next row has a neighbour now
			}
			d.flags[f] = all
		}
	}
	return slack
}

// refinement is the magnitude refinement pass (D.3.3).
func (d *blockDecoder) refinement(slack int64, plane int, raw bool) int64 {
	// The half that stood for this plane and those below gives way to the bit and the next half.
	half := uint32(1) << plane
	change := [2]uint32{-half, half}
	var bit uint32
	for y := 0; y < d.h; y += 4 {
		f, first := (y/4+1)*(d.w+2)+1, y*d.w
		for x := 0; x < d.w; x, f = x+1, f+1 {
			all := d.flags[f]
			for todo := all &^ (all >> piToHere) & allHere; todo != 0; todo &= todo - 1 {
				at := bits.TrailingZeros64(todo)
				i, row := (at-4)&63, int(rowOf[at&15])
				if raw {
					bit = d.raw.bit()
				} else {
					flags := all >> i
					around, before := (flags&neighbour+window)>>9&1, flags>>40&1
					context := contextRefine + uint8(max(around, 2*before))
					if slack, bit = d.mq.likely(slack, context); slack < 0 {
						slack, bit = d.mq.exchange(slack, context)
					}
				}
				d.data[first+row*d.w+x] += change[bit&1]
				all |= flagMu << i
			}
			d.flags[f] = all
		}
	}
	return slack
}

// cleanup is the cleanup pass (D.3.4).
func (d *blockDecoder) cleanup(slack int64, plane int, zero *[window + 1]uint8, style byte) int64 {
	value := uint32(3) << plane
	var bit, sign uint32
	for y := 0; y < d.h; y += 4 {
		f, first := (y/4+1)*(d.w+2)+1, y*d.w
		inside := uint64(allHere) & (1<<(3*min(4, d.h-y)+2) - 1)
		for x := 0; x < d.w; x, f = x+1, f+1 {
			all := d.flags[f]
			todo, run := inside&^(all|all>>piToHere), false
			if inside == allHere && all&(windows|allPi) == 0 {
				if slack, bit = d.mq.bit(slack, contextRun); bit == 0 {
					continue
				}
				slack, bit = d.mq.bit(slack, contextUniform)
				zeros := 2 * bit
				slack, bit = d.mq.bit(slack, contextUniform)
				zeros += bit
				todo, run = allHere&(allHere<<(3*zeros)), true
			}
			for ; todo != 0; todo &= todo - 1 {
				at := bits.TrailingZeros64(todo)
				i, row := (at-4)&63, int(rowOf[at&15])
				flags := all >> i
				if !run {
					context := zero[flags&window]
					if slack, bit = d.mq.likely(slack, context); slack < 0 {
						slack, bit = d.mq.exchange(slack, context)
					}
					if bit == 0 {
						continue
					}
				}
				run = false
				slack, sign = d.sign(slack, flags)
				d.data[first+row*d.w+x] = value | sign<<31
				d.become(f, row, sign, style&styleCausal != 0)
				all |= (flagSig | uint64(sign)*flagSign) << (at & 63)
			}
			d.flags[f] = all &^ allPi
		}
	}
	return slack
}
