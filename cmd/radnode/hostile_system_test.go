package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/dimse/ul"
	"github.com/radnode/radnode/pipeline"
	"github.com/radnode/radnode/store"
)

// (29) A disk that is full, read-only or has no more files: A700 with the reason, and it goes on by itself.
func hostileDisks(t *testing.T) {
	need(t, "unshare", "nsenter", "prlimit")
	if out, err := exec.Command("unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt").CombinedOutput(); err != nil {
		lacking(t, "no mounts of one's own here: %v: %s", err, out)
	}
	// A radnode whose data folder is a file system of 400 MB that nobody else sees.
	cmd := exec.Command("unshare", "-rm", "sh", "-c", `mount -t tmpfs -o size=400m none /mnt && exec "$0" serve --data /mnt/data --listen 127.0.0.1:0 --http ""`, os.Args[0])
	cmd.Env = append(os.Environ(), "RADNODE_TEST_MAIN=1")
	log := &lockedBuffer{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log:\n%s", log)
		}
	}()
	peer := dimse.Peer{AETitle: "RADNODE"}
	for deadline := time.Now().Add(patience); peer.Address == ""; time.Sleep(10 * time.Millisecond) {
		for line := range strings.Lines(log.String()) {
			var said struct{ Msg, DICOM string }
			if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "radnode serves" {
				peer.Address = said.DICOM
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("radnode does not start:\n%s", log)
		}
	}
	inside := func(args ...string) {
		t.Helper()
		full := append([]string{"--preserve-credentials", "-U", "-m", "-t", strconv.Itoa(cmd.Process.Pid)}, args...)
		if out, err := exec.Command("nsenter", full...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// One association for all, which the limit on open files then leaves alone.
	client, err := dimse.Dial(ctx, peer, dimse.DialOptions{Proposals: []dimse.Proposal{{SOPClass: dicom.CTImageStorage, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Abort()
	k := 0
	put := func(size int) dimse.Status {
		t.Helper()
		k++
		o := object(t, imageDataSet("1.2.3."+strconv.Itoa(k), make([]byte, size)), dicom.ExplicitVRLittleEndian)
		status, err := client.Store(ctx, o.meta, bytes.NewReader(o.data))
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	refused := func(size int, why string) {
		t.Helper()
		status := put(size)
		t.Logf("    %v", status)
		if status.Code>>8 != 0xA7 || !strings.Contains(status.Comment, why) {
			t.Errorf("%v, want A700 and %q", status, why)
		}
	}
	resumes := func(size int) {
		t.Helper()
		for deadline := time.Now().Add(patience / 2); ; time.Sleep(50 * time.Millisecond) {
			if status := put(size); status.Code == 0 {
				return
			} else if time.Now().After(deadline) {
				t.Fatalf("still %v", status)
			}
		}
	}
	const small, large = 1000, 3 << 20 // a large object gets a file of its own, a small one fits into what the log has reserved
	resumes(small)
	resumes(large)
	inside("sh", "-c", "head -c 400m /dev/zero >/mnt/filler || true")
	refused(large, "full")
	inside("rm", "/mnt/filler")
	resumes(large)
	resumes(small)

	limit := func(files string) {
		t.Helper()
		if out, err := exec.Command("prlimit", "--pid", strconv.Itoa(cmd.Process.Pid), "--nofile="+files).CombinedOutput(); err != nil {
			t.Fatalf("prlimit: %v: %s", err, out)
		}
	}
	limit("3:")
	refused(large, "files")
	limit("4096:")
	resumes(large)
	resumes(small)
	if strings.Contains(log.String(), "panic") {
		t.Error("a panic is in the log")
	}
}

// (30) The set of Successes is within what is there after a SIGKILL. TestKilledProcessLosesNothing does it more often.
func hostileKills(t *testing.T) {
	data := t.TempDir()
	objects := demoObjects(t)
	confirmed, broken := 0, 0
	for round := range 5 {
		study := shuffled(uint64(round), variant(t, objects, round))
		c := startChild(t, data)
		killed := make(chan struct{})
		go func() {
			defer close(killed)
			time.Sleep(time.Duration(5+13*round) * time.Millisecond)
			c.kill()
		}()
		stored := pushUntilBroken(t.Context(), "SCANNER", c.peer, study, func(int) {})
		<-killed
		confirmed += stored
		broken += len(study) - stored
		st, err := store.Open(data, store.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range study[:stored] {
			sameBytes(t, st, o, "round "+strconv.Itoa(round)+", object "+strconv.Itoa(i))
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d objects confirmed before 5 kills, %d not", confirmed, broken)
	if broken == 0 {
		t.Error("no kill fell into a push")
	}
}

// (31) The clock of a machine may jump by an hour between two starts, or while radnode runs: what was written by the other clock
// neither stops the work nor loses it.
func hostileClock(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour} {
		cfg := testConfig(t)
		cfg.Quiet = 300 * time.Millisecond
		x := startTarget(t, cfg, nil)
		study := hostileStudyOf(t, 1)
		x.attack(128<<20, func() {
			x.push(study.objects[:len(study.objects)-1])
			state := waitState(t, x.node.store, study.uid, pipeline.StateWaiting, func(s store.State) bool { return len(s.Missing) == 1 })
			// As if the state and a job had been written before the clock jumped.
			state.At = time.Now().Add(jump)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := x.node.store.Commit(ctx, store.Change{
				States: []store.State{state},
				Jobs:   []store.Job{{Key: "clock", Queue: "clock", Study: study.uid, RunAt: time.Now().Add(jump)}},
			}); err != nil {
				t.Fatal(err)
			}
			x.push(study.objects[len(study.objects)-1:])
			waitState(t, x.node.store, study.uid, pipeline.StateComputed, func(store.State) bool { return true })
			short, done := context.WithTimeout(ctx, 200*time.Millisecond)
			defer done()
			job, err := x.node.store.Claim(short, "clock", time.Minute)
			if early := jump < 0; early != (err == nil) || !early && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a job that was due in %v: %v, %v", jump, job, err)
			}
			if q := x.node.store.Queues()["clock"]; q.Pending+q.Leased != 1 {
				t.Errorf("the job is lost: %+v", q)
			}
		})
	}
}

// (32) Nobody asks for the name of a peer's address, so a hostile answer reaches nobody.
func hostileDNS(t *testing.T) {
	var asked atomic.Int64
	old := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		asked.Add(1)
		return nil, errors.New("no DNS in this test")
	}}
	defer func() { net.DefaultResolver = old }()
	if _, err := net.LookupAddr("192.0.2.1"); err == nil || asked.Load() == 0 {
		t.Fatalf("the resolver of this test is not asked: %v", err)
	}
	asked.Store(0)
	cfg := testConfig(t)
	cfg.Peers = map[string]PeerConfig{"CT1": {AET: "CT1", From: []string{"127.0.0.1"}}, "SCANNER": {AET: "SCANNER", From: []string{"127.0.0.1"}}}
	x := startTarget(t, cfg, nil)
	x.attack(16<<20, func() {
		x.connect().send([]byte("GET / HTTP/1.1\r\n\r\n")).ends(0)
		x.connect().send(request(func(rq *ul.AssociateRQ) { rq.Calling = title("STRANGER") })).ends(pduAssociateRJ)
		x.associate(nil).send([]byte{1, 0, 0, 0, 0, 0}).ends(pduAbort)
		x.associate(nil).lives()
	})
	x.stop()
	if n := asked.Load(); n != 0 {
		t.Errorf("%d questions to the DNS", n)
	}
	x.logged("127.0.0.1:")
}
