package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
)

// contents is everything that the face of a store tells.
type contents struct {
	Studies []Study
	Of      map[string][]string // studies by Patient ID
	Jobs    map[string][]Job
	Queues  map[string]QueueStats
	Days    []Day
	Usage   Usage
}

func readAll(t testing.TB, s *Store) contents {
	t.Helper()
	c := contents{Of: map[string][]string{}, Jobs: map[string][]Job{}, Queues: s.Queues()}
	for uid, err := range s.Studies() {
		if err != nil {
			t.Fatal(err)
		}
		st, err := s.Study(uid)
		if err != nil {
			t.Fatal(err)
		}
		c.Studies = append(c.Studies, st)
		for _, in := range st.Instances {
			if c.Of[in.PatientID] == nil {
				c.Of[in.PatientID] = studiesOf(t, s, in.PatientID)
			}
		}
	}
	for q := range c.Queues {
		c.Jobs[q] = s.Jobs(q)
	}
	var err error
	if c.Days, err = s.Days(); err != nil {
		t.Fatal(err)
	}
	if c.Usage, err = s.Usage(); err != nil {
		t.Fatal(err)
	}
	c.Usage.Disk = 0 // not part of what is kept
	return c
}

func studiesOf(t testing.TB, s *Store, patient string) (studies []string) {
	t.Helper()
	for uid, err := range s.StudiesOf(patient) {
		if err != nil {
			t.Fatal(err)
		}
		studies = append(studies, uid)
	}
	return studies
}

// of makes o an object of another patient than P1.
func (o object) of(patient string) object {
	o.data = bytes.Replace(o.data, []byte("P1"), []byte(patient)[:2], 1) // the pixels come later
	return o
}

// fillStore makes a store with some of everything.
func fillStore(t testing.TB, dir string) contents {
	t.Helper()
	s := openStore(t, dir, Options{largeObject: 1 << 20, segmentSize: 100 << 10})
	for i := range 60 {
		mustPut(t, s, newObject(fmt.Sprintf("1.2.%d", i%7), fmt.Sprintf("1.2.%d.%d", i%7, i), 5000, uint64(i)))
	}
	mustPut(t, s, newObject("1.2.0", "1.2.0.0", 5000, 99).of("P9"), newObject("1.2.7", "1.2.7.1000", 5000, 1).of("P2"), newObject("1.2.1", "1.2.1.1001", 5000, 1).of("P3"), newObject("1.2.0", "1.2.0.1000", 2<<20, 7))
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for i := range 12 {
		key := fmt.Sprintf("j%d", i)
		c := Change{
			Jobs:   []Job{{Key: key, Queue: fmt.Sprintf("q%d", i%2), Priority: i % 3, RunAt: at, Payload: []byte(key)}},
			States: []State{{Study: fmt.Sprintf("1.2.%d", i%3), Subject: "s", Name: key, At: at}},
		}
		if err := s.Commit(ctx, c); err != nil {
			t.Fatal(err)
		}
		var err error
		switch i % 4 {
		case 0:
			err = s.Done(ctx, key, Change{Jobs: []Job{{Key: key + "'", Queue: "next", RunAt: at}}})
		case 1:
			err = s.Retry(ctx, key, at.Add(time.Hour), "no answer")
		case 2:
			err = s.Park(ctx, key, "refused", Change{States: []State{{Study: "1.2.9", Subject: key, Name: "parked", At: at}}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	c := readAll(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}

// Whatever happens to the index, the log brings it back as it was.
func TestIndexIsRebuilt(t *testing.T) {
	dir := t.TempDir()
	want := fillStore(t, dir)
	if len(want.Studies) != 9 || len(want.Queues) != 3 || len(want.Of["P1"]) != 7 || len(want.Of["P2"]) != 1 || want.Queues["q0"].Done == 0 {
		t.Fatalf("not much to compare: %+v", want)
	}
	path := filepath.Join(dir, indexFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := boltFile{r: bytes.NewReader(whole)}
	if _, _, err := used.meta(int64(len(whole))); err != nil {
		t.Fatal(err)
	}
	whole = whole[:used.pages*4096]
	write := func(b []byte) func() error { return func() error { return os.WriteFile(path, b, 0o600) } }
	damage := map[string]func() error{
		"untouched":     func() error { return nil },
		"deleted":       func() error { return os.Remove(path) },
		"empty":         write(nil),
		"garbage":       write([]byte(strings.Repeat("garbage ", 10000))),
		"zeros":         write(make([]byte, len(whole))),
		"half":          write(whole[:len(whole)/2/4096*4096]),
		"cut in a page": write(whole[:len(whole)/3+100]),
		"asked for":     func() error { return os.WriteFile(path+".rebuild", nil, 0o600) },
	}
	for page := range int(used.pages) {
		damage[fmt.Sprintf("page %d overwritten", page)] = func() error {
			b := bytes.Clone(whole)
			for i := range 4096 {
				b[page*4096+i] ^= byte(i*31 + page)
			}
			return os.WriteFile(path, b, 0o600)
		}
	}
	for i := range 60 {
		damage[fmt.Sprintf("bit %d flipped", i)] = func() error {
			b := bytes.Clone(whole)
			b[(i*int(used.pages)*4096/60+i*37)%len(b)] ^= 1 << (i % 8)
			return os.WriteFile(path, b, 0o600)
		}
	}
	for name, do := range damage {
		t.Run(name, func(t *testing.T) {
			if err := do(); err != nil {
				t.Fatal(err)
			}
			s := openStore(t, dir, Options{})
			if d := cmp.Diff(want, readAll(t, s)); d != "" {
				t.Errorf("contents (-before +after)\n%s", d)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if err := write(whole)(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// An index that is behind, as after a kill, catches up from the tail of the log.
func TestIndexCatchesUp(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	mustPut(t, s, newObject(testStudy, "1.2.1", 500, 1))
	if err := s.flushIndex(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(dir, indexFile))
	if err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, Options{segmentSize: 2000})
	for i := range 10 {
		mustPut(t, s, newObject(testStudy, fmt.Sprintf("1.2.1%d", i), 800, 1))
	}
	want := readAll(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, indexFile), old, 0o600); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, readAll(t, openStore(t, dir, Options{}))); d != "" {
		t.Errorf("contents (-before +after)\n%s", d)
	}
}

// An index of another data folder is not believed.
func TestForeignIndex(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	want := fillStore(t, a)
	s := openStore(t, b, Options{})
	mustPut(t, s, newObject("9.9", "9.9.1", 500, 1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(filepath.Join(b, indexFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(a, indexFile), foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, readAll(t, openStore(t, a, Options{Logger: slog.New(slog.DiscardHandler)}))); d != "" {
		t.Errorf("contents (-want +got)\n%s", d)
	}
}

func TestStudiesPages(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{disk: fastDisk()})
	const n = 1203
	for i := range n {
		c := Change{States: []State{{Study: fmt.Sprintf("1.2.%d", 1000+i), Subject: "s", Name: "waiting"}}}
		if err := s.Commit(ctx, c); err != nil {
			t.Fatal(err)
		}
		if i == n/2 {
			if err := s.flushIndex(); err != nil {
				t.Fatal(err)
			}
		}
	}
	i := 0
	for uid, err := range s.Studies() {
		if want := fmt.Sprintf("1.2.%d", 1000+i); err != nil || uid != want {
			t.Fatalf("study %d is %s, %v, want %s", i, uid, err, want)
		}
		i++
	}
	if i != n {
		t.Errorf("%d studies, want %d", i, n)
	}
}

func TestStudiesOf(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{disk: fastDisk()})
	identity := func(patient, study string, n int) NewInstance {
		o := newObject(study, fmt.Sprintf("%s.%d", study, n), 400, 1)
		id := dicom.Identity{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: o.uid(), StudyInstanceUID: study, SeriesInstanceUID: study + ".1", PatientID: patient}
		return NewInstance{Meta: o.meta, Identity: id, Data: o.data}
	}
	var many []string
	for i := range 1203 {
		study := fmt.Sprintf("1.2.%d", 1000+i)
		many = append(many, study)
		if err := s.Commit(ctx, Change{Instances: []NewInstance{identity("A", study, 1)}}); err != nil {
			t.Fatal(err)
		}
		if i == 600 {
			if err := s.flushIndex(); err != nil {
				t.Fatal(err)
			}
		}
	}
	// IDs that begin like another one, none, and two in one study.
	err := s.Commit(ctx, Change{Instances: []NewInstance{
		identity("AB", "2.1", 1), identity("A\x00", "2.2", 1), identity("A\x001.2.1000", "2.3", 1), identity("", "2.4", 1), identity("B", "2.1", 2), identity("B", "2.0", 1),
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"A": many, "AB": {"2.1"}, "A\x00": {"2.2"}, "A\x001.2.1000": {"2.3"}, "": nil, "B": {"2.0", "2.1"}, "C": nil, "\x00": nil}
	check := func(when string, s *Store) {
		t.Helper()
		for patient, studies := range want {
			if d := cmp.Diff(studies, studiesOf(t, s, patient)); d != "" {
				t.Errorf("%s, patient %q (-want +got)\n%s", when, patient, d)
			}
		}
	}
	check("while it is written", s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check("after a restart", openStore(t, dir, Options{}))
}

// What is queued faster than the index is written waits for it once it takes more than a stated memory.
func TestOverlayIsBounded(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{disk: fastDisk()})
	s.flushing.Lock() // as if the disk of the index hung
	var done atomic.Int64
	var wg sync.WaitGroup
	const jobs, payload = 30, 1 << 20
	wg.Go(func() {
		for i := range jobs {
			if err := s.Commit(ctx, Change{Jobs: []Job{{Key: fmt.Sprint(i), Queue: "q", Payload: make([]byte, payload)}}}); err != nil {
				t.Error(err)
			}
			done.Add(1)
		}
	})
	held := func() int {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return s.active.held
	}
	for deadline := time.Now().Add(20 * time.Second); held() < overlayFull && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(50 * time.Millisecond)
	if n := held(); n < overlayFull || n > overlayFull+2*payload || done.Load() == jobs {
		t.Errorf("%d MB are held and %d of %d jobs were answered", n>>20, done.Load(), jobs)
	}
	s.flushing.Unlock()
	wg.Wait()
	if got := s.Queues()["q"].Pending; got != jobs {
		t.Errorf("%d jobs, want %d", got, jobs)
	}
}

// An index that cannot be written keeps nothing from going on, until what it should hold takes too much memory: then new objects are
// refused, and what is queued still goes on.
func TestIndexCannotBeWritten(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{disk: fastDisk()})
	s.overlayMost = 20_000
	s.mu.Lock()
	set(s.active.states, testStudy, "bad", &State{Detail: json.RawMessage("{")}) // not to be encoded
	s.mu.Unlock()
	var status *dimse.Status
	kept := 0
	for i := range 1000 {
		_ = s.flushIndex()
		err := newObject(testStudy, fmt.Sprintf("1.2.%d", i), 500, 1).put(s)
		if errors.As(err, &status) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		kept++
	}
	if status == nil || status.Code != dimse.StatusOutOfResources || len(status.Comment) > 64 || kept < 3 {
		t.Fatalf("%v after %d objects", status, kept)
	}
	if err := s.Commit(ctx, Change{Jobs: []Job{{Key: "k", Queue: "q"}}}); err != nil {
		t.Errorf("a step: %v", err)
	}
	s.mu.Lock()
	delete(s.frozen.states[testStudy], "bad")
	s.mu.Unlock()
	for range 2 {
		if err := s.flushIndex(); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, s, newObject(testStudy, "1.3", 500, 1))
	if st, err := s.Study(testStudy); err != nil || len(st.Instances) != kept+1 {
		t.Errorf("%d instances, want %d, %v", len(st.Instances), kept+1, err)
	}
}

// A sync of the index that failed is not trusted any more, a write that found no room is.
func TestIndexSyncFails(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{&os.PathError{Op: "write", Path: "index.db", Err: syscall.ENOSPC}, false},
		{&os.PathError{Op: "sync", Path: "index.db", Err: syscall.EIO}, true},
		{syscall.EIO, true},
		{fmt.Errorf("%w", syscall.ENOMEM), false},
	} {
		dir := t.TempDir()
		ix := &index{path: filepath.Join(dir, indexFile)}
		ix.doubt(c.err)
		if _, err := os.Stat(ix.path + ".rebuild"); (err == nil) != c.want {
			t.Errorf("%v: rebuilt at the next start: %v, want %v", c.err, err == nil, c.want)
		}
	}
}
