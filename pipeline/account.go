package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/store"
)

// What became of a received instance is exactly one of these, or of [StateWaiting], [StateQueued], [StateComputed],
// [StateRefused] and [StateFailed]. Whether a report was delivered is told for each destination and is no state of an instance.
//
//   - A contour object is in the least finished state of what it refers to. One that was not looked at yet is waiting.
//   - An image is in the least finished state of the contours that refer to its series, those of other studies too.
//   - Least finished comes first: waiting, queued, failed, refused, computed.
const (
	StateUnmatched   = "unmatched"    // an image whose series no contours refer to, yet
	StateQuarantined = "quarantined"  // kept apart, see [store.Instance.Quarantine]
	StateConflict    = "conflict"     // other bytes under a UID that is taken, kept beside it as evidence
	StateNotMeasured = "not_measured" // kept, and of no use here: reports, plans, doses, segmentations of radnode that came back
)

// InstanceStates are all that an instance can be in, in the order of radnode balance.
var InstanceStates = []string{
	StateUnmatched, StateWaiting, StateQueued, StateComputed, StateRefused, StateFailed, StateQuarantined, StateConflict, StateNotMeasured,
}

// States that are kept beside those of contours.
const (
	stateOwn  = "own"  // of a segmentation that radnode made and that came back
	stateSeen = "seen" // of what a start has looked at, see [matcher.note]
	stateVoid = "void" // of contours on a series that they are not measured on any more
	stateUsed = "used" // of a study whose images contours of another study refer to
)

// leastFinished are the states of contours, the least finished first.
var leastFinished = []string{StateWaiting, StateQueued, StateFailed, StateRefused, StateComputed}

// usedPrefix begins the subject of a state of [stateUsed]; the study of the contours and the subject of their state follow.
const usedPrefix = "used/"

func usedSubject(contourStudy, key string) string { return usedPrefix + contourStudy + "/" + key }

// An Account says what became of everything that was received of a study.
type Account struct {
	Study     string
	Instances map[string]string // SOP Instance UID -> one of InstanceStates; evidence is not among them
	Conflicts int               // instances of evidence beside them: each is in StateConflict
	Stories   []Story           // in order of contours and series
	Touched   time.Time         // when something was last received or decided
	Abroad    []string          // other studies, with contours that refer to images of this one
	Bytes     int64             // of all instances, received and made
}

// A Story is what became of one contour object on one series.
type Story struct {
	Contours string    `json:"contours"`         // SOP Instance UID
	Series   string    `json:"series,omitempty"` // Series Instance UID of the images
	State    string    `json:"state"`
	Rule     string    `json:"rule,omitempty"`    // that let the computation start
	Reason   string    `json:"reason,omitempty"`  // in words
	Missing  []string  `json:"missing,omitempty"` // SOP Instance UIDs that are waited for
	At       time.Time `json:"at,omitzero"`
	Revision int       `json:"revision,omitempty"` // Instance Number of the report
	Images   int       `json:"images,omitempty"`   // that were measured, or are to be
	Reports  []string  `json:"reports,omitempty"`  // SOP Instance UIDs of what stands
	To       []string  `json:"to,omitempty"`       // destinations of that, AET@HOST:PORT
}

// NewAccount reckons a study up. elsewhere are the states of contours in other studies that refer to images of this one.
func NewAccount(study store.Study, elsewhere []store.State) Account {
	a := Account{Study: study.UID, Instances: make(map[string]string)}
	series := make(map[string]string)   // Series Instance UID -> state
	contours := make(map[string]string) // SOP Instance UID -> state
	least := func(of map[string]string, key, name string) {
		if old, ok := of[key]; !ok || slices.Index(leastFinished, name) < slices.Index(leastFinished, old) {
			of[key] = name
		}
	}
	for _, s := range study.States {
		if s.At.After(a.Touched) {
			a.Touched = s.At
		}
		switch {
		case s.Name == stateOwn:
			contours[s.Subject] = StateNotMeasured
		case isStory(s):
			story := storyOf(s)
			a.Stories = append(a.Stories, story)
			least(contours, story.Contours, s.Name)
			if story.Series != "" {
				least(series, story.Series, s.Name)
			}
		}
	}
	for _, s := range elsewhere {
		if s.At.After(a.Touched) {
			a.Touched = s.At
		}
		if isStory(s) {
			least(series, storyOf(s).Series, s.Name)
		}
	}
	for _, in := range study.Instances {
		a.Bytes += in.Size
		a.Conflicts += in.Conflicts
		if in.Received.After(a.Touched) {
			a.Touched = in.Received
		}
		if in.Origin == store.Received {
			a.Instances[in.SOPInstanceUID] = became(in, contours, series)
		}
	}
	return a
}

// became is the state of one instance.
func became(in store.Instance, contours, series map[string]string) string {
	of, referred := series[in.SeriesInstanceUID]
	switch {
	case in.Quarantine != "":
		return StateQuarantined
	case roi.HoldsRegions(in.SOPClassUID):
		return cmp.Or(contours[in.SOPInstanceUID], StateWaiting)
	case slices.Contains([]string{"SR", "KO", "PR", "DOC"}, in.Modality): // writers exist that put them into the series of the images
		return StateNotMeasured
	case referred:
		return of
	case sr.ImageModality(in.Modality):
		return StateUnmatched
	}
	return StateNotMeasured
}

// isStory says whether a state is of contours.
func isStory(s store.State) bool { return slices.Contains(leastFinished, s.Name) }

func storyOf(s store.State) Story {
	d := detailOf(s)
	contours, series, _ := strings.Cut(s.Subject, "/")
	reports := slices.Sorted(maps.Values(d.Documents))
	for _, key := range slices.Sorted(maps.Keys(d.Pages)) {
		reports = append(reports, d.Pages[key]...)
	}
	return Story{
		Contours: contours, Series: cmp.Or(d.Series, series), State: s.Name, Rule: s.Rule, Reason: s.Reason, Missing: s.Missing, At: s.At,
		Revision: d.Revision, Images: d.Images, Reports: reports, To: d.To,
	}
}

// Counts are instances by their state.
func (a Account) Counts() map[string]int {
	n := make(map[string]int)
	for _, name := range a.Instances {
		n[name]++
	}
	if a.Conflicts > 0 {
		n[StateConflict] += a.Conflicts
	}
	return n
}

// Account reckons up a study of the store.
func (p *Pipeline) Account(uid string) (Account, store.Study, error) {
	study, err := p.store.Study(uid)
	if err != nil {
		return Account{}, study, err
	}
	var elsewhere []store.State
	var abroad []string
	for _, s := range study.States {
		of, key, ok := strings.Cut(strings.TrimPrefix(s.Subject, usedPrefix), "/")
		if s.Name != stateUsed || !ok {
			continue
		}
		other, err := p.store.Study(of)
		if errors.Is(err, store.ErrNotFound) {
			continue // it has left
		}
		if err != nil {
			return Account{}, study, err
		}
		abroad = append(abroad, of)
		if state, ok := stateOf(other, key); ok {
			elsewhere = append(elsewhere, state)
		}
	}
	a, err := p.reckon(study, elsewhere)
	a.Abroad = abroad
	return a, study, err
}

// reckon is [NewAccount] with the evidence read: what radnode itself made under a UID that was taken was not received.
func (p *Pipeline) reckon(study store.Study, elsewhere []store.State) (Account, error) {
	a := NewAccount(study, elsewhere)
	if a.Conflicts == 0 {
		return a, nil
	}
	a.Conflicts = 0
	for _, err := range p.evidence(study) {
		if err != nil {
			return a, err
		}
		a.Conflicts++
	}
	return a, nil
}

// evidence is what was received of a study under UIDs that were taken.
func (p *Pipeline) evidence(study store.Study) iter.Seq2[store.Instance, error] {
	return func(yield func(store.Instance, error) bool) {
		for _, in := range study.Instances {
			if in.Conflicts == 0 {
				continue
			}
			kept, err := p.store.Conflicts(in.SOPInstanceUID)
			if err != nil {
				yield(in, err)
				return
			}
			for _, e := range kept {
				if e.Origin == store.Received && !yield(e, nil) {
					return
				}
			}
		}
	}
}

// Totals are sums over all studies.
type Totals struct {
	Instances map[string]int // received ones, by their state
	Studies   int
	Bytes     int64     // of all instances that are here, received and made
	At        time.Time // when they were true; zero before the first count
}

// A tally counts the instances of all studies by their state. Only what has changed is counted again.
type tally struct {
	wanted   chan struct{} // capacity 1: somebody asked for the last totals
	counting sync.Mutex    // held by whoever counts; guards what is in this block

	begun bool                       // every study was counted once
	of    map[string]tallied         // by study
	tells map[string]map[string]bool // study of contours -> those of images, which count as the contours fare

	mu      sync.Mutex // guards what follows
	changed map[string]bool
	last    Totals
}

// A tallied is what a study adds to the totals.
type tallied struct {
	states map[string]int
	bytes  int64
}

// change has a study counted again.
func (t *tally) change(study string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed == nil {
		t.changed = make(map[string]bool)
	}
	t.changed[study] = true
}

// Totals counts. The first call reads every study.
func (p *Pipeline) Totals(ctx context.Context) (Totals, error) {
	t := &p.tally
	t.counting.Lock()
	defer t.counting.Unlock()
	t.mu.Lock()
	changed := t.changed
	t.changed = nil
	t.mu.Unlock()
	if err := p.recount(ctx, changed); err != nil {
		for uid := range changed { // nothing that has changed is forgotten
			t.change(uid)
		}
		return Totals{}, fmt.Errorf("count instances: %w", err)
	}
	sum := Totals{Instances: make(map[string]int), Studies: len(t.of), At: time.Now()}
	for _, of := range t.of {
		sum.Bytes += of.bytes
		for name, n := range of.states {
			sum.Instances[name] += n
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = sum
	return sum, nil
}

// recount reads the studies that have changed, and all of them the first time. tally.counting is held.
func (p *Pipeline) recount(ctx context.Context, changed map[string]bool) error {
	t := &p.tally
	count := func(uid string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		a, _, err := p.Account(uid)
		if errors.Is(err, store.ErrNotFound) {
			delete(t.of, uid)
			return nil
		}
		if err != nil {
			return err
		}
		t.of[uid] = tallied{a.Counts(), a.Bytes}
		for _, contours := range a.Abroad {
			if t.tells[contours] == nil {
				t.tells[contours] = make(map[string]bool)
			}
			t.tells[contours][uid] = true
		}
		return nil
	}
	if !t.begun {
		t.of, t.tells = make(map[string]tallied), make(map[string]map[string]bool)
		for uid, err := range p.store.Studies() {
			if err == nil {
				err = count(uid)
			}
			if err != nil {
				return err
			}
		}
		t.begun = true
	}
	again := maps.Clone(changed)
	for uid := range changed {
		for images := range t.tells[uid] {
			again[images] = true
		}
	}
	for uid := range again {
		if err := count(uid); err != nil {
			return err
		}
	}
	return nil
}

// LastTotals are the same without waiting, as they were at their time. A pipeline that runs brings them up to date in the background.
func (p *Pipeline) LastTotals() Totals {
	t := &p.tally
	select {
	case t.wanted <- struct{}{}:
	default:
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last
}

// keepTotals counts when somebody has asked for the last totals.
func (p *Pipeline) keepTotals(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.tally.wanted:
		}
		if _, err := p.Totals(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn("instances cannot be counted by their state; see to the disk if this goes on", "err", err)
		}
	}
}

// A BalanceDay compares what was received on a day, which the store counts by itself, with what all studies say of it.
type BalanceDay struct {
	Day      string         `json:"day"` // 2026-11-25, UTC
	Received int            `json:"received"`
	Bytes    int64          `json:"bytes"`
	Again    int            `json:"again"`  // came once more with the same bytes; not in Received
	States   map[string]int `json:"states"` // instances that are here, by their state
	Left     map[string]int `json:"left"`   // that are not here any more, by the reason
	// Difference is Received less the sum of States and Left: 0, or something is wrong.
	Difference int `json:"difference"`
}

// balanceTries bounds how often a balance is begun anew because studies left meanwhile.
const balanceTries = 5

// Balance reads every study, a page at a time, and holds what it finds against the count of the store, day by day, oldest
// first. While it reads, instances may arrive: of a day that rises meanwhile it takes what it has read as received where that
// lies between the count before and the count after.
func (p *Pipeline) Balance(ctx context.Context) ([]BalanceDay, error) {
	before, err := p.store.Days()
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		states, err := p.statesByDay(ctx)
		if err != nil {
			return nil, err
		}
		after, err := p.store.Days()
		if err != nil {
			return nil, err
		}
		if try == balanceTries || leftOf(before) == leftOf(after) {
			return balance(before, after, states), nil
		}
		before = after
	}
}

// leftOf is how many instances have left.
func leftOf(days []store.Day) (n int) {
	for _, d := range days {
		for _, left := range d.Left {
			n += left
		}
	}
	return n
}

// balance puts the two sides beside each other.
func balance(before, after []store.Day, states map[string]map[string]int) (out []BalanceDay) {
	type counted struct{ before, after store.Day }
	days := make(map[string]*counted)
	of := func(date string) *counted {
		if days[date] == nil {
			days[date] = &counted{}
		}
		return days[date]
	}
	for _, d := range before {
		of(d.Date).before = d
	}
	for _, d := range after {
		of(d.Date).after = d
	}
	for date := range states {
		of(date)
	}
	for _, date := range slices.Sorted(maps.Keys(days)) {
		d := days[date]
		b := BalanceDay{Day: date, Bytes: d.after.Bytes, Again: d.after.Again, States: states[date], Left: d.after.Left}
		sum := 0
		for _, n := range b.States {
			sum += n
		}
		for _, n := range b.Left {
			sum += n
		}
		b.Received = max(d.before.Received, min(sum, d.after.Received))
		b.Difference = b.Received - sum
		out = append(out, b)
	}
	return out
}

// statesByDay counts instances by the day of their reception and their state.
func (p *Pipeline) statesByDay(ctx context.Context) (map[string]map[string]int, error) {
	days := make(map[string]map[string]int)
	add := func(at time.Time, name string) {
		day := at.UTC().Format(time.DateOnly)
		if days[day] == nil {
			days[day] = make(map[string]int)
		}
		days[day][name]++
	}
	for uid, err := range p.store.Studies() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		a, study, err := p.Account(uid)
		if errors.Is(err, store.ErrNotFound) {
			continue // it has just left
		}
		if err != nil {
			return nil, err
		}
		for _, in := range study.Instances {
			if name, ok := a.Instances[in.SOPInstanceUID]; ok {
				add(in.Received, name)
			}
		}
		for e, err := range p.evidence(study) {
			if err != nil {
				return nil, err
			}
			add(e.Received, StateConflict)
		}
	}
	return days, nil
}
