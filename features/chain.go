package features

import (
	"errors"
	"fmt"
	"math"

	"github.com/radnode/radnode/features/voxel"
)

// An ROI is a region after the chain, ready for the families: the image and two
// masks on one grid, which is the part of the interpolated image around the
// region.
type ROI struct {
	Image     *voxel.Grid
	Morph     *voxel.Mask // morphological mask (IBSI G5KJ): the region's shape
	Intensity *voxel.Mask // intensity mask (IBSI SEFI): Morph without what re-segmentation took away

	Geometry      voxel.Geometry // of the whole interpolated image
	Offset        [3]int         // of Image's voxel 0 in Geometry
	VoxelsInitial int            // of the mask as given
	Notes         []string

	// What several families need is made by the first of them.
	profile     Profile
	ascending   []intensity
	described   *description // of ascending
	discretised *levels
	noLevels    string
	zones       map[bool]*zones
}

// Prepare is the chain of the manual's chapter 2, a step a line. The profile
// must be valid.
func Prepare(g *voxel.Grid, m *voxel.Mask, p Profile) (*ROI, error) { return prepare(g, m, p, nil) }

// prepare takes the interpolated image from a block where there is one.
func prepare(g *voxel.Grid, m *voxel.Mask, p Profile, b *block) (*ROI, error) {
	part, err := sameGrid(g, m)
	if err != nil {
		return nil, err
	}
	roi, err := interpolate(g, m, part, p.Resample, b)
	if err != nil {
		return nil, err
	}
	resegment(roi, p.Resegment)
	roi.profile = p
	return roi, nil
}

// sameGrid is the box of the image's grid that the mask covers. It refuses a
// mask that lies on another grid.
func sameGrid(g *voxel.Grid, m *voxel.Mask) (part voxel.Box, err error) {
	if err := g.Valid(); err != nil {
		return part, fmt.Errorf("features: image: %w", err)
	}
	if len(g.Data) != g.Len() || len(m.Data) != m.Len() {
		return part, errors.New("features: a grid holds another number of voxels than its size says")
	}
	// A hundredth of a voxel is below what any format keeps apart.
	tol := 0.01 * min(g.Spacing[0], g.Spacing[1], g.Spacing[2])
	part = g.Part(m.Geometry)
	if union(part, g.Box()) != g.Box() || !g.Geometry.Crop(part).Equal(m.Geometry, tol) {
		return part, fmt.Errorf("features: the mask (%v voxels, origin %.3f mm) is not on the image's grid (%v voxels, origin %.3f mm)",
			m.Size, m.Origin, g.Size, g.Origin)
	}
	if !m.Binary() {
		return part, errors.New("features: the mask holds a value other than 0 and 1")
	}
	return part, nil
}

// finite refuses an image without a value somewhere around the ROI.
func finite(g *voxel.Grid) error {
	for i, v := range g.Data {
		if v-v != 0 { // NaN or infinite
			nx, ny := g.Size[0], g.Size[1]
			p := g.Point(float64(i%nx), float64(i/nx%ny), float64(i/nx/ny))
			return fmt.Errorf("features: the image has no finite value at %.1f mm", p)
		}
	}
	return nil
}

// interpolate brings image and mask to the profile's spacing, on the grid whose
// centre is the image's centre (IBSI 3WE3). Of the image it keeps the region's
// bounding box and the reach of the local intensity sphere around it; the
// voxels are those of the whole interpolated image, bit for bit, so it does not
// matter whether they come from a block or are made here.
func interpolate(g *voxel.Grid, m *voxel.Mask, part voxel.Box, r Resample, b *block) (*ROI, error) {
	roi := &ROI{Geometry: g.Geometry, VoxelsInitial: m.Count()}
	if roi.VoxelsInitial == 0 {
		return nil, fmt.Errorf("features: %w", ErrEmptyROI)
	}
	whole := m.Bounds().Add(part.Min)
	for a := range 3 {
		if g.Size[a] > 1 && (whole.Min[a] == 0 || whole.Max[a] == g.Size[a]) {
			roi.Notes = append(roi.Notes, "the ROI touches the border of the image")
			break
		}
	}
	var image voxel.Method
	if r.interpolates() {
		var err error
		if image, err = voxel.ParseMethod(r.Image); err != nil {
			return nil, err
		}
		mask, err := voxel.ParseMethod(r.Mask)
		if err != nil {
			return nil, err
		}
		roi.Geometry = voxel.Aligned(g.Geometry, [3]float64(r.Spacing))
		whole = covered(g.Geometry, roi.Geometry, whole)
		m = voxel.ResampleMask(m, g.Geometry, roi.Geometry, whole, mask, r.MaskThreshold)
	} else {
		m = m.Crop(m.Bounds())
	}
	if left := m.Bounds(); left.Empty() {
		roi.Notes = append(roi.Notes, fmt.Sprintf("none of the ROI's %d voxels is left after interpolation", roi.VoxelsInitial))
	} else {
		m = m.Crop(left)
		whole = left.Add(whole.Min)
	}
	box := whole.Grow(sphereReach(roi.Geometry.Spacing), roi.Geometry.Box())
	var err error
	if b.holds(box) {
		roi.Image, err = b.part(g, box)
	} else {
		roi.Image = imagePart(g, roi.Geometry, box, r, image)
		err = finite(roi.Image)
	}
	if err != nil {
		return nil, err
	}
	roi.Offset = box.Min
	roi.Morph = m.On(roi.Image.Geometry, whole.Add([3]int{-box.Min[0], -box.Min[1], -box.Min[2]}).Min)
	roi.Intensity = &voxel.Mask{Geometry: roi.Morph.Geometry, Data: append([]uint8(nil), roi.Morph.Data...)}
	return roi, nil
}

// Needed is the box of the image's voxels that [Extract] reads for a mask that
// lies inside bounds, so that no other need be loaded. The profile must be valid.
func Needed(g voxel.Geometry, bounds voxel.Box, p Profile) voxel.Box {
	if bounds.Empty() {
		return voxel.Box{}
	}
	to, _, around := p.Resample.reach(g, bounds)
	if !p.Resample.interpolates() {
		return around
	}
	method, err := voxel.ParseMethod(p.Resample.Image)
	if err != nil {
		return g.Box()
	}
	return voxel.Source(g, to, around, method)
}

// reach is the grid to which an image of geometry g is interpolated, the box of
// it that a mask inside bounds can reach, and that box with the reach of the
// local intensity sphere around it.
func (r Resample) reach(g voxel.Geometry, bounds voxel.Box) (to voxel.Geometry, box, around voxel.Box) {
	to, box = g, bounds
	if r.interpolates() && len(r.Spacing) == 3 {
		to = voxel.Aligned(g, [3]float64(r.Spacing))
		box = covered(g, to, bounds)
	}
	return to, box, box.Grow(sphereReach(to.Spacing), to.Box())
}

// covered is the box of the interpolated grid that a mask inside b can reach.
func covered(g, to voxel.Geometry, b voxel.Box) voxel.Box {
	c := voxel.Covered(g, to, b)
	if c.Empty() { // between two voxel centres of a coarser grid
		c = voxel.Box{Max: [3]int{1, 1, 1}}
	}
	return c
}

// imagePart is a box of the image, interpolated by the method, which is that of
// r, and rounded, where the profile says so. Its values need not be finite.
func imagePart(g *voxel.Grid, to voxel.Geometry, box voxel.Box, r Resample, method voxel.Method) *voxel.Grid {
	var out *voxel.Grid
	if r.interpolates() {
		out = voxel.Resample(g, to, box, method)
	} else {
		out = g.Crop(box)
	}
	if r.Round {
		round(out)
	}
	return out
}

// round takes every intensity to the nearest whole number (IBSI 68QD); halves,
// which interpolation to half the spacing makes often, go to the even one, so
// that they do not shift the mean.
func round(g *voxel.Grid) {
	for i, v := range g.Data {
		g.Data[i] = float32(math.RoundToEven(float64(v)))
	}
}

// resegment takes voxels out of the intensity mask: those outside the range
// (IBSI USB3) and those farther than k standard deviations from the mean (7ACA).
// Both at once keep the intersection of the two ranges (IF9H), so mean and
// population standard deviation are those of the whole ROI, before any range.
func resegment(roi *ROI, r Resegment) {
	lowest, highest := math.Inf(-1), math.Inf(1)
	if len(r.Range) == 2 {
		lowest, highest = r.Range[0], r.Range[1]
	}
	list := roi.distribution()
	if r.Outliers > 0 && len(list) > 0 {
		all := roi.description()
		d := float64(r.Outliers * math.Sqrt(all.variance))
		lowest, highest = max(lowest, all.mean-d), min(highest, all.mean+d)
	}
	if len(list) == 0 || float64(list[0].x) >= lowest && float64(list[len(list)-1].x) <= highest {
		return
	}
	roi.forget()
	nx := roi.Image.Size[0]
	for row := 0; row < len(roi.Intensity.Data); row += nx {
		mask, image := roi.Intensity.Data[row:][:nx], roi.Image.Data[row:][:nx]
		for first, end := run(mask, 0); first < end; first, end = run(mask, end) {
			for x := first; x < end; x++ {
				if v := float64(image[x]); !(v >= lowest && v <= highest) {
					mask[x] = 0
				}
			}
		}
	}
}
