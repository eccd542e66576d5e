package pixel

import "math/bits"

// A jpegWriter writes what no peer writes: restart intervals, fill bytes, any precision and any Huffman table, for one lossless
// scan. It follows T.81 H.1 formula by formula.
type jpegWriter struct {
	rows, columns, bits int
	predictor, shift    int
	lines               int // of a restart interval, 0 for none
	counts              [16]byte
	values              []byte
	fill                int // fill bytes before a marker
}

// Two Huffman tables with all 17 categories: one of 5 bits each, and one where the small differences have the longest codes.
var (
	jpegFlatTable = [16]byte{4: 17}
	jpegDeepTable = [16]byte{2: 4, 3: 1, 4: 1, 5: 1, 6: 1, 7: 1, 8: 1, 9: 1, 10: 1, 11: 1, 12: 1, 13: 1, 14: 1, 15: 1}
)

func jpegCategories(reversed bool) []byte {
	v := make([]byte, 17)
	for i := range v {
		if v[i] = byte(i); reversed {
			v[i] = byte(16 - i)
		}
	}
	return v
}

// plainPrediction is Table H.1 and H.1.1 in the words of the standard.
func (w jpegWriter) plainPrediction(sample func(y, x int) int32, y, x int) int32 {
	line := y
	if w.lines > 0 {
		line = y % w.lines
	}
	switch {
	case line == 0 && x == 0:
		return 1 << (w.bits - w.shift - 1)
	case line == 0:
		return sample(y, x-1)
	case x == 0:
		return sample(y-1, x)
	}
	ra, rb, rc := sample(y, x-1), sample(y-1, x), sample(y-1, x-1)
	return [...]int32{0, ra, rb, rc, ra + rb - rc, ra + (rb-rc)>>1, rb + (ra-rc)>>1, (ra + rb) >> 1}[w.predictor]
}

func (w jpegWriter) encode(samples []int32) []byte {
	segment := func(b []byte, marker byte, s ...byte) []byte {
		for range w.fill {
			b = append(b, 0xFF)
		}
		b = append(b, 0xFF, marker, byte((len(s)+2)>>8), byte(len(s)+2))
		return append(b, s...)
	}
	b := segment([]byte{0xFF, jpegSOI}, 0xFE, []byte("radnode test \xFF\xC3\xFF\xDA")...)
	b = segment(b, jpegSOF3, byte(w.bits), byte(w.rows>>8), byte(w.rows), byte(w.columns>>8), byte(w.columns), 1, 7, 0x11, 0)
	b = segment(b, jpegDHT, append(append([]byte{0x02}, w.counts[:]...), w.values...)...)
	if w.lines > 0 {
		n := w.lines * w.columns
		b = segment(b, jpegDRI, byte(n>>8), byte(n))
	}
	b = segment(b, jpegSOS, 1, 7, 0x20, byte(w.predictor), 0, byte(w.shift))

	codes, lengths := make(map[byte]uint32), make(map[byte]int)
	code, n := uint32(0), 0
	for l, count := range w.counts {
		for range count {
			codes[w.values[n]], lengths[w.values[n]] = code, l+1
			code++
			n++
		}
		code <<= 1
	}
	var acc uint64
	held := 0
	put := func(v uint32, n int) {
		acc, held = acc<<n|uint64(v)&(1<<n-1), held+n
		for ; held >= 8; held -= 8 {
			c := byte(acc >> (held - 8))
			if b = append(b, c); c == 0xFF {
				b = append(b, 0)
			}
		}
	}
	at := func(y, x int) int32 { return samples[y*w.columns+x] >> w.shift }
	for y := range w.rows {
		if w.lines > 0 && y > 0 && y%w.lines == 0 {
			put(1<<7-1, (8-held)%8) // F.1.2.3: filled with ones
			for range w.fill {
				b = append(b, 0xFF)
			}
			b = append(b, 0xFF, jpegRST0+byte((y/w.lines-1)%8))
		}
		for x := range w.columns {
			diff := int32(int16(at(y, x) - w.plainPrediction(at, y, x)))
			size := bits.Len32(uint32(max(diff, -diff)))
			put(codes[byte(size)], lengths[byte(size)])
			if diff < 0 {
				diff--
			}
			if size < 16 {
				put(uint32(diff), size)
			}
		}
	}
	put(1<<7-1, (8-held)%8)
	return append(b, 0xFF, jpegEOI)
}
