package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"
)

// Leave removes all of a study, instances, evidence, states, jobs and the memory of its done jobs, in one durable step that Days goes on
// counting under this reason: sent again, it is a new study. It is refused with ErrBusy while a job of the study is not done, parked ones
// included, unless force is set; then a worker that has one of them learns from Done, Retry or Park that it is not there any more.
// An [Object] that is open stays readable. Space comes back when the log is compacted, that of large objects at once.
func (s *Store) Leave(ctx context.Context, study, reason string, force bool) error {
	if err := checkUIDs(study); err != nil {
		return fmt.Errorf("store: leave: %w", err)
	}
	return s.leave(ctx, &leave{Study: study, Reason: reason, force: force})
}

// Discard removes single instances with the evidence beside them, in one durable step. Days goes on counting them under this reason.
func (s *Store) Discard(ctx context.Context, reason string, sopInstanceUIDs ...string) error {
	return s.leave(ctx, &leave{Instances: sopInstanceUIDs, Reason: reason})
}

// DiscardConflict removes the evidence of that digest beside an instance, see Conflicts.
func (s *Store) DiscardConflict(ctx context.Context, reason, sopInstanceUID string, digest [32]byte) error {
	return s.leave(ctx, &leave{Evidence: []evidence{{sopInstanceUID, digest[:]}}, Reason: reason})
}

func (s *Store) leave(ctx context.Context, lv *leave) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	lv.At = s.now().UTC()
	text, err := json.Marshal(lv)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := s.log.submit(newWrite(record{kind: kindLeave, leave: lv, text: text}, nil)); err != nil {
		return err
	}
	s.unlinkLeft()
	wake(s.compactable)
	return nil
}

// Release lifts the quarantine of instances (Instance.Quarantine), so that they take part in their study; Watch tells of
// them as if they had just arrived. From then on their Patient ID is one of the study's. Of those that are in none, nothing
// changes.
func (s *Store) Release(ctx context.Context, sopInstanceUIDs ...string) error {
	for _, uid := range sopInstanceUIDs {
		if _, err := s.find(uid); err != nil {
			return fmt.Errorf("store: instance %s: %w", uid, err)
		}
	}
	return s.commit(ctx, Change{}, step{Release: sopInstanceUIDs})
}

// release applies the lifting of one quarantine.
func (s *Store) release(uid string) {
	l, err := s.findHeld(uid)
	if err != nil || l.entry.Quarantine == "" {
		return
	}
	free := *l.entry
	free.Quarantine = ""
	s.dropInstance(l)
	s.addInstance(&located{&free, l.at})
}

// foreignPatient is why an instance is in quarantine. It holds no data of a patient.
const foreignPatient = "Patient ID differs from that of the study's first instances"

// decide is called by the committer before a group is written, so that what a record says is right at its place in the log: the
// first of two patients who arrive at once is the patient of a study, and a step that is refused is never written. It
// returns what may be written together, in order, and the rest, which depends on it. Refused writes are answered.
func (s *Store) decide(group []*write) (now, rest []*write) {
	s.awaitIndex()
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.tally(); t != nil {
		now = append(now, t)
	}
	settled := len(now)
	patients := make(map[string]map[string]bool) // by study: of those that stand before in the group
	touched := make(map[string]bool)             // keys of jobs
	for i, w := range group {
		var err error
		switch r := &w.rec; r.kind {
		case kindInstance, kindConflict:
			err = s.decideInstance(w, patients)
		case kindLeave:
			if len(now) > settled {
				return now, group[i:]
			}
			if err = s.decideLeave(w); err == nil {
				return append(now, w), group[i+1:]
			}
		case kindStep:
			if slices.ContainsFunc(r.step.keys(), func(key string) bool { return touched[key] }) || len(r.step.Release) > 0 && len(now) > settled {
				return now, group[i:]
			}
			if err = s.decideStep(w); err != nil {
				break
			}
			for _, key := range r.step.keys() {
				touched[key] = true
			}
			for j := range r.step.Instances {
				note(patients, &r.step.Instances[j])
			}
			if len(r.step.Release) > 0 {
				return append(now, w), group[i+1:]
			}
		}
		if err != nil {
			w.err = err
			close(w.done)
			continue
		}
		now = append(now, w)
	}
	if len(now) == settled && settled > 0 { // nothing to go with
		s.again.counted, s.again.sent, s.again.write = s.again.sent, nil, nil
		now = nil
	}
	return now, nil
}

func note(patients map[string]map[string]bool, e *entry) {
	if e.Patient != "" && e.Quarantine == "" {
		set(patients, e.Study, e.Patient, true)
	}
}

// decideInstance puts an instance into quarantine when its study is another patient's. Who has no Patient ID contradicts nobody:
// an ID that is missing is as often forgotten as it is another's, and the study is not torn apart for it.
func (s *Store) decideInstance(w *write, patients map[string]map[string]bool) error {
	e := w.rec.entry
	if e.Conflict && !e.Replaces {
		return nil
	}
	foreign := false
	if e.Patient != "" && !patients[e.Study][e.Patient] {
		sum, err := lookUp(s, func(o *overlay) map[string]*studySum { return o.sums }, e.Study, bucketSums, []byte(e.Study))
		if err != nil {
			return err
		}
		foreign = sum.Patients[e.Patient] == 0 && len(sum.Patients)+len(patients[e.Study]) > 0
	}
	if foreign {
		if e.Replaces {
			e.Replaces = false // the first stays: what may be another patient's takes no one's place
		} else {
			e.Quarantine = foreignPatient
		}
		text, err := json.Marshal(e)
		if err != nil {
			return err
		}
		w.setText(text)
		return nil
	}
	note(patients, e)
	return nil
}

// decideStep refuses a step that is not allowed, and leaves out the jobs that are known.
func (s *Store) decideStep(w *write) error {
	st := w.rec.step
	if err := s.allowed(st); err != nil {
		return err
	}
	seen := make(map[string]bool)
	jobs := make([]Job, 0, len(st.Jobs))
	for _, j := range st.Jobs {
		known, err := s.known(j.Key)
		if err != nil {
			return err
		}
		if !known && !seen[j.Key] {
			jobs = append(jobs, j)
		}
		seen[j.Key] = true
	}
	if len(jobs) == len(st.Jobs) {
		return nil
	}
	st.Jobs = jobs
	text, err := json.Marshal(st)
	if err != nil {
		return err
	}
	w.setText(text)
	return nil
}

// keys are those of all jobs that a step speaks of.
func (st *step) keys() []string {
	keys := slices.Clone(st.Done)
	for i := range st.Jobs {
		keys = append(keys, st.Jobs[i].Key)
	}
	if st.Retry != nil {
		keys = append(keys, st.Retry.Key)
	}
	if st.Park != nil {
		keys = append(keys, st.Park.Key)
	}
	for _, key := range []string{st.Begin, st.GiveBack} {
		if key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

func (w *write) setText(text []byte) {
	w.rec.text = text
	w.crc = crc32.Update(0, castagnoli, text)
	for _, b := range w.data {
		w.crc = crc32.Update(w.crc, castagnoli, b)
	}
}

// decideLeave refuses what is not there or is still worked on, and names the evidence that leaves. It is named because a later
// reading of the log may take it for the instance, or for another study's, when the instance beside which it was kept is not in
// the log any more. s.mu is held.
func (s *Store) decideLeave(w *write) error {
	lv := w.rec.leave
	for _, uid := range lv.Instances {
		if _, err := s.findHeld(uid); err != nil {
			return fmt.Errorf("store: instance %s: %w", uid, err)
		}
	}
	for _, ev := range lv.Evidence {
		known, err := s.conflictsHeld(ev.SOPInstance)
		if err == nil && known[string(ev.Digest)] == nil {
			err = ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("store: conflict of instance %s: %w", ev.SOPInstance, err)
		}
	}
	if lv.Study == "" {
		return nil
	}
	instances, states, keys, err := s.ofStudy(lv.Study)
	if err != nil {
		return fmt.Errorf("store: study %s: %w", lv.Study, err)
	}
	if len(instances)+len(states)+len(keys) == 0 {
		return fmt.Errorf("store: study %s: %w", lv.Study, ErrNotFound)
	}
	if lv.as != nil {
		if same, err := s.unchanged(lv.as, instances); err != nil {
			return fmt.Errorf("store: study %s: %w", lv.Study, err)
		} else if !same {
			return fmt.Errorf("store: study %s: %w", lv.Study, ErrBusy)
		}
	}
	if !lv.force && slices.ContainsFunc(keys, s.jobs.has) {
		return fmt.Errorf("store: study %s: %w", lv.Study, ErrBusy)
	}
	for _, l := range instances {
		if l.entry.evidenceOnce() {
			lv.Evidence = append(lv.Evidence, evidence{l.entry.SOPInstance, l.entry.Digest})
		}
		known, err := s.conflictsHeld(l.entry.SOPInstance)
		if err != nil {
			return fmt.Errorf("store: study %s: %w", lv.Study, err)
		}
		for _, c := range known {
			lv.Evidence = append(lv.Evidence, evidence{c.entry.SOPInstance, c.entry.Digest})
		}
	}
	if len(lv.Evidence) == 0 {
		return nil
	}
	text, err := json.Marshal(lv)
	if err != nil {
		return err
	}
	w.setText(text)
	return nil
}

// evidenceOnce tells that this came as evidence. It is an instance only because the one before it is lost or left meanwhile.
func (e *entry) evidenceOnce() bool { return e.Conflict && !e.Replaces }

// keysOf lists the keys of the jobs of a study, those that are done too. s.mu is held.
func (s *Store) keysOf(study string) (keys []string, err error) {
	jobs := overlaid(s.overlays(), func(o *overlay) map[string]*location { return o.keys[study] })
	err = s.readHeld(func(tx *bolt.Tx) error {
		return eachBelow(tx, bucketKeys, study, func(key string, _ []byte) error {
			if _, ok := jobs[key]; !ok {
				keys = append(keys, key)
			}
			return nil
		})
	})
	for key, at := range jobs {
		if at != nil {
			keys = append(keys, key)
		}
	}
	return keys, err
}

// ofStudy lists what a study has. s.mu is held.
func (s *Store) ofStudy(study string) (instances []*located, subjects, keys []string, err error) {
	in := overlaid(s.overlays(), func(o *overlay) map[string]*located { return o.studies[study] })
	states := overlaid(s.overlays(), func(o *overlay) map[string]*State { return o.states[study] })
	err = s.readHeld(func(tx *bolt.Tx) error {
		err := eachBelow(tx, bucketStudies, study, func(uid string, _ []byte) error {
			if _, ok := in[uid]; ok {
				return nil
			}
			in[uid], err = getLocated(tx, uid)
			return err
		})
		if err != nil {
			return err
		}
		return eachBelow(tx, bucketStates, study, func(subject string, _ []byte) error {
			if _, ok := states[subject]; !ok {
				subjects = append(subjects, subject)
			}
			return nil
		})
	})
	if err == nil {
		keys, err = s.keysOf(study)
	}
	for subject, st := range states {
		if st != nil {
			subjects = append(subjects, subject)
		}
	}
	return there(in), subjects, keys, err
}

// applyLeave removes what lv names, as far as it is there.
func (s *Store) applyLeave(lv *leave, at location) {
	if lv.Study != "" {
		instances, subjects, keys, err := s.ofStudy(lv.Study)
		if err != nil {
			s.trouble(err)
		}
		for _, l := range instances {
			if !l.entry.evidenceOnce() {
				s.dropInstance(l)
				s.departed(l, lv.Reason)
			}
		}
		for _, subject := range subjects {
			set(s.active.states, lv.Study, subject, nil)
		}
		for _, key := range keys {
			s.forget(lv.Study, key)
		}
		s.active.left[lv.Study] = at
	}
	for _, uid := range lv.Instances {
		if l, err := s.findHeld(uid); err == nil {
			s.depart(l, lv.Reason)
		} else if !errors.Is(err, ErrNotFound) {
			s.trouble(err)
		}
	}
	for _, ev := range lv.Evidence {
		known, err := s.conflictsHeld(ev.SOPInstance)
		if err != nil {
			s.trouble(err)
		}
		if l := known[string(ev.Digest)]; l != nil {
			s.dropConflict(l)
			s.departed(l, lv.Reason)
		} else if l, err := s.findHeld(ev.SOPInstance); err == nil && string(l.entry.Digest) == string(ev.Digest) {
			s.dropInstance(l)
			s.departed(l, lv.Reason)
		}
	}
}

// depart removes an instance and the evidence beside it.
func (s *Store) depart(l *located, reason string) {
	known, err := s.conflictsHeld(l.entry.SOPInstance)
	if err != nil {
		s.trouble(err)
	}
	for _, c := range known {
		s.dropConflict(c)
		s.departed(c, reason)
	}
	s.dropInstance(l)
	s.departed(l, reason)
}

// forget removes a job, and the memory of it when it is done.
func (s *Store) forget(study, key string) {
	if j := s.jobs.byKey[key]; j != nil {
		s.jobs.finish(key)
		j.q.done--
	} else if d, err := s.doneJob(key); err != nil {
		s.trouble(err)
	} else if d != nil {
		s.jobs.queue(d.queue).done--
	}
	s.active.forgotten[key] = true
	s.active.jobs[key], s.active.done[key] = nil, nil
	set(s.active.keys, study, key, nil)
}

// doneJob returns what is remembered of a done job, nil when it is none. s.mu is held.
func (s *Store) doneJob(key string) (d *doneJob, err error) {
	for _, o := range slices.Backward(s.overlays()) {
		if d, ok := o.done[key]; ok {
			return d, nil
		}
	}
	err = s.readHeld(func(tx *bolt.Tx) error {
		d, err = getDone(tx, key)
		return err
	})
	return d, err
}

// unlinkLeft removes the files of large objects that have left. What it cannot remove, as on Windows where somebody reads it, the
// next start does.
func (s *Store) unlinkLeft() {
	s.mu.Lock()
	list := s.unlink
	s.unlink = nil
	s.mu.Unlock()
	for _, n := range list {
		name := filepath.Join(s.dir, largeDir, ownName(n))
		if err := s.disk.remove(name); err != nil && !isNotExist(err) {
			s.logger.Warn("store: the file of an object that left cannot be removed yet", "file", name, "error", err)
		}
	}
}
