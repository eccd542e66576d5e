package pipeline

import (
	"context"
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
	Meta dicom.FileMeta
	Open func() (io.ReadCloser, error) // the data set in Meta.TransferSyntaxUID
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

// deliveryJob puts a result into the outbox of one destination: the segmentation first, so that a viewer finds it when the
// report arrives.
func deliveryJob(to dimse.Peer, study string, made Made) store.Job {
	d := delivery{To: to.String(), Objects: []string{made.Segmentation.Identity.SOPInstanceUID, made.Report.Identity.SOPInstanceUID}}
	payload, err := json.Marshal(d)
	if err != nil {
		panic(err) // strings only
	}
	return store.Job{
		Key: "deliver/" + d.To + "/" + made.Report.Identity.SOPInstanceUID, Queue: deliverPrefix + d.To, Study: study, Payload: payload, RunAt: time.Now(),
	}
}

// deliverTo returns where the reports of a study go.
func (p *Pipeline) deliverTo(sentBy string) []dimse.Peer {
	if len(p.opt.Deliver) > 0 {
		return p.opt.Deliver
	}
	if p.opt.ReplyTo != nil {
		if to, ok := p.opt.ReplyTo(sentBy); ok {
			return []dimse.Peer{to}
		}
	}
	return nil
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

// versions returns the encodings in which a stored object may be delivered. A report has one for each class from its own
// on; each has a UID of its own, since two SOP Classes never share an instance.
func (p *Pipeline) versions(uid string) ([]Version, error) {
	o, err := p.store.OpenInstance(uid)
	if err != nil {
		return nil, fmt.Errorf("instance %s: %w", uid, err)
	}
	meta := o.Meta()
	o.Close()
	out := []Version{{Meta: meta, Open: func() (io.ReadCloser, error) {
		o, err := p.store.OpenInstance(uid)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.NewSectionReader(o, 0, o.Size), o}, nil
	}}}
	i := slices.Index(reportClasses, meta.MediaStorageSOPClassUID)
	if i < 0 {
		return out, nil
	}
	for _, class := range reportClasses[i+1:] {
		other := meta
		other.MediaStorageSOPClassUID = class
		other.MediaStorageSOPInstanceUID = dicom.UIDFrom(uid, class)
		out = append(out, Version{Meta: other, Open: func() (io.ReadCloser, error) { return p.reclassed(uid, other) }})
	}
	return out, nil
}

// reclassed encodes a stored report under another SOP Class and Instance UID.
func (p *Pipeline) reclassed(uid string, as dicom.FileMeta) (io.ReadCloser, error) {
	f, done, err := p.open(uid)
	if err != nil {
		return nil, err
	}
	defer done()
	f.DataSet.SetString(dicom.SOPClassUID, as.MediaStorageSOPClassUID)
	f.DataSet.SetString(dicom.SOPInstanceUID, as.MediaStorageSOPInstanceUID)
	b, err := f.DataSet.EncodedBytes()
	if err != nil {
		return nil, err
	}
	return io.NopCloser(strings.NewReader(string(b))), nil
}

// DIMSE is the Sender that uses C-STORE, one association for each delivery.
type DIMSE struct {
	CallingAET string
	Timeout    time.Duration // for the whole delivery; 0 = 5 minutes
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
			p := dimse.Proposal{SOPClass: v.Meta.MediaStorageSOPClassUID, TransferSyntaxes: []string{v.Meta.TransferSyntaxUID}}
			if !slices.ContainsFunc(proposals, func(q dimse.Proposal) bool { return q.SOPClass == p.SOPClass }) {
				proposals = append(proposals, p)
			}
		}
	}
	c, err := dimse.Dial(ctx, to, dimse.DialOptions{CallingAET: s.CallingAET, Proposals: proposals})
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

// store sends the first version that the peer accepts.
func (s DIMSE) store(ctx context.Context, c *dimse.Client, versions []Version) error {
	for _, v := range versions {
		if !c.Accepted(v.Meta.MediaStorageSOPClassUID, v.Meta.TransferSyntaxUID) {
			continue
		}
		body, err := v.Open()
		if err != nil {
			return err
		}
		defer body.Close()
		status, err := c.Store(ctx, v.Meta, body)
		if err != nil {
			return fmt.Errorf("%s %s: %w", dicom.UIDName(v.Meta.MediaStorageSOPClassUID), v.Meta.MediaStorageSOPInstanceUID, err)
		}
		// The UID follows from the content: a duplicate is this object, sent before the answer got lost.
		if !status.Success() && status.Code != dimse.StatusDuplicateInstance {
			return fmt.Errorf("%s %s refused: %w", dicom.UIDName(v.Meta.MediaStorageSOPClassUID), v.Meta.MediaStorageSOPInstanceUID, &status)
		}
		return nil
	}
	var tried []string
	for _, v := range versions {
		tried = append(tried, dicom.UIDName(v.Meta.MediaStorageSOPClassUID))
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
