package pipeline

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/radnode/radnode/pipeline/refusal"
)

// A Memory bounds the bytes that all computations of a process hold at once: volumes, masks and what the features take.
// It counts blocks in use; the garbage collector may hold as much again, as GOGC allows.
//
// Nobody waits for memory while holding some: a computation takes what it cannot do without, which is the volume, what is
// kept of every region and what the largest region works with, in one step before it begins; with that alone it can finish.
// What it takes later, to measure several regions at once, it takes only where it is free at that moment and nobody waits. So
// whoever holds memory gives it back, and whoever waits gets it: in the order of arrival, except that one which fits beside the
// first that waits passes it. A small study does not wait for a huge one, and the huge one does not wait for it: it can begin
// when those have ended that were there before it.
type Memory struct {
	limit int64

	mu      sync.Mutex // guards all below
	held    int64
	beside  int64 // of held, by those that passed the first of waiting
	waiting []*claim
}

// A claim is memory that is held or waited for.
type claim struct {
	bytes   int64
	passed  *claim        // the first that waited when this one passed it
	granted chan struct{} // closed when it is held
}

// NewMemory bounds the memory to limit bytes; 0 stands for [DefaultMemory].
func NewMemory(limit int64) *Memory {
	if limit <= 0 {
		limit = DefaultMemory()
	}
	return &Memory{limit: limit}
}

// headers bounds what the data sets of one computation, all open at once, may hold beside their pixels. They are read before
// anybody knows what the computation needs, so it is in addition to the limit. 64 MiB are the headers of 4,000 slices.
func (mem *Memory) headers() int64 { return max(mem.limit, 64<<20) }

// DefaultMemory is half of what this process may have: of the machine's memory, of its control group's limit or of
// GOMEMLIMIT, whichever is lowest. The other half is for the garbage collector, for receiving and for other programs. It is
// 4 GiB where the system does not tell.
func DefaultMemory() int64 {
	least := min(systemMemory(), debug.SetMemoryLimit(-1))
	if least == math.MaxInt64 {
		return 4 << 30
	}
	return least / 2
}

// TooLarge is the refusal for an input that needs more memory than there may ever be.
func TooLarge(what string, need, limit int64, remedy string) *refusal.Refusal {
	n, l := "about "+mebibytes(need), mebibytes(limit)
	if mebibytes(need) == l { // differ by less than what is shown
		n = "slightly more than " + l
	}
	return &refusal.Refusal{Code: refusal.MemoryLimit, Text: fmt.Sprintf("%s needs %s, the limit is %s", what, n, l), Remedy: remedy}
}

// mebibytes writes bytes as GiB or MiB.
func mebibytes(bytes int64) string {
	if bytes < 1<<30 {
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

// tryTake takes n bytes where they are free and nobody waits.
func (mem *Memory) tryTake(n int64) bool {
	mem.mu.Lock()
	defer mem.mu.Unlock()
	if len(mem.waiting) > 0 || n > mem.limit-mem.held {
		return false
	}
	mem.held += n
	return true
}

// wait waits for n bytes, which are at most the limit.
func (mem *Memory) wait(ctx context.Context, n int64) (*claim, error) {
	c := &claim{bytes: n, granted: make(chan struct{})}
	mem.mu.Lock()
	mem.waiting = append(mem.waiting, c)
	mem.admit()
	mem.mu.Unlock()
	select {
	case <-c.granted:
		return c, nil
	case <-ctx.Done():
	}
	mem.mu.Lock()
	defer mem.mu.Unlock()
	select {
	case <-c.granted: // meanwhile
		mem.freed(c)
	default:
		if mem.waiting[0] == c {
			mem.beside = 0
		}
		mem.waiting = slices.DeleteFunc(mem.waiting, func(w *claim) bool { return w == c })
	}
	mem.admit()
	return nil, ctx.Err()
}

// admit grants what can be granted. mem.mu is held.
func (mem *Memory) admit() {
	for len(mem.waiting) > 0 && mem.waiting[0].bytes <= mem.limit-mem.held {
		mem.grant(0)
		mem.beside = 0
	}
	for i := 1; i < len(mem.waiting); {
		first, c := mem.waiting[0], mem.waiting[i]
		if c.bytes > mem.limit-mem.held || c.bytes > mem.limit-first.bytes-mem.beside {
			i++
			continue
		}
		c.passed = first
		mem.beside += c.bytes
		mem.grant(i)
	}
}

func (mem *Memory) grant(i int) {
	c := mem.waiting[i]
	mem.held += c.bytes
	mem.waiting = slices.Delete(mem.waiting, i, i+1)
	close(c.granted)
}

// freed takes back what was granted. mem.mu is held.
func (mem *Memory) freed(c *claim) {
	mem.held -= c.bytes
	if c.passed != nil && len(mem.waiting) > 0 && mem.waiting[0] == c.passed {
		mem.beside -= c.bytes
	}
}

func (mem *Memory) give(c *claim) {
	mem.mu.Lock()
	defer mem.mu.Unlock()
	mem.freed(c)
	mem.admit()
}

// A grant is the memory of one computation.
type grant struct {
	*Memory
	claim *claim
	work  *semaphore.Weighted // of the claim, what the largest region works with
}

// take waits for kept bytes that stay until the end, and for work bytes that the regions may use in turn.
func (mem *Memory) take(ctx context.Context, kept, work int64) (*grant, error) {
	c, err := mem.wait(ctx, kept+work)
	if err != nil {
		return nil, err
	}
	return &grant{mem, c, semaphore.NewWeighted(work)}, nil
}

// use returns when a region, which needs at most the work of [Memory.take], may start; done gives its memory back.
func (s *grant) use(ctx context.Context, need int64) (done func(), err error) {
	switch {
	case s.work.TryAcquire(need):
	case s.tryTake(need):
		return func() { s.give(&claim{bytes: need}) }, nil
	default:
		if err := s.work.Acquire(ctx, need); err != nil {
			return nil, err
		}
	}
	return func() { s.work.Release(need) }, nil
}

func (s *grant) release() { s.give(s.claim) }
