package store

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/radnode/radnode/dimse/dicom"
)

// A doing is one thing that a client does with a store. What it puts in follows from its id alone, so that another process
// knows it too. The crash tests do them at random and look afterwards.
type doing struct {
	name string
	// do does it in steps and tells of each that was answered nil.
	do func(s *Store, id string, answered func(step string)) error
	// look returns the steps that are there, with a question mark where nothing tells whether they are. A step that is there in part is
	// an error.
	look func(s *Store, id string) (there []string, err error)
}

// crashLarge: what is longer than a chunk gets a file of its own.
const crashLarge = chunkSize

var doings = []doing{
	{"object", func(s *Store, id string, answered func(string)) error {
		if err := idObject(id, 0).put(s); err != nil {
			return err
		}
		answered("put")
		return nil
	}, func(s *Store, id string) ([]string, error) {
		return collect(isHere(s, idObject(id, 0), "put"))
	}},

	{"twice at once", func(s *Store, id string, answered func(string)) error {
		o := idObject(id, 0)
		var errs [2]error
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				if errs[i] = o.put(s); errs[i] == nil {
					answered("put")
				}
			})
		}
		wg.Wait()
		return errors.Join(errs[:]...)
	}, func(s *Store, id string) ([]string, error) {
		if in, err := s.Instance(idObject(id, 0).uid()); err == nil && in.Conflicts > 0 {
			return nil, errors.New("the same bytes count as a conflict")
		}
		return collect(isHere(s, idObject(id, 0), "put"))
	}},

	{"conflict", func(s *Store, id string, answered func(string)) error {
		for i, step := range []string{"first", "other", "other"} {
			if err := idObject(id, min(i, 1)).put(s); err != nil {
				return err
			}
			answered(step)
		}
		return nil
	}, func(s *Store, id string) ([]string, error) {
		return lookBoth(s, idObject(id, 0), idObject(id, 1), "first", "other")
	}},

	{"large", func(s *Store, id string, answered func(string)) error {
		if err := idLarge(id, 0).put(s); err != nil {
			return err
		}
		answered("put")
		if n := idNumber(id) % 3; n > 0 { // again, or other bytes
			if err := idLarge(id, n-1).put(s); err != nil {
				return err
			}
			answered([]string{"put", "other"}[n-1])
		}
		return nil
	}, func(s *Store, id string) ([]string, error) {
		return lookBoth(s, idLarge(id, 0), idLarge(id, 1), "put", "other")
	}},

	{"step", func(s *Store, id string, answered func(string)) error {
		if err := s.Commit(ctx, idChange(id, "step", 2)); err != nil {
			return err
		}
		answered("commit")
		return nil
	}, func(s *Store, id string) ([]string, error) {
		return collect(hasHappened(s, id, "step", 2, "commit"))
	}},

	{"done", func(s *Store, id string, answered func(string)) error {
		if err := s.claimNew(id, answered); err != nil {
			return err
		}
		if err := s.Done(ctx, idJob(id, "work"), idChange(id, "result", 1)); err != nil {
			return err
		}
		answered("done")
		return nil
	}, func(s *Store, id string) ([]string, error) {
		j, known, err := s.lookJob(id, "work")
		if err != nil || !known {
			return nil, errors.Join(err, mustNot(s, id, "result", 1))
		}
		there, err := collect(hasHappened(s, id, "result", 1, "done"))
		if finished := j == nil; err == nil && finished != (len(there) > 0) {
			err = fmt.Errorf("job finished: %v, its result there: %v", finished, len(there) > 0)
		}
		return append(there, "job"), err
	}},

	{"retry", func(s *Store, id string, answered func(string)) error {
		if err := s.claimNew(id, answered); err != nil {
			return err
		}
		if err := s.Retry(ctx, idJob(id, "work"), time.Now().Add(time.Hour), id); err != nil {
			return err
		}
		answered("retry")
		return nil
	}, func(s *Store, id string) ([]string, error) {
		j, known, err := s.lookJob(id, "work")
		switch {
		case err != nil || !known:
			return nil, err
		case j == nil:
			return nil, errors.New("job finished by itself")
		case j.Tries == 0:
			return []string{"job"}, nil
		case j.Tries != 1 || j.LastError != id || time.Until(j.RunAt) < 50*time.Minute:
			return nil, fmt.Errorf("retry in part: %+v", *j)
		}
		return []string{"job", "retry"}, nil
	}},

	{"park", func(s *Store, id string, answered func(string)) error {
		if err := s.claimNew(id, answered); err != nil {
			return err
		}
		if err := s.Park(ctx, idJob(id, "work"), id, idChange(id, "parked", 1)); err != nil {
			return err
		}
		answered("park")
		return nil
	}, func(s *Store, id string) ([]string, error) {
		j, known, err := s.lookJob(id, "work")
		if err != nil || !known {
			return nil, errors.Join(err, mustNot(s, id, "parked", 1))
		}
		there, err := collect(hasHappened(s, id, "parked", 1, "park"))
		if parked := j != nil && j.State == Parked && j.LastError == id; err == nil && parked != (len(there) > 0) {
			err = fmt.Errorf("job parked: %v, its state there: %v", parked, len(there) > 0)
		}
		return append(there, "job"), err
	}},

	{"begun", func(s *Store, id string, answered func(string)) error {
		if err := s.claimNew(id, answered); err != nil {
			return err
		}
		if err := s.Begin(ctx, idJob(id, "work")); err != nil {
			return err
		}
		answered("begin")
		if idNumber(id)%2 == 0 {
			return nil
		}
		if err := s.GiveBack(ctx, idJob(id, "work")); err != nil {
			return err
		}
		answered("give back")
		return nil
	}, func(s *Store, id string) ([]string, error) {
		j, known, err := s.lookJob(id, "work")
		switch {
		case err != nil || !known:
			return nil, err
		case j == nil || j.Begun > 1 || j.Tries != 0 || j.Seq == 0:
			return nil, fmt.Errorf("job %+v", j)
		case j.Begun == 1:
			return []string{"job", "begin"}, nil
		case idNumber(id)%2 == 0:
			return []string{"job"}, nil
		}
		return []string{"job", "begin?", "give back?"}, nil
	}},

	{"leave", func(s *Store, id string, answered func(string)) error {
		for i := range 2 {
			if err := idHeavy(id, i).put(s); err != nil {
				return err
			}
			answered(fmt.Sprint("put ", i))
		}
		if err := s.Commit(ctx, idChange(id, "step", 2)); err != nil {
			return err
		}
		answered("commit")
		if err := s.Leave(ctx, idStudy(id), id, true); err != nil {
			return err
		}
		answered("leave")
		if idNumber(id)%2 == 0 {
			return nil
		}
		if err := idObject(id, 0).put(s); err != nil {
			return err
		}
		answered("new")
		return nil
	}, func(s *Store, id string) ([]string, error) {
		here, err := collect(isHere(s, idHeavy(id, 0), "put 0"), isHere(s, idHeavy(id, 1), "put 1"), hasHappened(s, id, "step", 2, "commit"))
		if err != nil {
			return nil, err
		}
		again := isHere(s, idObject(id, 0), "new")
		switch left := reasonOf(s, id); {
		case left == 0 && again.step == "":
			return here, nil
		case left != 2 || len(here) > 0:
			return nil, fmt.Errorf("left in part: %d instances left, there is %v and %q", left, here, again.step)
		}
		return append(slices.DeleteFunc([]string{again.step}, func(s string) bool { return s == "" }), "put 0", "put 1", "commit", "leave"), again.err
	}},

	{"leave unchanged", func(s *Store, id string, answered func(string)) error {
		if err := idHeavy(id, 0).put(s); err != nil {
			return err
		}
		answered("put 0")
		st, err := s.Study(idStudy(id))
		if err != nil {
			return err
		}
		var late error
		var wg sync.WaitGroup
		wg.Go(func() {
			if late = idHeavy(id, 1).put(s); late == nil {
				answered("put 1")
			}
		})
		switch err = s.LeaveUnchanged(ctx, st, id); {
		case err == nil:
			answered("leave")
		case errors.Is(err, ErrBusy):
			err = nil
			answered("put 1")
		}
		wg.Wait()
		return errors.Join(err, late)
	}, func(s *Store, id string) ([]string, error) {
		there, err := collect(isHere(s, idHeavy(id, 0), "put 0"), isHere(s, idHeavy(id, 1), "put 1"))
		switch left := reasonOf(s, id); {
		case err != nil || left == 0:
			return there, err
		case left != 1 || slices.Contains(there, "put 0"):
			return nil, fmt.Errorf("%d left, and there is %v", left, there)
		}
		return append(there, "put 0", "leave"), nil
	}},

	{"quarantine", func(s *Store, id string, answered func(string)) error {
		for i, o := range idPatients(id) {
			if err := o.put(s); err != nil {
				return err
			}
			answered(fmt.Sprint("put ", i))
		}
		if err := s.Release(ctx, idPatients(id)[1].uid()); err != nil {
			return err
		}
		answered("release")
		if err := s.Discard(ctx, id, idPatients(id)[2].uid()); err != nil {
			return err
		}
		answered("discard")
		return nil
	}, func(s *Store, id string) (there []string, err error) {
		for i, o := range idPatients(id) {
			step, gone := fmt.Sprint("put ", i), i == 2 && reasonOf(s, id) > 0
			f := isHere(s, o, step)
			if f.err != nil || f.step == "" && !gone {
				return there, f.err
			}
			if there = append(there, step); gone {
				if f.step != "" || reasonOf(s, id) != 1 {
					return nil, errors.New("discarded in part")
				}
				there = append(there, "discard")
				continue
			}
			in, err := s.Instance(o.uid())
			switch released := in.Quarantine == ""; {
			case err != nil:
				return nil, err
			case i == 1 && released:
				there = append(there, "release")
			case released != (i == 0):
				return nil, fmt.Errorf("instance %d: quarantine %q", i, in.Quarantine)
			}
		}
		return there, nil
	}},

	{"evidence", func(s *Store, id string, answered func(string)) error {
		for i, step := range []string{"first", "other"} {
			if err := idHeavy(id, i*2).put(s); err != nil {
				return err
			}
			answered(step)
		}
		list, err := s.Conflicts(idHeavy(id, 0).uid())
		if err != nil || len(list) != 1 {
			return fmt.Errorf("evidence %v, %v", list, err)
		}
		if err := s.DiscardConflict(ctx, id, list[0].SOPInstanceUID, list[0].Digest); err != nil {
			return err
		}
		answered("settle")
		return nil
	}, func(s *Store, id string) ([]string, error) {
		first, other := idHeavy(id, 0), idHeavy(id, 2)
		switch left := reasonOf(s, id); left {
		case 0:
			return lookBoth(s, first, other, "first", "other")
		case 1:
			in, err := s.Instance(first.uid())
			if err != nil || in.Conflicts > 0 {
				return nil, fmt.Errorf("the evidence left and of the instance is known %+v, %v", in, err)
			}
			if in.Size != int64(len(first.data)) {
				first = other
			}
			_, err = collect(isHere(s, first, "first"))
			return []string{"first", "other", "settle"}, err
		default:
			return nil, fmt.Errorf("%d left", left)
		}
	}},

	{"compact", func(s *Store, id string, answered func(string)) error {
		_ = s.Compact(ctx) // or everything stays as it is
		return nil
	}, func(*Store, string) ([]string, error) { return nil, nil }},

	{"flush", func(s *Store, id string, answered func(string)) error {
		_ = s.flushIndex() // the log has everything
		return nil
	}, func(*Store, string) ([]string, error) { return nil, nil }},
}

func doingNamed(name string) *doing {
	for i := range doings {
		if doings[i].name == name {
			return &doings[i]
		}
	}
	return nil
}

// An id is three numbers with dots between; it is part of the UIDs.
func idNumber(id string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return int(h.Sum32() >> 1)
}

func idStudy(id string) string { return "1.2." + id }

// idObject is the instance of that id; variant 1 has its UID and other bytes.
func idObject(id string, variant int) object {
	n := idNumber(id)
	size := 500 + n%20_000
	if n%29 == 0 {
		size += 200_000
	}
	return newObject(idStudy(id), idStudy(id)+".1", size+variant*100, uint64(n+variant))
}

func idLarge(id string, variant int) object {
	n := idNumber(id)
	return newObject(idStudy(id), idStudy(id)+".1", crashLarge+1000+n%90_000+variant*100, uint64(n+variant))
}

// idHeavy is most of what there is, so that much leaves. An odd variant is another instance of the same study.
func idHeavy(id string, variant int) object {
	n := idNumber(id)
	return newObject(idStudy(id), fmt.Sprintf("%s.2.%d", idStudy(id), variant%2), 30_000+n%40_000+variant*100, uint64(n+variant))
}

// idPatients are instances of one study, of which the first is another patient's.
func idPatients(id string) (list []object) {
	n := idNumber(id)
	for i, p := range []string{"P1", "P2", "P2"} {
		list = append(list, newObjectOf(p, idStudy(id), fmt.Sprintf("%s.3.%d", idStudy(id), i), 20_000+n%20_000, uint64(n+i)))
	}
	return list
}

func idJob(id, what string) string   { return "job/" + id + "/" + what }
func idQueue(id, what string) string { return what + " " + id }

// idChange has that many instances, a state and a job.
func idChange(id, what string, instances int) Change {
	c := Change{
		States: []State{{Study: idStudy(id), Subject: what, Name: "computed", Reason: id}},
		Jobs:   []Job{{Key: idJob(id, what), Queue: idQueue(id, what), Study: idStudy(id), Payload: []byte(id)}},
	}
	for i := range instances {
		o := idResult(id, what, i)
		m, err := dicom.ReadIdentity(bytes.NewReader(o.data), o.meta.TransferSyntaxUID)
		if err != nil {
			panic(err)
		}
		c.Instances = append(c.Instances, NewInstance{Meta: o.meta, Identity: m, Data: o.data})
	}
	return c
}

func idResult(id, what string, i int) object {
	n := idNumber(id + what)
	return newObject(idStudy(id), fmt.Sprintf("%s.9.%d.%d", idStudy(id), len(what), i), 800+n%9000, uint64(n+i))
}

// claimNew makes a job and claims it.
func (s *Store) claimNew(id string, answered func(string)) error {
	if err := s.Commit(ctx, Change{Jobs: []Job{{Key: idJob(id, "work"), Queue: idQueue(id, "work"), Study: idStudy(id)}}}); err != nil {
		return err
	}
	answered("job")
	_, err := s.Claim(ctx, idQueue(id, "work"), time.Minute)
	return err
}

// lookJob returns a job that is not done, and whether one of that key ever was.
func (s *Store) lookJob(id, what string) (j *Job, known bool, err error) {
	for _, j := range s.Jobs(idQueue(id, what)) {
		if j.Key == idJob(id, what) {
			return &j, true, nil
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	known, err = s.known(idJob(id, what))
	return nil, known, err
}

// hasHappened tells whether idChange is there: all of it, or nothing.
func hasHappened(s *Store, id, what string, instances int, step string) finding {
	var parts []bool
	for i := range instances {
		f := isHere(s, idResult(id, what, i), step)
		if f.err != nil {
			return f
		}
		parts = append(parts, f.step != "")
	}
	st, err := s.Study(idStudy(id))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return finding{"", err}
	}
	parts = append(parts, slices.ContainsFunc(st.States, func(x State) bool { return x.Subject == what && x.Reason == id }))
	_, known, err := s.lookJob(id, what)
	if err != nil {
		return finding{"", err}
	}
	parts = append(parts, known)
	if slices.Contains(parts, true) && slices.Contains(parts, false) {
		return finding{"", fmt.Errorf("%s is there in part (instances, state, job): %v", what, parts)}
	}
	if !parts[0] {
		return finding{}
	}
	return finding{step, nil}
}

func mustNot(s *Store, id, what string, instances int) error {
	f := hasHappened(s, id, what, instances, "there")
	if f.step != "" {
		return fmt.Errorf("%s is there and its job never was", what)
	}
	return f.err
}

// isHere tells whether o is the instance of its UID, byte for byte.
func isHere(s *Store, o object, step string) finding {
	got, err := s.OpenInstance(o.uid())
	if errors.Is(err, ErrNotFound) {
		return finding{}
	}
	if err != nil {
		return finding{"", err}
	}
	return finding{step, sameObject(got, o)}
}

func isEvidence(s *Store, o object, step string) finding {
	list, err := s.Conflicts(o.uid())
	if err != nil || len(list) == 0 {
		return finding{"", err}
	}
	if len(list) > 1 {
		return finding{"", fmt.Errorf("%d pieces of evidence where one was sent", len(list))}
	}
	got, err := s.OpenConflict(o.uid(), list[0].Digest)
	if err != nil {
		return finding{"", err}
	}
	return finding{step, sameObject(got, o)}
}

// lookBoth looks for an instance and other bytes that came under its UID: they are evidence, or the instance is, by the policy of
// the time.
func lookBoth(s *Store, first, other object, one, two string) ([]string, error) {
	if in, err := s.Instance(first.uid()); err == nil && in.Size == int64(len(other.data)) {
		there, err := collect(isHere(s, other, two), isEvidence(s, first, one))
		if err == nil && len(there) != 2 {
			err = fmt.Errorf("%s is the instance, and without %s", two, one)
		}
		return there, err
	}
	return collect(isHere(s, first, one), isEvidence(s, other, two))
}

// reasonOf returns how many left for that reason.
func reasonOf(s *Store, reason string) (n int) {
	days, err := s.Days()
	if err != nil {
		panic(err)
	}
	for _, d := range days {
		n += d.Left[reason]
	}
	return n
}

// balance compares what was received with what is here and what left, and what is counted with what is listed.
func balance(s *Store) error {
	days, err := s.Days()
	if err != nil {
		return err
	}
	here := 0
	for _, d := range days {
		here += d.Received
		for _, n := range d.Left {
			here -= n
		}
	}
	u, err := s.Usage()
	if err != nil {
		return err
	}
	var listed Usage
	for uid, err := range s.Studies() {
		if err != nil {
			return err
		}
		st, err := s.Study(uid)
		if err != nil {
			return err
		}
		for _, in := range st.Instances {
			listed.Instances++
			listed.Conflicts += in.Conflicts
			if in.Origin == Computed {
				listed.Computed++
			}
			if in.Quarantine != "" {
				listed.Quarantined++
			}
		}
	}
	if u.Instances != listed.Instances || u.Conflicts != listed.Conflicts || u.Computed != listed.Computed || u.Quarantined != listed.Quarantined ||
		here != u.Instances-u.Computed+u.Conflicts {
		return fmt.Errorf("of what was received %d should be here; counted are %+v, listed %+v", here, u, listed)
	}
	return nil
}

func sameObject(got *Object, o object) error {
	defer got.Close()
	b, err := io.ReadAll(io.NewSectionReader(got, 0, got.Size))
	if err != nil {
		return err
	}
	if !bytes.Equal(b, o.data) {
		return fmt.Errorf("instance %s: other bytes than were put (%d, want %d)", o.uid(), len(b), len(o.data))
	}
	if d := cmp.Diff(o.meta, got.Meta()); d != "" {
		return fmt.Errorf("instance %s: meta information (-put +got)\n%s", o.uid(), d)
	}
	return nil
}

// A finding is a step that is there; "" when it is not.
type finding struct {
	step string
	err  error
}

func collect(found ...finding) (there []string, err error) {
	for _, f := range found {
		if f.err != nil {
			return nil, f.err
		}
		if f.step != "" {
			there = append(there, f.step)
		}
	}
	return there, nil
}

// A ledger is what was tried and what was answered.
type ledger struct {
	mu    sync.Mutex
	lines map[string]*noted // by doing and id
	order []*noted
}

type noted struct {
	doing    *doing
	id       string
	answered map[string]bool
	refused  bool // what was not answered by then, for good: it must not be there
}

func (l *ledger) line(name, id string) *noted {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := name + "/" + id
	x := l.lines[key]
	if x == nil {
		if l.lines == nil {
			l.lines = make(map[string]*noted)
		}
		x = &noted{doing: doingNamed(name), id: id, answered: make(map[string]bool)}
		l.lines[key] = x
		l.order = append(l.order, x)
	}
	return x
}

func (l *ledger) answered(name, id, step string) {
	x := l.line(name, id)
	l.mu.Lock()
	defer l.mu.Unlock()
	x.answered[step] = true
}

// refused notes that all of it that was not answered was refused.
func (l *ledger) refused(name, id string) {
	x := l.line(name, id)
	l.mu.Lock()
	defer l.mu.Unlock()
	x.refused = true
}

// answers counts what was answered.
func (l *ledger) answers() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.order {
		n += len(x.answered)
	}
	return n
}

// check compares the store with the lines from index from on, and lists what is wrong. What is there counts as answered from
// now on: somebody may have seen it.
func (l *ledger) check(s *Store, from int) (wrong []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range l.order[from:] {
		there, err := x.doing.look(s, x.id)
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("%s %s: %v", x.doing.name, x.id, err))
			continue
		}
		for step := range x.answered {
			if !slices.Contains(there, step) && !slices.Contains(there, step+"?") {
				wrong = append(wrong, fmt.Sprintf("%s %s: %s was answered and is lost", x.doing.name, x.id, step))
			}
		}
		for _, step := range there {
			if strings.HasSuffix(step, "?") {
				continue
			}
			if x.refused && !x.answered[step] {
				wrong = append(wrong, fmt.Sprintf("%s %s: %s was refused and is there", x.doing.name, x.id, step))
			}
			x.answered[step] = true
		}
	}
	if err := balance(s); err != nil {
		wrong = append(wrong, err.Error())
	}
	return wrong
}
