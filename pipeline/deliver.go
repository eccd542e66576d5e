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
	"sync"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/store"
)

const (
	deliverLease = 10 * time.Minute
	deliverGrace = 10 * time.Second // for a delivery under way at shutdown
)

// A Sender carries objects to a destination. It returns nil only when the destination has confirmed every object.
// An object comes in one or more versions, best first, that say the same under different SOP Classes: the first version
// whose class the destination takes is sent, and no other.
type Sender interface {
	Send(ctx context.Context, to dimse.Peer, objects [][]Version) error
}

// A Version is one encoding of an object that is to be delivered.
type Version struct {
	SOPClassUID, SOPInstanceUID string
	// Open encodes the data set in Explicit or Implicit VR Little Endian.
	Open func(transferSyntax string) (io.ReadCloser, error)
}

// Backoff spaces the tries of a delivery: First, doubled each time up to Max, each with a random part so that many
// deliveries do not return at the same moment. A delivery is never given up.
type Backoff struct {
	First, Max time.Duration // 0 = 2 s and 10 min
}

func (b Backoff) withDefaults() Backoff {
	if b.First <= 0 {
		b.First = 2 * time.Second
	}
	if b.Max <= 0 {
		b.Max = 10 * time.Minute
	}
	return b
}

// after returns the pause that follows failure number tries+1: between half and all of the doubled step.
func (b Backoff) after(tries int) time.Duration {
	step := b.Max
	if tries < 30 {
		step = min(b.First<<tries, b.Max)
	}
	return step/2 + rand.N(step/2+1)
}

// A delivery is the payload of an outbox job.
type delivery struct {
	To      string   `json:"to"`      // AET@HOST:PORT
	Objects []string `json:"objects"` // SOP Instance UIDs, in the order of sending
}

// A Destination is a peer that gets results, in a style of its own.
type Destination struct {
	dimse.Peer
	Style Style
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
func (p *Pipeline) outgoing(change *store.Change, to []Destination, study string, segmentation []store.NewInstance, sets []Set) {
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
		change.Jobs = append(change.Jobs, deliveries(d.Peer, style, study, uidsOf(segmentation), made)...)
	}
}

func uidsOf(objects []store.NewInstance) (uids []string) {
	for _, o := range objects {
		uids = append(uids, o.Identity.SOPInstanceUID)
	}
	return uids
}

// deliveries bring what was made to a destination.
func deliveries(to dimse.Peer, style Style, study string, segmentation []string, made map[Document][]string) (jobs []store.Job) {
	var reports []string
	if style.Segmentation == "send" {
		reports = slices.Clone(segmentation)
	}
	reports = append(reports, made[""]...)
	var all [][]string
	for _, d := range style.Documents {
		if d.report() {
			reports = append(reports, made[d]...)
		} else {
			all = append(all, made[d])
		}
	}
	for _, objects := range append([][]string{reports}, all...) {
		if len(objects) > 0 {
			jobs = append(jobs, deliveryJob(to, study, objects))
		}
	}
	return jobs
}

// standing brings what stands to the destinations that have not got it, since they were not configured when it was made.
func (p *Pipeline) standing(d *detail, to []Destination, study string) (jobs []store.Job) {
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
		jobs = append(jobs, deliveries(peer.Peer, style, study, []string{d.Segmentation}, made)...)
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
func deliveryJob(to dimse.Peer, study string, objects []string) store.Job {
	d := delivery{To: to.String(), Objects: objects}
	payload, err := json.Marshal(d)
	if err != nil {
		panic(err) // strings only
	}
	return store.Job{
		Key: "deliver/" + d.To + "/" + d.Objects[len(d.Objects)-1], Queue: deliverPrefix + d.To, Study: study, Payload: payload, RunAt: time.Now(),
	}
}

// deliver sends one result to one destination, and puts it back into the outbox where that did not work.
func (p *Pipeline) deliver(ctx context.Context, job *store.Job) error {
	var d delivery
	if err := json.Unmarshal(job.Payload, &d); err != nil {
		return p.store.Park(ctx, job.Key, "payload: "+err.Error(), store.Change{})
	}
	to, err := dimse.ParsePeer(d.To)
	if err != nil {
		return p.store.Park(ctx, job.Key, err.Error(), store.Change{})
	}
	var objects [][]Version
	for _, uid := range d.Objects {
		versions, err := p.versions(uid)
		if err != nil {
			return p.undelivered(ctx, job, d, err)
		}
		objects = append(objects, versions)
	}
	start := time.Now()
	// A delivery under way is finished when the node is told to stop: what is delivered twice is stored once, but it need
	// not be delivered twice.
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(deliverGrace, cancel) })()
	if err := p.sender.Send(sending, to, objects); err != nil {
		if ctx.Err() != nil {
			return nil // the job stays in the outbox
		}
		return p.undelivered(ctx, job, d, err)
	}
	if err := p.store.Done(context.WithoutCancel(ctx), job.Key, store.Change{}); err != nil {
		return err
	}
	p.count(func(s *Stats) { s.Delivered++ })
	p.log.Info("report delivered", "study", job.Study, "to", d.To, "report", d.Objects[len(d.Objects)-1], "tries", job.Tries+1, "took", time.Since(start))
	return nil
}

func (p *Pipeline) undelivered(ctx context.Context, job *store.Job, d delivery, reason error) error {
	p.count(func(s *Stats) { s.Undelivered++ })
	return p.failed(ctx, job, fmt.Errorf("delivery to %s: %w", d.To, reason))
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
		return Version{class, as, func(ts string) (io.ReadCloser, error) { return p.encoded(uid, class, as, ts) }}
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

// encoded gives the bytes of a stored object under a SOP Class, Instance UID and transfer syntax: its own ones where those
// are its own.
func (p *Pipeline) encoded(uid, class, as, ts string) (io.ReadCloser, error) {
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
	Timeout    time.Duration                   // for the whole delivery; 0 = 5 minutes
	TLS        func(to dimse.Peer) *tls.Config // how a destination is called; nil, or an answer of nil = without TLS
}

// dial opens an association with a destination.
func (s DIMSE) dial(ctx context.Context, to dimse.Peer, proposals []dimse.Proposal) (*dimse.Client, error) {
	o := dimse.DialOptions{CallingAET: s.CallingAET, Proposals: proposals}
	if s.TLS != nil {
		o.TLS = s.TLS(to)
	}
	return dimse.Dial(ctx, to, o)
}

// Send stores the objects in their order and reads every status.
func (s DIMSE) Send(ctx context.Context, to dimse.Peer, objects [][]Version) error {
	timeout := s.Timeout
	if timeout <= 0 {
		timeout = 5 * time.Minute
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
	return c.Release(ctx)
}

// deliverSyntaxes are the transfer syntaxes of a delivery, best first.
var deliverSyntaxes = []string{dicom.ExplicitVRLittleEndian, dicom.ImplicitVRLittleEndian}

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
		body, err := v.Open(deliverSyntaxes[i])
		if err != nil {
			return err
		}
		defer body.Close()
		status, err := c.Store(ctx, dicom.FileMeta{
			MediaStorageSOPClassUID: v.SOPClassUID, MediaStorageSOPInstanceUID: v.SOPInstanceUID, TransferSyntaxUID: deliverSyntaxes[i],
		}, body)
		if err != nil {
			return fmt.Errorf("%s %s: %w", name, v.SOPInstanceUID, err)
		}
		// The UID follows from the content: a duplicate is this object, sent before the answer got lost.
		if !status.Success() && status.Code != dimse.StatusDuplicateInstance {
			return fmt.Errorf("%s %s refused: %w", name, v.SOPInstanceUID, &status)
		}
		return nil
	}
	return errors.New("the destination accepts none of " + strings.Join(tried, ", ") + ": enable one of them there as a storage SCP class")
}

// An outbox sees to it that every destination has a worker of its own, so that one which does not answer delays no other.
type outbox struct {
	mu     sync.Mutex // guards what follows
	start  func(queue string)
	served map[string]bool
}

// open says how a worker is started.
func (o *outbox) open(start func(queue string)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.start, o.served = start, map[string]bool{}
}

// serve starts the worker of a delivery queue where it does not run yet; other queues are none of its business.
func (o *outbox) serve(queue string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if strings.HasPrefix(queue, deliverPrefix) && !o.served[queue] {
		o.served[queue] = true
		o.start(queue)
	}
}
