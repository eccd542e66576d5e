package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/store"
)

// A child is radnode as a process of its own, which can be killed.
type child struct {
	cmd  *exec.Cmd
	peer dimse.Peer
	log  chan struct{} // closed when its log has been read to the end
}

// startChild starts radnode serve and reads its address from the log.
func startChild(t testing.TB, data string, flags ...string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0", "--http", ""}, flags...)...)
	cmd.Env = append(os.Environ(), "RADNODE_TEST_MAIN=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd, log: make(chan struct{})}
	t.Cleanup(c.kill)
	address := make(chan string, 1)
	var said bytes.Buffer
	go func() {
		defer close(c.log)
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			said.Write(append(lines.Bytes(), '\n'))
			var line struct{ Msg, DICOM string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "radnode serves" {
				address <- line.DICOM
			}
		}
	}()
	select {
	case a := <-address:
		c.peer = dimse.Peer{AETitle: "RADNODE", Address: a}
	case <-c.log:
		t.Fatalf("radnode serve ended at once:\n%s", said.String())
	case <-time.After(patience):
		t.Fatal("radnode serve does not say where it listens")
	}
	return c
}

// kill ends the process without any chance to clean up.
func (c *child) kill() {
	if c.cmd.ProcessState == nil {
		_ = c.cmd.Process.Kill()
		<-c.log
		_ = c.cmd.Wait()
	}
}

// variant is the same study under other UIDs.
func variant(t *testing.T, objects []demoObject, k int) (out []demoObject) {
	t.Helper()
	suffix := strconv.Itoa(k)
	own := map[string]bool{}
	var files []*dicom.File
	for _, o := range objects {
		f, err := dicom.ReadDataSet(bytes.NewReader(o.data), int64(len(o.data)), o.meta.TransferSyntaxUID)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
		for _, tag := range []dicom.Tag{dicom.SOPInstanceUID, dicom.SeriesInstanceUID, dicom.StudyInstanceUID} {
			own[f.DataSet.String(tag)] = true
		}
	}
	var rename func(d *dicom.DataSet)
	rename = func(d *dicom.DataSet) {
		for e := range d.Elements() {
			for _, item := range e.Items() {
				rename(item)
			}
			if e.VR == dicom.UI {
				if uid := d.String(e.Tag); own[uid] {
					d.SetString(e.Tag, dicom.UIDFrom(uid, suffix))
				}
			}
		}
	}
	for i, f := range files {
		rename(f.DataSet)
		if f.Pixels != nil {
			pixels, err := io.ReadAll(f.Pixels.Reader())
			if err != nil {
				t.Fatal(err)
			}
			f.DataSet.SetBytes(dicom.PixelData, dicom.OW, pixels)
		}
		data, err := f.DataSet.EncodedBytes()
		if err != nil {
			t.Fatal(err)
		}
		meta := objects[i].meta
		meta.MediaStorageSOPInstanceUID = f.DataSet.String(dicom.SOPInstanceUID)
		meta.TransferSyntaxUID = dicom.ExplicitVRLittleEndian
		out = append(out, demoObject{meta, data})
	}
	return out
}

// Whatever was answered 0000 before a SIGKILL is there afterwards, byte for byte, and the reports still come.
// RADNODE_KILLS sets the number of rounds.
func TestKilledProcessLosesNothing(t *testing.T) {
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	if s := os.Getenv("RADNODE_KILLS"); s != "" {
		var err error
		if rounds, err = strconv.Atoi(s); err != nil {
			t.Fatalf("RADNODE_KILLS: %v", err)
		}
	}
	objects := demoObjects(t)
	data := t.TempDir()
	pacs := startPACS(t, "127.0.0.1:0")
	var all, unsent []demoObject
	confirmed := 0
	for round := range rounds {
		study := shuffled(uint64(round), variant(t, objects, round))
		all = append(all, study...)
		c := startChild(t, data, "--deliver", pacs.destination())
		// The kill follows the answers and not the clock, which would miss the push on a busy machine: it comes a moment after
		// so many of them, or after all, while the study is computed and delivered.
		after := rand.IntN(len(study) * 5 / 4)
		moment := time.Duration(rand.Int64N(int64(10 * time.Millisecond)))
		if round == 0 { // at least once certainly in the middle of a push
			after, moment = len(study)/2, 0
		}
		var killed sync.WaitGroup
		stored := pushUntilBroken(t.Context(), "SCANNER", c.peer, study, func(stored int) {
			switch {
			case stored != after:
			case moment == 0:
				c.kill()
			default:
				killed.Go(func() {
					time.Sleep(moment)
					c.kill()
				})
			}
		})
		killed.Wait()
		time.Sleep(time.Duration(max(0, after-len(study))) * moment)
		c.kill()
		confirmed += stored

		st, err := store.Open(data, store.Options{Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatalf("round %d: the store does not open after a kill: %v", round, err)
		}
		for i, o := range study[:stored] {
			sameBytes(t, st, o, "round "+strconv.Itoa(round)+", object "+strconv.Itoa(i))
		}
		if err := st.Close(); err != nil {
			t.Fatal(err)
		}
		unsent = append(unsent, study[stored:]...)
	}
	t.Logf("%d objects confirmed before %d kills, %d not", confirmed, rounds, len(unsent))
	if confirmed == 0 || len(unsent) == 0 {
		t.Fatal("the kills did not fall into the pushes: this test proves nothing")
	}

	c := startChild(t, data, "--deliver", pacs.destination())
	pushOver(t, c.peer, 1, unsent)
	deadline := time.Now().Add(patience)
	reports := map[string]bool{}
	for len(reports) < rounds {
		for _, o := range pacs.received(reportClasses...) {
			if uid := o.meta.MediaStorageSOPInstanceUID; !reports[uid] {
				reports[uid] = true
				deadline = time.Now().Add(patience)
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d reports of %d, and no other for %v", len(reports), rounds, patience)
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.kill()

	st, err := store.Open(data, store.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for i, o := range all {
		sameBytes(t, st, o, "at the end, object "+strconv.Itoa(i))
	}
	if len(reports) != rounds {
		t.Errorf("%d different reports, want %d: one a study", len(reports), rounds)
	}
}

// pushUntilBroken sends objects in their order and returns how many were answered 0000. It tells of each number of them, also of 0.
func pushUntilBroken(ctx context.Context, calling string, to dimse.Peer, objects []demoObject, answered func(stored int)) (stored int) {
	var proposals []dimse.Proposal
	for _, class := range slices.Sorted(slices.Values([]string{dicom.CTImageStorage, dicom.RTStructureSetStorage})) {
		proposals = append(proposals, dimse.Proposal{SOPClass: class, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}})
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client, err := dimse.Dial(ctx, to, dimse.DialOptions{CallingAET: calling, Proposals: proposals})
	if err != nil {
		return 0
	}
	defer client.Abort()
	answered(0)
	for _, o := range objects {
		status, err := client.Store(ctx, o.meta, bytes.NewReader(o.data))
		if err != nil || status.Code != dimse.StatusSuccess {
			return stored
		}
		stored++
		answered(stored)
	}
	_ = client.Release(ctx)
	return stored
}

func sameBytes(t *testing.T, st *store.Store, o demoObject, what string) {
	t.Helper()
	in, err := st.OpenInstance(o.meta.MediaStorageSOPInstanceUID)
	if err != nil {
		t.Fatalf("%s: answered 0000 and lost: %v", what, err)
	}
	defer in.Close()
	got := make([]byte, in.Size)
	if _, err := in.ReadAt(got, 0); err != nil && err != io.EOF {
		t.Fatalf("%s: %v", what, err)
	}
	if !bytes.Equal(got, o.data) {
		t.Fatalf("%s: other bytes than were sent", what)
	}
}
