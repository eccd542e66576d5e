package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/ul"
	"github.com/radnode/radnode/store"
)

// TestHostileInputs sends a whole node what it must survive, each input by its number. After each one the node answers,
// keeps a good object, has nothing of the bad one in sight, and runs no more goroutines than before. The log of
//
//	go test -v -run HostileInputs ./cmd/radnode
//
// says what each cost in goroutines and memory, attacker and node together, since both are in this process.
func TestHostileInputs(t *testing.T) {
	for i, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"connect and say nothing", hostileSilence},
		{"one byte now and then", hostileDrip},
		{"HTTP, TLS, HL7 and SSH on the DICOM port", hostileProtocols},
		{"PDU lengths FFFFFFFF, 7FFFFFFF, 0 and 3", hostilePDULengths},
		{"10,000 connects and 1,000 half-open", hostileConnects},
		{"a frozen TLS handshake", hostileHandshake},
		{"client certificates", hostileCertificates},
		{"AE titles", hostileTitles},
		{"presentation contexts", hostileContexts},
		{"sub-items", hostileItems},
		{"PDUs against the state table", hostileStates},
		{"asynchronous windows", hostileWindows},
		{"maximum lengths of the peer", hostileMaxLengths},
		{"PDV lengths and a command that never ends", hostilePDVs},
		{"a data set that never ends", hostileEndless},
		{"commands that contradict themselves", hostileCommands},
		{"a peer that vanishes inside an object", hostileVanish},
		{"SOP Instance UIDs", hostileUIDs},
		{"a data set of another UID", hostileMismatch},
		{"duplicates", hostileDuplicates},
		{"lengths, depth and number of elements", hostileElements},
		{"rows, columns, frames and bits", hostileGeometry},
		{"compressed pixels", hostilePixels},
		{"a program in the preamble", hostilePreamble},
		{"character sets", hostileCharsets},
		{"formulas, HTML and shell in texts", hostileTexts},
		{"contours and segments", hostileContours},
		{"a known study under another Patient ID", hostilePatient},
		{"sick disks", hostileDisks},
		{"kills", hostileKills},
		{"a clock that jumps", hostileClock},
		{"reverse DNS", hostileDNS},
	} {
		t.Run(fmt.Sprintf("%02d %s", i+1, c.name), c.test)
	}
}

// A target is a node under attack.
type target struct {
	*node
	t     testing.TB
	dir   string
	log   *lockedBuffer
	stop  func()
	good  int    // objects that are to be there
	plain string // AE title that good objects come from; "" = SCANNER
	more  int    // goroutines that stay: one for each destination that something was sent to
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startTarget runs a node; tune changes what the configuration does not hold, before the node serves.
func startTarget(t testing.TB, cfg Config, tune func(*node)) *target {
	t.Helper()
	x := &target{t: t, dir: cfg.Data, log: &lockedBuffer{}}
	ctx, cancel := context.WithCancel(context.Background())
	nodes, ended := make(chan *node, 1), make(chan error, 1)
	log := slog.New(slog.NewTextHandler(x.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	go func() {
		ended <- run(ctx, cfg, log, func(n *node) {
			n.server.Grace = 100 * time.Millisecond
			if tune != nil {
				tune(n)
			}
			nodes <- n
		})
	}()
	x.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the node ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("the node does not stop")
		}
		if t.Failed() {
			log := x.log.String()
			t.Logf("the end of the node's log:\n%s", log[max(0, len(log)-8000):])
		}
	})
	select {
	case x.node = <-nodes:
	case err := <-ended:
		cancel()
		t.Fatalf("the node did not start: %v", err)
	}
	t.Cleanup(x.stop)
	return x
}

// hurried is a configuration whose timers a test can wait for.
func hurried(n *node) {
	n.server.ARTIM, n.server.PDU = 400*time.Millisecond, 400*time.Millisecond
}

// attack runs f and holds what it cost: the heap may grow by limit, and goroutines are as before in the end. The returned cost
// holds the highest figures.
func (x *target) attack(limit uint64, f func()) (peak cost) {
	t := x.t
	t.Helper()
	x.echo() // whatever the node starts once has been started
	before := settledCost()
	stop, stopped := make(chan struct{}), make(chan struct{})
	peak = before
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				now := costNow()
				peak.goroutines, peak.heap = max(peak.goroutines, now.goroutines-1), max(peak.heap, now.heap)
			}
		}
	}()
	start := time.Now()
	f()
	took := time.Since(start)
	close(stop)
	<-stopped
	var after cost
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if after = settledCost(); after.goroutines <= before.goroutines+x.more {
			break
		}
		if time.Now().After(deadline) {
			b := make([]byte, 1<<20)
			t.Errorf("%d goroutines, %d before:\n%s", after.goroutines, before.goroutines, b[:runtime.Stack(b, true)])
			break
		}
	}
	const mib = 1 << 20
	t.Logf("goroutines %4d before, %4d at most, %4d after; heap %6.1f MiB before, %6.1f at most, %6.1f after; %.2f s",
		before.goroutines, peak.goroutines, after.goroutines, float64(before.heap)/mib, float64(peak.heap)/mib, float64(after.heap)/mib, took.Seconds())
	if peak.heap > before.heap+limit {
		t.Errorf("the heap grew by %.1f MiB, more than %.1f", float64(peak.heap-before.heap)/mib, float64(limit)/mib)
	}
	if after.heap > before.heap+limit/2+8*mib {
		t.Errorf("%.1f MiB more on the heap after the attack", float64(after.heap-before.heap)/mib)
	}
	x.unharmed()
	peak.heap -= before.heap
	peak.goroutines -= before.goroutines
	return peak
}

type cost struct {
	goroutines int
	heap       uint64
}

func costNow() cost {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return cost{runtime.NumGoroutine(), s[0].Value.Uint64()}
}

func settledCost() cost {
	runtime.GC()
	debug.FreeOSMemory()
	return costNow()
}

// unharmed proves that the node answers, takes a good object, and shows nothing else than good ones.
func (x *target) unharmed() {
	x.t.Helper()
	x.echo()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := dimse.Dial(ctx, x.peer(), dimse.DialOptions{CallingAET: cmp.Or(x.plain, "SCANNER"), Proposals: []dimse.Proposal{
		{SOPClass: dicom.CTImageStorage, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}},
	}})
	if err != nil {
		x.t.Fatal(err)
	}
	defer client.Abort()
	o := goodObject(x.t, x.good)
	if status, err := client.Store(ctx, o.meta, bytes.NewReader(o.data)); err != nil || status.Code != dimse.StatusSuccess {
		x.t.Errorf("a good object: %v, %v", status, err)
	}
	if err := client.Release(ctx); err != nil {
		x.t.Error(err)
	}
	x.good++
	x.shows()
}

func (x *target) echo() {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := dimse.Dial(ctx, x.peer(), dimse.DialOptions{CallingAET: "CT1"})
	if err != nil {
		x.t.Fatalf("no C-ECHO: %v", err)
	}
	defer client.Abort()
	if err := client.Echo(ctx); err != nil {
		x.t.Fatal(err)
	}
	if err := client.Release(ctx); err != nil {
		x.t.Fatal(err)
	}
}

// store sends good objects.
func (x *target) store(objects ...demoObject) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := push(ctx, x.peer(), objects); err != nil {
		x.t.Fatal(err)
	}
}

// shows holds that the store has as many received instances as it should, and the data folder no file that is half written.
func (x *target) shows() {
	x.t.Helper()
	if got := received(x.t, x.node.store); got != x.good {
		x.t.Errorf("%d instances are visible, want %d", got, x.good)
	}
	x.tidy()
}

func received(t testing.TB, st *store.Store) (n int) {
	t.Helper()
	for uid, err := range st.Studies() {
		if err != nil {
			t.Fatal(err)
		}
		study, err := st.Study(uid)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range study.Instances {
			if in.Origin == store.Received {
				n++
			}
		}
	}
	return n
}

// tidy holds that the data folder has no other files than the store's own names.
func (x *target) tidy() {
	x.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) { // what broke off is being removed
		odd := ""
		err := filepath.WalkDir(x.dir, func(path string, d os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name, _ := filepath.Rel(x.dir, path)
			switch dir, base := filepath.Split(filepath.ToSlash(name)); {
			case d.IsDir(), dir == "" && !strings.HasSuffix(base, ".tmp"), dir == "log/" && strings.HasSuffix(base, ".seg"):
			case dir == "large/" && len(base) == 16 && strings.HasSuffix(base, ".dcm"):
			default:
				odd = name
			}
			return nil
		})
		if err == nil && odd == "" {
			return
		}
		if time.Now().After(deadline) {
			x.t.Errorf("the data folder holds %q (%v)", odd, err)
			return
		}
	}
}

// logged holds that the log says each of these.
func (x *target) logged(words ...string) {
	x.t.Helper()
	for _, w := range words {
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(x.log.String(), w); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				x.t.Errorf("the log does not say %q", w)
				break
			}
		}
	}
}

// goodObject is a small CT image of a study of its own.
func goodObject(t testing.TB, k int) demoObject {
	t.Helper()
	return object(t, imageDataSet(fmt.Sprintf("1.2.826.0.1.3680043.8.498.1.%d", k), make([]byte, 32)), dicom.ExplicitVRLittleEndian)
}

// imageDataSet is a CT image of 4 × 4 pixels.
func imageDataSet(uid string, pixels []byte) *dicom.DataSet {
	d := dicom.New()
	d.SetString(dicom.SOPClassUID, dicom.CTImageStorage)
	d.SetString(dicom.SOPInstanceUID, uid)
	d.SetString(dicom.StudyInstanceUID, "1.2.826.0.1.3680043.8.498.2")
	d.SetString(dicom.SeriesInstanceUID, "1.2.826.0.1.3680043.8.498.3")
	d.SetString(dicom.Modality, "CT")
	d.SetInt(dicom.Rows, 4)
	d.SetInt(dicom.Columns, 4)
	d.SetInt(dicom.BitsAllocated, 16)
	d.SetBytes(dicom.PixelData, dicom.OW, pixels)
	return d
}

func object(t testing.TB, d *dicom.DataSet, syntax string) demoObject {
	t.Helper()
	encode := d.EncodedBytes
	if syntax == dicom.ImplicitVRLittleEndian {
		encode = d.EncodedImplicit
	}
	b, err := encode()
	if err != nil {
		t.Fatal(err)
	}
	return demoObject{dicom.FileMeta{
		MediaStorageSOPClassUID: d.String(dicom.SOPClassUID), MediaStorageSOPInstanceUID: d.String(dicom.SOPInstanceUID), TransferSyntaxUID: syntax,
	}, b}
}

// A rawPeer is a peer whose every byte the test writes itself.
type rawPeer struct {
	net.Conn
	t testing.TB
}

func (x *target) connect() *rawPeer { return x.connectTo(x.dicom.Addr().String()) }

func (x *target) connectTo(addr string) *rawPeer { return x.connectFrom("", addr) }

// connectFrom connects from one of this machine's addresses; "" = any.
func (x *target) connectFrom(source, addr string) *rawPeer {
	x.t.Helper()
	d := net.Dialer{Timeout: patience}
	if source != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
	}
	nc, err := d.Dial("tcp", addr)
	if err != nil {
		x.t.Fatal(err)
	}
	_ = nc.(*net.TCPConn).SetLinger(0) // thousands of connections in TIME_WAIT would leave no ports to the tests after this
	_ = nc.SetDeadline(time.Now().Add(patience))
	x.t.Cleanup(func() { _ = nc.Close() })
	return &rawPeer{nc, x.t}
}

// send writes; that the node has closed already is no fault.
func (p *rawPeer) send(b ...[]byte) *rawPeer {
	_, _ = p.Write(bytes.Join(b, nil))
	return p
}

// pdu reads one PDU, or nil where the connection ends.
func (p *rawPeer) pdu() []byte {
	p.t.Helper()
	b := make([]byte, 6)
	if _, err := io.ReadFull(p, b); err != nil {
		if os.IsTimeout(err) {
			p.t.Errorf("no answer: %v", err)
		}
		return nil
	}
	b = append(b, make([]byte, binary.BigEndian.Uint32(b[2:]))...)
	if _, err := io.ReadFull(p, b[6:]); err != nil {
		return nil
	}
	return b
}

// PDU types, PS3.8 9.3.1.
const (
	pduAssociateAC = 2
	pduAssociateRJ = 3
	pduData        = 4
	pduReleaseRP   = 6
	pduAbort       = 7
)

// ends reads until a PDU of this type and closes, as a peer does after an A-ABORT (the node waits for it, PS3.8 AA-8); 0 wants the
// end of the connection, and no PDU before it.
func (p *rawPeer) ends(want byte) {
	p.t.Helper()
	var last []byte
	for {
		b := p.pdu()
		if b != nil {
			last = b
		}
		if b == nil || b[0] == want {
			break
		}
	}
	if got := append(last, 0)[0]; got != want {
		p.t.Errorf("the last PDU before the end is of type %d (% x), want %d", got, last[:min(len(last), 20)], want)
	}
	_ = p.Close()
}

// request is an A-ASSOCIATE-RQ of Verification (1) and CT Image Storage (3) in explicit VR, RT Structure Set Storage in implicit (5).
func request(change func(*ul.AssociateRQ)) []byte {
	rq := &ul.AssociateRQ{ProtocolVersion: 1, ApplicationContext: ul.ApplicationContext, Called: title("RADNODE"), Calling: title("CT1"),
		Contexts: []ul.ProposedContext{
			{ID: 1, AbstractSyntax: dicom.VerificationSOPClass, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}},
			{ID: 3, AbstractSyntax: dicom.CTImageStorage, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}},
			{ID: 5, AbstractSyntax: dicom.RTStructureSetStorage, TransferSyntaxes: []string{dicom.ImplicitVRLittleEndian}},
		}, User: ul.UserInformation{MaxLength: 16384}}
	if change != nil {
		change(rq)
	}
	return rq.AppendTo(nil)
}

func title(s string) ul.AETitle { return ul.AETitle([]byte(s + strings.Repeat(" ", 16-len(s)))) }

// associate sends a request and expects that it is accepted.
func (x *target) associate(change func(*ul.AssociateRQ)) *rawPeer {
	x.t.Helper()
	p := x.connect()
	p.send(request(change))
	if b := p.pdu(); len(b) == 0 || b[0] != pduAssociateAC {
		x.t.Fatalf("answer % x, want an A-ASSOCIATE-AC", b)
	}
	return p
}

// pdv is a P-DATA-TF PDU of one PDV.
func pdv(context byte, command, last bool, payload []byte) []byte {
	b := make([]byte, ul.DataHeaderLen, ul.DataHeaderLen+len(payload))
	ul.PutPDVHeader(b, context, last, len(payload))
	if command {
		b[11] |= 1
	}
	return append(b, payload...)
}

// commandSet lays out a command by PS3.7 6.3.1 and E.1: Implicit VR Little Endian, group length first.
func commandSet(elements map[uint16]any) []byte {
	var b []byte
	for _, tag := range slices.Sorted(maps.Keys(elements)) {
		var v []byte
		switch e := elements[tag].(type) {
		case int:
			v = binary.LittleEndian.AppendUint16(nil, uint16(e))
		case string:
			v = append([]byte(e), make([]byte, len(e)%2)...)
		}
		b = binary.LittleEndian.AppendUint16(append(b, 0, 0), tag)
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(v))), v...)
	}
	return append(binary.LittleEndian.AppendUint32([]byte{0, 0, 0, 0, 4, 0, 0, 0}, uint32(len(b))), b...)
}

func storeCommand(id int, uid string) []byte {
	return commandSet(map[uint16]any{0x0002: dicom.CTImageStorage, 0x0100: 0x0001, 0x0110: id, 0x0700: 0, 0x0800: 1, 0x1000: uid})
}

func echoCommand(id int) []byte {
	return commandSet(map[uint16]any{0x0002: dicom.VerificationSOPClass, 0x0100: 0x0030, 0x0110: id, 0x0800: 0x0101})
}

// answer reads one response: the message it answers, its status and its Error Comment.
func (p *rawPeer) answer() (id, status int, comment string) {
	p.t.Helper()
	b := p.pdu()
	if len(b) < 12 || b[0] != pduData {
		p.t.Fatalf("% x, want a response", b)
	}
	id, status = -1, -1
	for b = b[12:]; len(b) >= 8; {
		n := int(binary.LittleEndian.Uint32(b[4:]))
		v := b[8 : 8+n]
		switch binary.LittleEndian.Uint16(b[2:]) {
		case 0x0120:
			id = int(binary.LittleEndian.Uint16(v))
		case 0x0900:
			status = int(binary.LittleEndian.Uint16(v))
		case 0x0902:
			comment = strings.TrimSpace(string(v))
		}
		b = b[8+n:]
	}
	return id, status, comment
}

// answered holds the status of the next response.
func (p *rawPeer) answered(id, status int) string {
	p.t.Helper()
	gotID, got, comment := p.answer()
	if gotID != id || got != status {
		p.t.Errorf("message %d answered with status %04X %q, want %d and %04X", gotID, got, comment, id, status)
	}
	return comment
}

// lives proves by a C-ECHO that the association goes on, and releases it.
func (p *rawPeer) lives() {
	p.t.Helper()
	p.send(pdv(1, true, true, echoCommand(999)))
	p.answered(999, 0)
	p.released()
}

func (p *rawPeer) released() {
	p.t.Helper()
	p.send([]byte{5, 0, 0, 0, 0, 4, 0, 0, 0, 0})
	if b := p.pdu(); len(b) == 0 || b[0] != pduReleaseRP {
		p.t.Errorf("% x, want an A-RELEASE-RP", b)
	}
	_ = p.Close()
}
