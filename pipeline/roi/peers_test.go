package roi_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/roi"
)

// TestPlastimatch compares masks with those of plastimatch, which has its own scan conversion. Where the two differ, the
// centre of the voxel must lie on the outline, to a ten thousandth of a voxel: plastimatch keeps points in single precision.
func TestPlastimatch(t *testing.T) {
	exe, err := exec.LookPath("plastimatch")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("plastimatch is not installed: apt-get install plastimatch")
		}
		t.Skip("plastimatch is not installed: apt-get install plastimatch")
	}
	for _, c := range []struct {
		folder, images, contours string
		want                     map[string][3]int // by region: voxels here, only here, only there
	}{
		{"lung1/LUNG1-001", "image", "mask_rtstruct", map[string][3]int{
			"GTV-1": {54639, 0, 0}, "Spinal-Cord": {15618, 0, 0}, "Lung-Left": {795750, 0, 1}, "Lung-Right": {1036805, 0, 1},
		}},
		{"ibsi1/ct_phantom/dicom", "image", "mask", map[string][3]int{"GTV-1": {125256, 0, 0}}},
		{"sts/STS_001/CT", "image", "mask", map[string][3]int{"GTV_Mass_CT": {117145, 0, 0}}},
		{"sts/STS_002/CT", "image", "mask", map[string][3]int{"GTV_Mass_CT": {17090, 0, 0}}},
		{"sts/STS_003/CT", "image", "mask", map[string][3]int{"GTV_Mass_CT": {25693, 0, 0}}},
		{"sts/STS_001/MR_T1", "image", "mask", map[string][3]int{"GTV_Mass_MR_T1": {117145, 0, 0}}},
		{"sts_raw/STS_001/FDG_PET", "image", "mask", map[string][3]int{"GTV_Mass": {5095, 0, 0}, "GTV_Edema": {8058, 0, 0}}},
	} {
		t.Run(c.folder, func(t *testing.T) {
			g := lattice(t, readFolder(t, shared(t, c.folder, c.images)))
			regions, err := roi.Regions(readFolder(t, shared(t, c.folder, c.contours))[0])
			if err != nil {
				t.Fatal(err)
			}
			set, err := filepath.Glob(filepath.Join(shared(t, c.folder, c.contours), "*.dcm"))
			if err != nil {
				t.Fatal(err)
			}
			out := t.TempDir()
			numbers := func(v ...any) string { return strings.Trim(fmt.Sprint(v...), "[]") }
			run := exec.Command(exe, "convert", "--input", set[0], "--xor-contours", "--output-prefix", out, "--prefix-format", "nrrd",
				"--dim", numbers(g.Size), "--spacing", numbers(g.Spacing), "--origin", numbers(g.Origin),
				"--direction-cosines", fmt.Sprintf("%v %v %v", numbers(g.Axes[0]), numbers(g.Axes[1]), numbers(g.Axes[2])))
			if b, err := run.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", run, err, b)
			}
			for _, r := range regions {
				m, notes := rasterise(t, r, g)
				other := &voxel.Mask{Geometry: g, Data: readNRRD(t, filepath.Join(out, r.Name+".nrrd"), g.Len())}
				ours, theirs := 0, 0
				for i := range m.Data {
					if m.Data[i] == other.Data[i] {
						continue
					}
					if m.Data[i] != 0 {
						ours++
					} else {
						theirs++
					}
					i, j, k := i%g.Size[0], i/g.Size[0]%g.Size[1], i/g.Size[0]/g.Size[1]
					off := math.Inf(1)
					for _, c := range r.Contours {
						off = math.Min(off, distance(g, c, i, j, k))
					}
					if off > 1e-4 {
						t.Errorf("%s: voxel (%d, %d, %d) differs, %g of a voxel from the outline", r.Name, i, j, k, off)
					}
				}
				if got := [3]int{m.Count(), ours, theirs}; got != c.want[r.Name] || len(notes) != 0 {
					t.Errorf("%s: %d, want %d: voxels, only here, only there; notes %q", r.Name, got, c.want[r.Name], notes)
				}
			}
		})
	}
}

// distance is how far the centre of a voxel lies from an outline, in voxels, if that is in its slice.
func distance(g voxel.Geometry, contour [][3]float64, i, j, k int) float64 {
	least := math.Inf(1)
	for n := range contour {
		a, b := g.Index(contour[n]), g.Index(contour[(n+1)%len(contour)])
		if math.Abs(a[2]-float64(k)) > 0.5 {
			return least
		}
		x, y, dx, dy := float64(i)-a[0], float64(j)-a[1], b[0]-a[0], b[1]-a[1]
		along := 0.0
		if long := dx*dx + dy*dy; long > 0 {
			along = math.Min(math.Max((x*dx+y*dy)/long, 0), 1)
		}
		least = math.Min(least, math.Hypot(x-along*dx, y-along*dy))
	}
	return least
}

// lattice is the geometry of a stack of images, of any modality, by their own elements.
func lattice(t *testing.T, fs []*dicom.File) voxel.Geometry {
	t.Helper()
	floats := func(d *dicom.DataSet, tag dicom.Tag, n int) []float64 {
		v, err := d.Floats(tag)
		if err != nil || len(v) != n {
			t.Fatalf("%v: %v %v", tag, v, err)
		}
		return v
	}
	d := fs[0].DataSet
	o, p := floats(d, dicom.ImageOrientationPatient, 6), floats(d, dicom.PixelSpacing, 2)
	var g voxel.Geometry
	g.Axes[0], g.Axes[1] = [3]float64(o[:3]), [3]float64(o[3:])
	for c := range 3 {
		a, b := (c+1)%3, (c+2)%3
		g.Axes[2][c] = o[a]*o[3+b] - o[b]*o[3+a]
	}
	sort := func(d *dicom.File) float64 {
		return product([3]float64(floats(d.DataSet, dicom.ImagePositionPatient, 3)), g.Axes[2])
	}
	slices.SortFunc(fs, func(a, b *dicom.File) int { return cmp.Compare(sort(a), sort(b)) })
	rows, _ := d.Int(dicom.Rows)
	columns, _ := d.Int(dicom.Columns)
	n := len(fs)
	g.Size = [3]int{columns, rows, n}
	g.Spacing = [3]float64{p[1], p[0], (sort(fs[n-1]) - sort(fs[0])) / float64(n-1)}
	g.Origin = [3]float64(floats(fs[0].DataSet, dicom.ImagePositionPatient, 3))
	return g
}

// readNRRD reads the bytes of a packed NRRD file.
func readNRRD(t *testing.T, path string, n int) []uint8 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	header, data, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok || !bytes.Contains(header, []byte("type: unsigned char")) || !bytes.Contains(header, []byte("encoding: gzip")) {
		t.Fatalf("%s: header %q", path, header)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(z)
	if err != nil || len(out) != n {
		t.Fatalf("%s: %d voxels, want %d: %v", path, len(out), n, err)
	}
	return out
}
