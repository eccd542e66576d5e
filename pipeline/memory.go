package pipeline

import (
	"context"
	"fmt"
	"math"
	"runtime/debug"

	"golang.org/x/sync/semaphore"

	"github.com/radnode/radnode/pipeline/refusal"
)

// A Memory bounds the bytes that all computations of a process hold at once: volumes, masks and what the features take.
// It counts blocks in use; the garbage collector may hold as much again, as GOGC allows.
//
// Nobody waits for memory while holding some: a computation takes what it cannot do without, which is the volume, what is
// kept of every region and what the largest region works with, in one step before it begins; with that alone it can finish.
// What it takes later, to measure several regions at once, it takes only where it is free at that moment. So whoever holds
// memory gives it back, and whoever waits, in the order of arrival, gets it.
type Memory struct {
	limit int64
	free  *semaphore.Weighted
}

// NewMemory bounds the memory to limit bytes; 0 stands for [DefaultMemory].
func NewMemory(limit int64) *Memory {
	if limit <= 0 {
		limit = DefaultMemory()
	}
	return &Memory{limit, semaphore.NewWeighted(limit)}
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

// A grant is the memory of one computation.
type grant struct {
	*Memory
	held int64
	work *semaphore.Weighted // of held, what the largest region works with
}

// take waits for kept bytes that stay until the end, and for work bytes that the regions may use in turn.
func (mem *Memory) take(ctx context.Context, kept, work int64) (*grant, error) {
	if err := mem.free.Acquire(ctx, kept+work); err != nil {
		return nil, err
	}
	return &grant{mem, kept + work, semaphore.NewWeighted(work)}, nil
}

// use returns when a region, which needs at most the work of [Memory.take], may start; done gives its memory back.
func (s *grant) use(ctx context.Context, need int64) (done func(), err error) {
	switch {
	case s.work.TryAcquire(need):
	case s.free.TryAcquire(need):
		return func() { s.free.Release(need) }, nil
	default:
		if err := s.work.Acquire(ctx, need); err != nil {
			return nil, err
		}
	}
	return func() { s.work.Release(need) }, nil
}

func (s *grant) release() { s.free.Release(s.held) }
