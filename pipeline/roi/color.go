package roi

import "math"

// cieLab turns the colour in which a region was drawn, ROI Display Color (3006,002A) in sRGB, into Recommended Display
// CIELab Value (0062,000D): PS3.3 C.10.7.1.1, with the white point D50 of the profile connection space.
func cieLab(rgb [3]uint8) []int {
	var linear [3]float64
	for i, v := range rgb { // IEC 61966-2-1
		c := float64(v) / 255
		if c <= 0.04045 {
			linear[i] = c / 12.92
		} else {
			linear[i] = math.Pow((c+0.055)/1.055, 2.4)
		}
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
