package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/store"
)

// A pacs is a destination that does what a test tells it.
type pacs struct {
	t    *testing.T
	addr string
	stop func()

	mu       sync.Mutex
	asked    int                                   // associations
	refuse   func(n int) bool                      // association number n, from 1
	answer   func(uid string, n int) error         // object n, from 1; nil = it is kept
	after    func(uid string, n int) (cutOff bool) // it was kept: the connection is cut before the answer
	arrived  []string                              // SOP Instance UIDs, in order, refused ones too
	kept     map[string][]byte                     // data sets by SOP Instance UID
	conflict bool                                  // other bytes came under a UID
	conns    map[net.Conn]bool
	commit   dimse.Committer
}

func startPACS(t *testing.T, addr string) *pacs {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &pacs{t: t, addr: l.Addr().String(), kept: map[string][]byte{}, conns: map[net.Conn]bool{}}
	server := &dimse.Server{AETitle: "PACS", Storage: p, Committer: p, Grace: 100 * time.Millisecond, ARTIM: time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, pacsListener{l, p}) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	t.Cleanup(p.stop)
	return p
}

// A pacsListener knows its connections, so that they can be cut.
type pacsListener struct {
	net.Listener
	p *pacs
}

// Accept gives the server the connections that are not refused.
func (l pacsListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.p.mu.Lock()
		l.p.asked++
		refused := l.p.refuse != nil && l.p.refuse(l.p.asked)
		l.p.conns[c] = !refused
		l.p.mu.Unlock()
		if !refused {
			return c, nil
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Second))
			_, _ = c.Read(make([]byte, 64<<10))                  // A-ASSOCIATE-RQ
			_, _ = c.Write([]byte{3, 0, 0, 0, 0, 4, 0, 2, 3, 2}) // A-ASSOCIATE-RJ: transient, local limit exceeded, PS3.8 9.3.4
			_, _ = c.Read(make([]byte, 1))                       // until the peer closes
		}()
	}
}

func (p *pacs) cut() {
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

func (p *pacs) Put(ctx context.Context, meta dicom.FileMeta, body io.Reader) error {
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	uid := meta.MediaStorageSOPInstanceUID
	p.arrived = append(p.arrived, uid)
	if p.answer != nil {
		answer, n := p.answer, len(p.arrived)
		p.mu.Unlock()
		err := answer(uid, n)
		p.mu.Lock()
		if errors.Is(err, errCut) {
			p.cut()
		}
		if err != nil {
			return err
		}
	}
	if old, ok := p.kept[uid]; ok && !bytes.Equal(old, b) {
		p.conflict = true
	}
	p.kept[uid] = b
	if p.after != nil && p.after(uid, len(p.arrived)) {
		p.cut()
	}
	return nil
}

var errCut = errors.New("the connection is cut in the middle")

func (p *pacs) CommitmentRequested(ctx context.Context, calling string, rq dimse.CommitmentRequest) (*dimse.CommitmentReport, error) {
	p.mu.Lock()
	c := p.commit
	p.mu.Unlock()
	if c == nil {
		return nil, &dimse.Status{Code: dimse.StatusNoSuchClass}
	}
	return c.CommitmentRequested(ctx, calling, rq)
}

func (p *pacs) CommitmentReported(context.Context, string, dimse.CommitmentResult) error {
	return &dimse.Status{Code: dimse.StatusInvalidArgument}
}

// do changes what the PACS does.
func (p *pacs) do(change func(p *pacs)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *pacs) has(uids ...string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !slices.ContainsFunc(uids, func(uid string) bool { return p.kept[uid] == nil })
}

// times is how often an object arrived.
func (p *pacs) times(uid string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.arrived {
		if a == uid {
			n++
		}
	}
	return n
}

func (p *pacs) peer() dimse.Peer { return dimse.Peer{AETitle: "PACS", Address: p.addr} }

func status(code uint16) error { return &dimse.Status{Code: code} }

// A lines keeps log lines of warnings and more, and of information.
type lines struct {
	t  *testing.T
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t.Log(string(bytes.TrimSpace(b)))
	return l.b.Write(b)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

// A sending is a pipeline that has nothing to do but to deliver.
type sending struct {
	t     *testing.T
	store *store.Store
	p     *Pipeline
	log   *lines
	stop  func()
}

// soon are pauses of a test: a destination that is down is tried every few milliseconds.
var soon = Backoff{First: 4 * time.Millisecond, Max: 30 * time.Millisecond, Refused: 30 * time.Millisecond}

func startSending(t *testing.T, dir string, sender Sender, change func(*Options), to ...dimse.Peer) *sending {
	t.Helper()
	st, err := store.Open(dir, store.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	s := &sending{t: t, store: st, log: &lines{t: t}}
	o := testOptions()
	o.Backoff = soon
	o.times = commitTimes{gather: 5 * time.Millisecond, await: 300 * time.Millisecond, wait: 300 * time.Millisecond, report: 2 * time.Second}
	o.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	for _, peer := range to {
		o.Deliver = append(o.Deliver, Destination{Peer: peer})
	}
	if change != nil {
		change(&o)
	}
	if s.p, err = New(st, sender, o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.p.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// node is a Sender over DIMSE.
var node = DIMSE{CallingAET: "RADNODE", Timeout: 5 * time.Second}

const aStudy = "1.2.3"

// result puts a small report into the store that is to be delivered, and returns its UID.
func (s *sending) result(to dimse.Peer, subject, kind string, name any) string {
	s.t.Helper()
	uid := dicom.UIDFrom(s.t.Name(), subject, kind, fmt.Sprint(name))
	in := smallReport(s.t, uid)
	job := deliveryJob(aStudy, delivery{To: to.String(), Objects: []string{uid}})
	job.Serial = subject + "/" + kind
	if err := s.store.Commit(s.t.Context(), store.Change{Instances: []store.NewInstance{in}, Jobs: []store.Job{job}}); err != nil {
		s.t.Fatal(err)
	}
	s.p.serve([]store.Job{job})
	return uid
}

func smallReport(t *testing.T, uid string) store.NewInstance {
	t.Helper()
	d := dicom.New()
	d.SetString(dicom.SOPClassUID, dicom.Comprehensive3DSRStorage)
	d.SetString(dicom.SOPInstanceUID, uid)
	d.SetString(dicom.StudyInstanceUID, aStudy)
	d.SetString(dicom.SeriesInstanceUID, "1.2.3.9")
	d.SetString(dicom.Modality, "SR")
	data, err := d.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	return store.NewInstance{
		Meta:     dicom.FileMeta{MediaStorageSOPClassUID: dicom.Comprehensive3DSRStorage, MediaStorageSOPInstanceUID: uid, TransferSyntaxUID: dicom.ExplicitVRLittleEndian},
		Identity: dicom.Identity{SOPClassUID: dicom.Comprehensive3DSRStorage, SOPInstanceUID: uid, StudyInstanceUID: aStudy, SeriesInstanceUID: "1.2.3.9", Modality: "SR"},
		Data:     data,
	}
}

// until waits for something to become true.
func until(t *testing.T, what string, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !true(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// jobs are those to a destination.
func (s *sending) jobs(to dimse.Peer) []store.Job { return s.store.Jobs(deliverPrefix + to.String()) }

func (s *sending) destination(to dimse.Peer) DestinationStats {
	s.t.Helper()
	for _, d := range s.p.Destinations() {
		if d.To == to.String() {
			return d
		}
	}
	s.t.Fatalf("%s is not among the destinations", to)
	return DestinationStats{}
}

// state is what became of the delivery of an object.
func (s *sending) state(to dimse.Peer, uid string) store.State {
	study, err := s.store.Study(aStudy)
	if err != nil {
		return store.State{}
	}
	state, _ := stateOf(study, deliverySubject(to.String(), []string{uid}))
	return state
}

// A destination that cannot be reached is tried by one delivery at a time, none of which counts a try, and gets all of them when
// it is back. The log tells of both once.
func TestDestinationDown(t *testing.T) {
	for name, refuse := range map[string]bool{"nothing listens": false, "it refuses associations": true} {
		t.Run(name, func(t *testing.T) {
			to := startPACS(t, "127.0.0.1:0")
			if refuse {
				to.do(func(p *pacs) { p.refuse = func(int) bool { return true } })
			} else {
				to.stop()
			}
			s := startSending(t, t.TempDir(), node, nil, to.peer())
			var uids []string
			for i := range 20 {
				uids = append(uids, s.result(to.peer(), fmt.Sprint(i), "report", i))
			}
			until(t, "five tries", func() bool { return s.p.Stats().Undelivered >= 5 })
			d := s.destination(to.peer())
			if d.Down.IsZero() || d.NextTry.IsZero() || d.LastError == "" || d.Waiting != 20 || d.Delivered != 0 || !d.Configured {
				t.Errorf("destination is %+v", d)
			}
			for _, j := range s.jobs(to.peer()) {
				if j.Tries != 0 || j.LastError != "" {
					t.Errorf("a job counts %d tries (%s): it is the destination that is down", j.Tries, j.LastError)
				}
			}
			if refuse {
				to.do(func(p *pacs) { p.refuse = nil })
			} else {
				to = startPACS(t, to.addr)
			}
			until(t, "all delivered", func() bool { // which is counted after the job is done
				return to.has(uids...) && len(s.jobs(to.peer())) == 0 && s.destination(to.peer()).Delivered == 20
			})
			if d := s.destination(to.peer()); !d.Down.IsZero() || d.LastError != "" || d.Waiting != 0 || d.Delivered != 20 {
				t.Errorf("destination is %+v", d)
			}
			if n := len(to.arrived); n != 20 {
				t.Errorf("%d objects arrived, want 20", n)
			}
			if down, back, retries := s.log.count("destination is down"), s.log.count("destination is back"), s.log.count("tried again by itself"); down != 1 || back != 1 || retries != 0 {
				t.Errorf("%d lines say down, %d back, %d that a delivery is tried again; want 1, 1, 0", down, back, retries)
			}
			if got := s.state(to.peer(), uids[3]).Name; got != StateDelivered {
				t.Errorf("state %q", got)
			}
		})
	}
}

// While a destination is down, the pauses between tries get longer, and nothing else is tried in them.
func TestOneTryAtATime(t *testing.T) {
	to := startPACS(t, "127.0.0.1:0")
	to.do(func(p *pacs) { p.refuse = func(int) bool { return true } })
	s := startSending(t, t.TempDir(), node, func(o *Options) { o.Backoff = Backoff{First: 20 * time.Millisecond, Max: time.Hour} }, to.peer())
	start := time.Now()
	for i := range 30 {
		s.result(to.peer(), fmt.Sprint(i), "report", i)
	}
	for time.Since(start) < time.Second { // 10+20+40+80+160+320 ms at the least after six refusals
		time.Sleep(10 * time.Millisecond)
	}
	var asked int
	to.do(func(p *pacs) { asked = p.asked })
	if limit := 8; asked < 3 || asked > limit {
		t.Errorf("%d associations in %v, want at least 3 and at most %d", asked, time.Since(start), limit)
	}
}

// What a destination refuses waits by itself, is given up after ten tries, and comes when an operator brings it back. Others are
// delivered all the while.
func TestRefusedAlone(t *testing.T) {
	for _, code := range []uint16{0xA900, 0xC123, 0x0122, 0x0110} {
		t.Run(fmt.Sprintf("%04X", code), func(t *testing.T) {
			to := startPACS(t, "127.0.0.1:0")
			s := startSending(t, t.TempDir(), node, nil, to.peer())
			var bad string
			to.do(func(p *pacs) {
				p.answer = func(uid string, _ int) error {
					if uid == bad {
						return status(code)
					}
					return nil
				}
				bad = dicom.UIDFrom(t.Name(), "bad", "report", "1")
			})
			if got := s.result(to.peer(), "bad", "report", 1); got != bad {
				t.Fatal("another UID")
			}
			until(t, "the refused delivery is parked", func() bool { return s.destination(to.peer()).Parked == 1 })
			if n := to.times(bad); n != refusedTries {
				t.Errorf("%d tries, want %d", n, refusedTries)
			}
			if d := s.destination(to.peer()); !d.Down.IsZero() || s.log.count("destination is down") != 0 {
				t.Errorf("the destination counts as down: %+v", d)
			}
			state := s.state(to.peer(), bad)
			if j := s.jobs(to.peer()); state.Name != StateUndelivered || !strings.Contains(state.Reason, fmt.Sprintf("%04XH", code)) ||
				len(j) != 1 || j[0].State != store.Parked || !strings.Contains(j[0].LastError, fmt.Sprintf("%04XH", code)) {
				t.Errorf("state %s %q, jobs %+v", state.Name, state.Reason, j)
			}
			good := s.result(to.peer(), "good", "report", 1)
			until(t, "the next is delivered", func() bool { return to.has(good) && len(s.jobs(to.peer())) == 1 })

			requeue := func() {
				t.Helper()
				if _, err := s.p.RequeueJob(t.Context(), s.jobs(to.peer())[0].Key); err != nil {
					t.Fatal(err)
				}
			}
			requeue()
			until(t, "it is given up once more, after as many tries", func() bool {
				return to.times(bad) >= 2*refusedTries && s.destination(to.peer()).Parked == 1
			})
			to.do(func(p *pacs) { p.answer = nil })
			requeue()
			until(t, "it is delivered", func() bool { return to.has(bad) && s.state(to.peer(), bad).Name == StateDelivered })
		})
	}
}

// A destination that is out of resources takes nothing for now. Where it is so for one object alone, the others are delivered.
func TestOutOfResources(t *testing.T) {
	to := startPACS(t, "127.0.0.1:0")
	to.do(func(p *pacs) {
		p.answer = func(_ string, n int) error {
			if n <= 5 {
				return status(0xA700)
			}
			return nil
		}
	})
	s := startSending(t, t.TempDir(), node, nil, to.peer())
	var uids []string
	for i := range 10 {
		uids = append(uids, s.result(to.peer(), fmt.Sprint(i), "report", i))
	}
	until(t, "all delivered", func() bool { return to.has(uids...) && len(s.jobs(to.peer())) == 0 })
	if down, back := s.log.count("destination is down"), s.log.count("destination is back"); down != 1 || back != 1 || len(to.arrived) != 15 {
		t.Errorf("%d lines say down, %d back, %d objects came; want 1, 1, 15", down, back, len(to.arrived))
	}

	big := dicom.UIDFrom(t.Name(), "big", "report", "1")
	to.do(func(p *pacs) {
		p.answer = func(uid string, _ int) error {
			if uid == big {
				return status(0xA701)
			}
			return nil
		}
	})
	s.result(to.peer(), "big", "report", 1)
	for i := 0; s.destination(to.peer()).Parked == 0; i++ {
		uid := s.result(to.peer(), fmt.Sprint("more", i), "report", i)
		until(t, "another is delivered", func() bool { return to.has(uid) })
		if i > 500 {
			t.Fatal("what the destination has no room for is tried for ever")
		}
	}
}

// An object at which a destination breaks off each time delays the others by little, and is never given up.
func TestPoison(t *testing.T) {
	to := startPACS(t, "127.0.0.1:0")
	poison := dicom.UIDFrom(t.Name(), "poison", "report", "1")
	to.do(func(p *pacs) {
		p.answer = func(uid string, _ int) error {
			if uid == poison {
				return errCut
			}
			return nil
		}
	})
	s := startSending(t, t.TempDir(), node, nil, to.peer())
	s.result(to.peer(), "poison", "report", 1)
	for i := range 40 {
		uid := s.result(to.peer(), fmt.Sprint(i), "report", i)
		until(t, "another is delivered", func() bool { return to.has(uid) })
	}
	until(t, "it is tried more often than what is refused", func() bool { return to.times(poison) > refusedTries+2 })
	until(t, "the others are done", func() bool { return s.destination(to.peer()).Waiting == 1 })
	if d := s.destination(to.peer()); d.Parked != 0 {
		t.Errorf("destination is %+v", d)
	}
	if n := s.log.count("it waits by itself"); n == 0 {
		t.Error("the log does not say that this delivery alone breaks off")
	}
	to.do(func(p *pacs) { p.answer = nil })
	until(t, "it is delivered", func() bool { return to.has(poison) && len(s.jobs(to.peer())) == 0 })
}

// A destination that takes associations and does not answer is one that is down.
func TestHangingDestination(t *testing.T) {
	to := startPACS(t, "127.0.0.1:0")
	free := make(chan struct{})
	to.do(func(p *pacs) {
		p.answer = func(_ string, n int) error {
			if n <= 3 {
				<-free
			}
			return nil
		}
	})
	impatient := node
	impatient.Timeout = 50 * time.Millisecond
	other := startPACS(t, "127.0.0.1:0")
	s := startSending(t, t.TempDir(), impatient, nil, to.peer(), other.peer())
	var uids []string
	for i := range 5 {
		uids = append(uids, s.result(to.peer(), fmt.Sprint(i), "report", i))
		uid := s.result(other.peer(), fmt.Sprint(i), "report", i)
		until(t, "the other destination has it", func() bool { return other.has(uid) })
	}
	until(t, "three tries", func() bool { return s.p.Stats().Undelivered >= 3 })
	close(free)
	until(t, "all delivered", func() bool { return to.has(uids...) && len(s.jobs(to.peer())) == 0 })
	if down := s.log.count("destination is down"); down != 1 {
		t.Errorf("%d lines say down, want 1", down)
	}
}

// A later report of the same contours never arrives before an earlier one, however often that is refused. A PDF does not wait for
// reports, nor they for it, and what was given up holds nothing back.
func TestOrder(t *testing.T) {
	to := startPACS(t, "127.0.0.1:0")
	uid := func(kind string, n int) string { return dicom.UIDFrom(t.Name(), "contours", kind, fmt.Sprint(n)) }
	var tries int
	to.do(func(p *pacs) {
		p.answer = func(got string, _ int) error {
			if got == uid("report", 1) {
				tries++
			}
			if got == uid("pdf", 1) || got == uid("report", 1) && tries < 5 {
				return status(0xC000)
			}
			return nil
		}
	})
	s := startSending(t, t.TempDir(), node, nil, to.peer())
	for n := 1; n <= 4; n++ {
		s.result(to.peer(), "contours", "report", n)
		s.result(to.peer(), "contours", "pdf", n)
	}
	other := s.result(to.peer(), "other", "report", 1)
	until(t, "all but the refused PDF", func() bool {
		return to.has(uid("report", 1), uid("report", 2), uid("report", 3), uid("report", 4), uid("pdf", 2), uid("pdf", 3), uid("pdf", 4), other)
	})
	for _, kind := range []string{"report", "pdf"} {
		var order []string
		for _, got := range to.arrived {
			for n := 1; n <= 4; n++ {
				if got == uid(kind, n) {
					order = append(order, fmt.Sprint(n))
				}
			}
		}
		if !slices.IsSorted(order) {
			t.Errorf("the %ss came in the order %v", kind, order)
		}
	}
}

// An object whose answer got lost comes again as it was: the destination has one of it, however it answers the second time.
func TestAnswerLost(t *testing.T) {
	to := startPACS(t, "127.0.0.1:0")
	to.do(func(p *pacs) {
		p.after = func(_ string, n int) bool { return n == 1 }
		p.answer = func(uid string, n int) error {
			if n > 1 {
				return status(dimse.StatusDuplicateInstance)
			}
			return nil
		}
	})
	s := startSending(t, t.TempDir(), node, nil, to.peer())
	uid := s.result(to.peer(), "a", "report", 1)
	until(t, "delivered", func() bool { return s.state(to.peer(), uid).Name == StateDelivered })
	if n := to.times(uid); n != 2 || len(to.kept) != 1 || to.conflict {
		t.Errorf("%d times sent, %d kept, other bytes: %v; want 2, 1, false", n, len(to.kept), to.conflict)
	}
}

// A killed sender stops between the answer of the destination and the outcome of the job.
type killed struct {
	Sender
	kill func()
}

func (k *killed) Send(ctx context.Context, to dimse.Peer, objects [][]Version) error {
	err := k.Sender.Send(ctx, to, objects)
	if k.kill != nil {
		k.kill()
		return errors.New("killed")
	}
	return err
}

// A node that dies after a destination has answered and before it could write that down sends the same once more.
func TestKilledBeforeDone(t *testing.T) {
	to := startPACS(t, "127.0.0.1:0")
	dir := t.TempDir()
	k := &killed{Sender: node}
	s := startSending(t, dir, k, nil, to.peer())
	died := make(chan struct{})
	var once sync.Once
	k.kill = func() {
		once.Do(func() {
			go s.stop()
			time.Sleep(20 * time.Millisecond) // until ctx is done
			close(died)
		})
	}
	uid := s.result(to.peer(), "a", "report", 1)
	<-died
	s.stop()
	if !to.has(uid) {
		t.Fatal("the destination has not got it")
	}
	s = startSending(t, dir, node, nil, to.peer())
	until(t, "delivered", func() bool { return s.state(to.peer(), uid).Name == StateDelivered })
	if n := to.times(uid); n != 2 || len(to.kept) != 1 || to.conflict {
		t.Errorf("%d times sent, %d kept, other bytes: %v; want 2, 1, false", n, len(to.kept), to.conflict)
	}
}

// What was promised to a destination that left the configuration is tried, and the log says at start that it waits.
func TestRemovedDestination(t *testing.T) {
	to, dir := startPACS(t, "127.0.0.1:0"), t.TempDir()
	to.do(func(p *pacs) { p.refuse = func(int) bool { return true } })
	s := startSending(t, dir, node, nil, to.peer())
	uid := s.result(to.peer(), "a", "report", 1)
	until(t, "a try", func() bool { return s.p.Stats().Undelivered > 0 })
	s.stop()

	s = startSending(t, dir, node, nil)
	until(t, "a try", func() bool { return s.p.Stats().Undelivered > 0 })
	if d := s.destination(to.peer()); d.Configured || d.Waiting != 1 {
		t.Errorf("destination is %+v", d)
	}
	if n := s.log.count("not configured any more"); n != 1 {
		t.Errorf("%d lines say that it waits, want 1", n)
	}
	to.do(func(p *pacs) { p.refuse = nil })
	until(t, "delivered", func() bool { return to.has(uid) && len(s.jobs(to.peer())) == 0 })
	if list := s.p.Destinations(); len(list) != 0 {
		t.Errorf("destinations with nothing to do are shown: %+v", list)
	}
}

// A delivery under way when the node is told to stop is finished, and not repeated by the next start.
func TestStopInTheMiddle(t *testing.T) {
	to, dir := startPACS(t, "127.0.0.1:0"), t.TempDir()
	began, goOn := make(chan struct{}, 9), make(chan struct{})
	to.do(func(p *pacs) {
		p.answer = func(string, int) error {
			began <- struct{}{}
			<-goOn
			return nil
		}
	})
	s := startSending(t, dir, node, nil, to.peer())
	uids := []string{s.result(to.peer(), "a", "report", 1), s.result(to.peer(), "b", "report", 1)}
	<-began
	stopped := make(chan struct{})
	go func() {
		s.stop()
		close(stopped)
	}()
	time.Sleep(50 * time.Millisecond)
	close(goOn)
	<-stopped
	if n := len(to.arrived); n != 1 {
		t.Errorf("%d objects arrived at the stop, want the one that was under way", n)
	}
	s = startSending(t, dir, node, nil, to.peer())
	until(t, "both", func() bool { return to.has(uids...) && len(s.jobs(to.peer())) == 0 })
	if n := len(to.arrived); n != 2 {
		t.Errorf("%d objects arrived, want 2: what is delivered is not repeated", n)
	}
}

// The pauses are those that the README promises.
func TestPauses(t *testing.T) {
	b := Backoff{}.withDefaults()
	var day time.Duration
	for n := range refusedTries - 1 {
		step := min(b.First<<(2*n), b.Refused)
		for range 100 {
			if got := b.refused(n); got < step/2 || got > step {
				t.Fatalf("refusal %d: %v, want half to all of %v", n+1, got, step)
			}
		}
		day += step
	}
	if day < 20*time.Hour || day > 28*time.Hour {
		t.Errorf("given up after %v at most, want about a day", day)
	}
	for n, want := range map[int]time.Duration{0: 2 * time.Second, 1: 4 * time.Second, 8: 512 * time.Second, 9: 10 * time.Minute, 5000: 10 * time.Minute} {
		for range 100 {
			if got := b.after(n); got < want/2 || got > want {
				t.Fatalf("failure %d: %v, want half to all of %v", n+1, got, want)
			}
		}
	}
}

// Of all that works for a destination that is down, one may try it at a time, and not before the pause is over.
func TestOneProbe(t *testing.T) {
	p := &Pipeline{opt: Options{Backoff: Backoff{First: 40 * time.Millisecond, Max: 40 * time.Millisecond}}}
	d := p.destination("PACS@127.0.0.1:104")
	for range 2 {
		if !d.begin() {
			t.Error("one that is up may be worked with by several")
		}
	}
	d.failed(errors.New("away"), false)
	if d.begin() {
		t.Fatal("tried before the pause was over")
	}
	if !d.wait(t.Context()) || !d.begin() {
		t.Fatal("not tried when the pause was over")
	}
	if d.begin() {
		t.Fatal("tried twice at once")
	}
	waited := make(chan bool)
	go func() { waited <- d.wait(t.Context()) }()
	select {
	case <-waited:
		t.Error("two tries at once")
	case <-time.After(100 * time.Millisecond):
	}
	d.end() // nothing came of it
	if !<-waited || !d.begin() {
		t.Error("not tried again")
	}
	d.answered("")
	for range 2 {
		if !d.wait(t.Context()) || !d.begin() {
			t.Error("it is back")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d.wait(ctx) {
		t.Error("goes on after the end")
	}
}
