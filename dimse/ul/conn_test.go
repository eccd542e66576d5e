package ul

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	verification = "1.2.840.10008.1.1"
	implicitVR   = "1.2.840.10008.1.2"
)

// acceptAll accepts every context with its first transfer syntax.
func acceptAll(rq *AssociateRQ) (*AssociateAC, *RejectedError) {
	return Negotiate(rq, 8, func(_ string, ts []string) (string, Result) { return ts[0], Acceptance }), nil
}

// patient has time enough for a slow machine; tests that wait for a timer set their own.
var patient = Config{ARTIM: 20 * time.Second, Idle: 20 * time.Second, PDU: 20 * time.Second, Message: 20 * time.Second}

// accept runs our side of one connection: Accept, then all messages until the association ends. Its error goes to ended.
func accept(t testing.TB, cfg Config) (peer net.Conn, ended <-chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		nc, err := l.Accept()
		_ = l.Close()
		if err != nil {
			result <- err
			return
		}
		result <- exhaust(Accept(nc, cfg, acceptAll))
	}()
	peer, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		_ = l.Close()
		t.Fatal(err)
	}
	if err := peer.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() })
	return peer, result
}

// exhaust reads all that comes, answers a release, and says how the association ended; nil is a release.
func exhaust(c *Conn, err error) error {
	defer c.Close()
	for err == nil {
		if _, err = c.Await(); err == nil {
			for err == nil {
				_, err = c.Peek()
				c.Discard(c.pdvInBuffer())
			}
			if err == io.EOF {
				err = nil
			}
		}
	}
	if errors.Is(err, ErrReleaseRequested) {
		return c.AcceptRelease()
	}
	return c.Abort(err)
}

// pdvInBuffer is how much Peek would return.
func (c *Conn) pdvInBuffer() int { return min(c.w-c.r, c.pdv) }

func send(t testing.TB, nc net.Conn, pdus ...[]byte) {
	t.Helper()
	if _, err := nc.Write(bytes.Join(pdus, nil)); err != nil {
		t.Fatal(err)
	}
}

// expect reads one PDU and compares it; wanting nil, it wants the end of the connection.
func expect(t testing.TB, nc net.Conn, want []byte) {
	t.Helper()
	if want == nil {
		if n, err := io.Copy(io.Discard, nc); n != 0 || err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%d bytes, then %v, want the connection closed", n, err)
		}
		return
	}
	if got := readPDU(t, nc); !bytes.Equal(got, want) {
		t.Errorf("PDU % x, want % x", got, want)
	}
}

func readPDU(t testing.TB, nc net.Conn) []byte {
	t.Helper()
	b := make([]byte, headerLen)
	if _, err := io.ReadFull(nc, b); err != nil {
		t.Fatalf("reading a PDU: %v", err)
	}
	b = append(b, make([]byte, binary.BigEndian.Uint32(b[2:]))...)
	if _, err := io.ReadFull(nc, b[headerLen:]); err != nil {
		t.Fatalf("reading a PDU of %d bytes: %v", len(b), err)
	}
	return b
}

// associate sends echoRQ and reads the answer.
func associate(t testing.TB, nc net.Conn) *AssociateAC {
	t.Helper()
	send(t, nc, echoRQ)
	b := readPDU(t, nc)
	if b[0] != typeAssociateAC {
		t.Fatalf("answer % x, want an A-ASSOCIATE-AC", b)
	}
	ac, err := decodeAssociateAC(b[headerLen:])
	if err != nil {
		t.Fatal(err)
	}
	return ac
}

// PDUs as they travel.
var (
	releaseRQ = []byte{5, 0, 0, 0, 0, 4, 0, 0, 0, 0}
	releaseRP = []byte{6, 0, 0, 0, 0, 4, 0, 0, 0, 0}
	userAbort = []byte{7, 0, 0, 0, 0, 4, 0, 0, 0, 0}
	// A-ABORT by the provider, PS3.8 Table 9-26.
	abortUnrecognized = []byte{7, 0, 0, 0, 0, 4, 0, 0, 2, 1}
	abortUnexpected   = []byte{7, 0, 0, 0, 0, 4, 0, 0, 2, 2}
	abortInvalid      = []byte{7, 0, 0, 0, 0, 4, 0, 0, 2, 6}
	rejected          = []byte{3, 0, 0, 0, 0, 4, 0, 1, 1, 1}
	// A command fragment of two bytes on context 1, the last.
	data = []byte{4, 0, 0, 0, 0, 8, 0, 0, 0, 4, 1, 3, 'h', 'i'}
)

// What is wrong before there is an association: AA-1, whose A-ABORT has the service user as its source.
func TestHostileBeforeAssociation(t *testing.T) {
	for name, bytes := range map[string][]byte{
		"length FFFFFFFF":             {1, 0, 0xff, 0xff, 0xff, 0xff},
		"length 7FFFFFFF":             {1, 0, 0x7f, 0xff, 0xff, 0xff},
		"length 0":                    {1, 0, 0, 0, 0, 0},
		"length 3":                    {1, 0, 0, 0, 0, 3, 1, 2, 3},
		"A-ASSOCIATE-RQ over the cap": {1, 0, 0, 0x08, 0, 1},
		"unknown PDU":                 {9, 0, 0, 0, 0, 0},
		"P-DATA before the request":   data,
		"release before the request":  releaseRQ,
		"RP before the request":       releaseRP,
		"AC before the request":       {2, 0, 0, 0, 0, 4, 0, 0, 0, 0},
		"RJ before the request":       rejected,
		"context ID even":             mutate(t, "\x20\x00\x00\x2e\x01", "\x20\x00\x00\x2e\x02"),
	} {
		t.Run(name, func(t *testing.T) {
			peer, ended := accept(t, patient)
			send(t, peer, bytes)
			expect(t, peer, userAbort)
			_ = peer.Close()
			var abort *AbortError
			if err := <-ended; !errors.As(err, &abort) || !abort.Local {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// What is wrong on an association: AA-8, whose A-ABORT has the service provider as its source, and a reason.
func TestHostileOnAssociation(t *testing.T) {
	for name, c := range map[string]struct{ send, want []byte }{
		"second A-ASSOCIATE-RQ":          {echoRQ, abortUnexpected},
		"A-ASSOCIATE-AC":                 {[]byte{2, 0, 0, 0, 0, 4, 0, 0, 0, 0}, abortUnexpected},
		"A-ASSOCIATE-RJ":                 {rejected, abortUnexpected},
		"A-RELEASE-RP":                   {releaseRP, abortUnexpected},
		"unknown PDU":                    {[]byte{0x42, 0, 0, 0, 0, 0}, abortUnrecognized},
		"P-DATA of FFFFFFFF bytes":       {[]byte{4, 0, 0xff, 0xff, 0xff, 0xff}, abortInvalid},
		"P-DATA longer than advertised":  {[]byte{4, 0, 0, 2, 0, 1}, abortInvalid},
		"P-DATA of 0 bytes":              {[]byte{4, 0, 0, 0, 0, 0}, abortInvalid},
		"P-DATA of 3 bytes":              {[]byte{4, 0, 0, 0, 0, 3, 0, 0, 0}, abortInvalid},
		"PDV of 0 bytes":                 {[]byte{4, 0, 0, 0, 0, 6, 0, 0, 0, 0, 1, 3}, abortInvalid},
		"PDV of 1 byte":                  {[]byte{4, 0, 0, 0, 0, 6, 0, 0, 0, 1, 1, 3}, abortInvalid},
		"PDV longer than its PDU":        {[]byte{4, 0, 0, 0, 0, 8, 0, 0, 0, 5, 1, 3, 0, 0}, abortInvalid},
		"PDV of FFFFFFFF bytes":          {[]byte{4, 0, 0, 0, 0, 8, 0xff, 0xff, 0xff, 0xff, 1, 3, 0, 0}, abortInvalid},
		"PDV on a context not accepted":  {[]byte{4, 0, 0, 0, 0, 8, 0, 0, 0, 4, 3, 3, 0, 0}, abortInvalid},
		"A-RELEASE-RQ of 3 bytes":        {[]byte{5, 0, 0, 0, 0, 3, 0, 0, 0}, abortInvalid},
		"A-ABORT of 7FFFFFFF bytes":      {[]byte{7, 0, 0x7f, 0xff, 0xff, 0xff}, abortInvalid},
		"second PDV, one byte too short": {[]byte{4, 0, 0, 0, 0, 13, 0, 0, 0, 4, 1, 3, 0, 0, 0, 0, 0, 4, 1}, abortInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			peer, ended := accept(t, patient)
			associate(t, peer)
			send(t, peer, data, c.send)
			expect(t, peer, c.want)
			_ = peer.Close()
			var abort *AbortError
			if err := <-ended; !errors.As(err, &abort) || !abort.Local {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

func TestForeignProtocols(t *testing.T) {
	for protocol, hello := range map[string]string{
		"HTTP": "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"HL7 (MLLP)": "\x0bMSH|^~\\&|", "SSH": "SSH-2.0-OpenSSH_9.6\r\n", "SMTP": "EHLO x\r\n",
		"PROXY (of a load balancer)": "\r\n\r\n\x00\r\nQUIT\n\x21\x11",
	} {
		t.Run(protocol, func(t *testing.T) {
			peer, ended := accept(t, patient)
			send(t, peer, []byte(hello))
			expect(t, peer, nil) // at once: patient's ARTIM is as long as this test's own patience
			var foreign *ForeignError
			if err := <-ended; !errors.As(err, &foreign) || foreign.Protocol != protocol {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct{ rq, want []byte }{
		"protocol version 2":         {mutate(t, "\x00\x01\x00\x00ANY", "\x00\x02\x00\x00ANY"), []byte{3, 0, 0, 0, 0, 4, 0, 1, 2, 2}},
		"another application":        {mutate(t, ApplicationContext, "1.2.840.10008.3.1.1.2"), []byte{3, 0, 0, 0, 0, 4, 0, 1, 1, 2}},
		"maximum length 1":           {mutate(t, "\x00\x00\x40\x00", "\x00\x00\x00\x01"), rejected},
		"maximum length 7":           {mutate(t, "\x00\x00\x40\x00", "\x00\x00\x00\x07"), rejected},
		"versions 1 and 2, accepted": {mutate(t, "\x00\x01\x00\x00ANY", "\x00\x03\x00\x00ANY"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			peer, ended := accept(t, patient)
			send(t, peer, c.rq)
			if c.want == nil {
				if b := readPDU(t, peer); b[0] != typeAssociateAC {
					t.Errorf("answer % x", b)
				}
			} else {
				expect(t, peer, c.want)
			}
			_ = peer.Close()
			var refusal *RejectedError
			if err := <-ended; errors.As(err, &refusal) != (c.want != nil) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// No limit is our limit; a short one is kept to.
func TestPeerMaxLength(t *testing.T) {
	for announced, want := range map[uint32]int{0: DefaultMaxPDU, 8: 8, 9: 9, 4096: 4096, 0xffffffff: DefaultMaxPDU} {
		c := &Conn{cfg: Config{}.withDefaults(), buf: make([]byte, smallBuffer)}
		c.establish(announced)
		command := make([]byte, 201)
		var got []byte
		for b := c.AppendCommand(nil, 1, command); len(b) > 0; {
			n := int(binary.BigEndian.Uint32(b[2:]))
			if n > want {
				t.Fatalf("announced %d: a PDU of %d bytes", announced, n)
			}
			got = append(got, b[DataHeaderLen:headerLen+n]...)
			if last := b[11]&controlLast != 0; last != (len(got) == len(command)) {
				t.Fatalf("announced %d: last %v after %d of %d bytes", announced, last, len(got), len(command))
			}
			b = b[headerLen+n:]
		}
		if len(got) != len(command) || c.MaxSend()+pdvHeaderLen > want || c.MaxSend() < 2 {
			t.Errorf("announced %d: payload %d, %d bytes sent of %d", announced, c.MaxSend(), len(got), len(command))
		}
	}
}

func TestNegotiate(t *testing.T) {
	rq := &AssociateRQ{
		Contexts: []ProposedContext{{1, "1.1", []string{"9.1", "9.2"}}, {3, "", []string{"9.1"}}, {5, "1.2", nil}, {7, "1.3", []string{"9.9"}}, {9, "1.4", []string{"9.1"}}},
		User:     UserInformation{Roles: []Role{{"1.1", true, true}, {"1.4", true, true}}},
	}
	ac := Negotiate(rq, 8, func(abstract string, ts []string) (string, Result) {
		switch {
		case abstract == "1.4":
			return "", AbstractSyntaxNotSupported
		case ts[0] == "9.9":
			return "", TransferSyntaxesNotSupported
		}
		return ts[len(ts)-1], Acceptance
	})
	var results []Result
	for _, c := range ac.Contexts {
		results = append(results, c.Result)
	}
	want := []Result{Acceptance, AbstractSyntaxNotSupported, TransferSyntaxesNotSupported, TransferSyntaxesNotSupported, AbstractSyntaxNotSupported}
	if len(results) != 5 || [5]Result(results) != [5]Result(want) || ac.Contexts[0].TransferSyntax != "9.2" {
		t.Errorf("contexts %+v", ac.Contexts)
	}
	if len(ac.User.Roles) != 1 || ac.User.Roles[0] != (Role{"1.1", true, false}) {
		t.Errorf("roles %+v, want SCU alone for the accepted class", ac.User.Roles)
	}
	if ac.User.Window != nil {
		t.Error("a window was answered that nobody proposed")
	}
	for proposed, want := range map[AsyncWindow]AsyncWindow{{0, 0}: {8, 1}, {1, 1}: {1, 1}, {65535, 65535}: {8, 1}, {5, 3}: {5, 1}} {
		if got := Negotiate(&AssociateRQ{User: UserInformation{Window: &proposed}}, 8, nil).User.Window; *got != want {
			t.Errorf("window %v answered with %v, want %v", proposed, *got, want)
		}
	}
}

// A connection that says nothing, or not enough, is closed when the ARTIM timer runs out.
func TestARTIM(t *testing.T) {
	for name, said := range map[string][]byte{"nothing": nil, "half a header": {1, 0, 0}, "half a request": echoRQ[:100]} {
		t.Run(name, func(t *testing.T) {
			cfg := patient
			cfg.ARTIM = 50 * time.Millisecond
			peer, ended := accept(t, cfg)
			send(t, peer, said)
			expect(t, peer, nil)
			if err := <-ended; !errors.Is(err, ErrARTIM) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// After an A-ABORT the peer has until the ARTIM timer to close.
func TestARTIMAfterAbort(t *testing.T) {
	cfg := patient
	cfg.ARTIM = 50 * time.Millisecond
	peer, ended := accept(t, cfg)
	send(t, peer, []byte{1, 0, 0xff, 0xff, 0xff, 0xff})
	expect(t, peer, userAbort)
	expect(t, peer, nil)
	<-ended
}

func TestDeadlines(t *testing.T) {
	const short = 50 * time.Millisecond
	long := patient
	long.ARTIM = time.Second
	for name, c := range map[string]struct {
		set  func(*Config)
		send []byte
		want error
	}{
		"silence between messages":  {func(c *Config) { c.Idle = short }, nil, ErrIdle},
		"silence inside a PDU":      {func(c *Config) { c.Idle = short }, data[:9], ErrIdle},
		"a PDU that lasts too long": {func(c *Config) { c.PDU = short }, data[:9], ErrTooSlow},
		"an endless association":    {func(c *Config) { c.Total = short }, nil, ErrTooSlow},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := long
			c.set(&cfg)
			peer, ended := accept(t, cfg)
			associate(t, peer)
			send(t, peer, c.send)
			expect(t, peer, userAbort)
			_ = peer.Close()
			if err := <-ended; !errors.Is(err, c.want) {
				t.Errorf("ended with %v, want %v", err, c.want)
			}
		})
	}
}

func TestReleaseByPeer(t *testing.T) {
	peer, ended := accept(t, patient)
	ac := associate(t, peer)
	if ac.User.MaxLength != DefaultMaxPDU || len(ac.Contexts) != 1 || ac.Contexts[0] != (ContextResult{1, Acceptance, implicitVR}) || ac.Calling.String() != "ECHOSCU" {
		t.Errorf("%+v", ac)
	}
	send(t, peer, data, releaseRQ)
	expect(t, peer, releaseRP)
	_ = peer.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestAbortByPeer(t *testing.T) {
	peer, ended := accept(t, patient)
	associate(t, peer)
	send(t, peer, abortInvalid)
	expect(t, peer, nil)
	var abort *AbortError
	if err := <-ended; !errors.As(err, &abort) || abort.Local || abort.Source != AbortProvider || abort.Reason != ReasonInvalidParam {
		t.Errorf("ended with %v", err)
	}
}

// pair is an association between two Conns.
func pair(t *testing.T) (requestor, acceptor *Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var wg sync.WaitGroup
	wg.Go(func() {
		nc, err := l.Accept()
		if err == nil {
			acceptor, err = Accept(nc, patient, acceptAll)
		}
		if err != nil {
			t.Error(err)
		}
	})
	rq := &AssociateRQ{Called: title(t, "B"), Calling: title(t, "A"), Contexts: []ProposedContext{{1, verification, []string{implicitVR}}}}
	requestor, err = Dial(context.Background(), l.Addr().String(), rq, patient)
	wg.Wait()
	if err != nil || t.Failed() {
		t.Fatal(err)
	}
	return requestor, acceptor
}

// Both sides request the release at the same time, PS3.8 7.2.2.7: Sta9 and Sta11 here, Sta10 and Sta12 there.
func TestReleaseCollision(t *testing.T) {
	requestor, acceptor := pair(t)
	if got := requestor.Contexts(); len(got) != 1 || got[0] != (Context{1, verification, implicitVR}) {
		t.Errorf("contexts %v", got)
	}
	// Each has sent its request before either reads: the requests are in the buffers of the transport.
	for _, c := range []*Conn{requestor, acceptor} {
		if err := c.step(evtReleaseRequest, releaseRQ); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	for _, c := range []*Conn{requestor, acceptor} {
		wg.Go(func() {
			defer c.Close()
			if err := c.finishRelease(); err != nil {
				t.Errorf("requestor %v: %v", c.requestor, err)
			}
		})
	}
	wg.Wait()
}

func TestInterrupt(t *testing.T) {
	requestor, acceptor := pair(t)
	defer requestor.Close()
	defer acceptor.Close()
	// Inside a message, an interruption changes nothing.
	send(t, requestor.nc, data[:13])
	if v, err := acceptor.Await(); err != nil || v != (PDV{1, true, true, 2}) {
		t.Fatalf("%+v, %v", v, err)
	}
	acceptor.Interrupt()
	send(t, requestor.nc, data[13:])
	if got, err := io.ReadAll(acceptor); err != nil || string(got) != "hi" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := acceptor.Await(); !errors.Is(err, ErrInterrupted) {
		t.Errorf("Await: %v", err)
	}
	if err := acceptor.Abort(ErrInterrupted); !errors.Is(err, ErrInterrupted) {
		t.Error(err)
	}
	var abort *AbortError
	if _, err := requestor.Await(); !errors.As(err, &abort) || abort.Local {
		t.Errorf("the other side: %v", err)
	}
}

// The time that our side takes over half a PDU does not count against the peer.
// A layer of encryption may have to write where we read. What is left of the deadline of our last write is not its own.
func TestLayeredDeadlines(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	result := make(chan error, 1)
	wrote := make(chan error, 10)
	cfg := patient
	cfg.PDU = 50 * time.Millisecond
	go func() {
		nc, err := l.Accept()
		if err != nil {
			result <- err
			return
		}
		result <- exhaust(Accept(layer{nc, wrote}, cfg, acceptAll))
	}()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	_ = peer.SetDeadline(time.Now().Add(20 * time.Second))
	associate(t, peer)
	time.Sleep(2 * cfg.PDU)
	send(t, peer, abortUnrecognized)
	<-result
	close(wrote)
	for err := range wrote {
		if err != nil {
			t.Error(err)
		}
	}
}

// A layer writes for itself whenever something was read.
type layer struct {
	net.Conn
	wrote chan<- error
}

func (l layer) NetConn() net.Conn { return l.Conn }

func (l layer) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if err == nil {
		_, err := l.Conn.Write(nil)
		l.wrote <- err
	}
	return n, err
}

func TestSlowReader(t *testing.T) {
	requestor, acceptor := pair(t)
	defer requestor.Close()
	defer acceptor.Close()
	acceptor.cfg.PDU = 50 * time.Millisecond
	send(t, requestor.nc, data[:13])
	if _, err := acceptor.Await(); err != nil {
		t.Fatal(err)
	}
	if _, err := acceptor.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	send(t, requestor.nc, data[13:])
	time.Sleep(2 * acceptor.cfg.PDU) // a slow disk
	if got, err := io.ReadAll(acceptor); err != nil || string(got) != "i" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestKill(t *testing.T) {
	requestor, acceptor := pair(t)
	defer acceptor.Close()
	defer requestor.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer requestor.Watch(ctx)()
	cancel()
	if _, err := requestor.Await(); !errors.Is(err, errKilled) {
		t.Errorf("Await: %v", err)
	}
}

// request runs our side as a requestor against a scripted peer.
func request(t *testing.T, script func(peer net.Conn)) (*Conn, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	done := make(chan struct{})
	t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		peer, err := l.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = peer.Close() }()
		_ = peer.SetDeadline(time.Now().Add(20 * time.Second))
		if b := readPDU(t, peer); b[0] != typeAssociateRQ {
			t.Errorf("% x", b)
		}
		script(peer)
	}()
	rq := &AssociateRQ{Called: title(t, "B"), Calling: title(t, "A"), Contexts: []ProposedContext{{1, verification, []string{implicitVR}}}}
	return Dial(context.Background(), l.Addr().String(), rq, patient)
}

func TestRequestRefused(t *testing.T) {
	_, err := request(t, func(peer net.Conn) { send(t, peer, []byte{3, 0, 0, 0, 0, 4, 0, 2, 3, 2}) })
	var refusal *RejectedError
	if !errors.As(err, &refusal) || *refusal != RejectLocalLimitExceeded {
		t.Errorf("%v", err)
	}
}

func TestRequestAnsweredOddly(t *testing.T) {
	tiny := (&AssociateAC{ProtocolVersion: 1, User: UserInformation{MaxLength: 7}}).AppendTo(nil)
	for name, c := range map[string]struct{ answer, want []byte }{
		"A-ABORT":          {abortUnexpected, nil},
		"nothing":          {nil, nil},
		"P-DATA":           {data, abortUnexpected},
		"A-ASSOCIATE-RQ":   {echoRQ, abortUnexpected},
		"A-RELEASE-RQ":     {releaseRQ, abortUnexpected},
		"AC of FFFFFFFF":   {[]byte{2, 0, 0xff, 0xff, 0xff, 0xff}, abortInvalid},
		"AC of 3":          {[]byte{2, 0, 0, 0, 0, 3, 1, 2, 3}, abortInvalid},
		"maximum length 7": {tiny, userAbort},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := request(t, func(peer net.Conn) {
				send(t, peer, c.answer)
				if c.want != nil {
					expect(t, peer, c.want)
				}
			})
			if err == nil {
				conn.Close()
				t.Error("an association came about")
			}
		})
	}
}

// Our A-ABORT inside a PDU of the peer: the rest of the PDU is passed over, and what follows it is read as PDUs. Bytes of data in
// the place of a PDU type would be answered by another A-ABORT (AA-7).
func TestAbortInsideData(t *testing.T) {
	requestor, acceptor := pair(t)
	defer requestor.Close()
	send(t, requestor.nc, data, userAbort)
	if _, err := acceptor.Await(); err != nil {
		t.Fatal(err)
	}
	_ = acceptor.Abort(errors.New("enough"))
	acceptor.Close()
	if _, sent := acceptor.Bytes(); sent != int64(len(acceptor.Response.AppendTo(nil))+len(userAbort)) {
		t.Errorf("%d bytes sent, want the A-ASSOCIATE-AC and one A-ABORT", sent)
	}
}

// Requests that are large and do not end are read a few at a time; small ones always.
func TestLargeRequests(t *testing.T) {
	var waiting []net.Conn
	large := func() net.Conn {
		peer, _ := accept(t, patient)
		send(t, peer, []byte{1, 0, 0, 4, 0, 0}, make([]byte, 1000))
		return peer
	}
	for range cap(largeAssociates) {
		waiting = append(waiting, large())
	}
	for deadline := time.Now().Add(20 * time.Second); len(largeAssociates) < cap(largeAssociates); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d large requests are being read", len(largeAssociates))
		}
	}
	expect(t, large(), userAbort)
	small, _ := accept(t, patient)
	associate(t, small)
	for _, nc := range waiting {
		_ = nc.Close()
	}
	for deadline := time.Now().Add(20 * time.Second); len(largeAssociates) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d large requests are still being read", len(largeAssociates))
		}
	}
}

// A small request cannot make us remember much.
func TestManyItems(t *testing.T) {
	user := func(item string, n int) []byte {
		items := strings.Repeat(item, n)
		return mutate(t, "\x50\x00\x00\x3a", "\x50\x00"+string([]byte{byte((len(items) + 0x3a) >> 8), byte(len(items) + 0x3a)})+items)
	}
	for name, c := range map[string]struct {
		pdu  []byte
		good bool
	}{
		"1024 roles":                   {user("\x54\x00\x00\x04\x00\x00\x01\x01", maxSubItems), true},
		"1025 roles":                   {user("\x54\x00\x00\x04\x00\x00\x01\x01", maxSubItems+1), false},
		"1025 extended":                {user("\x56\x00\x00\x02\x00\x00", maxSubItems+1), false},
		"1025 related classes":         {user("\x57\x00\x08\x08\x00\x00\x00\x00\x08\x02"+strings.Repeat("\x00\x00", maxSubItems+1), 1), false},
		"10,000 implementation names":  {user("\x55\x00\x00\x00", 10_000), true},
		"10,000 items of unknown type": {user("\x77\x00\x00\x00", 10_000), true},
	} {
		if _, err := decodeAssociateRQ(c.pdu[headerLen:]); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	var rq AssociateRQ
	for i := range 2 {
		rq.Contexts = append(rq.Contexts, ProposedContext{ID: uint8(2*i + 1), TransferSyntaxes: make([]string, maxSyntaxes/2)})
	}
	if _, err := decodeAssociateRQ(rq.AppendTo(nil)[headerLen:]); err != nil {
		t.Error(err)
	}
	rq.Contexts[1].TransferSyntaxes = make([]string, maxSyntaxes/2+1)
	if _, err := decodeAssociateRQ(rq.AppendTo(nil)[headerLen:]); !errors.Is(err, errMalformed) {
		t.Errorf("%d transfer syntaxes: %v", maxSyntaxes+1, err)
	}
}

// Whatever waits for a peer has an end, and waits no longer for a request than PS3.8 and the design allow.
func TestDefaultLimits(t *testing.T) {
	c := Config{}.withDefaults()
	if c.ARTIM > 30*time.Second || c.PDU > time.Minute || c.Idle > 10*time.Minute || c.Message > time.Hour || c.Total > 24*time.Hour || c.MaxAssociate > 512<<10 || c.MaxPDU > 128<<10 {
		t.Errorf("%+v", c)
	}
}

// script is a net.Conn that yields bytes and then the end.
type script struct {
	bytes.Reader
	net.Conn
}

func (s *script) Read(p []byte) (int, error)       { return s.Reader.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return len(p), nil }
func (s *script) Close() error                     { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// Whatever a peer sends, in either role, the association ends without a panic.
func FuzzPDU(f *testing.F) {
	f.Add(bytes.Join([][]byte{echoRQ, data, releaseRQ}, nil), true)
	f.Add(bytes.Join([][]byte{echoRQ, data, echoRQ, data}, nil), true)
	f.Add([]byte{1, 0, 0xff, 0xff, 0xff, 0xff}, true)
	f.Add(bytes.Join([][]byte{(&AssociateAC{ProtocolVersion: 1, Contexts: []ContextResult{{1, Acceptance, implicitVR}}}).AppendTo(nil), data, releaseRP}, nil), false)
	f.Fuzz(func(t *testing.T, b []byte, acceptor bool) {
		nc := &script{}
		nc.Reset(b)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		defer func() {
			runtime.ReadMemStats(&after)
			// Two buffers, and what items are remembered as: at most 16 bytes and an allocation of 8 for each of 4.
			if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+16*len(b)); got > limit {
				t.Errorf("%d bytes of memory for %d bytes", got, len(b))
			}
		}()
		if acceptor {
			_ = exhaust(Accept(nc, Config{}, acceptAll))
			return
		}
		rq := &AssociateRQ{Contexts: []ProposedContext{{1, verification, []string{implicitVR}}}}
		if c, err := Request(context.Background(), nc, rq, Config{}); err == nil {
			_ = exhaust(c, nil)
		}
	})
}
