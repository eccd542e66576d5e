package dimse

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/ul"
)

// A scripted is a peer whose every PDV the test writes itself. Context 1 is Verification, 3 is CT Image Storage,
// both in Explicit VR Little Endian.
type scripted struct {
	t    testing.TB
	conn *ul.Conn
	buf  []byte
}

func script(t testing.TB, addr string) *scripted {
	t.Helper()
	s, err := scriptAs(t, addr, "SCRIPT", "RADNODE")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func scriptAs(t testing.TB, addr, calling, called string) (*scripted, error) {
	t.Helper()
	pad := func(s string) ul.AETitle { return ul.AETitle([]byte(s + strings.Repeat(" ", 16-len(s)))) }
	rq := &ul.AssociateRQ{Calling: pad(calling), Called: pad(called), Contexts: []ul.ProposedContext{
		{ID: 1, AbstractSyntax: dicom.VerificationSOPClass, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}},
		{ID: 3, AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}},
	}, User: ul.UserInformation{Window: &ul.AsyncWindow{Invoked: 0, Performed: 0}}}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := ul.Dial(ctx, addr, rq, ul.Config{Idle: 20 * time.Second})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Kill(); conn.Close() })
	return &scripted{t: t, conn: conn}, nil
}

// pdv lays one PDV in a PDU of its own into what flush sends.
func (s *scripted) pdv(context uint8, command, last bool, payload []byte) *scripted {
	h := make([]byte, ul.DataHeaderLen)
	ul.PutPDVHeader(h, context, last, len(payload))
	if command {
		h[11] |= 1
	}
	s.buf = append(append(s.buf, h...), payload...)
	return s
}

func (s *scripted) command(context uint8, m Message) *scripted {
	return s.pdv(context, true, true, encodeCommand(m))
}

func (s *scripted) data(payload ...[]byte) *scripted {
	for i, p := range payload {
		s.pdv(3, false, i == len(payload)-1, p)
	}
	return s
}

func (s *scripted) flush() {
	s.t.Helper()
	if err := s.conn.SendData(s.buf); err != nil {
		s.t.Fatal(err)
	}
	s.buf = nil
}

// response reads one response.
func (s *scripted) response() Message {
	s.t.Helper()
	v, err := s.conn.Await()
	if err != nil {
		s.t.Fatalf("waiting for a response: %v", err)
	}
	var buf []byte
	m, err := readCommand(s.conn, v, &buf)
	if err != nil || !v.Command {
		s.t.Fatalf("waiting for a response: %+v, %v", v, err)
	}
	return m
}

// stored expects a C-STORE-RSP.
func (s *scripted) stored(id uint16, code uint16) Status {
	s.t.Helper()
	m := s.response()
	r, ok := m.(*StoreResponse)
	if !ok || r.MessageIDBeingRespondedTo != id || r.Status.Code != code {
		s.t.Errorf("response %+v, want C-STORE-RSP to %d with status %04XH", m, id, code)
		return Status{}
	}
	return r.Status
}

// alive proves by a C-ECHO that the association lives.
func (s *scripted) alive() {
	s.t.Helper()
	s.command(1, &EchoRequest{MessageID: 999, AffectedSOPClassUID: dicom.VerificationSOPClass}).flush()
	if r, ok := s.response().(*EchoResponse); !ok || r.MessageIDBeingRespondedTo != 999 || r.Status.Code != StatusSuccess {
		s.t.Errorf("C-ECHO-RSP %+v", r)
	}
}

// aborted expects the association to end with the peer's A-ABORT.
func (s *scripted) aborted() {
	s.t.Helper()
	_, err := s.conn.Await()
	var abort *AbortError
	if !errors.As(err, &abort) || abort.Local {
		s.t.Errorf("%v, want an A-ABORT from the peer", err)
	}
}

func storeRQ(id uint16, uid string) *StoreRequest {
	return &StoreRequest{MessageID: id, AffectedSOPClassUID: dicom.CTImageStorage, AffectedSOPInstanceUID: uid}
}

func TestUnsupportedOperations(t *testing.T) {
	store := &memory{}
	addr, _, _ := serve(t, &Server{Storage: store})
	s := script(t, addr)
	// Without a Committer, nobody here knows Storage Commitment.
	s.command(3, &ActionRequest{50, dicom.StorageCommitmentPushModelSOPClass, storageCommitmentInstance, 1, true}).data([]byte("information"), nil).
		command(3, &EventReportRequest{51, dicom.StorageCommitmentPushModelSOPClass, storageCommitmentInstance, 1, false}).flush()
	if r, ok := s.response().(*ActionResponse); !ok || r.MessageIDBeingRespondedTo != 50 || r.Status.Code != StatusNoSuchClass || r.Status.Comment == "" {
		t.Errorf("N-ACTION answered with %+v", r)
	}
	if r, ok := s.response().(*EventReportResponse); !ok || r.MessageIDBeingRespondedTo != 51 || r.Status.Code != StatusNoSuchClass || r.Status.Comment == "" {
		t.Errorf("N-EVENT-REPORT answered with %+v", r)
	}
	for i, c := range []struct {
		m    *Request
		want uint16
	}{
		{&Request{Field: 0x0999}, StatusUnrecognisedOperation},
		{&Request{Field: CFindRQ, HasDataSet: true}, StatusUnrecognisedOperation},
		{&Request{Field: CMoveRQ, HasDataSet: true}, StatusUnrecognisedOperation},
		{&Request{Field: NSetRQ, SOPClassUID: "1.2.840.10008.1.20.1", SOPInstanceUID: "1.2.840.10008.1.20.1.1", HasDataSet: true}, StatusNoSuchClass},
		{&Request{Field: NGetRQ, SOPClassUID: "1.2", SOPInstanceUID: "1.3"}, StatusNoSuchClass},
	} {
		c.m.MessageID = uint16(i + 1)
		s.command(3, &CancelRequest{77}).command(3, c.m) // nothing to cancel: no response
		if c.m.HasDataSet {
			s.data([]byte("identifier"), nil)
		}
		s.flush()
		r, ok := s.response().(*Response)
		if !ok || r.Field != c.m.Field|responseBit || r.MessageIDBeingRespondedTo != c.m.MessageID || r.Status.Code != c.want || r.Status.Comment == "" {
			t.Errorf("%v answered with %+v, want %04XH", c.m.Field, r, c.want)
		}
		s.alive()
	}
	if store.count() != 0 {
		t.Error("something was stored")
	}
}

// A peer may send before it has its answers, within the window it was granted, and use a message ID again.
func TestPipelinedRequests(t *testing.T) {
	store := &memory{}
	addr, _, _ := serve(t, &Server{Storage: store, Window: 8})
	s := script(t, addr)
	if w := s.conn.Response.User.Window; w == nil || w.Invoked != 8 {
		t.Fatalf("window %+v, want 8", w)
	}
	for i := range 8 {
		s.command(3, storeRQ(uint16(i/2), fmt.Sprintf("1.2.%d", i))).data([]byte("a"), []byte(fmt.Sprint(i)))
	}
	s.flush()
	for i := range 8 {
		s.stored(uint16(i/2), StatusSuccess)
		if o, ok := store.get(fmt.Sprintf("1.2.%d", i)); !ok || string(o.data) != fmt.Sprintf("a%d", i) {
			t.Errorf("object %d: %q", i, o.data)
		}
	}
}

// Fragments as small and as many as the standard allows, and several PDVs in one PDU.
func TestFragments(t *testing.T) {
	store := &memory{}
	addr, _, _ := serve(t, &Server{Storage: store})
	s := script(t, addr)
	command := encodeCommand(storeRQ(1, "1.2.3"))
	for i, b := range command {
		s.pdv(3, true, i == len(command)-1, []byte{b})
	}
	data := []byte("data set")
	for i := range data {
		s.pdv(3, false, false, data[i:i+1]).pdv(3, false, false, nil)
	}
	s.pdv(3, false, true, nil)
	s.flush()
	s.stored(1, StatusSuccess)

	// One PDU: command and both fragments of the data set.
	s.command(3, storeRQ(2, "1.2.4")).data([]byte("da"), []byte("ta"))
	var pdvs []byte
	for b := s.buf; len(b) > 0; {
		n := int(b[5]) + 6
		pdvs = append(pdvs, b[6:n]...)
		b = b[n:]
	}
	s.buf = append([]byte{4, 0, 0, 0, byte(len(pdvs) >> 8), byte(len(pdvs))}, pdvs...)
	s.flush()
	s.stored(2, StatusSuccess)
	for uid, want := range map[string]string{"1.2.3": "data set", "1.2.4": "data"} {
		if o, _ := store.get(uid); string(o.data) != want {
			t.Errorf("%s: %q, want %q", uid, o.data, want)
		}
	}
}

// UIDs that are none never reach the storage, and the association lives.
func TestHostileUIDs(t *testing.T) {
	store := &memory{}
	server := &Server{Storage: store}
	addr, log, _ := serve(t, server)
	s := script(t, addr)
	for _, uid := range []string{"../../x", "/etc/x", "", strings.Repeat("1", 65), "1.2\x003", "$(id)", "1.2\n3", "1.2 3", "\\x"} {
		s.command(3, storeRQ(1, uid)).data([]byte("x")).flush()
		s.stored(1, StatusInvalidInstance)
	}
	m := storeRQ(2, "1.2.3")
	for class, code := range map[string]uint16{"": StatusNoSuchClass, "../x": StatusNoSuchClass, dicom.VerificationSOPClass: StatusSOPClassNotSupported, "1.2.840.10008.5.1.4.1.1.4": StatusMismatch} {
		m.AffectedSOPClassUID = class
		s.command(3, m).data([]byte("x")).flush()
		s.stored(2, code)
	}
	s.alive()
	if store.count() != 0 || server.Stats().ObjectsRefused != 13 {
		t.Errorf("%d stored, stats %+v", store.count(), server.Stats())
	}
	if strings.Contains(log.String(), "etc") {
		t.Errorf("a hostile UID is in the log:\n%s", log)
	}
}

// A command that says it has no data set, with one behind it.
func TestDataSetNobodyAnnounced(t *testing.T) {
	store := &memory{}
	addr, _, _ := serve(t, &Server{Storage: store})
	s := script(t, addr)
	m := storeRQ(1, "1.2.3")
	m.NoDataSet = true
	s.command(3, m).data([]byte("da"), []byte("ta")).flush()
	s.stored(1, StatusCannotUnderstand)
	s.alive()
	s.command(1, &EchoRequest{MessageID: 5, HasDataSet: false}).pdv(1, false, true, []byte("stray")).flush()
	s.response()
	s.alive()
	if store.count() != 0 {
		t.Error("something was stored")
	}
	for range 9 {
		s.pdv(3, false, false, make([]byte, 120<<10))
	}
	s.flush()
	s.aborted()
}

func TestBrokenMessages(t *testing.T) {
	for name, send := range map[string]func(s *scripted){
		"command that never ends": func(s *scripted) {
			for range 5 {
				s.pdv(3, true, false, make([]byte, 16<<10))
			}
		},
		"command that is none":       func(s *scripted) { s.pdv(3, true, true, []byte("no command")) },
		"data set inside a command":  func(s *scripted) { s.pdv(3, true, false, nil).pdv(3, false, true, nil) },
		"command on another context": func(s *scripted) { s.pdv(3, true, false, nil).pdv(1, true, true, nil) },
		"command inside a data set": func(s *scripted) {
			s.command(3, storeRQ(1, "1.2")).pdv(3, false, false, []byte("x")).command(3, storeRQ(2, "1.3"))
		},
		"data set on another context":   func(s *scripted) { s.command(3, storeRQ(1, "1.2")).pdv(1, false, true, []byte("x")) },
		"command instead of a data set": func(s *scripted) { s.command(3, storeRQ(1, "1.2")).command(3, storeRQ(2, "1.3")) },
	} {
		t.Run(name, func(t *testing.T) {
			store := &memory{}
			server := &Server{Storage: store}
			addr, _, stop := serve(t, server)
			s := script(t, addr)
			send(s)
			s.flush()
			s.aborted()
			s.conn.Close()
			stop()
			if st := server.Stats(); store.count() != 0 || st.AssociationsAborted != 1 || st.AssociationsOpen != 0 {
				t.Errorf("%d stored, stats %+v", store.count(), st)
			}
		})
	}
}

func TestObjectTooLarge(t *testing.T) {
	store := &memory{}
	addr, _, _ := serve(t, &Server{Storage: store, MaxObjectBytes: 1000})
	s := script(t, addr)
	s.command(3, storeRQ(1, "1.2.3")).data(make([]byte, 1000)).flush()
	s.stored(1, StatusSuccess)
	s.command(3, storeRQ(2, "1.2.4")).data(make([]byte, 600), make([]byte, 401)).flush()
	if st := s.stored(2, StatusOutOfResources); st.Comment != "the object is larger than 1000 bytes" {
		t.Errorf("%v", st)
	}
	s.alive()
	// One that goes on and on is answered, then aborted.
	s.command(3, storeRQ(3, "1.2.5"))
	for range 5 {
		s.pdv(3, false, false, make([]byte, 600))
	}
	s.flush()
	s.stored(3, StatusOutOfResources)
	for range 20 {
		s.pdv(3, false, false, make([]byte, 100<<10))
	}
	if err := s.conn.SendData(s.buf); err == nil {
		s.aborted()
	}
	if store.count() != 1 || store.failed != 2 {
		t.Errorf("%d stored, %d failed, want 1 and 2", store.count(), store.failed)
	}
}

// A peer that vanishes, releases or aborts inside an object leaves nothing.
func TestPeerVanishes(t *testing.T) {
	for name, leave := range map[string]func(s *scripted){
		"closes": func(s *scripted) { s.conn.Kill(); s.conn.Close() },
		"aborts": func(s *scripted) { _ = s.conn.Abort(errors.New("enough")) },
		"releases": func(s *scripted) {
			if err := s.conn.Release(); err != nil {
				s.t.Errorf("release inside a message: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			failed := make(chan error, 1)
			started := make(chan struct{})
			server := &Server{Storage: &memory{put: func(_ context.Context, _ dicom.FileMeta, body io.Reader) error {
				close(started)
				_, err := io.Copy(io.Discard, body)
				failed <- err
				return err
			}}}
			addr, log, stop := serve(t, server)
			s := script(t, addr)
			s.command(3, storeRQ(1, "1.2.3")).pdv(3, false, false, []byte("half")).flush()
			<-started
			leave(s)
			if err := <-failed; !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("the storage saw %v", err)
			}
			s.conn.Close()
			stop()
			if st := server.Stats(); st.ObjectsStored != 0 || st.AssociationsAborted != 1 {
				t.Errorf("stats %+v\n%s", st, log)
			}
		})
	}
}

// What a storage answers reaches the peer, and what it left unread is passed over.
func TestStorageErrors(t *testing.T) {
	var fail error
	var read bool
	server := &Server{Storage: &memory{put: func(_ context.Context, _ dicom.FileMeta, body io.Reader) error {
		if read {
			_, _ = io.Copy(io.Discard, body)
		}
		return fail
	}}}
	addr, _, _ := serve(t, server)
	s := script(t, addr)
	for _, c := range []struct {
		err  error
		read bool
		want uint16
	}{
		{nil, true, StatusSuccess},
		{nil, false, StatusProcessingFailure}, // it cannot have kept what it did not read
		{errors.New("x"), false, StatusProcessingFailure},
		{&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}, true, StatusOutOfResources},
		{&Status{StatusMismatch, "SOP Instance UID differs"}, false, StatusMismatch},
		{&Status{0xB000, "coerced"}, true, 0xB000},
	} {
		fail, read = c.err, c.read
		s.command(3, storeRQ(9, "1.2.3")).data(make([]byte, 5000), make([]byte, 5000)).flush()
		s.stored(9, c.want)
	}
	if st := server.Stats(); st.ObjectsStored != 2 || st.ObjectsRefused != 4 || st.Bytes != 60000 {
		t.Errorf("stats %+v", st)
	}
}

func TestPanicInStorage(t *testing.T) {
	addr, log, _ := serve(t, &Server{Storage: &memory{put: func(context.Context, dicom.FileMeta, io.Reader) error { panic("boom") }}})
	s := script(t, addr)
	s.command(3, storeRQ(1, "1.2.3")).data([]byte("x")).flush()
	s.aborted()
	script(t, addr).alive()
	if !strings.Contains(log.String(), "boom") {
		t.Errorf("log:\n%s", log)
	}
}

// A panic before an association is there costs that connection and no place.
func TestPanicInConnection(t *testing.T) {
	log := &syncBuffer{}
	server := &Server{Storage: &memory{}, MaxAssociations: 1, Logger: slog.New(panicking{slog.NewTextHandler(log, nil), "CLUMSY"})}
	addr, _, _ := serve(t, server)
	for range 3 {
		if s, err := scriptAs(t, addr, "CLUMSY", "RADNODE"); err == nil {
			if _, err := s.conn.Await(); err == nil {
				t.Error("the association lives")
			}
		}
	}
	script(t, addr).alive()
	if !strings.Contains(log.String(), "panic while a connection was served") {
		t.Errorf("log:\n%s", log)
	}
}

// panicking panics where an association of calling is accepted.
type panicking struct {
	slog.Handler
	calling string
}

func (p panicking) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "calling" && a.Value.String() == p.calling {
			return clumsy{p.Handler}
		}
	}
	return panicking{p.Handler.WithAttrs(attrs), p.calling}
}

type clumsy struct{ slog.Handler }

func (c clumsy) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "association accepted" {
		panic("boom")
	}
	return c.Handler.Handle(ctx, r)
}

func TestAcceptance(t *testing.T) {
	const jpeg, jpeg2000, jpegLS, private = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.113619.5.99"
	const jpegXL = "1.2.840.10008.1.2.4.110" // not decoded
	open, strict := &Server{}, &Server{RefuseUnknownSOPClasses: true, RefuseUnknownTransferSyntaxes: true}
	for _, class := range append(dicom.StorageSOPClasses(), dicom.VerificationSOPClass) {
		for _, s := range []*Server{open, strict} {
			if _, r := s.choose(class, []string{dicom.ImplicitVRLittleEndian}); r != ul.Acceptance {
				t.Errorf("%s: %v", class, r)
			}
		}
	}
	for _, c := range []struct {
		class        string
		syntaxes     []string
		open, strict string // "" = refused
	}{
		{"1.2.840.10008.5.1.4.1.1.999", []string{dicom.ImplicitVRLittleEndian}, dicom.ImplicitVRLittleEndian, ""},
		{"1.3.12.2.1107.5.9.1", []string{dicom.ImplicitVRLittleEndian}, dicom.ImplicitVRLittleEndian, ""},
		{dicom.CTImageStorage, []string{jpeg2000, jpegLS}, jpeg2000, jpeg2000},
		{dicom.CTImageStorage, []string{jpegXL, dicom.ExplicitVRLittleEndian, dicom.ImplicitVRLittleEndian}, dicom.ExplicitVRLittleEndian, dicom.ExplicitVRLittleEndian},
		{dicom.CTImageStorage, []string{jpegXL, jpeg, jpegLS}, jpegLS, jpegLS},
		{dicom.CTImageStorage, []string{jpegXL, jpeg, "1.2.840.10008.1.2.4.91"}, jpeg, jpeg},
		{dicom.CTImageStorage, []string{private}, private, ""},
		{dicom.CTImageStorage, []string{"../x"}, "", ""},
		{"1.2.840.10008.5.1.4.1.2.2.1", []string{dicom.ImplicitVRLittleEndian}, "", ""}, // Study Root Q/R FIND
		{"1.2.840.10008.1.20.1", []string{dicom.ImplicitVRLittleEndian}, "", ""},        // Storage Commitment
		{"1.2.840.10008.5.1.4.31", []string{dicom.ImplicitVRLittleEndian}, "", ""},      // Modality Worklist
		{"x", []string{dicom.ImplicitVRLittleEndian}, "", ""},
	} {
		for s, want := range map[*Server]string{open: c.open, strict: c.strict} {
			if got, r := s.choose(c.class, c.syntaxes); got != want || (r == ul.Acceptance) != (want != "") {
				t.Errorf("strict %v: %s %v: %q, %v, want %q", s == strict, c.class, c.syntaxes, got, r, want)
			}
		}
	}
}

func TestTitles(t *testing.T) {
	addr, log, _ := serve(t, &Server{Storage: &memory{}, AcceptCalled: []string{"RADNODE", "ALIAS"}, Access: access(t, AccessOptions{Peers: []KnownPeer{
		{Name: "CT1", Setting: "peers.CT1", AETitle: "CT1", From: []string{"127.0.0.1"}}, {Name: "odd", Setting: "peers.odd", AETitle: "a/../%s", From: []string{"127.0.0.0/8"}},
	}})})
	for _, c := range []struct {
		calling, called string
		reason          uint8 // of A-ASSOCIATE-RJ, 0 = accepted
	}{
		{"CT1", "RADNODE", 0}, {" CT1", "ALIAS", 0}, {"a/../%s", "RADNODE", 0},
		{"CT2", "RADNODE", 3}, {"ct1", "RADNODE", 3}, {"CT1", "OTHER", 7},
		{"", "RADNODE", 3}, {"CT1", "", 7}, {"C\nT", "RADNODE", 3}, {"C\x00T", "RADNODE", 3}, {"CT1", "RAD\x1b[2J", 7},
	} {
		_, err := scriptAs(t, addr, c.calling, c.called)
		var refusal *RejectedError
		switch {
		case c.reason == 0 && err != nil:
			t.Errorf("%q to %q: %v", c.calling, c.called, err)
		case c.reason != 0 && (!errors.As(err, &refusal) || refusal.Source != ul.SourceUser || refusal.Result != ul.RejectedPermanent || refusal.Reason != c.reason):
			t.Errorf("%q to %q: %v, want reason %d", c.calling, c.called, err, c.reason)
		}
	}
	for line := range strings.Lines(log.String()) {
		if !strings.HasPrefix(line, "time=") || strings.Contains(line, "\x1b") {
			t.Errorf("a title broke the log: %q", line)
		}
	}
}

func TestMaxAssociations(t *testing.T) {
	server := &Server{Storage: &memory{}, MaxAssociations: 2}
	addr, _, _ := serve(t, server)
	first, second := script(t, addr), script(t, addr)
	_, err := scriptAs(t, addr, "THIRD", "RADNODE")
	var refusal *RejectedError
	if !errors.As(err, &refusal) || *refusal != ul.RejectLocalLimitExceeded {
		t.Errorf("%v, want %v", err, &ul.RejectLocalLimitExceeded)
	}
	if err := first.conn.Release(); err != nil {
		t.Error(err)
	}
	second.alive()
	for { // the place is free as soon as the server has seen the end of the first
		if third, err := scriptAs(t, addr, "THIRD", "RADNODE"); err == nil {
			third.alive()
			break
		} else if !errors.As(err, &refusal) {
			t.Fatal(err)
		}
	}
	if st := server.Stats(); st.AssociationsOpen != 2 || st.Associations != 3 {
		t.Errorf("stats %+v", st)
	}
}

// Connections that announce 4 GiB and say no more cost little, are closed in time, and keep nobody else waiting.
func TestHostileLengths(t *testing.T) {
	addr, _, _ := serve(t, &Server{Storage: &memory{}, ARTIM: 2 * time.Second})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var peers []net.Conn
	for range 12 {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := nc.Write([]byte{1, 0, 0xff, 0xff, 0xff, 0xff}); err != nil {
			t.Fatal(err)
		}
		peers = append(peers, nc)
	}
	abort := make([]byte, 10)
	for _, nc := range peers {
		if _, err := io.ReadFull(nc, abort); err != nil || abort[0] != 7 {
			t.Errorf("% x, %v, want an A-ABORT", abort, err)
		}
	}
	script(t, addr).alive()
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 12<<20 {
		t.Errorf("%d bytes allocated for 12 connections", grown)
	}
	for _, nc := range peers {
		if n, err := nc.Read(abort); n != 0 || err != io.EOF {
			t.Errorf("%d bytes, %v, want the connection closed", n, err)
		}
	}
}

// Connections that say nothing make room for those that do.
func TestPendingConnections(t *testing.T) {
	addr, _, _ := serve(t, &Server{Storage: &memory{}, MaxPending: 3})
	var silent []net.Conn
	for range 20 {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = nc.Close() }()
		silent = append(silent, nc)
	}
	_ = silent[0].SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := silent[0].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the oldest silent connection: %v, want it closed", err)
	}
	script(t, addr).alive()
}

// Told to stop, the server finishes the object in flight, answers it, and aborts what only waits.
func TestShutdown(t *testing.T) {
	store, inside := &memory{}, make(chan struct{})
	server := &Server{Grace: 20 * time.Second, Storage: &memory{put: func(ctx context.Context, meta dicom.FileMeta, body io.Reader) error {
		close(inside)
		return store.Put(ctx, meta, body)
	}}}
	addr, _, stop := serve(t, server)
	waiting, busy := script(t, addr), script(t, addr)
	waiting.alive()
	busy.command(3, storeRQ(1, "1.2.3")).pdv(3, false, false, []byte("first half, ")).flush()
	<-inside
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	waiting.aborted() // so the server is stopping
	waiting.conn.Close()
	busy.data([]byte("second half")).flush()
	busy.stored(1, StatusSuccess)
	busy.aborted()
	busy.conn.Close()
	<-stopped
	if o, _ := store.get("1.2.3"); string(o.data) != "first half, second half" {
		t.Errorf("%q", o.data)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the port is still open")
	}
}

// Neither an object whose peer stalls nor a peer that does not close keep the server from ending: the grace is over some time.
func TestShutdownGrace(t *testing.T) {
	inside := make(chan struct{})
	server := &Server{Grace: 50 * time.Millisecond, ARTIM: time.Hour, Storage: &memory{put: func(_ context.Context, _ dicom.FileMeta, body io.Reader) error {
		close(inside)
		_, err := io.Copy(io.Discard, body)
		return err
	}}}
	addr, _, stop := serve(t, server)
	s := script(t, addr)
	s.command(3, storeRQ(1, "1.2.3")).pdv(3, false, false, []byte("half")).flush()
	<-inside
	waiting := script(t, addr)
	waiting.alive()
	stop()
	s.aborted()
	waiting.aborted()
}

// A listener that is closed under the server ends it, and its associations.
func TestListenerClosed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- (&Server{Storage: &memory{}}).Serve(context.Background(), l) }()
	s := script(t, l.Addr().String())
	s.alive()
	_ = l.Close()
	s.aborted()
	s.conn.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// The data set streams: an object many times larger than the buffers costs no more memory than a small one.
func TestLargeObject(t *testing.T) {
	const size = 64 << 20
	hash := sha256.New()
	var allocated uint64
	server := &Server{Storage: &memory{put: func(_ context.Context, _ dicom.FileMeta, body io.Reader) error {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := io.Copy(hash, body)
		runtime.ReadMemStats(&after)
		allocated = after.TotalAlloc - before.TotalAlloc
		return err
	}}}
	addr, _, _ := serve(t, server)
	c, err := Dial(context.Background(), Peer{"RADNODE", addr}, ctProposal)
	if err != nil {
		t.Fatal(err)
	}
	sent := sha256.New()
	status, err := c.Store(context.Background(), ctMeta("1.2.3"), io.TeeReader(io.LimitReader(pattern{}, size), sent))
	if err != nil || status.Code != StatusSuccess {
		t.Fatal(status, err)
	}
	if err := c.Release(context.Background()); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(hash.Sum(nil), sent.Sum(nil)) || server.Stats().Bytes != size {
		t.Errorf("other bytes arrived, %+v", server.Stats())
	}
	if allocated > 2<<20 {
		t.Errorf("%d bytes allocated for an object of %d", allocated, size)
	}
}

// pattern reads as 0, 1, 2, ...
type pattern struct{}

func (pattern) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(i)
	}
	return len(p), nil
}

var ctProposal = DialOptions{Proposals: []Proposal{
	{dicom.VerificationSOPClass, []string{dicom.ImplicitVRLittleEndian}},
	{dicom.CTImageStorage, []string{dicom.ExplicitVRLittleEndian}},
}}

func ctMeta(uid string) dicom.FileMeta {
	return dicom.FileMeta{MediaStorageSOPClassUID: dicom.CTImageStorage, MediaStorageSOPInstanceUID: uid, TransferSyntaxUID: dicom.ExplicitVRLittleEndian}
}

func TestManyAssociations(t *testing.T) {
	store := &memory{}
	server := &Server{Storage: store}
	addr, _, stop := serve(t, server)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			ctx := context.Background()
			c, err := Dial(ctx, Peer{"RADNODE", addr}, ctProposal)
			if err != nil {
				t.Error(err)
				return
			}
			for j := range 20 {
				uid := fmt.Sprintf("1.2.%d.%d", i, j)
				if status, err := c.Store(ctx, ctMeta(uid), strings.NewReader(strings.Repeat(uid, j*500))); err != nil || status.Code != StatusSuccess {
					t.Error(status, err)
				}
			}
			if err := c.Release(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	stop()
	for i := range 16 {
		for j := range 20 {
			uid := fmt.Sprintf("1.2.%d.%d", i, j)
			if o, ok := store.get(uid); !ok || string(o.data) != strings.Repeat(uid, j*500) {
				t.Errorf("%s: %d bytes", uid, len(o.data))
			}
		}
	}
	if st := server.Stats(); st.ObjectsStored != 320 || st.Associations != 16 || st.AssociationsOpen != 0 || st.AssociationsAborted != 0 {
		t.Errorf("stats %+v", st)
	}
}

// A peer cannot fill the log, neither with what it is refused nor with associations.
func TestLogFlood(t *testing.T) {
	server := &Server{Storage: &mean{}}
	addr, log, stop := serve(t, server)
	const n = peerLines / 4
	for range 3 {
		s := script(t, addr)
		for i := range n {
			s.command(3, &Request{Field: CFindRQ, MessageID: 1})
			s.command(3, storeRQ(uint16(i), "1.2.3")).data([]byte("12345678"))
		}
		s.flush()
		for range 2 * n {
			s.response()
		}
		s.alive()
		if err := s.conn.Release(); err != nil {
			t.Error(err)
		}
	}
	stop()
	lines := strings.Count(log.String(), "\n") - strings.Count(log.String(), "level=DEBUG")
	if lines != peerLines+1 || !strings.Contains(log.String(), server.access().familiar.withheld) {
		t.Errorf("%d lines and their sum, want %d", lines, peerLines+1)
	}
}

// mean keeps nothing.
type mean struct{}

func (*mean) Put(_ context.Context, _ dicom.FileMeta, body io.Reader) error {
	_, _ = io.Copy(io.Discard, body)
	return errors.New("no")
}

// A peer that sends a data set instead of a message is given up, also where its fragments are empty.
func TestEndlessAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		conn, err := ul.Accept(nc, ul.Config{}, func(rq *ul.AssociateRQ) (*ul.AssociateAC, *RejectedError) {
			return ul.Negotiate(rq, 1, func(_ string, ts []string) (string, ul.Result) { return ts[0], ul.Acceptance }), nil
		})
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fragment := make([]byte, ul.DataHeaderLen)
		ul.PutPDVHeader(fragment, 1, false, 0)
		for fragments := bytes.Repeat(fragment, 1000); conn.SendData(fragments) == nil; {
		}
	}()
	c, err := Dial(context.Background(), Peer{"PACS", l.Addr().String()}, DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Echo(context.Background()); err == nil || !strings.Contains(err.Error(), "a data set instead of a message") {
		t.Error(err)
	}
	c.Abort()
	<-done
}
