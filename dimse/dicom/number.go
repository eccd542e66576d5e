package dicom

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"strings"
)

// FormatDS writes a number as DS: 16 bytes at most, no plus sign, the shortest text that reads back as v, and where that does
// not fit as many digits as do. NaN and the infinities, which DS cannot express, are "".
func FormatDS(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return ""
	}
	if v == 0 {
		return "0"
	}
	const room = 16 // PS3.5 Table 6.2-1
	for digits := 17; ; digits-- {
		r := v
		if digits < 17 {
			r, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'e', digits-1, 64), 64)
			if math.IsInf(r, 0) {
				continue // rounded up beyond the greatest float64
			}
		}
		if s := strconv.FormatFloat(r, 'f', -1, 64); len(s) <= room {
			return s
		}
		s := strconv.FormatFloat(r, 'e', -1, 64)
		mantissa, exponent, _ := strings.Cut(s, "e")
		sign := ""
		if exponent[0] == '-' {
			sign = "-"
		}
		if s = mantissa + "e" + sign + strings.TrimLeft(exponent[1:], "0"); len(s) <= room || digits == 1 {
			return s
		}
	}
}

// ints parses up to n values as whole numbers.
func (e *Element) ints(n int) ([]int, error) {
	b := e.value
	switch e.VR {
	case US, OW:
		return fixed(b, 2, n, e.VR, func(b []byte) int { return int(binary.LittleEndian.Uint16(b)) })
	case SS:
		return fixed(b, 2, n, e.VR, func(b []byte) int { return int(int16(binary.LittleEndian.Uint16(b))) })
	case UL, OL:
		return fixed(b, 4, n, e.VR, func(b []byte) int { return int(binary.LittleEndian.Uint32(b)) })
	case SL:
		return fixed(b, 4, n, e.VR, func(b []byte) int { return int(int32(binary.LittleEndian.Uint32(b))) })
	case AT:
		return fixed(b, 4, n, e.VR, func(b []byte) int { return int(attributeTag(b)) })
	case SV:
		return fixed(b, 8, n, e.VR, func(b []byte) int { return int(int64(binary.LittleEndian.Uint64(b))) })
	case UV, OV:
		big := false
		v, err := fixed(b, 8, n, e.VR, func(b []byte) int {
			u := binary.LittleEndian.Uint64(b)
			big = big || u > math.MaxInt64
			return int(u)
		})
		if err == nil && big {
			return nil, unsupported("a number of 2^63 or more")
		}
		return v, err
	case FL, FD:
		f, err := e.floats(n)
		if err != nil {
			return nil, err
		}
		out := make([]int, len(f))
		for i, v := range f {
			if out[i], err = whole(v); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	if !vrs[e.VR].text {
		return nil, malformed("VR %s holds no whole numbers", e.VR)
	}
	var out []int
	err := eachNumber(b, n, func(s []byte) error {
		if v, ok := digits(s); ok {
			out = append(out, v)
			return nil
		}
		f, err := parseDecimal(s) // "512.0" and "5.12e2" are found where IS belongs
		if err != nil {
			return err
		}
		v, err := whole(f)
		out = append(out, v)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func whole(f float64) (int, error) {
	if f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, malformed("is not a whole number")
	}
	return int(f), nil
}

// floats parses up to n values as numbers.
func (e *Element) floats(n int) ([]float64, error) {
	b := e.value
	switch e.VR {
	case FL, OF:
		return fixed(b, 4, n, e.VR, func(b []byte) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(b))) })
	case UV, OV:
		return fixed(b, 8, n, e.VR, func(b []byte) float64 { return float64(binary.LittleEndian.Uint64(b)) })
	case FD, OD:
		return fixed(b, 8, n, e.VR, func(b []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(b)) })
	}
	if !vrs[e.VR].text {
		v, err := e.ints(n)
		if err != nil {
			return nil, err
		}
		out := make([]float64, len(v))
		for i := range v {
			out[i] = float64(v[i])
		}
		return out, nil
	}
	if len(b) == 0 {
		return nil, nil
	}
	var out []float64
	if n > 1 {
		count := 1
		for _, c := range b {
			if c == '\\' {
				count++
			}
		}
		out = make([]float64, 0, min(n, count))
	}
	err := eachNumber(b, n, func(s []byte) error {
		v, err := parseDecimal(s)
		out = append(out, v)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// fixed cuts a value into numbers of width bytes.
func fixed[T any](b []byte, width, n int, vr VR, get func([]byte) T) ([]T, error) {
	if len(b)%width != 0 {
		return nil, malformed("%d bytes are no multiple of the %d of %s", len(b), width, vr)
	}
	if len(b) == 0 {
		return nil, nil
	}
	out := make([]T, min(n, len(b)/width))
	for i := range out {
		out[i] = get(b[i*width:])
	}
	return out, nil
}

// eachNumber calls f with up to n backslash-separated values, spaces removed. A value of spaces only is empty.
func eachNumber(b []byte, n int, f func([]byte) error) error {
	b = trimNumber(b)
	if len(b) == 0 {
		return nil
	}
	for i := 0; i < n; i++ {
		end := 0
		for end < len(b) && b[end] != '\\' {
			end++
		}
		s := trimNumber(b[:end])
		if len(s) == 0 {
			return malformed("value %d is empty", i+1)
		}
		if err := f(s); err != nil {
			return malformed("value %d %w", i+1, err)
		}
		if end == len(b) {
			return nil
		}
		b = b[end+1:]
	}
	return nil
}

func trimNumber(b []byte) []byte {
	for len(b) > 0 && b[0] == ' ' {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == 0) {
		b = b[:len(b)-1]
	}
	return b
}

// digits reads an IS of at most 18 digits.
func digits(s []byte) (int, bool) {
	neg := false
	if s[0] == '-' || s[0] == '+' {
		neg = s[0] == '-'
		s = s[1:]
	}
	if len(s) == 0 || len(s) > 18 {
		return 0, false
	}
	v := 0
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + int(c-'0')
	}
	if neg {
		v = -v
	}
	return v, true
}

// pow10 are the powers of ten that float64 holds exactly.
var pow10 = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

// parseDecimal reads one DS: [+-] digits [. digits] [E [+-] digits], PS3.5 Table 6.2-1. Up to 15 digits with a power of ten
// below 1e22 are one exactly rounded division or product, as in Clinger's fast path; the rest goes to strconv. Contour Data
// is almost always the former.
func parseDecimal(s []byte) (float64, error) {
	i, neg := 0, false
	if s[0] == '-' || s[0] == '+' {
		neg = s[0] == '-'
		i = 1
	}
	var mantissa uint64
	count, scale, seen := 0, 0, false
	for ; i < len(s); i++ {
		c := s[i]
		if c == '.' && !seen {
			seen = true
			continue
		}
		if c < '0' || c > '9' {
			break
		}
		mantissa = mantissa*10 + uint64(c-'0') // may overflow; then count sends it to strconv
		count++
		if seen {
			scale++
		}
	}
	if i == len(s) && count > 0 && count <= 15 {
		v := float64(mantissa) / pow10[scale]
		if neg {
			v = -v
		}
		return v, nil
	}
	for i, c := range s {
		switch {
		case '0' <= c && c <= '9', c == '+', c == '-', c == '.', c == 'e', c == 'E':
		default: // strconv would take "NaN", "Inf", "0x1p-2" and "1_000"
			return 0, malformed("is no decimal number: character %d is %q", i+1, c) // no more of it: it may say something of the patient
		}
	}
	v, err := strconv.ParseFloat(string(s), 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, malformed("is beyond the numbers that a float64 has")
	}
	if err != nil {
		return 0, malformed("is no decimal number")
	}
	return v, nil
}
