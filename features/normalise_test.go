package features_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"

	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
)

// signal is an image as an MR scanner makes it: air, and tissue with noise.
func signal(nx, ny, nz int) *voxel.Grid {
	r := rand.New(rand.NewPCG(3, 5))
	g := &voxel.Grid{Geometry: voxel.Geometry{Size: [3]int{nx, ny, nz}, Spacing: [3]float64{1, 1, 3}, Axes: [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}}
	for range nx * ny * nz {
		x := r.IntN(30)
		if r.IntN(3) > 0 {
			x = 400 + int(100*r.NormFloat64())
		}
		g.Data = append(g.Data, float32(x))
	}
	return g
}

// middle is a region of g: a box without its corner voxel, on a grid of its own.
func middle(g *voxel.Grid) *voxel.Mask {
	box := voxel.Box{Min: [3]int{2, 1, 1}, Max: [3]int{g.Size[0] - 1, g.Size[1] - 3, g.Size[2]}}
	m := &voxel.Mask{Geometry: g.Geometry.Crop(box), Data: make([]uint8, box.Len())}
	for i := range m.Data {
		m.Data[i] = 1
	}
	m.Data[0] = 0
	return m
}

// under are the values of g under m, in no order that matters.
func under(g *voxel.Grid, m *voxel.Mask) (v []float64) {
	for i := range g.Data {
		at := g.Point(float64(i%g.Size[0]), float64(i/g.Size[0]%g.Size[1]), float64(i/g.Size[0]/g.Size[1]))
		in := m == nil
		if m != nil {
			p := m.Index(at)
			x, y, z := int(math.Round(p[0])), int(math.Round(p[1])), int(math.Round(p[2]))
			in = x >= 0 && y >= 0 && z >= 0 && x < m.Size[0] && y < m.Size[1] && z < m.Size[2] && m.Data[(z*m.Size[1]+y)*m.Size[0]+x] != 0
		}
		if in {
			v = append(v, float64(g.Data[i]))
		}
	}
	return v
}

// plainNormalise is the formula.
func plainNormalise(n features.Normalise, g *voxel.Grid, m *voxel.Mask) []float64 {
	v := under(g, m)
	slices.Sort(v)
	mean, sd := 0.0, 0.0
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		sd += (x - mean) * (x - mean) / float64(len(v))
	}
	sd = math.Sqrt(sd)
	percentile := func(p float64) float64 {
		at := p / 100 * float64(len(v)-1)
		i := int(at)
		return v[i] + (at-float64(i))*(v[min(i+1, len(v)-1)]-v[i])
	}
	var out []float64
	for _, x := range g.Data {
		switch x := float64(x); n.Method {
		case "zscore":
			out = append(out, (x-mean)/sd*n.Scale)
		case "mean":
			out = append(out, x/mean*n.Scale)
		case "range":
			out = append(out, (x-percentile(n.Low))/(percentile(n.High)-percentile(n.Low))*n.Scale)
		}
	}
	return out
}

func TestNormalise(t *testing.T) {
	for _, c := range []struct {
		n      features.Normalise
		region bool
		note   string
	}{
		{features.Normalise{Method: "zscore", Scale: 1}, false, "z-score by the mean 268.61 and standard deviation 200.163 of 9,240 voxels of the whole image"},
		{features.Normalise{Method: "zscore", Scale: 100}, true, "voxels of the reference region, times 100"},
		{features.Normalise{Method: "range", Low: 1, High: 99, Scale: 1}, false, "range by the percentiles 1 and 99, 0 and "},
		{features.Normalise{Method: "range", Low: 0, High: 100, Scale: 255}, false, "times 255"},
		{features.Normalise{Method: "range", Low: 2.5, High: 97.25, Scale: 1}, true, "range by the percentiles 2.5 and 97.25,"},
		{features.Normalise{Method: "mean", Region: "(?i)muscle", Scale: 1}, true, "divided by the mean "},
	} {
		t.Run(fmt.Sprintf("%s %v", c.n.Method, c.region), func(t *testing.T) {
			g := signal(22, 21, 20)
			var m *voxel.Mask
			if c.region {
				m = middle(g)
			}
			want := plainNormalise(c.n, g, m)
			note, err := c.n.Apply(context.Background(), g, m)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(note, c.note) {
				t.Errorf("note %q, want %q", note, c.note)
			}
			for i, x := range g.Data {
				if !(math.Abs(float64(x)-want[i]) <= 1e-6*math.Max(1, math.Abs(want[i]))) {
					t.Fatalf("voxel %d is %v, want %v", i, x, want[i])
				}
			}
		})
	}
}

// The percentiles are those of a sorted copy, whatever the numbers: signs, ties, tiny ones.
func TestNormaliseRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.OneOf(rapid.Float32Range(-1e30, 1e30), rapid.Float32Range(-1e-3, 1e-3), rapid.SampledFrom([]float32{0, float32(math.Copysign(0, -1)), 1, -1, 1.0000001})), 2, 60).Draw(t, "values")
		low := rapid.Float64Range(0, 99).Draw(t, "low")
		high := rapid.Float64Range(low+0.5, 100).Draw(t, "high")
		g := &voxel.Grid{Geometry: voxel.Geometry{Size: [3]int{len(values), 1, 1}, Spacing: [3]float64{1, 1, 1}, Axes: [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}, Data: slices.Clone(values)}
		n := features.Normalise{Method: "range", Low: low, High: high, Scale: 1}
		want := plainNormalise(n, g, nil)
		if _, err := n.Apply(context.Background(), g, nil); err != nil {
			if !slices.Equal(g.Data, values) {
				t.Fatalf("changed, and %v", err)
			}
			for _, w := range want {
				if math.IsNaN(w) || math.Abs(w) > math.MaxFloat32 {
					return
				}
			}
			t.Fatal(err)
		}
		for i, x := range g.Data {
			if !(math.Abs(float64(x)-want[i]) <= 1e-6*math.Max(1, math.Abs(want[i]))) {
				t.Fatalf("value %d (%v) is %v, want %v", i, values[i], x, want[i])
			}
		}
	})
}

func TestNormaliseRefuses(t *testing.T) {
	with := func(i int, x float64) func(*voxel.Grid) {
		return func(g *voxel.Grid) { g.Data[i] = float32(x) }
	}
	same := func(g *voxel.Grid) {
		for i := range g.Data {
			g.Data[i] = 7.3
		}
	}
	negative := func(g *voxel.Grid) {
		for i := range g.Data {
			g.Data[i] = -g.Data[i]
		}
	}
	empty := func(g *voxel.Grid) *voxel.Mask { m := middle(g); clear(m.Data); return m }
	elsewhere := func(g *voxel.Grid) *voxel.Mask { m := middle(g); m.Origin[0] += 0.5; return m }
	for _, c := range []struct {
		name   string
		n      features.Normalise
		change func(*voxel.Grid)
		region func(*voxel.Grid) *voxel.Mask
		want   string
	}{
		{"constant", features.Normalise{Method: "zscore"}, same, nil, "9,240 voxels of the whole image are all the same"},
		{"constant", features.Normalise{Method: "range"}, same, nil, "leave normalise out"},
		{"constant region", features.Normalise{Method: "zscore"}, func(g *voxel.Grid) { same(g); g.Data[0] = 9 }, middle, "voxels of the reference region are all the same"},
		{"empty region", features.Normalise{Method: "zscore"}, nil, empty, "holds no voxel: draw it larger"},
		{"another grid", features.Normalise{Method: "zscore"}, nil, elsewhere, "not on the image's grid"},
		{"no region", features.Normalise{Method: "zscore", Region: "muscle"}, nil, nil, `no reference region "muscle": draw it`},
		{"mean without region", features.Normalise{Method: "mean"}, nil, nil, "region: is empty"},
		{"negative mean", features.Normalise{Method: "mean", Region: "m"}, negative, middle, "must be above 0"},
		{"NaN", features.Normalise{Method: "zscore"}, with(77, math.NaN()), nil, "no finite value at"},
		{"infinite beside the region", features.Normalise{Method: "zscore"}, with(0, math.Inf(1)), middle, "no finite value at"},
		{"beyond all numbers", features.Normalise{Method: "zscore", Scale: 1e6}, with(0, 3e38), middle, "beyond all numbers"},
		{"short", features.Normalise{Method: "zscore"}, func(g *voxel.Grid) { g.Data = g.Data[1:] }, nil, "another number of voxels"},
	} {
		t.Run(c.name+" "+c.n.Method, func(t *testing.T) {
			g := signal(22, 21, 20)
			if c.change != nil {
				c.change(g)
			}
			before := slices.Clone(g.Data)
			var m *voxel.Mask
			if c.region != nil {
				m = c.region(g)
			}
			note, err := c.n.Apply(context.Background(), g, m)
			if err == nil || !strings.Contains(err.Error(), c.want) || note != "" {
				t.Errorf("note %q, error %v, want %q", note, err, c.want)
			}
			for i := range before {
				if math.Float32bits(before[i]) != math.Float32bits(g.Data[i]) {
					t.Fatalf("voxel %d has changed all the same", i)
				}
			}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := (features.Normalise{Method: "zscore"}).Apply(ctx, signal(4, 4, 4), nil); err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	g := signal(4, 4, 4)
	if note, err := (features.Normalise{}).Apply(context.Background(), g, nil); note != "" || err != nil || !slices.Equal(g.Data, signal(4, 4, 4).Data) {
		t.Errorf("nothing to do: %q, %v", note, err)
	}
}

func TestNormaliseInProfile(t *testing.T) {
	parse := func(s string) (p features.Profile) {
		p = features.DefaultProfile("MR")
		if err := yaml.UnmarshalWithOptions([]byte(s), &p, yaml.Strict()); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for text, want := range map[string]string{
		"normalise: {method: zscore}":                                   "NRM:Z; INT:LIN:3D:1mm; RS:3σ; FBN:32; IVH:FBN:1000",
		"normalise: {method: range, low: 0, high: 100, scale: 255}":     "NRM:[p0,p100]×255; INT:",
		"normalise: {method: range}":                                    "NRM:[p1,p99]; INT:",
		"normalise: {method: mean, region: '(?i)^muscle$', scale: 1}":   "NRM:MEAN((?i)^muscle$); INT:",
		"normalise: {method: none, region: muscle}":                     "INT:",
		"normalise: {method: zscore, region: muscle, low: 1, high: 99}": "NRM:Z(muscle); INT:",
	} {
		p := parse(text)
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if got := p.Notation(); !strings.HasPrefix(got, want) {
			t.Errorf("%s: notation %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{
		"normalise: {method: zcore}":                   `mr-default: normalise: method: "zcore", want none, zscore, range or mean`,
		"normalise: {method: mean}":                    "normalise: region: is empty",
		"normalise: {method: zscore, region: '('}":     "normalise: region:",
		"normalise: {method: range, low: 99, high: 1}": "normalise: low: 99, high: 1",
		"normalise: {method: range, high: 101}":        "normalise: low: 0, high: 101",
		"normalise: {method: range, low: .nan}":        "normalise: low: NaN",
		"normalise: {method: zscore, scale: -1}":       "normalise: scale: -1",
		"normalise: {method: zscore, scale: .inf}":     "normalise: scale: +Inf",
	} {
		if err := parse(text).Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	plain := features.DefaultProfile("MR").Hash()
	same := []string{"normalise: {method: none}", "normalise: {method: none, region: x, scale: 3}", "normalise: {}"}
	for _, text := range same {
		if parse(text).Hash() != plain {
			t.Errorf("%s counts", text)
		}
	}
	seen := map[string]string{plain: "the default"}
	for _, text := range []string{"{method: zscore}", "{method: zscore, scale: 100}", "{method: zscore, region: muscle}", "{method: range}", "{method: range, low: 2, high: 99}", "{method: range, low: 1, high: 98}", "{method: mean, region: muscle}"} {
		h := parse("normalise: " + text).Hash()
		if other, ok := seen[h]; ok {
			t.Errorf("%s has the hash of %s", text, other)
		}
		seen[h] = text
	}
	if parse("normalise: {method: range}").Hash() != parse("normalise: {method: range, low: 1, high: 99, scale: 1}").Hash() {
		t.Error("defaults that are written out count")
	}
}

// TestNormaliseOfMR compares with numpy and SimpleITK's NormalizeImageFilter, which PyRadiomics' normalizeImage is, on a T1
// image of the reference data.
func TestNormaliseOfMR(t *testing.T) {
	root := os.Getenv("RADNODE_SHARED")
	if root == "" {
		root = filepath.Join("..", "..", "shared")
	}
	dir := filepath.Join(root, "data", "sts_raw", "STS_001", "MR_T1", "image")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("reference data is not here (%v): set RADNODE_SHARED", err)
	}
	python := os.Getenv("RADNODE_PYTHON")
	if python == "" {
		python = "python3"
	}
	if err := exec.Command(python, "-c", "import numpy, pydicom").Run(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("numpy and pydicom are not here: %v", err)
		}
		t.Skip("numpy and pydicom are not here: RADNODE_PYTHON names the interpreter that has them")
	}
	work := t.TempDir()
	cmd := exec.Command(python, "-c", `
import glob, json, os, sys
import numpy, pydicom
source, work = sys.argv[1:]
slices = [pydicom.dcmread(f) for f in sorted(glob.glob(os.path.join(source, "*.dcm")))]
slices.sort(key=lambda d: float(d.ImagePositionPatient[2]))
slices = slices[10:22]
a = numpy.stack([d.pixel_array * float(d.get("RescaleSlope", 1)) + float(d.get("RescaleIntercept", 0)) for d in slices]).astype("<f4")
a.tofile(os.path.join(work, "image"))
b = a.astype("f8")
p = numpy.percentile(b, [1, 99])
((b - b.mean()) / b.std()).astype("<f4").tofile(os.path.join(work, "zscore"))
((b - p[0]) / (p[1] - p[0])).astype("<f4").tofile(os.path.join(work, "range"))
r = b[3:9, 100:140, 90:150]
(b / r.mean()).astype("<f4").tofile(os.path.join(work, "mean"))
sitk = False
try:
    import SimpleITK
    # ITK divides by the number of voxels less one.
    z = SimpleITK.GetArrayFromImage(SimpleITK.Normalize(SimpleITK.GetImageFromArray(b)))
    (z * numpy.sqrt(b.size / (b.size - 1))).astype("<f4").tofile(os.path.join(work, "sitk"))
    sitk = True
except ImportError:
    pass
json.dump({"Size": a.shape[::-1], "SITK": sitk}, sys.stdout)
`, dir, work)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Size [3]int
		SITK bool
	}
	if err := json.Unmarshal(out, &info); err != nil {
		t.Fatal(err)
	}
	read := func(name string) []float32 {
		b, err := os.ReadFile(filepath.Join(work, name))
		if err != nil {
			t.Fatal(err)
		}
		v := make([]float32, len(b)/4)
		if err := binary.Read(bytes.NewReader(b), binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	image := read("image")
	geometry := voxel.Geometry{Size: info.Size, Spacing: [3]float64{1, 1, 1}, Axes: [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}}
	box := voxel.Box{Min: [3]int{90, 100, 3}, Max: [3]int{150, 140, 9}}
	region := &voxel.Mask{Geometry: geometry.Crop(box), Data: bytes.Repeat([]byte{1}, box.Len())}
	for _, c := range []struct {
		file string
		n    features.Normalise
		m    *voxel.Mask
	}{
		{"zscore", features.Normalise{Method: "zscore"}, nil},
		{"range", features.Normalise{Method: "range"}, nil},
		{"mean", features.Normalise{Method: "mean", Region: "box"}, region},
		{"sitk", features.Normalise{Method: "zscore"}, nil},
	} {
		if c.file == "sitk" && !info.SITK {
			t.Log("SimpleITK is not here")
			continue
		}
		g := &voxel.Grid{Geometry: geometry, Data: slices.Clone(image)}
		note, err := c.n.Apply(context.Background(), g, c.m)
		if err != nil {
			t.Fatal(err)
		}
		worst := 0.0
		for i, want := range read(c.file) {
			worst = max(worst, math.Abs(float64(g.Data[i]-want))/math.Max(1, math.Abs(float64(want))))
		}
		t.Logf("%s: %s; off by %.2g", c.file, note, worst)
		if !(worst < 2e-7) {
			t.Errorf("%s is off by %v", c.file, worst)
		}
	}
}

func BenchmarkNormalise(b *testing.B) {
	g := signal(256, 256, 100)
	image := slices.Clone(g.Data)
	for _, method := range []string{"zscore", "range"} {
		b.Run(method, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(4 * len(image)))
			for b.Loop() {
				copy(g.Data, image)
				if _, err := (features.Normalise{Method: method}).Apply(context.Background(), g, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
