// lung1 is the Go half of compare: it makes the files that both programs read, and times the engine alone.
//
//	lung1 nifti DICOM DIR           the CT and its regions in DIR, as they are and as they are measured at 1 mm
//	lung1 time IMAGE MASK PROFILE   how long features.Extract takes, in s by the clock and of CPU, for each line on stdin
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/imaging"
	"github.com/radnode/radnode/pipeline/roi"
)

func main() {
	log.SetFlags(0)
	switch arg := os.Args[1:]; {
	case len(arg) == 3 && arg[0] == "nifti":
		writeAll(arg[1], arg[2])
	case len(arg) == 4 && arg[0] == "time":
		timeExtract(arg[1], arg[2], arg[3])
	default:
		log.Fatalf("lung1: %q is no command", arg)
	}
}

// writeAll writes ct.nii, and NAME.nii, NAME-1mm.nii and NAME-1mm-mask.nii of each region.
func writeAll(folder, dir string) {
	ctx := context.Background()
	volume := must(imaging.Assemble(ctx, read(filepath.Join(folder, "image")), imaging.Options{}))
	writeNIfTI(filepath.Join(dir, "ct.nii"), volume.Grid.Geometry, volume.Grid.Data)
	for _, region := range must(roi.Regions(read(filepath.Join(folder, "mask_rtstruct"))[0])) {
		mask, _, err := roi.Rasterise(ctx, region, volume.Grid.Geometry, voxel.Rule{})
		mask = must(mask, err).On(volume.Grid.Geometry, volume.Grid.Part(mask.Geometry).Min)
		name := filepath.Join(dir, region.Name)
		writeNIfTI(name+".nii", mask.Geometry, mask.Data)
		measured := must(features.Prepare(volume.Grid, mask, features.DefaultProfile("CT")))
		writeNIfTI(name+"-1mm.nii", measured.Image.Geometry, measured.Image.Data)
		writeNIfTI(name+"-1mm-mask.nii", measured.Morph.Geometry, measured.Morph.Data)
	}
}

func read(folder string) (files []*dicom.File) {
	for _, path := range must(filepath.Glob(filepath.Join(folder, "*.dcm"))) {
		b := must(os.ReadFile(path))
		files = append(files, must(dicom.ReadFile(bytes.NewReader(b), int64(len(b)))))
	}
	return files
}

// writeNIfTI writes whole numbers as NIfTI-1, int16. The field names are those of nifti1.h.
func writeNIfTI[T float32 | uint8](path string, g voxel.Geometry, data []T) {
	h := make([]byte, 352)
	i16 := func(at, v int) { binary.LittleEndian.PutUint16(h[at:], uint16(v)) }
	f32 := func(at int, v float64) { must(binary.Encode(h[at:], binary.LittleEndian, float32(v))) }
	h[0], h[1], h[123] = 348&0xff, 348>>8, 2 // sizeof_hdr, xyzt_units: mm
	i16(40, 3)                               // dim
	i16(70, 4)                               // datatype: int16
	i16(72, 16)                              // bitpix
	f32(76, 1)                               // qfac, for the qform that is absent
	f32(108, 352)                            // vox_offset
	f32(112, 1)                              // scl_slope
	i16(254, 1)                              // sform_code
	copy(h[344:], "n+1\x00")
	for a, sign := range []float64{-1, -1, 1} { // LPS to RAS
		i16(42+2*a, g.Size[a])
		f32(80+4*a, g.Spacing[a])
		for k := range 3 {
			f32(280+16*a+4*k, sign*g.Axes[k][a]*g.Spacing[k])
		}
		f32(280+16*a+12, sign*g.Origin[a])
	}
	for _, v := range data {
		h = binary.LittleEndian.AppendUint16(h, uint16(int16(v)))
	}
	if err := os.WriteFile(path, h, 0o644); err != nil {
		log.Fatal(err)
	}
}

func timeExtract(image, mask, profile string) {
	var p features.Profile
	if err := yaml.UnmarshalWithOptions(must(os.ReadFile(profile)), &p, yaml.Strict()); err != nil {
		log.Fatal(err)
	}
	g, m := must(voxel.ReadNIfTI(must(os.Open(image)))), must(voxel.ReadNIfTIMask(must(os.Open(mask))))
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		start, before := time.Now(), cpuTime()
		must(features.Extract(context.Background(), g, m, p))
		fmt.Println(time.Since(start).Seconds(), (cpuTime() - before).Seconds())
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		log.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal("lung1: ", err)
	}
	return v
}
