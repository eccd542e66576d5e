package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// complete fills what an index lacks that comes from a radnode before studies could leave: from its own instances, and from the
// headers and steps of the log for what became of the jobs. But for the numbers of the jobs it is one transaction, without which
// the index stays an old one.
func (ix *index) complete(dir string, segs []segment, logger *slog.Logger) error {
	logger.Info("store: the index is of an older radnode; completing it once")
	born, err := ix.bornJobs(dir, segs)
	if err != nil {
		return err
	}
	if err := ix.number(born); err != nil {
		return err
	}
	return ix.db.Update(func(tx *bolt.Tx) error {
		m, err := readMeta(tx)
		if err != nil {
			return err
		}
		for _, b := range [][]byte{bucketPatients, bucketSums, bucketDays, bucketKeys, bucketLeft, bucketSegments} {
			if err := tx.DeleteBucket(b); err != nil && !errors.Is(err, bolterrors.ErrBucketNotFound) {
				return err
			}
			if _, err := tx.CreateBucket(b); err != nil {
				return err
			}
		}
		p := putter{tx: tx}
		sums, days, sum := make(map[string]*studySum), make(dayTally), totals{Done: make(map[string]int)}
		err = eachLocated(tx, bucketInstances, func(_ []byte, l *located) error {
			e := l.entry
			st := sums[e.Study]
			if st == nil {
				st = &studySum{Patients: make(map[string]int)}
				sums[e.Study] = st
				sum.Studies++
			}
			sum.count(e, 1)
			st.Instances++
			if e.Patient != "" {
				if st.Patients[e.Patient]++; st.Patients[e.Patient] == 1 {
					p.put(bucketPatients, join(e.Patient, e.Study), nil)
				}
			}
			if !e.Computed {
				days.day(dateOf(e.Received)).add(e.counted(), 1)
			}
			return p.err
		})
		if err != nil {
			return err
		}
		var evidence []*located
		err = eachLocated(tx, bucketConflicts, func(_ []byte, l *located) error {
			l.entry.Conflict = true
			evidence = append(evidence, l)
			return nil
		})
		if err != nil {
			return err
		}
		for _, l := range evidence {
			sum.Conflicts++
			sum.Bytes += l.entry.Size
			if !l.entry.Computed {
				days.day(dateOf(l.entry.Received)).add(l.entry.counted(), 1)
			}
			p.located(bucketConflicts, join(l.entry.SOPInstance, string(l.entry.Digest)), l)
		}
		done := make(map[string]string)
		err = tx.Bucket(bucketDone).ForEach(func(k, v []byte) error {
			b, err := unseal(k, v)
			queue, _, _ := bytes.Cut(b, []byte{0})
			done[string(k)] = string(queue)
			return err
		})
		if err != nil {
			return err
		}
		for key, queue := range done {
			sum.Done[queue]++
			p.put(bucketDone, []byte(key), join(queue, born[key].study))
		}
		for key, b := range born {
			if b.at != (location{}) {
				p.put(bucketKeys, join(b.study, key), b.at.append(nil))
			}
		}
		for study, st := range sums {
			p.json(bucketSums, []byte(study), st)
		}
		for date, d := range days {
			p.json(bucketDays, []byte(date), d)
		}
		p.json(bucketMeta, totalsKey, sum)
		if p.err != nil {
			return p.err
		}
		return m.put(tx)
	})
}

// number gives the jobs their numbers, in transactions of their own, since their payloads are written again.
func (ix *index) number(born map[string]birth) error {
	const most = 8 << 20 // bytes in one of them
	for keys := slices.Sorted(maps.Keys(born)); len(keys) > 0; {
		err := ix.db.Update(func(tx *bolt.Tx) error {
			p := putter{tx: tx}
			for n := 0; n < most && len(keys) > 0 && p.err == nil; keys = keys[1:] {
				var j Job
				found, err := getJSON(tx, bucketJobs, []byte(keys[0]), &j)
				if err != nil {
					return err
				}
				if found {
					j.Seq = born[j.Key].seq
					p.json(bucketJobs, []byte(j.Key), &j)
				}
				n += 100 + len(j.Payload)
			}
			return p.err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func eachLocated(tx *bolt.Tx, bucket []byte, fn func(k []byte, l *located) error) error {
	return tx.Bucket(bucket).ForEach(func(k, v []byte) error {
		b, err := unseal(k, v)
		if err != nil {
			return err
		}
		l, err := decodeLocated(b)
		if err != nil {
			return err
		}
		return fn(k, l)
	})
}

type birth struct {
	study string
	at    location
	seq   uint64
}

// bornJobs finds the records that made the jobs which the index knows. Of a job whose record is lost, at is zero.
func (ix *index) bornJobs(dir string, segs []segment) (map[string]birth, error) {
	born := make(map[string]birth)
	err := ix.each(bucketDone, func(k, _ []byte) error {
		born[string(k)] = birth{}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = ix.each(bucketJobs, func(k, _ []byte) error {
		born[string(k)] = birth{}
		return nil
	})
	if err != nil || len(born) == 0 {
		return born, err
	}
	for _, seg := range segs {
		if seg.num > ix.checkpoint.Segment {
			break
		}
		if err := ix.bornIn(dir, seg, born); err != nil {
			return nil, err
		}
	}
	return born, nil
}

func (ix *index) bornIn(dir string, seg segment, born map[string]birth) error {
	f, err := os.Open(filepath.Join(dir, segmentName(seg.id())))
	if err != nil {
		return err
	}
	defer f.Close()
	end := min(seg.end, seg.size)
	if seg.num == ix.checkpoint.Segment {
		end = min(end, ix.checkpoint.Offset)
	}
	return skim(f, segmentHeaderSize, end, ix.marker, false, func(off int64, h recordHeader, read func() ([]byte, error)) error {
		if h.Kind != kindStep {
			return nil
		}
		text, err := read()
		if err != nil {
			return err
		}
		var st step
		if json.Unmarshal(text, &st) != nil {
			return nil // damage, which the log reports
		}
		at := location{seg.id(), off + recordHeaderSize + int64(h.Text)}
		for i := range st.Jobs {
			if b, ok := born[st.Jobs[i].Key]; ok && b.at == (location{}) {
				born[st.Jobs[i].Key] = birth{st.Jobs[i].Study, at, st.sequence(i, at)}
			}
		}
		return nil
	})
}

// An index never gets smaller by itself. It is written anew at start where most of it is free, and where that takes seconds.
const (
	sparseFrom = 64 << 20
	sparseMost = 1 << 30 // of what is to be copied
)

func (ix *index) sparse() bool {
	size := int64(os.Getpagesize())
	return int64(ix.pages)*size > sparseFrom && ix.free > ix.pages/2 && int64(ix.pages-ix.free)*size < sparseMost
}

// shrink writes the index anew without its free pages.
func (ix *index) shrink(noSync bool, logger *slog.Logger) (err error) {
	from, err := bolt.Open(ix.path, 0o640, &bolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer from.Close()
	name := ix.path + ".tmp"
	_ = os.Remove(name)
	to, err := openBolt(name, noSync)
	if err != nil {
		return err
	}
	err = bolt.Compact(to, from, 16<<20)
	if err == nil {
		err = to.Sync()
	}
	if err = errors.Join(err, to.Close()); err != nil {
		_ = os.Remove(name)
		return err
	}
	if err := from.Close(); err != nil { // Windows renames nothing over a file that is open
		return err
	}
	if err := os.Rename(name, ix.path); err != nil {
		_ = os.Remove(name)
		return err
	}
	logger.Info("store: the index has been made smaller", "pages", ix.pages, "free", ix.free)
	return syncDir(filepath.Dir(ix.path))
}
