package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/radnode/radnode/dimse"
)

const insideEnv = "RADNODE_STORE_TEST_INSIDE" // the name of the test that goes on in this process

// inside runs the test again in a process of its own behind a command, and is true in that process.
func inside(t *testing.T, command ...string) bool {
	t.Helper()
	if os.Getenv(insideEnv) == t.Name() {
		return true
	}
	if out, err := exec.Command(command[0], append(slices.Clone(command[1:]), "true")...).CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s does not work here: %v %s", strings.Join(command, " "), err, out)
		}
		t.Skipf("%s does not work here: %v %s", strings.Join(command, " "), err, out)
	}
	cmd := exec.Command(command[0], append(slices.Clone(command[1:]), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")...)
	cmd.Env = append(os.Environ(), insideEnv+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
	return false
}

// A file system that is full to the last byte, with the index on it: what is there is served, also after a restart; what is new
// is refused and leaves nothing; and all goes on when there is room, whatever of the index could not be written.
func TestFullFileSystem(t *testing.T) {
	if !inside(t, "unshare", "-r", "-m") {
		return
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=12m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	// Somebody else's file, which is removed later: what then is free is more than the index has to write.
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	book := new(logBook)
	o := Options{Reserve: 1, segmentSize: 1 << 20, largeObject: crashLarge, Logger: book.logger(), calm: time.Second}
	s := openStore(t, dir, o)
	var kept []object
	var refusal error
	step := 0
	for n := 0; refusal == nil || n%7 != 0; n++ {
		size := 60_000
		if n%5 == 0 {
			size = crashLarge + 50_000
		}
		obj := newObject(testStudy, fmt.Sprintf("1.2.%d", n), size, uint64(n))
		if err := obj.put(s); err != nil {
			refusal = err
		} else {
			kept = append(kept, obj)
		}
		if s.Commit(ctx, Change{Jobs: []Job{{Key: fmt.Sprint(n), Queue: "q"}}}) == nil {
			step++
		}
	}
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 4096); err == nil; {
		_, err = filler.Write(b)
	}
	_ = filler.Close()
	n := 0
	for _, size := range []int{50_000, 5000, 400} { // until even the last page of what is reserved for the segment is full
		for {
			n++
			obj := newObject(testStudy, fmt.Sprintf("1.3.%d", n), size, uint64(n))
			if obj.put(s) != nil {
				break
			}
			kept = append(kept, obj)
		}
	}
	time.Sleep(2 * gaugeEvery)
	var status *dimse.Status
	for _, size := range []int{2000, crashLarge + 10_000} {
		err := newObject(testStudy, "1.9.9", size, 9).put(s)
		if !errors.As(err, &status) || status.Code != dimse.StatusOutOfResources || !strings.HasPrefix(status.Comment, "disk ") {
			t.Errorf("%d bytes: got %v, want A700", size, err)
		}
	}
	if err := s.Commit(ctx, Change{Jobs: []Job{{Key: "late", Queue: "q", Payload: make([]byte, 5000)}}}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a step on a full file system: %v", err)
	}
	_ = s.flushIndex()
	check := func(when string) {
		t.Helper()
		for _, o := range kept {
			wantObject(t, s, o)
		}
		if got := len(s.Jobs("q")); got != step {
			t.Errorf("%s: %d jobs, want %d", when, got, step)
		}
		if _, err := s.Instance("1.9.9"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: the refused instance is there: %v", when, err)
		}
		if d := s.Damage(); len(d) > 0 {
			t.Errorf("%s: damage %v", when, d)
		}
	}
	check("full")
	if tmp, _ := filepath.Glob(filepath.Join(dir, largeDir, "*.tmp")); len(tmp) > 0 {
		t.Errorf("left behind: %v", tmp)
	}
	_ = s.Close() // the index may be behind
	s = openStore(t, dir, o)
	check("full, after a restart")

	for _, name := range []string{"filler", "ballast"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * gaugeEvery)
	again := newObject(testStudy, "1.4.1", 2000, 1)
	mustPut(t, s, again)
	kept = append(kept, again)
	if err := s.Commit(ctx, Change{Jobs: []Job{{Key: "late", Queue: "q"}}}); err != nil {
		t.Fatal(err)
	}
	step++
	for deadline := time.Now().Add(time.Minute); s.flushIndex() != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the index does not go on")
		}
	}
	check("free again")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, indexFile)); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir, o)
	check("with an index from the log")
	t.Logf("%d objects and %d steps were kept", len(kept), step)
	if len(kept) < 20 || !strings.Contains(book.String(), "store: the index cannot be written") {
		t.Error("the file system was not full: this test proves nothing")
	}
	for _, text := range []string{"store: the log cannot be written", "store: the index cannot be written"} {
		if n := strings.Count(book.String(), text); n > 2 { // two stores were open meanwhile
			t.Errorf("the log says %q %d times", text, n)
		}
	}
	if t.Failed() {
		t.Log(book.String())
	}
}
