package features

import "math"

// A transform is a discrete Fourier transform of n samples, n = 2ᵃ3ᵇ5ᶜ, of many
// lines at once: sample k of line j is x[k*lines+j]. It is Stockham's algorithm,
// which leaves the result in order and keeps the lines innermost. Written here
// because the bits must be the same on every processor.
type transform struct {
	n      int
	stages []stage
}

// A stage splits what is left, n samples, into radix parts.
type stage struct {
	radix, m int          // m = n/radix
	w        []complex128 // w[p*radix+k] = exp(-2πi·p·k/n)
}

// smooth is the least size from n on that a transform takes.
func smooth(n int) int {
	for ; ; n++ {
		r := n
		for _, p := range [3]int{2, 3, 5} {
			for r%p == 0 {
				r /= p
			}
		}
		if r == 1 {
			return n
		}
	}
}

func newTransform(n int) *transform {
	t := &transform{n: n}
	for left := n; left > 1; {
		radix := 5
		for _, r := range [3]int{4, 2, 3} {
			if left%r == 0 {
				radix = r
				break
			}
		}
		s := stage{radix: radix, m: left / radix, w: make([]complex128, left)}
		for p := range s.m {
			for k := range radix {
				sin, cos := sincosTurn(p*k, left)
				s.w[p*radix+k] = complex(cos, -sin)
			}
		}
		t.stages = append(t.stages, s)
		left = s.m
	}
	return t
}

// do transforms x, with y as room of the same length, and returns where the
// result is: x or y.
func (t *transform) do(x, y []complex128, lines int) []complex128 {
	s := lines
	for i := range t.stages {
		st := &t.stages[i]
		switch st.radix {
		case 2:
			radix2(st, x, y, s)
		case 3:
			radix3(st, x, y, s)
		case 4:
			radix4(st, x, y, s)
		case 5:
			radix5(st, x, y, s)
		}
		x, y = y, x
		s *= st.radix
	}
	return x
}

// mul is a·w without fused operations.
func mul(a, w complex128) complex128 {
	return complex(float64(real(a)*real(w))-float64(imag(a)*imag(w)), float64(real(a)*imag(w))+float64(imag(a)*real(w)))
}

func radix2(st *stage, x, y []complex128, s int) {
	for p := range st.m {
		w1 := st.w[2*p+1]
		a, b := x[s*p:][:s], x[s*(p+st.m):][:s]
		u, v := y[s*2*p:][:s], y[s*(2*p+1):][:s]
		for q := range a {
			c, d := a[q], b[q]
			u[q] = c + d
			v[q] = mul(c-d, w1)
		}
	}
}

func radix3(st *stage, x, y []complex128, s int) {
	const sin = 0.86602540378443864676 // sin 2π/3
	for p := range st.m {
		w1, w2 := st.w[3*p+1], st.w[3*p+2]
		a, b, c := x[s*p:][:s], x[s*(p+st.m):][:s], x[s*(p+2*st.m):][:s]
		u, v, z := y[s*3*p:][:s], y[s*(3*p+1):][:s], y[s*(3*p+2):][:s]
		for q := range a {
			a0, sum, dif := a[q], b[q]+c[q], b[q]-c[q]
			u[q] = a0 + sum
			mid := complex(real(a0)-float64(0.5*real(sum)), imag(a0)-float64(0.5*imag(sum)))
			rot := complex(float64(sin*imag(dif)), -float64(sin*real(dif))) // −i·sin·dif
			v[q] = mul(mid+rot, w1)
			z[q] = mul(mid-rot, w2)
		}
	}
}

func radix4(st *stage, x, y []complex128, s int) {
	for p := range st.m {
		w1, w2, w3 := st.w[4*p+1], st.w[4*p+2], st.w[4*p+3]
		a, b, c, d := x[s*p:][:s], x[s*(p+st.m):][:s], x[s*(p+2*st.m):][:s], x[s*(p+3*st.m):][:s]
		y0, y1, y2, y3 := y[s*4*p:][:s], y[s*(4*p+1):][:s], y[s*(4*p+2):][:s], y[s*(4*p+3):][:s]
		for q := range a {
			ac, bd := a[q]+c[q], b[q]+d[q]
			dac, dbd := a[q]-c[q], b[q]-d[q]
			rot := complex(imag(dbd), -real(dbd)) // −i·(b−d)
			y0[q] = ac + bd
			y1[q] = mul(dac+rot, w1)
			y2[q] = mul(ac-bd, w2)
			y3[q] = mul(dac-rot, w3)
		}
	}
}

func radix5(st *stage, x, y []complex128, s int) {
	const (
		c1 = 0.30901699437494742410  // cos 2π/5
		c2 = -0.80901699437494742410 // cos 4π/5
		s1 = 0.95105651629515357212  // sin 2π/5
		s2 = 0.58778525229247312917  // sin 4π/5
	)
	for p := range st.m {
		w1, w2, w3, w4 := st.w[5*p+1], st.w[5*p+2], st.w[5*p+3], st.w[5*p+4]
		a, b, c, d, e := x[s*p:][:s], x[s*(p+st.m):][:s], x[s*(p+2*st.m):][:s], x[s*(p+3*st.m):][:s], x[s*(p+4*st.m):][:s]
		y0, y1, y2, y3, y4 := y[s*5*p:][:s], y[s*(5*p+1):][:s], y[s*(5*p+2):][:s], y[s*(5*p+3):][:s], y[s*(5*p+4):][:s]
		for q := range a {
			a0 := a[q]
			be, dbe := b[q]+e[q], b[q]-e[q]
			cd, dcd := c[q]+d[q], c[q]-d[q]
			y0[q] = a0 + be + cd
			m1 := complex(real(a0)+float64(c1*real(be))+float64(c2*real(cd)), imag(a0)+float64(c1*imag(be))+float64(c2*imag(cd)))
			m2 := complex(real(a0)+float64(c2*real(be))+float64(c1*real(cd)), imag(a0)+float64(c2*imag(be))+float64(c1*imag(cd)))
			r1 := complex(float64(s1*imag(dbe))+float64(s2*imag(dcd)), -(float64(s1*real(dbe)) + float64(s2*real(dcd))))
			r2 := complex(float64(s2*imag(dbe))-float64(s1*imag(dcd)), -(float64(s2*real(dbe)) - float64(s1*real(dcd))))
			y1[q] = mul(m1+r1, w1)
			y2[q] = mul(m2+r2, w2)
			y3[q] = mul(m2-r2, w3)
			y4[q] = mul(m1-r1, w4)
		}
	}
}

// sincosTurn is the sine and cosine of num/den of a full turn. The standard
// library's are fused where the processor can.
func sincosTurn(num, den int) (sin, cos float64) {
	num %= den
	eighth := 8 * num / den // the octant; the angle left is at most an eighth of a turn
	left := 8*num - eighth*den
	if eighth%2 == 1 {
		left = den - left // mirrored
	}
	x := float64(math.Pi / 4 * (float64(left) / float64(den)))
	x2 := float64(x * x)
	s, c := 0.0, 0.0
	for k := 21; k >= 1; k -= 2 { // Taylor: π/4 to the 22nd over 22! is below 2⁻⁵³
		s = 1 - float64(x2/float64((k+1)*(k+2))*s)
		c = 1 - float64(x2/float64(k*(k+1))*c)
	}
	s = float64(x * s)
	switch eighth {
	case 0:
		return s, c
	case 1:
		return c, s
	case 2:
		return c, -s
	case 3:
		return s, -c
	case 4:
		return -s, -c
	case 5:
		return -c, -s
	case 6:
		return -c, s
	}
	return -s, c
}
