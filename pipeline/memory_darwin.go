package pipeline

import (
	"math"

	"golang.org/x/sys/unix"
)

// systemMemory is the machine's memory in bytes.
func systemMemory() int64 {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return math.MaxInt64
	}
	return int64(n)
}
