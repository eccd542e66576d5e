package main

import (
	"log/slog"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/store"
)

// stop asks the process to end, and waits until it has ended in order.
func (c *child) stop(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		<-c.log
		ended <- c.cmd.Wait()
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatalf("stopped by SIGTERM it ended with %v", err)
		}
	case <-time.After(patience):
		t.Fatal("SIGTERM does not end it")
	}
}

// A node that is stopped at any moment and started again repeats nothing: every object reaches the archive once, and every study
// is computed once.
func TestStoppedNodeRepeatsNothing(t *testing.T) {
	rounds := 10
	if testing.Short() {
		rounds = 3
	}
	objects := demoObjects(t)
	data := t.TempDir()
	pacs := startPACS(t, "127.0.0.1:0")
	var unsent []demoObject
	left := 0 // rounds that ended with something to do
	for round := range rounds {
		study := shuffled(uint64(round), variant(t, objects, round))
		c := startChild(t, data, "--deliver", pacs.destination())
		stopped := make(chan struct{})
		stop := func() {
			defer close(stopped)
			time.Sleep(time.Duration(rand.Int64N(int64(60 * time.Millisecond))))
			c.stop(t)
		}
		if round%2 == 0 { // while it receives
			go stop()
		}
		stored := pushUntilBroken(t.Context(), "SCANNER", c.peer, study, func(int) {})
		if round%2 == 1 { // while it computes or delivers
			go stop()
		}
		<-stopped
		if t.Failed() {
			t.FailNow()
		}
		unsent = append(unsent, study[stored:]...)
		st, err := store.Open(data, store.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for name := range st.Queues() {
			for _, j := range st.Jobs(name) {
				if left++; j.Begun != 0 {
					t.Errorf("round %d: stopping in order counts as a crash of %s", round, j.Key)
				}
			}
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
	c := startChild(t, data, "--deliver", pacs.destination())
	pushOver(t, c.peer, 1, unsent)
	pacs.waitReports(t, rounds)
	c.stop(t)
	t.Logf("%d jobs were left by a stop, %d objects were not sent before it", left, len(unsent))

	if left+len(unsent) == 0 {
		t.Error("the stops fell into nothing: this test proves nothing")
	}

	times := map[string]int{}
	for _, o := range pacs.received(append(reportClasses, dicom.SegmentationStorage)...) {
		times[o.meta.MediaStorageSOPInstanceUID]++
	}
	if len(times) != 2*rounds {
		t.Errorf("%d objects reached the archive, want a segmentation and a report of each study", len(times))
	}
	for uid, n := range times {
		if n != 1 {
			t.Errorf("%s was delivered %d times", uid, n)
		}
	}
	if n := len(pacs.received(reportClasses...)); n != rounds {
		t.Errorf("%d reports, want %d", n, rounds)
	}
	st, err := store.Open(data, store.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for name, q := range st.Queues() {
		if q.Done != rounds || q.Pending+q.Leased+q.Parked != 0 {
			t.Errorf("%s: %+v, want %d done", name, q, rounds)
		}
	}
}
