package pixel

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkJPEG decodes a CT slice from every process; the bytes are those of the samples.
func BenchmarkJPEG(b *testing.B) {
	jpegNeeds(b, "dcmcjpeg")
	m := jpegSlice(b)
	dir := b.TempDir()
	m.write(b, filepath.Join(dir, "in"))
	for _, options := range []string{"+e1", "+el +sv 4", "+el +sv 6", "+el +sv 7", "+eb +be", "+ee +bt", "+ep +bt"} {
		b.Run(strings.ReplaceAll(options, " ", ""), func(b *testing.B) {
			packed := filepath.Join(dir, "packed")
			if out, err := exec.Command("dcmcjpeg", append(strings.Fields(options), filepath.Join(dir, "in"), packed)...).CombinedOutput(); err != nil {
				b.Fatalf("%v %s", err, out)
			}
			stream, _ := jpegStream(b, packed)
			out := make([]int32, m.rows*m.columns)
			p, err := decodeJPEG(stream, m.rows, m.columns, out)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(out) * ((p.bits + 7) / 8)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decodeJPEG(stream, m.rows, m.columns, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func jpegSlice(b *testing.B) jpegImage {
	b.Helper()
	path := filepath.Join(jpegShared(), "data", "lung1/LUNG1-001/image/1-057.dcm")
	if _, err := os.Stat(path); err != nil {
		b.Skipf("reference data is not here (%v): set RADNODE_SHARED", err)
	}
	return jpegNative(b, path)
}
