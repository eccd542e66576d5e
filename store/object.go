package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	bolt "go.etcd.io/bbolt"

	"github.com/radnode/radnode/dimse/dicom"
)

// ErrDamaged: the bytes that are read are not those that were received.
var ErrDamaged = errors.New("damaged on disk")

// Instance returns what is known of an instance, or ErrNotFound.
func (s *Store) Instance(sopInstanceUID string) (Instance, error) {
	l, err := s.find(sopInstanceUID)
	if err != nil {
		return Instance{}, fmt.Errorf("store: instance %s: %w", sopInstanceUID, err)
	}
	in := l.entry.instance()
	more, err := s.conflicts(sopInstanceUID)
	in.Conflicts = len(more)
	return in, err
}

// Conflicts returns the instances that arrived under a UID that was taken by other bytes, oldest first.
func (s *Store) Conflicts(sopInstanceUID string) ([]Instance, error) {
	more, err := s.conflicts(sopInstanceUID)
	list := make([]Instance, 0, len(more))
	for _, l := range more {
		list = append(list, l.entry.instance())
	}
	slices.SortFunc(list, func(a, b Instance) int { return a.Received.Compare(b.Received) })
	return list, err
}

// An Object is an instance and the bytes of its data set.
type Object struct {
	Instance
	meta dicom.FileMeta
	data *io.SectionReader
	file *sharedFile
}

// OpenInstance opens the data set of an instance. The caller closes it.
func (s *Store) OpenInstance(uid string) (*Object, error) {
	l, err := s.find(uid)
	if err != nil {
		return nil, fmt.Errorf("store: instance %s: %w", uid, err)
	}
	return s.openLocated(l)
}

// OpenConflict opens the evidence of that digest beside an instance. The caller closes it.
func (s *Store) OpenConflict(uid string, digest [32]byte) (*Object, error) {
	more, err := s.conflicts(uid)
	if err != nil {
		return nil, err
	}
	for _, l := range more {
		if bytes.Equal(l.entry.Digest, digest[:]) {
			return s.openLocated(l)
		}
	}
	return nil, fmt.Errorf("store: conflict of instance %s: %w", uid, ErrNotFound)
}

func (s *Store) openLocated(l *located) (*Object, error) {
	name, off := filepath.Join(s.dir, logDir, segmentName(l.at.Segment)), l.at.Offset
	if l.entry.File != 0 {
		name, off = filepath.Join(s.dir, largeDir, ownName(l.entry.File)), l.entry.Start
	}
	f, err := s.files.get(name)
	if err != nil {
		return nil, fmt.Errorf("store: instance %s: %w", l.entry.SOPInstance, err)
	}
	return &Object{Instance: l.entry.instance(), meta: l.entry.meta(), data: io.NewSectionReader(f, off, l.entry.Size), file: f}, nil
}

// Meta returns the file meta information as it was received.
func (o *Object) Meta() dicom.FileMeta { return o.meta }

// ReadAt reads bytes of the data set; the first is at offset 0.
func (o *Object) ReadAt(b []byte, off int64) (int, error) { return o.data.ReadAt(b, off) }

// Close lets go of the file. It may be called twice.
func (o *Object) Close() error {
	f := o.file
	o.file = nil
	if f == nil {
		return nil
	}
	return f.release()
}

// WriteFile writes the instance as a DICOM file (PS3.10): preamble, meta information, and the data set exactly as it
// was received. When the bytes are not those of Digest any more it says so with ErrDamaged, after it has written them.
func (s *Store) WriteFile(w io.Writer, uid string) error {
	o, err := s.OpenInstance(uid)
	if err != nil {
		return err
	}
	defer o.Close()
	if err := dicom.WriteMeta(w, o.meta); err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), io.NewSectionReader(o, 0, o.Size))
	if err != nil {
		return err
	}
	if n != o.Size || !bytes.Equal(h.Sum(nil), o.Digest[:]) {
		return fmt.Errorf("store: instance %s in %s: %w", uid, o.file.name, ErrDamaged)
	}
	return nil
}

// Study returns a study with its instances and states, or ErrNotFound.
func (s *Store) Study(uid string) (Study, error) {
	instances, states, conflicts := make(map[string]Instance), make(map[string]State), make(map[string]int)
	s.mu.RLock()
	for _, o := range s.overlays() {
		for k, l := range o.studies[uid] {
			instances[k] = l.entry.instance()
		}
		for k, x := range o.states[uid] {
			states[k] = *x
		}
		for k, list := range o.conflicts {
			conflicts[k] += len(list)
		}
	}
	tx, err := s.index.begin() // under the lock: together they are one moment
	s.mu.RUnlock()
	if err != nil {
		return Study{}, err
	}
	err = s.index.read(tx, func(tx *bolt.Tx) error {
		err := eachBelow(tx, bucketStudies, uid, func(sop string, _ []byte) error {
			if _, ok := instances[sop]; ok {
				return nil
			}
			l, err := getLocated(tx, sop)
			if err != nil {
				return err
			}
			instances[sop] = l.entry.instance()
			return nil
		})
		if err != nil {
			return err
		}
		err = eachBelow(tx, bucketStates, uid, func(subject string, v []byte) error {
			if _, ok := states[subject]; ok {
				return nil
			}
			var x State
			if err := json.Unmarshal(v, &x); err != nil {
				return fmt.Errorf("%w: %w", errIndexDamaged, err)
			}
			states[subject] = x
			return nil
		})
		if k, _ := tx.Bucket(bucketConflicts).Cursor().First(); k == nil || err != nil {
			return err
		}
		for sop := range instances {
			if err := eachBelow(tx, bucketConflicts, sop, func(string, []byte) error { conflicts[sop]++; return nil }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Study{}, fmt.Errorf("store: study %s: %w", uid, err)
	}
	if len(instances)+len(states) == 0 {
		return Study{}, fmt.Errorf("store: study %s: %w", uid, ErrNotFound)
	}
	st := Study{UID: uid}
	for _, k := range slices.Sorted(maps.Keys(instances)) {
		in := instances[k]
		in.Conflicts = conflicts[k]
		st.Instances = append(st.Instances, in)
	}
	for _, k := range slices.Sorted(maps.Keys(states)) {
		st.States = append(st.States, states[k])
	}
	return st, nil
}

// eachBelow calls fn for the keys of a bucket whose first part is above, with their second part.
func eachBelow(tx *bolt.Tx, bucket []byte, above string, fn func(below string, v []byte) error) error {
	prefix := join(above, "")
	c := tx.Bucket(bucket).Cursor()
	for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = c.Next() {
		b, err := unseal(k, v)
		if err != nil {
			return err
		}
		if err := fn(string(k[len(prefix):]), b); err != nil {
			return err
		}
	}
	return nil
}

// Studies lists the UIDs of all studies with an instance or a state, in order. What arrives meanwhile may be left out.
func (s *Store) Studies() iter.Seq2[string, error] {
	return paged(func(last string) ([]string, error) {
		page, err := s.studiesAfter(last)
		if err != nil {
			err = fmt.Errorf("store: studies: %w", err)
		}
		return page, err
	})
}

// pageOfStudies is how many UIDs are read at once: a read transaction that lasts keeps the index from reusing its pages.
const pageOfStudies = 500

// paged goes through pages of UIDs, each of those that follow the last one.
func paged(after func(last string) ([]string, error)) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for last := ""; ; {
			page, err := after(last)
			if err != nil {
				yield("", err)
				return
			}
			for _, uid := range page {
				if !yield(uid, nil) {
					return
				}
			}
			if len(page) == 0 {
				return
			}
			last = page[len(page)-1]
		}
	}
}

func (s *Store) studiesAfter(last string) ([]string, error) {
	found := make(map[string]bool)
	s.mu.RLock()
	for _, o := range s.overlays() {
		for uid := range o.studies {
			found[uid] = uid > last
		}
		for uid := range o.states {
			found[uid] = uid > last
		}
	}
	tx, err := s.index.begin()
	s.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(found, func(_ string, after bool) bool { return !after })
	err = s.index.read(tx, func(tx *bolt.Tx) error {
		for _, bucket := range [][]byte{bucketStudies, bucketStates} {
			c, n := tx.Bucket(bucket).Cursor(), 0
			for k, _ := c.Seek(append([]byte(last), 1)); k != nil && n < pageOfStudies; n++ {
				uid, _, _ := bytes.Cut(k, []byte{0})
				found[string(uid)] = true
				k, _ = c.Seek(append(slices.Clone(uid), 1)) // behind all instances of this study
			}
		}
		return nil
	})
	page := slices.Sorted(maps.Keys(found))
	return page[:min(len(page), pageOfStudies)], err
}

// StudiesOf lists the UIDs of all studies with an instance of this Patient ID (0010,0020), in order; of an empty one there
// are none. An ID is unique only together with its issuer, which the index does not know: the caller compares what the
// instances say of their patient. What arrives meanwhile may be left out.
func (s *Store) StudiesOf(patientID string) iter.Seq2[string, error] {
	return paged(func(last string) ([]string, error) {
		page, err := s.studiesOfAfter(patientID, last)
		if err != nil {
			err = fmt.Errorf("store: studies of a patient: %w", err)
		}
		return page, err
	})
}

func (s *Store) studiesOfAfter(patientID, last string) ([]string, error) {
	if patientID == "" {
		return nil, nil
	}
	var found []string
	s.mu.RLock()
	for _, o := range s.overlays() {
		for uid := range o.patients[patientID] {
			if uid > last {
				found = append(found, uid)
			}
		}
	}
	tx, err := s.index.begin()
	s.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	err = s.index.read(tx, func(tx *bolt.Tx) error {
		prefix := join(patientID, "")
		c, n := tx.Bucket(bucketPatients).Cursor(), 0
		for k, v := c.Seek(join(patientID, last)); bytes.HasPrefix(k, prefix) && n < pageOfStudies; k, v = c.Next() {
			if _, err := unseal(k, v); err != nil {
				return err
			}
			uid := string(k[len(prefix):])
			if uid > last && !strings.Contains(uid, "\x00") { // else the key is of an ID that begins like this one
				found = append(found, uid)
				n++
			}
		}
		return nil
	})
	slices.Sort(found)
	found = slices.Compact(found)
	return found[:min(len(found), pageOfStudies)], err
}

// sharedFiles opens each file once, however many of its objects are in use: a study may have thousands.
type sharedFiles struct {
	mu   sync.Mutex // guards open and the counts
	open map[string]*sharedFile
}

type sharedFile struct {
	*os.File
	all  *sharedFiles
	name string
	uses int
}

func (s *sharedFiles) get(name string) (*sharedFile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.open[name]
	if f == nil {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		f = &sharedFile{File: file, all: s, name: name}
		s.open[name] = f
	}
	f.uses++
	return f, nil
}

func (f *sharedFile) release() error {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	if f.uses--; f.uses > 0 {
		return nil
	}
	delete(f.all.open, f.name)
	return f.File.Close()
}
