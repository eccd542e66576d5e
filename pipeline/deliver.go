package pipeline

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/store"
)

const (
	deliverTimeout = 30 * time.Minute // for a delivery; a silent destination is given up much sooner
	deliverLease   = 2 * deliverTimeout
	deliverGrace   = 10 * time.Second // for a delivery under way at shutdown
	deliverRelease = 5 * time.Second  // for the end of an association on which everything was confirmed

	refusedTries = 10 // then a delivery that is refused for what it brings is given up, visibly
)

// A Sender carries objects to a destination. It returns nil only when the destination has confirmed every object.
// An object comes in one or more versions, best first, that say the same under different SOP Classes: the first version
// whose class the destination takes is opened and sent, and no other.
//
// An error that wraps a [*dimse.Status], [ErrObjects] or [ErrBroken] says how far the fault goes; any other is taken to be
// that of the destination as a whole.
type Sender interface {
	Send(ctx context.Context, to dimse.Peer, objects [][]Version) error
}

var (
	// ErrObjects: these objects cannot be delivered, others may be.
	ErrObjects = errors.New("these objects cannot be delivered")
	// ErrBroken: the destination was reached, and then the association broke off.
	ErrBroken = errors.New("the association broke off")
)

// A Version is one encoding of an object that is to be delivered.
type Version struct {
	SOPClassUID, SOPInstanceUID string
	// Open encodes the data set in Explicit or Implicit VR Little Endian.
	Open func(transferSyntax string) (io.ReadCloser, error)
}

// Backoff spaces the tries of a destination that is down: First, doubled each time up to Max, each with a random part so that
// many nodes do not return at the same moment. It is tried for ever.
//
// A delivery that is refused for what it brings waits by itself: First, four times as long each time, up to Refused. Ten tries
// take about a day; then it is given up.
type Backoff struct {
	First, Max time.Duration // 0 = 2 s and 10 min
	Refused    time.Duration // 0 = 12 h
}

func (b Backoff) withDefaults() Backoff {
	if b.First <= 0 {
		b.First = 2 * time.Second
	}
	if b.Max <= 0 {
		b.Max = 10 * time.Minute
	}
	if b.Refused <= 0 {
		b.Refused = 12 * time.Hour
	}
	return b
}

// after returns the pause that follows failure number tries+1: between half and all of the doubled step.
func (b Backoff) after(tries int) time.Duration {
	return jittered(b.First, tries, b.Max)
}

// refused returns the pause that follows refusal number tries+1 of a delivery.
func (b Backoff) refused(tries int) time.Duration { return jittered(b.First, 2*tries, b.Refused) }

// jittered doubles first, up to limit, and takes between half and all of it.
func jittered(first time.Duration, doublings int, limit time.Duration) time.Duration {
	step := first
	for range doublings {
		if step >= limit {
			break
		}
		step *= 2
	}
	step = min(step, limit)
	return step/2 + rand.N(step/2+1)
}

// A delivery is the payload of an outbox job.
type delivery struct {
	To      string   `json:"to"`      // AET@HOST:PORT
	Objects []string `json:"objects"` // SOP Instance UIDs, in the order of sending

	Subject string `json:"subject,omitempty"` // of the state, where it is another than that of To and Objects
	Losses  int    `json:"losses,omitempty"`  // how often the destination lost what it had taken
}

func (d delivery) subject() string {
	if d.Subject != "" {
		return d.Subject
	}
	return deliverySubject(d.To, d.Objects)
}

// A Destination is a peer that gets results, in a style of its own.
type Destination struct {
	dimse.Peer
	Style  Style
	Commit bool // it is asked for Storage Commitment of what was delivered
}

// styleOf is the style of a destination, with what it leaves to the general one and that to the default.
func (o Options) styleOf(d Destination) Style { return d.Style.Over(o.Style).Over(DefaultStyle) }

// allStyles are those that are configured.
func (o Options) allStyles() []Style {
	styles := []Style{o.Style}
	for _, d := range slices.Concat(o.Deliver, o.ReplyTo) {
		styles = append(styles, d.Style)
	}
	return styles
}

// styles are those of the destinations, each once; without a destination that of the options: the reports stay in the store.
func (p *Pipeline) styles(to []Destination) (styles []Style) {
	for _, d := range to {
		style := p.opt.styleOf(d)
		if i := slices.IndexFunc(styles, func(s Style) bool { return s.id() == style.id() }); i < 0 {
			styles = append(styles, style)
		} else { // what both want
			for _, document := range style.Documents {
				if !slices.Contains(styles[i].Documents, document) {
					styles[i].Documents = append(slices.Clip(styles[i].Documents), document)
				}
			}
		}
	}
	if len(styles) == 0 {
		styles = []Style{p.opt.Style.Over(DefaultStyle)}
	}
	return styles
}

// deliverTo returns where the results of a study go.
func (p *Pipeline) deliverTo(sentBy string) []Destination {
	if len(p.opt.Deliver) > 0 {
		return p.opt.Deliver
	}
	for _, to := range p.opt.ReplyTo {
		if to.AETitle == sentBy {
			return []Destination{to}
		}
	}
	return nil
}

// outgoing adds what was made to a change, with its deliveries. A report is the last of its delivery: a viewer finds what it
// refers to when it arrives. What is for people alone is delivered by itself: a destination that takes no PDF gets its reports
// and its captures.
//
// What replaces it later has the same subject, and never arrives before it.
func (p *Pipeline) outgoing(change *store.Change, to []Destination, study, subject string, segmentation []store.NewInstance, sets []Set) {
	change.Instances = append(change.Instances, segmentation...)
	for _, s := range sets {
		for _, item := range s.Items {
			change.Instances = append(change.Instances, item.Instances...)
		}
	}
	for _, d := range to {
		style := p.opt.styleOf(d)
		i := slices.IndexFunc(sets, func(s Set) bool { return s.Style.id() == style.id() })
		if i < 0 {
			continue
		}
		made := map[Document][]string{}
		for _, item := range sets[i].Items {
			made[item.Document] = uidsOf(item.Instances)
		}
		change.Jobs = append(change.Jobs, deliveries(d.Peer, style, study, subject, uidsOf(segmentation), made)...)
	}
}

func uidsOf(objects []store.NewInstance) (uids []string) {
	for _, o := range objects {
		uids = append(uids, o.Identity.SOPInstanceUID)
	}
	return uids
}

// deliveries bring what was made to a destination.
func deliveries(to dimse.Peer, style Style, study, subject string, segmentation []string, made map[Document][]string) (jobs []store.Job) {
	add := func(kind string, objects []string) {
		if len(objects) > 0 {
			job := deliveryJob(study, delivery{To: to.String(), Objects: objects})
			job.Serial = subject + "/" + kind // a PDF that is refused holds back later PDFs, and no report
			jobs = append(jobs, job)
		}
	}
	var reports []string
	if style.Segmentation == "send" {
		reports = slices.Clone(segmentation)
	}
	reports = append(reports, made[""]...)
	for _, d := range style.Documents {
		if d.report() {
			reports = append(reports, made[d]...)
		}
	}
	add("report", reports)
	for _, d := range style.Documents {
		if !d.report() {
			add(string(d), made[d])
		}
	}
	return jobs
}

// standing brings what stands to the destinations that have not got it, since they were not configured when it was made.
func (p *Pipeline) standing(d *detail, to []Destination, study, subject string) (jobs []store.Job) {
	for _, peer := range to {
		if slices.Contains(d.To, peer.String()) {
			continue
		}
		style := p.opt.styleOf(peer)
		made := map[Document][]string{}
		for _, document := range style.Documents {
			if uid := d.Documents[style.key(document)]; uid != "" {
				made[document] = []string{uid}
			} else {
				made[document] = d.Pages[style.key(document)]
			}
		}
		jobs = append(jobs, deliveries(peer.Peer, style, study, subject, []string{d.Segmentation}, made)...)
		d.To = append(d.To, peer.String())
	}
	return jobs
}

// serve starts what works on the deliveries of a change that is in the store.
func (p *Pipeline) serve(deliveries []store.Job) {
	for _, j := range deliveries {
		p.outbox.serve(j.Queue)
	}
}

// deliveryJob puts objects into the outbox of one destination.
func deliveryJob(study string, d delivery) store.Job {
	return store.Job{Key: deliverySubject(d.To, d.Objects), Queue: deliverPrefix + d.To, Study: study, Payload: payloadOf(d), RunAt: time.Now()}
}

// payloadOf is the payload of a job.
func payloadOf(payload any) []byte {
	b, err := json.Marshal(payload)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return b
}

// deliver sends one result to its destination, and puts it back into the outbox where that did not work.
func (p *Pipeline) deliver(ctx context.Context, to *destination, job *store.Job) error {
	var d delivery
	if err := json.Unmarshal(job.Payload, &d); err != nil {
		return p.park(ctx, job, "payload: "+err.Error(), store.Change{})
	}
	peer, err := dimse.ParsePeer(d.To)
	if err != nil {
		return p.park(ctx, job, err.Error(), store.Change{})
	}
	var objects [][]Version
	sent := make([]sentAs, len(d.Objects))
	for i, uid := range d.Objects {
		versions, err := p.versions(uid)
		if err != nil {
			return p.refusedDelivery(ctx, to, job, d, err)
		}
		sent[i].UID = uid
		objects = append(objects, sent[i].noted(versions))
	}
	start := time.Now()
	// A delivery under way is finished when the node is told to stop: what is delivered twice is stored once, but it need
	// not be delivered twice.
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(deliverGrace, cancel) })()
	if err := p.sender.Send(sending, peer, objects); err != nil {
		if ctx.Err() != nil {
			return nil // the job stays in the outbox
		}
		return p.undelivered(ctx, to, job, d, err)
	}
	change := store.Change{Lease: job.Lease, States: []store.State{{
		Study: job.Study, Subject: d.subject(), Name: StateDelivered, At: time.Now(), Detail: payloadOf(d),
	}}}
	if to.asks() {
		change.Jobs = []store.Job{p.commitJob(job.Study, newCommitment(job.Key, d, sent), time.Now().Add(p.opt.times.gather))}
	}
	err = p.insist(ctx, job, func(ctx context.Context) error { return p.store.Done(ctx, job.Key, change) })
	if err != nil {
		return err
	}
	p.back(to, job.Key)
	to.count(func(d *destination) { d.delivered++ })
	p.serve(change.Jobs)
	p.count(func(s *Stats) { s.Delivered++ })
	p.log.Info("report delivered", "study", job.Study, "to", d.To, "report", d.Objects[len(d.Objects)-1], "tries", job.Tries+1, "took", time.Since(start))
	return nil
}

// sentAs is what an object of the store was sent as.
type sentAs struct {
	UID   string `json:"uid"` // in the store
	Class string `json:"class"`
	As    string `json:"as"` // SOP Instance UID
}

// noted is versions, of which the one that is opened is remembered.
func (s *sentAs) noted(versions []Version) []Version {
	for i := range versions {
		v := versions[i]
		versions[i].Open = func(ts string) (io.ReadCloser, error) {
			s.Class, s.As = v.SOPClassUID, v.SOPInstanceUID
			return v.Open(ts)
		}
	}
	return versions
}

// undelivered decides when a delivery is tried again, and whether others to the same destination are meanwhile.
func (p *Pipeline) undelivered(ctx context.Context, to *destination, job *store.Job, d delivery, reason error) error {
	var status *dimse.Status
	answered := errors.As(reason, &status)
	switch {
	case errors.Is(reason, ErrObjects), answered && !short(status):
		return p.refusedDelivery(ctx, to, job, d, reason)
	case !answered && !errors.Is(reason, ErrBroken): // not even reached
		p.count(func(s *Stats) { s.Undelivered++ })
		p.away(to, reason)
		p.giveBack(job, 0)
		return nil
	}
	times, alone := to.brokeOff(job)
	if alone {
		if answered { // out of resources for these objects, and for no others
			return p.refusedDelivery(ctx, to, job, d, reason)
		}
		p.count(func(s *Stats) { s.Undelivered++ })
		to.end()
		at := time.Now().Add(p.opt.Backoff.refused(times))
		p.log.Warn("delivery breaks off where others arrive; it waits by itself", "study", job.Study, "to", d.To, "tries", times, "at", at, "err", reason)
		return p.insist(ctx, job, func(ctx context.Context) error { return p.store.Retry(ctx, job.Key, at, reason.Error()) })
	}
	p.count(func(s *Stats) { s.Undelivered++ })
	// The next try is of another delivery, where there is one: whatever breaks off at this one does not stop all of them.
	p.giveBack(job, time.Until(p.away(to, reason))+p.opt.Backoff.First)
	return nil
}

// short says whether a status speaks of the destination as a whole: Refused: Out of Resources (PS3.4 Table B.2-1), Refused: Not
// Authorised (PS3.7 C.5.11).
func short(s *dimse.Status) bool { return s.Code>>8 == 0xA7 || s.Code == dimse.StatusNotAuthorised }

// refusedDelivery lets one delivery wait by itself, and gives it up after refusedTries.
func (p *Pipeline) refusedDelivery(ctx context.Context, to *destination, job *store.Job, d delivery, reason error) error {
	var status *dimse.Status
	if errors.As(reason, &status) || errors.Is(reason, errNoClass) {
		p.back(to, job.Key) // it answers
	}
	p.count(func(s *Stats) { s.Undelivered++ })
	text := fmt.Sprintf("delivery to %s: %v", d.To, reason)
	if job.Tries+1 >= refusedTries {
		return p.giveUpDelivery(ctx, job, fmt.Sprintf("given up after %d tries: %v", job.Tries+1, reason))
	}
	at := time.Now().Add(p.opt.Backoff.refused(job.Tries))
	p.log.Warn("delivery refused; it is tried again by itself", "study", job.Study, "to", d.To, "report", d.Objects[len(d.Objects)-1],
		"tries", job.Tries+1, "at", at, "err", reason)
	return p.insist(ctx, job, func(ctx context.Context) error { return p.store.Retry(ctx, job.Key, at, text) })
}

// giveUpDelivery parks a delivery, and the state of the study says so.
func (p *Pipeline) giveUpDelivery(ctx context.Context, job *store.Job, reason string) error {
	var d delivery
	if err := json.Unmarshal(job.Payload, &d); err != nil || len(d.Objects) == 0 {
		return p.park(ctx, job, "payload cannot be read", store.Change{})
	}
	err := p.park(ctx, job, fmt.Sprintf("delivery to %s: %s", d.To, reason), store.Change{States: []store.State{{
		Study: job.Study, Subject: d.subject(), Name: StateUndelivered, Reason: reason, At: time.Now(), Detail: payloadOf(d),
	}}})
	if err != nil {
		return err
	}
	p.destination(d.To).forget(job.Key)
	p.log.Error("delivery given up; radnode requeue brings it back", "study", job.Study, "to", d.To, "report", d.Objects[len(d.Objects)-1], "reason", reason)
	return nil
}

// reportClasses are the SOP Classes that a report can be sent as, best first. The tree that radnode writes is legal in all
// three (PS3.3 A.35.13, A.35.3, A.35.2).
var reportClasses = []string{dicom.Comprehensive3DSRStorage, dicom.ComprehensiveSRStorage, dicom.EnhancedSRStorage}

// versions returns what a stored object may be delivered as. A report has a version for each class from its own on; each has
// a UID of its own, since two SOP Classes never share an instance.
func (p *Pipeline) versions(uid string) ([]Version, error) {
	in, err := p.store.Instance(uid)
	if err != nil {
		return nil, fmt.Errorf("instance %s: %w", uid, err)
	}
	version := func(class, as string) Version {
		return Version{class, as, func(ts string) (io.ReadCloser, error) { return p.recoded(uid, class, as, ts) }}
	}
	out := []Version{version(in.SOPClassUID, uid)}
	if i := slices.Index(reportClasses, in.SOPClassUID); i >= 0 {
		for _, class := range reportClasses[i+1:] {
			out = append(out, version(class, dicom.UIDFrom(uid, class)))
		}
	}
	return out, nil
}

// asClass names predecessors as the destination has them, which took them under the same class as it takes their successor.
func asClass(studies []*dicom.DataSet, class string) {
	for _, study := range studies {
		for _, series := range study.Seq(dicom.ReferencedSeriesSequence) {
			for _, ref := range series.Seq(dicom.ReferencedSOPSequence) {
				if was := ref.String(dicom.ReferencedSOPClassUID); slices.Index(reportClasses, was) < slices.Index(reportClasses, class) {
					ref.SetString(dicom.ReferencedSOPClassUID, class)
					ref.SetString(dicom.ReferencedSOPInstanceUID, dicom.UIDFrom(ref.String(dicom.ReferencedSOPInstanceUID), class))
				}
			}
		}
	}
}

// recoded gives the bytes of a stored object under a SOP Class, Instance UID and transfer syntax: its own ones where those
// are its own.
func (p *Pipeline) recoded(uid, class, as, ts string) (io.ReadCloser, error) {
	o, err := p.store.OpenInstance(uid)
	if err != nil {
		return nil, fmt.Errorf("instance %s: %w", uid, err)
	}
	if class == o.SOPClassUID && ts == o.TransferSyntaxUID {
		return struct {
			io.Reader
			io.Closer
		}{io.NewSectionReader(o, 0, o.Size), o}, nil
	}
	defer o.Close()
	f, err := dicom.ReadDataSet(o, o.Size, o.TransferSyntaxUID)
	if err != nil {
		return nil, fmt.Errorf("instance %s: %w", uid, err)
	}
	if f.Pixels != nil {
		pixels, err := io.ReadAll(f.Pixels.Reader())
		if err != nil {
			return nil, fmt.Errorf("instance %s: %w", uid, err)
		}
		f.DataSet.SetBytes(f.Pixels.Tag, f.Pixels.VR, pixels)
	}
	if class != o.SOPClassUID {
		asClass(f.DataSet.Seq(dicom.PredecessorDocumentsSequence), class)
	}
	f.DataSet.SetString(dicom.SOPClassUID, class)
	f.DataSet.SetString(dicom.SOPInstanceUID, as)
	encode := f.DataSet.EncodedBytes
	if ts == dicom.ImplicitVRLittleEndian {
		encode = f.DataSet.EncodedImplicit
	}
	b, err := encode()
	if err != nil {
		return nil, fmt.Errorf("instance %s: %w", uid, err)
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

// DIMSE is the Sender that uses C-STORE, one association for each delivery.
type DIMSE struct {
	CallingAET string
	Timeout    time.Duration                   // for the whole delivery; 0 = 30 minutes
	TLS        func(to dimse.Peer) *tls.Config // how a destination is called; nil, or an answer of nil = without TLS
}

// dial begins every association of the pipeline.
func (s DIMSE) dial(ctx context.Context, to dimse.Peer, proposals []dimse.Proposal, roles ...dimse.Role) (*dimse.Client, error) {
	o := dimse.DialOptions{CallingAET: s.CallingAET, Proposals: proposals, Roles: roles}
	if s.TLS != nil {
		o.TLS = s.TLS(to)
	}
	return dimse.Dial(ctx, to, o)
}

// Send stores the objects in their order and reads every status.
func (s DIMSE) Send(ctx context.Context, to dimse.Peer, objects [][]Version) error {
	timeout := s.Timeout
	if timeout <= 0 {
		timeout = deliverTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	var proposals []dimse.Proposal
	for _, versions := range objects {
		for _, v := range versions {
			if !slices.ContainsFunc(proposals, func(p dimse.Proposal) bool { return p.SOPClass == v.SOPClassUID }) {
				proposals = append(proposals, dimse.Proposal{SOPClass: v.SOPClassUID, TransferSyntaxes: deliverSyntaxes})
			}
		}
	}
	c, err := s.dial(ctx, to, proposals)
	if err != nil {
		return err
	}
	defer c.Abort() // no effect after a release
	for _, versions := range objects {
		if err := s.store(ctx, c, versions); err != nil {
			return err
		}
	}
	release(ctx, c)
	return nil
}

// deliverSyntaxes are the transfer syntaxes of a delivery, best first.
var deliverSyntaxes = []string{dicom.ExplicitVRLittleEndian, dicom.ImplicitVRLittleEndian}

// errNoClass: the destination answers, and has no use for the objects.
var errNoClass = fmt.Errorf("%w: the destination accepts none of their SOP Classes", ErrObjects)

// store sends the first version that the peer accepts.
func (s DIMSE) store(ctx context.Context, c *dimse.Client, versions []Version) error {
	var tried []string
	for _, v := range versions {
		name := dicom.UIDName(v.SOPClassUID)
		tried = append(tried, name)
		i := slices.IndexFunc(deliverSyntaxes, func(ts string) bool { return c.Accepted(v.SOPClassUID, ts) })
		if i < 0 {
			continue
		}
		opened, err := v.Open(deliverSyntaxes[i])
		if err != nil {
			return fmt.Errorf("%w: %w", ErrObjects, err)
		}
		defer opened.Close()
		body := &witness{Reader: opened}
		status, err := c.Store(ctx, dicom.FileMeta{
			MediaStorageSOPClassUID: v.SOPClassUID, MediaStorageSOPInstanceUID: v.SOPInstanceUID, TransferSyntaxUID: deliverSyntaxes[i],
		}, body)
		switch {
		case body.err != nil:
			return fmt.Errorf("%w: %s %s: %w", ErrObjects, name, v.SOPInstanceUID, body.err)
		case err != nil:
			return fmt.Errorf("%w: %s %s: %w", ErrBroken, name, v.SOPInstanceUID, err)
		case status.Success() || status.Code == dimse.StatusDuplicateInstance:
			return nil // the UID follows from the content: a duplicate is this object, sent before the answer got lost
		}
		return fmt.Errorf("%s %s refused: %w", name, v.SOPInstanceUID, &status)
	}
	return fmt.Errorf("%w: %s; enable one of them there as a storage SCP class", errNoClass, strings.Join(tried, ", "))
}

// A witness tells a fault of our own disk from one of the peer.
type witness struct {
	io.Reader
	err error
}

func (w *witness) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}
