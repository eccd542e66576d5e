package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/radnode/radnode/dimse"
)

// The buckets of the index. Every value begins with a CRC-32C of its key and the rest of it, because bbolt has
// checksums for its two meta pages only. A NUL divides the parts of a key; no UID holds one.
var (
	bucketMeta      = []byte("meta")      // "log" -> marker, checkpoint, and whether a rebuild is under way
	bucketInstances = []byte("instances") // SOP Instance UID -> location, entry
	bucketStudies   = []byte("studies")   // Study Instance UID, SOP Instance UID -> nothing
	bucketConflicts = []byte("conflicts") // SOP Instance UID, digest -> location, entry
	bucketStates    = []byte("states")    // Study Instance UID, subject -> State
	bucketJobs      = []byte("jobs")      // key -> Job that is pending or parked
	bucketDone      = []byte("done")      // key -> queue, study
	bucketKeys      = []byte("keys")      // Study Instance UID, key of a job that is or was -> location of the record that made it
	bucketFiles     = []byte("files")     // number of a large object's file -> SOP Instance UID; nothing once that left
	bucketDamage    = []byte("damage")    // file, offset -> Damage
	bucketPatients  = []byte("patients")  // Patient ID, Study Instance UID -> nothing; an ID may hold a NUL, so the last one divides
	bucketSums      = []byte("sums")      // Study Instance UID -> studySum
	bucketLeft      = []byte("left")      // Study Instance UID -> location of the record of its last leave
	bucketDays      = []byte("days")      // date -> Day
	bucketSegments  = []byte("segments")  // number of a segment -> segmentSum

	buckets = [][]byte{bucketMeta, bucketInstances, bucketStudies, bucketConflicts, bucketStates, bucketJobs, bucketDone, bucketKeys, bucketFiles,
		bucketDamage, bucketPatients, bucketSums, bucketLeft, bucketDays, bucketSegments}
	metaKey   = []byte("log")
	totalsKey = []byte("totals") // -> totals
)

var errIndexDamaged = errors.New("the index is damaged; it is rebuilt at the next start")

// An index is the bbolt file. It never holds anything that the log does not.
type index struct {
	db         *bolt.DB
	path       string
	marker     uint64
	checkpoint location // all records before it are in the index
	rebuilding bool     // the index began empty and has not caught up yet
	lost       []Damage // the index before this one went further than the log

	old         bool   // it comes from a radnode that kept less in it, see complete
	pages, free uint64 // of its file
}

// openIndex opens the index at path, or begins an empty one where it is missing, damaged, or of another log.
func openIndex(path string, log *segmentLog, noSync bool, logger *slog.Logger) (*index, error) {
	var lost []Damage
	if _, err := os.Stat(path); err == nil {
		ix, err := tryIndex(path, log, noSync, logger)
		if err == nil {
			return ix, nil
		}
		if short := (*shortLog)(nil); errors.As(err, &short) {
			lost = append(lost, short.Damage)
		}
		aside := path + ".damaged"
		logger.Warn("store: index cannot be used; rebuilding it from the log", "error", err, "kept_as", aside)
		if err := os.Rename(path, aside); err != nil {
			return nil, err
		}
	} else if !isNotExist(err) {
		return nil, err
	}
	db, err := openBolt(path, noSync)
	if err != nil {
		return nil, err
	}
	log.chosen = nil
	ix := &index{db: db, path: path, marker: log.marker, rebuilding: true, lost: lost}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range buckets {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return indexMeta{marker: log.marker, rebuilding: true}.put(tx)
	})
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return ix, nil
}

func openBolt(path string, noSync bool) (*bolt.DB, error) {
	return bolt.Open(path, 0o640, &bolt.Options{Timeout: time.Second, NoSync: noSync, FreelistType: bolt.FreelistMapType, InitialMmapSize: indexMap, NoStatistics: true})
}

// tryIndex opens the index and reads all of it, so that damage shows now and not in the middle of a study.
func tryIndex(path string, log *segmentLog, noSync bool, logger *slog.Logger) (ix *index, err error) {
	if _, err := os.Stat(path + ".rebuild"); err == nil {
		_ = os.Remove(path + ".rebuild")
		return nil, errIndexDamaged
	}
	ix = &index{path: path, marker: log.marker}
	segs, err := ix.verify(log)
	if err != nil {
		return nil, err
	}
	defer catchDamage(&err)
	if !ix.old && ix.sparse() {
		if err := ix.shrink(noSync, logger); err != nil {
			logger.Warn("store: the index could not be made smaller; it works as it is", "error", err)
		}
	}
	if ix.db, err = openBolt(path, noSync); err != nil {
		return nil, err
	}
	if ix.old {
		if err := ix.complete(filepath.Join(filepath.Dir(path), logDir), segs, logger); err != nil {
			_ = ix.db.Close()
			return nil, err
		}
	}
	return ix, nil
}

// catchDamage turns a panic or a page fault inside bbolt into an error: it trusts its pages.
func catchDamage(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w (%v)", errIndexDamaged, r)
	}
}

// verify reads the whole index before bbolt does.
func (ix *index) verify(log *segmentLog) ([]segment, error) {
	file, err := os.Open(ix.path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return nil, err
	}
	found, err := checkIndex(file, st.Size())
	if err != nil {
		return nil, err
	}
	counts := found.counts
	ix.pages, ix.free = found.pages, found.free
	m, err := decodeMeta(found.meta)
	if err != nil {
		return nil, err
	}
	if m.rebuilding {
		return nil, errors.New("its rebuild was interrupted")
	}
	if m.marker != ix.marker {
		return nil, errors.New("it belongs to another log")
	}
	if counts[string(bucketInstances)] != m.instances || counts[string(bucketStudies)] != m.instances {
		return nil, fmt.Errorf("%w: it names %d instances and should name %d", errIndexDamaged, counts[string(bucketInstances)], m.instances)
	}
	log.chosen = make(map[uint64]uint16)
	for n, sum := range found.segments {
		log.chosen[n] = sum.Generation
	}
	segs, _, err := log.segments()
	if err != nil {
		return nil, err
	}
	for _, s := range segs {
		if s.generation != log.chosen[s.num] || s.stamp != found.segments[s.num].Stamp { // also 0, of all that the index says nothing of
			return nil, fmt.Errorf("of segment %d it names another file than there is", s.num)
		}
	}
	ix.checkpoint, ix.old = m.checkpoint, m.old
	if m.checkpoint == (location{}) {
		return segs, nil
	}
	short := &shortLog{Damage{File: filepath.Join(logDir, segmentName(m.checkpoint.Segment)), Length: m.checkpoint.Offset,
		Reason: "the log ends before the point up to which it was indexed"}}
	for _, s := range segs {
		if s.num != m.checkpoint.Segment {
			continue
		}
		end := min(s.end, s.size)
		if m.checkpoint.Offset <= end {
			return segs, nil
		}
		short.Offset, short.Length = end, m.checkpoint.Offset-end
	}
	return nil, short
}

// A shortLog says that the index knows more than the log, so that a part of the log is gone.
type shortLog struct{ Damage }

func (s *shortLog) Error() string { return s.String() }

// seal puts the checksum in front of a value.
func seal(key, value []byte) []byte {
	b := make([]byte, 4, 4+len(value))
	b = append(b, value...)
	binary.LittleEndian.PutUint32(b, crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value))
	return b
}

func unseal(key, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 || binary.LittleEndian.Uint32(sealed) != crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, sealed[4:]) {
		return nil, fmt.Errorf("%w: wrong checksum", errIndexDamaged)
	}
	return sealed[4:], nil
}

type indexMeta struct {
	marker     uint64
	checkpoint location
	rebuilding bool
	instances  uint64
	old        bool // written by a radnode that did not know of leaving
}

// metaLayout stands behind what a radnode before it had in meta, which takes the index for damaged then and makes its own.
const metaLayout = 2

func readMeta(tx *bolt.Tx) (indexMeta, error) {
	v, err := unseal(metaKey, tx.Bucket(bucketMeta).Get(metaKey))
	if err != nil {
		return indexMeta{}, err
	}
	return decodeMeta(v)
}

func decodeMeta(v []byte) (indexMeta, error) {
	if len(v) != 33 && (len(v) != 34 || v[33] != metaLayout) {
		return indexMeta{}, fmt.Errorf("%w: it does not say how far it goes", errIndexDamaged)
	}
	return indexMeta{
		marker:     binary.LittleEndian.Uint64(v),
		checkpoint: location{binary.LittleEndian.Uint64(v[8:]), int64(binary.LittleEndian.Uint64(v[16:]))},
		instances:  binary.LittleEndian.Uint64(v[24:]),
		rebuilding: v[32] != 0,
		old:        len(v) == 33,
	}, nil
}

func (m indexMeta) put(tx *bolt.Tx) error {
	var v []byte
	v = binary.LittleEndian.AppendUint64(v, m.marker)
	v = m.checkpoint.append(v)
	v = binary.LittleEndian.AppendUint64(v, m.instances)
	if m.rebuilding {
		v = append(v, 1)
	} else {
		v = append(v, 0)
	}
	v = append(v, metaLayout)
	return tx.Bucket(bucketMeta).Put(metaKey, seal(metaKey, v))
}

func decodeLocation(b []byte) (location, error) {
	if len(b) != 16 {
		return location{}, errIndexDamaged
	}
	return location{binary.LittleEndian.Uint64(b), int64(binary.LittleEndian.Uint64(b[8:]))}, nil
}

func (l location) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, l.Segment)
	return binary.LittleEndian.AppendUint64(b, uint64(l.Offset))
}

// begin opens the transaction for read.
func (ix *index) begin() (*bolt.Tx, error) {
	tx, err := ix.db.Begin(false)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return nil, ErrClosed
	}
	return tx, err
}

// doubt notes that the index is to be rebuilt at the next start: where it is damaged, and where a sync of it failed, since the
// kernel may have dropped pages that a later sync would call durable.
func (ix *index) doubt(err error) {
	if errors.Is(err, errIndexDamaged) || syncFailed(err) {
		_ = os.WriteFile(ix.path+".rebuild", nil, 0o640)
	}
}

// syncFailed tells a sync of bbolt that failed, which is a bare error number on Linux, from a write.
func syncFailed(err error) bool {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Op == "sync"
	}
	var number syscall.Errno
	return errors.As(err, &number) && number != syscall.ENOMEM // of a map
}

// read runs fn in tx and ends tx. Damage in the index becomes an error and a note to rebuild it at the next start.
func (ix *index) read(tx *bolt.Tx, fn func(tx *bolt.Tx) error) (err error) {
	defer func() { ix.doubt(err) }()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer tx.Rollback()
	defer catchDamage(&err)
	return fn(tx)
}

func (ix *index) close() error { return ix.db.Close() }

// A located instance is an entry with the place of its bytes.
type located struct {
	entry *entry
	at    location // of its data set; in a file of its own when entry.File is set
}

func (l *located) encode() ([]byte, error) {
	text, err := json.Marshal(l.entry)
	if err != nil {
		return nil, err
	}
	return append(l.at.append(make([]byte, 0, 16+len(text))), text...), nil
}

func decodeLocated(b []byte) (*located, error) {
	if len(b) < 16 {
		return nil, errIndexDamaged
	}
	l := &located{entry: new(entry), at: location{binary.LittleEndian.Uint64(b), int64(binary.LittleEndian.Uint64(b[8:]))}}
	if err := json.Unmarshal(b[16:], l.entry); err != nil {
		return nil, fmt.Errorf("%w: %w", errIndexDamaged, err)
	}
	return l, nil
}

// join builds a key of two parts.
func join(a, b string) []byte {
	k := make([]byte, 0, len(a)+1+len(b))
	return append(append(append(k, a...), 0), b...)
}

func fileKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// An overlay holds what was applied and is not in the index yet. A value that is nil or false says that the index has
// nothing there any more.
type overlay struct {
	records   int
	held      int // bytes of memory, about
	instances map[string]*located
	studies   map[string]map[string]*located // study -> SOP Instance UID
	conflicts map[string]map[string]*located // SOP Instance UID -> digest
	patients  map[string]map[string]bool     // Patient ID -> study
	states    map[string]map[string]*State   // study -> subject
	jobs      map[string]*Job                // as they are now, with the payload where they are new; nil when done or forgotten
	done      map[string]*doneJob            // by key; nil when forgotten
	forgotten map[string]bool                // keys that are to be deleted before jobs and done are written
	keys      map[string]map[string]*location
	left      map[string]location
	files     map[uint64]string
	sums      map[string]*studySum
	days      map[string]*Day
	segments  map[uint64]*segmentSum
	totals    totals // as they were when this was frozen
	damage    []Damage
}

// A doneJob is what is remembered of a job that is done.
type doneJob struct{ queue, study string }

func newOverlay() *overlay {
	return &overlay{
		instances: make(map[string]*located), studies: make(map[string]map[string]*located), conflicts: make(map[string]map[string]*located),
		patients: make(map[string]map[string]bool), states: make(map[string]map[string]*State), jobs: make(map[string]*Job), done: make(map[string]*doneJob),
		forgotten: make(map[string]bool), keys: make(map[string]map[string]*location), left: make(map[string]location), files: make(map[uint64]string),
		sums: make(map[string]*studySum), days: make(map[string]*Day), segments: make(map[uint64]*segmentSum),
	}
}

func set[T any](m map[string]map[string]T, a, b string, v T) {
	if m[a] == nil {
		m[a] = make(map[string]T)
	}
	m[a][b] = v
}

// bytes is how the index keeps it; nothing when l is nil.
func (l *location) bytes() []byte {
	if l == nil {
		return nil
	}
	return l.append(nil)
}

// overlays returns what is not in the index yet, oldest first. s.mu is held.
func (s *Store) overlays() []*overlay {
	if s.frozen != nil {
		return []*overlay{s.frozen, s.active}
	}
	return []*overlay{s.active}
}

// apply makes one record visible. s.mu is held, and the record is durable. An error refuses the whole record.
func (s *Store) apply(r *record) error {
	s.active.records++
	s.active.held += overlayRecord + len(r.text)
	switch r.kind {
	case kindInstance, kindConflict:
		s.take(&located{r.entry, r.at})
	case kindStep:
		return s.applyStep(r.step, r.at)
	case kindLeave:
		s.applyLeave(r.leave, r.at)
	case kindClose:
		if r.tally != nil {
			for i := range r.tally.Days {
				s.day(r.tally.Days[i].Date).add(&r.tally.Days[i], 1)
			}
		}
	}
	return nil
}

// take decides what an instance is and makes it visible. What the record calls it is not asked: the instance that was first
// may have left, or may be lost with a part of the log.
func (s *Store) take(l *located) {
	e := l.entry
	first, err := s.findHeld(e.SOPInstance)
	switch {
	case errors.Is(err, ErrNotFound):
		s.addInstance(l)
		s.received(l)
		return
	case err != nil:
		s.trouble(err)
		return
	case string(first.entry.Digest) == string(e.Digest):
		return
	}
	known, err := s.conflictsHeld(e.SOPInstance)
	if err != nil {
		s.trouble(err)
		return
	}
	if known[string(e.Digest)] != nil {
		return
	}
	if e.Replaces && !first.entry.Computed {
		s.dropInstance(first)
		s.addConflict(first)
		s.addInstance(l)
	} else {
		s.addConflict(l)
	}
	s.received(l)
}

// trouble is about the index when a record is applied that is durable already. The next start applies it again, with an index
// that is whole again.
func (s *Store) trouble(err error) {
	s.logger.Error("store: cannot look up what the index has", "error", err)
}

// addInstance makes an instance of l. Where it is new to the store, received is to be called too.
func (s *Store) addInstance(l *located) {
	e := l.entry
	s.active.instances[e.SOPInstance] = l
	set(s.active.studies, e.Study, e.SOPInstance, l)
	if e.File != 0 {
		s.active.files[e.File] = e.SOPInstance
	}
	s.totals.count(e, 1)
	sum := s.sum(e.Study)
	if sum.Instances++; sum.Instances == 1 {
		s.totals.Studies++
	}
	s.joins(e, sum)
	if !e.Computed {
		for w := range s.watches {
			w.arrived(e.instance())
		}
	}
}

// joins lets the Patient ID of an instance stand for its study.
func (s *Store) joins(e *entry, sum *studySum) {
	if e.Patient == "" || e.Quarantine != "" {
		return
	}
	if sum.Patients == nil {
		sum.Patients = make(map[string]int)
	}
	if sum.Patients[e.Patient]++; sum.Patients[e.Patient] == 1 {
		set(s.active.patients, e.Patient, e.Study, true)
	}
}

// dropInstance is the opposite of addInstance.
func (s *Store) dropInstance(l *located) {
	e := l.entry
	s.active.instances[e.SOPInstance] = nil
	set(s.active.studies, e.Study, e.SOPInstance, nil)
	s.totals.count(e, -1)
	sum := s.sum(e.Study)
	if sum.Instances--; sum.Instances == 0 {
		s.totals.Studies--
	}
	if e.Patient == "" || e.Quarantine != "" {
		return
	}
	if sum.Patients[e.Patient]--; sum.Patients[e.Patient] <= 0 {
		delete(sum.Patients, e.Patient)
		set(s.active.patients, e.Patient, e.Study, false)
	}
}

func (s *Store) addConflict(l *located) {
	set(s.active.conflicts, l.entry.SOPInstance, string(l.entry.Digest), l)
	if l.entry.File != 0 {
		s.active.files[l.entry.File] = l.entry.SOPInstance
	}
	s.totals.Conflicts++
	s.totals.Bytes += l.entry.Size
}

func (s *Store) dropConflict(l *located) {
	set(s.active.conflicts, l.entry.SOPInstance, string(l.entry.Digest), nil)
	s.totals.Conflicts--
	s.totals.Bytes -= l.entry.Size
}

func (s *Store) applyStep(st *step, at location) error {
	if !st.Decided {
		if err := s.allowed(st); err != nil {
			return err
		}
	}
	for i := range st.Instances {
		e := &st.Instances[i]
		s.take(&located{e, location{at.Segment, at.Offset + e.Start}})
	}
	for i := range st.States {
		set(s.active.states, st.States[i].Study, st.States[i].Subject, &st.States[i])
	}
	for _, key := range st.Done {
		if j := s.jobs.byKey[key]; j != nil { // it is not when the record that made it is lost
			s.active.done[key] = &doneJob{j.Queue, j.Study}
			s.jobs.finish(key)
			s.active.jobs[key] = nil
		}
	}
	if r := st.Retry; r != nil && s.jobs.has(r.Key) {
		s.active.changed(s.jobs.retry(r))
	}
	if p := st.Park; p != nil && s.jobs.has(p.Key) {
		s.active.changed(s.jobs.park(p))
	}
	if st.Begin != "" && s.jobs.has(st.Begin) {
		s.active.changed(s.jobs.begin(st.Begin))
	}
	if st.GiveBack != "" && s.jobs.has(st.GiveBack) {
		s.active.changed(s.jobs.giveBack(st.GiveBack))
	}
	for _, uid := range st.Release {
		s.release(uid)
	}
	for i := range st.Jobs {
		known, err := s.known(st.Jobs[i].Key)
		if err != nil {
			s.trouble(err)
			continue
		}
		if !known {
			j := st.Jobs[i]
			j.State, j.Seq = Pending, st.sequence(i, at)
			s.jobs.add(j)
			s.active.jobs[j.Key] = &j
			set(s.active.keys, j.Study, j.Key, &at)
		}
	}
	return nil
}

// sequence is the number of job i of a step whose data are at this place: below the place, and above the numbers of the records
// before, since the text in front of the data is longer than there are jobs in it. So a replay of the log gives the same. A step
// that is not where it was written any more says it, see decideStep.
func (st *step) sequence(i int, at location) uint64 {
	if n := st.Jobs[i].Seq; n != 0 {
		return n
	}
	return segmentNumber(at.Segment)<<40 + uint64(at.Offset) - uint64(len(st.Jobs)-i)
}

// changed notes a job as it is now. Its payload is never changed.
func (o *overlay) changed(j *Job) {
	if k := o.jobs[j.Key]; k != nil {
		j.Payload = k.Payload
	}
	o.jobs[j.Key] = j
}

// allowed refuses a step that speaks of a job which is not there any more. s.mu is held.
func (s *Store) allowed(st *step) error {
	keys := st.Done
	if st.Retry != nil {
		keys = append(keys[:len(keys):len(keys)], st.Retry.Key)
	}
	if st.Park != nil {
		keys = append(keys[:len(keys):len(keys)], st.Park.Key)
	}
	for _, key := range []string{st.Begin, st.GiveBack} {
		if key != "" {
			keys = append(keys[:len(keys):len(keys)], key)
		}
	}
	for i, key := range keys {
		if s.jobs.has(key) && !slices.Contains(keys[:i], key) {
			continue
		}
		known, err := s.known(key)
		if err != nil {
			return err
		}
		if known {
			return fmt.Errorf("store: job %q: %w", key, ErrFinished)
		}
		return fmt.Errorf("store: job %q: %w", key, ErrNotFound)
	}
	return nil
}

// known tells whether a job of this key exists, or did and is remembered. s.mu is held.
func (s *Store) known(key string) (found bool, err error) {
	if s.jobs.has(key) {
		return true, nil
	}
	for _, o := range slices.Backward(s.overlays()) {
		if d, ok := o.done[key]; ok {
			return d != nil, nil
		}
	}
	err = s.readHeld(func(tx *bolt.Tx) error {
		found = tx.Bucket(bucketDone).Get([]byte(key)) != nil
		return nil
	})
	return found, err
}

// readHeld reads the index while s.mu is held.
func (s *Store) readHeld(fn func(tx *bolt.Tx) error) error {
	tx, err := s.index.begin()
	if err != nil {
		return err
	}
	return s.index.read(tx, fn)
}

// find returns the instance of this UID.
func (s *Store) find(uid string) (*located, error) {
	s.mu.RLock()
	if l, ok := s.unwritten(uid); ok {
		s.mu.RUnlock()
		if l == nil {
			return nil, ErrNotFound
		}
		return l, nil
	}
	tx, err := s.index.begin() // under the lock, so that nothing moves from the overlay to the index unseen
	s.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	var l *located
	err = s.index.read(tx, func(tx *bolt.Tx) error {
		l, err = getLocated(tx, uid)
		return err
	})
	return l, err
}

// unwritten looks for an instance in the overlays, which may know too that it left. s.mu is held.
func (s *Store) unwritten(uid string) (l *located, ok bool) {
	for _, o := range slices.Backward(s.overlays()) {
		if l, ok := o.instances[uid]; ok {
			return l, true
		}
	}
	return nil, false
}

// findHeld is find where s.mu is held.
func (s *Store) findHeld(uid string) (l *located, err error) {
	if l, ok := s.unwritten(uid); ok {
		if l == nil {
			return nil, ErrNotFound
		}
		return l, nil
	}
	err = s.readHeld(func(tx *bolt.Tx) error {
		l, err = getLocated(tx, uid)
		return err
	})
	return l, err
}

func getLocated(tx *bolt.Tx, uid string) (*located, error) {
	v := tx.Bucket(bucketInstances).Get([]byte(uid))
	if v == nil {
		return nil, ErrNotFound
	}
	b, err := unseal([]byte(uid), v)
	if err != nil {
		return nil, err
	}
	return decodeLocated(b)
}

// conflicts returns the evidence kept beside the instance of this UID.
func (s *Store) conflicts(uid string) ([]*located, error) {
	s.mu.RLock()
	found := overlaid(s.overlays(), func(o *overlay) map[string]*located { return o.conflicts[uid] })
	tx, err := s.index.begin()
	s.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	err = s.index.read(tx, func(tx *bolt.Tx) error { return addConflicts(tx, uid, found) })
	return there(found), err
}

// conflictsHeld is conflicts by digest, where s.mu is held.
func (s *Store) conflictsHeld(uid string) (map[string]*located, error) {
	found := overlaid(s.overlays(), func(o *overlay) map[string]*located { return o.conflicts[uid] })
	err := s.readHeld(func(tx *bolt.Tx) error { return addConflicts(tx, uid, found) })
	maps.DeleteFunc(found, func(_ string, l *located) bool { return l == nil })
	return found, err
}

// overlaid merges what the overlays say, the later above the earlier.
func overlaid[T any](overlays []*overlay, part func(o *overlay) map[string]T) map[string]T {
	found := make(map[string]T)
	for _, o := range overlays {
		maps.Copy(found, part(o))
	}
	return found
}

// addConflicts adds what the index has and the overlays do not speak of.
func addConflicts(tx *bolt.Tx, uid string, found map[string]*located) error {
	return eachBelow(tx, bucketConflicts, uid, func(digest string, v []byte) error {
		if _, ok := found[digest]; ok {
			return nil
		}
		l, err := decodeLocated(v)
		found[digest] = l
		return err
	})
}

func there(found map[string]*located) (list []*located) {
	for _, l := range found {
		if l != nil {
			list = append(list, l)
		}
	}
	return list
}

// indexDelay is how long a record may wait for company before it is written to the index. Nobody waits for that: until
// then it is found in the overlay.
const (
	indexDelay = 250 * time.Millisecond
	indexRetry = 2 * time.Second
)

// Bounds of what is applied and not in the index yet, in bytes of memory, about.
const (
	overlayRecord = 1200      // of a record beside its text
	overlaySoon   = 4 << 20   // from here on the index is written without delay
	overlayFull   = 16 << 20  // and from here on the log waits for it
	overlayMost   = 256 << 20 // and where the index cannot be written, new objects are refused from here on
)

// awaitIndex waits while more is applied than memory is given for, unless the index cannot be written.
func (s *Store) awaitIndex() {
	for {
		s.mu.RLock()
		full, thinner := s.active.held > overlayFull && !s.stuck, s.thinner
		s.mu.RUnlock()
		if !full {
			return
		}
		select {
		case <-thinner:
		case <-s.closing:
			return
		}
	}
}

// indexBehind refuses new objects where so much is not in the index that they would take the memory from what is queued.
func (s *Store) indexBehind() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	held := s.active.held
	if s.frozen != nil {
		held += s.frozen.held
	}
	if !s.stuck || held < s.overlayMost {
		return nil
	}
	return fmt.Errorf("store: %w", &dimse.Status{Code: dimse.StatusOutOfResources, Comment: "index cannot be written, see the log"})
}

// runIndex writes the index behind the log, in batches.
func (s *Store) runIndex() {
	defer close(s.indexed)
	for {
		select {
		case <-s.indexing:
		case <-s.closing:
			return
		}
		delay := indexDelay
		for {
			hurry := s.hurry
			if delay == indexRetry {
				hurry = nil
			}
			t := time.NewTimer(delay)
			select {
			case <-t.C:
			case <-hurry:
			case <-s.closing:
				t.Stop()
				return
			}
			t.Stop()
			err := s.flushIndex()
			if err == nil {
				s.indexTrouble.ok()
				break
			}
			s.indexTrouble.fail(err)
			delay = indexRetry
		}
	}
}

// flushIndex writes what was applied to the index in one transaction.
func (s *Store) flushIndex() error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	return s.flushHeld()
}

// flushHeld is flushIndex where s.flushing is held.
func (s *Store) flushHeld() error {
	s.mu.Lock()
	if s.frozen == nil {
		s.frozen, s.active = s.active, newOverlay()
		s.frozen.totals = s.totalsNow()
		s.freezing = s.applied
	}
	o, end := s.frozen, s.freezing
	s.mu.Unlock()

	err := s.index.write(o, end)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stuck = err != nil; !s.stuck {
		s.frozen = nil
	}
	close(s.thinner)
	s.thinner = make(chan struct{})
	return err
}

func (ix *index) write(o *overlay, end location) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { ix.doubt(err) }()
	defer catchDamage(&err)
	err = ix.db.Update(func(tx *bolt.Tx) error {
		m, err := readMeta(tx)
		if err != nil {
			return err
		}
		p := putter{tx: tx}
		for uid, l := range o.instances {
			p.located(bucketInstances, []byte(uid), l)
		}
		for study, uids := range o.studies {
			for uid, l := range uids {
				p.set(bucketStudies, join(study, uid), nil, l != nil)
			}
		}
		for uid, ls := range o.conflicts {
			for digest, l := range ls {
				p.located(bucketConflicts, join(uid, digest), l)
			}
		}
		for n, uid := range o.files {
			p.put(bucketFiles, fileKey(n), []byte(uid))
		}
		for patient, studies := range o.patients {
			for study, has := range studies {
				p.set(bucketPatients, join(patient, study), nil, has)
			}
		}
		for study, subjects := range o.states {
			for subject, st := range subjects {
				if st == nil {
					p.delete(bucketStates, join(study, subject))
				} else {
					p.json(bucketStates, join(study, subject), st)
				}
			}
		}
		for key := range o.forgotten { // what was there before; it may be there again
			p.delete(bucketJobs, []byte(key))
			p.delete(bucketDone, []byte(key))
		}
		for key, j := range o.jobs {
			if j == nil {
				p.delete(bucketJobs, []byte(key))
			} else {
				p.job(j)
			}
		}
		for key, d := range o.done {
			if d != nil {
				p.put(bucketDone, []byte(key), join(d.queue, d.study))
			}
		}
		for study, keys := range o.keys {
			for key, at := range keys {
				p.set(bucketKeys, join(study, key), at.bytes(), at != nil)
			}
		}
		for study, at := range o.left {
			p.put(bucketLeft, []byte(study), at.append(nil))
		}
		for study, sum := range o.sums {
			if sum.Instances == 0 {
				p.delete(bucketSums, []byte(study))
			} else {
				p.json(bucketSums, []byte(study), sum)
			}
		}
		for date, d := range o.days {
			p.json(bucketDays, []byte(date), d)
		}
		for n, sum := range o.segments {
			p.json(bucketSegments, fileKey(n), sum)
		}
		for _, d := range o.damage {
			p.json(bucketDamage, join(d.File, strconv.FormatInt(d.Offset, 10)), d)
		}
		p.json(bucketMeta, totalsKey, o.totals)
		if p.err != nil {
			return p.err
		}
		m.instances = uint64(o.totals.Instances)
		m.checkpoint, m.rebuilding = end, ix.rebuilding
		return m.put(tx)
	})
	if err == nil {
		ix.checkpoint = end
	}
	return err
}

// A putter writes values until the first error.
type putter struct {
	tx  *bolt.Tx
	err error
}

func (p *putter) put(bucket, key, value []byte) {
	if p.err == nil {
		p.err = p.tx.Bucket(bucket).Put(key, seal(key, value))
	}
}

// set puts the pair, or deletes it.
func (p *putter) set(bucket, key, value []byte, there bool) {
	if there {
		p.put(bucket, key, value)
	} else {
		p.delete(bucket, key)
	}
}

func (p *putter) delete(bucket, key []byte) {
	if p.err == nil {
		p.err = p.tx.Bucket(bucket).Delete(key)
	}
}

func (p *putter) json(bucket, key []byte, v any) {
	b, err := json.Marshal(v)
	if err != nil && p.err == nil {
		p.err = err
	}
	p.put(bucket, key, b)
}

// job keeps the payload that the index has where j is without.
func (p *putter) job(j *Job) {
	if j.Payload == nil && p.err == nil {
		k := *j
		k.Payload, p.err = payloadOf(p.tx, j.Key)
		j = &k
	}
	p.json(bucketJobs, []byte(j.Key), j)
}

// payloadOf reads the payload of a job that is in the index.
func payloadOf(tx *bolt.Tx, key string) ([]byte, error) {
	sealed := tx.Bucket(bucketJobs).Get([]byte(key))
	if sealed == nil {
		return nil, nil
	}
	v, err := unseal([]byte(key), sealed)
	if err != nil {
		return nil, err
	}
	var j struct{ Payload []byte }
	err = json.Unmarshal(v, &j)
	return j.Payload, err
}

// A skipped is JSON text that is not read.
type skipped struct{}

func (skipped) UnmarshalJSON([]byte) error { return nil }

func (p *putter) located(bucket, key []byte, l *located) {
	if l == nil {
		p.delete(bucket, key)
		return
	}
	b, err := l.encode()
	if err != nil && p.err == nil {
		p.err = err
	}
	p.put(bucket, key, b)
}

// A fileState says what the index knows of the file of a large object.
type fileState int

const (
	fileUnknown fileState = iota
	fileNamed             // an instance has its bytes there
	fileLeft              // one had
)

func (ix *index) ownFile(n uint64) (state fileState, err error) {
	tx, err := ix.begin()
	if err != nil {
		return 0, err
	}
	err = ix.read(tx, func(tx *bolt.Tx) error {
		v := tx.Bucket(bucketFiles).Get(fileKey(n))
		if v == nil {
			return nil
		}
		uid, err := unseal(fileKey(n), v)
		if state = fileNamed; len(uid) == 0 {
			state = fileLeft
		}
		return err
	})
	return state, err
}

// damaged lists the damage that was ever found.
func (ix *index) damaged() (list []Damage, err error) {
	err = ix.each(bucketDamage, func(k, v []byte) error {
		var d Damage
		if err := json.Unmarshal(v, &d); err != nil {
			return err
		}
		list = append(list, d)
		return nil
	})
	return list, err
}

// each calls fn for all pairs of a bucket.
func (ix *index) each(bucket []byte, fn func(k, v []byte) error) error {
	tx, err := ix.begin()
	if err != nil {
		return err
	}
	return ix.read(tx, func(tx *bolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
			b, err := unseal(k, v)
			if err != nil {
				return err
			}
			return fn(k, b)
		})
	})
}

// load fills the job table and the totals.
func (ix *index) load(t *jobTable, sum *totals) error {
	err := ix.each(bucketJobs, func(k, v []byte) error {
		var j struct {
			Job
			Payload skipped `json:"payload"`
		}
		if err := json.Unmarshal(v, &j); err != nil {
			return err
		}
		t.load(j.Job)
		return nil
	})
	if err != nil {
		return err
	}
	tx, err := ix.begin()
	if err != nil {
		return err
	}
	err = ix.read(tx, func(tx *bolt.Tx) error {
		_, err := getJSON(tx, bucketMeta, totalsKey, sum)
		return err
	})
	for queue, n := range sum.Done {
		t.queue(queue).done = n
	}
	return err
}

// getJSON reads the value of a key into v and tells whether there is one.
func getJSON(tx *bolt.Tx, bucket, key []byte, v any) (bool, error) {
	sealed := tx.Bucket(bucket).Get(key)
	if sealed == nil {
		return false, nil
	}
	b, err := unseal(key, sealed)
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("%w: %w", errIndexDamaged, err)
	}
	return true, nil
}

// getDone reads what is remembered of a done job, nil when it is none.
func getDone(tx *bolt.Tx, key string) (*doneJob, error) {
	sealed := tx.Bucket(bucketDone).Get([]byte(key))
	if sealed == nil {
		return nil, nil
	}
	b, err := unseal([]byte(key), sealed)
	if err != nil {
		return nil, err
	}
	queue, study, _ := bytes.Cut(b, []byte{0})
	return &doneJob{string(queue), string(study)}, nil
}

func numberOf(fileKey []byte) (uint64, error) {
	if len(fileKey) != 8 {
		return 0, errIndexDamaged
	}
	return binary.BigEndian.Uint64(fileKey), nil
}
