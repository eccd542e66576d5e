package store

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// A JobState is where a job stands; done jobs are counted and their keys remembered, nothing else of them is kept.
type JobState string

const (
	Pending JobState = "pending" // waits for its time or for a worker
	Leased  JobState = "leased"  // a worker has it
	Parked  JobState = "parked"  // failed for good, kept for the operator; Requeue brings it back
)

// A Job is one piece of work. It is handed out at least once until it is done.
type Job struct {
	Key       string    `json:"key"`   // unique for ever
	Queue     string    `json:"queue"` // "compute", "deliver:PACS"
	Study     string    `json:"study,omitempty"`
	Payload   []byte    `json:"payload,omitempty"`
	Priority  int       `json:"priority,omitempty"` // higher first
	RunAt     time.Time `json:"runAt"`              // not before; now when zero
	Tries     int       `json:"tries,omitempty"`    // how often it was given back by Retry, since Requeue if that came last
	LastError string    `json:"lastError,omitempty"`

	// Serial, when not empty, puts the jobs of a queue that share it into the order of their creation: only the first of them that is
	// neither done nor parked is handed out, and only while no other of them is leased.
	Serial string `json:"serial,omitempty"`
	// Begun counts the tries that were begun and had no outcome, see [Store.Begin].
	Begun int `json:"begun,omitempty"`

	// Set by the store:
	State JobState `json:"state,omitempty"`
	Seq   uint64   `json:"seq,omitempty"` // higher than that of every job created before
	Lease uint64   `json:"-"`             // of a job that Claim handed out: names this lease, see [Store.Held]
}

// QueueStats counts the jobs of a queue.
type QueueStats struct {
	Pending int       `json:"pending"`
	Leased  int       `json:"leased"`
	Done    int       `json:"done"`
	Parked  int       `json:"parked"`
	Oldest  time.Time `json:"oldest,omitzero"` // earliest RunAt of the pending jobs; zero when there is none
}

// Claim waits until a job of the queue is due and hands it out for the time of the lease: the one of the highest priority, and
// of those the one that was created last, so that a backlog delays nobody who comes now. Every fourth job is the one that was
// created first, whatever its priority, so that none waits for ever. A job that was begun and left without an outcome (Begun)
// comes behind those that were not.
//
// Whoever neither finishes, retries nor parks a job within the lease loses it to the next. Leases do not survive a restart: jobs
// that were claimed are claimable again at once.
func (s *Store) Claim(ctx context.Context, queue string, lease time.Duration) (*Job, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, ErrClosed
		}
		q := s.jobs.queue(queue)
		j, wait := q.claim(s.now(), lease)
		if j != nil {
			s.jobs.leases++
			j.lease = s.jobs.leases
			out := j.Job
			out.Lease = j.lease
			if err := s.fillPayloads(s.mu.Unlock, &out); err != nil {
				return nil, err
			}
			return &out, nil
		}
		changed := q.changed
		s.mu.Unlock()
		// The next job that becomes due, or the next lease that ends. A step of the wall clock moves RunAt nearer
		// without moving the timer, so a long wait looks again every minute.
		var due <-chan time.Time
		stop := func() bool { return false }
		if wait > 0 {
			t := time.NewTimer(min(wait, time.Minute))
			due, stop = t.C, t.Stop
		}
		select {
		case <-changed:
		case <-due:
		case <-ctx.Done():
		case <-s.closing:
		}
		stop()
	}
}

// Done finishes the job and makes c happen, in one step. When the job is finished already it returns ErrFinished and
// nothing of c happens: another worker was faster after the lease had ended. Where c names a lease that another worker has by
// now, it returns ErrLeaseLost.
func (s *Store) Done(ctx context.Context, key string, c Change) error {
	return s.commit(ctx, c, step{Done: []string{key}})
}

// Retry gives the job back, to be run at the given time, and counts one more try.
func (s *Store) Retry(ctx context.Context, key string, at time.Time, reason string) error {
	return s.commit(ctx, Change{}, step{Retry: &retry{Key: key, At: at.Round(0), Reason: reason}})
}

// Requeue brings a parked job back, to be run at the given time as if it had never been tried: Tries is 0 again.
func (s *Store) Requeue(ctx context.Context, key string, at time.Time, reason string) error {
	return s.commit(ctx, Change{}, step{Retry: &retry{Key: key, At: at.Round(0), Reason: reason, Afresh: true}})
}

// Park gives the job up for good and makes c happen, in one step. The job stays visible in Jobs.
func (s *Store) Park(ctx context.Context, key string, reason string, c Change) error {
	return s.commit(ctx, c, step{Park: &park{Key: key, Reason: reason}})
}

// Begin makes durable that a try of a claimed job begins. A process that dies within it leaves the count behind; Retry and Park
// set it back. So a job that takes the whole process down with it is known at the next start.
func (s *Store) Begin(ctx context.Context, key string) error {
	return s.commit(ctx, Change{}, step{Begin: key})
}

// GiveBack ends a claim as if it had not been: the job can be claimed at once, and the try that Begin counted last does not
// count. It is for a worker that is told to stop.
func (s *Store) GiveBack(ctx context.Context, key string) error {
	return s.commit(ctx, Change{}, step{GiveBack: key})
}

// Extend makes the lease of a claimed job end this long from now. It returns ErrLeaseLost as Held does.
func (s *Store) Extend(job *Job, lease time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.jobs.held(job.Key, job.Lease); err != nil {
		return err
	}
	j := s.jobs.byKey[job.Key]
	j.expires = s.now().Add(lease)
	heap.Fix(&j.q.leased, j.at[slotDue])
	j.q.signal() // whoever waits for the old end looks again
	return nil
}

// Held returns nil while the lease under which a job was handed out stands, and ErrLeaseLost once it has been given back,
// finished, or claimed by another.
func (s *Store) Held(job *Job) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.jobs.held(job.Key, job.Lease)
}

func (t *jobTable) held(key string, lease uint64) error {
	if j := t.byKey[key]; j == nil || j.State != Leased || j.lease != lease {
		return fmt.Errorf("store: job %q: %w", key, ErrLeaseLost)
	}
	return nil
}

// leased is held for the job that a step is about.
func (t *jobTable) leased(st *step, lease uint64) error {
	if st.Park != nil {
		return t.held(st.Park.Key, lease)
	}
	if len(st.Done) == 0 {
		return errors.New("store: a lease without a job")
	}
	return t.held(st.Done[0], lease)
}

// Jobs lists the jobs of a queue that are not done, in the order in which they would be claimed if all were due, each fourth
// and Serial aside. It reads the payloads of all of them.
func (s *Store) Jobs(queue string) []Job {
	s.mu.RLock()
	var list []Job
	if q := s.jobs.queues[queue]; q != nil {
		for j := range q.all {
			list = append(list, j.Job)
		}
	}
	slices.SortFunc(list, func(a, b Job) int { return byUrgency(&a, &b) })
	if err := s.fillAll(s.mu.RUnlock, list); err != nil {
		s.logger.Error("store: payloads of jobs cannot be read", "queue", queue, "error", err)
	}
	return list
}

// ParkedJobs lists up to most of the jobs of a queue that are parked, in the order of their creation.
func (s *Store) ParkedJobs(queue string, most int) ([]Job, error) {
	s.mu.RLock()
	var list []Job
	if q := s.jobs.queues[queue]; q != nil {
		for j := range q.all {
			if j.State == Parked {
				list = append(list, j.Job)
			}
		}
	}
	slices.SortFunc(list, func(a, b Job) int { return created(&a, &b) })
	list = list[:min(most, len(list))]
	return list, s.fillAll(s.mu.RUnlock, list)
}

// JobsOf lists the jobs of a study that are not done, by their queues and in the order of Jobs.
func (s *Store) JobsOf(study string) ([]Job, error) {
	s.mu.RLock()
	keys, err := s.keysOf(study)
	if err != nil {
		s.mu.RUnlock()
		return nil, err
	}
	var list []Job
	for _, key := range keys {
		if j := s.jobs.byKey[key]; j != nil {
			list = append(list, j.Job)
		}
	}
	slices.SortFunc(list, func(a, b Job) int { return cmp.Or(strings.Compare(a.Queue, b.Queue), byUrgency(&a, &b)) })
	return list, s.fillAll(s.mu.RUnlock, list)
}

// Job returns the job that has this key and is not done, else ErrNotFound.
func (s *Store) Job(key string) (Job, error) {
	s.mu.RLock()
	j := s.jobs.byKey[key]
	if j == nil {
		s.mu.RUnlock()
		return Job{}, fmt.Errorf("store: job %s: %w", key, ErrNotFound)
	}
	job := j.Job
	err := s.fillPayloads(s.mu.RUnlock, &job)
	return job, err
}

func (s *Store) fillAll(unlock func(), list []Job) error {
	all := make([]*Job, len(list))
	for i := range list {
		all[i] = &list[i]
	}
	return s.fillPayloads(unlock, all...)
}

// fillPayloads reads the payloads of jobs, which the table does not hold. s.mu is held; unlock lets go of it once what will be
// read cannot move any more.
func (s *Store) fillPayloads(unlock func(), list ...*Job) error {
	var rest []*Job
	for _, j := range list {
		anew := false // what is below is of a job that left with its study
		for _, o := range s.overlays() {
			if o.forgotten[j.Key] {
				anew, j.Payload = true, nil
			}
			if k := o.jobs[j.Key]; k != nil && k.Payload != nil {
				j.Payload = k.Payload
			}
		}
		if j.Payload == nil && !anew {
			rest = append(rest, j)
		}
	}
	if len(rest) == 0 {
		unlock()
		return nil
	}
	tx, err := s.index.begin()
	unlock()
	if err != nil {
		return err
	}
	return s.index.read(tx, func(tx *bolt.Tx) error {
		for _, j := range rest {
			if j.Payload, err = payloadOf(tx, j.Key); err != nil {
				return err
			}
		}
		return nil
	})
}

// Finished says whether a job of this key was there once and is done.
func (s *Store) Finished(key string) (bool, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	known, err := s.known(key)
	return known && !s.jobs.has(key), err
}

// Queues counts the jobs of every queue that ever had one.
func (s *Store) Queues() map[string]QueueStats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make(map[string]QueueStats, len(s.jobs.queues))
	for name, q := range s.jobs.queues {
		st := QueueStats{Pending: q.pending.Len(), Leased: q.leased.Len(), Done: q.done, Parked: q.parked}
		if st == (QueueStats{}) {
			continue // somebody only asked for it
		}
		if q.pending.Len() > 0 {
			st.Oldest = q.pending.jobs[0].RunAt
		}
		all[name] = st
	}
	return all
}

// A job is one in the table, without its payload. While it is pending it is in the heap later or ready of its queue, except where
// another of its Serial comes first; leased it is in another, parked in none.
type job struct {
	Job
	q       *queue
	heap    *jobHeap // later, ready, leased or nil
	at      [slots]int
	expires time.Time // end of the lease, on the monotonic clock
	lease   uint64
}

// A queue is guarded by Store.mu.
type queue struct {
	all     map[*job]bool
	pending jobHeap          // all that are pending, by RunAt
	later   jobHeap          // by RunAt
	ready   jobHeap          // due, by urgency
	first   jobHeap          // the same ones, by creation
	leased  jobHeap          // by end of lease
	lines   map[string]*line // by Serial
	parked  int
	done    int
	claimed int           // since start
	changed chan struct{} // closed and replaced when there may be something to claim
}

// A line is the jobs of one Serial that are neither done nor parked.
type line struct {
	jobs jobHeap // by creation
	out  *job    // the one that is in a heap of the queue
}

// Each job has a place in several heaps at once.
const (
	slotDue     = iota // in later, ready or leased
	slotPending        // in pending
	slotFirst          // in first
	slotLine           // in its line
	slots
)

// A jobTable holds every job that is not done.
type jobTable struct {
	byKey  map[string]*job
	queues map[string]*queue
	leases uint64 // given since start
}

func newJobTable() jobTable {
	return jobTable{byKey: make(map[string]*job), queues: make(map[string]*queue)}
}

func (t *jobTable) has(key string) bool { return t.byKey[key] != nil }

func (t *jobTable) queue(name string) *queue {
	q := t.queues[name]
	if q == nil {
		q = &queue{
			all: make(map[*job]bool), lines: make(map[string]*line), changed: make(chan struct{}),
			pending: jobHeap{slot: slotPending, less: byRunAt},
			later:   jobHeap{slot: slotDue, less: byRunAt},
			ready:   jobHeap{slot: slotDue, less: func(a, b *job) bool { return byUrgency(&a.Job, &b.Job) < 0 }},
			first:   jobHeap{slot: slotFirst, less: byCreation},
			leased:  jobHeap{slot: slotDue, less: func(a, b *job) bool { return a.expires.Before(b.expires) }},
		}
		t.queues[name] = q
	}
	return q
}

func byRunAt(a, b *job) bool { return a.RunAt.Before(b.RunAt) }

func byCreation(a, b *job) bool { return created(&a.Job, &b.Job) < 0 }

// created compares the order of creation. Jobs of a radnode that did not number them come first, by their times.
func created(a, b *Job) int {
	if c := cmp.Compare(a.Seq, b.Seq); c != 0 {
		return c
	}
	if c := a.RunAt.Compare(b.RunAt); c != 0 {
		return c
	}
	return strings.Compare(a.Key, b.Key)
}

// byUrgency is the order of Claim, each fourth aside.
func byUrgency(a, b *Job) int {
	if c := cmp.Compare(min(a.Begun, 1), min(b.Begun, 1)); c != 0 {
		return c
	}
	if c := cmp.Compare(b.Priority, a.Priority); c != 0 {
		return c
	}
	return created(b, a)
}

// add takes a new job in.
func (t *jobTable) add(n Job) {
	n.State = Pending
	t.load(n)
}

// load takes in a job as it was kept.
func (t *jobTable) load(n Job) {
	n.Payload = nil
	j := &job{Job: n, q: t.queue(n.Queue)}
	t.byKey[n.Key] = j
	j.q.all[j] = true
	j.enter()
}

// kept is the job as it goes to the index, where a lease does not count, without its payload.
func (j *job) kept() *Job {
	k := j.Job
	if k.State == Leased {
		k.State = Pending
	}
	return &k
}

// change lets fn change the job and puts it where it belongs then.
func (j *job) change(fn func()) {
	j.leave()
	fn()
	j.enter()
}

// leave takes the job out of everything but the list of all.
func (j *job) leave() {
	j.move(nil)
	switch j.State {
	case Parked:
		j.q.parked--
		return
	case Pending:
		heap.Remove(&j.q.pending, j.at[slotPending])
	}
	if l := j.q.lines[j.Serial]; l != nil {
		heap.Remove(&l.jobs, j.at[slotLine])
		if l.out == j {
			l.out = nil
		}
	}
}

// enter puts it where its state belongs.
func (j *job) enter() {
	switch j.State {
	case Parked:
		j.q.parked++
	case Leased:
		j.move(&j.q.leased)
	case Pending:
		heap.Push(&j.q.pending, j)
		if j.Serial == "" {
			j.move(&j.q.later)
		}
	}
	if j.Serial == "" {
		return
	}
	l := j.q.lines[j.Serial]
	if l == nil {
		l = &line{jobs: jobHeap{slot: slotLine, less: byCreation}}
		j.q.lines[j.Serial] = l
	}
	if j.State != Parked {
		heap.Push(&l.jobs, j)
	}
	if j.State == Leased {
		l.out = j
	}
	j.q.settle(j.Serial)
}

// settle lets the first of a line be claimed, and no other.
func (q *queue) settle(serial string) {
	l := q.lines[serial]
	switch {
	case l == nil:
	case l.jobs.Len() == 0:
		delete(q.lines, serial)
	case l.out != nil && l.out.State == Leased, l.out == l.jobs.jobs[0]:
	default:
		if l.out != nil {
			l.out.move(nil)
		}
		l.out = l.jobs.jobs[0]
		l.out.move(&q.later)
	}
}

// move puts the job into later, ready or leased of its queue, or into none.
func (j *job) move(to *jobHeap) {
	if j.heap != nil {
		heap.Remove(j.heap, j.at[slotDue])
	}
	if j.heap == &j.q.ready {
		heap.Remove(&j.q.first, j.at[slotFirst])
	}
	j.heap = to
	if to != nil {
		heap.Push(to, j)
		j.q.signal()
	}
	if to == &j.q.ready {
		heap.Push(&j.q.first, j)
	}
}

func (q *queue) signal() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (t *jobTable) finish(key string) (queue string) {
	j := t.byKey[key]
	j.leave()
	delete(t.byKey, key)
	delete(j.q.all, j)
	j.q.done++
	j.q.settle(j.Serial)
	return j.Queue
}

func (t *jobTable) retry(r *retry) *Job {
	j := t.byKey[r.Key]
	j.change(func() {
		j.State, j.RunAt, j.LastError, j.Begun = Pending, r.At, r.Reason, 0
		if j.Tries++; r.Afresh {
			j.Tries = 0
		}
	})
	return j.kept()
}

func (t *jobTable) park(p *park) *Job {
	j := t.byKey[p.Key]
	j.change(func() { j.State, j.LastError, j.Begun = Parked, p.Reason, 0 })
	return j.kept()
}

func (t *jobTable) begin(key string) *Job {
	j := t.byKey[key]
	j.change(func() { j.Begun++ })
	return j.kept()
}

func (t *jobTable) giveBack(key string) *Job {
	j := t.byKey[key]
	j.change(func() {
		j.Begun = max(j.Begun-1, 0)
		if j.State == Leased {
			j.State = Pending
		}
	})
	return j.kept()
}

// fair says how many of the claims take the most urgent job until one takes the oldest.
const fair = 3

// claim leases the best job that is due. When none is, it says how long to wait for the next, 0 when there is none.
func (q *queue) claim(now time.Time, lease time.Duration) (*job, time.Duration) {
	for q.leased.Len() > 0 && !q.leased.jobs[0].expires.After(now) {
		j := q.leased.jobs[0]
		j.change(func() { j.State = Pending })
	}
	for q.later.Len() > 0 && !q.later.jobs[0].RunAt.After(now) {
		q.later.jobs[0].move(&q.ready)
	}
	if q.ready.Len() > 0 {
		from := &q.ready
		if q.claimed%(fair+1) == fair {
			from = &q.first
		}
		q.claimed++
		j := from.jobs[0]
		j.change(func() { j.State, j.expires = Leased, now.Add(lease) })
		return j, 0
	}
	var wait time.Duration
	if q.later.Len() > 0 {
		wait = max(q.later.jobs[0].RunAt.Sub(now), 1)
	}
	if q.leased.Len() > 0 {
		if w := max(q.leased.jobs[0].expires.Sub(now), 1); wait == 0 || w < wait {
			wait = w
		}
	}
	return nil, wait
}

// A jobHeap is a container/heap whose jobs know their places.
type jobHeap struct {
	jobs []*job
	slot int // of job.at
	less func(a, b *job) bool
}

func (h *jobHeap) Len() int           { return len(h.jobs) }
func (h *jobHeap) Less(i, j int) bool { return h.less(h.jobs[i], h.jobs[j]) }

func (h *jobHeap) Swap(i, j int) {
	h.jobs[i], h.jobs[j] = h.jobs[j], h.jobs[i]
	h.jobs[i].at[h.slot], h.jobs[j].at[h.slot] = i, j
}

func (h *jobHeap) Push(x any) {
	j := x.(*job)
	j.at[h.slot] = len(h.jobs)
	h.jobs = append(h.jobs, j)
}

func (h *jobHeap) Pop() any {
	n := len(h.jobs) - 1
	j := h.jobs[n]
	h.jobs[n] = nil
	h.jobs = h.jobs[:n]
	return j
}
