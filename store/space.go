package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
)

// A Space says how much room the data folder has.
type Space struct {
	Total   int64 // of the file system; 0 when the system does not say
	Free    int64 // of it; what is reserved for the log and not written yet counts as free
	Reserve int64 // is kept for what is queued: reports, states, the index; new objects do not get it

	BytesPerSecond float64       // by which Free became less within the last minutes; 0 where it did not
	FullIn         time.Duration // until only Reserve is left at that rate; 0: not in sight

	Refusing bool   // new objects are refused
	Reason   string // why, or what else the disk does not do; "" when all is well
}

// Space measures the data folder.
func (s *Store) Space() Space {
	s.gauge.measure(false)
	sp := s.gauge.space()
	for _, t := range []*trouble{&s.logTrouble, &s.largeTrouble, &s.indexTrouble} {
		if sp.Reason == "" {
			sp.Reason = t.why()
		}
	}
	sp.Refusing = sp.Refusing || s.indexBehind() != nil
	return sp
}

// defaultReserve is a twentieth of the file system, at least 64 MiB and at most 1 GiB, and never more than a quarter of it.
func defaultReserve(total int64) int64 {
	return min(max(total/20, 64<<20), 1<<30, total/4)
}

const (
	gaugeEvery  = time.Second // a measure is good for so long
	gaugeBytes  = 8 << 20     // or until so much was written
	sampleEvery = 10 * time.Second
	sampleKept  = 15 * time.Minute // the rate is that of so long
	sampleLeast = 2 * time.Minute  // before it says anything
)

// A gauge watches the free space of the data folder and decides whether new objects still come in.
type gauge struct {
	disk   *disk
	dir    string
	logger *slog.Logger
	now    func() time.Time
	wanted int64 // Options.Reserve

	measuring atomic.Bool
	spent     atomic.Int64 // written since the last measure
	slack     atomic.Int64 // reserved by the last segment and not written yet

	mu       sync.Mutex // guards all below
	at       time.Time  // of the last measure
	total    int64      // 0: unknown
	free     int64      // without slack
	reserve  int64
	refusing bool
	refused  int
	samples  []sample
	sighted  int // 0: no end in sight, 1: within a day, 2: within an hour
}

type sample struct {
	at   time.Time
	free int64
}

// measure asks the file system where the last answer is too old. Only one caller at a time waits for it: a network disk may
// take its time.
func (g *gauge) measure(force bool) {
	g.mu.Lock()
	age := g.now().Sub(g.at)
	fresh := !g.at.IsZero() && age >= 0 && age < gaugeEvery && g.spent.Load() < gaugeBytes
	g.mu.Unlock()
	if fresh && !force || !g.measuring.CompareAndSwap(false, true) {
		return
	}
	defer g.measuring.Store(false)
	spent := g.spent.Load()
	total, free, err := g.disk.space(g.dir)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at = g.now()
	g.spent.Add(-spent)
	if err != nil {
		if g.total != 0 || len(g.samples) == 0 && !errors.Is(err, errors.ErrUnsupported) {
			g.logger.Warn("store: cannot measure the free space of the data folder", "error", err)
		}
		g.total, g.samples = 0, []sample{}
		return
	}
	g.total, g.free, g.reserve = total, free, g.wanted
	if g.reserve == 0 {
		g.reserve = defaultReserve(total)
	}
	g.decide()
	g.forecast()
}

// usable is what a new object may count on, beside the reserve. Half of the reserve must be free outside the log, for the
// index. mu is held.
func (g *gauge) usable() int64 {
	return g.free - g.spent.Load() + min(g.slack.Load(), g.reserve/2)
}

func (g *gauge) decide() {
	usable := g.usable()
	switch {
	case !g.refusing && usable < g.reserve:
		g.refusing, g.refused = true, 0
		g.logger.Error("store: disk nearly full: new objects are refused, what is queued goes on from the reserve",
			"free", g.free+g.slack.Load(), "reserve", g.reserve)
	case g.refusing && usable >= g.reserve+g.reserve/8: // so that it does not go back and forth
		g.refusing = false
		g.logger.Warn("store: there is room again: new objects are taken", "free", g.free+g.slack.Load(), "reserve", g.reserve, "refused", g.refused)
	}
}

// forecast keeps a sample now and then and tells once when the end comes into sight. mu is held.
func (g *gauge) forecast() {
	now, free := g.at, g.free+g.slack.Load()
	if n := len(g.samples); n > 0 && now.Before(g.samples[n-1].at) { // the clock was set back
		g.samples = g.samples[:0]
	}
	if n := len(g.samples); n > 0 && now.Sub(g.samples[n-1].at) < sampleEvery {
		return
	}
	g.samples = append(g.samples, sample{now, free})
	for len(g.samples) > 2 && now.Sub(g.samples[1].at) >= sampleKept {
		g.samples = g.samples[1:]
	}
	const day, hour = 24 * time.Hour, time.Hour
	left := g.fullIn()
	switch {
	case g.refusing: // there is nothing left to foresee
	case left > 0 && left < hour && g.sighted < 2:
		g.sighted = 2
		g.logger.Error("store: the disk will be full within an hour at the rate of the last minutes", "in", left.Round(time.Minute), "free", free, "reserve", g.reserve)
	case left > 0 && left < day && g.sighted < 1:
		g.sighted = 1
		g.logger.Warn("store: the disk will be full within a day at the rate of the last minutes", "in", left.Round(time.Minute), "free", free, "reserve", g.reserve)
	case g.sighted > 0 && (left == 0 || left > day+day/4):
		g.sighted = 0
		g.logger.Info("store: no end of the disk in sight any more", "free", free, "reserve", g.reserve)
	}
}

// rate is how fast the free space became less. mu is held.
func (g *gauge) rate() float64 {
	if len(g.samples) < 2 {
		return 0
	}
	first, last := g.samples[0], g.samples[len(g.samples)-1]
	if last.at.Sub(first.at) < sampleLeast || last.free >= first.free {
		return 0
	}
	return float64(first.free-last.free) / last.at.Sub(first.at).Seconds()
}

func (g *gauge) fullIn() time.Duration {
	rate := g.rate()
	if rate == 0 {
		return 0
	}
	seconds := float64(g.free+g.slack.Load()-g.reserve) / rate
	return time.Duration(max(1, min(seconds*float64(time.Second), math.MaxInt64/2)))
}

// room is how much may be reserved ahead: what is kept for other things is not for the log alone.
func (g *gauge) room() int64 {
	g.measure(true)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total == 0 {
		return math.MaxInt64
	}
	return max(0, g.free-g.spent.Load()-g.reserve)
}

// admit returns the refusal of a new object, or of the rest of one, where only the reserve is left.
func (g *gauge) admit() error {
	g.measure(false)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total == 0 {
		return nil
	}
	g.decide()
	if !g.refusing {
		return nil
	}
	g.refused++
	return fmt.Errorf("store: %w", &dimse.Status{Code: dimse.StatusOutOfResources, Comment: g.reason()})
}

// used takes note of the log: slack is reserved for it and not written yet, grown came on top of what was reserved.
func (g *gauge) used(slack, grown int64) {
	g.slack.Store(slack)
	g.spent.Add(grown)
}

// reason fits into an Error Comment (LO, 64 characters). mu is held.
func (g *gauge) reason() string {
	return fmt.Sprintf("disk nearly full: %s left, %s kept for queued work", bytesText(max(0, g.usable())), bytesText(g.reserve))
}

func (g *gauge) space() Space {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total == 0 {
		return Space{}
	}
	sp := Space{
		Total: g.total, Free: max(0, g.free-g.spent.Load()+g.slack.Load()), Reserve: g.reserve,
		BytesPerSecond: g.rate(), FullIn: g.fullIn(), Refusing: g.refusing,
	}
	if g.refusing {
		sp.FullIn, sp.Reason = 0, g.reason()
	}
	return sp
}

// bytesText writes a size as file managers do.
func bytesText(n int64) string {
	switch {
	case n >= 1e8:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.0f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.0f kB", float64(n)/1e3)
}

// A trouble is something that does not work for a while. The log tells when it begins, when another reason joins, and when it
// is over, however many objects meet it.
type trouble struct {
	what   string
	logger *slog.Logger
	now    func() time.Time
	calm   time.Duration // it is over when it worked and for so long nothing failed

	active atomic.Bool
	mu     sync.Mutex // guards all below
	since  time.Time
	last   time.Time // failure
	worked bool      // since then
	failed int
	reason string
	told   map[string]bool
}

// fail notes an error and tells of it where it is the first of its kind.
func (t *trouble) fail(err error, keys ...any) {
	if t == nil {
		return // a log without a store
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if !t.active.Load() {
		t.active.Store(true)
		t.since, t.failed, t.told = now, 0, make(map[string]bool)
	}
	t.last, t.worked, t.reason = now, false, diskComment(err)
	t.failed++
	if t.told[t.reason] {
		t.logger.Debug("store: still: "+t.what, append([]any{"reason", t.reason, "error", err}, keys...)...)
		return
	}
	t.told[t.reason] = true
	t.logger.Error("store: "+t.what, append([]any{"reason", t.reason, "error", err}, keys...)...)
}

// ok notes that it worked.
func (t *trouble) ok() {
	if t != nil && t.active.Load() {
		t.mu.Lock()
		t.worked = true
		t.mu.Unlock()
		t.settle()
	}
}

// settle tells that it is over where it is.
func (t *trouble) settle() {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if !t.active.Load() || !t.worked || now.Sub(t.last) < t.calm {
		return
	}
	t.active.Store(false)
	t.logger.Warn("store: over: "+t.what, "reason", t.reason, "failures", t.failed, "lasted", t.last.Sub(t.since).Round(time.Second))
}

func (t *trouble) why() string {
	if !t.active.Load() {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reason
}

// watchSpace looks at the disk while nobody else does, for the forecast and the end of troubles.
func (s *Store) watchSpace() {
	defer close(s.watched)
	every := time.NewTicker(sampleEvery / 2)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-s.closing:
			return
		}
		s.gauge.measure(false)
		for _, t := range []*trouble{&s.logTrouble, &s.largeTrouble, &s.indexTrouble} {
			t.settle()
		}
	}
}

// recognise answers an object for which there is no room: nil when the store has it already, refusal otherwise, and then
// most often without reading it.
func (s *Store) recognise(ctx context.Context, meta dicom.FileMeta, body io.Reader, refusal error) error {
	uid := meta.MediaStorageSOPInstanceUID
	first, err := s.find(uid)
	if err != nil || first.entry.SOPClass != meta.MediaStorageSOPClassUID {
		return refusal
	}
	h := sha256.New()
	e := entry{SOPInstance: uid, Source: meta.SourceApplicationEntityTitle}
	c := chunkPool.Get().(*[chunkSize]byte)
	defer chunkPool.Put(c)
	for err == nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		var n int
		n, err = body.Read(c[:])
		e.Size += int64(n)
		h.Write(c[:n])
	}
	if err != io.EOF {
		return fmt.Errorf("store: the object broke off after %d bytes: %w", e.Size, err)
	}
	e.Digest = h.Sum(nil)
	unlock := s.uids.lock(uid)
	defer unlock()
	k, first, err := s.classify(&e)
	switch {
	case err != nil:
		return err
	case k != 0:
		return refusal
	}
	s.gauge.mu.Lock()
	s.gauge.refused-- // admit has counted it
	s.gauge.mu.Unlock()
	s.cameAgain(first, &e)
	return nil
}

// largeError takes note that the file of a large object could not be written, and says so to the peer.
func (s *Store) largeError(doing string, err error) error {
	if errors.Is(err, ErrClosed) {
		return err // no fault of the disk
	}
	s.largeTrouble.fail(err)
	return diskError(doing, err)
}

// discard removes the file of a large object that the log could not name. Where a restart may still find the record that
// names it, it stays until that cannot be any more.
func (s *Store) discard(f *ownFile, undo bool) {
	if !undo {
		f.discard()
		return
	}
	s.refusedMu.Lock()
	s.refused = append(s.refused, f)
	s.refusedMu.Unlock()
	if !s.log.unsealed.Load() { // meanwhile
		s.dropRefused()
	}
}

// dropRefused removes the files that were kept back.
func (s *Store) dropRefused() {
	s.refusedMu.Lock()
	defer s.refusedMu.Unlock()
	for _, f := range s.refused {
		f.discard()
	}
	s.refused = nil
}

// ownFile tells what is known of the large object file of this number. Overlays hold something only where the index could not be
// written.
func (s *Store) ownFile(n uint64) (fileState, error) {
	for _, o := range slices.Backward(s.overlays()) {
		if uid, ok := o.files[n]; ok {
			if uid == "" {
				return fileLeft, nil
			}
			return fileNamed, nil
		}
	}
	return s.index.ownFile(n)
}
