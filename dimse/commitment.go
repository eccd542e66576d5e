package dimse

import (
	"context"
	"errors"
)

// An SOPReference names an instance, as Referenced SOP Sequence (0008,1199) does.
type SOPReference struct{ ClassUID, InstanceUID string }

// A CommitmentRequest asks whether instances are kept for good: N-ACTION of the Storage Commitment Push Model, PS3.4 J.3.2.
type CommitmentRequest struct {
	TransactionUID string
	Instances      []SOPReference
}

// A CommitmentFailure is an instance that is not committed, and why: Failure Reason (0008,1197), PS3.3 C.14.1.1.
type CommitmentFailure struct {
	SOPReference
	Reason uint16
}

// A CommitmentResult is what became of a request: N-EVENT-REPORT, PS3.4 J.3.3.
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
	// CommitmentReported takes the result of a request of ours.
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

var errNotYet = errors.New("not there yet")

// RequestCommitment sends a request and returns when the peer has taken it; the result comes later.
func (c *Client) RequestCommitment(ctx context.Context, rq CommitmentRequest) error { return errNotYet }

// AwaitCommitment waits on this association for the result of a transaction. A peer may report on another one instead, so
// ctx should bound it.
func (c *Client) AwaitCommitment(ctx context.Context, transactionUID string) (CommitmentResult, error) {
	return CommitmentResult{}, errNotYet
}

// ReportCommitment tells the peer the result of its request.
func (c *Client) ReportCommitment(ctx context.Context, result CommitmentResult) error {
	return errNotYet
}
