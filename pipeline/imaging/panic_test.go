package imaging

import (
	"errors"
	"testing"

	"github.com/radnode/radnode/pipeline/panics"
)

// A defect in decoding is an error of the study and not the end of the process.
func TestPanicWhileDecoding(t *testing.T) {
	err := eachFrame(t.Context(), nil, nil, []slice{{}}, nil) // of no series
	var defect *panics.Error
	if !errors.As(err, &defect) {
		t.Errorf("%v, want the panic", err)
	}
}
