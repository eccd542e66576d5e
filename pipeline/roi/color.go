package roi

import "math"

// cieLab turns the colour in which a region was drawn, ROI Display Color (3006,002A) in sRGB, into Recommended Display
// CIELab Value (0062,000D): PS3.3 C.10.7.1.1, with the white point D50 of the profile connection space.
func cieLab(rgb [3]uint8) []int {
	var linear [3]float64
	for i, v := range rgb {
		linear[i] = linearOf(v)
	}
	// sRGB to XYZ, adapted to D50 by Bradford; rows divided by the white point (0.96422, 1, 0.82521).
	xyz := [3][3]float64{
		{0.4360747 / 0.96422, 0.3850649 / 0.96422, 0.1430804 / 0.96422},
		{0.2225045, 0.7168786, 0.0606169},
		{0.0139322 / 0.82521, 0.0971045 / 0.82521, 0.7141733 / 0.82521},
	}
	var f [3]float64
	for i, row := range xyz {
		t := float64(row[0]*linear[0]) + float64(row[1]*linear[1]) + float64(row[2]*linear[2])
		if t > 216.0/24389 { // CIE 15
			f[i] = math.Cbrt(t)
		} else {
			f[i] = (float64(24389.0/27*t) + 16) / 116
		}
	}
	l, a, b := float64(116*f[1])-16, float64(500*(f[0]-f[1])), float64(200*(f[1]-f[2]))
	encode := func(v, low, span float64) int {
		return int(math.Round(min(max((v-low)/span, 0), 1) * 65535))
	}
	return []int{encode(l, 0, 100), encode(a, -128, 255), encode(b, -128, 255)}
}

// linearOf is the light of one component of sRGB: IEC 61966-2-1.
func linearOf(v uint8) float64 {
	c := float64(v) / 255
	if c <= 0.04045 {
		return c / 12.92
	}
	return math.Pow((c+0.055)/1.055, 2.4)
}

// displayed turns Recommended Display CIELab Value (0062,000D) into sRGB: the inverse of cieLab. Colours that no screen shows
// are cut component by component.
func displayed(lab [3]int) *[3]uint8 {
	l := float64(lab[0]) / 65535 * 100
	a, b := float64(float64(lab[1])/65535*255)-128, float64(float64(lab[2])/65535*255)-128
	y := (l + 16) / 116
	white := [3]float64{0.96422, 1, 0.82521}
	var xyz [3]float64
	for i, f := range [3]float64{y + a/500, y, y - b/200} {
		if f > 6.0/29 { // CIE 15
			xyz[i] = white[i] * f * f * f
		} else {
			xyz[i] = white[i] * (float64(116*f) - 16) * 27 / 24389
		}
	}
	// The inverse of the matrix in cieLab.
	fromXYZ := [3][3]float64{
		{3.1338561, -1.6168667, -0.4906146},
		{-0.9787684, 1.9161415, 0.0334540},
		{0.0719453, -0.2289914, 1.4052427},
	}
	var rgb [3]uint8
	for i, row := range fromXYZ {
		c := float64(row[0]*xyz[0]) + float64(row[1]*xyz[1]) + float64(row[2]*xyz[2])
		if c <= 0.0031308 {
			c *= 12.92
		} else {
			c = float64(1.055*math.Pow(c, 1/2.4)) - 0.055
		}
		rgb[i] = uint8(math.Round(min(max(c, 0), 1) * 255))
	}
	return &rgb
}
