package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// plainYAML is the text of a value without its quotes.
func plainYAML(b []byte) string { return strings.Trim(strings.TrimSpace(string(b)), `"'`) }

// parseSize reads what a key has: a number of bytes, or one with a unit.
func parseSize(key, text string) (int64, error) {
	factor, digits := float64(1), text
	for i, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if d, ok := strings.CutSuffix(text, unit); ok {
			factor, digits = float64(int64(1)<<(10*(i+1))), strings.TrimSpace(d)
		}
	}
	n, err := strconv.ParseFloat(digits, 64)
	if strings.Trim(digits, "0123456789.") != "" || err != nil || n*factor != math.Trunc(n*factor) || n*factor >= 1<<62 {
		return 0, fmt.Errorf("%s: %q is no size; write a number of bytes, or one with a unit as 512MiB or 4GiB", key, text)
	}
	return int64(n * factor), nil
}
