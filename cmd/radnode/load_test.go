package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/radnode/radnode/dimse"
	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/store"
)

// BenchmarkLoad is a node under load, as its peers see it: DCMTK's storescu and radnode send, on the same machine, in one run, with
// DCMTK's storescp and Orthanc beside radnode where the load is one that they know. Only radnode makes an object durable before it
// answers; every object has a UID of its own. "shipped" senders have Nagle's algorithm on, "nodelay" have TCP_NODELAY=1.
// It writes up to 35 GB into the folder for temporary files and removes them.
//
//	go test -run '^$' -bench Load -benchtime 1x -timeout 60m ./cmd/radnode
func BenchmarkLoad(b *testing.B) {
	b.Run("disk-alone", benchDiskAlone)
	b.Run("one-association", func(b *testing.B) { benchStudies(b, 1, 8) })
	b.Run("sixteen-associations", func(b *testing.B) { benchStudies(b, 16, 2) })
	b.Run("small-objects", benchSmall)
	b.Run("two-gigabytes", benchLarge)
	b.Run("restart", benchRestart)
}

// benchDiskAlone is what the disk gives without any DICOM: one writer, files of 256 MiB as segments are, written in pieces as these are,
// with an fsync after each group.
func benchDiskAlone(b *testing.B) {
	const file, piece = 256 << 20, 512 << 10
	for _, c := range []struct {
		name  string
		group int
	}{{"525kB", 525 << 10}, {"16x525kB", 16 * 525 << 10}, {"64MB", 64 << 20}} {
		dir := b.TempDir()
		group := make([]byte, c.group)
		_, _ = rand.Read(group)
		begin, syncs := time.Now(), 0
		for range 8 {
			f, err := os.CreateTemp(dir, "disk")
			if err != nil {
				b.Fatal(err)
			}
			for written := 0; written < file; written += len(group) {
				for some := range slices.Chunk(group, piece) {
					if _, err := f.Write(some); err != nil {
						b.Fatal(err)
					}
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
				syncs++
			}
			f.Close()
		}
		took := time.Since(begin).Seconds()
		b.ReportMetric(float64(syncs)/took, c.name+"-syncs/s")
		b.ReportMetric(float64(syncs*c.group)/took/1e6, c.name+"-MB/s")
		_ = os.RemoveAll(dir)
	}
	b.ReportMetric(0, "ns/op")
}

// A fileCopier writes copies of one file under SOP Instance UIDs of their own, as long as the old one.
type fileCopier struct{ content, uid []byte }

func copierOf(b *testing.B, path string) fileCopier {
	content, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	return copierOfBytes(b, content)
}

func copierOfBytes(b *testing.B, content []byte) fileCopier {
	f, err := dicom.ReadFile(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		b.Fatal(err)
	}
	return fileCopier{content, []byte(f.DataSet.String(dicom.SOPInstanceUID))}
}

func (c fileCopier) write(b *testing.B, path string, number int) {
	uid := slices.Clone(c.uid)
	digits := fmt.Sprintf("%09d", number)
	copy(uid[len(uid)-len(digits):], digits)
	if err := os.WriteFile(path, bytes.ReplaceAll(c.content, c.uid, uid), 0o644); err != nil {
		b.Fatal(err)
	}
}

// benchStudies sends copies of the CT of LUNG1-001 over so many associations at once.
func benchStudies(b *testing.B, associations, copies int) {
	images, err := filepath.Glob(filepath.Join(shared(b, "data", "lung1", "LUNG1-001"), "image", "*.dcm"))
	if err != nil || len(images) == 0 {
		b.Fatalf("no images: %v", err)
	}
	need(b, "storescu", "storescp", "Orthanc")
	corpus := b.TempDir()
	var folders []string
	for a := range associations {
		folder := filepath.Join(corpus, strconv.Itoa(a))
		if err := os.Mkdir(folder, 0o755); err != nil {
			b.Fatal(err)
		}
		folders = append(folders, folder)
		for i, path := range images {
			c := copierOf(b, path)
			for k := range copies {
				n := (a*copies+k)*len(images) + i
				c.write(b, filepath.Join(folder, fmt.Sprintf("%06d.dcm", n)), n)
			}
		}
	}
	total := associations * copies * len(images)
	storescu := func(env ...string) func(port string) time.Duration {
		return func(port string) time.Duration {
			var g errgroup.Group
			var cpu atomic.Int64
			for _, folder := range folders {
				g.Go(func() error {
					cmd := exec.Command("storescu", "-aec", "RADNODE", "+sd", "127.0.0.1", port, folder)
					cmd.Env = append(os.Environ(), env...)
					out, err := cmd.CombinedOutput()
					if err != nil {
						return fmt.Errorf("%w\n%s", err, out)
					}
					cpu.Add(int64(processors(cmd)))
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				b.Fatal(err)
			}
			return time.Duration(cpu.Load())
		}
	}
	send := func(port string) time.Duration {
		cmd := exec.Command(os.Args[0], "send", "-j", strconv.Itoa(associations), "RADNODE@127.0.0.1:"+port, corpus)
		cmd.Env = append(os.Environ(), "RADNODE_TEST_MAIN=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		return processors(cmd)
	}
	for _, sender := range []struct {
		name string
		push func(port string) time.Duration
	}{{"storescu-shipped", storescu()}, {"storescu-nodelay", storescu("TCP_NODELAY=1")}, {"send", send}} {
		for _, receiver := range []struct {
			name  string
			start func(b *testing.B, env []string) (port string, stop func())
		}{{"radnode", benchRadnode}, {"storescp", benchStorescp}, {"Orthanc", benchOrthanc}} {
			var env []string
			if sender.name != "storescu-shipped" {
				env = []string{"TCP_NODELAY=1"}
			}
			b.Run(sender.name+"→"+receiver.name, func(b *testing.B) { // what was received is removed before the next
				port, stop := receiver.start(b, env)
				time.Sleep(time.Second)
				var echoes func() time.Duration
				if receiver.name == "radnode" {
					echoes = startEchoes(b, port)
				}
				begin := time.Now()
				cpu := sender.push(port)
				took := time.Since(begin).Seconds()
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(total)/took, "CT/s")
				b.ReportMetric(cpu.Seconds()*1e3/float64(total), "sender-cpu-ms/CT")
				if echoes != nil {
					b.ReportMetric(echoes().Seconds()*1e3, "echo-p99-ms")
				}
				stop()
			})
			_ = exec.Command("sync").Run()
		}
	}
}

// processors is what a process that has ended took of them.
func processors(cmd *exec.Cmd) time.Duration {
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
}

// echoEnv makes the test binary verify the node at this port until its input ends, see startEchoes.
const echoEnv = "RADNODE_TEST_ECHO"

// echoTimes are how long C-ECHO took.
type echoTimes struct {
	P99 time.Duration
	N   int
}

// keepEchoing verifies a node again and again on one association until stdin ends, and writes how long it took to stdout.
func keepEchoing(port string) error {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	client, err := dimse.Dial(ctx, dimse.Peer{AETitle: "RADNODE", Address: "127.0.0.1:" + port}, dimse.DialOptions{CallingAET: "ECHO"})
	if err != nil {
		return err
	}
	defer client.Abort()
	var took []time.Duration
	for ctx.Err() == nil {
		begin := time.Now()
		if err := client.Echo(ctx); ctx.Err() == nil && err != nil {
			return err
		}
		took = append(took, time.Since(begin))
		time.Sleep(2 * time.Millisecond)
	}
	slices.Sort(took)
	return json.NewEncoder(os.Stdout).Encode(echoTimes{took[len(took)*99/100], len(took)})
}

// startEchoes verifies a node in a process of its own, which no sender delays. What it returns ends that and gives the times.
func startEchoes(b *testing.B, port string) func() time.Duration {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), echoEnv+"="+port)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = in.Close() })
	return func() time.Duration {
		_ = in.Close()
		err := cmd.Wait()
		var t echoTimes
		if err = errors.Join(err, json.Unmarshal(out.Bytes(), &t)); err != nil || t.N == 0 {
			b.Errorf("C-ECHO under load: %v, %d answers", err, t.N)
		}
		return t.P99
	}
}

// benchSmall sends objects of 33 kB over 16 associations, out of memory: 16 programs that read files would be what is measured.
func benchSmall(b *testing.B) {
	images, _ := filepath.Glob(filepath.Join(shared(b, "data", "lung1", "LUNG1-001"), "image", "*.dcm"))
	content, err := os.ReadFile(images[0])
	if err != nil {
		b.Fatal(err)
	}
	f, err := dicom.ReadFile(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		b.Fatal(err)
	}
	f.DataSet.SetInt(dicom.Rows, 128)
	f.DataSet.SetInt(dicom.Columns, 128)
	f.DataSet.SetBytes(dicom.PixelData, dicom.OW, make([]byte, 128*128*2))
	data, err := f.DataSet.EncodedBytes()
	if err != nil {
		b.Fatal(err)
	}
	uid := []byte(f.DataSet.String(dicom.SOPInstanceUID))
	c := startChild(b, b.TempDir())
	_, port, _ := net.SplitHostPort(c.peer.Address)
	echoes := startEchoes(b, port)
	const associations, each = 16, 8000
	begin := time.Now()
	pushGenerated(b, c.peer, associations, each, func() objectMaker {
		own := slices.Clone(data) // the sender is to take as little of the processors as it can
		at := own[bytes.Index(own, uid):][:len(uid)]
		return func(n int) (dicom.FileMeta, io.Reader) {
			copy(at[len(at)-9:], fmt.Sprintf("%09d", n))
			return dicom.FileMeta{MediaStorageSOPClassUID: dicom.CTImageStorage, MediaStorageSOPInstanceUID: string(at), TransferSyntaxUID: dicom.ExplicitVRLittleEndian},
				bytes.NewReader(own)
		}
	})
	took := time.Since(begin).Seconds()
	b.ReportMetric(0, "ns/op")
	p99 := echoes()
	b.ReportMetric(associations*each/took, "objects/s")
	b.ReportMetric(p99.Seconds()*1e3, "echo-p99-ms")
	b.ReportMetric(float64(len(data)), "bytes/object")
	c.kill()
}

// An objectMaker makes the object with that number, and may then use again what the one before was made of.
type objectMaker func(n int) (dicom.FileMeta, io.Reader)

// pushGenerated sends objects that are made as they go, by one maker for each association.
func pushGenerated(b *testing.B, to dimse.Peer, associations, each int, maker func() objectMaker) {
	ctx := b.Context()
	var g errgroup.Group
	for a := range associations {
		g.Go(func() error {
			object := maker()
			meta, _ := object(0)
			client, err := dimse.Dial(ctx, to, dimse.DialOptions{CallingAET: "LOAD", Proposals: []dimse.Proposal{{SOPClass: meta.MediaStorageSOPClassUID, TransferSyntaxes: []string{meta.TransferSyntaxUID}}}})
			if err != nil {
				return err
			}
			defer client.Abort()
			for k := range each {
				meta, body := object(a*each + k)
				status, err := client.Store(ctx, meta, body)
				if err != nil {
					return err
				}
				if !status.Success() {
					return &status
				}
			}
			return client.Release(ctx)
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

// benchLarge sends a multi-frame object of 2 GB over each of 16 associations at once and watches the memory of the node.
func benchLarge(b *testing.B) {
	if runtime.GOOS != "linux" {
		b.Skip("resident memory is read from /proc")
	}
	const associations, frames, side = 16, 4096, 512 // 16 bits: 2 GiB
	block := make([]byte, 4<<20)
	_, _ = rand.Read(block)
	head := func(n int) ([]byte, string) {
		uid := fmt.Sprintf("1.2.826.0.1.3680043.10.1.%d", n+1)
		d := dicom.New()
		d.SetString(dicom.SOPClassUID, multiFrameWord)
		d.SetString(dicom.SOPInstanceUID, uid)
		d.SetString(dicom.StudyInstanceUID, "1.2.826.0.1.3680043.10.2")
		d.SetString(dicom.SeriesInstanceUID, "1.2.826.0.1.3680043.10.3")
		d.SetString(dicom.Modality, "OT")
		d.SetString(dicom.PatientID, "LOAD")
		d.SetInt(dicom.Rows, side)
		d.SetInt(dicom.Columns, side)
		d.SetString(dicom.NumberOfFrames, strconv.Itoa(frames))
		d.SetInt(dicom.BitsAllocated, 16)
		d.SetInt(dicom.BitsStored, 16)
		d.SetInt(dicom.HighBit, 15)
		d.SetInt(dicom.PixelRepresentation, 0)
		d.SetInt(dicom.SamplesPerPixel, 1)
		d.SetString(dicom.PhotometricInterpretation, "MONOCHROME2")
		enc, err := d.EncodedBytes()
		if err != nil {
			b.Fatal(err)
		}
		enc = append(enc, 0xe0, 0x7f, 0x10, 0x00, 'O', 'W', 0, 0)
		return binary.LittleEndian.AppendUint32(enc, frames*side*side*2), uid
	}
	c := startChild(b, b.TempDir())
	var most atomic.Int64
	stop := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			most.Store(max(most.Load(), residentNow(c.cmd.Process.Pid)))
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	_, port, _ := net.SplitHostPort(c.peer.Address)
	echoes := startEchoes(b, port)
	begin := time.Now()
	pushGenerated(b, c.peer, associations, 1, func() objectMaker {
		return func(n int) (dicom.FileMeta, io.Reader) {
			h, uid := head(n)
			return dicom.FileMeta{MediaStorageSOPClassUID: multiFrameWord, MediaStorageSOPInstanceUID: uid, TransferSyntaxUID: dicom.ExplicitVRLittleEndian},
				io.MultiReader(bytes.NewReader(h), &repeating{block: block, left: frames * side * side * 2})
		}
	})
	took := time.Since(begin).Seconds()
	p99 := echoes()
	close(stop)
	watching.Wait()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(most.Load())/1e6, "resident-MB")
	b.ReportMetric(associations*frames*side*side*2/took/1e6, "MB/s")
	b.ReportMetric(p99.Seconds()*1e3, "echo-p99-ms")
	c.kill()
}

// multiFrameWord is Multi-frame Grayscale Word Secondary Capture Image Storage.
const multiFrameWord = "1.2.840.10008.5.1.4.1.1.7.3"

// A repeating reader gives a block again and again.
type repeating struct {
	block []byte
	at    int
	left  int
}

func (r *repeating) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.block[r.at:r.at+min(len(r.block)-r.at, r.left)])
	r.at = (r.at + n) % len(r.block)
	r.left -= n
	return n, nil
}

// residentNow is the resident memory of a process in bytes, its file pages not counted: those are the system's to take back.
func residentNow(pid int) int64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// benchRestart starts a node over a folder with a million instances in studies whose computations are queued, and times it until it has
// answered a C-ECHO and stored an object.
func benchRestart(b *testing.B) {
	const studies, images = 7500, 134
	dir := b.TempDir()
	st, err := store.Open(dir, store.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	objects := demoObjects(b)
	var image demoObject
	for _, o := range objects {
		if o.meta.MediaStorageSOPClassUID == dicom.CTImageStorage {
			image = o
		}
	}
	f, err := dicom.ReadDataSet(bytes.NewReader(image.data), int64(len(image.data)), image.meta.TransferSyntaxUID)
	if err != nil {
		b.Fatal(err)
	}
	f.DataSet.Remove(dicom.PixelData)
	var g errgroup.Group
	g.SetLimit(64)
	for s := range studies {
		g.Go(func() error {
			d := dicom.New()
			for e := range f.DataSet.Elements() {
				d.Copy(f.DataSet, e.Tag)
			}
			study := fmt.Sprintf("1.2.826.0.1.3680043.10.4.%d", s)
			d.SetString(dicom.StudyInstanceUID, study)
			d.SetString(dicom.SeriesInstanceUID, study+".1")
			var uids []string
			for i := range images {
				uid := fmt.Sprintf("%s.1.%d", study, i)
				uids = append(uids, uid)
				d.SetString(dicom.SOPInstanceUID, uid)
				data, err := d.EncodedBytes()
				if err != nil {
					return err
				}
				meta := image.meta
				meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = uid, dicom.ExplicitVRLittleEndian
				if err := st.Put(b.Context(), meta, bytes.NewReader(data)); err != nil {
					return err
				}
			}
			payload, err := json.Marshal(map[string]any{"subject": study + ".2", "series": study + ".1", "images": uids})
			if err != nil {
				return err
			}
			// Due tomorrow: what is timed is the start, and not the computations.
			return st.Commit(b.Context(), store.Change{Jobs: []store.Job{{Key: "compute/" + study, Queue: "compute", Study: study, Payload: payload, RunAt: time.Now().Add(24 * time.Hour)}},
				States: []store.State{{Study: study, Subject: study + ".2/" + study + ".1", Name: "queued"}}})
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	if err := st.Close(); err != nil {
		b.Fatal(err)
	}
	for _, how := range []string{"after-stop", "after-kill"} {
		begin := time.Now()
		c := startChild(b, dir)
		stored := pushUntilBroken(b.Context(), "SCANNER", c.peer, objects[:1], func(int) {})
		took := time.Since(begin).Seconds()
		if stored != 1 {
			b.Fatal("nothing could be stored after the start")
		}
		b.ReportMetric(took, how+"-s")
		b.ReportMetric(float64(residentNow(c.cmd.Process.Pid))/1e6, how+"-resident-MB")
		c.kill() // the next start has a log that was not closed
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(studies*images, "instances")
}
