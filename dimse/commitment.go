package dimse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/ul"
)

// Storage Commitment Push Model, PS3.4 J.3: N-ACTION asks whether instances are kept for good, N-EVENT-REPORT answers, on the
// same association or, more often, on one that the peer opens for it.

// storageCommitmentInstance is the one instance of the SOP class, PS3.4 J.3.5.
const storageCommitmentInstance = "1.2.840.10008.1.20.1.1"

// Action Type ID and Event Type ID, PS3.4 Tables J.3-1 and J.3-2.
const (
	actionRequestCommitment uint16 = 1
	eventAllCommitted       uint16 = 1
	eventFailuresExist      uint16 = 2
)

// CommitmentProposal asks for Storage Commitment in [DialOptions]. [Client.ReportCommitment] needs CommitmentSCP in the roles, too:
// who requests an association is the SCU unless it says otherwise, PS3.7 D.3.3.4.
var (
	CommitmentProposal = Proposal{dicom.StorageCommitmentPushModelSOPClass,
		[]string{dicom.ExplicitVRLittleEndian, dicom.ImplicitVRLittleEndian}}
	CommitmentSCP = Role{SOPClass: dicom.StorageCommitmentPushModelSOPClass, SCP: true}
)

// An SOPReference names an instance, as Referenced SOP Sequence (0008,1199) does.
type SOPReference struct{ ClassUID, InstanceUID string }

// A CommitmentRequest asks whether instances are kept for good: N-ACTION of the Storage Commitment Push Model, PS3.4 J.3.2.
type CommitmentRequest struct {
	TransactionUID string
	Instances      []SOPReference // each once
}

// A CommitmentFailure is an instance that is not committed, and why: Failure Reason (0008,1197), PS3.3 C.14.1.1, for which
// [StatusNoSuchInstance], [StatusProcessingFailure], [StatusClassInstanceConflict], [StatusSOPClassNotSupported],
// [StatusResourceLimitation] and [FailureDuplicateTransaction] are defined.
type CommitmentFailure struct {
	SOPReference
	Reason uint16
}

// FailureDuplicateTransaction says that the Transaction UID is in use already, PS3.3 C.14.1.1.
const FailureDuplicateTransaction uint16 = 0x0131

// A CommitmentResult is what became of a request: N-EVENT-REPORT, PS3.4 J.3.3. No instance is in both lists.
type CommitmentResult struct {
	TransactionUID string
	Committed      []SOPReference
	Failed         []CommitmentFailure
}

// A Committer answers Storage Commitment both ways. An error of type [*Status] is told to the peer as it is, any other as what
// it resembles.
type Committer interface {
	// CommitmentRequested takes a request from a peer; a nil error means that it survives a power cut. A report that it
	// returns is sent on this association; where it is nil, the result goes by [Client.ReportCommitment] on a new one.
	CommitmentRequested(ctx context.Context, calling string, rq CommitmentRequest) (*CommitmentReport, error)
	// CommitmentReported takes the result of a request of ours; a nil error means that it survives a power cut.
	CommitmentReported(ctx context.Context, calling string, result CommitmentResult) error
}

// A CommitmentReport is a result that is known when its request comes, for the association on which it came: the only way to
// a peer that nobody can call back, and what scanners that wait a few seconds before they release expect.
type CommitmentReport struct {
	CommitmentResult
	// Done is called once, maybe by another goroutine: nil says that the peer took the result, an error that it is to be
	// reported on an association of its own, if at all. A [*Status] is the peer's refusal.
	Done func(error)
}

const (
	// maxReferences and maxInformation bound a request or result that is read. Its bytes cost up to 24 times as much while they
	// are read, see dimse/dicom.
	maxReferences  = 100_000
	maxInformation = 8 << 20
	// maxRequest bounds a request of ours. Its result has more to say of each instance, and must fit into maxInformation.
	maxRequest = maxInformation / 2
	// freeInformation is what each association may hold without asking, heldInformation what all may hold beyond it.
	freeInformation = 64 << 10
	heldInformation = 4 * maxInformation
	// maxReport bounds a result that we send on an association of the peer's. It fits into the buffers of the connection, so
	// that two sides that both send do not wait for each other.
	maxReport = 256 << 10
	// maxReports is how many results may wait for the association of their requests.
	maxReports = 4
	// maxEvents is how many results a peer may tell on an association of ours.
	maxEvents = 1000
)

// Data sets, PS3.4 Tables J.3-1 and J.3-2.

func (r SOPReference) item() *dicom.DataSet {
	d := dicom.New()
	d.SetString(dicom.ReferencedSOPClassUID, r.ClassUID)
	d.SetString(dicom.ReferencedSOPInstanceUID, r.InstanceUID)
	return d
}

func references(of []SOPReference) []*dicom.DataSet {
	items := make([]*dicom.DataSet, len(of))
	for i, r := range of {
		items[i] = r.item()
	}
	return items
}

func (rq CommitmentRequest) encode(transferSyntax string) ([]byte, error) {
	if !dicom.AcceptableUID(rq.TransactionUID) || len(rq.Instances) == 0 {
		return nil, errors.New("a request for commitment needs a Transaction UID and at least one instance")
	}
	d := dicom.New()
	d.SetString(dicom.TransactionUID, rq.TransactionUID)
	d.SetSeq(dicom.ReferencedSOPSequence, references(rq.Instances)...)
	return encodeInformation(d, transferSyntax)
}

func (r CommitmentResult) encode(transferSyntax string) ([]byte, error) {
	if !dicom.AcceptableUID(r.TransactionUID) || len(r.Committed)+len(r.Failed) == 0 {
		return nil, errors.New("the result of a request for commitment needs a Transaction UID and at least one instance")
	}
	d := dicom.New()
	d.SetString(dicom.TransactionUID, r.TransactionUID)
	if len(r.Committed) > 0 {
		d.SetSeq(dicom.ReferencedSOPSequence, references(r.Committed)...)
	}
	if len(r.Failed) > 0 {
		items := make([]*dicom.DataSet, len(r.Failed))
		for i, f := range r.Failed {
			items[i] = f.item()
			items[i].SetInt(dicom.FailureReason, int(f.Reason))
		}
		d.SetSeq(dicom.FailedSOPSequence, items...)
	}
	return encodeInformation(d, transferSyntax)
}

// event is the Event Type ID.
func (r CommitmentResult) event() uint16 {
	if len(r.Failed) > 0 {
		return eventFailuresExist
	}
	return eventAllCommitted
}

func encodeInformation(d *dicom.DataSet, transferSyntax string) ([]byte, error) {
	switch transferSyntax {
	case dicom.ExplicitVRLittleEndian:
		return d.EncodedBytes()
	case dicom.ImplicitVRLittleEndian:
		return d.EncodedImplicit()
	}
	return nil, fmt.Errorf("transfer syntax %s is not one for Storage Commitment", transferSyntax)
}

func invalidArgument(format string, args ...any) error {
	return &Status{StatusInvalidArgument, fmt.Sprintf(format, args...)} // PS3.7 10.1.1.1.8 and 10.1.4.1.10 have no other for it
}

// readInformation reads what request and result have in common. Every error is a *Status.
func readInformation(b []byte, transferSyntax string) (transaction string, d *dicom.DataSet, err error) {
	f, err := dicom.ReadDataSet(bytes.NewReader(b), int64(len(b)), transferSyntax)
	if err != nil {
		var fault *dicom.Error
		if errors.As(err, &fault) && fault.Path != "" {
			return "", nil, invalidArgument("the data set is malformed at %s", fault.Path)
		}
		return "", nil, invalidArgument("the data set is malformed")
	}
	transaction = f.DataSet.String(dicom.TransactionUID)
	if !dicom.AcceptableUID(transaction) {
		return "", nil, invalidArgument("Transaction UID (0008,1195) is missing or no UID")
	}
	return transaction, f.DataSet, nil
}

func readReferences(d *dicom.DataSet, sequence dicom.Tag, each func(item *dicom.DataSet, r SOPReference)) error {
	items := d.Seq(sequence)
	if len(items) > maxReferences {
		return &Status{StatusResourceLimitation, fmt.Sprintf("more than %d instances, send several requests", maxReferences)}
	}
	for i, item := range items {
		r := SOPReference{item.String(dicom.ReferencedSOPClassUID), item.String(dicom.ReferencedSOPInstanceUID)}
		if !dicom.AcceptableUID(r.ClassUID) || !dicom.AcceptableUID(r.InstanceUID) {
			return invalidArgument("%s[%d] has no SOP Class or Instance UID", sequence, i+1)
		}
		each(item, r)
	}
	return nil
}

// readRequest reads Action Information. Every error is a *Status.
func readRequest(b []byte, transferSyntax string) (rq CommitmentRequest, err error) {
	transaction, d, err := readInformation(b, transferSyntax)
	if err != nil {
		return rq, err
	}
	rq.TransactionUID = transaction
	seen := map[SOPReference]bool{}
	if err := readReferences(d, dicom.ReferencedSOPSequence, func(_ *dicom.DataSet, r SOPReference) {
		if !seen[r] { // PS3.4 J.3.2.1.1.3: only once; who repeats one asks the same
			seen[r] = true
			rq.Instances = append(rq.Instances, r)
		}
	}); err != nil {
		return CommitmentRequest{}, err
	}
	if len(rq.Instances) == 0 {
		return CommitmentRequest{}, invalidArgument("Referenced SOP Sequence (0008,1199) is missing or empty")
	}
	return rq, nil
}

// readAction reads a request with its command. Every error is a *Status.
func readAction(m *ActionRequest, data []byte, transferSyntax string) (CommitmentRequest, error) {
	switch {
	case m.RequestedSOPInstanceUID != storageCommitmentInstance:
		return CommitmentRequest{}, noSuchInstance()
	case m.ActionTypeID != actionRequestCommitment:
		return CommitmentRequest{}, &Status{StatusNoSuchAction, "Storage Commitment has action type 1 only"}
	}
	return readRequest(data, transferSyntax)
}

// readEvent reads a result with its command. Every error is a *Status.
func readEvent(m *EventReportRequest, data []byte, transferSyntax string) (CommitmentResult, error) {
	switch {
	case m.AffectedSOPInstanceUID != storageCommitmentInstance:
		return CommitmentResult{}, noSuchInstance()
	case m.EventTypeID != eventAllCommitted && m.EventTypeID != eventFailuresExist:
		return CommitmentResult{}, &Status{StatusNoSuchEventType, "Storage Commitment has event types 1 and 2 only"}
	}
	return readResult(data, transferSyntax)
}

func noSuchInstance() error {
	return &Status{StatusNoSuchInstance, "Storage Commitment has one instance, " + storageCommitmentInstance}
}

// readResult reads Event Information. What it lists counts, not which of the two events it says it is: a peer must not make us
// believe that an instance is committed which it lists as failed. Every error is a *Status.
func readResult(b []byte, transferSyntax string) (r CommitmentResult, err error) {
	transaction, d, err := readInformation(b, transferSyntax)
	if err != nil {
		return r, err
	}
	r.TransactionUID = transaction
	seen := map[SOPReference]bool{}
	if err := readReferences(d, dicom.FailedSOPSequence, func(item *dicom.DataSet, ref SOPReference) {
		if seen[ref] {
			return
		}
		seen[ref] = true
		reason, ok := item.Int(dicom.FailureReason)
		if !ok || reason <= 0 || reason > 0xFFFF {
			reason = int(StatusProcessingFailure)
		}
		r.Failed = append(r.Failed, CommitmentFailure{ref, uint16(reason)})
	}); err != nil {
		return CommitmentResult{}, err
	}
	if err := readReferences(d, dicom.ReferencedSOPSequence, func(_ *dicom.DataSet, ref SOPReference) {
		if !seen[ref] {
			seen[ref] = true
			r.Committed = append(r.Committed, ref)
		}
	}); err != nil {
		return CommitmentResult{}, err
	}
	if len(seen) == 0 {
		return CommitmentResult{}, invalidArgument("no instances in (0008,1199) and (0008,1198)")
	}
	return r, nil
}

// commitmentStatus chooses what a peer is told about an error of [Committer].
func commitmentStatus(err error) Status {
	var (
		status *Status
		errno  syscall.Errno
	)
	switch {
	case err == nil:
		return Status{}
	case errors.As(err, &status):
		if status.Code>>8 == 0xA7 { // of C-STORE only; this is its like in PS3.7 C.5
			return Status{StatusResourceLimitation, status.Comment}
		}
		return *status
	case errors.As(err, &errno): // disk full, read-only, too many open files: the peer may try again later
		return Status{StatusResourceLimitation, errno.Error()}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Status{StatusResourceLimitation, "the node is shutting down"}
	}
	return Status{StatusProcessingFailure, "the node could not take it, see its log"}
}

// The server.

// commitmentBounds keeps what requests and results hold within bounds, however many associations bring them.
type commitmentBounds struct {
	held atomic.Int64 // bytes that associations hold beyond what each may
}

var parsing sync.Mutex

// alone reads one data set at a time, of whatever association: that takes many times its bytes.
func alone(read func()) {
	parsing.Lock()
	defer parsing.Unlock()
	read()
}

// chooseCommitment picks a transfer syntax for Storage Commitment: one that we also write.
func chooseCommitment(transfer []string) (string, ul.Result) {
	for _, uid := range transfer {
		if slices.Contains(CommitmentProposal.TransferSyntaxes, uid) {
			return uid, ul.Acceptance
		}
	}
	return "", ul.TransferSyntaxesNotSupported
}

// grantRoles lets a peer be SCP of Storage Commitment: it is, where it reports the result of a request of ours, PS3.4 J.2.1.
func grantRoles(rq *ul.AssociateRQ, ac *ul.AssociateAC) {
	for i := range ac.User.Roles {
		role := &ac.User.Roles[i]
		role.SCP = role.SOPClass == dicom.StorageCommitmentPushModelSOPClass && slices.ContainsFunc(rq.User.Roles,
			func(r ul.Role) bool { return r.SOPClass == role.SOPClass && r.SCP })
	}
}

// take reads the data set behind an N-ACTION-RQ or N-EVENT-REPORT-RQ to its end and has it used. refusal, the peer's to know, is
// why it was not taken; err ends the association.
func (a *association) take(pc *ul.Context, follows bool, use func(data []byte) error) (refusal, err error) {
	bounds := &a.server.commitment
	var taken int64
	defer func() { bounds.held.Add(-taken) }()
	data, status, err := readBody(a.conn, pc, follows, func(n int) bool {
		if n -= freeInformation; n > 0 {
			more := int64(n) - taken
			taken += more
			return bounds.held.Add(more) <= heldInformation
		}
		return true
	})
	switch {
	case err != nil:
		return nil, err
	case status.Code != StatusSuccess:
		return &status, nil
	}
	return use(data), nil
}

// readBody reads a data set of at most maxInformation bytes; it goes on as long as hold, told how many there are, allows it.
func readBody(conn *ul.Conn, pc *ul.Context, follows bool, hold func(n int) bool) (data []byte, refusal Status, err error) {
	if !follows {
		return nil, Status{StatusInvalidArgument, "there is no data set"}, nil
	}
	b := &body{conn: conn, context: pc.ID, limit: maxInformation}
	for {
		part, err := b.peek()
		switch {
		case err == io.EOF:
			return data, Status{}, nil
		case err == errTooLarge:
			refusal = Status{StatusResourceLimitation, fmt.Sprintf("the data set is larger than %d bytes", maxInformation)}
		case err != nil:
			return nil, Status{}, err
		case !hold(len(data) + len(part)):
			refusal = Status{StatusResourceLimitation, "the node is busy with other requests"}
		default:
			data = append(data, part...)
			b.conn.Discard(len(part))
			continue
		}
		if err := b.drain(); err != nil && err != errTooLarge {
			return nil, Status{}, err
		}
		if b.endless {
			return nil, Status{}, errors.New("the data set does not end")
		}
		return nil, refusal, nil
	}
}

// commits says whether a message belongs to Storage Commitment, and is on its presentation context.
func (a *association) commits(class string, pc *ul.Context) bool {
	return a.server.Committer != nil && pc.AbstractSyntax == dicom.StorageCommitmentPushModelSOPClass && class == pc.AbstractSyntax
}

// action answers N-ACTION-RQ: a request for commitment, PS3.4 J.3.2.
func (a *association) action(ctx context.Context, m *ActionRequest, pc *ul.Context) error {
	rsp := &ActionResponse{MessageIDBeingRespondedTo: m.MessageID, AffectedSOPClassUID: clip(m.RequestedSOPClassUID),
		AffectedSOPInstanceUID: clip(m.RequestedSOPInstanceUID), ActionTypeID: m.ActionTypeID}
	if !a.commits(m.RequestedSOPClassUID, pc) {
		rsp.Status = a.unsupported(NActionRQ, pc)
		if err := a.drain(pc, m.HasDataSet); err != nil {
			return err
		}
		return a.respond(pc, rsp)
	}
	var (
		rq     CommitmentRequest
		report *CommitmentReport
	)
	refusal, err := a.take(pc, m.HasDataSet, func(data []byte) (err error) {
		alone(func() { rq, err = readAction(m, data, pc.TransferSyntax) })
		if err == nil {
			report, err = a.server.Committer.CommitmentRequested(ctx, a.calling, rq)
		}
		return err
	})
	if err != nil {
		return err
	}
	rsp.Status = commitmentStatus(refusal)
	if !rsp.Status.Success() {
		a.say(slog.LevelWarn, "request for storage commitment refused", "transaction", rq.TransactionUID,
			"status", rsp.Status.String(), "error", refusal)
		return a.respond(pc, rsp)
	}
	a.say(slog.LevelInfo, "storage commitment requested", "transaction", rq.TransactionUID, "instances", len(rq.Instances))
	err = a.respond(pc, rsp)
	if report != nil {
		a.report(report, pc)
	}
	return err
}

// eventReport answers N-EVENT-REPORT-RQ: the result of a request of ours, PS3.4 J.3.3. Not every peer that reports has proposed to
// be the SCP, so nobody is asked for it.
func (a *association) eventReport(ctx context.Context, m *EventReportRequest, pc *ul.Context) error {
	rsp := &EventReportResponse{MessageIDBeingRespondedTo: m.MessageID, AffectedSOPClassUID: clip(m.AffectedSOPClassUID),
		AffectedSOPInstanceUID: clip(m.AffectedSOPInstanceUID), EventTypeID: m.EventTypeID}
	if !a.commits(m.AffectedSOPClassUID, pc) {
		rsp.Status = a.unsupported(NEventReportRQ, pc)
		if err := a.drain(pc, m.HasDataSet); err != nil {
			return err
		}
		return a.respond(pc, rsp)
	}
	var result CommitmentResult
	refusal, err := a.take(pc, m.HasDataSet, func(data []byte) (err error) {
		alone(func() { result, err = readEvent(m, data, pc.TransferSyntax) })
		if err == nil {
			err = a.server.Committer.CommitmentReported(ctx, a.calling, result)
		}
		return err
	})
	if err != nil {
		return err
	}
	rsp.Status = commitmentStatus(refusal)
	if !rsp.Status.Success() {
		a.say(slog.LevelWarn, "report of storage commitment refused", "transaction", result.TransactionUID,
			"status", rsp.Status.String(), "error", refusal)
	} else {
		a.say(slog.LevelInfo, "storage commitment reported", "transaction", result.TransactionUID,
			"committed", len(result.Committed), "failed", len(result.Failed))
	}
	return a.respond(pc, rsp)
}

// A pendingReport waits for the association to be idle or, once it is sent, for its response.
type pendingReport struct {
	*CommitmentReport
	context uint8
	data    []byte
	id      uint16
	timer   *time.Timer
	once    sync.Once
	settled atomic.Bool
}

// settle tells the committer. It returns when it has been told, whoever told it.
func (r *pendingReport) settle(err error) {
	r.once.Do(func() {
		r.settled.Store(true)
		if r.Done != nil {
			r.Done(err)
		}
	})
}

// report queues a result for this association. It is sent when the peer has nothing more to say, see sendReport.
func (a *association) report(report *CommitmentReport, pc *ul.Context) {
	r := &pendingReport{CommitmentReport: report, context: pc.ID}
	var err error
	r.data, err = report.encode(pc.TransferSyntax)
	switch {
	case err != nil:
		a.say(slog.LevelError, "the result of a request for storage commitment cannot be reported",
			"transaction", report.TransactionUID, "error", err)
	case len(r.data) > maxReport:
		err = fmt.Errorf("a result of %d bytes needs an association of its own", len(r.data))
	case len(a.reports) == maxReports:
		err = errors.New("other results wait for this association already")
	}
	if err != nil {
		r.settle(err)
		return
	}
	patience := or(a.server.ARTIM, 20*time.Second) // as long as we wait for a peer elsewhere
	r.timer = time.AfterFunc(patience, func() { r.settle(fmt.Errorf("the peer did not answer N-EVENT-REPORT within %v", patience)) })
	a.reports = append(a.reports, r)
}

// sendReport sends a result where one waits, none is unanswered (we negotiate one outstanding operation, PS3.7 D.3.3.3), and
// nothing of the peer's has arrived: many a peer takes what comes next for the response to its next request.
func (a *association) sendReport() error {
	for len(a.reports) > 0 && a.reports[0].settled.Load() && a.reports[0].id == 0 { // too late
		a.reports = slices.Delete(a.reports, 0, 1)
	}
	if len(a.reports) == 0 || a.reports[0].id != 0 || a.conn.Buffered() > 0 {
		return nil
	}
	r := a.reports[0]
	a.messageID++
	r.id = a.messageID
	command := encodeCommand(&EventReportRequest{MessageID: r.id, AffectedSOPClassUID: dicom.StorageCommitmentPushModelSOPClass,
		AffectedSOPInstanceUID: storageCommitmentInstance, EventTypeID: r.event(), HasDataSet: true})
	var err error
	a.response, err = sendMessage(a.conn, a.response, r.context, command, bytes.NewReader(r.data))
	r.data = nil
	return err
}

// reported takes the response to a result that we sent.
func (a *association) reported(m *EventReportResponse) {
	if len(a.reports) == 0 || a.reports[0].id == 0 || a.reports[0].id != m.MessageIDBeingRespondedTo {
		return // we asked nothing
	}
	r := a.reports[0]
	a.reports = slices.Delete(a.reports, 0, 1)
	r.timer.Stop()
	if m.Status.Success() {
		a.say(slog.LevelInfo, "storage commitment reported to the peer", "transaction", r.TransactionUID,
			"committed", len(r.Committed), "failed", len(r.Failed))
		r.settle(nil)
		return
	}
	a.say(slog.LevelWarn, "the peer refused the result of its request for storage commitment",
		"transaction", r.TransactionUID, "status", m.Status.String())
	r.settle(&m.Status)
}

// endReports is called when the association is over.
func (a *association) endReports() {
	for _, r := range a.reports {
		r.timer.Stop()
		r.settle(errors.New("the association ended before the peer had the result"))
	}
}

// The client.

// RequestCommitment sends a request and returns when the peer has taken it; the result comes later, on this association, where
// [Client.AwaitCommitment] must be called for it, or on another. Where the peer refuses it, the error is a [*Status] and the
// association lives. It needs [CommitmentProposal].
func (c *Client) RequestCommitment(ctx context.Context, rq CommitmentRequest) error {
	const doing = "N-ACTION of Storage Commitment"
	pc, ok := c.context(dicom.StorageCommitmentPushModelSOPClass, "")
	if !ok {
		return fmt.Errorf("%v: %w: Storage Commitment", c.peer, ErrNotAccepted)
	}
	data, err := rq.encode(pc.TransferSyntax)
	switch {
	case err != nil:
		return fmt.Errorf("%v: %s: %w", c.peer, doing, err)
	case len(data) > maxRequest || len(rq.Instances) > maxReferences:
		return fmt.Errorf("%v: %s: %d instances are too many for one request, send several", c.peer, doing, len(rq.Instances))
	}
	defer c.conn.Watch(ctx)()
	c.await(rq.TransactionUID) // the result may come before the response does
	c.id++
	command := encodeCommand(&ActionRequest{MessageID: c.id, RequestedSOPClassUID: dicom.StorageCommitmentPushModelSOPClass,
		RequestedSOPInstanceUID: storageCommitmentInstance, ActionTypeID: actionRequestCommitment, HasDataSet: true})
	return c.exchange(ctx, doing, pc.ID, command, data)
}

// ReportCommitment tells the peer the result of its request. Where the peer refuses it, the error is a [*Status] and the
// association lives. It needs [CommitmentProposal] and [CommitmentSCP].
func (c *Client) ReportCommitment(ctx context.Context, result CommitmentResult) error {
	const doing = "N-EVENT-REPORT of Storage Commitment"
	pc, ok := c.context(dicom.StorageCommitmentPushModelSOPClass, "")
	if !ok {
		return fmt.Errorf("%v: %w: Storage Commitment", c.peer, ErrNotAccepted)
	}
	for _, r := range c.conn.Response.User.Roles { // a peer that says nothing about roles may take a report all the same
		if r.SOPClass == pc.AbstractSyntax && !r.SCP {
			return fmt.Errorf("%v: %w: us as SCP of Storage Commitment", c.peer, ErrNotAccepted)
		}
	}
	data, err := result.encode(pc.TransferSyntax)
	if err != nil {
		return fmt.Errorf("%v: %s: %w", c.peer, doing, err)
	}
	defer c.conn.Watch(ctx)()
	c.id++
	command := encodeCommand(&EventReportRequest{MessageID: c.id, AffectedSOPClassUID: dicom.StorageCommitmentPushModelSOPClass,
		AffectedSOPInstanceUID: storageCommitmentInstance, EventTypeID: result.event(), HasDataSet: true})
	return c.exchange(ctx, doing, pc.ID, command, data)
}

// exchange sends the message with the last ID and waits for its response.
func (c *Client) exchange(ctx context.Context, doing string, context uint8, command, data []byte) error {
	err := c.send(context, command, bytes.NewReader(data))
	var status Status
	if err == nil {
		status, err = c.response(c.id)
	}
	if err == nil && !status.Success() {
		return fmt.Errorf("%v: %s: %w", c.peer, doing, &status)
	}
	if err != nil {
		return fmt.Errorf("%v: %s: %w", c.peer, doing, cause(ctx, err))
	}
	return nil
}

// await notes that the result of a transaction is welcome on this association.
func (c *Client) await(transaction string) {
	if c.results == nil {
		c.results = map[string]*CommitmentResult{}
	}
	if _, there := c.results[transaction]; !there {
		c.results[transaction] = nil
	}
}

// AwaitCommitment waits on this association for the result of a transaction. A peer may report on another one instead, so ctx
// should bound it: when it is done and no message is under way, the association lives, and can be used and released.
func (c *Client) AwaitCommitment(ctx context.Context, transactionUID string) (CommitmentResult, error) {
	c.await(transactionUID)
	defer delete(c.results, transactionUID)
	defer c.interruptible(ctx)()
	for c.results[transactionUID] == nil {
		m, pc, err := c.next()
		if err == nil {
			event, ok := m.(*EventReportRequest)
			if ok {
				err = c.event(event, pc)
			} else {
				err = c.conn.Abort(fmt.Errorf("the peer sent %T, where it can have nothing but a result to tell", m))
			}
		}
		if err != nil {
			return CommitmentResult{}, fmt.Errorf("%v: waiting for the result of storage commitment: %w", c.peer, cause(ctx, err))
		}
	}
	return *c.results[transactionUID], nil
}

// messageGrace is for the message that is under way when a wait is over. A variable for tests.
var messageGrace = 10 * time.Second

// interruptible makes a wait between two messages end with ctx, and one inside of a message a little later, which ends the
// association. The returned function must be called when the wait is over.
func (c *Client) interruptible(ctx context.Context) (done func()) {
	var kill *time.Timer
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		kill = time.AfterFunc(messageGrace, c.conn.Kill)
		c.conn.Interrupt()
		close(interrupted)
	})
	return func() {
		if !stop() {
			<-interrupted
			kill.Stop()
			c.conn.Resume()
		}
	}
}

// event answers an N-EVENT-REPORT-RQ that comes on an association of ours, and keeps the result for AwaitCommitment.
func (c *Client) event(m *EventReportRequest, pc *ul.Context) error {
	if c.events++; c.events > maxEvents {
		return c.conn.Abort(fmt.Errorf("the peer tells more than %d results, and not what it was asked", maxEvents))
	}
	data, status, err := readBody(c.conn, pc, m.HasDataSet, func(int) bool { return true })
	if err != nil {
		return c.ended(err)
	}
	switch {
	case m.AffectedSOPClassUID != dicom.StorageCommitmentPushModelSOPClass || pc.AbstractSyntax != m.AffectedSOPClassUID:
		status = Status{StatusNoSuchClass, "nothing but Storage Commitment is expected here"}
	case status.Code == StatusSuccess:
		var result CommitmentResult
		if alone(func() { result, err = readEvent(m, data, pc.TransferSyntax) }); err == nil {
			if r, awaited := c.results[result.TransactionUID]; awaited && r == nil {
				c.results[result.TransactionUID] = &result
			} else {
				err = &Status{StatusProcessingFailure, "no such transaction waits on this association"}
			}
		}
		status = commitmentStatus(err)
	}
	rsp := encodeCommand(&EventReportResponse{MessageIDBeingRespondedTo: m.MessageID, AffectedSOPClassUID: clip(m.AffectedSOPClassUID),
		AffectedSOPInstanceUID: clip(m.AffectedSOPInstanceUID), EventTypeID: m.EventTypeID, Status: status})
	c.reply = c.conn.AppendCommand(c.reply[:0], pc.ID, rsp)
	return c.conn.SendData(c.reply)
}
