package main

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// BenchmarkPush times a whole study going into a node, as the sender sees it: DCMTK's storescu pushes LUNG1-001 (134 CT
// images and an RTSTRUCT, 70 MB) into radnode, which makes every object durable, and into DCMTK's storescp and Orthanc,
// which do not. Every run starts with an empty node. "shipped" is storescu as it is installed (Nagle's algorithm on),
// "nodelay" is with TCP_NODELAY=1 in the environment of sender and receiver.
//
//	go test -run '^$' -bench Push -benchtime 3x ./cmd/radnode
func BenchmarkPush(b *testing.B) {
	study := shared(b, "data", "lung1", "LUNG1-001")
	objects, bad := findObjects([]string{study})
	if len(bad) > 0 {
		b.Logf("not pushed: %v", bad)
	}
	var size int64
	for _, o := range objects {
		size += o.size
	}
	for _, sender := range []struct {
		name string
		env  []string
	}{{"shipped", nil}, {"nodelay", []string{"TCP_NODELAY=1"}}} {
		for _, receiver := range []struct {
			name  string
			start func(b *testing.B, env []string) (port string, stop func())
		}{{"radnode", benchRadnode}, {"storescp", benchStorescp}, {"Orthanc", benchOrthanc}} {
			b.Run(sender.name+"/"+receiver.name, func(b *testing.B) {
				need(b, "storescu")
				var took time.Duration
				for range b.N {
					port, stop := receiver.start(b, sender.env)
					cmd := exec.Command("storescu", "-aec", "RADNODE", "+sd", "+r", "127.0.0.1", port, study)
					cmd.Env = append(os.Environ(), sender.env...)
					begin := time.Now()
					if out, err := cmd.CombinedOutput(); err != nil {
						b.Fatalf("%v\n%s", err, out)
					}
					took += time.Since(begin)
					stop()
				}
				seconds := took.Seconds() / float64(b.N)
				b.ReportMetric(float64(len(objects))/seconds, "objects/s")
				b.ReportMetric(float64(size)/1e6/seconds, "MB/s")
				b.ReportMetric(seconds*1e9, "ns/op")
			})
		}
	}
}

func benchRadnode(b *testing.B, _ []string) (string, func()) {
	c := startChild(b, b.TempDir())
	_, port, _ := net.SplitHostPort(c.peer.Address)
	return port, c.kill
}

func benchStorescp(b *testing.B, env []string) (string, func()) {
	need(b, "storescp")
	port := freePort(b)
	cmd := exec.Command("storescp", "-od", b.TempDir(), port)
	cmd.Env = append(os.Environ(), env...)
	start(b, port, cmd)
	return port, func() { _ = cmd.Process.Kill() }
}

func benchOrthanc(b *testing.B, env []string) (string, func()) {
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		b.Setenv(name, value)
	}
	o := startOrthanc(b, "")
	return o.dicom, func() {}
}
