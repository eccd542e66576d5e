package pixel

// jpegProgress are the coefficients of a SOF2 frame, which come in several scans: T.81 G.1.
type jpegProgress struct {
	quant  *[64]int32
	values []int16  // 64 of a block, in zigzag order
	low    [64]int8 // the lowest bit that has come of each coefficient, -1 before any
}

// progressive reads one scan of a SOF2 frame: bits al and up of coefficients first to last, or bit al alone where ah says that
// higher ones came before.
func (d *jpegDecoder) progressive(dc, ac *jpegHuffman, quant *[64]int32, first, last, ah, al int) error {
	if first > last || last > 63 || first == 0 && last > 0 || al > 13 || ah > 0 && ah != al+1 { // G.1.1.1
		return jpegMalformed("scan of coefficients %d to %d, bits %d and %d, which no progressive image has", first, last, ah, al)
	}
	g := d.progress
	if g == nil {
		g = &jpegProgress{quant: quant, values: make([]int16, 64*d.blocks())}
		for k := range g.low {
			g.low[k] = -1
		}
		d.progress = g
	}
	if first > 0 && g.low[0] < 0 {
		return jpegMalformed("scan of coefficients %d to %d before the first of coefficient 0", first, last)
	}
	// No bit comes twice. That also bounds the work of a stream of many short scans.
	for k := first; k <= last; k++ {
		if ah == 0 && g.low[k] >= 0 || ah > 0 && int(g.low[k]) != ah {
			return jpegMalformed("scan of bits %d and %d of coefficient %d after its bit %d", ah, al, k, g.low[k])
		}
		g.low[k] = int8(al)
	}
	var err error
	switch {
	case first > 0:
		err = ac.usable("AC", 15)
	case ah == 0:
		err = dc.usable("DC", 15)
	}
	if err != nil {
		return err
	}
	var (
		b       jpegBits
		dcValue int32
		eobRun  int32 // blocks of the band that are still to end: G.1.2.2
	)
	for i := range d.blocks() {
		if i == 0 || d.restart > 0 && i%d.restart == 0 {
			if err := d.interval(i/max(d.restart, 1), &b); err != nil {
				return err
			}
			dcValue, eobRun = 0, 0
		}
		block := g.values[64*i:][:64]
		ok := true
		switch {
		case first == 0 && ah == 0:
			var size byte
			size, ok = b.code(dc)
			dcValue += jpegExtend(uint32(b.take(uint(size))), uint(size))
			block[0] = int16(dcValue << al)
		case first == 0:
			block[0] |= int16(b.take(1) << al)
		case ah == 0:
			eobRun, ok = b.band(ac, block[:last+1], first, al, eobRun)
		default:
			eobRun, ok = b.refine(ac, block[:last+1], first, al, eobRun)
		}
		if b.overrun() {
			return d.truncated()
		}
		if !ok {
			return jpegNoCode()
		}
	}
	if eobRun > 0 {
		return jpegMalformed("a run of %d blocks goes over the end of the scan: the data are damaged; send the image again", eobRun)
	}
	return d.ended(&b)
}

// band reads the first bits of the coefficients of a block: G.1.2.2.
func (b *jpegBits) band(ac *jpegHuffman, block []int16, k, al int, eobRun int32) (int32, bool) {
	if eobRun > 0 {
		return eobRun - 1, true
	}
	for ; k < len(block); k++ {
		symbol, ok := b.code(ac)
		run, size := symbol>>4, uint(symbol&15)
		switch {
		case !ok:
			return 0, false
		case size == 0 && run < 15:
			return 1<<run + b.take(uint(run)) - 1, true
		}
		k += int(run)
		if size > 0 {
			if k >= len(block) {
				return 0, false
			}
			block[k] = int16(jpegExtend(uint32(b.take(size)), size) << al)
		}
	}
	return 0, k == len(block)
}

// refine reads bit al of the coefficients of a block: G.1.2.3. Those that are not 0 take a bit each, wherever they are passed; a
// run counts those that are still 0.
func (b *jpegBits) refine(ac *jpegHuffman, block []int16, k, al int, eobRun int32) (int32, bool) {
	one := int16(1) << al
	// pass goes over coefficients until it has seen run zeros and stands before another.
	pass := func(run int) {
		for ; k < len(block); k++ {
			switch v := block[k]; {
			case v == 0 && run == 0:
				return
			case v == 0:
				run--
			case b.take(1) == 0:
			case v > 0:
				block[k] += one
			default:
				block[k] -= one
			}
		}
	}
	for eobRun == 0 && k < len(block) {
		symbol, ok := b.code(ac)
		run, size := symbol>>4, symbol&15
		switch {
		case !ok || size > 1:
			return 0, false
		case size == 0 && run < 15:
			eobRun = 1<<run + b.take(uint(run))
			continue
		}
		value := int16(0)
		if size == 1 {
			if value = -one; b.take(1) == 1 {
				value = one
			}
		}
		pass(int(run))
		if k == len(block) {
			return 0, false
		}
		block[k] = value
		k++
	}
	if eobRun == 0 {
		return 0, true
	}
	pass(len(block))
	return eobRun - 1, true
}

// output checks that all bits of all coefficients have come, and transforms them.
func (g *jpegProgress) output(d *jpegDecoder) error {
	for k, low := range g.low {
		if low != 0 {
			return jpegMalformed("ends before the last bits of coefficient %d: scans are missing; send the image again", k)
		}
	}
	var block [64]int32
	for i := range d.blocks() {
		for k, v := range g.values[64*i:][:64] {
			block[jpegZigzag[k]] = int32(v) * g.quant[k]
		}
		d.output(i, &block)
	}
	return nil
}
