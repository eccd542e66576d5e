package main

import (
	"runtime"
	"testing"

	"github.com/radnode/radnode/pipeline/imaging"
)

// A node has threads to spare for what waits for the network and the disk; computing has none of them.
func TestServeThreads(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	serveThreads()
	if threads, computing := runtime.GOMAXPROCS(0), imaging.Processors(); threads != 2*before || computing > runtime.NumCPU() {
		t.Errorf("%d threads, %d of them for computing, on %d processors", threads, computing, before)
	}
}
