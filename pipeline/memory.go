package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"sync"

	"golang.org/x/sync/semaphore"

	"github.com/radnode/radnode/dimse/dicom"
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
	limit   int64
	reading *semaphore.Weighted // of limit bytes, see read

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
	return &Memory{limit: limit, reading: semaphore.NewWeighted(limit)}
}

// A structure set is read before anybody knows what its study needs: the points of its contours say where the regions lie. So that
// comes first, and is in addition to the limit: no more is read at once than the limit, or one structure set that alone takes more. Once the
// memory of the computation is granted, what was read is counted there.

// pointsFactor is how many times its size a structure set may take while it is read: its bytes, and a value of 8 bytes for each two of
// them, a digit and the delimiter. Most take half of that.
const pointsFactor = 5

// read waits until a structure set of this size may be read, until done is called.
func (mem *Memory) read(ctx context.Context, size int64) (done func(), err error) {
	n := min(size, mem.limit/pointsFactor) * pointsFactor
	if err := mem.reading.Acquire(ctx, n); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { mem.reading.Release(n) }), nil
}

// pointsOf foresees what the contours of a data set that was read take: kept with their points, and most while those are read.
func pointsOf(f *dicom.File) (kept, most int64) {
	kept = f.Memory
	longest := int64(0)
	for _, r := range f.DataSet.Seq(dicom.ROIContourSequence) {
		for _, c := range r.Seq(dicom.ContourSequence) {
			n := int64(0)
			switch e := c.Element(dicom.ContourData); {
			case e == nil:
			case e.VR == dicom.DS:
				n = 8 * int64(1+bytes.Count(e.Bytes(), []byte{'\\'}))
			default: // no writer is known that has another VR here
				n = 8 * int64(len(e.Bytes()))
			}
			kept, longest = kept+n, max(longest, n)
		}
	}
	return kept, kept + longest // a contour is read as numbers before they are points
}

// fits refuses contours that need more memory than there may ever be, before a point is read, and tells what they take.
func (mem *Memory) fits(contours *dicom.File) (kept int64, err error) {
	kept, most := pointsOf(contours)
	if most > mem.limit {
		return 0, TooLarge("the structure set with all its points", most, mem.limit, "raise memory in the configuration, or draw with fewer points")
	}
	return kept, nil
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
