package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
)

// A testCommitter takes every request and report.
type testCommitter struct {
	requests chan dimse.CommitmentRequest
	results  chan dimse.CommitmentResult
	at       func(rq dimse.CommitmentRequest) *dimse.CommitmentReport // known at once; nil = reported later
}

func (c *testCommitter) CommitmentRequested(_ context.Context, calling string, rq dimse.CommitmentRequest) (*dimse.CommitmentReport, error) {
	if calling != "PACS" {
		return nil, &dimse.Status{Code: dimse.StatusNotAuthorised, Comment: calling}
	}
	c.requests <- rq
	if c.at == nil {
		return nil, nil
	}
	return c.at(rq), nil
}

func (c *testCommitter) CommitmentReported(_ context.Context, calling string, result dimse.CommitmentResult) error {
	if calling != "PACS" {
		return &dimse.Status{Code: dimse.StatusNotAuthorised, Comment: calling}
	}
	c.results <- result
	return nil
}

func soon[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("it does not come")
	}
	return v
}

// Orthanc commits what it has and says so on a new association. It asks us, and takes the result on a new association; on that
// of its request it does not wait for it.
func TestOrthancStorageCommitment(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	kept := &testCommitter{requests: make(chan dimse.CommitmentRequest, 10), results: make(chan dimse.CommitmentResult, 10)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- (&dimse.Server{Committer: kept}).Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-ended })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	pacs := startOrthanc(t, port)
	peer := dimse.Peer{AETitle: "PACS", Address: "127.0.0.1:" + pacs.dicom}

	object := demoObjects(t)[0]
	if err := push(ctx, peer, []demoObject{object}); err != nil {
		t.Fatal(err)
	}
	there := dimse.SOPReference{ClassUID: object.meta.MediaStorageSOPClassUID, InstanceUID: object.meta.MediaStorageSOPInstanceUID}
	absent := dimse.SOPReference{ClassUID: there.ClassUID, InstanceUID: "2.25.42"}

	dial := func(roles ...dimse.Role) *dimse.Client {
		c, err := dimse.Dial(ctx, peer, dimse.DialOptions{Proposals: []dimse.Proposal{dimse.CommitmentProposal}, Roles: roles})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Abort)
		return c
	}
	failed := []dimse.CommitmentFailure{{SOPReference: absent, Reason: dimse.StatusNoSuchInstance}}
	for i, want := range []dimse.CommitmentResult{
		{Committed: []dimse.SOPReference{there}},
		{Committed: []dimse.SOPReference{there}, Failed: failed},
		{Failed: failed},
	} {
		want.TransactionUID = fmt.Sprintf("2.25.4242.%d", i+1)
		instances := slices.Clone(want.Committed)
		for _, f := range want.Failed {
			instances = append(instances, f.SOPReference)
		}
		c := dial()
		if err := c.RequestCommitment(ctx, dimse.CommitmentRequest{TransactionUID: want.TransactionUID, Instances: instances}); err != nil {
			t.Fatal(err)
		}
		if err := c.Release(ctx); err != nil {
			t.Error(err)
		}
		if got := soon(t, kept.results); !reflect.DeepEqual(got, want) {
			t.Errorf("Orthanc reports %+v, want %+v", got, want)
		}
	}

	for _, same := range []bool{false, true} {
		told := make(chan error, 1)
		kept.at = nil
		resultOf := func(rq dimse.CommitmentRequest) dimse.CommitmentResult {
			return dimse.CommitmentResult{TransactionUID: rq.TransactionUID, Committed: rq.Instances[:1],
				Failed: []dimse.CommitmentFailure{{SOPReference: rq.Instances[1], Reason: dimse.StatusNoSuchInstance}}}
		}
		if same {
			kept.at = func(rq dimse.CommitmentRequest) *dimse.CommitmentReport {
				return &dimse.CommitmentReport{CommitmentResult: resultOf(rq), Done: func(err error) { told <- err }}
			}
		}
		body := fmt.Sprintf(`{"DicomInstances":[[%q,%q],[%q,%q]]}`, there.ClassUID, there.InstanceUID, absent.ClassUID, absent.InstanceUID)
		var transaction struct{ ID string }
		if err := json.Unmarshal(pacs.post(t, "/modalities/radnode/storage-commitment", []byte(body)), &transaction); err != nil {
			t.Fatal(err)
		}
		rq := soon(t, kept.requests)
		if rq.TransactionUID != transaction.ID || !slices.Equal(rq.Instances, []dimse.SOPReference{there, absent}) {
			t.Errorf("Orthanc asks for %+v", rq)
		}
		report := func() {
			c := dial(dimse.CommitmentSCP)
			if err := c.ReportCommitment(ctx, resultOf(rq)); err != nil {
				t.Error(err)
			}
			if err := c.Release(ctx); err != nil {
				t.Error(err)
			}
		}
		if !same {
			report()
		} else if err := soon(t, told); err != nil {
			t.Logf("Orthanc does not take a result on the association of its request: %v", err)
			report()
		}
		var status struct {
			Status            string
			RemoteAET         string
			Success, Failures []struct{ SOPClassUID, SOPInstanceUID string }
		}
		deadline := time.Now().Add(patience)
		for status.Status = "Pending"; status.Status == "Pending"; time.Sleep(20 * time.Millisecond) {
			r, err := http.Get("http://127.0.0.1:" + pacs.http + "/storage-commitment/" + transaction.ID)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r.Body)
			_ = r.Body.Close()
			if err != nil || json.NewDecoder(bytes.NewReader(b)).Decode(&status) != nil || time.Now().After(deadline) {
				t.Fatalf("Orthanc: %v, %s", err, b)
			}
		}
		if status.Status != "Failure" || len(status.Success) != 1 || status.Success[0].SOPInstanceUID != there.InstanceUID ||
			len(status.Failures) != 1 || status.Failures[0].SOPInstanceUID != absent.InstanceUID {
			t.Errorf("Orthanc has %+v", status)
		}
	}
}
