package pixel

import (
	"encoding/binary"
	"math/bits"
	"sync"
)

// jlsContext is what T.87 A.2.1 keeps of a context, and k of A.5.1, which follows from it.
type jlsContext struct {
	a    uint32
	b, n int32
	c    int16
	k    uint16
}

// jlsRunContext is a context of run interruption, 365 and 366: A.7.2.
type jlsRunContext struct {
	a        uint32
	n, minus uint32 // N and Nn
}

// jlsDecoder decodes a scan of one component. Its bit buffer holds the next bits from the highest down.
type jlsDecoder struct {
	jlsCoding
	contexts [512]jlsContext // 1 to 364 are in use; a power of two, so that no index needs a check
	runs     [2]jlsRunContext
	runIndex int
	columns  int
	gradient []int8    // the quantized gradient of A.3.3, for -maxval and up
	made     jlsCoding // what gradient was made for
	zeros    []int32

	in       []byte
	pos      int
	buf      uint64
	avail    int // bits in buf
	invented int // of these, zeros behind the end of the data; more of them than avail means that some were read
}

var jlsDecoders = sync.Pool{New: func() any { return new(jlsDecoder) }}

// jlsOrder is J of A.2.1: the run lengths that a bit stands for are 2^J.
var jlsOrder = [32]uint8{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15}

func bitLength(v int) int { return bits.Len(uint(v)) }

func (d *jlsDecoder) begin(c jlsCoding, columns int) {
	d.jlsCoding = c
	d.buf, d.avail, d.invented = 0, 0, 0
	d.columns = columns
	if len(d.zeros) < columns {
		d.zeros = make([]int32, columns)
	}
	if d.made == c {
		return
	}
	d.made = c
	if n := 2*c.maxval + 1; cap(d.gradient) < n {
		d.gradient = make([]int8, n)
	} else {
		d.gradient = d.gradient[:n]
	}
	for v := 0; v <= c.maxval; v++ { // A.3.3
		var q int8
		switch {
		case v >= c.t3:
			q = 4
		case v >= c.t2:
			q = 3
		case v >= c.t1:
			q = 2
		case v > c.near:
			q = 1
		}
		d.gradient[c.maxval+v], d.gradient[c.maxval-v] = q, -q
	}
}

// restart sets what A.2.1 and A.7 say at the beginning of a scan and behind a restart marker.
func (d *jlsDecoder) restart() {
	a := uint32(max(2, (d.span+32)/64))
	first := jlsContext{a: a, n: 1}
	first.choose()
	for i := range d.contexts {
		d.contexts[i] = first
	}
	d.runs = [2]jlsRunContext{{a: a, n: 1}, {a: a, n: 1}}
	d.runIndex = 0
}

// choose finds the smallest k with N·2^k ≥ A: A.5.1.
func (c *jlsContext) choose() {
	c.k = uint16(golombOrder(c.a, uint32(c.n)))
}

func golombOrder(a, n uint32) uint32 {
	k := max(bits.Len32(a)-bits.Len32(n), 0)
	if uint64(n)<<k < uint64(a) {
		k++
	}
	return uint32(k)
}

// lines decodes the lines from one restart to the next. It returns the line that is damaged, -1 if none is.
func (d *jlsDecoder) lines(out []int32) int {
	d.restart()
	n := d.columns
	above := d.zeros[:n]
	corner := int32(0) // above and left of the first column: what was left of the line above
	for y := 0; y*n < len(out); y++ {
		line := out[y*n : (y+1)*n]
		var ok bool
		if d.near == 0 {
			ok = d.lossless(above, line, corner)
		} else {
			ok = d.nearLossless(above, line, corner)
		}
		if !ok || d.invented > d.avail {
			return y
		}
		corner, above = above[0], line
	}
	return -1
}

// nearLossless decodes a line as T.87 A.3 to A.7 say it, for any NEAR.
func (d *jlsDecoder) nearLossless(above, line []int32, corner int32) bool {
	maxval, near, step := int32(d.maxval), int32(d.near), int32(d.step)
	a, b, c := above[0], above[0], corner
	for x := 0; x < len(line); {
		next := above[min(x+1, len(line)-1)] // d of Figure 3
		q := int(d.gradient[next-b+maxval])*81 + int(d.gradient[b-c+maxval])*9 + int(d.gradient[c-a+maxval])
		if q == 0 {
			var ok bool
			if x, ok = d.run(above, line, x, a); !ok {
				return false
			}
			if x < len(line) {
				a, b, c = line[x-1], above[x], above[x-1]
			}
			continue
		}
		sign := int32(1)
		if q < 0 {
			q, sign = -q, -1
		}
		ctx := &d.contexts[q&511]

		// A.4: prediction
		p := a + b - c
		p = max(min(p, max(a, b)), min(a, b))
		p = min(max(p+sign*int32(ctx.c), 0), maxval)

		// A.5: the error
		k := uint32(ctx.k)
		m, ok := d.golomb(k, d.limit)
		if !ok {
			return false
		}
		e := int32(m>>1) ^ -int32(m&1)
		if d.near == 0 && k == 0 && 2*ctx.b <= -ctx.n {
			e = ^e
		}
		d.update(ctx, e)

		// A.4.5: the sample, modulo RANGE
		v := p + sign*e*step
		if v < -near {
			v += int32(d.span) * step
		} else if v > maxval+near {
			v -= int32(d.span) * step
		}
		v = min(max(v, 0), maxval)
		line[x] = v
		x++
		a, b, c = v, next, b
	}
	return true
}

// update is A.6.
func (d *jlsDecoder) update(ctx *jlsContext, e int32) {
	ctx.b += e * int32(d.step)
	ctx.a += uint32(max(e, -e))
	if ctx.n == int32(d.reset) {
		ctx.a >>= 1
		ctx.b >>= 1
		ctx.n >>= 1
	}
	ctx.n++
	if ctx.b <= -ctx.n {
		ctx.b = max(ctx.b+ctx.n, 1-ctx.n)
		ctx.c = max(ctx.c-1, -128)
	} else if ctx.b > 0 {
		ctx.b = min(ctx.b-ctx.n, 0)
		ctx.c = min(ctx.c+1, 127)
	}
	ctx.choose()
}

// run decodes a run from x on, and the sample that ends it unless the line does: A.7.
func (d *jlsDecoder) run(above, line []int32, x int, a int32) (int, bool) {
	d.fill()
	for d.bit() {
		size := 1 << jlsOrder[d.runIndex]
		n := min(size, len(line)-x)
		for k := range line[x : x+n] {
			line[x+k] = a
		}
		x += n
		if n == size && d.runIndex < 31 {
			d.runIndex++
		}
		if x == len(line) {
			return x, true
		}
		d.fill()
	}
	order := jlsOrder[d.runIndex]
	n := int(d.take(uint(order)))
	if n >= len(line)-x {
		return x, false
	}
	for k := range line[x : x+n] {
		line[x+k] = a
	}
	x += n

	// A.7.2: the sample that is different
	b, near, step := above[x], int32(d.near), int32(d.step)
	p, sign, like := b, int32(1), uint32(0) // like is RItype
	ctx := &d.runs[0]
	t := ctx.a
	if max(a-b, b-a) <= near {
		p, like = a, 1
		ctx = &d.runs[1]
		t = ctx.a + ctx.n>>1
	} else if a > b {
		sign = -1
	}
	k := golombOrder(t, ctx.n)
	m, ok := d.golomb(k, d.limit-int(order)-1)
	if !ok {
		return x, false
	}
	e := int32(m+like+1) >> 1
	if odd := (m+like)&1 == 1; odd == (k != 0 || 2*ctx.minus >= ctx.n) {
		e = -e
	}
	if e < 0 {
		ctx.minus++
	}
	ctx.a += (m + 1 - like) >> 1
	if ctx.n == uint32(d.reset) {
		ctx.a >>= 1
		ctx.n >>= 1
		ctx.minus >>= 1
	}
	ctx.n++
	v := p + sign*e*step
	if v < -near {
		v += int32(d.span) * step
	} else if v > int32(d.maxval)+near {
		v -= int32(d.span) * step
	}
	line[x] = min(max(v, 0), int32(d.maxval))
	if d.runIndex > 0 {
		d.runIndex--
	}
	return x + 1, true
}

// bit and take read from the buffer, which must have as many.
func (d *jlsDecoder) bit() bool {
	one := int64(d.buf) < 0
	d.buf <<= 1
	d.avail--
	return one
}

func (d *jlsDecoder) take(n uint) uint32 {
	v := uint32(d.buf >> 1 >> (63 - n))
	d.buf <<= n
	d.avail -= int(n)
	return v
}

// golomb reads a mapped error: A.5.3. More than qbpp bits of it no encoder has.
func (d *jlsDecoder) golomb(k uint32, limit int) (uint32, bool) {
	zeros, most := 0, limit-d.qbpp-1
	for {
		d.fill()
		n := bits.LeadingZeros64(d.buf)
		if n < d.avail {
			zeros += n
			d.buf = d.buf << n << 1
			d.avail -= n + 1
			break
		}
		zeros += d.avail
		d.buf, d.avail = 0, 0
		if zeros > most {
			return 0, false
		}
	}
	if zeros > most {
		return 0, false
	}
	d.fill()
	if zeros == most {
		return d.take(uint(d.qbpp)) + 1, true
	}
	m := uint32(zeros)<<k | d.take(uint(k))
	return m, m <= 1<<d.qbpp
}

// fill brings more than 48 bits into the buffer, and 63 at most. Behind FF a byte has 7 bits, or is a marker: A.1 and C.1.
// Behind the last bit come zeros, and who read one of them is found out at the end of the line.
func (d *jlsDecoder) fill() {
	for d.avail <= 48 {
		if d.pos >= len(d.in) {
			break
		}
		v := d.in[d.pos]
		if v != 0xFF {
			d.buf |= uint64(v) << (56 - d.avail)
			d.avail += 8
			d.pos++
			continue
		}
		if d.pos+1 >= len(d.in) || d.in[d.pos+1] >= 0x80 {
			break
		}
		d.buf |= (0xFF<<7 | uint64(d.in[d.pos+1])) << (49 - d.avail)
		d.avail += 15
		d.pos += 2
	}
	if d.avail <= 48 {
		d.invented += 63 - d.avail
		d.avail = 63
	}
}

// lossless is nearLossless with NEAR 0, for speed: the bit buffer is in registers, a code that it holds whole is taken at once,
// and nothing branches on a sample.
func (d *jlsDecoder) lossless(above, line []int32, corner int32) bool {
	maxval, span, reset := int32(d.maxval), int32(d.span), int32(d.reset)
	most, limit := uint32(1)<<d.qbpp, d.limit-d.qbpp-1
	gradient := d.gradient
	in, pos, buf, avail := d.in, d.pos, d.buf, d.avail
	above = above[:len(line)]
	a, b, c := above[0], above[0], corner
	for x := 0; x < len(line); {
		next := above[min(x+1, len(line)-1)]
		q := (int32(gradient[next-b+maxval])*9+int32(gradient[b-c+maxval]))*9 + int32(gradient[c-a+maxval])
		if q == 0 {
			d.pos, d.buf, d.avail = pos, buf, avail
			var ok bool
			if x, ok = d.run(above, line, x, a); !ok {
				return false
			}
			pos, buf, avail = d.pos, d.buf, d.avail
			if x < len(line) {
				a, b, c = line[x-1], above[x], above[x-1]
			}
			continue
		}
		sign := q >> 31 // -1 or 0
		ctx := &d.contexts[(q^sign-sign)&511]

		p := a + b - c
		p = max(min(p, max(a, b)), min(a, b))
		p = min(max(p+(int32(ctx.c)^sign-sign), 0), maxval)

		if avail < 32 {
			if pos+8 <= len(in) {
				v := binary.BigEndian.Uint64(in[pos:])
				if (^v-0x0101010101010101)&v&0x8080808080808080 == 0 { // no byte is FF
					buf |= v >> (avail & 63)
					pos += (63 - avail) >> 3
					avail |= 56
				} else {
					d.pos, d.buf, d.avail = pos, buf, avail
					d.fill()
					pos, buf, avail = d.pos, d.buf, d.avail
				}
			} else {
				d.pos, d.buf, d.avail = pos, buf, avail
				d.fill()
				pos, buf, avail = d.pos, d.buf, d.avail
			}
		}
		k := uint32(ctx.k)
		zeros := bits.LeadingZeros64(buf)
		var m uint32
		if length := zeros + 1 + int(k); length <= avail && zeros < limit {
			m = uint32(buf>>((64-length)&63)) + uint32(zeros-1)<<(k&31) // with the bit that ends the zeros, which is 1<<k
			buf <<= length & 63
			avail -= length
			if m > most {
				return false
			}
		} else {
			d.pos, d.buf, d.avail = pos, buf, avail
			var ok bool
			if m, ok = d.golomb(k, d.limit); !ok {
				return false
			}
			pos, buf, avail = d.pos, d.buf, d.avail
		}
		e := int32(m>>1) ^ -int32(m&1)
		ca, cb, cn := ctx.a, ctx.b, ctx.n
		if k == 0 && 2*cb <= -cn {
			e = ^e
		}

		ca += uint32(max(e, -e))
		cb += e
		if cn == reset {
			ca >>= 1
			cb >>= 1
			cn >>= 1
		}
		cn++
		low, high := (cb+cn-1)>>31, -cb>>31 // -1 where B is -N or less, and where it is more than 0
		cb = min(max(cb+(cn&low)-(cn&high), 1-cn), 0)
		ctx.c = int16(min(max(int32(ctx.c)+low-high, -128), 127))
		ctx.a, ctx.b, ctx.n = ca, cb, cn
		ctx.k = uint16(golombOrder(ca, uint32(cn)))

		v := p + (e ^ sign - sign)
		if v < 0 {
			v += span
		} else if v > maxval {
			v -= span
		}
		line[x] = v // in range even for a false code, as e has qbpp bits at most
		x++
		a, b, c = v, next, b
	}
	d.pos, d.buf, d.avail = pos, buf, avail
	return true
}
