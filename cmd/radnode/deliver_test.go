package main

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/store"
)

// Storage Commitment is asked of the destination that stands in the configuration with commit, by whichever name deliver has.
func TestCommitKey(t *testing.T) {
	for text, want := range map[string]bool{
		`peers: {P: {aet: P, address: "h:1", commit: true}}` + "\ndeliver: [P]":         true,
		`peers: {P: {aet: P, address: "h:1", commit: true}}` + "\ndeliver: [\"P@h:1\"]": true,
		`peers: {P: {aet: P, address: "h:1", commit: true}}` + "\ndeliver: [\"Q@h:1\"]": false,
		`peers: {P: {aet: P, address: "h:1"}}` + "\ndeliver: [P]":                       false,
	} {
		c, err := parseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if to, err := c.destinations(); err != nil || len(to) != 1 || to[0].Commit != want {
			t.Errorf("%s: %+v, %v, want %v", text, to, err, want)
		}
		if back := c.replyTo(); back[0].Commit != strings.Contains(text, "commit") {
			t.Errorf("%s: back to %+v", text, back)
		}
	}
	if _, err := parseConfig([]byte(`peers: {P: {aet: P, address: "h:1", commit: 7}}`)); err == nil || !strings.Contains(err.Error(), "write true or false") {
		t.Errorf("commit: 7: %v", err)
	}
}

// A committing PACS takes requests, and reports on an association of its own when it is told to.
type committingPACS struct {
	mu       sync.Mutex
	requests []dimse.CommitmentRequest
}

func (c *committingPACS) CommitmentRequested(_ context.Context, _ string, rq dimse.CommitmentRequest) (*dimse.CommitmentReport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, rq)
	return nil, nil
}

func (c *committingPACS) CommitmentReported(context.Context, string, dimse.CommitmentResult) error {
	return &dimse.Status{Code: dimse.StatusInvalidArgument}
}

// The whole way: a scanner sends a study and is told that it is kept; the PACS gets the report and commits to it.
func TestStorageCommitmentOfNode(t *testing.T) {
	keeps := &committingPACS{}
	pacs := startPACS(t, "127.0.0.1:0", keeps)
	cfg := testConfig(t)
	cfg.Peers = map[string]PeerConfig{"PACS": {AET: "PACS", Address: pacs.addr, Commit: true}, "CT1": {AET: "SCANNER", From: []string{"127.0.0.1"}}}
	cfg.Deliver = []string{"PACS"}
	n, _ := startNode(t, cfg)
	objects := demoObjects(t)
	pushOver(t, n.peer(), 1, objects)

	sent := dimse.CommitmentRequest{TransactionUID: "2.25.4"}
	for _, o := range objects {
		sent.Instances = append(sent.Instances, dimse.SOPReference{ClassUID: o.meta.MediaStorageSOPClassUID, InstanceUID: o.meta.MediaStorageSOPInstanceUID})
	}
	answers, err := pipeline.DIMSE{CallingAET: "SCANNER"}.AskCommitment(t.Context(), n.peer(), []dimse.CommitmentRequest{sent}, patience)
	if err != nil || answers[0].Result == nil || !slices.Equal(answers[0].Result.Committed, sent.Instances) {
		t.Errorf("the scanner is told %+v, %v", answers, err)
	}

	var rq []dimse.CommitmentRequest
	for deadline := time.Now().Add(patience); len(rq) == 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		keeps.mu.Lock()
		rq = slices.Clone(keeps.requests)
		keeps.mu.Unlock()
	}
	if len(rq) != 1 || len(rq[0].Instances) != 2 {
		t.Fatalf("the PACS is asked for %+v, want segmentation and report", rq)
	}
	result := dimse.CommitmentResult{TransactionUID: rq[0].TransactionUID, Committed: rq[0].Instances}
	if err := (pipeline.DIMSE{CallingAET: "PACS"}).ReportCommitment(t.Context(), n.peer(), result); err != nil {
		t.Fatal(err)
	}
	study := objects[0].dataSet(t).String(dicom.StudyInstanceUID)
	waitState(t, n.store, study, pipeline.StateConfirmed, func(s store.State) bool { return strings.Contains(s.Subject, pacs.destination()) })
}

// A node that is told to stop while a slow PACS takes a report finishes that, and does not send it again when it is started.
func TestStopWhileSending(t *testing.T) {
	pacs := startPACS(t, "127.0.0.1:0")
	pacs.slow = time.Second
	cfg := testConfig(t)
	cfg.Deliver = []string{pacs.destination()}
	n, stop := startNode(t, cfg)
	pushOver(t, n.peer(), 1, demoObjects(t))
	for deadline := time.Now().Add(patience); pacs.began.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is sent")
		}
	}
	stop()
	if got := len(pacs.received(append(reportClasses, dicom.SegmentationStorage)...)); got != 2 {
		t.Errorf("%d objects at the stop, want segmentation and report: what was under way is finished", got)
	}
	n, _ = startNode(t, cfg)
	waitIdle(t, n)
	if got := pacs.began.Load(); got != 2 {
		t.Errorf("%d objects sent in all, want 2", got)
	}
}
