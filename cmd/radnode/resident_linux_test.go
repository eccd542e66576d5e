package main

import (
	"os"
	"syscall"
)

// maxResident is the most memory in bytes that a process had resident; Linux counts in KiB.
func maxResident(p *os.ProcessState) float64 {
	return 1024 * float64(p.SysUsage().(*syscall.Rusage).Maxrss)
}
