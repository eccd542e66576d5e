package pipeline

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/radnode/radnode/store"
)

// Discarded is the reason under which the store counts what a person had removed.
const Discarded = "discarded"

// A Delivery is what became of the objects that go to one destination together.
type Delivery struct {
	To        string    `json:"to"`     // AET@HOST:PORT
	Report    string    `json:"report"` // SOP Instance UID of the last object, a report where there is one
	State     string    `json:"state"`  // waiting, parked, delivered, confirmed, undelivered
	At        time.Time `json:"at,omitzero"`
	NextTry   time.Time `json:"nextTry,omitzero"`
	Tries     int       `json:"tries,omitempty"` // that failed
	LastError string    `json:"lastError,omitempty"`
}

// Deliveries are those of a study, by what the store remembers and by its open jobs, in order of destination and report.
func Deliveries(study store.Study, jobs []store.Job) []Delivery {
	of := make(map[string]Delivery)
	for _, s := range study.States {
		to, report, ok := cutDelivery(s.Subject)
		if !ok {
			continue
		}
		d := Delivery{To: to, Report: report, State: s.Name, At: s.At, LastError: s.Reason}
		var more struct {
			Tries int `json:"tries"`
		}
		_ = json.Unmarshal(s.Detail, &more) // what is not there is 0
		d.Tries = more.Tries
		of[s.Subject] = d
	}
	for _, j := range jobs {
		var to delivery
		if !strings.HasPrefix(j.Queue, deliverPrefix) || json.Unmarshal(j.Payload, &to) != nil || len(to.Objects) == 0 {
			continue
		}
		_, report, _ := cutDelivery(to.subject())
		d := Delivery{To: to.To, Report: report, State: StateWaiting, NextTry: j.RunAt, Tries: j.Tries, LastError: j.LastError}
		if j.State == store.Parked {
			d.State, d.NextTry = string(store.Parked), time.Time{}
		}
		of[to.subject()] = d
	}
	var out []Delivery
	for _, d := range of {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Delivery) int {
		return cmp.Or(strings.Compare(a.To, b.To), strings.Compare(a.Report, b.Report))
	})
	return out
}

// cutDelivery takes a [deliverySubject] apart.
func cutDelivery(subject string) (to, report string, ok bool) {
	rest, ok := strings.CutPrefix(subject, "deliver/")
	i := strings.LastIndex(rest, "/")
	if !ok || i < 0 {
		return "", "", false
	}
	return rest[:i], rest[i+1:], true
}

// Requeued counts what a person had run again.
type Requeued struct {
	Computations int `json:"computations"` // that were given up
	Refused      int `json:"refused"`      // that are looked at again
	Deliveries   int `json:"deliveries"`   // that were given up
	Released     int `json:"released"`     // instances out of quarantine
}

const byHand = "requeued by hand"

// Requeue runs again what was given up of a study: computations and deliveries that are parked, and computations that were refused.
func (p *Pipeline) Requeue(ctx context.Context, uid string) (n Requeued, err error) {
	study, err := p.store.Study(uid)
	if err != nil {
		return n, err
	}
	defer func() {
		p.matcher.pokes.add(uid)
		p.tally.change(uid)
		if n == (Requeued{}) && err == nil {
			return // there was nothing to do
		}
		p.done(err, "requeued by hand", "study", uid, "computations", n.Computations, "refused", n.Refused, "deliveries", n.Deliveries)
	}()
	jobs, err := p.store.JobsOf(uid)
	if err != nil {
		return n, err
	}
	for _, j := range jobs {
		if j.State == store.Parked {
			if err := p.unpark(ctx, study, j, &n); err != nil {
				return n, err
			}
		}
	}
	var again []store.State
	for _, s := range study.States {
		if s.Name != StateRefused {
			continue
		}
		// As if another configuration had refused it, which is what has it tried again, now and at a start.
		d := detailOf(s)
		d.Config = byHand
		s.Detail = d.raw()
		again = append(again, s)
	}
	if len(again) > 0 {
		if err := p.store.Commit(ctx, store.Change{States: again}); err != nil {
			return n, err
		}
		n.Refused = len(again)
	}
	return n, nil
}

// done logs what a person did, and how far it came where that failed.
func (p *Pipeline) done(err error, what string, keys ...any) {
	if err == nil {
		p.log.Info(what, keys...)
	} else {
		p.log.Error(what+", and not all of it; try again", append(keys, "err", err)...)
	}
}

// RequeueJob runs one parked job again.
func (p *Pipeline) RequeueJob(ctx context.Context, key string) (n Requeued, err error) {
	j, err := p.store.Job(key)
	if err != nil {
		return n, err
	}
	if j.State != store.Parked {
		return n, fmt.Errorf("job %s is %s: it runs by itself", key, j.State)
	}
	study, err := p.store.Study(j.Study)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return n, err
	}
	if err := p.unpark(ctx, study, j, &n); err != nil {
		return n, err
	}
	p.tally.change(j.Study)
	p.log.Info("requeued by hand", "job", key, "study", j.Study)
	return n, nil
}

// unpark brings a parked job back. The state comes first: once the job is free, a worker may have the next one written at any time.
func (p *Pipeline) unpark(ctx context.Context, study store.Study, j store.Job, n *Requeued) error {
	var t task
	if j.Queue == computeQueue && json.Unmarshal(j.Payload, &t) == nil {
		if s, ok := stateOf(study, t.key()); ok && s.Name == StateFailed {
			d := detailOf(s)
			d.Job = ""
			s.Name, s.Reason, s.At, s.Detail = StateQueued, "", time.Now(), d.raw()
			if err := p.store.Commit(ctx, store.Change{States: []store.State{s}}); err != nil {
				return err
			}
		}
	}
	if err := p.store.Requeue(ctx, j.Key, time.Now(), byHand); err != nil {
		return err
	}
	if courier(j.Queue) == 0 {
		n.Computations++
		return nil
	}
	n.Deliveries++
	p.serve([]store.Job{j})
	return nil
}

// ErrNotQuarantined: there is nothing to release.
var ErrNotQuarantined = errors.New("no such instance is quarantined in the study")

// Release lifts the quarantine of instances of a study; of all where none is named.
func (p *Pipeline) Release(ctx context.Context, uid string, instances ...string) (n Requeued, err error) {
	study, err := p.store.Study(uid)
	if err != nil {
		return n, err
	}
	var release []string
	for _, in := range study.Instances {
		if in.Quarantine != "" && (len(instances) == 0 || slices.Contains(instances, in.SOPInstanceUID)) {
			release = append(release, in.SOPInstanceUID)
		}
	}
	if len(release) == 0 || len(release) < len(instances) {
		return n, fmt.Errorf("study %s: %w", uid, ErrNotQuarantined)
	}
	if err := p.store.Release(ctx, release...); err != nil {
		return n, err
	}
	n.Released = len(release)
	p.tally.change(uid)
	p.log.Info("quarantine lifted by hand", "study", uid, "instances", len(release))
	return n, nil
}

// Dropped counts what a person had removed.
type Dropped struct {
	Studies    int   `json:"studies"`
	Instances  int   `json:"instances"` // received and made, evidence too
	Bytes      int64 `json:"bytes"`
	Deliveries int   `json:"deliveries"` // that were still waiting
}

// An UnfinishedError says why a study is kept.
type UnfinishedError struct {
	Study string
	Why   string
	Holds Dropped
}

func (e *UnfinishedError) Error() string {
	return fmt.Sprintf("study %s is not finished: %s. Instances that it holds: %d, of %d bytes; deliveries not done: %d; nothing was dropped",
		e.Study, e.Why, e.Holds.Instances, e.Holds.Bytes, e.Holds.Deliveries)
}

// Discard removes a study with all that was made of it. One that is not finished is an [UnfinishedError] unless force is set.
func (p *Pipeline) Discard(ctx context.Context, uid string, force bool) (Dropped, error) {
	a, study, err := p.Account(uid)
	if err != nil {
		return Dropped{}, err
	}
	jobs, err := p.store.JobsOf(uid)
	if err != nil {
		return Dropped{}, err
	}
	drop := Dropped{Studies: 1, Instances: len(study.Instances) + a.Conflicts, Bytes: a.Bytes}
	for _, j := range jobs {
		if courier(j.Queue) == delivers {
			drop.Deliveries++
		}
	}
	why, err := p.unfinished(a, study, p.store.JobsOf)
	if err != nil {
		return Dropped{}, err
	}
	if why != "" && !force {
		return Dropped{}, &UnfinishedError{uid, why, drop}
	}
	if err := p.store.Leave(ctx, uid, Discarded, force); err != nil {
		return Dropped{}, err
	}
	p.left(uid)
	p.log.Info("study discarded by hand", "study", uid, "instances", drop.Instances, "bytes", drop.Bytes, "deliveries", drop.Deliveries, "forced", force)
	return drop, nil
}

// A BesideError says that an instance in quarantine does not go alone.
type BesideError struct {
	SOPInstance string
	Evidence    int // objects
}

func (e *BesideError) Error() string {
	return fmt.Sprintf("instance %s is in quarantine, and objects with other bytes came under its UID and would go with it: %d; nothing was removed", e.SOPInstance, e.Evidence)
}

// DiscardInstance removes one instance that is quarantined, or the evidence beside one that is not. What lies beside one that is
// quarantined goes only with force: it may be that the patient is right there.
func (p *Pipeline) DiscardInstance(ctx context.Context, uid string, force bool) (Dropped, error) {
	in, err := p.store.Instance(uid)
	if err != nil {
		return Dropped{}, err
	}
	if in.Quarantine == "" && in.Conflicts == 0 {
		return Dropped{}, fmt.Errorf("instance %s is neither quarantined nor is there evidence of a conflict beside it: it stays with its study", uid)
	}
	var drop Dropped
	evidence, err := p.store.Conflicts(uid)
	if err != nil {
		return drop, err
	}
	if in.Quarantine != "" && len(evidence) > 0 && !force {
		return drop, &BesideError{uid, len(evidence)}
	}
	if in.Quarantine != "" {
		if err := p.store.Discard(ctx, Discarded, uid); err != nil { // with the evidence beside it
			return drop, err
		}
		drop.Instances, drop.Bytes = 1, in.Size
		for _, e := range evidence {
			drop.Instances++
			drop.Bytes += e.Size
		}
	} else {
		for _, e := range evidence {
			if err := p.store.DiscardConflict(ctx, Discarded, uid, e.Digest); err != nil {
				return drop, err
			}
			drop.Instances++
			drop.Bytes += e.Size
		}
	}
	p.left(in.StudyInstanceUID)
	p.log.Info("instance discarded by hand", "study", in.StudyInstanceUID, "instance", uid, "quarantined", in.Quarantine != "", "evidence", len(evidence))
	return drop, nil
}

// left has the rest of the pipeline know that a study is not here any more.
func (p *Pipeline) left(study string) {
	p.matcher.pokes.add(study)
	p.tally.change(study)
}

// DropDestination ends all deliveries to a destination that is gone, AET@HOST:PORT, and no longer asks it for commitment. The
// studies remember which deliveries were dropped.
func (p *Pipeline) DropDestination(ctx context.Context, to string) (drop Dropped, err error) {
	studies := make(map[string]bool)
	commitments := 0
	defer func() {
		drop.Studies = len(studies)
		p.done(err, "deliveries dropped by hand", "to", to, "deliveries", drop.Deliveries, "commitments", commitments, "studies", drop.Studies)
	}()
	for _, queue := range []string{deliverPrefix + to, commitPrefix + to} {
		for _, j := range p.store.Jobs(queue) {
			var d delivery
			change := store.Change{}
			deliver := courier(queue) == delivers
			if deliver && json.Unmarshal(j.Payload, &d) == nil && len(d.Objects) > 0 && j.Study != "" {
				change.States = []store.State{{
					Study: j.Study, Subject: d.subject(), Name: StateUndelivered, Reason: "dropped by hand", At: time.Now(),
				}}
			}
			err := p.store.Done(ctx, j.Key, change)
			if errors.Is(err, store.ErrFinished) {
				continue // delivered after all
			}
			if err != nil {
				return drop, err
			}
			if deliver {
				drop.Deliveries++
			} else {
				commitments++
			}
			studies[j.Study] = true
			p.tally.change(j.Study)
			p.destination(to).forget(j.Key)
		}
	}
	return drop, nil
}
