package ul

import (
	"errors"
	"fmt"
)

// A RejectedError says that the association was refused with A-ASSOCIATE-RJ, PS3.8 9.3.4.
type RejectedError struct {
	Result RejectResult
	Source RejectSource
	Reason uint8
	// Detail is for the log of the side that refused; it does not travel.
	Detail string
}

// RejectResult is the Result field of A-ASSOCIATE-RJ, PS3.8 Table 9-21.
type RejectResult uint8

// RejectSource is the Source field of A-ASSOCIATE-RJ, PS3.8 Table 9-21.
type RejectSource uint8

// PS3.8 Table 9-21.
const (
	RejectedPermanent RejectResult = 1
	RejectedTransient RejectResult = 2

	SourceUser         RejectSource = 1
	SourceACSE         RejectSource = 2
	SourcePresentation RejectSource = 3
)

// Refusals that radnode sends, PS3.8 Table 9-21. Callers may set Detail on a copy.
var (
	RejectNoReason           = RejectedError{Result: RejectedPermanent, Source: SourceUser, Reason: 1}
	RejectApplicationContext = RejectedError{Result: RejectedPermanent, Source: SourceUser, Reason: 2}
	RejectCallingAETitle     = RejectedError{Result: RejectedPermanent, Source: SourceUser, Reason: 3}
	RejectCalledAETitle      = RejectedError{Result: RejectedPermanent, Source: SourceUser, Reason: 7}
	RejectProtocolVersion    = RejectedError{Result: RejectedPermanent, Source: SourceACSE, Reason: 2}
	RejectLocalLimitExceeded = RejectedError{Result: RejectedTransient, Source: SourcePresentation, Reason: 2}
)

// ReasonText is the reason in words; what it means depends on the source.
func (e *RejectedError) ReasonText() string {
	switch e.Source {
	case SourceUser:
		switch e.Reason {
		case 1:
			return "no reason given"
		case 2:
			return "application context name not supported"
		case 3:
			return "calling AE title not recognised"
		case 7:
			return "called AE title not recognised"
		}
	case SourceACSE:
		switch e.Reason {
		case 1:
			return "no reason given"
		case 2:
			return "protocol version not supported"
		}
	case SourcePresentation:
		switch e.Reason {
		case 1:
			return "temporary congestion"
		case 2:
			return "local limit exceeded"
		}
	}
	return fmt.Sprintf("reason %d", e.Reason)
}

func (e *RejectedError) Error() string {
	how := fmt.Sprintf("result %d", uint8(e.Result))
	switch e.Result {
	case RejectedPermanent:
		how = "permanently"
	case RejectedTransient:
		how = "for now"
	}
	by := fmt.Sprintf("source %d", uint8(e.Source))
	switch e.Source {
	case SourceUser:
		by = "the application"
	case SourceACSE:
		by = "the ACSE"
	case SourcePresentation:
		by = "the upper layer"
	}
	s := fmt.Sprintf("association refused %s by %s: %s", how, by, e.ReasonText())
	if e.Detail != "" {
		s += " (" + e.Detail + ")"
	}
	return s
}

// An AbortError says that the association ended with A-ABORT, PS3.8 9.3.8.
type AbortError struct {
	Source AbortSource
	Reason AbortReason
	Local  bool // radnode sent it
	// Err is why radnode sent it.
	Err error
}

// AbortSource is the Source field of A-ABORT, PS3.8 Table 9-26.
type AbortSource uint8

// AbortReason is the Reason/Diag field of A-ABORT; it means something only where the source is the provider.
type AbortReason uint8

// PS3.8 Table 9-26.
const (
	AbortUser     AbortSource = 0
	AbortProvider AbortSource = 2

	ReasonNotSpecified      AbortReason = 0
	ReasonUnrecognizedPDU   AbortReason = 1
	ReasonUnexpectedPDU     AbortReason = 2
	ReasonUnrecognizedParam AbortReason = 4
	ReasonUnexpectedParam   AbortReason = 5
	ReasonInvalidParam      AbortReason = 6
)

func (r AbortReason) String() string {
	switch r {
	case ReasonNotSpecified:
		return "reason not specified"
	case ReasonUnrecognizedPDU:
		return "unrecognised PDU"
	case ReasonUnexpectedPDU:
		return "unexpected PDU"
	case ReasonUnrecognizedParam:
		return "unrecognised PDU parameter"
	case ReasonUnexpectedParam:
		return "unexpected PDU parameter"
	case ReasonInvalidParam:
		return "invalid PDU parameter value"
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

func (e *AbortError) Error() string {
	s := "association aborted by "
	switch {
	case e.Local:
		s += "radnode"
	case e.Source == AbortProvider:
		s += "the peer's upper layer: " + e.Reason.String()
	default:
		s += "the peer's application"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *AbortError) Unwrap() error { return e.Err }

// A ForeignError says that the first bytes of a connection belong to another protocol.
type ForeignError struct{ Protocol string }

func (e *ForeignError) Error() string {
	if e.Protocol == "TLS" {
		return "the peer speaks TLS on a port without it: point it at the TLS port, or switch TLS off there"
	}
	return fmt.Sprintf("the peer speaks %s, not DICOM: point it at another port", e.Protocol)
}

var (
	// ErrReleaseRequested says that the peer wants to release the association; answer with [Conn.AcceptRelease].
	ErrReleaseRequested = errors.New("peer requested release")
	// ErrInterrupted says that [Conn.Interrupt] ended a wait between two messages.
	ErrInterrupted = errors.New("interrupted between two messages")
	// ErrClosed says that the peer closed the connection without release or abort.
	ErrClosed = errors.New("peer closed the connection")
	// ErrIdle says that nothing arrived for the idle time.
	ErrIdle = errors.New("nothing arrived for the idle time")
	// ErrTooSlow says that a PDU, a message or the association lasted longer than it may.
	ErrTooSlow = errors.New("total time exceeded")
	// ErrARTIM says that the ARTIM timer ran out before the association was there.
	ErrARTIM = errors.New("no complete A-ASSOCIATE-RQ before the ARTIM timer ran out")
)
