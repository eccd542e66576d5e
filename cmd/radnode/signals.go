package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilStopped ends at the first SIGINT or SIGTERM. The second one then does what it does to any program: it ends the process
// at once, which loses nothing.
func untilStopped() (ctx context.Context, stop func()) {
	ctx, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
