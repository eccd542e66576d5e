package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashChildEnv); dir != "" {
		crashChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

var ctx = context.Background()

// An object is an instance as a peer would send it.
type object struct {
	meta dicom.FileMeta
	data []byte
}

func (o object) uid() string { return o.meta.MediaStorageSOPInstanceUID }

const (
	testStudy  = "1.2.3.1"
	testSeries = "1.2.3.1.1"
)

// newObject makes a CT image of a study whose data set is about size bytes long; seed decides them.
func newObject(study, uid string, size int, seed uint64) object {
	d := dicom.New()
	d.SetString(dicom.SOPClassUID, dicom.CTImageStorage)
	d.SetString(dicom.SOPInstanceUID, uid)
	d.SetString(dicom.Modality, "CT")
	d.SetString(dicom.PatientID, "P1")
	d.SetString(dicom.StudyInstanceUID, study)
	d.SetString(dicom.SeriesInstanceUID, study+".1")
	pixels := make([]byte, max(2, size-300)&^1)
	rnd := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)})
	_, _ = rnd.Read(pixels)
	d.SetBytes(dicom.PixelData, dicom.OW, pixels)
	b, err := d.EncodedBytes()
	if err != nil {
		panic(err)
	}
	return object{meta: dicom.FileMeta{
		MediaStorageSOPClassUID: dicom.CTImageStorage, MediaStorageSOPInstanceUID: uid,
		TransferSyntaxUID:      dicom.ExplicitVRLittleEndian,
		ImplementationClassUID: "1.2.276.0.7230010.3.0.3.6.7", ImplementationVersionName: "OFFIS_DCMTK_367",
		SourceApplicationEntityTitle: "SCANNER",
	}, data: b}
}

func (o object) put(s *Store) error { return s.Put(ctx, o.meta, bytes.NewReader(o.data)) }

// A logBook collects what the store logs.
type logBook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

func openStore(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustPut(t testing.TB, s *Store, objects ...object) {
	t.Helper()
	for _, o := range objects {
		if err := o.put(s); err != nil {
			t.Fatalf("Put %s: %v", o.uid(), err)
		}
	}
}

// wantObject checks that the store gives back o byte for byte.
func wantObject(t testing.TB, s *Store, o object) {
	t.Helper()
	got, err := s.OpenInstance(o.uid())
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	b, err := io.ReadAll(io.NewSectionReader(got, 0, got.Size))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b, o.data) {
		t.Fatalf("instance %s: other bytes than were put (%d, want %d)", o.uid(), len(b), len(o.data))
	}
	if d := cmp.Diff(o.meta, got.Meta()); d != "" {
		t.Fatalf("instance %s: meta information (-put +got)\n%s", o.uid(), d)
	}
}

func TestPut(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{largeObject: 1 << 20})
	var objects []object
	for i, size := range []int{0, 1000, chunkSize, chunkSize + 301, 525 << 10, 1<<20 - 1, 1 << 20, 1<<20 + 300, 3 << 20} {
		objects = append(objects, newObject(testStudy, fmt.Sprintf("%s.%d", testSeries, i), size, uint64(i)))
	}
	mustPut(t, s, objects...)
	check := func(s *Store) {
		t.Helper()
		for _, o := range objects {
			wantObject(t, s, o)
			var file bytes.Buffer
			if err := s.WriteFile(&file, o.uid()); err != nil {
				t.Fatal(err)
			}
			var want bytes.Buffer
			if err := dicom.WriteMeta(&want, o.meta); err != nil {
				t.Fatal(err)
			}
			want.Write(o.data)
			if !bytes.Equal(file.Bytes(), want.Bytes()) {
				t.Errorf("WriteFile %s: not preamble, meta information and the bytes that were put", o.uid())
			}
		}
		st, err := s.Study(testStudy)
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Instances) != len(objects) {
			t.Fatalf("study has %d instances, want %d", len(st.Instances), len(objects))
		}
		in := st.Instances[0]
		if in.SOPInstanceUID != objects[0].uid() || in.Modality != "CT" || in.SourceAET != "SCANNER" || in.PatientID != "P1" ||
			in.SeriesInstanceUID != testSeries || in.TransferSyntaxUID != dicom.ExplicitVRLittleEndian || in.Origin != Received ||
			in.Size != int64(len(objects[0].data)) || in.Received.IsZero() {
			t.Errorf("instance %+v", in)
		}
		var studies []string
		for uid, err := range s.Studies() {
			if err != nil {
				t.Fatal(err)
			}
			studies = append(studies, uid)
		}
		if d := cmp.Diff([]string{testStudy}, studies); d != "" {
			t.Error(d)
		}
	}
	check(s) // from the overlay
	if err := s.flushIndex(); err != nil {
		t.Fatal(err)
	}
	check(s) // from the index
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(openStore(t, dir, Options{}))
	large, _ := os.ReadDir(filepath.Join(dir, largeDir))
	want := 0
	for _, o := range objects {
		if len(o.data) >= 1<<20 {
			want++
		}
	}
	if len(large) != want || want == 0 || want == len(objects) {
		t.Errorf("%d files for large objects, want %d", len(large), want)
	}
}

func TestNotFound(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	_, err1 := s.Instance("1.2.3")
	_, err2 := s.OpenInstance("1.2.3")
	_, err3 := s.Study("1.2.3")
	for _, err := range []error{err1, err2, err3, s.WriteFile(io.Discard, "1.2.3")} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	}
}

func TestPutRefuses(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{largeObject: 1 << 20})
	good := newObject(testStudy, "1.2.3.4", 1000, 1)
	large := newObject(testStudy, "1.2.3.5", 2<<20, 1)
	change := func(o object, f func(*object)) object { f(&o); return o }
	for name, c := range map[string]struct {
		o       object
		code    uint16
		comment string
	}{
		"other instance":         {change(good, func(o *object) { o.meta.MediaStorageSOPInstanceUID = "1.2.9" }), dimse.StatusMismatch, "SOP Instance UID"},
		"other instance, large":  {change(large, func(o *object) { o.meta.MediaStorageSOPInstanceUID = "1.2.9" }), dimse.StatusMismatch, "SOP Instance UID"},
		"other class":            {change(good, func(o *object) { o.meta.MediaStorageSOPClassUID = dicom.MRImageStorage }), dimse.StatusMismatch, "SOP Class UID"},
		"path":                   {newRaw("../../x"), dimse.StatusCannotUnderstand, "(0008,0018)"},
		"absolute path":          {newRaw("/etc/x"), dimse.StatusCannotUnderstand, "(0008,0018)"},
		"shell":                  {newRaw("$(id)"), dimse.StatusCannotUnderstand, "(0008,0018)"},
		"NUL":                    {newRaw("1.2\x003"), dimse.StatusCannotUnderstand, "(0008,0018)"},
		"empty":                  {newRaw(""), dimse.StatusCannotUnderstand, ""},
		"65 characters":          {newRaw("1." + strings.Repeat("2", 63)), dimse.StatusCannotUnderstand, "(0008,0018)"},
		"truncated":              {change(good, func(o *object) { o.data = o.data[:60] }), dimse.StatusCannotUnderstand, "(0008,0018)"},
		"nothing":                {change(good, func(o *object) { o.data = nil }), dimse.StatusCannotUnderstand, ""},
		"wrong transfer syntax":  {change(good, func(o *object) { o.meta.TransferSyntaxUID = dicom.ExplicitVRBigEndian }), dimse.StatusCannotUnderstand, ""},
		"unreadable, large":      {change(large, func(o *object) { o.data = make([]byte, 2<<20) }), dimse.StatusCannotUnderstand, ""},
		"another syntax's bytes": {change(good, func(o *object) { o.meta.TransferSyntaxUID = dicom.DeflatedExplicitVRLittleEndian }), dimse.StatusCannotUnderstand, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.o.put(s)
			var status *dimse.Status
			if !errors.As(err, &status) || status.Code != c.code || !strings.Contains(status.Comment, c.comment) {
				t.Fatalf("got %v, want status %04X with %q", err, c.code, c.comment)
			}
			if len(status.Comment) > 64 {
				t.Errorf("Error Comment of %d characters: %s", len(status.Comment), status.Comment)
			}
			if strings.Contains(status.Comment, "P1") {
				t.Errorf("patient data in %q", status.Comment)
			}
		})
	}
	for uid, err := range s.Studies() {
		t.Errorf("something was kept: study %s, %v", uid, err)
	}
	wantFiles(t, dir, largeDir, 0)
}

// newRaw makes an object whose SOP Instance UID is none; the writer of package dicom would refuse to write it.
func newRaw(uid string) object {
	o := newObject(testStudy, "9.9.9", 400, 1)
	padded := uid
	if len(padded)%2 == 1 {
		padded += "\x00"
	}
	old := []byte("UI\x06\x009.9.9\x00")
	i := bytes.Index(o.data, old)
	if i < 0 {
		panic("no SOP Instance UID")
	}
	b := append([]byte{}, o.data[:i]...)
	b = append(b, 'U', 'I', byte(len(padded)), 0)
	b = append(b, padded...)
	o.data = append(b, o.data[i+len(old):]...)
	o.meta.MediaStorageSOPInstanceUID = uid
	return o
}

func wantFiles(t *testing.T, dir, sub string, n int) {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(dir, sub))
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != n {
		t.Errorf("%s holds %d files, want %d: %v", sub, len(list), n, list)
	}
}

// brokenReader ends as a connection does whose peer vanishes.
type brokenReader struct{ r io.Reader }

func (b brokenReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func TestPeerVanishes(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{largeObject: 1 << 20})
	for _, size := range []int{1000, 3 << 20} {
		o := newObject(testStudy, "1.2.3.4", size, 1)
		if err := s.Put(ctx, o.meta, brokenReader{bytes.NewReader(o.data[:len(o.data)-10])}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: got %v, want io.ErrUnexpectedEOF", size, err)
		}
		if _, err := s.Instance(o.uid()); !errors.Is(err, ErrNotFound) {
			t.Errorf("%d bytes: instance is visible: %v", size, err)
		}
	}
	wantFiles(t, dir, largeDir, 0)
}

func TestUnfinishedLargeObjectLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{largeObject: 1 << 20})
	o := newObject(testStudy, "1.2.3.4", 2<<20, 1)
	mustPut(t, s, o)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What a kill leaves: a file that is being written, and one that was whole but not yet named in the log.
	for _, name := range []string{"000000000007.dcm.tmp", "000000000008.dcm"} {
		if err := os.WriteFile(filepath.Join(dir, largeDir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = openStore(t, dir, Options{})
	wantFiles(t, dir, largeDir, 1)
	wantObject(t, s, o)
}

func TestDuplicates(t *testing.T) {
	for _, size := range []int{1000, 2 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir := t.TempDir()
			var book logBook
			s := openStore(t, dir, Options{largeObject: 1 << 20, Logger: book.logger()})
			first, other := newObject(testStudy, "1.2.3.4", size, 1), newObject(testStudy, "1.2.3.4", size, 2)
			mustPut(t, s, first, first)
			if book.String() != "" {
				t.Errorf("the same bytes again were logged: %s", book.String())
			}
			mustPut(t, s, other, other, first)
			if !strings.Contains(book.String(), "1.2.3.4") || !strings.Contains(book.String(), "level=WARN") {
				t.Errorf("no warning that names the UID: %s", book.String())
			}
			check := func(s *Store) {
				t.Helper()
				wantObject(t, s, first)
				st, err := s.Study(testStudy)
				if err != nil || len(st.Instances) != 1 || st.Instances[0].Conflicts != 1 {
					t.Fatalf("study %+v, %v: want 1 instance with 1 conflict", st, err)
				}
				in, err := s.Instance("1.2.3.4")
				if err != nil || in.Conflicts != 1 {
					t.Fatalf("instance %+v, %v: want 1 conflict", in, err)
				}
				list, err := s.Conflicts("1.2.3.4")
				if err != nil || len(list) != 1 {
					t.Fatalf("conflicts %+v, %v", list, err)
				}
				o, err := s.OpenConflict("1.2.3.4", list[0].Digest)
				if err != nil {
					t.Fatal(err)
				}
				defer o.Close()
				b, _ := io.ReadAll(io.NewSectionReader(o, 0, o.Size))
				if !bytes.Equal(b, other.data) {
					t.Error("the evidence is not what was put")
				}
			}
			check(s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			check(openStore(t, dir, Options{}))
			if size > 1<<20 {
				wantFiles(t, dir, largeDir, 2)
			}
		})
	}
}

func TestDuplicatesAtOnce(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	const n = 16
	objects := []object{newObject(testStudy, "1.2.3.4", 5000, 1), newObject(testStudy, "1.2.3.4", 5000, 2)}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := objects[i%2].put(s); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	in, err := s.Instance("1.2.3.4")
	if err != nil || in.Conflicts != 1 {
		t.Fatalf("%+v, %v: want one instance and one conflict", in, err)
	}
	if s.log.end > 3*6000 {
		t.Errorf("log of %d bytes: more than two copies were kept", s.log.end)
	}
}

func TestCommit(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	report, seg := newObject(testStudy, "1.2.3.7", 2000, 7), newObject(testStudy, "1.2.3.8", 3000, 8)
	id := func(o object) dicom.Identity {
		return dicom.Identity{SOPClassUID: o.meta.MediaStorageSOPClassUID, SOPInstanceUID: o.uid(), StudyInstanceUID: testStudy, SeriesInstanceUID: testSeries, Modality: "SR"}
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	state := State{Study: testStudy, Subject: "1.2.3.9", Name: "computed", Reason: "because", Missing: []string{"1.2"}, Rule: "named", Detail: []byte(`{"a":1}`), At: at}
	c := Change{
		Instances: []NewInstance{{report.meta, id(report), report.data}, {seg.meta, id(seg), seg.data}},
		Jobs:      []Job{{Key: "deliver/1", Queue: "deliver:PACS", Study: testStudy, Payload: []byte("x"), Priority: 3, RunAt: at}},
		States:    []State{{Study: testStudy, Subject: "1.2.3.9", Name: "queued"}, state},
	}
	if err := s.Commit(ctx, c); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(ctx, c); err != nil { // once more: nothing changes
		t.Fatal(err)
	}
	check := func(s *Store) {
		t.Helper()
		wantObject(t, s, report)
		wantObject(t, s, seg)
		st, err := s.Study(testStudy)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]State{state}, st.States); d != "" {
			t.Errorf("states (-want +got)\n%s", d)
		}
		if len(st.Instances) != 2 || st.Instances[0].Origin != Computed {
			t.Errorf("instances %+v", st.Instances)
		}
		want := []Job{{Key: "deliver/1", Queue: "deliver:PACS", Study: testStudy, Payload: []byte("x"), Priority: 3, RunAt: at, State: Pending}}
		if d := cmp.Diff(want, s.Jobs("deliver:PACS"), cmpopts.IgnoreFields(Job{}, "Seq")); d != "" {
			t.Errorf("jobs (-want +got)\n%s", d)
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(openStore(t, dir, Options{}))
}

// A change that names a job which is not there does not happen at all.
func TestCommitIsAtomic(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	c := Change{States: []State{{Study: testStudy, Subject: "x", Name: "computed"}}, Done: []string{"no such job"}}
	if err := s.Commit(ctx, c); !errors.Is(err, ErrNotFound) {
		t.Fatalf("got %v, want ErrNotFound", err)
	}
	if _, err := s.Study(testStudy); !errors.Is(err, ErrNotFound) {
		t.Errorf("the state was set: %v", err)
	}
}

func TestWatch(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ch := s.Watch(ctx)
	const studies, each = 20, 10
	var wg sync.WaitGroup
	for i := range studies {
		wg.Go(func() {
			for k := range each {
				mustPut(t, s, newObject(fmt.Sprintf("1.2.%d", i), fmt.Sprintf("1.2.%d.%d", i, k), 500, 1))
			}
		})
	}
	// Every study is announced after its last instance is visible, however few of the announcements there are.
	whole := make(map[string]bool)
	told := make(map[string]bool) // every instance is announced once
	for len(whole) < studies || len(told) < studies*each {
		e := <-ch
		st, err := s.Study(e.Study)
		if err != nil {
			t.Fatal(err)
		}
		whole[e.Study] = len(st.Instances) == each
		if !whole[e.Study] {
			delete(whole, e.Study)
		}
		for _, in := range e.Arrived {
			if told[in.SOPInstanceUID] || in.StudyInstanceUID != e.Study {
				t.Errorf("%s announced twice, or as of study %s", in.SOPInstanceUID, e.Study)
			}
			told[in.SOPInstanceUID] = true
		}
	}
	wg.Wait()
	cancel()
	for range ch {
	}
	again := s.Watch(context.Background())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range again { // Close ends it
	}
}

// What came again is told too, after it was told of the first time; radnode's own and evidence are not.
func TestWatchAgain(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{largeObject: 1 << 20})
	first, large := newObject(testStudy, "1.2.3.4", 5000, 1), newObject("1.2.9", "1.2.9.4", 2<<20, 1)
	mustPut(t, s, first, large)
	own := newObject(testStudy, "1.2.3.5", 5000, 1)
	id := dicom.Identity{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: own.uid(), StudyInstanceUID: testStudy, SeriesInstanceUID: testSeries}
	if err := s.Commit(ctx, Change{Instances: []NewInstance{{own.meta, id, own.data}}}); err != nil {
		t.Fatal(err)
	}
	ch := s.Watch(t.Context())
	told := func(want ...Event) {
		t.Helper()
		for _, w := range want {
			e := <-ch
			for i := range e.Arrived {
				e.Arrived[i] = Instance{SOPInstanceUID: e.Arrived[i].SOPInstanceUID}
			}
			if d := cmp.Diff(w, e); d != "" {
				t.Errorf("event (-want +got)\n%s", d)
			}
		}
	}
	end := s.log.end
	mustPut(t, s, own, large)
	told(Event{Study: "1.2.9", Again: []string{"1.2.9.4"}})
	if s.log.end != end {
		t.Error("what is nothing new was written")
	}
	wantFiles(t, dir, largeDir, 1)
	other := newObject(testStudy, "1.2.3.4", 5000, 2)
	mustPut(t, s, other, other, first)
	told(Event{Study: testStudy, Again: []string{"1.2.3.4"}})
	next := newObject(testStudy, "1.2.3.6", 5000, 1)
	mustPut(t, s, next)
	told(Event{Study: testStudy, Arrived: []Instance{{SOPInstanceUID: "1.2.3.6"}}})
	mustPut(t, s, next)
	told(Event{Study: testStudy, Again: []string{"1.2.3.6"}})
	select {
	case e := <-ch:
		t.Errorf("one event too many: %+v", e)
	case <-time.After(10 * time.Millisecond):
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir, Options{})
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("a second Open of the same folder: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openStore(t, dir, Options{})
}

// A large object that is still coming when the store is closed leaves alone what another process, which gives out the same numbers, makes in
// the folder meanwhile.
func TestClosedAmidLarge(t *testing.T) {
	dir := t.TempDir()
	o := Options{largeObject: crashLarge, compact: -1}
	s := openStore(t, dir, o)
	begin := func(s *Store, uid string) (finish func() error) {
		t.Helper()
		obj := newObject(testStudy, uid, 2*crashLarge, 1)
		r, w := io.Pipe()
		put := make(chan error, 1)
		go func() {
			err := s.Put(ctx, obj.meta, r)
			r.CloseWithError(err)
			put <- err
		}()
		if _, err := w.Write(obj.data[:crashLarge+(crashLarge>>1)]); err != nil {
			t.Fatal(err)
		}
		return func() error {
			_, _ = w.Write(obj.data[crashLarge+(crashLarge>>1):])
			w.Close()
			return <-put
		}
	}
	first := begin(s, "1.2.3.1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, o)
	second := begin(s, "1.2.3.2")
	if err := first(); !errors.Is(err, ErrClosed) {
		t.Errorf("into the closed store: %v", err)
	}
	if err := second(); err != nil {
		t.Errorf("into the open store: %v", err)
	}
	if err := s.WriteFile(io.Discard, "1.2.3.2"); err != nil {
		t.Error(err)
	}
}

func TestClosed(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{})
	claimed := make(chan error)
	go func() {
		_, err := s.Claim(ctx, "q", time.Minute)
		claimed <- err
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-claimed; !errors.Is(err, ErrClosed) {
		t.Errorf("Claim: %v", err)
	}
	if err := newObject(testStudy, "1.2.3", 500, 1).put(s); !errors.Is(err, ErrClosed) {
		t.Errorf("Put: %v", err)
	}
	if err := s.Close(); !errors.Is(err, ErrClosed) {
		t.Errorf("Close: %v", err)
	}
}

func TestSegmentsFollowEachOther(t *testing.T) {
	dir := t.TempDir()
	var objects []object
	for round := range 3 {
		s := openStore(t, dir, Options{segmentSize: 10_000})
		for i := range 10 {
			o := newObject(testStudy, fmt.Sprintf("1.2.%d.%d", round, i), 3000, uint64(i))
			objects = append(objects, o)
			mustPut(t, s, o)
		}
		for _, o := range objects {
			wantObject(t, s, o)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	list, _ := os.ReadDir(filepath.Join(dir, logDir))
	if len(list) < 8 {
		t.Errorf("%d segments for 90 KB at 10 KB each", len(list))
	}
}

// Objects of any size pass through a buffer of a few hundred KiB each.
func TestLargeObjectsNeedLittleMemory(t *testing.T) {
	s := openStore(t, t.TempDir(), Options{disk: fastDisk()})
	const writers, size = 16, 24 << 20
	head := newObject(testStudy, "1.2.3.100", 400, 1)
	var peak atomic.Uint64
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			o := newObject(testStudy, fmt.Sprintf("1.2.3.%d", 100+w), 400, 1)
			body := io.MultiReader(bytes.NewReader(o.data), &zeros{left: size, peak: &peak})
			if err := s.Put(ctx, o.meta, body); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, limit := peak.Load(), uint64(150<<20); got > limit {
		t.Errorf("heap of %d MiB for %d objects of %d MiB", got>>20, writers, size>>20)
	}
	st, err := s.Study(testStudy)
	if err != nil || len(st.Instances) != writers || st.Instances[0].Size != int64(size+len(head.data)) {
		t.Errorf("%d instances of %d bytes, %v", len(st.Instances), st.Instances[0].Size, err)
	}
}

// zeros is a long body that looks at the heap as it goes.
type zeros struct {
	left, reads int
	peak        *atomic.Uint64
}

func (z *zeros) Read(b []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	if z.reads++; z.reads%16 == 0 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		for old := z.peak.Load(); m.HeapInuse > old && !z.peak.CompareAndSwap(old, m.HeapInuse); old = z.peak.Load() {
		}
	}
	n := min(len(b), z.left, 64<<10)
	z.left -= n
	return n, nil
}

func TestEmptyStore(t *testing.T) {
	dir := t.TempDir()
	var book logBook
	for range 3 {
		if err := openStore(t, dir, Options{Logger: book.logger()}).Close(); err != nil {
			t.Fatal(err)
		}
	}
	if book.String() != "" {
		t.Errorf("opening an empty store logs %s", book.String())
	}
}

// newComputed is what radnode made of o.
func newComputed(o object, study string) NewInstance {
	id := dicom.Identity{SOPClassUID: dicom.CTImageStorage, SOPInstanceUID: o.uid(), StudyInstanceUID: study, SeriesInstanceUID: study + ".8", PatientID: "P1"}
	return NewInstance{Meta: o.meta, Identity: id, Data: o.data}
}
