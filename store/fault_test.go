package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
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
	"github.com/radnode/radnode/dimse/dicom"
)

// A faultyDisk is the real one until told otherwise.
type faultyDisk struct {
	disk
	fail atomic.Pointer[fault]

	mu    sync.Mutex
	sick  map[*os.File]bool // whose sync failed
	again []string          // written or synced after that
}

// used notes a sync that failed, and what is written or synced after one.
func (d *faultyDisk) used(f *os.File, failed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sick[f] {
		d.again = append(d.again, f.Name())
	}
	if failed {
		d.sick[f] = true
	}
}

func (d *faultyDisk) usedAgain() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.again
}

type fault struct {
	op  string // open, write, sync;, rename, truncate, syncDir, remove, read
	err error
}

func newFaultyDisk() *faultyDisk {
	d := &faultyDisk{disk: realDisk(), sick: map[*os.File]bool{}}
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
		d.used(f, false)
		if err := check("write"); err != nil { // a full disk takes a part of it
			n, _ := real.writeAt(f, b[:len(b)/2], off)
			return n, &os.PathError{Op: "write", Path: f.Name(), Err: err}
		}
		return real.writeAt(f, b, off)
	}
	d.readAt = func(f *os.File, b []byte, off int64) (int, error) {
		if err := check("read"); err != nil {
			return 0, &os.PathError{Op: "read", Path: f.Name(), Err: err}
		}
		return real.readAt(f, b, off)
	}
	d.sync = func(f *os.File) error {
		err := errors.Join(check("sync;"), real.sync(f))
		d.used(f, err != nil)
		return err
	}
	d.remove = func(name string) error {
		if err := check("remove"); err != nil {
			return err
		}
		return real.remove(name)
	}
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
	type refusal struct {
		op      string
		err     error
		comment string
	}
	cases := []refusal{
		{"write truncate", syscall.ENOSPC, "disk full: no space left in data folder"},
		{"write", syscall.EROFS, "read-only"},
		{"write truncate open remove", syscall.EROFS, "read-only"},
		{"write", syscall.EIO, "disk error"},
		{"sync;", syscall.EIO, "disk error"},
		{"sync; truncate", syscall.EIO, "disk error"},
		{"sync; open", syscall.EIO, "disk error"},
		{"sync; remove", syscall.EIO, "disk error"},
		{"sync; write open truncate", syscall.EIO, "disk error"},
		{"open", syscall.EMFILE, "too many open files"},
		{"open", syscall.ENFILE, "too many open files"},
		{"open", syscall.EACCES, "no permission"},
		{"syncDir", syscall.EIO, "disk error"},
		{"syncDir", syscall.EMFILE, "too many open files"},
		{"rename", syscall.EIO, "disk error"},
	}
	for _, op := range []string{"open", "write", "sync;", "rename"} {
		cases = append(cases, refusal{op, syscall.ENOSPC, "disk full: no space left in data folder"},
			refusal{op, syscall.EDQUOT, "disk full: quota of the data folder is used up"})
	}
	for _, c := range cases {
		for _, size := range []int{2000, 2 << 20} {
			t.Run(fmt.Sprintf("%s/%s/%d", c.op, c.err, size), func(t *testing.T) {
				dir := t.TempDir()
				d := newFaultyDisk()
				book := new(logBook)
				o := Options{disk: &d.disk, largeObject: 1 << 20, segmentSize: 64 << 10, Logger: book.logger(), calm: time.Nanosecond}
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
				if list, _ := os.ReadDir(filepath.Join(dir, largeDir)); failed == 3 && len(list) > 0 && !strings.Contains(c.op, "remove") && !s.log.unsealed.Load() {
					t.Errorf("left of the refused object: %v", list)
				}
				told := func(how string) {
					t.Helper()
					log, large := strings.Count(book.String(), how+"the log cannot"), strings.Count(book.String(), how+"files of large objects cannot")
					if failed > 0 && (log > 1 || large > 1 || log+large == 0) {
						t.Errorf("%q is told %d times of the log, %d times of large objects:\n%s", how, log, large, book.String())
					}
				}
				told("store: ")
				needed := strings.Contains(c.op, "write") || strings.Contains(c.op, "sync;") || size > 1<<20
				if needed && failed != 3 {
					t.Errorf("%d of 3 refused", failed)
				}
				wantObject(t, s, before)

				d.fail.Store(nil)
				time.Sleep(time.Microsecond)
				after := newObject(testStudy, "1.2.3", size, 3)
				mustPut(t, s, after)
				told("store: over: ")
				if again := d.usedAgain(); len(again) > 0 {
					t.Errorf("used after a sync of it had failed: %v", again)
				}
				if list, _ := os.ReadDir(filepath.Join(dir, largeDir)); len(list) > 1 && !strings.Contains(c.op, "remove") {
					t.Errorf("left of the refused object: %v", list)
				}
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

// A disk that fails for a night leaves no heap of segments behind and is not tried all the time, and the numbers are used again.
func TestSickDiskLeavesLittle(t *testing.T) {
	for _, c := range []struct {
		op   string
		most int // files in the log afterwards
	}{{"open", 2}, {"write", 2}, {"sync; write", 2}, {"syncDir", 2}, {"sync; write remove", 3 + sickLimit}, {"syncDir remove", 3 + sickLimit}} {
		t.Run(c.op, func(t *testing.T) {
			dir := t.TempDir()
			d := newFaultyDisk()
			s := openStore(t, dir, Options{disk: &d.disk, segmentSize: 1000})
			before, after := newObject(testStudy, "1.2.1", 2000, 1), newObject(testStudy, "1.2.2", 2000, 2)
			mustPut(t, s, before)
			d.fail.Store(&fault{c.op, syscall.EIO})
			for range 200 {
				if err := newObject(testStudy, "1.2.3", 2000, 3).put(s); err == nil {
					t.Fatal("the disk does not fail")
				}
			}
			d.fail.Store(nil)
			deadline := time.Now().Add(time.Minute)
			for after.put(s) != nil {
				if time.Now().After(deadline) {
					t.Fatal("does not go on")
				}
				time.Sleep(10 * time.Millisecond)
			}
			list, err := os.ReadDir(filepath.Join(dir, logDir))
			if err != nil || len(list) > c.most {
				t.Errorf("%d files in the log, %v; want %d at most", len(list), err, c.most)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
				t.Fatal(err)
			}
			s = openStore(t, dir, Options{})
			if d := s.Damage(); len(d) > 0 {
				t.Errorf("damage %v", d)
			}
			wantObject(t, s, before)
			wantObject(t, s, after)
			if _, err := s.Instance("1.2.3"); !errors.Is(err, ErrNotFound) {
				t.Errorf("a refused instance came back: %v", err)
			}
		})
	}
}

// Syncs that fail while files can be created cost a segment each, and are tried less and less often.
func TestSyncsFailInARow(t *testing.T) {
	d := newFaultyDisk()
	dir := t.TempDir()
	real := d.disk.sync
	d.disk.sync = func(f *os.File) error {
		if st, err := f.Stat(); err == nil && st.Size() > segmentHeaderSize && d.fail.Load() != nil {
			return errors.Join(syscall.EIO, real(f))
		}
		return real(f)
	}
	s := openStore(t, dir, Options{disk: &d.disk})
	d.fail.Store(&fault{})
	for range 100 {
		if err := newObject(testStudy, "1.2.3", 2000, 3).put(s); err == nil {
			t.Fatal("the disk does not fail")
		}
	}
	if list, err := os.ReadDir(filepath.Join(dir, logDir)); err != nil || len(list) > sickLimit+4 {
		t.Errorf("%d segments after 100 failed syncs, %v", len(list), err)
	}
}

// A log that cannot be read at start is left as it is: the disk may be well again at the next.
func TestReadErrorAtStart(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{segmentSize: 3000})
	var objects []object
	for i := range 5 {
		objects = append(objects, newObject(testStudy, fmt.Sprintf("1.2.%d", i), 2000, uint64(i)))
	}
	mustPut(t, s, objects...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
		t.Fatal(err)
	}
	d := newFaultyDisk()
	d.fail.Store(&fault{"read", syscall.EIO})
	if _, err := Open(dir, Options{disk: &d.disk}); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), segmentName(1)) {
		t.Fatalf("got %v, want an error that names the file", err)
	}
	s = openStore(t, dir, Options{})
	for _, o := range objects {
		wantObject(t, s, o)
	}
	if d := s.Damage(); len(d) > 0 {
		t.Errorf("damage %v", d)
	}
}

// While a disk hangs, whoever stores waits and nobody else does; when it comes back, all of them have their answer.
func TestDiskHangs(t *testing.T) {
	d := newFaultyDisk()
	hang, hanging := make(chan struct{}), make(chan struct{}, 100)
	var hangs atomic.Bool
	real := d.disk.sync
	d.disk.sync = func(f *os.File) error {
		if hangs.Load() {
			hanging <- struct{}{}
			<-hang
		}
		return real(f)
	}
	s := openStore(t, t.TempDir(), Options{disk: &d.disk, largeObject: 1 << 20})
	before := newObject(testStudy, "1.2.1", 2000, 1)
	mustPut(t, s, before)
	hangs.Store(true)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	server := &dimse.Server{AETitle: "RADNODE", Storage: s}
	go func() { ended <- server.Serve(serving, l) }()
	defer func() {
		stop()
		<-ended
	}()
	dial := func() *dimse.Client {
		timeout, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		c, err := dimse.Dial(timeout, dimse.Peer{AETitle: "RADNODE", Address: l.Addr().String()}, dimse.DialOptions{CallingAET: "CT", Proposals: []dimse.Proposal{
			{SOPClass: dicom.CTImageStorage, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}},
			{SOPClass: dicom.VerificationSOPClass, TransferSyntaxes: []string{dicom.ImplicitVRLittleEndian}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	answers := make(chan error, 4)
	var objects []object
	for i := range cap(answers) {
		o := newObject(testStudy, fmt.Sprintf("1.3.%d", i), 1000+i%2*3<<20, uint64(i))
		objects = append(objects, o)
		c := dial()
		defer c.Abort()
		go func() {
			status, err := c.Store(ctx, o.meta, bytes.NewReader(o.data))
			if err == nil && status.Code != dimse.StatusSuccess {
				err = &status
			}
			answers <- err
		}()
	}
	<-hanging
	c := dial()
	for range 20 {
		timeout, cancel := context.WithTimeout(ctx, time.Minute)
		if err := c.Echo(timeout); err != nil {
			t.Errorf("C-ECHO while the disk hangs: %v", err)
		}
		cancel()
		wantObject(t, s, before)
		time.Sleep(5 * time.Millisecond)
	}
	c.Abort()
	select {
	case err := <-answers:
		t.Errorf("answered (%v) while the disk hangs", err)
	default:
	}
	close(hang)
	for range cap(answers) {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	for _, o := range objects {
		got, err := s.OpenInstance(o.uid())
		if err != nil {
			t.Fatal(err)
		}
		o.meta = got.Meta()
		if err := sameObject(got, o); err != nil {
			t.Error(err)
		}
	}
}
