package pixel

import (
	"runtime"
	"testing"
	"time"
)

// spent is deferred around a decoder: it may have allocated that many bytes, and taken the time of a machine under load.
func spent(t *testing.T, limit int) func() {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	return func() {
		t.Helper()
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if took > 5*time.Second {
			t.Errorf("took %v", took)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > uint64(limit) {
			t.Errorf("%d bytes of memory, want at most %d", got, limit)
		}
	}
}
