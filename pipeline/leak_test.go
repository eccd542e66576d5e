package pipeline

import (
	"testing"

	"go.uber.org/goleak"
)

// Whatever a pipeline starts ends with it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
