package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
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

// BenchmarkBareSync is what the disk itself can do: groups of 525 KB, each followed by an fdatasync, in files of the size of a segment whose
// space is reserved. The figures of BenchmarkPut mean something only beside it, taken in the same minute.
func BenchmarkBareSync(b *testing.B) {
	for _, c := range []struct {
		name  string
		group int
		begin bool
	}{{"1", 1, true}, {"16", 16, true}, {"16 handed to the disk by the sync alone", 16, false}} {
		b.Run(c.name, func(b *testing.B) {
			d := realDisk()
			if !c.begin {
				d.begin = func(*os.File, int64, int64) {}
			}
			const size = 256 << 20
			dir := b.TempDir()
			data := newObject("1.2.3", "1.2.3.4", 525<<10, 1).data
			var f *os.File
			var at int64
			var out appender
			b.SetBytes(int64(c.group * len(data)))
			for b.Loop() {
				if f == nil || at >= size {
					if f != nil {
						f.Close()
					}
					var err error
					if f, err = os.CreateTemp(dir, "bare"); err != nil {
						b.Fatal(err)
					}
					d.reserve(f, size)
					at = 0
				}
				out.start(&d, f, at)
				for range c.group {
					out.write(data)
				}
				if err := out.flush(); err != nil {
					b.Fatal(err)
				}
				if err := d.sync(f); err != nil {
					b.Fatal(err)
				}
				at = out.off
			}
			f.Close()
			b.ReportMetric(float64(b.N*c.group)/b.Elapsed().Seconds(), "instances/s")
		})
	}
}

// BenchmarkWatch measures from the beginning of a Put until a watcher has been told and finds the instance in Study.
func BenchmarkWatch(b *testing.B) {
	s := openStore(b, b.TempDir(), Options{})
	ch := s.Watch(b.Context())
	for i := range b.N {
		b.StopTimer()
		o := newObject(fmt.Sprintf("1.2.%d", i+1), fmt.Sprintf("1.2.%d.1", i+1), 33<<10, 1)
		b.StartTimer()
		put := make(chan error, 1)
		go func() { put <- o.put(s) }()
		if _, err := s.Study((<-ch).Study); err != nil {
			b.Fatal(err)
		}
		if err := <-put; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenMillion measures a start with a million indexed instances in 7,500 studies, each with a job that waits.
func BenchmarkOpenMillion(b *testing.B) {
	dir := b.TempDir()
	s := openStore(b, dir, Options{disk: fastDisk()})
	const instances, studies = 1_000_000, 7_500
	for i := range instances {
		study := fmt.Sprintf("1.2.826.0.1.3680043.8.498.%d", i*studies/instances+1_000_000)
		e := &entry{SOPClass: "1.2.840.10008.5.1.4.1.1.2", SOPInstance: fmt.Sprintf("%s.%d", study, i), Study: study, Series: study + ".1", Syntax: "1.2.840.10008.1.2.1",
			Patient: fmt.Sprint(i * studies / instances), Modality: "CT", Source: "SCANNER", Digest: make([]byte, 32), Size: 525 << 10}
		s.mu.Lock()
		err := s.apply(&record{kind: kindInstance, entry: e, at: location{1, int64(i + 1)}})
		if i%(instances/studies) == 0 && err == nil {
			j := Job{Key: "compute/" + study, Queue: "compute", Study: study, Payload: make([]byte, 9<<10)}
			err = s.apply(&record{kind: kindStep, step: &step{Jobs: []Job{j}}, at: location{1, int64(i + 1)}})
		}
		s.mu.Unlock()
		if err == nil && i%replayBatch == replayBatch-1 {
			err = s.flushIndex()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(dir, indexFile)); err == nil {
		b.ReportMetric(float64(st.Size()>>20), "MB")
	}
	for b.Loop() {
		s, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
