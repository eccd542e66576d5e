package features

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/radnode/radnode/features/voxel"
)

// A Batch is the regions of one image. Regions that lie in the box of another
// one with the same interpolation, as a tumour in its target volume, share its
// part of the interpolated image, which is made once and dropped after the last
// of them. The values are those of [Extract], to the bit. Regions may be
// extracted in parallel and in any order.
type Batch struct {
	geometry voxel.Geometry
	regions  []Region
	blocks   []*block // of each region; nil where it interpolates for itself
}

// A Region is what is known of a region before it has a mask.
type Region struct {
	Bounds  voxel.Box // on the image's grid; the mask lies inside
	Profile Profile
}

// NewBatch decides which regions of an image of geometry g share blocks, whose
// voxels may take at most room bytes.
func NewBatch(g voxel.Geometry, regions []Region, room int64) *Batch {
	b := &Batch{g, regions, make([]*block, len(regions))}
	var alone []*block
	for i, r := range regions {
		method, err := voxel.ParseMethod(r.Profile.Resample.Image)
		if err != nil || r.Bounds.Empty() || !r.Profile.Resample.interpolates() || len(r.Profile.Resample.Spacing) != 3 {
			continue
		}
		to, _, around := r.Profile.Resample.reach(g, r.Bounds)
		alone = append(alone, &block{resample: r.Profile.Resample, method: method, from: g, to: to, box: around, region: i})
	}
	for {
		// The block that saves most. A voxel is copied into the block and out of it,
		// so a block is worth while from twice its voxels on.
		var best *block
		most := 0
		for _, outer := range alone {
			if n := outer.around(alone); n >= most && outer.bytes() <= room {
				best, most = outer, n+1
			}
		}
		if best == nil {
			return b
		}
		room -= best.bytes()
		var others []*block
		for _, one := range alone {
			if best.serves(one) {
				best.left.Add(1)
				b.blocks[one.region] = best
			} else {
				others = append(others, one)
			}
		}
		best.cut()
		alone = others
	}
}

// serves tells whether another's box can be cut out of the block.
func (b *block) serves(o *block) bool { return sameImage(b.resample, o.resample) && b.holds(o.box) }

// around is how many voxels those have that the block serves, beyond twice its
// own; -1 for none but its own region.
func (b *block) around(all []*block) int {
	n, served := -2*b.box.Len(), 0
	for _, o := range all {
		if b.serves(o) {
			n += o.box.Len()
			served++
		}
	}
	if served < 2 {
		return -1
	}
	return n
}

// Shared is the memory in bytes of the blocks.
func (b *Batch) Shared() (n int64) {
	for i, one := range b.blocks {
		if one != nil && one.region == i {
			n += one.bytes()
		}
	}
	return n
}

// Estimate is what the extraction of region i takes, as [Estimate], beside the
// blocks.
func (b *Batch) Estimate(i int) int64 {
	return estimate(b.geometry, b.regions[i].Bounds, b.regions[i].Profile, b.blocks[i])
}

// Extract is [Extract] for region i. The image must be on the batch's geometry.
func (b *Batch) Extract(ctx context.Context, i int, g *voxel.Grid, m *voxel.Mask) (Result, error) {
	one := b.blocks[i]
	if g.Geometry != b.geometry {
		one = nil
	}
	return extract(ctx, g, m, b.regions[i].Profile, one)
}

// Done says, once for each region, that it has been extracted or will not be.
func (b *Batch) Done(i int) {
	if one := b.blocks[i]; one != nil && one.left.Add(-1) == 0 {
		one.image = nil
	}
}

// sameImage tells whether two settings give the same interpolated image.
func sameImage(a, b Resample) bool {
	return slices.Equal(a.Spacing, b.Spacing) && a.Image == b.Image && a.Round == b.Round
}

func union(a, b voxel.Box) voxel.Box {
	for k := range 3 {
		a.Min[k], a.Max[k] = min(a.Min[k], b.Min[k]), max(a.Max[k], b.Max[k])
	}
	return a
}

// A block is a box of the interpolated image. Its first regions make it
// together: each takes the next slab that nobody has taken, and then they wait
// for one another.
type block struct {
	resample Resample
	method   voxel.Method
	from, to voxel.Geometry
	box      voxel.Box    // of to
	region   int          // whose box it is
	left     atomic.Int32 // regions that it serves and that are not done

	slabs    []voxel.Box
	next     atomic.Int32 // slab to be made
	start    sync.Once
	made     sync.WaitGroup // counts slabs
	image    *voxel.Grid
	infinite atomic.Bool // a value somewhere in it
}

func (b *block) bytes() int64 { return 4 * int64(b.box.Len()) }

// holds tells whether the block has all of box; there may be no block.
func (b *block) holds(box voxel.Box) bool { return b != nil && union(b.box, box) == b.box }

// cut makes slabs. A slab reads a slice or two of the image beyond its own, and
// with the spline's long filter many more: so a slab must not be thin.
func (b *block) cut() {
	own := 32
	if b.method == voxel.Cubic {
		own = 160
	}
	thick := max(1, int(float64(own)*b.from.Spacing[2]/b.to.Spacing[2]))
	for z := b.box.Min[2]; z < b.box.Max[2]; z += thick {
		slab := b.box
		slab.Min[2], slab.Max[2] = z, min(z+thick, b.box.Max[2])
		b.slabs = append(b.slabs, slab)
	}
	b.made.Add(len(b.slabs))
}

// part is a copy of the voxels of box.
func (b *block) part(g *voxel.Grid, box voxel.Box) (*voxel.Grid, error) {
	b.start.Do(func() { b.image = &voxel.Grid{Geometry: b.to.Crop(b.box), Data: make([]float32, b.box.Len())} })
	for {
		k := int(b.next.Add(1)) - 1
		if k >= len(b.slabs) {
			break
		}
		b.make(g, b.slabs[k])
	}
	b.made.Wait()
	out := b.image.Crop(box.Add([3]int{-b.box.Min[0], -b.box.Min[1], -b.box.Min[2]}))
	out.Geometry = b.to.Crop(box) // the same place with the bits it has without a block
	if b.infinite.Load() {
		return out, finite(out) // perhaps in the part of another region
	}
	return out, nil
}

func (b *block) make(g *voxel.Grid, slab voxel.Box) {
	defer b.made.Done()
	out := imagePart(g, b.to, slab, b.resample, b.method)
	if finite(out) != nil {
		b.infinite.Store(true)
	}
	n := b.box.Size()
	copy(b.image.Data[(slab.Min[2]-b.box.Min[2])*n[0]*n[1]:], out.Data)
}
