package store

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A JobState is where a job stands; done jobs are counted and their keys remembered, nothing else of them is kept.
type JobState string

const (
	Pending JobState = "pending" // waits for its time or for a worker
	Leased  JobState = "leased"  // a worker has it
	Parked  JobState = "parked"  // failed for good, kept for the operator; Retry brings it back
)

// A Job is one piece of work. It is handed out at least once until it is done.
type Job struct {
	Key       string    `json:"key"`   // unique for ever
	Queue     string    `json:"queue"` // "compute", "deliver:PACS"
	Study     string    `json:"study,omitempty"`
	Payload   []byte    `json:"payload,omitempty"`
	Priority  int       `json:"priority,omitempty"` // higher first
	RunAt     time.Time `json:"runAt"`              // not before; now when zero
	Tries     int       `json:"tries,omitempty"`    // how often it was given back by Retry
	LastError string    `json:"lastError,omitempty"`

	// Serial, when not empty, puts the jobs of a queue that share it into the order of their creation: only the first of them that is
	// neither done nor parked is handed out.
	Serial string `json:"serial,omitempty"`
	// Begun counts the tries that were begun and had no outcome, see [Store.Begin].
	Begun int `json:"begun,omitempty"`

	State JobState `json:"state,omitempty"` // set by the store
}

// QueueStats counts the jobs of a queue.
type QueueStats struct {
	Pending, Leased, Done, Parked int
	Oldest                        time.Time // earliest RunAt of the pending jobs; zero when there is none
}

// Claim waits until a job of the queue is due and hands it out for the time of the lease: the one of the highest
// priority, and of those the one whose RunAt is oldest. Whoever neither finishes, retries nor parks it within the lease
// loses it to the next. Leases do not survive a restart: jobs that were claimed are claimable again at once.
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
		changed := q.changed
		s.mu.Unlock()
		if j != nil {
			return j, nil
		}
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
// nothing of c happens: another worker was faster after the lease had ended.
func (s *Store) Done(ctx context.Context, key string, c Change) error {
	return s.commit(ctx, c, step{Done: []string{key}})
}

// Retry gives the job back, to be run at the given time, and counts one more try. It brings back a parked job too.
func (s *Store) Retry(ctx context.Context, key string, at time.Time, reason string) error {
	return s.commit(ctx, Change{}, step{Retry: &retry{Key: key, At: at.Round(0), Reason: reason}})
}

// Park gives the job up for good and makes c happen, in one step. The job stays visible in Jobs.
func (s *Store) Park(ctx context.Context, key string, reason string, c Change) error {
	return s.commit(ctx, c, step{Park: &park{Key: key, Reason: reason}})
}

// Begin makes durable that a try of a claimed job begins. A process that dies within it leaves the count behind; Retry and Park
// set it back. So a job that takes the whole process down with it is known at the next start.
func (s *Store) Begin(ctx context.Context, key string) error { return errNotYet }

// Extend makes the lease of a claimed job end this long from now.
func (s *Store) Extend(key string, lease time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs.byKey[key]
	if j == nil || j.State != Leased {
		return fmt.Errorf("store: job %q: %w", key, ErrLeaseLost)
	}
	j.expires = s.now().Add(lease)
	heap.Fix(&j.q.leased, j.at)
	j.q.signal() // whoever waits for the old end looks again
	return nil
}

// Jobs lists the jobs of a queue that are not done, in the order in which they would be claimed if all were due.
func (s *Store) Jobs(queue string) []Job {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var list []Job
	if q := s.jobs.queues[queue]; q != nil {
		for j := range q.all {
			list = append(list, j.Job)
		}
	}
	slices.SortFunc(list, func(a, b Job) int { return byPriority(&a, &b) })
	return list
}

// Queues counts the jobs of every queue that ever had one.
func (s *Store) Queues() map[string]QueueStats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make(map[string]QueueStats, len(s.jobs.queues))
	for name, q := range s.jobs.queues {
		st := QueueStats{Pending: q.ready.Len() + q.later.Len(), Leased: q.leased.Len(), Done: q.done, Parked: q.parked}
		if st == (QueueStats{}) {
			continue // somebody only asked for it
		}
		for j := range q.all {
			if j.State == Pending && (st.Oldest.IsZero() || j.RunAt.Before(st.Oldest)) {
				st.Oldest = j.RunAt
			}
		}
		all[name] = st
	}
	return all
}

// A job is one in the table. It is in exactly one heap of its queue, or in none when it is parked.
type job struct {
	Job
	q       *queue
	heap    *jobHeap
	at      int       // its place in heap
	expires time.Time // end of the lease, on the monotonic clock
}

// A queue is guarded by Store.mu.
type queue struct {
	all     map[*job]bool
	ready   jobHeap // due
	later   jobHeap // by RunAt
	leased  jobHeap // by end of lease
	parked  int
	done    int
	changed chan struct{} // closed and replaced when there may be something to claim
}

// A jobTable holds every job that is not done.
type jobTable struct {
	byKey  map[string]*job
	queues map[string]*queue
}

func newJobTable() jobTable {
	return jobTable{byKey: make(map[string]*job), queues: make(map[string]*queue)}
}

func (t *jobTable) has(key string) bool { return t.byKey[key] != nil }

func (t *jobTable) queue(name string) *queue {
	q := t.queues[name]
	if q == nil {
		q = &queue{all: make(map[*job]bool), changed: make(chan struct{})}
		q.ready.less = func(a, b *job) bool { return byPriority(&a.Job, &b.Job) < 0 }
		q.later.less = func(a, b *job) bool { return a.RunAt.Before(b.RunAt) }
		q.leased.less = func(a, b *job) bool { return a.expires.Before(b.expires) }
		t.queues[name] = q
	}
	return q
}

func byPriority(a, b *Job) int {
	if c := cmp.Compare(b.Priority, a.Priority); c != 0 {
		return c
	}
	if c := a.RunAt.Compare(b.RunAt); c != 0 {
		return c
	}
	return strings.Compare(a.Key, b.Key)
}

// add takes a new job in and returns it as it is to be kept.
func (t *jobTable) add(n Job) *Job {
	n.State = Pending
	return t.load(n)
}

// load takes in a job as it was kept.
func (t *jobTable) load(n Job) *Job {
	j := &job{Job: n, q: t.queue(n.Queue)}
	t.byKey[n.Key] = j
	j.q.all[j] = true
	if n.State == Parked {
		j.q.parked++
	} else {
		j.move(&j.q.later)
	}
	return j.kept()
}

// kept is the job as it goes to the index, where a lease does not count.
func (j *job) kept() *Job {
	k := j.Job
	if k.State == Leased {
		k.State = Pending
	}
	return &k
}

// move puts the job into a heap of its queue, or into none.
func (j *job) move(to *jobHeap) {
	if j.heap != nil {
		heap.Remove(j.heap, j.at)
	}
	if j.heap = to; to != nil {
		heap.Push(to, j)
		j.q.signal()
	}
}

func (q *queue) signal() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func (t *jobTable) finish(key string) (queue string) {
	j := t.byKey[key]
	if j.State == Parked {
		j.q.parked--
	}
	j.move(nil)
	delete(t.byKey, key)
	delete(j.q.all, j)
	j.q.done++
	return j.Queue
}

func (t *jobTable) retry(r *retry) *Job {
	j := t.byKey[r.Key]
	if j.State == Parked {
		j.q.parked--
	}
	j.State, j.RunAt, j.LastError = Pending, r.At, r.Reason
	j.Tries++
	j.move(&j.q.later)
	return j.kept()
}

func (t *jobTable) park(p *park) *Job {
	j := t.byKey[p.Key]
	if j.State != Parked {
		j.q.parked++
	}
	j.State, j.LastError = Parked, p.Reason
	j.move(nil)
	return j.kept()
}

// claim leases the best job that is due. When none is, it says how long to wait for the next, 0 when there is none.
func (q *queue) claim(now time.Time, lease time.Duration) (*Job, time.Duration) {
	for q.leased.Len() > 0 && !q.leased.jobs[0].expires.After(now) {
		j := q.leased.jobs[0]
		j.State = Pending
		j.move(&q.later)
	}
	for q.later.Len() > 0 && !q.later.jobs[0].RunAt.After(now) {
		q.later.jobs[0].move(&q.ready)
	}
	if q.ready.Len() > 0 {
		j := q.ready.jobs[0]
		j.State, j.expires = Leased, now.Add(lease)
		j.move(&q.leased)
		out := j.Job
		return &out, 0
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
	less func(a, b *job) bool
}

func (h *jobHeap) Len() int           { return len(h.jobs) }
func (h *jobHeap) Less(i, j int) bool { return h.less(h.jobs[i], h.jobs[j]) }

func (h *jobHeap) Swap(i, j int) {
	h.jobs[i], h.jobs[j] = h.jobs[j], h.jobs[i]
	h.jobs[i].at, h.jobs[j].at = i, j
}

func (h *jobHeap) Push(x any) {
	j := x.(*job)
	j.at = len(h.jobs)
	h.jobs = append(h.jobs, j)
}

func (h *jobHeap) Pop() any {
	n := len(h.jobs) - 1
	j := h.jobs[n]
	h.jobs[n] = nil
	h.jobs = h.jobs[:n]
	return j
}
