package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/store"
)

// What the disk does not take is kept in hand until it does; whatever else the store says is said at once, and so is that ctx is done.
func TestInsist(t *testing.T) {
	s := startSending(t, t.TempDir(), node, nil)
	s.p.outcomeRetry = time.Millisecond
	full := fmt.Errorf("store: %w", &dimse.Status{Code: dimse.StatusOutOfResources, Comment: "disk full"})
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for _, c := range []struct {
		name    string
		ctx     context.Context
		answers []error // of the store, the last one for ever
		want    error
		writes  int
	}{
		{"taken", t.Context(), []error{nil}, nil, 1},
		{"full for a while", t.Context(), []error{full, full, full, nil}, nil, 4},
		{"full until the end", stopped, []error{full}, full, 1},
		{"taken at the end", stopped, []error{nil}, nil, 1},
		{"done by another", t.Context(), []error{store.ErrFinished}, store.ErrFinished, 1},
		{"the study has left meanwhile", t.Context(), []error{full, store.ErrNotFound}, store.ErrNotFound, 2},
	} {
		n := 0
		err := s.p.insist(c.ctx, &store.Job{Key: "x"}, func(ctx context.Context) error {
			if ctx.Err() != nil {
				t.Errorf("%s: what is done is not stored since the node stops", c.name)
			}
			n++
			return c.answers[min(n, len(c.answers))-1]
		})
		if !errors.Is(err, c.want) || n != c.writes {
			t.Errorf("%s: %v after %d writes, want %v after %d", c.name, err, n, c.want, c.writes)
		}
	}
	if n := s.log.count("does not take the outcome"); n != 3 {
		t.Errorf("%d lines tell of a full disk, want one each time", n)
	}
}

// panicking panics at what is sent until it is cured.
type panicking struct {
	Sender
	tries atomic.Int64
	cured atomic.Bool
}

func (p *panicking) Send(ctx context.Context, to dimse.Peer, objects [][]Version) error {
	if p.tries.Add(1); !p.cured.Load() {
		panic("poison")
	}
	return p.Sender.Send(ctx, to, objects)
}

// A delivery that panics is given up after the tries of a computation, visibly, and has as many again when a person says so.
func TestPanickingDelivery(t *testing.T) {
	to, sender := startPACS(t, "127.0.0.1:0"), &panicking{Sender: node}
	s := startSending(t, t.TempDir(), sender, nil, to.peer())
	uid := s.result(to.peer(), "a", "report", 1)
	for round := int64(1); round <= 2; round++ {
		until(t, "it is parked", func() bool { return s.destination(to.peer()).Parked == 1 })
		if n := sender.tries.Load(); n != round*failTries {
			t.Errorf("%d tries, want %d", n, round*failTries)
		}
		if state := s.state(to.peer(), uid); state.Name != StateUndelivered || !strings.HasPrefix(state.Reason, "given up after 5 tries: internal error: ") {
			t.Errorf("%s: %s", state.Name, state.Reason)
		}
		sender.cured.Store(round == 2)
		if n, err := s.p.Requeue(t.Context(), aStudy); err != nil || n.Deliveries != 1 {
			t.Fatal(n, err)
		}
		until(t, "it is tried again", func() bool { return sender.tries.Load() > round*failTries })
	}
	until(t, "it is delivered", func() bool { return s.state(to.peer(), uid).Name == StateDelivered })
}

// Whoever requeues a computation by hand gives it all its tries again.
func TestRequeuedHasAllTries(t *testing.T) {
	contours, images := bundled(t)
	study := contours.String(dicom.StudyInstanceUID)
	var tries atomic.Int64
	b, _ := openBench(t, t.TempDir(), little, hook(func(context.Context, string, Request) error {
		tries.Add(1)
		return errors.New("the disk")
	}))
	b.put(append(images, contours)...)
	for round := int64(1); round <= 3; round++ {
		b.wait(study, func(s store.State) bool { return s.Name == StateFailed && tries.Load() == round*failTries })
		if n, err := b.p.Requeue(t.Context(), study); err != nil || n != (Requeued{Computations: 1}) {
			t.Fatal(n, err)
		}
		until(t, "it is tried again", func() bool { return tries.Load() > round*failTries })
	}
}

// Other bytes that take the place of an image or of the contours while a computation is queued are not reported under the digest of
// the first: the computation is left, and the matcher starts another.
func TestOtherBytesWhileQueued(t *testing.T) {
	contours, images := bundled(t)
	study := contours.String(dicom.StudyInstanceUID)
	for name, other := range map[string]*dicom.DataSet{"contours": contours, "image": images[3]} {
		t.Run(name, func(t *testing.T) {
			st, err := store.Open(t.TempDir(), store.Options{Conflicts: store.KeepLast})
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			s := newStepper(t, st, func(o *Options) { o.Quiet = time.Millisecond })
			s.receive(append(images, contours)...)
			queued := s.state(study)
			if queued.Name != StateQueued {
				t.Fatalf("%+v", queued)
			}
			was := other.String(dicom.SeriesDescription)
			other.SetString(dicom.SeriesDescription, "sent once more "+t.Name())
			defer other.SetString(dicom.SeriesDescription, was)
			s.put(other) // the matcher does not know yet
			s.compute()
			left := s.state(study)
			if q := st.Queues()[computeQueue]; left.Name != StateWaiting || q.Done != 1 || q.Parked != 0 {
				t.Fatalf("%s: %s, queue %+v", left.Name, left.Reason, q)
			}
			time.Sleep(2 * time.Millisecond)
			s.p.matcher.poked(t.Context())
			s.compute()
			now := s.state(study)
			if now.Name != StateComputed || detailOf(now).Input == detailOf(queued).Input || detailOf(now).Revision != 1 {
				t.Errorf("%s %+v, queued was %+v", now.Name, detailOf(now), detailOf(queued))
			}
		})
	}
}

// An image that is discarded while a computation is queued is waited for.
func TestDiscardedWhileQueued(t *testing.T) {
	contours, images := bundled(t)
	study := contours.String(dicom.StudyInstanceUID)
	st := emptyStore(t)
	s := newStepper(t, st, few)
	s.receive(append(images, contours)...)
	gone := images[2].String(dicom.SOPInstanceUID)
	if err := st.Discard(t.Context(), Discarded, gone); err != nil {
		t.Fatal(err)
	}
	s.compute()
	s.p.matcher.poked(t.Context())
	time.Sleep(refresh) // the list of what is missing is not durable each time
	s.p.matcher.look(t.Context(), study)
	if state := s.state(study); state.Name != StateWaiting || len(state.Missing) != 1 || state.Missing[0] != gone {
		t.Errorf("%s: %s, %v", state.Name, state.Reason, state.Missing)
	}
	s.receive(images[2])
	s.compute()
	if state := s.state(study); state.Name != StateComputed {
		t.Errorf("%s: %s", state.Name, state.Reason)
	}
}

// A study that is discarded while it is computed gets no report, and nothing is tried again.
func TestDiscardedWhileComputed(t *testing.T) {
	contours, images := bundled(t)
	study := contours.String(dicom.StudyInstanceUID)
	measuring, goOn := make(chan bool), make(chan bool)
	log := &lines{t: t}
	b, _ := openBench(t, t.TempDir(), func(o *Options) { little(o); o.Logger = slog.New(slog.NewTextHandler(log, nil)) }, hook(func(context.Context, string, Request) error {
		measuring <- true
		<-goOn
		return nil
	}))
	b.put(append(images, contours)...)
	<-measuring
	if _, err := b.p.Discard(t.Context(), study, false); err == nil || !strings.Contains(err.Error(), "is not finished") {
		t.Errorf("discarded without force: %v", err)
	}
	if n, err := b.p.Discard(t.Context(), study, true); err != nil || n.Studies != 1 {
		t.Fatal(n, err)
	}
	close(goOn)
	other, also := otherStudy(t, 1)
	go func() { <-measuring }()
	b.put(other...)
	b.wait(also, is(StateComputed))
	if s, err := b.store.Study(study); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("something of the study is here: %+v, %v", s, err)
	}
	if n := log.count("not stored"); n != 0 {
		t.Errorf("%d lines say that an outcome was not stored, as if that was a fault", n)
	}
}

// Contours that wait on a series that is not measured any more wait no more, so that their study may leave; and what could not be
// read as a whole and now can is not refused any more.
func TestStatesThatNothingComesOf(t *testing.T) {
	contours, images := bundled(t)
	_, again := bundled(t)
	study, uid := contours.String(dicom.StudyInstanceUID), contours.String(dicom.SOPInstanceUID)
	other := again[0]
	other.SetString(dicom.SeriesInstanceUID, "1.2.3.4")
	other.SetString(dicom.SOPInstanceUID, "1.2.3.4.1")
	other.SetInt(dicom.NumberOfSeriesRelatedInstances, 7)
	st := emptyStore(t)
	s := newStepper(t, st, func(o *Options) { few(o); o.Also = []string{"CT"} })
	s.receive(append(images, contours, other)...)
	s.compute()
	counts := func() map[string]int {
		t.Helper()
		a, _, err := s.p.Account(study)
		if err != nil {
			t.Fatal(err)
		}
		return a.Counts()
	}
	if n := counts(); n[StateWaiting] != 2 { // contours and the other image
		t.Fatalf("%v", n)
	}
	// As a version left it that could not read these contours.
	err := st.Commit(t.Context(), store.Change{States: []store.State{{Study: study, Subject: uid, Name: StateRefused, Reason: "x", Detail: detail{Config: "old"}.raw()}}})
	if err != nil {
		t.Fatal(err)
	}
	s = newStepper(t, st, few)
	if n := counts(); n[StateWaiting] != 0 || n[StateRefused] != 0 || n[StateUnmatched] != 1 || n[StateComputed] != len(images)+1 {
		t.Errorf("%v", n)
	}
	now, err := st.Study(study)
	if err != nil || !s.p.matcher.settled(now) {
		t.Errorf("a start looks at the study again, %v", err)
	}
	s = newStepper(t, st, func(o *Options) { few(o); o.Also = []string{"CT"} })
	if n := counts(); n[StateWaiting] != 2 {
		t.Errorf("asked for again: %v", n)
	}
}

// Contours that are refused by another configuration for the same reason are not read at each start.
func TestRefusedOnceByEachConfiguration(t *testing.T) {
	contours, _ := bundled(t)
	study := contours.String(dicom.StudyInstanceUID)
	contours.Remove(dicom.ReferencedFrameOfReferenceSequence, dicom.ROIContourSequence)
	st := emptyStore(t)
	s := newStepper(t, st, few)
	s.receive(contours)
	first := s.state(study)
	s = newStepper(t, st, func(o *Options) { few(o); o.Memory = 1 << 40 })
	second := s.state(study)
	if first.Name != StateRefused || second.Name != StateRefused || second.Reason != first.Reason || !second.At.Equal(first.At) {
		t.Fatalf("%+v, then %+v", first, second)
	}
	if now, err := st.Study(study); err != nil || !s.p.matcher.settled(now) {
		t.Errorf("a start looks at the study again, %v", err)
	}
	if n, err := s.p.Requeue(t.Context(), study); err != nil || n.Refused != 1 {
		t.Error(n, err)
	}
	s.p.matcher.poked(t.Context())
	if now, err := st.Study(study); err != nil || !s.p.matcher.settled(now) {
		t.Errorf("after a requeue a start looks at the study again, %v", err)
	}
}

// Where commit is taken out of the configuration, what was not confirmed yet is not asked for any more.
func TestCommitmentTakenOut(t *testing.T) {
	dir := t.TempDir()
	to, k := startPACS(t, "127.0.0.1:0"), &keeper{}
	k.answer = func(int, dimse.CommitmentRequest) (*dimse.CommitmentReport, error) { return nil, nil } // for ever
	to.do(func(p *pacs) { p.commit = k })
	s, _ := startCommitting(t, dir, to)
	uid := s.result(to.peer(), "a", "report", 1)
	until(t, "asked", func() bool { return len(k.asked()) > 0 })
	s.stop()
	s = startSending(t, dir, node, nil, to.peer())
	queue := commitPrefix + to.peer().String()
	until(t, "it is not asked for any more", func() bool { q := s.store.Queues()[queue]; return q.Pending+q.Leased+q.Parked == 0 })
	if state := s.state(to.peer(), uid); state.Name != StateDelivered {
		t.Errorf("%s", state.Name)
	}
}

// What radnode itself made under a UID that was taken was not received: the states of a study and the balance agree on that.
func TestEvidenceThatWasMade(t *testing.T) {
	contours, images := bundled(t)
	study := contours.String(dicom.StudyInstanceUID)
	s := newStepper(t, emptyStore(t), few)
	s.receive(append(images, contours)...)
	s.compute()
	report := detailOf(s.state(study)).report()
	d := s.stored(report)
	d.SetString(dicom.SeriesDescription, "made by another")
	s.put(d) // evidence that was received, beside what was made
	in := smallReport(t, report)
	in.Identity.StudyInstanceUID = study
	if err := s.store.Commit(t.Context(), store.Change{Instances: []store.NewInstance{in}}); err != nil {
		t.Fatal(err)
	}
	if now, err := s.store.Instance(report); err != nil || now.Conflicts != 2 {
		t.Fatalf("%+v, %v", now, err)
	}
	a, _, err := s.p.Account(study)
	if err != nil || a.Counts()[StateConflict] != 1 {
		t.Errorf("%v, %v: want one that was received", a.Counts(), err)
	}
	days, err := s.p.Balance(t.Context())
	if err != nil || len(days) != 1 || days[0].States[StateConflict] != 1 || days[0].Difference != 0 {
		t.Errorf("%+v, %v", days, err)
	}
}

// A start that has looked at a study tells the next one, but not where something is still to come of it.
func TestStartsTellEachOther(t *testing.T) {
	contours, images := bundled(t)
	study := contours.String(dicom.StudyInstanceUID)
	st := emptyStore(t)
	settled := func(s *stepper) bool {
		t.Helper()
		now, err := st.Study(study)
		if err != nil {
			t.Fatal(err)
		}
		return s.p.matcher.settled(now)
	}
	s := newStepper(t, st, few)
	s.receive(append(images, contours)...)
	s.compute()
	if !settled(s) {
		t.Error("what was computed is looked at again")
	}
	_, again := bundled(t)
	for i, late := range again[:2] { // of another series; then an image of the series that was measured
		late.SetString(dicom.SOPInstanceUID, fmt.Sprint("1.2.3.4.", i))
		if i == 0 {
			late.SetString(dicom.SeriesInstanceUID, "1.2.3.4")
		} else {
			position, err := late.Floats(dicom.ImagePositionPatient)
			if err != nil {
				t.Fatal(err)
			}
			position[2] += 1000
			late.SetFloat(dicom.ImagePositionPatient, position...)
		}
		s.put(late)
		if settled(s) {
			t.Errorf("late image %d: nobody has looked at it", i)
		}
		was := s.state(study)
		s = newStepper(t, st, few)
		if !settled(s) {
			t.Errorf("late image %d: the next start looks again", i)
		}
		if now := s.state(study); now.Name != StateComputed || !now.At.Equal(was.At) {
			t.Errorf("late image %d: %+v", i, now)
		}
	}

	// Contours that name nothing but their series: a late image is gathered for a while, of which the next start must know.
	other, uid := otherStudy(t, 3)
	contours, images = other[len(other)-1], other[:len(other)-1]
	dropSeriesList(contours)
	for _, r := range contours.Seq(dicom.ROIContourSequence) {
		for _, c := range r.Seq(dicom.ContourSequence) {
			c.Remove(dicom.ContourImageSequence)
		}
		source := dicom.New()
		source.SetString(dicom.SeriesInstanceUID, images[0].String(dicom.SeriesInstanceUID))
		r.SetSeq(dicom.SourceSeriesSequence, source)
	}
	study = uid
	slow := func(o *Options) { few(o); o.Quiet = time.Hour }
	slices.SortFunc(images, func(a, b *dicom.DataSet) int {
		za, _ := a.Floats(dicom.ImagePositionPatient)
		zb, _ := b.Floats(dicom.ImagePositionPatient)
		return cmp.Compare(za[2], zb[2])
	})
	s = newStepper(t, st, func(o *Options) { few(o); o.Quiet = time.Nanosecond })
	s.receive(append(slices.Clone(images[:len(images)-1]), contours)...)
	s.p.matcher.look(t.Context(), study)
	s.compute()
	if state := s.state(study); state.Name != StateComputed {
		t.Fatalf("%s: %s", state.Name, state.Reason)
	}
	s.put(images[len(images)-1])
	if s = newStepper(t, st, slow); settled(s) || s.p.matcher.due[study].IsZero() {
		t.Error("a late image that is waited upon is forgotten at the next start")
	}
}
