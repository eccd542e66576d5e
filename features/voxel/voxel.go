// Package voxel holds images and masks as grids in space: values in physical
// units, positions in millimetres in the patient's LPS frame (PS3.3 C.7.6.2.1.1:
// +x to the left, +y to the back, +z to the head). It knows no DICOM.
//
// Start at [Geometry]; [Grid] and [Mask] are values on it. Interpolation to
// another spacing, as the IBSI manual rules it, is resample.go; NIfTI files are
// read by nifti.go.
package voxel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// A Geometry places a regular grid of voxels in the patient.
type Geometry struct {
	Size    [3]int        // voxels along x (columns), y (rows), z (slices); x runs fastest
	Spacing [3]float64    // mm between voxel centres along each index
	Origin  [3]float64    // LPS mm, the centre of voxel (0, 0, 0)
	Axes    [3][3]float64 // Axes[k] is the unit LPS direction of index k; may be left-handed
}

// Len is the number of voxels.
func (g Geometry) Len() int { return g.Size[0] * g.Size[1] * g.Size[2] }

// Point is the place in LPS mm of the index (i, j, k), which need not be whole.
func (g Geometry) Point(i, j, k float64) [3]float64 {
	var p [3]float64
	for c := range p {
		p[c] = g.Origin[c] + float64(i*float64(g.Spacing[0]*g.Axes[0][c])) +
			float64(j*float64(g.Spacing[1]*g.Axes[1][c])) + float64(k*float64(g.Spacing[2]*g.Axes[2][c]))
	}
	return p
}

// Index is the index of an LPS point: the inverse of [Geometry.Point] for
// orthogonal axes.
func (g Geometry) Index(p [3]float64) [3]float64 {
	var q [3]float64
	for a := range q {
		s := 0.0
		for c := range p {
			s += float64((p[c] - g.Origin[c]) * g.Axes[a][c])
		}
		q[a] = s / g.Spacing[a]
	}
	return q
}

// Equal tells whether both grids have the same size and no corner of one is
// farther than tol mm from the same corner of the other.
func (g Geometry) Equal(o Geometry, tol float64) bool {
	if g.Size != o.Size {
		return false
	}
	for c := range 8 {
		var q [3]float64
		for a := range q {
			if c>>a&1 == 1 {
				q[a] = float64(g.Size[a] - 1)
			}
		}
		u, v := g.Point(q[0], q[1], q[2]), o.Point(q[0], q[1], q[2])
		if d := math.Hypot(math.Hypot(u[0]-v[0], u[1]-v[1]), u[2]-v[2]); !(d <= tol) {
			return false
		}
	}
	return true
}

// Valid says what is wrong with a geometry, or nil: every size at least 1,
// spacings positive and finite, axes of unit length and orthogonal.
func (g Geometry) Valid() error {
	for a := range 3 {
		if g.Size[a] < 1 {
			return fmt.Errorf("voxel: size %v has an axis without voxels", g.Size)
		}
		if !(g.Spacing[a] > 0) || math.IsInf(g.Spacing[a], 0) {
			return fmt.Errorf("voxel: spacing %v must be positive on each axis", g.Spacing)
		}
		for b := range a + 1 {
			d := float64(g.Axes[a][0]*g.Axes[b][0]) + float64(g.Axes[a][1]*g.Axes[b][1]) + float64(g.Axes[a][2]*g.Axes[b][2])
			want := 0.0
			if a == b {
				want = 1
			}
			if !(math.Abs(d-want) < 1e-3) {
				return fmt.Errorf("voxel: axes %v are not orthogonal unit vectors", g.Axes)
			}
		}
	}
	return nil
}

// Crop is the geometry of the voxels of box.
func (g Geometry) Crop(b Box) Geometry {
	c := g
	c.Origin = g.Point(float64(b.Min[0]), float64(b.Min[1]), float64(b.Min[2]))
	c.Size = b.Size()
	return c
}

// Part is the box of g that a grid covers which was cut out of it ([Geometry.Crop]).
func (g Geometry) Part(o Geometry) Box {
	var b Box
	for a, x := range g.Index(o.Origin) {
		b.Min[a] = int(math.Round(x))
		b.Max[a] = b.Min[a] + o.Size[a]
	}
	return b
}

// Box is the box of the whole grid.
func (g Geometry) Box() Box { return Box{Max: g.Size} }

// A Box is a range of indices on each axis: Min is in it, Max is not.
type Box struct{ Min, Max [3]int }

// Empty tells whether no index is in the box.
func (b Box) Empty() bool {
	return b.Max[0] <= b.Min[0] || b.Max[1] <= b.Min[1] || b.Max[2] <= b.Min[2]
}

// Size is the number of indices on each axis.
func (b Box) Size() [3]int {
	return [3]int{b.Max[0] - b.Min[0], b.Max[1] - b.Min[1], b.Max[2] - b.Min[2]}
}

// Len is the number of voxels in the box.
func (b Box) Len() int {
	if b.Empty() {
		return 0
	}
	s := b.Size()
	return s[0] * s[1] * s[2]
}

// Grow widens the box by n[k] on both sides of axis k, but not beyond limit.
func (b Box) Grow(n [3]int, limit Box) Box {
	for a := range 3 {
		b.Min[a] = max(b.Min[a]-n[a], limit.Min[a])
		b.Max[a] = min(b.Max[a]+n[a], limit.Max[a])
	}
	return b
}

// Add moves the box by d.
func (b Box) Add(d [3]int) Box {
	for a := range 3 {
		b.Min[a] += d[a]
		b.Max[a] += d[a]
	}
	return b
}

// A Grid is an image: one value a voxel, x fastest.
type Grid struct {
	Geometry
	Data []float32
}

// Crop copies the voxels of box, which must lie inside the grid.
func (g *Grid) Crop(b Box) *Grid {
	return &Grid{g.Geometry.Crop(b), crop(g.Data, g.Size, b)}
}

// Threshold is the mask of the voxels whose value is at least v.
func (g *Grid) Threshold(v float32) *Mask {
	in := make([]uint8, len(g.Data))
	for i, x := range g.Data {
		if x >= v {
			in[i] = 1
		}
	}
	return &Mask{g.Geometry, in}
}

// A Mask is a region: 1 in it, 0 outside, x fastest.
type Mask struct {
	Geometry
	Data []uint8
}

// On is the mask in an empty one on the grid g, its first voxel at first. It must
// lie inside.
func (m *Mask) On(g Geometry, first [3]int) *Mask {
	out := &Mask{g, make([]uint8, g.Len())}
	n := m.Size
	for z := range n[2] {
		for y := range n[1] {
			copy(out.Data[((first[2]+z)*g.Size[1]+first[1]+y)*g.Size[0]+first[0]:], m.Data[(z*n[1]+y)*n[0]:][:n[0]])
		}
	}
	return out
}

// Binary tells whether the mask holds nothing but 0 and 1.
func (m *Mask) Binary() bool {
	const others = 0xfefefefefefefefe
	var seen uint64
	row := m.Data
	for ; len(row) >= 8; row = row[8:] {
		seen |= binary.LittleEndian.Uint64(row)
	}
	for _, v := range row {
		seen |= uint64(v)
	}
	return seen&others == 0
}

// Count is the number of voxels in the region.
func (m *Mask) Count() int { return len(m.Data) - bytes.Count(m.Data, []byte{0}) }

// Bounds is the smallest box that holds the region; an empty one for no voxel.
func (m *Mask) Bounds() Box {
	b := Box{Min: m.Size}
	i := 0
	for z := range m.Size[2] {
		for y := range m.Size[1] {
			row := m.Data[i : i+m.Size[0]]
			i += m.Size[0]
			first := leadingZeros(row)
			if first == len(row) {
				continue
			}
			end := max(b.Max[0], first+1)
			for n := leadingZeros(row[end:]); end+n < len(row); n = leadingZeros(row[end:]) {
				end += n + 1
			}
			b.Min[0], b.Max[0] = min(b.Min[0], first), end
			b.Min[1], b.Max[1] = min(b.Min[1], y), max(b.Max[1], y+1)
			b.Min[2], b.Max[2] = min(b.Min[2], z), max(b.Max[2], z+1)
		}
	}
	if b.Max[2] == 0 {
		return Box{}
	}
	return b
}

// leadingZeros is how many zeros a row begins with.
func leadingZeros(row []uint8) int {
	n := 0
	for ; len(row)-n >= 8; n += 8 {
		if v := binary.LittleEndian.Uint64(row[n:]); v != 0 {
			return n + bits.TrailingZeros64(v)/8
		}
	}
	for n < len(row) && row[n] == 0 {
		n++
	}
	return n
}

// Crop copies the voxels of box, which must lie inside the mask's grid.
func (m *Mask) Crop(b Box) *Mask {
	return &Mask{m.Geometry.Crop(b), crop(m.Data, m.Size, b)}
}

func crop[T any](data []T, size [3]int, b Box) []T {
	s := b.Size()
	out := make([]T, 0, s[0]*s[1]*s[2])
	for z := b.Min[2]; z < b.Max[2]; z++ {
		for y := b.Min[1]; y < b.Max[1]; y++ {
			row := (z*size[1] + y) * size[0]
			out = append(out, data[row+b.Min[0]:row+b.Max[0]]...)
		}
	}
	return out
}
