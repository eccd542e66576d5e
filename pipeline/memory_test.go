package pipeline

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/imaging"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/store"
	"github.com/radnode/radnode/testdata"
)

// simple is a profile of few values that takes little time.
func simple(*dicom.DataSet, roi.Region) (features.Profile, bool, error) {
	p := features.DefaultProfile("CT")
	p.Families = []features.Family{features.LocalIntensity, features.Statistics}
	return p, true, nil
}

// planned foresees the measurement of a study.
func planned(t *testing.T, contours *dicom.File, images []*dicom.File, choose Chooser, limit int64) *plan {
	t.Helper()
	var headers []*dicom.DataSet
	for _, f := range images {
		headers = append(headers, f.DataSet)
	}
	layout, err := imaging.Check(headers, imaging.Options{})
	if err != nil {
		t.Fatal(err)
	}
	list, err := roi.Regions(contours)
	if err != nil {
		t.Fatal(err)
	}
	points, _ := pointsOf(contours)
	p, err := newPlan(layout, headers, list, nil, Request{Contours: contours, Images: images, Choose: choose}, points, limit)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// least is the limit below which not all regions of the study are measured.
func least(t *testing.T, contours *dicom.File, images []*dicom.File) int64 {
	t.Helper()
	limit := int64(1 << 40)
	for {
		p := planned(t, contours, images, simple, limit)
		if slices.ContainsFunc(p.reasons, func(r *refusal.Refusal) bool { return r != nil }) {
			return limit + 1
		}
		if p.kept+p.work < limit {
			limit = p.kept + p.work
		} else {
			limit--
		}
	}
}

// Whether there is memory for one region at a time or for all of them with what they share, and whatever the number of
// processors and the order of the images, the values have the same bits.
func TestMeasureInAnyMemory(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	contours, images := readStudy(t, testdata.SyntheticCT)
	runtime.GOMAXPROCS(8)
	least := least(t, contours, images)
	var want []MeasuredRegion
	for _, workers := range []int{1, 2, 8} {
		runtime.GOMAXPROCS(workers)
		for _, limit := range []int64{least, 2 * least, 1 << 40} {
			mem := NewMemory(limit)
			m, err := mem.Measure(t.Context(), Request{Contours: contours, Images: images, Choose: simple})
			if err != nil {
				t.Fatal(err)
			}
			if mem.tryTake(limit) {
				t.Error("the memory was given back before its time")
			}
			m.Release()
			if !mem.tryTake(limit) {
				t.Error("memory is lost")
			}
			if want == nil {
				want = m.Regions
				for _, r := range m.Regions {
					mask, _, err := roi.Rasterise(t.Context(), r.Region, m.Volume.Grid.Geometry, voxel.Rule{})
					if err == nil {
						mask = tight(mask, m.Volume.Grid.Geometry)
					}
					if err != nil {
						t.Fatal(err)
					}
					if d := cmp.Diff(mask, r.Mask); d != "" || r.Mask.Bounds() != r.Mask.Box() {
						t.Errorf("%s, mask of %v voxels: %s", r.Region.Name, r.Mask.Size, d)
					}
				}
			}
			if d := cmp.Diff(want, m.Regions, cmpopts.IgnoreUnexported(roi.Region{})); d != "" {
				t.Errorf("%d workers, %d bytes:\n%s", workers, limit, d)
			}
			slices.Reverse(images)
		}
	}
}

// What is too large is refused before a pixel is read, with both figures and what to do.
func TestMemoryRefusal(t *testing.T) {
	contours, images := readStudy(t, testdata.SyntheticCT)
	for _, f := range images {
		f.Pixels = nil // reading them would be another refusal
	}
	mem := NewMemory(16 << 10)
	_, err := mem.Measure(t.Context(), Request{Contours: contours, Images: images, Choose: simple})
	var refused *refusal.Refusal
	if !errors.As(err, &refused) || refused.Code != refusal.MemoryLimit || !strings.Contains(refused.Text, "the limit is 0.0 MiB") || !ofTheInput(err) {
		t.Errorf("volume: %v", err)
	}

	contours, images = readStudy(t, testdata.SyntheticCT)
	mem = NewMemory(least(t, contours, images) - 1)
	m, err := mem.Measure(t.Context(), Request{Contours: contours, Images: images, Choose: simple})
	if err != nil {
		t.Fatal(err)
	}
	m.Release()
	if len(m.Skipped) == 0 || len(m.Regions) == 0 {
		t.Fatalf("%d regions measured and %d skipped", len(m.Regions), len(m.Skipped))
	}
	for _, s := range m.Skipped {
		for _, part := range []string{"MiB, the limit is ", "raise memory", "larger spacing"} {
			if !strings.Contains(s.Reason.Error(), part) {
				t.Errorf("reason %q lacks %q", s.Reason, part)
			}
		}
	}
	if !mem.tryTake(mem.limit) {
		t.Error("memory is lost")
	}

	const gib = 1 << 30
	got := TooLarge("it", 5*gib+gib/5, 4*gib, "raise memory").Error()
	if want := "it needs about 5.2 GiB, the limit is 4.0 GiB; raise memory [memory.limit]"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// The points of contours are counted before one of them is read: what they take is no more than was foreseen and not much less, and what
// can never fit is refused.
func TestPointsOfContours(t *testing.T) {
	contours, images := readStudy(t, testdata.SyntheticCT)
	d := contours.DataSet
	c := d.Seq(dicom.ROIContourSequence)[0].Seq(dicom.ContourSequence)[0]
	few := c.Bytes(dicom.ContourData)
	const rounds = 20_000
	c.SetBytes(dicom.ContourData, dicom.DS, bytes.Repeat(append(bytes.TrimRight(few, " "), '\\'), rounds)[:rounds*(len(bytes.TrimRight(few, " "))+1)-1])
	contours.Memory += int64(rounds * len(few))
	kept, most := pointsOf(contours)
	if _, err := NewMemory(most).fits(contours); err != nil {
		t.Errorf("in just enough memory: %v", err)
	}
	_, err := NewMemory(most-1).Measure(t.Context(), Request{Contours: contours, Images: images, Choose: simple})
	var refused *refusal.Refusal
	if !errors.As(err, &refused) || refused.Code != refusal.MemoryLimit || !strings.Contains(refused.Text, "the structure set with all its points") {
		t.Errorf("in too little memory: %v", err)
	}
	live := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := live()
	regions, err := roi.Regions(contours)
	if err != nil {
		t.Fatal(err)
	}
	points, foreseen := live()-before, kept-contours.Memory
	if points > foreseen+foreseen/20 || points < foreseen/2 {
		t.Errorf("%d bytes foreseen, %d are held", foreseen, points)
	}
	runtime.KeepAlive(regions)
}

// A structure set is read beside others where they fit into the memory together, and alone where it is large, whatever its size.
func TestOneStructureSetAtATime(t *testing.T) {
	mem := NewMemory(1000)
	small, err := mem.read(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	other, err := mem.read(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := mem.read(soon, 1<<40); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a huge one is read beside others: %v", err)
	}
	small()
	small() // twice is once
	other()
	huge, err := mem.read(t.Context(), 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	soon, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := mem.read(soon, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("another one is read beside a huge one: %v", err)
	}
	none, err := mem.read(t.Context(), 0)
	if err != nil {
		t.Errorf("a segmentation waits: %v", err)
	}
	none()
	huge()
}

// A study that is too large is refused once, and is no failure that is tried again.
func TestStudyTooLarge(t *testing.T) {
	st, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	b := &bench{t: t, store: st, to: map[string][]string{}}
	o := testOptions()
	o.Memory = 1 << 20
	if b.p, err = New(st, b, o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.p.Run(ctx) }()
	contours, images := bundled(t)
	b.put(append(images, contours)...)
	state := b.wait(contours.String(dicom.StudyInstanceUID), func(s store.State) bool {
		return s.Name == StateRefused || s.Name == StateFailed || s.Name == StateComputed
	})
	if state.Name != StateRefused || !strings.Contains(state.Reason, "the limit is 1.0 MiB; raise memory") {
		t.Errorf("%s: %s", state.Name, state.Reason)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	// The same configuration says nothing new at the next start. More memory does.
	for _, c := range []struct {
		memory int64
		want   string
	}{{1 << 20, StateRefused}, {0, StateComputed}} {
		o.Memory = c.memory
		if b.p, err = New(st, b, o); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		go func() { ended <- b.p.Run(ctx) }()
		if c.want == StateComputed {
			b.wait(contours.String(dicom.StudyInstanceUID), is(c.want))
		} else {
			time.Sleep(100 * time.Millisecond)
			if s := b.p.Stats(); s.Refused+s.Computed > 0 {
				t.Errorf("computed again: %+v", s)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// Many studies in memory for hardly more than one: each comes to its end, and none of the memory is lost.
func TestManyStudiesInLittleMemory(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	contours, images := readStudy(t, testdata.SyntheticCT)
	least := least(t, contours, images)
	mem := NewMemory(least + least/3)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var measured, skipped atomic.Int64
	var studies errgroup.Group
	for n := range 24 {
		studies.Go(func() error {
			choose := simple
			if n%3 == 0 { // fits for some regions or for none
				choose = func(image *dicom.DataSet, region roi.Region) (features.Profile, bool, error) {
					p, _, err := simple(image, region)
					p.Resample.Spacing = []float64{0.3, 0.3, 0.3}
					return p, true, err
				}
			}
			m, err := mem.Measure(ctx, Request{Contours: contours, Images: images, Choose: choose})
			if err != nil && !errors.Is(err, ErrNothingMeasured) {
				return err
			}
			measured.Add(int64(len(m.Regions)))
			skipped.Add(int64(len(m.Skipped)))
			m.Release()
			return nil
		})
	}
	if err := studies.Wait(); err != nil {
		t.Fatal(err)
	}
	if measured.Load() == 0 || skipped.Load() == 0 {
		t.Errorf("%d regions measured, %d refused: this shows nothing", measured.Load(), skipped.Load())
	}
	if !mem.tryTake(mem.limit) {
		t.Error("memory is lost")
	}
}

// Whoever gives up while waiting leaves nothing behind, and the others go on.
func TestCancelWhileWaiting(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	contours, images := readStudy(t, testdata.SyntheticCT)
	least := least(t, contours, images)
	mem := NewMemory(least)
	other, err := mem.take(t.Context(), least, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		_, err := mem.Measure(ctx, Request{Contours: contours, Images: images, Choose: simple})
		gaveUp <- err
	}()
	patient := make(chan error)
	go func() {
		m, err := mem.Measure(t.Context(), Request{Contours: contours, Images: images, Choose: simple})
		if err == nil {
			m.Release()
		}
		patient <- err
	}()
	select {
	case err := <-gaveUp:
		t.Fatalf("did not wait: %v", err)
	case err := <-patient:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
	other.release()
	if err := <-patient; err != nil {
		t.Error(err)
	}
	if !mem.tryTake(least) {
		t.Error("memory is lost")
	}
}

// Computations of random needs, each with regions that use what is free: all end, and never is more held than the limit.
func TestMemoryEnds(t *testing.T) {
	const limit = 1000
	mem := NewMemory(limit)
	var held atomic.Int64
	hold := func(n int64) {
		if h := held.Add(n); h > limit {
			t.Errorf("%d of %d held", h, limit)
		}
	}
	var tasks errgroup.Group
	for seed := range uint64(100) {
		tasks.Go(func() error {
			r := rand.New(rand.NewPCG(6, seed))
			work := 1 + r.Int64N(limit)
			kept := r.Int64N(limit - work + 1)
			s, err := mem.take(t.Context(), kept, work)
			if err != nil {
				return err
			}
			defer s.release()
			hold(kept)
			defer hold(-kept)
			var regions errgroup.Group
			for range 8 {
				need := r.Int64N(work + 1)
				regions.Go(func() error {
					done, err := s.use(t.Context(), need)
					if err != nil {
						return err
					}
					hold(need)
					runtime.Gosched()
					hold(-need)
					done()
					return nil
				})
			}
			return regions.Wait()
		})
	}
	if err := tasks.Wait(); err != nil {
		t.Fatal(err)
	}
	if !mem.tryTake(limit) {
		t.Error("memory is lost")
	}
}

// What is admitted covers what is in use, from the first pixel to the written report, and is not much more.
func TestAdmittedIsEnough(t *testing.T) {
	if testing.Short() {
		t.Skip("measures a thorax")
	}
	contours, images := sharedStudy(t, "lung1/LUNG1-001")
	choose := func(*dicom.DataSet, roi.Region) (features.Profile, bool, error) {
		p := features.DefaultProfile("CT")
		p.Families = []features.Family{features.Morphology, features.LocalIntensity, features.Statistics, features.GLSZM}
		return p, true, nil
	}
	p := planned(t, contours, images, choose, 1<<40)
	limit := p.kept + p.work // with nothing to spare for a second region at the same time
	mem := NewMemory(limit)
	defer debug.SetGCPercent(debug.SetGCPercent(1))
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	in := func() int64 {
		metrics.Read(live)
		return int64(live[0].Value.Uint64())
	}
	runtime.GC()
	before, most := in(), int64(0)
	var wait sync.WaitGroup
	done := make(chan struct{})
	wait.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Microsecond):
				most = max(most, in()-before)
			}
		}
	})
	m, err := mem.Measure(t.Context(), Request{Contours: contours, Images: images, Choose: choose})
	if err == nil {
		_, err = testOptions().Make(m, Revision{Input: "input", Number: 1}, DefaultStyle)
	}
	close(done)
	wait.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if most > limit || limit > 3*most {
		t.Errorf("%s were in use, %s admitted", mebibytes(most), mebibytes(limit))
	}
	t.Logf("%s in use, %s admitted, of which %s are shared between regions", mebibytes(most), mebibytes(limit), mebibytes(p.views[0].batch.Shared()))
}
