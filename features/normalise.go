package features

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"

	"github.com/radnode/radnode/features/voxel"
)

// Normalise maps the intensities of the whole image before interpolation, for
// images whose intensities have no unit: the same tissue has other numbers on
// every MR scanner. Afterwards they have the unit 1. The manual leaves it to the
// image processing before the chain (2.2).
//
//   - zscore takes the mean to 0 and the standard deviation to scale. It is that of
//     all voxels (divided by their number, as IBSI ECT3 is).
//   - range takes the percentiles low and high to 0 and scale, and clips nothing.
//     Percentiles are linear between the two nearest ranks, as in the statistics.
//   - mean takes the mean to scale, and leaves 0 where it is.
//
// The numbers are those of the voxels of a reference region, or of the whole
// image; a mean alone needs a region, as the image has much air.
type Normalise struct {
	Method string  `yaml:"method"`           // none, zscore, range, mean
	Region string  `yaml:"region,omitempty"` // regular expression for the name of the reference region; empty for the whole image
	Low    float64 `yaml:"low,omitempty"`    // percentile, range; without low and high 1 and 99
	High   float64 `yaml:"high,omitempty"`   // percentile, range
	Scale  float64 `yaml:"scale,omitempty"`  // 1 where it is left out
}

// Used tells whether there is anything to do.
func (n Normalise) Used() bool { return n.Method != "" && n.Method != "none" }

// Filled is n with the defaults in place of what was left out, and without what
// its method does not look at.
func (n Normalise) Filled() Normalise {
	if !n.Used() {
		return Normalise{Method: "none"}
	}
	n.Scale = cmp.Or(n.Scale, 1)
	if n.Method != "range" {
		n.Low, n.High = 0, 0
		return n
	}
	if n.Low == 0 && n.High == 0 {
		n.Low = 1 // 0 is the minimum where high is there too
	}
	n.High = cmp.Or(n.High, 99)
	return n
}

func (n Normalise) validate() error {
	if methods := []string{"", "none", "zscore", "range", "mean"}; !slices.Contains(methods, n.Method) {
		return fmt.Errorf("method: %q, want none, zscore, range or mean", n.Method)
	}
	if n.Method == "" && (n.Region != "" || n.Low != 0 || n.High != 0 || n.Scale != 0) {
		return errors.New("method: is empty, and the rest says how to normalise; write zscore, range or mean")
	}
	if _, err := regexp.Compile(n.Region); err != nil {
		return fmt.Errorf("region: %q: %v", n.Region, err)
	}
	if n.Method == "mean" && n.Region == "" {
		return errors.New("region: is empty, and the mean is that of a reference region, muscle for example")
	}
	f := n.Filled()
	if n.Method == "range" && !(f.Low >= 0 && f.Low < f.High && f.High <= 100) {
		return fmt.Errorf("low: %v, high: %v, want percentiles from 0 to 100, the lower one first", f.Low, f.High)
	}
	if n.Used() && (!(f.Scale > 0) || f.Scale > 1e6) {
		return fmt.Errorf("scale: %v, want a number above 0 and at most 1000000", n.Scale)
	}
	return nil
}

// canonical is what counts of n, for the hash of the profile.
func (n Normalise) canonical() []string {
	f := n.Filled()
	return []string{f.Method, strconv.Quote(f.Region), number(f.Low), number(f.High), number(f.Scale)}
}

// notation is our own: the manual has no sign for it.
func (n Normalise) notation() string {
	f := n.Filled()
	s := map[string]string{"zscore": "Z", "mean": "MEAN", "range": fmt.Sprintf("[p%s,p%s]", number(f.Low), number(f.High))}[f.Method]
	if f.Region != "" {
		s += "(" + f.Region + ")"
	}
	if f.Scale != 1 {
		s += "×" + number(f.Scale)
	}
	return "NRM:" + s
}

// Apply transforms the values of g in place. The reference region may lie on a
// part of the grid; nil is the whole image. The note says what was done, with the
// numbers. After an error g is as it was.
func (n Normalise) Apply(ctx context.Context, g *voxel.Grid, reference *voxel.Mask) (note string, err error) {
	if err := n.validate(); err != nil {
		return "", fmt.Errorf("features: normalise: %w", err)
	}
	if !n.Used() {
		return "", nil
	}
	n = n.Filled()
	if reference == nil && n.Region != "" {
		return "", fmt.Errorf("features: normalise: there is no reference region %q: draw it, or take zscore or range of the whole image", n.Region)
	}
	v, err := chosen(g, reference)
	if err != nil {
		return "", err
	}
	low, high, err := finiteExtremes(ctx, g)
	if err != nil {
		return "", err
	}
	var a, b float64 // the image becomes (x - a) / b
	var by string
	switch n.Method {
	case "range":
		p, err := v.percentiles(ctx, n.Low, n.High)
		if err != nil {
			return "", err
		}
		a, b = p[0], p[1]-p[0]
		by = fmt.Sprintf("the percentiles %s and %s, %s and %s,", number(n.Low), number(n.High), figure(p[0]), figure(p[1]))
	default:
		mean, sd, err := v.moments(ctx)
		if err != nil {
			return "", err
		}
		a, b = mean, sd
		by = fmt.Sprintf("the mean %s and standard deviation %s", figure(mean), figure(sd))
		if n.Method == "mean" {
			a, b = 0, mean
			by = fmt.Sprintf("the mean %s", figure(mean))
			if !(mean > 0) {
				return "", fmt.Errorf("features: normalise: the mean of %s is %s, and to divide by it must be above 0: take another region, or zscore", v, figure(mean))
			}
		}
	}
	if !(b > 0) {
		return "", fmt.Errorf("features: normalise: the values of %s are all the same, or too near to each other: take another region, or leave normalise out", v)
	}
	change := func(x float32) float32 { return float32(float64((float64(x)-a)/b*n.Scale) + 0) } // + 0: no -0
	if l, h := float64(change(low)), float64(change(high)); math.IsInf(l, 0) || math.IsInf(h, 0) {
		return "", fmt.Errorf("features: normalise: values of the image lie beyond all numbers when measured by %s: take another region, or leave normalise out", v)
	}
	for i, x := range g.Data {
		g.Data[i] = change(x)
	}
	note = map[string]string{"zscore": "z-score", "range": "range", "mean": "divided"}[n.Method] + " by " + by + " of " + v.String()
	if n.Scale != 1 {
		note += ", times " + number(n.Scale)
	}
	return note, nil
}

// A choice is some voxels of an image.
type choice struct {
	g    *voxel.Grid
	mask *voxel.Mask // nil for all
	part voxel.Box   // of g, that the mask covers
	n    int
}

func chosen(g *voxel.Grid, mask *voxel.Mask) (choice, error) {
	if mask == nil {
		if err := g.Valid(); err != nil {
			return choice{}, fmt.Errorf("features: image: %w", err)
		}
		if len(g.Data) != g.Len() {
			return choice{}, errors.New("features: a grid holds another number of voxels than its size says")
		}
		return choice{g: g, n: len(g.Data)}, nil
	}
	part, err := sameGrid(g, mask)
	if err != nil {
		return choice{}, err
	}
	v := choice{g: g, mask: mask, part: part, n: mask.Count()}
	if v.n == 0 {
		return v, errors.New("features: normalise: the reference region holds no voxel: draw it larger than a voxel and inside the image, or leave region out")
	}
	return v, nil
}

func (v choice) String() string {
	of := "the whole image"
	if v.mask != nil {
		of = "the reference region"
	}
	return thousands(v.n) + " voxels of " + of
}

// values goes through the chosen values, row by row of the image.
func (v choice) values(ctx context.Context, row func([]float32)) error {
	nx, ny := v.g.Size[0], v.g.Size[1]
	if v.mask == nil {
		for i := 0; i < len(v.g.Data); i += nx {
			if i%(nx*ny) == 0 && ctx.Err() != nil {
				return ctx.Err()
			}
			row(v.g.Data[i : i+nx])
		}
		return nil
	}
	kept := make([]float32, 0, nx)
	w := v.mask.Size[0]
	for z := v.part.Min[2]; z < v.part.Max[2]; z++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		for y := v.part.Min[1]; y < v.part.Max[1]; y++ {
			kept = kept[:0]
			from := (z*ny+y)*nx + v.part.Min[0]
			in := v.mask.Data[((z-v.part.Min[2])*v.mask.Size[1]+y-v.part.Min[1])*w:][:w]
			for i, x := range v.g.Data[from : from+w] {
				if in[i] != 0 {
					kept = append(kept, x)
				}
			}
			row(kept)
		}
	}
	return nil
}

// moments are the mean and the standard deviation, in two passes. Rows are summed
// before they are added up, which loses less than one long sum.
func (v choice) moments(ctx context.Context) (mean, sd float64, err error) {
	total, count := 0.0, float64(v.n)
	err = v.values(ctx, func(row []float32) {
		sum := 0.0
		for _, x := range row {
			sum += float64(x)
		}
		total += sum
	})
	mean = total / count
	total = 0
	err = cmp.Or(err, v.values(ctx, func(row []float32) {
		sum := 0.0
		for _, x := range row {
			d := float64(x) - mean
			sum += float64(d * d)
		}
		total += sum
	}))
	return mean, math.Sqrt(total / count), err
}

// percentiles are the same as those of a sorted copy, which would be as large as
// the image: values are counted by the upper half of their bits, and the ones near
// the ranks that are wanted once more by the lower half.
func (v choice) percentiles(ctx context.Context, percent ...float64) ([]float64, error) {
	var ranks []int
	for _, p := range percent {
		i := int(float64(p*float64(v.n-1)) / 100)
		ranks = append(ranks, i, min(i+1, v.n-1))
	}
	upper := make([]int, 1<<16)
	if err := v.values(ctx, func(row []float32) {
		for _, x := range row {
			upper[order(x)>>16]++
		}
	}); err != nil {
		return nil, err
	}
	half, within := make([]uint32, len(ranks)), make([]int, len(ranks)) // of each rank
	slot := make([]uint8, 1<<16)                                        // of an upper half in lower, 0 for those not wanted
	lower := make([][]int, 1, 1+len(ranks))
	for k, rank := range ranks {
		below := 0
		for u, c := range upper {
			if below+c > rank {
				half[k], within[k] = uint32(u), rank-below
				break
			}
			below += c
		}
		if slot[half[k]] == 0 {
			slot[half[k]] = uint8(len(lower))
			lower = append(lower, make([]int, 1<<16))
		}
	}
	if err := v.values(ctx, func(row []float32) {
		for _, x := range row {
			o := order(x)
			if l := slot[o>>16]; l != 0 {
				lower[l][o&0xFFFF]++
			}
		}
	}); err != nil {
		return nil, err
	}
	value := func(k int) float64 {
		below := 0
		for l, c := range lower[slot[half[k]]] {
			if below += c; below > within[k] {
				return float64(disorder(half[k]<<16 | uint32(l)))
			}
		}
		panic("features: a rank beyond the voxels counted")
	}
	var out []float64
	for k, p := range percent {
		x, next := value(2*k), value(2*k+1)
		at := float64(p*float64(v.n-1)) / 100
		out = append(out, x+float64((at-float64(ranks[2*k]))*(next-x)))
	}
	return out, nil
}

// order is the place of a number among all of them: the bits of a positive number
// rise with it, those of a negative one fall.
func order(x float32) uint32 {
	b := math.Float32bits(x)
	if b>>31 != 0 {
		return ^b
	}
	return b | 1<<31
}

// disorder is the number of a place.
func disorder(o uint32) float32 {
	if o>>31 != 0 {
		return math.Float32frombits(o &^ (1 << 31))
	}
	return math.Float32frombits(^o)
}

// finiteExtremes are those of an image, which must have a value everywhere.
func finiteExtremes(ctx context.Context, g *voxel.Grid) (low, high float32, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	if err := finite(g); err != nil {
		return 0, 0, fmt.Errorf("%w: leave normalise out, or send the image again from its source", err)
	}
	low, high = g.Data[0], g.Data[0]
	for _, x := range g.Data {
		low, high = min(low, x), max(high, x)
	}
	return low, high, nil
}

// figure is a number for a note.
func figure(x float64) string { return strconv.FormatFloat(x+0, 'g', 6, 64) }

// thousands is a number with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
