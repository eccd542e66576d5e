package ul

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Config holds the limits of a connection. The zero value is ready to use.
type Config struct {
	// MaxPDU is the longest P-DATA-TF variable field we advertise and send. Default 128 KiB.
	MaxPDU uint32
	// MaxAssociate bounds a received A-ASSOCIATE PDU. Default 512 KiB: 128 contexts with 40 transfer syntaxes each fit.
	MaxAssociate uint32
	// ARTIM is the time from the transport connection to a complete A-ASSOCIATE-RQ, and from the last PDU
	// to the close of the transport connection, PS3.8 9.1.5. Default 20 s.
	ARTIM time.Duration
	// Idle is the longest silence on an established association. Default 10 min.
	Idle time.Duration
	// Message bounds the time one message (command and data set) may take from its first to its last byte. Default 1 h.
	Message time.Duration
	// PDU bounds the time we wait for the bytes of one PDU; a peer that sends a byte every now and then meets it. Default 1 min.
	PDU time.Duration
	// Total bounds the life of an association. Default 24 h.
	Total time.Duration
}

// DefaultMaxPDU is the longest PDU that DCMTK, the most common sender, makes.
const DefaultMaxPDU = 128 << 10

func (c Config) withDefaults() Config {
	if c.MaxPDU == 0 {
		c.MaxPDU = DefaultMaxPDU
	}
	c.MaxPDU = max(c.MaxPDU, 4096)
	if c.MaxAssociate == 0 {
		c.MaxAssociate = 512 << 10
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.ARTIM, 20*time.Second)
	def(&c.Idle, 10*time.Minute)
	def(&c.Message, time.Hour)
	def(&c.PDU, time.Minute)
	def(&c.Total, 24*time.Hour)
	return c
}

// A Context is an accepted presentation context.
type Context struct {
	ID             uint8
	AbstractSyntax string
	TransferSyntax string
}

// A PDV is the head of a presentation data value; its payload follows through [Conn.Read].
type PDV struct {
	Context uint8
	Command bool // a fragment of a command, otherwise of a data set
	Last    bool // the last fragment
	Len     int  // bytes of payload
}

// A Conn is one association. One goroutine owns it; only [Conn.Interrupt] and [Conn.Kill] may be called from others.
type Conn struct {
	nc        net.Conn
	cfg       Config
	quick     func()
	layered   bool // over TLS
	state     state
	requestor bool
	ended     error // why it ended; set once

	// Request and Response are what was negotiated.
	Request  *AssociateRQ
	Response *AssociateAC
	accepted [256]*Context
	sendMax  int // longest P-DATA-TF variable field we send

	// The receive buffer: buf[r:w] arrived and is not consumed yet.
	buf      []byte
	r, w     int
	pdu      int  // bytes left of the P-DATA-TF PDU at hand
	pdv      int  // bytes left of the PDV at hand
	framing  bool // false once a PDU's length cannot be trusted
	boundary bool // waiting between two messages

	artim, total, message, pduEnd time.Time // absolute deadlines; zero = none
	away                          time.Time // since when nobody has read

	pace func(n int) time.Duration // see Pace

	interrupted atomic.Int32 // 1: between two messages, 2: at once
	written     int64
	read        int64
}

// smallBuffer serves until the association is there, so that connections which say nothing cost little.
const smallBuffer = 2 << 10

// bigBuffers holds receive buffers of established associations.
var bigBuffers = sync.Pool{New: func() any { b := make([]byte, DefaultMaxPDU+headerLen); return &b }}

func newConn(nc net.Conn, cfg Config, requestor bool) *Conn {
	c := &Conn{nc: nc, cfg: cfg.withDefaults(), state: sta1, requestor: requestor, framing: true, buf: make([]byte, smallBuffer)}
	tcp := nc
	for t, ok := tcp.(interface{ NetConn() net.Conn }); ok; t, ok = tcp.(interface{ NetConn() net.Conn }) { // *tls.Conn
		tcp, c.layered = t.NetConn(), true
	}
	if t, ok := tcp.(*net.TCPConn); ok {
		_ = t.SetNoDelay(true)
	}
	c.quick = QuickACK(tcp)
	return c
}

// Dial opens a transport connection to address and requests an association on it. The context bounds both.
// A refusal is a [*RejectedError], an abort an [*AbortError].
func Dial(ctx context.Context, address string, rq *AssociateRQ, cfg Config) (*Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", address) // AE-1
	if err != nil {
		return nil, err
	}
	return Request(ctx, nc, rq, cfg)
}

// Request requests an association on a connection that is open. It closes nc where it fails.
func Request(ctx context.Context, nc net.Conn, rq *AssociateRQ, cfg Config) (*Conn, error) {
	c := newConn(nc, cfg, true)
	defer c.Watch(ctx)()
	rq.ProtocolVersion, rq.ApplicationContext = 1, ApplicationContext
	rq.User.MaxLength = c.cfg.MaxPDU
	c.Request = rq
	_ = c.step(evtAssociateRequest, nil)
	if err := c.step(evtConnected, rq.AppendTo(nil)); err != nil {
		return nil, c.fail(err)
	}
	c.artim = time.Now().Add(c.cfg.ARTIM) // a bound of ours: PS3.8 leaves the requestor's patience to the application
	if err := c.greet(); err != nil {
		c.state = sta1 // nobody there who would understand an A-ABORT
		return nil, c.fail(err)
	}
	if err := c.receive(); err != nil {
		return nil, c.fail(err)
	}
	c.artim = time.Time{}
	ac := c.Response
	if ac.User.MaxLength != 0 && ac.User.MaxLength < minSend {
		return nil, c.Abort(fmt.Errorf("peer's maximum PDU length %d leaves no room for data", ac.User.MaxLength))
	}
	proposed := map[uint8]string{}
	for _, p := range rq.Contexts {
		proposed[p.ID] = p.AbstractSyntax
	}
	for _, r := range ac.Contexts {
		abstract, ok := proposed[r.ID]
		if ok && r.Result == Acceptance {
			c.accepted[r.ID] = &Context{r.ID, abstract, r.TransferSyntax}
		}
	}
	c.establish(ac.User.MaxLength)
	return c, nil
}

// Accept waits on nc for a request and answers it. decide fills in the answer's contexts and user information,
// or refuses with a *RejectedError. Protocol version and application context are checked before it is asked,
// The Conn is never nil and the caller closes it; where Accept failed, its Request tells who asked, if that much arrived.
func Accept(nc net.Conn, cfg Config, decide func(*AssociateRQ) (*AssociateAC, *RejectedError)) (*Conn, error) {
	c := newConn(nc, cfg, false)
	return c, c.accept(decide)
}

func (c *Conn) accept(decide func(*AssociateRQ) (*AssociateAC, *RejectedError)) error {
	if err := c.step(evtConnection, nil); err != nil {
		return c.settle(err)
	}
	if err := c.greet(); err != nil {
		return c.settle(err)
	}
	if err := c.receive(); err != nil {
		return c.settle(err)
	}
	rq := c.Request
	if c.state == sta13 { // AE-6 refused it
		return c.settle(c.ended)
	}
	ac, refusal := decide(rq)
	if refusal == nil && rq.User.MaxLength != 0 && rq.User.MaxLength < minSend {
		r := RejectNoReason
		r.Detail = fmt.Sprintf("peer's maximum PDU length %d leaves no room for data", rq.User.MaxLength)
		refusal = &r
	}
	if refusal != nil {
		c.ended = refusal
		if err := c.step(evtReject, refusal.appendTo(nil)); err != nil {
			return c.settle(err)
		}
		return c.settle(refusal)
	}
	ac.ProtocolVersion, ac.ApplicationContext = 1, ApplicationContext
	ac.Called, ac.Calling = rq.Called, rq.Calling // PS3.8 Table 9-17: as received
	ac.User.MaxLength = c.cfg.MaxPDU
	c.Response = ac
	abstract := map[uint8]string{}
	for _, p := range rq.Contexts {
		abstract[p.ID] = p.AbstractSyntax
	}
	for _, r := range ac.Contexts {
		if r.Result == Acceptance {
			c.accepted[r.ID] = &Context{r.ID, abstract[r.ID], r.TransferSyntax}
		}
	}
	if err := c.step(evtAccept, ac.AppendTo(nil)); err != nil {
		return c.settle(err)
	}
	c.establish(rq.User.MaxLength)
	return nil
}

// minSend is the shortest useful P-DATA-TF: the head of a PDV and an even fragment.
const minSend = pdvHeaderLen + 2

func (c *Conn) establish(peerMax uint32) {
	c.sendMax = int(c.cfg.MaxPDU)
	if peerMax != 0 && peerMax < c.cfg.MaxPDU {
		c.sendMax = int(peerMax)
	}
	c.total = time.Now().Add(c.cfg.Total)
	big := *bigBuffers.Get().(*[]byte)
	c.w = copy(big, c.buf[c.r:c.w])
	c.buf, c.r = big, 0
}

// Accepted returns the accepted presentation context with this ID, or nil.
func (c *Conn) Accepted(id uint8) *Context { return c.accepted[id] }

// Contexts returns the accepted presentation contexts in the order of their IDs.
func (c *Conn) Contexts() []Context {
	var all []Context
	for _, p := range c.accepted {
		if p != nil {
			all = append(all, *p)
		}
	}
	return all
}

// RemoteAddr is the peer's network address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// MaxSend is the longest PDV payload that one PDU to this peer holds. It is even, so that no element's value is cut in two.
func (c *Conn) MaxSend() int { return (c.sendMax - pdvHeaderLen) &^ 1 }

// Bytes returns how much was received and sent.
func (c *Conn) Bytes() (received, sent int64) { return c.read, c.written }

// Buffered returns how much arrived that nobody has read yet.
func (c *Conn) Buffered() int { return c.w - c.r }

// Interrupt makes a wait between two messages, now or later, fail with [ErrInterrupted]. A message under way goes on.
func (c *Conn) Interrupt() {
	c.interrupted.CompareAndSwap(0, 1)
	_ = c.nc.SetReadDeadline(past)
}

// Resume takes an interruption back.
func (c *Conn) Resume() { c.interrupted.CompareAndSwap(1, 0) }

// Kill makes all that waits on the connection fail, now or later.
func (c *Conn) Kill() {
	c.interrupted.Store(2)
	_ = c.nc.SetDeadline(past)
}

// Watch kills the connection when ctx is done, until the returned function is called.
func (c *Conn) Watch(ctx context.Context) (stop func() bool) { return context.AfterFunc(ctx, c.Kill) }

var past = time.Unix(1, 0)

var errKilled = errors.New("given up")

// Await returns the first PDV of the next message. It waits for the idle time and can be interrupted.
func (c *Conn) Await() (PDV, error) {
	c.boundary, c.message = true, time.Time{}
	defer func() { c.boundary, c.message = false, time.Now().Add(c.cfg.Message) }()
	return c.Next()
}

// Next returns the next PDV. What is left of the payload of the last one is passed over.
func (c *Conn) Next() (PDV, error) {
	if c.ended != nil {
		return PDV{}, c.ended
	}
	v, err := c.next()
	if err != nil {
		return PDV{}, c.settle(err)
	}
	return v, nil
}

func (c *Conn) next() (PDV, error) {
	if err := c.pass(c.pdv); err != nil {
		return PDV{}, err
	}
	c.pdu, c.pdv = c.pdu-c.pdv, 0
	if c.pdu == 0 {
		if err := c.receive(); err != nil {
			return PDV{}, err
		}
	}
	if c.pdu < pdvHeaderLen {
		return PDV{}, c.invalid(ReasonInvalidParam, malformed("%d bytes left in a P-DATA-TF PDU where a PDV begins", c.pdu))
	}
	if err := c.fill(pdvHeaderLen); err != nil {
		return PDV{}, err
	}
	h := c.buf[c.r:]
	n := binary.BigEndian.Uint32(h)
	v := PDV{Context: h[4], Command: h[5]&controlCommand != 0, Last: h[5]&controlLast != 0}
	if n < 2 || uint64(n)+4 > uint64(c.pdu) {
		return PDV{}, c.invalid(ReasonInvalidParam, malformed("PDV length %d in a PDU with %d bytes left", n, c.pdu))
	}
	if c.accepted[v.Context] == nil {
		return PDV{}, c.invalid(ReasonInvalidParam, malformed("PDV on presentation context %d, which is not accepted", v.Context))
	}
	c.r += pdvHeaderLen
	c.pdu -= pdvHeaderLen
	c.pdv = int(n) - 2
	v.Len = c.pdv
	return v, nil
}

// Read reads the payload of the PDV at hand; io.EOF marks its end.
func (c *Conn) Read(p []byte) (int, error) {
	b, err := c.Peek()
	n := copy(p, b)
	c.Discard(n)
	return n, err
}

// Peek returns the part of the PDV's payload that is in the receive buffer, at least one byte, or io.EOF at its end.
// It is valid until the next call.
func (c *Conn) Peek() ([]byte, error) {
	if c.ended != nil {
		return nil, c.ended
	}
	if c.pdv == 0 {
		return nil, io.EOF
	}
	if err := c.fill(1); err != nil {
		return nil, c.settle(err)
	}
	return c.buf[c.r : c.r+min(c.w-c.r, c.pdv)], nil
}

// Discard consumes n bytes that Peek returned.
func (c *Conn) Discard(n int) {
	c.r += n
	c.pdu -= n
	c.pdv -= n
}

// fill waits until at least n bytes are in the receive buffer.
func (c *Conn) fill(n int) error {
	for c.w-c.r < n {
		if c.r == c.w {
			c.r, c.w = 0, 0
		} else if len(c.buf)-c.r < n {
			c.w = copy(c.buf, c.buf[c.r:c.w])
			c.r = 0
		}
		if err := c.readSome(); err != nil {
			return err
		}
	}
	return nil
}

// readSome reads once, under the deadline that falls first.
func (c *Conn) readSome() error {
	for {
		now := time.Now()
		if !c.pduEnd.IsZero() { // a PDU waits while our disk is slow: that is not the peer's fault
			c.pduEnd, c.away = c.pduEnd.Add(now.Sub(c.away)), now
		}
		deadline, late := now.Add(c.cfg.Idle), ErrIdle
		if c.artim.IsZero() {
			for _, t := range [...]time.Time{c.message, c.pduEnd, c.total} {
				if !t.IsZero() && t.Before(deadline) {
					deadline, late = t, ErrTooSlow
				}
			}
		} else {
			deadline, late = c.artim, ErrARTIM
		}
		set := c.nc.SetReadDeadline
		if c.layered { // where a read may have to write, as for a key update of TLS
			set = c.nc.SetDeadline
		}
		if err := set(deadline); err != nil {
			return err
		}
		// Looked at after the deadline is set: whoever interrupts sets the flag first and the deadline second.
		switch level := c.interrupted.Load(); {
		case level == 2:
			return errKilled
		case level == 1 && c.boundary:
			return ErrInterrupted
		}
		n, err := c.nc.Read(c.buf[c.w:])
		c.quick()
		c.away = time.Now()
		c.w += n
		c.read += int64(n)
		switch {
		case n > 0:
			return nil
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			if time.Now().Before(deadline) { // interrupted: the flag says whether it concerns us
				continue
			}
			return late
		default: // io.EOF, reset
			return fmt.Errorf("%w: %w", ErrClosed, err)
		}
	}
}

// Pace slows a peer down. wait is called with the length of every P-DATA-TF PDU when its head has arrived, whatever is in it, and
// returns how long it waited; the rest stays unread meanwhile, so that TCP passes the wait on.
func (c *Conn) Pace(wait func(n int) time.Duration) { c.pace = wait }

// Allow gives the message under way more time: as long as we did not read because the peer is to be slowed down.
func (c *Conn) Allow(d time.Duration) {
	if !c.message.IsZero() {
		c.message = c.message.Add(d)
	}
}

// Limit ends the association after d, where that is before its time.
func (c *Conn) Limit(d time.Duration) {
	if t := time.Now().Add(d); t.Before(c.total) {
		c.total = t
	}
}

// greet looks at the first byte of a connection. What is no PDU type may be a known protocol:
// such a peer would not understand an A-ABORT, so the connection is closed without a word.
func (c *Conn) greet() error {
	if err := c.fill(1); err != nil {
		return err
	}
	if p := foreignProtocol(c.buf[c.r:c.w]); p != "" {
		return &ForeignError{Protocol: p}
	}
	return nil
}

// receive reads the header of the next PDU and takes the step it asks for. P-DATA-TF is left to be read piece by
// piece; of the others the value is read whole, into memory that grows with what arrives, never with what is announced.
func (c *Conn) receive() error {
	c.pduEnd = time.Time{}
	if err := c.fill(1); err != nil {
		return err
	}
	c.away = time.Now()
	c.pduEnd = c.away.Add(c.cfg.PDU)
	c.boundary = false
	if err := c.fill(headerLen); err != nil {
		return err
	}
	typ, n := c.buf[c.r], binary.BigEndian.Uint32(c.buf[c.r+2:])
	c.r += headerLen
	switch typ {
	case typeAssociateRQ:
		if c.state != sta2 {
			return c.unexpected(evtAssociateRQ, n)
		}
		body, err := c.body(n, c.cfg.MaxAssociate)
		if err != nil {
			return err
		}
		rq, err := decodeAssociateRQ(body)
		if err != nil {
			return c.invalid(ReasonInvalidParam, err)
		}
		c.Request = rq
		return c.received(evtAssociateRQ)
	case typeAssociateAC:
		if c.state != sta5 {
			return c.unexpected(evtAssociateAC, n)
		}
		body, err := c.body(n, c.cfg.MaxAssociate)
		if err != nil {
			return err
		}
		if c.Response, err = decodeAssociateAC(body); err != nil {
			return c.invalid(ReasonInvalidParam, err)
		}
		return c.received(evtAssociateAC)
	case typeData:
		if c.state != sta6 && c.state != sta7 {
			return c.unexpected(evtData, n)
		}
		if n > c.cfg.MaxPDU {
			return c.invalid(ReasonInvalidParam, malformed("P-DATA-TF PDU of %d bytes, longer than the %d we advertised", n, c.cfg.MaxPDU))
		}
		c.pdu = int(n)
		if c.pace != nil {
			c.Allow(c.pace(headerLen + c.pdu))
		}
		return c.received(evtData)
	case typeAssociateRJ, typeReleaseRQ, typeReleaseRP, typeAbort:
		if n != 4 {
			return c.invalid(ReasonInvalidParam, malformed("PDU of type %02XH with a length of %d, not 4", typ, n))
		}
		body, err := c.body(n, n)
		if err != nil {
			return err
		}
		switch typ {
		case typeAssociateRJ:
			refusal := &RejectedError{Result: RejectResult(body[1]), Source: RejectSource(body[2]), Reason: body[3]}
			if c.state == sta5 {
				c.ended = refusal
			}
			return c.received(evtAssociateRJ)
		case typeReleaseRQ:
			return c.received(evtReleaseRQ)
		case typeReleaseRP:
			return c.received(evtReleaseRP)
		default:
			if c.state != sta13 {
				c.ended = &AbortError{Source: AbortSource(body[2]), Reason: AbortReason(body[3])}
			}
			return c.received(evtAbort)
		}
	}
	return c.invalid(ReasonUnrecognizedPDU, malformed("PDU of unknown type %02XH", typ))
}

// received takes the step for a PDU. Where the state does not want it, that is an abort.
func (c *Conn) received(e event) error {
	switch transitions[e][c.state-1] {
	case aa1, aa7, aa8:
		return c.abortStep(e, ReasonUnexpectedPDU, fmt.Errorf("PDU not expected now (%v, event %d)", c.state, e))
	}
	return c.step(e, nil)
}

// unexpected takes the step for a PDU that the state does not want; its n bytes of value are not looked at.
func (c *Conn) unexpected(e event, n uint32) error {
	if c.state == sta13 && n <= c.cfg.MaxAssociate {
		if err := c.pass(int(n)); err != nil {
			return err
		}
	} else {
		c.framing = false
	}
	return c.received(e)
}

// pass consumes n bytes outside of any PDV.
func (c *Conn) pass(n int) error {
	for n > 0 {
		if err := c.fill(1); err != nil {
			return err
		}
		k := min(n, c.w-c.r)
		c.r += k
		n -= k
	}
	return nil
}

// invalid takes the step for an unrecognised or invalid PDU.
func (c *Conn) invalid(reason AbortReason, why error) error {
	c.framing = false
	return c.abortStep(evtInvalid, reason, why)
}

// abortStep takes a step that ends in AA-1, AA-7 or AA-8.
func (c *Conn) abortStep(e event, reason AbortReason, why error) error {
	a := &AbortError{Source: AbortProvider, Reason: reason, Local: true, Err: why}
	if transitions[e][c.state-1] == aa1 { // AA-1 has the service-user as its source, whose reason means nothing
		a.Source, a.Reason = AbortUser, ReasonNotSpecified
	}
	if c.ended == nil {
		c.ended = a
	}
	if err := c.step(e, a.appendTo(nil)); err != nil {
		return err
	}
	return c.ended
}

// A request of more than smallAssociate bytes is read only where fewer than cap(largeAssociates) such are being read: strangers who
// begin requests and do not end them shall not hold MaxAssociate bytes each. 64 KiB are 128 contexts with 16 transfer syntaxes.
const smallAssociate = 64 << 10

var largeAssociates = make(chan struct{}, 16)

// body reads n bytes, at most limit, in steps.
func (c *Conn) body(n, limit uint32) ([]byte, error) {
	if n > limit {
		return nil, c.invalid(ReasonInvalidParam, malformed("PDU announces %d bytes, more than the %d allowed", n, limit))
	}
	if n > smallAssociate {
		select {
		case largeAssociates <- struct{}{}:
			defer func() { <-largeAssociates }()
		default:
			return nil, c.invalid(ReasonNotSpecified, fmt.Errorf("a request of %d bytes while %d others of more than %d are being read", n, cap(largeAssociates), smallAssociate))
		}
	}
	var b []byte
	for len(b) < int(n) {
		if err := c.fill(1); err != nil {
			return nil, err
		}
		k := min(int(n)-len(b), c.w-c.r)
		b = append(b, c.buf[c.r:c.r+k]...)
		c.r += k
	}
	return b, nil
}

// step looks up the table and carries out its action; out is what the action sends, if it sends.
func (c *Conn) step(e event, out []byte) error {
	a := transitions[e][c.state-1]
	if a == 0 {
		return fmt.Errorf("event %d cannot happen in %v", e, c.state)
	}
	return c.perform(a, out)
}

// perform carries out an action, PS3.8 Tables 9-6 to 9-9. What those call an indication or a confirmation is
// the error it returns, or none.
func (c *Conn) perform(a action, out []byte) error {
	c.state = nextState[a]
	switch a {
	case ae1: // Dial opened the connection
	case ae2, ae7, dt1, ar1, ar7, ar9, aa7:
		return c.write(out)
	case ae3, dt2, ar3, ar6, ar10, aa6: // the caller reads on, or has its confirmation
	case ae5:
		c.startARTIM()
	case ae6:
		c.artim = time.Time{}
		if refusal := c.unacceptable(); refusal != nil {
			c.ended, c.state = refusal, sta13
			c.startARTIM()
			return c.write(refusal.appendTo(nil))
		}
	case ae8, ar4, aa1, aa8:
		c.startARTIM()
		return c.write(out)
	case ar2:
		return ErrReleaseRequested
	case ar8:
		if c.requestor {
			c.state = sta9
		}
		return ErrReleaseRequested
	case ae4, ar5, aa2, aa3, aa4, aa5:
		_ = c.nc.Close()
		return c.ended
	}
	return nil
}

// unacceptable is the provider's part of AE-6.
func (c *Conn) unacceptable() *RejectedError {
	if c.Request.ProtocolVersion&1 == 0 { // PS3.8 Table 9-11: only bit 0 is tested
		r := RejectProtocolVersion
		return &r
	}
	if c.Request.ApplicationContext != ApplicationContext {
		r := RejectApplicationContext
		r.Detail = fmt.Sprintf("application context %.64q", c.Request.ApplicationContext)
		return &r
	}
	return nil
}

func (c *Conn) startARTIM() { c.artim = time.Now().Add(c.cfg.ARTIM) }

// settle turns a transport error into the step it asks for, and remembers why the association ended.
func (c *Conn) settle(err error) error {
	switch {
	case errors.Is(err, ErrReleaseRequested), errors.Is(err, ErrInterrupted):
		return err // the association lives
	case c.ended != nil:
		return c.ended
	case errors.Is(err, ErrClosed):
		c.ended = err
		_ = c.step(evtClosed, nil)
	case errors.Is(err, ErrARTIM) && (c.state == sta2 || c.state == sta13):
		c.ended = err
		_ = c.step(evtARTIM, nil)
	case transitions[evtAbortRequest][c.state-1] == 0: // nobody there to abort with
		c.ended = err
	default:
		return c.Abort(err)
	}
	return err
}

// fail ends an association that did not come about.
func (c *Conn) fail(err error) error {
	err = c.settle(err)
	c.Close()
	return err
}

// Abort ends the association with A-ABORT (source: service user) because of why, and returns that as an [*AbortError].
// Where the association has ended already, it returns how.
func (c *Conn) Abort(why error) error {
	if c.ended != nil {
		return c.ended
	}
	a := &AbortError{Source: AbortUser, Local: true, Err: why}
	c.ended = a
	if transitions[evtAbortRequest][c.state-1] != 0 {
		_ = c.step(evtAbortRequest, a.appendTo(nil)) // whether it arrives makes no difference any more
	}
	return a
}

// AcceptRelease answers the peer's request to release.
func (c *Conn) AcceptRelease() error {
	out := appendShort(nil, typeReleaseRP, 0, 0, 0)
	if err := c.step(evtReleaseResponse, out); err != nil {
		return c.settle(err)
	}
	return nil
}

// Release releases the association and closes the connection. Where both sides ask at the same time, PS3.8 7.2.2.7 rules.
func (c *Conn) Release() error {
	defer c.Close()
	if c.ended != nil {
		return c.ended
	}
	c.message = time.Now().Add(c.cfg.ARTIM)
	if err := c.step(evtReleaseRequest, appendShort(nil, typeReleaseRQ, 0, 0, 0)); err != nil {
		return c.settle(err)
	}
	return c.finishRelease()
}

// finishRelease takes part in a release until the peer has answered.
func (c *Conn) finishRelease() error {
	for c.state != sta1 && c.state != sta13 {
		err := c.pass(c.pdu) // P-DATA that crossed our request is of no use any more
		c.pdu, c.pdv = 0, 0
		if err == nil {
			err = c.receive()
		}
		switch {
		case errors.Is(err, ErrReleaseRequested) && c.requestor: // collision: Sta9
			if err := c.AcceptRelease(); err != nil {
				return err
			}
		case errors.Is(err, ErrReleaseRequested): // collision: Sta10, our answer waits for the peer's
		case err != nil:
			return c.settle(err)
		case c.state == sta12:
			if err := c.AcceptRelease(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close closes the connection. In Sta13 it waits for the peer to close first, at most until the ARTIM timer runs out:
// to close on unread bytes would reset the connection, and the peer might never see the last PDU.
func (c *Conn) Close() {
	if c.ended == nil {
		c.ended = net.ErrClosed
	}
	for c.state == sta13 {
		var err error
		switch {
		case !c.framing:
			if err = c.fill(1); err == nil {
				c.r = c.w
			}
		case c.pdu > 0: // what we did not want to read of a P-DATA-TF
			err = c.pass(c.pdu)
			c.pdu, c.pdv = 0, 0
		default:
			err = c.receive()
		}
		switch {
		case err == nil, err == c.ended: // AA-6, AA-7
		case errors.Is(err, ErrClosed):
			_ = c.step(evtClosed, nil)
		case errors.Is(err, ErrARTIM):
			_ = c.step(evtARTIM, nil)
		default:
			c.state = sta1
		}
	}
	c.state = sta1
	_ = c.nc.Close()
	if len(c.buf) == DefaultMaxPDU+headerLen {
		buf := c.buf
		c.buf = nil
		bigBuffers.Put(&buf)
	}
}

// SendData sends P-DATA-TF PDUs that [Conn.AppendCommand] and [PutPDVHeader] laid out, in one write.
func (c *Conn) SendData(pdus []byte) error {
	if c.ended != nil {
		return c.ended
	}
	if err := c.step(evtDataRequest, pdus); err != nil {
		return c.settle(c.peerAbort(err))
	}
	return nil
}

// peerAbort looks for an A-ABORT behind a failed write: it tells more than a reset connection.
func (c *Conn) peerAbort(err error) error {
	if errors.Is(err, errKilled) || errors.Is(err, ErrTooSlow) {
		return err
	}
	c.message = time.Now().Add(time.Second)
	for c.state == sta6 {
		if c.pass(c.pdu) != nil {
			break
		}
		c.pdu, c.pdv = 0, 0
		if c.receive() != nil {
			break
		}
	}
	if c.ended != nil {
		return c.ended
	}
	return fmt.Errorf("%w: %w", ErrClosed, err)
}

// AppendCommand appends a command to b, as one PDV a PDU, in as many PDUs as the peer's maximum length asks for.
func (c *Conn) AppendCommand(b []byte, context uint8, command []byte) []byte {
	for {
		n := min(len(command), c.MaxSend())
		control := byte(controlCommand)
		if n == len(command) {
			control |= controlLast
		}
		var h [DataHeaderLen]byte
		putPDVHeader(h[:], context, control, n)
		b = append(append(b, h[:]...), command[:n]...)
		if command = command[n:]; len(command) == 0 {
			return b
		}
	}
}

// write sends b in one write.
func (c *Conn) write(b []byte) error {
	patience := c.cfg.PDU
	if c.state == sta13 { // a last word; who does not read it shall not keep us
		patience = min(patience, c.cfg.ARTIM, time.Second)
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	if c.interrupted.Load() == 2 && c.state != sta13 {
		return errKilled
	}
	n, err := c.nc.Write(b)
	c.written += int64(n)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		if c.interrupted.Load() == 2 {
			return errKilled
		}
		return fmt.Errorf("%w: the peer does not read", ErrTooSlow)
	}
	return fmt.Errorf("%w: %w", ErrClosed, err)
}

func appendShort(b []byte, typ byte, v ...byte) []byte {
	return append(append(b, typ, 0, 0, 0, 0, 4, 0), v...)
}

func (e *RejectedError) appendTo(b []byte) []byte {
	return appendShort(b, typeAssociateRJ, uint8(e.Result), uint8(e.Source), e.Reason)
}

func (e *AbortError) appendTo(b []byte) []byte {
	return appendShort(b, typeAbort, 0, uint8(e.Source), uint8(e.Reason))
}
