package pixel

import "math/bits"

// The high throughput block decoder of ITU-T T.814 (ISO/IEC 15444-15); its clauses.

// maxPlanesHT is one less than maxPlanes: the largest magnitude that can be written has one bit more than there are planes.
const maxPlanesHT = maxPlanes - 1

// htDecoder is memory that the blocks take one after the other.
type htDecoder struct {
	above, below []uint8 // exponents of the lower samples of a line of quads, after one place for what lies left of them
	significant  []uint8 // with a border: 1 since the cleanup pass, 2 since the significance propagation pass
	found        []int   // by the latter among four columns
}

// vlcTable finds the row of a context, the upper bits, by the next 7 bits of the stream: length, offset << 3, rho << 4,
// e_k << 8, e_1 << 12.
var vlcTable = func() (t [2][8 << 7]uint16) {
	for i := range vlcRows {
		for _, row := range vlcRows[i] {
			length, word := row&7, row>>4&0x7f
			context, offset := row>>24&7, row>>27
			for w := word; w < 1<<7; w += 1 << length {
				t[i][context<<7|w] = uint16(length | offset<<3 | row>>20&15<<4 | row>>16&15<<8 | row>>12&15<<12)
			}
		}
	}
	return t
}()

// forwardBits reads the lowest bit first, and 7 bits of a byte that follows FF (7.1.2, 7.1.5).
type forwardBits struct {
	data []byte
	fill byte // what goes on after the end
	last byte
	bits uint64
	n    uint
}

// need makes sure of 32 bits and more.
func (r *forwardBits) need() {
	for r.n <= 48 {
		b := r.fill
		if len(r.data) > 0 {
			b, r.data = r.data[0], r.data[1:]
		}
		width := uint(8)
		if r.last == 0xff {
			width, b = 7, b&0x7f
		}
		r.bits |= uint64(b) << r.n
		r.n += width
		r.last = b
	}
}

func (r *forwardBits) take(n uint) uint32 {
	if r.n < n {
		r.need()
	}
	v := uint32(r.bits) & (1<<n - 1)
	r.bits >>= n
	r.n -= n
	return v
}

// backwardBits reads from the last byte to the first, and 7 bits of a byte that would look like a marker with the one
// behind it (7.1.4, 7.1.6).
type backwardBits struct {
	data []byte
	last byte
	bits uint64
	n    uint
}

func (r *backwardBits) need() {
	for r.n <= 48 {
		b := byte(0)
		if i := len(r.data) - 1; i >= 0 {
			b, r.data = r.data[i], r.data[:i]
		}
		width := uint(8)
		if r.last > 0x8f && b&0x7f == 0x7f {
			width, b = 7, b&0x7f
			r.last = 0x7f
		} else {
			r.last = b
		}
		r.bits |= uint64(b&byte(1<<width-1)) << r.n
		r.n += width
	}
}

func (r *backwardBits) take(n uint) uint32 {
	if r.n < n {
		r.need()
	}
	v := uint32(r.bits) & (1<<n - 1)
	r.bits >>= n
	r.n -= n
	return v
}

// melExponents is Table 2: the length of a run by state.
var melExponents = [13]uint8{0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5}

// melDecoder is the adaptive run length decoder of 7.1.3 and 7.3.3.
type melDecoder struct {
	data  []byte
	last  byte
	left  uint
	state int
	run   int  // symbols 0 to come
	one   bool // a symbol 1 comes after them
}

func (m *melDecoder) bit() int {
	if m.left == 0 {
		m.left = 8
		if m.last == 0xff {
			m.left = 7
		}
		m.last = 0xff
		if len(m.data) > 0 {
			m.last = m.data[0]
			if len(m.data) == 1 {
				m.last |= 0x0f // these bits are the end of the length Scup
			}
			m.data = m.data[1:]
		}
	}
	m.left--
	return int(m.last>>m.left) & 1
}

func (m *melDecoder) symbol() bool {
	if m.run == 0 && !m.one {
		e := melExponents[m.state]
		if m.bit() == 1 {
			m.run = 1 << e
			m.state = min(12, m.state+1)
		} else {
			for range e {
				m.run = m.run<<1 | m.bit()
			}
			m.one = true
			m.state = max(0, m.state-1)
		}
	}
	if m.run > 0 {
		m.run--
		return false
	}
	m.one = false
	return true
}

// decodeHT decodes a block; whole says that all its planes are there.
func (d *blockDecoder) decodeHT(block *codeBlock, planes int, style byte) (whole bool, err error) {
	if planes > maxPlanesHT {
		return false, beyond("%d bit planes", planes)
	}
	cleanup := &block.segments[0]
	missing := int(block.leading) + (cleanup.passes-1)/3 // B.3: three passes before the first one stand for a plane
	plane := planes - 1 - missing
	if plane < 0 {
		return false, damaged("a code-block with %d of %d bit planes missing", missing, planes)
	}
	if err := d.htCleanup(cleanup.data, missing, plane); err != nil {
		return false, err
	}
	if len(block.segments) > 1 {
		if plane == 0 {
			return false, damaged("a code-block is refined below its last plane")
		}
		if s := &block.segments[1]; len(s.data) > 0 {
			d.htRefine(s.data, plane, s.passes == 2, style&styleCausal != 0)
		}
	}
	return plane == 0, nil
}

// htCleanup is the cleanup pass (7.3): quads of 2 x 2 samples, line by line and two at a time.
func (d *blockDecoder) htCleanup(data []byte, missing, plane int) error {
	n := len(data)
	if n < 2 {
		return damaged("a code-block of %d bytes", n)
	}
	suffix := int(data[n-1])<<4 | int(data[n-2]&15) // Scup of 7.1.1
	if suffix < 2 || suffix > min(n, 4079) {
		return damaged("a code-block of %d bytes with a suffix of %d", n, suffix)
	}
	magnitudes := forwardBits{data: data[:n-suffix], fill: 0xff}
	mel := melDecoder{data: data[n-suffix : n-1]}
	vlc := backwardBits{data: data[n-suffix : n-2], last: data[n-2] | 15, bits: uint64(data[n-2] >> 4), n: 4}
	if vlc.bits&7 == 7 {
		vlc.bits, vlc.n = 7, 3
	}
	quads := (d.w + 1) / 2
	above, below := room(&d.ht.above, 2*quads+3), room(&d.ht.below, 2*quads+3)
	clear(above)
	limit := missing + 2 // of an exponent: no magnitude has more bits
	for y := 0; y < d.h; y += 2 {
		table := &vlcTable[min(y, 1)]
		clear(below)
		west := uint32(0) // rho of the quad before
		for q := 0; q < quads; q += 2 {
			vlc.need()
			var row, u [2]uint32
			pair := min(2, quads-q)
			for k := range pair {
				e := above[2*(q+k):]
				var context uint32 // 7.3.5
				if y == 0 {
					context = west>>1 | west&1
				} else {
					context = (west>>2|west>>3)&1<<1 | nonzero(e[0]|e[1]) | nonzero(e[2]|e[3])<<2
				}
				if context != 0 || mel.symbol() {
					row[k] = uint32(table[context<<7|uint32(vlc.bits)&0x7f])
					vlc.take(uint(row[k] & 7))
				}
				west = row[k] >> 4 & 15
			}
			offsets(&u, row[0]&8 != 0, row[1]&8 != 0, y == 0, &vlc, &mel)
			for k := range pair {
				rho := row[k] >> 4 & 15
				if rho == 0 {
					continue
				}
				x := 2 * (q + k)
				exponent := 1 // kappa of 7.3.7
				if y > 0 && rho&(rho-1) != 0 {
					e := above[x : x+4]
					exponent = max(1, int(max(e[0], e[1], e[2], e[3]))-1)
				}
				exponent += int(u[k])
				if exponent > limit {
					return damaged("a code-block has magnitudes of more than %d bits", limit)
				}
				for i := range 4 { // 7.3.8
					if rho>>i&1 == 0 {
						continue
					}
					m := uint(exponent) - uint(row[k]>>(8+i)&1)
					v := magnitudes.take(m) | row[k]>>(12+i)&1<<m
					x, y := x+i>>1, y+i&1
					if i&1 == 1 {
						below[x+1] = uint8(bits.Len32(v | 1))
					}
					if x < d.w && y < d.h {
						d.data[y*d.w+x] = (v|1+2)<<plane&^signBit | v<<31
					}
				}
			}
		}
		above, below = below, above
	}
	return nil
}

func nonzero(e uint8) uint32 {
	if e != 0 {
		return 1
	}
	return 0
}

// offsets reads the offsets u of a pair of quads (7.3.6): the prefixes, then the suffixes. The extensions that may follow
// begin at 33 bits, which no exponent has here.
func offsets(u *[2]uint32, has0, has1, first bool, vlc *backwardBits, mel *melDecoder) {
	more := uint32(0)
	if has0 && has1 && first && mel.symbol() {
		more = 2
	}
	if has0 {
		u[0] = offsetPrefix(vlc)
	}
	switch {
	case has0 && has1 && first && more == 0 && u[0] > 2:
		u[1] = vlc.take(1) + 1
		u[0] += offsetSuffix(u[0], vlc)
		return
	case has1:
		u[1] = offsetPrefix(vlc)
	}
	for k := range u {
		if u[k] > 0 {
			u[k] += offsetSuffix(u[k], vlc) + more
		}
	}
}

// offsetPrefix is the prefix of Table 3.
func offsetPrefix(vlc *backwardBits) uint32 {
	switch b := vlc.bits; {
	case b&1 != 0:
		vlc.take(1)
		return 1
	case b&2 != 0:
		vlc.take(2)
		return 2
	case b&4 != 0:
		vlc.take(3)
		return 3
	}
	vlc.take(3)
	return 5
}

func offsetSuffix(prefix uint32, vlc *backwardBits) uint32 {
	switch prefix {
	case 3:
		return vlc.take(1)
	case 5:
		return vlc.take(5)
	}
	return 0
}

// htRefine is the significance propagation pass (7.4) and, where both is set, the magnitude refinement pass (7.5) over the
// plane below the one of the cleanup pass.
func (d *blockDecoder) htRefine(data []byte, plane int, both, causal bool) {
	stride := d.w + 2
	sig := room(&d.ht.significant, stride*(d.h+2))
	clear(sig)
	for y := range d.h {
		for x := range d.w {
			sig[(y+1)*stride+x+1] = nonzero8(d.data[y*d.w+x])
		}
	}
	forward := forwardBits{data: data}
	for top := 0; top < d.h; top += 4 {
		for left := 0; left < d.w; left += 4 {
			d.ht.found = d.ht.found[:0]
			for x := left; x < min(left+4, d.w); x++ {
				for y := top; y < min(top+4, d.h); y++ {
					at := (y+1)*stride + x + 1
					near := sig[at-stride-1] | sig[at-stride] | sig[at-stride+1] | sig[at-1] | sig[at+1]
					if !causal || y < top+3 {
						near |= sig[at+stride-1] | sig[at+stride] | sig[at+stride+1]
					}
					if sig[at] == 0 && near != 0 && forward.take(1) == 1 {
						sig[at] = 2
						d.ht.found = append(d.ht.found, y*d.w+x)
					}
				}
			}
			for _, i := range d.ht.found {
				d.data[i] = 3<<(plane-1) | forward.take(1)<<31
			}
		}
	}
	if !both {
		return
	}
	backward := backwardBits{data: data, last: 0xff}
	for top := 0; top < d.h; top += 4 {
		for x := range d.w {
			for y := top; y < min(top+4, d.h); y++ {
				if sig[(y+1)*stride+x+1] == 1 {
					d.data[y*d.w+x] += backward.take(1)<<plane - 1<<(plane-1)
				}
			}
		}
	}
}

func nonzero8(v uint32) uint8 {
	if v != 0 {
		return 1
	}
	return 0
}
