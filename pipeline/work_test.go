package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/panics"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/store"
	"github.com/radnode/radnode/testdata"
)

// otherStudy is the bundled study under other UIDs: its objects, and their study.
func otherStudy(t *testing.T, k int) (objects []*dicom.DataSet, study string) {
	t.Helper()
	contours, images := bundled(t)
	objects = append(images, contours)
	own := map[string]bool{}
	for _, d := range objects {
		for _, tag := range []dicom.Tag{dicom.SOPInstanceUID, dicom.SeriesInstanceUID, dicom.StudyInstanceUID} {
			own[d.String(tag)] = true
		}
	}
	var rename func(d *dicom.DataSet)
	rename = func(d *dicom.DataSet) {
		for e := range d.Elements() {
			for _, item := range e.Items() {
				rename(item)
			}
			if uid := d.String(e.Tag); e.VR == dicom.UI && own[uid] {
				d.SetString(e.Tag, dicom.UIDFrom(uid, fmt.Sprint(k)))
			}
		}
	}
	for _, d := range objects {
		rename(d)
	}
	return objects, contours.String(dicom.StudyInstanceUID)
}

// little measures little, and tries again at once.
func little(o *Options) {
	p := features.DefaultProfile("CT")
	p.Families = []features.Family{features.Statistics}
	o.Profiles, o.Rules = map[string]features.Profile{"quick": p}, []Rule{{Profile: "quick"}}
	o.Backoff = Backoff{First: time.Millisecond, Max: time.Millisecond}
	o.Deliver = nil
}

// hook lets fn act before the studies are measured.
func hook(fn func(ctx context.Context, study string, q Request) error) func(*Pipeline) {
	return func(p *Pipeline) {
		p.crew.pause, p.crew.grace = 10*time.Millisecond, 50*time.Millisecond
		p.measure = func(ctx context.Context, q Request) (*Measured, error) {
			if err := fn(ctx, q.Contours.DataSet.String(dicom.StudyInstanceUID), q); err != nil {
				return nil, err
			}
			return p.memory.Measure(ctx, q)
		}
	}
}

// panicInRegion is what happens where a region is measured in a goroutine of its own and that panics.
func panicInRegion(ctx context.Context, q Request) error {
	m := &Measured{}
	return m.view(ctx, q, &plan{regions: []roi.Region{{}}, need: []int64{0}}, &view{order: []int{0}}) // without a batch
}

// A study that panics, in a goroutine too, is given up after the stated tries, says why, and the others are computed; so it stays
// after a restart. When it is sent again it is tried again.
func TestPoisonedStudy(t *testing.T) {
	for name, poison := range map[string]func(context.Context, Request) error{
		"panic":                func(context.Context, Request) error { panic("poison") },
		"panic in a goroutine": panicInRegion,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			const good = 10
			var bad string
			var tried atomic.Int64
			var cured atomic.Bool
			act := hook(func(ctx context.Context, study string, q Request) error {
				if study != bad || cured.Load() {
					return nil
				}
				tried.Add(1)
				return poison(ctx, q)
			})
			objects, study := otherStudy(t, 0)
			bad = study
			b, stop := openBench(t, dir, little, act)
			b.put(objects...)
			for k := range good {
				objects, study := otherStudy(t, k+1)
				b.put(objects...)
				b.wait(study, is(StateComputed))
			}
			state := b.wait(bad, is(StateFailed))
			if want := "given up after 5 tries: internal error: "; !strings.HasPrefix(state.Reason, want) {
				t.Errorf("given up as %q, want %q", state.Reason, want)
			}
			if n := tried.Load(); n != failTries {
				t.Errorf("tried %d times, want %d", n, failTries)
			}
			stop()
			b, stop = openBench(t, dir, little, act)
			time.Sleep(50 * time.Millisecond)
			if n := tried.Load(); n != failTries || b.state(bad).Name != StateFailed {
				t.Errorf("after a restart tried %d times, %q", n, b.state(bad).Name)
			}
			if q := b.store.Queues()[computeQueue]; q.Parked != 1 || q.Pending != 0 {
				t.Errorf("%+v", q)
			}
			cured.Store(true)
			b.put(objects...)
			b.wait(bad, is(StateComputed))
			if q := b.store.Queues()[computeQueue]; q.Parked != 0 {
				t.Errorf("what was given up and then computed is still parked: %+v", q)
			}
			stop()
		})
	}
}

// The panic in a region is caught where it happens, and keeps its stack.
func TestPanicInRegion(t *testing.T) {
	contours, images := readStudy(t, testdata.SyntheticCT)
	err := panicInRegion(t.Context(), Request{Contours: contours, Images: images})
	var defect *panics.Error
	if !errors.As(err, &defect) || !strings.Contains(defect.Stack, "view") {
		t.Errorf("%v", err)
	}
}

// A computation that takes too long is cancelled and tried once more; one that does not stop then keeps nobody from working.
func TestSlowStudy(t *testing.T) {
	for _, obeys := range []bool{true, false} {
		t.Run(fmt.Sprintf("stops %v", obeys), func(t *testing.T) {
			let := make(chan struct{})
			free := sync.OnceFunc(func() { close(let) })
			defer free()
			objects, bad := otherStudy(t, 0)
			b, stop := openBench(t, t.TempDir(), func(o *Options) {
				little(o)
				o.Timeout, o.Workers = 2*time.Second, 1
			}, hook(func(ctx context.Context, study string, q Request) error {
				if study != bad {
					return nil
				}
				if err := q.admit(func() error { return nil }); err != nil { // sits at the only desk
					return err
				}
				if obeys {
					<-ctx.Done()
					return ctx.Err()
				}
				<-let
				return nil
			}))
			b.put(objects...)
			for k := range 2 {
				objects, study := otherStudy(t, k+1)
				b.put(objects...)
				b.wait(study, is(StateComputed))
			}
			state := b.wait(bad, is(StateFailed))
			if obeys && state.Reason != "given up after 2 tries: takes too long: more than 2s" {
				t.Errorf("given up as %q", state.Reason)
			}
			if stuck := b.p.Stats().Stuck; obeys == (stuck == 1) {
				t.Errorf("%d computations are stuck", stuck)
			}
			free()
			for deadline := time.Now().Add(patience); b.p.Stats().Stuck > 0; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the computation has ended and still counts")
				}
			}
			if s := b.state(bad); s.Name != StateFailed {
				t.Errorf("what was given up became %q", s.Name)
			}
			stop()
			if !b.p.memory.tryTake(b.p.memory.limit) {
				t.Error("memory is lost")
			}
		})
	}
}

// Who is told to stop while computing gives the work back, and that is no crash: it may happen any number of times.
func TestStoppedWhileComputing(t *testing.T) {
	dir := t.TempDir()
	objects, study := otherStudy(t, 0)
	for round := range crashTries + 1 {
		began := make(chan struct{}, 1)
		b, stop := openBench(t, dir, little, hook(func(ctx context.Context, _ string, _ Request) error {
			began <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}))
		if round == 0 {
			b.put(objects...)
		}
		select {
		case <-began:
		case <-time.After(patience):
			t.Fatalf("not computed after %d stops", round)
		}
		stop()
	}
	b, stop := openBench(t, dir, little)
	b.wait(study, is(StateComputed))
	if n := len(b.store.Jobs(computeQueue)); n != 0 {
		t.Errorf("%d computations are left", n)
	}
	stop()
}

const crashEnv = "RADNODE_PIPELINE_CRASH"

// crashing is the child of TestCrashingStudy: it computes what is queued in a folder and dies at one of the studies.
func crashing(t *testing.T, dir, bad string) {
	log, err := os.OpenFile(filepath.Join(dir, "computed"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	var b *bench
	ready := make(chan struct{})
	b, stop := openBench(t, filepath.Join(dir, "data"), func(o *Options) {
		little(o)
		o.Workers = 2
	}, hook(func(_ context.Context, study string, _ Request) error {
		<-ready
		fmt.Fprintln(log, study, b.state(study).Name)
		if study == bad {
			time.Sleep(20 * time.Millisecond) // others are under way
			if self, err := os.FindProcess(os.Getpid()); err == nil {
				_ = self.Kill()
			}
			select {}
		}
		time.Sleep(50 * time.Millisecond)
		return nil
	}))
	close(ready)
	for {
		if q := b.store.Queues()[computeQueue]; q.Pending+q.Leased == 0 && q.Done > 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	stop()
}

// A study during which the process dies is given up after the stated number of deaths. Those that were computed beside it are
// told apart: they are computed, and none of them after it was done.
func TestCrashingStudy(t *testing.T) {
	if v := os.Getenv(crashEnv); v != "" {
		dir, bad, _ := strings.Cut(v, " ")
		crashing(t, dir, bad)
		return
	}
	dir := t.TempDir()
	var bad string
	var all []string
	st, err := store.Open(filepath.Join(dir, "data"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	filler := &bench{t: t, store: st}
	for k := range 6 {
		objects, study := otherStudy(t, k)
		filler.put(objects...)
		if all = append(all, study); k == 2 {
			bad = study
		}
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	deaths := 0
	for {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCrashingStudy$")
		cmd.Env = append(os.Environ(), crashEnv+"="+dir+" "+bad)
		out, err := cmd.CombinedOutput()
		if err == nil {
			break
		}
		if deaths++; deaths > crashTries || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("death %d: %v\n%s", deaths, err, out)
		}
	}
	if deaths != crashTries {
		t.Errorf("the process died %d times, want %d", deaths, crashTries)
	}
	if st, err = store.Open(filepath.Join(dir, "data"), store.Options{}); err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	b := &bench{t: t, store: st}
	for _, study := range all {
		s := b.state(study)
		switch {
		case study != bad && s.Name == StateComputed && detailOf(s).Revision == 1:
		case study == bad && s.Name == StateFailed && s.Reason == "the process ended 3 times while this study was computed: a crash, or out of memory":
		default:
			t.Errorf("study %s (%v): %s, %s", study, study == bad, s.Name, s.Reason)
		}
	}
	begun, err := os.ReadFile(filepath.Join(dir, "computed"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(begun, []byte(StateComputed)) {
		t.Errorf("something was computed after it was done:\n%s", begun)
	}
	if n := bytes.Count(begun, []byte(bad)); n != crashTries {
		t.Errorf("the poisoned study was begun %d times, want %d", n, crashTries)
	}
	if n := bytes.Count(begun, []byte("\n")); n > len(all)-1+crashTries+2*2 {
		t.Errorf("begun %d times:\n%s", n, begun)
	}
}

// A small study passes a huge one that waits where both fit beside each other, and the huge one is not held up by it.
func TestSmallPassesHuge(t *testing.T) {
	mem := NewMemory(100)
	running, err := mem.take(t.Context(), 50, 0)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	var mu sync.Mutex
	granted := map[string]*grant{}
	var wait sync.WaitGroup
	ask := func(name string, n int64) {
		t.Helper()
		queued := func() int {
			mem.mu.Lock()
			defer mem.mu.Unlock()
			return len(mem.waiting)
		}
		before := queued()
		wait.Go(func() {
			g, err := mem.take(t.Context(), n, 0)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			order = append(order, name)
			granted[name] = g
		})
		for { // until it waits or has it
			mu.Lock()
			has := granted[name] != nil
			mu.Unlock()
			if has || queued() > before {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	have := func(want ...string) {
		t.Helper()
		deadline := time.Now().Add(patience)
		for {
			mu.Lock()
			got := slices.Clone(order)
			mu.Unlock()
			if slices.Equal(got, want) {
				return
			}
			if len(got) > len(want) || time.Now().After(deadline) {
				t.Fatalf("granted %v, want %v", got, want)
			}
			time.Sleep(time.Millisecond)
		}
	}
	ask("huge", 80)
	ask("small", 15)
	have("small")
	ask("small too", 15) // would be in the way of the huge one, with the small one
	have("small")
	running.release()
	have("small", "huge")
	granted["small"].release()
	have("small", "huge", "small too")
	granted["huge"].release()
	granted["small too"].release()
	wait.Wait()
	if !mem.tryTake(100) {
		t.Error("memory is lost")
	}
}

// After a start, a study is not read where all is decided and nothing has changed.
func TestSettled(t *testing.T) {
	dir := t.TempDir()
	objects, study := otherStudy(t, 0)
	settled := func(b *bench) bool {
		s, err := b.store.Study(study)
		if err != nil {
			t.Fatal(err)
		}
		return b.p.matcher.settled(s)
	}
	b, stop := openBench(t, dir, little)
	b.put(objects[1:]...)
	b.wait(study, is(StateWaiting))
	if settled(b) {
		t.Error("settled while it waits")
	}
	b.put(objects[0])
	b.wait(study, is(StateComputed))
	if !settled(b) {
		t.Error("not settled when it is computed")
	}
	stop()
	b, stop = openBench(t, dir, func(o *Options) {
		little(o)
		o.Also = []string{"PT"}
	})
	if settled(b) {
		t.Error("settled where other series are to be measured than before")
	}
	stop()
	b, stop = openBench(t, dir, little)
	if !settled(b) {
		t.Error("not settled after a restart")
	}
	late := *objects[0]
	late.SetString(dicom.SOPInstanceUID, "2.25.4711")
	b.put(&late)
	if settled(b) {
		t.Error("settled though an image came")
	}
	stop()
}

// Contours at which the matcher panics are refused with that reason.
func TestPanicOfMatcher(t *testing.T) {
	b, stop := openBench(t, t.TempDir(), little)
	defer stop()
	objects, study := otherStudy(t, 0)
	b.put(objects[1:]...)
	b.wait(study, is(StateWaiting))
	m := newMatcher(b.p)
	m.waiting.lack = nil // it panics where the waiter is noted
	m.look(t.Context(), study)
	s, err := b.store.Study(study)
	if err != nil {
		t.Fatal(err)
	}
	state, _ := stateOf(s, objects[len(objects)-1].String(dicom.SOPInstanceUID))
	if state.Name != StateRefused || !strings.HasPrefix(state.Reason, "internal error: ") {
		t.Errorf("%+v", state)
	}
}

// What came while no pipeline ran is found at the start, and what comes then is looked at before it.
func TestStartLooks(t *testing.T) {
	dir := t.TempDir()
	objects, study := otherStudy(t, 0)
	b, stop := openBench(t, dir, little)
	b.put(objects[1:]...)
	b.wait(study, is(StateWaiting))
	stop()
	st, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b = &bench{t: t, store: st}
	b.put(objects[0])
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	b, stop = openBench(t, dir, little)
	b.wait(study, is(StateComputed))
	stop()

	if st, err = store.Open(dir, store.Options{}); err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	b = &bench{t: t, store: st}
	var studies []string
	for k := range 40 {
		objects, study := otherStudy(t, k+1)
		b.put(objects[len(objects)-1]) // contours without images
		studies = append(studies, study)
	}
	slices.Sort(studies)
	last := studies[len(studies)-1] // the look through all comes to it at the end
	s, err := st.Study(last)
	if err != nil {
		t.Fatal(err)
	}
	o := testOptions()
	little(&o)
	if b.p, err = New(st, nil, o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	changed := make(chan store.Event, 1)
	changed <- store.Event{Study: last, Arrived: s.Instances}
	ended := make(chan error, 1)
	go func() { ended <- b.p.matcher.run(ctx, changed) }()
	at := b.wait(last, is(StateWaiting)).At
	before := 0
	for _, study := range studies[:len(studies)-1] {
		if b.wait(study, is(StateWaiting)).At.Before(at) {
			before++
		}
	}
	if before != 0 {
		t.Errorf("%d studies of before were looked at first", before)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
