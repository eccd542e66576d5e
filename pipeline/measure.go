package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/imaging"
	"github.com/radnode/radnode/pipeline/roi"
)

// Measured is what one contour object says of one image series.
type Measured struct {
	Volume  *imaging.Volume
	Source  *dicom.File // the RTSTRUCT
	Regions []MeasuredRegion
	Skipped []SkippedRegion // regions that could not be measured
	Took    Timing

	grant *grant
}

// Release gives back the memory that was admitted for the volume and the masks, when they are not needed any more.
func (m *Measured) Release() {
	if m.grant != nil {
		m.grant.release()
		m.grant = nil
	}
}

// A MeasuredRegion is one ROI: where it lies, by which profile it was measured, and what came out.
type MeasuredRegion struct {
	Region  roi.Region
	Mask    *voxel.Mask // on the part of the images' grid that holds the region; see On
	Profile features.Profile
	Result  features.Result
	Notes   []string
}

// On is the mask on the whole grid of the images.
func (r MeasuredRegion) On(g voxel.Geometry) *voxel.Mask {
	return r.Mask.On(g, g.Part(r.Mask.Geometry).Min)
}

// A SkippedRegion is an ROI without values, and why.
type SkippedRegion struct {
	Region roi.Region
	Reason string
}

// Timing says where the time of a computation went.
type Timing struct {
	Load      time.Duration `json:"load,omitempty"` // reading headers and contours
	Assemble  time.Duration `json:"assemble"`
	Rasterise time.Duration `json:"rasterise"` // summed over the regions
	Features  time.Duration `json:"features"`  // summed over the regions
	Report    time.Duration `json:"report,omitempty"`
}

// ErrNothingMeasured says that no region of a contour object gave a value; the reasons are in [Measured.Skipped].
var ErrNothingMeasured = errors.New("no region could be measured")

// Measure computes the features of every wanted region that the contours draw on these images (nil wants all), each region
// by the profile that choose returns for it. A region that cannot be measured is skipped with its reason; where that is all
// of them the error is [ErrNothingMeasured]. The result does not depend on the order of the images or on the number of
// processors.
//
// It has [DefaultMemory] for itself; computations that run at the same time share a [Memory].
func Measure(ctx context.Context, contours *dicom.File, images []*dicom.File, wanted func(roi.Region) bool, choose func(modality, roi string) (features.Profile, error)) (*Measured, error) {
	return NewMemory(0).Measure(ctx, contours, images, wanted, choose)
}

// Measure is [Measure] within this memory. What it will take is known from headers and contours, before a pixel is read: the
// error is a *[MemoryRefusal] where the volume alone is too large, and a region that is too large is skipped. It waits until
// there is room. The caller calls [Measured.Release].
func (mem *Memory) Measure(ctx context.Context, contours *dicom.File, images []*dicom.File, wanted func(roi.Region) bool, choose func(modality, roi string) (features.Profile, error)) (*Measured, error) {
	headers := make([]*dicom.DataSet, len(images))
	for i, f := range images {
		headers[i] = f.DataSet
	}
	layout, err := imaging.Check(headers, imaging.Options{})
	if err != nil {
		return nil, err
	}
	regions, err := roi.Regions(contours)
	if err != nil {
		return nil, err
	}
	if wanted != nil {
		regions = slices.DeleteFunc(regions, func(r roi.Region) bool { return !wanted(r) })
	}
	plan, err := newPlan(layout, regions, choose, mem.limit)
	if err != nil {
		return nil, err
	}
	m := &Measured{Source: contours}
	if m.grant, err = mem.take(ctx, plan.kept, plan.work); err != nil {
		return nil, err
	}
	if err := m.measure(ctx, images, plan); err != nil {
		m.Release()
		if errors.Is(err, ErrNothingMeasured) {
			return m, err
		}
		return nil, err
	}
	return m, nil
}

// measure is what follows once there is memory for it.
func (m *Measured) measure(ctx context.Context, images []*dicom.File, plan *plan) error {
	start := time.Now()
	volume, err := imaging.Assemble(ctx, images, imaging.Options{})
	if err != nil {
		return err
	}
	m.Volume = volume
	m.Took.Assemble = time.Since(start)

	regions := plan.regions
	results := make([]MeasuredRegion, len(regions))
	rasterised, extracted := make([]time.Duration, len(regions)), make([]time.Duration, len(regions))
	// Each region fills its own place, so the order of the results is that of the contours whoever finishes first.
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, i := range plan.order {
		g.Go(func() error {
			defer plan.batch.Done(i)
			done, err := m.grant.use(ctx, plan.need[i])
			if err != nil {
				return err
			}
			defer done()
			start := time.Now()
			mask, notes, err := roi.Rasterise(ctx, regions[i], volume.Grid.Geometry, voxel.Rule{})
			rasterised[i] = time.Since(start)
			if err == nil {
				start = time.Now()
				var result features.Result
				result, err = plan.batch.Extract(ctx, i, volume.Grid, mask)
				extracted[i] = time.Since(start)
				results[i] = MeasuredRegion{Region: regions[i], Mask: mask.Crop(mask.Bounds()), Profile: plan.profiles[i], Result: result, Notes: notes}
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				plan.reasons[i] = err.Error()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i := range regions {
		m.Took.Rasterise += rasterised[i]
		m.Took.Features += extracted[i]
		if plan.reasons[i] != "" {
			m.Skipped = append(m.Skipped, SkippedRegion{Region: regions[i], Reason: plan.reasons[i]})
		} else {
			m.Regions = append(m.Regions, results[i])
		}
	}
	if len(m.Regions) == 0 {
		return ErrNothingMeasured
	}
	return nil
}

// A plan says which regions are measured, and what memory that takes.
type plan struct {
	regions  []roi.Region
	profiles []features.Profile
	reasons  []string // why a region is not measured
	batch    *features.Batch
	need     []int64 // bytes that a region works with
	order    []int   // of the regions that are measured: the largest first, so that the last ones are short
	kept     int64   // bytes until the end: the volume, the parts that regions share, the masks
	work     int64   // bytes of the region that needs most, or of the report
}

// newPlan foresees a measurement from headers and contours.
func newPlan(layout imaging.Layout, regions []roi.Region, choose func(modality, roi string) (features.Profile, error), limit int64) (*plan, error) {
	g := layout.Geometry
	plane := int64(g.Size[0]) * int64(g.Size[1])
	voxels := plane * int64(g.Size[2])
	n := len(regions)
	p := &plan{regions: regions, profiles: make([]features.Profile, n), reasons: make([]string, n), need: make([]int64, n)}
	const remedy = "raise memory in the configuration"
	// The volume, and the slices that are being decoded: bytes, samples and what a codec works with.
	p.kept, p.work = 4*voxels, 16*plane*int64(runtime.GOMAXPROCS(0))
	if p.kept+p.work > limit {
		return nil, &MemoryRefusal{fmt.Sprintf("a volume of %d x %d x %d voxels", g.Size[0], g.Size[1], g.Size[2]), p.kept + p.work, limit, remedy}
	}
	asked := make([]features.Region, n)
	report := int64(0)
	for i, r := range regions {
		if p.reasons[i] = elsewhere(r, layout); p.reasons[i] != "" {
			continue
		}
		var err error
		if p.profiles[i], err = choose(layout.Modality, r.Name); err != nil {
			return nil, err
		}
		asked[i] = features.Region{Bounds: roi.Bounds(r, g), Profile: p.profiles[i]}
		// The mask on the whole grid while the region is measured, its part of it until the report is written, and
		// there a bit a voxel on its slices: in the object, in its bytes, and while those grow.
		own := voxels + features.Estimate(g, asked[i].Bounds, p.profiles[i])
		mask := int64(asked[i].Bounds.Len())
		frames := 4 * plane * int64(asked[i].Bounds.Size()[2]) / 8
		if all := p.kept + mask + max(p.work, own, report+frames); all > limit {
			p.reasons[i] = (&MemoryRefusal{"the region, with the images and the regions before it,", all, limit, remedy + ", or choose a larger spacing"}).Error()
			continue
		}
		p.kept, report, p.work = p.kept+mask, report+frames, max(p.work, own, report+frames)
		p.order = append(p.order, i)
	}
	for i := range asked {
		if p.reasons[i] != "" {
			asked[i] = features.Region{} // shares nothing
		}
	}
	for room := limit - p.kept - p.work; ; room = 0 {
		p.batch = features.NewBatch(g, asked, room)
		work := p.work
		for _, i := range p.order {
			p.need[i] = voxels + p.batch.Estimate(i)
			work = max(work, p.need[i])
		}
		if room == 0 || p.kept+p.batch.Shared()+work <= limit {
			p.kept, p.work = p.kept+p.batch.Shared(), work
			break
		}
	}
	slices.SortStableFunc(p.order, func(a, b int) int { return cmp.Compare(p.need[b], p.need[a]) })
	return p, nil
}

// elsewhere says why a region does not belong to the volume, "" where it does. A structure set may draw some regions on one
// series and some on another (PS3.3 C.8.8.5).
func elsewhere(r roi.Region, v imaging.Layout) string {
	if r.FrameOfReference != "" && v.FrameOfReference != "" && r.FrameOfReference != v.FrameOfReference {
		return fmt.Sprintf("drawn in another frame of reference: Referenced Frame of Reference UID (3006,0024) is %s, that of the images %s", r.FrameOfReference, v.FrameOfReference)
	}
	if len(r.SeriesUIDs) > 0 && !slices.Contains(r.SeriesUIDs, v.Series) {
		return fmt.Sprintf("drawn on another series, %s", strings.Join(r.SeriesUIDs, ", "))
	}
	return ""
}

// A Step is one line of a Timing.
type Step struct {
	Name string
	Took time.Duration
}

// Steps lists the steps in their order.
func (t Timing) Steps() []Step {
	return []Step{
		{"read headers and contours", t.Load}, {"images to a volume", t.Assemble}, {"contours to voxels, all regions", t.Rasterise},
		{"features, all regions", t.Features}, {"write report and segmentation", t.Report},
	}
}
