package phantom

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/csv"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// mask says which voxels of the study a region holds, by the plain rule: the voxel's centre is inside an odd number
// of the slice's polygons (PS3.3 C.8.8.6.3, XOR).
func mask(t *testing.T, s study, r region) []bool {
	t.Helper()
	m := make([]bool, len(s.slices)*s.rows*s.columns)
	for _, c := range r.contours {
		for j := range s.rows {
			for i := range s.columns {
				x, y := float64(i)*s.columnSpacing, float64(j)*s.rowSpacing
				inside := false
				for n, a := range c.vertices {
					b := c.vertices[(n+1)%len(c.vertices)]
					if distance(x, y, a, b) < 1e-5 {
						t.Fatalf("%s, slice %d: voxel %d, %d lies on the contour; two rasterisers may differ", r.name, c.slice, i, j)
					}
					if (a[1] > y) != (b[1] > y) && x < a[0]+(y-a[1])*(b[0]-a[0])/(b[1]-a[1]) {
						inside = !inside
					}
				}
				if inside {
					at := (c.slice*s.rows+j)*s.columns + i
					m[at] = !m[at]
				}
			}
		}
	}
	return m
}

// distance of the point from the segment a b.
func distance(x, y float64, a, b [2]float64) float64 {
	dx, dy := b[0]-a[0], b[1]-a[1]
	along := max(0, min(1, ((x-a[0])*dx+(y-a[1])*dy)/(dx*dx+dy*dy)))
	return math.Hypot(x-a[0]-along*dx, y-a[1]-along*dy)
}

func inside(s study, m []bool) []float64 {
	var values []float64
	for k, slice := range s.slices {
		for n, hu := range slice {
			if m[k*len(slice)+n] {
				values = append(values, float64(hu))
			}
		}
	}
	return values
}

// The published figures of the digital phantom come out of the values and contours written down here.
func TestDigitalPhantomFigures(t *testing.T) {
	s := ibsiDigitalPhantom()
	m := mask(t, s, s.regions[0])
	values := inside(s, m)
	slices.Sort(values)

	var sum, squares, centre [3]float64 // centre of all voxels, of all voxels by their value
	var byValue float64
	for k, slice := range s.slices {
		for n, hu := range slice {
			if !m[k*len(slice)+n] {
				continue
			}
			for axis, index := range []int{n % s.columns, n / s.columns, k} {
				centre[axis] += 2 * float64(index)
				sum[axis] += 2 * float64(index) * float64(hu)
			}
			byValue += float64(hu)
			squares[0] += float64(hu) * float64(hu)
		}
	}
	count := float64(len(values))
	var shift float64
	for axis := range centre {
		shift += math.Pow(centre[axis]/count-sum[axis]/byValue, 2)
	}
	mean := byValue / count
	got := map[string]float64{
		"morph_vol_approx": count * 8,
		"morph_com":        math.Sqrt(shift),
		"stat_mean":        mean,
		"stat_var":         squares[0]/count - mean*mean,
		"stat_min":         values[0],
		"stat_max":         values[len(values)-1],
		"stat_median":      (values[36] + values[37]) / 2,
		"stat_energy":      squares[0],
		"stat_rms":         math.Sqrt(squares[0] / count),
	}
	published := readFigures(t)
	for tag, v := range got {
		want, ok := published[tag]
		if !ok {
			t.Errorf("%s is not among the published figures", tag)
			continue
		}
		rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
		if math.Abs(rounded-want.value) > want.tolerance {
			t.Errorf("%s = %v, published %v ± %v", tag, v, want.value, want.tolerance)
		}
	}
}

type figure struct{ value, tolerance float64 }

func readFigures(t *testing.T) map[string]figure {
	t.Helper()
	f, err := os.Open("../ibsi1/digital-phantom.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma = ';'
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	figures := map[string]figure{}
	for _, row := range rows[1:] {
		value, err := strconv.ParseFloat(row[0], 64)
		if err != nil {
			t.Fatalf("%s: %v", row[2], err)
		}
		tolerance, err := strconv.ParseFloat(row[1], 64)
		if err != nil {
			t.Fatalf("%s: %v", row[2], err)
		}
		figures[row[2]] = figure{value, tolerance}
	}
	if len(figures) != 482 {
		t.Fatalf("%d figures, IBSI-1 publishes 482 for the digital phantom", len(figures))
	}
	return figures
}

// The values and the mask equal IBSI's own NIfTI files, voxel by voxel.
func TestDigitalPhantomNIfTI(t *testing.T) {
	shared := os.Getenv("RADNODE_SHARED")
	if shared == "" {
		shared = "../../../shared"
	}
	folder := filepath.Join(shared, "data", "ibsi1", "digital_phantom", "nifti")
	if _, err := os.Stat(folder); err != nil {
		t.Skipf("no IBSI data: %v", err)
	}
	s := ibsiDigitalPhantom()
	image := readNIfTI(t, filepath.Join(folder, "image", "phantom.nii.gz"))
	if got := slices.Concat(s.slices...); !slices.Equal(got, image) {
		t.Errorf("values differ from IBSI's:\n%v\n%v", got, image)
	}
	want := readNIfTI(t, filepath.Join(folder, "mask", "mask.nii.gz"))
	for n, in := range mask(t, s, s.regions[0]) {
		if in != (want[n] == 1) {
			t.Errorf("voxel %d: in the region %v, IBSI's mask says %d", n, in, want[n])
		}
	}
}

// readNIfTI returns the 16-bit samples of a NIfTI-1 file; both files of the phantom have a header of 352 bytes.
func readNIfTI(t *testing.T, path string) []int16 {
	t.Helper()
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	samples := make([]int16, (len(b)-352)/2)
	for n := range samples {
		samples[n] = int16(binary.LittleEndian.Uint16(b[352+2*n:]))
	}
	return samples
}

// The synthetic CT has in it what it is there for.
func TestSyntheticCT(t *testing.T) {
	s := syntheticCT()
	lesion, ring := mask(t, s, s.regions[0]), mask(t, s, s.regions[1])
	var inLesion, inRing, inBoth int
	for n := range lesion {
		if lesion[n] {
			inLesion++
		}
		if ring[n] {
			inRing++
		}
		if lesion[n] && ring[n] {
			inBoth++
		}
	}
	if inLesion < 1000 || inRing < 1000 {
		t.Errorf("lesion %d voxels, ring %d: too small to compute features that mean something", inLesion, inRing)
	}
	if inBoth != 0 {
		t.Errorf("%d voxels are in the lesion and in the ring around it", inBoth)
	}
	if distinct := len(slices.Compact(slices.Sorted(slices.Values(inside(s, lesion))))); distinct < 50 {
		t.Errorf("lesion has %d different values, not a texture", distinct)
	}
	all := slices.Concat(s.slices...)
	if lowest := slices.Min(all); lowest >= rescaleIntercept {
		t.Errorf("lowest value %d: no stored value is negative", lowest)
	}
	if slices.IsSorted(s.storedAs) {
		t.Error("slices are stored in order of position")
	}
	if numbers := slices.Sorted(slices.Values(s.storedAs)); numbers[0] != 1 || len(slices.Compact(numbers)) != ctSlices || numbers[ctSlices-1] != ctSlices {
		t.Errorf("instance numbers %v", s.storedAs)
	}
	t.Logf("lesion %d voxels, ring %d, values %d to %d", inLesion, inRing, slices.Min(all), slices.Max(all))
}
