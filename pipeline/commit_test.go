package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/store"
)

// A keeper is the Storage Commitment of a destination.
type keeper struct {
	mu       sync.Mutex
	requests []dimse.CommitmentRequest
	answer   func(n int, rq dimse.CommitmentRequest) (*dimse.CommitmentReport, error) // request number n, from 1
}

func (k *keeper) CommitmentRequested(_ context.Context, _ string, rq dimse.CommitmentRequest) (*dimse.CommitmentReport, error) {
	k.mu.Lock()
	k.requests = append(k.requests, rq)
	n, answer := len(k.requests), k.answer
	k.mu.Unlock()
	return answer(n, rq)
}

func (k *keeper) CommitmentReported(context.Context, string, dimse.CommitmentResult) error {
	return nil
}

func (k *keeper) asked() []dimse.CommitmentRequest {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.requests)
}

func all(rq dimse.CommitmentRequest) dimse.CommitmentResult {
	return dimse.CommitmentResult{TransactionUID: rq.TransactionUID, Committed: rq.Instances}
}

func none(rq dimse.CommitmentRequest, reason uint16) dimse.CommitmentResult {
	r := dimse.CommitmentResult{TransactionUID: rq.TransactionUID}
	for _, in := range rq.Instances {
		r.Failed = append(r.Failed, dimse.CommitmentFailure{SOPReference: in, Reason: reason})
	}
	return r
}

func atOnce(r dimse.CommitmentResult) (*dimse.CommitmentReport, error) {
	return &dimse.CommitmentReport{CommitmentResult: r}, nil
}

// committing starts a destination that is asked for commitment, and a pipeline with a server in front of it.
func committing(t *testing.T, answer func(n int, rq dimse.CommitmentRequest) (*dimse.CommitmentReport, error)) (*pacs, *keeper, *sending, dimse.Peer) {
	t.Helper()
	to, k := startPACS(t, "127.0.0.1:0"), &keeper{answer: answer}
	to.do(func(p *pacs) { p.commit = k })
	s, at := startCommitting(t, t.TempDir(), to)
	return to, k, s, at
}

func startCommitting(t *testing.T, dir string, to *pacs) (*sending, dimse.Peer) {
	t.Helper()
	s := startSending(t, dir, node, func(o *Options) {
		o.Deliver = []Destination{{Peer: to.peer(), Commit: true}}
	})
	return s, s.serve(t)
}

// serve puts a server in front of the pipeline.
func (s *sending) serve(t *testing.T) dimse.Peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dimse.Server{AETitle: "RADNODE", Storage: s.store, Committer: s.p, Grace: 100 * time.Millisecond, ARTIM: time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	stop := s.stop
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
		stop()
	})
	t.Cleanup(s.stop)
	return dimse.Peer{AETitle: "RADNODE", Address: l.Addr().String()}
}

func (s *sending) confirmed(to *pacs, uid string) func() bool {
	return func() bool { return s.state(to.peer(), uid).Name == StateConfirmed }
}

// tell reports a result on an association of its own.
func tell(t *testing.T, calling string, at dimse.Peer, r dimse.CommitmentResult) error {
	t.Helper()
	return DIMSE{CallingAET: calling}.ReportCommitment(t.Context(), at, r)
}

func code(err error) uint16 {
	var s *dimse.Status
	if errors.As(err, &s) {
		return s.Code
	}
	return 0
}

// What was delivered is confirmed on the association of the request.
func TestConfirmedAtOnce(t *testing.T) {
	to, k, s, _ := committing(t, func(_ int, rq dimse.CommitmentRequest) (*dimse.CommitmentReport, error) { return atOnce(all(rq)) })
	var uids []string
	for i := range 5 {
		uids = append(uids, s.result(to.peer(), fmt.Sprint(i), "report", i))
	}
	for _, uid := range uids {
		until(t, "confirmed", s.confirmed(to, uid))
	}
	for _, rq := range k.asked() {
		if len(rq.Instances) != 1 || rq.Instances[0].ClassUID != dicom.Comprehensive3DSRStorage || !slices.Contains(uids, rq.Instances[0].InstanceUID) {
			t.Errorf("asked for %+v", rq)
		}
	}
	until(t, "all counted", func() bool { return s.destination(to.peer()).Confirmed == 5 })
	if d := s.destination(to.peer()); d.Unconfirmed != 0 || d.Lost != 0 || !d.Commit {
		t.Errorf("destination is %+v", d)
	}
	if n := len(k.asked()); n != 5 {
		t.Errorf("%d requests, want 5", n)
	}
}

// The result may come later, on an association that the destination opens, before or after a restart. Who is not the destination
// confirms nothing, and an unknown transaction is refused.
func TestConfirmedLater(t *testing.T) {
	to, k := startPACS(t, "127.0.0.1:0"), &keeper{}
	k.answer = func(int, dimse.CommitmentRequest) (*dimse.CommitmentReport, error) { return nil, nil }
	to.do(func(p *pacs) { p.commit = k })
	dir := t.TempDir()
	long := func(o *Options) {
		o.Deliver = []Destination{{Peer: to.peer(), Commit: true}}
		o.times = commitTimes{gather: time.Millisecond, await: 50 * time.Millisecond, wait: time.Hour, report: time.Hour}
	}
	s := startSending(t, dir, node, long)
	at := s.serve(t)
	uids := []string{s.result(to.peer(), "a", "report", 1), s.result(to.peer(), "b", "report", 1)}
	waiting := func() bool {
		jobs := s.store.Jobs(commitPrefix + to.peer().String())
		return len(jobs) == 2 && jobs[0].Tries == 1 && jobs[1].Tries == 1
	}
	until(t, "both are asked for", waiting)
	if d := s.destination(to.peer()); d.Unconfirmed != 2 {
		t.Errorf("destination is %+v", d)
	}
	rq := k.asked()
	for what, err := range map[string]error{
		"another AE title": tell(t, "MALLORY", at, all(rq[0])),
		"unknown":          tell(t, "PACS", at, dimse.CommitmentResult{TransactionUID: "1.2.3.4.5", Committed: rq[0].Instances}),
	} {
		if code(err) != dimse.StatusInvalidArgument {
			t.Errorf("%s: %v, want status %04X", what, err, dimse.StatusInvalidArgument)
		}
	}
	for _, uid := range uids {
		if s.confirmed(to, uid)() {
			t.Error("confirmed by somebody else")
		}
	}
	if err := tell(t, "PACS", at, all(rq[0])); err != nil {
		t.Error(err)
	}
	first := rq[0].Instances[0].InstanceUID
	if !s.confirmed(to, first)() { // durable when it was answered
		t.Error("not confirmed")
	}
	if err := tell(t, "PACS", at, all(rq[0])); err != nil {
		t.Errorf("the same result once more: %v", err)
	}
	s.stop()

	s = startSending(t, dir, node, long)
	at = s.serve(t)
	if err := tell(t, "PACS", at, all(rq[0])); err != nil {
		t.Errorf("the same result after a restart: %v", err)
	}
	if err := tell(t, "MALLORY", at, all(rq[1])); code(err) != dimse.StatusInvalidArgument {
		t.Errorf("another AE title: %v", err)
	}
	if err := tell(t, "PACS", at, all(rq[1])); err != nil {
		t.Error(err)
	}
	for _, uid := range uids {
		until(t, "confirmed", s.confirmed(to, uid))
	}
	if n := len(k.asked()); n != 2 {
		t.Errorf("%d requests, want 2: a restart asks for nothing twice", n)
	}
}

// A node that dies between the request and its result asks by the same transaction.
func TestSameTransactionAfterRestart(t *testing.T) {
	to, k := startPACS(t, "127.0.0.1:0"), &keeper{}
	asked := make(chan struct{}, 9)
	k.answer = func(int, dimse.CommitmentRequest) (*dimse.CommitmentReport, error) {
		asked <- struct{}{}
		return nil, nil
	}
	to.do(func(p *pacs) { p.commit = k })
	dir := t.TempDir()
	slow := func(o *Options) {
		o.Deliver = []Destination{{Peer: to.peer(), Commit: true}}
		o.times = commitTimes{gather: time.Millisecond, await: time.Hour, wait: time.Hour, report: time.Hour}
	}
	s := startSending(t, dir, node, slow)
	s.result(to.peer(), "a", "report", 1)
	<-asked
	s.stop() // while it waits for the result
	s = startSending(t, dir, node, slow)
	<-asked
	s.stop()
	if rq := k.asked(); len(rq) != 2 || rq[0].TransactionUID != rq[1].TransactionUID {
		t.Errorf("asked by %+v", rq)
	}
}

// A destination that does not answer is asked again by a new transaction; a late result of the first one counts all the same.
func TestAskedAgain(t *testing.T) {
	to, k, s, at := committing(t, func(int, dimse.CommitmentRequest) (*dimse.CommitmentReport, error) { return nil, nil })
	uid := s.result(to.peer(), "a", "report", 1)
	until(t, "asked twice", func() bool { return len(k.asked()) >= 2 })
	rq := k.asked()
	if rq[0].TransactionUID == rq[1].TransactionUID {
		t.Error("the same transaction twice")
	}
	if err := tell(t, "PACS", at, all(rq[0])); err != nil {
		t.Error(err)
	}
	until(t, "confirmed", s.confirmed(to, uid))
	if n := to.times(uid); n != 1 {
		t.Errorf("sent %d times, want once", n)
	}
}

// A destination that never answers is given up after ten rounds, visibly, and asked ten times more when an operator says so.
func TestNeverConfirmed(t *testing.T) {
	to, k := startPACS(t, "127.0.0.1:0"), &keeper{}
	k.answer = func(int, dimse.CommitmentRequest) (*dimse.CommitmentReport, error) { return nil, status(0x0110) }
	to.do(func(p *pacs) { p.commit = k })
	s, _ := startCommitting(t, t.TempDir(), to)
	uid := s.result(to.peer(), "a", "report", 1)
	parked := func() bool {
		jobs := s.store.Jobs(commitPrefix + to.peer().String())
		return len(jobs) == 1 && jobs[0].State == store.Parked
	}
	for round := 1; round <= 2; round++ {
		until(t, "given up", parked)
		if n := len(k.asked()); n != round*commitRounds {
			t.Errorf("asked %d times", n)
		}
		if _, err := s.p.RequeueJob(t.Context(), s.store.Jobs(commitPrefix + to.peer().String())[0].Key); err != nil {
			t.Fatal(err)
		}
		until(t, "asked again", func() bool { return len(k.asked()) > round*commitRounds })
	}
	if s.state(to.peer(), uid).Name != StateDelivered || to.times(uid) != 1 {
		t.Errorf("state %+v, sent %d times", s.state(to.peer(), uid), to.times(uid))
	}
}

// What a destination does not keep is sent again, what it keeps is not.
func TestLostIsSentAgain(t *testing.T) {
	for name, result := range map[string]func(rq dimse.CommitmentRequest) dimse.CommitmentResult{
		"failed": func(rq dimse.CommitmentRequest) dimse.CommitmentResult {
			r := dimse.CommitmentResult{TransactionUID: rq.TransactionUID, Committed: rq.Instances[:1]}
			r.Failed = []dimse.CommitmentFailure{{SOPReference: rq.Instances[1], Reason: dimse.StatusNoSuchInstance}}
			return r
		},
		"not mentioned": func(rq dimse.CommitmentRequest) dimse.CommitmentResult {
			return dimse.CommitmentResult{TransactionUID: rq.TransactionUID, Committed: rq.Instances[:1]}
		},
		"both kept and failed": func(rq dimse.CommitmentRequest) dimse.CommitmentResult {
			return dimse.CommitmentResult{TransactionUID: rq.TransactionUID, Committed: rq.Instances,
				Failed: []dimse.CommitmentFailure{{SOPReference: rq.Instances[1], Reason: 0x0110}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			to, k := startPACS(t, "127.0.0.1:0"), &keeper{}
			k.answer = func(n int, rq dimse.CommitmentRequest) (*dimse.CommitmentReport, error) {
				if n == 1 {
					return atOnce(result(rq))
				}
				return atOnce(all(rq))
			}
			to.do(func(p *pacs) { p.commit = k })
			s, at := startCommitting(t, t.TempDir(), to)
			if name == "both kept and failed" { // the client takes no such result; a pipeline that gets it must not believe the better half
				a := asked{study: aStudy, key: "x", commitment: commitment{To: to.peer().String(), Subject: "deliver/x", Sent: []sentAs{{"1.1", "1.2", "1.1"}}, Transactions: []string{"1.9"}}}
				if err := s.store.Commit(t.Context(), store.Change{Jobs: []store.Job{{Key: "x", Queue: "x"}}}); err != nil {
					t.Fatal(err)
				}
				ref := dimse.SOPReference{ClassUID: "1.2", InstanceUID: "1.1"}
				err := s.p.settle(t.Context(), s.p.destination(to.peer().String()), a, dimse.CommitmentResult{TransactionUID: "1.9", Committed: []dimse.SOPReference{ref},
					Failed: []dimse.CommitmentFailure{{SOPReference: ref, Reason: 0x0110}}})
				study, _ := s.store.Study(aStudy)
				if state, _ := stateOf(study, "deliver/x"); err != nil || state.Name != StateUndelivered {
					t.Errorf("%v, %+v", err, state)
				}
				return
			}
			_ = at
			uids := []string{dicom.UIDFrom(t.Name(), "1"), dicom.UIDFrom(t.Name(), "2")}
			job := deliveryJob(aStudy, delivery{To: to.peer().String(), Objects: uids})
			err := s.store.Commit(t.Context(), store.Change{Jobs: []store.Job{job}, Instances: []store.NewInstance{smallReport(t, uids[0]), smallReport(t, uids[1])}})
			if err != nil {
				t.Fatal(err)
			}
			s.p.serve([]store.Job{job})
			until(t, "confirmed", func() bool {
				study, err := s.store.Study(aStudy)
				state, _ := stateOf(study, deliverySubject(to.peer().String(), uids))
				return err == nil && state.Name == StateConfirmed
			})
			if a, b := to.times(uids[0]), to.times(uids[1]); a != 1 || b != 2 {
				t.Errorf("sent %d and %d times, want 1 and 2", a, b)
			}
			if rq := k.asked(); len(rq) != 2 || len(rq[1].Instances) != 1 || rq[1].Instances[0].InstanceUID != uids[1] {
				t.Errorf("asked for %+v", rq)
			}
			until(t, "counted", func() bool { return s.destination(to.peer()).Confirmed == 1 })
			if d := s.destination(to.peer()); d.Lost != 1 || s.log.count("has lost what it had taken") != 1 {
				t.Errorf("destination is %+v", d)
			}
		})
	}
}

// A destination that loses everything each time is given up after five times.
func TestLostForEver(t *testing.T) {
	to, _, s, _ := committing(t, func(_ int, rq dimse.CommitmentRequest) (*dimse.CommitmentReport, error) {
		return atOnce(none(rq, dimse.StatusNoSuchInstance))
	})
	uid := s.result(to.peer(), "a", "report", 1)
	until(t, "given up", func() bool { return strings.HasPrefix(s.state(to.peer(), uid).Reason, "given up") })
	if n := to.times(uid); n != 1+commitLosses {
		t.Errorf("sent %d times, want %d", n, 1+commitLosses)
	}
}

// A report that went out under another SOP Class is asked for as what it was sent as, and sent again from what it was made of.
func TestCommitmentOfFallback(t *testing.T) {
	to, k, s, _ := committing(t, func(n int, rq dimse.CommitmentRequest) (*dimse.CommitmentReport, error) {
		if n == 1 {
			return atOnce(none(rq, dimse.StatusNoSuchInstance))
		}
		return atOnce(all(rq))
	})
	s.p.sender = enhancedOnly{node}
	uid := s.result(to.peer(), "a", "report", 1)
	as := dicom.UIDFrom(uid, dicom.EnhancedSRStorage)
	until(t, "confirmed", s.confirmed(to, uid))
	if !to.has(as) || to.times(as) != 2 {
		t.Errorf("sent %d times, want 2", to.times(as))
	}
	for _, rq := range k.asked() {
		if rq.Instances[0] != (dimse.SOPReference{ClassUID: dicom.EnhancedSRStorage, InstanceUID: as}) {
			t.Errorf("asked for %+v", rq.Instances)
		}
	}
}

// enhancedOnly sends to a destination that takes Enhanced SR only.
type enhancedOnly struct{ DIMSE }

func (e enhancedOnly) Send(ctx context.Context, to dimse.Peer, objects [][]Version) error {
	var only [][]Version
	for _, versions := range objects {
		only = append(only, slices.DeleteFunc(slices.Clone(versions), func(v Version) bool { return v.SOPClassUID != dicom.EnhancedSRStorage }))
	}
	return e.DIMSE.Send(ctx, to, only)
}

// A destination without Storage Commitment gets its deliveries; the log says so once.
func TestCommitmentNotOffered(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := &pacs{t: t, addr: l.Addr().String(), kept: map[string][]byte{}, conns: map[net.Conn]bool{}}
	server := &dimse.Server{AETitle: "PACS", Storage: to}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	defer func() {
		cancel()
		<-ended
	}()
	s, _ := startCommitting(t, t.TempDir(), to)
	for i := range 5 {
		uid := s.result(to.peer(), fmt.Sprint(i), "report", i)
		until(t, "delivered", func() bool { return s.state(to.peer(), uid).Name == StateDelivered })
	}
	until(t, "nothing to do", func() bool { return s.destination(to.peer()).Unconfirmed == 0 })
	if d := s.destination(to.peer()); d.NotOffered.IsZero() || d.Delivered != 5 || !d.Down.IsZero() {
		t.Errorf("destination is %+v", d)
	}
	if n := s.log.count("does not offer Storage Commitment"); n != 1 {
		t.Errorf("%d lines say so, want 1", n)
	}
}

// The truth about what a peer asks for: what is here, what is not, what is something else, and what cannot be read any more.
func TestCommitmentIsTrue(t *testing.T) {
	dir := t.TempDir()
	s := startSending(t, dir, node, nil)
	at := s.serve(t)
	here, damaged := dicom.UIDFrom(t.Name(), "here"), dicom.UIDFrom(t.Name(), "damaged")
	if err := s.store.Commit(t.Context(), store.Change{Instances: []store.NewInstance{smallReport(t, here), smallReport(t, damaged)}}); err != nil {
		t.Fatal(err)
	}
	spoil(t, dir, damaged)
	rq := dimse.CommitmentRequest{TransactionUID: "1.2.3.4", Instances: []dimse.SOPReference{
		{ClassUID: dicom.Comprehensive3DSRStorage, InstanceUID: here}, {ClassUID: dicom.Comprehensive3DSRStorage, InstanceUID: damaged},
		{ClassUID: dicom.EnhancedSRStorage, InstanceUID: here}, {ClassUID: dicom.Comprehensive3DSRStorage, InstanceUID: "1.2.3.4.5.6"},
	}}
	scanner := DIMSE{CallingAET: "SCANNER"} // whose address nobody knows
	answers, err := scanner.AskCommitment(t.Context(), at, []dimse.CommitmentRequest{rq}, 5*time.Second)
	if err != nil || answers[0].Err != nil || answers[0].Result == nil {
		t.Fatalf("%+v, %v", answers, err)
	}
	r := answers[0].Result
	if !slices.Equal(r.Committed, rq.Instances[:1]) {
		t.Errorf("committed to %+v", r.Committed)
	}
	reasons := map[dimse.SOPReference]uint16{}
	for _, f := range r.Failed {
		reasons[f.SOPReference] = f.Reason
	}
	for i, want := range []uint16{1: dimse.StatusProcessingFailure, 2: dimse.StatusClassInstanceConflict, 3: dimse.StatusNoSuchInstance} {
		if got := reasons[rq.Instances[i]]; got != want {
			t.Errorf("instance %d: Failure Reason %04X, want %04X", i, got, want)
		}
	}
	for queue, q := range s.store.Queues() {
		if strings.HasPrefix(queue, reportPrefix) && q.Pending+q.Leased+q.Parked > 0 {
			t.Errorf("%s keeps what can be told to nobody: %+v", queue, q)
		}
	}
}

// spoil flips a byte of an instance in the log of a store.
func spoil(t *testing.T, dir, uid string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "log", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		at := strings.LastIndex(string(b), uid) // the first is in the text of the record
		if at < 0 {
			continue
		}
		f, err := os.OpenFile(file, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte{b[at] ^ 1}, int64(at)); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("not in the log")
}

// A peer that does not stay for the result is called back at its address, also when it was away, and also by the next start. The same
// request twice is one.
func TestCalledBack(t *testing.T) {
	scanner := startPACS(t, "127.0.0.1:0")
	var mu sync.Mutex
	var results []dimse.CommitmentResult
	scanner.stop()
	dir, here := t.TempDir(), dicom.UIDFrom(t.Name(), "here")
	back := func(o *Options) {
		o.ReplyTo = []Destination{{Peer: dimse.Peer{AETitle: "SCANNER", Address: scanner.addr}}}
		o.times.report = time.Millisecond
	}
	s := startSending(t, dir, node, back)
	if err := s.store.Commit(t.Context(), store.Change{Instances: []store.NewInstance{smallReport(t, here)}}); err != nil {
		t.Fatal(err)
	}
	rq := dimse.CommitmentRequest{TransactionUID: "1.2.3.4", Instances: []dimse.SOPReference{{ClassUID: dicom.Comprehensive3DSRStorage, InstanceUID: here}}}
	for range 2 {
		report, err := s.p.CommitmentRequested(t.Context(), "SCANNER", rq)
		if err != nil {
			t.Fatal(err)
		}
		report.Done(errors.New("the peer released"))
	}
	until(t, "a call", func() bool { return s.log.count("destination is down") > 0 })
	s.stop()
	s = startSending(t, dir, node, back)

	l, err := net.Listen("tcp", scanner.addr)
	if err != nil {
		t.Fatal(err)
	}
	server := &dimse.Server{AETitle: "SCANNER", Storage: scanner, Committer: listening(func(calling string, r dimse.CommitmentResult) error {
		mu.Lock()
		defer mu.Unlock()
		if results = append(results, r); len(results) == 1 {
			return status(0x0110) // and once more, please
		}
		return nil
	})}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	defer func() {
		cancel()
		<-ended
	}()
	until(t, "told", func() bool {
		q := s.store.Queues()[reportPrefix+"SCANNER"]
		return q.Done == 1 && q.Pending+q.Leased == 0
	})
	mu.Lock()
	defer mu.Unlock()
	if len(results) != 2 || !slices.Equal(results[1].Committed, rq.Instances) || len(results[1].Failed) != 0 || results[1].TransactionUID != rq.TransactionUID {
		t.Errorf("told %+v", results)
	}
}

// A peer that took the result on the association of its request is not called back.
func TestNotCalledBack(t *testing.T) {
	s := startSending(t, t.TempDir(), node, func(o *Options) {
		o.ReplyTo = []Destination{{Peer: dimse.Peer{AETitle: "SCANNER", Address: startGone(t)}}}
	})
	at := s.serve(t)
	rq := dimse.CommitmentRequest{TransactionUID: "1.2.3.4", Instances: []dimse.SOPReference{{ClassUID: "1.2", InstanceUID: "1.3"}}}
	for range 2 { // it may ask twice
		answers, err := DIMSE{CallingAET: "SCANNER"}.AskCommitment(t.Context(), at, []dimse.CommitmentRequest{rq}, 5*time.Second)
		if err != nil || answers[0].Result == nil || len(answers[0].Result.Failed) != 1 {
			t.Fatalf("%+v, %v", answers, err)
		}
	}
	until(t, "done", func() bool {
		q := s.store.Queues()[reportPrefix+"SCANNER"]
		return q.Done == 1 && q.Pending+q.Leased+q.Parked == 0
	})
	if n := s.log.count("destination is down"); n != 0 {
		t.Error("it was called back")
	}
}

type listening func(calling string, r dimse.CommitmentResult) error

func (f listening) CommitmentRequested(context.Context, string, dimse.CommitmentRequest) (*dimse.CommitmentReport, error) {
	return nil, status(0x0110)
}
func (f listening) CommitmentReported(_ context.Context, calling string, r dimse.CommitmentResult) error {
	return f(calling, r)
}

// A peer that nobody can reach for a day is given up, visibly, and one that asks too often is told so.
func TestCallBackBounds(t *testing.T) {
	peer := dimse.Peer{AETitle: "SCANNER", Address: startGone(t)}
	s := startSending(t, t.TempDir(), node, func(o *Options) { o.ReplyTo = []Destination{{Peer: peer}} })
	queue := reportPrefix + "SCANNER"
	old := promise{dimse.CommitmentRequest{TransactionUID: "1.2", Instances: []dimse.SOPReference{{ClassUID: "1.2", InstanceUID: "1.3"}}}, time.Now().Add(-25 * time.Hour)}
	change := store.Change{Jobs: []store.Job{{Key: "old", Queue: queue, Payload: payloadOf(old)}}}
	if err := s.store.Commit(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	s.p.serve(change.Jobs)
	until(t, "given up", func() bool { return s.store.Queues()[queue].Parked == 1 })
	if _, err := s.p.RequeueJob(t.Context(), "old"); err != nil {
		t.Fatal(err)
	}
	until(t, "another day", func() bool {
		var again promise
		jobs := s.store.Jobs(queue)
		return len(jobs) == 1 && jobs[0].Key != "old" && json.Unmarshal(jobs[0].Payload, &again) == nil && time.Since(again.At) < time.Hour
	})
	tried := s.p.destination(peer.String())
	until(t, "tried", func() bool { tried.mu.Lock(); defer tried.mu.Unlock(); return tried.failures > 2 })
	if q := s.store.Queues()[queue]; q.Parked != 0 {
		t.Errorf("given up at once: %+v", q)
	}

	change.Jobs = nil
	for i := range reportPending - 1 {
		change.Jobs = append(change.Jobs, store.Job{Key: fmt.Sprint("more", i), Queue: queue, Payload: payloadOf(old), RunAt: time.Now().Add(time.Hour)})
	}
	if err := s.store.Commit(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	if _, err := s.p.CommitmentRequested(t.Context(), "SCANNER", old.CommitmentRequest); code(err) != dimse.StatusResourceLimitation {
		t.Errorf("%v, want status %04X", err, dimse.StatusResourceLimitation)
	}
}

// startGone is an address at which nobody listens.
func startGone(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
