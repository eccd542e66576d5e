package store

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
)

// A faultyDisk is the real one until told otherwise.
type faultyDisk struct {
	disk
	fail atomic.Pointer[fault]
}

type fault struct {
	op  string // open, write, sync, rename, truncate, syncDir
	err error
}

func newFaultyDisk() *faultyDisk {
	d := &faultyDisk{disk: realDisk()}
	real := d.disk
	check := func(op string) error {
		if f := d.fail.Load(); f != nil && strings.Contains(f.op, op) {
			return f.err
		}
		return nil
	}
	d.open = func(name string, flag int, perm os.FileMode) (*os.File, error) {
		if err := check("open"); err != nil && flag&os.O_CREATE != 0 {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		return real.open(name, flag, perm)
	}
	d.writeAt = func(f *os.File, b []byte, off int64) (int, error) {
		if err := check("write"); err != nil { // a full disk takes a part of it
			n, _ := real.writeAt(f, b[:len(b)/2], off)
			return n, &os.PathError{Op: "write", Path: f.Name(), Err: err}
		}
		return real.writeAt(f, b, off)
	}
	d.sync = func(f *os.File) error { return errors.Join(check("sync;"), real.sync(f)) }
	d.rename = func(from, to string) error {
		if err := check("rename"); err != nil {
			return err
		}
		return real.rename(from, to)
	}
	d.truncate = func(f *os.File, size int64) error {
		if err := check("truncate"); err != nil {
			return err
		}
		return real.truncate(f, size)
	}
	d.syncDir = func(dir string) error { return errors.Join(check("syncDir"), real.syncDir(dir)) }
	return d
}

// Whatever the disk refuses: the peer is told A700 with the reason, nothing of the object is kept, and it works again
// as soon as the disk does, with everything that was answered before.
func TestDiskFails(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("these error numbers are those of unix")
	}
	for _, c := range []struct {
		op      string
		err     error
		comment string
	}{
		{"write", syscall.ENOSPC, "disk full: no space left in data folder"},
		{"write truncate", syscall.ENOSPC, "disk full: no space left in data folder"},
		{"write", syscall.EDQUOT, "disk full"},
		{"write", syscall.EROFS, "read-only"},
		{"write truncate open", syscall.EROFS, "read-only"},
		{"sync;", syscall.EIO, "disk error"},
		{"sync; truncate", syscall.EIO, "disk error"},
		{"sync; open", syscall.EIO, "disk error"},
		{"sync; write open truncate", syscall.EIO, "disk error"},
		{"open", syscall.EMFILE, "too many open files"},
		{"open", syscall.ENOSPC, "disk full"},
		{"syncDir", syscall.EIO, "disk error"},
		{"rename", syscall.ENOSPC, "disk full"},
	} {
		for _, size := range []int{2000, 2 << 20} {
			t.Run(fmt.Sprintf("%s/%s/%d", c.op, c.err, size), func(t *testing.T) {
				dir := t.TempDir()
				d := newFaultyDisk()
				o := Options{disk: &d.disk, largeObject: 1 << 20, segmentSize: 64 << 10}
				s := openStore(t, dir, o)
				before := newObject(testStudy, "1.2.1", 2000, 1)
				mustPut(t, s, before)
				refused := newObject(testStudy, "1.2.2", size, 2)

				d.fail.Store(&fault{c.op, c.err})
				failed := 0
				for range 3 {
					err := refused.put(s)
					if err == nil {
						break // not an operation that this object needs
					}
					failed++
					var status *dimse.Status
					if !errors.As(err, &status) || status.Code != dimse.StatusOutOfResources || !strings.Contains(status.Comment, c.comment) {
						t.Fatalf("got %v, want status A700 with %q", err, c.comment)
					}
					if !errors.Is(err, c.err) {
						t.Errorf("%v hides its cause", err)
					}
					if _, err := s.Instance(refused.uid()); !errors.Is(err, ErrNotFound) {
						t.Errorf("the refused instance is visible: %v", err)
					}
				}
				needed := strings.Contains(c.op, "write") || strings.Contains(c.op, "sync;") || size > 1<<20
				if needed && failed != 3 {
					t.Errorf("%d of 3 refused", failed)
				}
				wantObject(t, s, before)

				d.fail.Store(nil)
				after := newObject(testStudy, "1.2.3", size, 3)
				mustPut(t, s, after)
				wantObject(t, s, before)
				wantObject(t, s, after)
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
					t.Fatal(err)
				}
				s = openStore(t, dir, Options{})
				if len(s.Damage()) > 0 {
					t.Errorf("damage %v", s.Damage())
				}
				wantObject(t, s, before)
				wantObject(t, s, after)
				if _, err := s.Instance(refused.uid()); failed == 3 && !errors.Is(err, ErrNotFound) {
					t.Errorf("the refused instance came back after a restart: %v", err)
				}
				mustPut(t, s, refused)
			})
		}
	}
}

// A step that was refused by the disk has not happened, neither now nor after a restart; done again it happens once.
func TestFailedStepLeavesNoTrace(t *testing.T) {
	dir := t.TempDir()
	d := newFaultyDisk()
	s := openStore(t, dir, Options{disk: &d.disk})
	if err := s.Commit(ctx, Change{Jobs: []Job{{Key: "a", Queue: "q"}}}); err != nil {
		t.Fatal(err)
	}
	d.fail.Store(&fault{"sync; truncate", syscall.EIO})
	if err := s.Done(ctx, "a", Change{States: []State{{Study: testStudy, Subject: "x", Name: "computed"}}}); err == nil {
		t.Fatal("Done without a disk")
	}
	d.fail.Store(nil)
	if err := s.Retry(ctx, "a", s.now(), "disk"); err != nil {
		t.Fatal(err)
	}
	if s.log.num == 1 {
		t.Error("the log goes on in the segment whose sync failed")
	}
	want := readAll(t, s)
	if len(want.Jobs["q"]) != 1 || want.Jobs["q"][0].Tries != 1 || len(want.Studies) != 0 {
		t.Fatalf("%+v", want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, openStore(t, dir, Options{}))
	if len(got.Jobs["q"]) != 1 || got.Jobs["q"][0].Tries != 1 || len(got.Studies) != 0 {
		t.Errorf("after a restart: %+v", got)
	}
}

// A cutDisk remembers which bytes were not synced, and at one sync it keeps a copy of the folder as a power cut at that
// moment might leave it: of the sectors that were not synced some are there and some are not.
type cutDisk struct {
	disk
	mu       sync.Mutex
	rnd      *rand.Rand
	unsynced map[string][][2]int64
	after    int // syncs until the cut
	to       string
	cut      atomic.Bool
}

func newCutDisk(seed uint64, after int, to string) *cutDisk {
	c := &cutDisk{disk: realDisk(), rnd: rand.New(rand.NewPCG(seed, 1)), unsynced: map[string][][2]int64{}, after: after, to: to}
	real := c.disk
	c.writeAt = func(f *os.File, b []byte, off int64) (int, error) {
		c.mu.Lock()
		c.unsynced[f.Name()] = append(c.unsynced[f.Name()], [2]int64{off, off + int64(len(b))})
		c.mu.Unlock()
		return real.writeAt(f, b, off)
	}
	c.sync = func(f *os.File) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if filepath.Ext(f.Name()) == ".seg" {
			if c.after--; c.after == 0 {
				c.snapshot(f.Name())
			}
		}
		delete(c.unsynced, f.Name())
		return nil
	}
	c.syncDir = func(string) error { return nil }
	return c
}

func (c *cutDisk) snapshot(name string) {
	dir := filepath.Dir(name)
	list, err := os.ReadDir(dir)
	if err != nil {
		panic(err)
	}
	for _, de := range list {
		from := filepath.Join(dir, de.Name())
		b, err := os.ReadFile(from)
		if err != nil {
			panic(err)
		}
		for _, w := range c.unsynced[from] {
			for at := w[0]; at < w[1]; at = (at/512 + 1) * 512 {
				if c.rnd.IntN(2) == 0 {
					clear(b[at:min(w[1], (at/512+1)*512)])
				}
			}
		}
		if u := c.unsynced[from]; len(u) > 0 && c.rnd.IntN(2) == 0 { // and the size may be any between
			b = b[:u[0][0]+c.rnd.Int64N(int64(len(b))-u[0][0]+1)]
		}
		if err := os.WriteFile(filepath.Join(c.to, de.Name()), b, 0o600); err != nil {
			panic(err)
		}
	}
	c.cut.Store(true)
}

func TestPowerCut(t *testing.T) {
	for seed := range uint64(40) {
		after := t.TempDir()
		if err := os.Mkdir(filepath.Join(after, logDir), 0o700); err != nil {
			t.Fatal(err)
		}
		d := newCutDisk(seed, 2+int(seed), filepath.Join(after, logDir))
		s := openStore(t, t.TempDir(), Options{disk: &d.disk, segmentSize: 40 << 10, prepared: int64(seed%2) * 30 << 10, quiet: time.Nanosecond})
		var mu sync.Mutex
		var answered []object
		var wg sync.WaitGroup
		for w := range 6 {
			wg.Go(func() {
				for n := 0; !d.cut.Load(); n++ {
					o := newObject(testStudy, fmt.Sprintf("1.2.%d.%d", w, n), 1+int(seed)*100+n*500, uint64(n))
					err := o.put(s)
					mu.Lock()
					if err == nil && !d.cut.Load() { // the answer left before the cut
						answered = append(answered, o)
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, after, Options{})
		if len(s.Damage()) > 0 {
			t.Errorf("seed %d: an unfinished group is called damage: %v", seed, s.Damage())
		}
		for _, o := range answered {
			wantObject(t, s, o)
		}
		st, err := s.Study(testStudy)
		if err != nil && !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
		for _, in := range st.Instances { // what was not answered is whole or not there
			if err := s.WriteFile(io.Discard, in.SOPInstanceUID); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
