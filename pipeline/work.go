package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline/panics"
	"github.com/radnode/radnode/store"
)

// How often a study is tried before it is given up, visibly, so that it never stops the others.
const (
	failTries  = 5 // where it fails for no reason of its input, as that the disk cannot be read; a panic is such a failure
	slowTries  = 2 // where it takes longer than Options.Timeout
	crashTries = 3 // where the process ends while it is computed
)

const (
	// DefaultTimeout is how long a computation may take, waiting aside.
	DefaultTimeout = 2 * time.Hour

	stopGrace    = 10 * time.Second // for a computation that is told to stop; then the others go on without it
	suspectPause = 5 * time.Second  // from the start until a suspect is computed
)

// A crew is those who compute. Each takes a study through gate and memory to a desk:
//
//   - The gate lets one study in at a time where it is suspect, many otherwise. A study is suspect when the process ended while
//     it was computed: it, or one beside it, may be what ended it. So it is computed alone, and only that one is counted next
//     time. It also waits for a moment, so that who is killed at once, again and again, by something else is not counted.
//   - There are more who wait for memory than desks, so that a study that needs a lot of it does not keep a desk from others.
//   - There is a desk for each of Options.Workers.
type crew struct {
	size  int64 // of those who claim jobs
	gate  *semaphore.Weighted
	desks *semaphore.Weighted
	hands *errgroup.Group
	since time.Time     // start
	pause time.Duration // suspectPause, and in tests less
	grace time.Duration // stopGrace, likewise

	mu    sync.Mutex
	stuck map[string]bool // keys of jobs whose computation does not stop
}

func newCrew(workers int) *crew {
	n := int64(2 * workers)
	return &crew{size: n, gate: semaphore.NewWeighted(n), desks: semaphore.NewWeighted(int64(workers)),
		pause: suspectPause, grace: stopGrace, stuck: map[string]bool{}}
}

// work claims the jobs of one queue, one after the other.
func (p *Pipeline) work(ctx context.Context, queue string, lease time.Duration, do func(context.Context, *store.Job) error) error {
	for {
		job, err := p.store.Claim(ctx, queue, lease)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("claim from %s: %w", queue, err)
		}
		p.stored(ctx, job, p.guarded(ctx, job, do))
	}
}

// outcomeRetry is how soon it is tried to store the outcome of a job again, or the job itself, where the disk did not take it.
const outcomeRetry = 10 * time.Second

// insist makes the outcome of a job durable. What the disk does not take, as a full one, is kept in hand until it does: nothing is
// delivered or computed twice for want of room to write that down. It returns early only where ctx is done.
func (p *Pipeline) insist(ctx context.Context, job *store.Job, write func(context.Context) error) error {
	for said := false; ; said = true {
		err := write(context.WithoutCancel(ctx))
		if !errors.As(err, new(*dimse.Status)) { // of which the store makes an error of the disk
			return err
		}
		if !said {
			p.log.Error("the disk does not take the outcome of a job; it is kept until it does, make room or see to the disk", "queue", job.Queue,
				"study", job.Study, "err", err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(p.outcomeRetry):
		}
		_ = p.store.Extend(job, computeLease) // where it is lost, the store will say so
	}
}

// settled is for an outcome that came second: the job is done, somebody else has it, or its study has left.
func settled(err error) error {
	if errors.Is(err, store.ErrFinished) || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrLeaseLost) {
		return nil
	}
	return err
}

// stored takes notice where the store could not take what became of a job. The job comes again soon: it must not be lost, and it must
// not spin.
func (p *Pipeline) stored(ctx context.Context, job *store.Job, err error) {
	p.tally.change(job.Study)
	switch {
	case err == nil || ctx.Err() != nil:
		return
	case settled(err) == nil:
		p.log.Debug("an outcome came second and does not count", "queue", job.Queue, "study", job.Study, "err", err)
		return
	}
	p.log.Error("outcome of a job not stored; it will be tried again, see to the disk if this goes on", "queue", job.Queue, "study", job.Study, "err", err)
	_ = p.store.Extend(job, p.outcomeRetry) // rather than the rest of the lease; where it is lost there is nothing to do
	select {
	case <-ctx.Done():
	case <-time.After(min(time.Second, p.outcomeRetry)):
	}
}

// guarded keeps a panic inside one study: the job counts as failed and the others go on.
func (p *Pipeline) guarded(ctx context.Context, job *store.Job, do func(context.Context, *store.Job) error) error {
	var outcome error
	err := func() (err error) {
		defer panics.Catch(&err)
		outcome = do(ctx, job)
		return nil
	}()
	if err != nil {
		return p.failed(ctx, job, err)
	}
	return outcome
}

// man computes what is queued: one of the crew.
func (p *Pipeline) man(ctx context.Context) error {
	return p.work(ctx, computeQueue, computeLease, func(ctx context.Context, job *store.Job) error {
		if job.Begun == 0 {
			return p.enter(ctx, job, 1)
		}
		p.crew.hands.Go(func() error { // none of the others waits for it
			select {
			case <-time.After(p.crew.pause - time.Since(p.crew.since)):
			case <-ctx.Done():
				return nil
			}
			p.stored(ctx, job, p.enter(ctx, job, p.crew.size))
			return nil
		})
		return nil
	})
}

// enter takes a job through the gate.
func (p *Pipeline) enter(ctx context.Context, job *store.Job, weight int64) error {
	defer p.keep(job)()
	if p.crew.isStuck(job.Key) {
		return p.failed(ctx, job, errors.New("its computation does not stop when told to"))
	}
	if job.Begun >= crashTries {
		return p.giveUp(ctx, job, fmt.Sprintf("the process ended %d times while this study was computed: a crash, or out of memory", job.Begun))
	}
	if p.crew.gate.Acquire(ctx, weight) != nil {
		return nil // shutting down
	}
	defer p.crew.gate.Release(weight)
	if weight > 1 {
		p.log.Warn("the process ended while this study was computed, or one beside it; computing it alone", "study", job.Study, "times", job.Begun)
	}
	if err := p.store.Begin(ctx, job.Key); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	return p.attempt(ctx, job)
}

// errSlow ends a computation that takes too long.
var errSlow = errors.New("takes too long")

// attempt computes one job, and returns at the latest [stopGrace] after its time is over or ctx is done.
func (p *Pipeline) attempt(parent context.Context, job *store.Job) error {
	read, err := p.memory.read(parent, p.toRead(job))
	if err != nil {
		return p.store.GiveBack(context.WithoutCancel(parent), job.Key) // shutting down
	}
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	slow := fmt.Errorf("%w: more than %v", errSlow, p.opt.Timeout)
	clock := time.AfterFunc(p.opt.Timeout, func() { cancel(slow) })
	defer clock.Stop()
	var seated atomic.Bool
	leave := func() {
		if seated.CompareAndSwap(true, false) {
			p.crew.desks.Release(1)
		}
	}
	defer leave()
	admit := func(take func() error) error {
		clock.Stop() // waiting is not counted
		defer clock.Reset(p.opt.Timeout)
		if err := take(); err != nil {
			return err
		}
		read() // it is counted there from now on
		if err := p.crew.desks.Acquire(ctx, 1); err != nil {
			return err
		}
		seated.Store(true)
		return nil
	}
	ended := make(chan error, 1)
	go func() {
		defer leave()
		defer read()
		ended <- p.guarded(ctx, job, func(ctx context.Context, job *store.Job) error { return p.compute(ctx, job, admit) })
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(p.crew.grace):
	}
	if parent.Err() != nil { // the process ends, and the computation with it
		return p.store.GiveBack(context.WithoutCancel(ctx), job.Key)
	}
	return p.abandon(ctx, job, ended, slow)
}

// toRead is the size of the structure set that a job is about; segmentations are not read as a whole.
func (p *Pipeline) toRead(job *store.Job) int64 {
	var t task
	if json.Unmarshal(job.Payload, &t) != nil {
		return 0
	}
	in, err := p.store.Instance(t.Subject)
	if err != nil || in.SOPClassUID != dicom.RTStructureSetStorage {
		return 0
	}
	return in.Size
}

// abandon goes on without a computation that does not stop. What it holds of the memory stays counted until it does.
func (p *Pipeline) abandon(ctx context.Context, job *store.Job, ended <-chan error, reason error) error {
	p.crew.setStuck(job.Key, true)
	p.count(func(s *Stats) { s.Stuck++ })
	p.log.Error("a computation does not stop; the others go on without it, and its memory stays taken", "study", job.Study)
	go func() {
		<-ended
		p.crew.setStuck(job.Key, false)
		p.count(func(s *Stats) { s.Stuck-- })
		p.log.Info("a computation that did not stop has ended", "study", job.Study)
	}()
	return p.failed(ctx, job, reason)
}

func (c *crew) setStuck(key string, stuck bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if stuck {
		c.stuck[key] = true
	} else {
		delete(c.stuck, key)
	}
}

func (c *crew) isStuck(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stuck[key]
}
