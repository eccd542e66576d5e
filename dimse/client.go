package dimse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/ul"
)

// A RejectedError is a refused association, an AbortError an aborted one; both say why in words.
type (
	RejectedError = ul.RejectedError
	AbortError    = ul.AbortError
)

// A Role says who is SCU and SCP of a SOP class, PS3.7 D.3.3.4.
type Role = ul.Role

// A Proposal is a SOP class and the transfer syntaxes to offer for it, best first.
type Proposal struct {
	SOPClass         string
	TransferSyntaxes []string
}

// DialOptions has good zero values.
type DialOptions struct {
	CallingAET string        // default RADNODE
	Proposals  []Proposal    // default: Verification alone
	Roles      []Role        // where we are not the SCU
	Timeout    time.Duration // for the association to come about; default 30 s
	Idle       time.Duration // longest silence while an answer is due; default 2 min: a PACS may be slow to keep a large object
	MaxPDU     uint32        // longest PDU sent and advertised; default 128 KiB
	TLS        *tls.Config   // of [TLS.Client]; nil = without TLS
}

// A Client is an association that we requested. It is used by one goroutine at a time.
type Client struct {
	conn  *ul.Conn
	peer  Peer
	id    uint16
	buf   []byte
	reply []byte

	events  int                          // results that the peer told
	results map[string]*CommitmentResult // of the transactions that are awaited here; nil until it comes
}

// maxContexts is as many as there are odd presentation context IDs, PS3.8 9.3.2.2.
const maxContexts = 128

// Dial opens an association with a peer. A refusal is a [*RejectedError].
func Dial(ctx context.Context, p Peer, o DialOptions) (*Client, error) {
	rq := &ul.AssociateRQ{}
	var err error
	if rq.Called, err = ul.NewAETitle(p.AETitle); err != nil {
		return nil, err
	}
	if rq.Calling, err = ul.NewAETitle(or(o.CallingAET, "RADNODE")); err != nil {
		return nil, err
	}
	if rq.Contexts, err = contexts(o.Proposals); err != nil {
		return nil, fmt.Errorf("%v: %w", p, err)
	}
	rq.User.ImplementationClassUID = dicom.ImplementationClassUID
	rq.User.ImplementationVersionName = dicom.ImplementationVersionName
	rq.User.Roles = o.Roles
	ctx, cancel := context.WithTimeout(ctx, or(o.Timeout, 30*time.Second))
	defer cancel()
	conn, err := open(ctx, p.Address, o.TLS, rq, ul.Config{MaxPDU: o.MaxPDU, ARTIM: or(o.Timeout, 30*time.Second), Idle: or(o.Idle, 2*time.Minute)})
	if err != nil {
		return nil, fmt.Errorf("%v: %w", p, cause(ctx, err))
	}
	return &Client{conn: conn, peer: p}, nil
}

// open opens an association with or without TLS.
func open(ctx context.Context, address string, secure *tls.Config, rq *ul.AssociateRQ, cfg ul.Config) (*ul.Conn, error) {
	if secure == nil {
		conn, err := ul.Dial(ctx, address, rq, cfg)
		var foreign *ul.ForeignError
		if errors.As(err, &foreign) && foreign.Protocol == "TLS" {
			return nil, errors.New("it is a TLS port: call it with TLS")
		}
		return conn, err
	}
	nc, err := dialTLS(ctx, address, secure)
	if err != nil {
		return nil, err
	}
	conn, err := ul.Request(ctx, nc, rq, cfg)
	if err != nil { // in TLS 1.3 the peer looks at our certificate after our part of the handshake
		return nil, tlsRefusal(err)
	}
	return conn, nil
}

// contexts lays proposals out as presentation contexts. One transfer syntax a context lets a peer accept each by
// itself; where that makes too many, a context holds all the syntaxes of its SOP class and the peer picks one.
func contexts(proposals []Proposal) ([]ul.ProposedContext, error) {
	if len(proposals) == 0 {
		proposals = []Proposal{{dicom.VerificationSOPClass, []string{dicom.ImplicitVRLittleEndian}}}
	}
	var classes []Proposal
	pairs := 0
	for _, p := range proposals {
		i := slices.IndexFunc(classes, func(c Proposal) bool { return c.SOPClass == p.SOPClass })
		if i < 0 {
			i, classes = len(classes), append(classes, Proposal{SOPClass: p.SOPClass})
		}
		for _, ts := range p.TransferSyntaxes {
			if !slices.Contains(classes[i].TransferSyntaxes, ts) {
				classes[i].TransferSyntaxes = append(classes[i].TransferSyntaxes, ts)
				pairs++
			}
		}
	}
	if len(classes) > maxContexts {
		return nil, fmt.Errorf("%d SOP classes do not fit in one association, which holds %d: use several", len(classes), maxContexts)
	}
	var all []ul.ProposedContext
	add := func(class string, syntaxes []string) {
		all = append(all, ul.ProposedContext{ID: uint8(2*len(all) + 1), AbstractSyntax: class, TransferSyntaxes: syntaxes})
	}
	for _, c := range classes {
		if pairs > maxContexts {
			add(c.SOPClass, c.TransferSyntaxes)
			continue
		}
		for _, ts := range c.TransferSyntaxes {
			add(c.SOPClass, []string{ts})
		}
	}
	return all, nil
}

// cause tells a deadline or cancellation of ctx from a fault of the peer.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

func (c *Client) context(sopClass, transferSyntax string) (ul.Context, bool) {
	for _, pc := range c.conn.Contexts() {
		if pc.AbstractSyntax == sopClass && (transferSyntax == "" || pc.TransferSyntax == transferSyntax) {
			return pc, true
		}
	}
	return ul.Context{}, false
}

// Accepted says whether the peer takes objects of this SOP class in this transfer syntax.
func (c *Client) Accepted(sopClass, transferSyntax string) bool {
	_, ok := c.context(sopClass, transferSyntax)
	return ok
}

// Echo asks the peer whether it is there: C-ECHO, PS3.7 9.1.5.
func (c *Client) Echo(ctx context.Context) error {
	pc, ok := c.context(dicom.VerificationSOPClass, "")
	if !ok {
		return fmt.Errorf("%v: the peer did not accept Verification", c.peer)
	}
	defer c.conn.Watch(ctx)()
	c.id++
	c.reply = c.conn.AppendCommand(c.reply[:0], pc.ID, encodeCommand(&EchoRequest{MessageID: c.id, AffectedSOPClassUID: dicom.VerificationSOPClass}))
	err := c.conn.SendData(c.reply)
	if err == nil {
		var status Status
		if status, err = c.response(c.id); err == nil && !status.Success() {
			err = &status
		}
	}
	if err != nil {
		return fmt.Errorf("%v: C-ECHO: %w", c.peer, cause(ctx, err))
	}
	return nil
}

// Store sends one object: C-STORE, PS3.7 9.1.1. body is the data set in meta.TransferSyntaxUID and is read to its end.
// The status is the peer's; an error says that there is none, and then the association has ended, unless the peer
// had not accepted the object's SOP class and transfer syntax in the first place.
func (c *Client) Store(ctx context.Context, meta dicom.FileMeta, body io.Reader) (Status, error) {
	pc, ok := c.context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
	if !ok {
		return Status{}, fmt.Errorf("%v: %w: SOP class %s in transfer syntax %s", c.peer, ErrNotAccepted, meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
	}
	defer c.conn.Watch(ctx)()
	c.id++
	command := encodeCommand(&StoreRequest{MessageID: c.id, AffectedSOPClassUID: meta.MediaStorageSOPClassUID, AffectedSOPInstanceUID: meta.MediaStorageSOPInstanceUID})
	err := c.send(pc.ID, command, body)
	var status Status
	if err == nil {
		status, err = c.response(c.id)
	}
	if err != nil {
		return Status{}, fmt.Errorf("%v: C-STORE of %s: %w", c.peer, meta.MediaStorageSOPInstanceUID, cause(ctx, err))
	}
	return status, nil
}

// ErrNotAccepted says that no presentation context for an object was accepted.
var ErrNotAccepted = errors.New("the peer did not accept")

// sendAhead is how much is laid out before it is written. PDUs of peers that take only short ones share a write.
const sendAhead = 128 << 10

func (c *Client) send(context uint8, command []byte, body io.Reader) (err error) {
	c.buf, err = sendMessage(c.conn, c.buf, context, command, body)
	return err
}

// sendMessage sends a command and the data set behind it. PDUs are filled to the peer's maximum length; the first write holds
// the command and the beginning of the data set. buf is used and returned.
func sendMessage(conn *ul.Conn, buf []byte, context uint8, command []byte, body io.Reader) ([]byte, error) {
	payload := conn.MaxSend()
	b := conn.AppendCommand(buf[:0], context, command)
	// One byte more than a PDU holds is read, to know whether it is the last.
	var ahead [1]byte
	carried := 0
	for last := false; !last; {
		start := len(b) + ul.DataHeaderLen
		b = slices.Grow(b, ul.DataHeaderLen+payload+1)[:start+payload+1]
		copy(b[start:], ahead[:carried])
		n, err := io.ReadFull(body, b[start+carried:])
		n += carried
		switch {
		case err == nil:
			ahead[0], carried = b[start+payload], 1
			n = payload
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			last = true
		default: // half an object must not look like a whole one
			return b, conn.Abort(fmt.Errorf("reading the object: %w", err))
		}
		ul.PutPDVHeader(b[start-ul.DataHeaderLen:], context, last, n)
		b = b[:start+n]
		if last || len(b)+ul.DataHeaderLen+payload > sendAhead {
			if err := conn.SendData(b); err != nil {
				return b, err
			}
			b = b[:0]
		}
	}
	return b, nil
}

// next reads the next command.
func (c *Client) next() (Message, *ul.Context, error) {
	for stray := 0; ; {
		v, err := c.conn.Await()
		switch {
		case errors.Is(err, ul.ErrInterrupted): // the association lives
			return nil, nil, err
		case err != nil:
			return nil, nil, c.ended(err)
		case !v.Command: // a data set nobody announced
			if stray += v.Len + pdvCost; stray > maxStray {
				return nil, nil, c.conn.Abort(errors.New("the peer sends a data set instead of a message"))
			}
			continue
		}
		m, err := readCommand(c.conn, v, &c.reply)
		if err != nil {
			return nil, nil, c.ended(err)
		}
		return m, c.conn.Accepted(v.Context), nil
	}
}

// response waits for the response to message id.
func (c *Client) response(id uint16) (Status, error) {
	for {
		m, pc, err := c.next()
		if err != nil {
			return Status{}, err
		}
		switch m := m.(type) {
		case *StoreResponse:
			if m.MessageIDBeingRespondedTo == id {
				return m.Status, nil
			}
		case *EchoResponse:
			if m.MessageIDBeingRespondedTo == id {
				return m.Status, nil
			}
		case *ActionResponse: // next passes over an Action Reply, which Storage Commitment does not have
			if m.MessageIDBeingRespondedTo == id {
				return m.Status, nil
			}
		case *EventReportResponse:
			if m.MessageIDBeingRespondedTo == id {
				return m.Status, nil
			}
		case *Response: // one with a data set, which the standard does not have here: next passes over it
			if m.MessageIDBeingRespondedTo == id {
				return m.Status, nil
			}
		case *EventReportRequest: // the result of a request of ours, which comes when the peer has it
			if err := c.event(m, pc); err != nil {
				return Status{}, err
			}
			continue
		}
		return Status{}, c.conn.Abort(fmt.Errorf("the peer answered with %T to another message", m))
	}
}

// ended ends an association on which no answer can come any more.
func (c *Client) ended(err error) error {
	if errors.Is(err, ul.ErrReleaseRequested) { // while we wait for an answer; it would be impolite not to release
		_ = c.conn.AcceptRelease()
		return errors.New("the peer released the association instead of answering")
	}
	return c.conn.Abort(err)
}

// Release ends the association in good order and closes the connection.
func (c *Client) Release(ctx context.Context) error {
	defer c.conn.Watch(ctx)()
	if err := c.conn.Release(); err != nil {
		return fmt.Errorf("%v: release: %w", c.peer, cause(ctx, err))
	}
	return nil
}

// Abort ends the association at once and closes the connection. After [Client.Release], or a second time, it does nothing.
func (c *Client) Abort() {
	_ = c.conn.Abort(errors.New("given up"))
	c.conn.Kill() // not waiting for the peer to close
	c.conn.Close()
}
