package words

import "fmt"

// Number is a number as l writes it; format is one of [fmt] for a single number.
func (l Language) Number(format string, v float64) string {
	s := fmt.Sprintf(format, v)
	if l == Italian {
		return decimal(s)
	}
	return s
}
