package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/radnode/radnode/dimse/dicom"
)

// newObjectOf is newObject of a patient.
func newObjectOf(patient, study, uid string, size int, seed uint64) object {
	o := newObject(study, uid, size, seed)
	d, err := dicom.ReadDataSet(bytes.NewReader(o.data), int64(len(o.data)), o.meta.TransferSyntaxUID)
	if err != nil {
		panic(err)
	}
	d.DataSet.SetString(dicom.PatientID, patient)
	if o.data, err = d.DataSet.EncodedBytes(); err != nil {
		panic(err)
	}
	return o
}

// A modelInstance is an instance of the plain model, which is maps and nothing else.
type modelInstance struct {
	study, patient string
	computed       bool
	quarantine     bool
	at             time.Time
	late           bool // came under a UID that was taken
	data           []byte
	evidence       map[[32]byte]modelInstance
}

type keptModel struct {
	t         *rapid.T
	policy    Policy
	instances map[string]*modelInstance
	states    map[[2]string]string
	jobs      map[string]Job    // not done
	done      map[string]Job    // remembered
	days      map[string]*Day   // by date
	created   map[string]uint64 // Seq by key
	s         *Store
	dir       string
	clock     atomic.Int64 // Unix nanoseconds
	seq       int
}

// now is asked by the store from several goroutines; only the test moves the clock.
func (m *keptModel) now() time.Time { return time.Unix(0, m.clock.Load()).UTC() }

func (m *keptModel) tick() time.Time {
	m.clock.Add(int64(53 * time.Minute))
	return m.now()
}

func (m *keptModel) open() {
	s, err := Open(m.dir, Options{disk: fastDisk(), segmentSize: 4000, largeObject: 3000, compact: -1, small: 2000, prepared: -1, now: m.now, Conflicts: m.policy,
		Logger: new(logBook).logger()})
	if err != nil {
		m.t.Fatal(err)
	}
	if len(s.Damage()) > 0 {
		m.t.Fatal(s.Damage())
	}
	m.s = s
}

func (m *keptModel) day(at time.Time) *Day {
	date := at.UTC().Format("2006-01-02")
	if m.days[date] == nil {
		m.days[date] = &Day{Date: date}
	}
	return m.days[date]
}

func (m *keptModel) foreign(study, patient string) bool {
	others := false
	for _, in := range m.instances {
		if in.study == study && !in.quarantine && in.patient != "" {
			if in.patient == patient {
				return false
			}
			others = true
		}
	}
	return others && patient != ""
}

func (m *keptModel) put(o object, study, patient string) {
	at := m.tick()
	if err := o.put(m.s); err != nil {
		m.t.Fatal(err)
	}
	sum := sha256.Sum256(o.data)
	first := m.instances[o.uid()]
	if first != nil {
		if _, ok := first.evidence[sum]; ok || sha256.Sum256(first.data) == sum {
			m.day(at).Again++
			return
		}
	}
	d := m.day(at)
	d.Received++
	d.Bytes += int64(len(o.data))
	in := modelInstance{study: study, patient: patient, at: at, data: o.data}
	if first == nil {
		in.quarantine = m.foreign(study, patient)
		in.evidence = map[[32]byte]modelInstance{}
		m.instances[o.uid()] = &in
		return
	}
	d.Conflicts++
	in.late = true
	if m.policy == KeepLast && !first.computed && !m.foreign(study, patient) {
		in.evidence = first.evidence
		first.evidence = nil
		in.evidence[sha256.Sum256(first.data)] = *first
		m.instances[o.uid()] = &in
		return
	}
	first.evidence[sum] = in
}

func (m *keptModel) gone(in modelInstance, reason string) {
	for _, e := range in.evidence {
		m.gone(e, reason)
	}
	if in.computed {
		return
	}
	d := m.day(in.at)
	if d.Left == nil {
		d.Left = map[string]int{}
	}
	d.Left[reason]++
}

// left takes away all of a study.
func (m *keptModel) left(st string) {
	for uid, in := range m.instances {
		if in.study == st {
			m.gone(*in, "age")
			delete(m.instances, uid)
		}
	}
	maps.DeleteFunc(m.states, func(k [2]string, _ string) bool { return k[0] == st })
	maps.DeleteFunc(m.jobs, func(_ string, j Job) bool { return j.Study == st })
	maps.DeleteFunc(m.created, func(k string, _ uint64) bool { return strings.HasPrefix(k, st) })
	maps.DeleteFunc(m.done, func(_ string, j Job) bool { return j.Study == st })
}

func (m *keptModel) uids() []string { return slices.Sorted(maps.Keys(m.instances)) }

// check compares all that the face tells with the model.
func (m *keptModel) check() {
	t := m.t
	t.Helper()
	studies := map[string]bool{}
	use := Usage{Instances: len(m.instances)}
	withInstance := map[string]bool{}
	for _, in := range m.instances {
		studies[in.study], withInstance[in.study] = true, true
		use.Bytes += int64(len(in.data))
		use.Conflicts += len(in.evidence)
		if in.computed {
			use.Computed++
		}
		if in.quarantine {
			use.Quarantined++
		}
		for _, e := range in.evidence {
			use.Bytes += int64(len(e.data))
		}
	}
	for k := range m.states {
		studies[k[0]] = true
	}
	use.Studies = len(withInstance)
	var got []string
	for uid, err := range m.s.Studies() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, uid)
	}
	if d := cmp.Diff(slices.Sorted(maps.Keys(studies)), got); d != "" {
		t.Fatalf("studies (-want +got)\n%s", d)
	}
	of := map[string][]string{}
	for uid := range studies {
		st, err := m.s.Study(uid)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, in := range m.instances {
			if in.study == uid {
				n++
				if in.patient != "" && !in.quarantine && !slices.Contains(of[in.patient], uid) {
					of[in.patient] = append(of[in.patient], uid)
				}
			}
		}
		if len(st.Instances) != n {
			t.Fatalf("study %s has %d instances, want %d", uid, len(st.Instances), n)
		}
		for _, in := range st.Instances {
			w := m.instances[in.SOPInstanceUID]
			if w == nil || w.study != uid || w.patient != in.PatientID || w.quarantine != (in.Quarantine != "") || !w.at.Equal(in.Received) ||
				sha256.Sum256(w.data) != in.Digest || len(w.evidence) != in.Conflicts || w.computed != (in.Origin == Computed) {
				t.Fatalf("instance %+v, want %+v", in, w)
			}
			m.sameBytes(w.data)(m.s.OpenInstance(in.SOPInstanceUID))
			list, err := m.s.Conflicts(in.SOPInstanceUID)
			if err != nil || len(list) != len(w.evidence) {
				t.Fatalf("conflicts %v, %v, want %d", list, err, len(w.evidence))
			}
			for _, c := range list {
				m.sameBytes(w.evidence[c.Digest].data)(m.s.OpenConflict(in.SOPInstanceUID, c.Digest))
			}
		}
		states := map[string]string{}
		for k, name := range m.states {
			if k[0] == uid {
				states[k[1]] = name
			}
		}
		for _, x := range st.States {
			if states[x.Subject] != x.Name {
				t.Fatalf("state %+v, want %q", x, states[x.Subject])
			}
			delete(states, x.Subject)
		}
		if len(states) > 0 {
			t.Fatalf("states are missing: %v", states)
		}
	}
	for _, p := range []string{"P1", "P2", "P3", ""} {
		var list []string
		for uid, err := range m.s.StudiesOf(p) {
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, uid)
		}
		slices.Sort(of[p])
		if !slices.Equal(list, of[p]) {
			t.Fatalf("studies of %q: %v, want %v", p, list, of[p])
		}
	}
	queues := map[string]QueueStats{}
	for _, j := range m.jobs {
		q := queues[j.Queue]
		switch j.State {
		case Pending:
			q.Pending++
		case Leased:
			q.Leased++
		case Parked:
			q.Parked++
		}
		queues[j.Queue] = q
	}
	for _, j := range m.done {
		q := queues[j.Queue]
		q.Done++
		queues[j.Queue] = q
	}
	stats := m.s.Queues()
	for name, q := range stats {
		q.Oldest = time.Time{}
		stats[name] = q
		for _, j := range m.s.Jobs(name) {
			if seq, ok := m.created[j.Key]; ok && seq != j.Seq || j.Seq == 0 {
				t.Fatalf("job %s was created as %d, now as %d", j.Key, seq, j.Seq)
			}
			m.created[j.Key] = j.Seq
			if w, ok := m.jobs[j.Key]; !ok || w.State != j.State || w.Study != j.Study || w.Tries != j.Tries || w.Begun != j.Begun || !bytes.Equal(w.Payload, j.Payload) {
				t.Fatalf("job %+v, want %+v", j, w)
			}
		}
	}
	if d := cmp.Diff(queues, stats); d != "" {
		t.Fatalf("queues (-want +got)\n%s", d)
	}
	days, err := m.s.Days()
	if err != nil {
		t.Fatal(err)
	}
	var want []Day
	for _, date := range slices.Sorted(maps.Keys(m.days)) {
		d := *m.days[date]
		want = append(want, d)
		here := d.Received
		for _, n := range d.Left {
			here -= n
		}
		if here > 0 && use.Oldest.IsZero() {
			use.Oldest, _ = time.Parse("2006-01-02", date)
		}
	}
	if d := cmp.Diff(want, days); d != "" {
		t.Fatalf("days (-want +got)\n%s", d)
	}
	u, err := m.s.Usage()
	if err != nil {
		t.Fatal(err)
	}
	u.Disk, u.Dead = 0, 0
	if d := cmp.Diff(use, u); d != "" {
		t.Fatalf("usage (-want +got)\n%s", d)
	}
}

func (m *keptModel) sameBytes(want []byte) func(o *Object, err error) {
	return func(o *Object, err error) {
		m.t.Helper()
		if err != nil {
			m.t.Fatal(err)
		}
		defer o.Close()
		if b, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size)); err != nil || !bytes.Equal(b, want) {
			m.t.Fatalf("instance %s: other bytes, %v", o.SOPInstanceUID, err)
		}
	}
}

func (m *keptModel) close() {
	if err := m.s.Close(); err != nil {
		m.t.Fatal(err)
	}
	for key, j := range m.jobs {
		if j.State == Leased { // no lease survives
			j.State = Pending
			m.jobs[key] = j
		}
	}
}

// TestKept does anything in any order, and the store is at every moment what a few maps say it is: after studies left, came
// again, and the log was compacted, with its index and without.
func TestKept(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue { // a hundred take long where the machine is busy
		_ = f.Value.Set("40")
		defer func() { _ = f.Value.Set(f.DefValue) }()
	}
	root := t.TempDir()
	runs, compacted := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		m := &keptModel{t: t, dir: filepath.Join(root, fmt.Sprint(runs)), policy: rapid.SampledFrom([]Policy{KeepFirst, KeepLast}).Draw(t, "policy"),
			instances: map[string]*modelInstance{}, states: map[[2]string]string{}, jobs: map[string]Job{}, done: map[string]Job{}, days: map[string]*Day{}, created: map[string]uint64{}}
		m.clock.Store(time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC).UnixNano())
		m.open()
		defer func() { _ = m.s.Close(); _ = os.RemoveAll(m.dir) }()
		study := rapid.SampledFrom([]string{"1.2.1", "1.2.2", "1.2.3"})
		patient := rapid.SampledFrom([]string{"P1", "P1", "P1", "P2", ""})
		uid := rapid.SampledFrom([]string{"1", "2", "3", "4"})
		key := rapid.SampledFrom([]string{"a", "b", "c"})
		change := func(t *rapid.T) (Change, func()) {
			st := study.Draw(t, "study")
			c := Change{}
			var after []func()
			if rapid.Bool().Draw(t, "instance") {
				for _, u := range rapid.SliceOfNDistinct(uid, 1, 2, rapid.ID).Draw(t, "uids") {
					o := newObjectOf("P1", st, st+".9"+u, 600, 5)
					c.Instances = append(c.Instances, newComputed(o, st))
					after = append(after, func() {
						if m.instances[o.uid()] == nil {
							m.instances[o.uid()] = &modelInstance{study: st, patient: "P1", computed: true, at: m.now(), data: o.data, evidence: map[[32]byte]modelInstance{}}
						}
					})
				}
			}
			if rapid.Bool().Draw(t, "job") {
				j := Job{Key: st + key.Draw(t, "key"), Study: st, Queue: rapid.SampledFrom([]string{"compute", "deliver"}).Draw(t, "queue"), Payload: []byte{1, 2, byte(m.seq)}}
				c.Jobs = append(c.Jobs, j)
				after = append(after, func() {
					_, there := m.jobs[j.Key]
					if _, done := m.done[j.Key]; !there && !done {
						j.State = Pending
						m.jobs[j.Key] = j
					}
				})
			}
			if rapid.Bool().Draw(t, "state") {
				name := fmt.Sprint("state ", m.seq)
				other := study.Draw(t, "of") // a step may be about several studies
				c.States = append(c.States, State{Study: st, Subject: "s", Name: name}, State{Study: other, Subject: "o", Name: name})
				after = append(after, func() { m.states[[2]string{st, "s"}], m.states[[2]string{other, "o"}] = name, name })
			}
			m.seq++
			m.tick()
			return c, func() {
				for _, f := range after {
					f()
				}
			}
		}
		leased := func(t *rapid.T) string {
			var keys []string
			for k := range m.jobs {
				keys = append(keys, k)
			}
			if len(keys) == 0 {
				t.Skip("no job")
			}
			slices.Sort(keys)
			return rapid.SampledFrom(keys).Draw(t, "which")
		}
		must := func(err error) {
			if err != nil {
				m.t.Helper()
				m.t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				st, p := study.Draw(t, "study"), patient.Draw(t, "patient")
				size := rapid.SampledFrom([]int{400, 900, 900, 270 << 10}).Draw(t, "size")
				of := st // the UID may be one of another study
				if rapid.IntRange(0, 5).Draw(t, "foreign") == 5 {
					of = study.Draw(t, "uid of")
				}
				m.put(newObjectOf(p, st, of+"."+uid.Draw(t, "uid"), size, rapid.Uint64Range(1, 2).Draw(t, "seed")), st, p)
			},
			"series": func(t *rapid.T) { // fills segments
				st := study.Draw(t, "study")
				for i := range 6 {
					m.put(newObjectOf("P1", st, fmt.Sprintf("%s.7.%d", st, i), 900, 1), st, "P1")
				}
			},
			"age": func(t *rapid.T) { // leaves most of some segments dead
				for i := range 6 {
					m.put(newObjectOf("P1", "1.2.4", fmt.Sprintf("1.2.4.%d", i), 2000, uint64(m.seq)), "1.2.4", "P1")
				}
				m.seq++
				must(m.s.Leave(ctx, "1.2.4", "age", false))
				m.left("1.2.4")
				if rapid.Bool().Draw(t, "compact") {
					must(m.s.Compact(ctx))
				}
			},
			"commit": func(t *rapid.T) {
				c, after := change(t)
				must(m.s.Commit(ctx, c))
				after()
			},
			"claim": func(t *rapid.T) {
				queue := rapid.SampledFrom([]string{"compute", "deliver"}).Draw(t, "queue")
				if m.s.Queues()[queue].Pending == 0 {
					t.Skip("nothing to claim")
				}
				soon, cancel := context.WithTimeout(ctx, 5*time.Second)
				defer cancel()
				j, err := m.s.Claim(soon, queue, 1000*time.Hour)
				must(err)
				w := m.jobs[j.Key]
				w.State = Leased
				m.jobs[j.Key] = w
			},
			"done": func(t *rapid.T) {
				k := leased(t)
				c, after := change(t)
				must(m.s.Done(ctx, k, c))
				m.done[k] = m.jobs[k]
				delete(m.jobs, k)
				after()
				if err := m.s.Done(ctx, k, c); !errors.Is(err, ErrFinished) {
					t.Fatalf("done twice: %v", err)
				}
			},
			"retry": func(t *rapid.T) {
				k := leased(t)
				must(m.s.Retry(ctx, k, m.now(), "again"))
				j := m.jobs[k]
				j.State, j.Begun = Pending, 0
				j.Tries++
				m.jobs[k] = j
			},
			"begin": func(t *rapid.T) {
				k := leased(t)
				must(m.s.Begin(ctx, k))
				j := m.jobs[k]
				j.Begun++
				m.jobs[k] = j
			},
			"give back": func(t *rapid.T) {
				k := leased(t)
				must(m.s.GiveBack(ctx, k))
				j := m.jobs[k]
				j.Begun = max(j.Begun-1, 0)
				if j.State == Leased {
					j.State = Pending
				}
				m.jobs[k] = j
			},
			"park": func(t *rapid.T) {
				k := leased(t)
				must(m.s.Park(ctx, k, "no", Change{}))
				j := m.jobs[k]
				j.State, j.Begun = Parked, 0
				m.jobs[k] = j
			},
			"leave": func(t *rapid.T) {
				st, force := study.Draw(t, "study"), rapid.Bool().Draw(t, "force")
				var there, busy bool
				var forgotten []string
				for _, in := range m.instances {
					there = there || in.study == st
				}
				for k := range m.states {
					there = there || k[0] == st
				}
				for k, j := range m.jobs {
					if j.Study == st {
						there, busy = true, true
						forgotten = append(forgotten, k)
					}
				}
				for _, j := range m.done {
					there = there || j.Study == st
				}
				err := m.s.Leave(ctx, st, "age", force)
				switch {
				case !there:
					if !errors.Is(err, ErrNotFound) {
						t.Fatalf("left though it is not there: %v", err)
					}
					return
				case busy && !force:
					if !errors.Is(err, ErrBusy) {
						t.Fatalf("left though it is busy: %v", err)
					}
					return
				}
				must(err)
				m.left(st)
				for _, k := range forgotten {
					if err := m.s.Done(ctx, k, Change{States: []State{{Study: st, Subject: "ghost", Name: "ghost"}}}); !errors.Is(err, ErrNotFound) {
						t.Fatalf("a job of a study that left: %v", err)
					}
				}
			},
			"discard": func(t *rapid.T) {
				if len(m.instances) == 0 {
					t.Skip("nothing")
				}
				uid := rapid.SampledFrom(m.uids()).Draw(t, "uid")
				must(m.s.Discard(ctx, "wrong", uid))
				m.gone(*m.instances[uid], "wrong")
				delete(m.instances, uid)
			},
			"discard evidence": func(t *rapid.T) {
				for _, uid := range m.uids() {
					for digest, e := range m.instances[uid].evidence {
						must(m.s.DiscardConflict(ctx, "settled", uid, digest))
						m.gone(e, "settled")
						delete(m.instances[uid].evidence, digest)
						return
					}
				}
				t.Skip("no evidence")
			},
			"release": func(t *rapid.T) {
				for _, uid := range m.uids() {
					if m.instances[uid].quarantine {
						must(m.s.Release(ctx, uid))
						m.instances[uid].quarantine = false
						return
					}
				}
				t.Skip("nothing in quarantine")
			},
			"index": func(*rapid.T) { must(m.s.flushIndex()) },
			"compact": func(*rapid.T) {
				must(m.s.Compact(ctx))
			},
			"reopen": func(*rapid.T) {
				m.close()
				m.open()
			},
			"reopen without index": func(*rapid.T) {
				m.close()
				must(os.Remove(filepath.Join(m.dir, indexFile)))
				m.open()
			},
			"": func(*rapid.T) { m.check() },
		})
		if list := compactedFiles(t, m.dir); len(list) > 0 {
			compacted++
		}
		files := 0
		for _, in := range m.instances {
			if len(in.data) > 256<<10 {
				files++
			}
			for _, e := range in.evidence {
				if len(e.data) > 256<<10 {
					files++
				}
			}
		}
		if list, _ := filepath.Glob(filepath.Join(m.dir, largeDir, "*")); len(list) != files {
			t.Fatalf("%d large files, want %d", len(list), files)
		}
	})
	t.Logf("%d runs, %d of which compacted", runs, compacted)
	if compacted == 0 {
		t.Error("no run compacted anything")
	}
}
