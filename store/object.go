package store

import (
	"bytes"
	"cmp"
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
	slices.SortFunc(list, func(a, b Instance) int {
		return cmp.Or(a.Received.Compare(b.Received), bytes.Compare(a.Digest[:], b.Digest[:]))
	})
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
	o, err := s.openFound(func() (*located, error) { return s.find(uid) })
	if err != nil {
		return nil, fmt.Errorf("store: instance %s: %w", uid, err)
	}
	return o, nil
}

// OpenConflict opens the evidence of that digest beside an instance. The caller closes it.
func (s *Store) OpenConflict(uid string, digest [32]byte) (*Object, error) {
	o, err := s.openFound(func() (*located, error) {
		more, err := s.conflicts(uid)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(more, func(l *located) bool { return bytes.Equal(l.entry.Digest, digest[:]) })
		if i < 0 {
			return nil, ErrNotFound
		}
		return more[i], nil
	})
	if err != nil {
		return nil, fmt.Errorf("store: conflict of instance %s: %w", uid, err)
	}
	return o, nil
}

// openFound opens what find finds. When its file is gone, it left or its segment was rewritten since, and it is looked up anew.
func (s *Store) openFound(find func() (*located, error)) (*Object, error) {
	for tries := 0; ; tries++ {
		l, err := find()
		if err != nil {
			return nil, err
		}
		o, err := s.openLocated(l)
		if err == nil || !isNotExist(err) || tries == 3 {
			return o, err
		}
	}
}

func (s *Store) openLocated(l *located) (*Object, error) {
	name, off := filepath.Join(s.dir, logDir, segmentName(l.at.Segment)), l.at.Offset
	if l.entry.File != 0 {
		name, off = filepath.Join(s.dir, largeDir, ownName(l.entry.File)), l.entry.Start
	}
	f, err := s.files.get(name)
	if err != nil {
		return nil, err
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
	s.mu.RLock()
	overlays := s.overlays()
	instances := overlaid(overlays, func(o *overlay) map[string]*located { return o.studies[uid] })
	states := overlaid(overlays, func(o *overlay) map[string]*State { return o.states[uid] })
	conflicts := make(map[string]map[string]*located)
	for _, o := range overlays {
		for sop, list := range o.conflicts {
			if conflicts[sop] == nil {
				conflicts[sop] = make(map[string]*located)
			}
			maps.Copy(conflicts[sop], list)
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
			instances[sop], err = getLocated(tx, sop)
			return err
		})
		if err != nil {
			return err
		}
		err = eachBelow(tx, bucketStates, uid, func(subject string, v []byte) error {
			if _, ok := states[subject]; ok {
				return nil
			}
			x := new(State)
			if err := json.Unmarshal(v, x); err != nil {
				return fmt.Errorf("%w: %w", errIndexDamaged, err)
			}
			states[subject] = x
			return nil
		})
		if k, _ := tx.Bucket(bucketConflicts).Cursor().First(); k == nil || err != nil {
			return err
		}
		for sop := range instances {
			err := eachBelow(tx, bucketConflicts, sop, func(digest string, _ []byte) error {
				if _, ok := conflicts[sop][digest]; !ok {
					set(conflicts, sop, digest, &located{})
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Study{}, fmt.Errorf("store: study %s: %w", uid, err)
	}
	maps.DeleteFunc(instances, func(_ string, l *located) bool { return l == nil })
	maps.DeleteFunc(states, func(_ string, x *State) bool { return x == nil })
	if len(instances)+len(states) == 0 {
		return Study{}, fmt.Errorf("store: study %s: %w", uid, ErrNotFound)
	}
	st := Study{UID: uid}
	for _, k := range slices.Sorted(maps.Keys(instances)) {
		in := instances[k].entry.instance()
		in.Conflicts = len(there(conflicts[k]))
		st.Instances = append(st.Instances, in)
	}
	for _, k := range slices.Sorted(maps.Keys(states)) {
		st.States = append(st.States, *states[k])
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
	// A study that left may have come again, so each pair counts for itself.
	unwritten := make(map[string]bool) // bucket's key -> there; only of what the overlays speak of
	s.mu.RLock()
	for _, o := range s.overlays() {
		for uid, list := range o.studies {
			for sop, l := range list {
				unwritten["i"+string(join(uid, sop))] = l != nil
			}
		}
		for uid, list := range o.states {
			for subject, x := range list {
				unwritten["s"+string(join(uid, subject))] = x != nil
			}
		}
	}
	tx, err := s.index.begin()
	s.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	found := make(map[string]bool)
	for k, there := range unwritten {
		if uid, _, _ := strings.Cut(k[1:], "\x00"); there && uid > last {
			found[uid] = true
		}
	}
	err = s.index.read(tx, func(tx *bolt.Tx) error {
		for kind, bucket := range map[string][]byte{"i": bucketStudies, "s": bucketStates} {
			c, n := tx.Bucket(bucket).Cursor(), 0
			for k, _ := c.Seek(append([]byte(last), 1)); k != nil && n < pageOfStudies; {
				if there, ok := unwritten[kind+string(k)]; ok && !there {
					k, _ = c.Next()
					continue
				}
				uid, _, _ := bytes.Cut(k, []byte{0})
				found[string(uid)] = true
				n++
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
	unwritten := overlaid(s.overlays(), func(o *overlay) map[string]bool { return o.patients[patientID] })
	tx, err := s.index.begin()
	s.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	for uid, there := range unwritten {
		if there && uid > last {
			found = append(found, uid)
		}
	}
	err = s.index.read(tx, func(tx *bolt.Tx) error {
		prefix := join(patientID, "")
		c, n := tx.Bucket(bucketPatients).Cursor(), 0
		for k, v := c.Seek(join(patientID, last)); bytes.HasPrefix(k, prefix) && n < pageOfStudies; k, v = c.Next() {
			if _, err := unseal(k, v); err != nil {
				return err
			}
			uid := string(k[len(prefix):])
			if there, ok := unwritten[uid]; ok && !there {
				continue
			}
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
