package dimse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/ul"
)

// scp is a scripted peer that accepts one association for everything and then does as script says.
func scp(t *testing.T, maxPDU uint32, script func(conn *ul.Conn)) Peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		conn, err := ul.Accept(nc, ul.Config{MaxPDU: maxPDU, ARTIM: 20 * time.Second, Idle: 20 * time.Second}, func(rq *ul.AssociateRQ) (*ul.AssociateAC, *ul.RejectedError) {
			return ul.Negotiate(rq, 1, func(_ string, ts []string) (string, ul.Result) { return ts[0], ul.Acceptance }), nil
		})
		if err != nil {
			t.Error(err)
		} else {
			script(conn)
		}
		conn.Close()
	}()
	return Peer{"PEER", l.Addr().String()}
}

// take reads one request with its data set.
func take(t *testing.T, conn *ul.Conn) (Message, []byte) {
	v, err := conn.Await()
	if err != nil {
		return nil, nil
	}
	var buf []byte
	m, err := readCommand(conn, v, &buf)
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	if rq, ok := m.(*StoreRequest); !ok || rq.NoDataSet {
		return m, nil
	}
	data, err := io.ReadAll(&body{conn: conn, context: v.Context, limit: 1 << 30})
	if err != nil {
		t.Error(err)
	}
	return m, data
}

func reply(t *testing.T, conn *ul.Conn, m Message) {
	if err := conn.SendData(conn.AppendCommand(nil, 3, encodeCommand(m))); err != nil {
		t.Error(err)
	}
}

func dial(t *testing.T, p Peer) *Client {
	t.Helper()
	c, err := Dial(context.Background(), p, ctProposal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Abort)
	return c
}

// Objects arrive whole whatever PDU length the peer asks for, and wherever it cuts them.
func TestStoreFillsPDUs(t *testing.T) {
	for _, maxPDU := range []uint32{4096, 16384, 131072} {
		payload := int(maxPDU) - 6
		for _, size := range []int{0, 1, payload - 1, payload, payload + 1, 2 * payload, 200 << 10} {
			t.Run(fmt.Sprintf("%d bytes in PDUs of %d", size, maxPDU), func(t *testing.T) {
				want := bytes.Repeat([]byte("radnode!"), size/8+1)[:size]
				var got []byte
				p := scp(t, maxPDU, func(conn *ul.Conn) {
					m, data := take(t, conn)
					got = data
					reply(t, conn, &StoreResponse{MessageIDBeingRespondedTo: m.(*StoreRequest).MessageID, Status: Status{0xB000, "coerced"}})
					if _, err := conn.Await(); errors.Is(err, ul.ErrReleaseRequested) {
						_ = conn.AcceptRelease()
					}
				})
				c := dial(t, p)
				// A reader that yields little at a time, and its last bytes together with io.EOF.
				status, err := c.Store(context.Background(), ctMeta("1.2.3"), &lazy{b: want})
				if err != nil || status != (Status{0xB000, "coerced"}) {
					t.Errorf("%v, %v", status, err)
				}
				if err := c.Release(context.Background()); err != nil {
					t.Error(err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%d bytes arrived of %d", len(got), len(want))
				}
			})
		}
	}
}

type lazy struct{ b []byte }

func (l *lazy) Read(p []byte) (int, error) {
	n := copy(p[:min(len(p), 1000)], l.b)
	if l.b = l.b[n:]; len(l.b) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func TestStoreNotAccepted(t *testing.T) {
	p := scp(t, 0, func(conn *ul.Conn) { _, _ = take(t, conn) })
	c := dial(t, p)
	if c.Accepted(dicom.CTImageStorage, dicom.ImplicitVRLittleEndian) || !c.Accepted(dicom.CTImageStorage, dicom.ExplicitVRLittleEndian) {
		t.Error("accepted is not what was proposed")
	}
	meta := ctMeta("1.2.3")
	meta.TransferSyntaxUID = dicom.ImplicitVRLittleEndian
	if _, err := c.Store(context.Background(), meta, strings.NewReader("x")); !errors.Is(err, ErrNotAccepted) {
		t.Error(err)
	}
}

func TestPeerMisbehaves(t *testing.T) {
	for name, c := range map[string]struct {
		script func(t *testing.T, conn *ul.Conn)
		want   string
	}{
		"aborts": {func(t *testing.T, conn *ul.Conn) { _, _ = take(t, conn); _ = conn.Abort(errors.New("x")) }, "aborted by the peer's application"},
		"closes": {func(t *testing.T, conn *ul.Conn) { _, _ = take(t, conn); conn.Kill() }, "closed the connection"},
		"answers another message": {func(t *testing.T, conn *ul.Conn) {
			_, _ = take(t, conn)
			reply(t, conn, &StoreResponse{MessageIDBeingRespondedTo: 99})
			_, _ = conn.Await()
		}, "another message"},
		"releases": {func(t *testing.T, conn *ul.Conn) { _, _ = take(t, conn); _ = conn.Release() }, "released the association instead"},
		"answers nonsense": {func(t *testing.T, conn *ul.Conn) {
			_, _ = take(t, conn)
			_ = conn.SendData(conn.AppendCommand(nil, 3, []byte("nonsense")))
			_, _ = conn.Await()
		}, "not of the command group"},
	} {
		t.Run(name, func(t *testing.T) {
			client := dial(t, scp(t, 0, func(conn *ul.Conn) { c.script(t, conn) }))
			_, err := client.Store(context.Background(), ctMeta("1.2.3"), strings.NewReader("data"))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want it to say %q", err, c.want)
			}
			if _, err := client.Store(context.Background(), ctMeta("1.2.4"), strings.NewReader("data")); err == nil {
				t.Error("the association lives")
			}
		})
	}
}

// Half an object must not look like a whole one.
func TestStoreReaderFails(t *testing.T) {
	seen := make(chan error, 1)
	p := scp(t, 4096, func(conn *ul.Conn) {
		v, err := conn.Await()
		for err == nil {
			if v.Last && !v.Command {
				err = errors.New("the object ended")
				break
			}
			v, err = conn.Next()
		}
		seen <- err
	})
	c := dial(t, p)
	failure := errors.New("disk gone")
	_, err := c.Store(context.Background(), ctMeta("1.2.3"), io.MultiReader(bytes.NewReader(make([]byte, 10000)), &failing{failure}))
	if !errors.Is(err, failure) {
		t.Error(err)
	}
	var abort *AbortError
	if err := <-seen; !errors.As(err, &abort) {
		t.Errorf("the peer saw %v", err)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// A peer that does not answer keeps nobody longer than the context.
func TestClientDeadlines(t *testing.T) {
	stop := make(chan struct{})
	p := scp(t, 0, func(*ul.Conn) { <-stop })
	c := dial(t, p)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Store(ctx, ctMeta("1.2.3"), io.LimitReader(pattern{}, 64<<20))
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	close(stop)

	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel and never says a word
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if _, err := Dial(context.Background(), Peer{"X", l.Addr().String()}, DialOptions{Timeout: 50 * time.Millisecond}); err == nil {
		t.Error("an association with nobody")
	}
}

func TestDialRefused(t *testing.T) {
	addr, _, _ := serve(t, &Server{Storage: &memory{}, AcceptCalled: []string{"RADNODE"}})
	_, err := Dial(context.Background(), Peer{"WRONG", addr}, DialOptions{})
	var refusal *RejectedError
	if !errors.As(err, &refusal) || !strings.Contains(err.Error(), "called AE title not recognised") || !strings.Contains(err.Error(), "WRONG@127.0.0.1") {
		t.Error(err)
	}
	if _, err := Dial(context.Background(), Peer{"A\\B", addr}, DialOptions{}); err == nil {
		t.Error("an AE title with a backslash was sent")
	}
	c, err := Dial(context.Background(), Peer{"RADNODE", addr}, DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Echo(context.Background()); err != nil {
		t.Error(err)
	}
	if err := c.Release(context.Background()); err != nil {
		t.Error(err)
	}
	if err := c.Echo(context.Background()); err == nil {
		t.Error("C-ECHO after the release")
	}
	c.Abort() // does nothing
}

func TestContexts(t *testing.T) {
	syntaxes := []string{"1.1", "1.2", "1.1"}
	var proposals []Proposal
	for i := range 64 {
		proposals = append(proposals, Proposal{fmt.Sprintf("2.%d", i), syntaxes})
	}
	all, err := contexts(append(proposals, proposals...)) // repetitions count once
	if err != nil || len(all) != 128 || all[127].ID != 255 || len(all[127].TransferSyntaxes) != 1 {
		t.Errorf("%d contexts, %v", len(all), err)
	}
	proposals = append(proposals, Proposal{"3", syntaxes})
	if all, err = contexts(proposals); err != nil || len(all) != 65 || len(all[0].TransferSyntaxes) != 2 {
		t.Errorf("%d contexts, %v", len(all), err)
	}
	for i := range 64 {
		proposals = append(proposals, Proposal{fmt.Sprintf("4.%d", i), syntaxes})
	}
	if _, err = contexts(proposals); err == nil {
		t.Error("129 SOP classes in one association")
	}
	if all, err = contexts(nil); err != nil || len(all) != 1 || all[0].AbstractSyntax != dicom.VerificationSOPClass {
		t.Errorf("%v, %v", all, err)
	}
}
