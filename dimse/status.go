package dimse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/radnode/radnode/dimse/dicom"
)

// A Status is how an operation ended, PS3.7 Annex C and PS3.4 Table B.2-1. As an error of [Storage] it is what the peer is told.
type Status struct {
	Code uint16
	// Comment travels as Error Comment (0000,0902): at most 64 characters, no patient data.
	Comment string
}

// Status codes, PS3.7 Annex C and, from A700 on, PS3.4 Table B.2-1.
const (
	StatusSuccess               uint16 = 0x0000
	StatusProcessingFailure     uint16 = 0x0110
	StatusDuplicateInstance     uint16 = 0x0111
	StatusNoSuchInstance        uint16 = 0x0112
	StatusNoSuchEventType       uint16 = 0x0113
	StatusInvalidArgument       uint16 = 0x0115
	StatusInvalidInstance       uint16 = 0x0117
	StatusNoSuchClass           uint16 = 0x0118
	StatusClassInstanceConflict uint16 = 0x0119
	StatusSOPClassNotSupported  uint16 = 0x0122
	StatusNoSuchAction          uint16 = 0x0123
	StatusNotAuthorised         uint16 = 0x0124
	StatusDuplicateInvocation   uint16 = 0x0210
	StatusUnrecognisedOperation uint16 = 0x0211
	StatusMistypedArgument      uint16 = 0x0212
	StatusResourceLimitation    uint16 = 0x0213
	StatusOutOfResources        uint16 = 0xA700
	StatusMismatch              uint16 = 0xA900
	StatusCoercion              uint16 = 0xB000
	StatusElementsDiscarded     uint16 = 0xB006
	StatusMismatchWarning       uint16 = 0xB007
	StatusCannotUnderstand      uint16 = 0xC000
)

// Success says that the operation was done; warnings count as done, PS3.7 C.1.
func (s Status) Success() bool { return s.Code == StatusSuccess || s.Warning() }

// Warning says that the operation was done with something to remark, PS3.7 C.1.3.
func (s Status) Warning() bool {
	return s.Code == 0x0001 || s.Code == 0x0107 || s.Code == 0x0116 || s.Code>>12 == 0xB
}

func (s *Status) Error() string { return s.String() }

func (s Status) String() string {
	text := fmt.Sprintf("status %04XH %s", s.Code, statusText(s.Code))
	if s.Comment != "" {
		text += ": " + s.Comment
	}
	return text
}

func statusText(code uint16) string {
	switch code {
	case StatusSuccess:
		return "success"
	case StatusProcessingFailure:
		return "processing failure"
	case StatusDuplicateInstance:
		return "duplicate SOP instance"
	case StatusNoSuchInstance:
		return "no such SOP instance"
	case StatusNoSuchEventType:
		return "no such event type"
	case StatusInvalidArgument:
		return "invalid argument value"
	case StatusInvalidInstance:
		return "invalid SOP instance"
	case StatusNoSuchClass:
		return "no such SOP class"
	case StatusClassInstanceConflict:
		return "class-instance conflict"
	case StatusSOPClassNotSupported:
		return "SOP class not supported"
	case StatusNoSuchAction:
		return "no such action"
	case StatusNotAuthorised:
		return "not authorised"
	case StatusDuplicateInvocation:
		return "duplicate invocation"
	case StatusUnrecognisedOperation:
		return "unrecognised operation"
	case StatusMistypedArgument:
		return "mistyped argument"
	case StatusResourceLimitation:
		return "resource limitation"
	case StatusCoercion:
		return "coercion of data elements"
	case StatusElementsDiscarded:
		return "elements discarded"
	case StatusMismatchWarning:
		return "data set does not match SOP class (warning)"
	}
	switch {
	case code>>8 == 0xA7:
		return "refused: out of resources"
	case code>>8 == 0xA9:
		return "error: data set does not match SOP class"
	case code>>12 == 0xC:
		return "error: cannot understand"
	case code>>12 == 0xB:
		return "warning"
	}
	return "failure"
}

// statusOf chooses what a peer is told about an error of [Storage].
func statusOf(err error) Status {
	var (
		status *Status
		errno  syscall.Errno
		fault  *dicom.Error
	)
	switch {
	case err == nil:
		return Status{}
	case errors.As(err, &status):
		return *status
	case errors.As(err, &errno): // disk full, read-only, too many open files: the peer may try again later
		return Status{StatusOutOfResources, errno.Error()}
	case errors.As(err, &fault):
		return Status{StatusCannotUnderstand, "the data set is malformed at " + fault.Path}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Status{StatusOutOfResources, "the node is shutting down"}
	case errors.Is(err, io.ErrShortWrite):
		return Status{StatusOutOfResources, "short write"}
	}
	return Status{StatusProcessingFailure, "the node could not keep the object, see its log"}
}

// comment makes s a valid value of VR LO: at most 64 characters of the default repertoire, PS3.5 Table 6.2-1.
func comment(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || r == '\\' {
			return '?'
		}
		return r
	}, s)
	return strings.TrimRight(s[:min(len(s), 64)], " ")
}
