package imaging

import "runtime"

// Processors is how many goroutines compute at once. A node lets more threads run than that, for what waits for network and disk.
func Processors() int { return min(runtime.GOMAXPROCS(0), runtime.NumCPU()) }
