package dicom

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of *Error: bytes that break the standard, bytes that obey it but go beyond what radnode reads, and more of them than the
// caller has room for.
var (
	ErrMalformed   = errors.New("malformed")
	ErrUnsupported = errors.New("not supported")
	ErrTooLarge    = errors.New("too large")
)

// An Error says where in a data set reading or writing stopped; a log line alone leads to the byte.
type Error struct {
	Path   string // "(3006,0039)[2].(3006,0050)": item numbers start at 1 (PS3.5 7.5); "" when the place has no name
	Offset int64  // from the start of the file or, for a bare data set, of the data set; after inflating; -1 when not known
	Err    error  // wraps ErrMalformed, ErrUnsupported, ErrTooLarge or the error of the reader
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Path != "" {
		b.WriteString(e.Path)
		if t, ok := lastTag(e.Path); ok {
			if k := t.Keyword(); k != "" {
				b.WriteString(" " + k)
			}
		}
		b.WriteString(": ")
	}
	b.WriteString(e.Err.Error())
	if e.Offset >= 0 {
		fmt.Fprintf(&b, " (at byte %d)", e.Offset)
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// lastTag is the tag that a path ends with.
func lastTag(path string) (Tag, bool) {
	i := strings.LastIndexByte(path, '(')
	if i < 0 {
		return 0, false
	}
	var g, e uint32
	if n, _ := fmt.Sscanf(path[i:], "(%04X,%04X)", &g, &e); n != 2 {
		return 0, false
	}
	return Tag(g<<16 | e), true
}

func malformed(format string, args ...any) error {
	return kindError{ErrMalformed, fmt.Errorf(format, args...)}
}

func unsupported(format string, args ...any) error {
	return kindError{ErrUnsupported, fmt.Errorf(format, args...)}
}

// kindError gives an error its kind without repeating the kind in its words.
type kindError struct{ kind, err error }

func (e kindError) Error() string   { return e.err.Error() }
func (e kindError) Unwrap() []error { return []error{e.kind, e.err} }

// elementError is about the value of one element whose place in the bytes is no longer known.
func elementError(t Tag, err error) *Error { return &Error{Path: t.String(), Offset: -1, Err: err} }
