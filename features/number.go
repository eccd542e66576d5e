package features

import "math"

// The standard library's functions may be written in assembly or fused on one
// processor and not on another, so that their last bits differ. These do not.

// Log2 is the logarithm to base 2 of a positive number.
func Log2(x float64) float64 {
	f, e := math.Frexp(x) // 0.5 <= f < 1
	if f < math.Sqrt2/2 {
		f, e = 2*f, e-1
	}
	// ln f = 2 artanh s; |s| < 0.172, so the 12th term is below 2⁻⁵³ of the first.
	s := (f - 1) / (f + 1)
	s2 := float64(s * s)
	sum := 0.0
	for k := 23; k >= 3; k -= 2 {
		sum = float64(s2 * (1/float64(k) + sum))
	}
	return float64(e) + float64(float64(2*s*(1+sum))*(1/math.Ln2))
}

// exp is e to the power x; 0 below -700.
func exp(x float64) float64 {
	if x < -700 {
		return 0
	}
	n := math.Round(x / math.Ln2)
	const hi, lo = 6.93147180369123816490e-01, 1.90821492927058770002e-10 // ln 2 in two parts
	r := x - float64(n*hi) - float64(n*lo)                                // |r| <= 0.35
	sum := 1.0
	for k := 18; k >= 1; k-- {
		sum = 1 + float64(r/float64(k)*sum)
	}
	return math.Ldexp(sum, int(n))
}

// cbrt is the cube root by Newton's method.
func cbrt(x float64) float64 {
	if x == 0 {
		return 0
	}
	f, e := math.Frexp(x)
	for e%3 != 0 {
		f, e = f/2, e+1
	}
	y := 0.8
	for range 8 {
		y -= (y - f/float64(y*y)) / 3
	}
	return math.Ldexp(y, e/3)
}
