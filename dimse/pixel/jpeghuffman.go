package pixel

// jpegLook is how many bits jpegHuffman.fast looks at: most codes with their additional bits.
const jpegLook = 12

// jpegHuffman is a Huffman table of T.81 C and F.2.2.3.
type jpegHuffman struct {
	ac     bool
	counts [17]int // codes of each length
	values []byte
	limit  [17]uint32 // the first 16 bits that are no code of this length or a shorter one
	offset [17]int    // from a code of this length to its place in values

	// fast holds what the next jpegLook bits mean where they hold all of a code and its additional bits, else 0:
	// bits 0-7 are their number, 8-15 the zero coefficients before, 16-31 the value.
	fast *[1 << jpegLook]uint32
}

// What stands for a run of zeros in fast and follow.
const (
	jpegZeros = 16  // ZRL: F.1.2.2.1
	jpegEOB   = 128 // past any block
)

// huffmanTables reads Huffman tables: B.2.4.2.
func (d *jpegDecoder) huffmanTables(s []byte) error {
	for len(s) > 0 {
		class, to := s[0]>>4, s[0]&15
		if class > 1 || to > 3 || len(s) < 17 {
			return jpegMalformed("Huffman table (DHT) %02X with %d bytes", s[0], len(s))
		}
		h := &jpegHuffman{ac: class == 1}
		code, n := uint32(0), 0
		for l := 1; l <= 16; l++ {
			h.counts[l] = int(s[l])
			h.offset[l] = n - int(code)
			n += h.counts[l]
			code += uint32(h.counts[l])
			if code > 1<<l {
				return jpegMalformed("Huffman table %02X has %d codes of %d bits, more than there can be", s[0], h.counts[l], l)
			}
			h.limit[l] = code << (16 - l)
			code <<= 1
		}
		if n > 256 || len(s) < 17+n {
			return jpegMalformed("Huffman table %02X of %d codes in %d bytes", s[0], n, len(s)-17)
		}
		h.values = s[17 : 17+n]
		d.huffman[class][to] = h
		s = s[17+n:]
	}
	return nil
}

// usable checks a table that a scan names: categories of differences go up to limit.
func (h *jpegHuffman) usable(what string, limit byte) error {
	if h == nil {
		return jpegMalformed("the %s Huffman table of the scan is missing", what)
	}
	if !h.ac {
		for _, v := range h.values {
			if v > limit {
				return jpegMalformed("the %s Huffman table has category %d of %d", what, v, limit)
			}
		}
	}
	return nil
}

// prepare fills fast.
func (h *jpegHuffman) prepare() {
	if h.fast != nil {
		return
	}
	h.fast = new([1 << jpegLook]uint32)
	code, n := 0, 0
	for l := 1; l <= jpegLook; l++ {
		for range h.counts[l] {
			run, size, ok := h.split(h.values[n])
			n++
			if total := l + int(size); ok && total <= jpegLook {
				span := 1 << (jpegLook - total)
				e := h.fast[code<<(jpegLook-l):]
				for bits := range 1 << (size & 15) {
					entry := uint32(jpegExtend(uint32(bits), size))<<16 | uint32(run)<<8 | uint32(total)
					for k := range span {
						e[bits*span+k] = entry
					}
				}
			}
			code++
		}
		code <<= 1
	}
}

// split takes a symbol apart into zeros before a value and the size of the value: F.1.2.1.1, F.1.2.2.1, H.1.2.2. A size of 16
// has no additional bits.
func (h *jpegHuffman) split(symbol byte) (run int, size uint, ok bool) {
	if !h.ac {
		return 0, uint(symbol), symbol <= 16
	}
	switch run, size = int(symbol>>4), uint(symbol&15); {
	case size > 0:
		return run, size, true
	case run == 0:
		return jpegEOB, 0, true
	case run == 15:
		return jpegZeros, 0, true
	}
	return 0, 0, false
}

// jpegExtend gives additional bits their sign: F.2.2.1, Table H.2.
func jpegExtend(bits uint32, size uint) int32 {
	switch {
	case size == 0:
		return 0
	case size == 16:
		return -32768 // 32768 in the arithmetic modulo 65536 of H.1.2.1
	case bits>>(size-1) == 0:
		return int32(bits) - 1<<size + 1
	}
	return int32(bits)
}

// symbol finds the code on top of acc; its length is 0 where there is none.
func (h *jpegHuffman) symbol(acc uint64) (symbol byte, length uint) {
	top := uint32(acc >> 48)
	for l := 1; l <= 16; l++ {
		if top < h.limit[l] {
			return h.values[h.offset[l]+int(top>>(16-l))], uint(l)
		}
	}
	return 0, 0
}

// follow is fast for any code: it reads up to 32 bits on top of acc. The length is 0 where there is no code.
func (h *jpegHuffman) follow(acc uint64) (value int32, run int, length uint) {
	symbol, length := h.symbol(acc)
	run, size, ok := h.split(symbol)
	if length == 0 || !ok {
		return 0, 0, 0
	}
	if size == 0 || size == 16 {
		return jpegExtend(0, size), run, length
	}
	return jpegExtend(uint32(acc<<length>>(64-size)), size), run, length + size
}

// code takes one symbol.
func (b *jpegBits) code(h *jpegHuffman) (symbol byte, ok bool) {
	if b.n < 16 {
		b.acc, b.n, b.p = jpegRefill(b.buf, b.acc, b.n, b.p)
	}
	symbol, length := h.symbol(b.acc)
	b.acc <<= length
	b.n -= length
	return symbol, length > 0
}
