// Package store keeps all of radnode that survives a restart: the instances that peers sent, byte for byte, the
// instances that radnode made, the state of each study, and the jobs that are still to be done.
//
// The truth is an append-only log of records (record.go, log.go). One goroutine, the committer, gathers all that wants
// to be written, appends it and makes it durable with one fdatasync for the whole group; only then is anybody answered.
// The bbolt index (index.go) is derived from the log: it is written behind it, caught up at start from the log's tail,
// and rebuilt from the whole log when it is missing or damaged. README.md describes the files.
//
// Start at [Open], [Store.Put] and [Store.Commit]; jobs.go has [Store.Claim].
package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
)

// Names inside the data folder. No UID is ever part of a path.
const (
	logDir    = "log"
	largeDir  = "large"
	indexFile = "index.db"
	lockName  = "lock"
)

var (
	// ErrNotFound: no such instance, study or job.
	ErrNotFound = errors.New("not found")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("store is closed")
	// ErrFinished: the job has been done already; nothing of the change was kept.
	ErrFinished = errors.New("job is done already")
	// ErrInUse: another process has the folder open.
	ErrInUse = errors.New("in use by another radnode")
	// ErrBusy: a job of the study is not done.
	ErrBusy = errors.New("a job of the study is not done")
	// ErrLeaseLost: the job is not leased any more, so another worker may have it.
	ErrLeaseLost = errors.New("the lease of the job has ended")
)

// Options of [Open]; the zero value is good.
type Options struct {
	Logger    *slog.Logger // slog.Default() when nil
	Conflicts Policy       // what becomes of other bytes under a UID that is taken; KeepFirst when 0

	// Reserve is how many bytes of the disk are kept for what is queued: new objects are refused before they take them. When 0,
	// a twentieth of the file system, at least 64 MiB and at most 1 GiB, and never more than a quarter of it.
	Reserve int64

	segmentSize int64         // 256 MiB when 0
	largeObject int64         // from this size on an object gets a file of its own; 2 MiB when 0
	disk        *disk         // the real one when nil
	prepared    int64         // space to fill with zeros ahead of the log; what the system profits from when 0
	quiet       time.Duration // before it is filled; a tenth of a second when 0
	calm        time.Duration // without a failure, and a trouble is over; ten seconds when 0
	compact     time.Duration // between two looks at what the log could give back; a minute when 0, never when negative
	small       int64         // what was compacted to no more than this is joined with its neighbours; a sixteenth of a segment when 0
	now         func() time.Time
}

// A Policy says which of several data sets that a peer sent under one SOP Instance UID is the instance. The others are kept beside it
// as evidence, and a warning is logged either way.
type Policy uint8

const (
	// KeepFirst: the one that came first.
	KeepFirst Policy = iota
	// KeepLast: the one that came last, so that a correction is measured. It does not take the place of one that radnode made, nor
	// that of one whose study is another patient's. Bytes that came before, when they come once more, change nothing.
	KeepLast
)

// An Origin says where an instance came from.
type Origin uint8

const (
	Received Origin = iota // from a peer
	Computed               // by radnode
)

func (o Origin) String() string {
	if o == Computed {
		return "computed"
	}
	return "received"
}

// An Instance is what the store knows of one SOP Instance.
type Instance struct {
	SOPInstanceUID    string
	SOPClassUID       string
	StudyInstanceUID  string
	SeriesInstanceUID string
	TransferSyntaxUID string
	PatientID         string // never to be logged
	Modality          string
	SourceAET         string
	Size              int64    // of the data set
	Digest            [32]byte // SHA-256 of the data set's bytes
	Received          time.Time
	Origin            Origin
	Conflicts         int // how many other data sets arrived under the same UID; they are kept as evidence

	// Quarantine says why the instance takes no part in its study, though it is kept; "" when it does. See Release.
	Quarantine string
}

// A State is what became of one subject of a study; the latest for a pair of Study and Subject is the valid one.
type State struct {
	Study   string          `json:"study"`
	Subject string          `json:"subject"` // SOP Instance UID of the contours, or another key
	Name    string          `json:"name"`    // waiting, queued, computed, refused, delivered, ...
	Reason  string          `json:"reason,omitempty"`
	Missing []string        `json:"missing,omitempty"` // SOP Instance UIDs that are waited for
	Rule    string          `json:"rule,omitempty"`
	Detail  json.RawMessage `json:"detail,omitempty"`
	At      time.Time       `json:"at"` // now when zero
}

// A Study is all that is known of one study.
type Study struct {
	UID       string
	Instances []Instance // in order of their UIDs
	States    []State    // in order of their subjects
}

// A NewInstance is one that radnode made.
type NewInstance struct {
	Meta     dicom.FileMeta
	Identity dicom.Identity
	Data     []byte // the data set in Meta.TransferSyntaxUID
}

// A Change is what is to happen in one step: all of it survives, or none.
type Change struct {
	Instances []NewInstance
	Jobs      []Job    // a job whose key was ever used before is left alone
	States    []State  // each replaces the one of the same Study and Subject
	Done      []string // keys of jobs that are finished by this change

	// Lease, when not 0, is that of the job which Done or Park is called for: the change is refused with ErrLeaseLost once another
	// worker has the job.
	Lease uint64
}

// A Store is a data folder that this process alone has open.
type Store struct {
	dir    string
	logger *slog.Logger
	disk   disk
	now    func() time.Time
	large  int64
	policy Policy

	lock  *os.File
	log   *segmentLog
	index *index
	own   ownFiles
	files sharedFiles

	uids uidLocks

	gauge                                  gauge
	logTrouble, largeTrouble, indexTrouble trouble
	watched                                chan struct{} // closed when watchSpace has returned
	refusedMu                              sync.Mutex    // guards refused
	refused                                []*ownFile    // refused, and not to be removed yet, see discard

	flushing sync.Mutex // held while the index is written

	mu       sync.RWMutex // guards all below
	active   *overlay     // applied, and not being written to the index
	frozen   *overlay     // being written to the index; nil when none is
	applied  location     // the end of the last applied group
	freezing location     // the same for frozen
	jobs     jobTable
	totals   totals // but for Done, which jobs counts
	again    again
	unlink   []uint64 // files of large objects that have left
	watches  map[*watch]bool
	damage   []Damage
	closed   bool
	closing  chan struct{} // closed by Close

	stuck       bool          // the last writing of the index failed
	thinner     chan struct{} // closed and replaced when the index was written, or could not be
	overlayMost int

	indexing chan struct{} // capacity 1: active is not empty
	hurry    chan struct{} // capacity 1: active is large
	indexed  chan struct{} // closed when the index goroutine has returned

	compacting  sync.Mutex    // held while the log is compacted
	compactable chan struct{} // capacity 1: something has left
	compacted   chan struct{} // closed when the goroutine that compacts has returned
	every       time.Duration // between two looks
	small       int64         // bytes of a segment that is joined with others
}

// Open opens the data folder dir, which it creates when needed, and brings the index up to date with the log.
func Open(dir string, o Options) (*Store, error) {
	s := &Store{
		dir: dir, logger: o.Logger, disk: realDisk(), now: o.now, large: o.largeObject, policy: o.Conflicts, every: o.compact, small: o.small,
		active: newOverlay(), jobs: newJobTable(), watches: make(map[*watch]bool), closing: make(chan struct{}),
		indexing: make(chan struct{}, 1), hurry: make(chan struct{}, 1), thinner: make(chan struct{}), overlayMost: overlayMost, indexed: make(chan struct{}), watched: make(chan struct{}),
		compactable: make(chan struct{}, 1), compacted: make(chan struct{}),
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	if o.disk != nil {
		s.disk = *o.disk
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.large == 0 {
		s.large = 2 << 20
	}
	if s.every == 0 {
		s.every = time.Minute
	}
	if o.segmentSize == 0 {
		o.segmentSize = 256 << 20
	}
	if s.small == 0 {
		s.small = o.segmentSize / 16
	}
	if o.prepared == 0 {
		o.prepared = prepared
	}
	if o.quiet == 0 {
		o.quiet = 100 * time.Millisecond
	}
	if o.calm == 0 {
		o.calm = 10 * time.Second
	}
	s.gauge = gauge{disk: &s.disk, dir: dir, logger: s.logger, now: s.now, wanted: o.Reserve}
	for t, what := range map[*trouble]string{
		&s.logTrouble:   "the log cannot be written: everything that is sent is refused and nothing goes on",
		&s.largeTrouble: "files of large objects cannot be written: these are refused",
		&s.indexTrouble: "the index cannot be written: it stays in memory and the log has everything",
	} {
		t.what, t.logger, t.now, t.calm = what, s.logger, s.now, o.calm
	}
	if err := s.open(o); err != nil {
		if s.log != nil && s.log.cur != nil {
			_ = s.log.cur.Close()
		}
		if s.index != nil {
			_ = s.index.close()
		}
		if s.lock != nil {
			_ = s.lock.Close()
		}
		return nil, fmt.Errorf("store: %w", err)
	}
	go s.log.run()
	go s.runIndex()
	s.gauge.measure(false) // so that the log says at start where the disk is nearly full
	go s.watchSpace()
	go s.runCompact()
	return s, nil
}

func (s *Store) open(o Options) (err error) {
	for _, d := range []string{s.dir, filepath.Join(s.dir, logDir), filepath.Join(s.dir, largeDir)} {
		if err := s.disk.makeDir(d); err != nil {
			return err
		}
	}
	if err := s.takeLock(); err != nil {
		return err
	}
	s.log = &segmentLog{
		disk: s.disk, dir: filepath.Join(s.dir, logDir), logger: s.logger, maxSize: o.segmentSize,
		prepared: o.prepared, quiet: o.quiet,
		room: s.gauge.room, used: s.gauge.used, trouble: &s.logTrouble, begun: s.dropRefused,
		decide: s.decide, apply: s.applyGroup, wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	s.own.disk, s.own.dir = &s.disk, filepath.Join(s.dir, largeDir)
	s.files = sharedFiles{open: make(map[string]*sharedFile)}

	segs, _, err := s.log.segments()
	if err != nil {
		return err
	}
	if len(segs) == 0 {
		if _, err := os.Stat(filepath.Join(s.dir, indexFile)); err == nil {
			return fmt.Errorf("%s holds an index and no log: restore its folder %s, or move %s away to begin anew", s.dir, logDir, indexFile)
		}
		if err := s.log.create(); err != nil {
			return err
		}
	}
	if s.index, err = openIndex(filepath.Join(s.dir, indexFile), s.log, s.disk.looseIndex, s.logger); err != nil {
		return err
	}
	if err := s.index.load(&s.jobs, &s.totals); err != nil {
		return err
	}
	if err := s.chooseGenerations(); err != nil {
		return err
	}
	s.applied = s.index.checkpoint
	found, err := s.log.recover(s.index.checkpoint, s.replay)
	if err != nil {
		return err
	}
	s.applied = location{s.log.num, s.log.end}
	s.active.damage = append(found, s.index.lost...)
	rebuilt := s.index.rebuilding
	s.index.rebuilding = false
	if err := s.flushIndex(); err != nil {
		if rebuilt || len(s.active.damage) > 0 || errors.Is(err, errIndexDamaged) {
			return fmt.Errorf("index: %w", err)
		}
		// A full disk is no reason not to serve what is here.
		s.indexTrouble.fail(err)
		s.indexing <- struct{}{}
	}
	if s.damage, err = s.index.damaged(); err != nil {
		return err
	}
	for _, d := range s.damage {
		s.logger.Error("store: DAMAGED: bytes that were kept once cannot be read", "file", d.File, "offset", d.Offset, "bytes", d.Length, "reason", d.Reason)
	}
	s.unlink = nil // tidy does it
	return s.own.tidy(s.ownFile, len(s.damage) > 0, s.logger)
}

// takeLock makes sure that no other process has the folder open.
func (s *Store) takeLock() error {
	f, err := os.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	if err := lockFile(f); err != nil {
		_ = f.Close()
		return fmt.Errorf("data folder %s is %w: stop it, or choose another folder (%w)", s.dir, ErrInUse, err)
	}
	s.lock = f
	return nil
}

// Close finishes what was begun, writes the index, and lets go of the folder. Whoever waits is sent away with ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.closed = true
	s.mu.Unlock()
	close(s.closing)
	<-s.compacted
	s.compacting.Lock() // Compact may have been called; it breaks off
	defer s.compacting.Unlock()

	if s.log.written() || s.untold() {
		w := newWrite(record{kind: kindClose, text: []byte("{}")}, nil)
		if err := s.log.submit(w); err != nil {
			s.logger.Warn("store: no closing record", "error", err)
		}
	}
	s.log.stop()
	<-s.indexed
	<-s.watched
	var err error
	for err == nil && s.index.checkpoint != s.applied {
		err = s.flushIndex()
	}
	if err != nil {
		s.logger.Warn("store: index is behind the log; the next start catches up", "error", err)
	}
	s.own.close()
	err = s.index.close()
	if s.log.cur != nil {
		s.log.retire()
	}
	return errors.Join(err, s.lock.Close())
}

// untold tells whether something was counted that the log does not have.
func (s *Store) untold() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.again.counted)+len(s.again.sent) > 0
}

// Damage lists what was durable once and cannot be read any more. It was logged at start.
func (s *Store) Damage() []Damage {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Clone(s.damage)
}

// Put keeps the data set that body carries. It returns nil only when its bytes, its file meta information and its name
// survive a power cut. A *dimse.Status in the error says what to answer to the peer.
//
// The same bytes again are answered nil and kept once; Watch tells of it. Other bytes under a known UID are answered nil too: Policy
// says which are the instance, the others are kept beside it as evidence (see Instance.Conflicts) and a warning is logged. An instance
// of a study whose other instances have another Patient ID (0010,0020) is kept in quarantine, see Instance.Quarantine.
//
// When only Options.Reserve is left of the disk, it is refused before it is read, unless it is already here.
func (s *Store) Put(ctx context.Context, meta dicom.FileMeta, body io.Reader) error {
	if err := s.indexBehind(); err != nil {
		return err
	}
	if full := s.gauge.admit(); full != nil {
		return s.recognise(ctx, meta, body, full)
	}
	in, err := s.receive(ctx, meta, body)
	defer in.release()
	if err != nil {
		return err
	}
	e := newEntry(meta, in.identity)
	e.Size, e.Digest, e.Received = in.size, in.sum(), s.now().UTC()

	unlock := s.uids.lock(e.SOPInstance)
	defer unlock()
	k, first, err := s.classify(&e)
	if err != nil {
		return err
	}
	if k == 0 {
		s.cameAgain(first, &e)
		return nil
	}
	e.Conflict = k == kindConflict
	e.Replaces = e.Conflict && s.policy == KeepLast && !first.entry.Computed
	if in.file != nil {
		if e.File, e.Start, err = in.file.keep(); err != nil {
			return s.largeError("keep a large object", err)
		}
		s.largeTrouble.ok()
	}
	text, err := json.Marshal(&e)
	if err != nil {
		return err
	}
	w := newWrite(record{kind: k, entry: &e, text: text}, in.chunks())
	if err := s.log.submit(w); err != nil {
		if in.file != nil {
			s.discard(in.file, w.undo)
		}
		return err
	}
	if e.Quarantine != "" {
		s.logger.Warn("store: kept in quarantine: an instance whose Patient ID (0010,0020) differs from that of its study; see radnode status",
			"study", e.Study, "sop_instance_uid", e.SOPInstance, "from", e.Source)
	}
	return nil
}

// classify says what e is to the store: an instance, a conflict, or (0) nothing new. first is the instance that has the
// UID already. The UID of e is locked.
func (s *Store) classify(e *entry) (k kind, first *located, err error) {
	first, err = s.find(e.SOPInstance)
	if errors.Is(err, ErrNotFound) {
		return kindInstance, nil, nil
	}
	if err != nil {
		return 0, nil, err
	}
	if string(first.entry.Digest) == string(e.Digest) {
		return 0, first, nil
	}
	known, err := s.conflicts(e.SOPInstance)
	if err != nil {
		return 0, nil, err
	}
	s.logger.Warn("store: other bytes under a SOP Instance UID that is taken; both are kept; see radnode status",
		"sop_instance_uid", e.SOPInstance, "from", e.Source)
	if slices.ContainsFunc(known, func(c *located) bool { return string(c.entry.Digest) == string(e.Digest) }) {
		return 0, first, nil
	}
	return kindConflict, first, nil
}

// cameAgain counts e, which is nothing new, and tells the watchers where it has the bytes of the instance that a peer sent before.
func (s *Store) cameAgain(first *located, e *entry) {
	at := e.Received
	if at.IsZero() { // nothing was to be kept of it anyway
		at = s.now()
	}
	s.countAgain(at)
	if first.entry.Computed || first.entry.Quarantine != "" || string(first.entry.Digest) != string(e.Digest) {
		return // radnode's own, back from an archive, or what takes no part, or evidence once more
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for w := range s.watches {
		w.again(first.entry.Study, first.entry.SOPInstance)
	}
}

// Commit makes c happen in one step; it returns nil only when all of it is durable.
func (s *Store) Commit(ctx context.Context, c Change) error {
	return s.commit(ctx, c, step{})
}

// commit adds c to st and writes it as one record.
func (s *Store) commit(ctx context.Context, c Change, st step) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	uids := make([]string, 0, len(c.Instances))
	for _, in := range c.Instances {
		id := in.Identity
		if err := checkUIDs(id.SOPInstanceUID, id.SOPClassUID, id.StudyInstanceUID, id.SeriesInstanceUID); err != nil {
			return fmt.Errorf("store: %w", err)
		}
		uids = append(uids, id.SOPInstanceUID)
	}
	unlock := s.uids.lock(uids...)
	defer unlock()

	now := s.now().UTC()
	var data [][]byte
	var start int64
	seen := make(map[string]bool)
	for _, in := range c.Instances {
		if seen[in.Identity.SOPInstanceUID] {
			return fmt.Errorf("store: instance %s is twice in one change", in.Identity.SOPInstanceUID)
		}
		seen[in.Identity.SOPInstanceUID] = true
		e := newEntry(in.Meta, in.Identity)
		digest := sha256.Sum256(in.Data)
		e.Size, e.Digest, e.Received, e.Computed = int64(len(in.Data)), digest[:], now, true
		k, _, err := s.classify(&e)
		if err != nil {
			return err
		}
		if k == 0 {
			continue
		}
		e.Start, e.Conflict = start, k == kindConflict
		start += e.Size
		data = append(data, in.Data)
		st.Instances = append(st.Instances, e)
	}
	for _, j := range c.Jobs {
		if j.Key == "" || j.Queue == "" {
			return errors.New("store: a job needs a key and a queue")
		}
		j.RunAt, j.Seq, j.Begun = j.RunAt.Round(0), 0, 0
		j.Payload = slices.Clone(j.Payload) // the index is written later
		if j.RunAt.IsZero() {
			j.RunAt = now
		}
		st.Jobs = append(st.Jobs, j)
	}
	for _, x := range c.States {
		if err := checkUIDs(x.Study); err != nil {
			return fmt.Errorf("store: state: %w", err)
		}
		if x.At.IsZero() {
			x.At = now
		}
		x.Detail, x.Missing = slices.Clone(x.Detail), slices.Clone(x.Missing)
		st.States = append(st.States, x)
	}
	st.Done = append(st.Done, c.Done...)
	st.Decided = true // see decide

	s.mu.RLock()
	err := s.allowed(&st)
	if err == nil && c.Lease != 0 {
		// Here and not when it is applied: who has a job is no part of the log, from which the same must follow.
		err = s.jobs.leased(&st, c.Lease)
	}
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	text, err := json.Marshal(&st)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return s.log.submit(newWrite(record{kind: kindStep, step: &st, text: text}, data))
}

// applyGroup makes a durable group visible, in the order of the log. The committer calls it.
func (s *Store) applyGroup(group []*write, end location) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range group {
		if w.err = s.apply(&w.rec); w == s.again.write {
			s.again.sent, s.again.write = nil, nil
		}
	}
	s.applied = end
	wake(s.indexing)
	if s.active.held > overlaySoon {
		wake(s.hurry)
	}
}

// wake sends to a channel of capacity 1 that somebody waits on, or will.
func wake(ch chan<- struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// replay applies a record that was found in the log at start, when nobody else has the store yet.
func (s *Store) replay(r record) error {
	// A step that was refused after it was written, as it was once done, is refused again, by the same rule and the same history.
	if err := s.apply(&r); err != nil && !errors.Is(err, ErrFinished) && !errors.Is(err, ErrNotFound) {
		return err
	}
	s.applied = r.end
	if s.index.rebuilding && (s.active.records >= replayBatch || s.active.held > overlayFull) {
		return s.flushIndex()
	}
	return nil
}

// replayBatch bounds the memory that a rebuild of the index takes.
const replayBatch = 20_000

// checkUIDs refuses what cannot be a name. It is lenient about leading zeros, which some devices write, and strict
// about every other character.
func checkUIDs(uids ...string) error {
	for _, u := range uids {
		if u == "" {
			return errors.New("a UID is empty")
		}
		if len(u) > 64 {
			return fmt.Errorf("invalid UID %q", u)
		}
		for i := range len(u) {
			if c := u[i]; c != '.' && (c < '0' || c > '9') {
				return fmt.Errorf("invalid UID %q", u)
			}
		}
	}
	return nil
}

// diskError says to the peer and to the log why the data folder does not take any more.
func diskError(doing string, err error) error {
	return fmt.Errorf("store: %s: %w: %w", doing, &dimse.Status{Code: dimse.StatusOutOfResources, Comment: diskComment(err)}, err)
}

// uidLocks lets one caller at a time decide what becomes of a SOP Instance UID.
type uidLocks struct {
	mu   sync.Mutex // guards held
	held map[string]chan struct{}
}

// lock waits until all uids are free and takes them, in order so that no two callers wait for each other.
func (l *uidLocks) lock(uids ...string) (unlock func()) {
	uids = slices.Compact(slices.Sorted(slices.Values(uids)))
	for _, u := range uids {
		for {
			l.mu.Lock()
			if l.held == nil {
				l.held = make(map[string]chan struct{})
			}
			other, taken := l.held[u]
			if !taken {
				l.held[u] = make(chan struct{})
			}
			l.mu.Unlock()
			if !taken {
				break
			}
			<-other
		}
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, u := range uids {
			close(l.held[u])
			delete(l.held, u)
		}
	}
}
