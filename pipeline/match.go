package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline/imaging"
	"github.com/radnode/radnode/pipeline/panics"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/store"
)

// Rules by which a computation starts. The state of each study says which one applied.
const (
	// RuleNamed: the contours list the images of the series (RT Referenced Series Sequence (3006,0014), or Referenced Series
	// Sequence (0008,1115) of a segmentation) and all of them are durable. It starts at once, whatever the order of arrival.
	RuleNamed = "all named images are here"
	// RuleConsistent: the contours name only the slices they are drawn on, or none. All of those are durable, and the series has as many
	// images as it announces, Number of Series Related Instances (0020,1209).
	RuleConsistent = "all named images are here, and the series is complete by its own count"
	// RuleQuiet is the fallback: nothing new came for the quiet period, and the images that are here form a series without
	// gaps. It applies where the contours name only the slices they are drawn on, or none, and the images do not announce their number, or
	// where the series is here but none of the named images is: their UIDs were changed on the way.
	RuleQuiet = "nothing new for the quiet period, and the series has no gaps"
)

// Names of a state, as the store keeps them.
const (
	StateWaiting  = "waiting"  // for images
	StateQueued   = "queued"   // to be computed
	StateComputed = "computed" // the report is in the store
	StateRefused  = "refused"  // cannot be measured, and why
	StateFailed   = "failed"   // given up after several tries
)

// detail is what a state remembers for the next look.
type detail struct {
	Series       string            `json:"series,omitempty"` // Series Instance UID of the images
	Input        string            `json:"input,omitempty"`  // digest of the contour object and the images
	Images       int               `json:"images,omitempty"`
	Documents    map[string]string `json:"documents,omitempty"`    // SOP Instance UIDs of the reports that stand, by [Style.key]
	Segmentation string            `json:"segmentation,omitempty"` // SOP Instance UID
	To           []string          `json:"to,omitempty"`           // destinations of all these, AET@HOST:PORT
	Revision     int               `json:"revision,omitempty"`     // Instance Number of the report
	Took         *Timing           `json:"took,omitempty"`

	Pages map[string][]string `json:"pages,omitempty"` // SOP Instance UIDs of PDF and captures, by [Style.key]

	Codes  []refusal.Code `json:"codes,omitempty"`  // why nothing, or not every region, was measured
	Config string         `json:"config,omitempty"` // digest of all that was configured
	Shape  string         `json:"shape,omitempty"`  // of a report: digest of what of it applied, see [shape]
	Job    string         `json:"job,omitempty"`    // key of the one that was given up
	Seen   string         `json:"seen,omitempty"`   // what was there when it was decided, see [matcher.seen]
}

func detailOf(s store.State) (d detail) {
	_ = json.Unmarshal(s.Detail, &d) // a detail that cannot be read counts as none: the study is looked at afresh
	return d
}

func (d detail) raw() json.RawMessage {
	b, err := json.Marshal(d)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}

// A matcher looks at studies and decides what can be computed. One goroutine runs it and owns all its fields.
type matcher struct {
	p       *Pipeline
	waiting waiters
	calm    map[string]bool      // studies in which nothing is decided by an image that no waiter lacks; forgetting one is harmless
	again   *time.Timer          // fires at the earliest of due
	due     map[string]time.Time // study -> when to look at it again: its quiet period ends, or what it lacks has changed
	resent  map[string]*resent   // study -> what of it came again and was not looked at yet
	asOf    time.Time            // when the study was read that is looked at
	asked   *resent              // what of it was sent again; nil: it is looked at for another reason
	used    map[string]bool      // states of [stateUsed] that are in the store, by study and subject; forgetting one is harmless
	pokes   pokes
	seen    string // what the contour object is decided by that is looked at, see seenOf
}

// What is resent is what a peer sent once more: the way to ask for a report by the present configuration.
type resent struct {
	due    time.Time       // when to look at it; the rest of the study is likely to follow at once
	uids   map[string]bool // SOP Instance UIDs
	series map[string]bool // of those that are no contours
}

// of says whether contours, or images of the series that they were measured on, came again.
func (r *resent) of(contours, series string) bool {
	return r != nil && (r.uids[contours] || r.series[series])
}

// A waiter is a contour object that is not complete, with what it names, read once.
type waiter struct {
	study string
	bytes [32]byte // digest of the contour object
	refs  []roi.Reference
	lacks map[string]bool // named images that are not here
	other bool            // something besides named images decides: the rest of a series, a quiet period, a report that stands
}

// waiters are found by what they wait for: an image that comes is not held against each of thousands.
type waiters struct {
	all    map[string]*waiter          // by SOP Instance UID of the contour object
	lack   map[string]map[*waiter]bool // by SOP Instance UID of an image
	series map[string]map[*waiter]bool // by Series Instance UID that they name
}

func newWaiters() waiters {
	return waiters{map[string]*waiter{}, map[string]map[*waiter]bool{}, map[string]map[*waiter]bool{}}
}

// set replaces the waiter of a contour object; nil: it does not wait any more.
func (ws *waiters) set(contours string, w *waiter) {
	if old := ws.all[contours]; old != nil {
		delete(ws.all, contours)
		for uid := range old.lacks {
			ws.forget(ws.lack, uid, old)
		}
		for _, r := range old.refs {
			ws.forget(ws.series, r.SeriesUID, old)
		}
	}
	if w == nil {
		return
	}
	ws.all[contours] = w
	for uid := range w.lacks {
		ws.note(ws.lack, uid, w)
	}
	for _, r := range w.refs {
		ws.note(ws.series, r.SeriesUID, w)
	}
}

func (ws *waiters) note(in map[string]map[*waiter]bool, uid string, w *waiter) {
	if in[uid] == nil {
		in[uid] = map[*waiter]bool{}
	}
	in[uid][w] = true
}

func (ws *waiters) forget(in map[string]map[*waiter]bool, uid string, w *waiter) {
	if delete(in[uid], w); len(in[uid]) == 0 {
		delete(in, uid)
	}
}

const (
	refresh    = time.Second // how old the visible list of missing images may be
	maxCalm    = 100_000
	seenPrefix = "seen/" // of the subject of a state of [stateSeen]; the contour object follows

	burst = 16 // events that are handled until one more study of before is looked at

	lowPriority = -1 // of what nobody waits for; that of other jobs is 0
)

func newMatcher(p *Pipeline) *matcher {
	return &matcher{p: p, waiting: newWaiters(), calm: map[string]bool{}, due: map[string]time.Time{}, resent: map[string]*resent{}, again: time.NewTimer(time.Hour),
		used: map[string]bool{}, pokes: pokes{wake: make(chan struct{}, 1)}}
}

// run looks at every study once, and at those that change. What changes comes first, so that who sends now does not wait until
// years have been looked through.
func (m *matcher) run(ctx context.Context, changed <-chan store.Event) error {
	for uid, err := range m.p.store.Studies() {
		if err != nil {
			return err
		}
		m.arm()
		for more, n := true, 0; more && n < burst; n++ {
			select {
			case <-ctx.Done():
				return nil
			case e, ok := <-changed:
				if !ok {
					return nil
				}
				m.arrived(ctx, e)
			case <-m.pokes.wake:
				m.poked(ctx)
			case <-m.again.C:
				m.lookAgain(ctx)
			default:
				more = false
			}
		}
		m.first(ctx, uid)
	}
	for {
		m.arm()
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-changed:
			if !ok {
				return nil
			}
			m.arrived(ctx, e)
		case <-m.pokes.wake:
			m.poked(ctx)
		case <-m.again.C:
			m.lookAgain(ctx)
		}
	}
}

// poked looks at what somebody has asked for.
func (m *matcher) poked(ctx context.Context) {
	for uid := range m.pokes.take() {
		m.look(ctx, uid)
	}
}

// lookAgain looks at what is due.
func (m *matcher) lookAgain(ctx context.Context) {
	now := time.Now()
	for uid, at := range m.due {
		if !at.After(now) {
			delete(m.due, uid)
			m.look(ctx, uid)
		}
	}
	for uid, r := range m.resent {
		if !r.due.After(now) {
			delete(m.resent, uid)
			m.reconsider(ctx, uid, r)
		}
	}
}

// first looks at a study of an earlier run, unless all is decided there and nothing has changed since: then no object is read.
func (m *matcher) first(ctx context.Context, uid string) {
	if study, err := m.p.store.Study(uid); err == nil && m.settled(takingPart(study)) {
		return
	}
	study, done := m.look(ctx, uid)
	if _, due := m.due[uid]; !done || due {
		return
	}
	if err := m.note(ctx, study); err != nil && ctx.Err() == nil {
		m.p.log.Warn("the next start looks at the study again", "study", uid, "err", err)
	}
}

// note keeps what was there when a study was looked at, where nothing is left to be done though its states were decided by something
// else: the next start need not read its contours again.
func (m *matcher) note(ctx context.Context, study store.Study) error {
	now, err := m.p.store.Study(study.UID)
	if err != nil {
		return settled(err)
	}
	study.States = now.States // but not the instances that have come since, which nobody has looked at
	if m.settled(study) {
		return nil
	}
	series := map[string]int{}
	for _, s := range study.States {
		if contours, _, _ := strings.Cut(s.Subject, "/"); isStory(s) {
			series[contours]++
		}
	}
	var change store.Change
	for _, in := range study.Instances {
		if n := series[in.SOPInstanceUID]; n > 0 && in.Origin == store.Received && m.waiting.all[in.SOPInstanceUID] == nil {
			seen := detail{Seen: m.seenOf(study, n)}.raw()
			if old, _ := stateOf(study, seenPrefix+in.SOPInstanceUID); string(old.Detail) != string(seen) {
				change.States = append(change.States, store.State{Study: study.UID, Subject: seenPrefix + in.SOPInstanceUID, Name: stateSeen, Detail: seen, At: in.Received})
			}
		}
	}
	if len(change.States) == 0 {
		return nil
	}
	return m.p.store.Commit(ctx, change)
}

// settled says whether all contour objects of a study are decided, by what is there and is configured now.
func (m *matcher) settled(study store.Study) bool {
	states := map[string][]store.State{} // by contour object
	for _, state := range study.States {
		if contours, _, _ := strings.Cut(state.Subject, "/"); isStory(state) || state.Name == stateOwn {
			states[contours] = append(states[contours], state)
		}
	}
	for _, in := range study.Instances {
		if !roi.HoldsRegions(in.SOPClassUID) || in.Origin != store.Received {
			continue
		}
		its := states[in.SOPInstanceUID]
		noted, _ := stateOf(study, seenPrefix+in.SOPInstanceUID)
		for _, state := range its {
			d := detailOf(state)
			if state.Name == stateOwn {
				continue
			}
			if seen := m.seenOf(study, len(its)); d.Seen != seen && detailOf(noted).Seen != seen || state.Name == StateWaiting ||
				(state.Name == StateRefused || state.Name == StateFailed) && d.Config != m.p.config {
				return false
			}
		}
		if len(its) == 0 {
			return false
		}
	}
	return true
}

// seenOf names what a contour object is decided by, beside its own bytes: how many instances of its study take part, how often other
// bytes came under the UID of one, which may have taken its place, and on how many series it is measured.
func (m *matcher) seenOf(study store.Study, series int) string {
	n, others := 0, 0
	for _, in := range study.Instances {
		if in.Origin == store.Received {
			n++
			others += in.Conflicts
		}
	}
	seen := fmt.Sprint(n, series, m.p.opt.Also)
	if others > 0 {
		seen += fmt.Sprint(" +", others)
	}
	return seen
}

// arm sets the timer to the earliest study that is due.
func (m *matcher) arm() {
	next := time.Hour
	for _, at := range m.due {
		next = min(next, time.Until(at))
	}
	for _, r := range m.resent {
		next = min(next, time.Until(r.due))
	}
	m.again.Reset(max(next, 0))
}

// lookBy has a study looked at again, at the latest then.
func (m *matcher) lookBy(study string, at time.Time) {
	if due, ok := m.due[study]; !ok || at.Before(due) {
		m.due[study] = at
	}
}

// arrived looks at the studies for which something is decided by what arrived: at once for contours, and for the last image
// that they name and wait for. Any other image makes the study due soon: one of thousands of images is not read again for each.
func (m *matcher) arrived(ctx context.Context, e store.Event) {
	m.p.tally.change(e.Study)
	looks := map[string]bool{}
	soon := time.Now().Add(refresh)
	if len(e.Again) > 0 {
		r := m.resent[e.Study]
		if r == nil {
			r = &resent{due: soon, uids: map[string]bool{}}
			m.resent[e.Study] = r
		}
		for _, uid := range e.Again {
			r.uids[uid] = true
		}
	}
	if len(e.Arrived) == 0 {
		return
	}
	if !m.calm[e.Study] {
		m.lookBy(e.Study, soon)
	}
	for _, in := range e.Arrived {
		if roi.HoldsRegions(in.SOPClassUID) {
			looks[e.Study] = true
		} else if slices.Contains(m.p.opt.Also, in.Modality) {
			m.lookBy(e.Study, soon) // contours of another series may be measured on it
		}
	}
	fewer := map[*waiter]bool{}
	for _, in := range e.Arrived {
		for w := range m.waiting.series[in.SeriesInstanceUID] {
			if !w.lacks[in.SOPInstanceUID] {
				m.lookBy(w.study, soon) // of the series, and not by a name that is known: see RuleQuiet
			}
		}
		for w := range m.waiting.lack[in.SOPInstanceUID] {
			delete(w.lacks, in.SOPInstanceUID)
			fewer[w] = true
		}
		delete(m.waiting.lack, in.SOPInstanceUID)
	}
	for w := range fewer {
		if len(w.lacks) == 0 {
			looks[w.study] = true
		} else {
			m.lookBy(w.study, soon)
		}
	}
	for study := range looks {
		m.look(ctx, study)
	}
}

// reconsider looks at a study of which something was sent again, where a report stands that another configuration made, or the
// computation was given up. A peer
// that sends twice what has its report finds nothing to do here, and all it costs is to read the states.
//
// Contours that lie in another study than their images are made anew when they themselves are sent again.
func (m *matcher) reconsider(ctx context.Context, uid string, r *resent) {
	study, err := m.p.store.Study(uid)
	if errors.Is(err, store.ErrNotFound) {
		return // it has left
	}
	if err != nil {
		m.p.log.Error("study cannot be read from the store; it will be looked at again, see to the disk if this goes on", "study", uid, "err", err)
		r.due = time.Now().Add(10 * refresh)
		m.resent[uid] = r
		return
	}
	r.series = map[string]bool{}
	for _, in := range study.Instances {
		if r.uids[in.SOPInstanceUID] && !roi.HoldsRegions(in.SOPClassUID) {
			r.series[in.SeriesInstanceUID] = true
		}
	}
	for _, state := range study.States {
		contours, _, _ := strings.Cut(state.Subject, "/")
		if d := detailOf(state); (state.Name == StateComputed && d.Config != m.p.config || state.Name == StateFailed) && r.of(contours, d.Series) {
			m.asked = r
			m.look(ctx, uid)
			m.asked = nil
			return
		}
	}
}

// pokes are studies to look at because somebody asked for it, or because they have left. Where no pipeline runs they are looked
// at at the next start, as all are.
type pokes struct {
	mu      sync.Mutex // guards studies
	studies map[string]bool
	wake    chan struct{} // capacity 1: studies is not empty
}

func (p *pokes) add(study string) {
	p.mu.Lock()
	if p.studies == nil {
		p.studies = map[string]bool{}
	}
	p.studies[study] = true
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pokes) take() map[string]bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	studies := p.studies
	p.studies = nil
	return studies
}

// forget drops what is known of a study that has left.
func (m *matcher) forget(study string) {
	delete(m.calm, study)
	delete(m.due, study)
	delete(m.resent, study)
	for uid, w := range m.waiting.all {
		if w.study == study {
			m.waiting.set(uid, nil)
		}
	}
	clear(m.used)
	m.p.count(func(s *Stats) { s.Waiting = len(m.waiting.all) })
}

// takingPart is a study without what is quarantined.
func takingPart(study store.Study) store.Study {
	apart := func(in store.Instance) bool { return in.Quarantine != "" }
	if slices.ContainsFunc(study.Instances, apart) {
		study.Instances = slices.DeleteFunc(slices.Clone(study.Instances), apart)
	}
	return study
}

// look decides for every contour object of a study, and returns it as it was read. It never fails as a whole: an object that cannot be
// read is refused by itself, and what the store could not take is logged and tried again; then done is false.
func (m *matcher) look(ctx context.Context, uid string) (study store.Study, done bool) {
	m.asOf = time.Now()
	defer m.p.tally.change(uid)
	study, err := m.p.store.Study(uid)
	if errors.Is(err, store.ErrNotFound) {
		m.forget(uid)
		return study, false
	}
	if err != nil {
		m.p.log.Error("study cannot be read from the store; it will be looked at again, see to the disk if this goes on", "study", uid, "err", err)
		m.lookBy(uid, time.Now().Add(10*refresh))
		return study, false
	}
	study = takingPart(study)
	done = true
	if len(m.calm) >= maxCalm {
		clear(m.calm)
	}
	m.calm[uid] = true
	for _, in := range study.Instances {
		if !roi.HoldsRegions(in.SOPClassUID) || in.Origin != store.Received {
			continue
		}
		err := m.guarded(ctx, study, in)
		done = done && err == nil
		if err != nil && ctx.Err() == nil {
			m.p.log.Error("study not decided; it will be looked at again", "study", uid, "instance", in.SOPInstanceUID, "err", err)
			m.lookBy(uid, time.Now().Add(10*refresh))
			if m.asked != nil {
				m.asked.due = m.due[uid]
				m.resent[uid] = m.asked
			}
		}
		if w := m.waiting.all[in.SOPInstanceUID]; w == nil || w.other {
			delete(m.calm, uid)
		}
	}
	m.p.count(func(s *Stats) { s.Waiting = len(m.waiting.all) })
	return study, done
}

// guarded refuses a contour object at which consider panics: it must not end the process at each start.
func (m *matcher) guarded(ctx context.Context, study store.Study, subject store.Instance) (err error) {
	var outcome error
	func() {
		defer panics.Catch(&err)
		outcome = m.consider(ctx, study, subject)
	}()
	if defect := (*panics.Error)(nil); errors.As(err, &defect) {
		m.p.log.Error("looking at contours panicked; please report this", "study", study.UID, "contours", subject.SOPInstanceUID,
			"panic", fmt.Sprint(defect.Value), "stack", defect.Stack)
		m.waiting.set(subject.SOPInstanceUID, nil)
		return m.refuse(ctx, study, subject, subject.SOPInstanceUID, refusal.New(refusal.MeasureFailed, "", "%v", err))
	}
	return outcome
}

// consider decides for one contour object.
func (m *matcher) consider(ctx context.Context, study store.Study, subject store.Instance) error {
	if old, ok := stateOf(study, subject.SOPInstanceUID); ok && old.Name == stateOwn {
		return nil
	}
	refs, err := m.references(subject)
	m.seen = m.seenOf(study, 1)
	if errors.Is(err, errOwn) {
		return m.p.store.Commit(ctx, store.Change{States: []store.State{{Study: study.UID, Subject: subject.SOPInstanceUID, Name: stateOwn, At: time.Now()}}})
	}
	if err != nil && !ofTheInput(err) {
		return err // the disk, perhaps: it may work at the next look
	}
	if err != nil {
		m.waiting.set(subject.SOPInstanceUID, nil)
		if err := m.refuse(ctx, study, subject, subject.SOPInstanceUID, err); err != nil {
			return err
		}
		return m.void(ctx, study, subject, map[string]bool{subject.SOPInstanceUID: true})
	}
	also, err := m.also(study, subject, refs)
	if err != nil {
		return err
	}
	m.seen = m.seenOf(study, len(refs)+len(also))
	w := &waiter{study: study.UID, bytes: subject.Digest, refs: refs, lacks: map[string]bool{}}
	about := map[string]bool{}
	for i, ref := range slices.Concat(refs, also) {
		about[subject.SOPInstanceUID+"/"+ref.SeriesUID] = true
		if err := m.decide(ctx, study, subject, ref, i >= len(refs), w); err != nil {
			return err
		}
	}
	if err := m.void(ctx, study, subject, about); err != nil {
		return err
	}
	if len(w.lacks) > 0 { // else nothing is awaited by name
		m.waiting.set(subject.SOPInstanceUID, w)
	} else {
		m.waiting.set(subject.SOPInstanceUID, nil)
	}
	return nil
}

// void ends the states of a contour object that nothing will come of any more: it waits on a series that it is not measured on, since
// other bytes of it refer to others or the configuration does not want that modality any more; or it could not be read as a whole,
// and now it can.
func (m *matcher) void(ctx context.Context, study store.Study, subject store.Instance, about map[string]bool) error {
	var change store.Change
	for _, s := range study.States {
		contours, _, ofSeries := strings.Cut(s.Subject, "/")
		if contours != subject.SOPInstanceUID || about[s.Subject] || s.Name != StateWaiting && (ofSeries || s.Name != StateRefused) {
			continue
		}
		change.States = append(change.States, store.State{Study: study.UID, Subject: s.Subject, Name: stateVoid, Detail: s.Detail, At: s.At})
	}
	if len(change.States) == 0 {
		return nil
	}
	return m.p.store.Commit(ctx, change)
}

// ErrNoImages says that a structure set does not tell where it was drawn.
var ErrNoImages error = refusal.New(refusal.ContoursReferences, "", "the structure set names no image: neither RT Referenced Series Sequence (3006,0014) nor Contour Image Sequence (3006,0016) has an item")

// errOwn is for segmentations that this product made and that came back: a PACS may forward whatever it stores.
var errOwn = errors.New("a segmentation of radnode")

// references reads what a contour object names, once for as long as it waits.
func (m *matcher) references(subject store.Instance) ([]roi.Reference, error) {
	if w := m.waiting.all[subject.SOPInstanceUID]; w != nil && w.bytes == subject.Digest {
		return w.refs, nil
	}
	f, done, err := m.p.outline(subject.SOPInstanceUID)
	if err != nil {
		return nil, err
	}
	defer done()
	if m.p.opt.Equipment.Wrote(f.DataSet) {
		return nil, errOwn
	}
	refs, err := roi.References(f.DataSet)
	if err != nil {
		return nil, err
	}
	if len(refs) == 0 {
		return nil, ErrNoImages
	}
	return refs, nil
}

// A verdict is what is known of one series that a contour object names.
type verdict struct {
	images  []store.Instance // to compute with
	rule    string           // that lets the computation start now; "" = it waits
	missing []string         // named and not here
	reason  string           // why it waits, in words
	quiet   bool             // the fallback applies once no image comes any more
	last    time.Time        // when the latest image of the series came
	series  string           // Series Instance UID of the images; "" while none is here that tells
	abroad  []string         // other studies that hold images of it
}

// decide starts the computation of a contour object on one series where everything is here, and keeps a visible state
// where it is not.
//
// Contours that were drawn elsewhere are measured on a series by its frame of reference alone.
func (m *matcher) decide(ctx context.Context, study store.Study, subject store.Instance, ref roi.Reference, elsewhere bool, w *waiter) error {
	key := subject.SOPInstanceUID + "/" + ref.SeriesUID
	old, known := stateOf(study, key)
	last := detailOf(old)
	waits := old.Name == StateWaiting
	decided := known && !waits && old.Name != stateVoid
	v, err := m.judge(study, subject, ref)
	switch {
	case err != nil && ofTheInput(err) && decided && !(old.Name == StateRefused && last.Input == inputDigest(subject, nil)):
		return nil // what was computed stays computed, though a series has come since that could have been meant as well
	case err != nil && ofTheInput(err):
		return m.refuse(ctx, study, subject, key, err)
	case err != nil:
		return err
	}
	if err := m.use(ctx, study.UID, key, v.abroad); err != nil {
		return err
	}
	input := inputDigest(subject, v.images)
	// What was refused or given up is tried again when rules, profiles, memory or the software have changed: a remedy may be in them.
	retry := (old.Name == StateRefused || old.Name == StateFailed) && last.Input == input && last.Config != "" && last.Config != m.p.config
	// A report that stands is made anew by another configuration where somebody sent its contours or images again. A mere restart
	// leaves it: there may be years of them.
	anew := old.Name == StateComputed && last.Input == input && last.Config != m.p.config && m.asked.of(subject.SOPInstanceUID, last.Series)
	// What was given up is tried again when it is sent again.
	again := old.Name == StateFailed && last.Input == input && m.asked.of(subject.SOPInstanceUID, last.Series)
	if decided && last.Input == input && !retry && !anew && !again {
		return nil // queued or finished with exactly these bytes
	}
	if anew || again {
		v.rule = old.Rule // it was whole then
	}
	// A report that stands is not superseded image by image: late ones are gathered until no more come.
	if v.rule == "" && v.quiet || v.rule != "" && decided && !retry && !anew && !again {
		// Reading the headers of a large series takes its time, in which more may have come: it was quiet until the study was read.
		if end := v.last.Add(m.p.opt.Quiet); m.asOf.Before(end) {
			m.lookBy(study.UID, end)
			v.rule = ""
		} else if v.rule == "" {
			v.rule = RuleQuiet
		}
	}
	if v.rule == "" {
		w.other = w.other || decided || v.quiet || len(v.missing) == 0
		for _, uid := range v.missing {
			w.lacks[uid] = true
		}
		if decided || waits && old.Reason == v.reason && slices.Equal(old.Missing, v.missing) {
			return nil // what was computed stays computed; what was said needs not be said again
		}
		if next := old.At.Add(refresh); waits && time.Now().Before(next) {
			m.lookBy(study.UID, next) // the list gets shorter with every image: it need not be durable each time
			return nil
		}
		if !waits {
			m.p.log.Info("study waits for images", "study", study.UID, "contours", subject.SOPInstanceUID, "series", ref.SeriesUID, "reason", v.reason)
		}
		wait := last // a report that stands stays named
		wait.Series, wait.Input = v.series, ""
		return m.p.store.Commit(ctx, store.Change{States: []store.State{{
			Study: study.UID, Subject: key, Name: StateWaiting, Reason: v.reason, Missing: v.missing, Detail: wait.raw(), At: time.Now(),
		}}})
	}

	task := task{Subject: subject.SOPInstanceUID, Series: ref.SeriesUID, Input: input, Rule: v.rule, ReplyTo: subject.SourceAET, Elsewhere: elsewhere, Anew: anew}
	for _, in := range v.images {
		task.Images = append(task.Images, in.SOPInstanceUID)
	}
	payload, err := json.Marshal(task)
	if err != nil {
		return err
	}
	job := store.Job{Key: "compute/" + key + "/" + input + "/" + m.p.config, Queue: computeQueue, Study: study.UID, Payload: payload, RunAt: time.Now()}
	finished, err := m.p.store.Finished(job.Key)
	if err != nil {
		return err
	}
	if retry || anew || again || finished {
		// A configuration may come back, and so may bytes, so the key also names the state that it is to replace.
		job.Key += "/" + strconv.FormatInt(old.At.UnixNano(), 10)
	}
	if (retry || anew) && !again {
		// Whoever waits for a report of today does not wait for these: an archive that is sent again after an update has years of
		// them.
		job.Priority = lowPriority
	}
	if anew { // the report stands, and so does the state, until the worker finds that what applies to it has changed
		m.p.log.Info("study sent again", "study", study.UID, "contours", subject.SOPInstanceUID, "series", ref.SeriesUID)
		return m.p.store.Commit(ctx, store.Change{Jobs: []store.Job{job}})
	}
	next := last // the report that this one supersedes stays named until the new one stands
	next.Series, next.Input, next.Images, next.Seen, next.Job = v.images[0].SeriesInstanceUID, input, len(v.images), m.seen, ""
	m.p.log.Info("study complete", "study", study.UID, "contours", subject.SOPInstanceUID, "series", ref.SeriesUID, "images", len(v.images), "rule", v.rule)
	change := store.Change{
		Jobs:   []store.Job{job},
		States: []store.State{{Study: study.UID, Subject: key, Name: StateQueued, Rule: v.rule, Detail: next.raw(), At: time.Now()}},
	}
	if last.Job != "" { // was given up, and this takes its place
		change.Done = []string{last.Job}
		err := m.p.store.Commit(ctx, change)
		if !errors.Is(err, store.ErrFinished) && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		change.Done = nil
	}
	return m.p.store.Commit(ctx, change)
}

// use keeps in the studies of images that contours of another study refer to them: so those images are in the state of the
// contours too, and do not leave while these wait.
func (m *matcher) use(ctx context.Context, contourStudy, key string, studies []string) error {
	for _, uid := range studies {
		subject := usedSubject(contourStudy, key)
		if m.used[uid+" "+subject] {
			continue
		}
		study, err := m.p.store.Study(uid)
		if err != nil {
			return err
		}
		if _, known := stateOf(study, subject); !known {
			if err := m.p.store.Commit(ctx, store.Change{States: []store.State{{Study: uid, Subject: subject, Name: stateUsed, At: time.Now()}}}); err != nil {
				return err
			}
		}
		if len(m.used) >= maxCalm {
			clear(m.used)
		}
		m.used[uid+" "+subject] = true
		m.p.tally.change(uid)
	}
	return nil
}

// judge compares what a contour object names in one series with what is here.
func (m *matcher) judge(study store.Study, subject store.Instance, ref roi.Reference) (verdict, error) {
	var v verdict
	var here []store.Instance // the named images
	inStudy := make(map[string]store.Instance, len(study.Instances))
	for _, in := range study.Instances {
		inStudy[in.SOPInstanceUID] = in
	}
	named := make(map[string]bool, len(ref.Instances))
	apart := 0 // of the missing ones: quarantined
	for _, uid := range ref.Instances {
		if named[uid] {
			continue
		}
		named[uid] = true
		in, ok := inStudy[uid]
		if !ok {
			var err error
			if in, err = m.p.store.Instance(uid); errors.Is(err, store.ErrNotFound) {
				v.missing = append(v.missing, uid)
				continue
			} else if err != nil {
				return v, err
			}
			if in.Quarantine != "" {
				v.missing = append(v.missing, uid)
				apart++
				continue
			}
			if in.StudyInstanceUID != study.UID && !slices.Contains(v.abroad, in.StudyInstanceUID) {
				v.abroad = append(v.abroad, in.StudyInstanceUID)
			}
		}
		here = append(here, in)
	}
	series := ref.SeriesUID
	if series == "" && len(here) > 0 {
		series = here[0].SeriesInstanceUID
	}
	v.series = series
	all := slices.Clone(here) // with the rest of the series
	if len(ref.Instances) == 0 && series == "" {
		var err error
		if all, err = m.inFrame(study, ref.FrameOfReference); err != nil {
			return v, err
		}
	}
	for _, in := range study.Instances {
		// Writers exist that put reports into the series of the images.
		if series != "" && in.SeriesInstanceUID == series && in.Origin == store.Received && !named[in.SOPInstanceUID] && sr.ImageModality(in.Modality) {
			all = append(all, in)
		}
	}
	sortInstances(here)
	sortInstances(all)
	for _, in := range all {
		if in.Received.After(v.last) {
			v.last = in.Received
		}
	}

	switch {
	case len(named) > 0 && len(v.missing) == len(named) && len(all) > 0:
		// The series is here under its own UID, its images under others: anonymised or resampled on the way.
		v.reason = fmt.Sprintf("%d images of the series are here, but none of the %d that the contours name", len(all), len(named))
		v.images, v.quiet = all, m.gapless(all, nil)
	case len(v.missing) > 0:
		v.reason = fmt.Sprintf("%d of %d named images are missing", len(v.missing), len(named))
		if apart > 0 {
			v.reason = fmt.Sprintf("%d of %d named images are missing; of these %d are here in quarantine", len(v.missing), len(named), apart)
		}
	case ref.Listed:
		// Images without a contour are named too: the list is the series as the contours know it.
		v.images, v.rule = here, RuleNamed
	case len(ref.Named) > 0:
		// Every named image bears a contour: the list may leave out the rest of the series, which matters for
		// interpolation. What is here of it is taken along where it fits.
		v.images, v.rule = here, RuleNamed
		if len(all) > len(here) && m.gapless(all, ref.Contoured) {
			v.images = all
		}
	default:
		v.images = all
		announced, err := m.announced(all)
		switch {
		case err != nil:
			return v, err
		case announced > 0 && len(all) >= announced:
			v.rule = RuleConsistent
		case announced > 0:
			v.reason = fmt.Sprintf("%d of the %d images that the series announces in Number of Series Related Instances (0020,1209) are here", len(all), announced)
			v.quiet = m.gapless(all, ref.Contoured)
		case len(all) == 0:
			v.reason = "no image of the series is here"
		default:
			v.reason = fmt.Sprintf("the contours name only the %d slices they are drawn on, and the series does not say how many images it has", len(named))
			if len(named) == 0 {
				v.reason = "the contours name no image of the series, and the series does not say how many images it has"
			}
			v.quiet = m.gapless(all, ref.Contoured)
		}
	}
	return v, nil
}

// announced returns Number of Series Related Instances (0020,1209) of the first image that can be read, 0 where it has none.
func (m *matcher) announced(images []store.Instance) (int, error) {
	for _, in := range images {
		f, done, err := m.p.open(in.SOPInstanceUID)
		switch {
		case err != nil && ofTheInput(err):
			continue // the computation refuses it
		case err != nil:
			return 0, err
		}
		defer done()
		n, _ := f.DataSet.Int(dicom.NumberOfSeriesRelatedInstances)
		return n, nil
	}
	return 0, nil
}

// gapless says whether nothing that more images could bring is missing from the stack with the named ones. What is wrong with
// it otherwise is for the computation to say.
func (m *matcher) gapless(images []store.Instance, named []string) bool {
	var headers []*dicom.DataSet
	held := int64(0)
	for _, in := range images {
		f, done, err := m.p.open(in.SOPInstanceUID)
		if err != nil {
			return true
		}
		done()
		if held += f.Memory; held > m.p.memory.headers() {
			return true
		}
		headers = append(headers, f.DataSet)
	}
	_, err := imaging.Check(headers, imaging.Options{Named: named})
	var r *refusal.Refusal
	return !errors.As(err, &r) || r.Code != refusal.GeometryGap && r.Code != refusal.GeometrySpacing
}

// refuse keeps the reason why a contour object, or what it names in one series, can never be measured as it is, and reports
// it where that is asked for.
func (m *matcher) refuse(ctx context.Context, study store.Study, subject store.Instance, key string, reason error) error {
	old, _ := stateOf(study, key)
	last := detailOf(old)
	d := detail{Input: inputDigest(subject, nil), Config: m.p.config, Seen: m.seen}
	why, text := reasonsOf(nil, reason)
	d.Codes = codesOf(why)
	if old.Name == StateRefused && last.Input == d.Input && (last.Config == d.Config || old.Reason == text) {
		if last.Config == d.Config {
			return nil
		}
		last.Config, last.Seen = d.Config, d.Seen // it need not be read at the next start
		old.Detail = last.raw()
		return m.p.store.Commit(ctx, store.Change{States: []store.State{old}})
	}
	change := store.Change{}
	if m.p.opt.ReportRefusals {
		if f, done, err := m.p.outline(subject.SOPInstanceUID); err == nil { // else its bytes are no data set, and nothing tells whose it is
			to := m.p.deliverTo(subject.SourceAET)
			rev := Revision{Input: d.Input, Predecessors: m.p.predecessors(last), Number: last.Revision + 1}
			made, err := m.p.notComputed(f, nil, why, rev, to)
			done()
			if err == nil {
				d.Documents, d.Revision = rev.standing(made), rev.Number
				m.p.outgoing(&change, to, study.UID, key, nil, made)
			} else { // the state says why nothing was measured all the same
				m.p.log.Warn("no report says why", "study", study.UID, "contours", subject.SOPInstanceUID, "err", err)
			}
		}
	}
	change.States = []store.State{{Study: study.UID, Subject: key, Name: StateRefused, Reason: text, Detail: d.raw(), At: time.Now()}}
	if err := m.p.store.Commit(ctx, change); err != nil {
		return err
	}
	m.p.serve(change.Jobs)
	m.p.log.Warn("contours refused", "study", study.UID, "contours", subject.SOPInstanceUID, "reason", text)
	m.p.countRefused(why)
	return nil
}

// also are the series of the study, beside those that the contours name, on which they are measured too: of the modalities
// that the configuration says, in the frame of reference of the contours.
func (m *matcher) also(study store.Study, subject store.Instance, refs []roi.Reference) (also []roi.Reference, err error) {
	if len(m.p.opt.Also) == 0 {
		return nil, nil
	}
	seen := make(map[string]bool)
	frames := make(map[string]bool)
	named := make(map[string]bool) // images without their series
	for _, r := range refs {
		seen[r.SeriesUID] = true
		frames[r.FrameOfReference] = r.FrameOfReference != ""
		if r.SeriesUID != "" {
			continue
		}
		for _, uid := range r.Instances {
			named[uid] = true
		}
		if old, ok := stateOf(study, subject.SOPInstanceUID+"/"); ok {
			seen[detailOf(old).Series] = true
		}
		if len(r.Instances) == 0 { // drawn on the only series of its frame, else refused
			images, err := m.inFrame(study, r.FrameOfReference)
			if err != nil && !ofTheInput(err) {
				return nil, err
			}
			if len(images) > 0 {
				seen[images[0].SeriesInstanceUID] = true
			}
		}
	}
	for _, in := range study.Instances {
		if named[in.SOPInstanceUID] {
			seen[in.SeriesInstanceUID] = true
		}
	}
	for _, in := range study.Instances {
		if seen[in.SeriesInstanceUID] || in.Origin != store.Received || !slices.Contains(m.p.opt.Also, in.Modality) || roi.HoldsRegions(in.SOPClassUID) {
			continue
		}
		seen[in.SeriesInstanceUID] = true
		frame, readable, err := m.frameOf(in)
		if err != nil {
			return nil, err
		}
		if readable && frames[frame] {
			also = append(also, roi.Reference{StudyUID: study.UID, SeriesUID: in.SeriesInstanceUID, FrameOfReference: frame})
		}
	}
	slices.SortFunc(also, func(a, b roi.Reference) int { return strings.Compare(a.SeriesUID, b.SeriesUID) })
	return also, nil
}

// inFrame are the received images of a study that lie in a frame of reference, where they are of one series: what a segmentation
// without references was made from.
func (m *matcher) inFrame(study store.Study, frame string) (images []store.Instance, err error) {
	of := make(map[string]bool) // series by whether they are of the frame
	series := ""
	for _, in := range study.Instances {
		if in.Origin != store.Received || !sr.ImageModality(in.Modality) {
			continue
		}
		yes, known := of[in.SeriesInstanceUID]
		if !known {
			its, readable, err := m.frameOf(in)
			switch {
			case err != nil:
				return nil, err
			case !readable:
				continue
			}
			yes = its == frame
			of[in.SeriesInstanceUID] = yes
			if yes && series != "" {
				return nil, refusal.New(refusal.ContoursReferences, "", "the segmentation names no image, and the study has several series of its frame of reference, %s and %s", series, in.SeriesInstanceUID)
			}
			if yes {
				series = in.SeriesInstanceUID
			}
		}
		if yes {
			images = append(images, in)
		}
	}
	return images, nil
}

// frameOf reads the frame of reference of an image; readable is false where its bytes are at fault.
func (m *matcher) frameOf(in store.Instance) (frame string, readable bool, err error) {
	f, done, err := m.p.open(in.SOPInstanceUID)
	switch {
	case err != nil && ofTheInput(err):
		return "", false, nil
	case err != nil:
		return "", false, err
	}
	defer done()
	return f.DataSet.String(dicom.FrameOfReferenceUID), true, nil
}

func stateOf(study store.Study, key string) (store.State, bool) {
	for _, s := range study.States {
		if s.Subject == key {
			return s, true
		}
	}
	return store.State{}, false
}

func sortInstances(in []store.Instance) {
	slices.SortFunc(in, func(a, b store.Instance) int {
		if a.SOPInstanceUID < b.SOPInstanceUID {
			return -1
		}
		return 1
	})
}

// inputDigest names an input by its bytes: the contour object and every image, by UID and SHA-256. The order of arrival
// does not enter.
func inputDigest(subject store.Instance, images []store.Instance) string {
	h := sha256.New()
	for _, in := range append([]store.Instance{subject}, images...) {
		fmt.Fprintf(h, "%s %x\n", in.SOPInstanceUID, in.Digest)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// open reads the header of a stored instance; its pixels stay where they are until they are asked for. done closes it.
func (p *Pipeline) open(uid string) (*dicom.File, func(), error) {
	f, o, err := p.openWithin(uid, p.memory.headers())
	if err != nil {
		return nil, nil, err
	}
	return f, func() { o.Close() }, nil
}

// outline is open without the points of contours, which may be all but a few of the bytes.
func (p *Pipeline) outline(uid string) (*dicom.File, func(), error) {
	f, o, err := p.openWithin(uid, p.memory.headers(), dicom.ContourData)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { o.Close() }, nil
}

// openWithin is open for somebody who has room for so many bytes, and who leaves out the values of some elements.
func (p *Pipeline) openWithin(uid string, room int64, without ...dicom.Tag) (*dicom.File, *store.Object, error) {
	o, err := p.store.OpenInstance(uid)
	if err != nil {
		return nil, nil, fmt.Errorf("instance %s: %w", uid, err)
	}
	f, err := dicom.ReadDataSetWithin(o, o.Size, o.TransferSyntaxUID, room, without...)
	if errors.Is(err, dicom.ErrTooLarge) {
		err = TooLarge("what the objects say beside their pixels", p.memory.headers()+1, p.memory.headers(), "")
	}
	if err != nil {
		o.Close()
		return nil, nil, fmt.Errorf("instance %s: %w", uid, err)
	}
	return f, o, nil
}
