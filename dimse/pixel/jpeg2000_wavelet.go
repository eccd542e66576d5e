package pixel

// The inverse wavelets of Annex F, one resolution after the other: rows first, then columns (F.3.2).

// The lifting steps of the irreversible wavelet, Table F.4.
const (
	lift97Alpha = -1.586134342059924
	lift97Beta  = -0.052980118572961
	lift97Gamma = 0.882911075530934
	lift97Delta = 0.443506852043971
	lift97K     = 1.230174104914001
)

// mirrored is line i of n after the symmetric extension (F.3.7); i is one line out at most.
func mirrored(i, n int) int {
	if i < 0 {
		return -i
	}
	if i >= n {
		return 2*(n-1) - i
	}
	return i
}

// reconstruct53 is the tile after the reversible wavelet, in last where that has the room.
func (t *tile) reconstruct53(last []int32) []int32 {
	current := t.resolutions[0].bands[0].coefficients
	for r := 1; r < len(t.resolutions); r++ {
		res := &t.resolutions[r]
		w, h := res.area.width(), res.area.height()
		if res.area.empty() {
			current = nil
			continue
		}
		px, py := int(res.area.x0&1), int(res.area.y0&1)
		next := last
		if r < len(t.resolutions)-1 || len(last) != w*h {
			next = room(&t.scratch.planes[r&1], w*h)
		}
		low, hl, lh, hh := t.quarters(r)
		for y := range h {
			var l, g []int32
			if y&1 == py {
				l, g = line(current, low, y>>1), line(res.bands[0].coefficients, hl, y>>1)
			} else {
				l, g = line(res.bands[1].coefficients, lh, y>>1), line(res.bands[2].coefficients, hh, y>>1)
			}
			row := next[y*w : (y+1)*w]
			interleave(row, l, g, px)
			lift53(row, px)
		}
		if h == 1 {
			if py == 1 { // F.3.6: one line at an odd place was doubled
				for i := range next {
					next[i] >>= 1
				}
			}
		} else {
			at := func(y int) []int32 { y = mirrored(y, h); return next[y*w : (y+1)*w] }
			for y := py; y < h; y += 2 {
				dst, above, below := at(y), at(y-1), at(y+1)
				for x := range dst {
					dst[x] -= (above[x] + below[x] + 2) >> 2
				}
			}
			for y := 1 - py; y < h; y += 2 {
				dst, above, below := at(y), at(y-1), at(y+1)
				for x := range dst {
					dst[x] += (above[x] + below[x]) >> 1
				}
			}
		}
		current = next
	}
	return current
}

// quarters are the widths of the four subbands that resolution r is made of.
func (t *tile) quarters(r int) (ll, hl, lh, hh int) {
	b := t.resolutions[r].bands
	return t.resolutions[r-1].area.width(), b[0].area.width(), b[1].area.width(), b[2].area.width()
}

func line[T int32 | float64](s []T, width, y int) []T {
	if width <= 0 || len(s) == 0 {
		return nil
	}
	return s[y*width : (y+1)*width]
}

// interleave puts low-pass samples to the even places of the reference grid, high-pass samples to the odd ones; the row
// begins at an odd place where odd is 1.
func interleave(row, low, high []int32, odd int) {
	for i, v := range low {
		row[2*i+odd] = v
	}
	for i, v := range high {
		row[2*i+1-odd] = v
	}
}

// lift53 is 1D_FILTR_5-3R, F-5 and F-6.
func lift53(a []int32, odd int) {
	n := len(a)
	if n == 1 {
		if odd == 1 {
			a[0] >>= 1
		}
		return
	}
	for i := odd; i < n; i += 2 {
		a[i] -= (a[mirrored(i-1, n)] + a[mirrored(i+1, n)] + 2) >> 2
	}
	for i := 1 - odd; i < n; i += 2 {
		a[i] += (a[mirrored(i-1, n)] + a[mirrored(i+1, n)]) >> 1
	}
}

// reconstruct97 is the tile after dequantisation (E.1.1) and the irreversible wavelet. Each product is rounded by itself,
// so that no machine fuses it with the sum.
func (t *tile) reconstruct97() []float64 {
	ll := &t.resolutions[0].bands[0]
	current := room(&t.scratch.floats[0], len(ll.coefficients))
	for i, v := range ll.coefficients {
		current[i] = float64(v) * (ll.step / 2) // coefficients are in halves
	}
	row := room(&t.scratch.floatRow, t.area.width())
	for r := 1; r < len(t.resolutions); r++ {
		res := &t.resolutions[r]
		w, h := res.area.width(), res.area.height()
		if res.area.empty() {
			current = nil
			continue
		}
		px, py := int(res.area.x0&1), int(res.area.y0&1)
		next := room(&t.scratch.floats[r&1], w*h)
		low, hl, lh, hh := t.quarters(r)
		for y := range h {
			if y&1 == py {
				for i, v := range line(current, low, y>>1) {
					row[2*i+px] = v
				}
				dequantise(row[1-px:w], line(res.bands[0].coefficients, hl, y>>1), res.bands[0].step/2)
			} else {
				dequantise(row[px:w], line(res.bands[1].coefficients, lh, y>>1), res.bands[1].step/2)
				dequantise(row[1-px:w], line(res.bands[2].coefficients, hh, y>>1), res.bands[2].step/2)
			}
			lift97(row[:w], px)
			copy(next[y*w:], row[:w])
		}
		lift97Columns(next, w, h, py)
		current = next
	}
	return current
}

func dequantise(row []float64, coefficients []int32, step float64) {
	for i, v := range coefficients {
		row[2*i] = float64(v) * step
	}
}

// lift97 is 1D_FILTR_9-7I, F-7.
func lift97(a []float64, odd int) {
	n := len(a)
	if n == 1 {
		if odd == 1 {
			a[0] /= 2
		}
		return
	}
	for i := odd; i < n; i += 2 {
		a[i] *= lift97K
	}
	for i := 1 - odd; i < n; i += 2 {
		a[i] *= 1 / lift97K
	}
	for s, f := range [...]float64{lift97Delta, lift97Gamma, lift97Beta, lift97Alpha} {
		for i := odd ^ s&1; i < n; i += 2 {
			a[i] -= float64(f * (a[mirrored(i-1, n)] + a[mirrored(i+1, n)]))
		}
	}
}

func lift97Columns(a []float64, w, h, odd int) {
	if h == 1 {
		if odd == 1 {
			for i := range a {
				a[i] /= 2
			}
		}
		return
	}
	at := func(y int) []float64 { y = mirrored(y, h); return a[y*w : (y+1)*w] }
	for y := range h {
		k := 1 / lift97K
		if y&1 == odd {
			k = lift97K
		}
		for x, line := 0, at(y); x < len(line); x++ {
			line[x] *= k
		}
	}
	for s, f := range [...]float64{lift97Delta, lift97Gamma, lift97Beta, lift97Alpha} {
		for y := odd ^ s&1; y < h; y += 2 {
			dst, above, below := at(y), at(y-1), at(y+1)
			for x := range dst {
				dst[x] -= float64(f * (above[x] + below[x]))
			}
		}
	}
}
