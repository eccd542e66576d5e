package pipeline

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
)

// sharedStudy reads a study of the real data that RADNODE_SHARED names, or skips.
func sharedStudy(tb testing.TB, folder string) (contours *dicom.File, images []*dicom.File) {
	tb.Helper()
	root := os.Getenv("RADNODE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "shared")
	}
	root = filepath.Join(root, "data", folder)
	if _, err := os.Stat(root); err != nil {
		tb.Skipf("no real data: %v; name its folder in RADNODE_SHARED", err)
	}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || path.Ext(name) != ".dcm" {
			return err
		}
		r, err := os.Open(name)
		if err != nil {
			return err
		}
		tb.Cleanup(func() { r.Close() })
		info, err := r.Stat()
		if err != nil {
			return err
		}
		f, err := dicom.ReadFile(r, info.Size())
		if err != nil {
			return err
		}
		if f.Pixels == nil {
			contours = f
		} else {
			images = append(images, f)
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return contours, images
}

// BenchmarkMeasure is a thorax of 134 slices with two lungs, spinal cord and tumour: all values of four regions. It sets the
// number of cores itself.
func BenchmarkMeasure(b *testing.B) {
	contours, images := sharedStudy(b, "lung1/LUNG1-001")
	for _, cores := range []int{1, 2} {
		b.Run(fmt.Sprintf("%d cores", cores), func(b *testing.B) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cores))
			for b.Loop() {
				m, err := Measure(b.Context(), Request{Contours: contours, Images: images, Choose: Options{}.Select})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(m.Took.Assemble.Seconds(), "assemble-s")
				b.ReportMetric(m.Took.Rasterise.Seconds(), "rasterise-s")
				b.ReportMetric(m.Took.Features.Seconds(), "features-s")
			}
		})
	}
}
