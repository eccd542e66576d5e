package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// leftStore makes a store of which some studies have left, so that there is something to compact in segments that hold all
// kinds of records.
func leftStore(t testing.TB, dir string, d *disk) *Store {
	t.Helper()
	s := openStore(t, dir, Options{disk: d, segmentSize: 10 << 10, largeObject: 6000, prepared: -1, compact: -1})
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for i := range 12 {
		study := fmt.Sprintf("1.2.%d", i%6)
		mustPut(t, s, newObject(study, fmt.Sprintf("%s.%d", study, i), 2000, uint64(i)))
		if i%5 == 0 {
			mustPut(t, s, newObject(study, fmt.Sprintf("%s.%d", study, i), 1000, 99), newObject(study, fmt.Sprintf("%s.%d", study, i), 1000, 99))
		}
		key := fmt.Sprintf("j%d", i)
		made := newObject(study, fmt.Sprintf("%s.9.%d", study, i), 700, uint64(i))
		other := fmt.Sprintf("1.2.%d", (i+1)%6)
		c := Change{
			Jobs:      []Job{{Key: key, Queue: "compute", Study: study, RunAt: at, Payload: []byte(key)}, {Key: key + "'", Queue: "deliver", Study: other, RunAt: at}},
			States:    []State{{Study: study, Subject: "s", Name: key, At: at}, {Study: other, Subject: "o", Name: key, At: at}},
			Instances: []NewInstance{newComputed(made, study), newComputed(newObject(other, fmt.Sprintf("%s.8.%d", other, i), 700, uint64(i)), other)},
		}
		if err := s.Commit(ctx, c); err != nil {
			t.Fatal(err)
		}
		for range i % 4 {
			if err := s.Begin(ctx, key); err != nil {
				t.Fatal(err)
			}
		}
		if i%4 == 3 {
			if err := s.GiveBack(ctx, key); err != nil {
				t.Fatal(err)
			}
		}
		if i%2 == 0 {
			if err := s.Done(ctx, key, Change{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustPut(t, s, newObject("1.2.0", "1.2.0.100", 300<<10, 1), newObject("1.2.5", "1.2.5.100", 300<<10, 1), newObjectOf("P2", "1.2.5", "1.2.5.101", 900, 1))
	for i := range 4 {
		if err := s.Leave(ctx, fmt.Sprintf("1.2.%d", i), "age", true); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Discard(ctx, "wrong", "1.2.5.101"); err != nil {
		t.Fatal(err)
	}
	if err := s.flushIndex(); err != nil {
		t.Fatal(err)
	}
	return s
}

// emptiedStore makes a store of whose segments hardly anything is left, so that neighbours are joined.
func emptiedStore(t testing.TB, dir string, d *disk) *Store {
	t.Helper()
	s := openStore(t, dir, Options{disk: d, segmentSize: 16 << 10, largeObject: 12 << 10, prepared: -1, compact: -1, small: 4 << 10})
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for i := range 8 { // a segment and a bit each
		study, rest := fmt.Sprintf("1.2.%d", i), fmt.Sprintf("1.3.%d", i%3)
		mustPut(t, s, newObject(study, study+".1", 9000, uint64(i)), newObject(rest, fmt.Sprintf("%s.%d", rest, i), 400, uint64(i)),
			newObject(rest, fmt.Sprintf("%s.%d", rest, i), 300, 99), newObject(study, study+".2", 9000, uint64(i)))
		key := fmt.Sprintf("j%d", i)
		made := newObject(rest, fmt.Sprintf("%s.9.%d", rest, i), 300, uint64(i))
		if err := s.Commit(ctx, Change{
			Jobs:      []Job{{Key: key, Queue: "compute", Study: rest, RunAt: at, Serial: "one"}, {Key: key + "'", Queue: "compute", Study: study, RunAt: at}},
			Instances: []NewInstance{newComputed(made, rest)}, States: []State{{Study: rest, Subject: "s", Name: key, At: at}},
		}); err != nil {
			t.Fatal(err)
		}
		if i != 4 { // in the midst of the others stays one that is not small
			if err := s.Leave(ctx, study, "age", true); err != nil {
				t.Fatal(err)
			}
		}
	}
	mustPut(t, s, newObject("1.2.99", "1.2.99.1", 12000, 1), newObject("1.2.99", "1.2.99.2", 12000, 1)) // nobody appends to the others any more
	if err := s.flushIndex(); err != nil {
		t.Fatal(err)
	}
	return s
}

// compactedFiles lists the files of compacted segments.
func compactedFiles(t interface{ Fatal(...any) }, dir string) []string {
	list, err := filepath.Glob(filepath.Join(dir, logDir, "?????????????.seg")) // a digit for the generation, see segmentName
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// readBytes is readAll with the digests of what is read, which are to be those that are kept.
func readBytes(t testing.TB, s *Store) contents {
	t.Helper()
	c := readAll(t, s)
	c.Usage.Dead = 0
	for _, st := range c.Studies {
		for _, in := range st.Instances {
			if err := s.WriteFile(io.Discard, in.SOPInstanceUID); err != nil {
				t.Error(err)
			}
			list, err := s.Conflicts(in.SOPInstanceUID)
			if err != nil || len(list) != in.Conflicts {
				t.Errorf("conflicts of %s: %d, %v", in.SOPInstanceUID, len(list), err)
			}
			for _, e := range list {
				o, err := s.OpenConflict(in.SOPInstanceUID, e.Digest)
				if err != nil {
					t.Error(err)
					continue
				}
				b, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size))
				if sha256.Sum256(b) != e.Digest || err != nil {
					t.Errorf("evidence beside %s: other bytes, %v", in.SOPInstanceUID, err)
				}
				o.Close()
			}
		}
	}
	return c
}

// watchedDisk calls before with the number of each operation that changes something.
func watchedDisk(before func(op string, k int) error) *disk {
	d := fastDisk()
	real := *d
	n := 0
	step := func(op string) error {
		n++
		return before(op, n)
	}
	d.open = func(name string, flag int, perm os.FileMode) (*os.File, error) {
		if flag&os.O_CREATE != 0 {
			if err := step("open"); err != nil {
				return nil, &os.PathError{Op: "open", Path: name, Err: err}
			}
		}
		return real.open(name, flag, perm)
	}
	d.writeAt = func(f *os.File, b []byte, off int64) (int, error) {
		half, err := real.writeAt(f, b[:len(b)/2], off)
		if err != nil {
			return half, err
		}
		if err := step("write"); err != nil {
			return half, err
		}
		n, err := real.writeAt(f, b[half:], off+int64(half))
		return half + n, err
	}
	d.sync = func(*os.File) error { return step("sync") }
	d.syncDir = func(string) error { return step("syncDir") }
	d.rename = func(from, to string) error {
		if err := step("rename"); err != nil {
			return err
		}
		return real.rename(from, to)
	}
	d.remove = func(name string) error {
		if err := step("remove"); err != nil {
			return err
		}
		return real.remove(name)
	}
	return d
}

// A kill in the middle of compaction, at each of its operations: everything is there at the next start, with the index and
// without, and nothing superfluous.
func TestCompactionIsKilled(t *testing.T) {
	t.Run("half of it left", func(t *testing.T) { testCompactionIsKilled(t, leftStore, 3) })
	t.Run("joined", func(t *testing.T) { testCompactionIsKilled(t, emptiedStore, 2) })
}

func testCompactionIsKilled(t *testing.T, fill func(testing.TB, string, *disk) *Store, files int) {
	dir, root := t.TempDir(), t.TempDir()
	watching := false
	var kills []string
	var index, before []byte // as it is, and as it was before it was changed last
	older := make(map[string][]byte)
	d := watchedDisk(func(op string, k int) error {
		if watching {
			now, err := os.ReadFile(filepath.Join(dir, indexFile))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(now, index) {
				index, before = now, index
			}
			to := filepath.Join(root, fmt.Sprintf("%d-%s", k, op))
			if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			kills = append(kills, to)
			older[to] = before
		}
		return nil
	})
	s := fill(t, dir, d)
	want := readBytes(t, s)
	used, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	watching = true
	if err := s.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	watching = false
	if d := cmp.Diff(want, readBytes(t, s)); d != "" {
		t.Errorf("contents after compaction (-before +after)\n%s", d)
	}
	after, err := s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	rewritten := compactedFiles(t, dir)
	if used.Disk-after.Disk < used.Dead/2 || after.Dead > used.Dead/4 || used.Dead == 0 || len(rewritten) < files {
		t.Errorf("before %+v, after %+v, %d files rewritten: the space did not come back", used, after, len(rewritten))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	kills = append(kills, dir)
	if len(kills) < 20 {
		t.Errorf("only %d kills", len(kills))
	}
	for _, at := range kills {
		for _, index := range []string{"its own", "none", "the one before"} {
			if index == "the one before" && older[at] == nil {
				continue
			}
			to := filepath.Join(t.TempDir(), "x")
			err := os.CopyFS(to, os.DirFS(at))
			switch index {
			case "none":
				err = errors.Join(err, os.Remove(filepath.Join(to, indexFile)))
			case "the one before":
				err = errors.Join(err, os.WriteFile(filepath.Join(to, indexFile), older[at], 0o600))
			}
			if err != nil {
				t.Fatal(err)
			}
			var book logBook
			s := openStore(t, to, Options{compact: -1, Logger: book.logger(), disk: fastDisk()})
			if d := s.Damage(); len(d) > 0 {
				t.Errorf("%s, index %s: damage %v", filepath.Base(at), index, d)
			}
			if d := cmp.Diff(want, readBytes(t, s)); d != "" {
				t.Errorf("%s, index %s: contents (-want +got)\n%s", filepath.Base(at), index, d)
			}
			if index == "its own" && strings.Contains(book.String(), "rebuilding") {
				t.Errorf("%s: the index was not used: %s", filepath.Base(at), book.String())
			}
			seen := map[uint64]bool{}
			list, _ := os.ReadDir(filepath.Join(to, logDir))
			for _, de := range list {
				n, _, ok := parseSegmentName(de.Name())
				if !ok || seen[n] {
					t.Errorf("%s: superfluous: %s", filepath.Base(at), de.Name())
				}
				seen[n] = true
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			_ = os.RemoveAll(to)
		}
	}
}

// A disk that refuses in the middle of compaction: everything stays as it was, the store goes on, and the next try succeeds.
func TestCompactionFails(t *testing.T) {
	t.Run("half of it left", func(t *testing.T) { testCompactionFails(t, leftStore) })
	t.Run("joined", func(t *testing.T) { testCompactionFails(t, emptiedStore) })
}

func testCompactionFails(t *testing.T, fill func(testing.TB, string, *disk) *Store) {
	filled := filepath.Join(t.TempDir(), "filled")
	if err := fill(t, filled, fastDisk()).Close(); err != nil {
		t.Fatal(err)
	}
	for k := 1; ; k++ {
		var fail atomic.Bool
		count, failed, last := 0, "", ""
		d := watchedDisk(func(op string, _ int) error {
			if !fail.Load() {
				return nil
			}
			if op == "syncDir" && last == "remove" {
				op = last // what could not be removed now is removed at the next start
			}
			last = op
			if count++; count == k {
				failed = op
				return syscall.EIO
			}
			return nil
		})
		dir := filepath.Join(t.TempDir(), "x")
		if err := os.CopyFS(dir, os.DirFS(filled)); err != nil {
			t.Fatal(err)
		}
		s := openStore(t, dir, Options{disk: d, compact: -1, prepared: -1, small: 4 << 10})
		want := readBytes(t, s)
		fail.Store(true)
		err := s.Compact(ctx)
		fail.Store(false)
		if failed == "" {
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d operations", k-1)
			return
		}
		if err == nil && failed != "remove" {
			t.Errorf("operation %d (%s) failed and nobody was told", k, failed)
		}
		if d := cmp.Diff(want, readBytes(t, s)); d != "" {
			t.Errorf("operation %d (%s): contents (-want +got)\n%s", k, failed, d)
		}
		mustPut(t, s, newObject("1.2.77", "1.2.77.1", 500, 1))
		if err := s.Compact(ctx); err != nil {
			t.Errorf("operation %d (%s): the next try: %v", k, failed, err)
		}
		want = readBytes(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, dir, Options{compact: -1})
		if d := cmp.Diff(want, readBytes(t, s)); d != "" || len(s.Damage()) > 0 {
			t.Errorf("operation %d (%s): after a restart: damage %v, contents (-want +got)\n%s", k, failed, s.Damage(), d)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Over years the log does not become many small files: what is left of the segments is joined, again and again, and the balance of all
// days is kept.
func TestRestsAreJoined(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 5, 1, 9, 0, 0, 0, time.UTC)
	o := Options{segmentSize: 16 << 10, largeObject: 1 << 20, prepared: -1, compact: -1, small: 6 << 10, disk: fastDisk(), now: func() time.Time { return now }}
	s := openStore(t, dir, o)
	files := func() int {
		list, err := filepath.Glob(filepath.Join(dir, logDir, "*.seg"))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	most := 0
	const days, each = 60, 4
	for day := range days {
		for i := range each {
			study := fmt.Sprintf("1.2.%d.%d", day, i)
			mustPut(t, s, newObject(study, study+".1", 9000, uint64(day)))
			if i > 0 || day%20 > 0 { // a few studies stay
				if err := s.Leave(ctx, study, "age", true); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.Compact(ctx); err != nil {
			t.Fatal(err)
		}
		most = max(most, files())
		now = now.AddDate(0, 0, 1)
	}
	if most > 15 { // of more than a hundred
		t.Errorf("%d files at most, %d at the end", most, files())
	}
	want := readBytes(t, s)
	for _, index := range []bool{true, false} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if !index {
			if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
				t.Fatal(err)
			}
		}
		s = openStore(t, dir, o)
		if d := cmp.Diff(want, readBytes(t, s)); d != "" || len(s.Damage()) > 0 {
			t.Errorf("index %v: damage %v, contents (-want +got)\n%s", index, s.Damage(), d)
		}
		list, err := s.Days()
		if err != nil || len(list) != days {
			t.Fatalf("%d days, %v", len(list), err)
		}
		for i, d := range list {
			left := each
			if i%20 == 0 {
				left--
			}
			if d.Received != each || d.Left["age"] != left {
				t.Errorf("day %s: %+v, %d should have left", d.Date, d, left)
			}
		}
	}
}

// Who reads while a segment is rewritten reads the right bytes, and an object that was opened before it left stays readable.
func TestReadWhileCompacting(t *testing.T) {
	s := leftStore(t, t.TempDir(), fastDisk())
	var open []*Object
	for _, uid := range []string{"1.2.4.4", "1.2.5.5", "1.2.5.100"} {
		o, err := s.OpenInstance(uid)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		open = append(open, o)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				st, err := s.Study("1.2.4")
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.WriteFile(io.Discard, st.Instances[n%len(st.Instances)].SOPInstanceUID); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for n := range 40 {
			study := fmt.Sprintf("1.3.%d", n)
			for i := range 5 {
				mustPut(t, s, newObject(study, fmt.Sprintf("%s.%d", study, i), 3000, uint64(n)))
			}
			if err := s.Leave(ctx, study, "age", false); err != nil {
				t.Error(err)
			}
		}
	})
	for range 20 {
		if err := s.Compact(ctx); err != nil {
			t.Error(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	if err := s.Leave(ctx, "1.2.5", "age", true); err != nil {
		t.Fatal(err)
	}
	if err := s.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	for _, o := range open {
		b, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size))
		if err != nil || sha256.Sum256(b) != o.Digest {
			t.Errorf("%s was open and cannot be read: %v", o.SOPInstanceUID, err)
		}
	}
	if err := s.WriteFile(io.Discard, "1.2.5.5"); !errors.Is(err, ErrNotFound) {
		t.Errorf("what left: %v", err)
	}
}

// Close breaks compaction off, whoever asked for it: nothing of it is left behind, and the next start has everything.
func TestCloseBreaksCompactionOff(t *testing.T) {
	dir := t.TempDir()
	s := leftStore(t, dir, fastDisk())
	want := readBytes(t, s)
	amid, ended := make(chan struct{}), make(chan error)
	go func() {
		once := sync.OnceFunc(func() { close(amid) })
		ended <- s.compact(ctx, func(ctx context.Context, _ int) error {
			once()
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-amid
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := s.Compact(ctx); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if list, _ := filepath.Glob(filepath.Join(dir, logDir, "1*")); len(list) > 0 {
		t.Errorf("there is %v", list)
	}
	s = openStore(t, dir, Options{compact: -1})
	if d := cmp.Diff(want, readBytes(t, s)); d != "" {
		t.Errorf("contents (-before +after)\n%s", d)
	}
}

// A segment of which nothing says where it ends keeps no other one from being compacted.
func TestOneSegmentFailsAlone(t *testing.T) {
	dir := t.TempDir()
	s := leftStore(t, dir, fastDisk())
	list, err := s.log.list()
	if err != nil || len(list) < 5 {
		t.Fatal(list, err)
	}
	flipBit(t, filepath.Join(dir, logDir, segmentName(list[2].id())), 40) // the header says where the one before ends
	if err := s.Compact(ctx); err == nil {
		t.Error("nobody was told")
	}
	rewritten := compactedFiles(t, dir)
	if len(rewritten) < 2 {
		t.Errorf("only %v was compacted", rewritten)
	}
}

// Compaction begins nothing for which there is no room.
func TestCompactionNeedsRoom(t *testing.T) {
	d := fastDisk()
	var free atomic.Int64
	free.Store(1 << 40)
	d.space = func(string) (int64, int64, error) { return 1 << 40, free.Load(), nil }
	dir := t.TempDir()
	s := leftStore(t, dir, d)
	free.Store(100)
	before := readBytes(t, s)
	if err := s.Compact(ctx); err == nil || !strings.Contains(err.Error(), "not enough") {
		t.Errorf("got %v, want a refusal", err)
	}
	if list, _ := filepath.Glob(filepath.Join(dir, logDir, "1*")); len(list) > 0 {
		t.Errorf("there is %v", list)
	}
	free.Store(2000) // what is nearly all dead makes room for the others
	if err := s.Compact(ctx); err == nil || !strings.Contains(err.Error(), "not enough") {
		t.Errorf("got %v, want a refusal", err)
	}
	if list, _ := filepath.Glob(filepath.Join(dir, logDir, "1*")); len(list) == 0 {
		t.Error("nothing was compacted")
	}
	if d := cmp.Diff(before, readBytes(t, s)); d != "" {
		t.Errorf("contents (-before +after)\n%s", d)
	}
	free.Store(1 << 30)
	if err := s.Compact(ctx); err != nil {
		t.Error(err)
	}
}

// It happens by itself, and again for what was rewritten before.
func TestCompactsByItself(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{disk: fastDisk(), segmentSize: 20 << 10, compact: time.Millisecond})
	for i := range 60 {
		study := fmt.Sprintf("1.2.%d", i%3)
		mustPut(t, s, newObject(study, fmt.Sprintf("%s.%d", study, i), 3000, uint64(i)))
	}
	for i := range 2 {
		for n := range 2 { // one after the other, so that the half has left first, then more
			_ = s.Leave(ctx, fmt.Sprintf("1.2.%d", n+i), "age", false)
		}
		deadline := time.Now().Add(20 * time.Second)
		for {
			u, err := s.Usage()
			if err != nil {
				t.Fatal(err)
			}
			if u.Dead < 20<<10 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("nothing was compacted: %+v", u)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// A segment in which something is damaged stays as it is, and so does one that is damaged where nobody has looked yet.
func TestDamagedSegmentIsNotCompacted(t *testing.T) {
	dir := t.TempDir()
	s := leftStore(t, dir, fastDisk())
	in, err := s.find("1.2.4.4")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, logDir, segmentName(in.at.Segment))
	flipBit(t, name, in.at.Offset+100)
	if err := s.Compact(ctx); !errors.Is(err, errPayload) {
		t.Errorf("got %v, want a wrong checksum", err)
	}
	if _, err := os.Stat(name); err != nil {
		t.Error(err)
	}
	if tmp, _ := filepath.Glob(filepath.Join(dir, logDir, "*.tmp")); len(tmp) > 0 {
		t.Errorf("left behind: %v", tmp)
	}
}

// A segment that is missing is damage, whether one before or behind it was rewritten or not.
func TestMissingSegmentBesideCompacted(t *testing.T) {
	dir := t.TempDir()
	s := leftStore(t, dir, fastDisk())
	if err := s.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{segmentID(1, 1), segmentID(2, 1)} {
		to := filepath.Join(t.TempDir(), "x")
		if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(to, logDir, segmentName(n))); err != nil {
			t.Fatal(err)
		}
		s := openStore(t, to, Options{compact: -1})
		if d := s.Damage(); len(d) != 1 || !strings.Contains(d[0].Reason, "missing") {
			t.Errorf("without segment %d: damage %v", segmentNumber(n), d)
		}
		mustPut(t, s, newObject("1.2.88", "1.2.88.1", 500, 1))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A program that does not know of rewritten segments would miss them. It refuses the folder instead: what it takes for the number is
// none that the header bears, and the version is one that it does not know.
func TestOlderProgramRefusesCompacted(t *testing.T) {
	h := segmentHeader{Marker: 1, Number: 7, Generation: 2, End: 100}
	if b := h.encode(); b[7] == formatVersion {
		t.Error("the version is that of every segment")
	}
	base := strings.TrimSuffix(segmentName(segmentID(7, 2)), ".seg")
	if n, g, ok := parseSegmentName(base + ".seg"); base != "2000000000007" || n != 7 || g != 2 || !ok {
		t.Errorf("%s is segment %d, generation %d", base, n, g)
	}
	back, err := decodeSegmentHeader(h.encode())
	if err != nil || back != h {
		t.Errorf("header %+v, %v", back, err)
	}
}

// Whoever adds something to a step says in plan.decideStep, step.keys and applyStep what compaction and deciding do with it.
func TestCompactionKnowsSteps(t *testing.T) {
	var fields []string
	for _, f := range reflect.VisibleFields(reflect.TypeFor[step]()) {
		fields = append(fields, f.Name)
	}
	known := []string{"Instances", "Jobs", "States", "Done", "Retry", "Park", "Begin", "GiveBack", "Release", "Decided"}
	if d := cmp.Diff(known, fields); d != "" {
		t.Errorf("fields of a step (-known +there)\n%s", d)
	}
}

// FuzzTexts: whatever stands in a record, reading it ends, and what was understood is understood again when it is written anew.
func FuzzTexts(f *testing.F) {
	f.Add(uint8(kindLeave), []byte(`{"study":"1.2","instances":["1.2.3"],"evidence":[{"uid":"1.2","sha256":"AAAA"}],"reason":"age","at":"2026-11-25T00:00:00Z"}`))
	f.Add(uint8(kindClose), []byte(`{"days":[{"date":"2026-11-25","received":1,"left":{"age":1}}]}`))
	f.Add(uint8(kindClose), []byte(nil))
	f.Add(uint8(kindStep), []byte(`{"release":["1.2"],"decided":true}`))
	f.Add(uint8(kindConflict), []byte(`{}`))
	f.Fuzz(func(t *testing.T, k uint8, text []byte) {
		defer spent(t, 64<<10+300*len(text))()
		r, err := decodeText(kind(k), text)
		if err != nil {
			if kind(k) == kindClose && len(text) == 0 {
				t.Error(err)
			}
			return
		}
		if r.leave != nil {
			for _, ev := range r.leave.Evidence {
				if len(ev.Digest) != 32 {
					t.Errorf("a digest of %d bytes", len(ev.Digest))
				}
			}
			if r.leave.Study != "" && checkUIDs(r.leave.Study) != nil {
				t.Errorf("study %q", r.leave.Study)
			}
		}
		if r.tally != nil {
			for _, d := range r.tally.Days {
				if _, err := time.Parse(dateLayout, d.Date); err != nil {
					t.Error(err)
				}
			}
		}
	})
}
