package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/store"
)

// Storage Commitment, PS3.4 J: we ask destinations whether they keep what was delivered, and answer peers that ask us.

const (
	commitGather = 2 * time.Second // what is delivered within it is asked for on one association
	commitAwait  = 5 * time.Second // for results on the association of the request
	commitWait   = 2 * time.Hour   // half to all of it for a result on another, doubled each time up to commitMaxWait; then it is asked again
	commitRounds = 10              // of asking, which take days; then it is given up, visibly
	commitLosses = 5               // how often what the destination has lost is sent again
	commitAtOnce = 32              // requests on one association
	commitOffers = time.Hour       // how long a destination that does not offer it is not asked

	commitMaxWait = 24 * time.Hour
	askTimeout    = 10 * time.Minute // for an association with requests, well within deliverLease
)

const (
	reportPatience = 24 * time.Hour   // in which a peer must be reached that asked us
	reportAfter    = 30 * time.Second // it is called back, where it did not take the result on its own association
	reportTimeout  = 2 * time.Minute
	reportPending  = 1000 // requests that one AE title may have waiting

	// What is asked for is read from the disk before it is promised. A peer waits for that on its association: a few
	// seconds where it can be called back, and as long as peers commonly wait for a response where it cannot.
	checkShort, checkLong = 5 * time.Second, 20 * time.Second
)

// commitTimes are as above, unless a test has less of it.
type commitTimes struct{ gather, await, wait, report time.Duration }

func (t commitTimes) withDefaults() commitTimes {
	if t == (commitTimes{}) {
		return commitTimes{commitGather, commitAwait, commitWait, reportAfter}
	}
	return t
}

// A Confirmer carries Storage Commitment to other nodes.
type Confirmer interface {
	// AskCommitment sends requests to a destination on one association and waits a while for the results that come on it.
	// Without an association there are no answers; [dimse.ErrNotAccepted] says that the destination does not offer it.
	AskCommitment(ctx context.Context, to dimse.Peer, requests []dimse.CommitmentRequest, wait time.Duration) ([]CommitmentAnswer, error)
	// ReportCommitment tells a peer the result of its request. A [*dimse.Status] is its refusal, [ErrBroken] and
	// [dimse.ErrNotAccepted] say that it was reached.
	ReportCommitment(ctx context.Context, to dimse.Peer, result dimse.CommitmentResult) error
}

// A CommitmentAnswer is what became of a request on its association.
type CommitmentAnswer struct {
	Err    error                   // nil: the destination took the request
	Result *dimse.CommitmentResult // nil: it comes on another association
}

// A commitment is the payload of a job that asks a destination to commit to what was delivered. Its key names its latest
// transaction and the AE title that is asked; nobody else can confirm it.
type commitment struct {
	To      string   `json:"to"`   // AET@HOST:PORT
	Sent    []sentAs `json:"sent"` // objects of the delivery
	Subject string   `json:"subject"`
	Losses  int      `json:"losses,omitempty"` // as in the delivery

	Delivery     string   `json:"delivery"`        // key of its job
	Asked        int      `json:"asked,omitempty"` // transactions so far
	Round        int      `json:"round,omitempty"` // the same since an operator brought it back
	Transactions []string `json:"transactions"`    // the latest last; a result of an earlier one counts as well
}

func newCommitment(key string, d delivery, sent []sentAs) commitment {
	return commitment{To: d.To, Sent: sent, Subject: d.subject(), Losses: d.Losses, Delivery: key}
}

// commitKey is the key of a job that asks for commitment.
func commitKey(aet, transaction string) string { return "commitment/" + aet + "/" + transaction }

// commitJob asks for c by a new transaction. It follows from the delivery, so that a restart makes no second one.
func (p *Pipeline) commitJob(study string, c commitment, at time.Time) store.Job {
	transaction := dicom.UIDFrom("commitment", p.opt.Equipment.DeviceUID, c.Delivery, strconv.Itoa(c.Asked))
	c.Asked++
	c.Transactions = append(slices.Clip(c.Transactions[max(0, len(c.Transactions)-commitRounds):]), transaction)
	aet, _, _ := strings.Cut(c.To, "@")
	return store.Job{Key: commitKey(aet, transaction), Queue: commitPrefix + c.To, Study: study, Payload: payloadOf(c), RunAt: at}
}

// asks says whether what is delivered to a destination is to be confirmed.
func (d *destination) asks() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.commit && (d.notOffered.IsZero() || time.Since(d.notOffered) > commitOffers)
}

// An asked commitment is one whose result is welcome.
type asked struct {
	key, study string
	commitment
}

// remember makes the result of a commitment welcome; newer says that it replaces what is known of its transactions.
func (d *destination) remember(a asked, newer bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range a.Transactions {
		if _, known := d.asked[t]; newer || !known {
			d.asked[t] = a
		}
	}
}

// confirm asks a destination to commit to what a job is about, and to what other jobs of the queue are about that are due.
func (p *Pipeline) confirm(ctx context.Context, to *destination, job *store.Job) error {
	jobs := []*store.Job{job}
	for len(jobs) < commitAtOnce {
		soon, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		next, err := p.store.Claim(soon, job.Queue, deliverLease)
		cancel()
		if err != nil {
			break
		}
		jobs = append(jobs, next)
	}
	open := make(map[*store.Job]bool)
	for _, j := range jobs {
		open[j] = true
	}
	defer func() { // what this ends without, at an error or a panic, is not kept from others for the rest of the lease
		delete(open, job) // whoever called sees to that
		for j := range open {
			p.giveBack(j, p.outcomeRetry)
		}
	}()
	write := func(j *store.Job, write func(context.Context) error) error {
		delete(open, j)
		return settled(p.insist(ctx, j, write))
	}
	end := func(list []*store.Job) error { // what they are about stays unconfirmed
		for _, j := range list {
			if err := write(j, func(ctx context.Context) error { return p.store.Done(ctx, j.Key, store.Change{Lease: j.Lease}) }); err != nil {
				return err
			}
		}
		return nil
	}
	peer, err := dimse.ParsePeer(to.to)
	confirmer, able := p.sender.(Confirmer)
	if err == nil && !able {
		err = errors.New("there is no way to ask for storage commitment")
	}
	if err != nil {
		return p.park(ctx, job, err.Error(), store.Change{})
	}
	if p.configured(to.to) && !to.commit {
		p.log.Info("storage commitment is not asked for any more at this destination: what was delivered to it stays unconfirmed", "to", to.to, "deliveries", len(jobs))
		return end(jobs)
	}
	var (
		due      []asked
		held     []*store.Job
		requests []dimse.CommitmentRequest
	)
	for _, j := range jobs {
		a := asked{key: j.Key, study: j.Study}
		if err := json.Unmarshal(j.Payload, &a.commitment); err != nil || len(a.Transactions) == 0 {
			if err := write(j, func(ctx context.Context) error {
				return p.store.Park(ctx, j.Key, "payload cannot be read", store.Change{Lease: j.Lease})
			}); err != nil {
				return err
			}
			continue
		}
		if j.LastError != "" { // it was asked for, and time is up; or an operator has brought it back, which forgets the tries
			if j.Tries == 0 {
				a.Round = -1
			}
			err := write(j, func(ctx context.Context) error {
				return p.askAgain(ctx, to, a, 0, "the destination did not say whether it keeps what was delivered")
			})
			if err != nil {
				return err
			}
			continue
		}
		rq := dimse.CommitmentRequest{TransactionUID: a.Transactions[len(a.Transactions)-1]}
		for _, s := range a.Sent {
			rq.Instances = append(rq.Instances, dimse.SOPReference{ClassUID: s.Class, InstanceUID: s.As})
		}
		to.remember(a, true)
		due, held, requests = append(due, a), append(held, j), append(requests, rq)
	}
	if len(due) == 0 {
		return nil
	}
	answers, err := confirmer.AskCommitment(ctx, peer, requests, p.opt.times.await)
	var rejected *dimse.RejectedError
	switch {
	case ctx.Err() != nil:
		return nil // the jobs stay
	case errors.Is(err, dimse.ErrNotAccepted):
		p.greeted(to)
		p.notOffered(to)
		return end(held)
	case answers == nil && !errors.As(err, &rejected):
		p.away(to, err)
		for _, j := range held {
			delete(open, j)
			p.giveBack(j, 0)
		}
		return nil
	case answers == nil: // it may take deliveries all the same
		answers = slices.Repeat([]CommitmentAnswer{{Err: err}}, len(due))
	}
	p.greeted(to)
	for i, a := range due {
		if err := write(held[i], func(ctx context.Context) error { return p.requested(ctx, to, a, answers[i]) }); err != nil {
			return err
		}
	}
	return nil
}

// requested keeps what became of a request on its association.
func (p *Pipeline) requested(ctx context.Context, to *destination, a asked, answer CommitmentAnswer) error {
	switch {
	case answer.Result != nil:
		return p.settle(ctx, to, a, *answer.Result)
	case answer.Err != nil:
		return p.askAgain(ctx, to, a, p.opt.Backoff.refused(a.Round), answer.Err.Error())
	}
	wait := jittered(p.opt.times.wait, a.Round, max(commitMaxWait, p.opt.times.wait))
	return p.store.Retry(ctx, a.key, time.Now().Add(wait), "the destination was asked to commit, and has not answered yet")
}

// askAgain asks by a new transaction, until all rounds are spent.
func (p *Pipeline) askAgain(ctx context.Context, to *destination, a asked, pause time.Duration, reason string) error {
	if a.Round+1 >= commitRounds {
		if err := p.store.Park(ctx, a.key, fmt.Sprintf("not confirmed after %d requests: %s", commitRounds, reason), store.Change{}); err != nil {
			return err
		}
		p.log.Error("delivered, and not confirmed: storage commitment given up; radnode requeue asks again", "study", a.study, "to", a.To,
			"rounds", commitRounds, "reason", reason)
		return nil
	}
	next := a.commitment
	next.Round++
	job := p.commitJob(a.study, next, time.Now().Add(pause))
	if err := p.store.Done(ctx, a.key, store.Change{Jobs: []store.Job{job}}); err != nil {
		return err
	}
	if err := json.Unmarshal(job.Payload, &next); err != nil {
		return err
	}
	to.remember(asked{job.Key, a.study, next}, true)
	p.log.Debug("storage commitment is asked for again", "study", a.study, "to", a.To, "round", next.Round, "reason", reason)
	return nil
}

// notOffered takes note that the destination has no Storage Commitment, and says so the first time.
func (p *Pipeline) notOffered(to *destination) {
	first := false
	to.count(func(d *destination) { first, d.notOffered = d.notOffered.IsZero(), time.Now() })
	if first {
		p.log.Warn("the destination does not offer Storage Commitment: deliveries to it stay unconfirmed; enable it there, or leave out commit",
			"to", to.to)
	}
}

// settle keeps the result of a request of ours. What the destination does not keep is sent again.
func (p *Pipeline) settle(ctx context.Context, to *destination, a asked, result dimse.CommitmentResult) error {
	failed, kept := map[string]uint16{}, map[string]bool{}
	for _, r := range result.Committed {
		kept[r.InstanceUID] = true
	}
	for _, f := range result.Failed {
		failed[f.InstanceUID] = f.Reason
	}
	var lost, reasons []string
	inUse := 0
	for _, s := range a.Sent {
		reason, bad := failed[s.As]
		if kept[s.As] && !bad {
			continue
		}
		text := "not mentioned"
		if bad {
			text = fmt.Sprintf("%04XH", reason)
		}
		if reason == dimse.FailureDuplicateTransaction {
			inUse++
		}
		if lost = append(lost, s.UID); !slices.Contains(reasons, text) {
			reasons = append(reasons, text)
		}
	}
	if len(lost) == 0 {
		err := p.store.Done(ctx, a.key, store.Change{States: []store.State{a.state(StateConfirmed, "")}})
		if err == nil {
			to.count(func(d *destination) {
				d.confirmed++
				d.settledOf(a)
			})
			p.log.Info("delivery confirmed", "study", a.study, "to", a.To, "objects", len(a.Sent))
		}
		return err
	}
	if inUse == len(lost) { // of an earlier start, perhaps; what it says of the objects is nothing
		return p.askAgain(ctx, to, a, p.opt.Backoff.refused(a.Round), "the destination knows the transaction already")
	}
	why := fmt.Sprintf("the destination does not keep %d of %d objects that it had taken: Failure Reason %s", len(lost), len(a.Sent), strings.Join(reasons, ", "))
	if a.Losses >= commitLosses {
		p.log.Error("a destination loses what it takes; given up, radnode requeue asks again", "study", a.study, "to", a.To, "objects", lost, "reason", why)
		return p.store.Park(ctx, a.key, why, store.Change{States: []store.State{a.state(StateUndelivered, "given up: "+why)}})
	}
	job := deliveryJob(a.study, delivery{To: a.To, Objects: lost, Subject: a.Subject, Losses: a.Losses + 1})
	job.Key = a.Subject + "/again/" + a.Transactions[len(a.Transactions)-1]
	job.RunAt = time.Now().Add(p.opt.Backoff.refused(a.Losses))
	err := p.store.Done(ctx, a.key, store.Change{Jobs: []store.Job{job}, States: []store.State{a.state(StateUndelivered, "sent again: "+why)}})
	if err != nil {
		return err
	}
	to.count(func(d *destination) {
		d.lost++
		d.settledOf(a)
	})
	p.log.Error("a destination has lost what it had taken; it is sent again", "study", a.study, "to", a.To, "objects", lost, "reason", why)
	p.serve([]store.Job{job})
	return nil
}

// settledOf forgets the transactions of a; d.mu is held.
func (d *destination) settledOf(a asked) {
	for _, t := range a.Transactions {
		delete(d.asked, t)
	}
}

func (a asked) state(name, reason string) store.State {
	d := delivery{To: a.To, Subject: a.Subject, Losses: a.Losses}
	for _, s := range a.Sent {
		d.Objects = append(d.Objects, s.UID)
	}
	return store.State{Study: a.study, Subject: a.Subject, Name: name, Reason: reason, At: time.Now(), Detail: payloadOf(d)}
}

// CommitmentReported takes the result of a request of ours, on an association that a destination opened for it.
func (p *Pipeline) CommitmentReported(ctx context.Context, calling string, result dimse.CommitmentResult) error {
	for last := ""; ; {
		to, a, ok := p.transaction(calling, result.TransactionUID)
		if !ok || a.key == last {
			break
		}
		// It may be asked for again at this moment: then another job is about it.
		last = a.key
		if err := p.settle(ctx, to, a, result); err == nil || settled(err) != nil {
			return err
		}
	}
	// A destination that did not get our response reports once more. Only the AE title that was asked can name the key.
	switch done, err := p.store.Finished(commitKey(calling, result.TransactionUID)); {
	case err != nil:
		return err
	case done:
		return nil
	}
	p.log.Warn("a result of storage commitment that this node did not ask for was refused", "calling", calling, "transaction", result.TransactionUID)
	return &dimse.Status{Code: dimse.StatusInvalidArgument, Comment: "no such transaction was requested of this AE title"}
}

// transaction finds a commitment that a destination of this AE title was asked for.
func (p *Pipeline) transaction(calling, transaction string) (*destination, asked, bool) {
	for queue := range p.store.Queues() {
		name, ok := strings.CutPrefix(queue, commitPrefix)
		if aet, _, _ := strings.Cut(name, "@"); !ok || aet != calling {
			continue
		}
		to := p.destination(name)
		to.loading.Do(func() { // what an earlier run asked for
			for _, j := range p.store.Jobs(queue) {
				a := asked{key: j.Key, study: j.Study}
				if json.Unmarshal(j.Payload, &a.commitment) == nil {
					to.remember(a, false)
				}
			}
		})
		to.mu.Lock()
		a, ok := to.asked[transaction]
		to.mu.Unlock()
		if ok {
			return to, a, true
		}
	}
	return nil, asked{}, false
}

// A promise is the payload of a job that answers a peer which asked us to commit.
type promise struct {
	dimse.CommitmentRequest
	At time.Time `json:"at"`
}

// CommitmentRequested takes the request of a peer and answers it at once where the disk is quick enough: what a scanner may delete
// depends on it. Where the peer has no use for that, or there is too much to read, it is called back at the address of its AE title.
func (p *Pipeline) CommitmentRequested(ctx context.Context, calling string, rq dimse.CommitmentRequest) (*dimse.CommitmentReport, error) {
	_, known := p.peerOf(calling)
	key := reportPrefix + calling + "/" + rq.TransactionUID // the same request twice is one
	patience := checkLong
	if known {
		patience = checkShort
		queue := reportPrefix + calling
		if q := p.store.Queues()[queue]; q.Pending+q.Leased+q.Parked >= reportPending {
			return nil, &dimse.Status{Code: dimse.StatusResourceLimitation, Comment: fmt.Sprintf("%d requests of this AE title wait already", reportPending)}
		}
		now := time.Now()
		err := p.store.Commit(ctx, store.Change{Jobs: []store.Job{{Key: key, Queue: queue, Payload: payloadOf(promise{rq, now}), RunAt: now.Add(p.opt.times.report)}}})
		if err != nil {
			return nil, err
		}
		p.outbox.serve(queue)
	}
	checking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	result, err := p.durable(checking, rq)
	switch {
	case err == nil:
	case known && ctx.Err() == nil:
		return nil, nil
	case known:
		return nil, ctx.Err()
	default:
		return nil, &dimse.Status{Code: dimse.StatusResourceLimitation, Comment: "too much at once from a peer whose address is not configured"}
	}
	return &dimse.CommitmentReport{CommitmentResult: result, Done: func(err error) {
		switch {
		case !known && err != nil:
			p.log.Warn("the result of a request for storage commitment was not taken, and the peer cannot be called back; enter its address under peers",
				"calling", calling, "transaction", rq.TransactionUID, "err", err)
		case known && err == nil:
			if err := settled(p.store.Done(context.WithoutCancel(ctx), key, store.Change{})); err != nil {
				p.log.Warn("a result of storage commitment will be reported twice", "calling", calling, "transaction", rq.TransactionUID, "err", err)
			}
		}
	}}, nil
}

// visitCaller calls the peers back that asked us to commit.
func (p *Pipeline) visitCaller(ctx context.Context, queue string) error {
	calling := strings.TrimPrefix(queue, reportPrefix)
	peer, known := p.peerOf(calling)
	if !known {
		return p.visit(ctx, queue, p.destination(calling), func(ctx context.Context, _ *destination, job *store.Job) error {
			return p.park(ctx, job, "AE title "+calling+" has no address under peers any more", store.Change{})
		})
	}
	return p.visit(ctx, queue, p.destination(peer.String()), func(ctx context.Context, to *destination, job *store.Job) error {
		return p.callBack(ctx, to, peer, job)
	})
}

// callBack tells a peer the result of its request.
func (p *Pipeline) callBack(ctx context.Context, to *destination, peer dimse.Peer, job *store.Job) error {
	var rq promise
	confirmer, able := p.sender.(Confirmer)
	if err := json.Unmarshal(job.Payload, &rq); err != nil || !able {
		return p.park(ctx, job, "payload cannot be read", store.Change{})
	}
	if job.Tries == 0 && job.LastError != "" { // given up, and an operator has brought it back: it has another day
		rq.At = time.Now()
		again := store.Job{Key: job.Key + "/" + strconv.FormatInt(rq.At.UnixNano(), 10), Queue: job.Queue, Payload: payloadOf(rq), RunAt: rq.At}
		return p.insist(ctx, job, func(ctx context.Context) error {
			return p.store.Done(ctx, job.Key, store.Change{Lease: job.Lease, Jobs: []store.Job{again}})
		})
	}
	result, err := p.durable(ctx, rq.CommitmentRequest)
	if err != nil {
		return nil // the node stops
	}
	reporting, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	err = confirmer.ReportCommitment(reporting, peer, result)
	if ctx.Err() != nil && err != nil {
		return nil
	}
	var status *dimse.Status
	switch {
	case err == nil:
		p.greeted(to)
		p.log.Info("storage commitment reported to the peer", "to", to.to, "transaction", rq.TransactionUID, "committed", len(result.Committed), "failed", len(result.Failed))
		return p.insist(ctx, job, func(ctx context.Context) error { return p.store.Done(ctx, job.Key, store.Change{Lease: job.Lease}) })
	case time.Since(rq.At) > reportPatience:
		p.log.Warn("a peer that asked for storage commitment did not take the result within a day; given up, radnode requeue tries for another day",
			"to", to.to, "transaction", rq.TransactionUID, "err", err)
		return p.park(ctx, job, "the result was not taken: "+err.Error(), store.Change{})
	case errors.As(err, &status), errors.Is(err, ErrBroken), errors.Is(err, dimse.ErrNotAccepted):
		p.greeted(to)
		return p.insist(ctx, job, func(ctx context.Context) error {
			return p.store.Retry(ctx, job.Key, time.Now().Add(p.opt.Backoff.refused(job.Tries)), err.Error())
		})
	}
	p.away(to, err)
	p.giveBack(job, 0)
	return nil
}

// durable says of each instance whether it is here, as what it is said to be, and can be read from the disk as it was received. It
// returns an error only where ctx is done before.
func (p *Pipeline) durable(ctx context.Context, rq dimse.CommitmentRequest) (dimse.CommitmentResult, error) {
	result := dimse.CommitmentResult{TransactionUID: rq.TransactionUID}
	select { // one at a time: the disk is for those who send
	case p.checking <- struct{}{}:
		defer func() { <-p.checking }()
	case <-ctx.Done():
		return result, ctx.Err()
	}
	buf := make([]byte, 1<<20)
	for _, ref := range rq.Instances {
		in, err := p.store.Instance(ref.InstanceUID)
		reason := uint16(0) // PS3.3 C.14.1.1
		switch {
		case errors.Is(err, store.ErrNotFound):
			reason = dimse.StatusNoSuchInstance
		case err != nil:
			reason = dimse.StatusProcessingFailure
		case in.SOPClassUID != ref.ClassUID:
			reason = dimse.StatusClassInstanceConflict
		default:
			err = p.readable(ctx, in, buf)
			if ctx.Err() != nil {
				return result, ctx.Err()
			}
			if err != nil {
				reason = dimse.StatusProcessingFailure
			}
		}
		if reason == 0 {
			result.Committed = append(result.Committed, ref)
			continue
		}
		if reason == dimse.StatusProcessingFailure {
			p.log.Error("an instance that a peer asks commitment for cannot be read", "instance", ref.InstanceUID, "err", err)
		}
		result.Failed = append(result.Failed, dimse.CommitmentFailure{SOPReference: ref, Reason: reason})
	}
	return result, nil
}

// readable reads all bytes of an instance and compares their digest.
func (p *Pipeline) readable(ctx context.Context, in store.Instance, buf []byte) error {
	o, err := p.store.OpenInstance(in.SOPInstanceUID)
	if err != nil {
		return err
	}
	defer o.Close()
	h := sha256.New()
	for at := int64(0); at < o.Size; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := o.ReadAt(buf[:min(int64(len(buf)), o.Size-at)], at)
		if n == 0 {
			return fmt.Errorf("instance %s at %d: %w", in.SOPInstanceUID, at, err)
		}
		h.Write(buf[:n])
		at += int64(n)
	}
	if [sha256.Size]byte(h.Sum(nil)) != o.Digest {
		return store.ErrDamaged
	}
	return nil
}

// AskCommitment is N-ACTION for each request, PS3.4 J.3.2.
func (s DIMSE) AskCommitment(ctx context.Context, to dimse.Peer, requests []dimse.CommitmentRequest, wait time.Duration) ([]CommitmentAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	// Some nodes reject an association on which they can accept nothing.
	verification := dimse.Proposal{SOPClass: dicom.VerificationSOPClass, TransferSyntaxes: []string{dicom.ImplicitVRLittleEndian}}
	c, err := s.dial(ctx, to, []dimse.Proposal{dimse.CommitmentProposal, verification})
	if err != nil {
		return nil, err
	}
	defer c.Abort() // no effect after a release
	if !c.Accepted(dicom.StorageCommitmentPushModelSOPClass, "") {
		release(ctx, c)
		return nil, fmt.Errorf("%v: %w: Storage Commitment", to, dimse.ErrNotAccepted)
	}
	answers := make([]CommitmentAnswer, len(requests))
	lives := true
	for i, rq := range requests {
		if !lives {
			answers[i].Err = ErrBroken
			continue
		}
		answers[i].Err = c.RequestCommitment(ctx, rq)
		var status *dimse.Status
		lives = answers[i].Err == nil || errors.As(answers[i].Err, &status)
	}
	waiting, done := context.WithTimeout(ctx, wait)
	defer done()
	for i, rq := range requests {
		if answers[i].Err == nil && lives {
			r, err := c.AwaitCommitment(waiting, rq.TransactionUID)
			if err == nil {
				answers[i].Result = &r
			} else if waiting.Err() == nil {
				lives = false
			}
		}
	}
	if lives {
		release(ctx, c)
	}
	return answers, nil
}

// ReportCommitment is N-EVENT-REPORT, PS3.4 J.3.3.
func (s DIMSE) ReportCommitment(ctx context.Context, to dimse.Peer, result dimse.CommitmentResult) error {
	c, err := s.dial(ctx, to, []dimse.Proposal{dimse.CommitmentProposal}, dimse.CommitmentSCP)
	if err != nil {
		return err
	}
	defer c.Abort() // no effect after a release
	err = c.ReportCommitment(ctx, result)
	var status *dimse.Status
	switch {
	case err == nil, errors.As(err, &status), errors.Is(err, dimse.ErrNotAccepted):
		release(ctx, c)
		return err
	}
	return fmt.Errorf("%w: %w", ErrBroken, err)
}

// release ends an association on which everything was said: how it ends changes nothing about that.
func release(ctx context.Context, c *dimse.Client) {
	ctx, cancel := context.WithTimeout(ctx, deliverRelease)
	defer cancel()
	_ = c.Release(ctx)
}
