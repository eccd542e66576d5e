package main

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// BenchmarkPush times a whole study going into a node, as the sender sees it: DCMTK's storescu pushes LUNG1-001 (134 CT
// images and an RTSTRUCT, 70 MB) into radnode, which makes every object durable, and into DCMTK's storescp and Orthanc,
// which do not. The receivers take turns, each with an empty folder every time, so that a machine whose speed drifts treats
// them alike; the figures are medians. "shipped" is all as it is installed (Nagle's algorithm on), "nodelay" with TCP_NODELAY=1
// in the environment of the sender, or of the receivers too.
//
//	go test -run '^$' -bench Push -benchtime 7x ./cmd/radnode
func BenchmarkPush(b *testing.B) {
	study := shared(b, "data", "lung1", "LUNG1-001")
	need(b, "storescu", "storescp", "Orthanc")
	objects, _, _ := findObjects([]string{study})
	receivers := []struct {
		name  string
		start func(b *testing.B, env []string) (port string, stop func())
	}{{"radnode", benchRadnode}, {"storescp", benchStorescp}, {"Orthanc", benchOrthanc}}
	nodelay := []string{"TCP_NODELAY=1"}
	for _, mode := range []struct {
		name             string
		sender, receiver []string // environment
	}{{"shipped", nil, nil}, {"nodelay-sender", nodelay, nil}, {"nodelay-both", nodelay, nodelay}} {
		b.Run(mode.name, func(b *testing.B) {
			took := make([][]float64, len(receivers)) // seconds
			for range b.N {
				for i, receiver := range receivers {
					port, stop := receiver.start(b, mode.receiver)
					time.Sleep(time.Second) // a study comes to a node that is up, not to one that starts
					cmd := exec.Command("storescu", "-aec", "RADNODE", "+sd", "+r", "127.0.0.1", port, study)
					cmd.Env = append(os.Environ(), mode.sender...)
					begin := time.Now()
					if out, err := cmd.CombinedOutput(); err != nil {
						b.Fatalf("%v\n%s", err, out)
					}
					took[i] = append(took[i], time.Since(begin).Seconds())
					stop()
					_ = exec.Command("sync").Run() // what one left to be written shall not slow the next
				}
			}
			b.ReportMetric(0, "ns/op") // of all three together: says nothing
			for i, receiver := range receivers {
				b.ReportMetric(float64(len(objects))/median(took[i]), receiver.name+"-objects/s")
				if i > 0 {
					var ratios []float64
					for k := range took[i] {
						ratios = append(ratios, took[i][k]/took[0][k])
					}
					b.ReportMetric(median(ratios), "times-as-fast-as-"+receiver.name)
				}
			}
		})
	}
}

func median(x []float64) float64 {
	x = slices.Clone(x)
	slices.Sort(x)
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

func benchRadnode(b *testing.B, _ []string) (string, func()) {
	c := startChild(b, b.TempDir())
	_, port, _ := net.SplitHostPort(c.peer.Address)
	return port, c.kill
}

func benchStorescp(b *testing.B, env []string) (string, func()) {
	need(b, "storescp")
	port := freePort(b)
	cmd := exec.Command("storescp", "--fork", "-od", b.TempDir(), port)
	cmd.Env = append(os.Environ(), env...)
	return port, start(b, port, cmd)
}

func benchOrthanc(b *testing.B, env []string) (string, func()) {
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		b.Setenv(name, value)
	}
	o := startOrthanc(b, "")
	return o.dicom, o.stop
}
