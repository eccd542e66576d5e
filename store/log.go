package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// groupLimit bounds what one fdatasync has to carry, so that nobody waits for a whole backlog.
const groupLimit = 64 << 20

// A location is where the data of a record are. Segment is the number of the segment, and above it the generation of its
// file, so that a reader who looked it up before the segment was rewritten does not read the new file in the old places.
type location struct {
	Segment uint64
	Offset  int64
}

const generationShift = 48

// segmentID is what a location names a segment with.
func segmentID(number uint64, generation uint16) uint64 {
	return number | uint64(generation)<<generationShift
}

func segmentNumber(id uint64) uint64 { return id & (1<<generationShift - 1) }

// less is the order of the log; within a segment it means something only among locations of one generation.
func (l location) less(o location) bool {
	a, b := segmentNumber(l.Segment), segmentNumber(o.Segment)
	return a < b || a == b && l.Offset < o.Offset
}

// A write is a record on its way to the disk.
type write struct {
	rec  record
	data [][]byte
	crc  uint32 // of text and data
	err  error
	undo bool          // of one that failed: a restart may find it all the same, until the segment is sealed
	done chan struct{} // closed when err is final
}

// newWrite makes a record of text and data whose own checksum is dataCRC.
func newWrite(r record, data [][]byte) *write {
	w := &write{rec: r, data: data, done: make(chan struct{})}
	w.crc = crc32.Update(0, castagnoli, r.text)
	for _, b := range data {
		w.crc = crc32.Update(w.crc, castagnoli, b)
	}
	return w
}

func (w *write) header(synced int64) recordHeader {
	h := recordHeader{Kind: w.rec.kind, Text: uint32(len(w.rec.text)), Synced: uint64(synced), Payload: w.crc}
	for _, b := range w.data {
		h.Data += uint64(len(b))
	}
	return h
}

// A segmentLog is the append-only truth: numbered files of records in dir. Its fields belong to the committer, except
// queue and closed.
type segmentLog struct {
	disk    disk
	dir     string
	logger  *slog.Logger
	marker  uint64
	maxSize int64 // a segment that has reached it is followed by a new one

	cur     *os.File // nil: the next group begins a new segment
	num     uint64   // of cur, or of the last one
	end     int64    // durable and valid up to here in segment num
	lastNum uint64   // highest number of which a file may exist
	out     appender

	room    func() int64             // how much of the disk may be reserved ahead; nil: any amount
	used    func(slack, grown int64) // told how much is reserved and not written yet, and taken beyond that; nil: nobody wants to know
	has     int64                    // bytes of the disk that cur has
	trouble *trouble
	begun   func() // called when a new segment has sealed the one before; nil: nobody wants to know

	unsealed atomic.Bool // what was refused last may still be found by a restart

	sick     int       // segments that failed in a row
	sickness error     // of the last
	until    time.Time // and so nothing is tried before

	prepared int64         // so many bytes behind end are to be zeros that were synced; 0: none
	quiet    time.Duration // after so long without a group they are written
	zeroed   int64         // cur holds synced zeros from end up to here

	chosen map[uint64]uint16 // generations that the index names; nil: the newest count
	joined []uint64          // files whose records are in that of a later segment too

	decide func(group []*write) (now, rest []*write) // what may be written together, in their order; nil: all
	apply  func(group []*write, end location)        // makes a durable group visible and sets the error of each step

	dirty  atomic.Bool  // something was appended since start
	latest atomic.Int64 // when the last group was, in Unix nanoseconds

	mu     sync.Mutex // guards queue and closed
	queue  []*write
	closed bool
	wake   chan struct{} // capacity 1: there is something in queue
	ended  chan struct{} // closed when the committer has returned
}

// numberDigits of a name are the number of the segment; those before it are its generation. A program that does not know of
// generations takes the whole for the number, finds a header that it does not know, and leaves the folder alone.
const (
	numberDigits = 12
	numberLimit  = 1_000_000_000_000
)

func segmentName(id uint64) string {
	number, generation := segmentNumber(id), id>>generationShift
	return fmt.Sprintf("%0*d.seg", numberDigits, generation*numberLimit+number)
}

func parseSegmentName(name string) (number uint64, generation uint16, ok bool) {
	base, ok := strings.CutSuffix(name, ".seg")
	n, err := strconv.ParseUint(base, 10, 64)
	if !ok || err != nil || n/numberLimit > 0xFFFF {
		return 0, 0, false
	}
	return n % numberLimit, uint16(n / numberLimit), true
}

// submit hands w to the committer and waits until it is durable, or is not.
func (l *segmentLog) submit(w *write) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return ErrClosed
	}
	l.queue = append(l.queue, w)
	l.mu.Unlock()
	wake(l.wake)
	<-w.done
	return w.err
}

// run is the one committer: it takes all that waits, appends it, and makes it durable with one fdatasync.
func (l *segmentLog) run() {
	defer close(l.ended)
	idle := time.NewTimer(0)
	defer idle.Stop()
	for {
		group, closed := l.next()
		if len(group) > 0 {
			for len(group) > 0 {
				now, rest := group, []*write(nil)
				if l.decide != nil {
					now, rest = l.decide(group)
				}
				if group = rest; len(now) > 0 {
					l.latest.Store(time.Now().UnixNano())
					l.commit(now)
				}
			}
			idle.Reset(l.quiet)
			continue
		}
		if closed {
			return
		}
		select {
		case <-l.wake:
		case <-idle.C:
			switch {
			case l.cur == nil: // the seal should be durable as early as can be, and somebody has to find out that the disk is back
				if l.ready() != nil {
					idle.Reset(beginAgain)
				}
			case l.prepare():
				idle.Reset(0)
			}
		}
	}
}

func (l *segmentLog) next() (group []*write, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n, size int64
	for _, w := range l.queue {
		if size > groupLimit {
			break
		}
		size += w.header(0).size()
		n++
	}
	group = slices.Clone(l.queue[:n])
	l.queue = slices.Delete(l.queue, 0, int(n))
	return group, l.closed
}

// written tells whether anything was appended since the last closing record. It is asked when nobody writes any more.
func (l *segmentLog) written() bool { return l.dirty.Load() }

// stop lets the committer finish what is queued and return.
func (l *segmentLog) stop() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	wake(l.wake)
	<-l.ended
}

func (l *segmentLog) commit(group []*write) {
	err := l.write(group)
	if err != nil {
		for _, w := range group {
			w.err, w.undo = err, l.unsealed.Load()
		}
	} else {
		l.apply(group, location{l.num, l.end})
	}
	for _, w := range group {
		close(w.done)
	}
}

// write appends the group and makes it durable. After an error nothing of the group counts.
func (l *segmentLog) write(group []*write) error {
	if l.cur != nil && l.end >= l.maxSize {
		l.retire()
	}
	if l.cur == nil {
		if err := l.ready(); err != nil {
			return err
		}
	}
	off := l.end
	l.out.start(&l.disk, l.cur, off)
	for _, w := range group {
		h := w.header(l.end)
		w.rec.at = location{l.num, off + recordHeaderSize + int64(h.Text)}
		l.out.write(h.append(make([]byte, 0, recordHeaderSize), l.marker))
		l.out.write(w.rec.text)
		for _, b := range w.data {
			l.out.write(b)
		}
		off += h.size()
	}
	if err := l.out.flush(); err != nil {
		l.trouble.fail(err, "file", l.cur.Name(), "offset", l.end)
		// Nothing was synced, so cutting the file back undoes the group; where even that fails, the segment is over.
		l.zeroed = 0
		if cut := l.disk.truncate(l.cur, l.end); cut != nil {
			l.poison(cut)
		}
		return diskError("append to the log", err)
	}
	if err := l.disk.sync(l.cur); err != nil {
		l.trouble.fail(err, "file", l.cur.Name(), "offset", l.end)
		l.poison(err)
		return diskError("sync the log", err)
	}
	l.end, l.sick = off, 0
	l.dirty.Store(true)
	l.tellUse()
	l.trouble.ok()
	return nil
}

// beginAgain is how long after a failure a segment is tried again when nobody asks for one.
const beginAgain = 10 * time.Second

// A segment whose sync fails stays behind, so a disk that fails again and again is left in peace for ever longer.
const (
	sickLimit = 8 // segments that fail in a row until then
	sickMost  = time.Minute
)

// ready begins a segment where none is open.
func (l *segmentLog) ready() error {
	if time.Now().Before(l.until) {
		return diskError("wait for the disk", fmt.Errorf("it failed %d times in a row, the last: %w", l.sick, l.sickness))
	}
	if err := l.begin(); err != nil {
		l.trouble.fail(err)
		return diskError("begin a segment", err)
	}
	return nil
}

// failedSync counts the segments that fail in a row.
func (l *segmentLog) failedSync(err error) {
	l.sick++
	l.sickness = err
	if n := l.sick - sickLimit; n >= 0 {
		l.until = time.Now().Add(min(time.Second<<min(n, 10), sickMost))
	}
}

// tellUse tells how much of the segment is reserved and not written yet.
func (l *segmentLog) tellUse() {
	if l.used == nil {
		return
	}
	if l.cur == nil {
		l.used(0, 0)
		return
	}
	grown := max(0, l.end-l.has)
	l.has += grown
	l.used(l.has-l.end, grown)
}

// poison gives a segment up at its last durable byte. After a failed fsync the kernel may have dropped the pages and
// marked them clean, so a second fsync that succeeds would prove nothing.
func (l *segmentLog) poison(err error) {
	level := slog.LevelError
	if l.sick > 0 {
		level = slog.LevelDebug // the first of a row tells of it
	}
	l.logger.Log(context.Background(), level, "store: segment given up, its last group is not kept", "file", l.cur.Name(), "offset", l.end, "error", err)
	_ = l.disk.truncate(l.cur, l.end) // a courtesy: the next segment's header says where this one ends
	_ = l.cur.Close()
	l.cur = nil
	l.unsealed.Store(true)
	l.failedSync(err)
	_ = l.ready() // now, so that the seal is durable as early as can be
	l.tellUse()
}

// prepareStep is how long a group that comes meanwhile has to wait, in bytes.
const prepareStep = 2 << 20

var blank [256 << 10]byte

// prepare fills a piece of the space behind the end with zeros and tells whether there is more to do. Under load it is
// not called: what is written twice then costs more than a faster sync gives.
func (l *segmentLog) prepare() (more bool) {
	if l.cur == nil {
		return false
	}
	from, target := max(l.zeroed, l.end), min(l.end+l.prepared, l.maxSize)
	if l.room != nil && target > from && target > l.has && l.room() < target-max(from, l.has) {
		return false // it would come out of what is kept for other things
	}
	if target <= from || target-from < prepareStep && target < l.maxSize {
		return false
	}
	to := min(from+prepareStep, target)
	for at := from; at < to; {
		n, err := l.disk.writeAt(l.cur, blank[:min(to-at, int64(len(blank)))], at)
		if err != nil {
			l.logger.Warn("store: cannot prepare space for the log", "file", l.cur.Name(), "offset", at, "error", err)
			_ = l.disk.truncate(l.cur, l.end) // what is left of a full disk is not for zeros
			l.zeroed = l.maxSize              // not again in this segment
			l.has = l.disk.allocated(l.cur)
			l.tellUse()
			return false
		}
		at += int64(n)
	}
	if err := l.disk.sync(l.cur); err != nil {
		l.poison(err)
		return false
	}
	l.zeroed = to
	if grown := to - l.has; grown > 0 {
		l.has = to
		if l.used != nil {
			l.used(l.has-l.end, grown)
		}
	}
	return to < target
}

// retire closes a full segment and gives back the blocks that were reserved and not used.
func (l *segmentLog) retire() {
	_ = l.disk.truncate(l.cur, l.end)
	_ = l.cur.Close()
	l.cur = nil
	l.tellUse()
}

// begin creates the next segment, which seals the one before, and reads its header back. One that fails leaves nothing
// behind and its number is used again, unless even its file cannot be removed.
func (l *segmentLog) begin() error {
	num := max(l.lastNum, l.num) + 1
	h := segmentHeader{Marker: l.marker, Number: num, Prev: l.num, PrevEnd: uint64(l.end)}
	name := filepath.Join(l.dir, segmentName(num))
	f, err := l.disk.open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		if errors.Is(err, fs.ErrExist) && num < l.num+1000 { // one that could not be removed
			l.lastNum = num
			return l.begin()
		}
		return err
	}
	if err := l.writeSegmentHeader(f, h); err != nil {
		_ = f.Close()
		if l.disk.remove(name) != nil {
			l.lastNum = num
			l.failedSync(err) // this one too leaves a file behind
		}
		return err
	}
	l.cur, l.num, l.lastNum, l.end, l.zeroed = f, num, num, segmentHeaderSize, 0
	l.has = l.disk.allocated(f)
	l.tellUse()
	l.unsealed.Store(false)
	if l.begun != nil {
		l.begun()
	}
	return nil
}

func (l *segmentLog) writeSegmentHeader(f *os.File, h segmentHeader) error {
	ahead := l.maxSize
	if l.room != nil {
		ahead = min(ahead, l.room()/2) // others want some of it too
	}
	if ahead > segmentHeaderSize {
		l.disk.reserve(f, ahead)
	}
	want := h.encode()
	if _, err := l.disk.writeAt(f, want, 0); err != nil {
		return err
	}
	if err := l.disk.sync(f); err != nil {
		return err
	}
	if err := l.disk.syncDir(l.dir); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if err := readFull(f, got, 0); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("a new segment reads back other bytes than were written")
	}
	return nil
}

// An appender collects small writes and passes large ones on.
type appender struct {
	disk *disk
	f    *os.File
	off  int64 // where buf goes
	buf  []byte
	err  error

	begun beginner
}

func (a *appender) start(d *disk, f *os.File, off int64) {
	if a.buf == nil {
		a.buf = make([]byte, 0, 256<<10)
	}
	*a = appender{disk: d, f: f, off: off, buf: a.buf[:0], begun: beginner{off}}
}

func (a *appender) write(b []byte) {
	if len(a.buf)+len(b) > cap(a.buf) {
		a.put(a.buf)
		a.buf = a.buf[:0]
	}
	if len(b) >= cap(a.buf)/4 {
		a.put(a.buf)
		a.buf = a.buf[:0]
		a.put(b)
		return
	}
	a.buf = append(a.buf, b...)
}

func (a *appender) put(b []byte) {
	if a.err != nil || len(b) == 0 {
		return
	}
	var n int
	n, a.err = a.disk.writeAt(a.f, b, a.off)
	if a.err == nil && n < len(b) {
		a.err = io.ErrShortWrite
	}
	a.off += int64(n)
	a.begun.wrote(a.disk, a.f, a.off)
}

func (a *appender) flush() error {
	a.put(a.buf)
	return a.err
}

// A Damage is a range of a file of the data folder that was durable once and cannot be read any more.
type Damage struct {
	File           string // relative to the data folder
	Offset, Length int64
	Reason         string
}

func (d Damage) String() string {
	return fmt.Sprintf("%s: %d bytes at offset %d: %s", d.File, d.Length, d.Offset, d.Reason)
}

// recover reads the log behind checkpoint, calls fn for each whole record, cuts a torn tail off and leaves the last
// segment open for appending. It reports what was durable once and is not there any more.
func (l *segmentLog) recover(checkpoint location, fn func(record) error) ([]Damage, error) {
	segs, damage, err := l.segments()
	if err != nil || len(segs) == 0 {
		return damage, err
	}
	// A process that was killed may have created the last segment without making its name durable.
	if err := l.disk.syncDir(l.dir); err != nil {
		return damage, err
	}
	for i, s := range segs {
		l.num, l.lastNum, l.end = s.num, s.num, s.end
		last := i == len(segs)-1 && s.generation == 0 // one that was rewritten is never written to again
		if s.num < segmentNumber(checkpoint.Segment) {
			continue
		}
		from := int64(segmentHeaderSize)
		if s.num == segmentNumber(checkpoint.Segment) {
			from = checkpoint.Offset
		}
		found, err := l.recoverSegment(s, from, last, checkpoint, fn)
		damage = append(damage, found...)
		if err != nil {
			return damage, err
		}
	}
	return damage, nil
}

func (l *segmentLog) recoverSegment(s segment, from int64, last bool, checkpoint location, fn func(record) error) (damage []Damage, err error) {
	f, err := l.disk.open(filepath.Join(l.dir, segmentName(s.id())), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	keep := false
	defer func() {
		if !keep {
			_ = f.Close()
		}
	}()
	if last {
		// What a killed process had written may still be on its way to the disk; from here on it counts.
		if err := l.disk.sync(f); err != nil {
			return nil, fmt.Errorf("sync %s: %w", f.Name(), err)
		}
		l.disk.forget(f)
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		s.size = min(s.size, st.Size()) // as the disk has it
	}
	lost := func(from, to int64, reason string) {
		damage = append(damage, Damage{File: filepath.Join(logDir, segmentName(s.id())), Offset: from, Length: to - from, Reason: reason})
	}
	if s.headerLost && from == segmentHeaderSize {
		lost(0, segmentHeaderSize, "segment header is damaged")
	}
	limit := s.end
	if s.size < limit {
		if !last {
			lost(max(s.size, from), limit, "the file is shorter than what was written")
		}
		limit = s.size
	}
	r := diskReader{&l.disk, f}
	end, gaps, err := scan(r, from, limit, l.marker, func(off int64, h recordHeader, text []byte) error {
		r, err := decodeText(h.Kind, text)
		if err != nil {
			return fmt.Errorf("%s, offset %d: %w", f.Name(), off, err)
		}
		r.at = location{s.id(), off + recordHeaderSize + int64(h.Text)}
		r.end = location{s.id(), off + h.size()}
		return fn(r)
	})
	if err != nil {
		return damage, err
	}
	for _, g := range gaps {
		if g.lost || !last || (location{s.num, g.from}).less(checkpoint) {
			lost(g.from, g.to, "records here are damaged; later ones were found")
		} else {
			l.logger.Warn("store: part of a group that was never answered is missing", "file", f.Name(), "offset", g.from, "bytes", g.to-g.from)
			if err := l.bridge(f, r, g); err != nil {
				return damage, err
			}
		}
	}
	if !last {
		if end < limit {
			lost(end, limit, "records here are damaged")
		}
		return damage, nil
	}
	l.cur, l.end, keep = f, end, true
	if end < limit {
		used, err := lastByte(r, end, limit)
		if err != nil {
			return damage, err
		}
		if used > end { // and not only space that was prepared
			l.logger.Warn("store: torn tail cut off; it was never answered", "file", f.Name(), "offset", end, "bytes", used-end)
		}
		if err := l.disk.truncate(f, end); err != nil {
			return damage, err
		}
		if err := l.disk.sync(f); err != nil {
			return damage, err
		}
	}
	l.has = l.disk.allocated(f)
	l.tellUse()
	return damage, nil
}

// bridge puts the header of a closing record over a gap, whose bytes become its data: once later groups have followed, the
// gap could not be told from damage any more.
func (l *segmentLog) bridge(f *os.File, r io.ReaderAt, g gap) error {
	if g.to-g.from < recordHeaderSize {
		return nil // no record ever was that short
	}
	h := recordHeader{Kind: kindClose, Data: uint64(g.to - g.from - recordHeaderSize)}
	crc := crc32.New(castagnoli)
	if _, err := io.Copy(crc, io.NewSectionReader(r, g.from+recordHeaderSize, int64(h.Data))); err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	h.Payload = crc.Sum32()
	if _, err := l.disk.writeAt(f, h.append(nil, l.marker), g.from); err != nil {
		return err
	}
	return l.disk.sync(f)
}

// A segment is one file of the log as found at start.
type segment struct {
	num         uint64
	generation  uint16
	stamp       uint64
	generations []uint16 // all of which there are files, oldest first
	end         int64    // valid up to here: from the header of the next one, its own, or the size of the file
	size        int64
	headerLost  bool
}

func (s segment) id() uint64 { return segmentID(s.num, s.generation) }

// list finds the segments by their names, in order of their numbers, each in its newest generation. Only a file that is
// complete has such a name, see compact.go.
func (l *segmentLog) list() ([]segment, error) {
	names, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, err
	}
	var segs []segment
	for _, de := range names {
		if num, generation, ok := parseSegmentName(de.Name()); ok {
			segs = append(segs, segment{num: num, generation: generation})
		}
	}
	slices.SortFunc(segs, func(a, b segment) int {
		return cmp.Or(cmp.Compare(a.num, b.num), cmp.Compare(a.generation, b.generation))
	})
	var all []segment
	for _, s := range segs {
		if n := len(all); n > 0 && all[n-1].num == s.num {
			s.generations = all[n-1].generations
			all = all[:n-1]
		}
		s.generations = append(s.generations, s.generation)
		all = append(all, s)
	}
	return all, nil
}

// segments lists the segment files, settles the marker, and drops a last one that was being created.
func (l *segmentLog) segments() ([]segment, []Damage, error) {
	found, err := l.list()
	if err != nil {
		return nil, nil, err
	}
	var (
		segs    []segment
		headers []*segmentHeader
		damage  []Damage
	)
	if n := len(found); n > 0 { // the last segment is to be read as the disk has it, its header too
		if err := l.settle(filepath.Join(l.dir, segmentName(found[n-1].id()))); err != nil {
			return nil, nil, err
		}
	}
	for _, s := range found {
		if l.chosen != nil && slices.Contains(s.generations, l.chosen[s.num]) {
			s.generation = l.chosen[s.num]
		}
		name := filepath.Join(l.dir, segmentName(s.id()))
		h, size, err := l.readSegmentHeader(s.id())
		if err != nil && !errors.Is(err, errHeader) {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		if err == nil && (h.Number != s.num || h.Generation != s.generation) {
			return nil, nil, fmt.Errorf("%s is segment %d under another name: give it its name back", name, h.Number)
		}
		s.size, s.end, s.headerLost = size, size, err != nil
		if s.headerLost {
			segs, headers = append(segs, s), append(headers, nil)
			continue
		}
		if s.generation > 0 {
			s.end, s.stamp = int64(h.End), h.Stamp
		}
		segs, headers = append(segs, s), append(headers, &h)
		l.marker = h.Marker
	}
	segs, headers = l.dropJoined(segs, headers)
	// A last file that ends within its header was being created when the power went; nothing was ever in it.
	if n := len(segs); n > 0 && segs[n-1].headerLost && segs[n-1].size <= segmentHeaderSize && segs[n-1].generation == 0 {
		if err := l.disk.remove(filepath.Join(l.dir, segmentName(segs[n-1].num))); err != nil {
			return nil, nil, err
		}
		segs, headers = segs[:n-1], headers[:n-1]
	}
	if len(segs) > 0 && l.marker == 0 {
		return nil, nil, fmt.Errorf("no segment in %s has a readable header: restore one from a copy", l.dir)
	}
	// The same one with others behind it could not be removed when its header could not be written: no other one follows it.
	named := make(map[uint64]bool)
	for _, h := range headers {
		if h != nil {
			named[h.Prev] = true
		}
	}
	kept := 0
	for i, s := range segs {
		if !s.headerLost || s.size > segmentHeaderSize || named[s.num] {
			segs[kept], headers[kept] = s, headers[i]
			kept++
		}
	}
	segs, headers = segs[:kept], headers[:kept]
	at := make(map[uint64]int)
	for i, h := range headers {
		at[segs[i].num] = i
		if h == nil {
			continue
		}
		if h.Marker != l.marker {
			return nil, nil, fmt.Errorf("%s belongs to another data folder: move it away", filepath.Join(l.dir, segmentName(h.Number)))
		}
		if prev, ok := at[h.Prev]; ok {
			if segs[prev].generation == 0 { // else it has another end by now
				segs[prev].end = int64(h.PrevEnd)
			}
		} else if h.Prev != 0 {
			damage = append(damage, Damage{File: filepath.Join(logDir, segmentName(h.Prev)), Length: int64(h.PrevEnd), Reason: "the file is missing"})
		}
	}
	return segs, damage, nil
}

// dropJoined leaves out the segments that were joined with a later one, see compact.go, and remembers their files. A compacted
// segment holds all that is behind the one that it names as the one before.
func (l *segmentLog) dropJoined(segs []segment, headers []*segmentHeader) ([]segment, []*segmentHeader) {
	l.joined = nil
	var by *segmentHeader
	for i, s := range slices.Backward(segs) {
		if by != nil && s.num > by.Prev {
			for _, g := range s.generations {
				l.joined = append(l.joined, segmentID(s.num, g))
			}
			segs, headers = slices.Delete(segs, i, i+1), slices.Delete(headers, i, i+1)
			continue
		}
		if by = headers[i]; s.generation == 0 {
			by = nil
		}
	}
	return segs, headers
}

// settle syncs a file that a killed process may have left unsynced, and forgets what a sync that failed had only in the cache.
func (l *segmentLog) settle(name string) error {
	f, err := l.disk.open(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := l.disk.sync(f); err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	l.disk.forget(f)
	return nil
}

func (l *segmentLog) readSegmentHeader(id uint64) (segmentHeader, int64, error) {
	f, err := l.disk.open(filepath.Join(l.dir, segmentName(id)), os.O_RDONLY, 0)
	if err != nil {
		return segmentHeader{}, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return segmentHeader{}, 0, err
	}
	b := make([]byte, segmentHeaderSize)
	if err := readFull(f, b, 0); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errHeader
		}
		return segmentHeader{}, st.Size(), err
	}
	h, err := decodeSegmentHeader(b)
	return h, st.Size(), err
}

// create begins the log of a new store.
func (l *segmentLog) create() error {
	l.marker = newMarker()
	if err := l.begin(); err != nil {
		return err
	}
	l.retire()
	return nil
}

// newMarker returns 64 random bits, not 0.
func newMarker() uint64 {
	var b [8]byte
	for {
		_, _ = rand.Read(b[:])
		if m := binary.LittleEndian.Uint64(b[:]); m != 0 {
			return m
		}
	}
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
