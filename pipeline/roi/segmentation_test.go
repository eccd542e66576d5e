package roi_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
)

// A sheet is one frame of a Segmentation: the stored values of a plane.
type sheet struct {
	segment int
	at      [3]float64
	samples []int
}

// A stack is what the Segmentations of these tests are made of.
type stack struct {
	kind          string
	rows, columns int
	bits          int
	stored        int // of the bits, where not all are
	axes          [2][3]float64
	spacing       [2]float64 // along a row, down a column
	thickness     float64    // 0 = not said
	between       float64
	numbers       []int // of segments
	sheets        []sheet
	change        func(d *dicom.DataSet)
}

func (s stack) dataSet() *dicom.DataSet {
	return item(func(d *dicom.DataSet) {
		class := dicom.SegmentationStorage
		if s.kind == "LABELMAP" {
			class = dicom.LabelMapSegmentationStorage
		}
		d.SetString(dicom.SOPClassUID, class)
		d.SetString(dicom.SOPInstanceUID, "1.9")
		d.SetString(dicom.StudyInstanceUID, "1.1")
		d.SetString(dicom.FrameOfReferenceUID, "1.4")
		d.SetString(dicom.SegmentationType, s.kind)
		if s.kind == "FRACTIONAL" {
			d.SetString(dicom.SegmentationFractionalType, "OCCUPANCY")
			d.SetInt(dicom.MaximumFractionalValue, 200)
		}
		d.SetInt(dicom.SamplesPerPixel, 1)
		d.SetString(dicom.PhotometricInterpretation, "MONOCHROME2")
		d.SetInt(dicom.Rows, s.rows)
		d.SetInt(dicom.Columns, s.columns)
		d.SetInt(dicom.BitsAllocated, s.bits)
		stored := s.bits
		if s.stored > 0 {
			stored = s.stored
		}
		d.SetInt(dicom.BitsStored, stored)
		d.SetInt(dicom.HighBit, stored-1)
		d.SetInt(dicom.PixelRepresentation, 0)
		d.SetInt(dicom.NumberOfFrames, len(s.sheets))
		var described []*dicom.DataSet
		for _, n := range s.numbers {
			described = append(described, item(func(d *dicom.DataSet) {
				d.SetInt(dicom.SegmentNumber, n)
				d.SetString(dicom.SegmentLabel, fmt.Sprint("S", n))
			}))
		}
		d.SetSeq(dicom.SegmentSequence, described...)
		d.SetSeq(dicom.SharedFunctionalGroupsSequence, item(func(d *dicom.DataSet) {
			d.SetSeq(dicom.PlaneOrientationSequence, item(func(d *dicom.DataSet) {
				d.SetFloat(dicom.ImageOrientationPatient, slices.Concat(s.axes[0][:], s.axes[1][:])...)
			}))
			d.SetSeq(dicom.PixelMeasuresSequence, item(func(d *dicom.DataSet) {
				d.SetFloat(dicom.PixelSpacing, s.spacing[1], s.spacing[0])
				if s.thickness > 0 {
					d.SetFloat(dicom.SliceThickness, s.thickness)
				}
				if s.between > 0 {
					d.SetFloat(dicom.SpacingBetweenSlices, s.between)
				}
			}))
		}))
		var groups []*dicom.DataSet
		var samples []int
		for n, f := range s.sheets {
			groups = append(groups, item(func(d *dicom.DataSet) {
				d.SetSeq(dicom.PlanePositionSequence, item(func(d *dicom.DataSet) { d.SetFloat(dicom.ImagePositionPatient, f.at[:]...) }))
				if s.kind != "LABELMAP" {
					d.SetSeq(dicom.SegmentIdentificationSequence, item(func(d *dicom.DataSet) { d.SetInt(dicom.ReferencedSegmentNumber, f.segment) }))
				}
				d.SetSeq(dicom.DerivationImageSequence, item(func(d *dicom.DataSet) {
					d.SetSeq(dicom.SourceImageSequence, instance(dicom.CTImageStorage, fmt.Sprintf("1.2.%d", n+1)))
				}))
			}))
			samples = append(samples, f.samples...)
		}
		d.SetSeq(dicom.PerFrameFunctionalGroupsSequence, groups...)
		pixels := make([]byte, (len(samples)*s.bits+15)/16*2)
		for n, v := range samples {
			for b := range s.bits {
				pixels[(n*s.bits+b)/8] |= byte(v>>b&1) << ((n*s.bits + b) % 8)
			}
		}
		d.SetBytes(dicom.PixelData, dicom.OW, pixels)
		if s.change != nil {
			s.change(d)
		}
	})
}

func open(t testing.TB, b []byte) *dicom.File {
	t.Helper()
	f, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (s stack) regions(t testing.TB) []roi.Region {
	t.Helper()
	regions, err := roi.Regions(open(t, part10(t, s.dataSet())))
	if err != nil {
		t.Fatal(err)
	}
	return regions
}

// upright is a stack whose frames are the slices of a grid.
func upright(g voxel.Geometry, kind string, bits int, numbers ...int) stack {
	return stack{
		kind: kind, bits: bits, columns: g.Size[0], rows: g.Size[1], axes: [2][3]float64{g.Axes[0], g.Axes[1]},
		spacing: [2]float64{g.Spacing[0], g.Spacing[1]}, between: g.Spacing[2], numbers: numbers,
	}
}

// facing is a stack whose rows run along axis p[0] of a grid, whose columns run down axis p[1] and whose frames follow each
// other along p[2]; flip says which of them run backwards. value is the sample of a voxel in a segment.
func facing(g voxel.Geometry, p [3]int, flip [3]bool, kind string, bits int, numbers []int, value func(segment int, at [3]int) int) stack {
	s := stack{kind: kind, bits: bits, columns: g.Size[p[0]], rows: g.Size[p[1]], spacing: [2]float64{g.Spacing[p[0]], g.Spacing[p[1]]}, between: g.Spacing[p[2]], numbers: numbers}
	place := func(x [3]int) (at [3]int) {
		for n, a := range p {
			if at[a] = x[n]; flip[n] {
				at[a] = g.Size[a] - 1 - x[n]
			}
		}
		return at
	}
	for n := range 2 {
		for c := range 3 {
			s.axes[n][c] = g.Axes[p[n]][c]
			if flip[n] {
				s.axes[n][c] = -s.axes[n][c]
			}
		}
	}
	of := numbers
	if kind == "LABELMAP" {
		of = []int{0}
	}
	for _, number := range of {
		for k := range g.Size[p[2]] {
			first := place([3]int{0, 0, k})
			f := sheet{segment: number, at: g.Point(float64(first[0]), float64(first[1]), float64(first[2]))}
			for y := range s.rows {
				for x := range s.columns {
					f.samples = append(f.samples, value(number, place([3]int{x, y, k})))
				}
			}
			s.sheets = append(s.sheets, f)
		}
	}
	return s
}

func index(g voxel.Geometry, at [3]int) int { return (at[2]*g.Size[1]+at[1])*g.Size[0] + at[0] }

// contained fails where a voxel of the region lies outside of its bounds.
func contained(t interface{ Fatalf(string, ...any) }, r roi.Region, m *voxel.Mask) {
	b, real := roi.Bounds(r, m.Geometry), m.Bounds()
	if real.Grow([3]int{}, b) != real || b.Grow([3]int{}, m.Geometry.Box()) != b {
		t.Fatalf("voxels in %v, bounds %v", real, b)
	}
}

// TestAnyLattice writes random masks as frames in any order and in any of the 48 directions that share the voxels, without
// the empty ones, of every kind and of any size, and reads them back on a grid at right angles to nothing.
func TestAnyLattice(t *testing.T) {
	permutations := [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	rapid.Check(t, func(rt *rapid.T) {
		g := askew(rapid.IntRange(1, 9).Draw(rt, "x"), rapid.IntRange(1, 9).Draw(rt, "y"), rapid.IntRange(1, 5).Draw(rt, "z"))
		numbers := []int{1, 2, 3}[:rapid.IntRange(1, 3).Draw(rt, "segments")]
		kind := rapid.SampledFrom([]string{"BINARY", "FRACTIONAL", "LABELMAP"}).Draw(rt, "kind")
		bits := map[string]int{"BINARY": 1, "FRACTIONAL": 8, "LABELMAP": rapid.SampledFrom([]int{8, 16}).Draw(rt, "bits")}[kind]
		if bits == 16 {
			numbers = slices.Clone(numbers)
			numbers[0] = 300
		}
		want := map[int][]uint8{}
		stored := map[int][]int{} // by segment; of a label map by 0
		for _, n := range numbers {
			want[n] = make([]uint8, g.Len())
			stored[n] = make([]int, g.Len())
		}
		stored[0] = make([]int, g.Len())
		for i := range g.Len() {
			for _, n := range numbers {
				switch kind {
				case "BINARY":
					stored[n][i] = rapid.IntRange(0, 1).Draw(rt, "v")
					want[n][i] = uint8(stored[n][i])
				case "FRACTIONAL":
					stored[n][i] = rapid.SampledFrom([]int{0, 0, 1, 59, 60, 61, 200}).Draw(rt, "v")
					if float64(stored[n][i])/200 >= 0.3 {
						want[n][i] = 1
					}
				}
			}
			if kind == "LABELMAP" {
				n := rapid.SampledFrom(append([]int{0, 7}, numbers...)).Draw(rt, "v") // 7 is no segment
				if stored[0][i] = n; want[n] != nil {
					want[n][i] = 1
				}
			}
		}
		p := rapid.SampledFrom(permutations).Draw(rt, "axes")
		flip := [3]bool{rapid.Bool().Draw(rt, "fx"), rapid.Bool().Draw(rt, "fy"), rapid.Bool().Draw(rt, "fz")}
		s := facing(g, p, flip, kind, bits, numbers, func(segment int, at [3]int) int { return stored[segment][index(g, at)] })
		if kind != "BINARY" && rapid.Bool().Draw(rt, "not all bits") { // which package pixel reads
			s.bits, s.stored = 16, 12
		}
		if rapid.Bool().Draw(rt, "drop") {
			s.sheets = slices.DeleteFunc(s.sheets, func(f sheet) bool { return slices.Max(f.samples) == 0 })
		}
		if len(s.sheets) == 0 {
			return
		}
		if rapid.Bool().Draw(rt, "thickness only") {
			s.thickness, s.between = s.between, 0
		}
		order := rapid.Permutation(s.sheets).Draw(rt, "order")
		s.sheets = order
		for n, r := range s.regions(t) {
			m, notes, err := wholeMask(t.Context(), r, g, voxel.Rule{Fraction: 0.3})
			var refused *refusal.Refusal
			switch {
			case slices.Max(want[numbers[n]]) == 0:
				if !errors.As(err, &refused) || refused.Code != refusal.SegmentEmpty && refused.Code != refusal.SegmentAbsent {
					rt.Fatalf("segment %d has no voxel, error is %v", numbers[n], err)
				}
				continue
			case err != nil:
				rt.Fatal(err)
			case !slices.Equal(m.Data, want[numbers[n]]):
				rt.Fatalf("%s segment %d along %v %v comes back as other voxels", kind, numbers[n], p, flip)
			case kind != "FRACTIONAL" && len(notes) > 0:
				rt.Fatalf("notes %q", notes)
			}
			contained(rt, r, m)
			if b := roi.Bounds(r, g); kind != "FRACTIONAL" && b != m.Bounds() {
				rt.Fatalf("bounds %v of voxels in %v", b, m.Bounds())
			}
		}
	})
}

// plainly puts a segment on a grid by the words of [roi.SegmentRule]: every voxel asks every frame. Slabs are given.
func plainly(s stack, segment int, g voxel.Geometry, slab float64) []uint8 {
	normal := [3]float64{
		s.axes[0][1]*s.axes[1][2] - s.axes[0][2]*s.axes[1][1], s.axes[0][2]*s.axes[1][0] - s.axes[0][0]*s.axes[1][2], s.axes[0][0]*s.axes[1][1] - s.axes[0][1]*s.axes[1][0],
	}
	along := func(p, q, d [3]float64) (sum float64) {
		for c := range 3 {
			sum += (p[c] - q[c]) * d[c]
		}
		return sum
	}
	out := make([]uint8, g.Len())
	for i := range out {
		p := g.Point(float64(i%g.Size[0]), float64(i/g.Size[0]%g.Size[1]), float64(i/g.Size[0]/g.Size[1]))
		// The nearest plane of any segment; of two, the one that is further along the normal.
		nearest := math.Inf(1)
		for _, f := range s.sheets {
			if h := along(p, f.at, normal); math.Abs(h) < math.Abs(nearest)-1e-9 || math.Abs(math.Abs(h)-math.Abs(nearest)) <= 1e-9 && h < nearest {
				nearest = h
			}
		}
		if nearest < -slab/2-1e-7 || nearest >= slab/2-1e-7 {
			continue
		}
		for _, f := range s.sheets {
			if f.segment != segment || math.Abs(along(p, f.at, normal)-nearest) > 1e-9 {
				continue
			}
			x := int(math.Floor(along(p, f.at, s.axes[0])/s.spacing[0] + 0.5 + 1e-7))
			y := int(math.Floor(along(p, f.at, s.axes[1])/s.spacing[1] + 0.5 + 1e-7))
			if x >= 0 && x < s.columns && y >= 0 && y < s.rows && f.samples[y*s.columns+x] != 0 {
				out[i] = 1
			}
		}
	}
	return out
}

// TestAnotherGrid puts random stacks on grids of another spacing and orientation, and compares with the plain formula; borders
// of voxels on centres of others included.
func TestAnotherGrid(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	filled := 0
	for n := range 300 {
		own := askew(4+r.IntN(6), 3+r.IntN(6), 3+r.IntN(5))
		if n%2 == 0 {
			own = unit(4+r.IntN(6), 3+r.IntN(6), 3+r.IntN(5))
			own.Origin = [3]float64{float64(r.IntN(3)), float64(r.IntN(3)) / 2, float64(r.IntN(4)) / 4}
		}
		g := unit(12, 11, 9)
		g.Spacing = [3]float64{0.5 * float64(1+r.IntN(3)), 0.5 * float64(1+r.IntN(4)), 0.5 * float64(1+r.IntN(5))}
		if n%4 == 1 || n%4 == 2 {
			g = askew(14, 12, 10)
			g.Spacing = [3]float64{1.9, 0.55, 1.35}
		}
		g.Origin = own.Point(-1, -1.5, -1)
		if n%4 == 2 {
			g.Origin = [3]float64{2, -3, -4}
		}
		s := facing(own, [3]int{0, 1, 2}, [3]bool{n%3 == 0, n%5 == 0, n%7 == 0}, "BINARY", 1, []int{1, 2}, func(int, [3]int) int { return r.IntN(2) })
		slab := own.Spacing[2]
		switch n % 3 {
		case 1: // planes are missing
			s.sheets = slices.DeleteFunc(s.sheets, func(sheet) bool { return r.IntN(3) == 0 })
		case 2: // nothing is said: the smallest distance counts, and is that of the first two
			s.between, s.thickness = 0, slab
			if own.Size[2] > 3 {
				s.sheets = slices.DeleteFunc(s.sheets, func(f sheet) bool { return math.Abs(own.Index(f.at)[2]-2) < 0.1 })
			}
		}
		r.Shuffle(len(s.sheets), func(a, b int) { s.sheets[a], s.sheets[b] = s.sheets[b], s.sheets[a] })
		if len(s.sheets) == 0 {
			continue
		}
		for _, region := range s.regions(t) {
			want := plainly(s, region.Number, g, slab)
			m, notes, err := wholeMask(t.Context(), region, g, voxel.Rule{})
			var refused *refusal.Refusal
			if errors.As(err, &refused) && slices.Max(want) == 0 {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			filled++
			if !slices.Equal(m.Data, want) {
				t.Fatalf("%d: segment %d: %d voxels, plainly %d", n, region.Number, m.Count(), (&voxel.Mask{Data: want}).Count())
			}
			if !slices.ContainsFunc(notes, func(s string) bool { return strings.Contains(s, "resampled from a grid of") }) {
				t.Fatalf("%d: notes are %q", n, notes)
			}
			contained(t, region, m)
		}
	}
	if filled < 300 {
		t.Errorf("only %d segments with voxels", filled)
	}
}

// TestSlabs draws how far planes reach: a column of voxels of 1 mm, planes of another distance.
func TestSlabs(t *testing.T) {
	g := unit(1, 1, 24)
	for name, c := range map[string]struct {
		between, thickness float64
		heights            []float64
		grid               float64 // mm between the voxels of the images
		want               string
	}{
		"twice as far apart":         {2, 0, []float64{4.5, 6.5, 8.5}, 1, "....######.............."},
		"one is missing":             {2, 0, []float64{4.5, 8.5}, 1, "....##..##.............."},
		"said by nothing":            {0, 0, []float64{4.5, 8.5}, 1, "...########............."},
		"by thickness":               {0, 3, []float64{4, 7, 10}, 1, "...#########............"},
		"a gap between":              {0, 3, []float64{4.5, 8.5, 12.5}, 1, "...############........."},
		"thin and far apart":         {0, 1.2, []float64{4.3, 9.3}, 1, "....#....#.............."},
		"hardly unequal":             {0, 3, []float64{4.3, 7.3, 11.7}, 1, "...###########.........."},
		"unequal":                    {0, 3, []float64{4, 7, 13}, 1, "...######...###........."},
		"closer than said":           {5, 5, []float64{4, 7, 10}, 1, "...#########............"},
		"on the slices":              {1, 0, []float64{4, 6, 10}, 1, "....#.#...#............."},
		"on the slices, thick":       {0, 3, []float64{4, 5, 10}, 1, "....##....#............."},
		"one plane, thick":           {0, 5, []float64{4}, 1, "....#..................."},
		"half way between, both out": {1, 0, []float64{4.5}, 1, "....#..................."},
		"every second image":         {1, 0, []float64{4, 5, 6, 7, 8, 9}, 2, "..###..................."},
	} {
		t.Run(name, func(t *testing.T) {
			g.Spacing[2] = c.grid
			s := upright(g, "BINARY", 1, 1)
			s.between, s.thickness = c.between, c.thickness
			for _, h := range c.heights {
				s.sheets = append(s.sheets, sheet{1, [3]float64{0, 0, h}, []int{1}})
			}
			region := s.regions(t)[0]
			m, _ := rasterise(t, region, g)
			contained(t, region, m)
			if got := strings.ReplaceAll(picture(&voxel.Mask{Geometry: unit(24, 1, 1), Data: m.Data}, 0), "\n", ""); got != c.want {
				t.Errorf("%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestTolerances puts frames a little off the voxels: what is copied, and what counts as another grid.
func TestTolerances(t *testing.T) {
	g := unit(3, 3, 6)
	turn := math.Pi / 180 / 60 // a minute of arc: 0.0006 of a voxel at the end of a row of three
	for name, c := range map[string]struct {
		change func(s *stack, f *sheet)
		copied bool
	}{
		"moved in the plane":        {func(s *stack, f *sheet) { f.at[0] += 0.0009 }, true},
		"moved more":                {func(s *stack, f *sheet) { f.at[1] += 0.0011 }, false},
		"moved between slices":      {func(s *stack, f *sheet) { f.at[2] += 0.09 }, true},
		"moved more between slices": {func(s *stack, f *sheet) { f.at[2] += 0.11 }, false},
		"wider":                     {func(s *stack, f *sheet) { s.spacing[0] *= 1.00009 }, true},
		"wider still":               {func(s *stack, f *sheet) { s.spacing[0] *= 1.00011 }, false},
		"thicker":                   {func(s *stack, f *sheet) { s.between = 1.009 }, true},
		"thicker still":             {func(s *stack, f *sheet) { s.between = 1.011 }, false},
		"turned": {func(s *stack, f *sheet) {
			s.axes = [2][3]float64{{math.Cos(turn), math.Sin(turn), 0}, {-math.Sin(turn), math.Cos(turn), 0}}
		}, true},
		"turned more": {func(s *stack, f *sheet) {
			s.axes = [2][3]float64{{math.Cos(2 * turn), math.Sin(2 * turn), 0}, {-math.Sin(2 * turn), math.Cos(2 * turn), 0}}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := upright(g, "BINARY", 1, 1)
			s.sheets = []sheet{{1, [3]float64{0, 0, 2}, []int{1, 0, 1, 0, 0, 1, 1, 1, 1}}}
			c.change(&s, &s.sheets[0])
			m, notes := rasterise(t, s.regions(t)[0], g)
			if got := picture(m, 2); got != "#.#\n..#\n###\n" || m.Count() != 6 || (len(notes) == 0) != c.copied {
				t.Errorf("%snotes %q", got, notes)
			}
		})
	}
}

// TestNotes says what a reader of the result has to know.
func TestNotes(t *testing.T) {
	g := unit(4, 3, 5)
	full := slices.Repeat([]int{1}, 12)
	for name, c := range map[string]struct {
		kind   string
		sheets []sheet
		change func(s *stack)
		want   []string
		count  int
	}{
		"outside": {"BINARY", []sheet{{1, [3]float64{0, 0, 4}, full}, {1, [3]float64{0, 0, 5}, full}}, nil,
			[]string{"1 of 2 frames with voxels lie outside the images and are left out"}, 12},
		"over the edge": {"BINARY", []sheet{{1, [3]float64{2, -1, 4}, full}}, nil,
			[]string{"1 of 1 frames with voxels reach beyond the edge of the images and are cut there"}, 4},
		"twins": {"BINARY", []sheet{{1, [3]float64{0, 0, 1}, full}, {1, [3]float64{0, 0, 1}, full}}, nil, nil, 12},
		"rivals": {"BINARY", []sheet{{1, [3]float64{0, 0, 1}, append([]int{0}, full[1:]...)}, {1, [3]float64{0, 0, 1}, append(slices.Clone(full[1:]), 0)}}, nil,
			[]string{"1 of 2 frames with voxels show other voxels than another frame of the same segment in the same place: what either shows belongs"}, 12},
		"rivals, one empty": {"BINARY", []sheet{{1, [3]float64{0, 0, 1}, full}, {1, [3]float64{0, 0, 1}, slices.Repeat([]int{0}, 12)}}, nil,
			[]string{"1 of 1 frames with voxels show other voxels than another frame of the same segment in the same place: what either shows belongs"}, 12},
		"adrift": {"BINARY", []sheet{{1, [3]float64{0, 0, 1}, full}, {5, [3]float64{0, 0, 1}, full}}, nil,
			[]string{"1 frames of the segmentation belong to a segment that SegmentSequence (0062,0002) does not have, and are left out"}, 12},
		"fractions": {"FRACTIONAL", []sheet{{1, [3]float64{0, 0, 1}, []int{0, 0, 0, 0, 99, 100, 101, 200, 200, 201, 255, 1}}}, nil,
			[]string{"fractional segmentation (occupancy): voxels of at least 0.5 belong, which are values from 100 of 200",
				"1 of 1 frames with voxels have values above MaximumFractionalValue (0062,000E), which are taken for all of a voxel"}, 6},
		"bytes": {"BINARY", []sheet{{1, [3]float64{0, 0, 1}, append([]int{255, 0}, full[2:]...)}}, func(s *stack) { s.bits = 8 },
			[]string{"BitsAllocated (0028,0100) of a BINARY segmentation is 8 and not 1: every value but 0 counts"}, 11},
		"another grid": {"BINARY", []sheet{{1, [3]float64{0, 0, 1}, full}}, func(s *stack) { s.spacing = [2]float64{0.5, 1} },
			[]string{"resampled from a grid of 0.5 x 1 x 1 mm to that of the images, 1 x 1 x 1 mm: a voxel belongs if its centre lies in a voxel of the segmentation that does"}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			s := upright(g, c.kind, map[string]int{"BINARY": 1, "FRACTIONAL": 8}[c.kind], 1)
			s.sheets = c.sheets
			if c.change != nil {
				c.change(&s)
			}
			m, notes := rasterise(t, s.regions(t)[0], g)
			if !slices.Equal(notes, c.want) || m.Count() != c.count {
				t.Errorf("%d voxels, notes %q; want %d, %q", m.Count(), notes, c.count, c.want)
			}
		})
	}
}

// TestSegmentRefusals breaks a Segmentation in every way of the list, once each.
func TestSegmentRefusals(t *testing.T) {
	g := unit(4, 3, 5)
	seen := map[refusal.Code]bool{}
	fractions := func(d *dicom.DataSet, v byte) {
		d.SetString(dicom.SegmentationType, "FRACTIONAL")
		d.SetInt(dicom.MaximumFractionalValue, 600) // more than a byte holds
		d.SetInt(dicom.BitsAllocated, 8)
		d.SetInt(dicom.BitsStored, 8)
		d.SetInt(dicom.HighBit, 7)
		d.SetBytes(dicom.PixelData, dicom.OW, bytes.Repeat([]byte{v}, 24))
	}
	for name, c := range map[string]struct {
		code   refusal.Code
		says   string // the element
		change func(s *stack, d *dicom.DataSet)
	}{
		"no segments":              {refusal.SegmentationNone, "(0062,0002)", func(s *stack, d *dicom.DataSet) { d.Remove(dicom.SegmentSequence) }},
		"surfaces":                 {refusal.SegmentationType, "(0062,0001)", func(s *stack, d *dicom.DataSet) { d.SetString(dicom.SegmentationType, "MESH") }},
		"no type":                  {refusal.SegmentationType, "(0062,0001)", func(s *stack, d *dicom.DataSet) { d.Remove(dicom.SegmentationType) }},
		"no scale":                 {refusal.SegmentationFraction, "(0062,000E)", func(s *stack, d *dicom.DataSet) { d.SetString(dicom.SegmentationType, "FRACTIONAL") }},
		"frames without groups":    {refusal.SegmentationFrames, "(5200,9230)", func(s *stack, d *dicom.DataSet) { d.Remove(dicom.PerFrameFunctionalGroupsSequence) }},
		"no rows":                  {refusal.SegmentationFrames, "(0028,0010)", func(s *stack, d *dicom.DataSet) { d.Remove(dicom.Rows) }},
		"more rows than there are": {refusal.SegmentationFrames, "(0028,0010)", func(s *stack, d *dicom.DataSet) { d.SetInt(dicom.Rows, 65535); d.SetInt(dicom.Columns, 65535) }},
		"frame of no segment": {refusal.SegmentationFrames, "(0062,000B)", func(s *stack, d *dicom.DataSet) {
			d.Seq(dicom.PerFrameFunctionalGroupsSequence)[1].Remove(dicom.SegmentIdentificationSequence)
		}},
		"no position anywhere": {refusal.SegmentationGeometry, "(0020,9113)", func(s *stack, d *dicom.DataSet) {
			for _, f := range d.Seq(dicom.PerFrameFunctionalGroupsSequence) {
				f.Remove(dicom.PlanePositionSequence)
			}
		}},
		"one frame without position": {refusal.SegmentationGeometry, "(0020,9113)", func(s *stack, d *dicom.DataSet) {
			d.Seq(dicom.PerFrameFunctionalGroupsSequence)[0].Remove(dicom.PlanePositionSequence)
		}},
		"no orientation": {refusal.SegmentationGeometry, "(0020,9116)", func(s *stack, d *dicom.DataSet) {
			d.Seq(dicom.SharedFunctionalGroupsSequence)[0].Remove(dicom.PlaneOrientationSequence)
		}},
		"no spacing": {refusal.SegmentationGeometry, "(0028,9110)", func(s *stack, d *dicom.DataSet) {
			d.Seq(dicom.SharedFunctionalGroupsSequence)[0].Remove(dicom.PixelMeasuresSequence)
		}},
		"spacing of nothing": {refusal.SegmentationGeometry, "(0028,0030)", func(s *stack, d *dicom.DataSet) {
			d.Seq(dicom.SharedFunctionalGroupsSequence)[0].Seq(dicom.PixelMeasuresSequence)[0].SetFloat(dicom.PixelSpacing, 0, 1)
		}},
		"sheared": {refusal.SegmentationGeometry, "(0020,0037)", func(s *stack, d *dicom.DataSet) {
			d.Seq(dicom.SharedFunctionalGroupsSequence)[0].Seq(dicom.PlaneOrientationSequence)[0].SetFloat(dicom.ImageOrientationPatient, 1, 0, 0, 0.6, 0.8, 0)
		}},
		"one plane on another grid": {refusal.SegmentationGeometry, "(0018,0050)", func(s *stack, d *dicom.DataSet) {
			d.Seq(dicom.SharedFunctionalGroupsSequence)[0].Seq(dicom.PixelMeasuresSequence)[0].Remove(dicom.SpacingBetweenSlices)
			d.Seq(dicom.SharedFunctionalGroupsSequence)[0].Seq(dicom.PixelMeasuresSequence)[0].SetFloat(dicom.PixelSpacing, 1, 1.5)
			for _, f := range d.Seq(dicom.PerFrameFunctionalGroupsSequence) {
				f.Seq(dicom.PlanePositionSequence)[0].SetFloat(dicom.ImagePositionPatient, 0, 0, 2)
			}
		}},
		"no pixels":       {refusal.SegmentationPixels, "(7FE0,0010)", func(s *stack, d *dicom.DataSet) { d.Remove(dicom.PixelData) }},
		"short pixels":    {refusal.SegmentationPixels, "(7FE0,0010) has 2 bytes, and 2 frames of 4 x 3 pixels of 1 bits need more", func(s *stack, d *dicom.DataSet) { d.SetBytes(dicom.PixelData, dicom.OW, []byte{1, 2}) }},
		"too many pixels": {refusal.SegmentationPixels, "(7FE0,0010)", func(s *stack, d *dicom.DataSet) { d.SetBytes(dicom.PixelData, dicom.OW, make([]byte, 8)) }},
		"no number":       {refusal.SegmentNumber, "(0062,0004)", func(s *stack, d *dicom.DataSet) { d.Seq(dicom.SegmentSequence)[0].Remove(dicom.SegmentNumber) }},
		"number 0": {refusal.SegmentNumber, "(0062,0004)", func(s *stack, d *dicom.DataSet) {
			d.Seq(dicom.SegmentSequence)[0].SetInt(dicom.SegmentNumber, 0)
		}},
		"one number twice": {refusal.SegmentNumber, "(0062,0004)", func(s *stack, d *dicom.DataSet) {
			d.Seq(dicom.SegmentSequence)[1].SetInt(dicom.SegmentNumber, 1)
		}},
		"no frame": {refusal.SegmentAbsent, "(0062,000B)", func(s *stack, d *dicom.DataSet) {
			for _, f := range d.Seq(dicom.PerFrameFunctionalGroupsSequence) {
				f.Seq(dicom.SegmentIdentificationSequence)[0].SetInt(dicom.ReferencedSegmentNumber, 2)
			}
		}},
		"elsewhere": {refusal.SegmentOutside, "(0020,0032)", func(s *stack, d *dicom.DataSet) {
			for _, f := range d.Seq(dicom.PerFrameFunctionalGroupsSequence) {
				f.Seq(dicom.PlanePositionSequence)[0].SetFloat(dicom.ImagePositionPatient, 0, 0, -50)
			}
		}},
		"nothing there": {refusal.SegmentEmpty, "(7FE0,0010)", func(s *stack, d *dicom.DataSet) { d.SetBytes(dicom.PixelData, dicom.OW, make([]byte, 4)) }},
		"below the threshold": {refusal.SegmentEmpty, "values from 300 of 600", func(s *stack, d *dicom.DataSet) {
			fractions(d, 255)
		}},
		"nothing there, twice": {refusal.SegmentEmpty, "(7FE0,0010)", func(s *stack, d *dicom.DataSet) {
			fractions(d, 0)
			for _, f := range d.Seq(dicom.PerFrameFunctionalGroupsSequence) {
				f.Seq(dicom.PlanePositionSequence)[0].SetFloat(dicom.ImagePositionPatient, 0, 0, 1)
				f.Seq(dicom.SegmentIdentificationSequence)[0].SetInt(dicom.ReferencedSegmentNumber, 1)
			}
		}},
		"no reference": {refusal.SegmentationReference, "(0008,1115)", func(s *stack, d *dicom.DataSet) {
			d.Remove(dicom.FrameOfReferenceUID)
			for _, f := range d.Seq(dicom.PerFrameFunctionalGroupsSequence) {
				f.Remove(dicom.DerivationImageSequence)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := upright(g, "BINARY", 1, 1, 2)
			full := slices.Repeat([]int{1}, 12)
			s.sheets = []sheet{{1, [3]float64{0, 0, 1}, full}, {2, [3]float64{0, 0, 2}, full}}
			d := s.dataSet()
			c.change(&s, d)
			f := open(t, part10(t, d))
			_, err := roi.References(f.DataSet)
			if err == nil {
				var regions []roi.Region
				if regions, err = roi.Regions(f); err == nil {
					if b := roi.Bounds(regions[0], g); regions[0].Refusal != nil && !b.Empty() {
						t.Errorf("bounds %v of a segment that is refused", b)
					}
					_, _, err = wholeMask(t.Context(), regions[0], g, voxel.Rule{})
				}
			}
			var r *refusal.Refusal
			if !errors.As(err, &r) || r.Code != c.code || !strings.Contains(r.Text, c.says) || r.Advice() == "" {
				t.Fatalf("error is %v, want %s with %s", err, c.code, c.says)
			}
			seen[c.code] = true
		})
	}
	for _, r := range refusal.Reasons {
		if area, _, _ := strings.Cut(string(r.Code), "."); strings.HasPrefix(area, "segment") && !seen[r.Code] && r.Code != refusal.SegmentationEmpty && r.Code != refusal.SegmentationInput {
			t.Errorf("nothing is refused by %s", r.Code)
		}
	}
}

// TestSegments reads what a Segmentation says of its segments.
func TestSegments(t *testing.T) {
	s := upright(unit(2, 2, 2), "BINARY", 1, 2, 1)
	ones := []int{1, 1, 1, 1}
	s.sheets = []sheet{{1, [3]float64{0, 0, 1}, ones}, {2, [3]float64{0, 0, 1}, ones}, {1, [3]float64{}, ones}}
	code := func(value, meaning string) *dicom.DataSet {
		return item(func(d *dicom.DataSet) {
			d.SetString(dicom.CodeValue, value)
			d.SetString(dicom.CodingSchemeDesignator, "SCT")
			d.SetString(dicom.CodeMeaning, meaning)
		})
	}
	d := s.dataSet()
	first := d.Seq(dicom.SegmentSequence)[0]
	first.SetString(dicom.SegmentDescription, "by a network")
	first.SetString(dicom.SegmentAlgorithmType, "AUTOMATIC")
	first.SetString(dicom.SegmentAlgorithmName, "net 3")
	first.SetString(dicom.TrackingID, "kidney 1")
	first.SetString(dicom.TrackingUID, "1.77")
	first.SetSeq(dicom.SegmentedPropertyCategoryCodeSequence, code("91723000", "Anatomical Structure"))
	kind := code("64033007", "Kidney")
	kind.SetSeq(dicom.SegmentedPropertyTypeModifierCodeSequence, code("24028007", "Right"))
	first.SetSeq(dicom.SegmentedPropertyTypeCodeSequence, kind)
	first.SetSeq(dicom.AnatomicRegionSequence, code("113345001", "Abdomen"))
	first.SetInt(dicom.RecommendedDisplayCIELabValue, 35578, 53662, 50857) // sRGB red, see TestWriteSEG
	d.SetSeq(dicom.ReferencedSeriesSequence, item(func(d *dicom.DataSet) {
		d.SetString(dicom.SeriesInstanceUID, "1.2")
		d.SetSeq(dicom.ReferencedInstanceSequence, images("1.2.1")...)
	}))
	regions, err := roi.Regions(open(t, part10(t, d)))
	if err != nil {
		t.Fatal(err)
	}
	r := regions[0]
	want := roi.Region{
		Number: 2, Name: "S2", Description: "by a network", GenerationAlgorithm: "AUTOMATIC", AlgorithmName: "net 3", TrackingID: "kidney 1", TrackingUID: "1.77",
		Category: roi.Code{Value: "91723000", Scheme: "SCT", Meaning: "Anatomical Structure"}, Type: roi.Code{Value: "64033007", Scheme: "SCT", Meaning: "Kidney"},
		TypeModifier: roi.Code{Value: "24028007", Scheme: "SCT", Meaning: "Right"}, Laterality: roi.Code{Value: "24028007", Scheme: "SCT", Meaning: "Right"},
		Site: roi.Code{Value: "113345001", Scheme: "SCT", Meaning: "Abdomen"}, FrameOfReference: "1.4", SeriesUIDs: []string{"1.2"}, Images: []string{"1.2.2"},
		Color: &[3]uint8{255, 0, 0},
	}
	if got, want := fmt.Sprintf("%+v", plain(r)), fmt.Sprintf("%+v", plain(want)); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if other := regions[1]; other.Number != 1 || other.TrackingID != "S1" || other.TrackingUID != dicom.UIDFrom("tracking", "1.9", "1") || other.Kind() != "Segment" || !slices.Equal(other.Images, []string{"1.2.1", "1.2.3"}) {
		t.Errorf("%+v", other)
	}
}

// plain is what a region says, with its colour for the pointer to it.
func plain(r roi.Region) []any {
	return []any{r.Number, r.Name, r.Description, r.GenerationAlgorithm, r.AlgorithmName, r.TrackingID, r.TrackingUID, r.Category, r.Type, r.TypeModifier, r.Site, r.Laterality, r.FrameOfReference, r.SeriesUIDs, r.Images, *r.Color}
}

// TestBackground leaves the background of a label map out: 0, or what Pixel Padding Value says.
func TestBackground(t *testing.T) {
	g := unit(3, 1, 1)
	s := upright(g, "LABELMAP", 8, 0, 1, 9)
	s.sheets = []sheet{{0, [3]float64{}, []int{0, 1, 9}}}
	for padding, want := range map[int][]int{-1: {1, 9}, 9: {0, 1}} {
		s.stored = map[int]int{-1: 0, 9: 7}[padding] // so that package pixel has to read it
		d := s.dataSet()
		if padding >= 0 {
			d.SetInt(dicom.PixelPaddingValue, padding)
		}
		// Labels in colours are the same labels: PS3.3 C.8.20.2.
		d.SetString(dicom.PhotometricInterpretation, "PALETTE COLOR")
		regions, err := roi.Regions(open(t, part10(t, d)))
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, r := range regions {
			m, _ := rasterise(t, r, g)
			if got = append(got, r.Number); m.Count() != 1 || m.Data[map[int]int{0: 0, 1: 1, 9: 2}[r.Number]] != 1 {
				t.Errorf("label %d is %v", r.Number, m.Data)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("regions %v with the padding value %d, want %v", got, padding, want)
		}
	}
}

func TestSegmentationReferences(t *testing.T) {
	listing := func(uid string, items ...*dicom.DataSet) *dicom.DataSet {
		return item(func(d *dicom.DataSet) {
			d.SetString(dicom.SeriesInstanceUID, uid)
			d.SetSeq(dicom.ReferencedInstanceSequence, items...)
		})
	}
	bare := func(d *dicom.DataSet) {
		for _, f := range d.Seq(dicom.PerFrameFunctionalGroupsSequence) {
			f.Remove(dicom.DerivationImageSequence)
		}
	}
	frames := func(d *dicom.DataSet, uid string, numbers ...int) {
		for i, f := range d.Seq(dicom.PerFrameFunctionalGroupsSequence) {
			source := instance(dicom.EnhancedCTImageStorage, uid)
			source.SetInt(dicom.ReferencedFrameNumber, numbers[i])
			f.Seq(dicom.DerivationImageSequence)[0].SetSeq(dicom.SourceImageSequence, source)
		}
	}
	for name, c := range map[string]struct {
		change func(d *dicom.DataSet)
		want   []roi.Reference
	}{
		"a list that goes beyond the frames, and where it came from": {func(d *dicom.DataSet) {
			d.SetSeq(dicom.ReferencedSeriesSequence, listing("1.2", images("1.2.1", "1.2.2", "1.2.3")...), listing("1.8", instance(dicom.RTStructureSetStorage, "1.8.1")))
		}, []roi.Reference{{StudyUID: "1.1", SeriesUID: "1.2", FrameOfReference: "1.4", Instances: []string{"1.2.1", "1.2.2", "1.2.3"}, Named: []string{"1.2.1", "1.2.2", "1.2.3"}, Contoured: []string{"1.2.1", "1.2.2"}, Listed: true}}},
		"a list of the frames": {func(d *dicom.DataSet) {
			d.SetSeq(dicom.ReferencedSeriesSequence, listing("1.2", images("1.2.1", "1.2.2")...))
		}, []roi.Reference{{StudyUID: "1.1", SeriesUID: "1.2", FrameOfReference: "1.4", Instances: []string{"1.2.1", "1.2.2"}, Named: []string{"1.2.1", "1.2.2"}, Contoured: []string{"1.2.1", "1.2.2"}}}},
		"a series without a list": {func(d *dicom.DataSet) {
			d.SetSeq(dicom.ReferencedSeriesSequence, listing("1.2"))
		}, []roi.Reference{{StudyUID: "1.1", SeriesUID: "1.2", FrameOfReference: "1.4", Instances: []string{"1.2.1", "1.2.2"}, Contoured: []string{"1.2.1", "1.2.2"}}}},
		"frames of an image that the series does not list": {func(d *dicom.DataSet) {
			d.SetSeq(dicom.ReferencedSeriesSequence, listing("1.2", images("1.2.1")...))
		}, []roi.Reference{
			{StudyUID: "1.1", SeriesUID: "1.2", FrameOfReference: "1.4", Instances: []string{"1.2.1"}, Named: []string{"1.2.1"}, Contoured: []string{"1.2.1"}},
			{StudyUID: "1.1", FrameOfReference: "1.4", Instances: []string{"1.2.2"}, Contoured: []string{"1.2.2"}},
		}},
		"frames alone": {func(d *dicom.DataSet) {},
			[]roi.Reference{{StudyUID: "1.1", FrameOfReference: "1.4", Instances: []string{"1.2.1", "1.2.2"}, Contoured: []string{"1.2.1", "1.2.2"}}}},
		"for all frames": {func(d *dicom.DataSet) {
			bare(d)
			d.SetSeq(dicom.SourceImageSequence, images("1.2.5")...)
		}, []roi.Reference{{StudyUID: "1.1", FrameOfReference: "1.4", Instances: []string{"1.2.5"}, Contoured: []string{"1.2.5"}}}},
		"another study": {func(d *dicom.DataSet) {
			bare(d)
			d.SetSeq(0x00081200, item(func(d *dicom.DataSet) {
				d.SetString(dicom.StudyInstanceUID, "1.99")
				d.SetSeq(dicom.ReferencedSeriesSequence, listing("1.2", images("1.2.1")...))
			}))
		}, []roi.Reference{{StudyUID: "1.99", SeriesUID: "1.2", FrameOfReference: "1.4", Instances: []string{"1.2.1"}, Named: []string{"1.2.1"}}}},
		"frames of a multi-frame image": {func(d *dicom.DataSet) {
			frames(d, "1.2.9", 7, 3)
			d.SetSeq(dicom.ReferencedSeriesSequence, listing("1.2", instance(dicom.EnhancedCTImageStorage, "1.2.9")))
		}, []roi.Reference{{StudyUID: "1.1", SeriesUID: "1.2", FrameOfReference: "1.4", Instances: []string{"1.2.9"}, Named: []string{"1.2.9"}, Contoured: []string{"1.2.9"}, Frames: []int{3, 7}}}},
		"nothing but a frame of reference": {bare, []roi.Reference{{StudyUID: "1.1", FrameOfReference: "1.4"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := upright(unit(2, 2, 2), "BINARY", 1, 1)
			s.sheets = []sheet{{1, [3]float64{}, []int{1, 1, 1, 1}}, {1, [3]float64{0, 0, 1}, []int{1, 1, 1, 1}}}
			d := s.dataSet()
			c.change(d)
			refs, err := roi.References(d)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := fmt.Sprintf("%+v", refs), fmt.Sprintf("%+v", c.want); got != want {
				t.Errorf("%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestSegmentCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	g := unit(2, 2, 2)
	for kind, bits := range map[string]int{"BINARY": 1, "LABELMAP": 8} {
		s := upright(g, kind, bits, 1)
		s.sheets = []sheet{{1, [3]float64{}, []int{1, 1, 1, 1}}}
		r := s.regions(t)[0]
		if _, _, err := wholeMask(ctx, r, g, voxel.Rule{}); !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
		if m, _ := rasterise(t, r, g); m.Count() != 4 {
			t.Errorf("%d voxels after a try that was cancelled", m.Count())
		}
	}
}

// Samples that package pixel has to read, and too many different ones to keep.
func TestNoise(t *testing.T) {
	g := unit(1500, 1500, 2)
	r := rand.New(rand.NewPCG(7, 8))
	s := upright(g, "FRACTIONAL", 16, 1, 2)
	s.stored = 12
	for k := range 4 {
		f := sheet{segment: 1 + k/2, at: [3]float64{0, 0, float64(k % 2)}}
		for range 1500 * 1500 {
			f.samples = append(f.samples, 1+r.IntN(200))
		}
		s.sheets = append(s.sheets, f)
	}
	for n, region := range s.regions(t) {
		m, _ := rasterise(t, region, g)
		for i, v := range slices.Concat(s.sheets[2*n].samples, s.sheets[2*n+1].samples) {
			if (v >= 100) != (m.Data[i] != 0) {
				t.Fatalf("segment %d: voxel %d of the value %d is %d", region.Number, i, v, m.Data[i])
			}
		}
	}
}

// A frame for each of many places on one plane that reaches through all images would take for ever.
func TestTooManyTimes(t *testing.T) {
	g := unit(20, 20, 20)
	s := upright(g, "BINARY", 1, 1)
	s.between, s.spacing = 1000, [2]float64{1.5, 1.5}
	for n := range 100 {
		s.sheets = append(s.sheets, sheet{1, [3]float64{0, float64(n) / 20, 10}, slices.Repeat([]int{1}, 400)})
	}
	_, _, err := wholeMask(t.Context(), s.regions(t)[0], g, voxel.Rule{})
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Code != refusal.SegmentationFrames || !strings.Contains(r.Text, "more than 64 times") {
		t.Errorf("error is %v", err)
	}
}

// labelVolume reads a label volume as ITK writes it: the NRRD format, 3 axes in LPS, raw or gzip, 16 bits.
func labelVolume(t testing.TB, path string) (voxel.Geometry, []int16) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := bufio.NewReader(f)
	field := map[string]string{}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		line = strings.TrimSpace(line)
		if line == "" {
			break
		}
		if k, v, ok := strings.Cut(line, ":"); ok {
			field[k] = strings.TrimSpace(strings.TrimPrefix(v, "="))
		}
	}
	vector := func(s string) (v [3]float64) {
		for i, x := range strings.Split(strings.Trim(s, "()"), ",") {
			if v[i], err = strconv.ParseFloat(x, 64); err != nil {
				t.Fatal(err)
			}
		}
		return v
	}
	if field["dimension"] != "3" || field["space"] != "left-posterior-superior" || field["endian"] != "little" || field["type"] != "short" && field["type"] != "int16" {
		t.Fatalf("%s: %v", path, field)
	}
	var g voxel.Geometry
	g.Origin = vector(field["space origin"])
	for a, s := range strings.Fields(field["space directions"]) {
		v := vector(s)
		g.Spacing[a] = math.Sqrt(v[0]*v[0] + v[1]*v[1] + v[2]*v[2])
		for c := range 3 {
			g.Axes[a][c] = v[c] / g.Spacing[a]
		}
		g.Size[a], _ = strconv.Atoi(strings.Fields(field["sizes"])[a])
	}
	var body io.Reader = in
	if field["encoding"] == "gzip" {
		if body, err = gzip.NewReader(in); err != nil {
			t.Fatal(err)
		}
	}
	labels := make([]int16, g.Len())
	if err := binary.Read(body, binary.LittleEndian, labels); err != nil {
		t.Fatal(err)
	}
	return g, labels
}

func readRegions(t testing.TB, path string) []roi.Region {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	regions, err := roi.Regions(open(t, b))
	if err != nil {
		t.Fatal(err)
	}
	return regions
}

// labelled fails where the region is not the label of the volume, voxel for voxel.
func labelled(t testing.TB, r roi.Region, g voxel.Geometry, labels []int16, label int16) {
	t.Helper()
	m, notes := rasterise(t, r, g)
	contained(t, r, m)
	differ, count := 0, 0
	for i, v := range labels {
		if v == label {
			count++
		}
		if (v == label) != (m.Data[i] != 0) {
			differ++
		}
	}
	if differ != 0 || count == 0 || len(notes) != 0 {
		t.Errorf("%s: %d voxels differ of %d in the label volume, notes %q", r.Name, differ, count, notes)
	}
}

// TestLabelVolumes reads Segmentations of dcmqi's test data and compares them with the label volumes that they were made
// from.
func TestLabelVolumes(t *testing.T) {
	t.Run("liver", func(t *testing.T) {
		g, labels := labelVolume(t, shared(t, "dcmqi", "liver_seg.nrrd"))
		r := readRegions(t, shared(t, "dcmqi", "liver.dcm"))[0]
		labelled(t, r, g, labels, 1)
	})
	t.Run("not square", func(t *testing.T) {
		g, labels := labelVolume(t, shared(t, "dcmqi", "23x38x3", "nrrd", "label.nrrd"))
		r := readRegions(t, shared(t, "dcmqi", "23x38x3", "seg", "label.seg"))[0]
		labelled(t, r, g, labels, 1)
	})
	t.Run("overlapping", func(t *testing.T) {
		regions := readRegions(t, shared(t, "dcmqi", "partial_overlaps.dcm"))
		n := 0
		for v := range 3 {
			g, labels := labelVolume(t, shared(t, "dcmqi", fmt.Sprintf("partial_overlaps-%d.nrrd", v+1)))
			for _, label := range slices.Compact(slices.Sorted(slices.Values(labels))) {
				if label != 0 { // the label is the segment's number
					labelled(t, regions[label-1], g, labels, label)
					n++
				}
			}
		}
		if n != 5 || len(regions) != 5 {
			t.Errorf("%d labels, %d segments", n, len(regions))
		}
	})
}

// decoded decodes Segmentations with highdicom: a JSON line for each segment of a file, and all their volumes in one file. A
// fraction counts from 0.5 on.
const decoded = `
import sys, json, numpy, highdicom as hd
out = open(sys.argv[1], 'wb')
for path in sys.stdin.read().split():
    seg = hd.seg.segread(path)
    v = seg.get_volume(combine_segments=False, rescale_fractional=True, allow_missing_positions=True)
    a = numpy.asarray(v.array)
    for i, n in enumerate(seg.segment_numbers):
        d = seg.get_segment_description(n)
        out.write(numpy.ascontiguousarray(a[..., i] >= 0.5).astype(numpy.uint8).tobytes())
        print(json.dumps(dict(path=path, number=n, label=d.segment_label, affine=v.affine.tolist(), shape=a.shape[:3])))
`

func python(t testing.TB) string {
	t.Helper()
	python := os.Getenv("RADNODE_PYTHON")
	if python == "" {
		python = "python3"
	}
	need(t, "highdicom for "+python, exec.Command(python, "-c", "import highdicom").Run())
	return python
}

// sameAsHighdicom fails where a segment of a file is not what highdicom decodes, on the grid that highdicom gives it.
func sameAsHighdicom(t *testing.T, paths ...string) {
	t.Helper()
	volumes := filepath.Join(t.TempDir(), "volumes")
	c := exec.Command(python(t), "-W", "ignore", "-c", decoded, volumes)
	c.Stdin = strings.NewReader(strings.Join(paths, "\n"))
	var stderr bytes.Buffer
	c.Stderr = &stderr
	lines, err := c.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	voxels, err := os.ReadFile(volumes)
	if err != nil {
		t.Fatal(err)
	}
	compared := map[string]int{}
	for line := range strings.Lines(string(lines)) {
		var s struct {
			Path, Label string
			Number      int
			Affine      [][]float64
			Shape       []int
		}
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		var g voxel.Geometry
		for a := range 3 { // highdicom counts slices, rows, columns
			n := 2 - a
			v := [3]float64{s.Affine[0][n], s.Affine[1][n], s.Affine[2][n]}
			g.Size[a] = s.Shape[n]
			g.Spacing[a] = math.Sqrt(v[0]*v[0] + v[1]*v[1] + v[2]*v[2])
			for c := range 3 {
				g.Axes[a][c] = v[c] / g.Spacing[a]
				g.Origin[c] = s.Affine[c][3]
			}
		}
		regions := readRegions(t, s.Path)
		k := slices.IndexFunc(regions, func(r roi.Region) bool { return r.Number == s.Number })
		m, notes := rasterise(t, regions[k], g)
		contained(t, regions[k], m)
		if !bytes.Equal(m.Data, voxels[:g.Len()]) || regions[k].Name != s.Label || slices.ContainsFunc(notes, func(s string) bool { return strings.HasPrefix(s, "resampled") }) {
			t.Errorf("%s segment %d (%s): %d voxels, highdicom %d (%s), notes %q", filepath.Base(s.Path), s.Number, regions[k].Name, m.Count(), bytes.Count(voxels[:g.Len()], []byte{1}), s.Label, notes)
		}
		voxels = voxels[g.Len():]
		compared[s.Path]++
	}
	for _, p := range paths {
		if compared[p] == 0 {
			t.Errorf("%s: nothing compared", p)
		}
	}
	if len(voxels) > 0 {
		t.Errorf("%d voxels left over", len(voxels))
	}
}

// TestPeersSegmentations reads what highdicom and dcmqi wrote.
func TestPeersSegmentations(t *testing.T) {
	var paths []string
	for _, name := range []string{"seg_image_ct_binary", "seg_image_ct_binary_fractional", "seg_image_ct_true_fractional", "seg_image_ct_binary_overlap", "seg_image_ct_binary_single_frame"} {
		paths = append(paths, shared(t, "highdicom", name+".dcm"))
	}
	sameAsHighdicom(t, append(paths, shared(t, "dcmqi", "liver.dcm"), shared(t, "dcmqi", "partial_overlaps.dcm"), shared(t, "dcmqi", "23x38x3", "seg", "label.seg"), shared(t, "dcmqi", "sr-example", "seg.dcm"))...)
}

// TestProjection refuses a Segmentation of a radiograph, which has no place in the patient.
func TestProjection(t *testing.T) {
	b, err := os.ReadFile(shared(t, "highdicom", "seg_image_cr_binary.dcm"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = roi.Regions(open(t, b))
	var r *refusal.Refusal
	if !errors.As(err, &r) || r.Code != refusal.SegmentationGeometry || !strings.Contains(r.Text, "(0020,9113)") {
		t.Errorf("error is %v", err)
	}
}

// written is a Segmentation of masks in every kind that highdicom writes. Standard input names the files of the slices, in
// order; the masks are bytes, a segment after the other.
const written = `
import sys, numpy, pydicom, highdicom as hd
from pydicom.uid import ExplicitVRLittleEndian, RLELossless, JPEGLSLossless
from pydicom.sr.codedict import codes
out, masks, count, *paths = sys.stdin.read().split()
images = [pydicom.dcmread(p, stop_before_pixels=True) for p in paths]
shape = (int(count), len(images), images[0].Rows, images[0].Columns)
m = numpy.fromfile(masks, numpy.uint8).reshape(shape)
algorithm = hd.AlgorithmIdentificationSequence('test', codes.DCM.ArtificialIntelligence, '1')
segments = [hd.seg.SegmentDescription(n + 1, 'S%d' % (n + 1), codes.SCT.Tissue, codes.SCT.Tissue, hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC, algorithm) for n in range(shape[0])]
stacked = numpy.moveaxis(m, 0, -1)
labels = numpy.zeros(shape[1:], numpy.uint8)
for n in range(shape[0]):
    labels[m[n] != 0] = n + 1
def write(name, kind, pixels, syntax=ExplicitVRLittleEndian, **extra):
    seg = hd.seg.Segmentation(images, pixels, kind, segments, hd.UID(), 1, hd.UID(), 1, 'm', 'n', '1', '1', transfer_syntax_uid=syntax, **extra)
    seg.save_as(out + '/' + name.replace(' ', '_') + '.dcm')
    return seg
write('binary', 'BINARY', stacked)
write('fractional', 'FRACTIONAL', stacked * 0.75 + 0.125, fractional_type='OCCUPANCY', max_fractional_value=40)
write('labelmap, all frames', 'LABELMAP', labels, omit_empty_frames=False)
write('labelmap, RLE', 'LABELMAP', labels, RLELossless)
write('labelmap, JPEG-LS', 'LABELMAP', labels, JPEGLSLossless)
write('fractional, RLE', 'FRACTIONAL', stacked * 0.75, RLELossless, fractional_type='PROBABILITY')
v = write('labelmap', 'LABELMAP', labels).get_volume(combine_segments=True)
r, c = [slice(x.min() - 3, x.max() + 4) for x in numpy.nonzero(labels.any(0))]
v = v[:, r, c].permute_spatial_axes([2, 0, 1]).flip_spatial([0, 2])
write('binary, sagittal and cut', 'BINARY', v)
write('labelmap, sagittal and cut', 'LABELMAP', v)
`

// TestHighdicomWrites reads the Segmentations that highdicom makes of the voxels of contours: the same voxels, by both
// programs, from every kind.
func TestHighdicomWrites(t *testing.T) {
	program := python(t)
	l, _, _, regions := load(t, []string{"lung1", "LUNG1-001", "image"}, []string{"lung1", "LUNG1-001", "mask_rtstruct"})
	files, err := filepath.Glob(filepath.Join(shared(t, "lung1", "LUNG1-001", "image"), "*.dcm"))
	if err != nil {
		t.Fatal(err)
	}
	// The tumour and the cord share no voxel; five slices are enough.
	g := l.Geometry
	var masks []*voxel.Mask
	var data []byte
	var low int
	for n, name := range []string{"GTV-1", "Spinal-Cord"} {
		m, _ := rasterise(t, regions[slices.IndexFunc(regions, func(r roi.Region) bool { return r.Name == name })], g)
		if b := m.Bounds(); n == 0 {
			low = (b.Min[2] + b.Max[2]) / 2
		}
		area := g.Size[0] * g.Size[1]
		clear(m.Data[:low*area])
		clear(m.Data[(low+5)*area:])
		masks, data = append(masks, m), append(data, m.Data[low*area:(low+5)*area]...)
	}
	folder := t.TempDir()
	path := filepath.Join(folder, "masks")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	in := []string{folder, path, "2"}
	for k := low; k < low+5; k++ {
		in = append(in, files[l.Order[k].Image])
	}
	c := exec.Command(program, "-W", "ignore", "-c", written)
	c.Stdin = strings.NewReader(strings.Join(in, "\n"))
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	made, _ := filepath.Glob(filepath.Join(folder, "*.dcm"))
	if len(made) != 9 {
		t.Fatalf("%d files", len(made))
	}
	var native []string
	for _, p := range made {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		f := open(t, b)
		regions, err := roi.Regions(f)
		if err != nil {
			t.Fatal(err)
		}
		if len(regions) != 2 {
			t.Fatalf("%s: %d regions", p, len(regions))
		}
		for n, r := range regions {
			m, _, err := wholeMask(t.Context(), r, g, voxel.Rule{})
			if ts, _ := dicom.LookupTransferSyntax(f.Meta.TransferSyntaxUID); !ts.Decodable {
				var refused *refusal.Refusal
				if !errors.As(err, &refused) || refused.Code != refusal.SegmentationPixels || !strings.Contains(refused.Text, ts.UID) {
					t.Errorf("%s: error is %v", filepath.Base(p), err)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(m.Data, masks[n].Data) {
				t.Errorf("%s: segment %d has %d voxels, the mask %d", filepath.Base(p), n+1, m.Count(), masks[n].Count())
			}
			if n == 0 {
				native = append(native, p)
			}
		}
		refs, err := roi.References(f.DataSet)
		if err != nil || len(refs) != 1 || refs[0].SeriesUID != l.Series || len(refs[0].Instances) != 5 {
			t.Errorf("%s: references %+v, %v", filepath.Base(p), refs, err)
		}
	}
	sameAsHighdicom(t, native...)
}

// dcmqi finds a program of the PyPI package dcmqi: in the folder RADNODE_DCMQI, beside the Python of RADNODE_PYTHON, or in PATH.
func dcmqi(t testing.TB, name string) string {
	t.Helper()
	for _, folder := range []string{os.Getenv("RADNODE_DCMQI"), filepath.Dir(os.Getenv("RADNODE_PYTHON"))} {
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil && folder != "" && folder != "." {
			return path
		}
	}
	path, err := exec.LookPath(name)
	need(t, name+" (PyPI dcmqi; RADNODE_DCMQI is its folder)", err)
	return path
}

// TestDcmqiReads lets dcmqi turn a Segmentation that radnode wrote into label volumes.
func TestDcmqiReads(t *testing.T) {
	program := dcmqi(t, "segimage2itkimage")
	in := segInput()
	d, err := roi.WriteSEG(in)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	path := filepath.Join(folder, "seg.dcm")
	if err := os.WriteFile(path, part10(t, d), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "--outputType", "nrrd", "--inputDICOM", path, "--outputDirectory", folder).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for n, s := range in.Segments {
		g, labels := labelVolume(t, filepath.Join(folder, fmt.Sprintf("%d.nrrd", n+1)))
		// dcmqi's grid is that of the object's planes: a part of the source's.
		b := s.Mask.Part(g)
		if !g.Equal(s.Mask.Geometry.Crop(b), 1e-3) {
			t.Fatalf("geometry %+v, written %+v", g, s.Mask.Geometry)
		}
		count := 0
		for i, v := range s.Mask.Crop(b).Data {
			if (v != 0) != (labels[i] != 0) {
				t.Fatalf("segment %d: voxel %d differs", n+1, i)
			}
			count += int(v)
		}
		if count != s.Mask.Count() {
			t.Errorf("segment %d: %d of %d voxels", n+1, count, s.Mask.Count())
		}
	}
}

// TestDcmqiWrites reads what dcmqi makes of a label volume and of the images of its grid: BINARY, LABELMAP, deflated.
func TestDcmqiWrites(t *testing.T) {
	program := dcmqi(t, "itkimage2segimage")
	images := shared(t, "dcmqi", "ct-3slice")
	folder := t.TempDir()
	volume := shared(t, "dcmqi", "partial_overlaps-1.nrrd")
	g, labels := labelVolume(t, volume)
	var attributes []any
	present := slices.Compact(slices.Sorted(slices.Values(labels)))[1:]
	code := func(value, scheme, meaning string) map[string]string {
		return map[string]string{"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}
	}
	for _, v := range present {
		attributes = append(attributes, map[string]any{
			"labelID": v, "SegmentLabel": fmt.Sprint("L", v), "SegmentDescription": "d", "SegmentAlgorithmType": "SEMIAUTOMATIC", "SegmentAlgorithmName": "x",
			"SegmentedPropertyCategoryCodeSequence": code("91723000", "SCT", "Anatomical Structure"),
			"SegmentedPropertyTypeCodeSequence":     code("64033007", "SCT", "Kidney"), "SegmentedPropertyTypeModifierCodeSequence": code("7771000", "SCT", "Left"),
			"recommendedDisplayRGBValue": []int{221, 130, 101},
		})
	}
	meta, err := json.Marshal(map[string]any{
		"ContentCreatorName": "Reader1", "ClinicalTrialSeriesID": "S", "ClinicalTrialTimePointID": "1", "SeriesDescription": "Segmentation", "SeriesNumber": "300",
		"InstanceNumber": "1", "BodyPartExamined": "ABDOMEN", "segmentAttributes": [][]any{attributes},
	})
	if err != nil {
		t.Fatal(err)
	}
	described := filepath.Join(folder, "meta.json")
	if err := os.WriteFile(described, meta, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, more := range map[string][]string{"binary": nil, "labelmap": {"--segmentationType", "labelmap", "--useLabelIDAsSegmentNumber"}, "deflated": {"--compress", "deflate"}, "all": {"--skip", "0"}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(folder, name+".dcm")
			arguments := append([]string{"--inputImageList", volume, "--inputDICOMDirectory", images, "--outputDICOM", path, "--inputMetadata", described}, more...)
			if out, err := exec.Command(program, arguments...).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			regions := readRegions(t, path)
			if len(regions) != len(present) {
				t.Fatalf("%d regions, %d labels", len(regions), len(present))
			}
			for n, r := range regions {
				labelled(t, r, g, labels, present[n])
				if r.Name != fmt.Sprint("L", present[n]) || r.Type.Value != "64033007" || r.TypeModifier.Value != "7771000" || r.Laterality.Meaning != "Left" || r.GenerationAlgorithm != "SEMIAUTOMATIC" || len(r.SeriesUIDs) != 1 {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}

// FuzzSegmentation reads any bytes as a Segmentation: nothing may panic or take for ever, and what is accepted keeps its
// promises.
func FuzzSegmentation(f *testing.F) {
	g := askew(16, 16, 6)
	for _, b := range smallSegmentations(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 1<<16 {
			keepsPromises(t, b, g)
		}
	})
}

// TestDamaged changes a few bytes of Segmentations, most of which are still data sets then.
func TestDamaged(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	seeds := smallSegmentations(t)
	masks := 0
	for range 4000 {
		b := bytes.Clone(seeds[r.IntN(len(seeds))])
		for range 1 + r.IntN(4) {
			i := 132 + r.IntN(len(b)-132)
			switch r.IntN(3) {
			case 0:
				b[i] = byte(r.IntN(256))
			case 1:
				b[i] ^= 1 << r.IntN(8)
			case 2:
				b[i] = "0123456789.-"[r.IntN(12)]
			}
		}
		masks += keepsPromises(t, b, askew(16, 16, 6))
	}
	if masks < 500 {
		t.Errorf("only %d masks", masks)
	}
}

// smallSegmentations are of every kind, on the lattice of askew and beside it.
func smallSegmentations(t testing.TB) (seeds [][]byte) {
	for _, c := range []struct {
		kind string
		bits int
	}{{"BINARY", 1}, {"FRACTIONAL", 8}, {"LABELMAP", 8}, {"LABELMAP", 16}} {
		s := facing(askew(5, 3, 4), [3]int{1, 2, 0}, [3]bool{true}, c.kind, c.bits, []int{1, 2}, func(segment int, at [3]int) int {
			return map[string]int{"BINARY": (at[0] + segment) % 2, "FRACTIONAL": at[0] * 50, "LABELMAP": at[1]}[c.kind]
		})
		seeds = append(seeds, part10(t, s.dataSet()))
		s.spacing[0] *= 1.5
		s.between, s.thickness = 0, 4
		seeds = append(seeds, part10(t, s.dataSet()))
	}
	d, err := roi.WriteSEG(segInput())
	if err != nil {
		t.Fatal(err)
	}
	return append(seeds, part10(t, d))
}

// keepsPromises reads bytes as a Segmentation, and says how many masks it gave.
func keepsPromises(t *testing.T, b []byte, g voxel.Geometry) (masks int) {
	file, err := dicom.ReadFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return 0
	}
	if class := file.DataSet.String(dicom.SOPClassUID); class != dicom.SegmentationStorage && class != dicom.LabelMapSegmentationStorage {
		return 0
	}
	var refused *refusal.Refusal
	refs, err := roi.References(file.DataSet)
	if err != nil && !errors.As(err, &refused) {
		t.Errorf("error is %v", err)
	}
	for _, r := range refs {
		for _, uid := range slices.Concat(r.Named, r.Contoured) {
			if !slices.Contains(r.Instances, uid) {
				t.Errorf("%q is named and not among the instances", uid)
			}
		}
	}
	regions, err := roi.Regions(file)
	if err != nil && !errors.As(err, &refused) {
		t.Errorf("error is %v", err)
	}
	for _, r := range regions[:min(len(regions), 20)] {
		m, _, err := wholeMask(t.Context(), r, g, voxel.Rule{})
		if err != nil {
			if !errors.As(err, &refused) {
				t.Errorf("error is %v", err)
			}
			continue
		}
		if m.Count() == 0 || len(m.Data) != g.Len() || !m.Binary() {
			t.Errorf("a mask of %d voxels", m.Count())
		}
		contained(t, r, m)
		masks++
	}
	return masks
}

// BenchmarkSegments puts the regions of a thorax CT, 134 slices of 512 × 512, on the grid of its images again.
func BenchmarkSegments(b *testing.B) {
	in, data := realSEG(b, []string{"lung1", "LUNG1-001", "image"}, []string{"lung1", "LUNG1-001", "mask_rtstruct"})
	g := in.Segments[0].Mask.Geometry
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		regions, err := roi.Regions(open(b, data))
		if err != nil {
			b.Fatal(err)
		}
		for n, r := range regions {
			roi.Bounds(r, g)
			if m, _ := rasterise(b, r, g); m.Count() != in.Segments[n].Mask.Count() {
				b.Fatal("other voxels")
			}
		}
	}
}

// BenchmarkAnotherGrid puts them on voxels of 1 mm that are turned in the patient.
func BenchmarkAnotherGrid(b *testing.B) {
	in, data := realSEG(b, []string{"lung1", "LUNG1-001", "image"}, []string{"lung1", "LUNG1-001", "mask_rtstruct"})
	g := in.Segments[0].Mask.Geometry
	turned := askew(400, 400, 400)
	turned.Spacing = [3]float64{1, 1, 1}
	middle := g.Point(float64(g.Size[0])/2, float64(g.Size[1])/2, float64(g.Size[2])/2)
	turned.Origin = middle
	turned.Origin = turned.Point(-200, -200, -200)
	regions, err := roi.Regions(open(b, data))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		for n, r := range regions {
			m, _ := rasterise(b, r, turned)
			volume, own := float64(m.Count()), float64(in.Segments[n].Mask.Count())*g.Spacing[0]*g.Spacing[1]*g.Spacing[2]
			if math.Abs(volume-own) > 0.01*own {
				b.Fatalf("%s has %.0f mm3, was %.0f", r.Name, volume, own)
			}
		}
	}
}
