package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
)

// A fakeSpace is a file system of any size with a clock.
type fakeSpace struct {
	disk
	total, free atomic.Int64
	err         atomic.Pointer[error]
	clock       atomic.Int64 // nanoseconds
}

func newFakeSpace(total, free int64) *fakeSpace {
	f := &fakeSpace{disk: realDisk()}
	f.total.Store(total)
	f.free.Store(free)
	f.clock.Store(time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC).UnixNano())
	f.space = func(string) (int64, int64, error) {
		if err := f.err.Load(); err != nil {
			return 0, 0, *err
		}
		return f.total.Load(), f.free.Load(), nil
	}
	f.reserve = func(*os.File, int64) {}
	f.allocated = func(*os.File) int64 { return 0 }
	return f
}

func (f *fakeSpace) now() time.Time { return time.Unix(0, f.clock.Load()).UTC() }

// set changes the free space and lets so much time pass that it is noticed.
func (f *fakeSpace) set(free int64) {
	f.free.Store(free)
	f.wait(2 * gaugeEvery)
}

func (f *fakeSpace) wait(d time.Duration) { f.clock.Add(int64(d)) }

func (f *fakeSpace) options(book *logBook, reserve int64) Options {
	return Options{disk: &f.disk, now: f.now, Logger: book.logger(), Reserve: reserve, largeObject: 1 << 20, calm: time.Nanosecond, prepared: 1}
}

// A countingReader counts what is read of it.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

func wantRefused(t *testing.T, err error, comment string) {
	t.Helper()
	var status *dimse.Status
	if !errors.As(err, &status) || status.Code != dimse.StatusOutOfResources || status.Comment != comment || len(comment) > 64 {
		t.Fatalf("got %v, want status A700 with %q", err, comment)
	}
}

// Below the reserve new objects are refused before they are read, what is queued goes on, and what is here already is
// answered Success. The log tells of it twice, however many are refused.
func TestReserve(t *testing.T) {
	book := new(logBook)
	f := newFakeSpace(100e9, 50e9)
	s := openStore(t, t.TempDir(), f.options(book, 1e9))
	small, large := newObject(testStudy, "1.2.1", 2000, 1), newObject(testStudy, "1.2.2", 3<<20, 2)
	mustPut(t, s, small, large)
	if err := s.Commit(ctx, Change{Jobs: []Job{{Key: "a", Queue: "q"}}}); err != nil {
		t.Fatal(err)
	}

	const comment = "disk nearly full: 0.9 GB left, 1.0 GB kept for queued work"
	f.set(900e6)
	for i := range 100 {
		o := newObject(testStudy, fmt.Sprintf("1.3.%d", i), 3<<20, uint64(i))
		body := &countingReader{r: bytes.NewReader(o.data)}
		wantRefused(t, s.Put(ctx, o.meta, body), comment)
		if body.n > 0 {
			t.Fatalf("%d bytes were read of an object that cannot be kept", body.n)
		}
	}
	other := newObject(testStudy, "1.2.1", 5000, 9)
	wantRefused(t, other.put(s), comment) // other bytes under a known UID want space too
	mustPut(t, s, small, large)           // the same do not
	for _, o := range []object{small, large} {
		wantObject(t, s, o)
		if in, err := s.Instance(o.uid()); err != nil || in.Conflicts > 0 {
			t.Errorf("%+v, %v", in, err)
		}
	}
	if sp := s.Space(); !sp.Refusing || sp.Reason != comment || sp.Free != 900e6 || sp.Reserve != 1e9 || sp.Total != 100e9 {
		t.Errorf("%+v", sp)
	}
	if err := s.Done(ctx, "a", Change{States: []State{{Study: testStudy, Subject: "x", Name: "computed"}}, Jobs: []Job{{Key: "b", Queue: "q"}}}); err != nil {
		t.Errorf("what is queued does not go on: %v", err)
	}
	list, err := os.ReadDir(filepath.Join(s.dir, largeDir))
	if err != nil || len(list) != 1 {
		t.Errorf("%d files of large objects, %v", len(list), err)
	}

	f.set(1050e6) // not yet, or it would go back and forth
	if err := newObject(testStudy, "1.4.1", 2000, 4).put(s); err == nil {
		t.Error("it takes new objects again just above the reserve")
	}
	f.set(1200e6)
	mustPut(t, s, newObject(testStudy, "1.4.1", 2000, 4), other)
	if sp := s.Space(); sp.Refusing || sp.Reason != "" {
		t.Errorf("%+v", sp)
	}
	for text, want := range map[string]int{"disk nearly full": 1, "there is room again": 1, "refused=102": 1, "level=ERROR": 1} {
		if got := strings.Count(book.String(), text); got != want {
			t.Errorf("the log says %q %d times, want %d:\n%s", text, got, want, book.String())
		}
	}
	if strings.Contains(book.String(), "P1") {
		t.Error("the log names a patient")
	}
}

// A large object whose end would come out of the reserve is refused midway, and nothing of it is left.
func TestReserveMidway(t *testing.T) {
	f := newFakeSpace(100e9, 2e9)
	dir := t.TempDir()
	var base atomic.Int64
	base.Store(1e9 + 30e6)
	f.space = func(string) (int64, int64, error) {
		free := base.Load()
		list, _ := os.ReadDir(filepath.Join(dir, largeDir))
		for _, de := range list {
			if info, err := de.Info(); err == nil {
				free -= info.Size()
			}
		}
		return 100e9, free, nil
	}
	s := openStore(t, dir, f.options(new(logBook), 1e9))
	o := newObject(testStudy, "1.2.1", 2<<20, 1)
	body := &countingReader{r: io.MultiReader(bytes.NewReader(o.data), io.LimitReader(blanks{}, 200e6))}
	err := s.Put(ctx, o.meta, body)
	var status *dimse.Status
	if !errors.As(err, &status) || status.Code != dimse.StatusOutOfResources || !strings.Contains(status.Comment, "disk nearly full") {
		t.Fatalf("got %v, want A700", err)
	}
	if body.n < 20e6 || body.n > 45e6 {
		t.Errorf("refused after %d bytes where 30 MB were left", body.n)
	}
	if list, _ := os.ReadDir(filepath.Join(s.dir, largeDir)); len(list) > 0 {
		t.Errorf("left behind: %v", list)
	}
	f.wait(time.Minute) // the space is back
	base.Add(200e6)
	mustPut(t, s, o)
}

type blanks struct{}

func (blanks) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// What is reserved for the segment and not written yet counts as free, and no more is reserved than there is above the reserve.
func TestSegmentsReservation(t *testing.T) {
	f := newFakeSpace(100e9, 50e9)
	var asked []int64
	f.reserve = func(_ *os.File, size int64) { asked = append(asked, size) }
	f.allocated = func(*os.File) int64 { return 256 << 20 }
	book := new(logBook)
	dir := t.TempDir()
	s := openStore(t, dir, f.options(book, 1e9))
	mustPut(t, s, newObject(testStudy, "1.2.1", 2000, 1))
	if len(asked) != 1 || asked[0] != 256<<20 {
		t.Fatalf("reserved %v", asked)
	}
	f.set(900e6)
	mustPut(t, s, newObject(testStudy, "1.2.2", 2000, 2))
	if sp := s.Space(); sp.Free <= 900e6 || sp.Free >= 900e6+256<<20 {
		t.Errorf("%+v", sp)
	}
	f.set(400e6) // the index cannot use what is reserved for the log
	if err := newObject(testStudy, "1.2.3", 2000, 3).put(s); err == nil {
		t.Error("taken where less than half of the reserve is outside the log")
	}

	f = newFakeSpace(100e9, 1e9+50e6)
	asked = nil
	f.reserve = func(_ *os.File, size int64) { asked = append(asked, size) }
	openStore(t, t.TempDir(), f.options(book, 1e9))
	if len(asked) != 1 || asked[0] != 25e6 {
		t.Errorf("reserved %v where 50 MB are above the reserve", asked)
	}
}

func TestDefaultReserve(t *testing.T) {
	for total, want := range map[int64]int64{
		8 << 40: 1 << 30, 100 << 30: 1 << 30, 10 << 30: 512 << 20, 1 << 30: 64 << 20, 64 << 20: 16 << 20, 0: 0,
	} {
		if got := defaultReserve(total); got != want {
			t.Errorf("of %d: %d, want %d", total, got, want)
		}
	}
}

// The end of the disk is foreseen from the rate of the last minutes and told of once a day before, once an hour before, and
// once when it is out of sight.
func TestForecast(t *testing.T) {
	book := new(logBook)
	f := newFakeSpace(1000e9, 0)
	f.free.Store(801e9)
	s := openStore(t, t.TempDir(), f.options(book, 1e9))
	run := func(d time.Duration, perSecond int64) {
		for range d / (10 * time.Second) {
			f.wait(10 * time.Second)
			f.free.Add(-10 * perSecond)
			s.gauge.measure(true)
		}
	}
	said := func(day, hour, over int) {
		t.Helper()
		for text, want := range map[string]int{"within a day": day, "within an hour": hour, "no end of the disk": over} {
			if got := strings.Count(book.String(), text); got != want {
				t.Errorf("the log says %q %d times, want %d:\n%s", text, got, want, book.String())
			}
		}
	}
	run(time.Hour, 1e6) // 800 GB at 1 MB/s are nine days
	if sp := s.Space(); sp.BytesPerSecond != 1e6 || sp.FullIn.Round(time.Hour) != 221*time.Hour {
		t.Errorf("%+v", sp)
	}
	said(0, 0, 0)
	run(2*time.Hour, 20e6)
	said(1, 0, 0)
	want := float64(f.free.Load()-1e9) / 20e6
	if sp := s.Space(); sp.BytesPerSecond != 20e6 || sp.FullIn != time.Duration(want*1e9) {
		t.Errorf("%+v, want %v s", sp, want)
	}
	run(20*time.Minute, 300e6)
	said(1, 1, 0)
	f.free.Store(500e9)
	run(30*time.Minute, 0)
	said(1, 1, 1)
	if sp := s.Space(); sp.FullIn != 0 || sp.BytesPerSecond != 0 {
		t.Errorf("%+v", sp)
	}
}

// A system that does not tell its free space is used until it is full.
func TestSpaceUnknown(t *testing.T) {
	f := newFakeSpace(0, 0)
	f.err.Store(&errors.ErrUnsupported)
	book := new(logBook)
	s := openStore(t, t.TempDir(), f.options(book, 1e9))
	mustPut(t, s, newObject(testStudy, "1.2.1", 2000, 1))
	if sp := s.Space(); sp != (Space{}) {
		t.Errorf("%+v", sp)
	}
	if strings.Contains(book.String(), "measure") {
		t.Error(book.String())
	}
	real, err := Open(t.TempDir(), Options{Logger: book.logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer real.Close()
	if sp := real.Space(); sp.Total <= 0 || sp.Free <= 0 || sp.Free > sp.Total || sp.Reserve != defaultReserve(sp.Total) {
		t.Errorf("of this machine: %+v", sp)
	}
}
