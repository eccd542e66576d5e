package pixel

// lossless reads the scan of a SOF3 frame: T.81 H.2. Its samples lie in out while they are predicted, without the point
// transform.
func (d *jpegDecoder) lossless(h *jpegHuffman, predictor, shift int) error {
	if err := h.usable("difference", 16); err != nil {
		return err
	}
	if predictor < 1 || predictor > 7 { // Table H.1; 0 is for hierarchical frames
		return jpegMalformed("has predictor %d of 7", predictor)
	}
	if shift >= d.bits {
		return jpegMalformed("has a point transform of %d, and samples of %d bits", shift, d.bits)
	}
	lines := d.rows // of a restart interval
	if d.restart > 0 {
		if d.restart%d.columns != 0 { // H.1.1
			return jpegMalformed("has a restart interval of %d samples, no whole lines of %d", d.restart, d.columns)
		}
		lines = d.restart / d.columns
	}
	h.prepare()
	d.shift = shift
	var b jpegBits
	for y := range d.rows {
		line := d.out[y*d.columns:][:d.columns]
		first := y%lines == 0
		if first {
			if err := d.interval(y/lines, &b); err != nil {
				return err
			}
		}
		if !b.differences(h, line) {
			if b.overrun() {
				return d.truncated()
			}
			return jpegNoCode()
		}
		if b.overrun() {
			return d.truncated()
		}
		var all int32
		if first { // H.1.1: from the left, and from half the range at the start
			all = jpegFromLeft(line, 1<<(d.bits-shift-1))
		} else {
			all = jpegPredict(predictor, line, d.out[(y-1)*d.columns:][:d.columns])
		}
		if all>>(d.bits-shift) != 0 {
			return jpegMalformed("line %d has samples of more than the %d bits of the JPEG frame: the data are damaged; send the image again",
				y+1, d.bits-shift)
		}
	}
	if err := d.ended(&b); err != nil {
		return err
	}
	if shift > 0 {
		for i := range d.out {
			d.out[i] <<= shift & 31
		}
	}
	d.complete = true
	return nil
}

// differences reads the differences of a line, modulo 65536 as -32768 to 32767.
func (b *jpegBits) differences(h *jpegHuffman, line []int32) (ok bool) {
	fast, buf := h.fast, b.buf
	acc, n, p := b.acc, b.n, b.p
	for i := range line {
		if n < 32 {
			acc, n, p = jpegRefill(buf, acc, n, p)
		}
		if e := fast[acc>>(64-jpegLook)]; e != 0 {
			acc <<= e & 63
			n -= uint(e & 63)
			line[i] = int32(e) >> 16
			continue
		}
		value, _, length := h.follow(acc)
		if length == 0 {
			b.acc, b.n, b.p = acc, n, p
			return false
		}
		acc <<= length
		n -= length
		line[i] = value
	}
	b.acc, b.n, b.p = acc, n, p
	return true
}

// jpegFromLeft turns differences into samples modulo 65536, each predicted by the one before. It gives the union of their bits.
func jpegFromLeft(line []int32, a int32) (all int32) {
	for i, diff := range line {
		a = (a + diff) & 0xFFFF
		line[i] = a
		all |= a
	}
	return all
}

// jpegPredict is jpegFromLeft for the predictors of Table H.1, where a is the sample on the left, b the one above and c the one
// above on the left. The first sample is predicted from above.
func jpegPredict(predictor int, line, above []int32) (all int32) {
	above = above[:len(line)]
	a, c := (above[0]+line[0])&0xFFFF, above[0]
	line[0] = a
	if predictor == 1 {
		return a | jpegFromLeft(line[1:], a)
	}
	all = a
	for i := 1; i < len(line); i++ {
		b, p := above[i], int32(0)
		switch predictor {
		case 2:
			p = b
		case 3:
			p = c
		case 4:
			p = a + b - c
		case 5:
			p = a + (b-c)>>1
		case 6:
			p = b + (a-c)>>1
		case 7:
			p = (a + b) >> 1
		}
		a, c = (p+line[i])&0xFFFF, b
		line[i] = a
		all |= a
	}
	return all
}
