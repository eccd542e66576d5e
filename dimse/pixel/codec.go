package pixel

import (
	"fmt"

	"github.com/radnode/radnode/dimse/dicom"
)

// precision is what a codestream says of its samples.
type precision struct {
	bits   int  // of a sample
	signed bool // JPEG 2000 only: the samples are two's complement already, sign extended in out
	lossy  bool // the codestream is irreversibly compressed
}

// A decoder turns the compressed bytes of one frame into out, rows x columns samples as the codestream holds them.
type decoder func(stream []byte, rows, columns int, out []int32) (precision, error)

func malformed(format string, args ...any) error {
	return kindError{dicom.ErrMalformed, fmt.Sprintf(format, args...)}
}

func unsupported(format string, args ...any) error {
	return kindError{dicom.ErrUnsupported, fmt.Sprintf(format, args...)}
}
