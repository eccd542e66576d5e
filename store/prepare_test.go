package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// waitPrepared returns when the store has filled n bytes behind its end with zeros.
func waitPrepared(t *testing.T, written <-chan int64, until int64) {
	t.Helper()
	for at := range written {
		if at >= until {
			return
		}
	}
}

// zeroWrites is a disk that tells where writes of nothing but zeros have become durable.
func zeroWrites() (*faultyDisk, <-chan int64) {
	d := newFaultyDisk()
	ch := make(chan int64, 1<<16)
	var last int64
	write, sync := d.writeAt, d.sync
	d.writeAt = func(f *os.File, b []byte, off int64) (int, error) {
		n, err := write(f, b, off)
		last = 0
		if bytes.Equal(b, make([]byte, len(b))) {
			last = off + int64(n)
		}
		return n, err
	}
	d.sync = func(f *os.File) error {
		err := sync(f)
		if filepath.Ext(f.Name()) == ".seg" && last > 0 {
			ch <- last
		}
		return err
	}
	return d, ch
}

// copyFolder is what a killed process leaves.
func copyFolder(t *testing.T, from string) (to string) {
	t.Helper()
	to = t.TempDir()
	if err := os.CopyFS(filepath.Join(to, "log"), os.DirFS(filepath.Join(from, "log"))); err != nil {
		t.Fatal(err)
	}
	return to
}

// Prepared space is neither a torn tail nor damage, whatever was written into it before the process was killed, and
// nothing of it is left in a store that was closed.
func TestPreparedSpace(t *testing.T) {
	dir := t.TempDir()
	d, written := zeroWrites()
	const size = 1 << 20
	s := openStore(t, dir, Options{disk: &d.disk, segmentSize: size, prepared: size, quiet: time.Millisecond})
	first := newObject(testStudy, "1.2.1", 200<<10, 1)
	mustPut(t, s, first)
	waitPrepared(t, written, size)
	second := newObject(testStudy, "1.2.2", 200<<10, 2)
	mustPut(t, s, second)

	for name, spoil := range map[string]func(b []byte, end int64) (torn bool){
		"as it is": func([]byte, int64) bool { return false },
		"with part of a record": func(b []byte, end int64) bool {
			copy(b[end+100:], first.data)
			return true
		},
	} {
		killed := copyFolder(t, dir)
		seg := filepath.Join(killed, logDir, segmentName(1))
		b, err := os.ReadFile(seg)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != size {
			t.Fatalf("the segment has %d bytes, %d were prepared", len(b), size)
		}
		s.mu.RLock()
		end := s.applied.Offset
		s.mu.RUnlock()
		torn := spoil(b, end)
		if err := os.WriteFile(seg, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var book logBook
		again := openStore(t, killed, Options{Logger: book.logger(), prepared: -1})
		if len(again.Damage()) > 0 {
			t.Errorf("%s: damage %v", name, again.Damage())
		}
		if said := bytes.Contains([]byte(book.String()), []byte("torn tail")); said != torn {
			t.Errorf("%s: torn tail in the log is %v, want %v: %s", name, said, torn, book.String())
		}
		wantObject(t, again, first)
		wantObject(t, again, second)
		if st, err := os.Stat(seg); err != nil || st.Size() != end {
			t.Errorf("%s: %v, %v; want %d bytes", name, st.Size(), err, end)
		}
		third := newObject(testStudy, "1.2.3", 3000, 3)
		mustPut(t, again, third)
		wantObject(t, again, third)
	}

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(dir, logDir, segmentName(1))); err != nil || st.Size() != s.log.end {
		t.Errorf("after Close: %v, %v; want %d bytes", st.Size(), err, s.log.end)
	}
}

// What the disk refuses while space is prepared costs no object: a write that fails leaves the segment usable, a sync
// that fails ends it. The attempt to go on while the disk still fails leaves nothing, not even a number that is used up.
func TestPrepareFails(t *testing.T) {
	for _, c := range []struct {
		op      string
		err     error
		segment uint64
	}{{"write", syscall.ENOSPC, 1}, {"sync;", syscall.EIO, 2}, {"sync; truncate", syscall.EIO, 2}} {
		t.Run(c.op, func(t *testing.T) {
			dir := t.TempDir()
			d := newFaultyDisk()
			l := &segmentLog{disk: d.disk, dir: dir, marker: testMarker, maxSize: 1 << 20, prepared: 1 << 20,
				logger: new(logBook).logger(), apply: func([]*write, location) {}}
			if err := l.begin(); err != nil {
				t.Fatal(err)
			}
			appendInstances(t, l, "1.1")
			d.fail.Store(&fault{c.op, c.err})
			if l.prepare() {
				t.Error("goes on at once on a disk that fails")
			}
			d.fail.Store(nil)
			appendInstances(t, l, "1.2")
			if l.num != c.segment {
				t.Errorf("goes on in segment %d, want %d", l.num, c.segment)
			}
			_ = l.cur.Close()
			if _, found, damage := openLog(t, dir, nil); len(found) != 2 || len(damage) > 0 {
				t.Errorf("found %v, damage %v", found, damage)
			}
		})
	}
}

// Objects that come while space is prepared, across several segments: the zeros never reach over what was kept.
func TestPrepareBetweenGroups(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{disk: fastDisk(), segmentSize: 300 << 10, prepared: 100 << 10, quiet: time.Nanosecond})
	var wg sync.WaitGroup
	for w := range 3 {
		wg.Go(func() {
			for n := range 60 {
				if err := newObject(testStudy, fmt.Sprintf("1.2.%d.%d", w, n), 1000+n*300, uint64(n)).put(s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s.log.num < 5 {
		t.Errorf("only %d segments", s.log.num)
	}
	if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, Options{})
	if len(s.Damage()) > 0 {
		t.Errorf("damage %v", s.Damage())
	}
	for w := range 3 {
		for n := range 60 {
			wantObject(t, s, newObject(testStudy, fmt.Sprintf("1.2.%d.%d", w, n), 1000+n*300, uint64(n)))
		}
	}
}
