package roi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/imaging"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
	"github.com/radnode/radnode/testdata"
)

// unit is a grid whose indices are its millimetres.
func unit(x, y, z int) voxel.Geometry {
	return voxel.Geometry{Size: [3]int{x, y, z}, Spacing: [3]float64{1, 1, 1}, Axes: [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}
}

// askew is a grid of the same size with three different spacings, turned in the patient.
func askew(x, y, z int) voxel.Geometry {
	return voxel.Geometry{
		Size: [3]int{x, y, z}, Spacing: [3]float64{0.7, 1.3, 2.9}, Origin: [3]float64{-120.5, 33.25, -700},
		Axes: [3][3]float64{{2. / 3, 2. / 3, 1. / 3}, {-2. / 3, 1. / 3, 2. / 3}, {1. / 3, -2. / 3, 2. / 3}},
	}
}

// drawn is a region whose contours are given in indices of a grid.
func drawn(g voxel.Geometry, contours ...[][3]float64) roi.Region {
	r := roi.Region{Number: 1, Name: "R"}
	for _, c := range contours {
		points := make([][3]float64, len(c))
		for i, p := range c {
			points[i] = g.Point(p[0], p[1], p[2])
		}
		r.Contours = append(r.Contours, points)
	}
	return r
}

func box(x0, y0, x1, y1, z float64) [][3]float64 {
	return [][3]float64{{x0, y0, z}, {x1, y0, z}, {x1, y1, z}, {x0, y1, z}}
}

func rasterise(t testing.TB, r roi.Region, g voxel.Geometry) (*voxel.Mask, []string) {
	t.Helper()
	m, notes, err := wholeMask(context.Background(), r, g, voxel.Rule{})
	if err != nil {
		t.Fatal(err)
	}
	return m, notes
}

// picture draws one slice of a mask, a row a line.
func picture(m *voxel.Mask, k int) string {
	var b strings.Builder
	for j := range m.Size[1] {
		for i := range m.Size[0] {
			b.WriteByte(".#"[m.Data[(k*m.Size[1]+j)*m.Size[0]+i]])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestRule draws the rule: centres, outlines, holes, keyholes.
func TestRule(t *testing.T) {
	for name, c := range map[string]struct {
		contours [][][3]float64
		want     string
	}{
		"centres": {[][][3]float64{box(0.5, 0.5, 3.5, 2.5, 0)}, `
......
.###..
.###..
......
......
`},
		"outline through centres: left and upper in, right and lower out": {[][][3]float64{box(1, 1, 4, 3, 0)}, `
......
.###..
.###..
......
......
`},
		"neighbours share no voxel and leave none": {[][][3]float64{box(1, 1, 3, 3, 0), box(3, 1, 5, 3, 0), box(1, 3, 5, 4, 0)}, `
......
.####.
.####.
.####.
......
`},
		"a hole": {[][][3]float64{box(0.5, 0.5, 4.5, 4.5, 0), box(1.5, 1.5, 3.5, 3.5, 0)}, `
......
.####.
.#..#.
.#..#.
.####.
`},
		"a keyhole is the same hole": {[][][3]float64{{
			{0.5, 0.5, 0}, {4.5, 0.5, 0}, {4.5, 4.5, 0}, {0.5, 4.5, 0}, {0.5, 2, 0},
			{1.5, 2, 0}, {1.5, 3.5, 0}, {3.5, 3.5, 0}, {3.5, 1.5, 0}, {1.5, 1.5, 0}, {1.5, 2, 0}, {0.5, 2, 0},
		}}, `
......
.####.
.#..#.
.#..#.
.####.
`},
		"an island in the hole": {[][][3]float64{box(-0.5, -0.5, 5.5, 4.5, 0), box(0.5, 0.5, 4.5, 3.5, 0), box(1.5, 1.5, 2.5, 2.5, 0)}, `
######
#....#
#.#..#
#....#
######
`},
		"the same contour twice cancels": {[][][3]float64{box(0.5, 0.5, 3.5, 2.5, 0), box(0.5, 0.5, 3.5, 2.5, 0), box(3.5, 3.5, 4.5, 4.5, 0)}, `
......
......
......
......
....#.
`},
		"a bow tie": {[][][3]float64{{{0.5, 0.5, 0}, {4.5, 3.5, 0}, {4.5, 0.5, 0}, {0.5, 3.5, 0}}}, `
......
.#..#.
.####.
.#..#.
......
`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, g := range []voxel.Geometry{unit(6, 5, 1), askew(6, 5, 1)} {
				m, _ := rasterise(t, drawn(g, c.contours...), g)
				if got := "\n" + picture(m, 0); got != c.want {
					t.Errorf("spacing %v: got%swant%s", g.Spacing, got, c.want)
				}
			}
		})
	}
}

// inside is the even-odd rule for one point in its plainest form: the edges crossed by a ray to the left. A point on a left
// or upper outline is inside, on a right or lower one outside.
func inside(x, y float64, contours [][][3]float64) bool {
	in := false
	for _, c := range contours {
		for i := range c {
			a, b := c[i], c[(i+1)%len(c)]
			if (a[1] <= y) != (b[1] <= y) && a[0]+(y-a[1])*(b[0]-a[0])/(b[1]-a[1]) <= x {
				in = !in
			}
		}
	}
	return in
}

// TestPlainFormula compares the scan with the plain formula for each voxel, on polygons of any shape that run through
// voxel centres, touch themselves, and leave the grid; and the same on an oblique grid.
func TestPlainFormula(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nx, ny := rapid.IntRange(1, 12).Draw(t, "nx"), rapid.IntRange(1, 12).Draw(t, "ny")
		// Vertices at quarters of a voxel are exact numbers on both ways.
		quarter := func(n int) *rapid.Generator[float64] {
			return rapid.Map(rapid.IntRange(-8, 4*n+8), func(v int) float64 { return float64(v) / 4 })
		}
		vertex := rapid.Custom(func(t *rapid.T) [3]float64 {
			return [3]float64{quarter(nx).Draw(t, "x"), quarter(ny).Draw(t, "y"), 1}
		})
		contours := rapid.SliceOfN(rapid.SliceOfN(vertex, 3, 9), 1, 4).Draw(t, "contours")

		for _, g := range []voxel.Geometry{unit(nx, ny, 3), askew(nx, ny, 3)} {
			want := make([]uint8, g.Len())
			n := 0
			for j := range ny {
				for i := range nx {
					if inside(float64(i), float64(j), contours) {
						want[(ny+j)*nx+i] = 1
						n++
					}
				}
			}
			m, _, err := wholeMask(context.Background(), drawn(g, contours...), g, voxel.Rule{})
			if n == 0 {
				var r *refusal.Refusal
				if !errors.As(err, &r) || r.Code != refusal.ContoursEmpty {
					t.Fatalf("no voxel is inside, error is %v", err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(m.Data, want) {
				t.Fatalf("spacing %v: got\n%swant\n%s", g.Spacing, picture(m, 1), picture(&voxel.Mask{Geometry: g, Data: want}, 1))
			}
		}
	})
}

// TestSlices says to which slice a contour goes, and what is noted.
func TestSlices(t *testing.T) {
	at := func(heights ...float64) (c [][][3]float64) {
		for _, z := range heights {
			c = append(c, box(0.5, 0.5, 2.5, 2.5, z))
		}
		return c
	}
	for name, c := range map[string]struct {
		contours [][][3]float64
		want     []int // voxels on each of five slices
		note     string
	}{
		"on the slices":       {at(1, 2, 3), []int{0, 4, 4, 4, 0}, ""},
		"a hair off":          {at(1.04, 1.96), []int{0, 4, 4, 0, 0}, ""},
		"between":             {at(1.3, 2.3), []int{0, 4, 4, 0, 0}, "2 of 2 contours lie between slices"},
		"half way goes down":  {at(1.5), []int{0, 4, 0, 0, 0}, "1 of 1 contours lie between slices"},
		"beyond the last":     {at(3, 4, 5, 6), []int{0, 0, 0, 4, 4}, "2 of 4 contours lie beyond"},
		"half below first":    {at(-0.5, 0), []int{4, 0, 0, 0, 0}, "left out because a nearer one"},
		"finer than slices":   {at(1, 1.5, 2, 2.5, 3), []int{0, 4, 4, 4, 0}, "2 of 5 contours are left out because a nearer one"},
		"coarser than slices": {at(0, 2, 4), []int{4, 0, 4, 0, 4}, "2 slices between"},
		"over the edge":       {[][][3]float64{box(-3, -3, 1.5, 1.5, 0)}, []int{4, 0, 0, 0, 0}, "1 of 1 contours reach beyond the edge"},
		"drawn twice":         {at(1, 2, 2), []int{0, 4, 0, 0, 0}, "1 of 3 contours repeat another"},
		"tilted a little":     {[][][3]float64{{{0.5, 0.5, 1}, {2.5, 0.5, 1.1}, {2.5, 2.5, 1.1}, {0.5, 2.5, 1}}}, []int{0, 4, 0, 0, 0}, "1 of 1 contours are not parallel"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, g := range []voxel.Geometry{unit(4, 4, 5), askew(4, 4, 5)} {
				m, notes := rasterise(t, drawn(g, c.contours...), g)
				var got []int
				for k := range 5 {
					n := 0
					for _, v := range m.Data[k*16 : (k+1)*16] {
						n += int(v)
					}
					got = append(got, n)
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("voxels on slices %v, want %v", got, c.want)
				}
				if all := strings.Join(notes, "\n"); (c.note == "") != (all == "") || !strings.Contains(all, c.note) {
					t.Errorf("notes %q, want %q", notes, c.note)
				}
			}
		})
	}
}

func TestRasteriseRefuses(t *testing.T) {
	g := unit(4, 4, 4)
	for name, c := range map[string]struct {
		code    refusal.Code
		contour [][3]float64
	}{
		"in no plane":      {refusal.ContoursPlane, [][3]float64{{0, 0, 0}, {3, 0, 3}, {3, 3, 0}, {0, 3, 3}}},
		"a line":           {refusal.ContoursPlane, [][3]float64{{0, 0, 0}, {1, 1, 1}, {3, 3, 3}, {2, 2, 2}}},
		"outside":          {refusal.ContoursOutside, box(1, 1, 2, 2, 9)},
		"beside":           {refusal.ContoursEmpty, box(11, 11, 12, 12, 1)},
		"smaller than one": {refusal.ContoursEmpty, box(1.1, 1.1, 1.9, 1.9, 1)},
		"not a number":     {refusal.ContoursData, box(1, 1, math.NaN(), 2, 1)},
		"infinite":         {refusal.ContoursData, box(1, 1, math.Inf(1), 2, 1)},
		"off the world":    {refusal.ContoursData, box(1, 1, 1e300, 2, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := wholeMask(context.Background(), roi.Region{Number: 7, Contours: [][][3]float64{c.contour}}, g, voxel.Rule{})
			var r *refusal.Refusal
			if !errors.As(err, &r) || r.Code != c.code || !strings.Contains(r.Text, "ROI 7") || r.Remedy == "" {
				t.Errorf("error is %v, want %s that names ROI 7 and a remedy", err, c.code)
			}
		})
	}
	twice := roi.Region{Contours: [][][3]float64{box(0, 0, 2, 2, 0), box(0, 0, 2, 2, 0)}}
	if _, _, err := wholeMask(context.Background(), twice, g, voxel.Rule{}); err == nil || !strings.Contains(err.Error(), "repeat another") {
		t.Errorf("a contour that cancels itself: %v", err)
	}
	if _, _, err := wholeMask(context.Background(), roi.Region{Contours: [][][3]float64{box(0, 0, 2, 2, 0)}}, voxel.Geometry{}, voxel.Rule{}); err == nil {
		t.Error("a grid without voxels is accepted")
	}
	refused := &refusal.Refusal{Code: refusal.ContoursType, Text: "points"}
	if _, _, err := wholeMask(context.Background(), roi.Region{Refusal: refused}, g, voxel.Rule{}); err != error(refused) {
		t.Errorf("error is %v, want the region's own refusal", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := wholeMask(ctx, drawn(g, box(0, 0, 2, 2, 0)), g, voxel.Rule{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// shared finds the real data beside the module.
func shared(t testing.TB, path ...string) string {
	t.Helper()
	root := os.Getenv("RADNODE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared")
	}
	p := filepath.Join(append([]string{root, "data"}, path...)...)
	if _, err := os.Stat(p); err != nil {
		t.Skipf("real data are absent: set RADNODE_SHARED to the folder that holds data/ (%v)", err)
	}
	return p
}

func readFolder(t testing.TB, folder string) []*dicom.File {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder, "*.dcm"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no file in %s: %v", folder, err)
	}
	var fs []*dicom.File
	for _, p := range paths {
		f, err := os.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		d, err := dicom.ReadFile(f, info.Size())
		if err != nil {
			t.Fatal(err)
		}
		fs = append(fs, d)
	}
	return fs
}

func headers(fs []*dicom.File) (d []*dicom.DataSet) {
	for _, f := range fs {
		d = append(d, f.DataSet)
	}
	return d
}

// load reads a real series and its structure set.
func load(t testing.TB, images, contours []string) (imaging.Layout, []*dicom.File, *dicom.DataSet, []roi.Region) {
	t.Helper()
	fs := readFolder(t, shared(t, images...))
	l, err := imaging.Check(headers(fs), imaging.Options{})
	if err != nil {
		t.Fatal(err)
	}
	set := readFolder(t, shared(t, contours...))[0].DataSet
	regions, err := roi.Regions(&dicom.File{DataSet: set})
	if err != nil {
		t.Fatal(err)
	}
	return l, fs, set, regions
}

// TestPublishedMask compares the voxels of the structure set of IBSI's chest CT with the mask that IBSI publishes for it,
// voxel by voxel; 125256 is int_mask_vox_count_init_roi of the reference tables of configurations A to E.
func TestPublishedMask(t *testing.T) {
	l, _, _, regions := load(t, []string{"ibsi1", "ct_phantom", "dicom", "image"}, []string{"ibsi1", "ct_phantom", "dicom", "mask"})
	m, notes := rasterise(t, regions[0], l.Geometry)
	f, err := os.Open(shared(t, "ibsi1", "ct_phantom", "nifti", "mask", "mask.nii.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want, err := voxel.ReadNIfTI(f)
	if err != nil {
		t.Fatal(err)
	}
	if !m.Geometry.Equal(want.Geometry, 0.01) {
		t.Fatalf("geometry %+v, published %+v", m.Geometry, want.Geometry)
	}
	differ := 0
	for i, v := range m.Data {
		if (v != 0) != (want.Data[i] != 0) {
			differ++
		}
	}
	if n := m.Count(); n != 125256 || differ != 0 || len(notes) != 0 {
		t.Errorf("%d voxels, %d differ from the published mask, notes %q; want 125256, 0 and none", n, differ, notes)
	}
}

// TestPublishedValues takes IBSI's chest CT from its DICOM images and its structure set to the values that IBSI publishes
// for configurations C and D (3D, 2 mm, trilinear), through the whole of this package and package imaging.
func TestPublishedValues(t *testing.T) {
	_, fs, _, regions := load(t, []string{"ibsi1", "ct_phantom", "dicom", "image"}, []string{"ibsi1", "ct_phantom", "dicom", "mask"})
	v, err := imaging.Assemble(context.Background(), fs, imaging.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, _ := rasterise(t, regions[0], v.Grid.Geometry)
	for config, resegment := range map[string]features.Resegment{"c": {Range: []float64{-1000, 400}}, "d": {Outliers: 3}} {
		p := features.DefaultProfile("CT")
		p.Resample.Spacing = []float64{2, 2, 2}
		p.Resegment = resegment
		res, err := features.Extract(context.Background(), v.Grid, m, p)
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]float64)
		for _, v := range res.Values {
			if v.Reason == "" {
				got[v.Tag] = v.Value
			}
		}
		b, err := os.ReadFile(shared(t, "ibsi1", "reference_values", "chest_config_"+config+".csv"))
		if err != nil {
			t.Fatal(err)
		}
		compared := 0
		for _, line := range strings.Split(strings.TrimSpace(string(b)), "\n") {
			column := strings.Split(strings.TrimSpace(line), ";") // value; tolerance; tag
			family, _, _ := strings.Cut(column[len(column)-1], "_")
			if column[0] == "" { // no consensus: the table has the name only
				continue
			}
			if family != "stat" && family != "loc" && !strings.HasPrefix(column[2], "morph_") || strings.HasPrefix(column[2], "morph_mask_") {
				continue
			}
			want, err1 := strconv.ParseFloat(column[0], 64)
			tolerance, err2 := strconv.ParseFloat(column[1], 64)
			value, ok := got[column[2]]
			if err1 != nil || err2 != nil || !ok {
				t.Errorf("%s: %q is not compared: %v %v, value there: %v", config, line, err1, err2, ok)
				continue
			}
			rounded, _ := strconv.ParseFloat(strconv.FormatFloat(value, 'g', 3, 64), 64) // the table has three digits
			if compared++; math.Abs(rounded-want) > tolerance*(1+1e-12) {
				t.Errorf("%s: %s is %v, published %v ± %v", config, column[2], value, want, tolerance)
			}
		}
		if compared != 45 { // 29 + 2 + 18 less the four without consensus
			t.Errorf("%s: %d of 45 values compared", config, compared)
		}
	}
}

// TestBundled takes the studies that travel with radnode through both packages. The figures are those of the phantoms'
// construction: 74 voxels of the digital phantom with mean 2.15 and maximum 6 (IBSI reference manual, 5.1, stat_mean and
// stat_max). The synthetic CT has pixels that are not square.
func TestBundled(t *testing.T) {
	g, regions := bundled(t, testdata.DigitalPhantom)
	m, notes := rasterise(t, regions[0], g.Geometry)
	sum, high := 0.0, 0.0
	for i, v := range m.Data {
		sum += float64(v) * float64(g.Data[i])
		high = max(high, float64(v)*float64(g.Data[i]))
	}
	if n := m.Count(); n != 74 || math.Abs(sum/74-2.15) > 0.005 || high != 6 || len(notes) != 0 {
		t.Errorf("%d voxels, mean %.3f, maximum %v, notes %q", n, sum/74, high, notes)
	}

	g, regions = bundled(t, testdata.SyntheticCT)
	if g.Spacing != [3]float64{1.1, 0.9, 2.5} || len(regions) != 2 {
		t.Fatalf("spacing %v, %d regions", g.Spacing, len(regions))
	}
	taken := make([]uint8, g.Len())
	for _, r := range regions {
		m, _ := rasterise(t, r, g.Geometry)
		if area, voxels := shoelace(r), float64(m.Count())*1.1*0.9; math.Abs(area-voxels) > 0.02*area {
			t.Errorf("%s: contours enclose %.0f mm2, voxels cover %.0f", r.Name, area, voxels)
		}
		for i, v := range m.Data {
			if taken[i] += v; taken[i] > 1 {
				t.Fatalf("%s shares voxel %d with another region: the lesion is a hole in the ring", r.Name, i)
			}
		}
	}
}

func bundled(t *testing.T, folder string) (*voxel.Grid, []roi.Region) {
	t.Helper()
	paths, err := fs.Glob(testdata.FS, folder+"/*.dcm")
	if err != nil {
		t.Fatal(err)
	}
	var images []*dicom.File
	var regions []roi.Region
	for _, p := range paths {
		b, err := fs.ReadFile(testdata.FS, p)
		if err != nil {
			t.Fatal(err)
		}
		f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		if f.DataSet.String(dicom.Modality) == "CT" {
			images = append(images, f)
		} else if regions, err = roi.Regions(f); err != nil {
			t.Fatal(err)
		}
	}
	v, err := imaging.Assemble(context.Background(), images, imaging.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return v.Grid, regions
}

// TestSecondProgram compares real contours with a second implementation: even-odd rule by numpy 2.4, each pixel centre
// against each edge in raw coordinates, contours read by pydicom 3.0.2. The checksum is the sum of i + 3 j + 7 k over the
// voxels (i, j, k). Beside it stands the area of the contours by the shoelace formula: it knows nothing of voxels.
func TestSecondProgram(t *testing.T) {
	raw := func(s string) [2][]string {
		return [2][]string{{"sts_raw", "STS_001", s, "image"}, {"sts_raw", "STS_001", s, "mask"}}
	}
	lung := [2][]string{{"lung1", "LUNG1-001", "image"}, {"lung1", "LUNG1-001", "mask_rtstruct"}}
	sts := func(s string) [2][]string {
		return [2][]string{{"sts", s, "CT", "image"}, {"sts", s, "CT", "mask"}}
	}
	for _, c := range []struct {
		data     [2][]string
		number   int
		name     string
		voxels   int
		checksum int
	}{
		{lung, 2, "GTV-1", 54639, 90685968},
		{lung, 6, "Spinal-Cord", 15618, 27440680},
		{lung, 7, "Lung-Left", 795750, 1299848538},
		{lung, 8, "Lung-Right", 1036805, 1475012311},
		{sts("STS_001"), 1, "GTV_Mass_CT", 117145, 69596462},
		{sts("STS_002"), 1, "GTV_Mass_CT", 17090, 7878986},
		{sts("STS_003"), 1, "GTV_Mass_CT", 25693, 12398552},
		{raw("FDG_PET"), 2, "GTV_Edema", 8058, 3702831},
		{raw("MR_T1"), 1, "GTV_Mass", 459702, 496736203}, // oblique images
		{raw("MR_T2"), 2, "GTV_Edema", 406547, 341426482},
	} {
		t.Run(fmt.Sprint(c.data[0][1], " ", c.data[0][2], " ", c.name), func(t *testing.T) {
			g := lattice(t, readFolder(t, shared(t, c.data[0]...)))
			regions, err := roi.Regions(readFolder(t, shared(t, c.data[1]...))[0])
			if err != nil {
				t.Fatal(err)
			}
			n := slices.IndexFunc(regions, func(r roi.Region) bool { return r.Number == c.number })
			r := regions[n]
			m, notes := rasterise(t, r, g)
			checksum, i := 0, 0
			for z := range m.Size[2] {
				for y := range m.Size[1] {
					for x := range m.Size[0] {
						if m.Data[i] != 0 {
							checksum += x + 3*y + 7*z
						}
						i++
					}
				}
			}
			if r.Name != c.name || m.Count() != c.voxels || checksum != c.checksum || len(notes) != 0 {
				t.Errorf("%s: %d voxels, checksum %d, notes %q; want %s, %d, %d and none", r.Name, m.Count(), checksum, notes, c.name, c.voxels, c.checksum)
			}
			if area, voxels := shoelace(r), float64(m.Count())*m.Spacing[0]*m.Spacing[1]*g.Axes[2][2]; math.Abs(area-voxels) > 0.005*area {
				t.Errorf("contours enclose %.0f mm2, voxels cover %.0f", area, voxels)
			}
		})
	}
}

// shoelace is the area that axial contours enclose. A contour whose first point lies inside another of its slice is a hole.
func shoelace(r roi.Region) float64 {
	total := 0.0
	for n, c := range r.Contours {
		area := 0.0
		for i := range c {
			a, b := c[i], c[(i+1)%len(c)]
			area += (a[0]*b[1] - b[0]*a[1]) / 2
		}
		sign := 1.0
		for o, other := range r.Contours {
			if o != n && other[0][2] == c[0][2] && inside(c[0][0], c[0][1], [][][3]float64{other}) {
				sign = -sign
			}
		}
		total += sign * math.Abs(area)
	}
	return total
}

// BenchmarkRasterise draws the left lung of a thorax CT: 139 contours, 28,830 points, on 134 slices of 512 × 512.
func BenchmarkRasterise(b *testing.B) {
	l, _, _, regions := load(b, []string{"lung1", "LUNG1-001", "image"}, []string{"lung1", "LUNG1-001", "mask_rtstruct"})
	n := slices.IndexFunc(regions, func(r roi.Region) bool { return r.Name == "Lung-Left" })
	b.ReportAllocs()
	for b.Loop() {
		rasterise(b, regions[n], l.Geometry)
	}
}

// BenchmarkManyPoints draws one contour of ten million points.
func BenchmarkManyPoints(b *testing.B) {
	c := make([][3]float64, 10_000_000)
	for i := range c {
		a := 2 * math.Pi * float64(i) / float64(len(c))
		radius := 200 + 20*math.Sin(1000*a)
		c[i] = [3]float64{256 + radius*math.Cos(a), 256 + radius*math.Sin(a), 0}
	}
	g := unit(512, 512, 1)
	b.ReportAllocs()
	for b.Loop() {
		rasterise(b, roi.Region{Contours: [][][3]float64{c}}, g)
	}
}

// BenchmarkTenMillionPoints reads a structure set of a thousand contours of ten thousand points each, 190 MB, and draws it.
func BenchmarkTenMillionPoints(b *testing.B) {
	const slices, points = 1000, 10_000
	var contours []*dicom.DataSet
	for z := range slices {
		var text []byte
		for i := range points {
			a := 2 * math.Pi * float64(i) / points
			radius := 200 + 20*math.Sin(100*a)
			for _, x := range []float64{256 + radius*math.Cos(a), 256 + radius*math.Sin(a), float64(z)} {
				text = append(strconv.AppendFloat(text, x, 'f', 3, 64), '\\')
			}
		}
		contours = append(contours, contour("CLOSED_PLANAR", string(text[:len(text)-1])))
	}
	d := structureSet()
	d.SetSeq(dicom.ROIContourSequence, drawing("7", contours...))
	file := part10(b, d)
	g := unit(512, 512, slices)
	b.SetBytes(int64(len(file)))
	b.ReportAllocs()
	for b.Loop() {
		f, err := dicom.ReadFile(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			b.Fatal(err)
		}
		regions, err := roi.Regions(f)
		if err != nil {
			b.Fatal(err)
		}
		roi.Bounds(regions[0], g)
		if m, _ := rasterise(b, regions[0], g); m.Count() < slices*100_000 {
			b.Fatal(m.Count())
		}
	}
}

// wholeMask is roi.Rasterise with the mask on the whole grid. The part that it came on is what Bounds foresaw.
func wholeMask(ctx context.Context, r roi.Region, g voxel.Geometry, rule voxel.Rule) (*voxel.Mask, []string, error) {
	m, notes, err := roi.Rasterise(ctx, r, g, rule)
	if err != nil {
		return nil, nil, err
	}
	part := g.Part(m.Geometry)
	if b := roi.Bounds(r, g); b != part || m.Geometry != g.Crop(part) {
		return nil, nil, fmt.Errorf("the mask lies on %v, and Bounds says %v", part, b)
	}
	return m.On(g, part.Min), notes, nil
}
