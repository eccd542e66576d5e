package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/store"
)

const insideEnv = "RADNODE_TEST_INSIDE" // the name of the test that goes on in this process

// inside runs the test again in a process of its own behind a command, and is true in that process.
func inside(t *testing.T, command ...string) bool {
	t.Helper()
	if os.Getenv(insideEnv) == t.Name() {
		return true
	}
	if out, err := exec.Command(command[0], append(slices.Clone(command[1:]), "true")...).CombinedOutput(); err != nil {
		lacking(t, "%s does not work here: %v %s", strings.Join(command, " "), err, out)
	}
	args := append(slices.Clone(command[1:]), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	cmd := exec.Command(command[0], args...)
	cmd.Env = append(os.Environ(), insideEnv+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
	return false
}

// ownMounts is a mount namespace, in which this process is root.
var ownMounts = []string{"unshare", "-r", "-m"}

func mountMemory(t *testing.T, dir, options string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
}

// remount makes a file system read-only or not.
func remount(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|flags, ""); err != nil {
		t.Fatalf("remount: %v", err)
	}
}

// ballast is an image that nothing is drawn on.
func ballast(t *testing.T, n, size int) demoObject {
	t.Helper()
	uid := "1.2.3.7." + strconv.Itoa(n)
	d := dicom.New()
	d.SetString(dicom.SOPClassUID, dicom.CTImageStorage)
	d.SetString(dicom.SOPInstanceUID, uid)
	d.SetString(dicom.Modality, "CT")
	d.SetString(dicom.StudyInstanceUID, "1.2.3.7")
	d.SetString(dicom.SeriesInstanceUID, "1.2.3.7.0")
	d.SetBytes(dicom.PixelData, dicom.OW, bytes.Repeat([]byte{byte(n), 1}, size/2))
	b, err := d.EncodedBytes()
	if err != nil {
		t.Fatal(err)
	}
	return demoObject{dicom.FileMeta{MediaStorageSOPClassUID: dicom.CTImageStorage, MediaStorageSOPInstanceUID: uid, TransferSyntaxUID: dicom.ExplicitVRLittleEndian}, b}
}

// A ledger is what became of what was sent.
type ledger struct {
	kept, refused []demoObject
	comments      map[string]int
}

// send sends objects over one association, also after one was refused, and demands that every refusal is A700 and says why.
func (l *ledger) send(t *testing.T, to dimse.Peer, objects ...demoObject) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client, err := dimse.Dial(ctx, to, dimse.DialOptions{CallingAET: "SCANNER", Proposals: []dimse.Proposal{
		{SOPClass: dicom.CTImageStorage, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}},
		{SOPClass: dicom.RTStructureSetStorage, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Abort()
	if l.comments == nil {
		l.comments = map[string]int{}
	}
	for _, o := range objects {
		status, err := client.Store(ctx, o.meta, bytes.NewReader(o.data))
		switch {
		case err != nil:
			t.Fatalf("the association broke: %v", err)
		case status.Code == dimse.StatusSuccess:
			l.kept = append(l.kept, o)
		case status.Code != dimse.StatusOutOfResources || status.Comment == "":
			t.Fatalf("refused with %v, want A700 that says why", &status)
		default:
			l.refused = append(l.refused, o)
			l.comments[status.Comment]++
		}
	}
	_ = client.Release(ctx)
}

// again sends what was refused until it is taken: a sender does so by itself.
func (l *ledger) again(t *testing.T, to dimse.Peer) {
	t.Helper()
	for deadline := time.Now().Add(patience); len(l.refused) > 0; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d objects are refused still: %v", len(l.refused), l.comments)
		}
		objects := l.refused
		l.refused = nil
		l.send(t, to, objects...)
	}
}

// fill takes all of the free space, or all but some, with a file.
func fill(t *testing.T, dir string, but int64) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64<<10)
	for left := int64(st.Bavail)*st.Bsize - but; left > 0; left -= int64(len(b)) {
		if _, err := f.Write(b); err != nil {
			break
		}
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

// The disk fills up while a sender pushes and a study is computed, and is freed again. With a reserve of one byte the system
// itself refuses (ENOSPC) whatever there is to write: objects, reports, states, the index. With the usual reserve new objects
// are refused before, and what is queued goes on. Either way every Success is there, every refusal says why, and all reports
// come without anybody doing anything.
func TestDiskFull(t *testing.T) {
	if !inside(t, ownMounts...) {
		return
	}
	objects := demoObjects(t)
	for _, c := range []struct {
		name    string
		reserve diskReserve
		left    int64
		comment string
	}{
		{"no reserve", 1, 200 << 10, "disk full: no space left in data folder"},
		{"usual reserve", 0, 4 << 20, "disk nearly full: "},
		{"reserve used up", 0, 0, "disk nearly full: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			pacs := startPACS(t, "127.0.0.1:0")
			cfg := testConfig(t)
			cfg.Reserve = c.reserve
			cfg.Deliver = []string{pacs.destination()}
			mountMemory(t, cfg.Data, "size=32m")
			n, stop := startNode(t, cfg)
			var l ledger
			ready, rest := variant(t, objects, 1), variant(t, objects, 2)
			l.send(t, n.peer(), ready...)
			pacs.waitReports(t, 1)

			almost := variant(t, objects, 3) // complete but for its last image when the disk is full
			l.send(t, n.peer(), almost[:len(almost)-1]...)
			free := fill(t, cfg.Data, c.left)
			time.Sleep(1100 * time.Millisecond) // until the store looks again
			for i := 0; len(l.refused) < 20; i++ {
				if i == 200 {
					t.Fatal("nothing is refused on a full disk")
				}
				l.send(t, n.peer(), ballast(t, i, 300<<10))
			}
			l.send(t, n.peer(), almost[len(almost)-1])
			l.send(t, n.peer(), rest...)
			echo(t, n.peer())
			if c.name == "usual reserve" {
				if err := n.store.Commit(t.Context(), store.Change{States: []store.State{{Study: "1.2.3.7", Subject: "x", Name: "computed"}}}); err != nil {
					t.Errorf("what is queued does not go on from the reserve: %v", err)
				}
			}
			if sp := n.store.Space(); sp.Reason == "" {
				t.Errorf("nothing is said of a full disk: %+v", sp)
			}
			found := false
			for comment := range l.comments {
				found = found || strings.HasPrefix(comment, c.comment)
				if !strings.HasPrefix(comment, "disk ") || len(comment) > 64 {
					t.Errorf("comment %q", comment)
				}
			}
			if !found {
				t.Errorf("refused with %v, want %q among them", l.comments, c.comment)
			}
			time.Sleep(time.Second) // the pipeline tries what it cannot store

			free()
			time.Sleep(1100 * time.Millisecond)
			l.again(t, n.peer())
			pacs.waitReports(t, 3)
			waitIdle(t, n)
			for i, o := range l.kept {
				sameBytes(t, n.store, o, "object "+strconv.Itoa(i))
			}
			stop()
			n, _ = startNode(t, cfg)
			for i, o := range l.kept {
				sameBytes(t, n.store, o, "after a restart, object "+strconv.Itoa(i))
			}
			waitIdle(t, n)
			if d := n.store.Damage(); len(d) > 0 {
				t.Errorf("damage %v", d)
			}
			if got := len(pacs.received(reportClasses...)); got != 3 {
				t.Errorf("%d reports, want 3", got)
			}
		})
	}
}

func echo(t *testing.T, to dimse.Peer) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client, err := dimse.Dial(ctx, to, dimse.DialOptions{CallingAET: "SCANNER", Proposals: []dimse.Proposal{
		{SOPClass: dicom.VerificationSOPClass, TransferSyntaxes: []string{dicom.ImplicitVRLittleEndian}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Abort()
	if err := client.Echo(ctx); err != nil {
		t.Errorf("C-ECHO: %v", err)
	}
}

// The file system of the large objects becomes read-only under a node that works, and writable again. (That of the log cannot
// be: the kernel refuses to remount one on which a file is open for writing; TestDiskFails of the store has EROFS there.)
func TestDiskReadOnly(t *testing.T) {
	if !inside(t, ownMounts...) {
		return
	}
	cfg := testConfig(t)
	large := filepath.Join(cfg.Data, "large")
	mountMemory(t, large, "size=64m")
	n, _ := startNode(t, cfg)
	var l ledger
	l.send(t, n.peer(), ballast(t, 1, 3<<20), ballast(t, 2, 20<<10))
	remount(t, large, unix.MS_RDONLY)
	l.send(t, n.peer(), ballast(t, 3, 3<<20))
	if len(l.refused) != 1 || l.comments["data folder is mounted read-only"] != 1 {
		t.Fatalf("%d refused: %v", len(l.refused), l.comments)
	}
	l.send(t, n.peer(), ballast(t, 4, 20<<10)) // the log is elsewhere
	if len(l.refused) != 1 {
		t.Errorf("%v", l.comments)
	}
	for i, o := range l.kept {
		sameBytes(t, n.store, o, "while it is read-only, object "+strconv.Itoa(i))
	}
	remount(t, large, 0)
	l.again(t, n.peer())
	for i, o := range l.kept {
		sameBytes(t, n.store, o, "object "+strconv.Itoa(i))
	}
	if list, err := os.ReadDir(large); err != nil || len(list) != 2 {
		t.Errorf("%v, %v", list, err)
	}
}

// A node on a file system that is read-only from the beginning says so and ends.
func TestStartReadOnly(t *testing.T) {
	if !inside(t, ownMounts...) {
		return
	}
	cfg := testConfig(t)
	mountMemory(t, cfg.Data, "size=16m")
	_, stop := startNode(t, cfg)
	stop()
	remount(t, cfg.Data, unix.MS_RDONLY)
	if _, err := open(cfg, slog.New(slog.DiscardHandler)); !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), cfg.Data) {
		t.Errorf("got %v, want that the data folder is read-only", err)
	}
	remount(t, cfg.Data, 0)
	startNode(t, cfg)
}

// The process has no file left to open: connections wait and large objects are refused, and both go on by themselves.
func TestTooManyOpenFiles(t *testing.T) {
	if !inside(t, "env") {
		return
	}
	cfg := testConfig(t)
	n, _ := startNode(t, cfg)
	dial := func() *dimse.Client {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		client, err := dimse.Dial(ctx, n.peer(), dimse.DialOptions{CallingAET: "SCANNER", Proposals: []dimse.Proposal{
			{SOPClass: dicom.CTImageStorage, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	client := dial()
	defer client.Abort()
	waiting, err := net.Dial("tcp", n.dicom.Addr().String()) // its descriptor is there before there are none
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	keep := func(o demoObject) dimse.Status {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		status, err := client.Store(ctx, o.meta, bytes.NewReader(o.data))
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	small, large := ballast(t, 1, 20<<10), ballast(t, 2, 3<<20)
	if status := keep(small); status.Code != dimse.StatusSuccess {
		t.Fatal(&status)
	}

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	tight := limit
	tight.Cur = 64
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &tight); err != nil {
		t.Fatal(err)
	}
	var taken []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			if !errors.Is(err, unix.EMFILE) {
				t.Fatal(err)
			}
			break
		}
		taken = append(taken, f)
	}
	// One descriptor is ours: the connection that accept cannot take.
	_ = taken[0].Close()
	late, err := net.Dial("tcp", n.dicom.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if status := keep(large); status.Code != dimse.StatusOutOfResources || status.Comment != "too many open files, raise the limit" {
		t.Errorf("a large object without a file: %v", &status)
	}
	if status := keep(ballast(t, 3, 20<<10)); status.Code != dimse.StatusSuccess { // the segment is open
		t.Errorf("a small object: %v", &status)
	}
	time.Sleep(50 * time.Millisecond) // accept fails and waits
	_ = late.Close()
	for _, f := range taken[1:] {
		_ = f.Close()
	}
	if status := keep(large); status.Code != dimse.StatusSuccess {
		t.Errorf("when there are files again: %v", &status)
	}
	again := dial()
	defer again.Abort()
	for _, o := range []demoObject{small, large} {
		sameBytes(t, n.store, o, "object")
	}
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(io.Discard, waiting) })
	_ = waiting.Close()
	wg.Wait()
}
