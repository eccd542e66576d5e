package store

import (
	"archive/zip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	bolt "go.etcd.io/bbolt"
)

func mustDays(t testing.TB, s *Store) []Day {
	t.Helper()
	days, err := s.Days()
	if err != nil {
		t.Fatal(err)
	}
	return days
}

// next is the next event of a watch.
func next(t *testing.T, ch <-chan Event) Event {
	t.Helper()
	select {
	case e := <-ch:
		return e
	case <-time.After(10 * time.Second):
		t.Fatal("no event")
	}
	return Event{}
}

func TestQuarantine(t *testing.T) {
	dir := t.TempDir()
	var book logBook
	s := openStore(t, dir, Options{Logger: book.logger()})
	ch := s.Watch(t.Context())
	mustPut(t, s, newObjectOf("PAT1", "1.2.1", "1.2.1.1", 500, 1))
	next(t, ch)
	foreign := newObjectOf("PAT2", "1.2.1", "1.2.1.2", 500, 1)
	mustPut(t, s, foreign, newObjectOf("", "1.2.1", "1.2.1.3", 500, 1))
	if !strings.Contains(book.String(), "level=WARN") || !strings.Contains(book.String(), "1.2.1.2") || strings.Contains(book.String(), "PAT") || strings.Contains(foreignPatient, "PAT") {
		t.Errorf("the log should warn of the instance and not name the patient: %s", book.String())
	}
	check := func(when string, want map[string]bool) {
		t.Helper()
		st, err := s.Study("1.2.1")
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]bool{}
		for _, in := range st.Instances {
			got[in.SOPInstanceUID] = in.Quarantine != ""
			one, err := s.Instance(in.SOPInstanceUID)
			if err != nil || one.Quarantine != in.Quarantine {
				t.Errorf("%s: Instance says %q, %v, Study %q", when, one.Quarantine, err, in.Quarantine)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: in quarantine (-want +got)\n%s", when, d)
		}
	}
	check("at once", map[string]bool{"1.2.1.1": false, "1.2.1.2": true, "1.2.1.3": false})
	wantObject(t, s, foreign)
	if of := studiesOf(t, s, "PAT2"); len(of) != 0 {
		t.Errorf("it gives its patient studies: %v", of)
	}
	for n := 0; n < 2; { // it is told of, with the reason
		for _, in := range next(t, ch).Arrived {
			n++
			if in.SOPInstanceUID == "1.2.1.2" && in.Quarantine != foreignPatient {
				t.Errorf("watchers were told of %q", in.Quarantine)
			}
		}
	}
	if err := s.Release(ctx, "1.2.1.2", "1.2.1.1"); err != nil {
		t.Fatal(err)
	}
	if e := next(t, ch); len(e.Arrived) != 1 || e.Arrived[0].SOPInstanceUID != "1.2.1.2" || e.Arrived[0].Quarantine != "" {
		t.Errorf("after Release: %+v", e)
	}
	mustPut(t, s, newObjectOf("PAT2", "1.2.1", "1.2.1.4", 500, 1), newObjectOf("PAT3", "1.2.1", "1.2.1.5", 500, 1))
	want := map[string]bool{"1.2.1.1": false, "1.2.1.2": false, "1.2.1.3": false, "1.2.1.4": false, "1.2.1.5": true}
	check("after Release", want)
	if err := s.Release(ctx, "1.2.1.2", "9.9"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Release of what is not there: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, Options{})
	check("from the log", want)
	if of := studiesOf(t, s, "PAT2"); len(of) != 1 {
		t.Errorf("studies of the second patient: %v", of)
	}
}

// Two patients at once in a new study: one of them is its patient, and the log says which.
func TestTwoPatientsAtOnce(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{disk: fastDisk()})
	const studies = 50
	for n := range studies {
		var wg sync.WaitGroup
		for i := range 8 {
			o := newObjectOf(fmt.Sprintf("PAT%d", i%2), fmt.Sprintf("1.2.%d", n), fmt.Sprintf("1.2.%d.%d", n, i), 500, 1)
			wg.Go(func() {
				if err := o.put(s); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	check := func(s *Store) (all []Study) {
		t.Helper()
		for n := range studies {
			st, err := s.Study(fmt.Sprintf("1.2.%d", n))
			if err != nil {
				t.Fatal(err)
			}
			free := map[string]int{}
			for _, in := range st.Instances {
				if in.Quarantine == "" {
					free[in.PatientID]++
				}
			}
			if len(free) != 1 || free["PAT0"]+free["PAT1"] != 4 {
				t.Errorf("study %d: %v take part, want the four of one patient", n, free)
			}
			all = append(all, st)
		}
		return all
	}
	before := check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(before, check(openStore(t, dir, Options{}))); d != "" {
		t.Errorf("from the log (-before +after)\n%s", d)
	}
}

func TestKeepLast(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{Conflicts: KeepLast, largeObject: 5000})
	ch := s.Watch(t.Context())
	first, second, third := newObject("1.2.1", "1.2.1.1", 500, 1), newObject("1.2.1", "1.2.1.1", 300<<10, 2), newObject("1.2.1", "1.2.1.1", 700, 3)
	for _, o := range []object{first, second, third} {
		mustPut(t, s, o)
		if e := next(t, ch); len(e.Arrived) != 1 || int(e.Arrived[0].Size) != len(o.data) {
			t.Errorf("watchers were told %+v", e)
		}
		wantObject(t, s, o)
	}
	mustPut(t, s, first)                                           // it came before: nothing new
	mustPut(t, s, newObjectOf("PAT2", "1.2.1", "1.2.1.1", 500, 4)) // another patient's takes no one's place
	own := newObject("1.2.1", "1.2.1.2", 500, 1)
	if err := s.Commit(ctx, Change{Instances: []NewInstance{newComputed(own, "1.2.1")}}); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, newObject("1.2.1", "1.2.1.2", 500, 9)) // and nothing that of radnode's own
	check := func(s *Store) {
		t.Helper()
		wantObject(t, s, third)
		wantObject(t, s, own)
		if in, err := s.Instance("1.2.1.1"); err != nil || in.Conflicts != 3 || in.Quarantine != "" {
			t.Errorf("instance %+v, %v", in, err)
		}
		list, err := s.Conflicts("1.2.1.1")
		if err != nil || len(list) != 3 {
			t.Fatalf("evidence %+v, %v", list, err)
		}
		if d := mustDays(t, s); len(d) != 1 || d[0].Received != 5 || d[0].Conflicts != 4 || d[0].Again != 1 {
			t.Errorf("days %+v", d)
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
		t.Fatal(err)
	}
	check(openStore(t, dir, Options{})) // whatever the policy is now
}

func TestLeave(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{largeObject: 5000, compact: -1})
	objects := []object{newObject("1.2.1", "1.2.1.1", 500, 1), newObject("1.2.1", "1.2.1.2", 300<<10, 1)}
	mustPut(t, s, objects...)
	mustPut(t, s, newObject("1.2.1", "1.2.1.1", 600, 2), newObject("1.2.2", "1.2.2.1", 300<<10, 1))
	job := Change{Jobs: []Job{{Key: "compute/1", Queue: "compute", Study: "1.2.1"}}, States: []State{{Study: "1.2.1", Subject: "s", Name: "queued"}}}
	if err := s.Commit(ctx, job); err != nil {
		t.Fatal(err)
	}
	if err := s.Leave(ctx, "1.2.1", "age", false); !errors.Is(err, ErrBusy) {
		t.Errorf("with a pending job: %v, want ErrBusy", err)
	}
	j, err := s.Claim(ctx, "compute", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Leave(ctx, "1.2.1", "age", false); !errors.Is(err, ErrBusy) {
		t.Errorf("with a leased job: %v, want ErrBusy", err)
	}
	if err := s.Park(ctx, j.Key, "no", Change{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Leave(ctx, "1.2.1", "age", false); !errors.Is(err, ErrBusy) {
		t.Errorf("with a parked job: %v, want ErrBusy", err)
	}
	if err := s.Retry(ctx, j.Key, time.Now(), "again"); err != nil {
		t.Fatal(err)
	}
	if j, err = s.Claim(ctx, "compute", time.Hour); err != nil {
		t.Fatal(err)
	}
	o, err := s.OpenInstance("1.2.1.2")
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if err := s.Leave(ctx, "1.2.1", "operator", true); err != nil {
		t.Fatal(err)
	}
	made := newObject("1.2.1", "1.2.1.77", 500, 1)
	late := Change{Instances: []NewInstance{newComputed(made, "1.2.1")}, States: []State{{Study: "1.2.1", Subject: "s", Name: "computed"}, {Study: "1.2.2", Subject: "s", Name: "computed"}}}
	for what, err := range map[string]error{
		"Done": s.Done(ctx, j.Key, late), "Retry": s.Retry(ctx, j.Key, time.Now(), ""), "Park": s.Park(ctx, j.Key, "", late), "Leave": s.Leave(ctx, "1.2.1", "", true),
		"Discard": s.Discard(ctx, "", "1.2.1.1"), "DiscardConflict": s.DiscardConflict(ctx, "", "1.2.2.1", [32]byte{1}),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s after it left: %v, want ErrNotFound", what, err)
		}
	}
	gone := func(when string, s *Store) {
		t.Helper()
		if _, err := s.Study("1.2.1"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: the study is there: %v", when, err)
		}
		if _, err := s.Instance("1.2.1.77"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: of a refused step: %v", when, err)
		}
		if st, err := s.Study("1.2.2"); err != nil || len(st.States) != 0 || len(st.Instances) != 1 {
			t.Errorf("%s: the other study: %+v, %v", when, st, err)
		}
		if q := s.Queues(); len(q) != 0 {
			t.Errorf("%s: queues %v", when, q)
		}
		want := []Day{{Received: 4, Conflicts: 1, Left: map[string]int{"operator": 3}}}
		if d := cmp.Diff(want, mustDays(t, s), cmpopts.IgnoreFields(Day{}, "Date", "Bytes")); d != "" {
			t.Errorf("%s: days (-want +got)\n%s", when, d)
		}
		wantFiles(t, dir, largeDir, 1)
	}
	gone("at once", s)
	if b, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size)); err != nil || string(b) != string(objects[1].data) {
		t.Errorf("an object that was open cannot be read: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, Options{largeObject: 5000, compact: -1})
	gone("after a restart", s)

	// Sent again, it is a new study: the same keys, and every job of it to be done.
	mustPut(t, s, objects...)
	if err := s.Commit(ctx, job); err != nil {
		t.Fatal(err)
	}
	if j, err = s.Claim(ctx, "compute", time.Hour); err != nil || j.Tries != 0 {
		t.Fatalf("job %+v, %v", j, err)
	}
	if err := s.Done(ctx, j.Key, late); err != nil {
		t.Fatal(err)
	}
	wantObject(t, s, objects[1])
	if err := s.Leave(ctx, "1.2.1", "age", false); err != nil { // a done job is in nobody's way
		t.Fatal(err)
	}
	mustPut(t, s, objects...)
	if err := s.Commit(ctx, job); err != nil {
		t.Fatal(err)
	}
	if q := s.Queues()["compute"]; q.Pending != 1 || q.Done != 0 {
		t.Errorf("queue %+v", q)
	}
	want := readAll(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, Options{compact: -1})
	if d := cmp.Diff(want, readAll(t, s)); d != "" {
		t.Errorf("from the log (-before +after)\n%s", d)
	}
	wantObject(t, s, objects[1])
	wantFiles(t, dir, largeDir, 2)
}

// Evidence left with the instance beside it. When the log has that no more, and the evidence still, it must not be taken for an
// instance that is here: not in the study that left, and not in another one whose UID it bears.
func TestEvidenceOutlivesItsInstance(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{disk: fastDisk(), segmentSize: 4000, compact: -1, small: 1, prepared: -1})
	mustPut(t, s, newObject("1.2.1", "1.2.1.1", 5000, 1), newObject("1.2.1", "1.2.1.2", 5000, 1)) // a segment each
	stay := newObject("1.2.3", "1.2.3.1", 5000, 1)
	mustPut(t, s, newObject("1.2.2", "1.2.1.1", 500, 2), newObject("1.2.1", "1.2.1.2", 500, 2), stay) // one that is not worth it
	if err := s.Leave(ctx, "1.2.1", "age", false); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, newObject("1.2.4", "1.2.4.1", 5000, 1))
	if err := s.Compact(ctx); err != nil {
		t.Fatal(err)
	}
	if list := compactedFiles(t, dir); len(list) != 2 {
		t.Fatalf("compacted: %v, want the two of the instances", list)
	}
	want := readBytes(t, s)
	if len(want.Studies) != 2 || want.Usage.Instances != 2 || want.Usage.Conflicts != 0 || want.Days[0].Left["age"] != 4 {
		t.Errorf("contents %+v", want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, Options{compact: -1})
	if d := cmp.Diff(want, readBytes(t, s)); d != "" {
		t.Errorf("from the log (-before +after)\n%s", d)
	}
}

// A kill between the record and the unlinking of a large object: the next start does it, even of a damaged log, in which a file
// that nothing names is kept.
func TestLeaveIsKilledBeforeUnlink(t *testing.T) {
	dir := t.TempDir()
	d := fastDisk()
	real := d.remove
	d.remove = func(name string) error {
		if strings.HasSuffix(name, ".dcm") {
			return errors.New("killed")
		}
		return real(name)
	}
	s := openStore(t, dir, Options{largeObject: 5000, disk: d, compact: -1})
	mustPut(t, s, newObject("1.2.1", "1.2.1.1", 300<<10, 1), newObject("1.2.2", "1.2.2.1", 300<<10, 1), newObject("1.2.3", "1.2.3.1", 500, 1))
	if err := s.Leave(ctx, "1.2.1", "age", false); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, largeDir, 2)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openStore(t, dir, Options{largeObject: 5000, compact: -1}).Close()
	wantFiles(t, dir, largeDir, 1)
}

// What came again is counted without a sync, and not lost at Close.
func TestAgain(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	o := newObject("1.2.1", "1.2.1.1", 500, 1)
	mustPut(t, s, o)
	syncs := s.log.end
	mustPut(t, s, o, o, o)
	if s.log.end != syncs {
		t.Error("something was written for what came again")
	}
	want := []Day{{Received: 1, Again: 3}}
	check := func(s *Store) {
		t.Helper()
		if d := cmp.Diff(want, mustDays(t, s), cmpopts.IgnoreFields(Day{}, "Date", "Bytes")); d != "" {
			t.Errorf("days (-want +got)\n%s", d)
		}
	}
	check(s)
	mustPut(t, s, newObject("1.2.1", "1.2.1.2", 500, 1)) // takes the count along
	want[0].Received++
	check(s)
	mustPut(t, s, o)
	want[0].Again++
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, dir, Options{})
		check(s)
		mustPut(t, s, o) // of a start in which nothing else comes
		want[0].Again++
		check(s)
	}
}

// A group that the disk refuses takes no count with it.
func TestAgainWhenTheDiskFails(t *testing.T) {
	d := newFaultyDisk()
	s := openStore(t, t.TempDir(), Options{disk: &d.disk})
	o := newObject("1.2.1", "1.2.1.1", 500, 1)
	mustPut(t, s, o, o, o)
	d.fail.Store(&fault{"write", errors.New("no")})
	for range 3 {
		if err := newObject("1.2.1", "1.2.1.2", 500, 1).put(s); err == nil {
			t.Fatal("the disk did not fail")
		}
	}
	d.fail.Store(nil)
	if days := mustDays(t, s); days[0].Again != 2 {
		t.Errorf("days %+v", days)
	}
	mustPut(t, s, newObject("1.2.1", "1.2.1.2", 500, 1))
	if days := mustDays(t, s); days[0].Again != 2 || days[0].Received != 2 {
		t.Errorf("days %+v", days)
	}
}

// Whoever claims while studies leave gets no job of one that left.
func TestLeaveWhileWorking(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{disk: fastDisk(), compact: time.Millisecond, segmentSize: 50 << 10})
	end, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				j, err := s.Claim(end, "compute", time.Hour)
				if err != nil {
					return
				}
				study := j.Study
				o := newObject(study, study+".99", 600, 1)
				err = s.Done(ctx, j.Key, Change{Instances: []NewInstance{newComputed(o, study)}, States: []State{{Study: study, Subject: "s", Name: "computed"}}})
				if err != nil && !errors.Is(err, ErrNotFound) {
					t.Error(err)
				}
			}
		})
	}
	const studies = 100
	for n := range studies {
		study := fmt.Sprintf("1.2.%d", n)
		mustPut(t, s, newObject(study, study+".1", 3000, 1))
		if err := s.Commit(ctx, Change{Jobs: []Job{{Key: study, Queue: "compute", Study: study}}}); err != nil {
			t.Fatal(err)
		}
		if n%2 == 0 {
			if err := s.Leave(ctx, study, "age", true); err != nil {
				t.Fatal(err)
			}
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for s.Queues()["compute"].Done < studies/2 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	cancel()
	wg.Wait()
	for n := range studies {
		st, err := s.Study(fmt.Sprintf("1.2.%d", n))
		if n%2 == 0 && !errors.Is(err, ErrNotFound) {
			t.Errorf("study %d is there: %+v, %v", n, st, err)
		}
		if n%2 == 1 && (err != nil || len(st.Instances) != 2 || len(st.States) != 1) {
			t.Errorf("study %d: %+v, %v", n, st, err)
		}
	}
}

// before-leaving.zip is a data folder and what the face of the store told of it, written by radnode at commit 252157c, before studies could
// leave: objects of two studies and a foreign patient, conflicts, jobs done, parked and pending, an instance of its own.
func openFixture(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	z, err := zip.OpenReader("testdata/before-leaving.zip")
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	if err := os.CopyFS(dir, z); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOlderFolder(t *testing.T) {
	for _, index := range []bool{true, false} {
		t.Run(fmt.Sprintf("index %v", index), func(t *testing.T) {
			dir := openFixture(t)
			b, err := os.ReadFile(filepath.Join(dir, "contents.json"))
			if err != nil {
				t.Fatal(err)
			}
			var want contents
			if err := json.Unmarshal(b, &want); err != nil {
				t.Fatal(err)
			}
			if !index {
				if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
					t.Fatal(err)
				}
			}
			var book logBook
			for range 2 {
				s := openStore(t, dir, Options{Logger: book.logger(), compact: -1})
				got := readBytes(t, s)
				for _, j := range got.Jobs["compute"] {
					if j.Seq == 0 {
						t.Errorf("job %s has no number", j.Key)
					}
				}
				days := got.Days
				got.Days, got.Usage = nil, Usage{}
				// It did not number its jobs and had another order.
				byKey := cmpopts.SortSlices(func(a, b Job) bool { return a.Key < b.Key })
				if d := cmp.Diff(want, got, cmpopts.EquateEmpty(), byKey, cmpopts.IgnoreFields(Job{}, "Seq")); d != "" || len(s.Damage()) > 0 {
					t.Errorf("damage %v, contents (-before +after)\n%s", s.Damage(), d)
				}
				wantDays := []Day{{Date: "2026-05-01", Received: 2, Bytes: 1036}, {Date: "2026-05-02", Received: 6, Conflicts: 2, Bytes: 6656}}
				if d := cmp.Diff(wantDays, days, cmpopts.IgnoreFields(Day{}, "Bytes")); d != "" {
					t.Errorf("days (-want +got)\n%s", d)
				}
				u, err := s.Usage()
				if err != nil || u.Studies != 3 || u.Instances != 7 || u.Computed != 1 || u.Conflicts != 2 || u.Quarantined != 0 || u.Oldest.Format(dateLayout) != "2026-05-01" {
					t.Errorf("usage %+v, %v", u, err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if n := strings.Count(book.String(), "older radnode"); index && n != 1 || !index && n != 0 {
				t.Errorf("completed %d times: %s", n, book.String())
			}
			if index && strings.Contains(book.String(), "rebuilding") {
				t.Errorf("the index was not used: %s", book.String())
			}

			// Its jobs are forgotten with their study, though nothing said so when they were written.
			s := openStore(t, dir, Options{compact: -1})
			s.mu.RLock()
			if d, err := s.doneJob("a"); err != nil || *d != (doneJob{"compute", "1.2.1"}) {
				t.Errorf("of the done job is remembered %+v, %v", d, err)
			}
			s.mu.RUnlock()
			for _, study := range []string{"1.2.1", "1.2.2"} {
				if err := s.Leave(ctx, study, "age", true); err != nil {
					t.Fatal(err)
				}
			}
			at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
			again := Change{Jobs: []Job{{Key: "a", Queue: "compute", Study: "1.2.1", RunAt: at}, {Key: "c", Queue: "compute", Study: "1.2.3", RunAt: at.Add(time.Hour)}}}
			if err := s.Commit(ctx, again); err != nil {
				t.Fatal(err)
			}
			if jobs := s.Jobs("compute"); len(jobs) != 2 || len(jobs[0].Payload)+len(jobs[1].Payload) != 1 {
				t.Errorf("jobs %+v: want a new one for the study that left, and the old one of the other", jobs)
			}
			if err := s.Compact(ctx); err != nil {
				t.Fatal(err)
			}
			if list := compactedFiles(t, dir); len(list) == 0 {
				t.Error("nothing was compacted")
			}
			after := readBytes(t, s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
				t.Fatal(err)
			}
			s = openStore(t, dir, Options{compact: -1})
			if d := cmp.Diff(after, readBytes(t, s)); d != "" {
				t.Errorf("from the compacted log (-before +after)\n%s", d)
			}
		})
	}
}

// An index of which most is free is written anew at start; its contents are the same.
func TestIndexShrinks(t *testing.T) {
	dir := t.TempDir()
	want := fillStore(t, dir)
	path := filepath.Join(dir, indexFile)
	db, err := openBolt(path, true)
	if err != nil {
		t.Fatal(err)
	}
	// Fill a bucket and empty it again, as years do.
	for _, put := range []bool{true, false} {
		for i := range 20 {
			err := db.Update(func(tx *bolt.Tx) error {
				for n := range 50 {
					k := join("old", fmt.Sprint(i, " ", n))
					if !put {
						if err := tx.Bucket(bucketStates).Delete(k); err != nil {
							return err
						}
					} else if err := tx.Bucket(bucketStates).Put(k, make([]byte, 100<<10)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	var book logBook
	s := openStore(t, dir, Options{Logger: book.logger()})
	if d := cmp.Diff(want, readAll(t, s)); d != "" {
		t.Errorf("contents (-before +after)\n%s", d)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(path)
	if err != nil || before.Size() < 90<<20 || after.Size() > 32<<20 || !strings.Contains(book.String(), "smaller") {
		t.Errorf("%d bytes before, %d after, %v: %s", before.Size(), after.Size(), err, book.String())
	}
}
