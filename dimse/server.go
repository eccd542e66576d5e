package dimse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/ul"
)

// A Storage keeps what peers send.
//
// Put reads body, the data set in meta.TransferSyntaxUID, to its end, and returns nil only when the instance would
// survive a power cut. meta holds what the command and the association say; whether the data set agrees is Put's to
// check. An error of type [*Status] is told to the peer as it is, any other as what it resembles. Where the peer
// vanishes, or the object is too large, body fails and Put must leave nothing behind.
type Storage interface {
	Put(ctx context.Context, meta dicom.FileMeta, body io.Reader) error
}

// A Server accepts associations and serves Verification and Storage. The zero values of its options are good ones.
// It must not be changed while it serves.
type Server struct {
	AETitle string // default RADNODE
	Storage Storage
	Logger  *slog.Logger // default: none
	// Committer answers Storage Commitment; nil leaves it out.
	Committer  Committer
	commitment commitmentBounds

	// Access says who may talk; nil: programs on this machine.
	Access *Access
	// AcceptCalled lists the AE titles that are answered. Empty: any, as most nodes of a clinical network are configured,
	// and because a wrong title is the commonest reason for a study that never arrives.
	AcceptCalled []string
	// RefuseUnknownSOPClasses leaves only the storage SOP classes of PS3.4 B.5; otherwise anything may be stored.
	RefuseUnknownSOPClasses bool
	// RefuseUnknownTransferSyntaxes leaves only the transfer syntaxes of PS3.5.
	RefuseUnknownTransferSyntaxes bool

	MaxPDU          uint32 // longest PDU advertised; default 128 KiB
	MaxAssociations int    // at the same time; default 100
	MaxPending      int    // connections without an association, before and after it; default 512, of one address a quarter
	MaxObjectBytes  int64  // of one data set; default 8 GiB
	Window          uint16 // asynchronous operations a peer may have outstanding; default 16

	ARTIM   time.Duration // default 20 s; see [ul.Config]
	Idle    time.Duration // default 10 min
	Message time.Duration // total for one object; default 1 h
	PDU     time.Duration // total for one PDU; default 1 min
	Total   time.Duration // total for one association; default 24 h
	Grace   time.Duration // for the objects in flight when the server is told to stop; default 10 s

	counters
	lobby lobby
	local atomic.Pointer[Access] // where Access is nil
}

type counters struct {
	total, refused, aborted        atomic.Int64
	stored, objectsRefused, octets atomic.Int64
}

// ServerStats counts what a server did since it was made.
type ServerStats struct {
	AssociationsOpen    int64 `json:"associationsOpen"`    // now
	Associations        int64 `json:"associations"`        // accepted
	AssociationsRefused int64 `json:"associationsRefused"` // with A-ASSOCIATE-RJ, or before a request was there
	AssociationsAborted int64 `json:"associationsAborted"` // ended otherwise than by release
	ObjectsStored       int64 `json:"objectsStored"`
	ObjectsRefused      int64 `json:"objectsRefused"` // answered with a failure
	Bytes               int64 `json:"bytes"`          // of data sets, kept or not

	Refusals map[Refusal]int64    `json:"refusals"` // associations refused, by reason; those that did not happen are left out
	Peers    map[string]PeerStats `json:"peers"`    // by the name of the known peer
	Others   PeerStats            `json:"others"`   // of all that are not known, and programs on this machine
}

// Stats may be called at any time.
func (s *Server) Stats() ServerStats {
	open, refusals, peers, others := s.access().stats()
	return ServerStats{
		AssociationsOpen: open, Associations: s.total.Load(),
		AssociationsRefused: s.refused.Load(), AssociationsAborted: s.aborted.Load(),
		ObjectsStored: s.stored.Load(), ObjectsRefused: s.objectsRefused.Load(), Bytes: s.octets.Load(),
		Refusals: refusals, Peers: peers, Others: others,
	}
}

// access is who may talk.
func (s *Server) access() *Access {
	if s.Access != nil {
		return s.Access
	}
	if a := s.local.Load(); a != nil {
		return a
	}
	a, err := NewAccess(AccessOptions{Local: true})
	if err != nil {
		panic(err) // there is nothing in it that could be wrong
	}
	s.local.CompareAndSwap(nil, a)
	return s.local.Load()
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

func (s *Server) config() ul.Config {
	return ul.Config{MaxPDU: s.MaxPDU, ARTIM: s.ARTIM, Idle: s.Idle, Message: s.Message, PDU: s.PDU, Total: s.Total}
}

func (s *Server) log() *slog.Logger {
	if s.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return s.Logger
}

// Serve accepts associations on l until ctx is done. Then it stops listening, lets every object in flight be finished
// and answered, aborts what waits, and returns nil when the last association has ended, at most Grace later.
// It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error { return s.listen(ctx, l, nil) }

// ServeTLS is Serve for a port where every connection begins with a TLS handshake; config is of [TLS.Server].
func (s *Server) ServeTLS(ctx context.Context, l net.Listener, config *tls.Config) error {
	return s.listen(ctx, l, config)
}

func (s *Server) listen(ctx context.Context, l net.Listener, secure *tls.Config) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	defer func() { _ = l.Close() }()

	// What an association does for its peer outlives ctx by the grace.
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	var associations sync.WaitGroup
	defer func() { s.access().summary(s.log(), time.Now(), true) }()
	defer associations.Wait()
	associations.Go(func() { s.summarise(work, ctx) })
	defer context.AfterFunc(ctx, func() {
		grace := time.AfterFunc(or(s.Grace, 10*time.Second), stopWork)
		context.AfterFunc(work, func() { grace.Stop() })
	})()

	var delay time.Duration
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			delay = 0
			waiting := s.enter(nc) // here, so that the oldest is the one that came first
			associations.Go(func() { s.associate(ctx, work, waiting, secure) })
		case ctx.Err() != nil:
			associations.Wait()
			return nil
		case errors.Is(err, net.ErrClosed): // by someone else
			stopWork()
			return err
		default: // too many open files, an aborted connection: it passes
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.log().Warn("cannot accept a connection", "error", err, "again_in", delay)
			select {
			case <-time.After(delay):
			case <-ctx.Done():
			}
		}
	}
}

// summarise writes what was left out of the log, until one of the contexts ends.
func (s *Server) summarise(work, ctx context.Context) {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.access().summary(s.log(), time.Now(), false)
		case <-ctx.Done():
			return
		case <-work.Done():
			return
		}
	}
}

// enter registers a connection without an association.
func (s *Server) enter(nc net.Conn) *pending {
	p := &pending{nc: nc, from: source(addrOf(nc.RemoteAddr()))}
	most := or(s.MaxPending, 512)
	s.lobby.enter(p, most, max(most/4, 1))
	return p
}

// associate is the life of one connection. ctx ends it between two messages, work at once.
func (s *Server) associate(ctx, work context.Context, waiting *pending, secure *tls.Config) {
	start, nc := time.Now(), waiting.nc
	defer func() { s.lobby.leave(waiting) }()
	access := s.access()
	from := caller{addr: addrOf(nc.RemoteAddr())}
	log := &teller{s.log().With("peer", nc.RemoteAddr().String()), &access.strange, from.addr}
	defer func() {
		if p := recover(); p != nil { // one connection must not end the others
			_ = waiting.nc.Close()
			log.log.Error("panic while a connection was served", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	refused := func(why Refusal, err error) {
		s.refused.Add(1)
		access.refused[why].Add(1)
		log.say(slog.LevelWarn, "association refused", "reason", err)
	}

	// Until the association is there, the end of ctx closes the connection.
	transport := nc
	stop := context.AfterFunc(ctx, func() { _ = transport.Close() })
	if secure != nil {
		defer func() { _ = transport.Close() }()
		conn, err := s.handshake(ctx, nc, secure, &from)
		if err != nil {
			stop()
			if errors.Is(err, io.EOF) && conn == nil {
				log.say(slog.LevelDebug, "connection without a request")
				return
			}
			refused(RefusedTLS, err)
			linger(transport)
			return
		}
		nc = conn
	}
	var place *grant
	var why Refusal
	conn, err := ul.Accept(nc, s.config(), func(rq *ul.AssociateRQ) (ac *ul.AssociateAC, refusal *ul.RejectedError) {
		ac, place, why, refusal = s.decide(ctx, rq, from)
		return ac, refusal
	})
	stop()
	defer conn.Watch(work)() // also while Close waits for the peer
	defer conn.Close()
	if place != nil {
		defer place.release() // before Close, which may wait for the peer
	}
	if rq := conn.Request; rq != nil {
		log.log = log.log.With("calling", rq.Calling.String(), "called", rq.Called.String())
	}
	if received, _ := conn.Bytes(); err != nil && received == 0 && errors.Is(err, ul.ErrClosed) {
		log.say(slog.LevelDebug, "connection without a request") // a load balancer's probe
		return
	}
	if err != nil {
		switch {
		case why != "":
		case errors.Is(err, ul.ErrARTIM), errors.Is(err, ul.ErrClosed), errors.Is(err, ul.ErrTooSlow):
			why = RefusedSilence
		default:
			why = RefusedProtocol
		}
		refused(why, err)
		return
	}
	s.lobby.leave(waiting)
	defer func() { waiting = s.enter(transport) }() // while Close waits for the peer
	s.total.Add(1)
	if !place.unknown {
		log.quiet = &access.familiar
	}
	log.say(slog.LevelInfo, "association accepted", "contexts", len(conn.Contexts()), "proposed", len(conn.Request.Contexts), "implementation", fmt.Sprintf("%.64s", conn.Request.User.ImplementationVersionName))
	if place.echo {
		conn.Limit(echoTime)
		if len(conn.Contexts()) < len(conn.Request.Contexts) {
			log.say(slog.LevelWarn, "only C-ECHO is granted", "reason", place.advice)
		}
	}

	defer context.AfterFunc(ctx, conn.Interrupt)()
	a := &association{server: s, conn: conn, teller: log, calling: conn.Request.Calling.String(), grant: place}
	err = a.serve(work)
	received, sent := conn.Bytes()
	counts := []any{"stored", a.stored, "refused", a.refused, "echoes", a.echoes, "received", received, "sent", sent, "duration", time.Since(start).Round(time.Millisecond)}
	if err != nil {
		s.aborted.Add(1)
		log.say(slog.LevelWarn, "association aborted", append(counts, "reason", err)...)
		return
	}
	log.say(slog.LevelInfo, "association released", counts...)
}

// maxHandshake leaves of 30 s enough for the request that follows.
const maxHandshake = 10 * time.Second

// handshake makes a TLS connection, and notes who is at its other end. conn is nil where the peer closed without a word.
func (s *Server) handshake(ctx context.Context, nc net.Conn, config *tls.Config, who *caller) (conn *tls.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, min(or(s.ARTIM, 20*time.Second), maxHandshake))
	defer cancel()
	counted := &countedConn{Conn: nc, acknowledge: ul.QuickACK(nc)}
	conn = tls.Server(counted, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		if counted.read == 0 {
			conn = nil
		}
		return conn, tlsFault(err, "peer's")
	}
	who.tls, counted.established = true, true
	if chains := conn.ConnectionState().VerifiedChains; len(chains) > 0 {
		who.certificate = chains[0][0]
	}
	return conn, nil
}

// decide accepts or refuses an association. One that it accepts holds a place.
func (s *Server) decide(ctx context.Context, rq *ul.AssociateRQ, from caller) (*ul.AssociateAC, *grant, Refusal, *ul.RejectedError) {
	refuse := func(r ul.RejectedError, detail string) (*ul.AssociateAC, *grant, Refusal, *ul.RejectedError) {
		r.Detail = detail
		return nil, nil, RefusedTitle, &r
	}
	switch {
	case !rq.Called.Valid():
		return refuse(ul.RejectCalledAETitle, "the title is not a valid AE title")
	case len(s.AcceptCalled) > 0 && !slices.Contains(s.AcceptCalled, rq.Called.String()):
		return refuse(ul.RejectCalledAETitle, "the title is not ours")
	case !rq.Calling.Valid():
		return refuse(ul.RejectCallingAETitle, "the title is not a valid AE title")
	}
	place, why, refusal := s.access().admit(ctx, rq.Calling.String(), from, or(s.MaxAssociations, 100))
	if refusal != nil {
		return nil, nil, why, refusal
	}
	choose := s.choose
	if place.echo {
		choose = func(abstract string, transfer []string) (string, ul.Result) {
			if abstract != dicom.VerificationSOPClass {
				return "", ul.UserRejection
			}
			return s.choose(abstract, transfer)
		}
	}
	ac := ul.Negotiate(rq, or(s.Window, 16), choose)
	grantRoles(rq, ac)
	ac.User.ImplementationClassUID = dicom.ImplementationClassUID
	ac.User.ImplementationVersionName = dicom.ImplementationVersionName
	return ac, place, "", nil
}

// choose accepts a presentation context: Verification, Storage Commitment where there is a Committer, and storage SOP classes; of
// several transfer syntaxes the first whose pixels radnode can decode and that loses nothing, then the first that it can decode,
// otherwise the first that it accepts.
func (s *Server) choose(abstract string, transfer []string) (string, ul.Result) {
	if abstract == dicom.StorageCommitmentPushModelSOPClass && s.Committer != nil {
		return chooseCommitment(transfer)
	}
	if !s.acceptsClass(abstract) {
		return "", ul.AbstractSyntaxNotSupported
	}
	choice, decodable := "", false
	for _, uid := range transfer {
		ts, known := dicom.LookupTransferSyntax(uid)
		switch {
		case known && ts.Decodable && !ts.Lossy:
			return uid, ul.Acceptance
		case known && ts.Decodable && !decodable:
			choice, decodable = uid, true
		case choice == "" && (known || !s.RefuseUnknownTransferSyntaxes && plausibleUID(uid)):
			choice = uid
		}
	}
	if choice == "" {
		return "", ul.TransferSyntaxesNotSupported
	}
	return choice, ul.Acceptance
}

// acceptsClass says whether objects of a SOP class are taken. Every vendor has private storage classes, and every
// edition of the standard new ones, so only what is known to be something else is left out.
func (s *Server) acceptsClass(uid string) bool {
	switch {
	case uid == dicom.VerificationSOPClass, isStorage[uid]:
		return true
	case s.RefuseUnknownSOPClasses, !plausibleUID(uid):
		return false
	}
	return !isOtherService(uid)
}

var isStorage = func() map[string]bool {
	m := map[string]bool{}
	for _, uid := range dicom.StorageSOPClasses() {
		m[uid] = true
	}
	return m
}()

// plausibleUID is a UID as far as it can do no harm: digits and dots, 1 to 64 of them. Stricter rules would refuse
// objects of real equipment, with leading zeros in components for example.
func plausibleUID(s string) bool {
	for _, c := range []byte(s) {
		if c != '.' && (c < '0' || c > '9') {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 64
}

// An association is the peer's requests one after the other, each answered before the next is read.
type association struct {
	*teller
	server  *Server
	conn    *ul.Conn
	calling string
	grant   *grant

	stored, refused, echoes int
	command, response       []byte // reused
	messageID               uint16 // of the last request of ours
	reports                 []*pendingReport
}

// serve answers requests until the association is released (nil) or ends otherwise.
func (a *association) serve(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			a.log.Error("panic while serving an association", "panic", p, "stack", string(debug.Stack()))
			err = a.conn.Abort(fmt.Errorf("internal error"))
		}
	}()
	a.conn.Pace(func(n int) time.Duration { return a.grant.slow(ctx, a.grant.octets, n) })
	defer a.endReports()
	for {
		if err := a.sendReport(); err != nil {
			return a.conn.Abort(err)
		}
		m, pc, err := a.next()
		switch {
		case errors.Is(err, ul.ErrReleaseRequested):
			return a.conn.AcceptRelease()
		case err != nil:
			return a.conn.Abort(err)
		}
		a.conn.Allow(a.grant.slow(ctx, a.grant.messages, 1))
		if a.grant.echo && !isEcho(m) {
			return a.conn.Abort(errors.New("only C-ECHO is granted: " + a.grant.advice))
		}
		if err := a.answer(ctx, m, pc); err != nil {
			if errors.Is(err, ul.ErrReleaseRequested) { // inside a message, which PS3.8 allows in Sta6: the message is lost
				if err := a.conn.AcceptRelease(); err != nil {
					return err
				}
				return errors.New("released inside a message")
			}
			return a.conn.Abort(err)
		}
	}
}

// isEcho says whether a message is part of the Verification service.
func isEcho(m Message) bool {
	switch m.(type) {
	case *EchoRequest, *CancelRequest:
		return true
	}
	return false
}

// maxStray bounds a data set that no command announced, in bytes with the heads of its PDVs: those may be empty.
const (
	maxStray = 1 << 20
	pdvCost  = 6 // PS3.8 9.3.5.1
)

// next reads the next command.
func (a *association) next() (Message, *ul.Context, error) {
	stray := 0
	for {
		v, err := a.conn.Await()
		if err != nil {
			return nil, nil, err
		}
		if v.Command {
			m, err := readCommand(a.conn, v, &a.command)
			return m, a.conn.Accepted(v.Context), err
		}
		// A data set behind a command that said it had none: the request is answered already, so it is passed over.
		if stray += v.Len + pdvCost; stray > maxStray {
			return nil, nil, errors.New("data set without a command")
		}
	}
}

// readCommand reads the rest of a command whose first fragment is v.
func readCommand(conn *ul.Conn, v ul.PDV, buf *[]byte) (Message, error) {
	context, b := v.Context, (*buf)[:0]
	for fragments := 0; ; fragments++ {
		if len(b)+v.Len > maxCommand || fragments > maxCommand {
			return nil, fmt.Errorf("command longer than %d bytes", maxCommand)
		}
		for {
			part, err := conn.Peek()
			if err == io.EOF {
				break
			}
			if err != nil {
				return nil, err
			}
			b = append(b, part...)
			conn.Discard(len(part))
		}
		if v.Last {
			*buf = b
			return decodeCommand(b)
		}
		var err error
		if v, err = conn.Next(); err != nil {
			return nil, err
		}
		if !v.Command || v.Context != context { // PS3.7 6.3: the fragments of a message follow each other on one context
			return nil, errors.New("data set or another context inside a command")
		}
	}
}

// answer carries out one request.
func (a *association) answer(ctx context.Context, m Message, pc *ul.Context) error {
	switch m := m.(type) {
	case *StoreRequest:
		return a.store(ctx, m, pc)
	case *EchoRequest:
		a.echoes++
		if err := a.drain(pc, m.HasDataSet); err != nil {
			return err
		}
		return a.respond(pc, &EchoResponse{m.MessageID, dicom.VerificationSOPClass, Status{}})
	case *CancelRequest:
		return nil // nothing of ours can be cancelled; PS3.7 9.3.2.3 has no response
	case *ActionRequest:
		return a.action(ctx, m, pc)
	case *EventReportRequest:
		return a.eventReport(ctx, m, pc)
	case *EventReportResponse:
		a.reported(m)
		return a.drain(pc, m.HasDataSet)
	case *ActionResponse:
		return a.drain(pc, m.HasDataSet) // we asked nothing
	case *Request:
		if err := a.drain(pc, m.HasDataSet); err != nil {
			return err
		}
		return a.respond(pc, &Response{Field: m.Field | responseBit, MessageIDBeingRespondedTo: m.MessageID,
			SOPClassUID: clip(m.SOPClassUID), SOPInstanceUID: clip(m.SOPInstanceUID), Status: a.unsupported(m.Field, pc)})
	case *Response:
		return a.drain(pc, m.HasDataSet) // we asked nothing
	default: // C-STORE-RSP, C-ECHO-RSP
		return nil
	}
}

// unsupported is the status of a request that nobody here carries out.
func (a *association) unsupported(f CommandField, pc *ul.Context) Status {
	a.say(slog.LevelWarn, "operation not supported", "command", f.String(), "sop_class", pc.AbstractSyntax)
	status := Status{StatusUnrecognisedOperation, f.String() + " is not supported here"}
	if f.normalised() { // PS3.7 10.1: there is no SOP class with such instances here
		status.Code = StatusNoSuchClass
	}
	return status
}

func (a *association) respond(pc *ul.Context, m Message) error {
	a.response = a.conn.AppendCommand(a.response[:0], pc.ID, encodeCommand(m))
	return a.conn.SendData(a.response)
}

// drain passes over a data set nobody wants.
func (a *association) drain(pc *ul.Context, follows bool) error {
	if !follows {
		return nil
	}
	b := &body{conn: a.conn, context: pc.ID, limit: a.server.maxObject()}
	return b.drain()
}

func (s *Server) maxObject() int64 { return or(s.MaxObjectBytes, 8<<30) }

// store answers C-STORE-RQ, PS3.4 Annex B.
func (a *association) store(ctx context.Context, m *StoreRequest, pc *ul.Context) error {
	b := &body{conn: a.conn, context: pc.ID, limit: a.server.maxObject()}
	peer := a.grant.peer
	status := a.put(ctx, m, pc, b)
	if !m.NoDataSet {
		if err := b.drain(); err != nil && err != errTooLarge {
			return err // the peer is gone or broke the protocol: nobody to answer
		}
	}
	a.server.octets.Add(b.n)
	peer.bytes.Add(b.n)
	if status.Success() {
		a.stored++
		a.server.stored.Add(1)
		peer.stored.Add(1)
	} else {
		a.refused++
		a.server.objectsRefused.Add(1)
		peer.objectsRefused.Add(1)
		a.say(slog.LevelWarn, "object refused", "sop_instance", clip(m.AffectedSOPInstanceUID), "sop_class", clip(m.AffectedSOPClassUID), "status", status.String(), "bytes", b.n)
	}
	if err := a.respond(pc, &StoreResponse{m.MessageID, clip(m.AffectedSOPClassUID), clip(m.AffectedSOPInstanceUID), status}); err != nil {
		return err
	}
	if b.endless {
		return errors.New("the data set does not end")
	}
	return nil
}

// put hands the data set to the storage and chooses the status.
func (a *association) put(ctx context.Context, m *StoreRequest, pc *ul.Context, b *body) Status {
	switch {
	case m.NoDataSet:
		return Status{StatusCannotUnderstand, "C-STORE without a data set"}
	case !plausibleUID(m.AffectedSOPInstanceUID):
		return Status{StatusInvalidInstance, "Affected SOP Instance UID is not a UID"}
	case !plausibleUID(m.AffectedSOPClassUID):
		return Status{StatusNoSuchClass, "Affected SOP Class UID is not a UID"}
	case m.AffectedSOPClassUID == dicom.VerificationSOPClass, !a.server.acceptsClass(m.AffectedSOPClassUID):
		return Status{StatusSOPClassNotSupported, "not a storage SOP class"}
	case m.AffectedSOPClassUID != pc.AbstractSyntax:
		return Status{StatusMismatch, "SOP class is not the presentation context's"}
	}
	meta := dicom.FileMeta{
		MediaStorageSOPClassUID:      m.AffectedSOPClassUID,
		MediaStorageSOPInstanceUID:   m.AffectedSOPInstanceUID,
		TransferSyntaxUID:            pc.TransferSyntax,
		SourceApplicationEntityTitle: a.calling,
	}
	err := a.server.Storage.Put(ctx, meta, b)
	switch {
	case b.err == errTooLarge: // whatever Put made of it
		return Status{StatusOutOfResources, fmt.Sprintf("the object is larger than %d bytes", b.limit)}
	case err == nil && b.err != io.EOF:
		a.say(slog.LevelError, "the storage did not read the object to its end", "sop_instance", m.AffectedSOPInstanceUID)
		return Status{StatusProcessingFailure, "the node did not read the whole object"}
	case err != nil && (b.err == nil || b.err == io.EOF):
		level := slog.LevelError
		if status := statusOf(err); status.Code == StatusOutOfResources {
			level = slog.LevelDebug // the storage tells of a full disk once, and not for each of a thousand objects
		}
		a.say(level, "the storage did not keep an object", "sop_instance", m.AffectedSOPInstanceUID, "error", err)
	}
	return statusOf(err)
}

// clip keeps hostile UIDs out of answers and logs: what cannot be one is left out.
func clip(uid string) string {
	if plausibleUID(uid) {
		return uid
	}
	return ""
}

var errTooLarge = errors.New("the object is larger than the node accepts")

// A body is the data set behind a command, pulled from the connection fragment by fragment.
// It fails with io.ErrUnexpectedEOF, wrapped, where the peer vanishes before the last fragment.
type body struct {
	conn    *ul.Conn
	context uint8
	limit   int64
	n       int64 // bytes of data set that arrived
	inside  bool  // a fragment is at hand
	last    bool  // it is the last one
	endless bool  // still more than twice the limit
	err     error // io.EOF after the last fragment
}

// peek returns bytes of the data set that arrived, valid until the next call.
func (b *body) peek() ([]byte, error) {
	for b.err == nil {
		if b.inside {
			part, err := b.conn.Peek()
			if err == nil {
				return part, nil
			}
			if err != io.EOF {
				b.err = vanished(err)
				break
			}
			b.inside = false
		}
		if b.last {
			b.err = io.EOF
			break
		}
		v, err := b.conn.Next()
		switch {
		case err != nil:
			b.err = vanished(err)
		case v.Command || v.Context != b.context: // PS3.7 6.3
			b.err = vanished(errors.New("command or another context inside a data set"))
		case b.n+int64(v.Len) > b.limit:
			b.inside, b.last, b.err = true, v.Last, errTooLarge
		default:
			b.n += int64(v.Len)
			b.inside, b.last = true, v.Last
		}
	}
	return nil, b.err
}

func vanished(err error) error { return fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err) }

func (b *body) Read(p []byte) (int, error) {
	part, err := b.peek()
	n := copy(p, part)
	b.conn.Discard(n)
	return n, err
}

// WriteTo saves io.Copy a copy.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for {
		part, err := b.peek()
		switch {
		case err == io.EOF:
			return total, nil
		case err != nil:
			return total, err
		}
		n, err := w.Write(part)
		b.conn.Discard(n)
		total += int64(n)
		if err == nil && n < len(part) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return total, err
		}
	}
}

// drain reads what is left. An object that is too large is read on to its end, so that the peer hears why it was
// refused; where the end does not come within as much again, it is endless.
func (b *body) drain() error {
	for {
		part, err := b.peek()
		switch {
		case err == io.EOF:
			return nil
		case err == errTooLarge:
			return b.pass()
		case err != nil:
			return err
		}
		b.conn.Discard(len(part))
	}
}

func (b *body) pass() error {
	for surplus := int64(0); !b.last; {
		v, err := b.conn.Next() // passes over the payload of the last one
		if err != nil {
			return vanished(err)
		}
		if v.Command || v.Context != b.context {
			return vanished(errors.New("command or another context inside a data set"))
		}
		b.last = v.Last
		if surplus += int64(v.Len); surplus > b.limit {
			b.endless = true
			return nil
		}
	}
	return errTooLarge
}
