package imaging

import "runtime"

// ThreadsPerProcessor is how many threads of Go the program lets run for each processor. Set it before anything is computed.
var ThreadsPerProcessor = 1

// Processors is how many goroutines compute at once.
func Processors() int { return max(1, runtime.GOMAXPROCS(0)/ThreadsPerProcessor) }
