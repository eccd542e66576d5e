package pixel

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// BenchmarkDecode is decoded bytes in a second, by transfer syntax: 32 times a CT slice of 512 × 512, from the reference data
// where they are here; and how long the peer's program takes for the same file, its start and its output included, on as many
// processors as it likes: OpenJPEG in gdcmconv takes several. HTJ2K, which
// no program puts into DICOM, is in BenchmarkJPEG2000.
//
//	go test -run '^$' -bench 'Decode|JPEG2000' -cpu 1 ./dimse/pixel
func BenchmarkDecode(b *testing.B) {
	folder := b.TempDir()
	p := picture{name: "slice", rows: 512, columns: 512, allocated: 16, stored: 12,
		frames: [][]int32{smooth(rand.New(rand.NewPCG(1, 2)), 512, 512, 12, false)}}
	if real := slices3(b); len(real) > 0 && real[0].rows == 512 {
		p = real[0]
		p.name = "slice"
	}
	p.frames = slices.Repeat(p.frames[:1], 32)
	p.write(b, folder)
	for _, c := range []struct {
		name   string
		encode []string // IN and OUT are files
		decode []string // of the peer
	}{
		{"native", []string{"dcmconv", "+te", "IN", "OUT"}, nil},
		{"RLE", []string{"dcmcrle", "IN", "OUT"}, []string{"dcmdrle", "IN", "OUT"}},
		{"JPEG lossless, predictor 1", []string{"dcmcjpeg", "+e1", "IN", "OUT"}, []string{"dcmdjpeg", "IN", "OUT"}},
		{"JPEG lossless, predictor 6", []string{"dcmcjpeg", "+el", "+sv", "6", "IN", "OUT"}, []string{"dcmdjpeg", "IN", "OUT"}},
		{"JPEG extended", []string{"dcmcjpeg", "+ee", "IN", "OUT"}, []string{"dcmdjpeg", "IN", "OUT"}},
		{"JPEG 2000", []string{"gdcmconv", "--j2k", "IN", "OUT"}, []string{"gdcmconv", "--raw", "IN", "OUT"}},
		{"JPEG-LS", []string{"dcmcjpls", "+el", "IN", "OUT"}, []string{"dcmdjpls", "IN", "OUT"}},
		{"JPEG-LS of GDCM", []string{"gdcmconv", "--jpegls", "IN", "OUT"}, []string{"gdcmconv", "--raw", "IN", "OUT"}},
		{"JPEG-LS near-lossless", []string{"dcmcjpls", "+en", "+md", "2", "IN", "OUT"}, []string{"dcmdjpls", "IN", "OUT"}},
	} {
		path := filepath.Join(folder, c.name)
		if _, err := exec.LookPath(c.encode[0]); err != nil {
			b.Logf("%s is not here", c.encode[0])
			continue
		}
		source := p
		if slices.Contains(c.encode, "+en") && p.signed { // which DCMTK does not write
			source = picture{name: "unsigned", rows: p.rows, columns: p.columns, allocated: 16, stored: 16}
			frame := slices.Clone(p.frames[0])
			for i := range frame {
				frame[i] += 1 << 15
			}
			source.frames = slices.Repeat([][]int32{frame}, len(p.frames))
			source.write(b, folder)
		}
		if out, err := command(c.encode, source.path, path); err != nil {
			b.Logf("%v: %v %s", c.encode, err, out)
			continue
		}
		f, err := open(path)
		if err != nil {
			b.Fatal(err)
		}
		n := int64(p.rows) * int64(p.columns) * int64(p.allocated) / 8 * int64(len(p.frames))
		b.Run(c.name, func(b *testing.B) {
			size, _ := os.Stat(path)
			b.SetBytes(n)
			b.ReportAllocs()
			for b.Loop() {
				for _, err := range Frames(f) {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(n)/float64(size.Size()), "ratio")
		})
		if c.decode == nil {
			continue
		}
		b.Run(c.name+", "+c.decode[0], func(b *testing.B) {
			b.SetBytes(n)
			for b.Loop() {
				if out, err := command(c.decode, path, filepath.Join(folder, "out")); err != nil {
					b.Fatalf("%v %s", err, out)
				}
			}
		})
	}
}
