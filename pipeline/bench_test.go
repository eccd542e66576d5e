package pipeline

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/imaging"
	"github.com/radnode/radnode/pipeline/roi"
)

// BenchmarkLung1 is the features of a tumour and of a lung, on their voxels at 1 mm: reading and interpolation are not in it.
// .ci/compare times the same voxels in PyRadiomics.
//
//	go test -run '^$' -bench Lung1/GTV-1/all -cpu 1 ./pipeline
func BenchmarkLung1(b *testing.B) {
	ctx := context.Background()
	volume, err := imaging.Assemble(ctx, readLung1(b, "image"), imaging.Options{})
	if err != nil {
		b.Fatal(err)
	}
	regions, err := roi.Regions(readLung1(b, "mask_rtstruct")[0])
	if err != nil {
		b.Fatal(err)
	}

	var all []features.Family
	for _, f := range features.Table {
		if !slices.Contains(all, f.Family) {
			all = append(all, f.Family)
		}
	}
	var rest []string // all but Moran's I and Geary's C
	for _, f := range features.Table {
		if f.Tag != "morph_moran_i" && f.Tag != "morph_geary_c" {
			rest = append(rest, f.Tag)
		}
	}
	type set struct {
		name     string
		families []features.Family
		features []string
	}
	sets := []set{{"all", all, nil}, {"without-spatial", all, rest}}
	for _, f := range all {
		sets = append(sets, set{string(f), []features.Family{f}, nil})
	}

	for _, name := range []string{"GTV-1", "Lung-Left"} {
		i := slices.IndexFunc(regions, func(r roi.Region) bool { return r.Name == name })
		mask, _, err := roi.Rasterise(ctx, regions[i], volume.Grid.Geometry, voxel.Rule{})
		if err != nil {
			b.Fatal(err)
		}
		profile := features.DefaultProfile("CT")
		profile.Resegment.Outliers = 0 // PyRadiomics has the range alone
		measured, err := features.Prepare(volume.Grid, mask, profile)
		if err != nil {
			b.Fatal(err)
		}
		profile.Resample = features.Resample{}
		for _, set := range sets {
			b.Run(name+"/"+set.name, func(b *testing.B) {
				profile.Families, profile.Features = set.families, set.features
				for b.Loop() {
					if _, err := features.Extract(ctx, measured.Image, measured.Morph, profile); err != nil {
						b.Fatal(err)
					}
				}
				voxels := float64(measured.Morph.Count())
				b.ReportMetric(voxels, "voxels")
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/voxels, "ns/voxel")
			})
		}
	}
}

func readLung1(b *testing.B, folder string) (files []*dicom.File) {
	b.Helper()
	root := os.Getenv("RADNODE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "shared")
	}
	paths, err := filepath.Glob(filepath.Join(root, "data", "lung1", "LUNG1-001", folder, "*.dcm"))
	if err != nil || len(paths) == 0 {
		b.Skipf("no reference data in %s (%v); set RADNODE_SHARED to the folder that holds them", root, err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		f, err := dicom.ReadFile(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			b.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}
