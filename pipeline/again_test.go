package pipeline

import (
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/store"
)

// A stepper is a pipeline that does not run: the test takes each step, so that nothing has to be waited for.
type stepper struct {
	*bench
	events <-chan store.Event
}

// newStepper starts a pipeline on a store as it starts after another one: it looks at every study.
func newStepper(t *testing.T, st *store.Store, change func(*Options)) *stepper {
	t.Helper()
	o := testOptions()
	o.Deliver = []Destination{{Peer: dimse.Peer{AETitle: "PACS", Address: "127.0.0.1:104"}}}
	change(&o)
	b := &bench{t: t, store: st, to: map[string][]string{}}
	var err error
	if b.p, err = New(st, b, o); err != nil {
		t.Fatal(err)
	}
	b.p.outbox.open(func(string) {}) // nothing is delivered
	s := &stepper{b, st.Watch(t.Context())}
	for uid, err := range st.Studies() {
		if err != nil {
			t.Fatal(err)
		}
		b.p.matcher.first(t.Context(), uid)
	}
	s.compute()
	return s
}

// receive stores what a peer sends, and lets the matcher see it.
func (s *stepper) receive(objects ...*dicom.DataSet) {
	s.t.Helper()
	s.put(objects...)
	m := s.p.matcher
	unseen := map[string]bool{}
	for _, d := range objects {
		unseen[d.String(dicom.SOPInstanceUID)] = true
	}
	for len(unseen) > 0 {
		e := <-s.events
		for _, in := range e.Arrived {
			delete(unseen, in.SOPInstanceUID)
		}
		for _, uid := range e.Again {
			delete(unseen, uid)
		}
		m.arrived(s.t.Context(), e)
	}
	for uid, r := range m.resent {
		delete(m.resent, uid)
		m.reconsider(s.t.Context(), uid, r)
	}
}

// compute does what is queued, and tells how much of it nobody waits for.
func (s *stepper) compute() (low int) {
	s.t.Helper()
	for len(s.store.Jobs(computeQueue)) > 0 {
		job, err := s.store.Claim(s.t.Context(), computeQueue, time.Minute)
		if err != nil {
			s.t.Fatal(err)
		}
		if job.Priority < 0 {
			low++
		}
		if err := s.p.compute(s.t.Context(), job, nil); err != nil {
			s.t.Fatal(err)
		}
	}
	return low
}

func (b *bench) state(study string) store.State {
	b.t.Helper()
	s, err := b.store.Study(study)
	states := ofContours(s.States)
	if err != nil || len(states) != 1 {
		b.t.Fatalf("%d states, %v", len(states), err)
	}
	return states[0]
}

func version(v string) func(*Options) {
	return func(o *Options) { o.Equipment.SoftwareVersion = v }
}

// coarse measures regions of images of a modality by another profile than the built-in one.
func coarse(modality string) func(*Options) {
	return func(o *Options) {
		p := features.DefaultProfile("CT")
		p.Resample.Spacing = []float64{3, 3, 3}
		o.Profiles, o.Rules = map[string]features.Profile{"coarse": p}, []Rule{{When: When{Modality: modality}, Profile: "coarse"}}
	}
}

// What stands is made anew where it is sent again and what applies to it was configured otherwise, and not by a restart alone.
// Nothing else makes a second report.
func TestSentAgain(t *testing.T) {
	contours, images := bundled(t)
	study := contours.String(dicom.StudyInstanceUID)
	var last []detail // of every report that ever stood
	st, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for i, c := range []struct {
		name   string
		change func(*Options)
		send   []*dicom.DataSet
		anew   bool
	}{
		{"the first time", version("1"), append(images, contours), true},
		{"the same again", version("1"), append(images, contours), false},
		{"another version, not sent", version("2"), nil, false},
		{"another version, contours sent", version("2"), []*dicom.DataSet{contours}, true},
		{"and again", version("2"), append(images, contours), false},
		{"the first version once more, images sent", version("1"), images, true},
		{"the second version once more, one image sent", version("2"), images[4:5], true},
		{"a rule for other images", coarse("MR"), append(images, contours), true}, // of version "test"
		{"a profile more", func(o *Options) { coarse("MR")(o); o.Profiles["fine"] = features.DefaultProfile("CT") }, append(images, contours), false},
		{"more memory", func(o *Options) { o.Memory = 1 << 40 }, append(images, contours), false},
		{"another profile", coarse("CT"), append(images, contours), true},
		{"one region less", func(o *Options) {
			coarse("CT")(o)
			o.Rules = append([]Rule{{When: When{Number: 1}, Profile: Skip}}, o.Rules...)
		}, append(images, contours), true},
		{"the other region less", func(o *Options) {
			coarse("CT")(o)
			o.Rules = append([]Rule{{When: When{Number: 2}, Profile: Skip}}, o.Rules...)
		}, append(images, contours), true},
		{"another installation", func(o *Options) { o.Equipment.DeviceUID = "2.25.8" }, append(images, contours), true},
	} {
		b := newStepper(t, st, c.change)
		b.receive(c.send...)
		b.receive(c.send...) // the second time before anything was computed
		if low := b.compute(); low != min(i, 1) && c.anew || low > 1 {
			t.Errorf("%s: %d computations are of low priority", c.name, low)
		}
		state := b.state(study)
		d := detailOf(state)
		if state.Name != StateComputed || state.Rule != RuleNamed {
			t.Fatalf("%s: the state is %+v", c.name, state)
		}
		if c.send != nil && d.Config != b.p.config {
			t.Errorf("%s: the state does not say that it was decided", c.name)
		}
		want := 0
		if c.anew {
			want = 1
		}
		if got := b.p.Stats().Computed; got != want {
			t.Errorf("%s: %d reports computed, want %d", c.name, got, want)
		}
		if c.anew {
			var before []string
			if i > 0 {
				before = []string{last[len(last)-1].report()}
			}
			if got := predecessors(b.stored(d.report())); !slices.Equal(got, before) || d.Revision != len(last)+1 {
				t.Errorf("%s: revision %d names %v, want %d that names %v", c.name, d.Revision, got, len(last)+1, before)
			}
			if slices.ContainsFunc(last, func(o detail) bool { return o.report() == d.report() }) {
				t.Errorf("%s: a report that stood before", c.name)
			}
			last = append(last, d)
		} else if d.report() != last[len(last)-1].report() {
			t.Errorf("%s: another report stands", c.name)
		}
		deliveries := 0
		for name := range st.Queues() {
			for _, j := range st.Jobs(name) {
				deliveries++
				if low := j.Priority < 0; strings.HasSuffix(j.Key, d.report()) && low != (len(last) > 1) {
					t.Errorf("%s: the delivery has priority %d", c.name, j.Priority)
				}
			}
		}
		if deliveries != len(last) {
			t.Errorf("%s: %d deliveries of %d reports", c.name, deliveries, len(last))
		}
		s, err := st.Study(study)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range s.Instances {
			if in.Conflicts > 0 {
				t.Errorf("%s: %s has two contents", c.name, in.SOPInstanceUID)
			}
		}
	}
}

// A report that lacks a region for want of memory does not stand, though nothing else that applies to it has changed.
func TestLackingReportsDoNotStand(t *testing.T) {
	contours, images := bundled(t)
	b := newStepper(t, emptyStore(t), few)
	b.receive(append(images, contours)...)
	b.compute()
	state := b.state(contours.String(dicom.StudyInstanceUID))
	d := detailOf(state)
	made := task{Subject: contours.String(dicom.SOPInstanceUID), Series: d.Series, Input: d.Input, Images: []string{images[0].String(dicom.SOPInstanceUID)}}
	styles := b.p.styles(b.p.deliverTo(made.ReplyTo))
	for _, codes := range [][]refusal.Code{nil, {refusal.ContoursEmpty}, {refusal.MemoryLimit}} {
		d.Codes = codes
		state.Detail = d.raw()
		stands, err := b.p.stands(state, made, styles)
		if err != nil || stands != !slices.Contains(codes, refusal.MemoryLimit) {
			t.Errorf("without %v: stands %v, %v", codes, stands, err)
		}
	}
}

// Documents that are wanted, not wanted, and wanted again: what stands is superseded by the next of its kind, however long that
// is not made, and never shares its UID.
func TestStylesComeAndGo(t *testing.T) {
	contours, images := bundled(t)
	study := contours.String(dicom.StudyInstanceUID)
	st := emptyStore(t)
	var uids []string // of the report of each step
	for i, c := range []struct {
		style Style
		names []int // steps
	}{
		{Style{Documents: []Document{Full}}, nil},
		{Style{Documents: []Document{Key}}, nil},
		{Style{Documents: []Document{Full}}, []int{0}},
		{Style{Documents: []Document{Full}, Language: "it"}, []int{2}},
		{Style{Documents: []Document{Full}}, []int{3}},
		{Style{Documents: []Document{Key}}, []int{1}},
	} {
		b := newStepper(t, st, func(o *Options) { few(o); o.Style = c.style })
		b.receive(append(images, contours)...)
		b.compute()
		d := detailOf(b.state(study))
		uid := d.Documents[c.style.Over(DefaultStyle).key(c.style.Documents[0])]
		if uid == "" || slices.Contains(uids, uid) || d.Revision != i+1 {
			t.Fatalf("%d: report %q, revision %d; before %v", i, uid, d.Revision, uids)
		}
		uids = append(uids, uid)
		var want []string
		for _, k := range c.names {
			want = append(want, uids[k])
		}
		report := b.stored(uid)
		if got := predecessors(report); !slices.Equal(got, want) {
			t.Errorf("%d names %v, want %v of %v", i, got, want, uids)
		}
		if n, _ := report.Int(dicom.InstanceNumber); n != i+1 {
			t.Errorf("%d: Instance Number %d: it is another one that has the UID", i, n)
		}
	}
	// A destination that takes another SOP Class knows the predecessor as that, too.
	b := newStepper(t, st, few)
	now, err := b.p.versions(uids[5])
	if err != nil {
		t.Fatal(err)
	}
	then, err := b.p.versions(uids[1])
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range now {
		r, err := v.Open(dicom.ExplicitVRLittleEndian)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		report := decoded(t, store.NewInstance{Meta: dicom.FileMeta{TransferSyntaxUID: dicom.ExplicitVRLittleEndian}, Data: data})
		if got, want := predecessors(report), []string{then[i].SOPInstanceUID}; !slices.Equal(got, want) {
			t.Errorf("as %s it names %v, want %v", dicom.UIDName(v.SOPClassUID), got, want)
		}
	}
	// What cannot be measured any more supersedes all that stands.
	b = newStepper(t, st, func(o *Options) { few(o); o.ReportRefusals, o.Memory = true, 1<<16 })
	b.receive(append(images, contours)...)
	b.compute()
	state := b.state(study)
	d := detailOf(state)
	got := predecessors(b.stored(d.report()))
	slices.Sort(got)
	want := []string{uids[4], uids[5]}
	slices.Sort(want)
	if state.Name != StateRefused || len(d.Documents) != 1 || !slices.Equal(got, want) {
		t.Errorf("%s, %v names %v, want %v", state.Name, d.Documents, got, want)
	}
}

// Whatever is made is delivered, also where some of it is the same as before: captures of the same pixels have the same UIDs.
func TestEverythingIsDelivered(t *testing.T) {
	contours, images := bundled(t)
	st := emptyStore(t)
	var queue string
	for i, c := range []struct {
		version   string
		documents []Document
	}{
		{"1", []Document{Capture}}, {"1", []Document{PDF, Capture}}, {"2", []Document{PDF, Capture}}, {"1", []Document{PDF, Capture}}, {"1", []Document{Full, Capture}},
	} {
		b := newStepper(t, st, func(o *Options) { few(o); version(c.version)(o); o.Style = Style{Documents: c.documents} })
		queue = deliverPrefix + b.p.opt.Deliver[0].String()
		b.receive(append(images, contours)...)
		b.compute()
		sent := map[string]bool{}
		for _, job := range st.Jobs(queue) {
			var d delivery
			if err := json.Unmarshal(job.Payload, &d); err != nil {
				t.Fatal(err)
			}
			for _, uid := range d.Objects {
				sent[uid] = true
			}
		}
		study, err := st.Study(contours.String(dicom.StudyInstanceUID))
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range study.Instances {
			if in.Origin == store.Computed && !sent[in.SOPInstanceUID] {
				t.Errorf("%d: %s %s is not delivered", i, in.Modality, in.SOPInstanceUID)
			}
		}
	}
}

// The same in a node that is started again by an update: what stands is made anew once it is sent again.
func TestSentAgainAfterUpdate(t *testing.T) {
	contours, images := bundled(t)
	study := contours.String(dicom.StudyInstanceUID)
	dir := t.TempDir()
	b, stop := openBench(t, dir, version("1"))
	b.put(append(images, contours)...)
	first := detailOf(b.wait(study, is(StateComputed)))
	stop()
	b, _ = openBench(t, dir, version("2"))
	again := func(s store.State) bool { return s.Name == StateComputed && detailOf(s).report() != first.report() }
	for deadline := time.Now().Add(patience); !again(b.state(study)) && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		b.put(contours) // what comes again before the pipeline watches is lost
	}
	second := detailOf(b.wait(study, again))
	b.delivered(second.report())
	if got := predecessors(b.stored(second.report())); !slices.Equal(got, []string{first.report()}) {
		t.Errorf("it names %v, want %s", got, first.report())
	}
	if second.Revision != 2 {
		t.Errorf("revision %d", second.Revision)
	}
}

// What is refused is tried again by another configuration, also where that was there before, and after what is new.
func TestRefusedByChangingConfigurations(t *testing.T) {
	contours, images := bundled(t)
	images[3].SetFloat(dicom.PixelSpacing, 9, 9)
	st, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for i, v := range []string{"1", "2", "1", "2", "2"} {
		b := newStepper(t, st, version(v))
		if i == 0 {
			b.receive(append(images, contours)...)
			b.compute()
		}
		if state := b.state(contours.String(dicom.StudyInstanceUID)); state.Name != StateRefused || detailOf(state).Config != b.p.config {
			t.Errorf("%d: %+v", i, state)
		}
		if got, want := b.p.Stats().Refused, map[bool]int{i < 4: 1}[true]; got != want {
			t.Errorf("%d: refused %d times, want %d", i, got, want)
		}
	}
}

// A report is superseded by the next of its kind, however many times pages alone were asked for in between, and no two
// revisions share a UID: the store would keep the first.
func TestChainOverPagesAlone(t *testing.T) {
	contours, images := bundled(t)
	study := contours.String(dicom.StudyInstanceUID)
	st, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	italian := Style{Language: "it"}
	var reports []string
	for i, styles := range [][]Style{{{}}, {{Documents: []Document{PDF}}}, {{}}, {{}, italian}, {{}}, {{}, italian}} {
		b := newStepper(t, st, func(o *Options) {
			o.Deliver = nil
			for k, s := range styles {
				o.Deliver = append(o.Deliver, Destination{Peer: dimse.Peer{AETitle: string(rune('A' + k)), Address: "127.0.0.1:104"}, Style: s})
			}
		})
		b.receive(append(images, contours)...)
		b.compute()
		d := detailOf(b.state(study))
		if d.Revision != i+1 {
			t.Fatalf("step %d: revision %d", i, d.Revision)
		}
		key := styles[len(styles)-1].Over(DefaultStyle).key(Full)
		reports = append(reports, d.Documents[key])
	}
	for i, before := range map[int]int{2: 0, 3: 2, 5: 3} { // the Italian one of step 3 is that before the Italian one of step 5
		in, err := st.OpenInstance(reports[i])
		if err != nil {
			t.Fatal(err)
		}
		f, err := dicom.ReadDataSet(in, in.Size, in.TransferSyntaxUID)
		in.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got := predecessors(f.DataSet); len(got) != 1 || got[0] != reports[before] {
			t.Errorf("report %d supersedes %v, want %s", i, got, reports[before])
		}
		if n, _ := f.DataSet.Int(dicom.InstanceNumber); n != i+1 {
			t.Errorf("report %d has Instance Number %d: it is another one", i, n)
		}
	}
	for _, uid := range reports {
		if uid == "" {
			continue
		}
		if other, err := st.Conflicts(uid); err != nil || len(other) > 0 {
			t.Errorf("%d objects with other bytes under the UID of a report (%v)", len(other), err)
		}
	}
}

// A destination that is configured later gets what stands of a study once that is sent again, and nobody gets it twice.
func TestNewDestination(t *testing.T) {
	contours, images := bundled(t)
	st, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	at := func(aet string, documents ...Document) Destination {
		return Destination{Peer: dimse.Peer{AETitle: aet, Address: "127.0.0.1:104"}, Style: Style{Documents: documents}}
	}
	queued := func(aet string) (objects [][]string) {
		for _, j := range st.Jobs(deliverPrefix + aet + "@127.0.0.1:104") {
			var d delivery
			if err := json.Unmarshal(j.Payload, &d); err != nil {
				t.Fatal(err)
			}
			objects = append(objects, d.Objects)
		}
		slices.SortFunc(objects, slices.Compare)
		return objects
	}
	deliver := func(to ...Destination) func(*Options) { return func(o *Options) { o.Deliver = to } }
	first := newStepper(t, st, deliver(at("OLD", Full, PDF)))
	first.receive(append(images, contours)...)
	first.compute()
	want := queued("OLD")
	if len(want) != 2 {
		t.Fatalf("%d deliveries, want that of the reports and that of the PDF", len(want))
	}
	for range 2 {
		next := newStepper(t, st, deliver(at("OLD", Full, PDF), at("NEW", Full, PDF), at("PART", Full)))
		next.receive(contours)
		next.compute()
		if n := next.p.Stats().Computed; n != 0 {
			t.Errorf("%d reports computed, want none", n)
		}
		if got := queued("OLD"); !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("OLD gets %v, want %v", got, want)
		}
		if got := queued("NEW"); !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("NEW gets %v, want %v", got, want)
		}
		if got := queued("PART"); len(got) != 1 || !slices.ContainsFunc(want, func(w []string) bool { return slices.Equal(w, got[0]) }) {
			t.Errorf("PART gets %v, want the reports alone", got)
		}
	}
}
