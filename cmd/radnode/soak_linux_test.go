package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
)

// TestSoak lets a node work among everything that goes wrong in a hospital: four scanners push studies without a pause, and send some
// objects twice, some with other bytes under the same UID and some under another patient; a hostile peer does what it can think of; the
// PACS is away for a third of the time; the disk fills up and is freed; the process is killed and starts again. At the end every study
// has its report in the PACS, once, and the balance accounts for every Success that a scanner heard.
//
//	RADNODE_SOAK=10m go test -run Soak -timeout 30m -v ./cmd/radnode
func TestSoak(t *testing.T) {
	length := 20 * time.Second
	if s := os.Getenv("RADNODE_SOAK"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatalf("RADNODE_SOAK: %v", err)
		}
	} else if testing.Short() {
		t.Skip("a short run")
	}
	s := &soak{t: t, objects: demoObjects(t), disk: smallDisk(t, 3<<30), end: time.Now().Add(length)}
	s.startPACS("127.0.0.1:0")
	s.config = filepath.Join(t.TempDir(), "radnode.yaml")
	config := fmt.Sprintf(`
data: %s
dicom: {max_associations: 20, idle: 10s}
quiet: 2s
reserve: 16MiB
peers:
  PACS: {aet: PACS, address: %q}
  S0: {aet: SCANNER0, from: [127.0.0.1], reserved: 1}
  S1: {aet: SCANNER1, from: [127.0.0.1], reserved: 1}
  S2: {aet: SCANNER2, from: [127.0.0.1], reserved: 1}
  S3: {aet: SCANNER3, from: [127.0.0.1], reserved: 1, objects_per_second: 200}
deliver: [PACS]
`, filepath.Join(s.disk, "data"), s.pacs.addr)
	if err := os.WriteFile(s.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	s.startNode()

	ctx, cancel := context.WithDeadline(t.Context(), s.end)
	defer cancel()
	var scanners, others sync.WaitGroup
	for k := range 4 {
		scanners.Go(func() { s.scan(ctx, k) })
	}
	others.Go(func() { s.attack(ctx) })
	others.Go(func() { s.watchMemory(ctx) })
	at := func(share float64) bool { // waits for that part of the time to have passed
		select {
		case <-time.After(time.Until(s.end.Add(-time.Duration((1 - share) * float64(length))))):
		case <-ctx.Done():
		}
		return true
	}
	at(0.15)
	t.Log("the PACS goes away")
	s.pacs.stop()
	at(0.45)
	s.startPACS(s.pacs.addr)
	t.Log("the PACS is back")
	at(0.55)
	t.Log("the disk fills up")
	freeDisk := s.fillDisk()
	at(0.7)
	freeDisk()
	t.Log("the disk has room again")
	at(0.8)
	t.Log("the process is killed")
	s.node.Load().kill()
	s.startNode()
	others.Wait()
	scanners.Wait() // each goes on until all of its studies were taken
	s.settle()
	s.check()
}

// A soak is the world around one node.
type soak struct {
	t       *testing.T
	objects []demoObject
	disk    string
	config  string
	end     time.Time

	node atomic.Pointer[child]
	pacs *testPACS
	old  []*testPACS // before it went away

	studies, distinct, again, refused, attacks atomic.Int64
	resident                                   atomic.Int64
	numbers                                    atomic.Int64
}

func (s *soak) startPACS(addr string) {
	if s.pacs != nil {
		s.old = append(s.old, s.pacs)
	}
	s.pacs = startPACS(s.t, addr)
}

func (s *soak) startNode() {
	s.node.Store(startChild(s.t, filepath.Join(s.disk, "data"), "--config", s.config))
}

// scan pushes one study after the other, as a scanner does: what was not answered with Success is sent again until it was.
func (s *soak) scan(ctx context.Context, k int) {
	rnd := rand.New(rand.NewPCG(uint64(k), 7))
	calling := "SCANNER" + strconv.Itoa(k)
	for ctx.Err() == nil {
		n := int(s.numbers.Add(1))
		todo := shuffled(uint64(n), variant(s.t, s.objects, n))
		s.studies.Add(1)
		s.distinct.Add(int64(len(todo)))
		images := todo
		if n%5 == 0 { // the same bytes once more
			todo = append(todo, todo[rnd.IntN(len(todo))])
			s.again.Add(1)
		}
		if n%7 == 0 { // other bytes under the UID of an image that is here by then
			o := images[0]
			for _, c := range images {
				if c.meta.MediaStorageSOPClassUID == dicom.CTImageStorage {
					o = c
				}
			}
			todo = append(todo, s.changed(o, dicom.StudyDescription, "other bytes "+strconv.Itoa(n)))
			s.distinct.Add(1)
		}
		if n%11 == 0 { // another patient in this study
			o := s.changed(images[0], dicom.PatientID, "OTHER")
			o = s.changed(o, dicom.SOPInstanceUID, dicom.UIDFrom(o.meta.MediaStorageSOPInstanceUID, "other"))
			todo = append(todo, o)
			s.distinct.Add(1)
		}
		for len(todo) > 0 {
			stored := pushUntilBroken(s.t.Context(), calling, s.node.Load().peer, todo, func(int) {})
			if todo = todo[stored:]; len(todo) > 0 {
				s.refused.Add(1)
				time.Sleep(200 * time.Millisecond)
			}
			if time.Since(s.end) > 3*time.Minute {
				s.t.Errorf("%s cannot get rid of %d objects", calling, len(todo))
				return
			}
		}
		time.Sleep(time.Duration(200+rnd.IntN(1200)) * time.Millisecond)
	}
}

func (s *soak) changed(o demoObject, tag dicom.Tag, value string) demoObject {
	d := o.dataSet(s.t)
	pixels := pixelsOf(s.t, o)
	if pixels != nil {
		d.SetBytes(dicom.PixelData, dicom.OW, pixels)
	}
	d.SetString(tag, value)
	data, err := d.EncodedBytes()
	if err != nil {
		s.t.Error(err)
	}
	meta := o.meta
	meta.MediaStorageSOPInstanceUID = d.String(dicom.SOPInstanceUID)
	meta.TransferSyntaxUID = dicom.ExplicitVRLittleEndian
	return demoObject{meta, data}
}

func pixelsOf(t testing.TB, o demoObject) []byte {
	f, err := dicom.ReadDataSet(bytes.NewReader(o.data), int64(len(o.data)), o.meta.TransferSyntaxUID)
	if err != nil {
		t.Error(err)
		return nil
	}
	if f.Pixels == nil {
		return nil
	}
	b, err := io.ReadAll(f.Pixels.Reader())
	if err != nil {
		t.Error(err)
	}
	return b
}

// attack does to the node what it should not mind.
func (s *soak) attack(ctx context.Context) {
	rnd := rand.New(rand.NewPCG(5, 6))
	var halfOpen []net.Conn
	defer func() {
		for _, c := range halfOpen {
			c.Close()
		}
	}()
	say := func(b []byte) {
		c, err := net.DialTimeout("tcp", s.node.Load().peer.Address, time.Second)
		if err != nil {
			return
		}
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, _ = c.Write(b)
		_, _ = c.Read(make([]byte, 1))
		c.Close()
	}
	noise := make([]byte, 4096)
	for ctx.Err() == nil {
		s.attacks.Add(1)
		switch rnd.IntN(8) {
		case 0:
			for i := range noise {
				noise[i] = byte(rnd.Uint32())
			}
			say(noise[:1+rnd.IntN(len(noise))])
		case 1:
			say([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
		case 2:
			say([]byte{1, 0, 0xff, 0xff, 0xff, 0xff})
		case 3:
			say([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3})
		case 4: // says nothing and stays
			if c, err := net.DialTimeout("tcp", s.node.Load().peer.Address, time.Second); err == nil {
				halfOpen = append(halfOpen, c)
			}
			if len(halfOpen) > 200 {
				halfOpen[0].Close()
				halfOpen = halfOpen[1:]
			}
		case 5: // a stranger
			if n := pushUntilBroken(ctx, "STRANGER", s.node.Load().peer, s.objects[:1], func(int) {}); n > 0 {
				s.t.Error("a peer that nobody knows could store an object")
			}
		case 6: // one of the scanners, with an object that breaks off
			c, err := dimse.Dial(ctx, s.node.Load().peer, dimse.DialOptions{CallingAET: "SCANNER3", Proposals: []dimse.Proposal{{SOPClass: dicom.CTImageStorage, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}}}})
			if err == nil {
				_, _ = c.Store(ctx, dicom.FileMeta{MediaStorageSOPClassUID: dicom.CTImageStorage, MediaStorageSOPInstanceUID: "1.2.3", TransferSyntaxUID: dicom.ExplicitVRLittleEndian},
					io.MultiReader(bytes.NewReader(noise), failing{}))
				c.Abort()
			}
		case 7: // and with one that is none
			c, err := dimse.Dial(ctx, s.node.Load().peer, dimse.DialOptions{CallingAET: "SCANNER3", Proposals: []dimse.Proposal{{SOPClass: dicom.CTImageStorage, TransferSyntaxes: []string{dicom.ExplicitVRLittleEndian}}}})
			if err == nil {
				status, err := c.Store(ctx, dicom.FileMeta{MediaStorageSOPClassUID: dicom.CTImageStorage, MediaStorageSOPInstanceUID: "1.2.3", TransferSyntaxUID: dicom.ExplicitVRLittleEndian}, bytes.NewReader(noise))
				if err == nil && status.Success() {
					s.t.Error("noise was stored as an object")
				}
				c.Abort()
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("broken off") }

func (s *soak) watchMemory(ctx context.Context) {
	for ctx.Err() == nil {
		s.resident.Store(max(s.resident.Load(), residentNow(s.node.Load().cmd.Process.Pid)))
		time.Sleep(200 * time.Millisecond)
	}
}

// fillDisk takes all room on the disk, and what becomes free, until it is told to give it back.
func (s *soak) fillDisk() (free func()) {
	name := filepath.Join(s.disk, "balloon")
	stop, done := make(chan struct{}), make(chan struct{})
	f, err := os.Create(name)
	if err != nil {
		s.t.Fatal(err)
	}
	go func() {
		defer close(done)
		block := make([]byte, 1<<20)
		for {
			for len(block) > 0 {
				if _, err := f.Write(block); err != nil {
					break
				}
			}
			select {
			case <-stop:
				f.Close()
				os.Remove(name)
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() { close(stop); <-done }
}

// reports are the reports that the PACS has, with how often each was sent to it.
func (s *soak) reports() map[string]int {
	n := map[string]int{}
	for _, p := range append(s.old, s.pacs) {
		for _, o := range p.received(reportClasses...) {
			n[o.meta.MediaStorageSOPInstanceUID]++
		}
	}
	return n
}

// settle waits until every study has its report.
func (s *soak) settle() {
	deadline := time.Now().Add(3 * time.Minute)
	for len(s.reports()) < int(s.studies.Load()) {
		if time.Now().After(deadline) {
			s.t.Errorf("%d reports of %d studies", len(s.reports()), s.studies.Load())
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(3 * time.Second) // for one too many
}

func (s *soak) check() {
	t := s.t
	reports, twice := s.reports(), 0
	for _, n := range reports {
		if n > 1 {
			twice++
		}
	}
	if len(reports) != int(s.studies.Load()) {
		t.Errorf("%d reports of %d studies", len(reports), s.studies.Load())
	}
	cmd := exec.Command(os.Args[0], "balance", "--config", s.config)
	cmd.Env = append(os.Environ(), "RADNODE_TEST_MAIN=1")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("radnode balance: %v\n%s%s", err, out, said.String())
	}
	rows, err := csv.NewReader(bytes.NewReader(out)).ReadAll()
	if err != nil || len(rows) < 2 {
		t.Fatalf("radnode balance: %v\n%s", err, out)
	}
	sum := map[string]int{}
	for _, row := range rows[1:] {
		for i, name := range rows[0] {
			if n, err := strconv.Atoi(row[i]); err == nil {
				sum[name] += n
			}
		}
	}
	if want := int(s.distinct.Load()); sum["received"] != want {
		t.Errorf("the balance counts %d objects received, the scanners heard Success for %d", sum["received"], want)
	}
	if sum["difference"] != 0 {
		t.Errorf("the balance does not come out: %v", sum)
	}
	t.Logf("%d studies with %d objects and a report each; %d reports were sent twice; pushes that were refused or broke off: %d; attacks: %d; most resident: %.0f MB",
		s.studies.Load(), s.distinct.Load(), twice, s.refused.Load(), s.attacks.Load(), float64(s.resident.Load())/1e6)
	t.Logf("balance:\n%s", out)
	if t.Failed() {
		status := exec.Command(os.Args[0], "status", "--config", s.config)
		status.Env = append(os.Environ(), "RADNODE_TEST_MAIN=1")
		out, _ := status.CombinedOutput()
		t.Logf("status:\n%s", out)
	}
}

// smallDisk is a file system of that size, in memory, which a test may fill.
func smallDisk(t testing.TB, size int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.Itoa(size)); err != nil {
		lacking(t, "a file system that may be filled needs the right to mount one (%v): run this test as root, or under unshare -rm", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil && !strings.Contains(err.Error(), "invalid") {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}
