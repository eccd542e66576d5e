package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/radnode/radnode/dimse/dicom"
	"github.com/radnode/radnode/features"
	"github.com/radnode/radnode/features/voxel"
	"github.com/radnode/radnode/pipeline/imaging"
	"github.com/radnode/radnode/pipeline/pages"
	"github.com/radnode/radnode/pipeline/panics"
	"github.com/radnode/radnode/pipeline/refusal"
	"github.com/radnode/radnode/pipeline/roi"
)

// Measured is what one contour object says of one image series.
type Measured struct {
	Volume  *imaging.Volume // without its values, which may differ from region to region, see MeasuredRegion.Image; nil without Regions
	Source  *dicom.File     // the RTSTRUCT or the segmentation
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
	Region      roi.Region
	Mask        *voxel.Mask // on the part of the images' grid that holds the region; see On
	Profile     features.Profile
	Image       *Intensities // that were measured
	Result      features.Result
	Diagnostics []features.Value // where they were asked for
	Notes       []string
	Look        *Look  // where it was asked for
	Past        []Past // what earlier reports say, for the pages
}

// Intensities say what the values of a volume are.
type Intensities struct {
	Unit  string   // as [imaging.Volume.Unit]
	Notes []string // on the images and on what was done with them before anything else
}

// On is the mask on the whole grid of the images.
func (r MeasuredRegion) On(g voxel.Geometry) *voxel.Mask {
	return r.Mask.On(g, g.Part(r.Mask.Geometry).Min)
}

// A SkippedRegion is an ROI without values, and why.
type SkippedRegion struct {
	Region roi.Region
	Reason *refusal.Refusal
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

// A Request says what is measured on what.
type Request struct {
	Contours    *dicom.File   // RT structure set or segmentation
	Images      []*dicom.File // of one series
	Choose      Chooser       // which regions, and by which profile
	Elsewhere   bool          // the regions were drawn on another series, whose frame of reference these images share
	Diagnostics bool          // also the values of the steps before the features
	Documents   []Document    // that will be written of it: pages show pictures, and take room

	admit func(take func() error) error // waits by take for memory; nil: that is all
}

// Measure computes the features of the regions that are wanted, each by its profile. A region that cannot be measured is
// skipped with its reason; where that is all of them the error is [ErrNothingMeasured]. The result does not depend on the
// order of the images or on the number of processors.
//
// It has [DefaultMemory] for itself; computations that run at the same time share a [Memory].
func Measure(ctx context.Context, q Request) (*Measured, error) {
	return NewMemory(0).Measure(ctx, q)
}

// Measure is [Measure] within this memory. What it will take is known from headers and contours, before a pixel is read: the
// error is a *[refusal.Refusal] where the volume alone is too large, and a region that is too large is skipped. It waits until
// there is room. The caller calls [Measured.Release].
func (mem *Memory) Measure(ctx context.Context, q Request) (*Measured, error) {
	headers := make([]*dicom.DataSet, len(q.Images))
	for i, f := range q.Images {
		headers[i] = f.DataSet
	}
	points, err := mem.fits(q.Contours)
	if err != nil {
		return nil, err
	}
	regions, err := roi.Regions(q.Contours)
	if err != nil {
		return nil, err
	}
	named := namedImages(regions)
	layout, err := imaging.Check(headers, imaging.Options{Named: named})
	if err != nil {
		return nil, err
	}
	refs, err := roi.References(q.Contours.DataSet)
	if err != nil {
		return nil, err
	}
	plan, err := newPlan(layout, headers, regions, refs, q, points, mem.limit)
	if err != nil {
		return nil, err
	}
	plan.named = named
	m := &Measured{Source: q.Contours}
	take := func() (err error) {
		m.grant, err = mem.take(ctx, plan.kept, plan.work)
		return err
	}
	if q.admit == nil {
		err = take()
	} else {
		err = q.admit(take)
	}
	if err != nil {
		m.Release()
		return nil, err
	}
	if err := m.measure(ctx, q, plan); err != nil {
		m.Release()
		if errors.Is(err, ErrNothingMeasured) {
			return m, err
		}
		return nil, err
	}
	return m, nil
}

// namedImages are the images that the contours name, here or not: images that were converted are found by their former UIDs.
func namedImages(regions []roi.Region) (list []string) {
	seen := make(map[string]bool)
	for _, r := range regions {
		for _, uid := range r.Images {
			if !seen[uid] {
				list = append(list, uid)
			}
			seen[uid] = true
		}
	}
	return list
}

// measure is what follows once there is memory for it.
func (m *Measured) measure(ctx context.Context, q Request, plan *plan) error {
	var results []MeasuredRegion
	for _, v := range plan.views {
		if m.Volume != nil {
			m.Volume.Grid.Data = nil // the next view is made from the images anew: there is memory for one
		}
		if err := m.view(ctx, q, plan, v); err != nil {
			return err
		}
	}
	for i := range plan.regions {
		if r := plan.reasons[i]; r != nil {
			m.Skipped = append(m.Skipped, SkippedRegion{Region: plan.regions[i], Reason: r})
		} else {
			results = append(results, plan.results[i])
		}
	}
	if m.Regions = results; len(results) == 0 {
		return ErrNothingMeasured
	}
	m.Volume.Grid.Data = nil
	return nil
}

// view measures the regions that want the same intensities.
func (m *Measured) view(ctx context.Context, q Request, plan *plan, v *view) error {
	start := time.Now()
	volume, err := imaging.Assemble(ctx, q.Images, imaging.Options{SUV: imaging.SUVKind(v.suv), Named: plan.named})
	if err != nil {
		return err
	}
	m.Volume = volume
	m.Took.Assemble += time.Since(start)
	is := &Intensities{Unit: volume.Unit, Notes: volume.Notes}
	if volume.SUV != nil {
		is.Notes = slices.Concat(volume.SUV.Notes, volume.Notes)
	}
	if v.normalise.Used() {
		note, err := v.normaliseBy(ctx, volume.Grid, plan.all)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			for _, i := range v.order {
				plan.reasons[i] = refusal.New(refusal.ImageNormalise, "", "%v", err)
			}
			return nil
		}
		is.Unit, is.Notes = "1", append(slices.Clone(is.Notes), note)
	}

	rasterised, extracted := make([]time.Duration, len(plan.regions)), make([]time.Duration, len(plan.regions))
	// Each region fills its own place, so the order of the results is that of the contours whoever finishes first.
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(imaging.Processors())
	for _, i := range v.order {
		g.Go(func() (err error) {
			defer panics.Catch(&err)
			defer v.batch.Done(i)
			done, err := m.grant.use(ctx, plan.need[i])
			if err != nil {
				return err
			}
			defer done()
			region, profile := plan.regions[i], plan.profiles[i]
			start := time.Now()
			mask, notes, err := roi.Rasterise(ctx, region, volume.Grid.Geometry, profile.Voxels)
			rasterised[i] = time.Since(start)
			if err == nil {
				start = time.Now()
				if q.Elsewhere {
					notes = append([]string{"drawn on another series and measured on this one, which shares its frame of reference"}, notes...)
				}
				r := MeasuredRegion{Region: region, Mask: tight(mask, volume.Grid.Geometry), Profile: profile, Image: is, Notes: notes}
				r.Result, err = v.batch.Extract(ctx, i, volume.Grid, r.Mask)
				if err == nil && q.Diagnostics {
					r.Diagnostics, err = features.Diagnostics(ctx, volume.Grid, r.Mask, profile)
				}
				if err == nil && looks(q.Documents) {
					unit := plainUnit(is.Unit)
					r.Look = &Look{Views: pages.Views(volume.Grid, r.Mask, volume.Modality, unit), Histogram: pages.Count(volume.Grid, r.Mask)}
					if r.Look.Histogram != nil {
						r.Look.Histogram.Unit = unit
					}
				}
				extracted[i] = time.Since(start)
				plan.results[i] = r
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var disk syscall.Errno
			if errors.As(err, &disk) {
				return err // not the input's fault: it may work at the next try
			}
			if err != nil {
				plan.reasons[i] = asRefusal(err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, i := range v.order {
		m.Took.Rasterise += rasterised[i]
		m.Took.Features += extracted[i]
	}
	return nil
}

// tight is a mask on the smallest part of the grid g, of which it lies on a part.
func tight(m *voxel.Mask, g voxel.Geometry) *voxel.Mask {
	b := m.Bounds()
	first := g.Part(m.Geometry).Min
	m = m.Crop(b)
	m.Geometry = g.Crop(b.Add(first)) // the bits that it has when cut out of the whole
	return m
}

// asRefusal finds the reason in the list for what kept a region or a study from being measured.
func asRefusal(err error) *refusal.Refusal {
	var r *refusal.Refusal
	var malformed *dicom.Error
	switch {
	case errors.As(err, &r):
		return r
	case errors.As(err, &malformed):
		return &refusal.Refusal{Code: refusal.ObjectMalformed, Text: err.Error()}
	case errors.Is(err, features.ErrEmptyROI):
		return &refusal.Refusal{Code: refusal.ContoursEmpty, Text: err.Error()}
	}
	return &refusal.Refusal{Code: refusal.MeasureFailed, Text: err.Error()}
}

// A view is the images as some of the regions want them.
type view struct {
	suv       string
	normalise features.Normalise
	voxels    voxel.Rule // of the region that normalisation refers to
	batch     *features.Batch
	order     []int // of the regions that are measured: the largest first, so that the last ones are short
}

// reference is the region that normalisation refers to, nil where it is the whole image.
func (v *view) reference(all []roi.Region) (*roi.Region, error) {
	if v.normalise.Region == "" {
		return nil, nil
	}
	re, err := regexp.Compile(v.normalise.Region)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if re.MatchString(r.Name) {
			return &r, nil
		}
	}
	return nil, fmt.Errorf("no region has a name that matches normalise.region %q", v.normalise.Region)
}

// normaliseBy normalises the image, and says how.
func (v *view) normaliseBy(ctx context.Context, g *voxel.Grid, all []roi.Region) (note string, err error) {
	var mask *voxel.Mask
	r, err := v.reference(all)
	if err != nil {
		return "", err
	}
	if r != nil {
		if mask, _, err = roi.Rasterise(ctx, *r, g.Geometry, v.voxels); err != nil {
			return "", fmt.Errorf("reference region %q: %w", r.Name, err)
		}
	}
	return v.normalise.Apply(ctx, g, mask)
}

// A plan says which regions are measured, and what memory that takes.
type plan struct {
	named    []string     // images that the contours name
	all      []roi.Region // of the contours, measured or not
	regions  []roi.Region
	profiles []features.Profile
	reasons  []*refusal.Refusal // why a region is not measured
	results  []MeasuredRegion
	need     []int64 // bytes that a region works with
	views    []*view // in the order of their first regions
	kept     int64   // bytes until the end: the contours, the volume, the parts that regions share, the masks
	work     int64   // bytes of the region that needs most, or of the report
}

// newPlan foresees a measurement from headers and contours.
func newPlan(layout imaging.Layout, headers []*dicom.DataSet, regions []roi.Region, refs []roi.Reference, q Request, points, limit int64) (*plan, error) {
	g := layout.Geometry
	plane := int64(g.Size[0]) * int64(g.Size[1])
	voxels := plane * int64(g.Size[2])
	p := &plan{all: regions}
	// The volume, and the slices that are being decoded: bytes, samples and what a codec works with.
	p.kept, p.work = points+4*voxels, 24*plane*int64(imaging.Processors())
	if p.kept+p.work > limit {
		return nil, TooLarge(fmt.Sprintf("a volume of %d x %d x %d voxels, with the contours,", g.Size[0], g.Size[1], g.Size[2]), p.kept+p.work, limit, "")
	}
	var asked []features.Region
	report := int64(0)
	here := ofSeries(regions, headers, refs, layout.Series)
	for i, r := range regions {
		r.OtherSeries = q.Elsewhere
		profile, ok, err := q.Choose(headers[0], r)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		add := func(why *refusal.Refusal, b voxel.Box) {
			p.regions, p.profiles, p.reasons = append(p.regions, r), append(p.profiles, profile), append(p.reasons, why)
			asked = append(asked, features.Region{Bounds: b, Profile: profile})
		}
		if why := elsewhere(r, layout, q.Elsewhere, here[i]); why != nil {
			add(why, voxel.Box{})
			continue
		}
		bounds := roi.Bounds(r, g)
		// The mask while the region is measured, its part of it until the report is written, and there a bit a voxel on
		// its slices: in the object, in its bytes, and while those grow.
		mask := int64(bounds.Len())
		own := mask + drawing(r, plane) + features.Estimate(g, bounds, profile)
		frames := 4 * plane * int64(bounds.Size()[2]) / 8
		if looks(q.Documents) { // its slices in three planes
			mask += int64(g.Size[0])*int64(g.Size[1]) + int64(g.Size[0]+g.Size[1])*int64(g.Size[2])
		}
		frames += pageBytes(q.Documents)
		if all := p.kept + mask + max(p.work, own, report+frames); all > limit {
			add(TooLarge("the region, with the images and the regions before it,", all, limit, "raise memory in the configuration, or choose a larger spacing"), voxel.Box{})
			continue
		}
		p.kept, report, p.work = p.kept+mask, report+frames, max(p.work, own, report+frames)
		p.view(layout.Modality, profile).order = append(p.view(layout.Modality, profile).order, len(p.regions))
		add(nil, bounds)
	}
	for _, v := range p.views {
		if r, err := v.reference(regions); err == nil && r != nil {
			p.work = max(p.work, int64(roi.Bounds(*r, g).Len()))
		}
	}
	p.need, p.results = make([]int64, len(p.regions)), make([]MeasuredRegion, len(p.regions))
	for room := limit - p.kept - p.work; ; room = 0 {
		work, shared := p.work, int64(0)
		for _, v := range p.views {
			mine := make([]features.Region, len(asked)) // the others share nothing
			for _, i := range v.order {
				mine[i] = asked[i]
			}
			v.batch = features.NewBatch(g, mine, room)
			for _, i := range v.order {
				p.need[i] = int64(asked[i].Bounds.Len()) + drawing(p.regions[i], plane) + v.batch.Estimate(i)
				work = max(work, p.need[i])
			}
			shared = max(shared, v.batch.Shared())
		}
		if room == 0 || p.kept+shared+work <= limit {
			p.kept, p.work = p.kept+shared, work
			break
		}
	}
	for _, v := range p.views {
		slices.SortStableFunc(v.order, func(a, b int) int { return cmp.Compare(p.need[b], p.need[a]) })
	}
	return p, nil
}

// drawing is what contours take while they become voxels: a slice with its outline and, on an oblique grid, their points once
// more with an index of their edges.
func drawing(r roi.Region, plane int64) int64 {
	b := 9 * plane
	for _, c := range r.Contours {
		b += 24 * int64(len(c))
	}
	return b
}

// view finds or makes the view that a profile wants of images of a modality.
func (p *plan) view(modality string, profile features.Profile) *view {
	want := view{normalise: profile.Normalise}
	if modality == "PT" {
		want.suv = profile.SUV
	}
	if want.normalise.Region != "" {
		want.voxels = profile.Voxels
	}
	for _, v := range p.views {
		if v.suv == want.suv && v.normalise == want.normalise && v.voxels == want.voxels {
			return v
		}
	}
	p.views = append(p.views, &want)
	return &want
}

// ofSeries tells for each region whether the images that its contours name are among these; regions whose contours name none
// follow the others. Where no region names any of these, their UIDs were changed on the way: then the list of the series in the
// structure set decides or, where there is none, all belong here.
func ofSeries(regions []roi.Region, headers []*dicom.DataSet, refs []roi.Reference, series string) []bool {
	here := make(map[string]bool, len(headers))
	for _, h := range headers {
		here[h.String(dicom.SOPInstanceUID)] = true
	}
	in, any := make([]bool, len(regions)), false
	for i, r := range regions {
		in[i] = len(r.Images) == 0 || slices.ContainsFunc(r.Images, func(uid string) bool { return here[uid] })
		any = any || in[i] && len(r.Images) > 0
	}
	if any {
		return in
	}
	for i, r := range regions {
		in[i] = !slices.ContainsFunc(refs, func(ref roi.Reference) bool {
			return ref.SeriesUID != series && slices.ContainsFunc(r.Images, func(uid string) bool { return slices.Contains(ref.Named, uid) })
		})
	}
	return in
}

// elsewhere says why a region does not belong to the volume, nil where it does. A structure set may draw some regions on one
// series and some on another (PS3.3 C.8.8.5).
func elsewhere(r roi.Region, v imaging.Layout, wanted, here bool) *refusal.Refusal {
	if r.FrameOfReference != "" && v.FrameOfReference != "" && r.FrameOfReference != v.FrameOfReference {
		return refusal.New(refusal.ContoursFrame, "", "drawn in another frame of reference: Referenced Frame of Reference UID (3006,0024) is %s, that of the images %s", r.FrameOfReference, v.FrameOfReference)
	}
	if wanted {
		return nil
	}
	if len(r.SeriesUIDs) > 0 && !slices.Contains(r.SeriesUIDs, v.Series) {
		return refusal.New(refusal.ContoursSeries, "", "drawn on another series, %s", strings.Join(r.SeriesUIDs, ", "))
	}
	if !here {
		return refusal.New(refusal.ContoursSeries, "", "drawn on other images than those of series %s", v.Series)
	}
	return nil
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
