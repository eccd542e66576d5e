package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/radnode/radnode/store"
)

// A Retention says when a finished study leaves by itself. What is not finished never does: see [Account.unfinished].
//
// The zero value keeps everything.
type Retention struct {
	Age   time.Duration // since something was last received or decided of the study; 0 = whatever its age
	Quota int64         // bytes that the store may hold before the oldest finished studies leave; 0 = no bound
	Share float64       // the same as a part of what it could hold, its own bytes and what it may take of the disk; 0 = no bound

	// Unmatched is how long images are kept at least that no contours refer to: contours may be drawn next week. 0 = 30 days.
	Unmatched time.Duration
}

// Reasons under which the store counts what has left by itself.
const (
	LeftByAge   = "retention: age"
	LeftByQuota = "retention: quota"
)

const (
	retainTick  = time.Minute // how soon it is noticed that there is too much
	retainEvery = time.Hour
	// What has just been finished is not taken away under the hands of somebody who may send the next object of it.
	leastRest = time.Hour
	// The same when the disk is so full that new objects are refused: to lose those is worse.
	pressedRest = 10 * time.Minute
	// Below the quota room is made for a while, so that not every reception ends in a deletion.
	roomBelowQuota = 0.05

	defaultUnmatched = 30 * 24 * time.Hour
)

// unfinished says in words why a study may not leave by itself; empty where it may. It may when nothing waits, is queued, was
// given up, lies in quarantine or is evidence of a conflict, no job is open, and every report has been delivered to somebody:
// radnode is no archive, but a report that no other machine has is not for it to delete.
func (a Account) unfinished(study store.Study, jobs []store.Job) string {
	counts := a.Counts()
	var why []string
	for _, name := range []string{StateWaiting, StateQueued, StateFailed, StateQuarantined, StateConflict} {
		if n := counts[name]; n > 0 {
			why = append(why, fmt.Sprintf("%d %s", n, name))
		}
	}
	if len(why) > 0 {
		why[0] = "instances: " + why[0]
	}
	computing, delivering, confirming, parked := 0, 0, 0, 0
	for _, j := range jobs {
		switch {
		case j.State == store.Parked:
			parked++
		case courier(j.Queue) == confirms:
			confirming++
		case courier(j.Queue) != 0:
			delivering++
		default:
			computing++
		}
	}
	add := func(n int, one, many string) {
		switch {
		case n == 1:
			why = append(why, "1 "+one)
		case n > 1:
			why = append(why, fmt.Sprint(n, " ", many))
		}
	}
	add(computing, "job to do", "jobs to do")
	add(delivering, "delivery to make", "deliveries to make")
	add(confirming, "delivery to be confirmed", "deliveries to be confirmed")
	add(parked, "job given up", "jobs given up")
	got, lost := make(map[string]bool), 0 // reports that somebody has; destinations that have not got theirs
	for _, d := range Deliveries(study, jobs) {
		switch d.State {
		case StateDelivered, StateConfirmed:
			got[d.Report] = true
		case StateUndelivered:
			lost++
		}
	}
	kept := 0
	for _, s := range a.Stories {
		if s.State != StateComputed {
			continue
		}
		// A report whose delivery nothing tells of was made by a radnode that kept no such memory: its destinations are all that says
		// that it was delivered, and no job is open.
		if len(s.To) == 0 || lost > 0 && !slices.ContainsFunc(s.Reports, func(uid string) bool { return got[uid] }) {
			kept++
		}
	}
	add(kept, "report that was delivered to nobody", "reports that were delivered to nobody")
	return strings.Join(why, ", ")
}

// measured says whether any contours of the study, or of another one on its images, have come to an end.
func (a Account) measured() bool {
	for _, name := range a.Instances {
		if name == StateComputed || name == StateRefused {
			return true
		}
	}
	return false
}

// A leaver is a study that may leave.
type leaver struct {
	study    string
	touched  time.Time
	bytes    int64
	measured bool
}

// mayLeave says whether a finished study may leave now, and why.
func (r Retention) mayLeave(l leaver, now time.Time, full, pressed bool) (reason string) {
	rest, least := now.Sub(l.touched), leastRest
	if pressed {
		least = pressedRest
	}
	switch {
	case !l.measured && rest < cmp.Or(r.Unmatched, defaultUnmatched), rest < least:
		return ""
	case r.Age > 0 && rest >= r.Age:
		return LeftByAge
	case full:
		return LeftByQuota
	}
	return ""
}

// A Space is what the store takes up and could take up.
type Space struct {
	Bytes int64 // of all instances and evidence that are here
	Free  int64 // on the disk, without what is reserved for queued work; unknown where negative

	Refusing bool // new objects are refused for want of space
}

// Bound is how many bytes the store may hold; 0 = any number.
func (r Retention) Bound(s Space) int64 {
	bound := r.Quota
	if r.Share > 0 && s.Free >= 0 {
		share := int64(r.Share * float64(s.Bytes+s.Free))
		if bound == 0 || share < bound {
			bound = share
		}
	}
	return bound
}

// Space measures the store.
func (p *Pipeline) Space() (Space, error) {
	used, err := p.store.Usage()
	space := Space{Bytes: used.Bytes, Free: -1}
	if disk := p.store.Space(); disk.Total > 0 {
		space.Free = max(0, disk.Free-disk.Reserve) // new objects are refused then: room must be made before
		space.Refusing = disk.Refusing
	}
	return space, err
}

// Retained says what a run of the retention has done.
type Retained struct {
	Studies, Instances int
	Bytes              int64
	Over               int64 // bytes above the quota that nothing finished is left to make room for
	Unfinished         int   // studies that are kept since they are not finished
}

// Retain has finished studies leave, the oldest first, as the retention says.
func (p *Pipeline) Retain(ctx context.Context, now time.Time, space Space) (Retained, error) {
	r := p.opt.Retention
	var done Retained
	bound := r.Bound(space)
	full := bound > 0 && space.Bytes > bound
	if !full && r.Age <= 0 {
		return done, nil
	}
	var all []leaver
	for uid, err := range p.store.Studies() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return done, err
		}
		l, study, may, err := p.leaver(uid, p.store.JobsOf)
		if err != nil {
			return done, err
		}
		if study.UID == "" {
			continue // it has just left
		}
		if !may {
			done.Unfinished++
		} else if r.mayLeave(l, now, full, space.Refusing) != "" {
			all = append(all, l)
		}
	}
	slices.SortFunc(all, func(a, b leaver) int { return cmp.Or(a.touched.Compare(b.touched), strings.Compare(a.study, b.study)) })
	room := bound - int64(roomBelowQuota*float64(bound)) // to be reached
	held := space.Bytes
	for _, l := range all {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		reason := r.mayLeave(l, now, full && held > room, space.Refusing)
		if reason == "" {
			continue
		}
		// Once more, since something may have come meanwhile; what comes from here on has the store refuse it.
		again, study, may, err := p.leaver(l.study, func(study string) ([]store.Job, error) {
			if study == l.study {
				return nil, nil // for the store to see
			}
			return p.store.JobsOf(study)
		})
		if err != nil {
			return done, err
		}
		if !may || !again.touched.Equal(l.touched) {
			continue
		}
		err = p.store.LeaveUnchanged(ctx, study, reason)
		if errors.Is(err, store.ErrBusy) || errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return done, err
		}
		p.left(l.study)
		held -= l.bytes
		done.Studies++
		done.Instances += len(study.Instances)
		done.Bytes += l.bytes
	}
	if full {
		done.Over = max(0, held-bound)
	}
	return done, nil
}

// leaver reads a study; may is false while it is not finished. One that is not there any more is empty.
func (p *Pipeline) leaver(uid string, jobsOf func(study string) ([]store.Job, error)) (l leaver, study store.Study, may bool, err error) {
	a, study, err := p.Account(uid)
	if errors.Is(err, store.ErrNotFound) {
		return l, store.Study{}, false, nil
	}
	if err != nil {
		return l, study, false, err
	}
	why, err := p.unfinished(a, study, jobsOf)
	return leaver{study: uid, touched: a.Touched, bytes: a.Bytes, measured: a.measured()}, study, why == "" && err == nil, err
}

// unfinished is the same of a study and of those whose contours refer to its images: their reports lie in the study of the images.
func (p *Pipeline) unfinished(a Account, study store.Study, jobsOf func(study string) ([]store.Job, error)) (string, error) {
	jobs, err := jobsOf(study.UID)
	if err != nil {
		return "", err
	}
	if why := a.unfinished(study, jobs); why != "" {
		return why, nil
	}
	for _, uid := range a.Abroad {
		other, err := p.store.Study(uid)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return "", err
		}
		account, err := p.reckon(other, nil)
		if err != nil {
			return "", err
		}
		if jobs, err = jobsOf(uid); err != nil {
			return "", err
		}
		if why := account.unfinished(other, jobs); why != "" {
			return fmt.Sprintf("study %s has contours on these images, and is not finished: %s", uid, why), nil
		}
	}
	return "", nil
}

// retain runs the retention now and then, and when room runs out.
func (p *Pipeline) retain(ctx context.Context) error {
	r := p.opt.Retention
	if r.Age <= 0 && r.Quota <= 0 && r.Share <= 0 {
		return nil
	}
	tick := time.NewTicker(retainTick)
	defer tick.Stop()
	var next time.Time
	roomy := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		space, err := p.Space()
		if err != nil {
			p.log.Error("retention: what the store holds cannot be told; it is tried again", "err", err)
			continue
		}
		bound := r.Bound(space)
		over := bound > 0 && space.Bytes > bound
		now := time.Now()
		if now.Before(next) && !(over && roomy) {
			continue
		}
		next = now.Add(retainEvery)
		if space.Refusing {
			next = now.Add(pressedRest)
		}
		done, err := p.Retain(ctx, time.Now(), space)
		roomy = err == nil && done.Over == 0 // else there is nothing to be had for an hour
		if ctx.Err() != nil {
			return nil
		}
		keys := []any{"studies", done.Studies, "instances", done.Instances, "bytes", done.Bytes, "unfinished", done.Unfinished}
		switch {
		case err != nil:
			p.log.Error("retention: not all studies that should have left did; it is tried again", append(keys, "err", err)...)
		case done.Over > 0:
			p.log.Warn("retention: the store holds more than retention.quota and no more finished studies can leave; see radnode status for what is not finished, or make room",
				append(keys, "over", done.Over)...)
		case done.Studies > 0:
			p.log.Info("retention: finished studies have left", keys...)
		}
	}
}
