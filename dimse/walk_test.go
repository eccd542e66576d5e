package dimse

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/csv"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/ul"
)

// A walk is a peer's programme: what it sends, one PDU after the other, along PS3.8 Table 9-10 or off it. The model says by that
// table, as pynetdicom has it, and by PS3.7 what the whole server must answer to it.
type walk struct {
	sent   [][]byte
	events []int  // the event of Table 9-10 that each PDU is for the acceptor
	want   []byte // types of the PDUs that come back, with the message IDs of responses between them
	again  int    // A-ABORTs that may come behind them: AA-7, unless bytes are not taken for PDUs any more or we close before
	stored int    // objects that are kept
}

// A model is the acceptor as the two standards have it.
type model struct {
	table   map[int][]string
	state   int // 2 before the request, 6 associated, 13 waiting for the close
	expects expectation
	command []byte // fragments of a command
	context byte
	stray   int
	id      byte // of the C-STORE-RQ whose data set is awaited
	uid     bool // it names a UID
	walk
}

type expectation uint8

const (
	aCommand expectation = iota // the next message, or a data set that nobody announced
	moreCommand
	aDataSet
)

// Events of PS3.8 Table 9-10, by their numbers.
const (
	seenAC, seenRJ, seenRQ, seenData                     = 3, 4, 6, 10
	seenReleaseRQ, seenReleaseRP, seenAbort, seenInvalid = 12, 13, 16, 19
)

func stateTable(t testing.TB) map[int][]string {
	t.Helper()
	f, err := os.Open("ul/testdata/table-9-10.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comment = '#'
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	table := map[int][]string{}
	for _, row := range rows {
		e, err := strconv.Atoi(row[0])
		if err != nil {
			t.Fatal(err)
		}
		table[e] = row
	}
	return table
}

// abort is what AA-1 and AA-8 do.
func (m *model) abort() {
	m.want, m.state = append(m.want, 7), 13
}

// take lets the acceptor receive a PDU that is this event; data, for P-DATA, is what it does in Sta6.
func (m *model) take(pdu []byte, event int, data func()) {
	m.sent, m.events = append(m.sent, pdu), append(m.events, event)
	switch action := m.table[event][m.state]; action {
	case "AE-6": // and AE-7: the request of this test is always acceptable
		m.want, m.state = append(m.want, 2), 6
	case "DT-2":
		data()
	case "AR-2": // and AR-4
		m.want, m.state = append(m.want, 6), 13
	case "AA-1", "AA-8":
		m.abort()
	case "AA-2", "AA-3": // no answer, the connection is closed
		m.state = 1
	case "AA-6": // ignored
	case "AA-7":
		m.again++
	default:
		panic("event " + strconv.Itoa(event) + " in Sta" + strconv.Itoa(m.state) + ": " + action)
	}
}

var contextsOfWalk = map[byte]bool{1: true, 3: true}

// pdv lets the acceptor receive a fragment.
func (m *model) pdv(context byte, command, last bool, payload []byte) {
	h := make([]byte, ul.DataHeaderLen)
	ul.PutPDVHeader(h, context, last, len(payload))
	if command {
		h[11] |= 1
	}
	m.take(append(h, payload...), seenData, func() {
		switch {
		case !contextsOfWalk[context]:
			m.abort()
		case m.expects == aCommand && !command: // nobody announced it: passed over
			if m.stray += len(payload) + 6; m.stray > maxStray {
				m.abort()
			}
		case m.expects == aCommand:
			m.stray, m.command, m.context = 0, bytes.Clone(payload), context
			m.expects = moreCommand
			if last {
				m.message()
			}
		case m.expects == moreCommand && (!command || context != m.context): // PS3.7 6.3
			m.abort()
		case m.expects == moreCommand:
			if m.command = append(m.command, payload...); len(m.command) > maxCommand {
				m.abort()
			} else if last {
				m.message()
			}
		case command || context != m.context: // inside a data set
			m.abort()
		case last:
			m.expects = aCommand
			m.answer()
			if m.uid {
				m.stored++
			}
		}
	})
}

func (m *model) answer() { m.want = append(m.want, 4, m.id) }

// message is a whole command. The model knows those that the walk sends by their first value, the Message ID, and what follows.
func (m *model) message() {
	m.expects = aCommand
	command, err := decodeCommand(m.command)
	switch c := command.(type) {
	case nil:
		_ = err
		m.abort()
	case *EchoRequest:
		m.id = byte(c.MessageID)
		m.answer()
	case *StoreRequest:
		m.id, m.uid = byte(c.MessageID), m.context == 3 && plausibleUID(c.AffectedSOPInstanceUID)
		if m.expects = aDataSet; c.NoDataSet {
			m.expects = aCommand
			m.answer()
		}
	case *Request:
		m.id, m.uid = byte(c.MessageID), false
		if m.expects = aDataSet; !c.HasDataSet {
			m.expects = aCommand
			m.answer()
		}
	}
}

// short are PDUs of four bytes.
func short(typ byte) []byte { return []byte{typ, 0, 0, 0, 0, 4, 0, 0, 0, 0} }

// step takes one step of the programme: op chooses, arg varies.
func (m *model) step(op, arg byte) {
	full, context := arg&1 == 0, []byte{1, 3, 3, 3, 5, 2, 0, 3}[arg>>1&7]
	switch op % 16 {
	case 0:
		m.take(walkRequest, seenRQ, nil)
	case 1, 2: // C-ECHO, whole or in two fragments
		c := encodeCommand(&EchoRequest{MessageID: uint16(arg), AffectedSOPClassUID: dicom.VerificationSOPClass})
		if full {
			m.pdv(1, true, true, c)
			return
		}
		m.pdv(1, true, false, c[:arg&63])
		m.pdv(1, true, true, c[arg&63:])
	case 3, 4, 5: // C-STORE-RQ, and often its data set
		uid := "1.2." + strconv.Itoa(int(arg)+1)
		if arg%16 == 0 {
			uid = "../x"
		}
		m.pdv(3, true, true, encodeCommand(&StoreRequest{MessageID: uint16(arg), AffectedSOPClassUID: dicom.CTImageStorage, AffectedSOPInstanceUID: uid, NoDataSet: arg%32 == 1}))
		if op%16 == 5 {
			return
		}
		if !full {
			m.pdv(3, false, false, []byte("half"))
		}
		m.pdv(3, false, true, []byte("whole"))
	case 6: // a fragment of a data set
		m.pdv(context, false, full, []byte("part"))
	case 7: // an operation that is not served
		m.pdv(3, true, true, encodeCommand(&Request{Field: CFindRQ, MessageID: uint16(arg), SOPClassUID: dicom.CTImageStorage, HasDataSet: full}))
	case 8: // a fragment of a command, or nonsense as one
		m.pdv(context, true, full, []byte("no command"))
	case 9:
		m.pdv(3, true, false, nil)
	case 10:
		m.take(short(5), seenReleaseRQ, nil)
	case 11:
		m.take(short(7), seenAbort, nil)
	case 12:
		m.take(short([]byte{3, 6}[arg&1]), []int{seenRJ, seenReleaseRP}[arg&1], nil)
	case 13: // A-ASSOCIATE-AC, which no acceptor wants
		m.take([]byte{2, 0, 0, 0, 0, 4, 0, 0, 0, 0}, seenAC, nil)
	case 14: // no PDU type
		m.take([]byte{8 | arg&0x50, 0, 0, 0, 0, 0}, seenInvalid, nil)
	case 15: // lengths that cannot be
		m.take([]byte{[]byte{5, 7, 6, 3}[arg&3], 0, 0xff, 0xff, 0xff, arg}, seenInvalid, nil)
	}
}

var walkRequest = func() []byte {
	title := func(s string) ul.AETitle { return ul.AETitle([]byte(s + strings.Repeat(" ", 16-len(s)))) }
	return (&ul.AssociateRQ{ProtocolVersion: 1, ApplicationContext: ul.ApplicationContext, Called: title("RADNODE"), Calling: title("WALK"),
		Contexts: []ul.ProposedContext{
			{ID: 1, AbstractSyntax: dicom.VerificationSOPClass, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}},
			{ID: 3, AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}},
			{ID: 5, AbstractSyntax: "1.2.840.10008.5.1.4.31", TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}}, // refused
		}, User: ul.UserInformation{MaxLength: 16384}}).AppendTo(nil)
}()

// A piped listener hands out one connection, then none.
type piped struct {
	conn chan net.Conn
	done chan struct{}
	once sync.Once
}

func (l *piped) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *piped) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *piped) Addr() net.Addr { return &net.TCPAddr{} }

// follow plays a walk against a server and holds what comes back. tail, bytes of any kind, are sent behind it.
func follow(t testing.TB, m *model, tail []byte) {
	store := &memory{}
	access, err := NewAccess(AccessOptions{Unknown: AcceptUnknown})
	if err != nil {
		t.Fatalf("%v", err)
	}
	server := &Server{Storage: store, Access: access, Grace: time.Millisecond, ARTIM: 5 * time.Second, Logger: slog.New(slog.DiscardHandler)}
	theirs, ours := net.Pipe()
	l := &piped{conn: make(chan net.Conn, 1), done: make(chan struct{})}
	l.conn <- ours
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	_ = theirs.SetDeadline(time.Now().Add(10 * time.Second))

	answers := make(chan []byte, 1)
	go func() { // a pipe has no buffer: somebody reads while we send
		b, _ := io.ReadAll(theirs)
		answers <- b
	}()
	for _, pdu := range m.sent {
		if _, err := theirs.Write(pdu); err != nil {
			break // it is over
		}
	}
	_, _ = theirs.Write(tail)
	// An answer that is due is waited for: the server closes after a release or an abort only when we do.
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline) && server.Stats().AssociationsOpen > 0 && m.state == 13; {
			runtime.Gosched()
		}
	}()
	<-settled
	_ = theirs.Close()
	got := <-answers
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
	types, err := answered(got)
	if err != nil {
		t.Fatalf("%v: % x", err, got)
	}
	if len(tail) > 0 { // what it does is not in the model
		if len(types) < len(m.want) && m.state != 1 && m.state != 13 {
			t.Errorf("events %v: answered with % x, want % x first", m.events, types, m.want)
		}
		return
	}
	for range m.again {
		if len(types) > len(m.want) {
			types = bytes.TrimSuffix(types, []byte{7})
		}
	}
	if want := m.want; !bytes.Equal(types, want) {
		t.Errorf("events %v: answered with % x, want % x", m.events, types, want)
	}
	if n := int(server.stored.Load()); n != m.stored {
		t.Errorf("events %v: %d objects stored, want %d", m.events, n, m.stored)
	}
}

// answered gives the types of PDUs, and of P-DATA-TF the message that a response answers.
func answered(b []byte) (types []byte, err error) {
	for len(b) > 0 {
		if len(b) < 6 || int(binary.BigEndian.Uint32(b[2:])) > len(b)-6 {
			return types, fmt.Errorf("half a PDU")
		}
		n := 6 + int(binary.BigEndian.Uint32(b[2:]))
		types = append(types, b[0])
		if b[0] == 4 {
			m, err := decodeCommand(b[12:n])
			if err != nil {
				return types, err
			}
			switch m := m.(type) {
			case *EchoResponse:
				types = append(types, byte(m.MessageIDBeingRespondedTo))
			case *StoreResponse:
				types = append(types, byte(m.MessageIDBeingRespondedTo))
			case *Response:
				types = append(types, byte(m.MessageIDBeingRespondedTo))
			default:
				return types, fmt.Errorf("%T", m)
			}
		}
		b = b[n:]
	}
	return types, nil
}

func newModel(t testing.TB, table map[int][]string, programme []byte) *model {
	m := &model{table: table, state: 2}
	for i := 0; i+1 < len(programme) && m.state != 1 && len(m.sent) < 64; i += 2 {
		m.step(programme[i], programme[i+1])
	}
	return m
}

// FuzzServer follows the state table and leaves it somewhere: the whole server answers as PS3.8 Table 9-10 and PS3.7 say, keeps what
// it said that it keeps, and ends. Behind the programme come any bytes.
func FuzzServer(f *testing.F) {
	table := stateTable(f)
	for _, p := range []string{
		"\x00\x00\x01\x00\x0a\x00",                         // request, echo, release
		"\x00\x00\x03\x02\x04\x05\x07\x04\x06\x04\x0a\x00", // objects, C-FIND, release
		"\x00\x00\x05\x02\x06\x03\x0a\x00",                 // release inside an object
		"\x00\x00\x00\x00", "\x01\x00", "\x0a\x00", "\x00\x00\x0b\x00", "\x00\x00\x0e\x00", "\x00\x00\x0f\x01",
		"\x00\x00\x09\x00\x09\x00\x01\x01", "\x00\x00\x08\x02", "\x00\x00\x06\x08", "\x00\x00\x0c\x01", "\x00\x00\x0d\x00",
	} {
		f.Add([]byte(p), []byte(nil))
		f.Add([]byte(p), walkRequest[:40])
	}
	f.Fuzz(func(t *testing.T, programme, tail []byte) {
		start := time.Now()
		follow(t, newModel(t, table, programme), tail)
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// TestRandomWalks is the same by chance, with walks that mostly keep to the table.
func TestRandomWalks(t *testing.T) {
	table := stateTable(t)
	seen := map[[2]int]bool{}
	rapid.Check(t, func(t *rapid.T) {
		m := &model{table: table, state: 2}
		if rapid.IntRange(0, 9).Draw(t, "begin") > 0 {
			m.step(0, 0)
		}
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			if m.state == 1 {
				break
			}
			op := rapid.SampledFrom([]byte{1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 6, 7, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0}).Draw(t, "op")
			state := m.state
			m.step(op, rapid.Byte().Draw(t, "arg"))
			if n := len(m.events); n > 0 {
				seen[[2]int{m.events[n-1], state}] = true
			}
		}
		follow(&rapidTB{t: t}, m, nil)
	})
	// Each event that a peer can cause has been seen in each state that it can be seen in.
	for _, event := range []int{seenAC, seenRJ, seenRQ, seenData, seenReleaseRQ, seenReleaseRP, seenAbort, seenInvalid} {
		for _, state := range []int{2, 6, 13} {
			if !seen[[2]int{event, state}] {
				t.Logf("event %d in Sta%d was not walked", event, state)
			}
		}
	}
}

// rapidTB is a rapid.T as far as follow needs a testing.TB.
type rapidTB struct {
	testing.TB
	t *rapid.T
}

func (r *rapidTB) Errorf(format string, args ...any) { r.t.Errorf(format, args...) }
func (r *rapidTB) Fatalf(format string, args ...any) { r.t.Fatalf(format, args...) }
