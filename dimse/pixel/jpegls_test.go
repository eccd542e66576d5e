package pixel

import (
	"encoding/binary"
	"math/bits"
)

// A jlsEncoder writes JPEG-LS as the procedures of T.87 Annex A stand there, one step after the other: what no peer writes
// (restart markers, MAXVAL below the range of the bits, DNL) comes from it. CharLS, by pyjpegls, is the witness for it.
type jlsEncoder struct {
	bits     int
	near     int
	interval int    // DRI
	preset   [5]int // MAXVAL, T1, T2, T3, RESET; an LSE if one is not 0
	dnl      bool
}

type bitWriter struct {
	out  []byte
	acc  uint64
	n    int
	last bool // the byte before was FF
}

func (w *bitWriter) put(v uint64, n int) {
	for i := n - 1; i >= 0; i-- {
		w.acc = w.acc<<1 | v>>i&1
		w.n++
		room := 8
		if w.last {
			room = 7 // A.1
		}
		if w.n == room {
			w.out = append(w.out, byte(w.acc))
			w.last = byte(w.acc) == 0xFF
			w.acc, w.n = 0, 0
		}
	}
}

func (w *bitWriter) flush() {
	for w.n > 0 || w.last {
		w.put(0, 1)
	}
}

func (e jlsEncoder) encode(samples []int32, rows, columns int) []byte {
	out := []byte{0xFF, 0xD8}
	segment := func(marker byte, payload ...byte) {
		out = append(out, 0xFF, marker)
		out = binary.BigEndian.AppendUint16(out, uint16(len(payload)+2))
		out = append(out, payload...)
	}
	lines := rows
	if e.dnl {
		lines = 0
	}
	segment(0xF7, byte(e.bits), byte(lines>>8), byte(lines), byte(columns>>8), byte(columns), 1, 1, 0x11, 0)
	if e.preset != [5]int{} {
		p := []byte{1}
		for _, v := range e.preset {
			p = binary.BigEndian.AppendUint16(p, uint16(v))
		}
		segment(0xF8, p...)
	}
	if e.interval > 0 {
		segment(0xDD, byte(e.interval>>8), byte(e.interval))
	}
	segment(0xDA, 1, 1, 0, byte(e.near), 0, 0)
	interval := e.interval
	if interval == 0 {
		interval = rows
	}
	for y, n := 0, 0; y < rows; y, n = y+interval, n+1 {
		if y > 0 {
			out = append(out, 0xFF, byte(0xD0+(n-1)%8))
		}
		part := min(interval, rows-y)
		out = append(out, e.scan(samples[y*columns:(y+part)*columns], part, columns)...)
	}
	if e.dnl {
		segment(0xDC, byte(rows>>8), byte(rows))
	}
	return append(out, 0xFF, 0xD9)
}

// scan is Annex A. The names are the standard's.
func (e jlsEncoder) scan(samples []int32, rows, columns int) []byte {
	NEAR := e.near
	c, err := jlsScan{bits: e.bits, near: e.near, preset: e.preset}.coding()
	if err != nil {
		panic(err)
	}
	MAXVAL, RANGE, LIMIT, qbpp, RESET := c.maxval, c.span, c.limit, c.qbpp, c.reset
	var A, B, C, N [367]int
	var Nn [367]int
	for i := range A {
		A[i], N[i] = max(2, (RANGE+32)/64), 1
	}
	RUNindex := 0
	J := []int{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	w := new(bitWriter)
	rec := make([][]int, rows+1) // reconstructed, with a column on each side
	rec[0] = make([]int, columns+2)
	quantize := func(d int) int {
		switch {
		case d <= -c.t3:
			return -4
		case d <= -c.t2:
			return -3
		case d <= -c.t1:
			return -2
		case d < -NEAR:
			return -1
		case d <= NEAR:
			return 0
		case d < c.t1:
			return 1
		case d < c.t2:
			return 2
		case d < c.t3:
			return 3
		}
		return 4
	}
	golomb := func(v, k, limit int) {
		if high := v >> k; high < limit-qbpp-1 {
			w.put(0, high)
			w.put(1, 1)
			w.put(uint64(v), k)
		} else {
			w.put(0, limit-qbpp-1)
			w.put(1, 1)
			w.put(uint64(v-1), qbpp)
		}
	}
	residual := func(Errval int) int { // A.4.4 and A.4.5
		if Errval > 0 {
			Errval = (Errval + NEAR) / (2*NEAR + 1)
		} else {
			Errval = -((NEAR - Errval) / (2*NEAR + 1))
		}
		return Errval
	}
	modulo := func(Errval int) int {
		if Errval < 0 {
			Errval += RANGE
		}
		if Errval >= (RANGE+1)/2 {
			Errval -= RANGE
		}
		return Errval
	}
	clamp := func(v int) int { return min(max(v, 0), MAXVAL) }
	for y := range rows {
		above := rec[y]
		line := make([]int, columns+2)
		rec[y+1] = line
		above[columns+1] = above[columns]
		line[0] = above[1]
		for x := 1; x <= columns; {
			Ra, Rb, Rc, Rd := line[x-1], above[x], above[x-1], above[x+1]
			Q1, Q2, Q3 := quantize(Rd-Rb), quantize(Rb-Rc), quantize(Rc-Ra)
			Ix := int(samples[y*columns+x-1])
			if Q1 == 0 && Q2 == 0 && Q3 == 0 { // A.7
				count := 0
				for x <= columns && max(Ix-Ra, Ra-Ix) <= NEAR {
					line[x] = Ra
					count++
					if x++; x <= columns {
						Ix = int(samples[y*columns+x-1])
					}
				}
				for count >= 1<<J[RUNindex] {
					w.put(1, 1)
					count -= 1 << J[RUNindex]
					if RUNindex < 31 {
						RUNindex++
					}
				}
				if x > columns {
					if count > 0 {
						w.put(1, 1)
					}
					continue
				}
				w.put(0, 1)
				w.put(uint64(count), J[RUNindex])
				Rb = above[x]
				RItype := 0
				if max(Ra-Rb, Rb-Ra) <= NEAR {
					RItype = 1
				}
				Px, SIGN := Rb, 1
				if RItype == 1 {
					Px = Ra
				}
				if RItype == 0 && Ra > Rb {
					SIGN = -1
				}
				Errval := residual(SIGN * (Ix - Px))
				line[x] = clamp(Px + SIGN*Errval*(2*NEAR+1))
				Errval = modulo(Errval)
				Q := 365 + RItype
				TEMP := A[365]
				if RItype == 1 {
					TEMP = A[366] + N[366]>>1
				}
				k := 0
				for N[Q]<<k < TEMP {
					k++
				}
				m := 0
				switch {
				case k == 0 && Errval > 0 && 2*Nn[Q] < N[Q], Errval < 0 && 2*Nn[Q] >= N[Q], Errval < 0 && k != 0:
					m = 1
				}
				EMErrval := 2*max(Errval, -Errval) - RItype - m
				golomb(EMErrval, k, LIMIT-J[RUNindex]-1)
				if Errval < 0 {
					Nn[Q]++
				}
				A[Q] += (EMErrval + 1 - RItype) >> 1
				if N[Q] == RESET {
					A[Q], N[Q], Nn[Q] = A[Q]>>1, N[Q]>>1, Nn[Q]>>1
				}
				N[Q]++
				if RUNindex > 0 {
					RUNindex--
				}
				x++
				continue
			}
			SIGN := 1
			if Q1 < 0 || Q1 == 0 && (Q2 < 0 || Q2 == 0 && Q3 < 0) {
				Q1, Q2, Q3, SIGN = -Q1, -Q2, -Q3, -1
			}
			Q := 81*Q1 + 9*Q2 + Q3
			var Px int
			switch {
			case Rc >= max(Ra, Rb):
				Px = min(Ra, Rb)
			case Rc <= min(Ra, Rb):
				Px = max(Ra, Rb)
			default:
				Px = Ra + Rb - Rc
			}
			Px = clamp(Px + SIGN*C[Q])
			Errval := residual(SIGN * (Ix - Px))
			line[x] = clamp(Px + SIGN*Errval*(2*NEAR+1))
			Errval = modulo(Errval)
			k := 0
			for N[Q]<<k < A[Q] {
				k++
			}
			var MErrval int
			switch special := NEAR == 0 && k == 0 && 2*B[Q] <= -N[Q]; {
			case special && Errval >= 0:
				MErrval = 2*Errval + 1
			case special:
				MErrval = -2 * (Errval + 1)
			case Errval >= 0:
				MErrval = 2 * Errval
			default:
				MErrval = -2*Errval - 1
			}
			golomb(MErrval, k, LIMIT)
			B[Q] += Errval * (2*NEAR + 1)
			A[Q] += max(Errval, -Errval)
			if N[Q] == RESET {
				A[Q] >>= 1
				if B[Q] >= 0 {
					B[Q] >>= 1
				} else {
					B[Q] = -((1 - B[Q]) >> 1)
				}
				N[Q] >>= 1
			}
			N[Q]++
			if B[Q] <= -N[Q] {
				B[Q] += N[Q]
				if C[Q] > -128 {
					C[Q]--
				}
				if B[Q] <= -N[Q] {
					B[Q] = -N[Q] + 1
				}
			} else if B[Q] > 0 {
				B[Q] -= N[Q]
				if C[Q] < 127 {
					C[Q]++
				}
				if B[Q] > 0 {
					B[Q] = 0
				}
			}
			x++
		}
	}
	w.flush()
	return w.out
}

var _ = bits.Len
