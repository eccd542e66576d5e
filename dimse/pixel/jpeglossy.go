package pixel

// jpegZigzag is where the k-th coefficient of a block lies: T.81 Figure A.6.
var jpegZigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10,
	17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34,
	27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36,
	29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46,
	53, 60, 61, 54, 47, 55, 62, 63,
}

// sequential reads the scan of a SOF0 or SOF1 frame: T.81 F.2. A scan of one component has blocks for MCUs, whatever its
// sampling factors: A.2.2.
func (d *jpegDecoder) sequential(dc, ac *jpegHuffman, quant *[64]int32) error {
	if err := dc.usable("DC", 15); err != nil {
		return err
	}
	if err := ac.usable("AC", 15); err != nil {
		return err
	}
	dc.prepare()
	ac.prepare()
	var (
		b       jpegBits
		block   [64]int32
		dcValue int32
	)
	for i := range d.blocks() {
		if i == 0 || d.restart > 0 && i%d.restart == 0 {
			if err := d.interval(i/max(d.restart, 1), &b); err != nil {
				return err
			}
			dcValue = 0
		}
		diff, ok := b.block(dc, ac, quant, &block)
		if b.overrun() {
			return d.truncated()
		}
		if !ok {
			return jpegNoCode()
		}
		dcValue += diff
		block[0] = dcValue * quant[0]
		d.output(i, &block)
	}
	if err := d.ended(&b); err != nil {
		return err
	}
	d.complete = true
	return nil
}

// blocks is how many blocks the image has, those over its edge whole: A.2.4.
func (d *jpegDecoder) blocks() int { return (d.rows + 7) / 8 * ((d.columns + 7) / 8) }

// block reads the coefficients of a block, times their quantization; of the first it gives the difference only.
func (b *jpegBits) block(dc, ac *jpegHuffman, quant, block *[64]int32) (diff int32, ok bool) {
	*block = [64]int32{}
	buf, acc, n, p := b.buf, b.acc, b.n, b.p
	defer func() { b.acc, b.n, b.p = acc, n, p }()

	acc, n, p = jpegRefill(buf, acc, n, p)
	if e := dc.fast[acc>>(64-jpegLook)]; e != 0 {
		acc <<= e & 63
		n -= uint(e & 63)
		diff = int32(e) >> 16
	} else {
		value, _, length := dc.follow(acc)
		if length == 0 {
			return 0, false
		}
		acc <<= length
		n -= length
		diff = value
	}
	k := 1
	for k < 64 {
		if n < 32 {
			acc, n, p = jpegRefill(buf, acc, n, p)
		}
		var value int32
		if e := ac.fast[acc>>(64-jpegLook)]; e != 0 {
			acc <<= e & 63
			n -= uint(e & 63)
			k += int(e >> 8 & 0xFF)
			value = int32(e) >> 16
		} else {
			v, run, length := ac.follow(acc)
			if length == 0 {
				return 0, false
			}
			acc <<= length
			n -= length
			k += run
			value = v
		}
		if value != 0 {
			if k > 63 {
				return 0, false
			}
			block[jpegZigzag[k]] = value * quant[k]
			k++
		}
	}
	return diff, k == 64 || k >= jpegEOB
}

// output transforms block i back and puts what lies inside of the image into out.
func (d *jpegDecoder) output(i int, block *[64]int32) {
	across := (d.columns + 7) / 8
	y, x := i/across*8, i%across*8
	if y+8 <= d.rows && x+8 <= d.columns {
		jpegInverse(block, d.bits, d.out[y*d.columns+x:], d.columns)
		return
	}
	var whole [64]int32
	jpegInverse(block, d.bits, whole[:], 8)
	for v := range min(8, d.rows-y) {
		copy(d.out[(y+v)*d.columns+x:(y+v+1)*d.columns], whole[v*8:v*8+8])
	}
}

// The inverse DCT of T.81 A.3.3 after C. Loeffler, A. Ligtenberg and G. Moschytz, "Practical fast 1-D DCT algorithms with 11
// multiplications", ICASSP 1989, in integers: constants times 2^13, every product exact, and one rounding after each of the
// passes. T.81 leaves the rounding to the decoder within the limits of T.83; with these constants and these two roundings the
// samples are those of the DICOM toolkits, bit by bit. With cK = cos(K·π/16):
const (
	jpegScale = 13

	jpegC6        = 4433  // √2·c6
	jpegC2LessC6  = 6270  // √2·(c2-c6)
	jpegC2AndC6   = 15137 // √2·(c2+c6)
	jpegC3        = 9633  // √2·c3
	jpegC3AndC5   = 16069 // √2·(c3+c5)
	jpegC3LessC5  = 3196  // √2·(c3-c5)
	jpegC3LessC7  = 7373  // √2·(c3-c7)
	jpegC1AndC3   = 20995 // √2·(c1+c3)
	jpegC357Less1 = 2446  // √2·(-c1+c3+c5-c7)
	jpegC137Less5 = 16819 // √2·(c1+c3-c5+c7)
	jpegC135Less7 = 25172 // √2·(c1+c3+c5-c7)
	jpegC13Less57 = 12299 // √2·(c1+c3-c5-c7)
)

// jpegInverse1 is the transform of one line, times 2^13·√8.
func jpegInverse1(f0, f1, f2, f3, f4, f5, f6, f7 int) (s0, s1, s2, s3, s4, s5, s6, s7 int) {
	// The even coefficients: a butterfly and a rotation by 6π/16.
	r := (f2 + f6) * jpegC6
	low, high := r+f2*jpegC2LessC6, r-f6*jpegC2AndC6
	sum, diff := (f0+f4)<<jpegScale, (f0-f4)<<jpegScale
	e0, e1, e2, e3 := sum+low, diff+high, diff-high, sum-low

	// The odd ones: each output is a sum of all four, which share five products.
	all := (f1 + f3 + f5 + f7) * jpegC3
	p37 := all - (f3+f7)*jpegC3AndC5
	p15 := all - (f1+f5)*jpegC3LessC5
	p17 := (f1 + f7) * jpegC3LessC7
	p35 := (f3 + f5) * jpegC1AndC3
	o0 := f1*jpegC13Less57 + p15 - p17
	o1 := f3*jpegC135Less7 + p37 - p35
	o2 := f5*jpegC137Less5 + p15 - p35
	o3 := f7*jpegC357Less1 + p37 - p17
	return e0 + o0, e1 + o1, e2 + o2, e3 + o3, e3 - o3, e2 - o2, e1 - o1, e0 - o0
}

// jpegInverse transforms the columns of a block, then its rows, shifts the level (A.3.1), and limits the samples to their bits.
func jpegInverse(block *[64]int32, bits int, out []int32, stride int) {
	extra := uint(2) // bits that columns keep for rows
	if bits > 8 {
		extra = 1
	}
	var columns [64]int
	down := jpegScale - extra
	half := 1 << (down - 1)
	for x := range 8 {
		f := block[x:][:57]
		if f[8]|f[16]|f[24]|f[32]|f[40]|f[48]|f[56] == 0 { // a column of one value, as the transform would give it
			v := int(f[0]) << extra
			for y := 0; y < 64; y += 8 {
				columns[(x+y)&63] = v
			}
			continue
		}
		s0, s1, s2, s3, s4, s5, s6, s7 := jpegInverse1(
			int(f[0]), int(f[8]), int(f[16]), int(f[24]), int(f[32]), int(f[40]), int(f[48]), int(f[56]))
		s := columns[x:][:57]
		s[0], s[8], s[16], s[24] = (s0+half)>>down, (s1+half)>>down, (s2+half)>>down, (s3+half)>>down
		s[32], s[40], s[48], s[56] = (s4+half)>>down, (s5+half)>>down, (s6+half)>>down, (s7+half)>>down
	}
	down = jpegScale + extra + 3
	level, top := 1<<(bits-1), 1<<bits-1
	half = 1<<(down-1) + level<<down
	for y := range 8 {
		f := columns[y*8:][:8]
		s := out[y*stride:][:8]
		s0, s1, s2, s3, s4, s5, s6, s7 := jpegInverse1(f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7])
		s[0] = int32(min(max((s0+half)>>down, 0), top))
		s[1] = int32(min(max((s1+half)>>down, 0), top))
		s[2] = int32(min(max((s2+half)>>down, 0), top))
		s[3] = int32(min(max((s3+half)>>down, 0), top))
		s[4] = int32(min(max((s4+half)>>down, 0), top))
		s[5] = int32(min(max((s5+half)>>down, 0), top))
		s[6] = int32(min(max((s6+half)>>down, 0), top))
		s[7] = int32(min(max((s7+half)>>down, 0), top))
	}
}
