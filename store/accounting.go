package store

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// A Day counts what peers sent on one day, by the time of reception in UTC. Received is the sum of what is still here and
// of Left. All of it follows from the log. Again alone is written without a sync of its own, with whatever is written next and
// at Close: a power cut may lose the last of it.
type Day struct {
	Date      string         `json:"date"`                // 2026-11-25
	Received  int            `json:"received,omitempty"`  // answered Success and kept, once each: instances and conflicts
	Conflicts int            `json:"conflicts,omitempty"` // of Received: other bytes under a UID that was taken
	Again     int            `json:"again,omitempty"`     // answered Success though nothing new came; not in Received
	Bytes     int64          `json:"bytes,omitempty"`     // of the data sets of Received
	Left      map[string]int `json:"left,omitempty"`      // of Received: not here any more, by the reason given to Leave or Discard
}

const dateLayout = "2006-01-02"

func dateOf(at time.Time) string { return at.UTC().Format(dateLayout) }

// add adds o times sign, which is 1 or -1.
func (d *Day) add(o *Day, sign int) {
	d.Received += sign * o.Received
	d.Conflicts += sign * o.Conflicts
	d.Again += sign * o.Again
	d.Bytes += int64(sign) * o.Bytes
	for reason, n := range o.Left {
		if d.Left == nil {
			d.Left = make(map[string]int)
		}
		if d.Left[reason] += sign * n; d.Left[reason] == 0 {
			delete(d.Left, reason)
		}
	}
}

func (d *Day) clone() *Day {
	c := *d
	c.Left = maps.Clone(d.Left)
	return &c
}

// A dayTally is several days by date.
type dayTally map[string]*Day

func (t dayTally) day(date string) *Day {
	d := t[date]
	if d == nil {
		d = &Day{Date: date}
		t[date] = d
	}
	return d
}

func (t dayTally) add(o dayTally, sign int) {
	for date, d := range o {
		t.day(date).add(d, sign)
		if n := t[date]; n.Received == 0 && n.Again == 0 && len(n.Left) == 0 {
			delete(t, date)
		}
	}
}

func (t dayTally) clone() dayTally {
	c := make(dayTally, len(t))
	for date, d := range t {
		c[date] = d.clone()
	}
	return c
}

func (t dayTally) list() []Day {
	var list []Day
	for _, date := range slices.Sorted(maps.Keys(t)) {
		list = append(list, *t[date])
	}
	return list
}

// Days lists the days on which something was received, oldest first.
func (s *Store) Days() ([]Day, error) {
	found := make(dayTally)
	s.mu.RLock()
	for _, o := range s.overlays() {
		for date, d := range o.days {
			found[date] = d.clone()
		}
	}
	again := maps.Clone(s.again.counted)
	for date, n := range s.again.sent {
		if again == nil {
			again = make(map[string]int)
		}
		again[date] += n
	}
	tx, err := s.index.begin()
	s.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	err = s.index.read(tx, func(tx *bolt.Tx) error {
		return tx.Bucket(bucketDays).ForEach(func(k, _ []byte) error {
			if found[string(k)] != nil {
				return nil
			}
			d := new(Day)
			found[string(k)] = d
			_, err := getJSON(tx, bucketDays, k, d)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("store: days: %w", err)
	}
	for date, n := range again {
		found.day(date).Again += n
	}
	list := found.list()
	for i := range list {
		if len(list[i].Left) == 0 {
			list[i].Left = nil
		}
	}
	return list, nil
}

// A Usage says how much a store holds.
type Usage struct {
	Studies     int // with at least one instance
	Instances   int
	Computed    int   // of Instances: made by radnode
	Quarantined int   // of Instances
	Conflicts   int   // other data sets kept beside instances
	Bytes       int64 // of the data sets of instances and conflicts
	Disk        int64 // of all files of the data folder
	Dead        int64 // of Disk: of what has left and comes back when the log is compacted, about

	Oldest time.Time // the day of reception (UTC) of the oldest that a peer sent and that is still here; zero when nothing is
}

// Usage sums the store up. It looks at the sizes of its files, and at no instance.
func (s *Store) Usage() (Usage, error) {
	s.mu.RLock()
	t := s.totals
	s.mu.RUnlock()
	u := Usage{Studies: t.Studies, Instances: t.Instances, Computed: t.Computed, Quarantined: t.Quarantined, Conflicts: t.Conflicts, Bytes: t.Bytes}
	days, err := s.Days()
	if err != nil {
		return u, err
	}
	for _, d := range days {
		here := d.Received
		for _, n := range d.Left {
			here -= n
		}
		if here > 0 {
			u.Oldest, _ = time.Parse(dateLayout, d.Date)
			break
		}
	}
	sums, err := s.segmentSums()
	if err != nil {
		return u, err
	}
	for _, sum := range sums {
		u.Dead += sum.Dead
	}
	for _, dir := range []string{".", logDir, largeDir} {
		list, err := os.ReadDir(filepath.Join(s.dir, dir))
		if err != nil {
			return u, err
		}
		for _, de := range list {
			if st, err := de.Info(); err == nil && st.Mode().IsRegular() {
				u.Disk += st.Size()
			}
		}
	}
	return u, nil
}

// totals are counted along and kept in the index.
type totals struct {
	Studies     int            `json:"studies"`
	Instances   int            `json:"instances"`
	Computed    int            `json:"computed"`
	Quarantined int            `json:"quarantined"`
	Conflicts   int            `json:"conflicts"`
	Bytes       int64          `json:"bytes"`
	Done        map[string]int `json:"done"` // remembered keys of done jobs, by queue
}

// count adds an instance, or takes it away with sign -1.
func (t *totals) count(e *entry, sign int) {
	t.Instances += sign
	t.Bytes += int64(sign) * e.Size
	if e.Computed {
		t.Computed += sign
	}
	if e.Quarantine != "" {
		t.Quarantined += sign
	}
}

// totalsNow is what goes to the index. s.mu is held.
func (s *Store) totalsNow() totals {
	t := s.totals
	t.Done = make(map[string]int)
	for name, q := range s.jobs.queues {
		if q.done > 0 {
			t.Done[name] = q.done
		}
	}
	return t
}

// A studySum is what has to be known of a study without reading its instances.
type studySum struct {
	Instances int            `json:"n"`
	Patients  map[string]int `json:"patients,omitempty"` // instances by Patient ID; without those in quarantine and those that have none
}

func (s *studySum) clone() *studySum { return &studySum{s.Instances, maps.Clone(s.Patients)} }

// A segmentSum is what has to be known of a segment when it is compacted.
type segmentSum struct {
	Generation uint16   `json:"generation,omitempty"`
	Stamp      uint64   `json:"stamp,omitempty"` // of the header
	Dead       int64    `json:"dead,omitempty"`  // bytes of what left, about
	Days       dayTally `json:"days,omitempty"`  // what left, to be counted on when it is not in the segment any more
}

func (s *segmentSum) clone() *segmentSum {
	return &segmentSum{Generation: s.Generation, Stamp: s.Stamp, Dead: s.Dead, Days: s.Days.clone()}
}

// counted finds a value in the active overlay to be changed. It is brought there from below when this is the first change since
// the last writing of the index. s.mu is held for writing.
func counted[K comparable, V any](s *Store, part func(*overlay) map[K]*V, k K, bucket, key []byte, clone func(*V) *V) *V {
	if v := part(s.active)[k]; v != nil {
		return v
	}
	v, err := lookUp(s, part, k, bucket, key)
	if err != nil {
		s.trouble(err)
	}
	if v = clone(v); v != nil {
		part(s.active)[k] = v
	}
	return v
}

// lookUp finds a value to be read only, an empty one when there is none. s.mu is held.
func lookUp[K comparable, V any](s *Store, part func(*overlay) map[K]*V, k K, bucket, key []byte) (*V, error) {
	for _, o := range slices.Backward(s.overlays()) {
		if v := part(o)[k]; v != nil {
			return v, nil
		}
	}
	v := new(V)
	err := s.readHeld(func(tx *bolt.Tx) error {
		_, err := getJSON(tx, bucket, key, v)
		return err
	})
	return v, err
}

func (s *Store) sum(study string) *studySum {
	return counted(s, func(o *overlay) map[string]*studySum { return o.sums }, study, bucketSums, []byte(study), (*studySum).clone)
}

func (s *Store) day(date string) *Day {
	d := counted(s, func(o *overlay) map[string]*Day { return o.days }, date, bucketDays, []byte(date), (*Day).clone)
	d.Date = date
	return d
}

func (s *Store) segment(number uint64) *segmentSum {
	return counted(s, func(o *overlay) map[uint64]*segmentSum { return o.segments }, number, bucketSegments, fileKey(number), (*segmentSum).clone)
}

// segmentSums returns what is known of each segment that something left or that was rewritten.
func (s *Store) segmentSums() (map[uint64]*segmentSum, error) {
	found := make(map[uint64]*segmentSum)
	s.mu.RLock()
	for _, o := range s.overlays() {
		for n, sum := range o.segments {
			found[n] = sum.clone()
		}
	}
	tx, err := s.index.begin()
	s.mu.RUnlock()
	if err != nil {
		return nil, err
	}
	err = s.index.read(tx, func(tx *bolt.Tx) error {
		return tx.Bucket(bucketSegments).ForEach(func(k, _ []byte) error {
			n, err := numberOf(k)
			if err != nil || found[n] != nil {
				return err
			}
			found[n] = new(segmentSum)
			_, err = getJSON(tx, bucketSegments, k, found[n])
			return err
		})
	})
	return found, err
}

// received counts what a peer sent, on its day.
func (s *Store) received(l *located) {
	if e := l.entry; !e.Computed {
		s.day(dateOf(e.Received)).add(e.counted(), 1)
	}
}

// counted is what an instance or conflict that a peer sent adds to its day.
func (e *entry) counted() *Day {
	d := &Day{Received: 1, Bytes: e.Size}
	if e.Conflict {
		d.Conflicts = 1
	}
	return d
}

// departed counts what leaves, and gives its file up.
func (s *Store) departed(l *located, reason string) {
	e := l.entry
	sum := s.segment(segmentNumber(l.at.Segment))
	sum.Dead += recordHeaderSize + textGuess
	if e.File == 0 {
		sum.Dead += e.Size
	} else {
		s.active.files[e.File] = ""
		s.unlink = append(s.unlink, e.File)
	}
	if e.Computed {
		return
	}
	left := &Day{Left: map[string]int{reason: 1}}
	s.day(dateOf(e.Received)).add(left, 1)
	if sum.Days == nil {
		sum.Days = make(dayTally)
	}
	d := sum.Days.day(dateOf(e.Received))
	d.add(e.counted(), 1)
	d.add(left, 1)
}

// textGuess is about how long the text of an instance is.
const textGuess = 450

// again counts what was answered Success though nothing new came. Store.mu guards it.
type again struct {
	counted map[string]int // by date; not written yet
	sent    map[string]int // on its way to the log
	write   *write         // with sent
}

// countAgain counts one.
func (s *Store) countAgain(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.again.counted == nil {
		s.again.counted = make(map[string]int)
	}
	s.again.counted[dateOf(at)]++
}

// tally makes the record of what was counted since the last; nil when there was nothing. s.mu is held for writing.
func (s *Store) tally() *write {
	a := &s.again
	if a.write != nil { // its group failed, or it would have been applied
		for date, n := range a.sent {
			if a.counted == nil {
				a.counted = make(map[string]int)
			}
			a.counted[date] += n
		}
		a.sent, a.write = nil, nil
	}
	if len(a.counted) == 0 {
		return nil
	}
	t := new(tally)
	for date, n := range a.counted {
		t.Days = append(t.Days, Day{Date: date, Again: n})
	}
	slices.SortFunc(t.Days, func(a, b Day) int { return cmp.Compare(a.Date, b.Date) })
	text, err := json.Marshal(t)
	if err != nil {
		return nil
	}
	a.sent, a.counted = a.counted, nil
	a.write = newWrite(record{kind: kindClose, tally: t, text: text}, nil)
	return a.write
}
