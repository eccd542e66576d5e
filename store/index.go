package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
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
	bucketDone      = []byte("done")      // key -> queue
	bucketFiles     = []byte("files")     // number of a large object's file -> SOP Instance UID
	bucketDamage    = []byte("damage")    // file, offset -> Damage
	bucketPatients  = []byte("patients")  // Patient ID, Study Instance UID -> nothing; an ID may hold a NUL, so the last one divides

	buckets = [][]byte{bucketMeta, bucketInstances, bucketStudies, bucketConflicts, bucketStates, bucketJobs, bucketDone, bucketFiles, bucketDamage, bucketPatients}
	metaKey = []byte("log")

	// patientsKey -> checkpoint up to which bucketPatients is complete. A radnode that does not know the bucket writes
	// the other checkpoint only, so that the two differ after it.
	patientsKey = []byte("patients")
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
}

// openIndex opens the index at path, or begins an empty one where it is missing, damaged, or of another log.
func openIndex(path string, marker uint64, segs []segment, noSync bool, logger *slog.Logger) (*index, error) {
	var lost []Damage
	if _, err := os.Stat(path); err == nil {
		ix, err := tryIndex(path, marker, segs, noSync, logger)
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
	ix := &index{db: db, path: path, marker: marker, rebuilding: true, lost: lost}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range buckets {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return indexMeta{marker: marker, rebuilding: true}.put(tx)
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
func tryIndex(path string, marker uint64, segs []segment, noSync bool, logger *slog.Logger) (ix *index, err error) {
	if _, err := os.Stat(path + ".rebuild"); err == nil {
		_ = os.Remove(path + ".rebuild")
		return nil, errIndexDamaged
	}
	ix = &index{path: path, marker: marker}
	if err := ix.verify(segs); err != nil {
		return nil, err
	}
	defer catchDamage(&err)
	if ix.db, err = openBolt(path, noSync); err != nil {
		return nil, err
	}
	if err := ix.completePatients(logger); err != nil {
		_ = ix.db.Close()
		return nil, err
	}
	return ix, nil
}

// completePatients fills bucketPatients from the instances where an index comes from a radnode that did not know it.
func (ix *index) completePatients(logger *slog.Logger) error {
	return ix.db.Update(func(tx *bolt.Tx) error {
		m, err := readMeta(tx)
		if err != nil {
			return err
		}
		want := m.checkpoint.append(nil)
		if got, err := unseal(patientsKey, tx.Bucket(bucketMeta).Get(patientsKey)); err == nil && bytes.Equal(got, want) && tx.Bucket(bucketPatients) != nil {
			return nil
		}
		logger.Info("store: the index does not know yet which studies a patient has; reading it through once", "instances", m.instances)
		if err := tx.DeleteBucket(bucketPatients); err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) {
			return err
		}
		if _, err := tx.CreateBucket(bucketPatients); err != nil {
			return err
		}
		p := putter{tx: tx}
		var last string // images of a series have UIDs that follow each other
		err = tx.Bucket(bucketInstances).ForEach(func(k, v []byte) error {
			b, err := unseal(k, v)
			if err != nil {
				return err
			}
			l, err := decodeLocated(b)
			if err != nil {
				return err
			}
			if key := join(l.entry.Patient, l.entry.Study); l.entry.Patient != "" && string(key) != last {
				last = string(key)
				p.put(bucketPatients, key, nil)
			}
			return p.err
		})
		if err != nil {
			return err
		}
		p.put(bucketMeta, patientsKey, want)
		return p.err
	})
}

// catchDamage turns a panic or a page fault inside bbolt into an error: it trusts its pages.
func catchDamage(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%w (%v)", errIndexDamaged, r)
	}
}

// verify reads the whole index before bbolt does.
func (ix *index) verify(segs []segment) error {
	file, err := os.Open(ix.path)
	if err != nil {
		return err
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return err
	}
	counts := make(map[string]uint64)
	var meta []byte
	err = checkPages(file, st.Size(), func(bucket string, k, v []byte) error {
		counts[bucket]++
		v, err := unseal(k, v)
		if bucket == string(bucketMeta) && bytes.Equal(k, metaKey) {
			meta = v
		}
		return err
	})
	if err != nil {
		return err
	}
	m, err := decodeMeta(meta)
	if err != nil {
		return err
	}
	if m.rebuilding {
		return errors.New("its rebuild was interrupted")
	}
	if m.marker != ix.marker {
		return errors.New("it belongs to another log")
	}
	if counts[string(bucketInstances)] != m.instances || counts[string(bucketStudies)] != m.instances {
		return fmt.Errorf("%w: it names %d instances and should name %d", errIndexDamaged, counts[string(bucketInstances)], m.instances)
	}
	ix.checkpoint = m.checkpoint
	if m.checkpoint == (location{}) {
		return nil
	}
	short := &shortLog{Damage{File: filepath.Join(logDir, segmentName(m.checkpoint.Segment)), Length: m.checkpoint.Offset,
		Reason: "the log ends before the point up to which it was indexed"}}
	for _, s := range segs {
		if s.num != m.checkpoint.Segment {
			continue
		}
		end := min(s.end, s.size)
		if m.checkpoint.Offset <= end {
			return nil
		}
		short.Offset, short.Length = end, m.checkpoint.Offset-end
	}
	return short
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
}

func readMeta(tx *bolt.Tx) (indexMeta, error) {
	v, err := unseal(metaKey, tx.Bucket(bucketMeta).Get(metaKey))
	if err != nil {
		return indexMeta{}, err
	}
	return decodeMeta(v)
}

func decodeMeta(v []byte) (indexMeta, error) {
	if len(v) != 33 {
		return indexMeta{}, fmt.Errorf("%w: it does not say how far it goes", errIndexDamaged)
	}
	return indexMeta{
		marker:     binary.LittleEndian.Uint64(v),
		checkpoint: location{binary.LittleEndian.Uint64(v[8:]), int64(binary.LittleEndian.Uint64(v[16:]))},
		instances:  binary.LittleEndian.Uint64(v[24:]),
		rebuilding: v[32] != 0,
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
	return tx.Bucket(bucketMeta).Put(metaKey, seal(metaKey, v))
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

// read runs fn in tx and ends tx. Damage in the index becomes an error and a note to rebuild it at the next start.
func (ix *index) read(tx *bolt.Tx, fn func(tx *bolt.Tx) error) (err error) {
	defer func() {
		if errors.Is(err, errIndexDamaged) {
			_ = os.WriteFile(ix.path+".rebuild", nil, 0o640)
		}
	}()
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

// An overlay holds what was applied and is not in the index yet.
type overlay struct {
	records   int
	instances map[string]*located
	studies   map[string]map[string]*located // study -> SOP Instance UID
	conflicts map[string][]*located
	patients  map[string]map[string]bool   // Patient ID -> study
	states    map[string]map[string]*State // study -> subject
	jobs      map[string]*Job              // as they are now, with the payload where they are new; nil when done
	done      map[string]string            // key -> queue
	damage    []Damage
}

func newOverlay() *overlay {
	return &overlay{
		instances: make(map[string]*located), studies: make(map[string]map[string]*located), conflicts: make(map[string][]*located),
		patients: make(map[string]map[string]bool), states: make(map[string]map[string]*State), jobs: make(map[string]*Job), done: make(map[string]string),
	}
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
	switch r.kind {
	case kindInstance:
		s.addInstance(&located{r.entry, r.at})
	case kindConflict:
		s.active.conflicts[r.entry.SOPInstance] = append(s.active.conflicts[r.entry.SOPInstance], &located{r.entry, r.at})
	case kindStep:
		return s.applyStep(r.step, r.at)
	}
	return nil
}

func (s *Store) addInstance(l *located) {
	e := l.entry
	s.active.instances[e.SOPInstance] = l
	m := s.active.studies[e.Study]
	if m == nil {
		m = make(map[string]*located)
		s.active.studies[e.Study] = m
	}
	m[e.SOPInstance] = l
	if e.Patient != "" && !s.active.patients[e.Patient][e.Study] {
		studies := s.active.patients[e.Patient]
		if studies == nil {
			studies = make(map[string]bool)
			s.active.patients[e.Patient] = studies
		}
		studies[e.Study] = true
	}
	if !e.Computed {
		for w := range s.watches {
			w.arrived(e.instance())
		}
	}
}

func (s *Store) applyStep(st *step, at location) error {
	if err := s.allowed(st); err != nil {
		return err
	}
	for i := range st.Instances {
		e := &st.Instances[i]
		l := &located{e, location{at.Segment, at.Offset + e.Start}}
		if e.Conflict {
			s.active.conflicts[e.SOPInstance] = append(s.active.conflicts[e.SOPInstance], l)
		} else {
			s.addInstance(l)
		}
	}
	for i := range st.States {
		x := &st.States[i]
		m := s.active.states[x.Study]
		if m == nil {
			m = make(map[string]*State)
			s.active.states[x.Study] = m
		}
		m[x.Subject] = x
	}
	for _, key := range st.Done {
		s.active.done[key] = s.jobs.finish(key)
		s.active.jobs[key] = nil
	}
	if r := st.Retry; r != nil {
		s.active.changed(s.jobs.retry(r))
	}
	if p := st.Park; p != nil {
		s.active.changed(s.jobs.park(p))
	}
	if st.Begin != "" {
		s.active.changed(s.jobs.begin(st.Begin))
	}
	if st.GiveBack != "" {
		s.active.changed(s.jobs.giveBack(st.GiveBack))
	}
	for i := range st.Jobs {
		known, err := s.known(st.Jobs[i].Key)
		if err != nil {
			// The record is durable and the next start applies it, with an index that is whole again.
			s.logger.Error("store: cannot look up a job", "key", st.Jobs[i].Key, "error", err)
			continue
		}
		if !known {
			j := st.Jobs[i]
			if j.State = Pending; j.Seq == 0 {
				j.Seq = at.sequence() - uint64(len(st.Jobs)-i)
			}
			s.jobs.add(j)
			s.active.jobs[j.Key] = &j
		}
	}
	return nil
}

// sequence bounds the numbers of what is created by the record whose data are here: they are below it, and above those of the
// records before, since the text in front of the data is longer than there are jobs in it. A replay of the log gives the same.
func (l location) sequence() uint64 { return l.Segment<<40 + uint64(l.Offset) }

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

// known tells whether a job of this key exists or ever did. s.mu is held.
func (s *Store) known(key string) (bool, error) {
	if s.jobs.has(key) {
		return true, nil
	}
	for _, o := range s.overlays() {
		if _, ok := o.done[key]; ok {
			return true, nil
		}
	}
	tx, err := s.index.begin()
	if err != nil {
		return false, err
	}
	found := false
	err = s.index.read(tx, func(tx *bolt.Tx) error {
		found = tx.Bucket(bucketDone).Get([]byte(key)) != nil
		return nil
	})
	return found, err
}

// find returns the instance of this UID.
func (s *Store) find(uid string) (*located, error) {
	s.mu.RLock()
	for _, o := range s.overlays() {
		if l := o.instances[uid]; l != nil {
			s.mu.RUnlock()
			return l, nil
		}
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
	var found []*located
	for _, o := range s.overlays() {
		found = append(found, o.conflicts[uid]...)
	}
	tx, err := s.index.begin()
	s.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	err = s.index.read(tx, func(tx *bolt.Tx) error {
		return eachBelow(tx, bucketConflicts, uid, func(_ string, v []byte) error {
			l, err := decodeLocated(v)
			found = append(found, l)
			return err
		})
	})
	return found, err
}

// indexDelay is how long a record may wait for company before it is written to the index. Nobody waits for that: until
// then it is found in the overlay.
const (
	indexDelay = 250 * time.Millisecond
	indexRetry = 2 * time.Second
)

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
			t := time.NewTimer(delay)
			select {
			case <-t.C:
			case <-s.closing:
				t.Stop()
				return
			}
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
	s.mu.Lock()
	if s.frozen == nil {
		s.frozen, s.active = s.active, newOverlay()
		s.freezing = s.applied
	}
	o, end := s.frozen, s.freezing
	s.mu.Unlock()

	err := s.index.write(o, end)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.frozen = nil
	s.mu.Unlock()
	return nil
}

func (ix *index) write(o *overlay, end location) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if errors.Is(err, errIndexDamaged) {
			_ = os.WriteFile(ix.path+".rebuild", nil, 0o640)
		}
	}()
	defer catchDamage(&err)
	err = ix.db.Update(func(tx *bolt.Tx) error {
		m, err := readMeta(tx)
		if err != nil {
			return err
		}
		p := putter{tx: tx}
		for uid, l := range o.instances {
			p.located(bucketInstances, []byte(uid), l)
			p.put(bucketStudies, join(l.entry.Study, uid), nil)
		}
		for uid, ls := range o.conflicts {
			for _, l := range ls {
				p.located(bucketConflicts, join(uid, string(l.entry.Digest)), l)
			}
		}
		for patient, studies := range o.patients {
			for study := range studies {
				p.put(bucketPatients, join(patient, study), nil)
			}
		}
		for study, subjects := range o.states {
			for subject, st := range subjects {
				p.json(bucketStates, join(study, subject), st)
			}
		}
		for key, j := range o.jobs {
			if j == nil {
				p.delete(bucketJobs, []byte(key))
			} else {
				p.job(j)
			}
		}
		for key, queue := range o.done {
			p.put(bucketDone, []byte(key), []byte(queue))
		}
		for _, d := range o.damage {
			p.json(bucketDamage, join(d.File, strconv.FormatInt(d.Offset, 10)), d)
		}
		p.put(bucketMeta, patientsKey, end.append(nil))
		if p.err != nil {
			return p.err
		}
		m.instances += uint64(len(o.instances))
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
	b, err := l.encode()
	if err != nil && p.err == nil {
		p.err = err
	}
	p.put(bucket, key, b)
	if l.entry.File != 0 {
		p.put(bucketFiles, fileKey(l.entry.File), []byte(l.entry.SOPInstance))
	}
}

// ownFile tells whether an instance has its bytes in the large object file of this number.
func (ix *index) ownFile(n uint64) (bool, error) {
	tx, err := ix.begin()
	if err != nil {
		return false, err
	}
	found := false
	err = ix.read(tx, func(tx *bolt.Tx) error {
		found = tx.Bucket(bucketFiles).Get(fileKey(n)) != nil
		return nil
	})
	return found, err
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

// load fills the job table.
func (ix *index) load(t *jobTable) error {
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
	return ix.each(bucketDone, func(k, v []byte) error {
		t.queue(string(v)).done++
		return nil
	})
}
