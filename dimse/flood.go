package dimse

import (
	"context"
	"log/slog"
)

// maxWarnings is how many refusals of one association are logged as such: a peer that sends nothing else could fill the disk with
// them. The line at its end counts them all.
const maxWarnings = 100

// warn logs a refusal.
func (a *association) warn(msg string, args ...any) {
	level := slog.LevelWarn
	if a.warned++; a.warned > maxWarnings {
		level = slog.LevelDebug
	}
	a.log.Log(context.Background(), level, msg, args...)
	if a.warned == maxWarnings {
		a.log.Warn("many refusals on one association: further ones are logged with --debug only")
	}
}
