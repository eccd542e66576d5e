package pipeline

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/store"
)

// Names of the states that tell of a delivery; their subject is [deliverySubject].
const (
	StateDelivered   = "delivered"   // the destination answered Success for every object
	StateConfirmed   = "confirmed"   // and committed to keep every one of them, PS3.4 J.3
	StateUndelivered = "undelivered" // given up, or lost by the destination and sent again; the reason says which
)

// deliverySubject is the subject of the state of a delivery: its destination, AET@HOST:PORT, and its last object, a report
// where the delivery has one.
func deliverySubject(to string, objects []string) string {
	return "deliver/" + to + "/" + objects[len(objects)-1]
}

// DestinationStats tells how a destination fares.
type DestinationStats struct {
	To         string `json:"to"`         // AET@HOST:PORT
	Configured bool   `json:"configured"` // false: it was once, and what was promised to it is still tried

	Down      time.Time `json:"down,omitzero"`    // since when it is not reached, or takes nothing; zero: it answered, or was not tried yet
	NextTry   time.Time `json:"nextTry,omitzero"` // of one delivery, while it is down
	LastError string    `json:"lastError,omitempty"`

	Waiting   int `json:"waiting"`   // deliveries
	Parked    int `json:"parked"`    // deliveries that were given up; Requeue of the store brings them back
	Delivered int `json:"delivered"` // deliveries, since the start

	// Storage Commitment, where it is asked for. Confirmed and Lost count deliveries since the start: those that the destination
	// committed to keep, and those of which it has lost an object, which is sent again.
	Commit      bool      `json:"commit,omitempty"`
	NotOffered  time.Time `json:"notOffered,omitzero"`   // when the destination was found not to offer it
	Unconfirmed int       `json:"unconfirmed,omitempty"` // deliveries without an answer yet, those given up included
	Confirmed   int       `json:"confirmed,omitempty"`
	Lost        int       `json:"lost,omitempty"`
}

// Destinations tells how every destination fares: those that are configured in their order, then the others by name.
func (p *Pipeline) Destinations() []DestinationStats {
	var list []DestinationStats
	add := func(to string, configured bool) {
		if slices.ContainsFunc(list, func(s DestinationStats) bool { return s.To == to }) {
			return
		}
		s := p.destination(to).stats()
		s.Configured = configured
		list = append(list, s)
	}
	for _, d := range p.opt.Deliver {
		add(d.String(), true)
	}
	queues := p.store.Queues()
	var others []string
	for queue, q := range queues {
		to, ours := leads(queue)
		if configured := p.configured(to); ours && (configured || q.Pending+q.Leased+q.Parked > 0) {
			others = append(others, to)
		}
	}
	slices.Sort(others)
	for _, configured := range []bool{true, false} {
		for _, to := range others {
			if p.configured(to) == configured {
				add(to, configured)
			}
		}
	}
	for i := range list {
		q, c := queues[deliverPrefix+list[i].To], queues[commitPrefix+list[i].To]
		list[i].Waiting, list[i].Parked, list[i].Unconfirmed = q.Pending+q.Leased, q.Parked, c.Pending+c.Leased+c.Parked
	}
	return list
}

// configured says whether results may go to AET@HOST:PORT by the present configuration.
func (p *Pipeline) configured(to string) bool {
	return slices.ContainsFunc(slices.Concat(p.opt.Deliver, p.opt.ReplyTo), func(d Destination) bool { return d.String() == to })
}

// destination is the one AET@HOST:PORT; all that works for it shares it.
func (p *Pipeline) destination(to string) *destination {
	p.outbox.mu.Lock()
	defer p.outbox.mu.Unlock()
	d := p.outbox.destinations[to]
	if d == nil {
		d = &destination{to: to, backoff: p.opt.Backoff, changed: make(chan struct{}), broken: map[string]*broken{}, asked: map[string]asked{}}
		for _, c := range slices.Concat(p.opt.Deliver, p.opt.ReplyTo) {
			d.commit = d.commit || c.Commit && c.String() == to
		}
		if p.outbox.destinations == nil {
			p.outbox.destinations = map[string]*destination{}
		}
		p.outbox.destinations[to] = d
	}
	return d
}

// peerOf finds the address of an AE title.
func (p *Pipeline) peerOf(aet string) (dimse.Peer, bool) {
	for _, d := range slices.Concat(p.opt.ReplyTo, p.opt.Deliver) {
		if d.AETitle == aet {
			return d.Peer, true
		}
	}
	return dimse.Peer{}, false
}

// A destination knows whether a peer can be worked with: a circuit breaker. While it is down nothing is tried until a
// pause is over, then one thing is; that it is answered, with whatever status, brings the destination back.
type destination struct {
	to      string
	backoff Backoff
	commit  bool // it is asked for Storage Commitment

	mu       sync.Mutex // guards what follows
	changed  chan struct{}
	down     time.Time // zero: up
	failures int       // since it is down
	next     time.Time // when it may be tried
	probing  bool      // it is being tried
	last     error
	fine     bool // the latest thing that was tried was answered

	broken map[string]*broken // by the key of the job

	reached bool // and failed then, since it is down

	delivered, confirmed, lost int
	notOffered                 time.Time
	asked                      map[string]asked // by Transaction UID

	loading sync.Once // of asked, with those of an earlier run
}

// A broken delivery is one at which an association broke off, or resources ran out. Whether that is the fault of its objects or
// of the destination shows when others are delivered: a first time it has the benefit of the doubt.
type broken struct {
	job     *store.Job // still claimed
	times   int
	suspect bool // others arrived since
}

// wait blocks until something may be tried; false says that ctx is done.
func (d *destination) wait(ctx context.Context) bool {
	for {
		d.mu.Lock()
		pause, free, changed := time.Until(d.next), !d.probing, d.changed
		if d.down.IsZero() || free && pause <= 0 {
			d.mu.Unlock()
			return ctx.Err() == nil
		}
		d.mu.Unlock()
		var due <-chan time.Time
		timer := time.NewTimer(max(pause, 0))
		if free {
			due = timer.C
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-due:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return false
		}
	}
}

// begin takes the right to try something; where it is down, for one at a time. It is given back by end.
func (d *destination) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down.IsZero() {
		return true
	}
	if d.probing || time.Until(d.next) > 0 {
		return false
	}
	d.probing = true
	return true
}

// end gives the right back where neither answered nor failed did.
func (d *destination) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.probing {
		d.probing = false
		d.signal()
	}
}

// signal wakes those who wait; d.mu is held.
func (d *destination) signal() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// answered says that the destination has dealt with a job, whatever it said. It returns since when it was down, if it was,
// and the jobs that broke off before and deserve another try now.
func (d *destination) answered(key string) (down time.Time, again []*store.Job) {
	d.mu.Lock()
	defer d.mu.Unlock()
	down = d.down
	d.down, d.failures, d.next, d.probing, d.last, d.fine = time.Time{}, 0, time.Time{}, false, nil, true
	d.reached = false
	delete(d.broken, key)
	for _, b := range d.broken {
		if !b.suspect {
			b.suspect = true
			again = append(again, b.job)
		}
	}
	if !down.IsZero() {
		d.signal()
	}
	return down, again
}

// failed says that the destination as a whole could not be worked with. It returns when it is tried again, and whether it
// was up until now.
func (d *destination) failed(err error, reached bool) (next time.Time, first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	first = d.down.IsZero()
	now := time.Now()
	if first {
		d.down = now
	}
	d.next = now.Add(d.backoff.after(d.failures))
	d.failures++
	d.probing, d.last, d.fine, d.reached = false, err, false, d.reached || reached
	d.signal()
	return d.next, first
}

// brokeOff says that a job broke off, how often it has, and whether it alone is to blame: others arrived before it and after
// its first time.
func (d *destination) brokeOff(job *store.Job) (times int, alone bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.broken[job.Key]
	if b == nil {
		b = &broken{}
		d.broken[job.Key] = b
	}
	b.job = job
	b.times++
	alone = b.suspect && d.fine
	if alone {
		d.fine = false // the next that breaks off is no coincidence
	}
	return b.times, alone
}

// forget is for a job that will not be tried again.
func (d *destination) forget(key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.broken, key)
}

func (d *destination) count(f func(d *destination)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d)
}

func (d *destination) stats() DestinationStats {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := DestinationStats{
		To: d.to, Down: d.down, NextTry: d.next, Delivered: d.delivered, Commit: d.commit, NotOffered: d.notOffered,
		Confirmed: d.confirmed, Lost: d.lost,
	}
	if d.last != nil {
		s.LastError = d.last.Error()
	}
	return s
}

// An outbox sees to it that every destination has workers of its own, so that one which does not answer delays no other.
type outbox struct {
	mu           sync.Mutex // guards what follows
	start        func(queue string)
	served       map[string]bool
	destinations map[string]*destination // by AET@HOST:PORT
}

// open says how a worker is started.
func (o *outbox) open(start func(queue string)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.start, o.served = start, map[string]bool{}
}

// serve starts the worker of a queue to a destination where it does not run yet; other queues are none of its business.
func (o *outbox) serve(queue string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if courier(queue) != 0 && o.start != nil && !o.served[queue] {
		o.served[queue] = true
		o.start(queue)
	}
}

// An errand is what the jobs of a queue to a destination are about.
type errand int

const (
	delivers errand = iota + 1
	confirms
	reports
)

// courier says what a queue is about; 0: it leads to no destination.
func courier(queue string) errand {
	switch {
	case strings.HasPrefix(queue, deliverPrefix):
		return delivers
	case strings.HasPrefix(queue, commitPrefix):
		return confirms
	case strings.HasPrefix(queue, reportPrefix):
		return reports
	}
	return 0
}

// carry works on one queue to a destination.
func (p *Pipeline) carry(ctx context.Context, queue string) error {
	switch courier(queue) {
	case confirms:
		return p.visit(ctx, queue, p.destination(strings.TrimPrefix(queue, commitPrefix)), p.confirm)
	case reports:
		return p.visitCaller(ctx, queue)
	}
	return p.visit(ctx, queue, p.destination(strings.TrimPrefix(queue, deliverPrefix)), p.deliver)
}

// visit claims the jobs of a queue one after the other while their destination can be worked with.
func (p *Pipeline) visit(ctx context.Context, queue string, d *destination, do func(context.Context, *destination, *store.Job) error) error {
	for d.wait(ctx) {
		job, err := p.store.Claim(ctx, queue, deliverLease)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("claim from %s: %w", queue, err)
		}
		if !d.begin() { // it went down while this worker had nothing to do
			p.giveBack(job, 0)
			continue
		}
		err = p.guarded(ctx, job, func(ctx context.Context, job *store.Job) error { return do(ctx, d, job) })
		d.end()
		p.stored(ctx, job, err)
	}
	return nil
}

// giveBack lets a job be claimed again after a pause, and neither counts nor keeps a try: nothing is written for as long as a
// destination is down.
func (p *Pipeline) giveBack(job *store.Job, pause time.Duration) {
	if err := p.store.Extend(job, pause); err != nil {
		p.log.Debug("job not given back; it is done, or somebody else has it", "err", err)
	}
}

// back notes that a destination dealt with a job.
func (p *Pipeline) back(d *destination, key string) {
	down, again := d.answered(key)
	for _, job := range again {
		p.giveBack(job, 0)
	}
	if !down.IsZero() {
		p.log.Info("destination is back", "to", d.to, "waiting", p.waitingFor(d.to), "down", time.Since(down).Round(time.Second))
	}
}

// greeted notes that an association with a destination came about for another purpose than a delivery. That says nothing where
// deliveries fail on theirs.
func (p *Pipeline) greeted(d *destination) {
	d.mu.Lock()
	reached := d.reached
	d.mu.Unlock()
	if !reached {
		p.back(d, "")
	}
}

// away notes that a destination as a whole could not be worked with, and returns when it is tried again.
func (p *Pipeline) away(d *destination, reason error) time.Time {
	next, first := d.failed(reason, errors.Is(reason, ErrBroken) || errors.As(reason, new(*dimse.Status)))
	if first {
		p.log.Warn("destination is down; what is for it waits, and it is tried until it is back", "to", d.to, "waiting", p.waitingFor(d.to),
			"next", next.Round(time.Millisecond), "err", reason)
	} else {
		p.log.Debug("destination is still down", "to", d.to, "next", next, "err", reason)
	}
	return next
}

func (p *Pipeline) waitingFor(to string) int {
	q := p.store.Queues()[deliverPrefix+to]
	return q.Pending + q.Leased
}

// leads is the destination that a queue of deliveries, or of what is to be confirmed of them, leads to.
func leads(queue string) (to string, ok bool) {
	for _, prefix := range []string{deliverPrefix, commitPrefix} {
		if to, ok = strings.CutPrefix(queue, prefix); ok {
			return to, true
		}
	}
	return "", false
}

// abandoned tells of deliveries that wait for destinations which are not configured any more: they were promised, so they are
// tried.
func (p *Pipeline) abandoned() {
	for _, d := range p.Destinations() {
		if !d.Configured {
			p.log.Warn("deliveries wait for a destination that is not configured any more; they are tried all the same, radnode discard drops them",
				"to", d.To, "waiting", d.Waiting, "given up", d.Parked, "unconfirmed", d.Unconfirmed)
		}
	}
}
