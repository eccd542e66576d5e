package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// plainYAML is the text of a value without its quotes.
func plainYAML(b []byte) string { return strings.Trim(strings.TrimSpace(string(b)), `"'`) }

// sizeText reads a number of bytes, or one with a unit.
func sizeText(text string) (int64, error) {
	factor, digits := float64(1), text
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if d, ok := strings.CutSuffix(text, unit); ok {
			factor, digits = float64(int64(1)<<(10*(i+1))), strings.TrimSpace(d)
		}
	}
	n, err := strconv.ParseFloat(digits, 64)
	if strings.Trim(digits, "0123456789.") != "" || err != nil || n*factor != math.Trunc(n*factor) || n*factor >= 1<<62 {
		return 0, errors.New("no size")
	}
	return int64(n * factor), nil
}

func sizeError(key, text string) error {
	return fmt.Errorf("%s: %q is no size; write a number of bytes, or one with a unit as 512MiB or 4GiB", key, text)
}
