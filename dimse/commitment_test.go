package dimse

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/ul"
	"pgregory.net/rapid"
)

const commitmentClass = dicom.StorageCommitmentPushModelSOPClass

// A committer notes what it is given and answers what the test says.
type committer struct {
	mu       sync.Mutex
	requests []CommitmentRequest
	results  []CommitmentResult
	calling  []string

	requested func(rq CommitmentRequest) (*CommitmentReport, error)
	reported  func(result CommitmentResult) error
}

func (c *committer) CommitmentRequested(_ context.Context, calling string, rq CommitmentRequest) (*CommitmentReport, error) {
	c.mu.Lock()
	c.requests, c.calling = append(c.requests, rq), append(c.calling, calling)
	c.mu.Unlock()
	if c.requested != nil {
		return c.requested(rq)
	}
	return nil, nil
}

func (c *committer) CommitmentReported(_ context.Context, calling string, result CommitmentResult) error {
	c.mu.Lock()
	c.results, c.calling = append(c.results, result), append(c.calling, calling)
	c.mu.Unlock()
	if c.reported != nil {
		return c.reported(result)
	}
	return nil
}

func (c *committer) got() ([]CommitmentRequest, []CommitmentResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.requests), slices.Clone(c.results)
}

// scriptCommitment is a scripted peer whose context 3 is Storage Commitment.
func scriptCommitment(t testing.TB, addr, transferSyntax string, roles ...ul.Role) *scripted {
	t.Helper()
	pad := func(s string) ul.AETitle { return ul.AETitle([]byte(s + strings.Repeat(" ", 16-len(s)))) }
	rq := &ul.AssociateRQ{Calling: pad("SCRIPT"), Called: pad("RADNODE"), Contexts: []ul.ProposedContext{
		{ID: 1, AbstractSyntax: dicom.VerificationSOPClass, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}},
		{ID: 3, AbstractSyntax: commitmentClass, TransferSyntaxes: []string{transferSyntax}},
	}, User: ul.UserInformation{Roles: roles}}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := ul.Dial(ctx, addr, rq, ul.Config{Idle: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Kill(); conn.Close() })
	return &scripted{t: t, conn: conn}
}

// long cuts a data set into fragments.
func (s *scripted) long(data []byte) *scripted {
	for len(data) > 100<<10 {
		s.pdv(3, false, false, data[:100<<10])
		data = data[100<<10:]
	}
	return s.pdv(3, false, true, data)
}

// took expects an N-ACTION-RSP or N-EVENT-REPORT-RSP.
func (s *scripted) took(name string, code uint16) {
	s.t.Helper()
	var (
		status      Status
		id          uint16
		class, inst string
	)
	m := s.response()
	switch m := m.(type) {
	case *ActionResponse:
		status, id, class, inst = m.Status, m.MessageIDBeingRespondedTo, m.AffectedSOPClassUID, m.AffectedSOPInstanceUID
	case *EventReportResponse:
		status, id, class, inst = m.Status, m.MessageIDBeingRespondedTo, m.AffectedSOPClassUID, m.AffectedSOPInstanceUID
	}
	if status.Code != code || id != 7 || class == "" || inst == "" || code != StatusSuccess && status.Comment == "" {
		s.t.Errorf("%s: answered with %+v, want %04XH", name, m, code)
	}
}

func actionRQ(data bool) *ActionRequest {
	return &ActionRequest{7, commitmentClass, storageCommitmentInstance, 1, data}
}

func reportRQ(event uint16) *EventReportRequest {
	return &EventReportRequest{7, commitmentClass, storageCommitmentInstance, event, true}
}

// set is a data set with attributes that are empty where the value is "", and sequences of items of such.
func set(t testing.TB, syntax string, fill func(d *dicom.DataSet)) []byte {
	t.Helper()
	d := dicom.New()
	fill(d)
	b, err := encodeInformation(d, syntax)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func refs(n int) (all []SOPReference) {
	for i := range n {
		all = append(all, SOPReference{dicom.CTImageStorage, fmt.Sprintf("1.2.3.%d", i)})
	}
	return all
}

func encoded(t testing.TB, v interface{ encode(string) ([]byte, error) }, syntax string) []byte {
	t.Helper()
	b, err := v.encode(syntax)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var commitmentSyntaxes = []string{dicom.ImplicitVRLittleEndian, dicom.ExplicitVRLittleEndian}

func TestCommitmentRequestStatuses(t *testing.T) {
	for _, syntax := range commitmentSyntaxes {
		kept := &committer{}
		addr, _, _ := serve(t, &Server{Storage: &memory{}, Committer: kept})
		s := scriptCommitment(t, addr, syntax)
		good := CommitmentRequest{"1.2.99", refs(3)}
		twice := CommitmentRequest{"1.2.99", append(refs(3), refs(3)...)}
		with := func(fill func(d *dicom.DataSet)) []byte { return set(t, syntax, fill) }
		change := func(f func(m *ActionRequest)) *ActionRequest {
			m := actionRQ(true)
			f(m)
			return m
		}
		for _, c := range []struct {
			name string
			m    *ActionRequest
			data []byte
			err  error
			want uint16
		}{
			{"good", actionRQ(true), encoded(t, good, syntax), nil, StatusSuccess},
			{"an instance twice", actionRQ(true), encoded(t, twice, syntax), nil, StatusSuccess},
			{"another instance", change(func(m *ActionRequest) { m.RequestedSOPInstanceUID = "1.2.3" }), encoded(t, good, syntax), nil, StatusNoSuchInstance},
			{"another action", change(func(m *ActionRequest) { m.ActionTypeID = 2 }), encoded(t, good, syntax), nil, StatusNoSuchAction},
			{"no action", change(func(m *ActionRequest) { m.ActionTypeID = 0 }), encoded(t, good, syntax), nil, StatusNoSuchAction},
			{"another class", change(func(m *ActionRequest) { m.RequestedSOPClassUID = "1.2.840.10008.5.1.1.1" }), encoded(t, good, syntax), nil, StatusNoSuchClass},
			{"no data set", actionRQ(false), nil, nil, StatusInvalidArgument},
			{"empty data set", actionRQ(true), []byte{}, nil, StatusInvalidArgument},
			{"no data set at all", actionRQ(true), []byte("nonsense, and more of it"), nil, StatusInvalidArgument},
			{"truncated", actionRQ(true), encoded(t, good, syntax)[:60], nil, StatusInvalidArgument},
			{"no transaction", actionRQ(true), with(func(d *dicom.DataSet) {
				d.SetSeq(dicom.ReferencedSOPSequence, references(refs(1))...)
			}), nil, StatusInvalidArgument},
			{"empty transaction", actionRQ(true), with(func(d *dicom.DataSet) {
				d.SetString(dicom.TransactionUID)
				d.SetSeq(dicom.ReferencedSOPSequence, references(refs(1))...)
			}), nil, StatusInvalidArgument},
			{"transaction that is a path", actionRQ(true), bytes.Replace(encoded(t, good, syntax), []byte("1.2.99"), []byte("../../"), 1), nil, StatusInvalidArgument},
			{"no sequence", actionRQ(true), with(func(d *dicom.DataSet) { d.SetString(dicom.TransactionUID, "1.2.99") }), nil, StatusInvalidArgument},
			{"empty sequence", actionRQ(true), with(func(d *dicom.DataSet) {
				d.SetString(dicom.TransactionUID, "1.2.99")
				d.SetSeq(dicom.ReferencedSOPSequence)
			}), nil, StatusInvalidArgument},
			{"empty item", actionRQ(true), with(func(d *dicom.DataSet) {
				d.SetString(dicom.TransactionUID, "1.2.99")
				d.SetSeq(dicom.ReferencedSOPSequence, dicom.New())
			}), nil, StatusInvalidArgument},
			{"item without a class", actionRQ(true), with(func(d *dicom.DataSet) {
				item := refs(1)[0].item()
				item.Remove(dicom.ReferencedSOPClassUID)
				d.SetString(dicom.TransactionUID, "1.2.99")
				d.SetSeq(dicom.ReferencedSOPSequence, item)
			}), nil, StatusInvalidArgument},
			{"refused", actionRQ(true), encoded(t, good, syntax), &Status{StatusNotAuthorised, "not you"}, StatusNotAuthorised},
			{"disk full", actionRQ(true), encoded(t, good, syntax), &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, StatusResourceLimitation},
			{"store full", actionRQ(true), encoded(t, good, syntax), fmt.Errorf("store: %w", &Status{StatusOutOfResources, "no space left"}), StatusResourceLimitation},
			{"stopping", actionRQ(true), encoded(t, good, syntax), context.Canceled, StatusResourceLimitation},
			{"failed", actionRQ(true), encoded(t, good, syntax), errors.New("of Patient^Name"), StatusProcessingFailure},
		} {
			kept.requested = func(CommitmentRequest) (*CommitmentReport, error) { return nil, c.err }
			before, _ := kept.got()
			s.command(3, c.m)
			if c.m.HasDataSet {
				s.data(c.data[:len(c.data)/2], c.data[len(c.data)/2:])
			}
			s.flush()
			s.took(c.name, c.want)
			s.alive()
			after, _ := kept.got()
			switch given := len(after) - len(before); {
			case given != 0 != (c.want == StatusSuccess || c.err != nil):
				t.Errorf("%s: the committer was asked %d times", c.name, given)
			case given != 0 && !reflect.DeepEqual(after[len(before)], good):
				t.Errorf("%s: the committer was asked for %+v, want %+v", c.name, after[len(before)], good)
			}
		}
		if kept.calling[0] != "SCRIPT" {
			t.Errorf("calling %q", kept.calling[0])
		}
	}
}

func TestCommitmentReportStatuses(t *testing.T) {
	failures := []CommitmentFailure{{refs(5)[4], StatusNoSuchInstance}}
	for _, syntax := range commitmentSyntaxes {
		kept := &committer{}
		addr, _, _ := serve(t, &Server{Storage: &memory{}, Committer: kept})
		s := scriptCommitment(t, addr, syntax, CommitmentSCP)
		if r := s.conn.Response.User.Roles; len(r) != 1 || r[0] != CommitmentSCP {
			t.Errorf("roles %+v, want %+v", r, CommitmentSCP)
		}
		all, some, none := CommitmentResult{"1.2.99", refs(3), nil}, CommitmentResult{"1.2.99", refs(3), failures}, CommitmentResult{"1.2.99", nil, failures}
		other := reportRQ(1)
		other.AffectedSOPInstanceUID = "1.2.3"
		empty := reportRQ(1)
		empty.HasDataSet = false
		for _, c := range []struct {
			name string
			m    *EventReportRequest
			data []byte
			err  error
			want uint16
			is   CommitmentResult
		}{
			{"all committed", reportRQ(1), encoded(t, all, syntax), nil, StatusSuccess, all},
			{"some committed", reportRQ(2), encoded(t, some, syntax), nil, StatusSuccess, some},
			{"none committed", reportRQ(2), encoded(t, none, syntax), nil, StatusSuccess, none},
			{"failures in an event of success", reportRQ(1), encoded(t, some, syntax), nil, StatusSuccess, some},
			{"no failures in an event of failures", reportRQ(2), encoded(t, all, syntax), nil, StatusSuccess, all},
			{"committed and failed", reportRQ(2), set(t, syntax, func(d *dicom.DataSet) { // failed wins, and needs no reason
				d.SetString(dicom.TransactionUID, "1.2.99")
				d.SetSeq(dicom.ReferencedSOPSequence, references(refs(2))...)
				d.SetSeq(dicom.FailedSOPSequence, references(refs(1))...)
			}), nil, StatusSuccess, CommitmentResult{"1.2.99", refs(2)[1:], []CommitmentFailure{{refs(1)[0], StatusProcessingFailure}}}},
			{"another instance", other, encoded(t, all, syntax), nil, StatusNoSuchInstance, CommitmentResult{}},
			{"another event", reportRQ(3), encoded(t, all, syntax), nil, StatusNoSuchEventType, CommitmentResult{}},
			{"no data set", empty, nil, nil, StatusInvalidArgument, CommitmentResult{}},
			{"nothing in it", reportRQ(1), set(t, syntax, func(d *dicom.DataSet) { d.SetString(dicom.TransactionUID, "1.2.99") }), nil, StatusInvalidArgument, CommitmentResult{}},
			{"unknown transaction", reportRQ(1), encoded(t, all, syntax), &Status{StatusProcessingFailure, "no such transaction"}, StatusProcessingFailure, all},
			{"disk full", reportRQ(1), encoded(t, all, syntax), syscall.ENOSPC, StatusResourceLimitation, all},
		} {
			kept.reported = func(CommitmentResult) error { return c.err }
			_, before := kept.got()
			s.command(3, c.m)
			if c.m.HasDataSet {
				s.data(c.data)
			}
			s.flush()
			s.took(c.name, c.want)
			_, after := kept.got()
			switch given := len(after) - len(before); {
			case given != 0 != (c.want == StatusSuccess || c.err != nil):
				t.Errorf("%s: the committer was told %d times", c.name, given)
			case given != 0 && !reflect.DeepEqual(after[len(before)], c.is):
				t.Errorf("%s: the committer was told %+v, want %+v", c.name, after[len(before)], c.is)
			}
		}
		s.alive()
	}
}

// Roles are granted as proposed, to Storage Commitment alone, and a context needs a syntax that we also write.
func TestCommitmentNegotiation(t *testing.T) {
	s := &Server{Committer: &committer{}, RefuseUnknownSOPClasses: true}
	for ts, want := range map[string]ul.Result{
		dicom.ImplicitVRLittleEndian: ul.Acceptance, dicom.ExplicitVRLittleEndian: ul.Acceptance,
		dicom.ExplicitVRBigEndian: ul.TransferSyntaxesNotSupported, "1.2.840.10008.1.2.4.70": ul.TransferSyntaxesNotSupported,
	} {
		if got, r := s.choose(commitmentClass, []string{"1.2.3", ts}); r != want || (r == ul.Acceptance) != (got == ts) {
			t.Errorf("%s: %s, %v, want %v", ts, got, r, want)
		}
	}
	if _, r := (&Server{}).choose(commitmentClass, []string{dicom.ImplicitVRLittleEndian}); r != ul.AbstractSyntaxNotSupported {
		t.Errorf("without a committer: %v", r)
	}
	if s.acceptsClass(commitmentClass) {
		t.Error("objects of the class Storage Commitment would be stored")
	}
	for _, role := range []ul.Role{{SCU: true}, {SCP: true}, {SCU: true, SCP: true}} {
		rq := &ul.AssociateRQ{Contexts: []ul.ProposedContext{
			{ID: 1, AbstractSyntax: commitmentClass, TransferSyntaxes: []string{dicom.ImplicitVRLittleEndian}},
			{ID: 3, AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []string{dicom.ImplicitVRLittleEndian}},
		}}
		for _, class := range []string{commitmentClass, dicom.CTImageStorage} {
			rq.User.Roles = append(rq.User.Roles, ul.Role{SOPClass: class, SCU: role.SCU, SCP: role.SCP})
		}
		ac := ul.Negotiate(rq, 1, s.choose)
		grantRoles(rq, ac)
		want := []ul.Role{{SOPClass: commitmentClass, SCU: role.SCU, SCP: role.SCP}, {SOPClass: dicom.CTImageStorage, SCU: role.SCU}}
		if !cmp.Equal(ac.User.Roles, want) {
			t.Errorf("%+v: %+v, want %+v", role, ac.User.Roles, want)
		}
	}
}

// A request that is too large is refused, whoever is how busy, and its association lives.
func TestCommitmentBounds(t *testing.T) {
	kept := &committer{}
	server := &Server{Storage: &memory{}, Committer: kept}
	addr, _, _ := serve(t, server)
	s := scriptCommitment(t, addr, dicom.ImplicitVRLittleEndian)
	ask := func(name string, data []byte, want uint16) {
		t.Helper()
		s.command(3, actionRQ(true)).long(data).flush()
		s.took(name, want)
		s.alive()
	}
	small, large := encoded(t, CommitmentRequest{"1.2.99", refs(100)}, dicom.ImplicitVRLittleEndian), encoded(t, CommitmentRequest{"1.2.99", refs(2000)}, dicom.ImplicitVRLittleEndian)
	var items []*dicom.DataSet // of the fewest bytes
	for range maxReferences + 1 {
		items = append(items, SOPReference{"1.2", "1.2"}.item())
	}
	many := set(t, dicom.ImplicitVRLittleEndian, func(d *dicom.DataSet) {
		d.SetString(dicom.TransactionUID, "1.2.99")
		d.SetSeq(dicom.ReferencedSOPSequence, items...)
	})
	if len(many) > maxInformation || len(large) < freeInformation || len(small) > freeInformation {
		t.Fatalf("%d, %d, %d bytes", len(many), len(large), len(small))
	}
	ask("2000 instances", large, StatusSuccess)
	ask("too many instances", many, StatusResourceLimitation)
	ask("too many bytes", make([]byte, maxInformation+1), StatusResourceLimitation)
	server.commitment.held.Add(heldInformation)
	ask("large while others are held", large, StatusResourceLimitation)
	ask("small while others are held", small, StatusSuccess)
	server.commitment.held.Add(-heldInformation)
	ask("large when they are not", large, StatusSuccess)
	if held := server.commitment.held.Load(); held != 0 {
		t.Errorf("%d bytes are held by nobody", held)
	}
	if rqs, _ := kept.got(); len(rqs) != 3 {
		t.Errorf("%d requests were taken, want 3", len(rqs))
	}
	s.command(3, actionRQ(true)).long(make([]byte, 2*maxInformation+(200<<10)))
	if err := s.conn.SendData(s.buf); err == nil {
		s.aborted()
	}
}

// report expects an N-EVENT-REPORT-RQ and reads its result.
func (s *scripted) report(want CommitmentResult) (id uint16) {
	s.t.Helper()
	v, err := s.conn.Await()
	if err != nil {
		s.t.Fatal(err)
	}
	var buf []byte
	m, err := readCommand(s.conn, v, &buf)
	if err != nil {
		s.t.Fatal(err)
	}
	rq, ok := m.(*EventReportRequest)
	if !ok {
		s.t.Fatalf("%+v, want N-EVENT-REPORT-RQ", m)
	}
	data, err := io.ReadAll(&body{conn: s.conn, context: 3, limit: maxInformation})
	if err != nil {
		s.t.Fatal(err)
	}
	got, err := readEvent(rq, data, s.conn.Accepted(3).TransferSyntax)
	if err != nil || !reflect.DeepEqual(got, want) || rq.EventTypeID != want.event() || rq.AffectedSOPClassUID != commitmentClass {
		s.t.Errorf("%+v, %v, %+v, want %+v", got, err, rq, want)
	}
	return rq.MessageID
}

// A result that is known at once comes on the association of its request, behind the response.
func TestCommitmentReportedOnSameAssociation(t *testing.T) {
	done := make(chan error, 10)
	kept := &committer{requested: func(rq CommitmentRequest) (*CommitmentReport, error) {
		return &CommitmentReport{CommitmentResult{rq.TransactionUID, rq.Instances, nil}, func(err error) { done <- err }}, nil
	}}
	addr, _, _ := serve(t, &Server{Storage: &memory{}, Committer: kept})
	for _, syntax := range commitmentSyntaxes {
		s := scriptCommitment(t, addr, syntax)
		request := func(transaction string, n int) {
			s.command(3, actionRQ(true)).long(encoded(t, CommitmentRequest{transaction, refs(n)}, syntax)).flush()
			s.took(transaction, StatusSuccess)
		}
		respond := func(id uint16, st Status) {
			s.command(3, &EventReportResponse{id, commitmentClass, storageCommitmentInstance, 1, st, false}).flush()
		}
		request("1.2.1", 2)
		id := s.report(CommitmentResult{"1.2.1", refs(2), nil})
		s.alive() // it may be answered whenever the peer likes
		respond(id+1, Status{})
		s.alive() // and by nothing else
		select {
		case err := <-done:
			t.Errorf("answered by another message: %v", err)
		default:
		}
		respond(id, Status{})
		if err := <-done; err != nil {
			t.Error(err)
		}
		// Two at once: the second is sent when the first is answered.
		request("1.2.2", 1)
		first := s.report(CommitmentResult{"1.2.2", refs(1), nil})
		request("1.2.3", 1)
		s.alive()
		respond(first, Status{StatusProcessingFailure, "who are you?"})
		var status *Status
		if err := <-done; !errors.As(err, &status) || *status != (Status{StatusProcessingFailure, "who are you?"}) {
			t.Error(err)
		}
		respond(s.report(CommitmentResult{"1.2.3", refs(1), nil}), Status{StatusElementsDiscarded, ""})
		if err := <-done; err != nil { // a warning is no failure
			t.Error(err)
		}
		// What does not fit beside what the peer may be sending is not for this association.
		request("1.2.4", 5000)
		if err := <-done; err == nil {
			t.Error("a large result was reported")
		}
		s.alive()
		// A peer that leaves is to be called back.
		request("1.2.5", 1)
		if err := s.conn.Release(); err != nil {
			t.Error(err)
		}
		if err := <-done; err == nil {
			t.Error("reported to a peer that had left")
		}
	}
	if len(done) != 0 {
		t.Error("told twice")
	}
}

// The peer is busy with its next request, or never answers.
func TestCommitmentReportWaits(t *testing.T) {
	done := make(chan error, 10)
	kept := &committer{requested: func(rq CommitmentRequest) (*CommitmentReport, error) {
		return &CommitmentReport{CommitmentResult{rq.TransactionUID, rq.Instances, nil}, func(err error) { done <- err }}, nil
	}}
	addr, _, _ := serve(t, &Server{Storage: &memory{}, Committer: kept, ARTIM: time.Second})
	s := scriptCommitment(t, addr, dicom.ExplicitVRLittleEndian)
	// In one segment with the request, so that it is there when the response is sent.
	data := encoded(t, CommitmentRequest{"1.2.1", refs(1)}, dicom.ExplicitVRLittleEndian)
	s.command(3, actionRQ(true)).data(data).command(1, &EchoRequest{MessageID: 8}).flush()
	s.took("request", StatusSuccess)
	if r, ok := s.response().(*EchoResponse); !ok || r.MessageIDBeingRespondedTo != 8 {
		t.Errorf("%+v, want the response to the next request before anything of ours", r)
	}
	s.report(CommitmentResult{"1.2.1", refs(1), nil})
	if err := <-done; err == nil || !strings.Contains(err.Error(), "did not answer") {
		t.Error(err)
	}
	// More results than may wait: the peer answers none.
	for i := range maxReports + 1 {
		s.command(3, actionRQ(true)).data(data).flush()
		s.took(fmt.Sprint(i), StatusSuccess)
	}
	refused := 0
	for range maxReports + 1 {
		if err := <-done; err == nil {
			t.Error("reported")
		} else if strings.Contains(err.Error(), "wait for this association already") {
			refused++
		}
	}
	if refused != 2 { // the first one, whose time is over, is still unanswered
		t.Errorf("%d results were not to wait, want 2", refused)
	}
	s.alive()
}

// reporting is a scripted SCP of Storage Commitment, and of all else.
type reporting struct {
	t    *testing.T
	conn *ul.Conn
}

// take reads a message with its data set.
func (r reporting) take() (Message, []byte, uint8) {
	v, err := r.conn.Await()
	if err != nil {
		return nil, nil, 0
	}
	var buf []byte
	m, err := readCommand(r.conn, v, &buf)
	if err != nil {
		r.t.Error(err)
		return nil, nil, 0
	}
	follows := false
	switch m := m.(type) {
	case *StoreRequest:
		follows = !m.NoDataSet
	case *ActionRequest:
		follows = m.HasDataSet
	case *EventReportRequest:
		follows = m.HasDataSet
	}
	if !follows {
		return m, nil, v.Context
	}
	data, err := io.ReadAll(&body{conn: r.conn, context: v.Context, limit: 1 << 30})
	if err != nil {
		r.t.Error(err)
	}
	return m, data, v.Context
}

func (r reporting) send(context uint8, m Message, data []byte) {
	if data == nil {
		if err := r.conn.SendData(r.conn.AppendCommand(nil, context, encodeCommand(m))); err != nil {
			r.t.Error(err)
		}
		return
	}
	if _, err := sendMessage(r.conn, nil, context, encodeCommand(m), bytes.NewReader(data)); err != nil {
		r.t.Error(err)
	}
}

func (r reporting) released() {
	if _, err := r.conn.Await(); errors.Is(err, ul.ErrReleaseRequested) {
		_ = r.conn.AcceptRelease()
	} else {
		r.t.Errorf("%v, want a release", err)
	}
}

var commitmentOptions = DialOptions{Proposals: []Proposal{
	{dicom.VerificationSOPClass, []string{dicom.ImplicitVRLittleEndian}},
	{dicom.CTImageStorage, []string{dicom.ExplicitVRLittleEndian}},
	CommitmentProposal,
}, Roles: []Role{CommitmentSCP}}

func dialCommitment(t *testing.T, p Peer) *Client {
	t.Helper()
	c, err := Dial(context.Background(), p, commitmentOptions)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Abort)
	return c
}

// A result may come before the response to its request, and between an object and its response.
func TestClientIsToldInBetween(t *testing.T) {
	results := map[string]CommitmentResult{
		"1.2.1": {"1.2.1", refs(2), nil},
		"1.2.2": {"1.2.2", refs(1), []CommitmentFailure{{refs(2)[1], StatusNoSuchInstance}}},
	}
	p := scp(t, 0, func(conn *ul.Conn) {
		r := reporting{t, conn}
		event := func(context uint8, result CommitmentResult, want uint16) {
			m := reportRQ(result.event())
			r.send(context, m, encoded(t, result, conn.Accepted(context).TransferSyntax))
			rsp, _, _ := r.take()
			if rsp, ok := rsp.(*EventReportResponse); !ok || rsp.Status.Code != want || rsp.MessageIDBeingRespondedTo != 7 || rsp.EventTypeID != result.event() {
				t.Errorf("%+v, want status %04XH", rsp, want)
			}
		}
		for range 2 {
			m, data, context := r.take()
			rq, err := readRequest(data, conn.Accepted(context).TransferSyntax)
			action, ok := m.(*ActionRequest)
			if err != nil || !ok || *action != (ActionRequest{action.MessageID, commitmentClass, storageCommitmentInstance, 1, true}) || !reflect.DeepEqual(rq.Instances, refs(2)) {
				t.Errorf("%+v, %+v, %v", m, rq, err)
			}
			event(context, CommitmentResult{"1.2.77", refs(1), nil}, StatusProcessingFailure) // nobody asked for that
			if rq.TransactionUID == "1.2.1" {
				event(context, results["1.2.1"], StatusSuccess)
				event(context, results["1.2.1"], StatusProcessingFailure) // nor for it twice
			}
			r.send(context, &ActionResponse{action.MessageID, commitmentClass, storageCommitmentInstance, 1, Status{}, false}, nil)
		}
		m, _, context := r.take()
		event(5, results["1.2.2"], StatusSuccess)
		r.send(context, &StoreResponse{MessageIDBeingRespondedTo: m.(*StoreRequest).MessageID}, nil)
		r.released()
	})
	c := dialCommitment(t, p)
	ctx := context.Background()
	for _, transaction := range []string{"1.2.1", "1.2.2"} {
		if err := c.RequestCommitment(ctx, CommitmentRequest{transaction, refs(2)}); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := c.Store(ctx, ctMeta("1.2.3"), strings.NewReader("x")); err != nil || st.Code != StatusSuccess {
		t.Fatal(st, err)
	}
	for transaction, want := range results {
		if got, err := c.AwaitCommitment(ctx, transaction); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
	if err := c.Release(ctx); err != nil {
		t.Error(err)
	}
}

// A refusal is a *Status, and what waits for a result ends in time, with an association that lives.
func TestClientCommitmentEnds(t *testing.T) {
	p := scp(t, 0, func(conn *ul.Conn) {
		r := reporting{t, conn}
		m, _, context := r.take()
		r.send(context, &ActionResponse{m.(*ActionRequest).MessageID, commitmentClass, storageCommitmentInstance, 1, Status{StatusResourceLimitation, "later"}, false}, nil)
		m, _, _ = r.take()
		r.send(1, &EchoResponse{MessageIDBeingRespondedTo: m.(*EchoRequest).MessageID}, nil)
		r.send(context, reportRQ(1), encoded(t, CommitmentResult{"1.2.1", refs(1), nil}, conn.Accepted(context).TransferSyntax))
		_, _, _ = r.take()
		m, _, _ = r.take()
		r.send(context, &EventReportResponse{m.(*EventReportRequest).MessageID, commitmentClass, storageCommitmentInstance, 2, Status{0x0110, "unknown"}, false}, nil)
		_, _, _ = r.take() // the release, which is the peer's to answer
	})
	c := dialCommitment(t, p)
	var status *Status
	if err := c.RequestCommitment(context.Background(), CommitmentRequest{"1.2.1", refs(1)}); !errors.As(err, &status) || *status != (Status{StatusResourceLimitation, "later"}) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	for range 2 {
		if _, err := c.AwaitCommitment(ctx, "1.2.1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	if err := c.Echo(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got, err := c.AwaitCommitment(context.Background(), "1.2.1"); err != nil || len(got.Committed) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	failed := CommitmentResult{"1.2.9", nil, []CommitmentFailure{{refs(1)[0], StatusNoSuchInstance}}}
	if err := c.ReportCommitment(context.Background(), failed); err == nil || !strings.Contains(err.Error(), "as SCP") {
		t.Error(err) // the peer's answer has no SCP role for us
	}
	c.conn.Response.User.Roles = nil // a peer that says nothing about it
	if err := c.ReportCommitment(context.Background(), failed); !errors.As(err, &status) || status.Code != 0x0110 {
		t.Error(err)
	}
	for _, rq := range []CommitmentRequest{{"", refs(1)}, {"1.2", nil}, {"1.2", []SOPReference{{"x", "1.2"}}}, {"1.2", refs(maxReferences + 1)}} {
		if err := c.RequestCommitment(context.Background(), rq); err == nil {
			t.Errorf("%s with %d instances was sent", rq.TransactionUID, len(rq.Instances))
		}
	}
	if err := c.ReportCommitment(context.Background(), CommitmentResult{TransactionUID: "1.2"}); err == nil {
		t.Error("an empty result was sent")
	}
}

// A peer that releases, aborts or says nonsense instead of reporting.
func TestClientAwaitsInVain(t *testing.T) {
	for name, does := range map[string]func(r reporting){
		"releases":           func(r reporting) { _ = r.conn.Release() },
		"aborts":             func(r reporting) { _ = r.conn.Abort(errors.New("x")) },
		"closes":             func(r reporting) { r.conn.Kill() },
		"asks for something": func(r reporting) { r.send(1, &EchoRequest{MessageID: 1}, nil); _, _, _ = r.take() },
		"answers something":  func(r reporting) { r.send(1, &EchoResponse{MessageIDBeingRespondedTo: 9}, nil); _, _, _ = r.take() },
		"sends a data set of its own": func(r reporting) {
			h := make([]byte, ul.DataHeaderLen+100<<10)
			ul.PutPDVHeader(h, 5, false, 100<<10)
			_ = r.conn.SendData(bytes.Repeat(h, maxStray/(100<<10)+1))
			_, _, _ = r.take()
		},
		"never ends": func(r reporting) {
			b := r.conn.AppendCommand(nil, 5, encodeCommand(reportRQ(1)))
			for range 2*maxInformation/(100<<10) + 3 {
				h := make([]byte, ul.DataHeaderLen+100<<10)
				ul.PutPDVHeader(h, 5, false, 100<<10)
				b = append(b, h...)
			}
			_ = r.conn.SendData(b)
		},
		"tells others without end": func(r reporting) {
			rq := reportRQ(1)
			rq.HasDataSet = false
			for many := bytes.Repeat(r.conn.AppendCommand(nil, 5, encodeCommand(rq)), 100); r.conn.SendData(many) == nil; {
				for range 100 {
					_, _, _ = r.take()
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialCommitment(t, scp(t, 0, func(conn *ul.Conn) { does(reporting{t, conn}) }))
			if got, err := c.AwaitCommitment(context.Background(), "1.2.1"); err == nil {
				t.Errorf("%+v", got)
			}
		})
	}
}

// A result that has begun when the time is over may be finished, but not for ever.
func TestClientAwaitsHalfAResult(t *testing.T) {
	defer func(d time.Duration) { messageGrace = d }(messageGrace)
	for _, patient := range []bool{true, false} {
		messageGrace = 20 * time.Second
		if !patient {
			messageGrace = 50 * time.Millisecond
		}
		sent, over, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
		p := scp(t, 0, func(conn *ul.Conn) {
			data := encoded(t, CommitmentResult{"1.2.1", refs(1), nil}, conn.Accepted(5).TransferSyntax)
			half := func(b []byte, last bool) []byte {
				h := make([]byte, ul.DataHeaderLen)
				ul.PutPDVHeader(h, 5, last, len(b))
				return append(h, b...)
			}
			_ = conn.SendData(append(conn.AppendCommand(nil, 5, encodeCommand(reportRQ(1))), half(data[:20], false)...))
			close(sent)
			<-over
			if patient {
				_ = conn.SendData(half(data[20:], true))
			}
			<-ended
		})
		c := dialCommitment(t, p)
		<-sent
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		context.AfterFunc(ctx, func() { close(over) })
		got, err := c.AwaitCommitment(ctx, "1.2.1")
		if patient != (err == nil && len(got.Committed) == 1) || !patient && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("patient %v: %+v, %v", patient, got, err)
		}
		cancel()
		close(ended)
	}
}

// Our client and our server, all the ways.
func TestCommitmentBetweenOurselves(t *testing.T) {
	kept := &committer{requested: func(rq CommitmentRequest) (*CommitmentReport, error) {
		if rq.TransactionUID == "1.2.1" {
			return nil, nil
		}
		return &CommitmentReport{CommitmentResult: CommitmentResult{rq.TransactionUID, rq.Instances, nil}}, nil
	}}
	server := &Server{Storage: &memory{}, Committer: kept}
	addr, log, stop := serve(t, server)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := dialCommitment(t, Peer{"RADNODE", addr})
	for _, transaction := range []string{"1.2.1", "1.2.2"} {
		if err := c.RequestCommitment(ctx, CommitmentRequest{transaction, refs(1000)}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := c.AwaitCommitment(ctx, "1.2.2"); err != nil || !reflect.DeepEqual(got, CommitmentResult{"1.2.2", refs(1000), nil}) {
		t.Errorf("%d committed, %d failed, %v", len(got.Committed), len(got.Failed), err)
	}
	result := CommitmentResult{"1.2.1", refs(3), []CommitmentFailure{{refs(4)[3], StatusNoSuchInstance}}}
	if err := c.ReportCommitment(ctx, result); err != nil {
		t.Error(err)
	}
	if err := c.Release(ctx); err != nil {
		t.Error(err)
	}
	stop()
	if _, results := kept.got(); len(results) != 1 || !reflect.DeepEqual(results[0], result) {
		t.Errorf("%+v, want %+v", results, result)
	}
	if st := server.Stats(); st.AssociationsAborted != 0 || strings.Contains(log.String(), "level=WARN") {
		t.Errorf("%+v\n%s", st, log)
	}
}

func TestCommitmentCircle(t *testing.T) {
	uid := rapid.StringMatching(`[1-9][0-9]{0,8}(\.[1-9][0-9]{0,8}){1,5}`)
	reference := rapid.Custom(func(t *rapid.T) SOPReference { return SOPReference{uid.Draw(t, "class"), uid.Draw(t, "instance")} })
	key := func(r SOPReference) SOPReference { return r }
	rapid.Check(t, func(t *rapid.T) {
		syntax := rapid.SampledFrom(commitmentSyntaxes).Draw(t, "syntax")
		all := rapid.SliceOfNDistinct(reference, 1, 20, key).Draw(t, "instances")
		rq := CommitmentRequest{uid.Draw(t, "transaction"), all}
		b, err := rq.encode(syntax)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readRequest(b, syntax); err != nil || !cmp.Equal(got, rq) {
			t.Fatalf("%v\n%s", err, cmp.Diff(rq, got))
		}
		n := rapid.IntRange(0, len(all)).Draw(t, "committed")
		result := CommitmentResult{TransactionUID: rq.TransactionUID, Committed: append([]SOPReference(nil), all[:n]...)}
		for _, r := range all[n:] {
			result.Failed = append(result.Failed, CommitmentFailure{r, rapid.Uint16Range(1, 0xFFFF).Draw(t, "reason")})
		}
		if b, err = result.encode(syntax); err != nil {
			t.Fatal(err)
		}
		if got, err := readResult(b, syntax); err != nil || !cmp.Equal(got, result) {
			t.Fatalf("%v\n%s", err, cmp.Diff(result, got))
		}
	})
}

// FuzzCommitment reads both data sets; what was read is written and read again.
func FuzzCommitment(f *testing.F) {
	for _, syntax := range commitmentSyntaxes {
		explicit := syntax == dicom.ExplicitVRLittleEndian
		f.Add(encoded(f, CommitmentRequest{"1.2.99", refs(3)}, syntax), explicit)
		f.Add(encoded(f, CommitmentResult{"1.2.99", refs(1), []CommitmentFailure{{refs(2)[1], StatusNoSuchInstance}}}, syntax), explicit)
		f.Add(set(f, syntax, func(d *dicom.DataSet) { d.SetSeq(dicom.FailedSOPSequence, dicom.New()) }), explicit)
	}
	f.Fuzz(func(t *testing.T, b []byte, explicit bool) {
		syntax := dicom.ImplicitVRLittleEndian
		if explicit {
			syntax = dicom.ExplicitVRLittleEndian
		}
		refused := func(err error) {
			var status *Status
			if !errors.As(err, &status) || status.Success() || !strings.HasPrefix(status.Comment, comment(status.Comment)) || len(status.Comment) > 64 && !strings.Contains(status.Comment, "malformed at") {
				t.Fatalf("%v is nothing to tell a peer", err)
			}
		}
		if rq, err := readRequest(b, syntax); err == nil {
			if len(rq.Instances) == 0 || len(rq.Instances) > len(b)/16 {
				t.Fatalf("%d instances of %d bytes", len(rq.Instances), len(b))
			}
			if again, err := readRequest(encoded(t, rq, syntax), syntax); err != nil || !cmp.Equal(again, rq) {
				t.Fatalf("%v\n%s", err, cmp.Diff(rq, again))
			}
		} else {
			refused(err)
		}
		if r, err := readResult(b, syntax); err == nil {
			if n := len(r.Committed) + len(r.Failed); n == 0 || n > len(b)/16 {
				t.Fatalf("%d instances of %d bytes", n, len(b))
			}
			if again, err := readResult(encoded(t, r, syntax), syntax); err != nil || !cmp.Equal(again, r) {
				t.Fatalf("%v\n%s", err, cmp.Diff(r, again))
			}
		} else {
			refused(err)
		}
	})
}

// A talker is a program that prints lines and ends when its standard input does.
type talker struct {
	t     *testing.T
	lines chan string
}

func talk(t *testing.T, name string, args ...string) talker {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	cmd := exec.CommandContext(ctx, name, args...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := talker{t, make(chan string, 100)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(s.lines)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			s.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() { _ = stdin.Close(); <-read; _ = cmd.Wait(); cancel() })
	return s
}

func (s talker) line() string {
	s.t.Helper()
	select {
	case l, ok := <-s.lines:
		if !ok {
			s.t.Fatal("the program ended")
		}
		return l
	case <-time.After(30 * time.Second):
		s.t.Fatal("the program says nothing")
	}
	return ""
}

// pynetdicom asks for commitment, and hears of it on the same or on a new association.
func TestPynetdicomRequestsCommitment(t *testing.T) {
	py := python(t)
	for i, syntax := range commitmentSyntaxes {
		for _, same := range []bool{i == 0} {
			t.Run(fmt.Sprintf("%s same %v", dicom.UIDName(syntax), same), func(t *testing.T) {
				done := make(chan error, 1)
				result := CommitmentResult{"1.2.3.9", []SOPReference{{dicom.CTImageStorage, "1.2.3.10"}}, []CommitmentFailure{{SOPReference{dicom.CTImageStorage, "1.2.3.11"}, StatusNoSuchInstance}}}
				kept := &committer{requested: func(rq CommitmentRequest) (*CommitmentReport, error) {
					if same {
						return &CommitmentReport{result, func(err error) { done <- err }}, nil
					}
					return nil, nil
				}}
				addr, _, _ := serve(t, &Server{Storage: &memory{}, Committer: kept})
				host, port := hostPort(t, addr)
				scu := talk(t, py, "testdata/pynetdicom_commitment_scu.py", host, port, "1.2.3.9", syntax, "1.2.3.10", "1.2.3.11")
				back := scu.line()
				lines := []string{scu.line()}
				where := "same"
				if !same {
					where = "new"
					c, err := Dial(context.Background(), Peer{"PYNETDICOM", "127.0.0.1:" + back}, DialOptions{Proposals: []Proposal{CommitmentProposal}, Roles: []Role{CommitmentSCP}})
					if err != nil {
						t.Fatal(err)
					}
					if got := c.conn.Response.User.Roles; len(got) != 1 || got[0] != CommitmentSCP {
						t.Errorf("roles %+v", got)
					}
					if err := c.ReportCommitment(context.Background(), result); err != nil {
						t.Error(err)
					}
					if err := c.Release(context.Background()); err != nil {
						t.Error(err)
					}
				}
				lines = append(lines, scu.line())
				slices.Sort(lines) // the result may be there first
				want := []string{where + " 2 1.2.3.9 1.2.3.10 1.2.3.11=0112", "status 0000"}
				slices.Sort(want)
				if !slices.Equal(lines, want) {
					t.Errorf("%q, want %q", lines, want)
				}
				if same {
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
				if rqs, _ := kept.got(); len(rqs) != 1 || rqs[0].TransactionUID != "1.2.3.9" || len(rqs[0].Instances) != 2 || rqs[0].Instances[1] != (SOPReference{dicom.CTImageStorage, "1.2.3.11"}) {
					t.Errorf("%+v", rqs)
				}
			})
		}
	}
}

// pynetdicom commits, and says so on the same or on a new association.
func TestPynetdicomCommits(t *testing.T) {
	py := python(t)
	want := CommitmentResult{"1.2.3.9", []SOPReference{{dicom.CTImageStorage, "1.2.3.10"}}, []CommitmentFailure{{SOPReference{dicom.CTImageStorage, "1.2.3.11"}, StatusNoSuchInstance}}}
	rq := CommitmentRequest{"1.2.3.9", []SOPReference{{dicom.CTImageStorage, "1.2.3.10"}, {dicom.CTImageStorage, "1.2.3.11"}}}
	for _, syntax := range commitmentSyntaxes {
		for _, where := range []string{"same", "new"} {
			t.Run(dicom.UIDName(syntax)+" "+where, func(t *testing.T) {
				told := make(chan CommitmentResult, 1)
				kept := &committer{reported: func(r CommitmentResult) error { told <- r; return nil }}
				addr, _, _ := serve(t, &Server{Storage: &memory{}, Committer: kept})
				_, port := hostPort(t, addr)
				scp := talk(t, py, "testdata/pynetdicom_commitment_scp.py", where, port)
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				c, err := Dial(ctx, Peer{"PYNETDICOM", "127.0.0.1:" + scp.line()}, DialOptions{Proposals: []Proposal{{commitmentClass, []string{syntax}}}})
				if err != nil {
					t.Fatal(err)
				}
				if err := c.RequestCommitment(ctx, rq); err != nil {
					t.Fatal(err)
				}
				var got CommitmentResult
				if where == "same" {
					if got, err = c.AwaitCommitment(ctx, "1.2.3.9"); err != nil {
						t.Fatal(err)
					}
				}
				said := scp.line()
				if err := c.Release(ctx); err != nil {
					t.Error(err)
				}
				if where == "new" {
					got = <-told
					if kept.calling[0] != "PYNETDICOM" {
						t.Errorf("calling %v", kept.calling)
					}
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%+v, want %+v", got, want)
				}
				if said != "scp 0000" {
					t.Errorf("pynetdicom says %q, want scp 0000", said)
				}
			})
		}
	}
}
