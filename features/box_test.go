package features

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/radnode/radnode/features/voxel"
	"pgregory.net/rapid"
)

func TestOrientedBoxOfKnownShapes(t *testing.T) {
	box := func(a, b, c int32) (out []point) { // along (1, 2, 2), (2, 1, -2) and (2, -2, 1), of length 3
		for k := range int32(8) {
			i, j, l := a*(k&1), b*(k>>1&1), c*(k>>2&1)
			out = append(out, point{i + 2*j + 2*l, 2*i + j - 2*l, 2*i - 2*j + l})
		}
		return out
	}
	for _, c := range []struct {
		name     string
		vertices []point
		spacing  [3]float64
		want     float64
	}{
		{"cube along the axes", box(1, 1, 1), [3]float64{2, 2, 2}, 27},
		{"turned box", box(1, 2, 5), [3]float64{2, 2, 2}, 27 * 10},
		{"turned plate", box(1, 40, 50), [3]float64{2, 2, 2}, 27 * 2000},
		{"turned rod", box(1, 1, 200), [3]float64{2, 2, 2}, 27 * 200},
		// A face of the regular octahedron on a side, and edges on the others.
		{"voxel", []point{{1}, {-1}, {0, 1}, {0, -1}, {0, 0, 1}, {0, 0, -1}}, [3]float64{2, 2, 2}, 64.0 / 27},
		// Four corners of a cube: the cube, by O'Rourke's two edges.
		{"tetrahedron", []point{{}, {1, 1}, {1, 0, 1}, {0, 1, 1}}, [3]float64{2, 2, 2}, 1},
	} {
		e, proven := orientedBox(newHull(c.vertices), c.spacing)
		if v := boxVolume(e); !within(v, c.want, 1e-9) || !proven {
			t.Errorf("%s: %.12g mm³, want %.12g; proven %v", c.name, v, c.want, proven)
		}
	}
}

// Of a needle that is too thin the values do not exist; none that is not the least is given out.
func TestNeedleWithoutBox(t *testing.T) {
	needle := newHull([]point{{}, {1}, {0, 1}, {0, 0, 1}, {900, 1100, 1300}, {901, 1100, 1300}, {900, 1101, 1300}, {900, 1100, 1301}})
	spacing := [3]float64{1, 1, 1}
	if _, proven := orientedBox(needle, spacing); proven {
		t.Fatal("the least box was found; the test wants a needle that is too thin for it")
	}
	v := values{rows: morphologyTable[16:26]}
	densities(&v, mesh{volume: 1, area: 1}, needle, needle.millimetres(spacing), spacing, [3]float64{3, 2, 1})
	for _, x := range v.list {
		if (x.Reason != "") != strings.HasSuffix(x.Tag, "_ombb") {
			t.Errorf("%s = %v, reason %q", x.Tag, x.Value, x.Reason)
		}
	}
}

// No orientation in a part has a box below the part's bound.
func TestBoundOfOrientations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roi := randomROI(t, 7)
		b := newBoxSearch(newHull(newMesh(roi.Morph).ends), roi.Image.Spacing)
		at, inside := rapid.Float64Range(-0.42, 0.42), rapid.Float64Range(-1, 1)
		half := rapid.Custom(func(t *rapid.T) float64 {
			return rapid.SampledFrom([]float64{1e-4, 0.003, 0.01, 0.03, 0.1}).Draw(t, "size") * rapid.Float64Range(0.1, 1).Draw(t, "part")
		})
		for range 30 {
			var c attitudes
			for k := range 3 {
				c.at[k], c.half[k] = at.Draw(t, "at"), half.Draw(t, "half")
			}
			middle := rotated(c.at)
			// The bound is only made better where it comes near to the least.
			b.least = boxVolume(extents(b.points, &middle)) * rapid.Float64Range(0.8, 1).Draw(t, "least")
			b.look(&c, new(attitudeHeap))
			for i := range 8 + 10 {
				x := c.at
				for k := range x {
					if i < 8 { // a corner
						x[k] += float64(i>>k&1*2-1) * c.half[k]
					} else {
						x[k] += inside.Draw(t, "inside") * c.half[k]
					}
				}
				axes := rotated(x)
				if v := boxVolume(extents(b.points, &axes)); v < c.bound*(1-1e-12) {
					t.Fatalf("box %v mm³ at %v, bound %v of %+v", v, x, c.bound, c)
				}
			}
		}
	})
}

// leastByEdges is O'Rourke's enumeration: the least box has two adjacent sides
// that each hold an edge of the hull. For each pair of edges, the side on the
// first turns about it by half a turn, and the other side follows from being at
// right angles to it and along the second edge.
func leastByEdges(b *boxSearch) float64 {
	var edges [][3]float64
	for i := range b.points {
		for _, n := range b.next[b.first[i]:b.first[i+1]] {
			e := unit(difference(b.points[n], b.points[i]))
			if !slices.ContainsFunc(edges, func(f [3]float64) bool { return math.Abs(voxel.Dot(e, f)) > 1-1e-14 }) {
				edges = append(edges, e)
			}
		}
	}
	least := math.Inf(1)
	for _, e := range edges {
		u := [3]float64{1}
		if math.Abs(e[0]) > 0.7 {
			u = [3]float64{0, 1}
		}
		u = unit(voxel.Cross(e, u))
		w := voxel.Cross(e, u)
		for _, f := range edges {
			volume := func(angle float64) float64 {
				sin, cos := math.Sincos(angle)
				a := [3]float64{cos*u[0] + sin*w[0], cos*u[1] + sin*w[1], cos*u[2] + sin*w[2]}
				n := voxel.Cross(a, f)
				if voxel.Dot(n, n) < 1e-20 {
					return math.Inf(1)
				}
				n = unit(n)
				return boxVolume(extents(b.points, &[3][3]float64{a, n, voxel.Cross(a, n)}))
			}
			const steps = 40
			var v [steps]float64
			for k := range v {
				v[k] = volume(math.Pi * float64(k) / steps)
				least = min(least, v[k])
			}
			for k := range v {
				if v[k] > min(v[(k+steps-1)%steps], v[(k+1)%steps]) || v[k] > least*1.02 {
					continue
				}
				lo, hi := math.Pi*float64(k-1)/steps, math.Pi*float64(k+1)/steps
				for range 45 { // golden section
					p, q := hi-0.6180339887*(hi-lo), lo+0.6180339887*(hi-lo)
					vp, vq := volume(p), volume(q)
					least = min(least, vp, vq)
					if vp < vq {
						hi = q
					} else {
						lo = p
					}
				}
			}
		}
	}
	return least
}

func TestOrientedBoxAgainstEdges(t *testing.T) {
	n, met := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		roi := randomROI(t, 3)
		h := newHull(newMesh(roi.Morph).ends)
		e, proven := orientedBox(h, roi.Image.Spacing)
		got := boxVolume(e)
		want := leastByEdges(newBoxSearch(h, roi.Image.Spacing))
		if !proven || got > want*(1+1.1e-9) {
			t.Fatalf("box %.12g mm³, proven %v; by pairs of edges %.12g", got, proven, want)
		}
		n++
		if want < got*(1+1e-7) {
			met++
		}
	})
	// The samples along the turn miss a narrow valley now and then.
	t.Logf("%d of %d", met, n)
	if met < n*9/10 {
		t.Errorf("only %d of %d boxes are met by pairs of edges", met, n)
	}
}
