package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/pipeline/panics"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/pipeline/sr"
	"github.com/radnode/radnode/store"
)

const computeLease = 30 * time.Minute

// A task is the payload of a computation: one contour object on one image series.
type task struct {
	Subject string   `json:"subject"` // SOP Instance UID of the contour object
	Series  string   `json:"series"`
	Images  []string `json:"images"` // SOP Instance UIDs, sorted
	Input   string   `json:"input"`  // digest of all of them
	Rule    string   `json:"rule"`
	ReplyTo string   `json:"replyTo"` // AE title that sent the contours

	Elsewhere bool `json:"elsewhere,omitempty"` // drawn on another series of the same frame of reference
	Anew      bool `json:"anew,omitempty"`      // a report stands, and was asked for by another configuration than made it
}

func (t task) key() string { return t.Subject + "/" + t.Series }

// compute is the journey of one task: load, measure, report, and one durable step that holds the objects, their
// deliveries and the new state. It waits for what it needs of the machine by admit.
func (p *Pipeline) compute(ctx context.Context, job *store.Job, admit func(take func() error) error) error {
	var t task
	if err := json.Unmarshal(job.Payload, &t); err != nil {
		return p.park(ctx, job, "payload: "+err.Error(), store.Change{})
	}
	study, err := p.store.Study(job.Study)
	if err != nil {
		return p.failed(ctx, job, err)
	}
	old, _ := stateOf(study, t.key())
	last := detailOf(old)

	to := p.deliverTo(t.ReplyTo)
	styles := p.styles(to)
	applied := p.opt.newShape(styles)
	if t.Anew {
		if stands, err := p.stands(old, t, styles); err != nil {
			return p.failed(ctx, job, err)
		} else if stands {
			return p.kept(ctx, job, t, to)
		}
	}

	start := time.Now()
	contours, images, input, done, err := p.load(t)
	if errors.Is(err, store.ErrNotFound) || err == nil && input != t.Input {
		if err == nil {
			done()
		}
		return p.outdated(ctx, job, t)
	}
	if err != nil {
		return p.refused(ctx, job, t, last, nil, nil, nil, err)
	}
	defer done()
	loaded := time.Since(start)

	documents := written(styles)
	m, err := p.measure(ctx, Request{
		Contours: contours, Images: images, Choose: applied.choose, Elsewhere: t.Elsewhere, Documents: documents, admit: admit,
	})
	if err != nil && ctx.Err() != nil {
		if m != nil {
			m.Release()
		}
		if why := context.Cause(ctx); errors.Is(why, errSlow) {
			return p.failed(ctx, job, why)
		}
		return p.store.GiveBack(context.WithoutCancel(ctx), job.Key) // shutting down: it is there at the next start
	}
	if err != nil {
		return p.refused(ctx, job, t, last, contours, images, m, err)
	}
	defer m.Release() // also of what the report is written with
	m.Took.Load = loaded

	start = time.Now()
	if looks(documents) {
		past, err := p.history(m)
		if err != nil {
			return p.failed(ctx, job, err)
		}
		for i := range m.Regions {
			m.Regions[i].Past = past[i]
		}
	}
	rev := Revision{Input: t.Input, Predecessors: p.predecessors(last), Number: last.Revision + 1}
	made, err := p.opt.Make(m, rev, styles...)
	if err != nil { // the same input gives the same error
		return p.refused(ctx, job, t, last, contours, images, nil, refusal.New(refusal.MeasureFailed, "", "what was measured cannot be written: %v", err))
	}
	m.Took.Report = time.Since(start)

	var skipped []*refusal.Refusal
	for _, s := range m.Skipped {
		skipped = append(skipped, s.Reason)
	}
	reason := skippedText(m.Skipped)
	for _, s := range made.Sets {
		if s.Lacking != nil {
			reason = strings.TrimPrefix(reason+"; no PDF or captures: "+s.Lacking.Error(), "; ")
			p.log.Warn("the report goes out without PDF or captures", "study", job.Study, "contours", t.Subject, "err", s.Lacking)
		}
	}
	change := store.Change{
		Lease: job.Lease,
		States: []store.State{{
			Study: job.Study, Subject: t.key(), Name: StateComputed, Rule: t.Rule, At: time.Now(),
			Reason: reason,
			Detail: detail{
				Series: m.Volume.Series, Input: t.Input, Images: len(t.Images), Revision: rev.Number, Took: &m.Took,
				Codes: codesOf(skipped), Config: p.config, Shape: applied.digest(),
				Documents: rev.standing(made.Sets), Segmentation: made.Segmentation.Identity.SOPInstanceUID,
				Pages: pagesOf(made.Sets), To: addresses(to), Seen: last.Seen,
			}.raw(),
		}},
	}
	p.outgoing(&change, to, job.Study, t.key(), []store.NewInstance{made.Segmentation}, made.Sets)
	urgency(change.Jobs, job)
	if done, err := p.finish(ctx, job, change); !done {
		return err
	}
	p.count(func(s *Stats) { s.Computed++ })
	p.log.Info("report computed", "study", job.Study, "contours", t.Subject, "series", t.Series, "reports", reportsOf(made.Sets),
		"regions", len(m.Regions), "skipped", len(m.Skipped), "images", len(images), "destinations", len(change.Jobs),
		"load", m.Took.Load, "assemble", m.Took.Assemble, "rasterise", m.Took.Rasterise, "features", m.Took.Features, "write", m.Took.Report)
	return nil
}

// A shape gathers what of the configuration shapes a report: what every report depends on, and the profile that applies to each
// region. Where it is the same, the report would say the same.
type shape struct {
	o Options
	h hash.Hash
}

func (o Options) newShape(styles []Style) *shape {
	s := &shape{o, sha256.New()}
	fmt.Fprintln(s.h, o.settings(styles))
	return s
}

// choose is the [Chooser] of the rules, which is asked for each region in the order of the contours.
func (s *shape) choose(image *dicom.DataSet, r roi.Region) (features.Profile, bool, error) {
	p, ok, err := s.o.Select(image, r)
	if ok && err == nil {
		fmt.Fprintln(s.h, r.Number, p.Name, p.Hash())
	}
	return p, ok, err
}

func (s *shape) digest() string { return hex.EncodeToString(s.h.Sum(nil)[:8]) }

// stands says whether the report that a state tells of would be made again as it is: of all that was configured anew, nothing
// applies to it. One image tells: an archive that is sent again has thousands for each report.
func (p *Pipeline) stands(old store.State, t task, styles []Style) (bool, error) {
	last := detailOf(old)
	switch {
	case old.Name != StateComputed || last.Input != t.Input:
		return true, nil // another computation came first
	case last.Shape == "" || slices.Contains(last.Codes, refusal.MemoryLimit):
		return false, nil // made before shapes were kept, or of regions that fitted into the memory of then
	}
	t.Images = t.Images[:1]
	contours, images, _, done, err := p.load(t)
	switch {
	case err != nil && (ofTheInput(err) || errors.Is(err, store.ErrNotFound)):
		return false, nil // the computation says so
	case err != nil:
		return false, err
	}
	defer done()
	if _, err := p.memory.fits(contours); err != nil {
		return false, nil // the computation refuses them
	}
	regions, err := roi.Regions(contours)
	if err != nil {
		return false, nil // the computation refuses them
	}
	now := p.opt.newShape(styles)
	for _, r := range regions {
		r.OtherSeries = t.Elsewhere
		if _, _, err := now.choose(images[0].DataSet, r); err != nil {
			return false, nil
		}
	}
	return now.digest() == last.Shape, nil
}

// kept ends a task whose report stands as it is, and remembers that this configuration makes no difference to it. A destination
// that is new gets what stands.
func (p *Pipeline) kept(ctx context.Context, job *store.Job, t task, to []Destination) error {
	study, err := p.store.Study(job.Study)
	if err != nil {
		return p.failed(ctx, job, err)
	}
	change := store.Change{Lease: job.Lease}
	if state, _ := stateOf(study, t.key()); state.Name == StateComputed {
		if d := detailOf(state); d.Input == t.Input {
			d.Config = p.config
			change.Jobs = p.standing(&d, to, job.Study, t.key())
			urgency(change.Jobs, job)
			state.Detail = d.raw()
			change.States = []store.State{state}
		}
	}
	_, err = p.finish(ctx, job, change)
	return err
}

// outdated ends a task whose objects are not those any more that it was made for: one was discarded, or other bytes took its place.
// What is here now is for the matcher to look at.
func (p *Pipeline) outdated(ctx context.Context, job *store.Job, t task) error {
	study, err := p.store.Study(job.Study)
	if err != nil {
		return p.failed(ctx, job, err)
	}
	change := store.Change{Lease: job.Lease}
	if state, _ := stateOf(study, t.key()); state.Name == StateQueued {
		if d := detailOf(state); d.Input == t.Input {
			d.Input = ""
			change.States = []store.State{{Study: job.Study, Subject: t.key(), Name: StateWaiting, Reason: "the objects have changed since they were complete", Detail: d.raw(), At: time.Now()}}
		}
	}
	if done, err := p.finish(ctx, job, change); !done {
		return err
	}
	p.matcher.pokes.add(job.Study)
	p.log.Info("objects have changed since they were complete; the study is looked at again", "study", job.Study, "contours", t.Subject, "series", t.Series)
	return nil
}

// finish stores the outcome of a computation; done is false where it was not. What the store refuses for another reason than the
// disk is a failure.
func (p *Pipeline) finish(ctx context.Context, job *store.Job, change store.Change) (done bool, err error) {
	err = p.insist(ctx, job, func(ctx context.Context) error { return p.store.Done(ctx, job.Key, change) })
	switch {
	case err == nil:
		p.serve(change.Jobs)
		return true, nil
	case settled(err) == nil || errors.As(err, new(*dimse.Status)):
		return false, err
	}
	return false, p.failed(ctx, job, fmt.Errorf("the outcome cannot be stored: %w", err))
}

// urgency makes deliveries as urgent as the computation that they come from.
func urgency(deliveries []store.Job, computation *store.Job) {
	for i := range deliveries {
		deliveries[i].Priority = computation.Priority
	}
}

// keep holds the lease of a computation, which may wait for memory for as long as others compute, until stop is called.
func (p *Pipeline) keep(job *store.Job) (stop func()) {
	ticker := time.NewTicker(computeLease / 3)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-ticker.C:
				if err := p.store.Extend(job, computeLease); err != nil {
					p.log.Warn("lease not kept", "study", job.Study, "err", err)
				}
			case <-done:
				ticker.Stop()
				return
			}
		}
	}()
	return func() { close(done) }
}

// predecessors are the reports that the next ones supersede, by their keys.
func (p *Pipeline) predecessors(last detail) map[string]sr.Document {
	out := map[string]sr.Document{}
	for key, uid := range last.Documents {
		in, err := p.store.Instance(uid)
		if err != nil {
			p.log.Warn("the report that is superseded is not in the store any more", "report", uid, "err", err)
			continue
		}
		out[key] = sr.Document{StudyInstanceUID: in.StudyInstanceUID, SeriesInstanceUID: in.SeriesInstanceUID,
			Instance: sr.Instance{SOPClassUID: in.SOPClassUID, SOPInstanceUID: in.SOPInstanceUID}}
	}
	return out
}

// pagesOf are the SOP Instance UIDs of PDF and captures of all styles.
func pagesOf(sets []Set) map[string][]string {
	out := map[string][]string{}
	for _, s := range sets {
		for _, item := range s.Items {
			if item.Document != "" && !item.Document.report() {
				out[s.Style.key(item.Document)] = uidsOf(item.Instances)
			}
		}
	}
	return out
}

func addresses(to []Destination) (list []string) {
	for _, d := range to {
		list = append(list, d.String())
	}
	return list
}

// reportsOf are the SOP Instance UIDs of the reports of all styles.
func reportsOf(sets []Set) (uids []string) {
	for _, s := range sets {
		uids = slices.AppendSeq(uids, maps.Values(s.Keys))
	}
	slices.Sort(uids)
	return uids
}

// Took says where the time went when the report of a study was computed.
func (p *Pipeline) Took(study string) (Timing, bool) {
	s, err := p.store.Study(study)
	if err != nil {
		return Timing{}, false
	}
	for _, state := range s.States {
		if d := detailOf(state); d.Took != nil {
			return *d.Took, true
		}
	}
	return Timing{}, false
}

// load opens the contour object and the images, and says what input they are. done closes them.
func (p *Pipeline) load(t task) (contours *dicom.File, images []*dicom.File, input string, done func(), err error) {
	var opened []store.Instance
	var closers []func()
	done = func() {
		for _, c := range closers {
			c()
		}
	}
	held := int64(0) // all headers are in memory at once
	open := func(uid string) *dicom.File {
		if err != nil {
			return nil
		}
		f, o, openErr := p.openWithin(uid, p.memory.headers()-held)
		if openErr != nil {
			err = openErr
			return nil
		}
		opened = append(opened, o.Instance)
		closers = append(closers, func() { o.Close() })
		held += f.Memory
		return f
	}
	contours = open(t.Subject)
	for _, uid := range t.Images {
		images = append(images, open(uid))
	}
	if err != nil {
		done()
		return nil, nil, "", nil, err
	}
	return contours, images, inputDigest(opened[0], opened[1:]), done, nil
}

// refused ends a task whose input cannot be measured as it is: trying again would not help. Where the configuration asks for
// it, a report says so in the study.
func (p *Pipeline) refused(ctx context.Context, job *store.Job, t task, last detail, contours *dicom.File, images []*dicom.File, m *Measured, reason error) error {
	if !ofTheInput(reason) {
		return p.failed(ctx, job, reason)
	}
	why, text := reasonsOf(m, reason)
	last.Input, last.Images, last.Codes, last.Config = t.Input, len(t.Images), codesOf(why), p.config
	change := store.Change{Lease: job.Lease}
	if p.opt.ReportRefusals && contours != nil && why[0].Code != refusal.RulesNone {
		to := p.deliverTo(t.ReplyTo)
		rev := Revision{Input: t.Input, Predecessors: p.predecessors(last), Number: last.Revision + 1}
		made, err := p.notComputed(contours, images, why, rev, to)
		if err == nil {
			last.Documents, last.Segmentation, last.Revision = rev.standing(made), "", rev.Number
			p.outgoing(&change, to, job.Study, t.key(), nil, made)
		} else { // the state says why nothing was measured all the same
			p.log.Warn("no report says why", "study", job.Study, "contours", t.Subject, "err", err)
		}
	}
	change.States = []store.State{{
		Study: job.Study, Subject: t.key(), Name: StateRefused, Rule: t.Rule, Reason: text, Detail: last.raw(), At: time.Now(),
	}}
	urgency(change.Jobs, job)
	if done, err := p.finish(ctx, job, change); !done {
		return err
	}
	p.countRefused(why)
	p.log.Warn("study refused", "study", job.Study, "contours", t.Subject, "series", t.Series, "reason", text)
	return nil
}

// reasonsOf are the reasons why nothing was measured, and all of them in words.
func reasonsOf(m *Measured, reason error) (why []*refusal.Refusal, text string) {
	switch {
	case !errors.Is(reason, ErrNothingMeasured):
		why = []*refusal.Refusal{asRefusal(reason)}
		return why, why[0].Error()
	case m == nil || len(m.Skipped) == 0:
		why = []*refusal.Refusal{{Code: refusal.RulesNone, Text: "the rules leave every region out"}}
		return why, why[0].Error()
	}
	for _, s := range m.Skipped {
		r := *s.Reason
		r.Text = s.Region.TrackingID + ": " + r.Text
		why = append(why, &r)
	}
	return why, reason.Error() + ": " + skippedText(m.Skipped)
}

// codesOf are the codes of reasons, each once.
func codesOf(why []*refusal.Refusal) (codes []refusal.Code) {
	for _, r := range why {
		if !slices.Contains(codes, r.Code) {
			codes = append(codes, r.Code)
		}
	}
	return codes
}

// notComputed makes the report that says why there are no values.
func (p *Pipeline) notComputed(contours *dicom.File, images []*dicom.File, why []*refusal.Refusal, rev Revision, to []Destination) ([]Set, error) {
	x := Refused{Contours: contours.DataSet, Reasons: why}
	for _, f := range images {
		first := images[0].DataSet
		if f.DataSet.String(dicom.SeriesInstanceUID) == first.String(dicom.SeriesInstanceUID) && sr.ImageModality(first.String(dicom.Modality)) {
			x.Image = first
			x.Instances = append(x.Instances, document(f.DataSet).Instance)
		}
	}
	return p.opt.NotComputed(x, rev, p.styles(to)...)
}

func (p *Pipeline) countRefused(why []*refusal.Refusal) {
	p.count(func(s *Stats) {
		s.Refused++
		if s.Reasons == nil {
			s.Reasons = make(map[refusal.Code]int)
		}
		for _, c := range codesOf(why) {
			s.Reasons[c]++
		}
	})
}

// ofTheInput says whether an error lies in what was received, so that trying again gives the same. An error of the disk does not.
func ofTheInput(err error) bool {
	var refused *refusal.Refusal
	return errors.As(err, &refused) || errors.Is(err, dicom.ErrMalformed) || errors.Is(err, dicom.ErrUnsupported) ||
		errors.Is(err, ErrNothingMeasured)
}

// failed tries a job again later, and gives it up after some tries. Of what goes to a destination that is for panics alone.
func (p *Pipeline) failed(ctx context.Context, job *store.Job, reason error) error {
	if job.Lease != 0 {
		if err := p.store.Held(job); err != nil { // a computation that was abandoned: what became of it is decided
			return err
		}
	}
	if defect := (*panics.Error)(nil); errors.As(reason, &defect) {
		p.log.Error("a job panicked; please report this", "queue", job.Queue, "study", job.Study, "panic", fmt.Sprint(defect.Value), "stack", defect.Stack)
	}
	tries := failTries
	if errors.Is(reason, errSlow) {
		tries = slowTries
	}
	if job.Tries+1 >= tries {
		return p.giveUp(ctx, job, fmt.Sprintf("given up after %d tries: %v", job.Tries+1, reason))
	}
	at := time.Now().Add(p.opt.Backoff.after(job.Tries))
	p.log.Warn("job will be tried again", "queue", job.Queue, "study", job.Study, "tries", job.Tries+1, "at", at, "err", reason)
	return p.insist(ctx, job, func(ctx context.Context) error { return p.store.Retry(ctx, job.Key, at, reason.Error()) })
}

// park gives a job up, and makes c happen with that.
func (p *Pipeline) park(ctx context.Context, job *store.Job, reason string, c store.Change) error {
	c.Lease = job.Lease
	return p.insist(ctx, job, func(ctx context.Context) error { return p.store.Park(ctx, job.Key, reason, c) })
}

// giveUp parks a job, and a state of the study says why. A computation is tried anew when the study is sent again, all of them when a
// person says so.
func (p *Pipeline) giveUp(ctx context.Context, job *store.Job, reason string) error {
	switch courier(job.Queue) {
	case delivers:
		return p.giveUpDelivery(ctx, job, reason)
	case confirms, reports:
		if err := p.park(ctx, job, reason, store.Change{}); err != nil {
			return err
		}
		p.log.Error("storage commitment given up; radnode requeue tries again", "queue", job.Queue, "job", job.Key, "study", job.Study, "reason", reason)
		return nil
	}
	var t task
	if err := json.Unmarshal(job.Payload, &t); err != nil {
		return p.park(ctx, job, "payload: "+err.Error(), store.Change{})
	}
	d := detail{Series: t.Series}
	if study, err := p.store.Study(job.Study); err == nil {
		old, _ := stateOf(study, t.key())
		d = detailOf(old) // a report that stands is named by the next one
	}
	d.Input, d.Images, d.Took, d.Codes, d.Config, d.Job = t.Input, len(t.Images), nil, nil, p.config, job.Key
	err := p.park(ctx, job, reason, store.Change{States: []store.State{{
		Study: job.Study, Subject: t.key(), Name: StateFailed, Rule: t.Rule, Detail: d.raw(), Reason: reason, At: time.Now(),
	}}})
	if err != nil {
		return err
	}
	p.count(func(s *Stats) { s.Failed++ })
	p.log.Error("study given up; it is tried again when it is sent again, or by radnode requeue", "study", job.Study, "contours", t.Subject, "series", t.Series, "reason", reason)
	return nil
}
