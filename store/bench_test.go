package store

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkPut measures durable instances; node.md's figures are per second.
func BenchmarkPut(b *testing.B) {
	for _, c := range []struct{ size, writers int }{{525 << 10, 1}, {525 << 10, 4}, {525 << 10, 16}, {525 << 10, 64}, {33 << 10, 1}, {33 << 10, 16}, {33 << 10, 64}} {
		b.Run(fmt.Sprintf("%dKB/%dwriters", c.size>>10, c.writers), func(b *testing.B) {
			s := openStore(b, b.TempDir(), Options{})
			o := newObject("1.2.3", "1.2.3.100000000", c.size, 1)
			at := bytes.Index(o.data, []byte("1.2.3.100000000"))
			var n atomic.Int64
			b.SetBytes(int64(len(o.data)))
			b.SetParallelism((c.writers + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				mine := object{o.meta, slices.Clone(o.data)}
				for pb.Next() {
					uid := fmt.Sprintf("1.2.3.%09d", n.Add(1)+100_000_000)
					copy(mine.data[at:], uid)
					mine.meta.MediaStorageSOPInstanceUID = uid
					if err := mine.put(s); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "instances/s")
		})
	}
}

var _ = time.Now
