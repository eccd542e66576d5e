package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

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
