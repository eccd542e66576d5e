package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// A sealed segment of which much has left is written anew without that, into a file of the next generation: the same records in the
// same order, and what has left only as numbers in a tally. The file gets its name when all of it is durable. Then one transaction
// of the index says where everything is now, and which generation counts; from then on the older file is superfluous. Whatever
// a kill leaves behind, one of the two is whole and the index names it. Without an index the newest counts, as it says the same.
//
// What is left of a segment is mostly small, and over years these would be many. So neighbours that were compacted are joined in the
// same way: into the file of the last of them, whose header says that the segment before the first comes before it. By that the files of
// the others are known to be superfluous, with an index and without.

// deadShare: compaction pays where the half of a segment is dead.
const deadShare = 2

// joinMost neighbours are joined at a time, so that it ends.
const joinMost = 16

// runCompact gives space back, a while after something left.
func (s *Store) runCompact() {
	defer close(s.compacted)
	if s.every < 0 {
		return
	}
	for {
		select { // also at start: what left before it may not be compacted yet
		case <-time.After(s.every):
		case <-s.closing:
			return
		}
		if err := s.compact(context.Background(), s.pace); err != nil && !errors.Is(err, ErrClosed) {
			s.logger.Warn("store: the log cannot be compacted; everything stays as it is", "error", err)
			select {
			case <-time.After(10 * s.every):
			case <-s.closing:
				return
			}
			wake(s.compactable)
		}
		select {
		case <-s.compactable:
		case <-s.closing:
			return
		}
	}
}

// Compact gives back the space of what has left, now and without regard to anything else that goes on; otherwise it comes
// back by itself, slowly.
func (s *Store) Compact(ctx context.Context) error {
	return s.compact(ctx, func(ctx context.Context, _ int) error { return ctx.Err() })
}

// pace bounds what compaction takes from the disk: little while something is received, and never all of it.
func (s *Store) pace(ctx context.Context, written int) error {
	const calm, busy = 64 << 20, 8 << 20 // bytes a second
	rate := calm
	if time.Since(time.Unix(0, s.log.latest.Load())) < time.Second {
		rate = busy
	}
	select {
	case <-time.After(time.Duration(written) * time.Second / time.Duration(rate)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

type paceFunc func(ctx context.Context, written int) error

func (s *Store) compact(ctx context.Context, pace paceFunc) error {
	s.compacting.Lock()
	defer s.compacting.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-s.closing:
			cancel(ErrClosed)
		case <-ctx.Done():
		}
	}()
	select {
	case <-s.closing:
		return ErrClosed
	default:
	}
	if err := s.flushIndex(); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	runs, failed := s.halfDead()
	failed = errors.Join(failed, s.compactRuns(ctx, runs, pace))
	if ctx.Err() == nil {
		runs, err := s.neighbours()
		failed = errors.Join(failed, err, s.compactRuns(ctx, runs, pace))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return failed
}

// compactRuns goes on with the others where one fails.
func (s *Store) compactRuns(ctx context.Context, runs [][]segment, pace paceFunc) (failed error) {
	for _, run := range runs {
		err := s.compactRun(ctx, run, pace)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", segmentName(run[len(run)-1].id()), err))
		}
	}
	return failed
}

// sealed lists the segments of which something left or that were compacted, that the index knows whole and that nobody appends to.
// at is where each stands among all.
func (s *Store) sealed() (all []segment, at []int, sums map[uint64]*segmentSum, err error) {
	if sums, err = s.segmentSums(); err != nil {
		return nil, nil, nil, err
	}
	if all, err = s.log.list(); err != nil {
		return nil, nil, nil, err
	}
	s.flushing.Lock()
	upTo := segmentNumber(s.index.checkpoint.Segment)
	s.flushing.Unlock()
	for i := range all {
		seg := &all[i]
		if sum := sums[seg.num]; sum != nil && seg.num < upTo {
			if seg.generation = sum.Generation; !s.isDamaged(*seg) {
				at = append(at, i)
			}
		}
	}
	return all, at, sums, nil
}

// halfDead finds the segments that are worth it alone.
func (s *Store) halfDead() (runs [][]segment, failed error) {
	all, at, sums, err := s.sealed()
	if err != nil {
		return nil, err
	}
	for _, i := range at {
		seg := all[i]
		dead := sums[seg.num].Dead
		if dead == 0 {
			continue
		}
		if seg.end, err = s.log.sealedEnd(seg, all[i+1:]); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", segmentName(seg.id()), err))
		} else if dead*deadShare >= seg.end {
			runs = append(runs, []segment{seg})
		}
	}
	// What needs the least room gives room to the others.
	need := func(run []segment) int64 { return run[0].end - sums[run[0].num].Dead }
	slices.SortStableFunc(runs, func(a, b []segment) int { return cmp.Compare(need(a), need(b)) })
	return runs, failed
}

// neighbours finds the rests that are to be joined. One that is small yet is rewritten again when the next has become small.
func (s *Store) neighbours() (runs [][]segment, err error) {
	all, at, _, err := s.sealed()
	if err != nil {
		return nil, err
	}
	var run []segment
	last := -1
	end := func() {
		if len(run) > 1 {
			runs = append(runs, run)
		}
		run = nil
	}
	for _, i := range at {
		seg := all[i]
		if i != last+1 || len(run) == joinMost {
			end()
		}
		last = i
		if seg.generation > 0 {
			if seg.end, err = s.log.sealedEnd(seg, nil); err != nil {
				return nil, err
			}
			if seg.end <= s.small {
				run = append(run, seg)
				continue
			}
		}
		end()
	}
	end()
	return runs, nil
}

// isDamaged tells of damage in a segment: then it stays as it is, as evidence.
func (s *Store) isDamaged(seg segment) bool {
	name := filepath.Join(logDir, segmentName(seg.id()))
	return slices.ContainsFunc(s.Damage(), func(d Damage) bool { return d.File == name })
}

// sealedEnd reads where the valid records of a segment end. later are the segments behind it, of which one says that of a segment
// that was not compacted.
func (l *segmentLog) sealedEnd(seg segment, later []segment) (int64, error) {
	if seg.generation > 0 {
		h, _, err := l.readSegmentHeader(seg.id())
		return int64(h.End), err
	}
	for _, s := range later {
		h, _, err := l.readSegmentHeader(s.id())
		if err != nil {
			return 0, err
		}
		if h.Prev == seg.num {
			return int64(h.PrevEnd), nil
		}
	}
	return 0, fmt.Errorf("nothing says where %s ends", segmentName(seg.id()))
}

// chooseGenerations leaves one file of each segment: the one that the index names, or the newest where the index begins anew.
func (s *Store) chooseGenerations() error {
	segs, _, err := s.log.segments()
	if err != nil {
		return err
	}
	var joined, older []string
	for _, id := range s.log.joined {
		joined = append(joined, filepath.Join(s.log.dir, segmentName(id)))
	}
	for _, seg := range segs {
		if s.index.rebuilding && seg.generation > 0 {
			sum := s.segment(seg.num)
			sum.Generation, sum.Stamp = seg.generation, seg.stamp
		}
		for _, g := range seg.generations {
			if g != seg.generation {
				older = append(older, filepath.Join(s.log.dir, segmentName(segmentID(seg.num, g))))
			}
		}
	}
	if err := s.removeJoined(joined, older); err != nil {
		return err
	}
	s.log.chosen, s.log.joined = nil, nil // one is left
	names, err := os.ReadDir(s.log.dir)
	if err != nil {
		return err
	}
	for _, de := range names {
		if strings.HasSuffix(de.Name(), ".seg.tmp") {
			if err := s.disk.remove(filepath.Join(s.log.dir, de.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// A source is a segment that is rewritten.
type source struct {
	segment
	file   *os.File
	before segmentSum
}

// A planned record is one that goes into the new file.
type planned struct {
	from *source
	off  int64 // of the old record
	old  recordHeader
	text []byte // nil: all is as it was
	data []span // of the instances of a step that are kept, in the old record's data
}

func (n *planned) dataAt(off int64) location {
	return location{n.from.id(), n.off + recordHeaderSize + int64(n.old.Text) + off}
}

type span struct{ from, size int64 }

// A plan says what becomes of a run of segments.
type plan struct {
	sources   []*source
	records   []planned
	size      int64 // of the new file, about
	tally     dayTally
	instances []string        // of which something is kept
	keys      map[string]bool // study, key
	studies   []string        // of leaves
}

// settled is what is to be known of the new file, where value is what is known of a source by now: without what was counted when the plan was made.
func (p *plan) settled(next segment, value func(number uint64) (*segmentSum, error)) (*segmentSum, error) {
	sum := &segmentSum{Generation: next.generation, Stamp: next.stamp, Days: make(dayTally)}
	for _, from := range p.sources {
		v, err := value(from.num)
		if err != nil {
			return nil, err
		}
		sum.Dead += max(0, v.Dead-from.before.Dead)
		sum.Days.add(v.Days, 1)
		sum.Days.add(from.before.Days, -1)
	}
	return sum, nil
}

// compactRun writes one segment, or several neighbours, anew: into the file of the last of them.
func (s *Store) compactRun(ctx context.Context, run []segment, pace paceFunc) error {
	p := &plan{size: segmentHeaderSize, tally: make(dayTally), keys: make(map[string]bool)}
	defer func() {
		for _, from := range p.sources {
			_ = from.file.Close()
		}
	}()
	var bytes int64
	for _, seg := range run {
		f, err := s.disk.open(filepath.Join(s.log.dir, segmentName(seg.id())), os.O_RDONLY, 0)
		if err != nil {
			return err
		}
		p.sources = append(p.sources, &source{segment: seg, file: f})
		bytes += seg.end
		// Once for the cache: what reads it again in a transaction of the index does not keep that open for as long as the disk needs.
		err = skim(f, segmentHeaderSize, seg.end, s.log.marker, true, func(_ int64, _ recordHeader, read func() ([]byte, error)) error {
			_, err := read()
			return errors.Join(err, ctx.Err())
		})
		if err != nil {
			return fmt.Errorf("%s: %w", segmentName(seg.id()), err)
		}
	}
	if err := s.plan(p); err != nil {
		return err
	}
	// What is queued needs room too. On a full disk this is the reserve, and a segment that is all dead is still compacted.
	if _, free, err := s.disk.space(s.dir); err == nil && free < 2*p.size {
		return fmt.Errorf("%d kB free are not enough for a copy of %d kB beside what is queued", free>>10, p.size>>10)
	}
	next := run[len(run)-1]
	next.generation, next.stamp = next.generation+1, newMarker()
	if next.generation == 0 {
		return errors.New("rewritten too often")
	}
	moved, err := s.rewrite(ctx, next, p, pace)
	if err != nil {
		return err
	}
	durable, err := s.switchTo(next, p, moved)
	if err != nil {
		if !syncFailed(err) { // else the next start may find it in the index
			_ = s.disk.remove(filepath.Join(s.log.dir, segmentName(next.id())))
		}
		return err
	}
	if !durable {
		return errors.New("what was rewritten stays beside its copy up to the next start, as the index could not be synced")
	}
	var old []string
	for _, from := range p.sources {
		old = append(old, from.file.Name())
	}
	if err := s.removeJoined(old[:len(old)-1], old[len(old)-1:]); err != nil {
		s.logger.Warn("store: a segment that was compacted cannot be removed yet; the next start does it", "error", err)
	}
	s.logger.Info("store: log compacted", "file", segmentName(next.id()), "segments", len(run), "bytes_before", bytes, "records", len(p.records))
	return nil
}

// removeJoined removes the older files of segments that were rewritten, and then those of segments that were joined with them, in this
// order also after a power cut: an older file without those before it would look as if they were lost, to an index that
// does not know of the newer.
func (s *Store) removeJoined(joined, older []string) error {
	for _, name := range older {
		if err := s.disk.remove(name); err != nil {
			return err
		}
	}
	if len(joined) == 0 {
		return nil
	}
	if len(older) > 0 {
		if err := s.disk.syncDir(s.log.dir); err != nil {
			return err
		}
	}
	for _, name := range joined {
		if err := s.disk.remove(name); err != nil {
			return err
		}
	}
	return nil
}

// plan reads all headers and texts of the segments and decides what is kept, as the index has it at one moment.
func (s *Store) plan(p *plan) error {
	tx, err := s.index.begin()
	if err != nil {
		return err
	}
	return s.index.read(tx, func(tx *bolt.Tx) error {
		for _, from := range p.sources {
			if _, err := getJSON(tx, bucketSegments, fileKey(from.num), &from.before); err != nil {
				return err
			}
			p.tally.add(from.before.Days, 1)
			err := skim(from.file, segmentHeaderSize, from.end, s.log.marker, true, func(off int64, h recordHeader, read func() ([]byte, error)) error {
				text, err := read()
				if err != nil {
					return err
				}
				r, err := decodeText(h.Kind, text)
				if err != nil {
					return fmt.Errorf("%s, offset %d: %w", segmentName(from.id()), off, err)
				}
				n := planned{from: from, off: off, old: h}
				r.at = n.dataAt(0)
				keep, err := p.decide(tx, &r, &n)
				if keep && err == nil {
					p.records = append(p.records, n)
					p.size += h.size()
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *plan) decide(tx *bolt.Tx, r *record, n *planned) (keep bool, err error) {
	switch r.kind {
	case kindInstance, kindConflict:
		keep, err = isAt(tx, r.entry, r.at)
		if keep {
			p.instances = append(p.instances, r.entry.SOPInstance)
		}
	case kindStep:
		keep, err = p.decideStep(tx, r, n)
	case kindLeave:
		keep = true
		if r.leave.Study != "" {
			p.studies = append(p.studies, r.leave.Study)
		}
	case kindClose:
		for i := range r.tally.Days {
			p.tally.day(r.tally.Days[i].Date).add(&r.tally.Days[i], 1)
		}
	}
	return keep, err
}

// isAt tells whether the instance or the evidence that an entry names is the one at this place.
func isAt(tx *bolt.Tx, e *entry, at location) (bool, error) {
	l, err := getLocated(tx, e.SOPInstance)
	if err != nil && !errors.Is(err, ErrNotFound) || err == nil && l.at == at {
		return err == nil, err
	}
	l, err = getConflict(tx, e.SOPInstance, e.Digest)
	return l != nil && l.at == at, err
}

func getConflict(tx *bolt.Tx, uid string, digest []byte) (*located, error) {
	key := join(uid, string(digest))
	v := tx.Bucket(bucketConflicts).Get(key)
	if v == nil {
		return nil, nil
	}
	b, err := unseal(key, v)
	if err != nil {
		return nil, err
	}
	return decodeLocated(b)
}

// errTangled is about a step that an older radnode wrote and that is about jobs that are forgotten and about others at once: whether it was
// refused cannot be told any more.
var errTangled = errors.New("a record cannot be divided")

// decideStep keeps of a step what has not left.
func (p *plan) decideStep(tx *bolt.Tx, r *record, n *planned) (keep bool, err error) {
	st := *r.step
	changed := false

	all := st.Instances
	st.Instances = nil
	var data []span
	var start int64
	for _, e := range all {
		from := span{e.Start, e.Size}
		there, err := isAt(tx, &e, location{r.at.Segment, r.at.Offset + e.Start})
		if err != nil {
			return false, err
		}
		if !there {
			changed = true
			continue
		}
		p.instances = append(p.instances, e.SOPInstance)
		e.Start = start
		start += e.Size
		data = append(data, from)
		st.Instances = append(st.Instances, e)
	}

	jobs := st.Jobs
	st.Jobs = nil
	for i, j := range jobs {
		born, study, err := bornAt(tx, j.Key)
		if err != nil {
			return false, err
		}
		if born != r.at || study != j.Study {
			changed = true
			continue
		}
		p.keys[string(join(j.Study, j.Key))] = true
		if j.Seq == 0 { // it follows from the place, which is another one from now on
			j.Seq = r.step.sequence(i, r.at)
			changed = true
		}
		st.Jobs = append(st.Jobs, j)
	}

	states := st.States
	st.States = nil
	for _, x := range states {
		left, err := getLocation(tx, bucketLeft, []byte(x.Study))
		if err != nil {
			return false, err
		}
		if r.at.less(left) {
			changed = true
			continue
		}
		st.States = append(st.States, x)
	}

	// alive tells whether what is said of a key is about the job that has it now.
	gone := false
	alive := func(key string) bool {
		born, _, e := bornAt(tx, key)
		if e != nil {
			err = e
		}
		if ok := born != (location{}) && born.less(r.at); ok {
			return true
		}
		gone = true
		changed = true
		return false
	}
	st.Done = slices.DeleteFunc(slices.Clone(st.Done), func(key string) bool { return !alive(key) })
	if st.Retry != nil && !alive(st.Retry.Key) {
		st.Retry = nil
	}
	if st.Park != nil && !alive(st.Park.Key) {
		st.Park = nil
	}
	if st.Begin != "" && !alive(st.Begin) {
		st.Begin = ""
	}
	if st.GiveBack != "" && !alive(st.GiveBack) {
		st.GiveBack = ""
	}
	st.Release = slices.DeleteFunc(slices.Clone(st.Release), func(uid string) bool {
		if tx.Bucket(bucketInstances).Get([]byte(uid)) != nil {
			return false
		}
		changed = true
		return true
	})
	if err != nil {
		return false, err
	}
	if len(st.Instances)+len(st.Jobs)+len(st.States)+len(st.Done)+len(st.Release) == 0 &&
		st.Retry == nil && st.Park == nil && st.Begin+st.GiveBack == "" {
		return false, nil
	}
	if gone && !st.Decided {
		return false, errTangled
	}
	if n.data = data; changed {
		n.text, err = json.Marshal(&st)
	}
	return true, err
}

// bornAt returns where the record is that made the job which has this key now, and its study; nothing when none has.
func bornAt(tx *bolt.Tx, key string) (at location, study string, err error) {
	d, err := getDone(tx, key)
	if err != nil {
		return location{}, "", err
	}
	if d != nil {
		study = d.study
	} else {
		var j struct{ Study string }
		found, err := getJSON(tx, bucketJobs, []byte(key), &j)
		if err != nil || !found {
			return location{}, "", err
		}
		study = j.Study
	}
	at, err = getLocation(tx, bucketKeys, join(study, key))
	return at, study, err
}

func getLocation(tx *bolt.Tx, bucket, key []byte) (location, error) {
	v := tx.Bucket(bucket).Get(key)
	if v == nil {
		return location{}, nil
	}
	b, err := unseal(key, v)
	if err != nil {
		return location{}, err
	}
	return decodeLocation(b)
}

// rewrite writes the new file, makes it durable and reads all of it back. It returns where the data of each record, and of each
// instance in a step, are now.
func (s *Store) rewrite(ctx context.Context, next segment, p *plan, pace paceFunc) (moved map[location]int64, err error) {
	h, _, err := s.log.readSegmentHeader(p.sources[0].id())
	if err != nil {
		return nil, err
	}
	h.Number = next.num
	name := filepath.Join(s.log.dir, segmentName(next.id()))
	f, err := s.disk.open(name+".tmp", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = f.Close()
		if err != nil {
			_ = s.disk.remove(name + ".tmp")
		}
	}()
	w := &copier{s: s, ctx: ctx, f: f, off: segmentHeaderSize, pace: pace, buf: make([]byte, 1<<20), moved: make(map[location]int64)}
	for i := range p.records {
		if err := w.record(&p.records[i]); err != nil {
			return nil, err
		}
	}
	if len(p.tally) > 0 {
		text, err := json.Marshal(&tally{Days: p.tally.list()})
		if err != nil {
			return nil, err
		}
		t := newWrite(record{kind: kindClose, text: text}, nil)
		if err := w.write(append(t.header(0).append(nil, s.log.marker), text...)); err != nil {
			return nil, err
		}
	}
	h.Generation, h.Stamp, h.End = next.generation, next.stamp, uint64(w.off)
	if _, err := s.disk.writeAt(f, h.encode(), 0); err != nil {
		return nil, err
	}
	if err := s.disk.sync(f); err != nil {
		return nil, err
	}
	s.disk.forget(f)
	records := 0
	end, gaps, err := scan(pacedReader{ctx, f, pace}, segmentHeaderSize, w.off, s.log.marker, func(int64, recordHeader, []byte) error {
		records++
		return nil
	})
	if want := len(p.records) + min(len(p.tally), 1); err == nil && (records != want || len(gaps) > 0 || end != w.off) {
		err = fmt.Errorf("the new file has %d records where %d were written", records, want)
	}
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil { // Windows renames no file that is open
		return nil, err
	}
	if err := s.disk.rename(name+".tmp", name); err != nil {
		return nil, err
	}
	if err := s.disk.syncDir(s.log.dir); err != nil {
		_ = s.disk.remove(name)
		return nil, err
	}
	return w.moved, nil
}

type pacedReader struct {
	ctx  context.Context
	f    io.ReaderAt
	pace paceFunc
}

func (r pacedReader) ReadAt(b []byte, off int64) (int, error) {
	if len(b) > recordHeaderSize {
		if err := r.pace(r.ctx, len(b)); err != nil {
			return 0, err
		}
	}
	return r.f.ReadAt(b, off)
}

// A copier writes records into the new file, and verifies each as it reads it.
type copier struct {
	s     *Store
	ctx   context.Context
	f     *os.File
	off   int64
	pace  paceFunc
	buf   []byte
	moved map[location]int64

	begun    beginner
	unsynced int
}

func (c *copier) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	n, err := c.s.disk.writeAt(c.f, b, c.off)
	if err != nil {
		return err
	}
	c.off += int64(n)
	c.begun.wrote(&c.s.disk, c.f, c.off)
	if c.unsynced += n; c.unsynced > syncEvery { // so that no sync of the log has to wait for a whole file
		c.unsynced = 0
		if err := c.s.disk.sync(c.f); err != nil {
			return err
		}
	}
	return c.pace(c.ctx, n)
}

func (c *copier) record(n *planned) error {
	h, data := n.old, n.data
	text := n.text
	whole := text == nil
	if whole {
		data = []span{{0, int64(n.old.Data)}}
		text = make([]byte, n.old.Text)
		if err := readFull(n.from.file, text, n.off+recordHeaderSize); err != nil {
			return err
		}
	} else {
		// The checksum covers the data too, so they are read twice.
		if err := c.verify(n); err != nil {
			return err
		}
		h.Text, h.Data = uint32(len(text)), 0
		sum := crc32.Update(0, castagnoli, text)
		for _, d := range data {
			h.Data += uint64(d.size)
			err := c.each(n.from.file, n.dataAt(d.from).Offset, d.size, func(b []byte) error {
				sum = crc32.Update(sum, castagnoli, b)
				return nil
			})
			if err != nil {
				return err
			}
		}
		h.Payload = sum
	}
	h.Synced = 0
	if err := c.write(append(h.append(nil, c.s.log.marker), text...)); err != nil {
		return err
	}
	c.moved[n.dataAt(0)] = c.off
	if whole {
		for _, d := range n.data {
			c.moved[n.dataAt(d.from)] = c.off + d.from
		}
	}
	sum := crc32.Update(0, castagnoli, text)
	for _, d := range data {
		if !whole {
			c.moved[n.dataAt(d.from)] = c.off
		}
		err := c.each(n.from.file, n.dataAt(d.from).Offset, d.size, func(b []byte) error {
			sum = crc32.Update(sum, castagnoli, b)
			return c.write(b)
		})
		if err != nil {
			return err
		}
	}
	if sum != h.Payload {
		return fmt.Errorf("%s, offset %d: %w", segmentName(n.from.id()), n.off, errPayload)
	}
	return nil
}

// verify reads a record whose text is not copied.
func (c *copier) verify(n *planned) error {
	sum := uint32(0)
	err := c.each(n.from.file, n.off+recordHeaderSize, int64(n.old.Text)+int64(n.old.Data), func(b []byte) error {
		sum = crc32.Update(sum, castagnoli, b)
		return nil
	})
	if err == nil && sum != n.old.Payload {
		err = fmt.Errorf("%s, offset %d: %w", segmentName(n.from.id()), n.off, errPayload)
	}
	return err
}

func (c *copier) each(f io.ReaderAt, at, left int64, fn func(b []byte) error) error {
	for left > 0 {
		b := c.buf[:min(left, int64(len(c.buf)))]
		if err := readFull(f, b, at); err != nil {
			return err
		}
		if err := fn(b); err != nil {
			return err
		}
		at, left = at+int64(len(b)), left-int64(len(b))
	}
	return nil
}

// switchTo makes the new file the one that counts. Where the index could not be synced and yet shows it, durable is false: a power
// cut may bring back either.
func (s *Store) switchTo(next segment, p *plan, moved map[location]int64) (durable bool, err error) {
	to := func(l location) (location, bool) {
		off, ok := moved[l]
		if !ok {
			return l, false
		}
		return location{next.id(), off}, true
	}

	s.flushing.Lock() // so that no older place is written over a newer
	defer s.flushing.Unlock()
	if err := s.flushHeld(); err != nil {
		return false, err
	}
	inIndex := make(map[uint64]*segmentSum) // before the transaction
	if err := s.index.move(next, p, to, inIndex); err != nil {
		if sum, e := s.index.segment(next.num); e != nil || sum.Generation != next.generation || sum.Stamp != next.stamp {
			return false, err
		}
	} else {
		durable = true
	}

	// What changed since, or was taken from the index before the transaction.
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.active
	again := func(l *located) *located {
		if l != nil {
			if at, ok := to(l.at); ok {
				return &located{l.entry, at}
			}
		}
		return l
	}
	for uid, l := range o.instances {
		o.instances[uid] = again(l)
	}
	for _, m := range []map[string]map[string]*located{o.studies, o.conflicts} {
		for _, list := range m {
			for uid, l := range list {
				list[uid] = again(l)
			}
		}
	}
	for _, list := range o.keys {
		for key, at := range list {
			if at != nil {
				if l, ok := to(*at); ok {
					list[key] = &l
				}
			}
		}
	}
	for study, at := range o.left {
		if l, ok := to(at); ok {
			o.left[study] = l
		}
	}
	if slices.ContainsFunc(p.sources, func(from *source) bool { return o.segments[from.num] != nil }) {
		sum, _ := p.settled(next, func(number uint64) (*segmentSum, error) { return cmp.Or(o.segments[number], inIndex[number]), nil })
		for _, from := range p.sources {
			delete(o.segments, from.num)
		}
		o.segments[next.num] = sum
	}
	return durable, nil
}

// segment returns what the index has of a segment.
func (ix *index) segment(number uint64) (sum segmentSum, err error) {
	tx, err := ix.begin()
	if err != nil {
		return sum, err
	}
	err = ix.read(tx, func(tx *bolt.Tx) error {
		_, err := getJSON(tx, bucketSegments, fileKey(number), &sum)
		return err
	})
	return sum, err
}

// move is the transaction that says where the records of the segments are now. It puts into sums what it had of these.
func (ix *index) move(next segment, p *plan, to func(location) (location, bool), sums map[uint64]*segmentSum) (err error) {
	defer func() { ix.doubt(err) }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer catchDamage(&err)
	return ix.db.Update(func(tx *bolt.Tx) error {
		w := putter{tx: tx}
		to := func(l location) (location, bool) {
			at, ok := to(l)
			if !ok && w.err == nil && slices.ContainsFunc(p.sources, func(from *source) bool { return from.id() == l.Segment }) {
				w.err = fmt.Errorf("%s, offset %d is in use and was not copied", segmentName(l.Segment), l.Offset)
			}
			return at, ok
		}
		for _, uid := range p.instances {
			l, err := getLocated(tx, uid)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			if err == nil {
				if at, ok := to(l.at); ok {
					w.located(bucketInstances, []byte(uid), &located{l.entry, at})
				}
			}
			var evidence []*located
			if err := eachBelow(tx, bucketConflicts, uid, func(_ string, v []byte) error {
				c, err := decodeLocated(v)
				evidence = append(evidence, c)
				return err
			}); err != nil {
				return err
			}
			for _, c := range evidence {
				if at, ok := to(c.at); ok {
					w.located(bucketConflicts, join(uid, string(c.entry.Digest)), &located{c.entry, at})
				}
			}
		}
		place := func(bucket, key []byte) error {
			l, err := getLocation(tx, bucket, key)
			if at, ok := to(l); ok && err == nil {
				w.put(bucket, key, at.append(nil))
			}
			return err
		}
		for key := range p.keys {
			if err := place(bucketKeys, []byte(key)); err != nil {
				return err
			}
		}
		for _, study := range p.studies {
			if err := place(bucketLeft, []byte(study)); err != nil {
				return err
			}
		}
		sum, err := p.settled(next, func(number uint64) (*segmentSum, error) {
			sums[number] = new(segmentSum)
			_, err := getJSON(tx, bucketSegments, fileKey(number), sums[number])
			return sums[number], err
		})
		if err != nil {
			return err
		}
		for _, from := range p.sources {
			w.delete(bucketSegments, fileKey(from.num))
		}
		w.json(bucketSegments, fileKey(next.num), sum)
		return w.err
	})
}
