package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/pipeline/sr"
)

// patience bounds every wait of these tests; nothing takes that long on a machine that works.
const patience = 60 * time.Second

// TestMain lets the test binary be radnode itself, so that tests can kill it. Whatever a node starts ends with it.
func TestMain(m *testing.M) {
	if os.Getenv("RADNODE_TEST_MAIN") == "1" {
		ctx, _ := untilStopped()
		os.Exit(execute(ctx, os.Args[1:], os.Stdout, os.Stderr))
	}
	if port := os.Getenv(echoEnv); port != "" {
		if err := keepEchoing(port); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// testConfig is a node in a temporary folder on ports of the system's choice.
func testConfig(t testing.TB) Config {
	cfg := defaultConfig()
	cfg.Data = filepath.Join(t.TempDir(), "data")
	cfg.DICOM.Listen = "127.0.0.1:0"
	cfg.HTTP.Listen = ""
	return cfg
}

// startNode runs a node until the test ends or stop is called.
func startNode(t testing.TB, cfg Config) (n *node, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	nodes, ended := make(chan *node, 1), make(chan error, 1)
	go func() {
		ended <- run(ctx, cfg, slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn})), func(n *node) { nodes <- n })
	}()
	stop = sync.OnceFunc(func() {
		accounted(t, n)
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the node ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("the node does not stop")
		}
	})
	select {
	case n = <-nodes:
	case err := <-ended:
		cancel()
		t.Fatalf("the node did not start: %v", err)
	}
	t.Cleanup(stop)
	return n, stop
}

// accounted fails where anything that was received is not in exactly one state: every test of a node ends with it.
func accounted(t testing.TB, n *node) {
	t.Helper()
	days, err := n.pipeline.Balance(context.Background())
	if err != nil {
		t.Error(err)
	}
	for _, d := range days {
		if d.Difference != 0 {
			t.Errorf("the balance does not come out: %+v", d)
		}
	}
}

func (n *node) peer() dimse.Peer {
	return dimse.Peer{AETitle: "RADNODE", Address: n.dicom.Addr().String()}
}

type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}

// A testPACS keeps what it receives in memory, in the order of arrival.
type testPACS struct {
	addr string
	stop func()

	mu      sync.Mutex
	objects []demoObject
	changed chan struct{}
	refuse  error // what Put answers, nil = it takes everything

	slow  time.Duration // that it takes for each object
	began atomic.Int32  // objects that began to arrive
}

func startPACS(t testing.TB, addr string, committer ...dimse.Committer) *testPACS {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &testPACS{addr: l.Addr().String(), changed: make(chan struct{}, 1)}
	server := &dimse.Server{AETitle: "PACS", Storage: p}
	if len(committer) > 0 {
		server.Committer = committer[0]
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	t.Cleanup(p.stop)
	return p
}

func (p *testPACS) Put(_ context.Context, meta dicom.FileMeta, body io.Reader) error {
	p.began.Add(1)
	time.Sleep(p.slow)
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return p.refuse
	}
	p.objects = append(p.objects, demoObject{meta, b})
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return nil
}

func (p *testPACS) destination() string { return "PACS@" + p.addr }

// received returns the objects of these SOP Classes.
func (p *testPACS) received(classes ...string) (out []demoObject) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.objects {
		if slices.Contains(classes, o.meta.MediaStorageSOPClassUID) {
			out = append(out, o)
		}
	}
	return out
}

var reportClasses = []string{dicom.Comprehensive3DSRStorage, dicom.ComprehensiveSRStorage, dicom.EnhancedSRStorage}

// waitReports waits until n reports have come.
func (p *testPACS) waitReports(t testing.TB, n int) []demoObject {
	t.Helper()
	deadline := time.After(patience)
	for {
		if got := p.received(reportClasses...); len(got) >= n {
			return got
		}
		select {
		case <-p.changed:
		case <-deadline:
			t.Fatalf("%d reports after %v, want %d", len(p.received(reportClasses...)), patience, n)
		}
	}
}

// waitIdle waits until the node has nothing left to compute or deliver.
func waitIdle(t testing.TB, n *node) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		busy := 0
		for _, q := range n.store.Queues() {
			busy += q.Pending + q.Leased
		}
		if busy == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still busy after %v: %v", patience, n.store.Queues())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (o demoObject) dataSet(t testing.TB) *dicom.DataSet {
	t.Helper()
	f, err := dicom.ReadDataSet(bytes.NewReader(o.data), int64(len(o.data)), o.meta.TransferSyntaxUID)
	if err != nil {
		t.Fatal(err)
	}
	return f.DataSet
}

// values reads a report back: region name, number of the region's group and feature code ("0 RNU0"), value.
func values(t testing.TB, report *dicom.DataSet) map[string]map[string]float64 {
	t.Helper()
	groups, err := sr.Measurements(report)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]float64{}
	number := map[string]int{}
	for _, g := range groups {
		if out[g.TrackingIdentifier] == nil {
			out[g.TrackingIdentifier] = map[string]float64{}
		}
		for _, m := range g.Measurements {
			if m.Concept.Scheme == "IBSI" { // others are for the reader: the same in other words or units
				out[g.TrackingIdentifier][fmt.Sprint(number[g.TrackingIdentifier], " ", m.Concept.Value)] = m.Value
			}
		}
		number[g.TrackingIdentifier]++
	}
	return out
}

func demoObjects(t testing.TB) []demoObject {
	t.Helper()
	objects, err := demoStudy()
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func shuffled(seed uint64, in []demoObject) []demoObject {
	out := slices.Clone(in)
	rand.New(rand.NewPCG(seed, 1)).Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// pushOver sends objects over several associations at once.
func pushOver(t testing.TB, to dimse.Peer, associations int, objects []demoObject) {
	t.Helper()
	var g errgroup.Group
	for i := range associations {
		var mine []demoObject
		for k := i; k < len(objects); k += associations {
			mine = append(mine, objects[k])
		}
		g.Go(func() error { return push(t.Context(), to, mine) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// shared returns a path below the reference data, and skips the test where it is absent.
func shared(t testing.TB, parts ...string) string {
	t.Helper()
	root := os.Getenv("RADNODE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared")
	}
	path := filepath.Join(append([]string{root}, parts...)...)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no reference data: %v; set RADNODE_SHARED to the folder that holds them", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

// need skips a test whose peer is not installed; in CI that is a failure.
func need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			lacking(t, "%s is not installed: %v", p, err)
		}
	}
}

func lacking(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// python returns an interpreter that can import these modules.
func python(t testing.TB, modules ...string) string {
	t.Helper()
	exe := os.Getenv("RADNODE_PYTHON")
	if exe == "" {
		exe = "python3"
	}
	need(t, exe)
	for _, m := range modules {
		if out, err := exec.Command(exe, "-c", "import "+m).CombinedOutput(); err != nil {
			lacking(t, "%s cannot import %s: %s", exe, m, out)
		}
	}
	return exe
}
